/* Control registers, MSRs, CPUID, and what privilege, UMIP and the CPU model forbid. */
#include "rig.h"

#include <string.h>
#include <time.h>

#include "base/bytes.h"

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

/* The low 16 MiB are the supervisor's, so that SMEP and SMAP can be switched on. */
static void supervisor_pages(void)
{
	for (unsigned n = 0; n < 8; n++)
		rig_write(&r, 0x3000 + 8 * n, (uint64_t)n << 21 | 0x83, 8);
}

/* --- control registers --- */

#define TO_CR(n) 0x0f, 0x22, 0xc0 | (n) << 3

static void impossible_control_registers(void **state)
{
	static const struct {
		enum rig_mode mode;
		uint64_t value;
		uint8_t cr;
		bool ok;
	} cases[] = {
		{ RIG_LONG, X86_CR0_PE | X86_CR0_PG | X86_CR0_WP, 0, true },
		{ RIG_LONG, X86_CR0_PG, 0, false },
		{ RIG_LONG, X86_CR0_PE | X86_CR0_PG | X86_CR0_NW, 0, false },
		{ RIG_LONG, X86_CR0_PE | X86_CR0_PG | X86_CR0_NW | X86_CR0_CD, 0, true },
		{ RIG_LONG, X86_CR0_PE | X86_CR0_PG | 1ull << 32, 0, false },
		{ RIG_LONG, X86_CR0_PE, 0, false }, /* 64-bit code cannot switch paging off */
		{ RIG_LONG, 1ull << 46 | RIG_CR3, 3, false },
		{ RIG_LONG, RIG_CR3 | 0x18, 3, true },
		{ RIG_LONG, 0, 4, false },			/* long mode needs PAE */
		{ RIG_LONG, X86_CR4_PAE | 1u << 14, 4, false }, /* SMX */
		{ RIG_LONG, X86_CR4_PAE | 1u << 12, 4, false }, /* LA57 */
		{ RIG_LONG, X86_CR4_PAE | 1ull << 32, 4, false },
		{ RIG_LONG, X86_CR4_PAE | X86_CR4_MCE | X86_CR4_PGE | X86_CR4_SMEP | X86_CR4_SMAP | X86_CR4_UMIP, 4,
		  true },
		{ RIG_LONG, 15, 8, true },
		{ RIG_LONG, 16, 8, false },
		{ RIG_PROT32, X86_CR4_PSE | X86_CR4_DE | X86_CR4_TSD, 4, true },
	};

	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		uint8_t code[] = { cases[n].cr == 8 ? 0x44 : 0x90, TO_CR(cases[n].cr & 7), 0xf4 };

		rig_reset(&r, cases[n].mode);
		supervisor_pages();
		r.s.gpr[X86_RAX] = cases[n].value;
		rig_exec(&r, code, sizeof(code));
		assert_int_equal(rig_vector(&r), cases[n].ok ? -1 : X86_GP);
	}
	/* Others do not exist. */
	for (unsigned cr = 1; cr < 16; cr++) {
		uint8_t code[] = { cr > 7 ? 0x44 : 0x90, 0x0f, 0x20, (uint8_t)(0xc0 | (cr & 7) << 3), 0xf4 };

		rig_reset(&r, RIG_LONG);
		rig_exec(&r, code, sizeof(code));
		assert_int_equal(rig_vector(&r), cr == 2 || cr == 3 || cr == 4 || cr == 8 ? -1 : X86_UD);
	}
}

static void long_mode_is_entered_by_its_rules(void **state)
{
	/* LME and PG need PAE. */
	rig_reset(&r, RIG_PROT32);
	r.s.efer = X86_EFER_LME;
	r.s.gpr[X86_RAX] = X86_CR0_PE | X86_CR0_PG;
	RIG_FAULTS(&r, X86_GP, 0, 0, TO_CR(0));
	rig_reset(&r, RIG_PROT32);
	r.s.efer = X86_EFER_LME;
	r.s.cr4 = X86_CR4_PAE;
	r.s.cr3 = RIG_CR3;
	r.s.gpr[X86_RAX] = X86_CR0_PE | X86_CR0_PG;
	RIG_EXEC(&r, TO_CR(0));
	assert_int_equal(rig_vector(&r), -1);
	assert_true(r.s.efer & X86_EFER_LMA);
	/* And left. */
	rig_reset(&r, RIG_COMPAT);
	r.s.gpr[X86_RAX] = X86_CR0_PE;
	RIG_EXEC(&r, TO_CR(0));
	assert_int_equal(rig_vector(&r), -1);
	assert_false(r.s.efer & X86_EFER_LMA);
	/* LME does not change while paging is on. */
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RCX] = 0xc0000080;
	r.s.gpr[X86_RAX] = X86_EFER_LMA;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x0f, 0x30);
}

