/*
 * The 16550A UART (PC16550D data sheet). Output leaves at once; what the host side does not take stays in the
 * transmitter FIFO, so no byte is lost and no guest time is kept by baud rates. Only the receiver's timeout is a
 * matter of time: the FIFO's bytes below the trigger level interrupt when none came or went for four characters.
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
#define IIR_MSI	    0u
#define IIR_THRI    2u
#define IIR_RDI	    4u
#define IIR_RLSI    6u
#define IIR_CTI	    12u
#define IIR_FIFO    0xc0u
#define FCR_ENABLE  1u
#define FCR_CLEAR_R 2u
#define FCR_CLEAR_T 4u
#define FCR_BITS    0xc9u
#define LCR_STOP    4u
#define LCR_PARITY  8u
#define LCR_BREAK   0x40u
#define LCR_DLAB    0x80u
#define MCR_OUT2    8u
#define MCR_LOOP    0x10u
#define LSR_DR	    1u
#define LSR_OE	    2u
#define LSR_BI	    0x10u
#define LSR_THRE    0x20u
#define LSR_TEMT    0x40u
#define LSR_FIFO    0x80u /* an error is in the receiver FIFO */
#define MSR_CTS	    0x10u
#define MSR_DSR	    0x20u
#define MSR_RI	    0x40u
#define MSR_DCD	    0x80u
#define MSR_TERI    4u
#define MSR_DELTAS  0x0fu
#define FIFO_SIZE   16
#define CLOCK_HZ    115200 /* the crystal's 1.8432 MHz by 16 */
#define NS	    1000000000ll

struct fifo {
	uint8_t byte[FIFO_SIZE], head, count;
};

struct uart {
	struct device dev;
	pthread_mutex_t lock;
	struct uart16550_config cfg;
	struct clock_timer timeout;

	uint8_t ier, fcr, lcr, mcr, scr;
	uint8_t errors; /* of LSR */
	uint8_t deltas; /* of MSR */
	uint16_t divisor;
	struct fifo rx, tx;
	bool thr_pending; /* the transmitter became empty, and IIR has not said so yet */
	bool timed_out;
	uint64_t touched_ns; /* when a byte last came or went in the receiver */
};

/* --- FIFOs --- */

static unsigned capacity(const struct uart *u)
{
	return u->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
}

static void push(struct fifo *f, uint8_t b)
{
	f->byte[(f->head + f->count++) % FIFO_SIZE] = b;
}

static uint8_t pop(struct fifo *f)
{
	uint8_t b = f->byte[f->head];

	f->head = (f->head + 1) % FIFO_SIZE;
	f->count--;
	return b;
}

static unsigned trigger(const struct uart *u)
{
	static const uint8_t levels[] = { 1, 4, 8, 14 };

	return levels[u->fcr >> 6]; /* 1 without FIFOs: the register is 0 then */
}

/* --- the interrupt --- */

/* The cause of the highest priority, as IIR shows it. */
static uint8_t cause(const struct uart *u)
{
	if (u->ier & IER_RLSI && u->errors)
		return IIR_RLSI;
	if (u->ier & IER_RDI && u->rx.count >= trigger(u))
		return IIR_RDI;
	if (u->ier & IER_RDI && u->timed_out)
		return IIR_CTI;
	if (u->ier & IER_THRI && u->thr_pending)
		return IIR_THRI;
	if (u->ier & IER_MSI && u->deltas)
		return IIR_MSI;
	return IIR_NONE;
}

/* A PC's OUT2 lets the interrupt through. */
static void update(struct uart *u)
{
	irq_set(&u->cfg.irq, cause(u) != IIR_NONE && u->mcr & MCR_OUT2);
}

static int64_t four_characters_ns(const struct uart *u)
{
	unsigned bits = 1 + 5 + (u->lcr & 3) + !!(u->lcr & LCR_PARITY) + 1 + !!(u->lcr & LCR_STOP);

	return 4 * bits * (NS * (u->divisor ? u->divisor : 1) / CLOCK_HZ);
}

/* A byte came or went. The timer is not moved each time: it looks when it was the last time. */
static void touched(struct uart *u)
{
	u->timed_out = false;
	u->touched_ns = (uint64_t)clock_now_ns(u->cfg.clock);
	if (u->rx.count && u->rx.count < trigger(u) && !clock_timer_armed(&u->timeout))
		clock_timer_arm(&u->timeout, (int64_t)u->touched_ns + four_characters_ns(u));
}

static void on_timeout(void *opaque)
{
	struct uart *u = opaque;
	int64_t at = (int64_t)u->touched_ns + four_characters_ns(u);

	if (!u->rx.count)
		return;
	if (clock_now_ns(u->cfg.clock) < at) {
		clock_timer_arm(&u->timeout, at);
		return;
	}
	u->timed_out = true;
	update(u);
}

