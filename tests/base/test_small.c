/* The small files of base: error lines, the statistics registry, byte order and ranges, arrays, new processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/array.h"
#include "base/bytes.h"
#include "base/child.h"
#include "base/err.h"
#include "base/huge.h"
#include "base/stats.h"

static void errors_are_one_line_that_grows_at_the_front(void **state)
{
	struct err e;

	assert_int_equal(err_set(&e, "size %d is odd", 7), -1);
	assert_string_equal(e.msg, "size 7 is odd");
	assert_int_equal(err_prefix(&e, "disk%d", 0), -1);
	assert_string_equal(e.msg, "disk0: size 7 is odd");
	assert_int_equal(err_errno(&e, ENOENT, "%s", "/x"), -1);
	assert_string_equal(e.msg, "/x: No such file or directory");
}

static void an_error_that_is_too_long_says_so(void **state)
{
	struct err e;
	char word[sizeof(e) + 1000];

	memset(word, 'x', sizeof(word));
	word[sizeof(word) - 1] = '\0';
	err_set(&e, "%s", word);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
	assert_string_equal(e.msg + sizeof(e.msg) - 4, "...");
	err_prefix(&e, "head");
	assert_memory_equal(e.msg, "head: xxx", 9);
	assert_string_equal(e.msg + sizeof(e.msg) - 4, "...");
	err_errno(&e, EIO, "%s", word);
	assert_string_equal(e.msg + sizeof(e.msg) - 4, "...");
}

static void sum(void *opaque, const char *name, uint64_t value)
{
	*(uint64_t *)opaque += strcmp(name, "b.bytes") ? value : 1000 * value;
}

static uint64_t twice(void *opaque)
{
	return 2 * *(uint64_t *)opaque;
}

static void counters_are_listed_by_name(void **state)
{
	struct stats *s = stats_new();
	stat_t a = 0, b = 0;
	uint64_t total = 0, seen = 0;
	char name[] = "b.bytes", *text;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	stats_register(s, "a.requests", "requests", &a);
	stats_register(s, name, "bytes moved", &b);
	name[0] = 'x'; /* the name was copied */
	stats_register_value(s, "c.pairs", "worked out", twice, &seen);
	stat_add(&a, 2);
	stat_add(&b, 3);
	stat_add(&b, 4);
	stats_each(s, sum, &total);
	assert_int_equal(total, 7002);
	seen = 21;
	stats_print(s, f);
	fclose(f);
	assert_non_null(strstr(text, "a.requests                                  2  requests\n"));
	assert_non_null(strstr(text, "b.bytes                                     7  bytes moved\n"));
	assert_non_null(strstr(text, "c.pairs                                    42  worked out\n"));
	free(text);
	stats_free(s);
}

static void bytes_have_the_order_that_is_named(void **state)
{
	uint8_t b[9] = { 0 };

	st_le32(b + 1, 0x11223344);
	assert_memory_equal(b, "\0\x44\x33\x22\x11\0", 6);
	assert_int_equal(ld_le32(b + 1), 0x11223344);
	assert_int_equal(ld_be32(b + 1), 0x44332211);
	st_be16(b + 1, 0x1122);
	assert_memory_equal(b, "\0\x11\x22", 3);
	st_be64(b + 1, 0x1122334455667788);
	assert_int_equal(ld_le64(b + 1), 0x8877665544332211);
	assert_int_equal(ld_be16(b + 1), 0x1122);
}

static void ranges_do_not_overflow(void **state)
{
	assert_true(range_within(0, 10, 10));
	assert_true(range_within(10, 0, 10));
	assert_false(range_within(1, 10, 10));
	assert_false(range_within(11, 0, 10));
	assert_false(range_within(UINT64_MAX, 2, 10));
	assert_false(range_within(2, UINT64_MAX, 10));
	assert_true(range_within(0, UINT64_MAX, UINT64_MAX));
}

