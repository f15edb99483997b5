/*
 * AVX and AVX2 that only move: loads and stores, lanes to and from general registers, masked moves, gathers, and
 * conversions with general registers. What a VEX instruction writes, it writes up to bit 255. SDM vol. 2.
 */
#include "cpu/x86/host.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)

static unsigned length(const struct x86_insn *i)
{
	return i->flags & X86_I_VEX256 ? 32 : 16;
}

/* Write the low `n` bytes of a register and clear the rest. */
static void put(struct x86_cpu *cpu, unsigned r, const void *from, unsigned n)
{
	union x86_vec v = { 0 };

	memcpy(&v, from, n);
	cpu->s.vec[r] = v;
}

static void put64(struct x86_cpu *cpu, unsigned r, uint64_t lo, uint64_t hi)
{
	cpu->s.vec[r] = (union x86_vec){ .q = { lo, hi } };
}

/* --- whole registers --- */

HANDLER(mov_load_x)
{
	x86_avx_enter(cpu);
	put(cpu, i->reg, &cpu->s.vec[i->rm], length(i));
	return x86_next(cpu, i);
}

HANDLER(mov_store_x)
{
	x86_avx_enter(cpu);
	put(cpu, i->rm, &cpu->s.vec[i->reg], length(i));
	return x86_next(cpu, i);
}

HANDLER(mov_load_u)
{
	union x86_vec v;

	x86_avx_enter(cpu);
	x86_check_halves(cpu, i, length(i), X86_READ);
	x86_load_bytes(cpu, i->seg, x86_ea(cpu, i), &v, length(i));
	put(cpu, i->reg, &v, length(i));
	return x86_next(cpu, i);
}

HANDLER(mov_store_u)
{
	x86_avx_enter(cpu);
	x86_check_halves(cpu, i, length(i), X86_WRITE);
	x86_store_bytes(cpu, i->seg, x86_ea(cpu, i), &cpu->s.vec[i->reg], length(i));
	return x86_next(cpu, i);
}

HANDLER(mov_load_a)
{
	union x86_vec v;

	x86_avx_enter(cpu);
	x86_load_aligned(cpu, i, &v, length(i));
	put(cpu, i->reg, &v, length(i));
	return x86_next(cpu, i);
}

HANDLER(mov_store_a)
{
	x86_avx_enter(cpu);
	x86_store_aligned(cpu, i, &cpu->s.vec[i->reg], length(i));
	return x86_next(cpu, i);
}

/* --- scalars --- */

HANDLER(movss_load)
{
	x86_avx_enter(cpu);
	put64(cpu, i->reg, x86_ldm32(cpu, i), 0);
	return x86_next(cpu, i);
}

HANDLER(movsd_load)
{
	x86_avx_enter(cpu);
	put64(cpu, i->reg, x86_ldm64(cpu, i), 0);
	return x86_next(cpu, i);
}

HANDLER(movss_store)
{
	x86_avx_enter(cpu);
	x86_stm32(cpu, i, cpu->s.vec[i->reg].d[0]);
	return x86_next(cpu, i);
}

HANDLER(movsd_store)
{
	x86_avx_enter(cpu);
	x86_stm64(cpu, i, cpu->s.vec[i->reg].q[0]);
	return x86_next(cpu, i);
}

/* `to` = vvvv with its lowest lane from `from`. */
static void merge32(struct x86_cpu *cpu, unsigned to, unsigned vvvv, unsigned from)
{
	const union x86_vec *v = &cpu->s.vec[vvvv];

	put64(cpu, to, (v->q[0] & ~0xffffffffull) | cpu->s.vec[from].d[0], v->q[1]);
}

HANDLER(movss_x)
{
	x86_avx_enter(cpu);
	merge32(cpu, i->reg, i->vreg, i->rm);
	return x86_next(cpu, i);
}

HANDLER(movss_store_x)
{
	x86_avx_enter(cpu);
	merge32(cpu, i->rm, i->vreg, i->reg);
	return x86_next(cpu, i);
}

HANDLER(movsd_x)
{
	x86_avx_enter(cpu);
	put64(cpu, i->reg, cpu->s.vec[i->rm].q[0], cpu->s.vec[i->vreg].q[1]);
	return x86_next(cpu, i);
}

HANDLER(movsd_store_x)
{
	x86_avx_enter(cpu);
	put64(cpu, i->rm, cpu->s.vec[i->reg].q[0], cpu->s.vec[i->vreg].q[1]);
	return x86_next(cpu, i);
}

HANDLER(movq_x)
{
	x86_avx_enter(cpu);
	put64(cpu, i->reg, cpu->s.vec[i->rm].q[0], 0);
	return x86_next(cpu, i);
}

