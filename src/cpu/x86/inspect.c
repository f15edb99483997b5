/* An x86-64 processor for people: see cpu/inspect.h. The forms are those of QEMU's monitor, which tools read. */
#include "cpu/inspect.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "cpu/x86/state.h"

/* --- registers by name --- */

struct name {
	const char *name;
	uint16_t offset; /* in struct x86_state */
	uint8_t size;
};
#define FIELD(m) offsetof(struct x86_state, m), sizeof(((struct x86_state *)0)->m)
#define GPR(n)	 FIELD(gpr[n])
#define SEG(n)	 FIELD(seg[n].sel)

/* clang-format off */
static const struct name names[] = {
	{ "rax", GPR(X86_RAX) }, { "eax", GPR(X86_RAX) }, { "ax", GPR(X86_RAX) },
	{ "rcx", GPR(X86_RCX) }, { "ecx", GPR(X86_RCX) }, { "cx", GPR(X86_RCX) },
	{ "rdx", GPR(X86_RDX) }, { "edx", GPR(X86_RDX) }, { "dx", GPR(X86_RDX) },
	{ "rbx", GPR(X86_RBX) }, { "ebx", GPR(X86_RBX) }, { "bx", GPR(X86_RBX) },
	{ "rsp", GPR(X86_RSP) }, { "esp", GPR(X86_RSP) }, { "sp", GPR(X86_RSP) },
	{ "rbp", GPR(X86_RBP) }, { "ebp", GPR(X86_RBP) }, { "fp", GPR(X86_RBP) },
	{ "rsi", GPR(X86_RSI) }, { "esi", GPR(X86_RSI) }, { "si", GPR(X86_RSI) },
	{ "rdi", GPR(X86_RDI) }, { "edi", GPR(X86_RDI) }, { "di", GPR(X86_RDI) },
	{ "r8", GPR(8) }, { "r9", GPR(9) }, { "r10", GPR(10) }, { "r11", GPR(11) },
	{ "r12", GPR(12) }, { "r13", GPR(13) }, { "r14", GPR(14) }, { "r15", GPR(15) },
	{ "rip", GPR(X86_RIP) }, { "eip", GPR(X86_RIP) },
	{ "rflags", FIELD(rflags) }, { "eflags", FIELD(rflags) },
	{ "cs", SEG(X86_CS) }, { "ds", SEG(X86_DS) }, { "es", SEG(X86_ES) },
	{ "ss", SEG(X86_SS) }, { "fs", SEG(X86_FS) }, { "gs", SEG(X86_GS) },
	{ "cs.base", FIELD(seg[X86_CS].base) }, { "cs.limit", FIELD(seg[X86_CS].limit) },
	{ "ds.base", FIELD(seg[X86_DS].base) }, { "ds.limit", FIELD(seg[X86_DS].limit) },
	{ "es.base", FIELD(seg[X86_ES].base) }, { "es.limit", FIELD(seg[X86_ES].limit) },
	{ "ss.base", FIELD(seg[X86_SS].base) }, { "ss.limit", FIELD(seg[X86_SS].limit) },
	{ "fs.base", FIELD(seg[X86_FS].base) }, { "fs.limit", FIELD(seg[X86_FS].limit) },
	{ "gs.base", FIELD(seg[X86_GS].base) }, { "gs.limit", FIELD(seg[X86_GS].limit) },
	{ "cr0", FIELD(cr0) }, { "cr2", FIELD(cr2) }, { "cr3", FIELD(cr3) }, { "cr4", FIELD(cr4) },
	{ "dr6", FIELD(dr6) }, { "dr7", FIELD(dr7) }, { "efer", FIELD(efer) },
	{ "gdt.base", FIELD(gdt.base) }, { "idt.base", FIELD(idt.base) },
};
/* clang-format on */
#define NAMES (sizeof(names) / sizeof(names[0]))

static bool reg(const void *state, const char *name, uint64_t *value)
{
	const struct x86_state *s = state;

	*value = 0;
	/* The address of the instruction, wherever its segment begins. */
	if (!strcmp(name, "pc")) {
		*value = s->gpr[X86_RIP] +
			 (s->efer & X86_EFER_LMA && s->seg[X86_CS].attr & X86_SEG_L ? 0 : s->seg[X86_CS].base);
		return true;
	}
	for (size_t n = 0; n < NAMES; n++)
		if (!strcmp(names[n].name, name)) {
			/* Little-endian hosts, as all of ours are. */
			memcpy(value, (const uint8_t *)state + names[n].offset, names[n].size);
			return true;
		}
	return false;
}

static const char *reg_name(unsigned i)
{
	return i < NAMES ? names[i].name : i == NAMES ? "pc" : NULL;
}

