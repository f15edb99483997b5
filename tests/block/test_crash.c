/*
 * What a loss of power may leave of a qcow2 image. A disk is used by several at once, with snapshots and resizing, over
 * a blklogwrites node. From the log every state can be made that the machine could have left: all that came before a
 * flush, and of what came after it any part, sector by sector. In each our check must find nothing worse than
 * leaks, and each sector must have what was flushed, or something that was written since.
 *
 * VIREO_CRASH_STATES: how many states (default 400). VIREO_CRASH_SEED: where the random numbers begin.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/blklogwrites.h"

#define SECTOR	512u
#define DISK	(768u * 1024u)
#define ROOM	(1024u * 1024u) /* the disk at its largest */
#define SECTORS (ROOM / SECTOR)
#define WORKERS 4u
#define IMAGE	(24u << 20) /* more than any image here has */
#define OPS	4000u
#define SNAPS	8u

static struct node_ctx ctx;
static struct err err;
static uint64_t seed = 88172645463325252ull;
static int image_fd, log_fd; /* files in memory, opened as "image" and "log" */

static uint64_t rnd(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

static int open_memory(void *opaque, const char *path, int flags)
{
	char name[64];

	snprintf(name, sizeof(name), "/proc/self/fd/%d", strcmp(path, "log") ? image_fd : log_fd);
	return open(name, flags & ~(O_CREAT | O_EXCL));
}

/* --- what was done to the disk --- */

enum kind { WRITE, ZERO, FLUSH, RESIZE, SNAPSHOT, DELETE, APPLY };

/* Times are counted by operations that begin or end; places are numbers of entries in the log. */
struct op {
	enum kind kind;
	uint64_t offset, bytes; /* RESIZE: the new size in `bytes` */
	unsigned begun, ended;	/* times */
	uint64_t from, until;	/* places when it began and had ended */
	unsigned snap;		/* SNAPSHOT, DELETE, APPLY */
	unsigned before;	/* APPLY: of the same snapshot */
};

static struct op ops[OPS];
static unsigned n_ops, now;
static struct node *disk;
static const struct node *logger;
static bool snap_alive[SNAPS];
static unsigned snap_op[SNAPS];

/* A sector that operation `op` has written. */
static void fill(uint8_t *sector, unsigned op, uint64_t number)
{
	for (unsigned i = 0; i < SECTOR / 8; i++)
		st_le64(sector + 8 * i, (uint64_t)(op + 1) << 32 | number);
}

static unsigned begin(enum kind kind, uint64_t offset, uint64_t bytes)
{
	assert_true(n_ops < OPS);
	ops[n_ops] = (struct op){ .kind = kind,
				  .offset = offset,
				  .bytes = bytes,
				  .begun = ++now,
				  .ended = UINT32_MAX,
				  .from = blklogwrites_entries(logger),
				  .until = UINT64_MAX };
	return n_ops++;
}

static void end(unsigned op, int ret)
{
	if (ret)
		fail_msg("operation %u of kind %d: %s", op, ops[op].kind, strerror(-ret));
	ops[op].ended = ++now;
	ops[op].until = blklogwrites_entries(logger);
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
		fill(buf + i * SECTOR, op, offset / SECTOR + i);
	end(op, node_io(disk, &r));
	free(buf);
}

static void do_zero(uint64_t offset, uint64_t bytes)
{
	unsigned op = begin(ZERO, offset, bytes);

	end(op, node_zeroes(disk, offset, bytes, rnd(2) ? BLOCK_REQ_UNMAP : 0));
}

static void do_flush(void)
{
	unsigned op = begin(FLUSH, 0, 0);

	end(op, node_flush(disk));
}

struct load {
	uint64_t cluster, first, end; /* a worker's part of the disk, in bytes */
	unsigned steps;
	unsigned *running;
	struct co *boss;
	uint32_t compressed; /* BLOCK_REQ_COMPRESSED when the part is made of whole clusters */
};

static void one_step(const struct load *l)
{
	uint64_t most = (l->end - l->first) / SECTOR, at = rnd(most), n = 1 + rnd(rnd(3) ? 8 : 64);
	uint64_t first = l->first + at * SECTOR;

	if (n > most - at)
		n = most - at;
	switch (rnd(16)) {
	case 0:
		do_flush();
		break;
	case 1:
		do_zero(first, n * SECTOR);
		break;
	case 2: /* a discard, of whole clusters, reads as zeroes */
		first = align_up(first, l->cluster);
		if (first + l->cluster <= l->end) {
			unsigned op = begin(ZERO, first, l->cluster);

			end(op, node_discard(disk, first, l->cluster));
		}
		break;
	case 3:
		first = align_up(first, l->cluster);
		if (l->compressed && first + l->cluster <= l->end)
			do_write(first, l->cluster, l->compressed);
		break;
	default:
		do_write(first, n * SECTOR, 0);
	}
}

static void worker(void *opaque)
{
	struct load *l = opaque;

	for (unsigned i = 0; i < l->steps; i++)
		one_step(l);
	if (!--*l->running && l->boss)
		co_wake(l->boss);
}

static void all_at_once(uint64_t cluster, unsigned steps)
{
	struct load l[WORKERS];
	unsigned running = WORKERS;
	uint64_t size = disk->size / SECTOR, at = 0;

	for (unsigned i = 0; i < WORKERS; i++) {
		/* The first have whole clusters, the others share some. */
		uint64_t next = i == WORKERS - 1 ? size : size * (i + 1) / WORKERS;

		if (i < 2)
			next = align_down(next * SECTOR, cluster) / SECTOR;
		l[i] = (struct load){
			cluster, at * SECTOR, next * SECTOR, steps, &running, NULL, i < 2 ? BLOCK_REQ_COMPRESSED : 0
		};
		at = next;
	}
	for (unsigned i = 0; i < WORKERS; i++) {
		l[i].boss = co_self();
		assert_int_equal(co_start(worker, &l[i]), 0);
	}
	while (running)
		co_wait();
}

/* With nobody else at it. */
static void do_alone(bool snapshots)
{
	unsigned k = (unsigned)rnd(SNAPS), op;
	char name[8];

	snprintf(name, sizeof(name), "s%u", k);
	if (!snapshots || rnd(3) == 0) {
		struct node_resize how = { .size = align_up(DISK / 2 + rnd(ROOM - DISK / 2), SECTOR), .exact = true };

		op = begin(RESIZE, disk->size, how.size);
		end(op, node_truncate(disk, &how, &err));
	} else if (!snap_alive[k]) {
		struct node_snapshot s = { .name = name };

		op = begin(SNAPSHOT, 0, disk->size);
		ops[op].snap = k;
		end(op, disk->drv->snapshot_create(disk, &s, &err));
		snap_alive[k] = true;
		snap_op[k] = op;
	} else if (rnd(2) && ops[snap_op[k]].bytes == disk->size) {
		op = begin(APPLY, 0, disk->size);
		ops[op].snap = k;
		ops[op].before = snap_op[k];
		end(op, disk->drv->snapshot_apply(disk, name, &err));
	} else {
		op = begin(DELETE, 0, 0);
		ops[op].snap = k;
		end(op, disk->drv->snapshot_delete(disk, name, &err));
		snap_alive[k] = false;
	}
}

/* --- what a sector may hold --- */

/* The last flush that had ended when the log was so long; its number, or OPS. */
static unsigned last_flush(uint64_t place)
{
	unsigned best = OPS;

	for (unsigned i = 0; i < n_ops; i++)
		if (ops[i].kind == FLUSH && ops[i].until <= place && (best == OPS || ops[i].begun > ops[best].begun))
			best = i;
	return best;
}

/* What `op` has made of a sector, as it is filled: its number + 1, 0 for zeroes; false: it left it alone. */
static bool made(unsigned i, uint64_t at, unsigned *value)
{
	const struct op *o = &ops[i];

	if (o->kind == RESIZE && at >= (o->bytes < o->offset ? o->bytes : o->offset)) {
		*value = 0; /* cut off, or new */
		return true;
	}
	if ((o->kind != WRITE && o->kind != ZERO) || at < o->offset || at - o->offset >= o->bytes)
		return false;
	*value = o->kind == WRITE ? i + 1 : 0;
	return true;
}

/* What it held when `op` began; nothing else was on its way then. */
static unsigned value_before(unsigned op, uint64_t at)
{
	unsigned value = 0;

	for (unsigned i = 0; i < op; i++) {
		if (ops[i].kind == APPLY)
			value = value_before(ops[i].before, at);
		else
			made(i, at, &value);
	}
	return value;
}

static bool may_hold(uint64_t at, unsigned value, uint64_t place, unsigned flush)
{
	unsigned flushed = 0, v;
	bool ok = false;

	for (unsigned i = 0; i < n_ops; i++) {
		const struct op *o = &ops[i];

		if (o->from > place)
			continue;
		if (o->kind == APPLY)
			v = value_before(o->before, at);
		else if (!made(i, at, &v))
			continue;
		if (flush < OPS && o->ended < ops[flush].begun)
			flushed = v;
		else
			ok |= v == value;
	}
	return ok || value == flushed;
}

/* --- states --- */

static uint8_t *base, *state, *log_text;
static uint64_t log_size, log_entries, used; /* bytes of the image */
static struct log_at {
	uint64_t offset, bytes, flags;
	const uint8_t *data;
} * entries;

static uint8_t *read_fd(int fd, uint64_t bytes)
{
	uint8_t *p = calloc(1, bytes);
	uint64_t at = 0;
	ssize_t n;

	while (at < bytes && (n = pread(fd, p + at, bytes - at, (off_t)at)) > 0)
		at += (uint64_t)n;
	return p;
}

static void parse_log(void)
{
	uint64_t at = SECTOR;

	log_size = (uint64_t)lseek(log_fd, 0, SEEK_END);
	log_text = read_fd(log_fd, log_size);
	log_entries = ld_le64(log_text + 16);
	entries = calloc(log_entries, sizeof(*entries));
	for (uint64_t i = 0; i < log_entries; i++) {
		const uint8_t *e = log_text + at;

		entries[i] =
			(struct log_at){ ld_le64(e) * SECTOR, ld_le64(e + 8) * SECTOR, ld_le64(e + 16), e + SECTOR };
		at += SECTOR;
		if (!(entries[i].flags & LOG_WRITES_DISCARD))
			at += entries[i].bytes;
		assert_true(at <= log_size);
		assert_true(entries[i].offset + entries[i].bytes <= IMAGE);
		if (entries[i].offset + entries[i].bytes > used)
			used = entries[i].offset + entries[i].bytes;
	}
}

static void apply(uint8_t *to, const struct log_at *e, uint64_t from, uint64_t bytes)
{
	if (e->flags & LOG_WRITES_DISCARD)
		memset(to + e->offset + from, 0, bytes);
	else
		memcpy(to + e->offset + from, e->data + from, bytes);
}

/* The state with the first `place` entries, of those since the last flush any part. */
static void make_state(uint64_t flushed, uint64_t place)
{
	unsigned how = (unsigned)rnd(4); /* 0: all of them, 1: few are missing, 2: few are there, 3: half */
	const unsigned chance[] = { 100, 90, 10, 50 };

	memcpy(state, base, used);
	for (uint64_t i = flushed; i < place; i++) {
		const struct log_at *e = &entries[i];

		if (rnd(100) >= chance[how])
			continue;
		if (rnd(8) || e->bytes <= SECTOR || !how) {
			apply(state, e, 0, e->bytes);
			continue;
		}
		for (uint64_t at = 0; at < e->bytes; at += SECTOR) /* torn */
			if (rnd(2))
				apply(state, e, at, SECTOR);
	}
}

static struct node *open_state(unsigned flags)
{
	struct opts *o = opts_new();
	struct node *n;

	opts_parse(o, "driver=qcow2,file.driver=file,file.filename=image,file.locking=off", NULL, &err);
	n = node_open(&ctx, NULL, o, flags, &err);
	opts_free(o);
	return n;
}

static char why[2560];

static bool check_bytes(struct node *n, uint64_t place, unsigned flush, unsigned op)
{
	uint8_t *buf = malloc(n->size + SECTOR);
	bool ok = true;

	if (node_read(n, 0, buf, n->size)) {
		snprintf(why, sizeof(why), "reading failed");
		for (uint64_t at = 0; at < n->size; at += SECTOR)
			if (node_read(n, at, buf, SECTOR)) {
				snprintf(why, sizeof(why), "reading the sector at %llu failed", (unsigned long long)at);
				break;
			}
		free(buf);
		return false;
	}
	for (uint64_t at = 0; at < n->size && ok; at += SECTOR) {
		uint64_t first = ld_le64(buf + at), value = first >> 32;

		ok = !first || (value <= n_ops && (first & 0xffffffffu) == at / SECTOR);
		for (unsigned i = 8; i < SECTOR; i += 8)
			ok = ok && ld_le64(buf + at + i) == first;
		if (ok)
			ok = op == OPS ? may_hold(at, (unsigned)value, place, flush) : value == value_before(op, at);
		if (!ok)
			snprintf(why, sizeof(why), "the sector at %llu holds %#llx", (unsigned long long)at,
				 (unsigned long long)first);
	}
	free(buf);
	return ok;
}

/* Snapshots that had been made, and not begun to be deleted, are there with what they hold. */
static bool check_snapshots(uint64_t place)
{
	for (unsigned i = 0; i < n_ops; i++) {
		bool alive = ops[i].kind == SNAPSHOT && ops[i].until <= place;
		char name[8];
		struct node *n;
		bool ok;

		for (unsigned k = i + 1; k < n_ops && alive; k++)
			if (ops[k].kind == DELETE && ops[k].snap == ops[i].snap && ops[k].from <= place)
				alive = false;
		if (!alive)
			continue;
		snprintf(name, sizeof(name), "s%u", ops[i].snap);
		n = open_state(0);
		if (!n || n->drv->snapshot_load(n, name, &err)) {
			snprintf(why, sizeof(why), "snapshot %s: %s", name, err.msg);
			node_close(n);
			return false;
		}
		ok = n->size == ops[i].bytes && check_bytes(n, place, 0, i);
		node_close(n);
		if (!ok)
			return false;
	}
	return true;
}

/* The size is that of the last resize that had ended, or of one that was on its way. */
static bool size_fits(uint64_t size, uint64_t place)
{
	uint64_t last = DISK;
	bool ok = false;

	for (unsigned i = 0; i < n_ops; i++) {
		if ((ops[i].kind != RESIZE && ops[i].kind != APPLY) || ops[i].from > place)
			continue;
		ok |= ops[i].bytes == size;
		if (ops[i].until <= place) {
			last = ops[i].bytes;
			ok = false;
		}
	}
	return ok || size == last;
}

static bool good(uint64_t place)
{
	struct node_check c = { 0 };
	struct node *n;
	bool ok;
	int ret;

	assert_int_equal(ftruncate(image_fd, 0), 0);
	assert_int_equal(pwrite(image_fd, state, used, 0), used);
	n = open_state(NODE_RDWR); /* one that is marked as dirty is made good by that */
	if (!n) {
		snprintf(why, sizeof(why), "opening: %s", err.msg);
		return false;
	}
	ret = n->drv->check(n, &c, 0);
	if (ret || c.corruptions || c.check_errors) {
		snprintf(why, sizeof(why), "check: %d, %lld corruptions, %lld errors", ret, (long long)c.corruptions,
			 (long long)c.check_errors);
		node_close(n);
		return false;
	}
	ok = size_fits(n->size, place);
	if (!ok)
		snprintf(why, sizeof(why), "the size is %llu", (unsigned long long)n->size);
	ok = ok && check_bytes(n, place, last_flush(place), OPS);
	node_close(n);
	return ok && check_snapshots(place);
}

/* --- runs --- */

static const struct kind_of_image {
	const char *options;
	uint64_t cluster;
	bool old; /* has no mark for counts that are being changed */
} kinds[] = {
	{ "cluster_size=4k", 4096 },
	{ "cluster_size=512,refcount_bits=64", 512 },
	{ "cluster_size=16k,extended_l2=on", 16384 },
	{ "cluster_size=4k,lazy_refcounts=on", 4096 },
	{ "cluster_size=1k,compat=0.10", 1024, true },
};

static uint64_t states, wanted;

static void make_disk(const struct kind_of_image *k)
{
	struct opts *o = opts_new(), *none = opts_new();

	image_fd = memfd_create("image", 0);
	log_fd = memfd_create("log", 0);
	opts_parse(o, k->options, NULL, &err);
	opts_setf(o, "size", "%u", DISK);
	if (node_qcow2.create(&ctx, "image", o, &err))
		fail_msg("%s: %s", k->options, err.msg);
	base = read_fd(image_fd, IMAGE);
	used = (uint64_t)lseek(image_fd, 0, SEEK_END);
	opts_parse(none,
		   "driver=qcow2,file.driver=blklogwrites,file.file.driver=file,file.file.filename=image,"
		   "file.log.driver=file,file.log.filename=log,discard=unmap",
		   NULL, &err);
	disk = node_open(&ctx, NULL, none, NODE_RDWR, &err);
	if (!disk)
		fail_msg("%s: %s", k->options, err.msg);
	logger = disk->file;
	opts_free(o);
	opts_free(none);
}

static void quiet(bool on)
{
	static int old = -1;

	fflush(stderr);
	if (on) {
		old = dup(2);
		dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), 2);
	} else {
		dup2(old, 2);
		close(old);
	}
}

