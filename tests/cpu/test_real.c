/*
 * Real mode: segments without descriptors, 16-bit offsets, the interrupt table, 32-bit prefixes, big segments left from
 * protected mode. SDM vol. 3, chapter 21. Nothing masks A20: that is for the machine's port 92h, and it is always on.
 */
#include "rig.h"

#include <string.h>

#include "base/bytes.h"

static struct rig r;

static int setup(void **state)
{
	rig_new(&r, RIG_REAL, NULL);
	return 0;
}

static int teardown(void **state)
{
	rig_free(&r);
	return 0;
}

static void base_of(enum x86_seg seg, uint16_t sel)
{
	r.s.seg[seg].sel = sel;
	r.s.seg[seg].base = (uint32_t)sel << 4;
}

/* --- segments and offsets --- */

static void a_selector_is_a_base(void **state)
{
	rig_write(&r, 0x12350, 0x11, 1);
	rig_write(&r, 0x100000, 0x22, 1); /* FFFF:0010 is beyond 1 MiB */
	r.s.gpr[X86_RAX] = 0x1235;
	r.s.gpr[X86_RDX] = 0xffff;
	/* mov ds, ax; mov cl, [0]; mov ds, dx; mov ch, [10h] */
	RIG_EXEC(&r, 0x8e, 0xd8, 0x8a, 0x0e, 0, 0, 0x8e, 0xda, 0x8a, 0x2e, 0x10, 0);
	assert_int_equal(rig_reg(&r, X86_RCX), 0x2211);
	assert_int_equal(r.s.seg[X86_DS].sel, 0xffff);
	assert_int_equal(r.s.seg[X86_DS].base, 0xffff0);
	assert_int_equal(r.s.seg[X86_DS].limit, 0xffff);
	/* les bx, [20h]; pop ds */
	rig_reset(&r, RIG_REAL);
	rig_write(&r, 0x20, 0x43210007, 4);
	rig_write(&r, 0x80000 + 0xfff0, 0x8765, 2);
	RIG_EXEC(&r, 0xc4, 0x1e, 0x20, 0, 0x1f);
	assert_int_equal(rig_reg(&r, X86_RBX), 7);
	assert_int_equal(r.s.seg[X86_ES].base, 0x43210);
	assert_int_equal(r.s.seg[X86_DS].base, 0x87650);
	assert_int_equal(rig_reg(&r, X86_RSP), 0xfff2);
}

static void offsets_wrap_at_64_k(void **state)
{
	base_of(X86_DS, 0x2000);
	rig_write(&r, RIG_DATA_AT + 0x10, 0x5a, 1);
	r.s.gpr[X86_RBX] = 0xfff0;
	r.s.gpr[X86_RSI] = 0x20;
	RIG_EXEC(&r, 0x8a, 0x00, 0x8a, 0x67, 0x20); /* mov al, [bx + si]; mov ah, [bx + 20h] */
	assert_int_equal(rig_reg(&r, X86_RAX), 0x5a5a);
	/* rep movsb from FFFE, FFFF, 0, 1 */
	rig_reset(&r, RIG_REAL);
	base_of(X86_DS, 0x2000);
	base_of(X86_ES, 0x4000);
	rig_write(&r, RIG_DATA_AT + 0xfffe, 0x2211, 2);
	rig_write(&r, RIG_DATA_AT + 0x10000, 0xeeee, 2);
	rig_write(&r, RIG_DATA_AT, 0x4433, 2);
	r.s.gpr[X86_RSI] = 0x7777fffe;
	r.s.gpr[X86_RDI] = 0x77770100;
	r.s.gpr[X86_RCX] = 0x77770004;
	RIG_EXEC(&r, 0xf3, 0xa4);
	assert_int_equal(rig_read(&r, 0x40100, 4), 0x44332211);
	assert_int_equal(rig_reg(&r, X86_RSI), 0x77770002);
	assert_int_equal(rig_reg(&r, X86_RDI), 0x77770104);
	assert_int_equal(rig_reg(&r, X86_RCX), 0x77770000);
}

static void what_runs_over_the_end_faults(void **state)
{
	r.s.gpr[X86_RBX] = r.s.gpr[X86_RBP] = 0xffff;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x8b, 0x07); /* mov ax, [bx] */
	rig_reset(&r, RIG_REAL);
	r.s.gpr[X86_RBP] = 0xffff;
	RIG_FAULTS(&r, X86_SS_FAULT, 0, 0, 0x8b, 0x46, 0x00); /* mov ax, [bp] */
	rig_reset(&r, RIG_REAL);
	r.s.gpr[X86_RBX] = 0x10000;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x67, 0x8a, 0x03); /* mov al, [ebx] */
	/* Faults push no error code. */
	assert_int_equal(rig_reg(&r, X86_RSP), 0xfff0 - 6);
}

