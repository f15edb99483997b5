/*
 * The code between C and translated blocks.
 *
 * The host's stack is aligned to 16 bytes in translated code. GS is the vCPU (engine.c). Stubs that call a thunk may
 * never be returned to: what they are called for may raise (siglongjmp past them), or end the stay in translated code.
 */
#include <string.h>

#include "cpu/jit/jit.h"
#include "cpu/jit/regs.h"

static const uint8_t callee_saved[] = { RBX, RBP, R12, R13, R14, R15 };

static struct emit_op op1(unsigned op)
{
	return (struct emit_op){ .op = (uint8_t)op, .w = true };
}

static void push(struct emit *e, unsigned reg)
{
	emit_rr(e, (struct emit_op){ .op = 0xff }, 6, reg);
}

static void pop(struct emit *e, unsigned reg)
{
	emit_rr(e, (struct emit_op){ .op = 0x8f }, 0, reg);
}

static void add_rsp(struct emit *e, int n)
{
	emit_rr(e, op1(0x83), 0, RSP);
	emit_bytes(e, (uint8_t)n, 1);
}

static void spill(struct emit *e)
{
	for (unsigned r = 0; r < 16; r++)
		if (jit_home[r] != NO_REG)
			emit_store(e, emit_gs(JIT_GPR(r)), jit_home[r]);
}

static void fill(struct emit *e)
{
	for (unsigned r = 0; r < 16; r++)
		if (jit_home[r] != NO_REG)
			emit_load(e, jit_home[r], emit_gs(JIT_GPR(r)));
}

static void vector_moves(struct emit *e, unsigned opcode)
{
	for (unsigned r = 0; r < 16; r++)
		emit_rm(e, (struct emit_op){ .map = MAP_0F, .op = (uint8_t)opcode, .vex = true, .l = true }, r,
			emit_gs(JIT_FIELD(cpu.s.vec) + 32 * (int32_t)r));
}

static void set_vec_live(struct emit *e, unsigned v)
{
	emit_rm(e, (struct emit_op){ .op = 0xc6 }, 0, emit_gs(JIT_FIELD(vec_live)));
	emit_bytes(e, v, 1);
}

static void mxcsr(struct emit *e, unsigned ext, struct emit_mem m)
{
	emit_rm(e, (struct emit_op){ .map = MAP_0F, .op = 0xae }, ext, m);
}

static void ret(struct emit *e)
{
	emit_bytes(e, 0xc3, 1);
}

static void call_c(struct emit *e, const void *fn)
{
	emit_mov_imm(e, RAX, (uintptr_t)fn);
	emit_rr(e, (struct emit_op){ .op = 0xff }, 2, RAX);
}

_Static_assert(offsetof(struct jit_cpu, x87_live) == offsetof(struct jit_cpu, vec_live) + 1, "looked at together");

/*
 * A function: what of the guest is in the host's vector registers and x87 goes to memory, and those are the host's
 * again. General registers of the guest are in memory; T0 and T1 stay.
 */
static uintptr_t put_function(struct emit *e)
{
	uintptr_t at = emit_rx(e);
	uint8_t *dead;

	emit_rm(e, (struct emit_op){ .op = 0x80 }, 7, emit_gs(JIT_FIELD(vec_live)));
	emit_bytes(e, 0, 1);
	dead = emit_jump(e, 4);
	vector_moves(e, 0x11);
	emit_bytes(e, 0x77f8c5, 3); /* vzeroupper */
	mxcsr(e, 3, emit_gs(JIT_FIELD(cpu.s.mxcsr)));
	mxcsr(e, 2, emit_gs(JIT_FIELD(mxcsr_host)));
	set_vec_live(e, 0);
	emit_here(e, dead);
	emit_rm(e, (struct emit_op){ .op = 0x80 }, 7, emit_gs(JIT_FIELD(x87_live)));
	emit_bytes(e, 0, 1);
	dead = emit_jump(e, 4);
	push(e, T0);
	push(e, T1);
	add_rsp(e, -8);
	emit_load(e, RDI, emit_gs(JIT_FIELD(self)));
	call_c(e, jit_quick_put_x87);
	add_rsp(e, 8);
	pop(e, T1);
	pop(e, T0);
	emit_here(e, dead);
	ret(e);
	return at;
}

