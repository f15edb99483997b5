/*
 * What translated code calls with the guest's vector registers in the host's: accesses that the first level of the TLB
 * does not have, targets that the vCPU does not know, REP MOVS and STOS, and the way of the x87 state between memory
 * and the host's. This file is compiled to code that does not touch those registers, and calls nothing. See jit.h.
 */
#include "cpu/jit/jit.h"
#include "cpu/x86/tlb.h"

/* The entry of `lin`, if the TLB has it or can have it without a walk; else NULL. */
static inline struct x86_tlb_entry *entry_of(struct jit_cpu *c, uint64_t lin, bool write)
{
	struct x86_tlb_entry *e = x86_tlb_slot(c->cpu.tlb, lin);

	if ((write ? e->wtag : e->rtag) == (lin & ~X86_PAGE_MASK))
		return e;
	return x86_tlb_refill(&c->cpu, (enum x86_tlb_view)(x86_fetch(&c->cpu) & X86_FETCH_VIEW), lin, write);
}

static inline uint8_t *host(const struct x86_tlb_entry *e, uint64_t lin)
{
	return e->host + (lin & X86_PAGE_MASK);
}

/*
 * Bytes from `lin` to the end of its page, if that can be read (written) by itself; else 0. `at` is the first of them.
 * The entry is there until another one is asked for.
 */
static inline uint64_t room(struct jit_cpu *c, uint64_t lin, bool write, const struct x86_tlb_entry **entry,
			    uint8_t **at)
{
	const struct x86_tlb_entry *e = entry_of(c, lin, write);

	*entry = e;
	if (!e || (write && atomic_load_explicit(e->flags, memory_order_relaxed)))
		return 0;
	*at = host(e, lin);
	return MEM_PAGE_SIZE - (lin & X86_PAGE_MASK);
}

/* After a store: does the page want to hear of it? Another thread may have made it a code page in between. */
static inline bool told(struct jit_cpu *c, const struct x86_tlb_entry *e, uint8_t *at, uint64_t bytes)
{
	atomic_signal_fence(memory_order_seq_cst);
	if (!atomic_load_explicit(e->flags, memory_order_relaxed))
		return true;
	c->stored = at;
	c->stored_run = (uint32_t)bytes;
	return false;
}

/* A register that is an address or a count in the mode's address size. */
static inline uint64_t reg(const struct x86_cpu *cpu, unsigned r)
{
	return cpu->s.gpr[r] & cpu->lin_mask;
}

/* How many elements at once; and whether it can be done here at all. */
static inline uint64_t elements(const struct x86_cpu *cpu, uint64_t bytes, uint32_t size)
{
	uint64_t n = bytes / size, left = reg(cpu, X86_RCX);

	return n < left ? n : left;
}

/* `n` elements are done. */
static inline void done(struct x86_cpu *cpu, uint64_t n, uint32_t size, bool moved)
{
	uint64_t *gpr = cpu->s.gpr;

	gpr[X86_RDI] = (gpr[X86_RDI] + n * size) & cpu->lin_mask;
	gpr[X86_RCX] = (gpr[X86_RCX] - n) & cpu->lin_mask;
	if (moved)
		gpr[X86_RSI] = (gpr[X86_RSI] + n * size) & cpu->lin_mask;
}

/* Between two pages. */
static inline bool news(const struct x86_cpu *cpu)
{
	return atomic_load_explicit(&cpu->vcpu.events, memory_order_relaxed);
}

#define REP(insn, constraints)                                                                                         \
	switch (size) {                                                                                                \
	case 1:                                                                                                        \
		__asm__ volatile("rep " insn "b" : constraints : "memory");                                            \
		break;                                                                                                 \
	case 2:                                                                                                        \
		__asm__ volatile("rep " insn "w" : constraints : "memory");                                            \
		break;                                                                                                 \
	case 4:                                                                                                        \
		__asm__ volatile("rep " insn "l" : constraints : "memory");                                            \
		break;                                                                                                 \
	default:                                                                                                       \
		__asm__ volatile("rep " insn "q" : constraints : "memory");                                            \
	}

/* The host does each element as the guest would, also where the operands overlap. */
static void copy(uint8_t *to, const uint8_t *from, uint64_t n, uint32_t size)
{
#define OPERANDS "+D"(to), "+S"(from), "+c"(n) :
	REP("movs", OPERANDS)
#undef OPERANDS
}

