/*
 * Services of the host that listen at ports which a network publishes: connections would be led past them. By sock_diag
 * (sock_diag(7)), of this network name space. See lan_impl.h.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "lan/lan_impl.h"

/* --- sockets --- */

struct search {
	const struct lan_def *def, *before;
	const char *to;
	bool udp, any;
	struct lan_listener *found;
};

/* What only the host itself sends to, or what is not its address alone: no published port is for that. */
static bool is_apart(const struct lan_publish *at)
{
	return at->at4 >> 24 == 127 || at->at4 >> 28 >= 14 || IN6_IS_ADDR_LOOPBACK(&at->at6) ||
	       IN6_IS_ADDR_MULTICAST(&at->at6);
}

/*
 * By the loopback device alone, and not by an address that leads past it: what is sent to the host's loopback is still
 * its own. The device has this number in each network name space.
 */
static bool is_inside(const struct inet_diag_msg *m, const struct lan_publish *at)
{
	return m->id.idiag_if == 1 && !at->at4 && lan_zero6(&at->at6);
}

static bool takes(const struct lan_def *d, const struct lan_publish *at, const char *to)
{
	for (unsigned i = 0; d && i < d->publish_len; i++)
		if (lan_publish_meets(&d->publish[i], at) && (!to || !strcasecmp(d->publish[i].to, to)))
			return true;
	return false;
}

/* A socket of IPv6 takes IPv4, too: by all addresses, if it was not told otherwise, or by one that is IPv4's. */
static void read_six(const struct inet_diag_msg *m, const struct rtattr *only, struct lan_publish *at)
{
	memcpy(&at->at6, m->id.idiag_src, sizeof(at->at6));
	if (IN6_IS_ADDR_V4MAPPED(&at->at6)) {
		at->at4 = ld_be32(at->at6.s6_addr + 12);
		at->at6 = in6addr_any;
		at->families = LAN_4;
		return;
	}
	at->families = LAN_6;
	if (lan_zero6(&at->at6) && !(only && RTA_PAYLOAD(only) && *(const uint8_t *)RTA_DATA(only)))
		at->families |= LAN_4;
}

static int look(void *opaque, const struct nlmsghdr *h)
{
	const struct inet_diag_msg *m = NLMSG_DATA(h);
	const struct rtattr *t[INET_DIAG_SKV6ONLY + 1];
	struct search *s = opaque;
	struct lan_publish at = { .udp = s->udp };

	if (s->any || h->nlmsg_type != SOCK_DIAG_BY_FAMILY || !rtnl_parse(h, sizeof(*m), t, ARRAY_LEN(t) - 1))
		return 0;
	at.port = ld_be16(&m->id.idiag_sport);
	if (m->idiag_family == AF_INET6) {
		read_six(m, t[INET_DIAG_SKV6ONLY], &at);
	} else {
		at.at4 = ld_be32(m->id.idiag_src);
		at.families = LAN_4;
	}
	s->any = !is_apart(&at) && !is_inside(m, &at) && takes(s->def, &at, s->to) && !takes(s->before, &at, NULL);
	if (s->any)
		*s->found = (struct lan_listener){ at, m->idiag_inode, m->idiag_uid };
	return 0;
}

/* Of TCP those that listen; of UDP those that take what anybody sends, which is who has no other end. */
static int ask(struct rtnl *diag, int family, struct search *s, struct err *err)
{
	const struct inet_diag_req_v2 head = { .sdiag_family = (uint8_t)family,
					       .sdiag_protocol = s->udp ? IPPROTO_UDP : IPPROTO_TCP,
					       .idiag_states = 1u << (s->udp ? TCP_CLOSE : TCP_LISTEN) };
	struct rtnl_req q;

	rtnl_begin(&q, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &head, sizeof(head));
	return rtnl_each(diag, &q, look, s, err) ? -1 : 0;
}

static bool publishes(const struct lan_def *d, bool udp)
{
	for (unsigned i = 0; i < d->publish_len; i++)
		if (d->publish[i].udp == udp)
			return true;
	return false;
}

