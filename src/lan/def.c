/* See def.h. */
#include "lan/def.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

const char *const lan_model_names[] = { "nat", "isolated", "routed", "bridged", NULL };
const char *const lan_dns_names[] = { "own", "dnsmasq", "off", NULL };

void lan_def_init(struct lan_def *d, const char *name)
{
	memset(d, 0, sizeof(*d));
	snprintf(d->name, sizeof(d->name), "%s", name);
	d->dhcp = true;
}

/* --- names --- */

bool lan_name_ok(const char *name)
{
	size_t n = strlen(name);

	if (!n || n > LAN_NET_NAME || !isalnum((unsigned char)*name))
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("_-", *name))
			return false;
	return true;
}

bool lan_label_ok(const char *name, unsigned len)
{
	if (!len || len > LAN_NAME_LABEL || name[0] == '-' || name[len - 1] == '-')
		return false;
	for (unsigned i = 0; i < len; i++)
		if (!isalnum((unsigned char)name[i]) && name[i] != '-')
			return false;
	return true;
}

bool lan_label_of(const char *name, char label[LAN_NAME_LABEL + 1])
{
	size_t n = strlen(name);

	if (n > LAN_NAME_LABEL)
		return false;
	for (size_t i = 0; i <= n; i++)
		label[i] = name[i] && strchr("_. ", name[i]) ? '-' : name[i];
	return lan_label_ok(label, (unsigned)n);
}

static bool domain_ok(const char *name)
{
	while (*name) {
		size_t n = strcspn(name, ".");

		if (!lan_label_ok(name, (unsigned)n))
			return false;
		name += n;
		if (*name == '.' && !*++name)
			return false;
	}
	return true;
}

/* What the kernel takes as the name of an interface, and what needs no quoting anywhere. */
bool lan_ifname_ok(const char *name)
{
	size_t n = strlen(name);

	if (!n || n >= IFNAMSIZ || !isalnum((unsigned char)*name))
		return false;
	/* Switches of no interface are called so. */
	if (!strcmp(name, "all") || !strcmp(name, "default"))
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("._-@", *name))
			return false;
	return true;
}

/* A name of at most 15 bytes: of a longer one its beginning and a sum, so that two rarely meet. */
static void own_name(const char *prefix, const char *name, char buf[IFNAMSIZ])
{
	const size_t len = strlen(name), room = IFNAMSIZ - 1 - strlen(prefix);

	strcpy(buf, prefix);
	if (len <= room)
		memcpy(buf + strlen(prefix), name, len + 1);
	else
		snprintf(buf + strlen(prefix), room + 1, "%.5s-%06x", name, lan_sum(name, (unsigned)len) & 0xffffff);
}

void lan_bridge_name(const struct lan_def *d, char buf[IFNAMSIZ])
{
	if (*d->bridge)
		snprintf(buf, IFNAMSIZ, "%s", d->bridge);
	else
		own_name("vr-", d->name, buf);
}

void lan_server_name(const struct lan_def *d, char buf[IFNAMSIZ])
{
	own_name("vs-", d->name, buf);
}

void lan_bridge_mac(const char *name, uint8_t mac[6])
{
	uint32_t h = lan_sum(name, (unsigned)strlen(name));

	mac[0] = 0x0a; /* locally administered */
	mac[1] = 'V';
	st_be32(mac + 2, h);
}

void lan_server_own_mac(const char *name, uint8_t mac[6])
{
	lan_bridge_mac(name, mac);
	mac[1] = 'S';
}

bool lan_def_names(const struct lan_def *d, const char *name)
{
	for (unsigned i = 0; i < d->routes_len; i++)
		if (!strcmp(d->routes[i], name))
			return true;
	return false;
}

bool lan_has_server(const struct lan_def *d)
{
	return d->model != LAN_BRIDGED && (d->dhcp || d->dns != LAN_DNS_OFF);
}

