/* CPU models: what a text asks for, what is refused and how, and what a saved one brings along. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/bytes.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/model.h"

/* NULL, or what is said against it. */
static const char *model_error(const char *model)
{
	static struct err err;
	struct config *c = config_new();
	const struct x86_features *f;

	assert_int_equal(config_set(c, "cpu.model", model, &err), 0);
	f = x86_features_new(c, NULL, &err);
	if (!f)
		assert_non_null(strstr(err.msg, "cpu.model"));
	x86_features_free(f);
	config_free(c);
	return f ? NULL : err.msg;
}

static bool model_ok(const char *model)
{
	return !model_error(model);
}

static void models_are_parsed_whole(void **state)
{
	assert_true(model_ok("max"));
	assert_true(model_ok("max,+x2apic,-pcid,vendor=GenuineIntel,phys-bits=36"));
	assert_false(model_ok("pentium"));
	assert_false(model_ok("max,"));
	assert_false(model_ok("max,avx512f"));
	assert_false(model_ok("max,+avx512f"));
	assert_false(model_ok("max,+"));
	assert_false(model_ok("max,vendor=Me"));
	assert_false(model_ok("max,phys-bits=31"));
	assert_false(model_ok("max,phys-bits=53"));
	assert_false(model_ok("max,phys-bits=40x"));
	assert_false(model_ok("max,phys-bits=+40"));
	assert_false(model_ok("max,phys-bits= 40"));
}

static void what_cannot_be_given_is_refused_by_name(void **state)
{
	static const struct {
		const char *model, *named;
	} cases[] = {
		{ "Haswell", "hle" },
		{ "Haswell,-hle", "rtm" },
		{ "Skylake-Server,-hle,-rtm", "avx512f" },
		{ "max,+kvm-steal-time",
		  "not available: kvm-steal-time, which a software engine does not give here; -kvm" },
		{ "max,+svm,+kvm-steal-time",
		  "cpu.model: not available: svm, which no engine of vireo has, and kvm-steal-time, which" },
		{ "max,+svm", "cpu.model: not available: svm, which no engine of vireo has; -svm does without" },
		{ "Haswell,+svm", "cpu.model: Haswell needs hle, rtm, svm, which no engine of vireo has; -hle" },
		{ "EPYC,check,+sse4a", "cpu.model: not available: sse4a, which no engine of vireo has; -sse4a does" },
		{ "Haswell,-hle,-rtm,+svm", "cpu.model: not available: svm, which" },
		{ "EPYC", "sse4a" },
		{ "max,+avx512f", "avx512f" },
		{ "max,+avx2,-avx", "avx2 needs avx" },
	};

	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		const char *said = model_error(cases[n].model);

		assert_non_null(said);
		if (x86_feature_possible(X86_F_AVX2))
			assert_non_null(strstr(said, cases[n].named));
	}
	/* Features that are the host's own instructions. */
	assert_int_equal(model_ok("qemu64"), x86_feature_possible(X86_F_SSE3));
	assert_int_equal(model_ok("x86-64-v2"), x86_feature_possible(X86_F_SSE42));
	assert_int_equal(model_ok("x86-64-v3"), x86_feature_possible(X86_F_AVX2) && x86_feature_possible(X86_F_FMA) &&
							x86_feature_possible(X86_F_F16C));
	assert_int_equal(model_ok("max,+avx2"), x86_feature_possible(X86_F_AVX2));
	assert_int_equal(model_ok("Haswell,-hle,-rtm"), model_ok("Haswell-noTSX"));
	assert_int_equal(model_ok("EPYC,-sse4a,-misalignsse"),
			 model_ok("x86-64-v3") && x86_feature_possible(X86_F_SHA));
	assert_true(model_ok("max,-avx"));
}

static void all_that_is_missing_is_named(void **state)
{
	const char *said = model_error("Skylake-Server,-avx512cd");

	assert_non_null(strstr(said, "Skylake-Server needs hle, rtm, avx512f, avx512dq, avx512bw, avx512vl, which no "
				     "engine of vireo has"));
	assert_non_null(strstr(said, "-hle,-rtm,-avx512f,-avx512dq,-avx512bw,-avx512vl"));
	assert_non_null(strstr(said, "does without"));
}

