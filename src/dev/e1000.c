/*
 * The Intel 82540EM: registers, interrupts and life. SDM 13; e1000_tx.c and e1000_rx.c move frames, e1000_nvm.c has
 * EEPROM and PHY. Left out: 82542's second set of addresses, the packet buffer's memory, wake-up, flow control (a peer
 * that has no room waits), and UDP segmentation.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "dev/e1000_impl.h"

#define BAR_SIZE  0x20000u
#define IO_SIZE	  64u
#define MAP_WORDS (0x5900 / 4)
#define ITR_NS	  256u
#define TIME_MAX  (1ull << 62)
#define STATUS_UP 0x283u /* full duplex, link, 1000 Mbit/s as detected */
#define RAH_VALID (1u << 31)
#define RAH_MASK  0x8003ffffu /* address, what it is compared with, valid (13.5.3) */
#define TXCW_MASK 0xc000ffffu

/* --- where registers are --- */

static const uint8_t map[MAP_WORDS] = {
	[0x0000 / 4] = E1000_CTRL,
	[0x0004 / 4] = E1000_CTRL,
	[0x0008 / 4] = E1000_STATUS,
	[0x0010 / 4] = E1000_EECD,
	[0x0014 / 4] = E1000_EERD,
	[0x0018 / 4] = E1000_CTRL_EXT,
	[0x0020 / 4] = E1000_MDIC,
	[0x0028 / 4] = E1000_FCAL,
	[0x002c / 4] = E1000_FCAH,
	[0x0030 / 4] = E1000_FCT,
	[0x0038 / 4] = E1000_VET,
	[0x00c0 / 4] = E1000_ICR,
	[0x00c4 / 4] = E1000_ITR,
	[0x00c8 / 4] = E1000_ICS,
	[0x00d0 / 4] = E1000_IMS,
	[0x00d8 / 4] = E1000_IMC,
	[0x0100 / 4] = E1000_RCTL,
	[0x0170 / 4] = E1000_FCTTV,
	[0x0178 / 4] = E1000_TXCW,
	[0x0400 / 4] = E1000_TCTL,
	[0x0410 / 4] = E1000_TIPG,
	[0x0458 / 4] = E1000_AIT,
	[0x0e00 / 4] = E1000_LEDCTL,
	[0x1000 / 4] = E1000_PBA,
	[0x2160 / 4] = E1000_FCRTL,
	[0x2168 / 4] = E1000_FCRTH,
	[0x2800 / 4] = E1000_RDBAL,
	[0x2804 / 4] = E1000_RDBAH,
	[0x2808 / 4] = E1000_RDLEN,
	[0x2810 / 4] = E1000_RDH,
	[0x2818 / 4] = E1000_RDT,
	[0x2820 / 4] = E1000_RDTR,
	[0x2828 / 4] = E1000_RXDCTL,
	[0x282c / 4] = E1000_RADV,
	[0x2c00 / 4] = E1000_RSRPD,
	[0x3000 / 4] = E1000_TXDMAC,
	[0x3800 / 4] = E1000_TDBAL,
	[0x3804 / 4] = E1000_TDBAH,
	[0x3808 / 4] = E1000_TDLEN,
	[0x3810 / 4] = E1000_TDH,
	[0x3818 / 4] = E1000_TDT,
	[0x3820 / 4] = E1000_TIDV,
	[0x3828 / 4] = E1000_TXDCTL,
	[0x382c / 4] = E1000_TADV,
	[0x3830 / 4] = E1000_TSPMT,
	[0x4000 / 4 ... 0x4124 / 4] = E1000_STATS,
	[0x5000 / 4] = E1000_RXCSUM,
	[0x5200 / 4 ... 0x53fc / 4] = E1000_MTA,
	[0x5400 / 4 ... 0x547c / 4] = E1000_RA,
	[0x5600 / 4 ... 0x57fc / 4] = E1000_VFTA,
	[0x5800 / 4] = E1000_WUC,
	[0x5808 / 4] = E1000_WUFC,
	[0x5810 / 4] = E1000_WUS,
	[0x5820 / 4] = E1000_MANC,
	[0x5838 / 4] = E1000_IPAV,
};

