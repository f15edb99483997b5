/*
 * Prefixes and the length of instructions, through the interpreter: which of several counts, what makes an instruction
 * undefined, and what comes first when it is too long or runs into a page that is not there. SDM vol. 2, 2.1 and 2.2.
 */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static const enum rig_mode modes[] = { RIG_LONG, RIG_COMPAT, RIG_PROT32, RIG_PROT16, RIG_REAL };

static int run_bytes(enum rig_mode mode, const uint8_t *code, size_t len)
{
	rig_reset(&r, mode);
	r.s.gpr[X86_RBX] = 0x800;
	r.s.gpr[X86_RDI] = r.s.gpr[X86_RSI] = 0x800;
	rig_exec(&r, code, len);
	return rig_vector(&r);
}

/* --- length --- */

static void fifteen_bytes_are_enough(void **state)
{
	uint8_t code[17];

	for (unsigned m = 0; m < ARRAY_LEN(modes); m++) {
		static const uint8_t prefixes[] = { 0x66, 0x67, 0x2e, 0x3e, 0x64, 0xf2, 0xf3 };

		for (unsigned p = 0; p < ARRAY_LEN(prefixes); p++) {
			memset(code, prefixes[p], sizeof(code));
			code[14] = 0x90;
			code[15] = 0xf4;
			assert_int_equal(run_bytes(modes[m], code, 16), -1);
			code[14] = prefixes[p];
			code[15] = 0x90;
			code[16] = 0xf4;
			assert_int_equal(run_bytes(modes[m], code, 17), X86_GP);
			assert_int_equal(rig_pushed(&r, modes[m] == RIG_REAL ? 0 : 1), rig_ip(&r));
			if (modes[m] != RIG_REAL)
				assert_int_equal(rig_pushed(&r, 0), 0);
		}
		/* Displacement and immediate count: mov [disp], imm has 6 bytes with 16 bits, else 10 or 11. */
		unsigned len = modes[m] == RIG_LONG || modes[m] == RIG_COMPAT || modes[m] == RIG_PROT32 ? 10 : 6;

		memset(code, 0x3e, sizeof(code));
		memcpy(code + 15 - len, (uint8_t[]){ 0xc7, len == 10 ? 0x83 : 0x87, 0, 0, 0, 0, 0, 0, 0, 0 }, len);
		code[15] = 0xf4;
		assert_int_equal(run_bytes(modes[m], code, 16), -1);
		memmove(code + 1, code, 16);
		assert_int_equal(run_bytes(modes[m], code, 17), X86_GP);
		/* LOCK makes it undefined, but that is seen when all of it is there. */
		code[0] = 0xf0;
		assert_int_equal(run_bytes(modes[m], code, 17), X86_GP);
		assert_int_equal(run_bytes(modes[m], (uint8_t[]){ 0xf0, 0x90 }, 2), X86_UD);
	}
}

/* The last bytes of a page; the page behind it is not present. */
static int run_at_end(const uint8_t *code, size_t len)
{
	const uint64_t end = RIG_CODE + 0x1000, table = RIG_TABLES;

	rig_reset(&r, RIG_LONG);
	rig_write(&r, 0x3000, table | 7, 8);
	for (unsigned n = 0; n < 512; n++)
		rig_write(&r, table + 8 * n, n == end >> 12 ? 0 : (uint64_t)n << 12 | 7, 8);
	r.s.gpr[X86_RIP] = end - len;
	r.s.gpr[X86_RBX] = 0x800;
	if (!mem_write(r.vm.mem, gpa(end - len), code, len))
		abort();
	rig_run(&r);
	return rig_vector(&r);
}

