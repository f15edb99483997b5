/*
 * Which RAM pages hold decoded instructions, over all vCPUs of a VM.
 *
 * A page has a generation and a mask of 64-byte lines that instructions came from. A store that
 * touches such a line (own, of another vCPU, or of a device: all come through mem_written()) moves the
 * generation on, and every trace that remembers an older one is stale. Stores beside the lines cost a
 * call and no more.
 *
 * Once a page's own code was seen to store into it, that is remembered: a translator may have to be more careful there.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "cpu/x86/traces.h"

#define LINE_SHIFT 6

struct x86_code {
	struct mem_space *mem;
	struct interp_vm *vm;
	uint64_t pages;
	_Atomic uint32_t *gen;
	uint64_t *lines;  /* under lock */
	atomic_bool *own; /* its own code stored into it */
	pthread_mutex_t lock;
};

static uint64_t line_mask(uint32_t offset, uint32_t len)
{
	unsigned lo = offset >> LINE_SHIFT, hi = (offset + len - 1) >> LINE_SHIFT;

	return (~0ull >> (63 - hi)) & (~0ull << lo);
}

/* Any thread: the code hook of mem.h. */
static void page_stored(void *opaque, uint64_t page_index, uint32_t offset, uint32_t len)
{
	struct x86_code *c = opaque;

	pthread_mutex_lock(&c->lock);
	if (c->lines[page_index] & line_mask(offset, len)) {
		atomic_fetch_add(&c->gen[page_index], 1);
		c->lines[page_index] = 0;
		mem_code_clear(c->mem, page_index);
		if (c->vm->translator)
			c->vm->translator->page_changed(c->vm, page_index);
	}
	pthread_mutex_unlock(&c->lock);
}

static void *table(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

struct x86_code *x86_code_new(struct interp_vm *vm, struct err *err)
{
	struct mem_space *mem = vm->cfg.mem;
	struct x86_code *c = calloc(1, sizeof(*c));

	if (!c) {
		err_set(err, "out of memory");
		return NULL;
	}
	c->mem = mem;
	c->vm = vm;
	c->pages = mem_page_count(mem);
	pthread_mutex_init(&c->lock, NULL);
	if (c->pages) {
		c->gen = table(c->pages * sizeof(*c->gen));
		c->lines = table(c->pages * sizeof(*c->lines));
		c->own = table(c->pages * sizeof(*c->own));
	}
	if (c->pages && (!c->gen || !c->lines || !c->own)) {
		err_set(err, "out of memory");
		x86_code_free(c);
		return NULL;
	}
	mem_set_code_hook(mem, page_stored, c);
	return c;
}

void x86_code_free(struct x86_code *c)
{
	if (!c)
		return;
	mem_set_code_hook(c->mem, NULL, NULL);
	if (c->gen)
		munmap(c->gen, c->pages * sizeof(*c->gen));
	if (c->lines)
		munmap(c->lines, c->pages * sizeof(*c->lines));
	if (c->own)
		munmap(c->own, c->pages * sizeof(*c->own));
	pthread_mutex_destroy(&c->lock);
	free(c);
}

uint32_t x86_code_track(struct x86_code *c, uint64_t page_index, uint32_t offset, uint32_t len)
{
	uint32_t gen;
	bool fresh;

	pthread_mutex_lock(&c->lock);
	fresh = !c->lines[page_index];
	c->lines[page_index] |= line_mask(offset, len);
	if (fresh)
		mem_code_set(c->mem, page_index);
	gen = atomic_load(&c->gen[page_index]);
	/*
	 * A store that did not see the flag is visible to the decoder that reads the bytes next. Under the lock: the
	 * next decoder of this page finds the flag set and must not overtake the fence.
	 */
	if (fresh)
		mem_fence_all();
	pthread_mutex_unlock(&c->lock);
	return gen;
}

const _Atomic uint32_t *x86_code_gen(struct x86_code *c, uint64_t page_index)
{
	return &c->gen[page_index];
}

uint64_t x86_code_page_of(const struct x86_code *c, const _Atomic uint32_t *gen)
{
	return (uint64_t)(gen - c->gen);
}

bool x86_code_set_own(struct x86_code *c, uint64_t page_index)
{
	return !atomic_load(&c->own[page_index]) && !atomic_exchange(&c->own[page_index], true);
}

bool x86_code_is_own(const struct x86_code *c, uint64_t page_index)
{
	return atomic_load(&c->own[page_index]);
}
