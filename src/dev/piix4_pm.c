/*
 * ACPI fixed hardware: PM1 event and control blocks and the 24-bit PM timer (ACPI 6.4, 4.8.3), with the identity of
 * the PIIX4 power management function (82371AB, 01.3). ACPI is always on, and requests to firmware (GBL_RLS) reach
 * nobody. Of the sleeping states there is S5.
 *
 * Without firmware the registers are where a loader's tables say. With firmware they are where it puts them (PMBASE,
 * PMREGMISC), and the APM ports B2h and B3h interrupt the boot processor by SMI (82371AB, 7.2 and 11.5).
 */
#include <stdlib.h>

#include "base/bytes.h"
#include "dev/pc.h"

#define TIMER_HZ    3579545
#define TIMER_BITS  24
#define TMR_STS	    0x0001u
#define PWRBTN_STS  0x0100u
#define STS_BITS    0x8731u /* TMR, BM, GBL, PWRBTN, SLPBTN, RTC, WAK */
#define EN_BITS	    0x0721u
#define SCI_EN	    0x0001u
#define CNT_BITS    0x1c03u /* SCI_EN, BM_RLD, SLP_TYP; GBL_RLS and SLP_EN are write-only */
#define SLP_EN	    0x2000u
#define CFG_PMBASE  0x40
#define CFG_DEVACTB 0x58
#define CFG_MISC    0x80
#define APMC_EN	    (1u << 25) /* of DEVACTB */
#define TIMER	    8u	       /* from PMBASE */
#define REST	    12u
#define GLBSTS	    (0x18 - REST)
#define GLBCTL	    (0x28 - REST)
#define BLOCK	    0x40u
#define APM_STS	    0x20u
#define SMI_EN	    0x01u
#define APM_PORTS   0xb2

struct pm {
	struct device dev;
	pthread_mutex_t lock;
	struct pci_dev pci;
	struct vclock *clock;
	struct irq_line sci;
	struct machine_control machine;
	struct clock_timer overflow;
	uint16_t status, enable, control;
	uint64_t carry; /* the tick at which TMR_STS is set next */
	/* With firmware. */
	bool movable, no_smm;
	struct bus *bus;
	struct bus_handle *block[3]; /* events and control, timer, the rest */
	uint16_t base;		     /* of the block; 0: it is nowhere */
	struct pm_smi smi;
	uint8_t apm[2]; /* APMC, APMS */
	uint8_t glbsts, glbctl;
};

static uint64_t ticks(const struct pm *p)
{
	return (uint64_t)((__int128)clock_now_ns(p->clock) * TIMER_HZ / 1000000000);
}

/* TMR_STS is set each time the timer's highest bit changes. */
static void catch_up(struct pm *p)
{
	uint64_t now = ticks(p), half = 1ull << (TIMER_BITS - 1);

	if (now < p->carry)
		return;
	p->status |= TMR_STS;
	p->carry = (now / half + 1) * half;
}

/* After any change. The carry is waited for only while it would interrupt. */
static void update(struct pm *p)
{
	bool wait = p->enable & ~p->status & TMR_STS;

	irq_set(&p->sci, p->control & SCI_EN && p->status & p->enable);
	clock_timer_arm(&p->overflow,
			wait ? (int64_t)(((__int128)p->carry * 1000000000 + TIMER_HZ - 1) / TIMER_HZ) : CLOCK_NEVER);
}

static void overflowed(void *opaque)
{
	catch_up(opaque);
	update(opaque);
}

/* --- registers: bytes, because they may be written so (4.8.3) --- */

static uint64_t pm_read(void *opaque, uint64_t off, unsigned size)
{
	struct pm *p = opaque;

	catch_up(p);

	const uint16_t regs[4] = { p->status, p->enable, p->control, 0 };
	return regs[off >> 1] >> (off & 1) * 8 & 0xff;
}

static void merge(uint16_t *reg, unsigned shift, uint8_t val, uint16_t bits)
{
	*reg = (uint16_t)((*reg & ~(0xffu << shift)) | ((unsigned)val << shift & bits));
}

/* What the tables said once: machines that were saved then have them still. */
#define SLP_S5_BEFORE 5

