/* `vireo run`: make a machine from options and run it in this process. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "cli/commands.h"
#include "cli/process.h"
#include "cli/run_options.h"
#include "cpu/x86/cpuid.h"
#include "vm/vm.h"

static const struct cli_option options[] = {
	CLI_BOOT_OPTIONS,
	CLI_MACHINE_OPTIONS,
	{ 0 },
};

static struct vm *make(struct config *c, const char *state, struct err *err)
{
	bool verbose;

	if (config_bool(c, "verbose", false, &verbose, err))
		return NULL;
	if (verbose)
		log_set_level(LOG_INFO);
	return state ? vm_restore(c, state, err) : vm_new(c, err);
}

int cli_machine(struct config *c, const char *state, const struct cli_after *after)
{
	const char *model = config_peek(c, "cpu.model");
	struct err err;
	struct process process;
	struct vm *vm = NULL;
	int status = -1;

	if (model && !strcmp(model, "help")) {
		x86_models_print(stdout);
		return 0;
	}
	if (!process_begin(&process, c, &err))
		vm = make(c, state, &err);
	if (vm && !vm_start(vm, &err) && !process_ready(&process, &err))
		status = vm_run(vm, &err);
	if (status >= 0 && after)
		after->run(vm, after->opaque);

	if (status < 0) {
		config_tell_origin(c, &err);
		status = cli_fail(&err);
	}
	vm_free(vm);
	process_end(&process);
	return status;
}

/* Behind the drives that options have named. */
static int add_drive(struct config *c, const char *path, struct err *err)
{
	size_t len = strlen(path);
	const char *what = len > 4 && !strcasecmp(path + len - 4, ".iso") ? "cdrom" : "disk";
	char key[32];
	unsigned n = 0;

	do
		snprintf(key, sizeof(key), "%s%u.path", what, n++);
	while (config_peek(c, key));
	return config_set(c, key, path, err);
}

static int run(struct config *c, int argc, char **argv)
{
	struct err err;

	for (int n = 0; n < argc; n++)
		if (add_drive(c, argv[n], &err))
			return cli_fail(&err);
	return cli_machine(c, NULL, NULL);
}

const struct cli_command cli_run_command = {
	.name = "run",
	.summary = "Run a virtual machine in this terminal",
	.operands = "[DISK]...",
	.max_operands = CLI_MANY,
	.operand_words = { "@file" },
	.options = options,
	.text = "Without a kernel the machine boots from its disks by firmware; DISK is the same as --disk DISK,\n"
		"or --cdrom DISK if it ends in .iso.\n"
		"The machine's first serial port is the terminal; Ctrl-A x ends the machine, Ctrl-A h lists the other\n"
		"keys. Input that is not a terminal goes to the guest as it is.\n"
		"The exit status is 0 when the guest powers off or the machine is ended by its user, 2 after a fatal\n"
		"fault of the guest with --no-reboot, 128 + N after signal N, and 1 on an error.",
	.run = run,
};
