/*
 * What a machine may send: see rules.h. The rules are the same for all machines, and look up in sets what is whose, by
 * the MAC that a frame must have come with: a machine more costs a few elements and two short chains.
 */
#include <string.h>

#include "base/bytes.h"
#include "lan/rules_impl.h"

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

/* Whether machines have IPv4 addresses of ours. */
static bool gives4(const struct lan_def *d)
{
	return d->model != LAN_BRIDGED && d->net4.len;
}

/* --- what is whose --- */

static void put_cable(struct lan_set *s, const struct lan_rules *r, const struct lan_port *p)
{
	fprintf(lan_set_next(s), "%d", p->index);
}

static void put_mac(struct lan_set *s, const struct lan_rules *r, const struct lan_port *p)
{
	char mac[LAN_TEXTMAC];

	fprintf(lan_set_next(s), "%d . %s", p->index, lan_text_mac(p->mac, mac));
}

static void put_same(struct lan_set *s, const struct lan_rules *r, const struct lan_port *p)
{
	char mac[LAN_TEXTMAC];

	lan_text_mac(p->mac, mac);
	fprintf(lan_set_next(s), "%s . %s", mac, mac);
}

/* As the kernel compares it with bytes of a packet. */
static void put_client(struct lan_set *s, const struct lan_rules *r, const struct lan_port *p)
{
	char mac[LAN_TEXTMAC], name[LAN_MACHINE];

	fprintf(lan_set_next(s), "%s . 0x%s", lan_text_mac(p->mac, mac), lan_machine(p->mac, name));
}

static void put_own4(struct lan_set *s, const struct lan_rules *r, const struct lan_port *p)
{
	char mac[LAN_TEXTMAC], ip[LAN_TEXT4];

	if (p->addr4)
		fprintf(lan_set_next(s), "%s . %s", lan_text_mac(p->mac, mac), lan_text4(p->addr4, ip));
}

static void put_own6(struct lan_set *s, const struct lan_rules *r, const struct lan_port *p)
{
	struct in6_addr a[2];
	char mac[LAN_TEXTMAC];
	const unsigned n = own6(r->def, p, a);

	for (unsigned i = 0; i < n; i++) {
		fprintf(lan_set_next(s), "%s . ", lan_text_mac(p->mac, mac));
		lan_rules_hex6(s->f, &a[i]);
	}
}

static void own_sets(FILE *f, const struct lan_rules *r)
{
	static const struct {
		const char *name, *type;
		void (*put)(struct lan_set *s, const struct lan_rules *r, const struct lan_port *p);
	} kinds[] = {
		{ "cables", "typeof iif", put_cable },
		{ "macs", "typeof iif . ether saddr", put_mac },
		{ "same", "typeof ether saddr . arp saddr ether", put_same },
		{ "clients", "typeof ether saddr . @th,288,48", put_client },
		{ "own4", "typeof ether saddr . ip saddr", put_own4 },
		{ "own6", "typeof ether saddr . @nh,64,128", put_own6 },
	};

	for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
		struct lan_set s;

		lan_set_open(&s, f, kinds[k].name, kinds[k].type);
		for (unsigned i = 0; i < r->ports->len; i++)
			if (lan_is_looked_at(&r->ports->v[i]))
				kinds[k].put(&s, r, &r->ports->v[i]);
		lan_set_close(&s);
	}
}

/* What is somebody's by right: the server's and the bridge's, which are there where the model has them. */
static void taken(FILE *f, const struct lan_rules *r)
{
	const struct in6_addr local = { .s6_addr = { 0xfe, 0x80 } };
	const struct lan_def *d = r->def;
	struct in6_addr a[2];
	struct lan_set s;
	uint8_t mac[6];

	lan_set_open(&s, f, "taken", "typeof @nh,64,128");
	lan_server_own_mac(d->name, mac);
	a[0] = lan_eui64(&local, mac);
	lan_bridge_mac(d->name, mac);
	a[1] = lan_eui64(&local, mac);
	for (unsigned i = 0; i < 2; i++)
		lan_rules_hex6(lan_set_next(&s), &a[i]);
	for (unsigned i = 0; i < r->reserved.len6; i++)
		lan_rules_hex6(lan_set_next(&s), &r->reserved.v6[i]);
	for (uint32_t n = 1; d->net6.len && n <= 2; n++) {
		const struct in6_addr own = lan_host6(&d->net6.addr, n);

		lan_rules_hex6(lan_set_next(&s), &own);
	}
	for (unsigned i = 0; i < r->ports->len; i++) {
		const unsigned n = *r->ports->v[i].tap ? own6(d, &r->ports->v[i], a) : 0;

		for (unsigned k = 0; k < n; k++)
			lan_rules_hex6(lan_set_next(&s), &a[k]);
	}
	lan_set_close(&s);
	lan_set_open(&s, f, "taken4", "type ipv4_addr");
	for (unsigned i = 0; i < r->reserved.len4; i++) {
		char ip[LAN_TEXT4];

		fputs(lan_text4(r->reserved.v4[i], ip), lan_set_next(&s));
	}
	lan_set_close(&s);
}

