/*
 * Far transfers: JMP, CALL, RET and IRET between segments and privilege levels. SDM vol. 2 (JMP, CALL,
 * RET, IRET) and vol. 3, 5.8. Everything that can fault happens before any register changes.
 */
#include "base/bytes.h"
#include "cpu/x86/interp.h"
#include "cpu/x86/task.h"

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
	cpu->s.gpr[X86_RSP] = x86_merge_sp(cpu, sp);
}

/* --- gates and tasks --- */

struct call_gate {
	uint16_t sel;
	uint64_t offset;
	uint8_t params, size;
};

static struct call_gate read_call_gate(struct x86_cpu *cpu, uint16_t sel, const struct x86_descriptor *d)
{
	struct call_gate g = {
		.sel = (uint16_t)(d->raw >> 16),
		.offset = (d->raw & 0xffff) | (d->raw >> 32 & 0xffff0000),
		.params = d->raw >> 32 & 31,
		.size = d->attr & 8 ? 4 : 2,
	};
	uint64_t high;

	if (cpu->s.efer & X86_EFER_LMA) {
		x86_sys_load(cpu, d->at + 8, &high, 8);
		if (high >> 40 & 31)
			x86_raise(cpu, X86_GP, sel & ~3);
		g.offset |= high << 32;
		g.params = 0;
		g.size = 8;
	} else if (g.size == 2) {
		g.offset &= 0xffff;
	}
	return g;
}

/* The code segment behind a call gate; `cpl` gets the level that it runs at. */
static struct x86_segment gate_target(struct x86_cpu *cpu, const struct call_gate *g, bool call, unsigned *cpl)
{
	uint32_t code = g->sel & ~3u;
	struct x86_descriptor d;
	bool conforming;

	lookup(cpu, g->sel, &d);
	conforming = d.attr & 4;
	if (!is_code(&d) || x86_dpl(&d) > cpu->cpl || (!call && !conforming && x86_dpl(&d) != cpu->cpl) ||
	    (cpu->s.efer & X86_EFER_LMA && (d.attr & (X86_SEG_L | X86_SEG_DB)) != X86_SEG_L))
		x86_raise(cpu, X86_GP, code);
	if (!(d.attr & X86_SEG_P))
		x86_raise(cpu, X86_NP, code);
	*cpl = conforming ? cpu->cpl : x86_dpl(&d);
	check_offset(cpu, &d, g->offset);
	x86_mark_accessed(cpu, &d);
	d.attr |= 1;
	return x86_descriptor_segment(&d, (uint16_t)(code | *cpl));
}

/* CS:RIP on the current stack, both or neither. */
static void push_return(struct x86_cpu *cpu, uint16_t sel, uint64_t next_rip, unsigned size)
{
	uint64_t sp = cpu->s.gpr[X86_RSP];

	/* If neither page can be written, CS's is the one that faults. */
	x86_probe_write(cpu, X86_SS, (sp - size) & cpu->sp_mask, size);
	x86_probe_write(cpu, X86_SS, (sp - 2 * size) & cpu->sp_mask, size);
	x86_push(cpu, sel, size);
	x86_push(cpu, next_rip, size);
}

/*
 * A call at the same level. The return address already goes to the stack as the callee sees it: flat and 64 bits wide
 * for 64-bit code, SS with its base, limit and width for other code. The manuals do not say so, AMD's processors do it.
 */
static void call_same_level(struct x86_cpu *cpu, const struct x86_segment *cs, uint64_t next_rip, unsigned size)
{
	const struct x86_segment caller = cpu->s.seg[X86_CS];
	sigjmp_buf *outer = cpu->unwind, here;
	int thrown;

	cpu->unwind = &here;
	thrown = sigsetjmp(here, 0);
	if (!thrown) {
		cpu->s.seg[X86_CS] = *cs;
		x86_update_mode(cpu);
		push_return(cpu, caller.sel, next_rip, size);
	}
	cpu->unwind = outer;
	if (!thrown)
		return;
	cpu->s.seg[X86_CS] = caller;
	x86_update_mode(cpu);
	siglongjmp(*outer, thrown);
}