static void lmsw_sets_pe_but_does_not_clear_it(void **state)
{
	rig_reset(&r, RIG_PROT32);
	r.s.gpr[X86_RAX] = X86_CR0_TS;
	RIG_EXEC(&r, 0x0f, 0x01, 0xf0);
	assert_true(r.s.cr0 & X86_CR0_PE);
	assert_true(r.s.cr0 & X86_CR0_TS);
	assert_true(r.s.cr0 & X86_CR0_NE); /* bits 31:4 stay */
}

/* --- privilege --- */

static void level_3_may_not(void **state)
{
	static const uint8_t codes[][6] = {
		{ 0xf4 },
		{ 0xfa },
		{ 0xfb },
		{ 0x0f, 0x01, 0x16 }, /* lgdt */
		{ 0x0f, 0x01, 0x1e },
		{ 0x0f, 0x00, 0xd0 },
		{ 0x0f, 0x00, 0xd8 },
		{ 0x0f, 0x20, 0xc0 },
		{ 0x0f, 0x22, 0xc0 },
		{ 0x0f, 0x21, 0xc0 },
		{ 0x0f, 0x23, 0xc0 },
		{ 0x0f, 0x01, 0x3e }, /* invlpg */
		{ 0x0f, 0x06 },
		{ 0x0f, 0x01, 0xf0 },
		{ 0x0f, 0x32 },
		{ 0x0f, 0x30 },
		{ 0x0f, 0x09 },
		{ 0x0f, 0x08 },
		{ 0xe6, 0x80 },
		{ 0xec },
		{ 0x0f, 0x33 },
		{ 0x66, 0x0f, 0x38, 0x82, 0x0e },
	};

	for (unsigned n = 0; n < ARRAY_LEN(codes); n++) {
		rig_reset(&r, RIG_LONG);
		rig_user(&r);
		r.s.gpr[X86_RSI] = RIG_DATA_AT;
		r.s.gpr[X86_RCX] = 0x10;
		rig_exec(&r, codes[n], sizeof(codes[n]));
		assert_int_equal(rig_vector(&r), X86_GP);
		assert_int_equal(rig_pushed(&r, 0), 0);
		assert_int_equal(rig_pushed(&r, 1), RIG_CODE);
	}
	/* CLAC and STAC are undefined there. */
	rig_reset(&r, RIG_LONG);
	rig_user(&r);
	RIG_FAULTS(&r, X86_UD, 0, 0, 0x0f, 0x01, 0xcb);
}

static void umip_hides_the_tables(void **state)
{
	static const uint8_t codes[][5] = {
		{ 0x0f, 0x01, 0x06, 0x0f, 0x0b }, { 0x0f, 0x01, 0x0e, 0x0f, 0x0b }, { 0x0f, 0x00, 0xc0, 0x0f, 0x0b },
		{ 0x0f, 0x00, 0xc8, 0x0f, 0x0b }, { 0x0f, 0x01, 0xe0, 0x0f, 0x0b },
	};

	for (unsigned on = 0; on < 2; on++) {
		for (unsigned n = 0; n < ARRAY_LEN(codes); n++) {
			rig_reset(&r, RIG_LONG);
			rig_user(&r);
			r.s.cr4 |= on ? X86_CR4_UMIP : 0;
			r.s.gpr[X86_RSI] = RIG_DATA_AT;
			rig_exec(&r, codes[n], sizeof(codes[n]));
			assert_int_equal(rig_vector(&r), on ? X86_GP : X86_UD);
		}
	}
	/* The kernel may. */
	rig_reset(&r, RIG_LONG);
	r.s.cr4 |= X86_CR4_UMIP;
	r.s.gpr[X86_RSI] = RIG_DATA_AT;
	RIG_EXEC(&r, 0x0f, 0x01, 0x06);
	assert_int_equal(rig_read(&r, RIG_DATA_AT, 2), 0xff);
	assert_int_equal(rig_read(&r, RIG_DATA_AT + 2, 8), RIG_GDT);
}

