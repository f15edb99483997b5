/* Where the user-mode network is, and what its servers tell a guest: addresses and names, from the keys. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/user.h"

#define LENGTH_MIN  8
#define LENGTH_MAX  29
#define LENGTH6_MIN 1
#define LENGTH6_MAX 126

/* `prefix`.`name`, or NULL. */
static const char *word(struct config *c, const char *prefix, const char *name)
{
	char key[64];

	snprintf(key, sizeof(key), "%s.%s", prefix, name);
	return config_get(c, key);
}

static int parse_number(const char *text, int least, int most)
{
	int n = *text && strlen(text) <= 3 && strspn(text, "0123456789") == strlen(text) ? atoi(text) : -1;

	return n >= least && n <= most ? n : -1;
}

/* --- IPv4 --- */

/* How long a network's part is that nobody has said of, as QEMU has it. */
static int usual_length(uint32_t addr)
{
	static const struct {
		uint32_t net;
		int bits, length;
	} usual[] = {
		{ 0x00000000, 1, 8 },	{ 0xac100000, 12, 12 }, { 0x80000000, 2, 16 },
		{ 0xc0a80000, 16, 16 }, { 0xc6120000, 15, 15 },
	};

	for (unsigned n = 0; n < sizeof(usual) / sizeof(usual[0]); n++)
		if (!((addr ^ usual[n].net) >> (32 - usual[n].bits)))
			return usual[n].length;
	return 24;
}

/* "16", or "255.255.0.0". */
static int parse_length(const char *text)
{
	struct in_addr a;
	uint32_t host;

	if (!strchr(text, '.'))
		return parse_number(text, LENGTH_MIN, LENGTH_MAX);
	if (inet_pton(AF_INET, text, &a) != 1)
		return -1;
	host = ~ntohl(a.s_addr);
	return host & (host + 1) || host > UINT32_MAX >> LENGTH_MIN || host < UINT32_MAX >> LENGTH_MAX
		       ? -1
		       : __builtin_clz(host);
}

/* Not one that hosts have: "this network", loopback, groups and what is beyond. */
static bool is_special(uint32_t addr)
{
	return !(addr >> 24) || addr >> 24 == 127 || addr >> 28 >= 0xe;
}

static int read_network(struct net_user_config *u, const char *text, struct err *err)
{
	char addr[20];
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	int length;

	snprintf(addr, sizeof(addr), "%.*s", (int)(len < sizeof(addr) ? len : 0), text);
	if (inet_pton(AF_INET, addr, &u->net) != 1 ||
	    (length = slash ? parse_length(slash + 1) : usual_length(ntohl(u->net.s_addr))) < 0)
		return err_set(err, "%s.net: '%s' is not ADDRESS/LENGTH (10.0.2.0/24), of %d to %d bits", u->name, text,
			       LENGTH_MIN, LENGTH_MAX);
	if (is_special(ntohl(u->net.s_addr)))
		return err_set(err, "%s.net: '%s' is no network that hosts can be in", u->name, text);
	u->mask.s_addr = htonl(UINT32_MAX << (32 - length));
	u->net.s_addr &= u->mask.s_addr;
	return 0;
}

bool net_user_has(const struct net_user_config *u, struct in_addr a)
{
	uint32_t host = ntohl(a.s_addr & ~u->mask.s_addr);

	return (a.s_addr & u->mask.s_addr) == u->net.s_addr && host && host != ntohl(~u->mask.s_addr);
}

/* Who is there by itself; the guest has the first address of DHCP. */
struct member {
	const char *key;
	struct in_addr *addr;
	uint32_t usual; /* its bits behind the network's, as far as there are so many */
	bool outside;	/* may be: it is asked as any other host is */
};

static int read_member(struct net_user_config *u, const struct member *m, const char *text, struct err *err)
{
	char net[INET_ADDRSTRLEN];
	uint32_t host = m->usual & ntohl(~u->mask.s_addr);

	/* In a small network the 15th would be for all. */
	if (host == ntohl(~u->mask.s_addr))
		host = 4;
	m->addr->s_addr = u->net.s_addr | htonl(host);
	if (!text)
		return 0;
	if (inet_pton(AF_INET, text, m->addr) != 1 || is_special(ntohl(m->addr->s_addr)))
		return err_set(err, "%s.%s: '%s' is not an IPv4 address of a host", u->name, m->key, text);
	inet_ntop(AF_INET, &u->net, net, sizeof(net));
	return m->outside || net_user_has(u, *m->addr)
		       ? 0
		       : err_set(err, "%s.%s: '%s' is not in the guest's network (%s/%d)", u->name, m->key, text, net,
				 __builtin_popcount(u->mask.s_addr));
}

