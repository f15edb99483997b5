/* virtio-blk driven through its rings: requests, hostile requests, write-through, reset and drain with I/O. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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

/* The disk is a memory file. */
static int open_memfd(void *opaque, const char *path, int flags)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);

	return fd >= 0 && !ftruncate(fd, SECTORS * 512) ? fd : -1;
}

static void begin(bool packed, bool readonly)
{
	struct block_config bc = {
		.path = "test-disk", .format = "raw", .open_path = open_memfd, .readonly = readonly
	};
	struct virtio_blk_config c = { .serial = "SN-0042", .queues = 2, .queue_size = 64 };
	struct err err;

	rig_init(&rig, packed);
	node = block_open(&bc, &err);
	assert_non_null(node);
	c.mem = rig.mem;
	c.node = node;
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
}

static void test_packed(void **state)
{
	transfers(true);
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
	assert_int_equal(ld_le32(c + 12), 62);
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
	struct virtio_blk_config c = { .queues = 2, .queue_size = 64 };
	struct virtio_dev *old;
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

	/* The first one goes without touching the guest any more. */
	virtio_reset(old);
	old->ops->destroy(old);
	free(core);
	free(own);
	rig_fini(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split),	 cmocka_unit_test(test_packed),		 cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_readonly), cmocka_unit_test(test_cache_mode),	 cmocka_unit_test(test_config),
		cmocka_unit_test(test_save),	 cmocka_unit_test(test_drain_and_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
