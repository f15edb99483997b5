/*
 * 32-bit code in flat segments: kernel and user, under every kind of paging and in long mode. A translator takes it,
 * and leaves what is not flat to the interpreter.
 */
#include "rig.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include "cpu/jit/jit.h"
#endif

#define UPPER	0xa5a5a5a500000000ull
#define LAST	0xe00000u /* the RAM of the last 2 MiB of 4 GiB */
#define LE32(v) (v) & 255, (v) >> 8 & 255, (v) >> 16 & 255, (v) >> 24 & 255

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

/* --- what a translator did --- */

static uint64_t all_before, interpreted_before;

static uint64_t interpreted(void)
{
	uint64_t n = tiny_cpu(&r.vm)->interpreted;

#if defined(__x86_64__)
	if (r.vm.engine == &engine_jit)
		n += jit_of(tiny_cpu(&r.vm))->counts.handled;
#endif
	return n;
}

static void begin_count(void)
{
	all_before = r.vm.vcpu->instructions;
	interpreted_before = interpreted();
}

/* Of a hundred instructions since then; what an engine does that translates none is none of this test's. */
static void assert_translated(uint64_t from, uint64_t to)
{
#if defined(__x86_64__)
	uint64_t all = r.vm.vcpu->instructions - all_before;

	if (r.vm.engine != &engine_jit)
		return;
	assert_true(all > 0);
	assert_in_range(100 - (interpreted() - interpreted_before) * 100 / all, from, to);
#endif
}

/* --- ways to run 32-bit code --- */

static void unpaged(void)
{
	rig_reset(&r, RIG_PROT32);
}

static void two_levels(void)
{
	rig_reset(&r, RIG_PROT32);
	for (unsigned n = 0; n < 1024; n++)
		rig_write(&r, RIG_TABLES + 4 * n, (n == 1023 ? LAST & 3u << 22 : n << 22) | 0x87, 4);
	r.s.cr0 |= X86_CR0_PG;
	r.s.cr4 |= X86_CR4_PSE;
	r.s.cr3 = RIG_TABLES;
}

/* The page tables of PAE, and what long mode has them in. */
static void three_levels(void)
{
	for (unsigned n = 0; n < 4; n++) {
		rig_write(&r, RIG_TABLES + 8 * n, (RIG_TABLES + 0x1000 * (n + 1)) | 1, 8);
		for (unsigned k = 0; k < 512; k++)
			rig_write(&r, RIG_TABLES + 0x1000 * (n + 1) + 8 * k, (uint64_t)(512 * n + k) << 21 | 0x87, 8);
	}
	rig_write(&r, RIG_TABLES + 0x4000 + 8 * 511, LAST | 0x87, 8);
}

static void pae(void)
{
	rig_reset(&r, RIG_PROT32);
	three_levels();
	r.s.cr0 |= X86_CR0_PG;
	r.s.cr4 |= X86_CR4_PAE;
	r.s.cr3 = RIG_TABLES;
	for (unsigned n = 0; n < 4; n++)
		r.s.pdpte[n] = rig_read(&r, RIG_TABLES + 8 * n, 8);
}

/* The page behind 4 GiB is there too. */
static void compat(void)
{
	rig_reset(&r, RIG_COMPAT);
	three_levels();
	for (unsigned n = 0; n < 4; n++)
		rig_write(&r, 0x2000 + 8 * n, (RIG_TABLES + 0x1000 * (n + 1)) | 7, 8);
	rig_write(&r, 0x2000 + 8 * 4, (RIG_TABLES + 0x5000) | 7, 8);
	rig_write(&r, RIG_TABLES + 0x5000, 0x800000 | 0x87, 8);
}

static void (*const ways[])(void) = { unpaged, two_levels, pae, compat };
#define WAYS (sizeof(ways) / sizeof(ways[0]))

/* --- */

