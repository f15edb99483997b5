/* libvirt's XML of a network (libvirt.org/formatnetwork.html): see lan.h. A row for each element that is known. */
#include <expat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lan/lan.h"

#define DEPTH_MOST 16

struct reader {
	struct lan_def *d;
	struct lan_wishes *w;
	const char *name; /* NULL: the file's */
	XML_Parser parser;
	struct err *err;
	bool failed, v6, has4, has6, dhcp4, dhcp6;
	unsigned depth, seen; /* bits of elements that may be there once */
	const struct element *path[DEPTH_MOST];
	char text[256]; /* of the element that is open */
	struct lan_static dns_host;
};

struct element {
	const char *name, *parent; /* parent "": the root */
	/* Attributes that are read or mean nothing here; any other one is refused. */
	const char *attributes;
	bool many; /* may be there more than once */
	void (*begin)(struct reader *r, const char **attr);
	void (*end)(struct reader *r);
};

static void fail(struct reader *r)
{
	if (!r->failed)
		err_prefix(r->err, "line %lu", (unsigned long)XML_GetCurrentLineNumber(r->parser));
	r->failed = true;
	XML_StopParser(r->parser, XML_FALSE);
}

#define FAIL(r, ...)                                                                                                   \
	do {                                                                                                           \
		if (!(r)->failed) {                                                                                    \
			err_set((r)->err, __VA_ARGS__);                                                                \
			fail(r);                                                                                       \
		}                                                                                                      \
	} while (0)

static const char *attribute(const char **attr, const char *name)
{
	for (; *attr; attr += 2)
		if (!strcmp(attr[0], name))
			return attr[1];
	return NULL;
}

static void copy(struct reader *r, const char *what, const char *from, char *to, size_t size)
{
	if (!from)
		return;
	/* Nothing stays of a longer one that an element before gave. */
	memset(to, 0, size);
	if (snprintf(to, size, "%s", from) >= (int)size)
		FAIL(r, "%s: '%.64s' is too long", what, from);
}

/* --- elements --- */

static void end_name(struct reader *r)
{
	static const char blank[] = " \t\r\n";
	char *begin = r->text + strspn(r->text, blank), *end = begin + strlen(begin);

	while (end > begin && strchr(blank, end[-1]))
		*--end = '\0';
	if (!r->name)
		copy(r, "name", begin, r->d->name, sizeof(r->d->name));
}

/* A number and nothing else, up to `most`. */
static bool number(const char *text, unsigned most, unsigned *n)
{
	unsigned long v = strtoul(text, NULL, 10);

	*n = (unsigned)v;
	return *text && strlen(text) < 10 && !text[strspn(text, "0123456789")] && v <= most;
}

static void begin_forward(struct reader *r, const char **attr)
{
	static const struct {
		const char *mode;
		enum lan_model model;
	} modes[] = { { "nat", LAN_NAT },
		      { "none", LAN_ISOLATED },
		      { "route", LAN_ROUTED },
		      { "open", LAN_ROUTED },
		      { "bridge", LAN_BRIDGED } };
	const char *mode = attribute(attr, "mode");
	size_t i = 0;

	/* Of nat and route it is where packets may leave: not kept here, but for the plain case. */
	if (attribute(attr, "dev") && (!mode || strcmp(mode, "bridge")))
		FAIL(r, "forward: dev='%.32s' would hold it to one interface, which is not kept",
		     attribute(attr, "dev"));
	if (!mode)
		mode = "nat";
	while (i < ARRAY_LEN(modes) && strcmp(modes[i].mode, mode))
		i++;
	if (i == ARRAY_LEN(modes)) {
		FAIL(r, "forward: mode '%.32s' is not kept (nat, none, route, open and bridge are)", mode);
		return;
	}
	r->d->model = modes[i].model;
	copy(r, "forward", attribute(attr, "dev"), r->d->uplink, sizeof(r->d->uplink));
}

static void begin_interface(struct reader *r, const char **attr)
{
	copy(r, "interface", attribute(attr, "dev"), r->d->uplink, sizeof(r->d->uplink));
}

static void begin_bridge(struct reader *r, const char **attr)
{
	const char *stp = attribute(attr, "stp"), *vlan = attribute(attr, "macTableManager");

	(void)stp; /* a bridge of machines has no loops to break */
	if (vlan && strcmp(vlan, "kernel"))
		FAIL(r, "bridge: macTableManager='%.32s' is not kept", vlan);
	copy(r, "bridge", attribute(attr, "name"), r->d->bridge, sizeof(r->d->bridge));
}

static void begin_domain(struct reader *r, const char **attr)
{
	copy(r, "domain", attribute(attr, "name"), r->d->domain, sizeof(r->d->domain));
}

static void begin_mtu(struct reader *r, const char **attr)
{
	const char *size = attribute(attr, "size");

	if (!size || !number(size, 65535, &r->d->mtu) || !r->d->mtu)
		FAIL(r, "mtu: '%.32s' is no size", size ? size : "");
}