static void pm_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct pm *p = opaque;
	unsigned shift = (off & 1) * 8;
	uint16_t v = (uint16_t)(val << shift);
	unsigned type;

	catch_up(p);
	switch (off >> 1) {
	case 0:
		p->status &= (uint16_t)~v;
		break;
	case 1:
		merge(&p->enable, shift, (uint8_t)val, EN_BITS);
		break;
	case 2:
		merge(&p->control, shift, (uint8_t)val, CNT_BITS);
		type = p->control >> 10 & 7;
		if (v & SLP_EN && (type == PM_SLP_S5 || type == SLP_S5_BEFORE))
			p->machine.request(p->machine.opaque, MACHINE_POWER_OFF, 0);
		break;
	}
	update(p);
}

/* The timer must be read whole: 32 bits. */
static uint64_t timer_read(void *opaque, uint64_t off, unsigned size)
{
	return ticks(opaque) & ((1u << TIMER_BITS) - 1);
}

static void timer_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
}

static const struct bus_ops ops = { pm_read, pm_write, { 1, 4 }, { 1, 1 } };
static const struct bus_ops timer_ops = { timer_read, timer_write, { 1, 4 }, { 4, 4 } };

/* --- with firmware: the whole block, wherever it is, and the APM ports --- */

static uint64_t rest_read(void *opaque, uint64_t off, unsigned size)
{
	struct pm *p = opaque;

	return off == GLBSTS ? p->glbsts : off == GLBCTL ? p->glbctl : 0;
}

static void rest_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct pm *p = opaque;

	if (off == GLBSTS)
		p->glbsts &= (uint8_t)~val;
	else if (off == GLBCTL)
		p->glbctl = (uint8_t)val & SMI_EN;
}

static uint64_t apm_read(void *opaque, uint64_t off, unsigned size)
{
	return ((struct pm *)opaque)->apm[off];
}

static void apm_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct pm *p = opaque;

	p->apm[off] = (uint8_t)val;
	if (off || !(ld_le32(p->pci.config + CFG_DEVACTB) & APMC_EN) || !(p->glbctl & SMI_EN))
		return;
	p->glbsts |= APM_STS;
	if (p->smi.raise)
		p->smi.raise(p->smi.opaque);
}

static const struct bus_ops rest_ops = { rest_read, rest_write, { 1, 4 }, { 1, 1 } };
static const struct bus_ops apm_ops = { apm_read, apm_write, { 1, 1 }, { 1, 1 } };

/* Put the block where the registers say; what is taken already stays whose it is. */
static void place(struct pm *p)
{
	uint16_t base = p->pci.config[CFG_MISC] & 1 ? ld_le32(p->pci.config + CFG_PMBASE) & 0xffc0 : 0;
	const struct {
		const struct bus_ops *ops;
		unsigned from, to;
	} parts[] = { { &ops, 0, TIMER }, { &timer_ops, TIMER, REST }, { &rest_ops, REST, BLOCK } };

	if (!p->movable || base == p->base)
		return;
	for (size_t n = 0; n < ARRAY_LEN(parts); n++) {
		struct bus_range range = { "acpi-pm", parts[n].ops, p, &p->lock };
		struct err err;

		if (p->block[n])
			bus_del(p->bus, p->block[n]);
		p->block[n] = base ? bus_add(p->bus, BUS_PORT, base + parts[n].from, parts[n].to - parts[n].from,
					     &range, &err)
				   : NULL;
	}
	p->base = base;
}

static void config_written(struct pci_dev *pci, uint8_t off, uint8_t len)
{
	place(container_of(pci, struct pm, pci));
}

uint16_t piix4_pm_base(const struct device *d)
{
	return ((const struct pm *)d->self)->base;
}

/* As a reset leaves them. */
static void set_config(struct pm *p)
{
	st_le32(p->pci.config + CFG_PMBASE, 1);
	st_le32(p->pci.config + CFG_DEVACTB, p->no_smm ? APMC_EN : 0);
	p->pci.config[CFG_MISC] = 0;
}

static bool make_movable(struct pm *p, struct err *err)
{
	struct bus_range apm = { "apm", &apm_ops, p, &p->lock };

	st_le32(p->pci.wmask + CFG_PMBASE, 0xffc0);
	st_le32(p->pci.wmask + CFG_DEVACTB, APMC_EN);
	p->pci.wmask[CFG_MISC] = 1;
	p->pci.config_written = config_written;
	set_config(p);
	return bus_add(p->bus, BUS_PORT, APM_PORTS, 2, &apm, err);
}

void piix4_pm_power_button(struct device *d)
{
	struct pm *p = d->self;

	pthread_mutex_lock(&p->lock);
	p->status |= PWRBTN_STS;
	update(p);
	pthread_mutex_unlock(&p->lock);
}

