/*
 * Instructions that a program under another kernel cannot be compared with the host in: they tell where tables are,
 * what time it is, and what the hypervisor answers. And the wide compare-and-exchange's rules.
 */
#include "rig.h"

#include <string.h>

#include "base/bytes.h"

#define OLD 0xdeadbeefdeadbeefull

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

static void begin(enum rig_mode mode)
{
	rig_reset(&r, mode);
	rig_write(&r, 0x800, OLD, 8);
	rig_write(&r, 0x808, OLD, 8);
	r.s.gpr[X86_RBX] = 0x800;
	r.s.gpr[X86_RAX] = mode == RIG_LONG ? OLD : (uint32_t)OLD;
	r.s.gdt = (struct x86_dtable){ mode == RIG_LONG ? 0xffff800012345678 : RIG_GDT, 0x1234 };
	r.s.seg[X86_LDTR].sel = 0x5678;
}

static void tables_are_stored(void **state)
{
	begin(RIG_LONG);
	RIG_EXEC(&r, 0x0f, 0x01, 0x03); /* sgdt [rbx] */
	assert_int_equal(rig_read(&r, 0x800, 2), 0x1234);
	assert_true(rig_read(&r, 0x802, 8) == 0xffff800012345678);
	assert_int_equal(rig_read(&r, 0x80a, 2), 0xdead);
	begin(RIG_LONG);
	RIG_EXEC(&r, 0x66, 0x0f, 0x01, 0x0b); /* sidt [rbx]: 66 changes nothing */
	assert_int_equal(rig_read(&r, 0x800, 2), 0xfff);
	assert_int_equal(rig_read(&r, 0x802, 8), RIG_IDT);
	/* Six bytes elsewhere, all of the base with 16-bit operands too. */
	for (unsigned m = 0; m < 2; m++) {
		begin(m ? RIG_REAL : RIG_PROT32);
		r.s.gdt.base = 0x12345678;
		r.s.gpr[X86_RDI] = r.s.gpr[X86_RBX] = 0x800;
		if (m)
			RIG_EXEC(&r, 0x0f, 0x01, 0x07); /* sgdt [bx] */
		else
			RIG_EXEC(&r, 0x0f, 0x01, 0x03);
		assert_int_equal(rig_read(&r, 0x802, 4), 0x12345678);
		assert_int_equal(rig_read(&r, 0x806, 2), 0xdead);
	}
}

static void selectors_are_stored(void **state)
{
	begin(RIG_LONG);
	RIG_EXEC(&r, 0x0f, 0x00, 0xc0); /* sldt eax */
	assert_int_equal(rig_reg(&r, X86_RAX), 0x5678);
	begin(RIG_LONG);
	RIG_EXEC(&r, 0x66, 0x0f, 0x00, 0xc8); /* str ax */
	assert_true(rig_reg(&r, X86_RAX) == ((OLD & ~0xffffull) | RIG_TASK));
	begin(RIG_LONG);
	RIG_EXEC(&r, 0x48, 0x0f, 0x00, 0xc8); /* str rax */
	assert_int_equal(rig_reg(&r, X86_RAX), RIG_TASK);
	begin(RIG_LONG);
	RIG_EXEC(&r, 0x48, 0x0f, 0x00, 0x03); /* sldt [rbx]: two bytes */
	assert_true(rig_read(&r, 0x800, 8) == ((OLD & ~0xffffull) | 0x5678));
	begin(RIG_LONG);
	RIG_EXEC(&r, 0x0f, 0x00, 0x0b); /* str [rbx] */
	assert_true(rig_read(&r, 0x800, 8) == ((OLD & ~0xffffull) | RIG_TASK));
	begin(RIG_PROT16);
	RIG_EXEC(&r, 0x0f, 0x00, 0xc8); /* str ax */
	assert_int_equal(rig_reg(&r, X86_RAX), 0xdead0000 | RIG_TASK);
}

static void the_machine_status_word_is_stored(void **state)
{
	begin(RIG_LONG);
	RIG_EXEC(&r, 0x0f, 0x01, 0xe0); /* smsw eax: all of CR0 */
	assert_true(rig_reg(&r, X86_RAX) == r.s.cr0 && r.s.cr0 >> 16);
	begin(RIG_LONG);
	RIG_EXEC(&r, 0x66, 0x0f, 0x01, 0xe0);
	assert_true(rig_reg(&r, X86_RAX) == ((OLD & ~0xffffull) | (r.s.cr0 & 0xffff)));
	begin(RIG_LONG);
	RIG_EXEC(&r, 0x48, 0x0f, 0x01, 0x23); /* smsw [rbx]: two bytes */
	assert_true(rig_read(&r, 0x800, 8) == ((OLD & ~0xffffull) | (r.s.cr0 & 0xffff)));
}

