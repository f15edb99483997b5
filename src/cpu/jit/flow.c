/*
 * Where control goes after a block: to a known address by a jump that is filled in when the block there is known, and
 * that to another page looks first whether that is still the page it was; else by way of the vCPU's cache of targets.
 */
#include "cpu/jit/translate.h"

static struct emit_mem known(int32_t field)
{
	return (struct emit_mem){ .base = NO_REG, .index = T1, .scale = 2, .gs = true, .disp = field };
}

void jit_look_at_jump(struct emit *e)
{
	/* Four times the place: see jit_jump_place(). */
	emit_rr(e, (struct emit_op){ .map = MAP_0F3A, .pfx = 0xf2, .op = 0xf0, .vex = true }, T1, T0);
	emit_bytes(e, JIT_JUMP_FOLD, 1);
	emit_rr(e, (struct emit_op){ .op = 0x33 }, T1, T0);
	emit_rr(e, (struct emit_op){ .op = 0x81 }, 4, T1);
	emit_bytes(e, (JIT_JUMPS - 1) << 2, 4);
	emit_rm(e, (struct emit_op){ .op = 0x33, .w = true }, T0, emit_gs(JIT_FIELD(cpu.fetch_key)));
	emit_rm(e, (struct emit_op){ .op = 0x3b, .w = true }, T0, known(JIT_FIELD(jumps[0].tag)));
}
_Static_assert(sizeof(struct jit_jump) == 16, "the place is a multiple of it");

void jit_take_jump(struct emit *e)
{
	emit_rm(e, (struct emit_op){ .op = 0xff }, 4, known(JIT_FIELD(jumps[0].code)));
}

/*
 * Flags are where others look for them, T0 is the target. `s`: what to do if it is not found, and how far RSP moves;
 * NULL: the target is known to be canonical.
 */
static void jump_to_t0(struct jit_tr *t, struct stub *s)
{
	/* Else the bits that are wrong could make up for another key: tags tell targets apart that are canonical. */
	if (s && t->word == 8)
		jit_stub(t,
			 (struct stub){ .kind = STUB_INTERPRET, .jump = jit_unless_canonical(t), .rip = now(t)->rip });
	jit_look_at_jump(&t->e);
	if (s) {
		s->jump = emit_jump(&t->e, 5);
		jit_stub(t, *s);
		if (s->pop)
			emit_rm(&t->e, jit_word_op(t, 0x8d), GUEST_RSP, emit_at(GUEST_RSP, (int32_t)s->pop));
	} else {
		emit_jump_to(&t->e, 5, t->thunks->jump_missed);
	}
	jit_take_jump(&t->e);
}

/*
 * If condition `cc` holds, within the page: a jump that for now leads to its way out. Displacements are aligned, so
 * that they change at once for all processors.
 */
static void link(struct jit_tr *t, uint64_t rip, unsigned cc)
{
	struct stub s = { .kind = STUB_LINK, .rip = rip, .flags_native = t->flags == FLAGS_NATIVE };

	emit_align(&t->e, 4, cc == EMIT_ALWAYS ? 1 : 2);
	s.jump = emit_jump(&t->e, cc);
	s.back = emit_rx(&t->e);
	s.access = t->flags & FLAGS_NATIVE ? JIT_LINK_FLAGS : 0;
	jit_stub(t, s);
}

static bool is_far(const struct jit_tr *t, uint64_t rip)
{
	return (rip ^ t->block->rip) & ~X86_PAGE_MASK;
}

static bool is_back(const struct jit_tr *t, uint64_t rip)
{
	return rip <= now(t)->rip;
}

/*
 * Does the block there overwrite all flags before it looks at any? Known only of one in the same page, which is given
 * up together with this one.
 */
