/* Instructions that translate to themselves, on other registers. */
#include "cpu/jit/translate.h"

unsigned jit_get(struct jit_tr *t, unsigned r, unsigned scratch)
{
	if (jit_home[r] != NO_REG)
		return jit_home[r];
	emit_load(&t->e, scratch, emit_gs(JIT_GPR(r)));
	return scratch;
}

void jit_put(struct jit_tr *t, unsigned r, unsigned host)
{
	if (jit_home[r] == NO_REG)
		emit_store(&t->e, emit_gs(JIT_GPR(r)), host);
	else
		emit_mov(&t->e, jit_home[r], host);
}

/* What to write for the instruction, but for its registers. */
static struct emit_op same(const struct jit_tr *t)
{
	static const uint8_t prefix[] = { [X86_PFX_66] = 0x66, [X86_PFX_F3] = 0xf3, [X86_PFX_F2] = 0xf2 };
	const struct jit_insn *n = now(t);
	const struct x86_opdef *d = n->def;
	bool vex = d->map >= X86_MAP_VEX_0F, gpr = !vex && !(n->op->what & (JIT_FIXED | JIT_XMM_REG | JIT_XMM_RM));
	struct emit_op o = {
		.map = vex ? d->map - X86_MAP_VEX_0F + MAP_0F : d->map,
		.pfx = prefix[d->pfx],
		.op = n->i->op,
		/* Outside of 64-bit code W only chooses between instructions. */
		.w = gpr ? n->i->opsize == 8 : n->i->flags & X86_I_WIDE || d->flags & X86_D_W1,
		.osize = gpr && n->i->opsize == 2,
		.lock = n->i->flags & X86_I_LOCK,
		.vex = vex,
		.l = n->i->flags & X86_I_VEX256,
	};

	/* Of SETcc and the like the prefixes are of no consequence. */
	if (n->op->what & JIT_FIXED)
		o.w = false;
	return o;
}

static void immediate(struct jit_tr *t)
{
	const struct x86_insn *i = now(t)->i;

	switch (now(t)->def->imm) {
	case X86_IMM_8:
	case X86_IMM_U8:
		emit_bytes(&t->e, now(t)->def->stub[0] || now(t)->def->stub[1] ? i->ib : i->imm, 1);
		break;
	case X86_IMM_IS4:
		emit_bytes(&t->e, (unsigned)i->ib << 4, 1);
		break;
	case X86_IMM_Z:
		emit_bytes(&t->e, i->imm, i->opsize == 2 ? 2 : 4);
		break;
	default:
		break;
	}
}

/* A register operand as the host's instruction has it. */
struct operand {
	unsigned guest; /* NO_REG: not a general register */
	unsigned host;
	bool high;
};

static bool is_ch(const struct operand *o)
{
	return o->high && o->guest == X86_RCX;
}

static struct operand choose(unsigned r, bool byte, bool vector, unsigned scratch)
{
	struct operand o = { r, r, false };

	if (vector) {
		o.guest = NO_REG;
		return o;
	}
	if (byte) {
		o.high = r & 1;
		o.guest = r >> 3;
	}
	/* It has an encoding where RCX is for a moment in itself. */
	if (is_ch(&o)) {
		o.host = RCX;
		return o;
	}
	o.host = jit_home[o.guest] == NO_REG ? scratch : jit_home[o.guest];
	return o;
}

/* AH, CH, DH and BH can be named only by themselves and beside the first registers. */
static bool can_be_high(const struct operand *o)
{
	return o->guest < 4;
}

static bool is_low(const struct operand *o, bool byte)
{
	return o->host < 4 || (o->host < 8 && !byte);
}

/* Is there a way to write it? */
static bool expressible(const struct emit_op *e, const struct operand *reg, const struct operand *rm)
{
	if (!reg->high && !rm->high)
		return true;
	return !e->w && (!reg->high || can_be_high(reg)) && (!rm->high || can_be_high(rm)) &&
	       (reg->high || is_low(reg, e->byte_reg)) && (rm->high || is_low(rm, e->byte_rm));
}

static void get_operand(struct jit_tr *t, const struct operand *o)
{
	if (o->guest != NO_REG && jit_home[o->guest] == NO_REG)
		emit_load(&t->e, o->host, emit_gs(JIT_GPR(o->guest)));
	else if (o->guest != NO_REG)
		emit_mov(&t->e, o->host, jit_home[o->guest]);
}

