/* CPU models: the text of "cpu.model", and what this program, the host and the engine can give of it. */
#include "cpu/x86/cpuid.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/bytes.h"
#include "base/log.h"
#include "base/suggest.h"
#include "cpu/x86/interp.h"
#include "cpu/x86/xsave.h"

#define EAX X86_CPUID_EAX
#define EBX X86_CPUID_EBX
#define ECX X86_CPUID_ECX
#define EDX X86_CPUID_EDX

#define PHYS_BITS_MIN 32
#define PHYS_BITS     46
#define PHYS_BITS_MAX 52

#define ROW(id, name_, leaf_, subleaf_, reg_, bit_, cr4_, efer_) { name_, leaf_, subleaf_, reg_, bit_, cr4_, efer_ },
static const struct feature {
	const char *name;
	uint32_t leaf, subleaf;
	uint8_t reg, bit;
	uint64_t cr4, efer;
} features[X86_FEATURE_COUNT] = { X86_FEATURES(ROW) };
#undef ROW

/*
 * Models by QEMU's names. A model has what its base has and the features of its own list, which may name ones that no
 * engine has: whoever takes them out by -FEATURE gets the rest.
 */
static const struct model {
	const char *name;
	enum x86_vendor vendor;
	uint32_t signature;
	const char *base, *features; /* besides KVM's; both NULL: all that this program and host have */
	bool host;		     /* less what the host's processor has not, and with its name */
} models[] = {
	/* Family 19h: no Meltdown, so no page-table isolation is asked for. */
	{ "max", X86_AMD, 0xa20f10, NULL, NULL },
	{ "host", .host = true },
	{ "qemu64", X86_AMD, X86_SIGNATURE_QEMU64, NULL,
	  "fpu,de,pse,tsc,msr,pae,mce,cx8,apic,sep,mtrr,pge,mca,cmov,pat,pse36,clflush,mmx,fxsr,sse,sse2,sse3,cx16,"
	  "x2apic,syscall,nx,lm,lahf-lm" },
	{ "kvm64", X86_INTEL, 0xf61, NULL,
	  "fpu,vme,de,pse,tsc,msr,pae,mce,cx8,apic,sep,mtrr,pge,mca,cmov,pat,pse36,clflush,mmx,fxsr,sse,sse2,sse3,cx16,"
	  "syscall,nx,lm" },
	{ "Opteron_G1", X86_AMD, 0xf61, NULL,
	  "fpu,vme,de,pse,tsc,msr,pae,mce,cx8,apic,sep,mtrr,pge,mca,cmov,pat,pse36,clflush,mmx,fxsr,sse,sse2,sse3,"
	  "syscall,nx,lm" },
	{ "x86-64-v2", X86_AMD, 0xa20f10, "qemu64", "ssse3,sse4.1,sse4.2,popcnt" },
	{ "x86-64-v3", X86_AMD, 0xa20f10, "x86-64-v2", "xsave,avx,avx2,bmi1,bmi2,f16c,fma,abm,movbe" },
	{ "Nehalem", X86_INTEL, 0x106a3, "x86-64-v2", "vme" },
	{ "Westmere", X86_INTEL, 0x206c1, "Nehalem", "aes,pclmulqdq" },
	{ "SandyBridge", X86_INTEL, 0x206a1, "Westmere", "xsave,xsaveopt,avx,tsc-deadline,rdtscp" },
	{ "IvyBridge", X86_INTEL, 0x306a9, "SandyBridge", "f16c,rdrand,fsgsbase,smep,erms,arat" },
	{ "Haswell-noTSX", X86_INTEL, 0x306c1, "IvyBridge", "fma,movbe,pcid,bmi1,avx2,bmi2,invpcid,abm" },
	{ "Haswell", X86_INTEL, 0x306c4, "Haswell-noTSX", "hle,rtm" },
	{ "Broadwell-noTSX", X86_INTEL, 0x306d2, "Haswell-noTSX", "rdseed,adx,smap" },
	{ "Broadwell", X86_INTEL, 0x306d2, "Broadwell-noTSX", "hle,rtm" },
	{ "Skylake-Server", X86_INTEL, 0x50654, "Broadwell",
	  "clflushopt,clwb,pdpe1gb,xsavec,xgetbv1,avx512f,avx512dq,avx512bw,avx512cd,avx512vl,pku" },
	{ "EPYC", X86_AMD, 0x800f12, "x86-64-v3",
	  "vme,aes,pclmulqdq,rdrand,fsgsbase,smep,rdseed,adx,smap,clflushopt,sha-ni,xsaveopt,xsavec,xgetbv1,pdpe1gb,"
	  "rdtscp,"
	  "arat,sse4a,misalignsse" },
};

