/* See tiny_vm.h. */
#include "tiny_vm.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cpu/x86/entry.h"
#include "hot.h"

static void digest(struct tiny_vm *t, bool write, uint64_t addr, unsigned size, uint64_t val)
{
	const uint64_t words[] = { addr, size << 1 | write, val };

	t->mmio_count++;
	for (unsigned n = 0; n < ARRAY_LEN(words); n++)
		t->mmio_digest = (t->mmio_digest ^ words[n]) * 0x100000001b3;
}

static uint64_t mmio_read(void *opaque, uint64_t addr, unsigned size)
{
	struct tiny_vm *t = opaque;

	digest(t, false, addr, size, 0);
	return t->on_mmio_read ? t->on_mmio_read(t, addr) : ~0ull;
}

static void mmio_write(void *opaque, uint64_t addr, unsigned size, uint64_t val)
{
	struct tiny_vm *t = opaque;

	digest(t, true, addr, size, val);
	if (t->on_mmio)
		t->on_mmio(t, addr);
}

static uint32_t pio_read(void *opaque, uint16_t port, unsigned size)
{
	return port;
}

static void pio_write(void *opaque, uint16_t port, unsigned size, uint32_t val)
{
	struct tiny_vm *t = opaque;

	t->last_out = val;
	t->outs++;
	if (t->kick_on_out)
		vcpu_kick(t->vcpu);
}

static void cpu_signal(void *opaque, unsigned cpu, enum cpu_signal what, uint8_t vector)
{
	struct tiny_vm *t = opaque;

	if (t->vcpus[cpu])
		vcpu_signal(t->vcpus[cpu], what, vector);
}

static void build_tables(struct tiny_vm *t)
{
	static const uint64_t gdt[] = { 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff };
	uint64_t e = 0x2003;

	mem_write(t->mem, gpa(TINY_CR3), &e, 8);
	e = 0x3003;
	mem_write(t->mem, gpa(0x2000), &e, 8);
	for (unsigned n = 0; n < 512; n++) {
		e = (uint64_t)n << 21 | 0x83;
		mem_write(t->mem, gpa(0x3000 + 8 * n), &e, 8);
	}
	mem_write(t->mem, gpa(TINY_GDT), gdt, sizeof(gdt));
}

/* --- the simplest interrupt controller: one request, and CR8 --- */

static bool intr_pending(void *opaque, unsigned cpu)
{
	return ((struct tiny_vm *)opaque)->irq >= 0;
}

static int intr_ack(void *opaque, unsigned cpu)
{
	struct tiny_vm *t = opaque;
	int vector = t->irq;

	t->irq = -1;
	return vector;
}

static uint8_t get_cr8(void *opaque, unsigned cpu)
{
	return 0;
}

static void set_cr8(void *opaque, unsigned cpu, uint8_t v)
{
}

static bool read_msr(void *opaque, unsigned cpu, uint32_t msr, uint64_t *val)
{
	*val = ((struct tiny_vm *)opaque)->apic_base;
	return msr == 0x1b;
}

static bool write_msr(void *opaque, unsigned cpu, uint32_t msr, uint64_t val)
{
	return false;
}

static bool mmio_hit(void *opaque, unsigned cpu, uint64_t addr, uint32_t *offset)
{
	return false;
}

static void init(void *opaque, unsigned cpu)
{
}

static const struct intc_ops intc_ops = {
	.pending = intr_pending,
	.ack = intr_ack,
	.get_cr8 = get_cr8,
	.set_cr8 = set_cr8,
	.rdmsr = read_msr,
	.wrmsr = write_msr,
	.mmio_hit = mmio_hit,
	.init = init,
};

/* --- the VM --- */

const struct engine *tiny_software(void)
{
	const char *name = getenv("VIREO_TEST_ENGINE");
	const struct engine *e = name ? engine_find(name) : &engine_interp;

	if (!e)
		abort();
	return e;
}

static void make(struct tiny_vm *t, const struct engine *engine, unsigned cpus, enum clock_source clock,
		 struct config *config, enum engine_intc place)
{
	const struct mem_slot_config ram = { "ram", gpa(0), TINY_RAM, MEM_ANON, -1, 0, false };
	const struct mem_slot_config smram = { "smram", gpa(TINY_SMRAM), 128 << 10, MEM_ANON, -1, 0, false };
	struct engine_config c = { .cpus = cpus, .intc_place = place };
	struct err err;

