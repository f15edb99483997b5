/* What may be remembered of page walks, and what makes it forgotten. SDM vol. 3, 4.10. */
#include "rig.h"

#include "base/bytes.h"
#include "cpu/x86/interp.h"
#include "cpu/x86/paging.h"
#include "cpu/x86/tlb.h"

static struct rig r;
static struct x86_cpu *cpu;

static int setup(void **state)
{
	rig_new(&r, RIG_LONG, NULL);
	return 0;
}

static int teardown(void **state)
{
	rig_free(&r);
	return 0;
}

#define P  1ull
#define W  2ull
#define U  4ull
#define A  0x20ull
#define D  0x40ull
#define PS 0x80ull
#define G  0x100ull

#define WINDOW 0x20000000u
#define PT     RIG_TABLES
#define FRAME1 0x300000u
#define FRAME2 0x301000u

static void window(unsigned page, uint64_t pte)
{
	rig_write(&r, 0x3000 + 8 * (WINDOW >> 21), PT | P | W | U, 8);
	rig_write(&r, PT + 8 * page, pte, 8);
}

static void open_window(void)
{
	rig_reset(&r, RIG_LONG);
	mem_fill(r.vm.mem, gpa(PT), 0, 0x1000);
	window(0, FRAME1 | P | W | U);
	rig_write(&r, FRAME1, 0x1111, 4);
	rig_write(&r, FRAME2, 0x2222, 4);
	r.s.gpr[X86_RSI] = WINDOW;
	r.s.gpr[X86_RDI] = PT;
	r.s.gpr[X86_RDX] = FRAME2 | P | W | U;
}

/* mov eax, [rsi]; mov [rdi], rdx; <flush>; mov ebx, [rsi] */
#define READ_REMAP 0x8b, 0x06, 0x48, 0x89, 0x17
#define READ_AGAIN 0x8b, 0x1e
#define ASSERT_NEW()                                                                                                   \
	do {                                                                                                           \
		assert_int_equal(rig_vector(&r), -1);                                                                  \
		assert_int_equal(rig_reg(&r, X86_RAX), 0x1111);                                                        \
		assert_int_equal(rig_reg(&r, X86_RBX), 0x2222);                                                        \
	} while (0)

static void every_kind_of_flush_shows_the_new_mapping(void **state)
{
	open_window();
	RIG_EXEC(&r, READ_REMAP, 0x0f, 0x01, 0x3e, READ_AGAIN); /* invlpg [rsi] */
	ASSERT_NEW();
	open_window();
	RIG_EXEC(&r, READ_REMAP, 0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8, 0xb8, 0x11, 0x11, 0, 0, READ_AGAIN); /* mov cr3 */
	ASSERT_NEW();
	/* A global page outlives MOV CR3 at most; CR4.PGE takes it away. */
	open_window();
	r.s.cr4 |= X86_CR4_PGE;
	window(0, FRAME1 | P | W | U | G);
	r.s.gpr[X86_RCX] = X86_CR4_PAE;
	RIG_EXEC(&r, READ_REMAP, 0x0f, 0x22, 0xe1, READ_AGAIN); /* mov cr4, rcx */
	ASSERT_NEW();
	for (unsigned type = 0; type < 4; type++) {
		open_window();
		r.s.cr4 |= X86_CR4_PCIDE;
		r.s.cr3 |= 5;
		rig_write(&r, RIG_DATA_AT, 5, 8);
		rig_write(&r, RIG_DATA_AT + 8, WINDOW, 8);
		r.s.gpr[X86_RCX] = type;
		r.s.gpr[X86_RBP] = RIG_DATA_AT;
		RIG_EXEC(&r, READ_REMAP, 0x66, 0x0f, 0x38, 0x82, 0x4d, 0, READ_AGAIN); /* invpcid rcx, [rbp] */
		ASSERT_NEW();
	}
	/* The code page, too. */
	open_window();
	rig_write(&r, FRAME1, 0xc3c03148, 4);					  /* xor rax, rax; ret */
	rig_write(&r, FRAME2, 0x0000007bb8, 5);					  /* mov eax, 7bh */
	rig_write(&r, FRAME2 + 5, 0xc3, 1);					  /* ret */
	RIG_EXEC(&r, 0xff, 0xd6, 0x48, 0x89, 0x17, 0x0f, 0x01, 0x3e, 0xff, 0xd6); /* call rsi; remap; call rsi */
	assert_int_equal(rig_reg(&r, X86_RAX), 0x7b);
}

static void a_cleared_dirty_bit_is_set_again(void **state)
{
	open_window();
	/* mov [rsi], eax; and byte [rdi], ~60h; invlpg [rsi]; mov [rsi], eax */
	RIG_EXEC(&r, 0x89, 0x06, 0x80, 0x27, 0x9f, 0x0f, 0x01, 0x3e, 0x89, 0x06);
	assert_int_equal(rig_read(&r, PT, 8), FRAME1 | P | W | U | A | D);
}

