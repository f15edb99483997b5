/* The list of engines, and the events that all of them share. */
#include "cpu/engine.h"

#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cpu/x86/interp.h"

const struct engine *const engines[] = { &engine_interp, NULL };

const struct engine *engine_find(const char *name)
{
	for (const struct engine *const *e = engines; *e; e++)
		if (!strcmp((*e)->name, name))
			return *e;
	return NULL;
}

static void futex(_Atomic uint32_t *word, int op, uint32_t val)
{
	syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, val, NULL, NULL, 0);
}

/*
 * `sleeping` is 1 from before the last look at `events` until the sleep ends, so either the sleeper
 * sees the bit or the poster sees the sleeper.
 */
static void post(struct vcpu *v, uint32_t bit)
{
	atomic_fetch_or(&v->events, bit);
	if (atomic_exchange(&v->sleeping, 0))
		futex(&v->sleeping, FUTEX_WAKE, 1);
	if (v->engine->poke)
		v->engine->poke(v);
}

void vcpu_signal(struct vcpu *v, enum cpu_signal what, uint8_t sipi_vector)
{
	if (what == CPU_SIGNAL_SIPI)
		atomic_store(&v->sipi_vector, sipi_vector);
	post(v, 1u << what);
}

void vcpu_kick(struct vcpu *v)
{
	post(v, VCPU_EV_KICK);
}

void vcpu_wait(struct vcpu *v)
{
	for (;;) {
		atomic_store(&v->sleeping, 1);
		if (atomic_load(&v->events))
			break;
		futex(&v->sleeping, FUTEX_WAIT, 1);
	}
	atomic_store(&v->sleeping, 0);
}
