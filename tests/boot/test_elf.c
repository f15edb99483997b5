/* boot/elf.c: vmlinux by its 64-bit entry and by PVH. */
#include "images.h"
#include "rig.h"

static void start(struct boot_rig *r, struct image *k)
{
	boot_rig_init(r, 64 * MIB);
	image_elf64(k);
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

static void segments_go_to_their_physical_addresses(void **state)
{
	struct boot_rig r;
	struct image k;
	const uint8_t *zp;

	start(&r, &k);
	r.c.append = "quiet";
	mem_fill(r.c.mem, gpa(0), 0xff, 64 * MIB);
	load(&r, &k);
	assert_int_equal(r.e.kind, BOOT_LONG64);
	assert_int_equal(r.e.rip, 16 * MIB + 0x10);
	assert_int_equal(r.e.esi, BOOT_ZERO_PAGE);
	assert_memory_equal(boot_rig_at(&r, 16 * MIB, 0x1000), k.b + ELF_TEXT, 0x1000);
	assert_memory_equal(boot_rig_at(&r, 18 * MIB, 0x800), k.b + ELF_DATA, 0x800);
	/* The rest of the data segment is cleared, and nothing else. */
	for (uint64_t at = 18 * MIB + 0x800; at < 20 * MIB; at += 0x400)
		assert_int_equal(*boot_rig_at(&r, at, 1), 0);
	assert_int_equal(*boot_rig_at(&r, 20 * MIB - 1, 1), 0);
	assert_int_equal(*boot_rig_at(&r, 20 * MIB, 1), 0xff);
	assert_int_equal(*boot_rig_at(&r, 16 * MIB + 0x1000, 1), 0xff);
	zp = boot_rig_at(&r, BOOT_ZERO_PAGE, 4096);
	assert_memory_equal(zp + 0x202, "HdrS", 4);
	assert_int_equal(zp[0x210], 0xff);
	assert_string_equal((const char *)boot_rig_at(&r, ld_le32(zp + 0x228), 32), "quiet");
	boot_rig_free(&r);
}

static void the_pvh_entry_is_preferred(void **state)
{
	struct boot_rig r;
	struct image k;
	const uint8_t *info, *map;

	start(&r, &k);
	image_elf64_note(&k, 16 * MIB + 0x40);
	r.c.append = "console=ttyS0";
	r.c.ram_high = 8 * MIB;
	boot_rig_initrd(&r, "not an archive", 14);
	load(&r, &k);
	assert_int_equal(r.e.kind, BOOT_FLAT32);
	assert_int_equal(r.e.rip, 16 * MIB + 0x40);
	info = boot_rig_at(&r, r.e.ebx, 56);
	assert_int_equal(ld_le32(info), 0x336ec578);
	assert_int_equal(ld_le32(info + 4), 1);
	assert_int_equal(ld_le32(info + 12), 1);
	assert_string_equal((const char *)boot_rig_at(&r, ld_le64(info + 24), 32), "console=ttyS0");
	assert_int_equal(ld_le64(info + 32), BOOT_RSDP);
	map = boot_rig_at(&r, ld_le64(info + 16), 32);
	assert_int_equal(ld_le64(map), 64 * MIB - 4096);
	assert_int_equal(ld_le64(map + 8), 14);
	assert_int_equal(ld_le32(info + 48), 4);
	map = boot_rig_at(&r, ld_le64(info + 40), 96);
	assert_int_equal(ld_le64(map + 72), 1ull << 32);
	assert_int_equal(ld_le64(map + 80), 8 * MIB);
	assert_int_equal(ld_le32(map + 88), 1);
	boot_rig_free(&r);
}

static void notes_that_lie_are_no_pvh_entry(void **state)
{
	struct boot_rig r;
	struct image k;

	start(&r, &k);
	image_elf64_note(&k, 16 * MIB + 0x40);
	st_le32(k.b + ELF_NOTE, 0xffffffff);
	load(&r, &k);
	assert_int_equal(r.e.kind, BOOT_LONG64);
	image_elf64_note(&k, 16 * MIB + 0x40);
	st_le32(k.b + ELF_NOTE + 24 + 4, 0xfffffffc);
	load(&r, &k);
	assert_int_equal(r.e.kind, BOOT_LONG64);
	image_elf64_note(&k, 40 * MIB);
	load(&r, &k);
	assert_int_equal(r.e.kind, BOOT_LONG64);
	boot_rig_free(&r);
}

static void truncated_files_are_refused(void **state)
{
	struct boot_rig r;
	struct image k;

	start(&r, &k);
	image_elf64_note(&k, 16 * MIB);
	boot_rig_truncations(&r, k.b, k.len);
	image_elf64(&k);
	boot_rig_truncations(&r, k.b, ELF_DATA + 0x800);
	boot_rig_free(&r);
}

static void odd_segments_are_refused(void **state)
{
	struct boot_rig r;
	struct image k;

	start(&r, &k);
	image_elf64_segment(&k, 1)->p_paddr = 16 * MIB + 0xfff;
	refuse(&r, &k, "overlap");
	image_elf64_segment(&k, 1)->p_paddr = 16 * MIB - 2 * MIB + 1;
	refuse(&r, &k, "overlap");
	image_elf64_segment(&k, 1)->p_paddr = 16 * MIB - 2 * MIB;
	load(&r, &k);
	image_elf64_segment(&k, 1)->p_paddr = 64 * MIB - 0x1000;
	refuse(&r, &k, "outside of the guest's memory");
	image_elf64_segment(&k, 1)->p_paddr = ~0ull - 0x100;
	refuse(&r, &k, "outside of the guest's memory");
	image_elf64_segment(&k, 1)->p_paddr = 0x7c00;
	refuse(&r, &k, "below 1 MiB");
	image_elf64(&k);
	image_elf64_segment(&k, 1)->p_memsz = 0x7ff;
	refuse(&r, &k, "larger in the file");
	image_elf64(&k);
	image_elf64_segment(&k, 1)->p_offset = ~0ull - 0x100;
	refuse(&r, &k, "truncated");
	image_elf64(&k);
	image_elf64_segment(&k, 0)->p_type = image_elf64_segment(&k, 1)->p_type = PT_NULL;
	refuse(&r, &k, "nothing to load");
	image_elf64(&k);
	image_elf64_header(&k)->e_entry = 17 * MIB;
	refuse(&r, &k, "entry point");
	image_elf64(&k);
	image_elf64_header(&k)->e_phnum = 0xffff;
	refuse(&r, &k, "make no sense");
	image_elf64(&k);
	image_elf64_header(&k)->e_phentsize = 8;
	refuse(&r, &k, "make no sense");
	image_elf64(&k);
	image_elf64_header(&k)->e_phoff = ~0ull - 4;
	refuse(&r, &k, "truncated");
	image_elf64(&k);
	image_elf64_header(&k)->e_machine = EM_AARCH64;
	refuse(&r, &k, "not an x86 executable");
	image_elf64(&k);
	image_elf64_header(&k)->e_type = ET_DYN;
	refuse(&r, &k, "not an x86 executable");
	boot_rig_free(&r);
}

static void a_32_bit_elf_needs_a_pvh_entry(void **state)
{
	struct boot_rig r;
	struct image k;

	boot_rig_init(&r, 64 * MIB);
	image_elf32(&k);
	load(&r, &k);
	assert_int_equal(r.e.kind, BOOT_FLAT32);
	assert_int_equal(r.e.rip, 2 * MIB + 8);
	boot_rig_truncations(&r, k.b, k.len);
	k.b[ELF_NOTE + 8]--;
	refuse(&r, &k, "32-bit ELF without");
	boot_rig_free(&r);
}

/* It is entered without paging: what lies between the information and the command line is free for it. */
static void a_32_bit_elf_may_lie_below_1_mib(void **state)
{
	struct boot_rig r;
	struct image k;
	Elf32_Phdr *p = (Elf32_Phdr *)(k.b + sizeof(Elf32_Ehdr));

	boot_rig_init(&r, 64 * MIB);
	image_elf32(&k);
	memset(k.b + ELF_TEXT, 0x5a, 0x1000);
	for (uint32_t at = BOOT_LOW; at <= BOOT_CMDLINE - 0x1000; at += BOOT_CMDLINE - 0x1000 - BOOT_LOW) {
		p->p_paddr = at;
		st_le32(k.b + ELF_NOTE + 16, at + 0x123);
		r.c.append = "words";
		load(&r, &k);
		assert_int_equal(r.e.kind, BOOT_FLAT32);
		assert_int_equal(r.e.rip, at + 0x123);
		assert_memory_equal(boot_rig_at(&r, at, 0x1000), k.b + ELF_TEXT, 0x1000);
		assert_string_equal((const char *)boot_rig_at(&r, BOOT_CMDLINE, 6), "words");
		/* The start information is whole. */
		assert_int_equal(ld_le32(boot_rig_at(&r, BOOT_ZERO_PAGE, 4)), 0x336ec578);
	}
	p->p_paddr = BOOT_LOW - 1;
	refuse(&r, &k, "below 1 MiB");
	p->p_paddr = BOOT_CMDLINE - 0xfff;
	refuse(&r, &k, "below 1 MiB");
	p->p_paddr = BOOT_LOW;
	p->p_memsz = 0xfffff000;
	refuse(&r, &k, "below 1 MiB");
	/* The page tables of a 64-bit kernel are there. */
	image_elf64(&k);
	image_elf64_segment(&k, 1)->p_paddr = BOOT_LOW;
	image_elf64_segment(&k, 1)->p_memsz = 0x1000;
	refuse(&r, &k, "below 1 MiB");
	boot_rig_free(&r);
}

static void the_initrd_must_fit_beside_the_segments(void **state)
{
	struct boot_rig r;
	struct image k;
	static uint8_t initrd[40 * MIB] = { 1 };

	start(&r, &k);
	boot_rig_initrd(&r, initrd, sizeof(initrd));
	load(&r, &k);
	image_elf64_segment(&k, 1)->p_memsz += 4 * MIB + 1;
	refuse(&r, &k, "does not fit beside the kernel");
	boot_rig_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(segments_go_to_their_physical_addresses),
		cmocka_unit_test(the_pvh_entry_is_preferred),
		cmocka_unit_test(notes_that_lie_are_no_pvh_entry),
		cmocka_unit_test(truncated_files_are_refused),
		cmocka_unit_test(odd_segments_are_refused),
		cmocka_unit_test(a_32_bit_elf_needs_a_pvh_entry),
		cmocka_unit_test(a_32_bit_elf_may_lie_below_1_mib),
		cmocka_unit_test(the_initrd_must_fit_beside_the_segments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
