/* See diff_sweep.h. */
#include "diff_sweep.h"

#include <string.h>

#include "base/bytes.h"

/* --- operands: each also with its sign bit flipped --- */

#define BIAS 0x3fffu
static const struct {
	uint64_t mant;
	uint16_t exp;
} float80[] = {
	{ 0, 0 },
	{ 1, 0 }, /* denormals */
	{ 0x7fffffffffffffff, 0 },
	{ 0x8000000000000000, 0 }, /* pseudo-denormals */
	{ 0xc000000000000001, 0 },
	{ 0x8000000000000000, 1 }, /* the least normal, the greatest */
	{ 0xffffffffffffffff, 0x7ffe },
	{ 0x8000000000000000, BIAS }, /* 1 and its neighbours, 1.5, 0.5 */
	{ 0x8000000000000001, BIAS },
	{ 0xffffffffffffffff, BIAS - 1 },
	{ 0xc000000000000000, BIAS },
	{ 0x8000000000000000, BIAS - 1 },
	{ 0xc90fdaa22168c235, BIAS - 1 },  /* pi / 4 */
	{ 0xfffe000000000000, BIAS + 14 }, /* 2^15 - 1, and a half more */
	{ 0xffff000000000000, BIAS + 14 },
	{ 0x8000000000000000, BIAS + 15 },
	{ 0xfffffffe00000000, BIAS + 30 }, /* 2^31 - 1, and a half more */
	{ 0xffffffff00000000, BIAS + 30 },
	{ 0x8000000000000000, BIAS + 31 },
	{ 0x8000000080000000, BIAS + 31 }, /* 2^31 and a half */
	{ 0xfffffffffffffffe, BIAS + 62 }, /* 2^63 - 1, and a half more */
	{ 0xffffffffffffffff, BIAS + 62 },
	{ 0x8000000000000000, BIAS + 63 },
	{ 0xde0b6b3a763ffff0, BIAS + 59 }, /* 10^18 - 1, and a half more */
	{ 0xde0b6b3a763ffff8, BIAS + 59 },
	{ 0xde0b6b3a76400000, BIAS + 59 },
	{ 0xffffff0000000000, BIAS + 127 }, /* the greatest of 32 bits, what is rounded to more, the least */
	{ 0xffffff8000000000, BIAS + 127 },
	{ 0xffffffffffffffff, BIAS - 127 },
	{ 0x8000000000000000, BIAS - 150 },
	{ 0xfffffffffffff800, BIAS + 1023 }, /* and of 64 */
	{ 0xfffffffffffffc00, BIAS + 1023 },
	{ 0xffffffffffffffff, BIAS - 1023 },
	{ 0x8000000000000000, BIAS - 1075 },
	{ 0x8000000000000000, 0x7fff }, /* infinity */
	{ 0x8000000000000001, 0x7fff }, /* signalling and quiet NaNs */
	{ 0xbfffffffffffffff, 0x7fff },
	{ 0xc000000000000000, 0x7fff },
	{ 0xffffffffffffffff, 0x7fff },
	{ 0, 0x7fff }, /* pseudo-infinity, pseudo-NaN, unnormals */
	{ 0x4000000000000000, 0x7fff },
	{ 0x4000000000000000, BIAS },
	{ 0, BIAS },
};

static const uint64_t float64[] = {
	0,
	1,
	0x000fffffffffffff,
	0x0010000000000000,
	0x7fefffffffffffff,
	0x3ff0000000000000,
	0x3ff0000000000001,
	0x3fefffffffffffff,
	0x3ff8000000000000,
	0x3fe0000000000000,
	0x41dfffffffc00000, /* 2^31 - 1, and a half more, 2^31 */
	0x41dfffffffe00000,
	0x41e0000000000000,
	0x41e0000000100000,
	0x43dfffffffffffff, /* below 2^63, 2^63 */
	0x43e0000000000000,
	0x47efffffe0000000, /* the greatest of 32 bits, what is rounded to more, the least normal, the least */
	0x47effffff0000000,
	0x380fffffffffffff,
	0x36a0000000000000,
	0x3690000000000001,
	0x20000000000fffff, /* whose square is tiny */
	0x7ff0000000000000,
	0x7ff0000000000001,
	0x7ff7ffffffffffff,
	0x7ff8000000000000,
	0x7fffffffffffffff,
};

