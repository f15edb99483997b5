/*
 * An x86-64 processor as GDB's remote protocol describes it: its registers, by one table from which the description
 * is made too, and addresses. GDB manual, appendix G.5.6 for the names of features and registers.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "cpu/debug.h"
#include "cpu/x86/state.h"
#include "cpu/x86/x87.h"

/* Where a register is: `how` says how it is read and written. */
enum how { PLAIN, FLAGS, SEGMENT, X87, TAGS, VECTOR_LOW, VECTOR_HIGH, FIXED };
struct reg {
	const char *name, *type;
	uint8_t bits;
	uint8_t how;
	uint16_t offset; /* in struct x86_state; SEGMENT, X87: its number */
	uint8_t size;	 /* of the field there, bytes */
};

#define FIELD(m) offsetof(struct x86_state, m), sizeof(((struct x86_state *)0)->m)
#define G(name, n)                                                                                                     \
	{                                                                                                              \
		name, "int64", 64, PLAIN, FIELD(gpr[n])                                                                \
	}
#define GT(name, t, n)                                                                                                 \
	{                                                                                                              \
		name, t, 64, PLAIN, FIELD(gpr[n])                                                                      \
	}
#define S(name, n)                                                                                                     \
	{                                                                                                              \
		name, "int32", 32, SEGMENT, n, 0                                                                       \
	}
#define ST(n)                                                                                                          \
	{                                                                                                              \
		"st" #n, "i387_ext", 80, X87, n, 0                                                                     \
	}
#define F(name, m)                                                                                                     \
	{                                                                                                              \
		name, "int", 32, PLAIN, FIELD(fp.m)                                                                    \
	}
#define X(n)                                                                                                           \
	{                                                                                                              \
		"xmm" #n, "vec128", 128, VECTOR_LOW, FIELD(vec[n])                                                     \
	}
#define Y(n)                                                                                                           \
	{                                                                                                              \
		"ymm" #n "h", "uint128", 128, VECTOR_HIGH, FIELD(vec[n])                                               \
	}
#define C(name, m)                                                                                                     \
	{                                                                                                              \
		name, "int64", 64, PLAIN, FIELD(m)                                                                     \
	}

/* clang-format off */
static const struct reg core[] = {
	G("rax", 0), G("rbx", 3), G("rcx", 1), G("rdx", 2), G("rsi", 6), G("rdi", 7),
	GT("rbp", "data_ptr", 5), GT("rsp", "data_ptr", 4),
	G("r8", 8), G("r9", 9), G("r10", 10), G("r11", 11), G("r12", 12), G("r13", 13), G("r14", 14), G("r15", 15),
	GT("rip", "code_ptr", X86_RIP),
	{ "eflags", "i386_eflags", 32, FLAGS, FIELD(rflags) },
	S("cs", X86_CS), S("ss", X86_SS), S("ds", X86_DS), S("es", X86_ES), S("fs", X86_FS), S("gs", X86_GS),
	ST(0), ST(1), ST(2), ST(3), ST(4), ST(5), ST(6), ST(7),
	F("fctrl", cw), F("fstat", sw), { "ftag", "int", 32, TAGS, FIELD(fp.valid) },
	F("fiseg", cs), F("fioff", ip), F("foseg", ds), F("fooff", dp), F("fop", op),
};
static const struct reg sse[] = {
	X(0), X(1), X(2), X(3), X(4), X(5), X(6), X(7), X(8), X(9), X(10), X(11), X(12), X(13), X(14), X(15),
	{ "mxcsr", "i386_mxcsr", 32, PLAIN, FIELD(mxcsr) },
};
static const struct reg bases[] = {
	C("fs_base", seg[X86_FS].base), C("gs_base", seg[X86_GS].base),
};
static const struct reg avx[] = {
	Y(0), Y(1), Y(2), Y(3), Y(4), Y(5), Y(6), Y(7), Y(8), Y(9), Y(10), Y(11), Y(12), Y(13), Y(14), Y(15),
};
/* Beyond what GDB knows by itself: what one wants to see of a kernel's processor. Read only. */
static const struct reg control[] = {
	{ "k_gs_base", "int64", 64, FIXED, FIELD(kernel_gs_base) },
	{ "cr0", "int64", 64, FIXED, FIELD(cr0) }, { "cr2", "int64", 64, FIXED, FIELD(cr2) },
	{ "cr3", "int64", 64, FIXED, FIELD(cr3) }, { "cr4", "int64", 64, FIXED, FIELD(cr4) },
	{ "efer", "int64", 64, FIXED, FIELD(efer) },
};
/* clang-format on */

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char flags_type[] =
	"<flags id=\"i386_eflags\" size=\"4\">"
	"<field name=\"CF\" start=\"0\" end=\"0\"/><field name=\"\" start=\"1\" end=\"1\"/>"
	"<field name=\"PF\" start=\"2\" end=\"2\"/><field name=\"AF\" start=\"4\" end=\"4\"/>"
	"<field name=\"ZF\" start=\"6\" end=\"6\"/><field name=\"SF\" start=\"7\" end=\"7\"/>"
	"<field name=\"TF\" start=\"8\" end=\"8\"/><field name=\"IF\" start=\"9\" end=\"9\"/>"
	"<field name=\"DF\" start=\"10\" end=\"10\"/><field name=\"OF\" start=\"11\" end=\"11\"/>"
	"<field name=\"NT\" start=\"14\" end=\"14\"/><field name=\"RF\" start=\"16\" end=\"16\"/>"
	"<field name=\"VM\" start=\"17\" end=\"17\"/><field name=\"AC\" start=\"18\" end=\"18\"/>"
	"<field name=\"VIF\" start=\"19\" end=\"19\"/><field name=\"VIP\" start=\"20\" end=\"20\"/>"
	"<field name=\"ID\" start=\"21\" end=\"21\"/></flags>";