/* --- all of them --- */

static bool is_64(const struct x86_state *s)
{
	return s->efer & X86_EFER_LMA && s->seg[X86_CS].attr & X86_SEG_L;
}

static unsigned code_bits(const void *state)
{
	const struct x86_state *s = state;

	return is_64(s) ? 64 : s->seg[X86_CS].attr & X86_SEG_DB ? 32 : 16;
}

static void print_general(const struct x86_state *s, FILE *out)
{
	static const char *const words[] = { "AX", "BX", "CX", "DX", "SI", "DI", "BP", "SP" };
	static const uint8_t order[] = { X86_RAX, X86_RBX, X86_RCX, X86_RDX, X86_RSI, X86_RDI, X86_RBP, X86_RSP };

	for (unsigned n = 0; n < 8; n++) {
		const char *end = n % 4 == 3 ? "\n" : " ";

		if (is_64(s))
			fprintf(out, "R%s=%016" PRIx64 "%s", words[n], s->gpr[order[n]], end);
		else
			fprintf(out, "E%s=%08x%s", words[n], (uint32_t)s->gpr[order[n]], end);
	}
	for (unsigned n = 8; is_64(s) && n < 16; n++)
		fprintf(out, "R%-2u=%016" PRIx64 "%s", n, s->gpr[n], n % 4 == 3 ? "\n" : " ");
}

static void print_pc(const struct x86_state *s, FILE *out)
{
	static const struct {
		uint32_t bit;
		char letter;
	} flags[] = { { X86_DF, 'D' }, { X86_OF, 'O' }, { X86_SF, 'S' }, { X86_ZF, 'Z' },
		      { X86_AF, 'A' }, { X86_PF, 'P' }, { X86_CF, 'C' } };
	unsigned cpl = s->cr0 & X86_CR0_PE ? s->seg[X86_SS].attr >> X86_SEG_DPL_SHIFT & 3 : 0;

	if (is_64(s))
		fprintf(out, "RIP=%016" PRIx64 " RFL=%08x [", s->gpr[X86_RIP], (uint32_t)s->rflags);
	else
		fprintf(out, "EIP=%08x EFL=%08x [", (uint32_t)s->gpr[X86_RIP], (uint32_t)s->rflags);
	for (unsigned n = 0; n < sizeof(flags) / sizeof(flags[0]); n++)
		fputc(s->rflags & flags[n].bit ? flags[n].letter : '-', out);
	fprintf(out, "] CPL=%u II=%d A20=1 SMM=%d HLT=%d\n", cpl, s->shadow_sti || s->shadow_mov_ss, s->smm,
		s->run != X86_RUNNING);
}

static void print_system_type(const struct x86_state *s, unsigned type, FILE *out)
{
	static const char *const types[2][16] = {
		{ "Reserved", "TSS16-avl", "LDT", "TSS16-busy", "CallGate16", "TaskGate", "IntGate16", "TrapGate16",
		  "Reserved", "TSS32-avl", "Reserved", "TSS32-busy", "CallGate32", "Reserved", "IntGate32",
		  "TrapGate32" },
		{ "<hiword>", "Reserved", "LDT", "Reserved", "Reserved", "Reserved", "Reserved", "Reserved", "Reserved",
		  "TSS64-avl", "Reserved", "TSS64-busy", "CallGate64", "Reserved", "IntGate64", "TrapGate64" },
	};

	fputs(types[(s->efer & X86_EFER_LMA) != 0][type], out);
}

/* What of a descriptor's upper half the register has. */
static uint32_t descriptor_flags(const struct x86_segment *g)
{
	uint32_t limit = g->attr & X86_SEG_G ? g->limit >> 12 : g->limit;

	return g->unusable ? 0 : (uint32_t)(g->attr & ~X86_SEG_NONE) << 8 | (limit & 0xf0000);
}

static void print_segment(const struct x86_state *s, const char *name, enum x86_seg which, FILE *out)
{
	const struct x86_segment *g = &s->seg[which];
	uint16_t a = g->attr;

	if (is_64(s))
		fprintf(out, "%-3s=%04x %016" PRIx64 " %08x %08x", name, g->sel, g->base, g->limit,
			descriptor_flags(g));
	else
		fprintf(out, "%-3s=%04x %08x %08x %08x", name, g->sel, (uint32_t)g->base, g->limit,
			descriptor_flags(g));
	if (s->cr0 & X86_CR0_PE && a & X86_SEG_P && !g->unusable) {
		fprintf(out, " DPL=%u ", a >> X86_SEG_DPL_SHIFT & 3);
		if (!(a & X86_SEG_S))
			print_system_type(s, a & X86_SEG_TYPE, out);
		else if (a & 8)
			fprintf(out, "%s [%c%c%c]",
				a & X86_SEG_L	 ? "CS64"
				: a & X86_SEG_DB ? "CS32"
						 : "CS16",
				a & 4 ? 'C' : '-', a & 2 ? 'R' : '-', a & 1 ? 'A' : '-');
		else
			fprintf(out, "%s [%c%c%c]", a & X86_SEG_DB || s->efer & X86_EFER_LMA ? "DS  " : "DS16",
				a & 4 ? 'E' : '-', a & 2 ? 'W' : '-', a & 1 ? 'A' : '-');
	}
	fputc('\n', out);
}

