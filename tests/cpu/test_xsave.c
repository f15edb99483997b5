/* XSAVE and its relatives, FXSAVE, XCR0. SDM vol. 1, chapter 13 and 10.5. */
#include "rig.h"

#include <string.h>

#include "base/bytes.h"

static struct rig r;

static void start(void)
{
	rig_reset(&r, RIG_LONG);
	r.s.cr4 |= X86_CR4_OSFXSR | X86_CR4_OSXSAVE;
	r.s.xcr0 = 3;
	r.s.mxcsr = 0x1f80;
	r.s.fp.cw = 0x37f;
	r.s.fp.valid = 0;
	r.s.gpr[X86_RSI] = RIG_DATA_AT;
	r.s.gpr[X86_RAX] = 3;
	mem_fill(r.vm.mem, gpa(RIG_DATA_AT), 0xcc, 0x400);
}

static int setup(void **state)
{
	rig_new(&r, RIG_LONG, "max,-avx,-pku");
	return 0;
}

static int teardown(void **state)
{
	rig_free(&r);
	return 0;
}

/* Hosts whose floating point is not the guest's do not offer it. */
static void begin(void)
{
	if (!x86_fp_host_ok()) {
		print_message("skipped: no floating point for guests on this host\n");
		skip();
	}
	start();
}

#define XSAVE	 0x0f, 0xae, 0x26
#define XRSTOR	 0x0f, 0xae, 0x2e
#define XSAVEOPT 0x0f, 0xae, 0x36
#define XSAVEC	 0x0f, 0xc7, 0x26
#define XSAVES	 0x0f, 0xc7, 0x2e
#define XRSTORS	 0x0f, 0xc7, 0x1e
#define WRMSR	 0x0f, 0x30
#define IA32_XSS 0xda0
#define XGETBV	 0x0f, 0x01, 0xd0
#define XSETBV	 0x0f, 0x01, 0xd1
#define FXSAVE	 0x0f, 0xae, 0x06
#define FXRSTOR	 0x0f, 0xae, 0x0e

static uint64_t area(unsigned at, unsigned size)
{
	return rig_read(&r, RIG_DATA_AT + at, size);
}

static void set_area(unsigned at, uint64_t v, unsigned size)
{
	rig_write(&r, RIG_DATA_AT + at, v, size);
}

/* A header that XRSTOR takes. */
static void header(uint64_t state_bv, uint64_t comp_bv)
{
	mem_fill(r.vm.mem, gpa(RIG_DATA_AT), 0, 0x240);
	set_area(24, 0x1f80, 4);
	set_area(0, 0x37f, 2);
	set_area(512, state_bv, 8);
	set_area(520, comp_bv, 8);
}

static void in_use(void)
{
	r.s.fp.sw = 3 << 11;
	r.s.fp.valid = 0x18;
	r.s.fp.r[3] = (struct x86_fpreg){ 0x8000000000000001, 0x3fff };
	r.s.vec[0].q[0] = 0x1111;
	r.s.vec[15].q[1] = 0xffff;
}

static void xsave_writes_what_is_asked_for(void **state)
{
	begin();
	in_use();
	header(4, 0);
	RIG_EXEC(&r, XSAVE);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(area(0, 2), 0x37f);
	assert_int_equal(area(2, 2), 3 << 11);
	assert_int_equal(area(4, 1), 0x18);
	assert_true(area(32, 8) == 0x8000000000000001); /* ST(0) is physical register 3 */
	assert_int_equal(area(40, 2), 0x3fff);
	assert_int_equal(area(24, 4), 0x1f80);
	assert_int_equal(area(28, 4), 0xffff);
	assert_int_equal(area(160, 8), 0x1111);
	assert_int_equal(area(160 + 248, 8), 0xffff);
	assert_int_equal(area(512, 8), 7); /* bits that were not asked for stay */
	/* Only SSE: the x87 bytes are not touched. */
	start();
	in_use();
	r.s.gpr[X86_RAX] = 2;
	set_area(512, 0, 8);
	set_area(520, 0, 8);
	RIG_EXEC(&r, XSAVE);
	assert_int_equal(area(0, 2), 0xcccc);
	assert_int_equal(area(32, 4), 0xcccccccc);
	assert_int_equal(area(160, 8), 0x1111);
	assert_int_equal(area(512, 8), 2);
	assert_int_equal(area(520, 8), 0);
	assert_int_equal(area(576, 4), 0xcccccccc);
	/* Only x87: MXCSR belongs to SSE. */
	start();
	r.s.gpr[X86_RAX] = 1;
	RIG_EXEC(&r, XSAVE);
	assert_int_equal(area(24, 4), 0xcccccccc);
}

