/*
 * boot/acpi.c: tables of many machines, which iasl must take apart and put together again without a complaint.
 * Without iasl that part is skipped, aloud.
 */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/acpi.h"
#include "rig.h"

static const struct acpi_config machines[] = {
	{ .cpus = 1, .com = { true, false } },
	{ .cpus = 2, .com = { true, true }, .mmio_count = 2 },
	{ .cpus = 4, .com = { false, false }, .pci_high = 1ull << 40, .pci_high_end = 1ull << 41 },
	{ .cpus = 64, .com = { true, false }, .mmio_count = 8, .hpet = 0xfed00000, .hpet_id = 0x8086a201 },
	{ .cpus = 255, .mmio_count = 1 },
	{ .cpus = 300, .com = { false, true }, .mmio_count = 32 },
};

struct tables {
	struct mem_space *mem;
	uint64_t from, to; /* where they may be */
	const uint8_t *rsdp, *fadt, *madt, *dsdt, *facs, *rsdt, *xsdt, *hpet;
};

static const uint8_t *at(struct tables *t, uint64_t addr, size_t len)
{
	struct mem_map m;

	assert_true(mem_dma_map(t->mem, gpa(addr), len, MEM_TO_DEVICE, &m));
	return m.host;
}

static void assert_sum(const uint8_t *b, size_t len)
{
	uint8_t sum = 0;

	while (len--)
		sum = (uint8_t)(sum + *b++);
	assert_int_equal(sum, 0);
}

/* A table with the common header. */
static const uint8_t *table(struct tables *t, uint64_t addr, const char *signature)
{
	const uint8_t *b = at(t, addr, 36);

	assert_memory_equal(b, signature, 4);
	at(t, addr, ld_le32(b + 4));
	assert_sum(b, ld_le32(b + 4));
	assert_true(addr >= t->from && addr + ld_le32(b + 4) <= t->to);
	return b;
}

/* --- a firmware's table loader, at two places --- */

#define LOADED 0x345000u
#define FSEG   0xf5a30u

struct file {
	const char *name;
	uint8_t *data;
	size_t size;
	uint32_t at; /* 0: not allocated yet */
};

static struct file *named(struct file *files, const uint8_t *name)
{
	for (unsigned n = 0; n < 2; n++)
		if (!strcmp(files[n].name, (const char *)name))
			return &files[n];
	fail_msg("there is no file %s", name);
	return NULL;
}

static void allocate(struct file *f, const uint8_t *c)
{
	uint32_t align = ld_le32(c + 56);

	assert_int_equal(f->at, 0);
	f->at = c[60] == 2 ? FSEG : LOADED;
	/* Aligned as was asked for, and no better. */
	f->at = ((f->at + align - 1) & ~(align - 1)) + (c[60] == 2 ? 0 : align);
}

static void add_pointer(struct file *in, const struct file *to, const uint8_t *c)
{
	uint32_t at = ld_le32(c + 112);
	uint8_t size = c[116];
	uint64_t v = 0;

	assert_true(in->at && to->at && (size == 4 || size == 8) && at + size <= in->size);
	memcpy(&v, in->data + at, size);
	assert_true(le64toh(v) < to->size);
	v = htole64(le64toh(v) + to->at);
	memcpy(in->data + at, &v, size);
}

static void add_checksum(struct file *f, const uint8_t *c)
{
	uint32_t at = ld_le32(c + 56), start = ld_le32(c + 60), len = ld_le32(c + 64);
	uint8_t sum = 0;

	assert_true(f->at && at >= start && at < start + len && start + len <= f->size);
	/* OVMF sets it and SeaBIOS subtracts: the same only if it was 0. */
	assert_int_equal(f->data[at], 0);
	for (uint32_t n = 0; n < len; n++)
		sum = (uint8_t)(sum + f->data[start + n]);
	f->data[at] = (uint8_t)-sum;
}

