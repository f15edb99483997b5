/*
 * The processor model in saved states: a machine keeps the features it was saved with, as long as this program and
 * host have them, and is refused by their names otherwise. The VM's thread, vCPUs stopped.
 */
#ifndef VIREO_CPU_X86_MODEL_H
#define VIREO_CPU_X86_MODEL_H

#include "base/state.h"
#include "cpu/x86/cpuid.h"

#define X86_MODEL_WORDS 24

/* Of Hyper-V's interface (hyperv.c), what all processors share: its MSRs, as written; by atomic accesses. */
struct x86_partition {
	uint64_t guest_os_id, hypercall, reference_tsc;
};

struct x86_model {
	struct x86_partition partition;
	struct x86_features *features; /* what is saved, and changed by a load */
	/* the saved form */
	uint32_t signature, vendor, phys_bits, pkru_at;
	uint8_t brand[48];
	struct x86_model_word {
		uint32_t leaf, subleaf, bits;
		uint8_t reg;
	} words[X86_MODEL_WORDS]; /* registers of CPUID, as far as they are made of features */
};

struct x86_state;
/* -1 where control registers have bits that the model has not. Pure, any thread. */
int x86_model_check(const struct x86_features *f, const struct x86_state *s, struct err *err);
/*
 * Take such bits out, and what they gave, of a state that another one's processor allowed. Those stay that say how
 * pages are walked: without them the guest would be lost. Pure, any thread.
 */
void x86_model_fit(const struct x86_features *f, struct x86_state *s);

extern const struct state_desc x86_model_state; /* of a struct x86_model */

#endif
