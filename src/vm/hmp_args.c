/* The arguments of the monitor's commands, as their tables say them. */
#include <ctype.h>
#include <string.h>

#include "vm/hmp.h"

struct reader {
	struct hmp *h;
	const char *at;
	char *words; /* where the next word goes: never longer than the line */
	struct err *err;
};

static void blanks(struct reader *r)
{
	while (isspace((unsigned char)*r->at))
		r->at++;
}

/* A word, or a string in double quotes. */
static int word(struct reader *r, struct hmp_arg *a)
{
	char quote = *r->at == '"' ? '"' : 0, *to = r->words;

	r->at += quote != 0;
	while (*r->at && (quote ? *r->at != quote : !isspace((unsigned char)*r->at))) {
		if (quote && *r->at == '\\' && r->at[1])
			r->at++;
		*to++ = *r->at++;
	}
	if (quote && *r->at != quote)
		return err_set(r->err, "unterminated string");
	r->at += quote != 0;
	*to++ = 0;
	a->s = r->words;
	a->given = true;
	r->words = to;
	return 0;
}

static int rest(struct reader *r, struct hmp_arg *a)
{
	size_t len = strlen(r->at);

	memcpy(r->words, r->at, len + 1);
	a->s = r->words;
	a->given = true;
	r->words += len + 1;
	r->at += len;
	return 0;
}

static int number(struct reader *r, struct hmp_arg *a)
{
	uint64_t v;

	if (hmp_expression(r->h, &r->at, &v, r->err))
		return -1;
	a->n = (int64_t)v;
	a->given = true;
	return 0;
}

static int on_off(struct reader *r, struct hmp_arg *a)
{
	if (word(r, a))
		return -1;
	a->n = !strcmp(a->s, "on");
	return a->n || !strcmp(a->s, "off") ? 0 : err_set(r->err, "Expected 'on' or 'off'");
}

/* "-f" at this place, before others. */
static void flag(struct reader *r, char letter, struct hmp_arg *a)
{
	if (r->at[0] != '-' || r->at[1] != letter || (r->at[2] && !isspace((unsigned char)r->at[2])))
		return;
	r->at += 2;
	a->given = true;
	a->n = 1;
}

static int size_of(char letter)
{
	switch (letter) {
	case 'b':
		return 1;
	case 'h':
		return 2;
	case 'w':
		return 4;
	case 'g':
	case 'L':
		return 8;
	default:
		return 0;
	}
}

/* "/4xw"; `dflt` has the letters of format and size that are meant without. */
static int format(struct reader *r, const char *dflt, struct hmp_format *f)
{
	const char *p = r->at;

	*f = (struct hmp_format){ .count = 1 };
	if (*p == '/') {
		p++;
		if (isdigit((unsigned char)*p)) {
			f->count = 0;
			while (isdigit((unsigned char)*p))
				f->count = f->count < 10000000 ? f->count * 10 + (*p++ - '0') : (p++, f->count);
		}
		for (; *p && !isspace((unsigned char)*p); p++) {
			if (strchr("oduxic", *p))
				f->format = *p;
			else if (size_of(*p))
				f->size = size_of(*p);
			else
				return err_set(r->err, "invalid char in format: '%c'", *p);
		}
		r->at = p;
	}
	if (!f->format)
		f->format = dflt[0];
	if (!f->size)
		f->size = f->format == 'c' ? 1 : size_of(dflt[1]);
	return 0;
}

/* One argument of type `type`; the cursor stands at it. */
static int argument(struct reader *r, char type, struct hmp_arg *a)
{
	switch (type) {
	case 's':
		return word(r, a);
	case 'S':
		return rest(r, a);
	case 'n':
		return number(r, a);
	default:
		return on_off(r, a);
	}
}

int hmp_read_args(struct hmp *h, const char *text, struct hmp_args *a, char *words, struct err *err)
{
	struct reader r = { .h = h, .at = text, .words = words, .err = err };
	const char *spec = a->command->args;
	unsigned n = 0;

	while (*spec) {
		size_t len = strcspn(spec, " ");
		const char *type = spec + strcspn(spec, ":") + 1;
		bool optional = spec[len - 1] == '?';

		blanks(&r);
		if (*type == '/') {
			if (format(&r, type + 1, &a->fmt))
				return -1;
		} else if (*type == '-') {
			flag(&r, type[1], &a->arg[n++]);
		} else if (!*r.at && !optional) {
			if (*type == 'n')
				return err_set(err, "unexpected end of expression");
			return err_set(err, "%s: string expected", a->command->name);
		} else if (*r.at && argument(&r, *type, &a->arg[n])) {
			return -1;
		} else {
			n++;
		}
		spec += len + (spec[len] == ' ');
	}
	blanks(&r);
	return *r.at ? err_set(err, "%s: extraneous characters at the end of line", a->command->name) : 0;
}
