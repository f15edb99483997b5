/*
 * The subcommands, one file each; main.c lists them in the order of `vireo help`.
 * Each runs in the main thread, once.
 */
#ifndef VIREO_CLI_COMMANDS_H
#define VIREO_CLI_COMMANDS_H

#include "cli/options.h"

extern const struct cli_command cli_run_command, cli_ps_command, cli_stop_command, cli_console_command,
	cli_pause_command, cli_resume_command, cli_reset_command, cli_save_command, cli_restore_command,
	cli_engines_command, cli_guest_command;

/* Before the machine is made: logging as the options say. */
int cli_machine_start(struct config *c, struct err *err);

#endif