static void components_in_their_initial_state_are_told(void **state)
{
	begin();
	set_area(512, 0, 8);
	RIG_EXEC(&r, XSAVE);
	assert_int_equal(area(512, 8), 0);
	assert_int_equal(area(0, 2), 0x37f); /* written all the same */
	start();
	set_area(512, 3, 8);
	RIG_EXEC(&r, XSAVEOPT);
	assert_int_equal(area(512, 8), 0);
	assert_int_equal(area(0, 2), 0xcccc);
	assert_int_equal(area(160, 2), 0xcccc);
	assert_int_equal(area(24, 4), 0x1f80); /* MXCSR always is */
	start();
	RIG_EXEC(&r, XSAVEC);
	assert_int_equal(area(512, 8), 0);
	assert_true(area(520, 8) == (1ull << 63 | 3));
	assert_int_equal(area(24, 4), 0xcccccccc);
	assert_int_equal(area(528, 4), 0xcccccccc);
	/* For XSAVEC, MXCSR is part of SSE. */
	start();
	r.s.mxcsr = 0x1fa0;
	RIG_EXEC(&r, XSAVEC);
	assert_int_equal(area(512, 8), 2);
	assert_int_equal(area(24, 4), 0x1fa0);
	/* XGETBV 1 tells the same. */
	start();
	r.s.gpr[X86_RCX] = 1;
	r.s.vec[9].q[1] = 1;
	RIG_EXEC(&r, XGETBV);
	assert_int_equal(rig_reg(&r, X86_RAX), 2);
}

static void xrstor_brings_it_back_or_initializes(void **state)
{
	begin();
	in_use();
	header(1, 0);
	set_area(0, 0x27f, 2);
	set_area(4, 1, 1);
	set_area(24, 0x1fa0, 4);
	set_area(160, 0x2222, 8);
	RIG_EXEC(&r, XRSTOR);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(r.s.fp.cw, 0x27f);
	assert_int_equal(r.s.fp.valid, 1);
	assert_int_equal(r.s.vec[0].q[0], 0); /* SSE was initial */
	assert_int_equal(r.s.vec[15].q[1], 0);
	assert_int_equal(r.s.mxcsr, 0x1fa0); /* in the standard form it is loaded anyway */
	/* Not asked for: not touched. */
	start();
	in_use();
	header(3, 0);
	r.s.gpr[X86_RAX] = 1;
	RIG_EXEC(&r, XRSTOR);
	assert_int_equal(r.s.vec[0].q[0], 0x1111);
	/* The compacted form, in which MXCSR is initial with SSE. */
	start();
	in_use();
	r.s.mxcsr = 0x1fa0;
	header(1, 1ull << 63 | 3);
	RIG_EXEC(&r, XRSTOR);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(r.s.vec[0].q[0], 0);
	assert_int_equal(r.s.mxcsr, 0x1f80);
}

