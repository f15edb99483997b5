/*
 * Random guests beside the interpreter: a kernel with a few address spaces calls functions in pages that it moves,
 * takes away and changes, itself and as a user, with every way of telling the TLB. What the functions add up to, and
 * each page fault, is in RAX and RBX at the end.
 *
 *   VIREO_GUESTS_COUNT  how many (default 150)
 *   VIREO_GUESTS_SEED   of the first
 */
#include "pair.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define SPACES	   4u
#define TABLES(n)  (0x400000u + (n)*0x8000u) /* PML4, PDPT, the low GiB, the window's GiB, two page tables */
#define GLOBALS	   0x480000u		     /* a page table that all spaces have */
#define WINDOW	   0x40000000u
#define SLOTS	   8u /* pages of each table that are used, from FIRST on */
#define FIRST	   252u
#define FRAMES	   0x800000u
#define FRAME_MOST 24u
#define PROGRAM	   0x500000u
#define CELLS	   0x580000u
#define STUB	   0x600000u /* where functions return to in user mode: int 40h */
#define USER_STACK 0x601000u
#define BACK	   0x11000u
#define FAULT	   0x12000u
#define ROUNDS	   20u
#define LENGTH	   100u

static struct pair p;
static struct rng rng;
static uint8_t code[1 << 16];
static size_t len;
static unsigned space, cells;

static void put(const void *bytes, size_t n)
{
	memcpy(code + len, bytes, n);
	len += n;
}
#define PUT(...) put((const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static void put32(uint64_t v)
{
	put(&v, 4);
}

static unsigned below(unsigned n)
{
	return rng_below(&rng, n);
}

static void both(uint64_t at, uint64_t v)
{
	pair_write(&p, at, v, 8);
}

/* --- tables: region 0 and 1 are a space's own, of which 1 is one large page or a table; 2 is everybody's, global ---
 */

static uint64_t table(unsigned s, unsigned region)
{
	return region == 2 ? GLOBALS : TABLES(s) + 0x4000 + 0x1000 * region;
}

static uint64_t entry(unsigned region)
{
	uint64_t e = (FRAMES + 0x1000u * below(FRAME_MOST)) | 7 | (region == 2 ? 0x100 : 0);

	switch (below(12)) {
	case 0:
		return 0;
	case 1:
		return e | 1ull << 63;
	case 2:
		return e & ~4ull;
	default:
		return e;
	}
}

static uint64_t window(unsigned region, unsigned slot)
{
	return WINDOW + region * 0x200000u + (FIRST + slot) * 0x1000u;
}

static void make_tables(void)
{
	for (unsigned s = 0; s < SPACES; s++) {
		uint64_t at = TABLES(s);

		both(at, (at + 0x1000) | 7);
		both(at + 0x1000, (at + 0x2000) | 7);
		both(at + 0x1008, (at + 0x3000) | 7);
		for (uint64_t n = 0; n < 8; n++)
			both(at + 0x2000 + 8 * n, n << 21 | (n == STUB >> 21 ? 0x87 : 0x83));
		for (unsigned region = 0; region < 3; region++) {
			both(at + 0x3000 + 8 * region, table(s, region) | 7);
			for (unsigned n = 0; n < SLOTS; n++)
				both(table(s, region) + 8 * (FIRST + n), entry(region));
		}
	}
}

/* --- functions: eight in each frame, which go on in others or return --- */

#define FUNCTION 0x40u

static void make_frames(void)
{
	for (unsigned f = 0; f < FRAME_MOST; f++) {
		uint8_t frame[MEM_PAGE_SIZE];

		memset(frame, 0x90, sizeof(frame));
		for (unsigned n = 0; n < 8; n++) {
			unsigned other = n + 1 + below(8);
			int32_t to = (int32_t)((int)below(5) - 2) * 0x1000 + (int32_t)below(3) * 0x200000 - 0x200000;

			len = 0;
			PUT(below(2) ? 0x15 : 0x05); /* adc, add eax, imm32 */
			put32(below(1u << 30));
			if (!below(6))
				PUT(0xf9);
			if (other < 8 && below(3)) {
				PUT(0x0f, 0x82); /* jc, else jmp: to another page or this one */
				put32((uint64_t)(to + (int32_t)(FUNCTION * (other - n)) - (int32_t)(len + 4)));
				if (below(2)) {
					PUT(0xe9);
					put32((uint64_t)((int32_t)(FUNCTION * (other - n)) - (int32_t)(len + 4)));
				}
			}
			PUT(0xc3);
			memcpy(frame + FUNCTION * n, code, len);
		}
		pair_put(&p, FRAMES + 0x1000u * f, frame, sizeof(frame));
	}
}

