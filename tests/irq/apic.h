/* The processor's side of the local APICs, for tests. */
#ifndef VIREO_TESTS_IRQ_APIC_H
#define VIREO_TESTS_IRQ_APIC_H

#include "../dev/board.h"

#include "irq/x86/impl.h"

static inline uint32_t apic_read(struct board *b, unsigned cpu, uint32_t off)
{
	const struct intc i = irqchip_intc(b->chip);

	return i.ops->mmio_read(i.opaque, cpu, off);
}

static inline void apic_write(struct board *b, unsigned cpu, uint32_t off, uint32_t val)
{
	const struct intc i = irqchip_intc(b->chip);

	i.ops->mmio_write(i.opaque, cpu, off, val);
}

static inline bool apic_rdmsr(struct board *b, unsigned cpu, uint32_t msr, uint64_t *val)
{
	const struct intc i = irqchip_intc(b->chip);

	return i.ops->rdmsr(i.opaque, cpu, msr, val);
}

static inline bool apic_wrmsr(struct board *b, unsigned cpu, uint32_t msr, uint64_t val)
{
	const struct intc i = irqchip_intc(b->chip);

	return i.ops->wrmsr(i.opaque, cpu, msr, val);
}

static inline bool apic_pending(struct board *b, unsigned cpu)
{
	const struct intc i = irqchip_intc(b->chip);

	return i.ops->pending(i.opaque, cpu);
}

static inline int apic_ack(struct board *b, unsigned cpu)
{
	const struct intc i = irqchip_intc(b->chip);

	return i.ops->ack(i.opaque, cpu);
}

static inline void apic_eoi(struct board *b, unsigned cpu)
{
	const struct intc i = irqchip_intc(b->chip);

	if (lapic_x2apic(&b->chip->lapics[cpu]))
		i.ops->wrmsr(i.opaque, cpu, 0x80b, 0);
	else
		i.ops->mmio_write(i.opaque, cpu, LAPIC_EOI, 0);
}

/* As an operating system does first: no virtual wire, software enable, spurious vector FFh. */
static inline void apic_enable(struct board *b, unsigned cpu)
{
	apic_write(b, cpu, LAPIC_SVR, 0x1ff);
	apic_write(b, cpu, LAPIC_LVT + 0x30, LVT_MASKED);
}

static inline void apic_x2(struct board *b, unsigned cpu)
{
	uint64_t base;

	assert_true(apic_rdmsr(b, cpu, 0x1b, &base));
	assert_true(apic_wrmsr(b, cpu, 0x1b, base | 0xc00));
}

/* Vectors taken until nothing waits, each with its EOI; the number of them. */
static inline unsigned apic_drain(struct board *b, unsigned cpu)
{
	unsigned n = 0;

	while (apic_pending(b, cpu) && apic_ack(b, cpu) >= 0) {
		apic_eoi(b, cpu);
		n++;
		assert_true(n < 1000);
	}
	return n;
}

#endif
