/* -cpu: QEMU's names of models and features as those of "cpu.model". */
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/bytes.h"
#include "cli/qemu.h"
#include "cpu/x86/cpuid.h"

/* Features with other names there. '_' is '-' already. */
static const struct {
	const char *theirs, *ours;
} renamed[] = {
	{ "sse4-1", "sse4.1" },
	{ "sse4-2", "sse4.2" },
	{ "pni", "sse3" },
	{ "xd", "nx" },
	{ "i64", "lm" },
	{ "lzcnt", "abm" },
	{ "pclmuldq", "pclmulqdq" },
	{ "kvmclock-stable-bit", "kvmclock-stable" },
};

/* Features of QEMU that no engine has: to go without them is what a guest gets. */
static const char absent[] =
	"3dnow|3dnowext|3dnowprefetch|ace2|ace2-en|acpi|amd-ssbd|amd-stibp|amx-bf16|amx-int8|amx-tile|arch-"
	"capabilities|"
	"arch-lbr|avx-vnni|avx-vnni-int8|avx-ifma|avx512-4fmaps|avx512-4vnniw|avx512-bf16|avx512-fp16|"
	"avx512-vp2intersect|avx512-vpopcntdq|avx512bitalg|avx512bw|avx512cd|avx512dq|avx512er|avx512f|avx512ifma|"
	"avx512pf|avx512vbmi|avx512vbmi2|avx512vl|avx512vnni|cid|cldemote|clzero|cmp-legacy|cmt|core-capability|"
	"cr8legacy|dca|decodeassists|ds|ds-cpl|dtes64|est|extapic|fb-clear|flushbyasid|fma4|fsrm|fxsr-opt|fzrm|fsrs|"
	"fsrc|"
	"gfni|hle|ht|ia64|ibpb|ibrs|ibs|intel-pt|intel-pt-lip|kvm-asyncpf|kvm-asyncpf-int|kvm-asyncpf-vmexit|"
	"kvm-hint-dedicated|kvm-mmu|kvm-msi-ext-dest-id|kvm-pv-sched-yield|kvm-pv-tlb-flush|la57|lbrv|lwp|mcdt-no|"
	"md-clear|mds-no|misalignsse|mmxext|monitor|movdir64b|movdiri|mpx|nodeid-msr|npt|nrip-save|osvw|pause-filter|"
	"pbe|pcommit|pdcm|perfctr-core|perfctr-nb|pfthreshold|phe|phe-en|pks|pmm|pmm-en|pmu|pn|rsba|rtm|sbdr-ssdp-no|"
	"serialize|sgx|sgx1|sgx2|sgxlc|skinit|smx|spec-ctrl|ss|ssb-no|ssbd|sse4a|stibp|svm|svm-lock|svme-addr-chk|"
	"taa-no|tbm|tce|tm|tm2|topoext|tsc-scale|tsx-ctrl|tsx-ldtrk|v-vmsave-vmload|vaes|vgif|virt-ssbd|vmcb-clean|vmx|"
	"vnmi|vpclmulqdq|waitpkg|wbnoinvd|wdt|x-intel-pt-auto-level|xcrypt|xcrypt-en|xop|xstore|xstore-en|xtpr|"
	"skip-l1dfl-vmentry|psdp-no|pschange-mc-no|rdctl-no|split-lock-detect|xfd|ibrs-all|cet-ss|cet-ibt|pku-ospke|"
	"avic|svm-npt|rdpru|lam|shstk";

/* What is no feature: values that say what a CPU is here anyhow. */
static const struct {
	const char *name, *values;
} settings[] = {
	{ "migratable", "on|off" },
	{ "l3-cache", "on" },
	{ "pmu", "off" },
	{ "hypervisor", "on" },
	{ "kvm", "on" },
	{ "cpuid-0xb", "on" },
	{ "legacy-cache", "on|off" },
	{ "full-cpuid-auto-level", "on" },
	{ "fill-mtrr-mask", "on" },
	{ "host-cache-info", "off" },
};

struct cpu_text {
	const char *name; /* of the model, as it was said */
	char model[1024];
	bool enforce, host_bits, phys_bits;
	unsigned host_limit;
};

static int append(struct qemu *q, struct cpu_text *t, const char *sign, const char *word)
{
	size_t at = strlen(t->model);
	int n = snprintf(t->model + at, sizeof(t->model) - at, ",%s%s", sign, word);

	return n < (int)(sizeof(t->model) - at) ? 0 : err_set(q->err, "-cpu: too long");
}

static bool known(const char *name)
{
	for (unsigned n = 0; x86_feature_name(n); n++)
		if (!strcmp(x86_feature_name(n), name))
			return true;
	return false;
}

static int not_found(struct qemu *q, struct qopts *o, const char *model, const char *name)
{
	return qopts_fail(o, q->err, "Property '%s-x86_64-cpu.%s' not found", model, name);
}

static int set_feature(struct qemu *q, struct qopts *o, struct cpu_text *t, const char *name, bool on)
{
	const char *ours = name;
	char without[64];

	/* "vmx-ept": what is part of something that is absent. */
	snprintf(without, sizeof(without), "%.*s", (int)strcspn(name, "-"), name);
	for (size_t n = 0; n < ARRAY_LEN(renamed); n++)
		if (!strcmp(renamed[n].theirs, name))
			ours = renamed[n].ours;
	if (known(ours))
		return append(q, t, on ? "+" : "-", ours);
	if (!qword_in(absent, name) && strcmp(without, "vmx") != 0)
		return not_found(q, o, t->name, name);
	return on ? qopts_fail(o, q->err, "Vireo does not have the CPU feature '%s'", name) : 0;
}

