/*
 * The VM side of the differential test: a vCPU at privilege 3 with Linux's selectors and the memory map of
 * diff.h. Whatever ends a block arrives through the IDT at privilege 0, where a HLT tells the vector by its
 * address and the stack holds the frame: decoding, paging and delivery are the engine's own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cpu/jit/jit.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/entry.h"
#include "cpu/x86/fault.h"
#include "diff_run.h"
#include "hot.h"

/* Guest-physical, and mapped for the supervisor at KERNEL + it. */
#define RAM	 (1u << 20)
#define PML4	 0x1000u
#define TABLES	 0x2000u /* page tables are taken from here up */
#define GDT	 0x20000u
#define LDT	 0x21000u
#define IDT	 0x22000u
#define TSS	 0x23000u
#define HANDLERS 0x24000u /* a HLT for each vector */
#define STACK	 0x26000u /* top */
#define EXIT	 0x26000u
#define EXITS	 0x27000u
#define CODE	 0x30000u
#define DATA	 0x50000u
#define KERNEL	 0xffff800000000000ull

#define STRIDE 16u /* of handlers */

enum { GDT_KERNEL_CS = 0x10, GDT_TSS = 0x38, GDT_LDT = 0x48, GDT_SIZE = 0x58 };
enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40 };
#define PTE_NX (1ull << 63)

struct diff_guest {
	const struct engine *engine;
	struct loop *loop;
	struct vclock *clock;
	struct mem_space *mem;
	struct config *config;
	struct engine_vm *vm;
	struct vcpu *vcpu;
	uint32_t next_table;
	struct x86_state start[DIFF_MODES], now;
};

static uint64_t load64(struct diff_guest *g, uint64_t at)
{
	uint64_t v = 0;

	mem_read(g->mem, gpa(at), &v, 8);
	return v;
}

static void store64(struct diff_guest *g, uint64_t at, uint64_t v)
{
	if (!mem_write(g->mem, gpa(at), &v, 8))
		abort();
}

static void map(struct diff_guest *g, uint64_t va, uint64_t pa, uint64_t bits)
{
	uint64_t table = PML4;

	for (int shift = 39; shift > 12; shift -= 9) {
		uint64_t at = table + 8 * (va >> shift & 511), e = load64(g, at);

		if (!e) {
			e = g->next_table | PTE_P | PTE_W | PTE_U | PTE_A;
			g->next_table += 0x1000;
			store64(g, at, e);
		}
		table = e & ~0xfffull;
	}
	store64(g, table + 8 * (va >> 12 & 511), pa | bits | PTE_P | PTE_A | PTE_D);
}

static void map_all(struct diff_guest *g)
{
	g->next_table = TABLES;
	for (uint64_t at = GDT; at < EXIT; at += 0x1000)
		map(g, KERNEL + at, at, PTE_W);
	for (uint64_t high = 0; high <= DIFF_HIGH; high += DIFF_HIGH) {
		map(g, DIFF_EXIT + high, EXIT, PTE_U);
		for (uint64_t at = 0; at < DIFF_CODE_SIZE; at += 0x1000)
			map(g, DIFF_CODE + high + at, CODE + at, PTE_U);
		for (uint64_t at = 0; at < DIFF_RW + DIFF_RO; at += 0x1000)
			map(g, DIFF_DATA + high + at, DATA + at, PTE_U | PTE_NX | (at < DIFF_RW ? PTE_W : 0));
	}
	map(g, DIFF_EXITS, EXITS, PTE_U);
	if (g->next_table > GDT)
		abort();
}

/* --- descriptors, in memory and as the segment registers hold them --- */

#define ATTR(type, dpl, more) ((uint16_t)((type) | X86_SEG_P | X86_SEG_S | (dpl) << X86_SEG_DPL_SHIFT | (more)))

static struct x86_segment flat(uint16_t sel, uint16_t attr)
{
	return (struct x86_segment){ .sel = sel, .limit = 0xffffffff, .attr = attr | X86_SEG_G };
}

