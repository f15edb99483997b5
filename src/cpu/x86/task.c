/* See task.h. */
#include "cpu/x86/task.h"

#include "base/bytes.h"
#include "cpu/x86/interp.h"

/* --- stacks --- */

struct x86_segment x86_inner_stack(struct x86_cpu *cpu, unsigned cpl, uint32_t ext, uint64_t *sp)
{
	const struct x86_segment *tr = &cpu->s.seg[X86_TR];
	bool wide = tr->attr & 8;
	unsigned slot = wide ? 4 + 8 * cpl : 2 + 4 * cpl;
	uint8_t raw[6] = { 0 };
	struct x86_descriptor desc;
	uint16_t sel;
	uint32_t code;

	if (slot + (wide ? 5 : 3) > tr->limit)
		x86_raise(cpu, X86_TS, (tr->sel & ~3u) | ext);
	x86_sys_load(cpu, tr->base + slot, raw, wide ? 6 : 4);
	*sp = wide ? ld_le32(raw) : ld_le16(raw);
	sel = ld_le16(raw + (wide ? 4 : 2));
	code = (sel & ~3u) | ext;
	if (!(sel & ~3))
		x86_raise(cpu, X86_TS, ext);
	if (!x86_read_descriptor(cpu, sel, &desc) || (sel & 3u) != cpl || x86_dpl(&desc) != cpl ||
	    (desc.attr & (X86_SEG_S | 8 | 2)) != (X86_SEG_S | 2))
		x86_raise(cpu, X86_TS, code);
	if (!(desc.attr & X86_SEG_P))
		x86_raise(cpu, X86_SS_FAULT, code);
	x86_mark_accessed(cpu, &desc);
	desc.attr |= 1;
	return x86_descriptor_segment(&desc, sel);
}

uint64_t x86_inner_rsp(struct x86_cpu *cpu, unsigned offset, uint32_t ext)
{
	const struct x86_segment *tr = &cpu->s.seg[X86_TR];
	uint64_t sp;

	if (offset + 7 > tr->limit)
		x86_raise(cpu, X86_TS, (tr->sel & ~3u) | ext);
	x86_sys_load(cpu, tr->base + offset, &sp, 8);
	return sp;
}

void x86_push_frame(struct x86_cpu *cpu, const struct x86_segment *ss, uint64_t sp, const struct x86_frame *f)
{
	uint64_t mask = ss->attr & X86_SEG_DB ? 0xffffffff : 0xffff;

	for (unsigned n = 1; n <= f->count; n++) {
		uint64_t at = (sp - n * f->size) & mask;

		if (!x86_within_limit(ss, at, at + f->size - 1))
			x86_raise(cpu, X86_SS_FAULT, f->error);
	}
	for (unsigned n = 1; n <= f->count; n++)
		x86_sys_store(cpu, (ss->base + ((sp - n * f->size) & mask)) & 0xffffffff, &f->values[n - 1], f->size);
}

/* --- the two layouts of a TSS --- */

static const struct layout {
	uint16_t limit;
	uint8_t size;			  /* of a general register */
	uint8_t cr3, eip, gpr, segs, ldt; /* offsets; gpr: EAX to EDI, segs: ES CS SS DS (FS GS) */
	uint8_t seg_count, seg_step;
} layouts[2] = {
	{ 0x2b, 2, 0, 0x0e, 0x12, 0x22, 0x2a, 4, 2 },
	{ 0x67, 4, 0x1c, 0x20, 0x28, 0x48, 0x60, 6, 4 },
};
#define TSS32_TRAP 0x64

static const struct layout *layout_of(uint16_t attr)
{
	return &layouts[attr >> 3 & 1];
}

/* What a TSS holds of a task. */
struct context {
	uint32_t eip, eflags, gpr[8], cr3;
	uint16_t segs[6], ldt;
	bool trap;
};

static uint32_t get(const uint8_t *tss, unsigned at, unsigned size)
{
	return size == 2 ? ld_le16(tss + at) : ld_le32(tss + at);
}

static void put(uint8_t *tss, unsigned at, unsigned size, uint32_t v)
{
	if (size == 2)
		st_le16(tss + at, (uint16_t)v);
	else
		st_le32(tss + at, v);
}

