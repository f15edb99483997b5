/* `vireo monitor`: a running machine's monitor in this terminal, or one of its commands. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/attach.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "vm/rundir.h"

/* The words with a space between them. */
static char *join(int argc, char **argv)
{
	size_t len = 1;
	char *line;

	for (int n = 0; n < argc; n++)
		len += strlen(argv[n]) + 1;
	line = calloc(1, len);
	for (int n = 0; line && n < argc; n++) {
		strcat(line, argv[n]);
		strcat(line, n + 1 < argc ? " " : "");
	}
	return line;
}

static int one_command(const char *name, int argc, char **argv)
{
	struct err err = { "out of memory" };
	struct client *c = client_open(name, CLIENT_PATIENCE_MS, &err);
	char *line = c ? join(argc, argv) : NULL;
	json_t *o = line ? client_execute(c, "human-monitor-command", json_pack("{s:s}", "command-line", line), &err)
			 : NULL;

	for (const char *p = json_string_value(o); p && *p; p++)
		if (*p != '\r')
			putchar(*p);
	json_decref(o);
	free(line);
	if (c)
		client_close(c);
	return o ? 0 : cli_fail(&err);
}

static int run(struct config *c, int argc, char **argv)
{
	struct err err;
	int fd;

	if (argc > 1)
		return one_command(argv[0], argc - 1, argv + 1);
	fd = rundir_connect(argv[0], "monitor.sock", &err);
	if (fd < 0)
		return cli_fail(&err);
	cli_attach(fd, argv[0], true);
	return 0;
}

const struct cli_command cli_monitor_command = {
	.name = "monitor",
	.summary = "Attach this terminal to a machine's monitor, or run one of its commands",
	.operands = "NAME [COMMAND]...",
	.min_operands = 1,
	.max_operands = CLI_MANY,
	.operand_words = { "@machine" },
	.text = "The monitor has the names and forms of QEMU's: `help` lists its commands. Ctrl-D, or Ctrl-A x, "
		"detaches;\n"
		"`quit` ends the machine. Ctrl-A Ctrl-A goes to the beginning of the line.",
	.run = run,
};
