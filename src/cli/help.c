/* `vireo help`, from the option tables. */
#include "cli/help.h"

#include <string.h>

#define HELP_COLUMN 32

/* Behind a head of `n` columns; one that is too wide has a line of its own. */
static void second_column(FILE *out, int n, const char *text)
{
	fprintf(out, n >= HELP_COLUMN ? "\n%*s%s\n" : "%*s%s\n", n >= HELP_COLUMN ? HELP_COLUMN : HELP_COLUMN - n, "",
		text);
}

static void option_line(FILE *out, const struct cli_option *o)
{
	char letter[] = "    ";
	int n;

	if (o->letter)
		snprintf(letter, sizeof(letter), o->name ? "-%c, " : "-%c", o->letter);
	n = fprintf(out, "  %s%s%s%s%s", letter, o->name ? "--" : "", o->name ? o->name : "", o->metavar ? " " : "",
		    o->metavar ? o->metavar : "");
	second_column(out, n, o->help);
}

static void item_line(FILE *out, const char *const item[4])
{
	second_column(out, fprintf(out, "  %s%s%s", item[0], *item[1] ? " " : "", item[1]), item[2]);
}

static void command_line(const struct cli_command *cmd, void *out)
{
	fprintf(out, "  %-12s %s\n", cli_last_word(cmd), cmd->summary);
}

void cli_help(const struct cli_command *cmd, FILE *out)
{
	if (cmd->help) {
		cmd->help(out);
		return;
	}
	fprintf(out, "Usage: vireo %s%s%s%s\n\n%s.\n", cmd->name, cmd->options ? " [OPTION]..." : "",
		*cmd->operands ? " " : "", cmd->operands, cmd->summary);
	if (cmd->text)
		fprintf(out, "\n%s\n", cmd->text);
	if (cmd->subcommands)
		fprintf(out, "\nCommands ('vireo help %s COMMAND' describes one):\n", cmd->name);
	cli_each_subcommand(cmd, command_line, out);
	if (cmd->options)
		fprintf(out, "\nOptions:\n");
	for (const struct cli_option *o = cmd->options; !cli_option_end(o); o++)
		option_line(out, o);
	if (cmd->items) {
		fprintf(out, "\n%s:\n", cmd->items_title);
		cmd->items(item_line, out);
	}
}

void cli_overview(FILE *out)
{
	fprintf(out, "Usage: vireo COMMAND [OPTION]...\n\nRuns virtual machines on any Linux host.\n\nCommands:\n");
	for (const struct cli_command *const *c = cli_commands; *c; c++)
		fprintf(out, "  %-10s %s\n", (*c)->name, (*c)->summary);
	fprintf(out, "\n'vireo help COMMAND' describes one command; 'vireo --version' prints the version.\n");
}

static void print_help(const struct cli_command *cmd, void *out)
{
	cli_help(cmd, out);
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
	if (!cmd)
		return cli_fail(&err);
	if (argc > 1)
		return cli_subcommand(cmd, argv[1], print_help, stdout, &err) ? cli_fail(&err) : 0;
	cli_help(cmd, stdout);
	return 0;
}

const struct cli_command cli_help_command = {
	.name = "help",
	.summary = "Describe vireo or one of its commands",
	.operands = "[COMMAND [SUBCOMMAND]]",
	.max_operands = 2,
	.operand_words = { "@command", "@subcommand" },
	.run = help_run,
};
