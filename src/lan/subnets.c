/* See subnets.h. */
#include "lan/subnets.h"

#include <linux/fib_rules.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/bytes.h"
#include "base/entropy.h"
#include "lan/lan_impl.h"

/* The private address space (RFC 1918), and where its parts are in a table of all their /24; the local one (RFC 4193).
 */
static const struct {
	struct lan_net4 net;
	unsigned at;
} spaces[] = { { { 0x0a000000, 8 }, 0 }, { { 0xac100000, 12 }, 65536 }, { { 0xc0a80000, 16 }, 65536 + 4096 } };
#define SPACE (65536 + 4096 + 256)
static const struct lan_net6 space6 = { .addr.s6_addr = { 0xfd }, .len = 8 };

/* How others have a subnet: it is rather one that nothing is said of that is given. */
enum { FREE, SHARED, KEPT };

/*
 * Whether who has a subnet of `theirs` bits keeps one of `ours` bits, which overlaps it, from the network. What goes by
 * a longer route goes by that one: wider ones (a way to all private addresses, or halves of the world, as a VPN has
 * them) are for what nobody else has.
 */
static bool keeps(enum lan_hold how, unsigned theirs, unsigned ours, const struct lan_def *d)
{
	return how == LAN_HOLD_NETWORK || (lan_has_gateway(d) && (how < LAN_HOLD_ROUTE || theirs >= ours));
}

/* Whether it has been in this subnet before. */
static bool had4(const struct lan_def *before, const struct lan_def *d)
{
	return before && lan_has_gateway(before) && before->net4.len == d->net4.len &&
	       before->net4.addr == d->net4.addr;
}

static bool had6(const struct lan_def *before, const struct lan_def *d)
{
	return before && lan_has_gateway(before) && before->net6.len == d->net6.len &&
	       !memcmp(&before->net6.addr, &d->net6.addr, sizeof(d->net6.addr));
}

int lan_subnets_begin(struct lan_subnets *s, struct lan_def *d, const struct lan_def *before, unsigned want,
		      struct err *err)
{
	*s = (struct lan_subnets){ .d = d };
	s->check4 = d->net4.len && !had4(before, d);
	s->check6 = d->net6.len && !had6(before, d);
	if (want & LAN_WANT4 && !d->net4.len) {
		s->four = calloc(SPACE, 1);
		if (!s->four)
			return err_set(err, "out of memory");
	}
	/* RFC 4193: 40 random bits. Some, as nobody has so many that one of these were hit by chance. */
	while (want & LAN_WANT6 && !d->net6.len && s->candidates < LAN_CANDIDATES) {
		struct lan_net6 *n = &s->six[s->candidates++];

		*n = (struct lan_net6){ space6.addr, 64 };
		entropy_get(n->addr.s6_addr + 1, 5);
	}
	return 0;
}

static void keep(char who[48], enum lan_hold how, const char *by)
{
	if (!*who)
		snprintf(who, 48, "%s %s", how == LAN_HOLD_NETWORK ? "network" : "a route of the host by", by);
}

static void mark(uint8_t *had, uint8_t how)
{
	if (*had < how)
		*had = how;
}

static void mark4(struct lan_subnets *s, const struct lan_net4 *n, uint8_t how)
{
	for (size_t i = 0; s->four && i < ARRAY_LEN(spaces); i++) {
		const struct lan_net4 *space = &spaces[i].net, *part = n->len > space->len ? n : space;
		const uint32_t first = (part->addr - space->addr) >> 8,
			       count = part->len < 24 ? 1u << (24 - part->len) : 1;

		for (uint32_t k = 0; k < count && lan_overlap4(n, space); k++)
			mark(&s->four[spaces[i].at + first + k], how);
	}
}

void lan_subnets_see4(struct lan_subnets *s, const struct lan_net4 *n, enum lan_hold how, const char *by)
{
	if (s->check4 && lan_overlap4(n, &s->d->net4) && keeps(how, n->len, s->d->net4.len, s->d))
		keep(s->who4, how, by);
	mark4(s, n, keeps(how, n->len, 24, s->d) ? KEPT : SHARED);
}

