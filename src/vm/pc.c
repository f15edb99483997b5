/* The machine type pc-1.0: what is where. docs/machine.md has the map. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/suggest.h"
#include "boot/acpi.h"
#include "boot/boot.h"
#include "cpu/x86/entry.h"
#include "cpu/x86/model.h"
#include "dev/fw_cfg.h"
#include "dev/hpet.h"
#include "dev/testdevs.h"
#include "vm/impl.h"

#define MIB 1048576ull

/* The four PCI interrupt lines as ISA interrupts: level-triggered on both controllers. */
static const uint8_t pci_irq[4] = { 5, 7, 10, 11 };

void vm_add_device(struct vm *vm, struct device *d)
{
	struct device **at = &vm->devices;

	while (*at)
		at = &(*at)->next;
	*at = d;
	log_line(LOG_INFO, "pc", "device %s %s", d->name, d->instance);
}

/* --- the processors' world --- */

static void count(bool mmio)
{
	struct vm_cpu *c = cpus_self();

	if (c)
		stat_add(mmio ? &c->mmio : &c->ports, 1);
}

static uint64_t mmio_read(void *opaque, uint64_t addr, unsigned size)
{
	uint64_t v = ~0ull;

	count(true);
	bus_read(((struct vm *)opaque)->bus, BUS_MMIO, addr, size, &v);
	return v;
}

static void mmio_write(void *opaque, uint64_t addr, unsigned size, uint64_t val)
{
	count(true);
	bus_write(((struct vm *)opaque)->bus, BUS_MMIO, addr, size, val);
}

static uint32_t pio_read(void *opaque, uint16_t port, unsigned size)
{
	uint64_t v = ~0ull;

	count(false);
	bus_read(((struct vm *)opaque)->bus, BUS_PORT, port, size, &v);
	return (uint32_t)v;
}

static void pio_write(void *opaque, uint16_t port, unsigned size, uint32_t val)
{
	count(false);
	bus_write(((struct vm *)opaque)->bus, BUS_PORT, port, size, val);
}

static void cpu_signal(void *opaque, unsigned cpu, enum cpu_signal what, uint8_t vector)
{
	struct vm *vm = opaque;

	if (vm->cpu[cpu].vcpu)
		vcpu_signal(vm->cpu[cpu].vcpu, what, vector);
}

static void passed_over(const struct engine *e, const struct engine_probe *p)
{
	log_line(LOG_INFO, "pc", "not engine %s: %s", e->name, p->why);
}

static int unknown_engine(const char *name, struct err *err)
{
	struct suggestion s;

	suggest_begin(&s, name);
	suggest_offer(&s, "auto");
	for (const struct engine *const *e = engines; *e; e++)
		suggest_offer(&s, (*e)->name);
	return err_set(err, "engine: '%s' is not one of those that `vireo engines` lists%s%s%s", name,
		       s.best ? " (did you mean '" : "", s.best ? s.best : "", s.best ? "'?)" : "");
}

static int choose_engine(struct vm *vm, struct engine_probe *probe, struct err *err)
{
	bool counting = clock_is_icount(vm->clock);
	const char *name;

	if (config_str(vm->config, "engine", "auto", &name, err))
		return -1;
	if (!strcmp(name, "auto")) {
		vm->engine = engine_auto(counting, probe, passed_over);
	} else {
		vm->engine = engine_find(name);
		if (!vm->engine)
			return unknown_engine(name, err);
		if (counting && !vm->engine->counts)
			return err_set(
				err,
				"clock: icount counts instructions, which engine %s does not; auto takes one that does",
				name);
		vm->engine->probe(probe);
	}
	return vm->engine && probe->available ? 0 : err_set(err, "engine: %s is not available: %s", name, probe->why);
}

/*
 * What is set for one is no mistake when another one runs: `auto` chooses, saved machines go from one to another. What
 * is wrong is wrong all the same.
 */
static int check_other_engines(struct vm *vm, struct err *err)
{
	for (const struct engine *const *e = engines; *e; e++)
		if (*e != vm->engine && (*e)->check_config && (*e)->check_config(vm->config, err))
			return -1;
	return 0;
}

