/*
 * The table of image formats: what they are called, how they are recognised, and what carries out
 * their requests. Private to block/; pure functions, any thread.
 */
#ifndef VIREO_BLOCK_FORMAT_H
#define VIREO_BLOCK_FORMAT_H

#include "block/block.h"
#include "block/node.h"

#define FORMAT_HEADER 1024u /* bytes that probes look at */

struct block_format {
	const char *name;
	const char *const *suffixes; /* without dot, NULL-terminated */
	/* What `header` (`len` bytes) belongs to. NULL: nothing is known from the header (raw). */
	bool (*probe)(const uint8_t *header, size_t len);
	/* NULL: recognised, so that it is not taken for raw, but not supported. */
	const struct node_driver *driver;
};

/* The format of a header that is not raw's, or NULL. */
const struct block_format *format_probe(const uint8_t *header, size_t len);

/*
 * The format of the image `c` with this header: as named in the configuration, else from the suffix
 * of the path, which the header must confirm. *guessed tells that nobody named it.
 */
const struct block_format *format_choose(const struct block_config *c, const uint8_t *header, size_t len, bool *guessed,
					 struct err *err);

#endif
