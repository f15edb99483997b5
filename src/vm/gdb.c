/* See gdb.h: the connection, packets, and when the machine runs. What the packets say is in gdb_commands.c. */
#include "vm/gdb.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/accept.h"
#include "base/log.h"
#include "base/sock.h"
#include "vm/gdb_impl.h"
#include "vm/impl.h"

/* --- packets: $data#sum --- */

static void drop(struct gdb *g)
{
	struct err err;

	loop_fd_del(g->client_watch);
	close(g->client);
	g->client = -1;
	g->client_watch = NULL;
	/* Without a debugger nothing stops the machine; what others have paused stays so. */
	gdb_stop(g);
	gdb_forget(g);
	for (unsigned n = 0; n < g->vm->cpus; n++) {
		cpus_hold(g->vm, n, false);
		cpus_take_stop(g->vm, n);
	}
	g->holding = false;
	if (g->vm->state == VM_DEBUG && vm_resume(g->vm, &err))
		log_line(LOG_WARN, "gdb", "%s", err.msg);
	log_line(LOG_INFO, "gdb", "the debugger has left");
}

static void send_bytes(struct gdb *g, const char *bytes, size_t len)
{
	while (len && !g->broken) {
		/* Answers are short, and the debugger waits for them. */
		ssize_t n = send(g->client, bytes, len, MSG_NOSIGNAL);

		if (n <= 0 && errno == EINTR)
			continue;
		g->broken |= n <= 0;
		bytes += n;
		len -= n > 0 ? (size_t)n : len;
	}
}

static void send_packet(struct gdb *g)
{
	char *p = g->out + 1 + g->out_len;
	uint8_t sum = 0;

	for (size_t n = 0; n < g->out_len; n++)
		sum += (uint8_t)g->out[1 + n];
	g->out[0] = '$';
	snprintf(p, 4, "#%02x", sum);
	send_bytes(g, g->out, g->out_len + 4);
}

static bool checks(const struct gdb *g)
{
	char sum[3] = { g->sum[0], g->sum[1], 0 };
	uint8_t is = 0;

	for (size_t n = 0; n < g->in_len; n++)
		is += (uint8_t)g->in[n];
	return is == strtoul(sum, NULL, 16);
}

static void packet(struct gdb *g)
{
	if (!g->no_ack) {
		send_bytes(g, checks(g) ? "+" : "-", 1);
		if (!checks(g))
			return;
	}
	g->in[g->in_len] = 0;
	gdb_begin(g);
	if (gdb_execute(g))
		send_packet(g);
}

static void take_byte(struct gdb *g, char b)
{
	switch (g->where) {
	case GDB_BETWEEN:
		if (b == '$')
			g->where = GDB_DATA, g->in_len = 0;
		else if (b == 3)
			gdb_interrupt(g);
		else if (b == '-')
			send_packet(g); /* it asks for it again */
		break;
	case GDB_DATA:
		if (b == '#')
			g->where = GDB_SUM, g->sum_len = 0;
		else if (g->in_len < GDB_PACKET_MAX)
			g->in[g->in_len++] = b;
		else
			g->broken = true;
		break;
	case GDB_SUM:
		g->sum[g->sum_len++] = b;
		if (g->sum_len == 2) {
			g->where = GDB_BETWEEN;
			packet(g);
		}
		break;
	}
}

