/*
 * Taps of the kernel, with the test as guest on one side and packet sockets on the other, in a network of its own.
 * Where there is no /dev/net/tun, or no right to it, it is skipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "wire.h"

static struct err err;
static uint8_t frame[NET_FRAME_MAX];
static bool available;
static char dir[] = "/tmp/vireo-tap-XXXXXX";
#define NEEDS_TAP()                                                                                                    \
	do {                                                                                                           \
		if (!available)                                                                                        \
			skip();                                                                                        \
	} while (0)

#define open_tap(w, accepts, ...) wire_open(w, net_tap_new, accepts, &err, __VA_ARGS__)

static int open_tun(short flags, const char *name)
{
	struct ifreq r = { .ifr_flags = flags };
	int fd = open("/dev/net/tun", O_RDWR);

	strcpy(r.ifr_name, name);
	assert_int_equal(ioctl(fd, TUNSETIFF, &r), 0);
	return fd;
}

static void up(const char *name)
{
	struct ifreq r = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	strcpy(r.ifr_name, name);
	r.ifr_flags = IFF_UP | IFF_NOARP;
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &r), 0);
	close(fd);
}

/* What is on the interface, with headers that say what is left to do. */
static int packets(const char *name)
{
	struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL)), on = 1;

	assert_true(fd >= 0);
	a.sll_ifindex = (int)if_nametoindex(name);
	assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

#define IP	   0x0800
#define TCP	   6
#define UDP	   17
#define EXPERIMENT 0x88b5 /* of a protocol that no filter of the host looks into */

/* The next packet of that type, or with that protocol of IP, behind its header. */
static size_t next_of(int fd, uint8_t *b, uint16_t type)
{
	for (int ms = 0; ms < 2000; ms++) {
		ssize_t n = recv(fd, b, 10 + NET_FRAME_MAX, 0);

		if (n >= 10 + 54 &&
		    (ld_be16(b + 10 + 12) == type || (ld_be16(b + 10 + 12) == IP && b[10 + 23] == type)))
			return (size_t)n;
		if (n < 0)
			wire_run(0);
	}
	return 0;
}

static size_t next(int fd, uint8_t *b)
{
	return next_of(fd, b, TCP);
}

static uint8_t got[10 + NET_FRAME_MAX];

/* A frame of 60 KiB crosses whole, both ways, if the guest takes it; in segments if it does not. */
static void test_whole_frames(void **state)
{
	struct net_offload o;
	struct wire w;
	size_t len;
	int fd;

	NEEDS_TAP();
	assert_true(open_tap(&w, NET_CSUM | NET_TSO4 | NET_TSO6 | NET_ECN, "ifname=vt0", NULL));
	assert_int_equal(w.peer->takes & (NET_CSUM | NET_TSO4 | NET_TSO6 | NET_ECN),
			 NET_CSUM | NET_TSO4 | NET_TSO6 | NET_ECN);
	up("vt0");
	fd = packets("vt0");
	len = wire_tcp(frame, 60000, &o, 1400);
	for (int ecn = 0; ecn < 2; ecn++) {
		o.ecn = ecn;
		assert_true(net_send(w.peer, frame, len, &o));
		assert_int_equal(next(fd, got), 10 + len);
		assert_true(got[0] == 1 && got[1] == (ecn ? 0x81 : 1) && ld_le16(got + 4) == 1400);
		assert_memory_equal(got + 10 + 54, frame + 54, 60000);
	}
	/* The other way: the test is the host's stack. */
	memmove(got + 10, frame, len);
	memset(got, 0, 10);
	got[0] = 1;
	got[1] = 1;
	st_le16(got + 2, 54);
	st_le16(got + 4, 1400);
	st_le16(got + 6, 34);
	st_le16(got + 8, 16);
	for (int ecn = 0; ecn < 2; ecn++) {
		got[1] = ecn ? 0x81 : 1;
		w.frames = 0;
		assert_int_equal(send(fd, got, 10 + len, 0), 10 + len);
		wire_expect(&w, 1);
		assert_int_equal(w.len, len);
		assert_true(w.offload.checksum && w.offload.gso == NET_GSO_TCP4 && w.offload.mss == 1400);
		assert_int_equal(w.offload.ecn, ecn);
	}
	/* A guest that takes less gets it done. */
	net_set_guest(w.peer, 0, 1);
	w.frames = 0;
	assert_int_equal(send(fd, got, 10 + len, 0), 10 + len);
	wire_expect(&w, 43);
	assert_true(!w.offload.checksum && !w.offload.gso);
	close(fd);
	wire_end(&w);
	assert_int_equal(if_nametoindex("vt0"), 0);
}

