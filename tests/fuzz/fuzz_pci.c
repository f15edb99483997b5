/* PCI configuration space of a function with all kinds of BARs and MSI-X, and the table in its BAR. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "bus/pci.h"

static uint64_t nothing_read(void *opaque, uint64_t off, unsigned size)
{
	uint64_t v = 0;

	return pci_msix_read(opaque, off, size, &v) ? v : 0;
}
static void nothing_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	pci_msix_write(opaque, off, size, val);
}
static const struct bus_ops ops = { nothing_read, nothing_write, { 1, 8 }, { 1, 8 } };
static void msi(void *opaque, uint64_t addr, uint32_t data)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bus *bus = bus_new();
	struct irq_line lines[4] = { 0 };
	struct msi_sink sink = { msi, NULL };
	struct pci_bus *pci = pci_bus_new(bus, lines, &sink);
	struct pci_dev *d = calloc(1, sizeof(*d));
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct bus_range range = { "bar", &ops, d, &lock };
	struct err err;
	uint64_t v;

	pci_dev_init(d, "fuzz", &(struct pci_id){ 0x1234, 1, 0xff000000, 0, 0 }, &lock);
	pci_set_bar(d, 0, PCI_BAR_IO, false, 32, &range);
	pci_set_bar(d, 1, PCI_BAR_MEM32, false, 4096, &range);
	pci_set_bar(d, 2, PCI_BAR_MEM64, true, 65536, &range);
	pci_set_intx_pin(d, 1);
	if (pci_add_msix(d, 8, 1, 0, 0x800, &err) || pci_register(pci, d, 8, &err) ||
	    pci_assign_resources(pci, 0xc000, 0xc0000000, 0xfe000000, 1ull << 40, &err))
		abort();
	for (; size >= 8; data += 8, size -= 8) {
		unsigned width = 1u << (data[0] >> 4 & 3);

		switch (data[0] & 7) {
		case 0:
		case 1:
			pci_config_write(pci, 8, data[1], width > 4 ? 4 : width, ld_le32(data + 4));
			break;
		case 2:
			pci_config_read(pci, 8, data[1], width > 4 ? 4 : width);
			break;
		case 3:
			bus_write(bus, BUS_MMIO, 0xc0000000 + (ld_le16(data + 2) & 0x1fff), width, ld_le32(data + 4));
			break;
		case 4:
			bus_read(bus, BUS_MMIO, 0xc0000000 + (ld_le16(data + 2) & 0x1fff), width, &v);
			break;
		case 5:
			pci_msix_notify(d, data[1] & 15);
			break;
		case 6:
			pci_intx_set(d, data[1] & 1);
			break;
		case 7:
			pci_bus_reset(pci);
			break;
		}
	}
	pci_unregister(d);
	free(d);
	pci_bus_free(pci);
	bus_free(bus);
	return 0;
}
