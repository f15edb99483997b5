/*
 * String instructions: MOVS STOS LODS SCAS CMPS, with REP. Registers follow each element, so a fault or
 * an interrupt in the middle leaves a state from which the instruction goes on.
 */
#include <string.h>

#include "base/shared.h"
#include "cpu/x86/template.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)
#define V(name)                                                                                                        \
	{                                                                                                              \
		name##16, name##32, name##64                                                                           \
	}

/* Elements between two looks at pending events. */
#define BATCH 1024u

/* An index or count register by address size. */
static inline uint64_t get_a(const struct x86_cpu *cpu, const struct x86_insn *i, unsigned r)
{
	return cpu->s.gpr[r] << i->ashift >> i->ashift;
}

static inline void set_a(struct x86_cpu *cpu, const struct x86_insn *i, unsigned r, uint64_t v)
{
	if (i->ashift == 48)
		x86_set16(cpu, r, (uint16_t)v);
	else
		cpu->s.gpr[r] = v << i->ashift >> i->ashift;
}

static inline void advance(struct x86_cpu *cpu, const struct x86_insn *i, unsigned r, uint64_t bytes)
{
	set_a(cpu, i, r, cpu->s.gpr[r] + (cpu->s.rflags & X86_DF ? -bytes : bytes));
}

/* How many elements to do now: all, a batch, or one while single-stepping. */
static inline uint64_t batch(const struct x86_cpu *cpu, const struct x86_insn *i)
{
	uint64_t count = get_a(cpu, i, X86_RCX);

	if (cpu->attention)
		return count ? 1 : 0;
	return count < BATCH ? count : BATCH;
}

/* After a batch: the next instruction, or this one again. */
static inline const struct x86_insn *again(struct x86_cpu *cpu, const struct x86_insn *i)
{
	if (!get_a(cpu, i, X86_RCX))
		return x86_next(cpu, i);
	if (i->flags & X86_I_BATCH)
		return NULL;
	return x86_jumped_early(cpu);
}

#define REPEATED(i) ((i)->flags & (X86_I_REP | X86_I_REPNE))

/*
 * Bytes that can be moved at once, the element at `ea` and those behind it or, with DF, before it: flat, to the end of
 * the page and of the address size, with a TLB entry for it. No bytes: go element by element.
 */
struct run {
	uint64_t bytes, lin;
	uint8_t *host; /* the element at `ea` */
	struct x86_tlb_entry *entry;
};

static inline struct run run_at(const struct x86_cpu *cpu, const struct x86_insn *i, unsigned seg, uint64_t ea,
				bool write, unsigned size)
{
	uint8_t flat = write ? cpu->seg_flat_w : cpu->seg_flat_r;
	uint64_t wrap = ~0ull >> i->ashift, offset;
	struct run r = { .lin = (cpu->seg_base[seg] + ea) & cpu->lin_mask };

	if (!(flat >> seg & 1) || cpu->align_check || cpu->attention)
		return r;
	r.entry = x86_tlb_slot(cpu->tlb, r.lin);
	if ((write ? r.entry->wtag : r.entry->rtag) != (r.lin & ~X86_PAGE_MASK))
		return r;
	if (write && atomic_load_explicit(r.entry->flags, memory_order_relaxed))
		return r;
	offset = r.lin & X86_PAGE_MASK;
	r.bytes = MEM_PAGE_SIZE - offset;
	if (wrap - ea < r.bytes)
		r.bytes = 0;
	else if (cpu->s.rflags & X86_DF)
		r.bytes = r.bytes < size || ea < offset ? 0 : offset + size;
	r.host = r.entry->host + offset;
	return r;
}

/* How far below the first element the lowest of `n` lies. */
static inline uint64_t down(const struct x86_cpu *cpu, uint64_t n, unsigned size)
{
	return cpu->s.rflags & X86_DF ? (n - 1) * size : 0;
}

/*
 * The TLB has one place for the pages of both, so that each element would bring the other's back: look at one after the
 * other. Faults are those of the next element.
 */
static void share_a_place(struct x86_cpu *cpu, const struct x86_insn *i, unsigned size, struct run *from,
			  struct run *to)
{
	enum x86_tlb_view view = (enum x86_tlb_view)((cpu->tlb - cpu->tlbs[0]) / X86_TLB_SIZE);
	uint64_t phys;