/* "irqchip": where the local APICs are; by default in the engine, if it has some. */
static int place_irqchip(struct vm *vm, enum engine_intc *place, struct err *err)
{
	static const char *const places[] = { "user", "split", NULL };
	int split = vm->engine->intc_places >> ENGINE_INTC_SPLIT & 1;

	if (config_choice(vm->config, "irqchip", split, places, &split, err))
		return -1;
	*place = split ? ENGINE_INTC_SPLIT : ENGINE_INTC_USER;
	return vm->engine->intc_places >> *place & 1
		       ? 0
		       : err_set(err, "irqchip: '%s' is not where engine %s can have local APICs", places[split],
				 vm->engine->name);
}

/* Doorbells that the engine can ring by itself. Any thread. */
static bool take_doorbell(void *opaque, const struct doorbell *d, bool on)
{
	const struct vm *vm = opaque;

	return vm->engine->doorbell(vm->engine_vm, d, on);
}

static int add_engine(struct vm *vm, struct err *err)
{
	struct engine_config e = {
		.mem = vm->mem,
		.smm_mem = vm->upper.smm,
		.world = { mmio_read, mmio_write, pio_read, pio_write, vm },
		.intc = irqchip_intc(vm->chip),
		.clock = vm->clock,
		.stats = vm->stats,
		.config = vm->config,
		.cpus = vm->cpus,
		.restored = vm->restored,
	};
	struct engine_probe probe = { 0 };

	if (choose_engine(vm, &probe, err) || place_irqchip(vm, &e.intc_place, err) || check_other_engines(vm, err))
		return -1;
	vm->engine_vm = vm->engine->vm_create(&e, err);
	log_line(LOG_INFO, "pc", "%llu MiB, engine %s: %s", (unsigned long long)(mem_ram_size(vm->mem) / MIB),
		 vm->engine->name, probe.why);
	if (!vm->engine_vm)
		return -1;
	if (vm->engine->doorbell)
		bus_offer_doorbells(vm->bus, take_doorbell, vm);
	return cpus_create(vm, err);
}

/* --- devices --- */

static int add(struct vm *vm, struct device *d)
{
	if (!d)
		return -1;
	vm_add_device(vm, d);
	return 0;
}

static int add_serial(struct vm *vm, unsigned n, const char *dflt, struct err *err)
{
	static const struct {
		const char *key, *instance;
		uint16_t port;
		uint8_t irq;
	} com[] = { { "serial0", "0", 0x3f8, 4 }, { "serial1", "1", 0x2f8, 3 } };
	struct chan *chan;
	struct char_source source;
	struct uart16550_config u = {
		.port = com[n].port,
		.clock = vm->clock,
		.irq = irqchip_line(vm->chip, com[n].irq),
		.instance = com[n].instance,
		.source = &source,
	};

	if (vm_open_chan(vm, com[n].key, dflt, &chan, err))
		return -1;
	if (!chan)
		return 0;
	u.sink = chan_sink(chan);
	u.wake = chan_wake(chan);
	if (add(vm, uart16550_new(vm->bus, &u, err)))
		return -1;
	chan_connect(chan, &source);
	vm->com[n] = true;
	return 0;
}

/* What a machine has so many of, by numbers from 0 on. */
static int refuse_more(struct vm *vm, const char *what, unsigned most, struct err *err)
{
	char key[32];

	for (unsigned n = most; n < 10; n++) {
		snprintf(key, sizeof(key), "%s%u", what, n);
		if (config_peek(vm->config, key))
			return err_set(err, "%s: a machine has %u of them at most", key, most);
	}
	return 0;
}

/* A port that takes bytes: the Bochs debug console, and the diagnostic port of power-on self tests. */
static int add_port_console(struct vm *vm, const char *key, uint16_t dflt, struct err *err)
{
	char iobase[32];
	struct char_sink sink;
	struct chan *chan;
	uint64_t port;

	if (vm_open_chan(vm, key, "none", &chan, err))
		return -1;
	if (!chan)
		return 0;
	sink = chan_sink(chan);
	snprintf(iobase, sizeof(iobase), "%s.iobase", key);
	if (config_uint(vm->config, iobase, dflt, (struct config_range){ 0, 0xffff }, &port, err))
		return -1;
	return add(vm, debugcon_new(vm->bus, (uint16_t)port, &sink, err));
}

