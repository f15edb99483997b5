/* -object memory-backend-*, -mem-path and -mem-prealloc: what is behind the guest's memory. */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "cli/qemu.h"

/*
 * Properties of each kind: a key, or the values that say what is so anyhow, or which make no difference. Those without
 * either have code.
 */
static const struct {
	const char *kind, *name, *key, *values;
} properties[] = {
	{ "ram|memfd|file", "qom-type", NULL, NULL },
	{ "ram|memfd|file", "id", NULL, NULL },
	{ "ram|memfd|file", "size", NULL, NULL },
	{ "ram", "share", NULL, "on|off" },
	{ "memfd|file", "share", "memory.share", "on|off" },
	{ "ram|memfd|file", "prealloc", "memory.prealloc", "on|off" },
	{ "ram|memfd|file", "merge", NULL, "on|off" },
	{ "ram|memfd|file", "dump", NULL, "on|off" },
	{ "ram|memfd|file", "reserve", NULL, "off" },
	{ "file", "mem-path", "memory.path", NULL },
	{ "file", "pmem", NULL, "off" },
	{ "file", "readonly", NULL, "off" },
	{ "file", "discard-data", NULL, "off" },
	{ "memfd", "hugetlb", "memory.hugetlb", "on|off" },
	{ "memfd", "hugetlbsize", NULL, "0|2M|2097152" },
	{ "memfd", "seal", NULL, "on" },
};

static const char *kind_of(struct qopts *o)
{
	return qopts_get(o, "qom-type") + strlen("memory-backend-");
}

int qemu_check_backend(struct qemu *q, struct qopts *o)
{
	const char *kind = kind_of(o), *id = qopts_get(o, "id"), *size = qopts_get(o, "size");
	uint64_t bytes;

	if (!qword_in("ram|memfd|file", kind))
		return qopts_fail(o, q->err, "Parameter 'qom-type' does not accept value 'memory-backend-%s'", kind);
	for (size_t n = 0; n < ARRAY_LEN(properties); n++) {
		const char *value = qword_in(properties[n].kind, kind) ? qopts_get(o, properties[n].name) : NULL;

		if (value && properties[n].values && !qvalue_in(properties[n].values, value))
			return qopts_fail(o, q->err, "Property 'memory-backend-%s.%s': '%s' is not there, only %s",
					  kind, properties[n].name, value, properties[n].values);
	}
	if (!id)
		return qopts_fail(o, q->err, "Parameter 'id' is missing");
	if (qlist_find(&q->objects, "id", id) != o)
		return qopts_fail(o, q->err, "Duplicate ID '%s' for object", id);
	if (!size || parse_size(size, 1, &bytes) || !bytes)
		return qopts_fail(o, q->err,
				  size ? "Parameter 'size' expects a size" : "can't create backend with size 0");
	if (!strcmp(kind, "file") && !qopts_get(o, "mem-path"))
		return qopts_fail(o, q->err, "mem-path property not set");
	return qopts_all_read(o, q->err);
}

int qemu_mem_path(struct qemu *q, const char *text)
{
	q->mem_path = text;
	return 0;
}

/* -m is the size of the machine's memory, and the object is not another one. */
static int set_size(struct qemu *q, struct qopts *o)
{
	const char *size = qopts_get(o, "size"), *said = config_peek(q->c, "memory");
	uint64_t bytes = 0, of_machine;
	char text[32];

	if (!size || parse_size(size, 1, &bytes))
		return qopts_fail(o, q->err, "Parameter 'size' expects a size");
	if (said && (parse_size(said, 1048576, &of_machine) || of_machine != bytes))
		return qopts_fail(o, q->err, "machine memory size does not match the size of the memory backend");
	snprintf(text, sizeof(text), "%lluK", (unsigned long long)(bytes >> 10));
	return said ? 0 : qemu_set(q, o, NULL, "memory", text);
}

static int set_properties(struct qemu *q, struct qopts *o, const char *kind)
{
	const char *share = qopts_get(o, "share");

	/* What others may have a share in is a memfd, whatever its name. */
	if (!strcmp(kind, "ram"))
		kind = share && parse_bool(share) == 1 ? "memfd" : kind;
	if (strcmp(kind, "ram") && qemu_set(q, o, NULL, "memory.backing", kind))
		return -1;
	for (size_t n = 0; n < ARRAY_LEN(properties); n++) {
		const char *value = properties[n].key && qword_in(properties[n].kind, kind)
					    ? qopts_get(o, properties[n].name)
					    : NULL;

		if (value && qemu_set(q, o, NULL, properties[n].key, value))
			return -1;
	}
	return 0;
}

int qemu_use_backend(struct qemu *q, struct qopts *machine, const char *id)
{
	struct qopts *o = id ? qlist_find(&q->objects, "id", id) : NULL;
	const char *type = o ? qopts_get(o, "qom-type") : NULL;

	if (id && (!type || strncmp(type, "memory-backend-", 15)))
		return qopts_fail(machine, q->err, "Memory backend '%s' not found", id);
	if (id)
		return set_size(q, o) || set_properties(q, o, kind_of(o)) ? -1 : 0;
	if (q->mem_path && config_peek(q->c, "memory.backing"))
		return err_set(q->err, "-mem-path %s: memory is on an object already", q->mem_path);
	if (q->mem_path &&
	    (qemu_set(q, NULL, NULL, "memory.backing", "file") || qemu_set(q, NULL, NULL, "memory.path", q->mem_path)))
		return -1;
	return q->mem_prealloc ? qemu_set(q, NULL, NULL, "memory.prealloc", "on") : 0;
}
