/* The packet filters of a network as text for nft: see nft.h. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lan/host.h"
#include "lan/nft.h"

/* What one machine may have learned by whom it hears: addresses of its own making (RFC 6620). */
#define LEARNED_MOST 16u
/* A machine's part of the connections that the host can follow, and what it has in any case. */
#define SHARE	  16u
#define LEAST	  256u
#define WIDE_MOST 32u /* subnets of the host */

static const char *const families[] = { "inet", "netdev", "bridge" };

/* "add" makes the "delete" succeed where there is none. */
static void remove_tables(FILE *f, const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(families); i++)
		fprintf(f, "add table %s " LAN_TABLE "%s\ndelete table %s " LAN_TABLE "%s\n", families[i], name,
			families[i], name);
}

struct removal {
	struct nfnl_batch *b;
	char table[LAN_NET_NAME + sizeof(LAN_TABLE)];
};

static void remove_table(void *opaque, unsigned family, const char *name)
{
	struct removal *r = opaque;

	if (!strcmp(name, r->table) && (family == NFPROTO_INET || family == NFPROTO_NETDEV || family == NFPROTO_BRIDGE))
		nfnl_del_table(r->b, family, name);
}

int lan_rules_remove(struct rtnl *nf, const char *name, struct nfnl_batch *b, struct err *err)
{
	struct removal r = { .b = b };

	snprintf(r.table, sizeof(r.table), LAN_TABLE "%s", name);
	return nfnl_tables(nf, remove_table, &r, err);
}

int lan_rules_check(struct rtnl *nf, const char *name, struct err *err)
{
	char table[LAN_NET_NAME + sizeof(LAN_TABLE)];

	snprintf(table, sizeof(table), LAN_TABLE "%s", name);
	return nfnl_check_table(nf, table, err);
}

static void table(FILE *f, const char *family, const char *name)
{
	fprintf(f, "table %s " LAN_TABLE "%s {\n\tcomment \"" NFNL_MARK "%s\"\n", family, name, name);
}

/* --- published ports --- */

static const struct lan_port *by_name(const struct lan_rules *r, const char *name)
{
	char label[LAN_NAME_LABEL + 1];

	for (unsigned i = 0; i < r->ports->len; i++)
		if (*r->ports->v[i].tap && lan_label_of(r->ports->v[i].vm, label) && !strcasecmp(label, name))
			return &r->ports->v[i];
	return NULL;
}

/* The addresses that a published port leads to; false: the machine is not there. */
static bool target(const struct lan_rules *r, const struct lan_publish *p, uint32_t *to4, struct in6_addr *to6)
{
	const struct lan_port *port;

	*to4 = 0;
	*to6 = in6addr_any;
	if (lan_parse4(p->to, to4) || lan_parse6(p->to, to6))
		return true;
	for (unsigned i = 0; i < r->def->statics_len; i++) {
		const struct lan_static *s = &r->def->statics[i];

		if (strcasecmp(s->name, p->to))
			continue;
		*to4 = s->addr4;
		if (r->def->net6.len)
			*to6 = lan_eui64(&r->def->net6.addr, s->mac);
	}
	port = by_name(r, p->to);
	if (port) {
		*to4 = port->addr4;
		*to6 = port->addr6;
	}
	return *to4 || !lan_zero6(to6);
}

/* Where a port leads to. */
static void lead(FILE *f, const struct lan_publish *p, bool six, const char *to)
{
	const char *proto = p->udp ? "udp" : "tcp", *family = six ? "ip6" : "ip";
	char at[LAN_TEXT6];

	fputs("\t\t", f);
	if (six ? !lan_zero6(&p->at6) : p->at4 != 0)
		fprintf(f, "%s daddr %s ", family, six ? lan_text6(&p->at6, at) : lan_text4(p->at4, at));
	fprintf(f,
		six ? "meta nfproto ipv6 %s dport %u dnat ip6 to [%s]:%u\n"
		    : "meta nfproto ipv4 %s dport %u dnat ip to %s:%u\n",
		proto, p->port, to, p->to_port);
}

/* What has come by it: seen at each packet, so that what is published no more ends at once. */
static void admit(FILE *f, const struct lan_publish *p, bool six, const char *to)
{
	const char *family = six ? "ip6" : "ip";
	char at[LAN_TEXT6];

	fprintf(f, "\t\t%s daddr %s %s dport %u ct original proto-dst %u ", family, to, p->udp ? "udp" : "tcp",
		p->to_port, p->port);
	if (six ? !lan_zero6(&p->at6) : p->at4 != 0)
		fprintf(f, "ct original %s daddr %s ", family, six ? lan_text6(&p->at6, at) : lan_text4(p->at4, at));
	fputs("accept\n", f);
}

