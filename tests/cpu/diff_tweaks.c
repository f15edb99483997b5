/*
 * Initial states for single instructions that random ones would seldom bring to anything: divisions that do not
 * overflow, comparisons that are equal, return addresses that exist. Each leaves some cases as they were.
 */
#include <string.h>

#include "base/bytes.h"
#include "diff_gen.h"

static bool sometimes(struct rng *r)
{
	return rng_chance(r, 150);
}

/* The register may be changed: no address depends on it. */
static bool loose(const struct diff_block *b, unsigned reg)
{
	return !(b->known >> reg & 1);
}

static void set_low(uint64_t *reg, uint64_t v, unsigned bytes)
{
	uint64_t mask = size_mask(bytes);

	*reg = (*reg & ~mask) | (v & mask);
}

static unsigned width(const struct diff_insn *i)
{
	return i->form->op[0].size == SIZE_B ? 1 : i->opsize;
}

/* The value of the operand in ModRM.rm, `bytes` wide. */
static uint64_t rm_value(const struct diff_insn *i, struct diff_slot *s, unsigned bytes)
{
	uint64_t v = 0;

	if (i->is_mem) {
		const uint8_t *p = diff_operand(i, s);

		if (p)
			memcpy(&v, p, bytes);
		return v;
	}
	v = s->in.gpr[i->rm & 0x7f] >> (i->rm & 0x80 ? 8 : 0);
	return v & size_mask(bytes);
}

static void poke(const struct diff_insn *i, struct diff_slot *s, const void *v, uint32_t len)
{
	uint8_t *p = diff_operand(i, s);

	if (p)
		memcpy(p, v, len < i->size ? len : i->size);
}

/* At the top of the stack, `at` bytes up. */
static void poke_stack(const struct diff_insn *i, struct diff_slot *s, uint32_t at, const void *v, uint32_t len)
{
	uint64_t offset = (i->linear & ~DIFF_HIGH) - DIFF_DATA + at;

	if (offset < DIFF_RW && len <= DIFF_RW - offset)
		memcpy(s->mem + offset, v, len);
}

/* One of the INT3 before the block, as an offset in CS. */
static uint64_t landing(struct rng *r, const struct diff_block *b)
{
	return b->entry - 1 - rng_below(r, 20);
}

void tweak_divide(struct rng *r, const struct diff_block *b, struct diff_slot *s)
{
	const struct diff_insn *i = &b->insn[0];
	unsigned bytes = width(i);
	uint64_t d = rm_value(i, s, bytes), low, high;

	if (sometimes(r) || !loose(b, X86_RAX) || (bytes > 1 && !loose(b, X86_RDX)))
		return;
	low = rng_integer(r) & size_mask(bytes);
	if (i->form->ext == 7)
		high = rng_below(r, 3) ? (low >> (8 * bytes - 1) & 1 ? ~0ull : 0) : rng_next(r) % (d / 2 + 1);
	else
		high = d ? rng_next(r) % d : 0;
	if (bytes == 1) {
		set_low(&s->in.gpr[X86_RAX], (high << 8) | low, 2);
	} else {
		set_low(&s->in.gpr[X86_RAX], low, bytes);
		set_low(&s->in.gpr[X86_RDX], high, bytes);
	}
}

void tweak_compare(struct rng *r, const struct diff_block *b, struct diff_slot *s)
{
	const struct diff_insn *i = &b->insn[0];

	if (rng_below(r, 2) && loose(b, X86_RAX))
		set_low(&s->in.gpr[X86_RAX], rm_value(i, s, width(i)), width(i));
}

void tweak_compare_pair(struct rng *r, const struct diff_block *b, struct diff_slot *s)
{
	const struct diff_insn *i = &b->insn[0];
	const uint8_t *p = diff_operand(i, s);
	unsigned half = i->size / 2;
	uint64_t v[2] = { 0, 0 };

	if (!p || rng_below(r, 2) || !loose(b, X86_RAX) || !loose(b, X86_RDX))
		return;
	memcpy(&v[0], p, half);
	memcpy(&v[1], p + half, half);
	set_low(&s->in.gpr[X86_RAX], v[0], half);
	set_low(&s->in.gpr[X86_RDX], v[1], half);
}

