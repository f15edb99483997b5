/*
 * The virtio-pci transport, modern devices only (virtio 1.2 section 4.1): three memory BARs for the
 * registers, the notifications and MSI-X, and a window to them in the configuration space. Notifications
 * have a BAR of their own because they are taken without the device's lock.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "virtio/transport.h"

#define VENDOR	      0x1af4
#define DEVICE_BASE   0x1040
#define SUBSYSTEM     0x1100
#define CLASS_UNKNOWN 0xff000000u
#define REVISION      1u

enum { BAR_REGS = 0, BAR_MSIX = 1, BAR_NOTIFY = 2 };

/* Regions of BAR_REGS, a page each, so that a guest may map them apart. */
enum { REGION_COMMON = 0, REGION_ISR = 0x1000, REGION_DEVICE = 0x2000, REGS_SIZE = 0x4000 };
#define REGION_SIZE   0x1000u
#define MSIX_TABLE    0u
#define MSIX_PBA      0x800u
#define NOTIFY_STRIDE 4u

/* Structure types, 4.1.4 */
enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4, CAP_PCI_CFG = 5 };
/* Fields of struct virtio_pci_cap, and of the two structures that are longer */
enum { CAP_LEN = 2, CAP_TYPE = 3, CAP_BAR = 4, CAP_OFFSET = 8, CAP_LENGTH = 12, CAP_SIZE = 16 };
enum { CAP_NOTIFY_STRIDE = 16, CAP_CFG_DATA = 16, CAP_LONG_SIZE = 20 };
#define PCI_CAP_VENDOR 9

/* struct virtio_pci_common_cfg, 4.1.4.3 */
enum {
	C_DEVICE_FEATURE_SELECT = 0x00,
	C_DEVICE_FEATURE = 0x04,
	C_DRIVER_FEATURE_SELECT = 0x08,
	C_DRIVER_FEATURE = 0x0c,
	C_CONFIG_VECTOR = 0x10,
	C_NUM_QUEUES = 0x12,
	C_STATUS = 0x14,
	C_GENERATION = 0x15,
	C_QUEUE_SELECT = 0x16,
	C_QUEUE_SIZE = 0x18,
	C_QUEUE_VECTOR = 0x1a,
	C_QUEUE_ENABLE = 0x1c,
	C_QUEUE_NOTIFY_OFF = 0x1e,
	C_QUEUE_DESC = 0x20,
	C_QUEUE_DRIVER = 0x28,
	C_QUEUE_DEVICE = 0x30,
	COMMON_SIZE = 0x38, /* of devices whose queues cannot be reset alone */
	C_QUEUE_NOTIFY_DATA = 0x38,
	C_QUEUE_RESET = 0x3a,
	COMMON_SIZE_RESET = 0x3c
};
#define I_QUEUE	 1u
#define I_CONFIG 2u

struct virtio_pci {
	struct device dev;
	struct pci_dev pci;
	struct virtio_dev *d;
	void *self; /* d->self, for the state table */
	struct bus *bus;
	bool registered;
	pthread_mutex_t irq_lock; /* isr and the INTx level change together; innermost */
	uint8_t isr;
	uint8_t cfg_cap; /* where the window's capability is */
	uint16_t config_vector;
	uint32_t device_feature_select, driver_feature_select;
	uint16_t queue_select;
	pthread_mutex_t bell_lock; /* bells and bells_at; below the device's lock */
	uint64_t bells_at;	   /* the address that the doorbells were made for; 0: none */
	struct bus_handle *bells[VIRTIO_MAX_QUEUES];
	struct state_field fields[10];
	struct state_desc state;
};

/* --- interrupts --- */

/* Returns the old value. The pin shows the register; pci.c holds it back while MSI-X is in use. */
static uint8_t set_isr(struct virtio_pci *p, uint8_t set, uint8_t clear)
{
	uint8_t old;

	pthread_mutex_lock(&p->irq_lock);
	old = p->isr;
	p->isr = (old | set) & ~clear;
	pci_intx_set(&p->pci, p->isr != 0);
	pthread_mutex_unlock(&p->irq_lock);
	return old;
}

