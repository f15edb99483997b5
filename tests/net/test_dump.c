/* Captures (dump.c): what is in the file, which programs read it, and which files are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "wire.h"

static struct err err;
static uint8_t frame[NET_FRAME_MAX];

static struct net_peer *stream(int fd)
{
	char setting[16];
	struct config *c;
	struct net_peer *p;

	snprintf(setting, sizeof(setting), "fd=%d", fd);
	c = wire_config((const char *const[]){ setting, NULL });
	p = net_stream_new(wire_loop, c, "net0", &err);
	config_free(c);
	assert_non_null(p);
	return p;
}

static uint32_t word(const uint8_t *b)
{
	uint32_t w;

	memcpy(&w, b, 4);
	return w;
}

static void test_dump(void **state)
{
	static uint8_t file[400000];
	struct net_dump_config d = { .name = "net0", .path = wire_path("", "dump"), .maxlen = 100 };
	struct wire a, b;
	struct net_offload o;
	int fds[2];
	size_t len, at = 24, lens[] = { 60, 1514, 60 };
	FILE *f;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	a.peer = net_dump_new(stream(fds[0]), &d, &err);
	assert_non_null(a.peer);
	assert_string_equal(a.peer->ops->name, "net0");
	wire_attach(&a, a.peer, 0);
	wire_attach(&b, stream(fds[1]), 0);
	assert_true(wire_mark(&a, frame, 60, 1));
	wire_expect(&b, 1);
	assert_true(wire_mark(&b, frame, 1514, 2));
	wire_expect(&a, 1);
	a.deaf = true; /* a frame that has not come is not there */
	assert_true(wire_mark(&b, frame, 60, 3));
	wire_run(10);
	a.deaf = false;
	a.peer->ops->ready(a.peer);
	assert_int_equal(a.frames, 2);
	len = wire_tcp(frame, 14000, &o, 1400);
	assert_true(net_send(a.peer, frame, len, &o));
	wire_end(&a);
	wire_end(&b);
	f = fopen(d.path, "r");
	len = fread(file, 1, sizeof(file), f);
	fclose(f);
	assert_int_equal(word(file), 0xa1b2c3d4);
	assert_int_equal(word(file + 16), 100);
	assert_int_equal(word(file + 20), 1);
	for (unsigned k = 0; k < 3; k++) {
		size_t kept = lens[k] < 100 ? lens[k] : 100;

		assert_true(at + 16 + kept <= len);
		assert_int_equal(word(file + at + 8), kept);
		assert_int_equal(word(file + at + 12), lens[k]);
		assert_int_equal(file[at + 16 + 13], k + 1);
		at += 16 + kept;
	}
	assert_int_equal(word(file + at + 12), 14054); /* whole, as it travelled */
	assert_int_equal(at + 116, len);
	assert_null(net_dump_new(net_null_new(wire_loop, NULL, "net0", &err),
				 &(struct net_dump_config){ "net0", "/nonexistent/x", 100, false }, &err));
	assert_non_null(strstr(err.msg, "net0.dump: /nonexistent/x"));
}

/* What is no regular file could hold up the loop, and is left as it is. */
static void test_dump_to_what_is_no_file(void **state)
{
	struct net_dump_config d = { .name = "net0", .path = wire_path("", "fifo"), .maxlen = 100 };
	int reader;

	assert_int_equal(mkfifo(d.path, 0600), 0);
	for (unsigned k = 0; k < 2; k++) {
		reader = k ? open(d.path, O_RDONLY | O_NONBLOCK) : -1;
		alarm(10);
		assert_null(net_dump_new(net_null_new(wire_loop, NULL, "net0", &err), &d, &err));
		alarm(0);
		assert_non_null(strstr(err.msg, "fifo is no regular file"));
		close(reader);
	}
	d.path = "/dev/tty";
	assert_null(net_dump_new(net_null_new(wire_loop, NULL, "net0", &err), &d, &err));
}