static bool has_none(void *opaque, uint32_t leaf, uint32_t subleaf, enum x86_cpuid_reg reg, unsigned bit)
{
	return false;
}

/* However many they are. */
static void nothing_is_cut(void **state)
{
	static const char *const of_nobody[] = { "hle",	     "rtm",	 "avx512f", "avx512dq", "avx512bw",
						 "avx512cd", "avx512vl", "sse4a",   "monitor",	"misalignsse",
						 "la57",     "svm",	 "vmx",	    "3dnow" };
	const struct x86_feature_limit limit = { has_none, NULL, 0 };
	struct config *c = config_new();
	char text[2048] = "max", word[64];
	struct x86_features *f;
	struct x86_model m;
	struct err err;

	for (unsigned n = 0; n < ARRAY_LEN(of_nobody); n++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), ",+%s", of_nobody[n]);
	for (unsigned n = 0; n < X86_FEATURE_COUNT; n++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), ",+%s", x86_feature_name(n));
	assert_int_equal(config_set(c, "cpu.model", text, &err), 0);
	assert_null(x86_features_new(c, &limit, &err));
	for (unsigned n = 0; n < ARRAY_LEN(of_nobody) + X86_FEATURE_COUNT; n++) {
		const char *name = n < X86_FEATURE_COUNT ? x86_feature_name(n) : of_nobody[n - X86_FEATURE_COUNT];

		snprintf(word, sizeof(word), " %s,", name);
		assert_non_null(strstr(err.msg, word));
		snprintf(word, sizeof(word), "-%s", name);
		assert_non_null(strstr(err.msg, word));
	}
	assert_non_null(strstr(err.msg, " does without"));
	config_free(c);

	/* And of a saved one, with as many that have no name. */
	m = (struct x86_model){ .features = calloc(1, sizeof(*f)) };
	f = m.features;
	memset(f->on, true, sizeof(f->on));
	x86_model_state.pre_save(&m);
	memset(f->on, false, sizeof(f->on));
	for (unsigned n = 0; n < X86_MODEL_WORDS; n++)
		if (!m.words[n].bits)
			m.words[n] = (struct x86_model_word){ 0xfffffff0 + n % 16, 0xfffffff0, 0xfffffff1, n & 3 };
	assert_int_equal(x86_model_state.post_load(&m, &err), -1);
	for (unsigned n = 0; n < X86_FEATURE_COUNT; n++) {
		snprintf(word, sizeof(word), " %s,", x86_feature_name(n));
		assert_non_null(strstr(err.msg, word));
	}
	assert_non_null(strstr(err.msg, ", which this engine does not give here"));
	free(f);
}

/* An engine that has only what is asked for here. */
static bool has_some(void *opaque, uint32_t leaf, uint32_t subleaf, enum x86_cpuid_reg reg, unsigned bit)
{
	return leaf != 7 && leaf != 0xd;
}

static void what_an_engine_lacks_is_named_beside(void **state)
{
	const struct x86_feature_limit limit = { has_some, NULL, 0 };
	struct config *c = config_new();
	struct err err;

	assert_int_equal(config_set(c, "cpu.model", "Broadwell,-invpcid", &err), 0);
	assert_null(x86_features_new(c, &limit, &err));
	assert_non_null(strstr(err.msg,
			       "needs hle, rtm, which no engine of vireo has, and fsgsbase, bmi1, avx2, smep, "
			       "bmi2, erms, rdseed, adx, smap, xsaveopt, which this engine does not give here; "
			       "-hle,-rtm,-fsgsbase,"));
	config_free(c);
}