HANDLER(movq_store_x)
{
	x86_avx_enter(cpu);
	put64(cpu, i->rm, cpu->s.vec[i->reg].q[0], 0);
	return x86_next(cpu, i);
}

/* --- halves --- */

HANDLER(movl_load)
{
	x86_avx_enter(cpu);
	put64(cpu, i->reg, x86_ldm64(cpu, i), cpu->s.vec[i->vreg].q[1]);
	return x86_next(cpu, i);
}

HANDLER(movh_load)
{
	x86_avx_enter(cpu);
	put64(cpu, i->reg, cpu->s.vec[i->vreg].q[0], x86_ldm64(cpu, i));
	return x86_next(cpu, i);
}

HANDLER(movh_store)
{
	x86_avx_enter(cpu);
	x86_stm64(cpu, i, cpu->s.vec[i->reg].q[1]);
	return x86_next(cpu, i);
}

HANDLER(movhlps)
{
	x86_avx_enter(cpu);
	put64(cpu, i->reg, cpu->s.vec[i->rm].q[1], cpu->s.vec[i->vreg].q[1]);
	return x86_next(cpu, i);
}

HANDLER(movlhps)
{
	x86_avx_enter(cpu);
	put64(cpu, i->reg, cpu->s.vec[i->vreg].q[0], cpu->s.vec[i->rm].q[0]);
	return x86_next(cpu, i);
}

HANDLER(extract128)
{
	const uint64_t *q;

	x86_avx_enter(cpu);
	q = &cpu->s.vec[i->reg].q[i->imm & 1 ? 2 : 0];
	if (i->flags & X86_I_REG)
		put64(cpu, i->rm, q[0], q[1]);
	else
		x86_store_bytes(cpu, i->seg, x86_ea(cpu, i), q, 16);
	return x86_next(cpu, i);
}

/* --- VZEROUPPER, VZEROALL: the registers that the mode has --- */

HANDLER(zero)
{
	unsigned n = i->flags & X86_I_CODE64 ? 16 : 8, keep = i->flags & X86_I_VEX256 ? 0 : 16;

	x86_avx_enter(cpu);
	while (n--)
		memset(cpu->s.vec[n].b + keep, 0, 32 - keep);
	return x86_next(cpu, i);
}

/* --- masks --- */

#define MASK(name, lane, per16)                                                                                        \
	HANDLER(name)                                                                                                  \
	{                                                                                                              \
		uint32_t m = 0;                                                                                        \
                                                                                                                       \
		x86_avx_enter(cpu);                                                                                    \
		for (unsigned n = 0; n < per16 * length(i) / 16; n++)                                                  \
			m |= (uint32_t)(cpu->s.vec[i->rm].lane[n] >> (128 / per16 - 1)) << n;                          \
		cpu->s.gpr[i->reg] = m;                                                                                \
		return x86_next(cpu, i);                                                                               \
	}
MASK(pmovmskb, b, 16)
MASK(movmskps, d, 4)
MASK(movmskpd, q, 2)

/* Lanes are read and written without regard to EFLAGS.AC: in pieces that are always aligned while that is on. The
 * segment has to hold the whole lane before a page is looked at. */
static unsigned piece(const struct x86_cpu *cpu, unsigned size)
{
	return cpu->align_check ? 1 : size;
}

static uint64_t load_lane(struct x86_cpu *cpu, unsigned seg, uint64_t ea, unsigned size)
{
	uint64_t v = 0;

	x86_linear_bounded(cpu, seg, ea, size, X86_READ);
	for (unsigned at = 0; at < size; at += piece(cpu, size))
		x86_load_bytes(cpu, seg, ea + at, (char *)&v + at, piece(cpu, size));
	return v;
}

static void store_lane(struct x86_cpu *cpu, unsigned seg, uint64_t ea, const void *v, unsigned size)
{
	for (unsigned at = 0; at < size; at += piece(cpu, size))
		x86_store_bytes(cpu, seg, ea + at, (const char *)v + at, piece(cpu, size));
}

static void probe_lane(struct x86_cpu *cpu, unsigned seg, uint64_t ea, unsigned size)
{
	x86_linear_bounded(cpu, seg, ea, size, X86_WRITE);
	for (unsigned at = 0; at < size; at += piece(cpu, size))
		x86_probe_write(cpu, seg, ea + at, piece(cpu, size));
}

/* The lanes of `size` bytes whose mask bit in vvvv is set. */
static uint32_t lanes_of(const struct x86_cpu *cpu, const struct x86_insn *i, unsigned size)
{
	uint32_t set = 0;

	for (unsigned n = 0; n < length(i) / size; n++)
		set |= (uint32_t)(cpu->s.vec[i->vreg].b[n * size + size - 1] >> 7) << n;
	return set;
}

