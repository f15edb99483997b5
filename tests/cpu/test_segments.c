/* Segments: limits and types, conforming code, call gates, IRET, the fast system calls. SDM vol. 3, chapter 5. */
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

#define DATA_UP	  0x93
#define DATA_DOWN 0x97
#define DATA_RO	  0x91
#define CODE_RX	  0x9b
#define CODE_X	  0x99
#define CODE_CONF 0x9f
#define BYTES	  0
#define PAGES	  8
#define BIG	  4
#define LONG	  2

/* --- limits and types --- */

static void data_limits(void **state)
{
	static const struct {
		uint8_t access, flags;
		uint32_t limit, offset; /* of 4 bytes */
		bool ok;
	} cases[] = {
		{ DATA_UP, BIG, 0xff, 0xfc, true },	     { DATA_UP, BIG, 0xff, 0xfd, false },
		{ DATA_UP, BIG, 0xff, 0x100, false },	     { DATA_UP, BIG, 0xff, 0xffffffff, false },
		{ DATA_UP, BIG | PAGES, 1, 0x1ffc, true },   { DATA_UP, BIG | PAGES, 1, 0x1ffd, false },
		{ DATA_DOWN, BIG, 0xff, 0x100, true },	     { DATA_DOWN, BIG, 0xff, 0xff, false },
		{ DATA_DOWN, BIG, 0xff, 0, false },	     { DATA_DOWN, BIG, 0xff, 0x10000, true },
		{ DATA_DOWN, BIG, 0xff, 0xfffffffc, true },  { DATA_DOWN, BIG, 0xff, 0xfffffffd, false },
		{ DATA_DOWN, BYTES, 0xff, 0xfffc, true },    { DATA_DOWN, BYTES, 0xff, 0xfffd, false },
		{ DATA_DOWN, BYTES, 0xff, 0x10000, false },  { DATA_DOWN, BIG | PAGES, 0, 0xfff, false },
		{ DATA_DOWN, BIG | PAGES, 0, 0x1000, true },
	};

	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		uint64_t raw = RIG_DESC(RIG_DATA_AT, cases[n].limit, cases[n].access, cases[n].flags);

		for (unsigned write = 0; write < 2; write++) {
			rig_reset(&r, RIG_PROT32);
			rig_desc(&r, RIG_SPARE, raw);
			rig_seg(&r, X86_DS, RIG_SPARE);
			r.s.gpr[X86_RBX] = cases[n].offset;
			if (write)
				RIG_EXEC(&r, 0x89, 0x03);
			else
				RIG_EXEC(&r, 0x8b, 0x03);
			assert_int_equal(rig_vector(&r), cases[n].ok ? -1 : X86_GP);
		}
		/* SS has an exception of its own. */
		rig_reset(&r, RIG_PROT32);
		rig_desc(&r, RIG_SPARE, raw);
		rig_desc(&r, RIG_DATA, RIG_DESC(0, 0xfffff, DATA_UP, BIG | PAGES));
		rig_write(&r, RIG_IDT + 8 * X86_SS_FAULT, RIG_GATE(RIG_SPARE + 8, 0, 0x85, 0), 8);
		rig_seg(&r, X86_ES, RIG_SPARE);
		r.s.gpr[X86_RBX] = cases[n].offset;
		RIG_EXEC(&r, 0x26, 0x89, 0x03); /* mov es:[ebx], eax */
		assert_int_equal(rig_vector(&r), cases[n].ok ? -1 : X86_GP);
	}
	/* #SS for a stack; the handler's own stack is another one. */
	rig_reset(&r, RIG_PROT32);
	rig_user(&r);
	rig_desc(&r, RIG_SPARE, RIG_DESC(RIG_STACK, 0xff, 0xf3, BIG));
	rig_seg(&r, X86_SS, RIG_SPARE | 3);
	r.s.gpr[X86_RBP] = 0x100;
	RIG_FAULTS(&r, X86_SS_FAULT, 0, 0, 0x8b, 0x45, 0);
}

static void the_last_byte_of_a_real_mode_segment(void **state)
{
	rig_reset(&r, RIG_REAL);
	r.s.gpr[X86_RBX] = 0xffff;
	RIG_EXEC(&r, 0x8a, 0x07); /* mov al, [bx] */
	assert_int_equal(rig_vector(&r), -1);
	rig_reset(&r, RIG_REAL);
	r.s.gpr[X86_RBX] = 0xffff;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x8b, 0x07); /* mov ax, [bx] */
	rig_reset(&r, RIG_REAL);
	r.s.gpr[X86_RBP] = 0xffff;
	RIG_FAULTS(&r, X86_SS_FAULT, 0, 0, 0x8b, 0x46, 0); /* mov ax, [bp] */
}