static void the_next_page_faults_only_when_it_is_needed(void **state)
{
	const uint64_t end = RIG_CODE + 0x1000;
	uint8_t code[16];

	/* Fifteen bytes that want a sixteenth: too long, whatever is there. */
	memset(code, 0x66, sizeof(code));
	assert_int_equal(run_at_end(code, 15), X86_GP);
	assert_int_equal(rig_pushed(&r, 0), 0);
	assert_int_equal(rig_pushed(&r, 1), end - 15);
	/* The fifteenth itself is there or not. */
	assert_int_equal(run_at_end(code, 14), X86_PF_FAULT);
	assert_int_equal(r.s.cr2, end);
	assert_int_equal(rig_pushed(&r, 1), end - 14);
	/* An immediate that is the sixteenth. */
	code[14] = 0xb0;
	assert_int_equal(run_at_end(code, 15), X86_GP);
	code[13] = 0xb0;
	assert_int_equal(run_at_end(code, 14), X86_PF_FAULT);
	assert_int_equal(run_at_end((uint8_t[]){ 0x48, 0xb8, 1, 2, 3 }, 5), X86_PF_FAULT);
	assert_int_equal(r.s.cr2, end);
	/* What is whole runs first; what is undefined by its opcode needs no more. */
	assert_int_equal(run_at_end((uint8_t[]){ 0xff, 0xc0 }, 2), X86_PF_FAULT);
	assert_int_equal(rig_pushed(&r, 1), end);
	assert_int_equal(rig_reg(&r, X86_RAX), 1);
	assert_int_equal(run_at_end((uint8_t[]){ 0x0f, 0x0b }, 2), X86_UD);
	assert_int_equal(run_at_end((uint8_t[]){ 0x06 }, 1), X86_UD);
	assert_int_equal(run_at_end((uint8_t[]){ 0x0f, 0x04 }, 2), X86_UD);
}

/* --- LOCK --- */

static void lock_is_for_updates_of_memory(void **state)
{
	static const struct {
		uint8_t code[6];
		bool ok;
	} cases[] = {
		{ { 0x00, 0x07 }, true }, /* add [], al: the first operand of the classic eight */
		{ { 0x09, 0x07 }, true },
		{ { 0x11, 0x07 }, true },
		{ { 0x19, 0x07 }, true },
		{ { 0x21, 0x07 }, true },
		{ { 0x29, 0x07 }, true },
		{ { 0x31, 0x07 }, true },
		{ { 0x39, 0x07 }, false }, /* but cmp */
		{ { 0x03, 0x07 }, false }, /* add ax, [] */
		{ { 0x01, 0xc7 }, false }, /* add of registers */
		{ { 0x80, 0x07, 1 }, true },
		{ { 0x83, 0x0f, 1 }, true },
		{ { 0x80, 0x3f, 1 }, false },
		{ { 0x83, 0xc7, 1 }, false },
		{ { 0xfe, 0x07 }, true },
		{ { 0xff, 0x0f }, true },
		{ { 0xfe, 0xc7 }, false },
		{ { 0xf6, 0x17 }, true },
		{ { 0xf7, 0x1f }, true },
		{ { 0xf6, 0x07, 1 }, false },
		{ { 0xf7, 0x27 }, false },
		{ { 0x86, 0x07 }, true },
		{ { 0x87, 0xc7 }, false },
		{ { 0x88, 0x07 }, false },
		{ { 0x84, 0x07 }, false },
		{ { 0xc6, 0x07, 1 }, false },
		{ { 0xd0, 0x27 }, false },
		{ { 0x0f, 0xb0, 0x07 }, true },
		{ { 0x0f, 0xc1, 0x07 }, true },
		{ { 0x0f, 0xc0, 0xc7 }, false },
		{ { 0x0f, 0xc7, 0x0f }, true },
		{ { 0x0f, 0xab, 0x07 }, true },
		{ { 0x0f, 0xb3, 0x07 }, true },
		{ { 0x0f, 0xbb, 0x07 }, true },
		{ { 0x0f, 0xa3, 0x07 }, false },
		{ { 0x0f, 0xba, 0x2f, 1 }, true },
		{ { 0x0f, 0xba, 0x27, 1 }, false },
		{ { 0x0f, 0xba, 0xe8, 1 }, false },
		{ { 0xa4 }, false },
		{ { 0x50 }, false },
		{ { 0x90 }, false },
		{ { 0x0f, 0x11, 0x07 }, false },
		{ { 0xf4 }, false },
	};

	for (unsigned m = 0; m < ARRAY_LEN(modes); m++) {
		for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
			uint8_t code[12];

			memset(code, 0xf4, sizeof(code));
			code[0] = 0xf0;
			for (unsigned k = 0; k < sizeof(cases[n].code) && (!k || cases[n].code[k]); k++)
				code[1 + k] = cases[n].code[k];
			if (run_bytes(modes[m], code, sizeof(code)) != (cases[n].ok ? -1 : X86_UD))
				fail_msg("mode %u, lock %02x %02x: %d", modes[m], code[1], code[2], rig_vector(&r));
			/* Where LOCK stands does not matter. */
			memmove(code + 2, code + 1, 8);
			code[0] = 0x66;
			code[1] = 0xf0;
			if (run_bytes(modes[m], code, sizeof(code)) != (cases[n].ok ? -1 : X86_UD))
				fail_msg("mode %u, 66 lock %02x %02x: %d", modes[m], code[2], code[3], rig_vector(&r));
		}
	}
}