static void kernels_and_programs_are_translated(void **state)
{
	for (unsigned n = 0; n < 2 * WAYS; n++) {
		ways[n / 2]();
		if (n & 1)
			rig_user(&r);
		begin_count();
		/*
		 * mov ecx, 1000; 1: push ecx; inc eax; mov [20000h], eax; mov edx, [20000h]; push 5; call 2f; pop edx;
		 * sub ecx, edx; add ecx, edx; mov ebp, esp; dec ecx; jnz 1b; jmp 3f; 2: add ebx, [esp + 4]; ret 4; 3:
		 */
		RIG_EXEC(&r, 0xb9, 0xe8, 3, 0, 0, 0x51, 0x40, 0xa3, 0, 0, 2, 0, 0x8b, 0x15, 0, 0, 2, 0, 0x6a, 5, 0xe8,
			 0x0c, 0, 0, 0, 0x5a, 0x29, 0xd1, 1, 0xd1, 0x89, 0xe5, 0x49, 0x75, 0xe2, 0xeb, 7, 3, 0x5c, 0x24,
			 4, 0xc2, 4, 0);
		assert_int_equal(rig_vector(&r), n & 1 ? X86_GP : -1);
		assert_int_equal(rig_reg(&r, X86_RAX), 1000);
		assert_int_equal(rig_reg(&r, X86_RBX), 5000);
		assert_int_equal(rig_reg(&r, X86_RCX), 0);
		assert_int_equal(rig_reg(&r, X86_RBP), RIG_STACK);
		assert_int_equal(rig_read(&r, RIG_DATA_AT, 4), 1000);
		assert_int_equal(rig_read(&r, RIG_STACK - 8, 4), 5);
		assert_int_equal(rig_read(&r, RIG_STACK - 12, 4), RIG_CODE + 0x19);
		assert_translated(95, 100);
	}
}

static void counters_lead_on(void **state)
{
	unpaged();
	begin_count();
	/* mov ecx, 1000; 1: inc eax; loop 1b; mov ecx, 1000; 1: inc ebx; dec ecx; jecxz 2f; jmp 1b; 2: */
	RIG_EXEC(&r, 0xb9, LE32(1000), 0x40, 0xe2, 0xfd, 0xb9, LE32(1000), 0x43, 0x49, 0xe3, 2, 0xeb, 0xfa);
	assert_int_equal(rig_reg(&r, X86_RAX), 1000);
	assert_int_equal(rig_reg(&r, X86_RBX), 1000);
	assert_translated(99, 100);
	unpaged();
	begin_count();
	/* mov ecx, 1000; 1: inc eax; cmp eax, 500; loopne 1b; 1: cmp ebx, 0; loope 1b */
	RIG_EXEC(&r, 0xb9, LE32(1000), 0x40, 0x3d, LE32(500), 0xe0, 0xf8, 0x83, 0xfb, 0, 0xe1, 0xfb);
	assert_int_equal(rig_reg(&r, X86_RAX), 500);
	assert_int_equal(rig_reg(&r, X86_RCX), 0);
	assert_translated(99, 100);
}

/* As before there was SSE, or by a kernel that does not know of it. */
static void x87_without_sse_is_translated(void **state)
{
	if (!x86_fp_host_ok()) {
		print_message("skipped: no floating point here\n");
		skip();
	}
	unpaged();
	begin_count();
	/*
	 * mov ecx, 1000; fninit; fldz; fld1; 1: fadd st1, st0; fld st0; fstp st0; loop 1b; fstp st0;
	 * fistp dword [20000h]
	 */
	RIG_EXEC(&r, 0xb9, LE32(1000), 0xdb, 0xe3, 0xd9, 0xee, 0xd9, 0xe8, 0xdc, 0xc1, 0xd9, 0xc0, 0xdd, 0xd8, 0xe2,
		 0xf8, 0xdd, 0xd8, 0xdb, 0x1d, LE32(0x20000));
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(rig_read(&r, 0x20000, 4), 1000);
	assert_translated(99, 100);
	/* fld1; addps xmm0, xmm0 */
	unpaged();
	RIG_FAULTS(&r, X86_UD, 0, 2, 0xd9, 0xe8, 0x0f, 0x58, 0xc0);
	unpaged();
	r.s.cr0 |= X86_CR0_TS;
	r.s.fp.cw = 0x37f;
	RIG_FAULTS(&r, X86_NM, 0, 1, 0x40, 0xd9, 0xe8);
}