/* What models and users may name although no engine has it. */
static const char *const unknown_here[] = { "hle",	"rtm",	    "avx512f", "avx512dq",    "avx512bw",
					    "avx512cd", "avx512vl", "sse4a",   "misalignsse", "monitor",
					    "la57",	"svm",	    "vmx",     "3dnow" };

const char *const x86_vendors[X86_VENDORS] = { "AuthenticAMD", "GenuineIntel" };

/*
 * A feature without the one that it builds on is off: SDM vol. 1, chapters 5 and 13, and what works by its registers.
 * INVPCID is not among them: two of its four types are about all of the TLB. In an order in which one pass is enough:
 * what is in the second column is not in the first one further down.
 */
static const struct {
	enum x86_feature feature, needs;
} builds_on[] = {
	{ X86_F_FXSR, X86_F_FPU },
	{ X86_F_MMX, X86_F_FPU },
	{ X86_F_SSE, X86_F_FXSR },
	{ X86_F_SSE2, X86_F_SSE },
	{ X86_F_SSE3, X86_F_SSE2 },
	{ X86_F_SSSE3, X86_F_SSE3 },
	{ X86_F_SSE41, X86_F_SSSE3 },
	{ X86_F_SSE42, X86_F_SSE41 },
	{ X86_F_AES, X86_F_SSE2 },
	{ X86_F_PCLMUL, X86_F_SSE2 },
	{ X86_F_SHA, X86_F_SSE2 },
	{ X86_F_XSAVE, X86_F_SSE },
	{ X86_F_XSAVEOPT, X86_F_XSAVE },
	{ X86_F_XSAVEC, X86_F_XSAVE },
	{ X86_F_XGETBV1, X86_F_XSAVE },
	{ X86_F_XSAVES, X86_F_XSAVEC },
	{ X86_F_AVX, X86_F_XSAVE },
	{ X86_F_AVX, X86_F_SSE2 },
	{ X86_F_AVX2, X86_F_AVX },
	{ X86_F_FMA, X86_F_AVX },
	{ X86_F_F16C, X86_F_AVX },
	/* By MSRs. */
	{ X86_F_SEP, X86_F_MSR },
	{ X86_F_MTRR, X86_F_MSR },
	{ X86_F_PAT, X86_F_MSR },
	{ X86_F_MCA, X86_F_MSR },
	{ X86_F_SYSCALL, X86_F_MSR },
	{ X86_F_NX, X86_F_MSR },
	{ X86_F_NX, X86_F_PAE },
	{ X86_F_AUTO_IBRS, X86_F_MSR },
	{ X86_F_KVM_POLL, X86_F_MSR },
	{ X86_F_KVM_STEAL, X86_F_MSR },
	{ X86_F_HV_VPINDEX, X86_F_MSR },
	/* Of long mode alone. */
	{ X86_F_LM, X86_F_MSR },
	{ X86_F_LM, X86_F_PAE },
	{ X86_F_LAHF_LM, X86_F_LM },
	{ X86_F_CX16, X86_F_LM },
	{ X86_F_CX16, X86_F_CX8 },
	{ X86_F_PDPE1GB, X86_F_LM },
	{ X86_F_FSGSBASE, X86_F_LM },
	{ X86_F_PCID, X86_F_LM },
	{ X86_F_PKU, X86_F_LM },
	{ X86_F_PKU, X86_F_XSAVE },
	/* Time. */
	{ X86_F_TSC_ADJUST, X86_F_TSC },
	{ X86_F_TSC_ADJUST, X86_F_MSR },
	{ X86_F_INVTSC, X86_F_TSC },
	{ X86_F_RDTSCP, X86_F_TSC },
	{ X86_F_RDTSCP, X86_F_MSR },
	{ X86_F_RDPID, X86_F_RDTSCP }, /* whose MSR it reads */
	{ X86_F_KVMCLOCK, X86_F_TSC },
	{ X86_F_KVMCLOCK, X86_F_MSR },
	{ X86_F_KVMCLOCK_STABLE, X86_F_KVMCLOCK },
	{ X86_F_HV_TIME, X86_F_TSC },
	{ X86_F_HV_TIME, X86_F_MSR },
	/* The local APIC. */
	{ X86_F_X2APIC, X86_F_APIC },
	{ X86_F_X2APIC, X86_F_MSR },
	{ X86_F_ARAT, X86_F_APIC },
	{ X86_F_TSC_DEADLINE, X86_F_APIC },
	{ X86_F_TSC_DEADLINE, X86_F_TSC },
	{ X86_F_TSC_DEADLINE, X86_F_MSR },
	{ X86_F_KVM_PV_EOI, X86_F_APIC },
	{ X86_F_KVM_PV_EOI, X86_F_MSR },
	{ X86_F_KVM_PV_UNHALT, X86_F_APIC },
	{ X86_F_KVM_SEND_IPI, X86_F_APIC },
	{ X86_F_HV_VAPIC, X86_F_APIC },
	{ X86_F_HV_VAPIC, X86_F_MSR },
};

