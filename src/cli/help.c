/* `vireo help`, the man page and the bash completion, all from the option tables. */
#include "cli/help.h"

#include <string.h>

static void option_head(const struct cli_option *o, char *buf, size_t size)
{
	char letter[8] = "    ";

	if (o->letter)
		snprintf(letter, sizeof(letter), "-%c, ", o->letter);
	snprintf(buf, size, "%s--%s%s%s", letter, o->name, o->metavar ? " " : "", o->metavar ? o->metavar : "");
}

void cli_help(const struct cli_command *cmd, FILE *out)
{
	fprintf(out, "Usage: vireo %s%s%s%s\n\n%s.\n", cmd->name, cmd->options ? " [OPTION]..." : "",
		*cmd->operands ? " " : "", cmd->operands, cmd->summary);
	if (cmd->text)
		fprintf(out, "\n%s\n", cmd->text);
	if (cmd->options)
		fprintf(out, "\nOptions:\n");
	for (const struct cli_option *o = cmd->options; o && o->name; o++) {
		char head[64];

		option_head(o, head, sizeof(head));
		fprintf(out, "  %-30s %s\n", head, o->help);
	}
}

void cli_overview(FILE *out)
{
	fprintf(out, "Usage: vireo COMMAND [OPTION]...\n\nRuns virtual machines on any Linux host.\n\nCommands:\n");
	for (const struct cli_command *const *c = cli_commands; *c; c++)
		fprintf(out, "  %-10s %s\n", (*c)->name, (*c)->summary);
	fprintf(out, "\n'vireo help COMMAND' describes one command; 'vireo --version' prints the version.\n");
}

/* troff: a leading dot or quote would be a request, and a dash must stay a dash. */
static void roff(FILE *out, const char *text)
{
	bool line_start = true;

	for (; *text; text++) {
		if (line_start && (*text == '.' || *text == '\''))
			fputs("\\&", out);
		line_start = *text == '\n';
		if (*text == '-' || *text == '\\')
			fprintf(out, "\\%c", *text == '\\' ? 'e' : '-');
		else
			fputc(*text, out);
	}
}

static void man_command(const struct cli_command *cmd, FILE *out)
{
	fprintf(out, ".SS vireo %s", cmd->name);
	fprintf(out, "%s%s%s\n", cmd->options ? " [OPTION]..." : "", *cmd->operands ? " " : "", cmd->operands);
	roff(out, cmd->summary);
	fputs(".\n", out);
	if (cmd->text) {
		fputs(".PP\n", out);
		roff(out, cmd->text);
		fputc('\n', out);
	}
	for (const struct cli_option *o = cmd->options; o && o->name; o++) {
		fputs(".TP\n.B ", out);
		if (o->letter)
			fprintf(out, "\\-%c, ", o->letter);
		fputs("\\-\\-", out);
		roff(out, o->name);
		if (o->metavar) {
			fputs(" \\fI", out);
			roff(out, o->metavar);
			fputs("\\fR", out);
		}
		fputc('\n', out);
		roff(out, o->help);
		fputc('\n', out);
	}
}

void cli_man_page(FILE *out)
{
	fputs(".TH VIREO 1 \"\" \"vireo " VIREO_VERSION "\" \"User Commands\"\n"
	      ".SH NAME\nvireo \\- run virtual machines on any Linux host\n"
	      ".SH SYNOPSIS\n.B vireo\n.I COMMAND\n[\\fIOPTION\\fR]...\n.SH COMMANDS\n",
	      out);
	for (const struct cli_command *const *c = cli_commands; *c; c++)
		man_command(*c, out);
	fputs(".SH EXIT STATUS\n0 when the guest powered off or the command did its work, 1 on an error, 2 when the\n"
	      "guest stopped by a fatal fault. With isa\\-debug\\-exit the guest chooses: (value << 1) | 1.\n"
	      ".SH FILES\n.TP\n.I $XDG_RUNTIME_DIR/vireo/NAME/\nThe run directory of a machine: control socket"
	      " (QMP), console socket and process id.\n.TP\n.I $XDG_CACHE_HOME/vireo/\nGuests made by\n"
	      ".BR \"vireo guest\" .\n",
	      out);
}

static void completion_words(const struct cli_option *o, FILE *out)
{
	if (!o->words)
		return;
	if (!strcmp(o->words, "@file")) {
		fprintf(out, "\t\t--%s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n", o->name);
		return;
	}
	fprintf(out, "\t\t--%s) COMPREPLY=($(compgen -W \"", o->name);
	for (const char *p = o->words; *p; p++)
		fputc(*p == '|' ? ' ' : *p, out);
	fputs("\" -- \"$cur\")); return ;;\n", out);
}

void cli_bash_completion(FILE *out)
{
	fputs("# bash completion for vireo, generated from its option tables\n_vireo()\n{\n"
	      "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
	      "\tif [ \"$COMP_CWORD\" = 1 ]; then\n\t\tCOMPREPLY=($(compgen -W \"",
	      out);
	for (const struct cli_command *const *c = cli_commands; *c; c++)
		fprintf(out, "%s ", (*c)->name);
	fputs("\" -- \"$cur\"))\n\t\treturn\n\tfi\n\tcase ${COMP_WORDS[1]} in\n", out);
	for (const struct cli_command *const *c = cli_commands; *c; c++) {
		fprintf(out, "\t%s)\n\t\tcase $prev in\n", (*c)->name);
		for (const struct cli_option *o = (*c)->options; o && o->name; o++)
			completion_words(o, out);
		fputs("\t\tesac\n\t\tCOMPREPLY=($(compgen -W \"", out);
		for (const struct cli_option *o = (*c)->options; o && o->name; o++)
			fprintf(out, "--%s ", o->name);
		fputs("\" -- \"$cur\"))\n\t\t;;\n", out);
	}
	fputs("\tesac\n}\ncomplete -o default -F _vireo vireo\n", out);
}

static int help_run(struct config *c, int argc, char **argv)
{
	const struct cli_command *cmd;

	if (!argc) {
		cli_overview(stdout);
		return 0;
	}
	cmd = cli_command_find(argv[0]);
	if (!cmd) {
		fprintf(stderr, "vireo: no command '%s' (see 'vireo help')\n", argv[0]);
		return 1;
	}
	cli_help(cmd, stdout);
	return 0;
}

const struct cli_command cli_help_command = {
	.name = "help",
	.summary = "Describe vireo or one of its commands",
	.operands = "[COMMAND]",
	.max_operands = 1,
	.run = help_run,
};
