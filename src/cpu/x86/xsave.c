/*
 * XSAVE XSAVEOPT XSAVEC XSAVES XRSTOR XRSTORS, XGETBV XSETBV and CPUID leaf 0Dh. SDM vol. 1, chapter 13.
 *
 * A state component is a row of a table. There is an init optimization (a component in its initial configuration is
 * not written by XSAVEOPT, XSAVEC and XSAVES) and no modified optimization, which the architecture leaves to the
 * processor. No component is a supervisor's: IA32_XSS stays 0.
 */
#include "cpu/x86/xsave.h"

#include <string.h>

#include "cpu/x86/cpuid.h"
#include "cpu/x86/template.h"
#include "cpu/x86/x87.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)

#define HEADER	     512
#define HEADER_SIZE  64
#define EXTENDED     (HEADER + HEADER_SIZE)
#define XCOMP_BV     (HEADER + 8)
#define COMPACTED    (1ull << 63)
#define BIT_SSE	     2u
#define MXCSR_OWNERS 6u		      /* SSE and AVX: either has MXCSR saved and restored in the standard form */
#define PKRU_HERE    (EXTENDED + 256) /* in the copy of an area on our stack; in memory it lies elsewhere */
#define PKRU_SIZE    8
#define AREA_MAX     (PKRU_HERE + PKRU_SIZE)
#define AREA_END     4096 /* of any that a guest is told about: what KVM can take */

static bool x87_in_use(const struct x86_cpu *cpu)
{
	const struct x86_x87 *f = &cpu->s.fp;
	uint64_t any = f->sw | f->valid | f->op | f->cs | f->ds | f->ip | f->dp;

	for (unsigned n = 0; n < 8; n++)
		any |= f->r[n].mant | f->r[n].sexp;
	return any || f->cw != 0x37f;
}

static void x87_initialize(struct x86_cpu *cpu, const struct x86_insn *i)
{
	x87_init(&cpu->s.fp);
	memset(cpu->s.fp.r, 0, sizeof(cpu->s.fp.r));
}

static bool sse_in_use(const struct x86_cpu *cpu)
{
	uint64_t any = 0;

	for (unsigned n = 0; n < 16; n++)
		any |= cpu->s.vec[n].q[0] | cpu->s.vec[n].q[1];
	return any;
}

/* Outside 64-bit mode there are no XMM8 to XMM15 to initialize. */
static void sse_initialize(struct x86_cpu *cpu, const struct x86_insn *i)
{
	for (unsigned n = 0; n < (i->flags & X86_I_CODE64 ? 16 : 8); n++)
		cpu->s.vec[n].q[0] = cpu->s.vec[n].q[1] = 0;
}

static bool avx_in_use(const struct x86_cpu *cpu)
{
	uint64_t any = 0;

	for (unsigned n = 0; n < 16; n++)
		any |= cpu->s.vec[n].q[2] | cpu->s.vec[n].q[3];
	return any;
}

static void avx_initialize(struct x86_cpu *cpu, const struct x86_insn *i)
{
	for (unsigned n = 0; n < (i->flags & X86_I_CODE64 ? 16 : 8); n++)
		cpu->s.vec[n].q[2] = cpu->s.vec[n].q[3] = 0;
}

static void avx_store(const struct x86_cpu *cpu, const struct x86_insn *i, uint8_t *area)
{
	for (unsigned n = 0; n < 16; n++)
		memcpy(area + EXTENDED + 16 * n, &cpu->s.vec[n].q[2], 16);
}

static void avx_load(struct x86_cpu *cpu, const struct x86_insn *i, const uint8_t *area)
{
	for (unsigned n = 0; n < (i->flags & X86_I_CODE64 ? 16 : 8); n++)
		memcpy(&cpu->s.vec[n].q[2], area + EXTENDED + 16 * n, 16);
}

static bool pkru_in_use(const struct x86_cpu *cpu)
{
	return cpu->s.pkru;
}

static void pkru_store(const struct x86_cpu *cpu, const struct x86_insn *i, uint8_t *area)
{
	st_le64(area + PKRU_HERE, cpu->s.pkru);
}

static void pkru_load(struct x86_cpu *cpu, const struct x86_insn *i, const uint8_t *area)
{
	x86_set_pkru(cpu, ld_le32(area + PKRU_HERE));
}