static void reset(void *self)
{
	struct pm *p = self;

	p->status = p->enable = 0;
	p->control = SCI_EN;
	p->carry = 0;
	catch_up(p);
	p->status = 0;
	update(p);
	if (!p->movable)
		return;
	p->apm[0] = p->apm[1] = p->glbsts = 0;
	p->glbctl = 0;
	set_config(p);
	place(p);
}

static void destroy(void *self)
{
	struct pm *p = self;

	pthread_mutex_lock(&p->lock);
	clock_timer_cancel(&p->overflow);
	pthread_mutex_unlock(&p->lock);
	pci_unregister(&p->pci);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static int post_load(void *obj, struct err *err)
{
	struct pm *p = obj;
	uint64_t half = 1ull << (TIMER_BITS - 1);

	if (p->status & ~STS_BITS || p->enable & ~EN_BITS || p->control & ~CNT_BITS)
		return err_set(err, "piix4-pm: reserved bits are set");
	if (p->carry % half || p->carry > ticks(p) + half)
		return err_set(err, "piix4-pm: the timer's next carry is not one of its");
	if (p->glbsts & ~APM_STS || p->glbctl & ~SMI_EN)
		return err_set(err, "piix4-pm: reserved bits are set");
	place(p);
	update(p);
	return 0;
}

static const struct state_field apm_fields[] = {
	STATE_U8A(struct pm, apm),
	STATE_U8F(struct pm, glbsts),
	STATE_U8F(struct pm, glbctl),
	STATE_FIELD_END,
};

static bool is_movable(void *obj)
{
	return ((struct pm *)obj)->movable;
}

static const struct state_desc apm_state = {
	.name = "piix4-pm/apm", .version = 1, .min_version = 1, .fields = apm_fields, .needed = is_movable
};
static const struct state_desc *const subsections[] = { &apm_state, NULL };

static const struct state_field fields[] = {
	STATE_SUB(struct pm, pci, &pci_dev_state),
	STATE_U16F(struct pm, status),
	STATE_U16F(struct pm, enable),
	STATE_U16F(struct pm, control),
	STATE_U64F(struct pm, carry),
	STATE_FIELD_END,
};
static const struct state_desc state = {
	.name = "piix4-pm",
	.version = 1,
	.min_version = 1,
	.fields = fields,
	.subsections = subsections,
	.post_load = post_load,
};

/* Where the registers are cannot be changed; Linux reads it to keep others away. */
static bool make_fixed(struct pm *p, struct err *err)
{
	struct bus_range range = { "acpi-pm", &ops, p, &p->lock }, timer = { "acpi-timer", &timer_ops, p, &p->lock };

	st_le32(p->pci.config + CFG_PMBASE, PM_BASE | 1);
	p->pci.config[CFG_MISC] = 1; /* they are on */
	return bus_add(p->bus, BUS_PORT, PM_EVENT, 8, &range, err) &&
	       bus_add(p->bus, BUS_PORT, PM_TIMER, 4, &timer, err);
}

struct device *piix4_pm_new(struct bus *bus, struct pci_bus *pci, const struct piix4_pm_config *c, struct err *err)
{
	struct pm *p = calloc(1, sizeof(*p));

	if (!p) {
		err_set(err, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&p->lock, NULL);
	p->bus = bus;
	p->clock = c->clock;
	p->sci = c->sci;
	p->machine = c->machine;
	p->movable = c->firmware;
	p->no_smm = !c->smi.raise;
	p->smi = c->smi;
	clock_timer_init(&p->overflow, c->clock, &p->lock, overflowed, p);
	p->dev = (struct device){ .name = "piix4-pm",
				  .instance = "00:01.3",
				  .self = p,
				  .state = &state,
				  .lock = &p->lock,
				  .reset = reset,
				  .destroy = destroy };
	pci_dev_init(&p->pci, "piix4-pm", &(struct pci_id){ 0x8086, 0x7113, 0x06800003, 0x1af4, 0x1100 }, &p->lock);
	pci_set_chipset(&p->pci, 0);
	if (!(p->movable ? make_movable : make_fixed)(p, err) || pci_register(pci, &p->pci, 1 << 3 | 3, err)) {
		pthread_mutex_destroy(&p->lock);
		free(p);
		return NULL;
	}
	reset(p);
	return &p->dev;
}
