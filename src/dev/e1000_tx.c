/*
 * The e1000's transmitter: descriptors of the three kinds (SDM 3.3) become frames, and what is to be done to them what
 * struct net_offload can say, or is done here.
 */
#include "dev/e1000_impl.h"

#define TURN	128u /* descriptors before the loop does something else */
#define TIDV_NS 1024u

/* The last four bytes of the first half of a descriptor's second word: commands. */
enum {
	CMD_EOP = 0x01,
	CMD_IFCS = 0x02,
	CMD_IC = 0x04,	/* legacy */
	CMD_TSE = 0x04, /* extended */
	CMD_RS = 0x08,
	CMD_DEXT = 0x20,
	CMD_VLE = 0x40,
	CMD_IDE = 0x80
};
enum { POPTS_IP = 1, POPTS_TCP = 2 };
enum { TUCMD_TCP = 1, TUCMD_IP4 = 2, TUCMD_TSE = 4 };
enum { DTYP_CONTEXT = 0, DTYP_DATA = 1 };
#define STATUS_DD 1u

/* A context descriptor, taken apart. */
struct context {
	uint32_t ipcss, ipcso, ipcse, tucss, tucso, tucse, hdrlen, mss, cmd;
};

static struct context context_of(const uint32_t w[4])
{
	return (struct context){
		.ipcss = w[0] & 0xff,
		.ipcso = w[0] >> 8 & 0xff,
		.ipcse = w[0] >> 16,
		.tucss = w[1] & 0xff,
		.tucso = w[1] >> 8 & 0xff,
		.tucse = w[1] >> 16,
		.cmd = w[2] >> 24,
		.hdrlen = w[3] >> 8 & 0xff,
		.mss = w[3] >> 16,
	};
}

static uint32_t sum(const uint8_t *b, size_t len, uint32_t s)
{
	for (; len > 1; b += 2, len -= 2)
		s += ld_be16(b);
	return len ? s + ((uint32_t)*b << 8) : s;
}

static uint16_t fold(uint32_t s)
{
	s = (s & 0xffff) + (s >> 16);
	return (uint16_t)((s & 0xffff) + (s >> 16));
}

/* The checksum of [first, last] at `at`; `last` 0: to the end. What does not lie in the frame is left alone. */
static void insert_sum(uint8_t *f, size_t len, uint32_t first, uint32_t at, uint32_t last)
{
	size_t end = last && last + 1 < len ? last + 1 : len;

	if (first < end && range_within(at, 2, len))
		st_be16(f + at, (uint16_t)~fold(sum(f + first, end - first, 0)));
}

/* A checksum to the end of the frame is left to the peer, who may not need it. */
static void offer_sum(struct e1000 *e, uint32_t first, uint32_t at, uint32_t last)
{
	if (last || at < first || first >= e->packet.len || !range_within(at, 2, e->packet.len)) {
		insert_sum(e->packet.frame, e->packet.len, first, at, last);
		return;
	}
	e->offload.checksum = true;
	e->offload.csum_start = (uint16_t)first;
	e->offload.csum_offset = (uint16_t)(at - first);
}

/*
 * A packet to be cut: lengths and the sum of the pseudo header, which drivers leave to the card (SDM 3.5), as peers
 * expect them. False: it is none that can be.
 */
