/* -netdev, -nic and -net. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cli/qemu.h"
#include "vm/vm.h"

#define LIST_LEN 4096

/* Parameters of a network: a key of its card, or the values that are so anyhow. */
struct parameter {
	const char *name, *key, *values;
};
static const struct parameter of_user[] = {
	{ "restrict", "restrict", NULL },
	{ "tftp", "tftp", NULL },
	{ "bootfile", "bootfile", NULL },
	{ "net", "net", NULL },
	{ "host", "host", NULL },
	{ "dns", "dns", NULL },
	{ "dhcpstart", "dhcpstart", NULL },
	{ "ipv6-host", "ipv6-host", NULL },
	{ "ipv6-dns", "ipv6-dns", NULL },
	{ "hostname", "hostname", NULL },
	{ "domainname", "domainname", NULL },
	{ "tftp-server-name", "tftp-server-name", NULL },
	{ NULL },
};
static const struct parameter of_tap[] = {
	{ "ifname", "ifname", NULL }, { "fd", "fd", NULL },	    { "fds", "fds", NULL },
	{ "br", "bridge", NULL },     { "helper", "helper", NULL }, { "queues", "queues", NULL },
	{ "vnet_hdr", NULL, "on" },   { "vhost", NULL, "off" },	    { "vhostforce", NULL, "off" },
	{ "poll-us", NULL, "0" },     { "sndbuf", "sndbuf", NULL }, { NULL },
};
static const struct parameter of_bridge[] = { { "br", "bridge", NULL }, { "helper", "helper", NULL }, { NULL } };
static const struct parameter of_socket[] = {
	{ "fd", "fd", NULL },
	{ "mcast", "mcast", NULL },
	{ "udp", "udp", NULL },
	{ "localaddr", "localaddr", NULL },
	{ NULL },
};
static const struct parameter of_stream[] = {
	{ "reconnect", "reconnect", NULL }, { "addr.keep-alive", NULL, "off" }, { "addr.mptcp", NULL, "off" },
	{ "addr.abstract", NULL, "off" },   { "addr.tight", NULL, "on" },	{ NULL },
};
static const struct parameter nothing[] = { { NULL } };

void qemu_netdev_help(FILE *out)
{
	fputs("Available netdev backend types:\nuser\ntap\nbridge\nsocket\nstream\ndgram\n", out);
}

/* What may come several times, as one list. */
static int set_list(struct qemu *q, struct qopts *o, const char *prefix, const char *name)
{
	char list[LIST_LEN] = "";
	const char *one;
	size_t at = 0;

	for (unsigned n = 0; (one = qopts_nth(o, name, n)); n++) {
		int len = snprintf(list + at, sizeof(list) - at, "%s%s", n ? "+" : "", one);

		if (len >= (int)(sizeof(list) - at))
			return qopts_fail(o, q->err, "%s: too many", name);
		at += (size_t)len;
	}
	return at ? qemu_set(q, o, prefix, name, list) : 0;
}

static int set_guest_forwards(struct qemu *q, struct qopts *o, const char *prefix)
{
	const char *one;
	char key[24];

	for (unsigned n = 0; (one = qopts_nth(o, "guestfwd", n)); n++) {
		snprintf(key, sizeof(key), "guestfwd%u", n);
		if (qemu_set(q, o, prefix, key, one))
			return -1;
	}
	return 0;
}

/* Who turns one of them on and says nothing of the other does not want it. */
static int set_families(struct qemu *q, struct qopts *o, const char *prefix)
{
	bool said4 = qopts_get(o, "ipv4"), said6 = qopts_get(o, "ipv6"), on4, on6;

	if (qopts_bool(o, "ipv4", true, &on4, q->err) || qopts_bool(o, "ipv6", true, &on6, q->err))
		return -1;
	on4 = on4 && (said4 || !said6 || !on6);
	on6 = on6 && (said6 || !said4 || !on4);
	return (!on4 && qemu_set(q, o, prefix, "ipv4", "off")) || (!on6 && qemu_set(q, o, prefix, "ipv6", "off")) ? -1
														  : 0;
}

