/*
 * The watchdog timer of the Intel 6300ESB (data sheet, chapter 16): a first stage that may interrupt, and a second at
 * whose end the machine asks for what its user has chosen for a guest that hangs.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "dev/pc.h"

#define CONFIG 0x60
#define LOCK   0x68

enum { CONFIG_INTERRUPT = 0x03, CONFIG_FAST = 0x04, CONFIG_NO_OUTPUT = 0x20 };
enum { LOCK_LOCKED = 1, LOCK_ENABLED = 2, LOCK_FREE = 4 };
enum { R_PRELOAD1 = 0x0, R_PRELOAD2 = 0x4, R_INTERRUPT = 0x8, R_RELOAD = 0xc };
enum { RELOAD = 0x100, TIMED_OUT = 0x200 };
#define PRELOAD_MASK 0xfffffu
#define PCI_HZ	     33000000ull
#define NS	     1000000000ull
#define NO_INTERRUPT 3
#define MIN_NS	     1000000 /* a shorter stage would only keep the host busy */

struct i6300esb {
	struct device dev;
	pthread_mutex_t lock;
	struct pci_dev pci;
	struct vclock *clock;
	struct clock_timer timer;
	struct machine_control machine;

	/* saved */
	uint32_t preload[2];
	uint8_t locks;	/* as much of LOCK as is in force */
	uint8_t unlock; /* how far the sequence 80h, 86h has come that lets one write through */
	uint8_t stage;	/* 0: stopped; 1, 2 */
	bool interrupted, timed_out;
	uint64_t deadline; /* guest time; 0: stopped */
};

static void stop(struct i6300esb *w)
{
	w->stage = 0;
	w->deadline = 0;
	clock_timer_cancel(&w->timer);
}

/* The counter runs at 33 MHz behind a prescaler of 2^15 or 2^5. */
static void begin(struct i6300esb *w, uint8_t stage)
{
	unsigned shift = w->pci.config[CONFIG] & CONFIG_FAST ? 5 : 15;
	uint64_t ticks = (uint64_t)w->preload[stage - 1] << shift;
	uint64_t ns = ticks * (NS / 1000000) / (PCI_HZ / 1000000);

	w->stage = stage;
	w->deadline = (uint64_t)clock_now_ns(w->clock) + (ns < MIN_NS ? MIN_NS : ns);
	clock_timer_arm(&w->timer, (int64_t)w->deadline);
}

static void set_interrupt(struct i6300esb *w, bool on)
{
	w->interrupted = on;
	pci_intx_set(&w->pci, on);
}

static void expired(void *opaque)
{
	struct i6300esb *w = opaque;

	if (w->stage == 1) {
		if ((w->pci.config[CONFIG] & CONFIG_INTERRUPT) != NO_INTERRUPT)
			set_interrupt(w, true);
		begin(w, 2);
		return;
	}
	w->timed_out = true;
	if (w->locks & LOCK_FREE)
		begin(w, 1);
	else
		stop(w);
	if (!(w->pci.config[CONFIG] & CONFIG_NO_OUTPUT))
		w->machine.request(w->machine.opaque, MACHINE_WATCHDOG, 0);
}

/* With the lock of the bridge, so the registers are at rest. */
static void config_written(struct pci_dev *d, uint8_t off, uint8_t len)
{
	struct i6300esb *w = container_of(d, struct i6300esb, pci);

	if (off > LOCK || off + len <= LOCK)
		return;
	pthread_mutex_lock(&w->lock);
	if (w->locks & LOCK_LOCKED) { /* until the next reset */
		d->config[LOCK] = w->locks;
	} else {
		uint8_t was = w->locks;

		w->locks = d->config[LOCK];
		if (w->locks & ~was & LOCK_ENABLED)
			begin(w, 1);
		else if (!(w->locks & LOCK_ENABLED))
			stop(w);
	}
	pthread_mutex_unlock(&w->lock);
}

static uint64_t bar_read(void *opaque, uint64_t off, unsigned size)
{
	const struct i6300esb *w = opaque;

	switch (off) {
	case R_INTERRUPT:
		return w->interrupted;
	case R_RELOAD:
		return w->timed_out ? TIMED_OUT | 0x1000 : 0;
	default:
		return 0; /* the preloads can only be written */
	}
}

