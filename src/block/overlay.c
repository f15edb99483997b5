/* A disk whose writes go elsewhere and are forgotten: a qcow2 image over it in a file that has no name any more. */
#include "block/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int make_temporary(char *path, size_t size, struct err *err)
{
	const char *dir = getenv("TMPDIR");
	int fd;

	/* Not /tmp, which often is memory. */
	if (snprintf(path, size, "%s/vireo-XXXXXX", dir && *dir == '/' ? dir : "/var/tmp") >= (int)size)
		return err_set(err, "TMPDIR: too long");
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "snapshot: %s", path);
	close(fd);
	return 0;
}

struct node *overlay_open(struct node *under, unsigned flags, struct err *err)
{
	struct opts *o = opts_new(), *none = opts_new();
	struct node *over = NULL;
	char path[512], size[24];

	snprintf(size, sizeof(size), "%llu", (unsigned long long)under->size);
	opts_set(o, "size", size);
	if (make_temporary(path, sizeof(path), err))
		goto out;
	opts_set(none, "driver", "qcow2");
	opts_set(none, "file.driver", "file");
	opts_set(none, "file.filename", path);
	if (!node_qcow2.create(under->ctx, path, o, err))
		over = node_open(under->ctx, NULL, none, flags | NODE_RDWR | NODE_NO_FLUSH | NODE_NO_BACKING, err);
	if (!over)
		err_prefix(err, "snapshot");
	unlink(path);
out:
	opts_free(o);
	opts_free(none);
	if (!over) {
		node_close(under);
		return NULL;
	}
	over->backing = under;
	under->parent = over;
	return over;
}