static bool prepare_segments(struct e1000 *e, const struct context *c)
{
	uint8_t *f = e->packet.frame, *ip = f + c->ipcss;
	size_t len = e->packet.len, tcp = c->tucss;
	bool v4 = c->cmd & TUCMD_IP4;
	uint32_t pseudo = 6;

	if (!(c->cmd & TUCMD_TCP) || !c->mss || c->hdrlen > len || c->tucso != tcp + 16 ||
	    tcp < c->ipcss + (v4 ? 20u : 40u) || tcp + 20 > len)
		return false;
	if (len - c->hdrlen > c->mss) {
		e->offload.gso = v4 ? NET_GSO_TCP4 : NET_GSO_TCP6;
		e->offload.mss = (uint16_t)c->mss;
		e1000_count(e, STAT_TSCTC, 1);
	}
	pseudo += (uint32_t)(len - tcp);
	if (v4) {
		st_be16(ip + 2, (uint16_t)(len - (size_t)(ip - f)));
		st_be16(ip + 10, 0);
		st_be16(ip + 10, (uint16_t)~fold(sum(ip, tcp - (size_t)(ip - f), 0)));
		pseudo = sum(ip + 12, 8, pseudo);
	} else {
		st_be16(ip + 4, (uint16_t)(len - (size_t)(ip - f) - 40));
		pseudo = sum(ip + 8, 32, pseudo);
	}
	st_be16(f + tcp + 16, fold(pseudo));
	offer_sum(e, (uint32_t)tcp, (uint32_t)tcp + 16, 0);
	return true;
}

/* Behind the addresses; what the offload says of places moves with what is behind. */
static void insert_vlan(struct e1000 *e, uint16_t tag)
{
	if (e->packet.len < 12 || e->packet.len + 4 > sizeof(e->packet.frame))
		return;
	memmove(e->packet.frame + 16, e->packet.frame + 12, e->packet.len - 12);
	st_be16(e->packet.frame + 12, (uint16_t)e->reg[E1000_VET]);
	st_be16(e->packet.frame + 14, tag);
	e->packet.len += 4;
	if (e->offload.checksum)
		e->offload.csum_start += 4;
}

static void count_sent(struct e1000 *e)
{
	size_t len = e->packet.len + E1000_FCS;

	e1000_count(e, STAT_TPT, 1);
	e1000_count(e, STAT_GPTC, 1);
	e1000_count(e, STAT_PTC64 + e1000_size_class(len), 1);
	e1000_count_octets(e, STAT_TOTL, len);
	e1000_count_octets(e, STAT_GOTCL, len);
	if (!memcmp(e->packet.frame, "\xff\xff\xff\xff\xff\xff", 6))
		e1000_count(e, STAT_BPTC, 1);
	else if (e->packet.frame[0] & 1)
		e1000_count(e, STAT_MPTC, 1);
}

/* The peer is called without the lock. */
static void send_frame(struct e1000 *e)
{
	const struct net_offload o = e->offload;
	unsigned resets = e->resets;
	size_t len = e->packet.len;
	bool sent;

	e->waits = false;
	if (e->unplugged)
		return;
	pthread_mutex_unlock(&e->lock);
	sent = net_send(e->peer, e->packet.frame, len, &o);
	pthread_mutex_lock(&e->lock);
	e->waits = !sent && e->resets == resets;
}

/* Sums that the driver has made are not known to be right. */
static void come_back(void *opaque, const uint8_t *frame, size_t len)
{
	struct e1000 *e = opaque;

	e1000_receive_own(e, frame, len, e->offload.checksum);
}

/* All of a packet is there. `lower`, `upper`: the words of its last descriptor. */
static void finish(struct e1000 *e, uint32_t lower, uint32_t upper)
{
	struct e1000_packet *p = &e->packet;
	const struct context c = context_of(e->context[p->segment]);
	uint32_t cmd = lower >> 24;

	p->open = false;
	if (p->dropped || p->len < 14)
		return;
	e->offload = (struct net_offload){ 0 };
	if (!(cmd & CMD_IFCS) && !p->segment && e->packet.len > 14 + E1000_FCS)
		e->packet.len -= E1000_FCS; /* the driver has made it */
	if (p->segment) {
		if (!prepare_segments(e, &c))
			return;
	} else if (!(cmd & CMD_DEXT)) {
		if (cmd & CMD_IC)
			offer_sum(e, upper >> 8 & 0xff, lower >> 16 & 0xff, 0);
	} else {
		if (p->popts & POPTS_IP)
			insert_sum(e->packet.frame, e->packet.len, c.ipcss, c.ipcso, c.ipcse);
		if (p->popts & POPTS_TCP)
			offer_sum(e, c.tucss, c.tucso, c.tucse);
	}
	if (cmd & CMD_VLE && e->reg[E1000_CTRL] & CTRL_VME)
		insert_vlan(e, (uint16_t)(upper >> 16));
	if (e->reg[E1000_TCTL] & TCTL_PSP && e->packet.len < 60) {
		memset(e->packet.frame + e->packet.len, 0, 60 - e->packet.len);
		e->packet.len = 60;
	}
	count_sent(e);
	if (e1000_loops(e))
		net_segment(p->frame, p->len, &e->offload, come_back, e);
	else
		send_frame(e);
}

