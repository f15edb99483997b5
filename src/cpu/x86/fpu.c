/*
 * The gates before x87, MMX and SSE instructions, and what the x87 files share.
 * vCPU thread only.
 */
#include "cpu/x86/interp.h"
#include "cpu/x86/x87.h"

void x86_fp_update_blocks(struct x86_cpu *cpu)
{
	uint64_t cr0 = cpu->s.cr0;

	cpu->fpu_block = cr0 & (X86_CR0_EM | X86_CR0_TS) ? X86_NM : 0;
	if (cr0 & X86_CR0_EM || !(cpu->s.cr4 & X86_CR4_OSFXSR))
		cpu->sse_block = X86_UD;
	else
		cpu->sse_block = cr0 & X86_CR0_TS ? X86_NM : 0;
	if (!(cpu->s.cr4 & X86_CR4_OSXSAVE) || (cpu->s.xcr0 & X86_XCR0_AVX) != X86_XCR0_AVX)
		cpu->avx_block = X86_UD;
	else
		cpu->avx_block = cr0 & X86_CR0_TS ? X86_NM : 0;
	x86_update_fetch(cpu);
}

/*
 * A pending exception: #MF with CR0.NE. Without it a PC reports it by FERR# to IRQ 13 of the chip set, which this
 * machine does not wire: as with IGNNE# asserted, the instruction executes.
 */
static void check_pending(struct x86_cpu *cpu)
{
	if (__builtin_expect(cpu->s.fp.sw & X87_ES, 0) && cpu->s.cr0 & X86_CR0_NE)
		x86_raise(cpu, X86_MF, 0);
}

void x86_fpu_enter(struct x86_cpu *cpu, bool wait)
{
	if (__builtin_expect(cpu->fpu_block, 0))
		x86_raise(cpu, cpu->fpu_block, 0);
	if (wait)
		check_pending(cpu);
}

/* MMX differs in that CR0.EM means #UD. */
void x86_mmx_enter(struct x86_cpu *cpu)
{
	if (__builtin_expect(cpu->fpu_block, 0))
		x86_raise(cpu, cpu->s.cr0 & X86_CR0_EM ? X86_UD : X86_NM, 0);
	check_pending(cpu);
}

void x86_mmx_begin(struct x86_cpu *cpu)
{
	x87_set_top(cpu, 0);
	cpu->s.fp.valid = 0xff;
}

void x86_mmx_set(struct x86_cpu *cpu, unsigned r, uint64_t v)
{
	cpu->s.fp.r[r & 7] = (struct x86_fpreg){ v, 0xffff };
}

bool x86_fp_host_ok(void)
{
#if defined(__x86_64__)
	return true;
#else
	return false;
#endif
}

void x87_init(struct x86_x87 *fp)
{
	fp->cw = 0x37f;
	fp->sw = 0;
	fp->valid = 0;
	fp->op = 0;
	fp->cs = 0;
	fp->ds = 0;
	fp->ip = 0;
	fp->dp = 0;
}

void x87_update_es(struct x86_x87 *fp)
{
	if (fp->sw & ~fp->cw & X87_EXC)
		fp->sw |= X87_ES | X87_BUSY;
	else
		fp->sw &= (uint16_t) ~(X87_ES | X87_BUSY);
}

bool x87_raise(struct x86_cpu *cpu, uint16_t flags)
{
	struct x86_x87 *fp = &cpu->s.fp;

	fp->sw |= flags & (X87_EXC | X87_SF);
	if (flags & ~fp->cw & X87_EXC) {
		fp->sw |= X87_ES | X87_BUSY;
		return true;
	}
	return false;
}

bool x87_stack_fault(struct x86_cpu *cpu, bool overflow)
{
	cpu->s.fp.sw = (uint16_t)((cpu->s.fp.sw & ~X87_C1) | (overflow ? X87_C1 : 0));
	return x87_raise(cpu, X87_IE | X87_SF);
}

/* The two bits of a register in the full tag word: valid, zero, special. */
static unsigned tag_of(const struct x86_fpreg *r)
{
	unsigned e = r->sexp & 0x7fff;

	if (e == 0 && r->mant == 0)
		return 1;
	if (e == 0 || e == 0x7fff || !(r->mant >> 63))
		return 2;
	return 0;
}

uint16_t x87_full_tags(const struct x86_x87 *fp)
{
	uint16_t t = 0;

	for (unsigned p = 0; p < 8; p++)
		t |= (uint16_t)((fp->valid >> p & 1 ? tag_of(&fp->r[p]) : 3u) << 2 * p);
	return t;
}

uint8_t x87_abridge_tags(uint16_t tags)
{
	uint8_t v = 0;

	for (unsigned p = 0; p < 8; p++)
		v |= (uint8_t)(((tags >> 2 * p & 3) != 3) << p);
	return v;
}
