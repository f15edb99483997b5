/* Expressions of the monitor: numbers, $registers, characters; sums of bit operations of products, as QEMU has it. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/inspect.h"
#include "vm/hmp.h"
#include "vm/impl.h"

#define DEPTH 64

struct expr {
	struct hmp *h;
	const char *at;
	struct err *err;
	unsigned depth;
};

static int sum(struct expr *e, uint64_t *v);

static void blanks(struct expr *e)
{
	while (isspace((unsigned char)*e->at))
		e->at++;
}

static int named(struct expr *e, uint64_t *v)
{
	const struct inspect_isa *isa = e->h->vm->engine->debug_isa->inspect;
	char name[32];
	size_t len = 0;
	const void *s;

	while ((isalnum((unsigned char)e->at[len]) || e->at[len] == '_' || e->at[len] == '.') && len < sizeof(name) - 1)
		len++;
	memcpy(name, e->at, len);
	name[len] = 0;
	s = hmp_state(e->h);
	if (!s || !isa->reg(s, name, v))
		return err_set(e->err, "unknown register");
	e->at += len;
	return 0;
}

static int character(struct expr *e, uint64_t *v)
{
	if (!*e->at)
		return err_set(e->err, "character constant expected");
	*v = (unsigned char)*e->at++;
	if (*e->at != '\'')
		return err_set(e->err, "missing terminating ' character");
	e->at++;
	return 0;
}

static int number(struct expr *e, uint64_t *v)
{
	char *end;

	errno = 0;
	*v = strtoull(e->at, &end, 0);
	if (errno == ERANGE)
		return err_set(e->err, "number too large");
	if (end == e->at)
		return err_set(e->err, "invalid char '%c' in expression", *e->at);
	e->at = end;
	return 0;
}

static int unary(struct expr *e, uint64_t *v)
{
	int rc = -1;

	blanks(e);
	if (!*e->at)
		return err_set(e->err, "unexpected end of expression");
	if (++e->depth > DEPTH)
		return err_set(e->err, "the expression has more than %d levels", DEPTH);
	switch (*e->at) {
	case '+':
		e->at++;
		rc = unary(e, v);
		break;
	case '-':
		e->at++;
		rc = unary(e, v);
		*v = -*v;
		break;
	case '~':
		e->at++;
		rc = unary(e, v);
		*v = ~*v;
		break;
	case '(':
		e->at++;
		rc = sum(e, v);
		if (!rc && *e->at != ')')
			rc = err_set(e->err, "')' expected");
		e->at += !rc;
		break;
	case '\'':
		e->at++;
		rc = character(e, v);
		break;
	case '$':
		e->at++;
		rc = named(e, v);
		break;
	default:
		rc = isdigit((unsigned char)*e->at) ? number(e, v)
						    : err_set(e->err, "invalid char '%c' in expression", *e->at);
	}
	e->depth--;
	blanks(e);
	return rc;
}

static int product(struct expr *e, uint64_t *v)
{
	uint64_t other;
	char op;

	if (unary(e, v))
		return -1;
	while (*e->at && strchr("*/%", *e->at)) {
		op = *e->at++;
		if (unary(e, &other))
			return -1;
		if (op != '*' && !other)
			return err_set(e->err, "division by zero");
		*v = op == '*' ? *v * other : op == '/' ? *v / other : *v % other;
	}
	return 0;
}

static int bits(struct expr *e, uint64_t *v)
{
	uint64_t other;
	char op;

	if (product(e, v))
		return -1;
	while (*e->at && strchr("&|^", *e->at)) {
		op = *e->at++;
		if (product(e, &other))
			return -1;
		*v = op == '&' ? *v & other : op == '|' ? *v | other : *v ^ other;
	}
	return 0;
}

static int sum(struct expr *e, uint64_t *v)
{
	uint64_t other;
	char op;

	if (bits(e, v))
		return -1;
	while (*e->at == '+' || *e->at == '-') {
		op = *e->at++;
		if (bits(e, &other))
			return -1;
		*v = op == '+' ? *v + other : *v - other;
	}
	return 0;
}

int hmp_expression(struct hmp *h, const char **at, uint64_t *value, struct err *err)
{
	struct expr e = { .h = h, .at = *at, .err = err };
	int rc;

	*value = 0;
	rc = sum(&e, value);
	*at = e.at;
	return rc;
}