static const char vector_types[] =
	"<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/><vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
	"<vector id=\"v16i8\" type=\"int8\" count=\"16\"/><vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"
	"<vector id=\"v4i32\" type=\"int32\" count=\"4\"/><vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
	"<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/><field name=\"v2_double\" type=\"v2d\"/>"
	"<field name=\"v16_int8\" type=\"v16i8\"/><field name=\"v8_int16\" type=\"v8i16\"/>"
	"<field name=\"v4_int32\" type=\"v4i32\"/><field name=\"v2_int64\" type=\"v2i64\"/>"
	"<field name=\"uint128\" type=\"uint128\"/></union>"
	"<flags id=\"i386_mxcsr\" size=\"4\">"
	"<field name=\"IE\" start=\"0\" end=\"0\"/><field name=\"DE\" start=\"1\" end=\"1\"/>"
	"<field name=\"ZE\" start=\"2\" end=\"2\"/><field name=\"OE\" start=\"3\" end=\"3\"/>"
	"<field name=\"UE\" start=\"4\" end=\"4\"/><field name=\"PE\" start=\"5\" end=\"5\"/>"
	"<field name=\"DAZ\" start=\"6\" end=\"6\"/><field name=\"IM\" start=\"7\" end=\"7\"/>"
	"<field name=\"DM\" start=\"8\" end=\"8\"/><field name=\"ZM\" start=\"9\" end=\"9\"/>"
	"<field name=\"OM\" start=\"10\" end=\"10\"/><field name=\"UM\" start=\"11\" end=\"11\"/>"
	"<field name=\"PM\" start=\"12\" end=\"12\"/><field name=\"FZ\" start=\"15\" end=\"15\"/></flags>";

static const struct feature {
	const char *name, *types;
	const struct reg *regs;
	unsigned count;
} features[] = {
	{ "org.gnu.gdb.i386.core", flags_type, core, COUNT(core) },
	{ "org.gnu.gdb.i386.sse", vector_types, sse, COUNT(sse) },
	{ "org.gnu.gdb.i386.segments", "", bases, COUNT(bases) },
	{ "org.gnu.gdb.i386.avx", "", avx, COUNT(avx) },
	{ "org.vireo.x86.control", "", control, COUNT(control) },
};

/* The n-th of all. */
static const struct reg *find(unsigned n)
{
	size_t f = 0;

	while (n >= features[f].count)
		n -= features[f++].count;
	return &features[f].regs[n];
}

static size_t reg_size(unsigned n)
{
	return find(n)->bits / 8;
}

/* The physical number of ST(n). */
static unsigned physical(const struct x86_state *s, unsigned n)
{
	return ((s->fp.sw >> 11 & 7) + n) & 7;
}

static void get(const void *state, unsigned n, uint8_t *bytes)
{
	const struct x86_state *s = state;
	const struct reg *r = find(n);
	const uint8_t *field = (const uint8_t *)s + r->offset;
	const struct x86_fpreg *st;

	memset(bytes, 0, r->bits / 8);
	switch ((enum how)r->how) {
	case SEGMENT:
		st_le32(bytes, s->seg[r->offset].sel);
		break;
	case X87:
		st = &s->fp.r[physical(s, r->offset)];
		st_le64(bytes, st->mant);
		st_le16(bytes + 8, st->sexp);
		break;
	case TAGS:
		st_le32(bytes, x87_full_tags(&s->fp));
		break;
	case VECTOR_LOW:
		memcpy(bytes, field, 16);
		break;
	case VECTOR_HIGH:
		memcpy(bytes, field + 16, 16);
		break;
	default: /* the host is little-endian, or the fields would be converted here */
		memcpy(bytes, field, r->size < r->bits / 8u ? r->size : r->bits / 8u);
	}
}

/* Outside protected mode a selector is all of a segment. */
static bool set_segment(struct x86_state *s, unsigned n, uint32_t sel)
{
	if (sel == s->seg[n].sel)
		return true;
	if (s->cr0 & X86_CR0_PE || sel > 0xffff)
		return false;
	s->seg[n].sel = (uint16_t)sel;
	s->seg[n].base = (uint64_t)sel << 4;
	return true;
}