static void each_published(FILE *f, const struct lan_rules *r,
			   void (*write)(FILE *f, const struct lan_publish *p, bool six, const char *to))
{
	for (unsigned i = 0; i < r->def->publish_len; i++) {
		const struct lan_publish *p = &r->def->publish[i];
		char text[LAN_TEXT6];
		struct in6_addr to6;
		uint32_t to4;

		if (!target(r, p, &to4, &to6))
			continue;
		if (to4 && !p->ip6)
			write(f, p, false, lan_text4(to4, text));
		if (!lan_zero6(&to6) && !p->at4)
			write(f, p, true, lan_text6(&to6, text));
	}
}

/*
 * Whoever asks an address of the host. Not its loopback, whose packets do not leave it: what is asked there is its own
 * service.
 */
static void published(FILE *f, const struct lan_rules *r)
{
	fputs("\tchain publish {\n", f);
	each_published(f, r, lead);
	fputs("\t}\n\tchain from_outside {\n\t\ttype nat hook prerouting priority dstnat; policy accept;\n"
	      "\t\tfib daddr type local jump publish\n\t}\n"
	      "\tchain from_host {\n\t\ttype nat hook output priority -100; policy accept;\n"
	      "\t\tip daddr 127.0.0.0/8 accept\n\t\tip6 daddr ::1 accept\n\t\tfib daddr type local jump publish\n\t}\n",
	      f);
}

/* --- what passes the host --- */

static void accept_net(FILE *f, const struct lan_def *d, const char *direction)
{
	char text[LAN_TEXT6];

	if (d->net4.len)
		fprintf(f, "\t\tip %s %s accept\n", direction, lan_text_net4(&d->net4, text));
	if (d->net6.len)
		fprintf(f, "\t\tip6 %s %s accept\n", direction, lan_text_net6(&d->net6, text));
}

static void masquerade(FILE *f, const struct lan_rules *r)
{
	const struct lan_def *d = r->def;
	char net[LAN_TEXT6];

	fprintf(f, "\tchain outwards {\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n");
	for (unsigned i = 0; i < r->peers_len; i++)
		fprintf(f, "\t\toifname \"%s\" accept\n", r->peers[i]);
	/* A machine that asks for a published port of its own network: the answer must come back through here. */
	for (unsigned six = 0; six < 2; six++) {
		const char *family = six ? "ip6" : "ip";

		if (six ? !d->net6.len : !d->net4.len)
			continue;
		if (six)
			lan_text_net6(&d->net6, net);
		else
			lan_text_net4(&d->net4, net);
		fprintf(f, "\t\t%s saddr %s oifname \"%s\" ct status dnat masquerade\n", family, net, r->bridge);
		if (d->model == LAN_NAT)
			fprintf(f, "\t\t%s saddr %s oifname != \"%s\" %s daddr != %s masquerade\n", family, net,
				r->bridge, family, six ? "ff00::/8" : "224.0.0.0/4");
	}
	fputs("\t}\n", f);
}

/*
 * dnsmasq listens at the gateway's address, which the host takes packets for by any interface: it answers its network
 * alone, the host, and whom the network may talk with.
 */
static void serve_own(FILE *f, const struct lan_rules *r)
{
	const struct lan_def *d = r->def;
	const struct in6_addr six = lan_host6(&d->net6.addr, 1);
	char text[LAN_TEXT6];

	for (unsigned k = 0; k < 2; k++) {
		if (k ? !d->net6.len : !d->net4.len)
			continue;
		fprintf(f, "\t\tiifname != { \"lo\", \"%s\"", r->bridge);
		for (unsigned i = 0; i < r->peers_len; i++)
			fprintf(f, ", \"%s\"", r->peers[i]);
		fprintf(f, " } %s daddr %s meta l4proto { tcp, udp } th dport { 53, %s } counter drop\n",
			k ? "ip6" : "ip", k ? lan_text6(&six, text) : lan_text4(lan_gateway4(d), text),
			k ? "547" : "67");
	}
}

/*
 * The host follows connections of all its networks in one table. A machine, which is its MAC, has a share of it; what
 * machines say to each other has none (where bridged frames pass through here, by br_netfilter).
 */
