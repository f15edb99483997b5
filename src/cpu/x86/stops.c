/*
 * Where a debugger stops the interpreter. Instructions to stop at begin a trace of their own, whose first handler is a
 * guard (traces.c); a page with watched data never enters the TLB. So nothing is slower while nothing is asked for.
 */
#include <stdlib.h>
#include <string.h>

#include "cpu/x86/paging.h"
#include "cpu/x86/traces.h"

static const struct debug_point *stops_at(const struct x86_cpu *cpu, uint64_t lin)
{
	for (unsigned n = 0; n < cpu->stops->count; n++) {
		const struct debug_point *p = &cpu->stops->points[n];

		if (p->kind == DEBUG_EXEC && p->addr == lin)
			return p;
	}
	return NULL;
}

int x86_stops_set(struct vcpu *v, const struct cpu_debug *d, struct err *err)
{
	struct x86_cpu *cpu = x86_cpu_of(v);
	bool same;

	if (!cpu->stops && !d->step && !d->count)
		return 0;
	if (!cpu->stops)
		cpu->stops = calloc(1, sizeof(*cpu->stops));
	if (!cpu->stops)
		return err_set(err, "out of memory");
	same = d->count == cpu->stops->count && !memcmp(d->points, cpu->stops->points, d->count * sizeof(*d->points));
	*cpu->stops = *d;
	cpu->stop_hit = NULL;
	cpu->step_begun = false;
	cpu->attention = true;
	if (same)
		return 0;
	x86_tlb_flush(cpu);
	x86_traces_flush(cpu->traces);
	if (cpu->vm->translator)
		cpu->vm->translator->forget(cpu->vm);
	return 0;
}

/* A debugger may have taken the point out and put it in again. */
void x86_stops_begin(struct x86_cpu *cpu)
{
	if (cpu->stop_passed != X86_NO_STOP && !stops_at(cpu, cpu->stop_passed))
		cpu->stop_passed = X86_NO_STOP;
}

static _Noreturn void stop(struct x86_cpu *cpu, const struct debug_point *p)
{
	cpu->vcpu.stop = (struct debug_stop){ .step = !p };
	if (p)
		cpu->vcpu.stop.point = *p;
	cpu->stop_hit = NULL;
	cpu->step_begun = false;
	/* Whatever waits is looked at when it runs again. */
	cpu->attention = true;
	x86_leave(cpu, CPU_EXIT_DEBUG);
}

/* --- instructions --- */

bool x86_stops_at_offset(const struct x86_cpu *cpu, uint32_t offset)
{
	for (unsigned n = 0; cpu->stops && n < cpu->stops->count; n++) {
		const struct debug_point *p = &cpu->stops->points[n];

		if (p->kind == DEBUG_EXEC && (p->addr & X86_PAGE_MASK) == offset)
			return true;
	}
	return false;
}

void x86_stops_guard(struct x86_cpu *cpu)
{
	uint64_t lin = (cpu->s.gpr[X86_RIP] + cpu->seg_base[X86_CS]) & cpu->lin_mask;
	const struct debug_point *p = cpu->stop_passed == lin ? NULL : stops_at(cpu, lin);

	cpu->stop_passed = X86_NO_STOP;
	if (!p)
		return;
	cpu->stop_passed = lin;
	x86_trace_stop(cpu);
	x86_begin_again(cpu);
	stop(cpu, p);
}

void x86_stops_done(struct x86_cpu *cpu)
{
	if (cpu->stop_hit)
		stop(cpu, cpu->stop_hit);
	if (cpu->step_begun)
		stop(cpu, NULL);
}

bool x86_stops_step(struct x86_cpu *cpu)
{
	if (!cpu->stops || !cpu->stops->step)
		return false;
	cpu->step_begun = true;
	return true;
}

/* --- data --- */

static bool is_data(const struct debug_point *p)
{
	return p->kind != DEBUG_EXEC;
}

bool x86_stops_page_watched(const struct x86_cpu *cpu, uint64_t lin_page)
{
	for (unsigned n = 0; cpu->stops && n < cpu->stops->count; n++) {
		const struct debug_point *p = &cpu->stops->points[n];

		if (is_data(p) && p->addr < lin_page + MEM_PAGE_SIZE && lin_page < p->addr + p->len)
			return true;
	}
	return false;
}

void x86_stops_data_hit(struct x86_cpu *cpu, uint64_t lin, unsigned size, bool wr)
{
	for (unsigned n = 0; cpu->stops && n < cpu->stops->count; n++) {
		const struct debug_point *p = &cpu->stops->points[n];
		bool kind = p->kind == DEBUG_ACCESS || p->kind == (wr ? DEBUG_WRITE : DEBUG_READ);

		if (is_data(p) && kind && lin < p->addr + p->len && p->addr < lin + size) {
			cpu->stop_hit = p;
			cpu->attention = true;
			x86_trace_break(cpu);
		}
	}
}
