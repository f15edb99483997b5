/* Block nodes and the host around them: full file systems, block devices, refused system calls, QEMU's tools. What the
 * host does not let us try is skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "block/block.h"

#define MIB (1u << 20)

static char dir[64], image[96];
static struct err err;
static const enum block_aio both[] = { BLOCK_AIO_THREADS, BLOCK_AIO_AUTO };

static void make_image(off_t size)
{
	int fd = open(image, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static uint64_t allocated(void)
{
	struct stat st;

	assert_int_equal(stat(image, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static struct block_node *open_node(const char *path, enum block_aio aio, bool readonly)
{
	const struct block_config c = { .path = path, .format = "raw", .aio = aio, .readonly = readonly };

	return block_open(&c, &err);
}

static int io(struct block_node *n, enum block_op op, uint64_t offset, void *buf, uint64_t bytes, uint32_t flags)
{
	struct iovec iov = { buf, bytes };
	struct block_req r = { .op = op, .flags = flags, .offset = offset, .bytes = bytes, .iov = &iov, .niov = 1 };

	return block_submit_wait(n, &r);
}

/* What a command prints, with its status in *status; "" when there is no such command. */
static char *output(int *status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static char *output(int *status, const char *fmt, ...)
{
	static char out[4096];
	char cmd[512];
	size_t n;
	va_list ap;
	FILE *p;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	p = popen(cmd, "r");
	assert_non_null(p);
	n = fread(out, 1, sizeof(out) - 1, p);
	out[n] = 0;
	if (n && out[n - 1] == '\n')
		out[n - 1] = 0;
	*status = WEXITSTATUS(pclose(p));
	return out;
}

/* --- space --- */

static void test_discard_gives_space_back(void **state)
{
	static uint8_t buf[4 * MIB];

	memset(buf, 0x5a, sizeof(buf));
	for (int k = 0; k < 2; k++) {
		struct block_node *n;
		uint64_t full;

		make_image(4 * MIB);
		n = open_node(image, both[k], false);
		assert_int_equal(io(n, BLOCK_WRITE, 0, buf, 4 * MIB, 0), 0);
		assert_int_equal(io(n, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
		full = allocated();
		assert_true(full >= 4 * MIB);
		assert_int_equal(io(n, BLOCK_DISCARD, MIB, NULL, MIB, 0), 0);
		if (allocated() == full) {
			block_close(n);
			puts("skipped: the file system makes no holes");
			skip();
		}
		assert_true(allocated() <= full - MIB);
		assert_int_equal(io(n, BLOCK_WRITE_ZEROES, 2 * MIB, NULL, MIB, BLOCK_REQ_UNMAP), 0);
		assert_true(allocated() <= full - 2 * MIB);
		/* Zeroes that must stay allocated do not give it back. */
		uint64_t before = allocated();
		assert_int_equal(io(n, BLOCK_WRITE_ZEROES, 0, NULL, MIB, 0), 0);
		assert_true(allocated() >= before);
		assert_int_equal(io(n, BLOCK_READ, 0, buf, 4 * MIB, 0), 0);
		for (unsigned i = 0; i < 3 * MIB; i++)
			assert_int_equal(buf[i], 0);
		assert_int_equal(buf[3 * MIB], 0x5a);
		memset(buf, 0x5a, sizeof(buf));
		block_close(n);
	}
}

static sem_t nospace, space;

static void on_event(void *opaque, enum block_event e)
{
	sem_post(e == BLOCK_EVENT_NOSPACE ? &nospace : &space);
}

static void wait_for(sem_t *s)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += 10;
	assert_int_equal(sem_timedwait(s, &t), 0);
}

struct later {
	struct block_node *n;
	struct block_req r;
	sem_t done;
	int ret;
};

static void later_done(struct block_req *r, int ret)
{
	struct later *l = r->opaque;

	l->ret = ret;
	sem_post(&l->done);
}

static void later_submit(void *opaque)
{
	struct later *l = opaque;

	block_submit(l->n, &l->r);
}

/* A real file system that is full, in a mount name space of a child. */
static int on_full_file_system(enum block_aio aio)
{
	static uint8_t buf[MIB];
	char path[128], ballast[128];
	struct iovec iov = { buf, MIB };
	struct later l = { .r = { .op = BLOCK_WRITE, .bytes = MIB, .iov = &iov, .niov = 1, .done = later_done } };
	struct block_node *n;
	int fd;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", dir, "tmpfs", 0, "size=2m"))
		return 77;
	snprintf(path, sizeof(path), "%s/full.img", dir);
	snprintf(ballast, sizeof(ballast), "%s/ballast", dir);
	memset(buf, 1, sizeof(buf));
	fd = open(ballast, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	if (write(fd, buf, MIB) != MIB || write(fd, buf, MIB / 2) != MIB / 2)
		return 1;
	close(fd);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	if (ftruncate(fd, 4 * MIB))
		return 1;
	close(fd);
	n = open_node(path, aio, false);
	if (!n)
		return 2;
	if (io(n, BLOCK_WRITE, 0, buf, MIB, 0) != -ENOSPC)
		return 3;
	sem_init(&nospace, 0, 0);
	sem_init(&space, 0, 0);
	sem_init(&l.done, 0, 0);
	block_set_event(n, on_event, NULL);
	l.n = n;
	l.r.opaque = &l;
	block_call(n, later_submit, &l);
	wait_for(&nospace);
	unlink(ballast);
	wait_for(&l.done);
	if (l.ret)
		return 4;
	wait_for(&space);
	memset(buf, 0, sizeof(buf));
	if (io(n, BLOCK_READ, 0, buf, MIB, 0) || buf[0] != 1 || buf[MIB - 1] != 1)
		return 5;
	block_close(n);
	return 0;
}

static void test_full_file_system(void **state)
{
	for (int k = 0; k < 2; k++) {
		int status;
		pid_t child = fork();

		if (!child)
			_exit(on_full_file_system(both[k]));
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status));
		if (WEXITSTATUS(status) == 77) {
			puts("skipped: no small file system can be mounted here");
			skip();
		}
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

/* --- io_uring --- */

/* As container runtimes do it: the system call does not exist here. */
static bool refuse_io_uring(int errnum)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)errnum),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { 4, code };

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

static int without_io_uring(int errnum)
{
	struct block_node *n;
	uint8_t out[512] = "threads", in[512];

	if (!refuse_io_uring(errnum))
		return 77;
	if (open_node(image, BLOCK_AIO_URING, false))
		return 1;
	if (!strstr(err.msg, "io_uring") || strchr(err.msg, '\n'))
		return 2;
	n = open_node(image, BLOCK_AIO_AUTO, false);
	if (!n)
		return 3;
	if (strcmp(block_aio_name(n), "threads"))
		return 4;
	if (io(n, BLOCK_WRITE, 512, out, 512, 0) || io(n, BLOCK_FLUSH, 0, NULL, 0, 0) ||
	    io(n, BLOCK_READ, 512, in, 512, 0) || memcmp(in, out, 512))
		return 5;
	block_close(n);
	return 0;
}

static void test_io_uring_refused(void **state)
{
	static const int why[] = { EPERM, ENOSYS, ENOMEM };

	for (size_t k = 0; k < sizeof(why) / sizeof(why[0]); k++) {
		int status;
		pid_t child;

		make_image(MIB);
		child = fork();
		if (!child)
			_exit(without_io_uring(why[k]));
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status));
		if (WEXITSTATUS(status) == 77) {
			puts("skipped: system calls cannot be filtered here");
			skip();
		}
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

/* --- block devices --- */

static bool loop_device(char *path, size_t size, const char *options)
{
	int status;
	const char *out;

	make_image(8 * MIB);
	out = output(&status, "losetup %s -f --show %s 2>/dev/null", options, image);
	if (status || strncmp(out, "/dev/", 5) || strlen(out) >= size) {
		puts("skipped: no loop device can be had here");
		return false;
	}
	strcpy(path, out);
	return true;
}

static void test_block_device(void **state)
{
	static uint8_t out[MIB], in[MIB];
	char dev[64];
	int status;

	for (int k = 0; k < 2; k++) {
		struct block_node *n;

		if (!loop_device(dev, sizeof(dev), ""))
			skip();
		n = open_node(dev, both[k], false);
		if (!n)
			print_error("%s\n", err.msg);
		assert_non_null(n);
		assert_int_equal(block_size(n), 8 * MIB);
		for (size_t i = 0; i < MIB; i++)
			out[i] = (uint8_t)(i * 17 + i / 4096);
		assert_int_equal(io(n, BLOCK_WRITE, 3 * MIB, out, MIB, 0), 0);
		assert_int_equal(io(n, BLOCK_WRITE, 8 * MIB - 512, out, 512, 0), 0);
		assert_int_equal(io(n, BLOCK_WRITE, 8 * MIB - 512, out, 1024, 0), -EINVAL);
		assert_int_equal(io(n, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
		assert_int_equal(io(n, BLOCK_READ, 3 * MIB, in, MIB, 0), 0);
		assert_memory_equal(in, out, MIB);
		assert_int_equal(io(n, BLOCK_WRITE_ZEROES, 3 * MIB, NULL, 8192, 0), 0);
		assert_int_equal(io(n, BLOCK_WRITE_ZEROES, 3 * MIB + 8192, NULL, 8192, BLOCK_REQ_UNMAP), 0);
		assert_int_equal(io(n, BLOCK_DISCARD, 3 * MIB + 65536, NULL, 65536, 0), 0);
		assert_int_equal(io(n, BLOCK_READ, 3 * MIB, in, 16384, 0), 0);
		for (int i = 0; i < 16384; i++)
			assert_int_equal(in[i], 0);
		/* A second writer of the same device. */
		assert_null(open_node(dev, both[k], false));
		block_close(n);
		output(&status, "losetup -d %s", dev);
	}
}

static void test_readonly_block_device(void **state)
{
	char dev[64];
	struct block_node *n;
	int status;

	if (!loop_device(dev, sizeof(dev), "-r"))
		skip();
	assert_null(open_node(dev, BLOCK_AIO_AUTO, false));
	assert_non_null(strstr(err.msg, "readonly=on"));
	n = open_node(dev, BLOCK_AIO_AUTO, true);
	assert_non_null(n);
	assert_true(block_readonly(n));
	block_close(n);
	output(&status, "losetup -d %s", dev);
}

static void test_mounted_block_device(void **state)
{
	char dev[64], at[96];
	int status;

	snprintf(at, sizeof(at), "%s/mnt", dir);
	if (!loop_device(dev, sizeof(dev), ""))
		skip();
	output(&status, "mke2fs -q %s && mkdir %s && mount %s %s 2>/dev/null", dev, at, dev, at);
	if (!status) {
		assert_null(open_node(dev, BLOCK_AIO_AUTO, false));
		assert_non_null(strstr(err.msg, "in use by the host"));
		umount(at);
	}
	rmdir(at);
	int mounted = status;
	output(&status, "losetup -d %s", dev);
	if (mounted) {
		puts("skipped: nothing can be mounted here");
		skip();
	}
}

/* --- QEMU's locks --- */

static bool have_qemu(void)
{
	int status;

	output(&status, "qemu-io --version >/dev/null 2>&1 && qemu-img --version >/dev/null 2>&1");
	return !status;
}

static void test_qemu_respects_our_locks(void **state)
{
	struct block_node *n;
	int status;
	char *out;

	if (!have_qemu()) {
		puts("skipped: qemu-io and qemu-img are not installed");
		skip();
	}
	make_image(MIB);
	n = open_node(image, BLOCK_AIO_AUTO, false);
	out = output(&status, "qemu-img resize -f raw %s 2M 2>&1", image);
	assert_true(status != 0 && strstr(out, "lock"));
	out = output(&status, "qemu-io -f raw -c 'write 0 512' %s 2>&1", image);
	assert_true(status != 0 && strstr(out, "lock"));
	output(&status, "qemu-img info -U -f raw %s 2>&1", image); /* looking is allowed */
	assert_int_equal(status, 0);
	block_close(n);

	n = open_node(image, BLOCK_AIO_AUTO, true);
	output(&status, "qemu-io -r -f raw -c 'read 0 512' %s 2>&1", image);
	assert_int_equal(status, 0);
	out = output(&status, "qemu-io -f raw -c 'write 0 512' %s 2>&1", image);
	assert_true(status != 0 && strstr(out, "lock"));
	block_close(n);
	output(&status, "qemu-io -f raw -c 'write 0 512' %s 2>&1", image);
	assert_int_equal(status, 0);
}

/* qemu-io with the image open, until its input ends. */
static pid_t qemu_io(const char *mode, int *input)
{
	int in[2], out[2];
	char word[512] = "";
	pid_t pid;

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	pid = fork();
	if (!pid) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		execlp("qemu-io", "qemu-io", "-f", "raw", mode, image, NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	/* It answers once it has opened the image. */
	assert_int_equal(write(in[1], "length\n", 7), 7);
	for (size_t n = 0; !strstr(word, "MiB") && n < sizeof(word) - 1;) {
		ssize_t got = read(out[0], word + n, sizeof(word) - 1 - n);

		assert_true(got > 0);
		n += (size_t)got;
	}
	close(out[0]);
	*input = in[1];
	return pid;
}

static void test_we_respect_qemus_locks(void **state)
{
	struct block_node *n;
	int input, status;
	pid_t pid;

	if (!have_qemu()) {
		puts("skipped: qemu-io and qemu-img are not installed");
		skip();
	}
	signal(SIGPIPE, SIG_IGN);
	make_image(MIB);
	pid = qemu_io("-twriteback", &input); /* writes */
	assert_null(open_node(image, BLOCK_AIO_AUTO, false));
	assert_non_null(strstr(err.msg, "in use by another VM or tool"));
	assert_null(open_node(image, BLOCK_AIO_AUTO, true));
	assert_non_null(strstr(err.msg, "being written by another VM or tool"));
	close(input);
	waitpid(pid, &status, 0);

	pid = qemu_io("-r", &input); /* reads, and lets others write */
	n = open_node(image, BLOCK_AIO_AUTO, true);
	assert_non_null(n);
	block_close(n);
	n = open_node(image, BLOCK_AIO_AUTO, false);
	assert_non_null(n);
	block_close(n);
	close(input);
	waitpid(pid, &status, 0);
}

/* The bytes that QEMU's machines lock: 100 + permission for what they do, 200 + permission for what nobody else may. */
static void test_locks_of_a_machine(void **state)
{
	static const struct {
		short bytes[4];
		bool we_read, we_write;
	} them[] = {
		{ { 100, 101, 201, 203 }, false, false }, /* a disk that is written */
		{ { 100, 201, 203, 0 }, true, false },	  /* one that is only read */
		{ { 100, 101, 0, 0 }, false, false },	  /* a writer who does not mind others: we do */
		{ { 100, 0, 0, 0 }, true, true },	  /* a tool that looks */
		{ { 200, 0, 0, 0 }, false, false },	  /* somebody who wants nobody to read */
		{ { 103, 0, 0, 0 }, false, false },	  /* somebody who resizes */
	};

	make_image(MIB);
	for (size_t k = 0; k < sizeof(them) / sizeof(them[0]); k++) {
		int fd = open(image, O_RDWR | O_CLOEXEC);

		for (int i = 0; i < 4 && them[k].bytes[i]; i++) {
			struct flock l = { .l_type = F_RDLCK, .l_start = them[k].bytes[i], .l_len = 1 };

			assert_int_equal(fcntl(fd, F_OFD_SETLK, &l), 0);
		}
		for (int readonly = 0; readonly < 2; readonly++) {
			struct block_node *n = open_node(image, BLOCK_AIO_AUTO, readonly);

			if (!!n != (readonly ? them[k].we_read : them[k].we_write))
				fail_msg("case %zu, readonly %d: %s", k, readonly, n ? "opened" : "refused");
			if (n)
				block_close(n);
		}
		close(fd);
	}
}

static int make_dir(void **state)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, sizeof(dir), "%s/vireo-host-XXXXXX", tmp && strlen(tmp) < 30 ? tmp : "/tmp");
	if (!mkdtemp(dir))
		return -1;
	snprintf(image, sizeof(image), "%s/disk.img", dir);
	return 0;
}

static int remove_dir(void **state)
{
	unlink(image);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_discard_gives_space_back), cmocka_unit_test(test_full_file_system),
		cmocka_unit_test(test_io_uring_refused),	 cmocka_unit_test(test_block_device),
		cmocka_unit_test(test_readonly_block_device),	 cmocka_unit_test(test_mounted_block_device),
		cmocka_unit_test(test_qemu_respects_our_locks),	 cmocka_unit_test(test_we_respect_qemus_locks),
		cmocka_unit_test(test_locks_of_a_machine),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
