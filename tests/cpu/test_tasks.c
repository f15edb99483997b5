/* Hardware task switches and virtual-8086 mode. SDM vol. 3, chapters 7 and 20. */
#include "rig.h"

#include "base/bytes.h"

static struct rig r;

static int setup(void **state)
{
	rig_new(&r, RIG_PROT32, NULL);
	return 0;
}

static int teardown(void **state)
{
	rig_free(&r);
	return 0;
}

/* --- tasks --- */

#define TASK2	    RIG_SPARE
#define GATE	    (RIG_SPARE + 8)
#define AVAILABLE   0x89
#define BUSY	    0x8b
#define TASK2_CODE  0x11000u
#define TASK2_STACK 0x70000u

static unsigned type_of(unsigned sel)
{
	return (unsigned)rig_read(&r, RIG_GDT + sel + 5, 1);
}

/* A second task that would run at TASK2_CODE, where there is a HLT. */
static void make_task2(void)
{
	static const uint16_t segs[] = { RIG_DATA, RIG_CODE32, RIG_DATA, RIG_DATA, 0, 0 };

	rig_reset(&r, RIG_PROT32);
	rig_desc(&r, TASK2, RIG_DESC(RIG_TSS2, 0x67, AVAILABLE, 0));
	rig_desc(&r, GATE, RIG_GATE(TASK2, 0, 0xe5, 0));
	rig_write(&r, RIG_TSS2 + 0x20, TASK2_CODE, 4);
	rig_write(&r, RIG_TSS2 + 0x24, X86_CF | 2, 4);
	for (unsigned n = 0; n < 8; n++)
		rig_write(&r, RIG_TSS2 + 0x28 + 4 * n, n == X86_RSP ? TASK2_STACK : 0x100 + n, 4);
	for (unsigned n = 0; n < 6; n++)
		rig_write(&r, RIG_TSS2 + 0x48 + 4 * n, segs[n], 4);
	rig_write(&r, TASK2_CODE, 0xf4, 1);
	r.s.gpr[X86_RBX] = 0xbbbb;
}

static void expect_task2(void)
{
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(r.s.gpr[X86_RIP], TASK2_CODE + 1);
	assert_int_equal(r.s.seg[X86_TR].sel, TASK2);
	assert_int_equal(r.s.seg[X86_TR].base, RIG_TSS2);
	assert_int_equal(r.s.gpr[X86_RBX], 0x103);
	assert_int_equal(r.s.gpr[X86_RSP], TASK2_STACK);
	assert_true(r.s.rflags & X86_CF);
	assert_true(r.s.cr0 & X86_CR0_TS);
	assert_true(r.s.seg[X86_FS].unusable);
	assert_int_equal(type_of(TASK2), BUSY);
	/* What was left: its next instruction and registers. */
	assert_int_equal(rig_read(&r, RIG_TSS + 0x34, 4), 0xbbbb);
	assert_int_equal(rig_read(&r, RIG_TSS + 0x4c, 2), RIG_CODE32);
}

static void a_jump_leaves_the_old_task_free(void **state)
{
	make_task2();
	RIG_EXEC(&r, 0xea, 0, 0, 0, 0, TASK2, 0);
	expect_task2();
	assert_int_equal(rig_read(&r, RIG_TSS + 0x20, 4), RIG_CODE + 7);
	assert_int_equal(type_of(RIG_TASK), AVAILABLE);
	assert_false(r.s.rflags & X86_NT);
	assert_int_equal(rig_read(&r, RIG_TSS2, 2), 0);
	make_task2();
	RIG_EXEC(&r, 0xea, 0, 0, 0, 0, GATE, 0);
	expect_task2();
}

