/*
 * PUSH, POP and LEAVE of the usual size: 64 bits, or 32 in 32-bit code, where the stack is that wide too. RSP moves
 * when the access has been found good.
 */
#include "cpu/jit/translate.h"

static bool odd_size(struct jit_tr *t)
{
	if (now(t)->i->opsize == t->word)
		return false;
	jit_by_handler(t);
	return true;
}

/* `to` = `from` + n, as far as an address goes. */
static void move_by(struct jit_tr *t, unsigned to, unsigned from, int n)
{
	if (n)
		emit_rm(&t->e, jit_word_op(t, 0x8d), to, emit_at(from, n));
	else
		emit_rr(&t->e, jit_word_op(t, 0x89), from, to);
}

/* Flags that matter are saved, if looking where the stack is loses them. */
static void flags_away(struct jit_tr *t)
{
	if (!jit_reached(t))
		jit_flags_away(t, now(t)->need);
}

static struct jit_reach reach_push(struct jit_tr *t, bool t1_free)
{
	return jit_reach_stack(t, -(int)t->word, JIT_STORE, t1_free);
}

/* `host` is T1: what is pushed is in jit_cpu.pushed. `rip` is next. */
static void push_host(struct jit_tr *t, unsigned host, uint64_t rip)
{
	struct jit_reach to = reach_push(t, host != T1);

	if (host == T1) {
		if (!to.shared)
			emit_store(&t->e, emit_gs(JIT_FIELD(index)), T1);
		emit_load(&t->e, T1, emit_gs(JIT_FIELD(pushed)));
	}
	emit_rm(&t->e, jit_word_op(t, 0x89), host, emit_at(to.base, (int32_t)to.at));
	move_by(t, GUEST_RSP, GUEST_RSP, -(int)t->word);
	if (host == T1 && !to.shared)
		emit_load(&t->e, T1, emit_gs(JIT_FIELD(index)));
	jit_stored_there(t, to, rip);
}

void jit_push_reg(struct jit_tr *t)
{
	unsigned r = now(t)->i->rm;

	if (odd_size(t))
		return;
	flags_away(t);
	if (jit_home[r] == NO_REG) {
		emit_load(&t->e, T1, emit_gs(JIT_GPR(r)));
		emit_store(&t->e, emit_gs(JIT_FIELD(pushed)), T1);
		push_host(t, T1, next_rip(t));
	} else {
		push_host(t, jit_home[r], next_rip(t));
	}
}

void jit_push_imm(struct jit_tr *t)
{
	if (odd_size(t))
		return;
	jit_push_value(t, now(t)->i->imm, next_rip(t));
}

void jit_push_value(struct jit_tr *t, uint64_t v, uint64_t rip)
{
	const bool is_short = t->word == 4 || v == (uint64_t)(int64_t)(int32_t)v;
	struct jit_reach to;

	flags_away(t);
	to = reach_push(t, is_short);
	if (is_short) {
		emit_rm(&t->e, jit_word_op(t, 0xc7), 0, emit_at(to.base, (int32_t)to.at));
		emit_bytes(&t->e, v, 4);
	} else {
		if (!to.shared)
			emit_store(&t->e, emit_gs(JIT_FIELD(index)), T1);
		emit_mov_imm(&t->e, T1, v);
		emit_store(&t->e, emit_at(T0, (int32_t)to.at), T1);
		if (!to.shared)
			emit_load(&t->e, T1, emit_gs(JIT_FIELD(index)));
	}
	move_by(t, GUEST_RSP, GUEST_RSP, -(int)t->word);
	jit_stored_there(t, to, rip);
}

void jit_push_mem(struct jit_tr *t)
{
	if (odd_size(t))
		return;
	jit_flags_away(t, now(t)->need);
	jit_operand(t, t->word, JIT_LOAD);
	emit_rm(&t->e, jit_word_op(t, 0x8b), T0, emit_at(T0, 0));
	emit_store(&t->e, emit_gs(JIT_FIELD(pushed)), T0);
	push_host(t, T1, next_rip(t));
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
	push_host(t, T1, next_rip(t));
}

void jit_pop_reg(struct jit_tr *t)
{
	unsigned r = now(t)->i->rm;
	struct jit_reach from;

	if (odd_size(t))
		return;
	flags_away(t);
	from = jit_reach_stack(t, 0, JIT_LOAD, true);
	/* POP RSP: what was loaded wins. */
	move_by(t, GUEST_RSP, GUEST_RSP, (int)t->word);
	if (jit_home[r] != NO_REG) {
		emit_rm(&t->e, jit_word_op(t, 0x8b), jit_home[r], emit_at(from.base, (int32_t)from.at));
		return;
	}
	emit_load(&t->e, T0, emit_at(from.base, (int32_t)from.at));
	jit_put(t, r, T0);
}

void jit_leave(struct jit_tr *t)
{
	if (odd_size(t))
		return;
	jit_flags_away(t, now(t)->need);
	move_by(t, T0, RBP, 0);
	jit_probe(t, t->word, JIT_LOAD);
	move_by(t, GUEST_RSP, RBP, (int)t->word);
	emit_rm(&t->e, jit_word_op(t, 0x8b), RBP, emit_at(T0, 0));
}
