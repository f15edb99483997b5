/* base/config.c: values as people write them, and errors that name the key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"

static void sizes_as_people_write_them(void **state)
{
	static const struct {
		const char *text;
		uint64_t unit, value;
	} good[] = {
		{ "512M", 1, 512ull << 20 },  { "2G", 1, 2ull << 30 },	     { "1536MiB", 1, 1536ull << 20 },
		{ "4096k", 1, 4096 << 10 },   { "256", 1 << 20, 256 << 20 }, { "1.5G", 1, 1536ull << 20 },
		{ "100B", 1 << 20, 100 },     { "0x1000", 1, 0x1000 },	     { "2g", 1, 2ull << 30 },
		{ "1024MiB", 1, 1ull << 30 }, { "512MB", 1, 512ull << 20 },  { "8K", 1, 8192 },
		{ "0.5G", 1, 512ull << 20 },  { "1.5", 1 << 20, 3 << 19 },   { "1T", 1, 1ull << 40 },
		{ ".5G", 1, 512ull << 20 },
	};
	static const char *const bad[] = {
		"",   "M",     "12Q", "-1", "12MM", "99999999999999999999", "18446744073709551615G", "1 G", ".",
		".G", "1..5G", "+1",  " 1", "1e3"
	};
	uint64_t v;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(parse_size(good[i].text, good[i].unit, &v), 0);
		assert_int_equal(v, good[i].value);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(parse_size(bad[i], 1, &v), -1);
}

static void later_values_replace_earlier_ones(void **state)
{
	struct config *c = config_new();
	struct err err;

	assert_int_equal(config_set(c, "cpu.model", "a", &err), 0);
	assert_int_equal(config_set(c, "cpu.model", "b", &err), 0);
	assert_string_equal(config_get(c, "cpu.model"), "b");
	assert_true(config_has(c, "cpu"));
	assert_false(config_has(c, "cp"));
	config_free(c);
}

static void errors_name_key_value_and_choice(void **state)
{
	static const char *const words[] = { "host", "icount", NULL };
	struct config *c = config_new();
	struct err err;
	uint64_t n;
	bool b;
	int choice;

	config_set(c, "clock", "sun", &err);
	assert_int_equal(config_choice(c, "clock", 0, words, &choice, &err), -1);
	assert_string_equal(err.msg, "clock: 'sun' is not one of host, icount");
	config_set(c, "cpus", "0", &err);
	assert_int_equal(config_uint(c, "cpus", 1, (struct config_range){ 1, 64 }, &n, &err), -1);
	assert_string_equal(err.msg, "cpus: '0' is not a number from 1 to 64");
	config_set(c, "rng", "maybe", &err);
	assert_int_equal(config_bool(c, "rng", true, &b, &err), -1);
	assert_string_equal(err.msg, "rng: 'maybe' is neither on nor off");
	/* Also QEMU's letters. */
	config_set(c, "rng", "y", &err);
	assert_true(!config_bool(c, "rng", false, &b, &err) && b);
	config_set(c, "rng", "n", &err);
	assert_true(!config_bool(c, "rng", true, &b, &err) && !b);
	assert_int_equal(config_set(c, "Bad key", "x", &err), -1);
	assert_int_equal(config_set(c, "a..b", "x", &err), -1);
	assert_int_equal(config_set(c, "a", "x\ny = z", &err), -1);
	config_free(c);
}

static void an_unread_key_is_an_error_with_a_suggestion(void **state)
{
	struct config *c = config_new();
	struct err err;
	uint64_t v;

	config_set(c, "memry", "1G", &err);
	config_size(c, "memory", 1, 1, &v, &err);
	assert_int_equal(config_check_unused(c, &err), -1);
	assert_string_equal(err.msg, "unknown key 'memry' (did you mean 'memory'?)");
	config_get(c, "memry");
	assert_int_equal(config_check_unused(c, &err), 0);
	config_free(c);
}

static char path[] = "/tmp/vireo-test-XXXXXX";

static void write_file(const void *text, size_t len)
{
	int fd = open(path, O_WRONLY | O_TRUNC);

	assert_true(write(fd, text, len) == (ssize_t)len);
	close(fd);
}

static int make_file(void **state)
{
	int fd = mkstemp(path);

	close(fd);
	return fd < 0;
}

static int remove_file(void **state)
{
	return unlink(path);
}

static int count_keys(void *opaque, const char *key, const char *value)
{
	++*(int *)opaque;
	return 0;
}

