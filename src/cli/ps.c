/* `vireo ps`: the machines of this user. */
#include <stdio.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "vm/rundir.h"

#define PATIENCE_MS 2000 /* a machine that hangs must not hide the others */

static const struct cli_option options[] = {
	{ "json", 0, CLI_FLAG, "json", NULL, NULL, "print a JSON array for programs", NULL },
	{ 0 },
};

/* Takes one machine into the array. */
static void look(void *opaque, const char *name, pid_t pid)
{
	struct err err;
	struct client *c = client_open(name, PATIENCE_MS, &err);
	json_t *cpus = c ? client_execute(c, "query-cpus-fast", NULL, &err) : NULL;
	char status[32] = "no answer";

	if (cpus)
		client_status(c, status, sizeof(status), &err);
	json_array_append_new(opaque, json_pack("{s:s,s:i,s:s,s:i}", "name", name, "pid", (int)pid, "status", status,
						"cpus", (int)json_array_size(cpus)));
	json_decref(cpus);
	if (c)
		client_close(c);
}

static void print_table(const json_t *list)
{
	size_t n;
	json_t *o;

	printf("%-24s %-8s %-14s %s\n", "NAME", "PID", "STATUS", "CPUS");
	json_array_foreach(list, n, o) printf("%-24s %-8d %-14s %d\n", json_string_value(json_object_get(o, "name")),
					      (int)json_integer_value(json_object_get(o, "pid")),
					      json_string_value(json_object_get(o, "status")),
					      (int)json_integer_value(json_object_get(o, "cpus")));
}

static int run(struct config *c, int argc, char **argv)
{
	json_t *list = json_array();
	struct err err;
	bool json;
	int status = 0;

	if (config_bool(c, "json", false, &json, &err) || rundir_each(look, list, &err)) {
		status = cli_fail(&err);
	} else if (json) {
		json_dumpf(list, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		print_table(list);
	}
	json_decref(list);
	return status;
}

const struct cli_command cli_ps_command = {
	.name = "ps",
	.summary = "List the running machines",
	.operands = "",
	.options = options,
	.run = run,
};