static void time_goes_on(void **state)
{
	uint64_t first, second;

	/* An instruction takes a nanosecond here. */
	rig_free(&r);
	rig_new_counted(&r, RIG_LONG, NULL);
	begin(RIG_LONG);
	r.s.gdt = (struct x86_dtable){ RIG_GDT, 0xff };
	r.s.tsc_aux = 0xabcd1234;
	r.s.gpr[X86_RDX] = r.s.gpr[X86_RCX] = r.s.gpr[X86_RAX] = ~0ull;
	/* rdtsc; mov rsi, rax; mov rdi, rdx; rdtscp; rdpid rbx */
	RIG_EXEC(&r, 0x0f, 0x31, 0x48, 0x89, 0xc6, 0x48, 0x89, 0xd7, 0x0f, 0x01, 0xf9, 0xf3, 0x0f, 0xc7, 0xfb);
	assert_false(rig_reg(&r, X86_RSI) >> 32 || rig_reg(&r, X86_RDI) >> 32);
	assert_false(rig_reg(&r, X86_RAX) >> 32 || rig_reg(&r, X86_RDX) >> 32);
	assert_int_equal(rig_reg(&r, X86_RCX), 0xabcd1234);
	assert_int_equal(rig_reg(&r, X86_RBX), 0xabcd1234);
	first = rig_reg(&r, X86_RDI) << 32 | rig_reg(&r, X86_RSI);
	second = rig_reg(&r, X86_RDX) << 32 | rig_reg(&r, X86_RAX);
	assert_true(second > first);
	/* Level 3 may, unless CR4.TSD says otherwise. */
	for (unsigned tsd = 0; tsd < 2; tsd++) {
		begin(RIG_LONG);
		r.s.gdt = (struct x86_dtable){ RIG_GDT, 0xff };
		rig_user(&r);
		r.s.cr4 |= tsd ? X86_CR4_TSD : 0;
		RIG_EXEC(&r, 0x0f, 0x01, 0xf9, 0x0f, 0x0b);
		assert_int_equal(rig_vector(&r), tsd ? X86_GP : X86_UD);
	}
}

static void hypercalls_answer(void **state)
{
	static const uint8_t calls[][6] = { { 0x0f, 0x01, 0xc1, 0x0f, 0x0b }, { 0x0f, 0x01, 0xd9, 0x0f, 0x0b } };

	for (unsigned n = 0; n < 2; n++) {
		/* No such call; in 64-bit mode the result has 64 bits. */
		begin(RIG_LONG);
		r.s.gdt = (struct x86_dtable){ RIG_GDT, 0xff };
		rig_exec(&r, calls[n], sizeof(calls[n]));
		assert_int_equal(rig_vector(&r), X86_UD);
		assert_int_equal(rig_pushed(&r, 0), RIG_CODE + 3);
		assert_true(rig_reg(&r, X86_RAX) == (uint64_t)-1000);
		begin(RIG_PROT32);
		rig_exec(&r, calls[n], sizeof(calls[n]));
		assert_true(rig_reg(&r, X86_RAX) == (uint32_t)-1000);
		/* Programs may not. */
		begin(RIG_LONG);
		r.s.gdt = (struct x86_dtable){ RIG_GDT, 0xff };
		rig_user(&r);
		rig_exec(&r, calls[n], sizeof(calls[n]));
		assert_int_equal(rig_vector(&r), X86_UD);
		assert_true(rig_reg(&r, X86_RAX) == (uint64_t)-1);
	}
}

/* CLFLUSH, CLFLUSHOPT and CLWB change nothing, but their byte must be readable. */
static void flushes_read_their_operand(void **state)
{
	static const uint8_t codes[][5] = { { 0x0f, 0xae, 0x3e, 0xf4 },
					    { 0x66, 0x0f, 0xae, 0x3e, 0xf4 },
					    { 0x66, 0x0f, 0xae, 0x36, 0xf4 } };

	for (unsigned n = 0; n < ARRAY_LEN(codes); n++) {
		for (unsigned there = 0; there < 2; there++) {
			rig_reset(&r, RIG_LONG);
			r.s.gpr[X86_RSI] = there ? 0x20000 : 0x400000;
			rig_write(&r, 0x3000 + 8 * 2, 0, 8);
			rig_exec(&r, codes[n], sizeof(codes[n]));
			assert_int_equal(rig_vector(&r), there ? -1 : X86_PF_FAULT);
			assert_true(there || (rig_pushed(&r, 0) == 0 && r.s.cr2 == 0x400000));
		}
	}
}

