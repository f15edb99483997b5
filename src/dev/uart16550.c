/*
 * The 16550A UART (PC16550D data sheet). Output leaves at once; when the host side takes nothing the
 * transmitter stays busy until it has room, so no byte is lost and no guest time is kept by baud rates.
 */
#include <stdlib.h>
#include <string.h>

#include "dev/isa.h"

enum { RBR_THR, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR };

#define IER_RDI	    1u
#define IER_THRI    2u
#define IER_RLSI    4u
#define IER_MSI	    8u
#define IIR_NONE    1u
#define IIR_THRI    2u
#define IIR_RDI	    4u
#define IIR_RLSI    6u
#define IIR_CTI	    12u
#define IIR_FIFO    0xc0u
#define FCR_ENABLE  1u
#define FCR_CLEAR_R 2u
#define FCR_CLEAR_T 4u
#define LCR_DLAB    0x80u
#define MCR_OUT2    8u
#define MCR_LOOP    0x10u
#define LSR_DR	    1u
#define LSR_OE	    2u
#define LSR_THRE    0x20u
#define LSR_TEMT    0x40u
#define MSR_LINES   0xb0u /* CTS, DSR, DCD */
#define FIFO_SIZE   16

struct uart {
	struct device dev;
	pthread_mutex_t lock;
	struct uart16550_config cfg;
	struct char_source source;
	struct bus_handle *range;

	uint8_t ier, fcr, lcr, mcr, lsr, msr, scr;
	uint16_t divisor;
	uint8_t fifo[FIFO_SIZE], head, count;
	uint8_t held; /* the byte that the sink did not take */
	bool holding, thr_pending;
};

static unsigned capacity(const struct uart *u)
{
	return u->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
}

static unsigned trigger(const struct uart *u)
{
	static const uint8_t levels[] = { 1, 4, 8, 14 };

	return u->fcr & FCR_ENABLE ? levels[u->fcr >> 6] : 1;
}

/* The interrupt of the highest priority, as IIR shows it. */
static uint8_t cause(const struct uart *u)
{
	if (u->ier & IER_RLSI && u->lsr & LSR_OE)
		return IIR_RLSI;
	if (u->ier & IER_RDI && u->count)
		/* Below the trigger level the character timeout comes; nothing is gained by waiting for it. */
		return u->count >= trigger(u) ? IIR_RDI : IIR_CTI;
	if (u->ier & IER_THRI && u->thr_pending)
		return IIR_THRI;
	if (u->ier & IER_MSI && u->msr & 0xf)
		return 0;
	return IIR_NONE;
}

static void update(struct uart *u)
{
	irq_set(&u->cfg.irq, cause(u) != IIR_NONE && u->mcr & MCR_OUT2);
}

static void receive(struct uart *u, uint8_t b)
{
	if (u->count == capacity(u)) {
		u->lsr |= LSR_OE;
		return;
	}
	u->fifo[(u->head + u->count++) % FIFO_SIZE] = b;
	u->lsr |= LSR_DR;
}

static void transmitted(struct uart *u)
{
	u->lsr |= LSR_THRE | LSR_TEMT;
	u->thr_pending = true;
}

static void transmit(struct uart *u, uint8_t b)
{
	u->thr_pending = false;
	if (u->mcr & MCR_LOOP) {
		receive(u, b);
	} else if (!char_sink_write(&u->cfg.sink, &b, 1)) {
		u->held = b;
		u->holding = true;
		u->lsr &= (uint8_t) ~(LSR_THRE | LSR_TEMT);
		return;
	}
	transmitted(u);
}

static uint8_t read_data(struct uart *u)
{
	uint8_t b;

	if (!u->count)
		return 0;
	b = u->fifo[u->head];
	u->head = (u->head + 1) % FIFO_SIZE;
	if (!--u->count)
		u->lsr &= (uint8_t)~LSR_DR;
	char_wake_up(&u->cfg.wake);
	return b;
}

static uint64_t uart_read(void *opaque, uint64_t off, unsigned size)
{
	struct uart *u = opaque;
	uint8_t v = 0;

	switch (off) {
	case RBR_THR:
		v = u->lcr & LCR_DLAB ? (uint8_t)u->divisor : read_data(u);
		break;
	case IER:
		v = u->lcr & LCR_DLAB ? (uint8_t)(u->divisor >> 8) : u->ier;
		break;
	case IIR_FCR:
		v = cause(u);
		if (v == IIR_THRI)
			u->thr_pending = false;
		v |= u->fcr & FCR_ENABLE ? IIR_FIFO : 0;
		break;
	case LCR:
		v = u->lcr;
		break;
	case MCR:
		v = u->mcr;
		break;
	case LSR:
		v = u->lsr;
		u->lsr &= (uint8_t)~LSR_OE;
		break;
	case MSR:
		v = u->mcr & MCR_LOOP ? (uint8_t)((u->mcr & 12) << 4 | (u->mcr & 2) << 3 | (u->mcr & 1) << 5) : u->msr;
		u->msr &= 0xf0;
		break;
	case SCR:
		v = u->scr;
		break;
	}
	update(u);
	return v;
}

