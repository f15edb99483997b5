/*
 * The translator: what its files share. It is the interpreter (cpu/x86) with one more thing: hot traces are translated
 * to host code, and whatever such code cannot do itself is left to the interpreter's handlers. docs/translator.md
 *
 * Threads: a struct jit_cpu belongs to its vCPU's thread; the cache is shared, see cache.h.
 */
#ifndef VIREO_CPU_JIT_JIT_H
#define VIREO_CPU_JIT_JIT_H

#include <stddef.h>

#include "cpu/jit/cache.h"
#include "cpu/jit/share.h"
#include "cpu/x86/traces.h"

/* Where an indirect branch to `tag` ^ fetch_key goes on. */
#define JIT_JUMP_BITS 16
#define JIT_JUMPS     (1u << JIT_JUMP_BITS)
#define JIT_JUMP_FOLD 12
struct jit_jump {
	uint64_t tag;
	uintptr_t code;
};
/* Four bytes of code have one, and neighbours share a line of the host's caches. */
static inline uint32_t jit_jump_place(uint64_t target)
{
	uint32_t folded = (uint32_t)target >> JIT_JUMP_FOLD | (uint32_t)target << (32 - JIT_JUMP_FOLD);

	return (folded ^ (uint32_t)target) >> 2 & (JIT_JUMPS - 1);
}

/* A look at a guard: of the page of linear address `rip`, for the user or the kernel. */
#define JIT_GUARD_BITS 10
#define JIT_GUARDS     (1u << JIT_GUARD_BITS)
static inline uint32_t jit_guard_place(uint64_t rip)
{
	return (uint32_t)(rip >> 12) * 0x9e3779b1u >> (32 - JIT_GUARD_BITS);
}

/* An x87 instruction in translated code, for FIP and FOP. */
struct jit_x87_note {
	uint64_t ip;
	uint16_t op;
};

/* Why host code comes back (thunks.c). */
enum jit_exit {
	JIT_LOOK_UP, /* what is at RIP? */
	JIT_OUT,     /* there is news for the vCPU, or the block was given up; RIP is its beginning */
	JIT_LINK,    /* instead of this number: the struct jit_note of a jump that may go straight to what is at RIP */
	/* In mid-block: jit_cpu.undone is how many instructions were not done (count.h), RIP is the first of them. */
	JIT_BROKEN, /* what the block was made for has changed */
	JIT_SPLIT,  /* the page that accesses were to share does not have them all */
	/* The same, and the instruction at RIP is to be interpreted by itself: */
	JIT_INTERPRET, /* it is one that translated code does not have */
	JIT_ACCESS,    /* its memory access is more than a look into the TLB */
	JIT_OPEN,      /* it may raise an exception of floating point */
	JIT_EXITS
};
/* In the order of the enumeration: is it `first` or one after it? */
static inline bool jit_exit_from(uintptr_t why, enum jit_exit first)
{
	return why >= first && why < JIT_EXITS;
}

/* What is counted of a vCPU. Those that cost something only if the VM's `counting` says so. */
struct jit_counts {
	stat_t translations, translated; /* blocks, and the instructions in them */
	stat_t exits[JIT_EXITS];
	stat_t forgetting_ns; /* while all others waited */
	stat_t handled;	      /* instructions in blocks by their handlers */
	stat_t refills, misses, crossing, devices;
	stat_t found;	 /* targets that were looked up by jit_quick_jump() */
	stat_t accesses; /* costs */
	stat_t charged;	 /* costs: instructions in blocks under the counting clock */
};

/* Of accesses that share a look into the TLB: where the lowest is, and its page's byte of flags if one is a store. */
struct jit_shared {
	uint8_t *host;
	_Atomic uint8_t *flags;
};
/* As RIP: not canonical. */
#define JIT_NOT_SPLIT (1ull << 62)

