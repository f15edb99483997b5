/*
 * Between the two halves of VNC: the machine's process draws (vnc.c), a process of its own, which viewers cannot reach
 * through, serves them (vnc_server.c). They share the picture, and a socket pair that keeps messages apart.
 */
#ifndef VIREO_DISPLAY_VNC_IMPL_H
#define VIREO_DISPLAY_VNC_IMPL_H

#include "display/vnc.h"

#define VNC_RECTS_MAX  256u
#define VNC_PIXELS_MAX (16384ull * 16384) /* of the shared picture: of each struct screen, too */

/* From the server. */
enum vnc_news {
	VNC_DONE,    /* the picture was taken: there may be another one */
	VNC_VIEWERS, /* their number */
	VNC_KEY,     /* which, and whether it is down */
	VNC_MOUSE    /* as struct input_mouse */
};
struct vnc_news_message {
	uint32_t what; /* enum vnc_news */
	int32_t value[4];
};

struct vnc_rect {
	uint16_t x, y, w, h;
};

/* To the server: the shared picture, rows of `width`, has changed. As long as there are rectangles. */
struct vnc_picture {
	uint16_t width, height;
	uint32_t count;
	struct vnc_rect rect[VNC_RECTS_MAX];
};

/* What viewers need a password for, if the configuration says so. In the server's process, once it listens itself. */
int vnc_front(const struct vnc_config *c, struct err *err);
/*
 * The server's process (in the module vireo-vnc): does not return but for errors before it listens. It says that it
 * does by a message of one byte 0 on `fd`.
 */
int vnc_serve(const struct vnc_config *c, const uint32_t *pixels, int fd, struct err *err);

#endif
