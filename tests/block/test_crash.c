/*
 * What a loss of power may leave of a qcow2 image. A disk is used by several at once, with snapshots, resizing,
 * amending and reopening in between. What reaches its files is written down (pick.h; for some images by a blklogwrites
 * node), and from that every state can be made that the machine could have left: all that came before a flush, and of
 * what came after it any part, sector by sector. In each our check must find nothing worse than leaks, and each sector
 * must have what was flushed, or something that was written since. A repair that such a state needs loses power as
 * well.
 *
 * The same seed makes the same states. VIREO_CRASH_STATES: how many (default 400). VIREO_CRASH_SEED: where the random
 * numbers begin, VIREO_CRASH_KIND: with which kind of image. VIREO_CRASH_FLUSHES: how many states may be looked at
 * until it is found that one place in the code does not flush, or write back, any more: each is tried (default: three
 * are found in few states).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/blklogwrites.h"
#include "block/qcow2_bitmap.h"
#include "block/secret.h"
#include "crash_model.h"
#include "crash_places.h"
#include "pick.h"
#include "shot.h"

#define ROOM	(1024u * 1024u) /* the disk at its largest */
#define WORKERS 4u
#define SNAPS	6u
#define ROUNDS	14u

enum { IN_IMAGE, IN_DATA }; /* files */

static const struct kind_of_image {
	const char *options;
	uint64_t cluster;
	bool old;	 /* version 2 has no mark for counts that are being changed */
	bool logged;	 /* by blklogwrites */
	bool bitmaps;	 /* has some */
	bool data;	 /* has a data file, and no snapshots */
	bool raw;	 /* which is a disk by itself */
	bool crypt;	 /* is encrypted */
	bool few_counts; /* is not amended to narrower ones */
} kinds[] = {
	{ "cluster_size=4k", 4096, .logged = true },
	{ "cluster_size=512,refcount_bits=64", 512 },
	{ "cluster_size=16k,extended_l2=on", 16384 },
	{ "cluster_size=4k,lazy_refcounts=on", 4096 },
	{ "cluster_size=1k,compat=0.10", 1024, .old = true },
	{ "cluster_size=1k", 1024, .bitmaps = true },
	{ "cluster_size=4k,encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=1", 4096, .crypt = true },
	{ "cluster_size=512,compat=0.10,encrypt.format=aes,encrypt.key-secret=s0", 512, .old = true, .crypt = true },
	{ "cluster_size=2k,data_file=data", 2048, .data = true },
	{ "cluster_size=4k,data_file=data,data_file_raw=on", 4096, .data = true, .raw = true },
};

static struct node_ctx ctx;
static struct err err;
static int fds[PICK_FILES], log_fd; /* files in memory, opened as "image", "data" and "log" */
static const struct kind_of_image *kind;
static struct model model;
static struct history history;
static struct node *disk;
static bool snap_alive[SNAPS];
static unsigned snap_op[SNAPS];
static uint64_t marks[4 * ROUNDS]; /* places where something done alone has begun and ended */
static unsigned n_marks;
static unsigned bitmap_since; /* the time from which on the bitmap has what was written */
static bool bitmap_there;

static int open_memory(void *opaque, const char *path, int flags)
{
	char name[64];
	int fd = !strcmp(path, "log") ? log_fd : fds[strcmp(path, "image") ? IN_DATA : IN_IMAGE];

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	return open(name, flags & ~(O_CREAT | O_EXCL));
}

/* --- what is done to the disk --- */

static uint64_t place(void)
{
	if (kind->logged)
		return blklogwrites_entries(disk->file);
	history_catch_up(&history);
	return history.n;
}

static unsigned begin(enum op_kind k, uint64_t offset, uint64_t bytes)
{
	return model_begin(&model, k, offset, bytes, place());
}

static void end(unsigned op, int ret)
{
	if (ret)
		fail_msg("operation %u of kind %d: %s", op, model.ops[op].kind, strerror(-ret));
	model_end(&model, op, place());
}