/* Networks as QEMU could be told of them in several ways. */
static int set_places(struct qemu *q, struct qopts *o, const char *prefix)
{
	const char *ip = qopts_get(o, "ip"), *prefix6 = qopts_get(o, "ipv6-prefix");
	const char *length6 = qopts_get(o, "ipv6-prefixlen"), *net6 = qopts_get(o, "ipv6-net");
	char text[80];

	if (ip && !qopts_get(o, "net")) {
		snprintf(text, sizeof(text), "%s/24", ip);
		if (qemu_set(q, o, prefix, "net", text))
			return -1;
	}
	if (!net6 && !prefix6 && !length6)
		return 0;
	snprintf(text, sizeof(text), "%s/%s", prefix6 ? prefix6 : "fec0::", length6 ? length6 : "64");
	return qemu_set(q, o, prefix, "ipv6-net", net6 ? net6 : text);
}

static int set_user(struct qemu *q, struct qopts *o, const char *prefix)
{
	if (qopts_get(o, "smb") || qopts_get(o, "smbserver"))
		return qopts_fail(o, q->err,
				  "smb: there is no file server here; a disk (-drive) or TFTP carries files");
	return set_list(q, o, prefix, "hostfwd") || set_list(q, o, prefix, "dnssearch") ||
			       set_guest_forwards(q, o, prefix) || set_families(q, o, prefix) ||
			       set_places(q, o, prefix)
		       ? -1
		       : 0;
}

/* QEMU runs scripts of its own choice for a tap that is not there yet. */
static int set_tap(struct qemu *q, struct qopts *o, const char *prefix)
{
	const char *up = qopts_get(o, "script"), *down = qopts_get(o, "downscript");
	bool given = qopts_get(o, "fd") || qopts_get(o, "fds"), helped = qopts_get(o, "helper") || qopts_get(o, "br");

	if (helped)
		return qopts_get(o, "br") ? 0 : qemu_set(q, o, prefix, "bridge", "br0");
	if (given && !up && !down)
		return 0;
	return qemu_set(q, o, prefix, "script", up ? up : "/etc/qemu-ifup") ||
			       qemu_set(q, o, prefix, "downscript", down ? down : "/etc/qemu-ifdown")
		       ? -1
		       : 0;
}

static int set_bridge(struct qemu *q, struct qopts *o, const char *prefix)
{
	return qopts_get(o, "br") ? 0 : qemu_set(q, o, prefix, "bridge", "br0");
}

/* "[HOST]:PORT": QEMU listens on all addresses where none is said. */
static int set_place(struct qemu *q, struct qopts *o, const char *prefix, const char *key, const char *value)
{
	char text[300];

	snprintf(text, sizeof(text), "%s%s", value && *value == ':' ? "0.0.0.0" : "", value ? value : "");
	return value ? qemu_set(q, o, prefix, key, text) : 0;
}

static int set_socket(struct qemu *q, struct qopts *o, const char *prefix)
{
	return set_place(q, o, prefix, "listen", qopts_get(o, "listen")) ||
			       set_place(q, o, prefix, "connect", qopts_get(o, "connect"))
		       ? -1
		       : 0;
}

/* "WHAT.type=inet,WHAT.host=...": as one word, and in *fd whether it is a descriptor. NULL: an error, or nothing. */
static const char *address(struct qemu *q, struct qopts *o, const char *what, char *text, bool *fd, int *rc)
{
	const char *type, *host, *port, *path;
	char name[5][32];
	static const char *const parts[] = { "type", "host", "port", "path", "str" };

	for (unsigned n = 0; n < 5; n++)
		snprintf(name[n], sizeof(name[n]), "%s.%s", what, parts[n]);
	type = qopts_get(o, name[0]);
	*fd = false;
	*rc = 0;
	if (!type)
		return NULL;
	host = qopts_get(o, name[1]);
	port = qopts_get(o, name[2]);
	path = qopts_get(o, name[3]);
	if (!strcmp(type, "inet") && host && port) {
		snprintf(text, 300, strchr(host, ':') ? "[%s]:%s" : "%s:%s", *host ? host : "0.0.0.0", port);
	} else if (!strcmp(type, "unix") && path) {
		snprintf(text, 300, "unix:%s", path);
	} else if (!strcmp(type, "fd") && qopts_get(o, name[4])) {
		snprintf(text, 300, "%s", qopts_get(o, name[4]));
		*fd = true;
	} else {
		*rc = qopts_fail(o, q->err,
				 "%s.type=%s: inet with host and port, unix with path and fd with str are there", what,
				 type);
		return NULL;
	}
	return text;
}

static int set_stream(struct qemu *q, struct qopts *o, const char *prefix)
{
	bool listens, fd;
	const char *at;
	char text[300];
	int rc;

	if (qopts_bool(o, "server", false, &listens, q->err))
		return -1;
	at = address(q, o, "addr", text, &fd, &rc);
	if (!at)
		return rc ? rc : qopts_fail(o, q->err, "Parameter 'addr.type' is missing");
	return qemu_set(q, o, prefix, fd ? "fd" : listens ? "listen" : "connect", at);
}