/* --- what is looked at --- */

/* Dropped, and counted for its cable. */
static void refused(FILE *f, const struct lan_rules *r)
{
	fprintf(f,
		"\tset " LAN_REFUSED " { typeof iif; flags dynamic; size %u; }\n"
		"\tchain " LAN_REFUSED " {\n\t\tadd @" LAN_REFUSED " { iif counter } drop\n\t\tdrop\n\t}\n",
		r->ports->len + 1);
}

/* Who hears a probe for the address that it wants does not take it. */
static void arps(FILE *f, const struct lan_rules *r)
{
	fputs("\tchain arps {\n\t\tether saddr . arp saddr ether != @same goto refused\n", f);
	if (gives4(r->def))
		fputs("\t\tarp saddr ip != 0.0.0.0 ether saddr . arp saddr ip != @own4 goto refused\n"
		      "\t\tarp saddr ip 0.0.0.0 ether saddr . arp daddr ip != @own4 goto refused\n",
		      f);
	fputs("\t\tarp saddr ip @taken4 goto refused\n\t\taccept\n\t}\n", f);
}

/*
 * What a DHCP server hears: of a machine that says who it is, and not more than it has to say. Others' turns would be
 * taken otherwise.
 */
static void dhcp(FILE *f, const struct lan_rules *r)
{
	fprintf(f,
		"\tset clients_rate { type ether_addr; flags dynamic,timeout; timeout 1m; size %u; }\n"
		"\tchain dhcp {\n\t\tadd @clients_rate { ether saddr limit rate over 10/second burst 30 packets } "
		"goto refused\n\t\tether type ip6 return\n\t\tether saddr . @th,288,48 @clients return\n"
		"\t\tgoto refused\n\t}\n",
		r->ports->len + 1);
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
		fprintf(f, "\t\tether daddr %s ether type ip ip daddr %s ip daddr != %s goto refused\n", mac,
			lan_text_net4(&d->net4, net), lan_text4(lan_gateway4(d), own));
	if (d->net6.len)
		fprintf(f, "\t\tether daddr %s ether type ip6 ip6 daddr %s ip6 daddr != %s goto refused\n", mac,
			lan_text_net6(&d->net6, net), lan_text6(&six, own));
}

static void ipv4(FILE *f, const struct lan_rules *r)
{
	fputs("\tchain ipv4 {\n\t\tip saddr 0.0.0.0 udp sport 68 udp dport 67 accept\n", f);
	if (gives4(r->def))
		fputs("\t\tether saddr . ip saddr != @own4 goto refused\n", f);
	fputs("\t\tip saddr @taken4 goto refused\n\t\tigmp type membership-query goto refused\n", f);
	fputs("\t\taccept\n\t}\n", f);
}

/*
 * Behind more headers: what is in the packet must be seen here, and not be put together only by who gets it (RFC 7112,
 * 7113); what neighbors say is not fragmented (RFC 6980). In later parts nothing is to be seen. A
 * comparison that is always true fails where there is nothing to compare.
 */
static void extended(FILE *f)
{
	fputs("\tchain extended {\n\t\texthdr frag exists icmpv6 type { nd-router-solicit, nd-router-advert, "
	      "nd-neighbor-solicit, nd-neighbor-advert, nd-redirect } goto refused\n"
	      "\t\tfrag frag-off != 0 return\n\t\t@th,56,8 >= 0 return\n\t\tgoto refused\n\t}\n",
	      f);
}

