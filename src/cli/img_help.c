/*
 * `vireo img --help`, and the commands of `vireo img` as the documents have commands. Their options are what they give
 * img_options(): each is asked for help, and its rows are shown instead of taken.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/img_impl.h"

/* Values that mean the same everywhere. Where no words are said, those with a bar in them are their words. */
static const struct {
	const char *name, *words, *meaning;
} values[] = {
	{ "BYTE", NULL, "a number from 0 to 255" },
	{ "CACHE", "none|writeback|writethrough|directsync|unsafe",
	  "none, writeback (default), writethrough, directsync, unsafe (default for the output of convert)" },
	{ "FILE", "@file", "the name of another image" },
	{ "FILENAME", "@file", "the name of an image; with --image-opts a list of options" },
	{ "FMT", "@format", "a format: raw, qcow2, luks, or another of those that --help lists" },
	{ "OBJECT", "secret,id=", "secret,id=ID with data=TEXT or file=PATH, and format=raw|base64: a passphrase" },
	{ "OPTIONS", "help", "options of the format, as KEY=VALUE,...; -o help lists them" },
	{ "RATE", NULL, "bytes a second, as SIZE" },
	{ "SIZE", NULL, "bytes, or with k, M, G, T, P or E powers of 1024 of them; OFFSET likewise" },
	{ "SNAPSHOT", NULL, "the name or the ID of a snapshot, or snapshot.id=ID,snapshot.name=NAME" },
};
#define VALUES (sizeof(values) / sizeof(values[0]))

static const char *words_of(const char *value, const char *formats)
{
	for (size_t i = 0; value && i < VALUES; i++) {
		if (strcmp(value, values[i].name))
			continue;
		return values[i].words && !strcmp(values[i].words, "@format") ? formats : values[i].words;
	}
	return value && strchr(value, '|') ? value : NULL;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The drivers by their names, with or without those that are no formats. */
static void print_formats(FILE *out, bool all, const char *between)
{
	const char *names[64];
	size_t n = 0;

	for (unsigned i = 0; node_drivers[i] && n < 64; i++)
		if (all || !(node_drivers[i]->is_protocol || node_drivers[i]->is_filter))
			names[n++] = node_drivers[i]->name;
	qsort(names, n, sizeof(names[0]), by_name);
	/* One may have several protocols' names. */
	for (size_t i = 0; i < n; i++)
		if (!i || strcmp(names[i], names[i - 1]))
			fprintf(out, "%s%s", i ? between : "", names[i]);
}

/* "[-f FMT] [-l | -c SNAPSHOT]": alternatives share their brackets, which what is needed does without. */
static void print_syntax(FILE *out, const struct img_option *const *rows, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		unsigned first = i;
		const char *open = rows[i]->syntax & IMG_MUST ? "" : "[", *close = *open ? "]" : "";

		while (i + 1 < n && rows[i + 1]->syntax & IMG_OR)
			i++;
		if (i > first && !*open) {
			open = "(";
			close = ")";
		}
		fprintf(out, " %s", open);
		for (unsigned k = first; k <= i; k++) {
			const struct img_option *x = rows[k];

			fputs(k > first ? " | " : "", out);
			if (x->letter)
				fprintf(out, "-%c%s%s", x->letter, x->value ? " " : "", x->value ? x->value : "");
			else
				fprintf(out, "--%s%s%s", x->name, x->value ? "=" : "", x->value ? x->value : "");
		}
		fprintf(out, "%s%s", close, rows[first]->syntax & IMG_MANY ? "..." : "");
	}
}

void img_describe(const struct img *t, const struct img_option *const *rows, unsigned n)
{
	struct cli_option options[IMG_OPTIONS_MAX + 2] = { 0 };
	char formats[512] = "", syntax[2048] = "";
	struct cli_command cmd = { .name = t->command->name,
				   .summary = t->command->summary,
				   .operands = t->command->operands,
				   .operand_words = { "@file", "@file" },
				   .options = options,
				   .text = syntax };
	FILE *f = fmemopen(formats, sizeof(formats), "w");

	if (f) {
		print_formats(f, false, "|");
		fclose(f);
	}
	f = fmemopen(syntax, sizeof(syntax), "w");
	if (f) {
		fputs(t->command->name + IMG_PREFIX, f);
		print_syntax(f, rows, n);
		fprintf(f, " %s", t->command->operands);
		fclose(f);
	}
	for (unsigned i = 0; i < n; i++)
		options[i] = (struct cli_option){ .name = rows[i]->name,
						  .letter = rows[i]->letter,
						  .metavar = rows[i]->value,
						  .help = rows[i]->help,
						  .words = words_of(rows[i]->value, formats) };
	t->help(&cmd, t->help_opaque);
}

void img_ask(const struct img_command *c, cli_command_fn *fn, void *opaque)
{
	struct img t = { .command = c, .help = fn, .help_opaque = opaque };
	/* An operand too, which resize looks at first. */
	char name[16], help[] = "--help", operand[] = "";
	char *argv[] = { name, help, operand, NULL };

	snprintf(name, sizeof(name), "%s", c->name + IMG_PREFIX);
	optind = 0;
	c->fn(&t, 3, argv);
}

void img_each_command(cli_command_fn *fn, void *opaque)
{
	for (const struct img_command *c = img_commands; c->name; c++)
		img_ask(c, fn, opaque);
}

void img_values(cli_item_fn *item, FILE *out)
{
	for (size_t i = 0; i < VALUES; i++)
		item(out, (const char *[4]){ values[i].name, "", values[i].meaning, NULL });
}

static void syntax_line(const struct cli_command *cmd, void *out)
{
	fprintf(out, "  %s\n", cmd->text);
}

void img_help(FILE *out)
{
	fputs(IMG_VERSION
	      "\nUsage: vireo img COMMAND [OPTION]..., or by the other name of the program qemu-img COMMAND "
	      "[OPTION]...\n\n"
	      "Makes, shows, converts and repairs disk images.\n\n"
	      "  -h, --help     this text; behind a command: its options, one by one\n"
	      "  -V, --version  the version\n\nCommand syntax:\n",
	      out);
	img_each_command(syntax_line, out);
	fputs("\nValues:\n", out);
	for (size_t i = 0; i < VALUES; i++)
		fprintf(out, "  %-9s %s\n", values[i].name, values[i].meaning);
	fputs("\nSupported formats: ", out);
	print_formats(out, true, " ");
	fputc('\n', out);
}
