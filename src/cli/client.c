/* See client.h. */
#include "cli/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/now.h"
#include "vm/rundir.h"

#define MESSAGE_MAX (4u << 20)
#define END_MS	    10000

struct client {
	char name[48];
	int fd, patience_ms;
	int process; /* a pidfd; -1: it is not seen from here, or has ended */
	char *data;  /* what was read and not yet used */
	size_t len, size;
};

/* Read some more. 0 at the end, -1 on error. */
static ssize_t more(struct client *c, int64_t until_ms, struct err *err)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };
	int64_t left = until_ms - now_ms();
	ssize_t n;

	if (c->size - c->len < 4096) {
		size_t size = c->size ? 2 * c->size : 16384;
		char *grown = size <= MESSAGE_MAX ? realloc(c->data, size) : NULL;

		if (!grown)
			return err_set(err, "%s: an answer is too long", c->name);
		c->data = grown;
		c->size = size;
	}
	if (poll(&p, 1, left > 0 ? (int)left : 0) == 0)
		return err_set(err, "%s does not answer", c->name);
	n = read(c->fd, c->data + c->len, c->size - c->len);
	if (n < 0 && errno != EINTR)
		return err_errno(err, errno, "%s", c->name);
	c->len += n > 0 ? (size_t)n : 0;
	return n < 0 ? 1 : n;
}

/* Each message is a line. */
static json_t *next_message(struct client *c, int64_t until_ms, struct err *err)
{
	char *newline;
	json_t *o;
	ssize_t n;

	while (!(newline = c->len ? memchr(c->data, '\n', c->len) : NULL)) {
		n = more(c, until_ms, err);
		if (n == 0)
			err_set(err, "%s has ended", c->name);
		if (n <= 0)
			return NULL;
	}
	o = json_loadb(c->data, (size_t)(newline - c->data), 0, NULL);
	c->len -= (size_t)(newline + 1 - c->data);
	memmove(c->data, newline + 1, c->len);
	if (!o)
		err_set(err, "%s: an answer is not JSON", c->name);
	return o;
}

static int send_message(struct client *c, json_t *o, struct err *err)
{
	char *text = json_dumps(o, JSON_COMPACT);
	size_t len = text ? strlen(text) : 0;

	json_decref(o);
	for (size_t done = 0; done < len;) {
		ssize_t n = send(c->fd, text + done, len - done, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR) {
			err_errno(err, errno, "%s", c->name);
			free(text);
			return -1;
		}
		done += n > 0 ? (size_t)n : 0;
	}
	free(text);
	return len ? 0 : err_set(err, "out of memory");
}

json_t *client_execute(struct client *c, const char *command, json_t *args, struct err *err)
{
	int64_t until = now_ms() + c->patience_ms;
	json_t *o = json_pack("{s:s}", "execute", command), *result, *e;

	if (args)
		json_object_set_new(o, "arguments", args);
	if (send_message(c, o, err))
		return NULL;
	for (;;) {
		o = next_message(c, until, err);
		if (!o)
			return NULL;
		e = json_object_get(o, "error");
		result = json_object_get(o, "return");
		if (e || result)
			break;
		json_decref(o); /* an event */
	}
	if (e)
		err_set(err, "%s: %s", c->name, json_string_value(json_object_get(e, "desc")));
	json_incref(result);
	json_decref(o);
	return e ? NULL : result;
}

int client_do(struct client *c, const char *command, struct err *err)
{
	json_t *o = client_execute(c, command, NULL, err);

	json_decref(o);
	return o ? 0 : -1;
}

int client_status(struct client *c, char *word, size_t size, struct err *err)
{
	json_t *o = client_execute(c, "query-status", NULL, err);
	const char *status = json_string_value(json_object_get(o, "status"));

	snprintf(word, size, "%s", status ? status : "unknown");
	json_decref(o);
	return o ? 0 : -1;
}

/* Of the machine, as the kernel knows who listens. */
static int find_process(int fd)
{
	struct ucred peer = { 0 };
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) || peer.pid <= 0)
		return -1;
	return (int)syscall(SYS_pidfd_open, peer.pid, 0);
}

struct client *client_open(const char *name, int patience_ms, struct err *err)
{
	struct client *c = calloc(1, sizeof(*c));
	json_t *greeting = NULL;

	if (!c) {
		err_set(err, "out of memory");
		return NULL;
	}
	snprintf(c->name, sizeof(c->name), "%s", name);
	c->patience_ms = patience_ms;
	c->process = -1;
	c->fd = rundir_connect(name, "qmp.sock", err);
	if (c->fd >= 0)
		c->process = find_process(c->fd);
	if (c->fd >= 0)
		greeting = next_message(c, now_ms() + patience_ms, err);
	json_decref(greeting);
	if (greeting && !client_do(c, "qmp_capabilities", err))
		return c;
	client_close(c);
	return NULL;
}

bool client_wait_end(struct client *c, int ms)
{
	struct pollfd process = { .fd = c->process, .events = POLLIN };
	int64_t until = now_ms() + ms;
	struct err err;
	ssize_t n;

	do {
		c->len = 0;
		n = more(c, until, &err);
	} while (n > 0);
	if (n < 0 && now_ms() >= until) /* reset by the peer is an end too */
		return false;
	return c->process < 0 || poll(&process, 1, END_MS) > 0;
}

void client_close(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	if (c->process >= 0)
		close(c->process);
	free(c->data);
	free(c);
}

int client_path(const char *file, char path[PATH_MAX], struct err *err)
{
	char cwd[PATH_MAX] = "";

	if (*file != '/' && !getcwd(cwd, sizeof(cwd)))
		return err_set(err, "%s: where this directory is cannot be told", file);
	if (snprintf(path, PATH_MAX, "%s%s%s", cwd, *cwd ? "/" : "", file) >= PATH_MAX)
		return err_set(err, "%s: the path is too long", file);
	return 0;
}
