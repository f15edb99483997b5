/* Parses the tables of instruction forms. See diff_forms.h. */
#include "diff_forms.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

static const struct diff_rows *const tables[] = {
	&diff_rows_int,	       &diff_rows_x87,	 &diff_rows_sse,	&diff_rows_sse3,   &diff_rows_ssse3,
	&diff_rows_sse41,      &diff_rows_sse42, &diff_rows_aes,	&diff_rows_pclmul, &diff_rows_sha,
	&diff_rows_avx,	       &diff_rows_avx2,	 &diff_rows_fma,	&diff_rows_f16c,   &diff_rows_avx_aes,
	&diff_rows_bmi1,       &diff_rows_bmi2,	 &diff_rows_abm,	&diff_rows_popcnt, &diff_rows_movbe,
	&diff_rows_adx,	       &diff_rows_crc32, &diff_rows_clflushopt, &diff_rows_clwb,   &diff_rows_fisttp,
	&diff_rows_avx_pclmul,
};

static _Noreturn void bad(const struct diff_row *row)
{
	fprintf(stderr, "form '%s' '%s' '%s' is not understood\n", row->text, row->code, row->flags);
	abort();
}

static uint8_t size_of(const struct diff_row *row, char letter)
{
	static const char letters[] = "\0bwdqtxvzyoesfpa";
	const char *p = letter ? memchr(letters + 1, letter, sizeof(letters) - 2) : letters;

	if (!p)
		bad(row);
	return (uint8_t)(p - letters);
}

/* Sizes that depend on the operand size. */
static bool by_operand_size(uint8_t size)
{
	return size == SIZE_V || size == SIZE_Z || size == SIZE_E || size == SIZE_S || size == SIZE_P || size == SIZE_A;
}

static void parse_operands(struct diff_form *f)
{
	const char *p = strchr(f->row->text, ' ');

	while (p && *p) {
		struct diff_operand *o = &f->op[f->ops];
		size_t len = strcspn(++p, ",");

		if (f->ops == ARRAY_LEN(f->op))
			bad(f->row);
		f->ops++;
		if (len == 3 && !strncmp(p, "STi", 3)) {
			o->where = 'i';
		} else if (len == 1 && *p == 'v') {
			o->size = SIZE_V;
		} else if (len <= 2 && strchr("EGRMZSWVUQPNIJOHBL", *p) &&
			   (len < 2 || strchr("bwdqtxvzyoesfpa", p[1]))) {
			o->where = *p;
			o->size = size_of(f->row, len > 1 ? p[1] : '\0');
		} else if (!strncmp(p, "rAX", len) || !strncmp(p, "eAX", len)) {
			o->size = SIZE_V;
		}
		f->has_modrm |= o->where && strchr("EGRMSWVUQPNi", o->where);
		f->sized |= o->where == 'J' || by_operand_size(o->size);
		f->wide |= f->row->attr & A_WIDE || o->size == SIZE_Y || o->size == SIZE_O || o->size == SIZE_F;
		p += len;
	}
}

static bool opcode_done(const struct diff_form *f)
{
	const uint8_t *b = f->opcode;

	return f->opcodes && (b[0] != 0x0f || (f->opcodes == 2 && b[1] != 0x38 && b[1] != 0x3a) || f->opcodes == 3);
}

static const char *vex_words(struct diff_form *f, const char *p)
{
	static const char *const words[] = { "vex ", "LIG ", "L0 ", "L1 ", "W0 ", "W1 " };

	f->l = f->w = -1;
	for (unsigned n = 0; n < ARRAY_LEN(words); n++) {
		size_t len = strlen(words[n]);

		if (strncmp(p, words[n], len))
			continue;
		p += len;
		f->vex |= n == 0;
		f->lig |= n == 1;
		if (n == 2 || n == 3)
			f->l = (int8_t)(n - 2);
		if (n >= 4)
			f->w = (int8_t)(n - 4);
	}
	return p;
}