void lan_subnets_see6(struct lan_subnets *s, const struct lan_net6 *n, enum lan_hold how, const char *by)
{
	if (s->check6 && lan_overlap6(n, &s->d->net6) && keeps(how, n->len, s->d->net6.len, s->d))
		keep(s->who6, how, by);
	for (unsigned i = 0; i < s->candidates; i++)
		if (lan_overlap6(n, &s->six[i]))
			mark(&s->had[i], keeps(how, n->len, 64, s->d) ? KEPT : SHARED);
}

/* Whether it is of any account who has it. */
static bool asks4(const struct lan_subnets *s, const struct lan_net4 *n)
{
	bool any = s->check4 && lan_overlap4(n, &s->d->net4);

	for (size_t i = 0; s->four && i < ARRAY_LEN(spaces); i++)
		any |= lan_overlap4(n, &spaces[i].net);
	return any;
}

static bool asks6(const struct lan_subnets *s, const struct lan_net6 *n)
{
	return (s->check6 && lan_overlap6(n, &s->d->net6)) || (s->candidates && lan_overlap6(n, &space6));
}

/* First of 10/8, from a place that the name says, so that hosts differ. */
static bool choose4(const struct lan_subnets *s, uint8_t how)
{
	const uint32_t from = lan_sum(s->d->name, (unsigned)strlen(s->d->name));

	for (size_t i = 0; i < ARRAY_LEN(spaces); i++) {
		const uint32_t count = 1u << (24 - spaces[i].net.len);

		for (uint32_t n = 0; n < count; n++) {
			const uint32_t at = (from + n) % count;

			if (s->four[spaces[i].at + at] != how)
				continue;
			s->d->net4 = (struct lan_net4){ spaces[i].net.addr | at << 8, 24 };
			return true;
		}
	}
	return false;
}

static bool choose6(const struct lan_subnets *s, uint8_t how)
{
	for (unsigned i = 0; i < s->candidates; i++)
		if (s->had[i] == how) {
			s->d->net6 = s->six[i];
			return true;
		}
	return false;
}

int lan_subnets_end(struct lan_subnets *s, struct err *err)
{
	char text[LAN_TEXT6];
	int rc = 0;

	if (*s->who4)
		rc = err_set(err, "subnet %s overlaps %s", lan_text_net4(&s->d->net4, text), s->who4);
	else if (*s->who6)
		rc = err_set(err, "subnet6 %s overlaps %s", lan_text_net6(&s->d->net6, text), s->who6);
	else if (s->four && !choose4(s, FREE) && !choose4(s, SHARED))
		rc = err_set(err, "subnet: all private addresses are taken; name one by --subnet");
	else if (s->candidates && !choose6(s, FREE) && !choose6(s, SHARED))
		rc = err_set(err, "subnet6: all unique local prefixes are taken; name one by --subnet6");
	free(s->four);
	return rc;
}

/* --- the tables that the host looks into --- */

/* By a rule of routing, of each family: nothing goes by what is in others. Rules come as they are asked for ways. */
struct tables {
	uint64_t *v, *ahead; /* the family above the number, in order; those asked before the table main, for all */
	size_t len, ahead_len;
	bool six_past, four_past; /* main has been asked for all */
	bool all;		  /* a kernel without rules; a rule that leads to whatever table its VRF has */
};

#define CONDITIONS   128u /* newer ones than are known here, too */
#define SHORTEST_LEN 8	  /* of a network's subnet */

static uint64_t table_of(unsigned family, unsigned number, const struct rtattr *wide)
{
	if (wide && RTA_PAYLOAD(wide) >= sizeof(uint32_t))
		memcpy(&number, RTA_DATA(wide), sizeof(uint32_t));
	return (uint64_t)family << 32 | number;
}

/* Whether nearly all that goes to a subnet meets the rule: it has no condition, or only that a mark is not there. */
static bool is_for_all(const struct fib_rule_hdr *rule, const struct rtattr *const a[CONDITIONS + 1])
{
	const bool marked = a[FRA_FWMARK] || a[FRA_FWMASK];
	int32_t suppressed = -1;

	for (unsigned i = 0; i <= CONDITIONS; i++)
		if (a[i] && i != FRA_PRIORITY && i != FRA_TABLE && i != FRA_PROTOCOL && i != FRA_FLOW &&
		    i != FRA_SUPPRESS_PREFIXLEN && i != FRA_FWMARK && i != FRA_FWMASK)
			return false;
	if (a[FRA_SUPPRESS_PREFIXLEN] && RTA_PAYLOAD(a[FRA_SUPPRESS_PREFIXLEN]) >= sizeof(suppressed))
		memcpy(&suppressed, RTA_DATA(a[FRA_SUPPRESS_PREFIXLEN]), sizeof(suppressed));
	return !rule->tos && suppressed < SHORTEST_LEN && marked == !!(rule->flags & FIB_RULE_INVERT);
}