static void load(struct tables *t, const struct acpi_config *c)
{
	struct acpi_files *f = malloc(sizeof(*f));
	struct err err;

	assert_non_null(f);
	assert_int_equal(acpi_make_files(c, f, &err), 0);
	struct file files[] = { { "etc/acpi/tables", f->tables, f->tables_size, 0 },
				{ "etc/acpi/rsdp", f->rsdp, sizeof(f->rsdp), 0 } };

	assert_int_equal(f->script_size % ACPI_COMMAND, 0);
	for (uint8_t *e = f->script; e < f->script + f->script_size; e += ACPI_COMMAND) {
		switch (ld_le32(e)) {
		case 1:
			allocate(named(files, e + 4), e + 4);
			break;
		case 2:
			add_pointer(named(files, e + 4), named(files, e + 60), e + 4);
			break;
		case 3:
			add_checksum(named(files, e + 4), e + 4);
			break;
		default:
			fail_msg("an unknown command");
		}
	}
	for (unsigned n = 0; n < 2; n++)
		assert_true(mem_write(c->mem, gpa(files[n].at), files[n].data, files[n].size));
	t->from = files[0].at;
	t->to = files[0].at + files[0].size;
	t->rsdp = at(t, files[1].at, 36);
	free(f);
}

static void generate_by(struct tables *t, const struct acpi_config *from, bool loader)
{
	struct mem_slot_config slot = { .name = "ram", .size = 16 * MIB, .fd = -1 };
	struct acpi_config c = *from;
	struct err err;

	memset(t, 0, sizeof(*t));
	t->mem = mem_space_new();
	assert_int_equal(mem_add_slot(t->mem, &slot, &err), 0);
	c.mem = t->mem;
	c.pm_event = 0x600;
	c.pm_control = 0x604;
	c.pm_timer = 0x608;
	c.sci = 9;
	c.s5 = 5;
	c.ioapic = 0xfec00000;
	c.lapic = 0xfee00000;
	memcpy(c.pci_gsi, "\5\7\12\13", 4);
	c.pci_hole = 0xc0000000;
	c.pci_hole_end = 0xfeb00000;
	for (unsigned n = 0; n < c.mmio_count; n++) {
		c.mmio[n].base = 0xfeb00000 + 0x1000 * n;
		c.mmio[n].size = 0x200;
		c.mmio[n].gsi = 16 + n % 8;
	}
	if (loader) {
		load(t, &c);
	} else {
		if (acpi_write(&c, &err))
			fail_msg("%s", err.msg);
		t->from = BOOT_ACPI;
		t->to = BOOT_RSDP;
		t->rsdp = at(t, BOOT_RSDP, 36);
	}
	t->rsdt = table(t, ld_le32(t->rsdp + 16), "RSDT");
	t->xsdt = table(t, ld_le64(t->rsdp + 24), "XSDT");
	t->fadt = table(t, ld_le64(t->xsdt + 36), "FACP");
	t->madt = table(t, ld_le64(t->xsdt + 44), "APIC");
	t->hpet = c.hpet ? table(t, ld_le64(t->xsdt + 52), "HPET") : NULL;
	t->dsdt = table(t, ld_le64(t->fadt + 140), "DSDT");
	t->facs = at(t, ld_le32(t->fadt + 36), 64);
}

static void generate(struct tables *t, const struct acpi_config *from)
{
	generate_by(t, from, false);
}

/* Firmware puts the tables elsewhere, and they are the same. */
static void the_loader_makes_the_same_tables(void **state)
{
	for (unsigned n = 0; n < ARRAY_LEN(machines); n++) {
		struct tables a, b;

		generate_by(&a, &machines[n], false);
		generate_by(&b, &machines[n], true);
		assert_int_equal(ld_le32(a.dsdt + 4), ld_le32(b.dsdt + 4));
		assert_memory_equal(a.dsdt, b.dsdt, ld_le32(a.dsdt + 4));
		assert_memory_equal(a.madt, b.madt, ld_le32(a.madt + 4));
		assert_memory_equal(a.fadt + 44, b.fadt + 44, 140 - 44);
		mem_space_free(a.mem);
		mem_space_free(b.mem);
	}
}