/* NO_VECTOR lies beyond the table. */
static void queue_interrupt(void *transport, unsigned q)
{
	struct virtio_pci *p = transport;

	if (pci_msix_enabled(&p->pci))
		pci_msix_notify(&p->pci, p->d->queues[q].vector);
	else
		set_isr(p, I_QUEUE, 0);
}

/* The register tells of configuration changes with MSI-X too (4.1.4.5.1). */
static void config_interrupt(void *transport)
{
	struct virtio_pci *p = transport;

	set_isr(p, I_CONFIG, 0);
	if (pci_msix_enabled(&p->pci))
		pci_msix_notify(&p->pci, p->config_vector);
}

static const struct virtio_transport_ops transport_ops = { queue_interrupt, config_interrupt };

/* --- doorbells: only while the driver runs, at the place that the notification BAR has then --- */

/* Where the doorbells belong now: the notification BAR, as it is decoded, while the driver runs; 0: nowhere. */
static uint64_t bells_place(const struct virtio_pci *p)
{
	return p->d->status & VIRTIO_S_DRIVER_OK ? pci_bar_mapped(&p->pci, BAR_NOTIFY) : 0;
}

static void sync_bells(struct virtio_pci *p)
{
	struct err err;
	uint64_t at;

	pthread_mutex_lock(&p->bell_lock);
	at = bells_place(p);
	for (unsigned q = 0; at != p->bells_at && q < p->d->n_queues; q++) {
		struct bus_doorbell bell = virtio_bell(p->d, q);

		/* The place says which queue it is. Some hardware tells that there was a write sooner than of what. */
		bell.at.addr = at + q * NOTIFY_STRIDE;
		bell.at.any = true;
		bus_del(p->bus, p->bells[q]);
		/* Without a doorbell the write reaches the BAR: slower and no less right. */
		p->bells[q] = at ? bus_add_doorbell(p->bus, &bell, &err) : NULL;
	}
	p->bells_at = at;
	pthread_mutex_unlock(&p->bell_lock);
}

static uint64_t notify_read(void *opaque, uint64_t off, unsigned size)
{
	return 0;
}

static void notify_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct virtio_pci *p = opaque;

	virtio_kick(p->d, off / NOTIFY_STRIDE);
}

static const struct bus_ops notify_ops = {
	.read = notify_read,
	.write = notify_write,
	.valid = { 1, 4 },
	.impl = { 1, 4 },
};

/* --- the common configuration structure --- */

static uint64_t common_read(struct virtio_pci *p, unsigned off, unsigned size)
{
	struct virtio_dev *d = p->d;
	const struct virtio_queue *vq = virtio_queue(d, p->queue_select);
	uint8_t c[COMMON_SIZE_RESET + 8] = { 0 };

	if (off >= COMMON_SIZE_RESET)
		return 0;
	st_le32(c + C_DEVICE_FEATURE_SELECT, p->device_feature_select);
	if (p->device_feature_select < 2)
		st_le32(c + C_DEVICE_FEATURE, virtio_offered(d) >> (32 * p->device_feature_select));
	st_le32(c + C_DRIVER_FEATURE_SELECT, p->driver_feature_select);
	if (p->driver_feature_select < 2)
		st_le32(c + C_DRIVER_FEATURE, d->features >> (32 * p->driver_feature_select));
	st_le16(c + C_CONFIG_VECTOR, p->config_vector);
	st_le16(c + C_NUM_QUEUES, d->n_queues);
	c[C_STATUS] = d->status;
	c[C_GENERATION] = d->config_generation;
	st_le16(c + C_QUEUE_SELECT, p->queue_select);
	if (vq) { /* a queue that does not exist has size 0 */
		st_le16(c + C_QUEUE_SIZE, vq->size);
		st_le16(c + C_QUEUE_VECTOR, vq->vector);
		st_le16(c + C_QUEUE_ENABLE, vq->enabled);
		st_le16(c + C_QUEUE_NOTIFY_OFF, p->queue_select);
		st_le64(c + C_QUEUE_DESC, vq->desc);
		st_le64(c + C_QUEUE_DRIVER, vq->driver);
		st_le64(c + C_QUEUE_DEVICE, vq->device);
		st_le16(c + C_QUEUE_NOTIFY_DATA, p->queue_select);
	}
	return ld_le64(c + off) & size_mask(size);
}