	if (!from->entry || from->entry != to->entry || get_a(cpu, i, X86_RCX) < 2 || !x86_canonical(from->lin) ||
	    !x86_canonical(to->lin) || !x86_tlb_fill(cpu, view, from->lin, X86_READ, &phys))
		return;
	to->bytes = 0;
	*from = run_at(cpu, i, i->seg, get_a(cpu, i, X86_RSI), false, size);
	if (from->bytes >= size && x86_tlb_fill(cpu, view, to->lin, X86_WRITE, &phys))
		*to = run_at(cpu, i, X86_ES, get_a(cpu, i, X86_RDI), true, size);
}

static uint64_t fast_movs(struct x86_cpu *cpu, const struct x86_insn *i, unsigned size)
{
	struct run from = run_at(cpu, i, i->seg, get_a(cpu, i, X86_RSI), false, size);
	struct run to = run_at(cpu, i, X86_ES, get_a(cpu, i, X86_RDI), true, size);
	uint64_t n;

	if (!from.bytes)
		share_a_place(cpu, i, size, &from, &to);
	n = (from.bytes < to.bytes ? from.bytes : to.bytes) / size;
	if (n > get_a(cpu, i, X86_RCX))
		n = get_a(cpu, i, X86_RCX);
	if (n < 2)
		return 0;
	uint8_t *p = to.host - down(cpu, n, size);
	const uint8_t *q = from.host - down(cpu, n, size);
	/* A destination shortly after the source, with DF before it, repeats a pattern: that is not what memmove does.
	 */
	if (cpu->s.rflags & X86_DF ? p < q && q < p + n * size : p > q && p < q + n * size)
		return 0;
	shared_move(p, q, n * size);
	/* Another thread may have made it a code page in between. */
	atomic_signal_fence(memory_order_seq_cst);
	if (atomic_load_explicit(to.entry->flags, memory_order_relaxed))
		x86_stored_flagged(cpu, to.entry, to.lin - down(cpu, n, size), (unsigned)(n * size));
	advance(cpu, i, X86_RSI, n * size);
	advance(cpu, i, X86_RDI, n * size);
	set_a(cpu, i, X86_RCX, get_a(cpu, i, X86_RCX) - n);
	return n;
}

static uint64_t fast_stos(struct x86_cpu *cpu, const struct x86_insn *i, unsigned size)
{
	struct run to = run_at(cpu, i, X86_ES, get_a(cpu, i, X86_RDI), true, size);
	uint64_t n = to.bytes / size;

	if (n > get_a(cpu, i, X86_RCX))
		n = get_a(cpu, i, X86_RCX);
	if (n < 2)
		return 0;
	uint8_t *p = to.host - down(cpu, n, size);
	uint64_t v = cpu->s.gpr[X86_RAX];
	if (size == 1 || !(v & size_mask(size)))
		shared_fill(p, (uint8_t)v, n * size);
	else
		for (uint64_t k = 0; k < n; k++)
			shared_copy(p + k * size, &v, size);
	atomic_signal_fence(memory_order_seq_cst);
	if (atomic_load_explicit(to.entry->flags, memory_order_relaxed))
		x86_stored_flagged(cpu, to.entry, to.lin - down(cpu, n, size), (unsigned)(n * size));
	advance(cpu, i, X86_RDI, n * size);
	set_a(cpu, i, X86_RCX, get_a(cpu, i, X86_RCX) - n);
	return n;
}

static uint64_t no_fast(struct x86_cpu *cpu, const struct x86_insn *i, unsigned size)
{
	return 0;
}

