/* A peer in a process of its own: frames both ways, back-pressure both ways, and what happens when it dies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/confine.h"
#include "base/log.h"
#include "guest.h"
#include "net/process.h"

/* --- the peer inside: does what its frames say --- */

#define COMMAND 14 /* of a frame: behind the Ethernet header */

struct inside {
	struct net_peer peer;
	uint32_t flood, flooded; /* frames still to send; sent */
};

static const struct net_offload complete = { .valid = true };

static void flood(struct inside *i)
{
	static uint8_t f[1500];

	for (; i->flood; i->flood--) {
		st_be32(f + COMMAND, i->flooded);
		if (!net_deliver(&i->peer, f, sizeof(f), &complete))
			return;
		i->flooded++;
	}
}

/* MiB that can be had: not more than twice as many as should be are asked for, and none is touched. */
static unsigned available(void)
{
	static void *volatile got[2 * (NET_PROCESS_MEMORY >> 20)];
	unsigned n = 0, count;

	while (n < ARRAY_LEN(got) && (got[n] = malloc(1 << 20)))
		n++;
	for (count = n; n; n--)
		free(got[n - 1]);
	return count;
}

static bool inside_send(struct net_peer *p, const struct net_packet *k)
{
	struct inside *i = (struct inside *)p;
	uint8_t answer[NET_FRAME_MAX], buf[NET_FRAME_MAX];
	const uint8_t *frame = net_flat(k, buf);
	const struct net_offload *o = &k->offload;
	size_t len = k->len;

	memcpy(answer, frame, len);
	switch (frame[COMMAND]) {
	case 'c':
		abort();
	case 'e':
		_exit(3);
	case 'p': /* not allowed to those that are confined */
		syscall(SYS_getppid);
		break;
	case 'm': /* how much memory there is, in MiB */
		st_be32(answer + COMMAND + 4, available());
		break;
	case 's':
		usleep(300000);
		return true;
	case 'f':
		i->flood = ld_be32(frame + COMMAND + 4);
		flood(i);
		return true;
	case 'q': /* a short answer, which always finds room */
		len = 60;
		break;
	case 'o': /* what is open */
		st_be32(answer + COMMAND + 4, open_files());
		break;
	case 'w': /* the work that was left to us */
		answer[COMMAND + 1] = o->checksum;
		answer[COMMAND + 2] = (uint8_t)o->gso;
		st_be16(answer + COMMAND + 4, o->mss);
		st_be16(answer + COMMAND + 6, o->csum_start);
		st_be16(answer + COMMAND + 8, o->csum_offset);
		break;
	}
	net_deliver(p, answer, len, frame[COMMAND] == 'W' ? o : &complete);
	return true;
}

static void inside_ready(struct net_peer *p)
{
	flood((struct inside *)p);
}

static void inside_destroy(struct net_peer *p)
{
}

static const struct net_peer_ops inside_ops = {
	.name = "inside", .send = inside_send, .ready = inside_ready, .destroy = inside_destroy
};

/* Of all processes, also those that are made later. */
static struct {
	atomic_bool slow, fails;
} * shared;

static struct net_peer *make(struct loop *loop, const void *opaque, struct err *err)
{
	struct inside *i = calloc(1, sizeof(*i));

	if (shared->slow)
		usleep(1500000);
	if (shared->fails) {
		err_set(err, "net7: not now");
		return NULL;
	}
	if (!strcmp(opaque, "fail")) {
		err_set(err, "net7: it cannot be done");
		return NULL;
	}
	if (!strcmp(opaque, "die"))
		_exit(1);
	i->peer.ops = &inside_ops;
	return &i->peer;
}

static int confine(const void *opaque, struct err *err)
{
	static const struct call_rule rules[] = { { SYS_getppid, CALL_ENDS } };

	if (!strcmp(opaque, "loose"))
		return err_set(err, "net7: it cannot be confined");
	return strcmp(opaque, "confined") ? 0 : confine_calls(rules, 1, CALL_ALLOWED, 0, err);
}

/* --- outside --- */

static struct loop *loop;
static struct net_peer *peer;
static struct err err;
static uint8_t last[NET_FRAME_MAX];
static size_t last_len;
static struct net_offload last_offload;
static unsigned received, writables;
static bool deaf, in_order;

static bool receive(void *opaque, const uint8_t *frame, size_t len, const struct net_offload *o)
{
	if (deaf)
		return false;
	last_offload = *o;
	memcpy(last, frame, len);
	last_len = len;
	if (ld_be32(frame + COMMAND) != received)
		in_order = false;
	received++;
	return true;
}

static void writable(void *opaque)
{
	writables++;
}

static struct net_peer *open_peer(const char *how)
{
	const struct net_process_config c = { "net7", make, confine, how, strlen(how) + 1 };
	struct net_peer *p = net_process_new(loop, &c, &err);

	if (p)
		p->receiver = (struct net_receiver){ receive, writable, NULL };
	return p;
}

static int begin(void **state)
{
	loop = loop_new(&err);
	peer = open_peer("work");
	assert_non_null(peer);
	received = writables = 0;
	last_len = 0;
	deaf = false;
	in_order = true;
	return 0;
}

