/*
 * The host bridge: configuration mechanism #1 (PCI 3.0, 3.2.2.3.2) and an 82441FX function at 00.0.
 *
 * Memory from 640 KiB to 1 MiB is always RAM here, because no firmware and no VGA lie under it: the PAM registers
 * say so and cannot be changed, and there is no SMRAM (82441FX data sheet, 3.2.18 and 3.2.19).
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "dev/pc.h"

struct i440fx {
	struct device dev;
	pthread_mutex_t lock;
	struct pci_dev pci;
	struct pci_bus *bus;
	struct machine_control machine;
	uint32_t address;
	uint8_t reset;
};

#define ENABLE	0x80000000u
#define PAM	0x59 /* to 0x5f */
#define PAM_RAM 0x33 /* both halves are read from and written to RAM */

/* The address register takes doublewords only; a byte at CF9h is the reset register of the PIIX3. */
static uint64_t address_read(void *opaque, uint64_t off, unsigned size)
{
	struct i440fx *h = opaque;

	if (size == 4)
		return h->address;
	return off == 1 && size == 1 ? h->reset : size_mask(size);
}

static void address_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct i440fx *h = opaque;
	bool rises = val & 4 && !(h->reset & 4);

	if (size == 4)
		h->address = (uint32_t)val & 0x80fffffc;
	if (size != 1 || off != 1)
		return;
	h->reset = (uint8_t)val & 2;
	if (rises)
		h->machine.request(h->machine.opaque, MACHINE_RESET, 0);
}

static uint64_t data_read(void *opaque, uint64_t off, unsigned size)
{
	struct i440fx *h = opaque;

	if (!(h->address & ENABLE) || h->address >> 16 & 0xff)
		return size_mask(size);
	return pci_config_read(h->bus, (uint8_t)(h->address >> 8), (uint8_t)((h->address & 0xfc) + off), size);
}

static void data_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct i440fx *h = opaque;

	if (h->address & ENABLE && !(h->address >> 16 & 0xff))
		pci_config_write(h->bus, (uint8_t)(h->address >> 8), (uint8_t)((h->address & 0xfc) + off), size,
				 (uint32_t)val);
}

static const struct bus_ops address_ops = { address_read, address_write, { 1, 4 }, { 1, 4 } };
static const struct bus_ops data_ops = { data_read, data_write, { 1, 4 }, { 1, 4 } };

static void reset(void *self)
{
	struct i440fx *h = self;

	h->address = 0;
	h->reset = 0;
}

static void destroy(void *self)
{
	struct i440fx *h = self;

	pci_unregister(&h->pci);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

static const struct state_field fields[] = {
	STATE_U32F(struct i440fx, address),
	STATE_U8F(struct i440fx, reset),
	STATE_SUB(struct i440fx, pci, &pci_dev_state),
	STATE_FIELD_END,
};
static const struct state_desc state = { .name = "i440fx", .version = 1, .min_version = 1, .fields = fields };

struct device *i440fx_new(struct bus *bus, struct pci_bus *pci, const struct machine_control *m, struct err *err)
{
	struct i440fx *h = calloc(1, sizeof(*h));
	struct bus_range address = { "pci-address", &address_ops, h, NULL }, data = { "pci-data", &data_ops, h, NULL };

	if (!h) {
		err_set(err, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&h->lock, NULL);
	address.lock = data.lock = &h->lock;
	h->bus = pci;
	h->machine = *m;
	h->dev = (struct device){ .name = "i440fx",
				  .instance = "00:00.0",
				  .self = h,
				  .state = &state,
				  .lock = &h->lock,
				  .reset = reset,
				  .destroy = destroy };
	pci_dev_init(&h->pci, "i440fx", &(struct pci_id){ 0x8086, 0x1237, 0x06000002, 0x1af4, 0x1100 }, &h->lock);
	pci_set_chipset(&h->pci, 6);
	h->pci.config[PAM] = PAM_RAM & 0xf0; /* the low half of the first is not a region */
	memset(h->pci.config + PAM + 1, PAM_RAM, 6);
	if (pci_register(pci, &h->pci, 0, err)) {
		pthread_mutex_destroy(&h->lock);
		free(h);
		return NULL;
	}
	if (!bus_add(bus, BUS_PORT, 0xcf8, 4, &address, err) || !bus_add(bus, BUS_PORT, 0xcfc, 4, &data, err)) {
		destroy(h);
		return NULL;
	}
	return &h->dev;
}
