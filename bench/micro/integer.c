/* Integers, branches, calls. */
#include "micro.h"

#include <stdlib.h>
#include <string.h>

/* --- hash: SHA-256's rounds and a multiplying hash, in registers --- */

static inline uint32_t rotate(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

static void compress(uint32_t state[8], const uint32_t block[16])
{
	uint32_t w[64], s[8];

	memcpy(w, block, 64);
	memcpy(s, state, 32);
	for (int i = 16; i < 64; i++)
		w[i] = w[i - 16] + w[i - 7] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) +
		       (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
	for (int i = 0; i < 64; i++) {
		uint32_t a = s[0], e = s[4];
		uint32_t t = s[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + (s[6] ^ (e & (s[5] ^ s[6]))) +
			     w[i] + 0x9e3779b9u * (uint32_t)(i + 1);
		uint32_t u = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & s[1]) | (s[2] & (a | s[1])));

		memmove(s + 1, s, 28);
		s[4] += t;
		s[0] = t + u;
	}
	for (int i = 0; i < 8; i++)
		state[i] += s[i];
}

static uint64_t hash(uint64_t rounds)
{
	uint32_t state[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, block[16];
	uint64_t sum = 0;

	for (uint64_t r = 0; r < rounds; r++) {
		for (int i = 0; i < 16; i++)
			block[i] = (uint32_t)r + (uint32_t)i;
		compress(state, block);
		for (uint64_t i = 0; i < 256; i++)
			sum = mix(sum, state[i & 7] + i);
	}
	return sum;
}

/* --- sieve: primes below two million, by branches that depend on data --- */

#define SIEVE 2000000

static uint64_t sieve(uint64_t rounds)
{
	static uint8_t composite[SIEVE];
	uint64_t sum = 0;

	for (uint64_t r = 0; r < rounds; r++) {
		uint64_t twins = 0, last = 0;

		memset(composite, 0, sizeof(composite));
		for (uint64_t n = 2; n < SIEVE; n++) {
			if (composite[n])
				continue;
			if (n - last == 2)
				twins++;
			else if (n % 10 == 7)
				sum = mix(sum, n + r);
			last = n;
			for (uint64_t m = n * n; m < SIEVE; m += n)
				composite[m] = 1;
		}
		sum = mix(sum, twins);
	}
	return sum;
}

/* --- sort: a library's sort of records of any size, which calls back to compare --- */

struct record {
	uint64_t key, value;
};

static int by_key(const void *a, const void *b)
{
	uint64_t x = ((const struct record *)a)->key, y = ((const struct record *)b)->key;

	return x < y ? -1 : x > y;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = ((const struct record *)a)->value, y = ((const struct record *)b)->value;

	return x > y ? -1 : x < y;
}

typedef int compare_fn(const void *, const void *);

static void swap(char *a, char *b, size_t size)
{
	for (size_t i = 0; i < size; i += 8) {
		uint64_t x, y;

		memcpy(&x, a + i, 8);
		memcpy(&y, b + i, 8);
		memcpy(a + i, &y, 8);
		memcpy(b + i, &x, 8);
	}
}

/* Of our own: the C library's calls a memcpy() that it chooses by the processor. */
static __attribute__((noipa)) void sort_records(char *base, size_t count, size_t size, compare_fn *compare)
{
	while (count > 8) {
		char *low = base, *high = base + (count - 1) * size;

		swap(base, base + count / 2 * size, size);
		for (;;) {
			do
				low += size;
			while (low <= high && compare(low, base) < 0);
			while (compare(high, base) > 0)
				high -= size;
			if (low >= high)
				break;
			swap(low, high, size);
			high -= size;
		}
		swap(base, high, size);
		sort_records(high + size, count - 1 - (size_t)(high - base) / size, size, compare);
		count = (size_t)(high - base) / size;
	}
	for (size_t i = 1; i < count; i++)
		for (size_t j = i; j && compare(base + (j - 1) * size, base + j * size) > 0; j--)
			swap(base + (j - 1) * size, base + j * size, size);
}

#define RECORDS 100000

static uint64_t sort(uint64_t rounds)
{
	static struct record records[RECORDS];
	uint64_t sum = 0, state = 88172645463325252ull;

	for (uint64_t r = 0; r < rounds; r++) {
		for (int i = 0; i < RECORDS; i++)
			records[i] = (struct record){ next_random(&state) >> 40, next_random(&state) };
		sort_records((char *)records, RECORDS, sizeof(records[0]), by_key);
		sum = mix(sum, records[r % RECORDS].key);
		sort_records((char *)records, RECORDS, sizeof(records[0]), by_value);
		sum = mix(sum, records[r % RECORDS].key);
	}
	return sum;
}

/* --- calls: recursion, and calls through pointers of which the next is not known --- */

static __attribute__((noipa)) uint64_t fibonacci(uint64_t n)
{
	return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static __attribute__((noipa)) uint64_t tak(uint64_t x, uint64_t y, uint64_t z)
{
	return x <= y ? z : tak(tak(x - 1, y, z), tak(y - 1, z, x), tak(z - 1, x, y));
}

static uint64_t recursion(uint64_t rounds)
{
	uint64_t sum = 0;

	for (uint64_t r = 0; r < rounds; r++) {
		sum = mix(sum, fibonacci(24 + r % 3));
		sum = mix(sum, tak(14, 8 + r % 2, 2));
	}
	return sum;
}

#define TARGET(n)                                                                                                      \
	static __attribute__((noipa)) uint64_t target##n(uint64_t a, uint64_t b)                                       \
	{                                                                                                              \
		return (a ^ (b >> (n))) + (n)*0x1234567;                                                               \
	}
TARGET(1)
TARGET(2)
TARGET(3)
TARGET(4)
TARGET(5)
TARGET(6)
TARGET(7)
TARGET(8)

static uint64_t indirect(uint64_t rounds)
{
	static uint64_t (*const targets[])(uint64_t, uint64_t) = { target1, target2, target3, target4,
								   target5, target6, target7, target8 };
	uint64_t sum = 1, state = 362436069;

	for (uint64_t r = 0; r < rounds; r++) {
		uint64_t n = next_random(&state) >> 32;

		for (int i = 0; i < 8; i++)
			sum = targets[n >> 3 * i & 7](sum, n);
	}
	return sum;
}

const struct micro integer_cases[] = {
	{ "hash", NULL, hash, 600000 },
	{ "sieve", NULL, sieve, 100 },
	{ "sort", NULL, sort, 30 },
	{ "recursion", NULL, recursion, 1500 },
	{ "indirect", NULL, indirect, 12000000 },
	{ 0 },
};
