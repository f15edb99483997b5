/* See pair.h. */
#include "pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "hot.h"

#define PTE_P	   1u
#define PTE_W	   2u
#define PTE_U	   4u
#define PTE_A	   0x20u
#define PTE_D	   0x40u
#define PTE_ALL	   (PTE_P | PTE_W | PTE_U | PTE_A | PTE_D)
#define PTE_KEY(n) ((uint64_t)(n) << 59)
#define END_TABLES (RIG_TABLES + 0x1000) /* of PAIR_END: three pages */

static const uint64_t kinds[PAIR_PAGES] = {
	[PAIR_READ_ONLY] = PTE_P | PTE_U | PTE_A,
	[PAIR_DEVICE_PAGE] = PTE_ALL,
	[PAIR_SUPERVISOR] = PTE_P | PTE_W | PTE_A | PTE_D,
	[PAIR_KEY_NONE] = PTE_ALL | PTE_KEY(1),
	[PAIR_KEY_READ] = PTE_ALL | PTE_KEY(2),
	[PAIR_CODE] = PTE_ALL,
	[PAIR_CLEAN] = PTE_P | PTE_W | PTE_U,
};

/* What is compared. */
static const struct {
	uint64_t at;
	uint32_t len;
} regions[] = {
	{ PAIR_FRAMES, PAIR_PAGES << 12 },
	{ RIG_TABLES, 0x4000 },
	{ RIG_IST1 - 0x100, 0x100 },
	{ RIG_CODE, 0x1000 },
};
static uint8_t image[2][PAIR_PAGES << 12], content[PAIR_PAGES << 12];

static uint64_t frame(unsigned page)
{
	return page == PAIR_CODE	  ? RIG_CODE
	       : page == PAIR_DEVICE_PAGE ? PAIR_DEVICE
					  : PAIR_FRAMES + page * 5 % PAIR_PAGES * 0x1000;
}

static uint64_t device(struct tiny_vm *t, uint64_t addr)
{
	return rng_mix(t->mmio_count ^ addr);
}

void pair_new(struct pair *p, bool strict, const char *heat)
{
	struct rng rng = { 1 };
	struct err err;

	memset(p, 0, sizeof(*p));
	p->strict = strict;
	for (unsigned n = 0; n < 2; n++) {
		struct config *c = config_new();

		if (!c || config_set(c, "cpu.model", "max", &err) ||
		    config_set(c, "jit.strict", strict ? "on" : "off", &err) ||
		    config_set(c, "jit.heat", heat ? heat : "0", &err))
			abort();
		rig_new_on(&p->r[n], RIG_LONG, n ? tiny_software() : &engine_interp, c);
		p->r[n].vm.on_mmio_read = device;
	}
	p->first = p->r[0].s;
	rng_memory(&rng, content, sizeof(content));
}

void pair_free(struct pair *p)
{
	rig_free(&p->r[0]);
	rig_free(&p->r[1]);
}

void pair_put(struct pair *p, uint64_t at, const void *bytes, size_t len)
{
	static uint8_t now[sizeof(content)];

	/* What is there already stays translated. */
	for (unsigned n = 0; n < 2; n++)
		if (len > sizeof(now) || !mem_read(p->r[n].vm.mem, gpa(at), now, len) || memcmp(now, bytes, len))
			rig_put(&p->r[n], at, bytes, len);
}

void pair_write(struct pair *p, uint64_t at, uint64_t v, unsigned size)
{
	pair_put(p, at, &v, size);
}

static void tables(struct pair *p)
{
	pair_write(p, 0x3000 + 8 * (PAIR_WINDOW >> 21), PAIR_PT | PTE_P | PTE_W | PTE_U, 8);
	for (unsigned n = 0; n < 512; n++)
		pair_write(p, PAIR_PT + 8 * n,
			   n >= PAIR_PAGES || n == PAIR_ABSENT ? 0 : frame(n) | (kinds[n] ? kinds[n] : PTE_ALL), 8);
	pair_write(p, RIG_CR3 + 8 * 255, END_TABLES | PTE_ALL, 8);
	pair_write(p, END_TABLES + 8 * 511, (END_TABLES + 0x1000) | PTE_ALL, 8);
	pair_write(p, END_TABLES + 0x1000 + 8 * 511, (END_TABLES + 0x2000) | PTE_ALL, 8);
	pair_write(p, END_TABLES + 0x2000 + 8 * 511, frame(PAIR_PLAIN) | PTE_ALL, 8);
}

