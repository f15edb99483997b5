/* `vireo screenshot`, `screentext`, `sendkey` and `type`: a machine's screen and keyboard, through its control socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/input.h"
#include "cli/client.h"
#include "cli/commands.h"

#define CHORD_MAX  8
#define KEY_GAP_MS 20 /* a firmware that polls reads some tens of keys a second */

/* --- pictures --- */

static int take(const char *name, const char *path, const char *format, struct err *err)
{
	struct client *vm = client_open(name, CLIENT_PATIENCE_MS, err);
	json_t *answer = NULL;

	if (!vm)
		return -1;
	answer = client_execute(vm, "screendump", json_pack("{s:s,s:s}", "filename", path, "format", format), err);
	client_close(vm);
	json_decref(answer);
	return answer ? 0 : -1;
}

static int copy_out(int fd, struct err *err)
{
	char buf[65536];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		if (fwrite(buf, 1, (size_t)n, stdout) != (size_t)n)
			return err_errno(err, errno, "standard output");
	return n < 0 ? err_errno(err, errno, "the picture") : 0;
}

/* The machine writes a file; this is one that only we see. */
static int take_to_stdout(const char *name, struct err *err)
{
	char directory[] = "/tmp/vireo-screenshot.XXXXXX", path[64];
	int fd, rc;

	if (!mkdtemp(directory))
		return err_errno(err, errno, "%s", directory);
	snprintf(path, sizeof(path), "%s/png", directory);
	rc = take(name, path, "png", err);
	fd = rc ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	if (!rc)
		rc = fd < 0 ? err_errno(err, errno, "%s", path) : copy_out(fd, err);
	if (fd >= 0)
		close(fd);
	unlink(path);
	rmdir(directory);
	return rc;
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && !strcmp(s + n - m, end);
}

static int screenshot(struct config *c, int argc, char **argv)
{
	char path[PATH_MAX];
	struct err err;

	if (!strcmp(argv[1], "-"))
		return take_to_stdout(argv[0], &err) ? cli_fail(&err) : 0;
	if (!ends_with(argv[1], ".png") && !ends_with(argv[1], ".ppm")) {
		err_set(&err, "%s: a picture is FILE.png, FILE.ppm, or - for a PNG on standard output", argv[1]);
		return cli_fail(&err);
	}
	return client_path(argv[1], path, &err) || take(argv[0], path, ends_with(path, ".png") ? "png" : "ppm", &err)
		       ? cli_fail(&err)
		       : 0;
}

/* --- characters --- */

static int screentext(struct config *c, int argc, char **argv)
{
	struct err err;
	struct client *vm = client_open(argv[0], CLIENT_PATIENCE_MS, &err);
	json_t *answer, *line;
	size_t n, last = 0;

	if (!vm)
		return cli_fail(&err);
	answer = client_execute(vm, "x-vireo-screentext", NULL, &err);
	client_close(vm);
	if (!answer)
		return cli_fail(&err);
	json_array_foreach(json_object_get(answer, "lines"), n, line) last = json_string_length(line) ? n + 1 : last;
	for (n = 0; n < last; n++)
		puts(json_string_value(json_array_get(json_object_get(answer, "lines"), n)));
	json_decref(answer);
	return 0;
}

/* --- keys --- */

static void add_key(json_t *keys, const char *name)
{
	json_array_append_new(keys, json_pack("{s:s,s:s}", "type", "qcode", "data", name));
}

/* "ctrl-alt-f2" */
static json_t *chord(const char *text, struct err *err)
{
	json_t *keys = json_array();
	char name[32];

	for (const char *at = text;; at++) {
		size_t len = strcspn(at, "-");

		snprintf(name, sizeof(name), "%.*s", (int)(len < sizeof(name) ? len : sizeof(name) - 1), at);
		if (len >= sizeof(name) || !input_key(name) || json_array_size(keys) == CHORD_MAX) {
			err_set(err, "%s: '%.*s' is no key, as ret, a, f2 or ctrl; at most %d with - between them",
				text, (int)(len < 32 ? len : 32), at, CHORD_MAX);
			json_decref(keys);
			return NULL;
		}
		add_key(keys, name);
		at += len;
		if (!*at)
			return keys;
	}
}

