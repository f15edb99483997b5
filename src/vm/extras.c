/* Devices of a PC that are there only when they are asked for: `--device NAME`. */
#include "base/bytes.h"
#include "dev/fw_cfg.h"
#include "dev/testdevs.h"
#include "vm/impl.h"

static int add(struct vm *vm, struct device *d)
{
	if (!d)
		return -1;
	vm_add_device(vm, d);
	return 0;
}

static int add_i8042(struct vm *vm, struct err *err)
{
	const struct i8042_config c = {
		.bus = vm->bus,
		.irq1 = irqchip_line(vm->chip, 1),
		.irq12 = irqchip_line(vm->chip, 12),
		.machine = vm_machine_control(vm),
	};

	vm->i8042 = true;
	return add(vm, i8042_new(&c, &vm->input, err));
}

static int add_pvpanic(struct vm *vm, struct err *err)
{
	static const char *const actions[] = { "pause", "shutdown", "none", "exit-failure", NULL };
	static const enum vm_action are[] = { VM_ACTION_PAUSE, VM_ACTION_SHUTDOWN, VM_ACTION_NONE, VM_ACTION_FAIL };
	struct machine_control m = vm_machine_control(vm);
	uint64_t port;
	uint8_t word[2];
	int action;

	if (config_uint(vm->config, "pvpanic.ioport", 0x505, (struct config_range){ 1, 0xffff }, &port, err) ||
	    config_choice(vm->config, "pvpanic.action", VM_ACTION_SHUTDOWN, actions, &action, err))
		return -1;
	vm->on_panic = are[action];
	vm->pvpanic = (uint16_t)port;
	st_le16(word, vm->pvpanic);
	return add(vm, pvpanic_new(vm->bus, vm->pvpanic, &m, err)) ||
			       fw_cfg_add_file(vm->fw_cfg, "etc/pvpanic-port", word, sizeof(word), err)
		       ? -1
		       : 0;
}

static int add_i6300esb(struct vm *vm, struct err *err)
{
	static const char *const actions[] = { "pause", "shutdown", "none", "reset", "inject-nmi", NULL };
	struct machine_control m = vm_machine_control(vm);
	uint64_t slot;
	int action;

	/* Out of the way of those that take the first slot that is free. */
	if (config_uint(vm->config, "i6300esb.addr", 30, (struct config_range){ 1, 31 }, &slot, err) ||
	    config_choice(vm->config, "i6300esb.action", VM_ACTION_RESET, actions, &action, err) ||
	    vm_pci_name(vm, "i6300esb", (unsigned)slot, err))
		return -1;
	vm->on_watchdog = (enum vm_action)action;
	return add(vm, i6300esb_new(vm->pci, (uint8_t)(slot << 3), vm->clock, &m, err));
}

static int add_pci_testdev(struct vm *vm, struct err *err)
{
	int devfn;

	return vm_pci_address(vm, "pci-testdev", &devfn, err)
		       ? -1
		       : add(vm, pci_testdev_new(vm->bus, vm->pci, (uint8_t)devfn, err));
}

/* After the screen, whose slot is everybody's second one. */
static const struct {
	const char *key;
	int (*add)(struct vm *vm, struct err *err);
} extras[] = {
	{ "i8042", add_i8042 },
	{ "pvpanic", add_pvpanic },
	{ "i6300esb", add_i6300esb },
	{ "pci-testdev", add_pci_testdev },
};

int vm_add_extras(struct vm *vm, struct err *err)
{
	bool wanted;

	if (vm_add_screen(vm, err))
		return -1;
	for (size_t n = 0; n < sizeof(extras) / sizeof(extras[0]); n++)
		/* A screen has a keyboard. */
		if (config_bool(vm->config, extras[n].key, vm->screen.wanted && extras[n].add == add_i8042, &wanted,
				err) ||
		    (wanted && extras[n].add(vm, err)))
			return -1;
	return 0;
}
