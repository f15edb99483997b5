/* RDRAND and RDSEED: the host's random numbers; CF says whether there was one. SDM vol. 1, 7.3.17. */
#include "base/entropy.h"
#include "cpu/x86/template.h"

#define RANDOM(bits)                                                                                                   \
	static const struct x86_insn *random##bits(struct x86_cpu *cpu, const struct x86_insn *i)                      \
	{                                                                                                              \
		uint##bits##_t v = 0;                                                                                  \
		bool got = entropy_get(&v, sizeof(v));                                                                 \
                                                                                                                       \
		x86_set##bits(cpu, i->rm, got ? v : 0);                                                                \
		x86_lazy_set(&cpu->lazy, got ? X86_CF : 0);                                                            \
		return x86_next(cpu, i);                                                                               \
	}
RANDOM(16)
RANDOM(32)
RANDOM(64)

#define ROW(pfx_, ext_, name_)                                                                                         \
	{                                                                                                              \
		.map = X86_MAP_0F, .op = 0xc7, .count = 1, .pfx = pfx_, .mod = X86_MOD_REG, .ext = 1 + ext_,           \
		.reg = { random16, random32, random64 }, .name = name_                                                 \
	}
static const struct x86_opdef rdrand_rows[] = { ROW(X86_PFX_NONE, 6, "rdrand"), ROW(X86_PFX_66, 6, "rdrand") };
X86_DEFS_OF(x86_defs_rdrand, rdrand_rows, X86_F_RDRAND);

static const struct x86_opdef rdseed_rows[] = { ROW(X86_PFX_NONE, 7, "rdseed"), ROW(X86_PFX_66, 7, "rdseed") };
X86_DEFS_OF(x86_defs_rdseed, rdseed_rows, X86_F_RDSEED);