static unsigned bits_of(const char *mask)
{
	uint32_t m;

	if (!lan_parse4(mask, &m))
		return 0;
	for (unsigned n = 1; n <= 32; n++)
		if (m == lan_mask4(n))
			return n;
	return 0;
}

static void begin_ip(struct reader *r, const char **attr)
{
	const char *family = attribute(attr, "family"), *addr = attribute(attr, "address"),
		   *mask = attribute(attr, "netmask"), *prefix = attribute(attr, "prefix");
	struct in6_addr six, first;
	unsigned len = mask ? bits_of(mask) : 24;
	uint32_t four;

	r->v6 = family && !strcmp(family, "ipv6");
	if ((family && !r->v6 && strcmp(family, "ipv4")) || (prefix && (mask || !number(prefix, 128, &len)))) {
		FAIL(r, "ip: family='%.16s' with prefix='%.16s' is not kept", family ? family : "",
		     prefix ? prefix : "");
		return;
	}
	if (r->v6) {
		if (r->has6 || !addr || !lan_parse6(addr, &six) || mask || (prefix && len != 64)) {
			FAIL(r, "ip: one IPv6 address with a prefix of 64 bits is kept");
			return;
		}
		r->d->net6 = (struct lan_net6){ six, 64 };
		memset(r->d->net6.addr.s6_addr + 8, 0, 8);
		first = lan_host6(&r->d->net6.addr, 1);
		if (memcmp(&six, &first, sizeof(six)))
			FAIL(r, "ip: the gateway's address is the subnet's first one here, not %.48s", addr);
		r->has6 = true;
		return;
	}
	if (r->has4 || !addr || !lan_parse4(addr, &four) || !len || len > 32) {
		FAIL(r, "ip: one IPv4 address with a netmask is kept");
		return;
	}
	r->d->net4 = (struct lan_net4){ four & lan_mask4(len), len };
	if (four != lan_gateway4(r->d))
		FAIL(r, "ip: the gateway's address is the subnet's first one here, not %.32s", addr);
	r->has4 = true;
}

static void begin_dhcp(struct reader *r, const char **attr)
{
	*(r->v6 ? &r->dhcp6 : &r->dhcp4) = true;
}

static void begin_range(struct reader *r, const char **attr)
{
	const char *from = attribute(attr, "start"), *to = attribute(attr, "end");
	char text[2 * LAN_TEXT6];

	if (r->v6)
		return; /* machines get the numbers of their IPv4 addresses */
	if (r->d->first4 || !from || !to) {
		FAIL(r, "range: one range is kept");
		return;
	}
	snprintf(text, sizeof(text), "%.40s-%.40s", from, to);
	if (!r->failed && lan_parse_range(r->d, text, r->err))
		fail(r);
	/* libvirt has the server at the gateway; here it has the second address. */
	if (r->d->first4 == lan_server4(r->d))
		r->d->first4++;
}

static void begin_host(struct reader *r, const char **attr)
{
	const char *mac = attribute(attr, "mac"), *name = attribute(attr, "name"), *ip = attribute(attr, "ip");
	char text[256];

	if (r->v6) {
		FAIL(r, "host: fixed IPv6 addresses are not kept: machines have the numbers of their IPv4 ones");
		return;
	}
	if (!mac) {
		FAIL(r, "host: without a MAC none is kept");
		return;
	}
	snprintf(text, sizeof(text), "%.32s,%.64s,%.64s", mac, name ? name : "", ip ? ip : "");
	if (!r->failed && lan_parse_static(r->d, text, r->err))
		fail(r);
}

static void begin_dns(struct reader *r, const char **attr)
{
	const char *enable = attribute(attr, "enable");

	if (enable && !strcmp(enable, "no"))
		r->d->dns = LAN_DNS_OFF;
}

static void begin_port(struct reader *r, const char **attr)
{
	const char *isolated = attribute(attr, "isolated");

	if (isolated && !strcmp(isolated, "yes"))
		FAIL(r, "port: isolated='yes' is not kept");
}

static const struct element elements[] = {
	{ "network", "", " ipv6 trustGuestRxFilters connections ", false, NULL, NULL },
	{ "name", "network", " ", false, NULL, end_name },
	{ "uuid", "network", " ", false, NULL, NULL },
	{ "title", "network", " ", false, NULL, NULL },
	{ "description", "network", " ", false, NULL, NULL },
	{ "forward", "network", " mode dev ", false, begin_forward, NULL },
	{ "nat", "forward", " ", false, NULL, NULL },
	{ "port", "nat", " start end ", false, NULL, NULL }, /* the kernel's choice of ports does as well */
	{ "interface", "forward", " dev connections ", false, begin_interface, NULL },
	{ "bridge", "network", " name stp delay macTableManager ", false, begin_bridge, NULL },
	{ "mac", "network", " address ", false, NULL, NULL }, /* of the bridge: it follows from the name */
	{ "mtu", "network", " size ", false, begin_mtu, NULL },
	{ "domain", "network", " name localOnly ", false, begin_domain, NULL },
	{ "dns", "network", " enable forwardPlainNames ", false, begin_dns, NULL },
	{ "ip", "network", " address netmask prefix family localPtr ", true, begin_ip, NULL },
	{ "dhcp", "ip", " ", true, begin_dhcp, NULL },
	{ "range", "dhcp", " start end ", true, begin_range, NULL },
	{ "host", "dhcp", " mac name ip ", true, begin_host, NULL },
	{ "port", "network", " isolated ", false, begin_port, NULL },
};

