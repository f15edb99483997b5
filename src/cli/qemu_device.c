/* -device and -global: QEMU's devices and their properties. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cli/qemu.h"

struct property {
	const char *name, *type;
	const char *key;    /* of the device, which gets the value */
	const char *values; /* or what the value may be, for that is so anyhow */
	const char *help;
};
/* Of neither: the device's function reads it. */

struct device {
	const char *name, *alias, *category, *bus, *desc;
	const struct property *properties;
	/* Chooses the device's prefix (32 bytes) and sets what is not a matter of a table. */
	int (*add)(struct qemu *q, struct qopts *o, const struct device *d, char *prefix);
	const char *key; /* prefix of a device that there is once */
	bool pci;
};

/* --- properties --- */

static const struct property of_all[] = {
	{ "id", "str", NULL, NULL, "by which other options know it" },
	{ NULL },
};
static const struct property of_pci[] = {
	{ "addr", "int32", NULL, NULL, "slot, as 06 or 06.0" },
	{ "bus", "str", NULL, "pci.0|pci", NULL },
	{ "multifunction", "bool", NULL, "off", NULL },
	{ "acpi-index", "uint32", NULL, "0", NULL },
	{ "rombar", "uint32", NULL, "0|1", NULL },
	{ "romsize", "uint32", NULL, "4294967295", NULL },
	{ NULL },
};
static const struct property of_virtio[] = {
	{ "disable-legacy", "OnOffAuto", NULL, "on|auto", "devices are of virtio 1" },
	{ "disable-modern", "bool", NULL, "off", NULL },
	{ "iommu_platform", "bool", NULL, "off", NULL },
	{ "ats", "bool", NULL, "off", NULL },
	{ "aer", "bool", NULL, "off", NULL },
	{ "ioeventfd", "bool", NULL, "on", NULL },
	{ "page-per-vq", "bool", NULL, "off", NULL },
	{ "modern-pio-notify", "bool", NULL, "off", NULL },
	{ "migrate-extra", "bool", NULL, "on", NULL },
	{ "virtio-pci-bus-master-bug-migration", "bool", NULL, "off", NULL },
	{ "use-started", "bool", NULL, "on", NULL },
	{ "use-disabled-flag", "bool", NULL, "on", NULL },
	{ "packed", "bool", "feature.packed", NULL, "(default: on)" },
	{ "event_idx", "bool", "feature.event_idx", NULL, "(default: on)" },
	{ "indirect_desc", "bool", "feature.indirect_desc", NULL, "(default: on)" },
	{ "any_layout", "bool", NULL, "on|off", "of drivers from before virtio 1" },
	{ "notify_on_empty", "bool", NULL, "on|off", "of drivers from before virtio 1" },
	{ NULL },
};

/* clang-format off */
#define OF_DRIVES \
	{ "drive", "str", NULL, NULL, "id of a -drive or -blockdev" }, \
	{ "bootindex", "int32", "bootindex", NULL, NULL }, \
	{ "logical_block_size", "size", NULL, "512", NULL }, \
	{ "physical_block_size", "size", NULL, "512", NULL }, \
	{ "write-cache", "OnOffAuto", NULL, "on|auto", NULL }, \
	{ "share-rw", "bool", NULL, "off", NULL }
#define OF_DISKS OF_DRIVES, \
	{ "werror", "BlockdevOnError", "werror", "enospc|report|ignore|stop|auto", NULL }, \
	{ "rerror", "BlockdevOnError", "rerror", "report|ignore|stop|auto", NULL }
/* clang-format on */

