/*
 * Accesses of a block that share a look into the TLB (docs/translator.md): each group of them at the ends of all kinds
 * of pages does what the interpreter does, with the same registers, memory and frame where it faults.
 */
#include "pair.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "share_rows.h"

#if defined(__x86_64__)
#include "cpu/jit/translate.h"
#endif

#define OTHER (PAIR_WINDOW + 2 * MEM_PAGE_SIZE + 0x100)
#define THIRD (PAIR_WINDOW + 4 * MEM_PAGE_SIZE + 0x200)

/* Code begins there in its page: out of reach of what is at the page's ends. */
#define FROM 0x400

static struct pair p;

static int strict(void **state)
{
	pair_new(&p, true, NULL);
	return 0;
}

static int lax(void **state)
{
	pair_new(&p, false, NULL);
	return 0;
}

static int teardown(void **state)
{
	pair_free(&p);
	return 0;
}

/* How often accesses had to go one by one; 0 with other engines. */
static uint64_t splits(void)
{
#if defined(__x86_64__)
	if (p.r[1].vm.engine == &engine_jit)
		return jit_of(tiny_cpu(&p.r[1].vm))->counts.exits[JIT_SPLIT];
#endif
	return 0;
}

/* --- code --- */

static uint8_t code[MEM_PAGE_SIZE];
static size_t len;

static void put(const void *bytes, size_t n)
{
	memcpy(code + len, bytes, n);
	len += n;
}
#define PUT(...) put((const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static void move_r13_to(unsigned r)
{
	PUT(0x4c | r >> 3, 0x89, 0xe8 | (r & 7));
}

/*
 * or byte [r14], 0; or byte [r15], 0; jmp 1f
 * 1: mov rbx, r13; mov rsp, r13; mov rbp, r13; mov base, r13; the row; dec r12d; jnz 1b; hlt
 *
 * The pages are in the TLB, and what must not be accessed is not; the second round finds what the first one left.
 */
static void make(const struct row *row)
{
	size_t loop;

	memset(code, 0xf4, sizeof(code));
	len = FROM;
	PUT(0x41, 0x80, 0x0e, 0, 0x41, 0x80, 0x0f, 0, 0xeb, 0);
	loop = len;
	move_r13_to(X86_RBX);
	move_r13_to(X86_RSP);
	move_r13_to(X86_RBP);
	move_r13_to(row->base);
	put(row->code, row->len);
	PUT(0x41, 0xff, 0xcc, 0x75, (uint8_t)(loop - (len + 5)));
}

/* --- running it --- */

static bool plain(uint64_t at)
{
	uint64_t page = (at - PAIR_WINDOW) / MEM_PAGE_SIZE;

	return at >= PAIR_END ? at < PAIR_END + MEM_PAGE_SIZE : page < PAIR_PAGES && !(page & 1);
}

enum { KERNEL, USER, SMAP, MODES };

/* With the base there. */
static void run(const struct row *row, uint64_t base, unsigned mode)
{
	struct x86_state *s = pair_state(&p);
	uint64_t page = base & ~(uint64_t)X86_PAGE_MASK, before = (base - 64) & ~(uint64_t)X86_PAGE_MASK;

	pair_reset(&p, mode == USER ? 3 : 0);
	pair_put(&p, RIG_CODE, code, sizeof(code));
	if (mode == SMAP) {
		s->cr4 |= X86_CR4_SMAP;
		s->rflags |= X86_AC;
	}
	for (unsigned n = 0; n < 16; n++)
		s->gpr[n] = 0x123456789abcdef * (n + 1);
	s->gpr[X86_RIP] = RIG_CODE + FROM;
	s->gpr[X86_RCX] = 2;
	s->gpr[X86_RSI] = s->gpr[10] = OTHER;
	s->gpr[X86_RDI] = s->gpr[9] = THIRD;
	s->gpr[11] = s->gpr[13] = base;
	s->gpr[12] = 2;
	s->gpr[row->base] = base;
	s->gpr[14] = plain(page) ? page : plain(before) ? before : OTHER;
	s->gpr[15] = plain(before) ? before : s->gpr[14];
	if (!pair_run(&p))
		fail_msg("%s: with the base at %#llx, mode %u", row->name, (unsigned long long)base, mode);
}

