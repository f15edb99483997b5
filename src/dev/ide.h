/*
 * The IDE function of the PIIX3 (82371SB, chapter 2.3): two channels at the legacy ports with two drives each, ATA
 * disks and ATAPI CD-ROM drives over block nodes, bus-master DMA. Threads as in isa.h; requests are carried out in the
 * threads of the nodes.
 */
#ifndef VIREO_DEV_IDE_H
#define VIREO_DEV_IDE_H

#include "block/block.h"
#include "bus/device.h"
#include "bus/pci.h"
#include "irq/irq.h"
#include "mem/mem.h"

#define IDE_DEVFN      (1 << 3 | 1) /* 01.1 */
#define IDE_TIMING     0x40	    /* two words; bit 15 enables the decoding of a channel's ports */
#define IDE_DRIVES     4u
#define IDE_SERIAL_LEN 20u

struct ide_drive_config {
	bool present, cdrom;
	struct block_node *node; /* taken over; NULL: a CD-ROM drive without a medium */
	const char *serial;	 /* at most IDE_SERIAL_LEN characters; NULL: made of the number */
	bool write_through;	 /* the write cache is off at first */
	bool accept_changed;	 /* a restore takes the disk as it is */
};

struct ide_config {
	struct bus *bus;
	struct pci_bus *pci;
	struct mem_space *mem;
	struct irq_line irq[2];			   /* 14 and 15 */
	struct ide_drive_config drive[IDE_DRIVES]; /* primary master, slave, secondary master, slave */
	/* A tray has moved: any thread, with the function's lock. May be NULL. */
	void (*tray_moved)(void *opaque);
	void *opaque;
};

/* Takes the nodes, also on error. */
struct device *ide_new(const struct ide_config *c, struct err *err);

/*
 * Take the medium out of CD-ROM drive `unit` and put another one in (taken over; NULL: none). The guest is told. Any
 * thread but the nodes' own.
 */
void ide_change_medium(struct device *d, unsigned unit, struct block_node *node);
/* Ask the guest to let go of the medium, as the button on the drive does. Any thread. */
void ide_press_eject(struct device *d, unsigned unit);

struct ide_tray {
	bool open, locked;
};
/* Of CD-ROM drive `unit`. Any thread. */
struct ide_tray ide_get_tray(struct device *d, unsigned unit);
/* Open or close it, locked or not. Any thread. */
void ide_move_tray(struct device *d, unsigned unit, bool open);

#endif