static void client_ready(void *opaque, int fd, uint32_t events)
{
	struct gdb *g = opaque;
	char b[4096];
	ssize_t n = recv(fd, b, sizeof(b), MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		g->broken = true;
	for (ssize_t k = 0; k < n && !g->broken && g->client >= 0; k++)
		take_byte(g, b[k]);
	if (g->client >= 0 && (g->broken || g->leaving))
		drop(g);
}

static void take_client(void *opaque, int fd)
{
	struct gdb *g = opaque;
	struct err err;

	if (g->client < 0)
		g->client_watch = loop_fd_add(g->vm->loop, fd, EPOLLIN, client_ready, g, &err);
	if (g->client >= 0 || !g->client_watch) {
		log_line(LOG_WARN, "gdb", "there is one debugger already");
		close(fd);
		return;
	}
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){ .tv_sec = 5 }, sizeof(struct timeval));
	g->client = fd;
	g->where = GDB_BETWEEN;
	g->no_ack = g->reasons = g->broken = g->leaving = false;
	g->cpu = g->run_cpu = 0;
	gdb_stop(g);
	log_line(LOG_INFO, "gdb", "a debugger has come: the machine stands still");
}

/* --- running and standing still --- */

bool gdb_holds(const struct gdb *g)
{
	return g && g->holding;
}

void gdb_stop(struct gdb *g)
{
	vm_debug_stop(g->vm);
	g->holding = true;
	g->waiting = false;
}

int gdb_resume(struct gdb *g, struct err *err)
{
	g->holding = false;
	if (!vm_resume(g->vm, err))
		return 0;
	g->holding = true;
	return -1;
}

/* Who has something to say, which is then said. -1: nobody. */
static int stopped_cpu(struct gdb *g)
{
	for (unsigned n = 0; n < g->vm->cpus; n++)
		if (cpus_take_stop(g->vm, n))
			return (int)n;
	return -1;
}

bool gdb_report(struct gdb *g)
{
	int n = stopped_cpu(g);

	if (n < 0)
		return false;
	gdb_stop(g);
	g->cpu = g->run_cpu = (unsigned)n;
	gdb_begin(g);
	gdb_say_stop(g, &g->vm->cpu[n].vcpu->stop);
	return true;
}

void gdb_vcpu_stopped(void *opaque)
{
	struct vm *vm = opaque;
	struct gdb *g = vm->gdb;

	/* A stop that comes while it stands still is said when it is to run again. */
	if (g && g->client >= 0 && g->waiting && gdb_report(g))
		send_packet(g);
}

void gdb_interrupt(struct gdb *g)
{
	if (!g->waiting)
		return;
	gdb_stop(g);
	gdb_begin(g);
	gdb_say_signal(g, 2);
	send_packet(g);
}

void gdb_ended(struct gdb *g, int status)
{
	if (!g || g->client < 0 || !g->waiting)
		return;
	gdb_begin(g);
	gdb_say_exit(g, status);
	send_packet(g);
	g->waiting = false;
}

/* --- where it listens --- */

int gdb_new(struct vm *vm, struct gdb **out, struct err *err)
{
	const char *where;

	*out = NULL;
	if (config_str(vm->config, "gdb", "none", &where, err))
		return -1;
	return strcmp(where, "none") ? gdb_listen(vm, where, out, err) : 0;
}

int gdb_listen(struct vm *vm, const char *where, struct gdb **out, struct err *err)
{
	struct gdb *g = calloc(1, sizeof(*g));

	*out = NULL;
	if (!g)
		return err_set(err, "out of memory");
	g->vm = vm;
	g->client = -1;
	g->fd = sock_listen("gdb", where, err);
	if (g->fd >= 0) {
		g->path = sock_path(where) ? strdup(sock_path(where)) : NULL;
		g->accepter = accepter_new(vm->loop, g->fd, "gdb", take_client, g, err);
	}
	if (!g->accepter) {
		gdb_free(g);
		return -1;
	}
	*out = g;
	return 0;
}

void gdb_leave(struct gdb *g)
{
	if (g && g->client >= 0)
		drop(g);
	gdb_free(g);
}

void gdb_free(struct gdb *g)
{
	if (!g)
		return;
	loop_fd_del(g->client_watch);
	if (g->client >= 0)
		close(g->client);
	accepter_free(g->accepter);
	if (g->fd >= 0)
		close(g->fd);
	if (g->path)
		unlink(g->path);
	free(g->path);
	free(g);
}
