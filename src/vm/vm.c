/* The life of a VM: made, running, paused, reset, saved, ended. Main loop thread unless said otherwise. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "vm/control.h"
#include "vm/gdb.h"
#include "vm/impl.h"
#include "vm/lan.h"
#include "vm/qmp.h"
#include "vm/rundir.h"
#include "vm/save.h"
#include "vm/terminal.h"

const char *vm_state_name(const struct vm *vm)
{
	static const char *const names[] = {
		[VM_PRELAUNCH] = "prelaunch", [VM_RUNNING] = "running",	  [VM_PAUSED] = "paused",
		[VM_DEBUG] = "debug",	      [VM_IO_ERROR] = "io-error", [VM_SAVING] = "finish-migrate",
		[VM_SAVED] = "postmigrate",   [VM_SHUTDOWN] = "shutdown",
	};

	return vm->state == VM_PAUSED && vm->paused_by ? vm->paused_by : names[vm->state];
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

bool vm_hold(struct vm *vm)
{
	if (vm->state != VM_RUNNING)
		return false;
	halt(vm);
	return true;
}

void vm_let_go(struct vm *vm)
{
	go(vm);
}

void vm_pause(struct vm *vm)
{
	if (vm->state == VM_IO_ERROR)
		each_device(vm, true);
	else if (vm->state == VM_RUNNING)
		halt(vm);
	else
		return;
	vm->state = VM_PAUSED;
	vm->paused_by = NULL;
	log_line(LOG_INFO, "vm", "paused");
	qmp_event(vm->qmp, "STOP", NULL);
}

int vm_resume(struct vm *vm, struct err *err)
{
	if (vm->state == VM_SAVING)
		return err_set(err, "the machine is being saved");
	if (gdb_holds(vm->gdb))
		return err_set(err, "a debugger holds the machine");
	if (vm->state == VM_RUNNING || vm->state == VM_SHUTDOWN)
		return 0;
	if (vm_disk_without_space(vm)) {
		/* The writes are tried again; then vm_disk_changed() comes. */
		if (vm->state != VM_IO_ERROR)
			each_device(vm, false);
		vm->state = VM_IO_ERROR;
		vm_disk_waits(vm, err);
		return err_prefix(err, "the machine goes on by itself when this is over");
	}
	if (vm->state != VM_DEBUG)
		log_line(LOG_INFO, "vm", "runs");
	go(vm);
	qmp_event(vm->qmp, "RESUME", NULL);
	return 0;
}

void vm_debug_stop(struct vm *vm)
{
	if (vm->state != VM_RUNNING)
		return;
	halt(vm);
	vm->state = VM_DEBUG;
	qmp_event(vm->qmp, "STOP", NULL);
}

/* Without space the guest stands still, but its disks do not: they try again. */
void vm_disk_changed(struct vm *vm)
{
	const char *disk = vm_disk_without_space(vm);
	struct err err;

	if (disk && vm->state == VM_RUNNING) {
		cpus_pause(vm);
		clock_stop(vm->clock);
		vm->state = VM_IO_ERROR;
		vm_disk_waits(vm, &err);
		log_line(LOG_INFO, "vm", "paused: %s", err.msg);
		qmp_event(vm->qmp, "STOP", NULL);
	} else if (!disk && vm->state == VM_IO_ERROR) {
		vm_resume(vm, &err);
	}
}

void vm_quit(struct vm *vm, int status, const char *reason)
{
	if (vm->state == VM_SHUTDOWN)
		return;
	vm_save_abandon(vm);
	log_line(LOG_INFO, "vm", "ends: %s", reason);
	qmp_event(vm->qmp, "SHUTDOWN", reason);
	vm->patient = !strncmp(reason, "guest", 5);
	vm->state = VM_SHUTDOWN;
	vm->status = status;
	gdb_ended(vm->gdb, status);
	loop_quit(vm->loop);
}

static void reset_devices(struct vm *vm)
{
	devices_reset(vm->devices);
	pci_bus_reset(vm->pci);
	irqchip_reset(vm->chip);
}

int vm_reset(struct vm *vm, const char *reason, struct err *err)
{
	bool was_running = vm->state == VM_RUNNING;

	if (vm->state == VM_SHUTDOWN)
		return 0;
	if (vm->state == VM_SAVING)
		return err_set(err, "the machine is being saved");
	if (was_running)
		halt(vm);
	vm->paused_by = NULL;
	reset_devices(vm);
	log_line(LOG_INFO, "vm", "reset: %s", reason);
	if (pc_boot(vm, err)) {
		vm_quit(vm, 1, "host-error");
		return -1;
	}
	/* Whatever the guest wanted, it is another one now. */
	cpus_answered(vm);
	qmp_event(vm->qmp, "RESET", reason);
	if (was_running)
		go(vm);
	return 0;
}

