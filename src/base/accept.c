/* Taking who comes, and the pause when there is no room. */
#include "base/accept.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/now.h"

struct accepter {
	struct loop *loop;
	struct loop_fd *watch;
	struct loop_hook hook; /* the loop has it while there is a pause: a timer would need a descriptor */
	const char *name;
	accept_fn *fn;
	void *opaque;
	bool held, paused;
	int64_t until_ns; /* of the pause */
};

int accept_one(int fd, int flags, const char *name, bool *full)
{
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | flags);

	*full = client < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS);
	if (*full)
		log_guest("accept", "%s: no connection can be taken for now: %s", name, strerror(errno));
	return client;
}

static void update(struct accepter *a)
{
	loop_fd_mod(a->watch, a->held || a->paused ? 0 : EPOLLIN);
}

static void prepare(void *opaque, int *timeout_ms)
{
	const struct accepter *a = opaque;
	int64_t left = (a->until_ns - now_ns()) / 1000000 + 1;

	if (left < 0)
		left = 0;
	if (*timeout_ms < 0 || left < *timeout_ms)
		*timeout_ms = (int)left;
}

static void ready(void *opaque)
{
	struct accepter *a = opaque;

	if (now_ns() < a->until_ns)
		return;
	a->paused = false;
	loop_hook_del(a->loop, &a->hook);
	update(a);
}

static void on_client(void *opaque, int fd, uint32_t events)
{
	struct accepter *a = opaque;
	int client;

	if (a->held || a->paused) /* since the loop saw that somebody waits */
		return;
	client = accept_one(fd, SOCK_NONBLOCK, a->name, &a->paused);
	if (client >= 0)
		a->fn(a->opaque, client);
	if (!a->paused)
		return;
	a->until_ns = now_ns() + ACCEPT_PAUSE_MS * 1000000ll;
	loop_hook_add(a->loop, &a->hook);
	update(a);
}

struct accepter *accepter_new(struct loop *l, int fd, const char *name, accept_fn *fn, void *opaque, struct err *err)
{
	struct accepter *a = calloc(1, sizeof(*a));

	if (!a) {
		err_set(err, "out of memory");
		return NULL;
	}
	*a = (struct accepter){
		.loop = l, .hook = { prepare, ready, a, NULL }, .name = name, .fn = fn, .opaque = opaque
	};
	a->watch = loop_fd_add(l, fd, EPOLLIN, on_client, a, err);
	if (a->watch)
		return a;
	free(a);
	return NULL;
}

void accepter_hold(struct accepter *a, bool on)
{
	a->held = on;
	update(a);
}

void accepter_free(struct accepter *a)
{
	if (!a)
		return;
	loop_fd_del(a->watch);
	if (a->paused)
		loop_hook_del(a->loop, &a->hook);
	free(a);
}
