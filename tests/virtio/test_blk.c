/* virtio-blk driven through its rings: requests, hostile requests, write-through, reset and drain with I/O. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../block/faults.h"
#include "base/bytes.h"
#include "rig.h"
#include "virtio/blk.h"
#include "virtio/transport.h"

#define SECTORS 2048u
enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };
enum { OK = 0, IOERR = 1, UNSUPP = 2, UNTOUCHED = 0xff };
#define ALL_FEATURES (1u << 9 | 1u << 11 | 1u << 13 | 1u << 14)

static struct rig rig;
static struct block_node *node;
static enum block_aio aio; /* of the disks that begin() opens */
static int disk_fd;
static uint64_t sectors = SECTORS;
static bool write_through;

/* The disk is a memory file. */
static int open_memfd(void *opaque, const char *path, int flags)
{
	disk_fd = memfd_create("disk", MFD_CLOEXEC);
	return disk_fd >= 0 && !ftruncate(disk_fd, (off_t)sectors * 512) ? disk_fd : -1;
}

static void begin(bool packed, bool readonly)
{
	struct block_config bc = {
		.path = "test-disk", .format = "raw", .open_path = open_memfd, .readonly = readonly, .aio = aio
	};
	struct virtio_blk_config c = { .serial = "SN-0042", .queues = 2, .queue_size = 256 };
	struct err err;

	rig_init(&rig, packed);
	node = block_open(&bc, &err);
	assert_non_null(node);
	c.mem = rig.mem;
	c.node = node;
	c.write_through = write_through;
	rig_attach(&rig, virtio_blk_new(&c, &err));
}

struct reply {
	uint8_t status;
	uint32_t len;
};

/* One request: `data` is written to the device, or read from it when `in`. */
static struct reply request(unsigned q, uint32_t type, uint64_t sector, void *data, uint32_t len, bool in)
{
	uint8_t header[16] = { 0 };
	struct reply reply = { .status = UNTOUCHED };
	struct rig_seg segs[3];
	unsigned n = 0;

	st_le32(header, type);
	st_le64(header + 8, sector);
	segs[n++] = (struct rig_seg){ rig_alloc(&rig, header, 16), 16, false };
	if (len)
		segs[n++] = (struct rig_seg){ rig_alloc(&rig, in ? NULL : data, len), len, in };
	segs[n++] = (struct rig_seg){ rig_alloc(&rig, &reply.status, 1), 1, true };
	rig_add(&rig, q, segs, n);
	rig_kick(&rig, q);
	reply.len = rig_wait(&rig, q);
	rig_get(&rig, segs[n - 1].addr, &reply.status, 1);
	if (in && len)
		rig_get(&rig, segs[1].addr, data, len);
	return reply;
}

static uint8_t range(uint32_t type, uint64_t sector, uint32_t count, uint32_t flags)
{
	uint8_t seg[16];

	st_le64(seg, sector);
	st_le32(seg + 8, count);
	st_le32(seg + 12, flags);
	return request(0, type, 0, seg, 16, false).status;
}