static void put_operand(struct jit_tr *t, const struct operand *o)
{
	if (o->guest != NO_REG && jit_home[o->guest] == NO_REG)
		emit_store(&t->e, emit_gs(JIT_GPR(o->guest)), o->host);
	else if (o->guest != NO_REG)
		emit_mov(&t->e, jit_home[o->guest], o->host);
}

static unsigned code_of(const struct operand *o)
{
	return o->high ? o->host + 4 : o->host;
}

unsigned jit_memory_size(const struct jit_insn *n)
{
	if (n->op->what & JIT_PAIR)
		return n->i->opsize == 8 ? 16 : 8;
	if (n->op->what & JIT_LONG && n->i->flags & X86_I_VEX256)
		return 2 * n->op->mem;
	return n->op->mem ? n->op->mem : n->def->flags & X86_D_BYTE_RM ? 1 : n->i->opsize;
}

static void misaligned(struct jit_tr *t, unsigned size)
{
	emit_rr(&t->e, (struct emit_op){ .op = 0xf6 }, 0, T0);
	emit_bytes(&t->e, size - 1, 1);
	jit_stub(t, (struct stub){ .kind = STUB_INTERPRET, .jump = emit_jump(&t->e, 5), .rip = now(t)->rip });
}

static void get_vvvv(struct jit_tr *t, const struct emit_op *e)
{
	if (now(t)->op->what & JIT_VVVV && e->vreg == T1)
		emit_load(&t->e, T1, emit_gs(JIT_GPR(now(t)->i->vreg)));
}

/* Before ModRM.reg, which wins if it is the same. */
static void put_vvvv(struct jit_tr *t, const struct emit_op *e)
{
	if (now(t)->op->what & JIT_VVVV_W && e->vreg == T0)
		emit_store(&t->e, emit_gs(JIT_GPR(now(t)->i->vreg)), T0);
}

static void on_registers(struct jit_tr *t, struct emit_op e, struct operand reg, struct operand rm)
{
	uint32_t what = now(t)->op->what;

	jit_flags_ready(t, true);
	get_vvvv(t, &e);
	if (what & (JIT_RM_R | JIT_RM_W))
		get_operand(t, &rm);
	if (what & JIT_REG_R || (what & JIT_REG_W && !(what & JIT_VVVV)))
		get_operand(t, &reg);
	if (what & JIT_CL)
		emit_mov(&t->e, RCX, jit_home[X86_RCX]);
	emit_rr(&t->e, e, what & JIT_GROUP ? now(t)->i->modrm >> 3 & 7 : code_of(&reg), code_of(&rm));
	immediate(t);
	put_vvvv(t, &e);
	/* In this order for XADD of a register with itself. */
	if (what & JIT_REG_W)
		put_operand(t, &reg);
	if (what & JIT_RM_W)
		put_operand(t, &rm);
	jit_flags_done(t);
	if (reg.host != T1 && rm.host != T1 && !(e.vex && e.vreg == T1))
		t->holds = t->held;
}

static void on_memory(struct jit_tr *t, struct emit_op e, struct operand reg)
{
	const struct jit_insn *n = now(t);
	uint32_t what = n->op->what, size = jit_memory_size(n), base;
	struct jit_reach where;
	bool write = what & JIT_RM_W, uses_t1 = reg.host == T1 && reg.guest != NO_REG && !(what & JIT_GROUP);
	enum jit_access how = !write ? JIT_LOAD : what & JIT_RM_R ? JIT_UPDATE : JIT_STORE;

	uses_t1 |= e.vex && e.vreg == T1 && what & JIT_VVVV;
	if (!jit_reached(t))
		jit_flags_away(t, now(t)->need);
	/* Before a page fault. */
	if (what & JIT_ALIGNED && size >= 16) {
		jit_linear(t, how);
		misaligned(t, size);
		jit_probe(t, size, how);
		where = (struct jit_reach){ T0, 0, false };
	} else {
		/* AH and its like have no encoding beside T1. */
		where = jit_reach(t, size, how, !uses_t1 && !reg.high);
	}
	base = where.base;
	if (write && !where.shared && (uses_t1 || what & JIT_CL))
		emit_store(&t->e, emit_gs(JIT_FIELD(index)), T1);
	if (what & JIT_CL) {
		base = T1;
		emit_mov(&t->e, T1, T0);
		emit_mov(&t->e, RCX, jit_home[X86_RCX]);
	}
	get_vvvv(t, &e);
	if (what & JIT_REG_R || (what & JIT_REG_W && !(what & JIT_VVVV)))
		get_operand(t, &reg);
	jit_flags_ready(t, false);
	emit_rm(&t->e, e, what & JIT_GROUP ? n->i->modrm >> 3 & 7u : code_of(&reg), emit_at(base, (int32_t)where.at));
	immediate(t);
	put_vvvv(t, &e);
	if (what & JIT_REG_W)
		put_operand(t, &reg);
	jit_flags_done(t);
	if (!write)
		return;
	if (what & JIT_CL)
		emit_mov(&t->e, T0, T1);
	if (!where.shared && (uses_t1 || what & JIT_CL))
		emit_load(&t->e, T1, emit_gs(JIT_FIELD(index)));
	jit_stored_there(t, where, next_rip(t));
}

