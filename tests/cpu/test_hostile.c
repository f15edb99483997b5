/*
 * Guests that do what is slow as fast as they can: write their own code, map a page everywhere, change modes and
 * mappings, run from device memory. They stay right, can be stopped at any time, and do not grow. What they run is
 * in hostile_guest.asm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "base/bytes.h"
#include "hostile_guest.h"
#include "tiny_vm.h"

enum guest { REWRITER, ALIASES, MODES, REMAPS, SPACES, DEVICE, WIPES };

#define ROUNDS	0x200000u
#define ERRORS	(ROUNDS + 8)
#define FRAME	0x72000u  /* and the next one */
#define SECOND	0x120000u /* the tables of another address space */
#define MANY	0x8000000u
#define TABLES	0x100000u
#define MOVING	0x600000u
#define DEVICES 0x3000000u
#define RUN_MS	400
#define STOP_MS 20000 /* the host may be busy */
/* A translator's cache, the second view of its code, traces, the guest's own memory. */
#define GROWS_MB (64 + 48 + 40)

/* Time and memory are looked at where programs are as they are meant to be. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__x86_64__)
#define PLAIN false
#elif defined(__has_feature)
#define PLAIN (!__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer))
#else
#define PLAIN true
#endif

static struct tiny_vm vm;

static int setup(void **state)
{
	tiny_vm_new(&vm);
	mem_write(vm.mem, gpa(TINY_CODE), hostile_guest, sizeof(hostile_guest));
	return 0;
}

static int teardown(void **state)
{
	tiny_vm_free(&vm);
	return 0;
}

static void put(uint64_t at, const void *bytes, size_t len)
{
	assert_true(mem_write(vm.mem, gpa(at), bytes, len));
}

static void put64(uint64_t at, uint64_t v)
{
	put(at, &v, 8);
}

static uint64_t get64(uint64_t at)
{
	uint64_t v;

	assert_true(mem_read(vm.mem, gpa(at), &v, 8));
	return v;
}

/* --- running --- */

static long resident_mb(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	long all = 0, resident = 0;

	if (f && fscanf(f, "%ld %ld", &all, &resident) != 2)
		resident = 0;
	if (f)
		fclose(f);
	return resident / 256;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
}

static enum cpu_exit why;
static void *run_vcpu(void *opaque)
{
	why = vm.engine->run(vm.vcpu);
	return NULL;
}

static void enter(enum guest g, uint64_t rsi, uint64_t r8, uint64_t r9)
{
	const uint8_t *at = hostile_guest + 4 * g;
	struct x86_state *s = &tiny_cpu(&vm)->s;

	tiny_vm_enter64(&vm, 0, ld_le32(at), TINY_STACK);
	s->cr4 |= X86_CR4_OSFXSR;
	s->gdt.limit = 0x2f;
	s->gpr[X86_RDI] = ROUNDS;
	s->gpr[X86_RSI] = rsi;
	s->gpr[X86_R8] = r8;
	s->gpr[X86_R8 + 1] = r9;
	x86_update_mode(tiny_cpu(&vm));
}

