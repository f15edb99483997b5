/* virtio-net's control queue, queue pairs, offloads towards the guest and saved state, in front of a peer of the test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "rig.h"
#include "virtio/net_impl.h"
#include "virtio/transport.h"

#define HDR    12u
#define PAIRS  3
#define BIT(n) (1ull << (n))
#define CONTROL                                                                                                        \
	(BIT(F_CTRL_VQ) | BIT(F_CTRL_RX) | BIT(F_CTRL_VLAN) | BIT(F_CTRL_RX_EXTRA) | BIT(F_GUEST_ANNOUNCE) |           \
	 BIT(F_CTRL_MAC_ADDR) | BIT(F_CTRL_GUEST_OFFLOADS) | BIT(F_MQ))
#define GUEST                                                                                                          \
	(BIT(F_GUEST_CSUM) | BIT(F_GUEST_TSO4) | BIT(F_GUEST_TSO6) | BIT(F_GUEST_ECN) | BIT(F_GUEST_USO4) |            \
	 BIT(F_GUEST_USO6))
enum { OK, ERR };

static const uint8_t mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };
static struct rig rig;

/* --- the peer --- */

static struct net_peer peers[PAIRS];
static unsigned sent[PAIRS], readies[PAIRS], guests;
static uint8_t last[NET_FRAME_MAX];
static size_t last_len;
static bool destroyed;

static bool peer_send(struct net_peer *p, const struct net_packet *k)
{
	sent[p - peers]++;
	memmove(last, net_flat(k, last), k->len);
	last_len = k->len;
	return true;
}

static void peer_ready(struct net_peer *p)
{
	readies[p - peers]++;
}

static void peer_set_guest(struct net_peer *p)
{
	assert_ptr_equal(p, peers);
	guests++;
}

static void peer_destroy(struct net_peer *p)
{
	destroyed = true;
}

static const struct net_peer_ops peer_ops = {
	.name = "toy", .send = peer_send, .ready = peer_ready, .set_guest = peer_set_guest, .destroy = peer_destroy
};

static struct virtio_dev *make(unsigned pairs, struct virtio_net_config c)
{
	struct err err;

	memset(peers, 0, sizeof(peers));
	for (unsigned k = 0; k < pairs; k++)
		peers[k] = (struct net_peer){ .ops = &peer_ops, .next = k + 1 < pairs ? &peers[k + 1] : NULL };
	memset(sent, 0, sizeof(sent));
	memset(readies, 0, sizeof(readies));
	guests = 0;
	destroyed = false;
	memcpy(c.mac, mac, 6);
	c.mem = rig.mem;
	c.loop = rig.loop;
	c.peer = peers;
	return virtio_net_new(&c, &err);
}

static void begin_with(unsigned pairs, uint64_t features, struct virtio_net_config c)
{
	rig_init(&rig, false);
	c.control = true;
	rig_attach(&rig, make(pairs, c));
	rig_start(&rig, features);
	rig_settle(&rig);
}

static void begin(unsigned pairs, uint64_t features)
{
	begin_with(pairs, features, (struct virtio_net_config){ 0 });
}

static void end(void)
{
	rig_fini(&rig);
	assert_true(destroyed);
}

static struct net *net(void)
{
	return rig.d->self;
}

/* --- driver --- */

/* A command; its answer. */
static uint8_t command_at(unsigned q, uint8_t class, uint8_t cmd, const void *data, uint32_t len)
{
	uint8_t b[2 + 1024] = { class, cmd }, ack = 0xee;
	struct rig_seg segs[2];

	if (len)
		memcpy(b + 2, data, len);
	segs[0] = (struct rig_seg){ rig_alloc(&rig, b, 2 + len), 2 + len, false };
	segs[1] = (struct rig_seg){ rig_alloc(&rig, &ack, 1), 1, true };
	rig_add(&rig, q, segs, 2);
	rig_kick(&rig, q);
	assert_int_equal(rig_wait(&rig, q), 1);
	rig_settle(&rig);
	rig_get(&rig, segs[1].addr, &ack, 1);
	return ack;
}

static uint8_t command(uint8_t class, uint8_t cmd, const void *data, uint32_t len)
{
	return command_at(net_ctrl_queue(net()), class, cmd, data, len);
}

static uint64_t offer(unsigned q, uint32_t len)
{
	struct rig_seg s = { rig_alloc(&rig, NULL, len), len, true };

	rig_add(&rig, q, &s, 1);
	rig_kick(&rig, q);
	rig_settle(&rig);
	return s.addr;
}

static uint8_t frame[NET_FRAME_MAX];

/* Does a frame to that address come in? One that does not is lost, and its buffer is not. */
static bool comes(const char *to)
{
	uint16_t id;
	uint32_t len;

	offer(0, 2000);
	memcpy(frame, to, 6);
	assert_true(net_deliver(peers, frame, 100, &(struct net_offload){ 0 }));
	if (rig_poll(&rig, 0, &id, &len))
		return true;
	return false;
}

#define BROADCAST "\xff\xff\xff\xff\xff\xff"
#define OWN	  "\x52\x54\0\1\2\3"
#define OTHER	  "\x52\x54\0\1\2\4"
#define GROUP	  "\1\0\x5e\0\0\1"

