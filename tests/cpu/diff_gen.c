/* See diff_gen.h. */
#include "diff_gen.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "diff_encode.h"

/* --- which forms --- */

static bool exists(const struct diff_form *f, unsigned bits)
{
	return !(f->row->attr & (bits == 64 ? A_NO64 : A_ONLY64));
}

struct diff_choice diff_choice_new(enum diff_mode mode, struct diff_form *forms, size_t count)
{
	struct diff_choice c = { calloc(count, sizeof(*c.forms)), 0 };

	for (size_t n = 0; c.forms && n < count; n++)
		if (exists(&forms[n], diff_modes[mode].bits) && !(forms[n].row->attr & A_SINGLE))
			c.forms[c.count++] = &forms[n];
	return c;
}

/* --- blocks --- */

static void begin(struct diff_gen *g, struct diff_block *b, struct rng *r)
{
	uint64_t high = diff_bits(g) == 64 && rng_below(r, 8) ? DIFF_HIGH : 0;

	b->len = 0;
	b->insns = 0;
	b->known = 0;
	b->df = rng_chance(r, 250);
	b->entry = DIFF_CODE + high + b->at + DIFF_PAD - diff_seg_base(b->mode, X86_CS);
	memset(b->bytes, 0xcc, sizeof(b->bytes));
	g->t.df = b->df;
	g->t.df_known = true;
}

static void put(struct diff_block *b, uint32_t *at, uint64_t v, unsigned size)
{
	for (unsigned n = 0; n < size; n++)
		b->bytes[DIFF_PAD + (*at)++] = (uint8_t)(v >> 8 * n);
}

#define EXIT_MAX 8
/* The way out, after the last instruction. */
static uint32_t put_exit(struct diff_block *b)
{
	uint32_t at = b->len, exit = DIFF_EXIT + DIFF_EXIT_STEP * b->exit;

	if (diff_modes[b->mode].bits == 64) {
		put(b, &at, 0xe9, 1);
		put(b, &at, (exit + (b->entry & DIFF_HIGH)) - (b->entry + at + 4), 4);
		return at - b->len;
	}
	if (diff_modes[b->mode].bits == 16)
		put(b, &at, 0x66, 1);
	put(b, &at, 0xea, 1);
	put(b, &at, exit, 4);
	put(b, &at, DIFF_CS64, 2);
	return at - b->len;
}

/* Where the displacement of a branch goes. */
static void set_jump(struct diff_block *b, const struct diff_insn *i, uint32_t target)
{
	unsigned size = i->form->op[0].size == SIZE_B ? 1 : i->opsize == 2 ? 2 : 4;
	uint32_t at = i->at + i->len - size;

	put(b, &at, target - (i->at + i->len), size);
}

/* A branch out of a block of one instruction: to one of the INT3 around it, or anywhere. */
static void jump_out(struct diff_gen *g, uint32_t exit_len)
{
	struct diff_block *b = g->b;

	if (g->jump_size > 1 && rng_chance(g->r, 30))
		/* Not back to itself, also when only 16 bits of it count. */
		set_jump(b, &b->insn[0], 0x200 + (uint32_t)(rng_next(g->r) << 16) + rng_below(g->r, 0xfc00));
	else if (rng_below(g->r, 2))
		set_jump(b, &b->insn[0], -(1 + rng_below(g->r, 20)));
	else
		set_jump(b, &b->insn[0], b->len + exit_len + rng_below(g->r, 20));
}

bool diff_gen_single(struct diff_block *b, struct rng *r, struct diff_form *f)
{
	struct diff_gen g = { .r = r, .b = b, .single = true };

	begin(&g, b, r);
	if (!exists(f, diff_modes[b->mode].bits) || !diff_encode(&g, f))
		return false;
	uint32_t exit_len = put_exit(b);
	if (g.jump_size)
		jump_out(&g, exit_len);
	b->undefined = g.t.undefined;
	return true;
}

/* Branches to where they lead, or to the end, and the way out. */
static void finish(struct diff_block *b)
{
	for (unsigned n = 0; n < b->insns; n++) {
		const struct diff_insn *i = &b->insn[n];

		if (i->form->op[0].where == 'J')
			set_jump(b, i, i->to < b->insns ? b->insn[i->to].at : b->len);
	}
	put_exit(b);
}

/* A branch that skips some instructions, and what was known where it was taken. */
struct skip {
	unsigned from, to; /* instructions */
	struct diff_track t;
};

