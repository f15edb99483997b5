/* base/jsonstream.c, jsonparse.c: what QEMU's parser takes and says, byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonstream.h"

static char heard[4096];

static void value(void *opaque, json_t *o, const char *error)
{
	char *text = o ? json_dumps(o, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
	size_t n = strlen(heard);

	if (n < sizeof(heard))
		snprintf(heard + n, sizeof(heard) - n, "%s%s", n ? "|" : "", text ? text : error);
	free(text);
	json_decref(o);
}

static void feed(struct jsonstream *s, const char *text, size_t len)
{
	for (size_t n = 0; n < len; n++)
		jsonstream_byte(s, text[n]);
}

/* The errors are those of qemu-system-x86_64 7.2, without "JSON parse error, ". */
static void values_and_errors_are_qemus(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "{}", "{}" },
		{ " {\"a\" :\t[1, -2,3.5,true,null]}\r\n", "{\"a\":[1,-2,3.5,true,null]}" },
		{ "{}{}[]", "{}|{}|[]" },
		{ "17\n18 ", "17|18" },
		{ "\"a\"'b'", "\"a\"|\"b\"" },
		{ "{'a': 'it\\'s \"x\"'}", "{\"a\":\"it's \\\"x\\\"\"}" },
		{ "[\"\\u0041\\ud83d\\ude00\\n\\/\"]", "[\"A\xf0\x9f\x98\x80\\n/\"]" },
		{ "[9223372036854775807, -9223372036854775808]", "[9223372036854775807,-9223372036854775808]" },
		{ "[18446744073709551615]", "[1.8446744073709552e19]" },
		{ "[\"}{\"]", "[\"}{\"]" },
		{ "nonsense\n", "~invalid keyword 'nonsense'" },
		{ "foo bar\n", "~invalid keyword 'foo'|~invalid keyword 'bar'" },
		{ "{nonsense}\n", "~invalid keyword 'nonsense'" },
		{ "{\"execute\": }", "~expecting value" },
		{ "}", "~expecting value" },
		{ "]]", "~expecting value|~expecting value" },
		{ "{\"a\": \"\n{}", "~stray '\"\n'|{}" },
		{ "\"\\\xff{}", "~stray '\"\\\xef\xbf\xbd'|{}" },
		{ "\xff{}", "~stray '\xef\xbf\xbd'|{}" },
		{ "{\"a\":1,\"a\":2}", "~duplicate key" },
		{ "{\"a\": \"\\ud800\"}", "~\\ud800 is not a valid Unicode character" },
		{ "@#$ abc\n{}", "~stray '@'|{}" },
		{ "{\"a\":1,}", "~expecting value" },
		{ "[1,]", "~expecting value" },
		{ "[1 2]", "~expected separator in list" },
		{ "{\"a\":1 2}", "~expected separator in dict" },
		{ "{\"a\" 1}", "~missing : in object pair" },
		{ "{1:2}", "~key is not a string in object" },
		{ "{\"a\":01}", "~stray '01'|~expecting value" },
		{ "{\"a\":+1}", "~stray '+'|~expecting value" },
		{ "{\"x\":\"\\q\"}", "~invalid escape sequence in string" },
		{ "{\"x\":\"\xc3\"}", "~invalid UTF-8 sequence in string" },
		{ "{\"\xc3\":1}", "~invalid UTF-8 sequence in string" },
		{ "-\n", "~stray '-\n'" },
		{ "1.\n{}1e+\n", "~stray '1.\n'|{}|~stray '1e+\n'" },
		{ "[1e3]", "[1000.0]" },
		{ "[\"\\u0000\"]", "~\\u0000 is not a valid Unicode character" },
	};

	for (size_t n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
		struct jsonstream s;
		char want[512] = "";

		for (const char *c = cases[n].out; *c; c++)
			snprintf(want + strlen(want), sizeof(want) - strlen(want),
				 *c == '~' ? "JSON parse error, " : "%c", *c);
		*heard = 0;
		jsonstream_init(&s, value, NULL);
		feed(&s, cases[n].in, strlen(cases[n].in));
		if (strcmp(heard, want))
			fail_msg("%s: '%s' is not '%s'", cases[n].in, heard, want);
		jsonstream_fini(&s);
	}
}

static void a_value_is_bounded(void **state)
{
	static char big[JSONSTREAM_BYTES + 16];
	struct jsonstream s;

	jsonstream_init(&s, value, NULL);
	*heard = 0;
	memset(big, '[', sizeof(big));
	feed(&s, big, JSONSTREAM_DEPTH + 1);
	assert_string_equal(heard, "JSON nesting depth limit exceeded");
	*heard = 0;
	feed(&s, "[\"", 2);
	memset(big, 'x', sizeof(big));
	feed(&s, big, sizeof(big));
	assert_string_equal(heard, "JSON token size limit exceeded");
	/* The rest of it is not looked at. */
	feed(&s, "{}[]\"", 5);
	assert_string_equal(heard, "JSON token size limit exceeded");
	*heard = 0;
	feed(&s, "\n{}", 3);
	assert_string_equal(heard, "{}");
	assert_true(s.size <= JSONSTREAM_BYTES);
	jsonstream_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_and_errors_are_qemus),
		cmocka_unit_test(a_value_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
