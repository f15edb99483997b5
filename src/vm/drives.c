/* The virtio devices that the configuration asks for, each on the transport that its `bus` key names. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/block.h"
#include "virtio/blk.h"
#include "virtio/devices.h"
#include "virtio/transport.h"
#include "vm/impl.h"
#include "vm/qmp.h"
#include "vm/terminal.h"

#define SERIES_MAX VM_DISKS

int vm_read_names(struct vm *vm, const char *prefix, struct vm_names *names, struct err *err)
{
	char key[64];

#define KEY(of) (snprintf(key, sizeof(key), "%s." of, prefix), key)
	names->id = config_get(vm->config, KEY("id"));
	names->id = names->id ? names->id : prefix;
	return config_str(vm->config, KEY("qdev"), prefix, &names->qdev, err) ||
			       config_str(vm->config, KEY("node-name"), prefix, &names->node, err)
		       ? -1
		       : 0;
#undef KEY
}

bool vm_is_called(const struct vm_names *names, const char *prefix, const char *wanted)
{
	return *wanted && (!strcmp(wanted, names->id) || !strcmp(wanted, names->qdev) || !strcmp(wanted, names->node) ||
			   !strcmp(wanted, prefix));
}

int vm_pci_address(struct vm *vm, const char *prefix, int *devfn, struct err *err)
{
	char key[64], text[8];
	uint64_t slot;
	int first = pci_free_slot(vm->pci);

	snprintf(key, sizeof(key), "%s.addr", prefix);
	if (config_uint(vm->config, key, first < 0 ? 0 : (uint64_t)first, (struct config_range){ 1, 31 }, &slot, err))
		return -1;
	if (first < 0 && !config_peek(vm->config, key))
		return err_set(err, "%s: no PCI slot is free", prefix);
	*devfn = (int)slot << 3;
	snprintf(text, sizeof(text), "%u", (unsigned)slot);
	return config_choose(vm->config, key, text, err) || vm_pci_name(vm, prefix, (unsigned)slot, err) ? -1 : 0;
}

int vm_pci_name(struct vm *vm, const char *prefix, unsigned slot, struct err *err)
{
	char key[64];

	snprintf(key, sizeof(key), "%s.qdev", prefix);
	return config_str(vm->config, key, NULL, &vm->pci_names[slot], err);
}

/* What drivers may agree on about rings, by QEMU's names, which can be taken away: "disk0.feature.packed=off". */
static int read_ring_features(struct vm *vm, struct virtio_dev *d, const char *prefix, struct err *err)
{
	static const struct {
		const char *name;
		unsigned bit;
	} features[] = {
		{ "indirect_desc", VIRTIO_F_INDIRECT_DESC },
		{ "event_idx", VIRTIO_F_EVENT_IDX },
		{ "packed", VIRTIO_F_RING_PACKED },
	};
	char key[64];
	bool on;

	for (size_t n = 0; n < ARRAY_LEN(features); n++) {
		snprintf(key, sizeof(key), "%s.feature.%s", prefix, features[n].name);
		if (config_bool(vm->config, key, true, &on, err))
			return -1;
		d->withheld |= on ? 0 : 1ull << features[n].bit;
	}
	return 0;
}

int vm_attach(struct vm *vm, struct virtio_dev *d, const char *prefix, struct err *err)
{
	static const char *const buses[] = { "pci", "mmio", NULL };
	/* The last of these was looked at before. */
	static const char *const disk_buses[] = { "pci", "mmio", "ide", NULL };
	struct virtio_pci_config pci = { vm->bus, vm->pci, -1 };
	struct device *dev;
	char key[64];
	int bus;

	if (!d)
		return -1;
	snprintf(key, sizeof(key), "%s.bus", prefix);
	if (config_choice(vm->config, key, 0, strncmp(prefix, "disk", 4) ? buses : disk_buses, &bus, err) ||
	    read_ring_features(vm, d, prefix, err) || (bus == 0 && vm_pci_address(vm, prefix, &pci.devfn, err))) {
		d->ops->destroy(d);
		return -1;
	}
	if (bus == 0) {
		dev = virtio_pci_new(d, &pci, err);
	} else if (vm->mmio_count == VM_MMIO_MAX) {
		d->ops->destroy(d);
		return err_set(err, "%s.bus: at most %d devices fit on mmio", prefix, VM_MMIO_MAX);
	} else {
		unsigned n = vm->mmio_count++;
		struct virtio_mmio_config c = { vm->bus, VM_MMIO_BASE + 0x1000ull * n,
						irqchip_line(vm->chip, VM_MMIO_GSI + n), n };

		dev = virtio_mmio_new(d, &c, err);
	}
	if (!dev)
		return err_prefix(err, "%s", prefix);
	vm_add_device(vm, dev);
	return 0;
}

