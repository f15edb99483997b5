/*
 * What the files of irq/x86 share: the controllers of one machine and the calls between them. The registers of a
 * local APIC belong to its vCPU's thread; other threads only set bits of its atomic words and signal the vCPU.
 */
#ifndef VIREO_IRQ_X86_IMPL_H
#define VIREO_IRQ_X86_IMPL_H

#include <stdatomic.h>

#include "irq/x86/irqchip.h"

/* --- local APIC --- */

/* Register offsets in the xAPIC page; an x2APIC MSR is 0x800 + offset / 16. */
enum lapic_reg {
	LAPIC_ID = 0x20,
	LAPIC_VERSION = 0x30,
	LAPIC_TPR = 0x80,
	LAPIC_PPR = 0xa0,
	LAPIC_EOI = 0xb0,
	LAPIC_LDR = 0xd0,
	LAPIC_DFR = 0xe0,
	LAPIC_SVR = 0xf0,
	LAPIC_ISR = 0x100,
	LAPIC_TMR = 0x180,
	LAPIC_IRR = 0x200,
	LAPIC_ESR = 0x280,
	LAPIC_ICR_LOW = 0x300,
	LAPIC_ICR_HIGH = 0x310,
	LAPIC_LVT = 0x320, /* timer, thermal, performance, LINT0, LINT1, error: one each 0x10 */
	LAPIC_INITIAL_COUNT = 0x380,
	LAPIC_CURRENT_COUNT = 0x390,
	LAPIC_DIVIDE = 0x3e0,
	LAPIC_SELF_IPI = 0x3f0
};

enum { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };
#define LVT_MASKED     (1u << 16)
#define LVT_TIMER_MODE (3u << 17)
#define LVT_PERIODIC   (1u << 17)
#define LVT_DEADLINE   (2u << 17)

#define APIC_BASE_BSP	 (1ull << 8)
#define APIC_BASE_X2APIC (1ull << 10)
#define APIC_BASE_ENABLE (1ull << 11)
#define APIC_BASE_BITS	 (APIC_BASE_BSP | APIC_BASE_X2APIC | APIC_BASE_ENABLE | 0x3ffffffff000ull)
#define SVR_ENABLE	 (1u << 8)

#define MSR_APIC_BASE	 0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC	 0x800u
#define MSR_KVM_PV_EOI	 0x4b564d04u

/* Delivery modes of ICR, LVT, redirection entries and MSIs. */
enum { DM_FIXED, DM_LOWEST, DM_SMI, DM_RESERVED, DM_NMI, DM_INIT, DM_SIPI, DM_EXTINT };

/* Bits of the error status register, SDM vol. 3, 11.5.3. */
#define LAPIC_ESR_SENT_VECTOR	  (1u << 5)
#define LAPIC_ESR_RECEIVED_VECTOR (1u << 6)
#define LAPIC_ESR_REGISTER	  (1u << 7)
#define LAPIC_ESR_ALL		  0xe0u

/*
 * Owned by the vCPU's thread. Other threads set bits of irr, tmr and esr and then signal; they read `base`,
 * `id`, `ldr`, `dfr`, `svr` and `tpr` to match destinations, which are single words. `lock` is for the timer.
 */
struct lapic {
	struct irqchip *chip;
	unsigned cpu;
	_Atomic uint64_t base; /* the APIC_BASE MSR */
	_Atomic uint32_t ldr, dfr, svr;
	_Atomic uint8_t id; /* in xAPIC mode; the x2APIC's is `cpu` */
	_Atomic uint8_t tpr;
	atomic_bool extint; /* a message of mode ExtINT waits */
	_Atomic uint32_t irr[8], tmr[8];
	uint32_t isr[8];
	_Atomic uint32_t esr; /* errors since the last write of the register */
	uint32_t esr_shown;   /* what reads of it give */
	uint32_t icr_low, icr_high;
	_Atomic uint32_t lvt[LVT_COUNT];
	uint64_t pv_eoi; /* the KVM MSR: guest address and enable bit */
	bool pv_eoi_set; /* the guest may skip the EOI by clearing the flag */

	pthread_mutex_t lock;
	struct clock_timer timer;
	uint32_t initial_count, divide;
	int64_t started_ns;	/* when the count was written, or the last period began */
	uint64_t deadline_tsc;	/* 0: not armed */
	int64_t saved_deadline; /* around saving only */
};

void lapic_init(struct lapic *l, struct irqchip *chip, unsigned cpu);
void lapic_fini(struct lapic *l);
/* INIT keeps the APIC base and identity; power-on sets them too. */
void lapic_reset(struct lapic *l, bool power_on);

static inline bool lapic_x2apic(const struct lapic *l)
{
	return (atomic_load_explicit(&l->base, memory_order_relaxed) & APIC_BASE_X2APIC) != 0;
}
static inline bool lapic_enabled(const struct lapic *l)
{
	return (atomic_load_explicit(&l->base, memory_order_relaxed) & APIC_BASE_ENABLE) != 0;
}
static inline bool lapic_software_enabled(const struct lapic *l)
{
	return lapic_enabled(l) && atomic_load_explicit(&l->svr, memory_order_relaxed) & SVR_ENABLE;
}

