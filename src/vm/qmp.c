/* See qmp.h: the protocol. */
#include "vm/qmp.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "vm/impl.h"
#include "vm/rundir.h"

#define CLIENTS	    16
#define MESSAGE_MAX (1u << 20)
#define DEPTH_MAX   64
#define UNREAD_MAX  (1u << 20)
#define UNREAD_SLOW 65536u /* from here on nothing more is read from that client */

struct buffer {
	char *data;
	size_t len, size;
};

struct client {
	struct qmp *qmp;
	int fd; /* -1: free */
	struct loop_fd *watch;
	uint32_t events;
	bool negotiated, broken;
	struct buffer in, out;
	/* where the message in `in` begins, how far it was looked at, and what it is in there */
	size_t start, scanned;
	unsigned depth;
	bool string, escape;
};

struct qmp {
	struct vm *vm;
	int fd;
	struct loop_fd *watch;
	struct client clients[CLIENTS];
};

static bool append(struct buffer *b, const void *data, size_t len, size_t max)
{
	if (len > max - b->len)
		return false;
	if (b->len + len > b->size) {
		size_t size = b->size ? b->size : 1024;
		char *grown;

		while (size < b->len + len)
			size *= 2;
		grown = realloc(b->data, size);
		if (!grown)
			return false;
		b->data = grown;
		b->size = size;
	}
	memcpy(b->data + b->len, data, len);
	b->len += len;
	return true;
}

static void consume(struct buffer *b, size_t n)
{
	memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
}

static void drop(struct client *c)
{
	loop_fd_del(c->watch);
	close(c->fd);
	free(c->in.data);
	free(c->out.data);
	*c = (struct client){ .qmp = c->qmp, .fd = -1 };
}

/* --- output --- */

static void flush(struct client *c)
{
	uint32_t events;

	while (c->out.len) {
		ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n <= 0) {
			c->broken |= n < 0 && errno != EAGAIN && errno != EINTR;
			break;
		}
		consume(&c->out, (size_t)n);
	}
	events = (c->out.len < UNREAD_SLOW ? EPOLLIN : 0) | (c->out.len ? EPOLLOUT : 0);
	if (events != c->events)
		loop_fd_mod(c->watch, events);
	c->events = events;
}

/* Takes `o`. A client that does not read its answers is dropped by whoever looks at `broken`. */
static void send_json(struct client *c, json_t *o)
{
	char *text = o ? json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;

	if (!text || !append(&c->out, text, strlen(text), UNREAD_MAX) || !append(&c->out, "\r\n", 2, UNREAD_MAX))
		c->broken = true;
	free(text);
	json_decref(o);
	flush(c);
}

static json_t *timestamp(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return json_pack("{s:I,s:I}", "seconds", (json_int_t)t.tv_sec, "microseconds", (json_int_t)(t.tv_nsec / 1000));
}

/* Takes `data`, which may be NULL. */
static void event(struct qmp *q, const char *name, json_t *data)
{
	for (unsigned n = 0; q && n < CLIENTS; n++) {
		struct client *c = &q->clients[n];
		json_t *o;

		if (c->fd < 0 || !c->negotiated)
			continue;
		o = json_pack("{s:o,s:s}", "timestamp", timestamp(), "event", name);
		if (data)
			json_object_set(o, "data", data);
		send_json(c, o);
	}
	json_decref(data);
}

void qmp_event(struct qmp *q, const char *name, const char *reason)
{
	event(q, name, reason ? json_pack("{s:b,s:s}", "guest", !strncmp(reason, "guest", 5), "reason", reason) : NULL);
}

void qmp_event_action(struct qmp *q, const char *name, const char *action)
{
	event(q, name, json_pack("{s:s}", "action", action));
}

/* --- requests --- */

json_t *qmp_text(const char *text)
{
	json_t *o = json_string(text);
	char ascii[512];
	size_t n = 0;

	/* A path need not be UTF-8. */
	for (; !o && text[n] && n < sizeof(ascii) - 1; n++)
		ascii[n] = (unsigned char)text[n] < 0x80 ? text[n] : '?';
	ascii[n] = 0;
	return o ? o : json_string(ascii);
}

