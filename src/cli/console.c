/* `vireo console`: attach this terminal to a running machine's console. Ctrl-A x detaches. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/attach.h"
#include "cli/commands.h"
#include "vm/rundir.h"

static const struct cli_option options[] = {
	{ "log", 'l', CLI_FLAG, "log", NULL, NULL, "print what the console has shown so far, and leave", NULL },
	{ 0 },
};

/* The older half first. */
static int print_log(const char *name)
{
	static const char *const files[] = { "console.log.old", "console.log" };
	char path[128], b[65536];
	struct err err;

	for (int k = 0; k < 2; k++) {
		ssize_t n;
		int fd;

		if (rundir_find(name, files[k], path, sizeof(path), &err))
			return cli_fail(&err);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		while (fd >= 0 && (n = read(fd, b, sizeof(b))) > 0 && cli_write_all(b, (size_t)n))
			;
		if (fd >= 0)
			close(fd);
	}
	return 0;
}

static int is_port(const struct dirent *e)
{
	const char *dot = strchr(e->d_name, '.');

	return dot && !strcmp(dot, ".sock") && strncmp(e->d_name, "qmp.", 4) && strncmp(e->d_name, "monitor.", 8) &&
	       strncmp(e->d_name, "console.", 8);
}

/* There is no such port: which there are. */
static int no_port(const char *machine, const char *port, struct err *err)
{
	struct dirent **found;
	char dir[128], list[128] = "";
	int count;

	if (rundir_find(machine, ".", dir, sizeof(dir), err))
		return -1;
	count = scandir(dir, &found, is_port, versionsort);
	for (int n = 0; n < count; n++) {
		size_t len = strlen(list);

		snprintf(list + len, sizeof(list) - len, "%s%.*s", n ? ", " : "", (int)strcspn(found[n]->d_name, "."),
			 found[n]->d_name);
		free(found[n]);
	}
	if (count >= 0)
		free(found);
	if (!*list)
		return err_set(err, "%s has no console", machine);
	if (port)
		return err_set(err, "%s has no port '%s'; it has %s", machine, port, list);
	return err_set(err, "%s has no console; name one of its ports: %s", machine, list);
}

/* `port` may be NULL: the console. */
static int attach(const char *machine, const char *port, struct err *err)
{
	char file[32];
	int fd;

	if (snprintf(file, sizeof(file), "%s.sock", port ? port : "console") >= (int)sizeof(file) ||
	    strchr(file, '/') || (port && (!strcmp(port, "qmp") || !strcmp(port, "monitor"))))
		return no_port(machine, port, err);
	fd = rundir_connect(machine, file, err);
	return fd < 0 && errno == ENOENT ? no_port(machine, port, err) : fd;
}

static int run(struct config *c, int argc, char **argv)
{
	const char *port = argc > 1 ? argv[1] : NULL;
	struct err err;
	bool log;
	int fd;

	if (config_bool(c, "log", false, &log, &err))
		return cli_fail(&err);
	if (log && port)
		err_set(&err, "--log: only the console has a log; leave out '%s'", port);
	if (log)
		return port ? cli_fail(&err) : print_log(argv[0]);
	fd = attach(argv[0], port, &err);
	if (fd < 0)
		return cli_fail(&err);
	cli_attach(fd, argv[0], false);
	return 0;
}

const struct cli_command cli_console_command = {
	.name = "console",
	.summary = "Attach this terminal to a machine's console",
	.operands = "NAME [PORT]",
	.min_operands = 1,
	.max_operands = 2,
	.operand_words = { "@machine", "console0|serial0|serial1|agent" },
	.options = options,
	.text = "The console is the virtio console if the machine has one, else its first serial port; PORT names\n"
		"another one (serial0, serial1, console0, agent). Ctrl-A x detaches, Ctrl-A h lists the keys.\n\n"
		"Several terminals may be attached at a time; all show the output, and all may type. Input that is\n"
		"not a terminal is sent to its end; the output is shown until the machine ends.",
	.run = run,
};
