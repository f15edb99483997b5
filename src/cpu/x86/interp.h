/*
 * The execution loop of the interpreter, as instruction handlers see it. Private to cpu/x86.
 * vCPU thread only.
 */
#ifndef VIREO_CPU_X86_INTERP_H
#define VIREO_CPU_X86_INTERP_H

#include "base/bytes.h"
#include "cpu/x86/access.h"
#include "cpu/x86/cpu.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/fault.h"
#include "cpu/x86/insn.h"

/* Move RIP past the instruction. */
static inline void x86_advance(struct x86_cpu *cpu, const struct x86_insn *i)
{
	cpu->s.gpr[X86_RIP] += i->len;
	if (__builtin_expect(!(i->flags & X86_I_CODE64), 0))
		cpu->s.gpr[X86_RIP] &= cpu->lin_mask;
}

/*
 * The instruction is done: `return x86_next(cpu, i);`, and nothing else may be done with the result. It runs the
 * next instruction as a tail call; a trace has an end, which bounds the depth where a compiler makes it a real one.
 */
static inline const struct x86_insn *x86_next(struct x86_cpu *cpu, const struct x86_insn *i)
{
	x86_advance(cpu, i);
	return i[1].fn(cpu, i + 1);
}

/*
 * RIP, mode, flags that matter to the loop, or paging changed: find the trace at RIP, after pending work. NULL if
 * translated code called the handler (cpu->in_block). traces.c
 */
const struct x86_insn *x86_jumped(struct x86_cpu *cpu);

/* The same in mid-trace: the instruction at RIP and those after it do not count as retired yet. traces.c */
const struct x86_insn *x86_jumped_early(struct x86_cpu *cpu);

/* Must something be looked at before the next block or trace? */
static inline bool x86_news(const struct x86_cpu *cpu)
{
	return cpu->attention || atomic_load_explicit(&cpu->vcpu.events, memory_order_relaxed);
}

/* As x86_jumped(), but only the instruction at RIP is found, by itself. traces.c */
const struct x86_insn *x86_single(struct x86_cpu *cpu);

/*
 * As x86_jumped() after a direct near branch or the end of a trace, where `from` always leads to the same RIP:
 * the branch itself when it was taken, the slot after it when not. traces.c
 */
const struct x86_insn *x86_follow(struct x86_cpu *cpu, const struct x86_insn *from);

/* As x86_next() for instructions (X86_D_END) that end the trace. */
static inline const struct x86_insn *x86_next_end(struct x86_cpu *cpu, const struct x86_insn *i)
{
	x86_advance(cpu, i);
	return x86_jumped(cpu);
}

/* An 8-bit register by byte offset in gpr[]. */
static inline uint8_t *x86_reg8(struct x86_cpu *cpu, unsigned off)
{
	return (uint8_t *)cpu->s.gpr + off;
}
/* Registers by operand size, for templates; the number is a byte offset for size 8. */
static inline uint8_t x86_get8(struct x86_cpu *cpu, unsigned r)
{
	return *x86_reg8(cpu, r);
}
static inline uint16_t x86_get16(const struct x86_cpu *cpu, unsigned r)
{
	return (uint16_t)cpu->s.gpr[r];
}
static inline uint32_t x86_get32(const struct x86_cpu *cpu, unsigned r)
{
	return (uint32_t)cpu->s.gpr[r];
}
static inline uint64_t x86_get64(const struct x86_cpu *cpu, unsigned r)
{
	return cpu->s.gpr[r];
}
static inline void x86_set8(struct x86_cpu *cpu, unsigned r, uint8_t v)
{
	*x86_reg8(cpu, r) = v;
}
static inline void x86_set64(struct x86_cpu *cpu, unsigned r, uint64_t v)
{
	cpu->s.gpr[r] = v;
}
static inline void x86_set16(struct x86_cpu *cpu, unsigned r, uint16_t v)
{
	cpu->s.gpr[r] = (cpu->s.gpr[r] & ~0xffffull) | v;
}
/* Zero-extends, as 32-bit writes do in 64-bit mode. */
static inline void x86_set32(struct x86_cpu *cpu, unsigned r, uint32_t v)
{
	cpu->s.gpr[r] = v;
}

/* --- rooms that call each other --- */

/* segments.c: load a data segment or SS in any mode, with all checks; CS goes through far.c. */
void x86_load_seg(struct x86_cpu *cpu, enum x86_seg seg, uint16_t sel);
/* far.c: far JMP, CALL, RET, IRET. `opsize` 2, 4, 8. RIP, CS and the rest are committed at the end. */
void x86_far_jmp(struct x86_cpu *cpu, uint16_t sel, uint64_t off, uint64_t next_rip);
void x86_far_call(struct x86_cpu *cpu, uint16_t sel, uint64_t off, unsigned opsize, uint64_t next_rip);
void x86_far_ret(struct x86_cpu *cpu, unsigned opsize, unsigned pop_bytes);
void x86_iret(struct x86_cpu *cpu, unsigned opsize, uint64_t next_rip);