/* What 64-bit code left there is no part of any address, and stays where nothing is written. */
static void upper_halves_of_registers_do_not_count(void **state)
{
	for (unsigned round = 0; round < 3; round++) {
		compat();
		mem_fill(r.vm.mem, gpa(0x21000), 0, 0x1000);
		rig_write(&r, 0x10800, 0, 4);
		for (unsigned n = 0; n < 16; n++)
			r.s.gpr[n] |= UPPER;
		r.s.gpr[X86_RSI] = (round ? UPPER : 0) | 0x20000;
		r.s.gpr[X86_RDI] = (round ? UPPER : 0) | 0x21000;
		r.s.gpr[X86_RCX] = UPPER | 2;
		r.s.gpr[X86_RBX] = UPPER | 0x10800;
		r.s.gpr[X86_RBP] = UPPER | 3;
		rig_write(&r, 0x20000, 0x2233445566778899, 8);
		rig_write(&r, 0x20008, 0x11, 4);
		begin_count();
		/*
		 * mov al, [20000h]; mov [21000h], al; rep movsd; lodsd; push eax; pop edi; mov edi, 21008h; mov cl, 3;
		 * rep stosb; mov eax, [ebx + ebx]; bts [ebx], ebp; push dword [ebx]; mov edx, 1f; jmp edx;
		 * 1: mov edx, 2f; call edx; 2: jmp CODE64:3f; 3:
		 */
		RIG_EXEC(&r, 0xa0, 0, 0, 2, 0, 0xa2, 0, 0x10, 2, 0, 0xf3, 0xa5, 0xad, 0x50, 0x5f, 0xbf, 8, 0x10, 2, 0,
			 0xb1, 3, 0xf3, 0xaa, 0x8b, 4, 0x1b, 0x0f, 0xab, 0x2b, 0xff, 0x33, 0xba, 0x27, 0, 1, 0, 0xff,
			 0xe2, 0xba, 0x2e, 0, 1, 0, 0xff, 0xd2, 0xea, 0x35, 0, 1, 0, 0x10, 0);
		assert_int_equal(rig_vector(&r), -1);
		assert_int_equal(r.s.seg[X86_CS].sel, RIG_CODE64);
		assert_true(rig_read(&r, 0x21000, 8) == 0x2233445566778899);
		assert_int_equal(rig_read(&r, 0x21008, 4), 0x111111);
		assert_int_equal(rig_read(&r, 0x10800, 4), 8);
		assert_int_equal(rig_reg(&r, X86_RSI), 0x2000c);
		assert_int_equal(rig_reg(&r, X86_RDI), 0x2100b);
		assert_int_equal(rig_reg(&r, X86_RCX), 0);
		assert_int_equal(rig_reg(&r, X86_RAX), 0x66778899);
		assert_int_equal(rig_reg(&r, X86_RSP), RIG_STACK - 8);
		for (unsigned n = X86_R8; n < X86_R8 + 8; n++)
			assert_true(rig_reg(&r, n) == UPPER);
		assert_true(rig_reg(&r, X86_RBX) == (UPPER | 0x10800));
		assert_true(rig_reg(&r, X86_RBP) == (UPPER | 3));
		assert_int_equal(rig_read(&r, RIG_STACK - 4, 4), 8);
		assert_int_equal(rig_read(&r, RIG_STACK - 8, 4), RIG_CODE + 0x2e);
		assert_translated(50, 100);
	}
}