static void pcid_has_its_rules(void **state)
{
	/* Switched on only with PCID 0, and in long mode. */
	r.s.gpr[X86_RAX] = X86_CR4_PAE | X86_CR4_PCIDE;
	r.s.cr3 |= 8;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x0f, 0x22, 0xe0);
	rig_reset(&r, RIG_PROT32);
	r.s.gpr[X86_RAX] = X86_CR4_PCIDE;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x0f, 0x22, 0xe0);
	/* Bit 63 of the value is an order, not an address; paging stays on while PCIDs are. */
	rig_reset(&r, RIG_LONG);
	r.s.cr4 |= X86_CR4_PCIDE;
	r.s.gpr[X86_RAX] = 1ull << 63 | RIG_CR3 | 7;
	RIG_EXEC(&r, 0x0f, 0x22, 0xd8);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(r.s.cr3, RIG_CR3 | 7);
	rig_reset(&r, RIG_COMPAT);
	r.s.cr4 |= X86_CR4_PCIDE;
	r.s.gpr[X86_RAX] = X86_CR0_PE;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x0f, 0x22, 0xc0);
	/* Without them bit 63 is reserved. */
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RAX] = 1ull << 63 | RIG_CR3;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x0f, 0x22, 0xd8);
}

/* Two address spaces whose entries may be kept: each sees its own. */
static void pcids_do_not_mix(void **state)
{
	const uint32_t other = RIG_TABLES + 0x2000;
	uint8_t dir[4096];

	open_window();
	assert_true(mem_read(r.vm.mem, gpa(0x3000), dir, sizeof(dir)));
	assert_true(mem_write(r.vm.mem, gpa(other + 0x2000), dir, sizeof(dir)));
	mem_fill(r.vm.mem, gpa(other), 0, 0x2000);
	rig_write(&r, other, (other + 0x1000) | P | W | U, 8);
	rig_write(&r, other + 0x1000, (other + 0x2000) | P | W | U, 8);
	rig_write(&r, other + 0x2000 + 8 * (WINDOW >> 21), (other + 0x3000) | P | W | U, 8);
	rig_write(&r, other + 0x3000, FRAME2 | P | W | U, 8);
	r.s.cr4 |= X86_CR4_PCIDE;
	r.s.cr3 |= 5;
	r.s.gpr[X86_RDX] = 1ull << 63 | other | 6;
	r.s.gpr[X86_RDI] = 1ull << 63 | r.s.cr3;
	/* mov eax, [rsi]; mov cr3, rdx; mov ebx, [rsi]; mov cr3, rdi; mov ecx, [rsi]; mov cr3, rdx; mov ebp, [rsi] */
	RIG_EXEC(&r, 0x8b, 0x06, 0x0f, 0x22, 0xda, 0x8b, 0x1e, 0x0f, 0x22, 0xdf, 0x8b, 0x0e, 0x0f, 0x22, 0xda, 0x8b,
		 0x2e);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(rig_reg(&r, X86_RAX), 0x1111);
	assert_int_equal(rig_reg(&r, X86_RBX), 0x2222);
	assert_int_equal(rig_reg(&r, X86_RCX), 0x1111);
	assert_int_equal(rig_reg(&r, X86_RBP), 0x2222);
	assert_int_equal(r.s.cr3, other | 6);
}

static const struct x86_tlb_entry *look(uint64_t lin)
{
	const struct x86_tlb_entry *e = x86_tlb_slot(cpu->tlbs[X86_TLB_SUPER_AC], lin);

	return e->rtag == lin ? e : NULL;
}

static void load(uint64_t lin)
{
	uint64_t phys;

	assert_non_null(x86_tlb_fill(cpu, X86_TLB_SUPER_AC, lin, X86_READ, &phys));
}

/* Space 5, where WINDOW is seen a second time as far from it as the TLB has entries. */
static void open_spaces(void)
{
	open_window();
	rig_write(&r, 0x3000 + 8 * ((WINDOW + (X86_TLB_SIZE << 12)) >> 21), PT | P | W | U, 8);
	window(1, FRAME2 | P | W | U | G);
	r.s.cr4 |= X86_CR4_PCIDE | X86_CR4_PGE;
	r.s.cr3 |= 5;
	RIG_EXEC(&r, 0x90);
	cpu = tiny_cpu(&r.vm);
	x86_tlb_flush(cpu);
}

static void what_is_known_of_a_space_is_kept_while_it_may_be(void **state)
{
	const uint64_t local = WINDOW, global = WINDOW + 0x1000;

	open_spaces();
	load(local);
	load(global);
	x86_tlb_switch(cpu, 6, true);
	assert_null(look(local));
	assert_non_null(look(global));
	x86_tlb_switch(cpu, 5, true);
	assert_non_null(look(local));
	/* Not if its own switch, an INVPCID from elsewhere, or INVLPG say so. */
	x86_tlb_switch(cpu, 6, true);
	x86_tlb_switch(cpu, 5, false);
	assert_null(look(local));
	load(local);
	x86_tlb_switch(cpu, 6, true);
	x86_tlb_flush_space(cpu, 5);
	x86_tlb_switch(cpu, 5, true);
	assert_null(look(local));
	load(local);
	x86_tlb_flush_page(cpu, local);
	x86_tlb_switch(cpu, 6, true);
	x86_tlb_switch(cpu, 5, true);
	assert_null(look(local));
	assert_non_null(look(global));
	/* Nor after more spaces than are kept. */
	load(local);
	for (unsigned n = 0; n <= X86_SPACES; n++)
		x86_tlb_switch(cpu, 6 + n, true);
	x86_tlb_switch(cpu, 5, true);
	assert_null(look(local));
	x86_tlb_flush(cpu);
	assert_null(look(global));
}

