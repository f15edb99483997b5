/*
 * Guest memory as instructions see it: segment:offset loads, stores and atomic updates.
 *
 * The fast path is a few host instructions: effective address, flat segment, soft-TLB hit, host access
 * of the guest's size. Everything else (limits, page crossing, misses, MMIO, code pages, breakpoints)
 * is in access.c. All functions may raise; a store happens completely or not at all.
 * vCPU thread only.
 */
#ifndef VIREO_CPU_X86_ACCESS_H
#define VIREO_CPU_X86_ACCESS_H

#include <stdatomic.h>

#include "cpu/x86/cpu.h"
#include "cpu/x86/fault.h"
#include "cpu/x86/paging.h"

/*
 * A guest access is a relaxed atomic of its size, so that the compiler does not tear it: one host instruction, also
 * where it is not aligned (and then not atomic, as in the guest). x86 hosts give the guest's memory order.
 */
#if defined(__x86_64__)
#define X86_ORDER_LOAD()  ((void)0)
#define X86_ORDER_STORE() ((void)0)
#else
#define X86_ORDER_LOAD()  atomic_thread_fence(memory_order_acquire)
#define X86_ORDER_STORE() atomic_thread_fence(memory_order_release)
#endif
#define X86_HOST_LOAD(bits, host)     __atomic_load_n((const uint##bits##_t *)(host), __ATOMIC_RELAXED)
#define X86_HOST_STORE(bits, host, v) __atomic_store_n((uint##bits##_t *)(host), v, __ATOMIC_RELAXED)

static inline uint64_t x86_ea(const struct x86_cpu *cpu, const struct x86_insn *i)
{
	uint64_t ea = cpu->s.gpr[i->base] + (cpu->s.gpr[i->index] << i->scale) + i->disp;

	return ea << i->ashift >> i->ashift;
}

/* An offset into a large operand: it wraps at the address size. */
static inline uint64_t x86_ea_plus(const struct x86_insn *i, uint64_t ea, unsigned offset)
{
	return (ea + offset) << i->ashift >> i->ashift;
}

/*
 * Segment checks (limit, type, null, canonical) of an access; #GP(0), or #SS(0) for SS. The linear address.
 */
uint64_t x86_linear_checked(struct x86_cpu *cpu, unsigned seg, uint64_t ea, unsigned size, enum x86_access a);

static inline uint64_t x86_linear(struct x86_cpu *cpu, unsigned seg, uint64_t ea, unsigned size, enum x86_access a)
{
	uint8_t flat = a == X86_READ ? cpu->seg_flat_r : cpu->seg_flat_w;

	if (__builtin_expect(flat >> seg & 1, 1))
		return (cpu->seg_base[seg] + ea) & cpu->lin_mask;
	return x86_linear_checked(cpu, seg, ea, size, a);
}

/* As x86_linear(), with what else can be found wrong before the page tables are looked at, but for #AC. */
uint64_t x86_linear_bounded(struct x86_cpu *cpu, unsigned seg, uint64_t ea, unsigned size, enum x86_access a);

static inline struct x86_tlb_entry *x86_tlb_slot(struct x86_tlb_entry *tlb, uint64_t lin)
{
	return &tlb[lin >> 12 & (X86_TLB_SIZE - 1)];
}

/*
 * `seg` is needed to choose between #GP and #SS for a non-canonical address. `size` 1-32 bytes; the
 * values in `buf` are in guest (little-endian) order.
 */
void x86_load_slow(struct x86_cpu *cpu, unsigned seg, uint64_t lin, void *buf, unsigned size);
void x86_store_slow(struct x86_cpu *cpu, unsigned seg, uint64_t lin, const void *buf, unsigned size);
/* After a store through a TLB entry whose page flags were not 0. */
void x86_stored_flagged(struct x86_cpu *cpu, const struct x86_tlb_entry *e, uint64_t lin, unsigned size);