int lan_find_listener(struct rtnl *diag, const struct lan_def *d, const struct lan_def *before, const char *to,
		      struct lan_listener *found, struct err *err)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	struct search s = { .def = d, .before = before, .to = to, .found = found };
	int rc = 0;

	for (unsigned n = 0; n < 2 * ARRAY_LEN(families) && !rc && !s.any; n++) {
		s.udp = n >= ARRAY_LEN(families);
		if (publishes(d, s.udp))
			rc = ask(diag, families[n % ARRAY_LEN(families)], &s, err);
	}
	return rc ? -1 : s.any;
}

/* --- whose they are --- */

static bool has_socket(const char *pid, const char *link)
{
	char path[64], to[64];
	struct dirent *e;
	bool yes = false;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%.16s/fd", pid);
	d = opendir(path);
	while (d && !yes && (e = readdir(d))) {
		ssize_t n = readlinkat(dirfd(d), e->d_name, to, sizeof(to) - 1);

		to[n < 0 ? 0 : n] = '\0';
		yes = !strcmp(to, link);
	}
	if (d)
		closedir(d);
	return yes;
}

/* Of several that have it (workers of a service) the first. 0: nobody who can be seen. */
static int find_process(uint32_t inode)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	char link[32];
	int pid = 0;

	snprintf(link, sizeof(link), "socket:[%u]", inode);
	while (d && (e = readdir(d)))
		if (isdigit((unsigned char)*e->d_name) && (!pid || atoi(e->d_name) < pid) &&
		    has_socket(e->d_name, link))
			pid = atoi(e->d_name);
	if (d)
		closedir(d);
	return pid;
}

static void who(const struct lan_listener *s, char buf[80])
{
	const int pid = find_process(s->inode);
	char path[32], name[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	f = pid ? fopen(path, "re") : NULL;
	if (f && fgets(name, sizeof(name), f))
		name[strcspn(name, "\n")] = '\0';
	if (f)
		fclose(f);
	/* Processes call themselves what they want. */
	for (char *p = name; *p; p++)
		if (!isprint((unsigned char)*p))
			*p = '?';
	if (pid)
		snprintf(buf, 80, "%s (process %d)", *name ? name : "somebody", pid);
	else
		snprintf(buf, 80, "somebody who cannot be seen from here (of user %u)", s->uid);
}

/* Whether there is one: `text` says who and where. Where that cannot be seen, that is said, and keeps nobody. */
static bool is_listened(const struct lan_def *d, const struct lan_def *before, const char *to, char text[256])
{
	struct rtnl diag = { .fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG) };
	struct lan_listener s;
	char name[80], at[LAN_TEXT6];
	struct err why;
	int found =
		diag.fd < 0 ? err_errno(&why, errno, "sock_diag") : lan_find_listener(&diag, d, before, to, &s, &why);

	if (diag.fd >= 0)
		rtnl_close(&diag);
	if (found < 0)
		log_line(LOG_WARN, "lan", "%s: whether somebody listens at its published ports cannot be seen: %s",
			 d->name, why.msg);
	if (found <= 0)
		return false;
	who(&s, name);
	snprintf(text, 256, "%s port %u of the host is in use by %s, at %s", s.at.udp ? "udp" : "tcp", s.at.port, name,
		 s.at.families & LAN_6 ? lan_text6(&s.at.at6, at) : lan_text4(s.at.at4, at));
	return true;
}

int lan_check_listeners(const struct lan_def *d, const struct lan_def *before, struct err *err)
{
	char text[256];

	return d->publish_len && is_listened(d, before, NULL, text) ? err_set(err, "publish: %s", text) : 0;
}

void lan_note_listeners(const struct lan_def *d, const char *vm)
{
	char label[LAN_NAME_LABEL + 1], text[256];

	if (d->publish_len && lan_label_of(vm, label) && is_listened(d, NULL, label, text))
		log_line(LOG_WARN, "lan", "%s: %s: it is not reached from outside while %s is in the network", d->name,
			 text, vm);
}
