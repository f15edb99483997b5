/* See jsonparse.h. RFC 8259, and strings in single quotes. */
#include "base/jsonparse.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct parser {
	const char *at, *end;
	char *error;
	char *scratch; /* a string while it is put together: never longer than the text */
};

static __attribute__((format(printf, 2, 3))) json_t *fail(struct parser *p, const char *fmt, ...)
{
	size_t n = (size_t)snprintf(p->error, JSONPARSE_ERROR, "JSON parse error, ");
	va_list args;

	va_start(args, fmt);
	vsnprintf(p->error + n, JSONPARSE_ERROR - n, fmt, args);
	va_end(args);
	return NULL;
}

/* The first byte of the next token; 0: no more. */
static char peek(struct parser *p)
{
	while (p->at < p->end && strchr(" \t\r\n", *p->at) && *p->at)
		p->at++;
	return p->at < p->end ? *p->at : 0;
}

/* --- strings --- */

static size_t put_utf8(char *out, uint32_t c)
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/* The four digits at `at`; -1: they are none. */
static int hex4(const struct parser *p, const char *at)
{
	int v = 0;

	if (p->end - at < 4)
		return -1;
	for (int n = 0; n < 4; n++) {
		const char *digits = "0123456789abcdef0123456789ABCDEF", *d = at[n] ? strchr(digits, at[n]) : NULL;

		if (!d)
			return -1;
		v = v << 4 | (int)((d - digits) & 15);
	}
	return v;
}

/* After "\u". No string of ours has a zero in it. */
static int unicode(struct parser *p, size_t *len)
{
	const char *from = p->at;
	int high = hex4(p, p->at), low;
	uint32_t c = (uint32_t)high;

	p->at += high < 0 ? 0 : 4;
	if (high >= 0xd800 && high < 0xdc00 && p->end - p->at >= 6 && p->at[0] == '\\' && p->at[1] == 'u') {
		low = hex4(p, p->at + 2);
		if (low >= 0xdc00 && low < 0xe000) {
			c = 0x10000 + ((uint32_t)(high & 0x3ff) << 10 | (uint32_t)(low & 0x3ff));
			p->at += 6;
		}
	}
	if (high <= 0 || (c >= 0xd800 && c < 0xe000)) {
		fail(p, "\\u%.*s is not a valid Unicode character",
		     (int)strcspn(from, "\"'") < 4 ? (int)strcspn(from, "\"'") : 4, from);
		return -1;
	}
	*len += put_utf8(p->scratch + *len, c);
	return 0;
}

static int escape(struct parser *p, size_t *len)
{
	static const char from[] = "\"'\\/bfnrt", to[] = "\"'\\/\b\f\n\r\t";
	char b = *p->at++;
	const char *is = strchr(from, b);

	if (b == 'u')
		return unicode(p, len);
	if (!b || !is) {
		fail(p, "invalid escape sequence in string");
		return -1;
	}
	p->scratch[(*len)++] = to[is - from];
	return 0;
}

/* Into p->scratch. -1 with an error. */
static int string_bytes(struct parser *p, size_t *len)
{
	char quote = *p->at++;

	for (*len = 0; *p->at != quote;) {
		if (*p->at != '\\')
			p->scratch[(*len)++] = *p->at++;
		else if (p->at++, escape(p, len))
			return -1;
	}
	p->at++;
	p->scratch[*len] = 0;
	return 0;
}

static json_t *string(struct parser *p)
{
	json_t *o;
	size_t len;

	if (string_bytes(p, &len))
		return NULL;
	o = json_stringn(p->scratch, len);
	return o ? o : fail(p, "invalid UTF-8 sequence in string");
}

/* --- the others --- */

