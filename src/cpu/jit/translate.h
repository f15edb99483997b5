/*
 * What the files that write a block's code share: the translation under way, and the steps that instructions are made
 * of. Private to the translator; everything between jit_cache_begin() and jit_cache_end().
 */
#ifndef VIREO_CPU_JIT_TRANSLATE_H
#define VIREO_CPU_JIT_TRANSLATE_H

#include "base/bytes.h"
#include "cpu/jit/count.h"
#include "cpu/jit/jit.h"
#include "cpu/jit/ops.h"
#include "cpu/jit/regs.h"
#include "cpu/jit/share.h"

/* Where the guest's arithmetic flags are: any of these hold them; none: nobody will ask. */
#define FLAGS_NATIVE 1u
#define FLAGS_MEMORY 2u

/* One instruction of the trace. */
struct jit_insn {
	const struct x86_insn *i;
	const struct x86_opdef *def; /* NULL: it raises */
	x86_exec *fn;
	const struct jit_op *op; /* NULL: its handler executes it */
	uint64_t rip;
	/* Flags (JIT_F_*) that are looked at after it, those of before that matter to it or after it, those it changes.
	 */
	uint8_t live, need, touch;
	struct jit_share share;
};

/* Code that is seldom run: behind the block. */
enum stub_kind {
	STUB_MISS,
	STUB_SHARED,
	STUB_SPLIT,
	STUB_STORED,
	STUB_INTERPRET,
	STUB_VECTORS,
	STUB_X87,
	STUB_JUMP,
	STUB_OVERDRAWN,
	/* After this one, nothing is undone that was counted, or the stub sees to it. */
	STUB_LINK,
	STUB_AWAY,
	STUB_NEWS
};
struct stub {
	enum stub_kind kind;
	uint8_t *jump;	   /* that leads here */
	uintptr_t back;	   /* where it goes on; of a miss: as if nothing had */
	uint64_t rip;	   /* what RIP has to be */
	uint32_t access;   /* of a store to jit_cpu.shared: bytes */
	uint8_t view;	   /* of the access: enum x86_tlb_view */
	bool flags_native; /* they must survive it */
	bool noted;	   /* jit_cpu.stored is filled */
	uint8_t slot;	   /* of a store: 1 + where in jit_cpu.shared its page is, 0: T0 is where it was */
	uint16_t more;	   /* and how far behind it it was */
	uint32_t pop;	   /* how far RSP moves if the target is good */
	uint8_t at;	   /* the instruction, by its number */
	/* 1 + the numbers of the last x87 instruction and operand of which no note is taken yet; 0: none. */
	uint8_t x87_last, x87_operand;
};
/* As a stub's RIP: what jit_cpu.pushed has. It is not canonical. */
#define JIT_RIP_PUSHED (1ull << 62)
#define NOTES_MAX      (STUBS_MAX + 4) /* and those of both links and the way out */
#define STUBS_MAX      (4 * X86_TRACE_MAX + 8)

struct jit_tr {
	struct emit e;
	const struct jit_thunks *thunks;
	struct jit_cache *cache;
	struct jit_block *block;
	unsigned view; /* enum x86_tlb_view: at this point of the block */
	unsigned mode; /* enum x86_fetch */
	/* Bytes of an address and of what is pushed: 8, or 4 in 32-bit code. Such registers are used in part only. */
	unsigned word;
	unsigned flags;
	uint64_t block_rip;
	uint8_t *record; /* where the code points to the block's */
	bool strict;	 /* jit_vm.strict */
	enum jit_counting counting;
	struct jit_profile *profile;
	bool icount;  /* x86_cpu.icount */
	bool alone;   /* JIT_ALONE */
	bool sharing; /* of looks into the TLB */
	/* T1 is what jit_cpu.shared has in this slot, less 1; 0: it is not. Before the instruction, and after it. */
	unsigned held, holds;
	unsigned shared;	       /* bits: the slots of jit_cpu.shared that are filled at this point */
	bool vectors;		       /* are in the host's registers */
	bool x87;		       /* is */
	uint8_t x87_last, x87_operand; /* as a stub has them */
	unsigned count, at;
	struct jit_insn insn[X86_TRACE_MAX];
	struct x86_insn more[X86_TRACE_MAX]; /* those behind the trace */
	uint64_t end_rip;		     /* after the last */
	uint8_t guest[X86_TRACE_MAX * 15];
	unsigned stub_count;
	struct stub stubs[STUBS_MAX];
	unsigned note_count;
	struct code_data notes[NOTES_MAX]; /* from the block's code on */
};