bool lan_has_gateway(const struct lan_def *d)
{
	return d->model == LAN_NAT || d->model == LAN_ROUTED;
}

bool lan_is_machine4(const struct lan_def *d, uint32_t addr)
{
	return d->net4.len && lan_in4(&d->net4, addr) && addr > lan_server4(d) &&
	       addr != (d->net4.addr | ~lan_mask4(d->net4.len));
}

/* Behind the same two. */
static bool is_machine6(const struct lan_def *d, const struct in6_addr *addr)
{
	const struct in6_addr server = lan_host6(&d->net6.addr, 2);

	return d->net6.len && lan_in6(&d->net6, addr) && memcmp(addr, &server, sizeof(server)) > 0;
}

/* --- checks --- */

static int check_statics(const struct lan_def *d, struct err *err)
{
	char text[LAN_TEXT4], mac[LAN_TEXTMAC], net[LAN_TEXT6];

	for (unsigned i = 0; i < d->statics_len; i++) {
		const struct lan_static *s = &d->statics[i];

		lan_text_mac(s->mac, mac);
		if (s->addr4 && !d->net4.len)
			return err_set(err, "host %s: the network has no IPv4 subnet of its own", mac);
		if (s->addr4 && !lan_is_machine4(d, s->addr4))
			return err_set(
				err,
				"host %s: %s is not an address of a machine in the subnet %s (the first two are the "
				"gateway's and the server's)",
				mac, lan_text4(s->addr4, text), lan_text_net4(&d->net4, net));
		for (unsigned k = 0; k < i; k++) {
			const struct lan_static *o = &d->statics[k];

			if (!memcmp(s->mac, o->mac, 6))
				return err_set(err, "host %s is given twice", mac);
			if (s->addr4 && s->addr4 == o->addr4)
				return err_set(err, "host %s: %s is another host's address", mac,
					       lan_text4(s->addr4, text));
			if (*s->name && !strcasecmp(s->name, o->name))
				return err_set(err, "host %s: '%s' is another host's name", mac, s->name);
		}
	}
	return 0;
}

/* All addresses of the subnet but the first two and the one for all. */
static void whole_range(const struct lan_def *d, uint32_t *first, uint32_t *last)
{
	*first = lan_server4(d) + 1;
	*last = (d->net4.addr | ~lan_mask4(d->net4.len)) - 1;
}

void lan_def_set_net4(struct lan_def *d, const struct lan_net4 *net4)
{
	uint32_t first, last;

	whole_range(d, &first, &last);
	if (d->first4 == first && d->last4 == last)
		d->first4 = d->last4 = 0;
	d->net4 = *net4;
}

static int check_range(struct lan_def *d, struct err *err)
{
	char a[LAN_TEXT4], b[LAN_TEXT4], net[LAN_TEXT6];
	uint32_t first, last;

	whole_range(d, &first, &last);
	if (!d->first4) {
		d->first4 = first;
		d->last4 = last;
	}
	lan_text4(d->first4, a);
	lan_text4(d->last4, b);
	if (d->first4 > d->last4)
		return err_set(err, "dhcp-range %s-%s: it ends before it begins", a, b);
	if (d->first4 < first || d->last4 > last)
		return err_set(err,
			       "dhcp-range %s-%s: it must lie in the subnet %s, behind its first two addresses and "
			       "before its last (none: all of these)",
			       a, b, lan_text_net4(&d->net4, net));
	return 0;
}

/* All addresses of the host, if only of one family. */
static bool at_any(const struct lan_publish *p)
{
	return !p->at4 && lan_zero6(&p->at6);
}

static bool has_port(const struct lan_publish *p, unsigned port)
{
	return port >= p->port && port <= p->port + (unsigned)p->more;
}

unsigned lan_publish_meets(const struct lan_publish *a, const struct lan_publish *b)
{
	const unsigned port = a->port > b->port ? a->port : b->port;
	const bool same = a->at4 == b->at4 && !memcmp(&a->at6, &b->at6, sizeof(a->at6));

	return has_port(a, port) && has_port(b, port) && a->udp == b->udp && a->families & b->families &&
			       (same || at_any(a) || at_any(b))
		       ? port
		       : 0;
}

