/* The entry point of the `vireo` command: finds the subcommand, parses its options and calls it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/tty.h"
#include "cli/commands.h"
#include "cli/help.h"
#include "cli/qemu.h"

const struct cli_command *const cli_commands[] = {
	&cli_run_command,	 &cli_ps_command,      &cli_stop_command,  &cli_console_command,
	&cli_pause_command,	 &cli_resume_command,  &cli_reset_command, &cli_save_command,
	&cli_restore_command,	 &cli_monitor_command, &cli_qmp_command,   &cli_screenshot_command,
	&cli_screentext_command, &cli_sendkey_command, &cli_type_command,  &cli_trace_command,
	&cli_engines_command,	 &cli_guest_command,   &cli_net_command,   &cli_img_command,
	&cli_io_command,	 &cli_qemu_command,    &cli_help_command,  NULL,
};

static int run_command(const struct cli_command *cmd, int argc, char **argv)
{
	struct config *c = config_new();
	struct err err;
	int operands, parsed, status = 0;

	if (!c) {
		err_set(&err, "out of memory");
		return cli_fail(&err);
	}
	parsed = cli_parse(cmd, c, argc, argv, &operands, &err);
	if (parsed == CLI_PARSED_HELP)
		cli_help(cmd, stdout);
	else
		status = parsed ? cli_fail(&err) : cmd->run(c, operands, argv);
	config_free(c);
	return status;
}

static void version(FILE *out)
{
	fputs("vireo " VIREO_VERSION "\n", out);
}

/* Options before the command; used by people and, for the generated documents, by the build. */
static const struct {
	const char *name;
	void (*print)(FILE *out);
} printers[] = {
	{ "--help", cli_overview },
	{ "-h", cli_overview },
	{ "--version", version },
	{ "-V", version },
	{ "--print-man-page", cli_man_page },
	{ "--print-qemu-man-page", qemu_man_page },
	{ "--print-bash-completion", cli_bash_completion },
};

static int dispatch(int argc, char **argv)
{
	const struct cli_command *cmd;
	struct err err;

	if (argc < 2) {
		cli_overview(stderr);
		return 1;
	}
	for (size_t i = 0; i < sizeof(printers) / sizeof(printers[0]); i++) {
		if (!strcmp(argv[1], printers[i].name)) {
			printers[i].print(stdout);
			return 0;
		}
	}
	if (*argv[1] == '-') {
		err_set(&err, "unknown option '%s' before the command (see 'vireo help')", argv[1]);
		return cli_fail(&err);
	}
	cmd = cli_command_find(argv[1], &err);
	if (cmd && cmd->run_raw)
		return cmd->run_raw(argc - 2, argv + 2);
	return cmd ? run_command(cmd, argc - 2, argv + 2) : cli_fail(&err);
}

int main(int argc, char **argv)
{
	const char *slash = argc ? strrchr(argv[0], '/') : NULL;
	struct err err;
	int status;

	tty_fill_standard_fds();
	/* A link to this program by QEMU's names. */
	if (argc && !strcmp(slash ? slash + 1 : argv[0], "qemu-img"))
		status = cli_img(argc - 1, argv + 1);
	else if (argc && !strcmp(slash ? slash + 1 : argv[0], "qemu-io"))
		status = cli_io(argc - 1, argv + 1);
	else if (argc && qemu_program(argv[0]))
		status = qemu_main(qemu_program(argv[0]), argc - 1, argv + 1);
	else
		status = dispatch(argc, argv);

	/* Output that went nowhere (a full disk) is a failure. */
	errno = 0;
	if ((fflush(stdout) || ferror(stdout)) && !status) {
		err_errno(&err, errno ? errno : EIO, "standard output");
		return cli_fail(&err);
	}
	return status;
}
