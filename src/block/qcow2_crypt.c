/*
 * Encrypted qcow2 images. LUKS: a header in clusters of its own, and sectors numbered by where they are in the file.
 * The older kind has AES-128 in CBC mode with the passphrase as the key, and sectors numbered by the guest. Metadata
 * and compressed clusters are never encrypted.
 */
#include "block/qcow2_crypt.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/secret.h"

#define AES_KEY 16u

static const char *const format_names[] = { "", "aes", "luks" };

static int unlock(struct node *n, const char *secret, struct err *err)
{
	struct qcow2 *s = qc(n);
	struct crypt_spec spec = { .mode = CRYPT_CBC, .iv = CRYPT_PLAIN64 };
	uint8_t key[CRYPT_KEY_MAX] = { 0 };
	size_t len, key_len = AES_KEY;
	const void *pass;

	if (!secret)
		return err_set(err, "Parameter 'encrypt.key-secret' is required for cipher");
	pass = secret_get(n->ctx, secret, &len, err);
	if (!pass)
		return -1;
	if (s->crypt == QC_CRYPT_LUKS) {
		if (luks_unlock(&s->enc->luks, pass, len, key, err) < 0)
			return -1;
		spec = s->enc->luks.spec;
		key_len = s->enc->luks.key_bytes;
	} else {
		memcpy(key, pass, len < AES_KEY ? len : AES_KEY);
	}
	s->enc->io.c = crypt_new(&spec, key, key_len, err);
	s->enc->secret = strdup(secret);
	crypt_wipe(key, sizeof(key));
	return s->enc->io.c && s->enc->secret ? 0 : -1;
}

int qc_crypt_open(struct node *n, struct opts *o, struct err *err)
{
	struct qcow2 *s = qc(n);
	const char *format = opts_take(o, "encrypt.format"), *secret = opts_take(o, "encrypt.key-secret");

	if (!s->crypt)
		return format ? err_set(err, "No encryption in image header, but options specified format '%s'", format)
			      : 0;
	if (format && strcmp(format, format_names[s->crypt]))
		return err_set(err, "Header reported '%s' encryption format but options specify '%s'",
			       format_names[s->crypt], format);
	s->enc = calloc(1, sizeof(*s->enc));
	if (!s->enc)
		return err_errno(err, ENOMEM, "Could not open image");
	s->enc->io.n = s->data;
	if (s->crypt == QC_CRYPT_LUKS) {
		if (!s->crypto_offset || s->crypto_offset & (s->cluster - 1) || s->crypto_offset > INT64_MAX ||
		    s->crypto_bytes > 1u << 26)
			return err_set(err, "Encryption header offset '%llu' or length '%llu' is not valid",
				       (unsigned long long)s->crypto_offset, (unsigned long long)s->crypto_bytes);
		if (luks_read(&s->enc->luks, n->file, s->crypto_offset, s->crypto_bytes, err))
			return -1;
	}
	return n->flags & (NODE_NO_IO | NODE_CHECK) ? 0 : unlock(n, secret, err);
}

void qc_crypt_free(struct qcow2 *s)
{
	if (!s->enc)
		return;
	crypt_free(s->enc->io.c);
	free(s->enc->secret);
	free(s->enc);
}

int qc_data_read(struct node *n, const struct qc_place *p, uint64_t bytes, const struct iovec *iov, unsigned niov)
{
	struct qcow2 *s = qc(n);

	if (!s->crypt)
		return node_readv(s->data, p->host, bytes, iov, niov);
	if (!s->enc->io.c)
		return -EPERM;
	return crypt_read(&s->enc->io, p->host, s->crypt == QC_CRYPT_LUKS ? p->host : p->guest, bytes, iov, niov);
}

int qc_data_write(struct node *n, const struct qc_place *p, uint64_t bytes, const struct iovec *iov, unsigned niov)
{
	struct qcow2 *s = qc(n);

	if (!s->crypt)
		return node_writev(s->data, p->host, bytes, iov, niov);
	if (!s->enc->io.c)
		return -EPERM;
	return crypt_write(&s->enc->io, p->host, s->crypt == QC_CRYPT_LUKS ? p->host : p->guest, bytes, iov, niov);
}

/* --- making --- */

int qc_crypt_wish(struct qc_crypt_plan *p, struct opts *o, struct err *err)
{
	const char *format = opts_take(o, "encrypt.format");
	bool old;

	if (opts_bool(o, "encryption", false, &old, err))
		return -1;
	if (old && format)
		return err_set(err, "Options encryption and encrypt.format are mutually exclusive");
	format = old ? "aes" : format;
	if (luks_take_wishes(&p->w, o, "encrypt.", err))
		return -1;
	p->kind = 0;
	while (format && p->kind < ARRAY_LEN(format_names) && strcmp(format, format_names[p->kind]))
		p->kind++;
	if (p->kind == ARRAY_LEN(format_names))
		return err_set(err, "Unknown encryption format '%s'", format);
	if (p->kind && !p->w.secret)
		return err_set(err, "Parameter 'encrypt.key-secret' is required for cipher");
	return 0;
}

int qc_crypt_create(struct node *n, const struct qc_crypt_plan *p, struct err *err)
{
	struct qcow2 *s = qc(n);
	uint8_t key[CRYPT_KEY_MAX];
	struct luks l;
	int64_t at;
	size_t len;
	int ret;

	if (p->kind == QC_CRYPT_AES && !secret_get(n->ctx, p->w.secret, &len, err))
		return -1;
	s->enc = calloc(1, sizeof(*s->enc)); /* preallocation may write */
	if (!s->enc)
		return err_errno(err, ENOMEM, "Could not make the image");
	s->enc->io.n = s->data;
	if (p->kind == QC_CRYPT_LUKS) {
		if (luks_plan(&l, &p->w, key, err))
			return -1;
		co_lock(&s->lock);
		at = qc_alloc(n, (l.room + s->cluster - 1) >> s->bits);
		ret = at < 0 ? (int)at : qc_flush(n);
		co_unlock(&s->lock);
		if (!ret)
			ret = node_zeroes(n->file, (uint64_t)at, align_up(l.room, s->cluster), 0);
		if (ret)
			return err_errno(err, -ret, "Could not write the encryption header");
		l.n = n->file;
		l.base = (uint64_t)at;
		ret = luks_put_key(&l, 0, &p->w, key, err);
		s->enc->io.c = ret ? NULL : crypt_new(&l.spec, key, l.key_bytes, err);
		crypt_wipe(key, sizeof(key));
		if (!s->enc->io.c)
			return -1;
		s->crypto_offset = l.base;
		s->crypto_bytes = l.room;
	}
	s->crypt = p->kind;
	return p->kind == QC_CRYPT_AES ? unlock(n, p->w.secret, err) : 0;
}

int qc_crypt_amend(struct node *n, struct opts *o, bool force, struct err *err)
{
	struct qcow2 *s = qc(n);

	if (!s->crypt)
		return err_set(err, "Can't amend encryption options - encryption not present");
	if (s->crypt != QC_CRYPT_LUKS)
		return err_set(err, "Only LUKS encryption options can be amended");
	return luks_amend(&s->enc->luks, o, "encrypt.", s->enc->secret, force, err);
}

struct json_t *qc_crypt_json(const struct qcow2 *s)
{
	json_t *o = s->crypt == QC_CRYPT_LUKS ? luks_json(&s->enc->luks) : json_object();

	json_object_set_new(o, "format", json_string(format_names[s->crypt]));
	return o;
}