static int add_test_devices(struct vm *vm, struct err *err)
{
	struct machine_control m = vm_machine_control(vm);
	bool wanted;
	uint64_t port;

	if (config_bool(vm->config, "isa-debug-exit", false, &wanted, err))
		return -1;
	if (wanted) {
		if (config_uint(vm->config, "isa-debug-exit.iobase", 0x501, (struct config_range){ 0, 0xfffc }, &port,
				err) ||
		    add(vm, debug_exit_new(vm->bus, (uint16_t)port, &m, err)))
			return -1;
	}
	if (config_bool(vm->config, "pc-testdev", false, &wanted, err))
		return -1;
	if (wanted) {
		struct irq_line lines[PC_TESTDEV_LINES];

		for (unsigned n = 0; n < PC_TESTDEV_LINES; n++)
			lines[n] = irqchip_line(vm->chip, n);
		if (add(vm, pc_testdev_new(vm->bus, lines, err)))
			return -1;
	}
	return add_port_console(vm, "debugcon", 0xe9, err) || add_port_console(vm, "postcard", 0x80, err) ? -1 : 0;
}

static int add_fw_cfg(struct vm *vm, struct err *err)
{
	struct device *d = fw_cfg_new(vm->bus, vm->mem, err);
	uint8_t ram[8], cpus[2];

	vm->fw_cfg = d;
	if (add(vm, d))
		return -1;
	st_le64(ram, vm->ram_low + vm->ram_high);
	st_le16(cpus, (uint16_t)vm->cpus);
	return fw_cfg_add(d, FW_CFG_RAM_SIZE, ram, 8, err) || fw_cfg_add(d, FW_CFG_NB_CPUS, cpus, 2, err) ||
			       fw_cfg_add(d, FW_CFG_MAX_CPUS, cpus, 2, err) ||
			       fw_cfg_add(d, FW_CFG_UUID, vm->uuid, 16, err) || vm_add_fw_cfg_files(vm, err)
		       ? -1
		       : 0;
}

/* The line of the chipset leads to the boot processor alone: no other one has a handler before firmware gives it one.
 */
static void smi(void *opaque)
{
	vcpu_signal(((struct vm *)opaque)->cpu[0].vcpu, CPU_SIGNAL_SMI, 0);
}

/* "pit": a machine whose kernel has other timers can do without. */
static int add_pit(struct vm *vm, struct irq_line irq, struct err *err)
{
	bool wanted;

	if (config_bool(vm->config, "pit", true, &wanted, err))
		return -1;
	return wanted ? add(vm, pit8254_new(vm->bus, vm->clock, irq, err)) : 0;
}

/* "hpet": it takes the lines of the 8254 and of the clock, and gives those that they use instead. */
static int add_hpet(struct vm *vm, struct irq_line *pit, struct irq_line *rtc, struct err *err)
{
	struct hpet_config c = { .bus = vm->bus,
				 .clock = vm->clock,
				 .irq0 = *pit,
				 .irq8 = *rtc,
				 .msi = irqchip_msi(vm->chip),
				 .pit = pit,
				 .rtc = rtc };
	uint64_t timers;
	bool wanted;

	if (config_bool(vm->config, "hpet", false, &wanted, err))
		return -1;
	if (!wanted)
		return 0;
	if (config_bool(vm->config, "hpet.msi", false, &c.fsb, err) ||
	    config_uint(vm->config, "hpet.timers", HPET_MIN_TIMERS,
			(struct config_range){ HPET_MIN_TIMERS, HPET_MAX_TIMERS }, &timers, err))
		return -1;
	c.timers = (unsigned)timers;
	vm->hpet_timers = c.timers;
	return add(vm, hpet_new(&c, err));
}