static const uint64_t float32[] = {
	0,	    1,		0x007fffff, 0x00800000, 0x7f7fffff, 0x3f800000, 0x3f800001, 0x3f7fffff, 0x3fc00000,
	0x3f000000, 0x40200000, 0x4effffff, 0x4f000000, 0x4f000001, 0x5effffff, 0x5f000000, 0x1fffffff, 0x20000001,
	0x7f800000, 0x7f800001, 0x7fbfffff, 0x7fc00000, 0x7fffffff, 0x46fffe00, 0x477fe000, 0x477ff000, 0x33000001,
};

static const uint64_t float16[] = { 0, 1, 0x03ff, 0x0400, 0x7bff, 0x3c00, 0x3c01, 0x7c00, 0x7c01, 0x7e00, 0x7fff };

static const uint64_t integer[] = {
	0,
	1,
	2,
	10,
	0x7f,
	0x7fff,
	0x8000,
	0xffffff,
	0x1000001,
	0x7fffffff,
	0x80000000,
	0xffffffff,
	0x1fffffffffffff,
	0x20000000000001,
	0x7fffffffffffffff,
	0x7ffffffffffffdff,
	0x7fffff4000000000,
};

/* Ten bytes: the low nine, the top one. */
static const struct {
	uint64_t low;
	uint16_t high;
} bcd[] = { { 0, 0 },
	    { 1, 0 },
	    { 0x9999999999999999, 0x99 },
	    { 0x1234567890123456, 0x78 },
	    { 0, 0x7f00 },		  /* the sign's other bits do not count */
	    { 0xaaaaaaaaaaaaaaaa, 0xff }, /* no decimal digits */
	    { 0, 0xffff },
	    { 0xc000000000000000, 0xffff } };

enum kind { FLOAT80, FLOAT64, FLOAT32, FLOAT16, INTEGER, BCD };
static const struct {
	const uint64_t *v;
	uint8_t count, bits;
} plain[] = {
	[FLOAT64] = { float64, ARRAY_LEN(float64), 64 },
	[FLOAT32] = { float32, ARRAY_LEN(float32), 32 },
	[FLOAT16] = { float16, ARRAY_LEN(float16), 16 },
	[INTEGER] = { integer, ARRAY_LEN(integer), 64 },
};

static unsigned values(enum kind k)
{
	return 2 * (k == FLOAT80 ? ARRAY_LEN(float80) : k == BCD ? ARRAY_LEN(bcd) : plain[k].count);
}

/* Value `n` (any number) as `bytes` bytes. Integers change their sign as such. */
static void value(enum kind k, uint64_t n, uint8_t *out, unsigned bytes)
{
	uint64_t which = n % values(k) / 2, v, sign = n & 1;

	if (k == FLOAT80 || k == BCD) {
		st_le64(out, k == BCD ? bcd[which].low : float80[which].mant);
		st_le16(out + 8, (uint16_t)((k == BCD ? bcd[which].high : float80[which].exp) ^ sign << 15));
		return;
	}
	v = plain[k].v[which];
	v = k == INTEGER ? (sign ? -v : v) : v ^ sign << (plain[k].bits - 1);
	memcpy(out, &v, bytes);
}

/* --- which forms, and what their operands are --- */

static bool is_of(const struct diff_form *f, const struct diff_rows *t)
{
	return f->row >= t->rows && f->row < t->rows + t->count;
}