static void types_say_what_may_be_done(void **state)
{
	static const struct {
		uint8_t access;
		bool load, read, write;
	} cases[] = {
		{ DATA_UP, true, true, true },	 { DATA_RO, true, true, false }, { CODE_RX, true, true, false },
		{ CODE_X, false, false, false }, { 0x82, false, false, false }, /* an LDT */
	};

	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		rig_reset(&r, RIG_PROT32);
		rig_desc(&r, RIG_SPARE, RIG_DESC(0, 0xfffff, cases[n].access & ~1u, BIG | PAGES));
		r.s.gpr[X86_RAX] = RIG_SPARE;
		r.s.gpr[X86_RBX] = RIG_DATA_AT;
		RIG_EXEC(&r, 0x8e, 0xd8, 0x8b, 0x0b); /* mov ds, ax; mov ecx, [ebx] */
		assert_int_equal(rig_vector(&r), cases[n].load ? -1 : X86_GP);
		if (!cases[n].load) {
			assert_int_equal(rig_pushed(&r, 0), RIG_SPARE);
			continue;
		}
		/* Loading sets the accessed bit. */
		assert_int_equal(rig_read(&r, RIG_GDT + RIG_SPARE + 5, 1), cases[n].access | 1);
		r.s.gpr[X86_RIP] = RIG_CODE;
		r.s.run = X86_RUNNING;
		RIG_EXEC(&r, 0x89, 0x0b);
		assert_int_equal(rig_vector(&r), cases[n].write ? -1 : X86_GP);
	}
	/* Code that is executed may not be readable, and never writable. */
	rig_reset(&r, RIG_PROT32);
	r.s.gpr[X86_RBX] = RIG_DATA_AT;
	RIG_FAULTS(&r, X86_GP, 0, 3, 0x2e, 0x8b, 0x03, 0x2e, 0x89, 0x03);
	rig_reset(&r, RIG_PROT32);
	r.s.seg[X86_CS].attr &= ~2;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x2e, 0x8b, 0x03);
	/* Nothing through a null selector, which may be loaded. */
	rig_reset(&r, RIG_PROT32);
	r.s.gpr[X86_RAX] = 3;
	RIG_FAULTS(&r, X86_GP, 0, 2, 0x8e, 0xd8, 0x8b, 0x03);
}

static void privilege_of_data(void **state)
{
	rig_user(&r);
	r.s.gpr[X86_RAX] = RIG_DATA | 3;
	RIG_FAULTS(&r, X86_GP, RIG_DATA, 0, 0x8e, 0xd8);
	/* RPL counts too. */
	rig_reset(&r, RIG_PROT32);
	r.s.gpr[X86_RAX] = RIG_DATA | 3;
	RIG_FAULTS(&r, X86_GP, RIG_DATA, 0, 0x8e, 0xd8);
	/* Conforming code is readable for all; SS must be of exactly this level. */
	rig_reset(&r, RIG_PROT32);
	rig_user(&r);
	rig_desc(&r, RIG_SPARE, RIG_DESC(0, 0xfffff, CODE_CONF, BIG | PAGES));
	r.s.gpr[X86_RAX] = RIG_SPARE | 3;
	RIG_EXEC(&r, 0x8e, 0xd8, 0x0f, 0x0b);
	assert_int_equal(rig_vector(&r), X86_UD);
	rig_reset(&r, RIG_PROT32);
	r.s.gpr[X86_RAX] = RIG_UDATA & ~3;
	RIG_FAULTS(&r, X86_GP, RIG_UDATA & ~3, 0, 0x8e, 0xd0);
}

static void code_limits(void **state)
{
	r.s.seg[X86_CS].limit = RIG_CODE + 0x20;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0xeb, 0x40); /* jmp: the target is outside */
	rig_reset(&r, RIG_PROT32);
	r.s.seg[X86_CS].limit = RIG_CODE + 1;
	RIG_FAULTS(&r, X86_GP, 0, 2, 0x90, 0x90, 0x90); /* runs out of it */
	rig_reset(&r, RIG_PROT32);
	r.s.seg[X86_CS].limit = RIG_CODE + 2;
	RIG_FAULTS(&r, X86_GP, 0, 1, 0x90, 0xb8, 1, 0, 0, 0); /* an instruction that is not all inside */
}

static void lar_and_lsl_tell_what_may_be_seen(void **state)
{
	rig_desc(&r, RIG_SPARE, RIG_DESC(0x123456, 0x12345, DATA_UP, BIG | PAGES));
	r.s.gpr[X86_RCX] = RIG_SPARE;
	/* lar eax, cx; lsl ebx, cx; verr cx; setz dl; verw cx; setz dh */
	RIG_EXEC(&r, 0x0f, 0x02, 0xc1, 0x0f, 0x03, 0xd9, 0x0f, 0x00, 0xe1, 0x0f, 0x94, 0xc2, 0x0f, 0x00, 0xe9, 0x0f,
		 0x94, 0xc6);
	/* Bits 19:16 are undefined; AMD gives those of the limit. */
	assert_int_equal(rig_reg(&r, X86_RAX) & ~0xf0000ull, 0xc09300);
	assert_int_equal(rig_reg(&r, X86_RBX), 0x12345fff);
	assert_int_equal(rig_reg(&r, X86_RDX) & 0xffff, 0x0101);
	/* From outside, nothing. */
	rig_reset(&r, RIG_PROT32);
	rig_user(&r);
	rig_desc(&r, RIG_SPARE, RIG_DESC(0, 0x12345, DATA_UP, BIG));
	r.s.gpr[X86_RCX] = RIG_SPARE | 3;
	r.s.gpr[X86_RAX] = 5;
	RIG_EXEC(&r, 0x0f, 0x02, 0xc1, 0x0f, 0x94, 0xc2, 0x0f, 0x00, 0xe1, 0x0f, 0x94, 0xc6, 0x0f, 0x0b);
	assert_int_equal(rig_reg(&r, X86_RAX), 5);
	assert_int_equal(rig_reg(&r, X86_RDX) & 0xffff, 0);
}

/* --- far transfers --- */

#define CALL_SPARE 0x9a, 0, 0, 0, 0, RIG_SPARE, 0
#define JMP_SPARE  0xea, 0, 0, 0, 0, RIG_SPARE, 0

