/*
 * CPU models and CPUID. A feature bit is here only if the interpreter implements the feature: the
 * floating-point and vector bits are absent until their instructions are all there.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cpu/x86/interp.h"

enum reg { EAX, EBX, ECX, EDX };

static const struct feature {
	const char *name;
	uint32_t leaf, subleaf;
	uint8_t reg, bit;
	uint64_t cr4, efer; /* what it lets the guest switch on */
} features[] = {
	{ "fpu", 1, 0, EDX, 0, 0, 0 },
	{ "de", 1, 0, EDX, 2, X86_CR4_DE, 0 },
	{ "pse", 1, 0, EDX, 3, X86_CR4_PSE, 0 },
	{ "tsc", 1, 0, EDX, 4, X86_CR4_TSD, 0 },
	{ "msr", 1, 0, EDX, 5, 0, 0 },
	{ "pae", 1, 0, EDX, 6, X86_CR4_PAE, 0 },
	{ "cx8", 1, 0, EDX, 8, 0, 0 },
	{ "apic", 1, 0, EDX, 9, 0, 0 },
	{ "sep", 1, 0, EDX, 11, 0, 0 },
	{ "mtrr", 1, 0, EDX, 12, 0, 0 },
	{ "pge", 1, 0, EDX, 13, X86_CR4_PGE, 0 },
	{ "cmov", 1, 0, EDX, 15, 0, 0 },
	{ "pat", 1, 0, EDX, 16, 0, 0 },
	{ "pse36", 1, 0, EDX, 17, 0, 0 },
	{ "clflush", 1, 0, EDX, 19, 0, 0 },
	{ "mmx", 1, 0, EDX, 23, 0, 0 },
	{ "fxsr", 1, 0, EDX, 24, X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT, 0 },
	{ "sse", 1, 0, EDX, 25, 0, 0 },
	{ "sse2", 1, 0, EDX, 26, 0, 0 },
	{ "cx16", 1, 0, ECX, 13, 0, 0 },
	{ "pcid", 1, 0, ECX, 17, X86_CR4_PCIDE, 0 },
	{ "x2apic", 1, 0, ECX, 21, 0, 0 },
	{ "tsc-deadline", 1, 0, ECX, 24, 0, 0 },
	{ "fsgsbase", 7, 0, EBX, 0, X86_CR4_FSGSBASE, 0 },
	{ "tsc-adjust", 7, 0, EBX, 1, 0, 0 },
	{ "smep", 7, 0, EBX, 7, X86_CR4_SMEP, 0 },
	{ "erms", 7, 0, EBX, 9, 0, 0 },
	{ "invpcid", 7, 0, EBX, 10, 0, 0 },
	{ "smap", 7, 0, EBX, 20, X86_CR4_SMAP, 0 },
	{ "umip", 7, 0, ECX, 2, X86_CR4_UMIP, 0 },
	{ "arat", 6, 0, EAX, 2, 0, 0 },
	{ "syscall", 0x80000001, 0, EDX, 11, 0, X86_EFER_SCE },
	{ "nx", 0x80000001, 0, EDX, 20, 0, X86_EFER_NXE },
	{ "pdpe1gb", 0x80000001, 0, EDX, 26, 0, 0 },
	{ "rdtscp", 0x80000001, 0, EDX, 27, 0, 0 },
	{ "lm", 0x80000001, 0, EDX, 29, 0, X86_EFER_LME },
	{ "lahf-lm", 0x80000001, 0, ECX, 0, 0, 0 },
	/* Nothing here speculates, so nothing needs to be worked around. */
	{ "amd-ssb-no", 0x80000008, 0, EBX, 26, 0, 0 },
	{ "no-nested-data-bp", 0x80000021, 0, EAX, 0, 0, 0 },
	{ "lfence-always-serializing", 0x80000021, 0, EAX, 2, 0, 0 },
	{ "null-sel-clears-base", 0x80000021, 0, EAX, 6, 0, 0 },
	{ "auto-ibrs", 0x80000021, 0, EAX, 8, 0, 1ull << 21 },
	{ "srso-no", 0x80000021, 0, EAX, 29, 0, 0 },
	{ "tsa-sq-no", 0x80000021, 0, ECX, 1, 0, 0 },
	{ "tsa-l1-no", 0x80000021, 0, ECX, 2, 0, 0 },
	{ "invtsc", 0x80000007, 0, EDX, 8, 0, 0 },
	{ "kvmclock", 0x40000001, 0, EAX, 3, 0, 0 },
	{ "kvm-nopiodelay", 0x40000001, 0, EAX, 1, 0, 0 },
	{ "kvm-pv-eoi", 0x40000001, 0, EAX, 6, 0, 0 },
	{ "kvm-pv-unhalt", 0x40000001, 0, EAX, 7, 0, 0 },
	{ "kvm-poll-control", 0x40000001, 0, EAX, 12, 0, 0 },
	{ "kvmclock-stable", 0x40000001, 0, EAX, 24, 0, 0 },
};

struct x86_features {
	bool on[ARRAY_LEN(features)];
	uint64_t cr4, efer;
};

static const char *const models[] = { "max", "qemu64", NULL };

/* What a host without the guest's floating point cannot give. */
static const char *const of_floating_point[] = { "fpu", "mmx", "sse", "sse2" };

