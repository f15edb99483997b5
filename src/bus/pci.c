/* PCI functions: configuration space, BARs, INTx. See pci.h. MSI-X is in msix.c. */
#include "bus/pci.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "bus/pci_impl.h"

#define CFG_COMMAND	     0x04
#define CFG_STATUS	     0x06
#define CFG_BAR		     0x10
#define CFG_ROM		     0x30
#define ROM_ENABLE	     1u
#define CFG_CAP_PTR	     0x34
#define CFG_INT_LINE	     0x3c
#define CFG_INT_PIN	     0x3d
#define CMD_IO		     1u
#define CMD_MEM		     2u
#define CMD_MASTER	     4u
#define CMD_INTX_OFF	     0x400u
#define STATUS_INTX	     8u
#define STATUS_CAPS	     0x10u
#define STATUS_DEVSEL_MEDIUM 0x200u
#define FIRST_CAP	     0x40

struct pci_bus *pci_bus_new(struct bus *bus, const struct irq_line intx[4], const struct msi_sink *msi)
{
	struct pci_bus *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->bus = bus;
	memcpy(b->intx, intx, sizeof(b->intx));
	b->msi = *msi;
	pthread_mutex_init(&b->intx_lock, NULL);
	return b;
}

void pci_bus_free(struct pci_bus *b)
{
	if (b)
		pthread_mutex_destroy(&b->intx_lock);
	free(b);
}

void pci_dev_init(struct pci_dev *d, const char *name, const struct pci_id *id, pthread_mutex_t *lock)
{
	d->name = name;
	d->lock = lock;
	st_le16(d->config, id->vendor);
	st_le16(d->config + 2, id->device);
	st_le32(d->config + 8, id->class_rev);
	st_le16(d->config + 0x2c, id->sub_vendor);
	st_le16(d->config + 0x2e, id->sub_device);
	st_le16(d->wmask + CFG_COMMAND, CMD_IO | CMD_MEM | CMD_MASTER | 0x140 | CMD_INTX_OFF);
	st_le16(d->w1cmask + CFG_STATUS, 0xf900);
	d->wmask[0x0c] = 0xff;
	d->wmask[0x0d] = 0xff;
	d->wmask[CFG_INT_LINE] = 0xff;
	d->next_cap = FIRST_CAP;
}

void pci_set_bar(struct pci_dev *d, unsigned i, enum pci_bar_kind kind, bool prefetch, uint64_t size,
		 const struct bus_range *range)
{
	uint8_t *reg = d->config + CFG_BAR + 4 * i, *mask = d->wmask + CFG_BAR + 4 * i;

	d->bar[i] = (struct pci_bar){ .kind = kind, .prefetch = prefetch, .size = size, .range = *range };
	if (kind == PCI_BAR_IO) {
		st_le32(reg, 1);
		st_le32(mask, (uint32_t) ~(size - 1) & ~3u);
		return;
	}
	st_le32(reg, (kind == PCI_BAR_MEM64 ? 4u : 0) | (prefetch ? 8u : 0));
	st_le32(mask, (uint32_t) ~(size - 1) & ~15u);
	if (kind == PCI_BAR_MEM64)
		st_le32(mask + 4, (uint32_t)(~(size - 1) >> 32));
}

uint8_t pci_add_cap(struct pci_dev *d, uint8_t id, uint8_t len)
{
	uint8_t at = d->next_cap, *link = d->config + CFG_CAP_PTR;

	if (len > PCI_CONFIG_SIZE - at)
		return 0;
	while (*link)
		link = d->config + *link + 1;
	*link = at;
	d->config[at] = id;
	d->next_cap = (uint8_t)align_up(at + len, 4);
	st_le16(d->config + CFG_STATUS, ld_le16(d->config + CFG_STATUS) | STATUS_CAPS);
	return at;
}

void pci_set_intx_pin(struct pci_dev *d, uint8_t pin)
{
	d->config[CFG_INT_PIN] = pin;
}

