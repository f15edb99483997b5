/* boot/multiboot.c: headers, addresses, modules and the information that the kernel gets. */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "images.h"
#include "rig.h"

static void start(struct boot_rig *r, struct image *k)
{
	boot_rig_init(r, 64 * MIB);
	image_multiboot(k);
}

static void load(struct boot_rig *r, struct image *k)
{
	boot_rig_kernel(r, k->b, k->len);
	boot_rig_load(r);
}

static void refuse(struct boot_rig *r, struct image *k, const char *says)
{
	boot_rig_kernel(r, k->b, k->len);
	boot_rig_refuse(r, says);
}

static void addresses_in_the_header_are_used(void **state)
{
	struct boot_rig r;
	struct image k;

	start(&r, &k);
	mem_fill(r.c.mem, gpa(0), 0xff, 64 * MIB);
	load(&r, &k);
	assert_int_equal(r.e.kind, BOOT_FLAT32);
	assert_int_equal(r.e.eax, 0x2badb002);
	assert_int_equal(r.e.rip, MIB + 0x100);
	assert_memory_equal(boot_rig_at(&r, MIB, MB_SIZE - 0x20), k.b + 0x20, MB_SIZE - 0x20);
	assert_int_equal(*boot_rig_at(&r, MIB + MB_SIZE - 0x20, 1), 0);
	assert_int_equal(*boot_rig_at(&r, MIB + 0xffff, 1), 0);
	assert_int_equal(*boot_rig_at(&r, MIB + 0x10000, 1), 0xff);
	/* No end: the whole file, and no bss. */
	st_le32(k.b + MB_AT + 20, 0);
	st_le32(k.b + MB_AT + 24, 0);
	load(&r, &k);
	assert_memory_equal(boot_rig_at(&r, MIB, MB_SIZE - 0x20), k.b + 0x20, MB_SIZE - 0x20);
	boot_rig_free(&r);
}

static void the_information_describes_the_machine(void **state)
{
	struct boot_rig r;
	struct image k;
	const uint8_t *info, *map;
	char want[64];

	start(&r, &k);
	r.c.append = "one two";
	r.c.ram_high = 16 * MIB;
	load(&r, &k);
	info = boot_rig_at(&r, r.e.ebx, 88);
	assert_int_equal(ld_le32(info), 0x24d);
	assert_int_equal(ld_le32(info + 4), 639);
	assert_int_equal(ld_le32(info + 8), 63 * 1024);
	snprintf(want, sizeof(want), "%s one two", r.kernel_path);
	assert_string_equal((const char *)boot_rig_at(&r, ld_le32(info + 16), 64), want);
	assert_int_equal(ld_le32(info + 20), 0);
	assert_string_equal((const char *)boot_rig_at(&r, ld_le32(info + 64), 6), "vireo");
	assert_int_equal(ld_le32(info + 44), 4 * 24);
	map = boot_rig_at(&r, ld_le32(info + 48), 4 * 24);
	assert_int_equal(ld_le32(map), 20);
	assert_int_equal(ld_le64(map + 48 + 4), MIB);
	assert_int_equal(ld_le64(map + 48 + 12), 63 * MIB);
	assert_int_equal(ld_le32(map + 48 + 20), 1);
	assert_int_equal(ld_le64(map + 72 + 4), 1ull << 32);
	r.c.append = NULL;
	load(&r, &k);
	assert_string_equal((const char *)boot_rig_at(&r, ld_le32(info + 16), 64), r.kernel_path);
	boot_rig_free(&r);
}

static int file_of(const char *text)
{
	int fd = memfd_create("module", 0);

	assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	return fd;
}

static void modules_have_command_lines(void **state)
{
	struct boot_rig r;
	struct image k;
	int a = file_of("first"), b = file_of("the second");
	char text[128], want[64];
	const uint8_t *info, *m;

	start(&r, &k);
	snprintf(text, sizeof(text), "/proc/self/fd/%d x=1,,2 y,/proc/self/fd/%d", a, b);
	r.c.initrd = text;
	load(&r, &k);
	info = boot_rig_at(&r, r.e.ebx, 88);
	assert_int_equal(ld_le32(info + 20), 2);
	m = boot_rig_at(&r, ld_le32(info + 24), 32);
	assert_int_equal(ld_le32(m) % 4096, 0);
	assert_int_equal(ld_le32(m + 4) - ld_le32(m), 5);
	assert_memory_equal(boot_rig_at(&r, ld_le32(m), 5), "first", 5);
	snprintf(want, sizeof(want), "/proc/self/fd/%d x=1,2 y", a);
	assert_string_equal((const char *)boot_rig_at(&r, ld_le32(m + 8), 64), want);
	assert_memory_equal(boot_rig_at(&r, ld_le32(m + 16), 10), "the second", 10);
	assert_true(ld_le32(m + 20) <= ld_le32(m));
	snprintf(want, sizeof(want), "/proc/self/fd/%d", b);
	assert_string_equal((const char *)boot_rig_at(&r, ld_le32(m + 24), 64), want);

	r.c.initrd = "/no/such/module arg";
	boot_rig_refuse(&r, "initrd: /no/such/module: No such file");
	r.c.initrd = ",";
	boot_rig_refuse(&r, "initrd: ");
	close(a);
	close(b);
	boot_rig_free(&r);
}

