/* Encryption of sectors: see crypt.h. */
#include "block/crypt.h"

#include <errno.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define BLOCK 16u

struct crypt {
	struct crypt_spec spec;
	EVP_CIPHER_CTX *way[2]; /* decrypting, encrypting */
	EVP_CIPHER_CTX *iv;	/* CRYPT_ESSIV */
};

static const EVP_CIPHER *cipher_of(enum crypt_mode mode, size_t key_len)
{
	switch (mode) {
	case CRYPT_XTS:
		return key_len == 32 ? EVP_aes_128_xts() : key_len == 64 ? EVP_aes_256_xts() : NULL;
	case CRYPT_CBC:
		return key_len == 16   ? EVP_aes_128_cbc()
		       : key_len == 24 ? EVP_aes_192_cbc()
		       : key_len == 32 ? EVP_aes_256_cbc()
				       : NULL;
	case CRYPT_ECB:
		return key_len == 16   ? EVP_aes_128_ecb()
		       : key_len == 24 ? EVP_aes_192_ecb()
		       : key_len == 32 ? EVP_aes_256_ecb()
				       : NULL;
	}
	return NULL;
}

static EVP_CIPHER_CTX *context(const EVP_CIPHER *cipher, const uint8_t *key, bool encrypt)
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();

	if (c && EVP_CipherInit_ex(c, cipher, NULL, key, NULL, encrypt) && EVP_CIPHER_CTX_set_padding(c, 0))
		return c;
	EVP_CIPHER_CTX_free(c);
	return NULL;
}

static int hash_bytes(const char *hash, const void *a, size_t a_len, const void *b, size_t b_len, uint8_t *out)
{
	const EVP_MD *md = EVP_get_digestbyname(hash);
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	int ok = c && md && EVP_DigestInit_ex(c, md, NULL) && EVP_DigestUpdate(c, a, a_len) &&
		 (!b_len || EVP_DigestUpdate(c, b, b_len)) && EVP_DigestFinal_ex(c, out, NULL);

	EVP_MD_CTX_free(c);
	return ok ? 0 : -EIO;
}

struct crypt *crypt_new(const struct crypt_spec *spec, const uint8_t *key, size_t key_len, struct err *err)
{
	const EVP_CIPHER *cipher = cipher_of(spec->mode, key_len);
	struct crypt *c = calloc(1, sizeof(*c));
	bool ok = c && cipher;

	if (!cipher)
		err_set(err, "A key of %zu bytes is not supported with this cipher mode", key_len);
	if (ok) {
		c->spec = *spec;
		for (unsigned i = 0; i < 2 && ok; i++)
			ok = (c->way[i] = context(cipher, key, i)) != NULL;
	}
	if (ok && spec->iv == CRYPT_ESSIV) {
		uint8_t digest[CRYPT_HASH_MAX];
		size_t len = crypt_hash_len(spec->iv_hash);
		const EVP_CIPHER *ecb = cipher_of(CRYPT_ECB, len);

		ok = ecb && !hash_bytes(spec->iv_hash, key, key_len, NULL, 0, digest) &&
		     (c->iv = context(ecb, digest, true)) != NULL;
		crypt_wipe(digest, sizeof(digest));
	}
	if (ok)
		return c;
	if (cipher)
		err_set(err, "The cipher could not be set up");
	crypt_free(c);
	return NULL;
}

void crypt_free(struct crypt *c)
{
	if (!c)
		return;
	EVP_CIPHER_CTX_free(c->way[0]);
	EVP_CIPHER_CTX_free(c->way[1]);
	EVP_CIPHER_CTX_free(c->iv);
	free(c);
}

static bool make_iv(struct crypt *c, uint64_t sector, uint8_t iv[BLOCK])
{
	int len;

	memset(iv, 0, BLOCK);
	if (c->spec.iv == CRYPT_PLAIN)
		sector &= UINT32_MAX;
	st_le64(iv, sector);
	return c->spec.iv != CRYPT_ESSIV || EVP_CipherUpdate(c->iv, iv, &len, iv, BLOCK);
}