static void files_have_sections_and_comments(void **state)
{
	static const char text[] = "# comment\n; and another\nname = vm1\r\n[disk10]\npath = b\n\n[ disk2 ]\n  path=a "
				   "b = c  \nserial = #1\n";
	struct config *c = config_new(), *d = config_new();
	struct err err;
	int count = 0;

	write_file(text, strlen(text));
	assert_int_equal(config_read_file(c, path, &err), 0);
	assert_string_equal(config_get(c, "name"), "vm1");
	assert_string_equal(config_get(c, "disk2.path"), "a b = c");
	assert_string_equal(config_get(c, "disk2.serial"), "#1");
	config_set(d, "gone", "x", &err);
	config_get(d, "name");
	assert_int_equal(config_copy(d, c, &err), 0);
	/* "name" was read before. */
	assert_int_equal(config_check_unused(d, &err), -1);
	assert_non_null(strstr(err.msg, "unknown key 'disk2.path'"));
	assert_string_equal(config_peek(d, "disk10.path"), "b");
	assert_null(config_peek(d, "gone"));
	config_each(d, count_keys, &count);
	assert_int_equal(count, 4);
	config_free(c);
	config_free(d);
}

static void errors_name_the_line_of_the_file(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "a = 1\nno equals sign\n", ":2: expected KEY = VALUE" },
		{ "[open\n", ":1: a section is [name]" },
		{ "\n\nBad = 1\n", ":3: key 'Bad'" },
	};
	struct config *c = config_new();
	char big[5000] = "a = ";
	struct err err;
	uint64_t v;

	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
		write_file(bad[n].text, strlen(bad[n].text));
		assert_int_equal(config_read_file(c, path, &err), -1);
		assert_non_null(strstr(err.msg, bad[n].says));
	}
	memset(big + 4, 'x', sizeof(big) - 5);
	write_file(big, strlen(big));
	assert_int_equal(config_read_file(c, path, &err), -1);
	write_file("a\0b = 1\n", 8);
	assert_int_equal(config_read_file(c, path, &err), -1);
	assert_int_equal(config_read_file(c, "/tmp", &err), -1);
	assert_int_equal(config_read_file(c, "/no/such/file", &err), -1);
	/* A reader's error too, and that of a key that nobody reads. */
	write_file("#\nmemory = lots\nwat = 1\n", 24);
	assert_int_equal(config_read_file(c, path, &err), 0);
	assert_int_equal(config_size(c, "memory", 1, 1, &v, &err), -1);
	config_tell_origin(c, &err);
	assert_non_null(strstr(err.msg, ":2: memory: 'lots'"));
	err_set(&err, "wat: that: is nonsense");
	config_tell_origin(c, &err);
	assert_non_null(strstr(err.msg, ":3: wat: that: is nonsense"));
	config_get(c, "a");
	assert_int_equal(config_check_unused(c, &err), -1);
	assert_non_null(strstr(err.msg, ":3: unknown key 'wat'"));
	/* From the command line it is nobody's line. */
	config_set(c, "memory", "more", &err);
	assert_int_equal(config_size(c, "memory", 1, 1, &v, &err), -1);
	config_tell_origin(c, &err);
	assert_string_equal(err.msg, "memory: 'more' is not a size such as 512M or 2G");
	/* Of a key that nobody wrote, where its kin is. */
	write_file("memory.path = x\n", 16);
	assert_int_equal(config_read_file(c, path, &err), 0);
	for (int n = 0; n < 2; n++) {
		err_set(&err, n ? "memory.share: that: is nonsense" : "memory.other: nonsense");
		config_tell_origin(c, &err);
		assert_non_null(strstr(err.msg, n ? ":1: memory.share: that" : ":1: memory.other: nonsense"));
	}
	err_set(&err, "mem: nonsense");
	config_tell_origin(c, &err);
	assert_string_equal(err.msg, "mem: nonsense");
	/* Not every error is about a key. */
	err_set(&err, "out of memory");
	config_tell_origin(c, &err);
	assert_string_equal(err.msg, "out of memory");
	config_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_as_people_write_them),
		cmocka_unit_test(later_values_replace_earlier_ones),
		cmocka_unit_test(errors_name_key_value_and_choice),
		cmocka_unit_test(an_unread_key_is_an_error_with_a_suggestion),
		cmocka_unit_test(files_have_sections_and_comments),
		cmocka_unit_test(errors_name_the_line_of_the_file),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
