/*
 * PCI: one conventional bus, type-0 functions, BARs, capabilities, INTx and MSI-X.
 * PCI Local Bus 3.0; configuration mechanism #1 through ports CF8h/CFCh is in dev/i440fx.c.
 *
 * A function is embedded in its device. The device declares identity, BARs and capabilities, then
 * registers; the core keeps the configuration space, maps BARs on the bus as the guest moves them,
 * and delivers INTx and MSI-X. Configuration writes come with the host bridge's lock held, which comes before
 * the functions' own locks.
 */
#ifndef VIREO_BUS_PCI_H
#define VIREO_BUS_PCI_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/event.h"
#include "base/state.h"
#include "bus/bus.h"
#include "irq/irq.h"

#define PCI_CONFIG_SIZE 256
#define PCI_NUM_BARS	6
#define PCI_ROM_BAR	6 /* in pci_dev.bar[]: the expansion ROM */
#define PCI_ROM_MAX	(16u << 20)
#define PCI_MSIX_MAX	64	     /* vectors of one function here */
#define PCI_MEM_END	(1ull << 46) /* BARs above the guest's physical addresses are not decoded */

struct pci_bus;

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64 };

struct pci_bar {
	enum pci_bar_kind kind;
	bool prefetch;
	uint64_t size; /* power of two; at least 4 (I/O) or 16 */
	struct bus_range range;
	/* private to pci.c */
	struct bus_handle *handle;
	uint64_t mapped_at;
};

struct pci_msix_entry {
	uint64_t addr;
	uint32_t data;
	uint32_t control; /* bit 0: masked */
};

struct pci_dev {
	const char *name;
	uint8_t devfn; /* device << 3 | function */
	struct pci_bus *bus;
	pthread_mutex_t *lock; /* the device's */
	uint8_t config[PCI_CONFIG_SIZE];
	uint8_t wmask[PCI_CONFIG_SIZE];	  /* bits the guest may change */
	uint8_t w1cmask[PCI_CONFIG_SIZE]; /* bits the guest clears by writing 1 */
	struct pci_bar bar[PCI_NUM_BARS + 1];
	uint8_t *rom;			  /* its bytes; NULL: none */
	uint8_t initial[PCI_CONFIG_SIZE]; /* as made: what saved states are checked against */
	bool intx_level, intx_driven;	  /* as the device wants it; as it counts on the bus */

	/* MSI-X; vectors == 0 means absent */
	uint16_t msix_vectors;
	uint8_t msix_cap, msix_bar;
	uint32_t msix_table, msix_pba; /* offsets in the BAR */
	struct pci_msix_entry msix[PCI_MSIX_MAX];
	uint64_t msix_pending; /* a bit a vector */
	/* Who sends by event: a bit a vector, under the lock, which is the innermost one; the events open when needed.
	 */
	pthread_mutex_t msix_lock;
	uint64_t msix_bound;
	bool msix_held;
	struct event msix_event[PCI_MSIX_MAX];

	uint8_t next_cap; /* where the next capability goes */

	/* After a configuration write took effect; may be NULL. `off`, `len` as written. */
	void (*config_written)(struct pci_dev *d, uint8_t off, uint8_t len);
	/* BAR `i` is decoded elsewhere now, or nowhere: pci_bar_mapped(); may be NULL. */
	void (*bar_moved)(struct pci_dev *d, unsigned i);
	/* Before a configuration read: refresh those bytes of `config`; may be NULL. */
	void (*config_read)(struct pci_dev *d, uint8_t off, uint8_t len);
};

/* `intx` gives the line for each of the four pins after swizzling is done by the host bridge: line (pin + device) % 4.
 */
struct pci_bus *pci_bus_new(struct bus *bus, const struct irq_line intx[4], const struct msi_sink *msi);
void pci_bus_free(struct pci_bus *b);
/* The same lines, when the bridge that routes them is itself a function of the bus. Before any is raised. */
void pci_bus_set_intx(struct pci_bus *b, const struct irq_line intx[4]);
/* What the interrupt line registers of functions on each of the four lines show after pci_assign_resources(). */
void pci_bus_set_irq_numbers(struct pci_bus *b, const uint8_t number[4]);

