/* The servers of a network: what they are told, how they are joined to the bridge, asked and ended. See lan_impl.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/jsonparse.h"
#include "base/log.h"
#include "base/now.h"
#include "lan/lan_impl.h"
#include "lan/serve/serve.h"

#define CONTROL	    "server.sock"
#define PATIENCE_MS 2000
#define ANSWER_MOST (16u << 20)
#define NOBODY	    65534u
/*
 * Users that nobody makes: above what systemd gives to services and containers, shadow to users (subuid(5)) and sssd to
 * those of a directory, and below what has a sign. (systemd.io/UIDS-GIDS: 1879048192 to 2147483647 are unused.)
 */
#define USERS	  0x7f000000u
#define USERS_LEN (1u << 24)

/* --- what they are told --- */

static struct in_addr in4(uint32_t addr)
{
	return (struct in_addr){ htobe32(addr) };
}

void lan_server_mac(const char *name, uint8_t mac[6])
{
	lan_bridge_mac(name, mac);
	mac[1] = 'H';
}

/* Whether there is such a user in our user name space. */
static bool is_mapped(uid_t uid)
{
	FILE *f = fopen("/proc/self/uid_map", "re");
	unsigned first, outside, count;
	bool mapped = false;

	while (f && !mapped && fscanf(f, "%u %u %u", &first, &outside, &count) == 3)
		mapped = uid - first < count;
	if (f)
		fclose(f);
	return mapped;
}

uid_t lan_server_user(const char *name)
{
	const uid_t own = USERS + lan_sum(name, (unsigned)strlen(name)) % USERS_LEN;

	if (geteuid())
		return (uid_t)-1;
	return is_mapped(own) ? own : is_mapped(NOBODY) ? NOBODY : (uid_t)-1;
}

static void fill(struct lan_serve *s, const struct lan_run *r)
{
	const struct lan_def *d = &r->def;
	const struct in6_addr local = { .s6_addr = { 0xfe, 0x80 } };

	memset(s, 0, sizeof(*s));
	snprintf(s->name, sizeof(s->name), "%s", d->name);
	snprintf(s->ifname, sizeof(s->ifname), "lan0");
	lan_server_own_mac(d->name, s->mac);
	s->uid = s->gid = lan_server_user(d->name);
	s->mtu = d->mtu;
	snprintf(s->domain, sizeof(s->domain), "%s", d->domain);
	s->dns = d->dns == LAN_DNS_OWN;
	s->forward = lan_has_gateway(d);
	s->alone = d->model == LAN_NAT;
	if (d->net4.len) {
		s->addr4 = in4(lan_server4(d));
		s->prefix4 = d->net4.len;
		s->dhcp4 = d->dhcp;
		s->first4 = in4(d->first4);
		s->last4 = in4(d->last4);
		if (lan_has_gateway(d))
			s->gateway4 = in4(lan_gateway4(d));
	}
	if (d->net6.len) {
		s->addr6 = lan_host6(&d->net6.addr, 2);
		s->prefix6 = d->net6.len;
		s->dhcp6 = d->dhcp;
		s->ra = true;
		s->slaac = true;
		s->first6 = lan_host6(&d->net6.addr, d->net4.len ? d->first4 - d->net4.addr : 3);
		s->last6 = lan_host6(&d->net6.addr, d->net4.len ? d->last4 - d->net4.addr : 0xffff);
		lan_bridge_mac(d->name, s->gateway_mac);
		if (lan_has_gateway(d))
			s->gateway6 = lan_eui64(&local, s->gateway_mac), s->router6 = lan_host6(&d->net6.addr, 1);
	}
	memcpy(s->old6, r->old6, sizeof(s->old6));
	s->old6_len = r->old6_len;
	s->ra |= s->old6_len > 0;
}

/* --- start --- */

int lan_server_join(struct lan *l, const struct lan_run *r, pid_t pid, struct err *err)
{
	struct rtnl *nl = &l->nl;
	char name[IFNAMSIZ], alias[RTNL_ALIAS];
	unsigned mtu = r->def.mtu;
	uint8_t mac[6], outer[6];
	int index;

	lan_server_own_mac(r->def.name, mac);
	lan_server_mac(r->def.name, outer);
	lan_server_name(&r->def, name);
	if (rtnl_add_veth(nl, &(struct rtnl_new){ .name = name, .mac = outer, .mtu = mtu },
			  &(struct rtnl_new){ .name = "lan0", .mac = mac, .mtu = mtu }, pid, err))
		return err_prefix(err, "interface %s", name);
	index = (int)if_nametoindex(name);
	lan_mark(&l->store, r->def.name, alias);
	if (rtnl_set_alias(nl, index, alias, err) || rtnl_set_master(nl, index, (int)if_nametoindex(r->bridge), err) ||
	    rtnl_set_up(nl, index, true, err))
		return err_prefix(err, "interface %s", name);
	return 0;
}

