/* The slow side of guest accesses: checks, page crossing, device memory, bounce buffers. */
#include "cpu/x86/access.h"

#include <string.h>

#include "base/bytes.h"
#include "base/shared.h"
#include "cpu/x86/interp.h"
#include "cpu/x86/segments.h"

static _Noreturn void segment_fault(struct x86_cpu *cpu, unsigned seg)
{
	x86_raise(cpu, seg == X86_SS ? X86_SS_FAULT : X86_GP, 0);
}

uint64_t x86_linear_checked(struct x86_cpu *cpu, unsigned seg, uint64_t ea, unsigned size, enum x86_access a)
{
	const struct x86_segment *s = &cpu->s.seg[seg];

	if (cpu->protected_mode) {
		bool code = s->attr & 8;

		if (s->unusable)
			segment_fault(cpu, seg);
		if (a == X86_WRITE ? code || !(s->attr & 2) : code && !(s->attr & 2))
			segment_fault(cpu, seg);
	}
	if (!x86_within_limit(s, ea, ea + size - 1))
		segment_fault(cpu, seg);
	return (cpu->seg_base[seg] + ea) & cpu->lin_mask;
}

/* --- physical --- */

static uint64_t device_load(struct x86_cpu *cpu, uint64_t phys, unsigned size)
{
	const struct intc *intc = &cpu->vm->cfg.intc;
	uint32_t offset;

	x86_clock(cpu);
	if (intc->ops && intc->ops->mmio_hit(intc->opaque, cpu->vcpu.index, phys, &offset))
		return intc->ops->mmio_read(intc->opaque, cpu->vcpu.index, offset);
	return cpu->vm->cfg.world.mmio_read(cpu->vm->cfg.world.opaque, phys, size);
}

static void device_store(struct x86_cpu *cpu, uint64_t phys, uint64_t v, unsigned size)
{
	const struct intc *intc = &cpu->vm->cfg.intc;
	uint32_t offset;

	x86_clock(cpu);
	if (intc->ops && intc->ops->mmio_hit(intc->opaque, cpu->vcpu.index, phys, &offset))
		intc->ops->mmio_write(intc->opaque, cpu->vcpu.index, offset, (uint32_t)v);
	else
		cpu->vm->cfg.world.mmio_write(cpu->vm->cfg.world.opaque, phys, size, v);
}

uint64_t x86_phys_load(struct x86_cpu *cpu, uint64_t phys, unsigned size)
{
	uint64_t v = 0;

	if (mem_read(cpu->mem, gpa(phys), &v, size))
		return v;
	v = device_load(cpu, phys, size) & size_mask(size);
	if (cpu->icount)
		x86_icount_touched(cpu);
	return v;
}

void x86_phys_store(struct x86_cpu *cpu, uint64_t phys, uint64_t v, unsigned size)
{
	if (mem_write(cpu->mem, gpa(phys), &v, size)) {
		x86_trace_stored(cpu);
		return;
	}
	/* Also where ROM is: flash takes commands so, and the RAM under a ROM may be open for writing. */
	device_store(cpu, phys, v, size);
	if (cpu->icount)
		x86_icount_touched(cpu);
}

/* Device memory takes accesses of 1, 2, 4 and 8 bytes. */
static unsigned device_piece(uint64_t phys, unsigned left)
{
	unsigned size = 8;

	while (size > left || (phys & (size - 1)))
		size /= 2;
	return size;
}

static void phys_copy(struct x86_cpu *cpu, uint64_t phys, void *buf, unsigned size, bool write)
{
	bool ram = write ? mem_write(cpu->mem, gpa(phys), buf, size) : mem_read(cpu->mem, gpa(phys), buf, size);

	if (ram) {
		if (write)
			x86_trace_stored(cpu);
		return;
	}
	for (unsigned at = 0; at < size;) {
		unsigned n = is_pow2(size) && size <= 8 ? size : device_piece(phys + at, size - at);
		uint64_t v = 0;

		if (write) {
			memcpy(&v, (char *)buf + at, n);
			x86_phys_store(cpu, phys + at, v, n);
		} else {
			v = x86_phys_load(cpu, phys + at, n);
			memcpy((char *)buf + at, &v, n);
		}
		at += n;
	}
}

/* --- linear --- */

static enum x86_tlb_view current_view(const struct x86_cpu *cpu)
{
	return (enum x86_tlb_view)((cpu->tlb - &cpu->tlbs[0][0]) / X86_TLB_SIZE);
}

/* The alignment that #AC asks for: SDM vol. 3, table 6-7. Of larger areas the first field is accessed by itself. */
static unsigned natural(unsigned size)
{
	return size == 10 ? 8 : size <= 16 && is_pow2(size) ? size : 1;
}