static int find(const char *name, size_t len)
{
	for (size_t n = 0; n < ARRAY_LEN(features); n++)
		if (strlen(features[n].name) == len && !strncmp(features[n].name, name, len))
			return (int)n;
	return -1;
}

/* "MODEL[,+FEATURE][,-FEATURE]..." */
static int parse(struct x86_features *f, const char *text, struct err *err)
{
	size_t len = strcspn(text, ",");
	unsigned m = 0;

	while (models[m] && (strlen(models[m]) != len || strncmp(models[m], text, len)))
		m++;
	if (!models[m])
		return err_set(err, "cpu.model: '%.*s' is not one of max, qemu64", (int)len, text);
	while (text[len]) {
		const char *word = text + len + 1;
		int n;

		len = strcspn(word, ",");
		if (len < 2 || (*word != '+' && *word != '-'))
			return err_set(err, "cpu.model: '%.*s' is not +FEATURE or -FEATURE", (int)len, word);
		n = find(word + 1, len - 1);
		if (n < 0)
			return err_set(err, "cpu.model: unknown feature '%.*s'", (int)len - 1, word + 1);
		f->on[n] = *word == '+';
		text = word;
	}
	return 0;
}

const struct x86_features *x86_features_new(struct config *c, struct err *err)
{
	struct x86_features *f = calloc(1, sizeof(*f));
	const char *model = "max";

	if (!f) {
		err_set(err, "out of memory");
		return NULL;
	}
	memset(f->on, true, sizeof(f->on));
	for (size_t n = 0; !x86_fp_host_ok() && n < ARRAY_LEN(of_floating_point); n++)
		f->on[find(of_floating_point[n], strlen(of_floating_point[n]))] = false;
	if ((c && config_str(c, "cpu.model", "max", &model, err)) || parse(f, model, err)) {
		free(f);
		return NULL;
	}
	f->cr4 = X86_CR4_MCE;
	for (size_t n = 0; n < ARRAY_LEN(features); n++) {
		f->cr4 |= f->on[n] ? features[n].cr4 : 0;
		f->efer |= f->on[n] ? features[n].efer : 0;
	}
	return f;
}

void x86_features_free(const struct x86_features *f)
{
	free((void *)f);
}

uint64_t x86_cr4_allowed(const struct x86_features *f)
{
	return f->cr4;
}

uint64_t x86_efer_allowed(const struct x86_features *f)
{
	return f->efer;
}

uint64_t x86_xcr0_allowed(const struct x86_features *f)
{
	return 3;
}

static void put_text(uint32_t out[4], const enum reg *order, const char *text, unsigned words)
{
	for (unsigned n = 0; n < words; n++)
		out[order[n]] = ld_le32(text + 4 * n);
}

#define MAX_BASIC      0x16
#define MAX_HYPERVISOR 0x40000001
#define MAX_EXTENDED   0x80000021

/* What is not a feature bit. Family 19h: no Meltdown, so no page-table isolation is asked for. */
static void identity(struct x86_cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	static const enum reg vendor[] = { EBX, EDX, ECX }, brand[] = { EAX, EBX, ECX, EDX },
			      hypervisor[] = { EBX, ECX, EDX };
	static const char name[49] = "Vireo Virtual CPU\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
	uint32_t cpus = cpu->vm->cfg.cpus;

	switch (leaf) {
	case 0:
	case 0x80000000:
		out[EAX] = leaf ? MAX_EXTENDED : MAX_BASIC;
		put_text(out, vendor, "AuthenticAMD", 3);
		break;
	case 1:
		out[EAX] = 0xa20f10;
		out[EBX] = cpu->vcpu.index << 24 | (cpus < 256 ? cpus : 255) << 16 | 8 << 8;
		out[ECX] |= 1u << 31; /* a hypervisor is present */
		out[EDX] |= cpus > 1 ? 1u << 28 : 0;
		break;
	case 0x15:
		out[EAX] = out[EBX] = 1;
		out[ECX] = (uint32_t)clock_tsc_hz(cpu->vm->cfg.clock);
		break;
	case 0x16:
		out[EAX] = out[EBX] = (uint32_t)(clock_tsc_hz(cpu->vm->cfg.clock) / 1000000);
		break;
	case 0x40000000:
		out[EAX] = MAX_HYPERVISOR;
		put_text(out, hypervisor, "KVMKVMKVM\0\0\0", 3);
		break;
	case 0x80000001:
		out[EAX] = 0xa20f10;
		break;
	case 0x80000002:
	case 0x80000003:
	case 0x80000004:
		put_text(out, brand, name + 16 * (leaf - 0x80000002), 4);
		break;
	case 0x80000008:
		out[EAX] = 48 << 8 | 46;
		out[ECX] = cpus - 1;
		break;
	}
}

/* The other leaves take no notice of ECX. */
static bool has_subleaves(uint32_t leaf)
{
	return leaf == 4 || leaf == 7 || leaf == 0xb || leaf == 0xd;
}

void x86_cpuid(struct x86_cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	const struct x86_features *f = cpu->vm->features;

	if (!has_subleaves(leaf))
		subleaf = 0;
	memset(out, 0, 4 * sizeof(out[0]));
	for (size_t n = 0; n < ARRAY_LEN(features); n++)
		if (f->on[n] && features[n].leaf == leaf && features[n].subleaf == subleaf)
			out[features[n].reg] |= 1u << features[n].bit;
	identity(cpu, leaf, subleaf, out);
}