static void bar_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct i6300esb *w = opaque;
	bool unlocked = w->unlock == 2;

	if (off == R_INTERRUPT) {
		if (val & 1)
			set_interrupt(w, false);
		return;
	}
	if (off == R_RELOAD && !unlocked && (val == 0x80 || val == 0x86)) {
		w->unlock = val == 0x80 ? 1 : w->unlock == 1 ? 2 : 0;
		return;
	}
	w->unlock = 0;
	if (!unlocked)
		return;
	if (off == R_RELOAD) {
		if (val & TIMED_OUT)
			w->timed_out = false;
		if (val & RELOAD && w->stage)
			begin(w, 1);
	} else {
		w->preload[off == R_PRELOAD2] = (uint32_t)val & PRELOAD_MASK;
	}
}

static const struct bus_ops ops = { bar_read, bar_write, { 1, 4 }, { 4, 4 } };

/* That it has timed out outlasts the reset which follows. */
static void reset(void *self)
{
	struct i6300esb *w = self;

	stop(w);
	w->preload[0] = w->preload[1] = PRELOAD_MASK;
	w->locks = w->unlock = 0;
	w->interrupted = false;
}

static void destroy(void *self)
{
	struct i6300esb *w = self;

	pthread_mutex_lock(&w->lock);
	clock_timer_cancel(&w->timer);
	pthread_mutex_unlock(&w->lock);
	pci_unregister(&w->pci);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

static int post_load(void *obj, struct err *err)
{
	struct i6300esb *w = obj;

	if ((w->preload[0] | w->preload[1]) & ~PRELOAD_MASK || w->locks & ~7 || w->unlock > 2 || w->stage > 2 ||
	    w->deadline > INT64_MAX - 1 || w->interrupted != w->pci.intx_level)
		return err_set(err, "i6300esb: the watchdog is out of range");
	if (w->stage)
		clock_timer_arm(&w->timer, (int64_t)w->deadline);
	else
		clock_timer_cancel(&w->timer);
	return 0;
}

#define W struct i6300esb
static const struct state_field fields[] = {
	STATE_SUB(W, pci, &pci_dev_state),
	STATE_U32A(W, preload),
	STATE_U8F(W, locks),
	STATE_U8F(W, unlock),
	STATE_U8F(W, stage),
	STATE_BOOLF(W, interrupted),
	STATE_BOOLF(W, timed_out),
	STATE_U64F(W, deadline),
	STATE_FIELD_END,
};
static const struct state_desc state = {
	.name = "i6300esb", .version = 1, .min_version = 1, .fields = fields, .post_load = post_load
};

struct device *i6300esb_new(struct pci_bus *pci, uint8_t devfn, struct vclock *clock, const struct machine_control *m,
			    struct err *err)
{
	struct i6300esb *w = calloc(1, sizeof(*w));
	struct bus_range range = { "i6300esb", &ops, w, NULL };

	if (!w) {
		err_set(err, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&w->lock, NULL);
	range.lock = &w->lock;
	w->clock = clock;
	w->machine = *m;
	clock_timer_init(&w->timer, clock, &w->lock, expired, w);
	w->dev = (struct device){
		.name = "i6300esb", .self = w, .state = &state, .lock = &w->lock, .reset = reset, .destroy = destroy
	};
	snprintf(w->dev.instance, sizeof(w->dev.instance), "00:%02x.0", devfn >> 3 & 0x1f);
	pci_dev_init(&w->pci, "i6300esb", &(struct pci_id){ 0x8086, 0x25ab, 0x08800000, 0x1af4, 0x1100 }, &w->lock);
	pci_set_bar(&w->pci, 0, PCI_BAR_MEM32, false, 16, &range);
	pci_set_intx_pin(&w->pci, 1);
	w->pci.wmask[CONFIG] = CONFIG_INTERRUPT | CONFIG_FAST | CONFIG_NO_OUTPUT;
	w->pci.wmask[LOCK] = LOCK_LOCKED | LOCK_ENABLED | LOCK_FREE;
	w->pci.config_written = config_written;
	reset(w);
	if (pci_register(pci, &w->pci, devfn, err)) {
		pthread_mutex_destroy(&w->lock);
		free(w);
		return NULL;
	}
	return &w->dev;
}