static void put(struct emit *e, uintptr_t function)
{
	uint8_t *dead;

	emit_rm(e, (struct emit_op){ .op = 0x81, .osize = true }, 7, emit_gs(JIT_FIELD(vec_live)));
	emit_bytes(e, 0, 2);
	dead = emit_jump(e, 4);
	emit_call(e, function);
	emit_here(e, dead);
}

/* The other way, unless an exception is unmasked: then to the returned jump. Uses T1. */
static uint8_t *get_vectors(struct emit *e)
{
	uint8_t *open;

	emit_rm(e, (struct emit_op){ .op = 0x8b }, T1, emit_gs(JIT_FIELD(cpu.s.mxcsr)));
	emit_rr(e, (struct emit_op){ .op = 0xf7 }, 2, T1); /* not */
	emit_rr(e, (struct emit_op){ .op = 0xf7 }, 0, T1); /* test */
	emit_bytes(e, 0x1f80, 4);
	open = emit_jump(e, 5);
	vector_moves(e, 0x10);
	mxcsr(e, 2, emit_gs(JIT_FIELD(cpu.s.mxcsr)));
	set_vec_live(e, 1);
	return open;
}

/* Where all thunks go on, made before them. */
struct common {
	uintptr_t put;	/* put_function() */
	uintptr_t left; /* out of the code with T0, when the guest is in memory */
};

/*
 * Save the guest, call fn(cpu, T1); on 0 go on in the block, else leave with `why`.
 * What was live then is so again.
 */
static uintptr_t call_thunk(struct emit *e, const void *fn, unsigned why, const struct common *to)
{
	uintptr_t at = emit_rx(e);
	uint8_t *end, *none, *dead, *open[2];

	spill(e);
	emit_rm(e, (struct emit_op){ .map = MAP_0F, .op = 0xb7 }, RBX, emit_gs(JIT_FIELD(vec_live)));
	add_rsp(e, -8);
	put(e, to->put);
	emit_load(e, RDI, emit_gs(JIT_FIELD(self)));
	emit_mov(e, RSI, T1);
	call_c(e, fn);
	emit_rr(e, (struct emit_op){ .op = 0x85 }, RAX, RAX);
	end = emit_jump(e, 5);
	emit_rr(e, (struct emit_op){ .op = 0x85 }, RBX, RBX);
	none = emit_jump(e, 4);
	emit_rr(e, (struct emit_op){ .op = 0x84 }, RBX, RBX);
	dead = emit_jump(e, 4);
	open[0] = get_vectors(e);
	emit_here(e, dead);
	emit_rr(e, (struct emit_op){ .op = 0x84, .high = true }, 7, 7); /* test bh, bh */
	dead = emit_jump(e, 4);
	emit_load(e, RDI, emit_gs(JIT_FIELD(self)));
	call_c(e, jit_quick_get_x87);
	emit_rr(e, (struct emit_op){ .op = 0x85 }, RAX, RAX);
	open[1] = emit_jump(e, 5);
	emit_here(e, dead);
	emit_here(e, none);
	fill(e);
	add_rsp(e, 8);
	ret(e);
	/* An exception was unmasked in between: the block counts on what cannot be had. */
	emit_here(e, open[0]);
	emit_here(e, open[1]);
	put(e, to->put);
	emit_mov_imm(e, T0, JIT_BROKEN);
	add_rsp(e, 16);
	emit_jmp(e, to->left);
	emit_here(e, end);
	emit_mov_imm(e, T0, why);
	add_rsp(e, 16);
	emit_jmp(e, to->left);
	return at;
}

/*
 * Jumped to: save the guest, jit_handle_end(cpu, T1), and on to where RIP is then. Vector registers are left in memory:
 * between the user's code and the kernel's nobody needs them.
 */
static uintptr_t end_thunk(struct emit *e, uintptr_t jump_to_rip, const struct common *to)
{
	uintptr_t at = emit_rx(e);
	uint8_t *end;

	spill(e);
	put(e, to->put);
	emit_load(e, RDI, emit_gs(JIT_FIELD(self)));
	emit_mov(e, RSI, T1);
	call_c(e, jit_handle_end);
	emit_rr(e, (struct emit_op){ .op = 0x85 }, RAX, RAX);
	end = emit_jump(e, 5);
	fill(e);
	emit_jmp(e, jump_to_rip);
	emit_here(e, end);
	emit_mov_imm(e, T0, JIT_LOOK_UP);
	emit_jmp(e, to->left);
	return at;
}