struct pci_id {
	uint16_t vendor, device;
	uint32_t class_rev; /* class code << 8 | revision */
	uint16_t sub_vendor, sub_device;
};
/* Fill the identity of a zeroed function: header type 0, command and status masks. */
void pci_dev_init(struct pci_dev *d, const char *name, const struct pci_id *id, pthread_mutex_t *lock);
void pci_set_bar(struct pci_dev *d, unsigned i, enum pci_bar_kind kind, bool prefetch, uint64_t size,
		 const struct bus_range *range);
/*
 * Give a registered function an expansion ROM (PCI 3.0, 6.3): a copy of `data`, at most PCI_ROM_MAX bytes. The identity
 * in its images becomes the function's, for one image serves several devices. Before vCPUs run.
 */
int pci_set_rom(struct pci_bus *b, uint8_t devfn, const uint8_t *data, size_t len, struct err *err);
/* Append a capability of `len` bytes (with its 2-byte header); returns its offset, 0 if it does not fit. */
uint8_t pci_add_cap(struct pci_dev *d, uint8_t id, uint8_t len);
/* Table at `table_off` and pending bits at `pba_off` in `bar`, whose range the core serves (it calls `fallback`
 * elsewhere). */
int pci_add_msix(struct pci_dev *d, uint16_t vectors, uint8_t bar, uint32_t table_off, uint32_t pba_off,
		 struct err *err);
void pci_set_intx_pin(struct pci_dev *d, uint8_t pin); /* 1 = INTA# */
/* A function of the chipset: its command register is these bits and nothing else, and DEVSEL# is medium. */
void pci_set_chipset(struct pci_dev *d, uint16_t command);

/* What 64-bit BARs above 4 GiB take from `first` to `end`, as they are decoded now; false: nothing. Any thread. */
bool pci_high_bars(const struct pci_bus *b, uint64_t *first, uint64_t *end);
/* Where a BAR is decoded now; 0: nowhere. For doorbells, in config_written() or with vCPUs stopped. */
uint64_t pci_bar_mapped(const struct pci_dev *d, unsigned i);

/* Table and PBA accesses that fall into the MSI-X part of a BAR: true when handled. */
bool pci_msix_read(struct pci_dev *d, uint64_t off, unsigned size, uint64_t *val);
bool pci_msix_write(struct pci_dev *d, uint64_t off, unsigned size, uint64_t val);

/* The declarations are complete: called by pci_register(). */
void pci_dev_freeze(struct pci_dev *d);
int pci_register(struct pci_bus *b, struct pci_dev *d, uint8_t devfn, struct err *err);
void pci_unregister(struct pci_dev *d);
/* The first device number without a function, or -1. */
int pci_free_slot(const struct pci_bus *b);
/* The function there; NULL: none. The machine's thread. */
const struct pci_dev *pci_function(const struct pci_bus *b, uint8_t devfn);
/* Give every BAR an address and enable decoding, as firmware would, for direct boot. `mem64_base` 0: those of 64 bits
 * are among those of 32. */
int pci_assign_resources(struct pci_bus *b, uint16_t io_base, uint64_t mem32_base, uint64_t mem32_end,
			 uint64_t mem64_base, struct err *err);
/* All functions back to what they were when registered: BARs unmapped, command as made, MSI-X off. */
void pci_bus_reset(struct pci_bus *b);

uint32_t pci_config_read(struct pci_bus *b, uint8_t devfn, uint8_t off, unsigned size);
void pci_config_write(struct pci_bus *b, uint8_t devfn, uint8_t off, unsigned size, uint32_t val);

/* Device side, any thread. */
void pci_intx_set(struct pci_dev *d, bool level);
bool pci_msix_enabled(const struct pci_dev *d);
void pci_msix_notify(struct pci_dev *d, unsigned vector); /* pends when masked */
/*
 * The machine stands still (`hold`), or goes on. What was notified before has arrived at the local APICs then. Nothing
 * is lost that is notified meanwhile. Takes the function's lock.
 */
void pci_msix_hold(struct pci_dev *d, bool hold);
bool pci_bus_master(const struct pci_dev *d); /* DMA allowed by the command register */

/* The configuration space, BARs and MSI-X of a function: a section that devices embed as a sub-struct. */
extern const struct state_desc pci_dev_state;

#endif
