/* x87 and MMX between instructions of other kinds: what stays, and what is remembered of the last instruction. */
#include "rig.h"

#include <string.h>

static struct rig r;

static int setup(void **state)
{
	rig_new(&r, RIG_LONG, NULL);
	return 0;
}

static int teardown(void **state)
{
	rig_free(&r);
	return 0;
}

#define ABSENT 0x80000000u /* beyond what is mapped */

static void start(void)
{
	rig_reset(&r, RIG_LONG);
	r.s.cr4 |= X86_CR4_OSFXSR;
	r.s.fp = (struct x86_x87){ .cw = 0x37f };
	r.s.gpr[X86_RDI] = RIG_DATA_AT;
	r.s.gpr[X86_RSI] = ABSENT;
	rig_write(&r, RIG_DATA_AT, 0x4008000000000000, 8); /* 3.0 */
}

/* The CPU models of other hosts have none. */
static bool absent(void)
{
	if (x86_feature_possible(X86_F_SSE2))
		return false;
	print_message("skipped: no floating point here\n");
	skip();
	return true;
}

static void expect_last(unsigned at, unsigned op, uint64_t dp)
{
	assert_int_equal(r.s.fp.ip, rig_ip(&r) + at);
	assert_int_equal(r.s.fp.op, op);
	assert_int_equal(r.s.fp.cs, r.s.seg[X86_CS].sel);
	assert_true(r.s.fp.dp == dp);
}

static struct x86_fpreg st(unsigned n)
{
	return r.s.fp.r[((r.s.fp.sw >> 11) + n) & 7];
}

#define FLD1  0xd9, 0xe8
#define FLDZ  0xd9, 0xee
#define FLDPI 0xd9, 0xeb
#define CPUID 0x31, 0xc0, 0x0f, 0xa2
#define PI    0xc90fdaa22168c235ull

static void it_stays_while_others_run(void **state)
{
	if (absent())
		return;
	start();
	r.s.vec[3].q[0] = 0x1111;
	/* movq xmm4, xmm3; fld1; fldpi; mov rax, [rdi]; cpuid; paddq xmm4, xmm4; fldz; fadd qword [rdi]; cpuid; fxch */
	RIG_EXEC(&r, 0xf3, 0x0f, 0x7e, 0xe3, FLD1, FLDPI, 0x48, 0x8b, 0x07, CPUID, 0x66, 0x0f, 0xd4, 0xe4, FLDZ, 0xdc,
		 0x07, CPUID, 0xd9, 0xc9);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(r.s.fp.sw, 5 << 11);
	assert_int_equal(r.s.fp.cw, 0x37f);
	assert_int_equal(r.s.fp.valid, 0xe0);
	assert_true(st(0).mant == PI && st(0).sexp == 0x4000);
	assert_true(st(1).mant == 0xc000000000000000 && st(1).sexp == 0x4000);
	assert_true(st(2).mant == 1ull << 63 && st(2).sexp == 0x3fff);
	assert_int_equal(r.s.vec[4].q[0], 0x2222);
	/* FXCH names no operand: that of FADD is still the last one. */
	expect_last(27, 0x1c9, RIG_DATA_AT);
}

static void the_stack_may_be_full_or_empty(void **state)
{
	if (absent())
		return;
	start();
	/* Nine are one too many: ST0 becomes the indefinite, and the stack fault is told with C1. */
	RIG_EXEC(&r, FLD1, FLD1, FLD1, FLD1, CPUID, FLD1, FLD1, FLD1, FLDPI, CPUID, FLDZ);
	assert_int_equal(r.s.fp.sw, 7 << 11 | 0x241);
	assert_int_equal(r.s.fp.valid, 0xff);
	assert_true(st(0).mant == 0xc000000000000000 && st(0).sexp == 0xffff);
	assert_true(st(1).mant == PI);
	start();
	RIG_EXEC(&r, 0xde, 0xc1); /* faddp */
	assert_int_equal(r.s.fp.sw, 1 << 11 | 0x41);
}

