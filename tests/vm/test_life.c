/* vm/vm.c, vm/cpus.c: a machine runs, pauses, resets and ends; many of these at once do no harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "machine.h"
#include "vm/impl.h"
#include "vm/rundir.h"

static void stop_holds_the_guest_and_cont_lets_it_go(void **state)
{
	struct machine m;
	uint32_t before;

	machine_new(&m, CODE_COUNT, "");
	machine_start(&m);
	machine_wait_progress(&m, COUNTER);
	machine_do(&m, "stop");
	assert_true(machine_is(&m, "paused"));
	before = machine_word(&m, COUNTER);
	usleep(20000);
	assert_int_equal(machine_word(&m, COUNTER), before);
	machine_do(&m, "stop");
	machine_do(&m, "cont");
	assert_true(machine_is(&m, "running"));
	machine_wait_progress(&m, COUNTER);
	assert_int_equal(machine_quit(&m), 0);
}

static void a_machine_may_begin_paused(void **state)
{
	struct machine m;

	machine_new(&m, CODE_COUNT, "paused=on");
	machine_start(&m);
	assert_true(machine_is(&m, "prelaunch"));
	usleep(20000);
	assert_int_equal(machine_word(&m, COUNTER), 0);
	machine_do(&m, "cont");
	machine_wait_progress(&m, COUNTER);
	assert_int_equal(machine_quit(&m), 0);
}

static uint32_t word_of_file(const char *path, off_t at)
{
	int fd = open(path, O_RDONLY);
	uint32_t v = 0;

	assert_int_equal(pread(fd, &v, 4, at), 4);
	close(fd);
	return v;
}

/* A descriptor of this process whose link says so; -1: there is none. */
static int find_descriptor(const char *what)
{
	char link[64], is[512];

	for (int fd = 3; fd < 256; fd++) {
		ssize_t n;

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, is, sizeof(is) - 1);
		is[n > 0 ? n : 0] = 0;
		if (strstr(is, what))
			return fd;
	}
	return -1;
}

/* The guest counts in its memory, where everybody can see it. */
static void memory_may_be_a_file(void **state)
{
	const char *path = machines_path("ram");
	struct machine m;
	char keys[300];
	uint32_t seen;

	snprintf(keys, sizeof(keys), "memory.backing=file memory.share=on memory.path=%s", path);
	machine_new(&m, CODE_COUNT, keys);
	machine_start(&m);
	machine_wait_progress(&m, COUNTER);
	machine_do(&m, "stop");
	seen = word_of_file(path, COUNTER);
	assert_int_equal(seen, machine_word(&m, COUNTER));
	assert_true(seen > 0);
	assert_int_equal(machine_quit(&m), 0);
	/* Another machine begins with what is there, and keeps what it writes to itself. */
	snprintf(keys, sizeof(keys), "memory.backing=file memory.path=%s memory.prealloc=on paused=on", path);
	machine_new(&m, CODE_COUNT, keys);
	machine_start(&m);
	assert_int_equal(machine_word(&m, COUNTER), seen);
	machine_do(&m, "cont");
	machine_wait_progress(&m, COUNTER);
	machine_do(&m, "stop");
	assert_int_equal(word_of_file(path, COUNTER), seen);
	assert_int_equal(machine_quit(&m), 0);
	/* In a directory it has no name. */
	assert_int_equal(find_descriptor("/vireo-memory."), -1);
	snprintf(keys, sizeof(keys), "memory.backing=file memory.share=on memory.path=%.*s",
		 (int)(strrchr(path, '/') - path), path);
	machine_new(&m, CODE_COUNT, keys);
	assert_true(find_descriptor("/vireo-memory.") >= 0);
	vm_free(m.vm);
	config_free(m.config);
}

static void memory_may_be_a_memfd(void **state)
{
	struct machine m;
	uint32_t seen = 0;
	int fd;

	machine_new(&m, CODE_COUNT, "memory.backing=memfd");
	machine_start(&m);
	machine_wait_progress(&m, COUNTER);
	machine_do(&m, "stop");
	fd = find_descriptor("memfd:vireo-memory");
	assert_int_equal(pread(fd, &seen, 4, COUNTER), 4);
	assert_int_equal(seen, machine_word(&m, COUNTER));
	assert_true(seen > 0);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(machine_quit(&m), 0);
}

