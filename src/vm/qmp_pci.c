/* QMP: the PCI bus. */
#include "bus/pci.h"
#include "vm/impl.h"
#include "vm/qmp.h"

static const struct {
	uint16_t class;
	const char *name;
} classes[] = {
	{ 0x0001, "VGA controller" },
	{ 0x0100, "SCSI controller" },
	{ 0x0101, "IDE controller" },
	{ 0x0104, "RAID controller" },
	{ 0x0106, "SATA controller" },
	{ 0x0180, "Storage controller" },
	{ 0x0200, "Ethernet controller" },
	{ 0x0280, "Network controller" },
	{ 0x0300, "VGA controller" },
	{ 0x0380, "Display controller" },
	{ 0x0401, "Audio controller" },
	{ 0x0403, "Audio controller" },
	{ 0x0480, "Multimedia controller" },
	{ 0x0500, "RAM controller" },
	{ 0x0600, "Host bridge" },
	{ 0x0601, "ISA bridge" },
	{ 0x0604, "PCI bridge" },
	{ 0x0680, "Bridge" },
	{ 0x0700, "Serial port" },
	{ 0x0c03, "USB controller" },
	{ 0x0c05, "SMBus" },
};

static json_t *class_info(uint16_t class)
{
	json_t *o = json_pack("{s:i}", "class", class);

	for (size_t n = 0; n < sizeof(classes) / sizeof(classes[0]); n++)
		if (classes[n].class == class)
			json_object_set_new(o, "desc", json_string(classes[n].name));
	return o;
}

static json_t *regions(const struct pci_dev *d)
{
	json_t *list = json_array();

	for (unsigned n = 0; n <= PCI_ROM_BAR; n++) {
		const struct pci_bar *b = &d->bar[n];
		uint64_t at = b->kind == PCI_BAR_NONE ? 0 : pci_bar_mapped(d, n);
		json_t *o;

		if (b->kind == PCI_BAR_NONE)
			continue;
		o = json_pack("{s:i,s:s,s:I,s:I}", "bar", (int)n, "type", b->kind == PCI_BAR_IO ? "io" : "memory",
			      "address", (json_int_t)(at ? at : ~0ull), "size", (json_int_t)b->size);
		if (b->kind != PCI_BAR_IO) {
			json_object_set_new(o, "prefetch", json_boolean(b->prefetch));
			json_object_set_new(o, "mem_type_64", json_boolean(b->kind == PCI_BAR_MEM64));
		}
		json_array_append_new(list, o);
	}
	return list;
}

static uint32_t config(struct vm *vm, unsigned devfn, uint8_t off, unsigned size)
{
	return pci_config_read(vm->pci, (uint8_t)devfn, off, size);
}

static json_t *function(struct vm *vm, const struct pci_dev *d)
{
	unsigned f = d->devfn, pin = config(vm, f, 0x3d, 1);
	const char *name = f & 7 || !vm->pci_names[f >> 3] ? d->name : vm->pci_names[f >> 3];
	json_t *o = json_pack("{s:i,s:i,s:i,s:s,s:i,s:o,s:o}", "bus", 0, "slot", f >> 3, "function", f & 7, "qdev_id",
			      name ? name : "", "irq_pin", (int)pin, "class_info",
			      class_info((uint16_t)config(vm, f, 0x0a, 2)), "regions", regions(d));

	json_object_set_new(o, "id",
			    json_pack("{s:i,s:i,s:i,s:i}", "vendor", (int)config(vm, f, 0x00, 2), "device",
				      (int)config(vm, f, 0x02, 2), "subsystem-vendor", (int)config(vm, f, 0x2c, 2),
				      "subsystem", (int)config(vm, f, 0x2e, 2)));
	if (pin)
		json_object_set_new(o, "irq", json_integer(config(vm, f, 0x3c, 1)));
	return o;
}

static json_t *query_pci(struct vm *vm, const json_t *args, struct err *err)
{
	json_t *list = json_array();

	for (unsigned n = 0; n < 256; n++) {
		const struct pci_dev *d = pci_function(vm->pci, (uint8_t)n);

		if (d)
			json_array_append_new(list, function(vm, d));
	}
	return json_pack("[{s:i,s:o}]", "bus", 0, "devices", list);
}

const struct qmp_command qmp_pci_commands[] = {
	{ "query-pci", "", "[PciInfo]", query_pci },
	{ 0 },
};