static inline uint32_t lapic_id(const struct lapic *l)
{
	return lapic_x2apic(l) ? l->cpu : atomic_load_explicit(&l->id, memory_order_relaxed);
}
static inline uint8_t lapic_tpr(const struct lapic *l)
{
	return atomic_load_explicit(&l->tpr, memory_order_relaxed);
}

/* Registers by xAPIC offset; the vCPU's thread. 64-bit only for the ICR in x2APIC mode. */
uint32_t lapic_read(struct lapic *l, uint32_t off);
void lapic_write(struct lapic *l, uint32_t off, uint32_t val);
/* The bits that exist in local vector table entry `n`; the two that cannot be written are not among them. */
uint32_t lapic_lvt_writable(unsigned n);
void lapic_eoi(struct lapic *l);
/* With an end that the guest was allowed to leave out, if it did. */
void lapic_settle_eoi(struct lapic *l);
/* Record an error and raise the error interrupt; any thread. */
void lapic_error(struct lapic *l, uint32_t bits);
/* Raise the local vector table entry `n`; any thread. */
void lapic_local(struct lapic *l, unsigned n);

/* lapic_timer.c */
void lapic_timer_init(struct lapic *l);
void lapic_timer_reset(struct lapic *l);
void lapic_timer_write(struct lapic *l, uint32_t off, uint32_t val); /* initial count, divide, LVT timer */
uint32_t lapic_timer_current(struct lapic *l);
uint64_t lapic_deadline_get(struct lapic *l);
void lapic_deadline_set(struct lapic *l, uint64_t tsc);
/* The timer runs elsewhere: take over its count, from which the saved fields are made, or stop this one. */
void lapic_timer_adopt(struct lapic *l, uint32_t left);
void lapic_timer_quiet(struct lapic *l);
/* Arm the host timer again from the saved fields. */
void lapic_timer_loaded(struct lapic *l);

/* --- delivery, ipi.c; any thread --- */

struct irq_message {
	uint32_t dest;
	bool logical;
	uint8_t mode, vector;
	bool level_trigger;
	bool wide; /* `dest` is a 32-bit x2APIC destination */
};
/* False when nobody took it. */
bool irqchip_deliver(struct irqchip *chip, const struct irq_message *m);
void irqchip_ipi(struct lapic *from, uint32_t low, uint32_t dest);
/* Set the vector in IRR and signal. */
void lapic_accept(struct lapic *l, uint8_t vector, bool level);

/* --- I/O APIC --- */

struct ioapic {
	pthread_mutex_t lock;
	uint8_t select, id;
	uint64_t entry[IRQCHIP_PINS];
	uint32_t levels;	       /* the pins as they are */
	uint64_t raised[IRQCHIP_PINS]; /* how often; for people */
};

void ioapic_reset(struct ioapic *io);
void ioapic_set_pin(struct irqchip *chip, unsigned pin, bool level);
/* A level-triggered vector was completed by some local APIC. */
void ioapic_eoi(struct irqchip *chip, uint8_t vector);

/* --- 8259; its lock comes before the I/O APIC's --- */

struct i8259 {
	uint8_t irr, imr, isr, levels, elcr;
	uint8_t base;	/* vector of line 0 */
	uint8_t icw;	/* next initialization word expected: 0 none, 2, 3, 4 */
	uint8_t lowest; /* line of lowest priority */
	bool single, icw4, auto_eoi, rotate_auto, read_isr, poll, special_mask, special_nested;
	bool master;
};

struct i8259_pair {
	pthread_mutex_t lock;
	struct i8259 pic[2];
	atomic_bool output; /* INTR of the master */
};

void pic_reset(struct i8259_pair *p);
void pic_set_line(struct irqchip *chip, unsigned n, bool level);
/* INTA of the processor. */
uint8_t pic_ack(struct irqchip *chip);

struct irqchip {
	struct irqchip_config cfg;
	struct ioapic ioapic;
	struct i8259_pair pic;
	_Atomic uint32_t lowest_next;  /* where lowest-priority arbitration starts */
	struct lapic *lapics;	       /* their registers are stale while there is an external */
	struct intc_external external; /* with functions once one is attached */
};

/* external.c */
static inline bool irqchip_is_split(const struct irqchip *chip)
{
	return chip->external.send != NULL;
}
void irqchip_attach(void *chip, const struct intc_external *x);
bool irqchip_send_external(struct irqchip *chip, const struct irq_message *m);
bool irqchip_bind_external(struct irqchip *chip, const struct event *e, const struct irq_message *m);
/* I/O APIC entry `pin` is now `m`, or masked (NULL). */
void irqchip_route_external(struct irqchip *chip, unsigned pin, const struct irq_message *m);
/* Copy a local APIC from, or to, where it is. vCPUs stopped. */
void lapic_fetch(struct lapic *l);
void lapic_put(struct lapic *l);

static inline void irqchip_signal(struct irqchip *chip, unsigned cpu, enum cpu_signal what, uint8_t vector)
{
	chip->cfg.wiring.signal(chip->cfg.wiring.opaque, cpu, what, vector);
}

#endif