static void a_header_that_lies_is_refused(void **state)
{
	static const struct {
		uint64_t state_bv, comp_bv, extra;
		uint16_t at; /* of `extra` */
	} cases[] = {
		{ 4, 0, 0, 0 },
		{ 3, 1, 0, 0 },		     /* no form has this */
		{ 3, 1ull << 63 | 7, 0, 0 }, /* beyond XCR0 */
		{ 3, 1ull << 63 | 1, 0, 0 }, /* state that the layout does not hold */
		{ 1ull << 63, 1ull << 63 | 3, 0, 0 },
		{ 3, 0, 1, 528 },
		{ 3, 1ull << 63 | 3, 1, 568 },
		{ 3, 0, 0x10000, 24 }, /* MXCSR */
	};

	begin();
	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		start();
		in_use();
		header(cases[n].state_bv, cases[n].comp_bv);
		if (cases[n].at)
			set_area(cases[n].at, cases[n].extra, 4);
		RIG_FAULTS(&r, X86_GP, 0, 0, XRSTOR);
		/* Nothing was loaded. */
		assert_int_equal(r.s.vec[0].q[0], 0x1111);
		assert_int_equal(r.s.fp.valid, 0x18);
	}
	/* The last 40 bytes of a standard header are ignored. */
	start();
	header(3, 0);
	set_area(536, 1, 4);
	RIG_EXEC(&r, XRSTOR);
	assert_int_equal(rig_vector(&r), -1);
}

static void each_needs_its_switches(void **state)
{
	begin();
	/* #UD without CR4.OSXSAVE, #NM with TS, #GP unless aligned to 64. */
	r.s.cr4 &= ~(uint64_t)X86_CR4_OSXSAVE;
	RIG_FAULTS(&r, X86_UD, 0, 0, XSAVE);
	start();
	r.s.cr4 &= ~(uint64_t)X86_CR4_OSXSAVE;
	RIG_FAULTS(&r, X86_UD, 0, 0, XGETBV);
	start();
	r.s.cr0 |= X86_CR0_TS;
	RIG_FAULTS(&r, X86_NM, 0, 0, XRSTOR);
	start();
	r.s.gpr[X86_RSI] += 32;
	RIG_FAULTS(&r, X86_GP, 0, 0, XSAVE);
	start();
	RIG_FAULTS(&r, X86_UD, 0, 0, 0xf0, XSAVE); /* lock */
	start();
	RIG_FAULTS(&r, X86_UD, 0, 0, 0x66, XGETBV);
	/* A page fault in the second page, with nothing written to the first. */
	start();
	rig_write(&r, 0x3000 + 8 * 0x100, RIG_TABLES | 7, 8);
	mem_fill(r.vm.mem, gpa(RIG_TABLES), 0, 0x1000);
	rig_write(&r, RIG_TABLES, 0x300007, 8);
	mem_fill(r.vm.mem, gpa(0x300000), 0xcc, 0x1000);
	r.s.gpr[X86_RSI] = 0x20000f00;
	RIG_FAULTS(&r, X86_PF_FAULT, 2, 0, XSAVE);
	assert_int_equal(rig_read(&r, 0x300f00, 4), 0xcccccccc);
}

static void xcr0_takes_what_the_model_has(void **state)
{
	static const struct {
		uint64_t value;
		uint32_t index;
		bool ok;
	} cases[] = {
		{ 1, 0, true },	 { 3, 0, true },  { 2, 0, false },
		{ 0, 0, false }, { 7, 0, false }, { 1ull << 32 | 3, 0, false },
		{ 3, 1, false },
	};

	begin();
	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		start();
		r.s.xcr0 = 1;
		r.s.gpr[X86_RAX] = (uint32_t)cases[n].value;
		r.s.gpr[X86_RDX] = cases[n].value >> 32;
		r.s.gpr[X86_RCX] = cases[n].index;
		RIG_EXEC(&r, XSETBV);
		assert_int_equal(rig_vector(&r), cases[n].ok ? -1 : X86_GP);
		assert_true(r.s.xcr0 == (cases[n].ok ? cases[n].value : 1));
	}
	/* Not for level 3, which may read it. */
	start();
	rig_user(&r);
	RIG_FAULTS(&r, X86_GP, 0, 0, XSETBV);
	start();
	rig_user(&r);
	RIG_EXEC(&r, XGETBV, 0x0f, 0x0b);
	assert_int_equal(rig_vector(&r), X86_UD);
	assert_int_equal(rig_reg(&r, X86_RAX), 3);
	start();
	r.s.gpr[X86_RCX] = 2;
	RIG_FAULTS(&r, X86_GP, 0, 0, XGETBV);
}

