/*
 * What the instructions of the tables that every processor has need all the same: SDM vol. 1, chapter 5. Tables of a
 * newer extension name their feature themselves.
 */
#include "base/bytes.h"
#include "cpu/x86/insn.h"

#define NONE (1u << X86_PFX_NONE)
#define P66  (1u << X86_PFX_66)
#define PF3  (1u << X86_PFX_F3)
#define PF2  (1u << X86_PFX_F2)
#define ANY  0xffu

/* The first that fits counts. x87 instructions are not here: programs find out by FNINIT whether there is an FPU. */
static const struct {
	uint8_t map, first, last, pfx, mod, ext; /* mod and ext as in struct x86_opdef, where 0 is any */
	enum x86_feature feature;
} needs[] = {
	{ X86_MAP_1, 0xda, 0xdb, ANY, X86_MOD_REG, 1 + 0, X86_F_CMOV }, /* FCMOVcc */
	{ X86_MAP_1, 0xda, 0xdb, ANY, X86_MOD_REG, 1 + 1, X86_F_CMOV },
	{ X86_MAP_1, 0xda, 0xdb, ANY, X86_MOD_REG, 1 + 2, X86_F_CMOV },
	{ X86_MAP_1, 0xda, 0xdb, ANY, X86_MOD_REG, 1 + 3, X86_F_CMOV },
	{ X86_MAP_1, 0xdb, 0xdb, ANY, X86_MOD_REG, 1 + 5, X86_F_CMOV }, /* FUCOMI, FCOMI, and those that pop */
	{ X86_MAP_1, 0xdb, 0xdb, ANY, X86_MOD_REG, 1 + 6, X86_F_CMOV },
	{ X86_MAP_1, 0xdf, 0xdf, ANY, X86_MOD_REG, 1 + 5, X86_F_CMOV },
	{ X86_MAP_1, 0xdf, 0xdf, ANY, X86_MOD_REG, 1 + 6, X86_F_CMOV },
	{ X86_MAP_0F, 0x10, 0x17, NONE | PF3, 0, 0, X86_F_SSE },
	{ X86_MAP_0F, 0x10, 0x17, P66 | PF2, 0, 0, X86_F_SSE2 },
	{ X86_MAP_0F, 0x28, 0x2f, NONE | PF3, 0, 0, X86_F_SSE },
	{ X86_MAP_0F, 0x28, 0x2f, P66 | PF2, 0, 0, X86_F_SSE2 },
	{ X86_MAP_0F, 0x30, 0x30, ANY, 0, 0, X86_F_MSR },
	{ X86_MAP_0F, 0x31, 0x31, ANY, 0, 0, X86_F_TSC },
	{ X86_MAP_0F, 0x32, 0x32, ANY, 0, 0, X86_F_MSR },
	{ X86_MAP_0F, 0x40, 0x4f, ANY, 0, 0, X86_F_CMOV },
	{ X86_MAP_0F, 0x5a, 0x5b, ANY, 0, 0, X86_F_SSE2 },
	{ X86_MAP_0F, 0x50, 0x5f, NONE | PF3, 0, 0, X86_F_SSE },
	{ X86_MAP_0F, 0x50, 0x5f, P66 | PF2, 0, 0, X86_F_SSE2 },
	{ X86_MAP_0F, 0x70, 0x70, NONE, 0, 0, X86_F_SSE }, /* PSHUFW */
	{ X86_MAP_0F, 0x60, 0x7f, NONE, 0, 0, X86_F_MMX },
	{ X86_MAP_0F, 0x60, 0x7f, ANY, 0, 0, X86_F_SSE2 },
	{ X86_MAP_0F, 0xae, 0xae, NONE, X86_MOD_MEM, 1 + 0, X86_F_FXSR },
	{ X86_MAP_0F, 0xae, 0xae, NONE, X86_MOD_MEM, 1 + 1, X86_F_FXSR },
	{ X86_MAP_0F, 0xae, 0xae, NONE, X86_MOD_MEM, 1 + 2, X86_F_SSE },
	{ X86_MAP_0F, 0xae, 0xae, NONE, X86_MOD_MEM, 1 + 3, X86_F_SSE },
	{ X86_MAP_0F, 0xae, 0xae, NONE, X86_MOD_REG, 1 + 5, X86_F_SSE2 }, /* LFENCE, MFENCE, SFENCE */
	{ X86_MAP_0F, 0xae, 0xae, NONE, X86_MOD_REG, 1 + 6, X86_F_SSE2 },
	{ X86_MAP_0F, 0xae, 0xae, NONE, X86_MOD_REG, 1 + 7, X86_F_SSE },
	{ X86_MAP_0F, 0xae, 0xae, NONE, X86_MOD_MEM, 1 + 7, X86_F_CLFLUSH },
	{ X86_MAP_0F, 0xc2, 0xc2, NONE | PF3, 0, 0, X86_F_SSE },
	{ X86_MAP_0F, 0xc2, 0xc2, P66 | PF2, 0, 0, X86_F_SSE2 },
	{ X86_MAP_0F, 0xc3, 0xc3, NONE, 0, 0, X86_F_SSE2 }, /* MOVNTI */
	{ X86_MAP_0F, 0xc4, 0xc6, NONE, 0, 0, X86_F_SSE },
	{ X86_MAP_0F, 0xc4, 0xc6, P66, 0, 0, X86_F_SSE2 },
	{ X86_MAP_0F, 0xc7, 0xc7, ANY, X86_MOD_MEM, 1 + 1, X86_F_CX8 },
	{ X86_MAP_0F, 0xd0, 0xfe, P66 | PF3 | PF2, 0, 0, X86_F_SSE2 },
	/* On MMX registers, of later extensions than MMX. */
	{ X86_MAP_0F, 0xd4, 0xd4, NONE, 0, 0, X86_F_SSE2 }, /* PADDQ */
	{ X86_MAP_0F, 0xd7, 0xd7, NONE, 0, 0, X86_F_SSE },
	{ X86_MAP_0F, 0xda, 0xda, NONE, 0, 0, X86_F_SSE },
	{ X86_MAP_0F, 0xde, 0xde, NONE, 0, 0, X86_F_SSE },
	{ X86_MAP_0F, 0xe0, 0xe0, NONE, 0, 0, X86_F_SSE },
	{ X86_MAP_0F, 0xe3, 0xe4, NONE, 0, 0, X86_F_SSE },
	{ X86_MAP_0F, 0xe7, 0xe7, NONE, 0, 0, X86_F_SSE },
	{ X86_MAP_0F, 0xea, 0xea, NONE, 0, 0, X86_F_SSE },
	{ X86_MAP_0F, 0xee, 0xee, NONE, 0, 0, X86_F_SSE },
	{ X86_MAP_0F, 0xf4, 0xf4, NONE, 0, 0, X86_F_SSE2 }, /* PMULUDQ, PSUBQ */
	{ X86_MAP_0F, 0xfb, 0xfb, NONE, 0, 0, X86_F_SSE2 },
	{ X86_MAP_0F, 0xf6, 0xf7, NONE, 0, 0, X86_F_SSE },
	{ X86_MAP_0F, 0xd0, 0xfe, NONE, 0, 0, X86_F_MMX },
};

enum x86_feature x86_row_needs(const struct x86_opdef *d, unsigned op)
{
	for (size_t n = 0; n < ARRAY_LEN(needs); n++)
		if (needs[n].map == d->map && op >= needs[n].first && op <= needs[n].last &&
		    (needs[n].pfx == ANY || needs[n].pfx >> d->pfx & 1) && (!needs[n].mod || needs[n].mod == d->mod) &&
		    (!needs[n].ext || needs[n].ext == d->ext))
			return needs[n].feature;
	return X86_F_ALWAYS;
}