/* To a group, "local" is the interface of that address, and its port is the group's. NULL: it is no group, or not said.
 */
static const char *interface_of_group(struct qopts *o)
{
	const char *group = qopts_get(o, "remote.host"), *type = qopts_get(o, "local.type");
	struct in_addr a;

	if (!type || strcmp(type, "inet") || !group || inet_pton(AF_INET, group, &a) != 1 ||
	    !IN_MULTICAST(ntohl(a.s_addr)))
		return NULL;
	qopts_get(o, "local.port");
	return qopts_get(o, "local.host");
}

static int set_dgram(struct qemu *q, struct qopts *o, const char *prefix)
{
	const char *local = interface_of_group(o), *remote;
	bool local_fd = false, remote_fd;
	char text[2][300];
	int rc = 0;

	if (!local)
		local = address(q, o, "local", text[0], &local_fd, &rc);
	if (rc || (local && qemu_set(q, o, prefix, local_fd ? "fd" : "local", local)))
		return -1;
	remote = address(q, o, "remote", text[1], &remote_fd, &rc);
	if (rc || (remote && qemu_set(q, o, prefix, remote_fd ? "fd" : "remote", remote)))
		return -1;
	return local || remote ? 0 : qopts_fail(o, q->err, "one of 'local' and 'remote' is needed");
}

static const struct type {
	const char *name, *backend;
	const struct parameter *parameters;
	int (*set)(struct qemu *q, struct qopts *o, const char *prefix); /* what is not a matter of a table */
} types[] = {
	{ "user", "user", of_user, set_user },	       { "tap", "tap", of_tap, set_tap },
	{ "bridge", "tap", of_bridge, set_bridge },    { "socket", "socket", of_socket, set_socket },
	{ "stream", "stream", of_stream, set_stream }, { "dgram", "dgram", nothing, set_dgram },
};
#define TYPES "user, tap, bridge, socket, stream, dgram"

static const struct type *type_of(struct qopts *o)
{
	const char *name = qopts_get(o, "type");

	for (size_t n = 0; name && n < ARRAY_LEN(types); n++)
		if (!strcmp(types[n].name, name))
			return &types[n];
	return NULL;
}

/* -object filter-dump for the network `id`: what passes is kept. */
static int set_dump(struct qemu *q, const char *id, const char *prefix)
{
	bool kept = false;

	for (unsigned n = 0; id && n < q->objects.count; n++) {
		struct qopts *o = &q->objects.v[n];
		const char *type = qopts_get(o, "qom-type"), *of = qopts_get(o, "netdev");
		const char *maxlen = qopts_get(o, "maxlen");

		if (!type || strcmp(type, "filter-dump") || !of || strcmp(of, id))
			continue;
		if (kept)
			return qopts_fail(o, q->err, "a second filter-dump of network '%s' is not there", id);
		o->taken = kept = true;
		if (qemu_set(q, o, prefix, "dump", qopts_get(o, "file")) ||
		    (maxlen && qemu_set(q, o, prefix, "dump-maxlen", maxlen)))
			return -1;
	}
	return 0;
}

int qemu_check_dump(struct qemu *q, struct qopts *o)
{
	if (!qopts_get(o, "file"))
		return qopts_fail(o, q->err, "dump filter needs 'file' property set!");
	return qopts_get(o, "netdev") ? 0 : qopts_fail(o, q->err, "Parameter 'netdev' is required");
}

int qemu_check_dumps(struct qemu *q)
{
	for (unsigned n = 0; n < q->objects.count; n++) {
		struct qopts *o = &q->objects.v[n];
		const char *type = qopts_get(o, "qom-type");

		if (type && !strcmp(type, "filter-dump") && !o->taken)
			return qopts_fail(o, q->err, "Parameter 'netdev' expects a network that a card has");
	}
	return 0;
}

/* What a network of `type` is, of which `o` tells. */
static int set_network(struct qemu *q, struct qopts *o, const struct type *type, const char *prefix)
{
	if (qemu_set(q, o, prefix, "backend", type->backend) || type->set(q, o, prefix))
		return -1;
	for (const struct parameter *p = type->parameters; p->name; p++) {
		const char *value = qopts_get(o, p->name);

		if (value && p->values && !qvalue_in(p->values, value))
			return qopts_fail(o, q->err, "%s=%s is not there, only %s", p->name, value, p->values);
		if (value && p->key && qemu_set(q, o, prefix, p->key, value))
			return -1;
	}
	return set_dump(q, qopts_get(o, "id"), prefix);
}

