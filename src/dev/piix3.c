/*
 * The PIIX3 function that makes Linux find an ISA bus. PIRQ routing is what the ACPI tables and the
 * machine say; the registers keep what is written to them.
 */
#include <stdlib.h>

#include "dev/pc.h"

struct piix3 {
	struct device dev;
	pthread_mutex_t lock;
	struct pci_dev pci;
};

static void destroy(void *self)
{
	struct piix3 *p = self;

	pci_unregister(&p->pci);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static const struct state_field fields[] = {
	STATE_SUB(struct piix3, pci, &pci_dev_state),
	STATE_FIELD_END,
};
static const struct state_desc state = { .name = "piix3", .version = 1, .min_version = 1, .fields = fields };

struct device *piix3_new(struct pci_bus *pci, struct err *err)
{
	struct piix3 *p = calloc(1, sizeof(*p));

	if (!p) {
		err_set(err, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&p->lock, NULL);
	p->dev = (struct device){
		.name = "piix3", .instance = "00:01.0", .self = p, .state = &state, .lock = &p->lock, .destroy = destroy
	};
	pci_dev_init(&p->pci, "piix3", 0x8086, 0x7000, 0x06010000, 0x1af4, 0x1100, &p->lock);
	for (unsigned n = 0; n < 4; n++)
		p->pci.wmask[0x60 + n] = 0x8f;
	if (pci_register(pci, &p->pci, 1 << 3, err)) {
		pthread_mutex_destroy(&p->lock);
		free(p);
		return NULL;
	}
	return &p->dev;
}
