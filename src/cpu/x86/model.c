/* See model.h. */
#include "cpu/x86/model.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "cpu/x86/state.h"
#include "cpu/x86/xsave.h"

#define ROW(id, name_, leaf_, subleaf_, reg_, bit_, cr4_, efer_) { name_, leaf_, subleaf_, X86_CPUID_##reg_, bit_ },
static const struct {
	const char *name;
	uint32_t leaf, subleaf;
	uint8_t reg, bit;
} features[X86_FEATURE_COUNT] = { X86_FEATURES(ROW) };
#undef ROW
static const char *const registers[] = {
	[X86_CPUID_EAX] = "EAX", [X86_CPUID_EBX] = "EBX", [X86_CPUID_ECX] = "ECX", [X86_CPUID_EDX] = "EDX"
};

/* The word of feature `n`, or the next free one. */
static struct x86_model_word *word_of(struct x86_model *m, size_t n)
{
	for (unsigned k = 0; k < X86_MODEL_WORDS; k++) {
		struct x86_model_word *w = &m->words[k];

		if (w->bits &&
		    (w->leaf != features[n].leaf || w->subleaf != features[n].subleaf || w->reg != features[n].reg))
			continue;
		*w = (struct x86_model_word){ features[n].leaf, features[n].subleaf, w->bits, features[n].reg };
		return w;
	}
	return NULL;
}

static void pre_save(void *obj)
{
	struct x86_model *m = obj;

	m->signature = m->features->signature;
	m->vendor = m->features->vendor;
	m->phys_bits = m->features->phys_bits;
	m->pkru_at = m->features->pkru_at;
	memcpy(m->brand, m->features->brand, sizeof(m->brand));
	memset(m->words, 0, sizeof(m->words));
	for (size_t n = 0; n < X86_FEATURE_COUNT; n++) {
		struct x86_model_word *w = m->features->on[n] ? word_of(m, n) : NULL;

		if (w)
			w->bits |= 1u << features[n].bit;
	}
}

/* Features that are wanted and not there, for one line that names them all. */
struct missing {
	char names[X86_FEATURE_NAMES + X86_MODEL_WORDS * 40];
};

static void add_missing(struct missing *x, const char *name)
{
	size_t at = strlen(x->names);

	snprintf(x->names + at, sizeof(x->names) - at, "%s%s", at ? ", " : "", name);
}

_Static_assert(sizeof(struct missing) + 128 <= sizeof(struct err), "all that is missing is named");

/* False: it has no name here. */
static bool take_feature(const struct x86_model *m, bool *on, const struct x86_model_word *w, unsigned bit,
			 struct missing *missing)
{
	for (size_t n = 0; n < X86_FEATURE_COUNT; n++) {
		if (features[n].leaf != w->leaf || features[n].subleaf != w->subleaf || features[n].reg != w->reg ||
		    features[n].bit != bit)
			continue;
		if (!m->features->on[n] && !on[n])
			add_missing(missing, features[n].name);
		on[n] = true;
		return true;
	}
	return false;
}

/* What has no name is told by its place, all of a register at once: a file may have any number. */
static void take_word(const struct x86_model *m, bool *on, const struct x86_model_word *w, struct missing *missing)
{
	uint32_t unknown = 0;
	char text[40];

	for (unsigned bit = 0; bit < 32; bit++)
		if (w->bits >> bit & 1 && !take_feature(m, on, w, bit, missing))
			unknown |= 1u << bit;
	if (!unknown)
		return;
	snprintf(text, sizeof(text), "CPUID %x:%x %s %#x", w->leaf, w->subleaf,
		 w->reg < ARRAY_LEN(registers) ? registers[w->reg] : "?", unknown);
	add_missing(missing, text);
}

