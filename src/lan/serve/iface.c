/* See iface.h. */
#include "lan/serve/iface.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_addr.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lan/addr.h"

#define RECEIVE_BUFFER (1 << 20)

/* A setting of this name space; where it cannot be written it must be so already. */
static int set_sysctl(const char *path, const char *value, struct err *err)
{
	char is[8] = "";
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool written = fd >= 0 && write(fd, value, strlen(value)) > 0;

	if (fd >= 0)
		close(fd);
	if (written)
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0; /* the kernel does not have it */
	if (read(fd, is, sizeof(is) - 1) < 0)
		is[0] = 0;
	close(fd);
	return *is == *value ? 0 : err_set(err, "%s cannot be set to %s", path, value);
}

static int set_sysctls(const char *ifname, bool v6, struct err *err)
{
	static const char *const off6[] = { "accept_ra", "autoconf", "accept_redirects", "forwarding" };
	char path[128];

	if (set_sysctl("/proc/sys/net/ipv4/ip_forward", "0", err))
		return -1;
	for (size_t n = 0; n < ARRAY_LEN(off6); n++) {
		snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/%s", ifname, off6[n]);
		if (set_sysctl(path, "0", err))
			return -1;
	}
	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", ifname);
	return set_sysctl(path, v6 ? "0" : "1", err);
}

/* By netlink, which can leave out the search for duplicates. */
static int add_address6(unsigned index, const struct in6_addr *a, unsigned bits, struct err *err)
{
	struct {
		struct nlmsghdr head;
		struct ifaddrmsg m;
		struct rtattr attr;
		struct in6_addr a;
	} ask = { .head = { .nlmsg_len = sizeof(ask),
			    .nlmsg_type = RTM_NEWADDR,
			    .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE },
		  .m = { .ifa_family = AF_INET6,
			 .ifa_prefixlen = (uint8_t)bits,
			 .ifa_flags = IFA_F_NODAD,
			 .ifa_index = index },
		  .attr = { .rta_len = RTA_LENGTH(16), .rta_type = IFA_ADDRESS },
		  .a = *a };
	struct {
		struct nlmsghdr head;
		struct nlmsgerr e;
		char more[256];
	} answer = { 0 };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	bool ok = fd >= 0 && send(fd, &ask, sizeof(ask), 0) == sizeof(ask) &&
		  recv(fd, &answer, sizeof(answer), 0) >= (ssize_t)(sizeof(answer.head) + sizeof(answer.e));

	if (ok && answer.e.error) {
		errno = -answer.e.error;
		ok = false;
	}
	if (!ok)
		err_errno(err, errno, "the IPv6 address of the servers");
	if (fd >= 0)
		close(fd);
	return ok ? 0 : -1;
}

static int set_address4(int fd, struct ifreq *r, const struct lan_serve *s)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = s->addr4 };

	memcpy(&r->ifr_addr, &a, sizeof(a));
	if (ioctl(fd, SIOCSIFADDR, r))
		return -1;
	a.sin_addr.s_addr = htobe32(s->prefix4 ? ~0u << (32 - s->prefix4) : 0);
	memcpy(&r->ifr_netmask, &a, sizeof(a));
	return ioctl(fd, SIOCSIFNETMASK, r);
}

int iface_set(const struct lan_serve *s, struct err *err)
{
	static const struct in6_addr none;
	bool v6 = s->ra || s->dhcp6 || memcmp(&s->addr6, &none, 16);
	struct ifreq r = { 0 };
	unsigned index;
	uint8_t mac[6];
	int fd, rc = -1;

	if (iface_get(s->ifname, &index, mac, err) || set_sysctls(s->ifname, v6, err))
		return -1;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(err, errno, "socket");
	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", s->ifname);
	if (!mac_is_zero(s->mac)) {
		r.ifr_hwaddr.sa_family = ARPHRD_ETHER;
		memcpy(r.ifr_hwaddr.sa_data, s->mac, 6);
		if (ioctl(fd, SIOCSIFHWADDR, &r)) {
			err_errno(err, errno, "the MAC of %s", s->ifname);
			goto out;
		}
	}
	if (s->addr4.s_addr && set_address4(fd, &r, s)) {
		err_errno(err, errno, "the address of %s", s->ifname);
		goto out;
	}
	r.ifr_flags = IFF_UP | IFF_RUNNING | IFF_MULTICAST | IFF_BROADCAST;
	if (ioctl(fd, SIOCSIFFLAGS, &r)) {
		err_errno(err, errno, "taking up %s", s->ifname);
		goto out;
	}
	rc = memcmp(&s->addr6, &none, 16) ? add_address6(index, &s->addr6, s->prefix6, err) : 0;
out:
	close(fd);
	return rc;
}

