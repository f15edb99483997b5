/*
 * Flash with Intel's command set and CFI (JESD68, Intel 28F640J3 data sheet), a byte wide, in blocks of 4 KiB, as
 * firmware knows it from QEMU. Its array is a slot of memory below an overlay: while it reads as an array the processor
 * sees the slot, else the overlay is a hole and reads come here. Writes always do.
 *
 * Programming clears bits and takes no time. CLEAR STATUS also clears "ready", which OVMF looks for.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "dev/pflash.h"

#define BLOCK  4096u
#define BUFFER 256u

#define READY	    0x80u
#define ERASE_BAD   0x20u
#define PROGRAM_BAD 0x10u
#define PROTECTED   0x02u

enum mode { ARRAY, STATUS, ID, QUERY, MODES };
/* What the next write is. */
enum next { COMMAND, PROGRAM, ERASE, LOCK, COUNT, DATA, CONFIRM, NEXTS };

struct pflash {
	struct device dev;
	pthread_mutex_t lock;
	struct pflash_config c;
	uint8_t mode, next, status;
	/* The write buffer: how many bytes are to come, and where it begins; BUFFER-aligned. */
	uint16_t left;
	uint32_t start;
	uint8_t buffer[BUFFER];
	uint32_t dirty, dirty_end; /* of the array, since it was last told */
};

static void show(struct pflash *p)
{
	enum mem_overlay_mode m = p->mode == ARRAY ? MEM_OVERLAY_NONE : MEM_OVERLAY_HOLE;

	mem_overlay_set(p->c.mem, p->c.overlay, m);
	mem_overlay_set(p->c.smm, p->c.overlay, m);
	if (p->c.changed)
		p->c.changed(p->c.opaque);
}

static void tell(struct pflash *p)
{
	if (p->dirty < p->dirty_end && p->c.stored)
		p->c.stored(p->c.opaque, p->dirty, p->dirty_end - p->dirty);
	p->dirty = UINT32_MAX;
	p->dirty_end = 0;
}

static void set_mode(struct pflash *p, enum mode m)
{
	bool other = (m == ARRAY) != (p->mode == ARRAY);

	p->mode = (uint8_t)m;
	if (m == ARRAY)
		tell(p);
	if (other)
		show(p);
}

/* --- the array --- */

static bool may_change(struct pflash *p, uint8_t bad)
{
	p->status |= READY;
	if (p->c.readonly)
		p->status |= bad | PROTECTED;
	return !p->c.readonly;
}

static void put(struct pflash *p, uint32_t off, const uint8_t *data, uint32_t len)
{
	mem_overlay_write(p->c.mem, gpa(p->c.base + off), data, len);
	p->dirty = off < p->dirty ? off : p->dirty;
	p->dirty_end = off + len > p->dirty_end ? off + len : p->dirty_end;
}

static void program(struct pflash *p, uint32_t off, const uint8_t *data, uint32_t len)
{
	uint8_t b[BUFFER];

	if (!may_change(p, PROGRAM_BAD) || !mem_overlay_read(p->c.mem, gpa(p->c.base + off), b, len))
		return;
	for (uint32_t n = 0; n < len; n++)
		b[n] &= data[n];
	put(p, off, b, len);
}

static void erase(struct pflash *p, uint32_t off)
{
	uint8_t ones[BLOCK];

	if (!may_change(p, ERASE_BAD))
		return;
	memset(ones, 0xff, sizeof(ones));
	put(p, off & ~(BLOCK - 1), ones, BLOCK);
}

/* --- commands --- */

static const struct {
	uint8_t command, mode, next;
} commands[] = {
	{ 0xff, ARRAY, COMMAND },  { 0xf0, ARRAY, COMMAND }, { 0x00, ARRAY, COMMAND }, { 0x50, ARRAY, COMMAND },
	{ 0x70, STATUS, COMMAND }, { 0x90, ID, COMMAND },    { 0x98, QUERY, COMMAND }, { 0x10, STATUS, PROGRAM },
	{ 0x40, STATUS, PROGRAM }, { 0x20, STATUS, ERASE },  { 0x60, STATUS, LOCK },   { 0xe8, STATUS, COUNT },
};

static void command(struct pflash *p, uint8_t v)
{
	for (size_t n = 0; n < ARRAY_LEN(commands); n++) {
		if (commands[n].command != v)
			continue;
		if (v == 0x50)
			p->status = 0;
		if (v == 0xe8)
			p->status |= READY;
		p->next = commands[n].next;
		set_mode(p, (enum mode)commands[n].mode);
		return;
	}
	log_guest("pflash", "unknown flash command %02xh", v);
	set_mode(p, ARRAY);
}

/* The second write of ERASE and LOCK, and the last one to the buffer. */
static bool confirmed(struct pflash *p, uint8_t v)
{
	if (v == 0xff)
		set_mode(p, ARRAY);
	else if (v != 0xd0)
		p->status |= READY | ERASE_BAD | PROGRAM_BAD; /* a wrong sequence */
	return v == 0xd0;
}

static void fill(struct pflash *p, uint32_t off, uint8_t v)
{
	if (p->start == UINT32_MAX) {
		p->start = off & ~(BUFFER - 1);
		memset(p->buffer, 0xff, sizeof(p->buffer));
	}
	if (off - p->start < BUFFER)
		p->buffer[off - p->start] = v;
	else
		p->status |= PROGRAM_BAD;
	p->left--;
	p->next = p->left ? DATA : CONFIRM;
}

