/*
 * A trace becomes a block: one pass backwards for the flags that matter, one forwards that writes code.
 *
 *            a pointer to the block's record
 *   memory:  take the flags from jit_cpu.flags, if they matter
 *   native:  eight bytes that do nothing (aligned, see cache.h)
 *            the instructions
 *   out:     back to C with RIP at the block
 *   stubs:   what happens seldom
 */
#include "cpu/jit/translate.h"

#include <string.h>

#include "base/bytes.h"
#include "base/shared.h"
#include "cpu/jit/perf.h"
#include "cpu/jit/profile.h"

/* --- flags --- */

void jit_flags_away(struct jit_tr *t, uint8_t wanted)
{
	if (!wanted || t->flags != FLAGS_NATIVE)
		return;
	jit_save_flags(&t->e);
	t->held = 0;
	t->flags |= FLAGS_MEMORY;
}

static void load_flags(struct jit_tr *t, bool free)
{
	jit_load_flags(&t->e, free);
	t->held = free ? 0 : t->held;
	t->flags |= FLAGS_NATIVE;
}

void jit_flags_ready(struct jit_tr *t, bool free)
{
	const struct jit_insn *n = now(t);
	uint8_t reads, writes;

	jit_flags_of(n->op, n->i, &reads, &writes);
	if ((reads || (n->touch && n->need)) && !(t->flags & FLAGS_NATIVE))
		load_flags(t, free);
}

void jit_flags_done(struct jit_tr *t)
{
	if (now(t)->touch)
		t->flags = FLAGS_NATIVE;
}

/* --- pieces --- */

void jit_stub(struct jit_tr *t, struct stub s)
{
	s.at = (uint8_t)t->at;
	s.x87_last = t->x87_last;
	s.x87_operand = t->x87_operand;
	if (t->stub_count == STUBS_MAX)
		t->e.full = true;
	else
		t->stubs[t->stub_count++] = s;
}

static const struct x86_insn *come_back(struct x86_cpu *cpu, const struct x86_insn *i)
{
	return NULL;
}

struct jit_site *jit_make_site(struct jit_tr *t)
{
	struct jit_site *site = jit_cache_alloc(t->cache, sizeof(*site));

	if (!site) {
		t->e.full = true;
		return NULL;
	}
	site->insn[0] = *now(t)->i;
	site->insn[0].fn = now(t)->fn;
	site->insn[1] = (struct x86_insn){ .fn = come_back };
	site->rip = now(t)->rip;
	site->block = t->block;
	site->left = t->counting || t->icount ? (uint8_t)(t->count - t->at) : 0;
	return site;
}

void jit_by_handler(struct jit_tr *t)
{
	struct jit_site *site = jit_make_site(t);

	if (!site)
		return;
	jit_flags_away(t, JIT_F_ALL);
	emit_mov_imm(&t->e, T1, (uintptr_t)site);
	emit_call(&t->e, t->thunks->handle);
	t->flags = FLAGS_MEMORY;
	t->shared = 0;
}

uint8_t *jit_unless_canonical(struct jit_tr *t)
{
	emit_mov(&t->e, T1, T0);
	emit_rr(&t->e, (struct emit_op){ .op = 0xc1, .w = true }, 4, T1);
	emit_bytes(&t->e, 16, 1);
	emit_rr(&t->e, (struct emit_op){ .op = 0xc1, .w = true }, 7, T1);
	emit_bytes(&t->e, 16, 1);
	emit_rr(&t->e, (struct emit_op){ .op = 0x39, .w = true }, T0, T1);
	return emit_jump(&t->e, 5);
}

/* --- stubs --- */

static bool is_near(const struct jit_tr *t, uint64_t rip)
{
	return rip - t->block_rip + 0x4000 < 0x8000;
}

/* Its first half; is RIP still to come? */
static bool begin_note(struct jit_tr *t, uintptr_t thunk, uint64_t rip, bool far)
{
	uint64_t less = rip - t->block_rip;

	far |= rip != JIT_RIP_PUSHED && !is_near(t, rip);
	emit_call(&t->e, thunk);
	if (t->note_count == NOTES_MAX)
		t->e.full = true;
	else
		t->notes[t->note_count++] = (struct code_data){
			.at = (uint16_t)(emit_rx(&t->e) - t->block->native),
			.len = sizeof(struct jit_note) + (far ? sizeof(rip) : 0),
		};
	emit_bytes(&t->e, (uint64_t)(t->e.at - t->record), 2);
	emit_bytes(&t->e, far ? (uint64_t)JIT_NOTE_FAR : rip == JIT_RIP_PUSHED ? (uint64_t)JIT_NOTE_PUSHED : less, 2);
	return far;
}