static void fail(struct client *c, const json_t *id, const char *class, const char *desc)
{
	json_t *o = json_pack("{s:{s:s,s:o}}", "error", "class", class, "desc", qmp_text(desc));

	if (id)
		json_object_set(o, "id", (json_t *)id);
	send_json(c, o);
}

static bool has_type(const json_t *v, char type)
{
	switch (type) {
	case 's':
		return json_is_string(v);
	case 'b':
		return json_is_boolean(v);
	case 'i':
		return json_is_integer(v);
	default:
		return json_is_array(v);
	}
}

static const char *type_name(char type)
{
	return type == 's' ? "string" : type == 'b' ? "boolean" : type == 'i' ? "integer" : "array";
}

static int check_args(const struct qmp_command *cmd, json_t *args, struct err *err)
{
	const size_t max = sizeof(cmd->args) / sizeof(cmd->args[0]);
	size_t known = 0;
	const char *key;
	json_t *v;

	for (size_t n = 0; n < max && cmd->args[n][0]; n++) {
		const char *name = cmd->args[n][0], *type = cmd->args[n][1];

		v = json_object_get(args, name);
		if (!v && !type[1])
			return err_set(err, "Parameter '%s' is missing", name);
		if (v && !has_type(v, *type))
			return err_set(err, "Invalid parameter type for '%s', expected: %s", name, type_name(*type));
		known += v != NULL;
	}
	if (json_object_size(args) == known)
		return 0;
	json_object_foreach(args, key, v)
	{
		size_t n = 0;

		while (n < max && cmd->args[n][0] && strcmp(cmd->args[n][0], key))
			n++;
		if (n == max || !cmd->args[n][0])
			return err_set(err, "Parameter '%.80s' is unexpected", key);
	}
	return 0;
}

/* The shape of a request. */
static int check_request(json_t *request, struct err *err)
{
	const char *key;
	json_t *v;

	if (!json_is_object(request))
		return err_set(err, "QMP input must be a JSON object");
	json_object_foreach(request, key, v)
	{
		if (!strcmp(key, "execute") && !json_is_string(v))
			return err_set(err, "QMP input member 'execute' must be a string");
		if (!strcmp(key, "arguments") && !json_is_object(v))
			return err_set(err, "QMP input member 'arguments' must be an object");
		if (strcmp(key, "execute") && strcmp(key, "arguments") && strcmp(key, "id"))
			return err_set(err, "QMP input member '%.80s' is unexpected", key);
	}
	return json_object_get(request, "execute") ? 0 : err_set(err, "QMP input lacks member 'execute'");
}

static void execute(struct client *c, json_t *request)
{
	json_t *id = json_object_get(request, "id"), *args = json_object_get(request, "arguments"), *result, *o;
	const struct qmp_command *cmd;
	const char *name;
	struct err err;
	bool negotiation;

	if (check_request(request, &err)) {
		fail(c, id, "GenericError", err.msg);
		return;
	}
	name = json_string_value(json_object_get(request, "execute"));
	cmd = qmp_find_command(name);
	negotiation = !strcmp(name, "qmp_capabilities");
	if (!c->negotiated && !negotiation)
		err_set(&err, "Expecting capabilities negotiation with 'qmp_capabilities'");
	else if (!cmd)
		err_set(&err, "The command %.80s has not been found", name);
	else if (c->negotiated && negotiation)
		err_set(&err, "Capabilities negotiation is already complete, command ignored");
	else
		*err.msg = 0;
	if (*err.msg) {
		fail(c, id, "CommandNotFound", err.msg);
		return;
	}
	result = check_args(cmd, args, &err) ? NULL : cmd->run(c->qmp->vm, args, &err);
	if (!result) {
		fail(c, id, "GenericError", err.msg);
		return;
	}
	c->negotiated = true;
	o = json_pack("{s:o}", "return", result);
	if (id)
		json_object_set(o, "id", id);
	send_json(c, o);
}

/* --- input: JSON values one after the other, with or without newlines between them --- */

static void next_message(struct client *c)
{
	c->start = c->scanned;
	c->depth = 0;
	c->string = c->escape = false;
}

static void bad_message(struct client *c, const char *what)
{
	char text[64];

	snprintf(text, sizeof(text), "JSON parse error, %s", what);
	fail(c, NULL, "GenericError", text);
	next_message(c);
}

