/* The filter `blklogwrites`: see blklogwrites.h. Options and format are QEMU's. */
#include "block/blklogwrites.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/filter.h"

#define ENTRIES_MAX (1u << 22) /* of a log that is continued: all of them are read */
#define SECTOR_MAX  (1u << 24)

struct blklogwrites {
	struct node *log;
	uint32_t sector;      /* bytes */
	uint64_t at, entries; /* the next free sector of the log */
	uint64_t interval;    /* entries between two writes of the super */
	struct filter_ranges ranges;
};

uint64_t blklogwrites_entries(const struct node *n)
{
	return ((const struct blklogwrites *)n->state)->entries;
}

/* --- the log --- */

static int write_super(struct blklogwrites *s)
{
	struct log_writes_super super = { htole64(LOG_WRITES_MAGIC), htole64(LOG_WRITES_VERSION), htole64(s->entries),
					  htole32(s->sector) };
	uint8_t *sector = calloc(1, s->sector);
	int ret;

	if (!sector)
		return -ENOMEM;
	memcpy(sector, &super, sizeof(super));
	ret = node_write(s->log, 0, sector, s->sector);
	free(sector);
	return ret ? ret : node_flush(s->log);
}

/* The place of an entry with so many bytes of data. */
static uint64_t take_place(struct blklogwrites *s, uint64_t bytes)
{
	uint64_t at = s->at;

	s->at += 1 + bytes / s->sector;
	s->entries++;
	return at * s->sector;
}

static int write_entry(struct blklogwrites *s, uint64_t place, const struct node_req *r, uint64_t flags)
{
	struct log_writes_entry e = { htole64(r->offset / s->sector), htole64(r->bytes / s->sector), htole64(flags),
				      0 };
	struct iovec *iov = malloc((r->niov + 1) * sizeof(*iov));
	uint8_t *sector = calloc(1, s->sector);
	bool data = r->op == BLOCK_WRITE;
	uint64_t nr = s->entries;
	int ret = iov && sector ? 0 : -ENOMEM;

	if (!ret) {
		memcpy(sector, &e, sizeof(e));
		iov[0] = (struct iovec){ sector, s->sector };
		if (data)
			memcpy(iov + 1, r->iov, r->niov * sizeof(*iov));
		ret = node_writev(s->log, place, s->sector + (data ? r->bytes : 0), iov, data ? r->niov + 1 : 1);
	}
	if (!ret && r->op == BLOCK_WRITE_ZEROES)
		ret = node_zeroes(s->log, place + s->sector, r->bytes, 0);
	if (!ret && (flags & LOG_WRITES_FLUSH || nr % s->interval == 0))
		ret = write_super(s);
	free(sector);
	free(iov);
	return ret;
}

/* --- requests --- */

/* Whole sectors: to the child, and then into the log. */
static int write_whole(struct node *n, struct node_req *r)
{
	struct blklogwrites *s = n->state;
	struct node_req below = *r;
	bool discard = r->op == BLOCK_DISCARD;
	uint64_t place;
	int ret;

	ret = filter_pass(n, &below);
	if (ret)
		return ret;
	place = take_place(s, discard ? 0 : r->bytes);
	ret = write_entry(s, place, r, discard ? LOG_WRITES_DISCARD : r->flags & BLOCK_REQ_FUA ? LOG_WRITES_FUA : 0);
	return ret;
}

static int log_flush(struct node *n, struct node_req *r)
{
	struct blklogwrites *s = n->state;
	struct node_req mark = { .op = BLOCK_FLUSH };
	/* What ends while it runs is not covered by it. */
	uint64_t place = take_place(s, 0);
	int ret = filter_pass(n, r), log = write_entry(s, place, &mark, ret ? 0 : LOG_WRITES_FLUSH);

	return ret ? ret : log;
}

/* With what is around it in its sectors. */
static int write_padded(struct node *n, const struct node_req *r)
{
	return filter_write_padded(n, r, ((struct blklogwrites *)n->state)->sector, write_whole);
}

/* Zeroes: whole sectors as such, the ends as writes. Discards: whole sectors only. */
static int write_parts(struct node *n, const struct node_req *r)
{
	struct blklogwrites *s = n->state;
	uint64_t end = r->offset + r->bytes, first = align_up(r->offset, s->sector), last = align_down(end, s->sector);
	struct node_req part = *r;
	int ret = 0;

	if (r->op == BLOCK_DISCARD || r->op == BLOCK_WRITE_ZEROES) {
		if (first > last)
			return r->op == BLOCK_DISCARD ? 0 : write_padded(n, r);
		part.bytes = first - r->offset;
		if (part.bytes && r->op == BLOCK_WRITE_ZEROES)
			ret = write_padded(n, &part);
		part.offset = first;
		part.bytes = last - first;
		if (!ret && part.bytes)
			ret = write_whole(n, &part);
		part.offset = last;
		part.bytes = end - last;
		if (!ret && part.bytes && r->op == BLOCK_WRITE_ZEROES)
			ret = write_padded(n, &part);
		return ret;
	}
	return write_padded(n, r);
}

static int log_request(struct node *n, struct node_req *r)
{
	struct blklogwrites *s = n->state;
	bool whole = !((r->offset | r->bytes) & (s->sector - 1));
	uint64_t first = align_down(r->offset, s->sector);
	struct filter_range range;
	int ret;

	if (r->op == BLOCK_FLUSH)
		return log_flush(n, r);
	if (node_readonly(n))
		return -EPERM;
	filter_range_begin(&s->ranges, &range, first, align_up(r->offset + r->bytes, s->sector) - first, !whole);
	ret = whole ? write_whole(n, r) : write_parts(n, r);
	filter_range_end(&s->ranges, &range);
	return ret;
}

