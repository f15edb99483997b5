/* See firewalls.h. */
#include "lan/firewalls.h"

#include <linux/netfilter/nf_conntrack_common.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "lan/host.h"
#include "lan/rules.h"
#include "lan/verdict.h"

/* --- what is asked of each chain --- */

/* What is lost, in the order in which it is told; a bit each. */
enum loss {
	INSIDE,
	BETWEEN,
	BY_SERVER,
	NEIGHBORS,
	DISCOVERY,
	OUTWARDS,
	ANSWERS,
	INWARDS,
	PUBLISHED,
	SERVED,
	LEASED,
	LOSSES
};
#define LOST(what) (1u << (what))

static const char *const losses[] = {
	[INSIDE] = "what passes between ports of the bridge (machines, DHCP, DNS)",
	/* The same by filters that see which port it is. */
	[BETWEEN] = "what machines send each other",
	[BY_SERVER] = "what machines and the network's server send each other (DHCP, router advertisements)",
	[NEIGHBORS] = "ARP (without which IPv4 finds nobody)",
	[DISCOVERY] = "neighbor discovery at the host (without which machines have no gateway of IPv6)",
	[OUTWARDS] = "what machines send to the world",
	[ANSWERS] = "the answers to that",
	[INWARDS] = "what the world sends to machines",
	[PUBLISHED] = "what comes by published ports",
	[SERVED] = "what machines ask dnsmasq on the host (UDP ports 67 and 547, port 53)",
	[LEASED] = "the leases that dnsmasq on the host gives (UDP port 68)",
};

/* Of frames in the bridge it is ports: a machine's cable, the server's, the interface of a bridged network. */
enum place { NOWHERE, BRIDGE, WORLD, CABLE, SERVER, UPLINK };

/* Bits of an address that are known. */
enum address {
	ANY,
	NET,  /* of the network's subnet */
	NONE, /* of who has none yet: 0.0.0.0; of IPv6 a link-local one */
	ALL,  /* 255.255.255.255; of IPv6 all of a link that listen to something */
	HOST, /* the gateway's */
};

#define STATE(ctinfo) NF_CT_STATE_BIT(ctinfo)
#define BOTH	      0u

/* What a frame comes by: from port to port, to the host and from it. Other packets are asked for at one hook. */
#define AT(hook) (1u << (hook))
#define THROUGH	 (AT(NF_INET_PRE_ROUTING) | AT(NF_INET_FORWARD) | AT(NF_INET_POST_ROUTING))
#define INTO	 (AT(NF_INET_PRE_ROUTING) | AT(NF_INET_LOCAL_IN))
#define FROM	 (AT(NF_INET_LOCAL_OUT) | AT(NF_INET_POST_ROUTING))
#define HAS_IN	 (INTO | AT(NF_INET_FORWARD))
#define HAS_OUT	 (FROM | AT(NF_INET_FORWARD))

/* Packets by which a chain shows what it thinks of a network. */
struct question {
	enum loss loss;
	unsigned hooks, family; /* NFPROTO_IPV4, NFPROTO_IPV6 or BOTH; of frames also NFPROTO_ARP */
	enum place in, out;
	enum address from, to;
	uint8_t protocol; /* TCP for what is of all */
	uint16_t port;	  /* to which; 0: any */
	unsigned state;
	uint16_t by;			       /* from which port; of ICMPv6 the type and code */
	bool bridged, translated, no_way_back; /* bridged: by br_netfilter */
	/* Of what networks. */
	bool (*is_meant)(const struct lan_def *d);
};

static bool any(const struct lan_def *d)
{
	return true;
}

static bool bridged(const struct lan_def *d)
{
	return d->model == LAN_BRIDGED;
}

static bool isolated(const struct lan_def *d)
{
	return d->model == LAN_ISOLATED;
}

static bool routed(const struct lan_def *d)
{
	return d->model == LAN_ROUTED;
}

static bool publishes(const struct lan_def *d)
{
	return d->publish_len;
}

