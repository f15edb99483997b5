/* Devices of a PC that are there only when they are asked for: `--device NAME`. */
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

static const struct {
	const char *key;
	int (*add)(struct vm *vm, struct err *err);
} extras[] = {
	{ "i8042", add_i8042 },
};

int vm_add_extras(struct vm *vm, struct err *err)
{
	bool wanted;

	for (size_t n = 0; n < sizeof(extras) / sizeof(extras[0]); n++)
		if (config_bool(vm->config, extras[n].key, false, &wanted, err) || (wanted && extras[n].add(vm, err)))
			return -1;
	return 0;
}