static const struct property blk[] = {
	OF_DISKS,
	{ "serial", "str", "serial", NULL, NULL },
	{ "num-queues", "uint16", "queues", NULL, NULL },
	{ "iothread", "str", NULL, NULL, "id of an iothread; each disk has a thread of its own" },
	{ "config-wce", "bool", NULL, "on", NULL },
	{ "scsi", "bool", NULL, "off", NULL },
	{ "discard", "bool", NULL, "on", NULL },
	{ NULL },
};
static const struct property hd[] = {
	OF_DISKS,
	{ "serial", "str", "serial", NULL, NULL },
	{ "bus", "str", NULL, NULL, "ide.0 or ide.1" },
	{ "unit", "uint32", NULL, NULL, "0 or 1" },
	{ NULL },
};
static const struct property cd[] = {
	OF_DRIVES,
	{ "werror", "BlockdevOnError", NULL, "enospc|report|auto", NULL },
	{ "rerror", "BlockdevOnError", NULL, "report|auto", NULL },
	{ "bus", "str", NULL, NULL, "ide.0 or ide.1" },
	{ "unit", "uint32", NULL, NULL, "0 or 1" },
	{ NULL },
};
static const struct property net[] = {
	{ "netdev", "str", NULL, NULL, "id of a -netdev" },
	{ "mac", "str", "mac", NULL, "Ethernet 6-byte MAC address" },
	{ "bootindex", "int32", "bootindex", NULL, NULL },
	{ "romfile", "str", NULL, NULL, "expansion ROM; empty: none" },
#define FEATURE(name)                                                                                                  \
	{                                                                                                              \
		name, "bool", "feature." name, NULL, "(default: on)"                                                   \
	}
	FEATURE("mq"),
	FEATURE("mrg_rxbuf"),
	FEATURE("csum"),
	FEATURE("status"),
	FEATURE("guest_csum"),
	FEATURE("guest_tso4"),
	FEATURE("guest_tso6"),
	FEATURE("guest_ecn"),
	FEATURE("host_tso4"),
	FEATURE("host_tso6"),
	FEATURE("host_ecn"),
	FEATURE("guest_uso4"),
	FEATURE("guest_uso6"),
	FEATURE("host_uso"),
	FEATURE("ctrl_rx"),
	FEATURE("ctrl_vlan"),
	FEATURE("ctrl_rx_extra"),
	FEATURE("ctrl_mac_addr"),
	FEATURE("ctrl_guest_offloads"),
	FEATURE("guest_announce"),
	FEATURE("queue_reset"),
#undef FEATURE
	{ "ctrl_vq", "bool", "ctrl_vq", NULL, "(default: on)" },
	{ "host_mtu", "uint16", "mtu", NULL, "told to the guest (default: 0, not told)" },
	{ "speed", "int32", "speed", NULL, "Mbit/s, told to the guest (default: -1, not told)" },
	{ "duplex", "str", "duplex", "half|full", "told to the guest" },
	{ "guest_ufo", "bool", NULL, "on|off", "no network has it" },
	{ "host_ufo", "bool", NULL, "on|off", "no network has it" },
	{ "gso", "bool", NULL, "on|off", "of drivers from before virtio 1" },
	{ "guest_rsc_ext", "bool", NULL, "off", NULL },
	{ "rsc_interval", "uint32", NULL, "300000", NULL },
	{ "rss", "bool", "rss", NULL, "(default: off)" },
	{ "hash", "bool", "hash", NULL, "(default: off)" },
	{ "rx_queue_size", "uint16", "rx-queue-size", NULL, "256, 512 or 1024 (default: 256)" },
	{ "tx_queue_size", "uint16", "tx-queue-size", NULL, "256, 512 or 1024 (default: 256)" },
	{ "tx", "str", NULL, "bh", NULL },
	{ "failover", "bool", NULL, "off", NULL },
	{ "vectors", "uint32", NULL, NULL, "each queue has one, and changes of the configuration" },
	{ "rombar", "uint32", NULL, NULL, "0: a card without ROM" },
	{ NULL },
};
static const struct property e1000[] = {
	{ "netdev", "str", NULL, NULL, "id of a -netdev" },
	{ "mac", "str", "mac", NULL, "Ethernet 6-byte MAC address" },
	{ "bootindex", "int32", "bootindex", NULL, NULL },
	{ "romfile", "str", NULL, NULL, "expansion ROM; empty: none" },
	{ "rombar", "uint32", NULL, NULL, "0: a card without ROM" },
	{ "autonegotiation", "bool", NULL, "on", NULL },
	{ "mitigation", "bool", NULL, "on", NULL },
	{ "extra_mac_registers", "bool", NULL, "on", NULL },
	{ "init-vet", "bool", NULL, "on", NULL },
	{ "migrate_tso_props", "bool", NULL, "on", NULL },
	{ NULL },
};
static const struct property vga[] = {
	{ "vgamem_mb", "uint32", NULL, NULL, "frame buffer (default: 16)" },
	{ "edid", "bool", NULL, "on", NULL },
	{ "romfile", "str", "rom", NULL, NULL },
	{ "rombar", "uint32", NULL, "1", NULL },
	{ NULL },
};
static const struct property rng[] = {
	{ "rng", "str", NULL, NULL, "id of an rng-random or rng-builtin object" },
	{ NULL },
};
static const struct property balloon[] = {
	{ "deflate-on-oom", "bool", "deflate-on-oom", NULL, "(default: on)" },
	{ "free-page-reporting", "bool", "free-page-reporting", NULL, "(default: on)" },
	{ "free-page-hint", "bool", NULL, "off", NULL },
	{ NULL },
};
static const struct property virtio_serial[] = {
	{ "max_ports", "uint32", NULL, "2|31", NULL },
	{ NULL },
};
static const struct property port[] = {
	{ "chardev", "str", NULL, NULL, "id of a -chardev" },
	{ "name", "str", NULL, NULL, NULL },
	{ "bus", "str", NULL, NULL, NULL },
	{ "nr", "uint32", NULL, "0|1", NULL },
	{ NULL },
};
static const struct property serial[] = {
	{ "chardev", "str", NULL, NULL, "id of a -chardev" },
	{ "index", "uint32", NULL, NULL, NULL },
	{ NULL },
};
static const struct property debugcon[] = {
	{ "chardev", "str", NULL, NULL, "id of a -chardev" },
	{ "iobase", "uint32", "iobase", NULL, "(default: 0xe9)" },
	{ NULL },
};
static const struct property debug_exit[] = {
	{ "iobase", "uint32", "iobase", NULL, "(default: 0x501)" },
	{ "iosize", "uint32", NULL, "1|2|4|0x1|0x2|0x4|0x01|0x02|0x04", NULL },
	{ NULL },
};
static const struct property pvpanic[] = {
	{ "ioport", "uint16", "ioport", NULL, "(default: 0x505)" },
	{ "events", "uint8", NULL, "3", NULL },
	{ NULL },
};
static const struct property none[] = { { NULL } };

