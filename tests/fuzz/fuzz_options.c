/* Command lines and configuration values. */
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"

static const struct cli_option options[] = {
	{ "memory", 'm', CLI_VALUE, "memory", NULL, "SIZE", "", NULL },
	{ "disk", 'd', CLI_SERIES, "disk", "path", "PATH", "", NULL },
	{ "device", 0, CLI_SWITCH, NULL, NULL, "NAME", "", NULL },
	{ "set", 0, CLI_SET, NULL, NULL, "KEY=VALUE", "", NULL },
	{ "stats", 0, CLI_FLAG, "stats", NULL, NULL, "", NULL },
	{ 0 },
};
static const struct cli_command command = { .name = "run", .operands = "", .max_operands = 2, .options = options };
const struct cli_command *const cli_commands[] = { &command, NULL };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[512], *argv[16], *rest = text;
	struct config *c = config_new();
	struct err err;
	uint64_t v;
	bool on;
	int argc = 0, operands;

	if (size >= sizeof(text))
		size = sizeof(text) - 1;
	memcpy(text, data, size);
	text[size] = 0;
	while (argc < 16 && rest)
		argv[argc++] = strsep(&rest, "\n");
	if (!cli_parse(&command, c, argc, argv, &operands, &err)) {
		config_size(c, "memory", 0, 1, &v, &err);
		config_uint(c, "disk0.queues", 0, (struct config_range){ 0, 9 }, &v, &err);
		config_bool(c, "stats", false, &on, &err);
		config_check_unused(c, &err);
	}
	config_free(c);
	return 0;
}
