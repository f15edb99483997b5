/* The interrupt controllers for people, in the form of QEMU's monitor. See irqchip.h. */
#include <inttypes.h>
#include <stdio.h>

#include "irq/x86/impl.h"

static const char *const modes[] = { "Fixed", "LowPri", "SMI", "...", "NMI", "INIT", "SIPI", "ExtINT" };

static void print_bits(FILE *out, const char *name, const uint32_t *words, unsigned count)
{
	bool any = false;

	fprintf(out, "%s ", name);
	for (unsigned n = 0; n < 32 * count; n++)
		if (words[n / 32] >> n % 32 & 1) {
			fprintf(out, "%u ", n);
			any = true;
		}
	fprintf(out, "%s\n", any ? "" : "(none)");
}

/* --- I/O APIC and 8259s --- */

static void print_entry(FILE *out, unsigned pin, uint64_t e)
{
	static const char *const words[] = { "fixed", "lowest", "SMI", "...", "NMI", "INIT", "...", "extINT" };

	fprintf(out, "  pin %-2u 0x%016" PRIx64 " dest=%" PRIx64 " vec=%-3u %s %-5s %-6s %-6s %s\n", pin, e, e >> 56,
		(unsigned)(e & 0xff), e & 1 << 13 ? "active-lo" : "active-hi", e & 1 << 15 ? "level" : "edge",
		e & 1 << 16 ? "masked" : "", words[e >> 8 & 7], e & 1 << 11 ? "logical" : "physical");
}

static void print_ioapic(struct irqchip *chip, FILE *out)
{
	struct ioapic *io = &chip->ioapic;
	uint32_t remote = 0;

	pthread_mutex_lock(&io->lock);
	fprintf(out, "ioapic0: ver=0x20 id=0x%02x sel=0x%02x\n", io->id, io->select);
	for (unsigned n = 0; n < IRQCHIP_PINS; n++) {
		print_entry(out, n, io->entry[n]);
		remote |= (uint32_t)(io->entry[n] >> 14 & 1) << n;
	}
	print_bits(out, "  IRR     ", &io->levels, 1);
	print_bits(out, "  Remote IRR", &remote, 1);
	pthread_mutex_unlock(&io->lock);
}

void irqchip_print(struct irqchip *chip, FILE *out)
{
	print_ioapic(chip, out);
	pthread_mutex_lock(&chip->pic.lock);
	for (unsigned n = 2; n-- > 0;) {
		const struct i8259 *p = &chip->pic.pic[n];

		fprintf(out, "pic%u: irr=%02x imr=%02x isr=%02x hprio=%x irq_base=%02x rr_sel=%d elcr=%02x fnm=%d\n", n,
			p->irr, p->imr, p->isr, (p->lowest + 1) & 7, p->base, p->read_isr, p->elcr, p->special_nested);
	}
	pthread_mutex_unlock(&chip->pic.lock);
}

void irqchip_print_counts(struct irqchip *chip, FILE *out)
{
	struct ioapic *io = &chip->ioapic;

	fprintf(out, "IRQ statistics for ioapic:\n");
	pthread_mutex_lock(&io->lock);
	for (unsigned n = 0; n < IRQCHIP_PINS; n++)
		if (io->raised[n])
			fprintf(out, "%2u: %" PRIu64 "\n", n, io->raised[n]);
	pthread_mutex_unlock(&io->lock);
}

/* --- local APIC --- */

/* SDM vol. 3, 11.8.3.1, of registers as they are: reading it there may end an interrupt. */
static uint32_t ppr(const struct lapic *l)
{
	uint32_t served = 0;

	for (unsigned n = 0; n < 256; n++)
		if (l->isr[n / 32] >> n % 32 & 1)
			served = n & 0xf0;
	return served > (lapic_tpr(l) & 0xf0u) ? served : lapic_tpr(l);
}

static void print_lvt(FILE *out, const char *name, uint32_t v, bool timer)
{
	static const char *const kinds[] = { "one-shot", "periodic", "tsc-deadline", "..." };

	fprintf(out, "%s\t 0x%08x %s %-5s %-6s %-7s %-12s %-6s", name, v, v & 1 << 13 ? "active-lo" : "active-hi",
		v & 1 << 15 ? "level" : "edge", v & LVT_MASKED ? "masked" : "", v & 1 << 12 ? "pending" : "",
		timer ? kinds[v >> 17 & 3] : "", timer ? "Fixed" : modes[v >> 8 & 7]);
	fprintf(out, timer || !(v >> 8 & 7) ? " (vec %u)\n" : "\n", v & 0xff);
}

static void print_timer(struct lapic *l, FILE *out)
{
	/* SDM vol. 3, figure 11-10. */
	unsigned code = (l->divide & 3) | (l->divide >> 1 & 4), by = code == 7 ? 1 : 2u << code;

	fprintf(out, "Timer\t DCR=0x%x (divide by %u) initial_count = %u current_count = %u\n", l->divide & 0xb, by,
		l->initial_count, lapic_timer_current(l));
}

void irqchip_print_lapic(struct irqchip *chip, unsigned cpu, FILE *out)
{
	static const struct {
		const char *name;
		unsigned entry;
	} lvt[] = { { "LVT0", LVT_LINT0 },   { "LVT1", LVT_LINT1 },	 { "LVTPC", LVT_PERF },
		    { "LVTERR", LVT_ERROR }, { "LVTTHMR", LVT_THERMAL }, { "LVTT", LVT_TIMER } };
	static const char *const shorthand[] = { "no-shorthand", "self", "all-self", "all" };
	struct lapic *l = &chip->lapics[cpu];
	uint32_t svr, irr[8];

	if (irqchip_is_split(chip))
		lapic_fetch(l);
	svr = atomic_load(&l->svr);
	fprintf(out, "dumping local APIC state for CPU %u\n\n", cpu);
	for (unsigned n = 0; n < sizeof(lvt) / sizeof(lvt[0]); n++)
		print_lvt(out, lvt[n].name, atomic_load(&l->lvt[lvt[n].entry]), lvt[n].entry == LVT_TIMER);
	print_timer(l, out);
	fprintf(out, "SPIV\t 0x%08x APIC %s, focus=%s, spurious vec %u\n", svr,
		svr & SVR_ENABLE ? "enabled" : "disabled", svr & 1 << 9 ? "on" : "off", svr & 0xff);
	fprintf(out, "ICR\t 0x%08x %s %s %s %s\n", l->icr_low, l->icr_low & 1 << 11 ? "logical" : "physical",
		l->icr_low & 1 << 15 ? "level" : "edge", l->icr_low & 1 << 14 ? "assert" : "de-assert",
		shorthand[l->icr_low >> 18 & 3]);
	fprintf(out, "ICR2\t 0x%08x\n", l->icr_high);
	fprintf(out, "ESR\t 0x%08x\n", l->esr_shown);
	for (unsigned n = 0; n < 8; n++)
		irr[n] = atomic_load(&l->irr[n]);
	print_bits(out, "ISR\t", l->isr, 8);
	print_bits(out, "IRR\t", irr, 8);
	fprintf(out, "\nAPR 0x00 TPR 0x%02x DFR 0x%02x LDR 0x%02x PPR 0x%02x\n", lapic_tpr(l),
		atomic_load(&l->dfr) >> 28, atomic_load(&l->ldr) >> 24, ppr(l));
}
