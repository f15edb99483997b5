/* boot/smbios.c: the structures, and that dmidecode reads them. Without dmidecode that part is skipped, aloud. */
#include <stdio.h>
#include <unistd.h>

#include "boot/acpi.h"
#include "rig.h"

static const uint8_t uuid[16] = { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
				  0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff };

struct dmi {
	struct mem_space *mem;
	const uint8_t *three, *two, *table;
	uint32_t len;
};

static const uint8_t *at(struct dmi *d, uint64_t addr, size_t len)
{
	struct mem_map m;

	assert_true(mem_dma_map(d->mem, gpa(addr), len, MEM_TO_DEVICE, &m));
	return m.host;
}

static void assert_sum(const uint8_t *b, size_t len)
{
	uint8_t sum = 0;

	while (len--)
		sum = (uint8_t)(sum + *b++);
	assert_int_equal(sum, 0);
}

#define LOW_MAX (3072 * MIB)

static void generate(struct dmi *d, uint64_t ram, unsigned cpus)
{
	struct mem_slot_config slot = { .name = "ram", .size = 2 * MIB, .fd = -1 };
	struct smbios_config c = { .ram_low = ram < LOW_MAX ? ram : LOW_MAX, .cpus = cpus, .uuid = uuid };
	struct err err;

	c.ram_high = ram - c.ram_low;
	d->mem = c.mem = mem_space_new();
	assert_int_equal(mem_add_slot(d->mem, &slot, &err), 0);
	assert_int_equal(smbios_write(&c, &err), 0);
	/* Where a kernel looks: at multiples of 16 in the F segment. */
	d->three = d->two = NULL;
	for (uint64_t a = 0xf0000; a < 0x100000; a += 16) {
		if (!memcmp(at(d, a, 5), "_SM3_", 5))
			d->three = at(d, a, 24);
		else if (!memcmp(at(d, a, 4), "_SM_", 4))
			d->two = at(d, a, 31);
	}
	assert_non_null(d->three);
	assert_non_null(d->two);
	d->len = ld_le32(d->three + 12);
	d->table = at(d, ld_le64(d->three + 16), d->len);
}

/* The structure after `s`. */
static const uint8_t *next(const struct dmi *d, const uint8_t *s)
{
	const uint8_t *end = d->table + d->len;

	for (s += s[1]; s + 2 <= end; s++)
		if (!s[0] && !s[1])
			return s + 2;
	fail_msg("a structure has no end");
	return NULL;
}

static const uint8_t *find(const struct dmi *d, uint8_t type)
{
	const uint8_t *s = d->table;

	while (s[0] != type) {
		assert_int_not_equal(s[0], 127);
		s = next(d, s);
	}
	return s;
}

static void entry_points_agree(void **state)
{
	struct dmi d;
	unsigned count = 0, largest = 0;
	const uint8_t *s;

	generate(&d, 512 * MIB, 2);
	assert_sum(d.three, d.three[6]);
	assert_sum(d.two, d.two[5]);
	assert_sum(d.two + 16, 15);
	assert_int_equal(ld_le32(d.two + 24), ld_le64(d.three + 16));
	assert_int_equal(ld_le16(d.two + 22), d.len);
	for (s = d.table; s < d.table + d.len; count++) {
		const uint8_t *n = next(&d, s);

		assert_int_equal(ld_le16(s + 2), count);
		if (n - s > largest)
			largest = (unsigned)(n - s);
		if (s[0] == 127)
			assert_ptr_equal(n, d.table + d.len);
		s = n;
	}
	assert_int_equal(ld_le16(d.two + 28), count);
	assert_int_equal(ld_le16(d.two + 8), largest);
	mem_space_free(d.mem);
}

static void what_is_required_is_there(void **state)
{
	static const uint8_t required[] = { 0, 1, 3, 4, 16, 17, 19, 32, 127 };
	struct dmi d;

	generate(&d, 512 * MIB, 2);
	for (unsigned n = 0; n < ARRAY_LEN(required); n++)
		find(&d, required[n]);
	mem_space_free(d.mem);
}

static void memory_sizes_of_all_magnitudes(void **state)
{
	static const uint64_t sizes[] = {
		8 * MIB, 512 * MIB, 32767 * MIB, 32768 * MIB, 1024 * 1024 * MIB, 5000000 * MIB
	};
	struct dmi d;

	for (unsigned n = 0; n < ARRAY_LEN(sizes); n++) {
		const uint8_t *m, *map;
		uint64_t mib = sizes[n] / MIB, mapped = 0;

		generate(&d, sizes[n], 1);
		m = find(&d, 17);
		assert_int_equal(ld_le16(m + 12), mib < 32767 ? mib : 32767);
		if (mib >= 32767)
			assert_int_equal(ld_le32(m + 28), mib);
		for (map = find(&d, 19); map[0] == 19; map = next(&d, map)) {
			bool kib = ld_le32(map + 4) != 0xffffffff;

			assert_int_equal(kib ? (uint64_t)ld_le32(map + 4) << 10 : ld_le64(map + 15),
					 mapped ? 1ull << 32 : 0);
			mapped += kib ? (ld_le32(map + 8) - ld_le32(map + 4) + 1ull) << 10
				      : ld_le64(map + 23) - ld_le64(map + 15) + 1;
		}
		assert_int_equal(mapped, sizes[n]);
		mem_space_free(d.mem);
	}
}

/* `dmidecode --from-dump` reads a file of an entry point, whose table address is its offset in the file, and the table.
 */