/* Offsets of lanes do not wrap: one beyond 4 GiB is outside of any segment. */
static uint64_t lane_address(struct x86_cpu *cpu, const struct x86_insn *i, unsigned at, unsigned size,
			     enum x86_access a)
{
	uint64_t ea = x86_ea(cpu, i) + at;

	if (cpu->code_bits != 64 && ea + size > 1ull << 32)
		x86_linear_bounded(cpu, i->seg, ~0u, 2, a); /* raises what the segment does */
	return ea;
}

/*
 * Lanes whose mask bit is clear are neither read nor written and cannot fault. The others are done from the lowest,
 * after all have been shown to be writable.
 */
static const struct x86_insn *mask_load(struct x86_cpu *cpu, const struct x86_insn *i, unsigned size)
{
	union x86_vec v = { 0 };
	uint32_t lanes;

	x86_avx_enter(cpu);
	lanes = lanes_of(cpu, i, size);
	for (unsigned n = 0; n < 32 / size; n++) {
		uint64_t lane = lanes >> n & 1
					? load_lane(cpu, i->seg, lane_address(cpu, i, n * size, size, X86_READ), size)
					: 0;

		memcpy(v.b + n * size, &lane, size);
	}
	cpu->s.vec[i->reg] = v;
	return x86_next(cpu, i);
}

static const struct x86_insn *mask_store(struct x86_cpu *cpu, const struct x86_insn *i, unsigned size)
{
	uint32_t lanes;

	x86_avx_enter(cpu);
	lanes = lanes_of(cpu, i, size);
	for (unsigned n = 0; n < 32 / size; n++)
		if (lanes >> n & 1)
			probe_lane(cpu, i->seg, lane_address(cpu, i, n * size, size, X86_WRITE), size);
	for (unsigned n = 0; n < 32 / size; n++)
		if (lanes >> n & 1)
			store_lane(cpu, i->seg, x86_ea(cpu, i) + n * size, cpu->s.vec[i->reg].b + n * size, size);
	return x86_next(cpu, i);
}

HANDLER(mask_load32)
{
	return mask_load(cpu, i, 4);
}

HANDLER(mask_load64)
{
	return mask_load(cpu, i, 8);
}

HANDLER(mask_store32)
{
	return mask_store(cpu, i, 4);
}

HANDLER(mask_store64)
{
	return mask_store(cpu, i, 8);
}

/* DS:rDI, or an override. */
HANDLER(maskmovdqu)
{
	uint32_t mask = 0;

	x86_avx_enter(cpu);
	for (unsigned n = 0; n < 16; n++)
		mask |= (uint32_t)(cpu->s.vec[i->rm].b[n] >> 7) << n;
	x86_store_masked(cpu, i->seg, cpu->s.gpr[X86_RDI] << i->ashift >> i->ashift, cpu->s.vec[i->reg].b, 16, mask);
	return x86_next(cpu, i);
}

/* --- gathers --- */

/*
 * Each lane with its mask bit set is loaded and its mask cleared, from the lowest, so that a fault in the middle
 * leaves what was done and can be taken up again. #UD if two of the three registers are one. The shape: bytes
 * of an index and of an element.
 */
static void gather(struct x86_cpu *cpu, const struct x86_insn *i, unsigned index_size, unsigned size)
{
	union x86_vec *dst = &cpu->s.vec[i->reg], *mask = &cpu->s.vec[i->vreg];
	const union x86_vec index = cpu->s.vec[i->index];
	unsigned lanes = length(i) / (index_size > size ? index_size : size);
	uint64_t base;

	x86_avx_enter(cpu);
	if (i->reg == i->vreg || i->reg == i->index || i->vreg == i->index)
		x86_ud(cpu);
	base = cpu->s.gpr[i->base] + i->disp;
	for (unsigned n = 0; n < lanes; n++) {
		int64_t at = index_size == 4 ? (int64_t)(int32_t)index.d[n] : (int64_t)index.q[n];
		uint64_t ea = (base + ((uint64_t)at << i->scale)) << i->ashift >> i->ashift;

		if (size == 4) {
			if (mask->d[n] >> 31)
				dst->d[n] = (uint32_t)load_lane(cpu, i->seg, ea, 4);
			mask->d[n] = 0;
		} else {
			if (mask->q[n] >> 63)
				dst->q[n] = load_lane(cpu, i->seg, ea, 8);
			mask->q[n] = 0;
		}
	}
	memset(dst->b + lanes * size, 0, 32 - lanes * size);
	memset(mask, 0, sizeof(*mask));
}

