/* Secrets: see secret.h. */
#include "block/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/crypt.h"

#define SECRET_MAX 65536u /* bytes; a key file of more is a slip */

struct secret {
	char *id;
	unsigned char *data; /* with a 0 behind it */
	size_t len;
	struct secret *next;
};

static int read_file(const char *path, unsigned char *out, size_t *len, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = 0;

	*len = 0;
	while (fd >= 0 && *len <= SECRET_MAX && (n = read(fd, out + *len, SECRET_MAX + 1 - *len)) > 0)
		*len += (size_t)n;
	if (fd < 0 || n < 0) {
		err_errno(err, errno, "Unable to read %s", path);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	close(fd);
	return *len > SECRET_MAX ? err_set(err, "Unable to read %s: more than %u bytes", path, SECRET_MAX) : 0;
}

/* In place. */
static int decode(unsigned char *data, size_t *len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned bits = 0, have = 0;
	size_t n = 0, seen = 0, ends = 0;

	for (size_t i = 0; i < *len; i++) {
		const char *d = data[i] ? strchr(digits, data[i]) : NULL;

		if (data[i] == '\n' || data[i] == '\r')
			continue;
		seen++;
		if (data[i] == '=') {
			ends++;
			continue;
		}
		if (!d || ends)
			return -1;
		bits = bits << 6 | (unsigned)(d - digits);
		have += 6;
		if (have >= 8) {
			have -= 8;
			data[n++] = (unsigned char)(bits >> have);
		}
	}
	*len = n;
	return seen % 4 || ends > 2 ? -1 : 0;
}

/* What came sealed, as libvirt hands passwords over: with another secret, 32 bytes as base64, for its key. */
static int unseal(const struct node_ctx *c, struct secret *s, const char *keyid, const char *iv_text, struct err *err)
{
	unsigned char *key, iv[64] = { 0 };
	const void *key_text;
	size_t key_len, iv_len;
	int ret = -1;

	if (!iv_text)
		return err_set(err, "IV is required to decrypt secret");
	iv_len = strnlen(iv_text, sizeof(iv));
	memcpy(iv, iv_text, iv_len);
	if (iv_len == sizeof(iv) || decode(iv, &iv_len))
		return err_set(err, "Base64 data '%s' is not valid", iv_text);
	if (iv_len != 16)
		return err_set(err, "IV should be 16 bytes in length not %zu", iv_len);
	key_text = secret_get(c, keyid, &key_len, err);
	if (!key_text)
		return -1;
	key = malloc(key_len + 1);
	if (!key)
		return err_errno(err, ENOMEM, "secret");
	memcpy(key, key_text, key_len);
	if (key_len != 32)
		err_set(err, "Key should be 32 bytes in length, not %zu", key_len);
	else if (crypt_open(key, iv, s->data, &s->len))
		err_set(err, "Incorrect number of padding bytes found on decrypted data");
	else
		ret = 0;
	crypt_wipe(key, key_len);
	free(key);
	return ret;
}

static int fill(const struct node_ctx *c, struct secret *s, struct opts *o, struct err *err)
{
	const char *data = opts_take(o, "data"), *file = opts_take(o, "file"), *format = opts_take(o, "format");
	const char *keyid = opts_take(o, "keyid"), *iv = opts_take(o, "iv");

	if (data && file)
		return err_set(err, "'file' and 'data' are mutually exclusive");
	if (!data && !file)
		return err_set(err, "Either 'file' or 'data' must be provided");
	if (format && strcmp(format, "raw") && strcmp(format, "base64"))
		return err_set(err, "Parameter 'format' does not accept value '%s'", format);
	s->len = data ? strlen(data) : SECRET_MAX;
	s->data = calloc(1, s->len + 2);
	if (!s->data)
		return err_errno(err, ENOMEM, "secret");
	if (data)
		memcpy(s->data, data, s->len);
	else if (read_file(file, s->data, &s->len, err))
		return -1;
	if (format && !strcmp(format, "base64") && decode(s->data, &s->len))
		return err_set(err, "Base64 data '%s' is not valid", data ? data : file);
	if (keyid && unseal(c, s, keyid, iv, err))
		return -1;
	s->data[s->len] = 0;
	return 0;
}

static void forget(struct secret *s)
{
	if (s->data)
		explicit_bzero(s->data, s->len);
	free(s->data);
	free(s->id);
	free(s);
}

static struct secret *find(const struct node_ctx *c, const char *id)
{
	struct secret *s = c->secrets;

	while (s && strcmp(s->id, id))
		s = s->next;
	return s;
}

int secret_add(struct node_ctx *c, struct opts *o, struct err *err)
{
	const char *type = opts_take(o, "qom-type"), *id = opts_take(o, "id"), *unknown;
	struct secret *s;

	if (!type)
		return err_set(err, "Parameter 'qom-type' is missing");
	if (strcmp(type, "secret"))
		return err_set(err, "Parameter 'qom-type' does not accept value '%s'", type);
	if (!id)
		return err_set(err, "Parameter 'id' is missing");
	if (find(c, id))
		return err_set(err, "attempt to add duplicate property '%s' to object (type 'container')", id);
	s = calloc(1, sizeof(*s));
	if (!s || !(s->id = strdup(id))) {
		free(s);
		return err_errno(err, ENOMEM, "secret");
	}
	if (fill(c, s, o, err)) {
		forget(s);
		return -1;
	}
	unknown = opts_unknown(o);
	if (unknown) {
		forget(s);
		return err_set(err, "Parameter '%s' is unexpected", unknown);
	}
	s->next = c->secrets;
	c->secrets = s;
	return 0;
}

const void *secret_get(const struct node_ctx *c, const char *id, size_t *len, struct err *err)
{
	struct secret *s = find(c, id);

	if (!s) {
		err_set(err, "No secret with id '%s'", id);
		return NULL;
	}
	*len = s->len;
	return s->data;
}

void secrets_free(struct node_ctx *c)
{
	while (c->secrets) {
		struct secret *s = c->secrets;

		c->secrets = s->next;
		forget(s);
	}
}
