/* The e1000's receiver: filters (SDM 3.2.1, 13.4.22), buffers and descriptors (3.2.3), VLAN tags, checksums. */
#include <zlib.h>

#include "dev/e1000_impl.h"

#define RDTR_NS 1024u

enum {
	STATUS_DD = 0x01,
	STATUS_EOP = 0x02,
	STATUS_IXSM = 0x04,
	STATUS_VP = 0x08,
	STATUS_TCPCS = 0x20,
	STATUS_IPCS = 0x40
};
enum { STATUS_PIF = 0x80 };
#define ERROR_IPE  0x40
#define RAH_SOURCE 1u /* of its address select */

/* Which filter lets it in. */
enum accepted { DROPPED, EXACT, INEXACT };

static bool is_broadcast(const uint8_t *frame)
{
	return !memcmp(frame, "\xff\xff\xff\xff\xff\xff", 6);
}

static bool is_tagged(const struct e1000 *e, const uint8_t *frame, size_t len)
{
	return len >= 18 && ld_be16(frame + 12) == e->reg[E1000_VET];
}

static bool vlan_passes(const struct e1000 *e, const uint8_t *frame, size_t len)
{
	uint16_t id;

	if (!(e->reg[E1000_RCTL] & RCTL_VFE) || !is_tagged(e, frame, len))
		return true;
	id = ld_be16(frame + 14) & 0xfff;
	return e->vfta[id >> 5] >> (id & 31) & 1;
}

/* A receive address: low, high with what it is compared with. SDM 13.5.2, 13.5.3. */
static bool is_at(const uint32_t ra[2], const uint8_t *frame)
{
	uint32_t select = ra[1] >> 16 & 3;
	const uint8_t *addr = select == RAH_SOURCE ? frame + 6 : frame;

	return ra[1] >> 31 && select <= RAH_SOURCE && ra[0] == ld_le32(addr) && (ra[1] & 0xffff) == ld_le16(addr + 4);
}

static enum accepted filter(const struct e1000 *e, const uint8_t *frame)
{
	static const uint8_t shifts[] = { 4, 3, 2, 0 };
	uint32_t rctl = e->reg[E1000_RCTL], hash;

	if (is_broadcast(frame) && rctl & RCTL_BAM)
		return EXACT;
	for (unsigned n = 0; n < ARRAY_LEN(e->ra); n += 2)
		if (is_at(e->ra + n, frame))
			return EXACT;
	if (rctl & (frame[0] & 1 ? RCTL_MPE : RCTL_UPE))
		return EXACT;
	if (!(frame[0] & 1))
		return DROPPED;
	hash = (uint32_t)ld_le16(frame + 4) >> shifts[rctl >> 12 & 3] & 0xfff;
	return e->mta[hash >> 5] >> (hash & 31) & 1 ? INEXACT : DROPPED;
}

static size_t buffer_size(const struct e1000 *e)
{
	uint32_t rctl = e->reg[E1000_RCTL];
	size_t size = 2048u >> (rctl >> 16 & 3);

	/* 0 with BSEX is reserved. */
	return rctl & RCTL_BSEX && size < 2048 ? size * 16 : size;
}

/* How many descriptors the driver has given. A ring that cannot be one has none. */
static uint32_t available(const struct e1000 *e, uint32_t *count)
{
	uint32_t head = e->reg[E1000_RDH], tail = e->reg[E1000_RDT];

	*count = e->reg[E1000_RDLEN] / E1000_DESC;
	if (head >= *count || tail >= *count)
		return 0;
	return tail >= head ? tail - head : *count - head + tail;
}

/* The sum of big-endian words, folded. */
static uint16_t sum(const uint8_t *b, size_t len)
{
	uint32_t s = 0;

	for (; len > 1; b += 2, len -= 2)
		s += ld_be16(b);
	s += len ? (uint32_t)*b << 8 : 0;
	s = (s & 0xffff) + (s >> 16);
	return (uint16_t)((s & 0xffff) + (s >> 16));
}

/*
 * What a driver need not check (SDM 3.2.9): the header of IPv4, which is summed here, and what is behind it if the peer
 * has (`valid`). The 82540EM knows no IPv6.
 */
static void check(const struct e1000 *e, const uint8_t *frame, size_t len, bool valid, uint8_t *d)
{
	uint32_t rxcsum = e->reg[E1000_RXCSUM];
	size_t header = len < 34 ? 0 : (frame[14] & 15u) * 4;
	uint8_t status = 0;

	if (header < 20 || header > len - 14 || ld_be16(frame + 12) != 0x0800 || frame[14] >> 4 != 4) {
		d[12] |= STATUS_IXSM;
		return;
	}
	if (rxcsum & RXCSUM_IPOFLD) {
		status |= STATUS_IPCS;
		d[13] |= sum(frame + 14, header) == 0xffff ? 0 : ERROR_IPE;
	}
	/* TCP or UDP, and not a fragment. */
	if (valid && rxcsum & RXCSUM_TUOFLD && (frame[23] == 6 || frame[23] == 17) && !(ld_be16(frame + 20) & 0x3fff))
		status |= STATUS_TCPCS;
	d[12] |= status ? status : STATUS_IXSM;
}