/* What a vCPU has beside the interpreter's; GS's base is its address while it runs. */
struct jit_cpu {
	struct x86_cpu cpu; /* first */
	struct jit_cpu *self;
	uint64_t lin;	 /* of an access that missed the TLB */
	uint64_t index;	 /* of its TLB entry, where that register was needed otherwise */
	uint64_t pushed; /* a value on its way */
	uint64_t rax;	 /* where RAX is while its place is needed */
	uint8_t *stored; /* host address of a store whose page wants to hear of it */
	/*
	 * An access that crosses a page is to `bounce`; a store goes to the pages when it is done. `crossing` is where
	 * from, and in place of a TLB entry there is one whose page wants to hear of stores.
	 */
	uint8_t bounce[32];
	uint64_t crossing;
	uint32_t bounced;	     /* bytes */
	const struct jit_note *note; /* of the thunk that was called */
	uintptr_t resume;	     /* where it goes on in the block */
	uint64_t found_index;	     /* of the entry for it, as jit_cpu.index */
	struct x86_tlb_entry bounce_entry;
	_Atomic uint8_t bounce_flags;
	uint32_t stored_run;		      /* bytes of one by jit_quick_movs() or jit_quick_stos(); 0: none */
	uint16_t flags;			      /* the guest's arithmetic flags as LAHF and SETO leave them in AX */
	uint32_t mxcsr_host;		      /* for C */
	uint8_t vec_live;		      /* vector registers and MXCSR are in the host's */
	uint8_t x87_live;		      /* behind vec_live: the x87 state is */
	uint8_t x87_seg;		      /* 1 + segment of the last memory operand of x87 since then */
	const struct jit_x87_note *x87_note;  /* the last instruction of x87 since then */
	uint8_t undone;			      /* count.h */
	uint64_t *runs;			      /* of each block, profile.h; NULL: not counted */
	struct jit_shared shared[JIT_SHARES]; /* by accesses of the block that runs, share.h */
	uint64_t split; /* RIP of where a block was left, to go on without sharing; JIT_NOT_SPLIT: none */
	const struct jit_table *table; /* the cache's */
	const uint8_t *numbered;       /* the cache's */
	intptr_t rx_offset;	       /* from where the cache's code is written to where it is executed */
	struct jit_counts counts;
	struct jit_jump jumps[JIT_JUMPS];
	/*
	 * Numbers of guards (cache.h), by jit_guard_place(): fetching from that linear page is allowed now, and leads
	 * there. 0: not known. One table for the kernel and one for the user.
	 */
	uint32_t guards[2][JIT_GUARDS];
};

static inline struct jit_cpu *jit_of(struct x86_cpu *cpu)
{
	return (struct jit_cpu *)cpu;
}

/* Offsets from GS. */
#define JIT_GPR(n)	(int32_t)(offsetof(struct jit_cpu, cpu.s.gpr) + 8 * (n))
#define JIT_FIELD(name) (int32_t) offsetof(struct jit_cpu, name)
#define JIT_TLB(view, field)                                                                                           \
	(int32_t)(offsetof(struct jit_cpu, cpu.tlbs) + (view)*X86_TLB_SIZE * sizeof(struct x86_tlb_entry) +            \
		  offsetof(struct x86_tlb_entry, field))

enum jit_counting {
	JIT_COUNT_NOTHING, /* that costs anything */
	JIT_COUNT_SUMS,	   /* of instructions and memory accesses */
	JIT_COUNT_BLOCKS   /* each of them, too */
};

/* Which jumps lead to other blocks without asking. */
enum jit_linking { JIT_LINK_NONE, JIT_LINK_NEAR /* those within a page */, JIT_LINK_ALL };

struct jit_vm {
	struct interp_vm vm; /* first */
	struct jit_cache *cache;
	/*
	 * All flags are right at every instruction. Else one that a later instruction of the block overwrites before
	 * any looks at it may be any in between: in exceptions' and interrupts' frames, and in states that are read.
	 */
	bool strict;
	bool sharing;	/* of looks into the TLB by accesses of a block */
	bool extending; /* blocks behind jumps that are seldom taken */
	enum jit_linking linking;
	enum jit_counting counting;
	struct jit_row *rows;	     /* stats.c */
	struct jit_profile *profile; /* NULL: blocks are not counted */
	struct jit_perf *perf;	     /* NULL: nobody wants to hear of them */
};

static inline struct jit_cache *jit_cache_of(const struct x86_cpu *cpu)
{
	return ((struct jit_vm *)cpu->vm)->cache;
}

