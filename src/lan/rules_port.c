/* What a machine may send: see rules.h. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lan/rules_impl.h"

/* What one machine may have learned by whom it hears: addresses of its own making (RFC 6620). */
#define LEARNED_MOST 16u

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

/* It says so of what stands there, and nobody has it yet: it has it from now on (RFC 6620). */
static void bind_address(FILE *f, const char *what, const char *set, const char *prefixes)
{
	static const char target[] = "@th,64,128";

	claim(f, what, target, set);
	if (*prefixes)
		fprintf(f, "\t\t%s@th,64,64 != { %s } counter drop\n", what, prefixes);
	/* Its set may be full: then nothing is added, and the packet is not what it may send. */
	fprintf(f, "\t\t%s%s != @o-%s add @l-%s { %s } add @learned { %s }\n", what, target, set, set, target, target);
	fprintf(f, "\t\t%s%s != @o-%s %s != @l-%s counter drop\n", what, target, set, target, set);
}

static void port_ipv6(FILE *f, const struct lan_rules *r, const struct lan_port *p)
{
	static const char na[] = "icmpv6 type nd-neighbor-advert ", source[] = "@nh,64,128";
	static const char dad[] = "ip6 saddr :: icmpv6 type nd-neighbor-solicit ";
	char prefixes[64] = "", t[13];

	set_name(p, t);
	if (r->def->net6.len)
		snprintf(prefixes, sizeof(prefixes), "0xfe80000000000000, 0x%016llx",
			 (unsigned long long)ld_be64(r->def->net6.addr.s6_addr));
	else if (r->def->model != LAN_BRIDGED)
		snprintf(prefixes, sizeof(prefixes), "0xfe80000000000000");
	fputs("\t\tip6 nexthdr { 0, 43, 44, 60, 135 } jump extended\n"
	      /* What only routers say, and what claims addresses in other ways (RFC 3122, 3971). */
	      "\t\ticmpv6 type { nd-router-advert, nd-redirect, mld-listener-query, 138, ind-neighbor-solicit, "
	      "ind-neighbor-advert, 148, 151 } counter drop\n",
	      f);
	/*
	 * What is its own; what it has made itself and nobody has before; nothing else. Who asks whether an address is
	 * taken (from ::) has it from then on, or another one would say that it is its own; for somebody else's, who
	 * would let go of it, nobody asks so.
	 */
	bind_address(f, dad, t, prefixes);
	fputs("\t\tip6 saddr :: icmpv6 type { nd-neighbor-solicit, nd-router-solicit, mld2-listener-report, "
	      "mld-listener-report, mld-listener-done } accept\n\t\tip6 saddr :: counter drop\n",
	      f);
	claim(f, "", source, t);
	if (*prefixes)
		fprintf(f, "\t\t@nh,64,64 != { %s } counter drop\n", prefixes);
	bind_address(f, na, t, prefixes);
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

	if (p->trusted) {
		fprintf(f, "\tchain p-%s {\n\t\taccept\n\t}\n", p->tap);
		return;
	}
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
	for (unsigned i = 0; i < r->reserved.len4; i++)
		fprintf(f,
			"\t\tether type arp arp saddr ip %s counter drop\n\t\tether type ip ip saddr %s counter drop\n",
			lan_text4(r->reserved.v4[i], own), own);
	fputs("\t\tether type arp accept\n"
	      /* Only the network's own server answers as one: clients take what comes to them from any port. */
	      "\t\tudp sport { 67, 547 } counter drop\n"
	      "\t\tudp dport { 68, 546 } counter drop\n"
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

void lan_rules_guarded(FILE *f, const struct lan_rules *r)
{
	const struct in6_addr local = { .s6_addr = { 0xfe, 0x80 } };
	const struct lan_def *d = r->def;
	struct in6_addr a[2];
	uint8_t mac[6];
	bool any = false;

	lan_rules_table(f, "bridge", d->name);
	/* What is somebody's by right: the server's and the bridge's, which are there where the model has them. */
	fputs("\tset taken { typeof @nh,64,128; elements = { ", f);
	lan_server_own_mac(d->name, mac);
	a[0] = lan_eui64(&local, mac);
	hex6(f, &a[0]);
	lan_bridge_mac(d->name, mac);
	a[0] = lan_eui64(&local, mac);
	fputs(", ", f);
	hex6(f, &a[0]);
	for (unsigned i = 0; i < r->reserved.len6; i++) {
		fputs(", ", f);
		hex6(f, &r->reserved.v6[i]);
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
