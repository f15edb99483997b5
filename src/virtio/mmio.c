/* The virtio-mmio transport, version 2 (virtio 1.2 section 4.2): one register window and a level interrupt. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "virtio/transport.h"

/* Registers, section 4.2.2 */
enum {
	R_MAGIC = 0x000,
	R_VERSION = 0x004,
	R_DEVICE_ID = 0x008,
	R_VENDOR_ID = 0x00c,
	R_DEVICE_FEATURES = 0x010,
	R_DEVICE_FEATURES_SEL = 0x014,
	R_DRIVER_FEATURES = 0x020,
	R_DRIVER_FEATURES_SEL = 0x024,
	R_QUEUE_SEL = 0x030,
	R_QUEUE_NUM_MAX = 0x034,
	R_QUEUE_NUM = 0x038,
	R_QUEUE_READY = 0x044,
	R_QUEUE_NOTIFY = 0x050,
	R_INTERRUPT_STATUS = 0x060,
	R_INTERRUPT_ACK = 0x064,
	R_STATUS = 0x070,
	R_QUEUE_DESC_LOW = 0x080,
	R_QUEUE_DESC_HIGH = 0x084,
	R_QUEUE_DRIVER_LOW = 0x090,
	R_QUEUE_DRIVER_HIGH = 0x094,
	R_QUEUE_DEVICE_LOW = 0x0a0,
	R_QUEUE_DEVICE_HIGH = 0x0a4,
	R_SHM_LEN_LOW = 0x0b0,
	R_SHM_BASE_HIGH = 0x0bc,
	R_QUEUE_RESET = 0x0c0,
	R_CONFIG_GENERATION = 0x0fc,
	R_CONFIG = 0x100,
};
#define MAGIC	 0x74726976u /* "virt" */
#define VERSION	 2u
#define VENDOR	 0x4f455256u /* "VREO" */
#define I_QUEUE	 1u
#define I_CONFIG 2u

struct virtio_mmio;

struct virtio_mmio {
	struct device dev;
	struct virtio_dev *d;
	void *self; /* d->self, for the state table */
	struct bus *bus;
	struct bus_handle *window;
	struct irq_line irq;
	pthread_mutex_t irq_lock; /* isr and the line change together; innermost */
	uint32_t isr;
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	struct bus_handle *bells[VIRTIO_MAX_QUEUES];
	struct state_field fields[8];
	struct state_desc state;
};

/* --- interrupts --- */

static void set_isr(struct virtio_mmio *m, uint32_t set, uint32_t clear)
{
	pthread_mutex_lock(&m->irq_lock);
	m->isr = (m->isr | set) & ~clear;
	irq_set(&m->irq, m->isr != 0);
	pthread_mutex_unlock(&m->irq_lock);
}

static void queue_interrupt(void *transport, unsigned q)
{
	set_isr(transport, I_QUEUE, 0);
}

static void config_interrupt(void *transport)
{
	set_isr(transport, I_CONFIG, 0);
}

static const struct virtio_transport_ops transport_ops = { queue_interrupt, config_interrupt };

/* --- registers --- */

static uint64_t read_register(struct virtio_mmio *m, unsigned off)
{
	struct virtio_dev *d = m->d;
	struct virtio_queue *vq = virtio_queue(d, m->queue_sel);
	uint32_t isr;

	switch (off) {
	case R_MAGIC:
		return MAGIC;
	case R_VERSION:
		return VERSION;
	case R_DEVICE_ID:
		return d->id;
	case R_VENDOR_ID:
		return VENDOR;
	case R_DEVICE_FEATURES:
		return m->device_features_sel > 1 ? 0 : (uint32_t)(virtio_offered(d) >> (32 * m->device_features_sel));
	case R_QUEUE_NUM_MAX:
		return vq ? vq->max_size : 0;
	case R_QUEUE_READY:
		return vq ? vq->enabled : 0;
	case R_INTERRUPT_STATUS:
		pthread_mutex_lock(&m->irq_lock);
		isr = m->isr;
		pthread_mutex_unlock(&m->irq_lock);
		return isr;
	case R_STATUS:
		return d->status;
	case R_QUEUE_RESET:
		return 0; /* it has ended when it was asked for */
	case R_CONFIG_GENERATION:
		return d->config_generation;
	}
	/* Shared memory regions: none, so length and base are all ones. */
	return off >= R_SHM_LEN_LOW && off <= R_SHM_BASE_HIGH ? UINT32_MAX : 0;
}