static void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	x86_cpuid(tiny_cpu(&r.vm), leaf, subleaf, out);
}

static void cpuid_tells_sizes_and_switches(void **state)
{
	uint32_t out[4];

	begin();
	RIG_EXEC(&r, 0x90);
	cpuid(1, 0, out);
	assert_int_equal(out[X86_CPUID_ECX] >> 26 & 3, 3); /* XSAVE and OSXSAVE */
	cpuid(0xd, 0, out);
	assert_int_equal(out[X86_CPUID_EAX], 3);
	assert_int_equal(out[X86_CPUID_EBX], 576);
	assert_int_equal(out[X86_CPUID_ECX], 576);
	assert_int_equal(out[X86_CPUID_EDX], 0);
	cpuid(0xd, 1, out);
	assert_int_equal(out[X86_CPUID_EAX], 15);
	assert_int_equal(out[X86_CPUID_EBX], 576);
	assert_int_equal(out[X86_CPUID_ECX] | out[X86_CPUID_EDX], 0); /* no bit of IA32_XSS */
	start();
	r.s.cr4 &= ~(uint64_t)X86_CR4_OSXSAVE;
	RIG_EXEC(&r, 0x90);
	cpuid(1, 0, out);
	assert_int_equal(out[X86_CPUID_ECX] >> 26 & 3, 1);
	/* Without XSAVE there is nothing of it. */
	rig_free(&r);
	rig_new(&r, RIG_LONG, "max,-xsave");
	cpuid(0xd, 0, out);
	assert_int_equal(out[X86_CPUID_EAX] | out[X86_CPUID_EBX] | out[X86_CPUID_ECX], 0);
	cpuid(0xd, 1, out);
	assert_int_equal(out[X86_CPUID_EAX] | out[X86_CPUID_EBX], 0);
	r.s.gpr[X86_RAX] = X86_CR4_PAE | X86_CR4_OSXSAVE;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x0f, 0x22, 0xe0);
	/* And a form that is switched off is undefined. */
	rig_free(&r);
	rig_new(&r, RIG_LONG, "max,-avx,-xsavec");
	start();
	RIG_FAULTS(&r, X86_UD, 0, 0, XSAVEC);
	start();
	header(3, 1ull << 63 | 3);
	RIG_FAULTS(&r, X86_GP, 0, 0, XRSTOR);
}

