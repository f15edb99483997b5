/*
 * Regular files and block devices: opening, locking, and turning requests into aio operations with
 * short transfers, ends of file and missing fallocate modes dealt with.
 */
#include "block/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "block/lock.h"

#define ZERO_CHUNK (64u * 1024)
#define ZERO_VECS  16u
#define RETRIES	   100

struct block_file {
	int fd;
	bool readonly, locked, no_discard;
	bool can_punch, can_zero; /* fallocate modes that have not been refused so far */
	uint64_t size;
	struct aio *aio;
};

static uint8_t zero_chunk[ZERO_CHUNK] __attribute__((aligned(4096)));

static int open_default(void *opaque, const char *path, int flags)
{
	return open(path, flags);
}

static int explain_open(const struct block_config *c, int errnum, struct err *err)
{
	switch (errnum) {
	case ENOENT:
		return err_set(err, "%s: no such file; make an image first, for example with: truncate -s 8G %s",
			       c->path, c->path);
	case EACCES:
	case EROFS:
	case EPERM:
		if (!c->readonly && access(c->path, R_OK) == 0)
			return err_errno(err, errnum, "%s cannot be opened for writing (readonly=on would do)",
					 c->path);
		break;
	case EBUSY:
		return err_set(err, "%s is in use by the host (mounted, or part of a volume); use another device",
			       c->path);
	}
	return err_errno(err, errnum, "%s", c->path);
}

/* Size and kind; refuses what is neither a regular file nor a block device. */
static int look_at(struct block_file *f, const struct block_config *c, struct stat *st, struct err *err)
{
	if (fstat(f->fd, st))
		return err_errno(err, errno, "%s", c->path);
	if (S_ISREG(st->st_mode)) {
		f->size = (uint64_t)st->st_size;
		return 0;
	}
	if (S_ISBLK(st->st_mode)) {
		int ro = 0;

		if (ioctl(f->fd, BLKGETSIZE64, &f->size))
			return err_errno(err, errno, "%s: size of the block device", c->path);
		if (!c->readonly && !ioctl(f->fd, BLKROGET, &ro) && ro)
			return err_set(err, "%s is a read-only block device; use readonly=on", c->path);
		return 0;
	}
	return err_set(err, "%s is a %s; a disk must be a regular file or a block device", c->path,
		       S_ISDIR(st->st_mode)    ? "directory"
		       : S_ISFIFO(st->st_mode) ? "pipe"
		       : S_ISCHR(st->st_mode)  ? "character device"
					       : "socket");
}

static int open_fd(struct block_file *f, const struct block_config *c, struct err *err)
{
	int (*open_path)(void *, const char *, int) = c->open_path ? c->open_path : open_default;
	/* O_NONBLOCK: a pipe must not hang us before it is refused. No effect on files and disks. */
	int flags = O_CLOEXEC | O_NONBLOCK | (c->readonly ? O_RDONLY : O_RDWR);
	struct stat st;

	/* A block device that the host has mounted must not be written behind its back. */
	if (!c->readonly && !stat(c->path, &st) && S_ISBLK(st.st_mode))
		flags |= O_EXCL;
	f->fd = open_path(c->open_opaque, c->path, flags);
	if (f->fd < 0) {
		int errnum = errno;

		if (!stat(c->path, &st) && S_ISDIR(st.st_mode))
			return err_set(err, "%s is a directory; a disk must be a regular file or a block device",
				       c->path);
		return explain_open(c, errnum, err);
	}
	/* io_uring would answer EAGAIN where it could wait. */
	if (fcntl(f->fd, F_SETFL, fcntl(f->fd, F_GETFL) & ~O_NONBLOCK))
		return err_errno(err, errno, "%s", c->path);
	return look_at(f, c, &st, err);
}

static struct aio *open_aio(enum block_aio which, struct loop *loop, struct err *err)
{
	struct aio *a;

	if (which != BLOCK_AIO_THREADS) {
		a = aio_uring.open(loop, err);
		if (a || which == BLOCK_AIO_URING)
			return a;
		log_line(LOG_INFO, "block", "%s; using a thread pool", err->msg);
	}
	return aio_threads.open(loop, err);
}

struct block_file *file_open(const struct block_config *c, struct loop *loop, struct err *err)
{
	struct block_file *f = calloc(1, sizeof(*f));