/* From below the end of each page to above it. */
static void at_ends_of_pages(void)
{
	static const int offsets[] = { -520, -41, -32, -24, -17, -16, -9, -8, -7, -4, -1, 0, 1, 8, 16, 24, 40 };

	for (unsigned n = 0; n < ARRAY_LEN(groups); n++) {
		make(&groups[n]);
		for (unsigned page = 1; page <= PAIR_PAGES + 1; page++) {
			uint64_t end =
				page <= PAIR_PAGES ? PAIR_WINDOW + page * MEM_PAGE_SIZE : PAIR_END + MEM_PAGE_SIZE;

			for (unsigned k = 0; k < ARRAY_LEN(offsets); k++)
				run(&groups[n], end + (uint64_t)(int64_t)offsets[k], (n + page + k) % MODES);
		}
	}
	if (p.r[1].vm.engine != &engine_interp)
		assert_true(splits() > 0);
}

static void groups_end_at_the_ends_of_pages(void **state)
{
	pair_or_skip();
	at_ends_of_pages();
}

static void what_changes_a_register_ends_its_groups(void **state)
{
	pair_or_skip();
	/* Also above 4 GiB. */
	static const uint64_t bases[] = { PAIR_WINDOW + 0x4300, PAIR_WINDOW + 0x4301, PAIR_WINDOW + 0x3ff8,
					  PAIR_END + 0x300 };

	for (unsigned n = 0; n < ARRAY_LEN(changes); n++) {
		make(&changes[n]);
		for (unsigned k = 0; k < ARRAY_LEN(bases); k++)
			for (unsigned mode = 0; mode < MODES; mode++)
				run(&changes[n], bases[k], mode);
	}
}

/* --- code and mappings that change --- */

/* R13 and all bases lead to `base`, R14 and R15 to `fourth`. */
static void begin(uint64_t base, uint64_t fourth)
{
	struct x86_state *s = pair_state(&p);

	pair_reset(&p, 0);
	pair_put(&p, RIG_CODE, code, sizeof(code));
	s->gpr[X86_RIP] = RIG_CODE + FROM;
	s->gpr[X86_RBX] = s->gpr[13] = base;
	s->gpr[14] = s->gpr[15] = fourth;
	s->gpr[12] = 6;
}

/*
 * 1: mov r8d, [rbx - 4]; add ecx, 77777h; mov [rbx], ecx; lea rdi, [rdi + rdx]
 *    mov edx, imm32, to which RBX leads, or 1 to 3 bytes before it; dec r12d; jnz 1b
 */
static void a_group_stores_into_its_own_block(void **state)
{
	pair_or_skip();
	for (unsigned n = 0; n < 4 * 2; n++) {
		uint64_t target;

		memset(code, 0xf4, sizeof(code));
		len = FROM;
		PUT(0x44, 0x8b, 0x43, 0xfc, 0x81, 0xc1, 0x77, 0x77, 7, 0, 0x89, 0x0b, 0x48, 0x8d, 0x3c, 0x17, 0xba);
		target = RIG_CODE + len;
		PUT(0, 0, 0, 0, 0x41, 0xff, 0xcc, 0x75, 0xe6);
		if (n & 1)
			target += PAIR_WINDOW + PAIR_CODE * MEM_PAGE_SIZE - RIG_CODE;
		begin(target + n / 2, OTHER);
		if (!pair_run(&p))
			fail_msg("the store is to the operand's byte %u", n / 2);
		/* As far as it is the operand's alone. */
		if (n < 2)
			assert_int_equal(pair_state(&p)->gpr[X86_RDI], 0x77777 * (1 + 2 + 3 + 4 + 5));
	}
}

/*
 * 1: add ecx, 77777h; mov [rbx], ecx; mov edx, imm32, to which RBX leads, or 1 to 3 bytes before it
 *    mov [rbx + 64], ecx; mov [rbx + 72], ecx; lea rdi, [rdi + rdx]; dec r12d; jnz 1b
 */
static void several_stores_have_one_of_their_own_block(void **state)
{
	pair_or_skip();
	for (unsigned n = 0; n < 4 * 2; n++) {
		uint64_t target;

		memset(code, 0xf4, sizeof(code));
		len = FROM;
		PUT(0x81, 0xc1, 0x77, 0x77, 7, 0, 0x89, 0x0b, 0xba);
		target = RIG_CODE + len;
		PUT(0, 0, 0, 0, 0x89, 0x4b, 64, 0x89, 0x4b, 72, 0x48, 0x8d, 0x3c, 0x17, 0x41, 0xff, 0xcc, 0x75, 0xe4);
		if (n & 1)
			target += PAIR_WINDOW + PAIR_CODE * MEM_PAGE_SIZE - RIG_CODE;
		begin(target - n / 2, OTHER);
		if (!pair_run(&p))
			fail_msg("the store is %u bytes before the operand", n / 2);
		if (n < 2)
			assert_int_equal(pair_state(&p)->gpr[X86_RDI], 0x77777 * 21);
	}
}

