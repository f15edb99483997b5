/* See guest.h. */
#include "guest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "net/user.h"

uint32_t guest_net = 0x0a000200, guest_ip = 0x0a00020f;
struct net_peer *(*guest_make)(struct loop *loop, struct config *c, const char *prefix, struct err *err);

#define ETH  14
#define IP   20
#define TCP  20
#define UDP  8
#define FIN  1u
#define SYN  2u
#define RST  4u
#define PSH  8u
#define ACK  16u
#define WAIT 20000 /* ms */

/* The sanitizer's: libslirp 4.7 never frees the domain's name and the TFTP server's, and has its memory by glib. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libglib-2.0";
}

static uint32_t sum(const uint8_t *b, size_t len, uint32_t s)
{
	for (size_t k = 0; k < len; k++)
		s += (uint32_t)b[k] << (k & 1 ? 0 : 8);
	return s;
}

static uint16_t folded(uint32_t s)
{
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)s;
}

static uint32_t pseudo(const uint8_t *ip, size_t len)
{
	return sum(ip + 12, 8, ip[9] + (uint32_t)len);
}

/* --- sending --- */

void guest_raw(struct guest *g, const uint8_t *frame, size_t len)
{
	const struct net_offload none = { 0 };

	net_send(g->peer, frame, len, &none);
}

static void ethernet(struct guest *g, uint8_t *f, bool broadcast, uint16_t type)
{
	if (broadcast)
		memset(f, 0xff, 6);
	else
		memcpy(f, g->router_mac, 6);
	memcpy(f + 6, g->mac, 6);
	st_be16(f + 12, type);
}

static void internet(uint8_t *f, uint8_t protocol, uint32_t from, uint32_t to, size_t len)
{
	uint8_t *ip = f + ETH;

	memset(ip, 0, IP);
	ip[0] = 0x45;
	st_be16(ip + 2, (uint16_t)(IP + len));
	ip[8] = 64;
	ip[9] = protocol;
	st_be32(ip + 12, from);
	st_be32(ip + 16, to);
	st_be16(ip + 10, (uint16_t)~folded(sum(ip, IP, 0)));
}

void guest_udp(struct guest *g, uint16_t port, uint32_t ip, uint16_t peer_port, const void *data, size_t len)
{
	uint8_t f[2048], *u = f + ETH + IP;

	ethernet(g, f, ip == UINT32_MAX, 0x0800);
	internet(f, 17, ip == UINT32_MAX ? 0 : GUEST_IP, ip, UDP + len);
	st_be16(u, port);
	st_be16(u + 2, peer_port);
	st_be16(u + 4, (uint16_t)(UDP + len));
	st_be16(u + 6, 0);
	memcpy(u + UDP, data, len);
	st_be16(u + 6, (uint16_t)~folded(sum(u, UDP + len, pseudo(f + ETH, UDP + len))));
	guest_raw(g, f, ETH + IP + UDP + len);
}

/* Fills `f`; returns the frame's length. */
static size_t segment(struct guest *g, uint8_t *f, const struct conn *c, uint8_t flags, const void *data, size_t len)
{
	uint8_t *t = f + ETH + IP;

	ethernet(g, f, false, 0x0800);
	internet(f, 6, GUEST_IP, c->peer_ip, TCP + len);
	memset(t, 0, TCP);
	st_be16(t, c->port);
	st_be16(t + 2, c->peer_port);
	st_be32(t + 4, c->snd);
	st_be32(t + 8, flags & ACK ? c->rcv : 0);
	t[12] = TCP / 4 << 4;
	t[13] = flags;
	st_be16(t + 14, 65535);
	if (len)
		memcpy(t + TCP, data, len);
	st_be16(t + 16, (uint16_t)~folded(sum(t, TCP + len, pseudo(f + ETH, TCP + len))));
	return ETH + IP + TCP + len;
}

