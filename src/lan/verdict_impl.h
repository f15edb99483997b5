/* What the files share that carry out rules: see verdict.h. Main thread. */
#ifndef VIREO_LAN_VERDICT_IMPL_H
#define VIREO_LAN_VERDICT_IMPL_H

#include "lan/verdict.h"

/* Of a condition. */
enum truth { NO, MAYBE, YES };

static inline enum truth not(enum truth t) { return t == MAYBE ? MAYBE : t == YES ? NO : YES; }
/* Whether what is known of them is like this. */
enum truth verdict_equal(const struct half_byte *c, const uint8_t *v, size_t len);
/* The same of those bits that a mask has; NULL: all. */
enum truth verdict_masked(const struct half_byte *c, const void *value, const void *mask, size_t len);
/* The name of an interface as a packet has it. */
void verdict_name(const struct probe_link *l, struct half_byte name[IFNAMSIZ]);

/* --- expressions.c --- */
/* Whether the packet is met by this rule of a chain, and what it says of those. */
enum truth verdict_expressions(struct book *b, const struct book_chain *c, const struct rtattr *rule,
			       const struct probe *p, struct book_verdict *v);

/* --- entries.c --- */
/* The same of one of iptables-legacy. */
enum truth verdict_entry(const struct book *b, const struct book_chain *c, const void *rule, const struct probe *p,
			 struct book_verdict *v);

/* --- writers.c --- */
/* Know what it may have become by rules of anybody else's. */
void verdict_writers(struct book *b, struct probe *p);

/* --- matches.c --- */
/* What iptables (of ebtables `bridge`) has in modules, by name and revision. */
struct xt_module {
	const char *name;
	uint32_t revision;
	const void *info;
	size_t size;
};
enum truth verdict_match(const struct xt_module *m, const struct probe *p);
void verdict_target(const struct xt_module *m, struct book_verdict *v);

#endif
