/*
 * Machine code in words, for people: by capstone where the program is built for it and it is
 * installed, else as bytes. Any thread.
 */
#ifndef VIREO_CPU_DISAS_H
#define VIREO_CPU_DISAS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cpu/engine.h"

struct disas_code {
	const uint8_t *bytes;
	size_t len;
	uint64_t address; /* of the first byte */
	unsigned bits;	  /* x86 code of 16, 32 or 64 */
	/* What of it is none; in order. */
	const struct code_data *data;
	size_t data_count;
};

/* A line for each instruction: address, bytes and, if capstone is there, what it is. */
void disas_print(FILE *out, const struct disas_code *code);
/*
 * One instruction in the form of QEMU's monitor, with AT&T's syntax; returns its bytes, 0 if it is none, or capstone is
 * not there (which is said).
 */
size_t disas_print_one(FILE *out, const struct disas_code *code);

#endif
