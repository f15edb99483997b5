/* See fw_cfg.h. The guest reads only; DMA to a range that is not all RAM reports an error. */
#include "dev/fw_cfg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"

#define PORT	      0x510
#define MAX_FILES     48
#define MAX_GENERIC   (FW_CFG_FILE_FIRST + MAX_FILES)
#define ARCH	      0x8000u /* keys of one architecture: 8 of them are behind the others here */
#define MAX_ARCH      8
#define MAX_ITEMS     (MAX_GENERIC + MAX_ARCH)
#define DIR_ENTRY     64
#define PIECE	      16384
#define DMA_ERROR     1u
#define DMA_READ      2u
#define DMA_SKIP      4u
#define DMA_SELECT    8u
#define DMA_SIGNATURE 0x51454d5520434647ull

struct item {
	uint8_t *data; /* NULL: it is in `fd` */
	uint32_t len;
	int fd;
	uint64_t off;
	bool made; /* by fw_cfg.make */
};

struct fw_cfg {
	struct device dev;
	pthread_mutex_t lock;
	struct mem_space *mem;
	struct item items[MAX_ITEMS];
	unsigned files;
	uint16_t selected;
	uint32_t offset;
	uint64_t dma;
	bool filled; /* the files that are made have been, since the reset */
	void (*make)(void *opaque, struct device *d);
	void *opaque;
};

static const struct item *selected(const struct fw_cfg *f)
{
	static const struct item none;
	/* Bit 14 was the write channel. */
	unsigned key = f->selected & ~0x4000u;

	if (key & ARCH)
		return (key & ~ARCH) < MAX_ARCH ? &f->items[MAX_GENERIC + (key & ~ARCH)] : &none;
	return key < MAX_GENERIC ? &f->items[key] : &none;
}

/* The item to read: made now, if it is one of those. */
static const struct item *current(struct fw_cfg *f)
{
	const struct item *it = selected(f);

	if (it->made && !f->filled) {
		f->filled = true;
		f->make(f->opaque, &f->dev);
	}
	return it;
}

/* `len` bytes of an item that is in a file. */
static bool get(const struct item *it, uint32_t off, void *buf, size_t len)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = pread(it->fd, (uint8_t *)buf + got, len - got, (off_t)(it->off + off + got));

		if (n <= 0 && !(n < 0 && errno == EINTR))
			return false;
		got += n > 0 ? (size_t)n : 0;
	}
	return true;
}

/* --- ports: selector (16 bits), data (8 bits), DMA address (2 x 32 bits, big-endian) --- */

static uint64_t select_read(void *opaque, uint64_t off, unsigned size)
{
	struct fw_cfg *f = opaque;
	const struct item *it = current(f);
	uint32_t at;
	uint8_t byte;

	if (off == 0)
		return 0;
	if (f->offset >= it->len)
		return 0;
	at = f->offset++;
	if (it->data)
		return it->data[at];
	return get(it, at, &byte, 1) ? byte : 0;
}

static void select_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct fw_cfg *f = opaque;

	if (off == 0 && size == 2) {
		f->selected = (uint16_t)val;
		f->offset = 0;
	}
}

static bool copy_item(struct fw_cfg *f, const struct item *it, uint64_t at, uint32_t len)
{
	uint8_t piece[PIECE];

	if (it->data)
		return mem_write(f->mem, gpa(at), it->data + f->offset, len);
	for (uint32_t done = 0, n; done < len; done += n) {
		n = len - done < PIECE ? len - done : PIECE;
		if (!get(it, f->offset + done, piece, n) || !mem_write(f->mem, gpa(at + done), piece, n))
			return false;
	}
	return true;
}

