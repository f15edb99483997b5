/* `vireo net create`, `edit` and `import`. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/net.h"

#define XML_MOST (1u << 20)

/* clang-format off */
#define DEFINITION_OPTIONS \
	{ "nat", 0, CLI_FLAG, "nat", NULL, NULL, "machines reach the host and, by its addresses, the world", NULL }, \
	{ "isolated", 0, CLI_FLAG, "isolated", NULL, NULL, "machines reach each other only", NULL }, \
	{ "routed", 0, CLI_FLAG, "routed", NULL, NULL, "the host routes to the network, without translation", NULL }, \
	{ "bridged", 0, CLI_VALUE, "bridged", NULL, "IFACE", \
	  "machines are hosts of the network that this interface of the host (or this bridge) is in", "@interface" }, \
	{ "subnet", 0, CLI_VALUE, "subnet", NULL, "A.B.C.D/8..29|none", "IPv4 addresses (default: a free private /24)", NULL }, \
	{ "subnet6", 0, CLI_VALUE, "subnet6", NULL, "PREFIX/64|none", "IPv6 addresses, always a /64 (default: a unique local one)", NULL }, \
	{ "domain", 0, CLI_VALUE, "domain", NULL, "NAME|none", "DNS domain of the machines (default: the network's name, .internal)", NULL }, \
	{ "dhcp-range", 0, CLI_VALUE, "dhcp-range", NULL, "A-B|none", "addresses that are handed out (default, none: all but the first two)", NULL }, \
	{ "host", 0, CLI_NUMBERED, "host", NULL, "MAC,NAME,ADDRESS", "a machine's name and address, by which alone it sends; several times; NAME or ADDRESS may be empty", NULL }, \
	{ "publish", 0, CLI_NUMBERED, "publish", NULL, "[tcp|udp:][ADDRESS:]PORT[-PORT]-MACHINE:PORT[-PORT]", \
	  "ports of the host that lead to those of a machine (name or address); several times", NULL }, \
	{ "route", 0, CLI_NUMBERED, "route", NULL, "NETWORK", "another network that this one reaches and is reached from, by addresses (names are each one's own); several times", "@network" }, \
	{ "dns", 0, CLI_VALUE, "dns", NULL, "own|dnsmasq|off", "who answers DNS (and DHCP): Vireo (default), or dnsmasq; off: no DNS", "own|dnsmasq|off" }, \
	{ "no-dhcp", 0, CLI_FLAG, "no-dhcp", NULL, NULL, "hand out no addresses; machines have those of `vireo net show` all the same, or of --host", NULL }, \
	{ "mtu", 0, CLI_VALUE, "mtu", NULL, "N", "largest packet, 1280 to 65535 (default: 1500; bridged: as IFACE has)", NULL }, \
	{ "bridge", 0, CLI_VALUE, "bridge", NULL, "NAME", "name of the bridge interface (default: vr-NAME)", NULL }
/* clang-format on */

static const struct cli_option create_options[] = {
	DEFINITION_OPTIONS,
	{ "no-start", 0, CLI_FLAG, "no-start", NULL, NULL, "only define it", NULL },
	{ 0 },
};

static const struct cli_option edit_options[] = {
	DEFINITION_OPTIONS,
	{ "dhcp", 0, CLI_FLAG, "dhcp", NULL, NULL, "hand out addresses again", NULL },
	{ "force", 0, CLI_FLAG, "force", NULL, NULL,
	  "also where machines get other addresses by it, or are cut off for a moment", NULL },
	{ 0 },
};

static const struct cli_option import_options[] = {
	{ "name", 0, CLI_VALUE, "name", NULL, "NAME", "another name than the file's", NULL },
	{ "no-start", 0, CLI_FLAG, "no-start", NULL, NULL, "only define it", NULL },
	{ 0 },
};