/* An address that is another one's: `at` is where in the packet it stands. */
static void not_anothers(FILE *f, const char *at)
{
	fprintf(f,
		"\t\tether saddr . %s != @own6 %s @taken goto refused\n"
		"\t\tether saddr . %s != @own6 ether saddr . %s != @mine %s @learned goto refused\n",
		at, at, at, at, at);
}

static void in_subnets(FILE *f, const struct lan_rules *r, const char *at)
{
	if (r->def->model == LAN_BRIDGED)
		return;
	fprintf(f, "\t\t%s,64 != { 0xfe80000000000000", at);
	if (r->def->net6.len)
		fprintf(f, ", 0x%016llx", (unsigned long long)ld_be64(r->def->net6.addr.s6_addr));
	fputs(" } goto refused\n", f);
}

/*
 * What is its own; what it has made itself and nobody has before; nothing else (RFC 6620). Who asks whether an address
 * is taken (from ::) has it from then on, or another one would say that it is its own; for somebody else's, who would
 * let go of it, nobody asks so.
 */
static void ipv6(FILE *f, const struct lan_rules *r)
{
	fputs("\tchain target {\n", f);
	not_anothers(f, "@th,64,128");
	in_subnets(f, r, "@th,64");
	fputs("\t\tether saddr . @th,64,128 @own6 return\n", f);
	lan_rules_learn(f, r, "@th,64,128");
	fputs("\t}\n\tchain ipv6 {\n\t\tip6 nexthdr { 0, 43, 44, 60 } jump extended\n"
	      /* What only routers say, and what claims addresses in other ways (RFC 3122, 3971). */
	      "\t\ticmpv6 type { nd-router-advert, nd-redirect, mld-listener-query, 138, ind-neighbor-solicit, "
	      "ind-neighbor-advert, 148, 151 } goto refused\n"
	      "\t\tip6 saddr :: icmpv6 type nd-neighbor-solicit jump target\n"
	      "\t\tip6 saddr :: icmpv6 type { nd-neighbor-solicit, nd-router-solicit, mld2-listener-report, "
	      "mld-listener-report, mld-listener-done } accept\n\t\tip6 saddr :: goto refused\n",
	      f);
	not_anothers(f, "@nh,64,128");
	in_subnets(f, r, "@nh,64");
	fputs("\t\ticmpv6 type nd-neighbor-advert jump target\n\t\tether saddr . @nh,64,128 @own6 accept\n", f);
	lan_rules_learn(f, r, "@nh,64,128");
	fputs("\t\taccept\n\t}\n", f);
}

void lan_rules_ports(FILE *f, const struct lan_rules *r)
{
	const bool bridged = r->def->model == LAN_BRIDGED;

	own_sets(f, r);
	taken(f, r);
	lan_rules_learned(f, r);
	refused(f, r);
	dhcp(f, r);
	arps(f, r);
	ipv4(f, r);
	extended(f);
	ipv6(f, r);
	fputs("\tchain cable {\n\t\tiif . ether saddr != @macs goto refused\n\t\tether type arp goto arps\n"
	      /* Only the network's own server answers as one: clients take what comes to them from any port. */
	      "\t\tudp sport { 67, 547 } goto refused\n\t\tudp dport { 68, 546 } goto refused\n"
	      "\t\tudp dport { 67, 547 } jump dhcp\n",
	      f);
	if (lan_has_gateway(r->def))
		not_by_host(f, r->def);
	/*
	 * Tags would hide what is within: 802.1Q and ad, as they were before, ah, AE (MACsec), BR. No switch of the
	 * network outside shall hear another one here, nor who logs in at its port: pause, LACP, EAPOL, LLDP, TRILL,
	 * MSRP, MVRP, MMRP and CFM, also to one's own address.
	 */
	if (bridged)
		fputs("\t\tether type { 8021q, 8021ad, 0x9100, 0x9200, 0x88e7, 0x88e5, 0x893f } goto refused\n"
		      "\t\tether type { 0x8808, 0x8809, 0x888e, 0x88cc, 0x22f3, 0x22ea, 0x88f5, 0x88f6, 0x8902 } goto "
		      "refused\n"
		      "\t\tether daddr & ff:ff:ff:ff:ff:c0 == 01:80:c2:00:00:00 goto refused\n"
		      "\t\tether type < 0x0600 goto refused\n",
		      f);
	fprintf(f, "\t\tether type ip goto ipv4\n\t\tether type ip6 goto ipv6\n\t\t%s\n\t}\n",
		bridged ? "accept" : "goto refused");
}
