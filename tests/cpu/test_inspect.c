/* cpu/x86/inspect.c, and what debug_isa.c translates: page tables of every kind, and those that have no end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "cpu/debug.h"
#include "cpu/inspect.h"
#include "cpu/x86/state.h"

static struct mem_space *mem;
static struct x86_state s;

static int begin(void **state)
{
	struct mem_slot_config c = { .name = "ram", .base = gpa(0), .size = 1 << 20 };
	struct err err;

	mem = mem_space_new();
	memset(&s, 0, sizeof(s));
	s.cr0 = X86_CR0_PE | X86_CR0_PG;
	s.cr3 = 0x1000;
	return mem_add_slot(mem, &c, &err);
}

static int end(void **state)
{
	mem_space_free(mem);
	return 0;
}

static void entry(uint64_t table, unsigned n, uint64_t e, unsigned size)
{
	assert_true(mem_write(mem, gpa(table + n * size), &e, size));
}

static char text[4096];

static bool page(void *opaque, const struct inspect_page *p)
{
	x86_inspect_isa.print_page(p, opaque);
	return true;
}

/* What is mapped, as lines; and the debugger finds the first byte of each page where the line says. */
static void maps(const char *want)
{
	FILE *f = fmemopen(text, sizeof(text), "w");
	uint64_t lin, phys, found;

	assert_true(x86_inspect_isa.pages(&s, mem, page, f));
	fclose(f);
	assert_string_equal(text, want);
	for (const char *line = want; *line; line = strchr(line, '\n') + 1) {
		assert_int_equal(sscanf(line, "%lx: %lx", &lin, &phys), 2);
		assert_true(x86_debug_isa.translate(&s, mem, lin + 0x123, &found));
		assert_int_equal(found, phys + 0x123);
	}
}

static void of_32_bits(void **state)
{
	s.cr4 = X86_CR4_PSE;
	entry(0x1000, 0, 0x2000 | 7, 4);
	entry(0x1000, 0x300, 0x00c00000 | 0xe3 | 1 << 13, 4);
	entry(0x2000, 5, 0x9000 | 0x25, 4);
	entry(0x2000, 6, 0xa000 | 0x7b | 0x80, 4);
	entry(0x2000, 7, 0xb000 | 6, 4); /* not present */
	maps("0000000000005000: 0000000000009000 ----A--U-\n"
	     "0000000000006000: 000000000000a000 ---DACT-W\n"
	     "00000000c0000000: 0000000100c00000 --PDA---W\n");
}

static void pae(void **state)
{
	s.cr4 = X86_CR4_PAE;
	s.pdpte[3] = 0x2000 | 1;
	entry(0x2000, 1, 0x3000 | 3, 8);
	entry(0x2000, 2, 0x8000000000600000ull | 0x1e3, 8);
	entry(0x3000, 511, 0x7000 | 1, 8);
	maps("00000000c03ff000: 0000000000007000 ---------\n"
	     "00000000c0400000: 0000000000600000 XGPDA---W\n");
}

static void of_four_levels(void **state)
{
	s.cr4 = X86_CR4_PAE;
	s.efer = X86_EFER_LME | X86_EFER_LMA;
	entry(0x1000, 0, 0x2000 | 7, 8);
	entry(0x1000, 511, 0x3000 | 3, 8);
	entry(0x2000, 1, 0x40000000 | 0x87, 8);
	entry(0x3000, 510, 0x4000 | 3, 8);
	entry(0x4000, 8, 0x1000000 | 0xe3, 8);
	entry(0x4000, 9, 0x5000 | 3, 8);
	entry(0x5000, 0, 0x8000000000008000ull | 0x63, 8);
	maps("0000000040000000: 0000000040000000 --P----UW\n"
	     "ffffffff81000000: 0000000001000000 --PDA---W\n"
	     "ffffffff81200000: 0000000000008000 X--DA---W\n");
}

static void of_five_levels(void **state)
{
	s.cr4 = X86_CR4_PAE | X86_CR4_LA57;
	s.efer = X86_EFER_LME | X86_EFER_LMA;
	entry(0x1000, 256, 0x2000 | 3, 8);
	entry(0x2000, 1, 0x3000 | 3, 8);
	entry(0x3000, 0, 0x80000000 | 0x83, 8);
	maps("ff00008000000000: 0000000080000000 --P-----W\n");
	assert_false(x86_debug_isa.translate(&s, mem, 0x0100000000000000, &(uint64_t){ 0 }));
}

struct counted {
	uint64_t pages;
	bool user;
};

