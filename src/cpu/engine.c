/* The list of engines, and the events that all of them share. */
#include "cpu/engine.h"

#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cpu/x86/interp.h"
#if defined(__x86_64__)
#include "cpu/jit/jit.h"
#include "cpu/kvm/kvm.h"
#endif

/* The fastest first: engine_auto(). */
const struct engine *const engines[] = {
#if defined(__x86_64__)
	&engine_kvm,
	&engine_jit,
#endif
	&engine_interp,
	NULL,
};

const struct engine *engine_auto(bool counting, struct engine_probe *p, engine_passed *passed)
{
	for (const struct engine *const *e = engines; *e; e++) {
		*p = (struct engine_probe){ .why = "it does not count instructions" };
		if ((*e)->counts || !counting) {
			(*e)->probe(p);
			if (p->available && p->fast)
				return *e;
		}
		if (passed)
			passed(*e, p);
	}
	return NULL;
}

const struct engine *engine_find(const char *name)
{
	for (const struct engine *const *e = engines; *e; e++)
		if (!strcmp((*e)->name, name))
			return *e;
	return NULL;
}

static long futex(_Atomic uint32_t *word, int op, uint32_t val, const struct timespec *limit)
{
	return syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, val, limit, NULL, 0);
}

/*
 * `sleeping` is 1 from before the last look at `events` until the sleep ends, so either the sleeper
 * sees the bit or the poster sees the sleeper.
 */
static void post(struct vcpu *v, uint32_t bit)
{
	if (atomic_fetch_or(&v->events, bit) & bit & VCPU_EV_NMI)
		atomic_fetch_or(&v->events, VCPU_EV_NMI_TWICE);
	if (atomic_exchange(&v->sleeping, 0))
		futex(&v->sleeping, FUTEX_WAKE, 1, NULL);
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

void vcpu_wait(struct vcpu *v, int64_t ns)
{
	const struct timespec limit = { ns / 1000000000, ns % 1000000000 };
	long rc = 0;

	while (rc == 0 || errno != ETIMEDOUT) {
		/* An exchange, which is a barrier also where an emulated host takes less for a store and a load. */
		atomic_exchange(&v->sleeping, 1);
		if (atomic_load(&v->events))
			break;
		rc = futex(&v->sleeping, FUTEX_WAIT, 1, ns < 0 ? NULL : &limit);
	}
	atomic_store(&v->sleeping, 0);
}