static void share(FILE *f, const struct lan_rules *r)
{
	const struct lan_def *d = r->def;
	const struct in6_addr six = lan_host6(&d->net6.addr, 1);
	char net[LAN_TEXT6], own[LAN_TEXT6], most[32];
	unsigned long all =
		lan_sysctl_get("netfilter/nf_conntrack_max", most, sizeof(most)) ? strtoul(most, NULL, 10) : 0;

	fputs("\tchain untracked {\n\t\ttype filter hook prerouting priority raw; policy accept;\n", f);
	if (d->net4.len)
		fprintf(f, "\t\tiifname \"%s\" ip saddr %s ip daddr %s ip daddr != %s notrack\n", r->bridge,
			lan_text_net4(&d->net4, net), net, lan_text4(lan_gateway4(d), own));
	if (d->net6.len)
		fprintf(f, "\t\tiifname \"%s\" ip6 saddr %s ip6 daddr %s ip6 daddr != %s notrack\n", r->bridge,
			lan_text_net6(&d->net6, net), net, lan_text6(&six, own));
	fprintf(f,
		"\t}\n\tset conns { type ether_addr; flags dynamic; size 65536; }\n\tchain fair {\n"
		"\t\tct state new add @conns { ether saddr ct count over %lu } counter drop\n\t}\n",
		all / SHARE > LEAST ? all / SHARE : LEAST);
}

/* --- neighbors of the host --- */

static void known(FILE *f, const struct lan_rules *r, bool six)
{
	char text[LAN_TEXT6];
	bool any = false;

	for (unsigned i = 0; i < r->ports->len; i++) {
		const struct lan_port *p = &r->ports->v[i];

		if (!*p->tap || (six ? lan_zero6(&p->addr6) : !p->addr4))
			continue;
		fprintf(f, "%s%s",
			any   ? ", "
			: six ? "\t\tip6 daddr { "
			      : "\t\tip daddr { ",
			six ? lan_text6(&p->addr6, text) : lan_text4(p->addr4, text));
		any = true;
	}
	fputs(any ? " } return\n" : "", f);
}

/*
 * The host looks for whom it is to bring something to, and keeps that in one table for all its networks. Places that do
 * not answer are asked for by each sender as often as by no machine that means well.
 */
static void strange(FILE *f, const struct lan_rules *r)
{
	for (unsigned six = 0; six < 2; six++)
		fprintf(f,
			"\tset asked%u { typeof ether saddr . %s daddr; flags dynamic,timeout; timeout 10s; size "
			"65536; }\n",
			six ? 6 : 4, six ? "ip6" : "ip");
	fputs("\tset asking { type ether_addr; flags dynamic,timeout; timeout 1m; size 65536; }\n"
	      "\tchain strange {\n\t\tct state established,related return\n",
	      f);
	known(f, r, false);
	known(f, r, true);
	fputs("\t\tether saddr . ip daddr @asked4 return\n\t\tether saddr . ip6 daddr @asked6 return\n"
	      "\t\tadd @asking { ether saddr limit rate over 25/second burst 50 packets } counter drop\n"
	      "\t\tadd @asked4 { ether saddr . ip daddr }\n\t\tadd @asked6 { ether saddr . ip6 daddr }\n\t}\n",
	      f);
}

/* The text of a subnet that the host has this address of, if it has more addresses than the host's table has room for.
 */
static const char *wide(const struct rtnl_message *m, char text[LAN_TEXT6])
{
	const struct ifaddrmsg *t = (const void *)m->data;
	const struct rtattr *a[IFA_MAX + 1];
	struct lan_net6 six = { .len = t->ifa_prefixlen };
	struct lan_net4 four = { .len = t->ifa_prefixlen };

	if (m->len < sizeof(*t) || !t->ifa_prefixlen || t->ifa_scope >= RT_SCOPE_LINK)
		return NULL;
	rtnl_attrs(IFA_RTA(t), m->len - NLMSG_ALIGN(sizeof(*t)), a, IFA_MAX);
	if (!a[IFA_ADDRESS])
		return NULL;
	if (t->ifa_family == AF_INET && t->ifa_prefixlen < 24 && RTA_PAYLOAD(a[IFA_ADDRESS]) == 4) {
		four.addr = ld_be32(RTA_DATA(a[IFA_ADDRESS])) & lan_mask4(four.len);
		return lan_text_net4(&four, text);
	}
	if (t->ifa_family != AF_INET6 || t->ifa_prefixlen > 120 || RTA_PAYLOAD(a[IFA_ADDRESS]) != 16)
		return NULL;
	memcpy(&six.addr, RTA_DATA(a[IFA_ADDRESS]), six.len / 8);
	if (six.len % 8)
		six.addr.s6_addr[six.len / 8] =
			((const uint8_t *)RTA_DATA(a[IFA_ADDRESS]))[six.len / 8] & (uint8_t)(0xff00 >> six.len % 8);
	return lan_text_net6(&six, text);
}