/* --- disks --- */

const char *vm_disk_without_space(const struct vm *vm)
{
	for (unsigned n = 0; n < vm->disk_count; n++)
		if (block_has_stalled(vm->disks[n].node))
			return vm->disks[n].name;
	return NULL;
}

void vm_disk_waits(const struct vm *vm, struct err *err)
{
	for (unsigned n = 0; n < vm->disk_count; n++) {
		const struct vm_disk *d = &vm->disks[n];
		bool read;
		int cause;

		if (!block_has_stalled(d->node))
			continue;
		cause = block_stall_cause(d->node, &read);
		if (cause == ENOSPC)
			err_set(err, "%s has no space for a write on the host", d->name);
		else
			err_set(err, "%s cannot be %s on the host: %s", d->name, read ? "read" : "written",
				strerror(cause));
		return;
	}
	err_set(err, "a disk could not be written");
}

static void io_error(struct vm_disk *d, const char *action, const char *operation, int cause)
{
	qmp_event_data(d->vm->qmp, "BLOCK_IO_ERROR",
		       json_pack("{s:s,s:s,s:s,s:s,s:b,s:s}", "device", d->called.id, "node-name", d->called.node,
				 "operation", operation, "action", action, "nospace", cause == ENOSPC, "reason",
				 strerror(cause)));
}

static void disk_full(void *opaque)
{
	struct vm_disk *d = opaque;
	bool read;
	int cause = block_stall_cause(d->node, &read);

	io_error(d, "stop", read ? "read" : "write", cause);
	vm_disk_changed(d->vm);
}

static void disk_has_space(void *opaque)
{
	struct vm_disk *d = opaque;

	vm_disk_changed(d->vm);
}

/* From now on it refuses everything. Whoever wants it stopped can look before the guest does. */
static void disk_failed(void *opaque)
{
	struct vm_disk *d = opaque;

	io_error(d, d->stop_on_error ? "stop" : "report", "write", EIO);
	if (!d->stop_on_error || d->vm->state != VM_RUNNING)
		return;
	vm_pause(d->vm);
	d->vm->paused_by = "io-error";
}

/* In the disk's thread. */
static void disk_event(void *opaque, enum block_event e)
{
	struct vm_disk *d = opaque;

	loop_post(d->vm->loop,
		  e == BLOCK_EVENT_NOSPACE ? disk_full
		  : e == BLOCK_EVENT_SPACE ? disk_has_space
					   : disk_failed,
		  d);
}

const char *vm_disk_that_forgets(const struct vm *vm)
{
	for (unsigned n = 0; n < vm->disk_count; n++)
		if (vm->disks[n].forgets)
			return vm->disks[n].name;
	return NULL;
}

struct disk_options {
	bool forgets;
	struct block_node *node;
	const char *serial;
	bool accept_changed;
	bool write_through, direct, no_flush, stop_on_error;
};

/* "PREFIX.cache", by QEMU's words, and what is done about errors. */
static int read_care(struct vm *vm, const char *p, struct block_config *b, struct disk_options *o, struct err *err)
{
	static const char *const caches[] = { "writeback", "none", "writethrough", "directsync", "unsafe", NULL };
	static const struct {
		bool direct, through, no_flush;
	} modes[] = { { 0 }, { .direct = true }, { .through = true }, { true, true, false }, { .no_flush = true } };
	static const char *const writes[] = { "enospc", "report", "ignore", "stop", NULL };
	static const char *const reads[] = { "report", "ignore", "stop", NULL };
	static const enum block_on_error of_writes[] = { BLOCK_ENOSPC, BLOCK_REPORT, BLOCK_IGNORE, BLOCK_STOP };
	char key[64];
	int cache, on_write, on_read;

#define KEY(name) (snprintf(key, sizeof(key), "%s." name, p), key)
	if (config_choice(vm->config, KEY("cache"), 0, caches, &cache, err) ||
	    config_choice(vm->config, KEY("werror"), 0, writes, &on_write, err) ||
	    config_choice(vm->config, KEY("rerror"), 0, reads, &on_read, err))
		return -1;
#undef KEY
	o->direct = b->direct = modes[cache].direct;
	o->no_flush = b->no_flush = modes[cache].no_flush;
	o->write_through = modes[cache].through;
	b->on_write = of_writes[on_write];
	b->on_read = of_writes[on_read + 1];
	o->stop_on_error = b->on_write == BLOCK_STOP;
	return 0;
}

