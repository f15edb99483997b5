/*
 * The user-mode network: frames of any content, with addresses, lengths and checksums mended so that they get far. In a
 * network name space of its own where that is allowed; addressed to this machine in any case.
 */
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "net/user.h"

#define HOST 0x0a000202u

static bool receive(void *opaque, const uint8_t *frame, size_t len, const struct net_offload *o)
{
	unsigned *left = opaque;

	if (len > NET_FRAME_MAX)
		abort();
	return *left ? (--*left, true) : false;
}

static uint16_t sum(const uint8_t *b, size_t len, uint32_t s)
{
	for (size_t k = 0; k < len; k++)
		s += (uint32_t)b[k] << (k & 1 ? 0 : 8);
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

static void mend_v4(uint8_t *f, size_t len, uint8_t how)
{
	uint8_t *ip = f + 14;
	size_t ihl = (ip[0] & 15u) * 4, left = len - 14;

	st_be32(ip + 16, HOST);
	if (how & 1)
		ip[0] = (uint8_t)(0x40 | (ihl >= 20 && ihl <= left ? ihl / 4 : 5));
	ihl = (ip[0] & 15u) * 4;
	if (how & 2)
		st_be16(ip + 2, (uint16_t)left);
	if (how & 4)
		st_be16(ip + 6, ld_be16(ip + 6) & 0x4000);
	if (how & 8)
		st_be32(ip + 12, 0x0a00020f);
	if (how & 16 && ihl + 20 <= left && ip[9] == 6) {
		uint8_t *t = ip + ihl;

		if (how & 32)
			t[12] = 0x50;
		st_be16(t + 16, 0);
		st_be16(t + 16, sum(t, left - ihl, (uint16_t)~sum(ip + 12, 8, 6 + (uint32_t)(left - ihl))));
	}
	if (how & 16 && ihl + 8 <= left && ip[9] == 17)
		st_be16(ip + ihl + 6, 0);
	if (how & 32 && ihl + 8 <= left && ip[9] == 17)
		st_be16(ip + ihl + 4, (uint16_t)(left - ihl));
	if (ihl <= left) {
		st_be16(ip + 10, 0);
		st_be16(ip + 10, sum(ip, ihl, 0));
	}
}

static void mend_v6(uint8_t *f, size_t len, uint8_t how)
{
	static const uint8_t host[16] = { 0xfe, 0xc0, [15] = 2 };

	memcpy(f + 38, host, 16);
	if (how & 1)
		f[14] = 0x60;
	if (how & 2)
		st_be16(f + 18, (uint16_t)(len - 54));
}

static void send_frame(struct net_peer *peer, const uint8_t *data, size_t len, uint8_t kind, uint8_t how)
{
	static uint8_t f[4096 + 14];
	const struct net_offload none = { 0 };

	if (len < 28)
		return;
	memcpy(f + 14, data, len);
	memcpy(f, "\x52\x55\x0a\0\2\2\x52\x54\0\x12\x34\x56", 12);
	st_be16(f + 12, kind % 4 == 0 ? 0x0806 : kind % 4 == 1 ? 0x86dd : 0x0800);
	len += 14;
	if (kind % 4 >= 2 && len >= 34)
		mend_v4(f, len, how);
	else if (kind % 4 == 1 && len >= 54)
		mend_v6(f, len, how);
	else if (kind % 4 != 0)
		return;
	net_send(peer, f, len, &none);
}

static void quit(void *opaque)
{
	loop_quit(opaque);
}

static void own_network(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd;

	if (unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET))
		return;
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (ioctl(fd, SIOCSIFFLAGS, &lo))
		perror("lo");
	close(fd);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	own_network();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err;
	struct loop *loop = loop_new(&err);
	struct net_user_config u = { .name = "net0" };
	struct net_peer *peer = net_slirp_new(loop, &u, &err);
	unsigned room = size ? data[0] : 0;

	if (!peer)
		abort();
	peer->receiver = (struct net_receiver){ receive, NULL, &room };
	while (size >= 4) {
		size_t len = ld_le16(data) % 2048;

		if (len > size - 4)
			len = size - 4;
		send_frame(peer, data + 4, len, data[2], data[3]);
		data += 4 + len;
		size -= 4 + len;
		loop_post(loop, quit, loop);
		loop_run(loop);
	}
	peer->ops->destroy(peer);
	loop_free(loop);
	return 0;
}
