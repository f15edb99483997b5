/* QMP: devices of the machine that have something to be told. */
#include <string.h>

#include "dev/e1000.h"
#include "virtio/devices.h"
#include "vm/impl.h"
#include "vm/qmp.h"

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

/* To all processors, as the button of a server does. */
void vm_inject_nmi(struct vm *vm)
{
	for (unsigned n = 0; n < vm->cpus; n++)
		vcpu_signal(vm->cpu[n].vcpu, CPU_SIGNAL_NMI, 0);
}

static json_t *inject_nmi(struct vm *vm, const json_t *args, struct err *err)
{
	vm_inject_nmi(vm);
	return json_object();
}

static json_t *set_link(struct vm *vm, const json_t *args, struct err *err)
{
	const char *name = json_string_value(json_object_get(args, "name"));
	bool up = json_is_true(json_object_get(args, "up"));

	for (unsigned n = 0; n < vm->net_count; n++) {
		const struct vm_net *net = &vm->nets[n];

		if (!vm_is_called(&net->called, net->name, name))
			continue;
		if (up && net->back_end->gone) {
			err_set(err, "Device '%.80s' cannot be plugged in: the other end of its cable is gone for good",
				name);
			return NULL;
		}
		if (net->virtio)
			virtio_net_set_link(net->virtio, up);
		else
			e1000_set_link(net->e1000, up);
		return json_object();
	}
	return qmp_fail(vm, "DeviceNotFound", err, "Device '%.80s' not found", name);
}

static bool has(const json_t *names, const struct vm_net *net)
{
	size_t n;
	json_t *name;

	json_array_foreach(names, n, name)
	{
		if (vm_is_called(&net->called, net->name, json_string_value(name)))
			return true;
	}
	return !names;
}

/* Once, whatever `rounds` are: a guest that has answered has said it, and a switch learns from one frame. */
static json_t *announce_self(struct vm *vm, const json_t *args, struct err *err)
{
	const json_t *names = json_object_get(args, "interfaces");

	for (unsigned n = 0; n < vm->net_count; n++) {
		const struct vm_net *net = &vm->nets[n];

		if (!has(names, net))
			continue;
		if (net->virtio)
			virtio_net_announce(net->virtio);
		else
			e1000_announce(net->e1000);
	}
	return json_object();
}

const struct qmp_command qmp_machine_commands[] = {
	{ "announce-self", "initial:int max:int rounds:int step:int ?interfaces:[str] ?id:str", "", announce_self },
	{ "balloon", "value:int", "", balloon },
	{ "inject-nmi", "", "", inject_nmi },
	{ "query-balloon", "", "BalloonInfo", query_balloon },
	{ "set_link", "name:str up:bool", "", set_link },
	{ 0 },
};
