/*
 * What pci.c and msix.c share: the bus itself, and the configuration bytes that one writes and both read.
 * Any thread; what is guarded by a function's lock says so.
 */
#ifndef VIREO_BUS_PCI_IMPL_H
#define VIREO_BUS_PCI_IMPL_H

#include "bus/pci.h"

struct pci_bus {
	struct bus *bus;
	struct pci_dev *devs[256];
	struct irq_line intx[4];
	uint8_t irq_number[4]; /* what the interrupt line registers show */
	int intx_sources[4];
	pthread_mutex_t intx_lock;
	struct msi_sink msi;
};

/* A word that other threads may read while the guest writes it. */
static inline uint16_t pci_config_word(const struct pci_dev *d, uint8_t off)
{
	return (uint16_t)(__atomic_load_n(&d->config[off], __ATOMIC_RELAXED) |
			  __atomic_load_n(&d->config[off + 1], __ATOMIC_RELAXED) << 8);
}

/* Send what was held back if the function's mask was lifted. Takes the function's lock. */
void pci_msix_config_written(struct pci_dev *d);
void pci_msix_reset(struct pci_dev *d);
void pci_msix_fini(struct pci_dev *d);
/* Loaded values. */
int pci_msix_check(const struct pci_dev *d, struct err *err);

#endif