void tweak_target(struct rng *r, const struct diff_block *b, struct diff_slot *s)
{
	const struct diff_insn *i = &b->insn[0];
	uint64_t to = landing(r, b);

	if (sometimes(r))
		return;
	if (i->is_mem)
		poke(i, s, &to, i->opsize);
	else if (loose(b, i->rm))
		set_low(&s->in.gpr[i->rm], to, i->opsize);
}

void tweak_return(struct rng *r, const struct diff_block *b, struct diff_slot *s)
{
	uint64_t to = landing(r, b);

	if (!sometimes(r))
		poke_stack(&b->insn[0], s, 0, &to, b->insn[0].opsize);
}

void tweak_flags(struct rng *r, const struct diff_block *b, struct diff_slot *s)
{
	uint64_t flags = rng_next(r);

	if (!sometimes(r))
		flags &= ~(uint64_t)X86_TF;
	poke_stack(&b->insn[0], s, 0, &flags, 8);
}

void tweak_count(struct rng *r, const struct diff_block *b, struct diff_slot *s)
{
	const struct diff_insn *i = &b->insn[0];
	uint64_t n;

	if (!i->rep && !loose(b, X86_RCX))
		return;
	switch (rng_below(r, 8)) {
	case 0:
		n = 0;
		break;
	case 1:
		n = 1;
		break;
	case 2:
		n = rng_integer(r);
		break;
	case 3:
		n = rng_below(r, 2000);
		break;
	default:
		n = rng_below(r, i->rep ? 40 : 256);
		break;
	}
	/* 16-bit double shifts by more than 16 have no defined result. */
	if (i->form->row->attr & A_SMALL16 && i->opsize == 2)
		n = rng_below(r, 17) | (n & ~31ull);
	set_low(&s->in.gpr[X86_RCX], n, i->rep ? i->asize : 8);
	if (diff_modes[b->mode].bits != 64)
		s->in.gpr[X86_RCX] &= 0xffffffff;
}

void tweak_bounds(struct rng *r, const struct diff_block *b, struct diff_slot *s)
{
	const struct diff_insn *i = &b->insn[0];
	uint64_t v = s->in.gpr[i->reg], lo = v - rng_below(r, 3), hi = v + rng_below(r, 3);
	uint8_t bounds[16];

	memcpy(bounds, &lo, i->opsize);
	memcpy(bounds + i->opsize, &hi, i->opsize);
	if (!sometimes(r))
		poke(i, s, bounds, 2u * i->opsize);
}

static uint16_t selector(struct rng *r)
{
	static const uint16_t some[] = { 0,	    1,	  2,	3,    DIFF_SS, DIFF_SS - 3, DIFF_CS32,
					 DIFF_CS64, 0x07, 0x0f, 0x17, 0x1f,    0x27,	    0x2f,
					 0x37,	    0x3f, 0x14, 0x16, 0xff,    0xfff8 };

	return some[rng_below(r, ARRAY_LEN(some))];
}

/* The end of a far pointer; that of 16:64 is where 16:32 has it on AMD's processors. */
static void poke_selector(const struct diff_insn *i, struct diff_slot *s, uint16_t sel)
{
	memcpy(diff_operand(i, s) + i->size - 2, &sel, 2);
	if (i->size == 10)
		memcpy(diff_operand(i, s) + 4, &sel, 2);
}

void tweak_selector(struct rng *r, const struct diff_block *b, struct diff_slot *s)
{
	const struct diff_insn *i = &b->insn[0];
	uint16_t sel = selector(r);

	if (i->form->stack)
		poke_stack(i, s, 0, &sel, 2);
	else if (!i->is_mem)
		/* There is no other chance: what else Linux has in its GDT is none of our business. */
		set_low(&s->in.gpr[i->rm], sel, 2);
	else if (diff_operand(i, s))
		poke_selector(i, s, sel);
}