static void transfers(bool packed)
{
	uint8_t out[4096], in[4096], id[20];
	struct reply reply;

	begin(packed, false);
	rig_start(&rig, ALL_FEATURES | 1ull << VIRTIO_F_EVENT_IDX);
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = i * 13 + 5;
	/* More rounds than the ring has entries. */
	for (unsigned i = 0; i < 100; i++) {
		st_le32(out, i);
		assert_int_equal(request(i & 1, OUT, i * 8, out, sizeof(out), false).status, OK);
		reply = request(i & 1, IN, i * 8, in, sizeof(in), true);
		assert_int_equal(reply.status, OK);
		assert_int_equal(reply.len, sizeof(in) + 1);
		assert_memory_equal(in, out, sizeof(in));
	}
	assert_true(rig.queue_irqs[0] > 0 && rig.queue_irqs[1] > 0);
	assert_int_equal(request(0, FLUSH, 0, NULL, 0, false).status, OK);
	reply = request(0, GET_ID, 0, id, sizeof(id), true);
	assert_int_equal(reply.status, OK);
	assert_memory_equal(id, "SN-0042\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	assert_int_equal(range(ZEROES, 0, 8, 0), OK);
	assert_int_equal(range(ZEROES, 8, 8, 1), OK);
	assert_int_equal(range(DISCARD, 16, 8, 0), OK);
	assert_int_equal(request(0, IN, 4, in, sizeof(in), true).status, OK);
	for (size_t i = 0; i < sizeof(in); i++)
		assert_int_equal(in[i], 0);
	rig_fini(&rig);
}

static void test_split(void **state)
{
	transfers(false);
	aio = BLOCK_AIO_THREADS;
	transfers(false);
	aio = BLOCK_AIO_AUTO;
}

static void test_packed(void **state)
{
	transfers(true);
	aio = BLOCK_AIO_THREADS;
	transfers(true);
	aio = BLOCK_AIO_AUTO;
}

/* Header, data and status lie in pieces of any size, also together (2.7.4.2). */
static void odd_pieces(bool packed)
{
	static const uint32_t sizes[] = { 1, 510, 3, 700, 834 }; /* four sectors */
	uint8_t header[17] = { OUT }, data[2048], got[2049];	 /* the header and a byte of something else */
	struct rig_seg w[9], r[6];
	uint64_t at;
	unsigned n = 0;

	begin(packed, false);
	rig_start(&rig, 0);
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 11 + 3);
	header[8] = 7;
	w[n++] = (struct rig_seg){ rig_alloc(&rig, header, 3), 3, false };
	w[n++] = (struct rig_seg){ rig_alloc(&rig, header + 3, 6), 6, false };
	/* The rest of the header and the first byte of the data. */
	at = rig_alloc(&rig, header + 9, 8);
	assert_true(mem_write(rig.mem, gpa(at + 7), data, 1));
	w[n++] = (struct rig_seg){ at, 8, false };
	for (unsigned i = 1, off = 1; i < 5; off += sizes[i++])
		w[n++] = (struct rig_seg){ rig_alloc(&rig, data + off, sizes[i]), sizes[i], false };
	w[n++] = (struct rig_seg){ rig_alloc(&rig, "\xff", 1), 1, true };
	rig_add(&rig, 0, w, n);
	rig_kick(&rig, 0);
	rig_wait(&rig, 0);
	rig_get(&rig, w[n - 1].addr, got, 1);
	assert_int_equal(got[0], OK);
	assert_int_equal(pread(disk_fd, got, 2048, 7 * 512), 2048);
	assert_memory_equal(got, data, 2048);

	header[0] = IN;
	n = 0;
	r[n++] = (struct rig_seg){ rig_alloc(&rig, header, 16), 16, false };
	for (unsigned i = 0; i < 4; i++)
		r[n++] = (struct rig_seg){ rig_alloc(&rig, NULL, sizes[i]), sizes[i], true };
	r[n++] = (struct rig_seg){ rig_alloc(&rig, NULL, 835), 835, true }; /* its last byte is the status */
	rig_add(&rig, 0, r, n);
	rig_kick(&rig, 0);
	assert_int_equal(rig_wait(&rig, 0), 2049);
	for (unsigned i = 1, off = 0; i < n; off += r[i++].len)
		rig_get(&rig, r[i].addr, got + off, r[i].len);
	assert_memory_equal(got, data, 2048);
	assert_int_equal(got[2048], OK);
	rig_fini(&rig);
}

static void test_odd_pieces(void **state)
{
	odd_pieces(false);
	odd_pieces(true);
}

static void fill_disk(uint8_t with)
{
	static uint8_t b[SECTORS * 512];

	memset(b, with, sizeof(b));
	assert_int_equal(pwrite(disk_fd, b, sizeof(b), 0), sizeof(b));
}

static bool disk_is(unsigned sector, unsigned count, uint8_t with)
{
	uint8_t b[512];

	for (; count--; sector++) {
		assert_int_equal(pread(disk_fd, b, 512, sector * 512), 512);
		for (int i = 0; i < 512; i++)
			if (b[i] != with)
				return false;
	}
	return true;
}

