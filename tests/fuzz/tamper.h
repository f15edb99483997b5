/* What the harnesses of disk images share: a good file, and what an input writes over it. */
#ifndef VIREO_TESTS_FUZZ_TAMPER_H
#define VIREO_TESTS_FUZZ_TAMPER_H

#include <stddef.h>
#include <stdint.h>

struct template
{
	uint8_t *bytes;
	size_t len;
};

/* Keep what the file has, and close it. */
void template_take(struct template *t, int fd);
/*
 * A file like it, with records of an offset (16 bits), a length (8 bits) and bytes written over it. Offsets with the
 * highest bit are from `base` on, when that is not 0.
 */
int template_tampered(const struct template *t, uint64_t base, const uint8_t *data, size_t size);

#endif