static void tcp(struct guest *g, struct conn *c, uint8_t flags, const void *data, size_t len)
{
	uint8_t f[2048];

	guest_raw(g, f, segment(g, f, c, flags, data, len));
	c->snd += (uint32_t)len + (flags & (SYN | FIN) ? 1 : 0);
}

/* --- receiving --- */

static void on_arp(struct guest *g, const uint8_t *a)
{
	uint8_t f[ETH + 28];

	if (ld_be16(a + 6) == 2 && ld_be32(a + 14) == HOST_IP) {
		memcpy(g->router_mac, a + 8, 6);
		g->router_known = true;
	}
	if (ld_be16(a + 6) != 1 || ld_be32(a + 24) != GUEST_IP)
		return;
	memcpy(f, a + 8, 6);
	memcpy(f + 6, g->mac, 6);
	st_be16(f + 12, 0x0806);
	memcpy(f + ETH, a, 28);
	st_be16(f + ETH + 6, 2);
	memcpy(f + ETH + 8, g->mac, 6);
	st_be32(f + ETH + 14, GUEST_IP);
	memcpy(f + ETH + 18, a + 8, 10);
	guest_raw(g, f, sizeof(f));
}

static void on_udp(struct guest *g, const uint8_t *ip, const uint8_t *u, size_t len)
{
	assert_true(len >= UDP && ld_be16(u + 4) == len);
	if (ld_be16(u + 6))
		assert_int_equal(folded(sum(u, len, pseudo(ip, len))), 0xffff);
	if (ld_be16(u + 2) == 68 && len - UDP <= sizeof(g->dhcp)) {
		memcpy(g->dhcp, u + UDP, len - UDP);
		g->dhcp_len = len - UDP;
		return;
	}
	assert_true(len - UDP <= sizeof(g->udp));
	memcpy(g->udp, u + UDP, len - UDP);
	g->udp_len = len - UDP;
	g->udp_ip = ld_be32(ip + 12);
	g->udp_port = ld_be16(u + 2);
	g->udp_peer_port = ld_be16(u);
}

static struct conn *find(struct guest *g, uint32_t ip, uint16_t port, uint16_t peer_port)
{
	for (unsigned n = 0; n < GUEST_CONNS; n++) {
		struct conn *c = &g->conn[n];

		if (c->used && c->peer_ip == ip && c->port == port && c->peer_port == peer_port)
			return c;
	}
	return NULL;
}

static struct conn *fresh(struct guest *g, uint32_t ip, uint16_t port, uint16_t peer_port)
{
	for (unsigned n = 0; n < GUEST_CONNS; n++) {
		struct conn *c = &g->conn[n];

		if (c->used)
			continue;
		*c = (struct conn){
			.used = true, .peer_ip = ip, .port = port, .peer_port = peer_port, .snd = 1000 * n + 1
		};
		return c;
	}
	fail_msg("too many connections");
	return NULL;
}

static void on_tcp(struct guest *g, const uint8_t *ip, const uint8_t *t, size_t len)
{
	size_t header = (t[12] >> 4) * 4u, n = len - header;
	uint32_t seq = ld_be32(t + 4), from = ld_be32(ip + 12);
	struct conn *c = find(g, from, ld_be16(t + 2), ld_be16(t));

	assert_true(len >= TCP && header >= TCP && header <= len);
	assert_int_equal(folded(sum(t, len, pseudo(ip, len))), 0xffff);
	if (t[13] & SYN && !(t[13] & ACK) && !c) {
		c = fresh(g, from, ld_be16(t + 2), ld_be16(t));
		c->rcv = seq + 1;
		tcp(g, c, SYN | ACK, NULL, 0);
		return;
	}
	if (!c)
		return;
	if (t[13] & RST) {
		c->reset = true;
		return;
	}
	if (t[13] & SYN) {
		c->rcv = seq + 1;
		c->established = true;
		tcp(g, c, ACK, NULL, 0);
		return;
	}
	c->established = true;
	if (seq != c->rcv)
		return; /* it comes again */
	if (n && c->data) {
		assert_true(c->len + n <= GUEST_DATA);
		memcpy(c->data + c->len, t + header, n);
	}
	c->len += n;
	c->rcv += (uint32_t)n;
	if (t[13] & FIN) {
		c->rcv++;
		c->fin = true;
	}
	if (n || t[13] & FIN)
		tcp(g, c, ACK, NULL, 0);
}