/* A global page that took the place of another one is not put away with its space. */
static void a_global_page_is_nobodys(void **state)
{
	const uint64_t local = WINDOW, global = WINDOW + (X86_TLB_SIZE << 12) + 0x1000;

	open_spaces();
	load(local);
	window(1, FRAME1 | P | W | U);
	load(WINDOW + 0x1000);
	window(1, FRAME2 | P | W | U | G);
	load(global);
	x86_tlb_switch(cpu, 6, true);
	assert_non_null(look(global));
	x86_tlb_flush_page(cpu, global);
	assert_null(look(global));
	x86_tlb_switch(cpu, 5, true);
	assert_null(look(global));
	assert_non_null(look(local));
}

/* INVLPG of one that lies between large pages of its space only. */
static void a_global_page_among_large_ones_is_flushed(void **state)
{
	const uint64_t global = WINDOW + 0x1000;
	const uint64_t above = WINDOW + 0x1000000;
	uint64_t key;

	open_spaces();
	rig_write(&r, 0x3000 + 8 * (above >> 21), 0x400000 | P | W | PS, 8);
	load(0x400000);
	load(above);
	load(global);
	x86_itlb_fill(cpu, global);
	key = cpu->fetch_key;
	x86_tlb_flush_page(cpu, global);
	assert_null(look(global));
	assert_true(cpu->fetch_key != key);
}

/* Code of programs in a global page is no space's own. */
static void a_global_page_is_flushed_for_all_spaces(void **state)
{
	const uint64_t global = WINDOW + 0x1000, local = WINDOW;
	uint64_t key;

	open_spaces();
	rig_write(&r, TINY_CR3, 0x2007, 8);
	rig_write(&r, 0x2000, 0x3007, 8);
	cpu->cpl = 3;
	x86_update_fetch(cpu);
	for (unsigned n = 0; n < 2; n++) {
		x86_itlb_fill(cpu, n ? global : local);
		key = cpu->fetch_key;
		x86_tlb_switch(cpu, 6, true);
		x86_tlb_flush_page(cpu, n ? global : local);
		x86_tlb_switch(cpu, 5, true);
		assert_int_equal(cpu->fetch_key == key, !n);
	}
	cpu->cpl = 0;
}

static bool keeps_code(uint64_t flushed)
{
	uint64_t before = cpu->fetch_key;

	x86_tlb_flush_page(cpu, flushed);
	return cpu->fetch_key == before;
}

static void only_a_flush_of_code_forgets_code(void **state)
{
	const uint64_t nowhere = 1ull << 40;
	const unsigned tables = X86_FETCH_PAGES / 512;

	open_spaces();
	for (unsigned n = 0; n < 512; n++)
		window(n, FRAME1 | P | W | U);
	for (unsigned n = 0; n < tables; n++)
		rig_write(&r, 0x3000 + 8 * ((WINDOW >> 21) + n), PT | P | W | U, 8);
	for (uint64_t at = 0x2000; at < 0x40000; at += 0x2000)
		x86_itlb_fill(cpu, WINDOW + at);
	for (uint64_t at = 0x3000; at < 0x40000; at += 0x2000)
		assert_true(keeps_code(WINDOW + at));
	assert_true(keeps_code(WINDOW + (X86_FETCH_PAGES << 12) + 0x2000));
	assert_false(keeps_code(WINDOW + 0x3e000));
	assert_true(keeps_code(WINDOW + 0x2000));
	x86_itlb_fill(cpu, WINDOW + 0x2000);
	assert_true(keeps_code(nowhere));
	assert_false(keeps_code(WINDOW + 0x2000));
	/* With more than can be told apart, all do. */
	for (uint64_t n = 0; n < X86_FETCH_PAGES; n++)
		x86_itlb_fill(cpu, WINDOW + (n << 12));
	assert_false(keeps_code(nowhere));
	assert_true(keeps_code(nowhere));
}

/* --- regions: what spares a walk --- */

#define OTHER_PT (RIG_TABLES + 0x4000)

/* The page of WINDOW, if that is known without a walk; else 0. */
static uint64_t refilled(enum x86_tlb_view view, uint64_t lin, bool write)
{
	const struct x86_tlb_entry *e = x86_tlb_refill(cpu, view, lin, write);

	return e ? cpu->tlb_phys[e - &cpu->tlbs[0][0]] : 0;
}

/* Two pages in a region that is known by the first of them, in that view. */
static void open_region(enum x86_tlb_view view, uint64_t second)
{
	uint64_t phys;

	open_window();
	window(1, second);
	r.s.cr0 |= X86_CR0_WP;
	RIG_EXEC(&r, 0x90);
	cpu = tiny_cpu(&r.vm);
	x86_tlb_flush(cpu);
	assert_non_null(x86_tlb_fill(cpu, view, WINDOW, X86_READ, &phys));
}