static bool is_x87(const struct diff_form *f)
{
	return (is_of(f, &diff_rows_x87) || is_of(f, &diff_rows_fisttp)) && !(f->row->attr & (A_SINGLE | A_PARTIAL));
}

/* Without VEX's v. */
static const char *plain_name(const struct diff_form *f)
{
	return f->row->text + (f->vex ? 1 : 0);
}

/* Vector instructions whose result depends on MXCSR, by the beginning of the name. */
static bool is_vector(const struct diff_form *f)
{
	static const char *const names[] = { "sqrt",  "add", "mul",   "sub",   "min", "div", "max",
					     "rsqrt", "rcp", "cmp",   "ucomi", "com", "cvt", "hadd",
					     "hsub",  "dp",  "round", "fm",    "fn" };

	if (is_of(f, &diff_rows_x87) || is_of(f, &diff_rows_int) || f->row->attr & A_VSIB)
		return false;
	for (unsigned n = 0; n < ARRAY_LEN(names); n++)
		if (!strncmp(plain_name(f), names[n], strlen(names[n])))
			return true;
	return false;
}

/* The elements of the last source. */
static enum kind source(const struct diff_form *f)
{
	const char *name = plain_name(f);
	unsigned len = (unsigned)strcspn(name, " ");

	if (is_x87(f))
		return !strncmp(name, "fi", 2)	 ? INTEGER
		       : !strncmp(name, "fb", 2) ? BCD
		       : f->op[0].where != 'M'	 ? FLOAT80
		       : f->op[0].size == SIZE_D ? FLOAT32
		       : f->op[0].size == SIZE_Q ? FLOAT64
						 : FLOAT80;
	if (!strncmp(name, "cvt", 3)) {
		name += name[3] == 't' ? 4 : 3;
		return name[0] == 'p' && name[1] == 'h'	  ? FLOAT16
		       : name[1] == 's'			  ? FLOAT32
		       : name[1] == 'd' && name[0] != 'd' ? FLOAT64
							  : INTEGER;
	}
	return name[len - 1] == 's' ? FLOAT32 : FLOAT64;
}

/* The digits of a case's number: operand a, operand b, rounding, what else there is, masks, the x87 stack. */
#define ROUNDINGS 4
#define CONTROLS  4 /* precision control; FTZ and DAZ */
#define MASKS	  8
#define STACKS	  4

/* Of the register operands, when the other one is something else. */
static enum kind first_kind(const struct diff_form *f)
{
	enum kind k = source(f);

	return is_x87(f) ? FLOAT80 : k == INTEGER || k == FLOAT16 ? FLOAT32 : k;
}

uint64_t diff_sweep_cases(const struct diff_form *f)
{
	if (!is_x87(f) && !is_vector(f))
		return 0;
	return (uint64_t)values(first_kind(f)) * values(source(f)) * ROUNDINGS * CONTROLS * MASKS *
	       (is_x87(f) ? STACKS : 1);
}

uint64_t diff_sweep_walk(uint64_t k, uint64_t n)
{
	uint64_t step = n * 618 / 1000, a, b;

	/* Near the golden section, and without a common divisor. */
	do {
		step++;
		for (a = n, b = step; b;) {
			uint64_t rest = a % b;

			a = b;
			b = rest;
		}
	} while (a != 1);
	return k % n * step % n;
}

/* --- states --- */

static bool stores_x87(const struct diff_form *f)
{
	return !strncmp(f->row->text, "fst", 3) || !strncmp(f->row->text, "fist", 4) ||
	       !strncmp(f->row->text, "fbst", 4) || !strncmp(f->row->text, "fnst", 4);
}

bool diff_sweep_fits(const struct diff_block *b, struct diff_slot *s)
{
	const struct diff_insn *i = &b->insn[0];

	return i->is_mem ? diff_operand(i, s) != NULL : i->form->op[0].where != 'G' || !(b->known >> (i->reg & 15) & 1);
}

