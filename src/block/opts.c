/* Options of nodes: see opts.h. */
#include "block/opts.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JSON_DEPTH 32

struct opt {
	char *key, *value;
	bool taken;
};

struct opts {
	struct opt *at;
	unsigned n, room;
};

/* There is nothing sensible to do without some bytes for an option. */
static void *need(void *p)
{
	if (!p)
		abort();
	return p;
}

struct opts *opts_new(void)
{
	return need(calloc(1, sizeof(struct opts)));
}

void opts_free(struct opts *o)
{
	if (!o)
		return;
	for (unsigned i = 0; i < o->n; i++) {
		free(o->at[i].key);
		free(o->at[i].value);
	}
	free(o->at);
	free(o);
}

static struct opt *find(const struct opts *o, const char *key)
{
	for (unsigned i = 0; o && i < o->n; i++)
		if (!strcmp(o->at[i].key, key))
			return &o->at[i];
	return NULL;
}

void opts_set(struct opts *o, const char *key, const char *value)
{
	struct opt *p = find(o, key);
	char *copy = need(strdup(value));

	if (p) {
		free(p->value);
		p->value = copy;
		return;
	}
	if (o->n == o->room) {
		o->room = o->room ? 2 * o->room : 8;
		o->at = need(realloc(o->at, o->room * sizeof(*o->at)));
	}
	o->at[o->n++] = (struct opt){ need(strdup(key)), copy, false };
}

void opts_setf(struct opts *o, const char *key, const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	opts_set(o, key, text);
	free(text);
}

struct opts *opts_copy(const struct opts *o)
{
	struct opts *c = opts_new();

	for (unsigned i = 0; o && i < o->n; i++)
		opts_set(c, o->at[i].key, o->at[i].value);
	return c;
}

const char *opts_get(const struct opts *o, const char *key)
{
	struct opt *p = find(o, key);

	return p ? p->value : NULL;
}

const char *opts_take(struct opts *o, const char *key)
{
	struct opt *p = find(o, key);

	if (!p)
		return NULL;
	p->taken = true;
	return p->value;
}

static bool below(const char *key, const char *prefix)
{
	size_t n = strlen(prefix);

	return !strncmp(key, prefix, n) && key[n] == '.';
}

bool opts_has(const struct opts *o, const char *prefix)
{
	for (unsigned i = 0; i < o->n; i++)
		if (!strcmp(o->at[i].key, prefix) || below(o->at[i].key, prefix))
			return true;
	return false;
}

struct opts *opts_take_sub(struct opts *o, const char *prefix)
{
	struct opts *sub = opts_new();

	for (unsigned i = 0; i < o->n; i++) {
		if (!below(o->at[i].key, prefix))
			continue;
		o->at[i].taken = true;
		opts_set(sub, o->at[i].key + strlen(prefix) + 1, o->at[i].value);
	}
	return sub;
}

const char *opts_unknown(const struct opts *o)
{
	for (unsigned i = 0; i < o->n; i++)
		if (!o->at[i].taken)
			return o->at[i].key;
	return NULL;
}

void opts_put_sub(struct opts *o, const char *prefix, const struct opts *from)
{
	for (unsigned i = 0; i < from->n; i++) {
		char *key;

		if (asprintf(&key, "%s.%s", prefix, from->at[i].key) < 0)
			abort();
		opts_set(o, key, from->at[i].value);
		free(key);
	}
}

bool opts_at(const struct opts *o, unsigned n, const char **key, const char **value)
{
	if (n >= o->n)
		return false;
	*key = o->at[n].key;
	*value = o->at[n].value;
	return true;
}

/* --- values --- */

int opts_bool(struct opts *o, const char *key, bool dflt, bool *out, struct err *err)
{
	static const struct {
		const char *word;
		bool value;
	} words[] = { { "on", true },	{ "yes", true }, { "true", true },   { "y", true },
		      { "off", false }, { "no", false }, { "false", false }, { "n", false } };
	const char *text = opts_take(o, key);

	*out = dflt;
	if (!text)
		return 0;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (!strcmp(text, words[i].word)) {
			*out = words[i].value;
			return 0;
		}
	}
	return err_set(err, "Parameter '%s' expects 'on' or 'off'", key);
}

int opts_parse_size(const char *text, uint64_t *out)
{
	static const char suffixes[] = "bkmgtpe";
	unsigned long long whole;
	double fraction = 0;
	unsigned shift = 0;
	char *end;

	while (isspace((unsigned char)*text))
		text++;
	if (!isdigit((unsigned char)*text))
		return -1;
	errno = 0;
	whole = strtoull(text, &end, text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10);
	if (errno == ERANGE)
		return -2;
	if (*end == '.') {
		const char *dot = end;

		if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
			return -1;
		fraction = strtod(dot, &end);
		if (end == dot)
			return -1;
		for (const char *p = dot + 1; p < end; p++)
			if (!isdigit((unsigned char)*p))
				return -1;
	}
	if (*end) {
		const char *s = strchr(suffixes, tolower((unsigned char)*end));

		if (!s || end[1])
			return -1;
		shift = (unsigned)(s - suffixes) * 10;
	}
	if (fraction && !shift)
		return -1;
	if (whole > UINT64_MAX >> shift)
		return -2;
	*out = (whole << shift) + (uint64_t)(fraction * (double)(1ull << shift));
	return 0;
}