static void check_bounds(struct x86_cpu *cpu, unsigned seg, uint64_t lin, unsigned size)
{
	if (cpu->code_bits == 64 && (!x86_canonical(lin) || !x86_canonical(lin + size - 1)))
		segment_fault(cpu, seg);
	/* An operand that wraps around a segment of 4 GiB: SDM vol. 3, 5.3 leaves it open, AMD's processors refuse. */
	if (cpu->code_bits != 64 && (uint32_t)(lin - cpu->seg_base[seg]) > 0u - size)
		segment_fault(cpu, seg);
}

uint64_t x86_linear_bounded(struct x86_cpu *cpu, unsigned seg, uint64_t ea, unsigned size, enum x86_access a)
{
	uint64_t lin = x86_linear(cpu, seg, ea, size, a);

	check_bounds(cpu, seg, lin, size);
	return lin;
}

static void check_linear(struct x86_cpu *cpu, unsigned seg, uint64_t lin, unsigned size)
{
	check_bounds(cpu, seg, lin, size);
	if (cpu->align_check && lin & (natural(size) - 1))
		x86_raise(cpu, X86_AC_FAULT, 0);
}

/* The physical addresses of both parts of an access, all checks done. */
static void resolve(struct x86_cpu *cpu, enum x86_tlb_view view, uint64_t lin, unsigned size, enum x86_access a,
		    struct x86_parts *p)
{
	unsigned left = MEM_PAGE_SIZE - (lin & X86_PAGE_MASK);

	p->len[0] = size < left ? size : left;
	p->len[1] = size - p->len[0];
	x86_tlb_fill(cpu, view, lin, a, &p->phys[0]);
	if (p->len[1])
		x86_tlb_fill(cpu, view, (lin + p->len[0]) & cpu->lin_mask, a, &p->phys[1]);
}

static void copy_parts(struct x86_cpu *cpu, const struct x86_parts *p, void *buf, bool write)
{
	phys_copy(cpu, p->phys[0], buf, p->len[0], write);
	if (p->len[1])
		phys_copy(cpu, p->phys[1], (char *)buf + p->len[0], p->len[1], write);
}

static void copy_linear(struct x86_cpu *cpu, enum x86_tlb_view view, uint64_t lin, void *buf, unsigned size,
			enum x86_access a)
{
	struct x86_parts p;

	resolve(cpu, view, lin, size, a, &p);
	copy_parts(cpu, &p, buf, a == X86_WRITE);
}

void x86_load_slow(struct x86_cpu *cpu, unsigned seg, uint64_t lin, void *buf, unsigned size)
{
	check_linear(cpu, seg, lin, size);
	copy_linear(cpu, current_view(cpu), lin, buf, size, X86_READ);
	x86_debug_data_hit(cpu, lin, size, false);
	x86_stops_data_hit(cpu, lin, size, false);
}

void x86_store_slow(struct x86_cpu *cpu, unsigned seg, uint64_t lin, const void *buf, unsigned size)
{
	uint8_t copy[32];

	check_linear(cpu, seg, lin, size);
	memcpy(copy, buf, size);
	copy_linear(cpu, current_view(cpu), lin, copy, size, X86_WRITE);
	x86_debug_data_hit(cpu, lin, size, true);
	x86_stops_data_hit(cpu, lin, size, true);
}

void x86_stored_flagged(struct x86_cpu *cpu, const struct x86_tlb_entry *e, uint64_t lin, unsigned size)
{
	mem_written(cpu->mem, gpa(cpu->tlb_phys[e - &cpu->tlbs[0][0]] | (lin & X86_PAGE_MASK)), size);
	x86_trace_stored(cpu);
}

void x86_load_bytes(struct x86_cpu *cpu, unsigned seg, uint64_t ea, void *buf, unsigned size)
{
	uint64_t lin = x86_linear(cpu, seg, ea, size, X86_READ);
	const struct x86_tlb_entry *e = x86_tlb_slot(cpu->tlb, lin);

	if (((lin + size - 1) & ~X86_PAGE_MASK) == e->rtag && !cpu->align_check)
		shared_copy(buf, e->host + (lin & X86_PAGE_MASK), size);
	else
		x86_load_slow(cpu, seg, lin, buf, size);
}

