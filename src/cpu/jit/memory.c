/*
 * Guest memory in translated code: address, TLB entry, host address.
 *
 * The entry is at a place that follows from the address; what is left when its tag is subtracted is the offset in the
 * page if the page is the right one. One comparison then finds a wrong page and an access that leaves the page.
 */
#include "cpu/jit/translate.h"

#define ENTRY_SHIFT 5
#define INDEX_MASK  ((X86_TLB_SIZE - 1) << ENTRY_SHIFT)
_Static_assert(sizeof(struct x86_tlb_entry) == 1 << ENTRY_SHIFT, "the index is made by one rotation");

static const struct emit_op op_add = { .op = 0x03, .w = true };
static const struct emit_op op_sub = { .op = 0x2b, .w = true };
static const struct emit_op op_rorx = { .map = MAP_0F3A, .pfx = 0xf2, .op = 0xf0, .vex = true };

static struct emit_mem indexed(int32_t disp)
{
	return (struct emit_mem){ .base = T1, .index = NO_REG, .gs = true, .disp = disp };
}

void jit_address(struct jit_tr *t, unsigned to, bool wide)
{
	const struct x86_insn *i = now(t)->i;
	struct emit_op lea = { .op = 0x8d, .w = wide && !i->ashift };
	struct emit_mem m = { .base = NO_REG, .index = NO_REG, .scale = i->scale, .disp = (int32_t)i->disp };

	if (i->base == X86_RIP) {
		uint64_t at = now(t)->rip + (uint64_t)i->disp;

		emit_mov_imm(&t->e, to, lea.w ? at : (uint32_t)at);
		return;
	}
	if (i->index != X86_NOREG)
		m.index = (uint8_t)jit_get(t, i->index, T1);
	if (i->base != X86_NOREG)
		m.base = (uint8_t)jit_get(t, i->base, T0);
	if (m.base == NO_REG && m.index == NO_REG) {
		emit_mov_imm(&t->e, to, lea.w ? (uint64_t)i->disp : (uint32_t)i->disp);
		return;
	}
	if (m.index == NO_REG && !m.disp && lea.w)
		emit_mov(&t->e, to, m.base);
	else
		emit_rm(&t->e, lea, to, m);
}

/* `s` is the stub for when it is not in the TLB. */
static void probe(struct jit_tr *t, unsigned size, bool write, struct stub s)
{
	int32_t tag = write ? JIT_TLB(t->view, wtag) : JIT_TLB(t->view, rtag);

	s.rip = now(t)->rip;
	s.view = (uint8_t)t->view;
	jit_count_access(t);
	emit_rr(&t->e, op_rorx, T1, T0);
	emit_bytes(&t->e, 12 - ENTRY_SHIFT, 1);
	emit_rr(&t->e, (struct emit_op){ .op = 0x81 }, 4, T1);
	emit_bytes(&t->e, INDEX_MASK, 4);
	emit_rm(&t->e, op_sub, T0, indexed(tag));
	emit_rr(&t->e, (struct emit_op){ .op = 0x81, .w = true }, 7, T0);
	emit_bytes(&t->e, MEM_PAGE_SIZE - size, 4);
	s.jump = emit_jump(&t->e, 7);
	emit_rm(&t->e, op_add, T0, indexed(JIT_TLB(t->view, host)));
	s.back = emit_rx(&t->e);
	jit_stub(t, s);
	t->flags &= ~FLAGS_NATIVE;
}

void jit_probe(struct jit_tr *t, unsigned size, enum jit_access how)
{
	bool write = how != JIT_LOAD;

	probe(t, size, write,
	      (struct stub){ .kind = STUB_MISS,
			     .access = size << JIT_MISS_SIZE_SHIFT | (write ? JIT_MISS_WRITE : 0) |
				       (how == JIT_STORE ? JIT_MISS_STORE : 0) });
}

/* 32-bit code is translated with flat segments, but for these: the interpreter knows their limits and types. */
static void unless_flat(struct jit_tr *t, unsigned seg, enum jit_access how)
{
	struct stub s = { .kind = STUB_INTERPRET, .rip = now(t)->rip };
	int32_t flat = how == JIT_LOAD ? JIT_FIELD(cpu.seg_flat_r) : JIT_FIELD(cpu.seg_flat_w);

	emit_rm(&t->e, (struct emit_op){ .op = 0xf6 }, 0, emit_gs(flat));
	emit_bytes(&t->e, 1u << seg, 1);
	s.jump = emit_jump(&t->e, 4);
	jit_stub(t, s);
}

void jit_add_segment(struct jit_tr *t, enum jit_access how)
{
	unsigned seg = now(t)->i->seg;

	if (t->word == 4 && (seg == X86_CS || seg >= X86_FS))
		unless_flat(t, seg, how);
	if (seg >= X86_FS)
		emit_rm(&t->e, jit_word_op(t, 0x03), T0, emit_gs(JIT_FIELD(cpu.seg_base) + 8 * (int32_t)seg));
}

void jit_linear(struct jit_tr *t, enum jit_access how)
{
	jit_address(t, T0, true);
	jit_add_segment(t, how);
}

void jit_operand(struct jit_tr *t, unsigned size, enum jit_access how)
{
	jit_linear(t, how);
	jit_probe(t, size, how);
}

/* --- accesses that share a look into the TLB: share.h --- */

