/* virtio-net through its rings, in front of a peer that the test plays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "rig.h"
#include "virtio/devices.h"
#include "virtio/transport.h"

enum { RX, TX };
enum { F_CSUM = 0, F_GUEST_CSUM = 1, F_MAC = 5, F_TSO4 = 11, F_TSO6 = 12, F_MRG = 15, F_STATUS = 16 };
#define HDR	 12u
#define MERGE	 (1u << F_MRG)
#define OFFLOADS (1u << F_CSUM | 1u << F_TSO4 | 1u << F_TSO6)

static struct rig rig;

/* --- the peer --- */

static struct net_peer peer;
static struct net_peer_ops peer_ops;
static unsigned sent, readies, room;
static uint8_t last[NET_FRAME_MAX];
static size_t last_len;
static struct net_offload last_offload;
static bool destroyed, locked_while_sending, verified;
static uint16_t rx_size; /* of the next card; 0: as usual */

static bool peer_send(struct net_peer *p, const struct net_packet *k)
{
	if (pthread_mutex_trylock(&rig.d->lock))
		locked_while_sending = true;
	else
		pthread_mutex_unlock(&rig.d->lock);
	if (!room)
		return false;
	room--;
	sent++;
	assert_true(k->len <= sizeof(last));
	memmove(last, net_flat(k, last), k->len);
	last_len = k->len;
	last_offload = k->offload;
	return true;
}

static void peer_ready(struct net_peer *p)
{
	readies++;
}

static void peer_destroy(struct net_peer *p)
{
	destroyed = true;
}

static void begin(bool packed, uint64_t features)
{
	struct virtio_net_config c = { .mac = { 0x52, 0x54, 0, 1, 2, 3 }, .rx_size = rx_size };
	struct err err;

	peer_ops =
		(struct net_peer_ops){ .name = "toy", .send = peer_send, .ready = peer_ready, .destroy = peer_destroy };
	peer = (struct net_peer){ .ops = &peer_ops };
	sent = readies = 0;
	room = UINT32_MAX;
	verified = true;
	destroyed = locked_while_sending = false;
	rig_init(&rig, packed);
	c.mem = rig.mem;
	c.loop = rig.loop;
	c.peer = &peer;
	rig_attach(&rig, virtio_net_new(&c, &err));
	rig_start(&rig, features);
}

static void end(void)
{
	rig_fini(&rig);
	assert_true(destroyed);
	assert_false(locked_while_sending);
}

/* --- transmit --- */

static uint8_t frame[NET_FRAME_MAX + 100];

static void send_pieces(const uint8_t *hdr, size_t len, const uint32_t *sizes, unsigned n)
{
	static uint8_t b[HDR + sizeof(frame)];
	struct rig_seg segs[32];
	uint32_t off = 0;

	memcpy(b, hdr, HDR);
	memcpy(b + HDR, frame, len);
	for (unsigned k = 0; k < n; k++) {
		uint32_t m = k + 1 == n ? (uint32_t)(HDR + len) - off : sizes[k];

		segs[k] = (struct rig_seg){ rig_alloc(&rig, b + off, m), m, false };
		off += m;
	}
	rig_add(&rig, TX, segs, n);
	rig_kick(&rig, TX);
	rig_settle(&rig);
}

static void send_frame(const uint8_t *hdr, size_t len)
{
	send_pieces(hdr, len, (const uint32_t[]){ HDR }, 2);
	assert_int_equal(rig_wait(&rig, TX), 0);
}

static void transmit(bool packed)
{
	static const uint32_t odd[] = { 5, 7, 1, 100, 3 };
	const uint8_t none[HDR] = { 0 };

	begin(packed, OFFLOADS);
	for (size_t i = 0; i < sizeof(frame); i++)
		frame[i] = (uint8_t)(i * 7 + i / 256);
	send_frame(none, 60);
	assert_true(sent == 1 && last_len == 60 && !last_offload.checksum && last_offload.gso == NET_GSO_NONE);
	assert_memory_equal(last, frame, 60);
	send_pieces(none, 1514, odd, 6); /* header and frame cut anywhere */
	rig_wait(&rig, TX);
	assert_int_equal(last_len, 1514);
	assert_memory_equal(last, frame, 1514);
	send_pieces(none, 1000, NULL, 1); /* in one */
	rig_wait(&rig, TX);
	assert_int_equal(last_len, 1000);
	send_frame(none, NET_FRAME_MAX);
	assert_int_equal(last_len, NET_FRAME_MAX);
	assert_memory_equal(last, frame, NET_FRAME_MAX);
	/* What cannot be a frame is lost; the buffer comes back. */
	sent = 0;
	send_frame(none, NET_FRAME_MAX + 1);
	send_frame(none, 14);
	send_frame(none, 1);
	struct rig_seg s = { rig_alloc(&rig, none, 6), 6, false };
	rig_add(&rig, TX, &s, 1);
	s.write = true; /* nothing to send at all */
	rig_add(&rig, TX, &s, 1);
	rig_kick(&rig, TX);
	rig_wait(&rig, TX);
	rig_wait(&rig, TX);
	assert_int_equal(sent, 0);
	assert_false(rig_needs_reset(&rig));
	end();
}