/* A kernel that knows no segments of UDP gets them one by one. */
static void test_datagrams_for_an_old_kernel(void **state)
{
	const struct net_offload o = {
		.checksum = true, .csum_start = 34, .csum_offset = 6, .gso = NET_GSO_UDP, .mss = 1400
	};
	const size_t len = 42 + 3000;
	struct wire w;
	int fd;

	NEEDS_TAP();
	assert_true(open_tap(&w, 0, "ifname=vt12", NULL));
	w.peer->takes &= ~(unsigned)NET_USO;
	up("vt12");
	fd = packets("vt12");
	memset(frame, 0, len);
	memset(frame, 0xff, 6);
	memcpy(frame + 12, "\x08\0\x45", 3);
	frame[23] = 17;
	assert_true(net_send(w.peer, frame, len, &o));
	for (size_t done = 0; done < 3000; done += 1400) {
		size_t n = 3000 - done < 1400 ? 3000 - done : 1400;

		assert_int_equal(next_of(fd, got, UDP), 10 + 42 + n);
		assert_true(!got[0] && !got[1]);
		assert_int_equal(ld_be16(got + 10 + 38), 8 + n);
	}
	close(fd);
	wire_end(&w);
}

/* Headers that contradict their frames are the kernel's to refuse; the tap lives on. */
static void test_wrong_headers(void **state)
{
	const struct net_offload wrong[] = {
		{ .checksum = true, .csum_start = 65535, .csum_offset = 65535 },
		{ .checksum = true, .csum_start = 34, .csum_offset = 16, .gso = NET_GSO_TCP4, .mss = 0 },
		{ .checksum = true, .csum_start = 34, .csum_offset = 16, .gso = NET_GSO_TCP6, .mss = 1400 },
		{ .checksum = true, .csum_start = 34, .csum_offset = 16, .gso = NET_GSO_UDP, .mss = 1400 },
		{ .gso = NET_GSO_TCP4, .mss = 1400, .header = 65535 },
		{ .checksum = true,
		  .csum_start = 34,
		  .csum_offset = 16,
		  .gso = NET_GSO_TCP4,
		  .mss = 1400,
		  .header = 65535 },
	};
	struct net_offload o;
	struct wire w;
	size_t len;
	int fd;

	NEEDS_TAP();
	assert_true(open_tap(&w, 0, "ifname=vt1", NULL));
	up("vt1");
	fd = packets("vt1");
	len = wire_tcp(frame, 3000, &o, 1400);
	for (size_t k = 0; k < ARRAY_LEN(wrong); k++)
		assert_true(net_send(w.peer, frame, len, &wrong[k]));
	assert_true(net_send(w.peer, frame, 14, &(struct net_offload){ 0 }));
	assert_true(net_send(w.peer, frame, NET_FRAME_MAX, &(struct net_offload){ 0 }));
	frame[60] = 0x77;
	assert_true(net_send(w.peer, frame, 1400, &(struct net_offload){ 0 }));
	do
		assert_true(next(fd, got) > 0);
	while (got[10 + 60] != 0x77);
	close(fd);
	wire_end(&w);
}

/*
 * How long its headers are, a guest says as it likes. The kernel refuses more than the frame has, and puts so much in
 * one piece, of all 64 KiB without a word: then what is known of them.
 */