static void rx_mode(uint8_t cmd, uint8_t on)
{
	assert_int_equal(command(0, cmd, &on, 1), OK);
}

static void test_receive_modes(void **state)
{
	begin(1, CONTROL & ~BIT(F_MQ));
	assert_true(comes(OTHER)); /* a driver that says nothing gets everything */
	rx_mode(0, 0);
	assert_true(comes(OWN) && comes(BROADCAST));
	assert_false(comes(OTHER));
	assert_false(comes(GROUP));
	rx_mode(1, 1);
	assert_true(comes(GROUP));
	assert_false(comes(OTHER));
	rx_mode(3, 1); /* no groups at all */
	assert_false(comes(GROUP));
	rx_mode(2, 1);
	assert_true(comes(OTHER));
	rx_mode(4, 1); /* nothing for one */
	assert_false(comes(OTHER));
	assert_false(comes(OWN));
	assert_true(comes(BROADCAST));
	rx_mode(5, 1);
	assert_false(comes(BROADCAST));
	rx_mode(0, 1);
	assert_true(comes(OTHER));
	/* A reset lets everything in again. */
	rx_mode(0, 0);
	rig_reset(&rig);
	rig_start(&rig, CONTROL & ~BIT(F_MQ));
	assert_true(comes(OTHER));
	end();
}

static void test_mac_table(void **state)
{
	uint8_t b[600] = { 0 };

	begin(1, CONTROL & ~BIT(F_MQ));
	rx_mode(0, 0);
	st_le32(b, 1);
	memcpy(b + 4, OTHER, 6);
	st_le32(b + 10, 1);
	memcpy(b + 14, GROUP, 6);
	assert_int_equal(command(1, 0, b, 20), OK);
	assert_true(comes(OTHER) && comes(GROUP) && comes(OWN));
	assert_false(comes("\x52\x54\0\1\2\5"));
	assert_false(comes("\1\0\x5e\0\0\2"));
	/* A command that breaks off changes nothing. */
	assert_int_equal(command(1, 0, b, 19), ERR);
	assert_int_equal(command(1, 0, b, 3), ERR);
	memset(b, 0, sizeof(b));
	st_le32(b, 0x2aaaaaab); /* times 6 is 2 in 32 bits */
	assert_int_equal(command(1, 0, b, 20), ERR);
	assert_true(comes(OTHER));
	/* More than the table holds: all of that kind. */
	memset(b, 0, sizeof(b));
	st_le32(b, 65);
	assert_int_equal(command(1, 0, b, 4 + 65 * 6 + 4), OK);
	assert_true(comes("\x52\x54\0\1\2\5"));
	assert_false(comes(GROUP));
	/* As many as there is room for, of both together. */
	st_le32(b, 60);
	st_le32(b + 4 + 60 * 6, 4);
	assert_int_equal(command(1, 0, b, 8 + 64 * 6), OK);
	assert_int_equal(net()->filter.multicast, 4);
	st_le32(b + 4 + 60 * 6, 5);
	assert_int_equal(command(1, 0, b, 8 + 65 * 6), OK);
	assert_true(net()->filter.multi_overflow && !net()->filter.uni_overflow);
	/* The card's own. */
	assert_int_equal(command(1, 1, OTHER, 5), ERR);
	assert_int_equal(command(1, 1, OTHER, 6), OK);
	virtio_config_read(rig.d, 0, b, 6);
	assert_memory_equal(b, OTHER, 6);
	assert_true(comes(OTHER));
	/* Whoever has the machine after a reset finds the one that it was made with. */
	rig_reset(&rig);
	virtio_config_read(rig.d, 0, b, 6);
	assert_memory_equal(b, OWN, 6);
	rig_start(&rig, CONTROL & ~BIT(F_MQ));
	rx_mode(0, 0);
	assert_true(comes(OWN));
	assert_false(comes(OTHER));
	end();
}

static void test_vlans(void **state)
{
	uint8_t id[2];

	begin(1, CONTROL & ~BIT(F_MQ));
	rx_mode(0, 0);
	st_be16(frame + 12, 0x8100);
	st_be16(frame + 14, 0x2123);
	assert_false(comes(OWN));
	st_le16(id, 0x123);
	assert_int_equal(command(2, 0, id, 2), OK);
	assert_true(comes(OWN));
	assert_int_equal(command(2, 1, id, 2), OK);
	assert_false(comes(OWN));
	st_le16(id, 4096);
	assert_int_equal(command(2, 0, id, 2), ERR);
	memset(frame, 0, 20);
	end();
}

static void test_what_is_no_command(void **state)
{
	const uint8_t zero[8] = { 0 };
	struct rig_seg s;

	begin(1, BIT(F_CTRL_VQ));
	/* What was not agreed is refused. */
	for (uint8_t class = 0; class < 8; class ++)
		for (uint8_t cmd = 0; cmd < 8; cmd++)
			assert_int_equal(command(class, cmd, zero, 8), ERR);
	assert_int_equal(command(255, 255, zero, 8), ERR);
	end();
	begin(1, CONTROL & ~BIT(F_MQ));
	assert_int_equal(command(0, 6, zero, 1), ERR);
	assert_int_equal(command(0, 0, zero, 0), ERR);
	assert_int_equal(command(1, 2, zero, 8), ERR);
	assert_int_equal(command(5, 0, zero, 7), ERR);
	/* No room for the answer. */
	s = (struct rig_seg){ rig_alloc(&rig, zero, 3), 3, false };
	rig_add(&rig, 2, &s, 1);
	rig_kick(&rig, 2);
	rig_wait(&rig, 2);
	assert_true(rig_needs_reset(&rig));
	end();
}