/* --- REX --- */

static void rex_counts_right_before_the_opcode(void **state)
{
	static const struct {
		uint8_t code[8];
		uint64_t rax; /* from all ones, after inc */
	} cases[] = {
		{ { 0x48, 0xff, 0xc0 }, 0 },			    /* inc rax */
		{ { 0xff, 0xc0 }, 0 },				    /* inc eax: the upper half is cleared */
		{ { 0x66, 0xff, 0xc0 }, 0xffffffffffff0000 },	    /* inc ax */
		{ { 0x66, 0x48, 0xff, 0xc0 }, 0 },		    /* W wins over 66 */
		{ { 0x48, 0x66, 0xff, 0xc0 }, 0xffffffffffff0000 }, /* a REX that 66 follows is none */
		{ { 0x48, 0x2e, 0xff, 0xc0 }, 0 },		    /* inc eax */
		{ { 0x49, 0x40, 0xff, 0xc0 }, 0 },		    /* the last one: inc eax, not r8 */
		{ { 0x40, 0x49, 0xff, 0xc8 }, ~0ull },		    /* dec r8 */
		{ { 0xfe, 0xc4 }, 0xffffffffffff00ff },		    /* inc ah */
		{ { 0x40, 0xfe, 0xc4 }, ~0ull },		    /* inc spl */
		{ { 0x40, 0x3e, 0xfe, 0xc4 }, 0xffffffffffff00ff }, /* inc ah again */
	};

	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		uint8_t code[12];

		memset(code, 0x90, sizeof(code));
		memcpy(code, cases[n].code, sizeof(cases[n].code));
		for (unsigned k = 0; k < 8; k++)
			if (!code[k])
				code[k] = 0x90;
		code[11] = 0xf4;
		rig_reset(&r, RIG_LONG);
		r.s.gpr[X86_RAX] = ~0ull;
		rig_exec(&r, code, sizeof(code));
		if (rig_reg(&r, X86_RAX) != cases[n].rax || rig_vector(&r) != -1)
			fail_msg("case %u: rax is %#llx", n, (unsigned long long)rig_reg(&r, X86_RAX));
	}
	/* Elsewhere they are INC and DEC. */
	for (unsigned m = 1; m < ARRAY_LEN(modes); m++) {
		rig_reset(&r, modes[m]);
		RIG_EXEC(&r, 0x40, 0x48, 0x40, 0x41); /* inc eax; dec eax; inc eax; inc ecx */
		assert_int_equal(rig_reg(&r, X86_RAX), 1);
		assert_int_equal(rig_reg(&r, X86_RCX), 1);
	}
}

/* --- segments --- */

