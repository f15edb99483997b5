/* `vireo engines`: what can run CPUs on this host. */
#include <stdio.h>

#include "cli/commands.h"
#include "cpu/engine.h"

static int run(struct config *c, int argc, char **argv)
{
	struct engine_probe found;
	const struct engine *chosen = engine_auto(false, &found, NULL);

	printf("%-10s %-8s %-10s %s\n", "ENGINE", "ISA", "AVAILABLE", "WHY");
	for (const struct engine *const *e = engines; *e; e++) {
		struct engine_probe p = { 0 };

		(*e)->probe(&p);
		printf("%-10s %-8s %-10s %s\n", (*e)->name, (*e)->isa, p.available ? "yes" : "no", p.why);
	}
	if (chosen)
		printf("\n--engine auto, the default, takes %s.\n", chosen->name);
	return 0;
}

const struct cli_command cli_engines_command = {
	.name = "engines",
	.summary = "List the engines of this host",
	.operands = "",
	.text = "AVAILABLE says whether an engine works on this host, and WHY what was found; then follows which\n"
		"one `vireo run` takes unless --engine names another.",
	.run = run,
};
