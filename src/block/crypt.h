/*
 * Encryption of sectors, and what stretches passphrases, by OpenSSL's libcrypto: the only file that calls it is
 * crypt.c. Private to block/; any thread, one at a time for each context.
 */
#ifndef VIREO_BLOCK_CRYPT_H
#define VIREO_BLOCK_CRYPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define CRYPT_SECTOR   512u
#define CRYPT_KEY_MAX  64u
#define CRYPT_HASH_MAX 64u

enum crypt_mode { CRYPT_XTS, CRYPT_CBC, CRYPT_ECB };
enum crypt_iv { CRYPT_PLAIN64, CRYPT_PLAIN, CRYPT_ESSIV };

/* AES, in one of these ways. */
struct crypt_spec {
	enum crypt_mode mode;
	enum crypt_iv iv;
	char iv_hash[32]; /* CRYPT_ESSIV */
};

struct crypt;

/* `key_len`: of the whole key, two of which make one of XTS. */
struct crypt *crypt_new(const struct crypt_spec *spec, const uint8_t *key, size_t key_len, struct err *err);
void crypt_free(struct crypt *c); /* NULL is fine */
/* Whole sectors from number `sector` on, in place. 0 or -EIO. */
int crypt_run(struct crypt *c, bool encrypt, uint64_t sector, void *buf, size_t bytes);

/* Bytes of a hash; 0: there is none of this name. */
size_t crypt_hash_len(const char *hash);
/* How a key is made of a passphrase: PBKDF2, RFC 8018, 5.2. */
struct crypt_kdf {
	const char *hash;
	const uint8_t *salt; /* 32 bytes */
	uint32_t iterations;
};
int crypt_pbkdf2(const struct crypt_kdf *k, const void *pass, size_t len, uint8_t *out, size_t out_len);
/* Anti-forensic splitting: a key as `stripes` blocks of its length, all of which are needed to have it again. */
int crypt_af_split(const char *hash, const uint8_t *key, size_t len, unsigned stripes, uint8_t *out);
int crypt_af_merge(const char *hash, const uint8_t *in, size_t len, unsigned stripes, uint8_t *key);
/* What was sealed by AES-256 in CBC mode with PKCS#7 padding, opened in place. 0, or -1: it was not with this key. */
int crypt_open(const uint8_t key[32], const uint8_t iv[16], uint8_t *data, size_t *len);
int crypt_random(void *buf, size_t len);
void crypt_wipe(void *buf, size_t len);

#endif