static bool receive(void *opaque, const uint8_t *f, size_t len, const struct net_offload *o)
{
	struct guest *g = opaque;
	const uint8_t *ip = f + ETH;
	size_t total;

	if (g->deaf)
		return false;
	g->frames++;
	assert_true(len >= ETH && len <= NET_FRAME_MAX);
	if (ld_be16(f + 12) == 0x0806)
		on_arp(g, ip);
	if (ld_be16(f + 12) != 0x0800)
		return true;
	total = ld_be16(ip + 2);
	assert_true(len >= ETH + IP && total <= len - ETH && total >= IP && ip[0] == 0x45);
	assert_int_equal(folded(sum(ip, IP, 0)), 0xffff);
	if (ip[9] == 17)
		on_udp(g, ip, ip + IP, total - IP);
	else if (ip[9] == 6)
		on_tcp(g, ip, ip + IP, total - IP);
	return true;
}

/* --- life --- */

bool guest_start(struct guest *g, struct err *err, ...)
{
	static const uint8_t mac[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };
	struct net_user_config u;
	const char *setting;
	char key[64];
	va_list ap;

	memset(g, 0, sizeof(*g));
	memcpy(g->mac, mac, 6);
	g->loop = loop_new(err);
	g->config = config_new();
	va_start(ap, err);
	while ((setting = va_arg(ap, const char *))) {
		const char *eq = strchr(setting, '=');

		snprintf(key, sizeof(key), "net0.%.*s", (int)(eq - setting), setting);
		assert_int_equal(config_set(g->config, key, eq + 1, err), 0);
	}
	va_end(ap);
	if (guest_make)
		g->peer = guest_make(g->loop, g->config, "net0", err);
	else
		g->peer = net_user_read(&u, g->config, "net0", err) ? NULL : net_slirp_new(g->loop, &u, err);
	if (!g->peer) {
		config_free(g->config);
		loop_free(g->loop);
		return false;
	}
	g->peer->receiver = (struct net_receiver){ receive, NULL, g };
	return true;
}

void guest_end(struct guest *g)
{
	for (unsigned n = 0; n < GUEST_CONNS; n++)
		free(g->conn[n].data);
	g->peer->ops->destroy(g->peer);
	loop_free(g->loop);
	config_free(g->config);
}

static void quit(void *opaque)
{
	loop_quit(opaque);
}

static void once(struct guest *g)
{
	loop_post(g->loop, quit, g->loop);
	loop_run(g->loop);
}

void guest_run(struct guest *g, int ms)
{
	do {
		once(g);
		usleep(1000);
	} while (ms-- > 0);
}

void guest_until(struct guest *g, bool (*fn)(void *opaque), void *opaque)
{
	for (int ms = 0; ms < WAIT; ms++) {
		once(g);
		if (fn(opaque))
			return;
		usleep(1000);
	}
	fail_msg("nothing happened in %d ms", WAIT);
}

/* --- protocols --- */

static bool router_known(void *opaque)
{
	return ((struct guest *)opaque)->router_known;
}

void guest_arp(struct guest *g)
{
	uint8_t f[ETH + 28] = { 0 }, *a = f + ETH;

	ethernet(g, f, true, 0x0806);
	memcpy(a, "\0\1\10\0\6\4\0\1", 8);
	memcpy(a + 8, g->mac, 6);
	st_be32(a + 14, GUEST_IP);
	st_be32(a + 24, HOST_IP);
	guest_raw(g, f, sizeof(f));
	guest_until(g, router_known, g);
}

