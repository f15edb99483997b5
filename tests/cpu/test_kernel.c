/* Small things that kernels do all the time: interrupt flag, PUSHF, AC, SWAPGS, segment registers, CH. */
#include "rig.h"

#include <string.h>

#define DEVICE 0x2000000 /* is no RAM */

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

#define PUSHF_POP(pop) 0x9c, pop

static void the_interrupt_flag_is_cleared(void **state)
{
	rig_reset(&r, RIG_LONG);
	r.s.rflags |= X86_IF;
	/* cmp eax, eax; stc; pushf; pop rcx; cli; pushf; pop rdx */
	RIG_EXEC(&r, 0x39, 0xc0, 0xf9, PUSHF_POP(0x59), 0xfa, PUSHF_POP(0x5a));
	assert_int_equal(rig_reg(&r, X86_RCX), X86_IF | X86_ZF | X86_PF | X86_CF | 2);
	assert_int_equal(rig_reg(&r, X86_RDX), X86_ZF | X86_PF | X86_CF | 2);
	/* Not at level 3. */
	rig_reset(&r, RIG_LONG);
	rig_user(&r);
	RIG_FAULTS(&r, X86_GP, 0, 1, 0x90, 0xfa);
}

static void pushf_shows_all_but_rf(void **state)
{
	rig_reset(&r, RIG_LONG);
	r.s.rflags |= X86_DF | X86_ID | X86_NT | X86_AC | X86_IOPL;
	/* mov al, 7fh; inc al (OF, SF, AF); pushf; pop rdx; std; pushf; pop rsi; cld; pushf; pop rdi */
	RIG_EXEC(&r, 0xb0, 0x7f, 0xfe, 0xc0, PUSHF_POP(0x5a), 0xfc, PUSHF_POP(0x5e), 0xfd, PUSHF_POP(0x5f));
	assert_int_equal(rig_reg(&r, X86_RDX),
			 X86_DF | X86_ID | X86_NT | X86_AC | X86_IOPL | X86_OF | X86_SF | X86_AF | 2);
	assert_int_equal(rig_reg(&r, X86_RSI), rig_reg(&r, X86_RDX) & ~(uint64_t)X86_DF);
	assert_int_equal(rig_reg(&r, X86_RDI), rig_reg(&r, X86_RDX));
}

/* The kernel's own pages are not the user's; those from 800000h are. */
static void smap_on(void)
{
	rig_reset(&r, RIG_LONG);
	for (unsigned n = 0; n < 4; n++)
		rig_write(&r, 0x3000 + 8 * n, (uint64_t)n << 21 | 0x83, 8);
	rig_write(&r, 0x2000, 0x3007, 8);
	rig_write(&r, TINY_CR3, 0x2007, 8);
	for (unsigned n = 4; n < 8; n++)
		rig_write(&r, 0x3000 + 8 * n, (uint64_t)n << 21 | 0x87, 8);
	r.s.cr4 |= X86_CR4_SMAP;
	r.s.gpr[X86_RSI] = 0x800000;
	rig_write(&r, 0x800000, 0x1234, 8);
	rig_write(&r, 0x800008, 0, 8);
}

