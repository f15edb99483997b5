/*
 * The interrupt controllers of a PC, in user space: a local APIC for each vCPU, one I/O APIC with 24
 * pins, and the pair of 8259s. SDM vol. 3, chapter 11; 82093AA; 8259A.
 *
 * Making and freeing: the thread that owns the machine. The intc operations: see irq/intc.h. Lines
 * and MSIs: any thread. The register functions have the shape of bus_ops and are called with
 * the lock that irqchip_lock() returns (the APICs' page is reached through the intc).
 */
#ifndef VIREO_IRQ_X86_IRQCHIP_H
#define VIREO_IRQ_X86_IRQCHIP_H

#include <pthread.h>
#include <stdio.h>

#include "base/err.h"
#include "base/state.h"
#include "clock/clock.h"
#include "irq/intc.h"
#include "irq/irq.h"
#include "mem/mem.h"

#define IRQCHIP_MAX_CPUS 255
#define IRQCHIP_PINS	 24
#define IOAPIC_BASE	 0xfec00000ull
#define IOAPIC_SIZE	 0x1000
#define LAPIC_BASE	 0xfee00000ull

struct irqchip;

struct irqchip_config {
	struct mem_space *mem; /* for KVM's paravirtual EOI flag */
	struct vclock *clock;
	struct intc_wiring wiring;
	unsigned cpus;
};

struct irqchip *irqchip_new(const struct irqchip_config *c, struct err *err);
void irqchip_free(struct irqchip *chip);

struct intc irqchip_intc(struct irqchip *chip);
/* Once the engine has attached what it has. */
struct msi_sink irqchip_msi(struct irqchip *chip);
/*
 * Interrupt `n`: 0-15 are the ISA interrupts, which go to the 8259s and the I/O APIC (0 to pin 2, as the
 * MADT says); 16-23 exist on the I/O APIC only.
 */
struct irq_line irqchip_line(struct irqchip *chip, unsigned n);

/* Power-on state of all but the local APICs' identity. vCPUs stopped. */
void irqchip_reset(struct irqchip *chip);

/* --- registers, for the bus --- */
pthread_mutex_t *irqchip_ioapic_lock(struct irqchip *chip);
uint64_t irqchip_ioapic_read(void *chip, uint64_t off, unsigned size);
void irqchip_ioapic_write(void *chip, uint64_t off, unsigned size, uint64_t val);
pthread_mutex_t *irqchip_pic_lock(struct irqchip *chip);
/* Ports 20h-21h (off 0, 1), A0h-A1h (2, 3) and the edge/level registers 4D0h-4D1h (4, 5). */
uint64_t irqchip_pic_read(struct irqchip *chip, unsigned reg);
void irqchip_pic_write(struct irqchip *chip, unsigned reg, uint8_t val);

/* --- for people, in the form of QEMU's monitor; vCPUs stopped --- */
void irqchip_print(struct irqchip *chip, FILE *out); /* I/O APIC and 8259s */
void irqchip_print_lapic(struct irqchip *chip, unsigned cpu, FILE *out);
void irqchip_print_counts(struct irqchip *chip, FILE *out);

/* --- saved state --- */
extern const struct state_desc irqchip_ioapic_state, irqchip_pic_state, irqchip_lapic_state;
void *irqchip_ioapic_object(struct irqchip *chip);
void *irqchip_pic_object(struct irqchip *chip);
void *irqchip_lapic_object(struct irqchip *chip, unsigned cpu);

#endif