static void conforming_code_runs_at_the_callers_level(void **state)
{
	rig_user(&r);
	rig_desc(&r, RIG_SPARE, RIG_DESC(RIG_DATA_AT, 0xfffff, CODE_CONF, BIG | PAGES));
	rig_write(&r, RIG_DATA_AT, 0x0b0f, 2); /* ud2 */
	RIG_EXEC(&r, CALL_SPARE);
	assert_int_equal(rig_vector(&r), X86_UD);
	assert_int_equal(rig_pushed(&r, 1), RIG_SPARE | 3);
	assert_int_equal(rig_pushed(&r, 3), RIG_STACK - 8);
	/* Other code must be of this level. */
	rig_reset(&r, RIG_PROT32);
	rig_user(&r);
	rig_desc(&r, RIG_SPARE, RIG_DESC(RIG_DATA_AT, 0xfffff, CODE_RX, BIG | PAGES));
	RIG_FAULTS(&r, X86_GP, RIG_SPARE, 0, CALL_SPARE);
	rig_reset(&r, RIG_PROT32);
	rig_desc(&r, RIG_SPARE, RIG_DESC(RIG_DATA_AT, 0xfffff, 0xfb, BIG | PAGES));
	RIG_FAULTS(&r, X86_GP, RIG_SPARE, 0, JMP_SPARE);
	/* Not data, and present. */
	rig_reset(&r, RIG_PROT32);
	rig_desc(&r, RIG_SPARE, RIG_DESC(RIG_DATA_AT, 0xfffff, DATA_UP, BIG | PAGES));
	RIG_FAULTS(&r, X86_GP, RIG_SPARE, 0, JMP_SPARE);
	rig_reset(&r, RIG_PROT32);
	rig_desc(&r, RIG_SPARE, RIG_DESC(RIG_DATA_AT, 0xfffff, CODE_RX & 0x7f, BIG | PAGES));
	RIG_FAULTS(&r, X86_NP, RIG_SPARE, 0, JMP_SPARE);
	rig_reset(&r, RIG_PROT32);
	rig_desc(&r, RIG_SPARE, RIG_DESC(RIG_DATA_AT, 0xf, CODE_RX, BIG));
	RIG_FAULTS(&r, X86_GP, 0, 0, 0xea, 0x10, 0, 0, 0, RIG_SPARE, 0);
}

/* Code that conforms, at DPL 0 and at DPL 3, where a selector is to lead. */
static void conforming_at(unsigned sel, unsigned dpl)
{
	rig_desc(&r, sel, RIG_DESC(0, 0xfffff, CODE_CONF | dpl << 5, BIG | PAGES));
}

static void conforming_code_behind_gates_and_returns(void **state)
{
	enum { CONFORMING = RIG_SPARE + 8 };

	/* A gate to it changes neither level nor stack. */
	rig_user(&r);
	rig_desc(&r, RIG_SPARE, RIG_GATE(CONFORMING, RIG_DATA_AT, 0xec, 0));
	conforming_at(CONFORMING, 0);
	rig_write(&r, RIG_DATA_AT, 0x0b0f, 2); /* ud2 */
	RIG_EXEC(&r, CALL_SPARE);
	assert_int_equal(rig_vector(&r), X86_UD);
	assert_int_equal(rig_pushed(&r, 1), CONFORMING | 3);
	assert_int_equal(rig_pushed(&r, 3), RIG_STACK - 8);
	/* It is for its level and outer ones. */
	rig_reset(&r, RIG_PROT32);
	conforming_at(RIG_SPARE, 3);
	RIG_FAULTS(&r, X86_GP, RIG_SPARE, 0, JMP_SPARE);
	/* A return may lead there from its level or an inner one, not from an outer one. */
	rig_reset(&r, RIG_PROT32);
	rig_user(&r);
	conforming_at(CONFORMING, 0);
	rig_write(&r, RIG_DATA_AT, 0x0b0f, 2);
	rig_write(&r, RIG_STACK, RIG_DATA_AT, 4);
	rig_write(&r, RIG_STACK + 4, CONFORMING | 3, 4);
	RIG_EXEC(&r, 0xcb);
	assert_int_equal(rig_vector(&r), X86_UD);
	assert_int_equal(rig_pushed(&r, 1), CONFORMING | 3);
	rig_reset(&r, RIG_PROT32);
	conforming_at(CONFORMING, 3);
	rig_write(&r, RIG_STACK, RIG_DATA_AT, 4);
	rig_write(&r, RIG_STACK + 4, CONFORMING, 4);
	RIG_FAULTS(&r, X86_GP, CONFORMING, 0, 0xcb);
}

