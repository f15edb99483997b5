/* The space of files: making them, their length, preallocation, and where their holes are. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/file.h"
#include "block/incomplete.h"
#include "block/lock.h"

#define FULL_CHUNK (64u * 1024)
#define FULL_BEGIN (16u << 20) /* that many are handed to the disk at a time */

uint32_t file_alignment(const struct file *f)
{
	unsigned sector = 0;
	bool refused;
	void *buf;

	if (!f->regular && !ioctl(f->fd, BLKSSZGET, &sector) && is_pow2(sector))
		return sector;
	/* What a read of half a block says. */
	if (posix_memalign(&buf, 4096, 4096))
		return 4096;
	refused = pread(f->fd, (char *)buf + 512, 512, 512) < 0 && errno == EINVAL;
	free(buf);
	return refused ? 4096 : 512;
}

uint64_t file_allocated(struct node *n)
{
	struct stat st;

	return fstat(((struct file *)n->state)->fd, &st) ? 0 : (uint64_t)st.st_blocks * 512;
}

/* Write zeroes from `at` to `end`, so that they are there. */
static int write_out(int fd, uint64_t at, uint64_t end)
{
	char *zeroes = calloc(1, FULL_CHUNK);
	int ret = zeroes ? 0 : -ENOMEM;

	/* Only makes it faster: all blocks at once, and the disk busy from the beginning. */
	if (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)(end - at)))
		errno = 0;
	while (!ret && at < end) {
		size_t len = end - at < FULL_CHUNK ? (size_t)(end - at) : FULL_CHUNK;
		ssize_t n = pwrite(fd, zeroes, len, (off_t)at);

		if (n > 0) {
			at += (uint64_t)n;
			if (at % FULL_BEGIN == 0)
				sync_file_range(fd, (off_t)(at - FULL_BEGIN), FULL_BEGIN, SYNC_FILE_RANGE_WRITE);
		} else if (n == 0 || errno != EINTR)
			ret = n ? -errno : -EIO;
	}
	if (!ret && fsync(fd))
		ret = -errno;
	free(zeroes);
	return ret;
}

/* The first block of a new file is there from the start: as QEMU's, who find out by it what direct I/O needs. */
static void allocate_first(int fd, uint64_t size)
{
	static const char zeroes[4096] __attribute__((aligned(4096)));
	ssize_t ignored = pwrite(fd, zeroes, size < sizeof(zeroes) ? 512 : sizeof(zeroes), 0);

	(void)ignored;
}

static int preallocate(int fd, uint64_t from, const struct node_resize *how, struct err *err)
{
	int ret;

	switch (how->prealloc) {
	case PREALLOC_OFF:
		if (!ftruncate(fd, (off_t)how->size)) {
			if (!from && how->size)
				allocate_first(fd, how->size);
			return 0;
		}
		ret = -errno;
		err_errno(err, -ret, "Could not resize file");
		return ret;
	case PREALLOC_FALLOC:
		/* As they are: of the file that exists, only what is added. */
		ret = how->size > from ? -posix_fallocate(fd, (off_t)from, (off_t)(how->size - from)) : 0;
		if (ret)
			err_errno(err, -ret, "Could not preallocate data for the new file");
		return ret;
	case PREALLOC_FULL:
		if (ftruncate(fd, (off_t)how->size)) {
			ret = -errno;
			err_errno(err, -ret, "Could not resize file");
			return ret;
		}
		ret = write_out(fd, from, how->size);
		if (ret)
			err_errno(err, -ret, "Could not write zeros for preallocation");
		return ret;
	default:
		err_set(err, "Unsupported preallocation mode: %s", node_prealloc_names[how->prealloc]);
		return -ENOTSUP;
	}
}