static void an_entry_is_looked_at_as_it_is(void **state)
{
	const uint64_t page = WINDOW + 0x1000, good = FRAME2 | P | W | U | A | D;
	const enum x86_tlb_view user = X86_TLB_USER, super = X86_TLB_SUPER, ac = X86_TLB_SUPER_AC;
	static const uint64_t never[] = { P, A, U };

	open_region(user, good);
	assert_int_equal(refilled(user, page, true), FRAME2);
	/* In another view nothing is known yet. */
	assert_int_equal(refilled(ac, page, false), 0);
	for (size_t n = 0; n < ARRAY_LEN(never); n++) {
		window(1, good & ~never[n]);
		assert_int_equal(refilled(user, page, false), 0);
	}
	window(1, good | 1ull << 51);
	assert_int_equal(refilled(user, page, false), 0);
	window(1, good | PTE_NX); /* reserved without EFER.NXE */
	assert_int_equal(refilled(user, page, false), 0);
	/* Not to be written to yet: read only. */
	for (uint64_t bit = W; bit <= D; bit = bit == W ? D : bit << 1) {
		window(1, good & ~bit);
		assert_int_equal(refilled(user, page, true), 0);
		assert_int_equal(refilled(user, page, false), FRAME2);
		assert_true(x86_tlb_slot(cpu->tlbs[user], page)->wtag != page);
	}
	/* Where there is no RAM. */
	window(1, 0xfee00000 | P | W | U | A | D);
	assert_int_equal(refilled(user, page, false), 0);
	/* User pages with SMAP in force, and pages of the kernel. */
	r.s.cr4 |= X86_CR4_SMAP;
	open_region(ac, good);
	assert_int_equal(refilled(ac, page, true), FRAME2);
	rig_write(&r, PT, FRAME1 | P | W, 8);
	x86_tlb_flush(cpu);
	cpu->s.cr4 |= X86_CR4_SMAP;
	assert_non_null(x86_tlb_fill(cpu, super, WINDOW, X86_READ, &(uint64_t){ 0 }));
	assert_int_equal(refilled(super, page, false), 0);
	window(1, good & ~U);
	assert_int_equal(refilled(super, page, true), FRAME2);
}

/* Protection keys: another one than 0 takes a walk, and while 0 forbids something nothing is remembered. */
static void keys_are_looked_at_by_a_walk(void **state)
{
	const uint64_t good = FRAME2 | P | W | U | A | D;

	open_region(X86_TLB_USER, good);
	cpu->s.cr4 |= X86_CR4_PKE;
	x86_tlb_flush(cpu);
	assert_non_null(x86_tlb_fill(cpu, X86_TLB_USER, WINDOW, X86_READ, &(uint64_t){ 0 }));
	assert_int_equal(refilled(X86_TLB_USER, WINDOW + 0x1000, false), FRAME2);
	window(1, good | 3ull << PTE_KEY);
	assert_int_equal(refilled(X86_TLB_USER, WINDOW + 0x1000, false), 0);
	window(1, good);
	x86_set_pkru(cpu, 2);
	assert_non_null(x86_tlb_fill(cpu, X86_TLB_USER, WINDOW, X86_READ, &(uint64_t){ 0 }));
	assert_int_equal(refilled(X86_TLB_USER, WINDOW + 0x1000, true), 0);
}

static bool is_there(uint64_t lin)
{
	return x86_tlb_slot(cpu->tlbs[X86_TLB_USER], lin)->rtag == lin;
}

/* WRPKRU matters to pages with a key that is not 0; and all is forgotten if what key 0 permits has changed. */
static void keys_that_change_concern_their_pages(void **state)
{
	const uint64_t keyed = WINDOW + 0x1000;
	uint64_t phys, flushes;

	open_region(X86_TLB_USER, FRAME2 | P | W | U | A | D | 3ull << PTE_KEY);
	cpu->s.cr4 |= X86_CR4_PKE;
	x86_tlb_flush(cpu);
	for (unsigned pcid = 0; pcid < 2; pcid++) {
		x86_set_pkru(cpu, 0);
		flushes = cpu->flushes;
		x86_tlb_switch(cpu, pcid, false);
		assert_non_null(x86_tlb_fill(cpu, X86_TLB_USER, WINDOW, X86_READ, &phys));
		assert_non_null(x86_tlb_fill(cpu, X86_TLB_USER, keyed, X86_READ, &phys));
		/* Also of a space that is left in between. */
		x86_tlb_switch(cpu, 5 * pcid, true);
		x86_set_pkru(cpu, 1u << 2 * 3);
		x86_tlb_switch(cpu, pcid, true);
		assert_true(is_there(WINDOW));
		assert_false(is_there(keyed));
	}
	assert_int_equal(cpu->flushes, flushes);
	x86_set_pkru(cpu, 1);
	assert_false(is_there(WINDOW));
	/* What is remembered of a large page would not ask. */
	rig_write(&r, 0x3000 + 8 * (WINDOW >> 21), 0x400000 | P | W | U | A | D | PS | 3ull << PTE_KEY, 8);
	x86_set_pkru(cpu, 0);
	assert_non_null(x86_tlb_fill(cpu, X86_TLB_USER, WINDOW, X86_READ, &phys));
	assert_int_equal(refilled(X86_TLB_USER, keyed, false), 0);
}

