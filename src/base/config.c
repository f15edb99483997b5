/* The configuration tree: a sorted array of entries. */
#include "base/config.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/suggest.h"

#define KEY_MAX_LEN  127
#define LINE_MAX_LEN 4096

struct entry {
	char *key, *value;
	char *origin; /* "FILE:LINE" or an option, for errors; NULL: the command line */
	bool read;
};

struct config {
	struct entry *entries;
	size_t count;
	/* Keys that were asked for, present or not: what an error may suggest. */
	char **asked;
	size_t asked_count;
};

struct config *config_new(void)
{
	return calloc(1, sizeof(struct config));
}

static void free_entries(struct config *c)
{
	for (size_t i = 0; i < c->count; i++) {
		free(c->entries[i].key);
		free(c->entries[i].value);
		free(c->entries[i].origin);
	}
	free(c->entries);
	c->entries = NULL;
	c->count = 0;
}

void config_free(struct config *c)
{
	if (!c)
		return;
	free_entries(c);
	for (size_t i = 0; i < c->asked_count; i++)
		free(c->asked[i]);
	free(c->asked);
	free(c);
}

/* "disk10" sorts after "disk2", so numbers compare as numbers. */
static int key_cmp(const char *a, const char *b)
{
	return strverscmp(a, b);
}