/* --- the stack --- */

static void the_stack_pointer_has_16_bits(void **state)
{
	r.s.gpr[X86_RSP] = 0x12340000;
	r.s.gpr[X86_RAX] = 0xabcd;
	RIG_EXEC(&r, 0x50); /* push ax */
	assert_int_equal(rig_reg(&r, X86_RSP), 0x1234fffe);
	assert_int_equal(rig_read(&r, 0x80000 + 0xfffe, 2), 0xabcd);
	/* push eax; pop bx; pop cx */
	rig_reset(&r, RIG_REAL);
	r.s.gpr[X86_RAX] = 0x11112222;
	RIG_EXEC(&r, 0x66, 0x50, 0x5b, 0x59);
	assert_int_equal(rig_reg(&r, X86_RBX), 0x2222);
	assert_int_equal(rig_reg(&r, X86_RCX), 0x1111);
	/* A word that does not fit: the frame of the fault does not either. */
	rig_reset(&r, RIG_REAL);
	r.s.gpr[X86_RSP] = 1;
	RIG_EXEC(&r, 0x50);
	assert_int_equal(rig_vector(&r), -2);
	rig_reset(&r, RIG_REAL);
	r.s.gpr[X86_RSP] = 0xffff;
	RIG_FAULTS(&r, X86_SS_FAULT, 0, 0, 0x58); /* pop ax */
}

/* --- the flow of control --- */

static void ip_has_16_bits(void **state)
{
	/* jmp -20h, from the start */
	rig_write(&r, RIG_CODE + 0xffe2, 0xf4, 1);
	RIG_EXEC(&r, 0xeb, 0xe0);
	assert_int_equal(rig_reg(&r, X86_RIP), 0xffe3);
	/* With an operand size of 32 it does not wrap: beyond the limit. */
	rig_reset(&r, RIG_REAL);
	RIG_FAULTS(&r, X86_GP, 0, 1, 0x90, 0x66, 0xe9, 0xe0, 0xff, 0xff, 0xff);
	/* The instruction after FFFF is not the one at 0. */
	rig_reset(&r, RIG_REAL);
	rig_write(&r, RIG_CODE + 0xffff, 0x90, 1);
	r.s.gpr[X86_RIP] = 0xffff;
	rig_run(&r);
	assert_int_equal(rig_vector(&r), X86_GP);
	assert_int_equal(rig_pushed(&r, 0), 0); /* 10000h in 16 bits */
	/* Nor do its own bytes wrap. */
	rig_reset(&r, RIG_REAL);
	rig_write(&r, RIG_CODE + 0xffff, 0xb0, 1); /* mov al, ... */
	r.s.gpr[X86_RIP] = 0xffff;
	rig_run(&r);
	assert_int_equal(rig_vector(&r), X86_GP);
	assert_int_equal(rig_pushed(&r, 0), 0xffff);
}

static void far_transfers_load_a_base(void **state)
{
	/* call 2345:0006 */
	rig_write(&r, 0x23456, 0xf4, 1);
	RIG_EXEC(&r, 0x9a, 0x06, 0, 0x45, 0x23);
	assert_int_equal(r.s.seg[X86_CS].base, 0x23450);
	assert_int_equal(rig_reg(&r, X86_RIP), 7);
	assert_int_equal(rig_reg(&r, X86_RSP), 0xffec);
	assert_int_equal(rig_read(&r, 0x8ffec, 4), 0x10000005);
	/* with 32 bits: 8 bytes */
	rig_reset(&r, RIG_REAL);
	rig_write(&r, 0x8ffe8, ~0ull, 8);
	RIG_EXEC(&r, 0x66, 0x9a, 0x06, 0, 0, 0, 0x45, 0x23);
	assert_int_equal(rig_reg(&r, X86_RIP), 7);
	assert_int_equal(rig_reg(&r, X86_RSP), 0xffe8);
	assert_int_equal(rig_read(&r, 0x8ffe8, 4), 8);
	assert_int_equal(rig_read(&r, 0x8ffec, 2), 0x1000);
	/* jmp 2345:0006; an offset beyond the limit */
	rig_reset(&r, RIG_REAL);
	RIG_EXEC(&r, 0xea, 0x06, 0, 0x45, 0x23);
	assert_int_equal(rig_reg(&r, X86_RIP), 7);
	rig_reset(&r, RIG_REAL);
	RIG_FAULTS(&r, X86_GP, 0, 1, 0x90, 0x66, 0xea, 0, 0, 1, 0, 0x45, 0x23);
	/* retf 4 */
	rig_reset(&r, RIG_REAL);
	rig_write(&r, 0x8fff0, 0x23450006, 4);
	r.s.gpr[X86_RSP] = 0xfff0;
	RIG_EXEC(&r, 0xca, 4, 0);
	assert_int_equal(r.s.seg[X86_CS].base, 0x23450);
	assert_int_equal(rig_reg(&r, X86_RIP), 7);
	assert_int_equal(rig_reg(&r, X86_RSP), 0xfff8);
}

