/* The VGA as a device: what it is on the buses, its reset, and its state. See vga.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "dev/vga_impl.h"

#define BAR_MEMORY  0
#define BAR_MMIO    2
#define MMIO_SIZE   4096
#define PREFERRED_X 1280
#define PREFERRED_Y 800

static void reset(void *self)
{
	struct vga *v = self;

	v->misc = v->feature = 0;
	v->seq_index = v->gfx_index = v->crtc_index = v->attr_index = 0;
	v->attr_data = v->dac_reading = v->big_endian = false;
	v->dac_mask = 0xff;
	v->dac_read = v->dac_write = v->dac_part = 0;
	memset(v->seq, 0, sizeof(v->seq));
	memset(v->gfx, 0, sizeof(v->gfx));
	memset(v->crtc, 0, sizeof(v->crtc));
	memset(v->attr, 0, sizeof(v->attr));
	memset(v->palette, 0, sizeof(v->palette));
	memset(v->latch, 0, sizeof(v->latch));
	memset(v->dispi, 0, sizeof(v->dispi));
	v->dispi_index = 0;
	v->dispi_low = 0;
	v->dispi[DISPI_ID] = DISPI_ID_5;
	v->dispi[DISPI_MEMORY] = (uint16_t)(v->c.memory_size >> 16);
	v->version++;
}

static void destroy(void *self)
{
	struct vga *v = self;

	pci_unregister(&v->pci);
	pthread_mutex_destroy(&v->lock);
	free(v->written);
	free(v);
}

/* The memory goes where the BAR is; where that is nowhere, or over other memory, the bus alone leads to it. */
static void bar_moved(struct pci_dev *d, unsigned i)
{
	struct vga *v = container_of(d, struct vga, pci);

	if (i != BAR_MEMORY)
		return;
	mem_move(v->c.mem, v->c.memory, pci_bar_mapped(d, BAR_MEMORY));
	if (v->c.moved)
		v->c.moved(v->c.opaque);
}

/* --- state: the memory is saved as memory --- */

static int post_load(void *obj, struct err *err)
{
	struct vga *v = obj;

	if (v->seq_index > 7 || v->gfx_index > 15 || v->attr_index > 63 || v->dac_part > 2)
		return err_set(err, "an index is out of its range");
	if (v->dispi[DISPI_ID] < DISPI_ID_0 || v->dispi[DISPI_ID] > DISPI_ID_5 ||
	    v->dispi[DISPI_MEMORY] != v->c.memory_size >> 16)
		return err_set(err, "the memory has another size");
	if (vga_dispi_on(v))
		vga_dispi_fix(v);
	v->version++;
	return 0;
}

static const struct state_field fields[] = {
	STATE_U8F(struct vga, misc),
	STATE_U8F(struct vga, feature),
	STATE_U8F(struct vga, seq_index),
	STATE_U8A(struct vga, seq),
	STATE_U8F(struct vga, gfx_index),
	STATE_U8A(struct vga, gfx),
	STATE_U8F(struct vga, crtc_index),
	STATE_U8A(struct vga, crtc),
	STATE_U8F(struct vga, attr_index),
	STATE_U8A(struct vga, attr),
	STATE_BOOLF(struct vga, attr_data),
	STATE_U8F(struct vga, dac_mask),
	STATE_U8F(struct vga, dac_read),
	STATE_U8F(struct vga, dac_write),
	STATE_U8F(struct vga, dac_part),
	STATE_U8A(struct vga, dac_new),
	STATE_BOOLF(struct vga, dac_reading),
	STATE_U8A(struct vga, palette),
	STATE_U8A(struct vga, latch),
	STATE_U16F(struct vga, dispi_index),
	STATE_U16A(struct vga, dispi),
	STATE_U8F(struct vga, dispi_low),
	STATE_BOOLF(struct vga, big_endian),
	STATE_SUB(struct vga, pci, &pci_dev_state),
	STATE_FIELD_END,
};
static const struct state_desc state = {
	.name = "vga", .version = 1, .min_version = 1, .fields = fields, .post_load = post_load
};

static int add_ranges(struct vga *v, struct err *err)
{
	const struct bus_range ports = { "vga", &vga_port_ops, v, &v->lock },
			       dispi = { "vga-dispi", &vga_dispi_ops, v, &v->lock },
			       window = { "vga-window", &vga_window_ops, v, &v->lock };

	return bus_add(v->c.bus, BUS_PORT, 0x3b0, 0x30, &ports, err) &&
			       bus_add(v->c.bus, BUS_PORT, 0x1ce, 4, &dispi, err) &&
			       bus_add(v->c.bus, BUS_MMIO, 0xa0000, 0x20000, &window, err)
		       ? 0
		       : -1;
}

static void declare(struct vga *v)
{
	const struct bus_range memory = { "vga-memory", &vga_linear_ops, v, NULL },
			       mmio = { "vga-mmio", &vga_mmio_ops, v, &v->lock };

	pci_dev_init(&v->pci, "vga", &(struct pci_id){ 0x1234, 0x1111, 0x03000002, 0x1af4, 0x1100 }, &v->lock);
	pci_set_bar(&v->pci, BAR_MEMORY, PCI_BAR_MEM32, true, v->c.memory_size, &memory);
	pci_set_bar(&v->pci, BAR_MMIO, PCI_BAR_MEM32, false, MMIO_SIZE, &mmio);
	v->pci.bar_moved = bar_moved;
}

struct device *vga_new(const struct vga_config *c, struct screen_source *source, struct err *err)
{
	struct vga *v = calloc(1, sizeof(*v));

	if (v)
		v->written = calloc(c->memory_size / MEM_PAGE_SIZE / 64, sizeof(*v->written));
	if (!v || !v->written) {
		free(v);
		err_set(err, "out of memory");
		return NULL;
	}
	v->c = *c;
	v->memory = mem_movable_host(c->mem, c->memory);
	pthread_mutex_init(&v->lock, NULL);
	v->dev = (struct device){
		.name = "vga", .self = v, .state = &state, .lock = &v->lock, .reset = reset, .destroy = destroy
	};
	snprintf(v->dev.instance, sizeof(v->dev.instance), "00:%02x.0", c->devfn >> 3);
	vga_edid(v->edid, PREFERRED_X, PREFERRED_Y);
	reset(v);
	declare(v);
	if (pci_register(c->pci, &v->pci, c->devfn, err)) {
		pthread_mutex_destroy(&v->lock);
		free(v->written);
		free(v);
		return NULL;
	}
	if (add_ranges(v, err)) {
		destroy(v);
		return NULL;
	}
	*source = (struct screen_source){ vga_draw, vga_text, v };
	return &v->dev;
}
