/* The code cache: see cache.h. */
#include "cpu/jit/cache.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/shared.h"
#include "cpu/jit/jit.h"

#define BUCKETS (1u << 18)
#define PAGES	65536u /* chains of blocks by page */
/* A block never takes more. */
#define BLOCK_ROOM (64u << 10)

struct jit_cache {
	pthread_mutex_t lock;
	uint8_t *code; /* to write */
	uint8_t *data;
	size_t code_size, data_size;
	intptr_t rx_offset;
	size_t first, code_used, data_used;
	size_t data_before; /* the block that is being written */
	_Atomic unsigned flushes, changes;
	struct jit_thunks thunks;
	struct jit_cache_counts counts; /* under the lock */
	struct jit_block *_Atomic bucket[BUCKETS];
	struct jit_of_page *page[PAGES];
};

/* Two views of the same memory: one to write, one to execute. MAP_FAILED, and errno. */
static void *map_memfd(struct jit_cache *c)
{
	int fd = memfd_create("vireo-jit", MFD_CLOEXEC);
	void *rx = MAP_FAILED;

	if (fd < 0)
		return rx;
	if (!ftruncate(fd, (off_t)c->code_size))
		c->code = mmap(NULL, c->code_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (c->code != MAP_FAILED)
		rx = mmap(NULL, c->code_size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	close(fd);
	return rx;
}

/* The same of memory without a name, for which perf looks into its map. A mapping of nothing moved is a second one. */
static void *map_anonymous(struct jit_cache *c)
{
	void *rx = MAP_FAILED;

	c->code = mmap(NULL, c->code_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (c->code != MAP_FAILED)
		rx = mremap(c->code, 0, c->code_size, MREMAP_MAYMOVE);
	if (rx != MAP_FAILED && mprotect(rx, c->code_size, PROT_READ | PROT_EXEC)) {
		munmap(rx, c->code_size);
		rx = MAP_FAILED;
	}
	return rx;
}

static int map_code(struct jit_cache *c, bool anonymous, struct err *err)
{
	uint8_t *rx;

	c->code = MAP_FAILED;
	rx = anonymous ? map_anonymous(c) : map_memfd(c);
	if (rx == MAP_FAILED) {
		err_set(err, "no memory for translated code: %s", strerror(errno));
		if (c->code != MAP_FAILED)
			munmap(c->code, c->code_size);
		c->code = NULL;
		return -1;
	}
	c->rx_offset = rx - c->code;
	return 0;
}

struct jit_cache *jit_cache_new(size_t bytes, bool anonymous, struct err *err)
{
	struct jit_cache *c = calloc(1, sizeof(*c));
	struct emit e;

	if (!c) {
		err_set(err, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&c->lock, NULL);
	/* Code takes three and a half times what belongs to it; there is less of it when blocks have records. */
	c->code_size = bytes / 4 * 3 & ~(size_t)0xfff;
	c->data_size = bytes - c->code_size;
	c->data = mmap(NULL, c->data_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (c->data == MAP_FAILED || map_code(c, anonymous, err)) {
		if (c->data == MAP_FAILED)
			err_set(err, "out of memory");
		jit_cache_free(c);
		return NULL;
	}
	e = (struct emit){ .at = c->code, .end = c->code + c->code_size, .rx_offset = c->rx_offset };
	jit_thunks_make(&e, &c->thunks);
	c->first = c->code_used = (size_t)(e.at - c->code);
	return c;
}

void jit_cache_free(struct jit_cache *c)
{
	if (!c)
		return;
	if (c->code) {
		munmap(c->code + c->rx_offset, c->code_size);
		munmap(c->code, c->code_size);
	}
	if (c->data != MAP_FAILED)
		munmap(c->data, c->data_size);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

const struct jit_thunks *jit_cache_thunks(const struct jit_cache *c)
{
	return &c->thunks;
}

uintptr_t jit_cache_thunks_at(const struct jit_cache *c, size_t *len)
{
	*len = c->first;
	return (uintptr_t)c->code + (uintptr_t)c->rx_offset;
}

const struct jit_cache_counts *jit_cache_counts(const struct jit_cache *c)
{
	return &c->counts;
}

unsigned jit_cache_flushes(const struct jit_cache *c)
{
	return atomic_load(&c->flushes);
}

unsigned jit_cache_changes(const struct jit_cache *c)
{
	return atomic_load(&c->changes);
}

static unsigned hash(uint64_t place, uint64_t rip)
{
	uint64_t v = (place ^ rip >> 12) * 0x9e3779b97f4a7c15;

	return v >> (64 - 18);
}
_Static_assert(BUCKETS == 1u << 18, "the hash has 18 bits");

struct jit_block *jit_cache_find(struct jit_cache *c, uint64_t place, uint64_t second, uint64_t rip, uint32_t mode)
{
	struct jit_block *b = atomic_load_explicit(&c->bucket[hash(place, rip)], memory_order_acquire);

	for (; b; b = atomic_load_explicit(&b->next, memory_order_acquire))
		if (b->place == place && b->rip == rip && b->mode == mode &&
		    (b->second == JIT_ONE_PAGE || b->second == second) && !atomic_load(&b->stale))
			return b;
	return NULL;
}

static bool full(const struct jit_cache *c)
{
	return c->code_size - c->code_used < BLOCK_ROOM || c->data_size - c->data_used < BLOCK_ROOM;
}

bool jit_cache_is_full(struct jit_cache *c)
{
	bool is;

	pthread_mutex_lock(&c->lock);
	is = full(c);
	pthread_mutex_unlock(&c->lock);
	return is;
}

bool jit_cache_begin(struct jit_cache *c, struct emit *e)
{
	pthread_mutex_lock(&c->lock);
	if (full(c)) {
		pthread_mutex_unlock(&c->lock);
		return false;
	}
	c->data_before = c->data_used;
	e->at = c->code + c->code_used;
	e->end = e->at + BLOCK_ROOM;
	e->rx_offset = c->rx_offset;
	e->full = false;
	return true;
}

void *jit_cache_alloc(struct jit_cache *c, size_t bytes)
{
	void *p = c->data + c->data_used;

	bytes = (bytes + 7) & ~(size_t)7;
	if (c->data_size - c->data_used < bytes)
		return NULL;
	c->data_used += bytes;
	return memset(p, 0, bytes);
}

static void belongs(struct jit_cache *c, struct jit_block *b, struct jit_of_page *p)
{
	struct jit_of_page **page = &c->page[p->index % PAGES];

	p->block = b;
	p->next = *page;
	*page = p;
}

void jit_cache_end(struct jit_cache *c, const struct emit *e, struct jit_block *b)
{
	if (b) {
		struct jit_block *_Atomic *bucket = &c->bucket[hash(b->place, b->rip)];
		struct jit_block *next = atomic_load(bucket);

		/*
		 * Where code changes all the time the ones before it would make a long chain of stale blocks. Who is
		 * looking at one goes on from there: its memory stays what it is until the next flush.
		 */
		while (next && atomic_load(&next->stale))
			next = atomic_load(&next->next);
		stat_add(&c->counts.code, (size_t)(e->at - c->code) - c->code_used);
		stat_add(&c->counts.data, c->data_used - c->data_before);
		c->code_used = (size_t)(e->at - c->code);
		belongs(c, b, &b->pages[0]);
		if (b->second != JIT_ONE_PAGE)
			belongs(c, b, &b->pages[1]);
		shared_sent(c);
		atomic_store_explicit(&b->next, next, memory_order_relaxed);
		atomic_store_explicit(bucket, b, memory_order_release);
	}
	pthread_mutex_unlock(&c->lock);
}

void jit_cache_link(struct jit_cache *c, const struct jit_note *l, const struct jit_block *to)
{
	bool direct = to->second == JIT_ONE_PAGE;
	uintptr_t at = !direct ? c->thunks.link_to_rip[l->what] : l->what ? to->native : jit_block_memory(to);
	uintptr_t end = (uintptr_t)l - (direct ? l->back : 0);
	uint8_t *rel32 = (uint8_t *)(end - (uintptr_t)c->rx_offset) - 4;

	pthread_mutex_lock(&c->lock);
	atomic_store_explicit((_Atomic int32_t *)(void *)rel32, (int32_t)(at - end), memory_order_release);
	stat_add(&c->counts.links, 1);
	pthread_mutex_unlock(&c->lock);
}

/* The first instruction becomes a jump out. Processors see an aligned store of eight bytes as a whole. */
static void give_up(struct jit_cache *c, struct jit_block *b)
{
	uint8_t *entry = (uint8_t *)(b->native - (uintptr_t)c->rx_offset);
	uint64_t jump = 0xe9 | (uint64_t)(uint32_t)(b->out - EMIT_JMP_SIZE) << 8 | 0x909090ull << 40;

	if (atomic_exchange(&b->stale, true))
		return;
	atomic_store((_Atomic uint64_t *)(void *)entry, jump);
	stat_add(&c->counts.given_up, 1);
}

void jit_cache_drop(struct jit_cache *c, struct jit_block *b)
{
	pthread_mutex_lock(&c->lock);
	give_up(c, b);
	pthread_mutex_unlock(&c->lock);
}

/* Stale blocks leave the chains of their pages here, and that of their hash with a new block or the next flush. */
void jit_cache_drop_page(struct jit_cache *c, uint64_t page_index)
{
	struct jit_of_page **at;
	uint64_t before;

	pthread_mutex_lock(&c->lock);
	before = atomic_load(&c->counts.given_up);
	atomic_fetch_add(&c->changes, 1);
	at = &c->page[page_index % PAGES];
	while (*at) {
		struct jit_of_page *p = *at;

		if (p->index == page_index)
			give_up(c, p->block);
		if (atomic_load(&p->block->stale))
			*at = p->next;
		else
			at = &p->next;
	}
	stat_add(&c->counts.pages, before != atomic_load(&c->counts.given_up));
	pthread_mutex_unlock(&c->lock);
}

void jit_cache_flush(struct jit_cache *c)
{
	pthread_mutex_lock(&c->lock);
	memset(c->bucket, 0, sizeof(c->bucket));
	memset(c->page, 0, sizeof(c->page));
	c->code_used = c->first;
	c->data_used = 0;
	atomic_fetch_add(&c->flushes, 1);
	stat_add(&c->counts.forgotten, 1);
	pthread_mutex_unlock(&c->lock);
}
