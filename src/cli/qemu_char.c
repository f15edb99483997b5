/* -serial, -chardev, -monitor, -qmp, -mon and -debugcon. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cli/qemu.h"

/* Where a port or a monitor leads, as its key has it. */
struct where {
	char text[512];
	const char *id;		   /* of the -chardev, or NULL */
	bool socket, server, wait; /* one of those; the keys beside it */
	bool stdio, mux, signals;  /* the terminal: shared with the monitor; whether Ctrl-C is a signal */
};

/* Back ends by QEMU's names: the word of a port's key, and the parameter that follows it. */
static const struct backend {
	const char *name, *word, *parameter;
} backends[] = {
	{ "stdio", "stdio", NULL }, { "null", "null", NULL },	 { "pty", "pty", NULL },
	{ "vc", "socket", NULL },   { "file", "file:", "path" }, { "socket", "", NULL },
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

static int put(struct qemu *q, struct qopts *o, struct where *w, const char *first, const char *second)
{
	return snprintf(w->text, sizeof(w->text), "%s%s", first, second) < (int)sizeof(w->text)
		       ? 0
		       : qopts_fail(o, q->err, "too long");
}

/* server=, wait= and what else a socket has. Whoever listens waits for the first client, unless told not to. */
static int read_socket(struct qemu *q, struct qopts *o, struct where *w)
{
	w->socket = true;
	if (qopts_bool(o, "server", false, &w->server, q->err) || qopts_bool(o, "wait", w->server, &w->wait, q->err))
		return -1;
	if (qopts_get(o, "reconnect") && strcmp(qopts_get(o, "reconnect"), "0"))
		return qopts_fail(o, q->err, "reconnect is not there");
	/* Small messages go at once in any case. */
	if ((qopts_get(o, "nodelay") && parse_bool(qopts_get(o, "nodelay")) < 0) ||
	    (qopts_get(o, "delay") && parse_bool(qopts_get(o, "delay")) < 0))
		return qopts_fail(o, q->err, "Parameter 'nodelay' expects 'on' or 'off'");
	return 0;
}

/* -chardev socket,path=P or host=H,port=N or fd=N. */
static int chardev_socket(struct qemu *q, struct qopts *o, struct where *w)
{
	const char *path = qopts_get(o, "path"), *port = qopts_get(o, "port"), *host = qopts_get(o, "host");
	const char *fd = qopts_get(o, "fd");
	char address[256];

	if (!!path + !!port + !!fd != 1)
		return qopts_fail(o, q->err, "one of path=, port= and fd= is needed");
	snprintf(address, sizeof(address), "%.200s:%.32s", host ? host : "", port ? port : "");
	if (path ? put(q, o, w, "unix:", path)
	    : fd ? put(q, o, w, "fd:", fd)
		 : put(q, o, w, "tcp:", host && *host ? address : port))
		return -1;
	return read_socket(q, o, w);
}

static int read_chardev(struct qemu *q, struct qopts *user, const char *id, struct where *w)
{
	struct qopts *o = id ? qlist_find(&q->chardevs, "id", id) : NULL;
	const char *name = o ? qopts_get(o, "backend") : NULL, *value = "";
	const struct backend *b = name ? find_backend(name, strlen(name)) : NULL; /* checked before */

	if (!o || !b)
		return qopts_fail(user, q->err, "chardev \"%s\" not found", id ? id : "");
	if (b->parameter && !(value = qopts_get(o, b->parameter)))
		return qopts_fail(o, q->err, "Parameter '%s' is missing", b->parameter);
	w->stdio = !strcmp(name, "stdio");
	if (qopts_bool(o, "mux", false, &w->mux, q->err) || qopts_bool(o, "signal", !w->mux, &w->signals, q->err))
		return -1;
	if (o->taken && !w->mux)
		return qopts_fail(user, q->err, "chardev '%s' is in use", id);
	o->taken = true;
	w->id = id;
	if (strcmp(name, "socket") ? put(q, o, w, b->word, value) : chardev_socket(q, o, w))
		return -1;
	return qopts_all_read(o, q->err);
}

/* "unix:PATH,server,nowait", "tcp:HOST:PORT,server=on,wait=off". */
static int word_socket(struct qemu *q, struct qopts *o, const char *text, struct where *w)
{
	size_t n = strcspn(text, ",");
	struct qopts more;
	char address[256];
	int rc;

	snprintf(address, sizeof(address), "%.*s", (int)n, text);
	/* "tcp::PORT" is any address of QEMU's host, and of this host only here. */
	if (n >= sizeof(address) || put(q, o, w, !strncmp(address, "tcp::", 5) ? "tcp:" : "",
					!strncmp(address, "tcp::", 5) ? address + 5 : address))
		return qopts_fail(o, q->err, "too long");
	rc = qopts_parse(&more, "", text[n] ? text + n + 1 : "", NULL, q->err);
	/* Errors are about all of it. */
	free(more.origin);
	more.origin = strdup(o->origin);
	rc = rc || read_socket(q, &more, w) || qopts_all_read(&more, q->err) ? -1 : 0;
	qopts_free(&more);
	return rc;
}

/* What -serial and the like have: the back end in one word, or a -chardev. */
static int read_where(struct qemu *q, struct qopts *o, struct where *w)
{
	const char *where = qopts_get(o, "where"), *rest;
	const struct backend *b;
	size_t n;

	if (!where)
		return qopts_fail(o, q->err, "Parameter 'chardev' is missing");
	*w = (struct where){ .mux = !strncmp(where, "mon:", 4) };
	where += w->mux ? 4 : 0;
	if (!strcmp(where, "none"))
		return put(q, o, w, "none", "");
	if (!strncmp(where, "chardev:", 8))
		return read_chardev(q, o, where + 8, w);
	if (!strncmp(where, "unix:", 5) || !strncmp(where, "tcp:", 4))
		return word_socket(q, o, where, w);
	n = strcspn(where, ":");
	rest = where[n] ? where + n + 1 : "";
	b = find_backend(where, n);
	if (!b || !*b->word || (b->parameter && !*rest) || (!b->parameter && *rest && strcmp(b->name, "vc") != 0))
		return qopts_fail(o, q->err,
				  "could not connect to character backend '%s': there are none, null, stdio, "
				  "pty, vc, file:PATH, unix:PATH, tcp:HOST:PORT and chardev:ID",
				  where);
	w->stdio = !strcmp(b->name, "stdio");
	w->signals = !w->mux;
	return put(q, o, w, b->word, b->parameter ? rest : "");
}

/* The keys of a port or a monitor. */
static int set_where(struct qemu *q, struct qopts *o, const char *key, const struct where *w)
{
	if (qemu_set(q, o, NULL, key, w->text) || (w->id && qemu_set(q, o, key, "id", w->id)))
		return -1;
	return w->socket && !w->server ? qemu_set(q, o, key, "server", "off") : 0;
}

static int set_port(struct qemu *q, struct qopts *o, const char *key, const struct where *w)
{
	if (!strncmp(w->text, "fd:", 3))
		return qopts_fail(o, q->err, "a port has no fd=");
	if (set_where(q, o, key, w) || (w->wait && qemu_set(q, o, key, "wait", "on")))
		return -1;
	if (!w->stdio)
		return 0;
	q->stdio_used = true;
	/* The terminal is QEMU's: without a monitor behind it no key is special, and Ctrl-C ends the program. */
	return qemu_set(q, o, NULL, "terminal.escapes", w->mux ? "always" : "never") ||
			       qemu_set(q, o, NULL, "terminal.signals", w->signals ? "on" : "off")
		       ? -1
		       : 0;
}

int qemu_set_port(struct qemu *q, struct qopts *o, const char *key, const char *id)
{
	struct where w = { "" };

	return read_chardev(q, o, id, &w) || set_port(q, o, key, &w) ? -1 : 0;
}

static int add_serials(struct qemu *q)
{
	for (unsigned n = 0; n < q->serials.count; n++) {
		struct where w;
		char key[24];

		snprintf(key, sizeof(key), "serial%u", q->serial_ports++);
		if (read_where(q, &q->serials.v[n], &w) || set_port(q, &q->serials.v[n], key, &w))
			return -1;
	}
	return 0;
}

/* A port that `isa-serial` brings is there already, or it is what QEMU has without being asked. */
int qemu_default_serial(struct qemu *q)
{
	struct where w = { .text = "socket" };

	if (q->serial_ports)
		return 0;
	if (q->nodefaults)
		return qemu_set(q, NULL, NULL, "serial0", "none");
	if (q->nographic && !q->stdio_used)
		w = (struct where){ .text = "stdio", .stdio = true, .mux = true };
	return set_port(q, NULL, "serial0", &w);
}

/* -monitor, -qmp, -qmp-pretty and -mon. */
static int add_monitor(struct qemu *q, struct qopts *o)
{
	const char *id = qopts_get(o, "chardev"), *mode = qopts_get(o, "mode");
	bool control = !strncmp(o->origin, "-qmp", 4), pretty = !strncmp(o->origin, "-qmp-pretty", 11);
	bool alone = strncmp(o->origin, "-mon ", 5) != 0; /* with a place of its own, which has a name then */
	struct where w = { "" };
	char key[24], name[32];

	if (mode && !qword_in("readline|control", mode))
		return qopts_fail(o, q->err, "Parameter 'mode' does not accept value '%s'", mode);
	control |= mode && !strcmp(mode, "control");
	if (qopts_bool(o, "pretty", pretty, &pretty, q->err) ||
	    (id ? read_chardev(q, o, id, &w) : read_where(q, o, &w)) || qopts_all_read(o, q->err))
		return -1;
	snprintf(name, sizeof(name), "compat_monitor%u", q->monitor_names);
	q->monitor_names += alone && strcmp(w.text, "none") != 0;
	w.id = w.id || !alone ? w.id : name;
	/* The run directory has one of each in any case. */
	if (qword_in("none|null|socket", w.text))
		return 0;
	/* Behind Ctrl-A c of the port that is there too. */
	if (w.stdio && w.mux && q->stdio_used)
		return control ? qopts_fail(o, q->err, "QMP shares no terminal with a port") : 0;
	if (!w.stdio && !w.socket)
		return qopts_fail(o, q->err, "a monitor is at stdio, unix:PATH or tcp:HOST:PORT");
	snprintf(key, sizeof(key), control ? "qmp%u" : "monitor%u", control ? q->qmps++ : q->monitors_made++);
	q->stdio_used |= w.stdio;
	if (set_where(q, o, key, &w) || (w.wait && qemu_set(q, o, key, "wait", "on")))
		return -1;
	return pretty && control ? qemu_set(q, o, key, "pretty", "on") : 0;
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
	return add_serials(q);
}

int qemu_check_chardevs(struct qemu *q)
{
	for (unsigned n = 0; n < q->chardevs.count; n++) {
		struct qopts *o = &q->chardevs.v[n];
		struct where w = { "" };

		if (!o->taken && read_chardev(q, o, qopts_get(o, "id"), &w))
			return -1;
	}
	return 0;
}

int qemu_finish_monitors(struct qemu *q)
{
	for (unsigned n = 0; n < q->monitors.count; n++)
		if (add_monitor(q, &q->monitors.v[n]))
			return -1;
	return 0;
}
