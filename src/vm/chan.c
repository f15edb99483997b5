/* See chan.h. */
#include "vm/chan.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "vm/conlog.h"

#define RING	   65536u
#define CHUNK	   4096u
#define INPUT_ROOM 65536u
#define LOSSY_MS   100

/* Something that input comes from; clients get the output too. */
struct input {
	struct chan *chan;
	int fd; /* -1: free */
	struct loop_fd *watch;
	bool file; /* a regular file, which cannot be watched and is always ready */
	bool ended;
	chan_filter *filter;
	void *filter_opaque;
	size_t lost; /* output that this client did not read in time */
};

struct chan {
	struct chan_config cfg;
	pthread_t writer;
	pthread_mutex_t lock;
	pthread_cond_t more, written;
	uint8_t ring[RING];
	size_t head, count;
	bool full_seen; /* the device waits for room */
	atomic_bool ending;
	atomic_size_t unwritten;
	atomic_bool timestamps;

	/* the writer's */
	bool spoken, out_failed, out_stuck, line_start;
	struct timespec started;

	/* loop thread */
	struct char_source source;
	bool paused; /* input has no room */
	uint8_t input[INPUT_ROOM];
	size_t input_len;
	struct input in;

	pthread_mutex_t clients_lock; /* the writer sends under it, so that no descriptor is closed below it */
	struct input clients[CHAN_CLIENTS];
};

/* --- output: the writer's thread --- */

/* False: give up. */
static bool wait_writable(struct chan *c)
{
	struct pollfd p = { .fd = c->cfg.out, .events = POLLOUT };
	int n;

	if (c->out_stuck)
		return false;
	n = poll(&p, 1, c->cfg.lossy ? LOSSY_MS : -1);
	c->out_stuck = n == 0;
	return n != 0;
}

