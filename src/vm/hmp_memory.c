/* The monitor's commands about memory and ports: x, xp, i, o, print and what belongs to them. */
#include <ctype.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "base/bytes.h"
#include "cpu/disas.h"
#include "cpu/inspect.h"
#include "vm/hmp.h"
#include "vm/impl.h"

#define INSN_MAX 15u

/* Up to a page's end at a time; false if any byte is not there. */
static bool read_memory(struct hmp *h, bool physical, uint64_t at, uint8_t *bytes, size_t len)
{
	const void *s = physical ? NULL : hmp_state(h);
	uint64_t phys = at;

	while (len) {
		size_t n = MEM_PAGE_SIZE - (at & (MEM_PAGE_SIZE - 1));

		n = n < len ? n : len;
		if (physical)
			phys = at;
		else if (!s || !h->vm->engine->debug_isa->translate(s, h->vm->mem, at, &phys))
			return false;
		if (!mem_read(h->vm->mem, gpa(phys), bytes, n))
			return false;
		at += n;
		bytes += n;
		len -= n;
	}
	return true;
}

static void print_character(FILE *out, uint8_t c)
{
	static const char special[] = "'\\\n\r", words[] = "'\\nr";
	const char *is = c ? strchr(special, c) : NULL;

	if (is)
		fprintf(out, "'\\%c'", words[is - special]);
	else if (c >= 32 && c < 127)
		fprintf(out, "'%c'", c);
	else
		fprintf(out, "'\\x%02x'", c);
}

static void print_value(FILE *out, const struct hmp_format *f, const uint8_t *b)
{
	uint64_t v = f->size == 1 ? b[0] : f->size == 2 ? ld_le16(b) : f->size == 4 ? ld_le32(b) : ld_le64(b);
	int bits = f->size * 8;

	fputc(' ', out);
	switch (f->format) {
	case 'o':
		fprintf(out, "0%*" PRIo64, (bits + 2) / 3, v);
		break;
	case 'u':
		fprintf(out, "%*" PRIu64, (bits * 10 + 32) / 33, v);
		break;
	case 'd':
		fprintf(out, "%*" PRId64, (bits * 10 + 32) / 33, (int64_t)v);
		break;
	case 'c':
		print_character(out, b[0]);
		break;
	default:
		fprintf(out, "0x%0*" PRIx64, bits / 4, v);
	}
}

static void dump(struct hmp *h, struct hmp_format f, bool physical, uint64_t at)
{
	uint64_t left;
	size_t line;

	if (f.format == 'c')
		f.size = 1;
	line = f.size == 1 ? 8 : 16;
	left = (uint64_t)f.count * (unsigned)f.size;
	while (left && !hmp_full(h)) {
		uint8_t bytes[16];
		size_t n = left < line ? left : line;

		fprintf(h->out, "%016" PRIx64 ":", at);
		if (!read_memory(h, physical, at, bytes, n)) {
			fprintf(h->out, " Cannot access memory\n");
			return;
		}
		for (size_t k = 0; k < n; k += (unsigned)f.size)
			print_value(h->out, &f, bytes + k);
		fputc('\n', h->out);
		at += n;
		left -= n;
	}
}

static void disassemble(struct hmp *h, int count, bool physical, uint64_t at)
{
	const void *s = hmp_state(h);
	unsigned bits = s ? h->vm->engine->debug_isa->inspect->code_bits(s) : 64;

	while (count-- > 0 && !hmp_full(h)) {
		uint8_t bytes[INSN_MAX];
		size_t len = INSN_MAX, took;

		/* The last instruction before what is not there may be shorter. */
		while (len && !read_memory(h, physical, at, bytes, len))
			len--;
		if (!len) {
			fprintf(h->out, "0x%08" PRIx64 ": unable to read memory\n", at);
			return;
		}
		took = disas_print_one(h->out, &(struct disas_code){ bytes, len, at, bits, NULL, 0 });
		if (!took)
			fprintf(h->out, "0x%08" PRIx64 ":  %02x                       .byte    0x%02x\n", at, bytes[0],
				bytes[0]);
		at += took ? took : 1;
	}
}

