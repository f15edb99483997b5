/* See chan.h. */
#include "vm/chan.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RING	   65536u
#define INPUT_ROOM 4096u

struct chan {
	struct loop *loop;
	int out, log;
	pthread_t writer;
	pthread_mutex_t lock;
	pthread_cond_t more;
	uint8_t ring[RING];
	size_t head, count;
	bool full_seen; /* the device waits for room */
	bool ending;
	atomic_int client;

	/* loop thread */
	struct char_source source;
	uint8_t input[INPUT_ROOM];
	size_t input_len;
	struct loop_fd *in_watch, *client_watch;
	int in_fd;
};

/* --- output --- */

static void write_all(int fd, const uint8_t *b, size_t len)
{
	while (len) {
		ssize_t n = write(fd, b, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		b += n;
		len -= (size_t)n;
	}
}

static void *writer(void *opaque)
{
	struct chan *c = opaque;
	uint8_t chunk[4096];

	pthread_mutex_lock(&c->lock);
	for (;;) {
		size_t n;
		bool waiting;
		int client;

		while (!c->count && !c->ending)
			pthread_cond_wait(&c->more, &c->lock);
		if (!c->count)
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
		if (c->out >= 0)
			write_all(c->out, chunk, n);
		if (c->log >= 0)
			write_all(c->log, chunk, n);
		client = atomic_load(&c->client);
		/* A client that does not read misses output; the guest does not wait for it. */
		if (client >= 0)
			(void)!send(client, chunk, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (waiting && c->source.can_write)
			c->source.can_write(c->source.opaque);
		pthread_mutex_lock(&c->lock);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

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

/* --- input --- */

static void in_ready(void *opaque, int fd, uint32_t events);

static void watch_input(struct chan *c, bool on)
{
	if (c->in_watch)
		loop_fd_mod(c->in_watch, on ? EPOLLIN : 0);
	if (c->client_watch)
		loop_fd_mod(c->client_watch, on ? EPOLLIN : 0);
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
	watch_input(c, c->input_len < INPUT_ROOM / 2);
}

void chan_input(struct chan *c, const void *buf, size_t len)
{
	if (len > INPUT_ROOM - c->input_len)
		len = INPUT_ROOM - c->input_len;
	memcpy(c->input + c->input_len, buf, len);
	c->input_len += len;
	push_input(c);
}

static void wake(void *opaque)
{
	struct chan *c = opaque;

	loop_post(c->loop, push_input, c);
}

struct char_wake chan_wake(struct chan *c)
{
	return (struct char_wake){ c ? wake : NULL, c };
}

void chan_connect(struct chan *c, const struct char_source *source)
{
	c->source = *source;
}

static void drop_client(struct chan *c)
{
	int fd = atomic_exchange(&c->client, -1);

	loop_fd_del(c->client_watch);
	c->client_watch = NULL;
	close(fd);
}

static void in_ready(void *opaque, int fd, uint32_t events)
{
	struct chan *c = opaque;
	uint8_t b[512];
	size_t room = INPUT_ROOM - c->input_len;
	ssize_t n;

	if (!room) {
		watch_input(c, false);
		return;
	}
	n = read(fd, b, room < sizeof(b) ? room : sizeof(b));
	if (n > 0) {
		chan_input(c, b, (size_t)n);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		if (fd == c->in_fd) {
			loop_fd_del(c->in_watch);
			c->in_watch = NULL;
		} else {
			drop_client(c);
		}
	}
}

int chan_read_from(struct chan *c, int fd, struct err *err)
{
	c->in_fd = fd;
	c->in_watch = loop_fd_add(c->loop, fd, EPOLLIN, in_ready, c, err);
	return c->in_watch ? 0 : -1;
}

void chan_attach(struct chan *c, int fd)
{
	static const char busy[] = "vireo: somebody else is attached\n";
	struct err err;

	if (atomic_load(&c->client) >= 0) {
		(void)!send(fd, busy, sizeof(busy) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		close(fd);
		return;
	}
	c->client_watch = loop_fd_add(c->loop, fd, EPOLLIN, in_ready, c, &err);
	if (!c->client_watch) {
		close(fd);
		return;
	}
	atomic_store(&c->client, fd);
}

/* --- life --- */

struct chan *chan_new(struct loop *loop, int out, int log, struct err *err)
{
	struct chan *c = calloc(1, sizeof(*c));

	if (!c) {
		err_set(err, "out of memory");
		return NULL;
	}
	c->loop = loop;
	c->out = out;
	c->log = log;
	c->in_fd = -1;
	atomic_store(&c->client, -1);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->more, NULL);
	if (pthread_create(&c->writer, NULL, writer, c)) {
		err_set(err, "cannot start a thread");
		free(c);
		return NULL;
	}
	return c;
}

void chan_free(struct chan *c)
{
	struct timespec limit;

	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->ending = true;
	pthread_cond_signal(&c->more);
	pthread_mutex_unlock(&c->lock);
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec++;
	/* A terminal that takes nothing must not hold back the end. */
	if (pthread_timedjoin_np(c->writer, NULL, &limit)) {
		pthread_cancel(c->writer);
		pthread_join(c->writer, NULL);
	}
	if (c->in_watch)
		loop_fd_del(c->in_watch);
	if (c->client_watch)
		drop_client(c);
	if (c->out > 2)
		close(c->out);
	if (c->log >= 0)
		close(c->log);
	pthread_cond_destroy(&c->more);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
