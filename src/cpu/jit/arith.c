/* Integer instructions that are not quite themselves on other registers: divisions, bit strings, BLSI and its like. */
#include "cpu/jit/translate.h"

/* What the host's instruction on an operand of `size` bytes begins with. */
static struct emit_op sized(unsigned op, unsigned size)
{
	return (struct emit_op){ .op = (uint8_t)op, .w = size == 8, .osize = size == 2 };
}

/* --- divisions --- */

/* T0 = the memory operand, which is read once. Flags are lost. */
static void load_operand(struct jit_tr *t, unsigned size)
{
	jit_operand(t, size, JIT_LOAD);
	if (size < 4)
		emit_rm(&t->e, (struct emit_op){ .map = MAP_0F, .op = size == 1 ? 0xb6 : 0xb7 }, T0, emit_at(T0, 0));
	else
		emit_rm(&t->e, sized(0x8b, size), T0, emit_at(T0, 0));
}

static void load_register(struct jit_tr *t, unsigned size)
{
	unsigned r = now(t)->i->rm;
	struct emit_op movzx = { .map = MAP_0F, .op = 0xb6, .high = r & 1, .byte_rm = true };

	if (size > 1) {
		emit_mov(&t->e, T0, jit_get(t, r, T0));
		return;
	}
	emit_mov(&t->e, T0, jit_get(t, r >> 3, T0));
	emit_rr(&t->e, movzx, T0, r & 1 ? T0 + 4 : T0);
}

/*
 * Divide by T0, which faults on the host if the quotient has no room: then, and where it is not plain that it has, the
 * handler does it. Signed: a dividend of the quotient's size and a divisor other than 0 and -1 are plain.
 */
static void divide(struct jit_tr *t, unsigned size, bool is_signed)
{
	uint8_t *odd[2] = { NULL, NULL }, *done;

	if (size == 1) {
		emit_rr(&t->e, (struct emit_op){ .op = 0x38, .high = true }, T0, RSP); /* cmp ah, cl */
		odd[0] = emit_jump(&t->e, 3);
	} else if (is_signed) {
		emit_mov(&t->e, T1, RAX);
		emit_rr(&t->e, sized(0xc1, size), 7, T1);
		emit_bytes(&t->e, 8 * size - 1, 1);
		emit_rr(&t->e, sized(0x39, size), T1, RDX);
		odd[0] = emit_jump(&t->e, 5);
		emit_lea(&t->e, T1, emit_at(T0, 1));
		emit_rr(&t->e, sized(0x83, size), 7, T1);
		emit_bytes(&t->e, 1, 1);
		odd[1] = emit_jump(&t->e, 6);
	} else {
		emit_rr(&t->e, sized(0x39, size), T0, RDX);
		odd[0] = emit_jump(&t->e, 3);
	}
	emit_rr(&t->e, size == 1 ? (struct emit_op){ .op = 0xf6 } : sized(0xf7, size), is_signed ? 7 : 6, T0);
	done = emit_jump(&t->e, EMIT_ALWAYS);
	emit_here(&t->e, odd[0]);
	if (odd[1])
		emit_here(&t->e, odd[1]);
	jit_by_handler(t);
	emit_here(&t->e, done);
}

/* Flags, which are undefined then, stay: as the handler has it. */
void jit_div(struct jit_tr *t)
{
	const struct jit_insn *n = now(t);
	unsigned size = n->def->flags & X86_D_BYTE_RM ? 1 : n->i->opsize;
	bool is_signed = (n->i->modrm >> 3 & 7) == 7;

	if (is_signed && size == 1) {
		jit_by_handler(t);
		return;
	}
	jit_flags_away(t, n->need);
	t->flags &= ~FLAGS_NATIVE;
	if (n->i->flags & X86_I_REG)
		load_register(t, size);
	else
		load_operand(t, size);
	divide(t, size, is_signed);
}

/* --- BT, BTS, BTR, BTC of memory by a register, which may lead far away from the operand's address --- */

/* T0 += what the register says, in elements. */
static void add_elements(struct jit_tr *t, unsigned size)
{
	unsigned log2 = size == 8 ? 3 : size == 4 ? 2 : 1, r = jit_get(t, now(t)->i->reg, T1);

	if (size == 8)
		emit_mov(&t->e, T1, r);
	else if (size == 4)
		emit_rr(&t->e, (struct emit_op){ .op = 0x63, .w = true }, T1, r);
	else
		emit_rr(&t->e, (struct emit_op){ .map = MAP_0F, .op = 0xbf, .w = true }, T1, r);
	emit_rr(&t->e, sized(0xc1, 8), 7, T1);
	emit_bytes(&t->e, 3 + log2, 1);
	emit_rm(&t->e, jit_word_op(t, 0x8d), T0, (struct emit_mem){ .base = T0, .index = T1, .scale = (uint8_t)log2 });
}

void jit_bit_string(struct jit_tr *t)
{
	const struct x86_insn *i = now(t)->i;
	unsigned size = i->opsize;
	bool write = now(t)->op->what & JIT_RM_W;
	enum jit_access how = write ? JIT_UPDATE : JIT_LOAD;
	struct emit_op op = sized(i->op, size);

	if (!usual_address(t)) {
		jit_by_handler(t);
		return;
	}
	op.map = MAP_0F;
	op.lock = i->flags & X86_I_LOCK;
	jit_flags_away(t, now(t)->need);
	jit_linear(t, how);
	add_elements(t, size);
	jit_probe(t, size, how);
	if (!write) {
		emit_rm(&t->e, sized(0x8b, size), T1, emit_at(T0, 0));
		jit_flags_ready(t, false);
		emit_rr(&t->e, op, jit_get(t, i->reg, T0), T1);
		jit_flags_done(t);
		return;
	}
	emit_store(&t->e, emit_gs(JIT_FIELD(index)), T1);
	emit_mov(&t->e, T1, jit_get(t, i->reg, T1));
	emit_rr(&t->e, (struct emit_op){ .op = 0x83 }, 4, T1);
	emit_bytes(&t->e, 8 * size - 1, 1);
	jit_flags_ready(t, false);
	emit_rm(&t->e, op, T1, emit_at(T0, 0));
	jit_flags_done(t);
	emit_load(&t->e, T1, emit_gs(JIT_FIELD(index)));
	jit_stored_to(t, next_rip(t));
}

/* --- BLSR, BLSMSK, BLSI: VEX.vvvv is written --- */

void jit_bls(struct jit_tr *t)
{
	const struct x86_insn *i = now(t)->i;
	unsigned to = jit_home[i->vreg] == NO_REG ? T1 : jit_home[i->vreg], ext = i->modrm >> 3 & 7;
	struct emit_op op = { .map = MAP_0F38, .op = 0xf3, .vex = true, .w = i->opsize == 8, .vreg = (uint8_t)to };

	if (i->flags & X86_I_REG) {
		emit_rr(&t->e, op, ext, jit_get(t, i->rm, T0));
	} else {
		jit_flags_away(t, now(t)->need);
		jit_operand(t, i->opsize, JIT_LOAD);
		emit_rm(&t->e, op, ext, emit_at(T0, 0));
	}
	jit_flags_done(t);
	jit_put(t, i->vreg, to);
}
