/* The PS/2 keyboard: IBM's Personal System/2 Hardware Interface Technical Reference, "Keyboards (101- and 102-Key)". */
#include <linux/input-event-codes.h>
#include <string.h>

#include "base/bytes.h"
#include "dev/ps2.h"

#define ACK    0xfa
#define RESEND 0xfe
#define PASSED 0xaa

/* --- queues, of the mouse as well --- */

void ps2_put(struct ps2_queue *q, uint8_t byte)
{
	if (q->count == PS2_QUEUE)
		return;
	q->data[(q->first + q->count++) % PS2_QUEUE] = byte;
}

void ps2_clear(struct ps2_queue *q)
{
	q->first = q->count = 0;
}

bool ps2_take(struct ps2_queue *q, uint8_t *byte)
{
	if (!q->count)
		return false;
	*byte = q->last = q->data[q->first];
	q->first = (q->first + 1) % PS2_QUEUE;
	q->count--;
	return true;
}

static int queue_post_load(void *obj, struct err *err)
{
	const struct ps2_queue *q = obj;

	return q->first >= PS2_QUEUE || q->count > PS2_QUEUE ? err_set(err, "ps2: a queue is out of range") : 0;
}

static const struct state_field queue_fields[] = {
	STATE_U8A(struct ps2_queue, data),
	STATE_U8F(struct ps2_queue, first),
	STATE_U8F(struct ps2_queue, count),
	STATE_U8F(struct ps2_queue, last),
	STATE_FIELD_END,
};
const struct state_desc ps2_queue_state = {
	.name = "ps2-queue", .version = 1, .min_version = 1, .fields = queue_fields, .post_load = queue_post_load
};

/* --- scan codes --- */

const uint8_t ps2_set2[128] = {
	0x00, 0x76, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66, 0x0d,
	0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x14, 0x1c, 0x1b,
	0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5d, 0x1a, 0x22, 0x21, 0x2a,
	0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7c, 0x11, 0x29, 0x58, 0x05, 0x06, 0x04, 0x0c, 0x03,
	0x0b, 0x83, 0x0a, 0x01, 0x09, 0x77, 0x7e, 0x6c, 0x75, 0x7d, 0x7b, 0x6b, 0x73, 0x74, 0x79, 0x69,
	0x72, 0x7a, 0x70, 0x71, 0x84, 0x60, 0x61, 0x78, 0x07, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x3f,
	0x47, 0x4f, 0x56, 0x5e, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0x40, 0x48, 0x50, 0x57, 0x6f,
	0x13, 0x19, 0x39, 0x51, 0x53, 0x5c, 0x5f, 0x62, 0x63, 0x64, 0x65, 0x67, 0x68, 0x6a, 0x6d, 0x6e,
};

#define EXTENDED 0x80