struct join {
	struct lan *l;
	const struct lan_run *r;
};

static int join(void *opaque, pid_t pid, struct err *err)
{
	const struct join *j = opaque;

	return lan_server_join(j->l, j->r, pid, err);
}

/* Leases are in a directory that is the server's own: all else in ours is believed. */
static int make_own(struct lan_serve *s, const char *dir, struct err *err)
{
	struct stat st;

	if ((mkdir(dir, 0700) && errno != EEXIST) || lstat(dir, &st) ||
	    (s->uid != (uid_t)-1 && lchown(dir, s->uid, s->gid)))
		return err_errno(err, errno, "%s", dir);
	if (!S_ISDIR(st.st_mode) ||
	    snprintf(s->lease_path, sizeof(s->lease_path), "%s/leases", dir) >= (int)sizeof(s->lease_path))
		return err_set(err, "%s is no directory for leases", dir);
	return 0;
}

/* They outlive a boot, or where that cannot be the process. */
static int make_leases(struct lan *l, struct lan_serve *s, struct err *err)
{
	char dir[2 * LAN_PATH];
	struct err why;

	lan_keep_remove(&l->store, s->name, LAN_KEPT_DNSMASQ);
	lan_keep_path(&l->store, s->name, LAN_KEPT_OWN, dir);
	if (!lan_keep_prepare(&l->store, s->name, &why) && !make_own(s, dir, &why))
		return 0;
	log_line(LOG_WARN, "lan", "network %s: its leases will not outlive a boot: %s", s->name, why.msg);
	lan_run_path(&l->store, s->name, "server", dir, sizeof(dir));
	return make_own(s, dir, err);
}

static int make_paths(struct lan *l, struct lan_serve *s, struct err *err)
{
	if (lan_run_path(&l->store, s->name, CONTROL, s->control_path, sizeof(s->control_path)) ||
	    lan_run_path(&l->store, s->name, "server.log", s->log_path, sizeof(s->log_path)))
		return err_set(err, "%s: the path is too long for a socket", l->store.run);
	/* Of one that is there no more, whatever still holds its socket. */
	unlink(s->control_path);
	return make_leases(l, s, err);
}

static bool is_plugged(struct lan *l, const struct lan_run *r)
{
	const struct rtnl_link *k;
	struct rtnl_links links;
	char name[IFNAMSIZ];
	struct err ignored;
	bool yes;

	if (rtnl_links(&l->nl, &links, &ignored))
		return false;
	lan_server_name(&r->def, name);
	k = rtnl_find(&links, name);
	yes = k && k->master == (int)if_nametoindex(r->bridge) && k->flags & IFF_UP;
	rtnl_links_free(&links);
	return yes;
}

/* Whether the one of `now` is told what this one would be: then it hears of the machines, and goes on. */
static bool goes_on(struct lan *l, const struct lan_run *r, const struct lan_run *now)
{
	struct lan_serve is, was;
	struct err ignored;

	if (!now->up || !lan_has_server(&r->def) || r->def.dns == LAN_DNS_DNSMASQ || !is_plugged(l, r))
		return false;
	fill(&is, r);
	fill(&was, now);
	return !memcmp(&is, &was, sizeof(is)) && !lan_server_hosts(l, r, &ignored);
}

/* The same router as before is what the next server says: nobody has to forget it. */
static bool has_router(const struct lan_def *d)
{
	return lan_has_server(d) && lan_has_gateway(d) && d->net6.len;
}

int lan_server_start(struct lan *l, const struct lan_run *r, const struct lan_run *now, struct err *err)
{
	struct join j = { l, r };
	struct lan_serve s;
	struct lan_host *hosts;
	int rc = -1;

	if (goes_on(l, r, now))
		return 0;
	lan_server_stop(l, r, has_router(&r->def));
	lan_server_unplug(l, r);
	if (!lan_has_server(&r->def))
		return 0;
	if (r->def.dns == LAN_DNS_DNSMASQ)
		return lan_dnsmasq_start(l, r, err);
	fill(&s, r);
	hosts = lan_known_hosts(&r->def, &r->ports, &s.hosts_len);
	s.hosts = hosts;
	if (!hosts)
		err_set(err, "out of memory");
	else if (!make_paths(l, &s, err))
		rc = lan_serve_start(&s, &(struct lan_serve_attach){ join, &j }, err) < 0 ? -1 : 0;
	free(hosts);
	return rc;
}

