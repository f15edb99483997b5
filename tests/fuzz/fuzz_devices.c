/*
 * The devices of the machine without a guest: accesses of any size to any port and register, in any order, with time,
 * input from the host, interrupts that are taken, and resets between them. Eight bytes are one step.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "bus/bus.h"
#include "bus/device.h"
#include "dev/fw_cfg.h"
#include "dev/hpet.h"
#include "dev/pc.h"
#include "dev/testdevs.h"
#include "irq/x86/irqchip.h"
#include "mem/mem.h"
#include "virtio/devices.h"
#include "virtio/transport.h"

#define CPUS	   2
#define MAX_STEPS  4096
#define RAM_SIZE   (1u << 20)
#define PCI_HOLE   0xc0000000u
#define PCI_END	   0xc0100000u
#define MMIO_BASE  0xfeb00000u
#define LAPIC_MSRS 0x100

struct board {
	struct loop *loop;
	struct vclock *clock;
	struct mem_space *mem;
	struct bus *bus;
	struct pci_bus *pci;
	struct irqchip *chip;
	struct device chips[2 + CPUS];
	struct device *devices, *pm;
	struct char_source serial;
	struct input_sink input;
};

static void signal_cpu(void *opaque, unsigned cpu, enum cpu_signal what, uint8_t vector)
{
}

static void request(void *opaque, enum machine_request what, int status)
{
}

static size_t swallow(void *opaque, const void *buf, size_t len)
{
	return *(const uint8_t *)buf & 1 ? len : 0; /* a host that is full at times */
}

static void add(struct board *b, struct device *d)
{
	struct device **at = &b->devices;

	if (!d)
		abort();
	while (*at)
		at = &(*at)->next;
	*at = d;
}

static void add_chips(struct board *b, const struct machine_control *m)
{
	const struct irqchip_config c = { .mem = b->mem, .clock = b->clock, .wiring = { signal_cpu, b }, .cpus = CPUS };
	static const struct irq_line unrouted[4];
	struct irq_line isa[16];
	struct err err;
	int n;

	b->chip = irqchip_new(&c, &err);
	if (!b->chip)
		abort();
	n = irqchip_devices(b->chip, b->bus, CPUS, b->chips, &err);
	for (int k = 0; k < n; k++)
		add(b, &b->chips[k]);
	const struct msi_sink msi = irqchip_msi(b->chip);
	b->pci = pci_bus_new(b->bus, unrouted, &msi);
	for (unsigned k = 0; k < 16; k++)
		isa[k] = irqchip_line(b->chip, k);
	const struct piix4_pm_config pm = {
		.clock = b->clock, .sci = irqchip_line(b->chip, PM_SCI), .machine = *m, .firmware = true
	};
	add(b, i440fx_new(b->bus, b->pci, m, NULL, &err));
	add(b, piix3_new(b->pci, isa, false, &err));
	b->pm = piix4_pm_new(b->bus, b->pci, &pm, &err);
	add(b, b->pm);
}

static void add_classic(struct board *b, const struct machine_control *m)
{
	const struct char_sink sink = { swallow, NULL };
	const struct uart16550_config u = { .port = 0x3f8,
					    .clock = b->clock,
					    .irq = irqchip_line(b->chip, 4),
					    .sink = sink,
					    .instance = "0",
					    .source = &b->serial };
	const struct i8042_config kbd = {
		.bus = b->bus, .irq1 = irqchip_line(b->chip, 1), .irq12 = irqchip_line(b->chip, 12), .machine = *m
	};
	struct irq_line lines[PC_TESTDEV_LINES];
	struct device *fw;
	struct err err;

	struct irq_line pit, rtc;
	const struct hpet_config hpet = { .bus = b->bus,
					  .clock = b->clock,
					  .irq0 = irqchip_line(b->chip, 0),
					  .irq8 = irqchip_line(b->chip, 8),
					  .msi = irqchip_msi(b->chip),
					  .timers = HPET_MAX_TIMERS,
					  .fsb = true,
					  .pit = &pit,
					  .rtc = &rtc };

	add(b, hpet_new(&hpet, &err));
	add(b, pit8254_new(b->bus, b->clock, pit, &err));
	add(b, rtc146818_new(b->bus, b->clock, rtc, &err));
	add(b, port92_new(b->bus, m, &err));
	add(b, uart16550_new(b->bus, &u, &err));
	add(b, pvpanic_new(b->bus, 0x505, m, &err));
	add(b, i6300esb_new(b->pci, 30 << 3, b->clock, m, &err));
	add(b, i8042_new(&kbd, &b->input, &err));
	fw = fw_cfg_new(b->bus, b->mem, &err);
	add(b, fw);
	if (fw_cfg_add_file(fw, "etc/file", "some text", 9, &err))
		abort();
	add(b, debug_exit_new(b->bus, 0x501, m, &err));
	add(b, debugcon_new(b->bus, 0xd9, &sink, &err));
	for (unsigned n = 0; n < PC_TESTDEV_LINES; n++)
		lines[n] = irqchip_line(b->chip, n);
	add(b, pc_testdev_new(b->bus, lines, &err));
	add(b, pci_testdev_new(b->bus, b->pci, (uint8_t)(pci_free_slot(b->pci) << 3), &err));
}

