/*
 * Traces: runs of decoded instructions, cached per vCPU by page of RAM, offset and mode, and the loop
 * that executes them.
 *
 * A trace ends at a branch, at an instruction that may change the mode, at the end of its page or
 * after X86_TRACE_MAX instructions. Interrupts are looked at between traces. Only the first instruction
 * of a trace may run into a second page, and then it is alone. Direct branches within a page remember
 * where they led (links).
 */
#include <string.h>

#include "base/huge.h"
#include "base/shared.h"
#include "cpu/x86/traces.h"

#define SET_BITS    14
#define SETS	    (1u << SET_BITS)
#define WAYS	    4
#define ARENA_BYTES (8u << 20)

#define NO_KEY ~0ull

/* Most recently used first. */
struct set {
	struct {
		uint64_t key;
		struct x86_trace *trace; /* whose own key says whether it is still good */
	} way[WAYS];
};

struct x86_traces {
	struct set set[SETS];
	size_t used;
	unsigned flushes;
	_Alignas(16) uint8_t arena[ARENA_BYTES];
};

struct x86_traces *x86_traces_new(struct err *err)
{
	struct x86_traces *t = huge_alloc(sizeof(*t));

	x86_decode_init();
	if (!t)
		err_set(err, "out of memory");
	return t;
}

void x86_traces_free(struct x86_traces *t)
{
	huge_free(t, sizeof(*t));
}

void x86_traces_on_huge_pages(struct x86_traces *t)
{
	huge_advise(t, sizeof(*t));
}

void x86_traces_flush(struct x86_traces *t)
{
	memset(t->set, 0, sizeof(t->set));
	t->used = 0;
	t->flushes++;
}

/*
 * Where a table of 2^bits entries has what belongs to a key: one for four bytes of code, and those of a page together,
 * as the host has little of a table in its caches that cold code looks at in every place.
 */
static inline unsigned place_of(uint64_t key, unsigned bits)
{
	uint64_t page = (key >> MEM_PAGE_SHIFT) * 0x9e3779b97f4a7c15 >> (64 - bits);

	return page ^ (key & X86_PAGE_MASK) >> 2;
}

/* --- the pseudo-instructions --- */

static const struct x86_insn *run_on(struct x86_cpu *cpu, const struct x86_insn *i)
{
	return x86_follow(cpu, i);
}

static const struct x86_insn *raise_ud(struct x86_cpu *cpu, const struct x86_insn *i)
{
	x86_ud(cpu);
}

static const struct x86_insn *raise_gp(struct x86_cpu *cpu, const struct x86_insn *i)
{
	x86_gp0(cpu);
}

static const struct x86_insn *guard(struct x86_cpu *cpu, const struct x86_insn *i)
{
	x86_stops_guard(cpu);
	return cpu->trace->guarded(cpu, i);
}

/* What the current trace does is left out by the translator and interpreted by itself. */
static void count_alone(struct x86_cpu *cpu)
{
	cpu->alone_trace = cpu->trace;
	stat_add(&cpu->alone, cpu->trace->count);
}

static const struct x86_insn *alone(struct x86_cpu *cpu, const struct x86_insn *i)
{
	count_alone(cpu);
	return cpu->trace->guarded(cpu, i);
}

/* A trace that a translator would make faster, once it has shown that it is worth it. */
static const struct x86_insn *warm_up(struct x86_cpu *cpu, const struct x86_insn *i)
{
	const struct x86_translator *tr = cpu->vm->translator;
	struct x86_trace *t = cpu->trace;
	_Atomic uint16_t *heat = &cpu->vm->heats[place_of(t->key, X86_HEAT_BITS)];
	uint16_t heated = atomic_load_explicit(heat, memory_order_relaxed);
	const struct x86_insn *next;

	if (heated < cpu->vm->heat || !x86_translatable(cpu)) {
		atomic_store_explicit(heat, heated + (heated < cpu->vm->heat), memory_order_relaxed);
		return t->guarded(cpu, i);
	}
	next = tr->enter(cpu);
	if (next)
		return next;
	t->insn[0].fn = t->count == 1 ? alone : t->guarded;
	return t->insn[0].fn(cpu, i);
}

