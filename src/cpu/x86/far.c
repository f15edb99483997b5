/*
 * Far transfers: JMP, CALL, RET and IRET between segments and privilege levels. SDM vol. 2 (JMP, CALL,
 * RET, IRET) and vol. 3, 5.8. Everything that can fault happens before any register changes.
 */
#include "base/bytes.h"
#include "cpu/x86/interp.h"
#include "cpu/x86/segments.h"

static void real_jump(struct x86_cpu *cpu, uint16_t sel, uint64_t off)
{
	struct x86_segment *cs = &cpu->s.seg[X86_CS];

	if (off > cs->limit)
		x86_gp0(cpu);
	cs->sel = sel;
	cs->base = (uint64_t)sel << 4;
	cpu->s.gpr[X86_RIP] = off;
	x86_update_mode(cpu);
}

static bool is_code(const struct x86_descriptor *d)
{
	return (d->attr & (X86_SEG_S | 8)) == (X86_SEG_S | 8);
}

/* A 64-bit code segment may not have D set. */
static bool bad_long(const struct x86_cpu *cpu, const struct x86_descriptor *d)
{
	return cpu->s.efer & X86_EFER_LMA && (d->attr & X86_SEG_L) && (d->attr & X86_SEG_DB);
}

static bool to_long(const struct x86_cpu *cpu, const struct x86_descriptor *d)
{
	return cpu->s.efer & X86_EFER_LMA && d->attr & X86_SEG_L;
}

static void check_offset(struct x86_cpu *cpu, const struct x86_descriptor *d, uint64_t off)
{
	if (to_long(cpu, d) ? !x86_canonical(off) : off > d->limit)
		x86_gp0(cpu);
}

/* Code segment for a transfer at the same privilege. */
static struct x86_segment same_level(struct x86_cpu *cpu, uint16_t sel, struct x86_descriptor *d, uint64_t off)
{
	unsigned dpl = x86_dpl(d), rpl = sel & 3;

	if (!is_code(d) || bad_long(cpu, d))
		x86_raise(cpu, X86_GP, sel & ~3);
	if (d->attr & 4 ? dpl > cpu->cpl : rpl > cpu->cpl || dpl != cpu->cpl)
		x86_raise(cpu, X86_GP, sel & ~3);
	if (!(d->attr & X86_SEG_P))
		x86_raise(cpu, X86_NP, sel & ~3);
	check_offset(cpu, d, off);
	x86_mark_accessed(cpu, d);
	d->attr |= 1;
	return x86_descriptor_segment(d, (uint16_t)((sel & ~3) | cpu->cpl));
}

static void lookup(struct x86_cpu *cpu, uint16_t sel, struct x86_descriptor *d)
{
	if (!(sel & ~3))
		x86_gp0(cpu);
	if (!x86_read_descriptor(cpu, sel, d))
		x86_raise(cpu, X86_GP, sel & ~3);
}

void x86_far_jmp(struct x86_cpu *cpu, uint16_t sel, uint64_t off, unsigned opsize)
{
	struct x86_descriptor d;

	if (!cpu->protected_mode) {
		real_jump(cpu, sel, off);
		return;
	}
	lookup(cpu, sel, &d);
	cpu->s.seg[X86_CS] = same_level(cpu, sel, &d, off);
	cpu->s.gpr[X86_RIP] = off;
	x86_update_mode(cpu);
}

void x86_far_call(struct x86_cpu *cpu, uint16_t sel, uint64_t off, unsigned opsize, uint64_t next_rip)
{
	struct x86_segment cs;
	struct x86_descriptor d;
	uint64_t sp = cpu->s.gpr[X86_RSP];

	if (cpu->protected_mode) {
		lookup(cpu, sel, &d);
		cs = same_level(cpu, sel, &d, off);
	}
	x86_push(cpu, cpu->s.seg[X86_CS].sel, opsize);
	uint64_t middle = cpu->s.gpr[X86_RSP];
	cpu->s.gpr[X86_RSP] = sp;
	x86_probe_write(cpu, X86_SS, (middle - opsize) & cpu->sp_mask, opsize);
	cpu->s.gpr[X86_RSP] = middle;
	x86_push(cpu, next_rip, opsize);
	if (!cpu->protected_mode) {
		real_jump(cpu, sel, off);
		return;
	}
	cpu->s.seg[X86_CS] = cs;
	cpu->s.gpr[X86_RIP] = off;
	x86_update_mode(cpu);
}

/* Reads the stack without moving it. */
static uint64_t peek(struct x86_cpu *cpu, unsigned index, unsigned size)
{
	uint64_t at = (cpu->s.gpr[X86_RSP] + index * size) & cpu->sp_mask;

	return size == 2   ? x86_ld16(cpu, X86_SS, at)
	       : size == 4 ? x86_ld32(cpu, X86_SS, at)
			   : x86_ld64(cpu, X86_SS, at);
}