static inline bool x86_branch_ok(const struct x86_cpu *cpu, uint64_t rip, unsigned opsize)
{
	return opsize == 8 ? x86_canonical(rip) : cpu->code_bits == 64 || rip <= cpu->s.seg[X86_CS].limit;
}

/* Near branch target check: #GP(0) beyond CS.limit or not canonical. The target after operand-size truncation. */
static inline uint64_t x86_branch_target(struct x86_cpu *cpu, uint64_t rip, unsigned opsize)
{
	rip &= size_mask(opsize);
	if (__builtin_expect(!x86_branch_ok(cpu, rip, opsize), 0))
		x86_gp0(cpu);
	return rip;
}

/* traces.c */
struct x86_traces *x86_traces_new(struct err *err);
void x86_traces_free(struct x86_traces *t);
void x86_traces_flush(struct x86_traces *t);
void x86_traces_on_huge_pages(struct x86_traces *t);
/* The run loop: executes until x86_leave(). */
_Noreturn void x86_execute(struct x86_cpu *cpu);
/* I/O permission of IN, OUT, INS, OUTS: IOPL and the TSS bitmap, else #GP(0). segments.c */
void x86_io_check(struct x86_cpu *cpu, uint16_t port, unsigned size);

/* An own store went to a page with code: stop the trace being executed if it became stale. */
void x86_trace_stored(struct x86_cpu *cpu);
/* From the next instruction on, the current trace or block is not executed any more. */
void x86_trace_break(struct x86_cpu *cpu);
/* How many instructions of the current trace or block are not done: the one at RIP and those after it. */
uint32_t x86_trace_left(const struct x86_cpu *cpu);
/* The current trace ends before the instruction at RIP: the rest does not count as retired. */
void x86_trace_stop(struct x86_cpu *cpu);

/* icount.c: what was retired, and the clock that counts it. */
/* Add what was retired since the last call to the statistics and, if it counts instructions, to the clock. */
void x86_icount_sync(struct x86_cpu *cpu);
/* The same at the end of a trace, and how many instructions may run until the next time. */
void x86_icount_grant(struct x86_cpu *cpu);
/* After an access in mid-trace that may have armed a timer or raised an interrupt under the counting clock. */
void x86_icount_touched(struct x86_cpu *cpu);

/* Before anything that reads the clock: it shows the instruction at RIP. */
static inline struct vclock *x86_clock(struct x86_cpu *cpu)
{
	if (__builtin_expect(cpu->icount, 0))
		x86_icount_sync(cpu);
	return cpu->vm->cfg.clock;
}

/* code.c: the pages that hold decoded code, over all vCPUs of a VM. */
struct x86_code *x86_code_new(struct interp_vm *vm, struct err *err);
void x86_code_free(struct x86_code *c);
/* Note that [offset, offset + len) of a page was decoded; the generation to remember. Before the bytes are read. */
uint32_t x86_code_track(struct x86_code *c, uint64_t page_index, uint32_t offset, uint32_t len);
/* The page's current generation: a trace with another one is stale. */
const _Atomic uint32_t *x86_code_gen(struct x86_code *c, uint64_t page_index);
/* The other way. */
uint64_t x86_code_page_of(const struct x86_code *c, const _Atomic uint32_t *gen);
/* Code of this page has stored into it; true: that is new. And whether it ever did. Any thread. */
bool x86_code_set_own(struct x86_code *c, uint64_t page_index);
bool x86_code_is_own(const struct x86_code *c, uint64_t page_index);

/* exclusive.c: between begin and end no other vCPU executes guest instructions. */
struct x86_exclusive *x86_exclusive_new(void);
void x86_exclusive_free(struct x86_exclusive *x);
void x86_exclusive_enter(struct x86_cpu *cpu); /* run() begins: this vCPU takes part */
void x86_exclusive_exit(struct x86_cpu *cpu);  /* run() returns */
void x86_exclusive_poll(struct x86_cpu *cpu);  /* at VCPU_EV_PRIVATE: wait while another one is exclusive */
void x86_exclusive_begin(struct x86_cpu *cpu);
void x86_exclusive_end(struct x86_cpu *cpu);

/* io.c: #GP(0) unless the port is permitted to this privilege (IOPL, TSS bitmap). */
void x86_io_check(struct x86_cpu *cpu, uint16_t port, unsigned size);