static void next_net(struct qemu *q, char *prefix)
{
	snprintf(prefix, 32, "net%u", q->nets_made++);
}

int qemu_attach_netdev(struct qemu *q, struct qopts *device, const char *id, char *prefix)
{
	struct qopts *o = id ? qlist_find(&q->netdevs, "id", id) : NULL;

	if (!id)
		return qopts_fail(device, q->err,
				  "Property 'netdev' is missing: a card without a network is not there");
	if (!o)
		return qopts_fail(device, q->err, "Property 'netdev' can't find value '%s'", id);
	if (o->taken)
		return qopts_fail(device, q->err, "netdev '%s' is already in use by another card", id);
	o->taken = true;
	next_net(q, prefix);
	return qemu_set_names(q, device, prefix, id) || set_network(q, o, type_of(o), prefix) ||
			       qopts_all_read(o, q->err)
		       ? -1
		       : 0;
}

static int check_netdev(struct qemu *q, struct qopts *o)
{
	const char *type = qopts_get(o, "type"), *id = qopts_get(o, "id");

	if (!type_of(o))
		return qopts_fail(o, q->err, "Parameter 'type' does not accept value '%s' (" TYPES " are there)",
				  type ? type : "");
	if (!id)
		return qopts_fail(o, q->err, "Parameter 'id' is missing");
	if (qlist_find(&q->netdevs, "id", id) != o)
		return qopts_fail(o, q->err, "Duplicate ID '%s' for netdev", id);
	return 0;
}

/* Whether firmware is told to boot from networks. */
static bool boots_from_net(struct qemu *q)
{
	for (unsigned n = 0; n < q->boots.count; n++) {
		const char *order = qopts_get(&q->boots.v[n], "order"), *once = qopts_get(&q->boots.v[n], "once");

		if ((order && strchr(order, 'n')) || (once && strchr(once, 'n')))
			return true;
	}
	return false;
}

int qemu_net_rom(struct qemu *q, struct qopts *o, const char *prefix)
{
	const char *file = qopts_get(o, "romfile"), *index = qopts_get(o, "bootindex"), *bar = qopts_get(o, "rombar");
	bool boots = (index && strcmp(index, "-1") != 0) || boots_from_net(q);

	if (bar && !strtoul(bar, NULL, 0))
		return 0;
	if (file)
		return *file ? qemu_set(q, o, prefix, "rom", file) : 0;
	return boots && !config_peek(q->c, "kernel") ? qemu_set(q, o, prefix, "rom", "ipxe") : 0;
}

int qemu_name_card(struct qemu *q, const char *prefix, const char *model, const char *id)
{
	unsigned *count = strcmp(model, "e1000") ? &q->virtio_nets : &q->e1000s;
	char name[32];

	snprintf(name, sizeof(name), "%s.%u", model, (*count)++);
	return id ? 0 : qemu_set(q, NULL, prefix, "qdev", name);
}

static const char virtio_models[] = "virtio|virtio-net-pci|virtio-net-pci-non-transitional";
static const char e1000_models[] = "e1000|e1000-82540em";

/* The card: `model` and `mac` (or `macaddr`); QEMU's is an e1000. */
static int set_card(struct qemu *q, struct qopts *o, const char *prefix)
{
	const char *model = o ? qopts_get(o, "model") : NULL, *mac = o ? qopts_get(o, "mac") : NULL;
	const char *macaddr = o ? qopts_get(o, "macaddr") : NULL;
	bool virtio = model && qword_in(virtio_models, model);

	mac = mac ? mac : macaddr;
	if (model && !virtio && !qword_in(e1000_models, model))
		return qopts_fail(o, q->err, "Unsupported NIC model: %s", model);
	if ((!virtio && qemu_set(q, o, prefix, "model", "e1000")) ||
	    qemu_set_globals(q, virtio ? "virtio-net-pci" : "e1000", prefix) ||
	    qemu_name_card(q, prefix, virtio ? "virtio-net-pci" : "e1000", NULL))
		return -1;
	return mac ? qemu_set(q, o, prefix, "mac", mac) : 0;
}

/* -nic model=help and the like. */
bool qemu_nic_help(FILE *out, const char *text)
{
	if (!strstr(text, "model=help") && !strstr(text, "model=?"))
		return false;
	fputs("Supported NIC models:\ne1000\ne1000-82540em\nvirtio-net-pci\n", out);
	return true;
}

