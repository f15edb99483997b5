/* Exceptions and interrupts: what is pushed where, priorities, double and triple faults, shadows, NMI. */
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

/* --- frames --- */

static void a_fault_pushes_the_instruction_and_rf(void **state)
{
	static const enum rig_mode modes[] = { RIG_LONG, RIG_COMPAT, RIG_PROT32, RIG_PROT16, RIG_V86 };

	for (unsigned n = 0; n < 5; n++) {
		rig_reset(&r, modes[n]);
		r.s.rflags |= X86_IF;
		uint16_t cs = r.s.seg[X86_CS].sel;
		RIG_FAULTS(&r, X86_DE, 0, 2, 0x31, 0xc9, 0xf7, 0xf1); /* xor ecx, ecx; div ecx */
		assert_int_equal(rig_pushed(&r, 1), cs);
		assert_int_equal(rig_pushed(&r, 2) & 0x3ffff,
				 X86_RF | X86_IF | X86_ZF | X86_PF | 2 | (modes[n] == RIG_V86 ? X86_VM : 0));
		assert_false(r.s.rflags & (X86_IF | X86_RF | X86_VM));
	}
	/* Real mode pushes 16 bits each, and no error codes. */
	rig_reset(&r, RIG_REAL);
	RIG_FAULTS(&r, X86_DE, 0, 2, 0x31, 0xc9, 0xf7, 0xf1);
	assert_int_equal(rig_pushed(&r, 1), 0x1000);
	assert_int_equal(r.s.gpr[X86_RSP], 0xfff0 - 6);
}

static void an_outer_level_gets_the_stack_of_the_tss(void **state)
{
	static const enum rig_mode modes[] = { RIG_LONG, RIG_COMPAT, RIG_PROT32 };

	for (unsigned n = 0; n < 3; n++) {
		rig_reset(&r, modes[n]);
		rig_user(&r);
		RIG_FAULTS(&r, X86_UD, 0, 1, 0x90, 0x0f, 0x0b);
		assert_int_equal(r.s.gpr[X86_RSP], RIG_STACK0 - 5 * r.frame_size);
		assert_int_equal(rig_pushed(&r, 3), RIG_STACK);
		assert_int_equal(rig_pushed(&r, 4), RIG_UDATA);
		assert_int_equal(tiny_cpu(&r.vm)->cpl, 0);
		/* In long mode SS is null, with the new level. */
		assert_int_equal(r.s.seg[X86_SS].sel, modes[n] == RIG_PROT32 ? RIG_DATA : 0);
	}
}

static void long_mode_aligns_the_stack_and_has_ists(void **state)
{
	r.s.gpr[X86_RSP] = RIG_STACK - 13;
	RIG_FAULTS(&r, X86_UD, 0, 0, 0x0f, 0x0b);
	assert_int_equal(r.s.gpr[X86_RSP], RIG_STACK - 16 - 40);
	assert_int_equal(rig_pushed(&r, 3), RIG_STACK - 13);
	rig_reset(&r, RIG_LONG);
	rig_write(&r, RIG_IDT + 16 * X86_UD + 4, 1, 1); /* IST 1, though the level does not change */
	RIG_FAULTS(&r, X86_UD, 0, 0, 0x0f, 0x0b);
	assert_int_equal(r.s.gpr[X86_RSP], RIG_IST1 - 40);
	assert_int_equal(r.s.seg[X86_SS].sel, RIG_DATA);
}

static void selectors_are_error_codes(void **state)
{
	static const enum rig_mode modes[] = { RIG_LONG, RIG_PROT32 };

	for (unsigned n = 0; n < 2; n++) {
		rig_reset(&r, modes[n]);
		r.s.gpr[X86_RAX] = 0x1003;
		RIG_FAULTS(&r, X86_GP, 0x1000, 0, 0x8e, 0xd8); /* mov ds, ax: outside of the GDT */
		rig_reset(&r, modes[n]);
		rig_desc(&r, RIG_SPARE, RIG_DESC(0, 0xfffff, 0x13, 0xc)); /* not present */
		r.s.gpr[X86_RAX] = RIG_SPARE;
		RIG_FAULTS(&r, X86_NP, RIG_SPARE, 0, 0x8e, 0xd8);
		rig_reset(&r, modes[n]);
		r.s.gpr[X86_RAX] = RIG_SPARE;
		RIG_FAULTS(&r, X86_SS_FAULT, RIG_SPARE, 0, 0x8e, 0xd0); /* mov ss, ax */
		rig_reset(&r, modes[n]);
		r.s.gpr[X86_RAX] = 3;
		RIG_FAULTS(&r, X86_GP, 0, 0, 0x8e, 0xd0); /* null SS with another RPL */
	}
}