/* Upper entries that forbid writing hold for all of the region. */
static void a_region_may_be_read_only(void **state)
{
	open_region(X86_TLB_USER, FRAME2 | P | W | U | A | D);
	rig_write(&r, 0x3000 + 8 * (WINDOW >> 21), PT | P | U, 8);
	x86_tlb_flush(cpu);
	assert_non_null(x86_tlb_fill(cpu, X86_TLB_USER, WINDOW, X86_READ, &(uint64_t){ 0 }));
	assert_int_equal(refilled(X86_TLB_USER, WINDOW + 0x1000, true), 0);
	assert_int_equal(refilled(X86_TLB_USER, WINDOW + 0x1000, false), FRAME2);
	assert_true(x86_tlb_slot(cpu->tlbs[X86_TLB_USER], WINDOW + 0x1000)->wtag != WINDOW + 0x1000);
}

/* Another table, or a large page, in place of a table; and a table in place of a large page. */
static void regions_end_with_what_ends_pages(void **state)
{
	const uint64_t at = 0x3000 + 8 * (WINDOW >> 21), page = WINDOW + 0x1000, table = PT | P | W | U,
		       other = OTHER_PT | P | W | U, large = 0x400000 | P | W | U | PS;
	static const uint64_t both[] = { WINDOW, 0x10000 };
	uint64_t phys;

	for (unsigned n = 0; n < 8; n++) {
		uint64_t from = n & 1 ? large : table, to = n & 2 ? other : n & 1 ? table : large;

		open_region(X86_TLB_USER, FRAME2 | P | W | U | A | D);
		rig_write(&r, OTHER_PT + 8, (FRAME2 + 0x1000) | P | W | U | A | D, 8);
		rig_write(&r, at, from, 8);
		x86_tlb_flush(cpu);
		assert_non_null(x86_tlb_fill(cpu, X86_TLB_USER, WINDOW, X86_READ, &phys));
		assert_int_equal(refilled(X86_TLB_USER, page, false), from == large ? 0x401000 : FRAME2);
		rig_write(&r, at, to, 8);
		/* INVLPG of the region, or, if it has a table, of any page; else the whole space. */
		if (from == large && n & 4)
			x86_tlb_switch(cpu, 0, false);
		else
			x86_tlb_flush_page(cpu, both[n >> 2]);
		assert_int_equal(refilled(X86_TLB_USER, page, false), 0);
		x86_tlb_fill(cpu, X86_TLB_USER, WINDOW + 0x1000, X86_READ, &phys);
		assert_int_equal(phys, to == large ? 0x401000 : to == other ? FRAME2 + 0x1000 : FRAME2);
	}
}

static void regions_are_of_one_space(void **state)
{
	const uint64_t page = WINDOW + 0x2000, global = WINDOW + 0x3000;

	open_spaces();
	window(2, FRAME1 | P | W | U | A | D);
	window(3, FRAME2 | P | W | U | A | D | G);
	load(WINDOW);
	assert_int_equal(refilled(X86_TLB_SUPER_AC, page, true), FRAME1);
	assert_int_equal(refilled(X86_TLB_SUPER_AC, global, true), FRAME2);
	x86_tlb_switch(cpu, 6, true);
	assert_null(look(page));
	assert_non_null(look(global));
	assert_int_equal(refilled(X86_TLB_SUPER_AC, page, true), 0);
	x86_tlb_switch(cpu, 5, true);
	assert_int_equal(refilled(X86_TLB_SUPER_AC, page, true), FRAME1);
	x86_tlb_switch(cpu, 6, true);
	x86_tlb_flush_space(cpu, 5);
	x86_tlb_switch(cpu, 5, true);
	assert_int_equal(refilled(X86_TLB_SUPER_AC, page, true), 0);
}

/* D of a large page is set with the first store, and writes need no walk from then on. */
static void a_large_region_is_dirty_when_it_is_written_to(void **state)
{
	const uint64_t at = 0x3000 + 8 * (WINDOW >> 21), large = 0x400000 | P | W | U | PS;
	uint64_t phys;

	open_region(X86_TLB_USER, 0);
	rig_write(&r, at, large, 8);
	x86_tlb_flush(cpu);
	x86_tlb_fill(cpu, X86_TLB_USER, WINDOW, X86_READ, &phys);
	assert_int_equal(rig_read(&r, at, 8), large | A);
	assert_int_equal(refilled(X86_TLB_USER, WINDOW + 0x5000, true), 0);
	x86_tlb_fill(cpu, X86_TLB_USER, WINDOW + 0x5000, X86_WRITE, &phys);
	assert_int_equal(rig_read(&r, at, 8), large | A | D);
	assert_int_equal(refilled(X86_TLB_USER, WINDOW + 0x6000, true), 0x406000);
}

/* Data that is watched is not read past the watch. */
static void nothing_is_known_while_something_is_watched(void **state)
{
	/* mov al, [rsi]; mov dr0, rbx; mov dr7, rcx; mov al, [rsi]; mov al, [rsi + 1001h]; mov al, [rsi + 1000h]; nop
	 */
	open_window();
	window(1, FRAME2 | P | W | U | A | D);
	r.s.gpr[X86_RBX] = WINDOW + 0x1000;
	r.s.gpr[X86_RCX] = 0x30402; /* read or write of a byte */
	RIG_EXEC(&r, 0x8a, 0x06, 0x0f, 0x23, 0xc3, 0x0f, 0x23, 0xf9, 0x8a, 0x06, 0x8a, 0x86, 1, 0x10, 0, 0, 0x8a, 0x86,
		 0, 0x10, 0, 0, 0x90);
	assert_int_equal(rig_vector(&r), X86_DB);
}

