/* Keysyms of X11 (keysymdef.h), which VNC viewers send, as keys. */
#include <linux/input-event-codes.h>
#include <stddef.h>

#include "display/vnc.h"

static const struct {
	uint16_t first, count; /* keysyms */
	uint8_t keys[16];      /* of each */
} ranges[] = {
	{ 0xff08, 2, { KEY_BACKSPACE, KEY_TAB } },
	{ 0xff0d, 1, { KEY_ENTER } },
	{ 0xff13, 3, { KEY_PAUSE, KEY_SCROLLLOCK, KEY_SYSRQ } },
	{ 0xff1b, 1, { KEY_ESC } },
	{ 0xff50, 8, { KEY_HOME, KEY_LEFT, KEY_UP, KEY_RIGHT, KEY_DOWN, KEY_PAGEUP, KEY_PAGEDOWN, KEY_END } },
	{ 0xff61, 1, { KEY_SYSRQ } },
	{ 0xff63, 1, { KEY_INSERT } },
	{ 0xff67, 1, { KEY_COMPOSE } },
	{ 0xff7f, 1, { KEY_NUMLOCK } },
	{ 0xff8d, 1, { KEY_KPENTER } },
	{ 0xff95, 8, { KEY_KP7, KEY_KP4, KEY_KP8, KEY_KP6, KEY_KP2, KEY_KP9, KEY_KP3, KEY_KP1 } },
	{ 0xff9d, 3, { KEY_KP5, KEY_KP0, KEY_KPDOT } },
	{ 0xffaa, 6, { KEY_KPASTERISK, KEY_KPPLUS, KEY_KPCOMMA, KEY_KPMINUS, KEY_KPDOT, KEY_KPSLASH } },
	{ 0xffb0, 10, { KEY_KP0, KEY_KP1, KEY_KP2, KEY_KP3, KEY_KP4, KEY_KP5, KEY_KP6, KEY_KP7, KEY_KP8, KEY_KP9 } },
	{ 0xffbd, 1, { KEY_KPEQUAL } },
	{ 0xffbe,
	  12,
	  { KEY_F1, KEY_F2, KEY_F3, KEY_F4, KEY_F5, KEY_F6, KEY_F7, KEY_F8, KEY_F9, KEY_F10, KEY_F11, KEY_F12 } },
	{ 0xffe1,
	  12,
	  { KEY_LEFTSHIFT, KEY_RIGHTSHIFT, KEY_LEFTCTRL, KEY_RIGHTCTRL, KEY_CAPSLOCK, 0, KEY_LEFTMETA, KEY_RIGHTMETA,
	    KEY_LEFTALT, KEY_RIGHTALT, KEY_LEFTMETA, KEY_RIGHTMETA } },
	{ 0xffff, 1, { KEY_DELETE } },
	/* AltGr, and Tab with shift. */
	{ 0xfe03, 1, { KEY_RIGHTALT } },
	{ 0xfe20, 1, { KEY_TAB } },
};

unsigned vnc_key(uint32_t keysym)
{
	bool shift;

	for (size_t n = 0; n < sizeof(ranges) / sizeof(ranges[0]); n++)
		if (keysym - ranges[n].first < ranges[n].count)
			return ranges[n].keys[keysym - ranges[n].first];
	/* What has a character is that; whether shift is down comes as a key of its own. */
	return keysym >= 0x20 && keysym < 0x7f ? input_char((char)keysym, &shift) : 0;
}
