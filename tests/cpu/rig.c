/* See rig.h. */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include "cpu/jit/jit.h"
#endif

#define FLAGS_G	  8u
#define FLAGS_DB  4u
#define FLAGS_L	  2u
#define SEG_R0	  0x1000u /* real mode: code */
#define SEG_STACK 0x8000u

static const struct {
	uint16_t sel;
	uint8_t access, flags;
} segments[] = {
	{ RIG_CODE64, 0x9b, FLAGS_G | FLAGS_L },
	{ RIG_DATA, 0x93, FLAGS_G | FLAGS_DB },
	{ RIG_CODE32, 0x9b, FLAGS_G | FLAGS_DB },
	{ RIG_CODE16, 0x9b, 0 },
	{ RIG_DATA16, 0x93, 0 },
	{ RIG_UDATA, 0xf3, FLAGS_G | FLAGS_DB },
	{ RIG_UCODE32, 0xfb, FLAGS_G | FLAGS_DB },
	{ RIG_UCODE64, 0xfb, FLAGS_G | FLAGS_L },
};

void rig_write(struct rig *r, uint64_t at, uint64_t v, unsigned size)
{
	if (!mem_write(r->vm.mem, gpa(at), &v, size))
		abort();
}

uint64_t rig_read(struct rig *r, uint64_t at, unsigned size)
{
	uint64_t v = 0;

	if (!mem_read(r->vm.mem, gpa(at), &v, size))
		abort();
	return v;
}

void rig_desc(struct rig *r, unsigned sel, uint64_t raw)
{
	rig_write(r, RIG_GDT + (sel & ~7u), raw, 8);
}

void rig_seg(struct rig *r, enum x86_seg seg, uint16_t sel)
{
	uint64_t raw = rig_read(r, RIG_GDT + (sel & ~7u), 8);
	struct x86_segment *s = &r->s.seg[seg];

	*s = (struct x86_segment){
		.sel = sel,
		.base = (raw >> 16 & 0xffffff) | (raw >> 32 & 0xff000000),
		.limit = (uint32_t)((raw & 0xffff) | (raw >> 32 & 0xf0000)),
		.attr = (raw >> 40) & 0xf0ff,
	};
	if (s->attr & X86_SEG_G)
		s->limit = s->limit << 12 | 0xfff;
}

static void flat(struct rig *r, uint16_t code, uint16_t data)
{
	static const uint8_t regs[] = { X86_ES, X86_SS, X86_DS, X86_FS, X86_GS };

	rig_seg(r, X86_CS, code);
	for (unsigned n = 0; n < 5; n++)
		rig_seg(r, regs[n], data);
}

static void build_tables(struct rig *r)
{
	bool wide = r->mode == RIG_LONG || r->mode == RIG_COMPAT;

	for (unsigned n = 0; n < sizeof(segments) / sizeof(segments[0]); n++)
		rig_desc(r, segments[n].sel,
			 RIG_DESC(0, segments[n].flags & FLAGS_G ? 0xfffffu : 0xffffu, segments[n].access,
				  segments[n].flags));
	rig_desc(r, RIG_TASK, RIG_DESC(RIG_TSS, 0x2fffu, 0x8b, 0));
	rig_write(r, RIG_GDT + RIG_TASK + 8, 0, 8);
	mem_fill(r->vm.mem, gpa(RIG_TSS), 0, 0x1000);
	mem_fill(r->vm.mem, gpa(RIG_HANDLERS), 0xf4, 256);
	for (unsigned v = 0; v < 256; v++) {
		rig_write(r, RIG_IVT + 4 * v, RIG_HANDLERS / 16 << 16 | v, 4);
		if (wide) {
			rig_write(r, RIG_IDT + 16 * v, RIG_GATE(RIG_CODE64, RIG_HANDLERS + v, 0x8e, 0), 8);
			rig_write(r, RIG_IDT + 16 * v + 8, 0, 8);
		} else {
			rig_write(r, RIG_IDT + 8 * v, RIG_GATE(RIG_CODE32, RIG_HANDLERS + v, 0x8e, 0), 8);
		}
	}
	if (wide) {
		rig_write(r, RIG_TSS + 4, RIG_STACK0, 8);
		rig_write(r, RIG_TSS + 0x24, RIG_IST1, 8);
	} else {
		rig_write(r, RIG_TSS + 4, RIG_STACK0, 4);
		rig_write(r, RIG_TSS + 8, RIG_DATA, 4);
	}
	rig_write(r, RIG_TSS + 0x66, 0x2fff, 2); /* no I/O permission bitmap */
	/* Everything for everybody: what tests do not want, they take away. */
	rig_write(r, TINY_CR3, 0x2007, 8);
	rig_write(r, 0x2000, 0x3007, 8);
	for (unsigned n = 0; n < 512; n++)
		rig_write(r, 0x3000 + 8 * n, (uint64_t)n << 21 | 0x87, 8);
}

static void real_segments(struct rig *r)
{
	uint16_t attr = r->mode == RIG_V86 ? 0xf3 : 0x93;

	for (unsigned n = X86_ES; n <= X86_GS; n++)
		r->s.seg[n] = (struct x86_segment){ .limit = 0xffff, .attr = attr };
	r->s.seg[X86_CS].sel = SEG_R0;
	r->s.seg[X86_CS].base = SEG_R0 << 4;
	r->s.seg[X86_SS].sel = SEG_STACK;
	r->s.seg[X86_SS].base = SEG_STACK << 4;
	r->s.gpr[X86_RSP] = 0xfff0;
}