static void roots_agree(void **state)
{
	struct tables t;

	for (unsigned n = 0; n < 2 * ARRAY_LEN(machines); n++) {
		generate_by(&t, &machines[n / 2], n & 1);
		assert_memory_equal(t.rsdp, "RSD PTR ", 8);
		assert_sum(t.rsdp, 20);
		assert_sum(t.rsdp, 36);
		unsigned tables = t.hpet ? 3 : 2;

		assert_int_equal(ld_le32(t.rsdt + 4), 36 + tables * 4);
		assert_int_equal(ld_le32(t.xsdt + 4), 36 + tables * 8);
		for (unsigned k = 0; k < tables; k++)
			assert_int_equal(ld_le32(t.rsdt + 36 + 4 * k), ld_le64(t.xsdt + 36 + 8 * k));
		assert_int_equal(ld_le32(t.fadt + 40), ld_le64(t.fadt + 140));
		assert_memory_equal(t.facs, "FACS", 4);
		assert_int_equal(ld_le32(t.fadt + 36) % 64, 0);
		mem_space_free(t.mem);
	}
}

static void the_fadt_describes_power_management(void **state)
{
	struct tables t;

	generate(&t, &machines[0]);
	assert_int_equal(ld_le16(t.fadt + 46), 9);
	assert_int_equal(ld_le32(t.fadt + 56), 0x600);
	assert_int_equal(ld_le32(t.fadt + 64), 0x604);
	assert_int_equal(ld_le32(t.fadt + 76), 0x608);
	/* The reset register: port CF9h, value 6. */
	assert_int_equal(t.fadt[116], 1);
	assert_int_equal(t.fadt[119], 1);
	assert_int_equal(ld_le64(t.fadt + 120), 0xcf9);
	assert_int_equal(t.fadt[128], 6);
	/* Reset register, a power button of fixed hardware, no sleep button, a 24-bit timer. */
	assert_int_equal(ld_le32(t.fadt + 112) & (1u << 4 | 1u << 5 | 1u << 8 | 1u << 10), 1u << 5 | 1u << 10);
	mem_space_free(t.mem);
}

static void the_madt_lists_processors_and_interrupts(void **state)
{
	struct tables t;

	for (unsigned n = 0; n < ARRAY_LEN(machines); n++) {
		unsigned apics = 0, x2apics = 0, ioapics = 0, overrides = 0, nmis = 0;
		const uint8_t *e, *end;

		generate(&t, &machines[n]);
		end = t.madt + ld_le32(t.madt + 4);
		for (e = t.madt + 44; e < end; e += e[1]) {
			assert_true(e[1] >= 6 && e[1] <= end - e);
			switch (e[0]) {
			case 0:
				assert_int_equal(e[3], apics++);
				assert_int_equal(ld_le32(e + 4), 1);
				break;
			case 9:
				assert_int_equal(ld_le32(e + 4), 255 + x2apics);
				assert_int_equal(ld_le32(e + 12), 255 + x2apics++);
				break;
			case 1:
				assert_int_equal(ld_le32(e + 4), 0xfec00000);
				ioapics++;
				break;
			case 2:
				/* The timer is on pin 2; all others are level-triggered, active high. */
				assert_int_equal(ld_le32(e + 4), e[3] ? e[3] : 2);
				assert_int_equal(ld_le16(e + 8), e[3] ? 0xd : 0);
				overrides++;
				break;
			case 4:
			case 10:
				nmis++;
				break;
			default:
				fail_msg("entry %u", e[0]);
			}
		}
		assert_ptr_equal(e, end);
		assert_int_equal(apics, machines[n].cpus < 255 ? machines[n].cpus : 255);
		assert_int_equal(apics + x2apics, machines[n].cpus);
		assert_int_equal(ioapics, 1);
		assert_int_equal(overrides, 6);
		assert_int_equal(nmis, machines[n].cpus > 255 ? 2 : 1);
		mem_space_free(t.mem);
	}
}

