/* -smbios and -fw_cfg. */
#include <string.h>

#include "base/bytes.h"
#include "cli/qemu.h"

/* The fields of each type are keys of the same name, as "smbios.type1.product". */
static const struct {
	const char *type, *fields;
} texts[] = {
	{ "0", "vendor|version|date" },
	{ "1", "manufacturer|product|version|serial|sku|family" },
	{ "3", "manufacturer|version|serial|asset" },
};

static bool is_text(const char *type, const char *field)
{
	for (size_t n = 0; n < ARRAY_LEN(texts); n++)
		if (!strcmp(texts[n].type, type))
			return qword_in(texts[n].fields, field);
	return false;
}

/* type=11: strings for programs in the guest. */
static int add_oem(struct qemu *q, struct qopts *o)
{
	const char *value;
	char key[32];

	for (unsigned n = 0; (value = qopts_nth(o, "value", n)); n++) {
		snprintf(key, sizeof(key), "smbios.oem%u", q->oem_strings++);
		if (qemu_set(q, o, NULL, key, value))
			return -1;
	}
	return qopts_all_read(o, q->err);
}

int qemu_smbios(struct qemu *q, struct qopts *o)
{
	const char *type = qopts_get(o, "type"), *uuid;

	if (!type)
		return qopts_fail(o, q->err, "Must specify type=: tables of a file are not there");
	if (!qword_in("0|1|3|11", type))
		return qopts_fail(o, q->err, "Don't know how to build fields for SMBIOS type %s", type);
	if (!strcmp(type, "11"))
		return add_oem(q, o);
	uuid = strcmp(type, "1") ? NULL : qopts_get(o, "uuid");
	if (uuid && qemu_set(q, o, NULL, "uuid", uuid))
		return -1;
	for (unsigned n = 0; n < o->count; n++) {
		struct qpair *p = &o->pair[n];
		char key[64];

		if (!is_text(type, p->name))
			continue;
		p->used = true;
		snprintf(key, sizeof(key), "smbios.type%s.%s", type, p->name);
		if (qemu_set(q, o, NULL, key, p->value))
			return -1;
	}
	return qopts_all_read(o, q->err);
}

int qemu_fw_cfg(struct qemu *q, struct qopts *o)
{
	const char *name = qopts_get(o, "name"), *file = qopts_get(o, "file"), *text = qopts_get(o, "string");
	char prefix[24];

	if (!name || !file == !text)
		return qopts_fail(o, q->err, "a name and one of file= and string= are needed");
	snprintf(prefix, sizeof(prefix), "fwcfg%u", q->fw_cfg_files++);
	return qopts_all_read(o, q->err) || qemu_set(q, o, prefix, "name", name) ||
			       qemu_set(q, o, prefix, file ? "path" : "text", file ? file : text)
		       ? -1
		       : 0;
}