static uint64_t window_read(void *opaque, uint64_t off, unsigned size)
{
	struct virtio_mmio *m = opaque;
	uint8_t buf[8] = { 0 };

	if (off >= R_CONFIG) {
		virtio_config_read(m->d, off - R_CONFIG, buf, size);
		return ld_le64(buf);
	}
	return size == 4 && !(off & 3) ? read_register(m, off) : 0;
}

static void set_half(uint64_t *v, bool high, uint32_t half)
{
	*v = high ? (uint32_t)*v | (uint64_t)half << 32 : (*v >> 32 << 32) | half;
}

/* Registers of the selected queue. */
static void write_queue(struct virtio_mmio *m, unsigned off, uint32_t val)
{
	struct virtio_queue *vq = virtio_queue(m->d, m->queue_sel);
	bool high = off & 4;

	if (!vq || !virtio_may_configure(m->d, vq, "queue setup"))
		return;
	switch (off) {
	case R_QUEUE_NUM:
		virtio_queue_set_size(m->d, m->queue_sel, val);
		break;
	case R_QUEUE_READY:
		if (val & 1)
			virtio_queue_enable(m->d, m->queue_sel);
		else
			vq->enabled = false;
		break;
	case R_QUEUE_DESC_LOW:
	case R_QUEUE_DESC_HIGH:
		set_half(&vq->desc, high, val);
		break;
	case R_QUEUE_DRIVER_LOW:
	case R_QUEUE_DRIVER_HIGH:
		set_half(&vq->driver, high, val);
		break;
	case R_QUEUE_DEVICE_LOW:
	case R_QUEUE_DEVICE_HIGH:
		set_half(&vq->device, high, val);
		break;
	}
}

static void clear_registers(struct virtio_mmio *m)
{
	m->device_features_sel = m->driver_features_sel = m->queue_sel = 0;
	set_isr(m, 0, UINT32_MAX);
}

static void write_register(struct virtio_mmio *m, unsigned off, uint32_t val)
{
	switch (off) {
	case R_DEVICE_FEATURES_SEL:
		m->device_features_sel = val;
		break;
	case R_DRIVER_FEATURES_SEL:
		m->driver_features_sel = val;
		break;
	case R_DRIVER_FEATURES:
		virtio_set_features(m->d, m->driver_features_sel, val);
		break;
	case R_QUEUE_SEL:
		m->queue_sel = val;
		break;
	case R_INTERRUPT_ACK:
		set_isr(m, 0, val);
		break;
	case R_STATUS:
		virtio_set_status(m->d, val);
		if (!(uint8_t)val)
			clear_registers(m);
		break;
	case R_QUEUE_RESET:
		if (val & 1)
			virtio_queue_reset(m->d, m->queue_sel);
		break;
	case R_QUEUE_NOTIFY: /* a queue that exists has a doorbell */
		break;
	default:
		write_queue(m, off, val);
		break;
	}
}

static void window_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct virtio_mmio *m = opaque;
	uint8_t buf[8];

	if (off >= R_CONFIG) {
		st_le64(buf, val);
		virtio_config_write(m->d, off - R_CONFIG, buf, size);
	} else if (size == 4 && !(off & 3)) {
		write_register(m, off, val);
	}
}

static const struct bus_ops window_ops = {
	.read = window_read,
	.write = window_write,
	.valid = { 1, 8 },
	.impl = { 1, 8 },
};

/* --- life --- */

static void mmio_reset(void *self)
{
	struct virtio_mmio *m = self;

	virtio_reset(m->d);
	clear_registers(m);
}

