/*
 * System management mode: SMI, the two layouts of the saved state, RSM. SDM vol. 3, chapter 34 (31 in newer ones); AMD
 * APM vol. 2, chapter 10 for the layout of processors with long mode.
 *
 * SMRAM is an address space of its own: in SMM the processor looks at memory through engine_config.smm_mem. I/O
 * instructions are not restarted, so the revision offers only the relocation of SMBASE; A20 is never masked here.
 */
#include <string.h>

#include "base/bytes.h"
#include "cpu/x86/interp.h"
#include "cpu/x86/paging.h"
#include "cpu/x86/template.h"

#define AREA	  0xfe00u /* of SMBASE: the state, up to SMBASE + FFFFh */
#define AREA_SIZE 512u
#define ENTRY	  0x8000u
#define RELOCATES (1u << 17)

/* --- what goes where --- */

struct place {
	uint16_t at; /* in the area */
	uint8_t size;
	uint16_t field; /* in struct x86_state */
};
#define FIELD(m) offsetof(struct x86_state, m)

static const struct place long_places[] = {
	{ 0x1f8, 8, FIELD(gpr[0]) },	{ 0x1f0, 8, FIELD(gpr[1]) },   { 0x1e8, 8, FIELD(gpr[2]) },
	{ 0x1e0, 8, FIELD(gpr[3]) },	{ 0x1d8, 8, FIELD(gpr[4]) },   { 0x1d0, 8, FIELD(gpr[5]) },
	{ 0x1c8, 8, FIELD(gpr[6]) },	{ 0x1c0, 8, FIELD(gpr[7]) },   { 0x1b8, 8, FIELD(gpr[8]) },
	{ 0x1b0, 8, FIELD(gpr[9]) },	{ 0x1a8, 8, FIELD(gpr[10]) },  { 0x1a0, 8, FIELD(gpr[11]) },
	{ 0x198, 8, FIELD(gpr[12]) },	{ 0x190, 8, FIELD(gpr[13]) },  { 0x188, 8, FIELD(gpr[14]) },
	{ 0x180, 8, FIELD(gpr[15]) },	{ 0x178, 8, FIELD(gpr[17]) },  { 0x170, 8, FIELD(rflags) },
	{ 0x168, 8, FIELD(dr6) },	{ 0x160, 8, FIELD(dr7) },      { 0x158, 8, FIELD(cr0) },
	{ 0x150, 8, FIELD(cr3) },	{ 0x148, 8, FIELD(cr4) },      { 0x0d0, 8, FIELD(efer) },
	{ 0x064, 2, FIELD(gdt.limit) }, { 0x068, 8, FIELD(gdt.base) }, { 0x084, 2, FIELD(idt.limit) },
	{ 0x088, 8, FIELD(idt.base) },
};

static const struct place short_places[] = {
	{ 0x1d0, 4, FIELD(gpr[0]) },	{ 0x1d4, 4, FIELD(gpr[1]) },   { 0x1d8, 4, FIELD(gpr[2]) },
	{ 0x1dc, 4, FIELD(gpr[3]) },	{ 0x1e0, 4, FIELD(gpr[4]) },   { 0x1e4, 4, FIELD(gpr[5]) },
	{ 0x1e8, 4, FIELD(gpr[6]) },	{ 0x1ec, 4, FIELD(gpr[7]) },   { 0x1f0, 4, FIELD(gpr[17]) },
	{ 0x1f4, 4, FIELD(rflags) },	{ 0x1f8, 4, FIELD(cr3) },      { 0x1fc, 4, FIELD(cr0) },
	{ 0x1cc, 4, FIELD(dr6) },	{ 0x1c8, 4, FIELD(dr7) },      { 0x114, 4, FIELD(cr4) },
	{ 0x170, 4, FIELD(gdt.limit) }, { 0x174, 4, FIELD(gdt.base) }, { 0x154, 4, FIELD(idt.limit) },
	{ 0x158, 4, FIELD(idt.base) },
};

/* A segment register: its selector, attributes, limit and base. */
struct segment_place {
	uint16_t sel, attr, limit, base;
};

#define LONG_SEG(at)                                                                                                   \
	{                                                                                                              \
		at, (at) + 2, (at) + 4, (at) + 8                                                                       \
	}
