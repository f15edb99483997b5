/* LUKS headers: see luks.h. */
#include "block/luks.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "block/secret.h"

#define HEADER	       592u /* bytes */
#define SLOT_AT	       208u
#define SLOT_BYTES     48u
#define SLOT_ACTIVE    0x00ac71f3u
#define SLOT_DISABLED  0x0000deadu
#define STRIPES	       4000u
#define ITERATIONS_MIN 1000u

static const uint8_t magic[6] = { 'L', 'U', 'K', 'S', 0xba, 0xbe };

/* Of the material of a slot, with what it is rounded up to. */
static uint32_t slot_sectors(const struct luks *l)
{
	return (uint32_t)(align_up((uint64_t)l->key_bytes * STRIPES, 4096) / CRYPT_SECTOR);
}

static uint32_t material_sectors(const struct luks *l)
{
	return (l->key_bytes * STRIPES + CRYPT_SECTOR - 1) / CRYPT_SECTOR;
}

/* --- the header --- */

/* "xts-plain64", "cbc-essiv:sha256". */
static int parse_mode(struct luks *l, struct err *err)
{
	static const char *const modes[] = { "xts", "cbc", "ecb" }, *const ivs[] = { "plain64", "plain", "essiv" };
	const char *dash = strchr(l->mode, '-'), *iv = dash ? dash + 1 : "";
	size_t len = dash ? (size_t)(dash - l->mode) : 0, iv_len = strcspn(iv, ":");
	unsigned m = 0, i = 0;

	while (m < 3 && (strlen(modes[m]) != len || strncmp(modes[m], l->mode, len)))
		m++;
	while (i < 3 && (strlen(ivs[i]) != iv_len || strncmp(ivs[i], iv, iv_len)))
		i++;
	if (m == 3 || i == 3)
		return err_set(err, "Cipher mode '%s' is not supported", l->mode);
	if (strcmp(l->cipher, "aes"))
		return err_set(err, "Algorithm '%s' is not supported", l->cipher);
	l->spec = (struct crypt_spec){ .mode = (enum crypt_mode)m, .iv = (enum crypt_iv)i };
	snprintf(l->spec.iv_hash, sizeof(l->spec.iv_hash), "%s", iv[iv_len] ? iv + iv_len + 1 : "");
	if (i == CRYPT_ESSIV && !crypt_hash_len(l->spec.iv_hash))
		return err_set(err, "Hash algorithm '%s' is not supported", l->spec.iv_hash);
	if (!crypt_hash_len(l->hash))
		return err_set(err, "Hash algorithm '%s' is not supported", l->hash);
	return 0;
}

static int text(const uint8_t *p, size_t len, char *out, const char *what, struct err *err)
{
	if (!memchr(p, 0, len))
		return err_set(err, "LUKS header %s is not NUL terminated", what);
	memcpy(out, p, len);
	/* It may be shown. */
	for (const char *c = out; *c; c++)
		if (*c < ' ' || *c > '~')
			return err_set(err, "LUKS header %s is not text", what);
	return 0;
}

static int check_slot(const struct luks *l, unsigned i, const uint8_t *p, struct err *err)
{
	const struct luks_slot *s = &l->slot[i];
	uint32_t state = ld_be32(p), len = material_sectors(l);

	if (ld_be32(p + 44) != STRIPES)
		return err_set(err, "Keyslot %u is corrupted (stripes %u != %u)", i, ld_be32(p + 44), STRIPES);
	if (state != SLOT_ACTIVE && state != SLOT_DISABLED)
		return err_set(err, "Keyslot %u state (active/disable) is corrupted", i);
	if (s->active && !s->iterations)
		return err_set(err, "Keyslot %u iteration count is zero", i);
	if (s->active && s->iterations > LUKS_ITERATIONS_MAX)
		return err_set(err, "Keyslot %u wants %u PBKDF iterations, which are more than %u", i, s->iterations,
			       LUKS_ITERATIONS_MAX);
	if (s->offset < 2)
		return err_set(err, "Keyslot %u is overlapping with the LUKS header", i);
	if ((uint64_t)s->offset + len > l->payload || ((uint64_t)s->offset + len) * CRYPT_SECTOR > l->room)
		return err_set(err, "Keyslot %u is overlapping with the encrypted payload", i);
	for (unsigned k = 0; k < i; k++)
		if ((uint64_t)l->slot[k].offset + len > s->offset && (uint64_t)s->offset + len > l->slot[k].offset)
			return err_set(err, "Keyslots %u and %u are overlapping in the header", k, i);
	return 0;
}