static bool add(uint64_t **v, size_t *len, uint64_t table)
{
	if (!array_more(*v, *len))
		return false;
	(*v)[(*len)++] = table;
	return true;
}

static int see_rule(void *opaque, const struct nlmsghdr *h)
{
	const struct rtattr *a[CONDITIONS + 1];
	const struct fib_rule_hdr *rule = NLMSG_DATA(h);
	struct tables *t = opaque;
	uint64_t table;
	bool *past;

	if (!rtnl_parse(h, sizeof(*rule), a, CONDITIONS) || rule->action != FR_ACT_TO_TBL ||
	    (rule->family != AF_INET && rule->family != AF_INET6))
		return 0;
	table = table_of(rule->family, rule->table, a[FRA_TABLE]);
	past = rule->family == AF_INET ? &t->four_past : &t->six_past;
	t->all |= a[FRA_L3MDEV] != NULL;
	if (!*past && is_for_all(rule, a)) {
		*past = (uint32_t)table == RT_TABLE_MAIN;
		if (!*past && !add(&t->ahead, &t->ahead_len, table))
			return -1;
	}
	return add(&t->v, &t->len, table) ? 0 : -1;
}

static int by_number(const void *a, const void *b)
{
	const uint64_t one = *(const uint64_t *)a, other = *(const uint64_t *)b;

	return (one > other) - (one < other);
}

static void see_rules(struct tables *t, struct rtnl *nl)
{
	struct err ignored;

	if (rtnl_each_of(nl, &(struct rtnl_ask){ .type = RTM_GETRULE }, see_rule, t, &ignored))
		t->all = true;
	if (t->len)
		qsort(t->v, t->len, sizeof(*t->v), by_number);
	if (t->ahead_len)
		qsort(t->ahead, t->ahead_len, sizeof(*t->ahead), by_number);
}

static bool is_led_to(const struct tables *t, const struct rtmsg *m, const struct rtattr *wide)
{
	const uint64_t table = table_of(m->rtm_family, m->rtm_table, wide);

	return t->all || (t->len && bsearch(&table, t->v, t->len, sizeof(*t->v), by_number));
}

/* Whether it leads away, however wide it is: its table is asked before that of the network's own route. */
static bool is_ahead(const struct tables *t, const struct rtmsg *m, const struct rtattr *wide)
{
	const uint64_t table = table_of(m->rtm_family, m->rtm_table, wide);

	return m->rtm_type != RTN_THROW && t->ahead_len &&
	       bsearch(&table, t->ahead, t->ahead_len, sizeof(*t->ahead), by_number);
}

/* --- what the host knows a way to --- */

struct routes {
	struct lan_subnets *s;
	struct tables tables;
	struct rtnl_links links;
	bool *own; /* which of these are the network's */
};

/* By whom a route leads, that is the first way which does not lead into the network itself. NULL: all do. */
static const char *leads_by(const struct routes *r, const struct rtattr *const *a)
{
	struct rtnl_way w = { 0 };

	while (rtnl_next_way(a, &w)) {
		const struct rtnl_link *k = rtnl_find_index(&r->links, w.index);

		if (!k || !r->own[k - r->links.v])
			return k ? k->name : "nothing";
	}
	return NULL;
}

/* Loopback's are the host's for others as well; no network is link-local or multicast. */
static bool is_apart(unsigned family, const uint8_t *addr)
{
	return family == AF_INET ? addr[0] == 127 : addr[0] >= 0xfe || !memcmp(addr, &in6addr_loopback, 16);
}

/*
 * Routes but the default one, which every subnet is part of. One that leads nowhere keeps its subnet for somebody. The
 * kernel's own ones are of addresses that the host has.
 */
