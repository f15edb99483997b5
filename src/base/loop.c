/* The event loop: epoll, an eventfd for wake-ups, and a locked queue of posted functions. */
#include "base/loop.h"
#include "base/now.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_PER_WAIT 32

struct loop_fd {
	struct loop *loop;
	int fd;
	bool dead; /* deleted; freed once no event of the current batch can name it */
	loop_fd_fn *fn;
	void *opaque;
	struct loop_fd *next_dead;
};

struct post {
	loop_fn *fn;
	void *opaque;
	struct post *next;
};

struct loop {
	int64_t patience, last_wait; /* ns */
	int epfd, wakefd;
	atomic_bool quit;
	struct loop_hook *hooks;
	struct loop_fd *dead;
	pthread_mutex_t lock; /* of the queue */
	struct post *first, **last;
};

struct loop *loop_new(struct err *err)
{
	struct loop *l = calloc(1, sizeof(*l));
	struct epoll_event ev = { .events = EPOLLIN };

	if (!l) {
		err_set(err, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&l->lock, NULL);
	l->last = &l->first;
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	l->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->epfd < 0 || l->wakefd < 0 || epoll_ctl(l->epfd, EPOLL_CTL_ADD, l->wakefd, &ev)) {
		err_errno(err, errno, "event loop");
		loop_free(l);
		return NULL;
	}
	return l;
}

static void free_dead(struct loop *l)
{
	while (l->dead) {
		struct loop_fd *w = l->dead;

		l->dead = w->next_dead;
		free(w);
	}
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	free_dead(l);
	while (l->first) {
		struct post *p = l->first;

		l->first = p->next;
		free(p);
	}
	if (l->epfd >= 0)
		close(l->epfd);
	if (l->wakefd >= 0)
		close(l->wakefd);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

struct loop_fd *loop_fd_add(struct loop *l, int fd, uint32_t events, loop_fd_fn *fn, void *opaque, struct err *err)
{
	struct loop_fd *w = calloc(1, sizeof(*w));
	struct epoll_event ev = { .events = events, .data.ptr = w };

	if (!w) {
		err_set(err, "out of memory");
		return NULL;
	}
	*w = (struct loop_fd){ .loop = l, .fd = fd, .fn = fn, .opaque = opaque };
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev)) {
		int errnum = errno;

		err_errno(err, errnum, "event loop: file descriptor %d", fd);
		free(w);
		errno = errnum;
		return NULL;
	}
	return w;
}

void loop_fd_mod(struct loop_fd *w, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };

	epoll_ctl(w->loop->epfd, EPOLL_CTL_MOD, w->fd, &ev);
}

void loop_fd_del(struct loop_fd *w)
{
	if (!w || w->dead)
		return;
	epoll_ctl(w->loop->epfd, EPOLL_CTL_DEL, w->fd, NULL);
	w->dead = true;
	w->next_dead = w->loop->dead;
	w->loop->dead = w;
}

void loop_hook_add(struct loop *l, struct loop_hook *h)
{
	h->next = l->hooks;
	l->hooks = h;
}

void loop_hook_del(struct loop *l, struct loop_hook *h)
{
	for (struct loop_hook **p = &l->hooks; *p; p = &(*p)->next) {
		if (*p == h) {
			*p = h->next;
			return;
		}
	}
}

static void wake(struct loop *l)
{
	uint64_t one = 1;

	/* EAGAIN: the counter is full, so the loop is awake already. */
	if (write(l->wakefd, &one, sizeof(one)) < 0)
		return;
}

void loop_post(struct loop *l, loop_fn *fn, void *opaque)
{
	struct post *p = malloc(sizeof(*p));

	/* A lost wake-up could hang a guest; there is nothing sensible left without 24 bytes. */
	if (!p)
		abort();
	*p = (struct post){ fn, opaque, NULL };
	pthread_mutex_lock(&l->lock);
	*l->last = p;
	l->last = &p->next;
	pthread_mutex_unlock(&l->lock);
	wake(l);
}

static void run_posted(struct loop *l)
{
	struct post *p, *next;

	pthread_mutex_lock(&l->lock);
	p = l->first;
	l->first = NULL;
	l->last = &l->first;
	pthread_mutex_unlock(&l->lock);
	for (; p; p = next) {
		next = p->next;
		p->fn(p->opaque);
		free(p);
	}
}

void loop_quit(struct loop *l)
{
	l->quit = true;
	wake(l);
}

void loop_set_patience(struct loop *l, int64_t ns)
{
	l->patience = ns;
}

static int wait_for_events(struct loop *l, struct epoll_event *events, int timeout)
{
	int64_t begin, until;
	int n = 0;

	if (!l->patience || !timeout)
		return epoll_wait(l->epfd, events, EVENTS_PER_WAIT, timeout);
	begin = now_ns();
	until = l->last_wait < l->patience ? begin + l->patience : begin;
	while (!n && now_ns() < until)
		n = epoll_wait(l->epfd, events, EVENTS_PER_WAIT, 0);
	if (!n)
		n = epoll_wait(l->epfd, events, EVENTS_PER_WAIT, timeout);
	l->last_wait = now_ns() - begin;
	return n;
}

void loop_run(struct loop *l)
{
	struct epoll_event events[EVENTS_PER_WAIT];

	while (!l->quit) {
		int timeout = -1, n;

		for (struct loop_hook *h = l->hooks; h; h = h->next)
			h->prepare(h->opaque, &timeout);
		n = wait_for_events(l, events, timeout);
		for (int i = 0; i < n; i++) {
			struct loop_fd *w = events[i].data.ptr;
			uint64_t drained;

			if (!w) {
				if (read(l->wakefd, &drained, sizeof(drained)) < 0)
					continue;
			} else if (!w->dead) {
				w->fn(w->opaque, w->fd, events[i].events);
			}
		}
		run_posted(l);
		for (struct loop_hook *h = l->hooks, *next; h; h = next) {
			next = h->next;
			h->ready(h->opaque);
		}
		free_dead(l);
	}
	l->quit = false;
}