static void the_hpet_has_a_table(void **state)
{
	struct tables t;

	for (unsigned n = 0; n < 2 * ARRAY_LEN(machines); n++) {
		generate_by(&t, &machines[n / 2], n & 1);
		assert_int_equal(!!t.hpet, !!machines[n / 2].hpet);
		if (t.hpet) {
			assert_int_equal(ld_le32(t.hpet + 4), 56);
			assert_int_equal(ld_le32(t.hpet + 36), 0x8086a201);
			assert_int_equal(ld_le32(t.hpet + 40), 64 << 8);
			assert_int_equal(ld_le64(t.hpet + 44), 0xfed00000);
		}
		mem_space_free(t.mem);
	}
}

static void too_much_is_refused(void **state)
{
	struct mem_slot_config slot = { .name = "ram", .size = 16 * MIB, .fd = -1 };
	struct acpi_config c = { .mem = mem_space_new(), .cpus = ACPI_MAX_CPUS };
	struct err err;

	assert_int_equal(mem_add_slot(c.mem, &slot, &err), 0);
	assert_int_equal(acpi_write(&c, &err), 0);
	c.cpus++;
	assert_int_equal(acpi_write(&c, &err), -1);
	assert_non_null(strstr(err.msg, "do not fit"));
	mem_space_free(c.mem);
}

/* --- iasl --- */

static void save(const char *dir, const char *name, const uint8_t *b, size_t len)
{
	char path[300];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.dat", dir, name);
	f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(b, 1, len, f), len);
	fclose(f);
}

/* The output goes to DIR/log, added to what is there. */
static int shell(const char *dir, const char *command)
{
	char line[1000];

	snprintf(line, sizeof(line), "cd '%s' && { %s; } >>log 2>&1", dir, command);
	return system(line);
}

static void print_log(const char *dir)
{
	char line[400];

	snprintf(line, sizeof(line), "cat '%s/log'", dir);
	if (system(line))
		print_message("no log\n");
}

/* How many lines of DIR/FILE have `pattern`. */
static unsigned count(const char *dir, const char *file, const char *pattern)
{
	char line[500];
	unsigned n = ~0u;
	FILE *f;

	snprintf(line, sizeof(line), "grep -cE -e '%s' '%s/%s'", pattern, dir, file);
	f = popen(line, "r");
	assert_non_null(f);
	if (fscanf(f, "%u", &n) != 1)
		n = ~0u;
	pclose(f);
	return n;
}

/* Apart, together and apart again: nothing to complain about, and the same source both times. */
static bool round_trip(const char *dir, unsigned tables)
{
	return !shell(dir, "rm -f *.dsl; for t in dsdt facp apic facs xsdt rsdt $([ ! -e hpet.dat ] || echo hpet); do"
			   "  iasl -d $t.dat && iasl -p again-$t $t.dsl && iasl -d again-$t.aml || exit 1; "
			   "done") &&
	       /* But for the prefix of the root, which the compiler leaves out. */
	       !shell(dir, "for f in dsdt again-dsdt; do sed '1,/^ \\*\\//d; s/[\\]//' $f.dsl >$f.txt; done;"
			   "cmp dsdt.txt again-dsdt.txt") &&
	       shell(dir, "grep -iE 'warning|error|remark|invalid' *.dsl") &&
	       count(dir, "log", "^Compilation successful. 0 Errors, 0 Warnings, 0 Remarks") == tables;
}

