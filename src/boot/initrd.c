/* See initrd.h. */
#include "boot/initrd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/bytes.h"
#include "base/log.h"

#define WINDOW	    65536u
#define CPIO_HEADER 110u
#define NAME_MAX_   4096u

struct initrd_check {
	int fd;
	char *path;
	uint64_t size, at; /* `at`: everything before is fine */
	uint64_t window_at;
	uint32_t window_len;
	uint8_t window[WINDOW];
};

/* What a part of the file turned out to be. */
enum verdict {
	WHOLE,	   /* k->at is behind it */
	TRUNCATED, /* the file ends before the part does */
	DAMAGED,
	UNKNOWN, /* cannot be judged, nor can what follows it */
	LATER	 /* takes long */
};

/* Up to WINDOW bytes at `at`, valid until the next call; NULL if the file ends before. */
static const uint8_t *peek(struct initrd_check *k, uint64_t at, uint32_t len)
{
	if (!range_within(at, len, k->size))
		return NULL;
	if (at < k->window_at || !range_within(at - k->window_at, len, k->window_len)) {
		ssize_t n = pread(k->fd, k->window, WINDOW, (off_t)at);

		k->window_at = at;
		k->window_len = n > 0 ? (uint32_t)n : 0;
		if (len > k->window_len)
			return NULL;
	}
	return k->window + (at - k->window_at);
}

/* --- cpio: man 5 cpio, "New ASCII Format" --- */

static bool hex8(const uint8_t *p, uint32_t *v)
{
	*v = 0;
	for (unsigned n = 0; n < 8; n++) {
		unsigned c = p[n] | 0x20u, d = c - '0';

		if (d > 9)
			d = c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
		if (d > 15)
			return false;
		*v = *v << 4 | d;
	}
	return true;
}

static enum verdict walk_cpio(struct initrd_check *k)
{
	uint64_t at = k->at;

	while (at < k->size) {
		const uint8_t *h = peek(k, at, CPIO_HEADER);
		uint32_t file, name;
		bool last;

		if (!h)
			return TRUNCATED;
		if ((memcmp(h, "070701", 6) && memcmp(h, "070702", 6)) || !hex8(h + 54, &file) || !hex8(h + 94, &name))
			return DAMAGED;
		if (!name || name > NAME_MAX_)
			return DAMAGED;
		h = peek(k, at + CPIO_HEADER, name);
		if (!h)
			return TRUNCATED;
		last = name == sizeof("TRAILER!!!") && !memcmp(h, "TRAILER!!!", sizeof("TRAILER!!!"));
		/* Offsets count from the start of the archive, which is aligned itself. */
		at = align_up(at + CPIO_HEADER + name, 4);
		if (!range_within(at, file, k->size))
			return TRUNCATED;
		at = align_up(at + file, 4);
		/* The padding of the very last member is often missing. */
		k->at = at < k->size ? at : k->size;
		if (last)
			return WHOLE;
		/* Without a trailer the next archive may follow at once. */
		h = peek(k, k->at, 6);
		if (h && memcmp(h, "07070", 5))
			return WHOLE;
	}
	log_line(LOG_WARN, "boot", "initrd: %s has no trailer: is it truncated?", k->path);
	return WHOLE;
}

/* --- zstd: RFC 8878, 3.1.1 --- */

static enum verdict walk_zstd(struct initrd_check *k)
{
	static const uint8_t dictionary[] = { 0, 1, 2, 4 }, content[] = { 0, 2, 4, 8 };
	const uint8_t *h = peek(k, k->at, 5);
	uint64_t at = k->at + 5;
	uint32_t block;
	uint8_t d;

	if (!h)
		return TRUNCATED;
	d = h[4];
	if (!(d & 0x20))
		at++; /* window descriptor */
	at += dictionary[d & 3];
	at += d >> 6 ? content[d >> 6] : (d & 0x20) >> 5;
	do {
		h = peek(k, at, 3);
		if (!h)
			return TRUNCATED;
		block = ld_le16(h) | (uint32_t)h[2] << 16;
		if ((block >> 1 & 3) == 3)
			return DAMAGED;
		at += 3 + ((block >> 1 & 3) == 1 ? 1 : block >> 3);
	} while (!(block & 1));
	at += d & 4 ? 4 : 0;
	if (at > k->size)
		return TRUNCATED;
	k->at = at;
	return WHOLE;
}

/* --- xz: "The .xz File Format" 1.1.0, 2.1.2. What it takes to skip a stream is at its end --- */

static bool is_xz_footer(const uint8_t *f)
{
	return f[10] == 'Y' && f[11] == 'Z' && ld_le32(f) == crc32(0, f + 4, 6);
}

static enum verdict walk_xz(struct initrd_check *k)
{
	uint64_t end = k->size;
	const uint8_t *f;

	/* Nearly always it is the last part. */
	while (end > k->at && (f = peek(k, end - 1, 1)) && !*f)
		end--;
	f = end - k->at >= 24 ? peek(k, end - 12, 12) : NULL;
	if (f && is_xz_footer(f)) {
		k->at = end;
		return WHOLE;
	}
	/* Streams are multiples of four bytes; blocks do not say how long they are, so look for the footer. */
	for (uint64_t at = k->at + 12; (f = peek(k, at, 12)); at += 4) {
		if (f[10] == 'Y' && is_xz_footer(f)) {
			k->at = at + 12;
			return WHOLE;
		}
	}
	return TRUNCATED;
}