static uint64_t apic_base;

static bool read_apic(void *opaque, unsigned vcpu, uint32_t msr, uint64_t *v)
{
	*v = apic_base | 0x800;
	return true;
}

static bool write_apic(void *opaque, unsigned vcpu, uint32_t msr, uint64_t v)
{
	apic_base = v & ~X86_PAGE_MASK;
	return true;
}

static bool is_apic(void *opaque, unsigned vcpu, uint64_t addr, uint32_t *offset)
{
	return (addr & ~X86_PAGE_MASK) == apic_base;
}

/* The interrupt controller lies over the second page, wherever what was found before it ends. */
static void the_interrupt_controller_is_no_memory(void **state)
{
	const enum x86_tlb_view view = X86_TLB_USER;
	struct intc_ops ops;
	uint64_t phys;

	open_region(view, FRAME2 | P | W | U | A | D);
	ops = *cpu->vm->cfg.intc.ops;
	ops.rdmsr = read_apic;
	ops.wrmsr = write_apic;
	ops.mmio_hit = is_apic;
	cpu->vm->cfg.intc.ops = &ops;
	assert_int_equal(refilled(view, WINDOW + 0x1000, true), FRAME2);
	assert_true(x86_wrmsr(cpu, X86_MSR_APIC_BASE, FRAME2));
	assert_true(x86_tlb_slot(cpu->tlbs[view], WINDOW + 0x1000)->rtag != WINDOW + 0x1000);
	for (unsigned turn = 0; turn < 2; turn++) {
		assert_non_null(x86_tlb_fill(cpu, view, WINDOW, X86_READ, &phys));
		assert_int_equal(refilled(view, WINDOW + 0x1000, false), 0);
		assert_null(x86_tlb_fill(cpu, view, WINDOW + (turn ? FRAME2 - 0x200000 : 0x1000), X86_READ, &phys));
		/* As part of a large page. */
		rig_write(&r, 0x3000 + 8 * (WINDOW >> 21), 0x200000 | P | W | U | PS, 8);
		x86_tlb_flush(cpu);
	}
	assert_non_null(x86_tlb_fill(cpu, view, WINDOW, X86_READ, &phys));
	assert_int_equal(refilled(view, WINDOW + 0x1000, false), 0);
	/* The large page that begins with it. */
	assert_true(x86_wrmsr(cpu, X86_MSR_APIC_BASE, 0x200000));
	assert_non_null(x86_tlb_fill(cpu, view, WINDOW + 0x1000, X86_READ, &phys));
	assert_int_equal(refilled(view, WINDOW, false), 0);
	/* A page table there. */
	rig_write(&r, 0x3000 + 8 * (WINDOW >> 21), PT | P | W | U, 8);
	assert_true(x86_wrmsr(cpu, X86_MSR_APIC_BASE, PT));
	assert_non_null(x86_tlb_fill(cpu, view, WINDOW, X86_READ, &phys));
	assert_int_equal(refilled(view, WINDOW + 0x1000, false), 0);
}

/* Code that reads and writes pages it has not seen, of a region it has; between that the tables change. */
static void accesses_go_where_the_tables_say(void **state)
{
	for (unsigned turn = 0; turn < 2; turn++) {
		open_window();
		for (unsigned n = 1; n < 4; n++)
			window(n, (FRAME1 + 0x1000 * n) | P | W | U | A | D);
		rig_write(&r, OTHER_PT + 24, FRAME1 | P | W | U | A | D, 8);
		rig_write(&r, FRAME1 + 0x2000, 0x3333, 4);
		if (turn)
			rig_write(&r, PT + 16, FRAME1 | P | U | A | D, 8);
		r.s.cr0 |= X86_CR0_WP;
		r.s.gpr[X86_RDI] = 0x3000 + 8 * (WINDOW >> 21);
		r.s.gpr[X86_RDX] = OTHER_PT | P | W | U;
		/*
		 * mov eax, [rsi]; mov ebx, [rsi + 1000h]; mov [rsi + 2000h], ebx; mov [rdi], rdx; invlpg [rsi + 4000h];
		 * mov ecx, [rsi + 3000h]
		 */
		RIG_EXEC(&r, 0x8b, 0x06, 0x8b, 0x9e, 0, 0x10, 0, 0, 0x89, 0x9e, 0, 0x20, 0, 0, 0x48, 0x89, 0x17, 0x0f,
			 0x01, 0xbe, 0, 0x40, 0, 0, 0x8b, 0x8e, 0, 0x30, 0, 0);
		assert_int_equal(rig_vector(&r), turn ? X86_PF_FAULT : -1);
		assert_int_equal(rig_reg(&r, X86_RAX), 0x1111);
		assert_int_equal(rig_reg(&r, X86_RBX), 0x2222);
		assert_int_equal(rig_read(&r, FRAME1 + 0x2000, 4), turn ? 0x3333 : 0x2222);
		if (turn)
			assert_true(r.s.cr2 == WINDOW + 0x2000);
		else
			assert_int_equal(rig_reg(&r, X86_RCX), 0x1111);
	}
}

