/* One thread per vCPU: run, wait while halted, park while paused. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/now.h"
#include "vm/gdb.h"
#include "vm/impl.h"

static _Thread_local struct vm_cpu *self;

struct vm_cpu *cpus_self(void)
{
	return self;
}

/* --- what the guest asks for --- */

static void kick_all(struct vm *vm)
{
	for (unsigned n = 0; n < vm->cpus; n++)
		if (vm->cpu[n].vcpu)
			vcpu_kick(vm->cpu[n].vcpu);
}

void cpus_request(struct vm *vm, const struct vm_request *r)
{
	bool first;

	pthread_mutex_lock(&vm->cpu_lock);
	first = !vm->request.what;
	if (first)
		vm->request = *r;
	pthread_mutex_unlock(&vm->cpu_lock);
	if (!first)
		return;
	kick_all(vm);
	loop_post(vm->loop, vm_answer, vm);
}

struct vm_request cpus_requested(struct vm *vm)
{
	struct vm_request r;

	pthread_mutex_lock(&vm->cpu_lock);
	r = vm->request;
	pthread_mutex_unlock(&vm->cpu_lock);
	return r;
}

void cpus_answered(struct vm *vm)
{
	pthread_mutex_lock(&vm->cpu_lock);
	vm->request.what = 0;
	pthread_cond_broadcast(&vm->cpu_change);
	pthread_mutex_unlock(&vm->cpu_lock);
}

/* --- the threads --- */

