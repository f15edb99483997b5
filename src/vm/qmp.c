/* See qmp.h: the protocol. */
#include "vm/qmp.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/jsonstream.h"
#include "vm/control.h"
#include "vm/impl.h"

struct session {
	struct qmp *qmp;
	struct link *link;
	struct jsonstream in;
	bool negotiated;
	struct session *next;
};

struct qmp {
	struct vm *vm;
	struct session *sessions;
	/* Of the command that runs now. */
	struct link *link;
	const char *class;
};

/* --- output --- */

/* Takes `o`. */
static void send_json(struct session *s, json_t *o)
{
	size_t style = JSON_ENSURE_ASCII | (link_is_pretty(s->link) ? JSON_INDENT(4) : 0);
	char *text = o ? json_dumps(o, style) : NULL;
	size_t len = text ? strlen(text) : 0;

	if (text) {
		link_write(s->link, text, len);
		link_write(s->link, "\r\n", 2);
	} else {
		link_drop(s->link);
	}
	free(text);
	json_decref(o);
}

static json_t *timestamp(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return json_pack("{s:I,s:I}", "seconds", (json_int_t)t.tv_sec, "microseconds", (json_int_t)(t.tv_nsec / 1000));
}

void qmp_event_data(struct qmp *q, const char *name, json_t *data)
{
	json_t *o = json_pack("{s:o,s:s}", "timestamp", timestamp(), "event", name);

	if (data)
		json_object_set_new(o, "data", data);
	for (struct session *s = q ? q->sessions : NULL; s; s = s->next)
		if (s->negotiated)
			send_json(s, json_incref(o));
	json_decref(o);
}

void qmp_event(struct qmp *q, const char *name, const char *reason)
{
	qmp_event_data(q, name,
		       reason ? json_pack("{s:b,s:s}", "guest", !strncmp(reason, "guest", 5), "reason", reason) : NULL);
}

void qmp_event_action(struct qmp *q, const char *name, const char *action)
{
	qmp_event_data(q, name, json_pack("{s:s}", "action", action));
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

json_t *qmp_fail(struct vm *vm, const char *class, struct err *err, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, args);
	va_end(args);
	vm->qmp->class = class;
	return NULL;
}

struct link *qmp_link(const struct vm *vm)
{
	return vm->qmp->link;
}

static void fail(struct session *s, const json_t *id, const char *class, const char *desc)
{
	json_t *o = json_pack("{s:{s:s,s:o}}", "error", "class", class, "desc", qmp_text(desc));

	if (id)
		json_object_set(o, "id", (json_t *)id);
	send_json(s, o);
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

static json_t *run(struct session *s, const struct qmp_command *cmd, json_t *args, struct err *err)
{
	json_t *result;

	s->qmp->link = s->link;
	s->qmp->class = "GenericError";
	result = qmp_check_members(cmd->args, args, err) ? NULL : cmd->run(s->qmp->vm, args, err);
	s->qmp->link = NULL;
	return result;
}

static void execute(struct session *s, json_t *request)
{
	json_t *id = json_object_get(request, "id"), *args = json_object_get(request, "arguments"), *result, *o;
	const struct qmp_command *cmd;
	const char *name;
	struct err err;
	bool negotiation;

	if (check_request(request, &err)) {
		fail(s, id, "GenericError", err.msg);
		return;
	}
	name = json_string_value(json_object_get(request, "execute"));
	cmd = qmp_find_command(name);
	negotiation = !strcmp(name, "qmp_capabilities");
	if (!s->negotiated && !negotiation)
		err_set(&err, "Expecting capabilities negotiation with 'qmp_capabilities'");
	else if (!cmd)
		err_set(&err, "The command %.80s has not been found", name);
	else if (s->negotiated && negotiation)
		err_set(&err, "Capabilities negotiation is already complete, command ignored");
	else
		*err.msg = 0;
	if (*err.msg) {
		fail(s, id, "CommandNotFound", err.msg);
		return;
	}
	result = run(s, cmd, args, &err);
	if (!result) {
		fail(s, id, s->qmp->class, err.msg);
		return;
	}
	s->negotiated = true;
	o = json_pack("{s:o}", "return", result);
	if (id)
		json_object_set(o, "id", id);
	send_json(s, o);
}

static void take_value(void *opaque, json_t *value, const char *error)
{
	struct session *s = opaque;

	if (value)
		execute(s, value);
	else
		fail(s, NULL, "GenericError", error);
	json_decref(value);
}

/* --- sessions --- */

static size_t take_input(void *session, const char *bytes, size_t len)
{
	struct session *s = session;
	size_t n = 0;

	do
		jsonstream_byte(&s->in, bytes[n++]);
	while (n < len && !link_is_slow(s->link) && !link_is_dropped(s->link));
	return n;
}

static void *open_session(struct vm *vm, struct link *l)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->qmp = vm->qmp;
	s->link = l;
	s->next = vm->qmp->sessions;
	vm->qmp->sessions = s;
	jsonstream_init(&s->in, take_value, s);
	send_json(s, json_pack("{s:{s:o,s:[]}}", "QMP", "version", qmp_version(), "capabilities"));
	return s;
}

static void close_session(void *session)
{
	struct session *s = session, **p = &s->qmp->sessions;

	while (*p != s)
		p = &(*p)->next;
	*p = s->next;
	jsonstream_fini(&s->in);
	free(s);
}

const struct control_protocol qmp_protocol = {
	.name = "qmp",
	.open = open_session,
	.input = take_input,
	.close = close_session,
};

struct qmp *qmp_new(struct vm *vm, struct err *err)
{
	struct qmp *q = calloc(1, sizeof(*q));

	if (!q) {
		err_set(err, "out of memory");
		return NULL;
	}
	q->vm = vm;
	return q;
}

void qmp_free(struct qmp *q)
{
	free(q);
}
