/*
 * An NBD server that says anything. The input is what it sends, whatever it is asked: first from where the negotiation
 * begins, or (when its first byte is odd) behind an honest one. The client opens it, reads, writes and asks for the
 * status.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "block/nbd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Newstyle, structured replies, base:allocation with the number 1, NBD_OPT_GO with 64 KiB and all flags. */
static const uint8_t honest[] = "NBDMAGICIHAVEOPT\0\3"
				"\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\x08\0\0\0\1\0\0\0\0"
				"\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\x0a\0\0\0\4\0\0\0\x13\0\0\0\1"
				"base:allocation"
				"\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\x0a\0\0\0\1\0\0\0\0"
				"\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\7\0\0\0\3\0\0\0\x0c\0\0\0\0\0\0\0\1\0\0\x0d\xed"
				"\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\7\0\0\0\1\0\0\0\0";

static struct node_ctx ctx;
static char path[64];
static int listener, peer = -1;
static struct loop_fd *peer_watch, *listener_watch;
static const uint8_t *input;
static size_t input_size;

static void hang_up(void)
{
	loop_fd_del(peer_watch);
	peer_watch = NULL;
	if (peer >= 0)
		close(peer);
	peer = -1;
}

/* What the client says does not matter. */
static void on_peer(void *opaque, int fd, uint32_t events)
{
	uint8_t ignored[4096];

	if (read(fd, ignored, sizeof(ignored)) <= 0)
		hang_up();
}

static void on_listener(void *opaque, int fd, uint32_t events)
{
	struct err err;

	hang_up();
	peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (peer < 0)
		return;
	peer_watch = loop_fd_add(ctx.loop, peer, EPOLLIN, on_peer, NULL, &err);
	if ((*input & 1 && send(peer, honest, sizeof(honest) - 1, MSG_NOSIGNAL) < 0) ||
	    send(peer, input + 1, input_size - 1, MSG_NOSIGNAL) < 0)
		return;
	shutdown(peer, SHUT_WR);
}

static void drive(void *opaque)
{
	struct opts *o = opts_new();
	static uint8_t buf[8192];
	struct node_extent e;
	struct err err;
	struct node *n;

	opts_set(o, "driver", "nbd");
	opts_set(o, "path", path);
	n = node_open(&ctx, NULL, o, NODE_RDWR, &err);
	opts_free(o);
	if (!n)
		return;
	node_read(n, 0, buf, n->size < sizeof(buf) ? n->size : sizeof(buf));
	node_status(n, 0, 4096, &e);
	node_write(n, 100, buf, 100);
	node_zeroes(n, 0, 512, 0);
	node_flush(n);
	node_close(n);
}

static void prepare(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct err err;

	log_set_level(LOG_ERROR);
	snprintf(path, sizeof(path), "/tmp/vireo-fuzz-nbd.%d", getpid());
	unlink(path);
	strcpy(to.sun_path, path);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (node_ctx_init(&ctx, &err) || bind(listener, (struct sockaddr *)&to, sizeof(to)) || listen(listener, 8))
		abort();
	listener_watch = loop_fd_add(ctx.loop, listener, EPOLLIN, on_listener, NULL, &err);
	if (!listener_watch)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready;

	if (!size || size > 4096)
		return 0;
	if (!ready)
		prepare();
	ready = true;
	input = data;
	input_size = size;
	node_ctx_run(&ctx, drive, NULL);
	hang_up();
	return 0;
}
