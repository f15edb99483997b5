/* Option tables: how a command line becomes keys, and the documents that are made of a table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/suggest.h"
#include "cli/help.h"

static const struct cli_option options[] = {
	{ "memory", 'm', CLI_VALUE, "memory", NULL, "SIZE", ".5G or \\ of it", NULL },
	{ "disk", 'd', CLI_SERIES, "disk", "path", "PATH", "a disk", "@file" },
	{ "device", 0, CLI_SWITCH, NULL, NULL, "NAME", "a device", "one|two" },
	{ "clock", 0, CLI_PAIRS, "clock", NULL, "SOURCE", "a clock", NULL },
	{ "serial", 0, CLI_NUMBERED, "serial", NULL, "WHERE", "a port", NULL },
	{ "config", 0, CLI_CONFIG, NULL, NULL, "FILE", "a file", NULL },
	{ "set", 0, CLI_SET, NULL, NULL, "KEY=VALUE", "a key", NULL },
	{ "stats", 's', CLI_FLAG, "stats", NULL, NULL, "counters", NULL },
	{ "verbose", 'v', CLI_FLAG, "verbose", NULL, NULL, "more", NULL },
	{ 0 },
};
static const struct cli_command command = {
	.name = "go",
	.summary = "Go",
	.operands = "[A [B]]",
	.max_operands = 2,
	.options = options,
	.text = "First.\n\n'Second' paragraph.",
};
const struct cli_command *const cli_commands[] = { &command, NULL };

/* A command line of words between spaces. */
struct line {
	char text[256], *argv[16];
	int argc, operands, parsed;
	struct config *c;
	struct err err;
};

static struct line *parse(const char *text)
{
	static struct line l;
	char *rest = l.text;

	l = (struct line){ .c = config_new() };
	snprintf(l.text, sizeof(l.text), "%s", text);
	while (rest && *rest)
		l.argv[l.argc++] = strsep(&rest, " ");
	l.parsed = cli_parse(&command, l.c, l.argc, l.argv, &l.operands, &l.err);
	return &l;
}

static int put(void *opaque, const char *key, const char *value)
{
	fprintf(opaque, "%s = %s\n", key, value);
	return 0;
}

static void assert_keys(const char *text, const char *keys)
{
	struct line *l = parse(text);
	char *got;
	size_t n;
	FILE *f = open_memstream(&got, &n);

	if (l->parsed)
		print_error("%s: %s\n", text, l->err.msg);
	assert_int_equal(l->parsed, 0);
	config_each(l->c, put, f);
	fclose(f);
	assert_string_equal(got, keys);
	free(got);
	config_free(l->c);
}

static void assert_refused(const char *text, const char *message)
{
	struct line *l = parse(text);

	assert_int_equal(l->parsed, -1);
	assert_string_equal(l->err.msg, message);
	config_free(l->c);
}

static void options_become_keys(void **state)
{
	assert_keys("", "");
	assert_keys("--memory 2G -s", "memory = 2G\nstats = on\n");
	assert_keys("--memory=2G", "memory = 2G\n");
	assert_keys("-m2G", "memory = 2G\n");
	assert_keys("-m 1G -m 2G", "memory = 2G\n");
	assert_keys("--set a.b=c=d", "a.b = c=d\n");
	assert_keys("--memory --stats", "memory = --stats\n");
	assert_keys("-sv", "stats = on\nverbose = on\n");
	assert_keys("-svm2G", "memory = 2G\nstats = on\nverbose = on\n");
	assert_keys("-vm 2G -s", "memory = 2G\nstats = on\nverbose = on\n");
}

static void series_are_numbered(void **state)
{
	assert_keys("-d a,readonly=on --disk format=raw,path=b",
		    "disk0.path = a\ndisk0.readonly = on\ndisk1.format = raw\ndisk1.path = b\n");
	assert_keys("-d a,,b,serial=1", "disk0.path = a,b\ndisk0.serial = 1\n");
	assert_keys("-d /x=y", "disk0.path = /x=y\n");
	assert_keys("-d a,ro,snapshot", "disk0.path = a\ndisk0.readonly = on\ndisk0.snapshot = on\n");
	assert_keys("-d a,ro=off", "disk0.path = a\ndisk0.readonly = off\n");
	assert_refused("-d a,,,,,=b", "--disk a,,,,,=b: a key is missing");
	assert_refused("--disk=", "option '--disk' needs PATH");
	/* Whatever the file says, the first use on the command line is the first port. */
	assert_keys("--set serial0=x --serial a --serial b", "serial0 = a\nserial1 = b\n");
	/* But disks add up. */
	assert_keys("--set disk0.path=x -d a", "disk0.path = x\ndisk1.path = a\n");
}

static void switches_turn_a_key_on(void **state)
{
	assert_keys("--device two,iobase=0xf4", "two = on\ntwo.iobase = 0xf4\n");
	assert_refused("--device ,x", "--device: '' is not one of one|two");
	assert_refused("--device memory", "--device: 'memory' is not one of one|two");
	assert_refused("--device on", "--device: 'on' is not one of one|two");
}