uint32_t x86_trace_heat(const struct x86_cpu *cpu, const struct x86_trace *t, uint32_t behind)
{
	return atomic_load_explicit(&cpu->vm->heats[place_of(t->key + behind, X86_HEAT_BITS)], memory_order_relaxed);
}

uint32_t x86_trace_left(const struct x86_cpu *cpu)
{
	const struct x86_trace *t = cpu->trace;
	uint64_t lin = cpu->s.gpr[X86_RIP] + cpu->seg_base[X86_CS];
	uint32_t n = 0, offset;

	if (!t)
		return cpu->charged;
	for (offset = t->offset; n < t->count && offset != (lin & X86_PAGE_MASK) && offset < MEM_PAGE_SIZE; n++)
		offset += t->insn[n].len;
	return t->count - n;
}

void x86_trace_stop(struct x86_cpu *cpu)
{
	uint32_t left = x86_trace_left(cpu);

	cpu->icount_left += left;
	if (cpu->trace && cpu->trace == cpu->alone_trace)
		stat_add(&cpu->alone, -(uint64_t)left);
	cpu->trace = NULL;
	cpu->charged = 0;
}

static const struct x86_insn *broken(struct x86_cpu *cpu, const struct x86_insn *i)
{
	return x86_jumped_early(cpu);
}

void x86_trace_break(struct x86_cpu *cpu)
{
	struct x86_trace *t = cpu->trace;

	if (!t) {
		cpu->charge_ends = cpu->charged;
		return;
	}
	t->key = NO_KEY;
	/* The instruction that stores has left its slot behind: it may be overwritten like the rest. */
	for (uint32_t n = 0; n <= t->count; n++)
		t->insn[n].fn = broken;
}

void x86_trace_stored(struct x86_cpu *cpu)
{
	const struct x86_trace *t = cpu->trace;
	bool changed = false;

	for (unsigned n = 0; t && n < 2; n++) {
		if (!t->gen[n] || *t->gen[n] == t->seen[n])
			continue;
		x86_code_set_own(cpu->vm->code, x86_code_page_of(cpu->vm->code, t->gen[n]));
		changed = true;
	}
	if (changed)
		x86_trace_break(cpu);
}

/* --- building --- */

static void put_raise(struct x86_trace *t, x86_exec *fn, unsigned len)
{
	struct x86_insn *i = &t->insn[t->count++];

	memset(i, 0, sizeof(*i));
	i->fn = fn;
	i->len = len;
}

/* The bytes at `lin`, at most `want`, as far as they lie in its page. */
static size_t fetch(struct x86_cpu *cpu, const struct x86_itlb_entry *e, uint64_t lin, uint8_t *buf, size_t want)
{
	size_t left = MEM_PAGE_SIZE - (lin & X86_PAGE_MASK), n = want < left ? want : left;

	if (e->host) {
		shared_copy(buf, e->host + (lin & X86_PAGE_MASK), n);
		return n;
	}
	for (size_t i = 0; i < n; i++)
		buf[i] = x86_phys_load(cpu, e->phys + (lin & X86_PAGE_MASK) + i, 1);
	return n;
}

/* From here on stores to the bytes are seen. */
static void track(struct x86_cpu *cpu, struct x86_trace *t, unsigned n, const struct x86_itlb_entry *e, uint32_t offset,
		  uint32_t len)
{
	if (cpu->vm->unseen)
		return;
	t->gen[n] = x86_code_gen(cpu->vm->code, e->page_index);
	t->seen[n] = x86_code_track(cpu->vm->code, e->page_index, offset, len);
}

#define FETCH_MAX (X86_TRACE_MAX * 15)