static int read_limits(struct vm *vm, const char *p, struct block_limits *l, struct err *err)
{
	const struct config_range range = { 0, 1000000000000000ull };
	const struct {
		const char *name;
		uint64_t *to;
	} keys[] = { { "iops", &l->iops }, { "iops_rd", &l->iops_rd }, { "iops_wr", &l->iops_wr },
		     { "bps", &l->bps },   { "bps_rd", &l->bps_rd },   { "bps_wr", &l->bps_wr } };
	char key[64];

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		snprintf(key, sizeof(key), "%s.%s", p, keys[i].name);
		if (*keys[i].name == 'b' ? config_size(vm->config, key, 0, 1, keys[i].to, err)
					 : config_uint(vm->config, key, 0, range, keys[i].to, err))
			return -1;
	}
	return 0;
}

/* What disks have whatever their bus, and the node. */
static int open_disk(struct vm *vm, const char *p, struct disk_options *o, struct err *err)
{
	struct block_config b = { .name = p };
	static const char *const aios[] = { "auto", "io_uring", "threads", NULL };
	static const char *const changed[] = { "refuse", "accept", NULL };
	static const char *const backing[] = { "near", "follow", NULL };
	char key[64];
	const char *discard;
	int aio, accept, follow;

#define KEY(name) (snprintf(key, sizeof(key), "%s." name, p), key)
	if (config_str(vm->config, KEY("path"), NULL, &b.path, err) ||
	    config_str(vm->config, KEY("format"), NULL, &b.format, err) ||
	    config_bool(vm->config, KEY("readonly"), false, &b.readonly, err) ||
	    config_bool(vm->config, KEY("snapshot"), false, &b.snapshot, err) ||
	    config_str(vm->config, KEY("serial"), NULL, &o->serial, err) ||
	    config_str(vm->config, KEY("discard"), "unmap", &discard, err) ||
	    config_choice(vm->config, KEY("aio"), 0, aios, &aio, err) ||
	    config_choice(vm->config, KEY("changed"), 0, changed, &accept, err) ||
	    config_choice(vm->config, KEY("backing"), 0, backing, &follow, err) || read_care(vm, p, &b, o, err) ||
	    read_limits(vm, p, &b.limits, err))
		return -1;
	if (!b.path)
		return err_set(err, "%s.path: a disk needs a file or a block device", p);
	if (strcmp(discard, "unmap") && strcmp(discard, "ignore"))
		return err_set(err, "%s: '%s' is not one of unmap, ignore", KEY("discard"), discard);
#undef KEY
	b.no_discard = !strcmp(discard, "ignore");
	b.follow = follow;
	b.aio = (enum block_aio)aio;
	o->accept_changed = accept;
	o->forgets = b.snapshot && !b.readonly;
	o->node = block_open(&b, err);
	return o->node ? 0 : -1;
}

/* Takes the node, also on error. */
static int add_virtio_disk(struct vm *vm, struct vm_disk *disk, const struct disk_options *o, struct err *err)
{
	struct virtio_blk_config c = {
		.mem = vm->mem,
		.node = o->node,
		.serial = o->serial,
		.write_through = o->write_through,
		.accept_changed = o->accept_changed,
	};
	unsigned most = vm->cpus < VIRTIO_BLK_MAX_QUEUES ? vm->cpus : VIRTIO_BLK_MAX_QUEUES;
	uint64_t queues;
	char key[64];

	snprintf(key, sizeof(key), "%s.queues", disk->name);
	if (config_uint(vm->config, key, most, (struct config_range){ 1, VIRTIO_BLK_MAX_QUEUES }, &queues, err)) {
		block_close(o->node);
		return -1;
	}
	c.queues = (unsigned)queues;
	disk->virtio = virtio_blk_new(&c, err);
	return vm_attach(vm, disk->virtio, disk->name, err);
}

static int add_ide_disk(struct vm *vm, struct vm_disk *disk, const struct disk_options *o, struct err *err)
{
	const struct ide_drive_config c = {
		.present = true,
		.node = o->node,
		.serial = o->serial,
		.write_through = o->write_through,
		.accept_changed = o->accept_changed,
	};

	if (!vm_ide_add_disk(vm, disk->name, &c, err))
		return 0;
	block_close(o->node);
	return -1;
}