static void mmio_drain(void *self)
{
	virtio_drain(((struct virtio_mmio *)self)->d);
}

static void mmio_resume(void *self)
{
	struct virtio_mmio *m = self;

	set_isr(m, 0, 0); /* after a load: the line follows the register again */
	virtio_resume(m->d);
}

static void mmio_destroy(void *self)
{
	struct virtio_mmio *m = self;

	for (unsigned q = 0; q < m->d->n_queues; q++)
		bus_del(m->bus, m->bells[q]);
	bus_del(m->bus, m->window);
	pthread_mutex_lock(&m->d->lock);
	virtio_reset(m->d);
	clear_registers(m);
	pthread_mutex_unlock(&m->d->lock);
	m->d->ops->destroy(m->d);
	pthread_mutex_destroy(&m->irq_lock);
	free(m);
}

static int mmio_post_load(void *obj, struct err *err)
{
	struct virtio_mmio *m = obj;

	if (m->isr & ~(I_QUEUE | I_CONFIG))
		return err_set(err, "interrupt status %#x has unknown bits", m->isr);
	return virtio_loaded(m->d, err);
}

static const struct state_field own_fields[] = {
	STATE_U32F(struct virtio_mmio, isr),
	STATE_U32F(struct virtio_mmio, device_features_sel),
	STATE_U32F(struct virtio_mmio, driver_features_sel),
	STATE_U32F(struct virtio_mmio, queue_sel),
	STATE_REF(struct virtio_mmio, d, &virtio_core_state),
};

static void make_state(struct virtio_mmio *m)
{
	const struct state_field self = STATE_REF(struct virtio_mmio, self, m->d->state), end = STATE_FIELD_END;

	_Static_assert(ARRAY_LEN(own_fields) + 2 <= ARRAY_LEN(m->fields), "room for the fields");
	memcpy(m->fields, own_fields, sizeof(own_fields));
	m->fields[ARRAY_LEN(own_fields)] = self;
	m->fields[ARRAY_LEN(own_fields) + 1] = end;
	m->state = (struct state_desc){
		.name = m->d->name, .version = 1, .min_version = 1, .fields = m->fields, .post_load = mmio_post_load
	};
}

static int add_bells(struct virtio_mmio *m, uint64_t base, struct err *err)
{
	for (unsigned q = 0; q < m->d->n_queues; q++) {
		struct bus_doorbell bell = virtio_bell(m->d, q);

		bell.at.addr = base + R_QUEUE_NOTIFY;
		bell.at.size = 4;
		bell.at.value = q;
		m->bells[q] = bus_add_doorbell(m->bus, &bell, err);
		if (!m->bells[q])
			return -1;
	}
	return 0;
}

struct device *virtio_mmio_new(struct virtio_dev *d, const struct virtio_mmio_config *c, struct err *err)
{
	struct virtio_mmio *m = calloc(1, sizeof(*m));

	if (!m) {
		d->ops->destroy(d);
		err_set(err, "out of memory");
		return NULL;
	}
	m->d = d;
	m->self = d->self;
	m->bus = c->bus;
	m->irq = c->irq;
	pthread_mutex_init(&m->irq_lock, NULL);
	make_state(m);
	m->dev = (struct device){
		.name = d->name,
		.self = m,
		.state = d->state ? &m->state : NULL,
		.lock = &d->lock,
		.reset = mmio_reset,
		.drain = mmio_drain,
		.resume = mmio_resume,
		.destroy = mmio_destroy,
	};
	snprintf(m->dev.instance, sizeof(m->dev.instance), "%u", c->index);
	d->transport_ops = &transport_ops;
	d->transport = m;
	if (bus_doorbells_wanted(m->bus))
		virtio_watch_bells(d);
	const struct bus_range range = { d->name, &window_ops, m, &d->lock };
	m->window = bus_add(c->bus, BUS_MMIO, c->base, VIRTIO_MMIO_SIZE, &range, err);
	if (!m->window || add_bells(m, c->base, err)) {
		mmio_destroy(m);
		return NULL;
	}
	return &m->dev;
}