static void take_data(struct e1000 *e, uint64_t addr, uint32_t lower, uint32_t upper)
{
	struct e1000_packet *p = &e->packet;
	bool extended = lower >> 24 & CMD_DEXT;
	uint32_t len = lower & (extended ? 0xfffff : 0xffff);

	if (!p->open) {
		p->open = true;
		p->segment = extended && lower >> 24 & CMD_TSE;
		p->popts = extended ? upper >> 8 & 0xff : 0;
		p->dropped = false;
		p->len = 0;
	}
	/* One byte more than would fit with a VLAN tag is too much. */
	if (len > sizeof(p->frame) - 4 - p->len || (len && !mem_read(e->mem, gpa(addr), p->frame + p->len, len)))
		p->dropped = true;
	else
		p->len += len;
	if (lower >> 24 & CMD_EOP)
		finish(e, lower, upper);
}

struct reports {
	bool now, later;
};

/* Descriptor `at`; false: the bus does not reach it, or no longer. */
static bool take(struct e1000 *e, uint32_t at, struct reports *r)
{
	gpa_t where = e1000_descriptor(e, E1000_TDBAL, at);
	unsigned resets = e->resets;
	uint32_t lower, upper, cmd;
	uint8_t d[E1000_DESC];

	if (!mem_read(e->mem, where, d, sizeof(d)))
		return false;
	lower = ld_le32(d + 8);
	upper = ld_le32(d + 12);
	cmd = lower >> 24;
	if (!(cmd & CMD_DEXT) || (lower >> 20 & 15) == DTYP_DATA) {
		take_data(e, ld_le64(d), lower, upper);
	} else if ((lower >> 20 & 15) == DTYP_CONTEXT) {
		for (unsigned n = 0; n < 4; n++)
			e->context[!!(cmd & TUCMD_TSE)][n] = ld_le32(d + 4 * n);
	}
	/* The driver may have reset the card while its frame was sent. */
	if (e->resets != resets || !pci_bus_master(&e->pci))
		return false;
	if (cmd & CMD_RS) {
		d[12] |= STATUS_DD;
		mem_write(e->mem, gpa(where.v + 12), d + 12, 1);
		*(cmd & CMD_IDE && e->reg[E1000_TIDV] ? &r->later : &r->now) = true;
	}
	return true;
}

bool e1000_transmit(struct e1000 *e)
{
	struct reports r = { 0 };
	unsigned resets = e->resets;
	uint32_t turn = 0;

	if (e->waits && e1000_may_work(e))
		send_frame(e);
	while (!e->waits && e1000_may_work(e) && e->reg[E1000_TCTL] & TCTL_EN &&
	       e->reg[E1000_TDH] != e->reg[E1000_TDT] && turn++ < TURN) {
		uint32_t count = e->reg[E1000_TDLEN] / E1000_DESC, at = e->reg[E1000_TDH];

		if (at >= count || e->reg[E1000_TDT] >= count)
			break; /* never ends otherwise */
		e->reg[E1000_TDH] = at + 1 < count ? at + 1 : 0;
		if (!take(e, at, &r))
			break;
	}
	if (e->resets != resets)
		return false;
	if (turn)
		e1000_raise(e, (r.now ? ICR_TXDW : 0) | (e->reg[E1000_TDH] == e->reg[E1000_TDT] ? ICR_TXQE : 0), 0);
	if (r.later)
		e1000_raise(e, ICR_TXDW, (uint64_t)e->reg[E1000_TIDV] * TIDV_NS);
	return turn > TURN;
}
