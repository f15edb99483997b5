/*
 * The interpreter's processor: the architectural state plus what it derives from it (lazy flags,
 * soft TLB, caches of decoded instructions). Private to cpu/x86.
 *
 * Everything here belongs to the vCPU's thread, except vcpu.events.
 */
#ifndef VIREO_CPU_X86_CPU_H
#define VIREO_CPU_X86_CPU_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

#include "cpu/engine.h"
#include "cpu/x86/flags.h"
#include "cpu/x86/insn.h"
#include "cpu/x86/model.h"
#include "cpu/x86/state.h"

#define X86_PAGE_MASK 0xfffull

/*
 * Soft TLB for data: direct-mapped, one table per way of looking at memory. A tag is the linear page
 * address with the low bits 0, or x86_tlb_none(). A write tag is filled only when the page is
 * writable for this privilege, its D bit is set and no data breakpoint lies in it; MMIO pages,
 * APIC pages and pages with breakpoints are never filled and take the slow path each time.
 */
#define X86_TLB_BITS 10
#define X86_TLB_SIZE (1u << X86_TLB_BITS)
struct x86_tlb_entry {
	uint64_t rtag, wtag;
	uint8_t *host;		/* of the page */
	_Atomic uint8_t *flags; /* of the RAM page, see mem.h */
};
/*
 * What no address of this slot matches, canonical or not: neither its page, nor the next one, to which the end of an
 * access may reach.
 */
static inline uint64_t x86_tlb_none(unsigned slot)
{
	return 1ull << 63 | (uint64_t)((slot ^ 2) & (X86_TLB_SIZE - 1)) << 12;
}
enum x86_tlb_view {
	X86_TLB_USER,	  /* CPL 3 */
	X86_TLB_SUPER,	  /* CPL 0-2, SMAP in force */
	X86_TLB_SUPER_AC, /* CPL 0-2, SMAP off or EFLAGS.AC set */
	X86_TLB_VIEWS
};

/*
 * What is remembered of the upper levels of page tables for data, by regions of 2 MiB (SDM vol. 3, 4.10.3): where the
 * page table of a region lies, or the region itself if it is a large page or part of one. It holds for one view and, by
 * its epoch, for one address space, until any of that space's pages are invalidated.
 */
#define X86_REGION_SHIFT 21
#define X86_REGION_MASK	 ((1ull << X86_REGION_SHIFT) - 1)
#define X86_REGIONS	 1024u
struct x86_region {
	uint64_t tag;	       /* the linear address where it begins */
	uint64_t epoch;	       /* x86_space.epoch; 0: nothing is remembered */
	const uint64_t *table; /* its page table; NULL: a large page */
	uint64_t mask, value;  /* with a table: what an entry's bits have to be */
	uint64_t phys;	       /* without: of its beginning, as are these */
	uint8_t *host;
	_Atomic uint8_t *flags;
	bool writable, global; /* with a table: what entries may be */
};

/* Instruction pages: like the data TLB, keyed by linear page. */
#define X86_ITLB_SIZE	1024u
#define X86_ITLB_NONE	1ull
#define X86_FETCH_BITS	13
#define X86_FETCH_PAGES (1u << X86_FETCH_BITS)
struct x86_itlb_entry {
	uint64_t tag;
	uint64_t phys;	     /* of the page */
	const uint8_t *host; /* of the page; NULL: not RAM, decode byte-wise through the bus */
	uint64_t page_index; /* mem.h; not RAM: X86_NO_PAGE */
};
#define X86_NO_PAGE (1ull << 43)
/*
 * What code is remembered by, beside its offset in the page: not the address, for a chipset can put other memory there,
 * and the same in two places.
 */
