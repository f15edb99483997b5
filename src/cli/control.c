/* `vireo pause`, `resume` and `reset`: one QMP command each. */
#include "cli/client.h"
#include "cli/commands.h"

static int each(int argc, char **argv, const char *command)
{
	struct err err;
	int status = 0;

	for (int n = 0; n < argc; n++) {
		struct client *vm = client_open(argv[n], CLIENT_PATIENCE_MS, &err);

		if (!vm || client_do(vm, command, &err))
			status = cli_fail(&err);
		if (vm)
			client_close(vm);
	}
	return status;
}

static int pause_run(struct config *c, int argc, char **argv)
{
	return each(argc, argv, "stop");
}

static int resume_run(struct config *c, int argc, char **argv)
{
	return each(argc, argv, "cont");
}

static int reset_run(struct config *c, int argc, char **argv)
{
	return each(argc, argv, "system_reset");
}

const struct cli_command cli_pause_command = {
	.name = "pause",
	.summary = "Stop a machine's CPUs and its clock",
	.operands = "NAME...",
	.min_operands = 1,
	.max_operands = CLI_MANY,
	.operand_words = { "@machine" },
	.run = pause_run,
};

const struct cli_command cli_resume_command = {
	.name = "resume",
	.summary = "Let a paused or saved machine go on",
	.operands = "NAME...",
	.min_operands = 1,
	.max_operands = CLI_MANY,
	.operand_words = { "@machine" },
	.run = resume_run,
};

const struct cli_command cli_reset_command = {
	.name = "reset",
	.summary = "Press a machine's reset button",
	.operands = "NAME...",
	.min_operands = 1,
	.max_operands = CLI_MANY,
	.operand_words = { "@machine" },
	.run = reset_run,
};