/* The same bytes at the same place are inc rax in 64-bit code, and dec eax, inc eax, in 16 and 32 bits. */
static void no_mode_runs_what_was_translated_for_another(void **state)
{
	/* mov ecx, 100; 1: 48h, ffh, c0h; dec ecx; jnz 1b */
	static const uint8_t code[] = { 0xb9, 100, 0, 0, 0, 0x48, 0xff, 0xc0, 0xff, 0xc9, 0x75, 0xf9, 0xf4 };
	static const uint16_t modes[] = { RIG_CODE64, RIG_CODE32, RIG_CODE16, RIG_CODE32, RIG_CODE64, RIG_CODE64 };

	mem_write(r.vm.mem, gpa(RIG_CODE), code, sizeof(code));
	for (unsigned n = 0; n < 6; n++) {
		compat();
		rig_seg(&r, X86_CS, modes[n]);
		if (modes[n] == RIG_CODE16) {
			r.s.seg[X86_CS].base = RIG_CODE;
			r.s.gpr[X86_RIP] = 0;
		}
		rig_run(&r);
		assert_int_equal(rig_vector(&r), -1);
		assert_int_equal(rig_reg(&r, X86_RAX), modes[n] == RIG_CODE64 ? 100 : 0);
	}
	/* From one to the other without a flush: 32 bits, 64 bits, and what both call. */
	compat();
	rig_write(&r, 0x20000, RIG_CODE | (uint64_t)RIG_CODE32 << 32, 8);
	r.s.gpr[X86_RCX] = 1000;
	begin_count();
	/*
	 * 1: call 3f; jmp CODE64:2f; 2: call 3f; dec ecx; jz 4f; jmp far [20000h], which is 1;
	 * 3: 48h, ffh, c0h; ret; 4:
	 */
	RIG_EXEC(&r, 0xe8, 0x17, 0, 0, 0, 0xea, 0x0c, 0, 1, 0, 0x10, 0, 0xe8, 0x0b, 0, 0, 0, 0xff, 0xc9, 0x74, 0x0b,
		 0xff, 0x2c, 0x25, 0, 0, 2, 0, 0x48, 0xff, 0xc0, 0xc3);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(rig_reg(&r, X86_RAX), 1000);
	assert_int_equal(rig_reg(&r, X86_RSP), RIG_STACK);
	assert_translated(70, 90);
}

static void code_leaves_flat_segments_and_comes_back(void **state)
{
	for (unsigned n = 0; n < WAYS; n++) {
		ways[n]();
		rig_desc(&r, RIG_SPARE, RIG_DESC(RIG_DATA_AT, 0xfffffu, 0x93, 12));
		rig_write(&r, RIG_DATA_AT + 0x100, 7, 4);
		rig_write(&r, 0x100, 1, 4);
		r.s.gpr[X86_RAX] = RIG_SPARE;
		r.s.gpr[X86_RDX] = RIG_DATA;
		r.s.gpr[X86_RCX] = 1000;
		begin_count();
		/*
		 * 1: mov ds, ax; call 2f; mov ds, dx; call 2f; dec ecx; jnz 1b; jmp 3f;
		 * 2: add ebx, [100h]; inc ebp; inc ebp; inc ebp; ret; 3:
		 */
		RIG_EXEC(&r, 0x8e, 0xd8, 0xe8, 0x0c, 0, 0, 0, 0x8e, 0xda, 0xe8, 5, 0, 0, 0, 0x49, 0x75, 0xef, 0xeb,
			 0x0a, 3, 0x1d, 0, 1, 0, 0, 0x45, 0x45, 0x45, 0xc3);
		assert_int_equal(rig_vector(&r), -1);
		assert_int_equal(rig_reg(&r, X86_RBX), 8000);
		assert_int_equal(rig_reg(&r, X86_RBP), 6000);
		assert_translated(40, 70);
	}
	/* What is not flat at all. */
	unpaged();
	rig_desc(&r, RIG_SPARE, RIG_DESC(0, 0xfffu, 0x93, 12));
	rig_seg(&r, X86_ES, RIG_SPARE);
	r.s.gpr[X86_RCX] = 1000;
	begin_count();
	RIG_EXEC(&r, 0x40, 0x49, 0x75, 0xfc);
	assert_int_equal(rig_reg(&r, X86_RAX), 1000);
	assert_translated(0, 0);
	/* A stack of 16 bits. */
	unpaged();
	r.s.seg[X86_SS].attr &= (uint16_t)~X86_SEG_DB;
	r.s.gpr[X86_RSP] = UPPER | 0x58002;
	r.s.gpr[X86_RCX] = 1000;
	begin_count();
	/* 1: push eax; pop eax; dec ecx; jnz 1b; push ebx */
	RIG_EXEC(&r, 0x50, 0x58, 0x49, 0x75, 0xfb, 0x66, 0x53);
	assert_true(rig_reg(&r, X86_RSP) == (UPPER | 0x58000));
	assert_translated(0, 0);
}