static void log_submit(struct node *n, struct node_req *r)
{
	if (r->op == BLOCK_READ)
		node_submit(n->file, r);
	else
		filter_start(n, r, log_request);
}

/* What is cut off is logged as a discard. */
static int log_truncate(struct node *n, const struct node_resize *how, struct err *err)
{
	struct blklogwrites *s = n->state;
	uint64_t old = n->size, first = align_up(how->size, s->sector);
	int ret = filter_truncate(n, how, err);

	if (!ret && align_up(old, s->sector) > first) {
		struct node_req cut = { .op = BLOCK_DISCARD,
					.offset = first,
					.bytes = align_up(old, s->sector) - first };

		ret = write_entry(s, take_place(s, 0), &cut, LOG_WRITES_DISCARD);
	}
	return ret;
}

/* --- opening --- */

static bool sector_fits(uint64_t size)
{
	return size >= sizeof(struct log_writes_super) && size >= sizeof(struct log_writes_entry) &&
	       size < SECTOR_MAX && is_pow2(size);
}

/* Find the end of a log that is continued. */
static int read_entries(struct blklogwrites *s, uint64_t entries, struct err *err)
{
	uint64_t end = s->log->size / s->sector;
	struct log_writes_entry e;

	if (entries > ENTRIES_MAX)
		return err_set(err, "The log has more than %u entries", ENTRIES_MAX);
	for (uint64_t i = 0; i < entries; i++) {
		uint64_t flags, sectors;
		int ret;

		if (s->at >= end)
			return err_set(err, "Log entry %llu is behind the end of the log", (unsigned long long)i);
		ret = node_read(s->log, s->at * s->sector, &e, sizeof(e));
		if (ret)
			return err_errno(err, -ret, "Failed to read log entry %llu", (unsigned long long)i);
		flags = le64toh(e.flags);
		sectors = flags & LOG_WRITES_DISCARD ? 0 : le64toh(e.sectors);
		if (flags & ~15ull)
			return err_set(err, "Invalid flags 0x%llx in log entry %llu", (unsigned long long)flags,
				       (unsigned long long)i);
		if (sectors > end - s->at - 1)
			return err_set(err, "Log entry %llu reaches behind the end of the log", (unsigned long long)i);
		s->at += 1 + sectors;
	}
	s->entries = entries;
	return 0;
}

static int read_super(struct blklogwrites *s, struct err *err)
{
	struct log_writes_super super;
	int ret;

	if (!s->log->size) {
		s->sector = 512;
		return 0;
	}
	ret = node_read(s->log, 0, &super, sizeof(super));
	if (ret)
		return err_errno(err, -ret, "Could not read log superblock");
	if (super.magic != htole64(LOG_WRITES_MAGIC))
		return err_set(err, "Invalid log superblock magic");
	if (super.version != htole64(LOG_WRITES_VERSION))
		return err_set(err, "Unsupported log version %llu", (unsigned long long)le64toh(super.version));
	s->sector = le32toh(super.sector_size);
	if (!sector_fits(s->sector))
		return err_set(err, "Invalid log sector size %u", s->sector);
	return read_entries(s, le64toh(super.entries), err);
}

static int open_log(struct node *n, struct opts *o, struct err *err)
{
	struct blklogwrites *s = n->state;
	struct opts *sub = opts_take_sub(o, "log");
	const char *dummy;

	if (!opts_at(sub, 0, &dummy, &dummy))
		err_set(err, "A block device must be specified for \"log\"");
	else
		s->log = node_open(n->ctx, NULL, sub, (n->flags & NODE_RDWR) | NODE_PROTOCOL, err);
	opts_free(sub);
	return s->log ? 0 : -1;
}

static void log_close(struct node *n)
{
	struct blklogwrites *s = n->state;

	if (!node_readonly(n) && s->entries)
		write_super(s);
	node_close(s->log);
}

static int log_open(struct node *n, struct opts *o, struct err *err)
{
	struct blklogwrites *s = n->state;
	uint64_t sector;
	bool append;
	int ret = -1;

	s->at = 1;
	if (opts_bool(o, "log-append", false, &append, err) || opts_size(o, "log-sector-size", 512, &sector, err) ||
	    opts_number(o, "log-super-update-interval", 4096, &s->interval, err) || open_log(n, o, err))
		return -1;
	if (append && opts_get(o, "log-sector-size"))
		err_set(err, "log-append and log-sector-size are mutually exclusive");
	else if (!append && !sector_fits(sector))
		err_set(err, "Invalid log sector size %llu", (unsigned long long)sector);
	else if (!s->interval)
		err_set(err, "Invalid log superblock update interval 0");
	else
		ret = append ? read_super(s, err) : 0;
	if (!append)
		s->sector = (uint32_t)sector;
	n->size = n->file->size;
	if (ret)
		node_close(s->log);
	return ret;
}

const struct node_driver node_blklogwrites = {
	.name = "blklogwrites",
	.state_size = sizeof(struct blklogwrites),
	.is_filter = true,
	.forces = true,
	.open = log_open,
	.close = log_close,
	.submit = log_submit,
	.truncate = log_truncate,
	.status = filter_status,
	.info = filter_info,
};
