/*
 * 128-bit vectors as the SSE and MMX files see them, and the packed integer operations that both
 * instruction sets have: each is one function on 128 bits, and MMX uses the low half. Pure; any host.
 */
#ifndef VIREO_CPU_X86_VEC_H
#define VIREO_CPU_X86_VEC_H

#include <string.h>

#include "cpu/x86/template.h"
#include "cpu/x86/vecops.h"

typedef uint8_t vec_u8 __attribute__((vector_size(16)));
typedef int8_t vec_i8 __attribute__((vector_size(16)));
typedef uint16_t vec_u16 __attribute__((vector_size(16)));
typedef int16_t vec_i16 __attribute__((vector_size(16)));
typedef uint32_t vec_u32 __attribute__((vector_size(16)));
typedef int32_t vec_i32 __attribute__((vector_size(16)));
typedef uint64_t vec_u64 __attribute__((vector_size(16)));

union vec {
	vec_u8 u8;
	vec_i8 i8;
	vec_u16 u16;
	vec_i16 i16;
	vec_u32 u32;
	vec_i32 i32;
	vec_u64 u64;
	uint8_t b[16];
	int8_t sb[16];
	uint16_t w[8];
	int16_t sw[8];
	uint32_t d[4];
	int32_t sd[4];
	uint64_t q[2];
};

static inline union vec vec_get(const struct x86_cpu *cpu, unsigned r)
{
	union vec v;

	memcpy(&v, cpu->s.vec[r].b, 16);
	return v;
}

static inline void vec_put(struct x86_cpu *cpu, unsigned r, union vec v)
{
	memcpy(cpu->s.vec[r].b, &v, 16);
}

/* The memory operand of 16 bytes: aligned, or #GP(0). */
static inline union vec vec_load(struct x86_cpu *cpu, const struct x86_insn *i)
{
	union vec v;

	x86_load_aligned(cpu, i, &v, 16);
	return v;
}

static inline union vec vec_load_u(struct x86_cpu *cpu, const struct x86_insn *i)
{
	union vec v;

	x86_load_bytes(cpu, i->seg, x86_ea(cpu, i), &v, 16);
	return v;
}

static inline union vec vec_low64(uint64_t q)
{
	return (union vec){ .q = { q, 0 } };
}

/* --- saturation --- */
static inline int32_t sat(int32_t v, int32_t lo, int32_t hi)
{
	return v < lo ? lo : v > hi ? hi : v;
}

#define LANES(n, dst, expr)                                                                                            \
	do {                                                                                                           \
		for (unsigned k = 0; k < (n); k++)                                                                     \
			r.dst[k] = (expr);                                                                             \
	} while (0)
#define SHIFT_COUNT(limit) (b.q[0] < (limit) ? (unsigned)b.q[0] : (limit))

/*
 * name, opcode after 0F, body that sets `r` from `a` (destination) and `b` (source). All of them are both MMX and
 * SSE2 instructions; pack and unpack differ in how MMX uses them.
 */