static struct emit_mem shared(const struct jit_tr *t, int32_t field)
{
	return emit_gs(field + (int32_t)sizeof(struct jit_shared) * now(t)->share.slot);
}

/* T1 is what jit_cpu.shared has, from `from`. */
static void hold(struct jit_tr *t, unsigned from)
{
	emit_mov(&t->e, T1, from);
	t->holds = now(t)->share.slot + 1u;
}

static struct jit_reach reach_first(struct jit_tr *t, bool t1_free)
{
	const struct jit_share *s = &now(t)->share;

	probe(t, s->span, s->write,
	      (struct stub){ .kind = STUB_SHARED,
			     .access = (uint32_t)s->span << JIT_SHARED_SPAN_SHIFT | (s->write ? JIT_MISS_WRITE : 0) });
	emit_store(&t->e, shared(t, JIT_FIELD(shared[0].host)), T0);
	if (s->write) {
		emit_load(&t->e, T1, indexed(JIT_TLB(t->view, flags)));
		emit_store(&t->e, shared(t, JIT_FIELD(shared[0].flags)), T1);
	}
	if (s->quiet) {
		emit_rm(&t->e, (struct emit_op){ .op = 0x80 }, 7, emit_at(T1, 0));
		emit_bytes(&t->e, 0, 1);
		jit_stub(t, (struct stub){ .kind = STUB_SPLIT, .jump = emit_jump(&t->e, 5), .rip = now(t)->rip });
	}
	t->shared |= 1u << s->slot;
	if (t1_free)
		hold(t, T0);
	return (struct jit_reach){ T0, s->at, true };
}

static struct jit_reach reach_next(struct jit_tr *t, bool t1_free)
{
	unsigned base = t1_free ? T1 : T0;

	jit_count_access(t);
	if (!t1_free || t->held != now(t)->share.slot + 1u)
		emit_load(&t->e, base, shared(t, JIT_FIELD(shared[0].host)));
	if (t1_free)
		hold(t, T1);
	return (struct jit_reach){ base, now(t)->share.at, true };
}

bool jit_reached(const struct jit_tr *t)
{
	return now(t)->share.role == JIT_SHARE_NEXT && t->shared >> now(t)->share.slot & 1;
}

struct jit_reach jit_reach(struct jit_tr *t, unsigned size, enum jit_access how, bool t1_free)
{
	if (jit_reached(t))
		return reach_next(t, t1_free);
	jit_linear(t, how);
	if (now(t)->share.role != JIT_SHARE_FIRST) {
		jit_probe(t, size, how);
		return (struct jit_reach){ T0, 0, false };
	}
	if (now(t)->share.at)
		emit_lea(&t->e, T0, emit_at(T0, -(int32_t)now(t)->share.at));
	return reach_first(t, t1_free);
}

struct jit_reach jit_reach_stack(struct jit_tr *t, int disp, enum jit_access how, bool t1_free)
{
	bool first = now(t)->share.role == JIT_SHARE_FIRST;

	if (jit_reached(t))
		return reach_next(t, t1_free);
	disp -= first ? now(t)->share.at : 0;
	if (disp)
		emit_rm(&t->e, jit_word_op(t, 0x8d), T0, emit_at(GUEST_RSP, disp));
	else
		emit_rr(&t->e, jit_word_op(t, 0x89), GUEST_RSP, T0);
	if (first)
		return reach_first(t, t1_free);
	jit_probe(t, t->word, how);
	return (struct jit_reach){ T0, 0, false };
}

/*
 * The byte of flags of the page is looked at after the store, as the tracker of code wants it (code.c). Without
 * touching the host's flags if somebody needs them.
 */
static void stored(struct jit_tr *t, struct emit_mem page_flags, unsigned flags, struct stub s)
{
	s.kind = STUB_STORED;
	s.flags_native = t->flags == FLAGS_NATIVE && now(t)->live;
	if (s.flags_native) {
		uint8_t *none;

		s.noted = !s.slot;
		if (s.noted)
			emit_store(&t->e, emit_gs(JIT_FIELD(stored)), T0);
		emit_load(&t->e, T0, page_flags);
		emit_rm(&t->e, (struct emit_op){ .map = MAP_0F, .op = 0xb6 }, T0, emit_at(T0, 0));
		none = emit_jrcxz(&t->e);
		s.jump = emit_jump(&t->e, EMIT_ALWAYS);
		emit_here8(&t->e, none);
	} else {
		emit_load(&t->e, flags, page_flags);
		emit_rm(&t->e, (struct emit_op){ .op = 0x80 }, 7, emit_at(flags, 0));
		emit_bytes(&t->e, 0, 1);
		s.jump = emit_jump(&t->e, 5);
		t->flags &= ~FLAGS_NATIVE;
	}
	s.back = emit_rx(&t->e);
	jit_stub(t, s);
}

void jit_stored_to(struct jit_tr *t, uint64_t rip)
{
	stored(t, indexed(JIT_TLB(t->view, flags)), T1, (struct stub){ .rip = rip });
}

void jit_stored_there(struct jit_tr *t, struct jit_reach where, uint64_t rip)
{
	const struct jit_share *s = &now(t)->share;

	if (!where.shared)
		jit_stored_to(t, rip);
	else if (!s->later)
		stored(t, shared(t, JIT_FIELD(shared[0].flags)), T0,
		       (struct stub){ .rip = rip, .access = s->run, .more = s->from, .slot = s->slot + 1 });
}