static int add_chipset(struct vm *vm, struct err *err)
{
	struct machine_control m = vm_machine_control(vm);
	struct irq_line isa[16], pit = irqchip_line(vm->chip, 0), rtc = irqchip_line(vm->chip, 8);
	static const struct irq_line unrouted[4];
	struct msi_sink msi = irqchip_msi(vm->chip);
	struct piix4_pm_config pm = {
		.clock = vm->clock, .sci = irqchip_line(vm->chip, PM_SCI), .machine = m, .firmware = vm->firmware
	};
	int n;

	if (vm->engine->smm)
		pm.smi = (struct pm_smi){ smi, vm };

	vm->chip_devices = calloc(2 + vm->cpus, sizeof(*vm->chip_devices));
	for (unsigned k = 0; k < 16; k++)
		isa[k] = irqchip_line(vm->chip, k);
	vm->pci = pci_bus_new(vm->bus, unrouted, &msi);
	if (!vm->chip_devices || !vm->pci)
		return err_set(err, "out of memory");
	pci_bus_set_irq_numbers(vm->pci, pci_irq);
	n = irqchip_devices(vm->chip, vm->bus, vm->cpus, vm->chip_devices, err);
	if (n < 0)
		return -1;
	for (int k = 0; k < n; k++)
		vm_add_device(vm, &vm->chip_devices[k]);
	if (add(vm, i440fx_new(vm->bus, vm->pci, &m, vm->firmware ? &vm->upper : NULL, err)))
		return -1;
	if (vm_add_flash(vm, err))
		return -1;
	vm->piix3 = piix3_new(vm->pci, isa, vm->firmware, err);
	if (add(vm, vm->piix3))
		return -1;
	vm->pm = piix4_pm_new(vm->bus, vm->pci, &pm, err);
	if (add(vm, vm->pm) || add_hpet(vm, &pit, &rtc, err))
		return -1;
	vm->rtc = rtc146818_new(vm->bus, vm->clock, rtc, err);
	if (add_pit(vm, pit, err) || add(vm, vm->rtc) || add(vm, port92_new(vm->bus, &m, err)))
		return -1;
	return add_fw_cfg(vm, err);
}

/*
 * Where a write only chooses what the next access is of: half of what a guest writes while it boots. Port 80h is for
 * the codes of power-on self tests, and old drivers write there to wait.
 */
static void add_latches(struct vm *vm)
{
	static const struct {
		bool port;
		uint64_t addr;
		unsigned size;
	} latches[] = { { true, 0xcf8, 4 }, { true, 0x70, 1 }, { false, IOAPIC_BASE, 4 }, { true, 0x80, 1 } };
	uint64_t v;

	for (size_t n = 0; vm->engine->latch && n < ARRAY_LEN(latches); n++)
		if (latches[n].addr != 0x80 || !bus_read(vm->bus, BUS_PORT, 0x80, 1, &v))
			vm->engine->latch(vm->engine_vm, latches[n].port, latches[n].addr, latches[n].size);
}

/* --- identity --- */

static int parse_uuid(const char *text, uint8_t *uuid)
{
	char end;

	return strlen(text) == 36 && sscanf(text,
					    "%2hhx%2hhx%2hhx%2hhx-%2hhx%2hhx-%2hhx%2hhx-%2hhx%2hhx-"
					    "%2hhx%2hhx%2hhx%2hhx%2hhx%2hhx%c",
					    &uuid[0], &uuid[1], &uuid[2], &uuid[3], &uuid[4], &uuid[5], &uuid[6],
					    &uuid[7], &uuid[8], &uuid[9], &uuid[10], &uuid[11], &uuid[12], &uuid[13],
					    &uuid[14], &uuid[15], &end) == 16
		       ? 0
		       : -1;
}

/* The configuration's, or a random one (RFC 4122, 4.4), which goes into the configuration so that a restore has it. */
static int choose_uuid(struct vm *vm, struct err *err)
{
	const char *wanted;
	uint8_t *u = vm->uuid;
	char text[37];

	if (config_str(vm->config, "uuid", NULL, &wanted, err))
		return -1;
	if (wanted)
		return parse_uuid(wanted, u) ? err_set(err,
						       "uuid: '%s' is not of the form "
						       "01234567-89ab-cdef-0123-456789abcdef",
						       wanted)
					     : 0;
	/* A machine that counts its time has nothing random: all zero says that there is no UUID. */
	if (clock_is_icount(vm->clock))
		return 0;
	if (getrandom(u, 16, 0) != 16)
		return err_set(err, "no random numbers");
	u[6] = (u[6] & 0x0f) | 0x40;
	u[8] = (u[8] & 0x3f) | 0x80;
	snprintf(text, sizeof(text), "%08x-%04x-%04x-%04x-%04x%08x", ld_be32(u), ld_be16(u + 4), ld_be16(u + 6),
		 ld_be16(u + 8), ld_be16(u + 10), ld_be32(u + 12));
	return config_choose(vm->config, "uuid", text, err);
}