static void move_sp(struct x86_cpu *cpu, uint64_t sp)
{
	cpu->s.gpr[X86_RSP] = (cpu->s.gpr[X86_RSP] & ~cpu->sp_mask) | (sp & cpu->sp_mask);
}

/* The code segment that RET or IRET goes back to; its RPL becomes the CPL. */
static struct x86_segment return_segment(struct x86_cpu *cpu, uint16_t sel, struct x86_descriptor *d, uint64_t off)
{
	unsigned rpl = sel & 3, dpl;

	lookup(cpu, sel, d);
	dpl = x86_dpl(d);
	if (!is_code(d) || bad_long(cpu, d) || rpl < cpu->cpl || (d->attr & 4 ? dpl > rpl : dpl != rpl))
		x86_raise(cpu, X86_GP, sel & ~3);
	if (!(d->attr & X86_SEG_P))
		x86_raise(cpu, X86_NP, sel & ~3);
	check_offset(cpu, d, off);
	x86_mark_accessed(cpu, d);
	d->attr |= 1;
	return x86_descriptor_segment(d, sel);
}

/* The stack segment that goes with it. */
static struct x86_segment return_stack(struct x86_cpu *cpu, uint16_t sel, unsigned cpl, bool to64)
{
	struct x86_descriptor d;

	if (!(sel & ~3)) {
		if (!to64 || cpl == 3)
			x86_gp0(cpu);
		return (struct x86_segment){
			.sel = sel,
			.unusable = true,
			.attr = (uint16_t)(X86_SEG_P | X86_SEG_S | X86_SEG_DB | 3 | cpl << X86_SEG_DPL_SHIFT),
		};
	}
	if (!x86_read_descriptor(cpu, sel, &d) || (sel & 3u) != cpl || x86_dpl(&d) != cpl ||
	    (d.attr & (X86_SEG_S | 8 | 2)) != (X86_SEG_S | 2))
		x86_raise(cpu, X86_GP, sel & ~3);
	if (!(d.attr & X86_SEG_P))
		x86_raise(cpu, X86_SS_FAULT, sel & ~3);
	x86_mark_accessed(cpu, &d);
	d.attr |= 1;
	return x86_descriptor_segment(&d, sel);
}

/* Data segments that the new privilege may not use become null. */
static void drop_segments(struct x86_cpu *cpu)
{
	static const uint8_t regs[] = { X86_ES, X86_DS, X86_FS, X86_GS };

	for (unsigned n = 0; n < 4; n++) {
		struct x86_segment *s = &cpu->s.seg[regs[n]];
		bool conforming = (s->attr & (X86_SEG_S | 8 | 4)) == (X86_SEG_S | 8 | 4);

		if (!s->unusable && !conforming && (s->attr >> X86_SEG_DPL_SHIFT & 3) < cpu->cpl) {
			uint64_t base = s->base;

			*s = (struct x86_segment){ .unusable = true, .attr = X86_SEG_P | X86_SEG_S | 3, .base = base };
		}
	}
	x86_update_mode(cpu);
}

void x86_far_ret(struct x86_cpu *cpu, unsigned opsize, unsigned pop_bytes)
{
	uint64_t off = peek(cpu, 0, opsize), sp = cpu->s.gpr[X86_RSP];
	uint16_t sel = (uint16_t)peek(cpu, 1, opsize);
	struct x86_segment cs, ss;
	struct x86_descriptor d;

	if (!cpu->protected_mode) {
		real_jump(cpu, sel, off);
		move_sp(cpu, sp + 2 * opsize + pop_bytes);
		return;
	}
	cs = return_segment(cpu, sel, &d, off);
	if ((sel & 3) == cpu->cpl) {
		move_sp(cpu, sp + 2 * opsize + pop_bytes);
		cpu->s.seg[X86_CS] = cs;
		cpu->s.gpr[X86_RIP] = off;
		x86_update_mode(cpu);
		return;
	}
	cpu->s.gpr[X86_RSP] = sp + pop_bytes;
	uint64_t new_sp = peek(cpu, 2, opsize);
	uint16_t new_ss = (uint16_t)peek(cpu, 3, opsize);
	cpu->s.gpr[X86_RSP] = sp;
	ss = return_stack(cpu, new_ss, sel & 3, to_long(cpu, &d));
	cpu->s.seg[X86_CS] = cs;
	cpu->s.seg[X86_SS] = ss;
	cpu->s.gpr[X86_RIP] = off;
	x86_update_mode(cpu);
	cpu->s.gpr[X86_RSP] = sp;
	move_sp(cpu, new_sp + pop_bytes);
	drop_segments(cpu);
}

/* --- IRET --- */

