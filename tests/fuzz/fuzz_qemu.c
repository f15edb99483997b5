/* QEMU's command line: a word a line. */
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/qemu.h"

const struct cli_command *const cli_commands[] = { NULL };

int cli_machine(struct config *c, const char *state, const struct cli_after *after)
{
	return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	/* Help is written there. */
	return freopen("/dev/null", "w", stdout) ? 0 : 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[2048], *argv[64], *rest = text;
	struct err err;
	struct qemu q = { .c = config_new(), .program = "qemu-system-x86_64", .err = &err };
	int argc = 0;

	if (size >= sizeof(text))
		size = sizeof(text) - 1;
	memcpy(text, data, size);
	text[size] = 0;
	while (argc < 64 && rest)
		argv[argc++] = strsep(&rest, "\n");
	if (qemu_configure(&q, argc, argv) && !*err.msg)
		abort();
	config_free(q.c);
	return 0;
}