static void too_long_an_instruction_is_gp(void **state)
{
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
		   0x66, 0x90);
	rig_reset(&r, RIG_LONG);
	RIG_EXEC(&r, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90);
	assert_int_equal(rig_vector(&r), -1);
}

/* --- software interrupts and gates --- */

static void int_n_needs_the_gates_privilege(void **state)
{
	static const enum rig_mode modes[] = { RIG_LONG, RIG_PROT32 };

	for (unsigned n = 0; n < 2; n++) {
		unsigned step = modes[n] == RIG_LONG ? 16 : 8;

		rig_reset(&r, modes[n]);
		rig_user(&r);
		RIG_FAULTS(&r, X86_GP, 0x40 * 8 + 2, 0, 0xcd, 0x40);
		rig_reset(&r, modes[n]);
		rig_user(&r);
		rig_write(&r, RIG_IDT + step * 0x40 + 5, 0xee, 1); /* DPL 3 */
		RIG_FAULTS(&r, 0x40, 0, 2, 0xcd, 0x40);
		assert_false(rig_pushed(&r, 2) & X86_RF);
		/* Exceptions do not look at it. */
		rig_reset(&r, modes[n]);
		rig_user(&r);
		RIG_FAULTS(&r, X86_UD, 0, 0, 0x0f, 0x0b);
		/* INT3 does, and pushes what follows. */
		rig_reset(&r, modes[n]);
		rig_user(&r);
		RIG_FAULTS(&r, X86_GP, 3 * 8 + 2, 0, 0xcc);
		rig_reset(&r, modes[n]);
		RIG_FAULTS(&r, X86_BP, 0, 1, 0xcc);
	}
}

static void trap_gates_keep_interrupts_on(void **state)
{
	r.s.rflags |= X86_IF;
	rig_write(&r, RIG_IDT + 16 * X86_UD + 5, 0x8f, 1);
	RIG_FAULTS(&r, X86_UD, 0, 0, 0x0f, 0x0b);
	assert_true(r.s.rflags & X86_IF);
}

static void bad_gates_tell_the_vector(void **state)
{
	rig_write(&r, RIG_IDT + 16 * X86_UD + 5, 0x0e, 1); /* not present */
	RIG_FAULTS(&r, X86_NP, X86_UD * 8 + 3, 0, 0x0f, 0x0b);
	rig_reset(&r, RIG_LONG);
	rig_write(&r, RIG_IDT + 16 * X86_UD + 5, 0x86, 1); /* a 16-bit gate, which long mode does not have */
	RIG_FAULTS(&r, X86_GP, X86_UD * 8 + 3, 0, 0x0f, 0x0b);
	rig_reset(&r, RIG_LONG);
	r.s.idt.limit = 16 * 0x40 + 14;
	RIG_FAULTS(&r, X86_GP, 0x40 * 8 + 2, 0, 0xcd, 0x40);
	rig_reset(&r, RIG_LONG);
	rig_write(&r, RIG_IDT + 16 * X86_UD + 2, RIG_CODE32, 2); /* not 64-bit code */
	RIG_FAULTS(&r, X86_GP, RIG_CODE32 | 1, 0, 0x0f, 0x0b);
	rig_reset(&r, RIG_LONG);
	rig_write(&r, RIG_IDT + 16 * X86_UD + 2, 0, 2);
	RIG_FAULTS(&r, X86_GP, 1, 0, 0x0f, 0x0b);
}

/* --- one exception while another is delivered --- */

