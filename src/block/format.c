/*
 * Image formats by name, suffix and header. Later formats replace their row's NULL.
 */
#include "block/format.h"

#include <string.h>
#include <strings.h>

#include "base/bytes.h"
#include "block/crypt_io.h"

static bool has(const uint8_t *h, size_t len, size_t at, const char *magic, size_t n)
{
	return range_within(at, n, len) && !memcmp(h + at, magic, n);
}

static bool is_qcow(const uint8_t *h, size_t len)
{
	return has(h, len, 0, "QFI\xfb\0\0\0\1", 8);
}

static bool is_qcow2(const uint8_t *h, size_t len)
{
	return has(h, len, 0, "QFI\xfb", 4) && !is_qcow(h, len);
}

static bool is_luks(const uint8_t *h, size_t len)
{
	return has(h, len, 0, "LUKS\xba\xbe\0\1", 8);
}

static bool is_qed(const uint8_t *h, size_t len)
{
	return has(h, len, 0, "QED\0", 4);
}

static bool is_vmdk(const uint8_t *h, size_t len)
{
	static const char text[] = "# Disk DescriptorFile";

	if (has(h, len, 0, "KDMV", 4) || has(h, len, 0, "COWD", 4) || has(h, len, 0, "\xbe\xba\xfe\xca", 4))
		return true;
	/* The descriptor may follow empty lines and comments. */
	return len >= sizeof(text) - 1 && memmem(h, len < 512 ? len : 512, text, sizeof(text) - 1) &&
	       (h[0] == '#' || h[0] == ' ' || h[0] == '\n' || h[0] == '\r');
}

static bool is_vhdx(const uint8_t *h, size_t len)
{
	return has(h, len, 0, "vhdxfile", 8);
}

static bool is_vpc(const uint8_t *h, size_t len)
{
	return has(h, len, 0, "conectix", 8);
}

static bool is_vdi(const uint8_t *h, size_t len)
{
	return has(h, len, 0x40, "\x7f\x10\xda\xbe", 4);
}

static bool is_parallels(const uint8_t *h, size_t len)
{
	return has(h, len, 0, "WithoutFreeSpace", 16) || has(h, len, 0, "WithouFreSpacExt", 16);
}

static bool is_bochs(const uint8_t *h, size_t len)
{
	return has(h, len, 0, "Bochs Virtual HD Image", 22);
}

static bool is_cloop(const uint8_t *h, size_t len)
{
	return has(h, len, 0, "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1",
		   82);
}

#define SUFFIXES(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* raw comes first: what no probe claims. */
static const struct block_format formats[] = {
	{ "raw", SUFFIXES("raw", "img", "iso", "ext2", "ext3", "ext4", "squashfs", "bin"), NULL, &node_raw },
	{ "qcow2", SUFFIXES("qcow2"), is_qcow2, &node_qcow2 },
	{ "qcow", SUFFIXES("qcow"), is_qcow, NULL },
	{ "luks", SUFFIXES("luks"), is_luks, &node_luks },
	{ "qed", SUFFIXES("qed"), is_qed, NULL },
	{ "vmdk", SUFFIXES("vmdk"), is_vmdk, NULL },
	{ "vhdx", SUFFIXES("vhdx"), is_vhdx, NULL },
	{ "vpc", SUFFIXES("vhd", "vpc"), is_vpc, NULL },
	{ "vdi", SUFFIXES("vdi"), is_vdi, NULL },
	{ "parallels", SUFFIXES("hdd"), is_parallels, NULL },
	{ "bochs", SUFFIXES("bochs"), is_bochs, NULL },
	{ "cloop", SUFFIXES("cloop"), is_cloop, NULL },
};

const struct block_format *format_probe(const uint8_t *header, size_t len)
{
	for (size_t i = 0; i < ARRAY_LEN(formats); i++)
		if (formats[i].probe && formats[i].probe(header, len))
			return &formats[i];
	return NULL;
}

static const struct block_format *by_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(formats); i++)
		if (!strcmp(formats[i].name, name))
			return &formats[i];
	return NULL;
}

static const struct block_format *by_suffix(const char *path)
{
	const char *dot = strrchr(path, '.');

	for (size_t i = 0; dot && i < ARRAY_LEN(formats); i++)
		for (const char *const *s = formats[i].suffixes; *s; s++)
			if (!strcasecmp(dot + 1, *s))
				return &formats[i];
	return &formats[0];
}

/* "raw, ..." into `buf`. */
static const char *supported(char *buf, size_t size)
{
	size_t at = 0;

	buf[0] = 0;
	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		size_t n = strlen(formats[i].name);

		if (!formats[i].driver || at + n + 3 > size)
			continue;
		if (at) {
			memcpy(buf + at, ", ", 2);
			at += 2;
		}
		memcpy(buf + at, formats[i].name, n + 1);
		at += n;
	}
	return buf;
}

const struct block_format *format_choose(const struct block_config *c, const uint8_t *header, size_t len, bool *guessed,
					 struct err *err)
{
	const struct block_format *seen = format_probe(header, len), *f;
	char list[128];

	*guessed = !c->format;
	if (c->format) {
		f = by_name(c->format);
		if (!f) {
			err_set(err, "%s: unknown image format '%s'; supported: %s", c->path, c->format,
				supported(list, sizeof(list)));
			return NULL;
		}
		if (f->probe && f != seen) {
			err_set(err, "%s is not a %s image; it looks like %s", c->path, f->name,
				seen ? seen->name : formats[0].name);
			return NULL;
		}
	} else {
		f = by_suffix(c->path);
		if (f->probe ? f != seen : seen != NULL) {
			err_set(err, "%s: the name says %s but the header says %s; say which with format=", c->path,
				f->name, seen ? seen->name : formats[0].name);
			return NULL;
		}
	}
	if (!f->driver) {
		err_set(err, "%s is a %s image, a format that is not supported; supported: %s", c->path, f->name,
			supported(list, sizeof(list)));
		return NULL;
	}
	return f;
}
