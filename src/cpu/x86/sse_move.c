/* SSE and SSE2: moves between vector registers, general registers and memory. SDM vol. 2. */
#include "cpu/x86/vec.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)

/* --- whole registers --- */

HANDLER(mov_x)
{
	x86_sse_enter(cpu);
	vec_put(cpu, i->reg, vec_get(cpu, i->rm));
	return x86_next(cpu, i);
}

HANDLER(mov_store_x)
{
	x86_sse_enter(cpu);
	vec_put(cpu, i->rm, vec_get(cpu, i->reg));
	return x86_next(cpu, i);
}

HANDLER(mov_load)
{
	x86_sse_enter(cpu);
	vec_put(cpu, i->reg, vec_load(cpu, i));
	return x86_next(cpu, i);
}

HANDLER(mov_load_u)
{
	x86_sse_enter(cpu);
	vec_put(cpu, i->reg, vec_load_u(cpu, i));
	return x86_next(cpu, i);
}

HANDLER(mov_store)
{
	x86_sse_enter(cpu);
	x86_store_aligned(cpu, i, cpu->s.vec[i->reg].b, 16);
	return x86_next(cpu, i);
}

HANDLER(mov_store_u)
{
	x86_sse_enter(cpu);
	x86_store_bytes(cpu, i->seg, x86_ea(cpu, i), cpu->s.vec[i->reg].b, 16);
	return x86_next(cpu, i);
}

/* --- scalars: a load clears the rest, a register move keeps it --- */