static void a_call_nests_and_iret_returns(void **state)
{
	make_task2();
	RIG_EXEC(&r, 0x9a, 0, 0, 0, 0, TASK2, 0);
	expect_task2();
	assert_int_equal(type_of(RIG_TASK), BUSY);
	assert_true(r.s.rflags & X86_NT);
	assert_int_equal(rig_read(&r, RIG_TSS2, 2), RIG_TASK);
	/* Back: it goes on behind the call, and the inner task is free and starts behind its IRET next time. */
	make_task2();
	rig_write(&r, TASK2_CODE, 0xcf, 1);
	RIG_EXEC(&r, 0x9a, 0, 0, 0, 0, TASK2, 0);
	assert_int_equal(r.s.gpr[X86_RIP], RIG_CODE + 8);
	assert_int_equal(r.s.seg[X86_TR].sel, RIG_TASK);
	assert_int_equal(r.s.gpr[X86_RBX], 0xbbbb);
	assert_false(r.s.rflags & X86_NT);
	assert_int_equal(type_of(TASK2), AVAILABLE);
	assert_int_equal(type_of(RIG_TASK), BUSY);
	assert_int_equal(rig_read(&r, RIG_TSS2 + 0x20, 4), TASK2_CODE + 1);
	assert_false(rig_read(&r, RIG_TSS2 + 0x24, 4) & X86_NT);
}

static void exceptions_can_have_a_task(void **state)
{
	make_task2();
	rig_write(&r, RIG_IDT + 8 * X86_GP, RIG_GATE(TASK2, 0, 0x85, 0), 8);
	r.s.gpr[X86_RAX] = 0x1000;
	RIG_EXEC(&r, 0x8e, 0xd8);
	assert_int_equal(r.s.gpr[X86_RIP], TASK2_CODE + 1);
	assert_int_equal(r.s.gpr[X86_RSP], TASK2_STACK - 4);
	assert_int_equal(rig_pushed(&r, 0), 0x1000); /* the error code is on its stack */
	assert_int_equal(rig_read(&r, RIG_TSS + 0x20, 4), RIG_CODE);
	assert_true(rig_read(&r, RIG_TSS + 0x24, 4) & X86_RF);
	/* A double fault whose stack is gone still comes through. */
	make_task2();
	rig_write(&r, RIG_IDT + 8 * X86_DF_, RIG_GATE(TASK2, 0, 0x85, 0), 8);
	r.s.seg[X86_SS].limit = 0xfff;
	RIG_EXEC(&r, 0x0f, 0x0b);
	assert_int_equal(r.s.gpr[X86_RIP], TASK2_CODE + 1);
}

static void what_is_wrong_before_the_switch_is_the_old_tasks(void **state)
{
	static const struct {
		unsigned sel;
		uint64_t raw;
		int vector;
		uint32_t error;
	} cases[] = {
		{ TASK2, RIG_DESC(RIG_TSS2, 0x67, BUSY, 0), X86_GP, TASK2 },
		{ TASK2, RIG_DESC(RIG_TSS2, 0x67, 0x09, 0), X86_NP, TASK2 },
		{ TASK2, RIG_DESC(RIG_TSS2, 0x66, AVAILABLE, 0), X86_TS, TASK2 },
		{ GATE, RIG_GATE(TASK2, 0, 0x65, 0), X86_NP, GATE },
		{ GATE, RIG_GATE(RIG_TASK, 0, 0xe5, 0), X86_GP, RIG_TASK }, /* busy: itself */
		{ GATE, RIG_GATE(RIG_DATA, 0, 0xe5, 0), X86_GP, RIG_DATA },
		{ GATE, RIG_GATE(4, 0, 0xe5, 0), X86_GP, 4 },
	};

	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		make_task2();
		rig_desc(&r, cases[n].sel, cases[n].raw);
		if (cases[n].sel == GATE)
			RIG_FAULTS(&r, cases[n].vector, cases[n].error, 0, 0xea, 0, 0, 0, 0, GATE, 0);
		else
			RIG_FAULTS(&r, cases[n].vector, cases[n].error, 0, 0xea, 0, 0, 0, 0, TASK2, 0);
		assert_int_equal(r.s.seg[X86_TR].sel, RIG_TASK);
	}
	/* From level 3 the descriptor must be for all. */
	make_task2();
	rig_user(&r);
	RIG_FAULTS(&r, X86_GP, TASK2, 0, 0xea, 0, 0, 0, 0, TASK2 | 3, 0);
	/* IRET needs a back link to a busy task. */
	make_task2();
	r.s.rflags |= X86_NT;
	rig_write(&r, RIG_TSS, TASK2, 2);
	RIG_FAULTS(&r, X86_TS, TASK2, 0, 0xcf);
}