static uint64_t a_function(void)
{
	return window(below(3), 1 + below(SLOTS - 2)) + FUNCTION * below(8);
}

/* --- what the kernel does --- */

/* Where it goes on after a fault, or from user mode, is in R15. */
static size_t resume_begin(void)
{
	PUT(0x4c, 0x8d, 0x3d); /* lea r15, [rip + ...] */
	put32(0);
	return len;
}

static void resume_here(size_t from)
{
	uint32_t v = (uint32_t)(len - from);

	memcpy(code + from - 4, &v, 4);
}

static void call(void)
{
	size_t resume = resume_begin();

	PUT(0x48, 0xc7, 0xc4); /* mov rsp, imm; stc or clc; call */
	put32(RIG_STACK0);
	PUT(below(2) ? 0xf9 : 0xf8, 0xe8);
	put32(a_function() - (PROGRAM + len + 4));
	resume_here(resume);
}

static void call_as_user(void)
{
	size_t resume = resume_begin();

	PUT(0x6a, RIG_UDATA, 0x68);
	put32(USER_STACK);
	PUT(0x6a, below(2) ? 3 : 2, 0x6a, RIG_UCODE64, 0x68);
	put32(a_function());
	PUT(0x48, 0xcf);
	resume_here(resume);
}

static void enter_space(unsigned s, bool keep)
{
	uint64_t v = TABLES(s) | (s + 1) | (keep ? 1ull << 63 : 0);

	PUT(0x48, 0xb9); /* mov rcx, imm; mov cr3, rcx */
	put(&v, 8);
	PUT(0x0f, 0x22, 0xd9);
	space = s;
}

static void invpcid(unsigned type, unsigned s, uint64_t lin)
{
	uint64_t at = CELLS + 16 * cells++;

	both(at, s + 1);
	both(at + 8, lin);
	PUT(0xb9); /* mov ecx, type; invpcid rcx, [at] */
	put32(type);
	PUT(0x66, 0x0f, 0x38, 0x82, 0x0c, 0x25);
	put32(at);
}

static void toggle_pge(void)
{
	for (unsigned n = 0; n < 2; n++)
		PUT(0x0f, 0x20, 0xe1, 0x48, 0x0f, 0xba, 0xf9, 7, 0x0f, 0x22, 0xe1); /* btc rcx, 7 of CR4 */
}

/* The entry becomes another one, and that again in the next round; then the TLB is told. */
static void move_page(void)
{
	unsigned region = below(3), slot = below(SLOTS), s = below(3) ? space : below(SPACES);
	uint64_t at = CELLS + 16 * cells++, lin = window(region, slot);

	both(at, entry(region));
	PUT(0x48, 0x8b, 0x0c, 0x25); /* mov rcx, [cell]; xchg rcx, [entry]; mov [cell], rcx */
	put32(at);
	PUT(0x48, 0x87, 0x0c, 0x25);
	put32(table(s, region) + 8 * (FIRST + slot));
	PUT(0x48, 0x89, 0x0c, 0x25);
	put32(at);
	switch (below(6)) {
	case 0:
		toggle_pge();
		break;
	case 1:
		invpcid(2, 0, 0);
		break;
	case 2:
		if (region == 2)
			invpcid(2, 0, 0);
		else
			invpcid(s == space ? 1 : 3, s, 0);
		break;
	default:
		if (region != 2 && s != space) {
			invpcid(0, s, lin);
		} else {
			PUT(0xb9); /* mov ecx, lin; invlpg [rcx] */
			put32(lin);
			PUT(0x0f, 0x01, 0x39);
		}
	}
}

/* A function adds something else, or takes the carry along or not. */
static void change_code(void)
{
	uint64_t at = FRAMES + 0x1000u * below(FRAME_MOST) + FUNCTION * below(8);

	if (below(2)) {
		PUT(0x81, 0x04, 0x25); /* add dword [at + 1], imm */
		put32(at + 1);
		put32(below(1000));
	} else {
		PUT(0x80, 0x34, 0x25); /* xor byte [at], the one by the other */
		put32(at);
		PUT(0x10);
	}
}