static int post_load(void *obj, struct err *err)
{
	struct x86_model *m = obj;
	bool on[X86_FEATURE_COUNT] = { 0 };
	struct missing missing = { "" };

	if (m->vendor >= X86_VENDORS)
		return err_set(err, "cpu.model: the saved CPU is of vendor number %u; there are 0, %s, and 1, %s",
			       m->vendor, x86_vendors[0], x86_vendors[1]);
	if (m->phys_bits < m->features->phys_min || m->phys_bits > m->features->phys_max)
		return err_set(err,
			       "cpu.model: the saved CPU has %u bits of physical addresses; %u to %u can be had here",
			       m->phys_bits, m->features->phys_min, m->features->phys_max);
	for (unsigned n = 0; n < X86_MODEL_WORDS; n++)
		take_word(m, on, &m->words[n], &missing);
	if (*missing.names)
		return err_set(err, "cpu.model: the saved CPU has %s, which this engine does not give here",
			       missing.names);
	/* The guest has areas in its memory that are laid out so. */
	if (on[X86_F_PKU] &&
	    (m->features->any_pkru_at ? !x86_xsave_pkru_fits(m->pkru_at) : m->pkru_at != m->features->pkru_at))
		return err_set(err, "cpu.model: the saved CPU has pku with PKRU at %u in XSAVE areas, this one at %u",
			       m->pkru_at, m->features->pkru_at);
	if (on[X86_F_PKU])
		m->features->pkru_at = m->pkru_at;
	memcpy(m->features->on, on, sizeof(on));
	m->features->signature = m->signature;
	m->features->vendor = m->vendor;
	m->features->phys_bits = m->phys_bits;
	memcpy(m->features->brand, m->brand, sizeof(m->brand));
	x86_features_derive(m->features);
	return 0;
}

int x86_model_check(const struct x86_features *f, const struct x86_state *s, struct err *err)
{
	const struct {
		const char *name;
		uint64_t value, may;
	} regs[] = {
		{ "CR4", s->cr4, f->cr4 },
		{ "EFER", s->efer, f->efer | X86_EFER_LMA },
		{ "XCR0", s->xcr0, f->xcr0 | 1 },
	};

	for (size_t n = 0; n < ARRAY_LEN(regs); n++)
		if (regs[n].value & ~regs[n].may)
			return err_set(err, "%s is %#llx, of which the CPU model lacks %#llx", regs[n].name,
				       (unsigned long long)regs[n].value,
				       (unsigned long long)(regs[n].value & ~regs[n].may));
	return 0;
}

void x86_model_fit(const struct x86_features *f, struct x86_state *s)
{
	s->cr4 &= f->cr4 | X86_CR4_PSE | X86_CR4_PAE | X86_CR4_LA57 | X86_CR4_PCIDE;
	s->efer &= f->efer | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
	s->xcr0 &= f->xcr0 | 1;
	for (size_t n = 0; n < ARRAY_LEN(s->vec) && !(f->xcr0 & 4); n++)
		s->vec[n].q[2] = s->vec[n].q[3] = 0;
}

static const struct state_field word_fields[] = {
	STATE_U32F(struct x86_model_word, leaf),
	STATE_U32F(struct x86_model_word, subleaf),
	STATE_U8F(struct x86_model_word, reg),
	STATE_U32F(struct x86_model_word, bits),
	STATE_FIELD_END,
};
static const struct state_desc word_state = { .name = "cpuid", .version = 1, .min_version = 1, .fields = word_fields };
static const struct state_field partition_fields[] = {
	STATE_U64F(struct x86_partition, guest_os_id),
	STATE_U64F(struct x86_partition, hypercall),
	STATE_U64F(struct x86_partition, reference_tsc),
	STATE_FIELD_END,
};
static const struct state_desc partition_state = {
	.name = "partition",
	.version = 1,
	.min_version = 1,
	.fields = partition_fields,
};
static const struct state_field fields[] = {
	STATE_U32F(struct x86_model, signature),
	STATE_U32F(struct x86_model, vendor),
	STATE_U32F(struct x86_model, phys_bits),
	STATE_U32F(struct x86_model, pkru_at),
	STATE_U8A(struct x86_model, brand),
	STATE_SUB(struct x86_model, partition, &partition_state),
	STATE_SUBA(struct x86_model, words, &word_state),
	STATE_FIELD_END,
};
const struct state_desc x86_model_state = {
	.name = "cpu-model",
	.version = 1,
	.min_version = 1,
	.fields = fields,
	.pre_save = pre_save,
	.post_load = post_load,
};
