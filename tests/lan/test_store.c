/* Files of networks: what is written can be read, whatever its size, or is not written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lan/store.h"

#define MIB (1u << 20)

static struct lan_store s;
static struct err err;

static int begin(void **state)
{
	snprintf(s.run, sizeof(s.run), "%s/vireo-store-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	return mkdtemp(s.run) && strcpy(s.etc, s.run) ? 0 : -1;
}

static int end(void **state)
{
	lan_run_remove(&s, "lab", &err);
	return rmdir(s.run);
}

/* A record with a text of `size` bytes. */
static int keep(size_t size)
{
	char *text = malloc(size + 1);
	json_t *o;
	int rc;

	memset(text, 'x', size);
	text[size] = '\0';
	o = json_pack("{s:s}", "routes", text);
	free(text);
	rc = lan_run_write(&s, "lab", "state.json", o, &err);
	json_decref(o);
	return rc;
}

static size_t kept(void)
{
	json_t *o = lan_run_read(&s, "lab", "state.json");
	const size_t size = o ? json_string_length(json_object_get(o, "routes")) : 0;

	json_decref(o);
	return size;
}

static void test_sizes(void **state)
{
	static const size_t sizes[] = { 1, 65535 - 18, 65536 - 18, 65536, 3 * MIB, 9 * MIB };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(keep(sizes[i]), 0);
		assert_int_equal(kept(), sizes[i]);
	}
}

/* What could not be read is not written over what can. */
static void test_too_large(void **state)
{
	assert_int_equal(keep(7), 0);
	assert_int_equal(keep(64 * MIB), -1);
	assert_non_null(strstr(err.msg, "more than 64 MiB would have to be kept"));
	assert_int_equal(kept(), 7);
}

static void write_text(const char *text, size_t len)
{
	char path[2 * LAN_PATH];
	FILE *f;

	lan_run_path(&s, "lab", "state.json", path, sizeof(path));
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	fclose(f);
}

static void test_others_files(void **state)
{
	char path[2 * LAN_PATH];

	assert_int_equal(keep(7), 0);
	write_text("", 0);
	assert_int_equal(kept(), 0);
	write_text("{\"routes\": \"x\", \"routes\": \"y\"}", 30);
	assert_int_equal(kept(), 0);
	lan_run_path(&s, "lab", "state.json", path, sizeof(path));
	assert_int_equal(truncate(path, 64 * MIB + 1), 0);
	assert_int_equal(kept(), 0);
	assert_int_equal(unlink(path), 0);
	assert_null(lan_run_read(&s, "lab", "state.json"));
	assert_int_equal(errno, ENOENT);
}

/* What whoever was killed had begun to write goes, and nothing else. */
static void test_tidy(void **state)
{
	static const struct {
		const char *file;
		bool stays;
	} rows[] = { { "/lab.json", true },	     { "/lab.json.tmp", false },    { "/kept/lab.try", false },
		     { "/kept/lab.try.tmp", false }, { "/kept/try.dnsmasq", true }, { "/kept/a b.try", true } };
	char path[512];

	strcat(strcpy(s.keep, s.run), "/kept");
	assert_int_equal(mkdir(s.keep, 0700), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(path, sizeof(path), "%s%s", s.run, rows[i].file);
		fclose(fopen(path, "w"));
	}
	lan_store_tidy(&s);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(path, sizeof(path), "%s%s", s.run, rows[i].file);
		if (access(path, F_OK) != (rows[i].stays ? 0 : -1))
			fail_msg("%s %s", rows[i].file, rows[i].stays ? "is gone" : "is left");
		unlink(path);
	}
	assert_int_equal(rmdir(s.keep), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_others_files),
		cmocka_unit_test(test_tidy),
	};

	return cmocka_run_group_tests_name("lan_store", tests, begin, end);
}