/* The subnets that the host is in itself. */
static void near(FILE *f, const struct lan_rules *r)
{
	struct rtnl_messages m = { 0 };
	struct err ignored;
	char text[LAN_TEXT6];

	if (r->nl)
		rtnl_dump(r->nl, RTM_GETADDR, &m, &ignored);
	fputs("\tchain near {\n", f);
	for (unsigned i = 0, n = 0; i < m.len && n < WIDE_MOST; i++) {
		const char *net = wide(&m.v[i], text);

		if (!net)
			continue;
		fprintf(f, "\t\t%s daddr %s goto strange\n", strchr(net, ':') ? "ip6" : "ip", net);
		n++;
	}
	fputs("\t}\n", f);
	rtnl_messages_free(&m);
}

static void routed(FILE *f, const struct lan_rules *r)
{
	const struct lan_def *d = r->def;

	table(f, "inet", d->name);
	share(f, r);
	strange(f, r);
	near(f, r);
	/* What has come by a published port into the network, and other ways into it. What was let in once is not for
	 * ever. */
	fputs("\tchain published {\n", f);
	each_published(f, r, admit);
	fputs("\t\tcounter drop\n\t}\n\tchain in {\n\t\tct state related accept\n"
	      "\t\tct direction reply ct state established accept\n\t\tct status dnat goto published\n"
	      "\t\tjump strange\n",
	      f);
	for (unsigned i = 0; i < r->peers_len; i++)
		fprintf(f, "\t\tiifname \"%s\" accept\n", r->peers[i]);
	if (d->model == LAN_ROUTED)
		accept_net(f, d, "daddr");
	fputs("\t\tcounter drop\n\t}\n", f);
	/* Out of it, in nobody else's name. */
	fputs("\tchain out {\n", f);
	accept_net(f, d, "saddr");
	fputs("\t\tcounter drop\n\t}\n", f);
	fprintf(f,
		"\tchain forward {\n\t\ttype filter hook forward priority filter; policy accept;\n"
		"\t\tiifname \"%s\" jump fair\n\t\tiifname \"%s\" ct state != { established, related } jump near\n"
		"\t\tiifname \"%s\" oifname \"%s\" accept\n\t\toifname \"%s\" goto in\n\t\tiifname \"%s\" goto "
		"out\n\t}\n",
		r->bridge, r->bridge, r->bridge, r->bridge, r->bridge, r->bridge);
	/* To the host. */
	fprintf(f, "\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n");
	if (d->dns == LAN_DNS_DNSMASQ)
		serve_own(f, r);
	fprintf(f, "\t\tiifname != \"%s\" accept\n\t\tct state established,related accept\n\t\tjump fair\n", r->bridge);
	accept_net(f, d, "saddr");
	if (d->dns == LAN_DNS_DNSMASQ)
		fputs("\t\tip saddr 0.0.0.0 udp sport 68 udp dport 67 accept\n", f);
	fputs("\t\tip6 saddr { fe80::/10, :: } accept\n\t\tcounter drop\n\t}\n", f);
	if (d->publish_len)
		published(f, r);
	if (d->model == LAN_NAT || d->publish_len)
		masquerade(f, r);
	fputs("}\n", f);
}

/* Not even to its host: not by what addresses it has elsewhere, nor by ones that it makes itself. */
static void isolated(FILE *f, const struct lan_rules *r)
{
	table(f, "netdev", r->def->name);
	fprintf(f,
		"\tchain in {\n\t\ttype filter hook ingress device \"%s\" priority filter; policy "
		"drop;\n\t\tcounter\n\t}\n"
		"\tchain out {\n\t\ttype filter hook egress device \"%s\" priority filter; policy "
		"drop;\n\t\tcounter\n\t}\n}\n",
		r->bridge, r->bridge);
}

/* --- what a machine may send --- */

