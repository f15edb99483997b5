/* The kernel loaders: a file of any content, with the first bytes steered towards each format. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "boot/boot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct mem_space *mem;
	static int fd;
	static char path[32];
	struct mem_slot_config ram = { .name = "ram", .size = 32 << 20, .fd = -1 };
	struct boot_entry e;
	struct err err;
	uint8_t b[4096];

	if (!mem) {
		mem = mem_space_new();
		fd = memfd_create("kernel", 0);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (mem_add_slot(mem, &ram, &err))
			abort();
	}
	if (size < 1 || size > sizeof(b))
		return 0;
	memcpy(b, data, size);
	if (data[0] % 3 == 0 && size > 0x290) {
		memcpy(b + 0x202, "HdrS", 4);
		st_le16(b + 0x1fe, 0xaa55);
	} else if (data[0] % 3 == 1 && size > 64) {
		memcpy(b,
		       "\x7f"
		       "ELF\2\1\1",
		       7);
		st_le16(b + 18, 62);
	} else if (size > 16) {
		st_le32(b, 0x1badb002);
		st_le32(b + 8, -(0x1badb002u + ld_le32(b + 4)));
	}
	if (ftruncate(fd, 0) || pwrite(fd, b, size, 0) != (ssize_t)size)
		abort();
	boot_load(
		&(struct boot_config){
			.mem = mem, .ram_low = 32 << 20, .kernel = path, .initrd = path, .append = "console=ttyS0" },
		&e, &err);
	return 0;
}