/* --- expat --- */

static bool in_list(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; (p = strstr(p, word)); p++)
		if (p > list && p[-1] == ' ' && p[n] == ' ')
			return true;
	return false;
}

static void on_begin(void *opaque, const char *name, const char **attr)
{
	struct reader *r = opaque;
	const char *parent = r->depth ? r->path[r->depth - 1]->name : "";
	const struct element *e = elements;

	while (e < elements + ARRAY_LEN(elements) && (strcmp(e->name, name) || strcmp(e->parent, parent)))
		e++;
	if (e == elements + ARRAY_LEN(elements) || r->depth == DEPTH_MOST) {
		FAIL(r, "<%.32s> in <%.32s> is not kept", name, *parent ? parent : "the file");
		return;
	}
	if (!e->many && r->seen & 1u << (e - elements))
		FAIL(r, "<%.32s>: one is kept", name);
	r->seen |= 1u << (e - elements);
	for (const char **a = attr; *a; a += 2)
		if (!in_list(e->attributes, a[0]))
			FAIL(r, "<%s %.32s='%.32s'> is not kept", name, a[0], a[1]);
	r->path[r->depth++] = e;
	*r->text = '\0';
	if (e->begin && !r->failed)
		e->begin(r, attr);
}

static void on_end(void *opaque, const char *name)
{
	struct reader *r = opaque;
	const struct element *e = r->depth ? r->path[--r->depth] : NULL;

	if (e && e->end && !r->failed)
		e->end(r);
	*r->text = '\0';
}

static void on_text(void *opaque, const char *s, int len)
{
	struct reader *r = opaque;
	const size_t at = strlen(r->text), room = sizeof(r->text) - 1 - at;

	memcpy(r->text + at, s, (size_t)len < room ? (size_t)len : room);
	r->text[at + ((size_t)len < room ? (size_t)len : room)] = '\0';
}

/* What would be expanded is not: no definition needs it, and it grows without end. */
static void on_entity(void *opaque, const char *name, const char *system, const char *public, int internal)
{
	struct reader *r = opaque;

	FAIL(r, "a document type is not taken");
}

int lan_def_from_xml(struct lan_def *d, struct lan_wishes *w, const char *name, const char *text, size_t len,
		     struct err *err)
{
	struct reader r = { .d = d, .w = w, .name = name, .err = err, .parser = XML_ParserCreate("UTF-8") };

	if (!r.parser)
		return err_set(err, "out of memory");
	if (name && lan_name_check(name, err)) {
		XML_ParserFree(r.parser);
		return err_prefix(err, "name");
	}
	lan_def_init(d, name ? name : "");
	*w = (struct lan_wishes){ 0 };
	d->model = LAN_ISOLATED; /* without <forward> */
	XML_SetUserData(r.parser, &r);
	XML_SetElementHandler(r.parser, on_begin, on_end);
	XML_SetCharacterDataHandler(r.parser, on_text);
	XML_SetStartDoctypeDeclHandler(r.parser, on_entity);
	if (XML_Parse(r.parser, text, (int)len, 1) != XML_STATUS_OK && !r.failed) {
		err_set(err, "line %lu: %s", (unsigned long)XML_GetCurrentLineNumber(r.parser),
			XML_ErrorString(XML_GetErrorCode(r.parser)));
		r.failed = true;
	}
	XML_ParserFree(r.parser);
	if (r.failed)
		return -1;
	/* <forward mode='bridge'> with a bridge that is there: <bridge name='br0'/>. */
	if (d->model == LAN_BRIDGED && !*d->uplink) {
		memcpy(d->uplink, d->bridge, sizeof(d->uplink));
		*d->bridge = '\0';
	}
	/* Machines whose IPv4 addresses are handed out get IPv6 ones by DHCP, too: those that they make themselves. */
	if (r.has4 && !r.dhcp4 && r.dhcp6)
		return err_set(err, "ip: DHCP by IPv6 alone is not kept where there is IPv4");
	d->dhcp = d->model == LAN_BRIDGED || r.dhcp4 || r.dhcp6;
	w->no4 = !r.has4;
	w->no6 = !r.has6;
	if (d->model != LAN_BRIDGED && !r.has4 && !r.has6)
		return err_set(err, "a network without <ip> has no addresses, which is not kept");
	return lan_def_check(d, err);
}