/* --- devices --- */

static int add_single(struct qemu *q, struct qopts *o, const struct device *d, char *prefix)
{
	const char *is = config_peek(q->c, d->key);

	if (is && !strcmp(is, "on"))
		return qopts_fail(o, q->err, "a machine has one %s at most", d->name);
	snprintf(prefix, 32, "%s", d->key);
	return qemu_set(q, o, NULL, d->key, "on");
}

static int add_blk(struct qemu *q, struct qopts *o, const struct device *d, char *prefix)
{
	const char *drive = qopts_get(o, "drive"), *thread = qopts_get(o, "iothread");

	if (!drive)
		return qopts_fail(o, q->err, "drive property not set");
	if (thread && !qlist_find(&q->objects, "id", thread))
		return qopts_fail(o, q->err, "Property 'iothread' can't find value '%s'", thread);
	return qemu_attach_drive(q, o, drive, false, prefix);
}

static int add_ide(struct qemu *q, struct qopts *o, const struct device *d, char *prefix)
{
	bool cdrom = !strcmp(d->name, "ide-cd");
	const char *drive = qopts_get(o, "drive");
	char text[16];
	int place;

	if (!drive && !cdrom)
		return qopts_fail(o, q->err, "No drive specified");
	place = qemu_ide_place(q, o);
	snprintf(text, sizeof(text), "%d", place);
	if (place < 0 || qemu_attach_drive(q, o, drive, cdrom, prefix) || qemu_set(q, o, prefix, "addr", text))
		return -1;
	return cdrom ? 0 : qemu_set(q, o, prefix, "bus", "ide");
}