static void what_is_wrong_after_it_is_the_new_tasks(void **state)
{
	static const struct {
		unsigned seg; /* 6: LDT */
		uint16_t sel;
		int vector;
	} cases[] = {
		{ X86_CS, RIG_DATA, X86_TS },	    { X86_CS, 0, X86_TS },
		{ X86_SS, RIG_CODE32, X86_TS },	    { X86_SS, RIG_UDATA, X86_TS },
		{ X86_DS, 0x1000, X86_TS },	    { 6, RIG_DATA, X86_TS },
		{ X86_CS, RIG_SPARE + 16, X86_NP }, { X86_SS, RIG_SPARE + 24, X86_SS_FAULT },
		{ X86_ES, RIG_SPARE + 24, X86_NP },
	};

	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		make_task2();
		rig_desc(&r, RIG_SPARE + 16, RIG_DESC(0, 0xfffff, 0x1b, 12)); /* code, not present */
		rig_desc(&r, RIG_SPARE + 24, RIG_DESC(0, 0xfffff, 0x13, 12)); /* data, not present */
		rig_write(&r, RIG_TSS2 + 4, TASK2_STACK - 0x100, 4);
		rig_write(&r, RIG_TSS2 + 8, RIG_DATA, 4);
		rig_write(&r, RIG_TSS2 + (cases[n].seg == 6 ? 0x60 : 0x48 + 4 * cases[n].seg), cases[n].sel, 2);
		/* A task of its own handles it, since the new one may have no stack. */
		rig_desc(&r, RIG_SPARE + 32, RIG_DESC(RIG_TSS2 + 0x100, 0x67, AVAILABLE, 0));
		for (unsigned at = 0; at < 0x68; at += 4)
			rig_write(&r, RIG_TSS2 + 0x100 + at, rig_read(&r, RIG_TSS2 + at, 4), 4);
		rig_write(&r, RIG_TSS2 + 0x148, RIG_DATA, 2);
		rig_write(&r, RIG_TSS2 + 0x14c, RIG_CODE32, 2);
		rig_write(&r, RIG_TSS2 + 0x150, RIG_DATA, 2);
		rig_write(&r, RIG_TSS2 + 0x154, RIG_DATA, 2);
		rig_write(&r, RIG_TSS2 + 0x160, 0, 2);
		rig_write(&r, RIG_TSS2 + 0x120, TASK2_CODE + 0x100, 4);
		rig_write(&r, TASK2_CODE + 0x100, 0xf4, 1);
		rig_write(&r, RIG_IDT + 8u * (unsigned)cases[n].vector, RIG_GATE(RIG_SPARE + 32, 0, 0x85, 0), 8);
		RIG_EXEC(&r, 0xea, 0, 0, 0, 0, TASK2, 0);
		assert_int_equal(r.s.gpr[X86_RIP], TASK2_CODE + 0x101);
		assert_int_equal(rig_pushed(&r, 0), cases[n].sel & ~3u);
		assert_int_equal(rig_read(&r, RIG_TSS2 + 0x120, 4), TASK2_CODE + 0x100);
		/* It is the new task that was interrupted, before its first instruction. */
		assert_int_equal(rig_read(&r, RIG_TSS2 + 0x100, 2), TASK2);
		assert_int_equal(rig_read(&r, RIG_TSS2 + 0x20, 4), TASK2_CODE);
	}
}

static void tasks_of_16_bits(void **state)
{
	static const uint16_t segs[] = { RIG_DATA, RIG_CODE32, RIG_DATA, RIG_DATA };

	rig_desc(&r, TASK2, RIG_DESC(RIG_TSS2, 0x2b, 0x81, 0));
	rig_write(&r, RIG_TSS2 + 0x0e, 0x3000, 2);
	rig_write(&r, RIG_TSS2 + 0x10, 2, 2);
	for (unsigned n = 0; n < 8; n++)
		rig_write(&r, RIG_TSS2 + 0x12 + 2 * n, 0x100 + n, 2);
	for (unsigned n = 0; n < 4; n++)
		rig_write(&r, RIG_TSS2 + 0x22 + 2 * n, segs[n], 2);
	rig_write(&r, 0x3000, 0xf4, 1);
	RIG_EXEC(&r, 0x9a, 0, 0, 0, 0, TASK2, 0);
	assert_int_equal(r.s.gpr[X86_RIP], 0x3001);
	assert_int_equal(r.s.gpr[X86_RBX], 0xffff0103);
	assert_int_equal(type_of(TASK2), 0x83);
	assert_true(r.s.rflags & X86_NT);
	assert_int_equal(rig_read(&r, RIG_TSS2, 2), RIG_TASK);
	assert_int_equal(rig_read(&r, RIG_TSS + 0x20, 4), RIG_CODE + 7);
}

