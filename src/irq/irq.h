/*
 * Interrupt lines and message-signalled interrupts, as values.
 *
 * An irq line is a function, its opaque and a number. Raising and lowering may be done from any
 * thread; the function takes the lock of the controller behind it and never calls back.
 */
#ifndef VIREO_IRQ_IRQ_H
#define VIREO_IRQ_IRQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/event.h"

struct irq_line {
	void (*fn)(void *opaque, unsigned n, bool level);
	void *opaque;
	unsigned n;
};

/* A line with fn == NULL is not connected. */
static inline void irq_set(const struct irq_line *l, bool level)
{
	if (l->fn)
		l->fn(l->opaque, l->n, level);
}

/* An edge: up and down. */
static inline void irq_pulse(const struct irq_line *l)
{
	irq_set(l, true);
	irq_set(l, false);
}

/*
 * Where message-signalled interrupts go: a write of `data` to `addr`. A sink may be able to wait for an event itself,
 * so that whoever sends needs to know neither. Any thread.
 */
struct msi_sink {
	void (*send)(void *opaque, uint64_t addr, uint32_t data);
	void *opaque;
	/*
	 * From now on what is added to `e` sends the message, and so does what was added before. False: this message,
	 * or one more of them, cannot be waited for. NULL: none can.
	 */
	bool (*bind)(void *opaque, const struct event *e, uint64_t addr, uint32_t data);
	/* No longer: on return all has arrived that was added, and what is added from then on stays in the event. */
	void (*unbind)(void *opaque, const struct event *e);
};

static inline void msi_send(const struct msi_sink *s, uint64_t addr, uint32_t data)
{
	s->send(s->opaque, addr, data);
}

#endif
