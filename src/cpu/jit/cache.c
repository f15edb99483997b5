/* The code cache: see cache.h. */
#include "cpu/jit/cache.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/huge.h"
#include "base/shared.h"
#include "cpu/jit/jit.h"

#define GUARDS 4096u
#define PAGES  65536u /* chains of blocks by page */
/* A block never takes more. */
#define BLOCK_ROOM (64u << 10)

struct jit_cache {
	pthread_mutex_t lock;
	uint8_t *code; /* to write */
	uint8_t *data;
	size_t code_size, data_size;
	intptr_t rx_offset;
	size_t first, code_used, data_used;
	size_t huge;	    /* so much of the code is on huge pages, if that can be */
	size_t data_before; /* the block that is being written */
	_Atomic unsigned flushes, changes;
	struct jit_thunks thunks;
	struct jit_cache_counts counts; /* under the lock */
	struct jit_table table;
	struct jit_of_page *page[PAGES];
	struct jit_guard *guard[GUARDS]; /* chains by page */
};

/* Two views of the same memory: one to write at c->code, one to execute at `rx`. -1, and errno. */
static int map_memfd(struct jit_cache *c, uint8_t *rx)
{
	int fd = memfd_create("vireo-jit", MFD_CLOEXEC);
	bool done = fd >= 0 && !ftruncate(fd, (off_t)c->code_size) &&
		    mmap(c->code, c->code_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED &&
		    mmap(rx, c->code_size, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED;

	if (fd >= 0)
		close(fd);
	return done ? 0 : -1;
}

/* The same of memory without a name, for which perf looks into its map. A mapping of nothing moved is a second one. */
static int map_anonymous(struct jit_cache *c, uint8_t *rx)
{
	const int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED;

	if (mmap(c->code, c->code_size, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED ||
	    mremap(c->code, 0, c->code_size, MREMAP_MAYMOVE | MREMAP_FIXED, rx) == MAP_FAILED)
		return -1;
	return mprotect(rx, c->code_size, PROT_READ | PROT_EXEC);
}

static int map_code(struct jit_cache *c, bool anonymous, struct err *err)
{
	uint8_t *rx = huge_reserve(c->code_size);

	c->code = huge_reserve(c->code_size);
	if (rx && c->code && !(anonymous ? map_anonymous(c, rx) : map_memfd(c, rx))) {
		c->rx_offset = rx - c->code;
		return 0;
	}
	err_set(err, "no memory for translated code: %s", strerror(errno));
	if (c->code)
		munmap(c->code, c->code_size);
	if (rx)
		munmap(rx, c->code_size);
	c->code = NULL;
	return -1;
}

struct jit_cache *jit_cache_new(size_t bytes, bool anonymous, struct err *err)
{
	struct jit_cache *c = huge_alloc(sizeof(*c));
	struct emit e;

	if (!c) {
		err_set(err, "out of memory");
		return NULL;
	}
	huge_advise(c, sizeof(*c));
	pthread_mutex_init(&c->lock, NULL);
	/* Code takes three and a half times what belongs to it; there is less of it when blocks have records. */
	c->code_size = bytes / 4 * 3 & ~(size_t)0xfff;
	c->data_size = bytes - c->code_size;
	c->data = huge_alloc(c->data_size);
	if (!c->data || map_code(c, anonymous, err)) {
		if (!c->data)
			err_set(err, "out of memory");
		jit_cache_free(c);
		return NULL;
	}
	if (c->data_size >= HUGE_PAGE)
		huge_advise(c->data, c->data_size);
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
	huge_free(c->data, c->data_size);
	pthread_mutex_destroy(&c->lock);
	huge_free(c, sizeof(*c));
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

intptr_t jit_cache_rx_offset(const struct jit_cache *c)
{
	return c->rx_offset;
}

const uint8_t *jit_cache_guards(const struct jit_cache *c)
{
	return c->data;
}

const struct jit_table *jit_cache_table(const struct jit_cache *c)
{
	return &c->table;
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

/* Both views of the next 2 MiB: code that runs is far apart, and the host's TLB would not hold all its small pages. */
static void more_huge(struct jit_cache *c)
{
	if (c->code_used + BLOCK_ROOM <= c->huge || c->huge + HUGE_PAGE > c->code_size)
		return;
	huge_collapse(c->code + c->huge, HUGE_PAGE);
	huge_collapse(c->code + c->rx_offset + c->huge, HUGE_PAGE);
	c->huge += HUGE_PAGE;
}

bool jit_cache_begin(struct jit_cache *c, struct emit *e)
{
	pthread_mutex_lock(&c->lock);
	if (full(c)) {
		pthread_mutex_unlock(&c->lock);
		return false;
	}
	more_huge(c);
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
		_Atomic uint64_t *bucket = &c->table.bucket[jit_hash_bucket(b->place, b->rip)];
		struct jit_block *next = jit_hash_block(atomic_load(bucket));

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
		atomic_store_explicit(
			bucket, (uint64_t)(uintptr_t)b | jit_hash_tag(b->place, b->rip) | (next ? JIT_HASH_MORE : 0),
			memory_order_release);
	}
	pthread_mutex_unlock(&c->lock);
}

/* At the executed address `rx`. */
static void patch(struct jit_cache *c, uintptr_t rx, uint32_t v)
{
	void *at = (uint8_t *)(rx - (uintptr_t)c->rx_offset);

	atomic_store_explicit((_Atomic uint32_t *)at, v, memory_order_release);
}

/* That of the block's page; NULL: no room. */
static struct jit_guard *guard_of(struct jit_cache *c, const struct jit_block *b)
{
	uint64_t page = b->place & ~(MEM_PAGE_SIZE - 1), lin = b->rip & ~(MEM_PAGE_SIZE - 1);
	struct jit_guard **chain = &c->guard[b->pages[0].index % GUARDS], *g = *chain;

	while (g && (g->page != page || g->lin != lin))
		g = g->next;
	if (g)
		return g;
	g = jit_cache_alloc(c, sizeof(*g));
	if (!g)
		return NULL;
	*g = (struct jit_guard){ .next = *chain, .lin = lin, .page = page };
	*chain = g;
	return g;
}

static void link_far(struct jit_cache *c, const struct jit_note *l, const struct jit_block *to)
{
	uintptr_t end = (uintptr_t)l - l->back;
	uint32_t number = jit_far_number(end, l->what);
	const struct jit_guard *old = number == JIT_NO_GUARD ? NULL : (void *)(c->data + number), *g;

	/* Given up since it was found: the next one has a link that is good for longer. */
	if (to->second != JIT_ONE_PAGE || atomic_load(&to->stale))
		return;
	g = guard_of(c, to);
	if (!g || (old && (old->lin != g->lin || old->page != g->page)))
		return;
	if (old == g)
		return; /* the vCPU had only forgotten where the page is */
	number = (uint32_t)((const uint8_t *)g - c->data);
	patch(c, end - 4, (uint32_t)((l->what & JIT_LINK_FLAGS ? to->native : jit_block_memory(to)) - end));
	patch(c, end - JIT_FAR_NUMBER(l->what), l->what & JIT_LINK_FLAGS ? -number : number);
	stat_add(&c->counts.links, 1);
}

static void link_near(struct jit_cache *c, const struct jit_note *l, const struct jit_block *to)
{
	bool direct = to->second == JIT_ONE_PAGE;
	uintptr_t at = !direct ? c->thunks.link_to_rip[l->what] : l->what ? to->native : jit_block_memory(to);
	uintptr_t end = (uintptr_t)l - (direct ? l->back : 0);

	patch(c, end - 4, (uint32_t)(at - end));
	stat_add(&c->counts.links, 1);
}

void jit_cache_link(struct jit_cache *c, const struct jit_note *l, const struct jit_block *to)
{
	pthread_mutex_lock(&c->lock);
	(l->what & JIT_LINK_FAR ? link_far : link_near)(c, l, to);
	pthread_mutex_unlock(&c->lock);
}

/* The first instruction becomes a call that leads out. Processors see an aligned store of eight bytes as a whole. */
static void give_up(struct jit_cache *c, struct jit_block *b)
{
	uint8_t *entry = (uint8_t *)(b->native - (uintptr_t)c->rx_offset);
	uintptr_t out = c->thunks.given_up[b->memory != 0];
	uint64_t call = 0xe8 | (uint64_t)(uint32_t)(out - b->native - EMIT_JMP_SIZE) << 8 | 0x909090ull << 40;

	if (atomic_exchange(&b->stale, true))
		return;
	atomic_store((_Atomic uint64_t *)(void *)entry, call);
	stat_add(&c->counts.given_up, 1);
}

/* Jumps that lead to blocks of the page are told apart from those to come. */
static void drop_guards(struct jit_cache *c, uint64_t page_index)
{
	struct jit_guard **at = &c->guard[page_index % GUARDS];

	while (*at) {
		struct jit_guard *g = *at;

		if (g->page != page_index << MEM_PAGE_SHIFT) {
			at = &g->next;
			continue;
		}
		atomic_store(&g->dead, true);
		*at = g->next;
	}
}

/* Stale blocks leave the chains of their pages here, and that of their hash with a new block or the next flush. */
void jit_cache_drop_page(struct jit_cache *c, uint64_t page_index)
{
	struct jit_of_page **at;
	uint64_t before;

	pthread_mutex_lock(&c->lock);
	before = atomic_load(&c->counts.given_up);
	atomic_fetch_add(&c->changes, 1);
	drop_guards(c, page_index);
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
	memset(&c->table, 0, sizeof(c->table));
	memset(c->page, 0, sizeof(c->page));
	memset(c->guard, 0, sizeof(c->guard));
	c->code_used = c->first;
	c->data_used = 0;
	atomic_fetch_add(&c->flushes, 1);
	stat_add(&c->counts.forgotten, 1);
	pthread_mutex_unlock(&c->lock);
}