static void test_transmit_split(void **state)
{
	transmit(false);
}

static void test_transmit_packed(void **state)
{
	transmit(true);
}

static void test_offload_header(void **state)
{
	static const struct {
		uint8_t flags, gso;
		bool passes;
	} cases[] = {
		{ 0, 0, true },	   { 1, 0, true },  { 1, 1, true }, { 1, 4, true },  { 1, 0x81, true },
		{ 1, 0x84, true }, { 1, 3, false }, { 1, 5, true }, { 1, 2, false }, { 1, 0x7f, false },
	};

	begin(false, OFFLOADS);
	for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
		uint8_t hdr[HDR] = { cases[k].flags, cases[k].gso };
		unsigned before = sent;

		st_le16(hdr + 4, 1448);
		st_le16(hdr + 6, 34);
		st_le16(hdr + 8, 16);
		send_frame(hdr, 3000);
		assert_int_equal(sent, before + cases[k].passes);
		if (!cases[k].passes)
			continue;
		assert_int_equal(last_offload.checksum, cases[k].flags & 1);
		assert_int_equal(last_offload.gso, cases[k].gso & 0x7f);
		assert_int_equal(last_offload.ecn, cases[k].gso >> 7);
		assert_true(last_offload.mss == 1448 && last_offload.csum_start == 34 &&
			    last_offload.csum_offset == 16);
	}
	end();
}

/* The peer has no room: frames stay in the ring. */
static void test_transmit_waits_for_the_peer(void **state)
{
	const uint8_t none[HDR] = { 0 };
	uint16_t id;
	uint32_t len;

	begin(false, 0);
	room = 2;
	for (unsigned k = 0; k < 6; k++) {
		st_be32(frame + 14, k);
		send_pieces(none, 60, (const uint32_t[]){ HDR }, 2);
	}
	for (unsigned k = 0; k < 2; k++)
		assert_true(rig_poll(&rig, TX, &id, &len));
	assert_false(rig_poll(&rig, TX, &id, &len));
	assert_int_equal(sent, 2);
	peer.receiver.writable(peer.receiver.opaque); /* not really */
	rig_settle(&rig);
	assert_int_equal(sent, 2);
	room = 100;
	peer.receiver.writable(peer.receiver.opaque);
	rig_settle(&rig);
	assert_int_equal(sent, 6);
	assert_int_equal(ld_be32(last + 14), 5);
	for (unsigned k = 0; k < 4; k++)
		assert_true(rig_poll(&rig, TX, &id, &len));
	/* A reset forgets the frame that waits. */
	room = 0;
	send_pieces(none, 60, (const uint32_t[]){ HDR }, 2);
	rig_reset(&rig);
	rig_start(&rig, 0);
	room = 100;
	peer.receiver.writable(peer.receiver.opaque);
	rig_settle(&rig);
	assert_int_equal(sent, 6);
	end();
}

/* More frames than one turn of the loop, with one kick and few interrupts. */
static void test_many_with_one_kick(void **state)
{
	const uint8_t none[HDR + 60] = { 0 };
	struct rig_seg s = { 0 };

	begin(false, 1ull << VIRTIO_F_EVENT_IDX);
	s = (struct rig_seg){ rig_alloc(&rig, none, sizeof(none)), sizeof(none), false };
	for (unsigned k = 0; k < 250; k++)
		rig_add(&rig, TX, &s, 1);
	rig_kick(&rig, TX);
	for (unsigned k = 0; k < 250; k++)
		rig_wait(&rig, TX);
	assert_int_equal(sent, 250);
	assert_true(rig.queue_irqs[TX] <= 3);
	end();
}

/* --- receive --- */

static bool deliver(size_t len)
{
	return net_deliver(&peer, frame, len, &(struct net_offload){ .valid = verified });
}

static uint64_t offer(uint32_t len)
{
	struct rig_seg s = { rig_alloc(&rig, NULL, len), len, true };

	rig_add(&rig, RX, &s, 1);
	rig_kick(&rig, RX);
	rig_settle(&rig);
	return s.addr;
}