void pci_set_chipset(struct pci_dev *d, uint16_t command)
{
	st_le16(d->config + CFG_COMMAND, command);
	st_le16(d->wmask + CFG_COMMAND, 0);
	st_le16(d->config + CFG_STATUS, STATUS_DEVSEL_MEDIUM);
}

/* --- BARs --- */

static uint64_t bar_address(const struct pci_dev *d, unsigned i)
{
	const uint8_t *reg = d->config + CFG_BAR + 4 * i;

	if (i == PCI_ROM_BAR)
		return ld_le32(d->config + CFG_ROM) & ROM_ENABLE ? ld_le32(d->config + CFG_ROM) & ~0x7ffu : 0;
	switch (d->bar[i].kind) {
	case PCI_BAR_IO:
		return ld_le32(reg) & ~3u;
	case PCI_BAR_MEM32:
		return ld_le32(reg) & ~15u;
	case PCI_BAR_MEM64:
		return ld_le64(reg) & ~15ull;
	default:
		return 0;
	}
}

/* Whether an address can be decoded: the last one below 64 KiB or 4 GiB is what a guest writes to learn the size. */
static bool decodable(const struct pci_bar *bar, uint64_t at)
{
	uint64_t sizing = bar->kind == PCI_BAR_IO ? 1ull << 16 : 1ull << 32;
	uint64_t end = bar->kind == PCI_BAR_MEM64 ? PCI_MEM_END : sizing;

	return range_within(at, bar->size, end) && at + bar->size != sizing;
}

uint64_t pci_bar_mapped(const struct pci_dev *d, unsigned i)
{
	return __atomic_load_n(&d->bar[i].mapped_at, __ATOMIC_RELAXED);
}

bool pci_high_bars(const struct pci_bus *b, uint64_t *first, uint64_t *end)
{
	*first = UINT64_MAX;
	*end = 0;
	for (unsigned devfn = 0; devfn < ARRAY_LEN(b->devs); devfn++) {
		const struct pci_dev *d = b->devs[devfn];

		for (unsigned n = 0; d && n < PCI_NUM_BARS; n++) {
			uint64_t at = pci_bar_mapped(d, n), size = d->bar[n].size;

			if (at >> 32 == 0)
				continue;
			*first = at < *first ? at : *first;
			*end = at + size > *end ? at + size : *end;
		}
	}
	return *end;
}

static void set_mapped(struct pci_bar *bar, uint64_t at)
{
	__atomic_store_n(&bar->mapped_at, at, __ATOMIC_RELAXED);
}

static void unmap_bar(struct pci_dev *d, unsigned i)
{
	bus_del(d->bus->bus, d->bar[i].handle);
	d->bar[i].handle = NULL;
	set_mapped(&d->bar[i], 0);
}

/* Make the bus agree with the registers of one function; 0, what a reset leaves, is nowhere. True if something was
 * unmapped. */
static bool update_bars(struct pci_dev *d)
{
	uint16_t cmd = pci_config_word(d, CFG_COMMAND);
	bool freed = false;

	for (unsigned i = 0; i <= PCI_ROM_BAR; i++) {
		struct pci_bar *bar = &d->bar[i];
		bool io = bar->kind == PCI_BAR_IO;
		uint64_t want;
		struct err err;

		if (bar->kind == PCI_BAR_NONE)
			continue;
		want = cmd & (io ? CMD_IO : CMD_MEM) ? bar_address(d, i) : 0;
		if (!decodable(bar, want))
			want = 0;
		if (want == bar->mapped_at)
			continue;
		if (bar->mapped_at) {
			unmap_bar(d, i);
			freed = true;
		}
		if (want)
			bar->handle =
				bus_add(d->bus->bus, io ? BUS_PORT : BUS_MMIO, want, bar->size, &bar->range, &err);
		if (bar->handle)
			set_mapped(bar, want);
		else if (want)
			log_guest("pci", "%s: BAR %u: %s", d->name, i, err.msg);
		if (d->bar_moved)
			d->bar_moved(d, i);
	}
	return freed;
}

