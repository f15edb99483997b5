/*
 * x87 and MMX: the same instruction on the host's stack, which is the guest's from the first such instruction of a stay
 * in translated code until C runs (thunks.c; quick.c moves it). Only while the guest masks all exceptions: what the
 * host does then is what the guest's processor does, stack faults too. What FIP, FDP and FOP would be is noted in
 * memory, since the host's are about translated code.
 */
#include "base/bytes.h"
#include "cpu/jit/translate.h"

/* From here on, and after whatever C does in between, the x87 state is in the host's. */
void jit_x87_ready(struct jit_tr *t)
{
	struct stub s = { .kind = STUB_X87, .rip = now(t)->rip };

	if (t->x87)
		return;
	t->x87 = true;
	jit_flags_away(t, now(t)->need);
	emit_rm(&t->e, (struct emit_op){ .op = 0x80 }, 7, emit_gs(JIT_FIELD(x87_live)));
	emit_bytes(&t->e, 0, 1);
	s.jump = emit_jump(&t->e, 4);
	s.back = emit_rx(&t->e);
	jit_stub(t, s);
	t->flags &= ~FLAGS_NATIVE;
}

void jit_x87_note(struct jit_tr *t, unsigned last, unsigned operand)
{
	unsigned at = t->at;

	if (operand) {
		t->at = operand - 1;
		jit_address(t, T0, true);
		emit_store(&t->e, emit_gs(JIT_FIELD(cpu.s.fp.dp)), T0);
		emit_rm(&t->e, (struct emit_op){ .op = 0xc6 }, 0, emit_gs(JIT_FIELD(x87_seg)));
		emit_bytes(&t->e, 1u + now(t)->i->seg, 1);
	}
	if (last) {
		struct jit_x87_note *note = jit_cache_alloc(t->cache, sizeof(*note));
		const struct x86_insn *i;

		t->at = last - 1;
		i = now(t)->i;
		t->e.full |= !note;
		if (note)
			*note = (struct jit_x87_note){ now(t)->rip, (uint16_t)((i->op & 7) << 8 | i->modrm) };
		emit_mov_imm(&t->e, T0, (uintptr_t)note);
		emit_store(&t->e, emit_gs(JIT_FIELD(x87_note)), T0);
	}
	t->at = at;
}

/*
 * Is the next instruction one whose note will do? Until then nobody looks but C that its memory access calls, before
 * which a stub takes this note.
 */
static bool next_notes(const struct jit_tr *t)
{
	const struct jit_insn *n = t->at + 1 < t->count ? &t->insn[t->at + 1] : NULL;

	return n && n->op && n->op->emit == jit_x87;
}

/* The instruction, with the operand at T0 if it is in memory. */
static void write(struct jit_tr *t)
{
	const struct x86_insn *i = now(t)->i;
	struct emit_op op = { .op = i->op };

	if (i->flags & X86_I_REG)
		emit_rr(&t->e, op, i->modrm >> 3 & 7, i->modrm & 7);
	else
		emit_rm(&t->e, op, i->modrm >> 3 & 7u, emit_at(T0, 0));
}

void jit_x87(struct jit_tr *t)
{
	const struct jit_op *op = now(t)->op;
	bool mem = !(now(t)->i->flags & X86_I_REG);

	jit_x87_ready(t);
	if (mem) {
		jit_flags_away(t, now(t)->need);
		jit_operand(t, op->mem, op->what & JIT_RM_W ? JIT_UPDATE : JIT_LOAD);
		t->x87_operand = (uint8_t)(t->at + 1);
	} else {
		jit_flags_ready(t, true);
	}
	t->x87_last = (uint8_t)(t->at + 1);
	write(t);
	jit_flags_done(t);
	if (op->what & JIT_RM_W ? JIT_UPDATE : JIT_LOAD)
		jit_stored_to(t, next_rip(t));
	if (next_notes(t))
		return;
	jit_x87_note(t, t->x87_last, t->x87_operand);
	t->x87_last = t->x87_operand = 0;
}

/* FNSTCW, FNSTSW, FNCLEX: of which no note is taken. */
static void control(struct jit_tr *t)
{
	bool mem = !(now(t)->i->flags & X86_I_REG);

	jit_x87_ready(t);
	if (!mem) {
		write(t);
		return;
	}
	jit_flags_away(t, now(t)->need);
	jit_operand(t, 2, JIT_UPDATE);
	write(t);
	jit_stored_to(t, next_rip(t));
}