static void test_offloads(void **state)
{
	uint8_t bits[8], got[HDR];
	struct net_offload o = { .checksum = true,
				 .csum_start = 34,
				 .csum_offset = 16,
				 .gso = NET_GSO_TCP4,
				 .mss = 1448,
				 .header = 54,
				 .ecn = true };
	uint64_t at;

	begin(1, GUEST | BIT(F_CTRL_VQ) | BIT(F_CTRL_GUEST_OFFLOADS));
	assert_int_equal(peers->accepts, NET_CSUM | NET_TSO4 | NET_TSO6 | NET_ECN | NET_USO);
	at = offer(0, 4000);
	assert_true(net_deliver(peers, frame, 3000, &o));
	assert_int_equal(rig_wait(&rig, 0), HDR + 3000);
	rig_get(&rig, at, got, HDR);
	assert_true(got[0] == 1 && got[1] == 0x81 && ld_le16(got + 2) == 54 && ld_le16(got + 4) == 1448 &&
		    ld_le16(got + 6) == 34 && ld_le16(got + 8) == 16 && ld_le16(got + 10) == 1);
	/* For a while the driver wants less. */
	st_le64(bits, BIT(F_GUEST_CSUM) | BIT(F_GUEST_USO4));
	assert_int_equal(command(5, 0, bits, 8), OK);
	assert_int_equal(peers->accepts, NET_CSUM);
	st_le64(bits, BIT(F_MRG_RXBUF));
	assert_int_equal(command(5, 0, bits, 8), ERR);
	/* Without checksums none is called right. */
	for (unsigned on = 0; on < 2; on++) {
		st_le64(bits, on ? BIT(F_GUEST_CSUM) : 0);
		assert_int_equal(command(5, 0, bits, 8), OK);
		at = offer(0, 4000);
		assert_true(net_deliver(peers, frame, 60, &(struct net_offload){ .valid = true }));
		assert_int_equal(rig_wait(&rig, 0), HDR + 60);
		rig_get(&rig, at, got, 1);
		assert_int_equal(got[0], on ? 2 : 0);
	}
	rig_reset(&rig);
	rig_start(&rig, BIT(F_GUEST_CSUM) | BIT(F_GUEST_TSO6));
	rig_settle(&rig);
	assert_int_equal(peers->accepts, NET_CSUM | NET_TSO6);
	end();
}

/* Before the loop has told the peer of this driver, frames may come that were made for the one before. */
static void test_frames_for_another_driver(void **state)
{
	const struct net_offload o = { .checksum = true, .csum_start = 34, .csum_offset = 16 };
	uint16_t id;
	uint32_t len;

	begin(1, GUEST);
	assert_int_equal(peers->accepts & NET_CSUM, NET_CSUM);
	rig_reset(&rig);
	rig_start(&rig, 0);
	rig_add(&rig, 0, &(struct rig_seg){ rig_alloc(&rig, NULL, 2000), 2000, true }, 1);
	assert_false(net_deliver(peers, frame, 100, &o));
	assert_false(rig_poll(&rig, 0, &id, &len));
	/* It need not wait for buffers. */
	rig_settle(&rig);
	assert_int_equal(peers->accepts, 0);
	assert_int_equal(readies[0], 1);
	assert_true(net_deliver(peers, frame, 100, &o));
	assert_int_equal(rig_wait(&rig, 0), HDR + 100);
	end();
}

/* 5.1.4.1: no packet is larger than the MTU that was agreed to, but one that the guest cuts. */
static void test_mtu(void **state)
{
	static const struct {
		size_t len;
		uint16_t tag, second;
		bool comes, agreed;
	} cases[] = {
		{ 1314, 0, 0, true, true },
		{ 1315, 0, 0, false, true },
		{ 1315, 0, 0, true, false },
		{ 1318, 0x8100, 0, true, true },
		{ 1319, 0x8100, 0, false, true },
		{ 1322, 0x88a8, 0x8100, true, true },
		{ 1323, 0x88a8, 0x8100, false, true },
		{ 1322, 0x0800, 0x8100, false, true },
	};
	const struct net_offload large = {
		.checksum = true, .csum_start = 34, .csum_offset = 16, .gso = NET_GSO_TCP4, .mss = 1260
	};

	for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
		uint16_t id;
		uint32_t len;

		begin_with(1, GUEST | (cases[k].agreed ? BIT(F_MTU) : 0), (struct virtio_net_config){ .mtu = 1300 });
		offer(0, 4000);
		memset(frame, 0, 60);
		st_be16(frame + 12, cases[k].tag);
		st_be16(frame + 16, cases[k].second);
		assert_true(net_deliver(peers, frame, cases[k].len, &(struct net_offload){ 0 }));
		assert_int_equal(rig_poll(&rig, 0, &id, &len), cases[k].comes);
		offer(0, 4000);
		assert_true(net_deliver(peers, frame, 3000, &large));
		assert_int_equal(rig_wait(&rig, 0), HDR + 3000);
		end();
	}
}

