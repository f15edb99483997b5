/*
 * What is remembered of page walks: the soft TLB for data, the pages that code comes from, and both for address spaces
 * that a guest with PCIDs has left and may come back to. SDM vol. 3, 4.10.
 *
 * Entries for global pages stay when the address space changes. Those of the space that is left are put away if the
 * guest may ask for them again, so that the tables hold one space at a time and a lookup needs no tag for it.
 *
 * What is remembered of a region is the second level: it spares the walk, and reads the page table's entry again each
 * time, so that of these entries nothing can be stale that the first level does not have.
 */
#include <string.h>

#include "base/bytes.h"
#include "cpu/x86/paging.h"
#include "cpu/x86/tlb.h"
#include "cpu/x86/traces.h"

#define NO_PCID ~0u

static struct x86_tlb_entry *entry_at(struct x86_cpu *cpu, unsigned slot)
{
	return &cpu->tlbs[0][0] + slot;
}

static void clear_entry(struct x86_cpu *cpu, unsigned slot)
{
	struct x86_tlb_entry *e = entry_at(cpu, slot);

	e->rtag = e->wtag = x86_tlb_none(slot & (X86_TLB_SIZE - 1));
}

/* --- large pages --- */

static void note_large(struct x86_cpu *cpu, uint64_t lin, const struct x86_translation *t)
{
	struct x86_large *l = &(t->global ? cpu->large : cpu->space->large)[lin >> 63];

	if (t->page_mask == X86_PAGE_MASK)
		return;
	if (!l->span)
		l->base = lin;
	l->span |= t->page_mask;
	while ((l->base ^ lin) & ~l->span)
		l->span = l->span << 1 | 1;
}

static bool may_be_large(const struct x86_large large[2], uint64_t lin)
{
	const struct x86_large *l = &large[lin >> 63];

	return l->span && !((l->base ^ lin) & ~l->span);
}

/* --- code --- */

static void renew(struct x86_cpu *cpu, struct x86_fetches *f);

/* Numbers are used again: no target and no other space may still have one. */
static void start_again(struct x86_cpu *cpu)
{
	if (cpu->vm->translator)
		cpu->vm->translator->forget_jumps(cpu);
	cpu->epochs = 0;
	for (unsigned n = 0; n < X86_SPACES; n++)
		if (&cpu->spaces[n] != cpu->space)
			cpu->spaces[n].pcid = NO_PCID;
	renew(cpu, &cpu->space->user);
	renew(cpu, &cpu->kernel);
}

void x86_tlb_init(struct x86_cpu *cpu)
{
	for (unsigned n = 0; n < X86_TLB_VIEWS * X86_TLB_SIZE; n++)
		clear_entry(cpu, n);
	for (unsigned n = 0; n < X86_ITLB_SIZE; n++) {
		cpu->kernel.itlb[n].tag = X86_ITLB_NONE;
		for (unsigned s = 0; s < X86_SPACES; s++)
			cpu->spaces[s].user.itlb[n].tag = X86_ITLB_NONE;
	}
	cpu->space = &cpu->spaces[0];
}

/* Where its pages are has changed. */
static void moved(struct x86_cpu *cpu, const struct x86_fetches *f)
{
	const struct x86_translator *tr = cpu->vm->translator;

	if (tr && (f == &cpu->kernel || f == &cpu->space->user))
		tr->forget_guards(cpu, f != &cpu->kernel);
}

/* Nothing is known of it from now on. */
static void renew(struct x86_cpu *cpu, struct x86_fetches *f)
{
	for (unsigned n = 0; n < f->filled_count; n++)
		f->itlb[f->filled[n]].tag = X86_ITLB_NONE;
	f->filled_count = 0;
	if (f->count)
		memset(f->pages, 0, sizeof(f->pages));
	f->count = 0;
	f->local = f->global = false;
	moved(cpu, f);
	f->epoch = ++cpu->epochs;
	if (f->epoch >= 1u << (64 - X86_FETCH_EPOCH))
		start_again(cpu);
	x86_update_fetch(cpu);
}

/* Never 0, and the same for pages that are far apart only. */
static uint32_t page_name(uint64_t lin)
{
	return (uint32_t)(lin >> 12 ^ lin >> 44) | 1u << 31;
}

/* Where that is, or would be: there is always room. */
static uint32_t *page_place(struct x86_fetches *f, uint32_t name)
{
	uint32_t n = name * 0x9e3779b1u >> (32 - X86_FETCH_BITS);

	while (f->pages[n] && f->pages[n] != name)
		n = (n + 1) % X86_FETCH_PAGES;
	return &f->pages[n];
}

static bool holds_all(const struct x86_fetches *f)
{
	return f->count == X86_FETCH_PAGES / 4 * 3;
}