/* One that is restored gets as far as the state that says what it had: nobody can choose another model then. */
static void what_a_saved_model_lacks_is_left_out(void **state)
{
	const struct x86_feature_limit limit = { has_some, NULL, 0 };
	struct config *c = config_new();
	const struct x86_features *f;
	struct err err;

	assert_int_equal(config_set(c, "cpu.model", "IvyBridge,+avx2", &err), 0);
	assert_null(x86_features_new(c, &limit, &err));
	f = x86_features_for_saved(c, &limit, &err);
	assert_non_null(f);
	assert_true(f->on[X86_F_RDTSCP] && !f->on[X86_F_SMEP] && !f->on[X86_F_AVX2] && !f->on[X86_F_PCID]);
	x86_features_free(f);
	config_free(c);
}

static void host_is_the_hosts_processor(void **state)
{
#if defined(__x86_64__)
	static const enum x86_feature of_host[] = { X86_F_MOVBE, X86_F_BMI1, X86_F_BMI2, X86_F_ADX, X86_F_RDSEED,
						    X86_F_SMAP,	 X86_F_PKU,  X86_F_SHA,	 X86_F_AVX2 };
	const struct x86_features *f;
	struct x86_cpuid_query q = { .cpus = 1 };
	uint32_t own[4], out[4];
	struct config *c = config_new();
	struct err err;

	__cpuid(0, own[X86_CPUID_EAX], own[X86_CPUID_EBX], own[X86_CPUID_ECX], own[X86_CPUID_EDX]);
	if (own[X86_CPUID_EBX] != signature_AMD_ebx && own[X86_CPUID_EBX] != signature_INTEL_ebx) {
		assert_false(model_ok("host"));
		config_free(c);
		return;
	}
	assert_int_equal(config_set(c, "cpu.model", "host", &err), 0);
	f = x86_features_new(c, NULL, &err);
	assert_non_null(f);
	q.features = f;
	x86_cpuid_read(&q, out);
	for (unsigned n = X86_CPUID_EBX; n <= X86_CPUID_EDX; n++)
		assert_int_equal(out[n], own[n]);
	for (q.leaf = 0x80000002; q.leaf <= 0x80000004; q.leaf++) {
		__cpuid(q.leaf, own[X86_CPUID_EAX], own[X86_CPUID_EBX], own[X86_CPUID_ECX], own[X86_CPUID_EDX]);
		x86_cpuid_read(&q, out);
		assert_memory_equal(out, own, sizeof(out));
	}
	__cpuid(1, own[X86_CPUID_EAX], own[X86_CPUID_EBX], own[X86_CPUID_ECX], own[X86_CPUID_EDX]);
	q.leaf = 1;
	x86_cpuid_read(&q, out);
	assert_int_equal(out[X86_CPUID_EAX], own[X86_CPUID_EAX]);
	/* No bit that the host has not, but for what is the machine's: x2APIC and the deadline timer. */
	assert_int_equal(out[X86_CPUID_ECX] & ~own[X86_CPUID_ECX] & ~(1u << 21 | 1u << 24 | 1u << 31), 0);
	for (unsigned n = 0; n < ARRAY_LEN(of_host); n++)
		assert_int_equal(f->on[of_host[n]], x86_host_has(of_host[n]));
	assert_true(f->on[X86_F_X2APIC] && f->on[X86_F_KVMCLOCK]);
	x86_features_free(f);
	config_free(c);
#else
	assert_non_null(strstr(model_error("host"), "not an x86-64 one"));
#endif
}

/* --- saved models --- */

static struct x86_features *features(const char *model)
{
	struct err err;
	struct config *c = config_new();
	const struct x86_features *f;

	assert_int_equal(config_set(c, "cpu.model", model, &err), 0);
	f = x86_features_new(c, NULL, &err);
	assert_non_null(f);
	config_free(c);
	return (struct x86_features *)f;
}

