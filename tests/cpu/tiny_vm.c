/* See tiny_vm.h. */
#include "tiny_vm.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/x86/entry.h"

static uint64_t mmio_read(void *opaque, uint64_t addr, unsigned size)
{
	return ~0ull;
}

static void mmio_write(void *opaque, uint64_t addr, unsigned size, uint64_t val)
{
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

void tiny_vm_new(struct tiny_vm *t)
{
	struct mem_slot_config ram = { "ram", gpa(0), TINY_RAM, MEM_ANON, -1, 0, false };
	struct engine_config c = { .cpus = 1 };
	struct err err;

	memset(t, 0, sizeof(*t));
	t->loop = loop_new(&err);
	t->clock = clock_new(t->loop, CLOCK_SOURCE_HOST, &err);
	t->mem = mem_space_new();
	if (!t->clock || mem_add_slot(t->mem, &ram, &err))
		abort();
	build_tables(t);
	c.mem = t->mem;
	c.clock = t->clock;
	c.world = (struct cpu_world){ mmio_read, mmio_write, pio_read, pio_write, t };
	t->vm = engine_interp.vm_create(&c, &err);
	t->vcpu = t->vm ? engine_interp.vcpu_create(t->vm, 0, &err) : NULL;
	if (!t->vcpu)
		abort();
}

void tiny_vm_free(struct tiny_vm *t)
{
	engine_interp.vcpu_destroy(t->vcpu);
	engine_interp.vm_destroy(t->vm);
	clock_free(t->clock);
	loop_free(t->loop);
	mem_space_free(t->mem);
}

void tiny_vm_load64(struct tiny_vm *t, const void *code, size_t len)
{
	struct x86_state *s = malloc(sizeof(*s));
	struct err err;

	mem_write(t->mem, gpa(TINY_CODE), code, len);
	memset(s, 0, sizeof(*s));
	x86_state_reset(s, true, false);
	x86_entry_long64(s, TINY_CODE, 0, TINY_CR3, TINY_GDT, 31);
	s->gpr[X86_RSP] = TINY_STACK;
	if (engine_interp.set_state(t->vcpu, s, &err))
		abort();
	free(s);
}
