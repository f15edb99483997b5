/* Log lines: what is shown, their form, and that a guest cannot flood them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"

static char text[16384];

/* What `fn` writes to stderr. */
static const char *caught(void (*fn)(void))
{
	int p[2], saved = dup(STDERR_FILENO);
	ssize_t n;

	assert_int_equal(pipe(p), 0);
	dup2(p[1], STDERR_FILENO);
	fn();
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(p[1]);
	n = read(p[0], text, sizeof(text) - 1);
	close(p[0]);
	text[n < 0 ? 0 : n] = '\0';
	return text;
}

static void three_levels(void)
{
	log_line(LOG_ERROR, "disk0", "broken: %d", 7);
	log_line(LOG_WARN, "net0", "odd");
	log_line(LOG_INFO, "vm", "booted");
}

static void warnings_are_shown_and_information_is_not(void **state)
{
	assert_string_equal(caught(three_levels), "vireo: error: disk0: broken: 7\nvireo: warning: net0: odd\n");
}

static void verbose_lines_carry_the_time(void **state)
{
	const char *t;

	log_set_level(LOG_INFO);
	assert_true(log_enabled(LOG_INFO) && !log_enabled(LOG_DEBUG));
	t = caught(three_levels);
	assert_memory_equal(t, "[   0.0", 7);
	assert_non_null(strstr(t, "] vireo: error: disk0: broken: 7\n["));
	assert_non_null(strstr(t, "] vireo: info: vm: booted\n"));
	log_set_level(LOG_WARN);
}

static void a_raw_terminal_gets_its_carriage_back(void **state)
{
	log_set_raw(true);
	assert_string_equal(caught(three_levels), "vireo: error: disk0: broken: 7\r\nvireo: warning: net0: odd\r\n");
	log_set_raw(false);
}

static void one_long_line(void)
{
	char word[4000];

	memset(word, 'x', sizeof(word));
	word[sizeof(word) - 1] = '\0';
	log_line(LOG_ERROR, "vm", "%s", word);
}

static void a_line_that_is_too_long_is_cut_and_still_ends(void **state)
{
	const char *t = caught(one_long_line);
	size_t n = strlen(t);

	assert_in_range(n, sizeof(struct err), sizeof(struct err) + 128);
	assert_int_equal(t[n - 1], '\n');
	assert_ptr_equal(strchr(t, '\n'), t + n - 1);
}

static void flood(void)
{
	for (int i = 0; i < 1000; i++)
		log_guest("dev", "the guest did it again (%d)", i);
}

static void a_guest_cannot_flood_the_log(void **state)
{
	const char *t = caught(flood);
	int lines = 0;

	for (const char *p = t; (p = strchr(p, '\n')); p++)
		lines++;
	assert_int_equal(lines, 5);
	assert_non_null(strstr(t, "vireo: warning: dev: the guest did it again (0)\n"));
}

static struct log_limit limit;

static void after_the_window(void)
{
	limit.window_start_ns -= 60 * 1000000000ll;
	assert_true(log_limit_pass(&limit));
}

static void what_was_dropped_is_told_later(void **state)
{
	for (int i = 0; i < 105; i++)
		assert_int_equal(log_limit_pass(&limit), i < 5);
	assert_string_equal(caught(after_the_window), "vireo: warning: log: 100 similar lines were not shown\n");
}

static void more_than_a_pipe_holds(void)
{
	for (int i = 0; i < 5000; i++)
		log_line(LOG_WARN, "vm", "line %d of many that nobody reads", i);
}

static void a_reader_who_does_not_read_stops_nobody(void **state)
{
	int p[2], saved = dup(STDERR_FILENO);
	size_t all = 0;
	ssize_t n;

	assert_int_equal(pipe(p), 0);
	dup2(p[1], STDERR_FILENO);
	alarm(20);
	more_than_a_pipe_holds();
	alarm(0);
	/* Whoever comes late is told. */
	while (all < 60000 && (n = read(p[0], text, sizeof(text))) > 0)
		all += (size_t)n;
	log_line(LOG_WARN, "vm", "the last one");
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(p[1]);
	all = 0;
	while ((n = read(p[0], text + all, sizeof(text) - 1 - all)) > 0)
		all += (size_t)n;
	close(p[0]);
	text[all] = '\0';
	assert_non_null(strstr(text, " lines are lost that nobody read\nvireo: warning: vm: the last one\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(warnings_are_shown_and_information_is_not),
		cmocka_unit_test(verbose_lines_carry_the_time),
		cmocka_unit_test(a_raw_terminal_gets_its_carriage_back),
		cmocka_unit_test(a_line_that_is_too_long_is_cut_and_still_ends),
		cmocka_unit_test(a_guest_cannot_flood_the_log),
		cmocka_unit_test(what_was_dropped_is_told_later),
		cmocka_unit_test(a_reader_who_does_not_read_stops_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