static void take_message(struct client *c)
{
	json_error_t e;
	json_t *o =
		json_loadb(c->in.data + c->start, c->scanned - c->start, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &e);

	next_message(c);
	if (o)
		execute(c, o);
	else
		fail(c, NULL, "GenericError", "JSON parse error, invalid syntax");
	json_decref(o);
}

static bool is_blank(const struct client *c)
{
	for (size_t n = c->start; n < c->scanned; n++)
		if (!strchr(" \t\r\n", c->in.data[n]) || !c->in.data[n])
			return false;
	return true;
}

static void scan_string(struct client *c, char b)
{
	if (b == '\n') {
		bad_message(c, "a string does not end");
		return;
	}
	c->string = c->escape || b != '"';
	c->escape = !c->escape && b == '\\';
}

static void scan_byte(struct client *c)
{
	char b = c->in.data[c->scanned++];

	if ((unsigned char)b == 0xff) { /* never part of JSON: a client's way to start afresh */
		next_message(c);
		return;
	}
	if (c->string) {
		scan_string(c, b);
		return;
	}
	switch (b) {
	case '"':
		c->string = true;
		break;
	case '{':
	case '[':
		if (++c->depth > DEPTH_MAX) {
			bad_message(c, "too many levels");
			c->broken = true;
		}
		break;
	case '}':
	case ']':
		if (c->depth <= 1)
			take_message(c);
		else
			c->depth--;
		break;
	case '\n':
		/* Between messages, or after something that is none. */
		if (!c->depth && is_blank(c))
			next_message(c);
		else if (!c->depth)
			take_message(c);
		break;
	}
}

static void scan(struct client *c)
{
	while (c->scanned < c->in.len && !c->broken)
		scan_byte(c);
	consume(&c->in, c->start);
	c->scanned -= c->start;
	c->start = 0;
}

static void client_ready(void *opaque, int fd, uint32_t events)
{
	struct client *c = opaque;
	char b[16384];
	ssize_t n;

	if (events & EPOLLOUT)
		flush(c);
	if (events & ~(uint32_t)EPOLLOUT) {
		n = read(fd, b, sizeof(b));
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
			c->broken = true;
		} else if (n > 0 && append(&c->in, b, (size_t)n, MESSAGE_MAX)) {
			scan(c);
		} else if (n > 0) {
			bad_message(c, "the message is too long");
			c->broken = true;
		}
	}
	if (c->broken)
		drop(c);
}

/* --- clients --- */

static void accept_client(void *opaque, int listen_fd, uint32_t events)
{
	struct qmp *q = opaque;
	struct client *c = NULL;
	struct err err;
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	for (unsigned n = 0; n < CLIENTS; n++)
		if (q->clients[n].fd < 0)
			c = &q->clients[n];
	if (c)
		c->watch = loop_fd_add(q->vm->loop, fd, EPOLLIN, client_ready, c, &err);
	if (!c || !c->watch) {
		close(fd);
		return;
	}
	c->fd = fd;
	c->events = EPOLLIN;
	send_json(c, json_pack("{s:{s:o,s:[]}}", "QMP", "version", qmp_version(), "capabilities"));
	if (c->broken)
		drop(c);
}

struct qmp *qmp_new(struct vm *vm, struct err *err)
{
	struct qmp *q = calloc(1, sizeof(*q));

	if (!q) {
		err_set(err, "out of memory");
		return NULL;
	}
	q->vm = vm;
	for (unsigned n = 0; n < CLIENTS; n++)
		q->clients[n] = (struct client){ .qmp = q, .fd = -1 };
	q->fd = rundir_listen(vm->rundir, "qmp.sock", err);
	if (q->fd >= 0)
		q->watch = loop_fd_add(vm->loop, q->fd, EPOLLIN, accept_client, q, err);
	if (!q->watch) {
		qmp_free(q);
		return NULL;
	}
	return q;
}

void qmp_free(struct qmp *q)
{
	for (unsigned n = 0; n < CLIENTS; n++)
		if (q->clients[n].fd >= 0)
			drop(&q->clients[n]);
	loop_fd_del(q->watch);
	if (q->fd >= 0)
		close(q->fd);
	free(q);
}
