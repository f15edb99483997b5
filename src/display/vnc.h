/*
 * The screen, keyboard and mouse of a machine for VNC viewers, by neatvnc. It runs in a thread of its own; one in a
 * process. Made and freed by the thread that owns the machine. A build without neatvnc has none: vnc_new() says so.
 */
#ifndef VIREO_DISPLAY_VNC_H
#define VIREO_DISPLAY_VNC_H

#include <stdint.h>

#include "base/err.h"
#include "base/input.h"
#include "base/screen.h"

struct vnc_config {
	const char *path; /* of a Unix socket; NULL: */
	const char *host; /* an address of this machine */
	uint16_t port;
	/*
	 * With both, whoever comes to the address needs the password, and the path is one that belongs to the user
	 * alone. The directory has server-cert.pem and server-key.pem.
	 */
	const char *tls_creds, *password;
	const char *name;	     /* shown by viewers */
	struct screen_source source; /* nobody else may take its changes */
	struct input_sink input;     /* functions may be NULL */
};
struct vnc;

/* Listens when this returns. */
struct vnc *vnc_new(const struct vnc_config *c, struct err *err);
void vnc_free(struct vnc *v); /* NULL is fine */

/* The key (base/input.h) of an X11 keysym, on a keyboard of the United States; 0: none. */
unsigned vnc_key(uint32_t keysym);

#endif
