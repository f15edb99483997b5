/* Which loader a kernel file needs, and what the loaders share. */
#include "boot/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"

/* A kernel or initrd file must at least fit into the guest's memory. */
static int read_file(const char *what, const char *path, uint64_t max, struct boot_image *i, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = -1;
	struct stat st;
	size_t got = 0;

	*i = (struct boot_image){ .path = path };
	if (fd < 0)
		return err_errno(err, errno, "%s: %s", what, path);
	if (fstat(fd, &st)) {
		err_errno(err, errno, "%s: %s", what, path);
		goto out;
	}
	if (!S_ISREG(st.st_mode)) {
		err_set(err, "%s: %s is not a regular file", what, path);
		goto out;
	}
	if (st.st_size == 0 || (uint64_t)st.st_size > max) {
		err_set(err, "%s: %s %s", what, path, st.st_size ? "does not fit into the guest's memory" : "is empty");
		goto out;
	}
	i->data = malloc((size_t)st.st_size);
	if (!i->data) {
		err_set(err, "%s: %s: out of memory", what, path);
		goto out;
	}
	while (got < (size_t)st.st_size) {
		ssize_t n = read(fd, i->data + got, (size_t)st.st_size - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			err_errno(err, n ? errno : EIO, "%s: %s", what, path);
			free(i->data);
			goto out;
		}
		got += (size_t)n;
	}
	i->size = got;
	rc = 0;
out:
	close(fd);
	return rc;
}

int boot_copy(const struct boot_config *c, uint64_t at, const void *data, size_t len, const char *what, struct err *err)
{
	if (!mem_write(c->mem, gpa(at), data, len))
		return err_set(
			err, "%s: %s does not fit into the guest's memory at %#llx: give the guest more with --memory",
			c->kernel, what, (unsigned long long)at);
	return 0;
}

int boot_load_initrd(const struct boot_config *c, uint64_t floor, uint64_t limit, uint64_t *at, uint64_t *size,
		     struct err *err)
{
	struct boot_image i;
	int rc = -1;

	*at = *size = 0;
	if (!c->initrd)
		return 0;
	if (limit > c->ram_low)
		limit = c->ram_low;
	if (read_file("initrd", c->initrd, c->ram_low, &i, err))
		return -1;
	if (i.size > limit || align_down(limit - i.size, MEM_PAGE_SIZE) < align_up(floor, MEM_PAGE_SIZE)) {
		err_set(err, "initrd: %s (%zu MiB) does not fit beside the kernel: give the guest more with --memory",
			c->initrd, i.size >> 20);
	} else {
		*at = align_down(limit - i.size, MEM_PAGE_SIZE);
		*size = i.size;
		rc = boot_copy(c, *at, i.data, i.size, "the initrd", err);
	}
	free(i.data);
	return rc;
}

int boot_put_cmdline(const struct boot_config *c, struct err *err)
{
	const char *text = c->append ? c->append : "";

	if (strlen(text) >= BOOT_CMDLINE_MAX)
		return err_set(err, "append: the command line is longer than %d bytes", BOOT_CMDLINE_MAX - 1);
	return boot_copy(c, BOOT_CMDLINE, text, strlen(text) + 1, "the command line", err);
}

unsigned boot_memory_map(const struct boot_config *c, struct boot_range *r)
{
	unsigned n = 0;

	r[n++] = (struct boot_range){ 0, BOOT_EBDA, 1 };
	r[n++] = (struct boot_range){ BOOT_EBDA, BOOT_HIGH - BOOT_EBDA, 2 };
	r[n++] = (struct boot_range){ BOOT_HIGH, c->ram_low - BOOT_HIGH, 1 };
	if (c->ram_high)
		r[n++] = (struct boot_range){ 1ull << 32, c->ram_high, 1 };
	return n;
}

/* The tables that the 64-bit entry needs, and the GDT of all entries. */
static int put_tables(const struct boot_config *c, struct err *err)
{
	static const uint64_t gdt64[] = { 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff };
	uint64_t table[512] = { [0] = htole64((BOOT_PAGE_TABLES + 0x1000) | 3) };

	if (boot_copy(c, BOOT_GDT, gdt64, sizeof(gdt64), "the GDT", err) ||
	    boot_copy(c, BOOT_PAGE_TABLES, table, sizeof(table), "the page tables", err))
		return -1;
	memset(table, 0, sizeof(table));
	for (unsigned k = 0; k < 4; k++)
		table[k] = htole64((BOOT_PAGE_TABLES + 0x2000 + 0x1000 * k) | 3);
	if (boot_copy(c, BOOT_PAGE_TABLES + 0x1000, table, sizeof(table), "the page tables", err))
		return -1;
	for (unsigned k = 0; k < 4; k++) {
		for (unsigned n = 0; n < 512; n++)
			table[n] = htole64((uint64_t)(k * 512 + n) << 21 | 0x83);
		if (boot_copy(c, BOOT_PAGE_TABLES + 0x2000 + 0x1000 * k, table, sizeof(table), "the page tables", err))
			return -1;
	}
	return 0;
}

int boot_load(const struct boot_config *c, struct boot_entry *e, struct err *err)
{
	static const struct {
		bool (*is)(const struct boot_image *i);
		int (*load)(const struct boot_config *c, const struct boot_image *i, struct boot_entry *e,
			    struct err *err);
	} loaders[] = {
		{ boot_is_bzimage, boot_load_bzimage },
		{ boot_is_multiboot, boot_load_multiboot },
		{ boot_is_elf, boot_load_elf },
	};
	struct boot_image i;
	int rc = -1;

	if (c->ram_low < 8 << 20)
		return err_set(err, "memory: a kernel needs at least 8 MiB");
	if (read_file("kernel", c->kernel, c->ram_low, &i, err))
		return -1;
	for (unsigned n = 0; n < ARRAY_LEN(loaders); n++) {
		if (!loaders[n].is(&i))
			continue;
		memset(e, 0, sizeof(*e));
		rc = boot_put_cmdline(c, err) || put_tables(c, err) || loaders[n].load(c, &i, e, err) ? -1 : 0;
		goto out;
	}
	err_set(err, "kernel: %s is not a kernel (bzImage, x86-64 ELF or multiboot)", c->kernel);
out:
	free(i.data);
	return rc;
}
