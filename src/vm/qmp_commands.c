/* QMP: all commands, and how they are described to those who ask. */
#include <stdio.h>
#include <string.h>

#include "vm/impl.h"
#include "vm/qmp.h"
#include "vm/qmp_types.h"

static const struct qmp_command *const topics[] = {
	qmp_block_commands,   qmp_fd_commands,	   qmp_info_commands,	 qmp_input_commands,
	qmp_machine_commands, qmp_memory_commands, qmp_migrate_commands, qmp_node_commands,
	qmp_pci_commands,     qmp_run_commands,	   qmp_schema_commands,	 qmp_screen_commands,
};

const struct qmp_command *qmp_command_at(size_t n)
{
	for (size_t t = 0; t < sizeof(topics) / sizeof(topics[0]); t++)
		for (const struct qmp_command *c = topics[t]; c->name; c++)
			if (!n--)
				return c;
	return NULL;
}

const struct qmp_command *qmp_find_command(const char *name)
{
	const struct qmp_command *c;

	for (size_t n = 0; (c = qmp_command_at(n)); n++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

static json_t *query_commands(struct vm *vm, const json_t *args, struct err *err)
{
	json_t *list = json_array();
	const struct qmp_command *c;

	for (size_t n = 0; (c = qmp_command_at(n)); n++)
		json_array_append_new(list, json_pack("{s:s}", "name", c->name));
	return list;
}

static json_t *capabilities(struct vm *vm, const json_t *args, struct err *err)
{
	const json_t *first = json_array_get(json_object_get(args, "enable"), 0);

	if (!first)
		return json_object();
	err_set(err, "Capability '%s' is not available", json_string_value(first));
	return NULL;
}

/* --- the schema: QEMU's docs/devel/qapi-code-gen, "Client JSON Protocol introspection" --- */

/* Objects without a name, such as a command's arguments, are called as it is, with this in front. */
#define ANONYMOUS "q_obj_"

static json_t *entry(json_t *list, const char *name, const char *meta)
{
	json_t *o = json_pack("{s:s,s:s}", "name", name, "meta-type", meta);

	json_array_append_new(list, o);
	return o;
}

static json_t *object(json_t *list, const char *name, const char *members)
{
	json_t *o = entry(list, name, "object"), *all = json_array(), *variants;
	const char *at = members;
	struct qmp_member m;

	json_object_set_new(o, "members", all);
	while (qmp_next_member(&at, &m)) {
		json_t *member = json_pack("{s:s,s:s}", "name", m.name, "type", m.type);

		if (m.optional)
			json_object_set_new(member, "default", json_null());
		json_array_append_new(all, member);
		if (!m.tag)
			continue;
		variants = json_array();
		json_object_set_new(o, "tag", json_string(m.name));
		json_object_set_new(o, "variants", variants);
		while (qmp_next_member(&at, &m))
			json_array_append_new(variants, json_pack("{s:s,s:s}", "case", m.name, "type", m.type));
	}
	return o;
}

static void enumeration(json_t *list, const char *name, const char *words)
{
	json_t *o = entry(list, name, "enum"), *members = json_array(), *values = json_array();
	const char *at = words + 1;
	struct qmp_member m;

	json_object_set_new(o, "members", members);
	json_object_set_new(o, "values", values);
	while (qmp_next_member(&at, &m)) {
		json_array_append_new(members, json_pack("{s:s}", "name", m.name));
		json_array_append_new(values, json_string(m.name));
	}
}

/* Lists have a name of their own, "[T]", and come once each. */
static void list_type(json_t *list, json_t *seen, const char *type)
{
	char element[QMP_NAME];
	json_t *o;

	if (*type != '[' || json_object_get(seen, type))
		return;
	json_object_set_new(seen, type, json_true());
	snprintf(element, sizeof(element), "%.*s", (int)strlen(type) - 2, type + 1);
	o = entry(list, type, "array");
	json_object_set_new(o, "element-type", json_string(element));
}

static void lists_in(json_t *list, json_t *seen, const char *members)
{
	const char *at = members;
	struct qmp_member m;

	while (qmp_next_member(&at, &m))
		list_type(list, seen, m.type);
}

/* The name of the type of a command's or an event's members, which is described with it. */
static const char *arguments(json_t *list, const char *of, const char *what, const char *members)
{
	static char name[QMP_NAME];

	if (!*members)
		return ANONYMOUS "empty";
	snprintf(name, sizeof(name), ANONYMOUS "%s%s", of, what);
	object(list, name, members);
	return name;
}

static json_t *query_schema(struct vm *vm, const json_t *args, struct err *err)
{
	static const struct {
		const char *name, *json;
	} builtins[] = { { "str", "string" },	{ "int", "int" },	{ "size", "int" },
			 { "bool", "boolean" }, { "number", "number" }, { "any", "value" } };
	json_t *list = json_array(), *seen = json_object(), *o;
	const struct qmp_command *c;

	for (size_t n = 0; (c = qmp_command_at(n)); n++) {
		o = entry(list, c->name, "command");
		json_object_set_new(o, "arg-type", json_string(arguments(list, c->name, "-arg", c->args)));
		json_object_set_new(o, "ret-type", json_string(*c->ret ? c->ret : ANONYMOUS "empty"));
		json_object_set_new(o, "allow-oob", json_false());
		lists_in(list, seen, c->args);
		list_type(list, seen, c->ret);
	}
	for (const struct qmp_type *e = qmp_events; e->name; e++) {
		o = entry(list, e->name, "event");
		json_object_set_new(o, "arg-type", json_string(arguments(list, e->name, "-arg", e->members)));
	}
	for (const struct qmp_type *t = qmp_types; t->name; t++) {
		if (*t->members == '=') {
			enumeration(list, t->name, t->members);
			continue;
		}
		object(list, t->name, t->members);
		lists_in(list, seen, t->members);
	}
	enumeration(list, "QKeyCode", qmp_members("QKeyCode"));
	for (size_t n = 0; n < sizeof(builtins) / sizeof(builtins[0]); n++) {
		o = entry(list, builtins[n].name, "builtin");
		json_object_set_new(o, "json-type", json_string(builtins[n].json));
	}
	object(list, ANONYMOUS "empty", "");
	json_decref(seen);
	return list;
}

const struct qmp_command qmp_schema_commands[] = {
	{ "qmp_capabilities", "?enable:[QMPCapability]", "", capabilities },
	{ "query-commands", "", "[CommandInfo]", query_commands },
	{ "query-qmp-schema", "", "[SchemaInfo]", query_schema },
	{ 0 },
};
