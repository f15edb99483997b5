/* See hmp.h: finding and running the monitor's commands, and what they share. */
#include "vm/hmp.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "vm/impl.h"
#include "vm/qmp.h"

static void help(struct hmp *h, const struct hmp_args *a);
static void info(struct hmp *h, const struct hmp_args *a);

static const struct hmp_command own_commands[] = {
	{ "help|?", "name:s?", "[cmd]", "show the help", help },
	{ "info", "item:S?", "[subcommand]", "show various information about the system state", info },
	{ 0 },
};

static const struct hmp_command *const topics[] = { own_commands,	hmp_machine_commands, hmp_memory_commands,
						    hmp_block_commands, hmp_net_commands,     NULL };
static const struct hmp_command *const info_topics[] = { hmp_info_commands, hmp_info_cpu_commands,
							 hmp_info_block_commands, NULL };

/* Whether `word` is one of "cont|c". */
static bool is_called(const char *names, const char *word, size_t len)
{
	while (*names) {
		size_t one = strcspn(names, "|");

		if (one == len && !memcmp(names, word, len))
			return true;
		names += one + (names[one] == '|');
	}
	return false;
}

static const struct hmp_command *find(const struct hmp_command *const *list, const char *word, size_t len)
{
	for (; *list; list++)
		for (const struct hmp_command *c = *list; c->name; c++)
			if (is_called(c->name, word, len))
				return c;
	return NULL;
}

static const struct hmp_command *at(const struct hmp_command *const *list, unsigned n)
{
	for (; *list; list++)
		for (const struct hmp_command *c = *list; c->name; c++)
			if (!n--)
				return c;
	return NULL;
}

/* --- help --- */

static void help_line(struct hmp *h, const char *before, const struct hmp_command *c)
{
	fprintf(h->out, "%s%s%s%s -- %s\n", before, c->name, *c->params ? " " : "", c->params, c->help);
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct hmp_command *const *)a)->name, (*(const struct hmp_command *const *)b)->name);
}

static void help_all(struct hmp *h, const char *before, const struct hmp_command *const *list)
{
	const struct hmp_command *sorted[128], *c;
	unsigned count = 0;

	while (count < 128 && (c = at(list, count)))
		sorted[count++] = c;
	qsort(sorted, count, sizeof(sorted[0]), by_name);
	for (unsigned n = 0; n < count; n++)
		help_line(h, before, sorted[n]);
}

static void help(struct hmp *h, const struct hmp_args *a)
{
	const struct hmp_command *c;

	if (!a->arg[0].given) {
		help_all(h, "", topics);
		return;
	}
	if (!strcmp(a->arg[0].s, "info")) {
		help_all(h, "info ", info_topics);
		return;
	}
	c = find(topics, a->arg[0].s, strlen(a->arg[0].s));
	if (c)
		help_line(h, "", c);
	else
		fprintf(h->out, "unknown command: '%s'\n", a->arg[0].s);
}

/* --- running --- */

static void run(struct hmp *h, const struct hmp_command *c, const char *text, const char *called)
{
	struct hmp_args a = { .command = c };
	/* Each word with its end. */
	char *words = malloc(2 * strlen(text) + HMP_ARGS);
	struct err err;

	if (words && !hmp_read_args(h, text, &a, words, &err))
		c->run(h, &a);
	else if (words)
		fprintf(h->out, "%s\nTry \"help %s\" for more information\n", err.msg, called);
	free(words);
}

static size_t word_at(const char **text)
{
	size_t len;

	*text += strspn(*text, " \t\r\n");
	/* "x/4i" is "x /4i". */
	len = strcspn(*text, " \t\r\n/");
	return len ? len : strcspn(*text, " \t\r\n");
}

static void info(struct hmp *h, const struct hmp_args *a)
{
	const char *text = a->arg[0].given ? a->arg[0].s : "";
	size_t len = word_at(&text);
	const struct hmp_command *c;

	if (!len) {
		help_all(h, "info ", info_topics);
		return;
	}
	c = find(info_topics, text, len);
	if (c)
		run(h, c, text + len, "info");
	else
		fprintf(h->out, "unknown command: 'info %.*s'\n", (int)len, text);
}

void hmp_execute(struct hmp *h, const char *line)
{
	size_t len = word_at(&line);
	const struct hmp_command *c;
	char called[32];

	h->told_full = false;
	/* A line may be a remark. */
	if (!len || *line == '#')
		return;
	c = find(topics, line, len);
	snprintf(called, sizeof(called), "%.*s", (int)(len < 31 ? len : 31), line);
	if (c)
		run(h, c, line + len, called);
	else
		fprintf(h->out, "unknown command: '%s'\n", called);
	free(h->state);
	h->state = NULL;
}

const char *hmp_word(const char *text, unsigned i)
{
	static char word[64];
	const struct hmp_command *const *list = topics;
	const struct hmp_command *c;
	const char *last = strrchr(text, ' ');

	last = last ? last + 1 : text;
	if (last > text) {
		/* Only what `info` is about is completed. */
		if (strncmp(text, "info ", 5) || last != text + 5)
			return NULL;
		list = info_topics;
	}
	for (unsigned n = 0; (c = at(list, n)); n++) {
		size_t len = strcspn(c->name, "|");

		if (strncmp(c->name, last, strlen(last)) || i--)
			continue;
		snprintf(word, sizeof(word), "%.*s", (int)len, c->name);
		return word;
	}
	return NULL;
}

/* --- for commands --- */

bool hmp_full(struct hmp *h)
{
	if (ftell(h->out) < (long)HMP_OUTPUT)
		return false;
	if (!h->told_full)
		fprintf(h->out, "... the rest is left out: more than %u MiB\n", HMP_OUTPUT >> 20);
	h->told_full = true;
	return true;
}

const void *hmp_state_of(struct hmp *h, unsigned n)
{
	if (h->state && h->state_cpu == n)
		return h->state;
	free(h->state);
	h->state = vm_cpu_state(h->vm, n);
	h->state_cpu = n;
	if (!h->state)
		fprintf(h->out, "out of memory\n");
	return h->state;
}

const void *hmp_state(struct hmp *h)
{
	return hmp_state_of(h, h->cpu);
}

void hmp_error(struct hmp *h, const struct err *err)
{
	fprintf(h->out, "Error: %s\n", err->msg);
}

struct json_t *hmp_qmp(struct hmp *h, const char *command, struct json_t *args)
{
	const struct qmp_command *c = qmp_find_command(command);
	struct err err;
	json_t *o;

	o = qmp_check_members(c->args, args, &err) ? NULL : c->run(h->vm, args, &err);
	json_decref(args);
	if (!o)
		hmp_error(h, &err);
	return o;
}

void hmp_do(struct hmp *h, const char *command, struct json_t *args)
{
	json_decref(hmp_qmp(h, command, args));
}