static void fxsave_and_fxrstor(void **state)
{
	begin();
	in_use();
	r.s.fp.ip = 0x123456789abc;
	r.s.fp.cs = 0x77;
	RIG_EXEC(&r, FXSAVE);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(area(8, 4), 0x56789abc);
	assert_int_equal(area(12, 2), 0x77);
	assert_int_equal(area(160 + 248, 8), 0xffff);
	assert_int_equal(area(416, 4), 0xcccccccc);
	/* With REX.W the instruction pointer has 64 bits. */
	start();
	r.s.fp.ip = 0x123456789abc;
	RIG_EXEC(&r, 0x48, FXSAVE);
	assert_true(area(8, 8) == 0x123456789abc);
	/* 32-bit code has half of the registers. */
	rig_reset(&r, RIG_PROT32);
	r.s.cr4 |= X86_CR4_OSFXSR;
	r.s.gpr[X86_RSI] = RIG_DATA_AT;
	mem_fill(r.vm.mem, gpa(RIG_DATA_AT), 0xcc, 0x400);
	RIG_EXEC(&r, FXSAVE);
	assert_int_equal(area(284, 4), 0);
	assert_int_equal(area(288, 4), 0xcccccccc);
	/* A reserved bit of MXCSR refuses all of it. */
	start();
	in_use();
	header(0, 0);
	set_area(24, 0x10000, 4);
	RIG_FAULTS(&r, X86_GP, 0, 0, FXRSTOR);
	assert_int_equal(r.s.fp.valid, 0x18);
	/* A flag that is not masked is pending. */
	start();
	header(0, 0);
	set_area(0, 0x37e, 2);
	set_area(2, 1, 2);
	RIG_EXEC(&r, FXRSTOR);
	assert_int_equal(r.s.fp.sw, 0x8081);
	start();
	r.s.gpr[X86_RSI] += 8;
	RIG_FAULTS(&r, X86_GP, 0, 0, FXSAVE);
	start();
	r.s.cr0 |= X86_CR0_EM;
	RIG_FAULTS(&r, X86_NM, 0, 0, FXSAVE);
}

/* --- the upper halves of the vector registers --- */

/* Hosts without AVX have none to give. */
static void begin_avx(void)
{
	rig_free(&r);
	rig_new(&r, RIG_LONG, "max,-pku");
	if (!(tiny_cpu(&r.vm)->vm->features->xcr0 & 4)) {
		print_message("skipped: no AVX for guests on this host\n");
		skip();
	}
	start();
	r.s.xcr0 = 7;
	r.s.gpr[X86_RAX] = 7;
	for (unsigned n = 0; n < 16; n++)
		r.s.vec[n] = (union x86_vec){ .q = { n, 0, 0x100 + n, 0x200 + n } };
}

static void avx_state_is_saved_and_restored(void **state)
{
	begin_avx();
	header(0, 0);
	RIG_EXEC(&r, XSAVE);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(area(512, 8), 6);
	assert_int_equal(area(576, 8), 0x100);
	assert_int_equal(area(576 + 16 * 15 + 8, 8), 0x20f);
	/* Each component by itself; an initial one is cleared. */
	begin_avx();
	header(4, 0);
	set_area(576 + 16, 0x1234, 8);
	r.s.gpr[X86_RAX] = 4;
	RIG_EXEC(&r, XRSTOR);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(r.s.vec[1].q[2], 0x1234);
	assert_true(r.s.vec[2].q[2] == 0xcccccccccccccccc);
	assert_int_equal(r.s.vec[2].q[0], 2);
	begin_avx();
	header(0, 0);
	RIG_EXEC(&r, XRSTOR);
	assert_int_equal(r.s.vec[2].q[0] | r.s.vec[2].q[2] | r.s.vec[15].q[3], 0);
	/* Compacted, of SSE and AVX only; what is initial is not written. */
	begin_avx();
	for (unsigned n = 0; n < 16; n++)
		r.s.vec[n].q[2] = r.s.vec[n].q[3] = 0;
	r.s.gpr[X86_RAX] = 6;
	RIG_EXEC(&r, XSAVEC);
	assert_int_equal(area(512, 8), 2);
	assert_true(area(520, 8) == (1ull << 63 | 6));
	assert_int_equal(area(576, 4), 0xcccccccc);
	/* Not enabled: not touched, and refused in a header. */
	begin_avx();
	r.s.xcr0 = 3;
	header(7, 0);
	RIG_FAULTS(&r, X86_GP, 0, 0, XRSTOR);
	begin_avx();
	r.s.xcr0 = 3;
	header(0, 0);
	RIG_EXEC(&r, XRSTOR);
	assert_int_equal(r.s.vec[2].q[2], 0x102);
}

