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
	{ "initrd", 'i', CLI_VALUE, "initrd", NULL, "FILE", "initial RAM disk, or the multiboot module", "@file" },
	{ "append", 'a', CLI_VALUE, "append", NULL, "TEXT", "kernel command line", NULL },
	{ "memory", 'm', CLI_VALUE, "memory", NULL, "SIZE", "guest memory, as 512M or 2G (default: 512M)", NULL },
	{ "cpus", 'c', CLI_VALUE, "cpus", NULL, "N", "number of CPUs (default: 1)", NULL },
	{ "cpu", 0, CLI_VALUE, "cpu.model", NULL, "MODEL[,+FEATURE][,-FEATURE]",
	  "CPU model: max or qemu64 (default: max)", "max|qemu64" },
	{ "clock", 0, CLI_PAIRS, "clock", NULL, "SOURCE[,KEY=VALUE]...",
	  "guest time from host (default) or icount; keys: idle=sleep|skip, base", "host|icount" },
	{ "uuid", 0, CLI_VALUE, "uuid", NULL, "UUID", "the machine's UUID (default: random)", NULL },
	{ "no-reboot", 0, CLI_FLAG, "no-reboot", NULL, NULL, "end when the guest resets", NULL },
	{ "device", 0, CLI_SWITCH, NULL, NULL, "NAME[,KEY=VALUE]...",
	  "add a device of test suites: isa-debug-exit, pc-testdev, pci-testdev",
	  "isa-debug-exit|pc-testdev|pci-testdev" },
	CLI_MACHINE_OPTIONS,
	{ 0 },
};

bool cli_machine_start(struct config *c)
{
	const char *v = config_get(c, "verbose");

	if (v && !strcmp(v, "on"))
		log_set_level(LOG_INFO);
	config_get(c, "stats");
	return true;
}

static int run(struct config *c, int argc, char **argv)
{
	struct err err;
	struct vm *vm;
	int status;

	cli_machine_start(c);
	vm = vm_new(c, &err);
	if (!vm)
		return cli_fail(&err);
	status = vm_run(vm);
	vm_free(vm);
	return status;
}

const struct cli_command cli_run_command = {
	.name = "run",
	.summary = "Run a virtual machine in this terminal",
	.operands = "",
	.options = options,
	.text = "The machine's first serial port is the terminal; Ctrl-A x ends the machine, Ctrl-A h lists the\n"
		"other keys. The exit status is 0 when the guest powers off.",
	.run = run,
};