static void do_write(uint64_t offset, uint64_t bytes, uint32_t flags)
{
	uint8_t *buf = malloc(bytes);
	struct iovec v = { buf, bytes };
	struct node_req r = {
		.op = BLOCK_WRITE, .flags = flags, .offset = offset, .bytes = bytes, .iov = &v, .niov = 1
	};
	unsigned op = begin(WRITE, offset, bytes);

	for (uint64_t i = 0; i < bytes / SECTOR; i++)
		model_fill(buf + i * SECTOR, op, offset / SECTOR + i);
	end(op, node_io(disk, &r));
	free(buf);
}

static void do_zero(uint64_t offset, uint64_t bytes)
{
	unsigned op = begin(ZERO, offset, bytes);

	end(op, node_zeroes(disk, offset, bytes, pick(2) ? BLOCK_REQ_UNMAP : 0));
}

static void do_flush(void)
{
	unsigned op = begin(FLUSH, 0, 0);

	end(op, node_flush(disk));
}

struct load {
	uint64_t first, end; /* a worker's part of the disk, in bytes */
	unsigned steps;
	unsigned *running;
	struct co *boss;
	uint32_t compressed; /* BLOCK_REQ_COMPRESSED when the part is made of whole clusters */
};

static void one_step(const struct load *l)
{
	uint64_t most = (l->end - l->first) / SECTOR, at = pick(most), n = 1 + pick(pick(3) ? 8 : 64);
	uint64_t first = l->first + at * SECTOR;

	if (n > most - at)
		n = most - at;
	switch (pick(16)) {
	case 0:
		do_flush();
		break;
	case 1:
		do_zero(first, n * SECTOR);
		break;
	case 2: /* a discard, of whole clusters, reads as zeroes */
		first = align_up(first, kind->cluster);
		if (first + kind->cluster <= l->end) {
			unsigned op = begin(ZERO, first, kind->cluster);

			end(op, node_discard(disk, first, kind->cluster));
		}
		break;
	case 3:
		first = align_up(first, kind->cluster);
		if (l->compressed && first + kind->cluster <= l->end)
			do_write(first, kind->cluster, l->compressed);
		break;
	default:
		do_write(first, n * SECTOR, 0);
	}
}

static void worker(void *opaque)
{
	struct load *l = opaque;

	for (unsigned i = 0; i < l->steps && l->first < l->end; i++)
		one_step(l);
	if (!--*l->running && l->boss)
		co_wake(l->boss);
}

static void all_at_once(unsigned steps)
{
	struct load l[WORKERS];
	unsigned running = WORKERS;
	uint64_t size = disk->size / SECTOR, at = 0;

	for (unsigned i = 0; i < WORKERS; i++) {
		/* The first have whole clusters, the others share some. */
		uint64_t next = i == WORKERS - 1 ? size : size * (i + 1) / WORKERS;

		if (i < 2)
			next = align_down(next * SECTOR, kind->cluster) / SECTOR;
		l[i] = (struct load){ at * SECTOR, next * SECTOR,
				      steps,	   &running,
				      NULL,	   i < 2 && !kind->data && !kind->crypt ? BLOCK_REQ_COMPRESSED : 0 };
		at = next;
	}
	for (unsigned i = 0; i < WORKERS; i++) {
		l[i].boss = co_self();
		assert_int_equal(co_start(worker, &l[i]), 0);
	}
	while (running)
		co_wait();
}

/* --- with nobody else at it --- */

static void do_resize(void)
{
	/* Small steps up let tables grow; any step down. */
	uint64_t size = pick(3) ? disk->size + pick(ROOM / 8) : ROOM / 16 + pick(ROOM - ROOM / 16);
	struct node_resize how = { .size = align_up(size < ROOM ? size : ROOM, SECTOR), .exact = true };
	unsigned op;

	if (model.n && kind->old)
		for (unsigned k = 0; k < SNAPS; k++)
			if (snap_alive[k])
				return; /* version 2 refuses it */
	op = begin(RESIZE, disk->size, how.size);
	end(op, node_truncate(disk, &how, &err));
}