static int parse(struct luks *l, const uint8_t *h, struct err *err)
{
	if (memcmp(h, magic, sizeof(magic)))
		return err_set(err, "Volume is not in LUKS format");
	if (ld_be16(h + 6) != 1)
		return err_set(err, "LUKS version %u is not supported", ld_be16(h + 6));
	if (text(h + 8, 32, l->cipher, "cipher name", err) || text(h + 40, 32, l->mode, "cipher mode", err) ||
	    text(h + 72, 32, l->hash, "hash spec", err) || text(h + 168, 40, l->uuid, "uuid", err))
		return -1;
	l->payload = ld_be32(h + 104);
	l->key_bytes = ld_be32(h + 108);
	memcpy(l->digest, h + 112, LUKS_DIGEST);
	memcpy(l->salt, h + 132, LUKS_SALT);
	l->iterations = ld_be32(h + 164);
	if (l->payload < 2)
		return err_set(err, "LUKS payload is overlapping with the header");
	if (!l->iterations || l->iterations > LUKS_ITERATIONS_MAX)
		return err_set(err, l->iterations ? "LUKS key iteration count is too large"
						  : "LUKS key iteration count is zero");
	if (!l->key_bytes || l->key_bytes > CRYPT_KEY_MAX)
		return err_set(err, "LUKS key of %u bytes is not supported", l->key_bytes);
	for (unsigned i = 0; i < LUKS_SLOTS; i++) {
		const uint8_t *p = h + SLOT_AT + i * SLOT_BYTES;

		l->slot[i].active = ld_be32(p) == SLOT_ACTIVE;
		l->slot[i].iterations = ld_be32(p + 4);
		memcpy(l->slot[i].salt, p + 8, LUKS_SALT);
		l->slot[i].offset = ld_be32(p + 40);
		if (check_slot(l, i, p, err))
			return -1;
	}
	return parse_mode(l, err);
}

int luks_read(struct luks *l, struct node *n, uint64_t base, uint64_t room, struct err *err)
{
	uint8_t h[HEADER];
	int ret = room < HEADER ? -EINVAL : node_read(n, base, h, HEADER);

	*l = (struct luks){ .n = n, .base = base, .room = room };
	if (ret)
		return err_errno(err, -ret, "Unable to read LUKS header");
	return parse(l, h, err);
}

static int write_header(struct luks *l, struct err *err)
{
	uint8_t h[HEADER] = { 0 };
	int ret;

	memcpy(h, magic, sizeof(magic));
	st_be16(h + 6, 1);
	memcpy(h + 8, l->cipher, 32);
	memcpy(h + 40, l->mode, 32);
	memcpy(h + 72, l->hash, 32);
	st_be32(h + 104, l->payload);
	st_be32(h + 108, l->key_bytes);
	memcpy(h + 112, l->digest, LUKS_DIGEST);
	memcpy(h + 132, l->salt, LUKS_SALT);
	st_be32(h + 164, l->iterations);
	memcpy(h + 168, l->uuid, 40);
	for (unsigned i = 0; i < LUKS_SLOTS; i++) {
		uint8_t *p = h + SLOT_AT + i * SLOT_BYTES;

		st_be32(p, l->slot[i].active ? SLOT_ACTIVE : SLOT_DISABLED);
		st_be32(p + 4, l->slot[i].iterations);
		memcpy(p + 8, l->slot[i].salt, LUKS_SALT);
		st_be32(p + 40, l->slot[i].offset);
		st_be32(p + 44, STRIPES);
	}
	ret = node_write(l->n, l->base, h, HEADER);
	if (!ret)
		ret = node_flush(l->n);
	return ret ? err_errno(err, -ret, "Unable to write LUKS header") : 0;
}

/* --- keys: what takes long runs in a thread --- */

struct job {
	struct luks *l;
	unsigned slot;
	const void *pass;
	size_t len;
	uint8_t *material, *key; /* of the slot; of the disk */
	uint32_t ms;
	bool matches;
};