static bool flags_dead_at(const struct jit_tr *t, uint64_t rip)
{
	struct jit_block want = { .place = (t->block->place & ~X86_PAGE_MASK) | (rip & X86_PAGE_MASK),
				  .rip = rip,
				  .mode = t->mode,
				  .second = JIT_ONE_PAGE };
	const struct jit_block *b;

	/* Behind STAC and CLAC it is another block that is gone to. */
	if (is_far(t, rip) || t->view != (t->mode & X86_FETCH_VIEW))
		return false;
	if (rip == t->block_rip)
		return !t->alone && !t->insn[0].need;
	b = jit_table_find(jit_cache_table(t->cache), &want);
	return b && !b->memory;
}

/* A jump that is taken if there is news. The host's flags are lost. */
static uint8_t *jump_if_news(struct jit_tr *t)
{
	emit_rm(&t->e, (struct emit_op){ .op = 0x83 }, 7, emit_gs(JIT_FIELD(cpu.vcpu.events)));
	emit_bytes(&t->e, 0, 1);
	t->flags &= ~FLAGS_NATIVE;
	return emit_jump(&t->e, 5);
}

/*
 * Before a jump to `rip` that may close a loop: out if there is news. All loops have one that leads backwards or is
 * indirect. If flags are in the host's and may be looked at they stay, and T0 is used.
 */
static void look_for_news(struct jit_tr *t, uint64_t rip)
{
	struct stub s = { .kind = STUB_NEWS, .rip = rip, .flags_native = t->flags == FLAGS_NATIVE };

	if (t->flags & FLAGS_NATIVE && !flags_dead_at(t, rip)) {
		uint8_t *none;

		emit_rm(&t->e, (struct emit_op){ .op = 0x8b }, T0, emit_gs(JIT_FIELD(cpu.vcpu.events)));
		none = emit_jrcxz(&t->e);
		s.jump = emit_jump(&t->e, EMIT_ALWAYS);
		emit_here8(&t->e, none);
	} else {
		s.jump = jump_if_news(t);
	}
	jit_stub(t, s);
}

/*
 * Elsewhere: a jump behind a look at whether that page is where it was when the jump was linked. JIT_FAR_SIZE() and
 * JIT_FAR_NUMBER() know how it is written.
 */
static void far_link(struct jit_tr *t, uint64_t rip)
{
	bool native = t->flags == FLAGS_NATIVE && now(t)->live;
	unsigned what = JIT_LINK_FAR | (native ? JIT_LINK_FLAGS : 0);
	int32_t at = JIT_FIELD(guards) + (int32_t)sizeof(uint32_t) * (int32_t)jit_guard_place(rip);
	struct emit_mem guard = emit_gs(at + (t->view == X86_TLB_USER ? (int32_t)sizeof(uint32_t[JIT_GUARDS]) : 0));
	uintptr_t end;
	uint8_t *same, *other;

	/* Behind the last page of a half: fetching from there faults. */
	if (!x86_canonical(rip)) {
		jit_call_noted(t, t->thunks->out[t->flags == FLAGS_NATIVE], rip, 0, 0);
		return;
	}
	emit_align(&t->e, 4, native ? 3 : 0);
	if (native) {
		emit_rm(&t->e, (struct emit_op){ .op = 0x8b }, T0, guard);
		emit_bytes(&t->e, 0x898d48, 3); /* lea rcx, [rcx + disp32] */
		emit_bytes(&t->e, -JIT_NO_GUARD, 4);
		same = emit_jrcxz(&t->e);
		other = emit_short(&t->e, EMIT_ALWAYS);
		emit_here8(&t->e, same);
		emit_bytes(&t->e, 0x001f0f, 3); /* nop */
	} else {
		emit_rm(&t->e, (struct emit_op){ .op = 0x81 }, 7, guard);
		emit_bytes(&t->e, JIT_NO_GUARD, 4);
		other = emit_short(&t->e, 5);
		emit_bytes(&t->e, 0x90, 1);
	}
	emit_bytes(&t->e, 0xe9, 1);
	emit_bytes(&t->e, 0, 4);
	emit_here8(&t->e, other);
	end = emit_rx(&t->e);
	jit_call_noted(t, t->thunks->far[native], rip, end, (uint16_t)what);
}