static uint16_t valid_vector(const struct virtio_pci *p, uint16_t vector)
{
	return vector < p->pci.msix_vectors ? vector : VIRTIO_NO_VECTOR;
}

/* A 64-bit address: as a whole or in halves. */
static void set_address(uint64_t *v, unsigned off, unsigned size, uint64_t val)
{
	unsigned shift = (off & 7) * 8;
	uint64_t mask = size_mask(size) << shift;

	*v = (*v & ~mask) | (val << shift & mask);
}

static void write_queue(struct virtio_pci *p, unsigned off, unsigned size, uint64_t val)
{
	struct virtio_queue *vq = virtio_queue(p->d, p->queue_select);

	if (!vq)
		return;
	/* Vectors only say where interrupts go: Linux sets them late. */
	if (off == C_QUEUE_VECTOR) {
		vq->vector = valid_vector(p, val);
		return;
	}
	/* A reset has ended when it was asked for: the register never reads as 1 (4.1.4.3.1). */
	if (off == C_QUEUE_RESET) {
		if (val == 1)
			virtio_queue_reset(p->d, p->queue_select);
		return;
	}
	if (!virtio_may_configure(p->d, vq, "queue setup"))
		return;
	if (off == C_QUEUE_SIZE)
		virtio_queue_set_size(p->d, p->queue_select, val);
	else if (off == C_QUEUE_ENABLE && val == 1)
		virtio_queue_enable(p->d, p->queue_select); /* only a reset disables (4.1.4.3.2) */
	else if (off >= C_QUEUE_DEVICE)
		set_address(&vq->device, off, size, val);
	else if (off >= C_QUEUE_DRIVER)
		set_address(&vq->driver, off, size, val);
	else if (off >= C_QUEUE_DESC)
		set_address(&vq->desc, off, size, val);
}

static void clear_registers(struct virtio_pci *p)
{
	p->device_feature_select = p->driver_feature_select = 0;
	p->queue_select = 0;
	p->config_vector = VIRTIO_NO_VECTOR;
	set_isr(p, 0, 0xff);
	sync_bells(p);
}

/* Drivers write a field as a whole, and addresses also in halves (4.1.3.1). */
static bool writes_field(unsigned off, unsigned size)
{
	static const uint8_t sizes[COMMON_SIZE_RESET] = {
		[C_DEVICE_FEATURE_SELECT] = 4,
		[C_DRIVER_FEATURE_SELECT] = 4,
		[C_DRIVER_FEATURE] = 4,
		[C_CONFIG_VECTOR] = 2,
		[C_STATUS] = 1,
		[C_QUEUE_SELECT] = 2,
		[C_QUEUE_SIZE] = 2,
		[C_QUEUE_VECTOR] = 2,
		[C_QUEUE_ENABLE] = 2,
		[C_QUEUE_DESC] = 4 | 8,
		[C_QUEUE_DESC + 4] = 4,
		[C_QUEUE_DRIVER] = 4 | 8,
		[C_QUEUE_DRIVER + 4] = 4,
		[C_QUEUE_DEVICE] = 4 | 8,
		[C_QUEUE_DEVICE + 4] = 4,
		[C_QUEUE_RESET] = 2,
	};

	return off < COMMON_SIZE_RESET && sizes[off] & size;
}

static void common_write(struct virtio_pci *p, unsigned off, unsigned size, uint64_t val)
{
	if (!writes_field(off, size))
		return;
	switch (off) {
	case C_DEVICE_FEATURE_SELECT:
		p->device_feature_select = val;
		break;
	case C_DRIVER_FEATURE_SELECT:
		p->driver_feature_select = val;
		break;
	case C_DRIVER_FEATURE:
		virtio_set_features(p->d, p->driver_feature_select, val);
		break;
	case C_CONFIG_VECTOR:
		p->config_vector = valid_vector(p, val);
		break;
	case C_STATUS:
		virtio_set_status(p->d, val);
		if (!(uint8_t)val)
			clear_registers(p);
		else
			sync_bells(p);
		break;
	case C_QUEUE_SELECT:
		p->queue_select = val;
		break;
	default:
		write_queue(p, off, size, val);
		break;
	}
}