static int slot_cipher(struct job *j, bool encrypt)
{
	struct luks *l = j->l;
	uint8_t k[CRYPT_KEY_MAX];
	struct crypt *c;
	struct err err;
	struct crypt_kdf kdf = { l->hash, l->slot[j->slot].salt, l->slot[j->slot].iterations };
	int ret = crypt_pbkdf2(&kdf, j->pass, j->len, k, l->key_bytes);

	c = ret ? NULL : crypt_new(&l->spec, k, l->key_bytes, &err);
	ret = c ? crypt_run(c, encrypt, 0, j->material, (size_t)material_sectors(l) * CRYPT_SECTOR) : -EIO;
	crypt_free(c);
	crypt_wipe(k, sizeof(k));
	return ret;
}

static int digest_of(const struct job *j, uint8_t digest[LUKS_DIGEST])
{
	struct crypt_kdf kdf = { j->l->hash, j->l->salt, j->l->iterations };

	return crypt_pbkdf2(&kdf, j->key, j->l->key_bytes, digest, LUKS_DIGEST);
}

static int open_slot(void *opaque)
{
	struct job *j = opaque;
	struct luks *l = j->l;
	uint8_t digest[LUKS_DIGEST];
	int ret = slot_cipher(j, false);

	if (!ret)
		ret = crypt_af_merge(l->hash, j->material, l->key_bytes, STRIPES, j->key);
	if (!ret)
		ret = digest_of(j, digest);
	j->matches = !ret && !memcmp(digest, l->digest, LUKS_DIGEST);
	return ret;
}

/* 1: the passphrase is this slot's; 0: it is not. */
static int try_slot(struct luks *l, unsigned slot, const void *pass, size_t len, uint8_t *key)
{
	size_t bytes = (size_t)material_sectors(l) * CRYPT_SECTOR;
	struct job j = { l, slot, pass, len, malloc(bytes), key };
	int ret;

	if (!l->slot[slot].active) {
		free(j.material);
		return 0;
	}
	ret = j.material ? node_read(l->n, l->base + (uint64_t)l->slot[slot].offset * CRYPT_SECTOR, j.material, bytes)
			 : -ENOMEM;
	if (!ret)
		ret = node_work(l->n->ctx, open_slot, &j);
	if (j.material)
		crypt_wipe(j.material, bytes);
	free(j.material);
	return ret ? ret : j.matches;
}

int luks_unlock(struct luks *l, const void *pass, size_t len, uint8_t key[CRYPT_KEY_MAX], struct err *err)
{
	for (unsigned i = 0; i < LUKS_SLOTS; i++) {
		int ret = try_slot(l, i, pass, len, key);

		if (ret < 0)
			return err_errno(err, -ret, "Failed to read key material of slot %u", i);
		if (ret)
			return (int)i;
	}
	return err_set(err, "Invalid password, cannot unlock any keyslot");
}

/* How many iterations take so long here. */
static uint32_t iterations_for(const struct luks *l, uint64_t ms)
{
	uint8_t out[CRYPT_KEY_MAX], salt[LUKS_SALT] = { 0 };
	struct timespec a, b;
	uint64_t n = 4096, ns = 0;

	while (n < LUKS_ITERATIONS_MAX) {
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
		crypt_pbkdf2(&(struct crypt_kdf){ l->hash, salt, (uint32_t)n }, "vireo", 5, out, l->key_bytes);
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
		ns = (uint64_t)(b.tv_sec - a.tv_sec) * 1000000000u + (uint64_t)b.tv_nsec - (uint64_t)a.tv_nsec;
		if (ns > 20000000)
			break;
		n *= 2;
	}
	n = ns ? (uint64_t)((double)n * (double)ms * 1e6 / (double)ns) : ITERATIONS_MIN;
	return n < ITERATIONS_MIN ? ITERATIONS_MIN : n > LUKS_ITERATIONS_MAX ? LUKS_ITERATIONS_MAX : (uint32_t)n;
}

static int fill_slot(void *opaque)
{
	struct job *j = opaque;
	struct luks *l = j->l;
	struct luks_slot *s = &l->slot[j->slot];
	int ret = crypt_random(s->salt, LUKS_SALT);

	s->iterations = iterations_for(l, j->ms);
	if (!ret)
		ret = crypt_af_split(l->hash, j->key, l->key_bytes, STRIPES, j->material);
	return ret ? ret : slot_cipher(j, true);
}