/* What goes with a feature, whatever lies between them; and all else stays. */
static void what_builds_on_a_feature_goes_with_it(void **state)
{
#define F(id)	X86_F_##id
#define VECTORS F(SSE3), F(SSSE3), F(SSE41), F(SSE42), F(AES), F(PCLMUL), F(SHA), F(AVX), F(AVX2), F(FMA), F(F16C)
#define AREAS	F(XSAVE), F(XSAVEOPT), F(XSAVEC), F(XSAVES), F(XGETBV1), F(PKU)
#define LONG	F(LAHF_LM), F(CX16), F(PDPE1GB), F(FSGSBASE), F(PCID), F(PKU)
#define TIMES	F(TSC_ADJUST), F(TSC_DEADLINE), F(INVTSC), F(RDTSCP), F(RDPID), F(KVMCLOCK), F(KVMCLOCK_STABLE)
	static const struct {
		const char *model;
		enum x86_feature gone[32]; /* up to 0, which is the FPU */
	} cases[] = {
		{ "max,-sse2", { F(SSE2), VECTORS } },
		{ "max,-fxsr", { F(FXSR), F(SSE), F(SSE2), VECTORS, AREAS } },
		{ "max,-sse", { F(SSE), F(SSE2), VECTORS, AREAS } },
		{ "max,-xsave", { AREAS, F(AVX), F(AVX2), F(FMA), F(F16C) } },
		{ "max,-lm", { F(LM), LONG } },
		{ "max,-pae", { F(PAE), F(NX), F(LM), LONG } },
		{ "max,-tsc", { F(TSC), TIMES } },
		{ "max,-rdtscp", { F(RDTSCP), F(RDPID) } },
		{ "max,-apic",
		  { F(APIC), F(X2APIC), F(ARAT), F(TSC_DEADLINE), F(KVM_PV_EOI), F(KVM_PV_UNHALT), F(KVM_SEND_IPI) } },
		{ "max,-cx8", { F(CX8), F(CX16) } },
		{ "max,-msr",
		  { F(MSR), F(SEP), F(MTRR), F(PAT), F(MCA), F(SYSCALL), F(NX), F(LM), LONG, F(TSC_ADJUST),
		    F(TSC_DEADLINE), F(RDTSCP), F(RDPID), F(KVMCLOCK), F(KVMCLOCK_STABLE), F(X2APIC), F(KVM_PV_EOI),
		    F(KVM_POLL), F(AUTO_IBRS) } },
	};
	struct x86_features *max = features("max");

	for (size_t n = 0; n < ARRAY_LEN(cases); n++) {
		struct x86_features *f = features(cases[n].model);

		for (unsigned k = 0; cases[n].gone[k]; k++)
			max->on[cases[n].gone[k]] = false;
		for (unsigned k = 0; k < X86_FEATURE_COUNT; k++)
			if (f->on[k] != max->on[k])
				fail_msg("%s and feature %u", cases[n].model, k);
		x86_features_free(f);
		x86_features_free(max);
		max = features("max");
	}
	x86_features_free(max);
	assert_non_null(strstr(model_error("max,-tsc,+rdtscp,+invtsc"), "rdtscp needs tsc"));
	assert_non_null(strstr(model_error("max,-tsc,+rdtscp,+invtsc"), "invtsc needs tsc"));
	/* Out again, it is missed by nobody. */
	assert_true(model_ok("max,+rdtscp,-tsc,-rdtscp"));
	assert_int_equal(model_ok("qemu64,-pcid,+invpcid"), model_ok("qemu64"));
}

static void a_layout_is_kept_or_refused(void **state)
{
	static const struct {
		unsigned saved, own;
		bool any, ok;
	} cases[] = {
		{ 2688, 2688, false, true }, { 2432, 2688, false, false }, { 2432, 2688, true, true },
		{ 832, 2688, true, true },   { 824, 2688, true, false },   { 833, 2688, true, false },
		{ 4088, 2688, true, true },  { 4096, 2688, true, false },
	};

	for (unsigned with = 0; with < 2; with++) {
		if (with && !x86_feature_possible(X86_F_XSAVE))
			continue;
		for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
			struct x86_features *f = features(with ? "max,+pku" : "max,-pku");
			struct x86_model m = { .features = f };
			struct err err;

			f->pkru_at = cases[n].own;
			f->any_pkru_at = cases[n].any;
			x86_model_state.pre_save(&m);
			assert_int_equal(m.pkru_at, cases[n].own);
			m.pkru_at = cases[n].saved;
			if (with && !cases[n].ok) {
				assert_int_equal(x86_model_state.post_load(&m, &err), -1);
				assert_non_null(strstr(err.msg, "pku"));
				assert_int_equal(f->pkru_at, cases[n].own);
			} else {
				assert_int_equal(x86_model_state.post_load(&m, &err), 0);
				assert_int_equal(f->pkru_at, with ? cases[n].saved : cases[n].own);
			}
			x86_features_free(f);
		}
	}
}