/* dnsmasq answers there by the host's input; of an isolated network it is in a name space of its own. */
static bool served_by_host(const struct lan_def *d)
{
	return lan_has_gateway(d) && d->dns == LAN_DNS_DNSMASQ;
}

/* By a port of its own, with addresses if so. */
static bool served_by_port(const struct lan_def *d)
{
	return lan_has_server(d) && !served_by_host(d);
}

static bool leased_by_port(const struct lan_def *d)
{
	return served_by_port(d) && d->dhcp;
}

static bool leased_by_host(const struct lan_def *d)
{
	return served_by_host(d) && d->dhcp;
}

#define NEW	    STATE(IP_CT_NEW)
#define ESTABLISHED STATE(IP_CT_ESTABLISHED)
#define UNTRACKED   NF_CT_STATE_UNTRACKED_BIT

static const struct question questions[] = {
	/* Frames between ports of the bridge, which pass here by br_netfilter alone. */
	{ INSIDE, AT(NF_INET_FORWARD), NFPROTO_IPV4, BRIDGE, BRIDGE, NONE, ALL, IPPROTO_UDP, 67, NEW, .bridged = true,
	  .is_meant = leased_by_port },
	{ INSIDE, AT(NF_INET_FORWARD), NFPROTO_IPV6, BRIDGE, BRIDGE, NONE, ALL, IPPROTO_ICMPV6, 0, UNTRACKED,
	  .bridged = true, .is_meant = any },
	{ INSIDE, AT(NF_INET_FORWARD), BOTH, BRIDGE, BRIDGE, NET, NET, IPPROTO_TCP, 0, NEW, .bridged = true,
	  .is_meant = any },
	/* Where the host has no address it has no route either, which filters of reverse paths ask for. */
	{ INSIDE, AT(NF_INET_PRE_ROUTING), BOTH, BRIDGE, NOWHERE, NET, NET, IPPROTO_TCP, 0, NEW, .bridged = true,
	  .no_way_back = true, .is_meant = isolated },
	/* What the host forwards. */
	{ OUTWARDS, AT(NF_INET_FORWARD), BOTH, BRIDGE, WORLD, NET, ANY, IPPROTO_TCP, 0, NEW,
	  .is_meant = lan_has_gateway },
	{ ANSWERS, AT(NF_INET_FORWARD), BOTH, WORLD, BRIDGE, ANY, NET, IPPROTO_TCP, 0, ESTABLISHED,
	  .is_meant = lan_has_gateway },
	{ INWARDS, AT(NF_INET_FORWARD), BOTH, WORLD, BRIDGE, ANY, NET, IPPROTO_TCP, 0, NEW, .is_meant = routed },
	{ PUBLISHED, AT(NF_INET_FORWARD), BOTH, WORLD, BRIDGE, ANY, NET, IPPROTO_TCP, 0, NEW, .translated = true,
	  .is_meant = publishes },
	/* What it answers itself. */
	{ SERVED, AT(NF_INET_LOCAL_IN), NFPROTO_IPV4, BRIDGE, NOWHERE, NONE, ALL, IPPROTO_UDP, 67, NEW,
	  .is_meant = leased_by_host },
	{ SERVED, AT(NF_INET_LOCAL_IN), NFPROTO_IPV6, BRIDGE, NOWHERE, NONE, ALL, IPPROTO_UDP, 547, NEW,
	  .is_meant = leased_by_host },
	{ SERVED, AT(NF_INET_LOCAL_IN), BOTH, BRIDGE, NOWHERE, NET, HOST, IPPROTO_UDP, 53, NEW,
	  .is_meant = served_by_host },
	{ DISCOVERY, AT(NF_INET_LOCAL_IN), NFPROTO_IPV6, BRIDGE, NOWHERE, ANY, ALL, IPPROTO_ICMPV6, 0, UNTRACKED,
	  .by = ND_NEIGHBOR_SOLICIT << 8, .is_meant = lan_has_gateway },
	/* Who asked all of a link gets an answer that is of no connection. */
	{ LEASED, AT(NF_INET_LOCAL_OUT), NFPROTO_IPV4, NOWHERE, BRIDGE, HOST, ANY, IPPROTO_UDP, 68, NEW, .by = 67,
	  .is_meant = leased_by_host },
};

