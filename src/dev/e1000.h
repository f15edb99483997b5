/*
 * The Intel 82540EM network card (PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual,
 * "SDM" below) in front of a network peer. Constructor: the thread of `loop`.
 */
#ifndef VIREO_DEV_E1000_H
#define VIREO_DEV_E1000_H

#include "bus/device.h"
#include "bus/pci.h"
#include "clock/clock.h"
#include "mem/mem.h"
#include "net/net.h"

struct e1000_config {
	struct pci_bus *pci;
	uint8_t devfn;
	struct mem_space *mem;
	struct vclock *clock;
	struct loop *loop; /* of the peer */
	struct net_peer *peer;
	uint8_t mac[6];
};
/* Takes the peer, also on error. */
struct device *e1000_new(const struct e1000_config *c, struct err *err);
/* Pull the cable, or put it back: the driver is told by an interrupt. Without the card's lock, any thread. */
void e1000_set_link(struct device *d, bool up);
/* Say on the network where the card is, which no driver of it can be asked for. Loop thread. */
void e1000_announce(struct device *d);

#endif
