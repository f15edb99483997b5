/* The man page vireo(1), from the option tables, in the man(7) macros. */
#include "cli/help.h"

#include <string.h>

/* Running text: a leading dot or quote would be a request, a dash must stay a dash, an empty line is a paragraph. */
void cli_roff(FILE *out, const char *text)
{
	bool line_start = true;

	for (; *text; text++) {
		if (text[0] == '\n' && text[1] == '\n') {
			fputs("\n.PP", out);
			continue;
		}
		if (line_start && (*text == '.' || *text == '\''))
			fputs("\\&", out);
		line_start = *text == '\n';
		if (*text == '-' || *text == '\\')
			fprintf(out, "\\%c", *text == '\\' ? 'e' : '-');
		else
			fputc(*text, out);
	}
}

static void option(FILE *out, const struct cli_option *o)
{
	fputs(".TP\n.B ", out);
	if (o->letter)
		fprintf(out, "\\-%c%s", o->letter, o->name ? ", " : "");
	if (o->name) {
		fputs("\\-\\-", out);
		cli_roff(out, o->name);
	}
	if (o->metavar) {
		fputs(" \\fI", out);
		cli_roff(out, o->metavar);
		fputs("\\fR", out);
	}
	fputc('\n', out);
	cli_roff(out, o->help);
	fputs(".\n", out);
}

static void item(FILE *out, const char *const item[4])
{
	fputs(".TP\n.B ", out);
	cli_roff(out, item[0]);
	fputs(" \\fR", out);
	cli_roff(out, item[1]);
	fputc('\n', out);
	cli_roff(out, item[2]);
	fputs(item[3] ? ".\n.RS\n" : ".\n", out);
	/* "  -x  what it does", a line each. */
	for (const char *line = item[3]; line && *line;) {
		const char *head = line + strspn(line, " "), *gap = strstr(head, "  "), *end = strchr(head, '\n');
		char text[160];

		snprintf(text, sizeof(text), "%.*s", (int)(gap - head), head);
		fputs(".TP\n.B ", out);
		cli_roff(out, text);
		snprintf(text, sizeof(text), "%.*s", (int)(end - gap - 2), gap + 2);
		fputc('\n', out);
		cli_roff(out, text);
		fputs(".\n", out);
		line = end + 1;
	}
	fputs(item[3] ? ".RE\n" : "", out);
}

static void command(const struct cli_command *cmd, void *opaque)
{
	FILE *out = opaque;

	fprintf(out, ".SS \"vireo %s%s%s%s\"\n", cmd->name, cmd->options ? " [OPTION]..." : "",
		*cmd->operands ? " " : "", cmd->operands);
	cli_roff(out, cmd->summary);
	fputs(".\n", out);
	if (cmd->text) {
		fputs(".PP\n", out);
		cli_roff(out, cmd->text);
		fputc('\n', out);
	}
	for (const struct cli_option *o = cmd->options; !cli_option_end(o); o++)
		option(out, o);
	if (cmd->items) {
		fprintf(out, ".PP\n%s:\n", cmd->items_title);
		cmd->items(item, out);
	}
	cli_each_subcommand(cmd, command, out);
}

static const char head[] =
	".TH VIREO 1 " VIREO_DATE " \"vireo " VIREO_VERSION "\" \"User Commands\"\n"
	".SH NAME\nvireo \\- run virtual machines on any Linux host\n"
	".SH SYNOPSIS\n.B vireo\n.I COMMAND\n[\\fIOPTION\\fR]...\n.br\n"
	".B vireo help\n[\\fICOMMAND\\fR [\\fISUBCOMMAND\\fR]]\n"
	".SH DESCRIPTION\nVireo runs unmodified x86\\-64 operating systems. One process is one machine; its\n"
	"first serial port is the terminal that it was started in.\n"
	".SH COMMANDS\n";

static const char tail[] =
	".SH EXIT STATUS\n0 when the guest powered off, its user ended it, or the command did its work; 1 on an "
	"error;\n"
	"2 when the guest stopped by a fatal fault and \\-\\-no\\-reboot was given; 128 + N when signal N ended the\n"
	"machine. With isa\\-debug\\-exit the guest chooses: (value << 1) | 1.\n"
	".SH ENVIRONMENT\n.TP\n.B XDG_RUNTIME_DIR\nWhere run directories are made; without it\n"
	".I /run/user/UID/\nis used, and without that\n.I /tmp/vireo\\-UID/\n.\n"
	".TP\n.B XDG_CONFIG_HOME\nWhere networks of users other than root are defined; without it\n.I ~/.config\nis "
	"used.\n"
	".TP\n.B VIREO_NET_DIR\nA directory for all of\n"
	".B vireo net\ninstead: definitions are in\n.I networks/\nof it, what runs is in\n.IR run/ .\n"
	".TP\n.B XDG_CACHE_HOME\nWhere guests are kept; without it\n.I ~/.cache\nis used.\n"
	".SH FILES\n.TP\n.I $XDG_RUNTIME_DIR/vireo/NAME/\nThe run directory of a machine: control socket (QMP),\n"
	"console socket, console log and process id.\n.TP\n.I $XDG_CACHE_HOME/vireo/guests/NAME/\nA guest made by\n"
	".BR \"vireo guest\" .\n"
	".TP\n.I /etc/vireo/networks/NAME.json\nA network; of users\n.IR $XDG_CONFIG_HOME/vireo/networks/NAME.json .\n"
	".TP\n.I /run/vireo/net/NAME/\nWhat a network that runs is; of users\n.IR $XDG_RUNTIME_DIR/vireo\\-net/NAME/ "
	".\n"
	".TP\n.I vireo\\-networks.service\nStarts all networks at a boot, where it is enabled.\n"
	".SH EXAMPLES\nMake a small guest and boot it with a disk, a network and two CPUs:\n.PP\n.nf\n.RS\n"
	"dir=$(vireo guest busybox)\n"
	"vireo run \\-\\-cpus 2 \\-\\-kernel $dir/vmlinuz \\-\\-initrd $dir/initrd.img \\e\n"
	"    \\-\\-append console=ttyS0 \\-\\-disk $dir/disk.img \\-\\-net user\n.RE\n.fi\n";

void cli_man_page(FILE *out)
{
	fputs(head, out);
	for (const struct cli_command *const *c = cli_commands; *c; c++)
		command(*c, out);
	fputs(tail, out);
}
