/*
 * nfnetlink: what of packet filters needs no language. Which tables and chains there are, and transactions that make
 * empty ones or remove some, without the program nft, whose start takes longer than all of that. Connections that the
 * kernel follows are ended here, too. Through a socket of rtnl_open_netfilter(), which belongs to its thread.
 */
#ifndef VIREO_LAN_NFNL_H
#define VIREO_LAN_NFNL_H

#include "lan/rtnl.h"

#include <linux/netfilter.h> /* behind netinet/in.h, which it knows */

#define NFNL_NAME 128

/* How the comment of a table of ours begins. */
#define NFNL_MARK "vireo:"

/* Called for each table (of ours only) or chain; `family` is one of NFPROTO_*. */
typedef void nfnl_fn(void *opaque, unsigned family, const char *name);
int nfnl_tables(struct rtnl *nf, nfnl_fn *fn, void *opaque, struct err *err);
/* An error where somebody else has a table of the name, in a family in which we have some. */
int nfnl_check_table(struct rtnl *nf, const char *name, struct err *err);
int nfnl_chains(struct rtnl *nf, const char *table, nfnl_fn *fn, void *opaque, struct err *err);

/* An element of a set: its key, and in how many ms it is gone (0: never). */
typedef void nfnl_element_fn(void *opaque, const void *key, size_t len, uint64_t expires);
struct nfnl_set {
	unsigned family;
	const char *table, *name;
};
int nfnl_elements(struct rtnl *nf, const struct nfnl_set *set, nfnl_element_fn *fn, void *opaque, struct err *err);

/*
 * Over all that the tables of a name are, in all families: chains with their hooks, rules in order, sets, and the
 * elements of those that nobody but who has made them changes. Another one once any of it is not the same any more,
 * also where it says the same. Called for each name that is like `pattern` (fnmatch(3)).
 */
typedef void nfnl_sum_fn(void *opaque, const char *table, uint64_t sum);
int nfnl_sums(struct rtnl *nf, const char *pattern, nfnl_sum_fn *fn, void *opaque, struct err *err);

/*
 * What the kernel says to a message (NFT_MSG_GETCHAIN, GETRULE or GETSETELEM) of anybody's tables: of all, or of this
 * chain or set of a table. `t` are its attributes, up to NFNL_ATTRS; `fn` returns -1 to hear no more, which is an
 * error, and after which the socket is of no more use.
 */
#define NFNL_ATTRS 12
typedef int nfnl_each_fn(void *opaque, unsigned family, const struct rtattr *const *t);
struct nfnl_query {
	unsigned message, family;
	const char *table, *name; /* NULL: all */
};
int nfnl_each(struct rtnl *nf, const struct nfnl_query *query, nfnl_each_fn *fn, void *opaque, struct err *err);
/* Attributes within another one, which may be NULL; a text, and false where it is none. */
void nfnl_nested(const struct rtattr *a, const struct rtattr **t, unsigned most);
bool nfnl_text(const struct rtattr *a, char buf[NFNL_NAME]);

/* A chain with a hook, of anybody's tables. */
struct nfnl_hook {
	unsigned family, hook; /* NF_INET_POST_ROUTING and so on */
	const char *table, *type;
	bool full; /* it has rules */
};
typedef void nfnl_hook_fn(void *opaque, const struct nfnl_hook *h);
int nfnl_hooks(struct rtnl *nf, nfnl_hook_fn *fn, void *opaque, struct err *err);

/* A transaction: all of it or nothing. */
struct nfnl_batch {
	char *buf;
	size_t len, size, last; /* where in it the last change is */
	bool full;		/* no memory: nfnl_commit() refuses it */
};
void nfnl_begin(struct nfnl_batch *b);
/* With our mark. */
void nfnl_add_table(struct nfnl_batch *b, unsigned family, const char *name);
void nfnl_add_chain(struct nfnl_batch *b, unsigned family, const char *table, const char *name);
void nfnl_del_table(struct nfnl_batch *b, unsigned family, const char *name);
void nfnl_del_chain(struct nfnl_batch *b, unsigned family, const char *table, const char *name);
/* An empty one is done at once. Or -errno: -ENOENT where something that it names is not there. */
int nfnl_commit(struct rtnl *nf, struct nfnl_batch *b, struct err *err);
void nfnl_end(struct nfnl_batch *b);

#endif