#define GATHER(name, index_size, size)                                                                                 \
	HANDLER(name)                                                                                                  \
	{                                                                                                              \
		gather(cpu, i, index_size, size);                                                                      \
		return x86_next(cpu, i);                                                                               \
	}
GATHER(gather_dd, 4, 4)
GATHER(gather_dq, 4, 8)
GATHER(gather_qd, 8, 4)
GATHER(gather_qq, 8, 8)

/* --- general registers --- */

HANDLER(movd_from)
{
	x86_avx_enter(cpu);
	put64(cpu, i->reg, i->opsize == 8 ? cpu->s.gpr[i->rm] : (uint32_t)cpu->s.gpr[i->rm], 0);
	return x86_next(cpu, i);
}

HANDLER(movd_load)
{
	x86_avx_enter(cpu);
	put64(cpu, i->reg, i->opsize == 8 ? x86_ldm64(cpu, i) : x86_ldm32(cpu, i), 0);
	return x86_next(cpu, i);
}

HANDLER(movd_to)
{
	x86_avx_enter(cpu);
	cpu->s.gpr[i->rm] = i->opsize == 8 ? cpu->s.vec[i->reg].q[0] : cpu->s.vec[i->reg].d[0];
	return x86_next(cpu, i);
}

HANDLER(movd_store)
{
	x86_avx_enter(cpu);
	if (i->opsize == 8)
		x86_stm64(cpu, i, cpu->s.vec[i->reg].q[0]);
	else
		x86_stm32(cpu, i, cpu->s.vec[i->reg].d[0]);
	return x86_next(cpu, i);
}

/*
 * One lane to or from a general register or memory, with and without VEX: the SSE4.1 forms enter by SSE and insert
 * into the register itself.
 */