static void tsd_keeps_the_time_from_level_3(void **state)
{
	for (unsigned tsd = 0; tsd < 2; tsd++) {
		rig_reset(&r, RIG_LONG);
		rig_user(&r);
		r.s.cr4 |= tsd ? X86_CR4_TSD : 0;
		RIG_EXEC(&r, 0x0f, 0x31, 0x0f, 0x0b);
		assert_int_equal(rig_vector(&r), tsd ? X86_GP : X86_UD);
	}
}

static void real_mode_has_no_system_segments(void **state)
{
	static const uint8_t codes[][3] = { { 0x0f, 0x00, 0xd0 }, { 0x0f, 0x00, 0xd8 }, { 0x0f, 0x00, 0xc0 },
					    { 0x0f, 0x02, 0xc0 }, { 0x0f, 0x00, 0xe0 }, { 0x63, 0xc0, 0x90 } };

	for (unsigned n = 0; n < ARRAY_LEN(codes); n++) {
		rig_reset(&r, RIG_REAL);
		rig_exec(&r, codes[n], 3);
		assert_int_equal(rig_vector(&r), X86_UD);
	}
}

/* --- MSRs --- */

static int wrmsr(uint32_t msr, uint64_t v)
{
	static const uint8_t code[] = { 0x0f, 0x30, 0xf4 };

	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RCX] = msr;
	r.s.gpr[X86_RAX] = (uint32_t)v;
	r.s.gpr[X86_RDX] = v >> 32;
	rig_exec(&r, code, sizeof(code));
	return rig_vector(&r);
}

static void msrs_take_what_they_can_hold(void **state)
{
	static const uint64_t high = 1ull << 47, kernel = 0xffff800000000000;
	const struct {
		uint32_t msr;
		uint64_t v;
		bool ok;
	} cases[] = {
		{ 0xc0000082, kernel, true },
		{ 0xc0000082, high, false },
		{ 0xc0000083, high, false },
		{ 0xc0000084, 1ull << 32, false },
		{ 0xc0000084, 0xffffffff, true },
		{ 0xc0000100, high, false },
		{ 0xc0000101, high, false },
		{ 0xc0000102, high, false },
		{ 0xc0000102, kernel, true },
		{ 0xc0000103, 1ull << 32, false },
		{ 0xc0000103, 5, true },
		{ 0x277, 0x0007040600070406, true },
		{ 0x277, 2, false },
		{ 0x277, 8, false },
		{ 0x2ff, 0xc06, true },
		{ 0x2ff, 0xc02, false },
		{ 0x2ff, 0x100, false },
		{ 0x200, 6, true },
		{ 0x200, 7, false },
		{ 0x200, 1ull << 46, false },
		{ 0x201, 0x800, true },
		{ 0x201, 1, false },
		{ 0x250, 0x0606060606060606, true },
		{ 0x250, 2, false },
		{ 0xfe, 0, false },
		{ 0x8b, 0, true },
		{ 0x179, 0, false },
		{ 0x17b, ~0ull, true },
		{ 0x17b, 1, false },
		{ 0x400, ~0ull, true },
		{ 0x400, 2, false },
		{ 0x401, 0, true },
		{ 0x401, 1, false },
		{ 0x402, 1ull << 63 | 1, true },
		{ 0x428, 0, false },
		{ 0x48, 0, false },
		{ 0x49, 1, false },
		{ 0x1d9, 2, true },
		{ 0x1d9, 4, false },
		{ 0xc0000080, 1 << 12, false },
		{ 0xc0000080, X86_EFER_LME | X86_EFER_LMA | 1, true },
		{ 0x3a, 0, false },
		{ 0x12345678, 0, false },
		{ 0xc0010000, 1, true },
	};

	for (unsigned n = 0; n < ARRAY_LEN(cases); n++)
		assert_int_equal(wrmsr(cases[n].msr, cases[n].v), cases[n].ok ? -1 : X86_GP);
	assert_int_equal(wrmsr(0x277, 0x0007040600070404), -1);
	assert_true(r.s.pat == 0x0007040600070404);
	/* Last-branch records are not kept, and it does not look as if they were. */
	assert_int_equal(wrmsr(0x1d9, 3), -1);
	assert_int_equal(r.s.debugctl, 2);
	/* None of the others can be read. */
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RCX] = 0x12345678;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x0f, 0x32);
}

static int rdmsr(uint32_t msr, uint64_t *v)
{
	static const uint8_t code[] = { 0x0f, 0x32, 0xf4 };

	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RCX] = msr;
	rig_exec(&r, code, sizeof(code));
	*v = rig_reg(&r, X86_RDX) << 32 | rig_reg(&r, X86_RAX);
	return rig_vector(&r);
}