/* Features that are the host's own instructions; `avx`: its operating system must know of them. */
static const struct {
	enum x86_feature feature;
	bool avx;
} of_host[] = {
	{ X86_F_SSE3, false }, { X86_F_SSSE3, false },	{ X86_F_SSE41, false }, { X86_F_SSE42, false },
	{ X86_F_AES, false },  { X86_F_PCLMUL, false }, { X86_F_SHA, false },	{ X86_F_AVX, true },
	{ X86_F_AVX2, true },  { X86_F_FMA, true },	{ X86_F_F16C, true },
};
/* Those of a host whose floating point is the guest's. */
static const enum x86_feature of_floating_point[] = { X86_F_FPU, X86_F_MMX, X86_F_SSE, X86_F_SSE2, X86_F_XSAVE };

/* These are the machine's, whatever processor it runs on. */
static const enum x86_feature of_machine[] = { X86_F_X2APIC, X86_F_TSC_DEADLINE, X86_F_TSC_ADJUST, X86_F_ARAT,
					       X86_F_INVTSC };

static bool is_word(const char *word, size_t len, const char *name)
{
	return strlen(name) == len && !strncmp(name, word, len);
}

static int find(const char *name, size_t len)
{
	for (size_t n = 0; n < X86_FEATURE_COUNT; n++)
		if (is_word(name, len, features[n].name))
			return (int)n;
	return -1;
}

#define KVM_FEATURES 0x40000001u

/* A model as it is being put together. */
struct draft {
	struct x86_features *f;
	const struct x86_feature_limit *limit; /* NULL: the interpreter's */
	bool asked[X86_FEATURE_COUNT];	       /* by +FEATURE */
	bool unknown[ARRAY_LEN(unknown_here)]; /* of a model, or by +FEATURE: */
	bool asked_unknown[ARRAY_LEN(unknown_here)];
	bool of_model;	 /* something that is missing is the model's own */
	bool everything; /* as far as it is possible */
	bool host;	 /* and as far as the host's processor has it */
	bool saved;	 /* x86_features_for_saved() */
	bool check;	 /* go without what was not asked for by +FEATURE, and say so */
	const char *model;
	int model_len;
};