void vm_power_button(struct vm *vm)
{
	piix4_pm_power_button(vm->pm);
	log_line(LOG_INFO, "vm", "power button");
	qmp_event(vm->qmp, "POWERDOWN", NULL);
}

/* --- what the guest asks for --- */

/* Switched off, and still there for whoever looks at it or resets it. */
static void stand_still(struct vm *vm, const char *reason)
{
	log_line(LOG_INFO, "vm", "the guest is off");
	qmp_event(vm->qmp, "SHUTDOWN", reason);
	vm_pause(vm);
	vm->paused_by = "shutdown";
	cpus_answered(vm);
}

static void end(struct vm *vm, int status, const char *reason)
{
	if (vm->no_shutdown)
		stand_still(vm, reason);
	else
		vm_quit(vm, status, reason);
}

/* A guest that has panicked stands still or ends; one that has a kernel to save what is left goes on. */
static void answer_panic(struct vm *vm, const struct vm_request *r)
{
	static const char *const actions[] = { [VM_ACTION_PAUSE] = "pause",
					       [VM_ACTION_SHUTDOWN] = "poweroff",
					       [VM_ACTION_NONE] = "run",
					       [VM_ACTION_FAIL] = "poweroff" };
	bool panicked = r->status & PVPANIC_PANICKED;
	enum vm_action action = panicked ? vm->on_panic : VM_ACTION_NONE;

	log_guest("vm", "%s", panicked ? "the guest has panicked" : "the guest saves what a panic has left");
	qmp_event_action(vm->qmp, panicked ? "GUEST_PANICKED" : "GUEST_CRASHLOADED", actions[action]);
	if (action == VM_ACTION_SHUTDOWN || action == VM_ACTION_FAIL) {
		end(vm, action == VM_ACTION_FAIL ? 1 : VM_STATUS_FAULT, r->reason);
		return;
	}
	if (action == VM_ACTION_PAUSE) {
		vm_pause(vm);
		vm->paused_by = "guest-panicked";
	}
	cpus_answered(vm);
}

/* The guest hangs. */
static void answer_watchdog(struct vm *vm, const struct vm_request *r)
{
	static const char *const actions[] = { [VM_ACTION_PAUSE] = "pause",
					       [VM_ACTION_SHUTDOWN] = "poweroff",
					       [VM_ACTION_NONE] = "none",
					       [VM_ACTION_RESET] = "reset",
					       [VM_ACTION_NMI] = "inject-nmi" };
	struct err err;

	log_guest("vm", "the guest's watchdog has run down");
	qmp_event_action(vm->qmp, "WATCHDOG", actions[vm->on_watchdog]);
	switch (vm->on_watchdog) {
	case VM_ACTION_SHUTDOWN:
		end(vm, VM_STATUS_FAULT, r->reason);
		return;
	case VM_ACTION_RESET:
		if (vm->no_reboot)
			end(vm, VM_STATUS_FAULT, r->reason);
		else if (vm_reset(vm, r->reason, &err))
			log_line(LOG_ERROR, "vm", "%s", err.msg);
		return;
	case VM_ACTION_PAUSE:
		vm_pause(vm);
		vm->paused_by = "watchdog";
		break;
	case VM_ACTION_NMI:
		vm_inject_nmi(vm);
		break;
	case VM_ACTION_NONE:
	case VM_ACTION_FAIL:
		break;
	}
	cpus_answered(vm);
}

void vm_answer(void *opaque)
{
	struct vm *vm = opaque;
	struct vm_request r = cpus_requested(vm);
	struct err err;

	if (!r.what)
		return; /* answered already */
	switch (r.what - 1) {
	case MACHINE_POWER_OFF:
		end(vm, r.status, r.reason);
		break;
	case MACHINE_EXIT:
		vm_quit(vm, r.status, r.reason);
		break;
	case MACHINE_RESET:
		if (vm->no_reboot)
			end(vm, r.status, r.reason);
		else if (vm_reset(vm, r.reason, &err))
			log_line(LOG_ERROR, "vm", "%s", err.msg);
		break;
	case MACHINE_PANIC:
		answer_panic(vm, &r);
		break;
	case MACHINE_WATCHDOG:
		answer_watchdog(vm, &r);
		break;
	}
	/* A reset has answered it. Those of a machine that has ended wait for ever. */
}