/* All of Hyper-V's interface that there is. */
static int set_hyperv(struct qemu *q, struct cpu_text *t)
{
	static const char *const all[] = { "hv-relaxed", "hv-vapic", "hv-vpindex", "hv-time" };

	for (size_t n = 0; n < ARRAY_LEN(all); n++)
		if (append(q, t, "+", all[n]))
			return -1;
	return 0;
}

static int set_number(struct qemu *q, struct qopts *o, const char *name, const char *value, unsigned *out)
{
	char *end;
	unsigned long n = strtoul(value, &end, 0);

	if (end == value || *end || n > 255)
		return qopts_fail(o, q->err, "Property '%s' expects a number", name);
	*out = (unsigned)n;
	return 0;
}

/* NAME=VALUE; `name` has '-' for '_'. */
static int set_value(struct qemu *q, struct qopts *o, struct cpu_text *t, const char *name, const char *value)
{
	int flag = parse_bool(value);
	char text[64];

	for (size_t n = 0; n < ARRAY_LEN(settings); n++)
		if (!strcmp(settings[n].name, name))
			return qvalue_in(settings[n].values, value)
				       ? 0
				       : qopts_fail(o, q->err, "%s=%s is not there, only %s", name, value,
						    settings[n].values);
	if (!strcmp(name, "vendor") || (!strcmp(name, "phys-bits") && strcmp(value, "0"))) {
		t->phys_bits |= *name == 'p';
		snprintf(text, sizeof(text), "%s=%.48s", name, value);
		return append(q, t, "", text);
	}
	if (!strcmp(name, "host-phys-bits-limit"))
		return set_number(q, o, name, value, &t->host_limit);
	if (!strcmp(name, "tsc-frequency"))
		return qemu_set(q, o, NULL, "clock.tsc-hz", value);
	if (flag < 0 && (known(name) || qword_in("host-phys-bits|enforce|check|hv-passthrough", name)))
		return qopts_fail(o, q->err, "Property '%s-x86_64-cpu.%s' expects 'on' or 'off'", t->name, name);
	if (flag < 0)
		return not_found(q, o, t->name, name);
	if (!strcmp(name, "host-phys-bits"))
		t->host_bits = flag;
	else if (!strcmp(name, "enforce"))
		t->enforce = flag;
	else if (!strcmp(name, "hv-passthrough"))
		return flag ? set_hyperv(q, t) : 0;
	else if (strcmp(name, "check") != 0)
		return set_feature(q, o, t, name, flag);
	return 0;
}

/* QEMU's version of `+f,-f,f=on,f`. */
static int set_word(struct qemu *q, struct qopts *o, struct cpu_text *t, char *word)
{
	char *eq = strchr(word, '=');
	bool sign = *word == '+' || *word == '-';

	for (char *p = word + sign; *p && p != eq; p++)
		if (*p == '_')
			*p = '-';
	if (eq)
		*eq = '\0';
	if (sign && !eq)
		return set_value(q, o, t, word + 1, *word == '+' ? "on" : "off");
	return set_value(q, o, t, word, eq ? eq + 1 : "on");
}

static int host_phys_bits(struct qemu *q, struct cpu_text *t)
{
	unsigned bits = 0;
	char text[24];

#if defined(__x86_64__)
	unsigned a, b, c, d;

	if (__get_cpuid(0x80000008, &a, &b, &c, &d))
		bits = a & 0xff;
#endif
	if (t->host_limit && bits > t->host_limit)
		bits = t->host_limit;
	if (!t->host_bits || t->phys_bits || !bits)
		return 0;
	snprintf(text, sizeof(text), "phys-bits=%u", bits > 52 ? 52 : bits);
	return append(q, t, "", text);
}

/* "NAME-v1" is what NAME is here, too. */
static int set_model(struct qemu *q, struct qopts *o, struct cpu_text *t, const char *name)
{
	size_t len = strlen(name);

	if (len > 3 && !strcmp(name + len - 3, "-v1"))
		len -= 3;
	for (unsigned n = 0; x86_model_name(n); n++) {
		if (strlen(x86_model_name(n)) != len || strncmp(x86_model_name(n), name, len))
			continue;
		snprintf(t->model, sizeof(t->model), "%s", x86_model_name(n));
		return 0;
	}
	return qopts_fail(NULL, q->err, "unable to find CPU model '%s'", name);
}

/* Not by qopts_parse(): a feature may have a sign, and "nx" is not the opposite of "x". */
int qemu_finish_cpu(struct qemu *q)
{
	struct qopts *o = q->cpus.count ? &q->cpus.v[q->cpus.count - 1] : NULL;
	struct cpu_text t = { .model = "" };
	char *copy = strdup(o ? o->origin + strlen("-cpu ") : "qemu64"), *rest = copy;
	int rc = -1;

	if (!copy)
		return err_set(q->err, "out of memory");
	t.name = strsep(&rest, ",");
	if (set_model(q, o, &t, t.name))
		goto out;
	while (rest)
		if (set_word(q, o, &t, strsep(&rest, ",")))
			goto out;
	if (host_phys_bits(q, &t) || (!t.enforce && append(q, &t, "", "check")))
		goto out;
	rc = qemu_set(q, o, NULL, "cpu.model", t.model);
out:
	free(copy);
	return rc;
}

void qemu_cpu_help(FILE *out)
{
	fputs("Available CPUs:\n", out);
	for (unsigned n = 0; x86_model_name(n); n++)
		fprintf(out, "x86 %s\n", x86_model_name(n));
	fputs("\nRecognized CPUID flags:\n", out);
	for (unsigned n = 0; x86_feature_name(n); n++)
		fprintf(out, "%s%s", n % 8 ? " " : n ? "\n  " : "  ", x86_feature_name(n));
	fputs("\n", out);
}