static void one_run(const struct kind_of_image *k, uint64_t count)
{
	uint64_t flushed = 0, started = seed;

	n_ops = now = 0;
	memset(snap_alive, 0, sizeof(snap_alive));
	make_disk(k);
	for (unsigned round = 0; round < 12; round++) {
		all_at_once(k->cluster, 6 + (unsigned)rnd(20));
		do_alone(!k->old);
	}
	node_close(disk);
	parse_log();
	state = malloc(IMAGE);
	/* Places in order, so that what is flushed is only added to. */
	for (uint64_t i = 0; i < count; i++) {
		uint64_t lo = log_entries * i / count, hi = log_entries * (i + 1) / count;
		uint64_t place = lo + rnd(hi > lo ? hi - lo : 1) + (i == count - 1), f = 0;
		bool ok;

		/* Most is to be lost right before a flush. */
		if (rnd(4))
			while (place < hi && !(entries[place].flags & LOG_WRITES_FLUSH))
				place++;
		for (uint64_t e = flushed; e < place; e++)
			if (entries[e].flags & LOG_WRITES_FLUSH)
				f = e + 1;
		for (; flushed < f; flushed++)
			apply(base, &entries[flushed], 0, entries[flushed].bytes);
		make_state(flushed, place);
		quiet(true);
		ok = good(place);
		quiet(false);
		if (!ok)
			good(place); /* again, aloud */
		if (!ok)
			fail_msg("%s, seed %llu: with %llu of %llu entries, %llu flushed: %s", k->options,
				 (unsigned long long)started, (unsigned long long)place,
				 (unsigned long long)log_entries, (unsigned long long)flushed, why);
		states++;
	}
	free(base);
	free(state);
	free(log_text);
	free(entries);
	close(image_fd);
	close(log_fd);
}

static void runs(void *opaque)
{
	const unsigned n = sizeof(kinds) / sizeof(kinds[0]);
	uint64_t each = wanted / n < 500 ? wanted / n : 500;

	for (unsigned i = 0; states < wanted; i++)
		one_run(&kinds[i % n], each ? each : 1);
}

static void test_states_after_a_loss_of_power(void **unused)
{
	node_ctx_run(&ctx, runs, NULL);
	print_message("%llu states\n", (unsigned long long)states);
}

static int setup(void **unused)
{
	const char *count = getenv("VIREO_CRASH_STATES"), *from = getenv("VIREO_CRASH_SEED");

	wanted = count ? strtoull(count, NULL, 0) : 400;
	if (from)
		seed = strtoull(from, NULL, 0);
	if (node_ctx_init(&ctx, &err))
		return -1;
	ctx.open_path = open_memory;
	return 0;
}

static int teardown(void **unused)
{
	node_ctx_free(&ctx);
	co_thread_end();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_states_after_a_loss_of_power),
	};

	return cmocka_run_group_tests_name("block_crash", tests, setup, teardown);
}
