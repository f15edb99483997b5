/* One of the two machines: see lockstep.h. */
#include "lockstep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "cpu/debug.h"
#include "vm/impl.h"

#define IDLE_NS 1000000 /* from place to place while the guest waits */

struct side {
	struct lockstep *l;
	struct lockstep_side *s;
	struct vm *vm;
	struct clock_timer timer;
	uint64_t random;
	int64_t next_ram;
	struct x86_state state;
};

/* --- hashes --- */

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15;
	return h ^ h >> 29;
}

static uint64_t hash_page(const uint8_t *p)
{
	uint64_t h[4] = { 1, 2, 3, 4 };

	for (unsigned n = 0; n < MEM_PAGE_SIZE; n += 32)
		for (unsigned k = 0; k < 4; k++)
			h[k] = (h[k] ^ ld_le64(p + n + 8 * k)) * 0x9e3779b97f4a7c15 + (h[k] >> 32);
	return mix(mix(mix(h[0], h[1]), h[2]), h[3]);
}

/* The fields that a saved state has. */
static uint64_t hash_fields(uint64_t h, const struct state_desc *d, const void *obj)
{
	for (const struct state_field *f = d->fields; f->type != STATE_END; f++) {
		for (uint32_t n = 0; n < f->count; n++) {
			const uint8_t *at = (const uint8_t *)obj + f->offset + n * f->size;
			uint64_t v = 0;

			if (f->type == STATE_STRUCT) {
				h = hash_fields(h, f->sub, at);
				continue;
			}
			memcpy(&v, at, f->size);
			h = mix(h, v);
		}
	}
	return h;
}

/* All RAM, and each page of it if `pages`. */
static uint64_t hash_ram(struct vm *vm, uint64_t *pages)
{
	uint64_t h = 0, count = 0;
	const char *name;
	struct mem_window w;

	for (unsigned n = 0; n < mem_slot_count(vm->mem); n++) {
		if (!mem_slot_window(vm->mem, n, &w, &name))
			continue;
		for (uint64_t at = 0; at < w.size; at += MEM_PAGE_SIZE, count++) {
			uint64_t page = hash_page(w.host + at);

			h = mix(h, page);
			if (pages && count < LOCKSTEP_PAGES)
				pages[count] = page;
		}
	}
	return h | 1;
}

/* --- places --- */

static void say(struct side *x, int64_t now)
{
	struct lockstep_side *s = x->s;
	uint64_t said = atomic_load(&s->said);
	struct lockstep_place *p = &s->ring[said % LOCKSTEP_RING];

	while (said - atomic_load(&s->heard) >= LOCKSTEP_RING)
		nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
	*p = (struct lockstep_place){
		.ns = now,
		.instructions = atomic_load(&x->vm->cpu[0].vcpu->instructions),
		.rip = x->state.gpr[X86_RIP],
		.cpu = hash_fields(0, &x86_state_desc, &x->state),
	};
	if (now >= x->next_ram && !x->l->lax) {
		p->ram = hash_ram(x->vm, NULL);
		x->next_ram = now + (int64_t)x->l->ram_every;
	}
	atomic_store(&s->said, said + 1);
}

static void note_step(struct side *x)
{
	struct lockstep_side *s = x->s;
	struct lockstep_insn *i = &s->path[s->path_len++ % LOCKSTEP_PATH];
	uint64_t phys, lin = x->state.gpr[X86_RIP] + x->state.seg[X86_CS].base;

	*i = (struct lockstep_insn){ .rip = x->state.gpr[X86_RIP] };
	for (unsigned n = 0; n < sizeof(i->bytes); n++)
		if (x86_debug_isa.translate(&x->state, x->vm->mem, lin + n, &phys))
			mem_read(x->vm->mem, gpa(phys), &i->bytes[n], 1);
}

static _Noreturn void end(struct side *x, int status)
{
	x->s->status = status;
	atomic_store(&x->s->ended, true);
	_exit(0);
}

static uint64_t random_step(struct side *x)
{
	x->random = mix(x->random, 1);
	return 1 + x->random % (2 * x->l->every);
}

/* Where the next place is. */
static int64_t after(struct side *x, int64_t now)
{
	const struct lockstep *l = x->l;

	if (l->until && now >= l->from) {
		int64_t walk = l->walk ? l->until - LOCKSTEP_PATH : l->until;

		return now < walk ? walk : now + 1;
	}
	/* The same on both sides. */
	return now + (x->state.run == X86_HALTED ? IDLE_NS : (int64_t)random_step(x));
}

static void stop(void *opaque)
{
	struct side *x = opaque;
	struct lockstep *l = x->l;
	int64_t now = clock_now_ns(x->vm->clock);

	x->vm->engine->get_state(x->vm->cpu[0].vcpu, &x->state);
	x86_state_canonical(&x->state);
	if (l->lax)
		x->state.rflags &= ~(uint64_t)X86_ARITH;
	if (!l->until) {
		say(x, now);
		if (l->most && now >= (int64_t)l->most)
			end(x, 0);
	} else if (now >= l->until) {
		x->s->state = x->state;
		if (!l->lax)
			hash_ram(x->vm, x->s->page);
		end(x, 0);
	} else if (l->walk && now > l->from && now >= l->until - LOCKSTEP_PATH) {
		note_step(x);
	}
	clock_timer_arm(&x->timer, after(x, now));
}

/* --- the machine --- */

static struct config *configure(const struct lockstep *l, const struct lockstep_side *s)
{
	const struct {
		const char *key, *value;
	} keys[] = {
		{ "kernel", l->kernel },   { "initrd", l->initrd }, { "append", l->append },
		{ "memory", l->memory },   { "engine", s->engine }, { "name", s->engine },
		{ "serial0", s->console }, { "clock", "icount" },   { "clock.idle", "skip" },
		{ "rng", "off" },	   { "no-reboot", "on" },   { "jit.strict", l->lax ? "off" : "on" },
	};
	struct config *c = config_new();
	struct err err;

	for (size_t n = 0; n < ARRAY_LEN(keys); n++)
		if (!c || config_set(c, keys[n].key, keys[n].value, &err))
			abort();
	for (unsigned n = 0; n < l->sets; n++) {
		char key[64];
		size_t len = strcspn(l->set[n], "=");

		snprintf(key, sizeof(key), "%.*s", (int)len, l->set[n]);
		if (!l->set[n][len] || config_set(c, key, l->set[n] + len + 1, &err))
			abort();
	}
	return c;
}

_Noreturn void lockstep_run(struct lockstep *l, struct lockstep_side *s)
{
	static struct side x;
	struct err err = { "" };

	x = (struct side){ .l = l, .s = s, .random = l->seed };
	x.vm = vm_new(configure(l, s), &err);
	if (x.vm) {
		clock_timer_init(&x.timer, x.vm->clock, NULL, stop, &x);
		clock_timer_arm(&x.timer, 1);
		s->status = vm_run(x.vm, &err);
	}
	if (!x.vm || s->status < 0)
		fprintf(stderr, "%s: %s\n", s->engine, err.msg);
	end(&x, x.vm ? s->status : -1);
}
