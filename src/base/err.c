/* Errors for people. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void finish(struct err *e, int len)
{
	if (len >= (int)sizeof(e->msg))
		memcpy(e->msg + sizeof(e->msg) - 4, "...", 4);
}

int err_set(struct err *e, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	finish(e, vsnprintf(e->msg, sizeof(e->msg), fmt, ap));
	va_end(ap);
	return -1;
}

int err_errno(struct err *e, int errnum, const char *fmt, ...)
{
	char text[sizeof(e->msg)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	finish(e, snprintf(e->msg, sizeof(e->msg), "%s: %s", text, strerror(errnum)));
	return -1;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
	char head[sizeof(e->msg)], tail[sizeof(e->msg)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(head, sizeof(head), fmt, ap);
	va_end(ap);
	memcpy(tail, e->msg, sizeof(tail));
	finish(e, snprintf(e->msg, sizeof(e->msg), "%s: %s", head, tail));
	return -1;
}
