/*
 * The 8042 keyboard controller with a PS/2 keyboard and a PS/2 mouse: IBM's Personal System/2 Hardware Interface
 * Technical Reference, "Keyboard and Auxiliary Device Controller". Ports 60h and 64h, interrupts 1 and 12.
 *
 * Bytes of the devices come one at a time into the output buffer, which the guest reads at 60h; a byte that it reads
 * makes room for the next at once. A20 is always on here: its bit is kept and does nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "dev/isa.h"
#include "dev/ps2.h"

enum { ST_OBF = 0x01, ST_SYSTEM = 0x04, ST_COMMAND = 0x08, ST_UNLOCKED = 0x10, ST_AUX = 0x20 };
enum {
	CFG_IRQ1 = 0x01,
	CFG_IRQ12 = 0x02,
	CFG_SYSTEM = 0x04,
	CFG_NO_KEYBOARD = 0x10,
	CFG_NO_AUX = 0x20,
	CFG_TRANSLATE = 0x40
};
enum { OUT_NO_RESET = 0x01, OUT_A20 = 0x02, OUT_AUX_FULL = 0x20, OUT_FULL = 0x10 };

struct i8042 {
	struct device dev;
	pthread_mutex_t lock;
	struct irq_line irq1, irq12;
	struct machine_control machine;

	/* saved */
	uint8_t ram[32]; /* of the controller; the first is its configuration */
	uint8_t output;	 /* the port with the reset and A20 lines, without the buffer's bits */
	uint8_t command; /* that waits for its byte, or 0 */
	bool by_command; /* the last write was to 64h */
	uint8_t data;	 /* the output buffer */
	bool full, from_aux;
	bool breaking; /* translation has seen F0h */
	struct ps2_keyboard keyboard;
	struct ps2_mouse mouse;
};

/* --- the output buffer --- */

static void drive(struct i8042 *c)
{
	irq_set(&c->irq1, c->full && !c->from_aux && c->ram[0] & CFG_IRQ1);
	irq_set(&c->irq12, c->full && c->from_aux && c->ram[0] & CFG_IRQ12);
}

static void fill(struct i8042 *c, uint8_t byte, bool aux)
{
	c->data = byte;
	c->full = true;
	c->from_aux = aux;
	drive(c);
}

/* From set 2 to set 1. False: nothing is told of this byte. */
static bool translate(struct i8042 *c, uint8_t *byte)
{
	uint8_t release = c->breaking ? 0x80 : 0;

	if (*byte == 0xf0) {
		c->breaking = true;
		return false;
	}
	c->breaking = false;
	for (unsigned n = 1; n < ARRAY_LEN(ps2_set2); n++) {
		if (ps2_set2[n] == *byte) {
			*byte = (uint8_t)(n | release);
			break;
		}
	}
	return true;
}

static bool take_keyboard(struct i8042 *c, uint8_t *byte)
{
	if (c->ram[0] & CFG_NO_KEYBOARD)
		return false;
	while (ps2_take(&c->keyboard.q, byte)) {
		ps2_keyboard_more(&c->keyboard);
		if (!(c->ram[0] & CFG_TRANSLATE) || translate(c, byte))
			return true;
	}
	return false;
}

/* The next byte of a device, if the guest has taken the one before. */
static void refill(struct i8042 *c)
{
	uint8_t byte;

	if (c->full)
		return;
	if (take_keyboard(c, &byte)) {
		fill(c, byte, false);
	} else if (!(c->ram[0] & CFG_NO_AUX) && ps2_take(&c->mouse.q, &byte)) {
		ps2_mouse_more(&c->mouse);
		fill(c, byte, true);
	} else {
		drive(c);
	}
}

/* --- commands --- */

static void ask_reset(struct i8042 *c)
{
	c->machine.request(c->machine.opaque, MACHINE_RESET, 0);
}

static void write_output(struct i8042 *c, uint8_t v)
{
	c->output = v & 0xcf;
	if (!(v & OUT_NO_RESET))
		ask_reset(c);
}

static uint8_t read_output(const struct i8042 *c)
{
	return (uint8_t)(c->output | (!c->full ? 0 : c->from_aux ? OUT_AUX_FULL : OUT_FULL));
}

static void set_config(struct i8042 *c, uint8_t bits, bool on)
{
	c->ram[0] = (uint8_t)(on ? c->ram[0] | bits : c->ram[0] & ~bits);
}

/* What a command answers, if it does. */
static int answer(struct i8042 *c, uint8_t command)
{
	switch (command) {
	case 0x20 ... 0x3f:
		return c->ram[command & 31];
	case 0xa4:
		return 0xf1; /* no password */
	case 0xa9:
	case 0xab:
		return 0; /* both lines are well */
	case 0xaa:
		set_config(c, CFG_SYSTEM, true);
		return 0x55;
	case 0xc0:
		return 0xa0; /* the input port: not locked, colour */
	case 0xd0:
		return read_output(c);
	case 0xe0:
		return 0; /* both clocks */
	default:
		return -1;
	}
}

static void command(struct i8042 *c, uint8_t v)
{
	int byte = answer(c, v);

	c->command = 0;
	if (byte >= 0) {
		fill(c, (uint8_t)byte, false);
		return;
	}
	switch (v) {
	case 0x60 ... 0x7f:
	case 0xd1 ... 0xd4:
		c->command = v;
		break;
	case 0xa7:
	case 0xa8:
		set_config(c, CFG_NO_AUX, v == 0xa7);
		break;
	case 0xad:
	case 0xae:
		set_config(c, CFG_NO_KEYBOARD, v == 0xad);
		break;
	case 0xdd:
	case 0xdf:
		c->output = (uint8_t)((c->output & ~OUT_A20) | (v == 0xdf ? OUT_A20 : 0));
		break;
	case 0xf0 ... 0xff: /* pulse the lines whose bits are 0 */
		if (!(v & OUT_NO_RESET))
			ask_reset(c);
		break;
	}
	refill(c);
}

