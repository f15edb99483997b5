/* QMP: keys and mice. */
#include <string.h>

#include "vm/impl.h"
#include "vm/qmp.h"

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

static json_t *query_mice(struct vm *vm, const json_t *args, struct err *err)
{
	if (!vm->input.mouse)
		return json_array();
	return json_pack("[{s:s,s:i,s:b,s:b}]", "name", "PS/2 Mouse", "index", 0, "current", 1, "absolute", 0);
}

const struct qmp_command qmp_input_commands[] = {
	{ "query-mice", "", "[MouseInfo]", query_mice },
	{ "send-key", "keys:[KeyValue] ?hold-time:int", "", send_key },
	{ 0 },
};