/* As the kernel compares it with bytes of a packet. */
static void hex6(FILE *f, const struct in6_addr *a)
{
	fputs("0x", f);
	for (int i = 0; i < 16; i++)
		fprintf(f, "%02x", a->s6_addr[i]);
}

/* Addresses that a machine has by what it is: both follow from its MAC. */
static unsigned own6(const struct lan_def *d, const struct lan_port *p, struct in6_addr a[2])
{
	const struct in6_addr local = { .s6_addr = { 0xfe, 0x80 } };
	unsigned n = 0;

	a[n++] = lan_eui64(&local, p->mac);
	if (d->net6.len)
		a[n++] = lan_eui64(&d->net6.addr, p->mac);
	return n;
}

/*
 * The names of a machine's sets: "o-" before it are its own addresses, "l-" those that it has made. By its MAC, since
 * it comes back by another tap.
 */
static const char *set_name(const struct lan_port *p, char buf[13])
{
	for (unsigned i = 0; i < 6; i++)
		snprintf(buf + 2 * i, 3, "%02x", p->mac[i]);
	return buf;
}

/* Says that an address is its own: with neighbor advertisements; `at` is where in the packet it stands. */
static void claim(FILE *f, const char *what, const char *at, const char *set)
{
	const char *const sets[] = { "taken", "learned" };

	for (size_t i = 0; i < 2; i++)
		fprintf(f, "\t\t%s%s != @o-%s %s != @l-%s %s @%s counter drop\n", what, at, set, at, set, at, sets[i]);
}

static void port_ipv6(FILE *f, const struct lan_rules *r, const struct lan_port *p)
{
	static const char na[] = "icmpv6 type nd-neighbor-advert ", target[] = "@th,64,128", source[] = "@nh,64,128";
	char prefixes[64] = "0xfe80000000000000", t[13];

	set_name(p, t);
	if (r->def->net6.len)
		snprintf(prefixes, sizeof(prefixes), "0xfe80000000000000, 0x%016llx",
			 (unsigned long long)ld_be64(r->def->net6.addr.s6_addr));
	fputs("\t\tip6 nexthdr { 0, 43, 44, 60, 135 } jump extended\n"
	      /* What only routers say, and what claims addresses in other ways (RFC 3122, 3971). */
	      "\t\ticmpv6 type { nd-router-advert, nd-redirect, mld-listener-query, 138, ind-neighbor-solicit, "
	      "ind-neighbor-advert, 148, 151 } counter drop\n",
	      f);
	/*
	 * What is its own; what it has made itself and nobody has before; nothing else. What asks whether an address is
	 * taken (from ::) must not ask so for somebody else's, who would let go of it.
	 */
	claim(f, "ip6 saddr :: icmpv6 type nd-neighbor-solicit ", target, t);
	fputs("\t\tip6 saddr :: icmpv6 type { nd-neighbor-solicit, nd-router-solicit, mld2-listener-report, "
	      "mld-listener-report, mld-listener-done } accept\n\t\tip6 saddr :: counter drop\n",
	      f);
	claim(f, na, target, t);
	claim(f, "", source, t);
	if (r->def->model != LAN_BRIDGED)
		fprintf(f, "\t\t%s@th,64,64 != { %s } counter drop\n\t\t@nh,64,64 != { %s } counter drop\n", na,
			prefixes, prefixes);
	/* Its set may be full: then nothing is added, and the packet is not what it may send. */
	fprintf(f, "\t\t%s%s != @o-%s add @l-%s { %s } add @learned { %s }\n", na, target, t, t, target, target);
	fprintf(f, "\t\t%s%s != @o-%s %s != @l-%s counter drop\n", na, target, t, target, t);
	fprintf(f, "\t\t%s @o-%s accept\n", source, t);
	fprintf(f, "\t\tupdate @l-%s { %s } update @learned { %s } accept\n\t\tcounter drop\n", t, source, source);
}

/* What one machine has learned, from the filters that there are. */
struct learned {
	const struct lan_rules *r;
	struct in6_addr addr[LEARNED_MOST];
	unsigned expires[LEARNED_MOST]; /* seconds */
	unsigned len;
};