static void absent_ist(unsigned vector)
{
	rig_write(&r, RIG_IDT + 16 * vector + 4, 2, 1);
	rig_write(&r, RIG_TSS + 0x2c, 0x20000100, 8); /* IST 2 */
	rig_write(&r, 0x3000 + 8 * 0x100, 0, 8);
}

static void combinations_follow_the_table(void **state)
{
	/* Contributory, contributory: #GP whose gate is not present. */
	r.s.gpr[X86_RAX] = 0x1000;
	rig_write(&r, RIG_IDT + 16 * X86_GP + 5, 0x0e, 1);
	RIG_FAULTS(&r, X86_DF_, 0, 0, 0x8e, 0xd8);
	/* #PF, contributory */
	rig_reset(&r, RIG_LONG);
	rig_write(&r, RIG_IDT + 16 * X86_PF_FAULT + 5, 0x0e, 1);
	absent_ist(0xff);
	RIG_FAULTS(&r, X86_DF_, 0, 0, 0x8b, 0x04, 0x25, 0, 0, 0, 0x20); /* mov eax, [20000000h] */
	/* #PF, #PF */
	rig_reset(&r, RIG_LONG);
	absent_ist(X86_PF_FAULT);
	RIG_FAULTS(&r, X86_DF_, 0, 0, 0x8b, 0x04, 0x25, 0, 0, 0, 0x20);
	/* Contributory, then #PF: one after the other. */
	rig_reset(&r, RIG_LONG);
	absent_ist(X86_GP);
	r.s.gpr[X86_RAX] = 0x1000;
	RIG_FAULTS(&r, X86_PF_FAULT, 2, 0, 0x8e, 0xd8);
	assert_int_equal(r.s.cr2 >> 12, 0x20000);
	/* Benign, then anything: one after the other. */
	rig_reset(&r, RIG_LONG);
	absent_ist(X86_UD);
	RIG_FAULTS(&r, X86_PF_FAULT, 2, 0, 0x0f, 0x0b);
	/* A software interrupt is benign. */
	rig_reset(&r, RIG_LONG);
	rig_write(&r, RIG_IDT + 16 * X86_GP + 5, 0x0e, 1);
	RIG_FAULTS(&r, X86_NP, X86_GP * 8 + 2, 0, 0xcd, 13);
}

static void a_fault_of_a_double_fault_shuts_down(void **state)
{
	absent_ist(X86_PF_FAULT);
	absent_ist(X86_DF_);
	RIG_EXEC(&r, 0x8b, 0x04, 0x25, 0, 0, 0, 0x20);
	assert_int_equal(rig_vector(&r), -2);
	assert_int_equal(r.s.run, X86_SHUTDOWN);
	rig_run(&r);
	assert_int_equal(r.why, CPU_EXIT_SHUTDOWN);
	/* No IDT at all, in every mode. */
	for (unsigned mode = RIG_LONG; mode <= RIG_V86; mode++) {
		rig_reset(&r, mode);
		r.s.idt.limit = 0;
		RIG_EXEC(&r, 0x0f, 0x0b);
		assert_int_equal(rig_vector(&r), -2);
	}
}

/* --- interrupts and shadows --- */

static void interrupts_wait_for_if(void **state)
{
	r.vm.irq = 0x40;
	RIG_EXEC(&r, 0x90);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(r.vm.irq, 0x40);
	rig_reset(&r, RIG_LONG);
	r.s.rflags |= X86_IF;
	RIG_FAULTS(&r, 0x40, 0, 0, 0x90);
	assert_int_equal(r.vm.irq, -1);
	assert_false(rig_pushed(&r, 2) & X86_RF);
}