static void fs_up_to(uint32_t limit, unsigned flags)
{
	rig_desc(&r, RIG_SPARE, RIG_DESC(RIG_DATA_AT + 0x800, limit, 0x93, flags));
	rig_seg(&r, X86_FS, RIG_SPARE);
	rig_write(&r, RIG_DATA_AT + 0x810, 3, 4);
	rig_write(&r, RIG_DATA_AT + 0x20, 0x77, 4);
	r.s.gpr[X86_RCX] = 1000;
	r.s.gpr[X86_RSI] = 0u - 0x7e0u;
}

static void fs_and_gs_have_bases_and_limits(void **state)
{
	/* 1: add ebx, fs:[10h]; mov eax, fs:[esi]; mov fs:[14h], eax; mov dl, cs:[10000h]; dec ecx; jnz 1b */
	static const uint8_t code[] = { 0x64, 3, 0x1d, 0x10, 0,	   0, 0, 0x64, 0x8b, 6,	   0x64, 0xa3, 0x14, 0,
					0,    0, 0x2e, 0x8a, 0x15, 0, 0, 1,    0,    0x49, 0x75, 0xe6, 0xf4 };

	for (unsigned n = 0; n < WAYS; n++) {
		ways[n]();
		fs_up_to(0xfffff, 12);
		begin_count();
		rig_exec(&r, code, sizeof(code));
		assert_int_equal(rig_vector(&r), -1);
		assert_int_equal(rig_reg(&r, X86_RBX), 3000);
		assert_int_equal(rig_reg(&r, X86_RAX), 0x77);
		assert_int_equal(rig_read(&r, RIG_DATA_AT + 0x814, 4), 0x77);
		assert_int_equal(rig_reg(&r, X86_RDX), 0x64);
		assert_translated(90, 100);
		/* Its end lies before fs:[esi]. */
		ways[n]();
		fs_up_to(0xff, 4);
		rig_exec(&r, code, sizeof(code));
		assert_int_equal(rig_vector(&r), X86_GP);
		assert_int_equal(rig_pushed(&r, 1), RIG_CODE + 7);
		assert_int_equal(rig_reg(&r, X86_RBX), 3);
	}
	unpaged();
	r.s.seg[X86_GS].unusable = true;
	RIG_FAULTS(&r, X86_GP, 0, 1, 0x40, 0x65, 0xa1, LE32(0x20000));
	/* Code may be read, not written. */
	unpaged();
	RIG_FAULTS(&r, X86_GP, 0, 1, 0x40, 0x2e, 0xa3, LE32(0x20000));
	unpaged();
	r.s.seg[X86_CS].attr &= (uint16_t)~2u;
	RIG_FAULTS(&r, X86_GP, 0, 1, 0x40, 0x2e, 0x8b, 0x1d, LE32(0x20000));
	/* mov esi, 20000h; mov edi, 21000h; mov ecx, 4; mov al, [esi]; mov [edi], al; rep cs movsb */
	unpaged();
	r.s.seg[X86_CS].attr &= (uint16_t)~2u;
	RIG_FAULTS(&r, X86_GP, 0, 19, 0xbe, LE32(0x20000), 0xbf, LE32(0x21000), 0xb9, LE32(4), 0x8a, 6, 0x88, 7, 0xf3,
		   0x2e, 0xa4);
}

/* An instruction of x87 that is left to the interpreter leaves the one before it as the last that was done. */
static void a_segment_that_faults_leaves_the_last_x87_instruction(void **state)
{
	if (!x86_fp_host_ok()) {
		print_message("skipped: no floating point here\n");
		skip();
	}
	unpaged();
	r.s.cr4 |= X86_CR4_OSFXSR;
	r.s.seg[X86_FS].unusable = true;
	/* fninit; fldz; fadd dword fs:[20000h] */
	RIG_FAULTS(&r, X86_GP, 0, 4, 0xdb, 0xe3, 0xd9, 0xee, 0x64, 0xd8, 0x05, LE32(0x20000));
	assert_int_equal(r.s.fp.ip, RIG_CODE + 2);
}