	memset(t, 0, sizeof(*t));
	t->engine = engine;
	t->cpus = cpus;
	t->apic_base = 0xfee00900;
	t->config = all_hot(config);
	t->irq = -1;
	t->loop = loop_new(&err);
	t->clock = clock_new(t->loop, clock, &err);
	t->mem = mem_space_new();
	t->smm_mem = mem_space_over(t->mem);
	if (!t->clock || mem_add_slot(t->mem, &ram, &err) || mem_add_slot(t->smm_mem, &smram, &err))
		abort();
	build_tables(t);
	c.mem = t->mem;
	c.smm_mem = t->smm_mem;
	c.config = t->config;
	c.intc = (struct intc){ &intc_ops, t };
	c.clock = t->clock;
	if (cpus > 1 || place == ENGINE_INTC_SPLIT) {
		const struct irqchip_config chip = { t->mem, t->clock, { cpu_signal, t }, cpus };

		t->chip = irqchip_new(&chip, &err);
		if (!t->chip)
			abort();
		c.intc = irqchip_intc(t->chip);
	}
	c.world = (struct cpu_world){ mmio_read, mmio_write, pio_read, pio_write, t };
	t->vm = t->engine->vm_create(&c, &err);
	for (unsigned n = 0; n < cpus; n++) {
		t->vcpus[n] = t->vm ? t->engine->vcpu_create(t->vm, n, &err) : NULL;
		if (!t->vcpus[n])
			abort();
	}
	t->vcpu = t->vcpus[0];
}

void tiny_vm_new(struct tiny_vm *t)
{
	make(t, tiny_software(), 1, CLOCK_SOURCE_HOST, NULL, ENGINE_INTC_USER);
}

void tiny_vm_new_with(struct tiny_vm *t, unsigned cpus, enum clock_source clock)
{
	make(t, tiny_software(), cpus, clock, NULL, ENGINE_INTC_USER);
}

void tiny_vm_new_on(struct tiny_vm *t, const struct engine *engine)
{
	make(t, engine, 1, CLOCK_SOURCE_HOST, NULL, ENGINE_INTC_USER);
}

void tiny_vm_new_configured(struct tiny_vm *t, const struct engine *engine, struct config *config)
{
	make(t, engine, 1, CLOCK_SOURCE_HOST, config, ENGINE_INTC_USER);
}

void tiny_vm_new_split(struct tiny_vm *t, const struct engine *engine, struct config *config)
{
	make(t, engine, 1, CLOCK_SOURCE_HOST, config, ENGINE_INTC_SPLIT);
}

void tiny_vm_new_cpus(struct tiny_vm *t, const struct engine *engine, unsigned cpus, enum engine_intc place)
{
	make(t, engine, cpus, CLOCK_SOURCE_HOST, NULL, place);
}

void tiny_vm_new_model(struct tiny_vm *t, const char *model, enum clock_source clock)
{
	struct config *config = config_new();
	struct err err;

	if (!config || config_set(config, "cpu.model", model, &err))
		abort();
	make(t, tiny_software(), 1, clock, config, ENGINE_INTC_USER);
}

void tiny_vm_free(struct tiny_vm *t)
{
	for (unsigned n = 0; n < t->cpus; n++)
		t->engine->vcpu_destroy(t->vcpus[n]);
	t->engine->vm_destroy(t->vm);
	if (t->chip)
		irqchip_free(t->chip);
	clock_free(t->clock);
	loop_free(t->loop);
	mem_space_free(t->smm_mem);
	mem_space_free(t->mem);
	if (t->config)
		config_free(t->config);
}

void tiny_vm_enter64(struct tiny_vm *t, unsigned cpu, uint64_t rip, uint64_t rsp)
{
	struct x86_state *s = malloc(sizeof(*s));
	struct err err;

	memset(s, 0, sizeof(*s));
	x86_state_reset(s, true, false);
	x86_entry_long64(s, rip, 0, TINY_CR3, TINY_GDT, 31);
	s->gpr[X86_RSP] = rsp;
	if (t->engine->set_state(t->vcpus[cpu], s, &err))
		abort();
	free(s);
}

void tiny_vm_load64(struct tiny_vm *t, const void *code, size_t len)
{
	mem_write(t->mem, gpa(TINY_CODE), code, len);
	tiny_vm_enter64(t, 0, TINY_CODE, TINY_STACK);
}