/* All masked, none, or all but one. */
static unsigned masks(uint64_t n)
{
	return n == 0 ? 0x3f : n == 1 ? 0 : 0x3fu & ~(1u << (n - 2));
}

static uint64_t digit(uint64_t *n, unsigned base)
{
	uint64_t d = *n % base;

	*n /= base;
	return d;
}

static void set_x87(const struct diff_insn *i, uint64_t a, uint64_t b, uint64_t n, uint8_t *fx)
{
	uint64_t rounding = digit(&n, ROUNDINGS), precision = digit(&n, CONTROLS), mask = digit(&n, MASKS),
		 stack = digit(&n, STACKS);
	unsigned top = (unsigned)(a + b) & 7, other = i->is_mem || i->form->op[0].where == 0 ? 1 : i->rm & 7;
	/* As most programs have it; ST(0) empty; the other one empty; full. */
	unsigned valid = stack == 3 ? 0xff : 0x3f | 1u << other;

	if (stack == 1 || stack == 2)
		valid &= ~(stack == 1 ? 1u : 1u << other);
	st_le16(fx, (uint16_t)(0x40 | masks(mask) | precision << 8 | rounding << 10));
	st_le16(fx + 2, (uint16_t)(top << 11));
	fx[4] = (uint8_t)(valid << top | valid >> (8 - top));
	value(FLOAT80, b, fx + 32 + 16, 10);
	value(FLOAT80, b, fx + 32 + 16 * other, 10);
	value(FLOAT80, a, fx + 32, 10);
}

static void set_vectors(const struct diff_insn *i, uint64_t a, uint64_t b, uint64_t n, struct diff_slot *s)
{
	uint64_t rounding = digit(&n, ROUNDINGS), denormals = digit(&n, CONTROLS), mask = digit(&n, MASKS);
	enum kind first = first_kind(i->form), last = source(i->form);
	unsigned bytes = plain[first].bits / 8, last_bytes = last == INTEGER ? 4 : plain[last].bits / 8;
	uint8_t *mem = diff_operand(i, s), from[32], to[32];

	/* The elements of a vector have different pairs, the first one the case's own. */
	for (unsigned at = 0; at < 32; at += bytes)
		value(first, a + 5 * (at / bytes), to + at, bytes);
	for (unsigned at = 0; at < 32; at += last_bytes)
		value(last, b + 7 * (at / last_bytes), from + at, last_bytes);
	for (unsigned r = 0; r < 16; r++) {
		const uint8_t *v = r == i->rm ? from : to;

		memcpy(s->in.fx + 160 + 16 * r, v, 16);
		memcpy(s->in.high[r], v + 16, 16);
		if (r < 8)
			memcpy(s->in.fx + 32 + 16 * r, v, 8);
	}
	if (last == INTEGER) { /* one of 4 or 8 bytes, or several of 4 */
		value(INTEGER, b, from, 8);
		if (!i->is_mem)
			s->in.gpr[i->rm & 15] = ld_le64(from);
		for (unsigned at = 8; at < 32; at += 4)
			value(INTEGER, b + at, from + at, 4);
	}
	if (mem)
		memcpy(mem, from, i->size < 32 ? i->size : 32);
	st_le32(s->in.fx + 24,
		(uint32_t)(masks(mask) << 7 | rounding << 13 | (denormals & 1) << 6 | (denormals & 2) << 14));
}

void diff_sweep_state(const struct diff_block *block, uint64_t n, struct diff_slot *s)
{
	const struct diff_insn *i = &block->insn[0];
	const struct diff_form *f = i->form;
	uint64_t a = digit(&n, values(first_kind(f))), b = digit(&n, values(source(f)));
	uint8_t *mem = diff_operand(i, s);

	if (!is_x87(f)) {
		set_vectors(i, a, b, n, s);
		return;
	}
	set_x87(i, a, b, n, s->in.fx);
	if (mem && !stores_x87(f))
		value(source(f), b, mem, i->size);
}