static void note_fetch(struct x86_fetches *f, uint64_t lin)
{
	uint32_t name = page_name(lin), *at;

	if (holds_all(f))
		return;
	at = page_place(f, name);
	f->count += !*at;
	*at = name;
}

static bool fetched_from(struct x86_fetches *f, uint64_t lin)
{
	return holds_all(f) || *page_place(f, page_name(lin));
}

const struct x86_itlb_entry *x86_itlb_fill(struct x86_cpu *cpu, uint64_t lin)
{
	struct x86_itlb_entry *e = x86_itlb_slot(cpu, lin);
	struct x86_fetches *f = x86_fetches(cpu);
	struct x86_translation t;
	struct mem_window w;

	if (e->tag == (lin & ~X86_PAGE_MASK))
		return e;
	if (!x86_canonical(lin) && cpu->code_bits == 64)
		x86_gp0(cpu);
	x86_translate(cpu, lin, X86_FETCH, cpu->cpl == 3, false, &t);
	note_large(cpu, lin, &t);
	f->local |= !t.global;
	f->global |= t.global;
	note_fetch(f, lin);
	if (e->tag == X86_ITLB_NONE)
		f->filled[f->filled_count++] = (uint16_t)(e - f->itlb);
	*e = (struct x86_itlb_entry){ .tag = lin & ~X86_PAGE_MASK,
				      .phys = t.phys & ~X86_PAGE_MASK,
				      .page_index = X86_NO_PAGE };
	if (mem_window(cpu->mem, gpa(t.phys), &w)) {
		e->host = w.host;
		e->page_index = w.page_index;
	}
	return e;
}

/* --- regions --- */

/* The page where this processor's own interrupt controller is, instead of memory; ~0: nowhere. */
static uint64_t apic_page(const struct x86_cpu *cpu)
{
	const struct intc *intc = &cpu->vm->cfg.intc;
	uint64_t base;

	if (!intc->ops || !intc->ops->rdmsr(intc->opaque, cpu->vcpu.index, X86_MSR_APIC_BASE, &base))
		return ~0ull;
	return base & PTE_ADDR;
}

/* RAM from the page at `phys` on that may be written; false: it is none. */
static bool find_ram(struct x86_cpu *cpu, uint64_t phys, struct x86_ram *ram)
{
	uint64_t apic = apic_page(cpu);
	struct mem_window w;

	if (!mem_window(cpu->mem, gpa(phys), &w) || w.readonly)
		return false;
	*ram = (struct x86_ram){ w.base.v, w.size, w.host, w.flags };
	if (apic - ram->base < ram->size)
		ram->size = apic - ram->base;
	return ram->size;
}

/* A page that watches something is never in the TLB: while there may be some, no region is remembered. */
static bool watching(const struct x86_cpu *cpu)
{
	return cpu->s.dr7 & 0xff || (cpu->stops && cpu->stops->count);
}

/* What an entry of a page table has to be so that this view may read the page. SDM vol. 3, 4.6. */
static void note_entries(const struct x86_cpu *cpu, enum x86_tlb_view view, uint64_t upper, struct x86_region *r)
{
	r->mask = PTE_P | PTE_A | x86_pte_reserved(cpu);
	r->value = PTE_P | PTE_A | PTE_W | PTE_D;
	if (cpu->s.cr4 & X86_CR4_PKE)
		r->mask |= 15ull << PTE_KEY;
	if (view == X86_TLB_USER) {
		r->mask |= PTE_U;
		r->value |= PTE_U;
	} else if (view == X86_TLB_SUPER && upper & PTE_U) {
		r->mask |= PTE_U;
	}
	r->writable = upper & PTE_W;
	r->global = cpu->s.cr4 & X86_CR4_PGE;
}

static void note_region(struct x86_cpu *cpu, enum x86_tlb_view view, uint64_t lin, const struct x86_translation *t)
{
	struct x86_region *r = x86_region_slot(cpu, view, lin);
	struct x86_ram ram, *page = &cpu->ram[t->phys >> 32 != 0];

	/* Of keys only number 0 is looked at there, and it has to permit everything. */
	if (!(cpu->s.efer & X86_EFER_LMA) || watching(cpu) || t->keyed || (cpu->s.cr4 & X86_CR4_PKE && cpu->s.pkru & 3))
		return;
	r->epoch = 0;
	if (t->page_mask != X86_PAGE_MASK) {
		uint64_t at = t->phys & ~X86_PAGE_MASK & ~X86_REGION_MASK;

		if (!find_ram(cpu, at, &ram) || ram.size <= X86_REGION_MASK)
			return;
		r->table = NULL;
		r->phys = ram.base;
		r->host = ram.host;
		r->flags = ram.flags;
		r->writable = t->writable;
		r->global = t->global;
	} else {
		if (!find_ram(cpu, t->entry_at, &ram))
			return;
		r->table = (const uint64_t *)(const void *)ram.host;
		note_entries(cpu, view, t->upper, r);
		if (t->phys - page->base >= page->size && find_ram(cpu, t->phys, &ram))
			*page = ram;
	}
	r->tag = lin & ~X86_REGION_MASK;
	r->epoch = cpu->space->epoch;
}

