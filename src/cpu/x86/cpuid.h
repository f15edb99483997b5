/*
 * What the processor of a VM is: its model, the features that are switched on, and the limits that follow. Made once
 * from the configuration or a saved state, constant while the VM runs, shared by its vCPUs. A feature is in the list
 * only if the interpreter implements it.
 */
#ifndef VIREO_CPU_X86_CPUID_H
#define VIREO_CPU_X86_CPUID_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/config.h"
#include "base/err.h"
#include "cpu/x86/state.h"
#include "mem/mem.h"

enum x86_cpuid_reg { X86_CPUID_EAX, X86_CPUID_EBX, X86_CPUID_ECX, X86_CPUID_EDX };

/* F(identifier, name, leaf, subleaf, register, bit, CR4 bits, EFER bits): the bits that it lets the guest switch on. */
#define X86_FEATURES(F)                                                                                                \
	F(FPU, "fpu", 1, 0, EDX, 0, 0, 0)                                                                              \
	F(VME, "vme", 1, 0, EDX, 1, X86_CR4_VME | X86_CR4_PVI, 0)                                                      \
	F(DE, "de", 1, 0, EDX, 2, X86_CR4_DE, 0)                                                                       \
	F(PSE, "pse", 1, 0, EDX, 3, X86_CR4_PSE, 0)                                                                    \
	F(TSC, "tsc", 1, 0, EDX, 4, X86_CR4_TSD, 0)                                                                    \
	F(MSR, "msr", 1, 0, EDX, 5, 0, 0)                                                                              \
	F(PAE, "pae", 1, 0, EDX, 6, X86_CR4_PAE, 0)                                                                    \
	F(MCE, "mce", 1, 0, EDX, 7, X86_CR4_MCE, 0)                                                                    \
	F(CX8, "cx8", 1, 0, EDX, 8, 0, 0)                                                                              \
	F(APIC, "apic", 1, 0, EDX, 9, 0, 0)                                                                            \
	F(SEP, "sep", 1, 0, EDX, 11, 0, 0)                                                                             \
	F(MTRR, "mtrr", 1, 0, EDX, 12, 0, 0)                                                                           \
	F(PGE, "pge", 1, 0, EDX, 13, X86_CR4_PGE, 0)                                                                   \
	F(MCA, "mca", 1, 0, EDX, 14, 0, 0)                                                                             \
	F(CMOV, "cmov", 1, 0, EDX, 15, 0, 0)                                                                           \
	F(PAT, "pat", 1, 0, EDX, 16, 0, 0)                                                                             \
	F(PSE36, "pse36", 1, 0, EDX, 17, 0, 0)                                                                         \
	F(CLFLUSH, "clflush", 1, 0, EDX, 19, 0, 0)                                                                     \
	F(MMX, "mmx", 1, 0, EDX, 23, 0, 0)                                                                             \
	F(FXSR, "fxsr", 1, 0, EDX, 24, X86_CR4_OSFXSR, 0)                                                              \
	F(SSE, "sse", 1, 0, EDX, 25, X86_CR4_OSXMMEXCPT, 0)                                                            \
	F(SSE2, "sse2", 1, 0, EDX, 26, 0, 0)                                                                           \
	F(SSE3, "sse3", 1, 0, ECX, 0, 0, 0)                                                                            \
	F(PCLMUL, "pclmulqdq", 1, 0, ECX, 1, 0, 0)                                                                     \
	F(SSSE3, "ssse3", 1, 0, ECX, 9, 0, 0)                                                                          \
	F(FMA, "fma", 1, 0, ECX, 12, 0, 0)                                                                             \
	F(CX16, "cx16", 1, 0, ECX, 13, 0, 0)                                                                           \
	F(PCID, "pcid", 1, 0, ECX, 17, X86_CR4_PCIDE, 0)                                                               \
	F(SSE41, "sse4.1", 1, 0, ECX, 19, 0, 0)                                                                        \
	F(SSE42, "sse4.2", 1, 0, ECX, 20, 0, 0)                                                                        \
	F(X2APIC, "x2apic", 1, 0, ECX, 21, 0, 0)                                                                       \
	F(MOVBE, "movbe", 1, 0, ECX, 22, 0, 0)                                                                         \
	F(POPCNT, "popcnt", 1, 0, ECX, 23, 0, 0)                                                                       \
	F(TSC_DEADLINE, "tsc-deadline", 1, 0, ECX, 24, 0, 0)                                                           \
	F(AES, "aes", 1, 0, ECX, 25, 0, 0)                                                                             \
	F(XSAVE, "xsave", 1, 0, ECX, 26, X86_CR4_OSXSAVE, 0)                                                           \
	F(AVX, "avx", 1, 0, ECX, 28, 0, 0)                                                                             \
	F(F16C, "f16c", 1, 0, ECX, 29, 0, 0)                                                                           \
	F(RDRAND, "rdrand", 1, 0, ECX, 30, 0, 0)                                                                       \
	F(ARAT, "arat", 6, 0, EAX, 2, 0, 0)                                                                            \
	F(FSGSBASE, "fsgsbase", 7, 0, EBX, 0, X86_CR4_FSGSBASE, 0)                                                     \
	F(TSC_ADJUST, "tsc-adjust", 7, 0, EBX, 1, 0, 0)                                                                \
	F(BMI1, "bmi1", 7, 0, EBX, 3, 0, 0)                                                                            \
	F(AVX2, "avx2", 7, 0, EBX, 5, 0, 0)                                                                            \
	F(SMEP, "smep", 7, 0, EBX, 7, X86_CR4_SMEP, 0)                                                                 \
	F(BMI2, "bmi2", 7, 0, EBX, 8, 0, 0)                                                                            \
	F(ERMS, "erms", 7, 0, EBX, 9, 0, 0)                                                                            \
	F(INVPCID, "invpcid", 7, 0, EBX, 10, 0, 0)                                                                     \
	F(RDSEED, "rdseed", 7, 0, EBX, 18, 0, 0)                                                                       \
	F(ADX, "adx", 7, 0, EBX, 19, 0, 0)                                                                             \
	F(SMAP, "smap", 7, 0, EBX, 20, X86_CR4_SMAP, 0)                                                                \
	F(CLFLUSHOPT, "clflushopt", 7, 0, EBX, 23, 0, 0)                                                               \
	F(CLWB, "clwb", 7, 0, EBX, 24, 0, 0)                                                                           \
	F(SHA, "sha-ni", 7, 0, EBX, 29, 0, 0)                                                                          \
	F(UMIP, "umip", 7, 0, ECX, 2, X86_CR4_UMIP, 0)                                                                 \
	F(PKU, "pku", 7, 0, ECX, 3, X86_CR4_PKE, 0)                                                                    \
	F(RDPID, "rdpid", 7, 0, ECX, 22, 0, 0)                                                                         \
	F(XSAVEOPT, "xsaveopt", 0xd, 1, EAX, 0, 0, 0)                                                                  \
	F(XSAVEC, "xsavec", 0xd, 1, EAX, 1, 0, 0)                                                                      \
	F(XGETBV1, "xgetbv1", 0xd, 1, EAX, 2, 0, 0)                                                                    \
	F(XSAVES, "xsaves", 0xd, 1, EAX, 3, 0, 0)                                                                      \
	F(SYSCALL, "syscall", 0x80000001, 0, EDX, 11, 0, X86_EFER_SCE)                                                 \
	F(NX, "nx", 0x80000001, 0, EDX, 20, 0, X86_EFER_NXE)                                                           \
	F(PDPE1GB, "pdpe1gb", 0x80000001, 0, EDX, 26, 0, 0)                                                            \
	F(RDTSCP, "rdtscp", 0x80000001, 0, EDX, 27, 0, 0)                                                              \
	F(LM, "lm", 0x80000001, 0, EDX, 29, 0, X86_EFER_LME)                                                           \
	F(LAHF_LM, "lahf-lm", 0x80000001, 0, ECX, 0, 0, 0)                                                             \
	F(ABM, "abm", 0x80000001, 0, ECX, 5, 0, 0)                                                                     \
	F(INVTSC, "invtsc", 0x80000007, 0, EDX, 8, 0, 0)                                                               \
	/* Nothing here speculates, so nothing needs to be worked around. */                                           \
	F(AMD_SSB_NO, "amd-ssb-no", 0x80000008, 0, EBX, 26, 0, 0)                                                      \
	F(NO_NESTED_DATA_BP, "no-nested-data-bp", 0x80000021, 0, EAX, 0, 0, 0)                                         \
	F(LFENCE, "lfence-always-serializing", 0x80000021, 0, EAX, 2, 0, 0)                                            \
	F(NULL_BASE, "null-sel-clears-base", 0x80000021, 0, EAX, 6, 0, 0)                                              \
	F(AUTO_IBRS, "auto-ibrs", 0x80000021, 0, EAX, 8, 0, X86_EFER_AUTOIBRS)                                         \
	F(SRSO_NO, "srso-no", 0x80000021, 0, EAX, 29, 0, 0)                                                            \
	F(TSA_SQ_NO, "tsa-sq-no", 0x80000021, 0, ECX, 1, 0, 0)                                                         \
	F(TSA_L1_NO, "tsa-l1-no", 0x80000021, 0, ECX, 2, 0, 0)                                                         \
	F(KVM_NOPIODELAY, "kvm-nopiodelay", 0x40000001, 0, EAX, 1, 0, 0)                                               \
	F(KVMCLOCK, "kvmclock", 0x40000001, 0, EAX, 3, 0, 0)                                                           \
	/* For those who ask for it, as software engines have it not: a machine could not move there. */               \
	F(KVM_STEAL, "kvm-steal-time", 0x40000001, 0, EAX, 5, 0, 0)                                                    \
	F(KVM_PV_EOI, "kvm-pv-eoi", 0x40000001, 0, EAX, 6, 0, 0)                                                       \
	F(KVM_PV_UNHALT, "kvm-pv-unhalt", 0x40000001, 0, EAX, 7, 0, 0)                                                 \
	F(KVM_SEND_IPI, "kvm-pv-ipi", 0x40000001, 0, EAX, 11, 0, 0)                                                    \
	F(KVM_POLL, "kvm-poll-control", 0x40000001, 0, EAX, 12, 0, 0)                                                  \
	F(KVMCLOCK_STABLE, "kvmclock-stable", 0x40000001, 0, EAX, 24, 0, 0)                                            \
	/* Hyper-V's leaves, if any of these is asked for. KVM's move up by 100h then. */                              \
	F(HV_VPINDEX, "hv-vpindex", 0x40000003, 0, EAX, 6, 0, 0)                                                       \
	F(HV_TIME, "hv-time", 0x40000003, 0, EAX, 9, 0, 0)                                                             \
	F(HV_VAPIC, "hv-vapic", 0x40000004, 0, EAX, 3, 0, 0)                                                           \
	F(HV_RELAXED, "hv-relaxed", 0x40000004, 0, EAX, 5, 0, 0)

