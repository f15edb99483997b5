/* See qmp.h: the types of commands and events, and whether a value is of one. */
#include <stdio.h>
#include <string.h>

#include "base/input.h"
#include "vm/qmp.h"
#include "vm/qmp_types.h"

/* --- reading the little language --- */

bool qmp_next_member(const char **at, struct qmp_member *m)
{
	const char *p = *at + strspn(*at, " ");
	size_t len = strcspn(p, " "), name;

	if (!len)
		return false;
	*at = p + len;
	m->optional = *p == '?';
	m->tag = *p == '|';
	p += m->optional || m->tag;
	len -= m->optional || m->tag;
	name = strcspn(p, ":");
	name = name < len ? name : len;
	snprintf(m->name, sizeof(m->name), "%.*s", (int)name, p);
	snprintf(m->type, sizeof(m->type), "%.*s", name < len ? (int)(len - name - 1) : 0, p + name + 1);
	return true;
}

/* The words of the keyboard's own table. */
static const char *key_words(void)
{
	static char words[2048] = "=";
	const char *name;
	size_t len = 1;

	if (words[1])
		return words;
	for (unsigned n = 0; (name = input_key_name(n)) && len < sizeof(words) - 32; n++)
		len += (size_t)snprintf(words + len, 32, "%s ", name);
	return words;
}

const char *qmp_members(const char *type)
{
	if (!strcmp(type, "QKeyCode"))
		return key_words();
	for (const struct qmp_type *t = qmp_types; t->name; t++)
		if (!strcmp(t->name, type))
			return t->members;
	return NULL;
}

bool qmp_has_word(const char *words, const char *word)
{
	const char *at = words + 1;
	struct qmp_member m;

	while (qmp_next_member(&at, &m))
		if (!strcmp(m.name, word))
			return true;
	return false;
}

/* --- checking --- */

#define PATH 128

static int check(const char *type, const json_t *v, const char *path, struct err *err);

static const struct builtin {
	const char *name, *called;
	int types[2];
} builtins[] = {
	{ "str", "string", { JSON_STRING, JSON_STRING } },     { "int", "integer", { JSON_INTEGER, JSON_INTEGER } },
	{ "size", "integer", { JSON_INTEGER, JSON_INTEGER } }, { "bool", "boolean", { JSON_TRUE, JSON_FALSE } },
	{ "number", "number", { JSON_INTEGER, JSON_REAL } },
};

static int wrong_type(const char *path, const char *expected, struct err *err)
{
	return err_set(err, "Invalid parameter type for '%s', expected: %s", path, expected);
}

static void join(char *out, const char *path, const char *name)
{
	snprintf(out, PATH, "%.60s%s%.60s", path, *path ? "." : "", name);
}

/* The members that are named, as far as they are there; how many were is counted. */
static int check_named(const char *members, const json_t *o, const char *path, size_t *known, struct err *err)
{
	const char *at = members;
	struct qmp_member m, word;
	char sub[PATH];

	while (qmp_next_member(&at, &m)) {
		const json_t *v = json_object_get(o, m.name);

		join(sub, path, m.name);
		if (!v && !m.optional)
			return err_set(err, "Parameter '%s' is missing", sub);
		if (v && check(m.type, v, sub, err))
			return -1;
		*known += v != NULL;
		if (!m.tag)
			continue;
		/* What follows are the words that the tag may have, with what each adds. */
		while (qmp_next_member(&at, &word))
			if (!strcmp(word.name, json_string_value(v)))
				return check_named(qmp_members(word.type), o, path, known, err);
	}
	return 0;
}

static bool is_named(const char *members, const json_t *o, const char *key)
{
	const char *at = members;
	struct qmp_member m, word;

	while (qmp_next_member(&at, &m)) {
		if (!strcmp(m.name, key))
			return true;
		if (!m.tag)
			continue;
		while (qmp_next_member(&at, &word))
			if (!strcmp(word.name, json_string_value(json_object_get(o, m.name))))
				return is_named(qmp_members(word.type), o, key);
	}
	return false;
}

static int check_object(const char *members, const json_t *o, const char *path, struct err *err)
{
	size_t known = 0;
	const char *key;
	char sub[PATH];
	json_t *v;

	if (check_named(members, o, path, &known, err))
		return -1;
	if (json_object_size(o) == known)
		return 0;
	json_object_foreach((json_t *)o, key, v)
	{
		join(sub, path, key);
		if (!is_named(members, o, key))
			return err_set(err, "Parameter '%s' is unexpected", sub);
	}
	return 0;
}

static int check_list(const char *type, const json_t *v, const char *path, struct err *err)
{
	char element[QMP_NAME], sub[PATH];

	if (!json_is_array(v))
		return wrong_type(path, "array", err);
	snprintf(element, sizeof(element), "%.*s", (int)strlen(type) - 2, type + 1);
	for (size_t n = 0; n < json_array_size(v); n++) {
		snprintf(sub, sizeof(sub), "%.100s[%zu]", path, n);
		if (check(element, json_array_get(v, n), sub, err))
			return -1;
	}
	return 0;
}

static int check(const char *type, const json_t *v, const char *path, struct err *err)
{
	const char *members, *last;

	if (*type == '[')
		return check_list(type, v, path, err);
	for (size_t n = 0; n < sizeof(builtins) / sizeof(builtins[0]); n++) {
		const struct builtin *b = &builtins[n];

		if (strcmp(b->name, type))
			continue;
		if ((int)json_typeof(v) != b->types[0] && (int)json_typeof(v) != b->types[1])
			return wrong_type(path, b->called, err);
		return strcmp(type, "size") || json_integer_value(v) >= 0 ? 0 : wrong_type(path, "uint64", err);
	}
	members = qmp_members(type);
	if (!members)
		return 0; /* any */
	if (*members != '=')
		return json_is_object(v) ? check_object(members, v, path, err) : wrong_type(path, "object", err);
	if (!json_is_string(v))
		return wrong_type(path, "string", err);
	last = strrchr(path, '.');
	return qmp_has_word(members, json_string_value(v))
		       ? 0
		       : err_set(err, "Parameter '%s' does not accept value '%.80s'", last ? last + 1 : path,
				 json_string_value(v));
}

int qmp_check(const char *type, const json_t *value, struct err *err)
{
	return check(type, value, "", err);
}

int qmp_check_members(const char *members, const json_t *object, struct err *err)
{
	return check_object(members, object, "", err);
}
