/* `vireo engines`: what can run CPUs on this host. */
#include <stdio.h>

#include "cli/commands.h"
#include "cpu/engine.h"

static int run(struct config *c, int argc, char **argv)
{
	printf("%-10s %-8s %-10s %s\n", "ENGINE", "ISA", "AVAILABLE", "WHY");
	for (const struct engine *const *e = engines; *e; e++) {
		struct engine_probe p = { 0 };

		(*e)->probe(&p);
		printf("%-10s %-8s %-10s %s\n", (*e)->name, (*e)->isa, p.available ? "yes" : "no", p.why);
	}
	return 0;
}

const struct cli_command cli_engines_command = {
	.name = "engines",
	.summary = "List the engines of this host",
	.operands = "",
	.run = run,
};
