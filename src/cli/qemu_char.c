/* -serial, -chardev, -monitor, -qmp, -mon and -debugcon. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cli/qemu.h"

#define WHERE_LEN 512

/* Back ends by QEMU's names: the word of a port's key, and the parameter that follows it. */
static const struct backend {
	const char *name, *word, *parameter;
} backends[] = {
	{ "stdio", "stdio", NULL }, { "null", "null", NULL },	 { "pty", "pty", NULL },
	{ "vc", "socket", NULL },   { "file", "file:", "path" },
};

void qemu_chardev_help(FILE *out)
{
	fputs("Available chardev backend types:\n", out);
	for (size_t n = 0; n < ARRAY_LEN(backends); n++)
		fprintf(out, "  %s\n", backends[n].name);
}

static const struct backend *find_backend(const char *name, size_t len)
{
	for (size_t n = 0; n < ARRAY_LEN(backends); n++)
		if (strlen(backends[n].name) == len && !strncmp(backends[n].name, name, len))
			return &backends[n];
	return NULL;
}

int qemu_chardev(struct qemu *q, struct qopts *user, const char *id, char *text, size_t size)
{
	struct qopts *o = id ? qlist_find(&q->chardevs, "id", id) : NULL;
	const char *name = o ? qopts_get(o, "backend") : NULL, *value = "";
	const struct backend *b = name ? find_backend(name, strlen(name)) : NULL; /* checked before */
	bool mux;

	if (!o || !b)
		return qopts_fail(user, q->err, "chardev \"%s\" not found", id ? id : "");
	if (b->parameter && !(value = qopts_get(o, b->parameter)))
		return qopts_fail(o, q->err, "Parameter '%s' is missing", b->parameter);
	/* A port that is stdio has the keys of the terminal. */
	if (qopts_bool(o, "mux", false, &mux, q->err))
		return -1;
	if (qopts_get(o, "signal") && qword_bool(qopts_get(o, "signal")) < 0)
		return qopts_fail(o, q->err, "Parameter 'signal' expects 'on' or 'off'");
	if (o->taken && !mux)
		return qopts_fail(user, q->err, "chardev '%s' is in use", id);
	o->taken = true;
	if (qopts_all_read(o, q->err))
		return -1;
	return snprintf(text, size, "%s%s", b->word, value) < (int)size
		       ? 0
		       : qopts_fail(o, q->err, "%s: too long", b->name);
}

/* What -serial and the like have: the back end in one word, or a -chardev. */
static int read_where(struct qemu *q, struct qopts *o, char *text, size_t size)
{
	const char *where = qopts_get(o, "where"), *rest;
	const struct backend *b;
	size_t n;

	if (!where)
		return qopts_fail(o, q->err, "requires an argument");
	if (!strncmp(where, "mon:", 4))
		where += 4;
	if (!strcmp(where, "none"))
		return snprintf(text, size, "none") < 0;
	if (!strncmp(where, "chardev:", 8))
		return qemu_chardev(q, o, where + 8, text, size);
	n = strcspn(where, ":");
	rest = where[n] ? where + n + 1 : "";
	b = find_backend(where, n);
	if (!b || (b->parameter && !*rest) || (!b->parameter && *rest && strcmp(b->name, "vc") != 0))
		return qopts_fail(o, q->err,
				  "could not connect to character backend '%s': there are none, null, stdio, "
				  "pty, vc, file:PATH and chardev:ID",
				  where);
	return snprintf(text, size, "%s%s", b->word, b->parameter ? rest : "") < (int)size
		       ? 0
		       : qopts_fail(o, q->err, "too long");
}

static int add_serials(struct qemu *q)
{
	for (unsigned n = 0; n < q->serials.count; n++) {
		char text[WHERE_LEN], key[24];

		snprintf(key, sizeof(key), "serial%u", q->serial_ports++);
		if (read_where(q, &q->serials.v[n], text, sizeof(text)) ||
		    qemu_set(q, &q->serials.v[n], NULL, key, text))
			return -1;
		q->stdio_used |= !strcmp(text, "stdio");
	}
	return 0;
}

/* A port that `isa-serial` brings is there already, or it is what QEMU has without being asked. */
int qemu_default_serial(struct qemu *q)
{
	bool stdio = q->nographic && !q->nodefaults && !q->stdio_used;

	if (q->serial_ports)
		return 0;
	return qemu_set(q, NULL, NULL, "serial0", q->nodefaults ? "none" : stdio ? "stdio" : "socket");
}

static int add_monitor(struct qemu *q, struct qopts *o)
{
	const char *where = qopts_get(o, "where");

	if (where && qword_in("none|null", where))
		return 0;
	return qopts_fail(o, q->err, "a monitor is not there yet; the machine's run directory has its QMP socket");
}

int qemu_finish_chars(struct qemu *q)
{
	for (unsigned n = 0; n < q->chardevs.count; n++) {
		const char *id = qopts_get(&q->chardevs.v[n], "id");

		const char *name = qopts_get(&q->chardevs.v[n], "backend");

		if (!id)
			return qopts_fail(&q->chardevs.v[n], q->err, "chardev: no id specified");
		if (!name || !find_backend(name, strlen(name)))
			return qopts_fail(&q->chardevs.v[n], q->err, "'%s' is not a valid char driver name",
					  name ? name : "");
		if (qlist_find(&q->chardevs, "id", id) != &q->chardevs.v[n])
			return qopts_fail(&q->chardevs.v[n], q->err, "Duplicate ID '%s' for chardev", id);
	}
	if (add_serials(q))
		return -1;
	for (unsigned n = 0; n < q->monitors.count; n++)
		if (add_monitor(q, &q->monitors.v[n]))
			return -1;
	return 0;
}
