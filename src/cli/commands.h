/*
 * The subcommands, one file each; main.c lists them in the order of `vireo help`.
 * Each runs in the main thread, once.
 */
#ifndef VIREO_CLI_COMMANDS_H
#define VIREO_CLI_COMMANDS_H

#include "cli/options.h"

extern const struct cli_command cli_run_command, cli_ps_command, cli_stop_command, cli_console_command,
	cli_pause_command, cli_resume_command, cli_reset_command, cli_save_command, cli_restore_command,
	cli_engines_command, cli_guest_command, cli_trace_command, cli_screenshot_command, cli_screentext_command,
	cli_sendkey_command, cli_type_command, cli_qemu_command, cli_monitor_command, cli_qmp_command, cli_img_command,
	cli_io_command, cli_net_command;

/* `vireo img` or, by its other name, qemu-img: argv[0] is the subcommand. The exit status of the process. */
int cli_img(int argc, char **argv);

/* `vireo io` or, by its other name, qemu-io: argv[0] is the first argument. The exit status of the process. */
int cli_io(int argc, char **argv);

/* Something to do with a machine that has run. */
struct vm;
struct cli_after {
	void (*run)(struct vm *vm, void *opaque);
	void *opaque;
};
/*
 * Make a machine, by vm_restore() from `state` or else by vm_new(), run it, and do `after` if that is not NULL; the
 * exit status of the process.
 */
int cli_machine(struct config *c, const char *state, const struct cli_after *after);

#endif