static void count_received(struct e1000 *e, const uint8_t *frame, size_t len)
{
	e1000_count(e, STAT_TPR, 1);
	e1000_count(e, STAT_GPRC, 1);
	e1000_count(e, STAT_PRC64 + e1000_size_class(len), 1);
	e1000_count_octets(e, STAT_TORL, len);
	e1000_count_octets(e, STAT_GORCL, len);
	if (is_broadcast(frame))
		e1000_count(e, STAT_BPRC, 1);
	else if (frame[0] & 1)
		e1000_count(e, STAT_MPRC, 1);
}

/* The sum of words from PCSS on, as the descriptor has it. SDM 13.4.36. */
static uint16_t packet_sum(const struct e1000 *e, size_t len)
{
	size_t at = e->reg[E1000_RXCSUM] & 0xff;

	return at < len ? sum(e->rx + at, len - at) : 0;
}

/* One descriptor's part of e->rx. The status is what the driver waits for, so it is written last. */
static void put(struct e1000 *e, size_t at, size_t len, uint8_t *d)
{
	gpa_t where = e1000_descriptor(e, E1000_RDBAL, e->reg[E1000_RDH]);
	uint8_t given[8];

	/* Buffers that are no memory take what they are given. */
	if (!mem_read(e->mem, where, given, sizeof(given)))
		return;
	if (ld_le64(given))
		mem_write(e->mem, gpa(ld_le64(given)), e->rx + at, len);
	st_le16(d + 8, (uint16_t)len);
	mem_write(e->mem, gpa(where.v + 8), d + 8, 4);
	mem_write(e->mem, gpa(where.v + 13), d + 13, 3);
	atomic_thread_fence(memory_order_release);
	mem_write(e->mem, gpa(where.v + 12), d + 12, 1);
}

static void deliver(struct e1000 *e, size_t len, uint8_t *d)
{
	uint8_t status = d[12];
	size_t size = buffer_size(e);
	uint32_t count, left = available(e, &count);

	for (size_t at = 0; at < len; at += size) {
		size_t n = len - at < size ? len - at : size;

		d[12] = (uint8_t)(status | STATUS_DD | (at + n == len ? STATUS_EOP : 0));
		put(e, at, n, d);
		e->reg[E1000_RDH] = e->reg[E1000_RDH] + 1 < count ? e->reg[E1000_RDH] + 1 : 0;
		left--;
	}
	if (left <= count >> ((e->reg[E1000_RCTL] >> 8 & 3) + 1))
		e1000_raise(e, ICR_RXDMT0, 0);
	e1000_raise(e, ICR_RXT0, (uint64_t)e->reg[E1000_RDTR] * RDTR_NS);
}

/* Into e->rx: without its tag if that goes into the descriptor, padded, with its checksum sequence. */
static size_t prepare(struct e1000 *e, const uint8_t *frame, size_t len, uint8_t *d)
{
	size_t n = len;
	bool strip = e->reg[E1000_CTRL] & CTRL_VME && is_tagged(e, frame, len);

	if (strip) {
		memcpy(e->rx, frame, 12);
		memcpy(e->rx + 12, frame + 16, len - 16);
		n -= 4;
		st_le16(d + 14, ld_be16(frame + 14));
		d[12] |= STATUS_VP;
	} else {
		memcpy(e->rx, frame, len);
	}
	if (n < 60) {
		memset(e->rx + n, 0, 60 - n);
		n = 60;
	}
	st_le16(d + 10, packet_sum(e, n));
	if (e->reg[E1000_RCTL] & RCTL_SECRC)
		return n;
	st_le32(e->rx + n, (uint32_t)crc32(0, e->rx, (uInt)n));
	return n + E1000_FCS;
}

/* False: there is no room. */
static bool take(struct e1000 *e, const uint8_t *frame, size_t len, bool valid)
{
	uint8_t d[E1000_DESC] = { 0 };
	enum accepted a;
	uint32_t count;
	size_t need;

	a = len < 14 ? DROPPED : filter(e, frame);
	if (a == DROPPED || !vlan_passes(e, frame, len))
		return true;
	if (len + E1000_FCS > (e->reg[E1000_RCTL] & RCTL_LPE ? E1000_RX_MAX : E1000_RX_NORMAL)) {
		e1000_count(e, STAT_ROC, 1);
		return true;
	}
	need = (len < 60 ? 60 : len) + E1000_FCS;
	if (available(e, &count) * buffer_size(e) < need) {
		e1000_count(e, STAT_RNBC, 1);
		/* What no ring like this can hold is not waited for. */
		e->starved = count && (count - 1) * buffer_size(e) >= need;
		return !e->starved;
	}
	count_received(e, frame, need);
	d[12] = a == INEXACT ? STATUS_PIF : 0;
	check(e, frame, len, valid, d);
	deliver(e, prepare(e, frame, len, d), d);
	return true;
}

static bool listens(const struct e1000 *e)
{
	return e1000_may_work(e) && e->reg[E1000_RCTL] & RCTL_EN;
}

bool e1000_receive(struct e1000 *e, const uint8_t *frame, size_t len, bool valid)
{
	if (!listens(e))
		return !e->paused;
	return e->unplugged || e1000_loops(e) || take(e, frame, len, valid);
}

void e1000_receive_own(struct e1000 *e, const uint8_t *frame, size_t len, bool valid)
{
	if (listens(e) && !take(e, frame, len, valid))
		e1000_count(e, STAT_MPC, 1);
}
