/* What the control socket can do: one function and one row each. Errors are worded as QEMU's. */
#include <stdio.h>
#include <string.h>

#include "virtio/devices.h"
#include "vm/impl.h"
#include "vm/qmp.h"
#include "vm/save.h"

json_t *qmp_version(void)
{
	int major = 0, minor = 0, micro = 0;

	sscanf(VIREO_VERSION, "%d.%d.%d", &major, &minor, &micro);
	return json_pack("{s:{s:i,s:i,s:i},s:s}", "qemu", "major", major, "minor", minor, "micro", micro, "package",
			 "vireo-" VIREO_VERSION);
}

/* --- what it is --- */

static json_t *query_version(struct vm *vm, const json_t *args, struct err *err)
{
	return qmp_version();
}

static json_t *query_status(struct vm *vm, const json_t *args, struct err *err)
{
	return json_pack("{s:s,s:b,s:b}", "status", vm_state_name(vm), "running", vm->state == VM_RUNNING, "singlestep",
			 0);
}

static json_t *query_name(struct vm *vm, const json_t *args, struct err *err)
{
	return json_pack("{s:s}", "name", vm->name);
}

static json_t *query_uuid(struct vm *vm, const json_t *args, struct err *err)
{
	const uint8_t *u = vm->uuid;
	char text[40];

	snprintf(text, sizeof(text), "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1],
		 u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
	return json_pack("{s:s}", "UUID", text);
}

static json_t *query_target(struct vm *vm, const json_t *args, struct err *err)
{
	return json_pack("{s:s}", "arch", vm->engine->isa);
}

static json_t *query_kvm(struct vm *vm, const json_t *args, struct err *err)
{
	const struct engine *kvm = engine_find("kvm");
	struct engine_probe p = { 0 };

	if (kvm)
		kvm->probe(&p);
	return json_pack("{s:b,s:b}", "enabled", vm->engine == kvm, "present", p.available);
}

static json_t *query_cpus(struct vm *vm, const json_t *args, struct err *err)
{
	json_t *list = json_array();
	char path[32];

	for (unsigned n = 0; n < vm->cpus; n++) {
		snprintf(path, sizeof(path), "/machine/cpu[%u]", n);
		json_array_append_new(list,
				      json_pack("{s:i,s:i,s:s,s:s}", "cpu-index", (int)n, "thread-id",
						(int)vm->cpu[n].tid, "qom-path", path, "target", vm->engine->isa));
	}
	return list;
}

static void add_counter(void *opaque, const char *name, uint64_t value)
{
	json_object_set_new(opaque, name, json_integer((json_int_t)value));
}

static json_t *query_counters(struct vm *vm, const json_t *args, struct err *err)
{
	json_t *o = json_object();

	stats_each(vm->stats, add_counter, o);
	return o;
}

/* --- what it does --- */

static json_t *capabilities(struct vm *vm, const json_t *args, struct err *err)
{
	const json_t *wanted = json_object_get(args, "enable"), *first = json_array_get(wanted, 0);

	if (!first)
		return json_object();
	err_set(err, "Capability '%s' is not available", json_is_string(first) ? json_string_value(first) : "?");
	return NULL;
}

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

static bool has_balloon(struct vm *vm, struct err *err)
{
	return vm->balloon || err_set(err, "No balloon device has been activated") == 0;
}

static json_t *balloon(struct vm *vm, const json_t *args, struct err *err)
{
	json_int_t target = json_integer_value(json_object_get(args, "value"));
	uint64_t ram = vm->ram_low + vm->ram_high;

	if (!has_balloon(vm, err))
		return NULL;
	if (target <= 0) {
		err_set(err, "Parameter 'target' expects a size");
		return NULL;
	}
	virtio_balloon_set(vm->balloon, (uint64_t)target < ram ? ram - (uint64_t)target : 0);
	return json_object();
}

static json_t *query_balloon(struct vm *vm, const json_t *args, struct err *err)
{
	uint64_t ram = vm->ram_low + vm->ram_high, given;

	if (!has_balloon(vm, err))
		return NULL;
	given = virtio_balloon_actual(vm->balloon);
	return json_pack("{s:I}", "actual", (json_int_t)(given < ram ? ram - given : 0));
}

static json_t *migrate(struct vm *vm, const json_t *args, struct err *err)
{
	const char *uri = json_string_value(json_object_get(args, "uri"));

	if (strncmp(uri, "file:", 5) || !uri[5]) {
		err_set(err, "Parameter 'uri' expects file:PATH");
		return NULL;
	}
	return vm_save_start(vm, uri + 5, err) ? NULL : json_object();
}

static json_t *migrate_cancel(struct vm *vm, const json_t *args, struct err *err)
{
	vm_save_cancel(vm);
	return json_object();
}

static json_t *query_migrate(struct vm *vm, const json_t *args, struct err *err)
{
	struct save_status s;
	json_t *o;

	if (!vm_save_status(vm, &s))
		return json_object();
	o = json_pack("{s:s,s:I,s:{s:I,s:I,s:I,s:I}}", "status", s.word, "total-time", (json_int_t)s.ms, "ram", "total",
		      (json_int_t)s.total, "remaining", (json_int_t)(s.total - s.done), "transferred",
		      (json_int_t)s.written, "page-size", (json_int_t)MEM_PAGE_SIZE);
	if (s.error)
		json_object_set_new(o, "error-desc", qmp_text(s.error));
	return o;
}

/* One element of send-key's list; 0 and an error: no key. */
static unsigned key_of(const json_t *o, struct err *err)
{
	const char *type = json_string_value(json_object_get(o, "type"));
	const json_t *data = json_object_get(o, "data");
	json_int_t n = json_integer_value(data);
	unsigned key = 0;

	if (type && !strcmp(type, "qcode") && json_is_string(data))
		key = input_key(json_string_value(data));
	else if (type && !strcmp(type, "number") && n > 0 && n < (json_int_t)INPUT_KEYS)
		key = (unsigned)n;
	if (!key)
		err_set(err, "Parameter 'keys' expects a list of {type: qcode, data: NAME}");
	return key;
}

/* All down in their order, and up the other way round. */
static json_t *send_key(struct vm *vm, const json_t *args, struct err *err)
{
	const json_t *list = json_object_get(args, "keys");
	unsigned keys[8];
	size_t n = json_array_size(list);

	if (!vm->input.key) {
		err_set(err, "No keyboard has been activated");
		return NULL;
	}
	if (!n || n > sizeof(keys) / sizeof(keys[0])) {
		err_set(err, "Parameter 'keys' expects one to eight keys");
		return NULL;
	}
	for (size_t k = 0; k < n; k++) {
		keys[k] = key_of(json_array_get(list, k), err);
		if (!keys[k])
			return NULL;
	}
	for (size_t k = 0; k < n; k++)
		vm->input.key(vm->input.opaque, keys[k], true);
	for (size_t k = n; k > 0; k--)
		vm->input.key(vm->input.opaque, keys[k - 1], false);
	return json_object();
}

static json_t *query_commands(struct vm *vm, const json_t *args, struct err *err);

static const struct qmp_command commands[] = {
	{ "balloon", { { "value", "i" } }, balloon },
	{ "cont", { { 0 } }, cont },
	{ "migrate", { { "uri", "s" } }, migrate },
	{ "migrate_cancel", { { 0 } }, migrate_cancel },
	{ "qmp_capabilities", { { "enable", "a?" } }, capabilities },
	{ "query-balloon", { { 0 } }, query_balloon },
	{ "query-commands", { { 0 } }, query_commands },
	{ "query-cpus-fast", { { 0 } }, query_cpus },
	{ "query-kvm", { { 0 } }, query_kvm },
	{ "query-migrate", { { 0 } }, query_migrate },
	{ "query-name", { { 0 } }, query_name },
	{ "query-status", { { 0 } }, query_status },
	{ "query-target", { { 0 } }, query_target },
	{ "query-uuid", { { 0 } }, query_uuid },
	{ "query-version", { { 0 } }, query_version },
	{ "quit", { { 0 } }, quit },
	{ "screendump",
	  { { "filename", "s" }, { "format", "s?" }, { "device", "s?" }, { "head", "i?" } },
	  qmp_screendump },
	{ "send-key", { { "keys", "a" } }, send_key },
	{ "stop", { { 0 } }, stop },
	{ "system_powerdown", { { 0 } }, powerdown },
	{ "system_reset", { { 0 } }, reset },
	{ "x-vireo-screentext", { { 0 } }, qmp_screentext },
	{ "x-vireo-stats", { { 0 } }, query_counters },
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static json_t *query_commands(struct vm *vm, const json_t *args, struct err *err)
{
	json_t *list = json_array();

	for (size_t n = 0; n < COMMANDS; n++)
		json_array_append_new(list, json_pack("{s:s}", "name", commands[n].name));
	return list;
}

const struct qmp_command *qmp_find_command(const char *name)
{
	for (size_t n = 0; n < COMMANDS; n++)
		if (!strcmp(commands[n].name, name))
			return &commands[n];
	return NULL;
}
