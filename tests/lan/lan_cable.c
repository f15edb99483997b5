/*
 * A machine made of a name space, for the tests of the models: `lan_cable NETWORK VM MAC|- NETNS [trust]` gets a cable
 * of the network as a machine does, and carries frames between it and the tap eth0 of the name space with the path
 * NETNS until its standard input ends. Prints the MAC and the tap once it carries.
 *
 * A line "COUNT AT FRAME" makes it hostile: it sends the frame (hex) so often itself, as fast as the cable takes it,
 * its 4 bytes at AT another number each time, and prints how many were taken and in how many seconds.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lan/ip.h"
#include "lan/lan.h"
#include "lan/serve/frame.h"

#define FRAME_MOST (70 * 1024)

static int fail(const char *what)
{
	perror(what);
	return -1;
}

/* A tap with the machine's MAC in the other name space. */
static int open_inside(const char *path, const uint8_t mac[6], unsigned mtu)
{
	struct ifreq q = { .ifr_name = "eth0", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int ns = open(path, O_RDONLY), own = open("/proc/self/ns/net", O_RDONLY), fd, s;

	if (ns < 0 || setns(ns, CLONE_NEWNET))
		return fail(path);
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
	s = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &q))
		return fail("tap");
	q.ifr_hwaddr.sa_family = 1;
	memcpy(q.ifr_hwaddr.sa_data, mac, 6);
	if (ioctl(s, SIOCSIFHWADDR, &q))
		return fail("mac");
	q.ifr_mtu = (int)mtu;
	if (mtu && ioctl(s, SIOCSIFMTU, &q))
		return fail("mtu");
	close(s);
	if (setns(own, CLONE_NEWNET))
		return fail("own name space");
	return fd;
}

static void carry(int from, int to)
{
	static char frame[FRAME_MOST];
	ssize_t n = read(from, frame, sizeof(frame));

	if (n > 0 && write(to, frame, (size_t)n) < 0 && errno != EIO && errno != EAGAIN)
		perror("write");
}

/* --- the hostile machine --- */

#define HEAD  10u  /* of virtio-net, all zero: nothing is asked for */
#define TURNS 256u /* frames before it looks whether it shall end, and takes what was sent to it */

static struct {
	uint8_t b[HEAD + 65536];
	unsigned len, at;
	bool summed; /* IPv4 with the right checksum, which is kept right */
} storm;

static uint16_t sum_of_head(const uint8_t *ip)
{
	const unsigned len = (ip[0] & 15) * 4u;
	uint32_t sum = 0;

	for (unsigned i = 0; i < len; i += 2)
		sum += ld_be16(ip + i);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

static bool read_storm(const char *line, unsigned *count)
{
	const uint8_t *frame = storm.b + HEAD;
	int hex = 0;

	storm.len = 0;
	if (sscanf(line, "%u %u %n", count, &storm.at, &hex) < 2)
		return false;
	for (line += hex; storm.len < sizeof(storm.b) - HEAD && sscanf(line, "%2hhx", &storm.b[HEAD + storm.len]) == 1;
	     line += 2)
		storm.len++;
	storm.summed =
		storm.len >= FRAME_ETH + 60 && ld_be16(frame + 12) == 0x800 && sum_of_head(frame + FRAME_ETH) == 0xffff;
	return storm.at + 4 <= storm.len;
}

static void next_frame(void)
{
	uint8_t *frame = storm.b + HEAD;

	st_be32(frame + storm.at, ld_be32(frame + storm.at) + 1);
	if (storm.summed) {
		st_be16(frame + FRAME_ETH + 10, 0);
		st_be16(frame + FRAME_ETH + 10, (uint16_t)~sum_of_head(frame + FRAME_ETH));
	}
}

/* False: whoever has started it has ended. */
static bool send_storm(const char *line, struct pollfd p[3])
{
	struct timespec begin, end;
	unsigned count, taken = 0;

	if (!read_storm(line, &count))
		return false;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (unsigned n = 0; n < count; n++, next_frame()) {
		taken += write(p[0].fd, storm.b, HEAD + storm.len) > 0;
		if (n % TURNS || poll(p, 3, 0) <= 0)
			continue;
		if (p[2].revents)
			return false;
		for (unsigned i = 0; i < TURNS && (p[0].revents & POLLIN); i++) {
			carry(p[0].fd, p[1].fd);
			poll(p, 1, 0);
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%u %.3f\n", taken, (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
	fflush(stdout);
	return true;
}

int main(int argc, char **argv)
{
	struct lan_cable c = { .network = argv[1], .vm = argv[2], .queues = 1 };
	struct pollfd p[3] = { 0 };
	char text[LAN_TEXTMAC], *line = NULL;
	size_t size = 0;
	struct err err;

	c.trusted = argc == 6 && !strcmp(argv[5], "trust");
	if (argc < 5 || (strcmp(argv[3], "-") && !lan_parse_mac(argv[3], c.mac)))
		return 2;
	if (lan_attach(&c, &err)) {
		fprintf(stderr, "%s\n", err.msg);
		return 1;
	}
	p[0] = (struct pollfd){ .fd = c.fd[0], .events = POLLIN };
	p[1] = (struct pollfd){ .fd = open_inside(argv[4], c.mac, c.mtu), .events = POLLIN };
	p[2] = (struct pollfd){ .fd = 0, .events = POLLIN }; /* who started it has ended */
	if (p[1].fd < 0)
		return 1;
	printf("%s %s\n", lan_text_mac(c.mac, text), c.tap);
	fflush(stdout);
	while (poll(p, 3, -1) >= 0 || errno == EINTR) {
		if (p[0].revents & POLLIN)
			carry(p[0].fd, p[1].fd);
		if (p[1].revents & POLLIN)
			carry(p[1].fd, p[0].fd);
		if (p[2].revents && (getline(&line, &size, stdin) <= 0 || !send_storm(line, p)))
			return 0;
		if ((p[0].revents | p[1].revents) & (POLLERR | POLLHUP))
			return 0;
	}
	return 1;
}