/* The same of frames, for filters of bridges, which see them with br_netfilter and without it. */
static const struct question frames[] = {
	/* Without ARP it is all of IPv4. */
	{ BETWEEN, THROUGH, NFPROTO_ARP, CABLE, CABLE, NET, NET, .state = UNTRACKED, .is_meant = any },
	{ BY_SERVER, THROUGH, NFPROTO_IPV4, CABLE, SERVER, NONE, ALL, IPPROTO_UDP, 67, NEW,
	  .is_meant = leased_by_port },
	{ BY_SERVER, THROUGH, NFPROTO_IPV4, SERVER, CABLE, NET, ANY, IPPROTO_UDP, 68, NEW, .by = 67,
	  .is_meant = leased_by_port },
	{ BY_SERVER, THROUGH, NFPROTO_IPV6, SERVER, CABLE, NONE, ALL, IPPROTO_ICMPV6, 0, UNTRACKED,
	  .is_meant = served_by_port },
	{ BETWEEN, THROUGH, NFPROTO_IPV6, CABLE, CABLE, ANY, ALL, IPPROTO_ICMPV6, 0, UNTRACKED, .is_meant = any },
	{ BETWEEN, THROUGH, BOTH, CABLE, CABLE, NET, NET, IPPROTO_TCP, 0, NEW, .is_meant = any },
	/* Between machines and the host, which forwards them. */
	{ NEIGHBORS, INTO, NFPROTO_ARP, CABLE, NOWHERE, NET, HOST, .state = UNTRACKED, .is_meant = lan_has_gateway },
	{ NEIGHBORS, FROM, NFPROTO_ARP, NOWHERE, CABLE, HOST, NET, .state = UNTRACKED, .is_meant = lan_has_gateway },
	{ OUTWARDS, INTO, BOTH, CABLE, NOWHERE, NET, ANY, IPPROTO_TCP, 0, NEW, .is_meant = lan_has_gateway },
	{ ANSWERS, FROM, BOTH, NOWHERE, CABLE, ANY, NET, IPPROTO_TCP, 0, ESTABLISHED, .is_meant = lan_has_gateway },
	{ INWARDS, FROM, BOTH, NOWHERE, CABLE, ANY, NET, IPPROTO_TCP, 0, NEW, .is_meant = routed },
	{ PUBLISHED, FROM, BOTH, NOWHERE, CABLE, ANY, NET, IPPROTO_TCP, 0, NEW, .translated = true,
	  .is_meant = publishes },
	{ SERVED, INTO, NFPROTO_IPV4, CABLE, NOWHERE, NONE, ALL, IPPROTO_UDP, 67, NEW, .is_meant = leased_by_host },
	{ SERVED, INTO, NFPROTO_IPV6, CABLE, NOWHERE, NONE, ALL, IPPROTO_UDP, 547, NEW, .is_meant = leased_by_host },
	{ SERVED, INTO, BOTH, CABLE, NOWHERE, NET, HOST, IPPROTO_UDP, 53, NEW, .is_meant = served_by_host },
	{ LEASED, FROM, NFPROTO_IPV4, NOWHERE, CABLE, HOST, ANY, IPPROTO_UDP, 68, NEW, .by = 67,
	  .is_meant = leased_by_host },
	/* And the network outside, by the interface that is a port. */
	{ NEIGHBORS, THROUGH, NFPROTO_ARP, CABLE, UPLINK, NET, NET, .state = UNTRACKED, .is_meant = bridged },
	{ OUTWARDS, THROUGH, BOTH, CABLE, UPLINK, NET, ANY, IPPROTO_TCP, 0, NEW, .is_meant = bridged },
	{ ANSWERS, THROUGH, BOTH, UPLINK, CABLE, ANY, NET, IPPROTO_TCP, 0, ESTABLISHED, .is_meant = bridged },
	{ INWARDS, THROUGH, BOTH, UPLINK, CABLE, ANY, NET, IPPROTO_TCP, 0, NEW, .is_meant = bridged },
};