/* In set 1, EXTENDED where E0h comes first. Up to 83 and for 86 to 88 Linux's numbers are these codes themselves. */
static const uint8_t set1[INPUT_KEYS] = {
	[KEY_102ND] = 0x56,
	[KEY_F11] = 0x57,
	[KEY_F12] = 0x58,
	[KEY_RO] = 0x73,
	[KEY_HENKAN] = 0x79,
	[KEY_KATAKANAHIRAGANA] = 0x70,
	[KEY_MUHENKAN] = 0x7b,
	[KEY_YEN] = 0x7d,
	[KEY_KPCOMMA] = 0x7e,
	[KEY_KPEQUAL] = 0x59,
	[KEY_KPENTER] = EXTENDED | 0x1c,
	[KEY_RIGHTCTRL] = EXTENDED | 0x1d,
	[KEY_KPSLASH] = EXTENDED | 0x35,
	[KEY_SYSRQ] = EXTENDED | 0x37,
	[KEY_RIGHTALT] = EXTENDED | 0x38,
	[KEY_HOME] = EXTENDED | 0x47,
	[KEY_UP] = EXTENDED | 0x48,
	[KEY_PAGEUP] = EXTENDED | 0x49,
	[KEY_LEFT] = EXTENDED | 0x4b,
	[KEY_RIGHT] = EXTENDED | 0x4d,
	[KEY_END] = EXTENDED | 0x4f,
	[KEY_DOWN] = EXTENDED | 0x50,
	[KEY_PAGEDOWN] = EXTENDED | 0x51,
	[KEY_INSERT] = EXTENDED | 0x52,
	[KEY_DELETE] = EXTENDED | 0x53,
	[KEY_LEFTMETA] = EXTENDED | 0x5b,
	[KEY_RIGHTMETA] = EXTENDED | 0x5c,
	[KEY_COMPOSE] = EXTENDED | 0x5d,
	[KEY_POWER] = EXTENDED | 0x5e,
	[KEY_SLEEP] = EXTENDED | 0x5f,
	[KEY_WAKEUP] = EXTENDED | 0x63,
	[KEY_MUTE] = EXTENDED | 0x20,
	[KEY_VOLUMEDOWN] = EXTENDED | 0x2e,
	[KEY_VOLUMEUP] = EXTENDED | 0x30,
	[KEY_NEXTSONG] = EXTENDED | 0x19,
	[KEY_PREVIOUSSONG] = EXTENDED | 0x10,
	[KEY_STOPCD] = EXTENDED | 0x24,
	[KEY_PLAYPAUSE] = EXTENDED | 0x22,
	[KEY_MAIL] = EXTENDED | 0x6c,
	[KEY_CALC] = EXTENDED | 0x21,
	[KEY_HOMEPAGE] = EXTENDED | 0x32,
};

/* In set 3, where it is not as in set 2. */
static const uint8_t set3[INPUT_KEYS] = {
	[KEY_ESC] = 0x08,      [KEY_F1] = 0x07,	       [KEY_F2] = 0x0f,		[KEY_F3] = 0x17,
	[KEY_F4] = 0x1f,       [KEY_F5] = 0x27,	       [KEY_F6] = 0x2f,		[KEY_F7] = 0x37,
	[KEY_F8] = 0x3f,       [KEY_F9] = 0x47,	       [KEY_F10] = 0x4f,	[KEY_F11] = 0x56,
	[KEY_F12] = 0x5e,      [KEY_SYSRQ] = 0x57,     [KEY_SCROLLLOCK] = 0x5f, [KEY_PAUSE] = 0x62,
	[KEY_CAPSLOCK] = 0x14, [KEY_102ND] = 0x13,     [KEY_LEFTCTRL] = 0x11,	[KEY_LEFTALT] = 0x19,
	[KEY_RIGHTALT] = 0x39, [KEY_RIGHTCTRL] = 0x58, [KEY_BACKSLASH] = 0x5c,	[KEY_INSERT] = 0x67,
	[KEY_HOME] = 0x6e,     [KEY_PAGEUP] = 0x6f,    [KEY_DELETE] = 0x64,	[KEY_END] = 0x65,
	[KEY_PAGEDOWN] = 0x6d, [KEY_UP] = 0x63,	       [KEY_LEFT] = 0x61,	[KEY_DOWN] = 0x60,
	[KEY_RIGHT] = 0x6a,    [KEY_NUMLOCK] = 0x76,   [KEY_KPSLASH] = 0x77,	[KEY_KPASTERISK] = 0x7e,
	[KEY_KPMINUS] = 0x84,  [KEY_KPENTER] = 0x79,   [KEY_LEFTMETA] = 0x8b,	[KEY_RIGHTMETA] = 0x8c,
	[KEY_COMPOSE] = 0x8d,
};

static bool bit(const uint8_t *map, unsigned n)
{
	return map[n / 8] >> n % 8 & 1;
}