static void flash_write(void *opaque, uint64_t at, unsigned size, uint64_t val)
{
	struct pflash *p = opaque;
	uint32_t off = (uint32_t)at;
	uint8_t v = (uint8_t)val, next = p->next;

	p->next = COMMAND;
	switch (next) {
	case PROGRAM:
		program(p, off, &v, 1);
		break;
	case ERASE:
		if (confirmed(p, v))
			erase(p, off);
		break;
	case LOCK: /* no block is ever locked */
		if (v != 0x01)
			confirmed(p, v);
		p->status |= READY;
		break;
	case COUNT:
		p->left = v + 1u;
		p->start = UINT32_MAX;
		p->next = DATA;
		break;
	case DATA:
		fill(p, off, v);
		break;
	case CONFIRM:
		if (confirmed(p, v))
			program(p, p->start, p->buffer, BUFFER);
		break;
	default:
		command(p, v);
	}
}

/* The CFI query from 10h on: Intel's extended command set; 2.7 to 3.6 V; times as powers of two. */
static uint8_t query(const struct pflash *p, uint32_t off)
{
	static const uint8_t fixed[] = { 'Q',  'R', 'Y', 1, 0, 0x31, 0, 0, 0, 0, 0, 0x27,
					 0x36, 0,   0,	 7, 7, 10,   0, 4, 4, 4, 0 };
	uint32_t blocks = p->c.size / BLOCK - 1;

	off = (off & 0xff) - 0x10;
	if (off < sizeof(fixed))
		return fixed[off];
	switch (off + 0x10) {
	case 0x27:
		return (uint8_t)(31 - __builtin_clz(p->c.size));
	case 0x2a:
		return 8; /* the buffer: 256 bytes */
	case 0x2c:
		return 1; /* one kind of blocks: how many less one, and the size in units of 256 bytes */
	case 0x2d:
		return (uint8_t)blocks;
	case 0x2e:
		return (uint8_t)(blocks >> 8);
	case 0x2f:
		return (uint8_t)(BLOCK / 256);
	case 0x31:
		return 'P';
	case 0x32:
		return 'R';
	case 0x33:
		return 'I';
	case 0x34:
		return '1';
	case 0x35:
		return '0';
	default:
		return 0;
	}
}

static uint64_t flash_read(void *opaque, uint64_t off, unsigned size)
{
	static const uint8_t id[4] = { 0x89, 0x18 };
	struct pflash *p = opaque;
	uint8_t v = 0xff;

	switch (p->mode) {
	case STATUS:
		return p->status;
	case ID:
		return id[off & 3];
	case QUERY:
		return query(p, (uint32_t)off);
	default:
		/* Another processor, which has not heard of the change yet. */
		mem_overlay_read(p->c.mem, gpa(p->c.base + off), &v, 1);
		return v;
	}
}

static const struct bus_ops ops = { flash_read, flash_write, { 1, 8 }, { 1, 1 } };

/* --- life --- */

static void reset(void *self)
{
	struct pflash *p = self;

	p->status = 0;
	p->next = COMMAND;
	p->left = 0;
	p->mode = ARRAY;
	tell(p);
	show(p);
}

static void destroy(void *self)
{
	struct pflash *p = self;

	tell(p);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* The array came with the memory, and is not what the file has. */
static int post_load(void *obj, struct err *err)
{
	struct pflash *p = obj;

	if (p->mode >= MODES || p->next >= NEXTS || p->left > BUFFER || (p->next == DATA && !p->left) ||
	    (p->start != UINT32_MAX && (p->start % BUFFER || p->start >= p->c.size)) ||
	    (p->next == CONFIRM && p->start == UINT32_MAX) || (p->mode == ARRAY && p->next != COMMAND))
		return err_set(err, "pflash: a command that cannot be");
	p->dirty = 0;
	p->dirty_end = p->c.readonly ? 0 : p->c.size;
	tell(p);
	show(p);
	return 0;
}

static const struct state_field fields[] = {
	STATE_U8F(struct pflash, mode),
	STATE_U8F(struct pflash, next),
	STATE_U8F(struct pflash, status),
	STATE_U16F(struct pflash, left),
	STATE_U32F(struct pflash, start),
	STATE_U8A(struct pflash, buffer),
	STATE_FIELD_END,
};
static const struct state_desc state = {
	.name = "pflash", .version = 1, .min_version = 1, .fields = fields, .post_load = post_load
};

struct device *pflash_new(struct bus *bus, const struct pflash_config *c, struct err *err)
{
	struct pflash *p = calloc(1, sizeof(*p));
	struct bus_range range = { "pflash", &ops, p, NULL };

	if (!p) {
		err_set(err, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&p->lock, NULL);
	range.lock = &p->lock;
	p->c = *c;
	p->start = UINT32_MAX;
	p->dev = (struct device){
		.name = "pflash", .self = p, .state = &state, .lock = &p->lock, .reset = reset, .destroy = destroy
	};
	strcpy(p->dev.instance, c->readonly ? "0" : "1");
	reset(p);
	if (!bus_add(bus, BUS_MMIO, c->base, c->size, &range, err)) {
		destroy(p);
		return NULL;
	}
	return &p->dev;
}