static void test_lengths_of_headers(void **state)
{
	static const struct {
		uint16_t said, in_one_piece; /* 0: the kernel's own choice */
	} cases[] = { { 65535, 0 }, { 1000, 1000 }, { 54, 54 }, { 20, 54 }, { 0, 54 } };
	struct net_offload o;
	struct wire w;
	size_t len;
	int fd;

	NEEDS_TAP();
	assert_true(open_tap(&w, 0, "ifname=vt11", NULL));
	up("vt11");
	fd = packets("vt11");
	len = wire_tcp(frame, 60000, &o, 1400);
	for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
		o.header = cases[k].said;
		assert_true(net_send(w.peer, frame, len, &o));
		assert_int_equal(next(fd, got), 10 + len);
		if (cases[k].in_one_piece)
			assert_int_equal(ld_le16(got + 2), cases[k].in_one_piece);
	}
	/* Of a checksum's place the kernel makes a length itself. */
	o.checksum = false;
	assert_true(net_send(w.peer, frame, len, &o));
	assert_int_equal(next(fd, got), 10 + len);
	assert_int_equal(ld_le16(got + 2), 54);
	close(fd);
	wire_end(&w);
}

/* A program of the tap's that leaves so many bytes of each frame. False: the kernel has no such programs. */
static bool cut_frames(int tap, int len)
{
	const struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = len },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr a = { .prog_type = BPF_PROG_TYPE_SOCKET_FILTER, .insn_cnt = ARRAY_LEN(code) };
	int program, rc;

	a.insns = (uintptr_t)code;
	a.license = (uintptr_t) "";
	program = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &a, sizeof(a));
	if (program < 0)
		return false;
	rc = ioctl(tap, TUNSETFILTEREBPF, &program);
	close(program);
	return !rc;
}

/* What comes without an Ethernet header is no frame, and no reason to wait. */
static void test_short_frames(void **state)
{
	struct net_offload o;
	char text[32];
	struct wire w;
	size_t len;
	int fd, tap;

	NEEDS_TAP();
	tap = open_tun(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, "vt12");
	snprintf(text, sizeof(text), "fd=%d", tap);
	assert_true(open_tap(&w, 0, text, NULL));
	up("vt12");
	fd = packets("vt12");
	len = wire_tcp(got + 10, 100, &o, 0);
	memset(got, 0, 10);
	for (int n = 1; n <= 15; n++) {
		if (!cut_frames(tap, n)) {
			print_message("skipped: taps have no programs here\n");
			skip();
		}
		w.frames = 0;
		assert_int_equal(send(fd, got, 10 + len, 0), 10 + len);
		wire_run(2);
		assert_int_equal(w.frames, n >= 14);
	}
	assert_int_equal(w.len, 15);
	close(fd);
	wire_end(&w);
}

#define QUEUES	    3
#define CONNECTIONS 64

/* Frames of many connections to the guest; the queues that they come by, as a mask. */
static unsigned queues_of_connections(struct wire *w, int fd)
{
	struct net_offload o;
	size_t len = wire_tcp(got + 10, 100, &o, 0);
	unsigned used = 0, frames = 0;

	memset(got, 0, 10);
	for (unsigned k = 0; k < QUEUES; k++)
		w[k].frames = 0;
	for (uint16_t k = 0; k < CONNECTIONS; k++) {
		st_be16(got + 10 + 34, k);
		assert_int_equal(send(fd, got, 10 + len, 0), 10 + len);
	}
	wire_run(20);
	for (unsigned k = 0; k < QUEUES; k++) {
		frames += w[k].frames;
		used |= w[k].frames ? 1u << k : 0;
	}
	assert_int_equal(frames, CONNECTIONS);
	return used;
}

/* As many queues as the guest uses: frames come by none of the others, and are not lost there. */
static void test_queues(void **state)
{
	struct wire w[QUEUES];
	struct net_offload o;
	struct net_peer *p;
	unsigned n = 0;
	size_t len;
	int fd;

	NEEDS_TAP();
	assert_true(open_tap(&w[0], 0, "ifname=vt2", "queues=3", NULL));
	for (p = w[0].peer; p; p = p->next, n++) {
		assert_true(n < QUEUES);
		memset(&w[n], 0, sizeof(w[n]));
		w[n].peer = p;
		p->receiver.opaque = &w[n];
	}
	assert_int_equal(n, QUEUES);
	up("vt2");
	fd = packets("vt2");
	len = wire_tcp(frame, 100, &o, 0);
	for (n = 0; n < QUEUES; n++) {
		assert_true(net_send(w[n].peer, frame, len, &o));
		assert_int_equal(next(fd, got), 10 + len);
	}
	assert_int_equal(queues_of_connections(w, fd), 7);
	net_set_guest(w[0].peer, 0, 1);
	assert_int_equal(queues_of_connections(w, fd), 1);
	net_set_guest(w[0].peer, 0, 2);
	assert_int_equal(queues_of_connections(w, fd), 3);
	net_set_guest(w[0].peer, 0, 3);
	assert_int_equal(queues_of_connections(w, fd), 7);
	close(fd);
	wire_end(&w[0]);
}

