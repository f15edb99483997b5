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

#include "base/event.h"

/*
 * News for a vCPU. INTR means "ask intc pending() again"; the others are events in themselves. WAKE is the kick of a
 * paravirtual lock: it ends a halt, or the next one at once.
 */
enum cpu_signal { CPU_SIGNAL_INTR, CPU_SIGNAL_NMI, CPU_SIGNAL_SMI, CPU_SIGNAL_INIT, CPU_SIGNAL_SIPI, CPU_SIGNAL_WAKE };

/* The registers of a local APIC that is not this controller's own, by xAPIC offset / 16 (the ID always as the xAPIC has
 * it), and its MSRs. */
struct intc_lapic {
	uint32_t regs[64];
	uint64_t base, deadline_tsc, pv_eoi; /* the deadline in ticks of the machine's clock; 0: none */
};

/*
 * Local APICs that the engine provides (KVM's split controller): they take the messages of the I/O APIC and of
 * devices, interrupt their vCPUs by themselves, and report the end of level-triggered interrupts by intc_ops.eoi().
 */
struct intc_external {
	/* A write of `data` to `addr` in the local APICs' window (SDM vol. 3, 11.11). False: nobody took it. Any
	 * thread. */
	bool (*send)(void *opaque, uint64_t addr, uint32_t data);
	/* The same by events, as in struct msi_sink; NULL: not here. Any thread. */
	bool (*bind)(void *opaque, const struct event *e, uint64_t addr, uint32_t data);
	void (*unbind)(void *opaque, const struct event *e);
	/* The I/O APIC's pin sends this from now on; its end is to be reported if bit 15 of `data` is set. Any thread.
	 */
	void (*route)(void *opaque, unsigned pin, uint64_t addr, uint32_t data);
	/* vCPUs stopped. */
	void (*get)(void *opaque, unsigned cpu, struct intc_lapic *l);
	void (*set)(void *opaque, unsigned cpu, const struct intc_lapic *l);
	void *opaque;
};

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
	/*
	 * The engine has local APICs of its own, for good; before vCPUs run. What is left of the above then is
	 * pending() and ack() for the 8259, and eoi(): a local APIC completed a level-triggered `vector`. Any thread.
	 */
	void (*attach)(void *opaque, const struct intc_external *x);
	void (*eoi)(void *opaque, uint8_t vector);
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
