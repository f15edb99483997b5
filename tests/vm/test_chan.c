/* vm/chan.c, vm/conlog.c: nothing is lost, nobody hangs, nothing spins, whoever reads or does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "vm/chan.h"
#include "vm/conlog.h"

#define MANY 300000u

static struct loop *loop;

/* What comes at a place in a long text. */
static uint8_t byte_at(size_t n)
{
	return (uint8_t)(n * 7 + n / 251);
}

static void timed_out(void *opaque, int fd, uint32_t events)
{
	loop_quit(loop);
}

/* Let the loop work for so long. */
static void work(int ms)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	struct itimerspec t = { .it_value = { ms / 1000, ms % 1000 * 1000000l } };
	struct err err;
	struct loop_fd *w = loop_fd_add(loop, fd, EPOLLIN, timed_out, NULL, &err);

	timerfd_settime(fd, 0, &t, NULL);
	loop_run(loop);
	loop_fd_del(w);
	close(fd);
}

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- a device that prints and reads --- */

struct device {
	struct char_sink sink;
	struct char_wake wake;
	pthread_mutex_t lock;
	size_t printed, wanted;
	size_t got, takes; /* input; how much it takes at a time */
	bool right;	   /* all of it as it was sent */
	int connected, breaks;
};

static void print_some(struct device *d)
{
	uint8_t b[1000];

	while (d->printed < d->wanted) {
		size_t n = d->wanted - d->printed < sizeof(b) ? d->wanted - d->printed : sizeof(b), taken;

		for (size_t k = 0; k < n; k++)
			b[k] = byte_at(d->printed + k);
		taken = char_sink_write(&d->sink, b, n);
		d->printed += taken;
		if (taken < n)
			return;
	}
}

static void can_write(void *opaque)
{
	struct device *d = opaque;

	pthread_mutex_lock(&d->lock);
	print_some(d);
	pthread_mutex_unlock(&d->lock);
}

static size_t take_input(void *opaque, const void *buf, size_t len)
{
	struct device *d = opaque;
	size_t n = len < d->takes ? len : d->takes;

	for (size_t k = 0; k < n; k++)
		d->right &= ((const uint8_t *)buf)[k] == byte_at(d->got + k);
	d->got += n;
	if (n < len && n)
		char_wake_up(&d->wake);
	return n;
}

static void connected(void *opaque, int yes)
{
	((struct device *)opaque)->connected = yes;
}

static void break_seen(void *opaque)
{
	((struct device *)opaque)->breaks++;
}

static struct chan *make(struct device *d, struct chan_config cfg)
{
	struct char_source source = { take_input, can_write, connected, d, break_seen };
	struct err err;
	struct chan *c;

	cfg.loop = loop;
	cfg.name = "port";
	c = chan_new(&cfg, &err);
	assert_non_null(c);
	*d = (struct device){ .sink = chan_sink(c), .wake = chan_wake(c), .takes = 1000, .right = true };
	pthread_mutex_init(&d->lock, NULL);
	chan_connect(c, &source);
	return c;
}

static void print(struct device *d, size_t count)
{
	pthread_mutex_lock(&d->lock);
	d->wanted += count;
	print_some(d);
	pthread_mutex_unlock(&d->lock);
}

static size_t printed(struct device *d)
{
	size_t n;

	pthread_mutex_lock(&d->lock);
	n = d->printed;
	pthread_mutex_unlock(&d->lock);
	return n;
}

/* --- output --- */

static void slow_readers_get_everything(int flags)
{
	struct device d;
	struct chan *c;
	uint8_t b[3000];
	size_t got = 0;
	int p[2];

	assert_int_equal(pipe(p), 0);
	fcntl(p[1], F_SETFL, flags);
	c = make(&d, (struct chan_config){ .out = p[1] });
	print(&d, MANY);
	usleep(50000);
	/* It waits in the pipe and in the channel; the device keeps the rest. */
	assert_true(printed(&d) < MANY);
	assert_true(chan_unwritten(c, 10) > 0);
	while (got < MANY) {
		ssize_t n = read(p[0], b, sizeof(b));

		assert_true(n > 0);
		for (ssize_t k = 0; k < n; k++)
			assert_int_equal(b[k], byte_at(got + (size_t)k));
		got += (size_t)n;
	}
	assert_int_equal(chan_unwritten(c, 1000), 0);
	assert_int_equal(printed(&d), MANY);
	chan_free(c);
	close(p[0]);
}

static void a_full_pipe_loses_nothing(void **state)
{
	slow_readers_get_everything(0);
}

static void a_full_pipe_that_does_not_block_loses_nothing(void **state)
{
	slow_readers_get_everything(O_NONBLOCK);
}