static void the_trap_flag_and_local_breakpoints(void **state)
{
	make_task2();
	rig_write(&r, RIG_TSS2 + 0x64, 1, 2);
	r.s.dr7 |= 3;
	r.s.dr[0] = RIG_DATA_AT;
	RIG_EXEC(&r, 0xea, 0, 0, 0, 0, TASK2, 0);
	assert_int_equal(rig_vector(&r), X86_DB);
	assert_int_equal(rig_pushed(&r, 0), TASK2_CODE);
	assert_int_equal(r.s.dr6 & 0xe00f, X86_DR6_BT);
	assert_int_equal(r.s.dr7 & 3, 2); /* the global one stays */
}

/* --- virtual-8086 mode --- */

static void v86_is_entered_by_iret_and_left_by_faults(void **state)
{
	const uint32_t frame[] = { 0x10, 0x1100, X86_VM | X86_IF | 2, 0x2000, 0x7000, 0x111, 0x222, 0x333, 0x444 };

	for (unsigned n = 0; n < 9; n++)
		rig_write(&r, RIG_STACK + 4 * n, frame[n], 4);
	rig_write(&r, 0x11010, 0xf4, 1); /* hlt: level 3 may not */
	RIG_EXEC(&r, 0xcf);
	assert_int_equal(rig_vector(&r), X86_GP);
	assert_int_equal(rig_pushed(&r, 0), 0);
	for (unsigned n = 0; n < 9; n++)
		assert_int_equal(rig_pushed(&r, 1 + n), n == 2 ? frame[n] | X86_RF : frame[n]);
	assert_int_equal(r.s.gpr[X86_RSP], RIG_STACK0 - 40);
	for (unsigned n = X86_DS; n <= X86_GS; n++)
		assert_true(r.s.seg[n].unusable);
	assert_true(r.s.seg[X86_ES].unusable);
	assert_false(r.s.rflags & X86_VM);
	/* An instruction pointer beyond 64 KiB is refused, and VM means nothing at other levels. */
	rig_reset(&r, RIG_PROT32);
	for (unsigned n = 0; n < 9; n++)
		rig_write(&r, RIG_STACK + 4 * n, n ? frame[n] : 0x30000, 4);
	RIG_FAULTS(&r, X86_GP, 0, 0, 0xcf);
}

static void iopl_guards_what_touches_if(void **state)
{
	static const struct {
		uint8_t code[2], len;
		bool guarded;
	} cases[] = {
		{ { 0xfa }, 1, true },	{ { 0xfb }, 1, true },	     { { 0x9c }, 1, true },
		{ { 0x9d }, 1, true },	{ { 0xcd, 0x41 }, 2, true }, { { 0xcf }, 1, true },
		{ { 0xcc }, 1, false }, { { 0x90 }, 1, false },	     { { 0xe4, 0x40 }, 2, false },
	};

	for (unsigned iopl = 0; iopl < 4; iopl += 3) {
		for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
			uint8_t code[5] = { cases[n].code[0], cases[n].code[1] };
			bool fault = cases[n].guarded && iopl < 3;

			rig_reset(&r, RIG_V86);
			r.s.rflags |= iopl << X86_IOPL_SHIFT;
			code[cases[n].len] = 0x0f;
			code[cases[n].len + 1] = 0x0b;
			rig_write(&r, RIG_IDT + 8 * 0x41 + 5, 0xee, 1); /* for all */
			rig_write(&r, RIG_IDT + 8 * X86_BP + 5, 0xee, 1);
			/* IRET and POPF find this on the stack. */
			rig_write(&r, 0x8fff0, 1 | 0x1000ull << 16 | 2ull << 32, 6);
			/* A map that permits port 40h. */
			rig_write(&r, RIG_TSS + 0x66, 0x68, 2);
			rig_exec(&r, code, sizeof(code));
			if (fault) {
				assert_int_equal(rig_vector(&r), X86_GP);
				assert_int_equal(rig_pushed(&r, 1), 0);
			} else {
				assert_int_not_equal(rig_vector(&r), X86_GP);
			}
		}
	}
}

