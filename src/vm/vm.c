/* The life of a VM: made, running, paused, reset, ended. Main loop thread unless said otherwise. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "vm/impl.h"
#include "vm/qmp.h"
#include "vm/rundir.h"
#include "vm/save.h"
#include "vm/terminal.h"

const char *vm_state_name(const struct vm *vm)
{
	static const char *const names[] = { "prelaunch", "running", "paused", "shutdown" };

	return names[vm->state];
}

/* --- run states --- */

static void each_device(struct vm *vm, bool drain)
{
	for (struct device *d = vm->devices; d; d = d->next) {
		void (*fn)(void *self) = drain ? d->drain : d->resume;

		if (fn)
			fn(d->self);
	}
}

/* vCPUs first, then what they have asked for, then time. */
static void halt(struct vm *vm)
{
	cpus_pause(vm);
	each_device(vm, true);
	clock_stop(vm->clock);
}

static void go(struct vm *vm)
{
	clock_start(vm->clock);
	each_device(vm, false);
	cpus_resume(vm);
	vm->state = VM_RUNNING;
}

void vm_pause(struct vm *vm)
{
	if (vm->state != VM_RUNNING)
		return;
	halt(vm);
	vm->state = VM_PAUSED;
	qmp_event(vm->qmp, "STOP", NULL);
}

void vm_resume(struct vm *vm)
{
	if (vm->state != VM_PAUSED)
		return;
	go(vm);
	qmp_event(vm->qmp, "RESUME", NULL);
}

void vm_quit(struct vm *vm, int status, const char *reason)
{
	if (vm->state == VM_SHUTDOWN)
		return;
	qmp_event(vm->qmp, "SHUTDOWN", reason);
	vm->state = VM_SHUTDOWN;
	vm->status = status;
	loop_quit(vm->loop);
}

void vm_reset(struct vm *vm)
{
	bool was_running = vm->state == VM_RUNNING;
	struct err err;

	if (vm->state == VM_SHUTDOWN)
		return;
	if (was_running)
		halt(vm);
	for (struct device *d = vm->devices; d; d = d->next) {
		if (!d->reset)
			continue;
		if (d->lock)
			pthread_mutex_lock(d->lock);
		d->reset(d->self);
		if (d->lock)
			pthread_mutex_unlock(d->lock);
	}
	pci_bus_reset(vm->pci);
	irqchip_reset(vm->chip);
	if (pc_boot(vm, &err)) {
		log_line(LOG_ERROR, "vm", "%s", err.msg);
		vm_quit(vm, 1, "host-error");
		return;
	}
	qmp_event(vm->qmp, "RESET", NULL);
	if (was_running)
		go(vm);
}

void vm_power_button(struct vm *vm)
{
	piix4_pm_power_button(vm->pm);
	qmp_event(vm->qmp, "POWERDOWN", NULL);
}

/* --- what the guest asks for: from a vCPU thread --- */

static void answer(void *opaque)
{
	struct vm *vm = opaque;
	int what = atomic_exchange(&vm->asked, 0) - 1;

	switch (what) {
	case MACHINE_POWER_OFF:
		vm_quit(vm, 0, "guest-shutdown");
		break;
	case MACHINE_RESET:
		if (vm->no_reboot)
			vm_quit(vm, 0, "guest-reset");
		else
			vm_reset(vm);
		break;
	case MACHINE_EXIT:
		vm_quit(vm, atomic_load(&vm->asked_status), "guest-exit");
		break;
	}
}

static void request(void *opaque, enum machine_request what, int status)
{
	struct vm *vm = opaque;
	int none = 0;

	atomic_store(&vm->asked_status, status);
	if (!atomic_compare_exchange_strong(&vm->asked, &none, (int)what + 1))
		return;
	/* The guest does not go on: its CPUs wait for the answer (cpus.c). */
	for (unsigned n = 0; n < vm->cpus; n++)
		vcpu_kick(vm->cpu[n].vcpu);
	loop_post(vm->loop, answer, vm);
}

struct machine_control vm_machine_control(struct vm *vm)
{
	return (struct machine_control){ request, vm };
}

/* --- making and running --- */

static int read_basics(struct vm *vm, struct err *err)
{
	static const char *const machines[] = { "pc-1.0", "pc", NULL };
	uint64_t cpus;
	int choice;

	if (config_choice(vm->config, "machine", 0, machines, &choice, err) ||
	    config_uint(vm->config, "cpus", 1, 1, VM_MAX_CPUS, &cpus, err) ||
	    config_bool(vm->config, "no-reboot", false, &vm->no_reboot, err))
		return -1;
	vm->cpus = (unsigned)cpus;
	return 0;
}

/* "2026-01-31T12:00:00", UTC. */
static int parse_utc(const char *text, int64_t *ns)
{
	struct tm tm = { 0 };
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

	if (!end || (*end && strcmp(end, "Z")) || tm.tm_year < 70 || tm.tm_year > 250)
		return -1;
	*ns = timegm(&tm) * 1000000000ll;
	return 0;
}