static bool dhcp_answered(void *opaque)
{
	return ((struct guest *)opaque)->dhcp_len > 0;
}

void guest_dhcp(struct guest *g, uint8_t type)
{
	uint8_t b[300] = { 1, 1, 6, 0, 'x', 'i', 'd', '0' };

	memcpy(b + 28, g->mac, 6);
	memcpy(b + 236, "\x63\x82\x53\x63\x35\1", 6);
	b[242] = type;
	if (type == 3) {
		b[243] = 50;
		b[244] = 4;
		st_be32(b + 245, GUEST_IP);
		b[249] = 255;
	} else {
		b[243] = 255;
	}
	g->dhcp_len = 0;
	guest_udp(g, 68, UINT32_MAX, 67, b, sizeof(b));
	guest_until(g, dhcp_answered, g);
}

uint32_t guest_dhcp_option(const struct guest *g, uint8_t option)
{
	for (size_t at = 240; at + 2 <= g->dhcp_len && g->dhcp[at] != 255;) {
		uint8_t len = g->dhcp[at + 1];
		uint32_t v = 0;

		if (g->dhcp[at] == 0) {
			at++;
			continue;
		}
		assert_true(at + 2 + len <= g->dhcp_len);
		if (g->dhcp[at] == option) {
			for (unsigned k = 0; k < len && k < 4; k++)
				v = v << 8 | g->dhcp[at + 2 + k];
			return v;
		}
		at += 2u + len;
	}
	return 0;
}

struct conn *guest_connect(struct guest *g, uint32_t ip, uint16_t peer_port)
{
	static uint16_t port = 20000;
	struct conn *c = fresh(g, ip, port++, peer_port);

	tcp(g, c, SYN, NULL, 0);
	return c;
}

void guest_send(struct guest *g, struct conn *c, const void *data, size_t len)
{
	for (size_t done = 0, n; done < len; done += n) {
		n = len - done < 1400 ? len - done : 1400;
		tcp(g, c, ACK | PSH, (const char *)data + done, n);
	}
}

void guest_send_tso(struct guest *g, struct conn *c, const void *data, size_t len, uint16_t mss)
{
	const struct net_offload o = {
		.checksum = true,
		.csum_start = ETH + IP,
		.csum_offset = 16,
		.gso = NET_GSO_TCP4,
		.mss = mss,
	};
	static uint8_t f[NET_FRAME_MAX];
	size_t n = segment(g, f, c, ACK | PSH, data, len);

	/* A driver leaves the sum of the pseudo header here. */
	st_be16(f + ETH + IP + 16, folded(pseudo(f + ETH, TCP + len)));
	net_send(g->peer, f, n, &o);
	c->snd += (uint32_t)len;
}

void guest_close(struct guest *g, struct conn *c)
{
	tcp(g, c, FIN | ACK, NULL, 0);
}

struct conn *guest_accepted(struct guest *g, uint16_t port)
{
	for (unsigned n = 0; n < GUEST_CONNS; n++)
		if (g->conn[n].used && g->conn[n].port == port && g->conn[n].established)
			return &g->conn[n];
	return NULL;
}

struct awaited {
	struct guest *guest;
	uint16_t port;
};

static bool has_come(void *opaque)
{
	const struct awaited *a = opaque;

	return guest_accepted(a->guest, a->port);
}

struct conn *guest_comes(struct guest *g, uint16_t port)
{
	guest_until(g, has_come, &(struct awaited){ g, port });
	return guest_accepted(g, port);
}

unsigned guest_established(const struct guest *g)
{
	unsigned count = 0;

	for (unsigned n = 0; n < GUEST_CONNS; n++)
		count += g->conn[n].used && g->conn[n].established && !g->conn[n].reset;
	return count;
}

static bool established(void *opaque)
{
	return ((struct conn *)opaque)->established;
}

void guest_connected(struct guest *g, struct conn *c)
{
	guest_until(g, established, c);
}

