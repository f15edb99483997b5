/* `vireo save` and `vireo restore`. */
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/run_options.h"
#include "vm/save.h"
#include "vm/vm.h"

static const struct cli_option save_options[] = {
	{ "keep", 'k', CLI_FLAG, "keep", NULL, NULL, "let the machine go on afterwards", NULL },
	{ 0 },
};

static int save_run(struct config *c, int argc, char **argv)
{
	struct err err;
	struct client *vm;
	bool keep;
	char path[PATH_MAX], cwd[PATH_MAX] = "";
	json_t *r;

	if (config_bool(c, "keep", false, &keep, &err))
		return cli_fail(&err);
	/* The machine's process may stand in another directory. */
	if (argv[1][0] != '/' && !getcwd(cwd, sizeof(cwd) - 1))
		cwd[0] = 0;
	if (snprintf(path, sizeof(path), "%s%s%s", cwd, *cwd ? "/" : "", argv[1]) >= (int)sizeof(path)) {
		err_set(&err, "%s: the path is too long", argv[1]);
		return cli_fail(&err);
	}
	vm = client_open(argv[0], &err);
	if (!vm)
		return cli_fail(&err);
	r = client_execute(vm, "x-vireo-save", json_pack("{s:s}", "filename", path), &err);
	if (!r) {
		client_close(vm);
		return cli_fail(&err);
	}
	json_decref(r);
	json_decref(client_execute(vm, keep ? "cont" : "quit", NULL, &err));
	if (!keep)
		client_wait_end(vm, 10);
	client_close(vm);
	return 0;
}

const struct cli_command cli_save_command = {
	.name = "save",
	.summary = "Save a machine to a file and end it",
	.operands = "NAME FILE",
	.min_operands = 2,
	.max_operands = 2,
	.operand_words = { "@machine", "@file" },
	.options = save_options,
	.run = save_run,
};

static const struct cli_option restore_options[] = { CLI_MACHINE_OPTIONS, { 0 } };

static int restore_run(struct config *c, int argc, char **argv)
{
	struct err err;
	struct vm *vm;
	int status;

	cli_machine_start(c);
	vm = vm_restore(c, argv[0], &err);
	if (!vm)
		return cli_fail(&err);
	status = vm_run(vm);
	vm_free(vm);
	return status;
}

const struct cli_command cli_restore_command = {
	.name = "restore",
	.summary = "Continue a saved machine in this terminal",
	.operands = "FILE",
	.min_operands = 1,
	.max_operands = 1,
	.operand_words = { "@file" },
	.options = restore_options,
	.text = "Disks and networks come from where they were, or from --disk and --net; --set overrides any\n"
		"other key of the machine's configuration that the guest cannot see.",
	.run = restore_run,
};
