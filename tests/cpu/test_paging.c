/* Page walks in every mode and page size. SDM vol. 3, chapter 4. */
#include "rig.h"

#include "base/bytes.h"
#include "cpu/x86/paging.h"

static struct rig r;

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
#define NX (1ull << 63)

/* --- the walker by itself --- */

/* One way to map a page: `shift` of the levels used, the last of which maps it. */
static const struct way {
	const char *name;
	uint8_t entry, levels, shift[4], bits;
	bool large;
	uint32_t cr4, efer;
} ways[] = {
	{ "2-level, 4K", 4, 2, { 22, 12 }, 10, false, X86_CR4_PSE, 0 },
	{ "2-level, 4M", 4, 1, { 22 }, 10, true, X86_CR4_PSE, 0 },
	{ "PAE, 4K", 8, 2, { 21, 12 }, 9, false, X86_CR4_PAE, X86_EFER_NXE },
	{ "PAE, 2M", 8, 1, { 21 }, 9, true, X86_CR4_PAE, X86_EFER_NXE },
	{ "4-level, 4K", 8, 4, { 39, 30, 21, 12 }, 9, false, X86_CR4_PAE, X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE },
	{ "4-level, 2M", 8, 3, { 39, 30, 21 }, 9, true, X86_CR4_PAE, X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE },
	{ "4-level, 1G", 8, 2, { 39, 30 }, 9, true, X86_CR4_PAE, X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE },
};

#define LIN 0x40765432ull

/* RAM, aligned for the page. */
static uint64_t phys_of(const struct way *w)
{
	return w->shift[w->levels - 1] == 30 ? 0 : 0x800000;
}

static struct x86_cpu *cpu;
static uint64_t at[4]; /* of each level's entry */

static uint64_t entry(const struct way *w, unsigned level)
{
	return rig_read(&r, at[level], w->entry);
}

static void set_entry(const struct way *w, unsigned level, uint64_t v)
{
	rig_write(&r, at[level], v, w->entry);
}

/* Map LIN's page to PHYS with all rights. */
static void map(const struct way *w)
{
	unsigned n = w->levels - 1u;

	cpu = tiny_cpu(&r.vm);
	cpu->s.cr0 = X86_CR0_PE | X86_CR0_PG;
	cpu->s.cr4 = w->cr4;
	cpu->s.efer = w->efer;
	cpu->s.cr3 = RIG_TABLES;
	for (unsigned k = 0; k < 4; k++)
		cpu->s.pdpte[k] = RIG_TABLES | P;
	mem_fill(r.vm.mem, gpa(RIG_TABLES), 0, 0x4000);
	for (unsigned k = 0; k < w->levels; k++)
		at[k] = RIG_TABLES + 0x1000u * k + (LIN >> w->shift[k] & ((1u << w->bits) - 1)) * w->entry;
	for (unsigned k = 0; k < n; k++)
		set_entry(w, k, (RIG_TABLES + 0x1000u * (k + 1)) | P | W | U);
	set_entry(w, n, phys_of(w) | P | W | U | (w->large ? PS : 0));
}

enum { KERNEL = 0, USER = 1, AC = 2 };

struct found {
	uint64_t phys;
	bool writable; /* without another walk */
};

static void fill(enum x86_access a, unsigned who, struct found *f)
{
	const struct x86_tlb_entry *e;

	if (a == X86_FETCH) {
		cpu->cpl = who & USER ? 3 : 0;
		f->phys = x86_itlb_fill(cpu, LIN)->phys | (LIN & X86_PAGE_MASK);
		return;
	}
	e = x86_tlb_fill(cpu,
			 who & USER ? X86_TLB_USER
			 : who & AC ? X86_TLB_SUPER_AC
				    : X86_TLB_SUPER,
			 LIN, a, &f->phys);
	f->writable = e && e->wtag == (LIN & ~X86_PAGE_MASK);
}

/* -1: permitted; else the error code of the page fault. */
static int64_t walk(enum x86_access a, unsigned who, struct found *f)
{
	struct found own;
	sigjmp_buf env;

	x86_tlb_flush(cpu);
	cpu->unwind = &env;
	if (sigsetjmp(env, 0)) {
		assert_int_equal(cpu->s.event.vector, X86_PF_FAULT);
		assert_true(cpu->s.cr2 == LIN);
		return cpu->s.event.error;
	}
	fill(a, who, f ? f : &own);
	return -1;
}