static void a_closed_pipe_takes_everything_at_once(void **state)
{
	double before = cpu_seconds();
	struct device d;
	struct chan *c;
	int p[2];

	assert_int_equal(pipe(p), 0);
	close(p[0]);
	c = make(&d, (struct chan_config){ .out = p[1] });
	print(&d, MANY);
	assert_int_equal(chan_unwritten(c, 5000), 0);
	usleep(100000);
	assert_true(cpu_seconds() - before < 0.08);
	assert_int_equal(printed(&d), MANY);
	chan_free(c);
}

static void a_stuck_pipe_does_not_hold_back_the_end(void **state)
{
	struct device d;
	struct chan *c;
	int p[2];

	assert_int_equal(pipe(p), 0);
	c = make(&d, (struct chan_config){ .out = p[1] });
	print(&d, MANY);
	usleep(20000);
	alarm(20);
	chan_free(c);
	alarm(0);
	close(p[0]);
}

static void a_pty_that_nobody_reads_does_not_hold_back_the_guest(void **state)
{
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK), slave;
	struct termios raw;
	struct device d;
	struct chan *c;
	char b[64];

	assert_true(fd >= 0 && !grantpt(fd) && !unlockpt(fd));
	slave = open(ptsname(fd), O_RDWR | O_NOCTTY);
	tcgetattr(slave, &raw);
	cfmakeraw(&raw);
	tcsetattr(slave, TCSANOW, &raw);
	c = make(&d, (struct chan_config){ .out = fd, .lossy = true });
	print(&d, MANY);
	assert_int_equal(chan_unwritten(c, 5000), 0);
	/* What it had room for is there for a late reader. */
	assert_int_equal(read(slave, b, sizeof(b)), sizeof(b));
	assert_int_equal((uint8_t)b[10], byte_at(10));
	chan_free(c);
	close(slave);
}

static void lines_may_have_times(void **state)
{
	struct device d;
	struct chan *c;
	char b[256];
	ssize_t n;
	int p[2];

	assert_int_equal(pipe(p), 0);
	c = make(&d, (struct chan_config){ .out = p[1] });
	chan_toggle_timestamps(c);
	char_sink_write(&d.sink, "one\ntwo", 7);
	assert_int_equal(chan_unwritten(c, 1000), 0);
	char_sink_write(&d.sink, " and\n", 5);
	assert_int_equal(chan_unwritten(c, 1000), 0);
	n = read(p[0], b, sizeof(b) - 1);
	assert_true(n > 0);
	b[n] = 0;
	assert_true(*b == '[');
	assert_non_null(strstr(b, "] one\n["));
	assert_non_null(strstr(b, "] two and\n"));
	chan_free(c);
	close(p[0]);
}

static void the_log_is_bounded(void **state)
{
	char path[] = "/tmp/vireo-test-XXXXXX", old[64], line[1000];
	struct stat st;
	struct err err;
	struct conlog *l;

	close(mkstemp(path));
	snprintf(old, sizeof(old), "%s.old", path);
	l = conlog_new(path, &err);
	assert_non_null(l);
	memset(line, 'x', sizeof(line));
	for (int n = 0; n < 5000; n++)
		conlog_write(l, line, sizeof(line));
	conlog_write(l, "the end", 7);
	conlog_free(l);
	assert_true(!stat(path, &st) && st.st_size > 0 && st.st_size <= CONLOG_MAX);
	assert_true(!stat(old, &st) && st.st_size > CONLOG_MAX / 2 && st.st_size <= CONLOG_MAX);
	unlink(path);
	unlink(old);
	assert_null(conlog_new("/no/such/directory/log", &err));
}

/* --- input --- */

struct feeder {
	int fd;
	pthread_t thread;
};

static void *feed(void *opaque)
{
	int fd = *(int *)opaque;
	uint8_t b[1000];

	for (size_t n = 0; n < MANY; n += sizeof(b)) {
		for (size_t k = 0; k < sizeof(b); k++)
			b[k] = byte_at(n + k);
		if (write(fd, b, sizeof(b)) != sizeof(b))
			abort();
	}
	close(fd);
	return NULL;
}

static void input_waits_for_the_guest(void **state)
{
	struct device d;
	struct chan *c;
	pthread_t t;
	struct err err;
	int p[2];

	assert_int_equal(pipe(p), 0);
	c = make(&d, (struct chan_config){ .out = -1 });
	d.takes = 0;
	assert_int_equal(chan_read_from(c, p[0], NULL, NULL, &err), 0);
	pthread_create(&t, NULL, feed, &p[1]);
	/* The guest takes nothing: all stands still, and nothing turns. */
	work(50);
	double before = cpu_seconds();
	work(200);
	assert_true(cpu_seconds() - before < 0.05);
	assert_int_equal(d.got, 0);
	d.takes = 777;
	char_wake_up(&d.wake);
	for (int n = 0; n < 100 && d.got < MANY; n++)
		work(20);
	pthread_join(t, NULL);
	assert_int_equal(d.got, MANY);
	assert_true(d.right);
	/* Its end is the end of it. */
	before = cpu_seconds();
	work(100);
	assert_true(cpu_seconds() - before < 0.05);
	chan_free(c);
	close(p[0]);
}