static void call_far(struct jit_tr *t, uintptr_t thunk, uint64_t rip)
{
	begin_note(t, thunk, rip, true);
	emit_bytes(&t->e, 0, 4);
	emit_bytes(&t->e, rip, 8);
}

void jit_call_noted(struct jit_tr *t, uintptr_t thunk, uint64_t rip, uintptr_t back, uint16_t what)
{
	uintptr_t note = emit_rx(&t->e) + EMIT_JMP_SIZE;
	bool far = begin_note(t, thunk, rip, false);

	emit_bytes(&t->e, back ? note - back : 0, 2);
	emit_bytes(&t->e, what, 2);
	if (far)
		emit_bytes(&t->e, rip, 8);
}

/* jit_cpu.lin is the address that missed. */
static void note_lin(struct jit_tr *t, const struct stub *s)
{
	bool write = s->access & JIT_MISS_WRITE;

	emit_rm(&t->e, (struct emit_op){ .op = 0x03, .w = true }, T0,
		(struct emit_mem){ .base = T1,
				   .index = NO_REG,
				   .gs = true,
				   .disp = write ? JIT_TLB(s->view, wtag) : JIT_TLB(s->view, rtag) });
	emit_store(&t->e, emit_gs(JIT_FIELD(lin)), T0);
}

/* One of `by_probe`, or `noted`, which has registers for what x87 has left to note. */
static uintptr_t missed(struct jit_tr *t, const struct stub *s, const uintptr_t by_probe[X86_TLB_VIEWS][2],
			uintptr_t noted)
{
	if (!s->x87_last && !s->x87_operand)
		return by_probe[s->view][s->access & JIT_MISS_WRITE];
	note_lin(t, s);
	jit_x87_note(t, s->x87_last, s->x87_operand);
	return noted;
}

static void write_miss(struct jit_tr *t, const struct stub *s)
{
	uintptr_t thunk = missed(t, s, t->thunks->missed, t->thunks->missed_noted);

	jit_call_noted(t, thunk, s->rip, s->back, (uint16_t)s->access);
}

static struct emit_mem shared_host(const struct stub *s)
{
	return emit_gs(JIT_FIELD(shared[0].host) + (int32_t)sizeof(struct jit_shared) * (s->slot - 1));
}

/* Where the block goes on after the stub, with T1 as it may hold it. */
static uintptr_t hold_again(struct jit_tr *t, const struct stub *s)
{
	uintptr_t at = emit_rx(&t->e);

	emit_load(&t->e, T1, shared_host(s));
	emit_jmp(&t->e, s->back);
	return at;
}

static void write_stored(struct jit_tr *t, const struct stub *s)
{
	uintptr_t thunk = s->flags_native ? t->thunks->stored_native : t->thunks->stored;

	if (s->slot) {
		emit_load(&t->e, T0, shared_host(s));
		emit_lea(&t->e, T0, emit_at(T0, s->more));
	}
	if (!s->noted && (s->flags_native || s->x87_last || s->x87_operand))
		emit_store(&t->e, emit_gs(JIT_FIELD(stored)), T0);
	if (s->x87_last || s->x87_operand) {
		jit_x87_note(t, s->x87_last, s->x87_operand);
		thunk = s->flags_native ? thunk : t->thunks->stored_noted;
	}
	jit_call_noted(t, thunk, s->rip, s->back, (uint16_t)s->access);
}

static void write_split(struct jit_tr *t, const struct stub *s, uintptr_t thunk)
{
	emit_align(&t->e, sizeof(uint64_t), EMIT_JMP_SIZE + sizeof(struct jit_note));
	jit_call_noted(t, thunk, s->rip, s->back, (uint16_t)s->access);
	t->notes[t->note_count - 1].len += sizeof(uint64_t);
	emit_bytes(&t->e, 0, sizeof(uint64_t)); /* jit_split_code() */
}

