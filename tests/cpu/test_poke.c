/*
 * Cross-modifying code (SDM vol. 3, 8.1.3) as Linux does it for alternatives, static keys, static calls and ftrace:
 * INT3 over the first byte, then the rest, then the first byte, with an interrupt to all others in between. What they
 * run is in poke_guest.asm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <time.h>

#include "poke_guest.h"
#include "tiny_vm.h"

enum routine { POKER, POKED, BREAKPOINT, SYNC_HANDLER };

#define DONE	0x8f00u
#define ACKS	0x8f40u
#define STOP	0x8f48u
#define MEETING 0x9000u
#define IDT	0x50000u
#define SITES	0x60000u
#define STACKS	0x80000u
#define VERSION 0x200000u
#define RESULTS 0x201000u

#define POKES	  50
#define TICKS_MAX 600000u /* two minutes at least */

static struct tiny_vm vm;

static int setup(void **state)
{
	tiny_vm_new_with(&vm, TINY_CPUS, CLOCK_SOURCE_HOST);
	clock_start(vm.clock);
	mem_write(vm.mem, gpa(TINY_CODE), poke_guest, sizeof(poke_guest));
	return 0;
}

static int teardown(void **state)
{
	tiny_vm_free(&vm);
	return 0;
}

static uint64_t get64(uint64_t at)
{
	uint64_t v;

	assert_true(mem_read(vm.mem, gpa(at), &v, 8));
	return v;
}

static void put64(uint64_t at, uint64_t v)
{
	assert_true(mem_write(vm.mem, gpa(at), &v, 8));
}

static uint64_t address_of(enum routine r)
{
	return poke_guest[4 * r] | poke_guest[4 * r + 1] << 8 | poke_guest[4 * r + 2] << 16;
}

static void set_gate(unsigned vector, enum routine handler)
{
	uint64_t at = address_of(handler);

	put64(IDT + 16 * vector, (at & 0xffff) | 0x10ull << 16 | 0x8e00ull << 32 | (at & 0xffff0000) << 32);
	put64(IDT + 16 * vector + 8, 0);
}

static void enter(unsigned cpu, unsigned cpus, uint64_t site, unsigned kind)
{
	struct x86_state *s = &tiny_cpu_at(&vm, cpu)->s;

	tiny_vm_enter64(&vm, cpu, address_of(cpu ? POKED : POKER), STACKS + 0x1000 * cpu);
	s->idt = (struct x86_dtable){ IDT, 0xfff };
	s->gpr[X86_RDI] = VERSION;
	s->gpr[X86_RSI] = RESULTS;
	s->gpr[X86_RCX] = POKES;
	s->gpr[X86_RBX] = cpu;
	s->gpr[X86_R8] = MEETING;
	s->gpr[X86_R8 + 1] = cpus;
	s->gpr[X86_R8 + 2] = kind;
	s->gpr[X86_R8 + 3] = site;
}

static atomic_uint unfinished;

static bool done(const struct vcpu *v)
{
	return get64(DONE + 8 * v->index) != 0;
}

static void *run_vcpu(void *opaque)
{
	struct vcpu *v = opaque;

	/* A kick is the test's: it has waited for too long. */
	while (v->engine->run(v) == CPU_EXIT_HALTED && !done(v))
		vcpu_wait(v, -1);
	atomic_fetch_sub(&unfinished, 1);
	return NULL;
}

static void run(unsigned cpus)
{
	pthread_t thread[TINY_CPUS];
	unsigned waited = 0;

	atomic_store(&unfinished, cpus);
	for (unsigned n = 0; n < cpus; n++)
		assert_int_equal(pthread_create(&thread[n], NULL, run_vcpu, vm.vcpus[n]), 0);
	while (atomic_load(&unfinished) && waited++ < TICKS_MAX)
		nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
	for (unsigned n = 0; waited >= TICKS_MAX && n < cpus; n++)
		vcpu_kick(vm.vcpus[n]);
	for (unsigned n = 0; n < cpus; n++)
		pthread_join(thread[n], NULL);
	for (unsigned n = 0; n < cpus; n++)
		if (!done(vm.vcpus[n]))
			fail_msg("CPU %u did not come to its end (RIP %#llx)", n,
				 (unsigned long long)tiny_cpu_at(&vm, n)->s.gpr[X86_RIP]);
}

/* `at`: of the instruction in its page. */
static void poke(uint64_t at, unsigned kind, unsigned cpus)
{
	static const uint8_t nothing[] = { 0xb8, 0, 0, 0, 0, 0xc3 };

	mem_write(vm.mem, gpa(SITES + at), nothing, sizeof(nothing));
	set_gate(X86_BP, BREAKPOINT);
	set_gate(0x41, SYNC_HANDLER);
	put64(MEETING, 0);
	put64(ACKS, 0);
	put64(STOP, 0);
	put64(VERSION, 0);
	for (unsigned n = 0; n < 3; n++)
		put64(RESULTS + 8 * n, 0);
	for (unsigned n = 0; n < cpus; n++) {
		put64(DONE + 8 * n, 0);
		enter(n, cpus, SITES + at, kind);
	}
	run(cpus);
	if (get64(RESULTS))
		fail_msg("at %#llx: %llu of %llu were neither the old nor the new instruction", (unsigned long long)at,
			 (unsigned long long)get64(RESULTS), (unsigned long long)get64(RESULTS + 16));
	/* Both were met each time. */
	assert_true(get64(RESULTS + 8) >= POKES && get64(RESULTS + 16) >= POKES);
}

/* In a line, across lines, across pages; with the opcode alone in its page, and with only the last byte in the next. */
static const uint64_t places[] = { 0x10, 0x7d, 0xfff, 0xffc };

static void a_constant_is_patched(void **state)
{
	for (unsigned n = 0; n < 4; n++)
		poke(places[n], 0, 2);
}

static void a_call_is_patched(void **state)
{
	for (unsigned n = 0; n < 4; n++)
		poke(places[n], 1, 2);
}

static void a_jump_is_patched(void **state)
{
	for (unsigned n = 0; n < 4; n++)
		poke(places[n], 2, 2);
}

static void several_execute_it(void **state)
{
	poke(places[0], 1, 4);
	poke(places[2], 0, 4);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_constant_is_patched),
		TEST(a_call_is_patched),
		TEST(a_jump_is_patched),
		TEST(several_execute_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