/* Several ranges in one request: all of them, or none when one is bad. */
static void test_several_ranges(void **state)
{
	uint8_t seg[16 * 16] = { 0 };
	struct stat before, after;

	begin(false, false);
	rig_start(&rig, ALL_FEATURES);
	fill_disk(0x77);
	for (unsigned i = 0; i < 16; i++) {
		st_le64(seg + 16 * i, 100 + 8 * i);
		st_le32(seg + 16 * i + 8, 1 + i % 3);
	}
	assert_int_equal(request(0, ZEROES, 0, seg, sizeof(seg), false).status, OK);
	for (unsigned i = 0; i < 16; i++) {
		assert_true(disk_is(100 + 8 * i, 1 + i % 3, 0));
		assert_true(disk_is(100 + 8 * i + 1 + i % 3, 7 - i % 3, 0x77));
	}
	fill_disk(0x77);
	st_le64(seg + 15 * 16, SECTORS);
	assert_int_equal(request(0, ZEROES, 0, seg, sizeof(seg), false).status, IOERR);
	assert_true(disk_is(0, SECTORS, 0x77));
	assert_int_equal(range(ZEROES, 5, 0, 0), OK); /* nothing is a range too */
	assert_true(disk_is(0, SECTORS, 0x77));
	/* With the unmap flag zeroes may free what they cover; a discard does. */
	assert_int_equal(fstat(disk_fd, &before), 0);
	assert_int_equal(range(ZEROES, 0, 512, 1), OK);
	assert_int_equal(fstat(disk_fd, &after), 0);
	assert_true(after.st_blocks <= before.st_blocks - 512);
	assert_true(disk_is(0, 512, 0));
	assert_int_equal(range(DISCARD, 1024, 512, 0), OK);
	assert_int_equal(fstat(disk_fd, &before), 0);
	assert_true(before.st_blocks <= after.st_blocks - 512);
	rig_fini(&rig);
}

static void test_hostile(void **state)
{
	uint8_t buf[1024] = { 0 };
	uint64_t seg;

	begin(false, false);
	rig_start(&rig, ALL_FEATURES);
	assert_int_equal(request(0, 77, 0, NULL, 0, false).status, UNSUPP);
	assert_int_equal(request(0, IN, SECTORS, buf, 512, true).status, IOERR);
	assert_int_equal(request(0, IN, SECTORS - 1, buf, 1024, true).status, IOERR);
	assert_int_equal(request(0, IN, UINT64_MAX, buf, 512, true).status, IOERR);
	assert_int_equal(request(0, OUT, UINT64_MAX / 512 + 1, buf, 512, false).status, IOERR);
	assert_int_equal(request(0, IN, 0, buf, 100, true).status, IOERR);
	assert_int_equal(request(0, OUT, 0, buf, 513, false).status, IOERR);
	assert_int_equal(range(DISCARD, SECTORS, 1, 0), IOERR);
	assert_int_equal(range(DISCARD, 0, UINT32_MAX, 0), IOERR);
	assert_int_equal(range(DISCARD, 0, 1, 1), UNSUPP);
	assert_int_equal(range(ZEROES, 0, 1, 2), UNSUPP);
	assert_int_equal(range(ZEROES, UINT64_MAX, 2, 0), IOERR);
	assert_int_equal(request(0, DISCARD, 0, buf, 15, false).status, IOERR);
	assert_int_equal(request(0, ZEROES, 0, buf, 24, false).status, IOERR);
	assert_int_equal(request(0, DISCARD, 0, NULL, 0, false).status, IOERR);
	assert_int_equal(request(0, DISCARD, 0, buf, 17 * 16, false).status, IOERR);
	assert_int_equal(request(0, IN, 0, NULL, 0, true).status, OK); /* nothing is a multiple too */

	/* A header that is too short. */
	seg = rig_alloc(&rig, NULL, 16);
	struct rig_seg bad[2] = { { seg, 8, false }, { seg + 8, 1, true } };
	rig_add(&rig, 0, bad, 2);
	rig_kick(&rig, 0);
	rig_wait(&rig, 0);
	rig_get(&rig, seg + 8, buf, 1);
	assert_int_equal(buf[0], IOERR);
	assert_false(rig_needs_reset(&rig));

	/* No place for a status: nothing can be answered. */
	bad[0].len = 16;
	rig_add(&rig, 0, bad, 1);
	rig_kick(&rig, 0);
	rig_wait(&rig, 0);
	block_drain(node);
	block_resume(node);
	assert_true(rig_needs_reset(&rig));
	assert_int_equal(rig.config_irqs, 1);
	rig_reset(&rig);
	rig_start(&rig, 0);
	assert_int_equal(range(DISCARD, 0, 1, 0), UNSUPP); /* not negotiated */
	assert_int_equal(request(0, IN, 0, buf, 512, true).status, OK);
	rig_fini(&rig);
}