static void call_gates_change_level_and_stack(void **state)
{
	rig_user(&r);
	rig_desc(&r, RIG_SPARE, RIG_GATE(RIG_CODE32, RIG_DATA_AT, 0xec, 2));
	rig_write(&r, RIG_DATA_AT, 0xf4, 1);
	rig_write(&r, RIG_STACK, 0x11111111, 4);
	rig_write(&r, RIG_STACK + 4, 0x22222222, 4);
	RIG_EXEC(&r, CALL_SPARE, 0x0f, 0x0b);
	assert_int_equal(r.s.gpr[X86_RIP], RIG_DATA_AT + 1);
	assert_int_equal(r.s.seg[X86_CS].sel, RIG_CODE32);
	assert_int_equal(r.s.seg[X86_SS].sel, RIG_DATA);
	assert_int_equal(r.s.gpr[X86_RSP], RIG_STACK0 - 24);
	assert_int_equal(rig_pushed(&r, 0), RIG_CODE + 7);
	assert_int_equal(rig_pushed(&r, 1), RIG_UCODE32);
	assert_int_equal(rig_pushed(&r, 2), 0x11111111);
	assert_int_equal(rig_pushed(&r, 3), 0x22222222);
	assert_int_equal(rig_pushed(&r, 4), RIG_STACK);
	assert_int_equal(rig_pushed(&r, 5), RIG_UDATA);
	/* RETF 8 takes the parameters from both stacks, and segments of the inner level away. */
	rig_seg(&r, X86_DS, RIG_DATA);
	rig_seg(&r, X86_FS, RIG_UDATA);
	conforming_at(RIG_SPARE + 8, 0);
	rig_seg(&r, X86_GS, RIG_SPARE + 8);
	rig_write(&r, RIG_DATA_AT + 1, 0x0008ca, 3);
	r.s.run = X86_RUNNING;
	rig_run(&r);
	assert_int_equal(rig_vector(&r), X86_UD);
	assert_int_equal(rig_pushed(&r, 1), RIG_UCODE32);
	assert_int_equal(rig_pushed(&r, 3), RIG_STACK + 8);
	assert_true(r.s.seg[X86_DS].unusable);
	assert_false(r.s.seg[X86_FS].unusable);
	assert_false(r.s.seg[X86_GS].unusable);
}

static void call_gates_of_16_bits(void **state)
{
	rig_user(&r);
	rig_desc(&r, RIG_SPARE, RIG_GATE(RIG_CODE32, 0x0040, 0xe4, 1));
	rig_write(&r, 0x40, 0xf4, 1);
	rig_write(&r, RIG_STACK, 0x1111, 2);
	RIG_EXEC(&r, CALL_SPARE);
	assert_int_equal(r.s.gpr[X86_RIP], 0x41);
	assert_int_equal(r.s.gpr[X86_RSP], RIG_STACK0 - 10);
	r.frame_size = 2;
	assert_int_equal(rig_pushed(&r, 0), (RIG_CODE + 7) & 0xffff);
	assert_int_equal(rig_pushed(&r, 1), RIG_UCODE32);
	assert_int_equal(rig_pushed(&r, 2), 0x1111);
	assert_int_equal(rig_pushed(&r, 4), RIG_UDATA);
}

static void call_gates_check(void **state)
{
	static const struct {
		uint64_t gate;
		bool user, jmp;
		int vector; /* -1: it goes through */
		uint32_t error;
	} cases[] = {
		{ RIG_GATE(RIG_CODE32, RIG_DATA_AT, 0x8c, 0), true, false, X86_GP, RIG_SPARE }, /* DPL 0 */
		{ RIG_GATE(RIG_CODE32, RIG_DATA_AT, 0x6c, 0), true, false, X86_NP, RIG_SPARE },
		{ RIG_GATE(0, RIG_DATA_AT, 0xec, 0), true, false, X86_GP, 0 },
		{ RIG_GATE(RIG_DATA, RIG_DATA_AT, 0xec, 0), true, false, X86_GP, RIG_DATA },
		{ RIG_GATE(0x1000, RIG_DATA_AT, 0xec, 0), true, false, X86_GP, 0x1000 },
		{ RIG_GATE(RIG_UCODE32, RIG_DATA_AT, 0x8c, 0), false, false, X86_GP, RIG_UCODE32 & ~3u }, /* outward */
		{ RIG_GATE(RIG_CODE32, RIG_DATA_AT, 0xec, 0), true, true, X86_GP, RIG_CODE32 },
		{ RIG_GATE(RIG_CODE32, RIG_DATA_AT, 0x8c, 0), false, true, -1, 0 },
		{ RIG_GATE(RIG_CODE32, RIG_DATA_AT, 0x8c, 0), false, false, -1, 0 },
		{ RIG_GATE(RIG_CODE32, RIG_DATA_AT, 0xe8, 0), false, false, X86_GP, RIG_SPARE }, /* no type */
	};

	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		rig_reset(&r, RIG_PROT32);
		if (cases[n].user)
			rig_user(&r);
		rig_desc(&r, RIG_SPARE, cases[n].gate);
		rig_write(&r, RIG_DATA_AT, 0xf4, 1);
		if (cases[n].jmp)
			RIG_EXEC(&r, JMP_SPARE);
		else
			RIG_EXEC(&r, CALL_SPARE);
		assert_int_equal(rig_vector(&r), cases[n].vector);
		if (cases[n].vector >= 0)
			assert_int_equal(rig_pushed(&r, 0), cases[n].error);
		else
			assert_int_equal(r.s.gpr[X86_RSP], cases[n].jmp ? RIG_STACK : RIG_STACK - 8);
	}
	/* A bad stack in the TSS, and one that is too small. */
	rig_reset(&r, RIG_PROT32);
	rig_user(&r);
	rig_desc(&r, RIG_SPARE, RIG_GATE(RIG_CODE32, RIG_DATA_AT, 0xec, 0));
	rig_write(&r, RIG_TSS + 8, RIG_CODE32, 2);
	rig_write(&r, RIG_IDT + 8 * X86_TS, RIG_GATE(RIG_TASK, 0, 0x8e, 0), 8);
	RIG_EXEC(&r, CALL_SPARE);
	assert_int_equal(rig_vector(&r), -2); /* the handler of #TS has no stack either */
}