#define SCALAR(name, bits, lane)                                                                                       \
	HANDLER(name##_x)                                                                                              \
	{                                                                                                              \
		x86_sse_enter(cpu);                                                                                    \
		cpu->s.vec[i->reg].lane[0] = cpu->s.vec[i->rm].lane[0];                                                \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_store_x)                                                                                        \
	{                                                                                                              \
		x86_sse_enter(cpu);                                                                                    \
		cpu->s.vec[i->rm].lane[0] = cpu->s.vec[i->reg].lane[0];                                                \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_load)                                                                                           \
	{                                                                                                              \
		x86_sse_enter(cpu);                                                                                    \
		vec_put(cpu, i->reg, vec_low64(x86_ldm##bits(cpu, i)));                                                \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_store)                                                                                          \
	{                                                                                                              \
		x86_sse_enter(cpu);                                                                                    \
		x86_stm##bits(cpu, i, cpu->s.vec[i->reg].lane[0]);                                                     \
		return x86_next(cpu, i);                                                                               \
	}
SCALAR(movss, 32, d)
SCALAR(movsd, 64, q)

/* MOVQ between registers clears the high half. */
HANDLER(movq_x)
{
	x86_sse_enter(cpu);
	vec_put(cpu, i->reg, vec_low64(cpu->s.vec[i->rm].q[0]));
	return x86_next(cpu, i);
}

HANDLER(movq_store_x)
{
	x86_sse_enter(cpu);
	vec_put(cpu, i->rm, vec_low64(cpu->s.vec[i->reg].q[0]));
	return x86_next(cpu, i);
}

/* --- general registers --- */

HANDLER(movd_from_gpr32)
{
	x86_sse_enter(cpu);
	vec_put(cpu, i->reg, vec_low64((uint32_t)cpu->s.gpr[i->rm]));
	return x86_next(cpu, i);
}

HANDLER(movd_from_gpr64)
{
	x86_sse_enter(cpu);
	vec_put(cpu, i->reg, vec_low64(cpu->s.gpr[i->rm]));
	return x86_next(cpu, i);
}

HANDLER(movd_to_gpr32)
{
	x86_sse_enter(cpu);
	cpu->s.gpr[i->rm] = cpu->s.vec[i->reg].d[0];
	return x86_next(cpu, i);
}

HANDLER(movd_to_gpr64)
{
	x86_sse_enter(cpu);
	cpu->s.gpr[i->rm] = cpu->s.vec[i->reg].q[0];
	return x86_next(cpu, i);
}

/* --- halves --- */

#define HALF(name, n)                                                                                                  \
	HANDLER(name##_load)                                                                                           \
	{                                                                                                              \
		x86_sse_enter(cpu);                                                                                    \
		cpu->s.vec[i->reg].q[n] = x86_ldm64(cpu, i);                                                           \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_store)                                                                                          \
	{                                                                                                              \
		x86_sse_enter(cpu);                                                                                    \
		x86_stm64(cpu, i, cpu->s.vec[i->reg].q[n]);                                                            \
		return x86_next(cpu, i);                                                                               \
	}
HALF(movl, 0)
HALF(movh, 1)

HANDLER(movhlps)
{
	x86_sse_enter(cpu);
	cpu->s.vec[i->reg].q[0] = cpu->s.vec[i->rm].q[1];
	return x86_next(cpu, i);
}

HANDLER(movlhps)
{
	x86_sse_enter(cpu);
	cpu->s.vec[i->reg].q[1] = cpu->s.vec[i->rm].q[0];
	return x86_next(cpu, i);
}

/* --- non-temporal stores of general registers, which neither CR0 nor CR4.OSFXSR forbids --- */

HANDLER(movnti32)
{
	x86_stm32(cpu, i, (uint32_t)cpu->s.gpr[i->reg]);
	return x86_next(cpu, i);
}

HANDLER(movnti64)
{
	x86_stm64(cpu, i, cpu->s.gpr[i->reg]);
	return x86_next(cpu, i);
}

#define ANY(op, pfx, x, m, name)                                                                                       \
	{                                                                                                              \
		X86_MAP_0F, op, 1, pfx, X86_MOD_ANY, 0, 0, 0, X86_D_IGN66, X86_ALL(x), X86_ALL(m), name                \
	}
#define MEM(op, pfx, m, name)                                                                                          \
	{                                                                                                              \
		X86_MAP_0F, op, 1, pfx, X86_MOD_MEM, 0, 0, 0, X86_D_IGN66, {}, X86_ALL(m), name                        \
	}
#define REG(op, pfx, x, name)                                                                                          \
	{                                                                                                              \
		X86_MAP_0F, op, 1, pfx, X86_MOD_REG, 0, 0, 0, X86_D_IGN66, X86_ALL(x), {}, name                        \
	}
static const struct x86_opdef rows[] = {
	ANY(0x10, X86_PFX_NONE, mov_x, mov_load_u, "movups"),
	ANY(0x10, X86_PFX_66, mov_x, mov_load_u, "movupd"),
	ANY(0x11, X86_PFX_NONE, mov_store_x, mov_store_u, "movups"),
	ANY(0x11, X86_PFX_66, mov_store_x, mov_store_u, "movupd"),
	ANY(0x10, X86_PFX_F3, movss_x, movss_load, "movss"),
	ANY(0x11, X86_PFX_F3, movss_store_x, movss_store, "movss"),
	ANY(0x10, X86_PFX_F2, movsd_x, movsd_load, "movsd"),
	ANY(0x11, X86_PFX_F2, movsd_store_x, movsd_store, "movsd"),
	ANY(0x28, X86_PFX_NONE, mov_x, mov_load, "movaps"),
	ANY(0x28, X86_PFX_66, mov_x, mov_load, "movapd"),
	ANY(0x29, X86_PFX_NONE, mov_store_x, mov_store, "movaps"),
	ANY(0x29, X86_PFX_66, mov_store_x, mov_store, "movapd"),
	ANY(0x6f, X86_PFX_66, mov_x, mov_load, "movdqa"),
	ANY(0x7f, X86_PFX_66, mov_store_x, mov_store, "movdqa"),
	ANY(0x6f, X86_PFX_F3, mov_x, mov_load_u, "movdqu"),
	ANY(0x7f, X86_PFX_F3, mov_store_x, mov_store_u, "movdqu"),
	ANY(0x7e, X86_PFX_F3, movq_x, movsd_load, "movq"),
	ANY(0xd6, X86_PFX_66, movq_store_x, movsd_store, "movq"),
	{ X86_MAP_0F,
	  0x6e,
	  1,
	  X86_PFX_66,
	  X86_MOD_ANY,
	  0,
	  0,
	  0,
	  X86_D_IGN66,
	  { NULL, movd_from_gpr32, movd_from_gpr64 },
	  { NULL, movss_load, movsd_load },
	  "movd" },
	{ X86_MAP_0F,
	  0x7e,
	  1,
	  X86_PFX_66,
	  X86_MOD_ANY,
	  0,
	  0,
	  0,
	  X86_D_IGN66,
	  { NULL, movd_to_gpr32, movd_to_gpr64 },
	  { NULL, movss_store, movsd_store },
	  "movd" },
	REG(0x12, X86_PFX_NONE, movhlps, "movhlps"),
	REG(0x16, X86_PFX_NONE, movlhps, "movlhps"),
	MEM(0x12, X86_PFX_NONE, movl_load, "movlps"),
	MEM(0x12, X86_PFX_66, movl_load, "movlpd"),
	MEM(0x13, X86_PFX_NONE, movl_store, "movlps"),
	MEM(0x13, X86_PFX_66, movl_store, "movlpd"),
	MEM(0x16, X86_PFX_NONE, movh_load, "movhps"),
	MEM(0x16, X86_PFX_66, movh_load, "movhpd"),
	MEM(0x17, X86_PFX_NONE, movh_store, "movhps"),
	MEM(0x17, X86_PFX_66, movh_store, "movhpd"),
	MEM(0x2b, X86_PFX_NONE, mov_store, "movntps"),
	MEM(0x2b, X86_PFX_66, mov_store, "movntpd"),
	MEM(0xe7, X86_PFX_66, mov_store, "movntdq"),
	{ X86_MAP_0F, 0xc3, 1, X86_PFX_NONE, X86_MOD_MEM, 0, 0, 0, 0, {}, { movnti32, movnti32, movnti64 }, "movnti" },
};
X86_DEFS(x86_defs_sse_move, rows);
