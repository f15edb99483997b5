/* QEMU's way to write options. */
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/qemu.h"

#define PAIRS_MAX 256 /* of one option */

int qopts_fail(const struct qopts *o, struct err *err, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return o && o->origin ? err_set(err, "%s: %s", o->origin, text) : err_set(err, "%s", text);
}

static int add_pair(struct qopts *o, char *name, char *value, struct err *err)
{
	struct qpair *grown;

	if (!name || !value || o->count == PAIRS_MAX) {
		free(name);
		free(value);
		return o->count == PAIRS_MAX ? qopts_fail(o, err, "more than %u parameters", PAIRS_MAX)
					     : err_set(err, "out of memory");
	}
	grown = realloc(o->pair, (o->count + 1) * sizeof(*grown));
	if (!grown) {
		free(name);
		free(value);
		return err_set(err, "out of memory");
	}
	o->pair = grown;
	grown[o->count++] = (struct qpair){ .name = name, .value = value };
	return 0;
}

/* Up to a comma that stands alone; `text` is moved behind it. */
static char *take_value(const char **text)
{
	const char *from = *text;
	char *value = malloc(strlen(from) + 1), *to = value;

	if (!value)
		return NULL;
	for (; *from; from++) {
		if (*from == ',' && *++from != ',')
			break;
		*to++ = *from;
	}
	*to = '\0';
	*text = from;
	return value;
}

static int parse_words(struct qopts *o, const char *text, const char *implied, struct err *err)
{
	bool first = true;

	while (*text) {
		size_t n = strcspn(text, "=,");
		char *name;

		if (text[n] == '=') {
			name = strndup(text, n);
			text += n + 1;
			if (add_pair(o, name, take_value(&text), err))
				return -1;
		} else if (first && implied) {
			if (add_pair(o, strdup(implied), take_value(&text), err))
				return -1;
		} else {
			bool off = n > 2 && !strncmp(text, "no", 2);

			name = strndup(text + (off ? 2 : 0), n - (off ? 2 : 0));
			text += n + (text[n] == ',');
			if (add_pair(o, name, strdup(off ? "off" : "on"), err))
				return -1;
		}
		first = false;
	}
	return 0;
}

/* A value of JSON as the other form writes it. */
static char *json_text(const json_t *v)
{
	char *text;

	if (json_is_string(v))
		return strdup(json_string_value(v));
	if (json_is_boolean(v))
		return strdup(json_is_true(v) ? "on" : "off");
	if (json_is_integer(v))
		return asprintf(&text, "%" JSON_INTEGER_FORMAT, json_integer_value(v)) < 0 ? NULL : text;
	return strdup("");
}

/* A list of QAPI's String, [{"str": "a"}, {"str": "b"}], is several values of one name. */
static bool is_strings(const json_t *list)
{
	size_t n;
	json_t *v;

	json_array_foreach(list, n,
			   v) if (json_object_size(v) != 1 || !json_is_string(json_object_get(v, "str"))) return false;
	return json_is_array(list);
}

static int add_strings(struct qopts *o, const char *name, const json_t *list, struct err *err)
{
	size_t n;
	json_t *v;

	json_array_foreach(list, n,
			   v) if (add_pair(o, strdup(name), json_text(json_object_get(v, "str")), err)) return -1;
	return 0;
}

#define JSON_DEPTH 8

static int parse_object(struct qopts *o, json_t *object, const char *prefix, unsigned depth, struct err *err)
{
	const char *name;
	json_t *v;

	json_object_foreach(object, name, v)
	{
		char *full;

		if (asprintf(&full, "%s%s%s", prefix, *prefix ? "." : "", name) < 0)
			return err_set(err, "out of memory");
		if (json_is_object(v) && depth < JSON_DEPTH) {
			int rc = parse_object(o, v, full, depth + 1, err);

			free(full);
			if (rc)
				return rc;
		} else if (is_strings(v)) {
			int rc = add_strings(o, full, v, err);

			free(full);
			if (rc)
				return rc;
		} else if (json_is_object(v) || json_is_array(v) || json_is_real(v) || json_is_null(v)) {
			qopts_fail(o, err, "Parameter '%s' is none of text, a number, true and false", full);
			free(full);
			return -1;
		} else if (add_pair(o, full, json_text(v), err)) {
			return -1;
		}
	}
	return 0;
}

static int parse_json(struct qopts *o, const char *text, struct err *err)
{
	json_error_t why;
	json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &why);
	int rc;

	if (!root)
		return qopts_fail(o, err, "JSON parse error: %s", why.text);
	rc = parse_object(o, root, "", 0, err);
	json_decref(root);
	return rc;
}

