/*
 * x87 loads, stores, constants, exchanges and conditional moves. Conversions run on the host, as in
 * x87_arith.c. SDM vol. 1, 8.3.3 to 8.3.5. x86-64 hosts only.
 */
#include <string.h>

#include "cpu/x86/cond.h"
#include "cpu/x86/template.h"
#include "cpu/x86/x87.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)

static const uint16_t host_cw = X87_HOST_CW;

/* --- loads --- */

#define CONVERT_IN(name, insn, type)                                                                                   \
	static uint16_t name(struct x86_fpreg *r, const type *v)                                                       \
	{                                                                                                              \
		uint16_t sw;                                                                                           \
		__asm__ volatile(insn " %[v]" X87_SW "fstpt %[r]" : [r] "=m"(*r), [sw] "=m"(sw) : [v] "m"(*v) : "st"); \
		return sw & X87_EXC;                                                                                   \
	}
typedef struct {
	uint8_t b[10];
} bcd_t;
CONVERT_IN(in_m32, "flds", uint32_t)
CONVERT_IN(in_m64, "fldl", uint64_t)
CONVERT_IN(in_i16, "filds", uint16_t)
CONVERT_IN(in_i32, "fildl", uint32_t)
CONVERT_IN(in_i64, "fildll", uint64_t)
CONVERT_IN(in_bcd, "fbld", bcd_t)

static void push_value(struct x86_cpu *cpu, struct x86_fpreg v, uint16_t flags)
{
	if (!x87_empty(cpu, 7)) {
		if (!x87_stack_fault(cpu, true))
			x87_push(cpu, X87_INDEFINITE);
		return;
	}
	cpu->s.fp.sw &= (uint16_t)~X87_C1;
	x87_raise(cpu, flags);
	/* An unmasked denormal is loaded all the same. */
	if (!(flags & ~cpu->s.fp.cw & X87_IE))
		x87_push(cpu, v);
}

#define LOAD(name, convert, bits)                                                                                      \
	HANDLER(name)                                                                                                  \
	{                                                                                                              \
		uint##bits##_t v;                                                                                      \
		struct x86_fpreg r;                                                                                    \
		uint16_t flags;                                                                                        \
		x86_fpu_enter(cpu, true);                                                                              \
		v = x86_ldm##bits(cpu, i);                                                                             \
		x87_note_mem(cpu, i, x86_ea(cpu, i));                                                                  \
		flags = convert(&r, &v);                                                                               \
		push_value(cpu, r, flags);                                                                             \
		return x86_next(cpu, i);                                                                               \
	}
LOAD(fld_m32, in_m32, 32)
LOAD(fld_m64, in_m64, 64)
LOAD(fild_m16, in_i16, 16)
LOAD(fild_m32, in_i32, 32)
LOAD(fild_m64, in_i64, 64)

/* Ten bytes are eight, and two that may lie beyond the end of the address size: at its beginning. */
static void load10(struct x86_cpu *cpu, const struct x86_insn *i, uint8_t *b)
{
	uint64_t ea = x86_ea(cpu, i);

	st_le64(b, x86_ld64(cpu, i->seg, ea));
	st_le16(b + 8, x86_ld16(cpu, i->seg, x86_ea_plus(i, ea, 8)));
}

HANDLER(fld_m80)
{
	uint8_t b[10];

	x86_fpu_enter(cpu, true);
	load10(cpu, i, b);
	x87_note_mem(cpu, i, x86_ea(cpu, i));
	push_value(cpu, (struct x86_fpreg){ ld_le64(b), ld_le16(b + 8) }, 0);
	return x86_next(cpu, i);
}

HANDLER(fbld)
{
	bcd_t b;
	struct x86_fpreg r;
	uint16_t flags;

	x86_fpu_enter(cpu, true);
	load10(cpu, i, b.b);
	x87_note_mem(cpu, i, x86_ea(cpu, i));
	flags = in_bcd(&r, &b);
	push_value(cpu, r, flags);
	return x86_next(cpu, i);
}

