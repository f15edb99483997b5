/* The process of serve.h: frames, time, the end. */
#include "lan/serve/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "lan/serve/dns.h"
#include "lan/serve/iface.h"
#include "lan/serve/impl.h"
#include "lan/serve/jail.h"
#include "lan/serve/ra.h"

#define TURN	     64 /* frames before the loop does something else */
#define LEASE_S	     3600u
#define DHCP4_SERVER 67
#define DHCP6_SERVER 547
/* Requests of one machine, and of all that the network does not know together; a boot takes about ten. */
#define MAC_PER_S     20u
#define MAC_BURST     40u
#define UNKNOWN_PER_S 200u
#define UNKNOWN_BURST 400u
#define SAVE_MS	      1000
#define SAVE_RETRY_MS 5000

void server_clock(struct server *v)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	v->now_ms = t.tv_sec * 1000ll + t.tv_nsec / 1000000;
	v->now = v->start_s + (v->now_ms - v->start_ms) / 1000;
}

/* --- the file of leases --- */

/* Give up all but the directory of leases, and open that. */
static int give_up(struct server *v, struct err *err)
{
	char dir[sizeof(v->s.lease_path)];
	char *slash = strrchr(v->s.lease_path, '/');

	v->lease_dir = -1;
	if (!*v->s.lease_path)
		return jail_rights(&v->s, "", err);
	if (!slash || !slash[1])
		return err_set(err, "'%s' is no absolute path of a file of leases", v->s.lease_path);
	v->lease_name = slash + 1;
	snprintf(dir, sizeof(dir), "%.*s", slash > v->s.lease_path ? (int)(slash - v->s.lease_path) : 1,
		 v->s.lease_path);
	if (jail_rights(&v->s, dir, err))
		return -1;
	v->lease_dir = open(JAIL_LEASES, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return v->lease_dir < 0 ? err_errno(err, errno, "%s", dir) : 0;
}

static void load_leases(struct server *v)
{
	const struct lease_file f = { .dir = v->lease_dir, .name = v->lease_name };
	unsigned bad;

	if (v->lease_dir < 0)
		return;
	if (leases_load(v->l4, v->l6, &f, v->now, &bad))
		log_line(LOG_WARN, "lan", "%s: its leases cannot be read: %s", v->s.name, strerror(errno));
	else if (bad)
		log_line(LOG_WARN, "lan", "%s: %u lines of its leases are wrong and were passed over", v->s.name, bad);
}

static void save_leases(struct server *v)
{
	struct lease_file f = { .dir = v->lease_dir, .name = v->lease_name };
	int64_t pause = SAVE_MS;
	struct leases_count n;
	struct timespec t;

	for (unsigned k = 0; k < 2; k++) {
		struct leases *l = k ? v->l6 : v->l4;

		if (!l)
			continue;
		v->unsaved |= leases_changed(l);
		leases_count(l, &n);
		pause += n.bound;
	}
	if (v->lease_dir < 0 || !v->unsaved || v->now_ms - v->saved_ms < pause)
		return;
	/* Somebody may have set it since the start; the next one goes by what it is by then. */
	clock_gettime(CLOCK_REALTIME, &t);
	f.ahead = t.tv_sec - v->now;
	v->saved_ms = v->now_ms;
	v->unsaved = false;
	v->n.saves++;
	if (!leases_save(v->l4, v->l6, &f))
		return;
	v->n.save_errors++;
	v->unsaved = true;
	v->saved_ms += SAVE_RETRY_MS;
	log_guest("lan", "%s: its leases cannot be written: %s", v->s.name, strerror(errno));
}

/* --- frames --- */

static void send_out(struct server *v)
{
	if (!v->out.len)
		return;
	if (send(v->packets, v->out.b, v->out.len, MSG_DONTWAIT) < 0)
		v->n.unsent++;
	else
		v->n.sent++;
}

static bool is_known(const struct server *v, const uint8_t mac[6])
{
	return (v->l4 && leases_knows(v->l4, mac)) || (v->l6 && leases_knows(v->l6, mac));
}

/* Whether it is this machine's turn: a flood costs who makes it. */
static bool has_turn(struct server *v, const uint8_t mac[6])
{
	uint64_t h = lan_hash(&v->key, mac, 6);

	if (is_known(v, mac))
		return bucket_take(&v->known[h % MAC_BUCKETS], v->now_ms, MAC_PER_S, MAC_BURST);
	return bucket_take(&v->unknown[h % (MAC_BUCKETS / 16)], v->now_ms, MAC_PER_S, MAC_BURST) &&
	       bucket_take(&v->strangers, v->now_ms, UNKNOWN_PER_S, UNKNOWN_BURST);
}

static void handle(struct server *v, const uint8_t *frame, size_t len, bool summed)
{
	struct frame_in in;
	unsigned type = 0;

	v->n.frames++;
	if (!has_turn(v, frame + 6)) {
		v->n.limited++;
		mute_note(&v->mute, frame + 6);
		return;
	}
	v->out.len = 0;
	if (!frame_parse(frame, len, summed, &in)) {
		v->n.malformed++;
		return;
	}
	if (in.proto == IPPROTO_ICMPV6 && v->s.ra && ra_is_solicitation(&in)) {
		v->n.solicitations++;
		v->n.advertisements++;
		ra_make(&v->s, v->mac, in.mac, false, &v->out);
		type = 1;
	} else if (in.proto == IPPROTO_UDP && !in.v6 && in.dport == DHCP4_SERVER && v->s.dhcp4) {
		type = dhcp4_handle(&v->c4, &in, v->now, &v->out);
		v->n.dhcp4[type % ARRAY_LEN(v->n.dhcp4)]++;
	} else if (in.proto == IPPROTO_UDP && in.v6 && in.dport == DHCP6_SERVER && v->s.dhcp6) {
		type = dhcp6_handle(&v->c6, &in, v->now, &v->out);
		v->n.dhcp6[type % ARRAY_LEN(v->n.dhcp6)]++;
	}
	v->n.malformed += !type;
	send_out(v);
}

/* Whether the frame came with a tag, which is of another network, or without a sum. */
static void read_aux(struct msghdr *m, bool *tagged, bool *summed)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		struct tpacket_auxdata aux;

		if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA)
			continue;
		memcpy(&aux, CMSG_DATA(c), sizeof(aux));
		*tagged = aux.tp_status & TP_STATUS_VLAN_VALID;
		*summed = aux.tp_status & (TP_STATUS_CSUMNOTREADY | TP_STATUS_CSUM_VALID);
	}
}