/* Of dnsmasq, which answers at the gateway's address: one of the host's. 0: none of these. */
static unsigned server_port(const struct lan_def *d, const struct lan_publish *p)
{
	static const struct {
		unsigned port;
		bool udp_only;
	} ports[] = { { 53, false }, { 67, true }, { 547, true } };
	const struct in6_addr six = lan_host6(&d->net6.addr, 1);
	const bool there = at_any(p) || p->at4 == lan_gateway4(d) || !memcmp(&p->at6, &six, sizeof(six));

	for (size_t i = 0; i < ARRAY_LEN(ports) && d->dns == LAN_DNS_DNSMASQ && there; i++)
		if (has_port(p, ports[i].port) && (p->udp || !ports[i].udp_only))
			return ports[i].port;
	return 0;
}

/* What nobody else can send to, or what is not one host's. */
static bool is_elsewhere(const struct lan_publish *p)
{
	return p->at4 >> 24 == 127 || p->at4 >> 28 >= 14 || IN6_IS_ADDR_LOOPBACK(&p->at6) ||
	       IN6_IS_ADDR_LINKLOCAL(&p->at6) || IN6_IS_ADDR_MULTICAST(&p->at6);
}

/* Ports lead to machines of this network: others have filters of their own, which would let them pass. */
/* What is of no use to anybody: refused when it is asked for, and left alone where it is so already. */
static int check_use(const struct lan_def *d, struct err *err)
{
	char text[2 * LAN_NAME_LABEL + 64];

	for (unsigned i = 0; i < d->publish_len; i++) {
		const unsigned port = server_port(d, &d->publish[i]);

		lan_publish_text(&d->publish[i], text, sizeof(text));
		if (is_elsewhere(&d->publish[i]))
			return err_set(err, "publish %s: nobody else reaches the host by that address", text);
		if (port)
			return err_set(err, "publish %s: port %u is where dnsmasq answers the network", text, port);
	}
	if (d->net4.len && lan_overlap4(&d->net4, &(struct lan_net4){ 0xa9fe0000, 16 }))
		return err_set(err, "subnet %s: no addresses of machines (nor are those of 169.254.0.0/16)",
			       lan_text_net4(&d->net4, text));
	return 0;
}

static int check_published(const struct lan_def *d, struct err *err)
{
	char text[2 * LAN_NAME_LABEL + 64];
	struct in6_addr six;
	uint32_t four;

	for (unsigned i = 0; i < d->publish_len; i++) {
		const struct lan_publish *p = &d->publish[i];

		lan_publish_text(p, text, sizeof(text));
		if ((lan_parse4(p->to, &four) && !lan_is_machine4(d, four)) ||
		    (lan_parse6(p->to, &six) && !is_machine6(d, &six)))
			return err_set(err, "publish %s: %s is not an address of a machine in the network", text,
				       p->to);
		for (unsigned k = 0; k < i; k++) {
			const unsigned port = lan_publish_meets(p, &d->publish[k]);

			if (port)
				return err_set(err, "publish %s: port %u leads to %s already", text, port,
					       d->publish[k].to);
		}
	}
	return 0;
}