static bool set(void *state, unsigned n, const uint8_t *bytes)
{
	const uint32_t flags = X86_ARITH | X86_TF | X86_IF | X86_DF | X86_IOPL | X86_NT | X86_RF | X86_AC | X86_ID;
	struct x86_state *s = state;
	const struct reg *r = find(n);
	uint8_t *field = (uint8_t *)s + r->offset, now[DEBUG_REG_BYTES];
	struct x86_fpreg *st;

	switch ((enum how)r->how) {
	case PLAIN:
		memcpy(field, bytes, r->size < r->bits / 8u ? r->size : r->bits / 8u);
		return true;
	case FLAGS:
		s->rflags = (s->rflags & ~(uint64_t)flags) | (ld_le32(bytes) & flags);
		return true;
	case SEGMENT:
		return set_segment(s, r->offset, ld_le32(bytes));
	case X87:
		st = &s->fp.r[physical(s, r->offset)];
		st->mant = ld_le64(bytes);
		st->sexp = ld_le16(bytes + 8);
		return true;
	case TAGS:
		s->fp.valid = x87_abridge_tags(ld_le16(bytes));
		return true;
	case VECTOR_LOW:
		memcpy(field, bytes, 16);
		return true;
	case VECTOR_HIGH:
		memcpy(field + 16, bytes, 16);
		return true;
	case FIXED:
		break;
	}
	/* A debugger that writes all registers writes these as they are. */
	get(s, n, now);
	return !memcmp(now, bytes, r->bits / 8);
}

/* --- the description --- */

struct text {
	char *at;
	size_t left, total;
};

static __attribute__((format(printf, 2, 3))) void add(struct text *t, const char *format, ...)
{
	va_list args;
	size_t n;

	va_start(args, format);
	n = (size_t)vsnprintf(t->at, t->left, format, args);
	va_end(args);
	t->total += n;
	n = n < t->left ? n : t->left;
	t->at += n;
	t->left -= n;
}

static size_t describe(char *text, size_t size)
{
	struct text t = { text, size, 0 };

	add(&t, "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>"
		"<architecture>i386:x86-64</architecture>");
	for (const struct feature *f = features; f < features + COUNT(features); f++) {
		add(&t, "<feature name=\"%s\">%s", f->name, f->types);
		for (const struct reg *r = f->regs; r < f->regs + f->count; r++)
			add(&t, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\"/>", r->name, r->bits, r->type);
		add(&t, "</feature>");
	}
	add(&t, "</target>");
	return t.total;
}

/* --- addresses --- */

/* SDM vol. 3, chapter 4, without rights: a debugger may look at everything. */
static bool translate(const void *state, struct mem_space *mem, uint64_t lin, uint64_t *phys)
{
	const struct x86_state *s = state;
	bool long_mode = s->efer & X86_EFER_LMA, wide = long_mode || s->cr4 & X86_CR4_PAE;
	unsigned size = wide ? 8 : 4, bits = wide ? 9 : 10, shift = wide ? 21 : 22, sign = 16;
	const uint64_t address = wide ? 0x000ffffffffff000ull : 0xfffff000ull;
	uint64_t table = s->cr3 & address, e = 0;

	if (long_mode) {
		shift = s->cr4 & X86_CR4_LA57 ? 48 : 39;
		sign = s->cr4 & X86_CR4_LA57 ? 7 : 16;
	} else {
		lin &= 0xffffffff;
	}
	*phys = lin;
	if (!(s->cr0 & X86_CR0_PG))
		return true;
	if (long_mode && (uint64_t)((int64_t)(lin << sign) >> sign) != lin)
		return false;
	if (wide && !long_mode) {
		table = s->pdpte[lin >> 30] & address;
		if (!(s->pdpte[lin >> 30] & 1))
			return false;
	}
	for (;; shift -= bits) {
		if (!mem_read(mem, gpa(table + (lin >> shift & ((1u << bits) - 1)) * size), &e, size) || !(e & 1))
			return false;
		table = e & address;
		if (shift == 12 || (e & 0x80 && shift <= 30 && (wide || s->cr4 & X86_CR4_PSE)))
			break;
	}
	/* A large page of 4 MiB has its address bits 39:32 in 20:13. */
	if (shift == 22)
		table = (e & 0xffc00000) | (e >> 13 & 0xff) << 32;
	*phys = (table & ~((1ull << shift) - 1)) | (lin & ((1ull << shift) - 1));
	return true;
}

const struct debug_isa x86_debug_isa = {
	.describe = describe,
	.regs = COUNT(core) + COUNT(sse) + COUNT(bases) + COUNT(avx) + COUNT(control),
	.pc = 16,
	.reg_size = reg_size,
	.get = get,
	.set = set,
	.translate = translate,
	.inspect = &x86_inspect_isa,
};