/* All have their own address; the one that was said is named, and of two the later one. */
static int compare_members(const struct net_user_config *u, const struct member *m, unsigned count, const bool said[],
			   struct err *err)
{
	for (unsigned a = 0; a < count; a++)
		for (unsigned b = a + 1; b < count; b++)
			if (m[a].addr->s_addr == m[b].addr->s_addr)
				return err_set(err, "%s.%s: %s is the address of %s, too", u->name,
					       m[said[b] || !said[a] ? b : a].key, inet_ntoa(*m[a].addr),
					       m[said[b] || !said[a] ? a : b].key);
	return 0;
}

static int read_ipv4(struct net_user_config *u, struct config *c, const char *prefix, struct err *err)
{
	const struct member members[] = {
		{ "host", &u->host, 0x202, false },
		{ "dns", &u->dns, 0x203, !u->restricted },
		{ "dhcpstart", &u->dhcp, 0x20f, false },
	};
	const unsigned count = sizeof(members) / sizeof(members[0]);
	const char *net = word(c, prefix, "net");
	bool said[sizeof(members) / sizeof(members[0])];

	if (net && !u->ipv4)
		return err_set(err, "%s.net: there is no IPv4 here (ipv4=off)", prefix);
	if (read_network(u, net ? net : "10.0.2.0/24", err))
		return -1;
	for (unsigned n = 0; n < count; n++) {
		const char *text = word(c, prefix, members[n].key);

		said[n] = text;
		if (text && !u->ipv4)
			return err_set(err, "%s.%s: there is no IPv4 here (ipv4=off)", prefix, members[n].key);
		if (read_member(u, &members[n], text, err))
			return -1;
	}
	return compare_members(u, members, count, said, err);
}

/* --- IPv6 --- */

static bool in_prefix(const struct net_user_config *u, const struct in6_addr *a)
{
	for (unsigned bit = 0; bit < u->prefix6_length; bit++)
		if ((a->s6_addr[bit / 8] ^ u->prefix6.s6_addr[bit / 8]) & 0x80 >> bit % 8)
			return false;
	return true;
}