/* The same in another code segment, where it can be reached in it. */
static uint64_t far_landing(struct rng *r, const struct diff_block *b, uint16_t sel)
{
	uint64_t base = sel == DIFF_LDT_SEL(DIFF_LDT_CODE16) || sel == DIFF_LDT_SEL(DIFF_LDT_CODE32)
				? diff_ldt[sel >> 3].base
				: 0,
		 linear = landing(r, b) + diff_seg_base(b->mode, X86_CS);

	if (sel != DIFF_CS64)
		linear &= ~DIFF_HIGH;
	return linear - base;
}

void tweak_far(struct rng *r, const struct diff_block *b, struct diff_slot *s)
{
	const struct diff_insn *i = &b->insn[0];
	uint16_t sel = rng_below(r, 3) ? diff_modes[b->mode].sel[X86_CS] : selector(r);
	uint64_t to = far_landing(r, b, sel);

	poke(i, s, &to, i->opsize);
	if (diff_operand(i, s))
		poke_selector(i, s, sel);
}

/* RETF and IRET: return address, CS, flags, and what IRET pops in 64-bit mode. */
void tweak_far_return(struct rng *r, const struct diff_block *b, struct diff_slot *s)
{
	const struct diff_insn *i = &b->insn[0];
	bool iret = i->form->opcode[0] == 0xcf;
	uint64_t frame[5] = { 0, diff_modes[b->mode].sel[X86_CS], s->in.gpr[X86_RSP] + 8 * rng_below(r, 4),
			      s->in.gpr[X86_RSP], DIFF_SS };

	if (iret)
		frame[2] = (rng_next(r) & (X86_ARITH | X86_DF | X86_ID | X86_AC)) | X86_FLAGS_FIXED;
	/*
	 * An AMD reads the stack of an outer level before it refuses the selector: behind RETF's immediate, where there
	 * may be none.
	 */
	if (i->form->opcode[0] != 0xca && sometimes(r))
		frame[1] = selector(r);
	frame[0] = far_landing(r, b, (uint16_t)frame[1]);
	if (sometimes(r))
		frame[4] = selector(r);
	for (unsigned n = 0; n < 5; n++)
		poke_stack(i, s, n * i->opsize, &frame[n], i->opsize);
}

void tweak_mxcsr(struct rng *r, const struct diff_block *b, struct diff_slot *s)
{
	uint32_t v = (uint32_t)rng_next(r) & (sometimes(r) ? ~0u : 0xffffu);

	poke(&b->insn[0], s, &v, 4);
}

void tweak_x87_memory(struct rng *r, const struct diff_block *b, struct diff_slot *s)
{
	uint8_t v[10];
	uint64_t mant;
	uint16_t sexp;

	rng_float80(r, &mant, &sexp);
	memcpy(v, &mant, 8);
	memcpy(v + 8, &sexp, 2);
	/* FBLD: digits, mostly decimal ones. */
	if (b->insn[0].form->opcode[0] == 0xdf)
		for (unsigned n = 0; n < 10; n++)
			v[n] = sometimes(r) ? (uint8_t)rng_next(r)
					    : (uint8_t)(rng_below(r, 10) << 4 | rng_below(r, 10));
	poke(&b->insn[0], s, v, 10);
}

/* Control, status and tag words that a processor could have stored, and registers after them. */
void tweak_env(struct rng *r, const struct diff_block *b, struct diff_slot *s)
{
	const struct diff_insn *i = &b->insn[0];
	unsigned step = i->opsize == 2 ? 2 : 4, env = i->opsize == 2 ? 14 : 28;
	uint8_t image[108], fx[512];

	rng_fpu(r, fx, rng_below(r, 2));
	for (unsigned n = 0; n < env; n++)
		image[n] = (uint8_t)rng_next(r);
	memcpy(image, fx, 2);
	memcpy(image + step, fx + 2, 2);
	if (rng_below(r, 2))
		image[2 * step] = image[2 * step + 1] = rng_below(r, 2) ? 0xff : 0;
	for (unsigned n = 0; n < 8; n++)
		memcpy(image + env + 10 * n, fx + 32 + 16 * n, 10);
	poke(i, s, image, sizeof(image));
}

