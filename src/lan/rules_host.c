/* What passes the host, and what reaches it: see rules.h. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lan/host.h"
#include "lan/known.h"
#include "lan/rules_impl.h"

/* A machine's part of the connections that the host can follow, and what it has in any case. */
#define SHARE	  16u
#define LEAST	  256u
#define WIDE_MOST 32u /* subnets of the host */

/* --- published ports --- */

/* Where a port leads to. */
static void lead(FILE *f, const struct lan_publish *p, bool six, const char *to)
{
	const char *proto = p->udp ? "udp" : "tcp", *family = six ? "ip6" : "ip";
	char at[LAN_TEXT6];

	fputs("\t\t", f);
	if (six ? !lan_zero6(&p->at6) : p->at4 != 0)
		fprintf(f, "%s daddr %s ", family, six ? lan_text6(&p->at6, at) : lan_text4(p->at4, at));
	fprintf(f, "meta nfproto %s %s dport %u-%u dnat %s to %s", six ? "ipv6" : "ipv4", proto, p->port,
		p->port + p->more, family, to);
	/* Each to its own: a range there would mean any of it. */
	if (p->port != p->to_port) {
		fprintf(f, " : %s dport map {", proto);
		for (unsigned i = 0; i <= p->more; i++)
			fprintf(f, "%s %u : %u", i ? "," : "", p->port + i, p->to_port + i);
		fputs(" }", f);
	}
	putc('\n', f);
}

/* What has come by it: seen at each packet, so that what is published no more ends at once. */
static void admit(FILE *f, const struct lan_publish *p, bool six, const char *to)
{
	const char *family = six ? "ip6" : "ip";
	char at[LAN_TEXT6];

	fprintf(f, "\t\t%s daddr %s %s dport %u-%u ct original proto-dst %u-%u ", family, to, p->udp ? "udp" : "tcp",
		p->to_port, p->to_port + p->more, p->port, p->port + p->more);
	if (six ? !lan_zero6(&p->at6) : p->at4 != 0)
		fprintf(f, "ct original %s daddr %s ", family, six ? lan_text6(&p->at6, at) : lan_text4(p->at4, at));
	fputs("accept\n", f);
}