/* The page of INVLPG is the whole large one, for code as well. */
static void invlpg_takes_all_of_a_large_page(void **state)
{
	open_window();
	rig_write(&r, 0x3000 + 8 * (WINDOW >> 21), 0x400000 | P | W | U | PS, 8);
	rig_write(&r, 0x401000, 0xc3c03148, 4);	    /* xor rax, rax; ret */
	rig_write(&r, 0x601000, 0xc30000007bb8, 6); /* mov eax, 7bh; ret */
	r.s.gpr[X86_RSI] = WINDOW + 0x1000;
	r.s.gpr[X86_RBX] = WINDOW + 0x1ff000;
	r.s.gpr[X86_RDI] = 0x3000 + 8 * (WINDOW >> 21);
	r.s.gpr[X86_RDX] = 0x600000 | P | W | U | PS;
	RIG_EXEC(&r, 0xff, 0xd6, 0x48, 0x89, 0x17, 0x0f, 0x01, 0x3b, 0xff,
		 0xd6); /* call rsi; remap; invlpg [rbx]; call rsi */
	assert_int_equal(rig_reg(&r, X86_RAX), 0x7b);
}

/* An instruction that runs into another page, jumped to within its own: that page is mapped anew, then written to. */
static void an_instruction_depends_on_both_its_pages(void **state)
{
	const uint32_t frame3 = FRAME2 + 0x1000;

	open_window();
	window(1, FRAME2 | P | W | U);
	rig_write(&r, FRAME1 + 0xff0, 0x0beb, 2);   /* jmp to the end of the page */
	rig_write(&r, FRAME1 + 0xffd, 0x2211b8, 3); /* mov eax, XXXX2211h; ret */
	rig_write(&r, FRAME2, 0xc34433, 3);
	rig_write(&r, frame3, 0xc36655, 3);
	r.s.gpr[X86_RSI] = WINDOW + 0xff0;
	r.s.gpr[X86_RDI] = PT + 8;
	r.s.gpr[X86_RDX] = frame3 | P | W | U;
	r.s.gpr[X86_RBX] = frame3;
	/* call rsi three times; push rax; remap; invlpg [rsi + 10h]; call rsi; push rax; mov byte [rbx], 77h; call rsi
	 */
	RIG_EXEC(&r, 0xff, 0xd6, 0xff, 0xd6, 0xff, 0xd6, 0x50, 0x48, 0x89, 0x17, 0x0f, 0x01, 0x7e, 0x10, 0xff, 0xd6,
		 0x50, 0xc6, 0x03, 0x77, 0xff, 0xd6);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(rig_reg(&r, X86_RAX), 0x66772211);
	assert_int_equal(rig_read(&r, RIG_STACK - 8, 8), 0x44332211);
	assert_int_equal(rig_read(&r, RIG_STACK - 16, 8), 0x66552211);
}

/* Stores and loads, of general and vector registers, half of which lie in another page that is elsewhere in memory. */
static void accesses_across_pages(void **state)
{
	const uint32_t frame3 = FRAME2 + 0x1000, first = FRAME1 + 0xffc;
	/* push rbx; mov [rsi], rbx; mov rax, [rsi]; movups xmm0, [rsi - 4]; movups [rsi + 4], xmm0; mov rcx, [rsi + 4]
	 */
	const uint8_t code[] = { 0x53, 0x48, 0x89, 0x1e, 0x48, 0x8b, 0x06, 0x0f, 0x10, 0x46,
				 0xfc, 0x0f, 0x11, 0x46, 0x04, 0x48, 0x8b, 0x4e, 0x04, 0xf4 };

	if (!x86_fp_host_ok()) {
		print_message("skipped: no vector registers here\n");
		skip();
	}
	for (unsigned turn = 0; turn < 3; turn++) {
		open_window();
		window(1, frame3 | P | W | U);
		rig_write(&r, first - 4, 0x1111111144444444, 8);
		rig_write(&r, FRAME2, 0, 8);
		rig_write(&r, frame3 + 4, 0, 8);
		r.s.cr4 |= X86_CR4_OSFXSR;
		r.s.gpr[X86_RSI] = WINDOW + 0xffc;
		r.s.gpr[X86_RSP] = turn ? RIG_STACK : WINDOW + 0x1004;
		r.s.gpr[X86_RBX] = 0x8877665544332211;
		if (turn == 1) /* as far as nothing faults */
			window(1, 0);
		if (turn == 2)
			window(1, frame3 | P | U);
		r.s.cr0 |= X86_CR0_WP;
		rig_exec(&r, code, sizeof(code));
		if (turn) {
			assert_int_equal(rig_vector(&r), X86_PF_FAULT);
			assert_true(r.s.cr2 == WINDOW + 0x1000);
			assert_int_equal(rig_read(&r, first, 4), 0x11111111);
			continue;
		}
		assert_int_equal(rig_vector(&r), -1);
		assert_true(rig_reg(&r, X86_RAX) == 0x8877665544332211);
		assert_true(rig_reg(&r, X86_RCX) == 0x4433221144444444);
		assert_int_equal(rig_read(&r, first, 4), 0x44332211);
		assert_true(rig_read(&r, frame3, 8) == 0x4433221144444444);
		assert_int_equal(rig_read(&r, frame3 + 8, 4), 0x88776655);
		assert_true(!rig_read(&r, FRAME2, 8));
		assert_int_equal(rig_read(&r, PT + 8, 8) & (A | D), A | D);
	}
}