static void avx_has_its_switches(void **state)
{
	static const struct {
		uint64_t value;
		bool ok;
	} xcr0[] = { { 1, true }, { 3, true }, { 7, true }, { 5, false }, { 4, false }, { 6, false }, { 0x17, false } };
	uint32_t out[4];

	for (unsigned n = 0; n < ARRAY_LEN(xcr0); n++) {
		begin_avx();
		r.s.gpr[X86_RAX] = xcr0[n].value;
		r.s.gpr[X86_RDX] = r.s.gpr[X86_RCX] = 0;
		RIG_EXEC(&r, XSETBV);
		assert_int_equal(rig_vector(&r), xcr0[n].ok ? -1 : X86_GP);
	}
	begin_avx();
	RIG_EXEC(&r, 0x90);
	cpuid(0xd, 0, out);
	assert_int_equal(out[X86_CPUID_EAX], 7);
	assert_int_equal(out[X86_CPUID_EBX], 832);
	assert_int_equal(out[X86_CPUID_ECX], 832);
	cpuid(0xd, 2, out);
	assert_int_equal(out[X86_CPUID_EAX], 256);
	assert_int_equal(out[X86_CPUID_EBX], 576);
	assert_int_equal(out[X86_CPUID_ECX], 0);
	/* VPXOR xmm0: #UD without OSXSAVE, or without either bit of XCR0; #NM with TS; then the rest of YMM0 is zero.
	 */
#define VPXOR 0xc5, 0xf9, 0xef, 0xc0
	begin_avx();
	r.s.cr4 &= ~(uint64_t)X86_CR4_OSXSAVE;
	RIG_FAULTS(&r, X86_UD, 0, 0, VPXOR);
	begin_avx();
	r.s.xcr0 = 3;
	RIG_FAULTS(&r, X86_UD, 0, 0, VPXOR);
	begin_avx();
	r.s.cr0 |= X86_CR0_TS;
	RIG_FAULTS(&r, X86_NM, 0, 0, VPXOR);
	begin_avx();
	RIG_EXEC(&r, VPXOR);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(r.s.vec[0].q[2] | r.s.vec[0].q[3], 0);
}

/* --- XSAVES, XRSTORS, IA32_XSS --- */

static void supervisors_have_a_compacted_form_of_their_own(void **state)
{
	begin_avx();
	header(0, 0);
	r.s.gpr[X86_RAX] = 6;
	r.s.gpr[X86_RDX] = ~0u; /* what is not enabled is not saved */
	RIG_EXEC(&r, XSAVES);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(area(512, 8), 6);
	assert_true(area(520, 8) == (1ull << 63 | 6));
	assert_int_equal(area(576 + 16 * 15 + 8, 8), 0x20f);
	/* Back again; what is initial in it is initialized. */
	begin_avx();
	header(4, 1ull << 63 | 6);
	set_area(576 + 16 * 15 + 8, 0x1234, 8);
	set_area(24, 0x1fc0, 4); /* not looked at while SSE is initial */
	r.s.mxcsr = 0x1fa0;
	RIG_EXEC(&r, XRSTORS);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(r.s.vec[15].q[3], 0x1234);
	assert_int_equal(r.s.vec[15].q[0], 0);
	assert_int_equal(r.s.mxcsr, 0x1f80);
	/* Components that are initial are not written. */
	begin_avx();
	for (unsigned n = 0; n < 16; n++)
		r.s.vec[n] = (union x86_vec){ 0 };
	RIG_EXEC(&r, XSAVES);
	assert_int_equal(area(512, 8), 0);
	assert_int_equal(area(160, 4) & area(576, 4), 0xcccccccc);
}

