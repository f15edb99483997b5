/* Port I/O: IN OUT INS OUTS, and who may use which port. SDM vol. 1, chapter 19. */
#include "cpu/x86/template.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)

void x86_io_check(struct x86_cpu *cpu, uint16_t port, unsigned size)
{
	const struct x86_segment *tr = &cpu->s.seg[X86_TR];
	uint16_t map, bits;

	if (!(cpu->s.cr0 & X86_CR0_PE) || (!cpu->v86 && cpu->cpl <= (cpu->s.rflags >> X86_IOPL_SHIFT & 3)))
		return;
	/* The TSS says where its bitmap is; two bytes are read, so the one after the last must exist. */
	if (!(tr->attr & 8) || tr->limit < 0x67)
		x86_gp0(cpu);
	x86_sys_load(cpu, tr->base + 0x66, &map, 2);
	if (map + port / 8u + 1 > tr->limit)
		x86_gp0(cpu);
	x86_sys_load(cpu, tr->base + map + port / 8u, &bits, 2);
	if (bits >> (port & 7) & ((1u << size) - 1))
		x86_gp0(cpu);
}

static uint32_t port_in(struct x86_cpu *cpu, uint16_t port, unsigned size)
{
	uint32_t v;

	x86_clock(cpu);
	v = cpu->vm->cfg.world.pio_read(cpu->vm->cfg.world.opaque, port, size);
	x86_debug_io_hit(cpu, port, size);
	return v;
}

static void port_out(struct x86_cpu *cpu, uint16_t port, unsigned size, uint32_t v)
{
	x86_clock(cpu);
	cpu->vm->cfg.world.pio_write(cpu->vm->cfg.world.opaque, port, size, v);
	x86_debug_io_hit(cpu, port, size);
}

/* Operand bytes: the even opcodes are the byte forms; 64-bit operand size means 32 here. */
static unsigned io_size(const struct x86_insn *i)
{
	return !(i->op & 1) ? 1 : i->opsize == 2 ? 2 : 4;
}

static uint16_t io_port(const struct x86_cpu *cpu, const struct x86_insn *i)
{
	return i->op & 8 ? x86_get16(cpu, X86_RDX) : (uint16_t)i->imm;
}

HANDLER(in)
{
	unsigned size = io_size(i);
	uint16_t port = io_port(cpu, i);
	uint32_t v;

	x86_io_check(cpu, port, size);
	v = port_in(cpu, port, size);
	if (size == 1)
		x86_set8(cpu, X86_RAX, (uint8_t)v);
	else if (size == 2)
		x86_set16(cpu, X86_RAX, (uint16_t)v);
	else
		x86_set32(cpu, X86_RAX, v);
	return x86_next_end(cpu, i);
}

HANDLER(out)
{
	unsigned size = io_size(i);
	uint16_t port = io_port(cpu, i);

	x86_io_check(cpu, port, size);
	port_out(cpu, port, size, (uint32_t)(cpu->s.gpr[X86_RAX] & size_mask(size)));
	return x86_next_end(cpu, i);
}

/* --- strings --- */

static void move_index(struct x86_cpu *cpu, const struct x86_insn *i, unsigned r, unsigned size)
{
	uint64_t v = cpu->s.gpr[r] + (cpu->s.rflags & X86_DF ? -(uint64_t)size : size);

	if (i->ashift == 48)
		x86_set16(cpu, r, (uint16_t)v);
	else
		cpu->s.gpr[r] = v << i->ashift >> i->ashift;
}

static void ins_one(struct x86_cpu *cpu, const struct x86_insn *i, unsigned size)
{
	uint16_t port = x86_get16(cpu, X86_RDX);
	uint64_t ea = cpu->s.gpr[X86_RDI] << i->ashift >> i->ashift;
	uint32_t v;

	/* The device must not see a read whose result cannot be stored. */
	x86_probe_write(cpu, X86_ES, ea, size);
	v = port_in(cpu, port, size);
	x86_store_bytes(cpu, X86_ES, ea, &v, size);
	move_index(cpu, i, X86_RDI, size);
}

static void outs_one(struct x86_cpu *cpu, const struct x86_insn *i, unsigned size)
{
	uint32_t v = 0;

	x86_load_bytes(cpu, i->seg, cpu->s.gpr[X86_RSI] << i->ashift >> i->ashift, &v, size);
	port_out(cpu, x86_get16(cpu, X86_RDX), size, v);
	move_index(cpu, i, X86_RSI, size);
}

/* With REP one element a time: events are looked at in between. */
static const struct x86_insn *string(struct x86_cpu *cpu, const struct x86_insn *i,
				     void (*one)(struct x86_cpu *, const struct x86_insn *, unsigned))
{
	unsigned size = io_size(i);
	uint64_t left = cpu->s.gpr[X86_RCX] << i->ashift >> i->ashift;

	x86_io_check(cpu, x86_get16(cpu, X86_RDX), size);
	if (!(i->flags & (X86_I_REP | X86_I_REPNE))) {
		one(cpu, i, size);
		return x86_next_end(cpu, i);
	}
	if (!left)
		return x86_next_end(cpu, i);
	one(cpu, i, size);
	left--;
	if (i->ashift == 48)
		x86_set16(cpu, X86_RCX, (uint16_t)left);
	else
		cpu->s.gpr[X86_RCX] = left;
	if (!left)
		return x86_next_end(cpu, i);
	return x86_jumped_early(cpu);
}

HANDLER(ins)
{
	return string(cpu, i, ins_one);
}

HANDLER(outs)
{
	return string(cpu, i, outs_one);
}

static const struct x86_opdef rows[] = {
	{ X86_MAP_1, 0xe4, 2, 0, X86_MOD_NONE, 0, 0, X86_IMM_U8, X86_D_END, X86_ALL(in), {}, "in" },
	{ X86_MAP_1, 0xe6, 2, 0, X86_MOD_NONE, 0, 0, X86_IMM_U8, X86_D_END, X86_ALL(out), {}, "out" },
	{ X86_MAP_1, 0xec, 2, 0, X86_MOD_NONE, 0, 0, 0, X86_D_END, X86_ALL(in), {}, "in" },
	{ X86_MAP_1, 0xee, 2, 0, X86_MOD_NONE, 0, 0, 0, X86_D_END, X86_ALL(out), {}, "out" },
	{ X86_MAP_1, 0x6c, 2, 0, X86_MOD_NONE, 0, 0, 0, X86_D_END, X86_ALL(ins), {}, "ins" },
	{ X86_MAP_1, 0x6e, 2, 0, X86_MOD_NONE, 0, 0, 0, X86_D_END, X86_ALL(outs), {}, "outs" },
};
X86_DEFS(x86_defs_io, rows);