static void dump(const struct dmi *d, bool three, const char *path)
{
	uint8_t entry[32] = { 0 };
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	memcpy(entry, three ? d->three : d->two, three ? 24 : 31);
	if (three) {
		st_le64(entry + 16, 32);
		entry[5] = 0;
		for (unsigned n = 0; n < 24; n++)
			entry[5] = (uint8_t)(entry[5] - (n == 5 ? 0 : entry[n]));
	} else {
		st_le32(entry + 24, 32);
		entry[21] = 0;
		for (unsigned n = 16; n < 31; n++)
			entry[21] = (uint8_t)(entry[21] - (n == 21 ? 0 : entry[n]));
		entry[4] = 0;
		for (unsigned n = 0; n < 31; n++)
			entry[4] = (uint8_t)(entry[4] - (n == 4 ? 0 : entry[n]));
	}
	assert_int_equal(fwrite(entry, 1, 32, f), 32);
	assert_int_equal(fwrite(d->table, 1, d->len, f), d->len);
	fclose(f);
}

static void dmidecode_reads_them(void **state)
{
	char path[] = "/tmp/vireo-dmi-XXXXXX", line[600];
	static const char *const says[] = {
		"UUID: 00112233-4455-6677-8899-aabbccddeeff",
		"Manufacturer: Vireo",
		"Version: pc-1.0",
		"System is a virtual machine",
		"Size: 3 GB",
		"Maximum Capacity: 3 GB",
		"Core Count: 4",
		"End Of Table",
		"Number Of Devices: 1",
		"Range Size: 3 GB",
		"Status: No errors detected",
	};
	struct dmi d;

	if (system("PATH=$PATH:/usr/sbin dmidecode --version >/dev/null 2>&1")) {
		print_message("SKIPPED: dmidecode is not installed\n");
		skip();
	}
	close(mkstemp(path));
	generate(&d, 3072 * MIB, 4);
	for (unsigned three = 0; three < 2; three++) {
		dump(&d, three, path);
		snprintf(line, sizeof(line), "PATH=$PATH:/usr/sbin dmidecode --from-dump %s >%s.out 2>&1", path, path);
		assert_int_equal(system(line), 0);
		for (unsigned n = 0; n < ARRAY_LEN(says); n++) {
			snprintf(line, sizeof(line), "grep -qF '%s' %s.out", says[n], path);
			if (system(line))
				fail_msg("dmidecode does not say '%s': see %s.out", says[n], path);
		}
		snprintf(line, sizeof(line), "grep -iE 'invalid|bad|broken|wrong|truncated|OUT OF SPEC' %s.out", path);
		assert_int_not_equal(system(line), 0);
	}
	mem_space_free(d.mem);
	snprintf(line, sizeof(line), "%s.out", path);
	unlink(line);
	unlink(path);
}

/* The same structures; firmware fills in where they are. */
static void firmware_gets_the_same(void **state)
{
	struct smbios_config c = { .ram_low = 64 * MIB, .cpus = 3, .uuid = uuid };
	struct smbios_files f;
	struct dmi d;

	generate(&d, 64 * MIB, 3);
	smbios_make_files(&c, &f);
	assert_int_equal(f.tables_size, d.len);
	assert_memory_equal(f.tables, d.table, d.len);
	assert_memory_equal(f.anchor, "_SM_", 4);
	assert_int_equal(ld_le32(f.anchor + 24), 0);
	assert_int_equal(ld_le16(f.anchor + 22), d.len);
	assert_sum(f.anchor, sizeof(f.anchor));
	assert_sum(f.anchor + 16, 15);
	mem_space_free(d.mem);
}

/* String `n` of a structure. */
static const char *string_of(const uint8_t *s, unsigned n)
{
	const char *text = (const char *)s + s[1];

	while (--n)
		text += strlen(text) + 1;
	return text;
}

/* As many and as long as the user may have them. */
static void texts_are_the_users(void **state)
{
	static char oem[SMBIOS_OEM_MAX][SMBIOS_OEM_LEN + 1], longest[SMBIOS_TEXT_MAX + 1];
	static struct smbios_files f;
	struct smbios_config c = { .ram_low = 64 * MIB, .ram_high = 1 << 30, .cpus = 64, .uuid = uuid };
	struct dmi d = { .table = f.tables };
	const uint8_t *s;

	memset(longest, 'x', SMBIOS_TEXT_MAX);
	for (unsigned n = 0; n < SMBIOS_TEXTS; n++)
		c.text[n] = longest;
	c.text[SMBIOS_PRODUCT] = "a product";
	c.text[SMBIOS_CHASSIS_ASSET] = "an asset";
	for (unsigned n = 0; n < SMBIOS_OEM_MAX; n++) {
		memset(oem[n], 'a' + (int)n, SMBIOS_OEM_LEN);
		c.oem[c.oem_count++] = oem[n];
	}
	smbios_make_files(&c, &f);
	d.len = f.tables_size;
	assert_true(f.tables_size < SMBIOS_TABLES);
	s = find(&d, 1);
	assert_string_equal(string_of(s, s[5]), "a product");
	assert_string_equal(string_of(s, s[0x1a]), longest);
	s = find(&d, 3);
	assert_string_equal(string_of(s, s[8]), "an asset");
	s = find(&d, 11);
	assert_int_equal(s[4], SMBIOS_OEM_MAX);
	assert_string_equal(string_of(s, SMBIOS_OEM_MAX), oem[SMBIOS_OEM_MAX - 1]);
	assert_int_equal(find(&d, 127)[1], 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entry_points_agree),
		cmocka_unit_test(what_is_required_is_there),
		cmocka_unit_test(memory_sizes_of_all_magnitudes),
		cmocka_unit_test(dmidecode_reads_them),
		cmocka_unit_test(firmware_gets_the_same),
		cmocka_unit_test(texts_are_the_users),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
