/*
 * Several vCPUs on threads of their own: memory order, atomic updates of every kind and alignment, page-table bits,
 * code that another one writes, interrupts between them. What they run is in smp_guest.asm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "smp_guest.h"
#include "tiny_vm.h"

enum routine {
	STORE_BUFFERING,
	MESSAGE_PASSING,
	LOAD_BUFFERING,
	INDEPENDENT_READS,
	COHERENCE,
	SPINLOCK,
	OWN_BITS,
	COUNT8,
	COUNT16,
	COUNT32,
	COUNT64,
	COUNT8B,
	COUNT16B,
	WRITER,
	READER2,
	READER4,
	READER8,
	READER16,
	PTE_COUNTER,
	PTE_TOUCHER,
	PATCHER,
	PATCHED,
	LOOP_STOPPER,
	ENDLESS_LOOP,
	PING,
	PONG,
	KICKER,
	KICKED,
	SHOOTER,
	TARGET,
	ACK_HANDLER,
	PING_HANDLER,
	SHOOT_HANDLER
};

#define DONE	    0x8f00u
#define MEETING	    0x9000u
#define STACKS	    0x80000u
#define IDT	    0x50000u
#define GENERATED   0x60000u /* code that tests make themselves */
#define SMALL_TABLE 0x5000u  /* the page table of VARS */
#define VARS	    0x200000u
#define RESULTS	    0x400000u

static struct tiny_vm vm;