static int check_subnets(struct lan_def *d, struct err *err)
{
	char text[LAN_TEXT6];

	if (d->model == LAN_BRIDGED) {
		if (d->net4.len || d->net6.len || d->first4)
			return err_set(
				err,
				"a bridged network has the addresses of the network outside: no subnet, no dhcp-range");
		return 0;
	}
	if (!d->net4.len && !d->net6.len)
		return err_set(err, "a network has IPv4 or IPv6 or both: a subnet or a subnet6 is needed");
	if (d->net4.len && (d->net4.len < 8 || d->net4.len > 29))
		return err_set(err, "subnet %s: a prefix of 8 to 29 bits is needed", lan_text_net4(&d->net4, text));
	if (d->net4.len && (d->net4.addr >> 24 == 0 || d->net4.addr >> 24 == 127 || d->net4.addr >> 24 >= 224))
		return err_set(err, "subnet %s: no addresses of machines", lan_text_net4(&d->net4, text));
	if (d->net6.len && d->net6.len != 64)
		return err_set(err, "subnet6 %s: a prefix of 64 bits is needed", lan_text_net6(&d->net6, text));
	if (d->net6.len &&
	    (d->net6.addr.s6_addr[0] == 0xff || d->net6.addr.s6_addr[0] == 0xfe || !d->net6.addr.s6_addr[0]))
		return err_set(err, "subnet6 %s: neither unique local nor global", lan_text_net6(&d->net6, text));
	if (!d->net4.len && d->first4)
		return err_set(err, "dhcp-range: the network has no IPv4 subnet (none: no range)");
	return d->net4.len ? check_range(d, err) : 0;
}

static int check_model(const struct lan_def *d, struct err *err)
{
	char server[IFNAMSIZ];

	if ((d->model == LAN_BRIDGED) != !!*d->uplink)
		return err_set(err, d->model == LAN_BRIDGED ? "a bridged network needs an interface of the host"
							    : "only a bridged network has an interface of the host");
	if (*d->uplink && !lan_ifname_ok(d->uplink))
		return err_set(err, "bridged: '%s' is no name of an interface", d->uplink);
	if (*d->bridge && !lan_ifname_ok(d->bridge))
		return err_set(err, "bridge: '%s' is no name of an interface", d->bridge);
	lan_server_name(d, server);
	if (!strcmp(d->bridge, server))
		return err_set(err, "bridge: '%s' is the name of the servers' interface", d->bridge);
	if (*d->bridge && !strcmp(d->bridge, d->uplink))
		return err_set(err, "bridge: '%s' is the interface itself", d->bridge);
	if (d->publish_len && d->model != LAN_NAT && d->model != LAN_ROUTED)
		return err_set(err, "publish: a network that is %s has no published ports (--publish none)",
			       lan_model_names[d->model]);
	if (d->routes_len && !lan_has_gateway(d))
		return err_set(err, "route: networks with model nat or routed have routes to each other");
	if (d->model == LAN_BRIDGED && d->statics_len)
		return err_set(err, "host: addresses in a bridged network are given by the network outside");
	return 0;
}

/* Words of `--net`, which names a network, too. */
static bool is_reserved(const char *name)
{
	static const char *const words[] = { "user", "none", "tap",	"socket", "stream",	"dgram",  "passt",
					     "null", "help", "network", "bridge", "vhost-user", "hubport" };

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (!strcmp(words[i], name))
			return true;
	return false;
}

int lan_name_check(const char *name, struct err *err)
{
	if (is_reserved(name))
		return err_set(err, "'%s' means something else in --net: another name is needed", name);
	return lan_name_ok(name)
		       ? 0
		       : err_set(err,
				 "'%.64s' is not a network's name: 1 to %d letters, digits, '_' or '-', the first no "
				 "sign",
				 name, LAN_NET_NAME);
}

int lan_def_check(struct lan_def *d, struct err *err)
{
	return lan_def_check_stored(d, err) || check_use(d, err) ? -1 : 0;
}

int lan_def_check_stored(struct lan_def *d, struct err *err)
{
	if (lan_name_check(d->name, err))
		return -1;
	if (*d->domain && !domain_ok(d->domain))
		return err_set(err, "domain: '%s' is no name of a domain", d->domain);
	if (d->mtu && (d->mtu < LAN_MTU_MIN || d->mtu > 65535))
		return err_set(err, "mtu: %u is not within %u and 65535", d->mtu, LAN_MTU_MIN);
	for (unsigned i = 0; i < d->routes_len; i++)
		if (!lan_name_ok(d->routes[i]) || !strcmp(d->routes[i], d->name))
			return err_set(err, "route: '%s' is not another network", d->routes[i]);
	if (check_model(d, err) || check_subnets(d, err) || check_statics(d, err) || check_published(d, err))
		return -1;
	return 0;
}