static void (*const steps[])(void) = { call,	     call,	call,	   call,      call_as_user, call_as_user,
				       call_as_user, move_page, move_page, move_page, change_code };

static void make_program(void)
{
	size_t top;

	len = 0;
	cells = 0;
	top = len;
	enter_space(0, true);
	for (unsigned n = 0; n < LENGTH; n++) {
		steps[below(ARRAY_LEN(steps))]();
		if (!below(10))
			enter_space(below(SPACES), below(4));
		if (!below(4))
			PUT(0x48, 0x69, 0xdb, 0x3f, 0, 1, 0, 0x48, 0x01,
			    0xc3); /* imul rbx, rbx, 1003fh; add rbx, rax */
	}
	PUT(0x41, 0xff, 0xcc, 0x0f, 0x85); /* dec r12d; jnz top; hlt */
	put32(top - (len + 4));
	PUT(0xf4);
	pair_put(&p, PROGRAM, code, len);
}

static void make_handlers(void)
{
	/* mov rsp, imm32; jmp r15 */
	static const uint8_t back[] = { 0x48, 0xc7, 0xc4, 0, 0, 9, 0, 0x41, 0xff, 0xe7 };
	/* mov rcx, cr2; add rbx, rcx; pop rcx; imul rbx, rbx, 1003fh; add rbx, rcx; xor rbx, [rsp]; inc r8 */
	static const uint8_t fault[] = { 0x0f, 0x20, 0xd1, 0x48, 0x01, 0xcb, 0x59, 0x48, 0x69, 0xdb, 0x3f, 0,
					 1,    0,    0x48, 0x01, 0xcb, 0x48, 0x33, 0x1c, 0x24, 0x49, 0xff, 0xc0 };

	_Static_assert(RIG_STACK0 == 0x90000, "as above");
	pair_put(&p, BACK, back, sizeof(back));
	pair_put(&p, FAULT, fault, sizeof(fault));
	pair_put(&p, FAULT + sizeof(fault), back, sizeof(back));
	both(RIG_IDT + 16 * 0x40, RIG_GATE(RIG_CODE64, (uint64_t)BACK, 0xee, 0));
	both(RIG_IDT + 16 * X86_PF_FAULT, RIG_GATE(RIG_CODE64, (uint64_t)FAULT, 0x8e, 0));
	pair_write(&p, STUB, 0x40cd, 2);
	both(USER_STACK, STUB);
}

static bool run(uint64_t seed)
{
	struct x86_state *s = pair_state(&p);

	rng = (struct rng){ rng_mix(seed) };
	pair_reset(&p, 0);
	make_tables();
	make_frames();
	make_handlers();
	make_program();
	s->cr3 = TABLES(0) | 1;
	s->cr4 = X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PCIDE | (below(2) ? X86_CR4_SMEP : 0);
	s->efer |= X86_EFER_NXE;
	s->gpr[X86_RIP] = PROGRAM;
	s->gpr[X86_RAX] = s->gpr[X86_RBX] = s->gpr[8] = 0;
	s->gpr[12] = ROUNDS;
	return pair_run(&p);
}

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *v = getenv(name);

	return v ? strtoull(v, NULL, 0) : otherwise;
}

static void random_guests_do_the_same(void **state)
{
	static const char *const heats[] = { "0", "0", "16" };
	uint64_t count = number("VIREO_GUESTS_COUNT", 150), first = number("VIREO_GUESTS_SEED", 1), faults = 0,
		 ends = 0;

	pair_or_skip();
	for (unsigned n = 0; n < ARRAY_LEN(heats); n++) {
		pair_new(&p, n == 0, heats[n]);
		for (uint64_t seed = first + n * count / 3; seed < first + (n + 1) * count / 3; seed++) {
			if (!run(seed))
				fail_msg("seed %#llx", (unsigned long long)seed);
			faults += pair_state(&p)->gpr[8];
			ends += !pair_state(&p)->gpr[12];
		}
		pair_free(&p);
	}
	/* They come to their end, and pages are missing now and then. */
	assert_int_equal(ends, count / 3 * 3);
	assert_true(faults > 10 * count);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(random_guests_do_the_same) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
