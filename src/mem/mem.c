/*
 * RAM slots, copies and DMA mapping. The slot table only grows, and only with the world stopped,
 * so readers need no lock.
 */
#include "mem/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/huge.h"
#include "base/shared.h"
#include "mem/slots.h"

struct mem_space *mem_space_new(void)
{
	struct mem_space *s = calloc(1, sizeof(*s));

	if (s)
		mem_fence_init();
	return s;
}

struct mem_space *mem_space_over(struct mem_space *below)
{
	struct mem_space *s = calloc(1, sizeof(*s));

	if (s)
		s->below = below;
	return s;
}

void mem_space_free(struct mem_space *s)
{
	if (!s)
		return;
	mem_movables_free(s);
	for (unsigned i = 0; i < s->count; i++) {
		struct mem_slot *slot = &s->slots[i];

		munmap(slot->host, slot->size);
		munmap(slot->flags, slot->size >> MEM_PAGE_SHIFT);
		munmap(slot->dirty, mem_dirty_bytes(slot));
		if (slot->memfd >= 0)
			close(slot->memfd);
		free(slot->name);
	}
	free(s);
}

/* A mapping that THP can back all of. */
static void *map_aligned(const struct mem_slot *slot, int prot, int flags, int fd, off_t offset)
{
	void *area = huge_reserve(slot->size);

	if (!area)
		return NULL;
	if (mmap(area, slot->size, prot, flags | MAP_FIXED, fd, offset) == MAP_FAILED) {
		munmap(area, slot->size);
		return NULL;
	}
	return area;
}

/* As if the guest had written to each page. */
static int touch_all(struct mem_slot *slot, const struct mem_slot_config *c, struct err *err)
{
	if (!madvise(slot->host, slot->size, MADV_POPULATE_WRITE))
		return 0;
	if (errno != EINVAL) /* Linux before 5.14 does not know it */
		return err_errno(err, errno, "memory %s: the host cannot give it all now", c->name);
	for (uint64_t at = 0; at < slot->size; at += MEM_PAGE_SIZE)
		__atomic_fetch_or(slot->host + at, 0, __ATOMIC_RELAXED);
	return 0;
}