static bool send_mark(struct net_peer *p, uint8_t mark)
{
	memset(frame, mark, 200);
	memcpy(frame, "\x52\0\0\0\0\1\x52\0\0\0\0\2", 12); /* not to all: the bridge makes no copies */
	st_be16(frame + 12, EXPERIMENT);
	return net_send(p, frame, 200, &(struct net_offload){ 0 });
}

/* The host has no room: frames wait with the guest until there is some, are not lost, and nothing turns in a circle. */
static void fill_host(short header)
{
	const int room = 8192;
	char text[32];
	struct wire w;
	int tap, other, fd;
	uint8_t k = 0;

	tap = open_tun(IFF_TAP | IFF_NO_PI | header, "vt9");
	other = open_tun(IFF_TAP | IFF_NO_PI, "vt10");
	if (system("ip link add vbr9 type bridge mcast_snooping 0 && "
		   "ip link set vt9 master vbr9 && ip link set vt10 master vbr9 && "
		   "ip link set vbr9 up && ip link set vt9 up && ip link set vt10 up && "
		   "tc qdisc add dev vt10 root tbf rate 100kbit burst 1600 limit 10000")) {
		print_message("skipped: no bridge, or no qdisc that delays\n");
		skip();
	}
	/* What waits in the other tap's queue is what this one's descriptor has written. */
	assert_int_equal(ioctl(tap, TUNSETSNDBUF, &room), 0);
	snprintf(text, sizeof(text), "fd=%d", tap);
	assert_true(open_tap(&w, 0, text, NULL));
	fd = packets("vt10");
	while (send_mark(w.peer, k))
		if (++k == 100)
			fail_msg("there is room for everything");
	assert_true(k > 0);
	assert_int_equal(w.writables, 0);
	for (unsigned ms = 0; !w.writables; ms++) {
		assert_true(ms < 5000);
		wire_run(0);
	}
	assert_true(send_mark(w.peer, k));
	for (uint8_t n = 0; n <= k; n++) {
		assert_int_equal(next_of(fd, got, EXPERIMENT), 10 + 200);
		assert_int_equal(got[10 + 60], n);
	}
	wire_run(5);
	assert_int_equal(w.writables, 1);
	assert_true(wire_sleeps());
	assert_int_equal(w.frames, 0);
	close(fd);
	wire_end(&w);
	close(other);
	assert_int_equal(system("ip link del vbr9"), 0);
}

static void test_a_full_host(void **state)
{
	NEEDS_TAP();
	fill_host(IFF_VNET_HDR);
	fill_host(0);
}

static bool in_order(void *opaque, const uint8_t *f, size_t len, const struct net_offload *o)
{
	struct wire *w = opaque;

	if (w->deaf)
		return false;
	assert_int_equal(ld_be16(f + 12), IP);
	assert_int_equal(f[60], w->frames++);
	return true;
}

/* Frames wait with the kernel while the guest has no buffers, and come in order. */
static void test_a_deaf_guest(void **state)
{
	struct net_offload o;
	struct wire w;
	size_t len;
	int fd;

	NEEDS_TAP();
	assert_true(open_tap(&w, 0, "ifname=vt3", NULL));
	up("vt3");
	fd = packets("vt3");
	wire_run(20);
	len = wire_tcp(frame, 100, &o, 0);
	memset(got, 0, 10);
	memcpy(got + 10, frame, len);
	w.peer->receiver.receive = in_order;
	w.deaf = true;
	w.frames = 0;
	for (uint8_t k = 0; k < 20; k++) {
		got[10 + 60] = k;
		assert_int_equal(send(fd, got, 10 + len, 0), 10 + len);
	}
	wire_run(20);
	assert_int_equal(w.frames, 0);
	w.deaf = false;
	w.peer->ops->ready(w.peer);
	wire_expect(&w, 20);
	close(fd);
	wire_end(&w);
}

