/*
 * Delivery of interrupts and exceptions through the IVT or IDT. SDM vol. 3, chapter 6.
 *
 * Everything that can fault happens before any register changes.
 */
#include "base/bytes.h"
#include "cpu/x86/interp.h"
#include "cpu/x86/task.h"

#define BENIGN 0xff

enum { GATE_INT16 = 6, GATE_TRAP16 = 7, GATE_INT32 = 14, GATE_TRAP32 = 15 };

struct gate {
	uint64_t offset;
	uint16_t sel;
	uint8_t type, ist;
};

struct delivery {
	struct x86_cpu *cpu;
	uint8_t vector;
	enum x86_event_kind kind;
	bool has_error;
	uint32_t error, flags;
	uint64_t rip;
	uint32_t ext; /* bit 0 of error codes */
};

static void real_mode(struct delivery *d)
{
	struct x86_cpu *cpu = d->cpu;
	uint32_t entry;

	if (d->vector * 4u + 3 > cpu->s.idt.limit)
		x86_raise(cpu, X86_GP, 0);
	x86_sys_load(cpu, cpu->s.idt.base + d->vector * 4u, &entry, 4);
	x86_push(cpu, d->flags, 2);
	x86_push(cpu, cpu->s.seg[X86_CS].sel, 2);
	x86_push(cpu, d->rip, 2);
	cpu->s.seg[X86_CS].sel = entry >> 16;
	cpu->s.seg[X86_CS].base = (uint64_t)(entry >> 16) << 4;
	cpu->s.gpr[X86_RIP] = entry & 0xffff;
	x86_set_eflags(cpu, 0, X86_IF | X86_TF | X86_AC | X86_RF);
	x86_update_mode(cpu);
}

static struct gate read_gate(struct delivery *d)
{
	struct x86_cpu *cpu = d->cpu;
	bool long_mode = cpu->s.efer & X86_EFER_LMA;
	unsigned size = long_mode ? 16 : 8, at = d->vector * size;
	uint32_t code = d->vector * 8u + 2 + d->ext, dpl;
	uint64_t raw[2] = { 0 };
	struct gate g;

	if (at + size - 1 > cpu->s.idt.limit)
		x86_raise(cpu, X86_GP, code);
	x86_sys_load(cpu, cpu->s.idt.base + at, raw, size);
	g.type = raw[0] >> 40 & 31;
	g.sel = (uint16_t)(raw[0] >> 16);
	g.ist = raw[0] >> 32 & 7;
	g.offset = (raw[0] & 0xffff) | (raw[0] >> 32 & 0xffff0000) | raw[1] << 32;
	dpl = raw[0] >> 45 & 3;
	if (g.type != GATE_INT32 && g.type != GATE_TRAP32 &&
	    (long_mode || (g.type != GATE_INT16 && g.type != GATE_TRAP16 && g.type != X86_SYS_TASK)))
		x86_raise(cpu, X86_GP, code);
	if (d->kind == X86_EV_SOFT && dpl < cpu->cpl)
		x86_raise(cpu, X86_GP, code);
	if (!(raw[0] >> 47 & 1))
		x86_raise(cpu, X86_NP, code);
	if (g.type < GATE_INT32)
		g.offset &= 0xffff;
	return g;
}

/* The code segment of the handler, and the privilege it runs at. */
static struct x86_segment handler_segment(struct delivery *d, const struct gate *g, unsigned *cpl)
{
	struct x86_cpu *cpu = d->cpu;
	uint32_t code = (g->sel & ~3u) | d->ext;
	struct x86_descriptor desc;