static void call_gates_of_64_bits(void **state)
{
	for (unsigned bad = 0; bad < 2; bad++) {
		rig_reset(&r, RIG_LONG);
		rig_user(&r);
		rig_desc(&r, RIG_SPARE, RIG_GATE(RIG_CODE64, RIG_DATA_AT, 0xec, 0));
		rig_write(&r, RIG_GDT + RIG_SPARE + 8, bad ? 0x10000000000 : 0, 8);
		rig_write(&r, RIG_DATA_AT, 0xf4, 1);
		rig_write(&r, RIG_DATA_AT + 16, 0, 4);
		rig_write(&r, RIG_DATA_AT + 20, RIG_SPARE, 2);
		r.s.gpr[X86_RSI] = RIG_DATA_AT + 16;
		RIG_EXEC(&r, 0xff, 0x1e); /* call far [rsi] */
		if (bad) {
			assert_int_equal(rig_vector(&r), X86_GP);
			assert_int_equal(rig_pushed(&r, 0), RIG_SPARE);
			continue;
		}
		assert_int_equal(r.s.gpr[X86_RIP], RIG_DATA_AT + 1);
		assert_int_equal(r.s.gpr[X86_RSP], RIG_STACK0 - 32);
		assert_int_equal(r.s.seg[X86_SS].sel, 0);
		assert_int_equal(rig_pushed(&r, 0), RIG_CODE + 2);
		assert_int_equal(rig_pushed(&r, 1), RIG_UCODE64);
		assert_int_equal(rig_pushed(&r, 2), RIG_STACK);
		assert_int_equal(rig_pushed(&r, 3), RIG_UDATA);
	}
	/* Long mode has no other system descriptors to go through. */
	rig_reset(&r, RIG_COMPAT);
	rig_desc(&r, RIG_SPARE, RIG_DESC(RIG_TSS2, 0x67, 0x89, 0));
	RIG_FAULTS(&r, X86_GP, RIG_SPARE, 0, JMP_SPARE);
}

static void mode_changes_by_far_jumps(void **state)
{
	/* 64-bit code to compatibility mode and back */
	rig_reset(&r, RIG_LONG);
	rig_write(&r, RIG_DATA_AT, RIG_CODE + 2, 4);
	rig_write(&r, RIG_DATA_AT + 4, RIG_CODE32, 2);
	r.s.gpr[X86_RSI] = RIG_DATA_AT;
	r.s.gpr[X86_RAX] = ~0ull;
	/* jmp far [rsi]; inc eax (a REX prefix in 64-bit code); jmp 10h:+9 */
	RIG_EXEC(&r, 0xff, 0x2e, 0x40, 0xea, 10, 0, 1, 0, RIG_CODE64, 0, 0x48, 0xff, 0xc8); /* dec rax */
	assert_int_equal(rig_vector(&r), -1);
	assert_true(rig_reg(&r, X86_RAX) == ~0ull);
	assert_int_equal(r.s.seg[X86_CS].sel, RIG_CODE64);
}

#define CALLEE	(RIG_CODE + 0x1000) /* a HLT */
#define STACK16 RIG_SPARE
#define HIGH_SP 0x31ff8u /* in a segment of 64 KiB at RIG_DATA_AT only its lower half counts */
#define LIMITED (RIG_DATA_AT + (HIGH_SP & 0xffff))

/* With a 16-bit stack that is not flat. */
static void far_call_rig(enum rig_mode mode, uint32_t limit)
{
	rig_reset(&r, mode);
	rig_write(&r, CALLEE, 0xf4, 1);
	rig_desc(&r, STACK16, RIG_DESC(RIG_DATA_AT, limit, DATA_UP, BYTES));
	rig_seg(&r, X86_SS, STACK16);
	r.s.gpr[X86_RSP] = HIGH_SP;
}

static void far_calls_use_the_stack_of_the_callee(void **state)
{
	/* to 64-bit code: flat, all of RSP, even where the segment has nothing */
	far_call_rig(RIG_COMPAT, 0xff);
	RIG_EXEC(&r, 0x9a, 0, 0x10, 1, 0, RIG_CODE64, 0);
	assert_int_equal(r.s.gpr[X86_RIP], CALLEE + 1);
	assert_int_equal(r.s.gpr[X86_RSP], HIGH_SP - 8);
	assert_int_equal(rig_read(&r, HIGH_SP - 8, 4), RIG_CODE + 7);
	assert_int_equal(rig_read(&r, HIGH_SP - 4, 4), RIG_CODE32);
	/* through a gate: eight bytes each */
	far_call_rig(RIG_COMPAT, 0xff);
	rig_desc(&r, RIG_SPARE + 8, RIG_GATE(RIG_CODE64, CALLEE, 0x8c, 0));
	RIG_EXEC(&r, 0x9a, 0, 0, 0, 0, RIG_SPARE + 8, 0);
	assert_int_equal(r.s.gpr[X86_RSP], HIGH_SP - 16);
	assert_int_equal(rig_read(&r, HIGH_SP - 16, 8), RIG_CODE + 7);
	assert_int_equal(rig_read(&r, HIGH_SP - 8, 8), RIG_CODE32);
	/* to other code: the segment */
	far_call_rig(RIG_LONG, 0xffff);
	rig_write(&r, RIG_DATA_AT, CALLEE | (uint64_t)RIG_CODE32 << 32, 8);
	r.s.gpr[X86_RSI] = RIG_DATA_AT;
	RIG_EXEC(&r, 0xff, 0x1e);
	assert_int_equal(r.s.gpr[X86_RIP], CALLEE + 1);
	assert_int_equal(r.s.gpr[X86_RSP], HIGH_SP - 8);
	assert_int_equal(rig_read(&r, LIMITED - 8, 4), RIG_CODE + 2);
	assert_int_equal(rig_read(&r, LIMITED - 4, 4), RIG_CODE64);
	/* and what is wrong with it is the caller's fault */
	far_call_rig(RIG_LONG, 0xff);
	rig_write(&r, RIG_DATA_AT, CALLEE | (uint64_t)RIG_CODE32 << 32, 8);
	r.s.gpr[X86_RSI] = RIG_DATA_AT;
	RIG_FAULTS(&r, X86_SS_FAULT, 0, 0, 0xff, 0x1e);
	assert_int_equal(rig_pushed(&r, 2), RIG_CODE64);
	assert_int_equal(rig_pushed(&r, 4), HIGH_SP);
}

