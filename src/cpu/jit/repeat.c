/*
 * Strings with REP: they end a trace, but run in its block. MOVS and STOS go through the TLB page by page (quick.c);
 * what that cannot do, and the others, is done by the handler, a batch at a time.
 */
#include "base/shared.h"
#include "cpu/jit/translate.h"

/* What quick.c stored to a page that wants to hear of it. */
static void tell(struct jit_cpu *c)
{
	gpa_t at;

	if (c->stored_run && mem_address_of(c->cpu.mem, c->stored, &at))
		mem_written(c->cpu.mem, at, c->stored_run);
	c->stored_run = 0;
}

int jit_repeat(struct jit_cpu *c, const struct jit_site *site)
{
	unsigned flushes = jit_cache_flushes(jit_cache_of(&c->cpu));
	uint64_t key = c->cpu.fetch_key;

	shared_arrived(jit_cache_of(&c->cpu));
	/* Copied: as in jit_handle(). */
	const struct x86_insn insn[2] = { site->insn[0], site->insn[1] };
	const struct jit_block *b = site->block;
	struct x86_cpu *cpu = &c->cpu;
	uint64_t rip = site->rip;

	tell(c);
	jit_flags_to_lazy(c);
	cpu->s.gpr[X86_RIP] = rip;
	jit_count_begin(c, site);
	do
		insn[0].fn(cpu, insn);
	while (cpu->s.gpr[X86_RIP] == rip && !x86_news(cpu));
	jit_count_end(c, rip);
	jit_flags_from_lazy(c);
	/* The string may have been to a device that puts other memory where the code is. */
	return cpu->s.gpr[X86_RIP] == rip || key != cpu->fetch_key || jit_over(c, b, flushes);
}

void jit_string(struct jit_tr *t)
{
	const struct jit_insn *n = now(t);
	const struct x86_insn *i = n->i;
	bool byte = n->def->flags & X86_D_BYTE_RM || !(i->op & 1);
	unsigned kind = i->op & ~1u;
	uint8_t *done = NULL;
	struct jit_site *site;

	if (!(i->flags & (X86_I_REP | X86_I_REPNE))) {
		jit_by_handler(t);
		return;
	}
	site = jit_make_site(t);
	if (!site)
		return;
	site->insn[0].flags |= X86_I_BATCH;
	jit_flags_away(t, n->need);
	if (usual_address(t) && ((kind == 0xa4 && i->seg < X86_FS && i->seg != X86_CS) || kind == 0xaa)) {
		emit_mov_imm(&t->e, T1, byte ? 1 : i->opsize);
		emit_call(&t->e, kind == 0xa4 ? t->thunks->quick_movs : t->thunks->quick_stos);
		emit_rr(&t->e, (struct emit_op){ .op = 0x85 }, T0, T0);
		done = emit_jump(&t->e, 4);
	}
	emit_mov_imm(&t->e, T1, (uintptr_t)site);
	emit_call(&t->e, t->thunks->repeat);
	if (done)
		emit_here(&t->e, done);
	t->flags = FLAGS_MEMORY;
}