/* What a guest can set of plain registers, and what they are after a reset. */
static const struct {
	uint32_t mask, value;
} words[E1000_WORDS] = {
	[E1000_CTRL] = { 0x5bfc1be9, 0x00140240 },
	[E1000_STATUS] = { 0, STATUS_UP },
	[E1000_CTRL_EXT] = { 0xffffdfff, 0 },
	[E1000_FCAL] = { 0xffffffff, 0x00c28001 },
	[E1000_FCAH] = { 0xffff, 0x0100 },
	[E1000_FCT] = { 0xffff, 0x8808 },
	[E1000_VET] = { 0xffff, 0x8100 },
	[E1000_ITR] = { 0xffff, 0 },
	[E1000_RCTL] = { 0x06fffffe, 0 },
	[E1000_FCTTV] = { 0xffff, 0 },
	[E1000_TCTL] = { 0x03fffffa, 0 },
	[E1000_TIPG] = { 0x3fffffff, 0x00602008 },
	[E1000_AIT] = { 0xffff, 0 },
	[E1000_LEDCTL] = { 0xcfcfcfcf, 0x07068302 },
	[E1000_PBA] = { 0xffff, 0x00100030 },
	[E1000_FCRTL] = { 0x8000fff8, 0 },
	[E1000_FCRTH] = { 0x8000fff8, 0 },
	[E1000_RDBAL] = { 0xfffffff0, 0 },
	[E1000_RDBAH] = { 0xffffffff, 0 },
	[E1000_RDLEN] = { 0xfff80, 0 },
	[E1000_RDH] = { 0xffff, 0 },
	[E1000_RDT] = { 0xffff, 0 },
	[E1000_RDTR] = { 0xffff, 0 },
	[E1000_RXDCTL] = { 0x013f3f3f, 0x01000000 },
	[E1000_RADV] = { 0xffff, 0 },
	[E1000_RSRPD] = { 0xfff, 0 },
	[E1000_TXDMAC] = { 1, 1 },
	[E1000_TDBAL] = { 0xfffffff0, 0 },
	[E1000_TDBAH] = { 0xffffffff, 0 },
	[E1000_TDLEN] = { 0xfff80, 0 },
	[E1000_TDH] = { 0xffff, 0 },
	[E1000_TDT] = { 0xffff, 0 },
	[E1000_TIDV] = { 0xffff, 0 },
	[E1000_TXDCTL] = { 0xff3f3f3f, 0 },
	[E1000_TADV] = { 0xffff, 0 },
	[E1000_TSPMT] = { 0xffffffff, 0x01000400 },
	[E1000_RXCSUM] = { 0x7ff, 0 },
	[E1000_WUC] = { 0xf, 0 },
	[E1000_WUFC] = { 0xf80ff, 0 },
	[E1000_MANC] = { 0xffffffff, 0 },
	[E1000_IPAV] = { 0x1010f, 0 },
};

/* Of a row behind E1000_WORDS. */
static uint32_t *other_word(struct e1000 *e, unsigned row, uint32_t off)
{
	switch (row) {
	case E1000_TXCW:
		return &e->txcw;
	case E1000_STATS:
		return &e->stat[(off - 0x4000) / 4];
	case E1000_MTA:
		return &e->mta[(off - 0x5200) / 4];
	case E1000_RA:
		return &e->ra[(off - 0x5400) / 4];
	default:
		return &e->vfta[(off - 0x5600) / 4];
	}
}

/* --- interrupts --- */

static uint64_t now(const struct e1000 *e)
{
	return (uint64_t)clock_now_ns(e->clock);
}

static void set_line(struct e1000 *e, bool level)
{
	if (level != e->line)
		pci_intx_set(&e->pci, level);
	e->line = level;
}

/* The line follows ICR and IMS, but rises when it is due and ITR lets it. */
static void update(struct e1000 *e)
{
	uint64_t t, at;

	if (!(e->reg[E1000_ICR] & e->reg[E1000_IMS])) {
		e->due = CLOCK_NEVER;
		set_line(e, false);
	}
	if (e->due == CLOCK_NEVER || e->line) {
		clock_timer_cancel(&e->timer);
		return;
	}
	t = now(e);
	at = e->due > e->quiet_until ? e->due : e->quiet_until;
	if (at > t) {
		clock_timer_arm(&e->timer, (int64_t)at);
		return;
	}
	clock_timer_cancel(&e->timer);
	e->due = CLOCK_NEVER;
	e->quiet_until = t + (uint64_t)e->reg[E1000_ITR] * ITR_NS;
	set_line(e, true);
}

