/* See host.h. */
#include "lan/host.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/entropy.h"
#include "lan/lan_impl.h"

int lan_host_rights(struct err *err)
{
	static const struct {
		unsigned number;
		const char *name;
	} needed[] = { { CAP_NET_ADMIN, "CAP_NET_ADMIN" },
		       { CAP_NET_RAW, "CAP_NET_RAW" },
		       { CAP_SYS_ADMIN, "CAP_SYS_ADMIN" } };
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { { 0 } };

	if (syscall(SYS_capget, &h, d))
		return err_errno(err, errno, "capget");
	for (size_t i = 0; i < ARRAY_LEN(needed); i++)
		if (!(d[needed[i].number / 32].effective & 1u << needed[i].number % 32))
			return err_set(err, "%s is missing: networks of the host are changed as root", needed[i].name);
	return 0;
}

/* --- what is taken --- */

static void *more(void *v, unsigned len, size_t size)
{
	return len & (len - 1) ? v : realloc(v, (len ? 2 * len : 1) * size);
}

static void hold(struct lan_holder *h, enum lan_hold how, const char *name)
{
	h->how = how;
	snprintf(h->who, sizeof(h->who), "%s %s", how == LAN_HOLD_NETWORK ? "network" : "a route of the host by", name);
}

static int add4(struct lan_taken *t, struct lan_net4 n, enum lan_hold how, const char *name)
{
	void *v = more(t->v4, t->len4, sizeof(*t->v4)), *w;

	if (!v)
		return -1;
	t->v4 = v;
	w = more(t->who4, t->len4, sizeof(*t->who4));
	if (!w)
		return -1;
	t->who4 = w;
	hold(&t->who4[t->len4], how, name);
	n.addr &= lan_mask4(n.len);
	t->v4[t->len4++] = n;
	return 0;
}

static int add6(struct lan_taken *t, struct lan_net6 n, enum lan_hold how, const char *name)
{
	void *v = more(t->v6, t->len6, sizeof(*t->v6)), *w;

	if (!v)
		return -1;
	t->v6 = v;
	w = more(t->who6, t->len6, sizeof(*t->who6));
	if (!w)
		return -1;
	t->who6 = w;
	hold(&t->who6[t->len6], how, name);
	t->v6[t->len6++] = n;
	return 0;
}

/* Loopback has addresses that are the host's for others as well. */
static bool is_loopback(const struct rtmsg *r, const struct rtattr *dst)
{
	const uint8_t *addr = RTA_DATA(dst);

	return r->rtm_family == AF_INET ? addr[0] == 127 : !memcmp(addr, &in6addr_loopback, 16);
}

/*
 * Routes but the default one, which every subnet is part of, and those of the network `own` itself. One that leads
 * nowhere keeps its subnet for somebody. The kernel's own ones are of addresses that the host has.
 */
static int add_route(struct lan_taken *t, const struct rtnl_message *m, const struct rtnl_links *links, const char *own)
{
	const struct rtmsg *r = (const void *)m->data;
	const struct rtattr *a[RTA_MAX + 1];
	const struct rtnl_link *link = NULL;
	struct lan_net6 n6 = { .len = r->rtm_dst_len };
	const size_t len = r->rtm_family == AF_INET ? 4 : 16;
	const enum lan_hold how = r->rtm_protocol == RTPROT_KERNEL ? LAN_HOLD_LINK : LAN_HOLD_ROUTE;
	int index;

	if (m->len < sizeof(*r) || r->rtm_type == RTN_BROADCAST || r->rtm_type == RTN_MULTICAST ||
	    r->rtm_type == RTN_ANYCAST || !r->rtm_dst_len || (r->rtm_family != AF_INET && r->rtm_family != AF_INET6))
		return 0;
	rtnl_attrs(RTM_RTA(r), m->len - NLMSG_ALIGN(sizeof(*r)), a, RTA_MAX);
	if (a[RTA_OIF] && RTA_PAYLOAD(a[RTA_OIF]) == sizeof(index)) {
		memcpy(&index, RTA_DATA(a[RTA_OIF]), sizeof(index));
		link = rtnl_find_index(links, index);
	}
	if (!a[RTA_DST] || RTA_PAYLOAD(a[RTA_DST]) != len || is_loopback(r, a[RTA_DST]) ||
	    (link && lan_is_ours(t->store, link, own)))
		return 0;
	if (r->rtm_family == AF_INET)
		return add4(t, (struct lan_net4){ ld_be32(RTA_DATA(a[RTA_DST])), r->rtm_dst_len }, how,
			    link ? link->name : "nothing");
	memcpy(&n6.addr, RTA_DATA(a[RTA_DST]), 16);
	if (n6.addr.s6_addr[0] >= 0xfe)
		return 0; /* link-local, multicast */
	return add6(t, n6, how, link ? link->name : "nothing");
}