static void pkru_initialize(struct x86_cpu *cpu, const struct x86_insn *i)
{
	x86_set_pkru(cpu, 0);
}

bool x86_xsave_pkru_fits(unsigned at)
{
	return at >= PKRU_HERE && at <= AREA_END - PKRU_SIZE && at % PKRU_SIZE == 0;
}

/*
 * Components in order of their bits. `at` is the place in the standard form (but see standard_at()); those of the
 * legacy region keep it in the compacted form. Of the `parts` (relative to the area) `len32` bytes are used outside
 * 64-bit mode.
 */
static const struct component {
	uint8_t bit;
	bool align64; /* in the compacted form */
	uint16_t at, size;
	enum x86_feature feature;
	struct {
		uint16_t at, len, len32;
	} parts[2];
	bool (*in_use)(const struct x86_cpu *cpu);
	void (*store)(const struct x86_cpu *cpu, const struct x86_insn *i, uint8_t *area);
	void (*load)(struct x86_cpu *cpu, const struct x86_insn *i, const uint8_t *area);
	void (*initialize)(struct x86_cpu *cpu, const struct x86_insn *i);
} components[] = {
	{ 0,
	  false,
	  0,
	  160,
	  X86_F_FPU,
	  { { 0, 24, 24 }, { 32, 128, 128 } },
	  x87_in_use,
	  x86_fx_store_x87,
	  x86_fx_load_x87,
	  x87_initialize },
	{ 1,
	  false,
	  X86_FX_XMM,
	  256,
	  X86_F_SSE,
	  { { X86_FX_XMM, 256, 128 } },
	  sse_in_use,
	  x86_fx_store_sse,
	  x86_fx_load_sse,
	  sse_initialize },
	{ 2,
	  false,
	  EXTENDED,
	  256,
	  X86_F_AVX,
	  { { EXTENDED, 256, 128 } },
	  avx_in_use,
	  avx_store,
	  avx_load,
	  avx_initialize },
	{ X86_XSAVE_PKRU,
	  false,
	  PKRU_HERE,
	  PKRU_SIZE,
	  X86_F_PKU,
	  { { PKRU_HERE, PKRU_SIZE, PKRU_SIZE } },
	  pkru_in_use,
	  pkru_store,
	  pkru_load,
	  pkru_initialize },
};

/* --- the area --- */

uint64_t x86_xsave_components(const struct x86_features *f)
{
	uint64_t bits = 0;

	for (size_t n = 0; f->on[X86_F_XSAVE] && n < ARRAY_LEN(components); n++)
		bits |= (uint64_t)f->on[components[n].feature] << components[n].bit;
	return bits;
}

/* Where a component begins in the compacted form that holds those of `mask`. */
static unsigned compacted_at(const struct component *c, uint64_t mask)
{
	unsigned at = EXTENDED;

	if (c->at < EXTENDED)
		return c->at;
	for (const struct component *k = components; k <= c; k++) {
		if (k->at < EXTENDED || !(mask >> k->bit & 1))
			continue;
		at = k->align64 ? (unsigned)align_up(at, 64) : at;
		if (k == c)
			break;
		at += k->size;
	}
	return at;
}

static unsigned standard_at(const struct x86_features *f, const struct component *c)
{
	return c->bit == X86_XSAVE_PKRU ? f->pkru_at : c->at;
}

static unsigned area_size(const struct x86_features *f, uint64_t mask, bool compacted)
{
	unsigned size = EXTENDED;

	for (const struct component *c = components; c < components + ARRAY_LEN(components); c++) {
		unsigned end = (compacted ? compacted_at(c, mask) : standard_at(f, c)) + c->size;

		if (mask >> c->bit & 1 && end > size)
			size = end;
	}
	return size;
}

void x86_xsave_cpuid(const struct x86_cpuid_query *q, uint32_t out[4])
{
	const struct x86_features *f = q->features;
	uint32_t subleaf = q->subleaf;

	if (!f->on[X86_F_XSAVE])
		return;
	if (subleaf == 0) {
		out[X86_CPUID_EAX] = (uint32_t)f->xcr0;
		out[X86_CPUID_EBX] = area_size(f, q->xcr0, false);
		out[X86_CPUID_ECX] = area_size(f, f->xcr0, false);
		out[X86_CPUID_EDX] = (uint32_t)(f->xcr0 >> 32);
	} else if (subleaf == 1) {
		out[X86_CPUID_EBX] = f->on[X86_F_XSAVEC] || f->on[X86_F_XSAVES] ? area_size(f, q->xcr0, true) : 0;
	}
	for (size_t n = 0; subleaf > 1 && n < ARRAY_LEN(components); n++) {
		const struct component *c = &components[n];

		if (c->bit != subleaf || !f->on[c->feature])
			continue;
		out[X86_CPUID_EAX] = c->size;
		out[X86_CPUID_EBX] = standard_at(f, c);
		out[X86_CPUID_ECX] = c->align64 ? 2 : 0;
	}
}