static int read_model(struct config *c, struct lan_def *d, bool *said, struct err *err)
{
	const char *uplink = config_get(c, "bridged");
	unsigned count = !!uplink, index;
	bool on;

	for (int i = LAN_NAT; i < LAN_BRIDGED; i++) {
		if (config_bool(c, lan_model_names[i], false, &on, err))
			return -1;
		if (on)
			d->model = (enum lan_model)i;
		count += on;
	}
	if (count > 1)
		return err_set(err, "one of --nat, --isolated, --routed and --bridged is meant");
	*said = count;
	if (!count)
		return 0;
	if (uplink)
		d->model = LAN_BRIDGED;
	if (snprintf(d->uplink, sizeof(d->uplink), "%s", uplink ? uplink : "") >= (int)sizeof(d->uplink))
		return err_set(err, "bridged: '%s' is no name of an interface", uplink);
	/* An alternative name (`ip link property`) finds it as well, and is none that it has elsewhere. */
	index = uplink ? if_nametoindex(uplink) : 0;
	if (index)
		if_indextoname(index, d->uplink);
	return 0;
}

static bool is_none(const char *text)
{
	return !strcmp(text, "none");
}

static int read_subnets(struct config *c, struct lan_def *d, struct lan_wishes *w, struct err *err)
{
	const char *four = config_get(c, "subnet"), *six = config_get(c, "subnet6"),
		   *range = config_get(c, "dhcp-range");

	if (four) {
		struct lan_net4 net4 = { 0 };

		w->no4 = is_none(four);
		if (!w->no4 && !lan_parse_net4(four, &net4))
			return err_set(err, "subnet: '%s' is not a subnet as 10.1.2.0/24, without bits of a host",
				       four);
		lan_def_set_net4(d, &net4);
	}
	if (six) {
		w->no6 = is_none(six);
		d->net6 = (struct lan_net6){ 0 };
		if (!w->no6 && !lan_parse_net6(six, &d->net6))
			return err_set(err, "subnet6: '%s' is not a prefix as fd00:1:2:3::/64, without bits of a host",
				       six);
	}
	if (range && is_none(range))
		d->first4 = d->last4 = 0;
	return range && !is_none(range) ? lan_parse_range(d, range, err) : 0;
}

static int copy(struct config *c, const char *key, char *to, size_t size, struct err *err)
{
	const char *text = config_get(c, key);

	if (!text)
		return 0;
	if (is_none(text))
		text = "";
	return snprintf(to, size, "%s", text) < (int)size
		       ? 0
		       : err_set(err, "%s: '%s' is longer than %zu characters", key, text, size - 1);
}

static int add_route(struct lan_def *d, const char *text, struct err *err)
{
	if (d->routes_len == LAN_ROUTES_MAX || !lan_name_ok(text))
		return err_set(err, "route: '%s' is no network, or one too many", text);
	snprintf(d->routes[d->routes_len++], sizeof(d->routes[0]), "%s", text);
	return 0;
}

/* What is given several times replaces the whole list; "none" empties it. */
static int read_lists(struct config *c, struct lan_def *d, struct err *err)
{
	const struct {
		const char *key;
		unsigned *len;
		int (*add)(struct lan_def *d, const char *text, struct err *err);
	} lists[] = { { "host", &d->statics_len, lan_parse_static },
		      { "publish", &d->publish_len, lan_parse_publish },
		      { "route", &d->routes_len, add_route } };
	char key[32];

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		const char *text;

		for (unsigned n = 0;; n++) {
			snprintf(key, sizeof(key), "%s%u", lists[i].key, n);
			text = config_get(c, key);
			if (!text)
				break;
			if (!n || is_none(text))
				*lists[i].len = 0;
			if (!is_none(text) && lists[i].add(d, text, err))
				return -1;
		}
	}
	return 0;
}

int net_read_options(struct config *c, struct lan_def *d, struct lan_wishes *w, struct err *err)
{
	uint64_t mtu;
	int dns;
	bool on, off;

	if (config_uint(c, "mtu", d->mtu, (struct config_range){ 0, 65535 }, &mtu, err) ||
	    config_choice(c, "dns", (int)d->dns, lan_dns_names, &dns, err) ||
	    config_bool(c, "no-dhcp", false, &off, err) || config_bool(c, "dhcp", d->dhcp && !off, &on, err) ||
	    read_subnets(c, d, w, err) || copy(c, "domain", d->domain, sizeof(d->domain), err) ||
	    copy(c, "bridge", d->bridge, sizeof(d->bridge), err) || read_lists(c, d, err))
		return -1;
	d->mtu = (unsigned)mtu;
	d->dns = (enum lan_dns)dns;
	if (on && off)
		return err_set(err, "one of --dhcp and --no-dhcp is meant");
	d->dhcp = on;
	return config_bool(c, "no-start", false, &w->no_start, err);
}