static int setup(void **state)
{
	tiny_vm_new_with(&vm, TINY_CPUS, CLOCK_SOURCE_HOST);
	clock_start(vm.clock);
	mem_write(vm.mem, gpa(TINY_CODE), smp_guest, sizeof(smp_guest));
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

static uint32_t get32(uint64_t at)
{
	return (uint32_t)get64(at);
}

static void put64(uint64_t at, uint64_t v)
{
	assert_true(mem_write(vm.mem, gpa(at), &v, 8));
}

static uint64_t address_of(enum routine r)
{
	return smp_guest[4 * r] | smp_guest[4 * r + 1] << 8 | smp_guest[4 * r + 2] << 16;
}

/* --- running --- */

/* Registers of one vCPU besides those that all routines have. */
struct job {
	uint64_t rip, rdi, rsi, rcx, r11;
};

static atomic_uint unfinished;
static pthread_barrier_t line_up;

static bool done(const struct vcpu *v)
{
	return get64(DONE + 8 * v->index) != 0;
}

static void *run_vcpu(void *opaque)
{
	struct vcpu *v = opaque;

	pthread_barrier_wait(&line_up);
	for (;;) {
		enum cpu_exit why = v->engine->run(v);

		if (why == CPU_EXIT_HALTED && !done(v))
			vcpu_wait(v, -1);
		else
			break;
	}
	atomic_fetch_sub(&unfinished, 1);
	return NULL;
}

static void enter(unsigned cpu, unsigned cpus, const struct job *j)
{
	struct x86_state *s = &tiny_cpu_at(&vm, cpu)->s;

	tiny_vm_enter64(&vm, cpu, j->rip, STACKS + 0x1000 * cpu);
	s->idt = (struct x86_dtable){ IDT, 0xfff };
	s->gpr[X86_RDI] = j->rdi;
	s->gpr[X86_RSI] = j->rsi;
	s->gpr[X86_RCX] = j->rcx;
	s->gpr[X86_RBX] = cpu;
	s->gpr[X86_R8] = MEETING;
	s->gpr[X86_R8 + 1] = cpus;
	s->gpr[X86_R8 + 3] = j->r11;
}

#define TICKS_MAX 600000u /* two minutes at least */

/* Run vCPU n with job n until all are done. */
static void run(const struct job *jobs, unsigned cpus)
{
	static const struct timespec tick = { 0, 200000 };
	pthread_t thread[TINY_CPUS];
	unsigned waited = 0;

	put64(MEETING, 0);
	for (unsigned n = 0; n < cpus; n++) {
		put64(DONE + 8 * n, 0);
		enter(n, cpus, &jobs[n]);
	}
	atomic_store(&unfinished, cpus);
	pthread_barrier_init(&line_up, NULL, cpus);
	for (unsigned n = 0; n < cpus; n++)
		assert_int_equal(pthread_create(&thread[n], NULL, run_vcpu, vm.vcpus[n]), 0);
	/* Minutes are a hang: a wake-up was lost, or a store never seen. */
	while (atomic_load(&unfinished) && waited++ < TICKS_MAX)
		nanosleep(&tick, NULL);
	for (unsigned n = 0; waited >= TICKS_MAX && n < cpus; n++)
		vcpu_kick(vm.vcpus[n]);
	for (unsigned n = 0; n < cpus; n++)
		pthread_join(thread[n], NULL);
	pthread_barrier_destroy(&line_up);
	for (unsigned n = 0; n < cpus; n++)
		if (!done(vm.vcpus[n]))
			fail_msg("CPU %u did not come to its end (RIP %#llx)", n,
				 (unsigned long long)tiny_cpu_at(&vm, n)->s.gpr[X86_RIP]);
}

/* The same for all. */
static void run_all(enum routine r, struct job j, unsigned cpus)
{
	struct job jobs[TINY_CPUS];

	j.rip = address_of(r);
	for (unsigned n = 0; n < cpus; n++)
		jobs[n] = j;
	run(jobs, cpus);
}

/* --- memory order: what x86-TSO forbids (SDM vol. 3, 8.2.3) is never seen --- */

#define ROUNDS 400000u

static void litmus(enum routine r, unsigned fence)
{
	struct job jobs[2];

	put64(VARS, 0);
	put64(VARS + 64, 0);
	for (unsigned n = 0; n < 2; n++) {
		jobs[n] = (struct job){ address_of(r), VARS, RESULTS + n * (4ull << 20), ROUNDS, fence };
		mem_fill(vm.mem, gpa(jobs[n].rsi), 0, 4 * (ROUNDS + 1));
	}
	run(jobs, 2);
}

/* Which round of the other processor was the last that round `n` of `cpu` saw. */
static uint32_t seen(unsigned cpu, uint32_t n)
{
	return get32(RESULTS + cpu * (4ull << 20) + 4ull * n);
}

/* How often both loads came before the other's store: the first store that round n did not see did not see n. */
static unsigned both_passed(void)
{
	unsigned count = 0;

	for (uint32_t n = 1; n <= ROUNDS; n++)
		count += seen(0, n) < ROUNDS && seen(1, seen(0, n) + 1) < n;
	return count;
}

static void stores_pass_later_loads_only_without_a_fence(void **state)
{
	for (unsigned fence = 1; fence <= 3; fence++) {
		/* MFENCE is one of SSE2, which a host without the guest's floating point cannot give. */
		if (fence == 1 && !x86_fp_host_ok())
			continue;
		litmus(STORE_BUFFERING, fence);
		if (both_passed())
			fail_msg("fence %u: both loads came first in %u rounds", fence, both_passed());
	}
	/* Allowed, and on most hosts seen. */
	litmus(STORE_BUFFERING, 0);
	print_message("without a fence: %u of %u\n", both_passed(), ROUNDS);
}

static void messages_arrive_after_what_they_announce(void **state)
{
	litmus(MESSAGE_PASSING, 0);
	assert_int_equal(get64(RESULTS + (4 << 20)), 0);
}

static void loads_are_not_passed_by_stores(void **state)
{
	litmus(LOAD_BUFFERING, 0);
	for (uint32_t n = 1; n <= ROUNDS; n++)
		if (seen(0, n) && seen(1, seen(0, n)) >= n)
			fail_msg("rounds %u and %u saw each other's later store", n, seen(0, n));
}

static void all_see_stores_in_one_order(void **state)
{
	const unsigned rounds = 8000;

	mem_fill(vm.mem, gpa(VARS), 0, rounds * 128);
	mem_fill(vm.mem, gpa(RESULTS), 0, rounds * 16);
	run_all(INDEPENDENT_READS, (struct job){ .rdi = VARS, .rsi = RESULTS, .rcx = rounds }, 4);
	for (unsigned k = 0; k < rounds; k++)
		if (get32(RESULTS + 16 * k + 8) == 1 && get32(RESULTS + 16 * k + 12) == 1)
			fail_msg("round %u: two orders of two stores", k);
}

static void a_location_never_goes_back(void **state)
{
	run_all(COHERENCE, (struct job){ .rdi = VARS, .rsi = RESULTS, .rcx = 1 }, 3);
	assert_int_equal(get64(RESULTS), 0);
}

/* --- atomic updates --- */

/* Instructions with LOCK on [rdi], of 8, 16, 32 and 64 bits by prefix and opcode; `step` is what one adds. */
static const struct {
	const char *name;
	uint8_t op8[4], op[4]; /* behind LOCK, operand size and REX.W */
	uint8_t len;
	int step;
} updates[] = {
	{ "inc", { 0xfe, 0x07 }, { 0xff, 0x07 }, 2, 1 },
	{ "dec", { 0xfe, 0x0f }, { 0xff, 0x0f }, 2, -1 },
	{ "add", { 0x00, 0x17 }, { 0x01, 0x17 }, 2, 3 }, /* DL, DX, EDX, RDX: 3 */
	{ "sub", { 0x28, 0x17 }, { 0x29, 0x17 }, 2, -3 },
	{ "add imm8", { 0x80, 0x07, 5 }, { 0x83, 0x07, 5 }, 3, 5 },
	{ "xadd", { 0x0f, 0xc0, 0x2f }, { 0x0f, 0xc1, 0x2f }, 3, 0 }, /* CH, BP and so on: the sum is not checked */
};

/* A loop around one instruction at GENERATED: reload the operands, update, count down. */
static void make_loop(unsigned n, unsigned size)
{
	uint8_t code[64], *p = code;
	static const uint8_t begin[] = { 0x4d, 0x31, 0xff,			     /* xor r15, r15 */
					 0x4d, 0x01, 0xcf,			     /* add r15, r9 */
					 0xf0, 0x49, 0xff, 0x00,		     /* lock inc qword [r8] */
					 0xf3, 0x90, 0x4d, 0x39, 0x38,		     /* pause; cmp [r8], r15 */
					 0x72, 0xf9 };				     /* jb back to the pause */
	static const uint8_t operands[] = { 0xba, 3, 0, 0, 0, 0xb5, 0, 0x31, 0xed }; /* edx = 3, ch = 0, ebp = 0 */
	/* dec rsi; jnz to the operands; jump to the end of all routines */
	static const uint8_t next[] = { 0x48, 0xff, 0xce, 0x75 };
	uint8_t *top;

	p = mempcpy(p, begin, sizeof(begin));
	top = p;
	p = mempcpy(p, operands, sizeof(operands));
	if (size == 2)
		*p++ = 0x66;
	*p++ = 0xf0;
	if (size == 8)
		*p++ = 0x48;
	p = mempcpy(p, size == 1 ? updates[n].op8 : updates[n].op, updates[n].len);
	p = mempcpy(p, next, sizeof(next));
	*p = (uint8_t)(top - (p + 1));
	p++;
	*p++ = 0x48; /* mov rax, the address of `finish`, which follows the table of addresses; jmp rax */
	*p++ = 0xc7;
	*p++ = 0xc0;
	uint32_t finish = TINY_CODE + 4 * (SHOOT_HANDLER + 1);
	memcpy(p, &finish, 4);
	p[4] = 0xff;
	p[5] = 0xe0;
	mem_write(vm.mem, gpa(GENERATED), code, sizeof(code));
}

/* The first two pages of VARS, whose frames do not follow each other. */
static uint64_t scattered(void)
{
	uint64_t e = SMALL_TABLE | 3;

	for (unsigned n = 0; n < 512; n++)
		put64(SMALL_TABLE + 8 * n, VARS + 0x1000 * (uint64_t)n + 3);
	put64(SMALL_TABLE + 8, 0x300003);
	put64(0x3000 + 8, e);
	return VARS;
}

static uint64_t value_at(uint64_t at, unsigned size)
{
	uint64_t v = 0;

	for (unsigned n = 0; n < size; n++) {
		uint64_t lin = at + n, phys = lin - VARS < 0x1000 ? lin : 0x300000 + (lin & 0xfff);

		v |= (get64(phys) & 0xff) << 8 * n;
	}
	return v;
}

static void count_at(unsigned n, unsigned size, unsigned offset)
{
	/* What the host does not do alone stops all vCPUs each time. */
	bool stops = offset & (size - 1);
	unsigned times = stops ? 2000 : 50000;
	uint64_t at = scattered() + offset, sum = 3ull * times * (uint64_t)(int64_t)updates[n].step;
	struct job jobs[3];

	make_loop(n, size);
	mem_fill(vm.mem, gpa(VARS), 0, 0x1000);
	mem_fill(vm.mem, gpa(0x300000), 0, 0x1000);
	for (unsigned k = 0; k < 3; k++)
		jobs[k] = (struct job){ .rip = GENERATED, .rdi = at, .rsi = times };
	run(jobs, 3);
	if (updates[n].step && value_at(at, size) != (sum & (~0ull >> (64 - 8 * size))))
		fail_msg("%s of %u bytes at %#x: %#llx", updates[n].name, size, offset,
			 (unsigned long long)value_at(at, size));
}

static void locked_updates_are_atomic(void **state)
{
	/* Aligned; within a line; across two lines; across two pages. */
	static const unsigned offsets[] = { 0, 1, 63, 4095 };

	for (unsigned n = 0; n < sizeof(updates) / sizeof(updates[0]); n++)
		for (unsigned size = 1; size <= 8; size *= 2)
			for (unsigned k = 0; k < (size == 1 ? 1 : 4); k++)
				count_at(n, size, offsets[k]);
}

/* One counter lies across the halves of the other, but neither reaches into the other's bytes. */
static void overlapping_updates_lose_nothing(void **state)
{
	struct job jobs[2];

	make_loop(0, 4);
	mem_fill(vm.mem, gpa(VARS), 0, 64);
	jobs[0] = (struct job){ .rip = GENERATED, .rdi = VARS, .rsi = 30000 };
	jobs[1] = (struct job){ .rip = GENERATED, .rdi = VARS + 2, .rsi = 1000 };
	run(jobs, 2);
	assert_int_equal(get64(VARS), 30000 + (1000ull << 16));
}

static void a_lock_by_xchg_guards_plain_counting(void **state)
{
	run_all(SPINLOCK, (struct job){ .rdi = VARS, .rcx = 100000 }, 3);
	assert_int_equal(get64(VARS + 8), 300000);
}

static void bits_of_others_stay(void **state)
{
	run_all(OWN_BITS, (struct job){ .rdi = VARS, .rsi = RESULTS, .rcx = 100000 }, 3);
	assert_int_equal(get64(RESULTS), 0);
}

static void compare_and_exchange_counts(void **state)
{
	static const uint64_t masks[] = { 0xff, 0xffff, 0xffffffff, ~0ull };

	for (unsigned n = 0; n < 4; n++) {
		put64(VARS, 0);
		run_all(COUNT8 + n, (struct job){ .rdi = VARS, .rcx = 100000 }, 3);
		assert_int_equal(get64(VARS), 300000 & masks[n]);
		/* Across pages. */
		scattered();
		put64(VARS + 0xff8, 0);
		put64(0x300000, 0);
		run_all(COUNT8 + n, (struct job){ .rdi = VARS + 0xfff, .rcx = 3000 }, 3);
		assert_int_equal(value_at(VARS + 0xfff, 1 << n), 9000 & masks[n]);
	}
}

static void wide_compare_and_exchange_is_whole(void **state)
{
	run_all(COUNT8B, (struct job){ .rdi = VARS, .rsi = RESULTS, .rcx = 100000 }, 3);
	assert_int_equal(get64(VARS), 300000ull << 32 | 300000);
	assert_int_equal(get64(RESULTS), 0);
	put64(VARS, 0);
	run_all(COUNT16B, (struct job){ .rdi = VARS, .rsi = RESULTS, .rcx = 100000 }, 3);
	assert_int_equal(get64(VARS), 300000);
	assert_int_equal(get64(VARS + 8), 300000);
	assert_int_equal(get64(RESULTS), 0);
}

static void aligned_accesses_are_whole(void **state)
{
	static const enum routine readers[] = { READER2, READER4, READER8, READER16 };

	for (unsigned n = 0; n < 4; n++) {
		struct job jobs[2] = {
			{ .rip = address_of(WRITER), .rdi = VARS, .rcx = 100000, .r11 = 2u << n },
			{ .rip = address_of(readers[n]), .rdi = VARS, .rsi = RESULTS, .rcx = 100000 },
		};

		put64(VARS, 0);
		put64(VARS + 8, 0);
		run(jobs, 2);
		if (get64(RESULTS))
			fail_msg("%u bytes: %u halves", 2u << n, get32(RESULTS));
	}
}

/* --- page tables and code --- */

static void page_table_bits_are_set_atomically(void **state)
{
	struct job jobs[2] = {
		{ .rip = address_of(PTE_COUNTER), .rsi = RESULTS, .rcx = 2000, .rdi = SMALL_TABLE + 16 },
		{ .rip = address_of(PTE_TOUCHER), .rsi = RESULTS, .rdi = SMALL_TABLE + 16, .r11 = VARS + 0x2000 },
	};

	for (unsigned round = 0; round < 10; round++) {
		scattered();
		put64(RESULTS, 0);
		put64(RESULTS + 8, 0);
		run(jobs, 2);
		if (get64(SMALL_TABLE + 16) >> 52 != 2000)
			fail_msg("an entry lost %llu updates",
				 2000 - (unsigned long long)(get64(SMALL_TABLE + 16) >> 52));
		assert_int_equal(get64(RESULTS), 0);
	}
}

static void code_of_another_is_not_older_than_its_message(void **state)
{
	struct job jobs[2] = {
		{ .rip = address_of(PATCHER), .rsi = RESULTS, .rcx = 20000 },
		{ .rip = address_of(PATCHED), .rsi = RESULTS, .rcx = 20000 },
	};

	run(jobs, 2);
	assert_int_equal(get64(RESULTS), 0);
}

static void a_running_loop_may_be_patched(void **state)
{
	struct job jobs[2] = {
		{ .rip = address_of(LOOP_STOPPER), .rcx = 100000 },
		{ .rip = address_of(ENDLESS_LOOP) },
	};

	run(jobs, 2);
}

/* --- interrupts --- */

static void set_gate(unsigned vector, enum routine handler)
{
	uint64_t at = address_of(handler);

	put64(IDT + 16 * vector, (at & 0xffff) | 0x10ull << 16 | 0x8e00ull << 32 | (at & 0xffff0000) << 32);
	put64(IDT + 16 * vector + 8, 0);
}

/* STI; HLT: an interrupt between the look at the counter and the sleep ends the sleep. */
static void no_wake_up_is_lost(void **state)
{
	struct job jobs[2] = {
		{ .rip = address_of(PING), .rdi = VARS, .rcx = 3000 },
		{ .rip = address_of(PONG), .rdi = VARS, .rcx = 3000 },
	};

	set_gate(0x41, PING_HANDLER);
	run(jobs, 2);
	assert_int_equal(get64(VARS), 3000);
	assert_int_equal(get64(VARS + 128), 3000);
}

static void no_kick_is_lost(void **state)
{
	struct job jobs[2] = {
		{ .rip = address_of(KICKER), .rdi = VARS, .rcx = 3000 },
		{ .rip = address_of(KICKED), .rdi = VARS, .rcx = 3000 },
	};

	run(jobs, 2);
}

static void a_page_is_forgotten_when_the_other_says_so(void **state)
{
	struct job jobs[2] = {
		{ .rip = address_of(SHOOTER), .rdi = SMALL_TABLE + 16, .rsi = 0x600000, .rcx = 300 },
		{ .rip = address_of(TARGET), .r11 = VARS + 0x2000 },
	};

	scattered();
	put64(SMALL_TABLE + 16, 0x600003);
	set_gate(0x42, SHOOT_HANDLER);
	run(jobs, 2);
	assert_int_equal(get64(DONE + 0x50), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(stores_pass_later_loads_only_without_a_fence),
		TEST(messages_arrive_after_what_they_announce),
		TEST(loads_are_not_passed_by_stores),
		TEST(all_see_stores_in_one_order),
		TEST(a_location_never_goes_back),
		TEST(locked_updates_are_atomic),
		TEST(overlapping_updates_lose_nothing),
		TEST(a_lock_by_xchg_guards_plain_counting),
		TEST(bits_of_others_stay),
		TEST(compare_and_exchange_counts),
		TEST(wide_compare_and_exchange_is_whole),
		TEST(aligned_accesses_are_whole),
		TEST(page_table_bits_are_set_atomically),
		TEST(code_of_another_is_not_older_than_its_message),
		TEST(a_running_loop_may_be_patched),
		TEST(no_wake_up_is_lost),
		TEST(no_kick_is_lost),
		TEST(a_page_is_forgotten_when_the_other_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