static inline uint64_t x86_code_page(const struct x86_itlb_entry *e)
{
	return e->page_index << MEM_PAGE_SHIFT;
}
/* What is remembered of the pages that one privilege in one address space executes. */
struct x86_fetches {
	struct x86_itlb_entry itlb[X86_ITLB_SIZE];
	uint16_t filled[X86_ITLB_SIZE]; /* the entries that may not be empty */
	uint32_t filled_count;
	/*
	 * Names its state: translated code may be found by linear address as long as this is the same. `pages` are
	 * those that were fetched from since this number was taken, as a hash table of page_name() (tlb.c), which few
	 * pages share; with more than a table holds, all. `local`, `global`: one that is not global, or is, is
	 * among them.
	 */
	uint32_t epoch;
	bool local, global;
	uint32_t count; /* of pages */
	uint32_t pages[X86_FETCH_PAGES];
};

/*
 * Linear addresses that may be part of large pages: those that are `base` but for the bits of `span`; 0: none. One of
 * them for each half of the address space.
 */
struct x86_large {
	uint64_t base, span;
};

/* An address space that may come back as it was left (PCIDs): its user code, and its data TLB entries, put away. */
#define X86_SPACES	  8u
#define X86_SPACE_ENTRIES 256u
struct x86_space {
	struct x86_fetches user;
	struct x86_large large[2]; /* but for global pages */
	uint64_t epoch;		   /* of its regions */
	unsigned pcid;
	unsigned count; /* of entries */
	struct x86_put_away {
		struct x86_tlb_entry entry;
		uint64_t phys;
		uint16_t slot;
	} entries[X86_SPACE_ENTRIES];
};

/* Bits of a trace's key above the physical address. */
#define X86_KEY_BITS_SHIFT 56 /* code size: 0, 1, 2 for 16, 32, 64 bits */
#define X86_KEY_REAL	   (4ull << 56)
#define X86_KEY_SINGLE	   (8ull << 56)	 /* one instruction long */
#define X86_KEY_FLAT	   (16ull << 56) /* no limit on RIP */
#define X86_KEY_SMM	   (32ull << 56) /* physical addresses are those of SMM */

/* How translated code sees the world. */
enum x86_fetch {
	X86_FETCH_VIEW = 3, /* enum x86_tlb_view */
	X86_FETCH_NOT = 3,  /* instead of a view: this code is not translated */
	/* What cannot run: AVX, or SSE and AVX; both bits: x87 and MMX neither. */
	X86_FETCH_NO_AVX = 4,
	X86_FETCH_NO_SSE = 8,
	X86_FETCH_NO_FP = X86_FETCH_NO_AVX | X86_FETCH_NO_SSE,
	X86_FETCH_CODE32 = 16, /* 32-bit code in flat segments, else 64-bit code */
	X86_FETCH_MODES = 32
};
#define X86_FETCH_SHIFT 48
#define X86_FETCH_EPOCH 53

#define X86_NO_STOP ~0ull /* no instruction is there: stop_passed */

struct interp_vm;
struct x86_trace;
struct x86_traces; /* trace cache, traces.c */

struct x86_cpu {
	struct vcpu vcpu; /* first: engine.h */
	struct x86_state s;