void x86_store_bytes(struct x86_cpu *cpu, unsigned seg, uint64_t ea, const void *buf, unsigned size)
{
	uint64_t lin = x86_linear(cpu, seg, ea, size, X86_WRITE);
	const struct x86_tlb_entry *e = x86_tlb_slot(cpu->tlb, lin);

	if (((lin + size - 1) & ~X86_PAGE_MASK) != e->wtag || cpu->align_check) {
		x86_store_slow(cpu, seg, lin, buf, size);
		return;
	}
	shared_copy(e->host + (lin & X86_PAGE_MASK), buf, size);
	if (atomic_load_explicit(e->flags, memory_order_relaxed))
		x86_stored_flagged(cpu, e, lin, size);
}

static uint64_t aligned_ea(struct x86_cpu *cpu, const struct x86_insn *i, unsigned size)
{
	uint64_t ea = x86_ea(cpu, i);

	if ((cpu->seg_base[i->seg] + ea) & (size - 1))
		x86_gp0(cpu);
	return ea;
}

void x86_load_aligned(struct x86_cpu *cpu, const struct x86_insn *i, void *buf, unsigned size)
{
	x86_load_bytes(cpu, i->seg, aligned_ea(cpu, i, size), buf, size);
}

void x86_store_aligned(struct x86_cpu *cpu, const struct x86_insn *i, const void *buf, unsigned size)
{
	x86_store_bytes(cpu, i->seg, aligned_ea(cpu, i, size), buf, size);
}

void x86_probe_write(struct x86_cpu *cpu, unsigned seg, uint64_t ea, unsigned size)
{
	uint64_t lin = x86_linear(cpu, seg, ea, size, X86_WRITE);
	struct x86_parts p;

	check_linear(cpu, seg, lin, size);
	resolve(cpu, current_view(cpu), lin, size, X86_WRITE, &p);
}

void x86_store_masked(struct x86_cpu *cpu, unsigned seg, uint64_t ea, const uint8_t *buf, unsigned size, uint32_t mask)
{
	for (unsigned n = 0; n < size; n += 8)
		x86_probe_write(cpu, seg, ea + n, 8);
	for (unsigned n = 0; mask >> n; n++)
		if (mask >> n & 1)
			x86_st8(cpu, seg, ea + n, buf[n]);
}

void x86_sys_load(struct x86_cpu *cpu, uint64_t lin, void *buf, unsigned size)
{
	bool smap = cpu->s.cr4 & X86_CR4_SMAP;

	if (cpu->s.efer & X86_EFER_LMA && !x86_canonical(lin))
		x86_gp0(cpu);
	copy_linear(cpu, smap ? X86_TLB_SUPER : X86_TLB_SUPER_AC, lin, buf, size, X86_READ);
}

void x86_sys_store(struct x86_cpu *cpu, uint64_t lin, const void *buf, unsigned size)
{
	bool smap = cpu->s.cr4 & X86_CR4_SMAP;
	uint8_t copy[32];

	if (cpu->s.efer & X86_EFER_LMA && !x86_canonical(lin))
		x86_gp0(cpu);
	memcpy(copy, buf, size);
	copy_linear(cpu, smap ? X86_TLB_SUPER : X86_TLB_SUPER_AC, lin, copy, size, X86_WRITE);
}

/* --- read-modify-write --- */

void x86_rmw_begin_slow(struct x86_cpu *cpu, struct x86_rmw *m, bool lock)
{
	struct x86_tlb_entry *e;
	bool inside = (m->lin & X86_PAGE_MASK) + m->size <= MEM_PAGE_SIZE;

	check_linear(cpu, m->seg, m->lin, m->size);
	resolve(cpu, current_view(cpu), m->lin, m->size, X86_WRITE, &m->parts);
	e = x86_tlb_slot(cpu->tlb, m->lin);
	/* Now most are in the TLB. A locked access that is not aligned still needs the world stopped. */
	if (inside && e->wtag == (m->lin & ~X86_PAGE_MASK) && !(lock && (m->lin & (m->size - 1)))) {
		m->entry = e;
		m->host = e->host + (m->lin & X86_PAGE_MASK);
		return;
	}
	m->entry = NULL;
	m->host = m->bounce;
	m->exclusive = lock;
	if (lock)
		x86_exclusive_begin(cpu);
	copy_parts(cpu, &m->parts, m->bounce, false);
	x86_debug_data_hit(cpu, m->lin, m->size, false);
	x86_stops_data_hit(cpu, m->lin, m->size, false);
}

void x86_rmw_end_slow(struct x86_cpu *cpu, struct x86_rmw *m)
{
	/* To where it came from: a page that another vCPU unmaps meanwhile must not fault now. */
	copy_parts(cpu, &m->parts, m->bounce, true);
	if (m->exclusive)
		x86_exclusive_end(cpu);
	x86_debug_data_hit(cpu, m->lin, m->size, true);
	x86_stops_data_hit(cpu, m->lin, m->size, true);
}