#define EXTRACT(name, enter, lane, mask, store)                                                                        \
	HANDLER(name##_x)                                                                                              \
	{                                                                                                              \
		enter(cpu);                                                                                            \
		cpu->s.gpr[i->rm] = cpu->s.vec[i->reg].lane[i->imm & (mask)];                                          \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_m)                                                                                              \
	{                                                                                                              \
		enter(cpu);                                                                                            \
		store(cpu, i, cpu->s.vec[i->reg].lane[i->imm & (mask)]);                                               \
		return x86_next(cpu, i);                                                                               \
	}
#define EXTRACTS(prefix, enter)                                                                                        \
	EXTRACT(prefix##pextrb, enter, b, 15, x86_stm8)                                                                \
	EXTRACT(prefix##pextrw, enter, w, 7, x86_stm16)                                                                \
	EXTRACT(prefix##pextrd, enter, d, 3, x86_stm32)                                                                \
	EXTRACT(prefix##pextrq, enter, q, 1, x86_stm64)
EXTRACTS(sse_, x86_sse_enter)
EXTRACTS(avx_, x86_avx_enter)

/* PEXTRW of SSE2: reg is the general register. */
HANDLER(avx_pextrw_reg)
{
	x86_avx_enter(cpu);
	cpu->s.gpr[i->reg] = cpu->s.vec[i->rm].w[i->imm & 7];
	return x86_next(cpu, i);
}

#define INSERT_SSE(name, lane, mask, reg_value, load)                                                                  \
	HANDLER(sse_##name##_x)                                                                                        \
	{                                                                                                              \
		x86_sse_enter(cpu);                                                                                    \
		cpu->s.vec[i->reg].lane[i->imm & (mask)] = reg_value(cpu, i->rm);                                      \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(sse_##name##_m)                                                                                        \
	{                                                                                                              \
		x86_sse_enter(cpu);                                                                                    \
		cpu->s.vec[i->reg].lane[i->imm & (mask)] = load(cpu, i);                                               \
		return x86_next(cpu, i);                                                                               \
	}
#define INSERT_AVX(name, lane, mask, reg_value, load)                                                                  \
	HANDLER(avx_##name##_x)                                                                                        \
	{                                                                                                              \
		union x86_vec v;                                                                                       \
                                                                                                                       \
		x86_avx_enter(cpu);                                                                                    \
		v = cpu->s.vec[i->vreg];                                                                               \
		v.lane[i->imm & (mask)] = reg_value(cpu, i->rm);                                                       \
		put(cpu, i->reg, &v, 16);                                                                              \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(avx_##name##_m)                                                                                        \
	{                                                                                                              \
		union x86_vec v;                                                                                       \
                                                                                                                       \
		x86_avx_enter(cpu);                                                                                    \
		v = cpu->s.vec[i->vreg];                                                                               \
		v.lane[i->imm & (mask)] = load(cpu, i);                                                                \
		put(cpu, i->reg, &v, 16);                                                                              \
		return x86_next(cpu, i);                                                                               \
	}
static uint8_t low_byte(const struct x86_cpu *cpu, unsigned r)
{
	return (uint8_t)cpu->s.gpr[r];
}
INSERT_SSE(pinsrb, b, 15, low_byte, x86_ldm8)
INSERT_SSE(pinsrd, d, 3, x86_get32, x86_ldm32)
INSERT_SSE(pinsrq, q, 1, x86_get64, x86_ldm64)
INSERT_AVX(pinsrb, b, 15, low_byte, x86_ldm8)
INSERT_AVX(pinsrw, w, 7, x86_get16, x86_ldm16)
INSERT_AVX(pinsrd, d, 3, x86_get32, x86_ldm32)
INSERT_AVX(pinsrq, q, 1, x86_get64, x86_ldm64)

/* --- conversions with general registers --- */

#define FROM_GPR(name, insn, type)                                                                                     \
	HANDLER(name)                                                                                                  \
	{                                                                                                              \
		union x86_vec a;                                                                                       \
		type v;                                                                                                \
                                                                                                                       \
		x86_avx_enter(cpu);                                                                                    \
		v = (type)(i->flags & X86_I_REG ? cpu->s.gpr[i->rm]                                                    \
			   : sizeof(type) == 8	? x86_ldm64(cpu, i)                                                    \
						: x86_ldm32(cpu, i));                                                   \
		a = cpu->s.vec[i->vreg];                                                                               \
		x86_mxcsr_begin(cpu);                                                                                  \
		__asm__ volatile("movdqu %[a], %%xmm1\n\t" insn " %[v], %%xmm1\n\tmovdqu %%xmm1, %[a]"                 \
				 : [a] "+m"(*(uint8_t(*)[16])a.b)                                                      \
				 : [v] "r"(v)                                                                          \
				 : "xmm1");                                                                            \
		x86_mxcsr_end(cpu);                                                                                    \
		put(cpu, i->reg, &a, 16);                                                                              \
		return x86_next(cpu, i);                                                                               \
	}
FROM_GPR(cvtsi2ss32, "cvtsi2ssl", uint32_t)
FROM_GPR(cvtsi2ss64, "cvtsi2ssq", uint64_t)
FROM_GPR(cvtsi2sd32, "cvtsi2sdl", uint32_t)
FROM_GPR(cvtsi2sd64, "cvtsi2sdq", uint64_t)

#define TO_GPR(name, insn, type, bits)                                                                                 \
	HANDLER(name)                                                                                                  \
	{                                                                                                              \
		uint64_t b;                                                                                            \
		type v;                                                                                                \
                                                                                                                       \
		x86_avx_enter(cpu);                                                                                    \
		b = i->flags & X86_I_REG ? cpu->s.vec[i->rm].q[0] : x86_ldm##bits(cpu, i);                             \
		x86_mxcsr_begin(cpu);                                                                                  \
		__asm__ volatile("movq %[b], %%xmm1\n\t" insn " %%xmm1, %[v]" : [v] "=r"(v) : [b] "m"(b) : "xmm1");    \
		x86_mxcsr_end(cpu);                                                                                    \
		cpu->s.gpr[i->reg] = v;                                                                                \
		return x86_next(cpu, i);                                                                               \
	}
#define TO_GPRS(name, bits) TO_GPR(name##_32, #name, uint32_t, bits) TO_GPR(name##_64, #name, uint64_t, bits)
TO_GPRS(cvttss2si, 32)
TO_GPRS(cvtss2si, 32)
TO_GPRS(cvttsd2si, 64)
TO_GPRS(cvtsd2si, 64)

/* --- MXCSR --- */

HANDLER(ldmxcsr)
{
	x86_avx_enter(cpu);
	return x86_ldmxcsr(cpu, i);
}

HANDLER(stmxcsr)
{
	x86_avx_enter(cpu);
	return x86_stmxcsr(cpu, i);
}

/* --- rows --- */

#define ROW(map_, pfx_, op_, mod_, flags_, imm_, x, m, name_)                                                          \
	{                                                                                                              \
		.map = X86_MAP_##map_, .op = op_, .count = 1, .pfx = X86_PFX_##pfx_, .mod = X86_MOD_##mod_,            \
		.imm = imm_, .flags = flags_, .reg = x, .mem = m, .name = name_                                        \
	}
#define MOVE(pfx, op, x, m, name)	  ROW(VEX_0F, pfx, op, ANY, X86_D_NOV, 0, X86_ALL(x), X86_ALL(m), name)
#define MEM(pfx, op, flags, m, name)	  ROW(VEX_0F, pfx, op, MEM, flags, 0, {}, X86_ALL(m), name)
#define REG(pfx, op, flags, imm, x, name) ROW(VEX_0F, pfx, op, REG, flags, imm, X86_ALL(x), {}, name)
/* Scalars and lanes: not 256 bits; LIG ones say so. */
#define X86_D_LIG 0
#define GPR	  (X86_D_VEX_GPR | X86_D_NOV)
#define SIZED(a32, a64)                                                                                                \
	{                                                                                                              \
		NULL, a32, a64                                                                                         \
	}
#define MASKED_ROW(op, flags, m, name) ROW(VEX_0F38, 66, op, MEM, flags, 0, {}, X86_ALL(m), name)
/* In 32-bit code W is not looked at. */
#define EXTRACT_ROW(map, op, flags, name)                                                                              \
	ROW(map, 66, op, ANY, flags, X86_IMM_U8, X86_ALL(name##_x), X86_ALL(name##_m), #name)

static const struct x86_opdef avx_rows[] = {
	MOVE(NONE, 0x10, mov_load_x, mov_load_u, "vmovups"),
	MOVE(66, 0x10, mov_load_x, mov_load_u, "vmovupd"),
	MOVE(NONE, 0x11, mov_store_x, mov_store_u, "vmovups"),
	MOVE(66, 0x11, mov_store_x, mov_store_u, "vmovupd"),
	MOVE(NONE, 0x28, mov_load_x, mov_load_a, "vmovaps"),
	MOVE(66, 0x28, mov_load_x, mov_load_a, "vmovapd"),
	MOVE(NONE, 0x29, mov_store_x, mov_store_a, "vmovaps"),
	MOVE(66, 0x29, mov_store_x, mov_store_a, "vmovapd"),
	MOVE(66, 0x6f, mov_load_x, mov_load_a, "vmovdqa"),
	MOVE(F3, 0x6f, mov_load_x, mov_load_u, "vmovdqu"),
	MOVE(66, 0x7f, mov_store_x, mov_store_a, "vmovdqa"),
	MOVE(F3, 0x7f, mov_store_x, mov_store_u, "vmovdqu"),
	MEM(NONE, 0x2b, X86_D_NOV, mov_store_a, "vmovntps"),
	MEM(66, 0x2b, X86_D_NOV, mov_store_a, "vmovntpd"),
	MEM(66, 0xe7, X86_D_NOV, mov_store_a, "vmovntdq"),
	MEM(F2, 0xf0, X86_D_NOV, mov_load_u, "vlddqu"),
	ROW(VEX_0F38, 66, 0x2a, MEM, X86_D_NOV, 0, {}, X86_ALL(mov_load_a), "vmovntdqa"),
	MEM(F3, 0x10, X86_D_LIG | X86_D_NOV, movss_load, "vmovss"),
	MEM(F2, 0x10, X86_D_LIG | X86_D_NOV, movsd_load, "vmovsd"),
	MEM(F3, 0x11, X86_D_LIG | X86_D_NOV, movss_store, "vmovss"),
	MEM(F2, 0x11, X86_D_LIG | X86_D_NOV, movsd_store, "vmovsd"),
	REG(F3, 0x10, X86_D_LIG, 0, movss_x, "vmovss"),
	REG(F2, 0x10, X86_D_LIG, 0, movsd_x, "vmovsd"),
	REG(F3, 0x11, X86_D_LIG, 0, movss_store_x, "vmovss"),
	REG(F2, 0x11, X86_D_LIG, 0, movsd_store_x, "vmovsd"),
	MEM(NONE, 0x12, X86_D_L0, movl_load, "vmovlps"),
	MEM(66, 0x12, X86_D_L0, movl_load, "vmovlpd"),
	MEM(NONE, 0x13, X86_D_L0 | X86_D_NOV, movsd_store, "vmovlps"),
	MEM(66, 0x13, X86_D_L0 | X86_D_NOV, movsd_store, "vmovlpd"),
	MEM(NONE, 0x16, X86_D_L0, movh_load, "vmovhps"),
	MEM(66, 0x16, X86_D_L0, movh_load, "vmovhpd"),
	MEM(NONE, 0x17, X86_D_L0 | X86_D_NOV, movh_store, "vmovhps"),
	MEM(66, 0x17, X86_D_L0 | X86_D_NOV, movh_store, "vmovhpd"),
	REG(NONE, 0x12, X86_D_L0, 0, movhlps, "vmovhlps"),
	REG(NONE, 0x16, X86_D_L0, 0, movlhps, "vmovlhps"),
	ROW(VEX_0F, F3, 0x7e, ANY, X86_D_L0 | X86_D_NOV, 0, X86_ALL(movq_x), X86_ALL(movsd_load), "vmovq"),
	ROW(VEX_0F, 66, 0xd6, ANY, X86_D_L0 | X86_D_NOV, 0, X86_ALL(movq_store_x), X86_ALL(movsd_store), "vmovq"),
	ROW(VEX_0F, 66, 0x6e, ANY, X86_D_L0 | GPR, 0, X86_ALL(movd_from), X86_ALL(movd_load), "vmovd"),
	ROW(VEX_0F, 66, 0x7e, ANY, X86_D_L0 | GPR, 0, X86_ALL(movd_to), X86_ALL(movd_store), "vmovd"),
	ROW(VEX_0F, NONE, 0x77, NONE, X86_D_NOV, 0, X86_ALL(zero), {}, "vzero"),
	REG(NONE, 0x50, X86_D_NOV, 0, movmskps, "vmovmskps"),
	REG(66, 0x50, X86_D_NOV, 0, movmskpd, "vmovmskpd"),
	REG(66, 0xd7, X86_D_L0 | X86_D_NOV, 0, pmovmskb, "vpmovmskb"),
	REG(66, 0xf7, X86_D_L0 | X86_D_NOV, 0, maskmovdqu, "vmaskmovdqu"),
	MASKED_ROW(0x2c, X86_D_W0, mask_load32, "vmaskmovps"),
	MASKED_ROW(0x2d, X86_D_W0, mask_load64, "vmaskmovpd"),
	MASKED_ROW(0x2e, X86_D_W0, mask_store32, "vmaskmovps"),
	MASKED_ROW(0x2f, X86_D_W0, mask_store64, "vmaskmovpd"),
	ROW(VEX_0F3A, 66, 0x19, ANY, X86_D_L1 | X86_D_W0 | X86_D_NOV, X86_IMM_U8, X86_ALL(extract128), {},
	    "vextractf128"),
	EXTRACT_ROW(VEX_0F3A, 0x14, X86_D_L0 | X86_D_NOV, avx_pextrb),
	EXTRACT_ROW(VEX_0F3A, 0x15, X86_D_L0 | X86_D_NOV, avx_pextrw),
	ROW(VEX_0F3A, 66, 0x16, ANY, X86_D_L0 | X86_D_W0 | GPR, X86_IMM_U8, X86_ALL(avx_pextrd_x),
	    X86_ALL(avx_pextrd_m), "vpextrd"),
	/* Outside of 64-bit mode AMD's processors refuse W = 1 here. */
	ROW(VEX_0F3A, 66, 0x16, ANY, X86_D_L0 | X86_D_W1 | X86_D_ONLY64 | GPR, X86_IMM_U8, X86_ALL(avx_pextrq_x),
	    X86_ALL(avx_pextrq_m), "vpextrq"),
	ROW(VEX_0F3A, 66, 0x17, ANY, X86_D_L0 | X86_D_NOV, X86_IMM_U8, X86_ALL(avx_pextrd_x), X86_ALL(avx_pextrd_m),
	    "vextractps"),
	REG(66, 0xc5, X86_D_L0 | X86_D_NOV, X86_IMM_U8, avx_pextrw_reg, "vpextrw"),
	EXTRACT_ROW(VEX_0F3A, 0x20, X86_D_L0, avx_pinsrb),
	EXTRACT_ROW(VEX_0F, 0xc4, X86_D_L0, avx_pinsrw),
	ROW(VEX_0F3A, 66, 0x22, ANY, X86_D_L0 | X86_D_W0 | X86_D_VEX_GPR, X86_IMM_U8, X86_ALL(avx_pinsrd_x),
	    X86_ALL(avx_pinsrd_m), "vpinsrd"),
	ROW(VEX_0F3A, 66, 0x22, ANY, X86_D_L0 | X86_D_W1 | X86_D_ONLY64 | X86_D_VEX_GPR, X86_IMM_U8,
	    X86_ALL(avx_pinsrq_x), X86_ALL(avx_pinsrq_m), "vpinsrq"),
	ROW(VEX_0F, F3, 0x2a, ANY, X86_D_VEX_GPR, 0, SIZED(cvtsi2ss32, cvtsi2ss64), {}, "vcvtsi2ss"),
	ROW(VEX_0F, F2, 0x2a, ANY, X86_D_VEX_GPR, 0, SIZED(cvtsi2sd32, cvtsi2sd64), {}, "vcvtsi2sd"),
	ROW(VEX_0F, F3, 0x2c, ANY, GPR, 0, SIZED(cvttss2si_32, cvttss2si_64), {}, "vcvttss2si"),
	ROW(VEX_0F, F2, 0x2c, ANY, GPR, 0, SIZED(cvttsd2si_32, cvttsd2si_64), {}, "vcvttsd2si"),
	ROW(VEX_0F, F3, 0x2d, ANY, GPR, 0, SIZED(cvtss2si_32, cvtss2si_64), {}, "vcvtss2si"),
	ROW(VEX_0F, F2, 0x2d, ANY, GPR, 0, SIZED(cvtsd2si_32, cvtsd2si_64), {}, "vcvtsd2si"),
	{ .map = X86_MAP_VEX_0F,
	  .op = 0xae,
	  .count = 1,
	  .pfx = X86_PFX_NONE,
	  .mod = X86_MOD_MEM,
	  .ext = 1 + 2,
	  .flags = X86_D_L0 | X86_D_NOV,
	  .mem = X86_ALL(ldmxcsr),
	  .name = "vldmxcsr" },
	{ .map = X86_MAP_VEX_0F,
	  .op = 0xae,
	  .count = 1,
	  .pfx = X86_PFX_NONE,
	  .mod = X86_MOD_MEM,
	  .ext = 1 + 3,
	  .flags = X86_D_L0 | X86_D_NOV,
	  .mem = X86_ALL(stmxcsr),
	  .name = "vstmxcsr" },
};
X86_DEFS_OF(x86_defs_avx_move, avx_rows, X86_F_AVX);

#define GATHER_ROW(op, w, m, name) ROW(VEX_0F38, 66, op, MEM, w | X86_D_VSIB, 0, {}, X86_ALL(m), name)
static const struct x86_opdef avx2_rows[] = {
	REG(66, 0xd7, X86_D_L1 | X86_D_NOV, 0, pmovmskb, "vpmovmskb"),
	MASKED_ROW(0x8c, X86_D_W0, mask_load32, "vpmaskmovd"),
	MASKED_ROW(0x8c, X86_D_W1, mask_load64, "vpmaskmovq"),
	MASKED_ROW(0x8e, X86_D_W0, mask_store32, "vpmaskmovd"),
	MASKED_ROW(0x8e, X86_D_W1, mask_store64, "vpmaskmovq"),
	ROW(VEX_0F3A, 66, 0x39, ANY, X86_D_L1 | X86_D_W0 | X86_D_NOV, X86_IMM_U8, X86_ALL(extract128), {},
	    "vextracti128"),
	GATHER_ROW(0x90, X86_D_W0, gather_dd, "vpgatherdd"),
	GATHER_ROW(0x90, X86_D_W1, gather_dq, "vpgatherdq"),
	GATHER_ROW(0x91, X86_D_W0, gather_qd, "vpgatherqd"),
	GATHER_ROW(0x91, X86_D_W1, gather_qq, "vpgatherqq"),
	GATHER_ROW(0x92, X86_D_W0, gather_dd, "vgatherdps"),
	GATHER_ROW(0x92, X86_D_W1, gather_dq, "vgatherdpd"),
	GATHER_ROW(0x93, X86_D_W0, gather_qd, "vgatherqps"),
	GATHER_ROW(0x93, X86_D_W1, gather_qq, "vgatherqpd"),
};
X86_DEFS_OF(x86_defs_avx2_move, avx2_rows, X86_F_AVX2);

#define SSE(op, name) ROW(0F3A, 66, op, ANY, X86_D_IGN66, X86_IMM_U8, X86_ALL(name##_x), X86_ALL(name##_m), #name)
static const struct x86_opdef sse41_rows[] = {
	SSE(0x14, sse_pextrb),
	SSE(0x15, sse_pextrw),
	ROW(0F3A, 66, 0x16, ANY, X86_D_IGN66, X86_IMM_U8, SIZED(sse_pextrd_x, sse_pextrq_x),
	    SIZED(sse_pextrd_m, sse_pextrq_m), "pextrd"),
	ROW(0F3A, 66, 0x17, ANY, X86_D_IGN66, X86_IMM_U8, X86_ALL(sse_pextrd_x), X86_ALL(sse_pextrd_m), "extractps"),
	SSE(0x20, sse_pinsrb),
	ROW(0F3A, 66, 0x22, ANY, X86_D_IGN66, X86_IMM_U8, SIZED(sse_pinsrd_x, sse_pinsrq_x),
	    SIZED(sse_pinsrd_m, sse_pinsrq_m), "pinsrd"),
};
X86_DEFS_OF(x86_defs_sse41_move, sse41_rows, X86_F_SSE41);