static int read_prefix6(struct net_user_config *u, const char *text, struct err *err)
{
	char addr[INET6_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	int length = slash ? parse_number(slash + 1, LENGTH6_MIN, LENGTH6_MAX) : 64;

	snprintf(addr, sizeof(addr), "%.*s", (int)(len < sizeof(addr) ? len : 0), text);
	if (length < 0 || inet_pton(AF_INET6, addr, &u->prefix6) != 1)
		return err_set(err, "%s.ipv6-net: '%s' is not PREFIX/LENGTH (fec0::/64), of %d to %d bits", u->name,
			       text, LENGTH6_MIN, LENGTH6_MAX);
	u->prefix6_length = (uint8_t)length;
	for (int bit = length; bit < 128; bit++)
		u->prefix6.s6_addr[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
	/* Addresses of a link are there beside those of the prefix. */
	if (IN6_IS_ADDR_MULTICAST(&u->prefix6) || IN6_IS_ADDR_LINKLOCAL(&u->prefix6) ||
	    IN6_IS_ADDR_UNSPECIFIED(&u->prefix6))
		return err_set(err, "%s.ipv6-net: '%s' is no network that hosts can be in", u->name, text);
	return 0;
}

static int read_ipv6(struct net_user_config *u, struct config *c, const char *prefix, struct err *err)
{
	const struct {
		const char *key;
		struct in6_addr *addr;
		uint8_t usual;
		bool outside;
	} members[] = {
		{ "ipv6-host", &u->host6, 2, false },
		{ "ipv6-dns", &u->dns6, 3, !u->restricted },
	};
	const char *net = word(c, prefix, "ipv6-net");

	if (net && !u->ipv6)
		return err_set(err, "%s.ipv6-net: there is no IPv6 here (ipv6=off)", prefix);
	if (read_prefix6(u, net ? net : "fec0::/64", err))
		return -1;
	for (unsigned n = 0; n < sizeof(members) / sizeof(members[0]); n++) {
		const char *text = word(c, prefix, members[n].key);

		*members[n].addr = u->prefix6;
		members[n].addr->s6_addr[15] |= members[n].usual;
		if (text && !u->ipv6)
			return err_set(err, "%s.%s: there is no IPv6 here (ipv6=off)", prefix, members[n].key);
		if (text &&
		    (inet_pton(AF_INET6, text, members[n].addr) != 1 || IN6_IS_ADDR_MULTICAST(members[n].addr) ||
		     IN6_IS_ADDR_UNSPECIFIED(members[n].addr) || IN6_IS_ADDR_LOOPBACK(members[n].addr)))
			return err_set(err, "%s.%s: '%s' is not an IPv6 address of a host", prefix, members[n].key,
				       text);
		if (!members[n].outside && !in_prefix(u, members[n].addr))
			return err_set(err, "%s.%s: '%s' is not in the guest's network (ipv6-net)", prefix,
				       members[n].key, text);
	}
	return memcmp(&u->host6, &u->dns6, sizeof(u->host6))
		       ? 0
		       : err_set(err, "%s.%s: it is the address of %s, too", prefix,
				 word(c, prefix, "ipv6-dns") ? "ipv6-dns" : "ipv6-host",
				 word(c, prefix, "ipv6-dns") ? "ipv6-host" : "ipv6-dns");
}

/* --- names --- */

/* Labels of letters, digits, '-' and '_'. */
static bool is_name(const char *text)
{
	size_t label = 0;

	for (const char *p = text; *p; p++) {
		label = *p == '.' ? 0 : label + 1;
		if ((*p == '.' && (p == text || p[-1] == '.')) || label > 63 ||
		    !strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", *p))
			return false;
	}
	return *text && strlen(text) < 256;
}

static int read_search(struct net_user_config *u, const char *list, struct err *err)
{
	char *rest = u->search, *name;

	if (snprintf(u->search, sizeof(u->search), "%s", list) >= (int)sizeof(u->search))
		return err_set(err, "%s.dnssearch: longer than %u characters", u->name,
			       (unsigned)sizeof(u->search) - 1);
	while ((name = strsep(&rest, "+"))) {
		if (!is_name(name))
			return err_set(err, "%s.dnssearch: '%s' is not a name of a domain", u->name, name);
		if (u->search_count == NET_SEARCH)
			return err_set(err, "%s.dnssearch: more than %d names", u->name, NET_SEARCH);
		u->search_at[u->search_count++] = (uint16_t)(name - u->search);
	}
	return 0;
}

/* What a reply has room for beside what is always in it: RFC 2131's 312 bytes, which libslirp does not look at. */
#define DHCP_ROOM 274u

static int read_names(struct net_user_config *u, struct config *c, const char *prefix, struct err *err)
{
	const struct {
		const char *key;
		char *to;
		size_t size;
	} names[] = {
		{ "hostname", u->hostname, sizeof(u->hostname) },
		{ "domainname", u->domain, sizeof(u->domain) },
		{ "tftp-server-name", u->tftp_server, sizeof(u->tftp_server) },
	};
	const char *search = word(c, prefix, "dnssearch");
	size_t sum = 0;

	for (unsigned n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
		const char *text = word(c, prefix, names[n].key);

		if (!text)
			continue;
		if (!is_name(text))
			return err_set(err, "%s.%s: '%s' is not a name", prefix, names[n].key, text);
		if (snprintf(names[n].to, names[n].size, "%s", text) >= (int)names[n].size)
			return err_set(err, "%s.%s: longer than %u characters", prefix, names[n].key,
				       (unsigned)names[n].size - 1);
		sum += 2 + strlen(text);
	}
	if (search && read_search(u, search, err))
		return -1;
	for (unsigned n = 0; n < u->search_count; n++)
		sum += 2 + strlen(u->search + u->search_at[n]);
	sum += u->search_count ? 4 : 0;
	return sum <= DHCP_ROOM ? 0
				: err_set(err, "%s.%s: DHCP has room for %u bytes of names, and these are %u together",
					  prefix, search ? "dnssearch" : "domainname", DHCP_ROOM, (unsigned)sum);
}

int net_user_read_place(struct net_user_config *u, struct config *c, const char *prefix, struct err *err)
{
	char key[64];

	snprintf(key, sizeof(key), "%s.ipv4", prefix);
	if (config_bool(c, key, true, &u->ipv4, err))
		return -1;
	snprintf(key, sizeof(key), "%s.ipv6", prefix);
	if (config_bool(c, key, true, &u->ipv6, err))
		return -1;
	if (!u->ipv4 && !u->ipv6)
		return err_set(err, "%s: one of ipv4 and ipv6 is needed", key);
	return read_ipv4(u, c, prefix, err) || read_ipv6(u, c, prefix, err) || read_names(u, c, prefix, err) ? -1 : 0;
}