static void the_last_instruction_is_remembered(void **state)
{
	if (absent())
		return;
	start();
	/* fld qword [rdi]; fst dword [rdi + 16]; fnstenv [rdi + 64]: the environment has no note of itself */
	RIG_EXEC(&r, 0xdd, 0x07, 0xd9, 0x57, 0x10, 0xd9, 0x77, 0x40);
	expect_last(2, 0x157, RIG_DATA_AT + 16);
	assert_int_equal(rig_read(&r, RIG_DATA_AT + 64 + 12, 4), rig_ip(&r) + 2);
	assert_int_equal(rig_read(&r, RIG_DATA_AT + 64 + 20, 4), RIG_DATA_AT + 16);
	assert_int_equal(rig_read(&r, RIG_DATA_AT + 16, 4), 0x40400000);
	/* Also by a store that ends its block: fld1; fistp word [rip + 2]; mov ax, 7777h becomes mov ax, 1. */
	start();
	RIG_EXEC(&r, FLD1, 0xdf, 0x1d, 2, 0, 0, 0, 0x66, 0xb8, 0x77, 0x77);
	assert_int_equal(rig_reg(&r, X86_RAX), 1);
	expect_last(2, 0x71d, rig_ip(&r) + 10);
	/* With FS the offset is remembered, and the selector. */
	start();
	r.s.seg[X86_FS].base = 0x1000;
	r.s.seg[X86_FS].sel = RIG_UDATA;
	RIG_EXEC(&r, 0x64, 0xdd, 0x87, 0, 0xf0, 0xff, 0xff); /* fld qword fs:[rdi - 0x1000] */
	expect_last(0, 0x587, RIG_DATA_AT - 0x1000);
	assert_int_equal(r.s.fp.ds, RIG_UDATA);
	assert_true(st(0).mant == 0xc000000000000000 && st(0).sexp == 0x4000);
}

static void one_that_faults_is_not_remembered(void **state)
{
	if (absent())
		return;
	start();
	RIG_FAULTS(&r, 14, 0, 4, 0xdd, 0x07, FLD1, 0xdc, 0x06); /* fld qword [rdi]; fld1; fadd qword [rsi] */
	expect_last(2, 0x1e8, RIG_DATA_AT);
	assert_int_equal(r.s.fp.valid, 0xc0);
	start();
	RIG_FAULTS(&r, 14, 2, 4, 0xdd, 0x07, FLD1, 0xdd, 0x1e); /* fstp qword [rsi] */
	expect_last(2, 0x1e8, RIG_DATA_AT);
	assert_int_equal(r.s.fp.valid, 0xc0);
	assert_int_equal(r.s.fp.sw, 6 << 11);
}

static void an_exception_may_be_unmasked(void **state)
{
	if (absent())
		return;
	start();
	rig_write(&r, RIG_DATA_AT + 8, 0x37b, 2);
	/* fld1; fldz; fldcw [rdi + 8]; fdivp; mov eax, 1; fwait: the division by zero waits for the last of them */
	RIG_FAULTS(&r, 16, 0, 14, FLD1, FLDZ, 0xd9, 0x6f, 8, 0xde, 0xf9, 0xb8, 1, 0, 0, 0, 0x9b);
	expect_last(7, 0x6f9, 0);
	assert_int_equal(r.s.gpr[X86_RAX], 1);
	assert_int_equal(r.s.fp.cw, 0x37b);
	assert_int_equal(r.s.fp.sw, 6 << 11 | 0x8084);
	assert_int_equal(r.s.fp.valid, 0xc0);
	/* By an instruction that is left to its handler, in the middle of a block: fldenv, after fnstenv. */
	start();
	RIG_FAULTS(&r, 16, 0, 19, FLD1, FLDZ, 0xd9, 0x77, 0x40, 0x66, 0xc7, 0x47, 0x40, 0x7b, 3, 0xd9, 0x67, 0x40, 0xde,
		   0xf9, 0x90, 0x9b);
	expect_last(16, 0x6f9, 0);
	assert_int_equal(r.s.fp.valid, 0xc0);
	/* One that waits already is found by the first one: with the flag set and masked, unmask it. */
	start();
	rig_write(&r, RIG_DATA_AT + 8, 0x37b, 2);
	RIG_FAULTS(&r, 16, 0, 11, FLD1, FLDZ, 0xde, 0xf9, 0xd9, 0x6f, 8, 0xdf, 0xe0,
		   FLD1); /* fnstsw ax does not wait */
	assert_int_equal(r.s.gpr[X86_RAX] & 0x80ff, 0x8084);
}