static void far_returns_move_the_stack_of_the_caller(void **state)
{
	far_call_rig(RIG_COMPAT, 0xffff);
	r.s.gpr[X86_RSP] = 0x3fffc;
	rig_write(&r, RIG_DATA_AT + 0xfffc, CALLEE, 4);
	rig_write(&r, RIG_DATA_AT, RIG_CODE64, 4); /* read where the old stack wraps */
	RIG_EXEC(&r, 0xcb);
	assert_int_equal(r.s.gpr[X86_RIP], CALLEE + 1);
	assert_int_equal(r.s.gpr[X86_RSP], 0x40004);
}

/* --- IRET --- */

static void push_frame(unsigned size, unsigned count, const uint64_t *values)
{
	for (unsigned n = 0; n < count; n++)
		rig_write(&r, RIG_STACK + n * size, values[n], size);
}

static void iret_goes_outward(void **state)
{
	const uint64_t frame[] = { RIG_CODE + 1, RIG_UCODE32, X86_IF | X86_AC | 2, 0x70000, RIG_UDATA };

	push_frame(4, 5, frame);
	rig_seg(&r, X86_ES, RIG_UDATA);
	RIG_EXEC(&r, 0xcf, 0x0f, 0x0b);
	assert_int_equal(rig_vector(&r), X86_UD);
	assert_int_equal(rig_pushed(&r, 1), RIG_UCODE32);
	assert_int_equal(rig_pushed(&r, 2) & ~X86_RF, X86_IF | X86_AC | 2);
	assert_int_equal(rig_pushed(&r, 3), 0x70000);
	assert_true(r.s.seg[X86_DS].unusable);
	assert_false(r.s.seg[X86_ES].unusable);
}

static void iret_checks(void **state)
{
	static const struct {
		uint64_t frame[5];
		uint32_t error;
		uint8_t vector;
	} cases[] = {
		{ { RIG_CODE + 1, 0, 2 }, 0, X86_GP },
		{ { RIG_CODE + 1, RIG_DATA, 2 }, RIG_DATA, X86_GP },
		{ { RIG_CODE + 1, RIG_CODE32 | 3, 2, 0, RIG_UDATA }, RIG_CODE32, X86_GP }, /* DPL is not RPL */
		{ { RIG_CODE + 1, RIG_UCODE32, 2, 0, 0 }, 0, X86_GP },
		{ { RIG_CODE + 1, RIG_UCODE32, 2, 0, RIG_DATA }, RIG_DATA, X86_GP },
		{ { RIG_CODE + 1, RIG_UCODE32, 2, 0, RIG_UCODE32 }, RIG_UCODE32 & ~3u, X86_GP },
		{ { RIG_CODE + 1, 0x1000, 2 }, 0x1000, X86_GP },
	};

	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		rig_reset(&r, RIG_PROT32);
		push_frame(4, 5, cases[n].frame);
		RIG_FAULTS(&r, cases[n].vector, cases[n].error, 0, 0xcf);
	}
	/* An inner level. */
	rig_reset(&r, RIG_PROT32);
	rig_user(&r);
	const uint64_t inward[] = { RIG_CODE + 1, RIG_CODE32, 2 };
	push_frame(4, 3, inward);
	RIG_FAULTS(&r, X86_GP, RIG_CODE32, 0, 0xcf);
}

static void iret_changes_only_the_flags_it_may(void **state)
{
	const uint64_t frame[] = { RIG_CODE + 1, RIG_UCODE32, X86_IOPL | X86_VIF | X86_VIP | X86_CF | 2 };

	rig_user(&r);
	r.s.rflags |= X86_IF;
	push_frame(4, 3, frame);
	RIG_EXEC(&r, 0xcf, 0x0f, 0x0b);
	assert_int_equal(rig_pushed(&r, 2) & ~X86_RF, X86_IF | X86_CF | 2);
	/* With 16 bits the upper half stays, AC here. */
	rig_reset(&r, RIG_PROT32);
	r.s.rflags |= X86_AC;
	rig_write(&r, RIG_STACK, (RIG_CODE + 2) & 0xffff, 2);
	rig_write(&r, RIG_STACK + 2, RIG_SPARE, 2);
	rig_write(&r, RIG_STACK + 4, X86_CF | 2, 2);
	rig_desc(&r, RIG_SPARE, RIG_DESC(RIG_CODE, 0xffff, CODE_RX, 0));
	RIG_EXEC(&r, 0x66, 0xcf);
	assert_int_equal(r.s.rflags, X86_AC | X86_CF | 2);
	assert_int_equal(r.s.gpr[X86_RSP], RIG_STACK + 6);
}