/* --- receiver --- */

static void receive(struct uart *u, uint8_t b, uint8_t error)
{
	if (u->rx.count == capacity(u)) {
		u->errors |= LSR_OE;
		return;
	}
	push(&u->rx, b);
	if (error)
		u->errors |= error | (u->fcr & FCR_ENABLE ? LSR_FIFO : 0);
	touched(u);
}

static void clear_receiver(struct uart *u)
{
	u->rx.head = u->rx.count = 0;
	touched(u);
	char_wake_up(&u->cfg.wake);
}

static uint8_t read_data(struct uart *u)
{
	uint8_t b;

	if (!u->rx.count)
		return 0;
	b = pop(&u->rx);
	touched(u);
	char_wake_up(&u->cfg.wake);
	return b;
}

/* --- transmitter --- */

/* Hand over what the sink takes. */
static void flush(struct uart *u)
{
	if (!u->tx.count)
		return;
	while (u->tx.count && char_sink_write(&u->cfg.sink, &u->tx.byte[u->tx.head], 1))
		pop(&u->tx);
	u->thr_pending = !u->tx.count;
}

/* A byte that finds the FIFO full is lost, as in the real one: the guest was told by THRE. */
static void transmit(struct uart *u, uint8_t b)
{
	if (u->mcr & MCR_LOOP) {
		receive(u, b, 0);
		u->thr_pending = !u->tx.count;
		return;
	}
	if (u->tx.count < capacity(u))
		push(&u->tx, b);
	flush(u);
}

/* --- modem lines: CTS, DSR and DCD are on, RI is not; in the loop they are RTS, DTR, OUT2 and OUT1 --- */

