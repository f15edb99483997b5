/* See incomplete.h. */
#include "block/incomplete.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

struct incomplete {
	dev_t dev;
	ino_t ino;
	char *path;
	struct incomplete *next;
};

void incomplete_begin(struct node_ctx *c, const char *by)
{
	c->making = by;
}

static bool is_ours(const struct node_ctx *c, const struct stat *st)
{
	const struct incomplete *i = c->incomplete;

	while (i && (i->dev != st->st_dev || i->ino != st->st_ino))
		i = i->next;
	return i;
}

void incomplete_mark(struct node_ctx *c, int fd, const char *path)
{
	struct incomplete *i;
	struct stat st;

	if (!c->making || fstat(fd, &st) || !S_ISREG(st.st_mode) || is_ours(c, &st) ||
	    fsetxattr(fd, INCOMPLETE_ATTRIBUTE, c->making, strlen(c->making), 0))
		return;
	i = calloc(1, sizeof(*i));
	if (i)
		*i = (struct incomplete){ st.st_dev, st.st_ino, strdup(path), c->incomplete };
	if (i && i->path)
		c->incomplete = i;
	else
		fremovexattr(fd, INCOMPLETE_ATTRIBUTE);
	if (i && !i->path)
		free(i);
}

void incomplete_end(struct node_ctx *c)
{
	while (c->incomplete) {
		struct incomplete *i = c->incomplete;

		removexattr(i->path, INCOMPLETE_ATTRIBUTE);
		c->incomplete = i->next;
		free(i->path);
		free(i);
	}
	c->making = NULL;
}

void incomplete_allow(struct node_ctx *c, bool on)
{
	c->over_incomplete = on;
}

int incomplete_check(const struct node_ctx *c, int fd, struct err *err)
{
	char by[32];
	ssize_t len = fgetxattr(fd, INCOMPLETE_ATTRIBUTE, by, sizeof(by) - 1);
	struct stat st;

	if (len < 0 || c->over_incomplete || fstat(fd, &st) || is_ours(c, &st))
		return 0;
	by[len] = 0;
	/* The file may be from anywhere. */
	for (ssize_t i = 0; i < len; i++)
		if (by[i] < 'a' || by[i] > 'z')
			by[0] = 0;
	return err_set(
		err,
		"It is incomplete: '%s' ended before all of it was made. Make it anew; to use what there is of it, "
		"remove its attribute " INCOMPLETE_ATTRIBUTE " (setfattr -x)",
		by[0] ? by : "a command");
}