static int add_routes(struct lan_taken *t, struct rtnl *nl, const char *own, struct err *err)
{
	struct rtnl_messages m;
	struct rtnl_links links;
	int rc = 0;

	if (rtnl_links(nl, &links, err))
		return -1;
	if (rtnl_dump(nl, RTM_GETROUTE, &m, err)) {
		rtnl_links_free(&links);
		return -1;
	}
	for (unsigned i = 0; i < m.len && !rc; i++)
		rc = add_route(t, &m.v[i], &links, own);
	rtnl_messages_free(&m);
	rtnl_links_free(&links);
	return rc ? err_set(err, "out of memory") : 0;
}

int lan_taken(struct lan_taken *t, const struct lan_store *s, struct rtnl *nl, const struct lan_def *d, struct err *err)
{
	struct lan_def *other = malloc(sizeof(*other));
	struct lan_names names = { 0 };
	struct err ignored;
	int rc = -1;

	*t = (struct lan_taken){ .store = s };
	if (!other) {
		err_set(err, "out of memory");
		goto out;
	}
	if (lan_store_names(s, &names, err) || add_routes(t, nl, d->name, err))
		goto out;
	for (unsigned i = 0; i < names.len; i++) {
		if (!strcmp(names.v[i], d->name) || lan_store_load(s, names.v[i], other, &ignored))
			continue;
		if ((other->net4.len && add4(t, other->net4, LAN_HOLD_NETWORK, names.v[i])) ||
		    (other->net6.len && add6(t, other->net6, LAN_HOLD_NETWORK, names.v[i]))) {
			err_set(err, "out of memory");
			goto out;
		}
	}
	rc = 0;
out:
	lan_names_free(&names);
	free(other);
	if (rc)
		lan_taken_free(t);
	return rc;
}

void lan_taken_free(struct lan_taken *t)
{
	free(t->v4);
	free(t->v6);
	free(t->who4);
	free(t->who6);
	*t = (struct lan_taken){ 0 };
}

/*
 * Whether who has a subnet of `theirs` bits keeps one of `ours` bits, which overlaps it, from the network. What goes by
 * a longer route goes by that one: wider ones (a way to all private addresses, or halves of the world, as a VPN has
 * them) are for what nobody else has.
 */
static bool keeps(const struct lan_holder *h, unsigned theirs, unsigned ours, const struct lan_def *d)
{
	return h->how == LAN_HOLD_NETWORK || (lan_has_gateway(d) && (h->how == LAN_HOLD_LINK || theirs >= ours));
}

/* Who has it; `any`: also where that is no harm. */
static const char *overlap4(const struct lan_taken *t, const struct lan_def *d, bool any)
{
	for (unsigned i = 0; i < t->len4; i++)
		if (lan_overlap4(&t->v4[i], &d->net4) && (any || keeps(&t->who4[i], t->v4[i].len, d->net4.len, d)))
			return t->who4[i].who;
	return NULL;
}