/* One element of each; REP wraps it. */
#define ELEMENTS(bits)                                                                                                 \
	static inline void movs_one##bits(struct x86_cpu *cpu, const struct x86_insn *i)                               \
	{                                                                                                              \
		uint##bits##_t v = x86_ld##bits(cpu, i->seg, get_a(cpu, i, X86_RSI));                                  \
		x86_st##bits(cpu, X86_ES, get_a(cpu, i, X86_RDI), v);                                                  \
		advance(cpu, i, X86_RSI, bits / 8);                                                                    \
		advance(cpu, i, X86_RDI, bits / 8);                                                                    \
	}                                                                                                              \
	static inline void stos_one##bits(struct x86_cpu *cpu, const struct x86_insn *i)                               \
	{                                                                                                              \
		x86_st##bits(cpu, X86_ES, get_a(cpu, i, X86_RDI), (uint##bits##_t)cpu->s.gpr[X86_RAX]);                \
		advance(cpu, i, X86_RDI, bits / 8);                                                                    \
	}                                                                                                              \
	static inline void lods_one##bits(struct x86_cpu *cpu, const struct x86_insn *i)                               \
	{                                                                                                              \
		x86_set##bits(cpu, X86_RAX, x86_ld##bits(cpu, i->seg, get_a(cpu, i, X86_RSI)));                        \
		advance(cpu, i, X86_RSI, bits / 8);                                                                    \
	}                                                                                                              \
	static inline void scas_one##bits(struct x86_cpu *cpu, const struct x86_insn *i)                               \
	{                                                                                                              \
		uint##bits##_t a = (uint##bits##_t)cpu->s.gpr[X86_RAX];                                                \
		uint##bits##_t b = x86_ld##bits(cpu, X86_ES, get_a(cpu, i, X86_RDI));                                  \
		x86_flags_sub##bits(&cpu->lazy, a, b, (uint##bits##_t)(a - b));                                        \
		advance(cpu, i, X86_RDI, bits / 8);                                                                    \
	}                                                                                                              \
	static inline void cmps_one##bits(struct x86_cpu *cpu, const struct x86_insn *i)                               \
	{                                                                                                              \
		uint##bits##_t a = x86_ld##bits(cpu, i->seg, get_a(cpu, i, X86_RSI));                                  \
		uint##bits##_t b = x86_ld##bits(cpu, X86_ES, get_a(cpu, i, X86_RDI));                                  \
		x86_flags_sub##bits(&cpu->lazy, a, b, (uint##bits##_t)(a - b));                                        \
		advance(cpu, i, X86_RSI, bits / 8);                                                                    \
		advance(cpu, i, X86_RDI, bits / 8);                                                                    \
	}                                                                                                              \
	MOVING(movs, bits, fast_movs)                                                                                  \
	MOVING(stos, bits, fast_stos) MOVING(lods, bits, no_fast) COMPARING(scas, bits) COMPARING(cmps, bits)

#define MOVING(name, bits, fast)                                                                                       \
	HANDLER(name##bits)                                                                                            \
	{                                                                                                              \
		if (!REPEATED(i)) {                                                                                    \
			name##_one##bits(cpu, i);                                                                      \
			return x86_next(cpu, i);                                                                       \
		}                                                                                                      \
		for (uint64_t n = batch(cpu, i); n; n--) {                                                             \
			if (fast(cpu, i, bits / 8))                                                                    \
				break;                                                                                 \
			name##_one##bits(cpu, i);                                                                      \
			set_a(cpu, i, X86_RCX, cpu->s.gpr[X86_RCX] - 1);                                               \
		}                                                                                                      \
		return again(cpu, i);                                                                                  \
	}
/* REPE goes on while equal, REPNE while not. */
#define COMPARING(name, bits)                                                                                          \
	HANDLER(name##bits)                                                                                            \
	{                                                                                                              \
		if (!REPEATED(i)) {                                                                                    \
			name##_one##bits(cpu, i);                                                                      \
			return x86_next(cpu, i);                                                                       \
		}                                                                                                      \
		for (uint64_t n = batch(cpu, i); n; n--) {                                                             \
			name##_one##bits(cpu, i);                                                                      \
			set_a(cpu, i, X86_RCX, cpu->s.gpr[X86_RCX] - 1);                                               \
			if (x86_lazy_zf(&cpu->lazy) != !!(i->flags & X86_I_REP))                                       \
				return x86_next(cpu, i);                                                               \
		}                                                                                                      \
		return again(cpu, i);                                                                                  \
	}
ELEMENTS(8)
ELEMENTS(16)
ELEMENTS(32)
ELEMENTS(64)

/* A repeated instruction looks at events between batches, so it ends its trace. */
#define ROWS(opcode, name)                                                                                             \
	{ X86_MAP_1, opcode, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_REP_END, X86_ALL(name##8), {}, #name },                \
	{                                                                                                              \
		X86_MAP_1, opcode + 1, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_REP_END, V(name), {}, #name                  \
	}

static const struct x86_opdef rows[] = {
	ROWS(0xa4, movs), ROWS(0xa6, cmps), ROWS(0xaa, stos), ROWS(0xac, lods), ROWS(0xae, scas),
};
X86_DEFS(x86_defs_string, rows);