/* Somebody else has it by right by now. */
static bool is_taken(const struct lan_rules *r, const struct in6_addr *a)
{
	const uint8_t *b = a->s6_addr + 8;
	const uint8_t mac[6] = { b[0] ^ 2, b[1], b[2], b[5], b[6], b[7] };
	uint8_t bridge[6];

	lan_bridge_mac(r->def->name, bridge);
	if (b[3] != 0xff || b[4] != 0xfe)
		return false;
	for (unsigned i = 0; i < r->ports->len; i++)
		if (*r->ports->v[i].tap && !memcmp(r->ports->v[i].mac, mac, 6))
			return true;
	return !memcmp(bridge, mac, 6);
}

static void learn(void *opaque, const void *key, size_t len, uint64_t expires)
{
	struct learned *v = opaque;
	struct in6_addr a;

	memcpy(&a, key, len == sizeof(a) ? sizeof(a) : 0);
	if (len != sizeof(a) || v->len == LEARNED_MOST || expires < 1000 || is_taken(v->r, &a))
		return;
	v->addr[v->len] = a;
	v->expires[v->len++] = (unsigned)(expires / 1000);
}

static void find_learned(const struct lan_rules *r, const struct lan_port *p, struct learned *v)
{
	char table_name[LAN_NET_NAME + sizeof(LAN_TABLE)], name[16] = "l-";
	struct err ignored;

	*v = (struct learned){ .r = r };
	snprintf(table_name, sizeof(table_name), LAN_TABLE "%s", r->def->name);
	set_name(p, name + 2);
	if (r->nf)
		nfnl_elements(r->nf, &(struct nfnl_set){ NFPROTO_BRIDGE, table_name, name }, learn, v, &ignored);
}

static void learned_set(FILE *f, const char *name, unsigned size, const struct learned *v, unsigned len)
{
	bool any = false;

	fprintf(f, "\tset %s { typeof @nh,64,128; flags dynamic,timeout; timeout 1h; size %u; ", name, size);
	for (unsigned i = 0; i < len; i++)
		for (unsigned k = 0; k < v[i].len; k++) {
			fputs(any ? ", " : "elements = { ", f);
			hex6(f, &v[i].addr[k]);
			fprintf(f, " expires %us", v[i].expires[k]);
			any = true;
		}
	fputs(any ? " }; }\n" : "}\n", f);
}

static void port_sets(FILE *f, const struct lan_rules *r, const struct lan_port *p, const struct learned *v)
{
	struct in6_addr a[2];
	unsigned n = own6(r->def, p, a);
	char name[16] = "l-";

	set_name(p, name + 2);
	/* Of who has no cable now, until it comes back. */
	if (*p->tap || v->len)
		learned_set(f, name, LEARNED_MOST, v, 1);
	if (!*p->tap)
		return;
	fprintf(f, "\tset o-%s { typeof @nh,64,128; elements = { ", name + 2);
	for (unsigned i = 0; i < n; i++) {
		fputs(i ? ", " : "", f);
		hex6(f, &a[i]);
	}
	fputs(" }; }\n", f);
}

/* All sets, with what was learned under the filters before. */
static void sets(FILE *f, const struct lan_rules *r)
{
	struct learned *v = calloc(r->ports->len + 1, sizeof(*v));

	for (unsigned i = 0; v && i < r->ports->len; i++)
		find_learned(r, &r->ports->v[i], &v[i]);
	learned_set(f, "learned", LEARNED_MOST * (r->ports->len + 1), v, v ? r->ports->len : 0);
	for (unsigned i = 0; i < r->ports->len; i++)
		port_sets(f, r, &r->ports->v[i], v ? &v[i] : &(struct learned){ 0 });
	free(v);
}

/*
 * Behind more headers: what is in the packet must be seen here, and not be put together only by who gets it (RFC 7112,
 * 7113); what neighbors say is not fragmented (RFC 6980). In later parts nothing is to be seen. A
 * comparison that is always true fails where there is nothing to compare.
 */
static void extended(FILE *f)
{
	fputs("\tchain extended {\n\t\texthdr frag exists icmpv6 type { nd-router-solicit, nd-router-advert, "
	      "nd-neighbor-solicit, nd-neighbor-advert, nd-redirect } counter drop\n"
	      "\t\tfrag frag-off != 0 return\n\t\t@th,56,8 >= 0 return\n\t\tcounter drop\n\t}\n",
	      f);
}

/*
 * Machines reach each other without the host. It would look for each address of the subnet that it is to bring
 * something to, and have no room left for neighbors of others.
 */