static void set_bit(uint8_t *map, unsigned n, bool on)
{
	map[n / 8] = (uint8_t)(on ? map[n / 8] | 1u << n % 8 : map[n / 8] & ~(1u << n % 8));
}

static uint8_t code1(unsigned key)
{
	return key <= KEY_KPDOT ? (uint8_t)key : set1[key];
}

/* The bytes of a press or a release; their number. */
static unsigned codes_1_2(const struct ps2_keyboard *k, unsigned key, bool down, uint8_t *b)
{
	uint8_t code = code1(key);
	unsigned n = 0;

	if (!code)
		return 0;
	if (code & EXTENDED)
		b[n++] = 0xe0;
	code &= 0x7f;
	if (k->set == 1) {
		b[n++] = (uint8_t)(code | (down ? 0 : 0x80));
	} else {
		if (!down)
			b[n++] = 0xf0;
		b[n++] = ps2_set2[code];
	}
	return n;
}

static unsigned codes_3(const struct ps2_keyboard *k, unsigned key, bool down, bool again, uint8_t *b)
{
	uint8_t code = set3[key], one = code1(key);
	unsigned n = 0;

	if (!code && one && !(one & EXTENDED))
		code = ps2_set2[one];
	if (!code || (!down && bit(k->quiet, code)) || (again && bit(k->still, code)))
		return 0;
	if (!down)
		b[n++] = 0xf0;
	b[n++] = code;
	return n;
}

/* False: there is no room for all of it. */
static bool tell(struct ps2_keyboard *k, unsigned key, bool down)
{
	static const uint8_t pause1[] = { 0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5 };
	static const uint8_t pause2[] = { 0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77 };
	bool again = down && bit(k->down, key);
	uint8_t b[8];
	unsigned n;

	if (!k->scanning) {
		n = 0;
	} else if (k->set == 3) {
		n = codes_3(k, key, down, again, b);
	} else if (key == KEY_PAUSE) { /* it has no release and no repeats */
		n = !down || again ? 0 : k->set == 1 ? sizeof(pause1) : sizeof(pause2);
		memcpy(b, k->set == 1 ? pause1 : pause2, n);
	} else {
		n = codes_1_2(k, key, down, b);
	}
	if (k->q.count + n > PS2_ROOM)
		return false;
	for (unsigned i = 0; i < n; i++)
		ps2_put(&k->q, b[i]);
	set_bit(k->down, key, down);
	return true;
}

void ps2_keyboard_more(struct ps2_keyboard *k)
{
	while (k->count && tell(k, k->waiting[k->first] & 0xff, !(k->waiting[k->first] & 0x100))) {
		k->first = (k->first + 1) % PS2_WAITING;
		k->count--;
	}
}

void ps2_keyboard_key(struct ps2_keyboard *k, unsigned key, bool down)
{
	if (key >= INPUT_KEYS || (!k->count && tell(k, key, down)) || k->count == PS2_WAITING)
		return;
	k->waiting[(k->first + k->count++) % PS2_WAITING] = (uint16_t)(key | (down ? 0 : 0x100));
}

/* --- commands --- */

/* Set 3 at the beginning: letters and digits repeat and have no release, modifiers have one, others neither. */
static void default_types(struct ps2_keyboard *k)
{
	static const uint8_t modifiers[] = { 0x11, 0x12, 0x14, 0x19, 0x59 };

	memset(k->quiet, 0xff, sizeof(k->quiet));
	memset(k->still, 0, sizeof(k->still));
	for (size_t n = 0; n < ARRAY_LEN(modifiers); n++) {
		set_bit(k->quiet, modifiers[n], false);
		set_bit(k->still, modifiers[n], true);
	}
}

static void defaults(struct ps2_keyboard *k)
{
	k->rate = 0x2b; /* 10.9 a second after half a second */
	k->leds = 0;
	k->set = 2;
	default_types(k);
}

void ps2_keyboard_reset(struct ps2_keyboard *k)
{
	memset(k, 0, sizeof(*k));
	defaults(k);
	k->scanning = true;
}