/* "lab" is lab.internal; a name that is none in DNS has no domain of its own. */
static void choose_domain(struct config *c, struct lan_def *d)
{
	if (!config_peek(c, "domain") && !*d->domain && d->model != LAN_BRIDGED)
		snprintf(d->domain, sizeof(d->domain), "%s.internal",
			 lan_label_ok(d->name, (unsigned)strlen(d->name)) ? d->name : "vireo");
}

static int with_def(struct lan *l, struct config *c, struct err *err, int argc, char **argv,
		    int (*fn)(struct lan *l, struct config *c, struct lan_def *d, char **argv, struct err *err))
{
	struct lan_def *d = malloc(sizeof(*d));
	int rc = d ? fn(l, c, d, argv, err) : err_set(err, "out of memory");

	free(d);
	return rc;
}

/* Allowed, since they may be the user's own: said, since they may be a slip. */
static void note_public(const struct lan_def *d)
{
	char net[LAN_TEXT4];

	if (d->model == LAN_NAT && d->net4.len && !lan_private4(&d->net4))
		fprintf(stderr,
			"vireo: subnet %s is not a private one: who has it elsewhere is not reached from here\n",
			lan_text_net4(&d->net4, net));
}

static int do_create(struct lan *l, struct config *c, struct lan_def *d, char **argv, struct err *err)
{
	struct lan_wishes w = { 0 };
	bool said;

	if (lan_name_check(argv[0], err))
		return -1;
	lan_def_init(d, argv[0]);
	if (read_model(c, d, &said, err) || net_read_options(c, d, &w, err))
		return -1;
	if (!said)
		return err_set(err, "one of --nat, --isolated, --routed and --bridged IFACE is needed");
	choose_domain(c, d);
	if (lan_create(l, d, &w, err))
		return -1;
	note_public(d);
	return 0;
}

/* `virsh net-edit` opens an editor then. */
static int check_said(const struct config *c, struct err *err)
{
	char key[32];

	for (const struct cli_option *o = edit_options; !cli_option_end(o); o++) {
		snprintf(key, sizeof(key), o->kind == CLI_NUMBERED ? "%s0" : "%s", o->key);
		if (strcmp(o->key, "force") && config_peek(c, key))
			return 0;
	}
	return err_set(err, "no change is said (see 'vireo help net edit')");
}

static int do_edit(struct lan *l, struct config *c, struct lan_def *d, char **argv, struct err *err)
{
	struct lan_wishes w = { 0 };
	bool said, force, was_bridged;

	if (lan_load(l, argv[0], d, err) || check_said(c, err))
		return -1;
	was_bridged = d->model == LAN_BRIDGED;
	if (read_model(c, d, &said, err))
		return -1;
	/* What is the outside's of a bridged network goes with what it was, or is chosen as for a new one. */
	if (d->model == LAN_BRIDGED && !was_bridged) {
		d->net4 = (struct lan_net4){ 0 };
		d->net6 = (struct lan_net6){ 0 };
		d->first4 = d->last4 = 0;
		*d->domain = '\0';
	}
	if (net_read_options(c, d, &w, err) || config_bool(c, "force", false, &force, err))
		return -1;
	if (was_bridged) {
		choose_domain(c, d);
	} else {
		w.no4 = !d->net4.len;
		w.no6 = !d->net6.len;
	}
	if (lan_edit(l, d, &w, force, err))
		return -1;
	if (config_peek(c, "subnet"))
		note_public(d);
	return 0;
}

/* --- import --- */