/* A call to an inner level in a legacy mode: the parameters are copied to the new stack. */
static void call_inner(struct x86_cpu *cpu, const struct call_gate *g, const struct x86_segment *cs, uint64_t next_rip)
{
	uint64_t sp, mask;
	struct x86_segment ss = x86_inner_stack(cpu, cs->sel & 3, 0, &sp);
	uint32_t values[4 + 31];
	struct x86_frame f = { values, 0, g->size, ss.sel & ~3u };

	values[f.count++] = cpu->s.seg[X86_SS].sel;
	values[f.count++] = (uint32_t)cpu->s.gpr[X86_RSP];
	for (unsigned n = g->params; n-- > 0;)
		values[f.count++] = (uint32_t)peek(cpu, n, g->size);
	values[f.count++] = cpu->s.seg[X86_CS].sel;
	values[f.count++] = (uint32_t)next_rip;
	x86_push_frame(cpu, &ss, sp, &f);
	mask = ss.attr & X86_SEG_DB ? 0xffffffff : 0xffff;
	cpu->s.seg[X86_SS] = ss;
	cpu->s.gpr[X86_RSP] = (sp & ~mask) | ((sp - f.count * f.size) & mask);
}

static void call_inner64(struct x86_cpu *cpu, const struct x86_segment *cs, uint64_t next_rip)
{
	unsigned cpl = cs->sel & 3;
	uint64_t sp = x86_inner_rsp(cpu, 4 + 8 * cpl, 0);
	uint64_t frame[4] = { next_rip, cpu->s.seg[X86_CS].sel, cpu->s.gpr[X86_RSP], cpu->s.seg[X86_SS].sel };

	if (!x86_canonical(sp - 1) || !x86_canonical(sp - sizeof(frame)))
		x86_raise(cpu, X86_SS_FAULT, 0);
	x86_sys_store(cpu, sp - sizeof(frame), frame, sizeof(frame));
	cpu->s.seg[X86_SS] = (struct x86_segment){
		.sel = (uint16_t)cpl,
		.unusable = true,
		.attr = (uint16_t)(X86_SEG_P | X86_SEG_S | X86_SEG_DB | 3 | cpl << X86_SEG_DPL_SHIFT),
	};
	cpu->s.gpr[X86_RSP] = sp - sizeof(frame);
}

static void through_call_gate(struct x86_cpu *cpu, const struct call_gate *g, bool call, uint64_t next_rip)
{
	unsigned cpl;
	struct x86_segment cs = gate_target(cpu, g, call, &cpl);

	if (call && cpl != cpu->cpl && g->size == 8)
		call_inner64(cpu, &cs, next_rip);
	else if (call && cpl != cpu->cpl)
		call_inner(cpu, g, &cs, next_rip);
	else if (call)
		call_same_level(cpu, &cs, next_rip, g->size);
	cpu->s.seg[X86_CS] = cs;
	cpu->s.gpr[X86_RIP] = g->offset;
	x86_update_mode(cpu);
}

/* `sel` names a system descriptor: a call gate, a task gate or a TSS. */
static void through_system(struct x86_cpu *cpu, uint16_t sel, const struct x86_descriptor *d, bool call,
			   uint64_t next_rip)
{
	struct x86_task t = { .kind = call ? X86_TASK_CALL : X86_TASK_JUMP, .next_rip = next_rip };
	unsigned type = d->attr & X86_SEG_TYPE;
	struct call_gate g;

	if (x86_dpl(d) < cpu->cpl || x86_dpl(d) < (sel & 3u) || (cpu->s.efer & X86_EFER_LMA && type != X86_SYS_CALL32))
		x86_raise(cpu, X86_GP, sel & ~3);
	switch (type) {
	case X86_SYS_TSS16:
	case X86_SYS_TSS32:
		x86_read_task(cpu, sel, X86_GP, &t);
		x86_task_switch(cpu, &t);
		return;
	case X86_SYS_TASK:
		if (!(d->attr & X86_SEG_P))
			x86_raise(cpu, X86_NP, sel & ~3);
		x86_read_task(cpu, (uint16_t)(d->raw >> 16), X86_GP, &t);
		x86_task_switch(cpu, &t);
		return;
	case X86_SYS_CALL16:
	case X86_SYS_CALL32:
		if (!(d->attr & X86_SEG_P))
			x86_raise(cpu, X86_NP, sel & ~3);
		g = read_call_gate(cpu, sel, d);
		through_call_gate(cpu, &g, call, next_rip);
		return;
	default:
		x86_raise(cpu, X86_GP, sel & ~3);
	}
}