static void copy_tss(struct x86_cpu *cpu, uint64_t base, uint8_t *tss, unsigned from, unsigned to, bool write)
{
	for (unsigned at = from; at < to; at += 4) {
		unsigned n = to - at < 4 ? to - at : 4;

		if (write)
			x86_sys_store(cpu, (base + at) & 0xffffffff, tss + at, n);
		else
			x86_sys_load(cpu, (base + at) & 0xffffffff, tss + at, n);
	}
}

static void read_context(struct x86_cpu *cpu, const struct layout *l, uint64_t base, struct context *c)
{
	uint8_t tss[0x68] = { 0 };

	copy_tss(cpu, base, tss, 0, l->limit + 1u, false);
	c->eip = get(tss, l->eip, l->size);
	c->eflags = get(tss, l->eip + l->size, l->size);
	for (unsigned n = 0; n < 8; n++)
		c->gpr[n] = get(tss, l->gpr + n * l->size, l->size);
	for (unsigned n = 0; n < 6; n++)
		c->segs[n] = n < l->seg_count ? ld_le16(tss + l->segs + n * l->seg_step) : 0;
	c->ldt = ld_le16(tss + l->ldt);
	c->cr3 = l->cr3 ? ld_le32(tss + l->cr3) : 0;
	c->trap = l->size == 4 && tss[TSS32_TRAP] & 1;
}

/* The old task's registers; its static fields stay as they are. */
static void write_context(struct x86_cpu *cpu, const struct layout *l, uint32_t eip, uint32_t eflags)
{
	uint64_t base = cpu->s.seg[X86_TR].base;
	uint8_t tss[0x68] = { 0 };

	put(tss, l->eip, l->size, eip);
	put(tss, l->eip + l->size, l->size, eflags);
	for (unsigned n = 0; n < 8; n++)
		put(tss, l->gpr + n * l->size, l->size, (uint32_t)cpu->s.gpr[n]);
	copy_tss(cpu, base, tss, l->eip, l->gpr + 8u * l->size, true);
	for (unsigned n = 0; n < l->seg_count; n++)
		x86_sys_store(cpu, (base + l->segs + n * l->seg_step) & 0xffffffff, &cpu->s.seg[n].sel, 2);
}

/* --- switching --- */

static void set_busy(struct x86_cpu *cpu, uint64_t descriptor_at, bool busy)
{
	uint8_t type;

	x86_sys_load(cpu, descriptor_at + 5, &type, 1);
	type = busy ? type | 2 : type & ~2;
	x86_sys_store(cpu, descriptor_at + 5, &type, 1);
}

void x86_read_task(struct x86_cpu *cpu, uint16_t sel, uint8_t vector, struct x86_task *t)
{
	unsigned want = t->kind == X86_TASK_IRET ? X86_SYS_TSS32_BUSY : X86_SYS_TSS32;
	uint32_t code = (sel & ~3u) | t->ext;

	t->sel = sel;
	if (sel & 4 || !(sel & ~3) || !x86_read_descriptor(cpu, sel, &t->desc) ||
	    (t->desc.attr & (X86_SEG_S | 7)) != (want & 7))
		x86_raise(cpu, vector, code);
	if (!(t->desc.attr & X86_SEG_P))
		x86_raise(cpu, X86_NP, code);
}

/* The new task's code segment. Its RPL is the privilege level. */
static void load_code(struct x86_cpu *cpu, uint16_t sel, uint32_t ext)
{
	uint32_t code = (sel & ~3u) | ext;
	struct x86_descriptor d;
	unsigned rpl = sel & 3;

	if (!(sel & ~3))
		x86_raise(cpu, X86_TS, ext);
	if (!x86_read_descriptor(cpu, sel, &d) || (d.attr & (X86_SEG_S | 8)) != (X86_SEG_S | 8) ||
	    (d.attr & 4 ? x86_dpl(&d) > rpl : x86_dpl(&d) != rpl))
		x86_raise(cpu, X86_TS, code);
	if (!(d.attr & X86_SEG_P))
		x86_raise(cpu, X86_NP, code);
	x86_mark_accessed(cpu, &d);
	d.attr |= 1;
	cpu->s.seg[X86_CS] = x86_descriptor_segment(&d, sel);
	x86_update_mode(cpu);
}

