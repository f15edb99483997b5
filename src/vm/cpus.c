/* One thread per vCPU: run, wait while halted, park while paused. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "vm/impl.h"

/* Wait until running is wanted. False: the VM ends. */
static bool park(struct vm_cpu *c)
{
	struct vm *vm = c->vm;
	bool go;

	pthread_mutex_lock(&vm->cpu_lock);
	while (!vm->run_wanted && !vm->end_wanted) {
		c->parked = true;
		pthread_cond_broadcast(&vm->cpu_change);
		pthread_cond_wait(&vm->cpu_change, &vm->cpu_lock);
	}
	c->parked = false;
	go = !vm->end_wanted;
	pthread_mutex_unlock(&vm->cpu_lock);
	return go;
}

static void failed(struct vm_cpu *c)
{
	struct machine_control m = vm_machine_control(c->vm);

	log_line(LOG_ERROR, "cpu", "CPU %u: %s", c->vcpu->index, c->vcpu->error.msg);
	m.request(m.opaque, MACHINE_EXIT, 1);
}

/* Nothing more to do for this vCPU until the main loop has acted. */
static void wait_for_main(struct vm_cpu *c)
{
	while (!(atomic_load(&c->vcpu->events) & VCPU_EV_KICK)) {
		vcpu_wait(c->vcpu, -1);
		/* Other news stay for run(). */
		atomic_fetch_and(&c->vcpu->events, VCPU_EV_KICK);
	}
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/*
 * Nothing to execute. Under the counting clock no time passes by itself: it goes on to the next deadline, after having
 * waited as long or at once.
 */
static void idle(struct vm_cpu *c)
{
	struct vm *vm = c->vm;
	int64_t next, start, waited = 0;

	if (!clock_is_icount(vm->clock)) {
		vcpu_wait(c->vcpu, -1);
		return;
	}
	next = clock_icount_next(vm->clock);
	if (next == CLOCK_NEVER || !vm->skip_idle) {
		start = now_ns();
		vcpu_wait(c->vcpu, next == CLOCK_NEVER ? -1 : next);
		waited = now_ns() - start;
	}
	/* Woken from outside: so much time has passed. */
	if (atomic_load(&c->vcpu->events) && waited < next)
		next = waited;
	if (next != CLOCK_NEVER)
		clock_icount_advance(vm->clock, next);
}

static void *cpu_thread(void *opaque)
{
	struct vm_cpu *c = opaque;
	const struct engine *e = c->vm->engine;
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", c->vcpu->index);
	pthread_setname_np(pthread_self(), name);
	while (park(c)) {
		switch (e->run(c->vcpu)) {
		case CPU_EXIT_HALTED:
			stat_add(&c->vcpu->halts, 1);
			idle(c);
			break;
		case CPU_EXIT_SHUTDOWN: {
			struct machine_control m = vm_machine_control(c->vm);

			log_guest("cpu", "CPU %u: triple fault", c->vcpu->index);
			m.request(m.opaque, MACHINE_RESET, 0);
			wait_for_main(c);
			break;
		}
		case CPU_EXIT_FAILED:
			failed(c);
			wait_for_main(c);
			break;
		case CPU_EXIT_KICKED:
			if (atomic_load(&c->vm->asked))
				wait_for_main(c);
			break;
		case CPU_EXIT_DEBUG:
			break;
		}
	}
	return NULL;
}

int cpus_create(struct vm *vm, struct err *err)
{
	char name[32];

	for (unsigned n = 0; n < vm->cpus; n++) {
		struct vm_cpu *c = &vm->cpu[n];

		c->vm = vm;
		c->vcpu = vm->engine->vcpu_create(vm->engine_vm, n, err);
		if (!c->vcpu)
			return -1;
		snprintf(name, sizeof(name), "cpu%u.instructions", n);
		stats_register(vm->stats, name, "instructions executed", &c->vcpu->instructions);
		snprintf(name, sizeof(name), "cpu%u.halts", n);
		stats_register(vm->stats, name, "times the guest went idle", &c->vcpu->halts);
	}
	return 0;
}

int cpus_start(struct vm *vm, struct err *err)
{
	sigset_t all, old;
	int rc = 0;

	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (unsigned n = 0; n < vm->cpus && !rc; n++) {
		if (pthread_create(&vm->cpu[n].thread, NULL, cpu_thread, &vm->cpu[n]))
			rc = err_set(err, "cannot start the thread of CPU %u", n);
		else
			vm->cpu[n].started = true;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

void cpus_resume(struct vm *vm)
{
	pthread_mutex_lock(&vm->cpu_lock);
	vm->run_wanted = true;
	pthread_cond_broadcast(&vm->cpu_change);
	pthread_mutex_unlock(&vm->cpu_lock);
}

static bool all_parked(const struct vm *vm)
{
	for (unsigned n = 0; n < vm->cpus; n++)
		if (vm->cpu[n].started && !vm->cpu[n].parked)
			return false;
	return true;
}

void cpus_pause(struct vm *vm)
{
	pthread_mutex_lock(&vm->cpu_lock);
	vm->run_wanted = false;
	for (unsigned n = 0; n < vm->cpus; n++)
		vcpu_kick(vm->cpu[n].vcpu);
	while (!all_parked(vm))
		pthread_cond_wait(&vm->cpu_change, &vm->cpu_lock);
	pthread_mutex_unlock(&vm->cpu_lock);
}

void cpus_destroy(struct vm *vm)
{
	pthread_mutex_lock(&vm->cpu_lock);
	vm->end_wanted = true;
	pthread_cond_broadcast(&vm->cpu_change);
	pthread_mutex_unlock(&vm->cpu_lock);
	for (unsigned n = 0; n < vm->cpus; n++) {
		struct vm_cpu *c = &vm->cpu[n];

		if (!c->vcpu)
			continue;
		vcpu_kick(c->vcpu);
		if (c->started)
			pthread_join(c->thread, NULL);
		vm->engine->vcpu_destroy(c->vcpu);
	}
}
