/*
 * The XSAVE-managed state: which components there are, where they lie in the area, and the legacy region that
 * FXSAVE shares. SDM vol. 1, chapter 13. vCPU thread only.
 */
#ifndef VIREO_CPU_X86_XSAVE_H
#define VIREO_CPU_X86_XSAVE_H

#include <stdbool.h>
#include <stdint.h>

struct x86_cpu;
struct x86_insn;
struct x86_features;
struct x86_cpuid_query;

#define X86_MXCSR_MASK 0xffffu
#define X86_MXCSR_INIT 0x1f80u

/* The legacy region, bytes 0-415 of an area: FXSAVE's. x87 has bytes 0-23 and 32-159, SSE those from 160. */
#define X86_FX_MXCSR 24
#define X86_FX_XMM   160
#define X86_FX_BYTES 416
#define X86_FX_AREA  512 /* what FXSAVE and FXRSTOR must be able to touch */
void x86_fx_store_x87(const struct x86_cpu *cpu, const struct x86_insn *i, uint8_t *area);
void x86_fx_load_x87(struct x86_cpu *cpu, const struct x86_insn *i, const uint8_t *area);
void x86_fx_store_sse(const struct x86_cpu *cpu, const struct x86_insn *i, uint8_t *area);
void x86_fx_load_sse(struct x86_cpu *cpu, const struct x86_insn *i, const uint8_t *area);
/* MXCSR and its mask, bytes 24-31; loading raises #GP(0) for a reserved bit. */
void x86_fx_store_mxcsr(const struct x86_cpu *cpu, uint8_t *area);
void x86_fx_check_mxcsr(struct x86_cpu *cpu, const uint8_t *area);

/* The bits of XCR0 that the features allow; 0 without XSAVE. */
uint64_t x86_xsave_components(const struct x86_features *f);
/*
 * Where PKRU, component 9, lies in the standard form: behind AVX-512 on processors that have it, which leave other
 * gaps. X86_XSAVE_PKRU_AT is where Intel's have it.
 */
#define X86_XSAVE_PKRU	  9
#define X86_XSAVE_PKRU_AT 2688u
bool x86_xsave_pkru_fits(unsigned at);
/* CPUID leaf 0Dh, which has a subleaf for each component after the two of its own. */
#define X86_XSAVE_COMPONENTS (X86_XSAVE_PKRU + 1)
void x86_xsave_cpuid(const struct x86_cpuid_query *q, uint32_t out[4]);

#endif