/* --- asking --- */

/* A network as rules see it. */
struct seen {
	const struct lan_def *d;
	const char *bridge;
	char server[IFNAMSIZ];
	char world[2][IFNAMSIZ]; /* where the host's default route leads; "": it has none, or several alike */
	bool bridged[2];	 /* frames between ports pass the host's filters */
};

static const char *const switches[] = { "bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables" };

struct way {
	uint32_t table, metric;
	unsigned len;
	int index;
	bool several;
};

static uint32_t word(const struct rtattr *a)
{
	uint32_t v = 0;

	if (a && RTA_PAYLOAD(a) == sizeof(v))
		memcpy(&v, RTA_DATA(a), sizeof(v));
	return v;
}

/*
 * The best default route of each family. Those of several tables, by several interfaces and of the two halves of all
 * addresses (as VPNs have them) must agree: of two ways nobody knows which one somebody goes.
 */
static int see_route(void *opaque, const struct nlmsghdr *h)
{
	const struct rtmsg *r = NLMSG_DATA(h);
	const struct rtattr *t[RTA_MAX + 1];
	struct way *ways = opaque, *w, way = { 0 };

	if (!rtnl_parse(h, sizeof(*r), t, RTA_MAX) || r->rtm_dst_len > 1 || r->rtm_type != RTN_UNICAST)
		return 0;
	way = (struct way){ t[RTA_TABLE] ? word(t[RTA_TABLE]) : r->rtm_table, word(t[RTA_PRIORITY]), r->rtm_dst_len,
			    (int)word(t[RTA_OIF]), t[RTA_MULTIPATH] != NULL };
	w = &ways[r->rtm_family == AF_INET6];
	if (w->table && (way.table != w->table || way.len != w->len || way.metric == w->metric))
		w->several |= way.several || way.index != w->index;
	else if (!w->table || way.metric < w->metric) {
		way.several |= w->several;
		*w = way;
	}
	return 0;
}

static void look_around(struct rtnl *nl, struct seen *s)
{
	struct way ways[2] = { 0 };
	struct err ignored;
	char on[8];

	rtnl_each_of(nl, &(struct rtnl_ask){ RTM_GETROUTE }, see_route, ways, &ignored);
	for (size_t i = 0; i < 2; i++) {
		if (!ways[i].index || ways[i].several || !if_indextoname((unsigned)ways[i].index, s->world[i]))
			*s->world[i] = '\0';
		s->bridged[i] = lan_sysctl_get(switches[i], on, sizeof(on)) && strcmp(on, "0");
	}
}

static void know(struct half_byte *b, const uint8_t *v, unsigned bits)
{
	for (unsigned i = 0; bits; i++) {
		const unsigned n = bits < 8 ? bits : 8;

		b[i] = (struct half_byte){ v[i], (uint8_t)(0xff00 >> n) };
		bits -= n;
	}
}

static void know4(struct half_byte *b, enum address a, const struct lan_def *d)
{
	uint8_t v[4] = { 0 };

	if (a == ALL)
		memset(v, 0xff, 4);
	else if (a != NONE)
		st_be32(v, a == HOST ? lan_gateway4(d) : d->net4.addr);
	know(b, v, a == ANY ? 0 : a == NET ? d->net4.len : 32);
}

static void know6(struct half_byte *b, enum address a, const struct lan_def *d)
{
	const uint8_t all[1] = { 0xff }, link[8] = { 0xfe, 0x80 };
	const struct in6_addr host = lan_host6(&d->net6.addr, 1);

	if (a == ALL || a == NONE)
		know(b, a == ALL ? all : link, a == ALL ? 8 : 64);
	else if (a != ANY)
		know(b, a == HOST ? host.s6_addr : d->net6.addr.s6_addr, a == HOST ? 128 : d->net6.len);
}