/* --- virtual-8086 mode extensions --- */

/* The map of ports at 88h of the TSS, and before it that of interrupts: those from 40h on are redirected. */
static void vme(unsigned iopl, uint32_t flags)
{
	rig_reset(&r, RIG_V86);
	r.s.cr4 |= X86_CR4_VME;
	r.s.rflags |= flags | iopl << X86_IOPL_SHIFT;
	rig_write(&r, RIG_TSS + 0x66, 0x88, 2);
	mem_fill(r.vm.mem, gpa(RIG_TSS + 0x68), 0xff, 8);
	mem_fill(r.vm.mem, gpa(RIG_TSS + 0x70), 0, 24);
	/* Of the program's own: 41h is at 1000:0100, where there is UD2. */
	rig_write(&r, 4 * 0x41, 0x10000100, 4);
	rig_write(&r, 0x10100, 0x0b0f, 2);
	/* The monitor's, for all. */
	rig_write(&r, RIG_IDT + 8 * 0x3f + 5, 0xee, 1);
	rig_write(&r, RIG_IDT + 8 * 0x41 + 5, 0xee, 1);
}

static void cli_and_sti_are_about_vif(void **state)
{
	vme(0, X86_IF | X86_VIF);
	RIG_EXEC(&r, 0xfa, 0x0f, 0x0b);
	assert_int_equal(rig_vector(&r), X86_UD);
	assert_int_equal(rig_pushed(&r, 2) & (X86_IF | X86_VIF), X86_IF);
	vme(0, X86_IF);
	RIG_EXEC(&r, 0xfb, 0x0f, 0x0b);
	assert_int_equal(rig_pushed(&r, 2) & (X86_IF | X86_VIF), X86_IF | X86_VIF);
	/* An interrupt waits for the program: the monitor gets it. */
	vme(0, X86_VIP);
	RIG_FAULTS(&r, X86_GP, 0, 0, 0xfb);
	vme(0, X86_VIP);
	RIG_EXEC(&r, 0xfa, 0x0f, 0x0b);
	assert_int_equal(rig_vector(&r), X86_UD);
	/* With IOPL 3 it is IF itself. */
	vme(3, X86_IF | X86_VIF);
	RIG_EXEC(&r, 0xfa, 0x0f, 0x0b);
	assert_int_equal(rig_pushed(&r, 2) & (X86_IF | X86_VIF), X86_VIF);
	/* Level 3 of protected mode, with PVI. */
	for (unsigned pvi = 0; pvi < 2; pvi++) {
		rig_reset(&r, RIG_PROT32);
		rig_user(&r);
		r.s.cr4 |= pvi ? X86_CR4_PVI : X86_CR4_VME;
		r.s.rflags |= X86_IF;
		RIG_EXEC(&r, 0xfb, 0x0f, 0x0b);
		assert_int_equal(rig_vector(&r), pvi ? X86_UD : X86_GP);
		if (pvi)
			assert_int_equal(rig_pushed(&r, 2) & (X86_IF | X86_VIF), X86_IF | X86_VIF);
	}
}

