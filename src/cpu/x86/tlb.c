/*
 * What is remembered of page walks: the soft TLB for data, the pages that code comes from, and both for address spaces
 * that a guest with PCIDs has left and may come back to. SDM vol. 3, 4.10.
 *
 * Entries for global pages stay when the address space changes. Those of the space that is left are put away if the
 * guest may ask for them again, so that the tables hold one space at a time and a lookup needs no tag for it.
 */
#include <string.h>

#include "base/bytes.h"
#include "cpu/x86/paging.h"
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

/* tlb_notes[] */
#define IN_LOCAL  1u /* the list, */
#define IN_GLOBAL 2u
#define IS_LOCAL  4u /* the entry */

static void list(struct x86_slots *l, unsigned slot)
{
	l->slot[l->count++] = (uint16_t)slot;
}

static void note_filled(struct x86_cpu *cpu, unsigned slot, bool global)
{
	uint8_t *n = &cpu->tlb_notes[slot];

	if (global) {
		if (!(*n & IN_GLOBAL))
			list(&cpu->tlb_global, slot);
		*n = (*n & IN_LOCAL) | IN_GLOBAL;
	} else {
		if (!(*n & IN_LOCAL))
			list(&cpu->tlb_local, slot);
		*n |= IN_LOCAL | IS_LOCAL;
	}
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

/* Nothing is known of it from now on. */
static void renew(struct x86_cpu *cpu, struct x86_fetches *f)
{
	for (unsigned n = 0; n < X86_ITLB_SIZE; n++)
		f->itlb[n].tag = X86_ITLB_NONE;
	memset(f->pages, 0, sizeof(f->pages));
	f->local = false;
	f->epoch = ++cpu->epochs;
	if (f->epoch >= 1u << (64 - X86_FETCH_EPOCH))
		start_again(cpu);
	x86_update_fetch(cpu);
}

static uint64_t *page_word(struct x86_fetches *f, uint64_t lin)
{
	return &f->pages[lin >> 18 & (ARRAY_LEN(f->pages) - 1)];
}

static uint64_t page_bit(uint64_t lin)
{
	return 1ull << (lin >> 12 & 63);
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
	*page_word(f, lin) |= page_bit(lin);
	*e = (struct x86_itlb_entry){ .tag = lin & ~X86_PAGE_MASK, .phys = t.phys & ~X86_PAGE_MASK };
	if (mem_window(cpu->mem, gpa(t.phys), &w)) {
		e->host = w.host;
		e->page_index = w.page_index;
	}
	return e;
}

/* --- data --- */

struct x86_tlb_entry *x86_tlb_fill(struct x86_cpu *cpu, enum x86_tlb_view view, uint64_t lin, enum x86_access a,
				   uint64_t *phys)
{
	struct x86_tlb_entry *e = x86_tlb_slot(cpu->tlbs[view], lin);
	unsigned slot = (unsigned)(e - entry_at(cpu, 0));
	struct x86_translation t;
	struct mem_window w;
	uint64_t page = lin & ~X86_PAGE_MASK;
	uint32_t offset;

	x86_translate(cpu, lin, a, view == X86_TLB_USER, view == X86_TLB_SUPER_AC, &t);
	*phys = t.phys;
	if (cpu->vm->cfg.intc.ops &&
	    cpu->vm->cfg.intc.ops->mmio_hit(cpu->vm->cfg.intc.opaque, cpu->vcpu.index, t.phys, &offset))
		return NULL;
	if (!mem_window(cpu->mem, gpa(t.phys), &w) || (a == X86_WRITE && w.readonly) ||
	    x86_debug_page_watched(cpu, page) || x86_stops_page_watched(cpu, page))
		return NULL;
	note_large(cpu, lin, &t);
	note_filled(cpu, slot, t.global);
	*e = (struct x86_tlb_entry){
		.rtag = page,
		.wtag = t.writable && !w.readonly ? page : x86_tlb_none(lin >> 12 & (X86_TLB_SIZE - 1)),
		.host = w.host,
		.flags = w.flags,
	};
	cpu->tlb_phys[slot] = w.base.v;
	return e;
}

/* --- address spaces --- */

/* The entries of the current space leave the tables, and go to `s` unless that is NULL. */
static void take_local(struct x86_cpu *cpu, struct x86_space *s)
{
	unsigned count = 0;

	for (unsigned n = 0; n < cpu->tlb_local.count; n++) {
		unsigned slot = cpu->tlb_local.slot[n];

		if (cpu->tlb_notes[slot] & IS_LOCAL) {
			if (s && count < X86_SPACE_ENTRIES)
				s->entries[count++] = (struct x86_put_away){ *entry_at(cpu, slot), cpu->tlb_phys[slot],
									     (uint16_t)slot };
			clear_entry(cpu, slot);
		}
		cpu->tlb_notes[slot] &= IN_GLOBAL;
	}
	cpu->tlb_local.count = 0;
	if (s)
		s->count = count;
}

static void drop_global(struct x86_cpu *cpu)
{
	for (unsigned n = 0; n < cpu->tlb_global.count; n++) {
		clear_entry(cpu, cpu->tlb_global.slot[n]);
		cpu->tlb_notes[cpu->tlb_global.slot[n]] &= (uint8_t)~IN_GLOBAL;
	}
	cpu->tlb_global.count = 0;
}

static void bring_back(struct x86_cpu *cpu, const struct x86_space *s)
{
	for (unsigned n = 0; n < s->count; n++) {
		const struct x86_put_away *p = &s->entries[n];

		*entry_at(cpu, p->slot) = p->entry;
		cpu->tlb_phys[p->slot] = p->phys;
		note_filled(cpu, p->slot, false);
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
	if (may_be_large(cpu->space->large, lin)) {
		x86_tlb_flush_space(cpu, cpu->space->pcid);
		return;
	}
	for (unsigned v = 0; v < X86_TLB_VIEWS; v++) {
		struct x86_tlb_entry *e = x86_tlb_slot(cpu->tlbs[v], page);

		if (e->rtag == page || e->wtag == page)
			clear_entry(cpu, (unsigned)(e - entry_at(cpu, 0)));
	}
	if (*page_word(&cpu->space->user, lin) & page_bit(lin))
		renew(cpu, &cpu->space->user);
	if (*page_word(&cpu->kernel, lin) & page_bit(lin))
		renew(cpu, &cpu->kernel);
}
