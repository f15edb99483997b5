/*
 * LUKS version 1, as of cryptsetup's "LUKS On-Disk Format Specification": the header and its key slots, wherever a file
 * has them. Private to block/ and the image tool; the thread of the node's loop; what reads or writes waits.
 */
#ifndef VIREO_BLOCK_LUKS_H
#define VIREO_BLOCK_LUKS_H

#include "block/crypt.h"
#include "block/node.h"

#define LUKS_SLOTS	    8u
#define LUKS_SALT	    32u
#define LUKS_DIGEST	    20u
#define LUKS_ITERATIONS_MAX (1u << 24) /* of one slot: some ten seconds */
#define LUKS_HEADER_SECTORS 8u

struct luks {
	struct node *n;
	uint64_t base, room; /* where in it, and bytes that may be the header's */
	char cipher[32], mode[32], hash[32], uuid[40];
	struct crypt_spec spec;
	uint32_t payload, key_bytes, iterations; /* sectors; bytes */
	uint8_t digest[LUKS_DIGEST], salt[LUKS_SALT];
	struct luks_slot {
		bool active;
		uint32_t iterations, offset; /* sectors */
		uint8_t salt[LUKS_SALT];
	} slot[LUKS_SLOTS];
};

/* The options of creating and amending, of which `prefix` ("encrypt." or "") is cut off. */
struct luks_wishes {
	const char *cipher, *mode, *iv, *iv_hash, *hash, *prefix;
	const char *secret; /* id */
	uint64_t iter_ms;
};

/* Read the header at `base` of `n` and take nothing in it for granted. */
int luks_read(struct luks *l, struct node *n, uint64_t base, uint64_t room, struct err *err);
/* The key of the disk by a passphrase; the slot that has it, or -1. */
int luks_unlock(struct luks *l, const void *pass, size_t len, uint8_t key[CRYPT_KEY_MAX], struct err *err);
/* A header for a new disk and its key; nothing is written yet. `payload` sectors before the data are its room. */
int luks_plan(struct luks *l, const struct luks_wishes *w, uint8_t key[CRYPT_KEY_MAX], struct err *err);
/* What the header of such a disk takes; its passphrase must be there. */
int luks_room(const struct node_ctx *c, const struct luks_wishes *w, uint64_t *room, struct err *err);
/* Put the key into a slot under a passphrase, with the header. */
int luks_put_key(struct luks *l, unsigned slot, const struct luks_wishes *w, const uint8_t *key, struct err *err);
int luks_take_wishes(struct luks_wishes *w, struct opts *o, const char *prefix, struct err *err);
/* amend: state, keyslot, old-secret, new-secret; `secret` is what the image was opened with. */
int luks_amend(struct luks *l, struct opts *o, const char *prefix, const char *secret, bool force, struct err *err);

struct json_t *luks_json(const struct luks *l);

#define LUKS_CREATE_OPTIONS(PREFIX)                                                                                    \
	{ PREFIX "cipher-alg", 's', "Name of encryption cipher algorithm", NULL },                                     \
		{ PREFIX "cipher-mode", 's', "Name of encryption cipher mode", NULL },                                 \
		{ PREFIX "ivgen-alg", 's', "Name of IV generator algorithm", NULL },                                   \
		{ PREFIX "ivgen-hash-alg", 's', "Name of IV generator hash algorithm", NULL },                         \
		{ PREFIX "hash-alg", 's', "Name of encryption hash algorithm", NULL },                                 \
	{                                                                                                              \
		PREFIX "iter-time", 'n', "Time to spend in PBKDF in milliseconds", NULL                                \
	}
#define LUKS_AMEND_OPTIONS(PREFIX)                                                                                     \
	{ PREFIX "state", 's', "Select new state of affected keyslots (active/inactive)", NULL },                      \
		{ PREFIX "keyslot", 'n', "Select a single keyslot to modify explicitly", NULL },                       \
		{ PREFIX "old-secret", 's', "Select all keyslots that match this password", NULL },                    \
		{ PREFIX "new-secret", 's', "New secret to set in the matching keyslots. Empty string to erase",       \
		  NULL },                                                                                              \
	{                                                                                                              \
		PREFIX "iter-time", 'n', "Time to spend in PBKDF in milliseconds", NULL                                \
	}

#endif
