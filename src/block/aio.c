/* What an operation of aio.h asks for, made in the thread that calls. */
#include "block/aio.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

ssize_t aio_perform(const struct aio_op *op)
{
	ssize_t n = -1;

	switch (op->kind) {
	case AIO_CALL:
		return op->call(op->opaque);
	case AIO_READV:
		n = preadv(op->fd, op->iov, (int)op->niov, (off_t)op->offset);
		break;
	case AIO_WRITEV:
		if (op->reserve && fallocate(op->fd, FALLOC_FL_KEEP_SIZE, (off_t)op->offset, (off_t)op->len))
			errno = 0; /* the write says whether there is room */
		n = pwritev(op->fd, op->iov, (int)op->niov, (off_t)op->offset);
		break;
	case AIO_FDATASYNC:
		n = fdatasync(op->fd);
		break;
	case AIO_FALLOCATE:
		n = fallocate(op->fd, op->mode, (off_t)op->offset, (off_t)op->len);
		break;
	}
	return n < 0 ? -errno : n;
}
