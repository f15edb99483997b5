/*
 * The PS/2 mouse: IBM's Personal System/2 Hardware Interface Technical Reference, "Auxiliary Device", and what
 * IntelliMouse and its Explorer added: a wheel and two more buttons, switched on by sequences of sample rates.
 */
#include <string.h>

#include "base/bytes.h"
#include "dev/ps2.h"

#define ACK    0xfa
#define RESEND 0xfe
#define PASSED 0xaa

/* What has piled up is no more than this: a guest that does not read makes nothing grow. */
#define FAR 10000

static int32_t clamp(int64_t v, int32_t min, int32_t max)
{
	return (int32_t)(v < min ? min : v > max ? max : v);
}

/* Takes what fits into a packet from a movement. */
static int32_t part(uint32_t *left, int32_t min, int32_t max)
{
	int32_t n = clamp((int32_t)*left, min, max);

	*left -= (uint32_t)n;
	return n;
}

/* Scaling 2:1 makes small movements smaller and large ones larger; in stream mode only. */
static int32_t scaled(const struct ps2_mouse *m, int32_t v)
{
	static const uint8_t small[] = { 0, 1, 1, 3, 6, 9 };
	int32_t size = v < 0 ? -v : v;

	if (!m->scaling || m->mode != PS2_STREAM)
		return v;
	size = size < 6 ? small[size] : 2 * size;
	return v < 0 ? -size : size;
}

static void packet(struct ps2_mouse *m)
{
	/* Twice as much still has nine bits. */
	int32_t limit = m->scaling ? 127 : 255;
	int32_t dx = scaled(m, part(&m->dx, -limit, limit)), dy = scaled(m, part(&m->dy, -limit, limit)), dz;

	ps2_put(&m->q, (uint8_t)(8u | (m->buttons & 7u) | (dx < 0 ? 0x10u : 0) | (dy < 0 ? 0x20u : 0)));
	ps2_put(&m->q, (uint8_t)dx);
	ps2_put(&m->q, (uint8_t)dy);
	if (m->id == 3) {
		ps2_put(&m->q, (uint8_t)part(&m->dz, -127, 127));
	} else if (m->id == 4) {
		dz = part(&m->dz, -7, 7);
		ps2_put(&m->q, (uint8_t)((dz & 15) | (m->buttons & (INPUT_SIDE | INPUT_EXTRA)) << 1));
	}
	m->told = m->buttons;
	if (m->id == 0)
		m->dz = 0;
}

static bool moved(const struct ps2_mouse *m)
{
	return m->dx || m->dy || (m->id && m->dz) || m->buttons != m->told;
}

void ps2_mouse_more(struct ps2_mouse *m)
{
	if (m->mode == PS2_STREAM && m->reporting && moved(m) && m->q.count + 4u <= PS2_ROOM)
		packet(m);
}

void ps2_mouse_move(struct ps2_mouse *m, const struct input_mouse *i)
{
	m->dx = (uint32_t)clamp((int64_t)(int32_t)m->dx + i->dx, -FAR, FAR);
	m->dy = (uint32_t)clamp((int64_t)(int32_t)m->dy - i->dy, -FAR, FAR); /* up is positive here */
	m->dz = (uint32_t)clamp((int64_t)(int32_t)m->dz + i->dz, -FAR, FAR);
	m->buttons = i->buttons & 31;
	ps2_mouse_more(m);
}

/* --- commands --- */

static void forget(struct ps2_mouse *m)
{
	m->dx = m->dy = m->dz = 0;
	m->told = m->buttons;
}

static void defaults(struct ps2_mouse *m)
{
	m->rate = 100;
	m->resolution = 2;
	m->scaling = m->reporting = false;
	m->mode = PS2_STREAM;
	forget(m);
}

void ps2_mouse_reset(struct ps2_mouse *m)
{
	memset(m, 0, sizeof(*m));
	defaults(m);
}

/* 200, 100, 80 switch the wheel on, 200, 200, 80 five buttons. */
static void set_rate(struct ps2_mouse *m, uint8_t rate)
{
	if (rate == 80 && m->rates[0] == 200 && (m->rates[1] == 100 || m->rates[1] == 200))
		m->id = m->rates[1] == 100 ? 3 : 4;
	m->rates[0] = m->rates[1];
	m->rates[1] = rate;
	m->rate = rate;
}