/* The index of `key`, or where it belongs. */
static size_t locate(const struct config *c, const char *key, bool *found)
{
	size_t lo = 0, hi = c->count;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int cmp = key_cmp(c->entries[mid].key, key);

		if (!cmp) {
			*found = true;
			return mid;
		}
		if (cmp < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*found = false;
	return lo;
}

static bool valid_key(const char *key)
{
	bool part_empty = true;

	if (strlen(key) > KEY_MAX_LEN)
		return false;
	for (; *key; key++) {
		if (*key == '.') {
			if (part_empty)
				return false;
			part_empty = true;
		} else if (islower((unsigned char)*key) || isdigit((unsigned char)*key) || *key == '_' || *key == '-') {
			part_empty = false;
		} else {
			return false;
		}
	}
	return !part_empty;
}

/* A copy of the value, which is one line. */
static char *copy_value(const char *key, const char *value, struct err *err)
{
	char *copy;

	if (!valid_key(key)) {
		err_set(err, "key '%.130s': keys are a-z, 0-9, '_' and '-', joined by dots", key);
		return NULL;
	}
	if (value[strcspn(value, "\r\n")]) {
		err_set(err, "%s: a value is one line", key);
		return NULL;
	}
	copy = strdup(value);
	if (!copy)
		err_set(err, "out of memory");
	return copy;
}

static int insert(struct config *c, size_t at, const char *key, struct err *err)
{
	struct entry *grown = realloc(c->entries, (c->count + 1) * sizeof(*grown));
	char *copy = strdup(key);

	if (grown)
		c->entries = grown;
	if (!grown || !copy) {
		free(copy);
		return err_set(err, "out of memory");
	}
	memmove(grown + at + 1, grown + at, (c->count - at) * sizeof(*grown));
	grown[at] = (struct entry){ .key = copy };
	c->count++;
	return 0;
}

static int set(struct config *c, const char *key, const char *value, const char *origin, struct err *err)
{
	char *copy = copy_value(key, value, err);
	struct entry *e;
	bool found;
	size_t at;

	if (!copy)
		return -1;
	at = locate(c, key, &found);
	if (!found && insert(c, at, key, err)) {
		free(copy);
		return -1;
	}
	e = &c->entries[at];
	free(e->value);
	free(e->origin);
	e->value = copy;
	e->origin = origin ? strdup(origin) : NULL;
	e->read = false;
	return 0;
}

int config_set(struct config *c, const char *key, const char *value, struct err *err)
{
	return set(c, key, value, NULL, err);
}

int config_set_from(struct config *c, const char *key, const char *value, const char *origin, struct err *err)
{
	return set(c, key, value, origin, err);
}

static bool was_asked(const struct config *c, const char *key)
{
	for (size_t i = 0; i < c->asked_count; i++)
		if (!strcmp(c->asked[i], key))
			return true;
	return false;
}

int config_copy(struct config *to, const struct config *from, struct err *err)
{
	free_entries(to);
	for (size_t i = 0; i < from->count; i++) {
		const struct entry *e = &from->entries[i];
		bool found;

		if (set(to, e->key, e->value, e->origin, err))
			return -1;
		to->entries[locate(to, e->key, &found)].read = was_asked(to, e->key);
	}
	return 0;
}

static void remember_asked(struct config *c, const char *key)
{
	if (was_asked(c, key))
		return;
	char **grown = realloc(c->asked, (c->asked_count + 1) * sizeof(*grown));
	if (!grown)
		return;
	c->asked = grown;
	if ((grown[c->asked_count] = strdup(key)))
		c->asked_count++;
}

const char *config_get(struct config *c, const char *key)
{
	bool found;
	size_t at = locate(c, key, &found);

	remember_asked(c, key);
	if (!found)
		return NULL;
	c->entries[at].read = true;
	return c->entries[at].value;
}

const char *config_peek(const struct config *c, const char *key)
{
	bool found;
	size_t at = locate(c, key, &found);

	return found ? c->entries[at].value : NULL;
}

/* Where the user wrote the value comes first. */
static int tell_origin(const struct entry *e, struct err *err)
{
	return e->origin ? err_prefix(err, "%s", e->origin) : -1;
}

void config_tell_origin(const struct config *c, struct err *err)
{
	char key[KEY_MAX_LEN + 1];
	size_t n = strcspn(err->msg, ":"), at;
	bool found;

	if (n >= sizeof(key))
		return;
	memcpy(key, err->msg, n);
	key[n] = 0;
	at = locate(c, key, &found);
	if (found) {
		tell_origin(&c->entries[at], err);
		return;
	}
	/* One that is missing, or "net0" alone: where the user wrote of the same thing. */
	n = strcspn(key, ".");
	for (at = 0; n && at < c->count; at++) {
		const struct entry *e = &c->entries[at];

		if (!e->origin || strncmp(e->key, key, n) || e->key[n] != '.')
			continue;
		tell_origin(e, err);
		return;
	}
}

int config_choose(struct config *c, const char *key, const char *value, struct err *err)
{
	int rc = config_set(c, key, value, err);

	config_get(c, key);
	return rc;
}

int config_str(struct config *c, const char *key, const char *dflt, const char **out, struct err *err)
{
	const char *v = config_get(c, key);

	if (v && !*v)
		return err_set(err, "%s: the value is empty", key);
	*out = v ? v : dflt;
	return 0;
}

int parse_bool(const char *text)
{
	static const char *const words[] = { "off", "on", "no", "yes", "false", "true", "n", "y" };

	for (int i = 0; i < (int)(sizeof(words) / sizeof(words[0])); i++)
		if (!strcasecmp(text, words[i]))
			return i & 1;
	return -1;
}

int config_bool(struct config *c, const char *key, bool dflt, bool *out, struct err *err)
{
	const char *v = config_get(c, key);
	int value = v ? parse_bool(v) : dflt;

	*out = value > 0;
	return value < 0 ? err_set(err, "%s: '%s' is neither on nor off", key, v) : 0;
}

int config_uint(struct config *c, const char *key, uint64_t dflt, struct config_range range, uint64_t *out,
		struct err *err)
{
	const char *v = config_get(c, key);
	char *end;

	*out = dflt;
	if (!v)
		return 0;
	errno = 0;
	/* Decimal or hexadecimal: nobody means octal by 010. */
	*out = strtoull(v, &end, v[0] == '0' && (v[1] | 32) == 'x' ? 16 : 10);
	if (!isdigit((unsigned char)*v) || *end || errno || *out < range.min || *out > range.max)
		return err_set(err, "%s: '%s' is not a number from %" PRIu64 " to %" PRIu64, key, v, range.min,
			       range.max);
	return 0;
}

int parse_size(const char *text, uint64_t unit, uint64_t *out)
{
	static const char letters[] = "kmgtp";
	char *end;
	double fraction = 0;
	uint64_t whole, mult = unit;

	if (!isdigit((unsigned char)text[*text == '.']))
		return -1;
	errno = 0;
	whole = strtoull(text, &end, *text == '0' && (text[1] | 32) == 'x' ? 16 : 10);
	if (errno)
		return -1;
	if (*end == '.') {
		double scale = 0.1;

		for (end++; isdigit((unsigned char)*end); end++, scale /= 10)
			fraction += (*end - '0') * scale;
	}
	if (*end) {
		const char *l = strchr(letters, tolower((unsigned char)*end));

		if (l && *l) {
			mult = 1024ull << (10 * (l - letters));
			end++;
			if (*end == 'i')
				end++;
		} else {
			mult = 1;
		}
		if (tolower((unsigned char)*end) == 'b')
			end++;
	}
	if (*end || __builtin_mul_overflow(whole, mult, out))
		return -1;
	return __builtin_add_overflow(*out, (uint64_t)(fraction * (double)mult), out) ? -1 : 0;
}

int config_size(struct config *c, const char *key, uint64_t dflt, uint64_t unit, uint64_t *out, struct err *err)
{
	const char *v = config_get(c, key);

	*out = dflt;
	if (v && parse_size(v, unit, out))
		return err_set(err, "%s: '%s' is not a size such as 512M or 2G", key, v);
	return 0;
}

int config_choice(struct config *c, const char *key, int dflt, const char *const *words, int *out, struct err *err)
{
	const char *v = config_get(c, key);
	char list[256] = "";

	*out = dflt;
	if (!v)
		return 0;
	for (int i = 0; words[i]; i++) {
		size_t n = strlen(list);

		if (!strcmp(v, words[i])) {
			*out = i;
			return 0;
		}
		snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "", words[i]);
	}
	return err_set(err, "%s: '%s' is not one of %s", key, v, list);
}