static void print_tables(const struct x86_state *s, FILE *out)
{
	bool wide = s->efer & X86_EFER_LMA;

	if (wide)
		fprintf(out, "GDT=     %016" PRIx64 " %08x\nIDT=     %016" PRIx64 " %08x\n", s->gdt.base, s->gdt.limit,
			s->idt.base, s->idt.limit);
	else
		fprintf(out, "GDT=     %08x %08x\nIDT=     %08x %08x\n", (uint32_t)s->gdt.base, s->gdt.limit,
			(uint32_t)s->idt.base, s->idt.limit);
	if (wide)
		fprintf(out, "CR0=%08x CR2=%016" PRIx64 " CR3=%016" PRIx64 " CR4=%08x\n", (uint32_t)s->cr0, s->cr2,
			s->cr3, (uint32_t)s->cr4);
	else
		fprintf(out, "CR0=%08x CR2=%08x CR3=%08x CR4=%08x\n", (uint32_t)s->cr0, (uint32_t)s->cr2,
			(uint32_t)s->cr3, (uint32_t)s->cr4);
	for (unsigned n = 0; n < 4; n++)
		fprintf(out, "DR%u=%016" PRIx64 " ", n, s->dr[n]);
	fprintf(out, "\nDR6=%016" PRIx64 " DR7=%016" PRIx64 "\nEFER=%016" PRIx64 "\n", s->dr6, s->dr7, s->efer);
}

static void print_fp(const struct x86_state *s, FILE *out)
{
	unsigned top = s->fp.sw >> 11 & 7;

	fprintf(out, "FCW=%04x FSW=%04x [ST=%u] FTW=%02x MXCSR=%08x\n", s->fp.cw, s->fp.sw, top, s->fp.valid, s->mxcsr);
	for (unsigned n = 0; n < 8; n++)
		fprintf(out, "FPR%u=%016" PRIx64 " %04x%s", n, s->fp.r[n].mant, s->fp.r[n].sexp, n & 1 ? "\n" : " ");
	for (unsigned n = 0; n < (is_64(s) ? 16u : 8u); n++) {
		const uint64_t *q = s->vec[n].q;

		if ((s->xcr0 & X86_XCR0_AVX) == X86_XCR0_AVX)
			fprintf(out, "YMM%02u=%016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %016" PRIx64 "\n", n, q[3],
				q[2], q[1], q[0]);
		else
			fprintf(out, "XMM%02u=%016" PRIx64 " %016" PRIx64 "%s", n, q[1], q[0], n & 1 ? "\n" : " ");
	}
}

static void print(const void *state, FILE *out)
{
	static const struct {
		const char *name;
		enum x86_seg seg;
	} segs[] = { { "ES", X86_ES }, { "CS", X86_CS }, { "SS", X86_SS },    { "DS", X86_DS },
		     { "FS", X86_FS }, { "GS", X86_GS }, { "LDT", X86_LDTR }, { "TR", X86_TR } };
	const struct x86_state *s = state;

	print_general(s, out);
	print_pc(s, out);
	for (unsigned n = 0; n < sizeof(segs) / sizeof(segs[0]); n++)
		print_segment(s, segs[n].name, segs[n].seg, out);
	print_tables(s, out);
	print_fp(s, out);
}

/* --- page tables: SDM vol. 3, chapter 4 --- */

#define TABLES_MAX (1u << 18) /* those of 512 GiB in pages of 4 KiB */

#define PTE_P	(1ull << 0)
#define PTE_RW	(1ull << 1)
#define PTE_US	(1ull << 2)
#define PTE_PWT (1ull << 3)
#define PTE_PCD (1ull << 4)
#define PTE_A	(1ull << 5)
#define PTE_D	(1ull << 6)
#define PTE_PS	(1ull << 7)
#define PTE_G	(1ull << 8)
#define PTE_NX	(1ull << 63)

struct walk {
	const struct x86_state *s;
	struct mem_space *mem;
	bool (*page)(void *opaque, const struct inspect_page *p);
	void *opaque;
	bool wide;	 /* entries of 8 bytes */
	unsigned top;	 /* the bit of addresses from which the sign is extended; 0: no sign */
	unsigned tables; /* that were looked at */
};