int pc_assemble(struct vm *vm, struct err *err)
{
	struct irqchip_config chip = {
		.mem = vm->mem,
		.clock = vm->clock,
		.wiring = { cpu_signal, vm },
		.cpus = vm->cpus,
	};
	/* The first serial port is the terminal's unless a virtio console is. */
	bool console = strcmp(vm->console_key, "serial0");

	if (choose_uuid(vm, err) || vm_read_smbios(vm, err) || vm_add_ram(vm, err) || vm_add_firmware(vm, err) ||
	    vm_add_screen_memory(vm, err))
		return -1;
	vm->chip = irqchip_new(&chip, err);
	if (!vm->chip || add_engine(vm, err))
		return -1;
	if (refuse_more(vm, "serial", ARRAY_LEN(vm->com), err) || refuse_more(vm, "console", 1, err))
		return -1;
	if (add_chipset(vm, err) || add_serial(vm, 0, console ? "null" : "stdio", err) ||
	    add_serial(vm, 1, "none", err) || add_test_devices(vm, err) || vm_add_extras(vm, err))
		return -1;
	add_latches(vm);
	return vm_add_virtio(vm, err) || vm_tell_firmware(vm, err) ? -1 : 0;
}

/* --- power-on --- */

/*
 * Where 64-bit BARs are: the same with any processor that reaches there. With another one it is the upper half of what
 * it has, or, if RAM is there, nowhere: then they are among the 32-bit ones.
 */
static void high_window(const struct vm *vm, uint64_t *base, uint64_t *end)
{
	const struct x86_model *model = vm->engine->model(vm->engine_vm);
	uint64_t all = 1ull << model->features->phys_bits;

	*end = all < VM_PCI_HIGH_END ? all : VM_PCI_HIGH_END;
	*base = *end / 2;
	if (*base < (1ull << 32) + vm->ram_high)
		*base = *end = 0;
}

struct acpi_config pc_acpi(const struct vm *vm)
{
	struct acpi_config a = {
		.mem = vm->mem,
		.cpus = vm->cpus,
		.pm_event = PM_EVENT,
		.pm_control = PM_CONTROL,
		.pm_timer = PM_TIMER,
		.sci = PM_SCI,
		.s5 = PM_SLP_S5,
		.ioapic = IOAPIC_BASE,
		.lapic = LAPIC_BASE,
		.pci_hole = VM_PCI_HOLE,
		.pci_hole_end = VM_PCI_HOLE_END,
		.com = { vm->com[0], vm->com[1] },
		.i8042 = vm->i8042,
		.pvpanic = vm->pvpanic,
		.hpet = vm->hpet_timers ? HPET_BASE : 0,
		.hpet_id = vm->hpet_timers ? hpet_id(vm->hpet_timers) : 0,
		.mmio_count = vm->mmio_count,
	};

	high_window(vm, &a.pci_high, &a.pci_high_end);
	memcpy(a.pci_gsi, pci_irq, sizeof(a.pci_gsi));
	for (unsigned n = 0; n < vm->mmio_count; n++) {
		a.mmio[n].base = VM_MMIO_BASE + 0x1000 * n;
		a.mmio[n].size = 0x200;
		a.mmio[n].gsi = VM_MMIO_GSI + n;
	}
	return a;
}

struct smbios_config pc_smbios(const struct vm *vm)
{
	struct smbios_config c = vm->smbios;

	c.mem = vm->mem;
	c.ram_low = vm->ram_low;
	c.ram_high = vm->ram_high;
	c.cpus = vm->cpus;
	c.uuid = vm->uuid;
	return c;
}

static int write_tables(struct vm *vm, struct err *err)
{
	struct acpi_config a = pc_acpi(vm);
	struct smbios_config s = pc_smbios(vm);

	return acpi_write(&a, err) || smbios_write(&s, err) ? -1 : 0;
}