/*
 * T0 = fn(cpu, T1), which touches no vector register and does not raise: only what C may change of the rest is saved.
 */
static uintptr_t quick_thunk(struct emit *e, const void *fn)
{
	static const uint8_t regs[] = { RAX, RDX, RSI, RDI, R8, R9, R10 };
	uintptr_t at = emit_rx(e);

	for (unsigned r = 0; r < 16; r++)
		if (memchr(regs, jit_home[r], sizeof(regs)))
			emit_store(e, emit_gs(JIT_GPR(r)), jit_home[r]);
	emit_load(e, RDI, emit_gs(JIT_FIELD(self)));
	emit_mov(e, RSI, T1);
	add_rsp(e, -8);
	call_c(e, fn);
	add_rsp(e, 8);
	emit_mov(e, T0, RAX);
	for (unsigned r = 0; r < 16; r++)
		if (memchr(regs, jit_home[r], sizeof(regs)))
			emit_load(e, jit_home[r], emit_gs(JIT_GPR(r)));
	ret(e);
	return at;
}

/* --- flags, for blocks too --- */

void jit_save_flags(struct emit *e)
{
	emit_mov(e, T1, RAX);
	emit_bytes(e, 0x9f, 1);	    /* lahf */
	emit_bytes(e, 0xc0900f, 3); /* seto al */
	emit_rm(e, (struct emit_op){ .op = 0x89, .osize = true }, RAX, emit_gs(JIT_FIELD(flags)));
	emit_mov(e, RAX, T1);
}

void jit_load_flags(struct emit *e, bool free)
{
	if (free)
		emit_mov(e, T1, RAX);
	else
		emit_store(e, emit_gs(JIT_FIELD(rax)), RAX);
	emit_rm(e, (struct emit_op){ .map = MAP_0F, .op = 0xb7 }, RAX, emit_gs(JIT_FIELD(flags)));
	emit_bytes(e, 0x7f04, 2); /* add al, 7f: sets OF if it was 1 */
	emit_bytes(e, 0x9e, 1);	  /* sahf */
	if (free)
		emit_mov(e, RAX, T1);
	else
		emit_load(e, RAX, emit_gs(JIT_FIELD(rax)));
}

/* --- with a note behind the call --- */

static struct emit_mem note(int32_t field)
{
	return emit_at(T1, field);
}

/* The note is taken from the stack, to T1 and jit_cpu.note. */
static void take_note(struct emit *e)
{
	pop(e, T1);
	emit_store(e, emit_gs(JIT_FIELD(note)), T1);
}

/* RIP becomes what the note at T1 says, which is near. Uses T0, flags are lost. */
static void note_rip(struct emit *e)
{
	emit_rm(e, (struct emit_op){ .map = MAP_0F, .op = 0xb7 }, T0, note(offsetof(struct jit_note, block)));
	emit_rr(e, op1(0xf7), 3, T0); /* neg */
	emit_load(e, T0, (struct emit_mem){ .base = T1, .index = T0 });
	emit_load(e, T0, emit_at(T0, (int32_t)offsetof(struct jit_block, rip)));
	emit_store(e, emit_gs(JIT_GPR(X86_RIP)), T0);
	emit_rm(e, (struct emit_op){ .map = MAP_0F, .op = 0xbf, .w = true }, T0, note(offsetof(struct jit_note, rip)));
	emit_rm(e, op1(0x01), T0, emit_gs(JIT_GPR(X86_RIP)));
}

/* The thunk begins: flags are in memory, also if they were `native`, T1 is the note and RIP what it says. */
static uintptr_t begin_noted(struct emit *e, bool native)
{
	uintptr_t at;

	emit_align(e, 16, 0);
	at = emit_rx(e);
	if (native)
		jit_save_flags(e);
	pop(e, T1);
	note_rip(e);
	return at;
}

/* Out of the block with T0 = `why`; JIT_LINK: the note. */
static uintptr_t out_thunk(struct emit *e, const struct jit_thunks *t, enum jit_exit why, bool native)
{
	uintptr_t at = begin_noted(e, native);

	if (why == JIT_LINK)
		emit_mov(e, T0, T1);
	else
		emit_mov_imm(e, T0, why);
	emit_jmp(e, t->leave);
	return at;
}