/* What lay under another BAR appears when that one goes away. */
static void bars_written(struct pci_dev *d)
{
	if (!update_bars(d))
		return;
	for (unsigned devfn = 0; devfn < ARRAY_LEN(d->bus->devs); devfn++)
		if (d->bus->devs[devfn])
			update_bars(d->bus->devs[devfn]);
}

/* --- interrupts --- */

/* Each pin of the bus is the OR of the functions on it; one that uses MSI-X does not (PCI 3.0, 6.8.3.3). */
static void update_intx(struct pci_dev *d)
{
	struct pci_bus *b = d->bus;
	uint8_t pin = d->config[CFG_INT_PIN];
	unsigned line;
	bool level, was;

	if (!pin)
		return;
	line = (pin - 1u + (d->devfn >> 3)) & 3;
	pthread_mutex_lock(&b->intx_lock);
	level = d->intx_level && !(pci_config_word(d, CFG_COMMAND) & CMD_INTX_OFF) && !pci_msix_enabled(d);
	was = b->intx_sources[line] != 0;
	if (level != d->intx_driven) {
		b->intx_sources[line] += level ? 1 : -1;
		d->intx_driven = level;
	}
	if (was != (b->intx_sources[line] != 0))
		irq_set(&b->intx[line], !was);
	pthread_mutex_unlock(&b->intx_lock);
}

void pci_intx_set(struct pci_dev *d, bool level)
{
	d->intx_level = level;
	update_intx(d);
}

bool pci_bus_master(const struct pci_dev *d)
{
	return pci_config_word(d, CFG_COMMAND) & CMD_MASTER;
}

/* --- configuration space --- */

static struct pci_dev *function(struct pci_bus *b, uint8_t devfn)
{
	return b->devs[devfn];
}

uint32_t pci_config_read(struct pci_bus *b, uint8_t devfn, uint8_t off, unsigned size)
{
	struct pci_dev *d = function(b, devfn);
	uint32_t v = 0;

	if (!d || off + size > PCI_CONFIG_SIZE)
		return (uint32_t)size_mask(size);
	if (d->config_read)
		d->config_read(d, off, (uint8_t)size);
	for (unsigned k = 0; k < size; k++)
		v |= (uint32_t)d->config[off + k] << 8 * k;
	/* The interrupt status bit shows the level also while INTx is disabled. */
	if (d->intx_level && off <= CFG_STATUS && off + size > CFG_STATUS)
		v |= STATUS_INTX << 8 * (CFG_STATUS - off);
	return v;
}

void pci_config_write(struct pci_bus *b, uint8_t devfn, uint8_t off, unsigned size, uint32_t val)
{
	struct pci_dev *d = function(b, devfn);

	if (!d || off + size > PCI_CONFIG_SIZE)
		return;
	for (unsigned k = 0; k < size; k++, val >>= 8) {
		uint8_t *reg = &d->config[off + k], mask = d->wmask[off + k], w1c = d->w1cmask[off + k];
		uint8_t v = (uint8_t)((*reg & ~mask) | (val & mask));

		/* Other threads look at the command and MSI-X control words. */
		__atomic_store_n(reg, v & (uint8_t) ~(val & w1c), __ATOMIC_RELAXED);
	}
	if (off < CFG_BAR + 4 * PCI_NUM_BARS || (off < CFG_ROM + 4 && off + size > CFG_ROM))
		bars_written(d);
	update_intx(d);
	pci_msix_config_written(d);
	if (d->config_written)
		d->config_written(d, off, (uint8_t)size);
}

/* --- the bus --- */

int pci_register(struct pci_bus *b, struct pci_dev *d, uint8_t devfn, struct err *err)
{
	if (b->devs[devfn])
		return err_set(err, "%s: PCI address %02x.%x is taken by %s", d->name, devfn >> 3, devfn & 7,
			       b->devs[devfn]->name);
	d->bus = b;
	d->devfn = devfn;
	pci_dev_freeze(d);
	b->devs[devfn] = d;
	/* A function other than 0 makes the device a multifunction one. */
	if (devfn & 7 && b->devs[devfn & 0xf8])
		b->devs[devfn & 0xf8]->config[0x0e] = b->devs[devfn & 0xf8]->initial[0x0e] |= 0x80;
	return 0;
}

