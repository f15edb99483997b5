/*
 * Firmware images: a ROM that ends at 4 GiB, where the processor starts. The host bridge shows its end below 1 MiB,
 * too.
 */
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "boot/boot.h"

#define UNIT 0x10000u
#define MOST (8u << 20)

int boot_firmware_find(const char *name, const char **path, struct err *err)
{
	static const struct {
		const char *name, *path, *package;
	} known[] = {
		{ "bios", "/usr/share/seabios/bios-256k.bin", "seabios" },
	};

	*path = name;
	for (size_t n = 0; n < ARRAY_LEN(known); n++) {
		if (strcmp(name, known[n].name))
			continue;
		*path = known[n].path;
		if (access(*path, R_OK))
			return err_set(err, "firmware: %s is %s, which cannot be read: install the package %s", name,
				       *path, known[n].package);
	}
	return 0;
}

int boot_firmware_slot(const char *path, struct mem_slot_config *slot, struct err *err)
{
	struct boot_image i;

	if (boot_image_open(&i, "firmware", path, err))
		return -1;
	boot_image_close(&i);
	if (i.size % UNIT || i.size > MOST)
		return err_set(err, "firmware: %s has %llu bytes, which is not a multiple of 64 KiB up to 8 MiB", path,
			       (unsigned long long)i.size);
	*slot = (struct mem_slot_config){
		.name = "firmware",
		.base = gpa((1ull << 32) - i.size),
		.size = i.size,
		.fd = -1,
		.readonly = true,
	};
	return 0;
}

int boot_load_firmware(struct mem_space *mem, const char *path, struct err *err)
{
	struct boot_image i;
	uint8_t piece[UNIT];
	int rc = 0;

	if (boot_image_open(&i, "firmware", path, err))
		return -1;
	for (uint64_t at = 0; at < i.size && !rc; at += UNIT) {
		rc = boot_image_read(&i, at, piece, UNIT, err);
		if (!rc && !mem_load_rom(mem, gpa((1ull << 32) - i.size + at), piece, UNIT))
			rc = err_set(err, "firmware: %s has grown", path);
	}
	boot_image_close(&i);
	return rc;
}