static void flags_of_the_program_are_virtual(void **state)
{
	/* PUSHF shows VIF as IF, and IOPL as 3; POP AX. */
	for (unsigned vif = 0; vif < 2; vif++) {
		vme(1, X86_CF | X86_IF | (vif ? X86_VIF : 0));
		RIG_EXEC(&r, 0x9c, 0x58, 0x0f, 0x0b);
		assert_int_equal(rig_vector(&r), X86_UD);
		assert_int_equal(rig_reg(&r, X86_RAX) & 0xffff, 3 | X86_IOPL | (vif ? X86_IF : 0));
		/* POPF the other way round: PUSH AX; POPF. IF and IOPL stay. */
		vme(1, vif ? 0 : X86_VIF);
		r.s.gpr[X86_RAX] = X86_SF | X86_IOPL | (vif ? X86_IF : 0);
		RIG_EXEC(&r, 0x50, 0x9d, 0x0f, 0x0b);
		assert_int_equal(rig_vector(&r), X86_UD);
		assert_int_equal(rig_pushed(&r, 2) & (X86_SF | X86_IOPL | X86_IF | X86_VIF),
				 X86_SF | 1u << X86_IOPL_SHIFT | (vif ? X86_VIF : 0));
	}
	/* TF, and IF while an interrupt waits, are for the monitor; RSP has not moved. */
	for (unsigned n = 0; n < 2; n++) {
		vme(0, n ? X86_VIP : 0);
		r.s.gpr[X86_RAX] = n ? X86_IF : X86_TF;
		RIG_FAULTS(&r, X86_GP, 0, 1, 0x50, 0x9d);
		assert_int_equal(rig_pushed(&r, 4), 0xffee);
	}
	/* 32-bit forms are not virtual. */
	vme(0, 0);
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x66, 0x9c);
	vme(0, 0);
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x66, 0x9d);
	vme(0, 0);
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x66, 0xcf);
	/* IRET: push flags, CS, IP. */
	vme(0, 0);
	r.s.gpr[X86_RAX] = X86_IF | X86_CF;
	RIG_EXEC(&r, 0x50, 0x0e, 0x68, 0x00, 0x01, 0xcf);
	assert_int_equal(rig_vector(&r), X86_UD);
	assert_int_equal(rig_pushed(&r, 0), 0x100);
	assert_int_equal(rig_pushed(&r, 2) & (X86_IF | X86_VIF | X86_CF | X86_IOPL), X86_VIF | X86_CF);
	vme(0, X86_VIP);
	r.s.gpr[X86_RAX] = X86_IF | X86_CF;
	RIG_FAULTS(&r, X86_GP, 0, 5, 0x50, 0x0e, 0x68, 0x00, 0x01, 0xcf);
}

static void interrupts_of_the_program_are_redirected(void **state)
{
	for (unsigned iopl = 0; iopl < 4; iopl += 3) {
		vme(iopl, X86_IF | X86_VIF | X86_NT | X86_CF);
		r.s.gpr[X86_RSP] = 0x7000;
		RIG_EXEC(&r, 0xcd, 0x41);
		assert_int_equal(rig_vector(&r), X86_UD);
		assert_int_equal(rig_pushed(&r, 0), 0x100);
		assert_int_equal(rig_pushed(&r, 1), 0x1000);
		assert_int_equal(rig_pushed(&r, 2) & (X86_IF | X86_VIF | X86_NT | X86_CF),
				 X86_CF | (iopl ? X86_VIF : X86_IF));
		assert_int_equal(rig_pushed(&r, 3), 0x6ffa);
		assert_int_equal(rig_read(&r, 0x86ffa, 2), 2);
		assert_int_equal(rig_read(&r, 0x86ffc, 2), 0x1000);
		assert_int_equal(rig_read(&r, 0x86ffe, 2), 3 | X86_NT | X86_IF | X86_IOPL);
	}
	/* Not redirected: the monitor's with IOPL 3, else #GP. */
	vme(3, 0);
	RIG_EXEC(&r, 0xcd, 0x3f);
	assert_int_equal(rig_vector(&r), 0x3f);
	vme(0, 0);
	RIG_FAULTS(&r, X86_GP, 0, 0, 0xcd, 0x3f);
	/* INT3 is the monitor's always. */
	vme(0, 0);
	rig_write(&r, RIG_TSS + 0x68, 0, 1);
	rig_write(&r, RIG_IDT + 8 * X86_BP + 5, 0xee, 1);
	RIG_EXEC(&r, 0xcc);
	assert_int_equal(rig_vector(&r), X86_BP);
	/* No room for the map, no redirection. */
	vme(3, 0);
	rig_write(&r, RIG_TSS + 0x66, 31, 2);
	RIG_FAULTS(&r, X86_GP, 0, 0, 0xcd, 0x41);
	vme(3, 0);
	r.s.seg[X86_TR].limit = 0x6f;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0xcd, 0x41);
}

static void without_vme_its_bits_do_not_exist(void **state)
{
	struct rig old = r;
	struct err err;

	rig_new(&r, RIG_V86, "max,-vme");
	r.s.cr4 |= X86_CR4_VME;
	assert_int_equal(r.vm.engine->set_state(r.vm.vcpu, &r.s, &err), -1);
	rig_free(&r);
	r = old;
}