static void enter(struct x86_cpu *cpu, enum x86_feature feature)
{
	if (!(cpu->s.cr4 & X86_CR4_OSXSAVE) || !x86_has(cpu, feature))
		x86_ud(cpu);
}

/* The offset of the operand, which must be aligned to 64 bytes. */
static uint64_t area_address(struct x86_cpu *cpu, const struct x86_insn *i)
{
	uint64_t ea = x86_ea(cpu, i);

	if (cpu->s.cr0 & X86_CR0_TS)
		x86_raise(cpu, X86_NM, 0);
	if ((cpu->seg_base[i->seg] + ea) & 63)
		x86_gp0(cpu);
	return ea;
}

/* XSAVES and XRSTORS are the operating system's, with components of its own. */
static void enter_supervisor(struct x86_cpu *cpu)
{
	enter(cpu, X86_F_XSAVES);
	if (cpu->cpl)
		x86_gp0(cpu);
}

static uint64_t supervisor_components(const struct x86_cpu *cpu)
{
	return cpu->s.xcr0 | cpu->s.xss;
}

/* Those of `enabled` that EDX:EAX asks for. */
static uint64_t requested(const struct x86_cpu *cpu, uint64_t enabled)
{
	return ((uint64_t)x86_get32(cpu, X86_RDX) << 32 | x86_get32(cpu, X86_RAX)) & enabled;
}

static uint64_t in_use(const struct x86_cpu *cpu)
{
	uint64_t bits = 0;

	for (size_t n = 0; n < ARRAY_LEN(components); n++)
		bits |= (uint64_t)components[n].in_use(cpu) << components[n].bit;
	return bits;
}

/* Where a component lies in memory: `layout` as in XCOMP_BV, 0 for the standard form. */
static unsigned place(const struct x86_cpu *cpu, const struct component *c, uint64_t layout)
{
	return layout ? compacted_at(c, layout) : standard_at(cpu->vm->features, c);
}

/* --- saving --- */

struct saving {
	const struct x86_insn *i;
	uint64_t ea, mask; /* components that are written */
	bool mxcsr;
	uint64_t layout; /* compacted: what XCOMP_BV will say; 0: the standard form */
	unsigned header_len;
	uint8_t area[AREA_MAX];
};

static void put(struct x86_cpu *cpu, const struct saving *s, unsigned at, unsigned from, unsigned len)
{
	for (unsigned done = 0; done < len; done += 32)
		x86_store_bytes(cpu, s->i->seg, s->ea + at + done, s->area + from + done,
				len - done < 32 ? len - done : 32);
}

/* Call `fn` for each piece of memory that the instruction writes: first to find faults, then to write. */
static void each_piece(struct x86_cpu *cpu, const struct saving *s, bool write)
{
	bool wide = s->i->flags & X86_I_CODE64;

	for (const struct component *c = components; c < components + ARRAY_LEN(components); c++) {
		int move = (int)place(cpu, c, s->layout) - c->at;

		for (unsigned n = 0; s->mask >> c->bit & 1 && n < 2 && c->parts[n].len; n++) {
			unsigned len = wide ? c->parts[n].len : c->parts[n].len32;

			if (write)
				put(cpu, s, (unsigned)(c->parts[n].at + move), c->parts[n].at, len);
			else
				x86_probe_write(cpu, s->i->seg, s->ea + (unsigned)(c->parts[n].at + move), len);
		}
	}
	if (s->mxcsr && write)
		put(cpu, s, X86_FX_MXCSR, X86_FX_MXCSR, 8);
	else if (s->mxcsr)
		x86_probe_write(cpu, s->i->seg, s->ea + X86_FX_MXCSR, 8);
	if (write)
		put(cpu, s, HEADER, HEADER, s->header_len);
	else
		x86_probe_write(cpu, s->i->seg, s->ea + HEADER, s->header_len);
}