/* --- lz4, the legacy frame that `lz4 -l` and the kernel's build write --- */

#define LZ4_LEGACY 0x184c2102u

static enum verdict walk_lz4(struct initrd_check *k)
{
	uint64_t at = k->at + 4;

	while (at < k->size) {
		const uint8_t *h = peek(k, at, 4);
		uint32_t len = h ? ld_le32(h) : 0;

		/* Zeros: padding behind the stream. */
		if (h && !len)
			break;
		if (!h || !range_within(at + 4, len == LZ4_LEGACY ? 0 : len, k->size))
			return TRUNCATED;
		at += 4 + (len == LZ4_LEGACY ? 0 : len);
	}
	k->at = at;
	return WHOLE;
}

static enum verdict later(struct initrd_check *k)
{
	return LATER;
}

static const struct format {
	uint8_t magic[6], len;
	enum verdict (*walk)(struct initrd_check *k);
} formats[] = {
	{ "07070", 5, walk_cpio },
	{ "\x28\xb5\x2f\xfd", 4, walk_zstd },
	{ "\xfd"
	  "7zXZ",
	  6, walk_xz },
	{ "\x02\x21\x4c\x18", 4, walk_lz4 },
	{ "\x1f\x8b", 2, later },
};

static const struct format *format_at(struct initrd_check *k)
{
	for (unsigned n = 0; n < ARRAY_LEN(formats); n++) {
		const uint8_t *h = peek(k, k->at, formats[n].len);

		if (h && !memcmp(h, formats[n].magic, formats[n].len))
			return &formats[n];
	}
	return NULL;
}

/* Zero bytes may stand between the parts. */
static void skip_zeros(struct initrd_check *k)
{
	const uint8_t *b;
	uint32_t len, n;

	do {
		len = k->size - k->at < WINDOW ? (uint32_t)(k->size - k->at) : WINDOW;
		b = peek(k, k->at, len);
		for (n = 0; b && n < len && !b[n]; n++)
			;
		k->at += n;
	} while (n && n == len);
}

/* All parts that can be judged without decompressing. */
static enum verdict walk(struct initrd_check *k)
{
	for (;;) {
		const struct format *f;
		enum verdict v;

		skip_zeros(k);
		if (k->at >= k->size)
			return WHOLE;
		f = format_at(k);
		v = f ? f->walk(k) : UNKNOWN;
		if (v != WHOLE)
			return v;
	}
}

/* --- gzip --- */

static enum verdict inflate_part(struct initrd_check *k, const atomic_bool *cancel)
{
	enum verdict v = TRUNCATED;
	uint8_t out[16384];
	z_stream z = { 0 };

	if (inflateInit2(&z, 15 + 16) != Z_OK)
		return UNKNOWN;
	while (v == TRUNCATED && !atomic_load(cancel)) {
		uint64_t left = k->size - k->at;
		const uint8_t *in = peek(k, k->at, left < WINDOW ? (uint32_t)left : WINDOW);
		int rc = Z_OK;

		if (!in || !left)
			break;
		z.next_in = (uint8_t *)(uintptr_t)in;
		z.avail_in = left < WINDOW ? (uint32_t)left : WINDOW;
		left = z.avail_in;
		while (z.avail_in && rc == Z_OK) {
			z.next_out = out;
			z.avail_out = sizeof(out);
			rc = inflate(&z, Z_NO_FLUSH);
		}
		k->at += left - z.avail_in;
		if (rc == Z_STREAM_END)
			v = WHOLE;
		else if (rc != Z_OK)
			v = DAMAGED;
	}
	inflateEnd(&z);
	return atomic_load(cancel) ? UNKNOWN : v;
}

/* --- the interface --- */

static int judge(const struct initrd_check *k, enum verdict v, struct err *err)
{
	switch (v) {
	case TRUNCATED:
		return err_set(err, "initrd: %s is truncated", k->path);
	case DAMAGED:
		return err_set(err, "initrd: %s is damaged near byte %llu", k->path, (unsigned long long)k->at);
	case UNKNOWN:
		log_line(LOG_INFO, "boot", "initrd: %s: cannot tell whether it is whole from byte %llu on", k->path,
			 (unsigned long long)k->at);
		return 0;
	default:
		return 0;
	}
}

int initrd_check(int fd, uint64_t size, const char *path, struct initrd_check **rest, struct err *err)
{
	struct initrd_check *k = malloc(sizeof(*k));
	enum verdict v;
	int rc;

	*rest = NULL;
	if (!k)
		return err_set(err, "out of memory");
	k->size = size;
	k->at = k->window_at = k->window_len = 0;
	k->path = strdup(path);
	k->fd = dup(fd);
	if (!k->path || k->fd < 0) {
		initrd_check_free(k);
		return err_set(err, "initrd: %s: out of memory or file descriptors", path);
	}
	v = walk(k);
	rc = judge(k, v, err);
	if (v == LATER)
		*rest = k;
	else
		initrd_check_free(k);
	return rc;
}

int initrd_check_rest(struct initrd_check *k, const atomic_bool *cancel, struct err *err)
{
	enum verdict v = LATER;

	while (v == LATER) {
		v = inflate_part(k, cancel);
		if (v == WHOLE)
			v = walk(k);
	}
	return judge(k, v, err);
}

void initrd_check_free(struct initrd_check *k)
{
	if (!k)
		return;
	if (k->fd >= 0)
		close(k->fd);
	free(k->path);
	free(k);
}
