/* See count.h. Flags may be the guest's everywhere here, so sums are made by LEA. */
#include "cpu/jit/count.h"

#include "cpu/jit/profile.h"
#include "cpu/jit/translate.h"

static void add(struct emit *e, struct emit_mem sum, unsigned n, unsigned scratch)
{
	emit_load(e, scratch, sum);
	emit_lea(e, scratch, emit_at(scratch, (int32_t)n));
	emit_store(e, sum, scratch);
}

void jit_count_block(struct jit_tr *t)
{
	if (!t->counting)
		return;
	add(&t->e, emit_gs(JIT_FIELD(cpu.vcpu.instructions)), t->count, T0);
	if (!t->profile)
		return;
	emit_load(&t->e, T1, emit_gs(JIT_FIELD(runs)));
	add(&t->e, emit_at(T1, (int32_t)(sizeof(uint64_t) * jit_profile_next(t->profile))), 1, T0);
}

void jit_count_access(struct jit_tr *t)
{
	if (t->counting)
		add(&t->e, emit_gs(JIT_FIELD(counts.accesses)), 1, T1);
}

void jit_count_undone(struct jit_tr *t, unsigned from)
{
	if (!t->counting)
		return;
	emit_rm(&t->e, (struct emit_op){ .op = 0xc6 }, 0, emit_gs(JIT_FIELD(undone)));
	emit_bytes(&t->e, t->count - from, 1);
}
