/* base/state.c: a round trip, and that no mutated stream is taken or reads out of bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/state.h"

struct part {
	uint16_t reg;
	uint8_t mode;
	uint32_t rest; /* only when it is not 0 */
};

struct thing {
	uint32_t control;
	uint64_t counters[3];
	bool on;
	struct part parts[2];
	uint32_t extra;
	bool have_extra;
};

static int part_check(void *obj, struct err *err)
{
	return ((struct part *)obj)->mode > 3 ? err_set(err, "mode is out of range") : 0;
}

static const struct state_field part_fields[] = {
	STATE_U16F(struct part, reg),
	STATE_U8F(struct part, mode),
	STATE_FIELD_END,
};
static bool rest_needed(void *obj)
{
	return ((struct part *)obj)->rest;
}
static const struct state_field rest_fields[] = { STATE_U32F(struct part, rest), STATE_FIELD_END };
static const struct state_desc rest_state = {
	.name = "rest",
	.version = 1,
	.min_version = 1,
	.fields = rest_fields,
	.needed = rest_needed,
};
static const struct state_desc *const parts_of_part[] = { &rest_state, NULL };
static const struct state_desc part_state = {
	.name = "part",
	.version = 1,
	.min_version = 1,
	.fields = part_fields,
	.post_load = part_check,
	.subsections = parts_of_part,
};

static bool extra_needed(void *obj)
{
	return ((struct thing *)obj)->have_extra;
}
static const struct state_field extra_fields[] = { STATE_U32F(struct thing, extra), STATE_FIELD_END };
static const struct state_desc extra_state = {
	.name = "extra",
	.version = 1,
	.min_version = 1,
	.fields = extra_fields,
	.needed = extra_needed,
};
static const struct state_desc *const parts_of_thing[] = { &extra_state, NULL };

static const struct state_field thing_fields[] = {
	STATE_U32F(struct thing, control),
	STATE_U64A(struct thing, counters),
	STATE_BOOLF(struct thing, on),
	STATE_SUBA(struct thing, parts, &part_state),
	STATE_FIELD_END,
};
static const struct state_desc thing_state = {
	.name = "thing",
	.version = 2,
	.min_version = 1,
	.fields = thing_fields,
	.subsections = parts_of_thing,
};

static const struct thing example = {
	.control = 0x12345678,
	.counters = { 1, UINT64_MAX, 3 },
	.on = true,
	.parts = { { 0xabcd, 1, 0 }, { 2, 3, 77 } },
	.extra = 99,
	.have_extra = true,
};

static size_t save(struct thing *t, char **buf)
{
	size_t len;
	FILE *f = open_memstream(buf, &len);
	struct err err;

	assert_int_equal(state_save(f, &thing_state, "0", t, &err), 0);
	fclose(f);
	return len;
}

static int load(const char *buf, size_t len, struct thing *t, struct err *err)
{
	/* An own allocation of exactly `len` lets ASan see any read past it. */
	char *copy = malloc(len + !len);
	int ret;

	memcpy(copy, buf, len);
	FILE *f = fmemopen(copy, len + !len, "r");
	ret = state_load(f, &thing_state, "0", t, err);
	fclose(f);
	free(copy);
	return ret;
}

static void what_is_saved_comes_back(void **state)
{
	struct thing a = example, b = { .have_extra = true };
	struct err err;
	char *buf;
	size_t len = save(&a, &buf);

	assert_int_equal(load(buf, len, &b, &err), 0);
	assert_memory_equal(a.counters, b.counters, sizeof(a.counters));
	assert_int_equal(b.control, a.control);
	assert_true(b.on);
	assert_int_equal(b.parts[0].reg, 0xabcd);
	assert_int_equal(b.parts[1].mode, 3);
	assert_int_equal(b.extra, 99);
	free(buf);
}

/* Structs within the object have optional parts of their own, each element as it needs them. */
static void parts_of_parts_come_back(void **state)
{
	struct thing a = example, b = { .have_extra = true };
	struct err err;
	char *buf, *text;
	size_t len = save(&a, &buf);
	FILE *f = open_memstream(&text, &len);

	state_print(f, &thing_state, "0", &a);
	fclose(f);
	assert_non_null(strstr(text, "thing:0.parts[1].rest = 0x4d"));
	assert_null(strstr(text, "parts[0].rest"));
	free(text);
	free(buf);
	len = save(&a, &buf);
	assert_int_equal(load(buf, len, &b, &err), 0);
	assert_int_equal(b.parts[0].rest, 0);
	assert_int_equal(b.parts[1].rest, 77);
	assert_int_equal(b.extra, 99);
	free(buf);
}

static void a_truncated_stream_is_refused(void **state)
{
	struct thing a = example, b;
	struct err err;
	char *buf;
	size_t len = save(&a, &buf);

	for (size_t cut = 0; cut < len; cut++) {
		memset(&b, 0, sizeof(b));
		assert_int_equal(load(buf, cut, &b, &err), -1);
	}
	free(buf);
}

/* Bytes of structure refuse; bytes of payload may load, but only as values that the tables allow. */
static void a_mutated_stream_never_loads_an_impossible_value(void **state)
{
	struct thing a = example, b;
	struct err err;
	char *buf;
	size_t len = save(&a, &buf);
	unsigned refused = 0;

	for (size_t at = 0; at < len; at++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			buf[at] ^= 1 << bit;
			memset(&b, 0, sizeof(b));
			if (load(buf, len, &b, &err))
				refused++;
			else
				assert_true(b.parts[0].mode <= 3 && b.parts[1].mode <= 3);
			buf[at] ^= 1 << bit;
		}
	}
	assert_true(refused > len * 4);
	free(buf);
}

static void another_version_or_instance_is_refused(void **state)
{
	struct thing a = example, b = example;
	struct state_desc newer = thing_state;
	struct err err;
	char *buf;
	size_t len;
	FILE *f = open_memstream(&buf, &len);

	newer.version = 3;
	assert_int_equal(state_save(f, &newer, "0", &a, &err), 0);
	fclose(f);
	assert_int_equal(load(buf, len, &b, &err), -1);
	assert_string_equal(err.msg, "saved state of thing: version 3, this program reads 1 to 2");
	free(buf);
	f = open_memstream(&buf, &len);
	assert_int_equal(state_save(f, &thing_state, "1", &a, &err), 0);
	fclose(f);
	assert_int_equal(load(buf, len, &b, &err), -1);
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_saved_comes_back),
		cmocka_unit_test(parts_of_parts_come_back),
		cmocka_unit_test(a_truncated_stream_is_refused),
		cmocka_unit_test(a_mutated_stream_never_loads_an_impossible_value),
		cmocka_unit_test(another_version_or_instance_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