static void too_many_modules_are_refused(void **state)
{
	struct boot_rig r;
	struct image k;
	int fd = file_of("m");
	char text[65 * 32], *at = text;
	char *huge = malloc(0x20001);

	start(&r, &k);
	for (unsigned n = 0; n < 65; n++)
		at += sprintf(at, "%s/proc/self/fd/%d", n ? "," : "", fd);
	r.c.initrd = text;
	refuse(&r, &k, "more than 64");
	*strrchr(text, ',') = 0;
	load(&r, &k);
	assert_non_null(huge);
	memset(huge, 'x', 0x20000);
	huge[0x20000] = 0;
	r.c.initrd = huge;
	refuse(&r, &k, "more than");
	free(huge);
	close(fd);
	boot_rig_free(&r);
}

static void elf_kernels_need_no_addresses(void **state)
{
	struct boot_rig r;
	struct image k;

	start(&r, &k);
	image_multiboot_flags(&k, 0);
	refuse(&r, &k, "must be an x86 ELF");
	image_multiboot_elf(&k);
	load(&r, &k);
	assert_int_equal(r.e.rip, 4 * MIB);
	assert_memory_equal(boot_rig_at(&r, 4 * MIB, 0x1000), k.b, 0x1000);
	((Elf32_Ehdr *)k.b)->e_entry = 5 * MIB;
	refuse(&r, &k, "entry point");
	boot_rig_free(&r);
}

static void truncated_kernels_are_refused(void **state)
{
	struct boot_rig r;
	struct image k;

	start(&r, &k);
	boot_rig_truncations(&r, k.b, k.len);
	boot_rig_free(&r);
}

static void odd_headers_are_refused(void **state)
{
	struct boot_rig r;
	struct image k;

	start(&r, &k);
	image_multiboot_flags(&k, 1u << 16 | 4);
	refuse(&r, &k, "features 0x4");
	image_multiboot(&k);
	st_le32(k.b + MB_AT + 8, 0);
	refuse(&r, &k, "not a kernel");
	image_multiboot(&k);
	st_le32(k.b + MB_AT + 16, 0x1000);
	refuse(&r, &k, "make no sense");
	image_multiboot(&k);
	st_le32(k.b + MB_AT + 12, MIB + MB_AT + 4);
	refuse(&r, &k, "make no sense");
	image_multiboot(&k);
	st_le32(k.b + MB_AT + 20, MIB - 1);
	refuse(&r, &k, "make no sense");
	image_multiboot(&k);
	st_le32(k.b + MB_AT + 20, MIB + MB_SIZE);
	refuse(&r, &k, "truncated");
	image_multiboot(&k);
	st_le32(k.b + MB_AT + 24, 0xffffffff);
	refuse(&r, &k, "needs 4096 MiB");
	image_multiboot(&k);
	st_le32(k.b + MB_AT + 28, 2 * MIB);
	refuse(&r, &k, "entry point");
	image_multiboot(&k);
	st_le32(k.b + MB_AT + 12, 0xfffffff0);
	st_le32(k.b + MB_AT + 16, 0xfffffff0 - MB_AT);
	st_le32(k.b + MB_AT + 20, 0);
	st_le32(k.b + MB_AT + 28, 0xfffffff0);
	refuse(&r, &k, "outside of the guest's memory");
	boot_rig_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_in_the_header_are_used),
		cmocka_unit_test(the_information_describes_the_machine),
		cmocka_unit_test(modules_have_command_lines),
		cmocka_unit_test(too_many_modules_are_refused),
		cmocka_unit_test(elf_kernels_need_no_addresses),
		cmocka_unit_test(truncated_kernels_are_refused),
		cmocka_unit_test(odd_headers_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