static const struct x86_insn *save(struct x86_cpu *cpu, struct saving *s)
{
	for (size_t n = 0; n < ARRAY_LEN(components); n++)
		if (s->mask >> components[n].bit & 1)
			components[n].store(cpu, s->i, s->area);
	x86_fx_store_mxcsr(cpu, s->area);
	each_piece(cpu, s, false);
	each_piece(cpu, s, true);
	return x86_next(cpu, s->i);
}

static const struct x86_insn *save_standard(struct x86_cpu *cpu, const struct x86_insn *i, bool optimize)
{
	struct saving s = { .i = i, .ea = area_address(cpu, i), .header_len = 8 };
	uint64_t asked = requested(cpu, cpu->s.xcr0), used = in_use(cpu);

	s.mask = optimize ? asked & used : asked;
	s.mxcsr = asked & MXCSR_OWNERS;
	x86_probe_write(cpu, i->seg, s.ea + HEADER, 8);
	st_le64(s.area + HEADER, (x86_ld64(cpu, i->seg, s.ea + HEADER) & ~asked) | (asked & used));
	return save(cpu, &s);
}

HANDLER(xsave)
{
	enter(cpu, X86_F_XSAVE);
	return save_standard(cpu, i, false);
}

HANDLER(xsaveopt)
{
	enter(cpu, X86_F_XSAVEOPT);
	return save_standard(cpu, i, true);
}

static const struct x86_insn *save_compacted(struct x86_cpu *cpu, const struct x86_insn *i, uint64_t enabled)
{
	struct saving s = { .i = i, .ea = area_address(cpu, i), .header_len = 16 };
	uint64_t asked = requested(cpu, enabled), used = in_use(cpu);

	/* Here MXCSR is part of the SSE component. */
	if (cpu->s.mxcsr != X86_MXCSR_INIT)
		used |= BIT_SSE;
	s.mask = asked & used;
	s.mxcsr = s.mask & BIT_SSE;
	s.layout = asked | COMPACTED;
	st_le64(s.area + HEADER, s.mask);
	st_le64(s.area + XCOMP_BV, s.layout);
	return save(cpu, &s);
}

HANDLER(xsavec)
{
	enter(cpu, X86_F_XSAVEC);
	return save_compacted(cpu, i, cpu->s.xcr0);
}

HANDLER(xsaves)
{
	enter_supervisor(cpu);
	return save_compacted(cpu, i, supervisor_components(cpu));
}

/* --- restoring --- */

static void get(struct x86_cpu *cpu, const struct x86_insn *i, uint64_t ea, uint8_t *to, unsigned len)
{
	for (unsigned done = 0; done < len; done += 32)
		x86_load_bytes(cpu, i->seg, ea + done, to + done, len - done < 32 ? len - done : 32);
}

/* The forms of an area that an instruction takes. */
enum { FORM_STANDARD = 1, FORM_COMPACTED = 2 };

/* #GP(0) for a header that no XSAVE wrote, or that is not of one of `forms`. */
static void check_header(struct x86_cpu *cpu, const uint8_t *area, uint64_t enabled, unsigned forms)
{
	uint64_t state = ld_le64(area + HEADER), comp = ld_le64(area + XCOMP_BV), rest = 0;
	bool compacted = comp & COMPACTED;

	if (!(forms & (compacted ? FORM_COMPACTED : FORM_STANDARD)))
		x86_gp0(cpu);
	for (unsigned n = 16; n < (compacted ? HEADER_SIZE : 24u); n++)
		rest |= area[HEADER + n];
	if (rest || (compacted ? comp & ~(enabled | COMPACTED) || state & ~comp : comp || state & ~enabled))
		x86_gp0(cpu);
	if (compacted && state & COMPACTED)
		x86_gp0(cpu);
}