/* --- BARs --- */

static uint64_t regs_read(void *opaque, uint64_t off, unsigned size)
{
	struct virtio_pci *p = opaque;
	uint8_t buf[8] = { 0 };
	unsigned in = off & (REGION_SIZE - 1);

	switch (off & ~(uint64_t)(REGION_SIZE - 1)) {
	case REGION_COMMON:
		return common_read(p, in, size);
	case REGION_ISR:
		return in == 0 ? set_isr(p, 0, 0xff) : 0; /* reading acknowledges (4.1.4.5) */
	case REGION_DEVICE:
		virtio_config_read(p->d, in, buf, size);
		return ld_le64(buf);
	}
	return 0;
}

static void regs_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct virtio_pci *p = opaque;
	unsigned in = off & (REGION_SIZE - 1);
	uint8_t buf[8];

	switch (off & ~(uint64_t)(REGION_SIZE - 1)) {
	case REGION_COMMON:
		common_write(p, in, size, val & size_mask(size));
		break;
	case REGION_DEVICE:
		st_le64(buf, val);
		virtio_config_write(p->d, in, buf, size);
		break;
	}
}

static const struct bus_ops regs_ops = {
	.read = regs_read,
	.write = regs_write,
	.valid = { 1, 8 },
	.impl = { 1, 8 },
};

static uint64_t msix_read(void *opaque, uint64_t off, unsigned size)
{
	struct virtio_pci *p = opaque;
	uint64_t val = 0;

	return pci_msix_read(&p->pci, off, size, &val) ? val : 0;
}

static void msix_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct virtio_pci *p = opaque;

	pci_msix_write(&p->pci, off, size, val);
}

static const struct bus_ops msix_ops = {
	.read = msix_read,
	.write = msix_write,
	.valid = { 4, 8 },
	.impl = { 4, 8 },
};

/* --- the configuration space --- */

/* A window for those who cannot reach the BARs yet (4.1.4.9): one access where the capability points. */
static void access_window(struct virtio_pci *p, bool write)
{
	uint8_t *cap = p->pci.config + p->cfg_cap, *data = cap + CAP_CFG_DATA;
	uint32_t off = ld_le32(cap + CAP_OFFSET), len = ld_le32(cap + CAP_LENGTH);
	const struct pci_bar *bar;
	const struct bus_range *r;

	if ((len != 1 && len != 2 && len != 4) || off & (len - 1) || cap[CAP_BAR] > BAR_NOTIFY)
		return;
	bar = &p->pci.bar[cap[CAP_BAR]];
	r = &bar->range;
	if (!range_within(off, len, bar->size) || len < r->ops->valid.min)
		return;
	if (r->lock)
		pthread_mutex_lock(r->lock);
	if (write) {
		r->ops->write(r->opaque, off, len, ld_le32(data) & size_mask(len));
	} else {
		uint8_t b[8];

		st_le64(b, r->ops->read(r->opaque, off, len));
		memcpy(data, b, len);
	}
	if (r->lock)
		pthread_mutex_unlock(r->lock);
}

static bool hits_window(const struct virtio_pci *p, uint8_t off, uint8_t len)
{
	unsigned data = p->cfg_cap + CAP_CFG_DATA;

	return off < data + 4 && data < (unsigned)off + len;
}

static void config_read(struct pci_dev *pci, uint8_t off, uint8_t len)
{
	struct virtio_pci *p = container_of(pci, struct virtio_pci, pci);

	if (hits_window(p, off, len))
		access_window(p, false);
}

/* What follows the configuration space: doorbells, and the right to use memory. */
static void follow_config(struct virtio_pci *p)
{
	sync_bells(p);
	virtio_set_bus_master(p->d, pci_bus_master(&p->pci));
}