static json_t *number(struct parser *p)
{
	const char *from = p->at;
	bool integer = true;
	char text[64];
	size_t len;
	double d;

	while (p->at < p->end && *p->at && strchr("0123456789+-.eE", *p->at))
		integer &= !strchr(".eE", *p->at++);
	len = (size_t)(p->at - from);
	/* Longer ones have no more to say. */
	snprintf(text, sizeof(text), "%.*s", (int)(len < sizeof(text) ? len : sizeof(text) - 1), from);
	errno = 0;
	if (integer) {
		long long v = strtoll(text, NULL, 10);

		if (!errno && len < sizeof(text))
			return json_integer(v);
	}
	d = strtod(text, NULL);
	if (!isfinite(d))
		return fail(p, "the number %.20s is too large", text);
	return json_real(d);
}

static json_t *keyword(struct parser *p)
{
	static const struct {
		const char *word;
		json_t *(*make)(void);
	} words[] = { { "true", json_true }, { "false", json_false }, { "null", json_null } };
	const char *from = p->at;
	size_t len;

	while (p->at < p->end && *p->at >= 'a' && *p->at <= 'z')
		p->at++;
	len = (size_t)(p->at - from);
	for (size_t n = 0; n < sizeof(words) / sizeof(words[0]); n++)
		if (strlen(words[n].word) == len && !memcmp(words[n].word, from, len))
			return words[n].make();
	return fail(p, "invalid keyword '%.*s'", (int)(len < 80 ? len : 80), from);
}

static json_t *value(struct parser *p);

/* One pair of an object. -1 with an error. */
static int pair(struct parser *p, json_t *o)
{
	json_t *v;
	size_t len;
	char *key;
	int rc;

	if (peek(p) != '"' && *p->at != '\'') {
		if (!*p->at || !strchr("{}[],:", *p->at)) {
			/* A word of no meaning is told of as such. */
			v = value(p);
			if (!v)
				return -1;
			json_decref(v);
		}
		fail(p, "key is not a string in object");
		return -1;
	}
	if (string_bytes(p, &len))
		return -1;
	key = strndup(p->scratch, len);
	v = NULL;
	if (peek(p) != ':')
		fail(p, "missing : in object pair");
	else if (p->at++, json_object_get(o, key))
		fail(p, "duplicate key");
	else
		v = value(p);
	rc = v ? json_object_set_new(o, key, v) : -1;
	if (v && rc)
		fail(p, "invalid UTF-8 sequence in string");
	free(key);
	return rc;
}

static int element(struct parser *p, json_t *list)
{
	json_t *v = value(p);

	return v ? json_array_append_new(list, v) : -1;
}

/* An object or a list. */
static json_t *compound(struct parser *p, bool object)
{
	json_t *o = object ? json_object() : json_array();
	char end = object ? '}' : ']';

	p->at++;
	if (peek(p) == end) {
		p->at++;
		return o;
	}
	for (;;) {
		if (peek(p) == '}' || *p->at == ']') {
			fail(p, "expecting value");
			break;
		}
		if (object ? pair(p, o) : element(p, o))
			break;
		if (peek(p) == end) {
			p->at++;
			return o;
		}
		if (*p->at != ',') {
			fail(p, "expected separator in %s", object ? "dict" : "list");
			break;
		}
		p->at++;
	}
	json_decref(o);
	return NULL;
}

static json_t *value(struct parser *p)
{
	char b = peek(p);

	if (b == '{' || b == '[')
		return compound(p, b == '{');
	if (b == '"' || b == '\'')
		return string(p);
	if (b == '-' || (b >= '0' && b <= '9'))
		return number(p);
	if (b >= 'a' && b <= 'z')
		return keyword(p);
	return fail(p, "expecting value");
}

json_t *jsonparse(const char *text, size_t len, char error[JSONPARSE_ERROR])
{
	struct parser p = { .error = error };
	json_t *o;
	char *copy = malloc(2 * len + 2);

	if (!copy) {
		snprintf(error, JSONPARSE_ERROR, "out of memory");
		return NULL;
	}
	/* With a zero behind it, at which every loop ends. */
	memcpy(copy, text, len);
	copy[len] = 0;
	p.at = copy;
	p.end = copy + len;
	p.scratch = copy + len + 1;
	o = value(&p);
	if (o && peek(&p)) {
		json_decref(o);
		o = fail(&p, "expecting end of input");
	}
	free(copy);
	return o;
}