static void a_hung_up_pipe_does_not_spin_while_the_guest_is_busy(void **state)
{
	struct device d;
	struct chan *c;
	struct err err;
	static const uint8_t some[60000];
	int p[2];

	assert_int_equal(pipe(p), 0);
	c = make(&d, (struct chan_config){ .out = -1 });
	d.takes = 0;
	assert_int_equal(chan_read_from(c, p[0], NULL, NULL, &err), 0);
	assert_int_equal(write(p[1], some, sizeof(some)), sizeof(some));
	close(p[1]);
	work(50);
	double before = cpu_seconds();
	work(200);
	assert_true(cpu_seconds() - before < 0.05);
	chan_free(c);
	close(p[0]);
}

static void a_file_is_read_to_its_end(void **state)
{
	FILE *f = tmpfile();
	struct device d;
	struct chan *c;
	struct err err;
	int null = open("/dev/null", O_RDONLY);

	for (size_t n = 0; n < MANY; n++)
		fputc(byte_at(n), f);
	rewind(f);
	c = make(&d, (struct chan_config){ .out = -1 });
	d.takes = 500;
	assert_int_equal(chan_read_from(c, fileno(f), NULL, NULL, &err), 0);
	for (int n = 0; n < 100 && d.got < MANY; n++)
		work(20);
	assert_int_equal(d.got, MANY);
	assert_true(d.right);
	chan_free(c);
	fclose(f);
	c = make(&d, (struct chan_config){ .out = -1 });
	assert_int_equal(chan_read_from(c, null, NULL, NULL, &err), 0);
	work(10);
	assert_int_equal(d.got, 0);
	chan_free(c);
	close(null);
}

static size_t upper(void *opaque, char *b, size_t len)
{
	size_t kept = 0;

	for (size_t n = 0; n < len; n++)
		if (b[n] != 'x')
			b[kept++] = (char)(b[n] + 1);
	return kept;
}

static void a_filter_sees_input_first(void **state)
{
	struct device d;
	struct chan *c;
	struct err err;
	int p[2];

	assert_int_equal(pipe(p), 0);
	c = make(&d, (struct chan_config){ .out = -1 });
	assert_int_equal(chan_read_from(c, p[0], upper, NULL, &err), 0);
	assert_int_equal(write(p[1], "axbxx", 5), 5);
	work(20);
	assert_int_equal(d.got, 2);
	chan_break(c);
	assert_int_equal(d.breaks, 1);
	chan_free(c);
	close(p[0]);
	close(p[1]);
}

/* --- clients --- */