HANDLER(fld_sti)
{
	unsigned r = i->modrm & 7;

	x86_fpu_enter(cpu, true);
	x87_note(cpu, i);
	if (x87_empty(cpu, r)) {
		if (!x87_stack_fault(cpu, false))
			x87_push(cpu, X87_INDEFINITE);
	} else {
		push_value(cpu, *x87_st(cpu, r), 0);
	}
	return x86_next(cpu, i);
}

/* --- stores: convert, check, write memory, and only then change the FPU --- */

/* `after` empties the stack: an unmasked overflow or underflow keeps a pop from happening. */
#define CONVERT_OUT(name, insn, type, after)                                                                           \
	static uint16_t name(const struct x86_fpreg *r, void *out, uint16_t cw)                                        \
	{                                                                                                              \
		uint16_t sw;                                                                                           \
		__asm__ volatile(X87_BEGIN "fldt %[r]\n\t" insn " %[v]" X87_SW after X87_END                           \
				 : [v] "=m"(*(type *)out), [sw] "=m"(sw)                                               \
				 : [r] "m"(*r), [cw] "m"(cw), [host] "m"(host_cw)                                      \
				 : "st");                                                                              \
		return sw & (X87_EXC | X87_C1);                                                                        \
	}
#define DROP "fstp %%st(0)"
CONVERT_OUT(out_m32, "fsts", uint32_t, DROP)
CONVERT_OUT(out_m64, "fstl", uint64_t, DROP)
CONVERT_OUT(out_i16, "fists", uint16_t, DROP)
CONVERT_OUT(out_i32, "fistl", uint32_t, DROP)
CONVERT_OUT(out_i64, "fistpll", uint64_t, "")
CONVERT_OUT(out_t16, "fisttps", uint16_t, "")
CONVERT_OUT(out_t32, "fisttpl", uint32_t, "")
CONVERT_OUT(out_t64, "fisttpll", uint64_t, "")
CONVERT_OUT(out_bcd, "fbstp", bcd_t, "")

/* As load10(). */
static void probe10(struct x86_cpu *cpu, const struct x86_insn *i, uint64_t ea)
{
	x86_probe_write(cpu, i->seg, ea, 8);
	x86_probe_write(cpu, i->seg, x86_ea_plus(i, ea, 8), 2);
}

static void store10(struct x86_cpu *cpu, const struct x86_insn *i, uint64_t ea, const uint8_t *b)
{
	x86_st64(cpu, i->seg, ea, ld_le64(b));
	x86_st16(cpu, i->seg, x86_ea_plus(i, ea, 8), ld_le16(b + 8));
}

typedef uint16_t convert_fn(const struct x86_fpreg *r, void *out, uint16_t cw);

static void store(struct x86_cpu *cpu, const struct x86_insn *i, convert_fn *convert, unsigned size, bool pop)
{
	struct x86_fpreg v = x87_empty(cpu, 0) ? X87_INDEFINITE : *x87_st(cpu, 0);
	uint16_t sw;
	uint8_t b[10];
	uint64_t ea = x86_ea(cpu, i);
	bool refused;

	x86_fpu_enter(cpu, true);
	sw = convert(&v, b, x87_host_cw(cpu));
	if (x87_empty(cpu, 0))
		sw = X87_IE | X87_SF;
	if (size == 10)
		probe10(cpu, i, ea);
	/* Invalid, overflow and underflow, when unmasked, leave memory alone. */
	refused = sw & ~cpu->s.fp.cw & (X87_IE | X87_OE | X87_UE);
	if (refused && size < 10)
		x86_probe_write(cpu, i->seg, ea, size);
	else if (!refused && size == 10)
		store10(cpu, i, ea, b);
	else if (!refused)
		x86_store_bytes(cpu, i->seg, ea, b, size);
	x87_note_mem(cpu, i, ea);
	cpu->s.fp.sw = (uint16_t)((cpu->s.fp.sw & ~X87_C1) | (sw & X87_C1));
	x87_raise(cpu, sw & (X87_EXC | X87_SF));
	if (pop && !refused)
		x87_pop(cpu);
}