#define X86_FEATURE_ID_(id, ...) X86_F_##id,
enum x86_feature {
	X86_FEATURES(X86_FEATURE_ID_) X86_FEATURE_COUNT,
	X86_F_ALWAYS = X86_FEATURE_COUNT /* where something needs none */
};
#undef X86_FEATURE_ID_

/* Bytes of a list of all names, with two characters between them. */
#define X86_FEATURE_NAME_(id, name, ...) +sizeof(name) + 1
enum { X86_FEATURE_NAMES = 0 X86_FEATURES(X86_FEATURE_NAME_) };
#undef X86_FEATURE_NAME_

/* Whether the host's processor has it, and for AVX its operating system. Pure, any thread. */
bool x86_host_has(enum x86_feature f);
/* Whether this program can give it to guests on this host. Pure, any thread. */
bool x86_feature_possible(enum x86_feature f);

enum x86_vendor { X86_AMD, X86_INTEL, X86_VENDORS };
extern const char *const x86_vendors[X86_VENDORS]; /* as CPUID spells them */

/* Of the processor that QEMU has made up: model qemu64. */
#define X86_SIGNATURE_QEMU64 0x60fb1u

struct x86_features {
	bool on[X86_FEATURE_COUNT];
	uint32_t signature; /* family, model, stepping, as CPUID leaf 1 has them */
	enum x86_vendor vendor;
	char brand[49];		     /* what leaves 80000002h to 80000004h say, zeros behind */
	unsigned phys_bits;	     /* width of physical addresses, */
	unsigned phys_min, phys_max; /* what it takes for the memory, and what the engine has */
	unsigned pkru_at;	     /* where PKRU lies in an XSAVE area of the standard form: processors differ */
	bool any_pkru_at;	     /* the engine could as well have it elsewhere */
	uint64_t cr4, efer, xcr0;    /* bits that the guest may set */
};