static uint8_t modem_lines(uint8_t mcr)
{
	if (!(mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	return (uint8_t)((mcr & 2 ? MSR_CTS : 0) | (mcr & 1 ? MSR_DSR : 0) | (mcr & 4 ? MSR_RI : 0) |
			 (mcr & 8 ? MSR_DCD : 0));
}

static void write_mcr(struct uart *u, uint8_t v)
{
	uint8_t old = modem_lines(u->mcr), now = modem_lines(v);
	uint8_t deltas = (old ^ now) >> 4 & (uint8_t)~MSR_TERI;

	if (old & ~now & MSR_RI)
		deltas |= MSR_TERI;
	u->deltas |= deltas;
	u->mcr = v & 0x1f;
	char_wake_up(&u->cfg.wake); /* the loop takes no input */
}

/* --- registers --- */

static uint8_t read_iir(struct uart *u)
{
	uint8_t v = cause(u);

	if (v == IIR_THRI)
		u->thr_pending = false;
	return v | (u->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static uint8_t read_lsr(struct uart *u)
{
	uint8_t v = u->errors | (u->rx.count ? LSR_DR : 0) | (u->tx.count ? 0 : LSR_THRE | LSR_TEMT);

	u->errors = 0;
	return v;
}

static uint64_t uart_read(void *opaque, uint64_t off, unsigned size)
{
	struct uart *u = opaque;
	bool dlab = u->lcr & LCR_DLAB;
	uint8_t v = 0;

	switch (off) {
	case RBR_THR:
		v = dlab ? (uint8_t)u->divisor : read_data(u);
		break;
	case IER:
		v = dlab ? (uint8_t)(u->divisor >> 8) : u->ier;
		break;
	case IIR_FCR:
		v = read_iir(u);
		break;
	case LCR:
		v = u->lcr;
		break;
	case MCR:
		v = u->mcr;
		break;
	case LSR:
		v = read_lsr(u);
		break;
	case MSR:
		v = modem_lines(u->mcr) | u->deltas;
		u->deltas = 0;
		break;
	case SCR:
		v = u->scr;
		break;
	}
	update(u);
	return v;
}

/* Bits other than the first count only with it; a change of it empties both FIFOs. */
static void write_fcr(struct uart *u, uint8_t v)
{
	bool changed = (v ^ u->fcr) & FCR_ENABLE;

	u->fcr = v & FCR_ENABLE ? v & FCR_BITS : 0;
	if (changed || (v & FCR_ENABLE && v & FCR_CLEAR_R))
		clear_receiver(u);
	if (u->tx.count && (changed || (v & FCR_ENABLE && v & FCR_CLEAR_T))) {
		u->tx.count = 0;
		u->thr_pending = true;
	}
	touched(u);
}

static void write_ier(struct uart *u, uint8_t v)
{
	/* Enabling it with an empty transmitter interrupts. */
	if (v & ~u->ier & IER_THRI && !u->tx.count)
		u->thr_pending = true;
	u->ier = v & 15;
}

static void write_lcr(struct uart *u, uint8_t v)
{
	/* A break goes nowhere, but in the loop it comes back as a character of zeroes. */
	if (v & ~u->lcr & LCR_BREAK && u->mcr & MCR_LOOP)
		receive(u, 0, LSR_BI);
	u->lcr = v;
	/* The length of a character, and after an access to the divisor its rate, may be another one. */
	clock_timer_cancel(&u->timeout);
	touched(u);
}

static void uart_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct uart *u = opaque;
	bool dlab = u->lcr & LCR_DLAB;
	uint8_t v = (uint8_t)val;

	switch (off) {
	case RBR_THR:
		if (dlab)
			u->divisor = (uint16_t)((u->divisor & 0xff00) | v);
		else
			transmit(u, v);
		break;
	case IER:
		if (dlab)
			u->divisor = (uint16_t)((u->divisor & 0xff) | v << 8);
		else
			write_ier(u, v);
		break;
	case IIR_FCR:
		write_fcr(u, v);
		break;
	case LCR:
		write_lcr(u, v);
		break;
	case MCR:
		write_mcr(u, v);
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
	while (n < len && u->rx.count < capacity(u) && !(u->mcr & MCR_LOOP))
		receive(u, b[n++], 0);
	update(u);
	pthread_mutex_unlock(&u->lock);
	return n;
}

static void can_write(void *opaque)
{
	struct uart *u = opaque;

	pthread_mutex_lock(&u->lock);
	flush(u);
	update(u);
	pthread_mutex_unlock(&u->lock);
}

/* --- life --- */

static void reset(void *self)
{
	struct uart *u = self;

	u->ier = u->fcr = u->lcr = u->mcr = u->scr = 0;
	u->errors = u->deltas = 0;
	u->divisor = 12;
	u->tx.head = u->tx.count = 0;
	u->thr_pending = false;
	clear_receiver(u);
	update(u);
}

static void destroy(void *self)
{
	struct uart *u = self;

	pthread_mutex_lock(&u->lock);
	clock_timer_cancel(&u->timeout);
	pthread_mutex_unlock(&u->lock);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

/* What a saved transmitter holds goes out when the machine resumes: the new host end waits for nothing. */
static int post_load(void *obj, struct err *err)
{
	struct uart *u = obj;

	if (u->rx.head >= FIFO_SIZE || u->rx.count > capacity(u) || u->tx.head >= FIFO_SIZE ||
	    u->tx.count > capacity(u) || u->ier > 15 || u->mcr > 0x1f || u->deltas > MSR_DELTAS || u->fcr & ~FCR_BITS ||
	    u->errors & ~(LSR_OE | LSR_BI | LSR_FIFO) || u->touched_ns > INT64_MAX / 2)
		return err_set(err, "uart16550: a register is out of range");
	if (u->rx.count && !u->timed_out)
		clock_timer_arm(&u->timeout, (int64_t)u->touched_ns + four_characters_ns(u));
	else
		clock_timer_cancel(&u->timeout);
	update(u);
	return 0;
}

static const struct state_field fifo_fields[] = {
	STATE_U8A(struct fifo, byte),
	STATE_U8F(struct fifo, head),
	STATE_U8F(struct fifo, count),
	STATE_FIELD_END,
};
static const struct state_desc fifo_state = { .name = "fifo", .version = 1, .min_version = 1, .fields = fifo_fields };

#define U struct uart
static const struct state_field fields[] = {
	STATE_U8F(U, ier),
	STATE_U8F(U, fcr),
	STATE_U8F(U, lcr),
	STATE_U8F(U, mcr),
	STATE_U8F(U, scr),
	STATE_U8F(U, errors),
	STATE_U8F(U, deltas),
	STATE_U16F(U, divisor),
	STATE_SUB(U, rx, &fifo_state),
	STATE_SUB(U, tx, &fifo_state),
	STATE_BOOLF(U, thr_pending),
	STATE_BOOLF(U, timed_out),
	STATE_U64F(U, touched_ns),
	STATE_FIELD_END,
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
	clock_timer_init(&u->timeout, c->clock, &u->lock, on_timeout, u);
	u->dev = (struct device){ .name = "uart16550",
				  .self = u,
				  .state = &state,
				  .lock = &u->lock,
				  .reset = reset,
				  .resume = can_write,
				  .destroy = destroy };
	strncpy(u->dev.instance, c->instance, sizeof(u->dev.instance) - 1);
	*c->source = (struct char_source){ input, can_write, NULL, u };
	reset(u);
	if (!bus_add(bus, BUS_PORT, c->port, 8, &range, err)) {
		destroy(u);
		return NULL;
	}
	return &u->dev;
}