static int add_net(struct qemu *q, struct qopts *o, const struct device *d, char *prefix)
{
	if (qemu_attach_netdev(q, o, qopts_get(o, "netdev"), prefix) || qemu_net_rom(q, o, prefix) ||
	    qemu_name_card(q, prefix, d->name, qopts_get(o, "id")))
		return -1;
	return strcmp(d->name, "e1000") ? 0 : qemu_set(q, o, prefix, "model", "e1000");
}

static int set_vga_memory(struct qemu *q, struct qopts *o)
{
	const char *mib = qopts_get(o, "vgamem_mb");
	char text[24];

	snprintf(text, sizeof(text), "%.16sM", mib ? mib : "");
	return mib ? qemu_set(q, o, "vga", "memory", text) : 0;
}

static int add_vga(struct qemu *q, struct qopts *o, const struct device *d, char *prefix)
{
	if (config_peek(q->c, "vga"))
		return qopts_fail(o, q->err, "a machine has one VGA at most");
	snprintf(prefix, 32, "vga");
	return set_vga_memory(q, o) || qemu_set(q, o, NULL, "vga", "std") ? -1 : 0;
}

static int add_rng(struct qemu *q, struct qopts *o, const struct device *d, char *prefix)
{
	const char *source = qopts_get(o, "rng");

	if (source && !qlist_find(&q->objects, "id", source))
		return qopts_fail(o, q->err, "Property 'rng' can't find value '%s'", source);
	return add_single(q, o, d, prefix);
}

/* The controller by itself is nothing: its ports are the keys. */
static int add_virtio_serial(struct qemu *q, struct qopts *o, const struct device *d, char *prefix)
{
	snprintf(prefix, 32, "%s", d->key);
	return 0;
}

static int set_chardev(struct qemu *q, struct qopts *o, const char *key)
{
	const char *id = qopts_get(o, "chardev");

	if (!id)
		return qopts_fail(o, q->err, "chardev property not set");
	if (config_peek(q->c, key))
		return qopts_fail(o, q->err, "a machine has one of them at most");
	return qemu_set_port(q, o, key, id);
}

/* "ID.0" of a virtio-serial device; "virtio-serial-bus.0" of one without an id. */
static bool is_port_bus(struct qemu *q, const char *bus)
{
	for (unsigned n = 0; n < q->devices.count; n++) {
		const char *driver = qopts_get(&q->devices.v[n], "driver"), *id = qopts_get(&q->devices.v[n], "id");
		size_t len;

		if (!driver || strncmp(driver, "virtio-serial", 13) != 0)
			continue;
		id = id ? id : "virtio-serial-bus";
		len = strlen(id);
		if (!strncmp(bus, id, len) && !strcmp(bus + len, ".0"))
			return true;
	}
	return false;
}

static int add_port(struct qemu *q, struct qopts *o, const struct device *d, char *prefix)
{
	const char *name = qopts_get(o, "name"), *bus = qopts_get(o, "bus");
	bool console = !strcmp(d->name, "virtconsole");

	snprintf(prefix, 32, "%s", d->key);
	if (bus && !is_port_bus(q, bus))
		return qopts_fail(o, q->err, "Bus '%s' not found", bus);
	q->virtio_ports++;
	if (set_chardev(q, o, d->key))
		return -1;
	return name && !console ? qemu_set(q, o, "agent", "name", name) : 0;
}

static int add_serial(struct qemu *q, struct qopts *o, const struct device *d, char *prefix)
{
	const char *index = qopts_get(o, "index");
	char text[16];

	snprintf(text, sizeof(text), "%u", q->serial_ports);
	if (index && strcmp(index, text) != 0)
		return qopts_fail(o, q->err, "index %s is not that of the next serial port (%s)", index, text);
	snprintf(prefix, 32, "serial%u", q->serial_ports++);
	return set_chardev(q, o, prefix);
}