/* The current block at RIP, if its page can be told without a walk; the vCPU knows it from now on. */
static inline struct jit_block *jit_find_block(struct jit_cpu *c)
{
	uint64_t rip = c->cpu.s.gpr[X86_RIP], after = ((rip | X86_PAGE_MASK) + 1) & c->cpu.lin_mask;
	const struct x86_itlb_entry *e = x86_itlb_slot(&c->cpu, rip), *next = x86_itlb_slot(&c->cpu, after);
	struct jit_block *b, want = {
		.place = x86_code_page(e) | (rip & X86_PAGE_MASK),
		.second = next->tag == after ? x86_code_page(next) : JIT_ONE_PAGE,
		.rip = rip,
		.mode = x86_fetch(&c->cpu) | (c->split == rip ? JIT_ALONE : 0),
	};

	if (e->tag != (rip & ~X86_PAGE_MASK) || !x86_translatable(&c->cpu))
		return NULL;
	b = jit_table_find(c->table, &want);
	if (b && !(want.mode & JIT_ALONE))
		c->jumps[jit_jump_place(rip)] = (struct jit_jump){ rip ^ c->cpu.fetch_key, jit_block_memory(b) };
	return b;
}

static inline const struct jit_block *jit_note_block(const struct jit_note *n)
{
	const struct jit_block *b;

	/* It lies between instructions. */
	__builtin_memcpy(&b, (const uint8_t *)n - n->block, sizeof(b));
	return b;
}
/* Behind the note of accesses that share a look, aligned: the code without sharing from there on, once it is known. */
static inline _Atomic uint64_t *jit_split_code(const struct jit_cpu *c, const struct jit_note *n)
{
	return (_Atomic uint64_t *)((uintptr_t)(n + 1) - (uintptr_t)c->rx_offset);
}
/* What RIP has to be. */
static inline uint64_t jit_note_rip(const struct jit_cpu *c, const struct jit_note *n)
{
	uint64_t far;

	if (n->rip == JIT_NOTE_PUSHED)
		return c->pushed;
	if (n->rip != JIT_NOTE_FAR)
		return jit_note_block(n)->rip + (uint64_t)(int64_t)n->rip;
	__builtin_memcpy(&far, n + 1, sizeof(far));
	return far;
}

/* An instruction in translated code that its handler executes. */
struct jit_site {
	struct x86_insn insn[2]; /* and the one that comes back */
	uint64_t rip;
	struct jit_block *block;
	uint8_t left; /* if instructions are counted: those to the block's end, with this one; else 0 */
};

/* What a miss says about the access: bits of a word. */
#define JIT_MISS_WRITE	    1u
#define JIT_MISS_SIZE_SHIFT 1	 /* bytes, 7 bits */
#define JIT_MISS_STORE	    256u /* with JIT_MISS_WRITE: nothing is read */
/* Of accesses that share a look: JIT_MISS_WRITE, and how many bytes. */
#define JIT_SHARED_SPAN_SHIFT 1
static inline uint32_t jit_miss_size(uint32_t access)
{
	return access >> JIT_MISS_SIZE_SHIFT & 127;
}
/* How memory is accessed. */
enum jit_access { JIT_LOAD, JIT_UPDATE, JIT_STORE };

/* --- calls.c: what thunks call. Nonzero: leave the code, with JIT_ACCESS or JIT_BROKEN --- */
/* The page of cpu->lin is not in the TLB. May raise. */
int jit_missed(struct jit_cpu *c, const struct jit_note *note);
/* RIP is the instruction's. May raise. */
int jit_handle(struct jit_cpu *c, const struct jit_site *site);
/*
 * The same for an instruction that ends its block: the next one is at RIP. Nonzero: leave the code, with JIT_LOOK_UP.
 */
int jit_handle_end(struct jit_cpu *c, const struct jit_site *site);
/* A store at cpu->stored is done, to a page with flags. RIP becomes the next instruction's, jit_cpu.resume is set. */
int jit_stored(struct jit_cpu *c, const struct jit_note *note);
/* A repeated string (repeat.c). RIP is set here. May raise. */
int jit_repeat(struct jit_cpu *c, const struct jit_site *site);
/* Can the block that called not go on? After a flush of the cache its memory may be another one's. */
bool jit_over(const struct jit_cpu *c, const struct jit_block *b, unsigned flushes);
/* The guest's flags between jit_cpu.flags and x86_cpu.lazy. */
void jit_flags_to_lazy(struct jit_cpu *c);
void jit_flags_from_lazy(struct jit_cpu *c);
/* x86_translator. */
extern const struct x86_translator jit_translator;

/*
 * quick.c, which is compiled to code without vector registers: REP MOVS and STOS of elements of `size` bytes, as far as
 * the TLB reaches. Nonzero: there is more to do, which jit_repeat() knows how.
 */
