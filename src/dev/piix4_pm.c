/* ACPI fixed hardware: PM1 event and control, the PM timer. ACPI 6.4, 4.8.3. The PIIX4 function 01.3. */
#include <stdlib.h>

#include "base/bytes.h"
#include "dev/pc.h"

#define TIMER_HZ   3579545
#define TMR_STS	   0x0001u
#define PWRBTN_STS 0x0100u
#define RTC_STS	   0x0400u
#define STS_ALL	   (TMR_STS | PWRBTN_STS | RTC_STS | 0x0230u)
#define SCI_EN	   0x0001u
#define SLP_EN	   0x2000u

struct pm {
	struct device dev;
	pthread_mutex_t lock;
	struct pci_dev pci;
	struct vclock *clock;
	struct irq_line sci;
	struct machine_control machine;
	struct clock_timer overflow;
	uint16_t status, enable, control;
};

static uint64_t ticks(const struct pm *p)
{
	return (uint64_t)((__int128)clock_now_ns(p->clock) * TIMER_HZ / 1000000000);
}

static void update(struct pm *p)
{
	irq_set(&p->sci, p->control & SCI_EN && p->status & p->enable);
}

/* TMR_STS is set each time bit 23 of the timer changes. Only watched while it is asked for. */
static void arm(struct pm *p)
{
	uint64_t next = align_up(ticks(p) + 1, 1u << 23);

	if (p->enable & TMR_STS)
		clock_timer_arm(&p->overflow, (int64_t)((__int128)next * 1000000000 / TIMER_HZ) + 1);
	else
		clock_timer_cancel(&p->overflow);
}

static void overflowed(void *opaque)
{
	struct pm *p = opaque;

	p->status |= TMR_STS;
	update(p);
	arm(p);
}

static uint64_t pm_read(void *opaque, uint64_t off, unsigned size)
{
	struct pm *p = opaque;

	switch (off) {
	case 0:
		return p->status;
	case 2:
		return p->enable;
	case 4:
		return p->control;
	}
	return 0;
}

static void pm_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct pm *p = opaque;

	switch (off) {
	case 0:
		p->status &= (uint16_t)~val;
		break;
	case 2:
		p->enable = (uint16_t)val & STS_ALL;
		arm(p);
		break;
	case 4:
		p->control = (uint16_t)val & 0x1c07;
		if (val & SLP_EN && (val >> 10 & 7) == PM_SLP_S5)
			p->machine.request(p->machine.opaque, MACHINE_POWER_OFF, 0);
		break;
	}
	update(p);
}

/* The timer must be read whole: 32 bits. Everything else is 16-bit registers. */
static uint64_t timer_read(void *opaque, uint64_t off, unsigned size)
{
	return ticks(opaque) & 0xffffff;
}

static void timer_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
}

static const struct bus_ops ops = { pm_read, pm_write, { 1, 4 }, { 2, 2 } };
static const struct bus_ops timer_ops = { timer_read, timer_write, { 1, 4 }, { 4, 4 } };

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
	/* No SMI handler switches to ACPI: it is always on. */
	p->control = SCI_EN;
	clock_timer_cancel(&p->overflow);
	update(p);
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

	if (p->enable & ~STS_ALL || p->control & ~0x1c07)
		return err_set(err, "piix4-pm: reserved bits are set");
	update(p);
	arm(p);
	return 0;
}

static const struct state_field fields[] = {
	STATE_SUB(struct pm, pci, &pci_dev_state),
	STATE_U16F(struct pm, status),
	STATE_U16F(struct pm, enable),
	STATE_U16F(struct pm, control),
	STATE_FIELD_END,
};
static const struct state_desc state = {
	.name = "piix4-pm", .version = 1, .min_version = 1, .fields = fields, .post_load = post_load
};

struct device *piix4_pm_new(struct bus *bus, struct pci_bus *pci, struct vclock *clock, struct irq_line sci,
			    const struct machine_control *m, struct err *err)
{
	struct pm *p = calloc(1, sizeof(*p));
	struct bus_range range = { "acpi-pm", &ops, p, NULL }, timer = { "acpi-timer", &timer_ops, p, NULL };

	if (!p) {
		err_set(err, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&p->lock, NULL);
	range.lock = timer.lock = &p->lock;
	p->clock = clock;
	p->sci = sci;
	p->machine = *m;
	clock_timer_init(&p->overflow, clock, &p->lock, overflowed, p);
	p->dev = (struct device){ .name = "piix4-pm",
				  .instance = "00:01.3",
				  .self = p,
				  .state = &state,
				  .lock = &p->lock,
				  .reset = reset,
				  .destroy = destroy };
	pci_dev_init(&p->pci, "piix4-pm", 0x8086, 0x7113, 0x06800003, 0x1af4, 0x1100, &p->lock);
	p->pci.config[0x40] = PM_BASE & 0xff;
	p->pci.config[0x41] = PM_BASE >> 8;
	p->pci.config[0x80] = 1; /* the I/O space is on */
	if (pci_register(pci, &p->pci, 1 << 3 | 3, err)) {
		pthread_mutex_destroy(&p->lock);
		free(p);
		return NULL;
	}
	reset(p);
	if (!bus_add(bus, BUS_PORT, PM_EVENT, 8, &range, err) || !bus_add(bus, BUS_PORT, PM_TIMER, 4, &timer, err)) {
		destroy(p);
		return NULL;
	}
	return &p->dev;
}
