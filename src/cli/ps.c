/* `vireo ps`: the machines of this user. */
#include <stdio.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "vm/rundir.h"

static void show(void *opaque, const char *name, pid_t pid)
{
	struct err err;
	struct client *c = client_open(name, &err);
	json_t *status = c ? client_execute(c, "query-status", NULL, &err) : NULL;
	json_t *cpus = status ? client_execute(c, "query-cpus-fast", NULL, &err) : NULL;
	const char *word = json_string_value(json_object_get(status, "status"));

	printf("%-24s %-8d %-10s %zu\n", name, (int)pid, word ? word : "unknown", json_array_size(cpus));
	json_decref(cpus);
	json_decref(status);
	if (c)
		client_close(c);
}

static int run(struct config *c, int argc, char **argv)
{
	struct err err;

	printf("%-24s %-8s %-10s %s\n", "NAME", "PID", "STATUS", "CPUS");
	return rundir_each(show, NULL, &err) ? cli_fail(&err) : 0;
}

const struct cli_command cli_ps_command = {
	.name = "ps",
	.summary = "List the running machines",
	.operands = "",
	.run = run,
};