	if (!(g->sel & ~3))
		x86_raise(cpu, X86_GP, d->ext);
	if (!x86_read_descriptor(cpu, g->sel, &desc))
		x86_raise(cpu, X86_GP, code);
	if ((desc.attr & (X86_SEG_S | 8)) != (X86_SEG_S | 8) || x86_dpl(&desc) > cpu->cpl)
		x86_raise(cpu, X86_GP, code);
	if (cpu->s.efer & X86_EFER_LMA && (desc.attr & (X86_SEG_L | X86_SEG_DB)) != X86_SEG_L)
		x86_raise(cpu, X86_GP, code);
	if (!(desc.attr & X86_SEG_P))
		x86_raise(cpu, X86_NP, code);
	*cpl = desc.attr & 4 ? cpu->cpl : x86_dpl(&desc);
	if (cpu->v86 && *cpl != 0)
		x86_raise(cpu, X86_GP, code);
	x86_mark_accessed(cpu, &desc);
	desc.attr |= 1;
	return x86_descriptor_segment(&desc, (uint16_t)((g->sel & ~3) | *cpl));
}

static uint32_t handler_flags(const struct gate *g)
{
	return X86_TF | X86_NT | X86_RF | X86_VM | (g->type & 1 ? 0 : X86_IF);
}

static void long_mode(struct delivery *d)
{
	struct x86_cpu *cpu = d->cpu;
	struct gate g = read_gate(d);
	unsigned cpl, words = d->has_error ? 6 : 5;
	struct x86_segment cs = handler_segment(d, &g, &cpl);
	uint64_t sp = cpu->s.gpr[X86_RSP], frame[6], at;

	if (g.ist || cpl != cpu->cpl)
		sp = x86_inner_rsp(cpu, g.ist ? 0x24u + 8 * (g.ist - 1u) : 4 + 8 * cpl, d->ext);
	sp &= ~15ull;
	if (!x86_canonical(sp - 1) || !x86_canonical(sp - 8 * words))
		x86_raise(cpu, X86_SS_FAULT, d->ext);
	if (!x86_canonical(g.offset))
		x86_raise(cpu, X86_GP, d->ext);
	at = 0;
	if (d->has_error)
		frame[at++] = d->error;
	frame[at++] = d->rip;
	frame[at++] = cpu->s.seg[X86_CS].sel;
	frame[at++] = d->flags;
	frame[at++] = cpu->s.gpr[X86_RSP];
	frame[at++] = cpu->s.seg[X86_SS].sel;
	/* Two stores of at most 32 bytes; the first reaches furthest down, so both pages are known good. */
	x86_sys_store(cpu, sp - 8 * words, frame, 8 * (words - 2));
	x86_sys_store(cpu, sp - 16, frame + words - 2, 16);
	if (cpl != cpu->cpl)
		cpu->s.seg[X86_SS] = (struct x86_segment){
			.sel = (uint16_t)cpl,
			.unusable = true,
			.attr = (uint16_t)(X86_SEG_P | X86_SEG_S | X86_SEG_DB | 3 | cpl << X86_SEG_DPL_SHIFT),
		};
	cpu->s.seg[X86_CS] = cs;
	cpu->s.gpr[X86_RSP] = sp - 8 * words;
	cpu->s.gpr[X86_RIP] = g.offset;
	x86_set_eflags(cpu, 0, handler_flags(&g));
	x86_update_mode(cpu);
}

/* A task gate: the handler is a task, which finds the error code on its stack. */
static void to_task(struct delivery *d, uint16_t sel)
{
	struct x86_cpu *cpu = d->cpu;
	struct x86_task t = { .kind = X86_TASK_CALL, .next_rip = d->rip, .ext = d->ext };
	bool wide;

	x86_read_task(cpu, sel, X86_GP, &t);
	wide = t.desc.attr & 8;
	if (d->flags & X86_RF)
		cpu->s.rflags |= X86_RF;
	x86_task_switch(cpu, &t);
	if (d->has_error)
		x86_push(cpu, d->error, wide ? 4 : 2);
}