void tweak_fx(struct rng *r, const struct diff_block *b, struct diff_slot *s)
{
	uint8_t fx[512];

	rng_fpu(r, fx, rng_below(r, 2));
	if (sometimes(r))
		fx[26] = (uint8_t)rng_next(r);
	if (sometimes(r))
		memcpy(fx, &(uint32_t){ (uint32_t)rng_next(r) }, 4);
	poke(&b->insn[0], s, fx, sizeof(fx));
}

/* All of AX. */
void tweak_bcd(struct rng *r, const struct diff_block *b, struct diff_slot *s)
{
	set_low(&s->in.gpr[X86_RAX], rng_next(r), 2);
}

/* --- vectors --- */

static void put_lane(struct diff_slot *s, unsigned reg, unsigned lane, unsigned bytes, uint64_t v)
{
	unsigned at = lane * bytes;

	memcpy(at < 16 ? s->in.fx + 160 + 16 * reg + at : s->in.high[reg] + at - 16, &v, bytes);
}

/* Some lanes, each on or off by its top bit. */
static void mask_register(struct rng *r, struct diff_slot *s, unsigned reg, unsigned bytes)
{
	for (unsigned n = 0; n < 32 / bytes; n++)
		put_lane(s, reg, n, bytes, rng_next(r) & rng_next(r) << 1);
}

void tweak_mask(struct rng *r, const struct diff_block *b, struct diff_slot *s)
{
	if (rng_below(r, 4))
		mask_register(r, s, b->insn[0].vreg, rng_below(r, 2) ? 4 : 8);
}

/* Indices that stay within the data, or now and then do not. The opcode tells their size: 90h and 92h 4 bytes. */
void tweak_gather(struct rng *r, const struct diff_block *b, struct diff_slot *s)
{
	const struct diff_insn *i = &b->insn[0];
	unsigned bytes = i->form->opcode[2] & 1 ? 8 : 4;
	int64_t at = (int64_t)((i->linear & ~DIFF_HIGH) - DIFF_DATA);
	bool inside = rng_below(r, 4);

	if (sometimes(r) || i->wild)
		return;
	for (unsigned n = 0; n < 32 / bytes; n++) {
		int64_t to = rng_below(r, inside ? DIFF_RW - 8 : DIFF_RW + DIFF_RO + 64);

		put_lane(s, i->index, n, bytes, (uint64_t)((to - at) >> i->scale));
	}
	mask_register(r, s, i->vreg, i->form->w == 1 ? 8 : 4);
}

/* Strings: characters of a small alphabet, and lengths near the number of them. */
void tweak_string(struct rng *r, const struct diff_block *b, struct diff_slot *s)
{
	const struct diff_insn *i = &b->insn[0];
	uint8_t text[16], set[16], range = (uint8_t)(2 + rng_below(r, 6)),
				   first = rng_below(r, 2) ? 0 : (uint8_t)rng_next(r);

	if (sometimes(r))
		return;
	for (unsigned n = 0; n < 16; n++) {
		text[n] = (uint8_t)(first + rng_below(r, range));
		set[n] = (uint8_t)(first + rng_below(r, range));
	}
	memcpy(s->in.fx + 160 + 16 * i->reg, set, 16);
	if (i->is_mem)
		poke(i, s, text, 16);
	else
		memcpy(s->in.fx + 160 + 16 * i->rm, text, 16);
	for (unsigned n = 0; n < 2; n++) {
		unsigned reg = n ? X86_RDX : X86_RAX;

		if (loose(b, reg) && rng_below(r, 4))
			s->in.gpr[reg] = (uint64_t)(int64_t)((int)rng_below(r, 40) - 20) &
					 (diff_modes[b->mode].bits == 64 ? ~0ull : 0xffffffff);
	}
}