/* Whoever has made it for one queue is told what to do. */
static void test_too_few_queues(void **state)
{
	struct wire w;
	int tap;

	NEEDS_TAP();
	tap = open_tun(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, "vt8");
	assert_int_equal(ioctl(tap, TUNSETPERSIST, 1), 0);
	close(tap);
	assert_false(open_tap(&w, 0, "ifname=vt8", "queues=2", NULL));
	assert_non_null(strstr(err.msg, "net0.queues: the tap 'vt8' was made for one queue; make it with several"));
	assert_true(open_tap(&w, 0, "ifname=vt8", NULL));
	/* Also while it is in use. */
	assert_false(open_tap(&(struct wire){ 0 }, 0, "ifname=vt8", "queues=2", NULL));
	assert_non_null(strstr(err.msg, "net0.queues: the tap 'vt8' was made for one queue"));
	wire_end(&w);
}

/* Interfaces of other kinds, and names that none can have, are told from taps. */
static void test_what_is_no_tap(void **state)
{
	static const char *const cases[][3] = {
		{ "ifname=lo", NULL, "net0.ifname: the interface 'lo' is no tap" },
		{ "ifname=lo", "queues=2", "net0.ifname: the interface 'lo' is no tap" },
		{ "ifname=vtun", NULL, "net0.ifname: the interface 'vtun' is no tap" },
		{ "ifname=a/b", NULL, "net0.ifname: 'a/b' is not a name that an interface can have" },
	};
	int tun;

	NEEDS_TAP();
	tun = open_tun(IFF_TUN | IFF_NO_PI, "vtun");
	for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
		assert_false(open_tap(&(struct wire){ 0 }, 0, cases[k][0], cases[k][1], NULL));
		if (!strstr(err.msg, cases[k][2]))
			fail_msg("case %zu: %s", k, err.msg);
	}
	close(tun);
}

static void test_passed_descriptors(void **state)
{
	struct net_offload o;
	char text[32];
	struct wire w;
	size_t len;
	int fd, tap;

	NEEDS_TAP();
	/* Without the header, everything is done here. */
	tap = open_tun(IFF_TAP | IFF_NO_PI, "vt4");
	up("vt4");
	fd = packets("vt4");
	snprintf(text, sizeof(text), "fd=%d", tap);
	assert_true(open_tap(&w, NET_CSUM | NET_TSO4, text, NULL));
	assert_int_equal(w.peer->takes, 0);
	len = wire_tcp(frame, 14000, &o, 1400);
	assert_true(net_send(w.peer, frame, len, &o));
	for (unsigned k = 0; k < 10; k++) {
		assert_int_equal(next(fd, got), 10 + 1454);
		assert_memory_equal(got + 10 + 54, frame + 54 + 1400 * k, 1400);
	}
	wire_end(&w);
	close(fd);
	/* Several. */
	tap = open_tun(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE, "vt5");
	snprintf(text, sizeof(text), "fds=%d:%d", tap,
		 open_tun(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE, "vt5"));
	assert_true(open_tap(&w, 0, text, NULL));
	assert_true(w.peer->next && !w.peer->next->next);
	wire_end(&w);
	/* What may wait in the kernel has the bound that is said. */
	tap = open_tun(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, "vt4");
	snprintf(text, sizeof(text), "fd=%d", tap);
	assert_true(open_tap(&w, 0, text, "sndbuf=100k", NULL));
	assert_return_code(ioctl(tap, TUNGETSNDBUF, &fd), errno);
	assert_int_equal(fd, 100 << 10);
	wire_end(&w);
	/* Those of one tap, and no others. */
	tap = open_tun(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, "vt4");
	fd = open_tun(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, "vt5");
	snprintf(text, sizeof(text), "fds=%d:%d", tap, fd);
	assert_false(open_tap(&w, 0, text, NULL));
	assert_non_null(strstr(err.msg, " is a queue of vt5, and the first one of vt4"));
	assert_int_equal(fcntl(tap, F_GETFD) + fcntl(fd, F_GETFD), -2); /* they were taken */
	/* What is no tap. */
	tap = open_tun(IFF_TUN | IFF_NO_PI, "vt6");
	snprintf(text, sizeof(text), "fd=%d", tap);
	assert_false(open_tap(&w, 0, text, NULL));
	assert_int_equal(fcntl(tap, F_GETFD), -1); /* it was taken */
	snprintf(text, sizeof(text), "fd=%d", open("/dev/null", O_RDWR));
	assert_false(open_tap(&w, 0, text, NULL));
}