void rig_reset(struct rig *r, enum rig_mode mode)
{
	struct x86_state *s = &r->s;

	r->mode = mode;
	r->frame_size = mode == RIG_REAL ? 2 : mode == RIG_LONG || mode == RIG_COMPAT ? 8 : 4;
	build_tables(r);
	memset(s, 0, sizeof(*s));
	x86_state_reset(s, true, false);
	s->gdt = (struct x86_dtable){ RIG_GDT, 0xff };
	s->idt = (struct x86_dtable){ RIG_IDT, 0xfff };
	s->cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE;
	s->gpr[X86_RSP] = RIG_STACK;
	s->gpr[X86_RIP] = RIG_CODE;
	rig_seg(r, X86_TR, RIG_TASK);
	switch (mode) {
	case RIG_LONG:
	case RIG_COMPAT:
		s->cr0 |= X86_CR0_PG;
		s->cr3 = RIG_CR3;
		s->cr4 = X86_CR4_PAE;
		s->efer = X86_EFER_LME | X86_EFER_LMA;
		flat(r, mode == RIG_LONG ? RIG_CODE64 : RIG_CODE32, RIG_DATA);
		break;
	case RIG_PROT32:
		flat(r, RIG_CODE32, RIG_DATA);
		break;
	case RIG_PROT16:
		flat(r, RIG_CODE16, RIG_DATA16);
		s->seg[X86_CS].base = SEG_R0 << 4;
		s->seg[X86_SS].base = SEG_STACK << 4;
		s->gpr[X86_RIP] = 0;
		s->gpr[X86_RSP] = 0xfff0;
		break;
	case RIG_REAL:
		s->cr0 &= ~(uint64_t)X86_CR0_PE;
		s->idt = (struct x86_dtable){ RIG_IVT, 0x3ff };
		real_segments(r);
		s->gpr[X86_RIP] = 0;
		break;
	case RIG_V86:
		s->rflags |= X86_VM;
		real_segments(r);
		s->gpr[X86_RIP] = 0;
		break;
	}
}

static void make(struct rig *r, enum rig_mode mode, const char *model, enum clock_source clock)
{
	memset(r, 0, sizeof(*r));
	tiny_vm_new_model(&r->vm, model ? model : "max", clock);
	rig_reset(r, mode);
}

void rig_new(struct rig *r, enum rig_mode mode, const char *model)
{
	make(r, mode, model, CLOCK_SOURCE_HOST);
}

void rig_new_on(struct rig *r, enum rig_mode mode, const struct engine *engine, struct config *config)
{
	memset(r, 0, sizeof(*r));
	tiny_vm_new_configured(&r->vm, engine, config);
	rig_reset(r, mode);
}

void rig_new_counted(struct rig *r, enum rig_mode mode, const char *model)
{
	make(r, mode, model, CLOCK_SOURCE_ICOUNT);
}

void rig_free(struct rig *r)
{
	tiny_vm_free(&r->vm);
}

void rig_user(struct rig *r)
{
	flat(r, r->mode == RIG_LONG ? RIG_UCODE64 : RIG_UCODE32, RIG_UDATA);
}

void rig_run(struct rig *r)
{
	struct err err;

	/* Whatever was written since is seen. */
	x86_traces_flush(tiny_cpu(&r->vm)->traces);
	if (r->vm.engine->set_state(r->vm.vcpu, &r->s, &err)) {
		fprintf(stderr, "%s\n", err.msg);
		abort();
	}
	r->why = r->vm.engine->run(r->vm.vcpu);
	r->vm.engine->get_state(r->vm.vcpu, &r->s);
}

uint64_t rig_ip(const struct rig *r)
{
	return r->mode == RIG_REAL || r->mode == RIG_V86 || r->mode == RIG_PROT16 ? 0 : RIG_CODE;
}

void rig_put(struct rig *r, uint64_t at, const void *bytes, size_t len)
{
	if (!mem_write(r->vm.mem, gpa(at), bytes, len))
		abort();
}

uint64_t rig_exits(struct rig *r)
{
	uint64_t sum = 0;

#if defined(__x86_64__)
	if (r->vm.engine == &engine_jit)
		for (unsigned n = 0; n < JIT_EXITS; n++)
			sum += jit_of(tiny_cpu(&r->vm))->counts.exits[n];
#endif
	return sum;
}

void rig_exec(struct rig *r, const uint8_t *code, size_t len)
{
	rig_put(r, RIG_CODE, code, len);
	rig_run(r);
}

int rig_vector(const struct rig *r)
{
	uint64_t at = r->s.gpr[X86_RIP] + r->s.seg[X86_CS].base - 1 - RIG_HANDLERS;

	if (r->why == CPU_EXIT_SHUTDOWN)
		return -2;
	return at < 256 ? (int)at : -1;
}

uint64_t rig_pushed(struct rig *r, unsigned n)
{
	const struct x86_segment *ss = &r->s.seg[X86_SS];
	uint64_t base = r->s.efer & X86_EFER_LMA ? 0 : ss->base, mask = r->mode == RIG_REAL ? 0xffff : ~0ull;

	return rig_read(r, base + ((r->s.gpr[X86_RSP] + n * r->frame_size) & mask), r->frame_size);
}