void pci_unregister(struct pci_dev *d)
{
	for (unsigned i = 0; i <= PCI_ROM_BAR; i++)
		unmap_bar(d, i);
	free(d->rom);
	d->rom = NULL;
	pci_intx_set(d, false);
	pci_msix_fini(d);
	d->bus->devs[d->devfn] = NULL;
}

const struct pci_dev *pci_function(const struct pci_bus *b, uint8_t devfn)
{
	return b->devs[devfn];
}

int pci_free_slot(const struct pci_bus *b)
{
	for (unsigned slot = 0; slot < 32; slot++) {
		bool used = false;

		for (unsigned fn = 0; fn < 8; fn++)
			used |= b->devs[slot << 3 | fn] != NULL;
		if (!used)
			return (int)slot;
	}
	return -1;
}

static int place(struct pci_dev *d, unsigned i, uint64_t *next, uint64_t end, struct err *err)
{
	uint64_t at = align_up(*next, d->bar[i].size);
	uint8_t *reg = d->config + CFG_BAR + 4 * i;

	if (!range_within(at, d->bar[i].size, end))
		return err_set(err, "%s: no room for BAR %u of %#llx bytes", d->name, i,
			       (unsigned long long)d->bar[i].size);
	*next = at + d->bar[i].size;
	st_le32(reg, (ld_le32(reg) & 15) | (uint32_t)at);
	if (d->bar[i].kind == PCI_BAR_MEM64)
		st_le32(reg + 4, (uint32_t)(at >> 32));
	return 0;
}

int pci_assign_resources(struct pci_bus *b, uint16_t io_base, uint64_t mem32_base, uint64_t mem32_end,
			 uint64_t mem64_base, struct err *err)
{
	uint64_t io = io_base, mem32 = mem32_base, mem64 = mem64_base;

	for (unsigned devfn = 0; devfn < 256; devfn++) {
		struct pci_dev *d = b->devs[devfn];
		uint16_t cmd = 0;

		if (!d)
			continue;
		for (unsigned i = 0; i < PCI_NUM_BARS; i++) {
			enum pci_bar_kind kind = d->bar[i].kind;

			if (kind == PCI_BAR_NONE)
				continue;
			cmd |= kind == PCI_BAR_IO ? CMD_IO : CMD_MEM;
			if (kind == PCI_BAR_IO			   ? place(d, i, &io, 0x10000, err)
			    : kind == PCI_BAR_MEM32 || !mem64_base ? place(d, i, &mem32, mem32_end, err)
								   : place(d, i, &mem64, 1ull << 46, err))
				return -1;
		}
		st_le16(d->config + CFG_COMMAND, ld_le16(d->config + CFG_COMMAND) | cmd);
		if (d->config[CFG_INT_PIN])
			d->config[CFG_INT_LINE] = b->irq_number[(d->config[CFG_INT_PIN] - 1u + (devfn >> 3)) & 3];
		update_bars(d);
	}
	return 0;
}

void pci_bus_set_intx(struct pci_bus *b, const struct irq_line intx[4])
{
	memcpy(b->intx, intx, sizeof(b->intx));
}

void pci_bus_set_irq_numbers(struct pci_bus *b, const uint8_t number[4])
{
	memcpy(b->irq_number, number, 4);
}

void pci_bus_reset(struct pci_bus *b)
{
	for (unsigned devfn = 0; devfn < 256; devfn++) {
		struct pci_dev *d = b->devs[devfn];

		if (!d)
			continue;
		memcpy(d->config, d->initial, sizeof(d->config));
		pci_msix_reset(d);
		update_bars(d);
		pci_intx_set(d, false);
	}
}

/* --- expansion ROMs --- */

