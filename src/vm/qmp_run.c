/* QMP: the run state, and ends. */
#include <stdlib.h>

#include "vm/impl.h"
#include "vm/monitor.h"
#include "vm/qmp.h"

static json_t *stop(struct vm *vm, const json_t *args, struct err *err)
{
	vm_pause(vm);
	return json_object();
}

static json_t *cont(struct vm *vm, const json_t *args, struct err *err)
{
	return vm_resume(vm, err) ? NULL : json_object();
}

static void end(void *opaque)
{
	vm_quit(opaque, 0, "host-qmp-quit");
}

/* After the answer. */
static json_t *quit(struct vm *vm, const json_t *args, struct err *err)
{
	loop_post(vm->loop, end, vm);
	return json_object();
}

static json_t *powerdown(struct vm *vm, const json_t *args, struct err *err)
{
	vm_power_button(vm);
	return json_object();
}

static json_t *reset(struct vm *vm, const json_t *args, struct err *err)
{
	return vm_reset(vm, "host-qmp-system-reset", err) ? NULL : json_object();
}

/* S5 is the only sleeping state that there is, and nobody wakes from that. */
static json_t *wakeup(struct vm *vm, const json_t *args, struct err *err)
{
	err_set(err, "Unable to wake up: guest is not in suspended state");
	return NULL;
}

static json_t *human_monitor(struct vm *vm, const json_t *args, struct err *err)
{
	json_int_t cpu = json_integer_value(json_object_get(args, "cpu-index"));
	char *text;
	json_t *o;

	if (cpu < 0 || cpu >= vm->cpus) {
		err_set(err, "Parameter 'cpu-index' expects a CPU number");
		return NULL;
	}
	text = monitor_run(vm, (unsigned)cpu, json_string_value(json_object_get(args, "command-line")));
	o = text ? json_string(text) : NULL;
	if (!o)
		err_set(err, "the output is too large, or not text");
	free(text);
	return o;
}

const struct qmp_command qmp_run_commands[] = {
	{ "human-monitor-command", "command-line:str ?cpu-index:int", "str", human_monitor },
	{ "cont", "", "", cont },
	{ "quit", "", "", quit },
	{ "stop", "", "", stop },
	{ "system_powerdown", "", "", powerdown },
	{ "system_reset", "", "", reset },
	{ "system_wakeup", "", "", wakeup },
	{ 0 },
};
