/* The files of a boot. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "boot/boot.h"

/* Up to `len` bytes from `off`: how many there were, or -1. */
static ssize_t read_at(const struct boot_image *i, uint64_t off, void *buf, size_t len, struct err *err)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = pread(i->fd, (uint8_t *)buf + got, len - got, (off_t)(off + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, errno, "%s: %s", i->what, i->path);
		if (!n)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

int boot_image_open(struct boot_image *i, const char *what, const char *path, struct err *err)
{
	struct stat st;

	*i = (struct boot_image){ .what = what, .path = path };
	/* Without waiting for the other end of a FIFO. */
	i->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (i->fd < 0)
		return err_errno(err, errno, "%s: %s", what, path);
	if (fstat(i->fd, &st))
		err_errno(err, errno, "%s: %s", what, path);
	else if (!S_ISREG(st.st_mode))
		err_set(err, "%s: %s is not a regular file", what, path);
	else if (!st.st_size)
		err_set(err, "%s: %s is empty", what, path);
	else if (read_at(i, 0, i->head, sizeof(i->head), err) >= 0) {
		i->size = (uint64_t)st.st_size;
		return 0;
	}
	boot_image_close(i);
	return -1;
}

void boot_image_close(struct boot_image *i)
{
	close(i->fd);
	i->fd = -1;
}

int boot_image_read(const struct boot_image *i, uint64_t off, void *buf, size_t len, struct err *err)
{
	ssize_t n = range_within(off, len, i->size) ? read_at(i, off, buf, len, err) : 0;

	if (n < 0)
		return -1;
	return (size_t)n == len ? 0 : err_set(err, "%s: %s is truncated", i->what, i->path);
}

int boot_image_load(const struct boot_config *c, const struct boot_image *i, struct boot_piece p, struct err *err)
{
	struct mem_map m;
	int rc;

	if (!p.len)
		return 0;
	if (!range_within(p.off, p.len, i->size))
		return err_set(err, "%s: %s is truncated", i->what, i->path);
	if (!range_within(p.at, p.len, c->ram_low) || !mem_dma_map(c->mem, gpa(p.at), p.len, MEM_FROM_DEVICE, &m))
		return err_set(
			err,
			"%s: %s: %#llx bytes at %#llx are outside of the guest's memory: give it more with --memory",
			i->what, i->path, (unsigned long long)p.len, (unsigned long long)p.at);
	rc = boot_image_read(i, p.off, m.host, p.len, err);
	mem_dma_unmap(&m, p.len);
	return rc;
}
