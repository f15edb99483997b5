/* `vireo help`, from the option tables. */
#include "cli/help.h"

#include <string.h>

#define HELP_COLUMN 32

static void option_line(FILE *out, const struct cli_option *o)
{
	char letter[] = "    ";
	int n;

	if (o->letter)
		snprintf(letter, sizeof(letter), "-%c, ", o->letter);
	n = fprintf(out, "  %s--%s%s%s", letter, o->name, o->metavar ? " " : "", o->metavar ? o->metavar : "");
	/* A head that is too wide has a line of its own. */
	fprintf(out, n >= HELP_COLUMN ? "\n%*s%s\n" : "%*s%s\n", n >= HELP_COLUMN ? HELP_COLUMN : HELP_COLUMN - n, "",
		o->help);
}

void cli_help(const struct cli_command *cmd, FILE *out)
{
	fprintf(out, "Usage: vireo %s%s%s%s\n\n%s.\n", cmd->name, cmd->options ? " [OPTION]..." : "",
		*cmd->operands ? " " : "", cmd->operands, cmd->summary);
	if (cmd->text)
		fprintf(out, "\n%s\n", cmd->text);
	if (cmd->subcommands)
		fprintf(out, "\nCommands ('vireo help %s COMMAND' describes one):\n", cmd->name);
	for (const struct cli_command *const *s = cmd->subcommands; s && *s; s++)
		fprintf(out, "  %-12s %s\n", (*s)->name + strlen(cmd->name) + 1, (*s)->summary);
	if (cmd->options)
		fprintf(out, "\nOptions:\n");
	for (const struct cli_option *o = cmd->options; o && o->name; o++)
		option_line(out, o);
}

void cli_overview(FILE *out)
{
	fprintf(out, "Usage: vireo COMMAND [OPTION]...\n\nRuns virtual machines on any Linux host.\n\nCommands:\n");
	for (const struct cli_command *const *c = cli_commands; *c; c++)
		fprintf(out, "  %-10s %s\n", (*c)->name, (*c)->summary);
	fprintf(out, "\n'vireo help COMMAND' describes one command; 'vireo --version' prints the version.\n");
}

static int help_run(struct config *c, int argc, char **argv)
{
	const struct cli_command *cmd;
	struct err err;

	if (!argc) {
		cli_overview(stdout);
		return 0;
	}
	cmd = cli_command_find(argv[0], &err);
	if (cmd && argc > 1 && cmd->subcommands)
		cmd = cli_subcommand_find(cmd, argv[1], &err);
	else if (cmd && argc > 1)
		cmd = err_set(&err, "%s has no commands (see 'vireo help %s')", cmd->name, cmd->name) ? NULL : cmd;
	if (!cmd)
		return cli_fail(&err);
	cli_help(cmd, stdout);
	return 0;
}

const struct cli_command cli_help_command = {
	.name = "help",
	.summary = "Describe vireo or one of its commands",
	.operands = "[COMMAND [SUBCOMMAND]]",
	.max_operands = 2,
	.operand_words = { "@command" },
	.run = help_run,
};