/* Of two that name one file the second is refused, and the first goes on. */
static void test_one_capture_a_file(void **state)
{
	struct net_dump_config d = { .name = "net0", .path = wire_path("", "mine"), .maxlen = 100 };
	struct net_dump_config other = { .name = "net7", .path = wire_path("", "also"), .maxlen = 100 };
	struct net_peer *p = net_dump_new(net_null_new(wire_loop, NULL, "net0", &err), &d, &err);
	const struct net_offload none = { 0 };
	char says[300];
	struct stat st;

	assert_non_null(p);
	assert_true(net_send(p, frame, 60, &none));
	assert_int_equal(link(d.path, other.path), 0);
	snprintf(says, sizeof(says), "net7.dump: %s is in use: another card's frames are kept there", other.path);
	assert_null(net_dump_new(net_null_new(wire_loop, NULL, "net0", &err), &other, &err));
	assert_string_equal(err.msg, says);
	assert_true(net_send(p, frame, 60, &none));
	for (unsigned ms = 0; !stat(d.path, &st) && st.st_size < 24 + 2 * 76 && ms < 5000; ms++)
		usleep(1000);
	assert_int_equal(st.st_size, 24 + 2 * 76);
	p->ops->destroy(p);
	p = net_dump_new(net_null_new(wire_loop, NULL, "net0", &err), &other, &err);
	assert_non_null(p);
	p->ops->destroy(p);
}

/* A machine that goes on has one capture, and one of another kind begins anew, as does any machine that is new. */
static void test_a_capture_goes_on(void **state)
{
	static const struct {
		uint32_t maxlen;
		bool goes_on;
		unsigned frames; /* afterwards */
	} turns[] = { { 100, true, 1 }, { 100, true, 2 }, { 100, false, 1 }, { 50, true, 1 }, { 50, true, 2 } };
	const struct net_offload none = { 0 };
	struct stat st;

	for (unsigned k = 0; k < ARRAY_LEN(turns); k++) {
		struct net_dump_config d = { "net0", wire_path("", "more"), turns[k].maxlen, turns[k].goes_on };
		struct net_peer *p = net_dump_new(net_null_new(wire_loop, NULL, "net0", &err), &d, &err);

		assert_non_null(p);
		assert_true(net_send(p, frame, 40, &none));
		p->ops->destroy(p);
		assert_int_equal(stat(d.path, &st), 0);
		assert_int_equal(st.st_size, 24 + turns[k].frames * 56);
	}
}

/* A disk that does not answer: nobody but who writes is held up. */
static atomic_bool hangs;
static pthread_t loop_thread;

ssize_t writev(int fd, const struct iovec *v, int count)
{
	while (hangs && !pthread_equal(pthread_self(), loop_thread))
		usleep(1000);
	return syscall(SYS_writev, fd, v, count);
}

static void hear(int log, const char *says)
{
	char text[1000] = "";

	for (unsigned ms = 0; !strstr(text, says); ms++) {
		if (ms == 10000)
			fail_msg("no '%s' in: %s", says, text);
		usleep(1000);
		assert_true(pread(log, text, sizeof(text) - 1, 0) >= 0);
	}
}

/* The frames in it, all of `size`, and the mark of the last one. */
static unsigned count_frames(const char *path, size_t size, uint8_t *mark)
{
	FILE *f = fopen(path, "r");
	unsigned count = 0;
	uint8_t record[16];

	assert_int_equal(fseek(f, 24, SEEK_SET), 0);
	for (; fread(record, 1, sizeof(record), f) == sizeof(record); count++) {
		assert_int_equal(word(record + 8), size);
		assert_int_equal(fread(frame, 1, size, f), size);
		*mark = frame[0];
	}
	fclose(f);
	return count;
}