static double processor_seconds(pthread_t thread)
{
	struct timespec t = { 0 };
	clockid_t clock;

	if (!pthread_getcpuclockid(thread, &clock))
		clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Let it run for a while; it must get on, be right, and stop. `least`: rounds in a second of processor time. */
static void endure(unsigned least)
{
	double seconds;
	long before = resident_mb();
	uint64_t begin = now_ms();
	pthread_t t;

	put64(ROUNDS, 0);
	put64(ERRORS, 0);
	assert_int_equal(pthread_create(&t, NULL, run_vcpu, NULL), 0);
	while (now_ms() - begin < RUN_MS || (!get64(ROUNDS) && now_ms() - begin < STOP_MS))
		nap();
	seconds = processor_seconds(t);
	vcpu_kick(vm.vcpu);
	begin = now_ms();
	pthread_join(t, NULL);
	assert_true(now_ms() - begin < STOP_MS);
	assert_int_equal(get64(ERRORS), 0);
	assert_int_equal(why, CPU_EXIT_KICKED);
	assert_true(get64(ROUNDS) > 0);
	if (PLAIN && (double)get64(ROUNDS) < least * seconds)
		fail_msg("%llu rounds in %.2f s", (unsigned long long)get64(ROUNDS), seconds);
	if (PLAIN && resident_mb() - before > GROWS_MB)
		fail_msg("it grew by %ld MB", resident_mb() - before);
}

/* --- what they find --- */

static const uint8_t answers[2][6] = { { 0xb8, 0, 0, 0, 0, 0xc3 }, { 0xb8, 1, 0, 0, 0, 0xc3 } };

static void each_instruction_changes_the_next(void **state)
{
	enter(REWRITER, 0, 0, 0);
	endure(100);
}

static void a_string_goes_over_its_own_code(void **state)
{
	enter(WIPES, 0, 0, 0);
	endure(1000);
}

static void a_page_of_code_is_mapped_everywhere(void **state)
{
	static const uint8_t code[] = { 0x48, 0x8d, 0x05, 0, 0, 0, 0, 0xb9, 0, 0, 0, 0, 0xc3 };

	put(FRAME, code, sizeof(code));
	for (unsigned table = 0; table < 4; table++) {
		put64(0x3000 + 8 * ((MANY >> 21) + table), (TABLES + 0x1000 * table) | 3);
		for (unsigned n = 0; n < 512; n++)
			put64(TABLES + 0x1000 * table + 8 * n, FRAME | 3);
	}
	enter(ALIASES, MANY, FRAME, 0);
	endure(5);
}

static void modes_change_all_the_time(void **state)
{
	if (!x86_fp_host_ok()) {
		print_message("skipped: no floating point here\n");
		skip();
	}
	put64(TINY_GDT + 0x20, 0x00cf9b000000ffff);
	enter(MODES, 0, 0, 0);
	endure(10000);
}

static void mappings_change_all_the_time(void **state)
{
	put(FRAME, answers[0], 6);
	put(FRAME + 0x1000, answers[1], 6);
	for (unsigned n = 0; n < 8; n++)
		put64(0x3000 + 8 * ((MANY >> 21) + n), (TABLES + 0x1000 * n) | 3);
	for (unsigned n = 0; n < 4096; n++)
		put64(TABLES + 8 * n, FRAME | 3);
	enter(REMAPS, MANY, TABLES, FRAME);
	endure(50000);
}

static void address_spaces_change_all_the_time(void **state)
{
	uint8_t page[MEM_PAGE_SIZE];

	put(FRAME, answers[0], 6);
	put(FRAME + 0x1000, answers[1], 6);
	/* The second one differs in what is at MOVING. */
	mem_read(vm.mem, gpa(0x3000), page, sizeof(page));
	put(SECOND + 0x2000, page, sizeof(page));
	put64(SECOND, (SECOND + 0x1000) | 3);
	put64(SECOND + 0x1000, (SECOND + 0x2000) | 3);
	put64(0x3000 + 8 * (MOVING >> 21), TABLES | 3);
	put64(SECOND + 0x2000 + 8 * (MOVING >> 21), (TABLES + 0x1000) | 3);
	put64(TABLES, FRAME | 3);
	put64(TABLES + 0x1000, (FRAME + 0x1000) | 3);
	enter(SPACES, MOVING, TINY_CR3, SECOND);
	endure(30000);
}

static uint64_t device_read(struct tiny_vm *t, uint64_t addr)
{
	static const uint8_t code[] = { 0x48, 0xff, 0x07, 0xc3 };

	return addr - DEVICES < sizeof(code) ? code[addr - DEVICES] : 0xcc;
}

static void code_runs_from_a_device(void **state)
{
	vm.on_mmio_read = device_read;
	enter(DEVICE, DEVICES, 0, 0);
	endure(5000);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_instruction_changes_the_next),
		TEST(a_string_goes_over_its_own_code),
		TEST(a_page_of_code_is_mapped_everywhere),
		TEST(modes_change_all_the_time),
		TEST(mappings_change_all_the_time),
		TEST(address_spaces_change_all_the_time),
		TEST(code_runs_from_a_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
