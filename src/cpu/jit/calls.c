/*
 * The C side of translated code: what thunks call, and the loop that goes from block to block where code cannot go by
 * itself. The guest's flags are in jit_cpu.flags while it is in translated code, else in x86_cpu.lazy.
 */
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "base/now.h"
#include "base/shared.h"
#include "cpu/jit/count.h"
#include "cpu/jit/profile.h"
#include "cpu/x86/paging.h"

/* --- flags: LAHF's in the high byte, SETO's in the low one --- */

static uint16_t pack(const struct x86_lazy *f)
{
	uint32_t v = x86_lazy_get(f);

	return (uint16_t)((v & 0xff) << 8 | (v & X86_OF ? 1 : 0));
}

void jit_flags_to_lazy(struct jit_cpu *c)
{
	x86_lazy_set(&c->cpu.lazy, (c->flags >> 8 & X86_ARITH) | (c->flags & 1 ? X86_OF : 0));
}

void jit_flags_from_lazy(struct jit_cpu *c)
{
	c->flags = pack(&c->cpu.lazy);
}

/* --- from thunks --- */

static bool crosses(uint64_t lin, unsigned size)
{
	return (lin & X86_PAGE_MASK) + size > MEM_PAGE_SIZE;
}

/* One page of the access; false: it is no plain memory. May raise. */
static bool fill(struct jit_cpu *c, uint64_t lin, bool write)
{
	enum x86_tlb_view view = (enum x86_tlb_view)(x86_fetch(&c->cpu) & X86_FETCH_VIEW);
	uint64_t phys;
	bool filled;

	jit_count_lend(c);
	filled = x86_tlb_fill(&c->cpu, view, lin, write ? X86_WRITE : X86_READ, &phys);
	jit_count_give(c);
	stat_add(&c->counts.devices, !filled);
	return filled;
}

int jit_missed(struct jit_cpu *c, const struct jit_note *note)
{
	struct jit_cache *cache = jit_cache_of(&c->cpu);
	unsigned changes = jit_cache_changes(cache), access = note->what, size = jit_miss_size(access);
	bool write = access & JIT_MISS_WRITE, crossing = crosses(c->lin, size);

	shared_arrived(cache);
	c->cpu.s.gpr[X86_RIP] = jit_note_rip(c, note);
	stat_add(&c->counts.misses, 1);
	stat_add(&c->counts.crossing, crossing);
	jit_flags_to_lazy(c);
	/* Whatever is odd about it, the interpreter knows what to do. */
	if (!x86_canonical(c->lin) || !x86_canonical(c->lin + size - 1) || (c->lin + size - 1) & ~c->cpu.lin_mask)
		return true;
	/* With both pages in the TLB jit_quick_miss() does it next time; what reads and writes has to be one access.
	 */
	if (crossing && ((write && !(access & JIT_MISS_STORE)) || size > sizeof(c->bounce)))
		return true;
	if (!fill(c, c->lin, write) || (crossing && !fill(c, (c->lin | X86_PAGE_MASK) + 1, write)))
		return true;
	/* The walk may have set bits in what the block was made from. */
	return changes != jit_cache_changes(cache);
}

bool jit_over(const struct jit_cpu *c, const struct jit_block *b, unsigned flushes)
{
	return c->cpu.attention || c->cpu.charge_ends || flushes != jit_cache_flushes(jit_cache_of(&c->cpu)) ||
	       atomic_load(&b->stale);
}

/* The instruction by its handler; the guest's flags are in x86_cpu.lazy afterwards. May raise. */
static void by_handler(struct jit_cpu *c, const struct jit_site *site)
{
	/* Copied: while it waits for another vCPU everything may be forgotten, and the site be overwritten. */
	const struct x86_insn insn[2] = { site->insn[0], site->insn[1] };

	jit_flags_to_lazy(c);
	c->cpu.s.gpr[X86_RIP] = site->rip;
	jit_count_begin(c, site);
	c->cpu.in_block = true;
	insn[0].fn(&c->cpu, insn);
	c->cpu.in_block = false;
}

int jit_handle(struct jit_cpu *c, const struct jit_site *site)
{
	unsigned flushes = jit_cache_flushes(jit_cache_of(&c->cpu));
	uint64_t key = c->cpu.fetch_key, rip;
	const struct jit_block *b;

	shared_arrived(jit_cache_of(&c->cpu));
	b = site->block;
	rip = site->rip;
	by_handler(c, site);
	jit_count_end(c, rip);
	jit_flags_from_lazy(c);
	/* What the block was made for may not hold any more: STAC. */
	return key != c->cpu.fetch_key || jit_over(c, b, flushes);
}