/* As many as there are: with none it is refused, in one line. */
static void memory_may_be_of_huge_pages(void **state)
{
	FILE *f = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
	struct config *c;
	struct machine m;
	struct err err = { "" };
	int pages = 0;

	if (f && fscanf(f, "%d", &pages) != 1)
		pages = 0;
	if (f)
		fclose(f);
	if (pages * 2 < 8) {
		c = machine_config(CODE_HALT, "memory=8 memory.backing=memfd memory.hugetlb=on");
		assert_null(vm_new(c, &err));
		if (!strstr(err.msg, "the host has not as many free huge pages") &&
		    !strstr(err.msg, "memory.hugetlb: a memfd"))
			fail_msg("%s", err.msg);
		config_free(c);
		return;
	}
	machine_new(&m, CODE_COUNT, "memory=8 memory.backing=memfd memory.hugetlb=on");
	machine_start(&m);
	machine_wait_progress(&m, COUNTER);
	assert_int_equal(machine_quit(&m), 0);
}

static void memory_that_cannot_be_is_refused(void **state)
{
	static const struct {
		const char *keys, *said;
	} bad[] = {
		{ "memory.backing=disk", "memory.backing: 'disk' is not one of anonymous, memfd, file" },
		{ "memory.backing=file", "memory.path: it goes with memory.backing=file" },
		{ "memory.path=/tmp", "memory.path: it goes with memory.backing=file" },
		{ "memory.share=on", "memory.share: what is anonymous has no others" },
		{ "memory.hugetlb=on", "memory.hugetlb: it goes with memory.backing=memfd" },
		{ "memory=9 memory.backing=memfd memory.hugetlb=on",
		  "memory: on huge pages it is a multiple of 2 MiB" },
		{ "memory=1T memory.backing=memfd memory.hugetlb=on", "memory" },
		{ "memory.backing=file memory.path=/nonexistent/x", "memory.path: /nonexistent/x: No such file" },
		{ "memory.backing=file memory.path=/dev/null", "/dev/null is neither a regular file nor a directory" },
	};

	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
		struct config *c = machine_config(CODE_HALT, bad[n].keys);
		struct err err = { "" };

		assert_null(vm_new(c, &err));
		if (!strstr(err.msg, bad[n].said))
			fail_msg("%s: '%s'", bad[n].keys, err.msg);
		config_free(c);
	}
}

/* A file of fw_cfg, by its ports. */
static void fw_cfg_file(struct machine *m, const char *name, char *out, size_t room)
{
	uint8_t dir[4 + 64 * 32];
	uint64_t v;

	assert_true(bus_write(m->vm->bus, BUS_PORT, 0x510, 2, 0x19));
	for (size_t n = 0; n < sizeof(dir); n++) {
		assert_true(bus_read(m->vm->bus, BUS_PORT, 0x511, 1, &v));
		dir[n] = (uint8_t)v;
	}
	memset(out, 0, room);
	for (uint8_t *e = dir + 4; e < dir + sizeof(dir); e += 64) {
		if (strcmp((char *)e + 8, name) != 0)
			continue;
		bus_write(m->vm->bus, BUS_PORT, 0x510, 2, ld_be16(e + 4));
		assert_true(ld_be32(e) <= room);
		for (size_t n = 0; n < ld_be32(e); n++) {
			bus_read(m->vm->bus, BUS_PORT, 0x511, 1, &v);
			out[n] = (char)v;
		}
		return;
	}
}

static void make_file(const char *path, uint8_t byte, size_t size)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	for (size_t n = 0; n < size; n++)
		fputc(byte, f);
	fclose(f);
}

/* Firmware finds another order up to the first reset, and then the usual one. */
static void an_order_of_booting_may_be_for_once(void **state)
{
	static const char disk[] = "/pci@i0cf8/ide@1,1/drive@0/disk@0\n", cd[] = "/pci@i0cf8/ide@1,1/drive@1/disk@0\n";
	const char *rom = machines_path("rom"), *image = machines_path("disk");
	struct machine m;
	char keys[512], order[1024], want[1024];

	make_file(rom, 0xf4, 65536);
	make_file(image, 0, 4096);
	snprintf(keys, sizeof(keys),
		 "memory=16 serial0=null rng=off firmware=%s disk0.path=%s disk0.format=raw disk0.bus=ide "
		 "cdrom0.path=none "
		 "boot.once=cdrom boot.order=disk,cdrom",
		 rom, image);
	machine_new(&m, NULL, keys);
	machine_start(&m);
	snprintf(want, sizeof(want), "%sHALT\n", cd);
	for (unsigned n = 0; n < 2; n++) {
		fw_cfg_file(&m, "bootorder", order, sizeof(order));
		assert_string_equal(order, want);
	}
	for (unsigned n = 0; n < 2; n++) {
		machine_do(&m, "system_reset");
		snprintf(want, sizeof(want), "%s%sHALT\n", disk, cd);
		fw_cfg_file(&m, "bootorder", order, sizeof(order));
		assert_string_equal(order, want);
	}
	assert_int_equal(machine_quit(&m), 0);
}

