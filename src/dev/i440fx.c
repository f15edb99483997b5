/*
 * The host bridge: configuration mechanism #1 (PCI 3.0, 3.2.2.3.2) and an 82441FX function at 00.0.
 *
 * What is between 640 KiB and 1 MiB is the business of its PAM and SMRAM registers (82441FX data sheet, 3.2.18 and
 * 3.2.19) if the machine begins in a ROM. Else that is all RAM: the PAM registers say so and cannot be changed, and
 * there is no SMRAM. D_CLS is kept and means nothing: data and code of SMM see the same.
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
	struct i440fx_memory memory; /* mem: NULL if it is all RAM */
	uint32_t address;
	uint8_t reset;
};

#define ENABLE	0x80000000u
#define PAM	0x59 /* to 0x5f */
#define PAM_RAM 0x33 /* both halves are read from and written to RAM */
#define PAM_RE	1u
#define PAM_WE	2u

#define SMRAM	  0x72
#define D_OPEN	  0x40u
#define D_CLS	  0x20u
#define D_LCK	  0x10u
#define G_SMRAME  0x08u
#define C_BASE	  0x02u /* compatible SMRAM at A0000h, and no other one */
#define UPPER	  0xc0000u
#define UPPER_END 0x100000u
#define SEGMENT	  0x4000u

/* --- memory --- */

/* RE and WE of segment n: F0000h first, which is 64 KiB, then C0000h and so on, 16 KiB each. */
static unsigned pam_of(const struct i440fx *h, unsigned n)
{
	return h->pci.config[PAM + (n + 1) / 2] >> (n & 1 ? 0 : 4) & (PAM_RE | PAM_WE);
}

static enum mem_overlay_mode mode_of(unsigned pam)
{
	if (!(pam & PAM_RE))
		return MEM_OVERLAY_ROM;
	return pam & PAM_WE ? MEM_OVERLAY_NONE : MEM_OVERLAY_READONLY;
}

static void apply(struct i440fx *h)
{
	struct i440fx_memory *m = &h->memory;
	uint8_t *smram = &h->pci.config[SMRAM];
	bool enabled = *smram & G_SMRAME;

	if (!m->mem)
		return;
	if (*smram & D_LCK) {
		*smram &= (uint8_t)~D_OPEN;
		h->pci.wmask[SMRAM] = D_CLS;
	} else {
		h->pci.wmask[SMRAM] = D_OPEN | D_CLS | D_LCK | G_SMRAME;
	}
	for (unsigned n = 0; n < I440FX_PAMS; n++) {
		mem_overlay_set(m->mem, m->pam[n], mode_of(pam_of(h, n)));
		mem_overlay_set(m->smm, m->pam[n], mode_of(pam_of(h, n)));
	}
	mem_overlay_set(m->mem, m->vga, enabled && *smram & D_OPEN ? MEM_OVERLAY_NONE : MEM_OVERLAY_HOLE);
	mem_overlay_set(m->smm, m->vga, enabled ? MEM_OVERLAY_NONE : MEM_OVERLAY_HOLE);
	if (m->changed)
		m->changed(m->opaque);
}

static void config_written(struct pci_dev *pci, uint8_t off, uint8_t len)
{
	struct i440fx *h = container_of(pci, struct i440fx, pci);

	if ((off < PAM + 7 && off + len > PAM) || (off <= SMRAM && off + len > SMRAM))
		apply(h);
}

/* What memory does not take: stores to a ROM go to the RAM below it where that is open for writing only. */
static uint64_t upper_read(void *opaque, uint64_t off, unsigned size)
{
	return size_mask(size);
}

static void upper_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct i440fx *h = opaque;
	unsigned n = off < 12 * SEGMENT ? 1 + (unsigned)(off / SEGMENT) : 0;

	val = htole64(val);
	if (pam_of(h, n) == PAM_WE)
		mem_overlay_write(h->memory.mem, gpa(UPPER + off), &val, size);
}

static const struct bus_ops upper_ops = { upper_read, upper_write, { 1, 8 }, { 1, 8 } };

/* --- ports --- */

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
	if (!h->memory.mem)
		return;
	memset(h->pci.config + PAM, 0, 7);
	h->pci.config[SMRAM] = C_BASE;
	apply(h);
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
static int post_load(void *obj, struct err *err)
{
	apply(obj);
	return 0;
}

static const struct state_desc state = {
	.name = "i440fx", .version = 1, .min_version = 1, .fields = fields, .post_load = post_load
};

int i440fx_add_overlays(struct i440fx_memory *m, uint64_t rom, uint64_t rom_size, struct err *err)
{
	struct mem_overlay_config c = { "vga", gpa(0xa0000), 0x20000, false, { 0 } };
	int n = mem_add_overlay(m->mem, &c, err);

	m->vga = (unsigned)n;
	for (unsigned k = 0; k < I440FX_PAMS && n >= 0; k++) {
		uint64_t base = k ? UPPER + (k - 1) * SEGMENT : UPPER_END - 4 * SEGMENT, below = UPPER_END - base;

		c = (struct mem_overlay_config){ "pam", gpa(base), k ? SEGMENT : 4 * SEGMENT, below <= rom_size,
						 gpa(below <= rom_size ? rom + rom_size - below : 0) };
		n = mem_add_overlay(m->mem, &c, err);
		m->pam[k] = (unsigned)n;
	}
	return n < 0 ? -1 : 0;
}

/* The registers as a reset leaves them; and who takes what memory does not. */
static bool add_memory(struct i440fx *h, struct bus *bus, struct err *err)
{
	struct bus_range upper = { "pam", &upper_ops, h, &h->lock };

	if (!h->memory.mem) {
		h->pci.config[PAM] = PAM_RAM & 0xf0; /* the low half of the first is not a region */
		memset(h->pci.config + PAM + 1, PAM_RAM, 6);
		return true;
	}
	h->pci.config[SMRAM] = C_BASE;
	h->pci.wmask[PAM] = PAM_RAM & 0xf0;
	memset(h->pci.wmask + PAM + 1, PAM_RAM, 6);
	h->pci.config_written = config_written;
	apply(h);
	return bus_add(bus, BUS_MMIO, UPPER, UPPER_END - UPPER, &upper, err);
}

struct device *i440fx_new(struct bus *bus, struct pci_bus *pci, const struct machine_control *m,
			  const struct i440fx_memory *memory, struct err *err)
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
	if (memory)
		h->memory = *memory;
	h->dev = (struct device){ .name = "i440fx",
				  .instance = "00:00.0",
				  .self = h,
				  .state = &state,
				  .lock = &h->lock,
				  .reset = reset,
				  .destroy = destroy };
	pci_dev_init(&h->pci, "i440fx", &(struct pci_id){ 0x8086, 0x1237, 0x06000002, 0x1af4, 0x1100 }, &h->lock);
	pci_set_chipset(&h->pci, 6);
	if (!add_memory(h, bus, err) || pci_register(pci, &h->pci, 0, err)) {
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
