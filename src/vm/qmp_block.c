/* QMP: disks, CD-ROM drives and their media. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "block/block.h"
#include "vm/impl.h"
#include "vm/qmp.h"

/* --- what there is --- */

static json_t *image(const struct block_node *n)
{
	struct stat st;
	json_t *o = json_pack("{s:o,s:s,s:I,s:b}", "filename", qmp_text(block_path(n)), "format", block_format_name(n),
			      "virtual-size", (json_int_t)block_size(n), "dirty-flag", 0);

	if (!stat(block_path(n), &st))
		json_object_set_new(o, "actual-size", json_integer((json_int_t)st.st_blocks * 512));
	return o;
}

/* What is not there is said as QEMU says it. `d`: the disk, or NULL: a medium. */
static json_t *inserted(const struct block_node *n, const char *name, const struct vm_disk *d)
{
	static const char *const zeroes[] = { "backing_file_depth", "write_threshold" };
	const struct block_limits *l = block_limits(n);
	json_t *o = json_pack("{s:o,s:s,s:b,s:s,s:b,s:s,s:o,s:{s:b,s:b,s:b}}", "file", qmp_text(block_path(n)),
			      "node-name", name, "ro", block_readonly(n), "drv", block_format_name(n), "encrypted", 0,
			      "detect_zeroes", "off", "image", image(n), "cache", "writeback", !(d && d->write_through),
			      "direct", d && d->direct, "no-flush", d && d->no_flush);

	for (size_t k = 0; k < sizeof(zeroes) / sizeof(zeroes[0]); k++)
		json_object_set_new(o, zeroes[k], json_integer(0));
	json_object_update_new(o, json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "bps", (json_int_t)l->bps, "bps_rd",
					    (json_int_t)l->bps_rd, "bps_wr", (json_int_t)l->bps_wr, "iops",
					    (json_int_t)l->iops, "iops_rd", (json_int_t)l->iops_rd, "iops_wr",
					    (json_int_t)l->iops_wr));
	return o;
}

static const char *io_status(const struct block_node *n)
{
	bool read;

	if (block_has_stalled(n))
		return block_stall_cause(n, &read) == ENOSPC ? "nospace" : "failed";
	return block_failed(n) ? "failed" : "ok";
}

/* A medium without a name is called as its drive. */
static const char *node_name(const struct vm_cdrom *d)
{
	return d->medium ? d->medium->name : d->called.node;
}