/* The processor, and so the guest, knows no other addresses. */
static void high_bars_lie_where_the_processor_reaches(void **state)
{
	static const struct {
		const char *keys;
		uint64_t from, to;
	} cases[] = {
		{ "phys-bits=52", 1ull << 41, 1ull << 42 }, { "phys-bits=42", 1ull << 41, 1ull << 42 },
		{ "phys-bits=39", 1ull << 38, 1ull << 39 }, { "phys-bits=33", 1ull << 32, 1ull << 33 },
		{ "phys-bits=33 memory=4G", 0, 0 },	    { "phys-bits=32", 0, 0 },
	};

	for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
		struct acpi_config acpi;
		struct machine m;
		char keys[80];

		snprintf(keys, sizeof(keys), "engine=interp cpu.model=max,%s", cases[k].keys);
		machine_new(&m, CODE_COUNT, keys);
		acpi = pc_acpi(m.vm);
		vm_free(m.vm);
		config_free(m.config);
		assert_true(acpi.pci_high == cases[k].from);
		assert_true(acpi.pci_high_end == cases[k].to);
	}
}

static void a_second_cpu_runs_and_is_reset(void **state)
{
	struct machine m;

	machine_new(&m, CODE_TWO, "cpus=2");
	machine_start(&m);
	machine_wait_progress(&m, AP_COUNTER);
	machine_do(&m, "system_reset");
	machine_wait_progress(&m, AP_COUNTER);
	machine_wait_progress(&m, COUNTER);
	assert_int_equal(machine_quit(&m), 0);
}

static const char *reason_of(json_t *event)
{
	return json_string_value(json_object_get(json_object_get(event, "data"), "reason"));
}

/* Runs `code` with --no-reboot until it ends by itself. */
static int ends(const struct code *code, const char *keys, const char *reason)
{
	struct machine m;
	char with[128];
	json_t *e;

	snprintf(with, sizeof(with), "paused=on no-reboot=on %s", keys);
	machine_new(&m, code, with);
	machine_start(&m);
	machine_do(&m, "cont");
	e = machine_event(&m, "SHUTDOWN");
	assert_string_equal(reason_of(e), reason);
	assert_true(json_is_true(json_object_get(json_object_get(e, "data"), "guest")));
	json_decref(e);
	return machine_end(&m);
}

static void a_guest_ends_its_machine(void **state)
{
	/* mov al, 3; mov dx, 501h; out dx, al; jmp to itself */
	const struct code *debug_exit = CODE("\xb0\x03\x66\xba\x01\x05\xee\xeb\xfe");

	assert_int_equal(ends(CODE_POWER_OFF, "", "guest-shutdown"), 0);
	assert_int_equal(ends(CODE_RESET, "", "guest-reset"), 0);
	assert_int_equal(ends(debug_exit, "isa-debug-exit=on", "guest-shutdown"), 7);
	/* Fatal faults have a status of their own. */
	assert_int_equal(ends(CODE_TRIPLE_FAULT, "", "guest-reset"), 2);
	assert_int_equal(ends(CODE_NOWHERE, "", "guest-reset"), 2);
}

static long resident_kib(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	assert_true(f && fscanf(f, "%*s %ld", &pages) == 1);
	fclose(f);
	return pages * 4;
}