	if (!f) {
		err_errno(err, ENOMEM, "%s", c->path);
		return NULL;
	}
	f->fd = -1;
	f->readonly = c->readonly;
	f->no_discard = c->no_discard;
	f->can_punch = f->can_zero = true;
	if (open_fd(f, c, err))
		goto out;
	if (!c->no_lock) {
		if (image_lock(f->fd, c->path, c->readonly, err))
			goto out;
		f->locked = true;
	}
	f->aio = open_aio(c->aio, loop, err);
	if (!f->aio) {
		err_prefix(err, "%s", c->path);
		goto out;
	}
	return f;
out:
	file_close(f);
	return NULL;
}

void file_close(struct block_file *f)
{
	if (f->aio)
		f->aio->drv->close(f->aio);
	if (f->locked)
		image_unlock(f->fd);
	if (f->fd >= 0)
		close(f->fd);
	free(f);
}

uint64_t file_modified(const struct block_file *f)
{
	struct stat st;

	if (fstat(f->fd, &st) || !S_ISREG(st.st_mode))
		return 0;
	return (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
}

uint64_t file_size(const struct block_file *f)
{
	return f->size;
}

bool file_can_discard(const struct block_file *f)
{
	return !f->readonly && !f->no_discard;
}

const char *file_aio_name(const struct block_file *f)
{
	return f->aio->drv->name;
}

ssize_t file_read_header(struct block_file *f, void *buf, size_t len)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = pread(f->fd, (char *)buf + got, len - got, (off_t)got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (!n)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

/* --- requests --- */

/* How WRITE_ZEROES is being done; a mode that the file system refuses gives way to the next. */
enum { ZERO_PUNCH, ZERO_RANGE, ZERO_WRITE };

static void step(struct block_file *f, struct block_req *r);

static void finish(struct block_req *r, int ret)
{
	free(r->cut);
	r->cut = NULL;
	block_complete(r, ret);
}

/* The buffers that remain after r->moved bytes; NULL when out of memory. */
static const struct iovec *remaining(struct block_req *r, unsigned *n)
{
	uint64_t skip = r->moved;
	unsigned i = 0;

	if (!skip) {
		*n = r->nfrom;
		return r->from;
	}
	while (i < r->nfrom && skip >= r->from[i].iov_len)
		skip -= r->from[i++].iov_len;
	*n = r->nfrom - i;
	if (!r->cut)
		r->cut = malloc(r->nfrom * sizeof(*r->cut));
	if (!r->cut)
		return NULL;
	memcpy(r->cut, r->from + i, *n * sizeof(*r->cut));
	r->cut[0].iov_base = (char *)r->cut[0].iov_base + skip;
	r->cut[0].iov_len -= skip;
	return r->cut;
}

/* The file ended: what was not read is zero. */
static void zero_rest(struct block_req *r)
{
	uint64_t skip = r->moved;

	for (unsigned i = 0; i < r->nfrom; i++) {
		size_t len = r->from[i].iov_len;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		memset((char *)r->from[i].iov_base + skip, 0, len - skip);
		skip = 0;
	}
}

static bool mode_refused(ssize_t res)
{
	return res == -EOPNOTSUPP || res == -ENOSYS || res == -ENODEV || res == -EINVAL;
}

static void transfer_done(struct block_file *f, struct block_req *r, ssize_t res)
{
	if (res < 0) {
		finish(r, (int)res);
		return;
	}
	if (!res) {
		if (r->op != BLOCK_READ) {
			finish(r, -EIO);
			return;
		}
		zero_rest(r);
		finish(r, 0);
		return;
	}
	r->moved += (uint64_t)res;
	if (r->moved >= r->bytes)
		finish(r, 0);
	else
		step(f, r);
}

static void discard_done(struct block_file *f, struct block_req *r, ssize_t res)
{
	/* A discard is advice: where it cannot be done, the data stays. */
	if (mode_refused(res)) {
		f->can_punch = false;
		res = 0;
	}
	finish(r, (int)res);
}

static void zeroes_done(struct block_file *f, struct block_req *r, ssize_t res)
{
	if (r->fallback == ZERO_WRITE) {
		transfer_done(f, r, res);
		return;
	}
	if (!mode_refused(res)) {
		finish(r, (int)res);
		return;
	}
	if (r->fallback == ZERO_PUNCH)
		f->can_punch = false;
	else
		f->can_zero = false;
	step(f, r);
}

static void flush_done(struct block_file *f, struct block_req *r, ssize_t res)
{
	finish(r, (int)res);
}

static void on_aio_done(struct aio_op *op, ssize_t res);

static bool prepare_transfer(struct block_file *f, struct block_req *r)
{
	r->aio.kind = r->op == BLOCK_READ ? AIO_READV : AIO_WRITEV;
	r->aio.offset = r->offset + r->moved;
	r->aio.iov = remaining(r, &r->aio.niov);
	return r->aio.iov != NULL;
}

static bool prepare_flush(struct block_file *f, struct block_req *r)
{
	r->aio.kind = AIO_FDATASYNC;
	return true;
}

static void prepare_fallocate(struct block_req *r, int mode)
{
	r->aio.kind = AIO_FALLOCATE;
	r->aio.mode = mode | FALLOC_FL_KEEP_SIZE;
	r->aio.offset = r->offset;
	r->aio.len = r->bytes;
}

static bool prepare_discard(struct block_file *f, struct block_req *r)
{
	prepare_fallocate(r, FALLOC_FL_PUNCH_HOLE);
	return true;
}

static bool prepare_zeroes(struct block_file *f, struct block_req *r)
{
	uint64_t left = r->bytes - r->moved;
	unsigned n = 0;

	if (r->fallback == ZERO_PUNCH && (!f->can_punch || f->no_discard || !(r->flags & BLOCK_REQ_UNMAP)))
		r->fallback = ZERO_RANGE;
	if (r->fallback == ZERO_RANGE && !f->can_zero)
		r->fallback = ZERO_WRITE;
	if (r->fallback != ZERO_WRITE) {
		prepare_fallocate(r, r->fallback == ZERO_PUNCH ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
		return true;
	}
	/* In steps of 1 MiB, so that a request over the whole disk holds no more than that. */
	if (!r->cut)
		r->cut = malloc(ZERO_VECS * sizeof(*r->cut));
	if (!r->cut)
		return false;
	for (; left && n < ZERO_VECS; n++) {
		size_t len = left < ZERO_CHUNK ? left : ZERO_CHUNK;

		r->cut[n] = (struct iovec){ zero_chunk, len };
		left -= len;
	}
	r->aio.kind = AIO_WRITEV;
	r->aio.offset = r->offset + r->moved;
	r->aio.iov = r->cut;
	r->aio.niov = n;
	return true;
}

static const struct {
	bool (*prepare)(struct block_file *f, struct block_req *r); /* false: out of memory */
	void (*done)(struct block_file *f, struct block_req *r, ssize_t res);
} ops[] = {
	[BLOCK_READ] = { prepare_transfer, transfer_done },	[BLOCK_WRITE] = { prepare_transfer, transfer_done },
	[BLOCK_FLUSH] = { prepare_flush, flush_done },		[BLOCK_DISCARD] = { prepare_discard, discard_done },
	[BLOCK_WRITE_ZEROES] = { prepare_zeroes, zeroes_done },
};

static void on_aio_done(struct aio_op *op, ssize_t res)
{
	struct block_req *r = container_of(op, struct block_req, aio);
	struct block_file *f = r->file;

	if ((res == -EINTR || res == -EAGAIN) && r->retries < RETRIES) {
		r->retries++;
		f->aio->drv->submit(f->aio, op);
		return;
	}
	ops[r->op].done(f, r, res);
}

static void step(struct block_file *f, struct block_req *r)
{
	if (!ops[r->op].prepare(f, r)) {
		finish(r, -ENOMEM);
		return;
	}
	r->aio.fd = f->fd;
	r->aio.done = on_aio_done;
	f->aio->drv->submit(f->aio, &r->aio);
}

void file_submit(struct block_file *f, struct block_req *r)
{
	r->file = f;
	r->moved = 0;
	r->cut = NULL;
	r->fallback = 0;
	r->retries = 0;
	if (r->op == BLOCK_DISCARD && (!f->can_punch || f->no_discard)) {
		finish(r, 0);
		return;
	}
	step(f, r);
}