/* Each pair has its own peer and its own rings; frames for a pair that is not used are lost. */
static void test_pairs(void **state)
{
	uint8_t space[12], n[2], none[HDR + 60] = { 0 };
	struct rig_seg s;
	uint16_t id;
	uint32_t len;

	begin(PAIRS, CONTROL);
	assert_int_equal(rig.d->n_queues, 2 * PAIRS + 1);
	virtio_config_read(rig.d, 0, space, 12);
	assert_int_equal(ld_le16(space + 8), PAIRS);
	assert_int_equal(net_ctrl_queue(net()), 2 * PAIRS);
	assert_int_equal(peers->queues, 1);
	offer(2, 2000);
	assert_true(net_deliver(&peers[1], frame, 60, &(struct net_offload){ 0 }));
	assert_false(rig_poll(&rig, 2, &id, &len));
	for (unsigned bad = 0; bad < 5; bad += 4) {
		st_le16(n, (uint16_t)bad);
		assert_int_equal(command(4, 0, n, 2), ERR);
	}
	st_le16(n, PAIRS);
	assert_int_equal(command(4, 0, n, 1), ERR);
	assert_int_equal(command(4, 0, n, 2), OK);
	assert_int_equal(peers->queues, PAIRS);
	assert_true(net_deliver(&peers[1], frame, 60, &(struct net_offload){ 0 }));
	assert_int_equal(rig_wait(&rig, 2), HDR + 60);
	assert_false(net_deliver(&peers[2], frame, 60, &(struct net_offload){ 0 }));
	offer(4, 2000);
	assert_true(readies[2] == 1 && !readies[0]);
	s = (struct rig_seg){ rig_alloc(&rig, none, sizeof(none)), sizeof(none), false };
	rig_add(&rig, 5, &s, 1);
	rig_kick(&rig, 5);
	rig_wait(&rig, 5);
	assert_true(!sent[0] && !sent[1] && sent[2] == 1);
	/* A driver that does not know of pairs has its control queue behind the first. */
	rig_reset(&rig);
	rig_start(&rig, CONTROL & ~BIT(F_MQ));
	rig_settle(&rig);
	assert_int_equal(peers->queues, 1);
	assert_int_equal(command_at(2, 0, 0, n, 1), OK);
	st_le16(n, 1);
	assert_int_equal(command_at(2, 4, 0, n, 2), ERR);
	end();
}

static void test_offers(void **state)
{
	uint8_t space[12];

	begin_with(1, 0,
		   (struct virtio_net_config){ .mtu = 1300,
					       .withheld = BIT(F_CSUM) | BIT(F_CTRL_VLAN) | BIT(VIRTIO_F_EVENT_IDX) });
	assert_true(rig.d->offered & BIT(F_MTU));
	assert_false(rig.d->offered & BIT(F_MQ));
	assert_false(virtio_offered(rig.d) & (BIT(F_CSUM) | BIT(F_CTRL_VLAN) | BIT(VIRTIO_F_EVENT_IDX)));
	assert_true(virtio_offered(rig.d) & BIT(VIRTIO_F_RING_RESET));
	virtio_config_read(rig.d, 0, space, 12);
	assert_true(ld_le16(space + 8) == 1 && ld_le16(space + 10) == 1300);
	assert_false(virtio_offered(rig.d) & BIT(F_SPEED_DUPLEX));
	assert_true(rig.d->config_size == 12 && rig.d->queues[0].max_size == 256);
	end();
}

/* What is said of the cable is in the configuration space, behind what else there may be. */
static void test_speed(void **state)
{
	const struct virtio_net_config cases[] = {
		{ .link_known = true, .speed = 40000, .duplex = 1, .rx_size = 1024, .tx_size = 512 },
		{ .link_known = true, .speed = 40000, .duplex = 1, .rx_size = 1024, .tx_size = 512, .rss = true },
		{ .link_known = true, .speed = UINT32_MAX, .duplex = 0xff, .rx_size = 256 },
		{ .rss = true },
	};
	uint8_t space[24];

	for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
		const struct virtio_net_config *c = &cases[k];
		size_t size = c->rss ? 24 : 17;

		begin_with(1, 0, *c);
		assert_int_equal(!!(virtio_offered(rig.d) & BIT(F_SPEED_DUPLEX)), c->link_known);
		assert_int_equal(rig.d->config_size, size);
		virtio_config_read(rig.d, 0, space, (unsigned)size);
		assert_int_equal(ld_le32(space + 12), c->link_known ? c->speed : UINT32_MAX);
		assert_int_equal(space[16], c->link_known ? c->duplex : 0xff);
		assert_int_equal(rig.d->queues[0].max_size, c->rx_size ? c->rx_size : 256);
		assert_int_equal(rig.d->queues[1].max_size, c->tx_size ? c->tx_size : 256);
		assert_int_equal(rig.d->queues[2].max_size, 64);
		end();
	}
}

