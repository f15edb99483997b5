/* The entry point of the `vireo` command: finds the subcommand, parses its options and calls it. */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/help.h"

const struct cli_command *const cli_commands[] = {
	&cli_run_command,     &cli_ps_command,	    &cli_stop_command,	&cli_console_command, &cli_save_command,
	&cli_restore_command, &cli_engines_command, &cli_guest_command, &cli_help_command,    NULL,
};

static int run_command(const struct cli_command *cmd, int argc, char **argv)
{
	struct config *c = config_new();
	struct err err;
	int operands, status;

	if (cli_parse(cmd, c, argc, argv, &operands, &err))
		status = cli_fail(&err);
	else
		status = cmd->run(c, operands, argv);
	config_free(c);
	return status;
}

/* Options before the command; used by people and, for the generated documents, by the build. */
static const struct {
	const char *name;
	void (*print)(FILE *out);
} generators[] = {
	{ "--help", cli_overview },
	{ "-h", cli_overview },
	{ "--print-man-page", cli_man_page },
	{ "--print-bash-completion", cli_bash_completion },
};

int main(int argc, char **argv)
{
	const struct cli_command *cmd;

	if (argc < 2) {
		cli_overview(stderr);
		return 1;
	}
	if (!strcmp(argv[1], "--version")) {
		puts("vireo " VIREO_VERSION);
		return 0;
	}
	for (size_t i = 0; i < sizeof(generators) / sizeof(generators[0]); i++) {
		if (!strcmp(argv[1], generators[i].name)) {
			generators[i].print(stdout);
			return 0;
		}
	}
	cmd = cli_command_find(argv[1]);
	if (!cmd) {
		fprintf(stderr, "vireo: no command '%s' (see 'vireo help')\n", argv[1]);
		return 1;
	}
	if (argc == 3 && (!strcmp(argv[2], "--help") || !strcmp(argv[2], "-h"))) {
		cli_help(cmd, stdout);
		return 0;
	}
	return run_command(cmd, argc - 2, argv + 2);
}
