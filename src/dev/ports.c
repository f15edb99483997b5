/* Devices that are a port or two: fast reset, the exit port of test suites, the debug console. */
#include <stdio.h>
#include <stdlib.h>

#include "dev/isa.h"

struct ports {
	struct device dev;
	struct machine_control machine;
	struct char_sink sink;
	uint8_t a20;
};

static void reset(void *self)
{
	((struct ports *)self)->a20 = 0;
}

static void destroy(void *self)
{
	free(self);
}

/* Those that keep nothing have a table all the same: without one they could not be saved. */
static const struct state_field a20_fields[] = {
	STATE_U8F(struct ports, a20),
	STATE_FIELD_END,
};
static const struct state_field no_fields[] = { STATE_FIELD_END };
static const struct state_desc a20_state = { .name = "port92", .version = 1, .min_version = 1, .fields = a20_fields };
static const struct state_desc exit_state = {
	.name = "isa-debug-exit", .version = 1, .min_version = 1, .fields = no_fields
};
static const struct state_desc debugcon_state = {
	.name = "debugcon", .version = 1, .min_version = 1, .fields = no_fields
};

static struct ports *make(const struct state_desc *state, struct err *err)
{
	struct ports *p = calloc(1, sizeof(*p));

	if (!p) {
		err_set(err, "out of memory");
		return NULL;
	}
	p->dev = (struct device){
		.name = state->name, .instance = "0", .self = p, .state = state, .reset = reset, .destroy = destroy
	};
	return p;
}

static struct device *add(struct ports *p, struct bus *bus, uint16_t port, const struct bus_ops *ops, struct err *err)
{
	struct bus_range range = { p->dev.name, ops, p, NULL };

	if (bus_add(bus, BUS_PORT, port, 1, &range, err))
		return &p->dev;
	free(p);
	return NULL;
}

/* --- 92h: fast A20, which is always on here, and reset --- */

static uint64_t a20_read(void *opaque, uint64_t off, unsigned size)
{
	return ((struct ports *)opaque)->a20 | 2;
}

static void a20_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct ports *p = opaque;

	p->a20 = (uint8_t)val & 0xfe;
	if (val & 1)
		p->machine.request(p->machine.opaque, MACHINE_RESET, 0);
}

static const struct bus_ops a20_ops = { a20_read, a20_write, { 1, 1 }, { 1, 1 } };

struct device *port92_new(struct bus *bus, const struct machine_control *m, struct err *err)
{
	struct ports *p = make(&a20_state, err);

	if (!p)
		return NULL;
	p->machine = *m;
	return add(p, bus, 0x92, &a20_ops, err);
}

/* --- isa-debug-exit --- */

static uint64_t exit_read(void *opaque, uint64_t off, unsigned size)
{
	return 0;
}

static void exit_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct ports *p = opaque;

	p->machine.request(p->machine.opaque, MACHINE_EXIT, (int)((val << 1 | 1) & 0xff));
}

static const struct bus_ops exit_ops = { exit_read, exit_write, { 1, 4 }, { 1, 4 } };

struct device *debug_exit_new(struct bus *bus, uint16_t port, const struct machine_control *m, struct err *err)
{
	struct ports *p = make(&exit_state, err);
	struct bus_range range = { "isa-debug-exit", &exit_ops, p, NULL };

	if (!p)
		return NULL;
	p->machine = *m;
	if (!bus_add(bus, BUS_PORT, port, 4, &range, err)) {
		free(p);
		return NULL;
	}
	return &p->dev;
}

/* --- debugcon --- */

static uint64_t debugcon_read(void *opaque, uint64_t off, unsigned size)
{
	return 0xe9;
}

static void debugcon_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct ports *p = opaque;
	uint8_t b = (uint8_t)val;

	char_sink_write(&p->sink, &b, 1);
}

static const struct bus_ops debugcon_ops = { debugcon_read, debugcon_write, { 1, 1 }, { 1, 1 } };

struct device *debugcon_new(struct bus *bus, uint16_t port, const struct char_sink *sink, struct err *err)
{
	struct ports *p = make(&debugcon_state, err);

	if (!p)
		return NULL;
	p->sink = *sink;
	/* There may be another one at another port. */
	snprintf(p->dev.instance, sizeof(p->dev.instance), "%x", port);
	return add(p, bus, port, &debugcon_ops, err);
}