static int map_backing(struct mem_slot *slot, const struct mem_slot_config *c, struct err *err)
{
	const int rw = PROT_READ | PROT_WRITE;

	switch (c->backing) {
	case MEM_ANON:
		slot->host = map_aligned(slot, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		break;
	case MEM_MEMFD:
		slot->memfd = memfd_create(c->name, MFD_CLOEXEC);
		if (slot->memfd >= 0 && !ftruncate(slot->memfd, slot->size))
			slot->host = map_aligned(slot, rw, MAP_SHARED | MAP_NORESERVE, slot->memfd, 0);
		break;
	case MEM_FILE:
		/* A huge page that the host has not when it is touched would be a signal. */
		slot->host =
			map_aligned(slot, rw, (c->shared ? MAP_SHARED : MAP_PRIVATE) | (c->hugetlb ? 0 : MAP_NORESERVE),
				    c->fd, c->fd_offset);
		if (slot->host && c->shared)
			slot->memfd = fcntl(c->fd, F_DUPFD_CLOEXEC, 3);
		slot->memfd_offset = c->fd_offset;
		slot->hugetlb = c->hugetlb;
		break;
	}
	if (!slot->host)
		return err_errno(err, errno, "memory %s of %llu MiB", c->name, (unsigned long long)slot->size >> 20);
	/* A process that helps has nothing to do with the guest's memory. */
	madvise(slot->host, slot->size, MADV_DONTFORK);
	/* Advice only: without huge pages the guest is slower, not wrong. */
	if (c->backing != MEM_FILE || c->shared)
		madvise(slot->host, slot->size, MADV_HUGEPAGE);
	return c->prealloc ? touch_all(slot, c, err) : 0;
}

static void *map_table(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int mem_add_slot(struct mem_space *s, const struct mem_slot_config *c, struct err *err)
{
	struct mem_slot slot = { .base = c->base.v, .size = c->size, .readonly = c->readonly, .memfd = -1, .space = s };
	uint64_t end;

	if (!c->size || (c->base.v | c->size) % MEM_PAGE_SIZE || __builtin_add_overflow(c->base.v, c->size, &end))
		return err_set(err, "memory %s: base and size must be whole pages", c->name);
	s = mem_root(s);
	if (s->count == MEM_SLOTS_MAX)
		return err_set(err, "memory %s: more than %d slots", c->name, MEM_SLOTS_MAX);
	for (unsigned i = 0; i < s->count; i++)
		if (s->slots[i].space == slot.space && c->base.v < s->slots[i].base + s->slots[i].size &&
		    s->slots[i].base < end)
			return err_set(err, "memory %s overlaps %s", c->name, s->slots[i].name);
	slot.first_page = s->pages;
	slot.name = strdup(c->name);
	if (!slot.name || map_backing(&slot, c, err))
		goto fail;
	slot.flags = map_table(slot.size >> MEM_PAGE_SHIFT);
	slot.dirty = map_table(mem_dirty_bytes(&slot));
	if (!slot.flags || !slot.dirty) {
		err_errno(err, errno, "memory %s", c->name);
		goto fail;
	}
	/* Whoever follows the log has none of its pages. */
	for (uint64_t page = 0; s->logging && page < slot.size >> MEM_PAGE_SHIFT; page++)
		slot.dirty[page / 64] |= 1ull << page % 64;
	s->slots[s->count++] = slot;
	s->pages += slot.size >> MEM_PAGE_SHIFT;
	return 0;
fail:
	free(slot.name);
	if (slot.host)
		munmap(slot.host, slot.size);
	if (slot.memfd >= 0)
		close(slot.memfd);
	if (slot.flags)
		munmap(slot.flags, slot.size >> MEM_PAGE_SHIFT);
	return -1;
}

unsigned mem_slot_count(const struct mem_space *s)
{
	return s->below ? s->below->count : s->count;
}

uint64_t mem_ram_size(const struct mem_space *s)
{
	uint64_t total = 0;

	for (unsigned i = 0; i < s->count; i++)
		total += s->slots[i].readonly || s->slots[i].parked || s->slots[i].space != s ? 0 : s->slots[i].size;
	return total;
}

uint64_t mem_page_count(const struct mem_space *s)
{
	return s->below ? s->below->pages : s->pages;
}

struct mem_slot *mem_slot_at(struct mem_space *s, uint64_t at)
{
	struct mem_space *root = mem_root(s);
	struct mem_slot *found = NULL;

	for (unsigned i = 0; i < root->count; i++) {
		struct mem_slot *slot = &root->slots[i];

		if (at - slot->base >= slot->size || slot->parked)
			continue;
		if (slot->space == root)
			found = slot;
		else if (slot->space == s)
			return slot;
	}
	if (!found)
		return mem_movable_at(root, at);
	return at - found->cut < found->cut_end - found->cut ? mem_slot_shown(s, found, at) : found;
}

/* Where a look from `s` at the slot ends, from `at` on: at its end, or where another one lies over it. */
static uint64_t end_of(struct mem_space *s, const struct mem_slot *slot, uint64_t at)
{
	struct mem_space *root = mem_root(s);
	uint64_t end = mem_overlay_edge(root, at, slot->base + slot->size);

	for (unsigned i = 0; slot->space != s && i < root->count; i++)
		if (root->slots[i].space == s && root->slots[i].base > at && root->slots[i].base < end)
			end = root->slots[i].base;
	return end;
}

/* --- copies --- */

/* The bytes from `at` that one slot holds, at most `len`; 0 where there is none. */
static uint64_t span(struct mem_space *s, uint64_t at, uint64_t len, struct mem_slot **slot)
{
	uint64_t left;

	*slot = mem_slot_at(s, at);
	if (!*slot)
		return 0;
	left = end_of(s, *slot, at) - at;
	return len < left ? len : left;
}

static bool covered(struct mem_space *s, uint64_t at, uint64_t len, bool write)
{
	struct mem_slot *slot;
	uint64_t end;

	if (__builtin_add_overflow(at, len, &end))
		return false;
	while (len) {
		uint64_t n = span(s, at, len, &slot);

		if (!n || (write && slot->readonly))
			return false;
		at += n;
		len -= n;
	}
	return true;
}

/*
 * Aligned values of up to 8 bytes move as one relaxed atomic, so that a guest on another thread
 * never sees half of one.
 */
static void copy(void *to, const void *from, size_t len, const void *guest)
{
	if (len > 8 || !is_pow2(len) || ((uintptr_t)guest & (len - 1))) {
		shared_copy(to, from, len);
		return;
	}
	uint64_t v = 0;
	if (guest == from) {
		switch (len) {
		case 1:
			v = __atomic_load_n((const uint8_t *)from, __ATOMIC_RELAXED);
			break;
		case 2:
			v = htole16(__atomic_load_n((const uint16_t *)from, __ATOMIC_RELAXED));
			break;
		case 4:
			v = htole32(__atomic_load_n((const uint32_t *)from, __ATOMIC_RELAXED));
			break;
		default:
			v = htole64(__atomic_load_n((const uint64_t *)from, __ATOMIC_RELAXED));
			break;
		}
		v = htole64(v);
		memcpy(to, &v, len);
		return;
	}
	memcpy(&v, from, len);
	switch (len) {
	case 1:
		__atomic_store_n((uint8_t *)to, (uint8_t)v, __ATOMIC_RELAXED);
		break;
	case 2:
		__atomic_store_n((uint16_t *)to, (uint16_t)v, __ATOMIC_RELAXED);
		break;
	case 4:
		__atomic_store_n((uint32_t *)to, (uint32_t)v, __ATOMIC_RELAXED);
		break;
	default:
		__atomic_store_n((uint64_t *)to, v, __ATOMIC_RELAXED);
		break;
	}
}

bool mem_read(struct mem_space *s, gpa_t at, void *buf, size_t len)
{
	struct mem_slot *slot;

	if (!covered(s, at.v, len, false))
		return false;
	for (size_t done = 0, n; done < len; done += n) {
		n = span(s, at.v + done, len - done, &slot);
		const uint8_t *host = slot->host + (at.v + done - slot->base);
		copy((uint8_t *)buf + done, host, n, host);
	}
	return true;
}

void mem_slot_store(struct mem_space *root, struct mem_slot *slot, uint64_t at, const void *buf, size_t len)
{
	uint8_t *host = slot->host + (at - slot->base);

	copy(host, buf, len, host);
	mem_slot_written(root, slot, at - slot->base, len);
}

static void store(struct mem_space *s, uint64_t at, const void *buf, size_t len)
{
	struct mem_slot *slot;

	for (size_t done = 0, n; done < len; done += n) {
		n = span(s, at + done, len - done, &slot);
		uint8_t *host = slot->host + (at + done - slot->base);
		copy(host, (const uint8_t *)buf + done, n, host);
	}
	mem_written(s, gpa(at), len);
}

bool mem_write(struct mem_space *s, gpa_t at, const void *buf, size_t len)
{
	if (!covered(s, at.v, len, true))
		return false;
	store(s, at.v, buf, len);
	return true;
}

bool mem_load_rom(struct mem_space *s, gpa_t at, const void *buf, size_t len)
{
	if (!covered(s, at.v, len, false))
		return false;
	store(s, at.v, buf, len);
	return true;
}

bool mem_fill(struct mem_space *s, gpa_t at, uint8_t byte, uint64_t len)
{
	struct mem_slot *slot;

	if (!covered(s, at.v, len, true))
		return false;
	for (uint64_t done = 0, n; done < len; done += n) {
		n = span(s, at.v + done, len - done, &slot);
		shared_fill(slot->host + (at.v + done - slot->base), byte, n);
	}
	mem_written(s, at, len);
	return true;
}

/* --- DMA --- */

bool mem_dma_map(struct mem_space *s, gpa_t at, size_t len, enum mem_dir dir, struct mem_map *m)
{
	struct mem_slot *slot = mem_slot_at(s, at.v);

	if (!slot || len > end_of(s, slot, at.v) - at.v || (dir == MEM_FROM_DEVICE && slot->readonly))
		return false;
	*m = (struct mem_map){ slot->host + (at.v - slot->base), len, s, at, dir };
	return true;
}

void mem_dma_unmap(struct mem_map *m, size_t written)
{
	if (m->dir == MEM_FROM_DEVICE && written)
		mem_written(m->space, m->at, written < m->len ? written : m->len);
	m->host = NULL;
}

/* --- windows --- */

bool mem_address_of(const struct mem_space *s, const void *host, gpa_t *at)
{
	for (unsigned i = 0; i < s->count; i++) {
		uint64_t offset = (uintptr_t)host - (uintptr_t)s->slots[i].host;

		if (offset >= s->slots[i].size)
			continue;
		*at = gpa((s->slots[i].parked ? mem_movable_base(s, &s->slots[i]) : s->slots[i].base) + offset);
		return true;
	}
	return false;
}

static void fill_window(const struct mem_slot *slot, uint64_t offset, uint64_t end, struct mem_window *w)
{
	*w = (struct mem_window){
		.host = slot->host + offset,
		.base = gpa(slot->base + offset),
		.size = end - slot->base - offset,
		.readonly = slot->readonly,
		.flags = slot->flags + (offset >> MEM_PAGE_SHIFT),
		.page_index = slot->first_page + (offset >> MEM_PAGE_SHIFT),
		.space = slot->space,
	};
}

bool mem_window(struct mem_space *s, gpa_t at, struct mem_window *w)
{
	struct mem_slot *slot = mem_slot_at(s, at.v);

	if (!slot)
		return false;
	fill_window(slot, align_down(at.v - slot->base, MEM_PAGE_SIZE), end_of(s, slot, at.v), w);
	return true;
}

bool mem_slot_window(struct mem_space *s, unsigned i, struct mem_window *w, const char **name)
{
	const struct mem_slot *slot = &mem_root(s)->slots[i];

	if (i >= mem_slot_count(s))
		return false;
	fill_window(slot, 0, slot->base + slot->size, w);
	/* What moves is anywhere below 4 GiB. */
	if (slot->parked)
		w->base = gpa(0);
	if (name)
		*name = slot->name;
	return true;
}

void mem_discard(struct mem_space *s, gpa_t at, uint64_t len)
{
	struct mem_slot *slot = mem_slot_at(s, at.v);
	uint64_t from, to;

	if (!slot || slot->readonly || slot->hugetlb || len > end_of(s, slot, at.v) - at.v)
		return;
	from = align_up(at.v - slot->base, MEM_PAGE_SIZE);
	to = align_down(at.v - slot->base + len, MEM_PAGE_SIZE);
	if (from >= to)
		return;
	if (slot->memfd >= 0 ? !fallocate(slot->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					  (off_t)(slot->memfd_offset + from), (off_t)(to - from))
			     : !madvise(slot->host + from, to - from, MADV_DONTNEED))
		mem_written(s, gpa(slot->base + from), to - from);
}