static void do_snapshot(void)
{
	unsigned k = (unsigned)pick(SNAPS), op, resized;
	char name[8];

	snprintf(name, sizeof(name), "s%u", k);
	if (!snap_alive[k]) {
		struct node_snapshot s = { .name = name };

		op = begin(SNAPSHOT, 0, disk->size);
		model.ops[op].snap = k;
		end(op, disk->drv->snapshot_create(disk, &s, &err));
		snap_alive[k] = true;
		snap_op[k] = op;
	} else if (pick(2)) {
		/* The disk gets the size that it had. */
		resized = begin(RESIZE, disk->size, model.ops[snap_op[k]].bytes);
		op = begin(APPLY, 0, disk->size);
		model.ops[op].snap = k;
		model.ops[op].before = snap_op[k];
		end(op, disk->drv->snapshot_apply(disk, name, &err));
		end(resized, 0);
	} else {
		op = begin(DELETE, 0, 0);
		model.ops[op].snap = k;
		end(op, disk->drv->snapshot_delete(disk, name, &err));
		snap_alive[k] = false;
	}
}

static void do_amend(void)
{
	static const char *const what[] = { "refcount_bits=64", "refcount_bits=32", "refcount_bits=16",
					    "lazy_refcounts=on", "lazy_refcounts=off" };
	struct opts *o = opts_new();

	opts_parse(o, what[pick(ARRAY_LEN(what))], NULL, &err);
	if (disk->drv->amend(disk, o, false, &err))
		fail_msg("amend: %s", err.msg);
	opts_free(o);
}

/* As commit does at its end. */
static void do_empty(void)
{
	unsigned op = begin(ZERO, 0, disk->size);

	end(op, disk->drv->make_empty(disk));
}

static struct node *open_disk(bool again);

/* Close the disk, which writes everything back, and open it again. */
static void do_reopen(void)
{
	node_close(disk);
	disk = open_disk(true);
	if (!disk)
		fail_msg("opening again: %s", err.msg);
}

static void do_bitmap(void)
{
	struct bitmap_request r = { .name = "b", .granularity = 512u << pick(4) };
	unsigned op;

	r.action = !bitmap_there ? BITMAP_ADD : pick(3) ? BITMAP_CLEAR : BITMAP_REMOVE;
	op = begin(BITMAP, 0, 0);
	end(op, disk->drv->bitmaps->act(disk, &r, &err));
	bitmap_there = r.action != BITMAP_REMOVE;
	bitmap_since = model.now;
	do_reopen();
}

static void do_alone(void)
{
	unsigned what = (unsigned)pick(8);

	if (what == 0)
		do_reopen();
	else if (what == 7 && !pick(4))
		do_empty();
	else if (kind->bitmaps && what < 4)
		do_bitmap();
	else if (what == 1 && !kind->old)
		do_amend();
	else if (what < 4 || kind->data)
		do_resize();
	else
		do_snapshot();
}

/* --- states --- */

static struct shot base, state, before_repair;
static char why[2560];

static void take_shots(void)
{
	shot_new(&base);
	shot_new(&state);
	shot_new(&before_repair);
	shot_take(&base, fds);
}

/* --- what a state holds --- */

static struct node *open_with(const char *text, unsigned flags)
{
	struct opts *o = opts_new();
	struct node *n;

	opts_parse(o, text, NULL, &err);
	if (kind->data)
		opts_parse(o, "data-file.driver=file,data-file.filename=data,data-file.locking=off", NULL, &err);
	if (kind->crypt)
		opts_set(o, "encrypt.key-secret", "s0");
	n = node_open(&ctx, NULL, o, flags, &err);
	opts_free(o);
	return n;
}

static struct node *open_disk(bool again)
{
	static const char logged[] =
		"driver=qcow2,file.driver=blklogwrites,file.file.driver=file,file.file.filename=image,"
		"file.log.driver=file,file.log.filename=log,discard=unmap";
	char text[512];

	snprintf(text, sizeof(text), "%s%s",
		 kind->logged ? logged : "driver=qcow2,file.driver=file,file.filename=image,discard=unmap",
		 kind->logged && again ? ",file.log-append=on" : "");
	return open_with(text, NODE_RDWR);
}

static struct node *open_state(unsigned flags)
{
	return open_with("driver=qcow2,file.driver=file,file.filename=image,file.locking=off", flags);
}

