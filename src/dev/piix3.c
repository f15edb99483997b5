/*
 * The PIIX3 (82371SB) function that is the bridge to the ISA devices. Its PIRQ route registers lead the four PCI
 * interrupt lines to ISA interrupts (data sheet, 2.2.10). The other things that it holds (8259s, 8254, reset
 * control, ports 61h and 92h) are devices of their own here.
 */
#include <stdlib.h>

#include "base/bytes.h"
#include "dev/pc.h"

#define PIRQ_ROUTE 0x60
#define ROUTE_OFF  0x80
/* Interrupts that a PCI line may use: not 0, 1, 2, 8, 13. */
#define ROUTABLE 0xdef8u

struct piix3 {
	struct device dev;
	pthread_mutex_t lock;
	struct pci_dev pci;
	struct irq_line isa[16];
	pthread_mutex_t route_lock; /* below the bridge's, the functions' and the bus's */
	uint8_t levels;		    /* the PCI lines, a bit each */
	uint16_t driven;	    /* the ISA interrupts that we hold up */
};

/* route_lock held. Lines that share an interrupt are ORed. */
static void drive(struct piix3 *p)
{
	uint16_t want = 0;

	for (unsigned n = 0; n < 4; n++) {
		uint8_t route = __atomic_load_n(&p->pci.config[PIRQ_ROUTE + n], __ATOMIC_RELAXED);

		if (p->levels >> n & 1 && !(route & ROUTE_OFF))
			want |= (uint16_t)(1u << (route & 15) & ROUTABLE);
	}
	for (unsigned irq = 0; irq < 16; irq++)
		if ((want ^ p->driven) >> irq & 1)
			irq_set(&p->isa[irq], want >> irq & 1);
	p->driven = want;
}

static void pirq(void *opaque, unsigned n, bool level)
{
	struct piix3 *p = opaque;

	pthread_mutex_lock(&p->route_lock);
	p->levels = (uint8_t)(level ? p->levels | 1u << n : p->levels & ~(1u << n));
	drive(p);
	pthread_mutex_unlock(&p->route_lock);
}

static void config_written(struct pci_dev *pci, uint8_t off, uint8_t len)
{
	struct piix3 *p = container_of(pci, struct piix3, pci);

	pthread_mutex_lock(&p->route_lock);
	drive(p);
	pthread_mutex_unlock(&p->route_lock);
}

static void destroy(void *self)
{
	struct piix3 *p = self;

	pci_unregister(&p->pci);
	pthread_mutex_destroy(&p->route_lock);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* The lines themselves follow when the functions on the bus are loaded. */
static int post_load(void *obj, struct err *err)
{
	config_written(&((struct piix3 *)obj)->pci, 0, 0);
	return 0;
}

static const struct state_field fields[] = {
	STATE_SUB(struct piix3, pci, &pci_dev_state),
	STATE_FIELD_END,
};
static const struct state_desc state = {
	.name = "piix3", .version = 1, .min_version = 1, .fields = fields, .post_load = post_load
};

void piix3_routes(const struct device *d, uint8_t irq[4])
{
	const struct piix3 *p = d->self;

	for (unsigned n = 0; n < 4; n++)
		irq[n] = __atomic_load_n(&p->pci.config[PIRQ_ROUTE + n], __ATOMIC_RELAXED);
}

struct device *piix3_new(struct pci_bus *pci, const struct irq_line isa[16], bool firmware, struct err *err)
{
	struct piix3 *p = calloc(1, sizeof(*p));
	struct irq_line lines[4];

	if (!p) {
		err_set(err, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&p->lock, NULL);
	pthread_mutex_init(&p->route_lock, NULL);
	memcpy(p->isa, isa, sizeof(p->isa));
	p->dev = (struct device){
		.name = "piix3", .instance = "00:01.0", .self = p, .state = &state, .lock = &p->lock, .destroy = destroy
	};
	pci_dev_init(&p->pci, "piix3", &(struct pci_id){ 0x8086, 0x7000, 0x06010000, 0x1af4, 0x1100 }, &p->lock);
	pci_set_chipset(&p->pci, 7);
	p->pci.config_written = config_written;
	for (unsigned n = 0; n < 4; n++) {
		p->pci.config[PIRQ_ROUTE + n] = ROUTE_OFF;
		p->pci.wmask[PIRQ_ROUTE + n] = ROUTE_OFF | 15;
	}
	if (pci_register(pci, &p->pci, 1 << 3, err)) {
		pthread_mutex_destroy(&p->route_lock);
		pthread_mutex_destroy(&p->lock);
		free(p);
		return NULL;
	}
	/* The board that firmware knows has PIRQA at pin A of slot 1, and so on. */
	for (unsigned n = 0; n < 4; n++)
		lines[n] = (struct irq_line){ pirq, p, firmware ? (n + 3) & 3 : n };
	pci_bus_set_intx(pci, lines);
	return &p->dev;
}