int luks_put_key(struct luks *l, unsigned slot, const struct luks_wishes *w, const uint8_t *key, struct err *err)
{
	size_t bytes = (size_t)material_sectors(l) * CRYPT_SECTOR;
	struct job j = { .l = l, .slot = slot, .material = calloc(1, bytes), .key = (uint8_t *)key };
	int ret;

	j.ms = (uint32_t)w->iter_ms;
	j.pass = secret_get(l->n->ctx, w->secret, &j.len, err);
	ret = j.pass ? 0 : -1;
	if (!ret && (!j.material || node_work(l->n->ctx, fill_slot, &j)))
		ret = err_set(err, "Failed to make key material");
	if (!ret) {
		ret = node_write(l->n, l->base + (uint64_t)l->slot[slot].offset * CRYPT_SECTOR, j.material, bytes);
		/* It is there before the header says so. */
		if (!ret)
			ret = node_flush(l->n);
		if (ret)
			err_errno(err, -ret, "Failed to write to keyslot %u", slot);
	}
	free(j.material);
	if (ret)
		return -1;
	l->slot[slot].active = true;
	return write_header(l, err);
}

/* --- a new one --- */

static void new_uuid(char out[40])
{
	uint8_t b[16];

	crypt_random(b, sizeof(b));
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	memset(out, 0, 40);
	for (unsigned i = 0, at = 0; i < 16; i++)
		at += (unsigned)snprintf(out + at, 40 - at, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
					 b[i]);
}

static int digest_key(void *opaque)
{
	struct job *j = opaque;
	struct luks *l = j->l;

	/* An eighth of the time, as of that of eight slots. */
	l->iterations = iterations_for(l, j->ms / 8);
	return digest_of(j, l->digest);
}

int luks_take_wishes(struct luks_wishes *w, struct opts *o, const char *prefix, struct err *err)
{
	static const char *const names[] = { "cipher-alg", "cipher-mode", "ivgen-alg", "ivgen-hash-alg", "hash-alg" };
	const char **to[] = { &w->cipher, &w->mode, &w->iv, &w->iv_hash, &w->hash };
	char key[64];

	*w = (struct luks_wishes){ .prefix = prefix };
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(key, sizeof(key), "%s%s", prefix, names[i]);
		*to[i] = opts_take(o, key);
	}
	snprintf(key, sizeof(key), "%skey-secret", prefix);
	w->secret = opts_take(o, key);
	snprintf(key, sizeof(key), "%siter-time", prefix);
	if (opts_number(o, key, 2000, &w->iter_ms, err))
		return -1;
	if (!w->iter_ms || w->iter_ms > 1000000)
		return err_set(err, "Parameter '%s' must be from 1 to 1000000", key);
	return 0;
}

/* What a header says, and where its slots are. */
static int lay_out(struct luks *l, const struct luks_wishes *w, struct err *err)
{
	const char *cipher = w->cipher ? w->cipher : "aes-256", *mode = w->mode ? w->mode : "xts",
		   *iv = w->iv ? w->iv : "plain64", *iv_hash = w->iv_hash;
	unsigned bits = 0;

	*l = (struct luks){ .cipher = "aes" };
	if (sscanf(cipher, "aes-%u", &bits) != 1 || (bits != 128 && bits != 192 && bits != 256))
		return err_set(err, "Algorithm '%s' is not supported", cipher);
	if (!strcmp(iv, "essiv") && !iv_hash)
		iv_hash = "sha256";
	if (snprintf(l->mode, sizeof(l->mode), "%s-%s%s%s", mode, iv, iv_hash ? ":" : "", iv_hash ? iv_hash : "") >=
		    32 ||
	    snprintf(l->hash, sizeof(l->hash), "%s", w->hash ? w->hash : "sha256") >= 32)
		return err_set(err, "Cipher mode '%s' is not supported", mode);
	l->key_bytes = bits / 8 * (strcmp(mode, "xts") ? 1 : 2);
	if (parse_mode(l, err))
		return -1;
	if (!w->secret)
		return err_set(err, "Parameter '%skey-secret' is required for cipher", w->prefix);
	for (unsigned i = 0; i < LUKS_SLOTS; i++)
		l->slot[i].offset = LUKS_HEADER_SECTORS + i * slot_sectors(l);
	l->payload = LUKS_HEADER_SECTORS + LUKS_SLOTS * slot_sectors(l);
	l->room = (uint64_t)l->payload * CRYPT_SECTOR;
	return 0;
}

int luks_room(const struct node_ctx *c, const struct luks_wishes *w, uint64_t *room, struct err *err)
{
	struct luks l;
	size_t len;

	if (lay_out(&l, w, err) || !secret_get(c, w->secret, &len, err))
		return -1;
	*room = l.room;
	return 0;
}

