/* See input.h. */
#include "base/input.h"

#include <linux/input-event-codes.h>
#include <stddef.h>
#include <string.h>

static const struct {
	const char *name;
	uint8_t key;
} keys[] = {
	{ "shift", KEY_LEFTSHIFT },
	{ "shift_r", KEY_RIGHTSHIFT },
	{ "alt", KEY_LEFTALT },
	{ "alt_r", KEY_RIGHTALT },
	{ "ctrl", KEY_LEFTCTRL },
	{ "ctrl_r", KEY_RIGHTCTRL },
	{ "meta_l", KEY_LEFTMETA },
	{ "meta_r", KEY_RIGHTMETA },
	{ "menu", KEY_COMPOSE },
	{ "compose", KEY_COMPOSE },
	{ "esc", KEY_ESC },
	{ "1", KEY_1 },
	{ "2", KEY_2 },
	{ "3", KEY_3 },
	{ "4", KEY_4 },
	{ "5", KEY_5 },
	{ "6", KEY_6 },
	{ "7", KEY_7 },
	{ "8", KEY_8 },
	{ "9", KEY_9 },
	{ "0", KEY_0 },
	{ "minus", KEY_MINUS },
	{ "equal", KEY_EQUAL },
	{ "backspace", KEY_BACKSPACE },
	{ "tab", KEY_TAB },
	{ "q", KEY_Q },
	{ "w", KEY_W },
	{ "e", KEY_E },
	{ "r", KEY_R },
	{ "t", KEY_T },
	{ "y", KEY_Y },
	{ "u", KEY_U },
	{ "i", KEY_I },
	{ "o", KEY_O },
	{ "p", KEY_P },
	{ "bracket_left", KEY_LEFTBRACE },
	{ "bracket_right", KEY_RIGHTBRACE },
	{ "ret", KEY_ENTER },
	{ "a", KEY_A },
	{ "s", KEY_S },
	{ "d", KEY_D },
	{ "f", KEY_F },
	{ "g", KEY_G },
	{ "h", KEY_H },
	{ "j", KEY_J },
	{ "k", KEY_K },
	{ "l", KEY_L },
	{ "semicolon", KEY_SEMICOLON },
	{ "apostrophe", KEY_APOSTROPHE },
	{ "grave_accent", KEY_GRAVE },
	{ "backslash", KEY_BACKSLASH },
	{ "z", KEY_Z },
	{ "x", KEY_X },
	{ "c", KEY_C },
	{ "v", KEY_V },
	{ "b", KEY_B },
	{ "n", KEY_N },
	{ "m", KEY_M },
	{ "comma", KEY_COMMA },
	{ "dot", KEY_DOT },
	{ "slash", KEY_SLASH },
	{ "asterisk", KEY_KPASTERISK },
	{ "spc", KEY_SPACE },
	{ "caps_lock", KEY_CAPSLOCK },
	{ "f1", KEY_F1 },
	{ "f2", KEY_F2 },
	{ "f3", KEY_F3 },
	{ "f4", KEY_F4 },
	{ "f5", KEY_F5 },
	{ "f6", KEY_F6 },
	{ "f7", KEY_F7 },
	{ "f8", KEY_F8 },
	{ "f9", KEY_F9 },
	{ "f10", KEY_F10 },
	{ "f11", KEY_F11 },
	{ "f12", KEY_F12 },
	{ "num_lock", KEY_NUMLOCK },
	{ "scroll_lock", KEY_SCROLLLOCK },
	{ "kp_divide", KEY_KPSLASH },
	{ "kp_multiply", KEY_KPASTERISK },
	{ "kp_subtract", KEY_KPMINUS },
	{ "kp_add", KEY_KPPLUS },
	{ "kp_enter", KEY_KPENTER },
	{ "kp_decimal", KEY_KPDOT },
	{ "kp_equals", KEY_KPEQUAL },
	{ "kp_comma", KEY_KPCOMMA },
	{ "kp_0", KEY_KP0 },
	{ "kp_1", KEY_KP1 },
	{ "kp_2", KEY_KP2 },
	{ "kp_3", KEY_KP3 },
	{ "kp_4", KEY_KP4 },
	{ "kp_5", KEY_KP5 },
	{ "kp_6", KEY_KP6 },
	{ "kp_7", KEY_KP7 },
	{ "kp_8", KEY_KP8 },
	{ "kp_9", KEY_KP9 },
	{ "less", KEY_102ND },
	{ "print", KEY_SYSRQ },
	{ "sysrq", KEY_SYSRQ },
	{ "pause", KEY_PAUSE },
	{ "home", KEY_HOME },
	{ "pgup", KEY_PAGEUP },
	{ "pgdn", KEY_PAGEDOWN },
	{ "end", KEY_END },
	{ "left", KEY_LEFT },
	{ "up", KEY_UP },
	{ "down", KEY_DOWN },
	{ "right", KEY_RIGHT },
	{ "insert", KEY_INSERT },
	{ "delete", KEY_DELETE },
	{ "ro", KEY_RO },
	{ "katakanahiragana", KEY_KATAKANAHIRAGANA },
	{ "henkan", KEY_HENKAN },
	{ "muhenkan", KEY_MUHENKAN },
	{ "yen", KEY_YEN },
	{ "power", KEY_POWER },
	{ "sleep", KEY_SLEEP },
	{ "wake", KEY_WAKEUP },
	{ "audiomute", KEY_MUTE },
	{ "volumedown", KEY_VOLUMEDOWN },
	{ "volumeup", KEY_VOLUMEUP },
	{ "audionext", KEY_NEXTSONG },
	{ "audioprev", KEY_PREVIOUSSONG },
	{ "audiostop", KEY_STOPCD },
	{ "audioplay", KEY_PLAYPAUSE },
	{ "mail", KEY_MAIL },
	{ "calculator", KEY_CALC },
	{ "ac_home", KEY_HOMEPAGE },
};
#define COUNT (sizeof(keys) / sizeof(keys[0]))

unsigned input_key(const char *name)
{
	for (size_t n = 0; n < COUNT; n++)
		if (!strcmp(keys[n].name, name))
			return keys[n].key;
	return 0;
}

unsigned input_char(char c, bool *shift)
{
	static const char plain[] = "`1234567890-=[]\\;',./ \n\t", shifted[] = "~!@#$%^&*()_+{}|:\"<>?";
	static const uint8_t signs[] = {
		KEY_GRAVE, KEY_1,	  KEY_2,	  KEY_3,	 KEY_4,		KEY_5,
		KEY_6,	   KEY_7,	  KEY_8,	  KEY_9,	 KEY_0,		KEY_MINUS,
		KEY_EQUAL, KEY_LEFTBRACE, KEY_RIGHTBRACE, KEY_BACKSLASH, KEY_SEMICOLON, KEY_APOSTROPHE,
		KEY_COMMA, KEY_DOT,	  KEY_SLASH,	  KEY_SPACE,	 KEY_ENTER,	KEY_TAB,
	};
	const char *at = c ? strchr(plain, c) : NULL, *up = c ? strchr(shifted, c) : NULL;
	char letter[2] = { (char)(c | 0x20), 0 };

	*shift = up || (c >= 'A' && c <= 'Z');
	if (at)
		return signs[at - plain];
	if (up)
		return signs[up - shifted];
	return letter[0] >= 'a' && letter[0] <= 'z' ? input_key(letter) : 0;
}

const char *input_key_name(unsigned i)
{
	return i < COUNT ? keys[i].name : NULL;
}
