/*
 * What a vCPU sees of its interrupt controller. The software engines call these from the vCPU's
 * own thread; the controller tells the vCPU of news through intc_wiring.signal.
 *
 * The registers of a local APIC belong to its vCPU thread. Other threads only set bits in the
 * local APIC's atomic posted-interrupt words and signal. So pending/ack/msr/mmio run without locks
 * against other vCPUs.
 */
#ifndef VIREO_IRQ_INTC_H
#define VIREO_IRQ_INTC_H

#include <stdbool.h>
#include <stdint.h>

/*
 * News for a vCPU. INTR means "ask intc pending() again"; the others are events in themselves. WAKE is the kick of a
 * paravirtual lock: it ends a halt, or the next one at once.
 */
enum cpu_signal { CPU_SIGNAL_INTR, CPU_SIGNAL_NMI, CPU_SIGNAL_SMI, CPU_SIGNAL_INIT, CPU_SIGNAL_SIPI, CPU_SIGNAL_WAKE };

struct intc_ops {
	/* An interrupt above the processor priority (or ExtINT from the 8259) waits for vCPU `cpu`. */
	bool (*pending)(void *opaque, unsigned cpu);
	/* Accept it: the vector, or -1 if it has gone away (nothing changed then). */
	int (*ack)(void *opaque, unsigned cpu);
	/* CR8 (bits 7:4 of TPR). */
	uint8_t (*get_cr8)(void *opaque, unsigned cpu);
	void (*set_cr8)(void *opaque, unsigned cpu, uint8_t v);
	/*
	 * APIC_BASE (0x1b), x2APIC (0x800-0x8ff), TSC_DEADLINE (0x6e0), KVM PV EOI (0x4b564d04).
	 * False: #GP(0).
	 */
	bool (*rdmsr)(void *opaque, unsigned cpu, uint32_t msr, uint64_t *val);
	bool (*wrmsr)(void *opaque, unsigned cpu, uint32_t msr, uint64_t val);
	/*
	 * The xAPIC page: true with the offset in the page if `addr` lies in this vCPU's enabled xAPIC
	 * window, so that the engine calls mmio below instead of the bus.
	 */
	bool (*mmio_hit)(void *opaque, unsigned cpu, uint64_t addr, uint32_t *offset);
	uint32_t (*mmio_read)(void *opaque, unsigned cpu, uint32_t offset);
	void (*mmio_write)(void *opaque, unsigned cpu, uint32_t offset, uint32_t val);
	/* An interrupt command, as ICR bits 31:0, to the processor with APIC ID `dest`; no command register changes. */
	void (*ipi)(void *opaque, unsigned cpu, uint32_t icr, uint32_t dest);
	/* After INIT of the vCPU: APIC registers to their INIT state. `bsp` from APIC_BASE. */
	void (*init)(void *opaque, unsigned cpu);
};

struct intc {
	const struct intc_ops *ops;
	void *opaque;
};

/* Given to the controller when it is made; signal() may be called from any thread. */
struct intc_wiring {
	void (*signal)(void *opaque, unsigned cpu, enum cpu_signal what, uint8_t sipi_vector);
	void *opaque;
};

#endif