/* What a trace is made from: the bytes at `lin`, as far as they are needed and lie in its page. */
struct source {
	uint64_t lin;
	struct x86_decode_mode mode;
	size_t have;
	uint8_t bytes[FETCH_MAX];
};

/* Decode the one instruction, which may cross into the next page: that one faults only if it is needed. */
static enum x86_decode_result decode_crossing(struct x86_cpu *cpu, struct x86_trace *t, struct source *from,
					      const struct x86_opdef **def)
{
	uint64_t next = (from->lin + from->have) & cpu->lin_mask;
	const struct x86_itlb_entry *e = x86_itlb_fill(cpu, next);

	if (e->host)
		track(cpu, t, 1, e, 0, 15 - from->have);
	else
		t->key = NO_KEY;
	fetch(cpu, e, next, from->bytes + from->have, 15 - from->have);
	return x86_decode(from->bytes, 15, from->mode, &t->insn[0], def);
}

static bool ends_trace(const struct x86_opdef *def, const struct x86_insn *i)
{
	return def->flags & X86_D_END || (def->flags & X86_D_REP_END && i->flags & (X86_I_REP | X86_I_REPNE));
}

/* Bytes from RIP to the limit of the code segment, as far as a trace can reach. */
static size_t code_room(const struct x86_cpu *cpu)
{
	uint64_t left = cpu->s.seg[X86_CS].limit - cpu->s.gpr[X86_RIP];

	return cpu->code_key & X86_KEY_FLAT || left >= FETCH_MAX ? FETCH_MAX : left + 1;
}

/* Decode up to `max` instructions. The bytes that they took in the first page. */
static size_t decode_run(struct x86_cpu *cpu, struct x86_trace *t, struct source *from, uint32_t max)
{
	size_t at = 0, room = code_room(cpu), have = from->have < room ? from->have : room;

	while (t->count < max && at < have) {
		const struct x86_opdef *def = NULL;
		struct x86_insn *i = &t->insn[t->count];
		enum x86_decode_result r;

		if (t->count && x86_stops_at_offset(cpu, t->offset + (uint32_t)at))
			break;
		r = x86_decode(from->bytes + at, have - at, from->mode, i, &def);
		if (r == X86_DECODE_SHORT) {
			if (t->count)
				break; /* it begins a trace of its own */
			if (have < room)
				r = decode_crossing(cpu, t, from, &def);
			max = 1;
			if (r == X86_DECODE_SHORT || i->len > room)
				r = X86_DECODE_TOO_LONG; /* it runs out of the segment: #GP as well */
		}
		if (r == X86_DECODE_UD || r == X86_DECODE_TOO_LONG) {
			at += i->len;
			put_raise(t, r == X86_DECODE_UD ? raise_ud : raise_gp, i->len);
			break;
		}
		t->count++;
		at += i->len;
		if (ends_trace(def, i))
			break;
	}
	memset(&t->insn[t->count], 0, sizeof(t->insn[0]));
	t->insn[t->count].fn = run_on;
	return at < have ? at : have;
}

/* Some time: what the key does not say, as whether segments are flat, is looked at each time (warm_up()). */
static bool may_be_translated(const struct x86_cpu *cpu)
{
	return cpu->code_bits != 16 && cpu->protected_mode && !cpu->s.smm;
}