/* The 8259s with ISA interrupts at 08h and 70h, all but the timer masked, and the timer at its slowest. */
static void start_bios_timer(struct vm *vm)
{
	static const struct {
		uint8_t port, val;
	} writes[] = {
		{ 0x20, 0x11 }, { 0x21, 0x08 }, { 0x21, 0x04 }, { 0x21, 0x01 }, { 0x21, 0xfa },
		{ 0xa0, 0x11 }, { 0xa1, 0x70 }, { 0xa1, 0x02 }, { 0xa1, 0x01 }, { 0xa1, 0xff },
		{ 0x43, 0x34 }, { 0x40, 0 },	{ 0x40, 0 },
	};

	for (size_t n = 0; n < ARRAY_LEN(writes); n++)
		bus_write(vm->bus, BUS_PORT, writes[n].port, 1, writes[n].val);
}

/* As firmware leaves it: tested, scan codes translated, interrupts on. */
static void start_i8042(struct vm *vm)
{
	bus_write(vm->bus, BUS_PORT, 0x64, 1, 0x60);
	bus_write(vm->bus, BUS_PORT, 0x60, 1, 0x47);
}

static int enter(struct vm *vm, const struct boot_entry *e, const char *kernel, struct err *err)
{
	const struct x86_model *model = vm->engine->model(vm->engine_vm);
	struct x86_state *s;
	int rc;

	if (e->kind == BOOT_LONG64 && !model->features->on[X86_F_LM])
		return err_set(err, "cpu.model: %s begins in 64-bit mode, which a CPU without lm does not have",
			       kernel);
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(err, "out of memory");
	x86_state_reset(s, true, false);
	if (e->kind == BOOT_LONG64)
		x86_entry_long64(s, e->rip, e->esi, BOOT_PAGE_TABLES, BOOT_GDT, 31);
	else
		x86_entry_flat32(s, (uint32_t)e->rip, e->eax, e->ebx, BOOT_GDT, 31);
	s->gpr[X86_RSI] = e->esi;
	rc = vm->engine->set_state(vm->cpu[0].vcpu, s, err);
	free(s);
	return rc;
}

int pc_boot_config(struct vm *vm, struct boot_config *b, struct err *err)
{
	*b = (struct boot_config){ .mem = vm->mem, .ram_low = vm->ram_low, .ram_high = vm->ram_high };
	return config_str(vm->config, "kernel", NULL, &b->kernel, err) ||
			       config_str(vm->config, "initrd", NULL, &b->initrd, err) ||
			       config_str(vm->config, "append", NULL, &b->append, err)
		       ? -1
		       : 0;
}

int pc_boot(struct vm *vm, struct err *err)
{
	struct boot_config b;
	struct boot_entry entry;
	uint64_t high, high_end;

	if (pc_boot_config(vm, &b, err))
		return -1;
	if (!b.kernel && (b.initrd || b.append))
		return err_set(err, "%s: it goes with a kernel; give --kernel FILE, too",
			       b.initrd ? "initrd" : "append");
	if (vm->firmware)
		return vm_boot_firmware(vm, err);
	if (!b.kernel)
		return err_set(err, "kernel: nothing to boot; give --kernel FILE, or a disk");
	if (boot_load(&b, &entry, err))
		return -1;
	if (vm_check_initrd(vm, entry.unsure, err) || write_tables(vm, err))
		return -1;
	log_line(LOG_INFO, "pc", "%s is loaded; entry at %#llx in %s mode", b.kernel, (unsigned long long)entry.rip,
		 entry.kind == BOOT_LONG64 ? "64-bit" : "32-bit");
	high_window(vm, &high, &high_end);
	if (pci_assign_resources(vm->pci, 0xc000, VM_PCI_HOLE, VM_PCI_HOLE_END, high, err))
		return -1;
	for (unsigned n = 0; n < 4; n++)
		pci_config_write(vm->pci, PIIX3_DEVFN, (uint8_t)(PIIX3_PIRQ + n), 1, pci_irq[n]);
	if (vm->i8042)
		start_i8042(vm);
	/* Levels: the SCI and the PCI lines. */
	irqchip_pic_write(vm->chip, 4, 1u << pci_irq[0] | 1u << pci_irq[1]);
	irqchip_pic_write(vm->chip, 5, (1u << PM_SCI | 1u << pci_irq[2] | 1u << pci_irq[3]) >> 8);
	for (unsigned n = 0; n < vm->cpus; n++)
		vm->engine->vcpu_reset(vm->cpu[n].vcpu);
	if (entry.bios)
		start_bios_timer(vm);
	return enter(vm, &entry, b.kernel, err);
}
