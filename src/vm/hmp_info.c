/* The monitor's `info` about the machine: what QMP says, in the form of QEMU's monitor. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/lineedit.h"
#include "net/net.h"
#include "vm/hmp.h"
#include "vm/impl.h"

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static json_int_t integer(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static bool is(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

static void status(struct hmp *h, const struct hmp_args *a)
{
	json_t *o = hmp_qmp(h, "query-status", NULL);
	const char *word = text(o, "status");

	fprintf(h->out, "VM status: %s", is(o, "running") ? "running" : "paused");
	if (strcmp(word, "running") && strcmp(word, "paused"))
		fprintf(h->out, " (%s)", word);
	fputc('\n', h->out);
	json_decref(o);
}

static void version(struct hmp *h, const struct hmp_args *a)
{
	fprintf(h->out, "%s (vireo-%s)\n", VM_QEMU_VERSION, VIREO_VERSION);
}

static void name(struct hmp *h, const struct hmp_args *a)
{
	json_t *o = hmp_qmp(h, "query-name", NULL);

	if (json_object_get(o, "name"))
		fprintf(h->out, "%s\n", text(o, "name"));
	json_decref(o);
}

static void uuid(struct hmp *h, const struct hmp_args *a)
{
	json_t *o = hmp_qmp(h, "query-uuid", NULL);

	fprintf(h->out, "%s\n", text(o, "UUID"));
	json_decref(o);
}

static void kvm(struct hmp *h, const struct hmp_args *a)
{
	json_t *o = hmp_qmp(h, "query-kvm", NULL);

	fprintf(h->out, "kvm support: %s\n",
		is(o, "enabled")   ? "enabled"
		: is(o, "present") ? "disabled"
				   : "not compiled");
	json_decref(o);
}

static void chardev(struct hmp *h, const struct hmp_args *a)
{
	json_t *list = hmp_qmp(h, "query-chardev", NULL), *o;
	size_t n;

	json_array_foreach(list, n, o) fprintf(h->out, "%s: filename=%s\n", text(o, "label"), text(o, "filename"));
	json_decref(list);
}

static void mice(struct hmp *h, const struct hmp_args *a)
{
	json_t *list = hmp_qmp(h, "query-mice", NULL), *o;
	size_t n;

	if (!json_array_size(list))
		fprintf(h->out, "No mouse devices connected\n");
	json_array_foreach(list, n, o) fprintf(h->out, "%c Mouse #%d: %s\n", is(o, "current") ? '*' : ' ',
					       (int)integer(o, "index"), text(o, "name"));
	json_decref(list);
}

static void balloon(struct hmp *h, const struct hmp_args *a)
{
	json_t *o = hmp_qmp(h, "query-balloon", NULL);

	if (o)
		fprintf(h->out, "balloon: actual=%d\n", (int)(integer(o, "actual") >> 20));
	json_decref(o);
}

static void memory_size(struct hmp *h, const struct hmp_args *a)
{
	json_t *o = hmp_qmp(h, "query-memory-size-summary", NULL);

	fprintf(h->out, "base memory: %" PRIu64 "\nplugged memory: %" PRIu64 "\n", (uint64_t)integer(o, "base-memory"),
		(uint64_t)integer(o, "plugged-memory"));
	json_decref(o);
}

static void history(struct hmp *h, const struct hmp_args *a)
{
	const char *line;

	for (unsigned n = 0; h->history && (line = lineedit_history(h->history, n)); n++)
		fprintf(h->out, "%u: '%s'\n", n, line);
}

static void snapshots(struct hmp *h, const struct hmp_args *a)
{
	fprintf(h->out,
		"There is no snapshot available: no disk here keeps any (`vireo save` writes a state to a file).\n");
}

static void usb(struct hmp *h, const struct hmp_args *a)
{
	fprintf(h->out, "USB support not enabled\n");
}

static void migrate(struct hmp *h, const struct hmp_args *a)
{
	json_t *o = hmp_qmp(h, "query-migrate", NULL), *ram = json_object_get(o, "ram");

	if (json_object_get(o, "status"))
		fprintf(h->out, "Migration status: %s", text(o, "status"));
	if (json_object_get(o, "error-desc"))
		fprintf(h->out, " (%s)", text(o, "error-desc"));
	if (json_object_get(o, "status"))
		fprintf(h->out,
			"\ntotal time: %" PRIu64 " ms\ntransferred ram: %" PRIu64 " kbytes\nremaining ram: %" PRIu64
			" kbytes\ntotal ram: %" PRIu64 " kbytes\n",
			(uint64_t)integer(o, "total-time"), (uint64_t)integer(ram, "transferred") >> 10,
			(uint64_t)integer(ram, "remaining") >> 10, (uint64_t)integer(ram, "total") >> 10);
	json_decref(o);
}

/* What there is to say of a host's end, besides its interface: keys that were given. */
static const struct {
	const char *backend, *keys[8];
} host_ends[] = {
	{ "tap", { "fd", "fds", "bridge", "helper", "script", "downscript", "queues" } },
	{ "socket", { "listen", "connect", "mcast", "udp", "localaddr", "fd", "reconnect" } },
	{ "stream", { "listen", "connect", "fd", "reconnect" } },
	{ "dgram", { "local", "remote", "fd" } },
	{ "passt", { "socket", "program", "tcp-ports", "udp-ports" } },
	{ "null", { NULL } },
};

