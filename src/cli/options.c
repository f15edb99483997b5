/* The parser behind the option tables. */
#include "cli/options.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
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

bool cli_option_end(const struct cli_option *o)
{
	return !o || !(o->name || o->letter);
}

const char *cli_last_word(const struct cli_command *cmd)
{
	const char *space = strchr(cmd->name, ' ');

	return space ? space + 1 : cmd->name;
}

void cli_each_subcommand(const struct cli_command *cmd, cli_command_fn *fn, void *opaque)
{
	for (const struct cli_command *const *s = cmd->subcommands; s && *s; s++)
		fn(*s, opaque);
	if (cmd->each_subcommand)
		cmd->each_subcommand(fn, opaque);
}

struct sought {
	const char *name;
	cli_command_fn *fn; /* NULL: found */
	void *opaque;
	struct suggestion suggestion;
	const char *other; /* what the word is called here */
};

static bool is_called(const struct cli_command *cmd, const char *word)
{
	const size_t n = strlen(word);

	for (const char *p = n ? cmd->also : NULL; p && (p = strstr(p, word)); p += n)
		if ((p == cmd->also || p[-1] == '|') && (!p[n] || p[n] == '|'))
			return true;
	return false;
}

static void seek(const struct cli_command *cmd, void *opaque)
{
	struct sought *s = opaque;
	cli_command_fn *fn = s->fn;

	suggest_offer(&s->suggestion, cli_last_word(cmd));
	if (is_called(cmd, s->name))
		s->other = cli_last_word(cmd);
	if (!fn || strcmp(cli_last_word(cmd), s->name))
		return;
	s->fn = NULL;
	fn(cmd, s->opaque);
}