/* What waits when flags are loaded is taken after that instruction. */
static void loaded_flags_let_interrupts_in(void **state)
{
	r.vm.irq = 0x40;
	RIG_FAULTS(&r, 0x40, 0, 6, 0x68, 0, 2, 0, 0, 0x9d, 0x90, 0x90); /* push 200h; popf; nop; nop */
	rig_reset(&r, RIG_LONG);
	r.vm.irq = 0x40;
	r.s.gpr[X86_RSP] = RIG_STACK;
	rig_write(&r, RIG_STACK, RIG_CODE + 3, 8);
	rig_write(&r, RIG_STACK + 8, RIG_CODE64, 8);
	rig_write(&r, RIG_STACK + 16, X86_IF | 2, 8);
	rig_write(&r, RIG_STACK + 24, RIG_STACK, 8);
	rig_write(&r, RIG_STACK + 32, RIG_DATA, 8);
	RIG_FAULTS(&r, 0x40, 0, 3, 0x90, 0x48, 0xcf, 0x90, 0x90); /* nop; iretq; nop; nop */
	rig_reset(&r, RIG_LONG);
	r.vm.irq = 0x40;
	r.s.efer |= X86_EFER_SCE;
	r.s.gpr[X86_RCX] = RIG_CODE + 3;
	r.s.gpr[X86_R8 + 3] = X86_IF | 2;
	RIG_FAULTS(&r, 0x40, 0, 3, 0x48, 0x0f, 0x07, 0x90, 0x90); /* sysretq; nop; nop */
}

static void sti_holds_interrupts_off_for_one_instruction(void **state)
{
	static const enum rig_mode modes[] = { RIG_LONG, RIG_PROT32, RIG_REAL };

	for (unsigned n = 0; n < 3; n++) {
		rig_reset(&r, modes[n]);
		r.vm.irq = 0x40;
		RIG_FAULTS(&r, 0x40, 0, 2, 0xfb, 0x90, 0x90);
	}
	/* The HLT is done, and sleeps not at all. */
	rig_reset(&r, RIG_LONG);
	r.vm.irq = 0x40;
	RIG_FAULTS(&r, 0x40, 0, 2, 0xfb, 0xf4);
	/* CLI in the shadow wins. */
	rig_reset(&r, RIG_LONG);
	r.vm.irq = 0x40;
	RIG_EXEC(&r, 0xfb, 0xfa, 0x90);
	assert_int_equal(rig_vector(&r), -1);
	/* Where they were on already there is no shadow. */
	rig_reset(&r, RIG_LONG);
	r.vm.irq = 0x40;
	r.s.rflags |= X86_IF;
	r.s.shadow_sti = true;
	RIG_FAULTS(&r, 0x40, 0, 1, 0xfb, 0x90);
}

static void mov_ss_holds_interrupts_off_for_one_instruction(void **state)
{
	r.s.gpr[X86_RAX] = RIG_DATA;
	r.vm.irq = 0x40;
	RIG_FAULTS(&r, 0x40, 0, 4, 0xfb, 0x8e, 0xd0, 0x90, 0x90); /* sti; mov ss, ax; nop; nop */
	/* POP SS too; another segment register does not. */
	rig_reset(&r, RIG_PROT32);
	r.vm.irq = 0x40;
	RIG_FAULTS(&r, 0x40, 0, 4, 0x16, 0xfb, 0x17, 0x90, 0x90); /* push ss; sti; pop ss; nop; nop */
	rig_reset(&r, RIG_PROT32);
	r.vm.irq = 0x40;
	RIG_FAULTS(&r, 0x40, 0, 3, 0x1e, 0xfb, 0x1f, 0x90, 0x90); /* push ds; sti; pop ds; nop; nop */
}

static void an_nmi_waits_for_the_iret_of_the_one_before(void **state)
{
	vcpu_signal(r.vm.vcpu, CPU_SIGNAL_NMI, 0);
	r.s.nmi_pending = 1; /* what set_state() leaves of the signal */
	RIG_FAULTS(&r, X86_NMI, 0, 0, 0x90);
	assert_true(r.s.nmi_blocked);
	r.s.nmi_pending = 1;
	rig_run(&r);
	assert_int_equal(r.why, CPU_EXIT_HALTED);
	assert_int_equal(r.s.nmi_pending, 1);
	/* IRETQ lets it through, at once. */
	rig_write(&r, 0x11000, 0xcf48, 2);
	r.s.gpr[X86_RIP] = 0x11000;
	r.s.run = X86_RUNNING;
	rig_run(&r);
	assert_int_equal(rig_vector(&r), X86_NMI);
	assert_int_equal(rig_pushed(&r, 0), RIG_CODE);
	assert_int_equal(r.s.nmi_pending, 0);
}