static void msrs_follow_the_vendor_and_the_features(void **state)
{
	uint64_t v;

	assert_int_equal(wrmsr(0x175, 1ull << 47), -1); /* AMD keeps 32 bits */
	assert_int_equal(r.s.sysenter_esp, 0);
	rig_free(&r);
	rig_new(&r, RIG_LONG, "max,vendor=GenuineIntel,-mtrr,-rdtscp,-mca");
	assert_int_equal(wrmsr(0x175, 1ull << 47), X86_GP);
	assert_int_equal(wrmsr(0x175, 0xffff800000000000), -1);
	assert_true(r.s.sysenter_esp == 0xffff800000000000);
	assert_int_equal(wrmsr(0xc0010000, 0), X86_GP);
	assert_int_equal(wrmsr(0x2ff, 0), X86_GP);
	assert_int_equal(wrmsr(0x200, 0), X86_GP);
	assert_int_equal(wrmsr(0x400, 0), X86_GP);
	assert_int_equal(wrmsr(0xc0000103, 0), X86_GP);
	assert_int_equal(rdmsr(0xfe, &v), X86_GP);
	assert_int_equal(rdmsr(0x179, &v), X86_GP);
	rig_reset(&r, RIG_LONG);
	RIG_FAULTS(&r, X86_UD, 0, 0, 0x0f, 0x01, 0xf9); /* rdtscp */
}

/* Bit 0 says whether the host polls; the others are reserved. */
static void kvms_poll_control_has_one_bit(void **state)
{
	static const uint64_t bad[] = { 2, 3, 1ull << 32, ~0ull };
	uint64_t v;

	assert_int_equal(rdmsr(0x4b564d05, &v), -1);
	assert_true(v == 1);
	for (size_t n = 0; n < ARRAY_LEN(bad); n++)
		assert_int_equal(wrmsr(0x4b564d05, bad[n]), X86_GP);
	assert_true(r.s.kvm_poll_control == 1);
	for (uint64_t good = 0; good < 2; good++) {
		assert_int_equal(wrmsr(0x4b564d05, good), -1);
		assert_true(r.s.kvm_poll_control == good);
	}
}