int jit_quick_movs(struct jit_cpu *c, uint32_t size);
int jit_quick_stos(struct jit_cpu *c, uint32_t size);
/*
 * The access at cpu->lin missed. If no walk is needed, where it is to be done, jit_cpu.found_index and jit_cpu.resume;
 * else NULL. One that crosses pages is to jit_cpu.bounce.
 */
uint8_t *jit_quick_miss(struct jit_cpu *c, const struct jit_note *note);
/* The same for accesses that share a look, from the lowest on; NULL: they are to be done one by one. */
uint8_t *jit_quick_shared(struct jit_cpu *c, const struct jit_note *note);
/* The code for RIP without sharing; 0: there is none. */
uintptr_t jit_quick_split(struct jit_cpu *c);
/* The code for RIP, from where the guest's flags are in memory; 0: this takes a walk, or there is none. */
uintptr_t jit_quick_jump(struct jit_cpu *c);
/*
 * The same for a jump to another page that had another number than the guard: now it may be the same, and it is gone
 * through again. 0: or the jump is to be linked.
 */
uintptr_t jit_quick_far(struct jit_cpu *c, const struct jit_note *note);
/* The x87 state to memory, and the host's becomes what C wants; 0. The other way; 1: an exception is unmasked. */
int jit_quick_put_x87(struct jit_cpu *c);
int jit_quick_get_x87(struct jit_cpu *c);

/* --- thunks.c: code that all blocks share, made once for a cache --- */
struct jit_thunks {
	uintptr_t (*enter)(struct jit_cpu *c, uintptr_t code); /* run; why it came back */
	uintptr_t leave;				       /* jumped to: T0 is why */
	/* called: T1 is the struct jit_site */
	uintptr_t handle, repeat;
	/* --- called, with a note behind the call; flags are in memory unless the index, or the name, says native ---
	 */
	uintptr_t out[2], out_far[2] /* RIP follows the note */, link[2], link_to_rip[2], far[2], interpret;
	uintptr_t given_up[2]; /* called without one, by the first instruction of a block */
	/* T0 is the target of an indirect branch, by exclusive or with fetch_key; `back` and `what` are how far RSP
	 * moves, in 64-bit code or, the second, 32-bit code */
	uintptr_t jump[2];
	/* by view, and for stores; T0 and T1 as the probe left them. `noted`: jit_cpu.lin is set */
	uintptr_t missed[X86_TLB_VIEWS][2], missed_noted;
	uintptr_t missed_shared[X86_TLB_VIEWS][2], missed_shared_noted;
	uintptr_t split; /* on without sharing */
	/* T0 is the host's address, or it is in jit_cpu.stored */
	uintptr_t stored, stored_noted, stored_native;
	uintptr_t vectors, x87; /* get them to the host's */
	/* called: T1 is the size, in T0 what they return. Vector registers stay. */
	uintptr_t quick_movs, quick_stos;
	uintptr_t jump_missed; /* jumped to: T0 is RIP ^ fetch_key */
	uintptr_t look_up;     /* jumped to: RIP is set, flags are in memory, the vCPU does not know what is there */
	uintptr_t jump_to_rip; /* jumped to: RIP is set, flags are in memory */
	uintptr_t handle_end;  /* jumped to: T1 is the site, flags are in memory */
};
/* flow.c: T0 is a target. Compare what the vCPU knows of it; then T1 tells where, T0 is by exclusive or with fetch_key.
 */
void jit_look_at_jump(struct emit *e);
/* Go there, if it was equal. */
void jit_take_jump(struct emit *e);
void jit_thunks_make(struct emit *e, struct jit_thunks *t);
/* The guest's arithmetic flags from the host's to jit_cpu.flags. Uses T1. */
void jit_save_flags(struct emit *e);
/* The other way. Uses T1 if it is `free`; then so many bytes. */
void jit_load_flags(struct emit *e, bool free);
#define JIT_LOAD_FLAGS_SIZE 18

/* translate.c: code for the trace at RIP, or NULL if there is no sense in it. */
struct jit_block *jit_translate(struct x86_cpu *cpu, const struct x86_trace *t);

/* stats.c: what `--stats` prints of the translator. The rows live until the VM ends. False: no memory. */
bool jit_stats_register(struct jit_vm *vm);

extern const struct engine engine_jit;

#endif