/* Nothing waits where all exceptions are masked. */
static void fwait(struct jit_tr *t)
{
	jit_x87_ready(t);
}

/* One that unmasks an exception is for the interpreter. The word is looked at only once. */
static void fldcw(struct jit_tr *t)
{
	struct stub s = { .kind = STUB_INTERPRET, .rip = now(t)->rip };

	jit_x87_ready(t);
	jit_flags_away(t, now(t)->need);
	jit_operand(t, 2, JIT_LOAD);
	emit_rm(&t->e, (struct emit_op){ .map = MAP_0F, .op = 0xb7 }, T0, emit_at(T0, 0));
	emit_store(&t->e, emit_gs(JIT_FIELD(pushed)), T0);
	emit_rr(&t->e, (struct emit_op){ .op = 0xf7 }, 2, T0); /* not */
	emit_rr(&t->e, (struct emit_op){ .op = 0xf6 }, 0, T0); /* test */
	emit_bytes(&t->e, 0x3f, 1);
	s.jump = emit_jump(&t->e, 5);
	jit_stub(t, s);
	emit_rm(&t->e, (struct emit_op){ .op = 0xd9 }, 5, emit_gs(JIT_FIELD(pushed)));
}

static void emms(struct jit_tr *t)
{
	jit_x87_ready(t);
	emit_bytes(&t->e, 0x770f, 2);
}

/* --- the table --- */

#define REGS(op, ext, reads, writes)                                                                                   \
	{                                                                                                              \
		X86_MAP_1, op, 1, 0, ext, JIT_REGS, 0, reads, writes, 0, jit_x87                                       \
	}
#define LOAD(op, ext, mem)                                                                                             \
	{                                                                                                              \
		X86_MAP_1, op, 1, 0, 1 + ext, JIT_MEM | JIT_RM_R, mem, 0, 0, 0, jit_x87                                \
	}
#define STORE(op, ext, mem)                                                                                            \
	{                                                                                                              \
		X86_MAP_1, op, 1, 0, 1 + ext, JIT_MEM | JIT_RM_W, mem, 0, 0, 0, jit_x87                                \
	}
#define ARITH(op, mem)                                                                                                 \
	{                                                                                                              \
		X86_MAP_1, op, 1, 0, 0, JIT_MEM | JIT_RM_R, mem, 0, 0, 0, jit_x87                                      \
	}
#define CONTROL(op, ext, what)                                                                                         \
	{                                                                                                              \
		X86_MAP_1, op, 1, 0, 1 + ext, what, 0, 0, 0, 0, control                                                \
	}
#define MMX(map, op, count, what, mem)                                                                                 \
	{                                                                                                              \
		X86_MAP_##map, op, count, X86_PFX_NONE, 0, JIT_MMX | (what), mem, 0, 0, 0, jit_plain                   \
	}
#define SHIFTS(op)                                                                                                     \
	{                                                                                                              \
		X86_MAP_0F, op, 1, X86_PFX_NONE, 0, JIT_MMX | V | JIT_GROUP | JIT_REGS | JIT_RM_R, 0, 0, 0, 0,         \
			jit_plain                                                                                      \
	}
#define V    (JIT_XMM_REG | JIT_XMM_RM)
#define FULL (V | JIT_RM_R | JIT_REG_W)
#define FROM (JIT_XMM_REG | JIT_RM_R)			    /* ModRM.rm is general, or memory */
#define OUT  (JIT_XMM_RM | JIT_REGS | JIT_RM_R | JIT_REG_W) /* ModRM.reg is general */
#define C    JIT_F_C
#define Z    JIT_F_Z
#define P    JIT_F_P

