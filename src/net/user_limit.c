/* What the user-mode network's guest may hold: what of it has ended, and what is said of limits. */
#include <glib.h>
#include <libslirp.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "net/user.h"

#define QUIET_MS 5000 /* after which a limit is no longer met */

void user_limit_met(struct user_limit *l, int64_t now_ms, const char *text)
{
	if (!l->met)
		log_guest("net", "%s", text);
	l->met = true;
	l->last_ms = now_ms;
}

void user_limit_over(struct user_limit *l, int64_t now_ms, const char *text)
{
	if (!l->met || now_ms - l->last_ms < QUIET_MS)
		return;
	l->met = false;
	log_guest("net", "%s", text);
}

/* Only the library's text tells the states (TIME_WAIT), and here alone is it read. */
void user_each_ended(struct Slirp *slirp, void (*fn)(void *opaque, unsigned fd), void *opaque)
{
	char *text = slirp_connection_info(slirp);
	unsigned fd, received, sent;

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (sscanf(line, " TCP[TIME_WAIT] %u %*s %*u %*s %*u %u %u", &fd, &received, &sent) == 3 && !received &&
		    !sent)
			fn(opaque, fd);
	}
	g_free(text);
}