static void data(struct i8042 *c, uint8_t v)
{
	uint8_t wanted = c->command;

	c->command = 0;
	switch (wanted) {
	case 0x60 ... 0x7f:
		c->ram[wanted & 31] = v;
		break;
	case 0xd1:
		write_output(c, v);
		break;
	case 0xd2: /* as if it came from the keyboard, or the mouse */
	case 0xd3:
		fill(c, v, wanted == 0xd3);
		break;
	case 0xd4:
		set_config(c, CFG_NO_AUX, false);
		ps2_mouse_write(&c->mouse, v);
		break;
	default:
		set_config(c, CFG_NO_KEYBOARD, false);
		ps2_keyboard_write(&c->keyboard, v);
	}
	refill(c);
	drive(c);
}

/* --- ports --- */

static uint64_t data_read(void *opaque, uint64_t off, unsigned size)
{
	struct i8042 *c = opaque;
	uint8_t v = c->data;

	if (c->full) {
		c->full = false;
		/* Each byte is an edge of its own. */
		drive(c);
		refill(c);
	}
	return v;
}

static void data_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct i8042 *c = opaque;

	c->by_command = false;
	data(c, (uint8_t)val);
}

static uint64_t status_read(void *opaque, uint64_t off, unsigned size)
{
	const struct i8042 *c = opaque;

	return ST_UNLOCKED | (c->full ? ST_OBF : 0) | (c->full && c->from_aux ? ST_AUX : 0) |
	       (c->ram[0] & CFG_SYSTEM ? ST_SYSTEM : 0) | (c->by_command ? ST_COMMAND : 0);
}

static void command_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct i8042 *c = opaque;

	c->by_command = true;
	command(c, (uint8_t)val);
}

static const struct bus_ops data_ops = { data_read, data_write, { 1, 1 }, { 1, 1 } };
static const struct bus_ops command_ops = { status_read, command_write, { 1, 1 }, { 1, 1 } };

/* --- the host's side --- */

static void key(void *opaque, unsigned code, bool down)
{
	struct i8042 *c = opaque;

	pthread_mutex_lock(&c->lock);
	ps2_keyboard_key(&c->keyboard, code, down);
	refill(c);
	pthread_mutex_unlock(&c->lock);
}

static void mouse(void *opaque, const struct input_mouse *m)
{
	struct i8042 *c = opaque;

	pthread_mutex_lock(&c->lock);
	ps2_mouse_move(&c->mouse, m);
	refill(c);
	pthread_mutex_unlock(&c->lock);
}

/* --- life --- */

static void reset(void *self)
{
	struct i8042 *c = self;

	memset(c->ram, 0, sizeof(c->ram));
	c->ram[0] = CFG_IRQ1 | CFG_IRQ12;
	c->output = 0xc0 | OUT_NO_RESET | OUT_A20;
	c->command = c->data = 0;
	c->by_command = c->full = c->from_aux = c->breaking = false;
	ps2_keyboard_reset(&c->keyboard);
	ps2_mouse_reset(&c->mouse);
	drive(c);
}

static void destroy(void *self)
{
	struct i8042 *c = self;

	pthread_mutex_destroy(&c->lock);
	free(c);
}

static int post_load(void *obj, struct err *err)
{
	drive(obj);
	return 0;
}

#define C struct i8042
static const struct state_field fields[] = {
	STATE_U8A(C, ram),
	STATE_U8F(C, output),
	STATE_U8F(C, command),
	STATE_BOOLF(C, by_command),
	STATE_U8F(C, data),
	STATE_BOOLF(C, full),
	STATE_BOOLF(C, from_aux),
	STATE_BOOLF(C, breaking),
	STATE_SUB(C, keyboard, &ps2_keyboard_state),
	STATE_SUB(C, mouse, &ps2_mouse_state),
	STATE_FIELD_END,
};
#undef C
static const struct state_desc state = {
	.name = "i8042", .version = 1, .min_version = 1, .fields = fields, .post_load = post_load
};

struct device *i8042_new(const struct i8042_config *cfg, struct input_sink *input, struct err *err)
{
	struct i8042 *c = calloc(1, sizeof(*c));
	struct bus_range at60 = { "i8042", &data_ops, c, NULL }, at64 = { "i8042", &command_ops, c, NULL };
	struct bus_handle *h;

	if (!c) {
		err_set(err, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&c->lock, NULL);
	at60.lock = at64.lock = &c->lock;
	c->irq1 = cfg->irq1;
	c->irq12 = cfg->irq12;
	c->machine = cfg->machine;
	c->dev = (struct device){ .name = "i8042",
				  .instance = "0",
				  .self = c,
				  .state = &state,
				  .lock = &c->lock,
				  .reset = reset,
				  .destroy = destroy };
	reset(c);
	h = bus_add(cfg->bus, BUS_PORT, 0x60, 1, &at60, err);
	if (!h || !bus_add(cfg->bus, BUS_PORT, 0x64, 1, &at64, err)) {
		if (h)
			bus_del(cfg->bus, h);
		destroy(c);
		return NULL;
	}
	*input = (struct input_sink){ key, mouse, c };
	return &c->dev;
}