/* The same as JIT_OUT, where RIP is not near the block. */
static uintptr_t out_far_thunk(struct emit *e, const struct jit_thunks *t, bool native)
{
	uintptr_t at;

	emit_align(e, 16, 0);
	at = emit_rx(e);
	if (native)
		jit_save_flags(e);
	pop(e, T1);
	emit_load(e, T0, note(sizeof(struct jit_note)));
	emit_store(e, emit_gs(JIT_GPR(X86_RIP)), T0);
	emit_mov_imm(e, T0, JIT_OUT);
	emit_jmp(e, t->leave);
	return at;
}

/* The same for a block that was given up, where the pointer to its record is. */
static uintptr_t given_up_thunk(struct emit *e, const struct jit_thunks *t, bool native)
{
	int32_t record = EMIT_JMP_SIZE + (native ? JIT_LOAD_FLAGS_SIZE : 0) + (int32_t)sizeof(struct jit_block *);
	uintptr_t at;

	emit_align(e, 16, 0);
	at = emit_rx(e);
	if (native)
		jit_save_flags(e);
	pop(e, T1);
	emit_load(e, T0, note(-record));
	emit_load(e, T0, emit_at(T0, (int32_t)offsetof(struct jit_block, rip)));
	emit_store(e, emit_gs(JIT_GPR(X86_RIP)), T0);
	emit_mov_imm(e, T0, JIT_OUT);
	emit_jmp(e, t->leave);
	return at;
}

static uintptr_t link_to_rip_thunk(struct emit *e, const struct jit_thunks *t, bool native)
{
	uintptr_t at = begin_noted(e, native);

	emit_jmp(e, t->jump_to_rip);
	return at;
}

/* A target that the vCPU does not know is looked up. */
static uintptr_t jump_thunk(struct emit *e, const struct jit_thunks *t, bool wide)
{
	uintptr_t at;

	emit_align(e, 16, 0);
	at = emit_rx(e);
	emit_rm(e, op1(0x33), T0, emit_gs(JIT_FIELD(cpu.fetch_key)));
	emit_store(e, emit_gs(JIT_GPR(X86_RIP)), T0);
	pop(e, T1);
	emit_rm(e, (struct emit_op){ .op = 0x8b }, T0, note(offsetof(struct jit_note, back)));
	emit_rr(e, (struct emit_op){ .op = 0x01, .w = wide }, T0, GUEST_RSP);
	emit_jmp(e, t->look_up);
	return at;
}

/* For each kind of probe: jit_cpu.lin is its address, and on to `at`. */
static void by_probe(struct emit *e, uintptr_t thunks[X86_TLB_VIEWS][2], uintptr_t at)
{
	for (unsigned view = 0; view < X86_TLB_VIEWS; view++) {
		for (unsigned write = 0; write < 2; write++) {
			emit_align(e, 16, 0);
			thunks[view][write] = emit_rx(e);
			emit_rm(e, op1(0x03), T0,
				(struct emit_mem){ .base = T1,
						   .index = NO_REG,
						   .gs = true,
						   .disp = write ? JIT_TLB(view, wtag) : JIT_TLB(view, rtag) });
			emit_store(e, emit_gs(JIT_FIELD(lin)), T0);
			emit_jmp(e, at);
		}
	}
}

/*
 * An access for which no walk is needed goes on as if it had been found in the TLB, with T0 and T1 as then. Else
 * jit_missed() sees to it, and then none is needed.
 */
static void missed_thunks(struct emit *e, struct jit_thunks *t, const struct common *to)
{
	uintptr_t quick = quick_thunk(e, jit_quick_miss), full, again;
	uint8_t *walk;

	emit_align(e, 16, 0);
	full = call_thunk(e, jit_missed, JIT_ACCESS, to);
	emit_align(e, 16, 0);
	t->missed_noted = emit_rx(e);
	take_note(e);
	again = emit_rx(e);
	emit_call(e, quick);
	emit_rr(e, op1(0x85), T0, T0);
	walk = emit_jump(e, 4);
	emit_load(e, T1, emit_gs(JIT_FIELD(found_index)));
	emit_rm(e, (struct emit_op){ .op = 0xff }, 4, emit_gs(JIT_FIELD(resume)));
	emit_here(e, walk);
	emit_load(e, T1, emit_gs(JIT_FIELD(note)));
	emit_call(e, full);
	emit_load(e, T1, emit_gs(JIT_FIELD(note)));
	emit_jmp(e, again);
	by_probe(e, t->missed, t->missed_noted);
}