static bool check_bytes(struct node *n, uint64_t at_place, unsigned flush, unsigned op)
{
	uint8_t *buf = malloc(n->size + SECTOR);
	bool ok = true;

	if (node_read(n, 0, buf, n->size)) {
		snprintf(why, sizeof(why), "reading failed");
		free(buf);
		return false;
	}
	for (uint64_t at = 0; at < n->size && ok; at += SECTOR) {
		int64_t value = model_read(&model, buf + at, at / SECTOR);

		ok = value >= 0 && (op == OPS ? model_may_hold(&model, at, (unsigned)value, at_place, flush)
					      : value == (int64_t)model_value_before(&model, op, at));
		if (!ok)
			snprintf(why, sizeof(why), "%s: the sector at %llu holds %#llx",
				 op == OPS ? "the disk" : "a snapshot", (unsigned long long)at,
				 (unsigned long long)ld_le64(buf + at));
	}
	free(buf);
	return ok;
}

/* Snapshots that had been made, and not begun to be deleted, are there with what they hold. */
static bool check_snapshots(uint64_t at_place)
{
	for (unsigned i = 0; i < model.n; i++) {
		const struct op *made = &model.ops[i];
		bool alive = made->kind == SNAPSHOT && made->until <= at_place;
		char name[8];
		struct node *n;
		bool ok;

		for (unsigned k = i + 1; k < model.n && alive; k++)
			if (model.ops[k].kind == DELETE && model.ops[k].snap == made->snap &&
			    model.ops[k].from <= at_place)
				alive = false;
		if (!alive)
			continue;
		snprintf(name, sizeof(name), "s%u", made->snap);
		n = open_state(0);
		if (!n || n->drv->snapshot_load(n, name, &err)) {
			snprintf(why, sizeof(why), "snapshot %s: %s", name, err.msg);
			node_close(n);
			return false;
		}
		ok = n->size == made->bytes && check_bytes(n, at_place, 0, i);
		node_close(n);
		if (!ok)
			return false;
	}
	return true;
}

/* A bitmap that says that it is right has each write that is in the state. */
static bool check_bitmaps(struct node *n)
{
	uint8_t sector[SECTOR];

	for (unsigned i = 0; i < qc(n)->bitmaps.n; i++) {
		struct qc_bitmap *b = &qc(n)->bitmaps.at[i];

		if (b->inconsistent || !b->enabled)
			continue;
		if (qc_bitmap_load(n, b)) {
			snprintf(why, sizeof(why), "the bitmap cannot be read");
			return false;
		}
		for (uint64_t at = 0; at < n->size; at += SECTOR) {
			uint64_t bit = at >> b->granularity;
			int64_t v = node_read(n, at, sector, SECTOR) ? 0 : model_read(&model, sector, at / SECTOR);

			if (v > 0 && model.ops[v - 1].begun > bitmap_since && !(b->bits[bit / 8] >> bit % 8 & 1)) {
				snprintf(why, sizeof(why), "the bitmap does not have the sector at %llu",
					 (unsigned long long)at);
				return false;
			}
		}
	}
	return true;
}

/* The data file is a disk by itself. */
static bool check_raw(const struct shot *s, uint64_t size, uint64_t at_place, unsigned flush)
{
	for (uint64_t at = 0; at < size; at += SECTOR) {
		int64_t v = model_read(&model, s->bytes[IN_DATA] + at, at / SECTOR);

		if (v < 0 || !model_may_hold(&model, at, (unsigned)v, at_place, flush)) {
			snprintf(why, sizeof(why), "the data file holds %lld at %llu", (long long)v,
				 (unsigned long long)at);
			return false;
		}
	}
	return true;
}

/* Findings on stderr other than wrong flags, which version 2 may have: they make writes copy, and no more. */
static bool says_worse(int said)
{
	static char text[1 << 20]; /* more than all tables have entries */
	ssize_t len = pread(said, text, sizeof(text) - 1, 0);
	char *line, *rest = text;

	text[len > 0 ? len : 0] = 0;
	while ((line = strsep(&rest, "\n")))
		if (!strncmp(line, "ERROR", 5) && strncmp(line, "ERROR OFLAG_COPIED", 18))
			return true;
	return false;
}