static void it_finds_the_page(void **state)
{
	for (const struct way *w = ways; w < ways + ARRAY_LEN(ways); w++) {
		struct found t;

		map(w);
		for (unsigned who = KERNEL; who <= USER; who++)
			for (enum x86_access a = X86_READ; a <= X86_FETCH; a++)
				assert_int_equal(walk(a, who, &t), -1);
		assert_true((t.phys & ~X86_PAGE_MASK) ==
			    ((phys_of(w) + (LIN & ((1ull << w->shift[w->levels - 1]) - 1))) & ~X86_PAGE_MASK));
	}
}

static void an_absent_entry_faults_at_every_level(void **state)
{
	for (const struct way *w = ways; w < ways + ARRAY_LEN(ways); w++) {
		for (unsigned level = 0; level < w->levels; level++) {
			map(w);
			set_entry(w, level, entry(w, level) & ~P);
			assert_int_equal(walk(X86_READ, KERNEL, NULL), 0);
			assert_int_equal(walk(X86_WRITE, KERNEL, NULL), 2);
			assert_int_equal(walk(X86_WRITE, USER, NULL), 6);
			/* The fetch bit is there with NX or SMEP only. */
			assert_int_equal(walk(X86_FETCH, USER, NULL), w->entry == 8 ? 0x14 : 4);
			cpu->s.cr4 |= X86_CR4_SMEP;
			assert_int_equal(walk(X86_FETCH, USER, NULL), 0x14);
		}
	}
	map(&ways[2]);
	cpu->s.pdpte[LIN >> 30] = 0;
	assert_int_equal(walk(X86_READ, KERNEL, NULL), 0);
}

static void accessed_and_dirty_are_set(void **state)
{
	for (const struct way *w = ways; w < ways + ARRAY_LEN(ways); w++) {
		unsigned leaf = w->levels - 1u;
		struct found t;

		map(w);
		assert_int_equal(walk(X86_READ, USER, &t), -1);
		assert_false(t.writable); /* the first write must come back and set D */
		for (unsigned level = 0; level < w->levels; level++)
			assert_int_equal(entry(w, level) & (A | D), A);
		assert_int_equal(walk(X86_WRITE, USER, &t), -1);
		assert_true(t.writable);
		for (unsigned level = 0; level < w->levels; level++)
			assert_int_equal(entry(w, level) & (A | D), level == leaf ? A | D : A);
		/* A write that is refused leaves D alone. */
		map(w);
		set_entry(w, leaf, entry(w, leaf) & ~W);
		assert_int_equal(walk(X86_WRITE, USER, NULL), 7);
		assert_int_equal(entry(w, leaf) & D, 0);
	}
}

static void rights_are_those_of_all_levels(void **state)
{
	for (const struct way *w = ways; w < ways + ARRAY_LEN(ways); w++) {
		for (unsigned level = 0; level < w->levels; level++) {
			struct found t;

			map(w);
			set_entry(w, level, entry(w, level) & ~W);
			assert_int_equal(walk(X86_WRITE, USER, NULL), 7);
			assert_int_equal(walk(X86_READ, USER, NULL), -1);
			assert_int_equal(walk(X86_WRITE, KERNEL, NULL), -1);
			cpu->s.cr0 |= X86_CR0_WP;
			assert_int_equal(walk(X86_WRITE, KERNEL, NULL), 3);
			assert_int_equal(walk(X86_READ, KERNEL, &t), -1);
			assert_false(t.writable);
			map(w);
			set_entry(w, level, entry(w, level) & ~U);
			assert_int_equal(walk(X86_READ, USER, NULL), 5);
			assert_int_equal(walk(X86_WRITE, USER, NULL), 7);
			assert_int_equal(walk(X86_WRITE, KERNEL, NULL), -1);
			if (w->entry == 4)
				continue;
			map(w);
			set_entry(w, level, entry(w, level) | NX);
			assert_int_equal(walk(X86_FETCH, KERNEL, NULL), 0x11);
			assert_int_equal(walk(X86_FETCH, USER, NULL), 0x15);
			assert_int_equal(walk(X86_WRITE, USER, NULL), -1);
			/* Without NXE the bit is reserved. */
			cpu->s.efer &= ~(uint64_t)X86_EFER_NXE;
			assert_int_equal(walk(X86_READ, USER, NULL), 0xd);
			assert_int_equal(walk(X86_FETCH, KERNEL, NULL), 9);
		}
	}
}