static void ac_opens_user_pages_within_a_block(void **state)
{
	smap_on();
	/* Twice: mov [rsp - 8], ebx; stac; mov eax, [rsi]; inc dword [rsi + 8]; clac; add ebx, eax; pushf; pop rdx */
	RIG_EXEC(&r, 0xb9, 2, 0, 0, 0, 0x89, 0x5c, 0x24, 0xf8, 0x0f, 0x01, 0xcb, 0x8b, 0x06, 0xff, 0x46, 8, 0x0f, 0x01,
		 0xca, 0x01, 0xc3, PUSHF_POP(0x5a), 0xff, 0xc9, 0x75, 0xe9);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(rig_reg(&r, X86_RBX), 0x2468);
	assert_int_equal(rig_reg(&r, X86_RDX) & X86_AC, 0);
	assert_int_equal(rig_read(&r, 0x800008, 4), 2);
	/* Behind CLAC the page that was just written is closed. Others of the same place in the TLB come before. */
	smap_on();
	r.s.gpr[X86_RDI] = 0x400000;
	r.s.gpr[X86_RAX] = 0x77;
	RIG_FAULTS(&r, X86_PF_FAULT, 3, 16, 0x89, 0x1f, 0x0f, 0x01, 0xcb, 0x89, 0x86, 0, 0, 0x40, 0, 0x89, 0x06, 0x0f,
		   0x01, 0xca, 0x89, 0x06);
	assert_int_equal(rig_read(&r, 0x800000, 4), 0x77);
	/* It may have been open before, and STAC open what is open. */
	smap_on();
	r.s.rflags |= X86_AC;
	RIG_FAULTS(&r, X86_PF_FAULT, 1, 10, 0x8b, 0x06, 0x0f, 0x01, 0xcb, 0x8b, 0x1e, 0x0f, 0x01, 0xca, 0x8b, 0x0e);
	assert_int_equal(rig_reg(&r, X86_RBX), 0x1234);
	/* Without SMAP nothing changes but the flag. */
	smap_on();
	r.s.cr4 &= ~(uint64_t)X86_CR4_SMAP;
	r.s.rflags |= X86_AC;
	RIG_EXEC(&r, 0x0f, 0x01, 0xca, 0x8b, 0x06, PUSHF_POP(0x5a));
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(rig_reg(&r, X86_RDX) & X86_AC, 0);
}

static void what_a_block_leads_to_sees_ac_as_it_is_then(void **state)
{
	smap_on();
	/* stac; jmp 1f; 1: mov eax, [rsi]; clac; lea rbx, [rip + 2]; jmp rbx; 2: mov eax, [rsi] */
	RIG_FAULTS(&r, X86_PF_FAULT, 1, 19, 0x0f, 0x01, 0xcb, 0xeb, 0, 0x8b, 0x06, 0x0f, 0x01, 0xca, 0x48, 0x8d, 0x1d,
		   2, 0, 0, 0, 0xff, 0xe3, 0x8b, 0x06);
	assert_int_equal(rig_reg(&r, X86_RAX), 0x1234);
}

static void swapgs_exchanges_the_bases(void **state)
{
	rig_reset(&r, RIG_LONG);
	r.s.seg[X86_GS].base = RIG_DATA_AT;
	r.s.kernel_gs_base = RIG_DATA_AT + 0x100;
	rig_write(&r, RIG_DATA_AT, 0x11, 8);
	rig_write(&r, RIG_DATA_AT + 0x100, 0x22, 8);
	/* xor edi, edi; mov eax, gs:[rdi]; swapgs; mov ebx, gs:[rdi]; mov edx, gs */
	RIG_EXEC(&r, 0x31, 0xff, 0x65, 0x8b, 0x07, 0x0f, 0x01, 0xf8, 0x65, 0x8b, 0x1f, 0x8c, 0xea);
	assert_int_equal(rig_reg(&r, X86_RAX), 0x11);
	assert_int_equal(rig_reg(&r, X86_RBX), 0x22);
	assert_int_equal(rig_reg(&r, X86_RDX), r.s.seg[X86_GS].sel);
	assert_int_equal(r.s.seg[X86_GS].base, RIG_DATA_AT + 0x100);
	assert_int_equal(r.s.kernel_gs_base, RIG_DATA_AT);
}

static void a_division_without_room_faults(void **state)
{
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RAX] = 1ull << 63;
	r.s.gpr[X86_RCX] = ~0ull;
	RIG_FAULTS(&r, X86_DE, 0, 2, 0x48, 0x99, 0x48, 0xf7, 0xf9); /* cqo; idiv rcx */
	rig_reset(&r, RIG_LONG);
	RIG_FAULTS(&r, X86_DE, 0, 4, 0x31, 0xc9, 0x48, 0x99, 0x48, 0xf7, 0xf9); /* xor ecx, ecx; cqo; idiv rcx */
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RAX] = 7;
	r.s.gpr[X86_RDX] = r.s.gpr[X86_RCX] = 3;
	RIG_FAULTS(&r, X86_DE, 0, 1, 0x90, 0x48, 0xf7, 0xf1); /* div rcx */
	/* A dividend of two words is divided all the same: 2^64 + 7 by 3 */
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RAX] = 7;
	r.s.gpr[X86_RDX] = 1;
	r.s.gpr[X86_RCX] = 3;
	RIG_EXEC(&r, 0x48, 0xf7, 0xf9, 0xff, 0xc3);
	assert_true(rig_reg(&r, X86_RAX) == 0x5555555555555557);
	assert_int_equal(rig_reg(&r, X86_RDX), 2);
	assert_int_equal(rig_reg(&r, X86_RBX), 1);
}