static void test_a_disk_that_hangs(void **state)
{
	struct net_dump_config d = { .name = "net0", .path = wire_path("", "hangs"), .maxlen = 65536 };
	struct net_peer *p = net_dump_new(net_null_new(wire_loop, NULL, "net0", &err), &d, &err);
	int log = memfd_create("log", MFD_CLOEXEC);
	const struct net_offload none = { 0 };
	unsigned lost = 0, sent = 0;
	char text[1000] = "";
	uint8_t mark = 0;
	struct stat st;

	assert_non_null(p);
	log_set_fd(log);
	loop_thread = pthread_self();
	hangs = true;
	memset(frame, 1, sizeof(frame));
	for (alarm(20); sent < 1000; sent++)
		assert_true(net_send(p, frame, 60000, &none));
	alarm(0);
	assert_true(pread(log, text, sizeof(text) - 1, 0) > 0);
	assert_string_equal(
		text, "vireo: warning: net: net0.dump: the disk takes nothing: frames are not kept until it does\n");
	hangs = false;
	hear(log, " frames are not there\n");
	assert_true(pread(log, text, sizeof(text) - 1, 0) > 0);
	assert_int_equal(sscanf(strstr(text, "caught up; "), "caught up; %u", &lost), 1);
	memset(frame, 2, 60000);
	assert_true(net_send(p, frame, 60000, &none));
	p->ops->destroy(p);
	assert_true(lost > 0 && lost < sent);
	assert_int_equal(count_frames(d.path, 60000, &mark), sent - lost + 1);
	assert_int_equal(mark, 2);
	/* Nor is the end held up. */
	d.path = wire_path("", "ends");
	p = net_dump_new(net_null_new(wire_loop, NULL, "net0", &err), &d, &err);
	hangs = true;
	assert_true(net_send(p, frame, 60000, &none));
	alarm(20);
	p->ops->destroy(p);
	alarm(0);
	hear(log, "net0.dump: the disk takes nothing: the last frames may not be there\n");
	hangs = false;
	/* A part of it is no frame yet. */
	for (unsigned ms = 0; !stat(d.path, &st) && st.st_size < 24 + 16 + 60000; ms++) {
		assert_true(ms < 10000);
		usleep(1000);
	}
	assert_int_equal(count_frames(d.path, 60000, &mark), 1);
	log_set_fd(2);
	close(log);
}

/* Four frames, of which two have room. */
static void fill(const char *path, const char *says)
{
	struct net_dump_config d = { .name = "net0", .path = path, .maxlen = 65536 };
	struct net_peer *p = net_dump_new(net_null_new(wire_loop, NULL, "net0", &err), &d, &err);
	const struct net_offload none = { 0 };
	int log = memfd_create("log", MFD_CLOEXEC);
	char text[200] = "";
	struct stat st;

	assert_non_null(p);
	log_set_fd(log);
	for (unsigned k = 0; k < 4; k++)
		assert_true(net_send(p, frame, 1900, &none));
	p->ops->destroy(p);
	log_set_fd(2);
	assert_int_equal(stat(d.path, &st), 0);
	assert_int_equal(st.st_size, 24 + 2 * 1916);
	assert_true(pread(log, text, sizeof(text) - 1, 0) > 0);
	assert_string_equal(text, says);
	close(log);
}

/* A frame that has room in part only is not there, and it is said what is in the way. */
static void test_dump_without_room(void **state)
{
	struct rlimit before, small = { 5000, 0 };

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	small.rlim_max = before.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	fill(wire_path("", "full"), "vireo: error: net: net0.dump: nothing more is kept: File too large\n");
	setrlimit(RLIMIT_FSIZE, &before);
}

static void test_dump_to_a_full_disk(void **state)
{
	const char *dir = wire_path("", "disk");

	mkdir(dir, 0700);
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", dir, "tmpfs", 0, "size=4k")) {
		print_message("skipped: no file system can be mounted here\n");
		skip();
	}
	fill(wire_path("", "disk/full"),
	     "vireo: error: net: net0.dump: nothing more is kept: No space left on device\n");
	assert_int_equal(umount(dir), 0);
}

