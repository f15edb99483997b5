/* `vireo run`: make a machine from options and run it in this process. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/commands.h"
#include "cli/run_options.h"
#include "vm/vm.h"

static const struct cli_option options[] = {
	{ "kernel", 'k', CLI_VALUE, "kernel", NULL, "FILE", "kernel: bzImage, vmlinux (ELF, PVH) or multiboot",
	  "@file" },
	{ "firmware", 'f', CLI_VALUE, "firmware", NULL, "FILE", "ROM image to start instead of a kernel", "@file" },
	{ "initrd", 'i', CLI_VALUE, "initrd", NULL, "FILE", "initial RAM disk, or the multiboot module", "@file" },
	{ "append", 'a', CLI_VALUE, "append", NULL, "TEXT", "kernel command line", NULL },
	{ "memory", 'm', CLI_VALUE, "memory", NULL, "SIZE",
	  "guest memory, as 512M, 1.5G or 2GiB; a bare number counts MiB (default: 512M)", NULL },
	{ "cpus", 'c', CLI_VALUE, "cpus", NULL, "N", "number of CPUs (default: 1)", NULL },
	{ "cpu", 0, CLI_VALUE, "cpu.model", NULL, "MODEL[,+FEATURE][,-FEATURE]",
	  "CPU model: max (default), host, qemu64, x86-64-v2, x86-64-v3, or a processor as Nehalem or Haswell-noTSX",
	  "max|host|qemu64|x86-64-v2|x86-64-v3|Nehalem|Westmere|SandyBridge|IvyBridge|Haswell-noTSX|Broadwell-noTSX" },
	{ "clock", 0, CLI_PAIRS, "clock", NULL, "SOURCE[,KEY=VALUE]...",
	  "guest time from host (default) or icount; keys: idle=sleep|skip, base", "host|icount" },
	{ "uuid", 0, CLI_VALUE, "uuid", NULL, "UUID", "the machine's UUID (default: random)", NULL },
	{ "device", 0, CLI_SWITCH, NULL, NULL, "NAME[,KEY=VALUE]...",
	  "add a device of test suites: isa-debug-exit, pc-testdev, pci-testdev",
	  "isa-debug-exit|pc-testdev|pci-testdev" },
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

int cli_machine(struct config *c, const char *state)
{
	struct err err;
	struct vm *vm = make(c, state, &err);
	int status = vm ? vm_run(vm, &err) : -1;

	if (status < 0) {
		config_tell_origin(c, &err);
		status = cli_fail(&err);
	}
	vm_free(vm);
	return status;
}

static int run(struct config *c, int argc, char **argv)
{
	return cli_machine(c, NULL);
}

const struct cli_command cli_run_command = {
	.name = "run",
	.summary = "Run a virtual machine in this terminal",
	.operands = "",
	.options = options,
	.text = "The machine's first serial port is the terminal; Ctrl-A x ends the machine, Ctrl-A h lists the other\n"
		"keys. Input that is not a terminal goes to the guest as it is.\n"
		"The exit status is 0 when the guest powers off or the machine is ended by its user, 2 after a fatal\n"
		"fault of the guest with --no-reboot, 128 + N after signal N, and 1 on an error.",
	.run = run,
};