/* Whether an entry of the table for address bits from `shift` is a page, not a table. */
static bool is_page(const struct walk *w, uint64_t e, unsigned shift)
{
	if (shift == 12)
		return true;
	return e & PTE_PS && (w->wide ? shift <= 30 : (w->s->cr4 & X86_CR4_PSE) != 0);
}

static bool leaf(const struct walk *w, uint64_t lin, uint64_t e, unsigned shift, uint64_t rights)
{
	const uint64_t address = w->wide ? 0x000ffffffffff000ull : 0xfffff000ull;
	struct inspect_page p = { .lin = lin, .size = 1ull << shift, .entry = e };

	if (w->top && lin >> w->top & 1)
		p.lin |= ~0ull << w->top;
	p.phys = e & address & ~(p.size - 1);
	/* A page of 4 MiB has its address bits 39:32 in 20:13. */
	if (shift == 22)
		p.phys |= (e >> 13 & 0xff) << 32;
	p.user = rights & PTE_US;
	p.writable = rights & PTE_RW;
	p.exec = !(rights & PTE_NX);
	return w->page(w->opaque, &p);
}

static bool walk_table(struct walk *w, uint64_t table, uint64_t lin, unsigned shift, uint64_t rights)
{
	unsigned bits = w->wide ? 9 : 10;
	uint8_t bytes[MEM_PAGE_SIZE];

	if (w->tables++ == TABLES_MAX || !mem_read(w->mem, gpa(table), bytes, sizeof(bytes)))
		return w->tables <= TABLES_MAX;
	for (unsigned n = 0; n < 1u << bits; n++) {
		uint64_t e = w->wide ? ld_le64(bytes + 8 * n) : ld_le32(bytes + 4 * n), at = lin | (uint64_t)n << shift;
		/* NX is that of any table on the way, the others are of all. */
		uint64_t both = (rights & e & ~PTE_NX) | ((rights | e) & PTE_NX);

		if (!(e & PTE_P))
			continue;
		if (is_page(w, e, shift)) {
			if (!leaf(w, at, e, shift, both))
				return false;
		} else if (!walk_table(w, e & (w->wide ? 0x000ffffffffff000ull : 0xfffff000ull), at, shift - bits,
				       both)) {
			return false;
		}
	}
	return true;
}

static bool pages(const void *state, struct mem_space *mem, bool (*page)(void *opaque, const struct inspect_page *p),
		  void *opaque)
{
	const struct x86_state *s = state;
	struct walk w = { .s = s, .mem = mem, .page = page, .opaque = opaque };
	const uint64_t all = PTE_P | PTE_RW | PTE_US;
	bool five = s->cr4 & X86_CR4_LA57;

	if (!(s->cr0 & X86_CR0_PG))
		return false;
	w.wide = s->efer & X86_EFER_LMA || s->cr4 & X86_CR4_PAE;
	if (s->efer & X86_EFER_LMA) {
		w.top = five ? 56 : 47;
		walk_table(&w, s->cr3 & 0x000ffffffffff000ull, 0, five ? 48 : 39, all);
	} else if (w.wide) {
		for (uint64_t n = 0; n < 4; n++)
			if (s->pdpte[n] & PTE_P &&
			    !walk_table(&w, s->pdpte[n] & 0x000ffffffffff000ull, n << 30, 21, all))
				break;
	} else {
		walk_table(&w, s->cr3 & 0xfffff000, 0, 22, all);
	}
	return true;
}

static void print_page(const struct inspect_page *p, FILE *out)
{
	static const struct {
		uint64_t bit;
		char letter;
	} bits[] = { { PTE_NX, 'X' },  { PTE_G, 'G' },	 { PTE_PS, 'P' }, { PTE_D, 'D' }, { PTE_A, 'A' },
		     { PTE_PCD, 'C' }, { PTE_PWT, 'T' }, { PTE_US, 'U' }, { PTE_RW, 'W' } };

	fprintf(out, "%016" PRIx64 ": %016" PRIx64 " ", p->lin, p->phys);
	for (unsigned n = 0; n < sizeof(bits) / sizeof(bits[0]); n++) {
		/* In the entry of a small page that bit is of the PAT. */
		bool on = p->entry & bits[n].bit && (bits[n].bit != PTE_PS || p->size > MEM_PAGE_SIZE);

		fputc(on ? bits[n].letter : '-', out);
	}
	fputc('\n', out);
}

const struct inspect_isa x86_inspect_isa = {
	.reg = reg,
	.reg_name = reg_name,
	.print = print,
	.code_bits = code_bits,
	.pages = pages,
	.print_page = print_page,
};
