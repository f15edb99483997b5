/* See verdict.h. */
#include "lan/verdict_impl.h"

#include <linux/netfilter/nf_tables.h>
#include <string.h>

#define STEPS	16384u /* rules that are looked at for one packet */
#define DEEPEST 16u    /* jumps within each other: the kernel's limit */

struct walk {
	struct book *book;
	const struct probe *p;
	unsigned steps;
};

enum truth verdict_masked(const struct half_byte *c, const void *value, const void *mask, size_t len)
{
	enum truth t = YES;

	for (size_t i = 0; i < len; i++) {
		const uint8_t m = mask ? ((const uint8_t *)mask)[i] : 0xff;

		if ((c[i].v ^ ((const uint8_t *)value)[i]) & c[i].known & m)
			return NO;
		if (m & ~c[i].known)
			t = MAYBE;
	}
	return t;
}

enum truth verdict_equal(const struct half_byte *c, const uint8_t *v, size_t len)
{
	return verdict_masked(c, v, NULL, len);
}

void verdict_name(const struct probe_link *l, struct half_byte name[IFNAMSIZ])
{
	const size_t len = l->name ? strlen(l->name) : 0;

	for (size_t i = 0; i < IFNAMSIZ; i++)
		name[i] = i < len	      ? (struct half_byte){ (uint8_t)l->name[i], 0xff }
			  : len && !l->begins ? (struct half_byte){ 0, 0xff }
					      : (struct half_byte){ 0 };
}

enum end { ON, PASSES, DROPPED };

/* What may be met may accept, but for certain it drops nothing. */
static enum end walk(struct walk *w, struct book_chain *c, unsigned depth)
{
	struct book_verdict v;
	bool left = false; /* some packets may be out of it: by them it drops not all */
	const void *rule;
	size_t at = 0;

	book_read(w->book, c);
	while ((rule = book_next(c, &at))) {
		enum truth met;
		struct book_chain *to;
		enum end end = ON;

		if (!w->steps--)
			return PASSES; /* nobody knows */
		met = c->legacy ? verdict_entry(w->book, c, rule, w->p, &v)
				: verdict_expressions(w->book, c, rule, w->p, &v);
		if (!v.there || met == NO)
			continue;
		if (v.code == NF_ACCEPT) {
			return PASSES;
		} else if (v.code == NF_DROP) {
			end = DROPPED;
		} else if (v.code == NFT_JUMP || v.code == NFT_GOTO) {
			const bool back = v.code == NFT_JUMP;

			to = depth < DEEPEST ? book_find(w->book, c, v.chain) : NULL;
			end = to ? walk(w, to, depth + 1) : PASSES;
			if (end == ON && !back && met == YES)
				return ON;
			left |= end == ON && !back;
		} else if (v.code == NFT_RETURN) {
			if (met == YES)
				return ON;
			left = true;
		}
		if (end == PASSES || (end == DROPPED && met == YES))
			return end == DROPPED && left ? ON : end;
	}
	return c->cut ? PASSES : ON;
}

bool verdict_drops(struct book *b, struct book_chain *base, const struct probe *p)
{
	struct probe known = *p;
	struct walk w = { .book = b, .p = &known, .steps = STEPS };
	enum end end;

	verdict_writers(b, &known);
	end = walk(&w, base, 0);
	return end == DROPPED || (end == ON && base->drops);
}