static int delete_link(const char *name)
{
	char command[64];

	snprintf(command, sizeof(command), "ip link delete %s", name);
	return system(command);
}

/* Somebody deletes the interface: the cable is out, whatever waits is lost, and the loop sleeps. */
static void test_a_deleted_tap(void **state)
{
	struct net_dump_config d = { .name = "net0", .path = "deleted", .maxlen = 100 };
	struct net_offload o;
	struct wire w;
	size_t len;

	NEEDS_TAP();
	assert_true(open_tap(&w, NET_CSUM, "ifname=vt8", "queues=3", NULL));
	w.peer = net_dump_new(w.peer, &d, &err);
	assert_string_equal(w.peer->interface, "vt8");
	wire_attach(&w, w.peer, NET_CSUM);
	unlink("deleted");
	up("vt8");
	net_set_guest(w.peer, NET_CSUM, 2);
	wire_run(5);
	assert_int_equal(w.unplugged, 0);
	assert_int_equal(delete_link("vt8"), 0);
	wire_run(5);
	assert_int_equal(w.unplugged, 1);
	len = wire_tcp(frame, 100, &o, 0);
	for (struct net_peer *p = w.peer; p; p = p->next) {
		assert_true(net_send(p, frame, len, &o));
		if (p->ops->ready)
			p->ops->ready(p);
	}
	net_set_guest(w.peer, 0, 3);
	net_set_guest(w.peer, 0, 1);
	assert_true(wire_sleeps());
	assert_int_equal(w.unplugged, 1);
	wire_end(&w);
}

static void script(const char *path, const char *what)
{
	FILE *f = fopen(path, "w");

	fprintf(f, "#!/bin/sh\n%s\n", what);
	fclose(f);
	chmod(path, 0755);
}

static void test_scripts(void **state)
{
	char text[200] = "";
	sigset_t set;
	struct wire w;
	int log;

	NEEDS_TAP();
	script("ifup", "echo \"$1 up\" >if.log");
	script("ifdown", "echo \"$1 down\" >>if.log");
	assert_true(open_tap(&w, 0, "ifname=vt7", "script=./ifup", "downscript=./ifdown", NULL));
	wire_end(&w);
	assert_int_equal(system("grep -qx 'vt7 up' if.log && grep -qx 'vt7 down' if.log"), 0);
	/* Their signals are not those of a machine, which takes them by its loop. */
	script("ifup", "grep -Eq '^SigBlk:.0+$' /proc/self/status && "
		       "grep -Eq '^SigIgn:.0{7}[01][08]0{7}$' /proc/self/status"); /* 32 and 33 are the C library's */
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (!open_tap(&w, 0, "ifname=vt7", "script=./ifup", NULL))
		fail_msg("%s", err.msg);
	wire_end(&w);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	signal(SIGPIPE, SIG_DFL);
	script("ifup", "exit 3");
	log = memfd_create("log", MFD_CLOEXEC);
	log_set_fd(log);
	assert_false(open_tap(&w, 0, "ifname=vt7", "script=./ifup", NULL));
	assert_non_null(strstr(err.msg, "net0.script: ./ifup vt7 has ended with status 3"));
	assert_int_equal(if_nametoindex("vt7"), 0);
	/* Said once: as the error, and what fails at the end in the log. */
	assert_int_equal(pread(log, text, sizeof(text) - 1, 0), 0);
	assert_true(open_tap(&w, 0, "ifname=vt7", "downscript=./ifup", NULL));
	wire_end(&w);
	log_set_fd(2);
	assert_true(pread(log, text, sizeof(text) - 1, 0) > 0);
	assert_string_equal(text, "vireo: warning: net: net0: ./ifup vt7 has ended with status 3\n");
	close(log);
	assert_true(open_tap(&w, 0, "script=no", NULL));
	assert_int_not_equal(if_nametoindex("tap0"), 0);
	wire_end(&w);
	unlink("ifup");
	unlink("ifdown");
	unlink("if.log");
}