static void supervisors_refuse_what_is_not_compacted(void **state)
{
	static const struct {
		uint64_t state_bv, comp_bv;
	} cases[] = {
		{ 3, 0 },			   /* the standard form */
		{ 3, 1ull << 63 | 1 },		   /* state that the layout does not hold */
		{ 3, 1ull << 63 | 7 },		   /* beyond XCR0 and IA32_XSS */
		{ 3, 1ull << 63 | 1ull << 8 | 3 }, /* a supervisor's component */
		{ 1ull << 63, 1ull << 63 | 3 },
	};

	begin();
	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		start();
		in_use();
		header(cases[n].state_bv, cases[n].comp_bv);
		RIG_FAULTS(&r, X86_GP, 0, 0, XRSTORS);
		assert_int_equal(r.s.vec[0].q[0], 0x1111);
	}
	start();
	header(3, 1ull << 63 | 3);
	set_area(568, 1, 4);
	RIG_FAULTS(&r, X86_GP, 0, 0, XRSTORS);
	start();
	r.s.gpr[X86_RSI] += 32;
	RIG_FAULTS(&r, X86_GP, 0, 0, XSAVES);
	start();
	r.s.cr0 |= X86_CR0_TS;
	RIG_FAULTS(&r, X86_NM, 0, 0, XSAVES);
	/* Level 3 has neither. */
	start();
	rig_user(&r);
	RIG_FAULTS(&r, X86_GP, 0, 0, XSAVES);
	start();
	rig_user(&r);
	RIG_FAULTS(&r, X86_GP, 0, 0, XRSTORS);
	start();
	r.s.cr4 &= ~(uint64_t)X86_CR4_OSXSAVE;
	RIG_FAULTS(&r, X86_UD, 0, 0, XSAVES);
	rig_free(&r);
	rig_new(&r, RIG_LONG, "max,-avx,-xsaves");
	start();
	RIG_FAULTS(&r, X86_UD, 0, 0, XSAVES);
	start();
	RIG_FAULTS(&r, X86_UD, 0, 0, XRSTORS);
}

static void ia32_xss_has_no_component_to_take(void **state)
{
	begin();
	for (unsigned bit = 0; bit < 64; bit++) {
		start();
		r.s.gpr[X86_RCX] = IA32_XSS;
		r.s.gpr[X86_RAX] = bit < 32 ? 1u << bit : 0;
		r.s.gpr[X86_RDX] = bit < 32 ? 0 : 1u << (bit - 32);
		RIG_FAULTS(&r, X86_GP, 0, 0, WRMSR);
	}
	start();
	r.s.gpr[X86_RCX] = IA32_XSS;
	r.s.gpr[X86_RAX] = r.s.gpr[X86_RDX] = 0;
	RIG_EXEC(&r, WRMSR);
	assert_int_equal(rig_vector(&r), -1);
	rig_free(&r);
	rig_new(&r, RIG_LONG, "max,-xsaves");
	r.s.gpr[X86_RCX] = IA32_XSS;
	r.s.gpr[X86_RAX] = r.s.gpr[X86_RDX] = 0;
	RIG_FAULTS(&r, X86_GP, 0, 0, WRMSR);
}

/* --- PKRU --- */

#define KEYS  0x200
#define MOVED 2432u /* where another processor has it */

static void begin_pku(const char *model, uint32_t pkru)
{
	rig_free(&r);
	rig_new(&r, RIG_LONG, model);
	begin();
	mem_fill(r.vm.mem, gpa(RIG_DATA_AT), 0xcc, 0x1000);
	header(0, 0);
	r.s.cr4 |= X86_CR4_PKE;
	r.s.xcr0 = KEYS | 3;
	r.s.pkru = pkru;
	r.s.gpr[X86_RAX] = KEYS;
}