static void smep_and_smap_keep_the_kernel_out(void **state)
{
	for (const struct way *w = ways; w < ways + ARRAY_LEN(ways); w++) {
		map(w);
		cpu->s.cr4 |= X86_CR4_SMEP;
		assert_int_equal(walk(X86_FETCH, KERNEL, NULL), 0x11);
		assert_int_equal(walk(X86_FETCH, USER, NULL), -1);
		assert_int_equal(walk(X86_READ, KERNEL, NULL), -1);
		map(w);
		cpu->s.cr4 |= X86_CR4_SMAP;
		assert_int_equal(walk(X86_READ, KERNEL, NULL), 1);
		assert_int_equal(walk(X86_WRITE, KERNEL, NULL), 3);
		assert_int_equal(walk(X86_READ, KERNEL | AC, NULL), -1);
		assert_int_equal(walk(X86_WRITE, KERNEL | AC, NULL), -1);
		assert_int_equal(walk(X86_FETCH, KERNEL, NULL), -1);
		assert_int_equal(walk(X86_WRITE, USER, NULL), -1);
		/* Supervisor pages are not meant. */
		set_entry(w, 0, entry(w, 0) & ~U);
		assert_int_equal(walk(X86_WRITE, KERNEL, NULL), -1);
		cpu->s.cr4 |= X86_CR4_SMEP;
		assert_int_equal(walk(X86_FETCH, KERNEL, NULL), -1);
	}
}

#define KEY(n)	  ((uint64_t)(n) << 59)
#define AD(key)	  (1u << 2 * (key)) /* in PKRU: no access, no writes */
#define WD(key)	  (2u << 2 * (key))
#define KEY_FAULT 32

static void protection_keys_guard_user_pages(void **state)
{
	for (const struct way *w = ways; w < ways + ARRAY_LEN(ways); w++) {
		struct found t;

		if (w->levels - 1u + w->large < 3) /* not of long mode, which alone has keys */
			continue;
		map(w);
		set_entry(w, w->levels - 1u, entry(w, w->levels - 1u) | KEY(13));
		cpu->s.pkru = AD(13);
		assert_int_equal(walk(X86_READ, USER, NULL), -1);
		cpu->s.cr4 |= X86_CR4_PKE;
		/* No data access, of whatever privilege; fetches are not meant. */
		assert_int_equal(walk(X86_READ, USER, NULL), KEY_FAULT | 5);
		assert_int_equal(walk(X86_WRITE, USER, NULL), KEY_FAULT | 7);
		assert_int_equal(walk(X86_READ, KERNEL, NULL), KEY_FAULT | 1);
		assert_int_equal(walk(X86_WRITE, KERNEL, NULL), KEY_FAULT | 3);
		assert_int_equal(walk(X86_FETCH, USER, NULL), -1);
		/* No writes: the kernel heeds it with CR0.WP. */
		cpu->s.pkru = WD(13);
		assert_int_equal(walk(X86_READ, USER, &t), -1);
		assert_false(t.writable);
		assert_int_equal(walk(X86_WRITE, USER, NULL), KEY_FAULT | 7);
		assert_int_equal(walk(X86_WRITE, KERNEL, NULL), -1);
		cpu->s.cr0 |= X86_CR0_WP;
		assert_int_equal(walk(X86_WRITE, KERNEL, NULL), KEY_FAULT | 3);
		/* The key is told beside other reasons for the same fault. */
		set_entry(w, 0, entry(w, 0) & ~W);
		assert_int_equal(walk(X86_WRITE, USER, NULL), KEY_FAULT | 7);
		set_entry(w, 0, entry(w, 0) | W);
		/* Other keys. */
		cpu->s.pkru = ~(AD(13) | WD(13));
		assert_int_equal(walk(X86_WRITE, USER, &t), -1);
		assert_true(t.writable);
		/* Supervisor pages have none. */
		cpu->s.pkru = ~0u;
		set_entry(w, 0, entry(w, 0) & ~U);
		assert_int_equal(walk(X86_WRITE, KERNEL, NULL), -1);
		assert_int_equal(walk(X86_READ, USER, NULL), 5);
	}
	/* In other modes bits 62:59 are reserved. */
	map(&ways[2]);
	cpu->s.cr4 |= X86_CR4_PKE;
	set_entry(&ways[2], 1, entry(&ways[2], 1) | KEY(1));
	assert_int_equal(walk(X86_READ, USER, NULL), 13);
}