static int add_debugcon(struct qemu *q, struct qopts *o, const struct device *d, char *prefix)
{
	snprintf(prefix, 32, "%s", d->key);
	return set_chardev(q, o, d->key);
}

static const struct device devices[] = {
	{ "ide-cd", NULL, "Storage", "IDE", "virtual IDE CD-ROM", cd, add_ide },
	{ "ide-hd", NULL, "Storage", "IDE", "virtual IDE disk", hd, add_ide },
	{ "virtio-blk-pci", "virtio-blk|virtio-blk-pci-non-transitional", "Storage", "PCI", NULL, blk, add_blk, NULL,
	  true },
	{ "e1000", "e1000-82540em", "Network", "PCI", "Intel Gigabit Ethernet", e1000, add_net, NULL, true },
	{ "virtio-net-pci", "virtio-net|virtio-net-pci-non-transitional", "Network", "PCI", NULL, net, add_net, NULL,
	  true },
	{ "isa-serial", NULL, "Input", "ISA", NULL, serial, add_serial },
	{ "virtconsole", NULL, "Input", "virtio-serial-bus", NULL, port, add_port, "console0" },
	{ "virtio-serial-pci", "virtio-serial|virtio-serial-pci-non-transitional", "Input", "PCI", NULL, virtio_serial,
	  add_virtio_serial, "console0", true },
	{ "virtserialport", NULL, "Input", "virtio-serial-bus", NULL, port, add_port, "agent" },
	{ "VGA", NULL, "Display", "PCI", NULL, vga, add_vga, "vga", true },
	{ "i6300esb", NULL, "Misc", "PCI", "watchdog", none, add_single, "i6300esb", true },
	{ "isa-debug-exit", NULL, "Misc", "ISA", NULL, debug_exit, add_single, "isa-debug-exit" },
	{ "isa-debugcon", NULL, "Misc", "ISA", NULL, debugcon, add_debugcon, "debugcon" },
	{ "pc-testdev", NULL, "Misc", "ISA", NULL, none, add_single, "pc-testdev" },
	{ "pci-testdev", NULL, "Misc", "PCI", "PCI Test Device", none, add_single, "pci-testdev", true },
	{ "pvpanic", NULL, "Misc", "ISA", NULL, pvpanic, add_single, "pvpanic" },
	{ "virtio-balloon-pci", "virtio-balloon|virtio-balloon-pci-non-transitional", "Misc", "PCI", NULL, balloon,
	  add_single, "balloon", true },
	{ "virtio-rng-pci", "virtio-rng|virtio-rng-pci-non-transitional", "Misc", "PCI", NULL, rng, add_rng, "rng",
	  true },
};

static bool is_virtio(const struct device *d)
{
	return d->pci && !strncmp(d->name, "virtio", 6);
}

static const struct device *find_device(const char *name)
{
	for (size_t n = 0; n < ARRAY_LEN(devices); n++)
		if (!strcmp(devices[n].name, name) || (devices[n].alias && qword_in(devices[n].alias, name)))
			return &devices[n];
	return NULL;
}

/* '_' is as good as '-'. */
static bool same_name(const char *a, const char *b)
{
	for (; *a && *b; a++, b++)
		if (*a != *b && !(strchr("-_", *a) && strchr("-_", *b)))
			return false;
	return !*a && !*b;
}

static const struct property *find_property(const struct device *d, const char *name)
{
	const struct property *lists[] = { of_all, d->properties, d->pci ? of_pci : none,
					   is_virtio(d) ? of_virtio : none };

	for (size_t n = 0; n < ARRAY_LEN(lists); n++)
		for (const struct property *p = lists[n]; p->name; p++)
			if (same_name(p->name, name))
				return p;
	return NULL;
}