#define VEC_OPS(X)                                                                                                     \
	X(pcmpgtb, 0x64, r.i8 = a.i8 > b.i8)                                                                           \
	X(pcmpgtw, 0x65, r.i16 = a.i16 > b.i16)                                                                        \
	X(pcmpgtd, 0x66, r.i32 = a.i32 > b.i32)                                                                        \
	X(pcmpeqb, 0x74, r.i8 = a.i8 == b.i8)                                                                          \
	X(pcmpeqw, 0x75, r.i16 = a.i16 == b.i16)                                                                       \
	X(pcmpeqd, 0x76, r.i32 = a.i32 == b.i32)                                                                       \
	X(psrlw, 0xd1, LANES(8, w, b.q[0] < 16 ? (uint16_t)(a.w[k] >> b.q[0]) : 0))                                    \
	X(psrld, 0xd2, LANES(4, d, b.q[0] < 32 ? a.d[k] >> b.q[0] : 0))                                                \
	X(psrlq, 0xd3, LANES(2, q, b.q[0] < 64 ? a.q[k] >> b.q[0] : 0))                                                \
	X(psraw, 0xe1, LANES(8, sw, (int16_t)(a.sw[k] >> SHIFT_COUNT(15))))                                            \
	X(psrad, 0xe2, LANES(4, sd, a.sd[k] >> SHIFT_COUNT(31)))                                                       \
	X(psllw, 0xf1, LANES(8, w, b.q[0] < 16 ? (uint16_t)(a.w[k] << b.q[0]) : 0))                                    \
	X(pslld, 0xf2, LANES(4, d, b.q[0] < 32 ? a.d[k] << b.q[0] : 0))                                                \
	X(psllq, 0xf3, LANES(2, q, b.q[0] < 64 ? a.q[k] << b.q[0] : 0))                                                \
	X(paddb, 0xfc, r.u8 = a.u8 + b.u8)                                                                             \
	X(paddw, 0xfd, r.u16 = a.u16 + b.u16)                                                                          \
	X(paddd, 0xfe, r.u32 = a.u32 + b.u32)                                                                          \
	X(paddq, 0xd4, r.u64 = a.u64 + b.u64)                                                                          \
	X(psubb, 0xf8, r.u8 = a.u8 - b.u8)                                                                             \
	X(psubw, 0xf9, r.u16 = a.u16 - b.u16)                                                                          \
	X(psubd, 0xfa, r.u32 = a.u32 - b.u32)                                                                          \
	X(psubq, 0xfb, r.u64 = a.u64 - b.u64)                                                                          \
	X(psubusb, 0xd8, LANES(16, b, (uint8_t)sat(a.b[k] - b.b[k], 0, 255)))                                          \
	X(psubusw, 0xd9, LANES(8, w, (uint16_t)sat(a.w[k] - b.w[k], 0, 65535)))                                        \
	X(paddusb, 0xdc, LANES(16, b, (uint8_t)sat(a.b[k] + b.b[k], 0, 255)))                                          \
	X(paddusw, 0xdd, LANES(8, w, (uint16_t)sat(a.w[k] + b.w[k], 0, 65535)))                                        \
	X(psubsb, 0xe8, LANES(16, sb, (int8_t)sat(a.sb[k] - b.sb[k], -128, 127)))                                      \
	X(psubsw, 0xe9, LANES(8, sw, (int16_t)sat(a.sw[k] - b.sw[k], -32768, 32767)))                                  \
	X(paddsb, 0xec, LANES(16, sb, (int8_t)sat(a.sb[k] + b.sb[k], -128, 127)))                                      \
	X(paddsw, 0xed, LANES(8, sw, (int16_t)sat(a.sw[k] + b.sw[k], -32768, 32767)))                                  \
	X(pminub, 0xda, LANES(16, b, a.b[k] < b.b[k] ? a.b[k] : b.b[k]))                                               \
	X(pmaxub, 0xde, LANES(16, b, a.b[k] > b.b[k] ? a.b[k] : b.b[k]))                                               \
	X(pminsw, 0xea, LANES(8, sw, a.sw[k] < b.sw[k] ? a.sw[k] : b.sw[k]))                                           \
	X(pmaxsw, 0xee, LANES(8, sw, a.sw[k] > b.sw[k] ? a.sw[k] : b.sw[k]))                                           \
	X(pand, 0xdb, r.u64 = a.u64 & b.u64)                                                                           \
	X(pandn, 0xdf, r.u64 = ~a.u64 & b.u64)                                                                         \
	X(por, 0xeb, r.u64 = a.u64 | b.u64)                                                                            \
	X(pxor, 0xef, r.u64 = a.u64 ^ b.u64)                                                                           \
	X(pavgb, 0xe0, LANES(16, b, (uint8_t)((a.b[k] + b.b[k] + 1) >> 1)))                                            \
	X(pavgw, 0xe3, LANES(8, w, (uint16_t)((a.w[k] + b.w[k] + 1) >> 1)))                                            \
	X(pmullw, 0xd5, r.u16 = a.u16 * b.u16)                                                                         \
	X(pmulhw, 0xe5, LANES(8, sw, (int16_t)(a.sw[k] * b.sw[k] >> 16)))                                              \
	X(pmulhuw, 0xe4, LANES(8, w, (uint16_t)((uint32_t)a.w[k] * b.w[k] >> 16)))                                     \
	X(pmuludq, 0xf4, LANES(2, q, (uint64_t)a.d[2 * k] * b.d[2 * k]))                                               \
	X(pmaddwd, 0xf5,                                                                                               \
	  LANES(4, d, (uint32_t)(a.sw[2 * k] * b.sw[2 * k]) + (uint32_t)(a.sw[2 * k + 1] * b.sw[2 * k + 1])))          \
	X(psadbw, 0xf6, LANES(2, q, vec_sad(a.b + 8 * k, b.b + 8 * k)))

/* MMX: the low half of the result for the low ones, the high half of the low operation for the high ones. */
#define VEC_UNPACKS(X)                                                                                                 \
	X(bw, 0x60, 0x68, b, 16)                                                                                       \
	X(wd, 0x61, 0x69, w, 8)                                                                                        \
	X(dq, 0x62, 0x6a, d, 4)
#define VEC_UNPACK_LOW(lane, n)	 LANES(n, lane, k & 1 ? b.lane[k / 2] : a.lane[k / 2])
#define VEC_UNPACK_HIGH(lane, n) LANES(n, lane, k & 1 ? b.lane[(n) / 2 + k / 2] : a.lane[(n) / 2 + k / 2])

#define VEC_PACKS(X)                                                                                                   \
	X(packsswb, 0x63, LANES(16, sb, (int8_t)sat(k < 8 ? a.sw[k] : b.sw[k - 8], -128, 127)))                        \
	X(packuswb, 0x67, LANES(16, b, (uint8_t)sat(k < 8 ? a.sw[k] : b.sw[k - 8], 0, 255)))                           \
	X(packssdw, 0x6b, LANES(8, sw, (int16_t)sat(k < 4 ? a.sd[k] : b.sd[k - 4], -32768, 32767)))

static inline uint64_t vec_sad(const uint8_t *a, const uint8_t *b)
{
	uint64_t sum = 0;

	for (unsigned k = 0; k < 8; k++)
		sum += (unsigned)(a[k] > b[k] ? a[k] - b[k] : b[k] - a[k]);
	return sum;
}

#define VEC_FUNCTION(name, opcode, body)                                                                               \
	static inline union vec vec_##name(union vec a, union vec b)                                                   \
	{                                                                                                              \
		union vec r;                                                                                           \
		body;                                                                                                  \
		return r;                                                                                              \
	}
#define VEC_UNPACK_FUNCTIONS(name, low, high, lane, n)                                                                 \
	VEC_FUNCTION(punpckl##name, low, VEC_UNPACK_LOW(lane, n))                                                      \
	VEC_FUNCTION(punpckh##name, high, VEC_UNPACK_HIGH(lane, n))
VEC_OPS(VEC_FUNCTION)
VEC_PACKS(VEC_FUNCTION)
VEC_UNPACKS(VEC_UNPACK_FUNCTIONS)
VEC_FUNCTION(punpcklqdq, 0x6c, (r.q[0] = a.q[0], r.q[1] = b.q[0]))
VEC_FUNCTION(punpckhqdq, 0x6d, (r.q[0] = a.q[1], r.q[1] = b.q[1]))

#endif