int iface_get(const char *ifname, unsigned *index, uint8_t mac[6], struct err *err)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq r = { 0 };
	int rc = 0;

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", ifname);
	*index = if_nametoindex(ifname);
	if (fd < 0 || !*index || ioctl(fd, SIOCGIFHWADDR, &r))
		rc = err_errno(err, errno, "the interface %s", ifname);
	memcpy(mac, r.ifr_hwaddr.sa_data, 6);
	if (fd >= 0)
		close(fd);
	return rc;
}

/* Nobody reads here; what comes is dropped before it waits. */
static int hold_port(int family, uint16_t port, struct err *err)
{
	struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog program = { 1, &nothing };
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_port = htobe16(port) };
	struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_port = htobe16(port) };
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int rc;

	if (fd < 0)
		return family == AF_INET6 ? 0 : err_errno(err, errno, "socket");
	setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){ 1 }, sizeof(int));
	rc = family == AF_INET ? bind(fd, (struct sockaddr *)&a4, sizeof(a4))
			       : bind(fd, (struct sockaddr *)&a6, sizeof(a6));
	if (rc)
		err_errno(err, errno, "port %u is taken", port);
	return rc; /* open for good */
}

/* The multicast groups that requests are sent to. */
static void join(int fd, unsigned index)
{
	static const uint8_t groups[2][6] = { { 0x33, 0x33, 0, 0, 0, 2 }, { 0x33, 0x33, 0, 1, 0, 2 } };

	for (size_t n = 0; n < ARRAY_LEN(groups); n++) {
		struct packet_mreq m = { .mr_ifindex = (int)index, .mr_type = PACKET_MR_MULTICAST, .mr_alen = 6 };

		memcpy(m.mr_address, groups[n], 6);
		setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &m, sizeof(m));
	}
}

#define ABS(size, at)  BPF_STMT(BPF_LD | size | BPF_ABS, at)
#define EQ(k, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, yes, no)
static const struct sock_filter requests[] = {
	ABS(BPF_W, SKF_AD_OFF + SKF_AD_PKTTYPE),
	EQ(PACKET_OTHERHOST, 17, 0),
	ABS(BPF_H, 12),
	EQ(ETH_P_IP, 0, 7),
	ABS(BPF_B, 23),
	EQ(IPPROTO_UDP, 0, 13),
	ABS(BPF_H, 20),
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x3fff, 11, 0),
	BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 14),
	BPF_STMT(BPF_LD | BPF_H | BPF_IND, 16),
	EQ(67, 9, 8),
	EQ(ETH_P_IPV6, 0, 7),
	ABS(BPF_B, 20),
	EQ(IPPROTO_UDP, 0, 2),
	ABS(BPF_H, 56),
	EQ(547, 4, 3),
	EQ(IPPROTO_ICMPV6, 0, 2),
	ABS(BPF_B, 54),
	EQ(133, 1, 0),
	BPF_STMT(BPF_RET | BPF_K, 0),
	BPF_STMT(BPF_RET | BPF_K, 0x40000),
};

const struct sock_filter *iface_filter(unsigned *len)
{
	*len = ARRAY_LEN(requests);
	return requests;
}

static int set_filter(int fd)
{
	struct sock_fprog program = { ARRAY_LEN(requests), (struct sock_filter *)requests };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

int iface_open(const struct lan_serve *s, unsigned index, struct err *err)
{
	struct sockaddr_ll a = { .sll_family = AF_PACKET,
				 .sll_protocol = htobe16(ETH_P_ALL),
				 .sll_ifindex = (int)index };
	const int buffer = RECEIVE_BUFFER;
	/* Without a protocol until the filter is there. */
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return err_errno(err, errno, "a packet socket on %s", s->ifname);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
	setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &(int){ 1 }, sizeof(int));
	join(fd, index);
	if (set_filter(fd) || setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &(int){ 1 }, sizeof(int)) ||
	    bind(fd, (struct sockaddr *)&a, sizeof(a))) {
		err_errno(err, errno, "a packet socket on %s", s->ifname);
		close(fd);
		return -1;
	}
	if ((s->dhcp4 && hold_port(AF_INET, 67, err)) || (s->dhcp6 && hold_port(AF_INET6, 547, err))) {
		close(fd);
		return -1;
	}
	return fd;
}
