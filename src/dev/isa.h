/*
 * The classic devices of a PC: one file each. A constructor puts its device on the bus and returns it, or NULL
 * with a line in `err`; the machine resets, saves and destroys it through struct device.
 * Constructors: the thread that owns the machine.
 */
#ifndef VIREO_DEV_ISA_H
#define VIREO_DEV_ISA_H

#include "base/chardev.h"
#include "base/input.h"
#include "bus/bus.h"
#include "bus/device.h"
#include "clock/clock.h"
#include "irq/irq.h"

/* What the guest asks of the machine. Any vCPU thread; must not call back into the device. */
enum machine_request {
	MACHINE_POWER_OFF,
	MACHINE_RESET,
	MACHINE_EXIT /* with a status: isa-debug-exit */,
	MACHINE_PANIC /* with bits of PVPANIC_ */,
	MACHINE_WATCHDOG
};
struct machine_control {
	void (*request)(void *opaque, enum machine_request what, int status);
	void *opaque;
};

/* The 16550A at `port` (8 ports). */
struct uart16550_config {
	uint16_t port;
	struct vclock *clock; /* for the receiver's timeout */
	struct irq_line irq;
	struct char_sink sink;	    /* output */
	struct char_wake wake;	    /* room for input again */
	const char *instance;	    /* "0" for COM1 */
	struct char_source *source; /* filled: input goes in here */
};
struct device *uart16550_new(struct bus *bus, const struct uart16550_config *c, struct err *err);

/* 8254 with three channels and port 61h. */
struct device *pit8254_new(struct bus *bus, struct vclock *clock, struct irq_line irq0, struct err *err);

/* MC146818 clock and its 128 bytes of memory, ports 70h and 71h. `irq` is interrupt 8. */
struct device *rtc146818_new(struct bus *bus, struct vclock *clock, struct irq_line irq, struct err *err);
/* Set a byte of the memory as firmware would; before vCPUs run. */
void rtc146818_poke(struct device *d, uint8_t index, uint8_t value);
/* Called when the guest has set the time, in its thread and with the device's lock. Before it runs. */
void rtc146818_on_change(struct device *d, void (*fn)(void *opaque), void *opaque);
/* By how many seconds the guest's time of day differs from the machine's. Any thread. */
int64_t rtc146818_offset(struct device *d);

/* Port 92h: fast A20 (always on here) and reset. */
struct device *port92_new(struct bus *bus, const struct machine_control *m, struct err *err);

/* The 8042 with a PS/2 keyboard and mouse, ports 60h and 64h. Only when asked for. */
struct i8042_config {
	struct bus *bus;
	struct irq_line irq1, irq12;
	struct machine_control machine;
};
/* `input` is filled: keys and movements go in there. */
struct device *i8042_new(const struct i8042_config *c, struct input_sink *input, struct err *err);

/* Only when asked for: a write of V to `port` ends the VM with status 2 * V + 1. */
struct device *debug_exit_new(struct bus *bus, uint16_t port, const struct machine_control *m, struct err *err);
/* Only when asked for: a guest tells at `port` that it has panicked, or has loaded a kernel that saves what is left. */
#define PVPANIC_PANICKED     1
#define PVPANIC_CRASH_LOADED 2
struct device *pvpanic_new(struct bus *bus, uint16_t port, const struct machine_control *m, struct err *err);

/* Only when asked for: bytes written to `port` go to `sink`; a read gives E9h. */
struct device *debugcon_new(struct bus *bus, uint16_t port, const struct char_sink *sink, struct err *err);

#endif