static void test_readonly(void **state)
{
	uint8_t buf[512] = { 0 };

	begin(false, true);
	assert_true(rig.d->offered & 1u << 5);
	assert_false(rig.d->offered & (1u << 13 | 1u << 14));
	rig_start(&rig, 1u << 5);
	assert_int_equal(request(0, OUT, 0, buf, 512, false).status, IOERR);
	assert_int_equal(request(0, IN, 0, buf, 512, true).status, OK);
	assert_int_equal(range(ZEROES, 0, 1, 0), UNSUPP);
	rig_fini(&rig);
}

static void test_cache_mode(void **state)
{
	uint8_t buf[512] = { 0 }, off = 0, mode = 9;
	struct block_stats *stats;

	begin(false, false);
	stats = block_get_stats(node);
	rig_start(&rig, ALL_FEATURES);
	assert_int_equal(request(0, OUT, 0, buf, 512, false).status, OK);
	assert_int_equal(stats->flushes, 0);
	pthread_mutex_lock(&rig.d->lock);
	virtio_config_write(rig.d, 32, &off, 1);
	virtio_config_read(rig.d, 32, &mode, 1);
	pthread_mutex_unlock(&rig.d->lock);
	assert_int_equal(mode, 0);
	assert_int_equal(request(0, OUT, 0, buf, 512, false).status, OK);
	assert_int_equal(stats->flushes, 1);
	rig_reset(&rig);
	rig_start(&rig, ALL_FEATURES);
	pthread_mutex_lock(&rig.d->lock);
	virtio_config_read(rig.d, 32, &mode, 1);
	pthread_mutex_unlock(&rig.d->lock);
	assert_int_equal(mode, 1); /* a reset takes the choice back */
	assert_int_equal(request(0, OUT, 0, buf, 512, false).status, OK);
	assert_int_equal(stats->flushes, 1);
	rig_reset(&rig);
	rig_start(&rig, 0); /* a driver that cannot flush gets a disk that needs none */
	assert_int_equal(request(0, OUT, 0, buf, 512, false).status, OK);
	assert_int_equal(stats->flushes, 2);
	rig_fini(&rig);
}

static void add_writes(unsigned n)
{
	uint8_t header[16] = { OUT }, status = UNTOUCHED;
	struct rig_seg segs[3] = { { rig_alloc(&rig, header, 16), 16, false },
				   { rig_alloc(&rig, NULL, 4096), 4096, false },
				   { rig_alloc(&rig, &status, 1), 1, true } };

	for (unsigned i = 0; i < n; i++)
		rig_add(&rig, 0, segs, 3);
	rig_kick(&rig, 0);
}

static unsigned collect(void)
{
	unsigned n = 0;
	uint16_t id;
	uint32_t len;

	while (rig_poll(&rig, 0, &id, &len))
		n++;
	return n;
}

