/*
 * The packet filters of the host, whoever's they are, as the kernel has them: chains, and when they are looked at their
 * rules and sets. Read by netlink, so that the longest of them costs milliseconds, and no more of them than fits into
 * what is said here: of what is longer the rest is not known. Main thread; a socket of its own.
 */
#ifndef VIREO_LAN_BOOK_H
#define VIREO_LAN_BOOK_H

#include "lan/nfnl.h"

/* Of all chains and sets together. For each part of a long chain the kernel begins with its first rule anew. */
#define BOOK_RULES    8192u
#define BOOK_SETS     4096u
#define BOOK_ELEMENTS 65536u

#define BOOK_KEY     64u /* as many bytes as there are registers */
#define BOOK_NO_HOOK (~0u)

struct book_verdict {
	bool there;
	int code; /* NF_DROP, NFT_JUMP and so on */
	char chain[NFNL_NAME];
};
/* By NFTA_DATA_VERDICT. */
void book_verdict(const struct rtattr *a, struct book_verdict *v);

struct book_chain {
	unsigned family, hook; /* NFPROTO_INET and so on; NF_INET_FORWARD and so on, BOOK_NO_HOOK: it is jumped to */
	bool drops;	       /* what none of its rules decides */
	bool legacy;	       /* of iptables-legacy */
	unsigned from;	       /* where in such a table its rules begin */
	char table[NFNL_NAME], name[NFNL_NAME], type[16];
	/* Once it was looked at: rules as the kernel writes their expressions, or as entries, one behind the other. */
	bool read, cut; /* cut: there are more, or nobody knows */
	void *rules;
	size_t len, size;
};

struct book_element {
	uint8_t key[BOOK_KEY], end[BOOK_KEY];
	unsigned len, flags; /* NFT_SET_ELEM_*; without a key len is 0 */
	bool ranges;	     /* parts of the key are ranges up to those of `end` */
	struct book_verdict verdict;
};

struct book_set {
	unsigned family;
	char table[NFNL_NAME], name[NFNL_NAME];
	bool intervals; /* elements are where one begins, or ends */
	bool grows;	/* by packets, which may be in it once they are looked for */
	bool read, cut; /* as of a chain */
	struct book_element *v;
	unsigned len;
};

/* A rule that does something to packets that others look at. */
#define BOOK_MARKS    1u
#define BOOK_UNTRACKS 2u
struct book_writer {
	const struct book_chain *chain;
	void *rule;
	unsigned what;
};

struct book {
	struct rtnl nf;
	bool open, listed; /* listed: which sets there are */
	struct book_chain *chains;
	struct book_set *sets;
	unsigned chains_len, sets_len;
	unsigned rules_left, elements_left;
	/* Once they were searched for; unsure: what others may do. */
	bool searched;
	struct book_writer *writers;
	unsigned writers_len, looked_at, unsure;
	unsigned (*writes)(const struct book_chain *c, const void *rule);
};
/* Which chains there are. */
int book_open(struct book *b, struct err *err);
void book_close(struct book *b);
int book_add(struct book *b, const struct book_chain *c);
/* Of the same table as `c`: one by its name, or of iptables-legacy by where it begins. NULL: there is none. */
struct book_chain *book_find(const struct book *b, const struct book_chain *c, const char *name);
const struct book_chain *book_at(const struct book *b, const struct book_chain *c, unsigned from);
/* Have its rules. */
void book_read(struct book *b, struct book_chain *c);
/* The rule at `at` of what was read, which becomes that of the next one; NULL: the end. */
const void *book_next(const struct book_chain *c, size_t *at);
/* Find the writers among all rules but ours, by what a rule does. */
void book_search(struct book *b, unsigned (*writes)(const struct book_chain *c, const void *rule));
/* Of the chain's table; NULL: it cannot be known. Until the next call. */
const struct book_set *book_set(struct book *b, const struct book_chain *c, const char *name);

#endif