static uint64_t interrupting_read(struct tiny_vm *t, uint64_t addr)
{
	t->irq = 0x40;
	vcpu_signal(t->vcpu, CPU_SIGNAL_INTR, 0);
	return 0;
}

static void an_instruction_follows_sti_before_an_interrupt(void **state)
{
	/* movsb; sti; nop; nop; hlt: within a page, and where STI is the last of one */
	static const uint64_t at[] = { RIG_CODE, RIG_CODE + 0xffe };

	r.vm.on_mmio_read = interrupting_read;
	for (size_t n = 0; n < ARRAY_LEN(at); n++) {
		rig_reset(&r, RIG_LONG);
		rig_write(&r, at[n], 0xf49090fba4, 8);
		r.s.gpr[X86_RIP] = at[n];
		r.s.gpr[X86_RSI] = DEVICE;
		r.s.gpr[X86_RDI] = RIG_DATA_AT;
		rig_run(&r);
		assert_int_equal(rig_vector(&r), 0x40);
		assert_in_range(rig_pushed(&r, 0) - at[n], 3, 5);
		assert_true(rig_pushed(&r, 2) & X86_IF);
	}
	r.vm.on_mmio_read = NULL;
}

static void system_calls_stay_in_translated_code(void **state)
{
	/* sti; inc eax; cli; sysretq */
	static const uint8_t kernel[] = { 0xfb, 0xff, 0xc0, 0xfa, 0x48, 0x0f, 0x07 };
	uint64_t before = rig_exits(&r);

	rig_reset(&r, RIG_LONG);
	rig_user(&r);
	r.vm.irq = -1;
	r.s.efer |= X86_EFER_SCE;
	r.s.star = (uint64_t)0x3b << 48 | (uint64_t)RIG_CODE64 << 32;
	r.s.lstar = RIG_CODE + 0x800;
	r.s.fmask = X86_IF | X86_CF;
	r.s.rflags |= X86_IF;
	for (size_t n = 0; n < sizeof(kernel); n++)
		rig_write(&r, r.s.lstar + n, kernel[n], 1);
	/* xor eax, eax; mov ebx, 1000; 1: stc; syscall; adc edx, 0; dec ebx; jnz 1b */
	RIG_FAULTS(&r, X86_GP, 0, 17, 0x31, 0xc0, 0xbb, 0xe8, 3, 0, 0, 0xf9, 0x0f, 0x05, 0x83, 0xd2, 0, 0xff, 0xcb,
		   0x75, 0xf6);
	assert_int_equal(rig_reg(&r, X86_RAX), 1000);
	assert_int_equal(rig_reg(&r, X86_RDX), 1000);
	assert_true(rig_reg(&r, X86_R8 + 3) & X86_CF && rig_reg(&r, X86_R8 + 3) & X86_IF);
	assert_true(rig_pushed(&r, 3) & X86_IF);
	assert_in_range(rig_exits(&r) - before, 0, 50);
}

/*
 * A program tries all addresses that are 12000h but for their upper 16 bits: each of them is a fault, also where the
 * bits that make it wrong are those in which the kernel's code, which is there, differs from the program's. SYSRET of
 * AMD's processors goes there, too, and faults behind it.
 */