static int attach(struct chan *c)
{
	int s[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	fcntl(s[1], F_SETFL, O_NONBLOCK);
	chan_attach(c, s[1]);
	return s[0];
}

static void expect(int fd, const char *text)
{
	char b[256];
	size_t got = 0, len = strlen(text);

	while (got < len) {
		ssize_t n = read(fd, b + got, len - got);

		assert_true(n > 0);
		got += (size_t)n;
	}
	assert_memory_equal(b, text, len);
}

static void clients_share_the_console(void **state)
{
	struct device d;
	struct chan *c = make(&d, (struct chan_config){ .out = -1, .programs = true });
	int s[CHAN_CLIENTS + 1];
	char b[64];

	assert_int_equal(d.connected, 0);
	for (int n = 0; n < CHAN_CLIENTS; n++)
		s[n] = attach(c);
	assert_int_equal(d.connected, 1);
	s[CHAN_CLIENTS] = attach(c);
	expect(s[CHAN_CLIENTS], "vireo: too many clients are attached\r\n");
	assert_int_equal(read(s[CHAN_CLIENTS], b, 1), 0);
	close(s[CHAN_CLIENTS]);
	char_sink_write(&d.sink, "hello", 5);
	for (int n = 0; n < CHAN_CLIENTS; n++)
		expect(s[n], "hello");
	d.right = true;
	d.got = 0;
	for (int n = 0; n < CHAN_CLIENTS; n++)
		assert_int_equal(write(s[n], "\0", 1), 1);
	work(20);
	assert_int_equal(d.got, CHAN_CLIENTS);
	/* One that only stops talking still listens. */
	shutdown(s[0], SHUT_WR);
	for (int n = 1; n < CHAN_CLIENTS; n++)
		close(s[n]);
	work(20);
	assert_int_equal(d.connected, 1);
	char_sink_write(&d.sink, "still", 5);
	expect(s[0], "still");
	close(s[0]);
	work(20);
	assert_int_equal(d.connected, 0);
	/* There is room again. */
	s[0] = attach(c);
	char_sink_write(&d.sink, "again", 5);
	expect(s[0], "again");
	close(s[0]);
	chan_free(c);
}

/* Programs get everything, however late; the guest waits, but not for one that goes or for the end. */
static void a_program_misses_nothing(void **state)
{
	static uint8_t block[65536];
	struct device d;
	struct chan *c = make(&d, (struct chan_config){ .out = -1, .programs = true });
	int s = attach(c);
	size_t sent = 0, got = 0, n;
	uint8_t b[4096];

	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ .tv_sec = 10 }, sizeof(struct timeval));
	/* As much as the socket and the buffer hold; then nothing more is taken. */
	for (int idle = 0; idle < 20; idle = n ? 0 : idle + 1) {
		for (n = 0; n < sizeof(block); n++)
			block[n] = byte_at(sent + n);
		n = char_sink_write(&d.sink, block, sizeof(block));
		sent += n;
		work(10);
	}
	while (got < sent) {
		ssize_t k = read(s, b, sizeof(b));

		assert_true(k > 0);
		for (ssize_t i = 0; i < k; i++)
			assert_int_equal(b[i], byte_at(got + (size_t)i));
		got += (size_t)k;
	}
	assert_int_equal(chan_unwritten(c, 5000), 0);
	/* It goes without reading: what is left is for nobody. */
	while (char_sink_write(&d.sink, block, sizeof(block)))
		work(10);
	close(s);
	work(20);
	assert_int_equal(chan_unwritten(c, 5000), 0);
	/* The channel goes while one does not read. */
	s = attach(c);
	while (char_sink_write(&d.sink, block, sizeof(block)))
		work(10);
	chan_free(c);
	close(s);
}

static void a_client_that_does_not_read_is_told_what_it_missed(void **state)
{
	static char all[4 << 20];
	struct device d;
	struct chan *c = make(&d, (struct chan_config){ .out = -1 });
	int s = attach(c);
	size_t got = 0;
	ssize_t n;

	print(&d, 2 << 20);
	assert_int_equal(chan_unwritten(c, 5000), 0);
	fcntl(s, F_SETFL, O_NONBLOCK);
	while ((n = read(s, all + got, sizeof(all) - got - 1)) > 0)
		got += (size_t)n;
	assert_true(got < 2 << 20);
	char_sink_write(&d.sink, "news", 4);
	assert_int_equal(chan_unwritten(c, 5000), 0);
	n = read(s, all, sizeof(all) - 1);
	assert_true(n > 0);
	all[n] = 0;
	assert_non_null(strstr(all, "bytes were lost here]\r\nnews"));
	assert_int_equal(strtoul(strstr(all, "vireo: ") + 7, NULL, 10), (2 << 20) - got);
	close(s);
	chan_free(c);
}

/* Attach and leave while output runs: the writer never sends to a descriptor that is somebody else's. */
static void clients_come_and_go_while_output_runs(void **state)
{
	struct device d;
	struct chan *c = make(&d, (struct chan_config){ .out = -1 });

	for (int n = 0; n < 300; n++) {
		int s = attach(c);

		print(&d, 20000);
		close(s);
		work(1);
	}
	assert_int_equal(chan_unwritten(c, 5000), 0);
	chan_free(c);
}

static int begin(void **state)
{
	struct err err;

	signal(SIGPIPE, SIG_IGN);
	loop = loop_new(&err);
	return !loop;
}

static int end(void **state)
{
	loop_free(loop);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_pipe_loses_nothing),
		cmocka_unit_test(a_full_pipe_that_does_not_block_loses_nothing),
		cmocka_unit_test(a_closed_pipe_takes_everything_at_once),
		cmocka_unit_test(a_stuck_pipe_does_not_hold_back_the_end),
		cmocka_unit_test(a_pty_that_nobody_reads_does_not_hold_back_the_guest),
		cmocka_unit_test(lines_may_have_times),
		cmocka_unit_test(the_log_is_bounded),
		cmocka_unit_test(input_waits_for_the_guest),
		cmocka_unit_test(a_hung_up_pipe_does_not_spin_while_the_guest_is_busy),
		cmocka_unit_test(a_file_is_read_to_its_end),
		cmocka_unit_test(a_filter_sees_input_first),
		cmocka_unit_test(clients_share_the_console),
		cmocka_unit_test(a_program_misses_nothing),
		cmocka_unit_test(a_client_that_does_not_read_is_told_what_it_missed),
		cmocka_unit_test(clients_come_and_go_while_output_runs),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
