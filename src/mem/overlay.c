/*
 * What a chipset puts over parts of a slot: the same RAM without writes, a ROM, nothing. Only modes change while the
 * machine runs, a byte each, so that lookups need no lock; a window never reaches over an edge.
 */
#include <string.h>

#include "base/bytes.h"
#include "base/shared.h"
#include "mem/slots.h"

/* `o` as a part of `slot` from `at` on, which cannot be written. */
static struct mem_slot shown(const struct mem_overlay *o, const struct mem_slot *slot, uint64_t at)
{
	struct mem_slot part = *slot;
	uint64_t offset = at - slot->base;

	part.base = o->base;
	part.size = o->size;
	part.host += offset;
	part.flags += offset >> MEM_PAGE_SHIFT;
	part.first_page += offset >> MEM_PAGE_SHIFT;
	part.readonly = true;
	part.cut = part.cut_end = 0;
	part.of = slot;
	part.of_page = offset >> MEM_PAGE_SHIFT;
	return part;
}

static struct mem_slot *whole(struct mem_space *s, uint64_t at, uint64_t size)
{
	struct mem_slot *slot = mem_slot_at(s, at);

	return slot && !slot->of && size <= slot->base + slot->size - at ? slot : NULL;
}

int mem_add_overlay(struct mem_space *s, const struct mem_overlay_config *c, struct err *err)
{
	struct mem_overlay *o = &s->overlays[s->overlay_count];
	struct mem_slot *below = whole(s, c->base.v, c->size), *rom = c->has_rom ? whole(s, c->rom.v, c->size) : NULL;

	if (s->below || s->overlay_count == MEM_OVERLAYS_MAX)
		return err_set(err, "memory %s: no room for another overlay", c->name);
	if (!c->size || (c->base.v | c->size | (c->has_rom ? c->rom.v : 0)) % MEM_PAGE_SIZE)
		return err_set(err, "memory %s: base and size must be whole pages", c->name);
	if (!below || (c->has_rom && !rom))
		return err_set(err, "memory %s is not over memory", c->name);
	for (unsigned n = 0; n < s->overlay_count; n++)
		if (c->base.v < s->overlays[n].base + s->overlays[n].size && s->overlays[n].base < c->base.v + c->size)
			return err_set(err, "memory %s overlaps another overlay", c->name);
	*o = (struct mem_overlay){ .base = c->base.v, .size = c->size, .below = below };
	o->readonly = shown(o, below, o->base);
	if (rom)
		o->rom = shown(o, rom, c->rom.v);
	if (below->cut == below->cut_end)
		below->cut = o->base;
	below->cut = o->base < below->cut ? o->base : below->cut;
	below->cut_end = o->base + o->size > below->cut_end ? o->base + o->size : below->cut_end;
	return (int)s->overlay_count++;
}

void mem_overlay_set(struct mem_space *s, unsigned n, enum mem_overlay_mode mode)
{
	struct mem_space *root = mem_root(s);
	struct mem_overlay *o = &root->overlays[n];

	if (n >= root->overlay_count || o->mode[s != root] == mode)
		return;
	o->mode[s != root] = (uint8_t)mode;
	/* Hardware that logs by the address loses what it has of this one. */
	if (root->logging)
		mem_slot_written(root, o->below, o->base - o->below->base, o->size);
}

struct mem_slot *mem_slot_shown(struct mem_space *s, struct mem_slot *slot, uint64_t at)
{
	struct mem_space *root = mem_root(s);

	for (unsigned n = 0; n < root->overlay_count; n++) {
		struct mem_overlay *o = &root->overlays[n];
		uint8_t mode = o->mode[s != root];

		if (at - o->base >= o->size)
			continue;
		switch (mode) {
		case MEM_OVERLAY_NONE:
			return slot;
		case MEM_OVERLAY_READONLY:
			return &o->readonly;
		case MEM_OVERLAY_ROM:
			return o->rom.size ? &o->rom : NULL;
		default:
			return NULL;
		}
	}
	return slot;
}

uint64_t mem_overlay_edge(const struct mem_space *root, uint64_t at, uint64_t end)
{
	for (unsigned n = 0; n < root->overlay_count; n++) {
		uint64_t base = root->overlays[n].base, edge = base > at ? base : base + root->overlays[n].size;

		if (edge > at && edge < end)
			end = edge;
	}
	return end;
}

static struct mem_overlay *overlay_of(struct mem_space *root, uint64_t at, size_t len)
{
	for (unsigned n = 0; n < root->overlay_count; n++) {
		uint64_t offset = at - root->overlays[n].base, size = root->overlays[n].size;

		if (offset < size && len <= size - offset)
			return &root->overlays[n];
	}
	return NULL;
}

bool mem_overlay_read(struct mem_space *s, gpa_t at, void *buf, size_t len)
{
	const struct mem_overlay *o = overlay_of(mem_root(s), at.v, len);

	if (o)
		shared_copy(buf, o->below->host + (at.v - o->below->base), len);
	return o;
}

bool mem_overlay_write(struct mem_space *s, gpa_t at, const void *buf, size_t len)
{
	struct mem_overlay *o = overlay_of(mem_root(s), at.v, len);

	if (o)
		mem_slot_store(mem_root(s), o->below, at.v, buf, len);
	return o;
}

/* --- pieces --- */

/* The end of the piece that begins at `at` in `slot`. */
static uint64_t piece_end(const struct mem_space *s, const struct mem_slot *slot, uint64_t at)
{
	return mem_overlay_edge(s, at, slot->base + slot->size);
}

/* Those that lie where they are: what moves has a piece of its own. */
static bool in_pieces(const struct mem_space *s, unsigned slot)
{
	return s->slots[slot].space == s && !s->slots[slot].parked;
}

unsigned mem_piece_count(const struct mem_space *s)
{
	unsigned count = s->movable_count;

	for (unsigned n = 0; n < s->count; n++)
		for (uint64_t at = s->slots[n].base; in_pieces(s, n) && at < s->slots[n].base + s->slots[n].size;
		     at = piece_end(s, &s->slots[n], at))
			count++;
	return count;
}

bool mem_piece_window(struct mem_space *s, unsigned piece, struct mem_window *w)
{
	for (unsigned n = 0; n < s->count; n++)
		for (uint64_t at = s->slots[n].base; in_pieces(s, n) && at < s->slots[n].base + s->slots[n].size;
		     at = piece_end(s, &s->slots[n], at))
			if (!piece--)
				return mem_window(s, gpa(at), w);
	if (piece >= s->movable_count)
		return false;
	const struct mem_slot *here = atomic_load(&s->movables[piece].shown);
	return here && mem_window(s, gpa(here->base), w);
}