int luks_plan(struct luks *l, const struct luks_wishes *w, uint8_t key[CRYPT_KEY_MAX], struct err *err)
{
	struct job j = { .l = l, .key = key, .ms = (uint32_t)w->iter_ms };
	struct crypt *c;

	if (lay_out(l, w, err))
		return -1;
	new_uuid(l->uuid);
	if (crypt_random(l->salt, LUKS_SALT) || crypt_random(key, l->key_bytes) || digest_key(&j))
		return err_set(err, "Failed to make a key");
	c = crypt_new(&l->spec, key, l->key_bytes, err);
	crypt_free(c);
	return c ? 0 : -1;
}

/* --- slots of one that is there --- */

struct change {
	const char *state, *old_secret, *new_secret;
	uint64_t slot; /* LUKS_SLOTS: any */
	bool has_time;
};

static unsigned active_slots(const struct luks *l)
{
	unsigned n = 0;

	for (unsigned i = 0; i < LUKS_SLOTS; i++)
		n += l->slot[i].active;
	return n;
}

static int add_slot(struct luks *l, const struct change *c, struct luks_wishes *w, const char *secret, bool force,
		    struct err *err)
{
	uint8_t key[CRYPT_KEY_MAX];
	uint64_t slot = c->slot;
	const void *pass;
	size_t len;
	int ret;

	if (!c->new_secret)
		return err_set(err, "'new-secret' is required to activate a keyslot");
	if (c->old_secret)
		return err_set(err, "'old-secret' must not be given when activating keyslots");
	for (uint64_t i = 0; i < LUKS_SLOTS && slot == LUKS_SLOTS; i++)
		slot = l->slot[i].active ? slot : i;
	if (slot == LUKS_SLOTS)
		return err_set(err, "Can't add a keyslot - all keyslots are in use");
	if (!force && l->slot[slot].active)
		return err_set(err, "Refusing to overwrite active keyslot %u - please erase it first", (unsigned)slot);
	pass = secret ? secret_get(l->n->ctx, secret, &len, err) : NULL;
	if (!pass)
		return secret ? -1 : err_set(err, "Parameter 'key-secret' is required for cipher");
	if (luks_unlock(l, pass, len, key, err) < 0)
		return -1;
	w->secret = c->new_secret;
	ret = luks_put_key(l, (unsigned)slot, w, key, err);
	crypt_wipe(key, sizeof(key));
	return ret;
}

/* Its material is overwritten, and then the header forgets it. */
static int erase_slot(struct luks *l, unsigned i, struct err *err)
{
	size_t bytes = (size_t)material_sectors(l) * CRYPT_SECTOR;
	uint8_t *noise = malloc(bytes);
	int ret = noise ? crypt_random(noise, bytes) : -ENOMEM;

	l->slot[i].active = false;
	l->slot[i].iterations = 0;
	memset(l->slot[i].salt, 0, LUKS_SALT);
	if (!ret && write_header(l, err))
		ret = -EIO;
	if (!ret)
		ret = node_write(l->n, l->base + (uint64_t)l->slot[i].offset * CRYPT_SECTOR, noise, bytes);
	if (!ret)
		ret = node_flush(l->n);
	free(noise);
	return ret ? err_errno(err, -ret, "Failed to erase keyslot %u", i) : 0;
}