static void fill(uint8_t *to, uint64_t v, uint64_t n, uint32_t size)
{
#define OPERANDS "+D"(to), "+c"(n) : "a"(v)
	REP("stos", OPERANDS)
#undef OPERANDS
}

/* --- accesses that the TLB does not have --- */

static uint8_t *across(struct jit_cpu *c, uint32_t size, bool write)
{
	uint32_t first = MEM_PAGE_SIZE - (uint32_t)(c->lin & X86_PAGE_MASK);
	const struct x86_tlb_entry *e, *next;

	/* 32-bit code has nothing there. */
	if ((c->lin + first) & ~c->cpu.lin_mask)
		return NULL;
	/* Neighbours are never in each other's place. */
	e = entry_of(c, c->lin, write);
	next = entry_of(c, c->lin + first, write);
	if (!e || !next)
		return NULL;
	stat_add(&c->counts.refills, 1);
	c->crossing = c->lin;
	c->bounced = size;
	c->found_index = (uint64_t)&c->bounce_entry - (uint64_t)c->cpu.tlb;
	if (!write) {
		copy(c->bounce, host(e, c->lin), first, 1);
		copy(c->bounce + first, next->host, size - first, 1);
	}
	return c->bounce;
}

uint8_t *jit_quick_miss(struct jit_cpu *c, const struct jit_note *note)
{
	uint32_t access = note->what, size = jit_miss_size(access);
	bool write = access & JIT_MISS_WRITE;
	const struct x86_tlb_entry *e;

	c->resume = (uintptr_t)note - note->back;
	if ((c->lin & X86_PAGE_MASK) + size > MEM_PAGE_SIZE)
		return (write && !(access & JIT_MISS_STORE)) || size > sizeof(c->bounce) ? NULL
											 : across(c, size, write);
	e = entry_of(c, c->lin, write);
	if (!e)
		return NULL;
	stat_add(&c->counts.refills, 1);
	c->found_index = (uint64_t)e - (uint64_t)c->cpu.tlb;
	return host(e, c->lin);
}

uint8_t *jit_quick_shared(struct jit_cpu *c, const struct jit_note *note)
{
	const struct x86_tlb_entry *e;

	c->resume = (uintptr_t)note - note->back;
	if ((c->lin & X86_PAGE_MASK) + (note->what >> JIT_SHARED_SPAN_SHIFT) > MEM_PAGE_SIZE)
		return NULL;
	e = entry_of(c, c->lin, note->what & JIT_MISS_WRITE);
	if (!e)
		return NULL;
	stat_add(&c->counts.refills, 1);
	c->found_index = (uint64_t)e - (uint64_t)c->cpu.tlb;
	return host(e, c->lin);
}

/* --- targets --- */

uintptr_t jit_quick_split(struct jit_cpu *c)
{
	const struct jit_block *b;

	/* What was counted and is not done has to be taken back. */
	if (c->undone)
		return 0;
	c->split = c->cpu.s.gpr[X86_RIP];
	b = jit_find_block(c);
	if (!b)
		return 0;
	c->split = JIT_NOT_SPLIT;
	/* As good as a jump within the page: the two are of the same one, and go with it. */
	atomic_store_explicit(jit_split_code(c, c->note), jit_block_memory(b), memory_order_release);
	return jit_block_memory(b);
}

uintptr_t jit_quick_jump(struct jit_cpu *c)
{
	const struct jit_block *b = jit_find_block(c);

	stat_add(&c->counts.found, b != NULL);
	return b ? jit_block_memory(b) : 0;
}

uintptr_t jit_quick_far(struct jit_cpu *c, const struct jit_note *note)
{
	uint64_t rip = jit_note_rip(c, note);
	uintptr_t end = (uintptr_t)note - note->back;
	uint32_t number = jit_far_number(end, note->what);
	const struct x86_itlb_entry *e = x86_itlb_slot(&c->cpu, rip);
	const struct jit_guard *g = (const void *)(c->numbered + number);

	c->cpu.s.gpr[X86_RIP] = rip;
	if (e->tag != (rip & ~X86_PAGE_MASK))
		return 0;
	if (number != JIT_NO_GUARD && g->page != x86_code_page(e))
		return jit_quick_jump(c);
	if (number == JIT_NO_GUARD || atomic_load(&g->dead)) {
		const struct jit_block *b = jit_find_block(c);

		/* What depends on two pages has no links. */
		return b && b->second != JIT_ONE_PAGE ? jit_block_memory(b) : 0;
	}
	c->guards[c->cpu.cpl == 3][jit_guard_place(rip)] = number;
	return end - JIT_FAR_SIZE(note->what);
}