#define AVL (1u << 12) /* modify_ldt() was told that they are `useable` */
static struct x86_segment from_ldt(unsigned n)
{
	const struct diff_ldt *l = &diff_ldt[n];
	unsigned type = l->contents << 2 | (l->read_only ? 0 : 2) | 1;

	return (struct x86_segment){ l->base, l->limit, DIFF_LDT_SEL(n),
				     ATTR(type, 3, AVL | (l->bits32 ? X86_SEG_DB : 0)), false };
}

static struct x86_segment segment(uint16_t sel)
{
	switch (sel) {
	case DIFF_CS32:
		return flat(sel, ATTR(11, 3, X86_SEG_DB));
	case DIFF_CS64:
		return flat(sel, ATTR(11, 3, X86_SEG_L));
	case DIFF_SS:
		return flat(sel, ATTR(3, 3, X86_SEG_DB));
	case GDT_KERNEL_CS:
		return flat(sel, ATTR(11, 0, X86_SEG_L));
	case 0:
		return (struct x86_segment){ .unusable = true, .attr = ATTR(3, 0, 0) };
	default:
		return from_ldt(sel >> 3);
	}
}

static uint64_t descriptor(struct x86_segment s)
{
	uint64_t limit = s.attr & X86_SEG_G ? s.limit >> 12 : s.limit;

	return (limit & 0xffff) | (s.base & 0xffffff) << 16 | (uint64_t)s.attr << 40 | (limit >> 16 & 15) << 48 |
	       (s.base >> 24 & 0xff) << 56;
}

static const struct x86_segment tss = { KERNEL + TSS, 0x67, GDT_TSS, X86_SEG_P | 11, false };
static const struct x86_segment ldt = { KERNEL + LDT, 8 * DIFF_LDT_ENTRIES - 1, GDT_LDT, X86_SEG_P | 2, false };

static void put_tables(struct diff_guest *g)
{
	static const uint16_t in_gdt[] = { GDT_KERNEL_CS, DIFF_CS32, DIFF_SS, DIFF_CS64 };
	uint8_t hlt = 0xf4, int3 = 0xcc;

	for (unsigned n = 0; n < ARRAY_LEN(in_gdt); n++)
		store64(g, GDT + (in_gdt[n] & ~7u), descriptor(segment(in_gdt[n])));
	store64(g, GDT + GDT_TSS, descriptor(tss));
	store64(g, GDT + GDT_TSS + 8, tss.base >> 32);
	store64(g, GDT + GDT_LDT, descriptor(ldt));
	store64(g, GDT + GDT_LDT + 8, ldt.base >> 32);
	for (unsigned n = 0; n < DIFF_LDT_ENTRIES; n++)
		store64(g, LDT + 8 * n, descriptor(from_ldt(n)));
	store64(g, TSS + 4, KERNEL + STACK);
	store64(g, TSS + 0x60, 0xffffull << 48); /* no port is permitted */
	for (unsigned n = 0; n < 256; n++) {
		uint64_t to = KERNEL + HANDLERS + STRIDE * n, open = n == X86_BP || n == X86_OF_TRAP ? 3 : 0;

		store64(g, IDT + 16 * n,
			(to & 0xffff) | (uint64_t)GDT_KERNEL_CS << 16 | (0x8e00 | open << 13) << 32 |
				(to >> 16 & 0xffff) << 48);
		store64(g, IDT + 16 * n + 8, to >> 32);
		mem_write(g->mem, gpa(HANDLERS + STRIDE * n), &hlt, 1);
	}
	for (unsigned n = 0; n < DIFF_BLOCKS; n++) {
		uint8_t code[DIFF_EXIT_STEP];

		diff_exit_code(code, DIFF_EXITS + DIFF_EXIT_STEP * n);
		mem_write(g->mem, gpa(EXIT + DIFF_EXIT_STEP * n), code, sizeof(code));
		mem_write(g->mem, gpa(EXITS + DIFF_EXIT_STEP * n), &int3, 1);
	}
}