/*
 * 1: call f; add edi, edx; mov r8d, [rbx - 4]; add ecx, 1000000h; mov [rbx], ecx; dec r12d; jnz 1b; hlt
 * f, whose second byte is the last one of the store, and the first one of a line the last but one: mov dl, imm8; ret
 */
static void a_store_into_code_reaches_over_a_line(void **state)
{
	const uint64_t f = RIG_CODE + MEM_PAGE_SIZE + 0x440;
	uint32_t to = (uint32_t)(f - (RIG_CODE + FROM + 5));

	pair_or_skip();
	memset(code, 0xf4, sizeof(code));
	len = FROM;
	PUT(0xe8, (uint8_t)to, (uint8_t)(to >> 8), (uint8_t)(to >> 16), (uint8_t)(to >> 24), 1, 0xd7, 0x44, 0x8b, 0x43,
	    0xfc, 0x81, 0xc1, 0, 0, 0, 1, 0x89, 0x0b, 0x41, 0xff, 0xcc, 0x75, 0xe8);
	begin(f - 2, OTHER);
	pair_put(&p, f, (const uint8_t[]){ 0xb2, 1, 0xc3 }, 3);
	pair_state(&p)->gpr[X86_RSP] = THIRD;
	pair_state(&p)->gpr[X86_RCX] = 0x01b2f4f4;
	assert_true(pair_run(&p));
	assert_int_equal(pair_state(&p)->gpr[X86_RDI], 1 + 2 + 3 + 4 + 5 + 6);
}

/* --- one look at the flags of a page for several stores --- */

#if defined(__x86_64__)
/* Of each instruction: - nothing; l a store that a later one looks for; FROM+BYTES what one looks for; ! see first */
static const struct {
	const char *plan;
	uint8_t len, code[24];
} looks[] = {
	/* push r14; push r13; push rbx */
	{ "l! l 0+24", BYTES(0x41, 0x56, 0x41, 0x55, 0x53) },
	/* push rax; push 5; call */
	{ "l! l 0+24", BYTES(0x50, 0x6a, 5, 0xe8, 0, 0, 0, 0) },
	/* mov [rbx], eax; mov ecx, esi; lea rdx, [rcx + 5]; mov ebp, 1; add [rbx + 4], eax */
	{ "l! - - - 0+8", BYTES(0x89, 3, 0x89, 0xf1, 0x48, 0x8d, 0x51, 5, 0xbd, 1, 0, 0, 0, 1, 0x43, 4) },
	/* mov [rbx + 8], eax; mov ecx, [rbx + 16]; mov [rbx], eax */
	{ "l! - 0+12", BYTES(0x89, 0x43, 8, 0x8b, 0x4b, 16, 0x89, 3) },
	/* mov [rbx], eax; mov ecx, [rsi]; mov [rbx + 8], eax */
	{ "0+4 - 8+4", BYTES(0x89, 3, 0x8b, 0x0e, 0x89, 0x43, 8) },
	/* mov [rbx], eax; mov [rsi], eax; mov [rbx + 8], eax; mov [rsi + 8], eax */
	{ "0+4 0+4 8+4 8+4", BYTES(0x89, 3, 0x89, 6, 0x89, 0x43, 8, 0x89, 0x46, 8) },
	/* mov [rbx], eax; jz; mov [rbx + 8], eax */
	{ "0+4 - 8+4", BYTES(0x89, 3, 0x74, 0, 0x89, 0x43, 8) },
	/* mov [rbx], eax; div ecx; mov [rbx + 8], eax */
	{ "0+4 - 8+4", BYTES(0x89, 3, 0xf7, 0xf1, 0x89, 0x43, 8) },
	/* mov [rbx], eax; mov cl, ah; mov [rbx + 8], eax */
	{ "0+4 - 8+4", BYTES(0x89, 3, 0x88, 0xe1, 0x89, 0x43, 8) },
	/* movups [rbx], xmm0; movups [rbx + 16], xmm0 */
	{ "0+16 16+16", BYTES(0x0f, 0x11, 3, 0x0f, 0x11, 0x43, 16) },
	/* mov [rbx], eax; mov ecx, [rsi]; mov cl, ah; mov [rbx + 8], eax; mov ecx, [rsi + 4]; mov [rbx + 4], eax */
	{ "0+4 - - 8+4 - 4+4", BYTES(0x89, 3, 0x8b, 0x0e, 0x88, 0xe1, 0x89, 0x43, 8, 0x8b, 0x4e, 4, 0x89, 0x43, 4) },
};