/* --- help --- */

static void print_properties(FILE *out, const struct property *p)
{
	for (; p->name; p++)
		fprintf(out, "  %s=<%s>%s%s%s%s\n", p->name, p->type, p->values || p->help ? " - " : "",
			p->values ? p->values : "", p->values && p->help ? ": " : "", p->help ? p->help : "");
}

bool qemu_device_help(FILE *out, const char *name)
{
	const struct device *d = name ? find_device(name) : NULL;
	const char *category = "";

	if (name) {
		if (!d)
			return false;
		fprintf(out, "%s options:\n", d->name);
		print_properties(out, d->properties);
		print_properties(out, d->pci ? of_pci : none);
		print_properties(out, is_virtio(d) ? of_virtio : none);
		return true;
	}
	for (size_t n = 0; n < ARRAY_LEN(devices); n++) {
		d = &devices[n];
		if (strcmp(category, d->category) != 0)
			fprintf(out, "%s%s devices:\n", n ? "\n" : "", d->category);
		category = d->category;
		fprintf(out, "name \"%s\", bus %s", d->name, d->bus);
		if (d->alias)
			fprintf(out, ", alias \"%.*s\"", (int)strcspn(d->alias, "|"), d->alias);
		fprintf(out, d->desc ? ", desc \"%s\"\n" : "%s\n", d->desc ? d->desc : "");
	}
	return true;
}

/* --- making them --- */

/* "06", "0x6", "06.0". */
static int read_slot(struct qemu *q, struct qopts *o, int *slot)
{
	const char *text = qopts_get(o, "addr");
	char *end;
	unsigned long n;

	*slot = -1;
	if (!text || !strcmp(text, "-1"))
		return 0;
	n = strtoul(text, &end, 16);
	if (end == text || (*end && strcmp(end, ".0") != 0) || !n || n > 31)
		return qopts_fail(o, q->err, "addr '%s' is not a free slot: 01 to 1f, function 0", text);
	*slot = (int)n;
	return 0;
}

/* What an option name with '_' or '-' is called in the tables, so that functions find it. */
static int normalize(struct qemu *q, struct qopts *o, const struct device *d)
{
	for (unsigned n = 0; n < o->count; n++) {
		const struct property *p = find_property(d, o->pair[n].name);
		char *name;

		if (!p || !strcmp(p->name, o->pair[n].name))
			continue;
		name = strdup(p->name);
		if (!name)
			return err_set(q->err, "out of memory");
		free(o->pair[n].name);
		o->pair[n].name = name;
	}
	return 0;
}

/* QEMU's ways to leave a property as it is. */
static bool is_default(const struct property *p, const char *value)
{
	return !strcmp(value, "auto") || (!strcmp(p->type, "int32") && !strcmp(value, "-1"));
}

/* One value of a property that is known. */
static int set_property(struct qemu *q, struct qopts *o, const struct device *d, const struct property *p,
			const char *value, const char *prefix)
{
	unsigned long n;
	char *end;

	if (p->values && !qvalue_in(p->values, value))
		return qopts_fail(o, q->err, "Property '%s.%s': '%s' is not there, only %s", d->name, p->name, value,
				  p->values);
	/* Keys have readers of their own. */
	n = p->key || strncmp(p->type, "uint", 4) ? 0 : strtoul(value, &end, 0);
	if (!p->key && !strncmp(p->type, "uint", 4) && (!*value || *end || *value == '-' || n > UINT32_MAX))
		return qopts_fail(o, q->err, "Parameter '%s' expects integer", p->name);
	/* A kernel is loaded directly: there is nothing to choose. */
	if (!p->key || is_default(p, value) || (!strcmp(p->key, "bootindex") && config_peek(q->c, "kernel")))
		return 0;
	return qemu_set(q, o, prefix, p->key, value);
}