static void add_number(json_t *keys, unsigned key)
{
	json_array_append_new(keys, json_pack("{s:s,s:i}", "type", "number", "data", (int)key));
}

static json_t *key_of(char c)
{
	bool shift;
	unsigned key = input_char(c, &shift);
	json_t *keys;

	if (!key)
		return NULL;
	keys = json_array();
	if (shift)
		add_number(keys, input_key("shift"));
	add_number(keys, key);
	return keys;
}

/* Takes the list of lists. */
static int press_all(const char *name, json_t *list, struct err *err)
{
	const struct timespec gap = { 0, KEY_GAP_MS * 1000000 };
	struct client *vm = client_open(name, CLIENT_PATIENCE_MS, err);
	json_t *keys, *answer;
	size_t n;
	int rc = vm ? 0 : -1;

	json_array_foreach(list, n, keys)
	{
		if (rc)
			break;
		answer = client_execute(vm, "send-key", json_pack("{s:O}", "keys", keys), err);
		rc = answer ? 0 : -1;
		json_decref(answer);
		nanosleep(&gap, NULL);
	}
	if (vm)
		client_close(vm);
	json_decref(list);
	return rc;
}

static int sendkey(struct config *c, int argc, char **argv)
{
	json_t *list = json_array(), *keys;
	struct err err;

	for (int n = 1; n < argc; n++) {
		keys = chord(argv[n], &err);
		if (!keys) {
			json_decref(list);
			return cli_fail(&err);
		}
		json_array_append_new(list, keys);
	}
	return press_all(argv[0], list, &err) ? cli_fail(&err) : 0;
}

static int type(struct config *c, int argc, char **argv)
{
	json_t *list = json_array(), *keys;
	struct err err;

	for (const char *at = argv[1]; *at; at++) {
		keys = key_of(*at);
		if (!keys) {
			json_decref(list);
			err_set(&err, "byte %#x at %zu of the text: a keyboard of the United States has no such key",
				(unsigned)(unsigned char)*at, (size_t)(at - argv[1]));
			return cli_fail(&err);
		}
		json_array_append_new(list, keys);
	}
	return press_all(argv[0], list, &err) ? cli_fail(&err) : 0;
}

const struct cli_command cli_screenshot_command = {
	.name = "screenshot",
	.summary = "Save what a machine's screen shows as a picture",
	.operands = "NAME FILE",
	.min_operands = 2,
	.max_operands = 2,
	.operand_words = { "@machine", "@file" },
	.text = "FILE ends in .png or .ppm, or is - for a PNG on standard output. The machine has a screen with --vga "
		"std.",
	.run = screenshot,
};

const struct cli_command cli_screentext_command = {
	.name = "screentext",
	.summary = "Print the characters that a machine's screen shows",
	.operands = "NAME",
	.min_operands = 1,
	.max_operands = 1,
	.operand_words = { "@machine" },
	.text = "Of a screen that shows text, or the picture of a Linux console in the usual font of 8x16 dots.",
	.run = screentext,
};

const struct cli_command cli_sendkey_command = {
	.name = "sendkey",
	.summary = "Press keys of a machine's keyboard",
	.operands = "NAME KEY[-KEY]...",
	.min_operands = 2,
	.max_operands = CLI_MANY,
	.operand_words = { "@machine" },
	.text = "Keys that are joined by - are held together: `vireo sendkey box ctrl-alt-f2`. Several are pressed one "
		"after\n"
		"the other. Names are QEMU's: a, 1, ret, spc, esc, tab, f1, up, pgup, delete, minus, shift, ctrl, alt.",
	.run = sendkey,
};

const struct cli_command cli_type_command = {
	.name = "type",
	.summary = "Type a text on a machine's keyboard",
	.operands = "NAME TEXT",
	.min_operands = 2,
	.max_operands = 2,
	.operand_words = { "@machine" },
	.text = "As on a keyboard of the United States, which is what the guest should believe to have. A line break "
		"is\n"
		"Enter: vireo type box $'ls\\n'.",
	.run = type,
};
