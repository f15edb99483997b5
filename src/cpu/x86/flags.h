/*
 * Lazy arithmetic flags of the interpreter.
 *
 * Instead of six flags, an instruction leaves its result and a word of carries:
 *   res  sign-extended result: ZF is res == 0, SF bit 63, PF the low byte
 *   aux  bit 63 carry-out of the top bit (CF), bit 62 carry into the top bit (OF is 63 ^ 62), bit 3
 *        carry out of bit 3 (AF), bits 15:8 flip the parity byte, bit 16 flips SF
 * so any combination of flags has a (res, aux) pair and POPF, SAHF and BT need no special case.
 * vCPU thread only.
 */
#ifndef VIREO_CPU_X86_FLAGS_H
#define VIREO_CPU_X86_FLAGS_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu/x86/state.h"

struct x86_lazy {
	uint64_t res;
	uint64_t aux;
};

#define X86_AUX_CF (1ull << 63)
#define X86_AUX_PO (1ull << 62)
#define X86_AUX_AF (1ull << 3)
#define X86_AUX_SD (1ull << 16)

static inline bool x86_lazy_cf(const struct x86_lazy *f)
{
	return f->aux >> 63;
}

static inline bool x86_lazy_of(const struct x86_lazy *f)
{
	return (f->aux ^ f->aux << 1) >> 63;
}

static inline bool x86_lazy_zf(const struct x86_lazy *f)
{
	return f->res == 0;
}

static inline bool x86_lazy_sf(const struct x86_lazy *f)
{
	return (f->res >> 63) ^ (f->aux >> 16 & 1);
}

static inline bool x86_lazy_pf(const struct x86_lazy *f)
{
	return !__builtin_parity((uint8_t)(f->res ^ f->aux >> 8));
}

static inline bool x86_lazy_af(const struct x86_lazy *f)
{
	return f->aux >> 3 & 1;
}

static inline uint32_t x86_lazy_get(const struct x86_lazy *f)
{
	return (x86_lazy_cf(f) ? X86_CF : 0) | (x86_lazy_pf(f) ? X86_PF : 0) | (x86_lazy_af(f) ? X86_AF : 0) |
	       (x86_lazy_zf(f) ? X86_ZF : 0) | (x86_lazy_sf(f) ? X86_SF : 0) | (x86_lazy_of(f) ? X86_OF : 0);
}

static inline void x86_lazy_set(struct x86_lazy *f, uint32_t fl)
{
	bool cf = fl & X86_CF, of = fl & X86_OF, zf = fl & X86_ZF, sf = fl & X86_SF;
	uint64_t res = zf ? 0 : 1; /* SF then comes from the flip bit, PF from the flip byte */
	uint64_t aux = (cf ? X86_AUX_CF : 0) | (cf != of ? X86_AUX_PO : 0) | (fl & X86_AF ? X86_AUX_AF : 0);

	if (sf)
		aux |= X86_AUX_SD;
	/* the parity byte as it stands is `res`; make it even exactly when PF is wanted */
	if (!!(fl & X86_PF) == !!__builtin_parity((uint8_t)res))
		aux |= 1u << 8;
	f->res = res;
	f->aux = aux;
}

/* Change only CF, keeping the rest. */
static inline void x86_lazy_set_cf(struct x86_lazy *f, bool cf)
{
	bool of = x86_lazy_of(f);

	f->aux &= ~(X86_AUX_CF | X86_AUX_PO);
	f->aux |= (cf ? X86_AUX_CF : 0) | (cf != of ? X86_AUX_PO : 0);
}

/* CF and OF become `both`, the rest stays. */
static inline void x86_lazy_set_both(struct x86_lazy *f, bool both)
{
	f->aux = (f->aux & ~(X86_AUX_CF | X86_AUX_PO)) | (both ? X86_AUX_CF : 0);
}

/* The carry word of an addition or subtraction of `bits` (a constant): carries moved up so that the top is bit 63. */
#define X86_CARRIES_(v, bits) (((uint64_t)(v) << (64 - (bits)) & (X86_AUX_CF | X86_AUX_PO)) | ((v)&X86_AUX_AF))

#define X86_FLAGS_OPS(bits)                                                                                            \
	/* r = a + b (+ carry in) */                                                                                   \
	static inline void x86_flags_add##bits(struct x86_lazy *f, uint##bits##_t a, uint##bits##_t b,                 \
					       uint##bits##_t r)                                                       \
	{                                                                                                              \
		uint##bits##_t c = (a & b) | ((a | b) & ~r);                                                           \
		f->res = (uint64_t)(int64_t)(int##bits##_t)r;                                                          \
		f->aux = X86_CARRIES_(c, bits);                                                                        \
	}                                                                                                              \
	/* r = a - b (- borrow in) */                                                                                  \
	static inline void x86_flags_sub##bits(struct x86_lazy *f, uint##bits##_t a, uint##bits##_t b,                 \
					       uint##bits##_t r)                                                       \
	{                                                                                                              \
		uint##bits##_t c = (~a & b) | ((~a | b) & r);                                                          \
		f->res = (uint64_t)(int64_t)(int##bits##_t)r;                                                          \
		f->aux = X86_CARRIES_(c, bits);                                                                        \
	}                                                                                                              \
	/* CF = OF = AF = 0 */                                                                                         \
	static inline void x86_flags_logic##bits(struct x86_lazy *f, uint##bits##_t r)                                 \
	{                                                                                                              \
		f->res = (uint64_t)(int64_t)(int##bits##_t)r;                                                          \
		f->aux = 0;                                                                                            \
	}                                                                                                              \
	/* result flags from r, the others given */                                                                    \
	static inline void x86_flags_res##bits(struct x86_lazy *f, uint##bits##_t r, bool cf, bool of, bool af)        \
	{                                                                                                              \
		f->res = (uint64_t)(int64_t)(int##bits##_t)r;                                                          \
		f->aux = (cf ? X86_AUX_CF : 0) | (cf != of ? X86_AUX_PO : 0) | (af ? X86_AUX_AF : 0);                  \
	}
X86_FLAGS_OPS(8)
X86_FLAGS_OPS(16)
X86_FLAGS_OPS(32)
X86_FLAGS_OPS(64)
#undef X86_FLAGS_OPS

#endif