/* What a disk that shrank has left does not come to light when it grows. */
static bool check_growing(struct node *n)
{
	struct node_resize how = { .size = ROOM, .exact = true };
	uint64_t old = n->size;
	uint8_t *buf;
	bool ok;

	if (old == ROOM || qc(n)->bitmaps.n || (kind->old && qc(n)->snap_count))
		return true;
	buf = calloc(1, ROOM - old);
	ok = !node_truncate(n, &how, &err) && !node_read(n, old, buf, ROOM - old);
	for (uint64_t i = 0; i < ROOM - old && ok; i++)
		ok = !buf[i];
	if (!ok)
		snprintf(why, sizeof(why), "something is behind the end at %llu", (unsigned long long)old);
	free(buf);
	return ok;
}

static bool look(uint64_t at_place, int said)
{
	struct node_check c = { 0 };
	struct node *n = open_state(NODE_RDWR); /* one that is marked as dirty is made good by that */
	unsigned flush = model_last_flush(&model, at_place);
	bool ok;
	int ret;

	if (!n) {
		snprintf(why, sizeof(why), "opening: %s", err.msg);
		return false;
	}
	ret = n->drv->check(n, &c, 0);
	if (ret || c.check_errors || (c.corruptions && (!kind->old || says_worse(said)))) {
		snprintf(why, sizeof(why), "check: %d, %lld corruptions, %lld errors", ret, (long long)c.corruptions,
			 (long long)c.check_errors);
		node_close(n);
		return false;
	}
	ok = model_size_fits(&model, n->size, at_place);
	if (!ok)
		snprintf(why, sizeof(why), "the size is %llu", (unsigned long long)n->size);
	ok = ok && check_bytes(n, at_place, flush, OPS) && check_bitmaps(n);
	if (ok && kind->raw)
		ok = check_raw(&state, n->size, at_place, flush);
	ok = ok && check_growing(n);
	node_close(n);
	return ok && check_snapshots(at_place);
}

static void repeat(int said)
{
	char text[16384];
	ssize_t len = pread(said, text, sizeof(text) - 1, 0);

	text[len > 0 ? len : 0] = 0;
	fputs(text, stderr);
}

/* Its messages are heard only when something was wrong. */
static bool good(uint64_t at_place)
{
	int said = memfd_create("said", MFD_CLOEXEC), old;
	bool ok;

	fflush(stderr);
	old = dup(2);
	dup2(said, 2);
	ok = look(at_place, said);
	fflush(stderr);
	dup2(old, 2);
	close(old);
	if (!ok)
		repeat(said);
	close(said);
	return ok;
}

/* The repair of a state, which loses power as well. */
static bool repair_is_good(uint64_t at_place)
{
	struct history h = { .fd = { fds[0], fds[1] } };
	struct node *n;
	bool ok = true;

	shot_put(&state, fds);
	pick_record(&h);
	places_on = true;
	n = open_state(NODE_RDWR | NODE_QUIET);
	places_on = false;
	pick_record(NULL);
	node_close(n);
	shot_copy(&before_repair, &state);
	for (unsigned i = 0; i < 3 && h.n && ok; i++) {
		uint64_t durable[PICK_FILES] = { 0 }, end = pick(h.n + 1);

		history_durable(&h, 0, end, durable);
		shot_copy(&state, &before_repair);
		for (uint64_t k = 0; k < end; k++)
			if (k < durable[h.at[k].file])
				shot_apply(&state, &h.at[k], 0, h.at[k].bytes);
		shot_lose(&state, &h, durable, end);
		shot_put(&state, fds);
		ok = good(at_place);
	}
	history_free(&h);
	return ok;
}

/* --- runs --- */

static uint64_t states, wanted;
static unsigned first_kind;

static void make_disk(void)
{
	struct opts *o = opts_new();

	for (unsigned f = 0; f < PICK_FILES; f++)
		fds[f] = memfd_create("disk", MFD_CLOEXEC);
	log_fd = memfd_create("log", MFD_CLOEXEC);
	model.n = model.now = 0;
	model.first_size = align_up(ROOM / 16 + pick(ROOM / 2), SECTOR);
	memset(snap_alive, 0, sizeof(snap_alive));
	bitmap_there = false;
	opts_parse(o, kind->options, NULL, &err);
	opts_setf(o, "size", "%llu", (unsigned long long)model.first_size);
	if (node_qcow2.create(&ctx, "image", o, &err))
		fail_msg("%s: %s", kind->options, err.msg);
	opts_free(o);
	take_shots();
}