static void receive(bool packed)
{
	uint8_t got[HDR + 1600];
	uint64_t at;

	begin(packed, 1u << F_GUEST_CSUM);
	at = offer(2000);
	assert_true(deliver(1000));
	assert_int_equal(rig_wait(&rig, RX), HDR + 1000);
	rig_get(&rig, at, got, HDR + 1000);
	assert_int_equal(got[0], 2); /* the peer has verified the checksums */
	assert_int_equal(got[1], 0);
	assert_int_equal(ld_le16(got + 10), 1);
	assert_memory_equal(got + HDR, frame, 1000);
	/* In pieces, of which the first ends within the header. */
	struct rig_seg pieces[3] = { { rig_alloc(&rig, NULL, 7), 7, true },
				     { rig_alloc(&rig, NULL, 10), 10, true },
				     { rig_alloc(&rig, NULL, 1600), 1600, true } };
	rig_add(&rig, RX, pieces, 3);
	rig_kick(&rig, RX);
	rig_settle(&rig);
	assert_true(deliver(500));
	assert_int_equal(rig_wait(&rig, RX), HDR + 500);
	rig_get(&rig, pieces[1].addr + 5, got, 5);
	assert_memory_equal(got, frame, 5);
	rig_get(&rig, pieces[2].addr, got, 495);
	assert_memory_equal(got, frame + 5, 495);
	/* Exactly enough, and one byte too few: the frame is lost, the buffer is not. */
	offer(HDR + 60);
	assert_true(deliver(61));
	assert_true(deliver(60));
	assert_int_equal(rig_wait(&rig, RX), HDR + 60);
	assert_false(rig_needs_reset(&rig));
	end();
}

static void test_receive_split(void **state)
{
	receive(false);
}

static void test_receive_packed(void **state)
{
	receive(true);
}

/* Without the feature, or from a peer that has verified nothing, no frame is called valid. */
static void test_valid_is_not_claimed(void **state)
{
	uint8_t got[HDR];
	uint64_t at;

	begin(false, 0);
	at = offer(200);
	assert_true(deliver(60));
	rig_wait(&rig, RX);
	rig_get(&rig, at, got, HDR);
	assert_int_equal(got[0], 0);
	end();
	begin(false, 1u << F_GUEST_CSUM);
	verified = false;
	at = offer(200);
	assert_true(deliver(60));
	rig_wait(&rig, RX);
	rig_get(&rig, at, got, HDR);
	assert_int_equal(got[0], 0);
	end();
}

static void merge(bool packed)
{
	uint8_t got[2000];
	uint64_t at[20];
	size_t done = 0;
	uint16_t id;
	uint32_t len;

	begin(packed, MERGE);
	for (unsigned k = 0; k < 5; k++)
		at[k] = offer(100);
	/* 388 + header fit exactly into four. */
	assert_true(deliver(388));
	for (unsigned k = 0; k < 4; k++) {
		assert_int_equal(rig_wait(&rig, RX), 100);
		rig_get(&rig, at[k], got + done, 100);
		done += 100;
	}
	assert_int_equal(ld_le16(got + 10), 4);
	assert_memory_equal(got + HDR, frame, 388);
	/* Too few for now: nothing is used, the peer is asked again when there are more. */
	assert_false(deliver(400));
	assert_false(rig_poll(&rig, RX, &id, &len));
	assert_int_equal(readies, 0);
	for (unsigned k = 0; k < 4; k++)
		offer(100);
	assert_true(readies > 0);
	assert_true(deliver(400));
	for (unsigned k = 0; k < 4; k++)
		assert_int_equal(rig_wait(&rig, RX), 100);
	assert_int_equal(rig_wait(&rig, RX), 12);
	end();
}

static void test_merge_split(void **state)
{
	merge(false);
}

static void test_merge_packed(void **state)
{
	merge(true);
}

/* Buffers so small that no number of them holds the frame: it is lost, and the next one is not stuck behind it. */
static void test_tiny_buffers(void **state)
{
	begin(false, MERGE);
	for (unsigned k = 0; k < 70; k++)
		offer(HDR);
	assert_true(deliver(1514));
	assert_true(deliver(60));
	for (unsigned k = 0; k < 6; k++)
		rig_wait(&rig, RX);
	assert_false(rig_needs_reset(&rig));
	end();
}

/* All buffers of a ring are too few: the frame is lost, where waiting for more would have no end. */
static void test_a_ring_that_holds_less_than_a_frame(void **state)
{
	for (unsigned packed = 0; packed < 2; packed++) {
		rx_size = 8;
		begin(packed, MERGE);
		rx_size = 0;
		for (unsigned k = 0; k < 7; k++)
			offer(100);
		assert_false(deliver(789));
		offer(100);
		assert_true(deliver(789));
		assert_true(deliver(788));
		for (unsigned k = 0; k < 8; k++)
			assert_int_equal(rig_wait(&rig, RX), 100);
		end();
	}
}