static void reserve(const struct way *w, unsigned level, uint64_t bit)
{
	map(w);
	set_entry(w, level, entry(w, level) | bit);
	assert_int_equal(walk(X86_READ, KERNEL, NULL), 9);
	assert_int_equal(walk(X86_WRITE, USER, NULL), 0xf);
	assert_int_equal(entry(w, level) & A, 0);
	/* An entry that is not present has no reserved bits. */
	set_entry(w, level, entry(w, level) & ~P);
	assert_int_equal(walk(X86_READ, KERNEL, NULL), 0);
}

static void reserved_bits_fault(void **state)
{
	for (const struct way *w = ways; w < ways + ARRAY_LEN(ways); w++) {
		unsigned leaf = w->levels - 1u;

		for (unsigned level = 0; level < w->levels && w->entry == 8; level++) {
			reserve(w, level, 1ull << 46);
			reserve(w, level, 1ull << 51);
			if (!(w->efer & X86_EFER_LMA)) {
				reserve(w, level, 1ull << 52);
				reserve(w, level, 1ull << 62);
			}
		}
		if (w->efer & X86_EFER_LMA)
			reserve(w, 0, PS);
		/* Bit 12 of a large page is PAT; from there to the address nothing may be set. */
		if (w->large)
			reserve(w, leaf, 1ull << (w->shift[leaf] - 1));
		if (w->large && w->entry == 8)
			reserve(w, leaf, 1ull << 13);
		map(w);
		if (w->large) {
			set_entry(w, leaf, entry(w, leaf) | 1u << 12);
			assert_int_equal(walk(X86_READ, KERNEL, NULL), -1);
		}
		/* Available bits are available. */
		for (unsigned level = 0; level < w->levels; level++)
			set_entry(w, level, entry(w, level) | 0xe00 | (w->efer & X86_EFER_LMA ? 0x7ffull << 52 : 0));
		assert_int_equal(walk(X86_READ, KERNEL, NULL), -1);
	}
}

static void the_width_of_physical_addresses_is_the_models(void **state)
{
	struct found t;

	rig_free(&r);
	rig_new(&r, RIG_LONG, "max,phys-bits=36");
	for (const struct way *w = ways; w < ways + ARRAY_LEN(ways); w++)
		if (w->entry == 8)
			reserve(w, w->levels - 1u, 1ull << 36);
	/* PSE-36: bits 20:13 are address bits 39:32, as far as there are some. */
	map(&ways[1]);
	set_entry(&ways[1], 0, entry(&ways[1], 0) | 0xfu << 13);
	assert_int_equal(walk(X86_READ, KERNEL, &t), -1);
	assert_true(t.phys == ((LIN & 0x3fffff) | phys_of(&ways[1]) | 0xfull << 32));
	reserve(&ways[1], 0, 1u << 17);
	rig_free(&r);
	rig_new(&r, RIG_LONG, NULL);
	map(&ways[1]);
	set_entry(&ways[1], 0, entry(&ways[1], 0) | 0xffu << 13);
	assert_int_equal(walk(X86_READ, KERNEL, &t), -1);
	assert_true(t.phys == ((LIN & 0x3fffff) | phys_of(&ways[1]) | 0xffull << 32));
}

static void sizes_that_are_not_switched_on(void **state)
{
	const struct way *pse = &ways[1], *gib = &ways[6];

	/* Without PSE the bit is ignored: the entry names a table. */
	map(pse);
	cpu->s.cr4 = 0;
	rig_write(&r, RIG_TABLES + 0x1000 + (LIN >> 12 & 0x3ff) * 4, 0x12345000 | P, 4);
	set_entry(pse, 0, (RIG_TABLES + 0x1000) | P | W | U | PS);
	struct found t;
	assert_int_equal(walk(X86_READ, KERNEL, &t), -1);
	assert_true(t.phys == (0x12345000 | (LIN & 0xfff)));
	/* Without 1 GiB pages it is reserved. */
	rig_free(&r);
	rig_new(&r, RIG_LONG, "max,-pdpe1gb");
	map(gib);
	assert_int_equal(walk(X86_READ, KERNEL, NULL), 9);
}

/* --- by guest code: the window at WINDOW has a page table of its own --- */

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