static void no_address_leads_into_the_kernel(void **state)
{
	/*
	 * mov edi, 30000h; mov dword [rdi], 5ec4e7h; mov ecx, 5; 1: mov ebx, 12000h; call rbx; dec ecx; jnz 1b;
	 * xor ebx, ebx; iretq to 800000h
	 */
	static const uint8_t kernel[] = { 0xbf, 0,    0,    3,	  0,	0xc7, 7,    0xe7, 0xc4, 0x5e, 0,    0xb9,
					  5,	0,    0,    0,	  0xbb, 0,    0x20, 1,	  0,	0xff, 0xd3, 0xff,
					  0xc9, 0x75, 0xf5, 0x31, 0xdb, 0x6a, 0x3b, 0x68, 0,	0,    0x90, 0,
					  0x6a, 2,    0x6a, 0x4b, 0x68, 0,    0,    0x80, 0,	0x48, 0xcf };
	/* mov rax, [rdi]; ret */
	static const uint8_t inside[] = { 0x48, 0x8b, 7, 0xc3 };
	/* add rsp, 8; mov [rsp], r14; mov qword [rsp + 8], 4bh; iretq */
	static const uint8_t fault[] = { 0x48, 0x83, 0xc4, 8,	 0x4c, 0x89, 0x34, 0x24, 0x48, 0xc7,
					 0x44, 0x24, 8,	   0x4b, 0,    0,    0,	   0x48, 0xcf };
	/* mov rcx, rax; sysretq */
	static const uint8_t call[] = { 0x48, 0x89, 0xc1, 0x48, 0x0f, 7 };
	/*
	 * xor r15d, r15d; 1: inc r15d; mov esp, 900000h; cmp r15d, 10000h; je 3f; lea r14, [rel 1b]; lea rcx, [rel 2f];
	 * push rcx; mov rax, r15; shl rax, 48; or rax, 12000h; jmp rax, or what `branches` has; 2: mov ebx, eax; 3: ud2
	 */
	uint8_t user[] = { 0x45, 0x31, 0xff, 0x41, 0xff, 0xc7, 0xbc, 0,	   0,	 0x90, 0,    0x41, 0x81, 0xff,
			   0,	 0,    1,    0,	   0x74, 0x20, 0x4c, 0x8d, 0x35, 0xe8, 0xff, 0xff, 0xff, 0x48,
			   0x8d, 0x0d, 0x10, 0,	   0,	 0,    0x51, 0x4c, 0x89, 0xf8, 0x48, 0xc1, 0xe0, 0x30,
			   0x48, 0x0d, 0,    0x20, 1,	 0,    0xff, 0xe0, 0x89, 0xc3, 0x0f, 0x0b };
	/* jmp rax; push rax and ret; call rax; syscall */
	static const uint8_t branches[][2] = { { 0xff, 0xe0 }, { 0x50, 0xc3 }, { 0xff, 0xd0 }, { 0x0f, 5 } };

	for (size_t n = 0; n < ARRAY_LEN(branches); n++) {
		smap_on();
		rig_put(&r, RIG_CODE, kernel, sizeof(kernel));
		rig_put(&r, 0x11000, fault, sizeof(fault));
		rig_put(&r, 0x12000, inside, sizeof(inside));
		rig_put(&r, 0x13000, call, sizeof(call));
		r.s.efer |= X86_EFER_SCE;
		r.s.star = (uint64_t)(RIG_UDATA - 8) << 48 | (uint64_t)RIG_CODE64 << 32;
		r.s.lstar = 0x13000;
		memcpy(user + sizeof(user) - 6, branches[n], 2);
		rig_put(&r, 0x800000, user, sizeof(user));
		rig_write(&r, RIG_IDT + 16 * X86_GP, RIG_GATE(RIG_CODE64, 0x11000ull, 0x8e, 0), 8);
		rig_run(&r);
		assert_int_equal(rig_vector(&r), X86_UD);
		assert_int_equal(rig_reg(&r, 15), 0x10000);
		assert_int_equal(rig_reg(&r, X86_RBX), 0);
	}
}

/*
 * The page at FAR has code in two frames, of which the first is in force and known; while a change to the second is not
 * flushed both are right, and after it is taken back only the first. SAME is known in the same place of the vCPU.
 */