static int end(void **state)
{
	if (peer)
		peer->ops->destroy(peer);
	loop_free(loop);
	/* Nothing is left over. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	return 0;
}

static void quit(void *opaque)
{
	loop_quit(opaque);
}

static void run(int ms)
{
	do {
		loop_post(loop, quit, loop);
		loop_run(loop);
		usleep(1000);
	} while (ms-- > 0);
}

static bool send_frame(uint8_t command, uint32_t value, size_t len, const struct net_offload *o)
{
	static uint8_t f[NET_FRAME_MAX];
	const struct net_offload none = { 0 };

	f[COMMAND] = command;
	st_be32(f + COMMAND + 4, value);
	return net_send(peer, f, len, o ? o : &none);
}

static void expect_frames(unsigned n)
{
	for (int ms = 0; received < n; ms++) {
		if (ms == 10000)
			fail_msg("%u frames, not %u", received, n);
		run(0);
	}
}

static void test_frames(void **state)
{
	const struct net_offload o = { .checksum = true,
				       .gso = NET_GSO_TCP6,
				       .mss = 0x1234,
				       .csum_start = 0x2345,
				       .csum_offset = 0x3456,
				       .ecn = true,
				       .header = 0x4567 };
	static const size_t sizes[] = { 30, 60, 1514, 40000, NET_FRAME_MAX };

	assert_string_equal(peer->ops->name, "net7");
	for (unsigned k = 0; k < 5; k++) {
		assert_true(send_frame('x', k, sizes[k], NULL));
		expect_frames(k + 1);
		assert_int_equal(last_len, sizes[k]);
		assert_int_equal(ld_be32(last + COMMAND + 4), k);
	}
	assert_true(send_frame('w', 0, 100, &o));
	expect_frames(6);
	assert_true(last[COMMAND + 1] == 1 && last[COMMAND + 2] == NET_GSO_TCP6);
	assert_true(ld_be16(last + COMMAND + 4) == 0x1234 && ld_be16(last + COMMAND + 6) == 0x2345 &&
		    ld_be16(last + COMMAND + 8) == 0x3456);
	assert_true(last_offload.valid && !last_offload.checksum && !last_offload.gso);
	/* Work that the guest takes comes with the frame; what it does not take is done before, or the frame lost. */
	net_set_guest(peer, NET_CSUM | NET_TSO6 | NET_ECN, 1);
	assert_true(send_frame('W', 0, 100, &o));
	expect_frames(7);
	assert_true(last_offload.checksum && last_offload.ecn && !last_offload.valid);
	assert_true(last_offload.gso == NET_GSO_TCP6 && last_offload.mss == 0x1234 && last_offload.header == 0x4567 &&
		    last_offload.csum_start == 0x2345 && last_offload.csum_offset == 0x3456);
	net_set_guest(peer, NET_CSUM | NET_TSO6, 1);
	assert_true(send_frame('W', 0, 100, &o));
	assert_true(send_frame('x', 0, 100, NULL));
	expect_frames(8);
	assert_true(!last_offload.gso);
}

/* Descriptors of the machine stay out of it. */
static void test_nothing_is_inherited(void **state)
{
	int extra[20];

	peer->ops->destroy(peer);
	for (int k = 0; k < 20; k++)
		extra[k] = open("/dev/null", O_RDONLY);
	peer = open_peer("work");
	for (int k = 0; k < 20; k++)
		close(extra[k]);
	assert_true(send_frame('o', 0, 60, NULL));
	expect_frames(1);
	assert_true(ld_be32(last + COMMAND + 4) < 14);
}

static void test_making_fails(void **state)
{
	peer->ops->destroy(peer);
	peer = NULL;
	assert_null(open_peer("fail"));
	assert_string_equal(err.msg, "net7: it cannot be done");
	assert_null(open_peer("die"));
	assert_string_equal(err.msg, "net7: its process has ended");
	assert_null(open_peer("loose"));
	assert_string_equal(err.msg, "net7: it cannot be confined");
}

/* What it has given up it is killed for, people are told, and there is a new one, which has given it up as well. */
static void test_forbidden_call(void **state)
{
	char text[500] = "";
	int fds[2];

#ifndef __x86_64__
	print_message("skipped: qemu-user has no filters of system calls\n");
	skip();
#endif
	peer->ops->destroy(peer);
	peer = open_peer("confined");
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	log_set_fd(fds[1]);
	for (unsigned k = 0; k < 2; k++) {
		received = 0;
		assert_true(send_frame('x', 0, 60, NULL));
		expect_frames(1);
		assert_true(send_frame('p', 0, 60, NULL));
		run(1300);
		assert_int_equal(received, 1);
		assert_true(read(fds[0], text, sizeof(text) - 1) > 0);
		assert_non_null(strstr(text, "net7: its process has ended by a system call that it may not make"));
	}
	log_set_fd(2);
	close(fds[0]);
	close(fds[1]);
}