static void through_gate(struct delivery *d, const struct gate *gate)
{
	struct x86_cpu *cpu = d->cpu;
	struct gate g = *gate;
	unsigned cpl, size = g.type >= GATE_INT32 ? 4 : 2, count = 0;
	struct x86_segment cs = handler_segment(d, &g, &cpl), ss = cpu->s.seg[X86_SS];
	uint64_t sp = cpu->s.gpr[X86_RSP], mask;
	uint32_t frame[10];
	static const uint8_t v86_segments[] = { X86_GS, X86_FS, X86_DS, X86_ES };

	if (g.offset > cs.limit)
		x86_raise(cpu, X86_GP, d->ext);
	if (cpl != cpu->cpl) {
		ss = x86_inner_stack(cpu, cpl, d->ext, &sp);
		for (unsigned n = 0; cpu->v86 && n < 4; n++)
			frame[count++] = cpu->s.seg[v86_segments[n]].sel;
		frame[count++] = cpu->s.seg[X86_SS].sel;
		frame[count++] = (uint32_t)cpu->s.gpr[X86_RSP];
	}
	frame[count++] = d->flags;
	frame[count++] = cpu->s.seg[X86_CS].sel;
	frame[count++] = (uint32_t)d->rip;
	if (d->has_error)
		frame[count++] = d->error;
	/* The error code names a stack that has been switched to. */
	x86_push_frame(cpu, &ss, sp,
		       &(struct x86_frame){ frame, count, size, (cpl != cpu->cpl ? ss.sel & ~3u : 0) | d->ext });
	mask = ss.attr & X86_SEG_DB ? 0xffffffff : 0xffff;
	if (cpu->v86)
		for (unsigned n = 0; n < 4; n++)
			cpu->s.seg[v86_segments[n]] =
				(struct x86_segment){ .unusable = true, .attr = X86_SEG_P | X86_SEG_S | 3 };
	cpu->s.seg[X86_SS] = ss;
	cpu->s.seg[X86_CS] = cs;
	cpu->s.gpr[X86_RSP] = (sp & ~mask) | ((sp - count * size) & mask);
	cpu->s.gpr[X86_RIP] = g.offset;
	x86_set_eflags(cpu, 0, handler_flags(&g));
	x86_update_mode(cpu);
}

static void protected_mode(struct delivery *d)
{
	struct gate g = read_gate(d);

	if (g.type == X86_SYS_TASK)
		to_task(d, g.sel);
	else
		through_gate(d, &g);
}

/*
 * RF in the pushed flags, SDM vol. 3, 17.3.1.1: a fault is restarted without hitting its breakpoint again; an INT n or
 * the like has used RF up.
 */
static uint32_t pushed_flags(const struct x86_cpu *cpu, uint8_t vector, enum x86_event_kind kind, uint32_t error)
{
	uint32_t flags = x86_get_eflags(cpu);

	if (kind == X86_EV_FAULT && !(vector == X86_DB && error == X86_DB_INSN))
		return flags | X86_RF;
	return kind == X86_EV_SOFT || kind == X86_EV_ICEBP ? flags & ~X86_RF : flags;
}

void x86_deliver(struct x86_cpu *cpu, uint8_t vector, enum x86_event_kind kind, uint32_t error, uint64_t next_rip)
{
	struct delivery d = {
		.cpu = cpu,
		.vector = vector,
		.kind = kind,
		.has_error = kind == X86_EV_FAULT && x86_has_error(vector),
		.error = error,
		.flags = pushed_flags(cpu, vector, kind, error),
		.rip = next_rip,
		.ext = kind != X86_EV_SOFT,
	};

	/* A breakpoint that MOV SS before it hit is reported together with INT1, and after other software interrupts.
	 */
	if (kind == X86_EV_ICEBP && cpu->s.debug_pending)
		x86_debug_report(cpu, 0);
	cpu->in_delivery = true;
	cpu->delivering_vector = kind == X86_EV_FAULT ? vector : BENIGN;
	if (cpu->s.efer & X86_EFER_LMA)
		long_mode(&d);
	else if (cpu->s.cr0 & X86_CR0_PE)
		protected_mode(&d);
	else
		real_mode(&d);
	cpu->in_delivery = false;
	cpu->s.event.valid = false;
	cpu->stepping = false;
	cpu->attention = true;
}
