/*
 * The floating-point state as a whole: FXSAVE FXRSTOR, MXCSR, the x87 control and status words, and
 * the memory fences that share their opcodes. SDM vol. 1, 10.5.
 */
#include <string.h>

#include "cpu/x86/template.h"
#include "cpu/x86/x87.h"
#include "cpu/x86/xsave.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)

#define CW_INIT	      0x37f
#define SW_EXCEPTIONS 0x80ff /* B, ES, SF and the six flags */

static unsigned top(const struct x86_x87 *f)
{
	return f->sw >> 11 & 7;
}

HANDLER(fninit)
{
	x86_fpu_enter(cpu, false);
	cpu->s.fp.cw = CW_INIT;
	cpu->s.fp.sw = 0;
	cpu->s.fp.valid = 0;
	cpu->s.fp.op = cpu->s.fp.cs = cpu->s.fp.ds = 0;
	cpu->s.fp.ip = cpu->s.fp.dp = 0;
	return x86_next(cpu, i);
}

HANDLER(fnclex)
{
	x86_fpu_enter(cpu, false);
	cpu->s.fp.sw &= ~SW_EXCEPTIONS;
	return x86_next(cpu, i);
}

HANDLER(fnstsw_ax)
{
	x86_fpu_enter(cpu, false);
	x86_set16(cpu, X86_RAX, cpu->s.fp.sw);
	return x86_next(cpu, i);
}

HANDLER(fnstsw)
{
	x86_fpu_enter(cpu, false);
	x86_stm16(cpu, i, cpu->s.fp.sw);
	return x86_next(cpu, i);
}

HANDLER(fnstcw)
{
	x86_fpu_enter(cpu, false);
	x86_stm16(cpu, i, cpu->s.fp.cw);
	return x86_next(cpu, i);
}

/* Unmasking a flag that is set raises at the next waiting instruction. */
HANDLER(fldcw)
{
	x86_fpu_enter(cpu, true);
	cpu->s.fp.cw = (x86_ldm16(cpu, i) & 0x1f3f) | 0x40;
	cpu->s.fp.sw &= ~0x8080;
	if (cpu->s.fp.sw & ~cpu->s.fp.cw & 0x3f)
		cpu->s.fp.sw |= 0x8080;
	return x86_next(cpu, i);
}

/* FWAIT looks at MP as well: #NM only if TS and MP are both set. */
HANDLER(fwait)
{
	const uint64_t both = X86_CR0_TS | X86_CR0_MP;

	if ((cpu->s.cr0 & both) == both)
		x86_raise(cpu, X86_NM, 0);
	if (cpu->s.fp.sw & 0x80 && cpu->s.cr0 & X86_CR0_NE)
		x86_raise(cpu, X86_MF, 0);
	return x86_next(cpu, i);
}

/* --- the legacy region --- */

void x86_fx_store_x87(const struct x86_cpu *cpu, const struct x86_insn *i, uint8_t *area)
{
	const struct x86_x87 *f = &cpu->s.fp;

	st_le16(area, f->cw);
	st_le16(area + 2, f->sw);
	area[4] = f->valid;
	area[5] = 0;
	st_le16(area + 6, f->op);
	if (i->opsize == 8) {
		st_le64(area + 8, f->ip);
		st_le64(area + 16, f->dp);
	} else {
		st_le32(area + 8, (uint32_t)f->ip);
		st_le32(area + 12, f->cs);
		st_le32(area + 16, (uint32_t)f->dp);
		st_le32(area + 20, f->ds);
	}
	for (unsigned n = 0; n < 8; n++) {
		const struct x86_fpreg *r = &f->r[(top(f) + n) & 7];

		st_le64(area + 32 + 16 * n, r->mant);
		st_le64(area + 40 + 16 * n, r->sexp);
	}
}

void x86_fx_load_x87(struct x86_cpu *cpu, const struct x86_insn *i, const uint8_t *area)
{
	struct x86_x87 *f = &cpu->s.fp;
	bool wide = i->opsize == 8;

	f->cw = (ld_le16(area) & 0x1f3f) | 0x40;
	f->sw = ld_le16(area + 2);
	f->valid = area[4];
	f->op = ld_le16(area + 6) & 0x7ff;
	f->ip = wide ? ld_le64(area + 8) : ld_le32(area + 8);
	f->dp = wide ? ld_le64(area + 16) : ld_le32(area + 16);
	f->cs = wide ? 0 : ld_le16(area + 12);
	f->ds = wide ? 0 : ld_le16(area + 20);
	for (unsigned n = 0; n < 8; n++)
		f->r[(top(f) + n) & 7] = (struct x86_fpreg){ ld_le64(area + 32 + 16 * n), ld_le16(area + 40 + 16 * n) };
	x87_update_es(f);
}