static void expired(void *opaque)
{
	update(opaque);
}

static void want(struct e1000 *e, uint64_t delay)
{
	uint64_t at = now(e) + delay;

	if (!e->line && e->reg[E1000_ICR] & e->reg[E1000_IMS] && at < e->due)
		e->due = at;
	update(e);
}

void e1000_raise(struct e1000 *e, uint32_t causes, uint64_t delay)
{
	e->reg[E1000_ICR] |= causes & ICR_MASK;
	if (causes & e->reg[E1000_IMS])
		want(e, delay);
}

/* --- what both directions need --- */

void e1000_kick(struct e1000 *e)
{
	const uint64_t one = 1;

	if (!atomic_exchange(&e->kicked, true) && write(e->kick_fd, &one, sizeof(one)) < 0)
		return; /* a full counter is awake already */
}

void e1000_count(struct e1000 *e, unsigned stat, uint64_t n)
{
	e->stat[stat] = n > UINT32_MAX - e->stat[stat] ? UINT32_MAX : e->stat[stat] + (uint32_t)n;
}

void e1000_count_octets(struct e1000 *e, unsigned stat, uint64_t n)
{
	uint64_t v = ((uint64_t)e->stat[stat + 1] << 32 | e->stat[stat]) + n;

	e->stat[stat] = (uint32_t)v;
	e->stat[stat + 1] = (uint32_t)(v >> 32);
}

unsigned e1000_size_class(size_t len)
{
	static const uint16_t up_to[] = { 64, 127, 255, 511, 1023 };
	unsigned n = 0;

	while (n < ARRAY_LEN(up_to) && len > up_to[n])
		n++;
	return n;
}

bool e1000_may_work(const struct e1000 *e)
{
	return !e->paused && pci_bus_master(&e->pci);
}

gpa_t e1000_descriptor(const struct e1000 *e, enum e1000_reg base, uint32_t n)
{
	return gpa(((uint64_t)e->reg[base + 1] << 32 | e->reg[base]) + (uint64_t)n * E1000_DESC);
}

static void kicked(void *opaque, int fd, uint32_t events)
{
	struct e1000 *e = opaque;
	eventfd_t count;
	bool tell;

	if (eventfd_read(fd, &count))
		return;
	atomic_store(&e->kicked, false);
	pthread_mutex_lock(&e->lock);
	if (e1000_transmit(e))
		e1000_kick(e);
	tell = e->starved && !e->paused;
	if (tell)
		e->starved = false;
	pthread_mutex_unlock(&e->lock);
	if (tell && e->peer->ops->ready)
		e->peer->ops->ready(e->peer);
}

static bool receive(void *opaque, const uint8_t *frame, size_t len, const struct net_offload *o)
{
	struct e1000 *e = opaque;
	bool taken;

	pthread_mutex_lock(&e->lock);
	taken = e1000_receive(e, frame, len, o->valid);
	pthread_mutex_unlock(&e->lock);
	return taken;
}

static void writable(void *opaque)
{
	e1000_kick(opaque);
}

/* --- registers --- */

static void reset_mac(struct e1000 *e)
{
	uint32_t wake = e->reg[E1000_WUS];

	for (unsigned n = 0; n < E1000_WORDS; n++)
		e->reg[n] = words[n].value;
	e->reg[E1000_WUS] = wake;
	e->resets++;
	e->eeprom = (struct e1000_eeprom){ .out = true };
	memset(e->stat, 0, sizeof(e->stat));
	memset(e->mta, 0, sizeof(e->mta));
	memset(e->vfta, 0, sizeof(e->vfta));
	memset(e->ra, 0, sizeof(e->ra));
	e->ra[0] = (uint32_t)e->eeprom_data[1] << 16 | e->eeprom_data[0];
	e->ra[1] = RAH_VALID | e->eeprom_data[2];
	e->txcw = 0;
	memset(e->context, 0, sizeof(e->context));
	e->packet.open = false;
	e->packet.len = 0;
	e->waits = false;
	e->quiet_until = 0;
	update(e);
}

