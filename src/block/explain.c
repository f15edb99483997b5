/* Why a path could not be opened: see explain.h. */
#include "block/explain.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void block_explain(const struct block_config *c, int errnum, struct err *err)
{
	struct stat st;

	if (errnum == ENOENT && c->readonly) {
		err_set(err, "%s: no such file", c->path);
	} else if (errnum == ENOENT) {
		err_set(err, "%s: no such file; make an image first, for example with: truncate -s 8G %s", c->path,
			c->path);
	} else if (!stat(c->path, &st) && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		err_set(err, "%s is a %s; a disk must be a regular file or a block device", c->path,
			S_ISDIR(st.st_mode)    ? "directory"
			: S_ISFIFO(st.st_mode) ? "pipe"
			: S_ISCHR(st.st_mode)  ? "character device"
					       : "socket");
	} else if (errnum == EROFS && !stat(c->path, &st) && S_ISBLK(st.st_mode)) {
		err_set(err, "%s is a read-only block device; use readonly=on", c->path);
	} else if (errnum == EBUSY) {
		err_set(err, "%s is in use by the host (mounted, or part of a volume); use another device", c->path);
	} else if ((errnum == EACCES || errnum == EROFS || errnum == EPERM) && !c->readonly && !access(c->path, R_OK)) {
		err_errno(err, errnum, "%s cannot be opened for writing (readonly=on would do)", c->path);
	} else if (errnum) {
		err_errno(err, errnum, "%s", c->path);
	} else if (!strstr(err->msg, c->path)) {
		err_prefix(err, "%s", c->path);
	}
}