	/* --- hot --- */
	struct x86_lazy lazy;		/* the six arithmetic flags */
	struct x86_tlb_entry *tlb;	/* the table of the current view */
	uint64_t seg_base[8];		/* effective: 0 for ES, CS, SS, DS in 64-bit mode */
	uint64_t lin_mask;		/* ~0 in 64-bit mode, else 32 bits */
	uint64_t sp_mask;		/* stack pointer width: ~0, 32 or 16 bits */
	uint8_t seg_flat_r, seg_flat_w; /* a bit a segment: reads (writes) need no limit or type check */
	uint8_t cpl;
	uint8_t code_bits;   /* 16, 32, 64 */
	bool protected_mode; /* CR0.PE and not virtual-8086 */
	bool v86;
	bool align_check; /* CPL 3, CR0.AM and EFLAGS.AC */
	bool flat32;	  /* 32-bit protected code; CS, SS, DS and ES are all of its address space */
	/* Why SSE, AVX or x87 cannot run: 0 none, else the vector (6 #UD or 7 #NM). */
	uint8_t sse_block, avx_block, fpu_block;
	struct x86_trace *trace; /* being executed */
	uint64_t trace_page;	 /* its linear page */
	uint64_t code_key;	 /* how code is decoded: the mode part of a trace's key */
	/*
	 * What, by exclusive or with RIP, names code whose translation was made for the way code is fetched and data
	 * looked at now: enum x86_fetch from bit 48 on, and how often that has changed otherwise (paging) above.
	 */
	uint64_t fetch_key;
	/*
	 * Something must be looked at before the next instruction although vcpu.events is 0: shadows, single
	 * step, pending debug trap. Set by handlers that change one.
	 */
	bool attention;
	/* An interrupt waited when that was looked at last: `attention` once IF becomes 1. New ones set vcpu.events. */
	bool intr_waits;
	bool in_block; /* translated code has called a handler: x86_jumped() goes back there with NULL */
	/*
	 * Instructions that may still be retired before the clock and the statistics are looked at (icount.c). A trace
	 * is charged when it is entered.
	 */
	int64_t icount_left;

	/* --- warm --- */
	struct interp_vm *vm;
	sigjmp_buf *unwind; /* where x86_raise() and x86_leave() go */
	enum cpu_exit leave_reason;
	/*
	 * Set by x86_deliver() while it works, so that x86_raise() can make a double fault of a further exception.
	 * `delivering_vector` is X86_NOT_EXCEPTION for interrupts and INT n, which combine with nothing.
	 */
	bool in_delivery;
	uint8_t delivering_vector;
	/*
	 * The instruction being executed is stepped: it began with TF set, or is a SYSCALL or SYSRET that ended so. At
	 * its end DR6.BS becomes pending. Cleared by a fault and by whatever suppresses the trap (INT n).
	 */
	bool stepping;
	/* What x86_check_events() used up for the instruction that it let start: shadows and RF. */
	struct x86_begun {
		bool sti, mov_ss, rf;
	} begun;
	uint64_t step_from, step_end; /* with DEBUGCTL.BTF: where that instruction is, and ends */
	int64_t icount_given;	      /* what icount_left was when the rest was last accounted for */
	bool icount;		      /* the clock counts instructions */
	/*
	 * The same for a translator: while C does an instruction of a block, those from that one on which are charged;
	 * else 0. And whether the block has to end after it.
	 */
	uint32_t charged;
	bool charge_ends;
	unsigned pauses; /* PAUSE instructions executed */
	/* stops.c: what a debugger has asked for; NULL: nothing. */
	struct cpu_debug *stops;
	const struct debug_point *stop_hit; /* by the instruction being executed */
	uint64_t stop_passed;		    /* where a stop has just been: it does not hold the next instruction */
	bool step_begun;		    /* the debugger's step is under way */
	/* --stats: of vcpu.instructions those that were interpreted, and of these the ones of x86_single(). */
	stat_t interpreted, alone;
	const struct x86_trace *alone_trace; /* of the last one, while it may be running; x86_trace_stop() looks */
	stat_t data_walks, code_walks, refills, page_faults, flushes, switches;
	struct x86_traces *traces;
	struct mem_space *mem;
	_Atomic bool remapped; /* mem_overlay_set() was called: VCPU_EV_PRIVATE brings it to notice */

