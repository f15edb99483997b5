/*
 * A PS/2 keyboard and a PS/2 mouse, as the i8042 has them at its two ports. They know no controller: bytes go to them
 * one by one, and what they have to say waits in a queue of bounded length. Guarded by the controller's lock.
 */
#ifndef VIREO_DEV_PS2_H
#define VIREO_DEV_PS2_H

#include "base/input.h"
#include "base/state.h"

/* Keys and movements stop at 16 bytes, as in the devices; answers find room behind them. */
#define PS2_ROOM  16u
#define PS2_QUEUE 32u
/* Whoever types by machine is faster than guests read: that many presses and releases wait. */
#define PS2_WAITING 128u

struct ps2_queue {
	uint8_t data[PS2_QUEUE];
	uint8_t first, count;
	uint8_t last; /* what RESEND repeats */
};

struct ps2_keyboard {
	struct ps2_queue q;
	uint8_t pending; /* a command that waits for its byte, or 0 */
	uint8_t set;	 /* of scan codes, 1 to 3 */
	uint8_t leds, rate;
	bool scanning;
	uint8_t quiet[32], still[32];  /* set 3: codes without a break code, and without repeats, a bit each */
	uint8_t down[32];	       /* keys that are down, a bit each */
	uint16_t waiting[PS2_WAITING]; /* keys that found no room: number, 100h when released */
	uint8_t first, count;	       /* of these */
};

enum ps2_mode { PS2_STREAM, PS2_REMOTE, PS2_WRAP };

struct ps2_mouse {
	struct ps2_queue q;
	uint8_t pending;
	uint8_t mode, before_wrap; /* enum ps2_mode */
	uint8_t id;		   /* 0; 3 with a wheel; 4 with five buttons */
	uint8_t rate, resolution, rates[2];
	bool reporting, scaling;
	uint8_t buttons, told; /* now; in the last packet */
	uint32_t dx, dy, dz;   /* not told yet: signed */
};

/* Behind the others; dropped if there is no room at all. */
void ps2_put(struct ps2_queue *q, uint8_t byte);
void ps2_clear(struct ps2_queue *q);
/* The next byte, which is taken; false: none. */
bool ps2_take(struct ps2_queue *q, uint8_t *byte);

void ps2_keyboard_reset(struct ps2_keyboard *k);
void ps2_keyboard_write(struct ps2_keyboard *k, uint8_t byte);
void ps2_keyboard_key(struct ps2_keyboard *k, unsigned key, bool down);
/* A byte was taken: what waits may fit now. */
void ps2_keyboard_more(struct ps2_keyboard *k);

void ps2_mouse_reset(struct ps2_mouse *m);
void ps2_mouse_write(struct ps2_mouse *m, uint8_t byte);
void ps2_mouse_move(struct ps2_mouse *m, const struct input_mouse *i);
/* A byte was taken: what has moved meanwhile may fit now. */
void ps2_mouse_more(struct ps2_mouse *m);

/* For the controller's translation and the tables: scan code of set 1 (below 80h) to that of set 2. */
extern const uint8_t ps2_set2[128];

extern const struct state_desc ps2_queue_state, ps2_keyboard_state, ps2_mouse_state;

#endif