#define STORE(name, convert, size, pop)                                                                                \
	HANDLER(name)                                                                                                  \
	{                                                                                                              \
		store(cpu, i, convert, size, pop);                                                                     \
		return x86_next(cpu, i);                                                                               \
	}
STORE(fst_m32, out_m32, 4, false)
STORE(fstp_m32, out_m32, 4, true)
STORE(fst_m64, out_m64, 8, false)
STORE(fstp_m64, out_m64, 8, true)
STORE(fist_m16, out_i16, 2, false)
STORE(fistp_m16, out_i16, 2, true)
STORE(fist_m32, out_i32, 4, false)
STORE(fistp_m32, out_i32, 4, true)
STORE(fistp_m64, out_i64, 8, true)
STORE(fisttp_m16, out_t16, 2, true)
STORE(fisttp_m32, out_t32, 4, true)
STORE(fisttp_m64, out_t64, 8, true)
STORE(fbstp, out_bcd, 10, true)

HANDLER(fstp_m80)
{
	struct x86_fpreg v;
	uint8_t b[10];
	bool empty;

	x86_fpu_enter(cpu, true);
	empty = x87_empty(cpu, 0);
	v = empty ? X87_INDEFINITE : *x87_st(cpu, 0);
	st_le64(b, v.mant);
	st_le16(b + 8, v.sexp);
	probe10(cpu, i, x86_ea(cpu, i));
	if (!empty || cpu->s.fp.cw & X87_IE)
		store10(cpu, i, x86_ea(cpu, i), b);
	x87_note_mem(cpu, i, x86_ea(cpu, i));
	cpu->s.fp.sw &= (uint16_t)~X87_C1;
	if (!empty || !x87_stack_fault(cpu, false))
		x87_pop(cpu);
	return x86_next(cpu, i);
}

static void store_reg(struct x86_cpu *cpu, unsigned r, bool pop)
{
	cpu->s.fp.sw &= (uint16_t)~X87_C1;
	if (x87_empty(cpu, 0)) {
		if (x87_stack_fault(cpu, false))
			return;
		x87_write(cpu, r, X87_INDEFINITE);
	} else {
		x87_write(cpu, r, *x87_st(cpu, 0));
	}
	if (pop)
		x87_pop(cpu);
}

#define PLAIN(name, body)                                                                                              \
	HANDLER(name)                                                                                                  \
	{                                                                                                              \
		x86_fpu_enter(cpu, true);                                                                              \
		x87_note(cpu, i);                                                                                      \
		body;                                                                                                  \
		return x86_next(cpu, i);                                                                               \
	}
/* D9 D8+i: FSTP that does not look whether ST0 is empty. */
static void store_unchecked(struct x86_cpu *cpu, unsigned r)
{
	cpu->s.fp.sw &= (uint16_t)~X87_C1;
	if (!x87_empty(cpu, 0))
		x87_write(cpu, r, *x87_st(cpu, 0));
	x87_pop(cpu);
}

PLAIN(fst_sti, store_reg(cpu, i->modrm & 7, false))
PLAIN(fstp_sti, store_reg(cpu, i->modrm & 7, true))
PLAIN(fstpnce, store_unchecked(cpu, i->modrm & 7))

/* --- in place --- */

/* ST0 for writing; NULL after a stack fault, whose masked result is there. */
static struct x86_fpreg *st0(struct x86_cpu *cpu)
{
	cpu->s.fp.sw &= (uint16_t)~X87_C1;
	if (!x87_empty(cpu, 0))
		return x87_st(cpu, 0);
	if (!x87_stack_fault(cpu, false))
		x87_write(cpu, 0, X87_INDEFINITE);
	return NULL;
}