/*
 * What an engine can give beyond the interpreter's own limits: whether it has the feature at this place of CPUID. KVM's
 * leaves are asked for, too.
 */
struct x86_feature_limit {
	bool (*has)(void *opaque, uint32_t leaf, uint32_t subleaf, enum x86_cpuid_reg reg, unsigned bit);
	void *opaque;
	unsigned
		pkru_at; /* in its XSAVE areas; 0: the engine does not keep PKRU, and protection keys are not offered */
	unsigned phys_bits; /* of physical addresses at most; 0: any width */
	const char *engine; /* what it is called where it lacks something; NULL: "this engine" */
};

/*
 * From "cpu.model": MODEL[,+FEATURE][,-FEATURE][,vendor=NAME][,phys-bits=N]...; `c` may be NULL. With `limit` NULL it
 * is the interpreter that executes.
 */
const struct x86_features *x86_features_new(struct config *c, const struct x86_feature_limit *limit, struct err *err);
/*
 * The same for a machine that is restored: what cannot be given is left out without a word, since loading the model
 * that it was saved with (x86_model_state) names what is missing.
 */
const struct x86_features *x86_features_for_saved(struct config *c, const struct x86_feature_limit *limit,
						  struct err *err);
void x86_features_free(const struct x86_features *f);
/* Hold the width of physical addresses, now and when a saved model is loaded, against the end of the memory. */
int x86_features_reach(struct x86_features *f, struct mem_space *mem, struct err *err);
/* That width where nothing is said: no more than the host's processor has, so that any engine here can take over. */
unsigned x86_phys_bits(void);
/* What that text may name: the n-th model or feature; NULL: there are no more. */
const char *x86_model_name(unsigned n);
const char *x86_feature_name(unsigned n);
/* All of it for a reader, in lines of at most 80 columns. */
void x86_models_print(FILE *out);
/* The limits that follow from `on`. */
void x86_features_derive(struct x86_features *f);