static int find_unknown(const char *name, size_t len)
{
	for (size_t n = 0; n < ARRAY_LEN(unknown_here); n++)
		if (is_word(name, len, unknown_here[n]))
			return (int)n;
	return -1;
}

static const struct model *find_model(const char *name, size_t len)
{
	for (size_t n = 0; n < ARRAY_LEN(models); n++)
		if (is_word(name, len, models[n].name))
			return &models[n];
	return NULL;
}

static void add_features(struct draft *d, const struct model *m)
{
	if (m->base)
		add_features(d, find_model(m->base, strlen(m->base)));
	for (const char *at = m->features; *at;) {
		size_t word = strcspn(at, ",");
		int n = find(at, word);

		if (n >= 0)
			d->f->on[n] = true;
		else
			d->unknown[find_unknown(at, word)] = true;
		at += word + (at[word] == ',');
	}
}

static int refuse_model(const char *text, size_t len, struct err *err)
{
	char all[512] = "", name[64];
	struct suggestion s;

	snprintf(name, sizeof(name), "%.*s", (int)len, text);
	suggest_begin(&s, name);
	for (size_t n = 0; n < ARRAY_LEN(models); n++)
		suggest_offer(&s, models[n].name);
	if (s.best)
		return err_set(err, "cpu.model: '%s' is no CPU model (did you mean '%s'?)", name, s.best);
	for (size_t n = 0; n < ARRAY_LEN(models); n++) {
		size_t at = strlen(all);

		snprintf(all + at, sizeof(all) - at, "%s%s", n ? ", " : "", models[n].name);
	}
	return err_set(err, "cpu.model: '%.*s' is not one of %s", (int)len, text, all);
}

#if defined(__x86_64__)
static unsigned host_phys_bits(void)
{
	uint32_t a, b, c, d;

	return __get_cpuid(0x80000008, &a, &b, &c, &d) && (a & 0xff) >= PHYS_BITS_MIN && (a & 0xff) <= PHYS_BITS_MAX
		       ? a & 0xff
		       : PHYS_BITS;
}

/* Vendor, family, model, stepping, name and address width. */
static int take_host(struct x86_features *f, struct err *err)
{
	uint32_t a = 0, b, c, d, name[12];
	char vendor[13] = "";

	__cpuid(0, a, b, c, d);
	memcpy(vendor, (const uint32_t[]){ b, d, c }, 12);
	for (f->vendor = 0; f->vendor < X86_VENDORS && strcmp(vendor, x86_vendors[f->vendor]) != 0;)
		f->vendor++;
	if (f->vendor == X86_VENDORS)
		return err_set(err, "cpu.model: host: processors of '%s' are not known; name another model", vendor);
	__cpuid(1, f->signature, b, c, d);
	for (unsigned n = 0; n < 3; n++)
		if (__get_cpuid(0x80000002 + n, &name[4 * n], &name[4 * n + 1], &name[4 * n + 2], &name[4 * n + 3]))
			memcpy(f->brand + 16 * n, &name[4 * n], 16);
	f->phys_bits = host_phys_bits() < f->phys_max ? host_phys_bits() : f->phys_max;
	return 0;
}
#else
static unsigned host_phys_bits(void)
{
	return PHYS_BITS;
}

static int take_host(struct x86_features *f, struct err *err)
{
	return err_set(err, "cpu.model: host: this host's processor is not an x86-64 one; name another model");
}
#endif

/* A guest that finds it takes the machine for another. */
static bool of_hyperv(size_t n)
{
	return features[n].leaf > KVM_FEATURES && features[n].leaf <= X86_CPUID_HYPERV;
}

/* For those who ask for it by name: no model has it. */
static bool by_name_alone(size_t n)
{
	return of_hyperv(n) || n == X86_F_KVM_STEAL;
}