static void all_that_a_saved_cpu_had_is_named(void **state)
{
	struct x86_features *had = features("max,+smap,+erms,+umip"), *have = features("max,-smap,-erms,-umip");
	struct x86_model m = { .features = had };
	struct err err;

	strcpy(had->brand, "Another CPU");
	x86_model_state.pre_save(&m);
	m.features = have;
	assert_int_equal(x86_model_state.post_load(&m, &err), -1);
	assert_string_equal(err.msg,
			    "cpu.model: the saved CPU has erms, smap, umip, which this engine does not give here");
	assert_string_equal(have->brand, "Vireo Virtual CPU");
	/* Also those that nobody here knows. */
	m.words[0] = (struct x86_model_word){ 0x1234, 1, 1u << 5, X86_CPUID_ECX };
	assert_int_equal(x86_model_state.post_load(&m, &err), -1);
	assert_non_null(strstr(err.msg, "CPUID 1234:1 ECX 0x20, "));
	/* One that can be given keeps its name. */
	x86_features_free(have);
	have = features("max");
	m.features = had;
	x86_model_state.pre_save(&m);
	m.features = have;
	assert_int_equal(x86_model_state.post_load(&m, &err), 0);
	assert_string_equal(have->brand, "Another CPU");
	x86_features_free(had);
	x86_features_free(have);
}

/* Every engine has the memory of its own here: a slot at 0, and one from 4 GiB on. */
static struct mem_space *memory(uint64_t high)
{
	struct mem_space *mem = mem_space_new();
	struct err err;

	for (unsigned n = 0; n < 2; n++) {
		const struct mem_slot_config slot = {
			.name = n ? "high" : "low", .base = gpa((uint64_t)n << 32), .size = n ? high : 1 << 20, .fd = -1
		};

		assert_int_equal(mem_add_slot(mem, &slot, &err), 0);
	}
	return mem;
}

static void physical_addresses_reach_the_end_of_the_memory(void **state)
{
	static const struct {
		unsigned bits, max;
		uint64_t high;
		const char *says;
	} cases[] = {
		{ 33, 52, 4ull << 30, NULL },
		{ 32, 52, 4096, "cpu.model: phys-bits '32' does not reach the end of the memory; 33 to 52 do" },
		{ 33, 48, (4ull << 30) + 4096,
		  "cpu.model: phys-bits '33' does not reach the end of the memory; 34 to 48 do" },
		{ 33, 33, (4ull << 30) + 4096,
		  "memory: 4097 MiB need 34 bits of physical addresses, and this engine has 33 here" },
	};

	for (size_t n = 0; n < ARRAY_LEN(cases); n++) {
		struct mem_space *mem = memory(cases[n].high);
		struct x86_features *f = features("max");
		struct x86_model m = { .features = f };
		struct err err;

		f->phys_max = cases[n].max;
		f->phys_bits = cases[n].bits;
		assert_int_equal(x86_features_reach(f, mem, &err), cases[n].says ? -1 : 0);
		if (cases[n].says)
			assert_string_equal(err.msg, cases[n].says);
		/* A saved model is held against the same. */
		x86_model_state.pre_save(&m);
		assert_int_equal(x86_model_state.post_load(&m, &err), cases[n].says ? -1 : 0);
		x86_features_free(f);
		mem_space_free(mem);
	}
}

