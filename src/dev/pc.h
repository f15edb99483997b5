/*
 * The chipset of the machine type pc-1.0: an i440FX-like PCI host, the PIIX3 bridge to the ISA devices and
 * the PIIX4 power management function. Threads as in isa.h.
 */
#ifndef VIREO_DEV_PC_H
#define VIREO_DEV_PC_H

#include "bus/pci.h"
#include "dev/isa.h"
#include "irq/x86/irqchip.h"

/* Configuration mechanism #1, the reset register at CF9h, and the host bridge function at 00.0. */
struct device *i440fx_new(struct bus *bus, struct pci_bus *pci, const struct machine_control *m, struct err *err);
/* The ISA bridge at 01.0: takes the bus's INTx lines and leads them to `isa` as its PIRQ route registers say. */
#define PIIX3_DEVFN (1 << 3)
#define PIIX3_PIRQ  0x60 /* four registers: the interrupt, or 80h: nowhere */
struct device *piix3_new(struct pci_bus *pci, const struct irq_line isa[16], struct err *err);

/* ACPI power management at 01.3: fixed hardware registers from PM_BASE. ACPI 6.4, 4.8.3. */
#define PM_BASE	   0x600
#define PM_EVENT   0x600
#define PM_CONTROL 0x604
#define PM_TIMER   0x608
#define PM_SCI	   9
#define PM_SLP_S5  5 /* SLP_TYP of \_S5 */
struct device *piix4_pm_new(struct bus *bus, struct pci_bus *pci, struct vclock *clock, struct irq_line sci,
			    const struct machine_control *m, struct err *err);
/* Press the power button; any thread. */
void piix4_pm_power_button(struct device *pm);

/*
 * The interrupt controllers on the bus and as devices that can be saved: fills 2 + cpus entries of `list`, whose
 * objects belong to `chip`. Returns their number, or -1.
 */
int irqchip_devices(struct irqchip *chip, struct bus *bus, unsigned cpus, struct device *list, struct err *err);

#endif
