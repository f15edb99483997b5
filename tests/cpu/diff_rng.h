/* Random numbers that can be reproduced from a seed, and values that find bugs. One thread. */
#ifndef VIREO_TESTS_CPU_DIFF_RNG_H
#define VIREO_TESTS_CPU_DIFF_RNG_H

#include <stdbool.h>
#include <stdint.h>

struct rng {
	uint64_t s;
};

static inline uint64_t rng_mix(uint64_t z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static inline uint64_t rng_next(struct rng *r)
{
	return rng_mix(r->s += 0x9e3779b97f4a7c15);
}

/* 0 to n - 1. */
static inline uint32_t rng_below(struct rng *r, uint32_t n)
{
	return (uint32_t)((rng_next(r) >> 32) * n >> 32);
}

/* True `per_mille` times of a thousand. */
static inline bool rng_chance(struct rng *r, uint32_t per_mille)
{
	return rng_below(r, 1000) < per_mille;
}

/* Near the edges as often as anywhere. */
uint64_t rng_integer(struct rng *r);
/* Bit patterns of floating-point numbers: zeros, denormals, limits, infinities, quiet and signalling NaNs, ordinary. */
uint32_t rng_float32(struct rng *r);
uint64_t rng_float64(struct rng *r);
/* 80 bits, with the encodings that today's processors refuse. */
void rng_float80(struct rng *r, uint64_t *mant, uint16_t *sexp);
/* 16 bytes of integers or floating-point numbers. */
void rng_vector(struct rng *r, uint8_t out[16]);
/* Fill memory with all of the above, at natural and odd offsets. */
void rng_memory(struct rng *r, uint8_t *out, uint32_t len);
/* An FXSAVE64 image. `wild`: exceptions unmasked, or pending. */
void rng_fpu(struct rng *r, uint8_t *fx, bool wild);

#endif