/* One queue alone begins anew, with the others going on. */
static void test_ring_reset(void **state)
{
	uint16_t id;
	uint32_t len;
	const struct virtio_queue *vq;

	begin(1, BIT(VIRTIO_F_RING_RESET));
	vq = &rig.d->queues[0];
	offer(0, 2000);
	pthread_mutex_lock(&rig.d->lock);
	assert_false(virtio_may_configure(rig.d, vq, "test"));
	virtio_queue_reset(rig.d, 0);
	assert_true(!vq->enabled && !vq->desc);
	assert_true(virtio_may_configure(rig.d, vq, "test"));
	pthread_mutex_unlock(&rig.d->lock);
	assert_false(net_deliver(peers, frame, 60, &(struct net_offload){ 0 }));
	assert_false(rig_poll(&rig, 0, &id, &len));
	rig_restart_queue(&rig, 0);
	offer(0, 2000);
	assert_true(net_deliver(peers, frame, 60, &(struct net_offload){ 0 }));
	assert_int_equal(rig_wait(&rig, 0), HDR + 60);
	end();
	/* Nothing of the kind without the feature. */
	begin(1, 0);
	pthread_mutex_lock(&rig.d->lock);
	virtio_queue_reset(rig.d, 0);
	assert_true(rig.d->queues[0].enabled);
	pthread_mutex_unlock(&rig.d->lock);
	end();
}

static _Atomic bool over;

static void *reset_tx(void *opaque)
{
	pthread_mutex_lock(&rig.d->lock);
	virtio_queue_reset(rig.d, 1);
	pthread_mutex_unlock(&rig.d->lock);
	over = true;
	return NULL;
}

static void *reset_all(void *opaque)
{
	rig_reset(&rig);
	over = true;
	return NULL;
}

static void *drain(void *opaque)
{
	rig.d->ops->drain(rig.d);
	over = true;
	return NULL;
}

/* A frame goes to the peer straight from the guest's buffers: none of these is over before that is. */
static void test_waits_for_what_is_being_sent(void **state)
{
	void *(*const fns[])(void *) = { reset_tx, reset_all, drain };

	for (size_t k = 0; k < ARRAY_LEN(fns); k++) {
		pthread_t thread;

		begin(1, BIT(VIRTIO_F_RING_RESET));
		over = false;
		pthread_mutex_lock(&net()->tx_lock);
		assert_int_equal(pthread_create(&thread, NULL, fns[k], NULL), 0);
		usleep(50000);
		if (over)
			fail_msg("case %zu does not wait", k);
		pthread_mutex_unlock(&net()->tx_lock);
		pthread_join(thread, NULL);
		end();
	}
}

/* --- saved --- */

static FILE *save(void)
{
	FILE *f = tmpfile();
	struct err err;

	assert_int_equal(state_save(f, rig.d->state, "0", rig.d->self, &err), 0);
	rewind(f);
	return f;
}

static void test_save(void **state)
{
	uint8_t b[20] = { 0 }, n[2] = { 2 }, bits[8];
	struct net_filter filter;
	struct err err;
	FILE *f;

	begin(PAIRS, CONTROL | GUEST);
	rx_mode(0, 0);
	st_le32(b, 1);
	memcpy(b + 4, OTHER, 6);
	assert_int_equal(command(1, 0, b, 14), OK);
	assert_int_equal(command(4, 0, n, 2), OK);
	st_le64(bits, BIT(F_GUEST_CSUM));
	assert_int_equal(command(5, 0, bits, 8), OK);
	assert_int_equal(command(1, 1, "\x52\x54\0\1\2\x9", 6), OK);
	filter = net()->filter;
	f = save();
	rig_reset(&rig);
	rig.d->features = CONTROL | GUEST; /* the core's table has them */
	assert_int_equal(state_load(f, rig.d->state, "0", rig.d->self, &err), 0);
	assert_memory_equal(&net()->filter, &filter, sizeof(filter));
	assert_true(net()->active == 2 && net()->offloads == BIT(F_GUEST_CSUM));
	/* It comes from elsewhere: the guest is asked to say so. */
	rig.d->status = VIRTIO_S_DRIVER_OK | VIRTIO_S_FEATURES_OK;
	virtio_resume(rig.d);
	rig_settle(&rig);
	virtio_config_read(rig.d, 0, b, 8);
	assert_memory_equal(b, "\x52\x54\0\1\2\x9", 6);
	assert_int_equal(ld_le16(b + 6), STATUS_LINK_UP | STATUS_ANNOUNCE);
	assert_int_equal(peers->accepts, NET_CSUM);
	assert_int_equal(rig.config_irqs, 1);
	assert_int_equal(sent[0], 0);
	rig_reset(&rig);
	virtio_config_read(rig.d, 0, b, 6);
	assert_memory_equal(b, OWN, 6);
	rig_start(&rig, CONTROL | GUEST);
	pthread_mutex_lock(&rig.d->lock);
	net()->config.head[6] |= STATUS_ANNOUNCE;
	pthread_mutex_unlock(&rig.d->lock);
	assert_int_equal(command(3, 0, NULL, 0), OK);
	assert_int_equal(net()->config.head[6], STATUS_LINK_UP);
	fclose(f);
	end();
}