static const struct segment_place long_segments[X86_SEGS] = {
	[X86_ES] = LONG_SEG(0x00), [X86_CS] = LONG_SEG(0x10), [X86_SS] = LONG_SEG(0x20),   [X86_DS] = LONG_SEG(0x30),
	[X86_FS] = LONG_SEG(0x40), [X86_GS] = LONG_SEG(0x50), [X86_LDTR] = LONG_SEG(0x70), [X86_TR] = LONG_SEG(0x90),
};

#define SHORT_SEG(sel, at)                                                                                             \
	{                                                                                                              \
		sel, at, (at) + 4, (at) + 8                                                                            \
	}
static const struct segment_place short_segments[X86_SEGS] = {
	[X86_ES] = SHORT_SEG(0x1a8, 0x184),   [X86_CS] = SHORT_SEG(0x1ac, 0x190), [X86_SS] = SHORT_SEG(0x1b0, 0x19c),
	[X86_DS] = SHORT_SEG(0x1b4, 0x12c),   [X86_FS] = SHORT_SEG(0x1b8, 0x138), [X86_GS] = SHORT_SEG(0x1bc, 0x144),
	[X86_LDTR] = SHORT_SEG(0x1c0, 0x17c), [X86_TR] = SHORT_SEG(0x1c4, 0x15c),
};

static const struct layout {
	const struct place *places;
	size_t count;
	const struct segment_place *segments;
	uint8_t base_size;
	uint16_t auto_halt, revision_at, smbase_at;
	uint32_t revision;
} layouts[2] = {
	{ short_places, ARRAY_LEN(short_places), short_segments, 4, 0x102, 0x0fc, 0x0f8, RELOCATES },
	{ long_places, ARRAY_LEN(long_places), long_segments, 8, 0x0c9, 0x0fc, 0x100, RELOCATES | 0x64 },
};

static const struct layout *layout_of(const struct x86_cpu *cpu)
{
	return &layouts[x86_has(cpu, X86_F_LM)];
}

static void put(uint8_t *at, uint64_t v, unsigned size)
{
	v = htole64(v);
	memcpy(at, &v, size);
}

static uint64_t get(const uint8_t *at, unsigned size)
{
	uint64_t v = 0;

	memcpy(&v, at, size);
	return le64toh(v);
}

/* Fields of the state are 2 or 8 bytes. */
static bool is_short(const struct place *p)
{
	return p->field == FIELD(gdt.limit) || p->field == FIELD(idt.limit);
}

static void save(const struct x86_state *s, const struct layout *l, uint8_t *area)
{
	for (const struct place *p = l->places; p < l->places + l->count; p++) {
		const uint8_t *field = (const uint8_t *)s + p->field;

		put(area + p->at, is_short(p) ? *(const uint16_t *)field : *(const uint64_t *)field, p->size);
	}
	for (unsigned n = 0; n < X86_SEGS; n++) {
		const struct x86_segment *seg = &s->seg[n];
		const struct segment_place *p = &l->segments[n];

		put(area + p->sel, seg->sel, 2);
		put(area + p->attr, seg->unusable ? seg->attr & ~(uint32_t)X86_SEG_P : seg->attr, 2);
		put(area + p->limit, seg->limit, 4);
		put(area + p->base, seg->base, l->base_size);
	}
	put(area + l->revision_at, l->revision, 4);
	put(area + l->smbase_at, s->smbase, 4);
}

static void load(struct x86_state *s, const struct layout *l, const uint8_t *area)
{
	for (const struct place *p = l->places; p < l->places + l->count; p++) {
		uint8_t *field = (uint8_t *)s + p->field;

		if (is_short(p))
			*(uint16_t *)field = (uint16_t)get(area + p->at, 2);
		else
			*(uint64_t *)field = get(area + p->at, p->size);
	}
	for (unsigned n = 0; n < X86_SEGS; n++) {
		const struct segment_place *p = &l->segments[n];
		uint16_t attr = (uint16_t)get(area + p->attr, 2) & 0xf0ff;

		s->seg[n] = (struct x86_segment){
			.sel = (uint16_t)get(area + p->sel, 2),
			.attr = attr | X86_SEG_P,
			.limit = (uint32_t)get(area + p->limit, 4),
			.base = get(area + p->base, l->base_size),
			.unusable = !(attr & X86_SEG_P),
		};
	}
	s->smbase = (uint32_t)get(area + l->smbase_at, 4);
}

/* --- in --- */

