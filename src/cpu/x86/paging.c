/*
 * Page walks. Accessed and dirty bits are set by compare-and-exchange on the entry as it was read, so a
 * concurrent change by another vCPU restarts the walk instead of being lost.
 */
#include "cpu/x86/paging.h"

#include "cpu/x86/access.h"
#include "cpu/x86/interp.h"
#include "cpu/x86/tlb.h"

#define PF_P	1u
#define PF_W	2u
#define PF_U	4u
#define PF_RSVD 8u
#define PF_I	16u
#define PF_PK	32u

/* One way of paging: entry size and the shift of each level, top first. */
struct paging_mode {
	uint8_t entry_size, levels;
	uint8_t shift[4], bits[4];
	uint8_t large_levels; /* a bit for each level that may map a page itself */
};

static const struct paging_mode mode_2level = { 4, 2, { 22, 12 }, { 10, 10 }, 1 };
static const struct paging_mode mode_pae = { 8, 2, { 21, 12 }, { 9, 9 }, 1 };
static const struct paging_mode mode_4level = { 8, 4, { 39, 30, 21, 12 }, { 9, 9, 9, 9 }, 2 | 4 };

uint64_t x86_pte_reserved(const struct x86_cpu *cpu)
{
	uint64_t bits = 0x000fffffffffffffull & ~((1ull << cpu->vm->features->phys_bits) - 1);

	return cpu->s.efer & X86_EFER_NXE ? bits : bits | PTE_NX;
}

/* Reserved bits of an entry that is present. SDM vol. 3, tables 4-5 to 4-20. */
static bool reserved(const struct x86_cpu *cpu, const struct paging_mode *m, unsigned level, uint64_t e, bool large)
{
	uint64_t bits;

	unsigned width = cpu->vm->features->phys_bits;

	if (m->entry_size == 4) {
		/* PSE-36 gives bits 20:13 as address bits 39:32. */
		bits = width >= 40 ? 1u << 21 : ((1u << 22) - 1) & ~((1u << (width - 32 + 13)) - 1);
		return large && e & bits;
	}
	bits = 0x000fffffffffffffull & ~((1ull << width) - 1);
	if (m == &mode_pae)
		bits |= 0x7ff0000000000000ull;
	if (!(cpu->s.efer & X86_EFER_NXE))
		bits |= PTE_NX;
	if (large)
		bits |= ((1ull << m->shift[level]) - 1) & ~0x1fffull; /* bit 12 is PAT */
	else if (m == &mode_4level && (level == 0 || (level == 1 && !x86_has(cpu, X86_F_PDPE1GB))))
		bits |= PTE_PS;
	return e & bits;
}

static bool large_allowed(const struct x86_cpu *cpu, const struct paging_mode *m, unsigned level)
{
	if (!(m->large_levels >> level & 1))
		return false;
	return m->entry_size == 4 ? cpu->s.cr4 & X86_CR4_PSE : m->shift[level] < 30 || x86_has(cpu, X86_F_PDPE1GB);
}

static uint64_t large_address(const struct paging_mode *m, uint64_t e, uint64_t mask)
{
	if (m->entry_size == 4)
		return (e & 0xffc00000) | (e >> 13 & 0xff) << 32;
	return e & PTE_ADDR & ~mask;
}

struct walk {
	uint64_t entry_at[4], entry[4];
	unsigned depth;	 /* entries read */
	uint64_t upper;	 /* `rights` before the last one */
	uint64_t rights; /* W and U that all entries grant, NX if one forbids, the last one's protection key */
	uint64_t phys;
	uint64_t page_mask;
};

enum walk_result { WALK_OK, WALK_ABSENT, WALK_RESERVED };