/* The accesses that share a look are in one page after all; or the block is left. */
static void shared_thunk(struct emit *e, struct jit_thunks *t)
{
	uintptr_t quick = quick_thunk(e, jit_quick_shared), alone = quick_thunk(e, jit_quick_split), on;
	uint8_t *split, *counted, *unknown;

	emit_align(e, 16, 0);
	t->missed_shared_noted = emit_rx(e);
	take_note(e);
	emit_call(e, quick);
	emit_rr(e, op1(0x85), T0, T0);
	split = emit_jump(e, 4);
	emit_load(e, T1, emit_gs(JIT_FIELD(found_index)));
	emit_rm(e, (struct emit_op){ .op = 0xff }, 4, emit_gs(JIT_FIELD(resume)));
	emit_here(e, split);
	emit_load(e, T1, emit_gs(JIT_FIELD(note)));
	on = emit_rx(e);
	emit_rm(e, (struct emit_op){ .op = 0x80 }, 7, emit_gs(JIT_FIELD(undone)));
	emit_bytes(e, 0, 1);
	counted = emit_jump(e, 5);
	emit_load(e, T0, note(sizeof(struct jit_note)));
	emit_rr(e, op1(0x85), T0, T0);
	unknown = emit_jump(e, 4);
	emit_rr(e, (struct emit_op){ .op = 0xff }, 4, T0);
	emit_here(e, unknown);
	emit_here(e, counted);
	note_rip(e);
	emit_call(e, alone);
	emit_rr(e, op1(0x85), T0, T0);
	unknown = emit_jump(e, 4);
	emit_rr(e, (struct emit_op){ .op = 0xff }, 4, T0);
	emit_here(e, unknown);
	emit_mov_imm(e, T0, JIT_SPLIT);
	emit_jmp(e, t->leave);
	emit_align(e, 16, 0);
	t->split = emit_rx(e);
	take_note(e);
	emit_jmp(e, on);
	by_probe(e, t->missed_shared, t->missed_shared_noted);
}

static void stored_thunks(struct emit *e, struct jit_thunks *t, const struct common *to)
{
	uintptr_t full = call_thunk(e, jit_stored, JIT_BROKEN, to);

	emit_align(e, 16, 0);
	t->stored = emit_rx(e);
	emit_store(e, emit_gs(JIT_FIELD(stored)), T0);
	t->stored_noted = emit_rx(e);
	pop(e, T1);
	emit_call(e, full);
	emit_rm(e, (struct emit_op){ .op = 0xff }, 4, emit_gs(JIT_FIELD(resume)));
	emit_align(e, 16, 0);
	t->stored_native = emit_rx(e);
	jit_save_flags(e);
	pop(e, T1);
	emit_call(e, full);
	jit_load_flags(e, true);
	emit_rm(e, (struct emit_op){ .op = 0xff }, 4, emit_gs(JIT_FIELD(resume)));
}

/* Go back to the block; or, by the jump `open`, out of it. */
static void ready(struct emit *e, const struct jit_thunks *t, uint8_t *open)
{
	emit_load(e, T1, emit_gs(JIT_FIELD(note)));
	emit_rm(e, (struct emit_op){ .map = MAP_0F, .op = 0xb7 }, T0, note(offsetof(struct jit_note, back)));
	emit_rr(e, op1(0x29), T0, T1);
	emit_rr(e, (struct emit_op){ .op = 0xff }, 4, T1);
	emit_here(e, open);
	emit_mov_imm(e, T0, JIT_OPEN);
	emit_jmp(e, t->leave);
}

static void register_thunks(struct emit *e, struct jit_thunks *t)
{
	uintptr_t get;

	emit_align(e, 16, 0);
	get = quick_thunk(e, jit_quick_get_x87);
	emit_align(e, 16, 0);
	t->vectors = emit_rx(e);
	take_note(e);
	note_rip(e);
	ready(e, t, get_vectors(e));
	emit_align(e, 16, 0);
	t->x87 = emit_rx(e);
	take_note(e);
	note_rip(e);
	emit_call(e, get);
	emit_rr(e, (struct emit_op){ .op = 0x85 }, T0, T0);
	ready(e, t, emit_jump(e, 5));
}

