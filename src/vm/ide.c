/*
 * The IDE drives that the configuration asks for: disks with `bus=ide`, and CD-ROM drives. Without any there is no IDE
 * function.
 */
#include <stdio.h>
#include <string.h>

#include "vm/impl.h"
#include "vm/qmp.h"

/*
 * The place that `PREFIX.addr` names, 0 to 3, or the first of `order` that is free, which is written there: a saved
 * machine finds its drives where they were.
 */
static int place(struct vm *vm, const char *prefix, const uint8_t *order, struct err *err)
{
	char key[64], text[8];
	uint64_t unit = IDE_DRIVES;

	snprintf(key, sizeof(key), "%s.addr", prefix);
	for (unsigned n = 0; unit == IDE_DRIVES && n < IDE_DRIVES; n++)
		if (!vm->ide.drive[order[n]].present)
			unit = order[n];
	if (unit == IDE_DRIVES && !config_peek(vm->config, key))
		return err_set(err, "%s: the four IDE drives are taken", prefix);
	if (config_uint(vm->config, key, unit, (struct config_range){ 0, IDE_DRIVES - 1 }, &unit, err))
		return -1;
	if (vm->ide.drive[unit].present)
		return err_set(err, "%s: '%u' is another IDE drive's place already", key, (unsigned)unit);
	snprintf(text, sizeof(text), "%u", (unsigned)unit);
	return config_choose(vm->config, key, text, err) ? -1 : (int)unit;
}

int vm_ide_add_disk(struct vm *vm, const char *prefix, const struct ide_drive_config *c, struct err *err)
{
	static const uint8_t order[IDE_DRIVES] = { 0, 1, 2, 3 };
	int unit;

	if (c->serial && strlen(c->serial) > IDE_SERIAL_LEN)
		return err_set(err, "%s.serial: '%s' is longer than %u characters", prefix, c->serial, IDE_SERIAL_LEN);
	unit = place(vm, prefix, order, err);
	if (unit < 0)
		return -1;
	vm->ide.drive[unit] = *c;
	return 0;
}

/* A file as long as a sector at least; a part of a sector at its end does not count. */
static struct block_node *open_medium(const struct block_config *b, struct err *err)
{
	struct block_node *n = block_open(b, err);

	if (!n || block_size(n) >= 2048)
		return n;
	err_set(err, "%s.path: %s is shorter than a sector of a CD-ROM (2048 bytes)", b->name, b->path);
	block_close(n);
	return NULL;
}

static int note_cdrom(struct vm *vm, const char *prefix, unsigned unit, struct block_node *node, struct err *err)
{
	struct vm_cdrom *d = &vm->cdroms[vm->cdrom_count];

	*d = (struct vm_cdrom){ .unit = unit, .node = node };
	snprintf(d->name, sizeof(d->name), "%s", prefix);
	if (vm_read_names(vm, d->name, &d->called, err))
		return -1;
	vm->cdrom_count++;
	return 0;
}

int vm_ide_add_cdrom(struct vm *vm, const char *prefix, struct err *err)
{
	/* Where people and installers look for it first: the secondary master. */
	static const uint8_t order[IDE_DRIVES] = { 2, 3, 1, 0 };
	static const char *const aios[] = { "auto", "io_uring", "threads", NULL };
	static const char *const changed[] = { "refuse", "accept", NULL };
	struct block_config b = { .name = prefix, .format = "raw", .readonly = true, .odd_size = true };
	struct ide_drive_config c = { .present = true, .cdrom = true };
	char key[64];
	int aio, accept, unit;

	snprintf(key, sizeof(key), "%s.path", prefix);
	if (config_str(vm->config, key, NULL, &b.path, err))
		return -1;
	if (!b.path)
		return err_set(err, "%s: a CD-ROM drive needs a file, a block device, or 'none'", key);
	snprintf(key, sizeof(key), "%s.aio", prefix);
	if (config_choice(vm->config, key, 0, aios, &aio, err))
		return -1;
	snprintf(key, sizeof(key), "%s.changed", prefix);
	if (config_choice(vm->config, key, 0, changed, &accept, err))
		return -1;
	b.aio = (enum block_aio)aio;
	c.accept_changed = accept;
	unit = place(vm, prefix, order, err);
	if (unit < 0)
		return -1;
	if (strcmp(b.path, "none")) {
		c.node = open_medium(&b, err);
		if (!c.node)
			return -1;
	}
	vm->ide.drive[unit] = c;
	return note_cdrom(vm, prefix, (unsigned)unit, c.node, err);
}

/* --- while it runs --- */

static void look_at_trays(void *opaque)
{
	struct vm *vm = opaque;

	atomic_store(&vm->trays_posted, false);
	vm_ide_trays(vm);
}

/* Any thread: a guest may move it as often as it likes. */
static void tray_moved(void *opaque)
{
	struct vm *vm = opaque;

	if (!atomic_exchange(&vm->trays_posted, true))
		loop_post(vm->loop, look_at_trays, vm);
}

void vm_ide_trays(struct vm *vm)
{
	for (unsigned n = 0; n < vm->cdrom_count; n++) {
		struct vm_cdrom *d = &vm->cdroms[n];
		bool open = ide_get_tray(vm->ide_dev, d->unit).open;

		if (open != d->tray_open)
			qmp_event_data(vm->qmp, "DEVICE_TRAY_MOVED",
				       json_pack("{s:s,s:s,s:b}", "device", d->called.id, "id", d->called.qdev,
						 "tray-open", open));
		d->tray_open = open;
	}
}

struct block_node *vm_ide_open_medium(struct vm *vm, const struct vm_cdrom *d, const char *path, struct err *err)
{
	const struct block_config b = { .name = d->name,
					.path = path,
					.format = "raw",
					.readonly = true,
					.odd_size = true,
					.open_path = vm_open_path,
					.open_opaque = vm };

	return open_medium(&b, err);
}

void vm_ide_put(struct vm *vm, struct vm_cdrom *d, struct block_node *node)
{
	ide_change_medium(vm->ide_dev, d->unit, node);
	d->node = node;
}

int vm_ide_make(struct vm *vm, struct err *err)
{
	struct ide_config c = vm->ide;
	bool any = false;

	for (unsigned n = 0; n < IDE_DRIVES; n++)
		any |= c.drive[n].present;
	if (!any)
		return 0;
	c.bus = vm->bus;
	c.pci = vm->pci;
	c.mem = vm->mem;
	c.tray_moved = tray_moved;
	c.opaque = vm;
	c.irq[0] = irqchip_line(vm->chip, 14);
	c.irq[1] = irqchip_line(vm->chip, 15);
	memset(&vm->ide, 0, sizeof(vm->ide));
	vm->ide_dev = ide_new(&c, err);
	if (!vm->ide_dev)
		return -1;
	vm_add_device(vm, vm->ide_dev);
	return 0;
}

void vm_ide_free(struct vm *vm)
{
	for (unsigned n = 0; n < IDE_DRIVES; n++)
		if (vm->ide.drive[n].node)
			block_close(vm->ide.drive[n].node);
}