static void ports_of_v86_go_by_the_map(void **state)
{
	/* Always, whatever IOPL is. */
	rig_reset(&r, RIG_V86);
	r.s.rflags |= X86_IOPL;
	rig_write(&r, RIG_TSS + 0x66, 0x68, 2);
	rig_write(&r, RIG_TSS + 0x68 + 8, 2, 1);
	RIG_FAULTS(&r, X86_GP, 0, 2, 0xe4, 0x40, 0xe4, 0x41); /* in al, 40h; in al, 41h */
	/* Every bit of a wide port counts, and the map must reach that far. */
	rig_reset(&r, RIG_V86);
	rig_write(&r, RIG_TSS + 0x66, 0x68, 2);
	rig_write(&r, RIG_TSS + 0x68 + 8, 2, 1);
	RIG_FAULTS(&r, X86_GP, 0, 0, 0xe5, 0x40);
	rig_reset(&r, RIG_V86);
	rig_write(&r, RIG_TSS + 0x66, 0x68, 2);
	r.s.seg[X86_TR].limit = 0x68 + 8;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0xe4, 0x40);
	/* The same for level 3, unless IOPL lets it. */
	rig_reset(&r, RIG_PROT32);
	rig_user(&r);
	RIG_FAULTS(&r, X86_GP, 0, 0, 0xe4, 0x40);
	rig_reset(&r, RIG_PROT32);
	rig_user(&r);
	r.s.rflags |= X86_IOPL;
	RIG_EXEC(&r, 0xe4, 0x40, 0x0f, 0x0b);
	assert_int_equal(rig_vector(&r), X86_UD);
	assert_int_equal(rig_reg(&r, X86_RAX) & 0xff, 0x40);
}

static void v86_has_no_protected_instructions(void **state)
{
	rig_reset(&r, RIG_V86);
	r.s.rflags |= X86_IOPL;
	RIG_FAULTS(&r, X86_UD, 0, 0, 0x0f, 0x00, 0xd8); /* ltr */
	rig_reset(&r, RIG_V86);
	RIG_FAULTS(&r, X86_UD, 0, 0, 0x63, 0xc0); /* arpl */
	/* Segment registers are loaded as in real mode. */
	rig_reset(&r, RIG_V86);
	r.s.gpr[X86_RAX] = 0x2000;
	rig_write(&r, 0x20010, 0x4321, 2);
	RIG_EXEC(&r, 0x8e, 0xd8, 0xa1, 0x10, 0, 0x0f, 0x0b); /* mov ds, ax; mov ax, [10h] */
	assert_int_equal(rig_vector(&r), X86_UD);
	assert_int_equal(rig_reg(&r, X86_RAX), 0x4321);
}

static void interrupts_leave_v86_for_level_0_only(void **state)
{
	rig_reset(&r, RIG_V86);
	rig_write(&r, RIG_IDT + 8 * 0x40, RIG_GATE(RIG_SPARE, RIG_HANDLERS + 0x40, 0xee, 0), 8);
	rig_desc(&r, RIG_SPARE, RIG_DESC(0, 0xfffff, 0x9f, 12)); /* conforming: it would stay at level 3 */
	r.s.rflags |= X86_IOPL;
	RIG_FAULTS(&r, X86_GP, RIG_SPARE, 0, 0xcd, 0x40);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_jump_leaves_the_old_task_free),
		TEST(a_call_nests_and_iret_returns),
		TEST(exceptions_can_have_a_task),
		TEST(what_is_wrong_before_the_switch_is_the_old_tasks),
		TEST(what_is_wrong_after_it_is_the_new_tasks),
		TEST(tasks_of_16_bits),
		TEST(the_trap_flag_and_local_breakpoints),
		TEST(v86_is_entered_by_iret_and_left_by_faults),
		TEST(iopl_guards_what_touches_if),
		TEST(cli_and_sti_are_about_vif),
		TEST(flags_of_the_program_are_virtual),
		TEST(interrupts_of_the_program_are_redirected),
		TEST(without_vme_its_bits_do_not_exist),
		TEST(ports_of_v86_go_by_the_map),
		TEST(v86_has_no_protected_instructions),
		TEST(interrupts_leave_v86_for_level_0_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
