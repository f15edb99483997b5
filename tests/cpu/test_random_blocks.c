/*
 * Random blocks beside the interpreter: accesses over a few registers that lead to the ends of all kinds of pages, what
 * changes these registers, and handlers in between. After each block registers, memory and what was pushed are
 * compared.
 *
 *   VIREO_BLOCKS_COUNT  how many (default 4000)
 *   VIREO_BLOCKS_SEED   of the first
 */
#include "pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define FROM 0x400 /* where code begins in its page: out of reach of what is at the page's ends */
#define MOST 0x600

static struct pair p;
static struct rng rng;
static uint8_t code[MEM_PAGE_SIZE];
static size_t len;

static void put(const void *bytes, size_t n)
{
	memcpy(code + len, bytes, n);
	len += n;
}
#define PUT(...) put((const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static void put32(uint32_t v)
{
	put(&v, 4);
}

static bool one_in(unsigned n)
{
	return !rng_below(&rng, n);
}

/* --- registers: bases, indices, places for data; R13 to R15 lead somewhere and stay, R12 counts rounds --- */

static unsigned a_base(void)
{
	static const uint8_t r[] = { X86_RBX, X86_RBX, X86_RSI, X86_RDI, X86_RBP, X86_RSP, X86_RSP, 8, 10, 14 };

	return r[rng_below(&rng, ARRAY_LEN(r))];
}

static unsigned an_index(void)
{
	return one_in(2) ? X86_RCX : 9;
}

static unsigned for_data(void)
{
	static const uint8_t r[] = { X86_RAX, X86_RDX, 11 };

	return one_in(40) ? a_base() : r[rng_below(&rng, ARRAY_LEN(r))];
}

static unsigned an_anchor(void)
{
	return 13 + rng_below(&rng, 3);
}

static uint8_t small(void)
{
	static const uint8_t near[] = { 0, 8, 16, 24, 0xf8, 0xf0, 4, 0xfc, 1, 0xff };

	return one_in(4) ? (uint8_t)rng_next(&rng) : near[rng_below(&rng, ARRAY_LEN(near))];
}

/* An operation on two registers. */
static void on_registers(unsigned op, unsigned reg, unsigned rm)
{
	PUT((uint8_t)(0x48 | reg >> 3 << 2 | rm >> 3), (uint8_t)op, (uint8_t)(0xc0 | (reg & 7) << 3 | (rm & 7)));
}

/* --- accesses --- */