static void test_drain_and_reset(void **state)
{
	begin(true, false);
	rig_start(&rig, 0);
	for (int i = 0; i < 50; i++) {
		unsigned before;

		add_writes(20);
		virtio_drain(rig.d);
		before = collect();
		usleep(200);
		assert_int_equal(collect(), 0); /* nothing moves while drained */
		assert_int_equal(vring_in_flight(rig.d->queues[0].ring), 0);
		virtio_resume(rig.d);
		for (unsigned done = before; done < 20; done++)
			rig_wait(&rig, 0);
	}
	for (int i = 0; i < 50; i++) {
		rig.next = 0x1000;
		add_writes(20);
		rig_reset(&rig);
		rig_start(&rig, 0);
	}
	rig_fini(&rig);
}

static void test_config(void **state)
{
	uint8_t c[60];
	struct virtio_blk_config bad = { .serial = "123456789012345678901" };
	struct block_config bc = { .path = "test-disk", .format = "raw", .open_path = open_memfd };
	struct err err;

	begin(false, false);
	pthread_mutex_lock(&rig.d->lock);
	virtio_config_read(rig.d, 0, c, sizeof(c));
	pthread_mutex_unlock(&rig.d->lock);
	assert_int_equal(ld_le64(c), SECTORS);
	assert_int_equal(ld_le32(c + 12), 254);
	assert_int_equal(ld_le32(c + 20), 512);
	assert_int_equal(ld_le16(c + 34), 2);
	bad.mem = rig.mem;
	bad.node = block_open(&bc, &err);
	assert_null(virtio_blk_new(&bad, &err));
	assert_non_null(strstr(err.msg, "longer than 20"));
	bad.serial = NULL;
	bad.queues = 5;
	bad.node = block_open(&bc, &err);
	assert_null(virtio_blk_new(&bad, &err));
	assert_non_null(strstr(err.msg, "1 to 4"));
	rig_fini(&rig);
}

/* Save in the middle of I/O, load into a second device, and go on with the same rings. */
static void test_save(void **state)
{
	struct block_config bc = { .path = "test-disk", .format = "raw", .open_path = open_memfd };
	struct virtio_blk_config c = { .queues = 2, .queue_size = 256, .accept_changed = true };
	struct virtio_dev *old, *small, *changed;
	struct err err;
	char *core, *own;
	size_t core_len, own_len;
	unsigned done;

	begin(false, false);
	rig_start(&rig, ALL_FEATURES);
	add_writes(20);
	virtio_drain(rig.d);
	old = rig.d;
	FILE *f = open_memstream(&core, &core_len);
	assert_int_equal(state_save(f, &virtio_core_state, "0", old, &err), 0);
	fclose(f);
	f = open_memstream(&own, &own_len);
	assert_int_equal(state_save(f, old->state, "0", old->self, &err), 0);
	fclose(f);
	done = collect();

	c.mem = rig.mem;
	c.node = block_open(&bc, &err);
	rig_attach(&rig, virtio_blk_new(&c, &err));
	f = fmemopen(core, core_len, "r");
	assert_int_equal(state_load(f, &virtio_core_state, "0", rig.d, &err), 0);
	fclose(f);
	f = fmemopen(own, own_len, "r");
	assert_int_equal(state_load(f, rig.d->state, "0", rig.d->self, &err), 0);
	fclose(f);
	assert_int_equal(virtio_loaded(rig.d, &err), 0);
	virtio_resume(rig.d);
	for (; done < 20; done++)
		rig_wait(&rig, 0);
	assert_int_equal(range(DISCARD, 0, 1, 0), OK);

	/* Not into a disk of another size. */
	sectors = SECTORS / 2;
	c.node = block_open(&bc, &err);
	sectors = SECTORS;
	small = virtio_blk_new(&c, &err);
	assert_non_null(small);
	f = fmemopen(own, own_len, "r");
	assert_int_equal(state_load(f, small->state, "0", small->self, &err), -1);
	assert_non_null(strstr(err.msg, "1024 sectors, but had 2048"));
	fclose(f);
	small->ops->destroy(small);

	/* Nor without a word into another one, which was made later. */
	c.node = block_open(&bc, &err);
	c.accept_changed = false;
	changed = virtio_blk_new(&c, &err);
	assert_non_null(changed);
	f = fmemopen(own, own_len, "r");
	assert_int_equal(state_load(f, changed->state, "0", changed->self, &err), -1);
	assert_non_null(strstr(err.msg, "test-disk.changed=accept"));
	fclose(f);
	changed->ops->destroy(changed);

	/* The first one goes without touching the guest any more. */
	virtio_reset(old);
	old->ops->destroy(old);
	free(core);
	free(own);
	rig_fini(&rig);
}

