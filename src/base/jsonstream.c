/* See jsonstream.h: where tokens and values begin and end. */
#include "base/jsonstream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonparse.h"

enum state {
	BETWEEN,
	RECOVERY, /* after a stray byte */
	DOUBLE,
	DOUBLE_ESCAPE,
	SINGLE,
	SINGLE_ESCAPE,
	MINUS,
	ZERO,
	DIGITS,
	POINT,
	FRACTION,
	EXPONENT,
	EXPONENT_SIGN,
	EXPONENT_DIGITS,
	WORD
};

static void start_afresh(struct jsonstream *s)
{
	s->len = s->token = 0;
	s->braces = s->brackets = 0;
}

static void complain(struct jsonstream *s, const char *error)
{
	start_afresh(s);
	s->value(s->opaque, NULL, error);
}

static void keep(struct jsonstream *s, char b)
{
	if (s->len == s->size) {
		size_t size = s->size ? 2 * s->size : 1024;
		char *grown = size <= JSONSTREAM_BYTES ? realloc(s->text, size) : NULL;

		if (!grown) {
			s->skipping = true;
			s->state = RECOVERY;
			complain(s, "JSON token size limit exceeded");
			return;
		}
		s->text = grown;
		s->size = size;
	}
	s->text[s->len++] = b;
}

/* Bytes that are no UTF-8 as U+FFFD, without the rest of what is long. */
static void stray(struct jsonstream *s)
{
	char text[160];
	size_t n = (size_t)snprintf(text, sizeof(text), "JSON parse error, stray '");

	for (size_t k = s->token; k < s->len && n < sizeof(text) - 8; k++) {
		bool odd = (unsigned char)s->text[k] >= 0x80 || !s->text[k];

		n += (size_t)snprintf(text + n, sizeof(text) - n, odd ? "%s" : "%.1s",
				      odd ? "\xef\xbf\xbd" : s->text + k);
	}
	snprintf(text + n, sizeof(text) - n, "'");
	s->state = RECOVERY;
	complain(s, text);
}

/* A token ends here. A value does, too, unless it is within others. */
static void token(struct jsonstream *s, char kind)
{
	char error[JSONPARSE_ERROR];
	json_t *o;

	s->state = BETWEEN;
	s->braces += (kind == '{') - (kind == '}');
	s->brackets += (kind == '[') - (kind == ']');
	if (s->braces + s->brackets > JSONSTREAM_DEPTH) {
		complain(s, "JSON nesting depth limit exceeded");
		return;
	}
	if ((s->braces > 0 || s->brackets > 0) && s->braces >= 0 && s->brackets >= 0)
		return;
	o = jsonparse(s->text, s->len, error);
	start_afresh(s);
	s->value(s->opaque, o, error);
}

static bool is_digit(char b)
{
	return b >= '0' && b <= '9';
}

static void between(struct jsonstream *s, char b)
{
	/* A value's first token comes after blanks that nobody needs. */
	if (b == ' ' || b == '\t' || b == '\r' || b == '\n') {
		if (s->len)
			keep(s, b);
		return;
	}
	s->token = s->len;
	keep(s, b);
	if (s->state != BETWEEN)
		return;
	if (b && strchr("{}[],:", b))
		token(s, b);
	else if (b == '"')
		s->state = DOUBLE;
	else if (b == '\'')
		s->state = SINGLE;
	else if (b == '-')
		s->state = MINUS;
	else if (b == '0')
		s->state = ZERO;
	else if (is_digit(b))
		s->state = DIGITS;
	else if (b >= 'a' && b <= 'z')
		s->state = WORD;
	else
		stray(s);
}

static void in_string(struct jsonstream *s, char b)
{
	bool is_single = s->state == SINGLE || s->state == SINGLE_ESCAPE;
	bool escaped = s->state == DOUBLE_ESCAPE || s->state == SINGLE_ESCAPE;

	keep(s, b);
	if (s->state == RECOVERY)
		return;
	if ((unsigned char)b < 0x20 || (unsigned char)b >= 0xfe)
		stray(s);
	else if (escaped)
		s->state = is_single ? SINGLE : DOUBLE;
	else if (b == '\\')
		s->state = is_single ? SINGLE_ESCAPE : DOUBLE_ESCAPE;
	else if (b == (is_single ? '\'' : '"'))
		token(s, b);
}

/* The next state of a number: BETWEEN if `b` is no part of it, RECOVERY if none may come here. */
static enum state next_of_number(enum state now, char b)
{
	bool e = b == 'e' || b == 'E', digit = is_digit(b);

	switch (now) {
	case MINUS:
		return b == '0' ? ZERO : digit ? DIGITS : RECOVERY;
	case ZERO:
		return digit ? RECOVERY : b == '.' ? POINT : e ? EXPONENT : BETWEEN;
	case DIGITS:
		return digit ? DIGITS : b == '.' ? POINT : e ? EXPONENT : BETWEEN;
	case POINT:
		return digit ? FRACTION : RECOVERY;
	case FRACTION:
		return digit ? FRACTION : e ? EXPONENT : BETWEEN;
	case EXPONENT:
		return digit ? EXPONENT_DIGITS : b == '+' || b == '-' ? EXPONENT_SIGN : RECOVERY;
	case EXPONENT_SIGN:
		return digit ? EXPONENT_DIGITS : RECOVERY;
	default:
		return digit ? EXPONENT_DIGITS : BETWEEN;
	}
}

/* A number or a word, which end where something else begins. */
static void in_open_end(struct jsonstream *s, char b)
{
	enum state next =
		s->state == WORD ? (b >= 'a' && b <= 'z' ? WORD : BETWEEN) : next_of_number((enum state)s->state, b);

	if (next == BETWEEN) {
		token(s, 'a');
		jsonstream_byte(s, b);
		return;
	}
	keep(s, b);
	if (s->state == RECOVERY)
		return;
	if (next == RECOVERY)
		stray(s);
	else
		s->state = next;
}

void jsonstream_byte(struct jsonstream *s, char b)
{
	if (s->state == RECOVERY) {
		bool again = (unsigned char)b < 0x20 || (unsigned char)b >= 0xfe;

		/* What was too long goes to the end of its line, or to a byte that is never part of JSON. */
		if (!again && (s->skipping || !strchr("\"'{}[],:", b)))
			return;
		s->skipping = false;
		s->state = BETWEEN;
	}
	if (s->state == BETWEEN)
		between(s, b);
	else if (s->state <= SINGLE_ESCAPE)
		in_string(s, b);
	else
		in_open_end(s, b);
}

void jsonstream_init(struct jsonstream *s, void (*value)(void *opaque, json_t *value, const char *error), void *opaque)
{
	*s = (struct jsonstream){ .value = value, .opaque = opaque };
}

void jsonstream_fini(struct jsonstream *s)
{
	free(s->text);
}