/* Any thread. */
static void request(void *opaque, enum machine_request what, int status)
{
	static const char *const reasons[] = {
		[MACHINE_POWER_OFF] = "guest-shutdown", [MACHINE_RESET] = "guest-reset",
		[MACHINE_EXIT] = "guest-shutdown",	[MACHINE_PANIC] = "guest-panic",
		[MACHINE_WATCHDOG] = "guest-reset",
	};

	cpus_request(opaque, &(struct vm_request){ (int)what + 1, status, reasons[what] });
}

struct machine_control vm_machine_control(struct vm *vm)
{
	return (struct machine_control){ request, vm };
}

/* --- around a save --- */

int vm_halt_for_save(struct vm *vm, struct err *err)
{
	if (vm->state == VM_SAVING)
		return err_set(err, "the machine is being saved already");
	vm_disk_changed(vm);
	if (vm->state == VM_RUNNING)
		halt(vm);
	/* A reset that the guest has asked for is not part of the state: it happens first. */
	if (cpus_requested(vm).what) {
		vm_answer(vm);
		if (vm->state == VM_RUNNING)
			halt(vm);
	}
	if (vm->state == VM_SHUTDOWN)
		return err_set(err, "the machine has ended");
	/* A write that waits is in no ring any more: a state without it would lose it. */
	if (vm_disk_without_space(vm)) {
		if (vm->state == VM_RUNNING) {
			vm->state = VM_PAUSED;
			vm_resume(vm, err);
		}
		vm_disk_waits(vm, err);
		return -1;
	}
	vm->state = VM_SAVING;
	return 0;
}

void vm_save_ended(struct vm *vm, bool saved, bool was_running)
{
	struct err err;

	vm->state = saved ? VM_SAVED : VM_PAUSED;
	if (saved && was_running)
		qmp_event(vm->qmp, "STOP", NULL);
	else if (was_running)
		vm_resume(vm, &err);
}

/* --- making and running --- */

static int read_basics(struct vm *vm, struct err *err)
{
	static const char *const machines[] = { VM_MACHINE, "pc", NULL };
	static const char *const names[] = { "vireo", "qemu", NULL };
	const char *console;
	uint64_t cpus;
	int choice, whose;

	if (config_choice(vm->config, "machine", 0, machines, &choice, err) ||
	    config_uint(vm->config, "cpus", 1, (struct config_range){ 1, VM_MAX_CPUS }, &cpus, err) ||
	    config_choice(vm->config, "qmp.names", 0, names, &whose, err) ||
	    config_bool(vm->config, "no-reboot", false, &vm->no_reboot, err) ||
	    config_bool(vm->config, "no-shutdown", false, &vm->no_shutdown, err) ||
	    config_bool(vm->config, "paused", false, &vm->paused, err) ||
	    config_bool(vm->config, "stats", false, &vm->print_stats, err) ||
	    config_str(vm->config, "console0", "none", &console, err))
		return -1;
	vm->qemu_names = whose == 1;
	vm->cpus = (unsigned)cpus;
	vm->console_key = strcmp(console, "none") && strcmp(console, "null") ? "console0" : "serial0";
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
	const struct config_range rates = { CLOCK_TSC_HZ_MIN, CLOCK_TSC_HZ_MAX };
	const char *base;
	int64_t ns = -1;
	uint64_t tsc_hz;
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
	if (!vm->clock || config_uint(vm->config, "clock.tsc-hz", clock_tsc_hz(vm->clock), rates, &tsc_hz, err))
		return -1;
	clock_set_tsc_hz(vm->clock, tsc_hz);
	if (ns >= 0)
		clock_set_wall_base(vm->clock, ns);
	return 0;
}

static struct vm *make(struct config *c, bool restored, struct err *err)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (!vm) {
		err_set(err, "out of memory");
		return NULL;
	}
	vm->config = c;
	vm->restored = restored;
	vm->news.timer = -1;
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
	log_line(LOG_INFO, "vm", "%s: made in %s", vm->name, rundir_dir(vm->rundir));
	vm->terminal = terminal_new(vm, err);
	vm->qmp = qmp_new(vm, err);
	if (!vm->terminal || !vm->qmp || pc_assemble(vm, err) || vm_news_begin(vm, err) || gdb_new(vm, &vm->gdb, err))
		goto fail;
	vm->control = control_new(vm, err);
	if (!vm->control)
		goto fail;
	return vm;
fail:
	vm_free(vm);
	return NULL;
}

struct vm *vm_new(struct config *c, struct err *err)
{
	struct vm *vm = make(c, false, err);

	if (vm && (pc_boot(vm, err) || config_check_unused(c, err))) {
		vm_free(vm);
		return NULL;
	}
	return vm;
}