/* The bytes of a state from before there was a control queue: a card without one takes them, and no other. */
static void test_a_state_of_before(void **state)
{
	static const char old[] = "\3net\0010\1\0" /* section, instance, version */
				  "\6config\0\10\0\0\0" OTHER "\1\0"
				  "\0\0"; /* the ends of fields and of parts */
	FILE *f = fmemopen((void *)old, sizeof(old) - 1, "r");
	struct err err;
	uint8_t b[8];

	for (int control = 0; control < 2; control++) {
		rig_init(&rig, false);
		rig_attach(&rig, make(1, (struct virtio_net_config){ .control = control }));
		rig_start(&rig, GUEST | BIT(F_STATUS));
		assert_int_equal(rig.d->n_queues, 2 + control);
		rewind(f);
		assert_int_equal(state_load(f, rig.d->state, "0", rig.d->self, &err), control ? -1 : 0);
		if (!control) {
			assert_int_equal(fgetc(f), EOF);
			virtio_config_read(rig.d, 0, b, 8);
			assert_memory_equal(b, OTHER "\1\0", 8);
			assert_true(net()->filter.promisc && net()->active == 1 && !net()->rss.types);
			virtio_drain(rig.d);
			virtio_resume(rig.d);
			rig_settle(&rig);
			assert_int_equal(sent[0], 1);
			assert_memory_equal(last, BROADCAST OTHER "\x80\x35", 14);
			offer(0, 2000);
			assert_true(net_deliver(peers, frame, 60, &(struct net_offload){ 0 }));
			assert_int_equal(rig_wait(&rig, 0), HDR + 60);
			assert_int_equal(peers->accepts, NET_CSUM | NET_TSO4 | NET_TSO6 | NET_ECN | NET_USO);
		}
		end();
	}
	fclose(f);
}

/* A driver that cannot announce itself is announced by a frame of ours. */
static void test_announced(void **state)
{
	struct err err;
	FILE *f;

	begin(1, 0);
	f = save();
	assert_int_equal(state_load(f, rig.d->state, "0", rig.d->self, &err), 0);
	virtio_drain(rig.d);
	virtio_resume(rig.d);
	rig_settle(&rig);
	assert_int_equal(sent[0], 1);
	assert_int_equal(last_len, 60);
	assert_memory_equal(last, BROADCAST OWN "\x80\x35", 14);
	assert_memory_equal(last + 20, "\0\3" OWN, 8);
	virtio_drain(rig.d);
	virtio_resume(rig.d);
	rig_settle(&rig);
	assert_int_equal(sent[0], 1); /* once */
	virtio_net_announce(rig.d);
	rig_settle(&rig);
	assert_int_equal(sent[0], 2); /* and when it is asked for */
	fclose(f);
	end();
	/* One that can is told to. */
	begin(2, CONTROL);
	virtio_net_announce(rig.d);
	rig_settle(&rig);
	assert_int_equal(sent[0], 0);
	assert_int_equal(net()->config.head[6], STATUS_LINK_UP | STATUS_ANNOUNCE);
	end();
}

static void test_saved_nonsense(void **state)
{
	struct err err;

	for (unsigned k = 0; k < 5; k++) {
		struct net before;
		FILE *f;

		begin(2, CONTROL);
		before = *net();
		net()->filter.unicast = k == 0 ? NET_MACS + 1 : k == 1 ? 10 : 0;
		net()->filter.multicast = k == 1 ? NET_MACS - 9 : k == 4 ? NET_MACS : 0;
		net()->active = k == 2 ? 3 : 1;
		net()->offloads = k == 3 ? BIT(F_CSUM) : 0;
		f = save();
		assert_int_equal(state_load(f, rig.d->state, "0", rig.d->self, &err), k == 4 ? 0 : -1);
		net()->filter = before.filter;
		net()->active = 1;
		fclose(f);
		end();
	}
}

/* --- hashes --- */

#define RSS (CONTROL | BIT(F_RSS))

/* A frame of TCP over IPv4: one of the suite's flows (test_net_rss.c), whose hash is 0x51ccc178. */
static size_t tcp_frame(void)
{
	memset(frame, 0, 100);
	memcpy(frame, OWN, 6);
	memcpy(frame + 12, "\x08\0\x45", 3);
	frame[14 + 9] = 6;
	memcpy(frame + 14 + 12, "\x42\x09\x95\xbb\xa1\x8e\x64\x50\x0a\xea\x06\xe6", 12);
	return 100;
}

static uint32_t rss_config(uint8_t *b, uint32_t types, uint16_t mask, uint16_t senders, uint8_t key_len)
{
	static const char key[] = "\x6d\x5a\x56\xda\x25\x5b\x0e\xc2\x41\x67\x25\x3d\x43\xa3\x8f\xb0\xd0\xca\x2b\xcb"
				  "\xae\x7b\x30\xb4\x77\xcb\x2d\xa3\x80\x30\xf2\x0c\x6a\x42\xb7\x3b\xbe\xac\x01\xfa";
	uint32_t at = 8;

	st_le32(b, types);
	st_le16(b + 4, mask);
	st_le16(b + 6, 0); /* what has no hash */
	for (unsigned k = 0; k <= mask; k++, at += 2)
		st_le16(b + at, k == (0x51ccc178 & mask) ? 2 : 1);
	st_le16(b + at, senders);
	b[at + 2] = key_len;
	memcpy(b + at + 3, key, sizeof(key) - 1);
	return at + 3 + key_len;
}

static void begin_rss(void)
{
	begin_with(PAIRS, RSS | BIT(F_HASH_REPORT), (struct virtio_net_config){ .rss = true, .hash = true });
}