static int make_clock(struct vm *vm, struct err *err)
{
	static const char *const sources[] = { "host", "icount", NULL }, *const idle[] = { "sleep", "skip", NULL };
	const char *base;
	int64_t ns = -1;
	int source, choice;

	if (config_choice(vm->config, "clock", 0, sources, &source, err) ||
	    config_choice(vm->config, "clock.idle", 0, idle, &choice, err))
		return -1;
	if (source == CLOCK_SOURCE_ICOUNT && vm->cpus > 1)
		return err_set(err, "clock: icount counts the instructions of one CPU, and cpus is %u", vm->cpus);
	vm->skip_idle = choice;
	/* A counted machine does the same each time: it begins at the same time, too. */
	if (config_str(vm->config, "clock.base", source == CLOCK_SOURCE_ICOUNT ? "2026-01-01T00:00:00" : "host", &base,
		       err))
		return -1;
	if (strcmp(base, "host") && parse_utc(base, &ns))
		return err_set(err, "clock.base: '%s' is neither 'host' nor a UTC time like 2026-01-31T12:00:00", base);
	vm->clock = clock_new(vm->loop, source, err);
	if (!vm->clock)
		return -1;
	if (ns >= 0)
		clock_set_wall_base(vm->clock, ns);
	return 0;
}

static struct vm *make(struct config *c, struct err *err)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (!vm) {
		err_set(err, "out of memory");
		return NULL;
	}
	vm->config = c;
	pthread_mutex_init(&vm->cpu_lock, NULL);
	pthread_cond_init(&vm->cpu_change, NULL);
	mem_fence_init();
	vm->loop = loop_new(err);
	if (!vm->loop || read_basics(vm, err) || make_clock(vm, err))
		goto fail;
	vm->stats = stats_new();
	vm->mem = mem_space_new();
	vm->bus = bus_new();
	if (!vm->stats || !vm->mem || !vm->bus) {
		err_set(err, "out of memory");
		goto fail;
	}
	vm->rundir = rundir_new(c, &vm->name, err);
	if (!vm->rundir)
		goto fail;
	vm->terminal = terminal_new(vm, err);
	if (!vm->terminal || pc_assemble(vm, err))
		goto fail;
	return vm;
fail:
	vm_free(vm);
	return NULL;
}

struct vm *vm_new(struct config *c, struct err *err)
{
	struct vm *vm = make(c, err);

	if (vm && (pc_boot(vm, err) || config_check_unused(c, err))) {
		vm_free(vm);
		return NULL;
	}
	return vm;
}

struct vm *vm_restore(struct config *c, const char *path, struct err *err)
{
	struct vm *vm;

	if (vm_saved_config(path, c, err))
		return NULL;
	vm = make(c, err);
	if (!vm)
		return NULL;
	/* What only a boot reads is known all the same. */
	config_get(c, "kernel");
	config_get(c, "initrd");
	config_get(c, "append");
	if (vm_load(vm, path, err) || config_check_unused(c, err)) {
		vm_free(vm);
		return NULL;
	}
	return vm;
}

int vm_run(struct vm *vm)
{
	struct err err;
	const char *stats;

	vm->qmp = qmp_new(vm, &err);
	if (!vm->qmp || cpus_start(vm, &err) || terminal_start(vm->terminal, &err)) {
		log_line(LOG_ERROR, "vm", "%s", err.msg);
		return 1;
	}
	log_line(LOG_INFO, "vm", "%s: %u CPUs on engine %s", vm->name, vm->cpus, vm->engine->name);
	go(vm);
	loop_run(vm->loop);
	cpus_pause(vm);
	each_device(vm, true);
	for (unsigned n = 0; n < vm->chan_count; n++)
		chan_free(vm->chans[n]);
	vm->chan_count = 0;
	terminal_stop(vm->terminal);
	stats = config_get(vm->config, "stats");
	if (stats && !strcmp(stats, "on"))
		stats_print(vm->stats, stderr);
	return vm->status;
}

void vm_free(struct vm *vm)
{
	struct device *next;

	if (!vm)
		return;
	if (vm->engine_vm)
		cpus_destroy(vm);
	vm_check_initrd_end(vm);
	for (struct device *d = vm->devices; d; d = next) {
		next = d->next;
		if (d->destroy)
			d->destroy(d->self);
	}
	for (unsigned n = 0; n < vm->chan_count; n++)
		chan_free(vm->chans[n]);
	if (vm->qmp)
		qmp_free(vm->qmp);
	if (vm->engine_vm)
		vm->engine->vm_destroy(vm->engine_vm);
	if (vm->chip)
		irqchip_free(vm->chip);
	free(vm->chip_devices);
	pci_bus_free(vm->pci);
	bus_free(vm->bus);
	if (vm->mem)
		mem_space_free(vm->mem);
	if (vm->stats)
		stats_free(vm->stats);
	if (vm->terminal)
		terminal_free(vm->terminal);
	if (vm->rundir)
		rundir_free(vm->rundir);
	if (vm->clock)
		clock_free(vm->clock);
	if (vm->loop)
		loop_free(vm->loop);
	pthread_cond_destroy(&vm->cpu_change);
	pthread_mutex_destroy(&vm->cpu_lock);
	free(vm);
}