/* The same for an indirect branch, flags being in memory: if there is news the interpreter does it. */
static void unless_news(struct jit_tr *t)
{
	jit_stub(t, (struct stub){ .kind = STUB_INTERPRET, .jump = jump_if_news(t), .rip = now(t)->rip });
}

void jit_go_on(struct jit_tr *t, uint64_t rip, uint8_t *jump)
{
	unsigned flags = t->flags;

	if (jump)
		emit_here(&t->e, jump);
	if (is_back(t, rip))
		look_for_news(t, rip);
	if (is_far(t, rip))
		far_link(t, rip);
	else
		link(t, rip, EMIT_ALWAYS);
	t->flags = flags;
}

void jit_interpret(struct jit_tr *t, uint64_t rip)
{
	jit_flags_away(t, now(t)->need);
	jit_count_undone(t, t->at);
	jit_call_noted(t, t->thunks->interpret, rip, 0, 0);
}

void jit_end_by_handler(struct jit_tr *t)
{
	struct jit_site *site = jit_make_site(t);

	if (!site)
		return;
	/* A direct near branch may have been linked to a trace. */
	if (now(t)->def->flags & X86_D_FORCE64 && now(t)->def->mod == X86_MOD_NONE)
		site->insn[0].link = NULL;
	jit_flags_away(t, JIT_F_ALL);
	emit_mov_imm(&t->e, T1, (uintptr_t)site);
	emit_jmp(&t->e, t->thunks->handle_end);
}

/* Where a direct branch leads. */
static uint64_t direct(const struct jit_tr *t)
{
	return (next_rip(t) + now(t)->i->imm) & size_mask(now(t)->i->opsize);
}

/* Targets that are not canonical fault at the branch itself: the interpreter sees to them. */
static bool bad_target(struct jit_tr *t, uint64_t rip)
{
	if (x86_canonical(rip))
		return false;
	jit_interpret(t, now(t)->rip);
	return true;
}

/* In mid-block, where what was counted has to be taken back. */
static void away(struct jit_tr *t, uint64_t rip, unsigned cc)
{
	struct stub s = { .kind = STUB_AWAY, .rip = rip, .flags_native = t->flags == FLAGS_NATIVE };

	s.access = t->flags & FLAGS_NATIVE ? JIT_LINK_FLAGS : 0;
	s.jump = emit_jump(&t->e, cc);
	jit_stub(t, s);
}

void jit_jcc(struct jit_tr *t)
{
	uint64_t to = direct(t);
	unsigned cc = now(t)->i->op & 15;
	uint8_t *other;

	if (bad_target(t, to))
		return;
	jit_flags_ready(t, true);
	if (is_back(t, to) || is_far(t, to)) {
		/* The one that is more likely is first. */
		other = emit_jump(&t->e, cc ^ is_back(t, to));
		jit_go_on(t, is_back(t, to) ? to : next_rip(t), NULL);
		jit_go_on(t, is_back(t, to) ? next_rip(t) : to, other);
		return;
	}
	t->holds = t->held;
	if (t->at + 1 < t->count && jit_counts(t))
		away(t, to, cc);
	else
		link(t, to, cc);
	if (t->at + 1 == t->count)
		jit_go_on(t, next_rip(t), NULL);
}

/* One of 16 bits is for the interpreter. */
static bool odd_size(struct jit_tr *t)
{
	if (now(t)->i->opsize == t->word)
		return false;
	jit_end_by_handler(t);
	return true;
}

/* T0 = RCX + n in the address size, which RCX becomes unless n is 0. Flags stay. */
static void counter(struct jit_tr *t, int n)
{
	const unsigned rcx = jit_home[X86_RCX];
	const bool w = !now(t)->i->ashift;

	if (n)
		emit_rm(&t->e, (struct emit_op){ .op = 0x8d, .w = w }, rcx, emit_at(rcx, n));
	emit_rr(&t->e, (struct emit_op){ .op = 0x8b, .w = w }, T0, rcx);
}

