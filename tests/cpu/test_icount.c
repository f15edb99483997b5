/* Counted time: what counts as an instruction, and that timers fire after exactly the one that reached them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tiny_vm.h"

static struct tiny_vm vm;
static struct clock_timer timer;

static int setup(void **state)
{
	tiny_vm_new_with(&vm, 1, CLOCK_SOURCE_ICOUNT);
	return 0;
}

static int teardown(void **state)
{
	tiny_vm_free(&vm);
	return 0;
}

#define CODE (TINY_CODE + 0x345)
static void load(const uint8_t *code, size_t len)
{
	mem_write(vm.mem, gpa(CODE), code, len);
	tiny_vm_enter64(&vm, 0, CODE, TINY_STACK);
}

static void stop(void *opaque)
{
	vcpu_kick(vm.vcpu);
}

static void run_until(int64_t deadline)
{
	clock_timer_init(&timer, vm.clock, NULL, stop, NULL);
	clock_timer_arm(&timer, deadline);
	assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_KICKED);
}

#define RUN(...)                                                                                                       \
	do {                                                                                                           \
		static const uint8_t code_[] = { __VA_ARGS__, 0xf4 };                                                  \
		load(code_, sizeof(code_));                                                                            \
		assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_HALTED);                                            \
	} while (0)

/* 70 times "inc rax", then back to the start: longer than a trace, and no divisor of anything. */
static void load_increments(void)
{
	static uint8_t code[3 * 70 + 5];

	for (unsigned n = 0; n < 70; n++)
		memcpy(code + 3 * n, "\x48\xff\xc0", 3);
	memcpy(code + 210, "\xe9\x29\xff\xff\xff", 5); /* jmp -215 */
	load(code, sizeof(code));
}

static void a_timer_fires_after_exactly_its_instruction(void **state)
{
	uint64_t before;

	for (int64_t d = 1; d < 300; d++) {
		load_increments();
		before = vm.vcpu->instructions;
		run_until(clock_now_ns(vm.clock) + d);
		assert_int_equal(vm.vcpu->instructions - before, d);
		assert_int_equal(tiny_cpu(&vm)->s.gpr[X86_RAX], d - d / 71);
		assert_int_equal(tiny_cpu(&vm)->s.gpr[X86_RIP], CODE + 3 * (d % 71));
	}
}

static void time_is_what_was_retired(void **state)
{
	load_increments();
	run_until(1000);
	run_until(12345678);
	assert_int_equal(clock_now_ns(vm.clock), 12345678);
	assert_int_equal(vm.vcpu->instructions, 12345678);
}

static void the_tsc_counts_in_the_middle_of_a_trace(void **state)
{
	/* rdtsc; mov ebx, eax; nop x 5; rdtsc; sub eax, ebx */
	RUN(0x0f, 0x31, 0x89, 0xc3, 0x90, 0x90, 0x90, 0x90, 0x90, 0x0f, 0x31, 0x29, 0xd8);
	assert_int_equal(tiny_cpu(&vm)->s.gpr[X86_RAX], 7);
}

static void a_repeated_instruction_counts_once(void **state)
{
	/* mov ecx, 5000; mov edi, 0x20ff0; rep stosb; then repne scasb, which stops at the first byte */
	RUN(0xb9, 0x88, 0x13, 0, 0, 0xbf, 0xf0, 0x0f, 0x02, 0, 0xf3, 0xaa, 0xb9, 9, 0, 0, 0, 0xbf, 0xf0, 0x0f, 0x02, 0,
	    0xf2, 0xae, 0x90, 0x90);
	assert_int_equal(tiny_cpu(&vm)->s.gpr[X86_RCX], 8);
	assert_int_equal(vm.vcpu->instructions, 9);
}

static void a_faulting_instruction_does_not_count(void **state)
{
	static const uint8_t code[] = { 0x90, 0x90, 0x0f, 0x0b, 0x90, 0x90 }; /* nop; nop; ud2; nop; nop */

	load(code, sizeof(code));
	assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_SHUTDOWN);
	assert_int_equal(vm.vcpu->instructions, 2);
}

static void a_trace_that_changes_itself_counts_what_ran(void **state)
{
	/* mov byte [rip + 1], 2 (the immediate of the next one); mov al, 1; nop; nop */
	RUN(0xc6, 0x05, 1, 0, 0, 0, 2, 0xb0, 1, 0x90, 0x90);
	assert_int_equal(tiny_cpu(&vm)->s.gpr[X86_RAX] & 0xff, 2);
	assert_int_equal(vm.vcpu->instructions, 5);
}

static void arm_close(struct tiny_vm *t, uint64_t addr)
{
	clock_timer_arm(&timer, clock_now_ns(t->clock) + 3);
}

static void a_device_may_arm_a_timer_within_the_trace(void **state)
{
	/* mov [0x3000000], eax; inc rax x 8 */
	static const uint8_t code[] = { 0x90, 0x89, 0x04, 0x25, 0,    0,    0,	  3,	0x48, 0xff, 0xc0,
					0x48, 0xff, 0xc0, 0x48, 0xff, 0xc0, 0x48, 0xff, 0xc0, 0x48, 0xff,
					0xc0, 0x48, 0xff, 0xc0, 0x48, 0xff, 0xc0, 0x48, 0xff, 0xc0, 0xf4 };

	vm.on_mmio = arm_close;
	clock_timer_init(&timer, vm.clock, NULL, stop, NULL);
	load(code, sizeof(code));
	assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_KICKED);
	/* The store is at 1 ns and takes one; two more to the deadline at 4. */
	assert_int_equal(tiny_cpu(&vm)->s.gpr[X86_RAX], 2);
	assert_int_equal(clock_now_ns(vm.clock), 4);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_timer_fires_after_exactly_its_instruction), TEST(time_is_what_was_retired),
		TEST(the_tsc_counts_in_the_middle_of_a_trace),	   TEST(a_repeated_instruction_counts_once),
		TEST(a_faulting_instruction_does_not_count),	   TEST(a_trace_that_changes_itself_counts_what_ran),
		TEST(a_device_may_arm_a_timer_within_the_trace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
