/*
 * Counting retired instructions, and the clock that is driven by the count (--clock icount): one instruction is a
 * nanosecond of guest time.
 *
 * A trace is charged to icount_left as a whole when it is entered; whatever ends it earlier takes the rest back
 * (x86_trace_stop()). When less is left than the next trace has, x86_icount_grant() brings the clock up to date, which
 * runs the timers that are due, and grants what runs to the next deadline. So a timer fires after exactly the
 * instruction that reached its deadline, however the code was cut into traces. An instruction counts once when it has
 * completed: one that faults does not, REP counts once for all its elements. Translated blocks do the same as traces.
 */
#include "cpu/x86/interp.h"

/* How far the statistics may lag behind, and the counting clock behind other threads. */
#define MOST (1 << 20)

void x86_icount_sync(struct x86_cpu *cpu)
{
	int64_t left = x86_trace_left(cpu), done = cpu->icount_given - cpu->icount_left - left;

	stat_add(&cpu->vcpu.instructions, (uint64_t)done);
	stat_add(&cpu->interpreted, (uint64_t)done);
	/* What remains of the trace is charged already; beyond it nothing is granted. */
	cpu->icount_given = left;
	cpu->icount_left = 0;
	if (cpu->icount)
		clock_icount_advance(cpu->vm->cfg.clock, done);
}

void x86_icount_grant(struct x86_cpu *cpu)
{
	int64_t n = MOST;

	x86_icount_sync(cpu);
	if (cpu->icount) {
		int64_t next = clock_icount_next(cpu->vm->cfg.clock);

		n = next > MOST ? MOST : next > 0 ? next : 1;
	}
	cpu->icount_given = cpu->icount_left = n;
}

void x86_icount_touched(struct x86_cpu *cpu)
{
	int64_t left = x86_trace_left(cpu), next = clock_icount_next(cpu->vm->cfg.clock);

	if (!left || (next >= left && !atomic_load(&cpu->vcpu.events)))
		return;
	/* The instruction itself completes; the rest of the trace is taken back when it comes to its end. */
	cpu->icount_given = next < 1 ? 1 : next < left ? next : left;
	cpu->icount_left = cpu->icount_given - left;
	x86_trace_break(cpu);
}