static void iret_of_64_bits_always_takes_the_stack(void **state)
{
	const uint64_t frame[] = { RIG_CODE + 2, RIG_CODE64, 2, 0x70000, 0 };

	rig_reset(&r, RIG_LONG);
	push_frame(8, 5, frame);
	RIG_EXEC(&r, 0x48, 0xcf);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(r.s.gpr[X86_RSP], 0x70000);
	assert_int_equal(r.s.seg[X86_SS].sel, 0); /* null, at level 0 */
	/* To compatibility mode SS may not be null. */
	rig_reset(&r, RIG_LONG);
	const uint64_t compat[] = { RIG_CODE + 2, RIG_CODE32, 2, 0x70000, 0 };
	push_frame(8, 5, compat);
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x48, 0xcf);
	/* There are no tasks to go back to. */
	rig_reset(&r, RIG_LONG);
	push_frame(8, 5, frame);
	r.s.rflags |= X86_NT;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x48, 0xcf);
}

/* --- SYSCALL, SYSENTER --- */

static void set_star(uint16_t user)
{
	r.s.efer |= X86_EFER_SCE;
	r.s.star = (uint64_t)user << 48 | (uint64_t)RIG_CODE64 << 32;
	r.s.lstar = RIG_DATA_AT;
	r.s.cstar = RIG_DATA_AT + 1;
	rig_write(&r, RIG_DATA_AT, 0xf4f4, 2);
}

static void syscall_and_sysret(void **state)
{
	rig_reset(&r, RIG_LONG);
	rig_user(&r);
	set_star(0);
	r.s.fmask = X86_IF;
	r.s.rflags |= X86_IF;
	RIG_EXEC(&r, 0x0f, 0x05);
	assert_int_equal(r.s.gpr[X86_RIP], RIG_DATA_AT + 1);
	assert_int_equal(rig_reg(&r, X86_RCX), RIG_CODE + 2);
	assert_int_equal(rig_reg(&r, 11), X86_IF | 2);
	assert_int_equal(r.s.seg[X86_CS].sel, RIG_CODE64);
	assert_int_equal(r.s.seg[X86_SS].sel, RIG_CODE64 + 8);
	assert_false(r.s.rflags & X86_IF);
	assert_int_equal(tiny_cpu(&r.vm)->cpl, 0);
	/* Back, to 64 and 32 bits. */
	for (unsigned wide = 0; wide < 2; wide++) {
		rig_reset(&r, RIG_LONG);
		set_star(0x33);
		r.s.gpr[X86_RCX] = RIG_CODE + 3;
		r.s.gpr[11] = X86_IF | X86_RF | 2;
		if (wide)
			RIG_EXEC(&r, 0x48, 0x0f, 0x07, 0x0f, 0x0b);
		else
			RIG_EXEC(&r, 0x90, 0x0f, 0x07, 0x0f, 0x0b);
		assert_int_equal(rig_vector(&r), X86_UD);
		assert_int_equal(rig_pushed(&r, 0), RIG_CODE + 3);
		assert_int_equal(rig_pushed(&r, 1), wide ? 0x43 : 0x33);
		assert_int_equal(rig_pushed(&r, 4), 0x3b);
	}
	rig_reset(&r, RIG_LONG);
	RIG_FAULTS(&r, X86_UD, 0, 0, 0x0f, 0x05); /* not switched on */
	rig_reset(&r, RIG_LONG);
	set_star(0x33);
	rig_user(&r);
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x48, 0x0f, 0x07);
}

static void vendors_differ(void **state)
{
	/* SYSCALL in compatibility mode is AMD's, SYSENTER in long mode Intel's. */
	rig_reset(&r, RIG_COMPAT);
	rig_user(&r);
	set_star(0);
	RIG_EXEC(&r, 0x0f, 0x05);
	assert_int_equal(r.s.gpr[X86_RIP], RIG_DATA_AT + 2);
	rig_reset(&r, RIG_LONG);
	r.s.sysenter_cs = RIG_CODE64;
	RIG_FAULTS(&r, X86_UD, 0, 0, 0x0f, 0x34);
	/* A SYSRET to a non-canonical address faults there. */
	rig_reset(&r, RIG_LONG);
	set_star(0x33);
	r.s.gpr[X86_RCX] = 1ull << 47;
	RIG_EXEC(&r, 0x48, 0x0f, 0x07);
	assert_int_equal(rig_vector(&r), X86_GP);
	assert_true(rig_pushed(&r, 1) == 1ull << 47);
	assert_int_equal(rig_pushed(&r, 2), 0x43);
	rig_free(&r);
	rig_new(&r, RIG_COMPAT, "max,vendor=GenuineIntel");
	rig_user(&r);
	set_star(0);
	RIG_FAULTS(&r, X86_UD, 0, 0, 0x0f, 0x05);
	rig_reset(&r, RIG_LONG);
	set_star(0x33);
	r.s.gpr[X86_RCX] = 1ull << 47;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x48, 0x0f, 0x07);
	rig_reset(&r, RIG_LONG);
	rig_user(&r);
	r.s.sysenter_cs = RIG_CODE64;
	r.s.sysenter_eip = RIG_DATA_AT;
	r.s.sysenter_esp = RIG_STACK0;
	rig_write(&r, RIG_DATA_AT, 0xf4, 1);
	RIG_EXEC(&r, 0x0f, 0x34);
	assert_int_equal(r.s.gpr[X86_RIP], RIG_DATA_AT + 1);
	assert_int_equal(r.s.seg[X86_CS].sel, RIG_CODE64);
}

