/*
 * Coroutines by a switch of stacks: co_switch.S on x86-64 and arm64, ucontext(3) elsewhere. Stacks are kept for later
 * ones; the sanitizers are told of every switch.
 */
#include "block/co.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define CO_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CO_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define CO_TSAN 1
#endif
#endif
#ifdef CO_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CO_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#if defined(__x86_64__) || defined(__aarch64__)
#define CO_OWN_SWITCH 1
#else
#include <ucontext.h>
#endif

#ifdef CO_ASAN
#define STACK_SIZE (512u * 1024) /* its frames are far larger */
#else
#define STACK_SIZE (128u * 1024)
#endif
#define POOL_MAX 256u

struct context {
#ifdef CO_OWN_SWITCH
	void *sp;
#else
	ucontext_t uc;
#endif
#ifdef CO_TSAN
	void *fiber;
#endif
	void *stack; /* lowest address */
	size_t size;
};

struct co {
	struct context ctx;
	co_fn *fn;
	void *opaque;
	void *mapping;
	bool ended;
	struct co *next; /* in the one list that it is in: ready, pool, a queue */
};

static _Thread_local struct {
	struct co *current;
	struct context outside;
	struct co_queue ready;
	struct co *pool;
	unsigned pooled;
} self;

#ifdef CO_OWN_SWITCH
void co_switch(void **save, void *load);
#endif

static void push(struct co_queue *q, struct co *c)
{
	c->next = NULL;
	if (q->first)
		q->last->next = c;
	else
		q->first = c;
	q->last = c;
}

static struct co *pop(struct co_queue *q)
{
	struct co *c = q->first;

	if (c)
		q->first = c->next;
	return c;
}

/* `fake` keeps what ASan knows of a stack that is left; NULL when it will not be entered again. */
static void jump(struct context *from, struct context *to, bool for_good)
{
#ifdef CO_ASAN
	void *fake = NULL;

	__sanitizer_start_switch_fiber(for_good ? NULL : &fake, to->stack, to->size);
#endif
#ifdef CO_TSAN
	__tsan_switch_to_fiber(to->fiber, 0);
#endif
#ifdef CO_OWN_SWITCH
	co_switch(&from->sp, to->sp);
#else
	swapcontext(&from->uc, &to->uc);
#endif
#ifdef CO_ASAN
	__sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
}

static void body(void)
{
	struct co *c = self.current;

#ifdef CO_ASAN
	/* The first switch away from the thread's own stack tells where that lies. */
	__sanitizer_finish_switch_fiber(NULL, (const void **)&self.outside.stack, &self.outside.size);
#endif
	c->fn(c->opaque);
	c->ended = true;
	jump(&c->ctx, &self.outside, true);
	__builtin_unreachable();
}

static void prepare(struct co *c)
{
#ifdef CO_TSAN
	c->ctx.fiber = __tsan_create_fiber(0);
#endif
#ifdef CO_OWN_SWITCH
	char *top = (char *)c->ctx.stack + c->ctx.size;
#if defined(__x86_64__)
	/* Six registers, the address that co_switch() returns to, and none that body() could return to. */
	void **sp = (void **)top - 8;

	memset(sp, 0, 8 * sizeof(*sp));
	sp[6] = (void *)body;
#else
	void **sp = (void **)(top - 160);

	memset(sp, 0, 160);
	sp[1] = (void *)body;
#endif
	c->ctx.sp = sp;
#else
	getcontext(&c->ctx.uc);
	c->ctx.uc.uc_stack.ss_sp = c->ctx.stack;
	c->ctx.uc.uc_stack.ss_size = c->ctx.size;
	c->ctx.uc.uc_link = NULL;
	makecontext(&c->ctx.uc, body, 0);
#endif
}

static struct co *new_stack(void)
{
	size_t guard = (size_t)sysconf(_SC_PAGESIZE);
	char *m = mmap(NULL, guard + STACK_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
	struct co *c;

	if (m == MAP_FAILED)
		return NULL;
	if (mprotect(m, guard, PROT_NONE)) {
		munmap(m, guard + STACK_SIZE);
		return NULL;
	}
	/* The description lies at the upper end. */
	c = (struct co *)(m + guard + STACK_SIZE - ((sizeof(*c) + 63) & ~(size_t)63));
	c->mapping = m;
	c->ctx.stack = m + guard;
	c->ctx.size = (size_t)((char *)c - (m + guard));
	return c;
}

static void free_stack(struct co *c)
{
	munmap(c->mapping, (size_t)sysconf(_SC_PAGESIZE) + STACK_SIZE);
}

static void recycle(struct co *c)
{
#ifdef CO_TSAN
	__tsan_destroy_fiber(c->ctx.fiber);
#endif
#ifdef CO_ASAN
	__asan_unpoison_memory_region(c->ctx.stack, c->ctx.size); /* of frames that never returned */
#endif
	if (self.pooled == POOL_MAX) {
		free_stack(c);
		return;
	}
	c->next = self.pool;
	self.pool = c;
	self.pooled++;
}

void co_thread_end(void)
{
	while (self.pool) {
		struct co *c = self.pool;

		self.pool = c->next;
		free_stack(c);
	}
	self.pooled = 0;
}

static void enter(struct co *c)
{
	self.current = c;
#ifdef CO_TSAN
	if (!self.outside.fiber)
		self.outside.fiber = __tsan_get_current_fiber();
#endif
	jump(&self.outside, &c->ctx, false);
	self.current = NULL;
	if (c->ended)
		recycle(c);
}

struct co *co_self(void)
{
	return self.current;
}

void co_wait(void)
{
	jump(&self.current->ctx, &self.outside, false);
}

void co_wake(struct co *c)
{
	if (self.current) {
		push(&self.ready, c);
		return;
	}
	do
		enter(c);
	while ((c = pop(&self.ready)));
}

int co_start(co_fn *fn, void *opaque)
{
	struct co *c = self.pool;

	if (c) {
		self.pool = c->next;
		self.pooled--;
	} else {
		c = new_stack();
		if (!c)
			return -1;
	}
	c->fn = fn;
	c->opaque = opaque;
	c->ended = false;
	prepare(c);
	co_wake(c);
	return 0;
}

struct call {
	co_fn *fn;
	void *opaque;
	struct co *caller;
};

static void call_body(void *opaque)
{
	struct call *c = opaque;

	c->fn(c->opaque);
	co_wake(c->caller);
}

int co_call(co_fn *fn, void *opaque)
{
	struct call c = { fn, opaque, self.current };

	if (co_start(call_body, &c))
		return -1;
	co_wait();
	return 0;
}

void co_queue_wait(struct co_queue *q)
{
	push(q, self.current);
	co_wait();
}

bool co_queue_wake(struct co_queue *q)
{
	struct co *c = pop(q);

	if (c)
		co_wake(c);
	return c != NULL;
}

void co_queue_wake_all(struct co_queue *q)
{
	/* Those that wait again at once are not woken a second time. */
	struct co_queue now = *q;

	q->first = NULL;
	while (co_queue_wake(&now))
		;
}

void co_lock(struct co_mutex *m)
{
	if (m->held)
		co_queue_wait(&m->waiting); /* co_unlock() hands it over */
	m->held = true;
}

void co_unlock(struct co_mutex *m)
{
	if (!co_queue_wake(&m->waiting))
		m->held = false;
}