static int see_route(void *opaque, const struct nlmsghdr *h)
{
	const struct rtattr *a[RTA_MAX + 1];
	const struct rtmsg *m = NLMSG_DATA(h);
	const struct routes *r = opaque;
	struct lan_net4 four;
	struct lan_net6 six;
	enum lan_hold how;
	const char *by;
	bool ip4;

	if (!rtnl_parse(h, sizeof(*m), a, RTA_MAX) || m->rtm_type == RTN_BROADCAST || m->rtm_type == RTN_MULTICAST ||
	    m->rtm_type == RTN_ANYCAST || !m->rtm_dst_len || !a[RTA_DST])
		return 0;
	ip4 = m->rtm_family == AF_INET;
	if (RTA_PAYLOAD(a[RTA_DST]) != (ip4 ? 4 : 16) || is_apart(m->rtm_family, RTA_DATA(a[RTA_DST])))
		return 0;
	if (ip4)
		four = (struct lan_net4){ ld_be32(RTA_DATA(a[RTA_DST])), m->rtm_dst_len };
	else
		six.len = m->rtm_dst_len, memcpy(&six.addr, RTA_DATA(a[RTA_DST]), sizeof(six.addr));
	/* Most are of no account, and it takes a while to see by whom they lead. */
	if (!(ip4 ? asks4(r->s, &four) : asks6(r->s, &six)) || !is_led_to(&r->tables, m, a[RTA_TABLE]))
		return 0;
	by = leads_by(r, a);
	how = m->rtm_protocol == RTPROT_KERNEL	      ? LAN_HOLD_LINK
	      : is_ahead(&r->tables, m, a[RTA_TABLE]) ? LAN_HOLD_AHEAD
						      : LAN_HOLD_ROUTE;
	if (by && ip4)
		lan_subnets_see4(r->s, &four, how, by);
	else if (by)
		lan_subnets_see6(r->s, &six, how, by);
	return 0;
}

static int see_routes(struct lan_subnets *s, const struct lan_store *store, struct rtnl *nl, struct err *err)
{
	struct routes r = { .s = s };
	int rc = -1;

	if (rtnl_links(nl, &r.links, err))
		return -1;
	r.own = calloc(r.links.len, sizeof(*r.own));
	if (!r.own)
		err_set(err, "out of memory");
	else
		rc = 0;
	for (unsigned i = 0; i < r.links.len && !rc; i++)
		r.own[i] = lan_is_ours(store, &r.links.v[i], s->d->name);
	if (!rc)
		see_rules(&r.tables, nl);
	if (!rc && rtnl_each_of(nl, &(struct rtnl_ask){ .type = RTM_GETROUTE }, see_route, &r, err))
		rc = err_prefix(err, "routes of the host");
	free(r.tables.v);
	free(r.tables.ahead);
	free(r.own);
	rtnl_links_free(&r.links);
	return rc;
}

static int see_networks(struct lan_subnets *s, const struct lan_store *store, struct err *err)
{
	struct lan_def *d = malloc(sizeof(*d));
	struct lan_names names = { 0 };
	struct err ignored;
	int rc = d ? lan_store_names(store, &names, err) : err_set(err, "out of memory");

	for (unsigned i = 0; i < names.len && !rc; i++) {
		if (!strcmp(names.v[i], s->d->name) || lan_store_load(store, names.v[i], d, &ignored))
			continue;
		if (d->net4.len)
			lan_subnets_see4(s, &d->net4, LAN_HOLD_NETWORK, names.v[i]);
		if (d->net6.len)
			lan_subnets_see6(s, &d->net6, LAN_HOLD_NETWORK, names.v[i]);
	}
	lan_names_free(&names);
	free(d);
	return rc;
}

/* Where the host is not in a network its routes are no hindrance, but other subnets are rather given. */
static bool asks_host(const struct lan_subnets *s)
{
	return s->four || s->candidates || (lan_has_gateway(s->d) && (s->check4 || s->check6));
}

int lan_fit_subnets(const struct lan_store *store, struct rtnl *nl, struct lan_def *d, const struct lan_def *before,
		    unsigned want, struct err *err)
{
	struct lan_subnets s;

	if (lan_subnets_begin(&s, d, before, want, err))
		return -1;
	/* A network that runs has a route of the host, too; its name says more. */
	if (see_networks(&s, store, err) || (asks_host(&s) && see_routes(&s, store, nl, err))) {
		free(s.four);
		return -1;
	}
	return lan_subnets_end(&s, err);
}