#define BYTE   1u
#define LOCK   2u /* can be locked */
#define IMM8   4u
#define IMM32  8u
#define DATA   16u /* the register is any of 16 vector registers */
#define NARROW 32u /* no REX.W */
struct access {
	uint8_t pfx, map, op, ext, what; /* ext: 1 + ModRM.reg, or 0: that is a register */
};
static const struct access accesses[] = {
	{ 0, 0, 0x8b, 0, 0 },
	{ 0, 0, 0x8b, 0, NARROW },
	{ 0x66, 0, 0x8b, 0, NARROW },
	{ 0, 0, 0x8a, 0, BYTE },
	{ 0, 0, 0x89, 0, 0 },
	{ 0, 0, 0x89, 0, NARROW },
	{ 0x66, 0, 0x89, 0, NARROW },
	{ 0, 0, 0x88, 0, BYTE },
	{ 0, 0x0f, 0xb6, 0, 0 },
	{ 0, 0x0f, 0xbf, 0, 0 },
	{ 0, 0, 0x63, 0, 0 },
	{ 0, 0, 0x03, 0, 0 },
	{ 0, 0, 0x01, 0, LOCK },
	{ 0, 0, 0x13, 0, 0 },
	{ 0, 0, 0x19, 0, LOCK | NARROW },
	{ 0, 0, 0x31, 0, LOCK },
	{ 0, 0, 0x39, 0, 0 },
	{ 0, 0, 0x85, 0, NARROW },
	{ 0, 0, 0x87, 0, LOCK },
	{ 0, 0x0f, 0xc1, 0, LOCK },
	{ 0, 0x0f, 0xb1, 0, LOCK },
	{ 0, 0, 0xc7, 1, IMM32 },
	{ 0, 0, 0xc6, 1, IMM8 },
	{ 0, 0, 0x83, 1, IMM8 | LOCK },
	{ 0, 0, 0x83, 8, IMM8 },
	{ 0, 0, 0xff, 1, LOCK },
	{ 0, 0, 0xff, 2, NARROW },
	{ 0, 0, 0xf7, 3, 0 },
	{ 0, 0, 0xf7, 4, LOCK },
	{ 0, 0, 0xff, 7, NARROW }, /* PUSH, POP */
	{ 0, 0, 0x8f, 1, NARROW },
	{ 0, 0x0f, 0x42, 0, 0 },
	{ 0, 0x0f, 0x99, 1, 0 },
	{ 0, 0x0f, 0xba, 6, IMM8 | LOCK },
	{ 0, 0x0f, 0x10, 0, DATA | NARROW },
	{ 0, 0x0f, 0x11, 0, DATA | NARROW },
	{ 0, 0x0f, 0x28, 0, DATA | NARROW },
	{ 0x66, 0x0f, 0xd6, 0, DATA | NARROW },
	{ 0, 0, 0xdd, 1, NARROW }, /* FLD, FSTP */
	{ 0, 0, 0xdd, 4, NARROW },
};

static void access(void)
{
	const struct access *a = &accesses[rng_below(&rng, ARRAY_LEN(accesses))];
	unsigned reg = a->ext ? a->ext - 1u : a->what & DATA ? rng_below(&rng, 16) : for_data();
	unsigned base = a_base(), index = an_index(), scale = rng_below(&rng, 4);
	bool indexed = one_in(5);

	if (one_in(10))
		PUT((uint8_t)(one_in(2) ? 0x64 : 0x65));
	if (one_in(30))
		PUT(0x67);
	if (a->what & LOCK && one_in(5))
		PUT(0xf0);
	if (a->pfx)
		PUT(a->pfx);
	PUT((uint8_t)(0x40 | (a->what & (NARROW | BYTE) ? 0 : 8) | reg >> 3 << 2 | (indexed ? index >> 3 << 1 : 0) |
		      base >> 3));
	if (a->map)
		PUT(a->map);
	PUT(a->op, (uint8_t)(0x40 | (reg & 7) << 3 | (indexed ? 4 : base & 7)));
	if (indexed)
		PUT((uint8_t)(scale << 6 | (index & 7) << 3 | (base & 7)));
	else if ((base & 7) == X86_RSP)
		PUT(0x24);
	PUT(small());
	if (a->what & IMM8)
		PUT((uint8_t)rng_next(&rng));
	if (a->what & IMM32)
		put32((uint32_t)rng_next(&rng));
}

static void stack(void)
{
	unsigned r = for_data();

	switch (rng_below(&rng, 8)) {
	case 0:
		PUT(0x6a, (uint8_t)rng_next(&rng));
		break;
	case 1:
		PUT(0x9c); /* pushfq */
		break;
	case 2:
		PUT(0xe8, 0, 0, 0, 0); /* call: the next block */
		break;
	case 3:
	case 4:
		PUT((uint8_t)(0x40 | r >> 3), (uint8_t)(0x58 | (r & 7)));
		break;
	default:
		PUT((uint8_t)(0x40 | r >> 3), (uint8_t)(0x50 | (r & 7)));
	}
}

