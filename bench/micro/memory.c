/* Memory: latency beyond the caches, and blocks of bytes. */
#include "micro.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* --- chase: each cache line names the next one --- */

struct line {
	struct line *next;
	uint64_t pad[7];
};

static struct line *lines;

/* A linear congruential sequence of full period visits each line once, and can be written down in order. */
static void prepare_chase(uint64_t bytes)
{
	uint64_t count = bytes / sizeof(struct line);

	lines = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (lines == MAP_FAILED)
		give_up("mmap");
	for (uint64_t i = 0; i < count; i++) {
		lines[i].next = &lines[(i * 2862933555777941757ull + 3037000493ull) & (count - 1)];
		lines[i].pad[0] = i;
	}
}

static void prepare_chase8(void)
{
	prepare_chase(8 << 20);
}

static void prepare_chase512(void)
{
	prepare_chase(512 << 20);
}

static uint64_t chase(uint64_t rounds)
{
	const struct line *at = lines;
	uint64_t sum = 0;

	for (uint64_t r = 0; r < rounds; r++) {
		sum += at->pad[0] ^ r;
		at = at->next;
	}
	return sum;
}

/* --- copy: loops of 16 bytes as a C library has them, over blocks of all sizes --- */

typedef uint64_t v2u __attribute__((vector_size(16), aligned(1), may_alias));

#define BLOCK (256 << 10)
static uint8_t from[BLOCK + 64], to[BLOCK + 64];

static __attribute__((noipa, optimize("no-tree-loop-distribute-patterns"))) void
copy_block(uint8_t *d, const uint8_t *s, uint64_t len)
{
	for (; len >= 64; len -= 64, d += 64, s += 64) {
		v2u a = *(const v2u *)s, b = *(const v2u *)(s + 16), c = *(const v2u *)(s + 32),
		    e = *(const v2u *)(s + 48);

		*(v2u *)d = a;
		*(v2u *)(d + 16) = b;
		*(v2u *)(d + 32) = c;
		*(v2u *)(d + 48) = e;
	}
	for (; len; len--)
		*d++ = *s++;
}

static __attribute__((noipa, optimize("no-tree-loop-distribute-patterns"))) void set_block(uint8_t *d, uint8_t value,
											   uint64_t len)
{
	v2u v = (v2u){ 0, 0 } + value * 0x0101010101010101ull;

	for (; len >= 32; len -= 32, d += 32) {
		*(v2u *)d = v;
		*(v2u *)(d + 16) = v;
	}
	for (; len; len--)
		*d++ = value;
}

/* --- rep: the same by the string instructions --- */

static __attribute__((noipa)) void rep_copy(uint8_t *d, const uint8_t *s, uint64_t len)
{
	__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(len) : : "memory");
}

static __attribute__((noipa)) void rep_set(uint8_t *d, uint8_t value, uint64_t len)
{
	__asm__ volatile("rep stosb" : "+D"(d), "+c"(len) : "a"(value) : "memory");
}

typedef void copy_fn(uint8_t *, const uint8_t *, uint64_t);
typedef void set_fn(uint8_t *, uint8_t, uint64_t);

static uint64_t blocks(uint64_t rounds, copy_fn *copy, set_fn *set)
{
	/* Many are small, as in programs; most bytes are in the large ones. */
	static const uint32_t sizes[] = { 16, 40, 100, 24, 260, 64, 1000, 4096, 33, 16384, 200, BLOCK };
	uint64_t sum = 0, state = 521288629;

	for (int i = 0; i < BLOCK; i++)
		from[i] = (uint8_t)(i * 7 + (i >> 8));
	for (uint64_t r = 0; r < rounds; r++) {
		for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
			uint64_t n = next_random(&state);

			for (int times = sizes[k] < 2000 ? 32 : 1; times; times--) {
				copy(to + (n & 31), from + (n >> 8 & 31), sizes[k]);
				set(from + (n >> 16 & 31), (uint8_t)(n >> 24), sizes[k] / 4);
			}
			sum = mix(sum, to[(n >> 32) % sizes[k]] + from[(n >> 40) % sizes[k]]);
		}
	}
	return sum;
}

static uint64_t vector_blocks(uint64_t rounds)
{
	return blocks(rounds, copy_block, set_block);
}

static uint64_t string_blocks(uint64_t rounds)
{
	return blocks(rounds, rep_copy, rep_set);
}

const struct micro memory_cases[] = {
	{ "chase8", prepare_chase8, chase, 12000000 },
	{ "chase512", prepare_chase512, chase, 12000000 },
	{ "copy", NULL, vector_blocks, 20000 },
	{ "repcopy", NULL, string_blocks, 5000 },
	{ 0 },
};