static void an_iret_that_faults_unblocks_nmis(void **state)
{
	r.s.nmi_blocked = true;
	r.s.gpr[X86_RSP] = RIG_STACK;
	rig_write(&r, RIG_STACK + 8, 0x1000, 8); /* CS outside of the GDT */
	RIG_FAULTS(&r, X86_GP, 0x1000, 0, 0x48, 0xcf);
	assert_false(r.s.nmi_blocked);
}

static void two_nmis_can_be_on_their_way(void **state)
{
	for (unsigned n = 0; n < 3; n++)
		vcpu_signal(r.vm.vcpu, CPU_SIGNAL_NMI, 0);
	r.vm.engine->get_state(r.vm.vcpu, &r.s);
	assert_int_equal(r.s.nmi_pending, 2);
	r.s.nmi_blocked = true;
	r.s.nmi_pending = 0;
	x86_add_nmis(&r.s, VCPU_EV_NMI | VCPU_EV_NMI_TWICE);
	assert_int_equal(r.s.nmi_pending, 1);
}

static void shadows_hold_nmis_off(void **state)
{
	r.s.nmi_pending = 1;
	r.s.shadow_mov_ss = true;
	RIG_FAULTS(&r, X86_NMI, 0, 1, 0x90, 0x90);
	rig_reset(&r, RIG_LONG);
	r.s.nmi_pending = 1;
	r.s.shadow_sti = true;
	RIG_FAULTS(&r, X86_NMI, 0, 1, 0x90, 0x90);
}

static void halt_ends_with_what_may_interrupt(void **state)
{
	RIG_EXEC(&r, 0x90);
	r.vm.irq = 0x40;
	rig_run(&r);
	assert_int_equal(r.why, CPU_EXIT_HALTED); /* IF = 0 */
	assert_int_equal(rig_vector(&r), -1);
	r.s.rflags |= X86_IF;
	rig_run(&r);
	assert_int_equal(rig_vector(&r), 0x40);
	assert_int_equal(rig_pushed(&r, 0), RIG_CODE + 2);
}

/* INIT: the processor starts anew, and an application processor waits for a SIPI. */
static void init_resets(void **state)
{
	r.s.gpr[X86_RBX] = 7;
	r.s.mtrr_def = 0xc06;
	r.s.vec[3].q[0] = 42;
	r.s.init_pending = true;
	/* Nothing is at FFFFFFF0h here, and real mode's #UD comes back. */
	RIG_EXEC(&r, 0x90);
	r.mode = RIG_REAL;
	r.frame_size = 2;
	assert_int_equal(rig_vector(&r), X86_UD);
	assert_int_equal(rig_pushed(&r, 0), 0xfff0);
	assert_int_equal(rig_pushed(&r, 1), 0xf000);
	assert_int_equal(r.s.gpr[X86_RBX], 0);
	assert_int_equal(r.s.cr0, X86_CR0_ET);
	assert_int_equal(r.s.mtrr_def, 0xc06);
	assert_int_equal(r.s.vec[3].q[0], 42);
	assert_int_equal(r.s.gpr[X86_RDX], 0xa20f10);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_fault_pushes_the_instruction_and_rf),
		TEST(an_outer_level_gets_the_stack_of_the_tss),
		TEST(long_mode_aligns_the_stack_and_has_ists),
		TEST(selectors_are_error_codes),
		TEST(too_long_an_instruction_is_gp),
		TEST(int_n_needs_the_gates_privilege),
		TEST(trap_gates_keep_interrupts_on),
		TEST(bad_gates_tell_the_vector),
		TEST(combinations_follow_the_table),
		TEST(a_fault_of_a_double_fault_shuts_down),
		TEST(interrupts_wait_for_if),
		TEST(loaded_flags_let_interrupts_in),
		TEST(sti_holds_interrupts_off_for_one_instruction),
		TEST(mov_ss_holds_interrupts_off_for_one_instruction),
		TEST(an_nmi_waits_for_the_iret_of_the_one_before),
		TEST(an_iret_that_faults_unblocks_nmis),
		TEST(two_nmis_can_be_on_their_way),
		TEST(shadows_hold_nmis_off),
		TEST(halt_ends_with_what_may_interrupt),
		TEST(init_resets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
