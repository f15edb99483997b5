/*
 * Stop the world: for read-modify-writes that no host instruction can do atomically (locked accesses
 * that cross a page or a cache line, or go to device memory).
 *
 * Each vCPU inside run() is a participant. The one that wants to be alone sets `owner`, kicks the others
 * and waits until all of them have parked in poll() or left.
 */
#include <pthread.h>
#include <stdlib.h>

#include "cpu/x86/interp.h"

struct x86_exclusive {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct x86_cpu *owner;
	unsigned running; /* participants that are not parked */
};

struct x86_exclusive *x86_exclusive_new(void)
{
	struct x86_exclusive *x = calloc(1, sizeof(*x));

	if (x) {
		pthread_mutex_init(&x->lock, NULL);
		pthread_cond_init(&x->changed, NULL);
	}
	return x;
}

void x86_exclusive_free(struct x86_exclusive *x)
{
	if (!x)
		return;
	pthread_mutex_destroy(&x->lock);
	pthread_cond_destroy(&x->changed);
	free(x);
}

static void wait_for_owner(struct x86_exclusive *x)
{
	while (x->owner)
		pthread_cond_wait(&x->changed, &x->lock);
}

void x86_exclusive_enter(struct x86_cpu *cpu)
{
	struct x86_exclusive *x = cpu->vm->exclusive;

	pthread_mutex_lock(&x->lock);
	wait_for_owner(x);
	x->running++;
	pthread_mutex_unlock(&x->lock);
}

void x86_exclusive_exit(struct x86_cpu *cpu)
{
	struct x86_exclusive *x = cpu->vm->exclusive;

	pthread_mutex_lock(&x->lock);
	x->running--;
	pthread_cond_broadcast(&x->changed);
	pthread_mutex_unlock(&x->lock);
}

/* Let the owner work, then go on. Called with the lock. */
static void park(struct x86_exclusive *x)
{
	x->running--;
	pthread_cond_broadcast(&x->changed);
	wait_for_owner(x);
	x->running++;
}

void x86_exclusive_poll(struct x86_cpu *cpu)
{
	struct x86_exclusive *x = cpu->vm->exclusive;

	pthread_mutex_lock(&x->lock);
	if (x->owner)
		park(x);
	pthread_mutex_unlock(&x->lock);
}

void x86_exclusive_begin(struct x86_cpu *cpu)
{
	struct x86_exclusive *x = cpu->vm->exclusive;

	pthread_mutex_lock(&x->lock);
	if (x->owner)
		park(x);
	x->owner = cpu;
	for (unsigned n = 0; n < cpu->vm->cfg.cpus; n++)
		if (cpu->vm->cpus[n] && cpu->vm->cpus[n] != cpu)
			atomic_fetch_or(&cpu->vm->cpus[n]->vcpu.events, VCPU_EV_PRIVATE);
	while (x->running > 1)
		pthread_cond_wait(&x->changed, &x->lock);
	pthread_mutex_unlock(&x->lock);
}

void x86_exclusive_end(struct x86_cpu *cpu)
{
	struct x86_exclusive *x = cpu->vm->exclusive;

	pthread_mutex_lock(&x->lock);
	x->owner = NULL;
	pthread_cond_broadcast(&x->changed);
	pthread_mutex_unlock(&x->lock);
}