/* --- interrupts --- */

static void interrupts_push_three_words(void **state)
{
	r.s.rflags |= X86_IF | X86_CF;
	r.s.gpr[X86_RSP] = 0x55550008;
	RIG_EXEC(&r, 0x90, 0xcd, 0x21);
	assert_int_equal(rig_vector(&r), 0x21);
	assert_int_equal(rig_reg(&r, X86_RSP), 0x55550002);
	assert_int_equal(rig_pushed(&r, 0), 3);
	assert_int_equal(rig_pushed(&r, 1), 0x1000);
	assert_int_equal(rig_pushed(&r, 2), X86_IF | X86_CF | 2);
	assert_false(r.s.rflags & (X86_IF | X86_TF));
	assert_true(r.s.rflags & X86_CF);
	assert_int_equal(r.s.seg[X86_CS].base, RIG_HANDLERS);
}

static void the_table_lies_where_lidt_says(void **state)
{
	/* lidt [500h]: base 300h, limit 7; int 1 goes through 304h */
	rig_write(&r, 0x500, 7 | 0x300 << 16, 6);
	rig_write(&r, 0x304, 0x23450006, 4);
	rig_write(&r, 0x23456, 0xf4, 1);
	RIG_EXEC(&r, 0x0f, 0x01, 0x1e, 0, 5, 0xcd, 0x01);
	assert_int_equal(r.s.seg[X86_CS].base, 0x23450);
	assert_int_equal(rig_reg(&r, X86_RIP), 7);
	/* An entry that the limit cuts off: #GP, here with a place in the table. */
	rig_reset(&r, RIG_REAL);
	r.s.idt.limit = 4 * 0x21 + 2;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0xcd, 0x21);
	/* No place for #GP nor for #DF. */
	rig_reset(&r, RIG_REAL);
	r.s.idt.limit = 7;
	RIG_EXEC(&r, 0xcd, 0x21);
	assert_int_equal(rig_vector(&r), -2);
	/* Only 24 bits of the base are taken without 66. */
	rig_reset(&r, RIG_REAL);
	rig_write(&r, 0x500, 0x3ff | 0xff000300ull << 16, 8);
	RIG_EXEC(&r, 0x0f, 0x01, 0x1e, 0, 5);
	assert_int_equal(r.s.idt.base, 0x300);
	rig_reset(&r, RIG_REAL);
	RIG_EXEC(&r, 0x66, 0x0f, 0x01, 0x1e, 0, 5);
	assert_true(r.s.idt.base == 0xff000300);
}

static void iret_takes_what_was_pushed(void **state)
{
	rig_write(&r, 0x8fff0, 0x23450006, 4);
	rig_write(&r, 0x8fff4, X86_CF | X86_DF | X86_IOPL | X86_NT, 2);
	rig_write(&r, 0x23456, 0xf4, 1);
	r.s.gpr[X86_RSP] = 0xfff0;
	RIG_EXEC(&r, 0xcf);
	assert_int_equal(rig_reg(&r, X86_RIP), 7);
	assert_int_equal(r.s.seg[X86_CS].sel, 0x2345);
	assert_int_equal(rig_reg(&r, X86_RSP), 0xfff6);
	assert_int_equal(r.s.rflags, X86_CF | X86_DF | X86_IOPL | X86_NT | 2);
	/* iretd: 12 bytes; VM is not for it to set */
	rig_reset(&r, RIG_REAL);
	rig_write(&r, 0x8ffe0, 6, 4);
	rig_write(&r, 0x8ffe4, 0xffff2345, 4);
	rig_write(&r, 0x8ffe8, X86_ID | X86_VM | X86_ZF, 4);
	r.s.gpr[X86_RSP] = 0xffe0;
	RIG_EXEC(&r, 0x66, 0xcf);
	assert_int_equal(rig_reg(&r, X86_RIP), 7);
	assert_int_equal(rig_reg(&r, X86_RSP), 0xffec);
	assert_int_equal(r.s.rflags, X86_ID | X86_ZF | 2);
}