/* Standard error goes to a file meanwhile. */
static char *said(void (*fn)(void))
{
	static char text[4096];
	FILE *f = tmpfile();
	int old = dup(2);
	size_t n;

	assert_true(f && dup2(fileno(f), 2) == 2);
	fn();
	dup2(old, 2);
	close(old);
	rewind(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = 0;
	fclose(f);
	return text;
}

#ifdef __SANITIZE_ADDRESS__ /* which keeps what was freed for a while */
#define RESIDENT_GROWTH_KIB 300000
#elif !defined(__x86_64__) /* under qemu-user, which keeps what it has translated */
#define RESIDENT_GROWTH_KIB 32768
#else
#define RESIDENT_GROWTH_KIB 2048
#endif

/* For ever, with one line and no more memory. */
static void fault_again_and_again(void)
{
	struct machine m;
	long before = 0;
	json_t *e;

	machine_new(&m, CODE_TRIPLE_FAULT, "");
	machine_start(&m);
	for (int n = 0; n < 200; n++) {
		e = machine_event(&m, "RESET");
		assert_string_equal(reason_of(e), "guest-reset");
		json_decref(e);
		if (n == 50)
			before = resident_kib();
	}
	assert_in_range(resident_kib(), 0, before + RESIDENT_GROWTH_KIB);
	assert_int_equal(machine_quit(&m), 0);
}

static void endless_faults_are_told_once(void **state)
{
	char *text = said(fault_again_and_again), *at = strstr(text, "triple fault");

	assert_non_null(at);
	assert_null(strstr(at + 1, "triple fault"));
	assert_non_null(strstr(text, "triple fault at 0010:0x100027"));
}

static void a_reset_that_is_asked_for_while_paused_comes_once(void **state)
{
	struct machine m;
	json_t *e;

	machine_new(&m, CODE_RESET, "paused=on");
	machine_start(&m);
	machine_do(&m, "cont");
	for (int n = 0; n < 20; n++) {
		e = machine_event(&m, "RESET");
		json_decref(e);
	}
	machine_do(&m, "stop");
	machine_do(&m, "system_reset");
	assert_true(machine_is(&m, "paused"));
	assert_int_equal(machine_quit(&m), 0);
}

/* --- everything at the same time --- */

static atomic_bool stress_over;

static void *pester(void *opaque)
{
	const char *const *commands = opaque;
	struct machine c = { .qmp = -1 };
	struct err err;

	c.qmp = rundir_connect("m", "qmp.sock", &err);
	json_decref(machine_message(&c));
	machine_do(&c, "qmp_capabilities");
	for (int n = 0; !atomic_load(&stress_over); n++)
		machine_do(&c, commands[n & 1]);
	close(c.qmp);
	return NULL;
}

static void *kick(void *opaque)
{
	struct vm *vm = opaque;

	for (unsigned n = 0; !atomic_load(&stress_over); n++) {
		vcpu_kick(vm->cpu[n & 1].vcpu);
		vcpu_signal(vm->cpu[n & 1].vcpu, n & 2 ? CPU_SIGNAL_INTR : CPU_SIGNAL_NMI, 0);
		usleep(50);
	}
	return NULL;
}

static void pauses_resets_and_kicks_at_once(void **state)
{
	static const char *const pause[] = { "stop", "cont" }, *const reset[] = { "system_reset", "query-status" },
				 *const button[] = { "system_powerdown", "query-cpus-fast" };
	struct {
		void *(*fn)(void *opaque);
		void *opaque;
		pthread_t thread;
	} t[] = { { pester, (void *)pause, 0 },
		  { pester, (void *)pause, 0 },
		  { pester, (void *)reset, 0 },
		  { pester, (void *)button, 0 },
		  { kick, NULL, 0 } };
	struct machine m;

	machine_new(&m, CODE_TWO, "cpus=2");
	machine_start(&m);
	t[4].opaque = m.vm;
	atomic_store(&stress_over, false);
	for (size_t n = 0; n < 5; n++)
		assert_int_equal(pthread_create(&t[n].thread, NULL, t[n].fn, t[n].opaque), 0);
	/* Who does not read its events is dropped. */
	for (time_t end = time(NULL) + 2; time(NULL) < end;)
		machine_do(&m, "query-name");
	atomic_store(&stress_over, true);
	for (size_t n = 0; n < 5; n++)
		pthread_join(t[n].thread, NULL);
	machine_do(&m, "cont");
	machine_do(&m, "system_reset");
	machine_wait_progress(&m, COUNTER);
	machine_wait_progress(&m, AP_COUNTER);
	assert_int_equal(machine_quit(&m), 0);
}

static void many_machines_come_and_go(void **state)
{
	for (int n = 0; n < 30; n++) {
		struct machine m;

		machine_new(&m, n & 1 ? CODE_TWO : CODE_HALT, "cpus=2 rng=on balloon=on console0=socket");
		machine_start(&m);
		machine_quit(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stop_holds_the_guest_and_cont_lets_it_go),
		cmocka_unit_test(a_machine_may_begin_paused),
		cmocka_unit_test(an_order_of_booting_may_be_for_once),
		cmocka_unit_test(memory_may_be_a_file),
		cmocka_unit_test(memory_may_be_a_memfd),
		cmocka_unit_test(memory_may_be_of_huge_pages),
		cmocka_unit_test(memory_that_cannot_be_is_refused),
		cmocka_unit_test(high_bars_lie_where_the_processor_reaches),
		cmocka_unit_test(a_second_cpu_runs_and_is_reset),
		cmocka_unit_test(a_guest_ends_its_machine),
		cmocka_unit_test(endless_faults_are_told_once),
		cmocka_unit_test(a_reset_that_is_asked_for_while_paused_comes_once),
		cmocka_unit_test(pauses_resets_and_kicks_at_once),
		cmocka_unit_test(many_machines_come_and_go),
	};

	return cmocka_run_group_tests(tests, machines_begin, machines_end);
}