static void test_rss(void **state)
{
	uint8_t b[600], space[24], hdr[20], none[20 + 60] = { 0 };
	uint64_t buffer;
	uint32_t size;
	struct rig_seg s;
	size_t len;

	begin_rss();
	virtio_config_read(rig.d, 0, space, 24);
	assert_true(space[17] == NET_RSS_KEY && ld_le16(space + 18) == NET_RSS_TABLE);
	assert_int_equal(ld_le32(space + 20), NET_RSS_TYPES);
	size = rss_config(b, 0x3f, 127, 2, 40);
	st_le16(b + 6, 2);
	assert_int_equal(command(4, 1, b, size), OK);
	assert_int_equal(peers->queues, 2);
	/* By its hash, whichever queue of the peer it has come by; the header has it. */
	len = tcp_frame();
	buffer = offer(4, 2000);
	assert_true(net_deliver(&peers[1], frame, len, &(struct net_offload){ 0 }));
	assert_int_equal(rig_wait(&rig, 4), 20 + len);
	rig_get(&rig, buffer, hdr, 20);
	assert_true(ld_le16(hdr + 10) == 1 && ld_le32(hdr + 12) == 0x51ccc178 && ld_le16(hdr + 16) == 2);
	/* Who waits is the one that it has come by. */
	assert_false(net_deliver(&peers[1], frame, len, &(struct net_offload){ 0 }));
	readies[1] = readies[2] = 0;
	offer(2, 2000);
	assert_int_equal(readies[1], 0);
	buffer = offer(4, 2000);
	assert_true(readies[1] == 1 && readies[2] == 0);
	/* What has no hash has its own queue. */
	memset(frame + 12, 0, 2);
	assert_true(net_deliver(&peers[1], frame, len, &(struct net_offload){ 0 }));
	assert_int_equal(rig_wait(&rig, 4), 20 + len);
	rig_get(&rig, buffer, hdr, 20);
	assert_true(!ld_le32(hdr + 12) && !ld_le16(hdr + 16));
	/* The header is as long the other way. */
	s = (struct rig_seg){ rig_alloc(&rig, none, sizeof(none)), sizeof(none), false };
	rig_add(&rig, 1, &s, 1);
	rig_kick(&rig, 1);
	rig_wait(&rig, 1);
	assert_int_equal(last_len, 60);
	/* The peer chooses again when pairs are set. */
	st_le16(b, 3);
	assert_int_equal(command(4, 0, b, 2), OK);
	len = tcp_frame();
	offer(2, 2000);
	assert_true(net_deliver(&peers[1], frame, len, &(struct net_offload){ 0 }));
	assert_int_equal(rig_wait(&rig, 2), 20 + len); /* the first of the two that wait there */
	end();
}

/* What waits for buffers of a queue where it goes no longer is asked for. */
static void test_routes_that_change_while_the_peer_waits(void **state)
{
	uint8_t b[600];
	uint32_t size = rss_config(b, 0x3f, 127, 2, 40);
	size_t len = tcp_frame();

	for (unsigned way = 0; way < 3; way++) {
		begin_rss();
		assert_int_equal(command(4, 1, b, size), OK);
		assert_false(net_deliver(peers, frame, len, &(struct net_offload){ 0 })); /* pair 2 has no buffers */
		readies[0] = 0;
		if (way == 0) {
			assert_int_equal(command(4, 0, "\1\0", 2), OK);
		} else if (way == 1) {
			assert_int_equal(command(4, 2, (uint8_t[13]){ 0 }, 13), OK);
		} else { /* another driver */
			rig_reset(&rig);
			rig_start(&rig, 0);
			rig_settle(&rig);
		}
		assert_int_equal(readies[0], 1);
		assert_int_equal(readies[1] + readies[2], 0);
		end();
	}
}

/* One that does is told so by hashes as well; and by neither, no table leads to the control queue. */
static void test_rss_without_pairs(void **state)
{
	const uint64_t without = (RSS | BIT(F_HASH_REPORT)) & ~BIT(F_MQ);
	uint8_t b[600], one[2] = { 1 };
	struct err err;
	size_t len;
	FILE *f;

	begin_rss();
	rig_reset(&rig);
	rig_start(&rig, without);
	rig_settle(&rig);
	assert_int_equal(command_at(2 * PAIRS, 4, 1, b, rss_config(b, 0x3f, 127, 2, 40)), OK);
	assert_int_equal(peers->queues, 2);
	len = tcp_frame();
	offer(4, 2000);
	assert_true(net_deliver(&peers[0], frame, len, &(struct net_offload){ 0 }));
	assert_int_equal(rig_wait(&rig, 4), 20 + len);
	assert_int_equal(command_at(2 * PAIRS, 4, 0, one, 2), ERR);
	f = save();
	assert_int_equal(state_load(f, rig.d->state, "0", rig.d->self, &err), 0);
	rig_reset(&rig);
	rig_start(&rig, without & ~BIT(F_RSS));
	rig_settle(&rig);
	assert_int_equal(command_at(2, 4, 1, b, rss_config(b, 0x3f, 127, 2, 40)), ERR);
	assert_int_equal(command_at(2, 0, 0, one, 1), OK);
	/* What another driver has set, in a state that says it is this one's. */
	rewind(f);
	assert_int_equal(state_load(f, rig.d->state, "0", rig.d->self, &err), -1);
	net_ctrl_reset(net());
	fclose(f);
	f = save();
	assert_int_equal(state_load(f, rig.d->state, "0", rig.d->self, &err), 0);
	fclose(f);
	for (unsigned k = 0; k < 2; k++) {
		net()->rss.table[0] = k == 0;
		net()->active = 1 + (k == 1);
		f = save();
		assert_int_equal(state_load(f, rig.d->state, "0", rig.d->self, &err), -1);
		net_ctrl_reset(net());
		fclose(f);
	}
	end();
}