static struct x86_trace *build(struct x86_cpu *cpu, const struct x86_itlb_entry *e, uint64_t lin, uint64_t key,
			       bool single)
{
	struct x86_traces *cache = cpu->traces;
	const size_t most = sizeof(struct x86_trace) + (X86_TRACE_MAX + 1) * sizeof(struct x86_insn);
	uint32_t offset = lin & X86_PAGE_MASK;
	struct source from = { .lin = lin, .mode = { cpu->code_bits, !cpu->protected_mode, cpu->vm->features } };
	struct x86_trace *t;
	size_t used;

	if (cache->used + most > ARENA_BYTES) {
		x86_traces_flush(cache);
		cpu->alone_trace = NULL;
	}
	t = (struct x86_trace *)(cache->arena + cache->used);
	do {
		*t = (struct x86_trace){ .key = key, .offset = offset };
		from.have = fetch(cpu, e, lin, from.bytes, single ? 15 : FETCH_MAX);
		used = decode_run(cpu, t, &from, single ? 1 : X86_TRACE_MAX);
		if (!e->host)
			break;
		track(cpu, t, 0, e, offset, used ? used : 1);
		/* A store that came between the fetch and now shows in the bytes. */
	} while (!shared_equal(from.bytes, e->host + offset, used));
	t->guarded = t->insn[0].fn;
	if (x86_stops_at_offset(cpu, offset))
		t->insn[0].fn = guard;
	else if (cpu->vm->translator && !single && t->key != NO_KEY && e->host && may_be_translated(cpu))
		t->insn[0].fn = warm_up;
	/* Code outside RAM may change without a trace, and segments end elsewhere: these are decoded each time. */
	if (!e->host || code_room(cpu) < FETCH_MAX || cpu->vm->unseen)
		t->key = NO_KEY;
	cache->used += sizeof(*t) + (t->count + 1) * sizeof(t->insn[0]);
	return t;
}

/* --- running --- */

static inline bool fresh(const struct x86_trace *t)
{
	return (!t->gen[0] || atomic_load_explicit(t->gen[0], memory_order_relaxed) == t->seen[0]) &&
	       (!t->gen[1] || atomic_load_explicit(t->gen[1], memory_order_relaxed) == t->seen[1]);
}

/* A crossing trace depends on how the second page is mapped, which the key does not say. */
static bool second_page_same(struct x86_cpu *cpu, const struct x86_trace *t, uint64_t lin)
{
	const struct x86_itlb_entry *e;

	if (!t->gen[1])
		return true;
	e = x86_itlb_fill(cpu, ((lin | X86_PAGE_MASK) + 1) & cpu->lin_mask);
	return e->host && x86_code_gen(cpu->vm->code, e->page_index) == t->gen[1];
}

/* `t` becomes the first of its set, in place of the one with its key or of the last. */
static void put_first(struct set *s, uint64_t key, struct x86_trace *t)
{
	unsigned n = 0;

	while (n < WAYS - 1 && s->way[n].key != key)
		n++;
	for (; n; n--)
		s->way[n] = s->way[n - 1];
	s->way[0].key = key;
	s->way[0].trace = t;
}

static inline struct x86_trace *among(struct set *s, uint64_t key)
{
	struct x86_trace *t = NULL;

	if (__builtin_expect(s->way[0].key == key, 1)) {
		t = s->way[0].trace;
	} else {
		for (unsigned n = 1; n < WAYS && !t; n++)
			if (s->way[n].key == key)
				t = s->way[n].trace;
		if (t)
			put_first(s, key, t);
	}
	return t && t->key == key ? t : NULL;
}

/* The trace at RIP. */
static inline struct x86_trace *find(struct x86_cpu *cpu, bool single)
{
	uint64_t rip = cpu->s.gpr[X86_RIP];
	bool near_limit = false;

	if (__builtin_expect(!(cpu->code_key & X86_KEY_FLAT), 0)) {
		if (rip > cpu->s.seg[X86_CS].limit)
			x86_gp0(cpu);
		near_limit = code_room(cpu) < FETCH_MAX;
	}
	uint64_t lin = (rip + cpu->seg_base[X86_CS]) & cpu->lin_mask;
	const struct x86_itlb_entry *e = x86_itlb_slot(cpu, lin);
	if (__builtin_expect(e->tag != (lin & ~X86_PAGE_MASK), 0))
		e = x86_itlb_fill(cpu, lin);
	uint64_t key = x86_code_page(e) | (lin & X86_PAGE_MASK) | cpu->code_key | (single ? X86_KEY_SINGLE : 0);
	struct set *set = &cpu->traces->set[place_of(key, SET_BITS)];
	struct x86_trace *t = among(set, key);
	if (__builtin_expect(near_limit || !t || !fresh(t) || !second_page_same(cpu, t, lin), 0)) {
		t = build(cpu, e, lin, key, single);
		put_first(set, key, t);
	}
	cpu->trace_page = lin & ~X86_PAGE_MASK;
	return t;
}