static void words_take_pairs(void **state)
{
	assert_keys("--clock host", "clock = host\n");
	assert_keys("--clock icount,idle=skip,base=0", "clock = icount\nclock.base = 0\nclock.idle = skip\n");
	assert_refused("--clock ,idle=skip", "--clock ,idle=skip: a value is missing");
	assert_keys("--clock icount,base", "clock = icount\nclock.base = on\n");
}

static void a_file_is_read_at_its_place(void **state)
{
	char path[] = "/tmp/vireo-test-XXXXXX", text[128];
	int fd = mkstemp(path);

	assert_true(write(fd, "memory = 3G\n", 12) == 12);
	close(fd);
	snprintf(text, sizeof(text), "-m 1G --config %s", path);
	assert_keys(text, "memory = 3G\n");
	snprintf(text, sizeof(text), "--config %s -m 1G", path);
	assert_keys(text, "memory = 1G\n");
	unlink(path);
}

static void operands_may_stand_anywhere(void **state)
{
	struct line *l = parse("one -s two");

	assert_int_equal(l->operands, 2);
	assert_string_equal(l->argv[0], "one");
	assert_string_equal(l->argv[1], "two");
	config_free(l->c);
	l = parse("-- -s");
	assert_int_equal(l->operands, 1);
	assert_string_equal(l->argv[0], "-s");
	config_free(l->c);
	l = parse("-");
	assert_int_equal(l->operands, 1);
	config_free(l->c);
	assert_refused("a b c", "unexpected argument 'c' (see 'vireo help go')");
}

static void help_is_a_request_but_not_as_a_value(void **state)
{
	struct line *l = parse("one -m 2G --help --nonsense");

	assert_int_equal(l->parsed, CLI_PARSED_HELP);
	config_free(l->c);
	assert_keys("-m --help", "memory = --help\n");
}

static void slips_are_told(void **state)
{
	assert_refused("--memroy 2G", "unknown option '--memroy' (did you mean '--memory'?)");
	assert_refused("--frobnicate", "unknown option '--frobnicate' (see 'vireo help go')");
	assert_refused("-x", "unknown option '-x' (see 'vireo help go')");
	assert_refused("--memory", "option '--memory' needs SIZE");
	assert_refused("-s=on", "option '--stats' takes no value");
	assert_refused("--stats=on", "option '--stats' takes no value");
	assert_refused("-memory 2G", "unknown option '-memory' (did you mean '--memory'?)");
	assert_refused("-sx", "unknown option '-sx' (see 'vireo help go')");
	assert_refused("--set =x", "--set =x: expected KEY=VALUE");
	assert_refused("--set novalue", "--set novalue: expected KEY=VALUE");
}

static const char *nearest(const char *word)
{
	static const char *const words[] = { "run", "restore", "console", "stop" };
	struct suggestion s;

	suggest_begin(&s, word);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		suggest_offer(&s, words[i]);
	suggest_offer(
		&s,
		"a-candidate-that-is-longer-than-the-table-of-distances-has-room-for-and-must-not-be-written-into-it-"
		"although-a-word-is-compared-with-it");
	return s.best;
}

static void suggestions_are_near(void **state)
{
	assert_string_equal(nearest("rnu"), "run");
	assert_string_equal(nearest("stpo"), "stop");
	assert_string_equal(nearest("rstroe"), "restore");
	assert_string_equal(nearest("con"), "console");
	assert_null(nearest("ps"));
	assert_null(nearest("x"));
	assert_null(nearest(""));
	assert_null(nearest("a-word-that-is-near-to-none-of-them-and-longer-than-the-table-of-distances-has-room-for-"
			    "so-that-it-must-not-be-looked-at-any-further"));
}

static char *document(void (*print)(FILE *out))
{
	char *text;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	print(f);
	fclose(f);
	return text;
}

static void the_man_page_escapes_what_troff_would_read(void **state)
{
	char *page = document(cli_man_page);

	assert_non_null(strstr(page, "\\fISIZE\\fR\n\\&.5G or \\e of it.\n"));
	assert_non_null(strstr(page, "First.\n.PP\n\\&'Second' paragraph.\n"));
	assert_non_null(strstr(page, ".B \\-m, \\-\\-memory"));
	free(page);
}

static void the_completion_has_the_values(void **state)
{
	char *script = document(cli_bash_completion);

	assert_non_null(strstr(script, "--device) words='one|two' ;;"));
	assert_non_null(strstr(script, "-d | --disk) words='@file' ;;"));
	assert_non_null(
		strstr(script, "options='--memory --disk --device --clock --serial --config --set --stats --verbose'"));
	free(script);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_become_keys),
		cmocka_unit_test(series_are_numbered),
		cmocka_unit_test(switches_turn_a_key_on),
		cmocka_unit_test(words_take_pairs),
		cmocka_unit_test(a_file_is_read_at_its_place),
		cmocka_unit_test(operands_may_stand_anywhere),
		cmocka_unit_test(help_is_a_request_but_not_as_a_value),
		cmocka_unit_test(slips_are_told),
		cmocka_unit_test(suggestions_are_near),
		cmocka_unit_test(the_man_page_escapes_what_troff_would_read),
		cmocka_unit_test(the_completion_has_the_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