static void examine(struct hmp *h, const struct hmp_args *a, bool physical)
{
	if (a->fmt.format == 'i')
		disassemble(h, a->fmt.count, physical, (uint64_t)a->arg[0].n);
	else
		dump(h, a->fmt, physical, (uint64_t)a->arg[0].n);
}

static void x(struct hmp *h, const struct hmp_args *a)
{
	examine(h, a, false);
}

static void xp(struct hmp *h, const struct hmp_args *a)
{
	examine(h, a, true);
}

static void print(struct hmp *h, const struct hmp_args *a)
{
	uint64_t v = (uint64_t)a->arg[0].n;

	switch (a->fmt.format) {
	case 'o':
		fprintf(h->out, "%#" PRIo64, v);
		break;
	case 'x':
		fprintf(h->out, "%#" PRIx64, v);
		break;
	case 'u':
		fprintf(h->out, "%" PRIu64, v);
		break;
	case 'c':
		print_character(h->out, (uint8_t)v);
		break;
	default:
		fprintf(h->out, "%" PRId64, (int64_t)v);
	}
	fputc('\n', h->out);
}

static void gva2gpa(struct hmp *h, const struct hmp_args *a)
{
	const void *s = hmp_state(h);
	uint64_t phys;

	if (s && h->vm->engine->debug_isa->translate(s, h->vm->mem, (uint64_t)a->arg[0].n, &phys))
		fprintf(h->out, "gpa: %#" PRIx64 "\n", phys);
	else
		fprintf(h->out, "Unmapped\n");
}

/* --- ports, as the guest would reach them --- */

static unsigned port_size(const struct hmp_args *a)
{
	return a->fmt.size == 8 ? 4 : (unsigned)a->fmt.size;
}

static void in(struct hmp *h, const struct hmp_args *a)
{
	unsigned size = port_size(a);
	uint16_t port = (uint16_t)a->arg[0].n;
	uint64_t v;

	bus_read(h->vm->bus, BUS_PORT, port, size, &v);
	fprintf(h->out, "port%c[0x%04x] = 0x%0*" PRIx64 "\n",
		size == 1   ? 'b'
		: size == 2 ? 'w'
			    : 'l',
		port, (int)size * 2, v);
}

static void out(struct hmp *h, const struct hmp_args *a)
{
	bus_write(h->vm->bus, BUS_PORT, (uint16_t)a->arg[0].n, port_size(a), (uint64_t)a->arg[1].n);
}

/* --- to files --- */

static void memsave(struct hmp *h, const struct hmp_args *a)
{
	hmp_do(h, "memsave",
	       json_pack("{s:I,s:I,s:s,s:i}", "val", (json_int_t)a->arg[0].n, "size", (json_int_t)a->arg[1].n,
			 "filename", a->arg[2].s, "cpu-index", (int)h->cpu));
}

static void pmemsave(struct hmp *h, const struct hmp_args *a)
{
	hmp_do(h, "pmemsave",
	       json_pack("{s:I,s:I,s:s}", "val", (json_int_t)a->arg[0].n, "size", (json_int_t)a->arg[1].n, "filename",
			 a->arg[2].s));
}

const struct hmp_command hmp_memory_commands[] = {
	{ "gva2gpa", "addr:n", "addr", "print the guest physical address corresponding to a guest virtual address",
	  gva2gpa },
	{ "i", "fmt:/xw addr:n", "/fmt addr", "I/O port read", in },
	{ "memsave", "addr:n size:n file:s", "addr size file",
	  "save to disk virtual memory dump starting at 'addr' of size 'size'", memsave },
	{ "o", "fmt:/xw addr:n value:n", "/fmt addr value", "I/O port write", out },
	{ "pmemsave", "addr:n size:n file:s", "addr size file",
	  "save to disk physical memory dump starting at 'addr' of size 'size'", pmemsave },
	{ "print|p", "fmt:/dg expr:n", "/fmt expr", "print expression value (use $reg for CPU register access)",
	  print },
	{ "x", "fmt:/xw addr:n", "/fmt addr", "virtual memory dump starting at 'addr'", x },
	{ "xp", "fmt:/xw addr:n", "/fmt addr", "physical memory dump starting at 'addr'", xp },
	{ 0 },
};