/* The interpreter of the reference implementation loads the tables and decodes all resources. */
static void assert_executes(const char *dir, const struct acpi_config *c)
{
	unsigned isa = 3u + c->com[0] + c->com[1], others = isa + c->mmio_count + !!c->hpet;
	char devices[32];

	shell(dir, "acpiexec -b 'resources *,quit' dsdt.dat facp.dat apic.dat facs.dat >exec 2>&1 </dev/null");
	snprintf(devices, sizeof(devices), "with +%u Devices", c->cpus + others);
	assert_int_equal(count(dir, "exec", devices), 1);
	assert_int_equal(count(dir, "exec", "^Device: ._SB.(PCI0|RTC|MISC|COM|VR|HPET)"), others);
	assert_int_equal(count(dir, "dsdt.dsl", "Name [(]_HID,"), c->cpus + others);
	assert_int_equal(count(dir, "dsdt.dsl", "Name [(]_UID,"), c->cpus + others);
	assert_int_equal(count(dir, "exec", "PCI IRQ Routing Table Package"), 31 * 4);
	assert_int_equal(count(dir, "exec", "16-Bit WORD Address Space Resource"), 3);
	assert_int_equal(count(dir, "exec", "64-Bit QWORD Address Space Resource"), c->pci_high_end ? 2 : 1);
	assert_int_equal(count(dir, "exec", "32-Bit Fixed Memory Range Resource"), c->mmio_count + !!c->hpet);
	assert_int_equal(count(dir, "exec", "Extended IRQ Resource"), c->mmio_count);
	assert_int_equal(count(dir, "exec", "] IRQ Resource"), 1u + c->com[0] + c->com[1]);
	assert_int_equal(count(dir, "exec", "] I/O Resource"), isa);
	assert_int_equal(count(dir, "exec", "ACPI (Error|Warning|Exception)|[Mm]ismatch|AE_AML"), 0);
}

static void iasl_takes_the_tables(void **state)
{
	char dir[] = "/tmp/vireo-acpi-XXXXXX", clean[64];
	struct tables t;

	if (system("iasl -v >/dev/null 2>&1")) {
		print_message("SKIPPED: iasl is not installed\n");
		skip();
	}
	assert_non_null(mkdtemp(dir));
	for (unsigned n = 0; n < ARRAY_LEN(machines); n++) {
		generate(&t, &machines[n]);
		assert_int_equal(shell(dir, ": >log"), 0);
		save(dir, "dsdt", t.dsdt, ld_le32(t.dsdt + 4));
		save(dir, "facp", t.fadt, ld_le32(t.fadt + 4));
		save(dir, "apic", t.madt, ld_le32(t.madt + 4));
		shell(dir, "rm -f hpet.dat");
		if (t.hpet)
			save(dir, "hpet", t.hpet, 56);
		save(dir, "facs", t.facs, 64);
		save(dir, "xsdt", t.xsdt, ld_le32(t.xsdt + 4));
		save(dir, "rsdt", t.rsdt, ld_le32(t.rsdt + 4));
		mem_space_free(t.mem);
		if (!round_trip(dir, t.hpet ? 7 : 6)) {
			print_log(dir);
			fail_msg("iasl does not like machine %u: see %s", n, dir);
		}
		assert_executes(dir, &machines[n]);
		/* Tables of data must come out as they went in, but for the compiler's name and the sum. */
		if (shell(dir,
			  "for t in facp apic $([ ! -e hpet.dat ] || echo hpet); do"
			  "  cmp -l $t.dat again-$t.aml | awk '$1 != 10 && ($1 < 29 || $1 > 36) { exit 1 }' || exit 1; "
			  "done")) {
			print_log(dir);
			fail_msg("machine %u: the tables change on the way through iasl: see %s", n, dir);
		}
	}
	snprintf(clean, sizeof(clean), "rm -r '%s'", dir);
	assert_int_equal(system(clean), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(roots_agree),
		cmocka_unit_test(the_loader_makes_the_same_tables),
		cmocka_unit_test(the_fadt_describes_power_management),
		cmocka_unit_test(the_madt_lists_processors_and_interrupts),
		cmocka_unit_test(the_hpet_has_a_table),
		cmocka_unit_test(too_much_is_refused),
		cmocka_unit_test(iasl_takes_the_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
