/*
 * The file of a saved state as a stream: both directions, with a checksum over all of it. Belongs to one thread.
 *
 * Layout: magic, format, the program's version, configuration text, a checksum of these; the CPU model's section;
 * RAM by slot; the sections of the clock, the vCPUs and the devices; a checksum of everything.
 */
#ifndef VIREO_VM_SAVE_STREAM_H
#define VIREO_VM_SAVE_STREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

struct vm;
struct config;

#define SAVE_MAGIC  "VIREOSAV"
#define SAVE_FORMAT 1

/* A stdio stream over `fd` that keeps a CRC-32 of what passes. Reading ends at `end`. */
struct crc_file {
	FILE *f;
	int fd; /* borrowed */
	uint32_t crc;
	uint64_t at, end;
};
int crc_file_open(struct crc_file *c, int fd, bool write, struct err *err);

/* What a save that is under way shows to others. */
struct save_progress {
	atomic_bool cancel;
	_Atomic uint64_t done;
};

/* What is taken at the moment of the save, before the long part. */
struct save_parts {
	char *config, *sections; /* allocated */
	size_t config_len, sections_len;
};

/* The sections of clock, vCPUs and devices; the VM is halted. */
int save_sections(struct vm *vm, FILE *f, struct err *err);
/* All of the file; *written gets its size. */
int save_write(struct vm *vm, int fd, const struct save_parts *parts, struct save_progress *p, uint64_t *written,
	       struct err *err);

/* The header: fills *config with the configuration's text (the caller's to free). */
int save_read_header(struct crc_file *c, char **config, struct err *err);
/* All that follows. */
int save_read(struct crc_file *c, struct vm *vm, struct err *err);

/* --- save_config.c --- */
/* The text to be saved. NULL on error. */
char *save_config_text(struct vm *vm, bool paused, size_t *len, struct err *err);
/* Add a saved text to the user's wishes. */
int save_config_merge(char *text, struct config *c, struct err *err);

#endif
