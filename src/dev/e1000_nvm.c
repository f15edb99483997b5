/*
 * The e1000's EEPROM (SDM 5), by EERD and by the pins of its Microwire bus, and the registers of its PHY (IEEE 802.3
 * clause 22, and Marvell's 88E1011S). The EEPROM cannot be written: the card is what the machine's configuration says.
 */
#include "dev/e1000_impl.h"

enum { EECD_SK = 1, EECD_CS = 2, EECD_DI = 4, EECD_DO = 8, EECD_REQ = 0x40, EECD_GNT = 0x80, EECD_PRES = 0x100 };
enum { EERD_START = 1, EERD_DONE = 0x10 };
#define EECD_KEPT    (EECD_SK | EECD_CS | EECD_DI | 0x30u | EECD_REQ)
#define EEPROM_SUM   0xbaba /* of all words */
#define EEPROM_LAST  0x3f
#define READ_COMMAND 6u /* start bit and opcode 10b */
#define COMMAND_BITS 9u

/* SDM 5.6. The identity is that of the PCI function. */
void e1000_eeprom_fill(struct e1000 *e, const uint8_t mac[6])
{
	uint16_t *w = e->eeprom_data, sum = 0;

	for (unsigned n = 0; n < 3; n++)
		w[n] = ld_le16(mac + 2 * n);
	w[0x04] = 0xffff; /* LEDs: the default */
	w[0x08] = 0xe000; /* the board's number: none */
	w[0x0a] = 0x4003; /* signature; identities are loaded from here */
	w[0x0b] = ld_le16(e->pci.config + 0x2e);
	w[0x0c] = ld_le16(e->pci.config + 0x2c);
	w[0x0d] = ld_le16(e->pci.config + 2);
	w[0x0e] = ld_le16(e->pci.config);
	w[0x0f] = 0x3040; /* full duplex, speed by the PHY */
	for (unsigned n = 0; n < EEPROM_LAST; n++)
		sum += w[n];
	w[EEPROM_LAST] = (uint16_t)(EEPROM_SUM - sum);
}

uint32_t e1000_eecd_read(const struct e1000 *e)
{
	uint32_t v = e->reg[E1000_EECD];

	return v | EECD_PRES | (v & EECD_REQ ? EECD_GNT : 0) | (e->eeprom.out ? EECD_DO : 0);
}

/* A rising edge of the clock while the chip is selected. */
static void clock_bit(struct e1000 *e, bool in)
{
	struct e1000_eeprom *p = &e->eeprom;

	if (p->reading) { /* reads go on with the next word */
		p->out = e->eeprom_data[p->at % E1000_EEPROM] >> (15 - p->bits_out) & 1;
		if (++p->bits_out == 16) {
			p->bits_out = 0;
			p->at = (p->at + 1) % E1000_EEPROM;
		}
		return;
	}
	if (!p->bits_in && !in) /* waits for the start bit */
		return;
	if (p->bits_in == COMMAND_BITS)
		return; /* what is written to it goes nowhere */
	p->command = (uint16_t)(p->command << 1 | in);
	if (++p->bits_in < COMMAND_BITS)
		return;
	p->reading = p->command >> 6 == READ_COMMAND;
	p->at = p->command & 0x3f;
	p->bits_out = 0;
	/* A read begins with a 0 (the dummy bit); anything else is done at once: ready. */
	p->out = !p->reading;
}

void e1000_eecd_write(struct e1000 *e, uint32_t val)
{
	struct e1000_eeprom *p = &e->eeprom;
	bool sk = val & EECD_SK, cs = val & EECD_CS;

	e->reg[E1000_EECD] = val & EECD_KEPT;
	if (!cs) {
		*p = (struct e1000_eeprom){ .out = true };
	} else if (sk && !p->sk && p->cs) {
		clock_bit(e, val & EECD_DI);
	}
	p->sk = sk;
	p->cs = cs;
}

void e1000_eerd_write(struct e1000 *e, uint32_t val)
{
	uint32_t at = val >> 8 & 0xff;

	if (!(val & EERD_START)) {
		e->reg[E1000_EERD] = val & 0xff00;
		return;
	}
	e->reg[E1000_EERD] = (uint32_t)(at < E1000_EEPROM ? e->eeprom_data[at] : 0xffff) << 16 | at << 8 | EERD_DONE;
}

/* --- PHY --- */

enum { PHY_CTRL = 0, PHY_STATUS = 1 };
enum { PHY_CTRL_RESET = 0x8000, PHY_CTRL_LOOPBACK = 0x4000, PHY_CTRL_RESTART = 0x0200, PHY_CTRL_AUTO = 0x1000 };