/* What a base is from now on: somewhere near an anchor, most often. */
static void base(void)
{
	unsigned r = a_base(), other = a_base();

	if (r == 14)
		r = X86_RBX;
	if (other == 14)
		other = X86_RSI;
	switch (rng_below(&rng, 14)) {
	case 0:
	case 1:
		PUT((uint8_t)(0x48 | r >> 3), 0x83, (uint8_t)(0xc0 | (r & 7)), small()); /* add */
		break;
	case 2:
		PUT((uint8_t)(0x48 | r >> 3), 0x83, (uint8_t)(0xe8 | (r & 7)), small()); /* sub */
		break;
	case 3:
		PUT((uint8_t)(0x48 | r >> 3), 0x81, (uint8_t)(0xc0 | (one_in(2) ? 0x28 : 0) | (r & 7)));
		put32(one_in(2) ? 0x1000 : 0x200);
		break;
	case 4:
		PUT((uint8_t)(0x40 | r >> 3), 0x83, (uint8_t)(0xc0 | (r & 7)), small()); /* add, 32 bits */
		break;
	case 5: /* lea r, [r + disp] */
		PUT((uint8_t)(0x48 | (r >> 3) * 5), 0x8d, (uint8_t)(0x40 | (r & 7) << 3 | (r & 7)));
		if ((r & 7) == X86_RSP)
			PUT(0x24);
		PUT(small());
		break;
	case 6:
		on_registers(0x87, r, other);
		break;
	case 7:
		on_registers(0x01, an_index(), r);
		break;
	case 8:
		PUT((uint8_t)(0x48 | r >> 3), 0xff, (uint8_t)(0xc0 | (one_in(2) ? 8 : 0) | (r & 7)));
		break;
	case 9:
		PUT((uint8_t)(0x48 | r >> 3 << 2 | 1), 0x0f, (uint8_t)(0x40 | rng_below(&rng, 16)),
		    (uint8_t)(0xc0 | (r & 7) << 3 | (an_anchor() & 7))); /* cmov */
		break;
	case 10:
		PUT((uint8_t)(0x48 | r >> 3 << 2 | other >> 3), 0x0f, 0xc1,
		    (uint8_t)(0xc0 | (r & 7) << 3 | (other & 7))); /* xadd, and one of the two again */
		on_registers(0x89, an_anchor(), other);
		break;
	default:
		on_registers(0x89, an_anchor(), r);
	}
}

/* What its handler does, in the middle of a block or at its end; and jumps forwards. */
static void between(void)
{
	switch (rng_below(&rng, 12)) {
	case 0: /* xor eax, eax; cpuid; mov ecx, 2; mov rbx, r13 */
		PUT(0x31, 0xc0, 0x0f, 0xa2, 0xb9, 2, 0, 0, 0, 0x4c, 0x89, 0xeb);
		break;
	case 1:
		PUT(0x48, 0xad); /* lodsq */
		break;
	case 2:
		PUT(0xaa); /* stosb */
		break;
	case 3:
		PUT(0x48, 0xa5); /* movsq */
		break;
	case 4:
		PUT(0x0f, 0x01, one_in(2) ? 0xca : 0xcb); /* clac, stac */
		break;
	case 5:
		PUT(0x0f, 0x01, 0xf8); /* swapgs */
		break;
	case 6:
		PUT(0xdf, 0xe0); /* fnstsw ax */
		break;
	case 7:
		PUT(0xfd, 0xa6, 0xfc); /* std; cmpsb; cld */
		break;
	case 8:
		PUT(0xeb, 0); /* jmp */
		break;
	case 9:
		PUT((uint8_t)(0x70 | rng_below(&rng, 16)), 0);
		break;
	case 10:
		PUT(0xb9, (uint8_t)rng_below(&rng, 8), 0, 0, 0); /* mov ecx, imm */
		break;
	default:
		PUT(0xfa, 0x90, 0xfb); /* cli; nop; sti */
	}
}

/* --- a case --- */

static bool is_plain(uint64_t at)
{
	return at < PAIR_END && !((at - PAIR_WINDOW) / MEM_PAGE_SIZE & 1);
}