static bool argument(struct ps2_mouse *m, uint8_t byte)
{
	uint8_t command = m->pending;

	m->pending = 0;
	if (!command)
		return false;
	if (command == 0xe8 && byte > 3) {
		ps2_put(&m->q, RESEND);
		return true;
	}
	if (command == 0xe8)
		m->resolution = byte;
	else
		set_rate(m, byte);
	ps2_put(&m->q, ACK);
	return true;
}

static void tell_status(struct ps2_mouse *m)
{
	/* The buttons here are in the order of right, middle, left. */
	uint8_t buttons = (uint8_t)((m->buttons & INPUT_RIGHT) >> 1 | (m->buttons & INPUT_MIDDLE) >> 1 |
				    (m->buttons & INPUT_LEFT) << 2);

	ps2_put(&m->q, (uint8_t)(buttons | m->scaling << 4 | m->reporting << 5 | (m->mode == PS2_REMOTE) << 6));
	ps2_put(&m->q, m->resolution);
	ps2_put(&m->q, m->rate);
}

static void set_mode(struct ps2_mouse *m, uint8_t mode)
{
	if (mode == PS2_WRAP && m->mode != PS2_WRAP)
		m->before_wrap = m->mode;
	m->mode = mode;
	forget(m);
}

void ps2_mouse_write(struct ps2_mouse *m, uint8_t byte)
{
	if (m->mode == PS2_WRAP && byte != 0xec && byte != 0xff) {
		ps2_put(&m->q, byte);
		return;
	}
	if (argument(m, byte))
		return;
	/* A command ends a packet that was not read. */
	ps2_clear(&m->q);
	ps2_put(&m->q, (byte >= 0xe6 && byte <= 0xf6 && byte != 0xec && byte != 0xef && byte != 0xf1) || byte == 0xec ||
				       byte == 0xff
			       ? ACK
			       : RESEND);
	switch (byte) {
	case 0xe6:
	case 0xe7:
		m->scaling = byte & 1;
		break;
	case 0xe8:
	case 0xf3:
		m->pending = byte;
		break;
	case 0xe9:
		tell_status(m);
		break;
	case 0xea:
		set_mode(m, PS2_STREAM);
		break;
	case 0xeb:
		packet(m);
		break;
	case 0xec:
		set_mode(m, m->mode == PS2_WRAP ? m->before_wrap : m->mode);
		break;
	case 0xee:
		set_mode(m, PS2_WRAP);
		break;
	case 0xf0:
		set_mode(m, PS2_REMOTE);
		break;
	case 0xf2:
		ps2_put(&m->q, m->id);
		break;
	case 0xf4:
	case 0xf5:
		m->reporting = byte == 0xf4;
		forget(m);
		break;
	case 0xf6:
		defaults(m);
		break;
	case 0xff:
		defaults(m);
		m->id = 0;
		ps2_put(&m->q, PASSED);
		ps2_put(&m->q, 0);
		break;
	}
}

/* --- saved state --- */

static bool near(uint32_t v)
{
	return (int32_t)v >= -FAR && (int32_t)v <= FAR;
}

static int post_load(void *obj, struct err *err)
{
	const struct ps2_mouse *m = obj;

	return m->mode > PS2_WRAP || m->before_wrap > PS2_REMOTE || (m->id && m->id != 3 && m->id != 4) ||
			       m->resolution > 3 || !near(m->dx) || !near(m->dy) || !near(m->dz)
		       ? err_set(err, "ps2: the mouse is out of range")
		       : 0;
}

#define M struct ps2_mouse
static const struct state_field fields[] = {
	STATE_SUB(M, q, &ps2_queue_state),
	STATE_U8F(M, pending),
	STATE_U8F(M, mode),
	STATE_U8F(M, before_wrap),
	STATE_U8F(M, id),
	STATE_U8F(M, rate),
	STATE_U8F(M, resolution),
	STATE_U8A(M, rates),
	STATE_BOOLF(M, reporting),
	STATE_BOOLF(M, scaling),
	STATE_U8F(M, buttons),
	STATE_U8F(M, told),
	STATE_U32F(M, dx),
	STATE_U32F(M, dy),
	STATE_U32F(M, dz),
	STATE_FIELD_END,
};
const struct state_desc ps2_mouse_state = {
	.name = "ps2-mouse", .version = 1, .min_version = 1, .fields = fields, .post_load = post_load
};
