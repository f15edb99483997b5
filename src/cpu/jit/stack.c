/* PUSH, POP and LEAVE of 64 bits. RSP moves when the access has been found good. */
#include "cpu/jit/translate.h"

static bool odd_size(struct jit_tr *t)
{
	if (now(t)->i->opsize == 8)
		return false;
	jit_by_handler(t);
	return true;
}

static void push_host(struct jit_tr *t, unsigned host)
{
	emit_lea(&t->e, T0, emit_at(GUEST_RSP, -8));
	jit_probe(t, 8, JIT_STORE);
	if (host == T1) {
		emit_store(&t->e, emit_gs(JIT_FIELD(index)), T1);
		emit_load(&t->e, T1, emit_gs(JIT_FIELD(pushed)));
	}
	emit_store(&t->e, emit_at(T0, 0), host);
	emit_lea(&t->e, GUEST_RSP, emit_at(GUEST_RSP, -8));
	if (host == T1)
		emit_load(&t->e, T1, emit_gs(JIT_FIELD(index)));
}

void jit_push_reg(struct jit_tr *t)
{
	unsigned r = now(t)->i->rm;

	if (odd_size(t))
		return;
	jit_flags_away(t, now(t)->need);
	if (jit_home[r] == NO_REG) {
		emit_load(&t->e, T1, emit_gs(JIT_GPR(r)));
		emit_store(&t->e, emit_gs(JIT_FIELD(pushed)), T1);
		push_host(t, T1);
	} else {
		push_host(t, jit_home[r]);
	}
	jit_stored_to(t, next_rip(t));
}

void jit_push_imm(struct jit_tr *t)
{
	if (odd_size(t))
		return;
	jit_flags_away(t, now(t)->need);
	jit_push_value(t, now(t)->i->imm);
	jit_stored_to(t, next_rip(t));
}

/* A value that is known. */
void jit_push_value(struct jit_tr *t, uint64_t v)
{
	emit_lea(&t->e, T0, emit_at(GUEST_RSP, -8));
	jit_probe(t, 8, JIT_STORE);
	if (v == (uint64_t)(int64_t)(int32_t)v) {
		emit_rm(&t->e, (struct emit_op){ .op = 0xc7, .w = true }, 0, emit_at(T0, 0));
		emit_bytes(&t->e, v, 4);
	} else {
		emit_store(&t->e, emit_gs(JIT_FIELD(index)), T1);
		emit_mov_imm(&t->e, T1, v);
		emit_store(&t->e, emit_at(T0, 0), T1);
		emit_load(&t->e, T1, emit_gs(JIT_FIELD(index)));
	}
	emit_lea(&t->e, GUEST_RSP, emit_at(GUEST_RSP, -8));
}

void jit_push_mem(struct jit_tr *t)
{
	if (odd_size(t))
		return;
	jit_flags_away(t, now(t)->need);
	jit_operand(t, 8, JIT_LOAD);
	emit_load(&t->e, T0, emit_at(T0, 0));
	emit_store(&t->e, emit_gs(JIT_FIELD(pushed)), T0);
	push_host(t, T1);
	jit_stored_to(t, next_rip(t));
}

/* VM and RF read as 0. */
void jit_pushf(struct jit_tr *t)
{
	if (odd_size(t))
		return;
	jit_flags_away(t, JIT_F_ALL);
	emit_rm(&t->e, (struct emit_op){ .map = MAP_0F, .op = 0xb6 }, T1, emit_gs(JIT_FIELD(flags) + 1));
	emit_rm(&t->e, (struct emit_op){ .map = MAP_0F, .op = 0xb6 }, T0, emit_gs(JIT_FIELD(flags)));
	emit_rr(&t->e, (struct emit_op){ .op = 0xc1 }, 4, T0);
	emit_bytes(&t->e, 11, 1);
	emit_rr(&t->e, (struct emit_op){ .op = 0x09 }, T0, T1);
	emit_rm(&t->e, (struct emit_op){ .op = 0x8b }, T0, emit_gs(JIT_FIELD(cpu.s.rflags)));
	emit_rr(&t->e, (struct emit_op){ .op = 0x81 }, 4, T0);
	emit_bytes(&t->e, (uint32_t) ~(X86_ARITH | X86_VM | X86_RF), 4);
	emit_rr(&t->e, (struct emit_op){ .op = 0x09 }, T0, T1);
	t->flags &= ~FLAGS_NATIVE;
	emit_store(&t->e, emit_gs(JIT_FIELD(pushed)), T1);
	push_host(t, T1);
	jit_stored_to(t, next_rip(t));
}

void jit_pop_reg(struct jit_tr *t)
{
	unsigned r = now(t)->i->rm;

	if (odd_size(t))
		return;
	jit_flags_away(t, now(t)->need);
	emit_mov(&t->e, T0, GUEST_RSP);
	jit_probe(t, 8, JIT_LOAD);
	/* POP RSP: what was loaded wins. */
	emit_lea(&t->e, GUEST_RSP, emit_at(GUEST_RSP, 8));
	if (jit_home[r] != NO_REG) {
		emit_load(&t->e, jit_home[r], emit_at(T0, 0));
		return;
	}
	emit_load(&t->e, T0, emit_at(T0, 0));
	jit_put(t, r, T0);
}

void jit_leave(struct jit_tr *t)
{
	if (odd_size(t))
		return;
	jit_flags_away(t, now(t)->need);
	emit_mov(&t->e, T0, RBP);
	jit_probe(t, 8, JIT_LOAD);
	emit_lea(&t->e, GUEST_RSP, emit_at(RBP, 8));
	emit_load(&t->e, RBP, emit_at(T0, 0));
}