static void addresses_wrap_at_4_gib(void **state)
{
	for (unsigned n = 1; n < WAYS; n++) {
		ways[n]();
		r.s.gpr[X86_RSI] = 0xfffff000;
		rig_write(&r, 0x20ff0, 0x1234, 4);
		rig_write(&r, LAST + 0x1ffff8, 0x5678, 4);
		/* mov eax, [esi + 21ff0h]; mov ebx, [esi * 2 + 22ff0h]; mov ecx, [-8] */
		RIG_EXEC(&r, 0x8b, 0x86, LE32(0x21ff0), 0x8b, 0x1c, 0x75, LE32(0x22ff0), 0x8b, 0x0d, LE32(-8u));
		assert_int_equal(rig_vector(&r), -1);
		assert_int_equal(rig_reg(&r, X86_RAX), 0x1234);
		assert_int_equal(rig_reg(&r, X86_RBX), 0x1234);
		/* mov al, 77h; mov edi, fffff800h; mov ecx, 810h; mov [edi], al; mov [0], al; rep stosb */
		ways[n]();
		RIG_EXEC(&r, 0xb0, 0x77, 0xbf, LE32(0xfffff800), 0xb9, LE32(0x810), 0x88, 7, 0xa2, LE32(0), 0xf3, 0xaa);
		assert_int_equal(rig_vector(&r), -1);
		assert_int_equal(rig_reg(&r, X86_RDI), 0x10);
		assert_int_equal(rig_read(&r, LAST + 0x1ff800, 4), 0x77777777);
		assert_int_equal(rig_read(&r, LAST + 0x1ffffc, 4), 0x77777777);
		assert_int_equal(rig_read(&r, 0xc, 4), 0x77777777);
		assert_true(rig_read(&r, 0x10, 4) != 0x77777777);
	}
}

/* In long mode with the page behind 4 GiB in the TLB. */
static void no_operand_wraps(void **state)
{
	for (unsigned n = 1; n < WAYS; n++) {
		for (unsigned store = 0; store < 2; store++) {
			ways[n]();
			/* inc dword [-8]; mov eax, [-2], or the other way */
			static uint8_t code[] = { 0xff, 0x05, LE32(-8u), 0x8b, 0x05, LE32(-2u), 0xf4 };
			code[6] = store ? 0x89 : 0x8b;
			if (r.mode == RIG_COMPAT) {
				/* mov rdx, 100000000h; inc dword [rdx]; far jump there by [20000h] */
				static const uint8_t before[] = {
					0x48, 0xba, 0, 0, 0, 0, 1, 0, 0, 0, 0xff, 0x02, 0xff, 0x2c, 0x25, LE32(0x20000)
				};
				mem_write(r.vm.mem, gpa(RIG_CODE + 0x100), before, sizeof(before));
				rig_write(&r, 0x20000, RIG_CODE | (uint64_t)RIG_CODE32 << 32, 8);
				rig_seg(&r, X86_CS, RIG_CODE64);
				r.s.gpr[X86_RIP] = RIG_CODE + 0x100;
			}
			rig_write(&r, 0x800000, 0x55, 4);
			rig_exec(&r, code, sizeof(code));
			assert_int_equal(rig_vector(&r), X86_GP);
			assert_int_equal(rig_pushed(&r, 1), RIG_CODE + 6);
			assert_int_equal(rig_read(&r, 0x800000, 4), r.mode == RIG_COMPAT ? 0x56 : 0x55);
		}
		/* mov esp, 2; inc dword [-8]; push eax */
		ways[n]();
		rig_user(&r);
		RIG_FAULTS(&r, X86_SS_FAULT, 0, 11, 0xbc, LE32(2), 0xff, 0x05, LE32(-8u), 0x50);
	}
}

/* One way to run, with ud2 at 0 and, where only 64-bit code comes, behind 4 GiB. */
static void with_code_at_0(void (*way)(void), const void *code, uint32_t at, uint32_t len)
{
	static const uint8_t there[] = { 0x0f, 0x0b };

	way();
	mem_write(r.vm.mem, gpa(0), there, sizeof(there));
	mem_write(r.vm.mem, gpa(0x800000), there, sizeof(there));
	mem_write(r.vm.mem, gpa(LAST + (at & 0x1fffff)), code, len);
	r.s.gpr[X86_RIP] = at;
	rig_run(&r);
	assert_int_equal(rig_vector(&r), X86_UD);
	assert_int_equal(rig_pushed(&r, 0), 0);
}

