/* The user-mode network as the configuration describes it, in a process of its own. */
#include "net/user.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/process.h"

/* "[ADDRESS]:PORT" or "PORT"; an empty address stays as it is. A port of `least` and more. */
static bool parse_end(const char *text, struct in_addr *addr, uint16_t *port, int least)
{
	const char *colon = strrchr(text, ':');
	char host[32];
	int n;

	if (colon && colon != text) {
		size_t len = (size_t)(colon - text);

		if (len >= sizeof(host))
			return false;
		memcpy(host, text, len);
		host[len] = 0;
		if (inet_pton(AF_INET, host, addr) != 1)
			return false;
	}
	text = colon ? colon + 1 : text;
	if (!*text || strlen(text) > 5 || strspn(text, "0123456789") != strlen(text))
		return false;
	n = atoi(text);
	*port = (uint16_t)n;
	return n >= least && n < 65536;
}

/*
 * "[tcp|udp]:[ADDRESS]:PORT" as QEMU has it, but that a port without an address of the host is open to the host only.
 */
static bool parse_host_end(const char *text, struct net_forward *f)
{
	const char *from;

	*f = (struct net_forward){ .udp = !strncmp(text, "udp:", 4) };
	f->host.s_addr = htonl(INADDR_LOOPBACK);
	from = text + (f->udp || !strncmp(text, "tcp:", 4) ? 4 : *text == ':');
	return from != text && parse_end(from, &f->host, &f->host_port, 0);
}

/* The same with "-[ADDRESS]:PORT" behind it. */
static bool parse_forward(const struct net_user_config *u, char *text, struct net_forward *f)
{
	char *dash = strchr(text, '-');

	if (!dash)
		return false;
	*dash = 0;
	if (!parse_host_end(text, f))
		return false;
	f->guest = u->dhcp;
	f->chosen = !f->host_port;
	return parse_end(dash + 1, &f->guest, &f->guest_port, 1);
}

/* Another host of the network than libslirp's own. */
static int check_guest(const struct net_user_config *u, struct in_addr a, const char *key, const char *text,
		       struct err *err)
{
	char net[INET_ADDRSTRLEN];

	if (!u->ipv4)
		return err_set(err, "%s: there is no IPv4 here (ipv4=off)", key);
	if (net_user_has(u, a) && a.s_addr != u->host.s_addr && a.s_addr != u->dns.s_addr)
		return 0;
	inet_ntop(AF_INET, &u->net, net, sizeof(net));
	return err_set(err, "%s: '%s': %s is not for a guest of the network (%s/%d)", key, text, inet_ntoa(a), net,
		       __builtin_popcount(u->mask.s_addr));
}

static int read_forward(const struct net_user_config *u, const char *key, char *text, struct net_forward *f,
			struct err *err)
{
	char shown[64];

	snprintf(shown, sizeof(shown), "%s", text);
	if (!parse_forward(u, text, f))
		return err_set(err, "%s: '%s' is not [tcp|udp]:[ADDRESS]:PORT-[ADDRESS]:PORT", key, shown);
	return check_guest(u, f->guest, key, shown, err);
}

static int read_forwards(struct net_user_config *u, struct config *c, const char *key, struct err *err)
{
	const char *list = config_get(c, key); /* empty: they have all been removed */
	char *copy, *rest, *word;
	int rc = 0;

	copy = rest = strdup(list ? list : "");
	if (!copy)
		return err_set(err, "out of memory");
	while (!rc && (word = strsep(&rest, "+"))) {
		if (!*word)
			continue;
		rc = u->count == NET_FORWARDS ? err_set(err, "%s: more than %d ports", key, NET_FORWARDS)
					      : read_forward(u, key, word, &u->forward[u->count++], err);
	}
	free(copy);
	return rc;
}

/* "[tcp]:ADDRESS:PORT-cmd:COMMAND", or "-unix:PATH", or "-tcp:HOST:PORT". */
static bool parse_guest_forward(const char *text, struct net_guest_forward *f)
{
	static const char *const kinds[] = {
		[NET_TO_COMMAND] = "cmd:", [NET_TO_UNIX] = "unix:", [NET_TO_TCP] = "tcp:"
	};
	const char *dash = strchr(text, '-'), *where = dash ? dash + 1 : "";
	char end[64];

	*f = (struct net_guest_forward){ 0 };
	text += !strncmp(text, "tcp:", 4) ? 4 : *text == ':';
	if (!dash || dash - text >= (int)sizeof(end))
		return false;
	snprintf(end, sizeof(end), "%.*s", (int)(dash - text), text);
	if (!parse_end(end, &f->addr, &f->port, 1) || !f->addr.s_addr)
		return false;
	for (unsigned n = 0; n < 3; n++) {
		size_t len = strlen(kinds[n]);

		if (strncmp(where, kinds[n], len) || !where[len])
			continue;
		f->kind = (enum net_guest_forward_kind)n;
		return snprintf(f->where, sizeof(f->where), "%s", n == NET_TO_TCP ? where : where + len) <
		       (int)sizeof(f->where);
	}
	return false;
}