static void faults_tell_where_and_why(void **state)
{
	open_window();
	window(0, 0);
	RIG_FAULTS(&r, X86_PF_FAULT, 2, 1, 0x90, 0x89, 0x46, 4); /* nop; mov [rsi+4], eax */
	assert_int_equal(r.s.cr2, WINDOW + 4);
	/* Both pages of an access are found good first, and the second one is where it failed. */
	open_window();
	r.s.gpr[X86_RAX] = 0xffffffff;
	RIG_FAULTS(&r, X86_PF_FAULT, 2, 0, 0x89, 0x86, 0xfe, 0x0f, 0, 0); /* mov [rsi+ffeh], eax */
	assert_int_equal(r.s.cr2, WINDOW + 0x1000);
	assert_int_equal(rig_read(&r, FRAME1 + 0xffe, 2), 0);
	/* So for code that goes on in a page that is not there. */
	open_window();
	rig_write(&r, FRAME1 + 0xffe, 0x048b, 2);		      /* mov eax, [...] */
	RIG_EXEC(&r, 0x48, 0x8d, 0x86, 0xfe, 0x0f, 0, 0, 0xff, 0xe0); /* lea rax, [rsi+ffeh]; jmp rax */
	assert_int_equal(rig_vector(&r), X86_PF_FAULT);
	assert_int_equal(rig_pushed(&r, 0), 0);
	assert_int_equal(rig_pushed(&r, 1), WINDOW + 0xffe);
	assert_int_equal(r.s.cr2, WINDOW + 0x1000);
	/* User code, and the kernel's access on behalf of user code. */
	open_window();
	window(0, FRAME1 | P | W);
	rig_user(&r);
	RIG_FAULTS(&r, X86_PF_FAULT, 7, 0, 0x89, 0x06);
	open_window();
	rig_user(&r);
	r.s.gdt.base = WINDOW + 0x1000;
	r.s.gpr[X86_RAX] = 0x3b;
	RIG_EXEC(&r, 0x8e, 0xd8); /* mov ds, ax: the descriptor is read as the supervisor, and so is the IDT's code */
	assert_int_equal(rig_vector(&r), -2);
	assert_int_equal(r.s.cr2 & ~0xfffull, WINDOW + 0x1000);
}

static void a_fetch_from_nx_faults(void **state)
{
	open_window();
	r.s.efer |= X86_EFER_NXE;
	window(0, FRAME1 | P | W | U | NX);
	RIG_EXEC(&r, 0xff, 0xe6); /* jmp rsi */
	assert_int_equal(rig_vector(&r), X86_PF_FAULT);
	assert_int_equal(rig_pushed(&r, 0), 0x11);
	assert_int_equal(r.s.cr2, WINDOW);
}

static void wp_takes_effect_at_once(void **state)
{
	open_window();
	window(0, FRAME1 | P | U);
	/* mov [rsi], eax; mov rcx, cr0; bts rcx, 16; mov cr0, rcx; mov [rsi], eax */
	RIG_FAULTS(&r, X86_PF_FAULT, 3, 13, 0x89, 0x06, 0x0f, 0x20, 0xc1, 0x48, 0x0f, 0xba, 0xe9, 16, 0x0f, 0x22, 0xc1,
		   0x89, 0x06);
}

static void smap_follows_ac(void **state)
{
	open_window();
	/* The kernel's own pages are not the user's. */
	for (unsigned n = 0; n < 8; n++)
		rig_write(&r, 0x3000 + 8 * n, (uint64_t)n << 21 | 0x83, 8);
	r.s.cr4 |= X86_CR4_SMAP;
	/* stac; mov eax, [rsi]; clac; mov eax, [rsi] */
	RIG_FAULTS(&r, X86_PF_FAULT, 1, 8, 0x0f, 0x01, 0xcb, 0x8b, 0x06, 0x0f, 0x01, 0xca, 0x8b, 0x06);
	assert_int_equal(rig_reg(&r, X86_RAX), 0x1111);
	assert_false(r.s.rflags & X86_AC);
}

#define RDPKRU 0x0f, 0x01, 0xee
#define WRPKRU 0x0f, 0x01, 0xef

static void open_keyed_window(void)
{
	if (!x86_feature_possible(X86_F_XSAVE)) {
		print_message("skipped: no protection keys for guests on this host, which has no XSAVE to give\n");
		skip();
	}
	open_window();
	window(0, FRAME1 | P | W | U | KEY(1));
	r.s.cr4 |= X86_CR4_PKE;
	r.s.gpr[X86_RDX] = r.s.gpr[X86_RCX] = 0;
}

