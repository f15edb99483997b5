/* The interrupt controllers on the bus and among the machine's devices. The local APICs' page is not on the bus. */
#include <stdio.h>

#include "dev/pc.h"

static uint64_t pic_read(void *opaque, uint64_t off, unsigned size)
{
	return irqchip_pic_read(opaque, (unsigned)off);
}
static void pic_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	irqchip_pic_write(opaque, (unsigned)off, (uint8_t)val);
}
static uint64_t slave_read(void *opaque, uint64_t off, unsigned size)
{
	return irqchip_pic_read(opaque, 2 + (unsigned)off);
}
static void slave_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	irqchip_pic_write(opaque, 2 + (unsigned)off, (uint8_t)val);
}
static uint64_t elcr_read(void *opaque, uint64_t off, unsigned size)
{
	return irqchip_pic_read(opaque, 4 + (unsigned)off);
}
static void elcr_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	irqchip_pic_write(opaque, 4 + (unsigned)off, (uint8_t)val);
}

static const struct bus_ops master_ops = { pic_read, pic_write, { 1, 1 }, { 1, 1 } };
static const struct bus_ops slave_ops = { slave_read, slave_write, { 1, 1 }, { 1, 1 } };
static const struct bus_ops elcr_ops = { elcr_read, elcr_write, { 1, 1 }, { 1, 1 } };
static const struct bus_ops ioapic_ops = { irqchip_ioapic_read, irqchip_ioapic_write, { 1, 8 }, { 4, 4 } };

static void part(struct device *d, const char *name, unsigned instance, const struct state_desc *state, void *object)
{
	*d = (struct device){ .name = name, .self = object, .state = state };
	snprintf(d->instance, sizeof(d->instance), "%u", instance);
}

int irqchip_devices(struct irqchip *chip, struct bus *bus, unsigned cpus, struct device *list, struct err *err)
{
	const struct {
		const char *name;
		enum bus_kind kind;
		uint64_t base, size;
		const struct bus_ops *ops;
	} ranges[] = {
		{ "pic-master", BUS_PORT, 0x20, 2, &master_ops },
		{ "pic-slave", BUS_PORT, 0xa0, 2, &slave_ops },
		{ "elcr", BUS_PORT, 0x4d0, 2, &elcr_ops },
		{ "ioapic", BUS_MMIO, IOAPIC_BASE, IOAPIC_SIZE, &ioapic_ops },
	};
	int n = 0;

	for (unsigned k = 0; k < sizeof(ranges) / sizeof(ranges[0]); k++) {
		bool ioapic = ranges[k].kind == BUS_MMIO;
		struct bus_range r = { ranges[k].name, ranges[k].ops, chip,
				       ioapic ? irqchip_ioapic_lock(chip) : irqchip_pic_lock(chip) };

		if (!bus_add(bus, ranges[k].kind, ranges[k].base, ranges[k].size, &r, err))
			return -1;
	}
	part(&list[n++], "i8259", 0, &irqchip_pic_state, irqchip_pic_object(chip));
	part(&list[n++], "ioapic", 0, &irqchip_ioapic_state, irqchip_ioapic_object(chip));
	for (unsigned cpu = 0; cpu < cpus; cpu++)
		part(&list[n++], "lapic", cpu, &irqchip_lapic_state, irqchip_lapic_object(chip, cpu));
	return n;
}