static void change_sign(struct x86_cpu *cpu, uint16_t keep, uint16_t flip)
{
	struct x86_fpreg *r = st0(cpu);

	if (r)
		r->sexp = (r->sexp & keep) ^ flip;
}
PLAIN(fchs, change_sign(cpu, 0xffff, 0x8000))
PLAIN(fabs_, change_sign(cpu, 0x7fff, 0))

static void exchange(struct x86_cpu *cpu, unsigned r)
{
	struct x86_fpreg t;

	cpu->s.fp.sw &= (uint16_t)~X87_C1;
	if (x87_empty(cpu, 0) || x87_empty(cpu, r)) {
		if (x87_stack_fault(cpu, false))
			return;
		if (x87_empty(cpu, 0))
			x87_write(cpu, 0, X87_INDEFINITE);
		if (x87_empty(cpu, r))
			x87_write(cpu, r, X87_INDEFINITE);
	}
	t = *x87_st(cpu, 0);
	*x87_st(cpu, 0) = *x87_st(cpu, r);
	*x87_st(cpu, r) = t;
}
PLAIN(fxch, exchange(cpu, i->modrm & 7))

/* Low bits of the opcode and ModRM.reg pick the condition: B, E, BE, U and their opposites. */
static void conditional(struct x86_cpu *cpu, const struct x86_insn *i)
{
	unsigned r = i->modrm & 7;
	bool on = false;

	switch (i->modrm >> 3 & 3) {
	case 0:
		on = x86_lazy_cf(&cpu->lazy);
		break;
	case 1:
		on = x86_lazy_zf(&cpu->lazy);
		break;
	case 2:
		on = x86_lazy_cf(&cpu->lazy) || x86_lazy_zf(&cpu->lazy);
		break;
	case 3:
		on = x86_lazy_pf(&cpu->lazy);
		break;
	}
	on ^= i->op & 1;
	if (x87_empty(cpu, 0) || x87_empty(cpu, r)) {
		if (!x87_stack_fault(cpu, false))
			x87_write(cpu, 0, X87_INDEFINITE);
	} else if (on) {
		x87_write(cpu, 0, *x87_st(cpu, r));
	}
}
PLAIN(fcmov, conditional(cpu, i))

/* --- constants: rounded as RC says --- */

#define CONSTANT(name)                                                                                                 \
	HANDLER(name)                                                                                                  \
	{                                                                                                              \
		struct x86_fpreg r;                                                                                    \
		uint16_t cw = x87_host_cw(cpu);                                                                        \
		x86_fpu_enter(cpu, true);                                                                              \
		x87_note(cpu, i);                                                                                      \
		__asm__ volatile("fldcw %[cw]\n\t" #name "\n\tfstpt %[r]\n\tfldcw %[host]"                             \
				 : [r] "=m"(r)                                                                         \
				 : [cw] "m"(cw), [host] "m"(host_cw)                                                   \
				 : "st");                                                                              \
		push_value(cpu, r, 0);                                                                                 \
		return x86_next(cpu, i);                                                                               \
	}
CONSTANT(fld1)
CONSTANT(fldl2t)
CONSTANT(fldl2e)
CONSTANT(fldpi)
CONSTANT(fldlg2)
CONSTANT(fldln2)
CONSTANT(fldz)

/* --- the stack itself --- */

static void set_free(struct x86_cpu *cpu, unsigned r)
{
	cpu->s.fp.valid &= (uint8_t) ~(1u << x87_phys(cpu, r));
	cpu->s.fp.sw &= (uint16_t)~X87_C1;
}

PLAIN(fnop, )
PLAIN(ffree, set_free(cpu, i->modrm & 7))
PLAIN(ffreep, (set_free(cpu, i->modrm & 7), x87_pop(cpu)))
PLAIN(fincstp, (x87_set_top(cpu, x87_top(cpu) + 1), cpu->s.fp.sw &= (uint16_t)~X87_C1))
PLAIN(fdecstp, (x87_set_top(cpu, x87_top(cpu) - 1), cpu->s.fp.sw &= (uint16_t)~X87_C1))