/* What Windows, the BSDs and Xen look at while they boot: it is there, constant, and takes what they write. */
static void msrs_that_kernels_probe(void **state)
{
	enum { A = 1 << X86_AMD, I = 1 << X86_INTEL };
	static const struct {
		uint32_t msr;
		uint8_t on;		   /* vendors; a #GP with the others */
		uint64_t value, good, bad; /* what can be written; 0 as `good` and `bad`: nothing at all */
	} cases[] = {
		{ 0x17, I, 0, 0, 0 },
		{ 0x2a, I, 0, 0, 0 },
		{ 0x34, I, 0, 0, 0 },
		{ 0x79, I, 0, 0x1000, 0 },
		{ 0xcd, I, 3, 0, 0 },
		{ 0xce, I, 0, 0, 0 },
		{ 0xfe, A | I, 0x508, 0, 0 },
		{ 0x11e, I, 0xbe702111, 0, 0 },
		{ 0x179, A | I, 0x100 | X86_MC_BANKS, 0, 0 },
		{ 0x198, I, 1000 | 4ull << 40, 0, 0 },
		{ 0x199, I, 0, 0x800, 0 },
		{ 0x1db, A | I, 0, 0, 0 },
		{ 0x1de, A | I, 0, 0, 0 },
		{ 0x606, I, 0, 0, 0 },
		{ 0x611, I, 0, 0, 0 },
		{ 0x641, I, 0, 0, 0 },
		{ 0xc0010000, A, 0, 0x530076, 0 },
		{ 0xc0010007, A, 0, 1, 0 },
		{ 0xc0010010, A, 0, 1 << 18, 0 },
		{ 0xc0010015, A, 1 << 24, 1 << 24 | 1 << 6 | 1 << 8, 1ull << 40 },
		{ 0xc001001f, A, 0, 1ull << 46, 0 },
		{ 0xc0010020, A, 0, 0x1000, 0 },
		{ 0xc0010055, A, 0, 0, 0 },
		{ 0xc0010061, A, 0, 0, 0 },
		{ 0xc0010062, A, 0, 1, 8 },
		{ 0xc0010063, A, 0, 0, 0 },
		{ 0xc001006b, A, 0, 0, 0 },
		{ 0xc0010112, A, 0, 0, 0 },
		{ 0xc0010113, A, 0, 0, 0 },
		{ 0xc0010117, A, 0, 0x5000, 0 },
		{ 0xc0011020, A, 0, 1ull << 54, 0 },
		{ 0xc0011021, A, 0, 2, 0 },
		{ 0xc0011022, A, 0, 8, 0 },
		{ 0xc0011023, A, 0, 1, 0 },
		{ 0xc0011029, A, 2, 3, 0 },
		{ 0xc001102a, A, 0, 1, 0 },
		{ 0xc001102c, A, 0, 1, 0 },
		/* 0 alone can be written. */
		{ 0x140, I, 0, 0, 1 },
		{ 0xc0010058, A, 0, 0, 0xe0000001 },
		{ 0xc0010114, A, 0, 0, 1 << 4 },
		/* They belong to what is not offered. */
		{ 0x33, 0, 0, 0, 0 },
		{ 0x3a, 0, 0, 0, 0 },
		{ 0x10a, 0, 0, 0, 0 },
		{ 0x19a, 0, 0, 0, 0 },
		{ 0x19b, 0, 0, 0, 0 },
		{ 0x19c, 0, 0, 0, 0 },
		{ 0x1ad, 0, 0, 0, 0 },
		{ 0x345, 0, 0, 0, 0 },
		{ 0x480, 0, 0, 0, 0 },
		{ 0xc0010140, 0, 0, 0, 0 },
		{ 0xc0010141, 0, 0, 0, 0 },
		{ 0xc0010200, 0, 0, 0, 0 },
	};
	uint64_t v;

	for (unsigned vendor = 0; vendor < X86_VENDORS; vendor++) {
		rig_free(&r);
		rig_new(&r, RIG_LONG, vendor == X86_AMD ? "max" : "max,vendor=GenuineIntel");
		for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
			bool there = cases[n].on >> vendor & 1;

			assert_int_equal(rdmsr(cases[n].msr, &v), there ? -1 : X86_GP);
			assert_true(!there || v == cases[n].value);
			assert_int_equal(wrmsr(cases[n].msr, cases[n].good),
					 there && (cases[n].good || cases[n].bad) ? -1 : X86_GP);
			if (cases[n].bad)
				assert_int_equal(wrmsr(cases[n].msr, cases[n].bad), X86_GP);
			/* Nothing of it was kept. */
			assert_true(!there || (rdmsr(cases[n].msr, &v) == -1 && v == cases[n].value));
		}
		/* The revision of the microcode: above on Intel's, below on AMD's. */
		assert_int_equal(wrmsr(0x8b, 0), -1);
		assert_int_equal(rdmsr(0x8b, &v), -1);
		assert_true(v == (vendor == X86_AMD ? 0x01000065 : 1ull << 32));
	}
}

static void the_tsc_can_be_set(void **state)
{
	uint64_t v;

	/* wrmsr 10h <- 2^40; then rdmsr */
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RCX] = 0x10;
	r.s.gpr[X86_RDX] = 1 << 8;
	RIG_EXEC(&r, 0x0f, 0x30, 0x0f, 0x32);
	v = rig_reg(&r, X86_RDX) << 32 | rig_reg(&r, X86_RAX);
	assert_true(v >= 1ull << 40 && v < (1ull << 40) + 100000000000);
	/* TSC_ADJUST moves it by as much as it moves itself. */
	uint64_t before = r.s.tsc_offset, adjust = r.s.tsc_adjust;
	r.s.gpr[X86_RIP] = RIG_CODE;
	r.s.run = X86_RUNNING;
	r.s.gpr[X86_RCX] = 0x3b;
	r.s.gpr[X86_RAX] = (uint32_t)(adjust + 1000);
	r.s.gpr[X86_RDX] = (adjust + 1000) >> 32;
	RIG_EXEC(&r, 0x0f, 0x30);
	assert_int_equal(r.s.tsc_offset - before, 1000);
}

/* --- CPUID --- */

static void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	x86_cpuid(tiny_cpu(&r.vm), leaf, subleaf, out);
}

/* Bytes that end with a zero, then HLT. */
static void exec_text(const uint8_t *code)
{
	uint8_t buf[9];
	unsigned n = 0;

	for (; code[n]; n++)
		buf[n] = code[n];
	buf[n] = 0xf4;
	rig_exec(&r, buf, n + 1);
}