static void write_stub(struct jit_tr *t, struct stub *s)
{
	if (s->kind == STUB_STORED && s->slot)
		s->back = hold_again(t, s);
	emit_here(&t->e, s->jump);
	if (s->kind < STUB_OVERDRAWN)
		jit_count_undone(t, s->kind == STUB_STORED ? s->at + 1u : s->at);
	switch (s->kind) {
	case STUB_MISS:
		write_miss(t, s);
		break;
	case STUB_SHARED:
		write_split(t, s, missed(t, s, t->thunks->missed_shared, t->thunks->missed_shared_noted));
		break;
	case STUB_SPLIT:
		jit_x87_note(t, s->x87_last, s->x87_operand);
		write_split(t, s, t->thunks->split);
		break;
	case STUB_STORED:
		write_stored(t, s);
		break;
	case STUB_JUMP: /* where jit_note has other things, how far RSP moves */
		begin_note(t, t->thunks->jump[t->word == 4], s->rip, false);
		emit_bytes(&t->e, s->pop, 4);
		break;
	case STUB_VECTORS:
		jit_call_noted(t, t->thunks->vectors, s->rip, s->back, 0);
		break;
	case STUB_X87:
		jit_call_noted(t, t->thunks->x87, s->rip, s->back, 0);
		break;
	case STUB_OVERDRAWN:
		jit_count_overdrawn(t);
		break;
	case STUB_AWAY:
		jit_count_back(t, t->count - s->at - 1u);
		t->at = s->at;
		t->flags = (s->access & JIT_LINK_FLAGS ? FLAGS_NATIVE : 0) | (s->flags_native ? 0 : FLAGS_MEMORY);
		jit_go_on(t, s->rip, NULL);
		break;
	case STUB_LINK:
		emit_align(&t->e, 4, 1);
		jit_call_noted(t, t->thunks->link[s->flags_native], s->rip, s->back, (uint16_t)s->access);
		break;
	case STUB_NEWS:
		if (is_near(t, s->rip))
			jit_call_noted(t, t->thunks->out[s->flags_native], s->rip, 0, 0);
		else
			call_far(t, t->thunks->out_far[s->flags_native], s->rip);
		break;
	case STUB_INTERPRET:
		jit_x87_note(t, s->x87_last, s->x87_operand);
		jit_call_noted(t, t->thunks->interpret, s->rip, 0, 0);
		break;
	}
}

/* --- the block --- */

/* Where the block's instructions are; the second one is NULL unless one runs into another page. */
struct source {
	const struct x86_itlb_entry *page[2];
};

/* False: a page is not there any more. */
static bool find_source(struct x86_cpu *cpu, const struct x86_trace *tr, struct source *s)
{
	uint64_t rip = cpu->s.gpr[X86_RIP], next = ((rip | X86_PAGE_MASK) + 1) & cpu->lin_mask;

	s->page[0] = x86_itlb_slot(cpu, rip);
	s->page[1] = NULL;
	if (!tr->gen[1])
		return s->page[0]->tag == (rip & ~X86_PAGE_MASK) && s->page[0]->host;
	s->page[1] = x86_itlb_slot(cpu, next);
	return s->page[0]->host && s->page[1]->tag == next && s->page[1]->host;
}

/* The trace's instructions with their rows, as their bytes are now. False: those are others now, or it is none. */
static bool read_trace(struct jit_tr *t, const struct x86_cpu *cpu, const struct x86_trace *tr, const struct source *s)
{
	struct x86_decode_mode mode = { cpu->code_bits, false, cpu->vm->features };
	uint32_t len = 0, at = 0, first;

	for (unsigned n = 0; n < tr->count; n++)
		len += tr->insn[n].len;
	first = MEM_PAGE_SIZE - tr->offset < len ? MEM_PAGE_SIZE - tr->offset : len;
	shared_copy(t->guest, s->page[0]->host + tr->offset, first);
	if (s->page[1])
		shared_copy(t->guest + first, s->page[1]->host, len - first);
	for (t->count = 0; t->count < tr->count; t->count++) {
		struct jit_insn *n = &t->insn[t->count];
		struct x86_insn again;

		n->i = &tr->insn[t->count];
		n->fn = t->count ? n->i->fn : tr->guarded;
		n->rip = t->block_rip + at;
		n->def = NULL; /* it raises */
		n->op = NULL;
		if (x86_decode(t->guest + at, len - at, mode, &again, &n->def) == X86_DECODE_OK) {
			if (again.fn != n->fn || again.len != n->i->len || again.imm != n->i->imm ||
			    again.modrm != n->i->modrm || again.flags != n->i->flags)
				return false;
			n->op = jit_op_of(n->def, n->i, t->mode);
		} else {
			n->def = NULL;
		}
		at += n->i->len;
	}
	t->end_rip = t->block_rip + at;
	return t->count && t->insn[0].def;
}