/* --- strings --- */

int jit_quick_movs(struct jit_cpu *c, uint32_t size)
{
	struct x86_cpu *cpu = &c->cpu;

	if (cpu->s.rflags & X86_DF)
		return 1;
	while (reg(cpu, X86_RCX)) {
		const struct x86_tlb_entry *e;
		uint8_t *from = NULL, *to = NULL;
		uint64_t src = room(c, reg(cpu, X86_RSI), false, &e, &from);
		uint64_t dst = room(c, reg(cpu, X86_RDI), true, &e, &to);
		uint64_t n = elements(cpu, src < dst ? src : dst, size);

		if (!n || news(cpu))
			return 1;
		copy(to, from, n, size);
		done(cpu, n, size, true);
		if (!told(c, e, to, n * size))
			return 1;
	}
	return 0;
}

int jit_quick_stos(struct jit_cpu *c, uint32_t size)
{
	struct x86_cpu *cpu = &c->cpu;

	if (cpu->s.rflags & X86_DF)
		return 1;
	while (reg(cpu, X86_RCX)) {
		const struct x86_tlb_entry *e;
		uint8_t *to = NULL;
		uint64_t n = elements(cpu, room(c, reg(cpu, X86_RDI), true, &e, &to), size);

		if (!n || news(cpu))
			return 1;
		fill(to, cpu->s.gpr[X86_RAX], n, size);
		done(cpu, n, size, false);
		if (!told(c, e, to, n * size))
			return 1;
	}
	return 0;
}

/* --- x87 --- */

/* FNSAVE's image in 64-bit code. The tag word has 3 for an empty register. */
struct image {
	uint32_t cw, sw, tags, ip, cs_op, dp, ds;
	uint8_t st[8][10];
};
_Static_assert(sizeof(struct image) == 108, "as the processor has it");

int jit_quick_put_x87(struct jit_cpu *c)
{
	struct x86_x87 *fp = &c->cpu.s.fp;
	struct image m;
	unsigned top;

	__asm__ volatile("fnsave %0" : "=m"(m)); /* and FNINIT: the stack is empty for C */
	fp->cw = (uint16_t)m.cw;
	fp->sw = (uint16_t)m.sw;
	top = fp->sw >> 11 & 7;
	fp->valid = 0;
	for (unsigned n = 0; n < 8; n++) {
		struct x86_fpreg *r = &fp->r[(top + n) & 7];

		fp->valid |= (uint8_t)((m.tags >> 2 * n & 3) != 3) << n;
		__builtin_memcpy(&r->mant, m.st[n], 8);
		__builtin_memcpy(&r->sexp, m.st[n] + 8, 2);
	}
	if (c->x87_note) {
		fp->ip = c->x87_note->ip;
		fp->op = c->x87_note->op;
		fp->cs = c->cpu.s.seg[X86_CS].sel;
		c->x87_note = NULL;
	}
	if (c->x87_seg) {
		fp->ds = c->cpu.s.seg[c->x87_seg - 1].sel;
		c->x87_seg = 0;
	}
	c->x87_live = 0;
	return 0;
}

int jit_quick_get_x87(struct jit_cpu *c)
{
	const struct x86_x87 *fp = &c->cpu.s.fp;
	struct image m = { .cw = fp->cw, .sw = fp->sw };
	unsigned top = fp->sw >> 11 & 7;

	if (~fp->cw & 0x3f)
		return 1;
	for (unsigned n = 0; n < 8; n++) {
		const struct x86_fpreg *r = &fp->r[(top + n) & 7];

		m.tags |= (fp->valid >> n & 1 ? 0u : 3u) << 2 * n;
		__builtin_memcpy(m.st[n], &r->mant, 8);
		__builtin_memcpy(m.st[n] + 8, &r->sexp, 2);
	}
	__asm__ volatile("frstor %0" : : "m"(m));
	c->x87_live = 1;
	return 0;
}