static inline const struct jit_insn *now(const struct jit_tr *t)
{
	return &t->insn[t->at];
}
/* Does the trace end with it, whatever executes it? */
static inline bool ends(const struct jit_insn *n)
{
	return !n->def || n->def->flags & X86_D_END ||
	       (n->def->flags & X86_D_REP_END && n->i->flags & (X86_I_REP | X86_I_REPNE));
}
/* As RIP; 32-bit code goes on at 0. */
static inline uint64_t jit_rip(const struct jit_tr *t, uint64_t rip)
{
	return rip & size_mask(t->word);
}
static inline uint64_t next_rip(const struct jit_tr *t)
{
	return jit_rip(t, now(t)->rip + now(t)->i->len);
}
/* `op` on what has the size of an address. In 32-bit code it makes the upper half of a register 0. */
static inline struct emit_op jit_word_op(const struct jit_tr *t, unsigned op)
{
	return (struct emit_op){ .op = (uint8_t)op, .w = t->word == 8 };
}
/* Are the instruction's addresses those of the mode, without a prefix? */
static inline bool usual_address(const struct jit_tr *t)
{
	return now(t)->i->ashift == 64 - 8 * t->word;
}

/* --- translate.c --- */
void jit_stub(struct jit_tr *t, struct stub s);
/* The host's flags are about to be lost: save them if any of `wanted` are looked at later. Uses T1. */
void jit_flags_away(struct jit_tr *t, uint8_t wanted);
/* The instruction's own operation comes next: have flags in the host's if it needs that. Uses T1 if it is `free`. */
void jit_flags_ready(struct jit_tr *t, bool free);
/* It is done. */
void jit_flags_done(struct jit_tr *t);
/* Call a thunk with a note: RIP, where the block goes on (0: nowhere), and jit_note.what. */
void jit_call_noted(struct jit_tr *t, uintptr_t thunk, uint64_t rip, uintptr_t back, uint16_t what);
/* What a thunk is told of the instruction; NULL: no room, and the translation is given up. */
struct jit_site *jit_make_site(struct jit_tr *t);
/* The instruction by its handler. */
void jit_by_handler(struct jit_tr *t);
/* A jump that is taken if T0 is no canonical address. Uses T1, flags are lost. */
uint8_t *jit_unless_canonical(struct jit_tr *t);

/* --- memory.c --- */
/* The effective address of the instruction's operand without its segment in host register `to`. Uses T0 and T1. */
void jit_address(struct jit_tr *t, unsigned to, bool wide);
/* The linear address of the operand in T0. Flags are lost. */
void jit_linear(struct jit_tr *t, enum jit_access how);
/* The same for an operand at T0 in the instruction's segment. */
void jit_add_segment(struct jit_tr *t, enum jit_access how);
/* What jit_reach() gives. */
struct jit_reach {
	unsigned base, at; /* T0 or T1, and bytes from there to the access */
	bool shared;	   /* jit_cpu.shared knows where that is, and the page's flags */
};
/*
 * Where the instruction's access is, by itself or together with others: with all checks made for `size` bytes. T1 tells
 * where its TLB entry is, unless it is shared. Flags may be lost. `t1_free`: until the access is done nobody else uses
 * T1. The second one: of PUSH, POP and their like, so far behind the stack pointer.
 */
struct jit_reach jit_reach(struct jit_tr *t, unsigned size, enum jit_access how, bool t1_free);
struct jit_reach jit_reach_stack(struct jit_tr *t, int disp, enum jit_access how, bool t1_free);
/* Does it leave the flags alone? */
bool jit_reached(const struct jit_tr *t);
/* After a store there, otherwise as jit_stored_to(). */
void jit_stored_there(struct jit_tr *t, struct jit_reach where, uint64_t rip);
/*
 * The host address of the operand in T0, with all checks made for `size` bytes; T1 tells where its TLB entry is.
 * Flags are lost.
 */
void jit_operand(struct jit_tr *t, unsigned size, enum jit_access how);
/* The same for the linear address in T0. */
void jit_probe(struct jit_tr *t, unsigned size, enum jit_access how);
/* After a store to T0, with T1 as jit_probe() left it and the instruction otherwise complete; `rip` is next. */
void jit_stored_to(struct jit_tr *t, uint64_t rip);

/* --- x87.c: from here on the x87 state is in the host's --- */
void jit_x87_ready(struct jit_tr *t);
/* Take note of those: see struct stub. Uses T0 and T1, flags stay. */
void jit_x87_note(struct jit_tr *t, unsigned last, unsigned operand);

/* --- stack.c: PUSH of a value that is known; `rip` is next --- */
void jit_push_value(struct jit_tr *t, uint64_t v, uint64_t rip);

/* Bytes of the memory operand of an instruction that is `plain`. */
unsigned jit_memory_size(const struct jit_insn *n);

/* --- registers, plain.c --- */
/* Guest register `r` in a host register: its home, else `scratch`, loaded. */
unsigned jit_get(struct jit_tr *t, unsigned r, unsigned scratch);
/* Guest register `r` was written in `host`. */
void jit_put(struct jit_tr *t, unsigned r, unsigned host);

#endif