/* An entry, which is aligned: most often in the same RAM as the last one. */
static uint64_t load_entry(struct x86_cpu *cpu, uint64_t at, unsigned size)
{
	uint64_t offset = at - cpu->tables.base;
	struct mem_window w;

	if (__builtin_expect(offset >= cpu->tables.size, 0)) {
		if (mem_window(cpu->mem, gpa(at), &w)) {
			cpu->tables.base = w.base.v;
			cpu->tables.size = w.size;
			cpu->tables.host = w.host;
		}
		return x86_phys_load(cpu, at, size);
	}
	return size == 8 ? le64toh(X86_HOST_LOAD(64, cpu->tables.host + offset))
			 : le32toh(X86_HOST_LOAD(32, cpu->tables.host + offset));
}

static enum walk_result walk(struct x86_cpu *cpu, uint64_t lin, struct walk *w)
{
	const struct paging_mode *m = cpu->s.efer & X86_EFER_LMA ? &mode_4level
				      : cpu->s.cr4 & X86_CR4_PAE ? &mode_pae
								 : &mode_2level;
	uint64_t table = cpu->s.cr3 & (m == &mode_2level ? 0xfffff000ull : PTE_ADDR);

	w->depth = 0;
	w->rights = PTE_W | PTE_U;
	if (m == &mode_pae) {
		uint64_t pdpte = cpu->s.pdpte[lin >> 30 & 3];

		if (!(pdpte & PTE_P))
			return WALK_ABSENT;
		table = pdpte & PTE_ADDR;
	}
	for (unsigned level = 0; level < m->levels; level++) {
		uint64_t index = lin >> m->shift[level] & ((1u << m->bits[level]) - 1);
		uint64_t at = table + index * m->entry_size, e = load_entry(cpu, at, m->entry_size);
		bool last = level == m->levels - 1u;
		bool large = !last && e & PTE_PS && large_allowed(cpu, m, level);

		w->entry_at[level] = at;
		w->entry[level] = e;
		w->depth = level + 1;
		if (!(e & PTE_P))
			return WALK_ABSENT;
		if (reserved(cpu, m, level, e, large))
			return WALK_RESERVED;
		w->upper = w->rights;
		w->rights = (w->rights & e & (PTE_W | PTE_U)) | ((w->rights | e) & PTE_NX);
		if (last || large) {
			w->rights |= e & 15ull << PTE_KEY;
			w->page_mask = (1ull << m->shift[level]) - 1;
			w->phys = (large ? large_address(m, e, w->page_mask)
					 : e & PTE_ADDR & (m->entry_size == 4 ? 0xffffffff : ~0ull)) |
				  (lin & w->page_mask);
			return WALK_OK;
		}
		table = e & PTE_ADDR & (m->entry_size == 4 ? 0xffffffff : ~0ull);
	}
	return WALK_ABSENT;
}

/* User pages have protection keys. SDM vol. 3, 4.6.2. */
static bool has_key(const struct x86_cpu *cpu, uint64_t rights)
{
	return rights & PTE_U && cpu->s.cr4 & X86_CR4_PKE && cpu->s.efer & X86_EFER_LMA;
}

static bool key_forbids(const struct x86_cpu *cpu, uint64_t rights, enum x86_access a, bool user)
{
	unsigned bits = cpu->s.pkru >> 2 * (rights >> PTE_KEY & 15);

	if (a == X86_FETCH || !has_key(cpu, rights))
		return false;
	return bits & 1 || (bits & 2 && a == X86_WRITE && (user || cpu->s.cr0 & X86_CR0_WP));
}

/* Does the page permit it? SDM vol. 3, 4.6. */
static bool permitted(const struct x86_cpu *cpu, uint64_t rights, enum x86_access a, bool user, bool ac)
{
	bool user_page = rights & PTE_U, writable = rights & PTE_W;

	if ((user && !user_page) || key_forbids(cpu, rights, a, user))
		return false;
	if (a == X86_FETCH)
		return !(rights & PTE_NX && cpu->s.efer & X86_EFER_NXE) &&
		       !(!user && user_page && cpu->s.cr4 & X86_CR4_SMEP);
	if (!user && user_page && cpu->s.cr4 & X86_CR4_SMAP && !ac)
		return false;
	return a == X86_READ || writable || (!user && !(cpu->s.cr0 & X86_CR0_WP));
}