static void write_out(struct chan *c, const uint8_t *b, size_t len)
{
	/* Waiting for the reader ends with the channel: see chan_free(). */
	while (len && !atomic_load(&c->ending)) {
		ssize_t n = write(c->cfg.out, b, len);

		if (n > 0) {
			b += n;
			len -= (size_t)n;
			c->out_stuck = false;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		/* Whoever shares the descriptor may have made it non-blocking. */
		if (n < 0 && errno == EAGAIN) {
			if (wait_writable(c))
				continue;
			return;
		}
		if (!c->out_failed)
			log_line(LOG_WARN, "console", "%s: output is lost: %s", c->cfg.name, strerror(errno));
		c->out_failed = true;
		return;
	}
}

static void write_stamped(struct chan *c, const uint8_t *b, size_t len)
{
	while (len) {
		const uint8_t *newline = memchr(b, '\n', len);
		size_t n = newline ? (size_t)(newline - b) + 1 : len;
		struct timespec now;
		char stamp[32];

		if (c->line_start) {
			clock_gettime(CLOCK_MONOTONIC, &now);
			snprintf(stamp, sizeof(stamp), "[%8.3f] ",
				 (double)(now.tv_sec - c->started.tv_sec) +
					 (double)(now.tv_nsec - c->started.tv_nsec) / 1e9);
			write_out(c, (const uint8_t *)stamp, strlen(stamp));
		}
		write_out(c, b, n);
		c->line_start = newline != NULL;
		b += n;
		len -= n;
	}
}

static void send_to_client(struct input *k, const uint8_t *b, size_t len)
{
	char text[64];
	ssize_t n;

	if (k->lost) {
		int m = snprintf(text, sizeof(text), "\r\n[vireo: %zu bytes were lost here]\r\n", k->lost);

		if (send(k->fd, text, (size_t)m, MSG_DONTWAIT | MSG_NOSIGNAL) != m) {
			k->lost += len;
			return;
		}
		k->lost = 0;
	}
	n = send(k->fd, b, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	k->lost = len - (n > 0 ? (size_t)n : 0);
}

#define PATIENCE_MS 50

/* All of it, or until the client goes. The descriptor may be closed, and be another one's, while it is waited for. */
static void send_to_program(struct chan *c, struct input *k, const uint8_t *b, size_t len)
{
	while (len && !atomic_load(&c->ending)) {
		struct pollfd p = { .events = POLLOUT };
		ssize_t n = -1;

		pthread_mutex_lock(&c->clients_lock);
		p.fd = k->fd;
		if (p.fd >= 0)
			n = send(p.fd, b, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		pthread_mutex_unlock(&c->clients_lock);
		if (p.fd < 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return;
		if (n > 0) {
			b += n;
			len -= (size_t)n;
		} else {
			poll(&p, 1, PATIENCE_MS);
		}
	}
}

static void send_to_clients(struct chan *c, const uint8_t *b, size_t len)
{
	if (c->cfg.programs) {
		for (unsigned n = 0; n < CHAN_CLIENTS; n++)
			send_to_program(c, &c->clients[n], b, len);
		return;
	}
	pthread_mutex_lock(&c->clients_lock);
	for (unsigned n = 0; n < CHAN_CLIENTS; n++)
		if (c->clients[n].fd >= 0)
			send_to_client(&c->clients[n], b, len);
	pthread_mutex_unlock(&c->clients_lock);
}

static void deliver(struct chan *c, const uint8_t *b, size_t len)
{
	if (!c->spoken)
		log_line(LOG_INFO, "console", "%s: first output of the guest", c->cfg.name);
	c->spoken = true;
	/* The log first: it is there when somebody has seen the output. */
	if (c->cfg.log)
		conlog_write(c->cfg.log, b, len);
	if (c->cfg.out >= 0 && atomic_load(&c->timestamps))
		write_stamped(c, b, len);
	else if (c->cfg.out >= 0)
		write_out(c, b, len);
	send_to_clients(c, b, len);
}

static void *writer(void *opaque)
{
	struct chan *c = opaque;
	uint8_t chunk[CHUNK];

	pthread_mutex_lock(&c->lock);
	for (;;) {
		size_t n;
		bool waiting;

		while (!c->count && !c->ending)
			pthread_cond_wait(&c->more, &c->lock);
		if (c->ending)
			break;
		n = RING - c->head < c->count ? RING - c->head : c->count;
		if (n > sizeof(chunk))
			n = sizeof(chunk);
		memcpy(chunk, c->ring + c->head, n);
		c->head = (c->head + n) % RING;
		c->count -= n;
		waiting = c->full_seen;
		c->full_seen = false;
		pthread_mutex_unlock(&c->lock);
		deliver(c, chunk, n);
		if (waiting && c->source.can_write)
			c->source.can_write(c->source.opaque);
		pthread_mutex_lock(&c->lock);
		atomic_fetch_sub(&c->unwritten, n);
		pthread_cond_broadcast(&c->written);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* --- output: the device's side --- */

static size_t sink_write(void *opaque, const void *buf, size_t len)
{
	struct chan *c = opaque;
	const uint8_t *b = buf;
	size_t n;

	pthread_mutex_lock(&c->lock);
	n = RING - c->count < len ? RING - c->count : len;
	for (size_t k = 0; k < n; k++)
		c->ring[(c->head + c->count + k) % RING] = b[k];
	c->count += n;
	atomic_fetch_add(&c->unwritten, n);
	if (n < len)
		c->full_seen = true;
	pthread_cond_signal(&c->more);
	pthread_mutex_unlock(&c->lock);
	return n;
}

struct char_sink chan_sink(struct chan *c)
{
	return (struct char_sink){ c ? sink_write : NULL, c };
}

static struct timespec deadline(clockid_t clock, int ms)
{
	struct timespec t;

	clock_gettime(clock, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += ms % 1000 * 1000000l;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	return t;
}

size_t chan_unwritten(struct chan *c, int ms)
{
	struct timespec until = deadline(CLOCK_MONOTONIC, ms);
	size_t left;

	pthread_mutex_lock(&c->lock);
	while ((left = atomic_load(&c->unwritten)) && ms)
		if (pthread_cond_timedwait(&c->written, &c->lock, &until) == ETIMEDOUT)
			break;
	pthread_mutex_unlock(&c->lock);
	return left;
}

void chan_toggle_timestamps(struct chan *c)
{
	atomic_store(&c->timestamps, !atomic_load(&c->timestamps));
}

/* --- input --- */

static void ready(void *opaque, int fd, uint32_t events);

/*
 * An idle watch is taken away rather than emptied: epoll reports a hang-up also to those who ask for nothing. One
 * that has ended stays for that.
 */
static void set_watch(struct input *in, bool on)
{
	struct chan *c = in->chan;
	struct err err;

	if (in->fd < 0 || in->file || (in->watch && on) || in->ended)
		return;
	loop_fd_del(in->watch);
	in->watch = on ? loop_fd_add(c->cfg.loop, in->fd, EPOLLIN, ready, in, &err) : NULL;
}

static void read_file(void *opaque);

static void update_watches(struct chan *c)
{
	bool room = c->input_len <= INPUT_ROOM / 2;

	if (room == !c->paused)
		return;
	c->paused = !room;
	set_watch(&c->in, room);
	for (unsigned n = 0; n < CHAN_CLIENTS; n++)
		set_watch(&c->clients[n], room);
	if (room && c->in.file && !c->in.ended)
		loop_post(c->cfg.loop, read_file, c);
}

static void push_input(void *opaque)
{
	struct chan *c = opaque;
	size_t n;

	if (!c->input_len || !c->source.input)
		return;
	n = c->source.input(c->source.opaque, c->input, c->input_len);
	memmove(c->input, c->input + n, c->input_len - n);
	c->input_len -= n;
	update_watches(c);
}

void chan_input(struct chan *c, const void *buf, size_t len)
{
	if (len > INPUT_ROOM - c->input_len)
		len = INPUT_ROOM - c->input_len;
	memcpy(c->input + c->input_len, buf, len);
	c->input_len += len;
	push_input(c);
	update_watches(c);
}

void chan_break(struct chan *c)
{
	if (c->source.brk)
		c->source.brk(c->source.opaque);
}

static void wake(void *opaque)
{
	struct chan *c = opaque;

	loop_post(c->cfg.loop, push_input, c);
}

struct char_wake chan_wake(struct chan *c)
{
	return (struct char_wake){ c ? wake : NULL, c };
}

static unsigned clients(const struct chan *c)
{
	unsigned count = 0;

	for (unsigned n = 0; n < CHAN_CLIENTS; n++)
		count += c->clients[n].fd >= 0;
	return count;
}

static void tell_clients(struct chan *c)
{
	if (c->cfg.programs && c->source.connected)
		c->source.connected(c->source.opaque, clients(c) > 0);
}

void chan_connect(struct chan *c, const struct char_source *source)
{
	c->source = *source;
	tell_clients(c);
}

void chan_write_to(struct chan *c, int fd)
{
	pthread_mutex_lock(&c->lock);
	c->cfg.out = fd;
	pthread_mutex_unlock(&c->lock);
}

static void drop_client(struct input *in)
{
	loop_fd_del(in->watch);
	pthread_mutex_lock(&in->chan->clients_lock);
	close(in->fd);
	*in = (struct input){ .chan = in->chan, .fd = -1 };
	pthread_mutex_unlock(&in->chan->clients_lock);
	if (!clients(in->chan))
		tell_clients(in->chan);
}

/* A client that only stopped talking may still listen. */
static void input_ended(struct input *in, bool gone)
{
	in->ended = true;
	if (in == &in->chan->in) {
		loop_fd_del(in->watch);
		in->watch = NULL;
	} else if (gone) {
		drop_client(in);
	} else {
		loop_fd_mod(in->watch, 0);
	}
}

/* False when nothing more comes now. */
static bool read_input(struct input *in, bool gone)
{
	struct chan *c = in->chan;
	char b[CHUNK];
	size_t room = INPUT_ROOM - c->input_len;
	ssize_t n = read(in->fd, b, room < sizeof(b) ? room : sizeof(b));

	if (n > 0) {
		size_t len = in->filter ? in->filter(in->filter_opaque, b, (size_t)n) : (size_t)n;

		chan_input(c, b, len);
		return !c->paused;
	}
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		input_ended(in, gone || n < 0);
	return false;
}

static void ready(void *opaque, int fd, uint32_t events)
{
	struct input *in = opaque;

	if (in->ended)
		drop_client(in); /* the other direction is closed too */
	else
		read_input(in, events & EPOLLHUP);
}

static void read_file(void *opaque)
{
	struct chan *c = opaque;

	if (!c->in.ended && !c->paused && read_input(&c->in, true))
		loop_post(c->cfg.loop, read_file, c);
}

int chan_read_from(struct chan *c, int fd, chan_filter *filter, void *opaque, struct err *err)
{
	c->in = (struct input){ .chan = c, .fd = fd, .filter = filter, .filter_opaque = opaque };
	c->in.watch = loop_fd_add(c->cfg.loop, fd, EPOLLIN, ready, &c->in, err);
	if (c->in.watch)
		return 0;
	if (errno != EPERM)
		return -1;
	c->in.file = true;
	loop_post(c->cfg.loop, read_file, c);
	return 0;
}

void chan_attach(struct chan *c, int fd)
{
	static const char busy[] = "vireo: too many clients are attached\r\n";
	struct input *free_slot = NULL;
	struct err err;

	for (unsigned n = 0; n < CHAN_CLIENTS; n++)
		if (c->clients[n].fd < 0)
			free_slot = &c->clients[n];
	if (!free_slot) {
		(void)!send(fd, busy, sizeof(busy) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		close(fd);
		return;
	}
	pthread_mutex_lock(&c->clients_lock);
	*free_slot = (struct input){ .chan = c, .fd = fd };
	pthread_mutex_unlock(&c->clients_lock);
	/* While there is no room for input it waits, as the others do. */
	if (!c->paused)
		free_slot->watch = loop_fd_add(c->cfg.loop, fd, EPOLLIN, ready, free_slot, &err);
	if (!c->paused && !free_slot->watch) {
		drop_client(free_slot);
		return;
	}
	if (clients(c) == 1)
		tell_clients(c);
}

/* --- life --- */

static void interrupt(int sig)
{
}

struct chan *chan_new(const struct chan_config *cfg, struct err *err)
{
	struct chan *c = calloc(1, sizeof(*c));
	pthread_condattr_t attr;

	if (!c) {
		err_set(err, "out of memory");
		return NULL;
	}
	c->cfg = *cfg;
	c->line_start = true;
	clock_gettime(CLOCK_MONOTONIC, &c->started);
	sigaction(SIGURG, &(struct sigaction){ .sa_handler = interrupt }, NULL);
	c->in = (struct input){ .chan = c, .fd = -1 };
	for (unsigned n = 0; n < CHAN_CLIENTS; n++)
		c->clients[n] = (struct input){ .chan = c, .fd = -1 };
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_init(&c->clients_lock, NULL);
	pthread_cond_init(&c->more, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->written, &attr);
	pthread_condattr_destroy(&attr);
	if (!pthread_create(&c->writer, NULL, writer, c))
		return c;
	err_set(err, "cannot start a thread");
	free(c);
	return NULL;
}

/*
 * A terminal or a pipe that takes nothing must not hold back the end: signals interrupt the write. One may come
 * just before it, so there is another soon.
 */
static void end_writer(struct chan *c)
{
	struct timespec until;

	do {
		pthread_kill(c->writer, SIGURG);
		until = deadline(CLOCK_REALTIME, 5);
	} while (pthread_timedjoin_np(c->writer, NULL, &until));
}

void chan_free(struct chan *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	atomic_store(&c->ending, true);
	pthread_cond_signal(&c->more);
	pthread_mutex_unlock(&c->lock);
	end_writer(c);
	loop_fd_del(c->in.watch);
	for (unsigned n = 0; n < CHAN_CLIENTS; n++) {
		if (c->clients[n].fd < 0)
			continue;
		loop_fd_del(c->clients[n].watch);
		close(c->clients[n].fd);
	}
	if (c->cfg.out > 2)
		close(c->cfg.out);
	conlog_free(c->cfg.log);
	pthread_cond_destroy(&c->more);
	pthread_cond_destroy(&c->written);
	pthread_mutex_destroy(&c->lock);
	pthread_mutex_destroy(&c->clients_lock);
	free(c);
}
