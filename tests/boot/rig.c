/* See rig.h. */
#include "rig.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

void boot_rig_init(struct boot_rig *r, uint64_t ram)
{
	struct mem_slot_config slot = { .name = "ram", .size = ram, .fd = -1 };

	memset(r, 0, sizeof(*r));
	r->c.mem = mem_space_new();
	assert_non_null(r->c.mem);
	assert_int_equal(mem_add_slot(r->c.mem, &slot, &r->err), 0);
	r->c.ram_low = ram;
	r->kernel_fd = memfd_create("kernel", 0);
	r->initrd_fd = memfd_create("initrd", 0);
	assert_true(r->kernel_fd >= 0 && r->initrd_fd >= 0);
	snprintf(r->kernel_path, sizeof(r->kernel_path), "/proc/self/fd/%d", r->kernel_fd);
	snprintf(r->initrd_path, sizeof(r->initrd_path), "/proc/self/fd/%d", r->initrd_fd);
	r->c.kernel = r->kernel_path;
}

void boot_rig_free(struct boot_rig *r)
{
	initrd_check_free(r->e.unsure);
	mem_space_free(r->c.mem);
	close(r->kernel_fd);
	close(r->initrd_fd);
}

static void put(int fd, const void *data, size_t len)
{
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(pwrite(fd, data, len, 0), len);
}

void boot_rig_kernel(struct boot_rig *r, const void *data, size_t len)
{
	put(r->kernel_fd, data, len);
}

void boot_rig_initrd(struct boot_rig *r, const void *data, size_t len)
{
	put(r->initrd_fd, data, len);
	r->c.initrd = r->initrd_path;
}

void boot_rig_load(struct boot_rig *r)
{
	initrd_check_free(r->e.unsure);
	if (boot_load(&r->c, &r->e, &r->err))
		fail_msg("%s", r->err.msg);
}

void boot_rig_refuse(struct boot_rig *r, const char *says)
{
	struct boot_entry e;

	memset(&r->err, 0, sizeof(r->err));
	if (!boot_load(&r->c, &e, &r->err))
		fail_msg("taken, though it should say: %s", says);
	if (!strstr(r->err.msg, says) || strchr(r->err.msg, '\n'))
		fail_msg("'%s' does not say '%s'", r->err.msg, says);
	assert_null(e.unsure);
}

const uint8_t *boot_rig_at(struct boot_rig *r, uint64_t at, size_t len)
{
	struct mem_map m;

	assert_true(mem_dma_map(r->c.mem, gpa(at), len, MEM_TO_DEVICE, &m));
	return m.host;
}

void boot_rig_truncations(struct boot_rig *r, const void *data, size_t lengths)
{
	for (size_t len = 0; len < lengths; len++) {
		boot_rig_kernel(r, data, len);
		boot_rig_refuse(r, r->kernel_path);
	}
}