/* Past its end an item reads as zeroes. */
static bool dma_read(struct fw_cfg *f, uint64_t at, uint32_t len)
{
	const struct item *it = current(f);
	uint32_t have = f->offset < it->len ? it->len - f->offset : 0, n = len < have ? len : have;

	if (n && !copy_item(f, it, at, n))
		return false;
	if (len > n && !mem_fill(f->mem, gpa(at + n), 0, len - n))
		return false;
	f->offset += n;
	return true;
}

static void dma(struct fw_cfg *f)
{
	uint8_t desc[16];
	uint32_t control, len, result = 0;

	if (!mem_read(f->mem, gpa(f->dma), desc, sizeof(desc)))
		return;
	control = ld_be32(desc);
	len = ld_be32(desc + 4);
	if (control & DMA_SELECT) {
		f->selected = (uint16_t)(control >> 16);
		f->offset = 0;
	}
	if (control & DMA_READ)
		result = dma_read(f, ld_be64(desc + 8), len) ? 0 : DMA_ERROR;
	else if (control & DMA_SKIP)
		f->offset = len > current(f)->len - f->offset ? current(f)->len : f->offset + len;
	else if (!(control & DMA_SELECT))
		result = DMA_ERROR;
	st_be32(desc, result);
	mem_write(f->mem, gpa(f->dma), desc, 4);
}

static uint64_t dma_port_read(void *opaque, uint64_t off, unsigned size)
{
	return be32toh((uint32_t)(off ? DMA_SIGNATURE : DMA_SIGNATURE >> 32));
}

static void dma_port_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct fw_cfg *f = opaque;
	uint32_t word = be32toh((uint32_t)val);

	if (off == 0) {
		f->dma = (uint64_t)word << 32;
		return;
	}
	f->dma |= word;
	dma(f);
	f->dma = 0;
}

static const struct bus_ops select_ops = { select_read, select_write, { 1, 2 }, { 1, 2 } };
static const struct bus_ops dma_ops = { dma_port_read, dma_port_write, { 4, 4 }, { 4, 4 } };

/* --- items --- */

static int put(struct fw_cfg *f, unsigned key, const void *data, size_t len, struct err *err)
{
	uint8_t *copy = len <= UINT32_MAX ? malloc(len ? len : 1) : NULL;

	if (!copy)
		return err_set(err, "out of memory");
	memcpy(copy, data, len);
	free(f->items[key].data);
	f->items[key] = (struct item){ copy, (uint32_t)len, -1, 0, false };
	return 0;
}

int fw_cfg_add_part(struct device *d, uint16_t key, struct fw_cfg_part part, struct err *err)
{
	struct fw_cfg *f = d->self;

	if (key >= FW_CFG_FILE_FIRST)
		return err_set(err, "fw_cfg: %#x is not a well-known key", key);
	free(f->items[key].data);
	f->items[key] = (struct item){ NULL, part.len, part.fd, part.off, false };
	return 0;
}

int fw_cfg_add(struct device *d, uint16_t key, const void *data, size_t len, struct err *err)
{
	if (key - ARCH < MAX_ARCH)
		return put(d->self, MAX_GENERIC + (key - ARCH), data, len, err);
	return key < FW_CFG_FILE_FIRST ? put(d->self, key, data, len, err)
				       : err_set(err, "fw_cfg: %#x is not a well-known key", key);
}

static const char *file_name(const struct fw_cfg *f, unsigned n)
{
	return (const char *)f->items[FW_CFG_FILE_DIR].data + 4 + DIR_ENTRY * n + 8;
}