static int add_disk(struct vm *vm, const char *p, struct err *err)
{
	struct vm_disk *disk = &vm->disks[vm->disk_count];
	struct disk_options o = { 0 };
	char key[64];
	const char *bus;

	if (open_disk(vm, p, &o, err))
		return -1;
	*disk = (struct vm_disk){ .vm = vm,
				  .node = o.node,
				  .forgets = o.forgets,
				  .write_through = o.write_through,
				  .direct = o.direct,
				  .no_flush = o.no_flush,
				  .stop_on_error = o.stop_on_error };
	snprintf(disk->name, sizeof(disk->name), "%s", p);
	if (vm_read_names(vm, disk->name, &disk->called, err)) {
		block_close(o.node);
		return -1;
	}
	block_set_event(o.node, disk_event, disk);
	snprintf(key, sizeof(key), "%s.bus", p);
	bus = config_get(vm->config, key);
	if ((bus && !strcmp(bus, "ide") ? add_ide_disk : add_virtio_disk)(vm, disk, &o, err))
		return -1;
	vm->disk_count++;
	return 0;
}

/* --- the others --- */

static int add_console(struct vm *vm, struct err *err)
{
	struct virtio_console_config c = { .mem = vm->mem, .loop = vm->loop };
	struct chan *chan[VIRTIO_CONSOLE_PORTS];
	struct char_source source[VIRTIO_CONSOLE_PORTS];
	static const char *const keys[] = { "console0", "agent" };
	struct virtio_dev *d;

	for (unsigned n = 0; n < VIRTIO_CONSOLE_PORTS; n++) {
		if (vm_open_chan(vm, keys[n], "none", &chan[n], err))
			return -1;
		c.port[n].sink = chan_sink(chan[n]);
		c.port[n].wake = chan_wake(chan[n]);
		c.port[n].source = &source[n];
	}
	if (!chan[0] && !chan[1])
		return 0;
	/* The name under which agents that people have look for it. */
	if (chan[1] && config_str(vm->config, "agent.name", "org.qemu.guest_agent.0", &c.port[1].name, err))
		return -1;
	d = virtio_console_new(&c, err);
	if (!d)
		return -1;
	if (vm_attach(vm, d, "console0", err))
		return -1;
	for (unsigned n = 0; n < VIRTIO_CONSOLE_PORTS; n++)
		if (chan[n])
			chan_connect(chan[n], &source[n]);
	if (config_get(vm->config, "console0") && !strcmp(config_get(vm->config, "console0"), "stdio"))
		terminal_on_resize(vm->terminal, virtio_console_resize, d);
	return 0;
}

static int add_simple(struct vm *vm, struct err *err)
{
	bool rng, balloon, deflate, reporting;

	if (config_bool(vm->config, "rng", true, &rng, err) || config_bool(vm->config, "balloon", false, &balloon, err))
		return -1;
	if (rng && vm_attach(vm, virtio_rng_new(vm->mem, vm->loop, err), "rng", err))
		return -1;
	if (!balloon)
		return 0;
	if (config_bool(vm->config, "balloon.deflate-on-oom", true, &deflate, err) ||
	    config_bool(vm->config, "balloon.free-page-reporting", true, &reporting, err))
		return -1;
	vm->balloon = virtio_balloon_new(vm->mem, vm->loop, err);
	if (vm->balloon)
		virtio_balloon_without(vm->balloon, !deflate, !reporting);
	return vm_attach(vm, vm->balloon, "balloon", err);
}

/* "disk0", "disk1", ... as far as they go, but no further than SERIES_MAX. */
static int each(struct vm *vm, const char *what, int (*add)(struct vm *vm, unsigned n, const char *p, struct err *err),
		struct err *err)
{
	for (unsigned n = 0; n <= SERIES_MAX; n++) {
		char p[32];

		snprintf(p, sizeof(p), "%s%u", what, n);
		if (!config_has(vm->config, p))
			break;
		if (n == SERIES_MAX)
			return err_set(err, "%s: a machine has %u of them at most", p, SERIES_MAX);
		if (add(vm, n, p, err))
			return -1;
	}
	return 0;
}

static int add_disk_n(struct vm *vm, unsigned n, const char *p, struct err *err)
{
	return add_disk(vm, p, err);
}

static int add_cdrom_n(struct vm *vm, unsigned n, const char *p, struct err *err)
{
	return vm_ide_add_cdrom(vm, p, err);
}

int vm_add_virtio(struct vm *vm, struct err *err)
{
	return each(vm, "disk", add_disk_n, err) || each(vm, "cdrom", add_cdrom_n, err) || vm_ide_make(vm, err) ||
			       each(vm, "net", vm_add_net, err) || add_console(vm, err) || add_simple(vm, err)
		       ? -1
		       : 0;
}
