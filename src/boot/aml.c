/* See aml.h. */
#include "boot/aml.h"

#include <string.h>

#include "base/bytes.h"

enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_EXT = 0x5b,
	OP_EXT_DEVICE = 0x82
};

void aml_bytes(struct aml *a, const void *data, size_t len)
{
	if (a->failed || len > a->size - a->len) {
		a->failed = true;
		return;
	}
	memcpy(a->buf + a->len, data, len);
	a->len += len;
}

void aml_byte(struct aml *a, uint8_t b)
{
	aml_bytes(a, &b, 1);
}

static void put16(struct aml *a, uint16_t v)
{
	v = htole16(v);
	aml_bytes(a, &v, 2);
}

static void put32(struct aml *a, uint32_t v)
{
	v = htole32(v);
	aml_bytes(a, &v, 4);
}

static void put64(struct aml *a, uint64_t v)
{
	v = htole64(v);
	aml_bytes(a, &v, 8);
}

void aml_int(struct aml *a, uint64_t v)
{
	if (v <= 1) {
		aml_byte(a, v ? OP_ONE : OP_ZERO);
	} else if (v <= 0xff) {
		aml_byte(a, OP_BYTE);
		aml_byte(a, (uint8_t)v);
	} else if (v <= 0xffff) {
		aml_byte(a, OP_WORD);
		put16(a, (uint16_t)v);
	} else if (v <= 0xffffffff) {
		aml_byte(a, OP_DWORD);
		put32(a, (uint32_t)v);
	} else {
		aml_byte(a, OP_QWORD);
		put64(a, v);
	}
}

void aml_string(struct aml *a, const char *s)
{
	aml_byte(a, OP_STRING);
	aml_bytes(a, s, strlen(s) + 1);
}

void aml_name_string(struct aml *a, const char *name)
{
	size_t n;

	if (*name == '\\')
		aml_byte(a, (uint8_t)*name++);
	n = strlen(name);
	aml_bytes(a, name, n < 4 ? n : 4);
	for (; n < 4; n++)
		aml_byte(a, '_');
}

/* Three letters and four hexadecimal digits, compressed (ACPI 6.4, 6.1.5). */
void aml_eisaid(struct aml *a, const char *id)
{
	uint32_t v = (uint32_t)(id[0] - 0x40) << 10 | (uint32_t)(id[1] - 0x40) << 5 | (uint32_t)(id[2] - 0x40);

	for (unsigned k = 3; k < 7; k++)
		v = v << 4 | (uint32_t)(id[k] <= '9' ? id[k] - '0' : id[k] - 'A' + 10);
	aml_byte(a, OP_DWORD);
	v = htobe32(v);
	aml_bytes(a, &v, 4);
}

/* --- brackets: lengths always take three bytes --- */

#define LENGTH_BYTES 3

static void begin(struct aml *a)
{
	if (a->depth == AML_DEPTH) {
		a->failed = true;
		return;
	}
	a->open[a->depth++] = a->len;
	aml_bytes(a, "\0\0\0", LENGTH_BYTES);
}

void aml_end(struct aml *a)
{
	size_t at, len;

	if (a->failed || !a->depth) {
		a->failed = true;
		return;
	}
	at = a->open[--a->depth];
	len = a->len - at;
	if (len >= 1u << 20)
		a->failed = true;
	a->buf[at] = (uint8_t)(0x80 | (len & 15));
	a->buf[at + 1] = (uint8_t)(len >> 4);
	a->buf[at + 2] = (uint8_t)(len >> 12);
}

void aml_scope(struct aml *a, const char *name)
{
	aml_byte(a, OP_SCOPE);
	begin(a);
	aml_name_string(a, name);
}

void aml_device(struct aml *a, const char *name)
{
	aml_byte(a, OP_EXT);
	aml_byte(a, OP_EXT_DEVICE);
	begin(a);
	aml_name_string(a, name);
}

void aml_package(struct aml *a, uint8_t elements)
{
	aml_byte(a, OP_PACKAGE);
	begin(a);
	aml_byte(a, elements);
}

void aml_name(struct aml *a, const char *name)
{
	aml_byte(a, OP_NAME);
	aml_name_string(a, name);
}

void aml_name_int(struct aml *a, const char *name, uint64_t v)
{
	aml_name(a, name);
	aml_int(a, v);
}

void aml_name_string_value(struct aml *a, const char *name, const char *value)
{
	aml_name(a, name);
	aml_string(a, value);
}

/* --- resources: a Buffer whose size is a word, filled in at the end --- */

void aml_resources(struct aml *a, const char *name)
{
	aml_name(a, name);
	aml_byte(a, OP_BUFFER);
	begin(a);
	aml_byte(a, OP_WORD);
	put16(a, 0);
}

void aml_resources_end(struct aml *a)
{
	size_t data;

	aml_bytes(a, "\x79\0", 2);
	if (a->failed || !a->depth)
		return;
	data = a->open[a->depth - 1] + LENGTH_BYTES + 3;
	st_le16(a->buf + data - 2, (uint16_t)(a->len - data));
	aml_end(a);
}

void aml_res_io(struct aml *a, uint16_t base, uint8_t len)
{
	aml_bytes(a, "\x47\x01", 2);
	put16(a, base);
	put16(a, base);
	aml_byte(a, 1);
	aml_byte(a, len);
}

void aml_res_irq(struct aml *a, unsigned irq)
{
	aml_byte(a, 0x22);
	put16(a, (uint16_t)(1u << irq));
}

void aml_res_interrupt(struct aml *a, uint32_t gsi)
{
	aml_byte(a, 0x89);
	put16(a, 6);
	aml_byte(a, 0x01); /* consumer, level, active high, exclusive */
	aml_byte(a, 1);
	put32(a, gsi);
}

void aml_res_memory32(struct aml *a, uint32_t base, uint32_t len)
{
	aml_byte(a, 0x86);
	put16(a, 9);
	aml_byte(a, 1); /* read-write */
	put32(a, base);
	put32(a, len);
}

/* Word address space descriptor. Fixed minimum and maximum, produced by the bridge. */
static void word_space(struct aml *a, uint8_t type, uint8_t type_flags, uint16_t first, uint16_t last)
{
	aml_byte(a, 0x88);
	put16(a, 13);
	aml_byte(a, type);
	aml_byte(a, 0x0c);
	aml_byte(a, type_flags);
	put16(a, 0);
	put16(a, first);
	put16(a, last);
	put16(a, 0);
	put16(a, (uint16_t)(last - first + 1));
}

void aml_res_bus_range(struct aml *a, uint16_t first, uint16_t last)
{
	word_space(a, 2, 0, first, last);
}

void aml_res_io_window(struct aml *a, uint16_t first, uint16_t last)
{
	word_space(a, 1, 3, first, last);
}

void aml_res_memory_window(struct aml *a, uint64_t first, uint64_t last)
{
	aml_byte(a, 0x8a);
	put16(a, 43);
	aml_byte(a, 0);
	aml_byte(a, 0x0c);
	aml_byte(a, 1); /* read-write, not cacheable */
	put64(a, 0);
	put64(a, first);
	put64(a, last);
	put64(a, 0);
	put64(a, last - first + 1);
}