static void pkru_takes_effect_at_once(void **state)
{
	open_keyed_window();
	r.s.gpr[X86_RAX] = AD(1);
	RIG_FAULTS(&r, X86_PF_FAULT, KEY_FAULT | 1, 5, 0x8b, 0x1e, WRPKRU, 0x8b,
		   0x2e); /* mov ebx, [rsi]; ..; mov ebp */
	assert_int_equal(rig_reg(&r, X86_RBX), 0x1111);
	assert_int_equal(r.s.pkru, AD(1));
	open_keyed_window();
	rig_user(&r);
	r.s.gpr[X86_RAX] = WD(1);
	RIG_FAULTS(&r, X86_PF_FAULT, KEY_FAULT | 7, 7, 0x89, 0x06, WRPKRU, 0x8b, 0x1e, 0x89, 0x1e);
	/* and CR4.PKE */
	open_keyed_window();
	r.s.pkru = AD(1);
	r.s.cr4 &= ~(uint64_t)X86_CR4_PKE;
	r.s.gpr[X86_RAX] = r.s.cr4 | X86_CR4_PKE;
	RIG_FAULTS(&r, X86_PF_FAULT, KEY_FAULT | 1, 5, 0x8b, 0x1e, 0x0f, 0x22, 0xe0, 0x8b, 0x1e);
	/* What the kernel does on its own behalf is meant, too. */
	open_keyed_window();
	r.s.pkru = AD(1);
	for (unsigned n = 0; n < RIG_SPARE; n += 8)
		rig_write(&r, FRAME1 + n, rig_read(&r, RIG_GDT + n, 8), 8);
	r.s.gdt.base = WINDOW;
	r.s.gpr[X86_RAX] = RIG_DATA;
	RIG_EXEC(&r, 0x8e, 0xd8); /* mov ds, ax; then no handler can be reached */
	assert_int_equal(rig_vector(&r), -2);
	assert_int_equal(r.s.cr2 & ~0xfffull, WINDOW);
}

static void pkru_is_read_and_written(void **state)
{
	uint32_t out[4];

	open_keyed_window();
	r.s.gpr[X86_RAX] = 0xfffffffff1234567;
	r.s.gpr[X86_RCX] = r.s.gpr[X86_RDX] = 0xfull << 32;
	RIG_EXEC(&r, WRPKRU, 0x31, 0xc0, 0x48, 0xff, 0xca, RDPKRU); /* xor eax, eax; dec rdx */
	assert_int_equal(rig_vector(&r), -1);
	assert_true(rig_reg(&r, X86_RAX) == 0xf1234567);
	assert_true(rig_reg(&r, X86_RDX) == 0);
	x86_cpuid(tiny_cpu(&r.vm), 7, 0, out);
	assert_int_equal(out[X86_CPUID_ECX] >> 3 & 3, 3); /* PKU and OSPKE */
	open_keyed_window();
	r.s.gpr[X86_RCX] = 1;
	RIG_FAULTS(&r, X86_GP, 0, 0, RDPKRU);
	open_keyed_window();
	r.s.gpr[X86_RCX] = 1;
	RIG_FAULTS(&r, X86_GP, 0, 0, WRPKRU);
	open_keyed_window();
	r.s.gpr[X86_RDX] = 1;
	RIG_FAULTS(&r, X86_GP, 0, 0, WRPKRU);
	open_keyed_window();
	RIG_FAULTS(&r, X86_UD, 0, 0, 0xf0, WRPKRU); /* lock */
	open_keyed_window();
	r.s.cr4 &= ~(uint64_t)X86_CR4_PKE;
	RIG_FAULTS(&r, X86_UD, 0, 0, RDPKRU);
	x86_cpuid(tiny_cpu(&r.vm), 7, 0, out);
	assert_int_equal(out[X86_CPUID_ECX] >> 3 & 3, 1);
	open_keyed_window();
	r.s.cr4 &= ~(uint64_t)X86_CR4_PKE;
	RIG_FAULTS(&r, X86_UD, 0, 0, WRPKRU);
	/* A model without has no CR4.PKE. */
	rig_free(&r);
	rig_new(&r, RIG_LONG, "max,-pku");
	r.s.gpr[X86_RAX] = X86_CR4_PAE | X86_CR4_PKE;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x0f, 0x22, 0xe0);
}