static int set_properties(struct qemu *q, struct qopts *o, const struct device *d, const char *prefix)
{
	for (unsigned n = 0; n < o->count; n++) {
		struct qpair *pair = &o->pair[n];
		const struct property *p = find_property(d, pair->name);

		if (!p && !pair->used)
			return qopts_fail(o, q->err, "Property '%s.%s' not found", d->name, pair->name);
		pair->used = true;
		if (p && set_property(q, o, d, p, pair->value, prefix))
			return -1;
	}
	return 0;
}

/* -global is the default of what the device itself does not say. */
static int add_globals(struct qemu *q, struct qopts *o, const struct device *d)
{
	for (unsigned n = 0; n < q->globals.count; n++) {
		struct qopts *g = &q->globals.v[n];
		const struct device *of = find_device(qopts_get(g, "driver"));
		const char *property = qopts_get(g, "property"), *value = qopts_get(g, "value");
		struct qpair *grown;

		if (of != d)
			continue;
		g->taken = true;
		if (qopts_get(o, property))
			continue;
		grown = realloc(o->pair, (o->count + 1) * sizeof(*grown));
		if (!grown)
			return err_set(q->err, "out of memory");
		o->pair = grown;
		grown[o->count++] = (struct qpair){ .name = strdup(property), .value = strdup(value) };
	}
	return 0;
}

int qemu_set_globals(struct qemu *q, const char *driver, const char *prefix)
{
	const struct device *d = find_device(driver);
	struct qopts o = { 0 };
	int rc = add_globals(q, &o, d) || normalize(q, &o, d) || (d->add == add_vga && set_vga_memory(q, &o)) ||
				 (d->add == add_net && qemu_net_rom(q, &o, prefix)) || set_properties(q, &o, d, prefix)
			 ? -1
			 : 0;

	qopts_free(&o);
	return rc;
}

static int add_device(struct qemu *q, struct qopts *o)
{
	const char *driver = qopts_get(o, "driver"), *id = qopts_get(o, "id");
	const struct device *d;
	char prefix[32] = "";
	int slot;

	if (!driver)
		return qopts_fail(o, q->err, "Parameter 'driver' is missing");
	d = find_device(driver);
	if (!d)
		return qopts_fail(o, q->err, "'%s' is not a valid device model name", driver);
	if (id && qlist_find(&q->devices, "id", id) != o)
		return qopts_fail(o, q->err, "Duplicate ID '%s' for device", id);
	if (normalize(q, o, d) || add_globals(q, o, d) || (d->pci && read_slot(q, o, &slot)) ||
	    d->add(q, o, d, prefix) || set_properties(q, o, d, prefix) ||
	    (id && (d->pci || d->add == add_ide) && qemu_set(q, o, prefix, "qdev", id)))
		return -1;
	return d->pci ? qemu_on_pci(q, o, prefix, slot) : 0;
}

/* Properties of parts of the machine that are no devices of these tables. */
static const struct {
	const char *driver, *property, *values;
} of_machine[] = {
	{ "kvm-pit", "lost_tick_policy", "discard" },
	{ "isa-pit", "lost_tick_policy", "discard" },
	{ "mc146818rtc", "lost_tick_policy", "discard" },
	{ "PIIX4_PM", "disable_s3", "1|on" },
	{ "PIIX4_PM", "disable_s4", "1|on" },
};

static int check_global(struct qemu *q, struct qopts *g)
{
	const char *driver = qopts_get(g, "driver"), *property = qopts_get(g, "property");
	const char *value = qopts_get(g, "value");
	const struct device *d = driver ? find_device(driver) : NULL;

	if (!driver || !property || !value)
		return qopts_fail(g, q->err, "Parameter 'driver', 'property' or 'value' is missing");
	for (size_t n = 0; n < ARRAY_LEN(of_machine); n++) {
		if (strcmp(of_machine[n].driver, driver) || strcmp(of_machine[n].property, property))
			continue;
		g->taken = true;
		return qvalue_in(of_machine[n].values, value)
			       ? 0
			       : qopts_fail(g, q->err, "'%s' is not there, only %s", value, of_machine[n].values);
	}
	if (!d)
		return qopts_fail(g, q->err, "global %s.%s has invalid class name", driver, property);
	return find_property(d, property) ? 0 : qopts_fail(g, q->err, "Property '%s.%s' not found", driver, property);
}

