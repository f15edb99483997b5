/*
 * libvirt's XML of a network (libvirt.org/formatnetwork.html): see lan.h. A row for each element that is known. What
 * would change who reaches whom, or where, is refused; a difference that a network can be used with is a note.
 */
#include <expat.h>
#include <stdarg.h>
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
	FILE *notes;
	XML_Parser parser;
	struct err *err;
	bool failed, v6, has4, has6, dhcp4, dhcp6, nat6, forwards_domain;
	unsigned depth, seen; /* bits of elements that may be there once */
	unsigned skipped;     /* elements that are open in one that is not looked into */
	const struct element *path[DEPTH_MOST];
	char text[256];	   /* of the element that is open */
	char dropped[128]; /* what nothing depends on, as a list */
};

/* What becomes of an element besides `begin` and `end`. */
enum { ONCE, MANY, DROPPED /* with all that is in it */ };

struct element {
	const char *name, *parent; /* parent "": the root */
	/* Attributes that are read or mean nothing here; any other one is refused. */
	const char *attributes;
	int how;
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

static void note(struct reader *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void note(struct reader *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(r->notes, fmt, ap);
	va_end(ap);
	putc('\n', r->notes);
}

static void drop(struct reader *r, const char *what)
{
	const size_t at = strlen(r->dropped);

	snprintf(r->dropped + at, sizeof(r->dropped) - at, "%s%s", at ? ", " : "", what);
}

static const char *attribute(const char **attr, const char *name)
{
	for (; *attr; attr += 2)
		if (!strcmp(attr[0], name))
			return attr[1];
	return NULL;
}

static bool says(const char **attr, const char *name, const char *value)
{
	const char *v = attribute(attr, name);

	return v && !strcmp(v, value);
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

static void begin_network(struct reader *r, const char **attr)
{
	if (says(attr, "trustGuestRxFilters", "yes"))
		note(r, "trustGuestRxFilters is not kept: a machine is trusted by its cable (--net NAME,trust=on)");
}

static void end_name(struct reader *r)
{
	static const char blank[] = " \t\r\n";
	char *begin = r->text + strspn(r->text, blank), *end = begin + strlen(begin);
	struct err why;

	while (end > begin && strchr(blank, end[-1]))
		*--end = '\0';
	if (r->name)
		return;
	if (lan_name_check(begin, &why))
		FAIL(r, "name: %s (--name gives another)", why.msg);
	else
		copy(r, "name", begin, r->d->name, sizeof(r->d->name));
}

/* A number and nothing else, up to `most`. */
static bool number(const char *text, unsigned most, unsigned *n)
{
	unsigned long v = strtoul(text, NULL, 10);

	*n = (unsigned)v;
	return *text && strlen(text) < 10 && !text[strspn(text, "0123456789")] && v <= most;
}

/* Of nat and route: where packets may leave. Of bridge: macvtap, which leaves the interface as it is. */
static void refuse_dev(struct reader *r, const char *dev)
{
	if (r->d->model == LAN_BRIDGED)
		FAIL(r,
		     "forward: dev='%.32s' is one for macvtap, which is not kept (`vireo net create NAME --bridged "
		     "%.32s` would put it into a bridge, with the host's addresses)",
		     dev, dev);
	else
		FAIL(r, "forward: dev='%.32s' would hold it to one interface, which is not kept", dev);
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

	if (!mode)
		mode = "nat";
	while (i < ARRAY_LEN(modes) && strcmp(modes[i].mode, mode))
		i++;
	if (i == ARRAY_LEN(modes)) {
		FAIL(r, "forward: mode '%.32s' is not kept (nat, none, route, open and bridge are)", mode);
		return;
	}
	r->d->model = modes[i].model;
	if (!strcmp(mode, "open"))
		note(r, "mode='open' is routed here: libvirt has no filters then, and here machines send by their own "
			"addresses only");
	if (attribute(attr, "dev"))
		refuse_dev(r, attribute(attr, "dev"));
}

static void begin_interface(struct reader *r, const char **attr)
{
	refuse_dev(r, attribute(attr, "dev") ? attribute(attr, "dev") : "");
}

static void begin_nat(struct reader *r, const char **attr)
{
	r->nat6 = says(attr, "ipv6", "yes");
}

/* Which ports a sender seems to have is the kernel's choice. */
static void begin_nat_port(struct reader *r, const char **attr)
{
	const char *start = attribute(attr, "start"), *end = attribute(attr, "end");

	if (!start || !end || strcmp(start, "1024") || strcmp(end, "65535"))
		FAIL(r, "nat: <port start='%.16s' end='%.16s'> is not kept: ports are the kernel's choice",
		     start ? start : "", end ? end : "");
}

static void begin_bridge(struct reader *r, const char **attr)
{
	const char *table = attribute(attr, "macTableManager"), *delay = attribute(attr, "delay");

	if (table && strcmp(table, "kernel"))
		FAIL(r, "bridge: macTableManager='%.32s' is not kept", table);
	/* A bridge of machines has no loops to break. */
	if (says(attr, "stp", "on"))
		drop(r, "bridge's stp");
	if (delay && strcmp(delay, "0"))
		drop(r, "bridge's delay");
	copy(r, "bridge", attribute(attr, "name"), r->d->bridge, sizeof(r->d->bridge));
}

static void begin_domain(struct reader *r, const char **attr)
{
	copy(r, "domain", attribute(attr, "name"), r->d->domain, sizeof(r->d->domain));
	r->forwards_domain = !says(attr, "localOnly", "yes");
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

/* Of an address without a mask, as there were before CIDR. 0: none that a host has. */
static unsigned class_of(uint32_t addr)
{
	return addr >> 31 == 0 ? 8 : addr >> 30 == 2 ? 16 : addr >> 29 == 6 ? 24 : 0;
}

static void begin_ip(struct reader *r, const char **attr)
{
	const char *family = attribute(attr, "family"), *addr = attribute(attr, "address"),
		   *mask = attribute(attr, "netmask"), *prefix = attribute(attr, "prefix");
	struct in6_addr six, first;
	char net[LAN_TEXT6];
	unsigned len = mask ? bits_of(mask) : 0;
	uint32_t four;

	r->v6 = family && !strcmp(family, "ipv6");
	if ((family && !r->v6 && strcmp(family, "ipv4")) || (prefix && (mask || !number(prefix, 128, &len)))) {
		FAIL(r, "ip: family='%.16s' with prefix='%.16s' is not kept", family ? family : "",
		     prefix ? prefix : "");
		return;
	}
	if (says(attr, "localPtr", "no"))
		note(r, "localPtr='no' is not kept: names of addresses of the subnet are not asked for elsewhere");
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
	if (addr && lan_parse4(addr, &four) && !mask && !prefix)
		len = class_of(four);
	if (r->has4 || !addr || !lan_parse4(addr, &four) || !len || len > 32) {
		FAIL(r, "ip: one IPv4 address with a netmask is kept");
		return;
	}
	r->d->net4 = (struct lan_net4){ four & lan_mask4(len), len };
	if (four != lan_gateway4(r->d))
		FAIL(r, "ip: the gateway's address is the first one of the subnet %s here, not %.32s",
		     lan_text_net4(&r->d->net4, net), addr);
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

	if (r->v6) {
		note(r, "<range start='%.48s' end='%.48s'> is not kept: an IPv6 address follows from a machine's MAC",
		     from ? from : "", to ? to : "");
		return;
	}
	if (r->d->first4 || !from || !to) {
		FAIL(r, "range: one range is kept");
		return;
	}
	snprintf(text, sizeof(text), "%.40s-%.40s", from, to);
	if (!r->failed && lan_parse_range(r->d, text, r->err))
		fail(r);
	/* libvirt has the server at the gateway. */
	if (!r->failed && r->d->first4 == lan_server4(r->d)) {
		r->d->first4++;
		note(r, "the second address, %.40s, is the server's and is not handed out", from);
	}
}

static void begin_host(struct reader *r, const char **attr)
{
	const char *mac = attribute(attr, "mac"), *name = attribute(attr, "name"), *ip = attribute(attr, "ip");
	char text[256];

	if (r->v6) {
		FAIL(r, "host: the fixed address %.48s is not kept: an IPv6 address follows from a machine's MAC",
		     ip ? ip : "");
		return;
	}
	if (!mac) {
		FAIL(r, "host: without a MAC none is kept");
		return;
	}
	snprintf(text, sizeof(text), "%.32s,,%.64s", mac, ip ? ip : "");
	if (!r->failed && lan_parse_static(r->d, text, r->err))
		fail(r);
	if (!r->failed && name)
		copy(r, "host", name, r->d->statics[r->d->statics_len - 1].name, sizeof(r->d->statics[0].name));
}

/* At the end, when the domain is known: web.lab.test is web in lab.test, and web-lab-test elsewhere. */
static int name_hosts(struct reader *r)
{
	for (unsigned i = 0; i < r->d->statics_len; i++) {
		char *name = r->d->statics[i].name, given[LAN_NAME_LABEL + 1], *dot = strchr(name, '.');

		if (dot && *r->d->domain && !strcasecmp(dot + 1, r->d->domain))
			memset(dot, 0, strlen(dot));
		memcpy(given, name, sizeof(given));
		if (*name && !lan_label_of(name, name))
			return err_set(r->err, "host: '%s' is no name of a machine", given);
		if (strcmp(name, given))
			note(r, "host %s is %s in DNS", given, name);
	}
	return 0;
}

static void begin_dns(struct reader *r, const char **attr)
{
	if (says(attr, "enable", "no"))
		r->d->dns = LAN_DNS_OFF;
	if (says(attr, "forwardPlainNames", "yes"))
		note(r, "forwardPlainNames is not kept: names without dots are not asked for elsewhere");
}

static void begin_port(struct reader *r, const char **attr)
{
	if (says(attr, "isolated", "yes"))
		FAIL(r, "port: isolated='yes' is not kept");
}

static const struct element elements[] = {
	{ "network", "", " ipv6 trustGuestRxFilters connections ", ONCE, begin_network, NULL },
	{ "name", "network", " ", ONCE, NULL, end_name },
	{ "uuid", "network", " ", DROPPED, NULL, NULL },
	{ "title", "network", " ", DROPPED, NULL, NULL },
	{ "description", "network", " ", DROPPED, NULL, NULL },
	{ "metadata", "network", " ", DROPPED, NULL, NULL },
	{ "forward", "network", " mode dev ", ONCE, begin_forward, NULL },
	{ "nat", "forward", " ipv6 ", ONCE, begin_nat, NULL },
	{ "port", "nat", " start end ", ONCE, begin_nat_port, NULL },
	{ "interface", "forward", " dev connections ", ONCE, begin_interface, NULL },
	{ "bridge", "network", " name stp delay macTableManager ", ONCE, begin_bridge, NULL },
	{ "mac", "network", " address ", DROPPED, NULL, NULL }, /* of the bridge: it follows from the name */
	{ "mtu", "network", " size ", ONCE, begin_mtu, NULL },
	{ "domain", "network", " name localOnly ", ONCE, begin_domain, NULL },
	{ "dns", "network", " enable forwardPlainNames ", ONCE, begin_dns, NULL },
	{ "ip", "network", " address netmask prefix family localPtr ", MANY, begin_ip, NULL },
	{ "dhcp", "ip", " ", MANY, begin_dhcp, NULL },
	{ "range", "dhcp", " start end ", MANY, begin_range, NULL },
	{ "host", "dhcp", " mac name ip ", MANY, begin_host, NULL },
	{ "port", "network", " isolated ", ONCE, begin_port, NULL },
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

	if (r->skipped) {
		r->skipped++;
		return;
	}
	while (e < elements + ARRAY_LEN(elements) && (strcmp(e->name, name) || strcmp(e->parent, parent)))
		e++;
	if (e == elements + ARRAY_LEN(elements) || r->depth == DEPTH_MOST) {
		FAIL(r, "<%.32s> in <%.32s> is not kept", name, *parent ? parent : "the file");
		return;
	}
	if (e->how != MANY && r->seen & 1u << (e - elements))
		FAIL(r, "<%.32s>: one is kept", name);
	r->seen |= 1u << (e - elements);
	for (const char **a = attr; *a; a += 2)
		if (!in_list(e->attributes, a[0]) && strncmp(a[0], "xmlns", 5))
			FAIL(r, "<%s %.32s='%.32s'> is not kept", name, a[0], a[1]);
	r->path[r->depth++] = e;
	*r->text = '\0';
	if (e->how == DROPPED) {
		drop(r, name);
		r->skipped = 1;
	}
	if (e->begin && !r->failed)
		e->begin(r, attr);
}

static void on_end(void *opaque, const char *name)
{
	struct reader *r = opaque;
	const struct element *e;

	if (r->skipped && --r->skipped)
		return;
	e = r->depth ? r->path[--r->depth] : NULL;

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

/* What follows from several elements. */
static void note_the_rest(struct reader *r)
{
	const struct lan_def *d = r->d;

	if (d->model == LAN_ISOLATED)
		note(r, "machines of an isolated network do not reach the host, as libvirt's do");
	if (d->model == LAN_NAT && r->has6 && !r->nat6)
		note(r, "IPv6 is translated as IPv4 is, where libvirt routes it without <nat ipv6='yes'/>");
	if (r->dhcp4 && !d->first4)
		note(r, "<dhcp> has no <range>: all machines are given addresses, not the <host>s alone");
	if (*d->domain && r->forwards_domain && d->model != LAN_ISOLATED && d->dns != LAN_DNS_OFF)
		note(r, "names in %s that no machine has are not asked for elsewhere (localOnly='yes')", d->domain);
	if (*r->dropped)
		note(r, "not kept: %s", r->dropped);
}

int lan_def_from_xml(struct lan_def *d, struct lan_wishes *w, const struct lan_xml *x, struct err *err)
{
	struct reader r = { .d = d, .w = w, .name = x->name, .notes = x->notes, .err = err };

	if (x->name && lan_name_check(x->name, err))
		return err_prefix(err, "name");
	r.parser = XML_ParserCreate("UTF-8");
	if (!r.parser)
		return err_set(err, "out of memory");
	lan_def_init(d, x->name ? x->name : "");
	*w = (struct lan_wishes){ 0 };
	d->model = LAN_ISOLATED; /* without <forward> */
	XML_SetUserData(r.parser, &r);
	XML_SetElementHandler(r.parser, on_begin, on_end);
	XML_SetCharacterDataHandler(r.parser, on_text);
	XML_SetStartDoctypeDeclHandler(r.parser, on_entity);
	if (XML_Parse(r.parser, x->text, (int)x->len, 1) != XML_STATUS_OK && !r.failed) {
		err_set(err, "line %lu: %s", (unsigned long)XML_GetCurrentLineNumber(r.parser),
			XML_ErrorString(XML_GetErrorCode(r.parser)));
		r.failed = true;
	}
	XML_ParserFree(r.parser);
	if (r.failed)
		return -1;
	if (!*d->name)
		return err_set(err, "there is no <name> (--name gives one)");
	/* <forward mode='bridge'> is with a bridge that is there: <bridge name='br0'/>. */
	if (d->model == LAN_BRIDGED) {
		memcpy(d->uplink, d->bridge, sizeof(d->uplink));
		memset(d->bridge, 0, sizeof(d->bridge));
		w->bridge = true;
	}
	/* Machines whose IPv4 addresses are handed out get IPv6 ones by DHCP, too: those that they make themselves. */
	if (r.has4 && !r.dhcp4 && r.dhcp6)
		return err_set(err, "ip: DHCP by IPv6 alone is not kept where there is IPv4");
	d->dhcp = d->model == LAN_BRIDGED || r.dhcp4 || r.dhcp6;
	w->no4 = !r.has4;
	w->no6 = !r.has6;
	if (d->model != LAN_BRIDGED && !r.has4 && !r.has6)
		return err_set(err, "a network without <ip> has no addresses, which is not kept");
	if (name_hosts(&r))
		return -1;
	note_the_rest(&r);
	return lan_def_check(d, err);
}
