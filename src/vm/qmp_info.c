/* QMP: what the machine is. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cpu/x86/cpuid.h"
#include "vm/impl.h"
#include "vm/qmp.h"

/* The number is that of the protocol, by which clients know what there is; the package says whose it is. */
json_t *qmp_version(void)
{
	int major = 0, minor = 0, micro = 0;

	sscanf(VM_QEMU_VERSION, "%d.%d.%d", &major, &minor, &micro);
	return json_pack("{s:{s:i,s:i,s:i},s:s}", "qemu", "major", major, "minor", minor, "micro", micro, "package",
			 "vireo-" VIREO_VERSION);
}

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
	const char *given = config_peek(vm->config, "name");

	return vm->qemu_names && !given ? json_object() : json_pack("{s:s}", "name", vm->name);
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

static json_t *query_memory(struct vm *vm, const json_t *args, struct err *err)
{
	return json_pack("{s:I,s:i}", "base-memory", (json_int_t)(vm->ram_low + vm->ram_high), "plugged-memory", 0);
}

static json_t *query_iothreads(struct vm *vm, const json_t *args, struct err *err)
{
	return json_array();
}

static json_t *query_current_machine(struct vm *vm, const json_t *args, struct err *err)
{
	return json_pack("{s:b}", "wakeup-suspend-support", 0);
}

static json_t *query_machines(struct vm *vm, const json_t *args, struct err *err)
{
	return json_pack("[{s:s,s:s,s:b,s:i,s:b,s:b,s:b,s:s}]", "name", vm->qemu_names ? "pc-i440fx-7.2" : VM_MACHINE,
			 "alias", "pc", "is-default", 1, "cpu-max", VM_MAX_CPUS, "hotpluggable-cpus", 0,
			 "numa-mem-supported", 0, "deprecated", 0, "default-cpu-type",
			 vm->qemu_names ? "qemu64-x86_64-cpu" : "max-x86_64-cpu");
}

static json_t *query_cpu_definitions(struct vm *vm, const json_t *args, struct err *err)
{
	json_t *list = json_array();
	const char *name;
	char type[64];

	for (unsigned n = 0; (name = x86_model_name(n)); n++) {
		snprintf(type, sizeof(type), "%s-%s-cpu", name, vm->engine->isa);
		json_array_append_new(list, json_pack("{s:s,s:s,s:b,s:b}", "name", name, "typename", type, "static", 0,
						      "deprecated", 0));
	}
	return list;
}

/* Where it leads, as QEMU writes it: `pty` is the other end's descriptor, or -1. */
static void add_chardev(json_t *list, const char *label, const char *where, bool server, int pty)
{
	bool place = !strncmp(where, "unix:", 5) || !strncmp(where, "tcp:", 4);
	char text[600], name[64];

	snprintf(text, sizeof(text), "%s%s", where, place && server ? ",server=on" : "");
	if (pty >= 0 && !ttyname_r(pty, name, sizeof(name)))
		snprintf(text, sizeof(text), "pty:%s", name);
	json_array_append_new(
		list, json_pack("{s:s,s:o,s:b}", "label", label, "filename", qmp_text(text), "frontend-open", 1));
}

/* "monitor0" and so on, which are at places of their own. */
static void add_places(struct vm *vm, json_t *list, const char *kind)
{
	for (unsigned n = 0;; n++) {
		char key[16], sub[32];
		const char *where, *id;
		bool server;
		struct err err;

		snprintf(key, sizeof(key), "%s%u", kind, n);
		where = config_peek(vm->config, key);
		if (!where)
			return;
		snprintf(sub, sizeof(sub), "%s.server", key);
		if (config_bool(vm->config, sub, true, &server, &err))
			return;
		snprintf(sub, sizeof(sub), "%s.id", key);
		id = config_peek(vm->config, sub);
		if (strcmp(where, "none"))
			add_chardev(list, id ? id : key, where, server, -1);
	}
}

static json_t *query_chardev(struct vm *vm, const json_t *args, struct err *err)
{
	json_t *list = json_array();

	for (unsigned n = 0; n < vm->chan_count; n++) {
		const struct vm_chan *v = &vm->chans[n];
		const char *where = config_peek(vm->config, v->key);

		add_chardev(list, v->label, where ? where : "stdio", v->place_server, v->slave);
	}
	add_places(vm, list, "monitor");
	add_places(vm, list, "qmp");
	return list;
}

const struct qmp_command qmp_info_commands[] = {
	{ "query-chardev", "", "[ChardevInfo]", query_chardev },
	{ "query-cpu-definitions", "", "[CpuDefinitionInfo]", query_cpu_definitions },
	{ "query-cpus-fast", "", "[CpuInfoFast]", query_cpus },
	{ "query-current-machine", "", "CurrentMachineParams", query_current_machine },
	{ "query-iothreads", "", "[IOThreadInfo]", query_iothreads },
	{ "query-kvm", "", "KvmInfo", query_kvm },
	{ "query-machines", "", "[MachineInfo]", query_machines },
	{ "query-memory-size-summary", "", "MemoryInfo", query_memory },
	{ "query-name", "", "NameInfo", query_name },
	{ "query-status", "", "StatusInfo", query_status },
	{ "query-target", "", "TargetInfo", query_target },
	{ "query-uuid", "", "UuidInfo", query_uuid },
	{ "query-version", "", "VersionInfo", query_version },
	{ "x-vireo-stats", "", "any", query_counters },
	{ 0 },
};