/* --- the control socket --- */

/* -1 with EAGAIN: so many wait for it to take them that nobody else can; it is there, and hangs. */
static int dial(struct lan *l, const char *name)
{
	const struct timeval patience = { .tv_sec = PATIENCE_MS / 1000 };
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd, why;

	errno = 0;
	if (lan_run_path(&l->store, name, CONTROL, a.sun_path, sizeof(a.sun_path)))
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (!connect(fd, (struct sockaddr *)&a, sizeof(a)) && !fcntl(fd, F_SETFL, 0))
		return fd;
	why = errno;
	close(fd);
	errno = why;
	return -1;
}

static int pidfd_open(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* The process at the other end, as the kernel knows it. */
static pid_t peer(int fd)
{
	struct ucred c = { 0 };
	socklen_t len = sizeof(c);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &len) ? 0 : c.pid;
}

/* Its socket may be there a while longer: on a busy host the kernel takes it down some time after the kill. */
static bool has_ended(pid_t pid)
{
	struct pollfd p = { .fd = pid > 1 ? pidfd_open(pid) : -1, .events = POLLIN };
	bool ended = p.fd < 0 ? pid > 1 && errno == ESRCH : poll(&p, 1, 0) > 0;

	if (p.fd >= 0)
		close(p.fd);
	return ended;
}