/* "guestfwd0" and so on, as far as they go. */
static int read_guest_forwards(struct net_user_config *u, struct config *c, const char *prefix, struct err *err)
{
	const char *text;
	char key[64];

	for (;;) {
		snprintf(key, sizeof(key), "%s.guestfwd%u", prefix, u->guest_count);
		if (config_str(c, key, NULL, &text, err))
			return -1;
		if (!text)
			return 0;
		if (u->guest_count == NET_GUEST_FORWARDS)
			return err_set(err, "%s: more than %d of them", key, NET_GUEST_FORWARDS);
		if (!parse_guest_forward(text, &u->guest_forward[u->guest_count++]))
			return err_set(err,
				       "%s: '%s' is not [tcp]:ADDRESS:PORT-cmd:COMMAND, -unix:PATH or -tcp:HOST:PORT",
				       key, text);
		if (check_guest(u, u->guest_forward[u->guest_count - 1].addr, key, text, err))
			return -1;
	}
}

int net_user_check(struct config *c, const char *prefix, struct err *err)
{
	struct net_user_config u;

	return net_user_read(&u, c, prefix, err);
}

static int read_text(struct config *c, const char *key, char *to, size_t size, struct err *err)
{
	const char *text;

	if (config_str(c, key, "", &text, err))
		return -1;
	return snprintf(to, size, "%s", text) < (int)size
		       ? 0
		       : err_set(err, "%s: longer than %u characters", key, (unsigned)size - 1);
}

/* What a guest boots by the network. */
static int read_boot(struct net_user_config *u, struct config *c, const char *prefix, struct err *err)
{
	char key[64];

	snprintf(key, sizeof(key), "%s.bootfile", prefix);
	if (read_text(c, key, u->bootfile, sizeof(u->bootfile), err))
		return -1;
	snprintf(key, sizeof(key), "%s.tftp", prefix);
	if (read_text(c, key, u->tftp, sizeof(u->tftp), err))
		return -1;
	return *u->tftp && access(u->tftp, R_OK | X_OK) ? err_errno(err, errno, "%s: %s", key, u->tftp) : 0;
}

int net_user_read(struct net_user_config *u, struct config *c, const char *prefix, struct err *err)
{
	const char *mtu;
	char key[64];

	memset(u, 0, sizeof(*u));
	snprintf(u->name, sizeof(u->name), "%s", prefix);
	snprintf(key, sizeof(key), "%s.restrict", prefix);
	if (config_bool(c, key, false, &u->restricted, err) || net_user_read_place(u, c, prefix, err))
		return -1;
	snprintf(key, sizeof(key), "%s.mtu", prefix);
	mtu = config_peek(c, key); /* the card's, which checks it, or has none and refuses it */
	u->mtu = mtu ? (uint16_t)strtoul(mtu, NULL, 10) : 0;
	snprintf(key, sizeof(key), "%s.hostfwd", prefix);
	return read_forwards(u, c, key, err) || read_guest_forwards(u, c, prefix, err) || read_boot(u, c, prefix, err)
		       ? -1
		       : 0;
}

void net_user_describe(struct config *c, const char *prefix, FILE *out)
{
	struct net_user_config u;
	struct err err;

	if (!net_user_read(&u, c, prefix, &err))
		fprintf(out, "net=%s,restrict=%s", inet_ntoa(u.net), u.restricted ? "on" : "off");
}

static struct net_peer *make(struct loop *loop, const void *config, struct err *err)
{
	return net_slirp_new(loop, config, err);
}

static int change(struct net_peer *peer, const void *config, struct err *err)
{
	return net_slirp_change(peer, config, err);
}

static int confine(const void *config, struct err *err)
{
	return net_user_confine(config, err);
}

/* --- ports that the kernel chooses --- */

/*
 * One of TCP is held as long as the network is there: each process of it listens there, as two sockets may be bound to
 * one port if both allow it, and nobody else does. libslirp does not allow it for its sockets of UDP.
 */
static int hold_port(struct net_forward *f, const char *name, struct err *err)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = f->host };
	socklen_t len = sizeof(at);

	f->held = socket(AF_INET, (f->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
	if (f->held < 0 || setsockopt(f->held, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)) ||
	    bind(f->held, (struct sockaddr *)&at, sizeof(at)) || getsockname(f->held, (struct sockaddr *)&at, &len))
		return err_errno(err, errno, "%s.hostfwd: a port of %s", name, inet_ntoa(f->host));
	f->host_port = ntohs(at.sin_port);
	if (f->udp) {
		close(f->held);
		f->held = 0;
	}
	return 0;
}