/* --- further than the trace --- */

/* Can the block go on behind its last instruction? A jump by a condition, within the page and forwards, if seldom
 * taken. */
static bool goes_on(const struct jit_tr *t, const struct x86_cpu *cpu, const struct x86_trace *tr)
{
	const struct jit_insn *last = &t->insn[t->count - 1];
	uint64_t to;

	if (!last->op || last->op->emit != jit_jcc)
		return false;
	to = jit_rip(t, (t->end_rip + last->i->imm) & size_mask(last->i->opsize));
	return to >= t->end_rip && !((to ^ t->block_rip) & ~X86_PAGE_MASK) &&
	       !((t->end_rip ^ t->block_rip) & ~X86_PAGE_MASK) &&
	       x86_trace_heat(cpu, tr, (uint32_t)(t->end_rip - t->block_rip)) * 4 >= cpu->vm->heat * 3;
}

/* One more instruction from the `have` bytes of the page that are there; false: it is not for this block. */
static bool read_one(struct jit_tr *t, const struct x86_cpu *cpu, const struct x86_trace *tr, uint32_t have)
{
	struct x86_decode_mode mode = { cpu->code_bits, false, cpu->vm->features };
	uint32_t at = (uint32_t)(t->end_rip - t->block_rip);
	struct jit_insn *n = &t->insn[t->count];
	struct x86_insn *i = &t->more[t->count];

	if (t->count == X86_TRACE_MAX || x86_stops_at_offset(cpu, tr->offset + at) ||
	    x86_decode(t->guest + at, have - at, mode, i, &n->def) != X86_DECODE_OK)
		return false;
	n->i = i;
	n->fn = i->fn;
	n->rip = t->end_rip;
	n->op = jit_op_of(n->def, i, t->mode);
	t->count++;
	t->end_rip += i->len;
	return true;
}

/*
 * What is likely to come behind a trace that ends with a jump by a condition, and so on: such code is left by its
 * jumps. Stores to it are seen from now on; if one came before that, the block ends where its trace does.
 */
static void read_on(struct jit_tr *t, struct x86_cpu *cpu, const struct x86_trace *tr, const struct source *s)
{
	uint32_t have = MEM_PAGE_SIZE - tr->offset, len, count = t->count;
	const uint8_t *code = s->page[0]->host + tr->offset;
	uint64_t end = t->end_rip;

	if (!((struct jit_vm *)cpu->vm)->extending || tr->gen[1] || !tr->gen[0] || !goes_on(t, cpu, tr))
		return;
	have = have < sizeof(t->guest) ? have : (uint32_t)sizeof(t->guest);
	shared_copy(t->guest, code, have);
	while (read_one(t, cpu, tr, have))
		if (ends(&t->insn[t->count - 1]) && !goes_on(t, cpu, tr))
			break;
	len = (uint32_t)(t->end_rip - t->block_rip);
	if (x86_code_track(cpu->vm->code, s->page[0]->page_index, tr->offset, len) == tr->seen[0] &&
	    shared_equal(t->guest, code, len))
		return;
	t->count = count;
	t->end_rip = end;
}

static void flags_that_matter(struct jit_tr *t)
{
	uint8_t live = JIT_F_ALL;

	for (unsigned n = t->count; n-- > 0;) {
		struct jit_insn *k = &t->insn[n];
		uint8_t reads, writes;

		jit_flags_of(k->op, k->i, &reads, &writes);
		k->live = live;
		k->touch = k->op ? k->op->writes | k->op->changes : JIT_F_ALL;
		/* Whoever it is that a jump out of the middle leads to. */
		if (k->op && k->op->emit == jit_jcc)
			k->live = live = JIT_F_ALL;
		k->need = live = t->strict ? JIT_F_ALL : (live & ~writes) | reads;
	}
}

static void begin(struct jit_tr *t)
{
	unsigned memory = t->insn[0].need ? JIT_LOAD_FLAGS_SIZE : 0;

	emit_align(&t->e, 8, (unsigned)sizeof(t->block) + memory);
	t->record = t->e.at;
	emit_bytes(&t->e, (uintptr_t)t->block, sizeof(t->block));
	if (memory)
		load_flags(t, true);
	t->block->memory = (uint8_t)(t->e.at - t->record - sizeof(t->block));
	emit_align(&t->e, 8, 0);
	t->block->native = emit_rx(&t->e);
	emit_nop(&t->e, 8);
	t->flags = t->insn[0].need ? FLAGS_NATIVE : 0;
}

