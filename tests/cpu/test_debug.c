/* Single steps, breakpoints on instructions, data and ports, debug registers. SDM vol. 3, chapter 17. */
#include "rig.h"

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

#define DR6_NONE 0xffff0ff0u
/* DR7 for breakpoint `n`. */
#define WATCH(n, type, len) (1u << (2 * (n)) | (type) << (16 + 4 * (n)) | (len) << (18 + 4 * (n)))
enum { ON_INSN, ON_WRITE, ON_IO, ON_RW };
enum { LEN1, LEN2, LEN8, LEN4 };

static void expect_db(uint64_t at, uint64_t dr6)
{
	assert_int_equal(rig_vector(&r), X86_DB);
	assert_int_equal(rig_pushed(&r, 0), rig_ip(&r) + at);
	assert_int_equal(r.s.dr6, DR6_NONE | dr6);
}

/* --- single step --- */

static void a_step_traps_after_the_instruction(void **state)
{
	static const enum rig_mode modes[] = { RIG_LONG, RIG_COMPAT, RIG_PROT32, RIG_REAL, RIG_V86 };

	for (unsigned n = 0; n < 5; n++) {
		rig_reset(&r, modes[n]);
		r.s.rflags |= X86_TF;
		RIG_EXEC(&r, 0x90, 0x90);
		expect_db(1, X86_DR6_BS);
		assert_int_equal(rig_pushed(&r, 2) & (X86_TF | X86_RF), X86_TF);
		assert_false(r.s.rflags & X86_TF);
	}
}

static void setting_tf_traps_one_instruction_later(void **state)
{
	/* pushfq; or byte [rsp+1], 1; popfq; nop; nop */
	RIG_EXEC(&r, 0x9c, 0x80, 0x4c, 0x24, 1, 1, 0x9d, 0x90, 0x90);
	expect_db(8, X86_DR6_BS);
	/* Clearing it does not take the trap of the POPF itself away. */
	rig_reset(&r, RIG_LONG);
	r.s.rflags |= X86_TF;
	rig_write(&r, RIG_STACK, 2, 8);
	RIG_EXEC(&r, 0x9d, 0x90);
	expect_db(1, X86_DR6_BS);
	assert_false(rig_pushed(&r, 2) & X86_TF);
}

static void sti_does_not_hold_a_step_off_but_mov_ss_does(void **state)
{
	r.s.rflags |= X86_TF;
	RIG_EXEC(&r, 0xfb, 0x90);
	expect_db(1, X86_DR6_BS);
	rig_reset(&r, RIG_LONG);
	r.s.rflags |= X86_TF;
	r.s.gpr[X86_RAX] = RIG_DATA;
	RIG_EXEC(&r, 0x8e, 0xd0, 0x90, 0x90); /* mov ss, ax; nop; nop */
	expect_db(3, X86_DR6_BS);
	/* Its own step is lost, not put off: INT1 behind it does not report one. */
	rig_reset(&r, RIG_LONG);
	r.s.rflags |= X86_TF;
	r.s.gpr[X86_RAX] = RIG_DATA;
	RIG_EXEC(&r, 0x8e, 0xd0, 0xf1);
	expect_db(3, 0);
}

static void software_interrupts_and_faults_are_not_stepped_over(void **state)
{
	r.s.rflags |= X86_TF;
	RIG_EXEC(&r, 0xcd, 0x40);
	assert_int_equal(rig_vector(&r), 0x40);
	assert_true(rig_pushed(&r, 2) & X86_TF);
	assert_int_equal(r.s.dr6, DR6_NONE);
	rig_reset(&r, RIG_LONG);
	r.s.rflags |= X86_TF;
	RIG_EXEC(&r, 0x0f, 0x0b);
	assert_int_equal(rig_vector(&r), X86_UD);
	assert_int_equal(r.s.dr6, DR6_NONE);
	/* INT1 is a #DB without a reason. */
	rig_reset(&r, RIG_LONG);
	RIG_EXEC(&r, 0xf1);
	expect_db(1, 0);
}

static void a_halted_processor_wakes_for_its_step(void **state)
{
	r.s.rflags |= X86_TF;
	RIG_EXEC(&r, 0xf4);
	expect_db(1, X86_DR6_BS);
}

