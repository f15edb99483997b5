/*
 * The machine's half of VNC: a thread that draws the screen and passes on what viewers do. While somebody looks it
 * draws every 20 ms, if the last picture was taken; while nobody does, twice a second, for a viewer is told of a size
 * when it comes.
 */
#include "display/vnc.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/child.h"
#include "base/limit.h"
#include "base/log.h"
#include "base/module.h"
#include "base/now.h"
#include "display/vnc_impl.h"

#define WATCHED_MS  20
#define ALONE_MS    500
#define RESTART_MS  1000
#define TURN	    64 /* messages between two pictures */
#define DESCRIPTORS 64 /* which bounds its viewers, too */

struct vnc {
	struct vnc_config c;
	uint32_t *pixels; /* shared with the server */
	struct screen screen;
	bool whole; /* a new server has nothing yet */
	bool busy;  /* the last picture was not taken yet */
	int viewers;
	bool down[INPUT_KEYS];
	uint8_t buttons;
	pid_t pid;
	int fd;	  /* -1: it has ended */
	int stop; /* an eventfd */
	pthread_t thread;
	bool started;
};

/* --- in the new process --- */

static _Noreturn void run_child(const struct vnc *v, int fd, pid_t parent)
{
	typeof(vnc_serve) *serve;
	struct err err;

	child_begin("vireo:vnc", fd, parent);
	limit_set(RLIMIT_NOFILE, DESCRIPTORS);
	limit_set(RLIMIT_CORE, 0);
	mprotect(v->pixels, VNC_PIXELS_MAX * sizeof(*v->pixels), PROT_READ);
	serve = module_symbol("vireo-vnc", "vnc_serve", &err);
	if (!serve || serve(&v->c, v->pixels, 3, &err))
		send(3, err.msg, strlen(err.msg), MSG_NOSIGNAL);
	_exit(1);
}

/* --- in the machine's --- */

/* Waits until it listens. */
static int spawn(struct vnc *v, struct err *err)
{
	pid_t parent = getpid();
	int pair[2];
	ssize_t n;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return err_errno(err, errno, "vnc: socketpair");
	v->pid = fork();
	if (v->pid == 0)
		run_child(v, pair[1], parent);
	close(pair[1]);
	if (v->pid < 0) {
		close(pair[0]);
		return err_errno(err, errno, "vnc: fork");
	}
	do
		n = recv(pair[0], err->msg, sizeof(err->msg) - 1, 0);
	while (n < 0 && errno == EINTR);
	if (n == 1 && !err->msg[0]) {
		v->fd = pair[0];
		v->whole = true;
		v->busy = false;
		v->viewers = 0;
		return 0;
	}
	if (n > 0)
		err->msg[n] = 0;
	else
		err_set(err, "vnc: its process has ended");
	close(pair[0]);
	waitpid(v->pid, NULL, 0);
	return -1;
}

/* What a server that ends leaves pressed is let go. */
static void let_go(struct vnc *v)
{
	for (unsigned n = 0; n < INPUT_KEYS; n++)
		if (v->down[n] && v->c.input.key)
			v->c.input.key(v->c.input.opaque, n, false);
	memset(v->down, 0, sizeof(v->down));
	if (v->buttons && v->c.input.mouse)
		v->c.input.mouse(v->c.input.opaque, &(struct input_mouse){ 0 });
	v->buttons = 0;
}

static void bury(struct vnc *v)
{
	close(v->fd);
	v->fd = -1;
	kill(v->pid, SIGKILL);
	waitpid(v->pid, NULL, 0);
	let_go(v);
}

/* --- pictures --- */

/* The rows of [top, end) that have changed, copied; false: none. */
static bool take_band(struct vnc *v, unsigned top, unsigned end, struct vnc_rect *r)
{
	struct screen *s = &v->screen;
	unsigned from = s->width, to = 0, first = end, last = top;

	for (unsigned y = top; y < end; y++) {
		struct screen_span *d = &s->damage[y];
		size_t at = (size_t)y * s->width;

		if (v->whole)
			*d = (struct screen_span){ 0, (uint16_t)s->width };
		if (d->from == d->to)
			continue;
		memcpy(v->pixels + at + d->from, s->pixels + at + d->from, (size_t)(d->to - d->from) * 4);
		first = y < first ? y : first;
		last = y;
		from = d->from < from ? d->from : from;
		to = d->to > to ? d->to : to;
		*d = (struct screen_span){ 0, 0 };
	}
	*r = (struct vnc_rect){ (uint16_t)from, (uint16_t)first, (uint16_t)(to - from), (uint16_t)(last - first + 1) };
	return to > from;
}