/* An instruction of a feature that the model lacks is undefined, or what it was before there was the feature. */
static void instructions_go_with_their_features(void **state)
{
	static const struct {
		const char *model;
		uint8_t code[8];
		int vector; /* with the model; -1 with all features */
		bool fpu;   /* only where the host has floating point */
	} cases[] = {
		{ "max,-bmi1", { 0xc4, 0xe2, 0x70, 0xf2, 0xc3 }, X86_UD }, /* ANDN EAX, ECX, EBX */
		{ "max,-bmi2", { 0xc4, 0xe2, 0x72, 0xf5, 0xc3 }, X86_UD }, /* PEXT */
		{ "max,-movbe", { 0x0f, 0x38, 0xf0, 0x06 }, X86_UD },	   /* MOVBE EAX, [RSI] */
		{ "max,-popcnt", { 0xf3, 0x0f, 0xb8, 0xc3 }, X86_UD },
		{ "max,-adx", { 0x66, 0x0f, 0x38, 0xf6, 0xc3 }, X86_UD },
		{ "max,-rdrand", { 0x0f, 0xc7, 0xf0 }, X86_UD },
		{ "max,-rdseed", { 0x0f, 0xc7, 0xf8 }, X86_UD },
		{ "max,-rdpid", { 0xf3, 0x0f, 0xc7, 0xf8 }, X86_UD },
		{ "max,-clflushopt", { 0x66, 0x0f, 0xae, 0x3e }, X86_UD },
		{ "max,-clwb", { 0x66, 0x0f, 0xae, 0x36 }, X86_UD },
		{ "max,-cx16", { 0x48, 0x0f, 0xc7, 0x0e }, X86_UD }, /* CMPXCHG16B [RSI] */
		{ "max,-cx8", { 0x0f, 0xc7, 0x0e }, X86_UD },
		{ "max,-lahf-lm", { 0x9f }, X86_UD },
		{ "max,-lahf-lm", { 0x9e }, X86_UD },
		{ "max,-cmov", { 0x0f, 0x44, 0xc3 }, X86_UD },
		{ "max,-tsc", { 0x0f, 0x31 }, X86_UD },
		{ "max,-msr", { 0x0f, 0x32 }, X86_UD },
		{ "max,-clflush", { 0x0f, 0xae, 0x3e }, X86_UD },
		{ "max,-cmov", { 0xda, 0xc9 }, X86_UD, true }, /* FCMOVE */
		{ "max,-cmov", { 0xdf, 0xf1 }, X86_UD, true }, /* FCOMIP */
		{ "max,-mmx", { 0x0f, 0xef, 0xc1 }, X86_UD, true },
		{ "max,-mmx", { 0x0f, 0x77 }, X86_UD, true },
		{ "max,-fxsr", { 0x0f, 0xae, 0x06 }, X86_UD, true },
		{ "max,-sse", { 0x0f, 0x58, 0xc1 }, X86_UD, true },
		{ "max,-sse", { 0xf3, 0x0f, 0x10, 0xc1 }, X86_UD, true },
		{ "max,-sse", { 0x0f, 0xda, 0xc1 }, X86_UD, true }, /* PMINUB on MMX registers */
		{ "max,-sse", { 0x0f, 0xae, 0xf8 }, X86_UD, true },
		{ "max,-sse2", { 0x66, 0x0f, 0x58, 0xc1 }, X86_UD, true },
		{ "max,-sse2", { 0x0f, 0x5a, 0xc1 }, X86_UD, true },
		{ "max,-sse2", { 0x0f, 0xfb, 0xc1 }, X86_UD, true }, /* PSUBQ on MMX registers */
		{ "max,-sse2", { 0x0f, 0xae, 0xe8 }, X86_UD, true },
		{ "max,-sse2", { 0x0f, 0xc3, 0x06 }, X86_UD, true },
		{ "max,-bmi1", { 0xf3, 0x0f, 0xbc, 0xc3 }, -1 }, /* TZCNT is BSF then */
		{ "max,-abm", { 0xf3, 0x0f, 0xbd, 0xc3 }, -1 },	 /* LZCNT is BSR */
		{ "max", { 0x0f, 0x01, 0xc8 }, X86_UD },	 /* MONITOR, MWAIT: not in CPUID */
		{ "max", { 0x0f, 0x01, 0xc9 }, X86_UD },
	};
	uint32_t out[4];

	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		if (!x86_feature_possible(X86_F_FPU) && cases[n].fpu)
			continue; /* a host without floating point */
		rig_free(&r);
		rig_new(&r, RIG_PROT32, cases[n].model);
		/* Without MSRs there is no 64-bit mode. */
		rig_reset(&r, tiny_cpu(&r.vm)->vm->features->on[X86_F_LM] ? RIG_LONG : RIG_PROT32);
		r.s.gpr[X86_RAX] = 5;
		r.s.gpr[X86_RBX] = 0x100;
		r.s.gpr[X86_RSI] = RIG_DATA_AT;
		r.s.cr4 |= tiny_cpu(&r.vm)->vm->features->cr4 & X86_CR4_OSFXSR;
		exec_text(cases[n].code);
		if (cases[n].vector >= 0)
			assert_int_equal(rig_vector(&r), cases[n].vector);
		else
			assert_int_equal(rig_reg(&r, X86_RAX), 8);
		if (strcmp(cases[n].model, "max") == 0)
			continue;
		if (cases[n].vector < 0)
			continue;
		rig_free(&r);
		rig_new(&r, RIG_LONG, "max");
		rig_reset(&r, RIG_LONG);
		r.s.gpr[X86_RSI] = RIG_DATA_AT;
		r.s.cr4 |= tiny_cpu(&r.vm)->vm->features->cr4 & X86_CR4_OSFXSR;
		exec_text(cases[n].code);
		assert_int_not_equal(rig_vector(&r), X86_UD);
	}
	cpuid(1, 0, out);
	assert_false(out[X86_CPUID_ECX] >> 3 & 1);
}

