/* `vireo stop`: the power button, then the plug. */
#include <stdio.h>
#include <string.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "vm/rundir.h"

#define PRESS_AGAIN_MS 5000 /* a guest that is just booting has not heard the first time */
#define END_MS	       10000

static const struct cli_option options[] = {
	{ "force", 'f', CLI_FLAG, "force", NULL, NULL, "end the machine at once, without asking the guest", NULL },
	{ "timeout", 't', CLI_VALUE, "timeout", NULL, "SECONDS",
	  "how long the guest may take before the machine is ended (default: 60)", NULL },
	{ 0 },
};

/* True when the guest has powered off. */
static bool ask_guest(struct client *vm, const char *name, int ms, struct err *err)
{
	bool told = false;
	char status[32];

	if (client_status(vm, status, sizeof(status), err))
		return false;
	/* What was saved and goes on would no longer be what was saved. */
	if (!strcmp(status, "postmigrate"))
		return false;
	if (strcmp(status, "running") && client_do(vm, "cont", err))
		return false;
	while (ms > 0) {
		int turn = ms < PRESS_AGAIN_MS ? ms : PRESS_AGAIN_MS;

		if (client_do(vm, "system_powerdown", err))
			return false;
		if (client_wait_end(vm, turn))
			return true;
		ms -= turn;
		if (ms > 0 && !told)
			fprintf(stderr, "vireo: %s has not powered off yet; it has %d s more (--force ends it)\n", name,
				ms / 1000);
		told = true;
	}
	return false;
}

static int stop(const char *name, bool force, int seconds, struct err *err)
{
	struct client *vm = client_open(name, CLIENT_PATIENCE_MS, err);
	char path[128];
	struct err gone;
	int rc = 0;

	if (!vm)
		return -1;
	if (force || !ask_guest(vm, name, seconds * 1000, err)) {
		rc = client_do(vm, "quit", err);
		if (!rc && !client_wait_end(vm, END_MS))
			rc = err_set(err, "%s does not end", name);
		if (!rc && !force)
			fprintf(stderr, "vireo: %s did not power off within %d s and was ended\n", name, seconds);
	}
	client_close(vm);
	/* It may have ended by itself between two questions. */
	return rc && rundir_find(name, "pid", path, sizeof(path), &gone) ? 0 : rc;
}

static int run(struct config *c, int argc, char **argv)
{
	struct err err;
	bool force;
	uint64_t seconds;
	int status = 0;

	if (config_bool(c, "force", false, &force, &err) ||
	    config_uint(c, "timeout", 60, (struct config_range){ 0, 86400 }, &seconds, &err))
		return cli_fail(&err);
	for (int n = 0; n < argc; n++)
		if (stop(argv[n], force, (int)seconds, &err))
			status = cli_fail(&err);
	return status;
}

const struct cli_command cli_stop_command = {
	.name = "stop",
	.summary = "Ask a machine to power off, or end it",
	.operands = "NAME...",
	.min_operands = 1,
	.max_operands = CLI_MANY,
	.operand_words = { "@machine" },
	.options = options,
	.text = "Presses the machine's power button. A guest that does not power off in time is ended as by pulling\n"
		"the plug; a paused machine is resumed first, so that its guest can hear.",
	.run = run,
};
