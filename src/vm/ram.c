/*
 * The guest's memory, and what is behind it: anonymous memory, or what another process can have a share in, a memfd or
 * a file. Main thread, before there is an engine.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/huge.h"
#include "vm/impl.h"

#define MIB	(1ull << 20)
#define RAM_MIN (8 * MIB)
#define RAM_MAX (1024 * 1024 * MIB)

enum backing { ANONYMOUS, MEMFD, BACKING_FILE };

/* A file without a name in a directory, as on a huge-page file system. */
static int open_in_directory(const char *path)
{
	char name[PATH_MAX];
	int fd;

	if (snprintf(name, sizeof(name), "%s/vireo-memory.XXXXXX", path) >= (int)sizeof(name)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = mkostemp(name, O_CLOEXEC);
	if (fd >= 0)
		unlink(name);
	return fd;
}

/* "memory.path": a file, which is made if it is not there, and becomes as long as the memory if it is shorter. */
static int open_file(const char *path, bool share, uint64_t size, struct err *err)
{
	struct stat st;
	int fd = !stat(path, &st) && S_ISDIR(st.st_mode) ? open_in_directory(path)
							 : open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644);

	/* What is not written to may be read only. */
	if (fd < 0 && !share && (errno == EACCES || errno == EROFS))
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st))
		err_errno(err, errno, "memory.path: %s", path);
	else if (!S_ISREG(st.st_mode))
		err_set(err, "memory.path: %s is neither a regular file nor a directory", path);
	else if ((uint64_t)st.st_size < size && ftruncate(fd, (off_t)size))
		err_errno(err, errno, "memory.path: making %s as long as the memory", path);
	else
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static int open_memfd(uint64_t size, bool huge, struct err *err)
{
	int fd = memfd_create("vireo-memory",
			      MFD_CLOEXEC | MFD_ALLOW_SEALING | (huge ? MFD_HUGETLB | 21u << MFD_HUGE_SHIFT : 0));

	/* Nobody who has it may make it shorter under the guest's feet. */
	if (fd >= 0 && !ftruncate(fd, (off_t)size) &&
	    !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return fd;
	err_errno(err, errno, huge ? "memory.hugetlb: a memfd of huge pages" : "memory.backing: memfd");
	if (fd >= 0)
		close(fd);
	return -1;
}

/* Huge pages that a file system or a memfd consists of; others are left alone. */
static int look_at_pages(int fd, uint64_t size, struct mem_slot_config *slot, struct err *err)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) || fs.f_type != HUGETLBFS_MAGIC)
		return 0;
	slot->hugetlb = true;
	if (fs.f_bsize != HUGE_PAGE)
		return err_set(err, "memory: huge pages of %llu MiB are not there, only of 2 MiB",
			       (unsigned long long)fs.f_bsize / MIB);
	return size % HUGE_PAGE ? err_set(err, "memory: on huge pages it is a multiple of 2 MiB") : 0;
}

/* The file behind it, or -1 in *fd. */
static int open_backing(struct vm *vm, uint64_t size, struct mem_slot_config *slot, struct err *err)
{
	static const char *const backings[] = { "anonymous", "memfd", "file", NULL };
	const char *path;
	bool share, huge;
	int backing;

	if (config_choice(vm->config, "memory.backing", ANONYMOUS, backings, &backing, err) ||
	    config_str(vm->config, "memory.path", NULL, &path, err) ||
	    config_bool(vm->config, "memory.share", backing == MEMFD, &share, err) ||
	    config_bool(vm->config, "memory.hugetlb", false, &huge, err) ||
	    config_bool(vm->config, "memory.prealloc", false, &slot->prealloc, err))
		return -1;
	if (huge && backing != MEMFD)
		return err_set(err,
			       "memory.hugetlb: it goes with memory.backing=memfd; of a file, its file system says it");
	if (huge && size % HUGE_PAGE)
		return err_set(err, "memory: on huge pages it is a multiple of 2 MiB");
	if (!path != (backing != BACKING_FILE))
		return err_set(err, "memory.path: it goes with memory.backing=file, and that with it");
	if (backing == ANONYMOUS)
		return share ? err_set(err, "memory.share: what is anonymous has no others; memory.backing=memfd has")
			     : 0;
	slot->backing = MEM_FILE;
	slot->shared = share;
	slot->fd = backing == MEMFD ? open_memfd(size, huge, err) : open_file(path, share, size, err);
	return slot->fd < 0 || look_at_pages(slot->fd, size, slot, err) ? -1 : 0;
}

int vm_add_ram(struct vm *vm, struct err *err)
{
	struct mem_slot_config slot = { .fd = -1 };
	uint64_t size;
	int rc;

	if (config_size(vm->config, "memory", 512 * MIB, MIB, &size, err))
		return -1;
	if (size < RAM_MIN || size > RAM_MAX)
		return err_set(err, "memory: '%s' is not between 8M and 1T", config_peek(vm->config, "memory"));
	size = align_up(size, MEM_PAGE_SIZE); /* 1.3G */
	if (open_backing(vm, size, &slot, err)) {
		if (slot.fd >= 0)
			close(slot.fd);
		return -1;
	}
	vm->ram_low = size < VM_LOW_MAX ? size : VM_LOW_MAX;
	vm->ram_high = size - vm->ram_low;
	slot.name = "ram-low";
	slot.size = vm->ram_low;
	rc = mem_add_slot(vm->mem, &slot, err);
	if (!rc && vm->ram_high) {
		slot.name = "ram-high";
		slot.base = gpa(1ull << 32);
		slot.size = vm->ram_high;
		slot.fd_offset = vm->ram_low;
		rc = mem_add_slot(vm->mem, &slot, err);
	}
	if (slot.fd >= 0)
		close(slot.fd);
	if (rc && slot.hugetlb)
		return err_prefix(err, "memory: the host has not as many free huge pages (vm.nr_hugepages)");
	return rc ? err_prefix(err, "memory") : 0;
}
