/*
 * Which accesses of a block share one look into the TLB: those to addresses a known distance apart, such as fields of
 * one structure, or what is pushed and popped in a row. A pass forwards follows the registers that addresses are made
 * of: what an instruction adds to one is known, or it is another value from then on.
 */
#include "cpu/jit/share.h"

#include "cpu/jit/translate.h"

/* The most bytes from the first to the last: with more the end of a page is more often in between. */
#define SPAN_MOST 512

struct group {
	uint8_t base, index, scale, seg;
	bool open, write, reads_only;
	uint8_t members, first;
	int64_t moved; /* by how much the sum of its registers has grown since its first access */
	int64_t lo, hi;
};

struct plan {
	struct jit_tr *t;
	struct group group[X86_TRACE_MAX];
	unsigned groups;
	uint8_t of[X86_TRACE_MAX]; /* 1 + the group of an instruction */
	bool store[X86_TRACE_MAX];
	int64_t lo[X86_TRACE_MAX];
};

/* --- registers --- */

static void close_all(struct plan *p)
{
	for (unsigned n = 0; n < p->groups; n++)
		p->group[n].open = false;
}

static void written(struct plan *p, unsigned r)
{
	for (unsigned n = 0; n < p->groups; n++)
		if (p->group[n].base == r || p->group[n].index == r)
			p->group[n].open = false;
}

static void added(struct plan *p, unsigned r, int64_t by)
{
	for (unsigned n = 0; n < p->groups; n++) {
		struct group *g = &p->group[n];

		g->moved += g->base == r ? by : 0;
		g->moved += g->index == r ? by * (1 << g->scale) : 0;
	}
}

/* --- accesses --- */

static bool joins(const struct group *g, const struct group *k, int64_t lo, int64_t hi)
{
	return g->open && !(g->reads_only && k->write) && g->base == k->base && g->index == k->index &&
	       g->scale == k->scale && g->seg == k->seg &&
	       (hi > g->hi ? hi : g->hi) - (lo < g->lo ? lo : g->lo) <= SPAN_MOST;
}

/* An access of `size` bytes at the registers of `k` and `disp`. */
static void access(struct plan *p, unsigned at, struct group k, int64_t disp, unsigned size)
{
	struct group *g = NULL;
	int64_t lo = disp, hi;

	/* The block may be left there, and news is not looked at right behind STI (system.c). */
	if (at && p->t->insn[at - 1].op && p->t->insn[at - 1].op->emit == jit_sti)
		return;

	for (unsigned n = 0; n < p->groups && !g; n++) {
		lo = disp + p->group[n].moved;
		if (joins(&p->group[n], &k, lo, lo + size))
			g = &p->group[n];
	}
	if (!g) {
		lo = disp;
		g = &p->group[p->groups++];
		*g = k;
		g->open = true;
		g->first = (uint8_t)at;
		g->lo = lo;
		g->hi = lo + size;
	}
	hi = lo + size;
	g->lo = lo < g->lo ? lo : g->lo;
	g->hi = hi > g->hi ? hi : g->hi;
	g->write |= k.write;
	g->members++;
	p->of[at] = (uint8_t)(g - p->group + 1);
	p->store[at] = k.write;
	p->lo[at] = lo;
}

static void stack_access(struct plan *p, unsigned at, int64_t disp, bool write)
{
	access(p, at, (struct group){ .base = X86_RSP, .index = X86_NOREG, .write = write }, disp, 8);
}

/* The operand of an instruction. */
static void operand(struct plan *p, unsigned at)
{
	const struct jit_insn *n = &p->t->insn[at];
	const struct x86_insn *i = n->i;
	unsigned size = jit_memory_size(n);

	if (i->ashift || i->base == X86_RIP || (i->base == X86_NOREG && i->index == X86_NOREG) ||
	    n->op->what & JIT_CL || (n->op->what & JIT_ALIGNED && size >= 16))
		return;
	access(p, at,
	       (struct group){ .base = i->base,
			       .index = i->index,
			       .scale = i->index == X86_NOREG ? 0 : i->scale,
			       .seg = i->seg >= X86_FS ? i->seg : 0,
			       .write = n->op->what & JIT_RM_W },
	       i->disp, size);
}

/* --- what an instruction does --- */

static unsigned number(unsigned r, bool byte)
{
	return byte ? r >> 3 : r;
}

