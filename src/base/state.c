/*
 * Reading and writing of state tables. Stream of a section:
 *   u8 name_len, name; u8 inst_len, instance; u16 version; fields; u8 0; subsections
 * A field is u8 name_len (not 0), name, u8 type, u32 count, payload; a STATE_STRUCT payload is `count`
 * times the fields of its table, each closed by u8 0, and the subsections if its table has any. A subsection is u8
 * name_len, name, u16 version, fields, u8 0; the list is closed by u8 0. All little-endian.
 */
#include "base/state.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"

#define NAME_MAX_LEN 63

static const uint8_t type_size[] = {
	[STATE_U8] = 1, [STATE_U16] = 2, [STATE_U32] = 4, [STATE_U64] = 8, [STATE_BOOL] = 1
};

/* --- writing --- */

static void put(FILE *f, uint64_t v, unsigned size)
{
	uint8_t b[8];

	st_le64(b, v);
	fwrite(b, 1, size, f);
}

static void put_name(FILE *f, const char *name)
{
	size_t n = strlen(name);

	put(f, n, 1);
	fwrite(name, 1, n, f);
}

static uint64_t get_element(const void *p, enum state_type type)
{
	switch (type) {
	case STATE_U8:
		return *(const uint8_t *)p;
	case STATE_BOOL:
		return *(const bool *)p;
	case STATE_U16:
		return *(const uint16_t *)p;
	case STATE_U32:
		return *(const uint32_t *)p;
	default:
		return *(const uint64_t *)p;
	}
}

static void set_element(void *p, enum state_type type, uint64_t v)
{
	switch (type) {
	case STATE_U8:
		*(uint8_t *)p = v;
		break;
	case STATE_BOOL:
		*(bool *)p = v;
		break;
	case STATE_U16:
		*(uint16_t *)p = v;
		break;
	case STATE_U32:
		*(uint32_t *)p = v;
		break;
	default:
		*(uint64_t *)p = v;
		break;
	}
}

/* The i-th element of a field; through the pointer in the object for a reference. */
static char *element(const struct state_field *d, char *obj, uint32_t i)
{
	char *p = obj + d->offset + (size_t)i * d->size;

	return d->ref ? *(char **)p : p;
}

static void save_subsections(FILE *f, const struct state_desc *desc, void *obj);

static void save_fields(FILE *f, const struct state_field *fields, char *obj)
{
	for (const struct state_field *d = fields; d->type != STATE_END; d++) {
		put_name(f, d->name);
		put(f, d->type, 1);
		put(f, d->count, 4);
		for (uint32_t i = 0; i < d->count; i++) {
			char *p = element(d, obj, i);

			if (d->type != STATE_STRUCT) {
				put(f, get_element(p, d->type), type_size[d->type]);
				continue;
			}
			if (d->sub->pre_save)
				d->sub->pre_save(p);
			save_fields(f, d->sub->fields, p);
			if (d->sub->subsections)
				save_subsections(f, d->sub, p);
		}
	}
	put(f, 0, 1);
}

static void save_subsections(FILE *f, const struct state_desc *desc, void *obj)
{
	for (const struct state_desc *const *s = desc->subsections; s && *s; s++) {
		if (!(*s)->needed(obj))
			continue;
		put_name(f, (*s)->name);
		put(f, (*s)->version, 2);
		if ((*s)->pre_save)
			(*s)->pre_save(obj);
		save_fields(f, (*s)->fields, obj);
	}
	put(f, 0, 1);
}

int state_save(FILE *f, const struct state_desc *desc, const char *instance, void *obj, struct err *err)
{
	if (desc->pre_save)
		desc->pre_save(obj);
	put_name(f, desc->name);
	put_name(f, instance);
	put(f, desc->version, 2);
	save_fields(f, desc->fields, obj);
	save_subsections(f, desc, obj);
	return ferror(f) ? err_set(err, "%s %s: the state could not be written", desc->name, instance) : 0;
}

/* --- reading --- */

struct reader {
	FILE *f;
	struct err *err;
	const char *section; /* for messages */
};

static int get(struct reader *r, uint64_t *v, unsigned size)
{
	uint8_t b[8] = { 0 };

	*v = 0;
	if (fread(b, 1, size, r->f) != size)
		return err_set(r->err, "saved state of %s: ends too early", r->section);
	*v = ld_le64(b);
	return 0;
}

static int get_name(struct reader *r, char name[NAME_MAX_LEN + 1])
{
	uint64_t n;

	if (get(r, &n, 1))
		return -1;
	if (n > NAME_MAX_LEN)
		return err_set(r->err, "saved state of %s: a name is too long", r->section);
	if (fread(name, 1, n, r->f) != n)
		return err_set(r->err, "saved state of %s: ends too early", r->section);
	name[n] = '\0';
	/* Names go into messages. */
	for (uint64_t k = 0; k < n; k++)
		if (name[k] <= ' ' || name[k] > '~')
			return err_set(r->err, "saved state of %s: a name is damaged", r->section);
	return 0;
}

static int load_fields(struct reader *r, const struct state_field *fields, unsigned version, char *obj);
static int load_subsections(struct reader *r, const struct state_desc *desc, void *obj);