static bool count(void *opaque, const struct inspect_page *p)
{
	struct counted *c = opaque;

	c->pages++;
	c->user |= p->user;
	return true;
}

static bool first(void *opaque, const struct inspect_page *p)
{
	return ++*(int *)opaque < 3;
}

/* A table all of whose entries are itself would have 512 to the fourth pages. */
static void tables_without_end_have_one(void **state)
{
	struct counted c = { 0 };
	int n = 0;

	s.cr4 = X86_CR4_PAE;
	s.efer = X86_EFER_LME | X86_EFER_LMA;
	for (unsigned k = 0; k < 512; k++)
		entry(0x1000, k, 0x1000 | (k ? 3 : 1), 8);
	assert_true(x86_inspect_isa.pages(&s, mem, count, &c));
	assert_in_range(c.pages, 1000, 1ull << 28);
	assert_false(c.user);
	/* It ends when it is told to, and tables that are not there are empty. */
	assert_true(x86_inspect_isa.pages(&s, mem, first, &n));
	assert_int_equal(n, 3);
	s.cr3 = 0x7ffffffff000;
	c.pages = 0;
	assert_true(x86_inspect_isa.pages(&s, mem, count, &c));
	assert_int_equal(c.pages, 0);
	s.cr0 = X86_CR0_PE;
	assert_false(x86_inspect_isa.pages(&s, mem, count, &c));
}

static void registers_have_names(void **state)
{
	uint64_t v;
	const char *name;

	s.gpr[X86_RAX] = 0x1122334455667788;
	s.gpr[X86_RIP] = 0x10;
	s.seg[X86_CS].sel = 0x1234;
	s.seg[X86_CS].base = 0x12340;
	assert_true(x86_inspect_isa.reg(&s, "rax", &v) && v == 0x1122334455667788);
	assert_true(x86_inspect_isa.reg(&s, "cs", &v) && v == 0x1234);
	assert_true(x86_inspect_isa.reg(&s, "pc", &v) && v == 0x12350);
	assert_true(x86_inspect_isa.reg(&s, "rip", &v) && v == 0x10);
	assert_false(x86_inspect_isa.reg(&s, "zax", &v));
	for (unsigned n = 0; (name = x86_inspect_isa.reg_name(n)); n++)
		assert_true(x86_inspect_isa.reg(&s, name, &v));
	assert_int_equal(x86_inspect_isa.code_bits(&s), 16);
	s.seg[X86_CS].attr = X86_SEG_DB;
	assert_int_equal(x86_inspect_isa.code_bits(&s), 32);
	s.seg[X86_CS].attr = X86_SEG_L;
	s.efer = X86_EFER_LMA;
	assert_int_equal(x86_inspect_isa.code_bits(&s), 64);
}

/* As qemu-system-x86_64 7.2 -S shows them, but for the type of CS, which is the SDM's. */
static void power_on_looks_like_qemus(void **state)
{
	FILE *f = fmemopen(text, sizeof(text), "w");

	x86_state_reset(&s, true, false);
	s.gpr[X86_RDX] = 0x60fb1;
	x86_inspect_isa.print(&s, f);
	fclose(f);
	assert_non_null(strstr(text, "EAX=00000000 EBX=00000000 ECX=00000000 EDX=00060fb1\n"
				     "ESI=00000000 EDI=00000000 EBP=00000000 ESP=00000000\n"
				     "EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\n"
				     "ES =0000 00000000 0000ffff 00009300\n"
				     "CS =f000 ffff0000 0000ffff 00009300\n"));
	assert_non_null(strstr(text, "LDT=0000 00000000 0000ffff 00008200\n"
				     "TR =0000 00000000 0000ffff 00008b00\n"
				     "GDT=     00000000 0000ffff\n"
				     "IDT=     00000000 0000ffff\n"
				     "CR0=60000010 CR2=00000000 CR3=00000000 CR4=00000000\n"
				     "DR0=0000000000000000 DR1=0000000000000000 DR2=0000000000000000 "
				     "DR3=0000000000000000 \n"
				     "DR6=00000000ffff0ff0 DR7=0000000000000400\n"
				     "EFER=0000000000000000\n"));
}

int main(void)
{
#define PAGES(t) cmocka_unit_test_setup_teardown(t, begin, end)
	const struct CMUnitTest tests[] = {
		PAGES(of_32_bits),
		PAGES(pae),
		PAGES(of_four_levels),
		PAGES(of_five_levels),
		PAGES(tables_without_end_have_one),
		PAGES(registers_have_names),
		PAGES(power_on_looks_like_qemus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
