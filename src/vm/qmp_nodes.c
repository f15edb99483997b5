/*
 * QMP: images that have a name and no device yet, for blockdev-insert-medium, and the size of disks.
 *
 * An image is opened when it is named, to see that it can be, and again when it is put into a drive: meanwhile nobody
 * reads it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/block.h"
#include "virtio/blk.h"
#include "vm/impl.h"
#include "vm/qmp.h"

/* --- blockdev-add, blockdev-del --- */

struct vm_medium *vm_medium_find(struct vm *vm, const char *name)
{
	for (unsigned n = 0; n < VM_MEDIA; n++)
		if (vm->media[n].path && !strcmp(vm->media[n].name, name))
			return &vm->media[n];
	return NULL;
}

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

/* The path in the node itself, in its "file", or in the node that this names. */
static const char *path_of(struct vm *vm, const json_t *args, struct err *err)
{
	const char *driver = text_of(args, "driver"), *path = text_of(args, "filename"), *below;
	const json_t *file = json_object_get(args, "file");
	const struct vm_medium *other;

	if (strcmp(driver, "raw")) {
		if (path && !file)
			return path;
		err_set(err, path ? "Parameter 'file' is unexpected" : "Parameter 'filename' is missing");
		return NULL;
	}
	if (path || !file) {
		err_set(err, path ? "Parameter 'filename' is unexpected" : "Parameter 'file' is missing");
		return NULL;
	}
	if (json_is_string(file)) {
		other = vm_medium_find(vm, json_string_value(file));
		if (!other)
			err_set(err, "Cannot find device='' nor node-name='%.80s'", json_string_value(file));
		return other ? other->path : NULL;
	}
	below = text_of(file, "driver");
	if (!below || (strcmp(below, "file") && strcmp(below, "host_device")) || json_object_size(file) != 2) {
		err_set(err, "Parameter 'file' expects a node, or a driver (file, host_device) with a filename");
		return NULL;
	}
	path = text_of(file, "filename");
	if (!path)
		err_set(err, "Parameter 'file.filename' is missing");
	return path;
}

/* Of an image that a drive has since the start. */
static bool is_node(const struct vm *vm, const char *name)
{
	for (unsigned n = 0; n < vm->disk_count; n++)
		if (!strcmp(vm->disks[n].called.node, name))
			return true;
	for (unsigned n = 0; n < vm->cdrom_count; n++)
		if (vm->cdroms[n].node && !strcmp(vm->cdroms[n].called.node, name))
			return true;
	return false;
}

static json_t *blockdev_add(struct vm *vm, const json_t *args, struct err *err)
{
	const char *name = text_of(args, "node-name"), *path = path_of(vm, args, err);
	struct vm_medium *free_one = NULL;
	struct block_node *node;

	if (!path)
		return NULL;
	for (unsigned n = 0; n < VM_MEDIA && !free_one; n++)
		free_one = vm->media[n].path ? NULL : &vm->media[n];
	if (vm_medium_find(vm, name) || is_node(vm, name) || !*name || strlen(name) >= sizeof(free_one->name))
		err_set(err, "Duplicate or invalid node name '%.80s'", name);
	else if (!free_one)
		err_set(err, "a machine has %u such nodes at most", VM_MEDIA);
	else if (!json_is_true(json_object_get(args, "read-only")) &&
		 !json_is_true(json_object_get(args, "auto-read-only")))
		err_set(err, "'%.80s' is for a CD-ROM drive, the only one that takes another image: read-only=true",
			name);
	else
		*err->msg = 0;
	if (*err->msg)
		return NULL;
	node = vm_ide_open_medium(vm, &(struct vm_cdrom){ .name = "node" }, path, err);
	if (!node)
		return NULL;
	block_close(node);
	free_one->path = strdup(path);
	snprintf(free_one->name, sizeof(free_one->name), "%s", name);
	return json_object();
}

static json_t *blockdev_del(struct vm *vm, const json_t *args, struct err *err)
{
	const char *name = text_of(args, "node-name");
	struct vm_medium *m = vm_medium_find(vm, name);

	if (!m || vm_medium_drive(vm, m)) {
		err_set(err, m ? "Node %.80s is in use" : "Failed to find node with node-name='%.80s'", name);
		return NULL;
	}
	free(m->path);
	*m = (struct vm_medium){ 0 };
	return json_object();
}

void vm_media_free(struct vm *vm)
{
	for (unsigned n = 0; n < VM_MEDIA; n++)
		free(vm->media[n].path);
}

/* --- block_resize --- */

static struct vm_disk *disk_of(struct vm *vm, const json_t *args, struct err *err)
{
	const char *device = text_of(args, "device"), *node = text_of(args, "node-name");
	const char *wanted = device ? device : node;

	if (!device == !node) {
		err_set(err, "Parameter 'device' or 'node-name' is missing, or both are given");
		return NULL;
	}
	for (unsigned n = 0; n < vm->disk_count; n++)
		if (*wanted && !strcmp(device ? vm->disks[n].called.id : vm->disks[n].called.node, wanted))
			return &vm->disks[n];
	for (unsigned n = 0; n < vm->disk_count; n++)
		if (vm_is_called(&vm->disks[n].called, vm->disks[n].name, wanted))
			return &vm->disks[n];
	for (unsigned n = 0; n < vm->cdrom_count; n++)
		if (vm_is_called(&vm->cdroms[n].called, vm->cdroms[n].name, wanted)) {
			err_set(err, "Image is read-only");
			return NULL;
		}
	qmp_fail(vm, "DeviceNotFound", err, "Device '%.80s' not found", wanted);
	return NULL;
}

/* The guest stands still meanwhile, so that no request finds a disk between two sizes. */
static json_t *block_resize_(struct vm *vm, const json_t *args, struct err *err)
{
	json_int_t size = json_integer_value(json_object_get(args, "size"));
	struct vm_disk *d = disk_of(vm, args, err);
	bool ran;
	int rc;

	if (!d)
		return NULL;
	if (size <= 0) {
		err_set(err, "Parameter 'size' expects a >0 size");
		return NULL;
	}
	if (vm->state == VM_SAVING || vm_disk_without_space(vm)) {
		err_set(err, "the machine is being saved, or waits for space on the host");
		return NULL;
	}
	ran = vm_hold(vm);
	rc = block_resize(d->node, align_up((uint64_t)size, BLOCK_SECTOR), err);
	if (!rc && d->virtio)
		virtio_blk_resized(d->virtio);
	if (ran)
		vm_let_go(vm);
	return rc ? NULL : json_object();
}

const struct qmp_command qmp_node_commands[] = {
	{ "block_resize", "?device:str ?node-name:str size:int", "", block_resize_ },
	{ "blockdev-add",
	  "driver:BlockdevDriver node-name:str ?file:any ?filename:str ?read-only:bool ?auto-read-only:bool", "",
	  blockdev_add },
	{ "blockdev-del", "node-name:str", "", blockdev_del },
	{ 0 },
};