static void compares_and_conditional_moves(void **state)
{
	if (absent())
		return;
	start();
	/* fld1; fldpi; fcom; fnstsw ax; fcomi; seta bl; fcmovnbe st1; fcomi; setz cl */
	RIG_EXEC(&r, FLD1, FLDPI, 0xd8, 0xd1, 0xdf, 0xe0, 0xdb, 0xf1, 0x0f, 0x97, 0xc3, 0xdb, 0xd1, 0xdb, 0xf1, 0x0f,
		 0x94, 0xc1);
	assert_int_equal(r.s.gpr[X86_RAX] & 0xffff, 6 << 11);
	assert_int_equal(r.s.gpr[X86_RBX] & 0xff, 1);
	assert_int_equal(r.s.gpr[X86_RCX] & 0xff, 1);
	assert_true(st(0).mant == 1ull << 63);
}

static void mmx_shares_the_registers(void **state)
{
	if (absent())
		return;
	start();
	r.s.gpr[X86_RAX] = 0x01020304;
	/* fld1; movd mm0, eax; paddb mm0, mm0; cpuid; movq [rdi], mm0; punpcklbw mm1, [rdi] */
	RIG_EXEC(&r, FLD1, 0x0f, 0x6e, 0xc0, 0x0f, 0xfc, 0xc0, CPUID, 0x0f, 0x7f, 0x07, 0x0f, 0x60, 0x0f);
	assert_int_equal(rig_read(&r, RIG_DATA_AT, 8), 0x02040608);
	assert_int_equal(r.s.fp.valid, 0xff);
	assert_int_equal(r.s.fp.sw, 0);
	assert_true(r.s.fp.r[0].mant == 0x02040608 && r.s.fp.r[0].sexp == 0xffff);
	assert_true(r.s.fp.r[1].mant == 0x0200040006000800);
	assert_true(r.s.fp.r[7].mant == 1ull << 63 && r.s.fp.r[7].sexp == 0x3fff);
	expect_last(0, 0x1e8, 0);
	start();
	RIG_EXEC(&r, 0x0f, 0xfc, 0xc0, 0x0f, 0x77); /* paddb mm0, mm0; emms */
	assert_int_equal(r.s.fp.valid, 0);
}

static void the_hosts_own_is_left_alone(void **state)
{
#if defined(__x86_64__)
	uint8_t env[28];
	uint16_t cw, sw, tags;

	start();
	rig_write(&r, RIG_DATA_AT + 8, 0x07f, 2);
	RIG_EXEC(&r, 0xd9, 0x6f, 8, FLD1, FLDZ, 0xd8, 0xf9, FLDPI, FLDPI); /* fldcw [rdi + 8]; ...; fdivr */
	__asm__ volatile("fnstenv %0\n\tfldenv %0" : "+m"(env));
	memcpy(&cw, env, 2);
	memcpy(&sw, env + 4, 2);
	memcpy(&tags, env + 8, 2);
	assert_int_equal(cw, 0x37f);
	assert_int_equal(sw & ~0x4700, 0); /* but for conditions */
	assert_int_equal(tags, 0xffff);
	assert_int_equal(r.s.fp.cw, 0x07f);
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_stays_while_others_run),
		cmocka_unit_test(the_stack_may_be_full_or_empty),
		cmocka_unit_test(the_last_instruction_is_remembered),
		cmocka_unit_test(one_that_faults_is_not_remembered),
		cmocka_unit_test(an_exception_may_be_unmasked),
		cmocka_unit_test(compares_and_conditional_moves),
		cmocka_unit_test(mmx_shares_the_registers),
		cmocka_unit_test(the_hosts_own_is_left_alone),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