int jit_handle_end(struct jit_cpu *c, const struct jit_site *site)
{
	struct x86_cpu *cpu = &c->cpu;
	bool repeated, again;
	uint64_t rip;

	shared_arrived(jit_cache_of(cpu));
	repeated = site->insn[0].flags & (X86_I_REP | X86_I_REPNE);
	rip = site->rip;
	by_handler(c, site);
	jit_count_give(c);
	again = repeated && cpu->s.gpr[X86_RIP] == rip;
	if (again)
		jit_count_take_back(c);
	stat_add(&c->counts.handled, !again);
	jit_flags_from_lazy(c);
	return x86_news(cpu) || !x86_translatable(cpu) || !x86_canonical(cpu->s.gpr[X86_RIP]);
}

/* How much may have been stored from its address on. */
#define STORE_MOST 32u

/* A part of a store that crossed a page. */
static void put_part(struct jit_cpu *c, uint64_t lin, const uint8_t *from, uint32_t len)
{
	const struct x86_tlb_entry *e = x86_tlb_slot(c->cpu.tlb, lin);
	uint64_t offset = lin & X86_PAGE_MASK;

	shared_copy(e->host + offset, from, len);
	atomic_signal_fence(memory_order_seq_cst);
	if (atomic_load_explicit(e->flags, memory_order_relaxed))
		mem_written(c->cpu.mem, gpa(c->cpu.tlb_phys[e - &c->cpu.tlbs[0][0]] | offset), len);
}

static void put_crossing(struct jit_cpu *c)
{
	uint32_t first = MEM_PAGE_SIZE - (uint32_t)(c->crossing & X86_PAGE_MASK);

	put_part(c, c->crossing, c->bounce, first);
	put_part(c, c->crossing + first, c->bounce + first, c->bounced - first);
}

/*
 * Flags that a later instruction of the block overwrites are not kept: had this store changed that instruction, they
 * would be missing. From now on this page's code keeps them all.
 */
static void stored_to_own_page(struct jit_cpu *c, const struct jit_block *b)
{
	if (x86_code_set_own(c->cpu.vm->code, b->pages[0].index))
		jit_cache_drop_page(jit_cache_of(&c->cpu), b->pages[0].index);
}

int jit_stored(struct jit_cpu *c, const struct jit_note *note)
{
	struct jit_cache *cache = jit_cache_of(&c->cpu);
	unsigned flushes = jit_cache_flushes(cache);
	const struct jit_block *block = jit_note_block(note);
	uint64_t left = MEM_PAGE_SIZE - ((uintptr_t)c->stored & X86_PAGE_MASK);
	uint64_t size = note->what ? note->what : STORE_MOST;
	bool own = false;
	gpa_t at;

	shared_arrived(cache);
	c->cpu.s.gpr[X86_RIP] = jit_note_rip(c, note);
	c->resume = (uintptr_t)note - note->back;
	if (c->stored == c->bounce) {
		put_crossing(c);
	} else if (mem_address_of(c->cpu.mem, c->stored, &at)) {
		mem_written(c->cpu.mem, at, left < size ? left : size);
		own = !((at.v ^ block->phys) & ~X86_PAGE_MASK);
	}
	if (own || atomic_load(&block->stale))
		stored_to_own_page(c, block);
	return jit_over(c, block, flushes);
}

/* --- from block to block --- */

/* What jit_find_block() needs of RIP's page. May raise. */
static void find_page(struct jit_cpu *c)
{
	uint64_t rip = c->cpu.s.gpr[X86_RIP];

	if (x86_itlb_slot(&c->cpu, rip)->tag == (rip & ~X86_PAGE_MASK))
		return;
	jit_flags_to_lazy(c);
	x86_itlb_fill(&c->cpu, rip);
}

/*
 * A block is found by its physical page in every address space, and the jumps at its end with it: they lead within that
 * page, or look at their guard. While a mapping that has changed is not flushed, RIP may be in another one already.
 */
static void link_to(struct x86_cpu *cpu, const struct jit_note *from, const struct jit_block *to)
{
	bool far = from->what & JIT_LINK_FAR;

	shared_arrived(jit_cache_of(cpu));
	if (((const struct jit_vm *)cpu->vm)->linking < (far ? JIT_LINK_ALL : JIT_LINK_NEAR))
		return;
	if (far || !((jit_note_block(from)->place ^ to->place) & ~X86_PAGE_MASK))
		jit_cache_link(jit_cache_of(cpu), from, to);
}