static uint32_t reg_read(struct e1000 *e, uint32_t off)
{
	unsigned row = off < MAP_WORDS * 4 ? map[off / 4] : E1000_NONE;
	uint32_t v, *word;

	switch (row) {
	case E1000_NONE:
	case E1000_IMC:
		return 0;
	case E1000_EECD:
		return e1000_eecd_read(e);
	case E1000_STATUS:
		return e->reg[row] & ~(e->unplugged ? STATUS_LU : 0);
	case E1000_ICR: /* reading acknowledges */
		v = e->reg[E1000_ICR];
		e->reg[E1000_ICR] = 0;
		update(e);
		return v;
	case E1000_ICS: /* the same without that */
		return e->reg[E1000_ICR];
	case E1000_STATS: /* clear on read */
		word = other_word(e, row, off);
		v = *word;
		*word = 0;
		return v;
	case E1000_MTA:
	case E1000_RA:
	case E1000_VFTA:
	case E1000_TXCW:
		return *other_word(e, row, off);
	default:
		return e->reg[row];
	}
}

static void write_ctrl(struct e1000 *e, uint32_t val)
{
	if (val & CTRL_PHY_RST) {
		e1000_phy_reset(e);
		if (!e->unplugged)
			e1000_raise(e, ICR_LSC, 0);
	}
	if (val & CTRL_RST)
		reset_mac(e);
	else
		e->reg[E1000_CTRL] = val & words[E1000_CTRL].mask;
}

static void reg_write(struct e1000 *e, uint32_t off, uint32_t val)
{
	unsigned row = off < MAP_WORDS * 4 ? map[off / 4] : E1000_NONE;

	switch (row) {
	case E1000_NONE:
	case E1000_STATS:
	case E1000_STATUS:
		return;
	case E1000_RA:
		*other_word(e, row, off) = val & (off & 4 ? RAH_MASK : UINT32_MAX);
		return;
	case E1000_TXCW:
		e->txcw = val & TXCW_MASK;
		return;
	case E1000_MTA:
	case E1000_VFTA:
		*other_word(e, row, off) = val;
		return;
	case E1000_CTRL:
		write_ctrl(e, val);
		return;
	case E1000_CTRL_EXT:
		e->reg[row] = val & words[row].mask;
		if (val & CTRL_EXT_EE_RST)
			reset_mac(e);
		return;
	case E1000_EECD:
		e1000_eecd_write(e, val);
		return;
	case E1000_EERD:
		e1000_eerd_write(e, val);
		return;
	case E1000_MDIC:
		e1000_mdic_write(e, val);
		return;
	case E1000_ICR:
		e->reg[E1000_ICR] &= ~val;
		update(e);
		return;
	case E1000_ICS:
		e1000_raise(e, val, 0);
		return;
	case E1000_IMS:
		e->reg[E1000_IMS] |= val & ICR_MASK;
		want(e, 0);
		return;
	case E1000_IMC:
		e->reg[E1000_IMS] &= ~val;
		update(e);
		return;
	case E1000_WUS:
		e->reg[row] &= ~val;
		return;
	default:
		e->reg[row] = val & words[row].mask;
	}
	if (row == E1000_TDT || row == E1000_TCTL || row == E1000_RDT || row == E1000_RCTL)
		e1000_kick(e);
}

static uint64_t bar_read(void *opaque, uint64_t off, unsigned size)
{
	return reg_read(opaque, (uint32_t)off);
}

static void bar_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	reg_write(opaque, (uint32_t)off, (uint32_t)val);
}

/* IOADDR and IODATA, SDM 13.2.2.2. */
static uint64_t io_read(void *opaque, uint64_t off, unsigned size)
{
	struct e1000 *e = opaque;

	return off == 0 ? e->io_addr : off == 4 ? reg_read(e, e->io_addr) : 0;
}

static void io_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct e1000 *e = opaque;

	if (off == 0)
		e->io_addr = (uint32_t)val & (BAR_SIZE - 4);
	else if (off == 4)
		reg_write(e, e->io_addr, (uint32_t)val);
}

static const struct bus_ops bar_ops = { bar_read, bar_write, { 1, 8 }, { 4, 4 } };
static const struct bus_ops io_ops = { io_read, io_write, { 1, 4 }, { 4, 4 } };

/* The command register may let it work. With the lock of the bridge. */
static void config_written(struct pci_dev *d, uint8_t off, uint8_t len)
{
	struct e1000 *e = container_of(d, struct e1000, pci);

	if (off <= 4 && off + len > 4)
		e1000_kick(e);
}

/* --- life --- */

