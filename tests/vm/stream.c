/* See stream.h. */
#include "stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/bytes.h"
#include "base/state.h"

struct cursor {
	struct stream *s;
	size_t at;
	char section[64], instance[64];
};

static void need(bool ok, const char *what, size_t at)
{
	if (ok)
		return;
	fprintf(stderr, "saved state: %s at offset %zu\n", what, at);
	abort();
}

static uint64_t number(struct cursor *c, unsigned size)
{
	uint8_t b[8] = { 0 };

	need(range_within(c->at, size, c->s->len), "the end", c->at);
	memcpy(b, c->s->data + c->at, size);
	c->at += size;
	return ld_le64(b);
}

static bool name(struct cursor *c, char out[64])
{
	size_t n = number(c, 1);

	need(n < 64 && range_within(c->at, n, c->s->len), "a name", c->at);
	memcpy(out, c->s->data + c->at, n);
	out[n] = 0;
	c->at += n;
	return n > 0;
}

static void fields(struct cursor *c, const char *outer);

static void field(struct cursor *c, const char *outer, const char *inner)
{
	static const uint8_t sizes[] = { 1, 2, 4, 8, 1 };
	char full[64];
	uint8_t type = (uint8_t)number(c, 1);
	uint32_t count = (uint32_t)number(c, 4);
	struct stream *s = c->s;

	need(type <= STATE_STRUCT, "a type", c->at);
	need(snprintf(full, sizeof(full), "%s%s%s", outer, *outer ? "." : "", inner) < 64, "a long name", c->at);
	for (uint32_t n = 0; n < count; n++) {
		struct field *f;

		if (type == STATE_STRUCT) {
			fields(c, full);
			continue;
		}
		if (!(s->field_count & (s->field_count - 1))) /* full: at the powers of two */
			s->fields = realloc(s->fields, (s->field_count ? 2 * s->field_count : 1) * sizeof(*s->fields));
		f = &s->fields[s->field_count++];
		*f = (struct field){ .type = type, .index = n, .count = count, .at = c->at, .size = sizes[type] };
		strcpy(f->section, c->section);
		strcpy(f->instance, c->instance);
		strcpy(f->name, full);
		number(c, f->size);
	}
}

static void fields(struct cursor *c, const char *outer)
{
	char inner[64];

	while (name(c, inner))
		field(c, outer, inner);
}

static void section(struct cursor *c)
{
	char part[64];

	name(c, c->section);
	name(c, c->instance);
	number(c, 2);
	fields(c, "");
	while (name(c, part)) {
		number(c, 2);
		fields(c, part);
	}
}

static void ram(struct cursor *c)
{
	uint64_t from;

	number(c, 8);
	number(c, 8);
	while ((from = number(c, 8)) != ~0ull)
		c->at += number(c, 8);
}

void stream_parse(struct stream *s, const void *data, size_t len)
{
	struct cursor c = { .s = s };

	*s = (struct stream){ .data = malloc(len), .len = len };
	memcpy(s->data, data, len);
	need(len > 40 && !memcmp(data, "VIREOSAV", 8), "the magic", 0);
	c.at = 12;
	c.at += number(&c, 4);
	s->config_len = number(&c, 4);
	s->config = c.at;
	c.at += s->config_len + 4;
	s->model = c.at;
	section(&c);
	s->ram = c.at;
	ram(&c);
	s->sections = c.at;
	while (c.at < len - 4)
		section(&c);
	need(c.at == len - 4, "the checksum", c.at);
}

void stream_read(struct stream *s, const char *path)
{
	FILE *f = fopen(path, "r");
	uint8_t *data;
	long len;

	need(f && !fseek(f, 0, SEEK_END), path, 0);
	len = ftell(f);
	rewind(f);
	data = malloc((size_t)len);
	need(fread(data, 1, (size_t)len, f) == (size_t)len, path, 0);
	fclose(f);
	stream_parse(s, data, (size_t)len);
	free(data);
}

void stream_seal(struct stream *s)
{
	st_le32(s->data + s->config + s->config_len, (uint32_t)crc32_z(0, s->data + s->config, s->config_len));
	st_le32(s->data + s->len - 4, (uint32_t)crc32_z(0, s->data, s->len - 4));
}

void stream_write(const struct stream *s, const char *path)
{
	FILE *f = fopen(path, "w");

	need(f && fwrite(s->data, 1, s->len, f) == s->len, path, 0);
	fclose(f);
}

void stream_free(struct stream *s)
{
	free(s->data);
	free(s->fields);
}

uint64_t stream_get(const struct stream *s, const struct field *f)
{
	uint8_t b[8] = { 0 };

	memcpy(b, s->data + f->at, f->size);
	return ld_le64(b);
}

void stream_put(struct stream *s, const struct field *f, uint64_t v)
{
	uint8_t b[8];

	st_le64(b, v);
	memcpy(s->data + f->at, b, f->size);
}

const struct field *stream_find(const struct stream *s, const char *sect, const char *wanted)
{
	for (size_t n = 0; n < s->field_count; n++)
		if (!strcmp(s->fields[n].section, sect) && !strcmp(s->fields[n].name, wanted))
			return &s->fields[n];
	return NULL;
}