static void start_state(struct x86_state *s, const struct diff_mode_info *mode, uint64_t xcr0)
{
	memset(s, 0, sizeof(*s));
	x86_state_reset(s, true, false);
	x86_entry_long64(s, 0, 0, PML4, KERNEL + GDT, GDT_SIZE - 1);
	s->cr0 |= X86_CR0_MP | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM;
	s->cr4 |= X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_FSGSBASE | X86_CR4_UMIP;
	if (xcr0) {
		s->cr4 |= X86_CR4_OSXSAVE;
		s->xcr0 = xcr0;
	}
	s->efer |= X86_EFER_SCE | X86_EFER_NXE;
	s->idt = (struct x86_dtable){ KERNEL + IDT, 0xfff };
	s->seg[X86_TR] = tss;
	s->seg[X86_LDTR] = ldt;
	for (unsigned n = 0; n < 6; n++)
		s->seg[n] = segment(mode->sel[n]);
	if (mode->bits == 64) {
		s->seg[X86_FS].base = DIFF_FS_BASE;
		s->seg[X86_GS].base = DIFF_GS_BASE;
	}
}

struct diff_guest *diff_guest_new(const struct engine *e, const uint8_t *ro)
{
	struct mem_slot_config ram = { "ram", gpa(0), RAM, MEM_ANON, -1, 0, false };
	struct diff_guest *g = calloc(1, sizeof(*g));
	struct engine_config c = { .cpus = 1 };
	struct err err;

	if (!g)
		abort();
	g->engine = e;
	g->loop = loop_new(&err);
	g->clock = clock_new(g->loop, CLOCK_SOURCE_HOST, &err);
	g->mem = mem_space_new();
	if (!g->clock || mem_add_slot(g->mem, &ram, &err))
		abort();
	g->config = all_hot(NULL);
	/* diff_guest_retired() is for all engines. */
	if (config_set(g->config, "jit.count", "sums", &err))
		abort();
	c.mem = g->mem;
	c.config = g->config;
	c.clock = g->clock;
	g->vm = e->vm_create(&c, &err);
	g->vcpu = g->vm ? e->vcpu_create(g->vm, 0, &err) : NULL;
	if (!g->vcpu)
		abort();
	map_all(g);
	put_tables(g);
	mem_write(g->mem, gpa(DATA + DIFF_RW), ro, DIFF_RO);
	for (unsigned m = 0; m < DIFF_MODES; m++)
		start_state(&g->start[m], &diff_modes[m], x86_host_has(X86_F_AVX) ? 7 : 0);
	return g;
}

void diff_guest_free(struct diff_guest *g)
{
	g->engine->vcpu_destroy(g->vcpu);
	g->engine->vm_destroy(g->vm);
	config_free(g->config);
	clock_free(g->clock);
	loop_free(g->loop);
	mem_space_free(g->mem);
	free(g);
}

void diff_guest_code(struct diff_guest *g, uint32_t at, const uint8_t *code, uint32_t len)
{
	if (!mem_write(g->mem, gpa(CODE + at), code, len))
		abort();
}

const char *diff_guest_engine(const struct diff_guest *g)
{
	return g->engine->name;
}

uint64_t diff_guest_translated(const struct diff_guest *g)
{
	struct x86_cpu *cpu = x86_cpu_of(g->vcpu);

	if (g->engine != &engine_jit)
		return 0;
	return g->vcpu->instructions - cpu->interpreted - jit_of(cpu)->counts.handled;
}

uint64_t diff_guest_retired(const struct diff_guest *g)
{
	return g->vcpu->instructions;
}

/* --- the FXSAVE64 image --- */

static void fp_in(struct x86_state *s, const struct diff_state *in)
{
	const uint8_t *fx = in->fx;
	unsigned top;

	s->fp.cw = ld_le16(fx);
	s->fp.sw = ld_le16(fx + 2);
	s->fp.valid = fx[4];
	s->fp.op = ld_le16(fx + 6) & 0x7ff;
	s->fp.ip = ld_le64(fx + 8);
	s->fp.dp = ld_le64(fx + 16);
	s->mxcsr = ld_le32(fx + 24);
	top = s->fp.sw >> 11 & 7;
	for (unsigned n = 0; n < 8; n++)
		s->fp.r[(top + n) & 7] = (struct x86_fpreg){ ld_le64(fx + 32 + 16 * n), ld_le16(fx + 40 + 16 * n) };
	for (unsigned n = 0; n < 16; n++)
		memcpy(s->vec[n].b, fx + 160 + 16 * n, 16);
	for (unsigned n = 0; n < 16 && s->xcr0 & 4; n++)
		memcpy(s->vec[n].b + 16, in->high[n], 16);
}