struct amount {
	struct conn *c;
	size_t len;
};

static bool arrived(void *opaque)
{
	struct amount *a = opaque;

	return a->c->len >= a->len;
}

void guest_read(struct guest *g, struct conn *c, size_t len)
{
	guest_until(g, arrived, &(struct amount){ c, len });
}

/* --- sockets of the host --- */

int host_socket(int type, uint16_t *port)
{
	int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);

	a.sin_port = htons(*port);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*port = ntohs(a.sin_port);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 1024), 0);
	return fd;
}

struct waiting {
	int fd, got;
	void *buf;
	size_t len;
};

static bool can_accept(void *opaque)
{
	struct waiting *w = opaque;

	w->got = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	return w->got >= 0;
}

int host_accept(struct guest *g, int fd)
{
	struct waiting w = { .fd = fd };

	guest_until(g, can_accept, &w);
	return w.got;
}

static bool can_read(void *opaque)
{
	struct waiting *w = opaque;
	ssize_t n = recv(w->fd, (char *)w->buf + w->got, w->len - (size_t)w->got, 0);

	if (n > 0)
		w->got += (int)n;
	return (size_t)w->got == w->len || n == 0;
}

void host_read(struct guest *g, int fd, void *buf, size_t len)
{
	struct waiting w = { .fd = fd, .buf = buf, .len = len };

	guest_until(g, can_read, &w);
	assert_int_equal(w.got, len);
}

uint16_t free_port(int type)
{
	uint16_t port = 0;

	close(host_socket(type, &port));
	return port;
}

int host_begin(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_port = htons(port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	assert_true(!connect(fd, (struct sockaddr *)&a, sizeof(a)) || errno == EINPROGRESS);
	return fd;
}

int host_connect(const char *address, uint16_t port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };

	assert_int_equal(inet_pton(AF_INET, address, &a.sin_addr), 1);
	if (!connect(fd, (struct sockaddr *)&a, sizeof(a))) {
		assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
		return fd;
	}
	close(fd);
	return -1;
}

void allow_many_files(void)
{
	const struct rlimit files = { 4096, 4096 };

	setrlimit(RLIMIT_NOFILE, &files);
}

unsigned open_files(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static bool got_datagram(void *opaque)
{
	return ((struct guest *)opaque)->udp_len > 0;
}

void guest_hears(struct guest *g)
{
	guest_until(g, got_datagram, g);
}

void guest_asks(struct guest *g)
{
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	uint16_t port = 0;
	int fd = host_socket(SOCK_DGRAM, &port);
	char buf[64];
	ssize_t n = -1;

	guest_udp(g, 5555, HOST_IP, port, "ping", 4);
	for (int ms = 0; n < 0 && ms < 5000; ms++) {
		guest_run(g, 1);
		n = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len);
	}
	assert_int_equal(n, 4);
	assert_memory_equal(buf, "ping", 4);
	assert_int_equal(sendto(fd, "pong", 4, 0, (struct sockaddr *)&from, len), 4);
	guest_hears(g);
	assert_memory_equal(g->udp, "pong", 4);
	assert_true(g->udp_ip == HOST_IP && g->udp_port == 5555 && g->udp_peer_port == port);
	close(fd);
}

void guest_is_asked(struct guest *g, uint16_t port)
{
	const struct sockaddr_in to = { .sin_family = AF_INET,
					.sin_port = htons(port),
					.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	uint16_t own = 0;
	int fd = host_socket(SOCK_DGRAM, &own);
	char buf[8];

	/* No other one's answer. */
	assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(send(fd, "query", 5, 0), 5);
	guest_hears(g);
	assert_memory_equal(g->udp, "query", 5);
	assert_int_equal(g->udp_port, 53);
	guest_udp(g, 53, g->udp_ip, g->udp_peer_port, "answer", 6);
	host_read(g, fd, buf, 6);
	assert_memory_equal(buf, "answer", 6);
	close(fd);
}