/* Selectors are there from now on; what they stand for is loaded one by one, each with its checks. */
static void take_selectors(struct x86_cpu *cpu, const struct context *c)
{
	unsigned cpl = c->segs[X86_CS] & 3;

	for (unsigned n = 0; n < 6; n++)
		cpu->s.seg[n] = (struct x86_segment){
			.sel = c->segs[n],
			.unusable = true,
			.attr = (uint16_t)(X86_SEG_P | X86_SEG_S | 3 | cpl << X86_SEG_DPL_SHIFT),
		};
	/* Code of the old task's kind until there is some. */
	cpu->s.seg[X86_CS].attr |= 8;
	cpu->s.seg[X86_CS].limit = 0xffffffff;
	cpu->s.seg[X86_CS].unusable = false;
	cpu->s.seg[X86_LDTR] = (struct x86_segment){ .sel = c->ldt, .unusable = true, .attr = X86_SEG_P | 2 };
	x86_update_mode(cpu);
}

static void take_segments(struct x86_cpu *cpu, const struct context *c, uint32_t ext)
{
	static const uint8_t data[] = { X86_ES, X86_DS, X86_FS, X86_GS };

	x86_load_ldtr(cpu, c->ldt, X86_TS, ext);
	if (cpu->v86) {
		for (unsigned n = 0; n < 6; n++)
			x86_load_seg(cpu, n, c->segs[n]);
		return;
	}
	load_code(cpu, c->segs[X86_CS], ext);
	x86_load_seg_as(cpu, X86_SS, c->segs[X86_SS], X86_TS, ext);
	for (unsigned n = 0; n < 4; n++)
		x86_load_seg_as(cpu, data[n], c->segs[data[n]], X86_TS, ext);
}

static void take_registers(struct x86_cpu *cpu, const struct layout *l, const struct context *c)
{
	/* The upper halves that a 16-bit TSS does not have are undefined; the 80386 set them. */
	for (unsigned n = 0; n < 8; n++)
		cpu->s.gpr[n] = l->size == 2 ? c->gpr[n] | 0xffff0000 : c->gpr[n];
	cpu->s.gpr[X86_RIP] = c->eip;
	x86_set_eflags(cpu, c->eflags,
		       X86_ARITH | X86_TF | X86_IF | X86_DF | X86_IOPL | X86_NT |
			       (l->size == 4 ? X86_RF | X86_VM | X86_AC | X86_VIF | X86_VIP | X86_ID : 0u));
	if (l->size == 2)
		x86_set_eflags(cpu, 0, X86_VM | X86_RF);
}

void x86_task_switch(struct x86_cpu *cpu, const struct x86_task *t)
{
	const struct layout *from = layout_of(cpu->s.seg[X86_TR].attr), *to = layout_of(t->desc.attr);
	struct x86_segment *tr = &cpu->s.seg[X86_TR];
	uint32_t eflags = x86_get_eflags(cpu);
	uint64_t old_at = cpu->s.gdt.base + (tr->sel & ~7u);
	struct context next;

	if (t->desc.limit < to->limit)
		x86_raise(cpu, X86_TS, (t->sel & ~3u) | t->ext);
	if (tr->limit < from->limit)
		x86_raise(cpu, X86_TS, (tr->sel & ~3u) | t->ext);
	read_context(cpu, to, t->desc.base, &next);
	if (t->kind == X86_TASK_IRET)
		eflags &= ~X86_NT;
	write_context(cpu, from, (uint32_t)t->next_rip, eflags);
	if (t->kind == X86_TASK_CALL)
		x86_sys_store(cpu, t->desc.base & 0xffffffff, &tr->sel, 2);
	else
		set_busy(cpu, old_at, false);
	if (t->kind != X86_TASK_IRET)
		set_busy(cpu, t->desc.at, true);
	/* The point of no return. */
	*tr = x86_descriptor_segment(&t->desc, t->sel);
	tr->attr |= 2;
	cpu->s.cr0 |= X86_CR0_TS;
	cpu->s.dr7 &= ~0x55ull; /* local breakpoints are the old task's */
	if (t->kind == X86_TASK_CALL)
		next.eflags |= X86_NT;
	take_registers(cpu, to, &next);
	take_selectors(cpu, &next);
	if (to->size == 4 && cpu->s.cr0 & X86_CR0_PG)
		x86_set_cr3(cpu, next.cr3);
	take_segments(cpu, &next, t->ext);
	if (cpu->s.gpr[X86_RIP] > cpu->s.seg[X86_CS].limit)
		x86_raise(cpu, X86_GP, t->ext);
	if (next.trap) {
		cpu->s.debug_pending |= X86_DR6_BT;
		cpu->attention = true;
	}
}