static void test_buffers_without_room_for_a_header(void **state)
{
	for (int write = 0; write < 2; write++) {
		struct rig_seg s = { 0 };

		begin(false, MERGE);
		s = (struct rig_seg){ rig_alloc(&rig, NULL, 64), write ? HDR - 1 : 64, write };
		rig_add(&rig, RX, &s, 1);
		rig_kick(&rig, RX);
		rig_settle(&rig);
		assert_true(deliver(60));
		assert_true(rig_needs_reset(&rig));
		assert_true(deliver(60)); /* nobody listens */
		assert_int_equal(vring_in_flight(rig.d->queues[RX].ring), 0);
		rig_reset(&rig);
		rig_start(&rig, MERGE);
		offer(200);
		assert_true(deliver(60));
		rig_wait(&rig, RX);
		end();
	}
}

/* Frames that wait with the peer come after a reset, too. */
static void test_reset_while_the_peer_waits(void **state)
{
	begin(false, 0);
	assert_false(deliver(60));
	rig_reset(&rig);
	assert_true(deliver(60)); /* without a driver it is lost */
	rig_start(&rig, 0);
	offer(200);
	assert_true(readies > 0);
	end();
}

static void test_paused(void **state)
{
	begin(false, 0);
	offer(200);
	virtio_drain(rig.d);
	assert_false(deliver(60)); /* it may come later */
	readies = 0;
	virtio_resume(rig.d);
	rig_settle(&rig);
	assert_true(readies > 0);
	assert_true(deliver(60));
	rig_wait(&rig, RX);
	end();
}

static void test_configuration(void **state)
{
	uint8_t c[8];

	begin(false, 0);
	virtio_config_read(rig.d, 0, c, 8);
	assert_memory_equal(c, "\x52\x54\0\1\2\3\1\0", 8);
	assert_true(rig.d->offered == (OFFLOADS | 1u << F_GUEST_CSUM | 1u << F_MAC | MERGE | 1u << F_STATUS | 0x380 |
				       1u << 13 | 7ull << 54));
	/* Segmentation without checksums makes no sense. */
	rig_reset(&rig);
	pthread_mutex_lock(&rig.d->lock);
	virtio_set_status(rig.d, VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER);
	virtio_set_features(rig.d, 0, 1u << F_TSO4);
	virtio_set_features(rig.d, 1, 1);
	virtio_set_status(rig.d, VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER | VIRTIO_S_FEATURES_OK);
	pthread_mutex_unlock(&rig.d->lock);
	assert_false(rig.d->status & VIRTIO_S_FEATURES_OK);
	end();
}

/* Pulled out, frames of both directions are lost and no buffer is. */
static void test_the_cable(void **state)
{
	const uint8_t none[HDR] = { 0 };
	uint8_t c[8];

	begin(false, 0);
	offer(HDR + 100);
	virtio_net_set_link(rig.d, false);
	virtio_config_read(rig.d, 0, c, 8);
	assert_int_equal(ld_le16(c + 6), 0);
	send_frame(none, 60);
	assert_int_equal(sent, 0);
	assert_true(deliver(60));
	virtio_net_set_link(rig.d, true);
	virtio_config_read(rig.d, 0, c, 8);
	assert_int_equal(ld_le16(c + 6), 1);
	send_frame(none, 60);
	assert_int_equal(sent, 1);
	assert_true(deliver(100));
	assert_int_equal(rig_wait(&rig, RX), HDR + 100);
	/* At the host's end. */
	peer.receiver.unplugged(peer.receiver.opaque);
	virtio_config_read(rig.d, 0, c, 8);
	assert_int_equal(ld_le16(c + 6), 0);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_transmit_split),
		cmocka_unit_test(test_transmit_packed),
		cmocka_unit_test(test_offload_header),
		cmocka_unit_test(test_transmit_waits_for_the_peer),
		cmocka_unit_test(test_many_with_one_kick),
		cmocka_unit_test(test_the_cable),
		cmocka_unit_test(test_receive_split),
		cmocka_unit_test(test_receive_packed),
		cmocka_unit_test(test_valid_is_not_claimed),
		cmocka_unit_test(test_merge_split),
		cmocka_unit_test(test_merge_packed),
		cmocka_unit_test(test_tiny_buffers),
		cmocka_unit_test(test_a_ring_that_holds_less_than_a_frame),
		cmocka_unit_test(test_buffers_without_room_for_a_header),
		cmocka_unit_test(test_reset_while_the_peer_waits),
		cmocka_unit_test(test_paused),
		cmocka_unit_test(test_configuration),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