bool config_has(struct config *c, const char *prefix)
{
	size_t n = strlen(prefix);

	for (size_t i = 0; i < c->count; i++)
		if (!strncmp(c->entries[i].key, prefix, n) && c->entries[i].key[n] == '.')
			return true;
	return false;
}

static char *trim(char *s)
{
	char *end;

	while (isspace((unsigned char)*s))
		s++;
	end = s + strlen(s);
	while (end > s && isspace((unsigned char)end[-1]))
		*--end = '\0';
	return s;
}

/* One line of a file; `section` is where its keys belong, and may change. */
static int read_line(struct config *c, char *line, char section[KEY_MAX_LEN + 1], const char *origin, struct err *err)
{
	char key[2 * KEY_MAX_LEN + 2], *s = trim(line), *eq;
	size_t n = strlen(s);

	if (!n || *s == '#' || *s == ';')
		return 0;
	if (*s == '[') {
		if (s[n - 1] != ']' || n - 2 > KEY_MAX_LEN)
			return err_set(err, "%s: a section is [name]", origin);
		s[n - 1] = '\0';
		strcpy(section, trim(s + 1));
		return 0;
	}
	eq = strchr(s, '=');
	if (!eq)
		return err_set(err, "%s: expected KEY = VALUE", origin);
	*eq = '\0';
	snprintf(key, sizeof(key), "%s%s%s", section, *section ? "." : "", trim(s));
	return set(c, key, trim(eq + 1), origin, err) ? err_prefix(err, "%s", origin) : 0;
}

int config_read_file(struct config *c, const char *path, struct err *err)
{
	FILE *f = fopen(path, "re");
	char section[KEY_MAX_LEN + 1] = "", origin[256], line[LINE_MAX_LEN + 2];
	int rc = 0;

	if (!f)
		return err_errno(err, errno, "%s", path);
	for (int number = 1; !rc && fgets(line, sizeof(line), f); number++) {
		size_t n = strlen(line);

		snprintf(origin, sizeof(origin), "%.200s:%d", path, number);
		/* Too long, or a byte that is 0, unless it is the last line and has no end. */
		if ((!n || line[n - 1] != '\n') && !feof(f))
			rc = err_set(err, "%s: a line is text of at most %d bytes", origin, LINE_MAX_LEN);
		else
			rc = read_line(c, line, section, origin, err);
	}
	if (!rc && ferror(f))
		rc = err_errno(err, errno, "%s", path);
	fclose(f);
	return rc;
}

int config_each(const struct config *c, int (*fn)(void *opaque, const char *key, const char *value), void *opaque)
{
	for (size_t i = 0; i < c->count; i++) {
		int ret = fn(opaque, c->entries[i].key, c->entries[i].value);

		if (ret)
			return ret;
	}
	return 0;
}

int config_check_unused(struct config *c, struct err *err)
{
	for (size_t i = 0; i < c->count; i++) {
		struct suggestion s;

		if (c->entries[i].read)
			continue;
		suggest_begin(&s, c->entries[i].key);
		for (size_t j = 0; j < c->asked_count; j++)
			suggest_offer(&s, c->asked[j]);
		if (s.best)
			err_set(err, "unknown key '%s' (did you mean '%s'?)", s.word, s.best);
		else
			err_set(err, "unknown key '%s'", s.word);
		return tell_origin(&c->entries[i], err);
	}
	return 0;
}