static void syscall_is_stepped_by_the_flags_at_its_end(void **state)
{
	r.s.efer |= X86_EFER_SCE;
	r.s.star = (uint64_t)RIG_CODE64 << 32;
	r.s.lstar = RIG_CODE + 2;
	r.s.rflags |= X86_TF;
	r.s.fmask = X86_TF;
	RIG_EXEC(&r, 0x0f, 0x05, 0x90); /* syscall; nop */
	assert_int_equal(rig_vector(&r), -1);
	assert_true(r.s.gpr[11] & X86_TF);
	r.s.fmask = 0;
	rig_reset(&r, RIG_LONG);
	r.s.efer |= X86_EFER_SCE;
	r.s.star = (uint64_t)RIG_CODE64 << 32;
	r.s.lstar = RIG_CODE + 2;
	r.s.rflags |= X86_TF;
	RIG_EXEC(&r, 0x0f, 0x05, 0x90);
	expect_db(2, X86_DR6_BS);
}

static void branches_only_with_btf(void **state)
{
	r.s.rflags |= X86_TF;
	r.s.debugctl = X86_DEBUGCTL_BTF;
	RIG_EXEC(&r, 0x90, 0x90, 0x31, 0xc0, 0x75, 1, 0xeb, 1, 0xf4, 0x90); /* nop; nop; xor; jnz; jmp $+3 */
	expect_db(9, X86_DR6_BS);
	assert_int_equal(r.s.debugctl, 0);
}

static void each_iteration_of_a_string_instruction_is_a_step(void **state)
{
	r.s.rflags |= X86_TF;
	r.s.gpr[X86_RDI] = RIG_DATA_AT;
	r.s.gpr[X86_RCX] = 3;
	RIG_EXEC(&r, 0xf3, 0xaa, 0x90); /* rep stosb */
	expect_db(0, X86_DR6_BS);
	assert_int_equal(r.s.gpr[X86_RCX], 2);
}

/* --- breakpoints --- */

static void breakpoints_on_instructions_fault(void **state)
{
	r.s.dr[2] = RIG_CODE + 1;
	r.s.dr7 |= WATCH(2, ON_INSN, LEN1);
	RIG_EXEC(&r, 0x90, 0x90, 0x90);
	expect_db(1, 4);
	/* RF is pushed as it was, so the handler must set it; then the instruction runs, and uses it up. */
	assert_false(rig_pushed(&r, 2) & X86_RF);
	rig_reset(&r, RIG_LONG);
	r.s.dr[2] = RIG_CODE;
	r.s.dr7 |= WATCH(2, ON_INSN, LEN1);
	r.s.rflags |= X86_RF;
	RIG_EXEC(&r, 0x90, 0x9c, 0x58); /* nop; pushfq; pop rax */
	assert_int_equal(rig_vector(&r), -1);
	assert_false(r.s.rflags & X86_RF);
	/* Not enabled: nothing. */
	rig_reset(&r, RIG_LONG);
	r.s.dr[2] = RIG_CODE;
	RIG_EXEC(&r, 0x90);
	assert_int_equal(rig_vector(&r), -1);
}

static void the_breakpoint_comes_before_other_faults(void **state)
{
	r.s.dr[0] = RIG_CODE;
	r.s.dr7 |= WATCH(0, ON_INSN, LEN1);
	RIG_EXEC(&r, 0x0f, 0x0b);
	expect_db(0, 1);
}

static void b0_to_b3_are_fresh_and_the_rest_sticks(void **state)
{
	r.s.dr6 = DR6_NONE | X86_DR6_BS | 2;
	r.s.dr[0] = RIG_CODE;
	r.s.dr7 |= WATCH(0, ON_INSN, LEN1);
	RIG_EXEC(&r, 0x90);
	expect_db(0, 1 | X86_DR6_BS);
}

/* mov [DATA_AT + offset], al / eax; mov eax, [DATA_AT] */
static void access_at(bool write, bool wide, unsigned offset)
{
	uint8_t code[] = {
		write ? (wide ? 0x89 : 0x88) : (wide ? 0x8b : 0x8a), 0x04, 0x25, (uint8_t)offset, 0, 2, 0, 0x90, 0xf4
	};

	rig_exec(&r, code, sizeof(code));
}

