/* What kernels do often: flags other than those of arithmetic, segment registers and bases, access to user pages. */
#include "base/bytes.h"
#include "cpu/jit/translate.h"

/* Bits of RFLAGS, but for arithmetic ones, by `op` AND (4) or OR (1). */
static void change_rflags(struct jit_tr *t, unsigned op, uint32_t bits)
{
	jit_flags_away(t, now(t)->need);
	t->flags &= ~FLAGS_NATIVE;
	emit_rm(&t->e, (struct emit_op){ .op = 0x81 }, op, emit_gs(JIT_FIELD(cpu.s.rflags)));
	emit_bytes(&t->e, bits, 4);
}

void jit_direction(struct jit_tr *t)
{
	bool set = now(t)->i->op & 1;

	change_rflags(t, set ? 1 : 4, set ? X86_DF : ~X86_DF);
}

/* At level 0 no question is asked; elsewhere the interpreter does it. False: this is not kernel code. Flags are lost.
 */
static bool level_0(struct jit_tr *t)
{
	struct stub s = { .kind = STUB_INTERPRET, .rip = now(t)->rip };

	if (t->view == X86_TLB_USER)
		return false;
	jit_flags_away(t, now(t)->need);
	t->flags &= ~FLAGS_NATIVE;
	emit_rm(&t->e, (struct emit_op){ .op = 0x80 }, 7, emit_gs(JIT_FIELD(cpu.cpl)));
	emit_bytes(&t->e, 0, 1);
	s.jump = emit_jump(&t->e, 5);
	jit_stub(t, s);
	return true;
}

void jit_cli(struct jit_tr *t)
{
	if (level_0(t))
		change_rflags(t, 4, ~X86_IF);
	else
		jit_by_handler(t);
}

/*
 * If nothing waits for IF, the shadow is that news is only looked at where the next block begins: behind the next
 * instruction, if there is one in this block.
 */
void jit_sti(struct jit_tr *t)
{
	struct stub s = { .kind = STUB_INTERPRET, .rip = now(t)->rip };

	if (t->at + 1 == t->count || !level_0(t)) {
		jit_by_handler(t);
		return;
	}
	emit_rm(&t->e, (struct emit_op){ .op = 0x80 }, 7, emit_gs(JIT_FIELD(cpu.intr_waits)));
	emit_bytes(&t->e, 0, 1);
	s.jump = emit_jump(&t->e, 5);
	jit_stub(t, s);
	change_rflags(t, 1, X86_IF);
}

/* The rest of the block looks at memory in another way. */
static void change_view(struct jit_tr *t, enum x86_tlb_view to)
{
	uint64_t change = (uint64_t)(t->view ^ to) << X86_FETCH_SHIFT;

	emit_load(&t->e, T0, emit_gs(JIT_FIELD(self)));
	emit_lea(&t->e, T0, emit_at(T0, JIT_TLB(to, rtag) - (int32_t)offsetof(struct x86_tlb_entry, rtag)));
	emit_store(&t->e, emit_gs(JIT_FIELD(cpu.tlb)), T0);
	emit_mov_imm(&t->e, T0, change);
	emit_rm(&t->e, (struct emit_op){ .op = 0x31, .w = true }, T0, emit_gs(JIT_FIELD(cpu.fetch_key)));
	t->view = to;
}

/* In this view SMAP is in force and AC is 0. */
static void stac(struct jit_tr *t)
{
	if (t->view != X86_TLB_SUPER || !level_0(t)) {
		jit_by_handler(t);
		return;
	}
	change_rflags(t, 1, X86_AC);
	change_view(t, X86_TLB_SUPER_AC);
}

/* In the view with AC SMAP may be off: then it is the same one afterwards. */
static void clac(struct jit_tr *t)
{
	struct stub s = { .kind = STUB_INTERPRET, .rip = now(t)->rip };

	if (!level_0(t)) {
		jit_by_handler(t);
		return;
	}
	if (t->view == X86_TLB_SUPER)
		return;
	emit_rm(&t->e, (struct emit_op){ .op = 0xf7 }, 0, emit_gs(JIT_FIELD(cpu.s.cr4)));
	emit_bytes(&t->e, X86_CR4_SMAP, 4);
	s.jump = emit_jump(&t->e, 4);
	jit_stub(t, s);
	change_rflags(t, 4, ~X86_AC);
	change_view(t, X86_TLB_SUPER);
}

static void swapgs(struct jit_tr *t)
{
	const int32_t base = JIT_FIELD(cpu.s.seg) + (int32_t)(X86_GS * sizeof(struct x86_segment)) +
			     (int32_t)offsetof(struct x86_segment, base);

	if (!level_0(t)) {
		jit_by_handler(t);
		return;
	}
	emit_load(&t->e, T0, emit_gs(base));
	emit_load(&t->e, T1, emit_gs(JIT_FIELD(cpu.s.kernel_gs_base)));
	emit_store(&t->e, emit_gs(JIT_FIELD(cpu.s.kernel_gs_base)), T0);
	emit_store(&t->e, emit_gs(base), T1);
	emit_store(&t->e, emit_gs(JIT_FIELD(cpu.seg_base) + 8 * X86_GS), T1);
}

/* MOV from a segment register to a general one. */
void jit_mov_from_seg(struct jit_tr *t)
{
	const struct x86_insn *i = now(t)->i;
	int32_t at = JIT_FIELD(cpu.s.seg) + (int32_t)(i->reg * sizeof(struct x86_segment));

	if (i->reg > X86_GS || i->opsize == 2) {
		jit_by_handler(t);
		return;
	}
	at += (int32_t)offsetof(struct x86_segment, sel);
	emit_rm(&t->e, (struct emit_op){ .map = MAP_0F, .op = 0xb7 }, T0, emit_gs(at));
	jit_put(t, i->rm, T0);
}

/* Those of 0F 01 that are known by their whole ModRM byte. */
const struct jit_op *jit_system_op(const struct x86_opdef *d, const struct x86_insn *i)
{
	static const struct {
		uint8_t modrm;
		struct jit_op op;
	} rows[] = {
		{ 0xca, { .what = JIT_FIXED, .emit = clac } },
		{ 0xcb, { .what = JIT_FIXED, .emit = stac } },
		{ 0xf8, { .what = JIT_FIXED, .emit = swapgs } },
	};

	for (size_t n = 0; d->map == X86_MAP_0F && i->op == 0x01 && n < ARRAY_LEN(rows); n++)
		if (rows[n].modrm == i->modrm)
			return &rows[n].op;
	return NULL;
}