static void put_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* The helper gives a tap of a bridge that its rules allow, and of no other, by whatever name. */
static void test_helper(void **state)
{
	static const struct {
		const char *rules, *bridge;
		bool given;
	} cases[] = {
		{ "allow vbr0\n", "vbr0", true },
		{ "# comment\n\nallow all\n", "vbr0", true },
		{ "", "vbr0", false },
		{ "allow vbr1\n", "vbr0", false },
		{ "allow all\ndeny vbr0\n", "vbr0", false },
		{ "deny all\nallow vbr0\n", "vbr0", false },
		{ "include nothing\n", "vbr0", false },
		{ "include rules\n", "vbr0", false },
		{ "allow\n", "vbr0", false },
		{ "permit vbr0\n", "vbr0", false },
		/* Words that are not read are not there in vain. */
		{ "allow all\ndeny vbr1 vbr0\n", "vbr0", false },
		{ "allow vbr0 vbr1\n", "vbr0", false },
		{ "allow all\r\ndeny vbr0\r\n", "vbr0", false },
		{ "allow vbr0 # one of them\r\n", "vbr0", true },
		{ "allow #vbr0\n", "vbr0", false },
		/* Files are beside the one that includes them, not where the caller is. */
		{ "include here\n", "vbr0", false },
		{ "include more\n", "vbr0", true },
		{ "include ../here\n", "vbr0", true },
		/* A bridge has one name. */
		{ "allow all\ndeny vbr0\n", "vbr0:1", false },
		{ "allow all\ndeny vbr0\n", "other0", false },
		{ "allow all\n", "other0", false },
		{ "allow vbr0:1\n", "vbr0:1", false },
		/* Those of networks have filters, which this tap is not known to. */
		{ "allow all\n", "vr-x", false },
		{ "allow all\n", "vbr2", false },
		{ "allow vr-x\n", "vr-x", true },
		{ "allow vbr2\n", "vbr2", true },
		{ "allow all\n", "lo", false },
		{ "allow all\n", "vbr0123456789012345", false },
		{ "allow all\n", "none0", false },
	};
	char helper[300];
	struct wire w;

	NEEDS_TAP();
	if (!getenv("VIREO_BRIDGE_HELPER") || system("ip link add vbr0 type bridge")) {
		print_message("skipped: no helper, or no bridge\n");
		skip();
	}
	assert_int_equal(system("ip link property add dev vbr0 altname other0 && ip link add vr-x type bridge && "
				"ip link add vbr2 type bridge && ip link set vbr2 alias vireo:lab@0123 && "
				"ip link set vbr0 mtu 1400"),
			 0);
	chmod(".", 0755);
	mkdir("etc", 0755);
	script("helper", "exec \"$VIREO_BRIDGE_HELPER\" --rules=etc/rules \"$@\"");
	snprintf(helper, sizeof(helper), "helper=%s/helper", dir);
	put_file("here", "allow vbr0\n");
	put_file("more", "deny all\n");
	put_file("etc/more", "allow vbr0\n");
	for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
		char bridge[100];

		snprintf(bridge, sizeof(bridge), "bridge=%s", cases[k].bridge);
		put_file("etc/rules", cases[k].rules);
		if (open_tap(&w, 0, bridge, helper, NULL) != cases[k].given)
			fail_msg("rules %zu: %s", k, err.msg);
		if (!cases[k].given)
			continue;
		assert_int_equal(w.peer->takes & NET_TSO4, NET_TSO4);
		/* A port with the bridge's MTU, and an address that the bridge does not take. */
		snprintf(bridge, sizeof(bridge), "ip -br link show master %s | grep -q '^tap.* fe:'", cases[k].bridge);
		assert_int_equal(system(bridge), 0);
		snprintf(bridge, sizeof(bridge), "ip link show master %s | grep -q 'tap.* mtu %d '", cases[k].bridge,
			 strcmp(cases[k].bridge, "vbr0") ? 1500 : 1400);
		assert_int_equal(system(bridge), 0);
		wire_end(&w);
	}
	assert_int_equal(
		system("rm -r helper here more etc && ip link del vbr0 && ip link del vr-x && ip link del vbr2"), 0);
}