static void breakpoints_on_data_trap(void **state)
{
	static const struct {
		uint8_t type, len;
		bool write, wide;
		uint8_t offset;
		bool hit;
	} cases[] = {
		{ ON_WRITE, LEN4, true, true, 0, true },   { ON_WRITE, LEN4, false, true, 0, false },
		{ ON_RW, LEN4, false, true, 0, true },	   { ON_WRITE, LEN4, true, false, 3, true },
		{ ON_WRITE, LEN4, true, false, 4, false }, { ON_WRITE, LEN1, true, true, 0, true },
		{ ON_WRITE, LEN2, true, false, 2, false }, { ON_RW, LEN8, true, false, 7, true },
		{ ON_RW, LEN8, true, false, 8, false },	   { ON_INSN, LEN1, true, true, 0, false },
	};

	for (unsigned n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
		rig_reset(&r, RIG_LONG);
		r.s.dr[1] = RIG_DATA_AT;
		r.s.dr7 |= WATCH(1, (uint32_t)cases[n].type, (uint32_t)cases[n].len);
		access_at(cases[n].write, cases[n].wide, cases[n].offset);
		if (cases[n].hit)
			expect_db(7, 2);
		else
			assert_int_equal(rig_vector(&r), -1);
	}
	/* A page that was written before the breakpoint was set. */
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RAX] = RIG_DATA_AT;
	r.s.gpr[X86_RBX] = 0x400 | WATCH(0, ON_WRITE, LEN1);
	/* mov [rax], al; mov dr0, rax; mov dr7, rbx; mov [rax], al; nop */
	RIG_EXEC(&r, 0x88, 0x00, 0x0f, 0x23, 0xc0, 0x0f, 0x23, 0xfb, 0x88, 0x00, 0x90);
	expect_db(10, 1);
}

static void a_data_breakpoint_waits_behind_mov_ss(void **state)
{
	rig_write(&r, RIG_DATA_AT, RIG_DATA, 2);
	r.s.dr[0] = RIG_DATA_AT;
	r.s.dr7 |= WATCH(0, ON_RW, LEN2);
	RIG_EXEC(&r, 0x8e, 0x14, 0x25, 0, 0, 2, 0, 0x90, 0x90); /* mov ss, [20000h]; nop; nop */
	expect_db(8, 1);
	/* Behind a software interrupt it is the handler that is interrupted. */
	rig_reset(&r, RIG_LONG);
	r.s.dr[0] = RIG_DATA_AT;
	r.s.dr7 |= WATCH(0, ON_RW, LEN2);
	RIG_EXEC(&r, 0x8e, 0x14, 0x25, 0, 0, 2, 0, 0xcd, 0x40);
	assert_int_equal(rig_vector(&r), X86_DB);
	assert_int_equal(rig_pushed(&r, 0), RIG_HANDLERS + 0x40);
	/* INT1 tells of it as well. */
	rig_reset(&r, RIG_LONG);
	r.s.dr[0] = RIG_DATA_AT;
	r.s.dr7 |= WATCH(0, ON_RW, LEN2);
	RIG_EXEC(&r, 0x8e, 0x14, 0x25, 0, 0, 2, 0, 0xf1);
	expect_db(8, 1);
}

static void code_after_mov_ss(void **state)
{
	static const char *const models[] = { "max", "max,vendor=GenuineIntel" };

	for (unsigned n = 0; n < 2; n++) {
		rig_free(&r);
		rig_new(&r, RIG_LONG, models[n]);
		r.s.gpr[X86_RAX] = RIG_DATA;
		r.s.dr[0] = RIG_CODE + 2;
		r.s.dr7 |= WATCH(0, ON_INSN, LEN1);
		RIG_EXEC(&r, 0x8e, 0xd0, 0x90, 0x90);
		assert_int_equal(rig_vector(&r), n ? -1 : X86_DB);
	}
}

static void breakpoints_on_ports_need_de(void **state)
{
	for (unsigned de = 0; de < 2; de++) {
		rig_reset(&r, RIG_LONG);
		r.s.cr4 |= de ? X86_CR4_DE : 0;
		r.s.dr[3] = 0x84;
		r.s.dr7 |= WATCH(3, ON_IO, LEN4);
		RIG_EXEC(&r, 0xe6, 0x83, 0xe6, 0x87, 0x90); /* out 83h, al; out 87h, al */
		if (de)
			expect_db(4, 8);
		else
			assert_int_equal(rig_vector(&r), -1);
	}
}

/* --- the registers --- */