/* One line. NULL with errno; 0: the other end has closed. */
static char *read_line(int fd, size_t *len)
{
	char *text = NULL, *v;
	size_t size = 0;
	ssize_t n;

	*len = 0;
	do {
		if (*len + 4096 > size) {
			size = size ? 2 * size : 8192;
			v = size <= ANSWER_MOST ? realloc(text, size) : NULL;
			if (!v)
				break;
			text = v;
		}
		n = read(fd, text + *len, size - *len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		*len += (size_t)n;
		if (text[*len - 1] == '\n')
			return text;
	} while (true);
	free(text);
	return NULL;
}

json_t *lan_server_ask(struct lan *l, const char *name, const char *what, json_t *args, struct err *err)
{
	json_t *ask = json_pack("{s:s}", "execute", what), *answer = NULL, *result = NULL;
	char *text = NULL, why[JSONPARSE_ERROR];
	int fd = dial(l, name);
	size_t len;

	if (args)
		json_object_set_new(ask, "arguments", args);
	if (fd < 0) {
		err_set(err, "network %s: its server does not run", name);
		goto out;
	}
	text = json_dumps(ask, JSON_COMPACT);
	if (!text || send(fd, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text) ||
	    send(fd, "\n", 1, MSG_NOSIGNAL) != 1) {
		err_set(err, "network %s: its server does not listen", name);
		goto out;
	}
	free(text);
	text = read_line(fd, &len);
	answer = text ? jsonparse(text, len, why) : NULL;
	result = json_incref(json_object_get(answer, "return"));
	if (!answer)
		err_set(err, "network %s: its server does not answer", name);
	else if (!result)
		err_set(err, "network %s: %s", name,
			json_string_value(json_object_get(json_object_get(answer, "error"), "desc")));
out:
	if (fd >= 0)
		close(fd);
	free(text);
	json_decref(ask);
	json_decref(answer);
	return result;
}

bool lan_server_is_hidden(struct lan *l, const char *name)
{
	int fd = dial(l, name);
	bool hidden = fd >= 0 && !peer(fd);

	if (fd >= 0)
		close(fd);
	return hidden;
}

/* Whether there is one that has heard the question. */
static bool has_asked(int fd)
{
	static const char stats[] = "{\"execute\":\"stats\"}\n";

	return fd >= 0 && !has_ended(peer(fd)) && send(fd, stats, sizeof(stats) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) > 0;
}

static void hang_up(struct pollfd *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

void lan_servers_ask(struct lan *l, const struct lan_names *names, struct lan_names *answering,
		     struct lan_names *hanging)
{
	struct pollfd *p = calloc(names->len + 1, sizeof(*p));
	const int64_t until = now_ms() + PATIENCE_MS;
	unsigned left = 0;
	int64_t ms;
	char answer;

	for (unsigned i = 0; p && i < names->len; i++) {
		p[i] = (struct pollfd){ .fd = dial(l, names->v[i]), .events = POLLIN };
		if (p[i].fd < 0 && errno == EAGAIN)
			lan_names_add(hanging, names->v[i]);
		if (has_asked(p[i].fd))
			left++;
		else
			hang_up(&p[i]);
	}
	/* What has come by then is heard, however long it took to ask all. */
	while (left && (ms = until - now_ms(), poll(p, names->len, ms > 0 ? (int)ms : 0)) > 0) {
		for (unsigned i = 0; i < names->len; i++) {
			if (p[i].fd < 0 || !p[i].revents)
				continue;
			if (recv(p[i].fd, &answer, 1, MSG_DONTWAIT) > 0)
				lan_names_add(answering, names->v[i]);
			hang_up(&p[i]);
			left--;
		}
	}
	for (unsigned i = 0; i < names->len && left; i++)
		if (p[i].fd >= 0) {
			lan_names_add(hanging, names->v[i]);
			hang_up(&p[i]);
		}
	free(p);
}

int lan_server_hosts(struct lan *l, const struct lan_run *r, struct err *err)
{
	char mac[LAN_TEXTMAC], text[LAN_TEXT6];
	struct lan_host *hosts;
	json_t *list, *result;
	unsigned len;

	if (!lan_has_server(&r->def))
		return 0;
	if (r->def.dns == LAN_DNS_DNSMASQ)
		return lan_dnsmasq_hosts(l, r, err);
	hosts = lan_known_hosts(&r->def, &r->ports, &len);
	if (!hosts)
		return err_set(err, "out of memory");
	list = json_array();
	for (unsigned i = 0; i < len; i++) {
		json_t *o = json_pack("{s:s, s:s}", "mac", lan_text_mac(hosts[i].mac, mac), "name", hosts[i].name);

		if (hosts[i].addr4.s_addr)
			json_object_set_new(o, "address4",
					    json_string(lan_text4(be32toh(hosts[i].addr4.s_addr), text)));
		if (!lan_zero6(&hosts[i].addr6))
			json_object_set_new(o, "address6", json_string(lan_text6(&hosts[i].addr6, text)));
		json_array_append_new(list, o);
	}
	free(hosts);
	result = lan_server_ask(l, r->def.name, "hosts", json_pack("{s:o}", "hosts", list), err);
	json_decref(result);
	return result ? 0 : -1;
}

/* --- the end --- */

/*
 * By word, else by force; it serves no more when its end of the connection is gone. The kernel takes its sockets down
 * after that, which takes longer than all else: what can be done meanwhile is.
 */
void lan_server_stop(struct lan *l, const struct lan_run *r, bool replaced)
{
	const char *stop =
		replaced ? "{\"execute\":\"stop\",\"arguments\":{\"replaced\":true}}\n" : "{\"execute\":\"stop\"}\n";
	struct pollfd p = { .fd = dial(l, r->def.name), .events = POLLRDHUP };
	char rest[256];
	pid_t pid = p.fd < 0 ? 0 : peer(p.fd);

	if (p.fd >= 0 && !has_ended(pid)) {
		lan_server_await(l);
		l->leaving = pid > 1 ? pidfd_open(pid) : -1;
		if (send(p.fd, stop, strlen(stop), MSG_NOSIGNAL) < 0 || poll(&p, 1, PATIENCE_MS) <= 0) {
			if (pid > 1)
				kill(pid, SIGKILL);
			poll(&p, 1, PATIENCE_MS);
		}
		while (read(p.fd, rest, sizeof(rest)) > 0)
			;
	}
	if (p.fd >= 0)
		close(p.fd);
	lan_dnsmasq_stop(l, r);
}

void lan_server_kill(struct lan *l, const struct lan_run *r)
{
	struct pollfd p = { .fd = dial(l, r->def.name), .events = POLLRDHUP };
	const pid_t pid = p.fd < 0 ? 0 : peer(p.fd);

	if (pid > 1 && !kill(pid, SIGKILL))
		poll(&p, 1, PATIENCE_MS);
	if (p.fd >= 0)
		close(p.fd);
}

void lan_server_await(struct lan *l)
{
	struct pollfd p = { .fd = l->leaving, .events = POLLIN };

	if (l->leaving < 0)
		return;
	if (poll(&p, 1, PATIENCE_MS) <= 0) {
		syscall(SYS_pidfd_send_signal, l->leaving, SIGKILL, NULL, 0);
		poll(&p, 1, PATIENCE_MS);
	}
	close(l->leaving);
	l->leaving = -1;
}

void lan_server_unplug(struct lan *l, const struct lan_run *r)
{
	char name[IFNAMSIZ];
	struct err ignored;
	int index;

	/* The kernel removes it with the name space, some time later. */
	lan_server_name(&r->def, name);
	index = (int)if_nametoindex(name);
	if (index && lan_link_is_ours(l, name, r->def.name))
		rtnl_del_link(&l->nl, index, &ignored);
}