static int set_model(struct draft *d, const char *text, size_t len, struct err *err)
{
	const struct model *m = find_model(text, len);

	if (!m)
		return refuse_model(text, len, err);
	d->model = text;
	d->model_len = (int)len;
	d->everything = !m->features;
	d->host = m->host;
	d->f->signature = m->signature;
	d->f->vendor = m->vendor;
	if (m->host && take_host(d->f, err))
		return -1;
	for (size_t n = 0; n < X86_FEATURE_COUNT; n++)
		d->f->on[n] = (d->everything || features[n].leaf == KVM_FEATURES) && !by_name_alone(n);
	if (!d->everything)
		add_features(d, m);
	return 0;
}

static int unknown_feature(const char *word, size_t len, struct err *err)
{
	struct suggestion s;
	char name[64];

	snprintf(name, sizeof(name), "%.*s", (int)len, word);
	suggest_begin(&s, name);
	for (size_t n = 0; n < X86_FEATURE_COUNT; n++)
		suggest_offer(&s, features[n].name);
	if (s.best)
		return err_set(err, "cpu.model: unknown feature '%s' (did you mean '%s'?)", name, s.best);
	return err_set(err, "cpu.model: unknown feature '%s' ('vireo run --cpu help' lists them)", name);
}

/* +FEATURE or -FEATURE. */
static int set_feature(struct draft *d, const char *word, size_t len, struct err *err)
{
	int n = find(word + 1, len - 1), unknown = find_unknown(word + 1, len - 1);

	if (n >= 0)
		d->f->on[n] = d->asked[n] = *word == '+';
	else if (unknown >= 0)
		d->unknown[unknown] = d->asked_unknown[unknown] = *word == '+';
	else
		return unknown_feature(word + 1, len - 1, err);
	return 0;
}

static bool of_the_machine(size_t n)
{
	for (size_t k = 0; k < ARRAY_LEN(of_machine); k++)
		if (of_machine[k] == n)
			return true;
	return features[n].leaf == KVM_FEATURES;
}

static bool possible(const struct draft *d, size_t n)
{
	const struct x86_feature_limit *l = d->limit;

	if (n == X86_F_PKU && !d->f->pkru_at)
		return false;
	/* The interpreter has features that the host's processor may lack. KVM has no others. */
	if (d->host && !l && !x86_host_has(n) && !of_the_machine(n) && !of_hyperv(n))
		return false;
	return l ? l->has(l->opaque, features[n].leaf, features[n].subleaf, features[n].reg, features[n].bit)
		 : x86_feature_possible(n);
}

/* Names, and the text that takes them out of a model: room for all that there are. */
struct missing {
	char names[X86_FEATURE_NAMES], without[X86_FEATURE_NAMES];
};
_Static_assert(sizeof(struct missing) + 256 <= sizeof(struct err), "all that is missing is named");

static void add_missing(struct missing *x, const char *name)
{
	size_t at = strlen(x->names), out = strlen(x->without);

	snprintf(x->names + at, sizeof(x->names) - at, "%s%s", at ? ", " : "", name);
	snprintf(x->without + out, sizeof(x->without) - out, "%s-%s", out ? "," : "", name);
}

static int refuse_missing(const struct draft *d, const struct missing *vireo, const struct missing *host,
			  struct err *err)
{
	const char *engine = !d->limit ? "a software engine" : d->limit->engine ? d->limit->engine : "this engine";
	bool both = *vireo->names && *host->names;

	return err_set(err, "cpu.model: %.*s%s%s%s%s%s%s%s%s; %s%s%s does without", d->of_model ? d->model_len : 0,
		       d->model, d->of_model ? " needs " : "not available: ", vireo->names,
		       *vireo->names ? ", which no engine of vireo has" : "", both ? ", and " : "", host->names,
		       *host->names ? ", which " : "", *host->names ? engine : "",
		       *host->names ? " does not give here" : "", vireo->without, both ? "," : "", host->without);
}