static const char *of_net(const struct hmp *h, const char *prefix, const char *name)
{
	char key[64];

	snprintf(key, sizeof(key), "%s.%s", prefix, name);
	return config_peek(h->vm->config, key);
}

static void host_end(struct hmp *h, const char *prefix, const char *backend)
{
	size_t n = 0;

	if (!strcmp(backend, "user")) {
		fputs("type=user,", h->out);
		net_user_describe(h->vm->config, prefix, h->out);
		fputc('\n', h->out);
		return;
	}
	while (n < ARRAY_LEN(host_ends) && strcmp(backend, host_ends[n].backend))
		n++;
	/* Any other word is a network of the host. */
	fprintf(h->out, n < ARRAY_LEN(host_ends) ? "type=%s" : "type=tap,network=%s", backend);
	for (unsigned k = 0; k < h->vm->net_count; k++) {
		const struct vm_net *net = &h->vm->nets[k];

		if (strcmp(net->name, prefix) != 0)
			continue;
		if (*net->interface)
			fprintf(h->out, ",ifname=%s", net->interface);
		if (net->back_end->gone)
			fputs(",gone=on", h->out);
	}
	for (unsigned k = 0; n < ARRAY_LEN(host_ends) && host_ends[n].keys[k]; k++) {
		const char *value = of_net(h, prefix, host_ends[n].keys[k]);

		if (value)
			fprintf(h->out, ",%s=%s", host_ends[n].keys[k], value);
	}
	fputc('\n', h->out);
}

static void network(struct hmp *h, const struct hmp_args *a)
{
	char prefix[16], dflt[24];

	for (unsigned n = 0;; n++) {
		const char *backend, *model, *mac, *qdev, *id;

		snprintf(prefix, sizeof(prefix), "net%u", n);
		backend = of_net(h, prefix, "backend");
		if (!backend)
			break;
		if (!strcmp(backend, "none"))
			continue;
		model = of_net(h, prefix, "model");
		mac = of_net(h, prefix, "mac");
		snprintf(dflt, sizeof(dflt), "52:54:00:12:34:%02x", (0x56 + n) & 0xff);
		qdev = of_net(h, prefix, "qdev");
		id = of_net(h, prefix, "id");
		fprintf(h->out, "%s: index=0,type=nic,model=%s,macaddr=%s\n", qdev ? qdev : prefix,
			!model || !strcmp(model, "virtio") ? "virtio-net-pci" : model, mac ? mac : dflt);
		fprintf(h->out, " \\ %s%s: index=0,", id ? id : qdev ? qdev : prefix, id ? "" : ".peer");
		host_end(h, prefix, backend);
	}
}

static void usernet(struct hmp *h, const struct hmp_args *a)
{
	for (unsigned n = 0; n < h->vm->net_count; n++) {
		const struct vm_net *net = &h->vm->nets[n];
		const char *id = of_net(h, net->name, "id");

		if (!net->back_end->ops->print)
			continue;
		fprintf(h->out, "Hub -1 (%s):\n", id ? id : net->name);
		net->back_end->ops->print(net->back_end, h->out);
	}
}

/* --- PCI --- */

static void pci_region(struct hmp *h, const json_t *r)
{
	uint64_t at = (uint64_t)integer(r, "address"), last = at + (uint64_t)integer(r, "size") - 1;

	fprintf(h->out, "      BAR%d: ", (int)integer(r, "bar"));
	if (!strcmp(text(r, "type"), "io"))
		fprintf(h->out, "I/O at 0x%04" PRIx64 " [0x%04" PRIx64 "].\n", at, last);
	else
		fprintf(h->out, "%d bit%s memory at 0x%08" PRIx64 " [0x%08" PRIx64 "].\n",
			is(r, "mem_type_64") ? 64 : 32, is(r, "prefetch") ? " prefetchable" : "", at, last);
}