static void not_by_host(FILE *f, const struct lan_def *d)
{
	const struct in6_addr six = lan_host6(&d->net6.addr, 1);
	char mac[LAN_TEXTMAC], net[LAN_TEXT6], own[LAN_TEXT6];
	uint8_t bridge[6];

	lan_bridge_mac(d->name, bridge);
	lan_text_mac(bridge, mac);
	if (d->net4.len)
		fprintf(f, "\t\tether daddr %s ether type ip ip daddr %s ip daddr != %s counter drop\n", mac,
			lan_text_net4(&d->net4, net), lan_text4(lan_gateway4(d), own));
	if (d->net6.len)
		fprintf(f, "\t\tether daddr %s ether type ip6 ip6 daddr %s ip6 daddr != %s counter drop\n", mac,
			lan_text_net6(&d->net6, net), lan_text6(&six, own));
}

static void port(FILE *f, const struct lan_rules *r, const struct lan_port *p)
{
	bool bridged = r->def->model == LAN_BRIDGED;
	char mac[LAN_TEXTMAC], ip[LAN_TEXT4], own[LAN_TEXT4];

	lan_text_mac(p->mac, mac);
	fprintf(f,
		"\tchain p-%s {\n\t\tether saddr != %s counter drop\n"
		"\t\tether type arp arp saddr ether != %s counter drop\n",
		p->tap, mac, mac);
	if (p->addr4)
		fprintf(f, "\t\tether type arp arp saddr ip != { 0.0.0.0, %s } counter drop\n",
			lan_text4(p->addr4, ip));
	/* Who hears one for the address that it wants does not take it. */
	if (p->addr4)
		fprintf(f, "\t\tether type arp arp saddr ip 0.0.0.0 arp daddr ip != %s counter drop\n", ip);
	for (unsigned i = 0; i < r->own.len4; i++)
		fprintf(f,
			"\t\tether type arp arp saddr ip %s counter drop\n\t\tether type ip ip saddr %s counter drop\n",
			lan_text4(r->own.v4[i], own), own);
	fputs("\t\tether type arp accept\n"
	      /* Only the network's own server answers as one. */
	      "\t\tudp sport { 67, 547 } counter drop\n"
	      "\t\tip saddr 0.0.0.0 udp sport 68 udp dport 67 accept\n",
	      f);
	if (lan_has_gateway(r->def))
		not_by_host(f, r->def);
	if (p->addr4)
		fprintf(f, "\t\tether type ip ip saddr != %s counter drop\n", ip);
	/* Tags would hide what is within. No switch of the network outside shall hear another one here. */
	fputs(bridged ? "\t\tether type { 8021q, 8021ad } counter drop\n"
			"\t\tether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 counter drop\n"
			"\t\tether type < 0x0600 counter drop\n\t\tether type != ip6 accept\n"
		      : "\t\tether type ip accept\n\t\tether type != ip6 counter drop\n",
	      f);
	port_ipv6(f, r, p);
	fputs("\t}\n", f);
}

static void each_tap(FILE *f, const struct lan_rules *r, bool with_mac)
{
	bool any = false;
	char mac[LAN_TEXTMAC];

	for (unsigned i = 0; i < r->ports->len; i++) {
		const struct lan_port *p = &r->ports->v[i];

		if (!*p->tap)
			continue;
		fprintf(f, "%s\"%s\" . \"%s\"%s%s", any ? ", " : "", p->tap, p->tap, with_mac ? " . " : "",
			with_mac ? lan_text_mac(p->mac, mac) : "");
		any = true;
	}
}

/* By a port that gives back what comes from it (lan_plug_cables()): nothing but what is for the machine itself. */
static void hairpin(FILE *f, const struct lan_rules *r)
{
	fputs("\tset self { type ifname . ifname . ether_addr; elements = { ", f);
	each_tap(f, r, true);
	fputs(" }; }\n\tset back { type ifname . ifname; elements = { ", f);
	each_tap(f, r, false);
	fputs(" }; }\n\tchain through {\n\t\ttype filter hook forward priority -200; policy accept;\n"
	      "\t\tiifname . oifname . ether daddr @self accept\n\t\tiifname . oifname @back drop\n\t}\n",
	      f);
}

/*
 * Between ports of a bridge of ours: only what looks at both ends passes. Whoever else is in it, put there by hand or
 * not known any more, reaches nobody. That is seen behind the filters of ports, because not each kernel can say in
 * which bridge a frame is (NFT_BRIDGE_META).
 */