/* vme.c: virtual-8086 code with IOPL below 3 and CR4.VME: its IF is VIF. */
bool x86_vme(const struct x86_cpu *cpu);
/* The same, or level 3 with CR4.PVI: CLI and STI are about VIF. */
bool x86_virtual_if(const struct x86_cpu *cpu);
/* FLAGS as such code sees them, and as it sets them; check: #GP(0) if it may not. */
uint16_t x86_vme_flags(const struct x86_cpu *cpu);
void x86_vme_check_flags(struct x86_cpu *cpu, uint16_t v);
void x86_vme_set_flags(struct x86_cpu *cpu, uint16_t v);
/* INT n that virtual-8086 code handles by itself: done if true. */
bool x86_vme_interrupt(struct x86_cpu *cpu, uint8_t vector, uint64_t next_rip);

/*
 * control.c: PAE paging loads its four top entries with CR3 (SDM vol. 3, 4.4.1). False: reserved bits are set, or there
 * is no memory.
 */
bool x86_uses_pdptes(uint64_t cr0, uint64_t cr4, uint64_t efer);
bool x86_read_pdptes(const struct x86_cpu *cpu, struct mem_space *mem, uint64_t cr3, uint64_t e[4]);
/* control.c: with all checks and consequences; #GP(0) on bad values. */
void x86_set_cr0(struct x86_cpu *cpu, uint64_t v);
void x86_set_cr3(struct x86_cpu *cpu, uint64_t v);
void x86_set_cr4(struct x86_cpu *cpu, uint64_t v);
/* control.c: the data TLB forgets what the old value allowed. */
void x86_set_pkru(struct x86_cpu *cpu, uint32_t v);

/* msr.c: false means #GP(0). */
#define X86_MSR_APIC_BASE 0x1bu /* the interrupt controller has it */
bool x86_rdmsr(struct x86_cpu *cpu, uint32_t msr, uint64_t *val);
bool x86_wrmsr(struct x86_cpu *cpu, uint32_t msr, uint64_t val);

/* kvmpv.c: kvmclock pages; called on MSR writes and after a resume. */
void x86_kvmclock_update(struct x86_cpu *cpu);
void x86_kvm_wall_clock_write(struct x86_cpu *cpu);

/* hyperv.c: false means #GP. Its MSRs, 400000XXh. */
#define X86_MSR_HYPERV 0x400000u /* bits 31:8 */
bool x86_hyperv_rdmsr(struct x86_cpu *cpu, uint32_t msr, uint64_t *v);
bool x86_hyperv_wrmsr(struct x86_cpu *cpu, uint32_t msr, uint64_t v);
/* The TSC was written: its page tells another offset. */
void x86_hyperv_time_update(struct x86_cpu *cpu);
/* VMCALL: done if true, else it is one of KVM's. Raises #UD. */
bool x86_hyperv_hypercall(struct x86_cpu *cpu);

/* events.c: interrupts, NMI, INIT, SIPI, debug traps, shadows: at a trace boundary when attention or events say so. */
void x86_check_events(struct x86_cpu *cpu);
/* The instruction for which that was done does not start yet: it will be done again. */
void x86_begin_again(struct x86_cpu *cpu);

/* smm.c: a pending SMI is taken: system management mode begins. */
void x86_smm_enter(struct x86_cpu *cpu);
/* Which memory there is follows from s.smm; empties the TLB. */
void x86_smm_view(struct x86_cpu *cpu);

/* debug.c */
/* DR6 for a #DB that is about to be raised or delivered: what is pending, and `hit`. */
void x86_debug_report(struct x86_cpu *cpu, uint64_t hit);
/* An instruction is done: its single step becomes pending, unless it was MOV SS, whose step is lost. */
void x86_debug_stepped(struct x86_cpu *cpu);
/* Before an instruction, after MOV SS if `mov_ss`: raise #DB for a breakpoint on it, use RF up, arm the single step. */
void x86_debug_begin_insn(struct x86_cpu *cpu, bool mov_ss);
bool x86_debug_page_watched(struct x86_cpu *cpu, uint64_t lin_page);		    /* never fill such a page */
void x86_debug_data_hit(struct x86_cpu *cpu, uint64_t lin, unsigned size, bool wr); /* sets debug_pending */
void x86_debug_io_hit(struct x86_cpu *cpu, uint16_t port, unsigned size);

