/*
 * The IDE drives that the configuration asks for: disks with `bus=ide`, and CD-ROM drives. Without any there is no IDE
 * function.
 */
#include <stdio.h>
#include <string.h>

#include "vm/impl.h"

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
	return 0;
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
	c.irq[0] = irqchip_line(vm->chip, 14);
	c.irq[1] = irqchip_line(vm->chip, 15);
	memset(&vm->ide, 0, sizeof(vm->ide));
	vm->ide_dev = ide_new(&c, err);
	if (!vm->ide_dev)
		return -1;
	vm_add_device(vm, vm->ide_dev);
	return 0;
}

void vm_ide_enable(struct vm *vm)
{
	for (unsigned n = 0; vm->ide_dev && n < 2; n++)
		pci_config_write(vm->pci, IDE_DEVFN, (uint8_t)(IDE_TIMING + 2 * n), 2, 0x8000);
}

void vm_ide_free(struct vm *vm)
{
	for (unsigned n = 0; n < IDE_DRIVES; n++)
		if (vm->ide.drive[n].node)
			block_close(vm->ide.drive[n].node);
}