static const struct x86_insn *restore(struct x86_cpu *cpu, const struct x86_insn *i, uint64_t enabled, unsigned forms)
{
	uint64_t ea = area_address(cpu, i), asked = requested(cpu, enabled), state, layout;
	uint8_t area[AREA_MAX];
	bool compacted, wide = i->flags & X86_I_CODE64, mxcsr;

	get(cpu, i, ea + HEADER, area + HEADER, HEADER_SIZE);
	check_header(cpu, area, enabled, forms);
	state = ld_le64(area + HEADER);
	layout = ld_le64(area + XCOMP_BV);
	compacted = layout & COMPACTED;
	/* Everything is read, and found good, before anything changes. */
	for (const struct component *c = components; c < components + ARRAY_LEN(components); c++) {
		int move = (int)place(cpu, c, compacted ? layout : 0) - c->at;

		for (unsigned n = 0; asked & state & 1ull << c->bit && n < 2 && c->parts[n].len; n++)
			get(cpu, i, ea + (unsigned)(c->parts[n].at + move), area + c->parts[n].at,
			    wide ? c->parts[n].len : c->parts[n].len32);
	}
	st_le32(area + X86_FX_MXCSR, X86_MXCSR_INIT);
	mxcsr = asked & (compacted ? BIT_SSE : MXCSR_OWNERS);
	if (mxcsr && (!compacted || state & BIT_SSE))
		get(cpu, i, ea + X86_FX_MXCSR, area + X86_FX_MXCSR, 4);
	x86_fx_check_mxcsr(cpu, area);
	for (size_t n = 0; n < ARRAY_LEN(components); n++) {
		const struct component *c = &components[n];

		if (!(asked >> c->bit & 1))
			continue;
		if (state >> c->bit & 1)
			c->load(cpu, i, area);
		else
			c->initialize(cpu, i);
	}
	if (mxcsr)
		cpu->s.mxcsr = ld_le32(area + X86_FX_MXCSR);
	return x86_next(cpu, i);
}

HANDLER(xrstor)
{
	enter(cpu, X86_F_XSAVE);
	return restore(cpu, i, cpu->s.xcr0, FORM_STANDARD | (x86_has(cpu, X86_F_XSAVEC) ? FORM_COMPACTED : 0));
}

HANDLER(xrstors)
{
	enter_supervisor(cpu);
	return restore(cpu, i, supervisor_components(cpu), FORM_COMPACTED);
}

/* --- XCR0 --- */

HANDLER(xgetbv)
{
	uint32_t index = x86_get32(cpu, X86_RCX);
	uint64_t v = cpu->s.xcr0;

	enter(cpu, X86_F_XSAVE);
	if (index > 1 || (index && !x86_has(cpu, X86_F_XGETBV1)))
		x86_gp0(cpu);
	if (index)
		v &= in_use(cpu) | (cpu->s.mxcsr != X86_MXCSR_INIT ? BIT_SSE : 0);
	x86_set32(cpu, X86_RAX, (uint32_t)v);
	x86_set32(cpu, X86_RDX, (uint32_t)(v >> 32));
	return x86_next(cpu, i);
}

HANDLER(xsetbv)
{
	uint64_t v = (uint64_t)x86_get32(cpu, X86_RDX) << 32 | x86_get32(cpu, X86_RAX);

	enter(cpu, X86_F_XSAVE);
	if (cpu->cpl || x86_get32(cpu, X86_RCX) || !(v & 1) || v & ~cpu->vm->features->xcr0)
		x86_gp0(cpu);
	if ((v & X86_XCR0_AVX) == 1u << 2) /* the upper halves without the lower ones */
		x86_gp0(cpu);
	cpu->s.xcr0 = v;
	x86_fp_update_blocks(cpu);
	return x86_next_end(cpu, i);
}

#define MEM_ROW(op, ext, fn)                                                                                           \
	{                                                                                                              \
		X86_MAP_0F, op, 1, X86_PFX_NONE, X86_MOD_MEM, 1 + ext, 0, 0, 0, {}, X86_ALL(fn), #fn                   \
	}
static const struct x86_opdef rows[] = {
	MEM_ROW(0xae, 4, xsave),
	MEM_ROW(0xae, 5, xrstor),
	MEM_ROW(0xae, 6, xsaveopt),
	MEM_ROW(0xc7, 3, xrstors),
	MEM_ROW(0xc7, 4, xsavec),
	MEM_ROW(0xc7, 5, xsaves),
	{ X86_MAP_0F, 0x01, 1, X86_PFX_NONE, X86_MOD_REG, 1 + 2, 1 + 0, 0, 0, X86_ALL(xgetbv), {}, "xgetbv" },
	{ X86_MAP_0F, 0x01, 1, X86_PFX_NONE, X86_MOD_REG, 1 + 2, 1 + 1, 0, X86_D_END, X86_ALL(xsetbv), {}, "xsetbv" },
};
X86_DEFS(x86_defs_xsave, rows);
