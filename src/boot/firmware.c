/*
 * Firmware images: a ROM that ends at 4 GiB, where the processor starts. The host bridge shows its end below 1 MiB,
 * too.
 */
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "boot/boot.h"

#define UNIT  0x1000u
#define LEAST 0x10000u
#define MOST  (8u << 20)

int boot_firmware_find(const char *name, struct boot_firmware *f, struct err *err)
{
	static const struct {
		const char *name, *package;
		struct boot_firmware files;
	} known[] = {
		{ "bios", "seabios", { .code = "/usr/share/seabios/bios-256k.bin" } },
		{ "uefi",
		  "ovmf",
		  { .code = "/usr/share/OVMF/OVMF_CODE_4M.fd", .vars = "/usr/share/OVMF/OVMF_VARS_4M.fd" } },
	};

	*f = (struct boot_firmware){ .code = name };
	for (size_t n = 0; n < ARRAY_LEN(known); n++) {
		if (strcmp(name, known[n].name))
			continue;
		*f = known[n].files;
		if (access(f->code, R_OK) || (f->vars && access(f->vars, R_OK)))
			return err_set(err, "firmware: %s is %s, which cannot be read: install the package %s", name,
				       f->code, known[n].package);
	}
	return 0;
}

static int size_of(const char *what, const char *path, uint64_t least, uint64_t *size, struct err *err)
{
	struct boot_image i;

	if (boot_image_open(&i, what, path, err))
		return -1;
	boot_image_close(&i);
	*size = i.size;
	return i.size % UNIT || i.size < least || i.size > MOST
		       ? err_set(err, "%s: %s has %llu bytes, which is not a multiple of 4 KiB from %u KiB to 8 MiB",
				 what, path, (unsigned long long)i.size, (unsigned)least / 1024)
		       : 0;
}

int boot_firmware_slot(struct boot_firmware *f, struct mem_slot_config *slot, struct err *err)
{
	if (size_of("firmware", f->code, LEAST, &f->code_size, err) ||
	    (f->vars && size_of("firmware.vars", f->vars, UNIT, &f->vars_size, err)))
		return -1;
	*slot = (struct mem_slot_config){
		.name = "firmware",
		.base = gpa((1ull << 32) - f->code_size - f->vars_size),
		.size = f->code_size + f->vars_size,
		.fd = -1,
		.readonly = true,
	};
	return 0;
}

static int load(struct mem_space *mem, const char *what, const char *path, uint64_t base, uint64_t size,
		struct err *err)
{
	struct boot_image i;
	uint8_t piece[UNIT];
	int rc = 0;

	if (boot_image_open(&i, what, path, err))
		return -1;
	if (i.size != size)
		rc = err_set(err, "%s: %s has changed", what, path);
	for (uint64_t at = 0; at < size && !rc; at += UNIT) {
		rc = boot_image_read(&i, at, piece, UNIT, err);
		if (!rc && !mem_load_rom(mem, gpa(base + at), piece, UNIT))
			rc = err_set(err, "%s: there is no ROM for %s", what, path);
	}
	boot_image_close(&i);
	return rc;
}

int boot_load_firmware(struct mem_space *mem, const struct boot_firmware *f, struct err *err)
{
	return load(mem, "firmware", f->code, (1ull << 32) - f->code_size, f->code_size, err);
}

int boot_load_vars(struct mem_space *mem, const struct boot_firmware *f, const char *path, struct err *err)
{
	return load(mem, "firmware.vars", path, (1ull << 32) - f->code_size - f->vars_size, f->vars_size, err);
}