void x86_far_jmp(struct x86_cpu *cpu, uint16_t sel, uint64_t off, uint64_t next_rip)
{
	struct x86_descriptor d;

	if (!cpu->protected_mode) {
		real_jump(cpu, sel, off);
		return;
	}
	lookup(cpu, sel, &d);
	if (!(d.attr & X86_SEG_S)) {
		through_system(cpu, sel, &d, false, next_rip);
		return;
	}
	cpu->s.seg[X86_CS] = same_level(cpu, sel, &d, off);
	cpu->s.gpr[X86_RIP] = off;
	x86_update_mode(cpu);
}

void x86_far_call(struct x86_cpu *cpu, uint16_t sel, uint64_t off, unsigned opsize, uint64_t next_rip)
{
	struct x86_segment cs;
	struct x86_descriptor d;

	if (!cpu->protected_mode) {
		if (off > cpu->s.seg[X86_CS].limit)
			x86_gp0(cpu);
		push_return(cpu, cpu->s.seg[X86_CS].sel, next_rip, opsize);
		real_jump(cpu, sel, off);
		return;
	}
	lookup(cpu, sel, &d);
	if (!(d.attr & X86_SEG_S)) {
		through_system(cpu, sel, &d, true, next_rip);
		return;
	}
	cs = same_level(cpu, sel, &d, off);
	call_same_level(cpu, &cs, next_rip, opsize);
	cpu->s.gpr[X86_RIP] = off;
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
		cpu->s.seg[X86_CS] = cs;
		cpu->s.gpr[X86_RIP] = off;
		x86_update_mode(cpu);
		/* As wide as the stack is now. */
		move_sp(cpu, sp + 2 * opsize + pop_bytes);
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
	if (ip > 0xffff)
		x86_gp0(cpu);
	x86_set_eflags(cpu, flags, IRET_FLAGS | X86_IF | X86_IOPL | X86_VM | X86_VIF | X86_VIP);
	x86_update_mode(cpu);
	for (unsigned n = 0; n < 4; n++)
		x86_load_seg(cpu, order[n], data[n]);
	x86_load_seg(cpu, X86_CS, cs);
	x86_load_seg(cpu, X86_SS, ss);
	cpu->s.gpr[X86_RSP] = sp;
	cpu->s.gpr[X86_RIP] = ip;
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

	bool virtual = opsize == 2 && x86_vme(cpu);

	if (virtual)
		x86_vme_check_flags(cpu, (uint16_t)flags);
	else if (cpu->v86 && (cpu->s.rflags >> X86_IOPL_SHIFT & 3) < 3)
		x86_gp0(cpu);
	real_jump(cpu, sel, off);
	move_sp(cpu, sp + 3 * opsize);
	if (virtual)
		x86_vme_set_flags(cpu, (uint16_t)flags);
	else
		x86_set_eflags(cpu, flags, opsize == 2 ? mask & 0xffff : mask);
}

/* With NT set: back to the task that the current one's TSS names. Long mode has no tasks. */
static void iret_task(struct x86_cpu *cpu, uint64_t next_rip)
{
	struct x86_task t = { .kind = X86_TASK_IRET, .next_rip = next_rip };
	uint16_t link;

	if (cpu->s.efer & X86_EFER_LMA)
		x86_gp0(cpu);
	x86_sys_load(cpu, cpu->s.seg[X86_TR].base, &link, 2);
	x86_read_task(cpu, link, X86_TS, &t);
	x86_task_switch(cpu, &t);
}

void x86_iret(struct x86_cpu *cpu, unsigned opsize, uint64_t next_rip)
{
	/* Even if it faults. SDM vol. 3, 6.7.1. */
	cpu->s.nmi_blocked = false;
	cpu->attention |= cpu->s.nmi_pending;
	if (!cpu->protected_mode)
		iret_real(cpu, opsize);
	else if (cpu->s.rflags & X86_NT)
		iret_task(cpu, next_rip);
	else
		iret_protected(cpu, opsize);
}