/* A range has a limit, so that no request keeps the disk busy for long. */
static void test_longest_range(void **state)
{
	sectors = 1u << 22;
	begin(false, false);
	sectors = SECTORS;
	rig_start(&rig, ALL_FEATURES);
	assert_int_equal(range(ZEROES, 0, 1u << 16, 0), OK);
	assert_int_equal(range(ZEROES, 0, (1u << 16) + 1, 0), IOERR);
	assert_int_equal(range(DISCARD, 0, 1u << 21, 0), OK);
	assert_int_equal(range(DISCARD, 0, (1u << 21) + 1, 0), IOERR);
	rig_fini(&rig);
}

/* More requests than one turn of the I/O thread, with one kick. */
static void test_many_with_one_kick(void **state)
{
	struct rig_seg s = { 0, 1, true };

	begin(false, false);
	rig_start(&rig, 1ull << VIRTIO_F_EVENT_IDX);
	s.addr = rig_alloc(&rig, NULL, 1);
	for (int n = 0; n < 250; n++)
		rig_add(&rig, 0, &s, 1); /* no header: an error, but an answer */
	rig_kick(&rig, 0);
	for (int n = 0; n < 250; n++)
		assert_int_equal(rig_wait(&rig, 0), 1);
	rig_fini(&rig);
}

/* --- requests that the host holds --- */

static _Atomic bool reset_done;

static void *do_reset(void *opaque)
{
	rig_reset(&rig);
	reset_done = true;
	return NULL;
}

/* Requests that are out when the driver resets: the reset waits for them, and afterwards memory is the driver's alone.
 */
static void test_reset_waits_for_requests(void **state)
{
	uint8_t header[16] = { 0 }, one = UNTOUCHED, before[4096 + 64], after[4096 + 64];
	struct rig_seg segs[3];
	pthread_t thread;
	uint16_t id;
	uint32_t len;

	aio = BLOCK_AIO_THREADS;
	begin(false, false);
	aio = BLOCK_AIO_AUTO;
	fill_disk(0x33);
	rig_start(&rig, 0);
	fault_hold(FAULT_READ);
	for (int i = 0; i < 3; i++) {
		segs[0] = (struct rig_seg){ rig_alloc(&rig, header, 16), 16, false };
		segs[1] = (struct rig_seg){ rig_alloc(&rig, NULL, 4096), 4096, true };
		segs[2] = (struct rig_seg){ rig_alloc(&rig, &one, 1), 1, true };
		rig_add(&rig, 0, segs, 3);
	}
	rig_kick(&rig, 0);
	fault_expect_waiting(FAULT_READ, 3);
	reset_done = false;
	assert_int_equal(pthread_create(&thread, NULL, do_reset, NULL), 0);
	usleep(50000);
	assert_false(reset_done);
	fault_let_go(FAULT_READ);
	pthread_join(thread, NULL);
	assert_true(reset_done);
	assert_int_equal(vring_in_flight(rig.d->queues[0].ring), 0);
	/* The driver uses its memory for something else. */
	assert_true(mem_fill(rig.mem, gpa(0x1000), 0xa7, rig.next - 0x1000));
	rig_get(&rig, segs[1].addr, before, sizeof(before));
	rig_kick(&rig, 0);
	usleep(50000);
	rig_get(&rig, segs[1].addr, after, sizeof(after));
	assert_memory_equal(before, after, sizeof(before));
	assert_int_equal(rig.queue_irqs[0], 0);
	rig_start(&rig, 0);
	assert_false(rig_poll(&rig, 0, &id, &len));
	assert_int_equal(request(0, IN, 0, after, 512, true).status, OK);
	assert_int_equal(after[0], 0x33);
	rig_fini(&rig);
}