static void pkru_is_a_component(void **state)
{
	uint32_t out[4];
	unsigned at;

	begin_pku("max,-avx", 0x12345678);
	cpuid(0xd, 9, out);
	at = out[X86_CPUID_EBX];
	assert_int_equal(out[X86_CPUID_EAX], 8);
	assert_int_equal(out[X86_CPUID_ECX] | out[X86_CPUID_EDX], 0);
	assert_true(at >= 832 && at <= 4088);
	RIG_EXEC(&r, XSAVE);
	cpuid(0xd, 0, out);
	assert_int_equal(out[X86_CPUID_EAX], KEYS | 3);
	assert_int_equal(out[X86_CPUID_EBX], at + 8);
	assert_int_equal(out[X86_CPUID_ECX], at + 8);
	cpuid(0xd, 1, out);
	assert_int_equal(out[X86_CPUID_EBX], 584);
	assert_int_equal(area(512, 8), KEYS);
	assert_int_equal(area(at, 8), 0x12345678);
	assert_int_equal(area(at + 8, 4), 0xcccccccc);
	assert_int_equal(area(576, 4), 0xcccccccc);
	/* Initial: told, and written by XSAVE alone. */
	begin_pku("max,-avx", 0);
	RIG_EXEC(&r, XSAVEOPT);
	assert_int_equal(area(512, 8), 0);
	assert_int_equal(area(at, 4), 0xcccccccc);
	/* Back again; the upper half is nothing. What the TLB has allowed before is not any more. */
	begin_pku("max,-avx", 0);
	header(KEYS, 0);
	set_area(at, 0xffffffff00000004, 8);
	rig_write(&r, 0x3000 + 8 * 0x100, 1ull << 59 | 0x87, 8); /* key 1 */
	r.s.gpr[X86_RDI] = 0x20000000;
	RIG_FAULTS(&r, X86_PF_FAULT, 33, 5, 0x8b, 0x1f, XRSTOR, 0x8b, 0x1f); /* mov ebx, [rdi] */
	assert_int_equal(r.s.pkru, 4);
	begin_pku("max,-avx", 0xfffffffc);
	RIG_EXEC(&r, XRSTOR);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(r.s.pkru, 0);
	/* Compacted, it follows those of the layout. */
	begin_pku("max,-avx", 4);
	RIG_EXEC(&r, XSAVEC);
	assert_true(area(520, 8) == (1ull << 63 | KEYS));
	assert_int_equal(area(576, 8), 4);
	begin_pku("max,-avx", 0);
	header(KEYS, 1ull << 63 | KEYS | 3);
	set_area(576, 8, 8);
	RIG_EXEC(&r, XRSTOR);
	assert_int_equal(r.s.pkru, 8);
	if (x86_feature_possible(X86_F_AVX)) {
		begin_pku("max", 4);
		r.s.xcr0 = KEYS | 7;
		r.s.gpr[X86_RAX] = KEYS | 7;
		r.s.vec[0].q[2] = 1;
		RIG_EXEC(&r, XSAVEC);
		assert_int_equal(area(832, 8), 4);
	}
	/* A machine that was saved elsewhere keeps its layout. */
	begin_pku("max,-avx", 0x5554);
	tiny_cpu(&r.vm)->vm->model.features->pkru_at = MOVED;
	RIG_EXEC(&r, XSAVE);
	assert_int_equal(area(MOVED, 8), 0x5554);
	cpuid(0xd, 9, out);
	assert_int_equal(out[X86_CPUID_EBX], MOVED);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(xsave_writes_what_is_asked_for),
		TEST(components_in_their_initial_state_are_told),
		TEST(xrstor_brings_it_back_or_initializes),
		TEST(a_header_that_lies_is_refused),
		TEST(each_needs_its_switches),
		TEST(xcr0_takes_what_the_model_has),
		TEST(cpuid_tells_sizes_and_switches),
		TEST(fxsave_and_fxrstor),
		TEST(avx_state_is_saved_and_restored),
		TEST(avx_has_its_switches),
		TEST(supervisors_have_a_compacted_form_of_their_own),
		TEST(supervisors_refuse_what_is_not_compacted),
		TEST(ia32_xss_has_no_component_to_take),
		TEST(pkru_is_a_component),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
