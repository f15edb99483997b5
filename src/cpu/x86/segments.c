/* Segment registers and what the interpreter derives from the mode. SDM vol. 3, chapters 3 and 5. */
#include "cpu/x86/segments.h"
#include "base/bytes.h"
#include "cpu/x86/interp.h"

/* --- derived state --- */

static bool flat(const struct x86_cpu *cpu, const struct x86_segment *s, bool write)
{
	bool code = s->attr & 8;

	if (s->limit != 0xffffffff)
		return false;
	if (!cpu->protected_mode)
		return true;
	if (s->unusable || (!code && s->attr & 4))
		return false;
	return write ? !code && s->attr & 2 : !code || s->attr & 2;
}

/* What 32-bit code has in systems without segments: then only FS, GS and reads of CS need a look at a segment. */
static bool all_flat(const struct x86_cpu *cpu)
{
	const uint8_t data = 1 << X86_ES | 1 << X86_SS | 1 << X86_DS;
	uint64_t bases = 0;

	for (unsigned n = X86_ES; n <= X86_DS; n++)
		bases |= cpu->seg_base[n];
	return !bases && cpu->code_key & X86_KEY_FLAT && cpu->sp_mask == 0xffffffff &&
	       !(data & ~(cpu->seg_flat_r & cpu->seg_flat_w));
}

static enum x86_fetch no_fp(const struct x86_cpu *cpu)
{
	if (cpu->fpu_block)
		return X86_FETCH_NO_FP;
	return cpu->sse_block ? X86_FETCH_NO_SSE : cpu->avx_block ? X86_FETCH_NO_AVX : 0;
}

void x86_update_fetch(struct x86_cpu *cpu)
{
	bool plain = (cpu->code_bits == 64 || cpu->flat32) && !cpu->s.smm && !cpu->align_check;
	uint64_t view = (uint64_t)((cpu->tlb - cpu->tlbs[0]) / X86_TLB_SIZE);
	uint64_t mode = (plain ? view : X86_FETCH_NOT) | no_fp(cpu) | (cpu->flat32 ? X86_FETCH_CODE32 : 0);

	cpu->fetch_key = (uint64_t)x86_fetches(cpu)->epoch << X86_FETCH_EPOCH | mode << X86_FETCH_SHIFT;
}

static void update_view(struct x86_cpu *cpu)
{
	bool smap = cpu->s.cr4 & X86_CR4_SMAP && !(cpu->s.rflags & X86_AC);

	cpu->tlb = cpu->tlbs[cpu->cpl == 3 ? X86_TLB_USER : smap ? X86_TLB_SUPER : X86_TLB_SUPER_AC];
	cpu->align_check = cpu->cpl == 3 && cpu->s.cr0 & X86_CR0_AM && cpu->s.rflags & X86_AC;
	x86_update_fetch(cpu);
}

static void update_segments(struct x86_cpu *cpu)
{
	const unsigned all = (1u << (X86_GS + 1)) - 1;
	bool wide = cpu->code_bits == 64;

	for (unsigned n = 0; n <= X86_GS; n++)
		cpu->seg_base[n] = wide && n < X86_FS ? 0 : cpu->s.seg[n].base;
	cpu->seg_flat_r = cpu->seg_flat_w = wide ? all : 0;
	for (unsigned n = 0; n <= X86_GS && !wide; n++) {
		cpu->seg_flat_r |= flat(cpu, &cpu->s.seg[n], false) << n;
		cpu->seg_flat_w |= flat(cpu, &cpu->s.seg[n], true) << n;
	}
}

void x86_update_mode(struct x86_cpu *cpu)
{
	const struct x86_segment *cs = &cpu->s.seg[X86_CS], *ss = &cpu->s.seg[X86_SS];
	bool long_mode = cpu->s.efer & X86_EFER_LMA;

	cpu->v86 = cpu->s.rflags & X86_VM;
	cpu->protected_mode = cpu->s.cr0 & X86_CR0_PE && !cpu->v86;
	cpu->cpl = cpu->v86 ? 3 : cpu->protected_mode ? cpu->s.seg[X86_SS].attr >> X86_SEG_DPL_SHIFT & 3 : 0;
	cpu->code_bits = long_mode && cs->attr & X86_SEG_L ? 64 : cs->attr & X86_SEG_DB && !cpu->v86 ? 32 : 16;
	cpu->code_key = (uint64_t)(cpu->code_bits / 32) << X86_KEY_BITS_SHIFT |
			(cpu->protected_mode ? 0 : X86_KEY_REAL) | (cpu->s.smm ? X86_KEY_SMM : 0) |
			(cpu->code_bits == 64 || cs->limit == 0xffffffff ? X86_KEY_FLAT : 0);
	cpu->lin_mask = cpu->code_bits == 64 ? ~0ull : 0xffffffff;
	cpu->sp_mask = cpu->code_bits == 64 ? ~0ull : ss->attr & X86_SEG_DB ? 0xffffffff : 0xffff;
	update_segments(cpu);
	cpu->flat32 = cpu->code_bits == 32 && cpu->protected_mode && all_flat(cpu);
	update_view(cpu);
	x86_fp_update_blocks(cpu);
}