static _Atomic int events[3];

static void on_event(void *opaque, enum block_event e)
{
	events[e]++;
}

static bool stalled(void *opaque)
{
	return events[BLOCK_EVENT_NOSPACE] > 0;
}

/* A write without room waits; a reset ends it, and it is never written. */
static void test_reset_ends_stalled_writes(void **state)
{
	uint8_t buf[512];

	memset((void *)events, 0, sizeof(events));
	aio = BLOCK_AIO_THREADS;
	begin(false, false);
	aio = BLOCK_AIO_AUTO;
	block_set_event(node, on_event, NULL);
	rig_start(&rig, 0);
	fault_fail(FAULT_WRITE, 0, 1000000, ENOSPC);
	add_writes(4);
	rig_until(&rig, stalled, NULL);
	rig_reset(&rig);
	assert_int_equal(events[BLOCK_EVENT_SPACE], 1);
	fault_none();
	usleep(300000);
	assert_true(disk_is(0, SECTORS, 0));
	rig_start(&rig, 0);
	memset(buf, 9, sizeof(buf));
	assert_int_equal(request(0, OUT, 0, buf, 512, false).status, OK);
	assert_true(disk_is(0, 1, 9));
	rig_fini(&rig);
}

/* A write cache that is off at first, and after a reset again, whatever the driver makes of it. */
static void test_a_disk_without_a_write_cache(void **state)
{
	const uint8_t on = 1;
	uint8_t buf[512] = { 0 };

	write_through = true;
	begin(false, false);
	write_through = false;
	for (unsigned n = 0; n < 2; n++) {
		rig_start(&rig, ALL_FEATURES);
		assert_int_equal(request(0, OUT, 0, buf, 512, false).status, OK);
		assert_int_equal(block_get_stats(node)->flushes, n + 1);
		virtio_config_write(rig.d, 32, &on, 1);
		assert_int_equal(request(0, OUT, 0, buf, 512, false).status, OK);
		assert_int_equal(block_get_stats(node)->flushes, n + 1);
		rig_reset(&rig);
	}
	rig_fini(&rig);
}

static void test_host_errors_reach_the_guest(void **state)
{
	uint8_t buf[512] = { 0 };

	aio = BLOCK_AIO_THREADS;
	begin(false, false);
	aio = BLOCK_AIO_AUTO;
	rig_start(&rig, ALL_FEATURES);
	fault_fail(FAULT_READ, 0, 1, EIO);
	assert_int_equal(request(0, IN, 0, buf, 512, true).status, IOERR);
	fault_fail(FAULT_WRITE, 0, 1, ENOSPC); /* without anybody who would pause the guest */
	assert_int_equal(request(0, OUT, 0, buf, 512, false).status, IOERR);
	fault_fail(FAULT_ALLOCATE, 0, 1, EIO);
	assert_int_equal(range(DISCARD, 0, 8, 0), IOERR);
	assert_int_equal(request(0, FLUSH, 0, NULL, 0, false).status, OK);
	fault_fail(FAULT_SYNC, 0, 1, EIO);
	assert_int_equal(request(0, FLUSH, 0, NULL, 0, false).status, IOERR);
	assert_int_equal(request(0, FLUSH, 0, NULL, 0, false).status, IOERR); /* for good */
	assert_int_equal(request(0, IN, 0, buf, 512, true).status, IOERR);
	assert_false(rig_needs_reset(&rig));
	rig_fini(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_odd_pieces),
		cmocka_unit_test(test_several_ranges),
		cmocka_unit_test(test_longest_range),
		cmocka_unit_test(test_many_with_one_kick),
		cmocka_unit_test(test_reset_waits_for_requests),
		cmocka_unit_test(test_reset_ends_stalled_writes),
		cmocka_unit_test(test_a_disk_without_a_write_cache),
		cmocka_unit_test(test_host_errors_reach_the_guest),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_packed),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_readonly),
		cmocka_unit_test(test_cache_mode),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_save),
		cmocka_unit_test(test_drain_and_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