static void sysenter_and_sysexit(void **state)
{
	rig_user(&r);
	r.s.rflags |= X86_IF;
	r.s.sysenter_cs = RIG_CODE32;
	r.s.sysenter_eip = RIG_DATA_AT;
	r.s.sysenter_esp = RIG_STACK0;
	rig_write(&r, RIG_DATA_AT, 0xf4, 1);
	RIG_EXEC(&r, 0x0f, 0x34);
	assert_int_equal(r.s.gpr[X86_RIP], RIG_DATA_AT + 1);
	assert_int_equal(r.s.gpr[X86_RSP], RIG_STACK0);
	assert_int_equal(r.s.seg[X86_CS].sel, RIG_CODE32);
	assert_int_equal(r.s.seg[X86_SS].sel, RIG_CODE32 + 8);
	assert_false(r.s.rflags & X86_IF);
	rig_reset(&r, RIG_PROT32);
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x0f, 0x34); /* no CS */
	rig_reset(&r, RIG_PROT32);
	r.s.sysenter_cs = RIG_CODE32;
	r.s.gpr[X86_RCX] = 0x70000;
	r.s.gpr[X86_RDX] = RIG_CODE + 2;
	RIG_EXEC(&r, 0x0f, 0x35, 0x0f, 0x0b);
	assert_int_equal(rig_vector(&r), X86_UD);
	assert_int_equal(rig_pushed(&r, 1), (RIG_CODE32 + 16) | 3);
	assert_int_equal(rig_pushed(&r, 3), 0x70000);
	assert_int_equal(rig_pushed(&r, 4), (RIG_CODE32 + 24) | 3);
	rig_reset(&r, RIG_PROT32);
	rig_user(&r);
	r.s.sysenter_cs = RIG_CODE32;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x0f, 0x35);
}

static void bases_of_fs_and_gs(void **state)
{
	rig_reset(&r, RIG_LONG);
	r.s.kernel_gs_base = 0x1234;
	r.s.seg[X86_GS].base = 0x5678;
	RIG_EXEC(&r, 0x0f, 0x01, 0xf8);
	assert_int_equal(r.s.seg[X86_GS].base, 0x1234);
	assert_int_equal(r.s.kernel_gs_base, 0x5678);
	rig_reset(&r, RIG_LONG);
	rig_user(&r);
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x0f, 0x01, 0xf8);
	rig_reset(&r, RIG_LONG);
	RIG_FAULTS(&r, X86_UD, 0, 0, 0xf3, 0x48, 0x0f, 0xae, 0xd0); /* wrfsbase rax without CR4.FSGSBASE */
	rig_reset(&r, RIG_LONG);
	rig_user(&r);
	r.s.cr4 |= X86_CR4_FSGSBASE;
	r.s.gpr[X86_RAX] = RIG_DATA_AT - 16;
	rig_write(&r, RIG_DATA_AT, 0x77, 4);
	RIG_EXEC(&r, 0xf3, 0x48, 0x0f, 0xae, 0xd0, 0x64, 0x8b, 0x1c, 0x25, 16, 0, 0, 0, 0xf3, 0x48, 0x0f, 0xae, 0xc1,
		 0x0f, 0x0b); /* mov ebx, fs:[16]; rdfsbase rcx; ud2 */
	assert_int_equal(rig_reg(&r, X86_RBX), 0x77);
	assert_int_equal(rig_reg(&r, X86_RCX), RIG_DATA_AT - 16);
	rig_reset(&r, RIG_LONG);
	r.s.cr4 |= X86_CR4_FSGSBASE;
	r.s.seg[X86_FS].base = 0x7f0123456780;
	RIG_EXEC(&r, 0xf3, 0x48, 0x0f, 0xae, 0xc1, 0xf3, 0x0f, 0xae, 0xc2); /* rdfsbase rcx; rdfsbase edx */
	assert_int_equal(rig_reg(&r, X86_RCX), 0x7f0123456780);
	assert_int_equal(rig_reg(&r, X86_RDX), 0x23456780);
	rig_reset(&r, RIG_LONG);
	r.s.cr4 |= X86_CR4_FSGSBASE;
	r.s.gpr[X86_RAX] = 1ull << 47;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0xf3, 0x48, 0x0f, 0xae, 0xd8);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(data_limits),
		TEST(the_last_byte_of_a_real_mode_segment),
		TEST(types_say_what_may_be_done),
		TEST(privilege_of_data),
		TEST(code_limits),
		TEST(lar_and_lsl_tell_what_may_be_seen),
		TEST(conforming_code_runs_at_the_callers_level),
		TEST(conforming_code_behind_gates_and_returns),
		TEST(call_gates_change_level_and_stack),
		TEST(call_gates_of_16_bits),
		TEST(call_gates_check),
		TEST(call_gates_of_64_bits),
		TEST(mode_changes_by_far_jumps),
		TEST(far_calls_use_the_stack_of_the_callee),
		TEST(far_returns_move_the_stack_of_the_caller),
		TEST(iret_goes_outward),
		TEST(iret_checks),
		TEST(iret_changes_only_the_flags_it_may),
		TEST(iret_of_64_bits_always_takes_the_stack),
		TEST(syscall_and_sysret),
		TEST(vendors_differ),
		TEST(sysenter_and_sysexit),
		TEST(bases_of_fs_and_gs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