void pair_reset(struct pair *p, unsigned cpl)
{
	struct x86_state *s = pair_state(p);
	struct rng rng = { 2 };

	*s = p->first;
	for (unsigned n = 0; n < 2; n++)
		p->r[n].vm.mmio_count = p->r[n].vm.mmio_digest = 0;
	pair_put(p, PAIR_FRAMES, content, sizeof(content));
	tables(p);
	for (unsigned v = 0; v < 32; v++)
		pair_write(p, RIG_IDT + 16 * v, RIG_GATE(RIG_CODE64, (uint64_t)RIG_HANDLERS + v, 0x8e, 1), 8);
	for (unsigned n = 0; n < ARRAY_LEN(s->vec); n++)
		for (unsigned k = 0; k < 4; k++)
			s->vec[n].q[k] = rng_next(&rng);
	for (unsigned n = X86_ES; n <= X86_GS; n++)
		rig_seg(&p->r[0], (enum x86_seg)n,
			n == X86_CS ? (cpl ? RIG_UCODE64 : RIG_CODE64) : (cpl ? RIG_UDATA : RIG_DATA));
	s->cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE | X86_CR0_PG | X86_CR0_WP | X86_CR0_MP;
	s->cr3 = RIG_CR3;
	s->cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXSAVE | X86_CR4_PKE | X86_CR4_FSGSBASE;
	s->xcr0 = 0x207;
	s->pkru = 1u << 2 | 2u << 4;
	s->fp = (struct x86_x87){ .cw = 0x37f };
	s->mxcsr = 0x1f80;
	s->seg[X86_FS].base = 8;
	s->seg[X86_GS].base = 16;
	s->kernel_gs_base = 24;
}

/* --- comparing --- */

static bool different(const char *what, uint64_t a, uint64_t b)
{
	if (a != b)
		fprintf(stderr, "%s: %#llx, and %#llx here\n", what, (unsigned long long)a, (unsigned long long)b);
	return a != b;
}

static bool states_differ(const struct pair *p)
{
	static const char *const names[] = { "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",  "R8",
					     "R9",  "R10", "R11", "R12", "R13", "R14", "R15", "none", "RIP" };
	const struct x86_state *a = &p->r[0].s, *b = &p->r[1].s;
	bool fault = rig_vector(&p->r[0]) != -1, bad = false;
	/* AF is undefined after too much; without jit.strict a frame need not have what the next instruction sets. */
	uint64_t flags = fault && !p->strict ? ~(uint64_t)X86_ARITH : ~(uint64_t)X86_AF;

	for (unsigned n = 0; n < ARRAY_LEN(names); n++)
		bad |= different(names[n], a->gpr[n], b->gpr[n]);
	bad |= different("flags", a->rflags & flags, b->rflags & flags);
	bad |= different("CR2", a->cr2, b->cr2);
	bad |= different("CPL", a->seg[X86_CS].sel, b->seg[X86_CS].sel);
	bad |= different("GS base", a->seg[X86_GS].base, b->seg[X86_GS].base);
	bad |= different("exit", p->r[0].why, p->r[1].why);
	bad |= different("accesses to devices", p->r[0].vm.mmio_count, p->r[1].vm.mmio_count);
	bad |= different("their digest", p->r[0].vm.mmio_digest, p->r[1].vm.mmio_digest);
	for (unsigned n = 0; n < ARRAY_LEN(a->vec); n++)
		for (unsigned k = 0; k < 4; k++)
			bad |= different("vector register", a->vec[n].q[k], b->vec[n].q[k]);
	for (unsigned n = 0; n < ARRAY_LEN(a->fp.r); n++)
		bad |= different("x87 register", a->fp.r[n].mant, b->fp.r[n].mant);
	return bad;
}

static bool memory_differs(const struct pair *p)
{
	const uint64_t frame_flags = RIG_IST1 - 0x18;
	bool bad = false;

	for (unsigned n = 0; n < ARRAY_LEN(regions); n++) {
		uint64_t at = regions[n].at, flags;

		for (unsigned k = 0; k < 2; k++) {
			mem_read(p->r[k].vm.mem, gpa(at), image[k], regions[n].len);
			if (frame_flags - at >= regions[n].len)
				continue;
			memcpy(&flags, image[k] + (frame_flags - at), 8);
			flags &= ~(uint64_t)(p->strict ? X86_AF : X86_ARITH);
			memcpy(image[k] + (frame_flags - at), &flags, 8);
		}
		if (!memcmp(image[0], image[1], regions[n].len))
			continue;
		for (unsigned k = 0; k < regions[n].len && !bad; k++)
			if (image[0][k] != image[1][k]) {
				fprintf(stderr, "memory at %#llx: %02x, and %02x here\n", (unsigned long long)at + k,
					image[0][k], image[1][k]);
				bad = true;
			}
	}
	return bad;
}

bool pair_run(struct pair *p)
{
	bool bad;

	p->r[1].s = p->r[0].s;
	rig_run(&p->r[0]);
	rig_run(&p->r[1]);
	bad = states_differ(p);
	bad |= memory_differs(p);
	return !bad;
}