	struct x86_tlb_entry tlbs[X86_TLB_VIEWS][X86_TLB_SIZE];
	uint64_t tlb_phys[X86_TLB_VIEWS * X86_TLB_SIZE]; /* of their pages */
	/* RAM in which page tables were found last; empty: none. */
	struct {
		uint64_t base, size;
		const uint8_t *host;
	} tables;
	/* RAM that may be written, below and above 4 GiB, where pages of regions were found last; empty: none. */
	struct x86_ram {
		uint64_t base, size;
		uint8_t *host;
		_Atomic uint8_t *flags;
	} ram[2];
	struct x86_region regions[X86_REGIONS];
	uint64_t region_epochs; /* taken so far */
	struct x86_slots {
		unsigned count;
		uint16_t slot[X86_TLB_VIEWS * X86_TLB_SIZE];
	} tlb_local, tlb_global;    /* what was filled: tlb.c */
	struct x86_slots tlb_keyed; /* of these, what protection keys other than number 0 are asked for */
	uint8_t tlb_notes[X86_TLB_VIEWS * X86_TLB_SIZE];
	struct x86_large large[2]; /* global pages */
	struct x86_fetches kernel;
	struct x86_space *space; /* the current one */
	unsigned next_space;	 /* to be used for another PCID */
	uint32_t epochs;	 /* taken so far */
	struct x86_space spaces[X86_SPACES];
};

struct x86_features;
struct x86_translator;

#define X86_HEAT_BITS 20
#define X86_HEATS     (1u << X86_HEAT_BITS)

/* One VM under the interpreter (interp.c). */
struct interp_vm {
	struct engine_config cfg;
	struct x86_cpu *cpus[256];
	struct x86_code *code;		     /* code.c: which RAM pages hold decoded code */
	const struct x86_features *features; /* cpuid.c */
	struct x86_model model;		     /* the same, to be saved */
	/* Stop-the-world for what no single host instruction can do atomically (exclusive.c). */
	struct x86_exclusive *exclusive;
	bool unseen; /* step.c: others store without notice, and each instruction is decoded when it is executed */
	const struct x86_translator *translator; /* traces.h; NULL: everything is interpreted */
	uint32_t heat;				 /* how often a trace is interpreted before: 0 to 65535 */
	/* How often it was, by a hash of its key: traces are rebuilt, and each vCPU has its own. */
	_Atomic uint16_t *heats; /* X86_HEATS of them, the translator's */
};

static inline struct x86_cpu *x86_cpu_of(struct vcpu *v)
{
	return (struct x86_cpu *)v;
}

/* --- flags --- */
static inline uint32_t x86_get_eflags(const struct x86_cpu *cpu)
{
	return ((uint32_t)cpu->s.rflags & ~X86_ARITH) | x86_lazy_get(&cpu->lazy) | X86_FLAGS_FIXED;
}

/*
 * Replace the flags in `mask` by those of `val` and redo what depends on them: TF, IF and RF set
 * `attention`, AC the TLB view, VM nothing (only far transfers change it). segments.c.
 */
void x86_set_eflags(struct x86_cpu *cpu, uint32_t val, uint32_t mask);

/* --- derived state, segments.c ---
 * Call after CPL, CR0, CR4, EFER, EFLAGS.VM or a segment changed by hand; x86_load_seg() does it by itself.
 */
void x86_update_mode(struct x86_cpu *cpu);
/* The same for fetch_key alone: after sse_block, avx_block or fpu_block changed. */
void x86_update_fetch(struct x86_cpu *cpu);
static inline struct x86_fetches *x86_fetches(struct x86_cpu *cpu)
{
	return cpu->cpl == 3 ? &cpu->space->user : &cpu->kernel;
}
static inline struct x86_itlb_entry *x86_itlb_slot(struct x86_cpu *cpu, uint64_t lin)
{
	return &x86_fetches(cpu)->itlb[lin >> 12 & (X86_ITLB_SIZE - 1)];
}

static inline enum x86_fetch x86_fetch(const struct x86_cpu *cpu)
{
	return (enum x86_fetch)(cpu->fetch_key >> X86_FETCH_SHIFT & (X86_FETCH_MODES - 1));
}
static inline bool x86_translatable(const struct x86_cpu *cpu)
{
	return (x86_fetch(cpu) & X86_FETCH_VIEW) != X86_FETCH_NOT;
}

#endif