static void pci_function_info(struct hmp *h, const json_t *o)
{
	const json_t *id = json_object_get(o, "id"), *class = json_object_get(o, "class_info"), *r;
	size_t n;

	fprintf(h->out, "  Bus %2d, device %3d, function %d:\n    ", (int)integer(o, "bus"), (int)integer(o, "slot"),
		(int)integer(o, "function"));
	if (json_object_get(class, "desc"))
		fprintf(h->out, "%s", text(class, "desc"));
	else
		fprintf(h->out, "Class %04d", (int)integer(class, "class"));
	fprintf(h->out, ": PCI device %04x:%04x\n", (unsigned)integer(id, "vendor"), (unsigned)integer(id, "device"));
	fprintf(h->out, "      PCI subsystem %04x:%04x\n", (unsigned)integer(id, "subsystem-vendor"),
		(unsigned)integer(id, "subsystem"));
	if (json_object_get(o, "irq"))
		fprintf(h->out, "      IRQ %d, pin %c\n", (int)integer(o, "irq"), (char)('@' + integer(o, "irq_pin")));
	json_array_foreach(json_object_get(o, "regions"), n, r) pci_region(h, r);
	fprintf(h->out, "      id \"%s\"\n", text(o, "qdev_id"));
}

static void pci(struct hmp *h, const struct hmp_args *a)
{
	json_t *list = hmp_qmp(h, "query-pci", NULL), *o;
	size_t n;

	json_array_foreach(json_object_get(json_array_get(list, 0), "devices"), n, o) pci_function_info(h, o);
	json_decref(list);
}

/* --- what is where --- */

struct region {
	uint64_t base, size;
	const char *kind, *name;
};

struct regions {
	struct region *at;
	size_t count, room;
};

static void add_region(struct regions *all, struct region r)
{
	if (all->count == all->room) {
		struct region *grown = realloc(all->at, (all->room * 2 + 64) * sizeof(*grown));

		if (!grown)
			return;
		all->at = grown;
		all->room = all->room * 2 + 64;
	}
	all->at[all->count++] = r;
}

static void bus_region(void *opaque, uint64_t base, uint64_t size, const char *called)
{
	add_region(opaque, (struct region){ base, size, "i/o", called ? called : "?" });
}

static int by_base(const void *a, const void *b)
{
	uint64_t x = ((const struct region *)a)->base, y = ((const struct region *)b)->base;

	return (x > y) - (x < y);
}

static void print_regions(struct hmp *h, struct regions *all)
{
	qsort(all->at, all->count, sizeof(all->at[0]), by_base);
	for (size_t n = 0; n < all->count; n++)
		fprintf(h->out, "    %016" PRIx64 "-%016" PRIx64 " (prio 0, %s): %s\n", all->at[n].base,
			all->at[n].base + all->at[n].size - 1, all->at[n].kind, all->at[n].name);
	free(all->at);
}

static void mtree(struct hmp *h, const struct hmp_args *a)
{
	struct regions ports = { 0 }, memory = { 0 };
	struct mem_window w;
	const char *called;

	bus_each(h->vm->bus, BUS_PORT, bus_region, &ports);
	bus_each(h->vm->bus, BUS_MMIO, bus_region, &memory);
	for (unsigned n = 0; n < mem_slot_count(h->vm->mem); n++)
		if (mem_slot_window(h->vm->mem, n, &w, &called))
			add_region(&memory, (struct region){ w.base.v, w.size, w.readonly ? "rom" : "ram", called });
	fprintf(h->out, "address-space: memory\n  0000000000000000-ffffffffffffffff (prio 0, i/o): system\n");
	print_regions(h, &memory);
	fprintf(h->out, "\naddress-space: I/O\n  0000000000000000-000000000000ffff (prio 0, i/o): io\n");
	print_regions(h, &ports);
	fputc('\n', h->out);
}

const struct hmp_command hmp_info_commands[] = {
	{ "balloon", "", "", "show balloon information", balloon },
	{ "chardev", "", "", "show the character devices", chardev },
	{ "history", "", "", "show the command line history", history },
	{ "kvm", "", "", "show KVM information", kvm },
	{ "memory_size_summary", "", "", "show the amount of memory in bytes", memory_size },
	{ "mice", "", "", "show which guest mouse is receiving events", mice },
	{ "migrate", "", "", "show migration status", migrate },
	{ "mtree", "flat:-f", "[-f]", "show what is where in memory and among the ports", mtree },
	{ "name", "", "", "show the current VM name", name },
	{ "network", "", "", "show the network state", network },
	{ "pci", "", "", "show PCI info", pci },
	{ "snapshots", "", "", "show the currently saved VM snapshots", snapshots },
	{ "status", "", "", "show the current VM status (running|paused)", status },
	{ "usb", "", "", "show guest USB devices", usb },
	{ "usernet", "", "", "show the forwarded ports of user-mode networks", usernet },
	{ "uuid", "", "", "show the current VM UUID", uuid },
	{ "version", "", "", "show the version of Vireo", version },
	{ 0 },
};
