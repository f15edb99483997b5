/* `vireo qmp`: one command to a running machine's control socket. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/client.h"
#include "cli/commands.h"

/* A value is JSON where it can be read as such, else a string. */
static json_t *value_of(const char *text)
{
	json_t *o = json_loads(text, JSON_DECODE_ANY, NULL);

	return o ? o : json_string(text);
}

/* "key=value"; a dot in a key begins an object within: "a.b=1" is {"a": {"b": 1}}. */
static int add_argument(json_t *args, const char *word, struct err *err)
{
	const char *eq = strchr(word, '='), *key = word;
	char part[128];
	json_t *v;

	if (!eq || eq == word)
		return err_set(err, "'%s' is not KEY=VALUE", word);
	for (;;) {
		size_t len = strcspn(key, ".=");
		json_t *in;

		snprintf(part, sizeof(part), "%.*s", (int)len, key);
		if (key + len >= eq)
			break;
		in = json_object_get(args, part);
		if (!in) {
			in = json_object();
			json_object_set_new(args, part, in);
		}
		args = in;
		key += len + 1;
	}
	v = value_of(eq + 1);
	return v && !json_object_set_new(args, part, v) ? 0 : err_set(err, "'%s' is not UTF-8", word);
}

/* The command's name, and its arguments in *args; NULL with an error. */
static const char *request(json_t *whole, int argc, char **argv, json_t **args, struct err *err)
{
	const char *name = argv[0];

	if (*name == '{') {
		name = json_string_value(json_object_get(whole, "execute"));
		*args = json_incref(json_object_get(whole, "arguments"));
		if (!name)
			err_set(err, whole ? "the request has no \"execute\"" : "the request is not JSON");
		else if (argc > 1)
			err_set(err, "'%s' is left over", argv[1]);
		return argc > 1 ? NULL : name;
	}
	*args = json_object();
	for (int n = 1; n < argc; n++)
		if (add_argument(*args, argv[n], err))
			return NULL;
	return name;
}

static int execute(const char *machine, const char *name, json_t *args, struct err *err)
{
	struct client *c = client_open(machine, CLIENT_PATIENCE_MS, err);
	json_t *o;

	if (!c) {
		json_decref(args);
		return -1;
	}
	o = client_execute(c, name, args, err);
	if (json_is_string(o))
		fputs(json_string_value(o), stdout);
	else if (o && (json_array_size(o) || json_object_size(o) || !(json_is_array(o) || json_is_object(o)))) {
		json_dumpf(o, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
		putchar('\n');
	}
	json_decref(o);
	client_close(c);
	return o ? 0 : -1;
}

static int run(struct config *c, int argc, char **argv)
{
	json_t *whole = json_loads(argv[1], 0, NULL), *args = NULL;
	const char *name;
	struct err err;
	int rc = -1;

	name = request(whole, argc - 1, argv + 1, &args, &err);
	if (name)
		rc = execute(argv[0], name, args, &err);
	else
		json_decref(args);
	json_decref(whole);
	return rc ? cli_fail(&err) : 0;
}

const struct cli_command cli_qmp_command = {
	.name = "qmp",
	.summary = "Send a QMP command to a machine and print its result",
	.operands = "NAME COMMAND [KEY=VALUE]...",
	.min_operands = 2,
	.max_operands = CLI_MANY,
	.operand_words = { "@machine" },
	.text = "A VALUE is JSON where it can be read as that, else a string; a.b=1 is {\"a\": {\"b\": 1}}. COMMAND "
		"may be a\n"
		"whole request: '{\"execute\": \"stop\"}'. query-commands lists what there is.",
	.run = run,
};
