/* `vireo save` and `vireo restore`. */
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/run_options.h"

#define POLL_MS	      50
#define SHOW_AFTER_MS 500
#define END_MS	      10000
#define MIB	      1048576

static const struct cli_option save_options[] = {
	{ "keep", 'k', CLI_FLAG, "keep", NULL, NULL, "let the machine go on afterwards", NULL },
	{ 0 },
};

static volatile sig_atomic_t interrupted;

static void interrupt(int sig)
{
	interrupted = sig;
}

static void show(const json_t *status, bool last)
{
	const json_t *ram = json_object_get(status, "ram");
	json_int_t total = json_integer_value(json_object_get(ram, "total")),
		   left = json_integer_value(json_object_get(ram, "remaining"));

	fprintf(stderr, "\r%3d%%  %" PRId64 " of %" PRId64 " MiB%s", total ? (int)(100 * (total - left) / total) : 0,
		(int64_t)(total - left) / MIB, (int64_t)total / MIB, last ? "\n" : "");
}

/* Until it is saved, or not. */
static int follow(struct client *vm, struct err *err)
{
	const char *word, *why;
	bool shown = false, cancelled = false;
	json_t *s;
	int rc;

	for (int ms = 0;; ms += POLL_MS) {
		s = client_execute(vm, "query-migrate", NULL, err);
		word = json_string_value(json_object_get(s, "status"));
		if (!word || (strcmp(word, "active") && strcmp(word, "cancelling")))
			break;
		if (interrupted && !cancelled && !(cancelled = !client_do(vm, "migrate_cancel", err)))
			break;
		if (ms >= SHOW_AFTER_MS && isatty(2)) {
			show(s, false);
			shown = true;
		}
		json_decref(s);
		nanosleep(&(struct timespec){ .tv_nsec = POLL_MS * 1000000 }, NULL);
	}
	if (shown && word)
		show(s, true);
	why = json_string_value(json_object_get(s, "error-desc"));
	if (!word)
		rc = -1;
	else if (!strcmp(word, "completed"))
		rc = 0;
	else
		rc = err_set(err, "not saved: %s", why ? why : word);
	json_decref(s);
	return rc;
}

static int save(struct client *vm, const char *name, const char *path, bool keep, struct err *err)
{
	char uri[PATH_MAX + 8];
	json_t *r;

	snprintf(uri, sizeof(uri), "file:%s", path);
	r = client_execute(vm, "migrate", json_pack("{s:s}", "uri", uri), err);
	json_decref(r);
	if (!r || follow(vm, err) || client_do(vm, keep ? "cont" : "quit", err))
		return -1;
	return keep || client_wait_end(vm, END_MS) ? 0 : err_set(err, "%s is saved, and does not end", name);
}

static int save_run(struct config *c, int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = interrupt };
	struct err err;
	struct client *vm;
	bool keep;
	char path[PATH_MAX];
	int rc;

	if (config_bool(c, "keep", false, &keep, &err) || client_path(argv[1], path, &err))
		return cli_fail(&err);
	vm = client_open(argv[0], CLIENT_PATIENCE_MS, &err);
	if (!vm)
		return cli_fail(&err);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	rc = save(vm, argv[0], path, keep, &err);
	client_close(vm);
	return rc ? cli_fail(&err) : 0;
}

const struct cli_command cli_save_command = {
	.name = "save",
	.summary = "Save a machine to a file and end it",
	.operands = "NAME FILE",
	.min_operands = 2,
	.max_operands = 2,
	.operand_words = { "@machine", "@file" },
	.options = save_options,
	.text = "The machine stands still while it is saved. FILE is there only when all of it is safely on the disk;\n"
		"a machine that could not be saved, or whose save is interrupted with Ctrl-C, goes on. Its name and "
		"its\n"
		"disks are free when the command ends.",
	.run = save_run,
};

static const struct cli_option restore_options[] = { CLI_MACHINE_OPTIONS, { 0 } };

static int restore_run(struct config *c, int argc, char **argv)
{
	return cli_machine(c, argv[0], NULL);
}

const struct cli_command cli_restore_command = {
	.name = "restore",
	.summary = "Continue a saved machine in this terminal",
	.operands = "FILE",
	.min_operands = 1,
	.max_operands = 1,
	.operand_words = { "@file" },
	.options = restore_options,
	.text = "Disks and networks come from where they were, or from --disk and --net, the first of which stands "
		"for\n"
		"the machine's first disk or network, and so on; --set overrides any other key that the guest cannot\n"
		"see. The file names files of this host that are opened as you: restore only what you trust.",
	.run = restore_run,
};