/* Without what it builds on a feature goes, and nobody is told unless it was asked for. */
static int check_foundations(struct draft *d, struct err *err)
{
	bool *on = d->f->on;
	char lost[sizeof(err->msg)] = "";

	for (size_t n = 0; n < ARRAY_LEN(builds_on); n++) {
		enum x86_feature f = builds_on[n].feature, base = builds_on[n].needs;
		size_t at = strlen(lost);

		if (!on[f] || on[base])
			continue;
		on[f] = false;
		if (d->asked[f] && !d->saved)
			snprintf(lost + at, sizeof(lost) - at, "%s%s needs %s", at ? ", " : "", features[f].name,
				 features[base].name);
	}
	return *lost ? err_set(err, "cpu.model: %s, which %.*s has not here", lost, d->model_len, d->model) : 0;
}

/* What a model has is left out if that is all right; what was asked for is not. */
static void miss(struct draft *d, bool asked, const char *name, struct missing *refused, struct missing *left)
{
	bool leave = d->check && !asked;

	d->of_model |= !asked && !leave;
	add_missing(leave ? left : refused, name);
}

/* What cannot be given is refused by its name, except that `max` goes without; and KVM's leaf is no part of a model. */
static int complete(struct draft *d, struct err *err)
{
	struct missing vireo = { "" }, host = { "" }, left = { "" };
	bool *on = d->f->on;

	for (size_t n = 0; n < ARRAY_LEN(unknown_here); n++)
		if (d->unknown[n])
			miss(d, d->asked_unknown[n], unknown_here[n], &vireo, &left);
	for (size_t n = 0; n < X86_FEATURE_COUNT; n++) {
		if (!on[n] || possible(d, n))
			continue;
		if (d->asked[n] || !(d->everything || features[n].leaf == KVM_FEATURES))
			miss(d, d->asked[n], features[n].name, &host, &left);
		on[n] = false;
	}
	if (*left.names && !d->saved)
		log_line(LOG_WARN, "cpu", "%.*s is without %s here", d->model_len, d->model, left.names);
	if ((*vireo.names || *host.names) && !d->saved)
		return refuse_missing(d, &vireo, &host, err);
	return check_foundations(d, err);
}

static int set_vendor(struct draft *d, const char *text, size_t len, struct err *err)
{
	for (unsigned n = 0; n < X86_VENDORS; n++) {
		if (is_word(text, len, x86_vendors[n])) {
			d->f->vendor = n;
			return 0;
		}
	}
	return err_set(err, "cpu.model: vendor '%.*s' is not one of AuthenticAMD, GenuineIntel", (int)len, text);
}

static int set_phys_bits(struct draft *d, const char *text, size_t len, struct err *err)
{
	struct x86_features *f = d->f;
	char *end;
	unsigned long bits = strtoul(text, &end, 10);

	if (!isdigit((unsigned char)*text) || end != text + len || bits < PHYS_BITS_MIN || bits > PHYS_BITS_MAX)
		return err_set(err, "cpu.model: phys-bits '%.*s' is not a number from %d to %d", (int)len, text,
			       PHYS_BITS_MIN, PHYS_BITS_MAX);
	if (bits > f->phys_max && !d->saved)
		return err_set(err, "cpu.model: phys-bits '%lu' is more than the %u that this engine has here", bits,
			       f->phys_max);
	f->phys_bits = bits < f->phys_max ? (unsigned)bits : f->phys_max;
	return 0;
}

static int set_word(struct draft *d, const char *word, size_t len, struct err *err)
{
	static const struct {
		const char *key;
		int (*set)(struct draft *d, const char *text, size_t len, struct err *err);
	} keys[] = { { "vendor=", set_vendor }, { "phys-bits=", set_phys_bits } };

	for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
		size_t prefix = strlen(keys[k].key);

		if (len > prefix && !strncmp(word, keys[k].key, prefix))
			return keys[k].set(d, word + prefix, len - prefix, err);
	}
	if (is_word(word, len, "check")) {
		d->check = true;
		return 0;
	}
	if (len < 2 || (*word != '+' && *word != '-'))
		return err_set(err, "cpu.model: '%.*s' is not +FEATURE, -FEATURE, vendor=NAME, phys-bits=N or check",
			       (int)len, word);
	return set_feature(d, word, len, err);
}