static void the_last_segment_counts(void **state)
{
	static const uint8_t marks[] = { 0xe5, 0xc5, 0x55, 0xd5, 0xf5, 0x65 };
	static const struct {
		uint8_t code[5];
		enum x86_seg other, wide; /* outside of 64-bit mode, and there */
	} cases[] = {
		{ { 0x90, 0x90, 0x90, 0x8a, 0x03 }, X86_DS, X86_DS },
		{ { 0x90, 0x90, 0x64, 0x8a, 0x03 }, X86_FS, X86_FS },
		{ { 0x90, 0x64, 0x65, 0x8a, 0x03 }, X86_GS, X86_GS },
		{ { 0x90, 0x65, 0x64, 0x8a, 0x03 }, X86_FS, X86_FS },
		{ { 0x90, 0x90, 0x26, 0x8a, 0x03 }, X86_ES, X86_DS },
		{ { 0x90, 0x64, 0x26, 0x8a, 0x03 }, X86_ES, X86_FS },
		{ { 0x90, 0x65, 0x3e, 0x8a, 0x03 }, X86_DS, X86_GS },
		{ { 0x26, 0x3e, 0x36, 0x8a, 0x03 }, X86_SS, X86_DS },
		{ { 0x90, 0x36, 0x64, 0x8a, 0x03 }, X86_FS, X86_FS },
	};

	for (unsigned wide = 0; wide < 2; wide++) {
		for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
			static const uint8_t data[] = { X86_ES, X86_SS, X86_DS, X86_FS, X86_GS };
			uint8_t code[6];

			rig_reset(&r, wide ? RIG_LONG : RIG_PROT32);
			for (unsigned k = 0; k < ARRAY_LEN(data); k++) {
				r.s.seg[data[k]].base = RIG_DATA_AT + 0x1000 * data[k];
				rig_write(&r, r.s.seg[data[k]].base, marks[data[k]], 1);
			}
			memcpy(code, cases[n].code, 5);
			code[5] = 0xf4;
			r.s.gpr[X86_RBX] = 0;
			/* There the others have no base. */
			if (wide && cases[n].wide < X86_FS)
				r.s.gpr[X86_RBX] = RIG_DATA_AT + 0x1000 * X86_DS;
			rig_exec(&r, code, sizeof(code));
			assert_int_equal(rig_reg(&r, X86_RAX) & 0xff, marks[wide ? cases[n].wide : cases[n].other]);
		}
	}
}

/* --- prefixes that select the instruction --- */

static void the_last_of_f2_and_f3_selects(void **state)
{
	/* of 58: addps, addpd, addss, addsd of ones: which parts of XMM0 change */
	static const struct {
		uint8_t prefix[3];
		bool f32_0, f32_1, f64_1;
	} cases[] = {
		{ { 0x90, 0x90, 0x90 }, true, true, false },   { { 0x90, 0x90, 0xf3 }, true, false, false },
		{ { 0x90, 0x66, 0xf3 }, true, false, false },  { { 0x90, 0xf3, 0x66 }, true, false, false },
		{ { 0xf2, 0x66, 0xf3 }, true, false, false },  { { 0x90, 0x66, 0x66 }, false, false, true },
		{ { 0xf3, 0x66, 0xf2 }, false, false, false }, { { 0x90, 0x90, 0xf2 }, false, false, false },
		{ { 0xf3, 0xf3, 0xf2 }, false, false, false },
	};
	const uint64_t one64 = 0x3ff0000000000000, two64 = 0x4000000000000000;
	const uint64_t ones32 = 0x3f8000003f800000;
	const uint32_t one32 = 0x3f800000, two32 = 0x40000000;

	if (!x86_feature_possible(X86_F_SSE2)) {
		puts("skipped: SSE is the host's own");
		skip();
	}
	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		bool by_double = !cases[n].f32_0;
		uint8_t code[7];

		rig_reset(&r, RIG_LONG);
		r.s.cr4 |= X86_CR4_OSFXSR;
		for (unsigned k = 0; k < 2; k++)
			r.s.vec[0].q[k] = r.s.vec[1].q[k] = by_double ? one64 : ones32;
		memcpy(code, cases[n].prefix, 3);
		memcpy(code + 3, (uint8_t[]){ 0x0f, 0x58, 0xc1, 0xf4 }, 4);
		rig_exec(&r, code, sizeof(code));
		assert_int_equal(rig_vector(&r), -1);
		if (by_double) {
			assert_true(r.s.vec[0].q[0] == two64);
			assert_true(r.s.vec[0].q[1] == (cases[n].f64_1 ? two64 : one64));
		} else {
			assert_int_equal((uint32_t)r.s.vec[0].q[0], two32);
			assert_int_equal(r.s.vec[0].q[0] >> 32, cases[n].f32_1 ? two32 : one32);
		}
	}
	/* F3 90 is PAUSE; with REX.B it is neither: XCHG R8D, EAX. 66 F3 0F B6 is MOVZX with prefixes that mean
	 * nothing. */
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_R8] = 7;
	RIG_EXEC(&r, 0x41, 0x90);
	assert_int_equal(rig_reg(&r, X86_RAX), 7);
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RCX] = 0x1234;
	RIG_EXEC(&r, 0xf3, 0xf2, 0x0f, 0xb6, 0xc1);
	assert_int_equal(rig_reg(&r, X86_RAX), 0x34);
}

