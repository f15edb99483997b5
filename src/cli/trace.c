/* `vireo trace`: run a machine, then list the guest code that executed most. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/run_options.h"
#include "cli/symbols.h"
#include "cpu/disas.h"
#include "vm/vm.h"

#define TOP	 20
#define TOP_MOST 10000

static const struct cli_option options[] = {
	{ "top", 't', CLI_VALUE, "trace.top", NULL, "N", "how many blocks are listed (default: 20)", NULL },
	{ "symbols", 0, CLI_VALUE, "trace.symbols", NULL, "FILE",
	  "the guest kernel's System.map, for names (boot the kernel with nokaslr)", "@file" },
	{ "output", 'o', CLI_VALUE, "trace.output", NULL, "FILE", "where the list goes (default: standard output)",
	  "@file" },
	CLI_BOOT_OPTIONS,
	CLI_MACHINE_OPTIONS,
	{ 0 },
};

struct listing {
	FILE *out;
	size_t top;
	struct symbols *symbols; /* NULL: none */
};

static void where(const struct listing *l, const struct engine_block *b)
{
	uint64_t offset;
	const char *name = l->symbols ? symbols_find(l->symbols, b->address, &offset) : NULL;

	fprintf(l->out, "address %016" PRIx64 ", physical %" PRIx64, b->address, b->phys);
	if (name)
		fprintf(l->out, ", %s+0x%" PRIx64, name, offset);
	fputc('\n', l->out);
}

/* As it was before the block was given up. */
static void print_host(const struct listing *l, const struct engine_block *b)
{
	uint8_t *code = malloc(b->host_len);

	fprintf(l->out, "  host code, %zu bytes:\n", b->host_len);
	if (!code)
		return;
	memcpy(code, b->host, b->host_len);
	memcpy(code, b->host_first, b->host_len < ENGINE_HOST_FIRST ? b->host_len : ENGINE_HOST_FIRST);
	disas_print(l->out,
		    &(struct disas_code){ code, b->host_len, b->host_address, 64, b->host_data, b->host_data_count });
	free(code);
}

static void print(const struct listing *l, size_t n, const struct engine_block *b, uint64_t all)
{
	uint64_t done = b->runs * b->instructions;

	fprintf(l->out, "\n#%zu  %.2f%%  %" PRIu64 " instructions: %u, %" PRIu64 " times, ", n,
		all ? 100.0 * (double)done / (double)all : 0, done, b->instructions, b->runs);
	where(l, b);
	fprintf(l->out, "  guest code, %zu bytes:\n", b->guest_len);
	disas_print(l->out, &(struct disas_code){ b->guest, b->guest_len, b->address, b->bits, NULL, 0 });
	print_host(l, b);
}

static void list(struct vm *vm, void *opaque)
{
	const struct listing *l = opaque;
	struct engine_block *blocks = calloc(l->top, sizeof(*blocks));
	uint64_t all, shown = 0;
	size_t count;

	if (!blocks)
		return;
	count = vm_hottest(vm, blocks, l->top, &all);
	for (size_t n = 0; n < count; n++)
		shown += blocks[n].runs * blocks[n].instructions;
	fprintf(l->out, "%" PRIu64 " instructions, of these %.2f%% in the %zu blocks that executed most:\n", all,
		all ? 100.0 * (double)shown / (double)all : 0, count);
	for (size_t n = 0; n < count; n++)
		print(l, n + 1, &blocks[n], all);
	free(blocks);
}

/* Blocks are counted by the translator. */
static int choose_engine(struct config *c, struct err *err)
{
	const char *name;
	const struct engine *e;

	if (config_str(c, "engine", "auto", &name, err))
		return -1;
	if (!strcmp(name, "auto"))
		name = "jit";
	e = engine_find(name);
	if (e && !e->hottest)
		return err_set(err, "engine: '%s' has no blocks to list; jit has", name);
	return config_set(c, "engine", name, err) ? -1 : config_set(c, "jit.count", "blocks", err);
}

static int prepare(struct config *c, struct listing *l, struct err *err)
{
	const char *symbols, *output;
	uint64_t top;

	if (choose_engine(c, err) ||
	    config_uint(c, "trace.top", TOP, (struct config_range){ 1, TOP_MOST }, &top, err) ||
	    config_str(c, "trace.symbols", NULL, &symbols, err) || config_str(c, "trace.output", NULL, &output, err))
		return -1;
	l->top = (size_t)top;
	if (symbols) {
		l->symbols = symbols_read(symbols, err);
		if (!l->symbols)
			return err_prefix(err, "trace.symbols");
	}
	/* Before the machine runs: nobody wants to hear of a bad path after it. */
	l->out = output ? fopen(output, "we") : stdout;
	return l->out ? 0 : err_set(err, "trace.output: %s: %s", output, strerror(errno));
}

static int run(struct config *c, int argc, char **argv)
{
	struct listing l = { 0 };
	const struct cli_after after = { list, &l };
	struct err err;
	int status;

	if (prepare(c, &l, &err)) {
		config_tell_origin(c, &err);
		status = cli_fail(&err);
	} else {
		status = cli_machine(c, NULL, &after);
	}
	symbols_free(l.symbols);
	if (l.out && l.out != stdout && fclose(l.out) && status == 0) {
		err_set(&err, "trace.output: %s", strerror(errno));
		status = cli_fail(&err);
	}
	return status;
}

const struct cli_command cli_trace_command = {
	.name = "trace",
	.summary = "Run a machine, then list the guest code that executed most",
	.operands = "",
	.options = options,
	.text = "As `vireo run`, with the translator (--engine jit), which counts how often it begins each block: a "
		"run\n"
		"of guest instructions up to a branch. When the machine has ended the blocks that executed most\n"
		"instructions are listed, with their share of all instructions, how often each was begun, and its "
		"guest and\n"
		"host code. What was only interpreted is no block. Counting makes the guest slower.",
	.run = run,
};