/* -nic TYPE|none,... */
static int add_nic(struct qemu *q, struct qopts *o)
{
	const char *type = qopts_get(o, "type"), *id = qopts_get(o, "id");
	char prefix[32];

	if (type && !strcmp(type, "none"))
		return 0;
	if (!type_of(o))
		return qopts_fail(o, q->err,
				  "Parameter 'type' does not accept value '%s' (" TYPES " and none are there)",
				  type ? type : "");
	if (id && (qlist_find(&q->nics, "id", id) != o || qlist_find(&q->netdevs, "id", id)))
		return qopts_fail(o, q->err, "Duplicate ID '%s' for nic", id);
	next_net(q, prefix);
	return (id && qemu_set(q, o, prefix, "id", id)) || set_card(q, o, prefix) ||
			       set_network(q, o, type_of(o), prefix) || qemu_on_pci(q, o, prefix, -1)
		       ? -1
		       : 0;
}

/* `-net nic` with `-net TYPE`: one of each, or none. */
static int add_nets(struct qemu *q)
{
	struct qopts *nic = NULL, *network = NULL;
	char prefix[32];

	for (unsigned n = 0; n < q->nets.count; n++) {
		struct qopts *o = &q->nets.v[n], **which;
		const char *type = qopts_get(o, "type");

		if (type && !strcmp(type, "none"))
			continue;
		if (!type || (strcmp(type, "nic") && !type_of(o)))
			return qopts_fail(o, q->err,
					  "Parameter 'type' does not accept value '%s' (nic, " TYPES
					  " and none are there)",
					  type ? type : "");
		which = strcmp(type, "nic") ? &network : &nic;
		if (*which)
			return qopts_fail(o, q->err, "a second '-net %s' is not there; use -nic", type);
		*which = o;
	}
	if (!nic && !network)
		return 0;
	if (!nic)
		return qopts_fail(network, q->err, "there is no '-net nic' with it");
	if (!network)
		return qopts_fail(nic, q->err, "there is no '-net user' or another network with it");
	next_net(q, prefix);
	return set_card(q, nic, prefix) || set_network(q, network, type_of(network), prefix) ||
			       qemu_on_pci(q, nic, prefix, -1)
		       ? -1
		       : 0;
}

/* What no card has is right all the same, and QEMU says so. */
int qemu_check_netdevs(struct qemu *q)
{
	for (unsigned n = 0; n < q->netdevs.count; n++) {
		struct qopts *o = &q->netdevs.v[n];
		struct qemu alone = *q;
		int rc;

		if (o->taken)
			continue;
		alone.c = config_new();
		if (!alone.c)
			return err_set(q->err, "out of memory");
		rc = set_network(&alone, o, type_of(o), "net0") || qopts_all_read(o, q->err) ? -1 : 0;
		if (!rc && vm_check_network(alone.c, "net0", q->err)) {
			config_tell_origin(alone.c, q->err);
			rc = -1;
		}
		config_free(alone.c);
		if (rc)
			return rc;
		qemu_warn(q, "netdev %s has no peer", qopts_get(o, "id"));
	}
	return 0;
}

static bool has_net_device(struct qemu *q)
{
	for (unsigned n = 0; n < q->devices.count; n++) {
		const char *driver = qopts_get(&q->devices.v[n], "driver");

		if (driver &&
		    qword_in("virtio-net-pci|virtio-net-pci-non-transitional|virtio-net|e1000|e1000-82540em", driver))
			return true;
	}
	return false;
}

int qemu_finish_nics(struct qemu *q)
{
	char prefix[32];

	for (unsigned n = 0; n < q->netdevs.count; n++)
		if (check_netdev(q, &q->netdevs.v[n]))
			return -1;
	for (unsigned n = 0; n < q->nics.count; n++)
		if (add_nic(q, &q->nics.v[n]) || qopts_all_read(&q->nics.v[n], q->err))
			return -1;
	if (add_nets(q))
		return -1;
	for (unsigned n = 0; n < q->nets.count; n++)
		if (qopts_all_read(&q->nets.v[n], q->err))
			return -1;
	if (q->nodefaults || q->nics.count || q->nets.count || q->netdevs.count || has_net_device(q))
		return 0;
	next_net(q, prefix);
	return qemu_set(q, NULL, prefix, "backend", "user") || set_card(q, NULL, prefix) ||
			       qemu_on_pci(q, NULL, prefix, -1)
		       ? -1
		       : 0;
}