void jit_loop(struct jit_tr *t)
{
	static const uint8_t conditions[] = { 5, 4, EMIT_ALWAYS }; /* LOOPNE, LOOPE, LOOP */
	uint8_t *zero, *taken;

	if (bad_target(t, direct(t)))
		return;
	jit_flags_ready(t, true);
	counter(t, -1);
	zero = emit_jrcxz(&t->e);
	taken = emit_jump(&t->e, conditions[now(t)->i->op & 3]);
	emit_here8(&t->e, zero);
	jit_go_on(t, next_rip(t), NULL);
	jit_go_on(t, direct(t), taken);
}

void jit_jcxz(struct jit_tr *t)
{
	uint8_t *zero, *other;

	if (bad_target(t, direct(t)))
		return;
	jit_flags_ready(t, true);
	counter(t, 0);
	zero = emit_jrcxz(&t->e);
	other = emit_jump(&t->e, EMIT_ALWAYS);
	emit_here8(&t->e, zero);
	jit_go_on(t, direct(t), NULL);
	jit_go_on(t, next_rip(t), other);
}

void jit_jmp(struct jit_tr *t)
{
	uint64_t to = direct(t);

	if (!bad_target(t, to))
		jit_go_on(t, to, NULL);
}

void jit_call(struct jit_tr *t)
{
	uint64_t to = direct(t);

	if (odd_size(t) || bad_target(t, to))
		return;
	jit_push_value(t, next_rip(t), to);
	jit_go_on(t, to, NULL);
}

/* The operand of an indirect branch, in T0. If there is news the interpreter does the branch. */
static void target(struct jit_tr *t)
{
	const struct x86_insn *i = now(t)->i;

	jit_flags_away(t, now(t)->need);
	unless_news(t);
	if (i->flags & X86_I_REG) {
		emit_rr(&t->e, jit_word_op(t, 0x8b), T0, jit_get(t, i->rm, T0));
		return;
	}
	jit_operand(t, t->word, JIT_LOAD);
	emit_rm(&t->e, jit_word_op(t, 0x8b), T0, emit_at(T0, 0));
}

void jit_jmp_indirect(struct jit_tr *t)
{
	struct stub s = { .kind = STUB_JUMP, .rip = now(t)->rip };

	if (odd_size(t))
		return;
	target(t);
	jump_to_t0(t, &s);
}

void jit_call_indirect(struct jit_tr *t)
{
	struct stub s = { .kind = STUB_INTERPRET, .rip = now(t)->rip };

	if (odd_size(t))
		return;
	target(t);
	if (t->word == 8) {
		s.jump = jit_unless_canonical(t);
		jit_stub(t, s);
	}
	t->flags &= ~FLAGS_NATIVE;
	emit_store(&t->e, emit_gs(JIT_FIELD(pushed)), T0);
	/* Where it goes if the page wants to hear of the store: the stub finds it in jit_cpu.pushed. */
	jit_push_value(t, next_rip(t), JIT_RIP_PUSHED);
	emit_load(&t->e, T0, emit_gs(JIT_FIELD(pushed)));
	jump_to_t0(t, NULL);
}

void jit_ret(struct jit_tr *t)
{
	struct stub s = { .kind = STUB_JUMP, .rip = now(t)->rip, .pop = t->word + (uint32_t)now(t)->i->imm };
	struct jit_reach from;

	if (odd_size(t))
		return;
	jit_flags_away(t, now(t)->need);
	unless_news(t);
	from = jit_reach_stack(t, 0, JIT_LOAD, false);
	t->flags &= ~FLAGS_NATIVE;
	emit_rm(&t->e, jit_word_op(t, 0x8b), T0, emit_at(T0, (int32_t)from.at));
	jump_to_t0(t, &s);
}