/* What the 8087 and the 80287 had for themselves. */
HANDLER(feni)
{
	x86_fpu_enter(cpu, false);
	return x86_next(cpu, i);
}

#define MEM(op, ext, fn)                                                                                               \
	{                                                                                                              \
		X86_MAP_1, op, 1, 0, X86_MOD_MEM, 1 + ext, 0, 0, 0, {}, X86_ALL(fn), #fn                               \
	}
#define REG(op, ext, fn)                                                                                               \
	{                                                                                                              \
		X86_MAP_1, op, 1, 0, X86_MOD_REG, 1 + ext, 0, 0, 0, X86_ALL(fn), {}, #fn                               \
	}
#define ONE(op, ext, rm, fn)                                                                                           \
	{                                                                                                              \
		X86_MAP_1, op, 1, 0, X86_MOD_REG, 1 + ext, 1 + rm, 0, 0, X86_ALL(fn), {}, #fn                          \
	}
static const struct x86_opdef rows[] = {
	MEM(0xd9, 0, fld_m32),	 MEM(0xd9, 2, fst_m32),	   MEM(0xd9, 3, fstp_m32),   MEM(0xdb, 0, fild_m32),
	MEM(0xdb, 2, fist_m32),	 MEM(0xdb, 3, fistp_m32),  MEM(0xdb, 5, fld_m80),    MEM(0xdb, 7, fstp_m80),
	MEM(0xdd, 0, fld_m64),	 MEM(0xdd, 2, fst_m64),	   MEM(0xdd, 3, fstp_m64),   MEM(0xdf, 0, fild_m16),
	MEM(0xdf, 2, fist_m16),	 MEM(0xdf, 3, fistp_m16),  MEM(0xdf, 4, fbld),	     MEM(0xdf, 5, fild_m64),
	MEM(0xdf, 6, fbstp),	 MEM(0xdf, 7, fistp_m64),  REG(0xd9, 0, fld_sti),    REG(0xd9, 1, fxch),
	REG(0xdd, 1, fxch),	 REG(0xdf, 1, fxch),	   ONE(0xd9, 2, 0, fnop),    REG(0xd9, 3, fstpnce),
	ONE(0xd9, 4, 0, fchs),	 ONE(0xd9, 4, 1, fabs_),   ONE(0xd9, 5, 0, fld1),    ONE(0xd9, 5, 1, fldl2t),
	ONE(0xd9, 5, 2, fldl2e), ONE(0xd9, 5, 3, fldpi),   ONE(0xd9, 5, 4, fldlg2),  ONE(0xd9, 5, 5, fldln2),
	ONE(0xd9, 5, 6, fldz),	 ONE(0xd9, 6, 6, fdecstp), ONE(0xd9, 6, 7, fincstp), REG(0xda, 0, fcmov),
	REG(0xda, 1, fcmov),	 REG(0xda, 2, fcmov),	   REG(0xda, 3, fcmov),	     REG(0xdb, 0, fcmov),
	REG(0xdb, 1, fcmov),	 REG(0xdb, 2, fcmov),	   REG(0xdb, 3, fcmov),	     ONE(0xdb, 4, 0, feni),
	ONE(0xdb, 4, 1, feni),	 ONE(0xdb, 4, 4, feni),	   REG(0xdd, 0, ffree),	     REG(0xdf, 0, ffreep),
	REG(0xdd, 2, fst_sti),	 REG(0xdd, 3, fstp_sti),   REG(0xdf, 2, fstp_sti),   REG(0xdf, 3, fstp_sti),
};
X86_DEFS(x86_defs_x87_move, rows);

/* Truncation came with SSE3. */
static const struct x86_opdef fisttp_rows[] = {
	MEM(0xdb, 1, fisttp_m32),
	MEM(0xdd, 1, fisttp_m64),
	MEM(0xdf, 1, fisttp_m16),
};
X86_DEFS_OF(x86_defs_fisttp, fisttp_rows, X86_F_SSE3);
