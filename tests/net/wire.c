/* See wire.h. */
#include "wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"

struct loop *wire_loop;
static char dir[] = "/tmp/vireo-wire-XXXXXX";

int wire_begin(void **state)
{
	struct err err;

	wire_loop = loop_new(&err);
	return wire_loop && mkdtemp(dir) ? 0 : -1;
}

int wire_finish(void **state)
{
	char command[100];

	loop_free(wire_loop);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command);
}

const char *wire_path(const char *before, const char *name)
{
	static char text[8][200];
	static unsigned next;

	snprintf(text[next % 8], sizeof(text[0]), "%s%s/%s", before, dir, name);
	return text[next++ % 8];
}

static bool receive(void *opaque, const uint8_t *frame, size_t len, const struct net_offload *o)
{
	struct wire *w = opaque;

	assert_true(len <= NET_FRAME_MAX);
	if (w->deaf)
		return false;
	memcpy(w->last, frame, len);
	w->len = len;
	w->offload = *o;
	w->frames++;
	return true;
}

static void writable(void *opaque)
{
	((struct wire *)opaque)->writables++;
}

static void unplugged(void *opaque)
{
	((struct wire *)opaque)->unplugged++;
}

void wire_attach(struct wire *w, struct net_peer *p, unsigned accepts)
{
	unsigned queues = 0;

	memset(w, 0, sizeof(*w));
	w->peer = p;
	for (struct net_peer *q = p; q; q = q->next, queues++)
		q->receiver = (struct net_receiver){ receive, writable, w, unplugged };
	net_set_guest(p, accepts, queues);
}

void wire_end(struct wire *w)
{
	w->peer->ops->destroy(w->peer);
	w->peer = NULL;
}

static void quit(void *opaque)
{
	loop_quit(opaque);
}

void wire_run(int ms)
{
	do {
		loop_post(wire_loop, quit, wire_loop);
		loop_run(wire_loop);
		usleep(1000);
	} while (ms-- > 0);
}

static unsigned rounds;

static void before_round(void *opaque, int *timeout_ms)
{
	*timeout_ms = 20;
}

static void after_round(void *opaque)
{
	if (++rounds == 5)
		loop_quit(wire_loop);
}

bool wire_sleeps(void)
{
	struct loop_hook hook = { before_round, after_round, NULL, NULL };
	struct timespec begin, end;

	rounds = 0;
	loop_hook_add(wire_loop, &hook);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	loop_run(wire_loop);
	clock_gettime(CLOCK_MONOTONIC, &end);
	loop_hook_del(wire_loop, &hook);
	return (end.tv_sec - begin.tv_sec) * 1000 + (end.tv_nsec - begin.tv_nsec) / 1000000 >= 60;
}

void wire_expect(struct wire *w, unsigned frames)
{
	for (int ms = 0; w->frames < frames; ms++) {
		if (ms == 5000)
			fail_msg("%u frames, not %u", w->frames, frames);
		wire_run(0);
	}
}

struct config *wire_config(const char *const *settings)
{
	struct config *c = config_new();
	struct err err;

	for (; *settings; settings++) {
		char key[64];
		const char *eq = strchr(*settings, '=');

		snprintf(key, sizeof(key), "net0.%.*s", (int)(eq - *settings), *settings);
		assert_int_equal(config_set(c, key, eq + 1, &err), 0);
	}
	return c;
}

bool wire_open(struct wire *w, wire_make *make, unsigned accepts, struct err *err, ...)
{
	const char *settings[8];
	struct net_peer *p;
	struct config *c;
	unsigned n = 0;
	va_list ap;

	va_start(ap, err);
	while ((settings[n] = va_arg(ap, const char *)))
		assert_true(++n < ARRAY_LEN(settings));
	va_end(ap);
	c = wire_config(settings);
	p = make(wire_loop, c, "net0", err);
	config_free(c);
	if (p)
		wire_attach(w, p, accepts);
	return p;
}

bool wire_own_network(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd;

	if (unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET)) {
		print_message("skipped: no network name space of its own\n");
		return false;
	}
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &lo), 0);
	close(fd);
	return true;
}

bool wire_emulated(void)
{
#if defined(__x86_64__)
	return false;
#else
	print_message("skipped: qemu-user has no such sockets\n");
	return true;
#endif
}

static uint32_t sum(const uint8_t *b, size_t len, uint32_t s)
{
	for (size_t k = 0; k < len; k++)
		s += (uint32_t)b[k] << (k & 1 ? 0 : 8);
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return s;
}

size_t wire_tcp(uint8_t *f, size_t payload, struct net_offload *o, uint16_t mss)
{
	size_t len = 54 + payload;

	memset(f, 0, len);
	memset(f, 0xff, 6);
	memcpy(f + 6, "\x52\x54\0\1\2\3\x08\0\x45", 9);
	st_be16(f + 16, (uint16_t)(len - 14));
	f[22] = 64;
	f[23] = 6;
	memcpy(f + 26, "\xc0\0\2\2\xc0\0\2\1", 8);
	st_be16(f + 24, (uint16_t)~sum(f + 14, 20, 0));
	st_be16(f + 34, 1000);
	st_be16(f + 36, 2000);
	f[46] = 0x50;
	f[47] = 0x10;
	for (size_t k = 0; k < payload; k++)
		f[54 + k] = (uint8_t)(k * 7);
	st_be16(f + 50, (uint16_t)sum(f + 26, 8, 6 + (uint32_t)(len - 34)));
	*o = (struct net_offload){ .checksum = true,
				   .csum_start = 34,
				   .csum_offset = 16,
				   .gso = mss ? NET_GSO_TCP4 : NET_GSO_NONE,
				   .mss = mss,
				   .header = 54 };
	return len;
}

bool wire_mark(struct wire *w, uint8_t *frame, size_t len, uint8_t mark)
{
	memset(frame, mark, len);
	return net_send(w->peer, frame, len, &(struct net_offload){ 0 });
}

bool wire_has(const char *program)
{
	char command[100];

	snprintf(command, sizeof(command), "command -v %s >/dev/null", program);
	if (!system(command))
		return true;
	print_message("skipped: %s is not installed\n", program);
	return false;
}