/* What blklogwrites wrote down, as the rest is. */
static void parse_log(void)
{
	uint64_t bytes = (uint64_t)lseek(log_fd, 0, SEEK_END), at = SECTOR, n;
	uint8_t *text = malloc(bytes + SECTOR);

	assert_int_equal(pread(log_fd, text, bytes, 0), bytes);
	n = ld_le64(text + 16);
	for (uint64_t i = 0; i < n; i++) {
		const uint8_t *e = text + at;
		uint64_t flags = ld_le64(e + 16);
		struct change c = { .offset = ld_le64(e) * SECTOR, .bytes = ld_le64(e + 8) * SECTOR, .covers = i };

		at += SECTOR;
		c.kind = flags & LOG_WRITES_DISCARD ? CHANGE_ZERO
			 : flags & LOG_WRITES_FLUSH ? CHANGE_FLUSH
						    : CHANGE_DATA;
		if (c.kind != CHANGE_ZERO)
			at += c.bytes;
		assert_true(at <= bytes);
		c.data = malloc(c.bytes + 1);
		if (c.kind == CHANGE_DATA)
			memcpy(c.data, e + SECTOR, c.bytes);
		history_add(&history, &c);
	}
	free(text);
}

static void use_disk(void)
{
	history = (struct history){ .fd = { fds[0], kind->data ? fds[1] : -1 } };
	if (!kind->logged)
		pick_record(&history);
	places_on = true;
	n_marks = 0;
	disk = open_disk(false);
	if (!disk)
		fail_msg("%s: %s", kind->options, err.msg);
	for (unsigned round = 0; round < ROUNDS; round++) {
		all_at_once(4 + (unsigned)pick(16));
		marks[n_marks++] = place();
		do_alone();
		marks[n_marks++] = place();
	}
	node_close(disk);
	places_on = false;
	pick_record(NULL);
	if (kind->logged)
		parse_log();
}

static uint64_t sum; /* of all states that were looked at */

static void add_up(const struct shot *s, uint64_t at)
{
	sum += history.n << 32 ^ at;
	/* Keys are random. */
	for (unsigned f = 0; f < PICK_FILES && !kind->crypt; f++)
		for (uint64_t i = 0; i + 8 <= s->used[f]; i += 8)
			sum = (sum ^ ld_le64(s->bytes[f] + i)) * 0x9e3779b97f4a7c15ull + 1;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* In order, so that what is flushed is only added to. Half of them are within or right after what was done alone. */
static void choose_places(uint64_t *out, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		uint64_t at = pick(history.n + 1);

		if (pick(2)) {
			unsigned m = (unsigned)pick(n_marks / 2) * 2;

			at = marks[m] + pick(marks[m + 1] - marks[m] + 8);
		}
		/* Most is to be lost right before a flush. */
		if (pick(4))
			while (at < history.n && history.at[at].kind != CHANGE_FLUSH)
				at++;
		out[i] = at < history.n ? at : history.n;
	}
	qsort(out, count, sizeof(*out), by_number);
}

static void one_run(const struct kind_of_image *k, uint64_t count)
{
	uint64_t durable[PICK_FILES] = { 0 }, started = pick_seed, seen = 0, *at_all = calloc(count, sizeof(*at_all));

	kind = k;
	make_disk();
	use_disk();
	choose_places(at_all, count);
	for (uint64_t i = 0; i < count; i++) {
		uint64_t at = at_all[i], old[PICK_FILES];
		bool ok;

		memcpy(old, durable, sizeof(old));
		history_durable(&history, seen, at, durable);
		seen = at;
		for (uint64_t e = old[0] < old[1] ? old[0] : old[1]; e < at; e++) {
			unsigned f = history.at[e].file;

			if (e >= old[f] && e < durable[f])
				shot_apply(&base, &history.at[e], 0, history.at[e].bytes);
		}
		shot_copy(&state, &base);
		shot_lose(&state, &history, durable, at);
		add_up(&state, at);
		shot_put(&state, fds);
		ok = good(at);
		if (ok && !pick(10))
			ok = repair_is_good(at);
		if (!ok)
			fail_msg("kind %u, %s, seed %llu: with %llu of %llu changes, %llu on stable storage: %s",
				 (unsigned)(k - kinds), k->options, (unsigned long long)started, (unsigned long long)at,
				 (unsigned long long)history.n, (unsigned long long)durable[0], why);
		states++;
	}
	free(at_all);
	history_free(&history);
	shot_free(&base);
	shot_free(&state);
	shot_free(&before_repair);
	for (unsigned f = 0; f < PICK_FILES; f++)
		close(fds[f]);
	close(log_fd);
}