/* --- words of the command line --- */

int lan_parse_static(struct lan_def *d, const char *text, struct err *err)
{
	struct lan_static *s = &d->statics[d->statics_len];
	const char *name = strchr(text, ','), *addr = name ? strchr(name + 1, ',') : NULL;
	char mac[LAN_TEXTMAC];
	size_t len;

	if (d->statics_len == LAN_STATIC_MAX)
		return err_set(err, "host: more than %d of them", LAN_STATIC_MAX);
	memset(s, 0, sizeof(*s));
	snprintf(mac, sizeof(mac), "%s", text); /* up to the comma, if it is one */
	if (!name || name - text != sizeof(mac) - 1 || !lan_parse_mac(mac, s->mac))
		return err_set(err, "host: '%s' is not MAC,NAME,ADDRESS (as 52:54:00:00:00:01,web,10.1.2.3)", text);
	len = addr ? (size_t)(addr - name - 1) : strlen(name + 1);
	snprintf(s->name, sizeof(s->name), "%.*s", (int)len, name + 1);
	if (len > LAN_NAME_LABEL || (len && !lan_label_of(s->name, s->name)))
		return err_set(err, "host: '%.*s' is no name of a machine (1 to 63 letters, digits and dashes)",
			       (int)len, name + 1);
	if (addr && addr[1] && !lan_parse4(addr + 1, &s->addr4))
		return err_set(err, "host: '%s' is no IPv4 address", addr + 1);
	d->statics_len++;
	return 0;
}

int lan_parse_range(struct lan_def *d, const char *text, struct err *err)
{
	const char *dash = strchr(text, '-');
	char first[LAN_TEXT4];

	snprintf(first, sizeof(first), "%.*s", (int)strcspn(text, "-"), text);
	if (!dash || !lan_parse4(first, &d->first4) || !lan_parse4(dash + 1, &d->last4) || !d->first4)
		return err_set(err, "dhcp-range: '%s' is not ADDRESS-ADDRESS", text);
	return 0;
}

static bool port(const char *text, uint16_t *p)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	*p = (uint16_t)n;
	return isdigit((unsigned char)*text) && !*end && n && n <= 65535;
}

/* "PORT" or "PORT-PORT": the first of them, and how many follow. */
static bool ports(char *text, uint16_t *first, uint16_t *more)
{
	char *dash = strchr(text, '-');
	uint16_t last;

	if (dash)
		*dash = '\0';
	if (!port(text, first) || !port(dash ? dash + 1 : text, &last))
		return false;
	*more = (uint16_t)(last - *first);
	return last >= *first;
}

/* "[ADDR:]PORTS" with brackets around an IPv6 address, which goes to `host` ("": none). */
static bool host_ports(const char *text, size_t len, char host[LAN_NAME_LABEL + 1], uint16_t *first, uint16_t *more)
{
	char buf[128], *colon;

	if (len >= sizeof(buf))
		return false;
	memcpy(buf, text, len);
	buf[len] = '\0';
	*host = '\0';
	colon = strrchr(buf, ':');
	if (!ports(colon ? colon + 1 : buf, first, more))
		return false;
	if (!colon)
		return true;
	*colon = '\0';
	if (*buf == '[' && colon > buf + 1 && colon[-1] == ']') {
		colon[-1] = '\0';
		memmove(buf, buf + 1, strlen(buf));
	} else if (strchr(buf, ':')) {
		return false;
	}
	return snprintf(host, LAN_NAME_LABEL + 1, "%s", buf) <= LAN_NAME_LABEL;
}