/* Wait until running is wanted. False: the VM ends. */
static bool park(struct vm_cpu *c)
{
	struct vm *vm = c->vm;
	bool go;

	pthread_mutex_lock(&vm->cpu_lock);
	while ((!vm->run_wanted || vm->request.what || c->held) && !vm->end_wanted) {
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
	log_line(LOG_ERROR, "cpu", "CPU %u: %s", c->vcpu->index, c->vcpu->error.msg);
	cpus_request(c->vm, &(struct vm_request){ MACHINE_EXIT + 1, 1, "host-error" });
}

static void debug_stop(struct vm_cpu *c)
{
	pthread_mutex_lock(&c->vm->cpu_lock);
	c->stopped = c->held = true;
	pthread_mutex_unlock(&c->vm->cpu_lock);
	loop_post(c->vm->loop, gdb_vcpu_stopped, c->vm);
}

void cpus_hold(struct vm *vm, unsigned n, bool hold)
{
	pthread_mutex_lock(&vm->cpu_lock);
	vm->cpu[n].held = vm->cpu[n].silent = hold;
	pthread_mutex_unlock(&vm->cpu_lock);
}

bool cpus_take_stop(struct vm *vm, unsigned n)
{
	bool stopped;

	pthread_mutex_lock(&vm->cpu_lock);
	stopped = vm->cpu[n].stopped && !vm->cpu[n].silent;
	if (stopped)
		vm->cpu[n].stopped = false;
	pthread_mutex_unlock(&vm->cpu_lock);
	return stopped;
}

void cpus_forget_step(struct vm *vm, unsigned n)
{
	pthread_mutex_lock(&vm->cpu_lock);
	if (vm->cpu[n].stopped && vm->cpu[n].vcpu->stop.step)
		vm->cpu[n].stopped = false;
	pthread_mutex_unlock(&vm->cpu_lock);
}

/* A guest may do this for ever: the first time is news. */
static void shut_down(struct vm_cpu *c)
{
	struct vm *vm = c->vm;
	bool first;

	pthread_mutex_lock(&vm->cpu_lock);
	first = !vm->fault_told;
	vm->fault_told = true;
	pthread_mutex_unlock(&vm->cpu_lock);
	log_line(first ? LOG_WARN : LOG_DEBUG, "cpu", "CPU %u: %s: %s", c->vcpu->index, c->vcpu->error.msg,
		 !vm->no_reboot	   ? "the machine resets"
		 : vm->no_shutdown ? "the machine stops"
				   : "the machine ends");
	cpus_request(vm, &(struct vm_request){ MACHINE_RESET + 1, VM_STATUS_FAULT, "guest-reset" });
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

	self = c;
	c->tid = gettid();
	snprintf(name, sizeof(name), "vcpu%u", c->vcpu->index);
	pthread_setname_np(pthread_self(), name);
	while (park(c)) {
		enum cpu_exit why = e->run(c->vcpu);

		stat_add(&c->exits, 1);
		switch (why) {
		case CPU_EXIT_HALTED:
			stat_add(&c->vcpu->halts, 1);
			idle(c);
			break;
		case CPU_EXIT_SHUTDOWN:
			shut_down(c);
			break;
		case CPU_EXIT_FAILED:
			failed(c);
			break;
		case CPU_EXIT_DEBUG:
			debug_stop(c);
			break;
		case CPU_EXIT_KICKED:
			break;
		}
	}
	return NULL;
}

/* --- life --- */

static void add_counters(struct vm_cpu *c, unsigned n)
{
	const struct {
		const char *name, *help;
		stat_t *counter;
	} list[] = {
		{ "instructions", "instructions executed", &c->vcpu->instructions },
		{ "exits", "times the engine came back to the machine", &c->exits },
		{ "halts", "times the guest went idle", &c->vcpu->halts },
		{ "port_accesses", "accesses to I/O ports", &c->ports },
		{ "mmio_accesses", "accesses to device memory", &c->mmio },
	};
	char name[48];

	for (size_t k = 0; k < sizeof(list) / sizeof(list[0]); k++) {
		snprintf(name, sizeof(name), "cpu%u.%s", n, list[k].name);
		stats_register(c->vm->stats, name, list[k].help, list[k].counter);
	}
}

int cpus_create(struct vm *vm, struct err *err)
{
	for (unsigned n = 0; n < vm->cpus; n++) {
		struct vm_cpu *c = &vm->cpu[n];

		c->vm = vm;
		c->vcpu = vm->engine->vcpu_create(vm->engine_vm, n, err);
		if (!c->vcpu)
			return -1;
		add_counters(c, n);
	}
	return 0;
}

int cpus_start(struct vm *vm, struct err *err)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGTRAP, SIGSYS };
	sigset_t all, old;
	int rc = 0;

	/* Signals are the main thread's, but for those that a thread gives itself: the terminal is restored then. */
	sigfillset(&all);
	for (size_t n = 0; n < sizeof(faults) / sizeof(faults[0]); n++)
		sigdelset(&all, faults[n]);
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
	pthread_mutex_unlock(&vm->cpu_lock);
	kick_all(vm);
	pthread_mutex_lock(&vm->cpu_lock);
	while (!all_parked(vm))
		pthread_cond_wait(&vm->cpu_change, &vm->cpu_lock);
	pthread_mutex_unlock(&vm->cpu_lock);
}

void *vm_cpu_state(struct vm *vm, unsigned n)
{
	size_t size = (vm->engine->arch_state_size + 63) & ~(size_t)63;
	void *state = aligned_alloc(64, size);
	bool runs = vm->state == VM_RUNNING;

	if (!state)
		return NULL;
	memset(state, 0, size);
	if (runs)
		cpus_pause(vm);
	vm->engine->get_state(vm->cpu[n].vcpu, state);
	if (runs)
		cpus_resume(vm);
	return state;
}

void cpus_destroy(struct vm *vm)
{
	pthread_mutex_lock(&vm->cpu_lock);
	vm->end_wanted = true;
	pthread_cond_broadcast(&vm->cpu_change);
	pthread_mutex_unlock(&vm->cpu_lock);
	kick_all(vm);
	for (unsigned n = 0; n < vm->cpus; n++)
		if (vm->cpu[n].started)
			pthread_join(vm->cpu[n].thread, NULL);
	for (unsigned n = 0; n < vm->cpus; n++) {
		if (vm->cpu[n].vcpu)
			vm->engine->vcpu_destroy(vm->cpu[n].vcpu);
		vm->cpu[n].vcpu = NULL;
	}
}