static uint64_t rom_read(void *opaque, uint64_t off, unsigned size)
{
	uint64_t v = 0;

	memcpy(&v, ((struct pci_dev *)opaque)->rom + off, size);
	return le64toh(v);
}

static void rom_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
}

static const struct bus_ops rom_ops = { rom_read, rom_write, { 1, 8 }, { 1, 8 } };

/* Each image has a header with its length in units of 512 bytes and the place of its PCI data structure. */
static void set_rom_identity(struct pci_dev *d, uint32_t size)
{
	for (uint32_t at = 0; at + 0x1c <= size && ld_le16(d->rom + at) == 0xaa55;) {
		uint32_t data = at + ld_le16(d->rom + at + 0x18), len;
		uint8_t sum = 0;

		if (data + 0x18 > size || memcmp(d->rom + data, "PCIR", 4))
			return;
		for (unsigned n = 4; n < 8; n++) {
			sum = (uint8_t)(sum + d->rom[data + n] - d->config[n - 4]);
			d->rom[data + n] = d->config[n - 4];
		}
		/* Images for a BIOS have a sum, which this byte is there for (as QEMU has it). */
		if (d->rom[data + 0x14] == 0)
			d->rom[at + 6] = (uint8_t)(d->rom[at + 6] + sum);
		len = 512u * ld_le16(d->rom + data + 0x10);
		if (d->rom[data + 0x15] & 0x80 || !len)
			return;
		at += len;
	}
}

int pci_set_rom(struct pci_bus *b, uint8_t devfn, const uint8_t *data, size_t len, struct err *err)
{
	struct pci_dev *d = b->devs[devfn];
	uint32_t size = 2048;

	if (!d || d->rom || !len || len > PCI_ROM_MAX)
		return err_set(err, "no place for an expansion ROM of %zu bytes", len);
	while (size < len)
		size *= 2;
	d->rom = malloc(size);
	if (!d->rom)
		return err_set(err, "out of memory");
	memcpy(d->rom, data, len);
	memset(d->rom + len, 0xff, size - len);
	set_rom_identity(d, size);
	d->bar[PCI_ROM_BAR] =
		(struct pci_bar){ .kind = PCI_BAR_MEM32, .size = size, .range = { "rom", &rom_ops, d, NULL } };
	st_le32(d->wmask + CFG_ROM, ~(size - 1) | ROM_ENABLE);
	return 0;
}

/* --- saved state --- */

static int post_load(void *obj, struct err *err)
{
	struct pci_dev *d = obj;

	for (unsigned off = 0; off < PCI_CONFIG_SIZE; off++)
		if ((d->config[off] ^ d->initial[off]) & ~(d->wmask[off] | d->w1cmask[off]))
			return err_set(err, "%s: configuration byte %#x is another device's", d->name, off);
	if (pci_msix_check(d, err))
		return -1;
	update_bars(d);
	d->intx_driven = false;
	update_intx(d);
	pci_msix_config_written(d);
	return 0;
}

/* What the guest cannot change must be equal on both sides of a save. */
void pci_dev_freeze(struct pci_dev *d)
{
	memcpy(d->initial, d->config, sizeof(d->initial));
}

static const struct state_field msix_fields[] = {
	STATE_U64F(struct pci_msix_entry, addr),
	STATE_U32F(struct pci_msix_entry, data),
	STATE_U32F(struct pci_msix_entry, control),
	STATE_FIELD_END,
};
static const struct state_desc msix_entry = { .name = "msix", .version = 1, .min_version = 1, .fields = msix_fields };
static const struct state_field fields[] = {
	STATE_U8A(struct pci_dev, config),
	STATE_BOOLF(struct pci_dev, intx_level),
	STATE_SUBA(struct pci_dev, msix, &msix_entry),
	STATE_U64F(struct pci_dev, msix_pending),
	STATE_FIELD_END,
};
const struct state_desc pci_dev_state = {
	.name = "pci", .version = 1, .min_version = 1, .fields = fields, .post_load = post_load
};
