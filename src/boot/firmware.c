/*
 * Firmware images: a ROM that ends at 4 GiB, where the processor starts, and a copy of its last 128 KiB below 1 MiB,
 * where chip sets shadow it.
 */
#include "base/bytes.h"
#include "boot/boot.h"

#define UNIT   0x10000u
#define SHADOW 0x20000u
#define MOST   (8u << 20)

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
	uint64_t shadow, top = 1ull << 32;
	int rc = 0;

	if (boot_image_open(&i, "firmware", path, err))
		return -1;
	shadow = i.size < SHADOW ? i.size : SHADOW;
	for (uint64_t at = 0; at < i.size && !rc; at += UNIT) {
		uint64_t below = i.size - at; /* from here to the end */

		rc = boot_image_read(&i, at, piece, UNIT, err);
		if (!rc && !mem_load_rom(mem, gpa(top - below), piece, UNIT))
			rc = err_set(err, "firmware: %s has grown", path);
		if (!rc && below <= shadow)
			mem_load_rom(mem, gpa(BOOT_HIGH - below), piece, UNIT);
	}
	boot_image_close(&i);
	return rc;
}