#define X86_ACCESSORS(bits)                                                                                            \
	static inline uint##bits##_t x86_lin_ld##bits(struct x86_cpu *cpu, unsigned seg, uint64_t lin)                 \
	{                                                                                                              \
		const struct x86_tlb_entry *e = x86_tlb_slot(cpu->tlb, lin);                                           \
		uint##bits##_t v;                                                                                      \
                                                                                                                       \
		if (__builtin_expect(((lin + (bits / 8 - 1)) & ~X86_PAGE_MASK) == e->rtag && !cpu->align_check, 1)) {  \
			v = X86_HOST_LOAD(bits, e->host + (lin & X86_PAGE_MASK));                                      \
			X86_ORDER_LOAD();                                                                              \
			return v;                                                                                      \
		}                                                                                                      \
		x86_load_slow(cpu, seg, lin, &v, bits / 8);                                                            \
		return v;                                                                                              \
	}                                                                                                              \
	static inline void x86_lin_st##bits(struct x86_cpu *cpu, unsigned seg, uint64_t lin, uint##bits##_t v)         \
	{                                                                                                              \
		const struct x86_tlb_entry *e = x86_tlb_slot(cpu->tlb, lin);                                           \
                                                                                                                       \
		if (__builtin_expect(((lin + (bits / 8 - 1)) & ~X86_PAGE_MASK) == e->wtag && !cpu->align_check, 1)) {  \
			X86_ORDER_STORE();                                                                             \
			X86_HOST_STORE(bits, e->host + (lin & X86_PAGE_MASK), v);                                      \
			if (__builtin_expect(atomic_load_explicit(e->flags, memory_order_relaxed), 0))                 \
				x86_stored_flagged(cpu, e, lin, bits / 8);                                             \
			return;                                                                                        \
		}                                                                                                      \
		x86_store_slow(cpu, seg, lin, &v, bits / 8);                                                           \
	}                                                                                                              \
	/* Segment and offset. */                                                                                      \
	static inline uint##bits##_t x86_ld##bits(struct x86_cpu *cpu, unsigned seg, uint64_t ea)                      \
	{                                                                                                              \
		return x86_lin_ld##bits(cpu, seg, x86_linear(cpu, seg, ea, bits / 8, X86_READ));                       \
	}                                                                                                              \
	static inline void x86_st##bits(struct x86_cpu *cpu, unsigned seg, uint64_t ea, uint##bits##_t v)              \
	{                                                                                                              \
		x86_lin_st##bits(cpu, seg, x86_linear(cpu, seg, ea, bits / 8, X86_WRITE), v);                          \
	}                                                                                                              \
	/* The memory operand of `i`. */                                                                               \
	static inline uint##bits##_t x86_ldm##bits(struct x86_cpu *cpu, const struct x86_insn *i)                      \
	{                                                                                                              \
		return x86_ld##bits(cpu, i->seg, x86_ea(cpu, i));                                                      \
	}                                                                                                              \
	static inline void x86_stm##bits(struct x86_cpu *cpu, const struct x86_insn *i, uint##bits##_t v)              \
	{                                                                                                              \
		x86_st##bits(cpu, i->seg, x86_ea(cpu, i), v);                                                          \
	}
X86_ACCESSORS(8)
X86_ACCESSORS(16)
X86_ACCESSORS(32)
X86_ACCESSORS(64)
#undef X86_ACCESSORS

/* Up to 32 bytes (x87, SSE, descriptors); no atomicity beyond 8 bytes, which the architecture does not promise. */
void x86_load_bytes(struct x86_cpu *cpu, unsigned seg, uint64_t ea, void *buf, unsigned size);
void x86_store_bytes(struct x86_cpu *cpu, unsigned seg, uint64_t ea, const void *buf, unsigned size);
/* As above for the operand of `i`, with #GP(0) if it is not aligned to `size` (16). */
void x86_load_aligned(struct x86_cpu *cpu, const struct x86_insn *i, void *buf, unsigned size);
void x86_store_aligned(struct x86_cpu *cpu, const struct x86_insn *i, const void *buf, unsigned size);
/* Raise what a store of `size` bytes (up to 4096) would raise, without storing. */
void x86_probe_write(struct x86_cpu *cpu, unsigned seg, uint64_t ea, unsigned size);

