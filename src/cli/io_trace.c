/*
 * `vireo io -T`: requests to the image are written to standard error or a file, as qemu-io's trace events of the same
 * names are. Those of its events that tell of its own inside do not exist here.
 */
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "cli/io_impl.h"

static const char *const events[] = { "blk_co_preadv", "blk_co_pwritev" };
#define EVENTS (sizeof(events) / sizeof(events[0]))

/* What is on: `place` is where `pattern` stands in a file of them, or empty. */
static void enable(struct io *t, const char *pattern, const char *place)
{
	bool off = *pattern == '-', found = false;

	pattern += off;
	for (unsigned i = 0; i < EVENTS; i++) {
		if (fnmatch(pattern, events[i], FNM_NOESCAPE))
			continue;
		found = true;
		t->traced = off ? t->traced & ~(1u << i) : t->traced | 1u << i;
	}
	if (!found && !strchr(pattern, '*'))
		fprintf(stderr, "qemu-io:%s warning: trace event '%s' does not exist\n", place, pattern);
}

/* A pattern on each line, or a comment. */
static int enable_from(struct io *t, const char *name)
{
	char line[1024], place[1100];
	FILE *f = fopen(name, "r");

	if (!f) {
		fprintf(stderr, "qemu-io:%s: %s\n", name, strerror(errno));
		return -1;
	}
	for (unsigned n = 1; fgets(line, sizeof(line), f); n++) {
		line[strcspn(line, "\n")] = 0;
		snprintf(place, sizeof(place), "%s:%u:", name, n);
		if (*line && *line != '#')
			enable(t, line, place);
	}
	fclose(f);
	return 0;
}

static int log_to(struct io *t, const char *name)
{
	FILE *f = fopen(name, "we");

	if (!f) {
		io_error("Error opening logfile %s: %s", name, strerror(errno));
		return -1;
	}
	if (t->trace_log)
		fclose(t->trace_log);
	setvbuf(f, NULL, _IOLBF, 0);
	t->trace_log = f;
	return 0;
}

static int list(void)
{
	for (unsigned i = 0; i < EVENTS; i++)
		puts(events[i]);
	return 0;
}

int io_trace_option(struct io *t, const char *text)
{
	struct opts *o = opts_new();
	const char *pattern, *file, *log, *unknown;
	int status = 1;
	struct err err;

	if (opts_parse(o, text, "enable", &err)) {
		io_error("%s", err.msg);
		goto out;
	}
	pattern = opts_take(o, "enable");
	file = opts_take(o, "events");
	log = opts_take(o, "file");
	unknown = opts_unknown(o);
	if (unknown) {
		io_error("Invalid parameter '%s'", unknown);
	} else if (pattern && (!strcmp(pattern, "help") || !strcmp(pattern, "?"))) {
		status = list();
	} else {
		if (pattern)
			enable(t, pattern, "");
		if ((!file || !enable_from(t, file)) && (!log || !log_to(t, log)))
			status = -1;
	}
out:
	opts_free(o);
	return status;
}

void io_trace(const struct io *t, const struct node_req *r)
{
	static const struct {
		unsigned ours, theirs;
	} flags[] = { { BLOCK_REQ_UNMAP, 4 },
		      { BLOCK_REQ_FUA, 0x10 },
		      { BLOCK_REQ_COMPRESSED, 0x20 },
		      { BLOCK_REQ_NO_FALLBACK, 0x100 } };
	unsigned event = r->op == BLOCK_READ ? 0 : 1, shown = r->op == BLOCK_WRITE_ZEROES ? 2 : 0;

	if (!(t->traced & 1u << event) || r->op == BLOCK_DISCARD)
		return;
	for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		shown |= r->flags & flags[i].ours ? flags[i].theirs : 0;
	fprintf(t->trace_log ? t->trace_log : stderr, "%s blk %p bs %p offset %llu bytes %llu flags 0x%x\n",
		events[event], (const void *)t, (const void *)t->top, (unsigned long long)r->offset,
		(unsigned long long)r->bytes, shown);
}

void io_trace_end(struct io *t)
{
	if (t->trace_log)
		fclose(t->trace_log);
	t->trace_log = NULL;
}