static void on_packets(void *opaque, int fd, uint32_t events)
{
	static uint8_t frame[FRAME_MAX + 4];
	struct server *v = opaque;

	server_clock(v);
	for (unsigned n = 0; n < TURN; n++) {
		char aux[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
		struct iovec iov = { frame, sizeof(frame) };
		struct msghdr m = {
			.msg_iov = &iov, .msg_iovlen = 1, .msg_control = aux, .msg_controllen = sizeof(aux)
		};
		bool tagged = false, summed = false;
		ssize_t len = recvmsg(fd, &m, MSG_DONTWAIT);

		if (len < 0)
			break;
		read_aux(&m, &tagged, &summed);
		if (len >= (ssize_t)FRAME_ETH && !tagged && !(m.msg_flags & MSG_TRUNC))
			handle(v, frame, (size_t)len, summed);
	}
	save_leases(v);
}

/* What the kernel has thrown away because we did not come to it. */
static void count_dropped(struct server *v)
{
	struct tpacket_stats st;
	socklen_t len = sizeof(st);

	if (!getsockopt(v->packets, SOL_PACKET, PACKET_STATISTICS, &st, &len))
		v->n.dropped += st.tp_drops;
}

/* --- time --- */

static void advertise(struct server *v, bool end)
{
	ra_make(&v->s, v->mac, NULL, end, &v->out);
	v->n.advertisements++;
	send_out(v);
}

/* The interface is gone: whoever has taken the network down cannot say so where its files are lost. */
static bool is_unplugged(int fd)
{
	struct sockaddr_ll a = { 0 };
	socklen_t len = sizeof(a);

	return !getsockname(fd, (struct sockaddr *)&a, &len) && a.sll_ifindex <= 0;
}

static void on_timer(void *opaque, int fd, uint32_t events)
{
	struct server *v = opaque;
	uint64_t expired;

	if (read(fd, &expired, sizeof(expired)) < 0)
		return;
	if (is_unplugged(v->packets)) {
		loop_quit(v->loop);
		return;
	}
	server_clock(v);
	if (v->l4)
		leases_expire(v->l4, v->now);
	if (v->l6)
		leases_expire(v->l6, v->now);
	save_leases(v);
	count_dropped(v);
	mute_tick(&v->mute);
	if (v->dns)
		dns_tick(v->dns);
	while (v->s.old6_len && v->s.old6[v->s.old6_len - 1].until <= v->now)
		v->s.old6_len--;
	if (v->s.ra && v->now >= v->next_ra_s) {
		advertise(v, false);
		v->next_ra_s = v->now + (++v->ras < RA_FIRSTS ? RA_FIRST_S : RA_EVERY_S);
	}
}

static void on_end(void *opaque, int fd, uint32_t events)
{
	struct server *v = opaque;
	char byte;

	/* Only the end of `stop` is one. */
	if (read(fd, &byte, 1) <= 0)
		loop_quit(v->loop);
}

static void on_signal(void *opaque, int fd, uint32_t events)
{
	loop_quit(((struct server *)opaque)->loop);
}

/* --- the beginning --- */

static bool is_domain(const char *d)
{
	while (*d) {
		size_t len = strcspn(d, ".");
		char name[LAN_NAME_MAX + 1], label[LAN_NAME_MAX + 1];

		if (!len || len > LAN_NAME_MAX || (d[len] && !d[len + 1]))
			return false;
		snprintf(name, sizeof(name), "%.*s", (int)len, d);
		if (!lease_label(name, label) || strcasecmp(name, label))
			return false;
		d += len + (d[len] == '.');
	}
	return true;
}

static int check(const struct lan_serve *s, struct err *err)
{
	static const struct in6_addr none;

	if (s->prefix4 > 30 || (s->dhcp4 && !s->prefix4))
		return err_set(err, "%s: a network of /%u has no room for machines", s->name, s->prefix4);
	if (s->prefix6 > 126)
		return err_set(err, "%s: a network of /%u has no room for machines", s->name, s->prefix6);
	if (!is_domain(s->domain))
		return err_set(err, "%s: '%s' is no domain", s->name, s->domain);
	if (s->dhcp4 && !addr_same_net(addr_of4(s->addr4), addr_of4(s->first4), s->prefix4))
		return err_set(err, "%s: the range of addresses is not of the network", s->name);
	if (s->dhcp6 && memcmp(&s->first6, &none, 16) &&
	    !addr_same_net(addr_of6(&s->addr6), addr_of6(&s->first6), s->prefix6))
		return err_set(err, "%s: the range of IPv6 addresses is not of the network", s->name);
	return 0;
}

static int make_leases(struct server *v, struct err *err)
{
	const struct lan_serve *s = &v->s;
	const struct leases_config c4 = { .first = addr_of4(s->first4),
					  .last = addr_of4(s->last4),
					  .own = { addr_of4(s->addr4), addr_of4(s->gateway4) },
					  .net = addr_of4(s->addr4),
					  .bits = s->prefix4,
					  .lease_s = s->lease_s };
	const struct leases_config c6 = { .first = addr_of6(&s->first6),
					  .last = addr_of6(&s->last6),
					  .own = { addr_of6(&s->addr6), addr_of6(&s->router6) },
					  .net = addr_of6(&s->addr6),
					  .bits = s->prefix6,
					  .lease_s = s->lease_s };

	if (s->dhcp4 && !(v->l4 = leases_new(&c4, err)))
		return err_prefix(err, "%s", s->name);
	if (s->dhcp6 && !addr_any(c6.first) && !(v->l6 = leases_new(&c6, err)))
		return err_prefix(err, "%s", s->name);
	if (v->l4 && v->l6)
		leases_pair(v->l4, v->l6);
	return 0;
}

int server_set_hosts(struct server *v, const struct lan_host *h, unsigned len, struct err *err)
{
	if ((v->l4 && leases_check_hosts(v->l4, h, len, err)) || (v->l6 && leases_check_hosts(v->l6, h, len, err)))
		return -1;
	if (v->l4)
		leases_set_hosts(v->l4, h, len, v->now);
	if (v->l6)
		leases_set_hosts(v->l6, h, len, v->now);
	return 0;
}

static int make_watches(struct server *v, int stop, struct err *err)
{
	const struct itimerspec second = { { 1, 0 }, { 0, 1000000 } };
	sigset_t set;
	int signals;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	v->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (signals < 0 || v->timer < 0 || timerfd_settime(v->timer, 0, &second, NULL))
		return err_errno(err, errno, "%s", v->s.name);
	v->packets_watch = loop_fd_add(v->loop, v->packets, EPOLLIN, on_packets, v, err);
	v->timer_watch = loop_fd_add(v->loop, v->timer, EPOLLIN, on_timer, v, err);
	v->signal_watch = loop_fd_add(v->loop, signals, EPOLLIN, on_signal, v, err);
	if (stop >= 0 && !(v->stop_watch = loop_fd_add(v->loop, stop, EPOLLIN, on_end, v, err)))
		return -1;
	return v->packets_watch && v->timer_watch && v->signal_watch ? 0 : -1;
}

static int open_log(const struct lan_serve *s, struct err *err)
{
	int fd = *s->log_path ? open(s->log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644) : STDERR_FILENO;

	if (fd < 0)
		return err_errno(err, errno, "%s", s->log_path);
	log_set_fd(fd);
	return 0;
}

static int begin(struct server *v, struct forward *f, int stop, struct err *err)
{
	const struct lan_host *h = v->s.hosts;
	const struct sock_filter *filter;
	unsigned index, len;

	if (check(&v->s, err) || open_log(&v->s, err) || make_leases(v, err) ||
	    iface_get(v->s.ifname, &index, v->mac, err))
		return -1;
	v->s.hosts = NULL;
	if (server_set_hosts(v, h, v->s.hosts_len, err))
		return err_prefix(err, "%s", v->s.name);
	v->c4 = (struct dhcp4_config){ .serve = &v->s, .leases = v->l4 };
	v->c6 = (struct dhcp6_config){ .serve = &v->s, .leases = v->l6 };
	memcpy(v->c4.mac, v->mac, 6);
	memcpy(v->c6.mac, v->mac, 6);
	v->packets = iface_open(&v->s, index, err);
	v->loop = v->packets < 0 ? NULL : loop_new(err);
	filter = iface_filter(&len);
	mute_init(&v->mute, v->packets, MUTE_MAC, filter, len);
	if (!v->loop || make_watches(v, stop, err))
		return -1;
	if (*v->s.control_path && !(v->control = lan_control_new(v, err)))
		return -1;
	if (v->s.dns && !(v->dns = dns_new(v, f, err)))
		return -1;
	if (give_up(v, err))
		return -1;
	load_leases(v);
	return jail_calls(err);
}

static void say_ready(int fd, const char *line, size_t len)
{
	if (fd < 0)
		return;
	if (write(fd, line, len) < 0)
		log_line(LOG_WARN, "lan", "nobody waits for the servers");
	close(fd);
}

int serve(const struct lan_serve *s, struct forward *f, int ready, int stop, struct err *err)
{
	struct server *v = calloc(1, sizeof(*v));
	struct timespec t;

	if (!v)
		return err_set(err, "out of memory");
	v->s = *s;
	v->s.lease_s = s->lease_s ? s->lease_s : LEASE_S;
	v->key = lan_key_new();
	clock_gettime(CLOCK_REALTIME, &t);
	v->start_s = t.tv_sec;
	server_clock(v);
	v->start_ms = v->now_ms;
	v->now = v->start_s;
	v->saved_ms = v->now_ms - SAVE_MS;
	if (begin(v, f, stop, err)) {
		say_ready(ready, err->msg, strlen(err->msg));
		return -1; /* what is open ends with the process */
	}
	say_ready(ready, "", 1);
	loop_run(v->loop);

	server_clock(v);
	if (v->s.ra && !v->replaced)
		advertise(v, true);
	v->saved_ms = INT64_MIN / 2;
	save_leases(v);
	/* Whoever has asked for the end waits for no more than this. */
	if (v->control)
		lan_control_hang_up(v->control);
	return 0;
}