static void each_published(FILE *f, const struct lan_rules *r,
			   void (*write)(FILE *f, const struct lan_publish *p, bool six, const char *to))
{
	unsigned len;
	struct lan_host *hosts = lan_known_hosts(r->def, r->ports, &len);

	for (unsigned i = 0; i < r->def->publish_len; i++) {
		const struct lan_publish *p = &r->def->publish[i];
		const struct lan_target to = lan_target_of(p, hosts, len);
		char text[LAN_TEXT6];

		if (to.addr4 && p->families & LAN_4)
			write(f, p, false, lan_text4(to.addr4, text));
		if (!lan_zero6(&to.addr6) && p->families & LAN_6)
			write(f, p, true, lan_text6(&to.addr6, text));
	}
	free(hosts);
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
 * What machines have made themselves is known once they have sent something by it.
 */
static void strange(FILE *f, const struct lan_rules *r)
{
	for (unsigned six = 0; six < 2; six++)
		fprintf(f,
			"\tset asked%u { typeof ether saddr . %s daddr; flags dynamic,timeout; timeout 10s; size "
			"65536; }\n",
			six ? 6 : 4, six ? "ip6" : "ip");
	fputs("\tset seen { type ipv6_addr; flags dynamic,timeout; timeout 1h; size 65536; }\n"
	      "\tset asking { type ether_addr; flags dynamic,timeout; timeout 1m; size 65536; }\n"
	      "\tchain strange {\n\t\tct state established,related return\n",
	      f);
	known(f, r, false);
	known(f, r, true);
	fputs("\t\tip6 daddr @seen return\n\t\tether saddr . ip daddr @asked4 return\n\t\tether saddr . ip6 daddr "
	      "@asked6 return\n"
	      "\t\tadd @asking { ether saddr limit rate over 25/second burst 50 packets } counter drop\n"
	      "\t\tadd @asked4 { ether saddr . ip daddr }\n\t\tadd @asked6 { ether saddr . ip6 daddr }\n\t}\n",
	      f);
}

/* The text of a subnet that the host has this address of, if it has more addresses than the host's table has room for.
 */
static const char *wide(const struct nlmsghdr *m, char text[LAN_TEXT6])
{
	const struct ifaddrmsg *t = NLMSG_DATA(m);
	const struct rtattr *a[IFA_MAX + 1];
	struct lan_net6 six = { .len = t->ifa_prefixlen };
	struct lan_net4 four = { .len = t->ifa_prefixlen };

	if (!rtnl_parse(m, sizeof(*t), a, IFA_MAX) || !t->ifa_prefixlen || t->ifa_scope >= RT_SCOPE_LINK ||
	    !a[IFA_ADDRESS])
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

struct near {
	FILE *f;
	unsigned len;
};

static int add_near(void *opaque, const struct nlmsghdr *m)
{
	struct near *n = opaque;
	char text[LAN_TEXT6];
	const char *net = n->len < WIDE_MOST ? wide(m, text) : NULL;

	if (net)
		fprintf(n->f, "\t\t%s daddr %s goto strange\n", strchr(net, ':') ? "ip6" : "ip", net);
	n->len += !!net;
	return 0;
}

/* The subnets that the host is in itself. */
static void near(FILE *f, const struct lan_rules *r)
{
	struct near n = { f, 0 };
	struct err ignored;

	fputs("\tchain near {\n", f);
	if (r->nl)
		rtnl_each_of(r->nl, &(struct rtnl_ask){ RTM_GETADDR }, add_near, &n, &ignored);
	fputs("\t}\n", f);
}

void lan_rules_routed(FILE *f, const struct lan_rules *r)
{
	const struct lan_def *d = r->def;
	char text[LAN_TEXT6];

	lan_rules_table(f, "inet", d->name);
	share(f, r);
	strange(f, r);
	near(f, r);
	/* What has come by a published port into the network, and other ways into it. What was let in once is not for
	 * ever. To machines that anybody reaches, somebody else may lead as well. */
	fputs("\tchain published {\n", f);
	each_published(f, r, admit);
	fprintf(f,
		"%s\t}\n\tchain in {\n\t\tct state related accept\n"
		"\t\tct direction reply ct state established accept\n\t\tct status dnat jump published\n"
		"\t\tjump strange\n",
		d->model == LAN_ROUTED ? "" : "\t\tcounter drop\n");
	for (unsigned i = 0; i < r->peers_len; i++)
		fprintf(f, "\t\tiifname \"%s\" accept\n", r->peers[i]);
	if (d->model == LAN_ROUTED)
		accept_net(f, d, "daddr");
	fputs("\t\tcounter drop\n\t}\n", f);
	/* Out of it, in nobody else's name. */
	fputs("\tchain out {\n", f);
	if (d->net6.len)
		fprintf(f, "\t\tip6 saddr %s update @seen { ip6 saddr }\n", lan_text_net6(&d->net6, text));
	accept_net(f, d, "saddr");
	fputs("\t\tcounter drop\n\t}\n", f);
	/* What an edit has ended (conns.c): whoever of both goes on is told so. */
	fprintf(f,
		"\tchain ended {\n\t\tct status & %#x == %#x meta l4proto tcp reject with tcp reset\n\t}\n"
		"\tchain forward {\n\t\ttype filter hook forward priority filter; policy accept;\n"
		"\t\tiifname \"%s\" jump ended\n\t\toifname \"%s\" jump ended\n"
		"\t\tiifname \"%s\" jump fair\n\t\tiifname \"%s\" ct state != { established, related } jump near\n"
		"\t\tiifname \"%s\" oifname \"%s\" accept\n\t\toifname \"%s\" goto in\n\t\tiifname \"%s\" goto "
		"out\n\t}\n",
		LAN_ENDED, LAN_ENDED, r->bridge, r->bridge, r->bridge, r->bridge, r->bridge, r->bridge, r->bridge,
		r->bridge);
	/* To the host. */
	fprintf(f, "\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n");
	if (d->dns == LAN_DNS_DNSMASQ)
		serve_own(f, r);
	fprintf(f, "\t\tiifname != \"%s\" accept\n\t\tct state established,related accept\n\t\tjump fair\n", r->bridge);
	accept_net(f, d, "saddr");
	if (d->dns == LAN_DNS_DNSMASQ)
		fputs("\t\tip saddr 0.0.0.0 udp sport 68 udp dport 67 accept\n", f);
	/* The server hears that, and the host does not wonder. */
	else
		fputs("\t\tip daddr 255.255.255.255 udp sport 68 udp dport 67 drop\n", f);
	fputs("\t\tip6 saddr { fe80::/10, :: } accept\n\t\tcounter drop\n\t}\n", f);
	if (d->publish_len)
		published(f, r);
	if (d->model == LAN_NAT || d->publish_len)
		masquerade(f, r);
	fputs("}\n", f);
}

/* Not even to its host: not by what addresses it has elsewhere, nor by ones that it makes itself. */
void lan_rules_isolated(FILE *f, const struct lan_rules *r)
{
	lan_rules_table(f, "netdev", r->def->name);
	fprintf(f,
		"\tchain in {\n\t\ttype filter hook ingress device \"%s\" priority filter; policy "
		"drop;\n\t\tcounter\n\t}\n"
		"\tchain out {\n\t\ttype filter hook egress device \"%s\" priority filter; policy "
		"drop;\n\t\tcounter\n\t}\n}\n",
		r->bridge, r->bridge);
}