static void test_wrong_words(void **state)
{
	static const char *const cases[][3] = {
		{ "ifname=a-name-that-is-too-long", NULL, "is longer than 15" },
		{ "fd=9", "ifname=x", "net0.fd: a tap that is open" },
		{ "fd=x", NULL, "net0.fd: 'x' is not a list" },
		{ "fds=9:", NULL, "net0.fds: '9:' is not a list" },
		{ "fd=1", NULL, "net0.fd: descriptor 1 is standard input, output or error, and no tap" },
		{ "fd=9", "queues=2", "net0.queues: each descriptor is a queue, and there are 1" },
		{ "fds=9:8", "queues=1", "net0.queues: each descriptor is a queue, and there are 2" },
		{ "fds=9:8:7:6:5:4:3:10:11", NULL, "more than 8" },
		{ "bridge=br0", "script=x", "the helper names the tap" },
		{ "helper=x", NULL, "a helper needs a bridge" },
		{ "bridge=br0", "queues=2", "a tap of the helper has one" },
		{ "queues=9", NULL, "net0.queues" },
		{ "fds=9:8:9", NULL, "net0.fds: descriptor 9 is there twice" },
		{ "bridge=br0", "helper=/bin/false", "has not given a tap of br0" },
	};

	/* The last one starts a program, which is not this host's under qemu-user. */
	for (size_t k = 0; k < ARRAY_LEN(cases) - !available; k++) {
		struct wire w;

		assert_false(open_tap(&w, 0, cases[k][0], cases[k][1], NULL));
		if (!strstr(err.msg, cases[k][2]))
			fail_msg("case %zu: %s", k, err.msg);
	}
}

/* Interfaces say nothing themselves, as they would by IPv6. */
static void be_quiet(void)
{
	static const char *const files[] = { "/proc/sys/net/ipv6/conf/all/disable_ipv6",
					     "/proc/sys/net/ipv6/conf/default/disable_ipv6" };

	for (size_t n = 0; n < ARRAY_LEN(files); n++) {
		int fd = open(files[n], O_WRONLY);

		if (fd >= 0 && write(fd, "1", 1) < 0)
			print_message("%s: %s\n", files[n], strerror(errno));
		close(fd);
	}
}

static int group_begin(void **state)
{
	int fd;

	if (!mkdtemp(dir) || chdir(dir))
		return -1;
	wire_loop = loop_new(&err);
	available = !wire_emulated() && wire_own_network();
	if (available)
		be_quiet();
	fd = open("/dev/net/tun", O_RDWR);
	if (fd < 0 || ioctl(fd, TUNGETIFF, &(struct ifreq){ 0 }) == 0 || errno != EBADFD) {
		print_message("skipped: /dev/net/tun cannot be used here\n");
		available = false;
	}
	if (fd >= 0)
		close(fd);
	return 0;
}

static int group_end(void **state)
{
	loop_free(wire_loop);
	return chdir("/") || rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_frames),
		cmocka_unit_test(test_datagrams_for_an_old_kernel),
		cmocka_unit_test(test_wrong_headers),
		cmocka_unit_test(test_lengths_of_headers),
		cmocka_unit_test(test_short_frames),
		cmocka_unit_test(test_queues),
		cmocka_unit_test(test_a_full_host),
		cmocka_unit_test(test_a_deaf_guest),
		cmocka_unit_test(test_a_deleted_tap),
		cmocka_unit_test(test_scripts),
		cmocka_unit_test(test_passed_descriptors),
		cmocka_unit_test(test_wrong_words),
		cmocka_unit_test(test_too_few_queues),
		cmocka_unit_test(test_what_is_no_tap),
		cmocka_unit_test(test_helper),
	};

	return cmocka_run_group_tests(tests, group_begin, group_end);
}