int cli_subcommand(const struct cli_command *cmd, const char *name, cli_command_fn *fn, void *opaque, struct err *err)
{
	struct sought s = { .name = name, .fn = fn, .opaque = opaque };

	if (!cmd->subcommands && !cmd->each_subcommand)
		return err_set(err, "%s has no commands (see 'vireo help %s')", cmd->name, cmd->name);
	suggest_begin(&s.suggestion, name);
	cli_each_subcommand(cmd, seek, &s);
	if (!s.fn)
		return 0;
	if (s.other || s.suggestion.best)
		return err_set(err, "%s: no command '%s' (did you mean '%s'?)", cmd->name, name,
			       s.other ? s.other : s.suggestion.best);
	return err_set(err, "%s: no command '%s' (see 'vireo help %s')", cmd->name, name, cmd->name);
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

/* A key that comes twice in one option is a list: its values are joined by '+' ("hostfwd"). */
static int append(struct config *c, const char *key, const char *value, struct err *err)
{
	const char *old = config_peek(c, key);
	char *both;
	int ret;

	if (!old)
		return config_set(c, key, value, err);
	if (asprintf(&both, "%s+%s", old, value) < 0)
		return err_set(err, "out of memory");
	ret = config_set(c, key, both, err);
	free(both);
	return ret;
}

/*
 * Split "a,k=v,k2" (",," is a literal comma) and set BASE.k for each pair, to "on" without a value; a leading bare word
 * goes to `first`. "ro" is short for "readonly".
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
		if (!*item || eq == item) {
			err_set(err, "--%s %s: a key is missing", option, text);
			goto out;
		}
		if (eq && !bare)
			*eq = '\0';
		snprintf(key, sizeof(key), "%s.%s", base, bare ? first : strcmp(item, "ro") ? item : "readonly");
		if ((first ? append : config_set)(c, key, bare ? item : eq ? eq + 1 : "on", err))
			goto out;
	}
	ret = 0;
out:
	free(copy);
	return ret;
}

/* Whether `word`, of `len` bytes, is in a list "a|b|c". */
static bool listed(const char *list, const char *word, size_t len)
{
	while (list && *list) {
		size_t n = strcspn(list, "|");

		if (n == len && !strncmp(list, word, n))
			return true;
		list += n + (list[n] == '|');
	}
	return false;
}

/* "WORD,k=v": `key` (NULL: WORD itself) gets `value` (NULL: WORD), and KEY.k gets v. */
static int apply_word(const struct cli_option *o, struct config *c, const char *text, const char *value,
		      struct err *err)
{
	char word[96];
	const char *key = o->key ? o->key : word;
	size_t n = strcspn(text, ",");

	if (!o->key && !listed(o->words, text, n))
		return err_set(err, "--%s: '%.*s' is not one of %s", o->name, (int)n, text, o->words);
	if (!n || n >= sizeof(word))
		return err_set(err, "--%s %s: a value is missing", o->name, text);
	memcpy(word, text, n);
	word[n] = '\0';
	if (config_set(c, key, value ? value : word, err))
		return -1;
	return text[n] ? set_pairs(c, key, NULL, text + n + 1, o->name, err) : 0;
}

static int apply_set(const struct cli_option *o, struct config *c, const char *value, struct err *err)
{
	const char *eq = strchr(value, '=');
	char key[160];

	if (!eq || eq == value || (size_t)(eq - value) >= sizeof(key))
		return err_set(err, "--%s %s: expected KEY=VALUE", o->name, value);
	memcpy(key, value, (size_t)(eq - value));
	key[eq - value] = '\0';
	return config_set(c, key, eq + 1, err);
}

/* `use` counts how often the option was given before. */
static int apply(const struct cli_option *o, struct config *c, const char *value, unsigned use, struct err *err)
{
	char base[96];

	switch (o->kind) {
	case CLI_FLAG:
		return config_set(c, o->key, "on", err);
	case CLI_VALUE:
		return config_set(c, o->key, value, err);
	case CLI_NUMBERED:
		snprintf(base, sizeof(base), "%s%u", o->key, use);
		return config_set(c, base, value, err);
	case CLI_SERIES:
		if (!*value)
			return err_set(err, "option '--%s' needs %s", o->name, o->metavar);
		snprintf(base, sizeof(base), "%s%u", o->key, series_length(c, o->key));
		return set_pairs(c, base, o->first, value, o->name, err);
	case CLI_SWITCH:
		return apply_word(o, c, value, "on", err);
	case CLI_PAIRS:
		return apply_word(o, c, value, NULL, err);
	case CLI_SET:
		return apply_set(o, c, value, err);
	case CLI_CONFIG:
		return config_read_file(c, value, err);
	}
	return -1;
}

static int unknown_option(const struct cli_command *cmd, const char *arg, struct err *err)
{
	const char *name = arg + 1 + (arg[1] == '-');
	char word[64];
	struct suggestion s;

	snprintf(word, sizeof(word), "%.*s", (int)strcspn(name, "="), name);
	suggest_begin(&s, word);
	for (const struct cli_option *o = cmd->options; o && o->name; o++)
		suggest_offer(&s, o->name);
	if (s.best)
		return err_set(err, "unknown option '%s' (did you mean '--%s'?)", arg, s.best);
	return err_set(err, "unknown option '%s' (see 'vireo help %s')", arg, cmd->name);
}

struct parser {
	const struct cli_command *cmd;
	struct config *c;
	int left; /* arguments from here on */
	char **argv;
	unsigned uses[64]; /* by option */
	struct err *err;
};

/* An option with what follows it in the same argument. Returns how many arguments were used, or -1. */
static int give(struct parser *p, const struct cli_option *o, const char *value)
{
	unsigned *use = &p->uses[(size_t)(o - p->cmd->options) % ARRAY_LEN(p->uses)];
	int used = 1;

	if (o->kind != CLI_FLAG && !value) {
		if (p->left < 2)
			return err_set(p->err, "option '--%s' needs %s", o->name, o->metavar);
		value = p->argv[1];
		used = 2;
	}
	return apply(o, p->c, value, (*use)++, p->err) ? -1 : used;
}

static int long_option(struct parser *p)
{
	const char *name = p->argv[0] + 2;
	size_t len = strcspn(name, "=");
	const struct cli_option *o = find_option(p->cmd, name, len, 0);

	if (!o)
		return unknown_option(p->cmd, p->argv[0], p->err);
	if (o->kind == CLI_FLAG && name[len])
		return err_set(p->err, "option '--%s' takes no value", o->name);
	return give(p, o, name[len] ? name + len + 1 : NULL);
}

/* -v, -m2G, -m 2G, and flags together: -fv. */
static int short_options(struct parser *p)
{
	const char *arg = p->argv[0];

	/* "-kernel" is not "-k ernel". */
	if (arg[2] && find_option(p->cmd, arg + 1, strcspn(arg + 1, "="), 0))
		return unknown_option(p->cmd, arg, p->err);
	for (const char *letter = arg + 1; *letter; letter++) {
		const struct cli_option *o = find_option(p->cmd, NULL, 0, *letter);
		int used;

		if (!o)
			return unknown_option(p->cmd, arg, p->err);
		if (o->kind == CLI_FLAG && letter[1] == '=')
			return err_set(p->err, "option '--%s' takes no value", o->name);
		used = give(p, o, o->kind != CLI_FLAG && letter[1] ? letter + 1 : NULL);
		if (used < 0 || o->kind != CLI_FLAG)
			return used;
	}
	return 1;
}

int cli_parse(const struct cli_command *cmd, struct config *c, int argc, char **argv, int *operands, struct err *err)
{
	struct parser p = { .cmd = cmd, .c = c, .err = err };
	bool only_operands = false;

	*operands = 0;
	for (int i = 0; i < argc;) {
		const char *arg = argv[i];
		int used = 1;

		p.left = argc - i;
		p.argv = argv + i;
		if (!only_operands && !strcmp(arg, "--"))
			only_operands = true;
		else if (!only_operands && (!strcmp(arg, "--help") || !strcmp(arg, "-h")))
			return CLI_PARSED_HELP;
		else if (!only_operands && arg[0] == '-' && arg[1])
			used = arg[1] == '-' ? long_option(&p) : short_options(&p);
		else if (*operands >= cmd->max_operands)
			return err_set(err, "unexpected argument '%s' (see 'vireo help %s')", arg, cmd->name);
		else
			argv[(*operands)++] = argv[i];
		if (used < 0)
			return -1;
		i += used;
	}
	if (*operands < cmd->min_operands)
		return err_set(err, "usage: vireo %s%s %s", cmd->name, cmd->options ? " [OPTION]..." : "",
			       cmd->operands);
	return 0;
}

static const char *program = "vireo";

void cli_set_program(const char *name)
{
	program = name;
}

int cli_fail(const struct err *err)
{
	fprintf(stderr, "%s: %s\n", program, err->msg);
	return 1;
}