/* A question to CPUID: who asks, and the registers that answers depend on. */
struct x86_cpuid_query {
	const struct x86_features *features;
	unsigned cpus, index;
	uint64_t tsc_hz, cr4, xcr0;
	bool apic; /* its local APIC is enabled */
	uint32_t leaf, subleaf;
};
/* EAX, EBX, ECX, EDX go to out[]. Pure. */
void x86_cpuid_read(const struct x86_cpuid_query *q, uint32_t out[4]);
/* The last leaf of each range (basic, hypervisor, extended), and how many subleaves a leaf has at most. */
#define X86_CPUID_BASIC	     0x16u
#define X86_CPUID_HYPERVISOR 0x40000001u
#define X86_CPUID_HYPERV     0x40000005u /* instead, with Hyper-V's interface, */
#define X86_CPUID_MOVED	     0x40000100u /* and where KVM's begin then */
#define X86_CPUID_EXTENDED   0x80000021u
unsigned x86_cpuid_subleaves(uint32_t leaf);

/* hyperv.c: whether the model has any of Hyper-V's features, and its leaves 400000XXh. Pure. */
bool x86_hyperv_offered(const struct x86_features *f);
void x86_hyperv_cpuid(const struct x86_cpuid_query *q, uint32_t out[4]);

struct x86_cpu;
/* EAX, EBX, ECX, EDX go to out[]. vCPU thread. */
void x86_cpuid(struct x86_cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

#endif