static void plain(struct plan *p, unsigned at)
{
	const struct jit_insn *n = &p->t->insn[at];
	const struct x86_insn *i = n->i;
	uint32_t what = n->op->what;
	bool reg = i->flags & X86_I_REG;

	if (!reg)
		operand(p, at);
	if (reg && what & JIT_GROUP && n->def->map == X86_MAP_1 && (i->op == 0x83 || i->op == 0x81) && i->opsize == 8 &&
	    ((i->modrm >> 3 & 7) == 0 || (i->modrm >> 3 & 7) == 5)) {
		added(p, i->rm, i->modrm >> 3 & 7 ? -(int64_t)i->imm : (int64_t)i->imm);
		return;
	}
	if (what & JIT_REG_W && !(what & JIT_XMM_REG))
		written(p, number(i->reg, n->def->flags & X86_D_BYTE_REG));
	if (what & JIT_RM_W && reg && !(what & JIT_XMM_RM))
		written(p, number(i->rm, n->def->flags & X86_D_BYTE_RM));
	if (what & JIT_VVVV_W && n->def->map >= X86_MAP_VEX_0F)
		written(p, i->vreg);
	if (what & JIT_ACC_W) {
		written(p, X86_RAX);
		written(p, X86_RDX);
	}
}

static void lea(struct plan *p, unsigned at)
{
	const struct x86_insn *i = p->t->insn[at].i;

	if (i->opsize == 8 && !i->ashift && i->base == i->reg && i->index == X86_NOREG)
		added(p, i->reg, i->disp);
	else
		written(p, i->reg);
}

/* Of another size than usual it is left to its handler. */
static bool odd_size(struct plan *p, unsigned at)
{
	if (p->t->insn[at].i->opsize == 8)
		return false;
	close_all(p);
	return true;
}

static void push(struct plan *p, unsigned at)
{
	if (odd_size(p, at))
		return;
	stack_access(p, at, -8, true);
	added(p, X86_RSP, -8);
}

static void pop(struct plan *p, unsigned at)
{
	if (odd_size(p, at))
		return;
	stack_access(p, at, 0, false);
	added(p, X86_RSP, 8);
	written(p, p->t->insn[at].i->rm);
}

static void ret(struct plan *p, unsigned at)
{
	if (!odd_size(p, at))
		stack_access(p, at, 0, false);
}

static void leave(struct plan *p, unsigned at)
{
	written(p, X86_RSP);
	written(p, X86_RBP);
}

static void accumulator(struct plan *p, unsigned at)
{
	written(p, X86_RAX);
	written(p, X86_RDX);
}

static void mov_imm(struct plan *p, unsigned at)
{
	const struct jit_insn *n = &p->t->insn[at];

	written(p, number(n->i->rm, n->def->flags & X86_D_BYTE_RM));
}

static void rm(struct plan *p, unsigned at)
{
	written(p, p->t->insn[at].i->rm);
}

static void xchg_acc(struct plan *p, unsigned at)
{
	rm(p, at);
	accumulator(p, at);
}

static void nothing(struct plan *p, unsigned at)
{
}

/* What comes behind may never be: who was only to read does not have to be able to write for its sake. */
static void jcc(struct plan *p, unsigned at)
{
	for (unsigned n = 0; n < p->groups; n++)
		p->group[n].reads_only = !p->group[n].write;
}

/* What is not here may do anything. */
static const struct {
	void (*emit)(struct jit_tr *t);
	void (*effect)(struct plan *p, unsigned at);
} effects[] = {
	{ jit_plain, plain },
	{ jit_lea, lea },
	{ jit_push_reg, push },
	{ jit_push_imm, push },
	{ jit_call, push },
	{ jit_pop_reg, pop },
	{ jit_ret, ret },
	{ jit_leave, leave },
	{ jit_implied, accumulator },
	{ jit_mov_imm, mov_imm },
	{ jit_xchg_acc, xchg_acc },
	{ jit_bswap, rm },
	{ jit_div, accumulator },
	{ jit_mov_offset, accumulator },
	{ jit_nothing, nothing },
	{ jit_jcc, jcc },
	{ jit_x87, nothing },
	{ jit_vzero, nothing },
};

static void look_at(struct plan *p, unsigned at)
{
	const struct jit_insn *n = &p->t->insn[at];

	for (unsigned k = 0; n->op && k < ARRAY_LEN(effects); k++) {
		if (effects[k].emit == n->op->emit) {
			effects[k].effect(p, at);
			return;
		}
	}
	close_all(p);
}

/* --- one look at the flags of a page for several stores --- */

/* Registers that some instructions cannot name, which are left to their handlers. */
static bool names_high(const struct jit_insn *n)
{
	const struct x86_insn *i = n->i;

	return (n->def->flags & X86_D_BYTE_REG && !(n->op->what & JIT_GROUP) && i->reg & 1) ||
	       (n->def->flags & X86_D_BYTE_RM && i->flags & X86_I_REG && i->rm & 1);
}

/* Is it certain that the block itself executes it? A handler may make what was found in the TLB another thing. */
static bool is_translated(const struct jit_insn *n)
{
	if (!n->op)
		return false;
	if (n->op->emit == jit_plain || n->op->emit == jit_mov_imm)
		return !names_high(n) && !(n->op->what & JIT_CL);
	return n->op->emit == jit_lea || n->op->emit == jit_nothing || n->op->emit == jit_push_reg ||
	       n->op->emit == jit_push_imm || n->op->emit == jit_call || n->op->emit == jit_pop_reg ||
	       n->op->emit == jit_jcc;
}