static struct probe_link interface(const struct seen *s, enum place p, bool six)
{
	switch (p) {
	case BRIDGE:
		return (struct probe_link){ s->bridge, false };
	case WORLD:
		return (struct probe_link){ *s->world[six] ? s->world[six] : NULL, false };
	case CABLE:
		return (struct probe_link){ LAN_TAP, true };
	case SERVER:
		return (struct probe_link){ s->server, false };
	case UPLINK:
		/* Of a bridge that is somebody else's nobody knows the port. */
		return (struct probe_link){ strcmp(s->d->uplink, s->bridge) ? s->d->uplink : NULL, false };
	default:
		return (struct probe_link){ NULL, false };
	}
}

/* Where several listen they are asked by a group's address; the host's is the bridge's. */
static void know_frame(struct probe *p, const struct question *q, const struct lan_def *d)
{
	const uint8_t everybody[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, group[2] = { 0x33, 0x33 };
	const uint8_t arp[8] = { 0, ARPHRD_ETHER, ETH_P_IP >> 8, ETH_P_IP & 0xff, ETH_ALEN, 4, 0, ARPOP_REQUEST };
	uint8_t type[2], host[6];

	lan_bridge_mac(d->name, host);
	if (q->hooks == FROM)
		know(p->frame + 6, host, 48);
	else if (q->hooks == INTO && p->family != NFPROTO_ARP)
		know(p->frame, host, 48);
	st_be16(type, probe_ethertype(p->family));
	know(p->frame + 12, type, 16);
	if (q->to == ALL && p->family == NFPROTO_IPV6)
		know(p->frame, group, 16);
	else if (q->to == ALL)
		know(p->frame, everybody, 48);
	if (p->family == NFPROTO_ARP)
		know(p->head, arp, 64);
}

static bool loses(struct book *b, struct book_chain *c, const struct question *q, const struct seen *s, bool six)
{
	/* What machines say to each other nobody follows where the host is in the network (rules_host.c). */
	const bool untracked = q->bridged && q->from == NET && lan_has_gateway(s->d);
	const bool frame = c->family == NFPROTO_BRIDGE, arp = q->family == NFPROTO_ARP;
	struct probe p = { .family = arp   ? NFPROTO_ARP
				     : six ? NFPROTO_IPV6
					   : NFPROTO_IPV4,
			   .bridge = frame ? s->bridge : NULL,
			   .protocol = q->protocol,
			   .state = untracked ? UNTRACKED : q->state,
			   .translated = q->translated,
			   .no_way_back = q->no_way_back };
	const uint8_t by[2] = { (uint8_t)(q->by >> 8), (uint8_t)q->by },
		      to[2] = { (uint8_t)(q->port >> 8), (uint8_t)q->port };

	if (AT(c->hook) & HAS_IN)
		p.in = interface(s, q->in, six);
	if (AT(c->hook) & HAS_OUT)
		p.out = interface(s, q->out, six);
	if (frame)
		know_frame(&p, q, s->d);
	if (!arp)
		know(p.head + (six ? 6 : 9), &q->protocol, 8);
	(six ? know6 : know4)(p.head + (six ? 8 : arp ? 14 : 12), q->from, s->d);
	(six ? know6 : know4)(p.head + (six ? 24 : arp ? 24 : 16), q->to, s->d);
	if (q->by)
		know(p.ports, by, 16);
	if (q->port)
		know(p.ports + 2, to, 16);
	return verdict_drops(b, c, &p);
}

/* Networks without subnets of their own are bridged, and carry both families. */
static bool has_family(const struct lan_def *d, bool six)
{
	return d->model == LAN_BRIDGED || (six ? d->net6.len : d->net4.len);
}

static bool sees(const struct book_chain *c, bool six)
{
	return c->family == NFPROTO_INET || c->family == NFPROTO_BRIDGE ||
	       c->family == (six ? NFPROTO_IPV6 : NFPROTO_IPV4);
}

static bool is_of(const struct question *q, bool six)
{
	return six ? q->family == BOTH || q->family == NFPROTO_IPV6 : q->family != NFPROTO_IPV6;
}

/* Bits of what is lost by it, of each family. */
static void ask(struct book *b, struct book_chain *c, const struct seen *s, unsigned lost[2])
{
	const bool frame = c->family == NFPROTO_BRIDGE;
	const struct question *all = frame ? frames : questions;

	for (size_t i = 0; i < 2 * (frame ? ARRAY_LEN(frames) : ARRAY_LEN(questions)); i++) {
		const struct question *q = &all[i / 2];
		const bool six = i % 2;

		if (q->hooks & AT(c->hook) && sees(c, six) && is_of(q, six) && (!q->bridged || s->bridged[six]) &&
		    has_family(s->d, six) && q->is_meant(s->d) && !(lost[six] & LOST(q->loss)) &&
		    loses(b, c, q, s, six))
			lost[six] |= LOST(q->loss);
	}
}

/* --- what helps: commands, in which %b is the bridge, %f, %t and %c the chain's family, table and name, %p iptables
 * --- */

#define OUT LOST(OUTWARDS)
#define IN  (LOST(ANSWERS) | LOST(INWARDS) | LOST(PUBLISHED))

/* What a rule is to accept. Who may send what is seen to by our own filters, also of what is let through here. */
static const struct {
	unsigned lost, but; /* for what of it; not with these, which another one is for that takes it along */
	const char *iptables, *nft;
} matches[] = {
	{ LOST(INSIDE), OUT, "-i %b -o %b", "iifname \"%b\" oifname \"%b\"" },
	{ OUT, 0, "-i %b", "iifname \"%b\"" },
	{ IN, 0, "-o %b", "oifname \"%b\"" },
	{ LOST(SERVED), 0, "-i %b -p udp -m multiport --dports 53,67,547", "iifname \"%b\" udp dport { 53, 67, 547 }" },
	{ LOST(SERVED), 0, "-i %b -p tcp --dport 53", "iifname \"%b\" tcp dport 53" },
	{ LOST(DISCOVERY), 0, "-i %b -p icmpv6",
	  "iifname \"%b\" icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }" },
	{ LOST(LEASED), 0, "-o %b -p udp --dport 68", "oifname \"%b\" udp dport 68" },
};

static const char in_trusted[] = "firewall-cmd --zone=trusted --change-interface=%b";
/* A zone says nothing of what comes from other ones. */
static const char into_trusted[] =
	"firewall-cmd --permanent --zone=trusted --add-interface=%b && firewall-cmd --permanent --new-policy=%b && "
	"firewall-cmd --permanent --policy=%b --add-ingress-zone=ANY && "
	"firewall-cmd --permanent --policy=%b --add-egress-zone=trusted && "
	"firewall-cmd --permanent --policy=%b --set-target=ACCEPT && firewall-cmd --reload";

/* Names are whatever somebody has chosen. */
static void put_name(FILE *f, const char *name)
{
	for (; *name; name++)
		putc(*name <= ' ' || *name > '~' ? '?' : *name, f);
}

static const char *family_name(const struct book_chain *c)
{
	static const char *const names[] = {
		[NFPROTO_INET] = "inet", [NFPROTO_IPV4] = "ip", [NFPROTO_IPV6] = "ip6", [NFPROTO_BRIDGE] = "bridge"
	};

	return names[c->family];
}

static void fill(FILE *f, const char *text, const struct book_chain *c, const char *chain, const char *bridge)
{
	for (; *text; text++) {
		if (*text != '%') {
			putc(*text, f);
			continue;
		}
		switch (*++text) {
		case 'b':
			put_name(f, bridge);
			break;
		case 'f':
			put_name(f, family_name(c));
			break;
		case 't':
			put_name(f, c->table);
			break;
		case 'c':
			put_name(f, chain);
			break;
		default:
			fprintf(f, "%s%s%s%s", c->family == NFPROTO_IPV6 ? "ip6tables" : "iptables",
				c->legacy ? "-legacy" : "", strcmp(c->table, "filter") ? " -t " : "",
				strcmp(c->table, "filter") ? c->table : "");
		}
	}
}

static void put_rules(FILE *f, const struct book *b, const struct book_chain *c, const char *bridge, unsigned lost)
{
	/* As iptables names the chains that it makes. */
	const bool iptables =
		c->legacy || (c->family != NFPROTO_INET && !strcmp(c->table, "filter") &&
			      (!strcmp(c->name, "FORWARD") || !strcmp(c->name, "INPUT") || !strcmp(c->name, "OUTPUT")));
	/* Where Docker looks first, and leaves what somebody has put there. */
	const bool docker = iptables && c->hook == NF_INET_FORWARD && book_find(b, c, "DOCKER-USER");
	const char *chain = docker ? "DOCKER-USER" : c->name, *separator = "";

	for (size_t i = 0; i < ARRAY_LEN(matches); i++) {
		if (!(lost & matches[i].lost) || lost & matches[i].but)
			continue;
		fputs(separator, f);
		separator = "; ";
		fill(f, iptables ? "%p -I %c " : "nft 'insert rule %f %t %c ", c, chain, bridge);
		fill(f, iptables ? matches[i].iptables : matches[i].nft, c, chain, bridge);
		fputs(iptables ? " -j ACCEPT" : " accept'", f);
	}
}

/* Ports of ours in a bridge's rules: not each kernel can say in which bridge a frame is (NFT_BRIDGE_META). */
static void put_ports(FILE *f, const struct book_chain *c, const struct seen *s)
{
	const bool in = AT(c->hook) & HAS_IN, out = AT(c->hook) & HAS_OUT;
	/* Frames from port to port have a cable at one end of them at least. */
	const bool cables = c->hook != NF_INET_PRE_ROUTING && c->hook != NF_INET_POST_ROUTING;
	const char *const names[] = { LAN_TAP "*", served_by_port(s->d) ? s->server : "", s->d->uplink };
	/* As ebtables makes them. */
	const bool ebtables =
		(!strcmp(c->table, "filter") || !strcmp(c->table, "nat")) && *c->name >= 'A' && *c->name <= 'Z';
	const char *separator = "";

	for (size_t i = 0; i < 2 * (cables ? 1 : ARRAY_LEN(names)); i++) {
		const char *name = names[i / 2];
		const int len = (int)strcspn(name, "*");

		if (!len || !(i % 2 ? out : in) || !strcmp(name, s->bridge))
			continue;
		fputs(separator, f);
		separator = "; ";
		fill(f, ebtables ? "ebtables -t %t -I %c " : "nft 'insert rule %f %t %c ", c, c->name, s->bridge);
		if (ebtables)
			fprintf(f, "-%c %.*s%s -j ACCEPT", i % 2 ? 'o' : 'i', len, name, name[len] ? "+" : "");
		else
			fprintf(f, "%cifname \"%s\" accept'", i % 2 ? 'o' : 'i', name);
	}
}

/* The switches that have such frames pass at all. */
static void put_switches(FILE *f, const unsigned lost[2], const char *value)
{
	const char *separator = "";

	for (size_t i = 0; i < 2; i++) {
		if (!(lost[i] & LOST(INSIDE)))
			continue;
		fprintf(f, "%snet.bridge.%s=%s", separator, strchr(switches[i], '/') + 1, value);
		separator = " ";
	}
}

static void put_remedy(FILE *f, const struct book *b, const struct book_chain *c, const struct seen *s,
		       const unsigned lost[2])
{
	const bool firewalld = c->family == NFPROTO_INET && !strcmp(c->table, "firewalld");
	const unsigned all = lost[0] | lost[1];

	/*
	 * No rule of a zone is before a filter of reverse paths; and the bridge of a bridged network is the host's own
	 * way to the network outside, which nobody has said is to be trusted.
	 */
	if (c->family == NFPROTO_BRIDGE) {
		put_ports(f, c, s);
	} else if (c->hook == NF_INET_PRE_ROUTING || (firewalld && s->d->model == LAN_BRIDGED)) {
		fputs("sysctl ", f);
		put_switches(f, lost, "0");
	} else if (firewalld) {
		fill(f, all & LOST(INWARDS) ? into_trusted : in_trusted, c, c->name, s->bridge);
	} else {
		put_rules(f, b, c, s->bridge, all);
	}
}

/* --- what is said --- */

static char *describe(const struct book *b, const struct book_chain *c, const struct seen *s, const unsigned lost[2])
{
	const unsigned all = lost[0] | lost[1];
	const char *separator = "";
	unsigned left = all;
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	fill(f,
	     c->legacy ? "chain %c of the host's packet filters (iptables-legacy, table %f %t) drops "
		       : "chain %c of the host's packet filters (table %f %t) drops ",
	     c, c->name, s->bridge);
	for (unsigned i = 0; i < LOSSES; i++) {
		if (!(all & LOST(i)))
			continue;
		left &= ~LOST(i);
		fprintf(f, "%s%s", separator, losses[i]);
		if (sees(c, false) && sees(c, true) && i != NEIGHBORS && i != DISCOVERY &&
		    (lost[0] ^ lost[1]) & LOST(i))
			fprintf(f, " by IPv%d", lost[0] & LOST(i) ? 4 : 6);
		separator = left & (left - 1) ? ", " : " and ";
	}
	if (all & LOST(INSIDE) && c->family != NFPROTO_BRIDGE) {
		fputs(" (where frames in bridges come by ", f);
		put_switches(f, lost, "1");
		putc(')', f);
	}
	fputs("; this helps: ", f);
	put_remedy(f, b, c, s, lost);
	if (fclose(f)) {
		free(text);
		return NULL;
	}
	return text;
}

static bool is_theirs(const struct book_chain *c)
{
	const unsigned asked = c->family == NFPROTO_BRIDGE ? THROUGH | INTO | FROM
							   : AT(NF_INET_FORWARD) | AT(NF_INET_LOCAL_IN) |
								     AT(NF_INET_LOCAL_OUT) | AT(NF_INET_PRE_ROUTING);

	return !strcmp(c->type, "filter") && strncmp(c->table, LAN_TABLE, strlen(LAN_TABLE)) &&
	       c->hook < NF_INET_NUMHOOKS && asked & AT(c->hook);
}

json_t *lan_firewalls(struct rtnl *nl, const struct lan_def *d, const char *bridge)
{
	struct seen s = { .d = d, .bridge = bridge };
	json_t *said = json_array();
	bool looked = false;
	struct err ignored;
	struct book b;

	if (book_open(&b, &ignored))
		return said;
	lan_server_name(d, s.server);
	for (unsigned i = 0; i < b.chains_len; i++) {
		struct book_chain *c = &b.chains[i];
		unsigned lost[2] = { 0 };
		char *text;

		if (!is_theirs(c))
			continue;
		if (!looked)
			look_around(nl, &s);
		looked = true;
		ask(&b, c, &s, lost);
		text = lost[0] | lost[1] ? describe(&b, c, &s, lost) : NULL;
		if (text)
			json_array_append_new(said, json_string(text));
		free(text);
	}
	book_close(&b);
	return said;
}

void lan_firewalls_warn(struct rtnl *nl, const struct lan_def *d, const char *bridge)
{
	json_t *said = lan_firewalls(nl, d, bridge), *text;
	size_t i;

	json_array_foreach(said, i, text) log_line(LOG_WARN, "lan", "%s: %s", d->name, json_string_value(text));
	json_decref(said);
}
