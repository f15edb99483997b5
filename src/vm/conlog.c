/* See conlog.h. */
#include "vm/conlog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct conlog {
	char path[128], old[136];
	int fd; /* -1: the last rotation failed */
	size_t size;
};

static int start(struct conlog *l)
{
	l->fd = open(l->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	l->size = 0;
	return l->fd < 0 ? -1 : 0;
}

struct conlog *conlog_new(const char *path, struct err *err)
{
	struct conlog *l = calloc(1, sizeof(*l));

	if (!l || strlen(path) >= sizeof(l->path)) {
		err_set(err, l ? "%s: the path is too long" : "%s: out of memory", path);
		free(l);
		return NULL;
	}
	strcpy(l->path, path);
	snprintf(l->old, sizeof(l->old), "%s.old", path);
	unlink(l->old);
	if (start(l)) {
		err_errno(err, errno, "%s", path);
		free(l);
		return NULL;
	}
	return l;
}

void conlog_write(struct conlog *l, const void *buf, size_t len)
{
	const char *b = buf;

	if (l->size + len > CONLOG_MAX) {
		if (l->fd >= 0)
			close(l->fd);
		rename(l->path, l->old);
		start(l);
	}
	while (len && l->fd >= 0) {
		ssize_t n = write(l->fd, b, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		b += n;
		len -= (size_t)n;
		l->size += (size_t)n;
	}
}

void conlog_free(struct conlog *l)
{
	if (!l)
		return;
	if (l->fd >= 0)
		close(l->fd);
	free(l);
}
