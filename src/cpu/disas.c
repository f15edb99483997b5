/* See disas.h. */
#include "cpu/disas.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"

#ifdef CAPSTONE
#include <capstone/capstone.h>
#include <dlfcn.h>
#include <pthread.h>
#endif

#define COLUMN 15 /* bytes of the longest instruction */

static void line(FILE *out, uint64_t address, const uint8_t *bytes, size_t len)
{
	fprintf(out, "    %016" PRIx64 "  ", address);
	for (size_t n = 0; n < len; n++)
		fprintf(out, "%02x", bytes[n]);
}

static void print_bytes(FILE *out, const struct disas_code *c)
{
	for (size_t at = 0; at < c->len; at += COLUMN) {
		line(out, c->address + at, c->bytes + at, c->len - at < COLUMN ? c->len - at : COLUMN);
		fputc('\n', out);
	}
}

static void not_there(FILE *out, const struct disas_code *c)
{
	fprintf(out, "0x%08" PRIx64 ": capstone, which disassembles, is not there\n", c->address);
}

#ifdef CAPSTONE
/*
 * Capstone is loaded when something is disassembled: its tables of all architectures make the start of every command
 * slower, and few need them.
 */
static struct {
	typeof(cs_open) *open;
	typeof(cs_option) *option;
	typeof(cs_malloc) *new;
	typeof(cs_free) *free;
	typeof(cs_disasm) *disasm;
	typeof(cs_disasm_iter) *next;
	typeof(cs_close) *close;
	bool there;
} cs;

static void load(void)
{
	const struct {
		const char *name;
		void *at;
	} functions[] = {
		{ "cs_open", &cs.open },   { "cs_option", &cs.option }, { "cs_malloc", &cs.new },
		{ "cs_free", &cs.free },   { "cs_disasm", &cs.disasm }, { "cs_disasm_iter", &cs.next },
		{ "cs_close", &cs.close },
	};
	void *lib = dlopen(CAPSTONE, RTLD_NOW | RTLD_LOCAL);

	for (size_t n = 0; lib && n < ARRAY_LEN(functions); n++) {
		void *f = dlsym(lib, functions[n].name);

		if (!f)
			return;
		memcpy(functions[n].at, &f, sizeof(f));
	}
	cs.there = lib;
}

static bool open_for(const struct disas_code *c, csh *handle)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	cs_mode mode = c->bits == 64 ? CS_MODE_64 : c->bits == 32 ? CS_MODE_32 : CS_MODE_16;

	pthread_once(&once, load);
	return cs.there && cs.open(CS_ARCH_X86, mode, handle) == CS_ERR_OK;
}

void disas_print(FILE *out, const struct disas_code *c)
{
	const uint8_t *at = c->bytes;
	uint64_t address = c->address;
	size_t left = c->len;
	cs_insn *i = NULL;
	csh handle;
	size_t next = 0; /* of the data */

	if (!open_for(c, &handle)) {
		print_bytes(out, c);
		return;
	}
	i = cs.new(handle);
	while (i && left) {
		if (next < c->data_count && (size_t)(at - c->bytes) >= c->data[next].at && c->data[next].len <= left) {
			size_t len = c->data[next++].len;

			line(out, address, at, len);
			fputc('\n', out);
			at += len;
			address += len;
			left -= len;
			continue;
		}
		if (cs.next(handle, &at, &left, &address, i)) {
			line(out, i->address, i->bytes, i->size);
			fprintf(out, "%*s%s %s\n", 2 * (COLUMN - (int)i->size) + 2, "", i->mnemonic, i->op_str);
			continue;
		}
		/* One that capstone does not know. */
		line(out, address++, at++, 1);
		fprintf(out, "%*s(?)\n", 2 * (COLUMN - 1) + 2, "");
		left--;
	}
	if (i)
		cs.free(i, 1);
	cs.close(&handle);
}

#define SPLIT 8u /* bytes on a line */

static void print_some(FILE *out, const uint8_t *bytes, size_t len)
{
	for (size_t n = 0; n < len; n++)
		fprintf(out, " %02x", bytes[n]);
}

size_t disas_print_one(FILE *out, const struct disas_code *c)
{
	cs_insn *i = NULL;
	csh handle;
	size_t len = 0;

	if (!open_for(c, &handle)) {
		not_there(out, c);
		return 0;
	}
	cs.option(handle, CS_OPT_SYNTAX, CS_OPT_SYNTAX_ATT);
	if (cs.disasm(handle, c->bytes, c->len, c->address, 1, &i) == 1) {
		size_t first = i->size < SPLIT ? i->size : SPLIT;

		len = i->size;
		fprintf(out, "0x%08" PRIx64 ": ", c->address);
		print_some(out, i->bytes, first);
		fprintf(out, "%*s  %-8s %s\n", (int)(3 * (SPLIT - first)), "", i->mnemonic, i->op_str);
		if (len > first) {
			fprintf(out, "0x%08" PRIx64 ": ", c->address + first);
			print_some(out, i->bytes + first, len - first);
			fputc('\n', out);
		}
		cs.free(i, 1);
	}
	cs.close(&handle);
	return len;
}
#else
void disas_print(FILE *out, const struct disas_code *c)
{
	print_bytes(out, c);
}

size_t disas_print_one(FILE *out, const struct disas_code *c)
{
	not_there(out, c);
	return 0;
}
#endif
