/* See tamper.h. */
#include "tamper.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"

void template_take(struct template *t, int fd)
{
	t->len = (size_t)lseek(fd, 0, SEEK_END);
	t->bytes = malloc(t->len);
	if (!t->bytes || pread(fd, t->bytes, t->len, 0) != (ssize_t)t->len)
		abort();
	close(fd);
}

int template_tampered(const struct template *t, uint64_t base, const uint8_t *data, size_t size)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	if (fd < 0 || pwrite(fd, t->bytes, t->len, 0) != (ssize_t)t->len)
		abort();
	while (size >= 3) {
		size_t len = data[2];
		uint64_t at = ld_le16(data);

		if (base && at & 0x8000)
			at = base + (at & 0x7fff);
		if (len > size - 3)
			len = size - 3;
		if (pwrite(fd, data + 3, len, (off_t)at) < 0)
			abort();
		data += 3 + len;
		size -= 3 + len;
	}
	return fd;
}