/* A process that is busy: frames wait with the sender, and none is lost. */
static void test_sending_waits(void **state)
{
	unsigned sent = 0, refused = 0;

	assert_true(send_frame('s', 0, 60, NULL));
	while (sent < 300) {
		if (send_frame('q', sent, 60000, NULL)) {
			sent++;
			continue;
		}
		refused++;
		for (unsigned had = writables, ms = 0; writables == had; ms++) {
			assert_true(ms < 10000);
			run(0);
		}
	}
	assert_true(refused > 0);
	expect_frames(300);
	assert_int_equal(ld_be32(last + COMMAND + 4), 299);
}

/* A guest without buffers: the process waits with its frames. */
static void test_receiving_waits(void **state)
{
	deaf = true;
	assert_true(send_frame('f', 5000, 60, NULL));
	run(200);
	assert_int_equal(received, 0);
	deaf = false;
	peer->ops->ready(peer);
	expect_frames(5000);
	assert_true(in_order);
	run(20);
	assert_int_equal(received, 5000);
}

static void dies(uint8_t how)
{
	assert_true(send_frame(how, 0, 60, NULL));
	run(300);
	/* The frames of the time without a network are lost; then it is back. */
	for (int ms = 0; !received; ms++) {
		assert_true(ms < 15000);
		send_frame('x', 1, 60, NULL);
		run(10);
	}
}

static void test_crash(void **state)
{
	dies('c');
}

static void test_end(void **state)
{
	dies('e');
}

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZER
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SANITIZER
#endif
#endif
static void test_memory_has_a_limit(void **state)
{
#if defined(SANITIZER)
	print_message("skipped: a sanitizer's own allocator hangs where memory ends\n");
	skip();
#elif !defined(__x86_64__)
	print_message("skipped: qemu-user keeps no limit of memory\n");
	skip();
#endif
	assert_true(send_frame('m', 0, 60, NULL));
	expect_frames(1);
	assert_in_range(ld_be32(last + COMMAND + 4), (NET_PROCESS_MEMORY >> 20) - 8, NET_PROCESS_MEMORY >> 20);
}

/* A process that takes its time to begin holds up nobody. */
static void test_slow_restart(void **state)
{
	struct timespec before, after;
	long longest = 0;

	shared->slow = true;
	assert_true(send_frame('e', 0, 60, NULL));
	for (int ms = 0; !received; ms++) {
		assert_true(ms < 15000);
		clock_gettime(CLOCK_MONOTONIC, &before);
		assert_true(send_frame('x', 1, 60, NULL));
		run(0);
		clock_gettime(CLOCK_MONOTONIC, &after);
		if ((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 > longest)
			longest = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
	}
	shared->slow = false;
	if (longest > 1000)
		fail_msg("the loop stood still for %ld ms", longest);
}

/* One that cannot begin now may do so later; that it could not is said once. */
static void test_failed_restart(void **state)
{
	char text[500] = "";
	int fds[2];

	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	log_set_fd(fds[1]);
	shared->fails = true;
	assert_true(send_frame('e', 0, 60, NULL));
	run(3500);
	shared->fails = false;
	assert_true(send_frame('x', 1, 60, NULL));
	for (int ms = 0; !received; ms++) {
		assert_true(ms < 15000);
		send_frame('x', 1, 60, NULL);
		run(0);
	}
	log_set_fd(2);
	assert_true(read(fds[0], text, sizeof(text) - 1) > 0);
	assert_non_null(strstr(text, "net7: not now; the guest is without this network"));
	assert_null(strstr(strstr(text, "not now") + 1, "not now"));
	close(fds[0]);
	close(fds[1]);
}

/* Even while a frame waits for the guest. */
static void test_crash_while_the_guest_is_deaf(void **state)
{
	deaf = true;
	assert_true(send_frame('x', 0, 60, NULL));
	assert_true(send_frame('c', 0, 60, NULL));
	run(300);
	deaf = false;
	peer->ops->ready(peer);
	dies('x');
}

/* When the machine dies without a word, so does its network. */
static void test_machine_dies(void **state)
{
	int out[2];
	char c;
	pid_t machine;

	assert_int_equal(pipe(out), 0);
	machine = fork();
	if (!machine) {
		dup2(out[1], 2); /* what the process keeps of its machine */
		close(out[0]);
		close(out[1]);
		if (!open_peer("work"))
			_exit(1);
		raise(SIGKILL);
	}
	close(out[1]);
	assert_int_equal(waitpid(machine, NULL, 0), machine);
	alarm(20);
	while (read(out[0], &c, 1) > 0)
		;
	alarm(0);
	close(out[0]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_frames),
		TEST(test_nothing_is_inherited),
		TEST(test_making_fails),
		TEST(test_forbidden_call),
		TEST(test_sending_waits),
		TEST(test_receiving_waits),
		TEST(test_crash),
		TEST(test_end),
		TEST(test_memory_has_a_limit),
		TEST(test_slow_restart),
		TEST(test_failed_restart),
		TEST(test_crash_while_the_guest_is_deaf),
		TEST(test_machine_dies),
	};

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
