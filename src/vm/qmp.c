/* See qmp.h. */
#include "vm/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "vm/impl.h"
#include "vm/rundir.h"
#include "vm/save.h"

#define CLIENTS	  8
#define LINE_MAX_ 65536

struct client {
	struct qmp *qmp;
	int fd;
	struct loop_fd *watch;
	char *line;
	size_t len;
	bool negotiated;
};

struct qmp {
	struct vm *vm;
	int fd;
	struct loop_fd *watch;
	struct client clients[CLIENTS];
};

static void drop(struct client *c)
{
	loop_fd_del(c->watch);
	close(c->fd);
	free(c->line);
	*c = (struct client){ .qmp = c->qmp, .fd = -1 };
}

/* A client that does not read its answers loses them. Takes `o`. */
static void send_json(struct client *c, json_t *o)
{
	char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

	if (text) {
		struct iovec iov[2] = { { text, strlen(text) }, { (void *)"\r\n", 2 } };
		struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };

		(void)!sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
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

void qmp_event(struct qmp *q, const char *name, const char *reason)
{
	if (!q)
		return;
	for (unsigned n = 0; n < CLIENTS; n++) {
		json_t *o;

		if (q->clients[n].fd < 0 || !q->clients[n].negotiated)
			continue;
		o = json_pack("{s:s,s:o}", "event", name, "timestamp", timestamp());
		if (reason)
			json_object_set_new(
				o, "data",
				json_pack("{s:b,s:s}", "guest", !strncmp(reason, "guest", 5), "reason", reason));
		send_json(&q->clients[n], o);
	}
}

/* --- commands: the result object, or NULL with `err` --- */

static json_t *nothing(struct vm *vm, json_t *args, struct err *err)
{
	return json_object();
}

static json_t *query_status(struct vm *vm, json_t *args, struct err *err)
{
	return json_pack("{s:s,s:b,s:b}", "status", vm_state_name(vm), "running", vm->state == VM_RUNNING, "singlestep",
			 0);
}

static json_t *query_name(struct vm *vm, json_t *args, struct err *err)
{
	return json_pack("{s:s}", "name", vm->name);
}

static json_t *query_version(struct vm *vm, json_t *args, struct err *err)
{
	int major = 0, minor = 0, micro = 0;

	sscanf(VIREO_VERSION, "%d.%d.%d", &major, &minor, &micro);
	return json_pack("{s:{s:i,s:i,s:i},s:s}", "qemu", "major", major, "minor", minor, "micro", micro, "package",
			 "vireo-" VIREO_VERSION);
}

static json_t *query_cpus(struct vm *vm, json_t *args, struct err *err)
{
	json_t *list = json_array();

	for (unsigned n = 0; n < vm->cpus; n++)
		json_array_append_new(list, json_pack("{s:i,s:s}", "cpu-index", (int)n, "target", "x86_64"));
	return list;
}

static json_t *stop(struct vm *vm, json_t *args, struct err *err)
{
	vm_pause(vm);
	return json_object();
}

static json_t *cont(struct vm *vm, json_t *args, struct err *err)
{
	vm_resume(vm);
	return json_object();
}

static json_t *quit(struct vm *vm, json_t *args, struct err *err)
{
	vm_quit(vm, 0, "host-qmp-quit");
	return json_object();
}

static json_t *powerdown(struct vm *vm, json_t *args, struct err *err)
{
	vm_power_button(vm);
	return json_object();
}

static json_t *reset(struct vm *vm, json_t *args, struct err *err)
{
	vm_reset(vm);
	return json_object();
}

static json_t *save(struct vm *vm, json_t *args, struct err *err)
{
	const char *path = json_string_value(json_object_get(args, "filename"));

	if (!path) {
		err_set(err, "Parameter 'filename' is missing");
		return NULL;
	}
	return vm_save(vm, path, err) ? NULL : json_object();
}

static void add_counter(void *opaque, const char *name, uint64_t value)
{
	json_object_set_new(opaque, name, json_integer((json_int_t)value));
}

static json_t *query_stats(struct vm *vm, json_t *args, struct err *err)
{
	json_t *o = json_object();

	stats_each(vm->stats, add_counter, o);
	return o;
}

static json_t *query_commands(struct vm *vm, json_t *args, struct err *err);

static const struct command {
	const char *name;
	json_t *(*run)(struct vm *vm, json_t *args, struct err *err);
} commands[] = {
	{ "cont", cont },
	{ "qmp_capabilities", nothing },
	{ "query-commands", query_commands },
	{ "query-cpus-fast", query_cpus },
	{ "query-name", query_name },
	{ "query-status", query_status },
	{ "query-version", query_version },
	{ "quit", quit },
	{ "stop", stop },
	{ "system_powerdown", powerdown },
	{ "system_reset", reset },
	{ "x-vireo-save", save },
	{ "x-vireo-stats", query_stats },
};

static json_t *query_commands(struct vm *vm, json_t *args, struct err *err)
{
	json_t *list = json_array();

	for (size_t n = 0; n < sizeof(commands) / sizeof(commands[0]); n++)
		json_array_append_new(list, json_pack("{s:s}", "name", commands[n].name));
	return list;
}

/* --- protocol --- */

static void fail(struct client *c, json_t *id, const char *class, const char *desc)
{
	json_t *o = json_pack("{s:{s:s,s:s}}", "error", "class", class, "desc", desc);

	if (id)
		json_object_set(o, "id", id);
	send_json(c, o);
}

static void execute(struct client *c, json_t *request)
{
	const char *name = json_string_value(json_object_get(request, "execute"));
	json_t *id = json_object_get(request, "id"), *result, *o;
	const struct command *cmd = NULL;
	struct err err;

	if (!name) {
		fail(c, id, "GenericError", "QMP input lacks member 'execute'");
		return;
	}
	for (size_t n = 0; n < sizeof(commands) / sizeof(commands[0]); n++)
		if (!strcmp(commands[n].name, name))
			cmd = &commands[n];
	if (!cmd || (!c->negotiated && cmd->run != nothing)) {
		char text[160];

		snprintf(text, sizeof(text),
			 cmd ? "Expecting capabilities negotiation with 'qmp_capabilities'"
			     : "The command %.80s has not been found",
			 name);
		fail(c, id, "CommandNotFound", text);
		return;
	}
	c->negotiated = true;
	result = cmd->run(c->qmp->vm, json_object_get(request, "arguments"), &err);
	if (!result) {
		fail(c, id, "GenericError", err.msg);
		return;
	}
	o = json_pack("{s:o}", "return", result);
	if (id)
		json_object_set(o, "id", id);
	send_json(c, o);
}

/* Take the complete JSON objects from the front of the buffer. */
static void parse(struct client *c)
{
	while (c->len) {
		json_error_t e;
		json_t *o = json_loadb(c->line, c->len, JSON_DISABLE_EOF_CHECK, &e);
		size_t used = o ? (size_t)e.position : 0;

		if (!o) {
			char *newline = memchr(c->line, '\n', c->len);

			/* More may come; but a line that is complete and wrong is an error. */
			if (!newline)
				return;
			used = (size_t)(newline - c->line) + 1;
			if (strspn(c->line, " \t\r\n") < used)
				fail(c, NULL, "GenericError", "Invalid JSON syntax");
		} else if (!json_is_object(o)) {
			fail(c, NULL, "GenericError", "QMP input must be a JSON object");
		} else {
			execute(c, o);
		}
		json_decref(o);
		memmove(c->line, c->line + used, c->len - used);
		c->len -= used;
		c->line[c->len] = 0;
	}
}

static void client_ready(void *opaque, int fd, uint32_t events)
{
	struct client *c = opaque;
	ssize_t n;

	if (c->len == LINE_MAX_) {
		drop(c);
		return;
	}
	n = read(fd, c->line + c->len, LINE_MAX_ - c->len);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		drop(c);
		return;
	}
	c->len += (size_t)n;
	c->line[c->len] = 0;
	parse(c);
}

static void greet(struct client *c)
{
	struct err err;

	send_json(c,
		  json_pack("{s:{s:o,s:[]}}", "QMP", "version", query_version(c->qmp->vm, NULL, &err), "capabilities"));
}

static void accept_client(void *opaque, int listen_fd, uint32_t events)
{
	struct qmp *q = opaque;
	struct err err;
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	for (unsigned n = 0; n < CLIENTS; n++) {
		struct client *c = &q->clients[n];

		if (c->fd >= 0)
			continue;
		c->line = malloc(LINE_MAX_ + 1);
		c->watch = c->line ? loop_fd_add(q->vm->loop, fd, EPOLLIN, client_ready, c, &err) : NULL;
		if (!c->watch) {
			free(c->line);
			break;
		}
		c->fd = fd;
		greet(c);
		return;
	}
	close(fd);
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
	if (q->watch)
		loop_fd_del(q->watch);
	if (q->fd >= 0)
		close(q->fd);
	free(q);
}