int opts_size(struct opts *o, const char *key, uint64_t dflt, uint64_t *out, struct err *err)
{
	const char *text = opts_take(o, key);
	int ret;

	*out = dflt;
	if (!text)
		return 0;
	ret = opts_parse_size(text, out);
	if (ret == -2)
		return err_set(err, "Value '%s' is out of range for parameter '%s'", text, key);
	if (ret)
		return err_set(err,
			       "Parameter '%s' expects a non-negative number below 2^64\n"
			       "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
			       "and exabytes, respectively.\n",
			       key);
	return 0;
}

int opts_number(struct opts *o, const char *key, uint64_t dflt, uint64_t *out, struct err *err)
{
	const char *text = opts_take(o, key);
	char *end;

	*out = dflt;
	if (!text)
		return 0;
	errno = 0;
	*out = strtoull(text, &end, 0);
	if (errno || *end || end == text)
		return err_set(err, "Parameter '%s' expects a number", key);
	return 0;
}

/* --- texts --- */

/* Up to `stop` or the end; ",," counts as a comma of the value when `stop` is one. Caller frees. */
static char *word(const char **text, char stop)
{
	const char *p = *text;
	char *out = need(malloc(strlen(p) + 1));
	size_t n = 0;

	while (*p) {
		if (*p == ',' && stop == ',' && p[1] == ',')
			p++;
		else if (*p == stop)
			break;
		out[n++] = *p++;
	}
	out[n] = 0;
	*text = p;
	return out;
}

int opts_parse(struct opts *o, const char *text, const char *first, struct err *err)
{
	while (*text) {
		size_t n = strcspn(text, "=,");
		char *key, *value;

		if (text[n] != '=' && first) {
			key = need(strdup(first));
			value = word(&text, ',');
		} else if (text[n] != '=') {
			key = need(strndup(text, n));
			value = need(strdup("on"));
			text += n;
		} else {
			key = need(strndup(text, n));
			text += n + 1;
			value = word(&text, ',');
		}
		if (!*key) {
			free(key);
			free(value);
			return err_set(err, "Invalid parameter ''");
		}
		opts_set(o, key, value);
		free(key);
		free(value);
		first = NULL;
		if (*text == ',')
			text++;
	}
	return 0;
}

static int flatten(struct opts *o, const char *prefix, json_t *v, unsigned depth)
{
	const char *name;
	json_t *member;
	size_t i;
	char *key;
	int ret = 0;

	if (depth > JSON_DEPTH)
		return -1;
	if (json_is_string(v)) {
		opts_set(o, prefix, json_string_value(v));
	} else if (json_is_boolean(v)) {
		opts_set(o, prefix, json_is_true(v) ? "on" : "off");
	} else if (json_is_integer(v)) {
		opts_setf(o, prefix, "%lld", (long long)json_integer_value(v));
	} else if (json_is_real(v)) {
		opts_setf(o, prefix, "%g", json_real_value(v));
	} else if (json_is_null(v)) {
		opts_set(o, prefix, "");
	} else if (json_is_object(v)) {
		json_object_foreach(v, name, member)
		{
			if (asprintf(&key, "%s%s%s", prefix, *prefix ? "." : "", name) < 0)
				abort();
			ret |= flatten(o, key, member, depth + 1);
			free(key);
		}
	} else {
		json_array_foreach(v, i, member)
		{
			if (asprintf(&key, "%s.%zu", prefix, i) < 0)
				abort();
			ret |= flatten(o, key, member, depth + 1);
			free(key);
		}
	}
	return ret;
}

/* QEMU takes 'strings' as well as "strings". Caller frees. */
static char *double_quotes(const char *text)
{
	char *out = need(malloc(2 * strlen(text) + 1)), *p = out, in = 0;

	for (; *text; text++) {
		if (in == '\'' && *text == '"')
			*p++ = '\\';
		if (in && *text == '\\' && text[1]) {
			if (text[1] != '\'')
				*p++ = '\\';
			*p++ = *++text;
			continue;
		}
		if (in ? *text == in : *text == '"' || *text == '\'') {
			in = in ? 0 : *text;
			*p++ = '"';
			continue;
		}
		*p++ = *text;
	}
	*p = 0;
	return out;
}

int opts_parse_json(struct opts *o, const char *text, struct err *err)
{
	json_error_t why;
	char *plain = double_quotes(text);
	json_t *v = json_loads(plain, JSON_DECODE_ANY, &why);
	int ret;

	free(plain);

	if (!v)
		return err_set(err, "Could not parse the JSON options: %s", why.text);
	if (!json_is_object(v)) {
		json_decref(v);
		return err_set(err, "Invalid JSON object given");
	}
	ret = flatten(o, "", v, 0);
	json_decref(v);
	return ret ? err_set(err, "Could not parse the JSON options: nested too deeply") : 0;
}
