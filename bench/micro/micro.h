/* The small programs of the bench: one binary, a table of cases of fixed work. */
#pragma once

#include <stdint.h>

struct micro {
	const char *name;
	void (*prepare)(void);		   /* outside of the measured time; may be NULL */
	uint64_t (*work)(uint64_t rounds); /* the same checksum wherever it runs */
	uint64_t rounds;
};

/* Each file's cases, ended by one without a name. */
extern const struct micro integer_cases[], memory_cases[], float_cases[], system_cases[];

/* A cheap sequence of numbers (xorshift64*), the same everywhere. */
static inline uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}

/* Adds a value to a checksum; order matters. */
static inline uint64_t mix(uint64_t sum, uint64_t value)
{
	sum = (sum ^ value) * 0x9e3779b97f4a7c15ull;
	return sum ^ sum >> 29;
}

_Noreturn void give_up(const char *what);