static int erase_slots(struct luks *l, const struct change *c, bool force, struct err *err)
{
	uint8_t key[CRYPT_KEY_MAX];
	const void *pass = NULL;
	bool match[LUKS_SLOTS] = { false };
	unsigned matches = 0;
	size_t len = 0;

	if (c->new_secret || c->has_time)
		return err_set(err, "'%s' must not be given when erasing keyslots",
			       c->new_secret ? "new-secret" : "iter-time");
	if (c->slot == LUKS_SLOTS && !c->old_secret)
		return err_set(err, "To erase keyslot(s), either explicit keyslot index or the password currently "
				    "contained in them must be given");
	if (c->old_secret && !(pass = secret_get(l->n->ctx, c->old_secret, &len, err)))
		return -1;
	for (unsigned i = 0; i < LUKS_SLOTS; i++) {
		if (c->slot != LUKS_SLOTS && c->slot != i)
			continue;
		match[i] = pass ? try_slot(l, i, pass, len, key) == 1 : true;
		matches += match[i];
	}
	crypt_wipe(key, sizeof(key));
	if (!matches && c->slot != LUKS_SLOTS)
		return err_set(err, "Given keyslot %u doesn't contain the given old password for erase operation",
			       (unsigned)c->slot);
	if (!matches)
		return err_set(err, "No keyslots match given (old) password for erase operation");
	if (!force && c->slot != LUKS_SLOTS && !l->slot[c->slot].active)
		return err_set(err, "Given keyslot %u is already erased (inactive) ", (unsigned)c->slot);
	if (!force && matches == active_slots(l))
		return c->slot != LUKS_SLOTS
			       ? err_set(err,
					 "Attempt to erase the only active keyslot %u which will erase all the data in "
					 "the image irreversibly - refusing operation",
					 (unsigned)c->slot)
			       : err_set(err,
					 "All the active keyslots match the (old) password that was given and erasing "
					 "them will erase all the data in the image irreversibly - refusing operation");
	for (unsigned i = 0; i < LUKS_SLOTS; i++)
		if (match[i] && erase_slot(l, i, err))
			return -1;
	return 0;
}

int luks_amend(struct luks *l, struct opts *o, const char *prefix, const char *secret, bool force, struct err *err)
{
	const char *names[] = { "state", "old-secret", "new-secret" };
	struct change c = { 0 };
	const char **to[] = { &c.state, &c.old_secret, &c.new_secret };
	struct luks_wishes w;
	char key[64];

	for (unsigned i = 0; i < 3; i++) {
		snprintf(key, sizeof(key), "%s%s", prefix, names[i]);
		*to[i] = opts_take(o, key);
	}
	snprintf(key, sizeof(key), "%siter-time", prefix);
	c.has_time = opts_get(o, key);
	if (luks_take_wishes(&w, o, prefix, err))
		return -1;
	snprintf(key, sizeof(key), "%skeyslot", prefix);
	if (opts_number(o, key, LUKS_SLOTS, &c.slot, err))
		return -1;
	if (opts_get(o, key) && c.slot >= LUKS_SLOTS)
		return err_set(err, "Invalid keyslot %lld specified, must be between 0 and %u", (long long)c.slot,
			       LUKS_SLOTS - 1);
	if (c.state && !strcmp(c.state, "active"))
		return add_slot(l, &c, &w, secret, force, err);
	if (c.state && !strcmp(c.state, "inactive"))
		return erase_slots(l, &c, force, err);
	return c.state ? err_set(err, "Parameter 'state' does not accept value '%s'", c.state)
		       : err_set(err, "Parameter 'state' is missing");
}

/* --- info --- */

json_t *luks_json(const struct luks *l)
{
	static const char *const modes[] = { "xts", "cbc", "ecb" }, *const ivs[] = { "plain64", "plain", "essiv" };
	unsigned bits = l->key_bytes * 8 / (l->spec.mode == CRYPT_XTS ? 2 : 1);
	json_t *o = json_object(), *slots = json_array();
	char cipher[16];

	snprintf(cipher, sizeof(cipher), "aes-%u", bits);
	json_object_set_new(o, "ivgen-alg", json_string(ivs[l->spec.iv]));
	if (l->spec.iv == CRYPT_ESSIV)
		json_object_set_new(o, "ivgen-hash-alg", json_string(l->spec.iv_hash));
	json_object_set_new(o, "hash-alg", json_string(l->hash));
	json_object_set_new(o, "cipher-alg", json_string(cipher));
	json_object_set_new(o, "uuid", json_string(l->uuid));
	json_object_set_new(o, "cipher-mode", json_string(modes[l->spec.mode]));
	for (unsigned i = 0; i < LUKS_SLOTS; i++) {
		const struct luks_slot *s = &l->slot[i];
		json_t *x = json_pack("{s:b}", "active", s->active);

		if (s->active) {
			json_object_set_new(x, "iters", json_integer(s->iterations));
			json_object_set_new(x, "stripes", json_integer(STRIPES));
		}
		json_object_set_new(x, "key-offset", json_integer((json_int_t)s->offset * CRYPT_SECTOR));
		json_array_append_new(slots, x);
	}
	json_object_set_new(o, "slots", slots);
	json_object_set_new(o, "payload-offset", json_integer((json_int_t)l->payload * CRYPT_SECTOR));
	json_object_set_new(o, "master-key-iters", json_integer(l->iterations));
	return o;
}