/* stops.c: the debugger of the host, of which the guest knows nothing */
int x86_stops_set(struct vcpu *v, const struct cpu_debug *d, struct err *err);
/* The vCPU runs again. */
void x86_stops_begin(struct x86_cpu *cpu);
/* May an instruction at this offset of any page be one to stop at? Such a one begins a trace, which is guarded. */
bool x86_stops_at_offset(const struct x86_cpu *cpu, uint32_t offset);
/* Leave the loop if RIP is a place to stop at. */
void x86_stops_guard(struct x86_cpu *cpu);
/* An instruction is done: leave the loop if it was to be the last one. */
void x86_stops_done(struct x86_cpu *cpu);
/* An instruction begins that is stepped: the loop comes back after it, and interrupts wait. */
bool x86_stops_step(struct x86_cpu *cpu);
bool x86_stops_page_watched(const struct x86_cpu *cpu, uint64_t lin_page); /* never fill such a page */
void x86_stops_data_hit(struct x86_cpu *cpu, uint64_t lin, unsigned size, bool wr);

/* FPU and SSE gates: raise #NM, #UD or a pending #MF as CR0, CR4 and the status word ask. fpu.c */
void x86_fpu_enter(struct x86_cpu *cpu, bool wait); /* x87; `wait` checks for pending exceptions */
void x86_mmx_enter(struct x86_cpu *cpu);
/* An MMX instruction: TOP becomes 0 and all registers valid. */
void x86_mmx_begin(struct x86_cpu *cpu);
/* Write an MMX register: the exponent becomes all ones. */
void x86_mmx_set(struct x86_cpu *cpu, unsigned r, uint64_t v);
/* This host executes the guest's x87 and SSE arithmetic exactly; elsewhere the CPU models do not offer them. */
bool x86_fp_host_ok(void);

/* Recompute sse_block, avx_block and fpu_block from CR0, CR4 and XCR0. */
void x86_fp_update_blocks(struct x86_cpu *cpu);

static inline bool x86_has(const struct x86_cpu *cpu, enum x86_feature f)
{
	return cpu->vm->features->on[f];
}

/* What the vendors do differently where a guest can see it: SYSENTER, SYSCALL and their MSRs. */
static inline bool x86_intel(const struct x86_cpu *cpu)
{
	return cpu->vm->features->vendor == X86_INTEL;
}

/* AMD's processors know no far pointers of 16:64: REX.W changes nothing about them. QEMU's own do. */
static inline unsigned x86_far_size(const struct x86_cpu *cpu, const struct x86_insn *i)
{
	return i->opsize == 8 && !x86_intel(cpu) && cpu->vm->features->signature != X86_SIGNATURE_QEMU64 ? 4
													 : i->opsize;
}

/* LDMXCSR and STMXCSR, in either encoding, after the gate. fpstate.c */
const struct x86_insn *x86_ldmxcsr(struct x86_cpu *cpu, const struct x86_insn *i);
const struct x86_insn *x86_stmxcsr(struct x86_cpu *cpu, const struct x86_insn *i);

static inline void x86_sse_enter(struct x86_cpu *cpu)
{
	if (__builtin_expect(cpu->sse_block, 0))
		x86_raise(cpu, cpu->sse_block, 0);
}

/*
 * interp.c: the interpreter as an engine, and its calls for engines that are built on it. `size`: of their own object,
 * which begins with struct interp_vm or struct x86_cpu and is zero but for that. See engine.h.
 */
extern const struct engine engine_interp;
struct engine_vm *x86_vm_create(const struct engine_config *c, size_t size, struct err *err);
void x86_vm_destroy(struct engine_vm *vm);
void *x86_vm_model(struct engine_vm *vm);
struct x86_cpu *x86_cpu_create(struct engine_vm *vm, unsigned index, const struct engine *engine, size_t size,
			       struct err *err);
/* It is going to execute much: its tables are worth huge pages. */
void x86_cpu_on_huge_pages(struct x86_cpu *cpu, size_t size);
void x86_cpu_destroy(struct x86_cpu *cpu, size_t size);
void x86_cpu_reset(struct vcpu *v);
enum cpu_exit x86_cpu_run(struct vcpu *v);
void x86_cpu_get_state(struct vcpu *v, void *state);
int x86_cpu_set_state(struct vcpu *v, const void *state, struct err *err);
/* What is the same in the tables of all of them. */
#define X86_SOFTWARE_ENGINE                                                                                            \
	.isa = "x86_64", .counts = true, .model_state = &x86_model_state, .model = x86_vm_model,                       \
	.arch_state = &x86_state_desc, .arch_state_size = sizeof(struct x86_state), .smm = true,                       \
	.intc_places = 1u << ENGINE_INTC_USER, .remapped = x86_remapped, .vcpu_reset = x86_cpu_reset,                  \
	.get_state = x86_cpu_get_state, .set_state = x86_cpu_set_state, .debug_isa = &x86_debug_isa,                   \
	.set_debug = x86_stops_set

#endif