/* Is the block left by its accesses only? */
static bool has_no_exit(const struct jit_insn *n)
{
	if (!is_translated(n) || n->op->emit == jit_jcc)
		return false;
	if (n->op->emit == jit_call)
		return x86_canonical(n->rip + n->i->len + n->i->imm);
	return n->op->emit != jit_plain || !(n->op->what & (JIT_XMM_REG | JIT_XMM_RM | JIT_MMX));
}

static bool accesses(const struct jit_insn *n)
{
	if (n->op->emit == jit_plain)
		return !(n->i->flags & X86_I_REG);
	return n->op->emit != jit_lea && n->op->emit != jit_nothing && n->op->emit != jit_mov_imm;
}

/* Backwards: is the next store one of the same page, and nothing in between that may leave the block? */
static void put_off_looks(struct plan *p)
{
	unsigned next = JIT_SHARES, found = 0, looked = 0;
	bool silent[X86_TRACE_MAX], fresh[X86_TRACE_MAX];

	/* Who shares what is found by then is in its page. */
	for (unsigned n = 0; n < p->t->count; n++) {
		const struct jit_insn *k = &p->t->insn[n];

		silent[n] = has_no_exit(k) &&
			    (!accesses(k) || (k->share.role == JIT_SHARE_NEXT && found >> k->share.slot & 1));
		if (!is_translated(k))
			found = 0;
		else if (k->share.role == JIT_SHARE_FIRST)
			found |= 1u << k->share.slot;
		/*
		 * What took C may have taken long, and waited for another vCPU that decodes just this page: only a look
		 * right before says that nobody has code there.
		 */
		if (k->share.role == JIT_SHARE_FIRST)
			looked = 1u << k->share.slot;
		else if (!silent[n])
			looked = 0;
		fresh[n] = k->share.role != JIT_SHARE_NONE && looked >> k->share.slot & 1;
	}
	for (unsigned n = p->t->count; n-- > 0;) {
		struct jit_share *s = &p->t->insn[n].share;

		if (p->store[n] && s->role != JIT_SHARE_NONE) {
			s->later = next == s->slot && fresh[n] && has_no_exit(&p->t->insn[n]);
			next = s->slot;
		}
		if (!silent[n])
			next = JIT_SHARES;
	}
}

/* What each look is for, and what the first one of a page has to see to. */
static void join_looks(struct plan *p, const uint8_t first[JIT_SHARES])
{
	unsigned lo = UINT16_MAX, hi = 0;

	for (unsigned n = 0; n < p->t->count; n++) {
		struct jit_share *s = &p->t->insn[n].share;
		unsigned end = s->at + (p->t->insn[n].op && p->t->insn[n].op->emit == jit_plain
						? jit_memory_size(&p->t->insn[n])
						: 8u);

		if (!p->store[n] || s->role == JIT_SHARE_NONE)
			continue;
		lo = s->at < lo ? s->at : lo;
		hi = end > hi ? end : hi;
		if (s->later) {
			p->t->insn[first[s->slot]].share.quiet = true;
			continue;
		}
		s->from = (uint16_t)lo;
		s->run = (uint16_t)(hi - lo);
		lo = UINT16_MAX;
		hi = 0;
	}
}

void jit_share_plan(struct jit_tr *t)
{
	struct plan p = { .t = t };
	uint8_t first[JIT_SHARES];
	uint8_t slot[X86_TRACE_MAX];
	unsigned slots = 0;

	for (unsigned n = 0; n < t->count; n++)
		t->insn[n].share = (struct jit_share){ .role = JIT_SHARE_NONE };
	if (!t->sharing)
		return;
	for (unsigned n = 0; n < t->count; n++)
		look_at(&p, n);
	for (unsigned n = 0; n < t->count; n++) {
		const struct group *g;

		if (!p.of[n])
			continue;
		g = &p.group[p.of[n] - 1];
		if (g->members < 2)
			continue;
		if (g->first == n)
			slot[p.of[n] - 1] = (uint8_t)slots++;
		if (slot[p.of[n] - 1] >= JIT_SHARES)
			continue;
		if (g->first == n)
			first[slot[p.of[n] - 1]] = (uint8_t)n;
		t->insn[n].share = (struct jit_share){
			.role = g->first == n ? JIT_SHARE_FIRST : JIT_SHARE_NEXT,
			.slot = slot[p.of[n] - 1],
			.write = g->write,
			.at = (uint16_t)(p.lo[n] - g->lo),
			.span = (uint16_t)(g->hi - g->lo),
		};
	}
	put_off_looks(&p);
	join_looks(&p, first);
}