#define IRET_FLAGS (X86_ARITH | X86_TF | X86_DF | X86_NT | X86_RF | X86_AC | X86_ID)

static uint32_t iret_mask(const struct x86_cpu *cpu, unsigned opsize, unsigned old_cpl, unsigned old_iopl)
{
	uint32_t mask = IRET_FLAGS;

	if (old_cpl == 0)
		mask |= X86_IOPL | X86_VIF | X86_VIP;
	if (old_cpl <= old_iopl)
		mask |= X86_IF;
	return opsize == 2 ? mask & 0xffff : mask;
}

static void iret_to_v86(struct x86_cpu *cpu, uint32_t flags)
{
	static const uint8_t order[] = { X86_ES, X86_DS, X86_FS, X86_GS };
	uint64_t ip = peek(cpu, 0, 4), sp = peek(cpu, 3, 4);
	uint16_t cs = (uint16_t)peek(cpu, 1, 4), ss = (uint16_t)peek(cpu, 4, 4), data[4];

	for (unsigned n = 0; n < 4; n++)
		data[n] = (uint16_t)peek(cpu, 5 + n, 4);
	x86_set_eflags(cpu, flags, IRET_FLAGS | X86_IF | X86_IOPL | X86_VM | X86_VIF | X86_VIP);
	x86_update_mode(cpu);
	for (unsigned n = 0; n < 4; n++)
		x86_load_seg(cpu, order[n], data[n]);
	x86_load_seg(cpu, X86_CS, cs);
	x86_load_seg(cpu, X86_SS, ss);
	cpu->s.gpr[X86_RSP] = sp;
	cpu->s.gpr[X86_RIP] = ip & 0xffff;
	x86_update_mode(cpu);
}

static void iret_protected(struct x86_cpu *cpu, unsigned opsize)
{
	uint64_t off = peek(cpu, 0, opsize), sp = cpu->s.gpr[X86_RSP];
	uint16_t sel = (uint16_t)peek(cpu, 1, opsize);
	uint32_t flags = (uint32_t)peek(cpu, 2, opsize), mask;
	unsigned cpl = sel & 3, old_cpl = cpu->cpl, iopl = cpu->s.rflags >> X86_IOPL_SHIFT & 3;
	struct x86_segment cs, ss = cpu->s.seg[X86_SS];
	struct x86_descriptor d;
	bool from64 = cpu->code_bits == 64, outer;
	uint64_t new_sp = sp + 3 * opsize;

	if (opsize == 4 && flags & X86_VM && cpu->cpl == 0 && !(cpu->s.efer & X86_EFER_LMA)) {
		iret_to_v86(cpu, flags);
		return;
	}
	cs = return_segment(cpu, sel, &d, off);
	outer = from64 || cpl != cpu->cpl; /* 64-bit mode always pops SS:RSP */
	if (outer) {
		new_sp = peek(cpu, 3, opsize);
		ss = return_stack(cpu, (uint16_t)peek(cpu, 4, opsize), cpl, to_long(cpu, &d));
	}
	mask = iret_mask(cpu, opsize, old_cpl, iopl);
	cpu->s.seg[X86_CS] = cs;
	cpu->s.seg[X86_SS] = ss;
	cpu->s.gpr[X86_RIP] = off;
	x86_update_mode(cpu);
	cpu->s.gpr[X86_RSP] = sp;
	move_sp(cpu, new_sp);
	x86_set_eflags(cpu, flags, mask);
	if (cpl != old_cpl)
		drop_segments(cpu);
}

static void iret_real(struct x86_cpu *cpu, unsigned opsize)
{
	uint64_t off = peek(cpu, 0, opsize), sp = cpu->s.gpr[X86_RSP];
	uint16_t sel = (uint16_t)peek(cpu, 1, opsize);
	uint32_t flags = (uint32_t)peek(cpu, 2, opsize), mask = IRET_FLAGS | X86_IF | (cpu->v86 ? 0 : X86_IOPL);

	if (cpu->v86 && (cpu->s.rflags >> X86_IOPL_SHIFT & 3) < 3)
		x86_gp0(cpu);
	real_jump(cpu, sel, off);
	move_sp(cpu, sp + 3 * opsize);
	x86_set_eflags(cpu, flags, opsize == 2 ? mask & 0xffff : mask);
}

void x86_iret(struct x86_cpu *cpu, unsigned opsize)
{
	/* Even if it faults. SDM vol. 3, 6.7.1. */
	cpu->s.nmi_blocked = false;
	if (!cpu->protected_mode) {
		iret_real(cpu, opsize);
	} else {
		/* IRET with NT set is a task switch, which 64-bit mode refuses and so do we (see docs/STATUS.md). */
		if (cpu->s.rflags & X86_NT)
			x86_gp0(cpu);
		iret_protected(cpu, opsize);
	}
	cpu->attention = true;
}