static void fp_out(const struct x86_state *s, struct diff_state *out)
{
	uint8_t *fx = out->fx;
	unsigned top = s->fp.sw >> 11 & 7;

	memset(fx, 0, 512);
	st_le16(fx, s->fp.cw);
	st_le16(fx + 2, s->fp.sw);
	fx[4] = s->fp.valid;
	st_le16(fx + 6, s->fp.op);
	st_le64(fx + 8, s->fp.ip);
	st_le64(fx + 16, s->fp.dp);
	st_le32(fx + 24, s->mxcsr);
	for (unsigned n = 0; n < 8; n++) {
		st_le64(fx + 32 + 16 * n, s->fp.r[(top + n) & 7].mant);
		st_le16(fx + 40 + 16 * n, s->fp.r[(top + n) & 7].sexp);
	}
	for (unsigned n = 0; n < 16; n++)
		memcpy(fx + 160 + 16 * n, s->vec[n].b, 16);
	for (unsigned n = 0; n < 16; n++)
		memcpy(out->high[n], s->vec[n].b + 16, 16);
}

/* --- running --- */

/* The frame on the supervisor's stack. */
static void take_frame(struct diff_guest *g, struct diff_result *out)
{
	uint64_t sp = g->now.gpr[X86_RSP] - KERNEL, frame[6];
	unsigned at = 0;

	mem_read(g->mem, gpa(sp), frame, STACK - sp < sizeof(frame) ? STACK - sp : sizeof(frame));
	out->error = x86_has_error((uint8_t)out->vector) ? (uint32_t)frame[at++] : 0;
	out->s.rip = frame[at];
	out->sel[X86_CS] = (uint16_t)frame[at + 1];
	out->s.rflags = frame[at + 2];
	out->s.gpr[X86_RSP] = frame[at + 3];
	out->sel[X86_SS] = (uint16_t)frame[at + 4];
}

void diff_guest_run(struct diff_guest *g, enum diff_mode mode, const struct diff_slot *slot, struct diff_result *out)
{
	struct x86_state *s = &g->now;
	uint64_t vector;
	struct err err;

	*s = g->start[mode];
	memcpy(s->gpr, slot->in.gpr, sizeof(slot->in.gpr));
	s->gpr[X86_RIP] = slot->entry;
	s->rflags = slot->in.rflags;
	fp_in(s, &slot->in);
	mem_write(g->mem, gpa(DATA), slot->mem, DIFF_RW);
	if (g->engine->set_state(g->vcpu, s, &err)) {
		fprintf(stderr, "the engine refuses a state: %s\n", err.msg);
		abort();
	}
	enum cpu_exit exit = g->engine->run(g->vcpu);
	g->engine->get_state(g->vcpu, s);
	memcpy(out->s.gpr, s->gpr, sizeof(out->s.gpr));
	for (unsigned n = 0; n < 6; n++)
		out->sel[n] = s->seg[n].sel;
	fp_out(s, &out->s);
	mem_read(g->mem, gpa(DATA), out->mem, DIFF_RW);
	vector = (s->gpr[X86_RIP] - (KERNEL + HANDLERS)) / STRIDE;
	if (exit != CPU_EXIT_HALTED || vector > 255) {
		/* A shutdown: no vector is like it. */
		out->vector = ~0u;
		return;
	}
	out->vector = (uint32_t)vector;
	out->cr2 = vector == X86_PF_FAULT ? s->cr2 : 0;
	take_frame(g, out);
	uint64_t at = out->s.rip - 1 - DIFF_EXITS;
	if (vector == X86_BP && at < DIFF_BLOCKS * DIFF_EXIT_STEP) {
		out->vector = DIFF_DONE;
		out->exit = (uint32_t)(at / DIFF_EXIT_STEP);
	}
}
