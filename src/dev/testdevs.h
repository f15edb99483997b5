/*
 * Devices that public CPU and PCI test suites drive, with the registers that QEMU's of the same names have. Present
 * only when asked for. Threads as in isa.h.
 */
#ifndef VIREO_DEV_TESTDEVS_H
#define VIREO_DEV_TESTDEVS_H

#include "bus/pci.h"
#include "dev/isa.h"

/* Interrupt lines that pc-testdev can set. */
#define PC_TESTDEV_LINES 24

/*
 * pc-testdev. Ports E0h-E3h and E8h-EBh keep what is written (the latter reached byte by byte), E4h-E7h takes the
 * address of a page to forget, 2000h + N sets interrupt line N; 64 KiB at FF000000h behave as memory that is reached
 * through the bus.
 */
struct device *pc_testdev_new(struct bus *bus, const struct irq_line lines[PC_TESTDEV_LINES], struct err *err);

/*
 * pci-testdev, 1b36:0005: BAR 0 is memory, BAR 1 ports. A write of N to offset 0 selects a test; the header that
 * follows tells which writes it counts, and how many came.
 */
struct device *pci_testdev_new(struct bus *bus, struct pci_bus *pci, uint8_t devfn, struct err *err);

#endif