/* Objects that others name by their ids. Each says what is so anyhow. */
static const struct {
	const char *type;
	struct property properties[7];
} objects[] = {
	{ "iothread", { { "poll-max-ns", "int", NULL, NULL, NULL } } },
	{ "filter-dump",
	  { { "netdev", "str", NULL, NULL, NULL },
	    { "file", "str", NULL, NULL, NULL },
	    { "maxlen", "int", NULL, NULL, NULL },
	    { "queue", "NetFilterDirection", NULL, "all", NULL },
	    { "status", "str", NULL, "on", NULL },
	    { "position", "str", NULL, "head|tail", NULL } } },
	{ "rng-builtin", { { NULL } } },
	/* For -vnc. */
	{ "secret", { { "file", "str", NULL, NULL, NULL }, { "format", "str", NULL, "raw", NULL } } },
	{ "tls-creds-x509",
	  { { "dir", "str", NULL, NULL, NULL },
	    { "endpoint", "str", NULL, "server", NULL },
	    { "verify-peer", "bool", NULL, "off", NULL } } },
	{ "rng-random", { { "filename", "str", NULL, "/dev/urandom|/dev/random", NULL } } },
};

static int check_object(struct qemu *q, struct qopts *o)
{
	const char *type = qopts_get(o, "qom-type"), *id = qopts_get(o, "id");

	if (type && !strncmp(type, "memory-backend-", 15))
		return qemu_check_backend(q, o);
	for (size_t n = 0; type && n < ARRAY_LEN(objects); n++) {
		if (strcmp(objects[n].type, type) != 0)
			continue;
		for (const struct property *p = objects[n].properties; p->name; p++) {
			const char *value = qopts_get(o, p->name);

			if (value && p->values && !qvalue_in(p->values, value))
				return qopts_fail(o, q->err, "Property '%s.%s': '%s' is not there, only %s", type,
						  p->name, value, p->values);
		}
		if (!id)
			return qopts_fail(o, q->err, "Parameter 'id' is missing");
		if (qlist_find(&q->objects, "id", id) != o)
			return qopts_fail(o, q->err, "Duplicate ID '%s' for object", id);
		if (!strcmp(type, "filter-dump") && qemu_check_dump(q, o))
			return -1;
		return qopts_all_read(o, q->err);
	}
	return qopts_fail(o, q->err, "Parameter 'qom-type' does not accept value '%s'", type ? type : "");
}

int qemu_finish_devices(struct qemu *q)
{
	bool ports = false;

	for (unsigned n = 0; n < q->objects.count; n++)
		if (check_object(q, &q->objects.v[n]))
			return -1;
	for (unsigned n = 0; n < q->devices.count; n++) {
		const char *driver = qopts_get(&q->devices.v[n], "driver");

		if (add_device(q, &q->devices.v[n]))
			return -1;
		ports |= !strncmp(driver, "virtio-serial", 13);
	}
	if (ports && !q->virtio_ports)
		return err_set(q->err, "-device virtio-serial-pci: it has no port: add -device virtconsole or "
				       "virtserialport");
	if (!ports && q->virtio_ports)
		return err_set(q->err, "No 'virtio-serial-bus' bus found for device: add -device virtio-serial-pci");
	return 0;
}

int qemu_check_globals(struct qemu *q)
{
	for (unsigned n = 0; n < q->globals.count; n++)
		if (check_global(q, &q->globals.v[n]))
			return -1;
	return 0;
}

void qemu_warn_of_globals(struct qemu *q)
{
	for (unsigned n = 0; n < q->globals.count; n++)
		if (!q->globals.v[n].taken)
			qemu_warn(q, "%s: no device has used it", q->globals.v[n].origin);
}
