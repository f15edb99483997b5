/* What pci.c and msix.c share. */
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

/* Send what was held back if the function's mask was lifted. */
void pci_msix_config_written(struct pci_dev *d);
void pci_msix_reset(struct pci_dev *d);

#endif
