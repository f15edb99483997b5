/* The monitor's `info` about processors: registers, page tables, local APICs. */
#include <inttypes.h>
#include <string.h>

#include "cpu/inspect.h"
#include "vm/hmp.h"
#include "vm/impl.h"

static const struct inspect_isa *isa(const struct hmp *h)
{
	return h->vm->engine->debug_isa->inspect;
}

/* --- registers --- */

static void print_registers(struct hmp *h, unsigned n)
{
	const void *s = hmp_state_of(h, n);

	fprintf(h->out, "\nCPU#%u\n", n);
	if (s)
		isa(h)->print(s, h->out);
}

static void registers(struct hmp *h, const struct hmp_args *a)
{
	if (!a->arg[0].given && a->arg[1].given && (a->arg[1].n < 0 || a->arg[1].n >= h->vm->cpus)) {
		fprintf(h->out, "CPU#%" PRId64 " not available\n", a->arg[1].n);
		return;
	}
	for (unsigned n = 0; n < h->vm->cpus; n++)
		if (a->arg[0].given || n == (a->arg[1].given ? (uint64_t)a->arg[1].n : h->cpu))
			print_registers(h, n);
}

static void cpus(struct hmp *h, const struct hmp_args *a)
{
	for (unsigned n = 0; n < h->vm->cpus; n++)
		fprintf(h->out, "%c CPU #%u: thread_id=%d\n", n == h->cpu ? '*' : ' ', n, h->vm->cpu[n].tid);
}

/* --- page tables --- */

static bool tlb_page(void *opaque, const struct inspect_page *p)
{
	struct hmp *h = opaque;

	isa(h)->print_page(p, h->out);
	return !hmp_full(h);
}

static void each_page(struct hmp *h, bool (*page)(void *opaque, const struct inspect_page *p), void *opaque)
{
	const void *s = hmp_state(h);

	if (s && !isa(h)->pages(s, h->vm->mem, page, opaque))
		fprintf(h->out, "PG disabled\n");
}

static void tlb(struct hmp *h, const struct hmp_args *a)
{
	each_page(h, tlb_page, h);
}

/* Pages beside each other with the same rights. */
struct range {
	struct hmp *h;
	bool any;
	uint64_t begin, end;
	bool user, writable;
};

static void print_range(struct range *r)
{
	if (r->any)
		fprintf(r->h->out, "%016" PRIx64 "-%016" PRIx64 " %016" PRIx64 " %cr%c\n", r->begin, r->end,
			r->end - r->begin, r->user ? 'u' : '-', r->writable ? 'w' : '-');
	r->any = false;
}

static bool mem_page(void *opaque, const struct inspect_page *p)
{
	struct range *r = opaque;

	if (!r->any || p->lin != r->end || p->user != r->user || p->writable != r->writable) {
		print_range(r);
		*r = (struct range){ r->h, true, p->lin, p->lin, p->user, p->writable };
	}
	r->end = p->lin + p->size;
	return !hmp_full(r->h);
}

static void mem(struct hmp *h, const struct hmp_args *a)
{
	struct range r = { .h = h };

	each_page(h, mem_page, &r);
	print_range(&r);
}

/* --- interrupt controllers --- */

/* They are looked at while no processor changes them. */
static void still(struct hmp *h, bool begin)
{
	if (h->vm->state == VM_RUNNING)
		(begin ? cpus_pause : cpus_resume)(h->vm);
}

static void pic(struct hmp *h, const struct hmp_args *a)
{
	still(h, true);
	irqchip_print(h->vm->chip, h->out);
	still(h, false);
}

static void irq(struct hmp *h, const struct hmp_args *a)
{
	irqchip_print_counts(h->vm->chip, h->out);
}

static void lapic(struct hmp *h, const struct hmp_args *a)
{
	if (a->arg[0].given && (a->arg[0].n < 0 || a->arg[0].n >= h->vm->cpus)) {
		fprintf(h->out, "No CPU with APIC ID %" PRId64 " found\n", a->arg[0].n);
		return;
	}
	still(h, true);
	irqchip_print_lapic(h->vm->chip, a->arg[0].given ? (unsigned)a->arg[0].n : h->cpu, h->out);
	still(h, false);
}

const struct hmp_command hmp_info_cpu_commands[] = {
	{ "cpus", "", "", "show infos for each CPU", cpus },
	{ "irq", "", "", "show the interrupts statistics", irq },
	{ "lapic", "id:n?", "[apic-id]", "show local apic state", lapic },
	{ "mem", "", "", "show the active virtual memory mappings", mem },
	{ "pic", "", "", "show PIC state", pic },
	{ "registers", "all:-a vcpu:n?", "[-a|vcpu]", "show the cpu registers (-a: of all cpus)", registers },
	{ "tlb", "", "", "show virtual to physical memory mappings", tlb },
	{ 0 },
};
