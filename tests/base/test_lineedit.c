/* base/lineedit.c: what keys do to a line, and what the screen shows then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/lineedit.h"

#define COLUMNS 200

/* A terminal of one line that matters. */
static struct screen {
	char line[COLUMNS + 1];
	size_t at;
	char lines[4096]; /* each one that was entered, with '|' behind it */
	char listed[512];
	struct lineedit *edit;
} scr;

static void put(char b)
{
	if (b == '\r') {
		scr.at = 0;
	} else if (b == '\n') {
		snprintf(scr.listed + strlen(scr.listed), sizeof(scr.listed) - strlen(scr.listed), "%s/", scr.line);
		memset(scr.line, 0, sizeof(scr.line));
	} else {
		for (size_t n = strlen(scr.line); n < scr.at; n++)
			scr.line[n] = ' ';
		scr.line[scr.at++] = b;
	}
}

static void show(void *opaque, const char *bytes, size_t len)
{
	for (size_t n = 0; n < len; n++) {
		unsigned count = 0;

		if (bytes[n] != 0x1b) {
			put(bytes[n]);
			continue;
		}
		assert_int_equal(bytes[++n], '[');
		for (n++; bytes[n] >= '0' && bytes[n] <= '9'; n++)
			count = count * 10 + (unsigned)(bytes[n] - '0');
		if (bytes[n] == 'D')
			scr.at -= count;
		else if (bytes[n] == 'K')
			memset(scr.line + scr.at, 0, sizeof(scr.line) - scr.at);
		assert_true(scr.at <= COLUMNS);
	}
}

static void line(void *opaque, const char *text)
{
	snprintf(scr.lines + strlen(scr.lines), sizeof(scr.lines) - strlen(scr.lines), "%s|", text);
	lineedit_prompt(scr.edit);
}

static const char *word(void *opaque, const char *text, unsigned i)
{
	static const char *const words[] = { "status", "stop", "system_reset" };
	const char *last = strrchr(text, ' ');

	last = last ? last + 1 : text;
	for (unsigned n = 0; n < 3; n++)
		if (!strncmp(words[n], last, strlen(last)) && !i--)
			return words[n];
	return NULL;
}

static void type(const char *keys)
{
	while (*keys)
		lineedit_byte(scr.edit, *keys++);
}

static int begin(void **state)
{
	static const struct lineedit_ops ops = { .show = show, .line = line, .word = word };

	memset(&scr, 0, sizeof(scr));
	scr.edit = lineedit_new("> ", &ops, NULL);
	lineedit_prompt(scr.edit);
	return 0;
}

static int end(void **state)
{
	lineedit_free(scr.edit);
	return 0;
}

/* The screen shows what Enter would give. */
static void sees(const char *text, size_t cursor)
{
	char want[COLUMNS];

	snprintf(want, sizeof(want), "> %s", text);
	assert_string_equal(scr.line, want);
	assert_int_equal(scr.at, cursor + 2);
}

static void keys_change_the_line(void **state)
{
	static const struct {
		const char *keys, *line;
		size_t cursor;
	} cases[] = {
		{ "abc", "abc", 3 },
		{ "ab\x7f\x08", "", 0 },
		{ "ac\x1b[Db", "abc", 2 },
		{ "bc\x01"
		  "a\x05"
		  "d",
		  "abcd", 4 },
		{ "abc\x1b[D\x1b[D\x1b[3~", "ac", 1 },
		{ "abc\x1b[H\x04", "bc", 0 },
		{ "abc\x02\x02\x0b", "a", 1 },
		{ "abc\x02\x15", "c", 0 },
		{ "one two  \x17", "one ", 4 },
		{ "ab\x1b[D\x1b[D\x1b[D\x1b[C", "ab", 1 },
		{ "ab\x1bOD\x1b[1;5Dx", "axb", 2 },
		{ "ab\x1b[99zc", "abc", 3 },
	};

	for (size_t n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
		char want[64];

		begin(NULL);
		type(cases[n].keys);
		sees(cases[n].line, cases[n].cursor);
		type("\r");
		snprintf(want, sizeof(want), "%s|", cases[n].line);
		assert_string_equal(scr.lines, want);
		end(NULL);
	}
}

static void lines_end_in_any_way(void **state)
{
	type("a\rb\nc\r\n\n");
	assert_string_equal(scr.lines, "a|b|c||");
	sees("", 0);
}

static void the_history_comes_back(void **state)
{
	type("one\rtwo\rtwo\r\x1b[A");
	sees("two", 3);
	type("\x1b[A");
	sees("one", 3);
	type("\x1b[A\x1b[B\x1b[B");
	sees("", 0);
	type("\x10\x10!\r");
	assert_string_equal(scr.lines, "one|two|two|one!|");
	assert_string_equal(lineedit_history(scr.edit, 2), "one!");
	assert_null(lineedit_history(scr.edit, 3));
	for (unsigned n = 0; n < 200; n++) {
		char text[16];

		snprintf(text, sizeof(text), "%u\r", n);
		type(text);
	}
	assert_string_equal(lineedit_history(scr.edit, 0), "136");
}

static void words_are_completed(void **state)
{
	type("sys\t");
	sees("system_reset ", 13);
	type("\x15st\t");
	sees("st", 2);
	assert_non_null(strstr(scr.listed, "status/stop/"));
	type("o\t");
	sees("stop ", 5);
	type("x\t");
	sees("stop x", 6);
}

static void a_line_is_bounded(void **state)
{
	for (unsigned n = 0; n < LINEEDIT_MAX + 1000; n++) {
		scr.at = 0; /* the screen would wrap */
		lineedit_byte(scr.edit, 'x');
	}
	lineedit_byte(scr.edit, '\r');
	assert_int_equal(strlen(scr.lines), sizeof(scr.lines) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_change_the_line),
		cmocka_unit_test_setup_teardown(lines_end_in_any_way, begin, end),
		cmocka_unit_test_setup_teardown(the_history_comes_back, begin, end),
		cmocka_unit_test_setup_teardown(words_are_completed, begin, end),
		cmocka_unit_test_setup_teardown(a_line_is_bounded, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