int fw_cfg_add_file(struct device *d, const char *name, const void *data, size_t len, struct err *err)
{
	struct fw_cfg *f = d->self;
	uint8_t dir[4 + DIR_ENTRY * MAX_FILES] = { 0 }, *entry;

	if (f->files == MAX_FILES || strlen(name) > 55)
		return err_set(err, "fw_cfg: no room for %s", name);
	for (unsigned n = 0; n < f->files; n++)
		if (!strcmp(file_name(f, n), name))
			return err_set(err, "fw_cfg: duplicate file name: %s", name);
	if (put(f, FW_CFG_FILE_FIRST + f->files, data, len, err))
		return -1;
	memcpy(dir, f->items[FW_CFG_FILE_DIR].data, f->items[FW_CFG_FILE_DIR].len);
	entry = dir + 4 + DIR_ENTRY * f->files;
	st_be32(entry, (uint32_t)len);
	st_be16(entry + 4, (uint16_t)(FW_CFG_FILE_FIRST + f->files));
	memcpy(entry + 8, name, strlen(name));
	st_be32(dir, ++f->files);
	return put(f, FW_CFG_FILE_DIR, dir, 4 + DIR_ENTRY * f->files, err);
}

void fw_cfg_set_make(struct device *d, void (*make)(void *opaque, struct device *d), void *opaque)
{
	struct fw_cfg *f = d->self;

	f->make = make;
	f->opaque = opaque;
}

int fw_cfg_add_made(struct device *d, const char *name, const void *data, size_t len, struct err *err)
{
	struct fw_cfg *f = d->self;

	if (fw_cfg_add_file(d, name, data, len, err))
		return -1;
	f->items[FW_CFG_FILE_FIRST + f->files - 1].made = f->make;
	return 0;
}

bool fw_cfg_remake(struct device *d, const char *name, const void *data, size_t len)
{
	struct fw_cfg *f = d->self;

	for (unsigned n = 0; n < f->files; n++) {
		struct item *it = &f->items[FW_CFG_FILE_FIRST + n];

		if (!it->made || strcmp(file_name(f, n), name) || len > it->len)
			continue;
		memcpy(it->data, data, len);
		memset(it->data + len, 0, it->len - len);
		return true;
	}
	return false;
}

static void reset(void *self)
{
	struct fw_cfg *f = self;

	f->filled = false;

	f->selected = 0;
	f->offset = 0;
	f->dma = 0;
}

static void destroy(void *self)
{
	struct fw_cfg *f = self;

	for (unsigned n = 0; n < MAX_ITEMS; n++)
		free(f->items[n].data);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

static int post_load(void *obj, struct err *err)
{
	struct fw_cfg *f = obj;

	f->filled = false;
	return f->offset > selected(f)->len ? err_set(err, "fw_cfg: the offset is past the item") : 0;
}

static const struct state_field fields[] = {
	STATE_U16F(struct fw_cfg, selected),
	STATE_U32F(struct fw_cfg, offset),
	STATE_U64F(struct fw_cfg, dma),
	STATE_FIELD_END,
};
static const struct state_desc state = {
	.name = "fw_cfg", .version = 1, .min_version = 1, .fields = fields, .post_load = post_load
};

struct device *fw_cfg_new(struct bus *bus, struct mem_space *mem, struct err *err)
{
	struct fw_cfg *f = calloc(1, sizeof(*f));
	static const uint8_t id[4] = { 3 }, no_files[4];
	struct bus_range ports = { "fw_cfg", &select_ops, f, NULL }, dma_range = { "fw_cfg-dma", &dma_ops, f, NULL };

	if (!f) {
		err_set(err, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&f->lock, NULL);
	ports.lock = dma_range.lock = &f->lock;
	f->mem = mem;
	f->dev = (struct device){ .name = "fw_cfg",
				  .instance = "0",
				  .self = f,
				  .state = &state,
				  .lock = &f->lock,
				  .reset = reset,
				  .destroy = destroy };
	if (put(f, FW_CFG_SIGNATURE, "QEMU", 4, err) || put(f, FW_CFG_ID, id, 4, err) ||
	    put(f, FW_CFG_FILE_DIR, no_files, 4, err) || !bus_add(bus, BUS_PORT, PORT, 2, &ports, err) ||
	    !bus_add(bus, BUS_PORT, PORT + 4, 8, &dma_range, err)) {
		destroy(f);
		return NULL;
	}
	return &f->dev;
}
