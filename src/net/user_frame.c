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

#define ETH 14
#define IP4 20
#define IP6 40
#define TCP 20

#define ECHO_REQUEST	       128
#define NEIGHBOR_SOLICITATION  135
#define NEIGHBOR_ADVERTISEMENT 136

enum user_frame_kind user_frame_kind(const uint8_t *f, size_t len)
{
	bool v4 = len >= ETH + IP4 && ld_be16(f + 12) == 0x0800, v6 = len >= ETH + IP6 && ld_be16(f + 12) == 0x86dd;
	size_t l4 = v4 ? ETH + (f[ETH] & 15u) * 4 : ETH + IP6;
	uint8_t protocol = v4 ? f[23] : v6 ? f[20] : 0;

	if (len >= ETH && ld_be16(f + 12) == 0x0806)
		return USER_FRAME_NEIGHBOR;
	if (protocol == IPPROTO_UDP || (v4 && protocol == IPPROTO_ICMP) ||
	    (v6 && protocol == IPPROTO_ICMPV6 && l4 < len && f[l4] == ECHO_REQUEST))
		return USER_FRAME_DATAGRAM;
	if (protocol == IPPROTO_TCP && l4 + TCP <= len && (f[l4 + 13] & (TH_SYN | TH_ACK)) == TH_SYN)
		return USER_FRAME_SYN;
	if (v6 && protocol == IPPROTO_ICMPV6 && l4 < len &&
	    (f[l4] == NEIGHBOR_SOLICITATION || f[l4] == NEIGHBOR_ADVERTISEMENT))
		return USER_FRAME_NEIGHBOR;
	return USER_FRAME_OTHER;
}

bool user_frame_answers_neighbor(const uint8_t *f, size_t len)
{
	return user_frame_kind(f, len) == USER_FRAME_NEIGHBOR &&
	       (ld_be16(f + 12) == 0x0806 ? len >= ETH + 8 && f[ETH + 7] == 2 : f[ETH + IP6] == NEIGHBOR_ADVERTISEMENT);
}

static void map(uint8_t address[16], const void *v4)
{
	memset(address, 0, 10);
	memset(address + 10, 0xff, 2);
	memcpy(address + 12, v4, 4);
}

static bool is_mapped(const uint8_t address[16])
{
	uint8_t same[16];

	map(same, address + 12);
	return !memcmp(same, address, sizeof(same));
}

void user_flow_set(struct user_flow *w, struct in_addr guest, uint16_t port, const struct sockaddr_in *peer)
{
	map(w->guest, &guest);
	map(w->peer, &peer->sin_addr);
	st_be16(w->ports, port);
	st_be16(w->ports + 2, ntohs(peer->sin_port));
}

bool user_frame_flow(struct user_flow *w, const uint8_t *f, size_t len)
{
	bool v6 = len >= ETH + IP6 + TCP && ld_be16(f + 12) == 0x86dd && f[20] == IPPROTO_TCP;
	bool v4 = len >= ETH + IP4 + TCP && ld_be16(f + 12) == 0x0800 && f[ETH] == 0x45 && f[23] == IPPROTO_TCP;

	if (v6) {
		memcpy(w, f + 22, sizeof(*w));
	} else if (v4) {
		map(w->guest, f + 26);
		map(w->peer, f + 30);
		memcpy(w->ports, f + 34, 4);
	}
	return v4 || v6;
}

static uint16_t checksum(const uint8_t *p, size_t len, uint32_t sum)
{
	for (; len; p += 2, len -= 2)
		sum += ld_be16(p);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t) ~(sum + (sum >> 16));
}

size_t user_frame_reset(uint8_t f[USER_FRAME_RESET], const struct user_flow *w, uint32_t seq)
{
	bool v4 = is_mapped(w->guest) && is_mapped(w->peer);
	size_t addresses = v4 ? 8 : 32;
	uint8_t *ip = f + ETH, *tcp = ip + (v4 ? IP4 : IP6);

	memset(f, 0, USER_FRAME_RESET);
	st_be16(f + 12, v4 ? 0x0800 : 0x86dd);
	if (v4) {
		ip[0] = 0x45;
		st_be16(ip + 2, IP4 + TCP);
		ip[8] = 64;
		ip[9] = IPPROTO_TCP;
		memcpy(ip + 12, w->guest + 12, 4);
		memcpy(ip + 16, w->peer + 12, 4);
		st_be16(ip + 10, checksum(ip, IP4, 0));
	} else {
		ip[0] = 0x60;
		st_be16(ip + 4, TCP);
		ip[6] = IPPROTO_TCP;
		ip[7] = 64;
		memcpy(ip + 8, w, 32);
	}
	memcpy(tcp, w->ports, 4);
	st_be32(tcp + 4, seq);
	tcp[12] = TCP / 4 << 4;
	tcp[13] = TH_RST;
	st_be16(tcp + 16, checksum(tcp - addresses, addresses + TCP, IPPROTO_TCP + TCP));
	return (size_t)(tcp + TCP - f);
}