/* The four PAE entries are loaded, and checked, by MOV CR3 and by nothing else. */
static void pae_keeps_its_top_entries(void **state)
{
	const uint32_t top = RIG_TABLES, dir = RIG_TABLES + 0x1000;

	rig_reset(&r, RIG_PROT32);
	mem_fill(r.vm.mem, gpa(top), 0, 0x1000);
	rig_write(&r, top, dir | P, 8);
	for (unsigned n = 0; n < 8; n++)
		rig_write(&r, dir + 8 * n, n << 21 | P | W | U | PS, 8);
	rig_write(&r, RIG_DATA_AT, 0x1234, 4);
	r.s.gpr[X86_RAX] = top;
	r.s.gpr[X86_RBX] = X86_CR4_PAE;
	r.s.gpr[X86_RCX] = X86_CR0_PE | X86_CR0_PG;
	r.s.gpr[X86_RSI] = RIG_DATA_AT;
	r.s.gpr[X86_RDI] = top;
	/* mov cr3, eax; mov cr4, ebx; mov cr0, ecx; mov dword [edi], 0; invlpg [esi]; mov edx, [esi] */
	RIG_EXEC(&r, 0x0f, 0x22, 0xd8, 0x0f, 0x22, 0xe3, 0x0f, 0x22, 0xc1, 0xc7, 0x07, 0, 0, 0, 0, 0x0f, 0x01, 0x3e,
		 0x8b, 0x16);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(rig_reg(&r, X86_RDX), 0x1234);
	assert_int_equal(r.s.pdpte[0], dir | P);
	/* A reserved bit refuses the MOV CR3. */
	rig_write(&r, top, dir | P | W, 8);
	r.s.gpr[X86_RIP] = RIG_CODE;
	r.s.run = X86_RUNNING;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x0f, 0x22, 0xd8);
	assert_int_equal(r.s.pdpte[0], dir | P);
}

static void non_canonical_addresses(void **state)
{
	r.s.gpr[X86_RSI] = 1ull << 47;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x8b, 0x06);
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RBP] = 1ull << 47;
	RIG_FAULTS(&r, X86_SS_FAULT, 0, 0, 0x8b, 0x45, 0); /* mov eax, [rbp] */
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RSI] = (1ull << 47) - 2;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0x8b, 0x06); /* runs into it */
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RAX] = 1ull << 47;
	RIG_FAULTS(&r, X86_GP, 0, 0, 0xff, 0xe0);
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RSP] = 1ull << 47 | 8;
	rig_write(&r, RIG_IDT + 16 * X86_SS_FAULT + 4, 1, 1); /* IST 1 */
	RIG_FAULTS(&r, X86_SS_FAULT, 0, 0, 0x50);	      /* push rax */
	/* Entries of the TLB that hold nothing match none of them. */
	for (uint64_t page = 0; page < 2048; page += page == 3 ? 1017 : 1)
		for (uint64_t offset = 0; offset <= 0xffe; offset += 0xffe) {
			rig_reset(&r, RIG_LONG);
			r.s.gpr[X86_RSI] = 1ull << 63 | page << 12 | offset;
			RIG_FAULTS(&r, X86_GP, 0, 0, 0x8b, 0x06);
			rig_reset(&r, RIG_LONG);
			r.s.gpr[X86_RSI] = 1ull << 63 | page << 12 | offset;
			RIG_FAULTS(&r, X86_GP, 0, 0, 0x89, 0x06);
		}
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(it_finds_the_page),
		TEST(an_absent_entry_faults_at_every_level),
		TEST(accessed_and_dirty_are_set),
		TEST(rights_are_those_of_all_levels),
		TEST(smep_and_smap_keep_the_kernel_out),
		TEST(protection_keys_guard_user_pages),
		TEST(pkru_takes_effect_at_once),
		TEST(pkru_is_read_and_written),
		TEST(reserved_bits_fault),
		TEST(the_width_of_physical_addresses_is_the_models),
		TEST(sizes_that_are_not_switched_on),
		TEST(faults_tell_where_and_why),
		TEST(a_fetch_from_nx_faults),
		TEST(wp_takes_effect_at_once),
		TEST(smap_follows_ac),
		TEST(pae_keeps_its_top_entries),
		TEST(non_canonical_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
