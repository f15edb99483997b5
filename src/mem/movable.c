/*
 * Memory that the guest moves: the frame buffer of a PCI function. A slot that lies nowhere by itself, and for each
 * place where it can be shown a pseudo-slot that never changes once it is made, so that lookups need no lock: only
 * which of them is shown changes.
 */
#include <stdlib.h>

#include "base/bytes.h"
#include "mem/slots.h"

/* Above all addresses of a guest; only the identity of the slot in a saved state. */
#define PARKED (1ull << 62)

int mem_add_movable(struct mem_space *s, const struct mem_slot_config *c, struct err *err)
{
	struct mem_movable *m = &s->movables[s->movable_count];
	struct mem_slot_config parked = *c;
	struct mem_slot *slot;

	if (s->below || s->movable_count == MEM_MOVABLES_MAX)
		return err_set(err, "memory %s: no room for another slot that moves", c->name);
	if (!is_pow2(c->size) || c->size < MEM_MOVABLE_MIN || c->size > MEM_MOVABLE_END)
		return err_set(err, "memory %s: the size of what moves is a power of two", c->name);
	parked.base = gpa(PARKED + s->movable_count * MEM_MOVABLE_END);
	if (mem_add_slot(s, &parked, err))
		return -1;
	slot = &s->slots[s->count - 1];
	slot->parked = true;
	slot->watched = calloc(1, mem_dirty_bytes(slot));
	m->at = calloc(MEM_MOVABLE_END / c->size, sizeof(*m->at));
	if (!m->at || !slot->watched)
		return err_set(err, "out of memory");
	for (size_t n = 0; n < mem_dirty_bytes(slot) / 8; n++)
		slot->watched[n] = ~0ull;
	m->slot = slot;
	return (int)s->movable_count++;
}

void mem_movables_free(struct mem_space *s)
{
	for (unsigned n = 0; n < s->movable_count; n++) {
		struct mem_movable *m = &s->movables[n];

		for (uint64_t k = 0; k < MEM_MOVABLE_END / m->slot->size; k++)
			free(m->at[k]);
		free(m->at);
		free(m->slot->watched);
	}
}

static bool over_a_slot(const struct mem_space *s, uint64_t base, uint64_t size)
{
	for (unsigned n = 0; n < s->count; n++)
		if (!s->slots[n].parked && base < s->slots[n].base + s->slots[n].size && s->slots[n].base < base + size)
			return true;
	return false;
}

/* What is shown at `base`; NULL: nothing, as there is something else, or no memory. */
static struct mem_slot *place(struct mem_space *s, struct mem_movable *m, uint64_t base)
{
	uint64_t n = base / m->slot->size;
	struct mem_slot *here;

	if (!base || base % m->slot->size || base >= MEM_MOVABLE_END || over_a_slot(s, base, m->slot->size))
		return NULL;
	if (m->at[n])
		return m->at[n];
	here = malloc(sizeof(*here));
	if (here) {
		*here = *m->slot;
		here->base = base;
		here->parked = false;
		here->of = m->slot;
		here->of_page = 0;
	}
	m->at[n] = here;
	return here;
}

bool mem_move(struct mem_space *s, unsigned n, uint64_t base)
{
	struct mem_movable *m = &s->movables[n];
	struct mem_slot *here;

	if (n >= s->movable_count)
		return false;
	here = place(s, m, base);
	if (here == atomic_load(&m->shown))
		return here;
	atomic_store(&m->shown, here);
	/* Hardware that logs by the address loses what it has of this one. */
	if (s->logging)
		mem_slot_written(s, m->slot, 0, m->slot->size);
	return here;
}

struct mem_slot *mem_movable_at(struct mem_space *root, uint64_t at)
{
	for (unsigned n = 0; n < root->movable_count; n++) {
		struct mem_slot *here = atomic_load(&root->movables[n].shown);

		if (here && at - here->base < here->size)
			return here;
	}
	return NULL;
}

uint64_t mem_movable_base(const struct mem_space *s, const struct mem_slot *slot)
{
	for (unsigned n = 0; n < s->movable_count; n++) {
		const struct mem_slot *here = atomic_load(&s->movables[n].shown);

		if (here && s->movables[n].slot == slot)
			return here->base;
	}
	return slot->base;
}

uint8_t *mem_movable_host(struct mem_space *s, unsigned n)
{
	return s->movables[n].slot->host;
}

void mem_movable_written(struct mem_space *s, unsigned n, uint64_t offset, uint64_t len)
{
	mem_slot_written(s, s->movables[n].slot, offset, len);
}

bool mem_movable_fetch(struct mem_space *s, unsigned n, uint64_t *bitmap)
{
	struct mem_slot *slot = s->movables[n].slot;
	bool any = false;

	for (size_t w = 0; w < mem_dirty_bytes(slot) / 8; w++) {
		uint64_t bits = atomic_load(&slot->watched[w]) ? atomic_exchange(&slot->watched[w], 0) : 0;

		bitmap[w] = bits;
		any |= bits != 0;
		for (; bits; bits &= bits - 1)
			atomic_fetch_or(&slot->flags[64 * w + (size_t)__builtin_ctzll(bits)], MEM_PAGE_CLEAN);
	}
	/* Stores that saw the page as dirty are in memory before the caller looks at it. */
	if (any)
		mem_fence_all();
	return any;
}