static void add_virtio(struct board *b)
{
	const struct virtio_pci_config pci = { b->bus, b->pci, -1 };
	const struct virtio_mmio_config mmio = { b->bus, MMIO_BASE, irqchip_line(b->chip, 16), 0 };
	struct char_source sources[VIRTIO_CONSOLE_PORTS];
	struct virtio_console_config c = { .mem = b->mem, .loop = b->loop };
	struct err err;

	for (unsigned n = 0; n < VIRTIO_CONSOLE_PORTS; n++)
		c.port[n].source = &sources[n];
	add(b, virtio_pci_new(virtio_rng_new(b->mem, b->loop, &err), &pci, &err));
	add(b, virtio_pci_new(virtio_balloon_new(b->mem, b->loop, &err), &pci, &err));
	add(b, virtio_mmio_new(virtio_console_new(&c, &err), &mmio, &err));
}

static void make(struct board *b)
{
	const struct mem_slot_config ram = { .name = "ram", .base = gpa(0), .size = RAM_SIZE, .fd = -1 };
	const struct machine_control m = { request, NULL };
	struct err err;

	memset(b, 0, sizeof(*b));
	b->loop = loop_new(&err);
	b->clock = b->loop ? clock_new(b->loop, CLOCK_SOURCE_ICOUNT, &err) : NULL;
	b->mem = mem_space_new();
	b->bus = bus_new();
	if (!b->clock || !b->mem || !b->bus || mem_add_slot(b->mem, &ram, &err))
		abort();
	clock_set_wall_base(b->clock, 1773576000000000000ll);
	add_chips(b, &m);
	add_classic(b, &m);
	add_virtio(b);
	if (pci_assign_resources(b->pci, 0xc000, PCI_HOLE, PCI_END, 1ull << 40, &err))
		abort();
}

static void quit(void *opaque)
{
	loop_quit(opaque);
}

static void reset(struct board *b)
{
	devices_reset(b->devices);
	pci_bus_reset(b->pci);
	irqchip_reset(b->chip);
}

static void unmake(struct board *b)
{
	for (struct device *d = b->devices, *next; d; d = next) {
		next = d->next;
		if (d->destroy)
			d->destroy(d->self);
	}
	irqchip_free(b->chip);
	pci_bus_free(b->pci);
	bus_free(b->bus);
	mem_space_free(b->mem);
	clock_free(b->clock);
	loop_free(b->loop);
}

/* --- steps --- */

/* Ports that somebody listens to, so that most steps hit one. */
static uint16_t port(uint16_t v)
{
	static const struct {
		uint16_t base, count;
	} places[] = {
		{ 0x20, 2 }, { 0xa0, 2 },  { 0x4d0, 2 },   { 0x40, 4 },	    { 0x60, 5 },  { 0x70, 2 },
		{ 0x92, 1 }, { 0x3f8, 8 }, { 0x510, 12 },  { 0x600, 12 },   { 0xcf8, 8 }, { 0x501, 5 },
		{ 0xd9, 1 }, { 0xe0, 12 }, { 0x2000, 24 }, { 0xc000, 256 },
	};
	unsigned k = v >> 12;

	return (uint16_t)(places[k].base + (v & 0xfff) % (places[k].count + 1));
}