static void between(FILE *f, const struct lan_rules *r)
{
	const unsigned uplink = *r->def->uplink ? if_nametoindex(r->def->uplink) : 0;
	char server[IFNAMSIZ];
	bool any = uplink != 0;

	if (!strcmp(r->bridge, r->def->uplink))
		return;
	lan_server_name(r->def, server);
	fputs("\tset known { type iface_index; ", f);
	if (uplink)
		fprintf(f, "elements = { %u", uplink);
	for (unsigned i = 0; i < r->ports->len; i++) {
		if (!*r->ports->v[i].tap || !r->ports->v[i].index)
			continue;
		fprintf(f, "%s%d", any ? ", " : "elements = { ", r->ports->v[i].index);
		any = true;
	}
	fprintf(f,
		"%s}\n\tchain between {\n\t\ttype filter hook forward priority -300; policy accept;\n"
		"\t\tiif @known oif != @known oifname != \"%s\" counter drop\n"
		"\t\toif @known iif != @known iifname != \"%s\" counter drop\n"
		"\t\toifname \"%s\" iif != @known counter drop\n\t\tiifname \"%s\" oif != @known counter drop\n\t}\n",
		any ? "}; " : "", server, server, server, server);
}

/* And to the host. */
static void to_host(FILE *f, const struct lan_rules *r)
{
	char server[IFNAMSIZ], text[LAN_TEXTMAC];
	uint8_t mac[6];

	if (!lan_has_gateway(r->def))
		return;
	lan_server_name(r->def, server);
	lan_bridge_mac(r->def->name, mac);
	fprintf(f, "\t\tether daddr %s iif != @known iifname != \"%s\" counter drop\n", lan_text_mac(mac, text),
		server);
}

static void guarded(FILE *f, const struct lan_rules *r)
{
	const struct in6_addr local = { .s6_addr = { 0xfe, 0x80 } };
	const struct lan_def *d = r->def;
	struct in6_addr a[2];
	uint8_t mac[6];
	bool any = false;

	table(f, "bridge", d->name);
	/* What is somebody's by right: the server's and the bridge's, which are there where the model has them. */
	fputs("\tset taken { typeof @nh,64,128; elements = { ", f);
	lan_server_own_mac(d->name, mac);
	a[0] = lan_eui64(&local, mac);
	hex6(f, &a[0]);
	lan_bridge_mac(d->name, mac);
	a[0] = lan_eui64(&local, mac);
	fputs(", ", f);
	hex6(f, &a[0]);
	for (unsigned i = 0; i < r->own.len6; i++) {
		fputs(", ", f);
		hex6(f, &r->own.v6[i]);
	}
	for (uint32_t n = 1; d->net6.len && n <= 2; n++) {
		struct in6_addr own = lan_host6(&d->net6.addr, n);

		fputs(", ", f);
		hex6(f, &own);
	}
	for (unsigned i = 0; i < r->ports->len; i++) {
		unsigned n = *r->ports->v[i].tap ? own6(d, &r->ports->v[i], a) : 0;

		for (unsigned k = 0; k < n; k++) {
			fputs(", ", f);
			hex6(f, &a[k]);
		}
	}
	fputs(" }; }\n", f);
	sets(f, r);
	extended(f);
	for (unsigned i = 0; i < r->ports->len; i++)
		if (*r->ports->v[i].tap)
			port(f, r, &r->ports->v[i]);
	between(f, r);
	/* By number: the name is free for anybody's again once its machine was killed. */
	fputs("\tchain " LAN_FROM " {\n\t\ttype filter hook prerouting priority -300; policy accept;\n", f);
	for (unsigned i = 0; i < r->ports->len; i++) {
		const struct lan_port *p = &r->ports->v[i];

		if (!*p->tap || !p->index)
			continue;
		fprintf(f, "%s%d : goto p-%s", any ? ", " : "\t\tiif vmap { ", p->index, p->tap);
		any = true;
	}
	fputs(any ? " }\n" : "", f);
	to_host(f, r);
	fputs("\t}\n", f);
	if (any && lan_has_gateway(d) && d->publish_len)
		hairpin(f, r);
	fputs("}\n", f);
}

void lan_rules_write(FILE *f, const struct lan_rules *r, bool device)
{
	remove_tables(f, r->def->name);
	if (lan_has_gateway(r->def))
		routed(f, r);
	if (r->def->model == LAN_ISOLATED && device)
		isolated(f, r);
	guarded(f, r);
}
