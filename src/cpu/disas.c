/* See disas.h. */
#include "cpu/disas.h"

#include <inttypes.h>

#ifdef HAVE_CAPSTONE
#include <capstone/capstone.h>
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

#ifdef HAVE_CAPSTONE
void disas_print(FILE *out, const struct disas_code *c)
{
	cs_mode mode = c->bits == 64 ? CS_MODE_64 : c->bits == 32 ? CS_MODE_32 : CS_MODE_16;
	const uint8_t *at = c->bytes;
	uint64_t address = c->address;
	size_t left = c->len;
	cs_insn *i = NULL;
	csh handle;
	size_t next = 0; /* of the data */

	if (cs_open(CS_ARCH_X86, mode, &handle) != CS_ERR_OK) {
		print_bytes(out, c);
		return;
	}
	i = cs_malloc(handle);
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
		if (cs_disasm_iter(handle, &at, &left, &address, i)) {
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
		cs_free(i, 1);
	cs_close(&handle);
}

#define SPLIT 8u /* bytes on a line */

static void print_some(FILE *out, const uint8_t *bytes, size_t len)
{
	for (size_t n = 0; n < len; n++)
		fprintf(out, " %02x", bytes[n]);
}

size_t disas_print_one(FILE *out, const struct disas_code *c)
{
	cs_mode mode = c->bits == 64 ? CS_MODE_64 : c->bits == 32 ? CS_MODE_32 : CS_MODE_16;
	cs_insn *i = NULL;
	csh handle;
	size_t len = 0;

	if (cs_open(CS_ARCH_X86, mode, &handle) != CS_ERR_OK)
		return 0;
	cs_option(handle, CS_OPT_SYNTAX, CS_OPT_SYNTAX_ATT);
	if (cs_disasm(handle, c->bytes, c->len, c->address, 1, &i) == 1) {
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
		cs_free(i, 1);
	}
	cs_close(&handle);
	return len;
}
#else
void disas_print(FILE *out, const struct disas_code *c)
{
	print_bytes(out, c);
}

size_t disas_print_one(FILE *out, const struct disas_code *c)
{
	fprintf(out, "0x%08" PRIx64 ": this program is built without a disassembler\n", c->address);
	return 0;
}
#endif