static uint64_t address(uint16_t v)
{
	static const uint64_t bases[8] = { PCI_HOLE,	      PCI_HOLE + 0x2000, PCI_HOLE + 0x4000, PCI_HOLE + 0x8000,
					   PCI_HOLE + 0xc000, IOAPIC_BASE,	 MMIO_BASE,	    HPET_BASE };
	static const uint16_t masks[8] = { 0x1fff, 0x1fff, 0x3fff, 0x3fff, 0x3fff, 0x7f, 0x3ff, 0x3ff };
	unsigned k = v >> 13;

	return bases[k] + (v & masks[k]);
}

static void lapic(struct board *b, const uint8_t *s, uint32_t val)
{
	const struct intc i = irqchip_intc(b->chip);
	unsigned cpu = s[1] % CPUS, what = s[0] >> 5;
	uint32_t off = ld_le16(s + 2) & 0xfff;
	uint64_t v;

	if (what == 0)
		i.ops->mmio_read(i.opaque, cpu, off);
	else if (what == 1)
		i.ops->mmio_write(i.opaque, cpu, off & 0xff0, val);
	else if (what == 2)
		i.ops->rdmsr(i.opaque, cpu, 0x800 + off % LAPIC_MSRS, &v);
	else if (what == 3)
		i.ops->wrmsr(i.opaque, cpu, 0x800 + off % LAPIC_MSRS, val);
	else if (what == 4)
		i.ops->wrmsr(i.opaque, cpu, 0x1b, LAPIC_BASE | (val & 0xd00));
	else if (what == 5)
		i.ops->wrmsr(i.opaque, cpu, 0x6e0, val);
	else if (what == 6)
		i.ops->wrmsr(i.opaque, cpu, 0x4b564d04, val);
	else if (i.ops->pending(i.opaque, cpu))
		i.ops->ack(i.opaque, cpu);
}

/* Guest time to the next timer or by some time, but at most a second: a jump may not take long. */
static void pass(struct board *b, uint32_t val)
{
	int64_t next = clock_icount_next(b->clock), ns = val & 1 ? (int64_t)(val % 1000000000) : next;

	clock_icount_advance(b->clock, ns < 1000000000 ? ns : 1000000000);
}

static void step(struct board *b, const uint8_t *s)
{
	uint16_t at = ld_le16(s + 2);
	uint32_t val = ld_le32(s + 4);
	unsigned size = 1u << (s[1] & 3);
	uint64_t v;

	switch (s[0] & 15) {
	case 0 ... 2:
		bus_write(b->bus, BUS_PORT, port(at), size > 4 ? 4 : size, val);
		break;
	case 3 ... 4:
		bus_read(b->bus, BUS_PORT, port(at), size > 4 ? 4 : size, &v);
		break;
	case 5 ... 6:
		bus_write(b->bus, BUS_MMIO, address(at), size, val | (uint64_t)val << 32);
		break;
	case 7:
		bus_read(b->bus, BUS_MMIO, address(at), size, &v);
		break;
	case 8: /* any port, whoever is there */
		bus_write(b->bus, BUS_PORT, at, size > 4 ? 4 : size, val);
		break;
	case 9: /* any address */
		bus_write(b->bus, BUS_MMIO, (uint64_t)val << (s[1] >> 2 & 31), size, at);
		break;
	case 10:
		pci_config_write(b->pci, s[1] >> 2, (uint8_t)at, at >> 8 & 3 ? 1 : 4, val);
		break;
	case 11:
		lapic(b, s, val);
		break;
	case 12:
		pass(b, val);
		break;
	case 13:
		b->serial.input(b->serial.opaque, s + 4, s[1] & 3);
		b->serial.can_write(b->serial.opaque);
		piix4_pm_power_button(b->pm);
		b->input.key(b->input.opaque, s[4], s[1] & 8);
		b->input.mouse(b->input.opaque, &(struct input_mouse){ (int8_t)s[5], (int)val, (int8_t)s[6], s[7] });
		break;
	case 14: /* what a driver would have in memory */
		mem_write(b->mem, gpa(at << 4), s + 4, 4);
		break;
	case 15:
		if (s[1] == 0xff)
			reset(b);
		loop_post(b->loop, quit, b->loop);
		loop_run(b->loop);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct board b;

	make(&b);
	for (unsigned n = 0; size >= 8 && n < MAX_STEPS; data += 8, size -= 8, n++)
		step(&b, data);
	unmake(&b);
	return 0;
}