/* What can be written; the link partner can do everything. Without a cable the last bits are clear. */
static const struct {
	uint8_t reg;
	uint16_t value, writable, of_link;
} phy_regs[] = {
	{ PHY_CTRL, 0x1140, 0x7dc0 },	 /* 1000 Mbit/s, full duplex, autonegotiation */
	{ PHY_STATUS, 0x796d, 0, 0x24 }, /* link, autonegotiation has ended */
	{ 2, 0x0141, 0 },		 /* identity */
	{ 3, 0x0c20, 0 },
	{ 4, 0x0de1, 0xffff },	   /* advertised */
	{ 5, 0x41e1, 0, 0xffff },  /* the partner's abilities */
	{ 6, 0x000f, 0, 0x3 },	   /* it autonegotiates, too */
	{ 7, 0x2001, 0xffff },	   /* next page */
	{ 9, 0x0e00, 0xff00 },	   /* 1000BASE-T */
	{ 10, 0x3c00, 0, 0x3c00 }, /* the partner's, and that both hear each other */
	{ 15, 0x3000, 0 },
	{ 16, 0x0360, 0xffff },	   /* the 88E1011S's own: control, */
	{ 17, 0xac08, 0, 0xac08 }, /* status: 1000 Mbit/s, full duplex, link */
	{ 18, 0x0000, 0xffff },
	{ 20, 0x0d60, 0xffff },
	{ 21, 0x0000, 0 },
	{ 29, 0x0000, 0xffff }, /* a page, and what is written to it */
	{ 30, 0x0000, 0xffff },
};

void e1000_phy_reset(struct e1000 *e)
{
	memset(e->phy, 0, sizeof(e->phy));
	for (unsigned n = 0; n < ARRAY_LEN(phy_regs); n++)
		e->phy[phy_regs[n].reg] = phy_regs[n].value;
}

static uint16_t phy_read(const struct e1000 *e, unsigned reg)
{
	uint16_t lost = 0;

	for (unsigned n = 0; e->unplugged && n < ARRAY_LEN(phy_regs); n++)
		if (phy_regs[n].reg == reg)
			lost = phy_regs[n].of_link;
	return (uint16_t)(e->phy[reg] & ~lost);
}

/*
 * By the PHY's control register (13.4.8; IEEE 802.3, 22.2.4.1.2: nothing goes to the medium or comes from it), or by
 * RCTL (13.4.22). Of LBM's values only 11b is defined; drivers have names for the others, which say the same of a card
 * with a PHY.
 */
bool e1000_loops(const struct e1000 *e)
{
	return e->phy[PHY_CTRL] & PHY_CTRL_LOOPBACK || e->reg[E1000_RCTL] & RCTL_LBM;
}

/* Negotiation has ended, if there is a partner. */
static void negotiated(struct e1000 *e)
{
	if (!e->unplugged)
		e1000_raise(e, ICR_LSC, 0);
}

static void phy_write(struct e1000 *e, unsigned reg, uint16_t val)
{
	uint16_t mask = 0;

	for (unsigned n = 0; n < ARRAY_LEN(phy_regs); n++)
		if (phy_regs[n].reg == reg)
			mask = phy_regs[n].writable;
	if (reg == PHY_CTRL && val & PHY_CTRL_RESET) {
		e1000_phy_reset(e);
		negotiated(e);
		return;
	}
	/* It takes no time. */
	if (reg == PHY_CTRL && val & PHY_CTRL_AUTO && val & PHY_CTRL_RESTART)
		negotiated(e);
	e->phy[reg] = (uint16_t)((e->phy[reg] & ~mask) | (val & mask));
}

#define MDIC_READY     (1u << 28)
#define MDIC_INTERRUPT (1u << 29)
#define MDIC_ERROR     (1u << 30)
#define MDIC_PHY       1u
enum { MDIC_WRITE = 1, MDIC_READ = 2 };

/* SDM 13.4.8. There is one PHY, at address 1. */
void e1000_mdic_write(struct e1000 *e, uint32_t val)
{
	unsigned reg = val >> 16 & 31, op = val >> 26 & 3;

	val &= 0x2fffffff;
	if ((val >> 21 & 31) != MDIC_PHY) {
		val |= MDIC_ERROR | (op == MDIC_READ ? 0xffff : 0);
	} else if (op == MDIC_WRITE) {
		phy_write(e, reg, (uint16_t)val);
	} else if (op == MDIC_READ) {
		val = (val & 0xffff0000) | phy_read(e, reg);
	} else {
		val |= MDIC_ERROR;
	}
	e->reg[E1000_MDIC] = val | MDIC_READY;
	if (val & MDIC_INTERRUPT)
		e1000_raise(e, ICR_MDAC, 0);
}