static void write_insn(struct jit_tr *t)
{
	const struct jit_insn *n = now(t);

	t->held = t->holds;
	t->holds = 0;
	if (n->op)
		n->op->emit(t);
	else if (!n->def)
		jit_interpret(t, n->rip);
	else if (ends(n))
		jit_end_by_handler(t);
	else
		jit_by_handler(t);
}

static bool goes_elsewhere(const struct jit_insn *n)
{
	return n->op ? n->op->what & JIT_END : ends(n);
}

static void write_block(struct jit_tr *t)
{
	begin(t);
	jit_count_block(t);
	for (t->at = 0; t->at < t->count && !t->e.full; t->at++)
		write_insn(t);
	t->at = t->count - 1;
	if (!goes_elsewhere(now(t)))
		jit_go_on(t, jit_rip(t, t->end_rip), NULL);
	for (unsigned n = 0; n < t->stub_count && !t->e.full; n++)
		write_stub(t, &t->stubs[n]);
}

struct jit_block *jit_translate(struct x86_cpu *cpu, const struct x86_trace *tr)
{
	struct jit_cache *cache = jit_cache_of(cpu);
	struct source from;
	struct jit_tr t;
	bool own;

	t.cache = cache;
	t.thunks = jit_cache_thunks(cache);
	t.mode = x86_fetch(cpu);
	t.view = t.mode & X86_FETCH_VIEW;
	t.word = t.mode & X86_FETCH_CODE32 ? 4 : 8;
	t.block_rip = cpu->s.gpr[X86_RIP];
	t.counting = ((struct jit_vm *)cpu->vm)->counting;
	t.profile = ((struct jit_vm *)cpu->vm)->profile;
	t.icount = cpu->icount;
	t.stub_count = t.note_count = 0;
	t.alone = jit_of(cpu)->split == t.block_rip;
	t.sharing = t.word == 8 && !t.alone && ((struct jit_vm *)cpu->vm)->sharing;
	t.shared = t.held = t.holds = 0;
	t.vectors = t.x87 = false;
	t.x87_last = t.x87_operand = 0;
	if (!find_source(cpu, tr, &from) || !read_trace(&t, cpu, tr, &from))
		return NULL;
	read_on(&t, cpu, tr, &from);
	/* In the second page there is no later instruction of the block. */
	own = x86_code_is_own(cpu->vm->code, from.page[0]->page_index);
	t.strict = own || ((struct jit_vm *)cpu->vm)->strict;
	flags_that_matter(&t);
	jit_share_plan(&t);
	if (!jit_cache_begin(cache, &t.e))
		return NULL;
	t.block = jit_cache_alloc(cache, sizeof(*t.block) + (from.page[1] ? 2 : 1) * sizeof(t.block->pages[0]));
	*t.block = (struct jit_block){
		.place = x86_code_page(from.page[0]) | tr->offset,
		.phys = from.page[0]->phys | tr->offset,
		.second = from.page[1] ? x86_code_page(from.page[1]) : JIT_ONE_PAGE,
		.rip = t.block_rip,
		.mode = t.mode | (t.alone ? JIT_ALONE : 0),
	};
	for (unsigned n = 0; n < 2 && from.page[n]; n++)
		t.block->pages[n].index = from.page[n]->page_index;
	write_block(&t);
	jit_profile_block(&t);
	if (!t.e.full)
		jit_perf_block(((struct jit_vm *)cpu->vm)->perf, t.block->native, emit_rx(&t.e) - t.block->native,
			       t.block_rip);
	/*
	 * A change of the page that came before it can be found shows here, and a later one gives it up: who made that
	 * waits for the cache's lock, and says nothing to anybody before.
	 */
	if (*tr->gen[0] != tr->seen[0] || (tr->gen[1] && *tr->gen[1] != tr->seen[1]) ||
	    own != x86_code_is_own(cpu->vm->code, from.page[0]->page_index))
		t.e.full = true;
	jit_cache_end(cache, &t.e, t.e.full ? NULL : t.block);
	if (t.e.full)
		return NULL;
	stat_add(&jit_of(cpu)->counts.translations, 1);
	stat_add(&jit_of(cpu)->counts.translated, t.count);
	return t.block;
}