/* From here on, and after whatever C does in between, vector registers are in the host's. */
static void vectors(struct jit_tr *t)
{
	struct stub s = { .kind = STUB_VECTORS, .rip = now(t)->rip };

	if (t->vectors)
		return;
	t->vectors = true;
	t->held = 0;
	jit_flags_away(t, now(t)->need);
	emit_rm(&t->e, (struct emit_op){ .op = 0x80 }, 7, emit_gs(JIT_FIELD(vec_live)));
	emit_bytes(&t->e, 0, 1);
	s.jump = emit_jump(&t->e, 4);
	s.back = emit_rx(&t->e);
	jit_stub(t, s);
	t->flags &= ~FLAGS_NATIVE;
}

void jit_vzero(struct jit_tr *t)
{
	vectors(t);
	emit_bytes(&t->e, now(t)->i->flags & X86_I_VEX256 ? 0x77fcc5 : 0x77f8c5, 3);
}

void jit_plain(struct jit_tr *t)
{
	const struct jit_insn *n = now(t);
	uint32_t what = n->op->what;
	bool mem = !(n->i->flags & X86_I_REG);
	struct emit_op e = same(t);
	struct operand reg = choose(n->i->reg, n->def->flags & X86_D_BYTE_REG, what & JIT_XMM_REG, T1);
	struct operand rm = choose(mem ? 0 : n->i->rm, !mem && n->def->flags & X86_D_BYTE_RM, what & JIT_XMM_RM,
				   what & JIT_CL ? T1 : T0);

	if (what & JIT_GROUP)
		reg = (struct operand){ NO_REG, 0, false };
	e.byte_reg = n->def->flags & X86_D_BYTE_REG && !(what & JIT_GROUP);
	e.byte_rm = n->def->flags & X86_D_BYTE_RM;
	e.high = reg.high || rm.high;
	if (e.vex && what & (JIT_XMM_REG | JIT_XMM_RM))
		e.vreg = n->i->vreg;
	else if (what & JIT_VVVV_W) /* T0 is free when it is written */
		e.vreg = (uint8_t)(jit_home[n->i->vreg] == NO_REG ? T0 : jit_home[n->i->vreg]);
	else if (what & JIT_VVVV)
		e.vreg = (uint8_t)(jit_home[n->i->vreg] == NO_REG ? T1 : jit_home[n->i->vreg]);
	if (mem)
		rm = (struct operand){ NO_REG, RCX, false };
	if (is_ch(&reg) && rm.guest == X86_RCX)
		rm.host = RCX;
	if (is_ch(&rm) && reg.guest == X86_RCX)
		reg.host = RCX;
	/* A shift by CL cannot have two registers in the one scratch register that is left. */
	if (!expressible(&e, &reg, &rm) || (is_ch(&reg) && (mem || (rm.host == T0 && rm.guest != X86_RCX))) ||
	    (what & JIT_CL && what & JIT_REG_R && (mem || rm.host == T1) && reg.host == T1)) {
		jit_by_handler(t);
		return;
	}
	if (what & JIT_MMX) {
		jit_x87_ready(t);
		t->held = 0;
	}
	if (!(what & JIT_MMX) && what & (JIT_XMM_REG | JIT_XMM_RM))
		vectors(t);
	if (mem) {
		on_memory(t, e, reg);
		return;
	}
	on_registers(t, e, reg, rm);
}

void jit_implied(struct jit_tr *t)
{
	const struct x86_insn *i = now(t)->i;

	jit_flags_ready(t, true);
	if (!(now(t)->op->what & JIT_FIXED)) {
		bool byte = now(t)->def->flags & X86_D_BYTE_RM;

		if (i->opsize == 2 && !byte)
			emit_bytes(&t->e, 0x66, 1);
		if (i->opsize == 8 && !byte)
			emit_bytes(&t->e, 0x48, 1);
	}
	emit_bytes(&t->e, i->op, 1);
	immediate(t);
	jit_flags_done(t);
	t->holds = t->held;
}