static const char *overlap6(const struct lan_taken *t, const struct lan_def *d, bool any)
{
	for (unsigned i = 0; i < t->len6; i++)
		if (lan_overlap6(&t->v6[i], &d->net6) && (any || keeps(&t->who6[i], t->v6[i].len, d->net6.len, d)))
			return t->who6[i].who;
	return NULL;
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

int lan_taken_check(const struct lan_taken *t, const struct lan_def *d, const struct lan_def *before, struct err *err)
{
	const char *who;
	char text[LAN_TEXT6];

	who = d->net4.len && !had4(before, d) ? overlap4(t, d, false) : NULL;
	if (who)
		return err_set(err, "subnet %s overlaps %s", lan_text_net4(&d->net4, text), who);
	who = d->net6.len && !had6(before, d) ? overlap6(t, d, false) : NULL;
	return who ? err_set(err, "subnet6 %s overlaps %s", lan_text_net6(&d->net6, text), who) : 0;
}

/* The private address space (RFC 1918): first 10/8, from a place that the name says, so that hosts differ. */
static bool choose4(const struct lan_taken *t, struct lan_def *d, bool any)
{
	static const struct lan_net4 spaces[] = { { 0x0a000000, 8 }, { 0xac100000, 12 }, { 0xc0a80000, 16 } };

	for (size_t i = 0; i < ARRAY_LEN(spaces); i++) {
		uint32_t count = 1u << (24 - spaces[i].len), from = lan_sum(d->name, (unsigned)strlen(d->name));

		for (uint32_t n = 0; n < count; n++) {
			d->net4 = (struct lan_net4){ spaces[i].addr | (from + n) % count << 8, 24 };
			if (!overlap4(t, d, any))
				return true;
		}
	}
	d->net4.len = 0;
	return false;
}

/* RFC 4193: 40 random bits. */
static bool choose6(const struct lan_taken *t, struct lan_def *d, bool any)
{
	for (unsigned n = 0; n < 1000; n++) {
		d->net6 = (struct lan_net6){ .addr.s6_addr = { 0xfd }, .len = 64 };
		entropy_get(d->net6.addr.s6_addr + 1, 5);
		if (!overlap6(t, d, any))
			return true;
	}
	d->net6.len = 0;
	return false;
}

int lan_choose_subnets(const struct lan_taken *t, struct lan_def *d, bool want4, bool want6, struct err *err)
{
	/* Rather one that nothing is said of. */
	if (want4 && !d->net4.len && !choose4(t, d, true) && !choose4(t, d, false))
		return err_set(err, "subnet: all private addresses are taken; name one by --subnet");
	if (want6 && !d->net6.len && !choose6(t, d, true) && !choose6(t, d, false))
		return err_set(err, "subnet6: all unique local prefixes are taken; name one by --subnet6");
	return 0;
}

/* --- switches --- */

bool lan_sysctl_get(const char *path, char *buf, unsigned size)
{
	char full[160];
	ssize_t n;
	int fd;

	snprintf(full, sizeof(full), "/proc/sys/net/%s", path);
	fd = open(full, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, buf, size - 1);
	if (fd >= 0)
		close(fd);
	if (n < 0)
		return false;
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return true;
}

int lan_sysctl_set(const char *path, const char *value, struct err *err)
{
	char full[160], now[32];
	int fd, rc = 0;

	if (lan_sysctl_get(path, now, sizeof(now)) && !strcmp(now, value))
		return 0;
	snprintf(full, sizeof(full), "/proc/sys/net/%s", path);
	fd = open(full, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		rc = err_errno(err, errno, "%s", full);
	if (fd >= 0)
		close(fd);
	return rc;
}

/* Whether it is one that can be set, and has a value: a secret that was never told has none. */
static bool is_switch(int dir, const char *name)
{
	struct stat st;

	return *name != '.' && !fstatat(dir, name, &st, 0) && S_ISREG(st.st_mode) && st.st_mode & S_IWUSR;
}

/* What differs in a directory ("ipv6/conf"); returns how many. `strict`: none may refuse. */
static int copy_switches(const char *where, const char *from, const char *to, bool strict, struct err *err)
{
	char full[160], a[96], b[96], value[64], now[64];
	int changed = 0, rc = 0;
	struct dirent *e;
	DIR *d;

	snprintf(full, sizeof(full), "/proc/sys/net/%s/%s", where, from);
	d = opendir(full);
	while (d && !rc && (e = readdir(d))) {
		/* That of IPv6 the kernel sets when the link comes. */
		if (!is_switch(dirfd(d), e->d_name) || !strcmp(e->d_name, "mtu"))
			continue;
		snprintf(a, sizeof(a), "%s/%s/%.40s", where, from, e->d_name);
		snprintf(b, sizeof(b), "%s/%s/%.40s", where, to, e->d_name);
		if (!lan_sysctl_get(a, value, sizeof(value)) ||
		    (lan_sysctl_get(b, now, sizeof(now)) && !strcmp(now, value)))
			continue;
		rc = lan_sysctl_set(b, value, err) && strict ? -1 : 0;
		changed++;
	}
	if (d)
		closedir(d);
	return rc ? -1 : changed;
}

int lan_switches_copy(const char *from, const char *to, struct err *err)
{
	static const char *const where[] = { "ipv4/conf", "ipv6/conf", "ipv4/neigh", "ipv6/neigh" };
	int changed = 0;

	/* Twice, as some change or need others: a way to make addresses needs its secret. */
	for (size_t i = 0; i < ARRAY_LEN(where) && changed >= 0; i++)
		if (copy_switches(where[i], from, to, false, err))
			changed = copy_switches(where[i], from, to, true, err);
	return changed < 0 ? -1 : 0;
}

void lan_here(char buf[LAN_HERE])
{
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
	struct stat st = { 0 };
	char boot[40] = "";

	if (f) {
		if (fscanf(f, "%39s", boot) != 1)
			*boot = '\0';
		fclose(f);
	}
	stat("/proc/self/ns/net", &st);
	snprintf(buf, LAN_HERE, "%s/%llu", boot, (unsigned long long)st.st_ino);
}