static void code_goes_on_at_0(void **state)
{
	/* inc ecx; jmp 0; call 0 */
	static const uint8_t inc = 0x41, jump[] = { 0xeb, 0x0e }, call[] = { 0xe8, 0x1b, 0, 0, 0 };
	/* mov ebx, 43214042h: its end is at 0 */
	static const uint8_t crossing[] = { 0xbb, 0x42 };

	for (unsigned n = 1; n < WAYS; n++) {
		for (unsigned round = 0; round < 3; round++) {
			with_code_at_0(ways[n], &inc, 0xffffffff, 1);
			assert_int_equal(rig_reg(&r, X86_RCX), 1);
			with_code_at_0(ways[n], jump, 0xfffffff0, 2);
			with_code_at_0(ways[n], call, 0xffffffe0, 5);
			assert_int_equal(rig_read(&r, RIG_STACK - 4, 4), 0xffffffe5);
			ways[n]();
			mem_write(r.vm.mem, gpa(LAST + 0x1ffffe), crossing, 2);
			rig_write(&r, 0, 0xf4432140, 4);
			r.s.gpr[X86_RIP] = 0xfffffffe;
			rig_run(&r);
			assert_int_equal(rig_vector(&r), -1);
			assert_int_equal(rig_reg(&r, X86_RBX), 0x43214042);
			assert_int_equal(rig_reg(&r, X86_RIP), 4);
		}
	}
}

/* inc ebx; hlt */
static void with_code_at_40h(void)
{
	unpaged();
	rig_write(&r, 0x40, 0xf443, 2);
}

/* Operand and address sizes of 16 bits. */
static void smaller_sizes(void **state)
{
	/* jmp by 16 bits: the target is in the first 64 KiB */
	with_code_at_40h();
	RIG_EXEC(&r, 0x66, 0xeb, 0x3d);
	assert_int_equal(rig_reg(&r, X86_RIP), 0x42);
	assert_int_equal(rig_reg(&r, X86_RBX), 1);
	/* call by 16 bits, through a register */
	with_code_at_40h();
	r.s.gpr[X86_RDX] = 0x70040;
	RIG_EXEC(&r, 0x66, 0xff, 0xd2);
	assert_int_equal(rig_reg(&r, X86_RIP), 0x42);
	assert_int_equal(rig_reg(&r, X86_RSP), RIG_STACK - 2);
	assert_int_equal(rig_read(&r, RIG_STACK - 2, 2), 3);
	/* a conditional one that is not taken, and one that is */
	with_code_at_40h();
	RIG_EXEC(&r, 0x39, 0xc0, 0x66, 0x75, 0x3b, 0x66, 0x74, 0x38);
	assert_int_equal(rig_reg(&r, X86_RIP), 0x42);
	/* ret by 16 bits */
	with_code_at_40h();
	rig_write(&r, RIG_STACK, 0x40, 4);
	RIG_EXEC(&r, 0x66, 0xc3);
	assert_int_equal(rig_reg(&r, X86_RIP), 0x42);
	assert_int_equal(rig_reg(&r, X86_RSP), RIG_STACK + 2);
	/* mov eax, [bx + si + 2]; push ax; inc cx; dec dx */
	with_code_at_40h();
	r.s.gpr[X86_RBX] = 0x7ffff;
	r.s.gpr[X86_RSI] = 0x70200;
	r.s.gpr[X86_RCX] = 0x5ffff;
	r.s.gpr[X86_RDX] = 0x50000;
	rig_write(&r, 0x201, 0xabcd, 4);
	RIG_EXEC(&r, 0x67, 0x8b, 0x40, 2, 0x66, 0x50, 0x66, 0x41, 0x66, 0x4a);
	assert_int_equal(rig_reg(&r, X86_RAX), 0xabcd);
	assert_int_equal(rig_read(&r, RIG_STACK - 2, 2), 0xabcd);
	assert_int_equal(rig_reg(&r, X86_RSP), RIG_STACK - 2);
	assert_int_equal(rig_reg(&r, X86_RCX), 0x50000);
	assert_int_equal(rig_reg(&r, X86_RDX), 0x5ffff);
}