static void an_engine_has_so_many_physical_addresses(void **state)
{
	const struct x86_feature_limit limit = { has_some, NULL, 0, 39 };
	struct config *c = config_new();
	const struct x86_features *f = x86_features_new(NULL, &limit, &(struct err){ 0 });
	struct err err;

	/* Where nothing is said, as many as there are, and as the host has: another engine may take over. */
	assert_int_equal(f->phys_bits, 39);
	x86_features_free(f);
	f = features("max");
	assert_int_equal(f->phys_bits, x86_phys_bits());
	assert_in_range(f->phys_bits, 32, 46);
#if defined(__x86_64__)
	uint32_t own[4];

	__cpuid(0x80000008, own[0], own[1], own[2], own[3]);
	assert_true(f->phys_bits <= (own[0] & 0xff));
#endif
	x86_features_free(f);
	assert_int_equal(config_set(c, "cpu.model", "max,phys-bits=40", &err), 0);
	assert_null(x86_features_new(c, &limit, &err));
	assert_string_equal(err.msg, "cpu.model: phys-bits '40' is more than the 39 that this engine has here");
	/* What a saved machine had is looked at when its model is loaded. */
	f = x86_features_for_saved(c, &limit, &err);
	assert_non_null(f);
	assert_int_equal(f->phys_bits, 39);
	x86_features_free(f);
	config_free(c);
}

static void a_saved_width_is_kept_or_refused(void **state)
{
	for (unsigned bits = 30; bits <= 54; bits++) {
		struct x86_features *f = features("max,phys-bits=40");
		struct x86_model m = { .features = f };
		struct err err;
		int want;

		f->phys_min = 36;
		f->phys_max = 48;
		want = bits >= f->phys_min && bits <= f->phys_max ? 0 : -1;
		x86_model_state.pre_save(&m);
		m.phys_bits = bits;
		assert_int_equal(x86_model_state.post_load(&m, &err), want);
		assert_int_equal(f->phys_bits, want ? 40 : bits);
		if (bits == 52)
			assert_string_equal(err.msg, "cpu.model: the saved CPU has 52 bits of physical addresses; 36 "
						     "to 48 can be had here");
		/* Not its width is what is wrong with a vendor that nobody has. */
		m.phys_bits = 40;
		m.vendor = 7;
		assert_int_equal(x86_model_state.post_load(&m, &err), -1);
		assert_string_equal(err.msg, "cpu.model: the saved CPU is of vendor number 7; there are 0, "
					     "AuthenticAMD, and 1, GenuineIntel");
		x86_features_free(f);
	}
}

/* Protection keys need an engine that keeps PKRU. */
static bool has_all(void *opaque, uint32_t leaf, uint32_t subleaf, enum x86_cpuid_reg reg, unsigned bit)
{
	return true;
}

static void an_engine_without_pkru_offers_no_keys(void **state)
{
	for (unsigned at = 0; at <= 2688; at += 2688) {
		const struct x86_feature_limit limit = { has_all, NULL, at };
		struct err err;
		const struct x86_features *f = x86_features_new(NULL, &limit, &err);

		assert_non_null(f);
		assert_int_equal(f->on[X86_F_PKU], at != 0);
		assert_int_equal(f->pkru_at, at);
		assert_int_equal(!!(f->cr4 & X86_CR4_PKE), at != 0);
		assert_int_equal(f->xcr0 >> 9, at != 0);
		x86_features_free(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(models_are_parsed_whole),
		cmocka_unit_test(what_cannot_be_given_is_refused_by_name),
		cmocka_unit_test(all_that_is_missing_is_named),
		cmocka_unit_test(nothing_is_cut),
		cmocka_unit_test(what_an_engine_lacks_is_named_beside),
		cmocka_unit_test(what_a_saved_model_lacks_is_left_out),
		cmocka_unit_test(host_is_the_hosts_processor),
		cmocka_unit_test(all_that_a_saved_cpu_had_is_named),
		cmocka_unit_test(what_builds_on_a_feature_goes_with_it),
		cmocka_unit_test(a_layout_is_kept_or_refused),
		cmocka_unit_test(physical_addresses_reach_the_end_of_the_memory),
		cmocka_unit_test(an_engine_has_so_many_physical_addresses),
		cmocka_unit_test(a_saved_width_is_kept_or_refused),
		cmocka_unit_test(an_engine_without_pkru_offers_no_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
