/*
 * The interpreter on any state and any code: a machine in one of the modes, some bytes of its state and of its
 * descriptor tables changed, random code, for a bounded number of instructions. Whatever the guest does is an
 * exception of its own, and the state that comes out is one that could be put in again.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../cpu/rig.h"
#include "../cpu/scalars.h"

#define INSTRUCTIONS 2000
#define CHANGES_MAX  24

static struct rig rigs[2];
static struct clock_timer timer;
static _Atomic(struct vcpu *) running;
/* The leak detector does not look into the mapped vCPUs for what they point to. */
static struct x86_traces *kept[2];

static void stop(void *opaque)
{
	vcpu_kick(opaque);
}

/* Faults that fault again retire nothing, so the count alone is no bound. */
static void *watchdog(void *opaque)
{
	const struct timespec tick = { 0, 2000000 };

	for (;;) {
		struct vcpu *v;

		nanosleep(&tick, NULL);
		v = atomic_load(&running);
		if (v)
			vcpu_kick(v);
	}
	return NULL;
}

static void start(void)
{
	static const char *const models[2] = { "max", "max,vendor=GenuineIntel,-pdpe1gb,phys-bits=36" };
	pthread_t thread;

	for (unsigned n = 0; n < 2; n++) {
		rig_new_counted(&rigs[n], RIG_LONG, models[n]);
		kept[n] = tiny_cpu(&rigs[n].vm)->traces;
	}
	if (pthread_create(&thread, NULL, watchdog, NULL))
		abort();
}

/* Pairs of an offset and a value; what the processor could not hold is not a state. */
static size_t change_state(struct rig *r, const uint8_t *data, size_t size)
{
	unsigned changes = data[0] % CHANGES_MAX;
	size_t at = 1;

	for (; changes && size - at >= 3; changes--, at += 3) {
		unsigned off = ((unsigned)data[at] << 8 | data[at + 1]) % sizeof(r->s);

		((uint8_t *)&r->s)[off] = data[at + 2];
	}
	return at;
}

/* Truth values are 0 or 1 in whatever comes from a saved state. */
static void make_truth(void *state, const struct state_field *top, const struct state_field *f, size_t at)
{
	if (f->type == STATE_BOOL)
		((uint8_t *)state)[at] &= 1;
}

/* The same for the tables: descriptors, gates, the TSS and the page tables. */
static size_t change_tables(struct rig *r, const uint8_t *data, size_t size)
{
	unsigned changes = data[0] % CHANGES_MAX;
	size_t at = 1;

	for (; changes && size - at >= 3; changes--, at += 3)
		rig_write(r, 0x1000 + (((unsigned)data[at] << 8 | data[at + 1]) & 0x6fff), data[at + 2], 1);
	return at;
}

static void check(struct rig *r)
{
	struct err err;

	r->vm.engine->get_state(r->vm.vcpu, &r->s);
	if (x86_state_check(&r->s, &err)) {
		fprintf(stderr, "the state that came out cannot go in: %s\n", err.msg);
		abort();
	}
}

static void run(struct rig *r)
{
	struct err err;

	x86_traces_flush(tiny_cpu(&r->vm)->traces);
	if (r->vm.engine->set_state(r->vm.vcpu, &r->s, &err))
		return;
	clock_timer_init(&timer, r->vm.clock, NULL, stop, r->vm.vcpu);
	clock_timer_arm(&timer, clock_now_ns(r->vm.clock) + INSTRUCTIONS);
	atomic_store(&running, r->vm.vcpu);
	r->vm.engine->run(r->vm.vcpu);
	atomic_store(&running, NULL);
	clock_timer_cancel(&timer);
	check(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool started;
	struct rig *r;
	size_t at = 3;

	if (!started)
		start();
	started = true;
	if (size < 8)
		return 0;
	r = &rigs[data[0] & 1];
	mem_fill(r->vm.mem, gpa(0), 0, 0x100000);
	rig_reset(r, (enum rig_mode)(data[0] >> 1) % (RIG_V86 + 1));
	if (data[0] & 0x80 && r->mode != RIG_REAL && r->mode != RIG_V86 && r->mode != RIG_PROT16)
		rig_user(r);
	if (x86_fp_host_ok() && data[1] & 1) {
		r->s.cr4 |= X86_CR4_OSFXSR | X86_CR4_OSXSAVE;
		r->s.xcr0 = 3;
	}
	r->s.rflags |= (uint64_t)(data[1] >> 1) << 8 & (X86_TF | X86_IF | X86_DF | X86_IOPL | X86_NT);
	r->vm.irq = data[2] & 1 ? data[2] : -1;
	for (unsigned n = 0; n < 16; n++)
		if (n != X86_RSP)
			r->s.gpr[n] = RIG_DATA_AT + 64 * n;
	at += change_state(r, data + at, size - at);
	each_scalar(&x86_state_desc, NULL, 0, make_truth, &r->s);
	if (at < size)
		at += change_tables(r, data + at, size - at);
	if (at < size)
		mem_write(r->vm.mem, gpa(RIG_CODE), data + at, size - at < 4096 ? size - at : 4096);
	run(r);
	return 0;
}