/* What other options call it by. */
static int check_ids(const struct qopts *o, struct err *err)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", rest[] = "0123456789-._";

	for (unsigned n = 0; n < o->count; n++) {
		const char *id = o->pair[n].value;

		if (strcmp(o->pair[n].name, "id") && strcmp(o->pair[n].name, "node-name"))
			continue;
		if (*id && strchr(letters, *id))
			while (*id && (strchr(letters, *id) || strchr(rest, *id)))
				id++;
		if (*id || !o->pair[n].value[0])
			return qopts_fail(o, err,
					  "Parameter '%s' expects an identifier: letters, digits, '-', '.', '_', "
					  "starting with a letter",
					  o->pair[n].name);
	}
	return 0;
}

int qopts_parse(struct qopts *o, const char *option, const char *text, const char *implied, struct err *err)
{
	*o = (struct qopts){ 0 };
	if (asprintf(&o->origin, "-%s %s", option, text) < 0) {
		o->origin = NULL;
		return err_set(err, "out of memory");
	}
	return (*text == '{' ? parse_json(o, text, err) : parse_words(o, text, implied, err)) || check_ids(o, err) ? -1
														   : 0;
}

void qopts_free(struct qopts *o)
{
	for (unsigned n = 0; n < o->count; n++) {
		free(o->pair[n].name);
		free(o->pair[n].value);
	}
	free(o->pair);
	free(o->origin);
	*o = (struct qopts){ 0 };
}

const char *qopts_get(struct qopts *o, const char *name)
{
	const char *value = NULL;

	for (unsigned n = 0; n < o->count; n++) {
		if (strcmp(o->pair[n].name, name) != 0)
			continue;
		o->pair[n].used = true;
		value = o->pair[n].value;
	}
	return value;
}

const char *qopts_nth(struct qopts *o, const char *name, unsigned n)
{
	for (unsigned k = 0; k < o->count; k++) {
		if (strcmp(o->pair[k].name, name) != 0 || n--)
			continue;
		o->pair[k].used = true;
		return o->pair[k].value;
	}
	return NULL;
}

int qopts_bool(struct qopts *o, const char *name, bool dflt, bool *out, struct err *err)
{
	const char *text = qopts_get(o, name);
	int value = text ? parse_bool(text) : dflt;

	*out = value == 1;
	return value < 0 ? qopts_fail(o, err, "Parameter '%s' expects 'on' or 'off'", name) : 0;
}

int qopts_all_read(const struct qopts *o, struct err *err)
{
	for (unsigned n = 0; n < o->count; n++)
		if (!o->pair[n].used)
			return qopts_fail(o, err, "Invalid parameter '%s'", o->pair[n].name);
	return 0;
}

bool qword_in(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (;;) {
		size_t n = strcspn(list, "|");

		if (n == len && !strncmp(list, word, n))
			return true;
		if (!list[n])
			return false;
		list += n + 1;
	}
}

bool qvalue_in(const char *list, const char *value)
{
	int flag = parse_bool(value);

	return qword_in(list, value) || (flag >= 0 && qword_in(list, flag ? "on" : "off"));
}

struct qopts *qlist_add(struct qlist *l, const char *option, const char *text, const char *implied, struct err *err)
{
	struct qopts *grown = realloc(l->v, (l->count + 1) * sizeof(*grown));

	if (!grown) {
		err_set(err, "out of memory");
		return NULL;
	}
	l->v = grown;
	/* Also on error: it is freed with the list. */
	return qopts_parse(&grown[l->count++], option, text, implied, err) ? NULL : &grown[l->count - 1];
}

struct qopts *qlist_add_text(struct qlist *l, const char *option, const char *text, const char *name, struct err *err)
{
	struct qopts *o = qlist_add(l, option, "", NULL, err);
	char *origin;

	if (!o || asprintf(&origin, "-%s %s", option, text) < 0)
		return NULL;
	free(o->origin);
	o->origin = origin;
	return add_pair(o, strdup(name), strdup(text), err) ? NULL : o;
}

struct qopts *qlist_find(struct qlist *l, const char *id_name, const char *id)
{
	for (unsigned n = 0; n < l->count; n++) {
		const char *its = qopts_get(&l->v[n], id_name);

		if (its && !strcmp(its, id))
			return &l->v[n];
	}
	return NULL;
}

void qlist_free(struct qlist *l)
{
	for (unsigned n = 0; n < l->count; n++)
		qopts_free(&l->v[n]);
	free(l->v);
	*l = (struct qlist){ 0 };
}