static void test_reports_alone(void **state)
{
	uint8_t b[600] = { 0 }, hdr[20];
	uint64_t buffer;
	size_t len;

	begin_rss();
	rss_config(b, 0x3f, 1, 1, 40);
	memmove(b + 12, b + 14, 41); /* types, reserved, the key */
	memset(b + 4, 0, 8);
	b[12] = 40;
	assert_int_equal(command(4, 2, b, 13 + 40), OK);
	len = tcp_frame();
	buffer = offer(0, 2000);
	assert_true(net_deliver(&peers[0], frame, len, &(struct net_offload){ 0 }));
	assert_int_equal(rig_wait(&rig, 0), 20 + len);
	rig_get(&rig, buffer, hdr, 20);
	assert_true(ld_le32(hdr + 12) == 0x51ccc178 && ld_le16(hdr + 16) == 2);
	rig_reset(&rig);
	assert_int_equal(net()->rss.types, 0);
	end();
}

static void test_what_is_no_rss(void **state)
{
	uint8_t b[600];
	uint32_t len;

	begin_rss();
	assert_int_equal(command(4, 1, b, rss_config(b, 0x200, 127, 1, 40)), ERR); /* types that are not offered */
	assert_int_equal(command(4, 1, b, rss_config(b, 0x3f, 126, 1, 40)), ERR);  /* no power of two */
	assert_int_equal(command(4, 1, b, rss_config(b, 0x3f, 255, 1, 40)), ERR);
	assert_int_equal(command(4, 1, b, rss_config(b, 0x3f, 127, 0, 40)), ERR);
	assert_int_equal(command(4, 1, b, rss_config(b, 0x3f, 127, PAIRS + 1, 40)), ERR);
	assert_int_equal(command(4, 1, b, rss_config(b, 0x3f, 127, 1, 41)), ERR);
	len = rss_config(b, 0x3f, 127, 1, 40);
	assert_int_equal(command(4, 1, b, len - 1), ERR);
	st_le16(b + 8, PAIRS);
	assert_int_equal(command(4, 1, b, len), ERR);
	st_le16(b + 8, 0);
	st_le16(b + 6, PAIRS);
	assert_int_equal(command(4, 1, b, len), ERR);
	assert_int_equal(command(4, 2, b, 12), ERR);
	assert_int_equal(command(4, 3, b, 12), ERR);
	assert_true(!net()->rss.steers && !net()->rss.types);
	end();
	/* Nor without what it needs. */
	begin(PAIRS, CONTROL);
	len = rss_config(b, 0x3f, 127, 1, 40);
	assert_int_equal(command(4, 1, b, len), ERR);
	assert_int_equal(command(4, 2, b, len), ERR);
	end();
}

static void test_saved_rss(void **state)
{
	struct net_rss rss;
	uint8_t b[600];
	struct err err;
	FILE *f;

	begin_rss();
	assert_int_equal(command(4, 1, b, rss_config(b, 0x3f, 127, 2, 40)), OK);
	rss = net()->rss;
	for (unsigned k = 0; k < 5; k++) {
		net()->rss.types |= k == 1 ? 0x200 : 0;
		net()->rss.mask = k == 2 ? 0xffff : 127;
		net()->rss.table[5] = k == 3 ? PAIRS : 1;
		net()->rss.unclassified = k == 4 ? PAIRS : 0;
		f = save();
		memset(&net()->rss, 0, sizeof(rss));
		assert_int_equal(state_load(f, rig.d->state, "0", rig.d->self, &err), k ? -1 : 0);
		if (!k)
			assert_memory_equal(&net()->rss, &rss, sizeof(rss));
		net()->rss = rss;
		fclose(f);
	}
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_receive_modes),
		cmocka_unit_test(test_mac_table),
		cmocka_unit_test(test_vlans),
		cmocka_unit_test(test_what_is_no_command),
		cmocka_unit_test(test_offloads),
		cmocka_unit_test(test_frames_for_another_driver),
		cmocka_unit_test(test_mtu),
		cmocka_unit_test(test_pairs),
		cmocka_unit_test(test_offers),
		cmocka_unit_test(test_ring_reset),
		cmocka_unit_test(test_waits_for_what_is_being_sent),
		cmocka_unit_test(test_save),
		cmocka_unit_test(test_announced),
		cmocka_unit_test(test_saved_nonsense),
		cmocka_unit_test(test_rss),
		cmocka_unit_test(test_routes_that_change_while_the_peer_waits),
		cmocka_unit_test(test_rss_without_pairs),
		cmocka_unit_test(test_reports_alone),
		cmocka_unit_test(test_what_is_no_rss),
		cmocka_unit_test(test_saved_rss),
		cmocka_unit_test(test_speed),
		cmocka_unit_test(test_a_state_of_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
