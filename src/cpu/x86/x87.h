/*
 * What the files of the x87 instruction set share: the stack, status bits, and exceptions.
 * SDM vol. 1, chapter 8. vCPU thread only.
 */
#ifndef VIREO_CPU_X86_X87_H
#define VIREO_CPU_X86_X87_H

#include "cpu/x86/interp.h"

#define X87_IE	 (1u << 0)
#define X87_DE	 (1u << 1)
#define X87_ZE	 (1u << 2)
#define X87_OE	 (1u << 3)
#define X87_UE	 (1u << 4)
#define X87_PE	 (1u << 5)
#define X87_EXC	 0x3fu
#define X87_SF	 (1u << 6)
#define X87_ES	 (1u << 7)
#define X87_C0	 (1u << 8)
#define X87_C1	 (1u << 9)
#define X87_C2	 (1u << 10)
#define X87_TOP	 (7u << 11)
#define X87_C3	 (1u << 14)
#define X87_BUSY (1u << 15)
#define X87_CC	 (X87_C0 | X87_C1 | X87_C2 | X87_C3)

/* Found before a result is computed: unmasked, they leave every operand as it is. */
#define X87_PRE (X87_IE | X87_DE | X87_ZE)

static inline unsigned x87_top(const struct x86_cpu *cpu)
{
	return cpu->s.fp.sw >> 11 & 7;
}
static inline void x87_set_top(struct x86_cpu *cpu, unsigned top)
{
	cpu->s.fp.sw = (uint16_t)((cpu->s.fp.sw & ~X87_TOP) | (top & 7) << 11);
}
static inline unsigned x87_phys(const struct x86_cpu *cpu, unsigned sti)
{
	return (x87_top(cpu) + sti) & 7;
}
static inline struct x86_fpreg *x87_st(struct x86_cpu *cpu, unsigned sti)
{
	return &cpu->s.fp.r[x87_phys(cpu, sti)];
}
static inline bool x87_empty(const struct x86_cpu *cpu, unsigned sti)
{
	return !(cpu->s.fp.valid >> x87_phys(cpu, sti) & 1);
}
static inline void x87_write(struct x86_cpu *cpu, unsigned sti, struct x86_fpreg v)
{
	unsigned p = x87_phys(cpu, sti);

	cpu->s.fp.r[p] = v;
	cpu->s.fp.valid |= (uint8_t)(1u << p);
}
static inline void x87_pop(struct x86_cpu *cpu)
{
	unsigned top = x87_top(cpu);

	cpu->s.fp.valid &= (uint8_t) ~(1u << top);
	x87_set_top(cpu, top + 1);
}
static inline void x87_push(struct x86_cpu *cpu, struct x86_fpreg v)
{
	x87_set_top(cpu, x87_top(cpu) - 1);
	x87_write(cpu, 0, v);
}

/*
 * How the host's instructions do the guest's work: under its precision and rounding, and with overflow and
 * underflow unmasked as it has them, because that changes the result (the exponent is wrapped). The others are
 * masked; what is to be done about one that the guest has unmasked is seen afterwards. Between two pieces of such
 * code no exception flag is set.
 */
#define X87_HOST_CW 0x37f
static inline uint16_t x87_host_cw(const struct x86_cpu *cpu)
{
	return (cpu->s.fp.cw & (0x0f00 | X87_OE | X87_UE)) | X87_IE | X87_DE | X87_ZE | X87_PE;
}
#define X87_BEGIN "fldcw %[cw]\n\t"
#define X87_SW	  "\n\tfnstsw %[sw]\n\tfnclex\n\t"
#define X87_END	  "\n\tfldcw %[host]"

#define X87_INDEFINITE ((struct x86_fpreg){ 0xc000000000000000ull, 0xffff })

/* FNINIT. The data registers stay. */
void x87_init(struct x86_x87 *fp);
/* Set ES and B from the flags and masks. */
void x87_update_es(struct x86_x87 *fp);
/* Record exceptions (X87_EXC and SF); true when one of them is unmasked, which is then pending. */
bool x87_raise(struct x86_cpu *cpu, uint16_t flags);
/* Stack overflow or underflow: true when unmasked. */
bool x87_stack_fault(struct x86_cpu *cpu, bool overflow);
/* The tag word of FSTENV, and back to that of FXSAVE. */
uint16_t x87_full_tags(const struct x86_x87 *fp);
uint8_t x87_abridge_tags(uint16_t tags);

/* Remember the last instruction, after all that can fault. `ea` of the memory operand. */
static inline void x87_note(struct x86_cpu *cpu, const struct x86_insn *i)
{
	struct x86_x87 *fp = &cpu->s.fp;

	fp->op = (uint16_t)((i->op & 7) << 8 | i->modrm);
	fp->cs = cpu->s.seg[X86_CS].sel;
	fp->ip = cpu->s.gpr[X86_RIP];
}
static inline void x87_note_mem(struct x86_cpu *cpu, const struct x86_insn *i, uint64_t ea)
{
	x87_note(cpu, i);
	cpu->s.fp.ds = cpu->s.seg[i->seg].sel;
	cpu->s.fp.dp = ea;
}

#endif