/* RIP is a target that the vCPU does not know. */
static void look_up_thunks(struct emit *e, struct jit_thunks *t)
{
	uintptr_t quick = quick_thunk(e, jit_quick_jump);
	uint8_t *unknown;

	emit_align(e, 16, 0);
	t->jump_missed = emit_rx(e);
	emit_rm(e, op1(0x33), T0, emit_gs(JIT_FIELD(cpu.fetch_key)));
	emit_store(e, emit_gs(JIT_GPR(X86_RIP)), T0);
	t->look_up = emit_rx(e);
	emit_call(e, quick);
	emit_rr(e, op1(0x85), T0, T0);
	unknown = emit_jump(e, 4);
	emit_rr(e, (struct emit_op){ .op = 0xff }, 4, T0);
	emit_here(e, unknown);
	emit_mov_imm(e, T0, JIT_LOOK_UP);
	emit_jmp(e, t->leave);
}

/* A jump to another page whose guard has another number: go on, link it, or find out more. */
static uintptr_t far_thunk(struct emit *e, const struct jit_thunks *t, uintptr_t quick, bool native)
{
	uintptr_t at;
	uint8_t *unknown;

	emit_align(e, 16, 0);
	at = emit_rx(e);
	if (native)
		jit_save_flags(e);
	take_note(e);
	emit_call(e, quick);
	emit_rr(e, op1(0x85), T0, T0);
	unknown = emit_jump(e, 4);
	if (native)
		jit_load_flags(e, true);
	emit_rr(e, (struct emit_op){ .op = 0xff }, 4, T0);
	emit_here(e, unknown);
	emit_load(e, T0, emit_gs(JIT_FIELD(note)));
	emit_jmp(e, t->leave);
	return at;
}

/* --- all of them --- */

void jit_thunks_make(struct emit *e, struct jit_thunks *t)
{
	struct common to;
	uintptr_t far;

	to.put = put_function(e);
	emit_align(e, 16, 0);
	t->enter = (uintptr_t(*)(struct jit_cpu *, uintptr_t))emit_rx(e);
	for (unsigned n = 0; n < sizeof(callee_saved); n++)
		push(e, callee_saved[n]);
	add_rsp(e, -8);
	emit_mov(e, T1, RSI);
	fill(e);
	emit_rr(e, (struct emit_op){ .op = 0xff }, 4, T1);

	emit_align(e, 16, 0);
	t->leave = emit_rx(e);
	spill(e);
	put(e, to.put);
	to.left = emit_rx(e);
	emit_mov(e, RAX, T0);
	add_rsp(e, 8);
	for (unsigned n = sizeof(callee_saved); n-- > 0;)
		pop(e, callee_saved[n]);
	ret(e);

	look_up_thunks(e, t);

	emit_align(e, 16, 0);
	t->jump_to_rip = emit_rx(e);
	emit_load(e, T0, emit_gs(JIT_GPR(X86_RIP)));
	jit_look_at_jump(e);
	emit_jump_to(e, 5, t->jump_missed);
	jit_take_jump(e);

	far = quick_thunk(e, jit_quick_far);
	for (unsigned native = 0; native < 2; native++) {
		t->far[native] = far_thunk(e, t, far, native);
		t->out[native] = out_thunk(e, t, JIT_OUT, native);
		t->out_far[native] = out_far_thunk(e, t, native);
		t->given_up[native] = given_up_thunk(e, t, native);
		t->link[native] = out_thunk(e, t, JIT_LINK, native);
		t->link_to_rip[native] = link_to_rip_thunk(e, t, native);
	}
	t->interpret = out_thunk(e, t, JIT_INTERPRET, false);
	t->jump[0] = jump_thunk(e, t, true);
	t->jump[1] = jump_thunk(e, t, false);
	missed_thunks(e, t, &to);
	shared_thunk(e, t);
	stored_thunks(e, t, &to);
	register_thunks(e, t);
	emit_align(e, 16, 0);
	t->handle = call_thunk(e, jit_handle, JIT_BROKEN, &to);
	emit_align(e, 16, 0);
	t->handle_end = end_thunk(e, t->jump_to_rip, &to);
	emit_align(e, 16, 0);
	t->repeat = call_thunk(e, jit_repeat, JIT_BROKEN, &to);
	emit_align(e, 16, 0);
	t->quick_movs = quick_thunk(e, jit_quick_movs);
	emit_align(e, 16, 0);
	t->quick_stos = quick_thunk(e, jit_quick_stos);

	emit_align(e, 64, 0);
}