int crypt_run(struct crypt *c, bool encrypt, uint64_t sector, void *buf, size_t bytes)
{
	EVP_CIPHER_CTX *way = c->way[encrypt];
	uint8_t iv[BLOCK], *p = buf;
	int len;

	for (; bytes >= CRYPT_SECTOR; bytes -= CRYPT_SECTOR, p += CRYPT_SECTOR, sector++)
		if (!make_iv(c, sector, iv) ||
		    !EVP_CipherInit_ex(way, NULL, NULL, NULL, c->spec.mode == CRYPT_ECB ? NULL : iv, -1) ||
		    !EVP_CipherUpdate(way, p, &len, p, CRYPT_SECTOR))
			return -EIO;
	return bytes ? -EIO : 0;
}

/* --- keys --- */

size_t crypt_hash_len(const char *hash)
{
	const EVP_MD *md = EVP_get_digestbyname(hash);

	return md ? (size_t)EVP_MD_size(md) : 0;
}

int crypt_pbkdf2(const struct crypt_kdf *k, const void *pass, size_t len, uint8_t *out, size_t out_len)
{
	const EVP_MD *md = EVP_get_digestbyname(k->hash);

	if (!md || k->iterations > INT32_MAX ||
	    !PKCS5_PBKDF2_HMAC(pass, (int)len, k->salt, 32, (int)k->iterations, md, (int)out_len, out))
		return -EIO;
	return 0;
}

/* Each part of a block becomes the hash of its number and itself. */
static int diffuse(const char *hash, uint8_t *block, size_t len)
{
	size_t digest = crypt_hash_len(hash);
	uint8_t number[4], out[CRYPT_HASH_MAX];
	int ret = digest ? 0 : -EIO;

	for (size_t at = 0; at < len && !ret; at += digest) {
		size_t part = len - at < digest ? len - at : digest;

		st_be32(number, (uint32_t)(at / digest));
		ret = hash_bytes(hash, number, sizeof(number), block + at, part, out);
		memcpy(block + at, out, part);
	}
	return ret;
}

static void mix(uint8_t *to, const uint8_t *with, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] ^= with[i];
}

int crypt_af_split(const char *hash, const uint8_t *key, size_t len, unsigned stripes, uint8_t *out)
{
	uint8_t block[CRYPT_KEY_MAX] = { 0 };
	int ret = crypt_random(out, len * (stripes - 1));

	for (unsigned i = 0; i + 1 < stripes && !ret; i++) {
		mix(block, out + i * len, len);
		ret = diffuse(hash, block, len);
	}
	mix(block, key, len);
	memcpy(out + (size_t)(stripes - 1) * len, block, len);
	crypt_wipe(block, sizeof(block));
	return ret;
}

int crypt_af_merge(const char *hash, const uint8_t *in, size_t len, unsigned stripes, uint8_t *key)
{
	int ret = 0;

	memset(key, 0, len);
	for (unsigned i = 0; i + 1 < stripes && !ret; i++) {
		mix(key, in + i * len, len);
		ret = diffuse(hash, key, len);
	}
	mix(key, in + (size_t)(stripes - 1) * len, len);
	return ret;
}

int crypt_open(const uint8_t key[32], const uint8_t iv[16], uint8_t *data, size_t *len)
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int most = *len > INT_MAX ? 0 : (int)*len, n = 0, last = 0;
	bool ok = c && most && EVP_DecryptInit_ex(c, EVP_aes_256_cbc(), NULL, key, iv) &&
		  EVP_DecryptUpdate(c, data, &n, data, most) && EVP_DecryptFinal_ex(c, data + n, &last);

	EVP_CIPHER_CTX_free(c);
	*len = ok ? (size_t)n + (size_t)last : 0;
	return ok ? 0 : -1;
}

int crypt_random(void *buf, size_t len)
{
	return RAND_bytes(buf, (int)len) == 1 ? 0 : -EIO;
}

void crypt_wipe(void *buf, size_t len)
{
	OPENSSL_cleanse(buf, len);
}
