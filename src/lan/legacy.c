/*
 * Tables of iptables-legacy: see book.h. The kernel gives all of one at once, by getsockopt(). Who asks for a table
 * makes it, so only those are asked for that are there.
 */
#include "lan/legacy.h"

#include <net/if.h>

#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"

#define BYTES (16u << 20) /* of a table; what is larger has more rules than are looked at */

_Static_assert(sizeof(struct ipt_getinfo) == sizeof(struct ip6t_getinfo) &&
		       (int)IPT_SO_GET_INFO == (int)IP6T_SO_GET_INFO &&
		       (int)IPT_SO_GET_ENTRIES == (int)IP6T_SO_GET_ENTRIES &&
		       offsetof(struct ipt_get_entries, entrytable) == offsetof(struct ip6t_get_entries, entrytable),
	       "of both families but for the entries");

struct legacy_entry legacy_entry(unsigned family, const void *at)
{
	const struct ip6t_entry *six = at;
	const struct ipt_entry *four = at;

	return family == NFPROTO_IPV6 ? (struct legacy_entry){ sizeof(*six), six->target_offset, six->next_offset }
				      : (struct legacy_entry){ sizeof(*four), four->target_offset, four->next_offset };
}

static bool is_entry(unsigned family, const uint8_t *v, size_t left)
{
	struct legacy_entry e;

	if (left < (family == NFPROTO_IPV6 ? sizeof(struct ip6t_entry) : sizeof(struct ipt_entry)))
		return false;
	e = legacy_entry(family, v);
	return e.target >= e.matches && e.next >= e.target + sizeof(struct xt_standard_target) && e.next <= left;
}

/* --- chains of a table --- */

struct table {
	struct book *book;
	unsigned family;
	const char *name;
	const struct ipt_getinfo *info;
	const uint8_t *v; /* entries, each as long as it says: see is_entry() */
};

static void add(const struct table *t, const char *name, unsigned hook, unsigned from, unsigned to)
{
	const struct xt_standard_target *policy;
	struct book_chain c = { .family = t->family, .hook = hook, .legacy = true, .read = true, .from = from };

	if (from > to || to >= t->info->size)
		return;
	policy = (const void *)(t->v + to + legacy_entry(t->family, t->v + to).target);
	c.drops = policy->verdict == -NF_DROP - 1;
	snprintf(c.table, sizeof(c.table), "%s", t->name);
	snprintf(c.name, sizeof(c.name), "%s", name);
	strcpy(c.type, strcmp(t->name, "nat") ? "filter" : "nat");
	c.len = to - from;
	c.rules = malloc(c.len + 1);
	if (!c.rules)
		return;
	memcpy(c.rules, t->v + from, c.len);
	if (book_add(t->book, &c))
		free(c.rules);
}

/* Its first entry has its name, and the last one leaves it. */
static void add_others(const struct table *t)
{
	const struct xt_error_target *head = NULL;
	unsigned from = 0, last = 0;

	for (unsigned at = 0; at < t->info->size; at += legacy_entry(t->family, t->v + at).next) {
		const struct legacy_entry e = legacy_entry(t->family, t->v + at);
		const struct xt_error_target *target = (const void *)(t->v + at + e.target);

		if (!strcmp(target->target.u.user.name, XT_ERROR_TARGET) &&
		    e.next - e.target >= sizeof(struct xt_error_target)) {
			if (head)
				add(t, head->errorname, BOOK_NO_HOOK, from, last);
			head = target;
			from = at + e.next;
		}
		last = at;
	}
}

static void add_table(const struct table *t)
{
	static const char *const names[] = { "PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING" };

	for (unsigned at = 0; at < t->info->size; at += legacy_entry(t->family, t->v + at).next)
		if (!is_entry(t->family, t->v + at, t->info->size - at))
			return;
	for (unsigned h = 0; h < ARRAY_LEN(names); h++)
		if (t->info->valid_hooks & 1u << h)
			add(t, names[h], h, t->info->hook_entry[h], t->info->underflow[h]);
	add_others(t);
}

/* --- tables that there are --- */

struct kind {
	unsigned family;
	int domain, level;
	const char *names;
};

static void read_table(struct book *b, const struct kind *k, const char *name)
{
	const int fd = socket(k->domain, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ipt_getinfo info = { 0 };
	struct ipt_get_entries *e = NULL;
	socklen_t len = sizeof(info);
	bool read = false;

	memcpy(info.name, name, strnlen(name, sizeof(info.name) - 1));
	if (fd < 0 || getsockopt(fd, k->level, IPT_SO_GET_INFO, &info, &len) || info.num_entries > b->rules_left ||
	    info.size > BYTES)
		goto out;
	b->rules_left -= info.num_entries;
	len = (socklen_t)offsetof(struct ipt_get_entries, entrytable) + info.size;
	e = calloc(1, len);
	if (!e)
		goto out;
	memcpy(e->name, info.name, sizeof(e->name));
	e->size = info.size;
	/* An error where somebody has replaced it meanwhile: what it is now the next command says. */
	read = !getsockopt(fd, k->level, IPT_SO_GET_ENTRIES, e, &len);
	if (read)
		add_table(&(struct table){ b, k->family, name, &info, (const uint8_t *)e->entrytable });
out:
	if (!read)
		b->unsure = BOOK_MARKS | BOOK_UNTRACKS;
	free(e);
	if (fd >= 0)
		close(fd);
}

void legacy_read(struct book *b)
{
	static const struct kind kinds[] = {
		{ NFPROTO_IPV4, AF_INET, IPPROTO_IP, "/proc/net/ip_tables_names" },
		{ NFPROTO_IPV6, AF_INET6, IPPROTO_IPV6, "/proc/net/ip6_tables_names" },
	};
	char name[XT_TABLE_MAXNAMELEN + 1];

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		FILE *f = fopen(kinds[i].names, "re");

		while (f && fgets(name, sizeof(name), f)) {
			name[strcspn(name, "\n")] = '\0';
			read_table(b, &kinds[i], name);
		}
		if (f)
			fclose(f);
	}
}
