/*
 * pvpanic: a port to which a guest writes what has befallen it (docs/specs/pvpanic of QEMU). A read tells which of
 * these are known.
 */
#include <stdlib.h>

#include "dev/isa.h"

#define KNOWN (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED)

struct pvpanic {
	struct device dev;
	struct machine_control machine;
};

static uint64_t port_read(void *opaque, uint64_t off, unsigned size)
{
	return KNOWN;
}

static void port_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct pvpanic *p = opaque;

	if (val & KNOWN)
		p->machine.request(p->machine.opaque, MACHINE_PANIC, (int)(val & KNOWN));
}

static const struct bus_ops ops = { port_read, port_write, { 1, 1 }, { 1, 1 } };

static void destroy(void *self)
{
	free(self);
}

static const struct state_field fields[] = { STATE_FIELD_END };
static const struct state_desc state = { .name = "pvpanic", .version = 1, .min_version = 1, .fields = fields };

struct device *pvpanic_new(struct bus *bus, uint16_t port, const struct machine_control *m, struct err *err)
{
	struct pvpanic *p = calloc(1, sizeof(*p));
	struct bus_range range = { "pvpanic", &ops, p, NULL };

	if (!p) {
		err_set(err, "out of memory");
		return NULL;
	}
	p->machine = *m;
	p->dev = (struct device){ .name = "pvpanic", .instance = "0", .self = p, .state = &state, .destroy = destroy };
	if (bus_add(bus, BUS_PORT, port, 1, &range, err))
		return &p->dev;
	free(p);
	return NULL;
}
