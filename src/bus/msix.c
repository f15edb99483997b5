/*
 * MSI-X of a PCI function. PCI 3.0, 6.8.2. The device's lock guards the table; notifications come without it, so
 * that what they look at is atomic: a vector's pending bit is set before its mask is looked at, and the mask is
 * lifted before pending bits are looked at.
 *
 * Where the sink can wait for events, each vector that may be sent is bound to one of its own, and a notification adds
 * to that instead of calling the sink. Masks and pending bits stay here: a vector is bound as long as it is not masked.
 * What a notification adds while a mask comes stays in the event, from which the later of both takes it back. So
 * nothing is sent once the guest's write of a mask is over.
 */
#include "base/bytes.h"
#include "bus/pci_impl.h"

#define CAP_MSIX       0x11
#define CONTROL_ENABLE 0x8000u
#define CONTROL_MASK   0x4000u
#define ENTRY_MASKED   1u

int pci_add_msix(struct pci_dev *d, uint16_t vectors, uint8_t bar, uint32_t table_off, uint32_t pba_off,
		 struct err *err)
{
	uint8_t cap = pci_add_cap(d, CAP_MSIX, 12);

	if (!cap || !vectors || vectors > PCI_MSIX_MAX)
		return err_set(err, "%s: MSI-X with %u vectors does not fit", d->name, vectors);
	st_le16(d->config + cap + 2, vectors - 1);
	st_le16(d->wmask + cap + 2, CONTROL_ENABLE | CONTROL_MASK);
	st_le32(d->config + cap + 4, table_off | bar);
	st_le32(d->config + cap + 8, pba_off | bar);
	d->msix_cap = cap;
	d->msix_bar = bar;
	d->msix_vectors = vectors;
	d->msix_table = table_off;
	d->msix_pba = pba_off;
	pthread_mutex_init(&d->msix_lock, NULL);
	for (unsigned n = 0; n < vectors; n++)
		d->msix[n].control = ENTRY_MASKED;
	return 0;
}

/* --- vectors that are sent by event --- */

static bool bound(const struct pci_dev *d, unsigned n)
{
	return __atomic_load_n(&d->msix_bound, __ATOMIC_SEQ_CST) >> n & 1;
}

/* The function's lock is held. Without an event, or when the sink does not take it, notifications call the sink. */
static void bind_vector(struct pci_dev *d, unsigned n)
{
	const struct msi_sink *s = &d->bus->msi;
	struct event *e = &d->msix_event[n];

	if (!s->bind || d->msix_held)
		return;
	pthread_mutex_lock(&d->msix_lock);
	if (!bound(d, n) && (e->open || event_open(e)) && s->bind(s->opaque, e, d->msix[n].addr, d->msix[n].data))
		__atomic_fetch_or(&d->msix_bound, 1ull << n, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&d->msix_lock);
}

/* What the event has kept pends. msix_lock held. */
static void take_back(struct pci_dev *d, unsigned n)
{
	if (event_take(&d->msix_event[n]))
		__atomic_fetch_or(&d->msix_pending, 1ull << n, __ATOMIC_SEQ_CST);
}

/* After a mask was set: on return nothing is sent any more, bound or not. */
static void unbind_vector(struct pci_dev *d, unsigned n)
{
	const struct msi_sink *s = &d->bus->msi;

	pthread_mutex_lock(&d->msix_lock);
	if (bound(d, n)) {
		__atomic_fetch_and(&d->msix_bound, ~(1ull << n), __ATOMIC_SEQ_CST);
		s->unbind(s->opaque, &d->msix_event[n]);
		take_back(d, n);
	}
	pthread_mutex_unlock(&d->msix_lock);
}

/* The vector may be unbound meanwhile; whoever binds it again, or opens it, looks at pending bits after that. */
static void add_to_event(struct pci_dev *d, unsigned n)
{
	event_add(&d->msix_event[n]);
	if (bound(d, n))
		return;
	pthread_mutex_lock(&d->msix_lock);
	if (!bound(d, n))
		take_back(d, n);
	pthread_mutex_unlock(&d->msix_lock);
}

void pci_msix_fini(struct pci_dev *d)
{
	if (!d->msix_vectors)
		return;
	for (unsigned n = 0; n < d->msix_vectors; n++) {
		unbind_vector(d, n);
		event_close(&d->msix_event[n]);
	}
	pthread_mutex_destroy(&d->msix_lock);
}

void pci_msix_reset(struct pci_dev *d)
{
	for (unsigned n = 0; n < d->msix_vectors; n++)
		unbind_vector(d, n);
	for (unsigned n = 0; n < d->msix_vectors; n++)
		d->msix[n] = (struct pci_msix_entry){ .control = ENTRY_MASKED };
	d->msix_pending = 0;
}

static uint16_t control(const struct pci_dev *d)
{
	return pci_config_word(d, d->msix_cap + 2);
}

bool pci_msix_enabled(const struct pci_dev *d)
{
	return d->msix_vectors && control(d) & CONTROL_ENABLE;
}

static bool masked(const struct pci_dev *d, unsigned n)
{
	return control(d) & CONTROL_MASK || __atomic_load_n(&d->msix[n].control, __ATOMIC_SEQ_CST) & ENTRY_MASKED;
}

static bool may_send(const struct pci_dev *d)
{
	return pci_msix_enabled(d) && pci_bus_master(d);
}