static char *read_file(const char *path, size_t *len, struct err *err)
{
	FILE *f = strcmp(path, "-") ? fopen(path, "re") : stdin;
	char *text = f ? malloc(XML_MOST + 1) : NULL;

	if (!text) {
		err_errno(err, errno, "%s", path);
		return NULL;
	}
	*len = fread(text, 1, XML_MOST + 1, f);
	if (ferror(f) || *len > XML_MOST) {
		err_set(err, "%s: %s", path, ferror(f) ? "cannot be read" : "larger than a network's definition");
		free(text);
		text = NULL;
	}
	if (f != stdin)
		fclose(f);
	return text;
}

static int create(struct lan *l, struct config *c, int argc, char **argv, struct err *err)
{
	return with_def(l, c, err, argc, argv, do_create);
}

static int edit(struct lan *l, struct config *c, int argc, char **argv, struct err *err)
{
	return with_def(l, c, err, argc, argv, do_edit);
}

static int read_import(struct config *c, const char *path, struct lan_def *d, struct lan_wishes *w, FILE *notes,
		       struct err *err)
{
	struct lan_xml x = { .name = config_get(c, "name"), .notes = notes };
	char *text = read_file(path, &x.len, err);
	int rc;

	if (!text)
		return -1;
	x.text = text;
	rc = lan_def_from_xml(d, w, &x, err);
	free(text);
	return rc ? err_prefix(err, "%s", path) : config_bool(c, "no-start", false, &w->no_start, err);
}

/* The file is read before anything is held: it may be one that somebody else still writes. */
static int import(struct config *c, const char *path, FILE *notes, struct err *err)
{
	struct lan_def *d = malloc(sizeof(*d));
	struct lan_wishes w;
	struct lan *l = NULL;
	int rc = d ? read_import(c, path, d, &w, notes, err) : err_set(err, "out of memory");

	if (!rc)
		l = lan_open(true, err);
	rc = l ? lan_create(l, d, &w, err) : -1;
	if (l)
		lan_close(l);
	free(d);
	return rc;
}

static int run_import(struct config *c, int argc, char **argv)
{
	char *text = NULL, *rest;
	struct err err;
	size_t len;
	FILE *notes = open_memstream(&text, &len);
	int rc = notes ? import(c, argv[0], notes, &err) : err_set(&err, "out of memory");

	if (notes && fclose(notes))
		rc = err_set(&err, "out of memory");
	/* Of what has come to nothing, the error says enough. */
	for (const char *line = rc ? NULL : strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		fprintf(stderr, "vireo: %s: %s\n", argv[0], line);
	free(text);
	return rc ? cli_fail(&err) : 0;
}

const struct net_command net_create_command = {
	.cmd = {
		.name = "net create",
		.also = "add|define|new",
		.summary = "Define a network and start it",
		.operands = "NAME",
		.min_operands = 1,
		.max_operands = 1,
		.options = create_options,
		.text = "One of --nat, --isolated, --routed and --bridged says how far machines reach.\n"
			"--bridged moves the addresses and routes of IFACE to the bridge until the network is down, unless IFACE is\n"
			"a bridge: rules of the host's firewall that name IFACE do not see what comes by the bridge.",
	},
	.changes = true,
	.run = create,
};

const struct net_command net_edit_command = {
	.cmd = {
		.name = "net edit",
		.also = "set|update|modify",
		.summary = "Change what a network is; one that runs follows at once",
		.operands = "NAME",
		.min_operands = 1,
		.max_operands = 1,
		.operand_words = { "@network" },
		.options = edit_options,
		.text = "What is not given stays. --host, --publish and --route replace all of their kind; none empties them.",
	},
	.changes = true,
	.run = edit,
};

const struct net_command net_import_command = {
	.cmd = {
		.name = "net import",
		.summary = "Define a network from libvirt's XML and start it",
		.operands = "FILE",
		.min_operands = 1,
		.max_operands = 1,
		.operand_words = { "@file" },
		.options = import_options,
		.text = "What would change who reaches whom, or where, is refused by its name; what is a little otherwise than "
			"with\nlibvirt is said on stderr. Nothing is left out silently. FILE - is stdin: "
			"`virsh net-dumpxml lab | vireo net import -`.",
		.run = run_import,
	},
};
