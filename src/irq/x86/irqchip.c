/* The controllers together: who gets which line. */
#include "irq/x86/irqchip.h"

#include <stdlib.h>

#include "irq/x86/impl.h"

static void set_line(void *opaque, unsigned n, bool level)
{
	struct irqchip *chip = opaque;

	if (n < 16)
		pic_set_line(chip, n, level);
	ioapic_set_pin(chip, n ? n : 2, level);
}

struct irq_line irqchip_line(struct irqchip *chip, unsigned n)
{
	return (struct irq_line){ set_line, chip, n };
}

void irqchip_reset(struct irqchip *chip)
{
	pthread_mutex_lock(&chip->pic.lock);
	pic_reset(&chip->pic);
	pthread_mutex_unlock(&chip->pic.lock);
	pthread_mutex_lock(&chip->ioapic.lock);
	ioapic_reset(&chip->ioapic);
	pthread_mutex_unlock(&chip->ioapic.lock);
	for (unsigned n = 0; n < chip->cfg.cpus; n++)
		lapic_reset(&chip->lapics[n], true);
	for (unsigned n = 0; n < chip->cfg.cpus; n++)
		lapic_put(&chip->lapics[n]);
}

struct irqchip *irqchip_new(const struct irqchip_config *c, struct err *err)
{
	struct irqchip *chip = calloc(1, sizeof(*chip));

	if (chip)
		chip->lapics = calloc(c->cpus, sizeof(*chip->lapics));
	if (!chip || !chip->lapics) {
		free(chip);
		err_set(err, "out of memory");
		return NULL;
	}
	chip->cfg = *c;
	pthread_mutex_init(&chip->pic.lock, NULL);
	pthread_mutex_init(&chip->ioapic.lock, NULL);
	pic_reset(&chip->pic);
	ioapic_reset(&chip->ioapic);
	for (unsigned n = 0; n < c->cpus; n++)
		lapic_init(&chip->lapics[n], chip, n);
	return chip;
}

void irqchip_free(struct irqchip *chip)
{
	for (unsigned n = 0; n < chip->cfg.cpus; n++)
		lapic_fini(&chip->lapics[n]);
	pthread_mutex_destroy(&chip->pic.lock);
	pthread_mutex_destroy(&chip->ioapic.lock);
	free(chip->lapics);
	free(chip);
}