static const struct jit_op rows[] = {
	{ X86_MAP_1, 0x9b, 1, 0, 0, JIT_FIXED, 0, 0, 0, 0, fwait },
	{ X86_MAP_1, 0xd9, 1, 0, 1 + 5, JIT_MEM, 0, 0, 0, 0, fldcw },
	CONTROL(0xd9, 7, JIT_MEM | JIT_RM_W),
	CONTROL(0xdd, 7, JIT_MEM | JIT_RM_W),
	CONTROL(0xdf, 4, JIT_REGS), /* FNSTSW AX */
	ARITH(0xd8, 4),
	ARITH(0xda, 4),
	ARITH(0xdc, 8),
	ARITH(0xde, 2),
	LOAD(0xd9, 0, 4),
	STORE(0xd9, 2, 4),
	STORE(0xd9, 3, 4),
	LOAD(0xdb, 0, 4),
	STORE(0xdb, 1, 4),
	STORE(0xdb, 2, 4),
	STORE(0xdb, 3, 4),
	LOAD(0xdb, 5, 10),
	STORE(0xdb, 7, 10),
	LOAD(0xdd, 0, 8),
	STORE(0xdd, 1, 8),
	STORE(0xdd, 2, 8),
	STORE(0xdd, 3, 8),
	LOAD(0xdf, 0, 2),
	STORE(0xdf, 1, 2),
	STORE(0xdf, 2, 2),
	STORE(0xdf, 3, 2),
	LOAD(0xdf, 4, 10),
	LOAD(0xdf, 5, 8),
	STORE(0xdf, 6, 10),
	STORE(0xdf, 7, 8),
	REGS(0xd8, 0, 0, 0),
	REGS(0xd9, 0, 0, 0),
	REGS(0xda, 1 + 0, C, 0), /* FCMOVcc */
	REGS(0xda, 1 + 1, Z, 0),
	REGS(0xda, 1 + 2, C | Z, 0),
	REGS(0xda, 1 + 3, P, 0),
	REGS(0xda, 1 + 5, 0, 0),
	REGS(0xdb, 1 + 0, C, 0),
	REGS(0xdb, 1 + 1, Z, 0),
	REGS(0xdb, 1 + 2, C | Z, 0),
	REGS(0xdb, 1 + 3, P, 0),
	REGS(0xdb, 1 + 5, 0, JIT_F_ALL), /* FUCOMI, FCOMI */
	REGS(0xdb, 1 + 6, 0, JIT_F_ALL),
	REGS(0xdc, 0, 0, 0),
	REGS(0xdd, 0, 0, 0),
	REGS(0xde, 0, 0, 0),
	REGS(0xdf, 1 + 5, 0, JIT_F_ALL), /* FUCOMIP, FCOMIP */
	REGS(0xdf, 1 + 6, 0, JIT_F_ALL),
	REGS(0xdf, 0, 0, 0),
	MMX(0F, 0x60, 3, FULL, 4),
	MMX(0F, 0x63, 9, FULL, 8),
	MMX(0F, 0x6e, 1, FROM, 0),
	MMX(0F, 0x6f, 2, FULL, 8), /* MOVQ, PSHUFW */
	SHIFTS(0x71),
	SHIFTS(0x72),
	SHIFTS(0x73),
	MMX(0F, 0x74, 3, FULL, 8),
	{ X86_MAP_0F, 0x77, 1, X86_PFX_NONE, 0, JIT_FIXED, 0, 0, 0, 0, emms },
	MMX(0F, 0x7e, 1, JIT_XMM_REG | JIT_RM_W, 0),
	MMX(0F, 0x7f, 1, V | JIT_RM_W | JIT_REG_R, 8),
	MMX(0F, 0xc4, 1, FROM, 2),
	MMX(0F, 0xc5, 1, OUT, 0),
	MMX(0F, 0xd1, 5, FULL, 8),
	MMX(0F, 0xd7, 1, OUT, 0),
	MMX(0F, 0xd8, 14, FULL, 8),
	MMX(0F, 0xe7, 1, V | JIT_RM_W | JIT_REG_R, 8),
	MMX(0F, 0xe8, 8, FULL, 8),
	MMX(0F, 0xf1, 6, FULL, 8),
	MMX(0F, 0xf8, 7, FULL, 8),
	MMX(0F38, 0x00, 12, FULL, 8),
	MMX(0F38, 0x1c, 3, FULL, 8),
	MMX(0F3A, 0x0f, 1, FULL, 8),
};

const struct jit_op *jit_x87_op(const struct x86_opdef *d, const struct x86_insn *i)
{
	static struct jit_op_table table = { .rows = rows, .count = ARRAY_LEN(rows) };

	return jit_op_find(&table, d, i);
}