/* --- what is left from protected mode --- */

static void big_segments_stay_big(void **state)
{
	static const uint8_t code[] = {
		0x0f, 0x20,	0xc0,		  /* mov eax, cr0 */
		0x0c, 0x01,			  /* or al, 1 */
		0x0f, 0x22,	0xc0,		  /* mov cr0, eax */
		0xbb, RIG_DATA, 0,		  /* mov bx, RIG_DATA */
		0x8e, 0xdb,			  /* mov ds, bx */
		0x24, 0xfe,			  /* and al, 0feh */
		0x0f, 0x22,	0xc0,		  /* mov cr0, eax */
		0x67, 0x8b,	0x0e,		  /* mov cx, [esi] */
		0xbb, 0x00,	0x20, 0x8e, 0xdb, /* mov bx, 2000h; mov ds, bx */
		0x67, 0x8b,	0x16,		  /* mov dx, [esi] */
		0x67, 0x26,	0x8b, 0x3e, 0xf4, /* mov di, es:[esi]: that one has its limit */
	};

	rig_write(&r, 0x210000, 0x1234, 2);
	rig_write(&r, 0x210000 + RIG_DATA_AT, 0x5678, 2);
	r.s.gpr[X86_RSI] = 0x210000;
	rig_exec(&r, code, sizeof(code));
	assert_int_equal(rig_vector(&r), X86_GP);
	assert_int_equal(rig_pushed(&r, 0), sizeof(code) - 5);
	assert_int_equal(rig_reg(&r, X86_RCX), 0x1234);
	assert_int_equal(rig_reg(&r, X86_RDX), 0x5678);
	assert_int_equal(r.s.seg[X86_DS].limit, 0xffffffff);
	assert_int_equal(r.s.seg[X86_DS].base, RIG_DATA_AT);
}

static void prefixes_give_32_bits(void **state)
{
	r.s.gpr[X86_RAX] = 0xffff0000;
	r.s.gpr[X86_RBX] = 0x100;
	r.s.gpr[X86_RCX] = 0x10;
	rig_write(&r, 0x144, 0x99, 1);
	/* add eax, 10001h; inc ax; mov dl, [ebx + ecx * 4 + 4] */
	RIG_EXEC(&r, 0x66, 0x05, 1, 0, 1, 0, 0x40, 0x67, 0x8a, 0x54, 0x8b, 4);
	assert_int_equal(rig_reg(&r, X86_RAX), 2);
	assert_int_equal(rig_reg(&r, X86_RDX), 0x99);
}

static void some_instructions_are_not_there(void **state)
{
	static const uint8_t codes[][3] = {
		{ 0x0f, 0x05 },	      /* syscall (LOADALL on a 286): EFER.SCE is off */
		{ 0x0f, 0x07 },	      /* sysret (LOADALL on a 386) */
		{ 0x0f, 0x00, 0xc0 }, /* sldt ax */
		{ 0x0f, 0x02, 0xc0 }, /* lar */
		{ 0x63, 0xc0 },	      /* arpl */
		{ 0x0f, 0xaa },	      /* rsm */
		{ 0xc4, 0xc0 },	      /* les of a register, no VEX */
	};

	for (unsigned n = 0; n < ARRAY_LEN(codes); n++) {
		rig_reset(&r, RIG_REAL);
		rig_exec(&r, codes[n], sizeof(codes[n]));
		assert_int_equal(rig_vector(&r), X86_UD);
		assert_int_equal(rig_pushed(&r, 0), 0);
	}
	/* SYSENTER is there, but not in this mode. */
	rig_reset(&r, RIG_REAL);
	r.s.sysenter_cs = RIG_CODE32;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x0f, 0x34);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_selector_is_a_base),
		TEST(offsets_wrap_at_64_k),
		TEST(what_runs_over_the_end_faults),
		TEST(the_stack_pointer_has_16_bits),
		TEST(ip_has_16_bits),
		TEST(far_transfers_load_a_base),
		TEST(interrupts_push_three_words),
		TEST(the_table_lies_where_lidt_says),
		TEST(iret_takes_what_was_pushed),
		TEST(big_segments_stay_big),
		TEST(prefixes_give_32_bits),
		TEST(some_instructions_are_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