static void config_written(struct pci_dev *pci, uint8_t off, uint8_t len)
{
	struct virtio_pci *p = container_of(pci, struct virtio_pci, pci);

	follow_config(p);
	if (hits_window(p, off, len))
		access_window(p, true);
}

/* --- life --- */

static void vpci_reset(void *self)
{
	struct virtio_pci *p = self;

	virtio_reset(p->d);
	clear_registers(p);
}

static void vpci_drain(void *self)
{
	struct virtio_pci *p = self;

	virtio_drain(p->d);
	pci_msix_hold(&p->pci, true);
}

static void vpci_resume(void *self)
{
	struct virtio_pci *p = self;

	pci_msix_hold(&p->pci, false);
	follow_config(p); /* which a load may have changed */
	virtio_resume(p->d);
}

static void vpci_destroy(void *self)
{
	struct virtio_pci *p = self;

	pthread_mutex_lock(&p->d->lock);
	virtio_reset(p->d);
	pthread_mutex_unlock(&p->d->lock);
	sync_bells(p);
	if (p->registered)
		pci_unregister(&p->pci);
	p->d->ops->destroy(p->d);
	pthread_mutex_destroy(&p->bell_lock);
	pthread_mutex_destroy(&p->irq_lock);
	free(p);
}

/* --- saved state --- */

static int vpci_post_load(void *obj, struct err *err)
{
	struct virtio_pci *p = obj;

	if (p->isr & ~(I_QUEUE | I_CONFIG))
		return err_set(err, "interrupt status %#x has unknown bits", p->isr);
	/* Vectors are compared with the table at each use, so that any value is safe. */
	return virtio_loaded(p->d, err);
}

static const struct state_field own_fields[] = {
	STATE_U8F(struct virtio_pci, isr),
	STATE_U16F(struct virtio_pci, config_vector),
	STATE_U32F(struct virtio_pci, device_feature_select),
	STATE_U32F(struct virtio_pci, driver_feature_select),
	STATE_U16F(struct virtio_pci, queue_select),
	STATE_SUB(struct virtio_pci, pci, &pci_dev_state),
	STATE_REF(struct virtio_pci, d, &virtio_core_state),
};

static void make_state(struct virtio_pci *p)
{
	const struct state_field self = STATE_REF(struct virtio_pci, self, p->d->state), end = STATE_FIELD_END;

	_Static_assert(ARRAY_LEN(own_fields) + 2 <= ARRAY_LEN(p->fields), "room for the fields");
	memcpy(p->fields, own_fields, sizeof(own_fields));
	p->fields[ARRAY_LEN(own_fields)] = self;
	p->fields[ARRAY_LEN(own_fields) + 1] = end;
	p->state = (struct state_desc){
		.name = p->d->name, .version = 1, .min_version = 1, .fields = p->fields, .post_load = vpci_post_load
	};
}

/* --- making --- */

/* struct virtio_pci_cap, 4.1.4: its place, or 0. */
static uint8_t add_cap(struct virtio_pci *p, uint8_t type, uint8_t bar, uint32_t offset, uint32_t length)
{
	uint8_t len = type == CAP_NOTIFY || type == CAP_PCI_CFG ? CAP_LONG_SIZE : CAP_SIZE;
	uint8_t at = pci_add_cap(&p->pci, PCI_CAP_VENDOR, len), *cap = p->pci.config + at;

	if (!at)
		return 0;
	cap[CAP_LEN] = len;
	cap[CAP_TYPE] = type;
	cap[CAP_BAR] = bar;
	st_le32(cap + CAP_OFFSET, offset);
	st_le32(cap + CAP_LENGTH, length);
	if (type == CAP_NOTIFY)
		st_le32(cap + CAP_NOTIFY_STRIDE, NOTIFY_STRIDE);
	return at;
}

/* The guest writes where the window looks, and through it. */
static bool add_window(struct virtio_pci *p)
{
	uint8_t *mask;

	p->cfg_cap = add_cap(p, CAP_PCI_CFG, 0, 0, 0);
	if (!p->cfg_cap)
		return false;
	mask = p->pci.wmask + p->cfg_cap;
	mask[CAP_BAR] = 0xff;
	memset(mask + CAP_OFFSET, 0xff, CAP_LONG_SIZE - CAP_OFFSET);
	p->pci.config_read = config_read;
	return true;
}

