/*
 * The chipset of the machine type pc-1.0: an i440FX-like PCI host, the PIIX3 bridge to the ISA devices and
 * the PIIX4 power management function. Threads as in isa.h.
 */
#ifndef VIREO_DEV_PC_H
#define VIREO_DEV_PC_H

#include "bus/pci.h"
#include "dev/isa.h"
#include "irq/x86/irqchip.h"
#include "mem/mem.h"

/*
 * What the host bridge decides of memory from 640 KiB to 1 MiB in a machine that begins in a ROM: overlays of `mem`,
 * which look differently in SMM (`smm`, a look over `mem`).
 */
#define I440FX_PAMS 13
struct i440fx_memory {
	struct mem_space *mem, *smm;
	unsigned vga, pam[I440FX_PAMS]; /* i440fx_add_overlays() fills them */
	void (*changed)(void *opaque);	/* after modes were set; a vCPU's thread, or with vCPUs stopped */
	void *opaque;
};
/* `rom`: the ROM below 4 GiB, whose end is seen at the end of the first MiB as well. RAM and ROM are there already. */
int i440fx_add_overlays(struct i440fx_memory *m, uint64_t rom, uint64_t rom_size, struct err *err);

/*
 * Configuration mechanism #1, the reset register at CF9h, and the host bridge function at 00.0. `memory`: NULL if it is
 * RAM whatever the guest does.
 */
struct device *i440fx_new(struct bus *bus, struct pci_bus *pci, const struct machine_control *m,
			  const struct i440fx_memory *memory, struct err *err);
/* The ISA bridge at 01.0: takes the bus's INTx lines and leads them to `isa` as its PIRQ route registers say. */
#define PIIX3_DEVFN (1 << 3)
#define PIIX3_PIRQ  0x60 /* four registers: the interrupt, or 80h: nowhere */
struct device *piix3_new(struct pci_bus *pci, const struct irq_line isa[16], bool firmware, struct err *err);
/* The route registers; any thread. */
void piix3_routes(const struct device *piix3, uint8_t irq[4]);

/* ACPI power management at 01.3: fixed hardware registers, from PM_BASE without firmware. ACPI 6.4, 4.8.3. */
#define PM_BASE	   0x600
#define PM_EVENT   0x600
#define PM_CONTROL 0x604
#define PM_TIMER   0x608
#define PM_SCI	   9
#define PM_SLP_S5  0 /* SLP_TYP of \_S5: 82371AB, 7.2.3, "soft off" */
struct pm_smi {
	void (*raise)(void *opaque); /* any vCPU thread; must not call back. NULL: processors without SMM */
	void *opaque;
};
struct piix4_pm_config {
	struct vclock *clock;
	struct irq_line sci;
	struct machine_control machine;
	bool firmware; /* which finds the function as a reset leaves it: the registers are nowhere */
	/*
	 * With firmware: a write to the APM port. Without SMM that is switched on from the beginning (APMC_EN), by
	 * which firmware knows that SMM is not its business.
	 */
	struct pm_smi smi;
};
struct device *piix4_pm_new(struct bus *bus, struct pci_bus *pci, const struct piix4_pm_config *c, struct err *err);
/* Where the registers are now; 0: nowhere. vCPUs stopped, or a vCPU's thread. */
uint16_t piix4_pm_base(const struct device *pm);
/* Press the power button; any thread. */
void piix4_pm_power_button(struct device *pm);

/* Only when asked for: the watchdog of the 6300ESB, a PCI function. */
struct device *i6300esb_new(struct pci_bus *pci, uint8_t devfn, struct vclock *clock, const struct machine_control *m,
			    struct err *err);

/*
 * The interrupt controllers on the bus and as devices that can be saved: fills 2 + cpus entries of `list`, whose
 * objects belong to `chip`. Returns their number, or -1.
 */
int irqchip_devices(struct irqchip *chip, struct bus *bus, unsigned cpus, struct device *list, struct err *err);

#endif