void x86_smm_view(struct x86_cpu *cpu)
{
	struct mem_space *smram = cpu->vm->cfg.smm_mem;

	cpu->mem = cpu->s.smm && smram ? smram : cpu->vm->cfg.mem;
	x86_tlb_forget_ram(cpu);
}

/* SDM vol. 3, table 34-4. */
static void begin_state(struct x86_state *s)
{
	for (unsigned n = 0; n <= X86_GS; n++)
		s->seg[n] = (struct x86_segment){ .limit = 0xffffffff, .attr = X86_SEG_P | X86_SEG_S | X86_SEG_G | 3 };
	s->seg[X86_CS].sel = (uint16_t)(s->smbase >> 4);
	s->seg[X86_CS].base = s->smbase;
	s->gpr[X86_RIP] = ENTRY;
	s->rflags = X86_FLAGS_FIXED;
	s->cr0 &= ~(uint64_t)(X86_CR0_PE | X86_CR0_EM | X86_CR0_TS | X86_CR0_PG);
	s->cr4 = 0;
	s->efer = 0;
	s->dr7 = 0x400;
}

void x86_smm_enter(struct x86_cpu *cpu)
{
	const struct layout *l = layout_of(cpu);
	struct x86_state *s = &cpu->s;
	uint8_t area[AREA_SIZE];

	s->smi_pending = false;
	s->rflags = x86_get_eflags(cpu);
	s->smm_nmi_blocked = s->nmi_blocked;
	s->nmi_blocked = true;
	s->smm = true;
	x86_smm_view(cpu);
	mem_read(cpu->mem, gpa(s->smbase + AREA), area, sizeof(area));
	save(s, l, area);
	area[l->auto_halt] = s->run == X86_HALTED;
	mem_write(cpu->mem, gpa(s->smbase + AREA), area, sizeof(area));
	s->run = X86_RUNNING;
	begin_state(s);
	x86_lazy_set(&cpu->lazy, 0);
	x86_update_mode(cpu);
}

/* --- out --- */

/* What sends the processor into shutdown: SDM vol. 3, 34.4.1. */
static bool acceptable(const struct x86_cpu *cpu, const struct x86_state *s)
{
	const struct x86_features *f = cpu->vm->features;
	struct err err;

	return !(s->cr4 & ~f->cr4) && !(s->efer & ~(f->efer | X86_EFER_LMA)) &&
	       !(s->cr0 & X86_CR0_NW && !(s->cr0 & X86_CR0_CD)) && !x86_state_check(s, &err);
}

/* The four entries that PAE paging keeps, from the memory outside of SMM. */
static bool load_pdptes(struct x86_cpu *cpu, struct x86_state *s)
{
	return !x86_uses_pdptes(s->cr0, s->cr4, s->efer) || x86_read_pdptes(cpu, cpu->vm->cfg.mem, s->cr3, s->pdpte);
}

static const struct x86_insn *rsm(struct x86_cpu *cpu, const struct x86_insn *i)
{
	const struct layout *l = layout_of(cpu);
	struct x86_state *s = &cpu->s, out = *s;
	uint8_t area[AREA_SIZE] = { 0 };

	if (!s->smm)
		x86_ud(cpu);
	x86_trace_stop(cpu);
	mem_read(cpu->mem, gpa(s->smbase + AREA), area, sizeof(area));
	load(&out, l, area);
	if (!x86_has(cpu, X86_F_LM))
		out.efer = 0;
	out.rflags = (out.rflags & 0x3f7fd7) | X86_FLAGS_FIXED;
	out.smm = false;
	out.nmi_blocked = s->smm_nmi_blocked;
	out.smm_nmi_blocked = false;
	out.run = area[l->auto_halt] & 1 ? X86_HALTED : X86_RUNNING;
	if (!load_pdptes(cpu, &out) || !acceptable(cpu, &out))
		x86_shutdown(cpu);
	*s = out;
	x86_lazy_set(&cpu->lazy, (uint32_t)s->rflags);
	s->rflags &= ~(uint64_t)X86_ARITH;
	x86_smm_view(cpu);
	x86_update_mode(cpu);
	/* What has waited meanwhile: NMI, INIT, interrupts, another SMI. */
	cpu->attention = true;
	return x86_jumped(cpu);
}

static const struct x86_opdef rows[] = {
	{ X86_MAP_0F, 0xaa, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_END, X86_ALL(rsm), {}, "rsm" },
};
X86_DEFS(x86_defs_smm, rows);
