/*
 * The high precision event timers (IA-PC HPET specification 1.0a). They stand between the 8254 and the clock on one
 * side and interrupts 0 and 8 on the other, which they take away in legacy replacement mode. Constructor: the thread
 * that owns the machine.
 */
#ifndef VIREO_DEV_HPET_H
#define VIREO_DEV_HPET_H

#include "bus/bus.h"
#include "bus/device.h"
#include "clock/clock.h"
#include "irq/irq.h"

#define HPET_BASE	0xfed00000u
#define HPET_SIZE	0x400u
#define HPET_MIN_TIMERS 3
#define HPET_MAX_TIMERS 32

struct hpet_config {
	struct bus *bus;
	struct vclock *clock;
	struct irq_line irq0, irq8; /* pins 2 and 8 of the I/O APIC */
	struct msi_sink msi;
	unsigned timers;
	bool fsb; /* timers can send messages */
	/* Filled: where the 8254's and the clock's interrupts go in. */
	struct irq_line *pit, *rtc;
};
struct device *hpet_new(const struct hpet_config *c, struct err *err);
/* The low word of its capabilities, as the ACPI table repeats it. */
uint32_t hpet_id(unsigned timers);

#endif