void x86_set_eflags(struct x86_cpu *cpu, uint32_t val, uint32_t mask)
{
	uint32_t fl = (x86_get_eflags(cpu) & ~mask) | (val & mask);
	bool ac = (fl ^ cpu->s.rflags) & X86_AC;

	x86_lazy_set(&cpu->lazy, fl);
	cpu->s.rflags = (fl & ~X86_ARITH) | X86_FLAGS_FIXED;
	if (fl & (X86_TF | X86_RF) || (fl & X86_IF && cpu->intr_waits))
		cpu->attention = true;
	if (ac)
		update_view(cpu);
}

/* --- descriptors --- */

bool x86_read_descriptor(struct x86_cpu *cpu, uint16_t sel, struct x86_descriptor *d)
{
	const struct x86_segment *ldt = &cpu->s.seg[X86_LDTR];
	uint64_t base = sel & 4 ? ldt->base : cpu->s.gdt.base, raw;
	uint32_t limit = sel & 4 ? ldt->limit : cpu->s.gdt.limit;

	if ((sel & 4 && ldt->unusable) || (sel | 7u) > limit)
		return false;
	d->at = base + (sel & ~7u);
	x86_sys_load(cpu, d->at, &raw, 8);
	d->raw = raw;
	d->attr = (raw >> 40) & 0xf0ff;
	d->base = (raw >> 16 & 0xffffff) | (raw >> 32 & 0xff000000);
	d->limit = (raw & 0xffff) | (raw >> 32 & 0xf0000);
	if (d->attr & X86_SEG_G)
		d->limit = d->limit << 12 | 0xfff;
	return true;
}

struct x86_segment x86_descriptor_segment(const struct x86_descriptor *d, uint16_t sel)
{
	return (struct x86_segment){ .base = d->base, .limit = d->limit, .sel = sel, .attr = d->attr };
}

void x86_mark_accessed(struct x86_cpu *cpu, const struct x86_descriptor *d)
{
	uint8_t access = (uint8_t)(d->raw >> 40) | 1;

	if (!(d->attr & 1))
		x86_sys_store(cpu, d->at + 5, &access, 1);
}

/* Real and virtual-8086 mode: the selector is the base. */
static void load_real(struct x86_cpu *cpu, enum x86_seg seg, uint16_t sel)
{
	struct x86_segment *s = &cpu->s.seg[seg];

	s->sel = sel;
	s->base = (uint64_t)sel << 4;
	s->unusable = false;
	if (cpu->v86) {
		s->limit = 0xffff;
		s->attr = X86_SEG_P | X86_SEG_S | 3 << X86_SEG_DPL_SHIFT | 3;
	}
	x86_update_mode(cpu);
}

static void load_null(struct x86_cpu *cpu, enum x86_seg seg, uint16_t sel, uint8_t vector, uint32_t ext)
{
	struct x86_segment *s = &cpu->s.seg[seg];

	/* SS may be null only in 64-bit mode below CPL 3; its DPL then still holds the CPL. */
	if (seg == X86_SS && (cpu->code_bits != 64 || cpu->cpl == 3 || (sel & 3) != cpu->cpl))
		x86_raise(cpu, vector, ext);
	*s = (struct x86_segment){ .sel = sel, .unusable = true, .attr = X86_SEG_P | X86_SEG_S | 3 };
	if (seg == X86_SS)
		s->attr |= (uint16_t)(cpu->cpl << X86_SEG_DPL_SHIFT) | X86_SEG_DB;
	x86_update_mode(cpu);
}

static bool stack_ok(const struct x86_cpu *cpu, uint16_t sel, const struct x86_descriptor *d)
{
	return (d->attr & (X86_SEG_S | 8 | 2)) == (X86_SEG_S | 2) && (sel & 3) == cpu->cpl && x86_dpl(d) == cpu->cpl;
}

static bool data_ok(const struct x86_cpu *cpu, uint16_t sel, const struct x86_descriptor *d)
{
	bool code = d->attr & 8, conforming = code && d->attr & 4;

	return d->attr & X86_SEG_S && (!code || d->attr & 2) &&
	       (conforming || ((sel & 3u) <= x86_dpl(d) && cpu->cpl <= x86_dpl(d)));
}

void x86_load_seg_as(struct x86_cpu *cpu, enum x86_seg seg, uint16_t sel, uint8_t vector, uint32_t ext)
{
	uint32_t code = (sel & ~3u) | ext;
	struct x86_descriptor d;

	if (!(sel & ~3)) {
		load_null(cpu, seg, sel, vector, ext);
		return;
	}
	if (!x86_read_descriptor(cpu, sel, &d) || !(seg == X86_SS ? stack_ok : data_ok)(cpu, sel, &d))
		x86_raise(cpu, vector, code);
	if (!(d.attr & X86_SEG_P))
		x86_raise(cpu, seg == X86_SS ? X86_SS_FAULT : X86_NP, code);
	x86_mark_accessed(cpu, &d);
	d.attr |= 1;
	cpu->s.seg[seg] = x86_descriptor_segment(&d, sel);
	x86_update_mode(cpu);
}

void x86_load_seg(struct x86_cpu *cpu, enum x86_seg seg, uint16_t sel)
{
	if (cpu->protected_mode)
		x86_load_seg_as(cpu, seg, sel, X86_GP, 0);
	else
		load_real(cpu, seg, sel);
}