/* --- data --- */

static void note_key(struct x86_cpu *cpu, unsigned slot)
{
	if (cpu->tlb_notes[slot] & X86_TLB_IN_KEYED)
		return;
	cpu->tlb_notes[slot] |= X86_TLB_IN_KEYED;
	cpu->tlb_keyed.slot[cpu->tlb_keyed.count++] = (uint16_t)slot;
}

struct x86_tlb_entry *x86_tlb_fill(struct x86_cpu *cpu, enum x86_tlb_view view, uint64_t lin, enum x86_access a,
				   uint64_t *phys)
{
	struct x86_tlb_entry *e = x86_tlb_refill(cpu, view, lin, a == X86_WRITE);
	unsigned slot = (unsigned)(x86_tlb_slot(cpu->tlbs[view], lin) - entry_at(cpu, 0));
	struct x86_translation t;
	struct mem_window w;
	uint64_t page = lin & ~X86_PAGE_MASK;
	uint32_t offset;

	if (e) {
		*phys = cpu->tlb_phys[slot] | (lin & X86_PAGE_MASK);
		return e;
	}
	x86_translate(cpu, lin, a, view == X86_TLB_USER, view == X86_TLB_SUPER_AC, &t);
	*phys = t.phys;
	if (cpu->vm->cfg.intc.ops &&
	    cpu->vm->cfg.intc.ops->mmio_hit(cpu->vm->cfg.intc.opaque, cpu->vcpu.index, t.phys, &offset))
		return NULL;
	if (!mem_window(cpu->mem, gpa(t.phys), &w) || (a == X86_WRITE && w.readonly) ||
	    x86_debug_page_watched(cpu, page) || x86_stops_page_watched(cpu, page))
		return NULL;
	note_large(cpu, lin, &t);
	note_region(cpu, view, lin, &t);
	x86_tlb_note(cpu, slot, t.global);
	if (t.keyed)
		note_key(cpu, slot);
	e = entry_at(cpu, slot);
	x86_tlb_put(cpu, e, lin, t.writable && !w.readonly,
		    &(struct x86_ram){ .base = w.base.v, .host = w.host, .flags = w.flags });
	return e;
}

/* --- address spaces --- */

/* The entries of the current space leave the tables, and go to `s` unless that is NULL. */
static void take_local(struct x86_cpu *cpu, struct x86_space *s)
{
	unsigned count = 0;

	for (unsigned n = 0; n < cpu->tlb_local.count; n++) {
		unsigned slot = cpu->tlb_local.slot[n];

		if (cpu->tlb_notes[slot] & X86_TLB_IS_LOCAL) {
			if (s && count < X86_SPACE_ENTRIES && !(cpu->tlb_notes[slot] & X86_TLB_IN_KEYED))
				s->entries[count++] = (struct x86_put_away){ *entry_at(cpu, slot), cpu->tlb_phys[slot],
									     (uint16_t)slot };
			clear_entry(cpu, slot);
		}
		cpu->tlb_notes[slot] &= X86_TLB_IN_GLOBAL | X86_TLB_IN_KEYED;
	}
	cpu->tlb_local.count = 0;
	if (s)
		s->count = count;
}

static void drop_global(struct x86_cpu *cpu)
{
	for (unsigned n = 0; n < cpu->tlb_global.count; n++) {
		clear_entry(cpu, cpu->tlb_global.slot[n]);
		cpu->tlb_notes[cpu->tlb_global.slot[n]] &= (uint8_t)~X86_TLB_IN_GLOBAL;
	}
	cpu->tlb_global.count = 0;
}

/* Those that a protection key was asked for; none is put away. */
static void drop_keyed(struct x86_cpu *cpu)
{
	for (unsigned n = 0; n < cpu->tlb_keyed.count; n++) {
		clear_entry(cpu, cpu->tlb_keyed.slot[n]);
		cpu->tlb_notes[cpu->tlb_keyed.slot[n]] &= (uint8_t)~X86_TLB_IN_KEYED;
	}
	cpu->tlb_keyed.count = 0;
}

static void bring_back(struct x86_cpu *cpu, const struct x86_space *s)
{
	for (unsigned n = 0; n < s->count; n++) {
		const struct x86_put_away *p = &s->entries[n];

		*entry_at(cpu, p->slot) = p->entry;
		cpu->tlb_phys[p->slot] = p->phys;
		x86_tlb_note(cpu, p->slot, false);
	}
}

