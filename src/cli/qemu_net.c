/* -netdev, -nic and -net. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cli/qemu.h"
#include "vm/vm.h"

#define FORWARDS_LEN 4096

/* Parameters of a user-mode network: a key of its card, or the values that are so anyhow. */
static const struct {
	const char *name, *key, *values;
} of_user[] = {
	{ "restrict", "restrict", NULL },
	{ "tftp", "tftp", NULL },
	{ "bootfile", "bootfile", NULL },
	{ "net", NULL, "10.0.2.0/24|10.0.2.0/255.255.255.0" },
	{ "host", NULL, "10.0.2.2" },
	{ "dns", NULL, "10.0.2.3" },
	{ "dhcpstart", NULL, "10.0.2.15" },
	{ "ipv4", NULL, "on" },
	{ "vlan", NULL, "0" },
};

void qemu_netdev_help(FILE *out)
{
	fputs("Available netdev backend types:\nuser\n", out);
}

/* The forwards of a user-mode network as one list. */
static int set_forwards(struct qemu *q, struct qopts *o, const char *prefix)
{
	char list[FORWARDS_LEN] = "";
	const char *one;
	size_t at = 0;

	for (unsigned n = 0; (one = qopts_nth(o, "hostfwd", n)); n++) {
		int len = snprintf(list + at, sizeof(list) - at, "%s%s", n ? "+" : "", one);

		if (len >= (int)(sizeof(list) - at))
			return qopts_fail(o, q->err, "hostfwd: too many");
		at += (size_t)len;
	}
	return at ? qemu_set(q, o, prefix, "hostfwd", list) : 0;
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

static int set_user(struct qemu *q, struct qopts *o, const char *prefix)
{
	if (set_forwards(q, o, prefix) || set_guest_forwards(q, o, prefix))
		return -1;
	for (size_t n = 0; n < ARRAY_LEN(of_user); n++) {
		const char *value = qopts_get(o, of_user[n].name);

		if (value && of_user[n].values && !qvalue_in(of_user[n].values, value))
			return qopts_fail(o, q->err, "%s=%s is not there, only %s", of_user[n].name, value,
					  of_user[n].values);
		if (value && of_user[n].key && qemu_set(q, o, prefix, of_user[n].key, value))
			return -1;
	}
	return 0;
}

static int next_net(struct qemu *q, struct qopts *o, const char *backend, char *prefix)
{
	snprintf(prefix, 32, "net%u", q->nets_made++);
	return qemu_set(q, o, prefix, "backend", backend);
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
	return next_net(q, device, "user", prefix) || qemu_set_names(q, device, prefix, id) || set_user(q, o, prefix) ||
			       qopts_all_read(o, q->err)
		       ? -1
		       : 0;
}

static int check_netdev(struct qemu *q, struct qopts *o)
{
	const char *type = qopts_get(o, "type"), *id = qopts_get(o, "id");

	if (!type || strcmp(type, "user") != 0)
		return qopts_fail(o, q->err, "Parameter 'type' does not accept value '%s' (user is there)",
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
	const char *file = qopts_get(o, "romfile"), *index = qopts_get(o, "bootindex");

	if (file)
		return *file ? qemu_set(q, o, prefix, "rom", file) : 0;
	return !config_peek(q->c, "kernel") && (index || boots_from_net(q)) ? qemu_set(q, o, prefix, "rom", "ipxe") : 0;
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

/* -nic user|none,... */
static int add_nic(struct qemu *q, struct qopts *o)
{
	const char *type = qopts_get(o, "type"), *id = qopts_get(o, "id");
	char prefix[32];

	if (type && !strcmp(type, "none"))
		return 0;
	if (!type || strcmp(type, "user") != 0)
		return qopts_fail(o, q->err, "Parameter 'type' does not accept value '%s' (user and none are there)",
				  type ? type : "");
	if (id && (qlist_find(&q->nics, "id", id) != o || qlist_find(&q->netdevs, "id", id)))
		return qopts_fail(o, q->err, "Duplicate ID '%s' for nic", id);
	return next_net(q, o, "user", prefix) || (id && qemu_set(q, o, prefix, "id", id)) || set_card(q, o, prefix) ||
			       set_user(q, o, prefix) || qemu_on_pci(q, o, prefix, -1)
		       ? -1
		       : 0;
}

/* `-net nic` with `-net user`: one of each, or none. */
static int add_nets(struct qemu *q)
{
	struct qopts *nic = NULL, *user = NULL;
	char prefix[32];

	for (unsigned n = 0; n < q->nets.count; n++) {
		struct qopts *o = &q->nets.v[n], **which;
		const char *type = qopts_get(o, "type");

		if (type && !strcmp(type, "none"))
			continue;
		if (!type || !qword_in("nic|user", type))
			return qopts_fail(o, q->err,
					  "Parameter 'type' does not accept value '%s' (nic, user and none are there)",
					  type ? type : "");
		which = *type == 'n' ? &nic : &user;
		if (*which)
			return qopts_fail(o, q->err, "a second '-net %s' is not there; use -nic", type);
		*which = o;
	}
	if (!nic && !user)
		return 0;
	if (!nic)
		return qopts_fail(user, q->err, "there is no '-net nic' with it");
	if (!user)
		return qopts_fail(nic, q->err, "there is no '-net user' with it");
	return next_net(q, nic, "user", prefix) || set_card(q, nic, prefix) || set_user(q, user, prefix) ||
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
		rc = set_user(&alone, o, "net0") || qopts_all_read(o, q->err) ? -1 : 0;
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
	return next_net(q, NULL, "user", prefix) || set_card(q, NULL, prefix) || qemu_on_pci(q, NULL, prefix, -1) ? -1
														  : 0;
}
