/*
 * Keys and the mouse, between whoever has them (a VNC client, the control socket) and the device that the guest reads
 * them from.
 *
 * A key is the number that Linux gives it (<linux/input-event-codes.h>: KEY_A is 30), which says where it is on the
 * keyboard and nothing of what is printed on it. Repeats are further presses of a key that is down; they come from
 * where the keys do. The functions may be called from any thread.
 */
#ifndef VIREO_BASE_INPUT_H
#define VIREO_BASE_INPUT_H

#include <stdbool.h>
#include <stdint.h>

#define INPUT_KEYS 256u /* numbers below this */

enum input_button { INPUT_LEFT = 1, INPUT_RIGHT = 2, INPUT_MIDDLE = 4, INPUT_SIDE = 8, INPUT_EXTRA = 16 };

struct input_mouse {
	int dx, dy, dz;	 /* right, down, wheel towards the user */
	uint8_t buttons; /* all that are down now */
};

/* What a device gives; a function that it has no use for is NULL. */
struct input_sink {
	void (*key)(void *opaque, unsigned key, bool down);
	void (*mouse)(void *opaque, const struct input_mouse *m);
	void *opaque;
};

/* By QEMU's name for it ("a", "ret", "ctrl", "f2"), as `send-key` takes it; 0: none. */
unsigned input_key(const char *name);
/* The key of a character on a keyboard of the United States, and whether shift is down with it; 0: none. */
unsigned input_char(char c, bool *shift);
/* The same for the i-th name, to go through all: NULL after the last. */
const char *input_key_name(unsigned i);

#endif