static void reset(void *self)
{
	struct e1000 *e = self;

	e->io_addr = 0;
	e->reg[E1000_WUS] = 0;
	e1000_phy_reset(e);
	reset_mac(e);
}

static void drain(void *self)
{
	struct e1000 *e = self;

	pthread_mutex_lock(&e->lock);
	e->paused = true;
	pthread_mutex_unlock(&e->lock);
}

static void resume(void *self)
{
	struct e1000 *e = self;

	pthread_mutex_lock(&e->lock);
	e->paused = false;
	e->starved = true; /* the peer may have been sent away */
	pthread_mutex_unlock(&e->lock);
	e1000_kick(e);
}

static void unmake(struct e1000 *e)
{
	loop_fd_del(e->kick_watch);
	if (e->kick_fd >= 0)
		close(e->kick_fd);
	e->peer->ops->destroy(e->peer);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

static void destroy(void *self)
{
	struct e1000 *e = self;

	pthread_mutex_lock(&e->lock);
	clock_timer_cancel(&e->timer);
	pthread_mutex_unlock(&e->lock);
	pci_unregister(&e->pci);
	unmake(e);
}

/* Bits that the card itself sets in registers whose mask is about the guest. */
static uint32_t own_bits(unsigned reg)
{
	switch (reg) {
	case E1000_EECD:
	case E1000_EERD:
	case E1000_MDIC:
		return UINT32_MAX;
	case E1000_ICR:
	case E1000_IMS:
		return ICR_MASK;
	default:
		return words[reg].value;
	}
}

static int post_load(void *obj, struct err *err)
{
	struct e1000 *e = obj;

	for (unsigned n = 0; n < E1000_WORDS; n++)
		if (e->reg[n] & ~(words[n].mask | own_bits(n)))
			return err_set(err, "e1000: register %u is out of range", n);
	/* What is gathered leaves room for a tag, as take_data() does. */
	if (e->packet.len > NET_FRAME_MAX - (e->packet.open ? 4 : 0) || e->eeprom.at >= E1000_EEPROM ||
	    e->eeprom.bits_out > 15 || e->eeprom.bits_in > 9 || e->io_addr & ~(BAR_SIZE - 4) || e->txcw & ~TXCW_MASK ||
	    e->quiet_until > TIME_MAX || (e->due > TIME_MAX && e->due != CLOCK_NEVER) || e->line != e->pci.intx_level)
		return err_set(err, "e1000: the card is out of range");
	update(e);
	e1000_kick(e);
	return 0;
}

#define E struct e1000
static const struct state_field eeprom_fields[] = {
	STATE_BOOLF(struct e1000_eeprom, sk),
	STATE_BOOLF(struct e1000_eeprom, cs),
	STATE_BOOLF(struct e1000_eeprom, out),
	STATE_BOOLF(struct e1000_eeprom, reading),
	STATE_U8F(struct e1000_eeprom, bits_in),
	STATE_U16F(struct e1000_eeprom, command),
	STATE_U8F(struct e1000_eeprom, at),
	STATE_U8F(struct e1000_eeprom, bits_out),
	STATE_FIELD_END,
};
static const struct state_desc eeprom_state = {
	.name = "eeprom", .version = 1, .min_version = 1, .fields = eeprom_fields
};

/* The beginning of a packet whose end the driver has not given yet. */
static bool packet_needed(void *obj)
{
	return ((const struct e1000 *)obj)->packet.open;
}

static const struct state_field packet_fields[] = {
	STATE_BOOLF(E, packet.segment), STATE_U8F(E, packet.popts), STATE_BOOLF(E, packet.dropped),
	STATE_U32F(E, packet.len),	STATE_U8A(E, packet.frame), STATE_FIELD_END,
};
static const struct state_desc packet_state = {
	.name = "packet", .version = 1, .min_version = 1, .fields = packet_fields, .needed = packet_needed
};

static bool cable_needed(void *obj)
{
	return ((const struct e1000 *)obj)->unplugged;
}

static const struct state_field cable_fields[] = { STATE_BOOLF(E, unplugged), STATE_FIELD_END };
static const struct state_desc cable_state = {
	.name = "cable", .version = 1, .min_version = 1, .fields = cable_fields, .needed = cable_needed
};

static bool txcw_needed(void *obj)
{
	return ((const struct e1000 *)obj)->txcw;
}

static const struct state_field txcw_fields[] = { STATE_U32F(E, txcw), STATE_FIELD_END };
static const struct state_desc txcw_state = {
	.name = "txcw", .version = 1, .min_version = 1, .fields = txcw_fields, .needed = txcw_needed
};
static const struct state_desc *const parts[] = { &packet_state, &cable_state, &txcw_state, NULL };

static const struct state_field fields[] = {
	STATE_SUB(E, pci, &pci_dev_state),
	STATE_U32A(E, reg),
	STATE_U32A(E, stat),
	STATE_U32A(E, mta),
	STATE_U32A(E, ra),
	STATE_U32A(E, vfta),
	STATE_U16A(E, phy),
	STATE_SUB(E, eeprom, &eeprom_state),
	STATE_U32F(E, io_addr),
	STATE_ARRAY_(STATE_U32, uint32_t, E, context),
	STATE_BOOLF(E, packet.open),
	STATE_U64F(E, quiet_until),
	STATE_U64F(E, due),
	STATE_BOOLF(E, line),
	STATE_FIELD_END,
};
static const struct state_desc state = {
	.name = "e1000", .version = 1, .min_version = 1, .fields = fields, .post_load = post_load, .subsections = parts
};

void e1000_set_link(struct device *d, bool up)
{
	struct e1000 *e = d->self;

	pthread_mutex_lock(&e->lock);
	if (e->unplugged == up) {
		e->unplugged = !up;
		e1000_raise(e, ICR_LSC, 0);
	}
	pthread_mutex_unlock(&e->lock);
}

void e1000_announce(struct device *d)
{
	struct e1000 *e = d->self;
	uint8_t mac[8];
	bool on;

	pthread_mutex_lock(&e->lock);
	st_le32(mac, e->ra[0]);
	st_le32(mac + 4, e->ra[1]);
	on = !e->unplugged && e->ra[1] & RAH_VALID;
	pthread_mutex_unlock(&e->lock);
	if (on)
		net_announce(e->peer, mac);
}

static void unplugged(void *opaque)
{
	struct e1000 *e = opaque;

	e1000_set_link(&e->dev, false);
}

static int init(struct e1000 *e, const struct e1000_config *c, struct err *err)
{
	struct bus_range mem = { "e1000", &bar_ops, e, &e->lock }, io = { "e1000-io", &io_ops, e, &e->lock };

	e->dev = (struct device){ .name = "e1000",
				  .self = e,
				  .state = &state,
				  .lock = &e->lock,
				  .reset = reset,
				  .drain = drain,
				  .resume = resume,
				  .destroy = destroy };
	snprintf(e->dev.instance, sizeof(e->dev.instance), "00:%02x.0", c->devfn >> 3 & 0x1f);
	pci_dev_init(&e->pci, "e1000", &(struct pci_id){ 0x8086, 0x100e, 0x02000003, 0x1af4, 0x1100 }, &e->lock);
	pci_set_bar(&e->pci, 0, PCI_BAR_MEM32, false, BAR_SIZE, &mem);
	pci_set_bar(&e->pci, 1, PCI_BAR_IO, false, IO_SIZE, &io);
	pci_set_intx_pin(&e->pci, 1);
	e->pci.config_written = config_written;
	e1000_eeprom_fill(e, c->mac);
	e->due = CLOCK_NEVER;
	reset(e);
	e->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (e->kick_fd < 0)
		return err_errno(err, errno, "e1000: eventfd");
	e->kick_watch = loop_fd_add(c->loop, e->kick_fd, EPOLLIN, kicked, e, err);
	return e->kick_watch && !pci_register(c->pci, &e->pci, c->devfn, err) ? 0 : -1;
}

struct device *e1000_new(const struct e1000_config *c, struct err *err)
{
	struct e1000 *e = calloc(1, sizeof(*e));

	if (!e) {
		c->peer->ops->destroy(c->peer);
		err_set(err, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&e->lock, NULL);
	e->mem = c->mem;
	e->clock = c->clock;
	e->loop = c->loop;
	e->peer = c->peer;
	e->kick_fd = -1;
	clock_timer_init(&e->timer, c->clock, &e->lock, expired, e);
	if (init(e, c, err)) {
		unmake(e);
		return NULL;
	}
	e->peer->receiver = (struct net_receiver){ receive, writable, e, unplugged };
	net_set_guest(e->peer, 0, 1); /* it gets complete frames */
	return &e->dev;
}
