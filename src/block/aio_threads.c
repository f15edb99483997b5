/*
 * The thread-pool back end of aio.h: up to THREADS_MAX workers, started as the load asks for them,
 * take operations from one queue and hand results back to the loop thread through an eventfd.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "block/aio.h"

#define THREADS_MAX 8

struct op_list {
	struct aio_op *head, **tail;
};

struct pool {
	struct aio aio;
	struct loop *loop;
	struct loop_fd *watch;
	int done_fd;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t work;
	struct op_list todo, finished;
	pthread_t threads[THREADS_MAX];
	unsigned started, idle, queued;
	bool quit;
};

static void list_init(struct op_list *l)
{
	l->head = NULL;
	l->tail = &l->head;
}

static void list_put(struct op_list *l, struct aio_op *op)
{
	op->next = NULL;
	*l->tail = op;
	l->tail = &op->next;
}

static struct aio_op *list_take(struct op_list *l)
{
	struct aio_op *op = l->head;

	if (op) {
		l->head = op->next;
		if (!l->head)
			l->tail = &l->head;
	}
	return op;
}

static void *worker(void *opaque)
{
	struct pool *p = opaque;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct aio_op *op = list_take(&p->todo);
		bool first;

		if (!op) {
			if (p->quit)
				break;
			p->idle++;
			pthread_cond_wait(&p->work, &p->lock);
			p->idle--;
			continue;
		}
		p->queued--;
		pthread_mutex_unlock(&p->lock);
		op->result = aio_perform(op);
		pthread_mutex_lock(&p->lock);
		first = !p->finished.head;
		list_put(&p->finished, op);
		if (first)
			eventfd_write(p->done_fd, 1);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static void on_finished(void *opaque, int fd, uint32_t events)
{
	struct pool *p = opaque;
	struct aio_op *op;
	eventfd_t v;

	eventfd_read(fd, &v);
	pthread_mutex_lock(&p->lock);
	op = p->finished.head;
	list_init(&p->finished);
	pthread_mutex_unlock(&p->lock);
	while (op) {
		struct aio_op *next = op->next;

		op->done(op, op->result);
		op = next;
	}
}

/* With the lock held. */
static int start_worker(struct pool *p)
{
	sigset_t all, old;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	ret = pthread_create(&p->threads[p->started], NULL, worker, p);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!ret)
		p->started++;
	return ret;
}

static void threads_submit(struct aio *a, struct aio_op *op)
{
	struct pool *p = (struct pool *)a;

	pthread_mutex_lock(&p->lock);
	list_put(&p->todo, op);
	p->queued++;
	if (p->idle < p->queued && p->started < THREADS_MAX)
		start_worker(p); /* on failure the workers that run will get to it */
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
}

static void threads_close(struct aio *a)
{
	struct pool *p = (struct pool *)a;

	pthread_mutex_lock(&p->lock);
	p->quit = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->started; i++)
		pthread_join(p->threads[i], NULL);
	if (p->watch)
		loop_fd_del(p->watch);
	if (p->done_fd >= 0)
		close(p->done_fd);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static struct aio *threads_open(struct loop *loop, struct err *err)
{
	struct pool *p = calloc(1, sizeof(*p));
	int ret;

	if (!p) {
		err_errno(err, ENOMEM, "disk threads");
		return NULL;
	}
	p->aio.drv = &aio_threads;
	p->loop = loop;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	list_init(&p->todo);
	list_init(&p->finished);
	p->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->done_fd < 0) {
		err_errno(err, errno, "disk threads: eventfd");
		goto out;
	}
	p->watch = loop_fd_add(loop, p->done_fd, EPOLLIN, on_finished, p, err);
	if (!p->watch)
		goto out;
	/* The first worker must exist, so that a later shortage of threads only makes things slower. */
	ret = start_worker(p);
	if (ret) {
		err_errno(err, ret, "disk threads");
		goto out;
	}
	return &p->aio;
out:
	threads_close(&p->aio);
	return NULL;
}

const struct aio_driver aio_threads = {
	.name = "threads",
	.open = threads_open,
	.submit = threads_submit,
	.close = threads_close,
};