/* Outside 64-bit mode there are XMM0 to XMM7 only. */
static unsigned vectors(const struct x86_insn *i)
{
	return i->flags & X86_I_CODE64 ? 16 : 8;
}

void x86_fx_store_sse(const struct x86_cpu *cpu, const struct x86_insn *i, uint8_t *area)
{
	for (unsigned n = 0; n < vectors(i); n++)
		memcpy(area + X86_FX_XMM + 16 * n, cpu->s.vec[n].b, 16);
}

void x86_fx_load_sse(struct x86_cpu *cpu, const struct x86_insn *i, const uint8_t *area)
{
	for (unsigned n = 0; n < vectors(i); n++)
		memcpy(cpu->s.vec[n].b, area + X86_FX_XMM + 16 * n, 16);
}

void x86_fx_store_mxcsr(const struct x86_cpu *cpu, uint8_t *area)
{
	st_le32(area + X86_FX_MXCSR, cpu->s.mxcsr);
	st_le32(area + X86_FX_MXCSR + 4, X86_MXCSR_MASK);
}

static uint32_t check_mxcsr(struct x86_cpu *cpu, uint32_t v)
{
	if (v & ~X86_MXCSR_MASK)
		x86_gp0(cpu);
	return v;
}

void x86_fx_check_mxcsr(struct x86_cpu *cpu, const uint8_t *area)
{
	check_mxcsr(cpu, ld_le32(area + X86_FX_MXCSR));
}

const struct x86_insn *x86_ldmxcsr(struct x86_cpu *cpu, const struct x86_insn *i)
{
	cpu->s.mxcsr = check_mxcsr(cpu, x86_ldm32(cpu, i));
	return x86_next(cpu, i);
}

const struct x86_insn *x86_stmxcsr(struct x86_cpu *cpu, const struct x86_insn *i)
{
	x86_stm32(cpu, i, cpu->s.mxcsr);
	return x86_next(cpu, i);
}

/*
 * #NM with EM or TS; the segment has to hold the first field; #GP (or #AC, where it is on) unless aligned to 16. That
 * a segment cannot be written is found later.
 */
static uint64_t fx_address(struct x86_cpu *cpu, const struct x86_insn *i)
{
	uint64_t ea = x86_ea(cpu, i), lin;

	if (cpu->fpu_block)
		x86_raise(cpu, X86_NM, 0);
	lin = x86_linear_bounded(cpu, i->seg, ea, 4, X86_READ);
	if (lin & 15)
		x86_raise(cpu, cpu->align_check && lin & 3 ? X86_AC_FAULT : X86_GP, 0);
	return ea;
}

/* The bytes of registers that exist in this mode. */
static unsigned fx_used(const struct x86_insn *i)
{
	return X86_FX_XMM + 16 * vectors(i);
}

HANDLER(fxsave)
{
	uint64_t ea = fx_address(cpu, i);
	uint8_t b[X86_FX_BYTES] = { 0 };

	/* Then the last byte is touched, which may be at the beginning of the address space. */
	x86_probe_write(cpu, i->seg, x86_ea_plus(i, ea, X86_FX_AREA - 1), 1);
	x86_probe_write(cpu, i->seg, ea, 1);
	x86_fx_store_x87(cpu, i, b);
	x86_fx_store_mxcsr(cpu, b);
	x86_fx_store_sse(cpu, i, b);
	for (unsigned n = 0; n < fx_used(i); n += 16)
		x86_store_bytes(cpu, i->seg, x86_ea_plus(i, ea, n), b + n, 16);
	return x86_next(cpu, i);
}

