/* See diff_rng.h. */
#include "diff_rng.h"

#include "base/bytes.h"

uint64_t rng_integer(struct rng *r)
{
	static const uint64_t edges[] = { 0,	      1,	  2,	      ~0ull,	     ~1ull,	 0x7f,
					  0x80,	      0xff,	  0x7fff,     0x8000,	     0xffff,	 0x7fffffff,
					  0x80000000, 0xffffffff, 1ull << 63, ~(1ull << 63), 0x100000000 };
	uint64_t pick = rng_next(r), v = rng_next(r);

	switch (pick & 7) {
	case 0:
	case 1:
		return edges[(pick >> 8) % ARRAY_LEN(edges)];
	case 2:
		return edges[(pick >> 8) % ARRAY_LEN(edges)] + (v & 7) - 3;
	case 3:
		return v >> (pick >> 8 & 63);
	case 4:
		return (uint64_t)((int64_t)v >> (pick >> 8 & 63));
	case 5:
		return 1ull << (v & 63);
	default:
		return v;
	}
}

/* The exponent of a number: near the ends, near 1.0, or any. `bits`: of the field. */
static uint32_t exponent(struct rng *r, unsigned bits)
{
	uint32_t top = (1u << bits) - 1, bias = top >> 1;

	switch (rng_below(r, 8)) {
	case 0:
		return 0;
	case 1:
		return top;
	case 2:
		return 1 + rng_below(r, 3);
	case 3:
		return top - 1 - rng_below(r, 3);
	case 4:
	case 5:
		return bias - 4 + rng_below(r, 40);
	case 6:
		return bias - 70 + rng_below(r, 140);
	default:
		return rng_below(r, top + 1);
	}
}

/* The fraction: empty, full, one bit, few bits, any. */
static uint64_t fraction(struct rng *r, unsigned bits)
{
	uint64_t all = (1ull << bits) - 1, v = rng_next(r);

	switch (rng_below(r, 8)) {
	case 0:
	case 1:
		return 0;
	case 2:
		return all;
	case 3:
		return 1ull << v % bits;
	case 4:
		return all & ~(v & 7);
	case 5:
		return v & 7;
	case 6:
		return all << v % bits & all;
	default:
		return v & all;
	}
}

uint32_t rng_float32(struct rng *r)
{
	return rng_below(r, 2) << 31 | exponent(r, 8) << 23 | (uint32_t)fraction(r, 23);
}

uint64_t rng_float64(struct rng *r)
{
	return (uint64_t)rng_below(r, 2) << 63 | (uint64_t)exponent(r, 11) << 52 | fraction(r, 52);
}

void rng_float80(struct rng *r, uint64_t *mant, uint16_t *sexp)
{
	uint32_t e = exponent(r, 15);

	*sexp = (uint16_t)(rng_below(r, 2) << 15 | e);
	*mant = fraction(r, 63) | (e ? 1ull << 63 : 0);
	/* Pseudo-denormals, pseudo-infinities, pseudo-NaNs and unnormals. */
	if (rng_chance(r, 60))
		*mant ^= 1ull << 63;
	/* A number that came from somewhere narrower. */
	if (rng_chance(r, 300))
		*mant &= rng_below(r, 2) ? ~0ull << 11 : ~0ull << 40;
}

void rng_vector(struct rng *r, uint8_t out[16])
{
	switch (rng_below(r, 5)) {
	case 0:
	case 1:
		for (unsigned n = 0; n < 4; n++)
			st_le32(out + 4 * n, rng_float32(r));
		break;
	case 2:
	case 3:
		for (unsigned n = 0; n < 2; n++)
			st_le64(out + 8 * n, rng_float64(r));
		break;
	default:
		for (unsigned n = 0; n < 2; n++)
			st_le64(out + 8 * n, rng_integer(r));
		break;
	}
}

void rng_memory(struct rng *r, uint8_t *out, uint32_t len)
{
	uint64_t mant;
	uint16_t sexp;

	for (uint32_t at = 0; at + 16 <= len; at += 16) {
		rng_vector(r, out + at);
		if (rng_chance(r, 200)) {
			rng_float80(r, &mant, &sexp);
			st_le64(out + at + rng_below(r, 6), mant);
			st_le16(out + at + 8, sexp);
		}
	}
}

static uint16_t control_word(struct rng *r, bool wild)
{
	uint32_t masks = wild ? rng_below(r, 3) ? 0x3fu & (uint32_t)rng_next(r) : 0 : 0x3f;

	/* Rounding and precision control, and the infinity control that does nothing. */
	return (uint16_t)(0x40 | masks | rng_below(r, 4) << 10 | (rng_below(r, 2) ? 3 : rng_below(r, 4)) << 8 |
			  (rng_chance(r, 100) ? 0x1000 : 0));
}

static uint8_t tags(struct rng *r, unsigned top)
{
	unsigned depth = rng_chance(r, 600) ? 3 + rng_below(r, 4) : rng_below(r, 9), valid = 0;

	if (rng_chance(r, 100))
		return (uint8_t)rng_next(r);
	for (unsigned n = 0; n < depth; n++)
		valid |= 1u << ((top + n) & 7);
	return (uint8_t)valid;
}

void rng_fpu(struct rng *r, uint8_t *fx, bool wild)
{
	unsigned top = rng_below(r, 8);
	uint16_t cw = control_word(r, wild), sw = (uint16_t)(top << 11 | (rng_next(r) & 0x4700));
	uint32_t mxcsr = wild ? (uint32_t)rng_next(r) & 0xffff : 0x1f80 | ((uint32_t)rng_next(r) & 0xe07f);

	/* Sticky flags; those that are not masked would be pending. */
	if (rng_below(r, 2))
		sw |= rng_next(r) & 0x3f & (wild && rng_chance(r, 50) ? 0x3fu : cw);
	if (sw & 1 && rng_below(r, 2))
		sw |= 0x40;
	if (sw & ~cw & 0x3f)
		sw |= 0x8080;
	/* Half of the programs use neither denormals-are-zero nor flush-to-zero. */
	if (rng_below(r, 2))
		mxcsr &= ~0x8040u;
	memset(fx, 0, 512);
	st_le16(fx, cw);
	st_le16(fx + 2, sw);
	fx[4] = tags(r, top);
	st_le16(fx + 6, rng_next(r) & 0x7ff);
	st_le64(fx + 8, rng_next(r) & 0x7fffffff);
	st_le64(fx + 16, rng_next(r) & 0x7fffffff);
	st_le32(fx + 24, mxcsr);
	for (unsigned n = 0; n < 8; n++) {
		uint64_t mant;
		uint16_t sexp;

		rng_float80(r, &mant, &sexp);
		st_le64(fx + 32 + 16 * n, mant);
		st_le16(fx + 40 + 16 * n, sexp);
	}
	for (unsigned n = 0; n < 16; n++)
		rng_vector(r, fx + 160 + 16 * n);
}