static int load_field(struct reader *r, const struct state_field *d, unsigned version, char *obj)
{
	uint64_t type, count, v;

	if (get(r, &type, 1) || get(r, &count, 4))
		return -1;
	if (type != d->type || count != d->count)
		return err_set(r->err, "saved state of %s: field %s has another shape", r->section, d->name);
	for (uint32_t i = 0; i < d->count; i++) {
		char *p = element(d, obj, i);

		if (d->type == STATE_STRUCT) {
			if (load_fields(r, d->sub->fields, version, p) ||
			    (d->sub->subsections && load_subsections(r, d->sub, p)))
				return -1;
			if (d->sub->post_load && d->sub->post_load(p, r->err))
				return err_prefix(r->err, "saved state of %s: field %s", r->section, d->name);
			continue;
		}
		if (get(r, &v, type_size[d->type]))
			return -1;
		if (d->type == STATE_BOOL && v > 1)
			return err_set(r->err, "saved state of %s: field %s is not a boolean", r->section, d->name);
		set_element(p, d->type, v);
	}
	return 0;
}

/* Fields come in the order of the table; only those younger than `version` may be missing. */
static int load_fields(struct reader *r, const struct state_field *fields, unsigned version, char *obj)
{
	for (const struct state_field *d = fields; d->type != STATE_END; d++) {
		char name[NAME_MAX_LEN + 1];

		if (d->since > version)
			continue;
		if (get_name(r, name))
			return -1;
		if (strcmp(name, d->name))
			return err_set(r->err, "saved state of %s: expected field %s, found '%s'", r->section, d->name,
				       name);
		if (load_field(r, d, version, obj))
			return -1;
	}
	uint64_t end;
	if (get(r, &end, 1))
		return -1;
	return end ? err_set(r->err, "saved state of %s: unknown field", r->section) : 0;
}

static int load_version(struct reader *r, const struct state_desc *desc, uint64_t *version)
{
	if (get(r, version, 2))
		return -1;
	if (*version > desc->version || *version < desc->min_version)
		return err_set(r->err, "saved state of %s: version %" PRIu64 ", this program reads %u to %u",
			       r->section, *version, desc->min_version, desc->version);
	return 0;
}

static int load_subsections(struct reader *r, const struct state_desc *desc, void *obj)
{
	const struct state_desc *const *next = desc->subsections;
	char name[NAME_MAX_LEN + 1];
	uint64_t version;

	for (;;) {
		if (get_name(r, name))
			return -1;
		if (!*name)
			return 0;
		/* In the order of the list, each at most once. */
		while (next && *next && strcmp((*next)->name, name))
			next++;
		if (!next || !*next)
			return err_set(r->err, "saved state of %s: unknown part '%s'", r->section, name);
		if (load_version(r, *next, &version) || load_fields(r, (*next)->fields, version, obj))
			return -1;
		if ((*next)->post_load && (*next)->post_load(obj, r->err))
			return err_prefix(r->err, "saved state of %s", r->section);
		next++;
	}
}

int state_load(FILE *f, const struct state_desc *desc, const char *instance, void *obj, struct err *err)
{
	struct reader r = { f, err, desc->name };
	char name[NAME_MAX_LEN + 1], inst[NAME_MAX_LEN + 1];
	uint64_t version;

	if (get_name(&r, name) || get_name(&r, inst))
		return -1;
	if (strcmp(name, desc->name) || strcmp(inst, instance))
		return err_set(err, "saved state: expected %s %s, found %s %s", desc->name, instance, name, inst);
	if (load_version(&r, desc, &version) || load_fields(&r, desc->fields, version, obj) ||
	    load_subsections(&r, desc, obj))
		return -1;
	if (desc->post_load && desc->post_load(obj, err))
		return err_prefix(err, "saved state of %s %s", desc->name, instance);
	return 0;
}

/* --- printing --- */

static void print_subsections(FILE *out, const struct state_desc *desc, const char *path, char *obj);

static void print_fields(FILE *out, const struct state_field *fields, const char *path, char *obj)
{
	for (const struct state_field *d = fields; d->type != STATE_END; d++) {
		for (uint32_t i = 0; i < d->count; i++) {
			char *p = element(d, obj, i), name[256];

			if (d->count > 1)
				snprintf(name, sizeof(name), "%s.%s[%u]", path, d->name, i);
			else
				snprintf(name, sizeof(name), "%s.%s", path, d->name);
			if (d->type == STATE_STRUCT) {
				print_fields(out, d->sub->fields, name, p);
				print_subsections(out, d->sub, name, p);
			} else {
				fprintf(out, "%s = 0x%" PRIx64 "\n", name, get_element(p, d->type));
			}
		}
	}
}

static void print_subsections(FILE *out, const struct state_desc *desc, const char *path, char *obj)
{
	for (const struct state_desc *const *s = desc->subsections; s && *s; s++)
		if ((*s)->needed(obj))
			print_fields(out, (*s)->fields, path, obj);
}

void state_print(FILE *out, const struct state_desc *desc, const char *instance, void *obj)
{
	char path[160];

	if (desc->pre_save)
		desc->pre_save(obj);
	snprintf(path, sizeof(path), "%s:%s", desc->name, instance);
	print_fields(out, desc->fields, path, obj);
	print_subsections(out, desc, path, obj);
}