/* Until something needs the interpreter. */
static const struct x86_insn *run(struct jit_cpu *c, const struct jit_block *b)
{
	const struct jit_thunks *thunks = jit_cache_thunks(jit_cache_of(&c->cpu));
	struct x86_cpu *cpu = &c->cpu;
	bool alone = false;
	uintptr_t why;

	jit_flags_from_lazy(c);
	for (;;) {
		why = thunks->enter(c, jit_block_memory(b));
		stat_add(&c->counts.exits[why < JIT_EXITS ? why : JIT_LINK], 1);
		if (jit_exit_from(why, JIT_BROKEN))
			jit_count_take_back(c);
		cpu->charge_ends = false;
		c->split = why == JIT_SPLIT ? cpu->s.gpr[X86_RIP] : JIT_NOT_SPLIT;
		/* If the block was given up, jumps to it look again. */
		if (why == JIT_OUT)
			c->guards[cpu->cpl == 3][jit_guard_place(cpu->s.gpr[X86_RIP])] = 0;
		if (jit_exit_from(why, JIT_INTERPRET) || x86_news(cpu) || !x86_translatable(cpu))
			break;
		if (cpu->icount && why == JIT_OUT) {
			/* The clock's next deadline lies within the block: up to there one by one. */
			alone = cpu->icount_left > 0;
			break;
		}
		find_page(c);
		b = jit_find_block(c);
		if (!b)
			break;
		if (why >= JIT_EXITS)
			link_to(cpu, (const struct jit_note *)why, b);
	}
	jit_flags_to_lazy(c);
	return alone || jit_exit_from(why, JIT_INTERPRET) ? x86_single(cpu) : x86_jumped(cpu);
}

/* No room: start again, with everybody else waiting. */
static void make_room(struct x86_cpu *cpu)
{
	int64_t begin;

	x86_exclusive_begin(cpu);
	begin = now_ns();
	/* Another vCPU may have seen to it while this one waited. */
	if (jit_cache_is_full(jit_cache_of(cpu)))
		jit_translator.forget(cpu->vm);
	stat_add(&jit_of(cpu)->counts.forgetting_ns, (uint64_t)(now_ns() - begin));
	x86_exclusive_end(cpu);
}

static const struct x86_insn *enter(struct x86_cpu *cpu)
{
	const struct x86_trace *t = cpu->trace;
	const struct x86_itlb_entry *e = x86_itlb_slot(cpu, cpu->s.gpr[X86_RIP]);
	struct jit_block *b = jit_find_block(jit_of(cpu));

	if (!b && e->tag == (cpu->s.gpr[X86_RIP] & ~X86_PAGE_MASK)) {
		if (jit_cache_is_full(jit_cache_of(cpu)))
			make_room(cpu);
		b = jit_translate(cpu, t);
	}
	if (!b)
		return NULL;
	x86_trace_stop(cpu);
	return run(jit_of(cpu), b);
}

static void page_changed(struct interp_vm *vm, uint64_t page_index)
{
	jit_cache_drop_page(((struct jit_vm *)vm)->cache, page_index);
}

static void forget_guards(struct x86_cpu *cpu, bool user)
{
	memset(jit_of(cpu)->guards[user], 0, sizeof(jit_of(cpu)->guards[user]));
}

static void forget_jumps(struct x86_cpu *cpu)
{
	struct jit_cpu *c = jit_of(cpu);

	/* Nothing matches a tag that is in the wrong place. */
	for (unsigned n = 0; n < JIT_JUMPS; n++)
		c->jumps[n] = (struct jit_jump){ .tag = n ? 0 : 1 };
	forget_guards(cpu, false);
	forget_guards(cpu, true);
}

static void forget(struct interp_vm *vm)
{
	jit_profile_keep((struct jit_vm *)vm);
	/* What was warm only would come back with what is hot. */
	for (unsigned n = 0; n < X86_HEATS; n++)
		atomic_store_explicit(&vm->heats[n], 0, memory_order_relaxed);
	jit_cache_flush(((struct jit_vm *)vm)->cache);
	for (unsigned n = 0; n < vm->cfg.cpus; n++)
		if (vm->cpus[n])
			forget_jumps(vm->cpus[n]);
}

const struct x86_translator jit_translator = {
	.enter = enter,
	.page_changed = page_changed,
	.forget = forget,
	.forget_jumps = forget_jumps,
	.forget_guards = forget_guards,
};