static uint64_t somewhere(void)
{
	uint64_t page = 1 + rng_below(&rng, PAIR_PAGES), off = rng_below(&rng, 96) - 64;

	if (one_in(20))
		return PAIR_END + MEM_PAGE_SIZE + off;
	return PAIR_WINDOW + page * MEM_PAGE_SIZE + (one_in(2) ? off : 0x200 + rng_below(&rng, 8) * 8);
}

static void make(struct x86_state *s)
{
	size_t loop;
	int32_t back;

	memset(code, 0xf4, sizeof(code));
	len = FROM;
	for (unsigned n = 13; n < 16; n++) {
		s->gpr[n] = somewhere();
		if (is_plain(s->gpr[n]) && !one_in(4))
			PUT(0x41, 0x80, n == 13 ? 0x4d : n == 14 ? 0x4e : 0x4f, 0, 0); /* or byte [anchor + 0], 0 */
	}
	PUT(0xeb, 0);
	loop = len;
	for (unsigned n = rng_below(&rng, 4); n < 4; n++)
		base();
	for (unsigned n = 4 + rng_below(&rng, 20); n && len < FROM + MOST; n--) {
		unsigned what = rng_below(&rng, 100);

		if (what < 62)
			access();
		else if (what < 78)
			stack();
		else if (what < 94)
			base();
		else
			between();
	}
	PUT(0x41, 0xff, 0xcc, 0x0f, 0x85); /* dec r12d; jnz loop; hlt */
	back = (int32_t)loop - (int32_t)(len + 4);
	put32((uint32_t)back);
}

static bool run(uint64_t seed)
{
	struct x86_state *s = pair_state(&p);

	rng = (struct rng){ rng_mix(seed) };
	/* A block may have stored to what the processor needs. */
	if (p.r[0].why == CPU_EXIT_SHUTDOWN || seed % 64 == 0) {
		rig_reset(&p.r[0], RIG_LONG);
		rig_reset(&p.r[1], RIG_LONG);
	}
	pair_reset(&p, one_in(2) ? 3 : 0);
	if (one_in(4)) {
		s->cr4 |= X86_CR4_SMAP;
		s->rflags |= one_in(4) ? 0 : X86_AC;
	}
	for (unsigned n = 0; n < 16; n++)
		s->gpr[n] = rng_integer(&rng);
	make(s);
	s->gpr[X86_RIP] = RIG_CODE + FROM;
	s->gpr[12] = 1 + rng_below(&rng, 3);
	s->gpr[X86_RCX] = rng_below(&rng, 8);
	s->gpr[9] = rng_below(&rng, 8);
	for (unsigned n = 0; n < 12; n++)
		if (n != X86_RAX && n != X86_RCX && n != X86_RDX && n != 9 && n != 11)
			s->gpr[n] = s->gpr[an_anchor()];
	pair_put(&p, RIG_CODE, code, sizeof(code));
	return pair_run(&p);
}

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *v = getenv(name);

	return v ? strtoull(v, NULL, 0) : otherwise;
}

static void some(bool strict, const char *heat, uint64_t first, uint64_t count)
{
	pair_new(&p, strict, heat);
	for (uint64_t seed = first; seed < first + count; seed++) {
		if (run(seed))
			continue;
		for (size_t n = FROM; n < len; n++)
			fprintf(stderr, "%02x%s", code[n], n + 1 == len ? "\n" : " ");
		fail_msg("seed %#llx, jit.strict=%s", (unsigned long long)seed, strict ? "on" : "off");
	}
	pair_free(&p);
}

static void random_blocks_do_the_same(void **state)
{
	uint64_t count = number("VIREO_BLOCKS_COUNT", 4000) / 4, seed = number("VIREO_BLOCKS_SEED", 1);

	pair_or_skip();
	some(true, "0", seed, count);
	some(false, "0", seed + count, count);
	some(false, "0", seed + 2 * count, count);
	some(false, "1", seed + 3 * count, count);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(random_blocks_do_the_same) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
