/* base/config.c: values as people write them, and errors that name the key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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
		{ "512M", 1, 512ull << 20 }, { "2G", 1, 2ull << 30 },	    { "1536MiB", 1, 1536ull << 20 },
		{ "4096k", 1, 4096 << 10 },  { "256", 1 << 20, 256 << 20 }, { "1.5G", 1, 1536ull << 20 },
		{ "100B", 1 << 20, 100 },    { "0x1000", 1, 0x1000 },
	};
	static const char *const bad[] = {
		"", "M", "12Q", "-1", "12MM", "99999999999999999999", "18446744073709551615G"
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
	assert_int_equal(config_uint(c, "cpus", 1, 1, 64, &n, &err), -1);
	assert_string_equal(err.msg, "cpus: '0' is not a number from 1 to 64");
	config_set(c, "rng", "maybe", &err);
	assert_int_equal(config_bool(c, "rng", true, &b, &err), -1);
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

static void files_have_sections_and_survive_a_round_trip(void **state)
{
	char path[] = "/tmp/vireo-test-XXXXXX";
	int fd = mkstemp(path);
	static const char text[] = "# comment\nname = vm1\n[disk10]\npath = b\n[disk2]\npath = a b\n";
	struct config *c = config_new(), *d = config_new();
	struct err err;
	FILE *f;

	assert_true(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
	assert_int_equal(config_read_file(c, path, &err), 0);
	assert_string_equal(config_get(c, "disk2.path"), "a b");
	f = fopen(path, "w");
	config_write(c, f);
	fclose(f);
	assert_int_equal(config_read_file(d, path, &err), 0);
	assert_string_equal(config_get(d, "disk10.path"), "b");
	f = fopen(path, "w");
	fputs("no equals sign\n", f);
	fclose(f);
	assert_int_equal(config_read_file(d, path, &err), -1);
	assert_non_null(strstr(err.msg, ":1: expected KEY = VALUE"));
	unlink(path);
	config_free(c);
	config_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_as_people_write_them),
		cmocka_unit_test(later_values_replace_earlier_ones),
		cmocka_unit_test(errors_name_key_value_and_choice),
		cmocka_unit_test(an_unread_key_is_an_error_with_a_suggestion),
		cmocka_unit_test(files_have_sections_and_survive_a_round_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