static void write_fcr(struct uart *u, uint8_t v)
{
	if ((v ^ u->fcr) & FCR_ENABLE)
		v |= FCR_CLEAR_R | FCR_CLEAR_T;
	if (v & FCR_CLEAR_R) {
		u->head = u->count = 0;
		u->lsr &= (uint8_t)~LSR_DR;
	}
	u->fcr = v & 0xc9;
}

static void uart_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct uart *u = opaque;
	uint8_t v = (uint8_t)val;

	switch (off) {
	case RBR_THR:
		if (u->lcr & LCR_DLAB)
			u->divisor = (uint16_t)((u->divisor & 0xff00) | v);
		else if (!u->holding)
			transmit(u, v);
		break;
	case IER:
		if (u->lcr & LCR_DLAB) {
			u->divisor = (uint16_t)((u->divisor & 0xff) | v << 8);
			break;
		}
		if (v & ~u->ier & IER_THRI && u->lsr & LSR_THRE)
			u->thr_pending = true;
		u->ier = v & 15;
		break;
	case IIR_FCR:
		write_fcr(u, v);
		break;
	case LCR:
		u->lcr = v;
		break;
	case MCR:
		u->mcr = v & 0x1f;
		break;
	case SCR:
		u->scr = v;
		break;
	}
	update(u);
}

static const struct bus_ops ops = { uart_read, uart_write, { 1, 1 }, { 1, 1 } };

/* --- the host's side --- */

static size_t input(void *opaque, const void *buf, size_t len)
{
	struct uart *u = opaque;
	const uint8_t *b = buf;
	size_t n = 0;

	pthread_mutex_lock(&u->lock);
	while (n < len && u->count < capacity(u) && !(u->mcr & MCR_LOOP))
		receive(u, b[n++]);
	update(u);
	pthread_mutex_unlock(&u->lock);
	return n;
}

static void can_write(void *opaque)
{
	struct uart *u = opaque;

	pthread_mutex_lock(&u->lock);
	if (u->holding && char_sink_write(&u->cfg.sink, &u->held, 1)) {
		u->holding = false;
		transmitted(u);
		update(u);
	}
	pthread_mutex_unlock(&u->lock);
}

/* --- life --- */

static void reset(void *self)
{
	struct uart *u = self;

	u->ier = u->fcr = u->lcr = u->mcr = u->scr = 0;
	u->lsr = LSR_THRE | LSR_TEMT;
	u->msr = MSR_LINES;
	u->divisor = 12;
	u->head = u->count = 0;
	u->holding = u->thr_pending = false;
	update(u);
}

static void destroy(void *self)
{
	struct uart *u = self;

	pthread_mutex_destroy(&u->lock);
	free(u);
}

static int post_load(void *obj, struct err *err)
{
	struct uart *u = obj;

	if (u->head >= FIFO_SIZE || u->count > FIFO_SIZE || u->ier > 15 || u->mcr > 0x1f)
		return err_set(err, "uart16550: a register is out of range");
	update(u);
	return 0;
}

#define U struct uart
static const struct state_field fields[] = {
	STATE_U8F(U, ier),	 STATE_U8F(U, fcr),	      STATE_U8F(U, lcr),   STATE_U8F(U, mcr),
	STATE_U8F(U, lsr),	 STATE_U8F(U, msr),	      STATE_U8F(U, scr),   STATE_U16F(U, divisor),
	STATE_U8A(U, fifo),	 STATE_U8F(U, head),	      STATE_U8F(U, count), STATE_U8F(U, held),
	STATE_BOOLF(U, holding), STATE_BOOLF(U, thr_pending), STATE_FIELD_END,
};
static const struct state_desc state = {
	.name = "uart16550", .version = 1, .min_version = 1, .fields = fields, .post_load = post_load
};

struct device *uart16550_new(struct bus *bus, const struct uart16550_config *c, struct err *err)
{
	struct uart *u = calloc(1, sizeof(*u));
	struct bus_range range = { "uart16550", &ops, u, NULL };

	if (!u) {
		err_set(err, "out of memory");
		return NULL;
	}
	u->cfg = *c;
	pthread_mutex_init(&u->lock, NULL);
	range.lock = &u->lock;
	u->dev = (struct device){
		.name = "uart16550", .self = u, .state = &state, .lock = &u->lock, .reset = reset, .destroy = destroy
	};
	strncpy(u->dev.instance, c->instance, sizeof(u->dev.instance) - 1);
	*c->source = (struct char_source){ input, can_write, NULL, u };
	reset(u);
	if (!bus_add(bus, BUS_PORT, c->port, 8, &range, err)) {
		destroy(u);
		return NULL;
	}
	return &u->dev;
}
