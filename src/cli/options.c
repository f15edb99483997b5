/* The parser behind the option tables. */
#include "cli/options.h"

#include <stdlib.h>
#include <string.h>

#include "base/suggest.h"

const struct cli_command *cli_command_find(const char *name, struct err *err)
{
	struct suggestion s;

	suggest_begin(&s, name);
	for (const struct cli_command *const *c = cli_commands; *c; c++) {
		if (!strcmp((*c)->name, name))
			return *c;
		suggest_offer(&s, (*c)->name);
	}
	if (s.best)
		err_set(err, "no command '%s' (did you mean '%s'?)", name, s.best);
	else
		err_set(err, "no command '%s' (see 'vireo help')", name);
	return NULL;
}

static const struct cli_option *find_option(const struct cli_command *cmd, const char *name, size_t len, char letter)
{
	for (const struct cli_option *o = cmd->options; o && o->name; o++)
		if (letter ? o->letter == letter : strlen(o->name) == len && !strncmp(o->name, name, len))
			return o;
	return NULL;
}

/* How many uses of a series ("disk0", "disk1", ...) the tree holds. */
static unsigned series_length(struct config *c, const char *key)
{
	char prefix[64];
	unsigned n = 0;

	do
		snprintf(prefix, sizeof(prefix), "%s%u", key, n++);
	while (config_has(c, prefix));
	return n - 1;
}

/*
 * Split "a,k=v,k2=v2" (",," is a literal comma) and set BASE.k for each pair; a leading bare word goes
 * to `first`.
 */
static int set_pairs(struct config *c, const char *base, const char *first, const char *text, const char *option,
		     struct err *err)
{
	char *copy = strdup(text), *p = copy;
	int ret = -1;
	bool leading = true;

	if (!copy)
		return err_set(err, "out of memory");
	while (*p) {
		char *item = p, *w = p, key[192];

		while (*p && !(*p == ',' && p[1] != ',')) {
			if (*p == ',')
				p++;
			*w++ = *p++;
		}
		bool more = *p == ',';
		*w = '\0';
		if (more)
			p++;
		char *eq = strchr(item, '=');
		size_t name_len = eq ? (size_t)(eq - item) : 0;
		bool bare = leading && first && (!eq || memchr(item, '/', name_len) || memchr(item, '.', name_len));

		leading = false;
		if (!bare && !eq) {
			err_set(err, "--%s %s: '%s' is not KEY=VALUE", option, text, item);
			goto out;
		}
		if (bare) {
			snprintf(key, sizeof(key), "%s.%s", base, first);
		} else {
			*eq = '\0';
			snprintf(key, sizeof(key), "%s.%s", base, item);
		}
		if (config_set(c, key, bare ? item : eq + 1, err))
			goto out;
	}
	ret = 0;
out:
	free(copy);
	return ret;
}

/* "WORD,k=v": `key` (NULL: WORD itself) gets `value` (NULL: WORD), and KEY.k gets v. */
static int apply_word(const struct cli_option *o, struct config *c, const char *text, const char *value,
		      struct err *err)
{
	char word[96];
	const char *key = o->key ? o->key : word;
	size_t n = strcspn(text, ",");

	if (!n || n >= sizeof(word))
		return err_set(err, "--%s %s: a %s is missing", o->name, text, value ? "device name" : "value");
	memcpy(word, text, n);
	word[n] = '\0';
	if (config_set(c, key, value ? value : word, err))
		return -1;
	return text[n] ? set_pairs(c, key, NULL, text + n + 1, o->name, err) : 0;
}

static int apply(const struct cli_option *o, struct config *c, const char *value, struct err *err)
{
	char base[96];
	const char *eq;

	switch (o->kind) {
	case CLI_FLAG:
		return config_set(c, o->key, "on", err);
	case CLI_VALUE:
		return strcmp(o->name, "config") ? config_set(c, o->key, value, err) : config_read_file(c, value, err);
	case CLI_SERIES:
		snprintf(base, sizeof(base), "%s%u", o->key, series_length(c, o->key));
		return set_pairs(c, base, o->first, value, o->name, err);
	case CLI_SWITCH:
		return apply_word(o, c, value, "on", err);
	case CLI_PAIRS:
		return apply_word(o, c, value, NULL, err);
	case CLI_SET:
		eq = strchr(value, '=');
		if (!eq || eq == value || (size_t)(eq - value) >= sizeof(base))
			return err_set(err, "--%s %s: expected KEY=VALUE", o->name, value);
		memcpy(base, value, eq - value);
		base[eq - value] = '\0';
		return config_set(c, base, eq + 1, err);
	}
	return -1;
}

static int unknown_option(const struct cli_command *cmd, const char *arg, struct err *err)
{
	struct suggestion s = { 0 };
	char name[64];

	if (arg[1] == '-') {
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(arg + 2, "="), arg + 2);
		suggest_begin(&s, name);
		for (const struct cli_option *o = cmd->options; o && o->name; o++)
			suggest_offer(&s, o->name);
	}
	if (s.best)
		return err_set(err, "unknown option '%s' (did you mean '--%s'?)", arg, s.best);
	return err_set(err, "unknown option '%s' (see 'vireo help %s')", arg, cmd->name);
}

static bool asks_for_help(const char *arg)
{
	return !strcmp(arg, "--help") || !strcmp(arg, "-h");
}

/* One argument that starts with '-'. Returns how many arguments were used, 0 when it asks for help, or -1. */
static int parse_option(const struct cli_command *cmd, struct config *c, int left, char **argv, struct err *err)
{
	const char *arg = argv[0], *value = NULL;
	const struct cli_option *o;

	if (arg[1] == '-') {
		size_t len = strcspn(arg + 2, "=");

		o = find_option(cmd, arg + 2, len, 0);
		if (arg[2 + len] == '=')
			value = arg + 2 + len + 1;
	} else {
		o = find_option(cmd, NULL, 0, arg[1]);
		if (arg[2])
			value = arg + 2;
	}
	if (!o)
		return asks_for_help(arg) ? 0 : unknown_option(cmd, arg, err);
	if (o->kind == CLI_FLAG) {
		if (value)
			return err_set(err, "option '--%s' takes no value", o->name);
		return apply(o, c, NULL, err) ? -1 : 1;
	}
	int used = value ? 1 : 2;
	if (!value) {
		if (left < 2)
			return err_set(err, "option '--%s' needs %s", o->name, o->metavar);
		value = argv[1];
	}
	return apply(o, c, value, err) ? -1 : used;
}

int cli_parse(const struct cli_command *cmd, struct config *c, int argc, char **argv, int *operands, struct err *err)
{
	bool only_operands = false;

	*operands = 0;
	for (int i = 0; i < argc;) {
		if (!only_operands && !strcmp(argv[i], "--")) {
			only_operands = true;
			i++;
		} else if (!only_operands && argv[i][0] == '-' && argv[i][1]) {
			int used = parse_option(cmd, c, argc - i, argv + i, err);

			if (used <= 0)
				return used ? -1 : CLI_PARSED_HELP;
			i += used;
		} else {
			if (*operands >= cmd->max_operands)
				return err_set(err, "unexpected argument '%s' (see 'vireo help %s')", argv[i],
					       cmd->name);
			argv[(*operands)++] = argv[i++];
		}
	}
	if (*operands < cmd->min_operands)
		return err_set(err, "usage: vireo %s %s", cmd->name, cmd->operands);
	return 0;
}

int cli_fail(const struct err *err)
{
	fprintf(stderr, "vireo: %s\n", err->msg);
	return 1;
}