static void parse_code(struct diff_form *f)
{
	f->ext = -1;
	f->modrm = -1;
	for (const char *p = vex_words(f, f->row->code); *p; p += *p == ' ') {
		char *end;
		unsigned long v;

		if (*p == '/') {
			f->ext = (int8_t)strtol(p + 1, &end, 8);
			f->has_modrm = true;
			p = end;
			continue;
		}
		v = strtoul(p, &end, 16);
		if (end == p || v > 255)
			bad(f->row);
		p = end;
		if (opcode_done(f)) {
			f->modrm = (int16_t)v;
			f->has_modrm = true;
		} else if (!f->opcodes && *p && (v == 0x66 || v == 0xf2 || v == 0xf3)) {
			f->prefix = (uint8_t)v;
		} else {
			f->opcode[f->opcodes++] = (uint8_t)v;
		}
	}
	if (!opcode_done(f))
		bad(f->row);
}

static uint16_t flag_bits(const struct diff_row *row, const char *from, size_t len)
{
	static const struct {
		char letter;
		uint16_t bit;
	} names[] = { { 'o', X86_OF }, { 's', X86_SF }, { 'z', X86_ZF },
		      { 'a', X86_AF }, { 'p', X86_PF }, { 'c', X86_CF } };
	uint16_t bits = 0;

	for (size_t k = 0; k < len; k++) {
		unsigned n = 0;

		while (n < ARRAY_LEN(names) && names[n].letter != from[k])
			n++;
		if (n == ARRAY_LEN(names))
			bad(row);
		bits |= names[n].bit;
	}
	return bits;
}

/* How many operands of the operand size the stack pointer moves by. */
static int8_t stack_move(const char *text)
{
	static const struct {
		const char *name;
		int8_t by;
	} moves[] = { { "pusha", -8 }, { "popa", 8 }, { "push", -1 }, { "pop", 1 }, { "call ", -1 }, { "callf ", -2 } };

	for (unsigned n = 0; n < ARRAY_LEN(moves); n++)
		if (!strncmp(text, moves[n].name, strlen(moves[n].name)))
			return moves[n].by;
	return 0;
}

static void parse_flags(struct diff_form *f)
{
	static const char *const by_count[] = { NULL, "shift", "rotate", "double", "carry rotate" };
	const char *p = f->row->flags, *written = strchr(p, '>');
	size_t len;

	for (unsigned n = 1; n < ARRAY_LEN(by_count); n++) {
		if (!strcmp(p, by_count[n])) {
			f->kind = (uint8_t)n;
			f->reads = n == UNDEFINED_CARRY_ROTATE ? X86_CF : 0;
			return;
		}
	}
	if (!written) {
		if (*p)
			bad(f->row);
		return;
	}
	f->reads = flag_bits(f->row, p, (size_t)(written - p));
	len = strcspn(++written, "?");
	f->writes = flag_bits(f->row, written, len);
	if (written[len])
		f->undefined = flag_bits(f->row, written + len + 1, strlen(written + len + 1));
}

struct diff_form *diff_forms(size_t *count)
{
	static struct diff_form *forms;
	static size_t total;

	*count = total;
	if (forms)
		return forms;
	for (size_t t = 0; t < ARRAY_LEN(tables); t++)
		total += tables[t]->count;
	forms = calloc(total, sizeof(*forms));
	if (!forms)
		abort();
	for (size_t t = 0; t < ARRAY_LEN(tables); t++) {
		if (!x86_host_has(tables[t]->needs)) {
			printf("SKIPPED: %s and the like: the host has none of it\n", tables[t]->rows[0].text);
			continue;
		}
		for (size_t n = 0; n < tables[t]->count; n++) {
			struct diff_form *f = &forms[(*count)++];

			f->row = &tables[t]->rows[n];
			parse_operands(f);
			parse_code(f);
			parse_flags(f);
			f->stack = stack_move(f->row->text);
		}
	}
	return forms;
}