static int hold_ports(struct net_user_config *u, struct err *err)
{
	for (unsigned n = 0; n < u->count; n++)
		if (u->forward[n].chosen && hold_port(&u->forward[n], u->name, err))
			return -1;
	return 0;
}

static void release_ports(void *config)
{
	const struct net_user_config *u = config;

	for (unsigned n = 0; n < u->count; n++)
		if (u->forward[n].held > 0)
			close(u->forward[n].held);
}

/* As QEMU's monitor has it; the descriptors are another process's. */
static void print_ports(const void *config, FILE *out)
{
	const struct net_user_config *u = config;

	fputs("  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n", out);
	for (unsigned n = 0; n < u->count; n++) {
		const struct net_forward *f = &u->forward[n];
		char host[INET_ADDRSTRLEN] = "*", guest[INET_ADDRSTRLEN];

		if (!f->guest_port)
			continue;
		if (f->host.s_addr)
			inet_ntop(AF_INET, &f->host, host, sizeof(host));
		inet_ntop(AF_INET, &f->guest, guest, sizeof(guest));
		fprintf(out, "  %s[HOST_FORWARD]  -1 %15s %5u %15s %5u     0     0\n", f->udp ? "UDP" : "TCP", host,
			f->host_port, guest, f->guest_port);
	}
}

/* --- while the machine runs --- */

/* What the key has to say for all that are forwarded now. */
static int tell_config(const struct net_user_config *u, struct config *c, const char *prefix, struct err *err)
{
	char text[NET_FORWARDS * 64] = "", key[64];
	size_t at = 0;

	for (unsigned n = 0; n < u->count; n++) {
		const struct net_forward *f = &u->forward[n];
		char host[INET_ADDRSTRLEN], guest[INET_ADDRSTRLEN] = "";

		if (!f->guest_port)
			continue;
		inet_ntop(AF_INET, &f->host, host, sizeof(host));
		if (f->guest.s_addr != u->dhcp.s_addr)
			inet_ntop(AF_INET, &f->guest, guest, sizeof(guest));
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s:%s:%u-%s:%u", at ? "+" : "",
				       f->udp ? "udp" : "tcp", host, f->chosen ? 0 : f->host_port, guest,
				       f->guest_port);
	}
	snprintf(key, sizeof(key), "%s.hostfwd", prefix);
	return config_choose(c, key, text, err);
}

static bool same_host_end(const struct net_forward *a, const struct net_forward *b)
{
	return a->guest_port && a->udp == b->udp && a->host.s_addr == b->host.s_addr && a->host_port == b->host_port;
}

int net_user_add_forward(struct net_peer *p, struct config *c, const char *prefix, const char *text, struct err *err)
{
	struct net_user_config u = *(const struct net_user_config *)net_process_opaque(p);
	struct net_forward *f = u.forward;
	char key[64], copy[128];

	snprintf(key, sizeof(key), "%s.hostfwd", prefix);
	snprintf(copy, sizeof(copy), "%s", text);
	while (f < u.forward + u.count && f->guest_port)
		f++;
	if (f == u.forward + NET_FORWARDS)
		return err_set(err, "%s: more than %d ports", key, NET_FORWARDS);
	if (f == u.forward + u.count)
		u.count++;
	if (read_forward(&u, key, copy, f, err))
		return -1;
	if ((!f->chosen || !hold_port(f, u.name, err)) && !net_process_change(p, &u, err))
		return tell_config(&u, c, prefix, err);
	if (f->held > 0)
		close(f->held);
	return -1;
}

int net_user_remove_forward(struct net_peer *p, struct config *c, const char *prefix, const char *text, struct err *err)
{
	struct net_user_config u = *(const struct net_user_config *)net_process_opaque(p);
	struct net_forward wanted;
	unsigned n = 0;
	int held;

	if (!parse_host_end(text, &wanted))
		return err_set(err, "%s.hostfwd: '%s' is not [tcp|udp]:[ADDRESS]:PORT", prefix, text);
	while (n < u.count && !same_host_end(&u.forward[n], &wanted))
		n++;
	if (n == u.count)
		return 1;
	held = u.forward[n].held;
	u.forward[n] = (struct net_forward){ 0 };
	if (net_process_change(p, &u, err))
		return -1;
	if (held > 0)
		close(held);
	return tell_config(&u, c, prefix, err);
}

struct net_peer *net_user_new(struct loop *loop, struct config *c, const char *prefix, struct err *err)
{
	struct net_user_config u;
	struct net_process_config p = { .make = make,
					.confine = confine,
					.change = change,
					.print = print_ports,
					.end = release_ports,
					.opaque = &u,
					.size = sizeof(u) };
	struct net_peer *peer;

	if (net_user_read(&u, c, prefix, err))
		return NULL;
	p.name = u.name;
	peer = hold_ports(&u, err) ? NULL : net_process_new(loop, &p, err);
	if (!peer)
		release_ports(&u);
	return peer;
}