static void show(struct vnc *v)
{
	struct screen *s = &v->screen;
	struct vnc_picture p;
	unsigned was_width = s->width, was_height = s->height, band;

	if (v->busy || !v->c.source.draw(v->c.source.opaque, s, SCREEN_CHANGES) ||
	    (uint64_t)s->width * s->height > VNC_PIXELS_MAX)
		return;
	v->whole |= s->width != was_width || s->height != was_height;
	band = s->height / (VNC_RECTS_MAX - 1) + 1;
	band = band < 16 ? 16 : band;
	p.width = (uint16_t)s->width;
	p.height = (uint16_t)s->height;
	p.count = 0;
	for (unsigned top = 0; top < s->height; top += band) {
		unsigned end = top + band < s->height ? top + band : s->height;

		p.count += take_band(v, top, end, &p.rect[p.count]);
	}
	v->whole = false;
	if (!p.count)
		return;
	v->busy = true;
	send(v->fd, &p, offsetof(struct vnc_picture, rect) + p.count * sizeof(p.rect[0]), MSG_NOSIGNAL);
}

/* --- what viewers do: the server is not to be trusted --- */

static void hear(struct vnc *v, const struct vnc_news_message *m)
{
	struct input_mouse mouse = { m->value[0], m->value[1], m->value[2], (uint8_t)m->value[3] };
	unsigned key = (unsigned)m->value[0];

	switch (m->what) {
	case VNC_DONE:
		v->busy = false;
		break;
	case VNC_VIEWERS:
		v->viewers = m->value[0];
		break;
	case VNC_KEY:
		if (key >= INPUT_KEYS || !v->c.input.key)
			break;
		v->down[key] = m->value[1];
		v->c.input.key(v->c.input.opaque, key, m->value[1]);
		break;
	case VNC_MOUSE:
		v->buttons = mouse.buttons;
		if (v->c.input.mouse)
			v->c.input.mouse(v->c.input.opaque, &mouse);
		break;
	default:
		break;
	}
}

/* False: it has ended. */
static bool listen_to(struct vnc *v)
{
	struct vnc_news_message m;

	for (unsigned turn = 0; turn < TURN; turn++) {
		ssize_t n = recv(v->fd, &m, sizeof(m), MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return true;
		if (n <= 0)
			return false;
		if (n == sizeof(m))
			hear(v, &m);
	}
	return true;
}

static void restart(struct vnc *v)
{
	struct err err;

	if (spawn(v, &err))
		log_guest("vnc", "%s; nobody can look at the screen", err.msg);
}

static void *run(void *opaque)
{
	struct vnc *v = opaque;
	int64_t next = 0;

	for (;;) {
		struct pollfd p[2] = { { .fd = v->stop, .events = POLLIN }, { .fd = v->fd, .events = POLLIN } };
		int64_t wait = next - now_ms();

		if (wait > 0 && poll(p, 2, (int)wait) < 0 && errno != EINTR)
			return NULL;
		if (p[0].revents)
			return NULL;
		if (v->fd >= 0 && !listen_to(v)) {
			bury(v);
			log_guest("vnc", "its process has ended and is started again; viewers are lost");
			next = now_ms() + RESTART_MS;
		} else if (now_ms() >= next && v->fd < 0) {
			restart(v);
			next = v->fd < 0 ? now_ms() + RESTART_MS : 0;
		} else if (now_ms() >= next) {
			show(v);
			next = now_ms() + WATCHED_MS;
			next += v->viewers ? 0 : ALONE_MS - WATCHED_MS;
		} else if (v->viewers && next > now_ms() + WATCHED_MS) {
			next = now_ms(); /* the first one has come */
		}
	}
}

struct vnc *vnc_new(const struct vnc_config *c, struct err *err)
{
	struct vnc *v = calloc(1, sizeof(*v));
	sigset_t all, old;

	if (!v) {
		err_set(err, "out of memory");
		return NULL;
	}
	v->c = *c;
	v->fd = -1;
	v->stop = eventfd(0, EFD_CLOEXEC);
	v->pixels = mmap(NULL, VNC_PIXELS_MAX * sizeof(*v->pixels), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (v->pixels == MAP_FAILED || v->stop < 0) {
		v->pixels = v->pixels == MAP_FAILED ? NULL : v->pixels;
		err_errno(err, errno, "vnc");
		goto fail;
	}
	if (spawn(v, err))
		goto fail;
	/* Signals are the main loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	v->started = !pthread_create(&v->thread, NULL, run, v);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (v->started)
		return v;
	err_set(err, "vnc: no thread");
fail:
	vnc_free(v);
	return NULL;
}

void vnc_free(struct vnc *v)
{
	if (!v)
		return;
	if (v->started) {
		eventfd_write(v->stop, 1);
		pthread_join(v->thread, NULL);
	}
	if (v->fd >= 0)
		bury(v);
	if (v->c.path && v->started)
		unlink(v->c.path);
	if (v->pixels)
		munmap(v->pixels, VNC_PIXELS_MAX * sizeof(*v->pixels));
	if (v->stop >= 0)
		close(v->stop);
	screen_free(&v->screen);
	free(v);
}