static void sizes_and_alignment(void **state)
{
	assert_int_equal(size_mask(1), 0xff);
	assert_int_equal(size_mask(4), 0xffffffff);
	assert_int_equal(size_mask(8), UINT64_MAX);
	assert_int_equal(align_down(0x1fff, 0x1000), 0x1000);
	assert_int_equal(align_up(0x1001, 0x1000), 0x2000);
	assert_int_equal(align_up(0x1000, 0x1000), 0x1000);
	assert_true(is_pow2(1) && is_pow2(1ull << 63));
	assert_false(is_pow2(0) || is_pow2(6));
}

static void memory_for_huge_pages_is_aligned_and_empty(void **state)
{
	static const size_t sizes[] = { 1, 4096, HUGE_PAGE, HUGE_PAGE + 4096 };

	for (size_t n = 0; n < ARRAY_LEN(sizes); n++) {
		uint8_t *p = huge_alloc(sizes[n]);

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % HUGE_PAGE, 0);
		huge_advise(p, sizes[n]);
		for (size_t at = 0; at < sizes[n]; at += 4095)
			assert_int_equal(p[at]++, 0);
		huge_free(p, sizes[n]);
	}
}

static void arrays_grow_by_one(void **state)
{
	unsigned *v = NULL;

	for (unsigned n = 0; n < 1000; n++) {
		assert_true(array_more(v, n));
		v[n] = n;
	}
	for (unsigned n = 0; n < 1000; n++)
		assert_int_equal(v[n], n);
	free(v);
}

static void handler(int n)
{
}

/* What the new process has of this one: by bits, what is not as it should be. */
static int differs(int fd, pid_t parent)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGQUIT, SIGTSTP, SIGHUP, SIGPIPE, SIGWINCH };
	int other = dup(fd), wrong = 0, death = 0;
	char title[16], byte = 1;
	sigset_t set;

	child_begin("vireo:test", fd, parent);
	for (size_t n = 0; n < ARRAY_LEN(ignored); n++)
		if (signal(ignored[n], SIG_DFL) != SIG_IGN)
			wrong |= 1;
	if (signal(SIGUSR1, SIG_DFL) != SIG_DFL || sigprocmask(SIG_SETMASK, NULL, &set) || sigismember(&set, SIGUSR2))
		wrong |= 2;
	if (fcntl(other, F_GETFD) >= 0 || write(3, &byte, 1) != 1)
		wrong |= 4;
	if (prctl(PR_GET_NAME, title) || strcmp(title, "vireo:test"))
		wrong |= 8;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		wrong |= 16;
	if (prctl(PR_GET_PDEATHSIG, &death) || death != SIGKILL)
		wrong |= 32;
	return wrong;
}

static void a_child_has_nothing_of_its_parent(void **state)
{
	const pid_t parent = getpid();
	int pair[2], status;
	char byte = 0;
	sigset_t set;

	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	signal(SIGUSR1, handler);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (int gone = 0; gone < 2; gone++) {
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (!pid)
			_exit(differs(pair[1], gone ? parent + 1 : parent));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
	/* The second one has seen that its parent is gone, and done nothing. */
	close(pair[1]);
	assert_int_equal(read(pair[0], &byte, 1), 1);
	assert_int_equal(read(pair[0], &byte, 1), 0);
	close(pair[0]);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	signal(SIGUSR1, SIG_DFL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors_are_one_line_that_grows_at_the_front),
		cmocka_unit_test(an_error_that_is_too_long_says_so),
		cmocka_unit_test(counters_are_listed_by_name),
		cmocka_unit_test(bytes_have_the_order_that_is_named),
		cmocka_unit_test(ranges_do_not_overflow),
		cmocka_unit_test(sizes_and_alignment),
		cmocka_unit_test(memory_for_huge_pages_is_aligned_and_empty),
		cmocka_unit_test(arrays_grow_by_one),
		cmocka_unit_test(a_child_has_nothing_of_its_parent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