/* Other threads notify at the same time: one of us sends. */
static bool take_pending(struct pci_dev *d, unsigned n)
{
	uint64_t bit = 1ull << n;

	return may_send(d) && !masked(d, n) && __atomic_fetch_and(&d->msix_pending, ~bit, __ATOMIC_SEQ_CST) & bit;
}

static void send_pending(struct pci_dev *d, unsigned n)
{
	if (bound(d, n)) {
		if (take_pending(d, n))
			add_to_event(d, n);
		return;
	}
	pthread_mutex_lock(&d->msix_lock);
	if (take_pending(d, n)) {
		if (bound(d, n))
			event_add(&d->msix_event[n]);
		else
			msi_send(&d->bus->msi, __atomic_load_n(&d->msix[n].addr, __ATOMIC_RELAXED),
				 __atomic_load_n(&d->msix[n].data, __ATOMIC_RELAXED));
	}
	pthread_mutex_unlock(&d->msix_lock);
}

void pci_msix_notify(struct pci_dev *d, unsigned vector)
{
	if (vector >= d->msix_vectors || !pci_msix_enabled(d))
		return;
	__atomic_fetch_or(&d->msix_pending, 1ull << vector, __ATOMIC_SEQ_CST);
	send_pending(d, vector);
}

void pci_msix_config_written(struct pci_dev *d)
{
	if (!d->msix_vectors)
		return;
	pthread_mutex_lock(d->lock);
	for (unsigned n = 0; n < d->msix_vectors; n++) {
		if (may_send(d) && !masked(d, n) && !d->msix_held)
			bind_vector(d, n);
		else
			unbind_vector(d, n);
		send_pending(d, n);
	}
	pthread_mutex_unlock(d->lock);
}

void pci_msix_hold(struct pci_dev *d, bool hold)
{
	pthread_mutex_lock(d->lock);
	d->msix_held = hold;
	pthread_mutex_unlock(d->lock);
	pci_msix_config_written(d);
}

int pci_msix_check(const struct pci_dev *d, struct err *err)
{
	for (unsigned n = 0; n < PCI_MSIX_MAX; n++)
		if (d->msix[n].addr & 3 || d->msix[n].control & ~ENTRY_MASKED ||
		    (n >= d->msix_vectors && d->msix_pending >> n & 1))
			return err_set(err, "%s: MSI-X vector %u is not possible", d->name, n);
	return 0;
}

bool pci_msix_read(struct pci_dev *d, uint64_t off, unsigned size, uint64_t *val)
{
	uint8_t image[16];

	if (!d->msix_vectors || size > 8)
		return false;
	if (off >= d->msix_pba && range_within(off - d->msix_pba, size, 8)) {
		*val = __atomic_load_n(&d->msix_pending, __ATOMIC_RELAXED) >> (off - d->msix_pba) * 8 & size_mask(size);
		return true;
	}
	if (off < d->msix_table || off - d->msix_table >= d->msix_vectors * 16u || (off & 15) + size > 16)
		return false;
	const struct pci_msix_entry *e = &d->msix[(off - d->msix_table) / 16];
	st_le64(image, e->addr);
	st_le32(image + 8, e->data);
	st_le32(image + 12, e->control);
	*val = 0;
	for (unsigned k = 0; k < size; k++)
		*val |= (uint64_t)image[(off & 15) + k] << 8 * k;
	return true;
}

/* A mask is seen before the vector is unbound, and none before it is bound: who finds it open finds it bound. */
static void set_entry(struct pci_dev *d, unsigned n, const struct pci_msix_entry *to)
{
	struct pci_msix_entry *e = &d->msix[n];
	bool moves = to->addr != e->addr || to->data != e->data;

	if (to->control & ENTRY_MASKED)
		__atomic_store_n(&e->control, to->control, __ATOMIC_SEQ_CST);
	if (to->control & ENTRY_MASKED || moves)
		unbind_vector(d, n);
	__atomic_store_n(&e->addr, to->addr, __ATOMIC_RELAXED);
	__atomic_store_n(&e->data, to->data, __ATOMIC_RELAXED);
	if (to->control & ENTRY_MASKED)
		return;
	if (may_send(d) && !(control(d) & CONTROL_MASK))
		bind_vector(d, n);
	__atomic_store_n(&e->control, to->control, __ATOMIC_SEQ_CST);
}

bool pci_msix_write(struct pci_dev *d, uint64_t off, unsigned size, uint64_t val)
{
	uint8_t image[16];

	if (!d->msix_vectors || size > 8)
		return false;
	if (off >= d->msix_pba && range_within(off - d->msix_pba, size, 8))
		return true;
	if (off < d->msix_table || off - d->msix_table >= d->msix_vectors * 16u || (off & 15) + size > 16)
		return false;
	/* Only whole doublewords may be written. */
	if (size < 4 || off & 3)
		return true;
	unsigned n = (unsigned)(off - d->msix_table) / 16;
	struct pci_msix_entry *e = &d->msix[n];
	st_le64(image, e->addr);
	st_le32(image + 8, e->data);
	st_le32(image + 12, e->control);
	for (unsigned k = 0; k < size; k++)
		image[(off & 15) + k] = (uint8_t)(val >> 8 * k);
	set_entry(d, n,
		  &(struct pci_msix_entry){ ld_le64(image) & ~3ull, ld_le32(image + 8),
					    ld_le32(image + 12) & ENTRY_MASKED });
	send_pending(d, n);
	return true;
}