/* Store those bytes of `buf` whose bit is set in `mask`, or none. All of it must be writable, as AMD's processors want
 * it. */
void x86_store_masked(struct x86_cpu *cpu, unsigned seg, uint64_t ea, const uint8_t *buf, unsigned size, uint32_t mask);

/* Implicit supervisor accesses by linear address (descriptor tables, TSS): #PF with U = 0. */
void x86_sys_load(struct x86_cpu *cpu, uint64_t lin, void *buf, unsigned size);
void x86_sys_store(struct x86_cpu *cpu, uint64_t lin, const void *buf, unsigned size);

/*
 * Read-modify-write of a memory operand. x86_rmw_begin() checks segment and page for writing and gives
 * the host address, on which a handler uses host atomics (LOCK, XCHG) or a plain load and store.
 * When the operand is not plain RAM or crosses a page, `host` points to a bounce buffer that
 * holds the value, other vCPUs are stopped if `lock`, and x86_rmw_end() writes it back. Always pair them;
 * nothing in between may raise.
 */
struct x86_parts {
	uint64_t phys[2];
	unsigned len[2];
};
struct x86_rmw {
	void *host;
	struct x86_tlb_entry *entry; /* NULL: bounce */
	uint64_t lin;
	unsigned size, seg;
	bool exclusive;
	struct x86_parts parts; /* where `bounce` comes from */
	uint64_t bounce[2] __attribute__((aligned(16)));
};
void x86_rmw_begin_slow(struct x86_cpu *cpu, struct x86_rmw *m, bool lock);
void x86_rmw_end_slow(struct x86_cpu *cpu, struct x86_rmw *m);

static inline void x86_rmw_begin(struct x86_cpu *cpu, struct x86_rmw *m, unsigned seg, uint64_t ea, unsigned size,
				 bool lock)
{
	uint64_t lin = x86_linear(cpu, seg, ea, size, X86_WRITE);
	struct x86_tlb_entry *e = x86_tlb_slot(cpu->tlb, lin);

	m->lin = lin;
	m->size = size;
	m->seg = seg;
	if (__builtin_expect(((lin + (size - 1)) & ~X86_PAGE_MASK) == e->wtag && !cpu->align_check &&
				     !(lock && (lin & (size - 1))),
			     1)) {
		m->entry = e;
		m->host = e->host + (lin & X86_PAGE_MASK);
		return;
	}
	x86_rmw_begin_slow(cpu, m, lock);
}

static inline void x86_rmw_end(struct x86_cpu *cpu, struct x86_rmw *m)
{
	if (__builtin_expect(m->entry != NULL, 1)) {
		if (__builtin_expect(atomic_load_explicit(m->entry->flags, memory_order_relaxed), 0))
			x86_stored_flagged(cpu, m->entry, m->lin, m->size);
		return;
	}
	x86_rmw_end_slow(cpu, m);
}

/* RSP with a new stack pointer; one of 32 bits clears the upper half, as each write to half a register does. */
static inline uint64_t x86_merge_sp(const struct x86_cpu *cpu, uint64_t sp)
{
	uint64_t kept = cpu->sp_mask == 0xffff ? cpu->s.gpr[X86_RSP] & ~0xffffull : 0;

	return kept | (sp & cpu->sp_mask);
}
/* The stack: widths by SS.B or 64-bit mode. Push of 2, 4 or 8 bytes; RSP changes only when the store succeeded. */
void x86_push(struct x86_cpu *cpu, uint64_t v, unsigned size);
uint64_t x86_pop(struct x86_cpu *cpu, unsigned size);

/* --- physical, for page walks and device space --- */
uint64_t x86_phys_load(struct x86_cpu *cpu, uint64_t phys, unsigned size);
void x86_phys_store(struct x86_cpu *cpu, uint64_t phys, uint64_t v, unsigned size);

#endif
