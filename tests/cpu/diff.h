/*
 * What the two sides of the differential test share: where code and data lie, the modes, and the records in which
 * a case and its result are kept. Included by the freestanding process that runs cases on the host
 * (diff_host.c) too: no libc here.
 *
 * The same bytes lie at the same linear addresses in the host process and in the small VM. Everything is
 * mapped twice, below 4 GiB for all modes and above it, so that a lost high half of an address is seen.
 */
#ifndef VIREO_TESTS_CPU_DIFF_H
#define VIREO_TESTS_CPU_DIFF_H

#include <stdint.h>

#define DIFF_HIGH      0x500000000ull /* added to an address: its second mapping */
#define DIFF_EXIT      0x0fff0000u    /* the end of a block jumps here, plus its number times: */
#define DIFF_EXIT_STEP 16u
#define DIFF_BLOCKS    8 /* in the code area at a time */
#define DIFF_CODE      0x10000000u
#define DIFF_CODE_SIZE 0x10000u
#define DIFF_DATA      0x20000000u	 /* the page before and the pages after it are not mapped */
#define DIFF_RW	       0x2000u		 /* bytes that may be written, then */
#define DIFF_RO	       0x1000u		 /* bytes that may only be read */
#define DIFF_SHARED    0x6b4a39281000ull /* host process only: struct diff_shared; no number that tests like to use */
#define DIFF_EXITS     (DIFF_SHARED - 0x10000) /* where it is done; here the two sides differ */
#define DIFF_FS_BASE   (DIFF_DATA + 0x140u)
#define DIFF_GS_BASE   (DIFF_DATA + DIFF_HIGH + 0xfc0u)

/* What is at DIFF_EXIT, on both sides, as a block may read it: jmp *2(%rip), aligned, as AC may be set. */
static inline void diff_exit_code(uint8_t *code, uint64_t to)
{
	static const uint8_t jmp[8] = { 0xff, 0x25, 2 };

	for (unsigned n = 0; n < 8; n++) {
		code[n] = jmp[n];
		code[8 + n] = (uint8_t)(to >> 8 * n);
	}
}

/* Segments of the LDT, for the modes that have a use for them: as in the argument of modify_ldt(). */
struct diff_ldt {
	uint32_t base, limit;
	uint8_t contents; /* 0 data, 1 expand-down data, 2 code */
	uint8_t bits32, read_only;
};
enum { DIFF_LDT_CODE16, DIFF_LDT_CODE32, DIFF_LDT_DATA, DIFF_LDT_EXTRA, DIFF_LDT_STACK16, DIFF_LDT_DOWN, DIFF_LDT_RO };
static const struct diff_ldt diff_ldt[] = {
	[DIFF_LDT_CODE16] = { DIFF_CODE, 0xffff, 2, 0, 0 },
	[DIFF_LDT_CODE32] = { DIFF_CODE - 0x3000, 0x12fff, 2, 1, 0 },
	[DIFF_LDT_DATA] = { DIFF_DATA, 0x2fff, 0, 1, 0 },
	[DIFF_LDT_EXTRA] = { DIFF_DATA + 0x800, 0x17ff, 0, 1, 0 },
	[DIFF_LDT_STACK16] = { DIFF_DATA, 0x1fff, 0, 0, 0 },
	[DIFF_LDT_DOWN] = { DIFF_DATA + DIFF_RW - 0x10000, 0xe0ff, 1, 0, 0 },
	[DIFF_LDT_RO] = { DIFF_DATA + 0x10, 0x2fef, 0, 1, 1 },
};
#define DIFF_LDT_ENTRIES (sizeof(diff_ldt) / sizeof(diff_ldt[0]))
#define DIFF_LDT_SEL(n)	 ((uint16_t)((n) << 3 | 7))

/* Linux's selectors for user programs. */
#define DIFF_CS32 0x23
#define DIFF_SS	  0x2b
#define DIFF_CS64 0x33

enum diff_mode { DIFF_64, DIFF_32, DIFF_32_SEGMENTS, DIFF_16, DIFF_MODES };
struct diff_mode_info {
	const char *name;
	uint8_t bits;
	uint16_t sel[6]; /* ES CS SS DS FS GS */
};
static const struct diff_mode_info diff_modes[] = {
	[DIFF_64] = { "64-bit", 64, { 0, DIFF_CS64, DIFF_SS, 0, 0, 0 } },
	[DIFF_32] = { "32-bit",
		      32,
		      { DIFF_SS, DIFF_CS32, DIFF_SS, DIFF_SS, DIFF_LDT_SEL(DIFF_LDT_DATA),
			DIFF_LDT_SEL(DIFF_LDT_RO) } },
	[DIFF_32_SEGMENTS] = { "32-bit, segments",
			       32,
			       { DIFF_LDT_SEL(DIFF_LDT_EXTRA), DIFF_LDT_SEL(DIFF_LDT_CODE32), DIFF_SS,
				 DIFF_LDT_SEL(DIFF_LDT_DATA), DIFF_LDT_SEL(DIFF_LDT_DOWN),
				 DIFF_LDT_SEL(DIFF_LDT_RO) } },
	[DIFF_16] = { "16-bit, segments",
		      16,
		      { DIFF_LDT_SEL(DIFF_LDT_EXTRA), DIFF_LDT_SEL(DIFF_LDT_CODE16), DIFF_LDT_SEL(DIFF_LDT_STACK16),
			DIFF_LDT_SEL(DIFF_LDT_DATA), DIFF_LDT_SEL(DIFF_LDT_DOWN), DIFF_LDT_SEL(DIFF_LDT_RO) } },
};

struct diff_state {
	uint64_t gpr[16];
	uint64_t rip; /* of the result only, when a fault ended the block; an offset in CS */
	uint64_t rflags;
	uint8_t fx[512] __attribute__((aligned(16))); /* an image of FXSAVE64 */
	uint8_t high[16][16]; /* bits 128 to 255 of the vector registers, if the host has them */
};

#define DIFF_DONE 0x100u /* diff_result.vector: the block came to its end */
struct diff_result {
	struct diff_state s;
	uint32_t vector, error;
	uint32_t exit; /* the number of the block to whose end it came */
	uint64_t cr2;
	uint16_t sel[6];
	uint8_t mem[DIFF_RW];
};

/* One case: a block of code with one initial state. */
struct diff_slot {
	uint64_t entry;	   /* offset in CS */
	uint32_t segments; /* the block may change segment registers or bases */
	struct diff_state in;
	uint8_t mem[DIFF_RW];
	struct diff_result host;
};

#define DIFF_SLOTS 64
struct diff_shared {
	uint32_t mode, count;
	uint32_t running; /* the slot being run, for the report of a host process that died */
	uint32_t no_ldt;  /* modify_ldt() was refused: no modes with segments */
	uint32_t avx;	  /* the host has upper halves: compare them */
	/* What is mapped on the host alone: this record, and the process itself. */
	struct {
		uint64_t begin, end;
	} own[2];
	struct diff_slot slot[DIFF_SLOTS];
};

/* The file that the parent and the host process map. */
#define DIFF_FILE_SHARED 0u
#define DIFF_FILE_CODE	 ((sizeof(struct diff_shared) + 0xfff) & ~0xfffull)
#define DIFF_FILE_DATA	 (DIFF_FILE_CODE + DIFF_CODE_SIZE)
#define DIFF_FILE_SIZE	 (DIFF_FILE_DATA + DIFF_RW + DIFF_RO)

#endif
