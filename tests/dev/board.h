/*
 * A test rig for the classic devices: buses, memory, a clock that moves only when told, lines and requests that
 * are recorded, and no guest. One thread.
 *
 * Devices that are added are destroyed with the board. board_migrate() is the one way in which tests move every
 * device's state, so that what holds for one holds for all.
 */
#ifndef VIREO_TESTS_DEV_BOARD_H
#define VIREO_TESTS_DEV_BOARD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bus/bus.h"
#include "bus/device.h"
#include "bus/pci.h"
#include "clock/clock.h"
#include "dev/isa.h"
#include "irq/x86/irqchip.h"
#include "mem/mem.h"

#define BOARD_RAM   (4u << 20)
#define BOARD_LINES 24
#define BOARD_CPUS  20
#define BOARD_MSIS  128
/* Noon of 15 March 2026, a Sunday: the wall clock at guest time 0. */
#define BOARD_EPOCH 1773576000ll

#define US 1000ll
#define MS 1000000ll
#define S  1000000000ll

struct board_line {
	bool level;
	unsigned rises, falls;
};

struct board_cpu {
	unsigned signals[CPU_SIGNAL_SIPI + 1];
	uint8_t sipi_vector;
};

struct board {
	struct loop *loop;
	struct vclock *clock;
	struct mem_space *mem;
	struct bus *bus;
	struct pci_bus *pci; /* NULL until board_pci() */
	struct irqchip *chip;
	unsigned cpus;
	struct device chip_devices[2 + BOARD_CPUS];
	struct board_line line[BOARD_LINES];
	struct board_cpu cpu[BOARD_CPUS];
	struct {
		uint64_t addr;
		uint32_t data;
	} msi[BOARD_MSIS]; /* the first ones */
	unsigned msis;
	unsigned requests;
	enum machine_request request; /* the last */
	int status;
	struct device *devices;
	void *own; /* the test's */
};

void board_init(struct board *b);
void board_fini(struct board *b);
/* Takes the device, which must not be NULL. */
struct device *board_add(struct board *b, struct device *d);
/* A line that is recorded in b->line[n]. */
struct irq_line board_line(struct board *b, unsigned n);
struct machine_control board_control(struct board *b);
/* A PCI bus whose pins are lines 0 to 3 and whose MSIs are recorded. */
void board_pci(struct board *b);
/* Real interrupt controllers, whose signals are recorded in b->cpu, and their devices. */
void board_chip(struct board *b, unsigned cpus);

/* Guest time moves on; timers run at their times. */
void board_step(struct board *b, int64_t ns);
void board_reset(struct board *b);

uint32_t board_in(struct board *b, uint16_t port, unsigned size);
void board_out(struct board *b, uint16_t port, unsigned size, uint32_t val);
uint64_t board_read(struct board *b, uint64_t addr, unsigned size);
void board_write(struct board *b, uint64_t addr, unsigned size, uint64_t val);
static inline uint8_t in8(struct board *b, uint16_t port)
{
	return (uint8_t)board_in(b, port, 1);
}
static inline void out8(struct board *b, uint16_t port, uint8_t val)
{
	board_out(b, port, 1, val);
}

/*
 * Make `to` what `from` is: a new board, `make` to put the same devices on it, the same time, and each device's
 * state through a stream. Fails the test unless every stream reads back as the same bytes.
 */
void board_migrate(struct board *from, struct board *to, void (*make)(struct board *b));
/*
 * Load the state of each device with each byte changed in turn: it must be refused or leave a device that `use`
 * can do anything to. `use` may be NULL. The devices are as before when this returns.
 */
void board_mutate(struct board *b, void (*use)(struct board *b));

#endif