/* How long the number is that a dash follows, as in "8010-web": the end of a range, which no machine's name is. */
static size_t number_and_dash(const char *text)
{
	const size_t n = strspn(text, "0123456789");

	return text[n] == '-' ? n : 0;
}

int lan_parse_publish(struct lan_def *d, const char *text, struct err *err)
{
	struct lan_publish *p = &d->publish[d->publish_len];
	const char *where = text, *dash;
	char host[LAN_NAME_LABEL + 1];
	unsigned to = LAN_4 | LAN_6;
	struct in6_addr to6;
	uint16_t more = 0;
	uint32_t to4;

	if (d->publish_len == LAN_PUBLISH_MAX)
		return err_set(err, "publish: more than %d of them", LAN_PUBLISH_MAX);
	memset(p, 0, sizeof(*p));
	if (!strncmp(where, "udp:", 4))
		p->udp = true, where += 4;
	else if (!strncmp(where, "tcp:", 4))
		where += 4;
	dash = strchr(where, '-');
	if (dash && number_and_dash(dash + 1))
		dash += 1 + number_and_dash(dash + 1);
	if (!dash || !host_ports(where, (size_t)(dash - where), host, &p->port, &p->more) ||
	    !host_ports(dash + 1, strlen(dash + 1), p->to, &p->to_port, &more) || !p->to[strspn(p->to, "0123456789")])
		return err_set(err,
			       "publish: '%s' is not [tcp|udp:][ADDRESS:]PORT[-PORT]-MACHINE:PORT[-PORT], as "
			       "tcp:8080-web:80 or tcp:8000-8010-10.1.2.3:9000-9010",
			       text);
	if (p->more != more)
		return err_set(err, "publish: '%s': of the host there are %u ports, and %u of the machine", text,
			       p->more + 1u, more + 1u);
	if (p->port != p->to_port && more >= LAN_SHIFTED_MAX)
		return err_set(err, "publish: '%s': more than %d ports can only lead to the same ones", text,
			       LAN_SHIFTED_MAX);
	if (lan_parse4(p->to, &to4))
		to = LAN_4;
	else if (lan_parse6(p->to, &to6))
		to = LAN_6;
	else if (!lan_label_of(p->to, p->to))
		return err_set(err, "publish: '%s' is neither a machine's name nor an address", p->to);
	if (*host && !lan_parse4(host, &p->at4) && !lan_parse6(host, &p->at6))
		return err_set(err, "publish: '%s' is neither tcp, udp nor an address of the host", host);
	p->families = to & (!*host ? to : strchr(host, ':') ? LAN_6 : LAN_4);
	if (!p->families)
		return err_set(err, "publish: '%s' goes from one family of addresses to the other", text);
	d->publish_len++;
	return 0;
}

static const char *ports_text(unsigned first, unsigned more, bool range, char buf[16])
{
	snprintf(buf, 16, range ? "%u-%u" : "%u", first, first + more);
	return buf;
}

const char *lan_publish_text(const struct lan_publish *p, char *buf, unsigned size)
{
	bool bracket = strchr(p->to, ':');
	char at[LAN_TEXT6 + 4] = "", text[LAN_TEXT6], here[16], there[16];
	uint32_t four;
	int n;

	/* The family is that of one end, or of neither. */
	if (p->families == LAN_6 && (!at_any(p) || !bracket))
		snprintf(at, sizeof(at), "[%s]:", lan_text6(&p->at6, text));
	if (p->families == LAN_4 && (!at_any(p) || !lan_parse4(p->to, &four)))
		snprintf(at, sizeof(at), "%s:", lan_text4(p->at4, text));
	n = snprintf(buf, size, "%s:%s%s-%s%s%s:%s", p->udp ? "udp" : "tcp", at,
		     ports_text(p->port, p->more, p->more || number_and_dash(p->to), here), bracket ? "[" : "", p->to,
		     bracket ? "]" : "", ports_text(p->to_port, p->more, p->more, there));
	return n < (int)size ? buf : "";
}
