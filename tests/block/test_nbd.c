/* The NBD client against a server that does what it should, one that lies, and QEMU's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/now.h"
#include "block/nbd.h"
#include "nbd_server.h"

static struct node_ctx ctx;
static struct err err;
static struct nbd_server *server;

/* --- names --- */

static void names(void **state)
{
	static const struct {
		const char *name, *canonical, *error;
	} cases[] = {
		{ "nbd://host", "nbd://host:10809", NULL },
		{ "nbd://host:1/e", "nbd://host:1/e", NULL },
		{ "nbd+tcp://[::1]:99/a/b", "nbd://::1:99/a/b", NULL },
		{ "nbd+unix:///e?socket=/s", "nbd+unix:///e?socket=/s", NULL },
		{ "nbd+unix:///?socket=a%20b", "nbd+unix://?socket=a b", NULL },
		{ "nbd:host:5", "nbd://host:5", NULL },
		{ "nbd:unix:/s", "nbd+unix://?socket=/s", NULL },
		{ "nbd:unix:/s:exportname=e", "nbd+unix:///e?socket=/s", NULL },
		{ "nbd:host:5:exportname=", "nbd://host:5", NULL },
		{ "nbd:host", NULL, "error parsing address 'host'" },
		{ "nbd:", NULL, "NBD server address missing" },
		{ "nbd://", NULL, "No valid URL specified" },
		{ "nbd://[::1", NULL, "No valid URL specified" },
		{ "nbd://host?x=y", NULL, "No valid URL specified" },
		{ "nbd+unix:///e", NULL, "No valid URL specified" },
		{ "nbd+unix:///e?path=/s", NULL, "No valid URL specified" },
		{ "nbd+unix:///e?socket=/s&x=y", NULL, "No valid URL specified" },
		{ "nbd+unix://host/e?socket=/s", NULL, "No valid URL specified" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct nbd_address a = { 0 };
		struct opts *o = opts_new();
		char *export = NULL, *name;

		opts_set(o, "filename", cases[i].name);
		if (nbd_address_take(&a, o, &export, &err)) {
			assert_non_null(cases[i].error);
			assert_string_equal(err.msg, cases[i].error);
		} else {
			name = nbd_address_name(&a, export);
			assert_non_null(cases[i].canonical);
			assert_string_equal(name, cases[i].canonical);
			free(name);
		}
		free(export);
		nbd_address_free(&a);
		opts_free(o);
	}
}

static void wrong_options(void **state)
{
	static const struct {
		const char *options, *error;
	} cases[] = {
		{ "driver=nbd", "NBD server address missing" },
		{ "driver=nbd,path=/s,host=h", "path and host may not be used at the same time" },
		{ "driver=nbd,path=/s,port=1", "port may not be used without host" },
		{ "driver=nbd,host=h,server.type=unix", "Cannot use 'server' and path/host/port at the same time" },
		{ "driver=nbd,server.path=/s", "Parameter 'server.type' is missing" },
		{ "driver=nbd,server.type=vsock", "Parameter 'server.type' does not accept value 'vsock'" },
		{ "driver=nbd,server.type=inet,server.host=h", "Parameter 'server.port' is missing" },
		{ "driver=nbd,server.type=unix", "Parameter 'server.path' is missing" },
		{ "driver=nbd,path=/s,tls-creds=x", "tls-creds: connections with TLS are not supported" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct opts *o = opts_new();

		assert_int_equal(opts_parse(o, cases[i].options, NULL, &err), 0);
		assert_null(node_open(&ctx, NULL, o, 0, &err));
		assert_string_equal(err.msg, cases[i].error);
		opts_free(o);
	}
}

/* --- a server of our own --- */

static int start(void **state)
{
	server = calloc(1, sizeof(*server));
	for (size_t i = 0; i < NBD_DISK; i++)
		server->disk[i] = (uint8_t)(i * 7 + i / 4096);
	return node_ctx_init(&ctx, &err);
}

static int stop(void **state)
{
	node_ctx_free(&ctx);
	free(server);
	return 0;
}

static struct node *open_server(const char *more)
{
	struct opts *o = opts_new();
	struct node *n;
	struct err e;

	opts_setf(o, "driver", "nbd");
	opts_setf(o, "server.type", "unix");
	opts_setf(o, "server.path", "%s", server->path);
	if (more && opts_parse(o, more, NULL, &e))
		abort();
	n = node_open(&ctx, NULL, o, NODE_RDWR, &err);
	opts_free(o);
	return n;
}

/* What a test does within a coroutine; cmocka's failures must not leave one. */
static const char *complaint;
#define CHECK(c)                                                                                                       \
	do {                                                                                                           \
		if (!(c) && !complaint)                                                                                \
			complaint = #c;                                                                                \
	} while (0)

static void run(co_fn *fn, void *opaque)
{
	complaint = NULL;
	alarm(60); /* nothing may hang */
	nbd_server_start(server);
	node_ctx_run(&ctx, fn, opaque);
	nbd_server_stop(server);
	alarm(0);
	if (complaint)
		fail_msg("%s (%s)", complaint, err.msg);
}

static void all_kinds(void *opaque)
{
	struct node *n = open_server(NULL);
	static uint8_t buf[70000], want[70000];
	struct node_extent e;

	CHECK(n);
	if (!n)
		return;
	CHECK(n->size == NBD_DISK);
	for (uint64_t at = 0; at < NBD_DISK - sizeof(buf); at += 50001) {
		size_t third = sizeof(buf) / 3;

		memset(buf, 0xee, sizeof(buf));
		memcpy(want, server->disk + at, sizeof(buf));
		if (server->in_parts)
			memset(want + third, 0, third);
		CHECK(!node_read(n, at, buf, sizeof(buf)));
		CHECK(!memcmp(buf, want, sizeof(buf)));
	}
	memset(buf, 'w', sizeof(buf));
	CHECK(!node_write(n, 1000, buf, 5001));
	CHECK(!memcmp(server->disk + 1000, buf, 5001) && server->disk[6001] == (uint8_t)(6001 * 7 + 1));
	CHECK(!node_zeroes(n, 1001, 4000, 0));
	CHECK(!server->disk[1001] && !server->disk[5000] && server->disk[5001] == 'w' && server->disk[1000] == 'w');
	CHECK(!node_discard(n, 8192, 4096) && !node_flush(n));
	CHECK(node_read(n, NBD_DISK - 1, buf, 2) == -EIO);
	CHECK(!node_status(n, 4096 + 5, 100000, &e));
	if (!server->plain && !server->old)
		CHECK(e.zero && !e.data && e.bytes == 4096 - (server->min_block ? 5 : 0));
	else
		CHECK(e.data && !e.zero);
	node_close(n);
}

static void serves(void **state)
{
	static const unsigned flags[] = { 0, NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES };

	for (unsigned i = 0; i < 16; i++) {
		stop(NULL);
		start(NULL);
		server->flags = flags[i & 1];
		server->plain = i & 2;
		server->in_parts = (i & 12) == 4 && !server->plain;
		server->min_block = i & 8 ? 512 : 0;
		run(all_kinds, NULL);
		assert_int_equal(server->unaligned, 0);
		assert_int_equal(server->flushes, i & 1);
		assert_int_equal(server->trims, i & 1);
	}
	stop(NULL);
	start(NULL);
	server->old = true;
	run(all_kinds, NULL);
}

struct two {
	struct node *n;
	unsigned *running;
	uint64_t at;
	struct co *boss;
};

static void one_of_two(void *opaque)
{
	struct two *t = opaque;
	uint8_t buf[5000];

	CHECK(!node_read(t->n, t->at, buf, sizeof(buf)));
	CHECK(!memcmp(buf, server->disk + t->at, sizeof(buf)));
	if (!--*t->running)
		co_wake(t->boss);
}

static void two_at_once(void *opaque)
{
	unsigned running = 2;
	struct two t[2] = { { open_server(NULL), &running, 100, co_self() }, { NULL, &running, 90000, co_self() } };

	CHECK(t[0].n);
	if (!t[0].n)
		return;
	t[1].n = t[0].n;
	/* The server waits for both before it answers. */
	for (unsigned i = 0; i < 2; i++)
		CHECK(!co_start(one_of_two, &t[i]));
	while (running)
		co_wait();
	node_close(t[0].n);
}

static void at_once(void **state)
{
	server->reversed = true;
	run(two_at_once, NULL);
}

struct crowd {
	struct node *n;
	unsigned running;
	struct co *boss;
};

static void one_of_many(void *opaque)
{
	struct crowd *c = opaque;
	uint8_t buf[100];

	for (unsigned i = 0; i < 20; i++)
		CHECK(!node_read(c->n, i * 1000, buf, sizeof(buf)) && !memcmp(buf, server->disk + i * 1000, 100));
	if (!--c->running)
		co_wake(c->boss);
}

static void forty(void *opaque)
{
	struct crowd c = { open_server(NULL), 40, co_self() };

	CHECK(c.n);
	for (unsigned i = 0; c.n && i < 40; i++)
		CHECK(!co_start(one_of_many, &c));
	while (c.n && c.running)
		co_wait();
	node_close(c.n);
}

static void more_than_slots(void **state)
{
	run(forty, NULL);
}

/* --- a server that lies --- */

static void hear_lies(void *opaque)
{
	struct node *n = open_server(NULL);
	static uint8_t buf[8192];
	struct node_extent e;

	if (server->lie <= NBD_LAST_OF_NEGOTIATION) {
		CHECK(!n);
	} else if (server->lie <= NBD_LAST_OF_READ) {
		CHECK(n && node_read(n, 4096, buf, sizeof(buf)) == -EIO);
		CHECK(n && node_read(n, 4096, buf, sizeof(buf)) == -EIO);
	} else {
		CHECK(n && node_status(n, 4096, 8192, &e) < 0);
	}
	node_close(n);
}

static void lies(void **state)
{
	for (unsigned lie = NBD_HONEST + 1; lie < NBD_LIES; lie++) {
		int64_t before = now_ns();

		server->lie = (enum nbd_lie)lie;
		server->connections = 0;
		err.msg[0] = 0;
		run(hear_lies, NULL);
		/* Found out, not waited out. */
		assert_true(now_ns() - before < 10000000000ll);
		if (lie <= NBD_LAST_OF_NEGOTIATION && !err.msg[0])
			fail_msg("lie %u: without a message", lie);
		/* Who has broken the protocol is not asked again. */
		assert_int_equal(server->connections, 1);
	}
}

static void wait_in_vain(void *opaque)
{
	int64_t before = now_ns();

	CHECK(!open_server("open-timeout=1"));
	CHECK(now_ns() - before < 3000000000ll && now_ns() - before > 900000000ll);
}

static void silence(void **state)
{
	server->silent = true;
	run(wait_in_vain, NULL);
	assert_string_equal(err.msg, "the NBD server did not finish the negotiation in time");
}

/* --- connections that are lost --- */

static void read_thrice(void *opaque)
{
	const char *more = opaque;
	struct node *n = open_server(more);
	static uint8_t buf[4096];
	int ret[3];

	CHECK(n);
	if (!n)
		return;
	for (unsigned i = 0; i < 3; i++) {
		memset(buf, 0, sizeof(buf));
		ret[i] = node_read(n, 8192, buf, sizeof(buf));
		if (!ret[i])
			CHECK(!memcmp(buf, server->disk + 8192, sizeof(buf)));
	}
	CHECK(!ret[0]);
	CHECK(ret[1] == (more ? 0 : -EIO));
	CHECK(ret[2] == (server->size ? -EIO : 0));
	node_close(n);
}

static void lost(void **state)
{
	server->drop = 2;
	run(read_thrice, NULL);
	assert_int_equal(server->connections, 2);
}

static void lost_and_found(void **state)
{
	server->drop = 2;
	run(read_thrice, (void *)"reconnect-delay=10");
	assert_int_equal(server->connections, 2);
}

/* The disk is another one now: nothing may be read from it. */
static void another(void **state)
{
	server->drop = 2;
	server->size = NBD_DISK / 2;
	run(read_thrice, NULL);
}

static void never_back(void *opaque)
{
	struct node *n = open_server("reconnect-delay=1");
	static uint8_t buf[4096];
	int64_t before;

	CHECK(n && !node_read(n, 0, buf, sizeof(buf)));
	unlink(server->path);
	before = now_ns();
	CHECK(n && node_read(n, 0, buf, sizeof(buf)) == -EIO);
	CHECK(now_ns() - before > 900000000ll && now_ns() - before < 5000000000ll);
	before = now_ns();
	CHECK(n && node_read(n, 0, buf, sizeof(buf)) == -EIO);
	CHECK(now_ns() - before < 500000000ll);
	node_close(n);
}

static void given_up(void **state)
{
	server->drop = 2;
	run(never_back, NULL);
}

static void write_through(void *opaque)
{
	struct node *n = open_server(NULL);
	char buf[512] = { 0 };
	struct iovec v = { buf, sizeof(buf) };
	struct node_req r = {
		.op = BLOCK_WRITE, .flags = BLOCK_REQ_FUA, .offset = 0, .bytes = sizeof(buf), .iov = &v, .niov = 1
	};

	CHECK(n && !node_io(n, &r));
	node_close(n);
}

static void forced(void **state)
{
	server->flags = NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA;
	run(write_through, NULL);
	assert_int_equal(server->fua, 1);
	server->flags = NBD_FLAG_SEND_FLUSH;
	run(write_through, NULL);
	assert_int_equal(server->flushes, 1);
}

static void open_read_only(void *opaque)
{
	CHECK(!open_server(NULL));
}

static void read_only(void **state)
{
	server->flags = NBD_FLAG_READ_ONLY;
	run(open_read_only, NULL);
	assert_string_equal(err.msg, "request on write denied without write permission");
}

/* --- QEMU's server --- */

#define STOCK_DISK (8u << 20)
static uint8_t *model;
static char image[64];

static uint64_t below(uint64_t n)
{
	static uint64_t x = 88172645463325252ull;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x % n;
}

static void random_requests(void *opaque)
{
	struct node *n = open_server(NULL);
	static uint8_t buf[300000];
	struct node_extent e;
	unsigned zero = 0;

	CHECK(n && n->size == STOCK_DISK);
	for (unsigned i = 0; n && i < 2000 && !complaint; i++) {
		uint64_t at = below(STOCK_DISK), len = 1 + below(i % 10 ? 9000 : sizeof(buf));

		len = len < STOCK_DISK - at ? len : STOCK_DISK - at;
		switch (below(5)) {
		case 0:
			CHECK(!node_read(n, at, buf, len) && !memcmp(buf, model + at, len));
			break;
		case 1:
			CHECK(!node_zeroes(n, at, len, below(2) ? BLOCK_REQ_UNMAP : 0));
			memset(model + at, 0, len);
			break;
		case 2:
			CHECK(!node_flush(n));
			break;
		case 3:
			CHECK(!node_status(n, at, len, &e) && e.bytes && e.bytes <= len);
			for (uint64_t k = 0; e.zero && k < e.bytes; k++)
				CHECK(!model[at + k]);
			zero += e.zero;
			break;
		default:
			memset(buf, (int)i, len);
			CHECK(!node_write(n, at, buf, len));
			memset(model + at, (int)i, len);
			break;
		}
	}
	CHECK(zero);
	node_close(n);
}

static void stock(void **state)
{
	pid_t pid;
	int status;
	FILE *f;

	if (system("qemu-nbd --version >/dev/null 2>&1")) {
		puts("skipped: qemu-nbd is not installed");
		skip();
	}
	snprintf(server->path, sizeof(server->path), "/tmp/vireo-nbd-stock.%d", getpid());
	snprintf(image, sizeof(image), "/tmp/vireo-nbd-image.%d", getpid());
	f = fopen(image, "w");
	assert_non_null(f);
	assert_int_equal(ftruncate(fileno(f), STOCK_DISK), 0);
	fclose(f);
	model = calloc(1, STOCK_DISK);
	pid = fork();
	if (!pid) {
		execlp("qemu-nbd", "qemu-nbd", "-k", server->path, "-f", "raw", "-t", image, NULL);
		_exit(1);
	}
	for (unsigned i = 0; i < 100 && access(server->path, F_OK); i++)
		usleep(50000);
	complaint = NULL;
	alarm(60);
	node_ctx_run(&ctx, random_requests, NULL);
	alarm(0);
	kill(pid, SIGTERM);
	waitpid(pid, &status, 0);
	f = fopen(image, "r");
	for (size_t i = 0; f && i < STOCK_DISK && !complaint; i++)
		CHECK(getc(f) == model[i]);
	fclose(f);
	unlink(image);
	unlink(server->path);
	free(model);
	if (complaint)
		fail_msg("%s", complaint);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),
		cmocka_unit_test_setup_teardown(wrong_options, start, stop),
		cmocka_unit_test_setup_teardown(serves, start, stop),
		cmocka_unit_test_setup_teardown(at_once, start, stop),
		cmocka_unit_test_setup_teardown(more_than_slots, start, stop),
		cmocka_unit_test_setup_teardown(lies, start, stop),
		cmocka_unit_test_setup_teardown(silence, start, stop),
		cmocka_unit_test_setup_teardown(lost, start, stop),
		cmocka_unit_test_setup_teardown(lost_and_found, start, stop),
		cmocka_unit_test_setup_teardown(another, start, stop),
		cmocka_unit_test_setup_teardown(given_up, start, stop),
		cmocka_unit_test_setup_teardown(forced, start, stop),
		cmocka_unit_test_setup_teardown(read_only, start, stop),
		cmocka_unit_test_setup_teardown(stock, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
