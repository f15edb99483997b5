/* What the user-mode network reads in frames beside libslirp, and says in its place. */
#include <netinet/tcp.h>
#include <string.h>

#include "base/bytes.h"
#include "net/user.h"

bool user_frame_supersedes(const uint8_t *f, size_t len, const uint8_t *old, size_t old_len)
{
	bool v6 = len == 74 && ld_be16(f + 12) == 0x86dd && f[20] == IPPROTO_TCP;
	bool v4 = len == 54 && ld_be16(f + 12) == 0x0800 && f[23] == IPPROTO_TCP;
	size_t addresses = v6 ? 22 : 26, tcp = len - 20, ack = tcp + 8;

	return (v6 || v4) && old_len == len && f[tcp + 13] == TH_ACK && old[tcp + 13] == TH_ACK &&
	       !memcmp(f + 12, old + 12, 2) && !memcmp(f + addresses, old + addresses, ack - addresses) &&
	       (int32_t)(ld_be32(f + ack) - ld_be32(old + ack)) > 0;
}

const uint8_t *user_frame_flow(const uint8_t *f, size_t len)
{
	return len >= 74 && ld_be16(f + 12) == 0x86dd && f[20] == IPPROTO_TCP ? f + 22 : NULL;
}

static uint16_t checksum(const uint8_t *p, size_t len, uint32_t sum)
{
	for (; len; p += 2, len -= 2)
		sum += ld_be16(p);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t) ~(sum + (sum >> 16));
}

void user_frame_reset(uint8_t f[USER_FRAME_RESET], struct in_addr guest, uint16_t port, const struct sockaddr_in *peer,
		      uint32_t seq)
{
	uint8_t *ip = f + 14, *tcp = ip + 20;

	memset(f, 0, USER_FRAME_RESET);
	st_be16(f + 12, 0x0800);
	ip[0] = 0x45;
	st_be16(ip + 2, 40);
	ip[8] = 64;
	ip[9] = IPPROTO_TCP;
	memcpy(ip + 12, &guest, 4);
	memcpy(ip + 16, &peer->sin_addr, 4);
	st_be16(ip + 10, checksum(ip, 20, 0));
	st_be16(tcp, port);
	st_be16(tcp + 2, ntohs(peer->sin_port));
	st_be32(tcp + 4, seq);
	tcp[12] = 5 << 4;
	tcp[13] = TH_RST;
	st_be16(tcp + 16, checksum(ip + 12, 28, IPPROTO_TCP + 20));
}