static void planned(char *text, const uint8_t *bytes, unsigned size)
{
	struct jit_tr *t = calloc(1, sizeof(*t));
	struct x86_decode_mode mode = { 64, false, tiny_cpu(&p.r[1].vm)->vm->features };
	unsigned at = 0;

	assert_non_null(t);
	t->word = 8;
	t->sharing = true;
	for (; at < size; at += t->insn[t->count++].i->len) {
		struct jit_insn *n = &t->insn[t->count];

		n->i = &t->more[t->count];
		n->rip = RIG_CODE + at;
		assert_int_equal(x86_decode(bytes + at, size - at, mode, &t->more[t->count], &n->def), X86_DECODE_OK);
		n->op = jit_op_of(n->def, n->i, X86_TLB_SUPER);
		assert_non_null(n->op);
	}
	jit_share_plan(t);
	for (unsigned n = 0; n < t->count; n++) {
		const struct jit_share *s = &t->insn[n].share;

		text += sprintf(text, n ? " " : "");
		text += s->later ? sprintf(text, "l")
			: s->run ? sprintf(text, "%u+%u", s->from, s->run)
				 : sprintf(text, "-");
		text += sprintf(text, s->quiet ? "!" : "");
	}
	free(t);
}
#endif

static void stores_have_one_look_if_nothing_comes_between(void **state)
{
#if defined(__x86_64__)
	char text[256];

	for (unsigned n = 0; n < ARRAY_LEN(looks); n++) {
		planned(text, looks[n].code, looks[n].len);
		assert_string_equal(text, looks[n].plan);
	}
#else
	skip();
#endif
}

/*
 * or byte [rbx], 0
 * 1: mov r8d, [rbx]; mov [rbx + 8], r12d; xchg [r14], r15; how the TLB learns of it
 *    mov r9d, [rbx + 4]; add [rbx + 16], r9d; dec r12d; jnz 1b
 */
static void a_group_ends_where_its_page_goes(void **state)
{
	pair_or_skip();
	static const struct {
		uint8_t len, code[16];
	} how[] = {
		{ BYTES(0x0f, 0x01, 0x3b) },				   /* invlpg [rbx] */
		{ BYTES(0x41, 0x0f, 0x20, 0xda, 0x41, 0x0f, 0x22, 0xda) }, /* mov r10, cr3; mov cr3, r10 */
		{ BYTES(0x41, 0x0f, 0x20, 0xe2, 0x49, 0x0f, 0xba, 0xfa, 7, 0x41, 0x0f, 0x22, 0xe2) }, /* CR4.PGE */
		{ BYTES(0x66, 0x41, 0x0f, 0x38, 0x82, 0x06) }, /* invpcid rax, [r14]: refused */
	};
	static const uint64_t entries[] = { 0,
					    0x305067,
					    0x305065,
					    0x305007,
					    0x305063,
					    PAIR_DEVICE | 0x67,
					    1ull << 63 | 0x305067,
					    2ull << 59 | 0x305067 };

	for (unsigned n = 0; n < ARRAY_LEN(how) * ARRAY_LEN(entries) * 2; n++) {
		unsigned k = n / 2 % ARRAY_LEN(how);
		size_t loop;

		memset(code, 0xf4, sizeof(code));
		len = FROM;
		PUT(0x80, 0x0b, 0, 0xeb, 0);
		loop = len;
		PUT(0x44, 0x8b, 3, 0x44, 0x89, 0x63, 8, 0x4d, 0x87, 0x3e);
		put(how[k].code, how[k].len);
		PUT(0x44, 0x8b, 0x4b, 4, 0x44, 1, 0x4b, 16, 0x41, 0xff, 0xcc, 0x75, (uint8_t)(loop - (len + 13)));
		/* In the middle of the page, and where a group does not fit. */
		begin(PAIR_WINDOW + 2 * MEM_PAGE_SIZE + (n & 1 ? 0x300 : 0xff4), PAIR_PT + 2 * 8);
		pair_state(&p)->gpr[15] = entries[n / 2 / ARRAY_LEN(how)];
		if (!pair_run(&p))
			fail_msg("way %u, entry %#llx", k, (unsigned long long)entries[n / 2 / ARRAY_LEN(how)]);
	}
}

#define TEST(fn, setup) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(groups_end_at_the_ends_of_pages, strict),
		TEST(groups_end_at_the_ends_of_pages, lax),
		TEST(what_changes_a_register_ends_its_groups, strict),
		TEST(what_changes_a_register_ends_its_groups, lax),
		TEST(a_group_stores_into_its_own_block, strict),
		TEST(a_group_stores_into_its_own_block, lax),
		TEST(a_store_into_code_reaches_over_a_line, strict),
		TEST(several_stores_have_one_of_their_own_block, strict),
		TEST(several_stores_have_one_of_their_own_block, lax),
		TEST(stores_have_one_look_if_nothing_comes_between, strict),
		TEST(a_group_ends_where_its_page_goes, strict),
		TEST(a_group_ends_where_its_page_goes, lax),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