/* What tcpdump says of a capture. */
static void test_tcpdump(void **state)
{
	struct net_dump_config d = { .name = "net0", .path = wire_path("", "tcpdump"), .maxlen = 65536 };
	struct net_offload o;
	char command[200], line[300];
	struct net_peer *p;
	size_t len;
	FILE *f;

	if (!wire_has("tcpdump"))
		skip();
	p = net_dump_new(net_null_new(wire_loop, NULL, "net0", &err), &d, &err);
	assert_non_null(p);
	len = wire_tcp(frame, 20000, &o, 1400);
	assert_true(net_send(p, frame, len, &o));
	len = wire_tcp(frame, 0, &o, 0);
	assert_true(net_send(p, frame, len, &o));
	p->ops->destroy(p);
	snprintf(command, sizeof(command), "tcpdump -nn -t -r %s 2>&1 | grep -v 'reading from'", d.path);
	f = popen(command, "r");
	assert_non_null(fgets(line, sizeof(line), f));
	assert_non_null(strstr(line, "IP 192.0.2.2.1000 > 192.0.2.1.2000: Flags [.]"));
	assert_non_null(strstr(line, "length 20000"));
	assert_non_null(fgets(line, sizeof(line), f));
	assert_non_null(strstr(line, "length 0"));
	assert_null(fgets(line, sizeof(line), f));
	assert_int_equal(pclose(f), 0);
}

/* What tshark says of one: when each frame passed, its length, how much of it was kept, and what it is. */
static void test_tshark(void **state)
{
	struct net_dump_config d = { .name = "net0", .path = wire_path("", "tshark"), .maxlen = 90 };
	static const struct {
		size_t payload;
		uint16_t mss;
	} frames[] = { { 20000, 1400 }, { 0, 0 }, { 1000, 0 } };
	struct timespec before, after;
	struct net_offload o;
	char command[200];
	double last = 0;
	struct net_peer *p;
	FILE *f;

	if (!wire_has("tshark"))
		skip();
	p = net_dump_new(net_null_new(wire_loop, NULL, "net0", &err), &d, &err);
	assert_non_null(p);
	clock_gettime(CLOCK_REALTIME, &before);
	for (size_t k = 0; k < ARRAY_LEN(frames); k++) {
		size_t len = wire_tcp(frame, frames[k].payload, &o, frames[k].mss);

		assert_true(net_send(p, frame, len, &o));
		usleep(20000);
	}
	clock_gettime(CLOCK_REALTIME, &after);
	p->ops->destroy(p);
	snprintf(
		command, sizeof(command),
		"tshark -n -r %s -T fields -e frame.time_epoch -e frame.len -e frame.cap_len -e tcp.srcport -e tcp.len "
		"2>%s.err",
		d.path, d.path);
	f = popen(command, "r");
	for (size_t k = 0; k < ARRAY_LEN(frames); k++) {
		unsigned len, kept, port, payload;
		double when;

		assert_int_equal(fscanf(f, "%lf %u %u %u %u", &when, &len, &kept, &port, &payload), 5);
		assert_int_equal(len, 54 + frames[k].payload);
		assert_int_equal(kept, len < d.maxlen ? len : d.maxlen);
		assert_int_equal(port, 1000);
		assert_int_equal(payload, frames[k].payload);
		/* Frames are 20 ms apart; what is kept are microseconds. */
		assert_true(when >= (double)before.tv_sec + (double)before.tv_nsec / 1e9 - 2e-6);
		assert_true(when >= last + 0.0199 && when <= (double)after.tv_sec + (double)after.tv_nsec / 1e9);
		last = when;
	}
	assert_int_equal(fgetc(f), '\n');
	assert_int_equal(fgetc(f), EOF);
	assert_int_equal(pclose(f), 0); /* it complains of files that are cut short */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dump),
		cmocka_unit_test(test_tcpdump),
		cmocka_unit_test(test_tshark),
		cmocka_unit_test(test_dump_to_what_is_no_file),
		cmocka_unit_test(test_one_capture_a_file),
		cmocka_unit_test(test_a_capture_goes_on),
		cmocka_unit_test(test_dump_without_room),
		cmocka_unit_test(test_a_disk_that_hangs),
		cmocka_unit_test(test_dump_to_a_full_disk),
	};

	return cmocka_run_group_tests(tests, wire_begin, wire_finish);
}