static struct x86_space *space_of(struct x86_cpu *cpu, unsigned pcid)
{
	for (unsigned n = 0; n < X86_SPACES; n++)
		if (cpu->spaces[n].pcid == pcid)
			return &cpu->spaces[n];
	return NULL;
}

/* It begins with nothing. */
static void empty(struct x86_cpu *cpu, struct x86_space *s)
{
	s->count = 0;
	memset(s->large, 0, sizeof(s->large));
	s->epoch = ++cpu->region_epochs;
	renew(cpu, &s->user);
}

void x86_tlb_flush(struct x86_cpu *cpu)
{
	stat_add(&cpu->flushes, 1);
	take_local(cpu, NULL);
	drop_global(cpu);
	memset(cpu->large, 0, sizeof(cpu->large));
	for (unsigned n = 0; n < X86_SPACES; n++)
		cpu->spaces[n].pcid = NO_PCID;
	cpu->space = &cpu->spaces[0];
	cpu->space->pcid = x86_pcid(cpu);
	empty(cpu, cpu->space);
	renew(cpu, &cpu->kernel);
}

void x86_tlb_keys_changed(struct x86_cpu *cpu, uint32_t changed)
{
	/* What key 0 permits is in most entries, and in regions. */
	if (changed & 3)
		x86_tlb_flush(cpu);
	drop_keyed(cpu);
}

void x86_tlb_forget_ram(struct x86_cpu *cpu)
{
	cpu->tables.size = 0;
	memset(cpu->ram, 0, sizeof(cpu->ram));
	x86_tlb_flush(cpu);
}

void x86_remapped(struct engine_vm *v, struct vcpu *self)
{
	struct interp_vm *vm = (struct interp_vm *)v;

	for (unsigned n = 0; n < vm->cfg.cpus; n++) {
		if (!vm->cpus[n] || &vm->cpus[n]->vcpu == self)
			continue;
		atomic_store(&vm->cpus[n]->remapped, true);
		atomic_fetch_or(&vm->cpus[n]->vcpu.events, VCPU_EV_PRIVATE);
	}
	if (!self)
		return;
	x86_tlb_forget_ram(x86_cpu_of(self));
	/* The next instruction is one of what is there now. */
	x86_trace_break(x86_cpu_of(self));
}

void x86_tlb_flush_space(struct x86_cpu *cpu, unsigned pcid)
{
	struct x86_space *s = space_of(cpu, pcid);

	if (s && s != cpu->space)
		s->pcid = NO_PCID;
	if (s != cpu->space)
		return;
	take_local(cpu, NULL);
	empty(cpu, s);
	if (cpu->kernel.local)
		renew(cpu, &cpu->kernel);
}

void x86_tlb_switch(struct x86_cpu *cpu, unsigned to, bool keep)
{
	struct x86_space *s = space_of(cpu, to);

	stat_add(&cpu->switches, 1);
	if (s == cpu->space) {
		if (!keep)
			x86_tlb_flush_space(cpu, to);
		return;
	}
	take_local(cpu, cpu->space);
	if (!s) {
		do
			s = &cpu->spaces[cpu->next_space++ % X86_SPACES];
		while (s == cpu->space);
		s->pcid = to;
		keep = false;
	}
	cpu->space = s;
	moved(cpu, &s->user);
	if (!keep)
		empty(cpu, s);
	bring_back(cpu, s);
	if (cpu->kernel.local)
		renew(cpu, &cpu->kernel);
	x86_update_fetch(cpu);
}

void x86_tlb_flush_page(struct x86_cpu *cpu, uint64_t lin)
{
	uint64_t page = lin & ~X86_PAGE_MASK;

	if (may_be_large(cpu->large, lin)) {
		x86_tlb_flush(cpu);
		return;
	}
	if (may_be_large(cpu->space->large, lin))
		x86_tlb_flush_space(cpu, cpu->space->pcid);
	/* Upper levels may have changed for other pages than this one: SDM vol. 3, 4.10.4.1. */
	cpu->space->epoch = ++cpu->region_epochs;
	for (unsigned v = 0; v < X86_TLB_VIEWS; v++) {
		struct x86_tlb_entry *e = x86_tlb_slot(cpu->tlbs[v], page);

		if (e->rtag == page || e->wtag == page)
			clear_entry(cpu, (unsigned)(e - entry_at(cpu, 0)));
	}
	/* Of other spaces only what is global. */
	for (unsigned n = 0; n < X86_SPACES; n++) {
		struct x86_space *s = &cpu->spaces[n];

		if (s->pcid != NO_PCID && (s == cpu->space || s->user.global) && fetched_from(&s->user, lin))
			renew(cpu, &s->user);
	}
	if (fetched_from(&cpu->kernel, lin))
		renew(cpu, &cpu->kernel);
}
