/*
 * The clocks that a guest reads without leaving: TSC and kvmclock. VCPUs on threads of their own never see time go
 * back, whoever looked last, also around a pause and in another machine after a restore. What they run is in
 * clock_guest.asm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "clock_guest.h"
#include "tiny_vm.h"

#define CPUS	 3
#define SHARED	 0x30000u
#define LAST	 (SHARED + 8)
#define ERRORS	 (SHARED + 16)
#define CHANGES	 (SHARED + 24)
#define PAGE(n)	 (0x40000u + 64 * (n)) /* of kvmclock */
#define MSR_TIME 0x4b564d01u
#define MSR_ADJ	 0x3bu

enum routine { TSC, KVMCLOCK };

static uint64_t get64(struct tiny_vm *vm, uint64_t at)
{
	uint64_t v;

	assert_true(mem_read(vm->mem, gpa(at), &v, 8));
	return v;
}

/* Go on at `rip` with these registers; all else, and so what concerns time, stays. */
static void go_to(struct tiny_vm *vm, unsigned cpu, uint64_t rip, uint64_t times)
{
	struct x86_state *s = malloc(sizeof(*s));
	struct err err;

	assert_non_null(s);
	vm->engine->get_state(vm->vcpus[cpu], s);
	s->run = X86_RUNNING;
	s->gpr[X86_RIP] = rip;
	s->gpr[X86_RDI] = SHARED;
	s->gpr[X86_RSI] = PAGE(cpu);
	s->gpr[X86_RCX] = times;
	s->gpr[X86_RBX] = cpu;
	assert_int_equal(vm->engine->set_state(vm->vcpus[cpu], s, &err), 0);
	free(s);
}

/* mov ecx, msr; mov eax, low; mov edx, high; wrmsr; hlt */
static void write_msr(struct tiny_vm *vm, unsigned cpu, uint32_t msr, uint64_t val)
{
	uint8_t code[] = { 0xb9, 0, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0xba, 0, 0, 0, 0, 0x0f, 0x30, 0xf4 };
	uint32_t parts[] = { msr, (uint32_t)val, (uint32_t)(val >> 32) };

	for (unsigned n = 0; n < 3; n++)
		for (unsigned b = 0; b < 4; b++)
			code[1 + 5 * n + b] = (uint8_t)(parts[n] >> 8 * b);
	assert_true(mem_write(vm->mem, gpa(0x20000), code, sizeof(code)));
	go_to(vm, cpu, 0x20000, 0);
	assert_int_equal(vm->engine->run(vm->vcpus[cpu]), CPU_EXIT_HALTED);
}

static void make(struct tiny_vm *vm)
{
	tiny_vm_new_with(vm, CPUS, CLOCK_SOURCE_HOST);
	assert_true(mem_write(vm->mem, gpa(TINY_CODE), clock_guest, sizeof(clock_guest)));
}

static void start(struct tiny_vm *vm)
{
	make(vm);
	clock_start(vm->clock);
	for (unsigned n = 0; n < CPUS; n++)
		tiny_vm_enter64(vm, n, TINY_CODE, TINY_STACK + 0x1000 * n);
	/* Not all at the same time. */
	for (unsigned n = 0; n < CPUS; n++) {
		write_msr(vm, n, MSR_TIME, PAGE(n) | 1);
		usleep(1000);
	}
}

static void *run_vcpu(void *opaque)
{
	struct vcpu *v = opaque;

	assert_int_equal(v->engine->run(v), CPU_EXIT_HALTED);
	return NULL;
}

/* All vCPUs read so many times; nobody saw a time go back. */
static void watch(struct tiny_vm *vm, enum routine r, uint64_t times)
{
	uint32_t at =
		clock_guest[4 * r] | (uint32_t)clock_guest[4 * r + 1] << 8 | (uint32_t)clock_guest[4 * r + 2] << 16;
	pthread_t thread[CPUS];

	for (unsigned n = 0; n < CPUS; n++)
		go_to(vm, n, at, times);
	for (unsigned n = 0; n < CPUS; n++)
		assert_int_equal(pthread_create(&thread[n], NULL, run_vcpu, vm->vcpus[n]), 0);
	for (unsigned n = 0; n < CPUS; n++)
		pthread_join(thread[n], NULL);
	assert_int_equal(get64(vm, ERRORS), 0);
}