HANDLER(fxrstor)
{
	uint64_t ea = fx_address(cpu, i);
	uint8_t b[X86_FX_BYTES];

	x86_ld8(cpu, i->seg, x86_ea_plus(i, ea, X86_FX_AREA - 1));
	for (unsigned n = 0; n < fx_used(i); n += 16)
		x86_load_bytes(cpu, i->seg, x86_ea_plus(i, ea, n), b + n, 16);
	x86_fx_check_mxcsr(cpu, b);
	x86_fx_load_x87(cpu, i, b);
	x86_fx_load_sse(cpu, i, b);
	cpu->s.mxcsr = ld_le32(b + X86_FX_MXCSR);
	return x86_next(cpu, i);
}

HANDLER(ldmxcsr)
{
	x86_sse_enter(cpu);
	return x86_ldmxcsr(cpu, i);
}

HANDLER(stmxcsr)
{
	x86_sse_enter(cpu);
	return x86_stmxcsr(cpu, i);
}

/* LFENCE and SFENCE order nothing that the host does not; MFENCE (and locked operations) are full fences. */
HANDLER(fence)
{
	atomic_thread_fence(memory_order_seq_cst);
	return x86_next(cpu, i);
}

/* The caches are not modelled, but the address must be readable. */
HANDLER(clflush)
{
	x86_ldm8(cpu, i);
	return x86_next(cpu, i);
}

#define AE(ext_, mod_) X86_MAP_0F, 0xae, 1, X86_PFX_NONE, mod_, 1 + ext_, 0, 0
static const struct x86_opdef rows[] = {
	{ X86_MAP_1, 0x9b, 1, 0, X86_MOD_NONE, 0, 0, 0, 0, X86_ALL(fwait), {}, "fwait" },
	{ X86_MAP_1, 0xd9, 1, 0, X86_MOD_MEM, 1 + 5, 0, 0, 0, {}, X86_ALL(fldcw), "fldcw" },
	{ X86_MAP_1, 0xd9, 1, 0, X86_MOD_MEM, 1 + 7, 0, 0, 0, {}, X86_ALL(fnstcw), "fnstcw" },
	{ X86_MAP_1, 0xdb, 1, 0, X86_MOD_REG, 1 + 4, 1 + 2, 0, 0, X86_ALL(fnclex), {}, "fnclex" },
	{ X86_MAP_1, 0xdb, 1, 0, X86_MOD_REG, 1 + 4, 1 + 3, 0, 0, X86_ALL(fninit), {}, "fninit" },
	{ X86_MAP_1, 0xdd, 1, 0, X86_MOD_MEM, 1 + 7, 0, 0, 0, {}, X86_ALL(fnstsw), "fnstsw" },
	{ X86_MAP_1, 0xdf, 1, 0, X86_MOD_REG, 1 + 4, 1 + 0, 0, 0, X86_ALL(fnstsw_ax), {}, "fnstsw" },
	{ AE(0, X86_MOD_MEM), 0, {}, X86_ALL(fxsave), "fxsave" },
	{ AE(1, X86_MOD_MEM), 0, {}, X86_ALL(fxrstor), "fxrstor" },
	{ AE(2, X86_MOD_MEM), 0, {}, X86_ALL(ldmxcsr), "ldmxcsr" },
	{ AE(3, X86_MOD_MEM), 0, {}, X86_ALL(stmxcsr), "stmxcsr" },
	{ AE(7, X86_MOD_MEM), 0, {}, X86_ALL(clflush), "clflush" },
	{ AE(5, X86_MOD_REG), 0, X86_ALL(fence), {}, "lfence" },
	{ AE(6, X86_MOD_REG), 0, X86_ALL(fence), {}, "mfence" },
	{ AE(7, X86_MOD_REG), 0, X86_ALL(fence), {}, "sfence" },
};
X86_DEFS(x86_defs_fpstate, rows);

static const struct x86_opdef clflushopt_rows[] = {
	{ X86_MAP_0F, 0xae, 1, X86_PFX_66, X86_MOD_MEM, 1 + 7, 0, 0, X86_D_IGN66, {}, X86_ALL(clflush), "clflushopt" },
};
X86_DEFS_OF(x86_defs_clflushopt, clflushopt_rows, X86_F_CLFLUSHOPT);

static const struct x86_opdef clwb_rows[] = {
	{ X86_MAP_0F, 0xae, 1, X86_PFX_66, X86_MOD_MEM, 1 + 6, 0, 0, X86_D_IGN66, {}, X86_ALL(clflush), "clwb" },
};
X86_DEFS_OF(x86_defs_clwb, clwb_rows, X86_F_CLWB);