static void prefixes_that_make_it_undefined(void **state)
{
	static const uint8_t codes[][5] = {
		{ 0xf3, 0x0f, 0x14, 0xc1, 0xf4 }, /* unpcklps with F3 */
		{ 0xf2, 0x0f, 0x28, 0xc1, 0xf4 }, /* movaps with F2 */
		{ 0xf3, 0x0f, 0xc6, 0xc1, 0x00 }, /* shufps with F3 */
		{ 0xf2, 0x0f, 0x6f, 0xc1, 0xf4 }, /* movq with F2 */
		{ 0x66, 0x0f, 0x01, 0xd0, 0xf4 }, /* xgetbv with 66 */
		{ 0xf3, 0x0f, 0xae, 0xe8, 0xf4 }, /* lfence with F3 (INCSSP, which there is not) */
	};

	for (unsigned n = 0; n < ARRAY_LEN(codes); n++) {
		rig_reset(&r, RIG_LONG);
		r.s.cr4 |= tiny_cpu(&r.vm)->vm->features->cr4 & (X86_CR4_OSFXSR | X86_CR4_OSXSAVE);
		rig_exec(&r, codes[n], sizeof(codes[n]));
		if (rig_vector(&r) != X86_UD)
			fail_msg("case %u: %d", n, rig_vector(&r));
	}
}

/* --- 66 and 67 in every mode --- */

static void sizes_toggle(void **state)
{
	for (unsigned m = 0; m < ARRAY_LEN(modes); m++) {
		bool small = modes[m] == RIG_PROT16 || modes[m] == RIG_REAL;

		/* inc of all ones: two of them are one */
		for (unsigned twice = 0; twice < 2; twice++) {
			rig_reset(&r, modes[m]);
			r.s.gpr[X86_RAX] = 0x1ffff;
			r.s.gpr[X86_RCX] = 0x1ffff;
			if (twice)
				RIG_EXEC(&r, 0xff, 0xc0, 0x66, 0x66, 0xff, 0xc1);
			else
				RIG_EXEC(&r, 0xff, 0xc0, 0x66, 0xff, 0xc1);
			assert_int_equal(rig_reg(&r, X86_RAX), small ? 0x10000 : 0x20000);
			assert_int_equal(rig_reg(&r, X86_RCX), small ? 0x20000 : 0x10000);
		}
		/* lea: the address is cut to its size, then the result to its own */
		rig_reset(&r, modes[m]);
		r.s.gpr[X86_RBX] = 0x3ffffffff;
		r.s.gpr[X86_RDI] = 0x3ffffffff;
		r.s.gpr[X86_RAX] = 0;
		if (modes[m] != RIG_LONG)
			r.s.gpr[X86_RBX] = r.s.gpr[X86_RDI] = 0xffffffff;
		if (modes[m] == RIG_LONG) {
			RIG_EXEC(&r, 0x67, 0x48, 0x8d, 0x47, 0x02); /* lea rax, [edi + 2] */
			assert_int_equal(rig_reg(&r, X86_RAX), 1);
		} else if (small) {
			RIG_EXEC(&r, 0x66, 0x8d, 0x47, 0x02, 0x67, 0x66, 0x8d, 0x4f, 0x02); /* [bx + 2], [edi + 2] */
			assert_int_equal(rig_reg(&r, X86_RAX), 1);
			assert_int_equal(rig_reg(&r, X86_RCX), 1);
		} else {
			RIG_EXEC(&r, 0x8d, 0x47, 0x02, 0x67, 0x8d, 0x4f, 0x03); /* [edi + 2], [bx + 3] */
			assert_int_equal(rig_reg(&r, X86_RAX), 1);
			assert_int_equal(rig_reg(&r, X86_RCX), 2);
		}
	}
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(fifteen_bytes_are_enough),	       TEST(the_next_page_faults_only_when_it_is_needed),
		TEST(lock_is_for_updates_of_memory),   TEST(rex_counts_right_before_the_opcode),
		TEST(the_last_segment_counts),	       TEST(the_last_of_f2_and_f3_selects),
		TEST(prefixes_that_make_it_undefined), TEST(sizes_toggle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