static void processors_agree_on_the_time(void **state)
{
	struct tiny_vm vm;

	start(&vm);
	for (enum routine r = TSC; r <= KVMCLOCK; r++) {
		int64_t before = clock_now_ns(vm.clock);

		assert_true(mem_fill(vm.mem, gpa(SHARED), 0, 64));
		/* Until they took turns: a busy host may run one after the other. */
		for (unsigned tries = 0; tries < 100 && get64(&vm, CHANGES) <= CPUS; tries++)
			watch(&vm, r, 1000000);
		assert_true(get64(&vm, CHANGES) > CPUS);
		/* It is the machine's time. */
		assert_in_range(get64(&vm, LAST), before, clock_now_ns(vm.clock));
	}
	tiny_vm_free(&vm);
}

static void a_pause_is_no_time(void **state)
{
	struct tiny_vm vm;
	int64_t at;

	start(&vm);
	for (enum routine r = TSC; r <= KVMCLOCK; r++) {
		assert_true(mem_fill(vm.mem, gpa(SHARED), 0, 64));
		watch(&vm, r, 1000);
		clock_stop(vm.clock);
		at = clock_now_ns(vm.clock);
		usleep(30000);
		/* Nothing moves: the next reader sees the time of the pause. */
		watch(&vm, r, 1);
		assert_int_equal(get64(&vm, LAST), at);
		clock_start(vm.clock);
		watch(&vm, r, 1000);
		assert_in_range(get64(&vm, LAST), at, clock_now_ns(vm.clock));
	}
	tiny_vm_free(&vm);
}

/* TSC_ADJUST moves one processor's TSC; kvmclock is the time of all, so its page follows. */
static void kvmclock_follows_a_tsc_that_was_moved(void **state)
{
	struct tiny_vm vm;

	start(&vm);
	write_msr(&vm, 1, MSR_ADJ, 1ull << 50);
	write_msr(&vm, 2, 0x10, 12345);
	assert_true(mem_fill(vm.mem, gpa(SHARED), 0, 64));
	watch(&vm, KVMCLOCK, 1000);
	assert_in_range(get64(&vm, LAST), 1, clock_now_ns(vm.clock));
	tiny_vm_free(&vm);
}

static void move_clock(struct vclock *from, struct vclock *to)
{
	struct err err;
	char *buf;
	size_t len;
	FILE *f = open_memstream(&buf, &len);

	assert_int_equal(state_save(f, &clock_state, "0", from, &err), 0);
	fclose(f);
	f = fmemopen(buf, len, "r");
	assert_int_equal(state_load(f, &clock_state, "0", to, &err), 0);
	fclose(f);
	free(buf);
}

static void a_restored_machine_goes_on_with_the_time(void **state)
{
	struct x86_state *s = malloc(sizeof(*s));
	uint8_t *ram = malloc(TINY_RAM);
	struct tiny_vm a, b;
	struct err err;
	int64_t at;

	assert_non_null(s);
	assert_non_null(ram);
	for (enum routine r = TSC; r <= KVMCLOCK; r++) {
		start(&a);
		/* Which the other machine does not know from anywhere else. */
		write_msr(&a, 0, MSR_ADJ, r == TSC ? 0 : 1ull << 40);
		watch(&a, r, 1000);
		clock_stop(a.clock);
		at = clock_now_ns(a.clock);
		usleep(30000);
		make(&b);
		move_clock(a.clock, b.clock);
		assert_true(mem_read(a.mem, gpa(0), ram, TINY_RAM) && mem_write(b.mem, gpa(0), ram, TINY_RAM));
		for (unsigned n = 0; n < CPUS; n++) {
			a.engine->get_state(a.vcpus[n], s);
			assert_int_equal(b.engine->set_state(b.vcpus[n], s, &err), 0);
		}
		tiny_vm_free(&a);
		clock_start(b.clock);
		watch(&b, r, 1000);
		assert_in_range(get64(&b, LAST), at, clock_now_ns(b.clock));
		tiny_vm_free(&b);
	}
	free(ram);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(processors_agree_on_the_time),
		cmocka_unit_test(a_pause_is_no_time),
		cmocka_unit_test(kvmclock_follows_a_tsc_that_was_moved),
		cmocka_unit_test(a_restored_machine_goes_on_with_the_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