static json_t *query_block(struct vm *vm, const json_t *args, struct err *err)
{
	json_t *list = json_array(), *o;

	for (unsigned n = 0; n < vm->disk_count; n++) {
		const struct vm_disk *d = &vm->disks[n];
		const char *status = io_status(d->node);

		json_array_append_new(list,
				      json_pack("{s:s,s:s,s:s,s:b,s:b,s:s,s:o}", "device", d->called.id, "qdev",
						d->called.qdev, "type", "unknown", "removable", 0, "locked", 0,
						"io-status", status, "inserted", inserted(d->node, d->called.node, d)));
	}
	for (unsigned n = 0; n < vm->cdrom_count; n++) {
		const struct vm_cdrom *d = &vm->cdroms[n];
		struct ide_tray t = ide_get_tray(vm->ide_dev, d->unit);

		o = json_pack("{s:s,s:s,s:s,s:b,s:b,s:b,s:s}", "device", d->called.id, "qdev", d->called.qdev, "type",
			      "unknown", "removable", 1, "locked", t.locked, "tray_open", t.open, "io-status", "ok");
		if (d->node)
			json_object_set_new(o, "inserted", inserted(d->node, node_name(d), NULL));
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *query_nodes(struct vm *vm, const json_t *args, struct err *err)
{
	json_t *list = json_array();

	for (unsigned n = 0; n < vm->disk_count; n++)
		json_array_append_new(list, inserted(vm->disks[n].node, vm->disks[n].called.node, &vm->disks[n]));
	for (unsigned n = 0; n < vm->cdrom_count; n++)
		if (vm->cdroms[n].node)
			json_array_append_new(list, inserted(vm->cdroms[n].node, node_name(&vm->cdroms[n]), NULL));
	return list;
}

static json_t *counts(struct block_node *n)
{
	static const char *const zeroes[] = { "unmap_bytes",
					      "rd_total_time_ns",
					      "wr_total_time_ns",
					      "flush_total_time_ns",
					      "unmap_total_time_ns",
					      "wr_highest_offset",
					      "rd_merged",
					      "wr_merged",
					      "unmap_merged",
					      "failed_rd_operations",
					      "failed_flush_operations",
					      "failed_unmap_operations",
					      "invalid_rd_operations",
					      "invalid_wr_operations",
					      "invalid_flush_operations",
					      "invalid_unmap_operations" };
	const struct block_stats *s = n ? block_get_stats(n) : NULL;
	json_t *o = json_object();

#define COUNT(name, field) json_object_set_new(o, name, json_integer(s ? (json_int_t)atomic_load(&s->field) : 0))
	COUNT("rd_bytes", read_bytes);
	COUNT("wr_bytes", written_bytes);
	COUNT("rd_operations", reads);
	COUNT("wr_operations", writes);
	COUNT("flush_operations", flushes);
	COUNT("unmap_operations", discards);
	/* They are not told apart. */
	COUNT("failed_wr_operations", errors);
#undef COUNT
	for (size_t k = 0; k < sizeof(zeroes) / sizeof(zeroes[0]); k++)
		json_object_set_new(o, zeroes[k], json_integer(0));
	json_object_set_new(o, "account_invalid", json_false());
	json_object_set_new(o, "account_failed", json_true());
	json_object_set_new(o, "timed_stats", json_array());
	return o;
}

/* `node`: what the image is called; NULL: there is none. */
static void add_counts(json_t *list, const struct vm_names *called, const char *node, struct block_node *n)
{
	json_t *o = json_pack("{s:s,s:s,s:o}", "device", called->id, "qdev", called->qdev, "stats", counts(n));

	if (node)
		json_object_set_new(o, "node-name", json_string(node));
	json_array_append_new(list, o);
}

static json_t *query_stats(struct vm *vm, const json_t *args, struct err *err)
{
	json_t *list = json_array();

	for (unsigned n = 0; n < vm->disk_count; n++)
		add_counts(list, &vm->disks[n].called, vm->disks[n].called.node, vm->disks[n].node);
	for (unsigned n = 0; n < vm->cdrom_count; n++) {
		const struct vm_cdrom *d = &vm->cdroms[n];

		add_counts(list, &d->called, d->node ? node_name(d) : NULL, d->node);
	}
	return list;
}

/* --- media --- */

/* The drive that "device" or "id" names; NULL with an error. */
static struct vm_cdrom *drive(struct vm *vm, const json_t *args, struct err *err)
{
	const char *device = json_string_value(json_object_get(args, "device"));
	const char *id = json_string_value(json_object_get(args, "id")), *wanted = device ? device : id;

	if (!device == !id) {
		err_set(err, "Need exactly one of 'device' and 'id'");
		return NULL;
	}
	/* One may be called as another's device. */
	for (unsigned n = 0; n < vm->cdrom_count; n++)
		if (*wanted && !strcmp(device ? vm->cdroms[n].called.id : vm->cdroms[n].called.qdev, wanted))
			return &vm->cdroms[n];
	for (unsigned n = 0; n < vm->cdrom_count; n++)
		if (vm_is_called(&vm->cdroms[n].called, vm->cdroms[n].name, wanted))
			return &vm->cdroms[n];
	for (unsigned n = 0; n < vm->disk_count; n++)
		if (vm_is_called(&vm->disks[n].called, vm->disks[n].name, wanted)) {
			err_set(err, "Device '%.80s' is not removable", wanted);
			return NULL;
		}
	qmp_fail(vm, "DeviceNotFound", err, "Device '%.80s' not found", wanted);
	return NULL;
}

/* Whether the tray is open now: a drive that the guest has locked asks the guest. */
static bool open_tray(struct vm *vm, struct vm_cdrom *d, bool force)
{
	struct ide_tray t = ide_get_tray(vm->ide_dev, d->unit);

	if (t.locked && !force && !t.open) {
		ide_press_eject(vm->ide_dev, d->unit);
		return false;
	}
	ide_move_tray(vm->ide_dev, d->unit, true);
	vm_ide_trays(vm);
	return true;
}

static bool forced(const json_t *args)
{
	return json_is_true(json_object_get(args, "force"));
}

/* The name that an error tells. */
static const char *shown(const struct vm_cdrom *d)
{
	return *d->called.id ? d->called.id : d->called.qdev;
}

static json_t *refuse_locked(struct vm_cdrom *d, struct err *err)
{
	err_set(err, "Device '%s' is locked and force was not specified, wait for tray to open and try again",
		shown(d));
	return NULL;
}

static json_t *take_out(struct vm *vm, struct vm_cdrom *d)
{
	vm_ide_put(vm, d, NULL);
	d->medium = NULL;
	ide_move_tray(vm->ide_dev, d->unit, true);
	vm_ide_trays(vm);
	return json_object();
}

static json_t *eject(struct vm *vm, const json_t *args, struct err *err)
{
	struct vm_cdrom *d = drive(vm, args, err);

	if (!d)
		return NULL;
	return open_tray(vm, d, forced(args)) ? take_out(vm, d) : refuse_locked(d, err);
}

static json_t *blockdev_open(struct vm *vm, const json_t *args, struct err *err)
{
	struct vm_cdrom *d = drive(vm, args, err);

	if (!d)
		return NULL;
	open_tray(vm, d, forced(args));
	return json_object();
}

static json_t *blockdev_close(struct vm *vm, const json_t *args, struct err *err)
{
	struct vm_cdrom *d = drive(vm, args, err);

	if (!d)
		return NULL;
	ide_move_tray(vm->ide_dev, d->unit, false);
	vm_ide_trays(vm);
	return json_object();
}

static json_t *remove_medium(struct vm *vm, const json_t *args, struct err *err)
{
	struct vm_cdrom *d = drive(vm, args, err);

	if (!d)
		return NULL;
	if (!ide_get_tray(vm->ide_dev, d->unit).open) {
		err_set(err, "Tray of device '%s' is not open", shown(d));
		return NULL;
	}
	return take_out(vm, d);
}

struct vm_cdrom *vm_medium_drive(struct vm *vm, const struct vm_medium *m)
{
	for (unsigned n = 0; n < vm->cdrom_count; n++)
		if (vm->cdroms[n].medium == m)
			return &vm->cdroms[n];
	return NULL;
}

/* The tray stays open. */
static json_t *insert_medium(struct vm *vm, const json_t *args, struct err *err)
{
	const char *name = json_string_value(json_object_get(args, "node-name"));
	const struct vm_medium *m = vm_medium_find(vm, name);
	struct vm_cdrom *d = drive(vm, args, err);
	struct block_node *node;

	if (!d)
		return NULL;
	if (!m)
		err_set(err, "Node '%.80s' not found", name);
	else if (vm_medium_drive(vm, m))
		err_set(err, "Node '%.80s' is already in use", name);
	else if (!ide_get_tray(vm->ide_dev, d->unit).open)
		err_set(err, "Tray of the device is not open");
	else if (d->node)
		err_set(err, "There already is a medium in the device");
	else
		*err->msg = 0;
	node = *err->msg ? NULL : vm_ide_open_medium(vm, d, m->path, err);
	if (!node)
		return NULL;
	vm_ide_put(vm, d, node);
	ide_move_tray(vm->ide_dev, d->unit, true);
	d->medium = m;
	return json_object();
}

/* Opened first: a file that cannot be changes nothing. */
static json_t *change_medium(struct vm *vm, const json_t *args, struct err *err)
{
	const char *path = json_string_value(json_object_get(args, "filename"));
	const char *format = json_string_value(json_object_get(args, "format"));
	const char *mode = json_string_value(json_object_get(args, "read-only-mode"));
	struct vm_cdrom *d = drive(vm, args, err);
	struct block_node *node;

	if (!d)
		return NULL;
	if (format && strcmp(format, "raw")) {
		err_set(err, "Device '%s' takes raw images only", shown(d));
		return NULL;
	}
	if (mode && !strcmp(mode, "read-write")) {
		err_set(err, "Device '%s' is read-only", shown(d));
		return NULL;
	}
	node = vm_ide_open_medium(vm, d, path, err);
	if (!node)
		return NULL;
	if (!open_tray(vm, d, forced(args))) {
		block_close(node);
		return refuse_locked(d, err);
	}
	vm_ide_put(vm, d, node);
	d->medium = NULL;
	vm_ide_trays(vm);
	return json_object();
}

const struct qmp_command qmp_block_commands[] = {
	{ "blockdev-change-medium",
	  "?device:str ?id:str filename:str ?format:str ?force:bool ?read-only-mode:BlockdevChangeReadOnlyMode", "",
	  change_medium },
	{ "blockdev-close-tray", "?device:str ?id:str", "", blockdev_close },
	{ "blockdev-insert-medium", "id:str node-name:str", "", insert_medium },
	{ "blockdev-open-tray", "?device:str ?id:str ?force:bool", "", blockdev_open },
	{ "blockdev-remove-medium", "id:str", "", remove_medium },
	{ "eject", "?device:str ?id:str ?force:bool", "", eject },
	{ "query-block", "", "[BlockInfo]", query_block },
	{ "query-blockstats", "?query-nodes:bool", "[BlockStats]", query_stats },
	{ "query-named-block-nodes", "?flat:bool", "[BlockDeviceInfo]", query_nodes },
	{ 0 },
};