/* Xen clears pages by it before it has switched SSE on. */
static void movnti_needs_no_switch(void **state)
{
	if (!x86_fp_host_ok()) {
		print_message("skipped: no SSE here\n");
		skip();
	}
	for (unsigned n = 0; n < 3; n++) {
		rig_reset(&r, RIG_LONG);
		r.s.cr4 &= ~(uint64_t)X86_CR4_OSFXSR;
		r.s.cr0 |= n == 1 ? X86_CR0_TS : n == 2 ? X86_CR0_EM : 0;
		r.s.gpr[X86_RSI] = RIG_DATA_AT;
		r.s.gpr[X86_RAX] = 0x1122334455667788;
		rig_write(&r, RIG_DATA_AT, 0, 8);
		RIG_EXEC(&r, 0x48, 0x0f, 0xc3, 0x06, 0x0f, 0xc3, 0x46, 0x04);
		assert_int_equal(rig_read(&r, RIG_DATA_AT, 8), 0x5566778855667788);
	}
}

static void random_numbers_are_told_by_carry(void **state)
{
	uint64_t before = 0;
	unsigned different = 0;

	/* RDRAND, then RDSEED of 64 bits: all flags but CF are cleared. */
	for (unsigned n = 0; n < 8; n++) {
		rig_reset(&r, RIG_LONG);
		r.s.rflags |= X86_ARITH;
		exec_text(n & 1 ? (const uint8_t *)"\x48\x0f\xc7\xf8" : (const uint8_t *)"\x48\x0f\xc7\xf0");
		assert_int_equal(rig_vector(&r), -1);
		assert_int_equal(r.s.rflags & X86_ARITH, X86_CF);
		different += rig_reg(&r, X86_RAX) != before;
		before = rig_reg(&r, X86_RAX);
	}
	assert_int_equal(different, 8);
	/* 16 bits leave the rest, 32 clear it. */
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RAX] = 0x1234567812345678;
	RIG_EXEC(&r, 0x66, 0x0f, 0xc7, 0xf0);
	assert_true(rig_reg(&r, X86_RAX) >> 16 == 0x123456781234);
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RAX] = ~0ull;
	RIG_EXEC(&r, 0x0f, 0xc7, 0xf0);
	assert_true(rig_reg(&r, X86_RAX) >> 32 == 0);
	/* RDPID: what RDTSCP puts into ECX. */
	rig_reset(&r, RIG_LONG);
	r.s.tsc_aux = 0x77;
	RIG_EXEC(&r, 0xf3, 0x0f, 0xc7, 0xf8);
	assert_int_equal(rig_reg(&r, X86_RAX), 0x77);
	/* Counted time comes out the same each time: there are none. */
	rig_free(&r);
	rig_new_counted(&r, RIG_LONG, NULL);
	rig_reset(&r, RIG_LONG);
	RIG_FAULTS(&r, X86_UD, 0, 0, 0x0f, 0xc7, 0xf0);
}