static int parse(struct draft *d, const char *text, struct err *err)
{
	size_t len = strcspn(text, ",");

	if (set_model(d, text, len, err))
		return -1;
	while (text[len]) {
		text += len + 1;
		len = strcspn(text, ",");
		if (set_word(d, text, len, err))
			return -1;
	}
	return complete(d, err);
}

void x86_features_derive(struct x86_features *f)
{
	f->cr4 = f->efer = 0;
	for (size_t n = 0; n < X86_FEATURE_COUNT; n++) {
		f->cr4 |= f->on[n] ? features[n].cr4 : 0;
		f->efer |= f->on[n] ? features[n].efer : 0;
	}
	f->xcr0 = x86_xsave_components(f);
}

#if defined(__x86_64__)
/* Leaf 1 bits 27 and 28, and XCR0: the operating system keeps the upper halves. */
static bool host_keeps_avx(void)
{
	uint32_t a, b, c, d, lo, hi;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1) || !(c >> 28 & 1))
		return false;
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (lo & X86_XCR0_AVX) == X86_XCR0_AVX;
}

static bool host_has[X86_FEATURE_COUNT];

static void ask_host(void)
{
	bool keeps_avx = host_keeps_avx();
	uint32_t out[4];

	for (size_t n = 0; n < X86_FEATURE_COUNT; n++) {
		const struct feature *p = &features[n];

		host_has[n] = __get_cpuid_count(p->leaf, p->subleaf, &out[EAX], &out[EBX], &out[ECX], &out[EDX]) &&
			      (out[p->reg] >> p->bit & 1);
	}
	for (size_t n = 0; n < ARRAY_LEN(of_host); n++)
		if (of_host[n].avx && !keeps_avx)
			host_has[of_host[n].feature] = false;
}

/* Once: where the host is a virtual machine itself, CPUID takes microseconds, and the decoder asks for every row. */
bool x86_host_has(enum x86_feature f)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, ask_host);
	return host_has[f];
}
#else
bool x86_host_has(enum x86_feature f)
{
	return false;
}
#endif

unsigned x86_phys_bits(void)
{
	return host_phys_bits() < PHYS_BITS ? host_phys_bits() : PHYS_BITS;
}

/* As the host has it, so that another engine here can take over; or as most processors do. */
static unsigned host_pkru_at(void)
{
#if defined(__x86_64__)
	uint32_t a, b, c, d;

	if (x86_host_has(X86_F_PKU) && __get_cpuid_count(0xd, X86_XSAVE_PKRU, &a, &b, &c, &d) && x86_xsave_pkru_fits(b))
		return b;
#endif
	return X86_XSAVE_PKRU_AT;
}

bool x86_feature_possible(enum x86_feature f)
{
	/* Nobody here knows how long a vCPU's thread has waited for a processor. */
	if (f == X86_F_KVM_STEAL)
		return false;
	for (size_t n = 0; n < ARRAY_LEN(of_host); n++)
		if (of_host[n].feature == f)
			return x86_host_has(f);
	for (size_t n = 0; n < ARRAY_LEN(of_floating_point); n++)
		if (of_floating_point[n] == f)
			return x86_fp_host_ok();
	return true;
}

static const struct x86_features *make(struct config *c, const struct x86_feature_limit *limit, bool saved,
				       struct err *err)
{
	struct x86_features *f = calloc(1, sizeof(*f));
	struct draft d = { .f = f, .limit = limit, .saved = saved };
	const char *model = "max";

	if (!f) {
		err_set(err, "out of memory");
		return NULL;
	}
	f->phys_min = PHYS_BITS_MIN;
	f->phys_max = limit && limit->phys_bits ? limit->phys_bits : PHYS_BITS_MAX;
	f->phys_bits = x86_phys_bits() < f->phys_max ? x86_phys_bits() : f->phys_max;
	strcpy(f->brand, "Vireo Virtual CPU");
	f->any_pkru_at = !limit;
	f->pkru_at = limit ? limit->pkru_at : host_pkru_at();
	if ((c && config_str(c, "cpu.model", "max", &model, err)) || parse(&d, model, err)) {
		free(f);
		return NULL;
	}
	x86_features_derive(f);
	return f;
}