/* What holds on both ways. */
static void join(struct diff_track *t, const struct diff_track *o, const struct diff_block *b)
{
	t->undefined |= o->undefined;
	t->written |= o->written;
	for (unsigned r = 0; r < 16; r++) {
		/* Free over there means: as it began. */
		uint64_t there = o->known >> r & 1 ? o->value[r] : b->value[r];

		if (t->known >> r & 1 && (o->written >> r & 1 || t->value[r] != there)) {
			t->known &= ~(1u << r);
			t->written |= 1u << r;
		}
	}
	t->known &= ~t->written;
	t->df_known &= o->df_known && t->df == o->df;
}

static bool fits_in(const struct diff_gen *g, const struct diff_form *f)
{
	return !(f->reads & g->t.undefined) && !(f->row->attr & A_RARE && rng_chance(g->r, 700));
}

void diff_gen_block(struct diff_block *b, struct rng *r, const struct diff_choice *c, unsigned length)
{
	struct diff_gen g = { .r = r, .b = b };
	struct skip skips[DIFF_INSNS];
	unsigned waiting = 0;

	begin(&g, b, r);
	for (unsigned tries = 0; tries < 400 && b->insns < length && b->insns < DIFF_INSNS; tries++) {
		struct diff_form *f = c->forms[rng_below(r, (uint32_t)c->count)];

		if (b->len + 15 + EXIT_MAX + DIFF_PAD > DIFF_BYTES - DIFF_PAD)
			break;
		if (!fits_in(&g, f) || !diff_encode(&g, f))
			continue;
		if (g.jump_size)
			skips[waiting++] = (struct skip){ b->insns - 1, b->insns + rng_below(r, 3), g.t };
		for (unsigned n = 0; n < waiting; n++)
			if (skips[n].to == b->insns)
				join(&g.t, &skips[n].t, b);
	}
	b->undefined = g.t.undefined;
	for (unsigned n = 0; n < waiting; n++) {
		b->insn[skips[n].from].to = (uint8_t)skips[n].to;
		if (skips[n].to > b->insns)
			b->undefined |= skips[n].t.undefined;
	}
	finish(b);
}

void diff_gen_prefix(const struct diff_block *b, unsigned n, struct diff_block *out)
{
	*out = *b;
	if (n < b->insns) {
		out->insns = n;
		out->len = b->insn[n].at;
		out->undefined = b->insn[n].undefined;
	}
	memset(out->bytes + DIFF_PAD + out->len, 0xcc, DIFF_BYTES - DIFF_PAD - out->len);
	finish(out);
}

/* --- initial states --- */

uint8_t *diff_operand(const struct diff_insn *i, struct diff_slot *s)
{
	uint64_t at = (i->linear & ~DIFF_HIGH) - DIFF_DATA;

	return !i->wild && at < DIFF_RW && i->size <= DIFF_RW - at ? s->mem + at : NULL;
}

void diff_gen_state(const struct diff_block *b, struct rng *r, const uint8_t *pool, struct diff_slot *s)
{
	uint64_t mask = diff_modes[b->mode].bits == 64 ? ~0ull : 0xffffffff;
	const struct diff_insn *first = &b->insn[0];

	for (unsigned n = 0; n < 16; n++)
		s->in.gpr[n] = (b->known >> n & 1 ? b->value[n] : rng_integer(r)) & mask;
	s->in.rip = 0;
	s->in.rflags = (rng_next(r) & (X86_ARITH | X86_ID)) | X86_IF | X86_FLAGS_FIXED | (b->df ? X86_DF : 0);
	if (rng_chance(r, 10))
		s->in.rflags |= X86_AC;
	rng_fpu(r, s->in.fx, rng_chance(r, b->insns == 1 ? 400 : 150));
	for (unsigned n = 0; n < 16; n++)
		rng_vector(r, s->in.high[n]);
	/* Now and then their initial state. */
	if (rng_below(r, 8) == 0)
		memset(s->in.high, 0, sizeof(s->in.high));
	memcpy(s->mem, pool + (rng_below(r, (DIFF_POOL - DIFF_RW) / 16) & ~1u) * 16, DIFF_RW);
	s->entry = b->entry;
	s->segments = first->form->row->attr & A_SEGMENTS;
	if (b->insns == 1 && first->form->row->tweak)
		first->form->row->tweak(r, b, s);
}
