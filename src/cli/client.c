/* See client.h. */
#include "cli/client.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vm/rundir.h"

struct client {
	FILE *in;
	int fd;
};

static json_t *next_message(struct client *c, struct err *err)
{
	json_error_t e;
	json_t *o = json_loadf(c->in, JSON_DISABLE_EOF_CHECK, &e);

	if (!o)
		err_set(err, "the machine has closed its control socket");
	return o;
}

json_t *client_execute(struct client *c, const char *command, json_t *args, struct err *err)
{
	json_t *o = json_pack("{s:s}", "execute", command), *result = NULL, *e;

	if (args)
		json_object_set_new(o, "arguments", args);
	if (json_dumpfd(o, c->fd, JSON_COMPACT) || write(c->fd, "\n", 1) != 1)
		err_errno(err, errno, "control socket");
	json_decref(o);
	for (;;) {
		o = next_message(c, err);
		if (!o)
			return NULL;
		e = json_object_get(o, "error");
		result = json_object_get(o, "return");
		if (e || result)
			break;
		json_decref(o); /* an event */
	}
	if (e)
		err_set(err, "%s", json_string_value(json_object_get(e, "desc")));
	else
		json_incref(result);
	json_decref(o);
	return result;
}

struct client *client_open(const char *name, struct err *err)
{
	struct client *c = calloc(1, sizeof(*c));
	json_t *o;

	if (!c) {
		err_set(err, "out of memory");
		return NULL;
	}
	c->fd = rundir_connect(name, "qmp.sock", err);
	if (c->fd < 0) {
		free(c);
		return NULL;
	}
	c->in = fdopen(dup(c->fd), "r");
	if (c->in)
		setvbuf(c->in, NULL, _IONBF, 0); /* nothing read ahead, so that poll() tells the truth */
	o = c->in ? next_message(c, err) : NULL;
	json_decref(o);
	o = o ? client_execute(c, "qmp_capabilities", NULL, err) : NULL;
	if (!o) {
		client_close(c);
		return NULL;
	}
	json_decref(o);
	return c;
}

bool client_wait_end(struct client *c, int seconds)
{
	time_t end = time(NULL) + seconds;

	for (;;) {
		struct pollfd p = { .fd = c->fd, .events = POLLIN };
		char b[1024];

		if (time(NULL) >= end)
			return false;
		if (poll(&p, 1, 500) > 0 && read(c->fd, b, sizeof(b)) <= 0)
			return true;
	}
}

void client_close(struct client *c)
{
	if (c->in)
		fclose(c->in);
	close(c->fd);
	free(c);
}