/* Such a store changes an instruction in the second page. */
static void a_store_across_pages_changes_code(void **state)
{
	const uint32_t frame3 = FRAME2 + 0x1000;

	open_window();
	window(1, frame3 | P | W | U);
	rig_write(&r, frame3, 0xc300000001b8, 6); /* mov eax, 1; ret */
	r.s.gpr[X86_RSI] = WINDOW + 0x1000;
	r.s.gpr[X86_RBX] = 0x02b80000;
	/* call rsi twice; mov [rsi - 2], ebx; call rsi */
	RIG_EXEC(&r, 0xff, 0xd6, 0xff, 0xd6, 0x89, 0x5e, 0xfe, 0xff, 0xd6);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(rig_reg(&r, X86_RAX), 2);
}

/* However many mappings there were in between, whose numbers come back: each MOV CR3 takes up to two of 4096. */
static void an_old_mapping_is_not_taken_for_a_new_one(void **state)
{
	for (uint32_t turns = 4096 / 2 - 8; turns < 4096 + 8; turns += turns == 4096 / 2 + 8 ? 4096 / 2 - 16 : 1) {
		open_window();
		rig_write(&r, FRAME1, 0xc3c03148, 4);	  /* xor rax, rax; ret */
		rig_write(&r, FRAME2, 0xc30000007bb8, 6); /* mov eax, 7bh; ret */
		r.s.gpr[X86_RCX] = turns;
		r.s.gpr[X86_RBX] = RIG_CR3;
		/* call rsi, until its way is known; remap; again: mov cr3, rbx; loop again; call rsi */
		RIG_EXEC(&r, 0xff, 0xd6, 0xff, 0xd6, 0xff, 0xd6, 0x48, 0x89, 0x17, 0x0f, 0x22, 0xdb, 0xe2, 0xfb, 0xff,
			 0xd6);
		assert_int_equal(rig_vector(&r), -1);
		assert_int_equal(rig_reg(&r, X86_RAX), 0x7b);
	}
}

static void invpcid_checks_its_operands(void **state)
{
	static const struct {
		uint64_t type, pcid, lin;
		bool pcide, ok;
	} cases[] = {
		{ 0, 0, WINDOW, false, true },	  { 0, 1, WINDOW, false, false }, { 0, 1, WINDOW, true, true },
		{ 1, 1, 0, false, false },	  { 2, 0, 0, false, true },	  { 3, 0, 0, false, true },
		{ 4, 0, 0, true, false },	  { 0, 0x1000, 0, true, false },  { 0, 0, 1ull << 60, true, false },
		{ 1, 0, 1ull << 60, true, true },
	};

	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		rig_reset(&r, RIG_LONG);
		r.s.cr4 |= cases[n].pcide ? X86_CR4_PCIDE : 0;
		rig_write(&r, RIG_DATA_AT, cases[n].pcid, 8);
		rig_write(&r, RIG_DATA_AT + 8, cases[n].lin, 8);
		r.s.gpr[X86_RCX] = cases[n].type;
		r.s.gpr[X86_RBP] = RIG_DATA_AT;
		RIG_EXEC(&r, 0x66, 0x0f, 0x38, 0x82, 0x4d, 0);
		assert_int_equal(rig_vector(&r), cases[n].ok ? -1 : X86_GP);
	}
	rig_free(&r);
	rig_new(&r, RIG_LONG, "max,-invpcid");
	r.s.gpr[X86_RBP] = RIG_DATA_AT;
	RIG_FAULTS(&r, X86_UD, 0, 0, 0x66, 0x0f, 0x38, 0x82, 0x4d, 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_kind_of_flush_shows_the_new_mapping),
		TEST(a_cleared_dirty_bit_is_set_again),
		TEST(pcid_has_its_rules),
		TEST(pcids_do_not_mix),
		TEST(what_is_known_of_a_space_is_kept_while_it_may_be),
		TEST(a_global_page_is_nobodys),
		TEST(a_global_page_among_large_ones_is_flushed),
		TEST(a_global_page_is_flushed_for_all_spaces),
		TEST(only_a_flush_of_code_forgets_code),
		TEST(an_entry_is_looked_at_as_it_is),
		TEST(keys_are_looked_at_by_a_walk),
		TEST(keys_that_change_concern_their_pages),
		TEST(a_region_may_be_read_only),
		TEST(regions_end_with_what_ends_pages),
		TEST(regions_are_of_one_space),
		TEST(a_large_region_is_dirty_when_it_is_written_to),
		TEST(nothing_is_known_while_something_is_watched),
		TEST(the_interrupt_controller_is_no_memory),
		TEST(accesses_go_where_the_tables_say),
		TEST(invlpg_takes_all_of_a_large_page),
		TEST(an_instruction_depends_on_both_its_pages),
		TEST(accesses_across_pages),
		TEST(a_store_across_pages_changes_code),
		TEST(an_old_mapping_is_not_taken_for_a_new_one),
		TEST(invpcid_checks_its_operands),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