/* INC and DEC by opcodes that are REX prefixes on the host. */
void jit_inc_dec(struct jit_tr *t)
{
	const struct x86_insn *i = now(t)->i;

	jit_flags_ready(t, true);
	emit_rr(&t->e, (struct emit_op){ .op = 0xff, .osize = i->opsize == 2 }, i->op >> 3 & 1, jit_home[i->rm]);
	jit_flags_done(t);
}

void jit_nothing(struct jit_tr *t)
{
	t->holds = t->held;
}

/* The low bytes of `host`, for a guest register of `size` bytes. */
static void put_sized(struct jit_tr *t, unsigned r, unsigned host, unsigned size)
{
	struct operand o = choose(r, false, false, T1);

	if (size == 2)
		get_operand(t, &o);
	emit_rr(&t->e, (struct emit_op){ .op = 0x89, .w = size == 8, .osize = size == 2 }, host, o.host);
	put_operand(t, &o);
}

void jit_mov_imm(struct jit_tr *t)
{
	const struct x86_insn *i = now(t)->i;

	if (now(t)->def->flags & X86_D_BYTE_RM) {
		struct operand o = choose(i->rm, true, false, T0);
		struct emit_op e = { .op = 0xc6, .byte_rm = true, .high = o.high };

		if (o.high && !can_be_high(&o)) {
			jit_by_handler(t);
			return;
		}
		get_operand(t, &o);
		emit_rr(&t->e, e, 0, code_of(&o));
		emit_bytes(&t->e, i->imm, 1);
		put_operand(t, &o);
		return;
	}
	if (i->opsize == 2) {
		emit_mov_imm(&t->e, T0, (uint16_t)i->imm);
		put_sized(t, i->rm, T0, 2);
		return;
	}
	if (jit_home[i->rm] != NO_REG) {
		emit_mov_imm(&t->e, jit_home[i->rm], i->opsize == 4 ? (uint32_t)i->imm : i->imm);
		t->holds = t->held;
		return;
	}
	emit_mov_imm(&t->e, T0, i->opsize == 4 ? (uint32_t)i->imm : i->imm);
	jit_put(t, i->rm, T0);
}

/* MOV between the accumulator and an address that is all there is. */
void jit_mov_offset(struct jit_tr *t)
{
	const struct x86_insn *i = now(t)->i;
	bool byte = !(i->op & 1), store = i->op & 2;
	struct emit_op op = { .op = (uint8_t)((store ? 0x88 : 0x8a) | !byte) };
	enum jit_access how = store ? JIT_STORE : JIT_LOAD;

	op.w = !byte && i->opsize == 8;
	op.osize = !byte && i->opsize == 2;
	jit_flags_away(t, now(t)->need);
	emit_mov_imm(&t->e, T0, i->imm);
	jit_add_segment(t, how);
	jit_probe(t, byte ? 1 : i->opsize, how);
	emit_rm(&t->e, op, RAX, emit_at(T0, 0));
	if (store)
		jit_stored_to(t, next_rip(t));
}

void jit_xchg_acc(struct jit_tr *t)
{
	const struct x86_insn *i = now(t)->i;
	struct operand o = choose(i->rm, false, false, T0);

	/* 90 is no operation even where an exchange would clear the upper half. */
	if (i->rm == X86_RAX)
		return;
	get_operand(t, &o);
	emit_rr(&t->e, (struct emit_op){ .op = 0x87, .w = i->opsize == 8, .osize = i->opsize == 2 }, RAX, o.host);
	put_operand(t, &o);
}

void jit_bswap(struct jit_tr *t)
{
	const struct x86_insn *i = now(t)->i;
	struct operand o = choose(i->rm, false, false, T0);

	if (i->opsize == 2) {
		jit_by_handler(t);
		return;
	}
	get_operand(t, &o);
	emit_bytes(&t->e, 0x40u | (i->opsize == 8 ? 8u : 0) | o.host >> 3, 1);
	emit_bytes(&t->e, 0xc80f + ((o.host & 7) << 8), 2);
	put_operand(t, &o);
}

void jit_lea(struct jit_tr *t)
{
	const struct x86_insn *i = now(t)->i;

	if (i->opsize != 2 && jit_home[i->reg] != NO_REG) {
		jit_address(t, jit_home[i->reg], i->opsize == 8);
		if (i->index == X86_NOREG || jit_home[i->index] != NO_REG)
			t->holds = t->held;
		return;
	}
	jit_address(t, T0, i->opsize == 8);
	if (i->opsize == 2)
		put_sized(t, i->reg, T0, 2);
	else
		jit_put(t, i->reg, T0);
}