static void runs(void *opaque)
{
	const uint64_t *at_once = opaque;

	for (unsigned i = first_kind; states < wanted; i++)
		one_run(&kinds[i % ARRAY_LEN(kinds)], *at_once);
}

static void test_states_after_a_loss_of_power(void **unused)
{
	uint64_t at_once = wanted / ARRAY_LEN(kinds) < 500 ? wanted / ARRAY_LEN(kinds) : 500;

	at_once = at_once ? at_once : 1;
	states = 0;
	node_ctx_run(&ctx, runs, &at_once);
	print_message("%llu states\n", (unsigned long long)states);
}

/* One seed makes the same states again. */
static void test_seeds_say_everything(void **unused)
{
	uint64_t first, at_once = 2, all = wanted, from = pick_seed;

	states = sum = 0;
	wanted = 2 * ARRAY_LEN(kinds);
	node_ctx_run(&ctx, runs, &at_once);
	first = sum;
	states = sum = 0;
	pick_seed = from;
	node_ctx_run(&ctx, runs, &at_once);
	wanted = all;
	assert_true(sum == first);
}

/* --- what is found when something is left out --- */

/* In a process of its own: whether it is found that place `i` does nothing. */
static bool is_found(unsigned i, uint64_t most)
{
	uint64_t at_once = most < 100 ? 6 : 50;
	int status;
	pid_t child = fork();

	if (!child) {
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

		dup2(null, 1);
		dup2(null, 2);
		signal(SIGABRT, SIG_DFL);
		alarm(300);
		place_leave_out(i);
		states = 0;
		wanted = most;
		node_ctx_run(&ctx, runs, &at_once);
		_exit(0);
	}
	waitpid(child, &status, 0);
	return status != 0;
}

/* Of few states three places are enough; of many each must be found. */
static void test_what_is_left_out_is_found(void **unused)
{
	const char *text = getenv("VIREO_CRASH_FLUSHES");
	uint64_t most = text ? strtoull(text, NULL, 0) : 0;
	unsigned found = 0, n = places_n();

	setenv("CMOCKA_TEST_ABORT", "1", 1);
	for (unsigned i = 0; i < n && (most || found < 3); i++) {
		bool is = is_found(i, most ? most : 60);
		char name[128];

		found += is;
		place_name(i, name, sizeof(name));
		if (most)
			print_message("%s: %s\n", name, is ? "found" : "NOT FOUND");
	}
	unsetenv("CMOCKA_TEST_ABORT");
	assert_true(n > 10 && found >= (most ? n : 3));
}

static int setup(void **unused)
{
	const char *count = getenv("VIREO_CRASH_STATES"), *from = getenv("VIREO_CRASH_SEED");
	struct opts *o = opts_new();

	wanted = count ? strtoull(count, NULL, 0) : 400;
	if (getenv("VIREO_CRASH_KIND"))
		first_kind = (unsigned)atoi(getenv("VIREO_CRASH_KIND"));
	if (from)
		pick_seed = strtoull(from, NULL, 0);
	if (node_ctx_init(&ctx, &err))
		return -1;
	ctx.open_path = open_memory;
	pick_init(&ctx);
	opts_parse(o, "qom-type=secret,id=s0,data=passphrase", NULL, &err);
	if (secret_add(&ctx, o, &err))
		return -1;
	opts_free(o);
	return 0;
}

static int teardown(void **unused)
{
	secrets_free(&ctx);
	node_ctx_free(&ctx);
	co_thread_end();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_states_after_a_loss_of_power),
		cmocka_unit_test(test_seeds_say_everything),
		cmocka_unit_test(test_what_is_left_out_is_found),
	};

	return cmocka_run_group_tests_name("block_crash", tests, setup, teardown);
}