static void gd_guards_them(void **state)
{
	r.s.dr7 |= 1u << 13;
	RIG_EXEC(&r, 0x90, 0x0f, 0x21, 0xc0); /* mov rax, dr0 */
	expect_db(1, X86_DR6_BD);
	assert_true(rig_pushed(&r, 2) & X86_RF);
	assert_false(r.s.dr7 & 1u << 13);
}

static void dr4_and_dr5_are_aliases_without_de(void **state)
{
	r.s.gpr[X86_RAX] = X86_DR6_BS;
	RIG_EXEC(&r, 0x0f, 0x23, 0xe0, 0x0f, 0x21, 0xe3, 0x0f, 0x21,
		 0xe9); /* mov dr4, rax; mov rbx, dr4; mov rcx, dr5 */
	assert_int_equal(r.s.gpr[X86_RBX], DR6_NONE | X86_DR6_BS);
	assert_int_equal(r.s.gpr[X86_RCX], 0x400);
	rig_reset(&r, RIG_LONG);
	r.s.cr4 |= X86_CR4_DE;
	RIG_FAULTS(&r, X86_UD, 0, 0, 0x0f, 0x21, 0xe3);
}

static void reserved_bits_of_dr6_and_dr7(void **state)
{
	r.s.gpr[X86_RAX] = 0xffffffff;
	RIG_EXEC(&r, 0x0f, 0x23, 0xf0, 0x31, 0xc0, 0x0f, 0x23, 0xf8); /* mov dr6, rax; xor eax, eax; mov dr7, rax */
	assert_int_equal(r.s.dr6, 0xffffefff);
	assert_int_equal(r.s.dr7, 0x400);
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RAX] = 1ull << 32;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x0f, 0x23, 0xf8);
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RAX] = 1ull << 32;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x0f, 0x23, 0xf0);
	/* Addresses have 64 bits, whatever they are. */
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RAX] = 1ull << 60;
	RIG_EXEC(&r, 0x0f, 0x23, 0xc0);
	assert_true(r.s.dr[0] == 1ull << 60);
}

/* --- what a debugger of the host reads and writes (debug_isa.c) --- */

/* GDB's numbers: ST(0) is register 24 of the core. */
static void x87_registers_are_counted_from_the_top(void **state)
{
	static struct x86_state s;
	uint8_t bytes[10];

	memset(&s, 0, sizeof(s));
	s.fp.sw = 5 << 11;
	for (unsigned n = 0; n < 8; n++)
		s.fp.r[n] = (struct x86_fpreg){ 0x1000 + n, (uint16_t)(0x20 + n) };
	for (unsigned n = 0; n < 8; n++) {
		unsigned physical = (5 + n) & 7;

		assert_int_equal(x86_debug_isa.reg_size(24 + n), 10);
		x86_debug_isa.get(&s, 24 + n, bytes);
		assert_int_equal(ld_le64(bytes), 0x1000 + physical);
		assert_int_equal(ld_le16(bytes + 8), 0x20 + physical);
		st_le64(bytes, 0x3000 + n);
		st_le16(bytes + 8, (uint16_t)(0x40 + n));
		assert_true(x86_debug_isa.set(&s, 24 + n, bytes));
		assert_int_equal(s.fp.r[physical].mant, 0x3000 + n);
		assert_int_equal(s.fp.r[physical].sexp, 0x40 + n);
	}
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_step_traps_after_the_instruction),
		TEST(setting_tf_traps_one_instruction_later),
		TEST(sti_does_not_hold_a_step_off_but_mov_ss_does),
		TEST(software_interrupts_and_faults_are_not_stepped_over),
		TEST(a_halted_processor_wakes_for_its_step),
		TEST(syscall_is_stepped_by_the_flags_at_its_end),
		TEST(branches_only_with_btf),
		TEST(each_iteration_of_a_string_instruction_is_a_step),
		TEST(breakpoints_on_instructions_fault),
		TEST(the_breakpoint_comes_before_other_faults),
		TEST(b0_to_b3_are_fresh_and_the_rest_sticks),
		TEST(breakpoints_on_data_trap),
		TEST(a_data_breakpoint_waits_behind_mov_ss),
		TEST(code_after_mov_ss),
		TEST(breakpoints_on_ports_need_de),
		TEST(gd_guards_them),
		TEST(dr4_and_dr5_are_aliases_without_de),
		TEST(reserved_bits_of_dr6_and_dr7),
		TEST(x87_registers_are_counted_from_the_top),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