static void faults_are_precise(void **state)
{
	for (unsigned n = 2; n < 2 * WAYS; n++) {
		ways[n / 2]();
		if (n & 1)
			rig_user(&r);
		/* Nothing is at 40000000h. */
		rig_write(&r, RIG_TABLES + (n / 2 == 1 ? 4 * 0x100 : 0x2000), 0, 4);
		/* mov ebx, 40000000h; stc; inc eax; push dword [ebx]; inc eax */
		RIG_FAULTS(&r, X86_PF_FAULT, n & 1 ? 4 : 0, 7, 0xbb, LE32(0x40000000), 0xf9, 0x40, 0xff, 0x33, 0x40);
		assert_int_equal(rig_reg(&r, X86_RAX), 1);
		assert_int_equal(r.s.cr2, 0x40000000);
		assert_int_equal(rig_pushed(&r, 3) & X86_ARITH, X86_CF);
		if (n & 1 || r.mode == RIG_COMPAT)
			assert_int_equal(rig_pushed(&r, 4), RIG_STACK);
		/* Where the fault has a stack of its own: mov esp, 40000010h; inc eax; call 1f; 1: inc eax */
		if (!(n & 1))
			continue;
		ways[n / 2]();
		rig_user(&r);
		rig_write(&r, RIG_TABLES + (n / 2 == 1 ? 4 * 0x100 : 0x2000), 0, 4);
		RIG_FAULTS(&r, X86_PF_FAULT, 6, 6, 0xbc, LE32(0x40000010), 0x40, 0xe8, LE32(0), 0x40);
		assert_int_equal(rig_reg(&r, X86_RAX), 1);
		assert_int_equal(r.s.cr2, 0x4000000c);
		assert_int_equal(rig_pushed(&r, 4), 0x40000010);
	}
}

static void code_that_changes(void **state)
{
	for (unsigned n = 0; n < WAYS; n++) {
		ways[n]();
		r.s.gpr[X86_RCX] = 50;
		/* 1: inc dword [10007h]; mov al, 0; movzx eax, al; add ebx, eax; dec ecx; jnz 1b */
		RIG_EXEC(&r, 0xff, 0x05, LE32(0x10007), 0xb0, 0, 0x0f, 0xb6, 0xc0, 0x01, 0xc3, 0x49, 0x75, 0xf0);
		assert_int_equal(rig_vector(&r), -1);
		assert_int_equal(rig_reg(&r, X86_RBX), 50 * 51 / 2);
		/* By the stack: mov esp, 10010h; push 43h (inc ebx); ...; 1000ch: dec ebx (4bh) */
		ways[n]();
		RIG_EXEC(&r, 0xbc, LE32(0x10010), 0x6a, 0x43, 0x90, 0x90, 0x90, 0x90, 0x90, 0x4b, 0x90, 0x90, 0x90);
		assert_int_equal(rig_reg(&r, X86_RBX), 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kernels_and_programs_are_translated),
		cmocka_unit_test(counters_lead_on),
		cmocka_unit_test(x87_without_sse_is_translated),
		cmocka_unit_test(upper_halves_of_registers_do_not_count),
		cmocka_unit_test(no_mode_runs_what_was_translated_for_another),
		cmocka_unit_test(code_leaves_flat_segments_and_comes_back),
		cmocka_unit_test(fs_and_gs_have_bases_and_limits),
		cmocka_unit_test(a_segment_that_faults_leaves_the_last_x87_instruction),
		cmocka_unit_test(addresses_wrap_at_4_gib),
		cmocka_unit_test(no_operand_wraps),
		cmocka_unit_test(code_goes_on_at_0),
		cmocka_unit_test(smaller_sizes),
		cmocka_unit_test(faults_are_precise),
		cmocka_unit_test(code_that_changes),
	};

	setenv("VIREO_TEST_JIT_COUNT", "sums", 1);
	return cmocka_run_group_tests(tests, setup, teardown);
}
