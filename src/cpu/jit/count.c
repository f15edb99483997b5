/* See count.h. Flags may be the guest's everywhere here, so sums are made by LEA. */
#include "cpu/jit/count.h"

#include "cpu/jit/profile.h"
#include "cpu/jit/translate.h"

static void add(struct emit *e, struct emit_mem sum, int n, unsigned scratch)
{
	emit_load(e, scratch, sum);
	emit_lea(e, scratch, emit_at(scratch, n));
	emit_store(e, sum, scratch);
}

bool jit_counts(const struct jit_tr *t)
{
	return t->counting || t->icount;
}

/* Less than 0 is left: the way out, with the charge taken back. Flags are looked at by nobody or stay. */
static void charge(struct jit_tr *t)
{
	struct emit_mem left = emit_gs(JIT_FIELD(cpu.icount_left));
	struct stub s = { .kind = STUB_OVERDRAWN };
	uint8_t *enough;

	add(&t->e, left, -(int)t->count, T0);
	emit_mov_imm(&t->e, T1, 63);
	emit_rr(&t->e, (struct emit_op){ .map = MAP_0F38, .pfx = 0xf2, .op = 0xf7, .vex = true, .w = true, .vreg = T1 },
		T0, T0); /* shrx */
	enough = emit_jrcxz(&t->e);
	s.jump = emit_jump(&t->e, EMIT_ALWAYS);
	emit_here8(&t->e, enough);
	jit_stub(t, s);
}

void jit_count_overdrawn(struct jit_tr *t)
{
	add(&t->e, emit_gs(JIT_FIELD(cpu.icount_left)), (int)t->count, T0);
	jit_call_noted(t, t->thunks->out[t->insn[0].need != 0], t->block_rip, 0, 0);
}

void jit_count_block(struct jit_tr *t)
{
	if (t->icount)
		charge(t);
	if (!t->counting)
		return;
	add(&t->e, emit_gs(t->icount ? JIT_FIELD(counts.charged) : JIT_FIELD(cpu.vcpu.instructions)), (int)t->count,
	    T0);
	if (!t->profile)
		return;
	emit_load(&t->e, T1, emit_gs(JIT_FIELD(runs)));
	add(&t->e, emit_at(T1, (int32_t)(sizeof(uint64_t) * jit_profile_next(t->profile))), 1, T0);
}

void jit_count_back(struct jit_tr *t, unsigned n)
{
	if (t->icount)
		add(&t->e, emit_gs(JIT_FIELD(cpu.icount_left)), (int)n, T0);
	if (t->counting)
		add(&t->e, emit_gs(t->icount ? JIT_FIELD(counts.charged) : JIT_FIELD(cpu.vcpu.instructions)), -(int)n,
		    T0);
}

void jit_count_access(struct jit_tr *t)
{
	if (!t->counting)
		return;
	add(&t->e, emit_gs(JIT_FIELD(counts.accesses)), 1, T1);
	t->held = 0;
}

void jit_count_undone(struct jit_tr *t, unsigned from)
{
	if (!jit_counts(t))
		return;
	emit_rm(&t->e, (struct emit_op){ .op = 0xc6 }, 0, emit_gs(JIT_FIELD(undone)));
	emit_bytes(&t->e, t->count - from, 1);
}