static void cpuid_says_what_the_model_is(void **state)
{
	uint32_t out[4];

	cpuid(0, 0, out);
	assert_memory_equal(&out[X86_CPUID_EBX], "Auth", 4);
	cpuid(0x80000008, 0, out);
	assert_int_equal(out[X86_CPUID_EAX], 48 << 8 | 46);
	cpuid(0xb, 1, out);
	assert_int_equal(out[X86_CPUID_EBX], 1);
	assert_int_equal(out[X86_CPUID_ECX], 0x201);
	cpuid(0x4000, 0, out);
	assert_int_equal(out[0] | out[1] | out[2] | out[3], 0);
	if (!x86_feature_possible(X86_F_SSE3)) /* which qemu64 has */
		return;			       /* a host without floating point */
	rig_free(&r);
	rig_new(&r, RIG_LONG, "qemu64,vendor=GenuineIntel,phys-bits=40,+pcid");
	cpuid(0, 0, out);
	assert_memory_equal(&out[X86_CPUID_EBX], "Genu", 4);
	cpuid(1, 0, out);
	assert_int_equal(out[X86_CPUID_EAX], 0x60fb1);
	assert_true(out[X86_CPUID_ECX] >> 17 & 1); /* PCID */
	assert_false(out[X86_CPUID_ECX] >> 26 & 1);
	cpuid(7, 0, out);
	assert_int_equal(out[X86_CPUID_EBX] & (1u << 7 | 1u << 20), 0); /* SMEP, SMAP */
	cpuid(0x80000008, 0, out);
	assert_int_equal(out[X86_CPUID_EAX] & 0xff, 40);
}

/* What CPUID does not offer cannot be switched on, and the other way round. */
static void cr4_and_cpuid_agree(void **state)
{
	static const struct {
		const char *model;
		uint32_t cr4;
	} cases[] = {
		{ "max,-smep", X86_CR4_SMEP },
		{ "max,-smap", X86_CR4_SMAP },
		{ "max,-umip", X86_CR4_UMIP },
		{ "max,-pcid", X86_CR4_PCIDE },
		{ "max,-fsgsbase", X86_CR4_FSGSBASE },
		{ "max,-pge", X86_CR4_PGE },
		{ "max,-de", X86_CR4_DE },
		{ "max,-mce", X86_CR4_MCE },
		{ "max,-xsave", X86_CR4_OSXSAVE },
	};

	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		for (unsigned with = 0; with < 2; with++) {
			rig_free(&r);
			rig_new(&r, RIG_LONG, with ? "max" : cases[n].model);
			if (with && !(tiny_cpu(&r.vm)->vm->features->cr4 & cases[n].cr4))
				continue; /* a host without floating point */
			supervisor_pages();
			r.s.gpr[X86_RAX] = X86_CR4_PAE | cases[n].cr4;
			RIG_EXEC(&r, TO_CR(4));
			assert_int_equal(rig_vector(&r), with ? -1 : X86_GP);
		}
	}
}

static void the_apics_bit_goes_with_its_enable(void **state)
{
	uint32_t out[4];

	cpuid(1, 0, out);
	assert_true(out[X86_CPUID_EDX] >> 9 & 1);
	r.vm.apic_base = 0xfee00100;
	cpuid(1, 0, out);
	assert_false(out[X86_CPUID_EDX] >> 9 & 1);
}

/* CPUID takes tens of microseconds where the host is a virtual machine: each start asks ten thousand times. */
static void the_host_is_asked_once(void **state)
{
	struct timespec begin, end;

	x86_host_has(X86_F_AVX2);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
	for (unsigned n = 0; n < 1000000; n++)
		x86_host_has(n % X86_FEATURE_COUNT);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
	assert_int_equal(end.tv_sec - begin.tv_sec - (end.tv_nsec < begin.tv_nsec), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(impossible_control_registers),
		TEST(long_mode_is_entered_by_its_rules),
		TEST(lmsw_sets_pe_but_does_not_clear_it),
		TEST(level_3_may_not),
		TEST(umip_hides_the_tables),
		TEST(tsd_keeps_the_time_from_level_3),
		TEST(real_mode_has_no_system_segments),
		TEST(msrs_take_what_they_can_hold),
		TEST(msrs_follow_the_vendor_and_the_features),
		TEST(kvms_poll_control_has_one_bit),
		TEST(msrs_that_kernels_probe),
		TEST(the_tsc_can_be_set),
		TEST(instructions_go_with_their_features),
		TEST(movnti_needs_no_switch),
		TEST(random_numbers_are_told_by_carry),
		TEST(cpuid_says_what_the_model_is),
		TEST(cr4_and_cpuid_agree),
		TEST(the_apics_bit_goes_with_its_enable),
		TEST(the_host_is_asked_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