static int declare(struct virtio_pci *p, struct err *err)
{
	struct virtio_dev *d = p->d;
	bool resets = virtio_offered(d) >> VIRTIO_F_RING_RESET & 1;
	unsigned common_size = resets ? COMMON_SIZE_RESET : COMMON_SIZE;
	const struct bus_range regs = { d->name, &regs_ops, p, &d->lock };
	const struct bus_range msix = { "msix", &msix_ops, p, &d->lock };
	const struct bus_range notify = { "virtio-notify", &notify_ops, p, NULL };

	pci_dev_init(&p->pci, d->name,
		     &(struct pci_id){ VENDOR, DEVICE_BASE + d->id,
				       (d->pci_class ? d->pci_class : CLASS_UNKNOWN) | REVISION, VENDOR, SUBSYSTEM },
		     &d->lock);
	p->pci.config_written = config_written;
	pci_set_intx_pin(&p->pci, 1);
	pci_set_bar(&p->pci, BAR_REGS, PCI_BAR_MEM32, false, REGS_SIZE, &regs);
	pci_set_bar(&p->pci, BAR_MSIX, PCI_BAR_MEM32, false, REGION_SIZE, &msix);
	pci_set_bar(&p->pci, BAR_NOTIFY, PCI_BAR_MEM32, false, REGION_SIZE, &notify);
	if (pci_add_msix(&p->pci, d->n_queues + 1, BAR_MSIX, MSIX_TABLE, MSIX_PBA, err))
		return -1;
	if (!add_cap(p, CAP_COMMON, BAR_REGS, REGION_COMMON, common_size) ||
	    !add_cap(p, CAP_ISR, BAR_REGS, REGION_ISR, 1) ||
	    !add_cap(p, CAP_DEVICE, BAR_REGS, REGION_DEVICE, REGION_SIZE) ||
	    !add_cap(p, CAP_NOTIFY, BAR_NOTIFY, 0, REGION_SIZE) || !add_window(p))
		return err_set(err, "%s: no room for its PCI capabilities", d->name);
	return 0;
}

static int attach(struct virtio_pci *p, const struct virtio_pci_config *c, struct err *err)
{
	int devfn = c->devfn;

	if (devfn < 0) {
		int slot = pci_free_slot(c->pci);

		if (slot < 0)
			return err_set(err, "%s: all PCI slots are taken", p->d->name);
		devfn = slot << 3;
	}
	if (declare(p, err) || pci_register(c->pci, &p->pci, devfn, err))
		return -1;
	p->registered = true;
	virtio_set_bus_master(p->d, false);
	snprintf(p->dev.instance, sizeof(p->dev.instance), "00:%02x.%x", devfn >> 3 & 0x1f, devfn & 7);
	return 0;
}

struct device *virtio_pci_new(struct virtio_dev *d, const struct virtio_pci_config *c, struct err *err)
{
	struct virtio_pci *p = calloc(1, sizeof(*p));

	if (!p) {
		d->ops->destroy(d);
		err_set(err, "out of memory");
		return NULL;
	}
	p->d = d;
	p->self = d->self;
	p->bus = c->bus;
	p->config_vector = VIRTIO_NO_VECTOR;
	pthread_mutex_init(&p->irq_lock, NULL);
	pthread_mutex_init(&p->bell_lock, NULL);
	make_state(p);
	p->dev = (struct device){
		.name = d->name,
		.self = p,
		.state = d->state ? &p->state : NULL,
		.lock = &d->lock,
		.reset = vpci_reset,
		.drain = vpci_drain,
		.resume = vpci_resume,
		.destroy = vpci_destroy,
	};
	d->transport_ops = &transport_ops;
	d->transport = p;
	if (bus_doorbells_wanted(p->bus))
		virtio_watch_bells(d);
	if (attach(p, c, err)) {
		vpci_destroy(p);
		return NULL;
	}
	return &p->dev;
}