/* Set bits in a page-table entry if it still is what the walk saw. */
static bool mark(struct x86_cpu *cpu, uint64_t at, uint64_t seen, uint64_t bits, unsigned size)
{
	struct mem_window w;
	void *p;
	bool done;

	if ((seen & bits) == bits)
		return true;
	if (!mem_window(cpu->mem, gpa(at), &w) || w.readonly)
		return true; /* tables in ROM or nowhere keep their bits */
	p = w.host + (at & X86_PAGE_MASK);
	if (size == 4) {
		uint32_t expect = (uint32_t)seen;
		done = __atomic_compare_exchange_n((uint32_t *)p, &expect, expect | (uint32_t)bits, false,
						   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	} else {
		uint64_t expect = seen;
		done = __atomic_compare_exchange_n((uint64_t *)p, &expect, expect | bits, false, __ATOMIC_SEQ_CST,
						   __ATOMIC_SEQ_CST);
	}
	if (done && *w.flags) {
		mem_written(cpu->mem, gpa(at), size);
		x86_trace_stored(cpu);
	}
	return done;
}

static _Noreturn void fault(struct x86_cpu *cpu, uint64_t lin, uint32_t code, enum x86_access a, bool user)
{
	code |= (a == X86_WRITE ? PF_W : 0) | (user ? PF_U : 0);
	if (a == X86_FETCH && (cpu->s.cr4 & X86_CR4_SMEP || (cpu->s.efer & X86_EFER_NXE && cpu->s.cr4 & X86_CR4_PAE)))
		code |= PF_I;
	cpu->s.cr2 = lin;
	stat_add(&cpu->page_faults, 1);
	x86_raise(cpu, X86_PF_FAULT, code);
}

void x86_translate(struct x86_cpu *cpu, uint64_t lin, enum x86_access a, bool user, bool ac, struct x86_translation *t)
{
	unsigned size = cpu->s.efer & X86_EFER_LMA || cpu->s.cr4 & X86_CR4_PAE ? 8 : 4;
	struct walk w;

	if (!(cpu->s.cr0 & X86_CR0_PG)) {
		*t = (struct x86_translation){ .phys = lin, .writable = true };
		return;
	}
	stat_add(a == X86_FETCH ? &cpu->code_walks : &cpu->data_walks, 1);
	for (;;) {
		enum walk_result r = walk(cpu, lin, &w);
		bool again = false;
		uint64_t leaf;

		if (r == WALK_ABSENT)
			fault(cpu, lin, 0, a, user);
		if (r == WALK_RESERVED)
			fault(cpu, lin, PF_P | PF_RSVD, a, user);
		if (!permitted(cpu, w.rights, a, user, ac))
			fault(cpu, lin, PF_P | (key_forbids(cpu, w.rights, a, user) ? PF_PK : 0), a, user);
		for (unsigned n = 0; n < w.depth && !again; n++) {
			bool last = n == w.depth - 1;
			again = !mark(cpu, w.entry_at[n], w.entry[n], last && a == X86_WRITE ? PTE_A | PTE_D : PTE_A,
				      size);
		}
		if (again)
			continue;
		leaf = w.entry[w.depth - 1];
		t->phys = w.phys;
		t->page_mask = w.page_mask;
		t->entry_at = w.entry_at[w.depth - 1];
		t->upper = w.upper;
		t->global = leaf & PTE_G && cpu->s.cr4 & X86_CR4_PGE;
		t->keyed = w.rights >> PTE_KEY & 15 && has_key(cpu, w.rights);
		t->writable = (leaf & PTE_D || a == X86_WRITE) && permitted(cpu, w.rights, X86_WRITE, user, ac);
		return;
	}
}
