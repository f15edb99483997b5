/* `vireo stop`: power button, then the plug. */
#include <string.h>

#include "cli/client.h"
#include "cli/commands.h"

static const struct cli_option options[] = {
	{ "force", 'f', CLI_FLAG, "force", NULL, NULL, "end the machine without asking the guest", NULL },
	{ "timeout", 't', CLI_VALUE, "timeout", NULL, "SECONDS", "how long the guest may take (default: 60)", NULL },
	{ 0 },
};

static int run(struct config *c, int argc, char **argv)
{
	struct err err;
	struct client *vm;
	bool force, ended;
	uint64_t seconds;
	json_t *r;

	if (config_bool(c, "force", false, &force, &err) || config_uint(c, "timeout", 60, 0, 86400, &seconds, &err))
		return cli_fail(&err);
	vm = client_open(argv[0], &err);
	if (!vm)
		return cli_fail(&err);
	r = client_execute(vm, force ? "quit" : "system_powerdown", NULL, &err);
	json_decref(r);
	ended = client_wait_end(vm, force ? 10 : (int)seconds);
	client_close(vm);
	if (ended)
		return 0;
	err_set(&err, "%s did not power off within %d s (--force ends it)", argv[0], (int)seconds);
	return cli_fail(&err);
}

const struct cli_command cli_stop_command = {
	.name = "stop",
	.summary = "Ask a machine to power off, or end it",
	.operands = "NAME",
	.min_operands = 1,
	.max_operands = 1,
	.operand_words = { "@machine" },
	.options = options,
	.run = run,
};