const struct x86_features *x86_features_new(struct config *c, const struct x86_feature_limit *limit, struct err *err)
{
	return make(c, limit, false, err);
}

const struct x86_features *x86_features_for_saved(struct config *c, const struct x86_feature_limit *limit,
						  struct err *err)
{
	return make(c, limit, true, err);
}

void x86_features_free(const struct x86_features *f)
{
	free((void *)f);
}

int x86_features_reach(struct x86_features *f, struct mem_space *mem, struct err *err)
{
	uint64_t end = 0;
	struct mem_window w;
	const char *name;

	for (unsigned n = 0; mem_slot_window(mem, n, &w, &name); n++)
		end = w.base.v + w.size > end ? w.base.v + w.size : end;
	while (f->phys_min < PHYS_BITS_MAX && end > 1ull << f->phys_min)
		f->phys_min++;
	if (f->phys_min > f->phys_max)
		return err_set(err, "memory: %llu MiB need %u bits of physical addresses, and this engine has %u here",
			       (unsigned long long)(mem_ram_size(mem) >> 20), f->phys_min, f->phys_max);
	return f->phys_bits >= f->phys_min
		       ? 0
		       : err_set(err, "cpu.model: phys-bits '%u' does not reach the end of the memory; %u to %u do",
				 f->phys_bits, f->phys_min, f->phys_max);
}

/* --- for readers --- */

const char *x86_model_name(unsigned n)
{
	return n < ARRAY_LEN(models) ? models[n].name : NULL;
}

const char *x86_feature_name(unsigned n)
{
	return n < X86_FEATURE_COUNT ? features[n].name : NULL;
}

#define COLUMNS 80
#define INDENT	18

/* A word where the line has room for it, or on the next one. */
static void print_word(FILE *out, int *column, const char *word, int len, const char *between)
{
	int gap = *column > INDENT ? (int)strlen(between) : 0;

	if (*column + gap + len >= COLUMNS) {
		fprintf(out, "%s\n%*s", *between == ',' ? "," : "", INDENT, "");
		*column = INDENT;
		gap = 0;
	}
	fprintf(out, "%s%.*s", gap ? between : "", len, word);
	*column += gap + len;
}

static void print_model(FILE *out, const struct model *m)
{
	int column = INDENT;

	fprintf(out, "  %-*s", INDENT - 2, m->name);
	if (!m->features) {
		fputs(m->host ? "the host's processor, without what vireo does not have\n"
			      : "all that vireo and this host have; the default\n",
		      out);
		return;
	}
	if (m->base)
		print_word(out, &column, m->base, (int)strlen(m->base), "");
	for (const char *at = m->features; *at;) {
		size_t word = strcspn(at, ",");

		print_word(out, &column, at, (int)word, m->base && at == m->features ? " and " : ", ");
		at += word + (at[word] == ',');
	}
	fputc('\n', out);
}

void x86_models_print(FILE *out)
{
	int column = INDENT;

	fputs("CPU models, by others and what they add:\n", out);
	for (size_t n = 0; n < ARRAY_LEN(models); n++)
		print_model(out, &models[n]);
	fputs("\nA name that vireo does not have is taken out by -NAME, as in Haswell,-hle,-rtm.\n\nFeatures:\n", out);
	fprintf(out, "%*s", INDENT, "");
	for (size_t n = 0; n < X86_FEATURE_COUNT; n++)
		print_word(out, &column, features[n].name, (int)strlen(features[n].name), " ");
	fputs("\n\nMODEL[,+FEATURE][,-FEATURE][,phys-bits=N][,check]\n"
	      "     [,vendor=AuthenticAMD|GenuineIntel]\n"
	      "What the engine or the host cannot give is refused by name; with `check`, what\n"
	      "a model has is told of and left out.\n",
	      out);
}