static void a_stale_mapping_leaves_nothing_behind(void **state)
{
	enum { FAR = 0x40000000, SAME = FAR + 0x100000, PD = RIG_TABLES, PT = RIG_TABLES + 0x1000 };
	/*
	 * mov ebx, FAR; mov ebp, SAME; mov esi, PT; mov ecx, 40; 1: mov edi, 1; call rbx; dec ecx; jnz 1b;
	 * mov dword [rsi], 301003h; call rbp; xor edi, edi; three times: call rbx;
	 * mov dword [rsi], 300003h; mov rax, cr3; mov cr3, rax; invlpg [rbx]; xor eax, eax; xor edi, edi; call rbx; hlt
	 */
	static const uint8_t code[] = { 0xbb, 0,    0,	  0,	0x40, 0xbd, 0,	  0,	0x10, 0x40, 0xbe, 0,
					0x10, 0x20, 0,	  0xb9, 40,   0,    0,	  0,	0xbf, 1,    0,	  0,
					0,    0xff, 0xd3, 0xff, 0xc9, 0x75, 0xf5, 0xc7, 6,    3,    0x10, 0x30,
					0,    0xff, 0xd5, 0x31, 0xff, 0xff, 0xd3, 0xff, 0xd3, 0xff, 0xd3, 0xc7,
					6,    3,    0,	  0x30, 0,    0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8, 0x0f,
					1,    0x3b, 0x31, 0xc0, 0x31, 0xff, 0xff, 0xd3, 0xf4 };
	/* test edi, edi; jz +60; ret. There: mov al, 1, or 2; ret */
	for (uint64_t n = 0; n < 2; n++) {
		rig_write(&r, 0x300000 + 0x1000 * n, 0xc33c74ff85, 8);
		rig_write(&r, 0x300040 + 0x1000 * n, 0xc300b0 | (n + 1) << 8, 8);
	}
	rig_write(&r, 0x310000, 0xc3, 1);
	rig_reset(&r, RIG_LONG);
	rig_write(&r, 0x2008, PD | 3, 8);
	rig_write(&r, PD, PT | 3, 8);
	rig_write(&r, PT, 0x300003, 8);
	rig_write(&r, PT + 8 * 0x100, 0x310003, 8);
	rig_put(&r, RIG_CODE, code, sizeof(code));
	rig_run(&r);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(rig_reg(&r, X86_RAX), 1);
}

static void a_branch_to_nowhere_faults_where_it_is(void **state)
{
	const uint64_t low = 0x7fffffffffff, high = 0xffff800000000000;
	const struct {
		uint64_t at, phys, code, fault;
		unsigned len;
	} cases[] = {
		{ high + 0x800, 0x800, 0xfffff000840fc031, high + 0x802, 8 }, /* xor eax, eax; jz -4096 */
		{ low - 15, 0x7ffff0, 0x7e74c031, low - 13, 4 },	      /* xor eax, eax; jz +126 */
		{ low - 3, 0x7ffffc, 0x7e75c031, low + 1, 4 },		      /* xor eax, eax; jnz +126, at the end */
		{ low, 0x7fffff, 0x90, low + 1, 1 },			      /* nop */
	};

	for (size_t n = 0; n < ARRAY_LEN(cases); n++) {
		rig_reset(&r, RIG_LONG);
		rig_write(&r, TINY_CR3 + 8 * 256, 0x2003, 8);
		rig_write(&r, TINY_CR3 + 8 * 255, RIG_TABLES | 3, 8);
		rig_write(&r, RIG_TABLES + 8 * 511, (RIG_TABLES + 0x1000) | 3, 8);
		rig_write(&r, RIG_TABLES + 0x1000 + 8 * 511, 0x600083, 8);
		rig_write(&r, cases[n].phys, cases[n].code, cases[n].len);
		r.s.gpr[X86_RIP] = cases[n].at;
		rig_run(&r);
		assert_int_equal(rig_vector(&r), X86_GP);
		assert_true(rig_pushed(&r, 1) == cases[n].fault);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_interrupt_flag_is_cleared),
		cmocka_unit_test(pushf_shows_all_but_rf),
		cmocka_unit_test(ac_opens_user_pages_within_a_block),
		cmocka_unit_test(what_a_block_leads_to_sees_ac_as_it_is_then),
		cmocka_unit_test(swapgs_exchanges_the_bases),
		cmocka_unit_test(a_division_without_room_faults),
		cmocka_unit_test(an_instruction_follows_sti_before_an_interrupt),
		cmocka_unit_test(system_calls_stay_in_translated_code),
		cmocka_unit_test(no_address_leads_into_the_kernel),
		cmocka_unit_test(a_branch_to_nowhere_faults_where_it_is),
		cmocka_unit_test(a_stale_mapping_leaves_nothing_behind),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