static const struct x86_insn *overdrawn(struct x86_cpu *cpu);

static inline const struct x86_insn *enter(struct x86_cpu *cpu, struct x86_trace *t)
{
	cpu->trace = t;
	cpu->icount_left -= t->count;
	if (__builtin_expect(cpu->icount_left < 0, 0))
		return overdrawn(cpu);
	return t->insn;
}

/* The trace is longer than what may be retired before the next look at clock and counters. */
static __attribute__((noinline)) const struct x86_insn *overdrawn(struct x86_cpu *cpu)
{
	x86_trace_stop(cpu);
	/* The counted clock's next deadline lies within the trace: up to there one by one. */
	if (cpu->icount && cpu->icount_left)
		return enter(cpu, find(cpu, true));
	x86_begin_again(cpu);
	x86_icount_grant(cpu);
	return x86_jumped(cpu);
}

const struct x86_insn *x86_jumped(struct x86_cpu *cpu)
{
	bool single = false;

	if (__builtin_expect(cpu->in_block, 0))
		return NULL;
	cpu->trace = NULL;
	if (__builtin_expect(x86_news(cpu), 0)) {
		x86_check_events(cpu);
		/* Shadows and single steps end after one instruction. */
		single = cpu->attention;
		cpu->alone_trace = NULL;
	}
	return enter(cpu, find(cpu, single));
}

const struct x86_insn *x86_jumped_early(struct x86_cpu *cpu)
{
	if (cpu->in_block)
		return NULL;
	x86_trace_stop(cpu);
	return x86_jumped(cpu);
}

const struct x86_insn *x86_single(struct x86_cpu *cpu)
{
	const struct x86_insn *i;

	cpu->trace = NULL;
	cpu->alone_trace = NULL;
	i = enter(cpu, find(cpu, true));
	if (cpu->trace->key & X86_KEY_SINGLE)
		count_alone(cpu);
	return i;
}

/*
 * Links hold between traces of one page only: the instructions that can change how a page is mapped, the mode or a
 * limit end their trace by x86_jumped(). A flush of the arena takes both ends of a link away.
 */
static __attribute__((noinline)) const struct x86_insn *find_and_link(struct x86_cpu *cpu, const struct x86_insn *from)
{
	uint64_t page = cpu->trace_page, key;
	unsigned flushes = cpu->traces->flushes;
	struct x86_trace *t;

	if (cpu->in_block)
		return NULL;
	key = cpu->trace->key;
	cpu->trace = NULL;
	t = find(cpu, false);
	if (flushes == cpu->traces->flushes && key != NO_KEY && key & X86_KEY_FLAT && page == cpu->trace_page &&
	    !((key ^ t->key) & ~X86_PAGE_MASK) && t->gen[0] && !t->gen[1])
		((struct x86_insn *)from)->link = t;
	return enter(cpu, t);
}

const struct x86_insn *x86_follow(struct x86_cpu *cpu, const struct x86_insn *from)
{
	struct x86_trace *t = from->link;

	if (__builtin_expect(x86_news(cpu), 0))
		return x86_jumped(cpu);
	if (t && atomic_load_explicit(t->gen[0], memory_order_relaxed) == t->seen[0])
		return enter(cpu, t);
	return find_and_link(cpu, from);
}

_Noreturn void x86_execute(struct x86_cpu *cpu)
{
	const struct x86_insn *i = x86_jumped(cpu);

	for (;;)
		i = i->fn(cpu, i);
}