struct vm *vm_restore(struct config *c, const char *path, struct err *err)
{
	static const char *const of_boot[] = { "kernel", "initrd", "append" };
	struct saved *saved = saved_open(path, err);
	struct vm *vm = NULL;

	if (!saved)
		return NULL;
	if (!saved_config(saved, c, err))
		vm = make(c, true, err);
	/* What only a boot reads is known all the same. */
	for (size_t n = 0; n < sizeof(of_boot) / sizeof(of_boot[0]); n++)
		config_get(c, of_boot[n]);
	if (vm && (saved_load(saved, vm, err) || config_check_unused(c, err))) {
		vm_free(vm);
		vm = NULL;
	}
	saved_close(saved);
	if (!vm)
		return NULL;
	vm->state = VM_PAUSED;
	log_line(LOG_INFO, "vm", "restored from %s", path);
	return vm;
}

static bool waits(const struct vm *vm)
{
	return control_waits(vm->control) || vm_chans_wait(vm);
}

void vm_clients_came(struct vm *vm)
{
	if (!waits(vm) && vm->begun && !vm->paused && (vm->state == VM_PRELAUNCH || vm->state == VM_PAUSED))
		go(vm);
}

int vm_start(struct vm *vm, struct err *err)
{
	if (vm_chans_start(vm, err) || vm_start_screen(vm, err) || cpus_start(vm, err))
		return -1;
	vm->started = true;
	return control_start(vm->control, err) || terminal_start(vm->terminal, err) ? -1 : 0;
}

struct vm_ending vm_ending(const struct vm *vm)
{
	return (struct vm_ending){ vm->signal, vm->signal_from, vm->status == VM_STATUS_FAULT };
}

int vm_run(struct vm *vm, struct err *err)
{
	if (!vm->started && vm_start(vm, err)) {
		terminal_stop(vm->terminal);
		return -1;
	}
	log_line(LOG_INFO, "vm", "%s, %u CPU%s on engine %s", vm->paused ? "waits" : "runs", vm->cpus,
		 vm->cpus > 1 ? "s" : "", vm->engine->name);
	if (vm->paused)
		log_line(LOG_WARN, "vm", "%s waits: `vireo resume %s` lets it run", vm->name, vm->name);
	else if (waits(vm))
		log_line(LOG_WARN, "vm", "%s waits for a client of its %s", vm->name,
			 control_waits(vm->control) ? "control socket" : "ports");
	else
		go(vm);
	vm->begun = true;
	loop_run(vm->loop);
	cpus_pause(vm);
	each_device(vm, true);
	/* Ctrl-C has its meaning again while somebody is slow to read. */
	terminal_stop(vm->terminal);
	vm_chans_flush(vm, vm->patient);
	if (vm->print_stats)
		stats_print(vm->stats, stderr);
	return vm->status;
}

size_t vm_hottest(struct vm *vm, struct engine_block *out, size_t most, uint64_t *instructions)
{
	*instructions = 0;
	for (unsigned n = 0; n < vm->cpus; n++)
		*instructions += atomic_load(&vm->cpu[n].vcpu->instructions);
	return vm->engine->hottest ? vm->engine->hottest(vm->engine_vm, out, most) : 0;
}

void vm_free(struct vm *vm)
{
	struct device *next;

	if (!vm)
		return;
	vm_save_free(vm);
	gdb_free(vm->gdb);
	vm->gdb = NULL;
	if (vm->engine_vm)
		cpus_destroy(vm);
	vm_check_initrd_end(vm);
	/* Their threads call devices. */
	vm_free_screen(vm);
	vm_news_end(vm);
	vm_chans_free(vm);
	for (struct device *d = vm->devices; d; d = next) {
		next = d->next;
		if (d->destroy)
			d->destroy(d->self);
	}
	for (unsigned n = 0; n < VM_DISKS && !vm->begun; n++)
		if (vm->nets[n].started)
			vm_lan_leave(vm->config, vm->nets[n].name);
	boot_pass_free(vm->pass); /* fw_cfg's files */
	vm_ide_free(vm);
	control_free(vm->control);
	vm_fds_free(vm);
	vm_media_free(vm);
	qmp_free(vm->qmp);
	if (vm->engine_vm)
		vm->engine->vm_destroy(vm->engine_vm);
	if (vm->chip)
		irqchip_free(vm->chip);
	free(vm->chip_devices);
	pci_bus_free(vm->pci);
	bus_free(vm->bus);
	vm_sync_vars(vm);
	if (vm->firmware_files.vars && vm->vars_fd >= 0)
		close(vm->vars_fd);
	free(vm->order_after_once);
	mem_space_free(vm->upper.smm);
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