/* --- CMPXCHG8B, CMPXCHG16B --- */

static void pair(uint64_t at, bool equal)
{
	begin(RIG_LONG);
	r.s.gdt = (struct x86_dtable){ RIG_GDT, 0xff };
	r.s.rflags |= X86_ARITH & ~X86_ZF;
	r.s.rflags |= equal ? 0 : X86_ZF;
	rig_write(&r, at, 0x1111222233334444, 8);
	rig_write(&r, at + 8, 0x5555666677778888, 8);
	r.s.gpr[X86_RSI] = at;
	r.s.gpr[X86_RAX] = 0x1111222233334444;
	r.s.gpr[X86_RDX] = equal ? 0x5555666677778888 : 0;
	r.s.gpr[X86_RBX] = 0xaaaa;
	r.s.gpr[X86_RCX] = 0xbbbb;
}

static void sixteen_bytes_are_exchanged_when_equal(void **state)
{
	for (unsigned lock = 0; lock < 2; lock++) {
		pair(0x20000, true);
		if (lock)
			RIG_EXEC(&r, 0xf0, 0x48, 0x0f, 0xc7, 0x0e);
		else
			RIG_EXEC(&r, 0x48, 0x0f, 0xc7, 0x0e);
		assert_int_equal(rig_read(&r, 0x20000, 8), 0xaaaa);
		assert_int_equal(rig_read(&r, 0x20008, 8), 0xbbbb);
		assert_int_equal(r.s.rflags & X86_ARITH, X86_ARITH); /* only ZF changes */
		pair(0x20000, false);
		if (lock)
			RIG_EXEC(&r, 0xf0, 0x48, 0x0f, 0xc7, 0x0e);
		else
			RIG_EXEC(&r, 0x48, 0x0f, 0xc7, 0x0e);
		assert_true(rig_reg(&r, X86_RDX) == 0x5555666677778888);
		assert_true(rig_read(&r, 0x20000, 8) == 0x1111222233334444);
		assert_int_equal(r.s.rflags & X86_ARITH, X86_ARITH & ~X86_ZF);
	}
}

static void sixteen_bytes_are_aligned(void **state)
{
	for (unsigned off = 1; off < 16; off += off < 8 ? 1 : 7) {
		pair(0x20000 + off, true);
		RIG_FAULTS(&r, X86_GP, 0, 0, 0x48, 0x0f, 0xc7, 0x0e);
		/* Also before the page is looked at. */
		pair(0x20000 + off, true);
		rig_write(&r, 0x3000, 0x87 & ~2ull, 8);
		RIG_FAULTS(&r, X86_GP, 0, 0, 0xf0, 0x48, 0x0f, 0xc7, 0x0e);
	}
	/* Eight bytes need not be, not even across pages. */
	pair(0x20ffc, true);
	r.s.gpr[X86_RAX] = 0x33334444;
	r.s.gpr[X86_RDX] = 0x11112222;
	RIG_EXEC(&r, 0xf0, 0x0f, 0xc7, 0x0e);
	assert_true(rig_read(&r, 0x20ffc, 8) == 0x0000bbbb0000aaaa);
}

/* The destination is written in any case: with what it held. */
static void a_page_must_be_writable_also_when_unequal(void **state)
{
	for (unsigned wide = 0; wide < 2; wide++) {
		pair(0x400000, false);
		r.s.cr0 |= X86_CR0_WP;
		rig_write(&r, 0x3000 + 8 * 2, 0x400000 | 0x85, 8);
		if (wide)
			RIG_FAULTS(&r, X86_PF_FAULT, 3, 0, 0x48, 0x0f, 0xc7, 0x0e);
		else
			RIG_FAULTS(&r, X86_PF_FAULT, 3, 0, 0x0f, 0xc7, 0x0e);
		assert_int_equal(r.s.cr2, 0x400000);
	}
	/* There is no register form. */
	rig_reset(&r, RIG_PROT32);
	RIG_FAULTS(&r, X86_UD, 0, 0, 0x0f, 0xc7, 0xc9);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(tables_are_stored),
		TEST(selectors_are_stored),
		TEST(the_machine_status_word_is_stored),
		TEST(time_goes_on),
		TEST(hypercalls_answer),
		TEST(flushes_read_their_operand),
		TEST(sixteen_bytes_are_exchanged_when_equal),
		TEST(sixteen_bytes_are_aligned),
		TEST(a_page_must_be_writable_also_when_unequal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