static void forget(struct ps2_keyboard *k)
{
	ps2_clear(&k->q);
	k->first = k->count = 0;
}

/* The second byte of a command. True: it was one. */
static bool argument(struct ps2_keyboard *k, uint8_t byte)
{
	uint8_t command = k->pending;

	k->pending = 0;
	/* A command instead: the one before is given up. */
	if (!command || byte >= 0xed)
		return false;
	switch (command) {
	case 0xed:
		k->leds = byte & 7;
		break;
	case 0xf3:
		k->rate = byte & 0x7f;
		break;
	case 0xf0:
		if (byte > 3) {
			ps2_put(&k->q, RESEND);
			return true;
		}
		ps2_put(&k->q, ACK);
		if (byte == 0)
			ps2_put(&k->q, k->set);
		else
			k->set = byte;
		return true;
	default: /* FBh to FDh: the type of one key after the other, until another command comes */
		set_bit(k->quiet, byte, command != 0xfc);
		set_bit(k->still, byte, command != 0xfb);
		k->pending = command;
	}
	ps2_put(&k->q, ACK);
	return true;
}

static void all_types(struct ps2_keyboard *k, uint8_t command)
{
	memset(k->quiet, command == 0xf7 || command == 0xf9 ? 0xff : 0, sizeof(k->quiet));
	memset(k->still, command == 0xf8 || command == 0xf9 ? 0xff : 0, sizeof(k->still));
}

void ps2_keyboard_write(struct ps2_keyboard *k, uint8_t byte)
{
	if (argument(k, byte))
		return;
	switch (byte) {
	case 0xed:
	case 0xf0:
	case 0xf3:
	case 0xfb ... 0xfd:
		k->pending = byte;
		ps2_put(&k->q, ACK);
		break;
	case 0xee: /* echo */
		ps2_put(&k->q, byte);
		break;
	case 0xf2:
		ps2_put(&k->q, ACK);
		ps2_put(&k->q, 0xab);
		ps2_put(&k->q, 0x83);
		break;
	case 0xf4:
		forget(k);
		k->scanning = true;
		ps2_put(&k->q, ACK);
		break;
	case 0xf5:
	case 0xf6:
		forget(k);
		defaults(k);
		k->scanning = byte == 0xf6;
		ps2_put(&k->q, ACK);
		break;
	case 0xf7 ... 0xfa:
		all_types(k, byte);
		ps2_put(&k->q, ACK);
		break;
	case 0xfe:
		ps2_put(&k->q, k->q.last);
		break;
	case 0xff:
		forget(k);
		defaults(k);
		k->scanning = true;
		ps2_put(&k->q, ACK);
		ps2_put(&k->q, PASSED);
		break;
	default:
		ps2_put(&k->q, RESEND);
	}
}

/* --- saved state --- */

static int post_load(void *obj, struct err *err)
{
	const struct ps2_keyboard *k = obj;

	return k->set < 1 || k->set > 3 || k->first >= PS2_WAITING || k->count > PS2_WAITING
		       ? err_set(err, "ps2: the keyboard is out of range")
		       : 0;
}

#define K struct ps2_keyboard
static const struct state_field fields[] = {
	STATE_SUB(K, q, &ps2_queue_state),
	STATE_U8F(K, pending),
	STATE_U8F(K, set),
	STATE_U8F(K, leds),
	STATE_U8F(K, rate),
	STATE_BOOLF(K, scanning),
	STATE_U8A(K, quiet),
	STATE_U8A(K, still),
	STATE_U8A(K, down),
	STATE_U16A(K, waiting),
	STATE_U8F(K, first),
	STATE_U8F(K, count),
	STATE_FIELD_END,
};
const struct state_desc ps2_keyboard_state = {
	.name = "ps2-keyboard", .version = 1, .min_version = 1, .fields = fields, .post_load = post_load
};