int file_truncate(struct node *n, const struct node_resize *how, struct err *err)
{
	struct file *f = n->state;
	int ret;

	if (!f->regular) {
		if (how->prealloc != PREALLOC_OFF) {
			err_set(err, "Preallocation mode '%s' unsupported for this non-regular file",
				node_prealloc_names[how->prealloc]);
			return -ENOTSUP;
		}
		if (how->exact && how->size != n->size) {
			err_set(err, "Cannot resize device files");
			return -ENOTSUP;
		}
		if (how->size > n->size) {
			err_set(err, "Cannot grow device files");
			return -EINVAL;
		}
		return 0;
	}
	if (how->size < n->size && how->prealloc != PREALLOC_OFF) {
		err_set(err, "Cannot use preallocation for shrinking files");
		return -ENOTSUP;
	}
	ret = preallocate(f->fd, n->size, how, err);
	if (!ret)
		n->size = how->size;
	else if (how->size > n->size && ftruncate(f->fd, (off_t)n->size))
		return ret;
	return ret;
}

/* SEEK_DATA and SEEK_HOLE; where they are not known, all is data. */
int file_status(struct node *n, uint64_t offset, uint64_t bytes, struct node_extent *e)
{
	struct file *f = n->state;
	off_t data = lseek(f->fd, (off_t)offset, SEEK_DATA), end;

	*e = (struct node_extent){ .bytes = bytes, .allocated = true, .has_offset = true, .offset = offset, .file = n };
	if (data < 0 && errno == ENXIO) {
		e->zero = true; /* a hole up to the end */
		return 0;
	}
	if (data < 0 || (uint64_t)data < offset) {
		e->data = true;
		return 0;
	}
	if ((uint64_t)data > offset) {
		e->zero = true;
		end = data;
	} else {
		e->data = true;
		end = lseek(f->fd, (off_t)offset, SEEK_HOLE);
		if (end < 0 || (uint64_t)end <= offset)
			return 0;
	}
	if ((uint64_t)end - offset < bytes)
		e->bytes = (uint64_t)end - offset;
	return 0;
}

void node_remove_file(struct node_ctx *c, const char *filename)
{
	struct stat st;

	if (!strncmp(filename, "file:", 5))
		filename += 5;
	if (!c->open_path && !stat(filename, &st) && S_ISREG(st.st_mode))
		unlink(filename);
}

int node_create_file(struct node_ctx *c, const char *filename, struct opts *o, struct err *err)
{
	const char *prealloc = opts_take(o, "preallocation");
	struct node_resize how = { .exact = true };
	bool nocow;
	uint64_t hint;
	unsigned mode = 0;
	int fd, ret;

	if (!strncmp(filename, "file:", 5))
		filename += 5;
	if (opts_size(o, "size", 0, &how.size, err) || opts_bool(o, "nocow", false, &nocow, err) ||
	    opts_size(o, "extent_size_hint", 0, &hint, err))
		return -EINVAL;
	while (prealloc && node_prealloc_names[mode] && strcmp(prealloc, node_prealloc_names[mode]))
		mode++;
	if (!node_prealloc_names[mode])
		return err_set(err, "Parameter 'preallocation' does not accept value '%s'", prealloc);
	how.prealloc = (enum node_prealloc)mode;
	how.size = align_up(how.size, 512);
	fd = c->open_path ? c->open_path(c->open_opaque, filename, O_RDWR | O_CREAT | O_CLOEXEC)
			  : open(filename, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0) {
		ret = -errno;
		err_errno(err, -ret, "Could not create '%s'", filename);
		return ret;
	}
	ret = 0;
	/* Nobody may be using what is about to be emptied. */
	if (image_lock(fd, filename, false, err)) {
		ret = -EAGAIN;
		goto out;
	}
	incomplete_mark(c, fd, filename);
	if (ftruncate(fd, 0)) {
		ret = -errno;
		err_errno(err, -ret, "Could not resize file");
	} else {
		ret = preallocate(fd, 0, &how, err);
	}
	if (ret)
		node_remove_file(c, filename);
out:
	image_unlock(fd);
	if (close(fd) && !ret)
		ret = -errno;
	return ret;
}
