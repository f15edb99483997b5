/*
 * The contract of cpu/engine.h, held against every engine that is available here: life, exits, kicks, the whole state
 * both ways, memory that grows, the dirty log, doorbells.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "scalars.h"
#include "tiny_vm.h"

#define MS	   1000000ll
#define CODE	   "\xf4"
#define DATA	   0x400000u  /* where the guests write */
#define BEHIND	   0x1000000u /* the end of the RAM */
#define ROUNDS_MAX 100000u
#define PAGES(n)   ((n) >> MEM_PAGE_SHIFT)

static const struct engine *engine;
static struct tiny_vm vm;

static const char *ring; /* "kvm.dirty_ring", or NULL */

static int setup(void **state)
{
	struct config *config = ring ? config_new() : NULL;
	struct err err;

	if (ring && config_set(config, "kvm.dirty_ring", ring, &err))
		fail_msg("%s", err.msg);
	tiny_vm_new_configured(&vm, engine, config);
	clock_start(vm.clock);
	return 0;
}

static int teardown(void **state)
{
	tiny_vm_free(&vm);
	return 0;
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static uint64_t reg(unsigned n)
{
	struct x86_state *s = malloc(sizeof(*s));
	uint64_t v;

	assert_non_null(s);
	engine->get_state(vm.vcpu, s);
	v = s->gpr[n];
	free(s);
	return v;
}

/* --- life --- */

static void it_says_what_it_is(void **state)
{
	struct engine_probe p = { 0 };

	assert_ptr_equal(engine_find(engine->name), engine);
	assert_true(engine->isa[0] && engine->summary[0]);
	assert_ptr_equal(engine->arch_state, &x86_state_desc);
	assert_int_equal(engine->arch_state_size, sizeof(struct x86_state));
	engine->probe(&p);
	assert_true(p.available && p.why[0] && !strchr(p.why, '\n'));
	/* Local interrupt controllers are somewhere, and a log of the engine's own is both begun and asked. */
	assert_true(engine->intc_places && !(engine->intc_places & ~3u));
	assert_int_equal(!engine->dirty_log, !engine->dirty_sync);
}

static void machines_come_and_go(void **state)
{
	struct tiny_vm other;

	/* Beside another one, which goes on. */
	for (unsigned n = 0; n < 5; n++) {
		tiny_vm_new_on(&other, engine);
		tiny_vm_load64(&other, CODE, 1);
		assert_int_equal(engine->run(other.vcpu), CPU_EXIT_HALTED);
		tiny_vm_free(&other);
	}
	tiny_vm_load64(&vm, CODE, 1);
	assert_int_equal(engine->run(vm.vcpu), CPU_EXIT_HALTED);
}

static void a_reset_is_power_on(void **state)
{
	struct x86_state *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	tiny_vm_load64(&vm, CODE, 1);
	engine->vcpu_reset(vm.vcpu);
	engine->get_state(vm.vcpu, s);
	assert_int_equal(s->gpr[X86_RIP], 0xfff0);
	assert_int_equal(s->seg[X86_CS].base, 0xffff0000);
	assert_int_equal(s->run, X86_RUNNING);
	assert_int_equal(s->cr0 & (X86_CR0_PE | X86_CR0_PG), 0);
	free(s);
}

/* --- exits --- */

static void a_halt_and_a_shutdown_come_out(void **state)
{
	/* mov eax, 42; hlt */
	tiny_vm_load64(&vm, "\xb8\x2a\0\0\0\xf4", 6);
	assert_int_equal(engine->run(vm.vcpu), CPU_EXIT_HALTED);
	assert_int_equal(reg(X86_RAX), 42);
	/* Still. */
	assert_int_equal(engine->run(vm.vcpu), CPU_EXIT_HALTED);
	/* ud2, without an IDT */
	tiny_vm_load64(&vm, "\x0f\x0b", 2);
	assert_int_equal(engine->run(vm.vcpu), CPU_EXIT_SHUTDOWN);
	assert_true(vm.vcpu->error.msg[0]);
}

static void *run_it(void *opaque)
{
	return (void *)(uintptr_t)engine->run(opaque);
}

static pthread_t run_in_thread(void)
{
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, run_it, vm.vcpu), 0);
	return t;
}

static enum cpu_exit joined(pthread_t t)
{
	void *why;

	pthread_join(t, &why);
	return (enum cpu_exit)(uintptr_t)why;
}

static int by_size(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

/* The guest does nothing that leaves; the median, because other work on the host delays some. */
static void a_kick_is_noticed_soon(void **state)
{
	int64_t took[31];

	tiny_vm_load64(&vm, "\xeb\xfe", 2); /* a jump to itself */
	for (unsigned n = 0; n < 31; n++) {
		pthread_t t = run_in_thread();

		usleep(500);
		took[n] = now_ns();
		vcpu_kick(vm.vcpu);
		assert_int_equal(joined(t), CPU_EXIT_KICKED);
		took[n] = now_ns() - took[n];
	}
	qsort(took, 31, sizeof(took[0]), by_size);
	/* Hardware's may be a host that is emulated itself. */
	assert_true(took[15] < (engine->dirty_log ? 100 : 20) * MS);
}

static void a_kick_before_is_not_lost(void **state)
{
	tiny_vm_load64(&vm, "\xeb\xfe", 2);
	for (unsigned n = 0; n < 3; n++) {
		vcpu_kick(vm.vcpu);
		assert_int_equal(engine->run(vm.vcpu), CPU_EXIT_KICKED);
		assert_int_equal(atomic_load(&vm.vcpu->events) & VCPU_EV_KICK, 0);
	}
	/* A sleeper wakes, too. */
	vcpu_kick(vm.vcpu);
	vcpu_wait(vm.vcpu, -1);
}

static uint64_t rung_at;

static void on_mmio(struct tiny_vm *t, uint64_t addr)
{
	rung_at = addr;
}

static void accesses_reach_the_world(void **state)
{
	vm.on_mmio = on_mmio;
	rung_at = 0;
	/* mov eax, 5; out 0x80, eax; in eax, 0x81; mov [0x20000010], ax; mov rbx, [0x20000000]; hlt */
	tiny_vm_load64(&vm, "\xb8\x05\0\0\0\xe7\x80\xe5\x81\x66\x89\x04\x25\x10\0\0\x20\x48\x8b\x1c\x25\0\0\0\x20\xf4",
		       26);
	assert_int_equal(engine->run(vm.vcpu), CPU_EXIT_HALTED);
	assert_int_equal(vm.last_out, 5);
	assert_int_equal(vm.outs, 1);
	assert_int_equal(reg(X86_RAX), 0x81);
	assert_int_equal(rung_at, 0x20000010);
	assert_true(reg(X86_RBX) == ~0ull);
}

/* With or without the engine's help a doorbell rings once, in one way. */
static void a_doorbell_rings_once(void **state)
{
	struct event event;
	const struct doorbell bell = { .addr = 0x20000010, .size = 2, .value = 3, .event = &event };
	bool taken;

	assert_true(event_open(&event));
	taken = engine->doorbell && engine->doorbell(vm.vm, &bell, true);
	vm.on_mmio = on_mmio;
	for (unsigned round = 0; round < 2; round++) {
		rung_at = 0;
		/* mov eax, 3; mov [0x20000010], ax; hlt */
		tiny_vm_load64(&vm, "\xb8\x03\0\0\0\x66\x89\x04\x25\x10\0\0\x20\xf4", 14);
		assert_int_equal(engine->run(vm.vcpu), CPU_EXIT_HALTED);
		assert_int_equal(event_take(&event), taken);
		assert_int_equal(rung_at == bell.addr, !taken);
		/* From now on it is a write like others. */
		if (taken)
			assert_true(engine->doorbell(vm.vm, &bell, false));
		taken = false;
	}
	event_close(&event);
}

static unsigned outs_before;

static uint64_t on_mmio_read(struct tiny_vm *t, uint64_t addr)
{
	outs_before = t->outs;
	return 0;
}

/* What may come late comes before anything else, and before the vCPU does. */
static void latched_writes_keep_their_order(void **state)
{
	if (engine->latch)
		engine->latch(vm.vm, true, 0x80, 1);
	vm.on_mmio_read = on_mmio_read;
	for (unsigned round = 1; round <= 100; round++) {
		/* mov al, 7; out 0x80, al; inc eax; out 0x80, al; mov rbx, [0x20000000]; inc eax; out 0x80, al; hlt */
		tiny_vm_load64(&vm, "\xb0\7\xe6\x80\xff\xc0\xe6\x80\x48\x8b\x1c\x25\0\0\0\x20\xff\xc0\xe6\x80\xf4", 21);
		vm.outs = 0;
		assert_int_equal(engine->run(vm.vcpu), CPU_EXIT_HALTED);
		assert_int_equal(outs_before, 2);
		assert_int_equal(vm.outs, 3);
		assert_int_equal(vm.last_out, 9);
	}
}

/* More than any place for them holds. */
static void many_latched_writes_all_come(void **state)
{
	if (engine->latch)
		engine->latch(vm.vm, true, 0x80, 1);
	/* mov ecx, 1000; 1: mov eax, ecx; out 0x80, al; loop 1b; hlt */
	tiny_vm_load64(&vm, "\xb9\xe8\3\0\0\x89\xc8\xe6\x80\xe2\xfa\xf4", 12);
	vm.outs = 0;
	assert_int_equal(engine->run(vm.vcpu), CPU_EXIT_HALTED);
	assert_int_equal(vm.outs, 1000);
	assert_int_equal(vm.last_out, 1);
}

static void stop_loop(void *opaque)
{
	loop_quit(vm.loop);
}

/* A guest may write its last and never leave again. */
static void a_latched_write_comes_by_itself(void **state)
{
	static struct clock_timer end;
	pthread_t t;

	if (engine->latch)
		engine->latch(vm.vm, true, 0x80, 1);
	/* out 0x80, al; jmp to itself */
	tiny_vm_load64(&vm, "\xe6\x80\xeb\xfe", 4);
	vm.outs = 0;
	t = run_in_thread();
	usleep(20000);
	vcpu_kick(vm.vcpu);
	assert_int_equal(joined(t), CPU_EXIT_KICKED);
	assert_int_equal(vm.outs, reg(X86_RIP) != TINY_CODE);
	tiny_vm_load64(&vm, "\xe6\x80\xeb\xfe", 4);
	vm.outs = 0;
	t = run_in_thread();
	clock_timer_init(&end, vm.clock, NULL, stop_loop, NULL);
	clock_timer_arm(&end, clock_now_ns(vm.clock) + 1500 * MS);
	loop_run(vm.loop);
	assert_int_equal(__atomic_load_n(&vm.outs, __ATOMIC_SEQ_CST), 1);
	vcpu_kick(vm.vcpu);
	assert_int_equal(joined(t), CPU_EXIT_KICKED);
	assert_int_equal(vm.outs, 1);
}

static unsigned rings;

static void count_ring(struct tiny_vm *t, uint64_t addr)
{
	rings++;
}

/* A guest may move a BAR while it rings: no ring is lost, and none is heard twice. */
static void a_doorbell_comes_and_goes_while_it_is_rung(void **state)
{
	struct event event;
	const struct doorbell bell = { .addr = 0x20000010, .any = true, .event = &event };
	uint64_t count = 0;
	pthread_t t;

	assert_true(event_open(&event));
	rings = 0;
	vm.on_mmio = count_ring;
	/* 1: mov [0x20000010], ax; inc ecx; jmp 1b */
	tiny_vm_load64(&vm, "\x66\x89\x04\x25\x10\0\0\x20\xff\xc1\xeb\xf4", 12);
	t = run_in_thread();
	/* A busy host may let it ring rarely. */
	for (unsigned n = 0; n < 200 || (n < ROUNDS_MAX && (!rings || !count != !engine->doorbell)); n++) {
		if (engine->doorbell && engine->doorbell(vm.vm, &bell, true)) {
			usleep(50);
			assert_true(engine->doorbell(vm.vm, &bell, false));
			count += event_take(&event);
		}
		usleep(50);
	}
	vcpu_kick(vm.vcpu);
	assert_int_equal(joined(t), CPU_EXIT_KICKED);
	count += event_take(&event);
	assert_int_equal(count != 0, engine->doorbell != NULL);
	assert_true(rings && rings + count - reg(X86_RCX) <= 1);
	event_close(&event);
}

/* --- the state --- */

static uint8_t *base, *given, *got;
static struct {
	const struct state_field *top;
	unsigned kept, bits;
} fields[128];
static unsigned field_count;

static void same(void *opaque, const struct state_field *top, const struct state_field *f, size_t at)
{
	if (memcmp(given + at, got + at, f->size))
		fail_msg("%s: %s.%s is not what it was set to", engine->name, top->name, f->name);
}

/*
 * The form of saved states; and AMD's processors have one interrupt shadow, whatever cast it, and KVM before Linux 6.3
 * tells whether NMIs wait, not how many.
 */
static void make_comparable(uint8_t *state)
{
	struct x86_state *s = (struct x86_state *)state;

	x86_state_canonical(s);
	s->nmi_pending = s->nmi_pending != 0;
	s->shadow_sti = s->shadow_mov_ss = s->shadow_sti || s->shadow_mov_ss;
}

/* Change each bit of it, and see the whole state come back, unless it is refused. */
static void change(void *opaque, const struct state_field *top, const struct state_field *f, size_t at)
{
	struct err err;

	if (!field_count || fields[field_count - 1].top != top)
		fields[field_count++].top = top;
	for (unsigned bit = 0; bit < (f->type == STATE_BOOL ? 1 : 8 * f->size); bit++) {
		memcpy(given, base, engine->arch_state_size);
		given[at + bit / 8] ^= (uint8_t)(1 << bit % 8);
		fields[field_count - 1].bits++;
		if (engine->set_state(vm.vcpu, given, &err))
			continue;
		fields[field_count - 1].kept++;
		engine->get_state(vm.vcpu, got);
		make_comparable(given);
		make_comparable(got);
		each_scalar(engine->arch_state, NULL, 0, same, NULL);
	}
}

/*
 * XCR0 has one bit that is always set, and without XSAVE no other; XSS is for components that there are none of. Some
 * KVMs have no DEBUGCTL, and our engine for it has no SMM.
 */
static bool may_be_constant(const char *name)
{
	static const char *const names[] = { "xcr0", "xss", "debugctl", "smm", "smi_pending" };

	for (size_t n = 0; n < ARRAY_LEN(names); n++)
		if (!strcmp(names[n], name))
			return true;
	return false;
}

static void every_field_of_the_state_comes_back(void **state)
{
	base = calloc(1, engine->arch_state_size);
	given = calloc(1, engine->arch_state_size);
	got = calloc(1, engine->arch_state_size);
	field_count = 0;
	assert_true(base && given && got);
	tiny_vm_load64(&vm, CODE, 1);
	engine->get_state(vm.vcpu, base);
	each_scalar(engine->arch_state, NULL, 0, change, NULL);
	assert_true(field_count > 40);
	for (unsigned n = 0; n < field_count; n++) {
		if (!fields[n].kept && !may_be_constant(fields[n].top->name))
			fail_msg("%s: no change of %s was taken", engine->name, fields[n].top->name);
	}
	free(base);
	free(given);
	free(got);
}

static void spoil_run(struct x86_state *s)
{
	s->run = 99;
}

/* As WRMSR refuses it. */
static void spoil_poll_control(struct x86_state *s)
{
	s->kvm_poll_control = 3;
}

static void spoil_event(struct x86_state *s)
{
	s->event = (struct x86_event){ true, X86_UD, true, 0 };
}

static void an_impossible_state_is_refused(void **state)
{
	static void (*const spoil[])(struct x86_state * s) = { spoil_run, spoil_poll_control, spoil_event };
	struct x86_state *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	tiny_vm_load64(&vm, "\xb8\x2a\0\0\0\xf4", 6);
	for (size_t n = 0; n < ARRAY_LEN(spoil); n++) {
		struct err err = { 0 };

		engine->get_state(vm.vcpu, s);
		spoil[n](s);
		assert_int_equal(engine->set_state(vm.vcpu, s, &err), -1);
		assert_true(err.msg[0]);
	}
	/* And nothing has happened. */
	assert_int_equal(engine->run(vm.vcpu), CPU_EXIT_HALTED);
	assert_int_equal(reg(X86_RAX), 42);
	free(s);
}

/* Of a vector that an exception has, too, whose error code tells them apart: IDT at 5000h, a HLT for each at 7000h. */
static void an_interrupt_is_no_exception(void **state)
{
	struct x86_state *s = calloc(1, sizeof(*s));
	struct err err;

	assert_non_null(s);
	for (unsigned n = 0; n < 2; n++) {
		uint64_t gate[2] = { (0x7000 + X86_GP) | 0x10ull << 16 | 0x8eull << 40, 0 }, frame[2];

		tiny_vm_load64(&vm, CODE, 1);
		mem_fill(vm.mem, gpa(0x7000), 0xf4, 32);
		mem_write(vm.mem, gpa(0x5000 + 16 * X86_GP), gate, 16);
		engine->get_state(vm.vcpu, s);
		s->idt = (struct x86_dtable){ 0x5000, 16 * 32 - 1 };
		s->event = (struct x86_event){ true, X86_GP, n, n ? 0x1234 : 0 };
		assert_int_equal(engine->set_state(vm.vcpu, s, &err), 0);
		assert_int_equal(engine->run(vm.vcpu), CPU_EXIT_HALTED);
		assert_int_equal(reg(X86_RIP), 0x7000 + X86_GP + 1);
		assert_true(mem_read(vm.mem, gpa(reg(X86_RSP)), frame, sizeof(frame)));
		assert_int_equal(frame[0], n ? 0x1234 : TINY_CODE);
		assert_int_equal(frame[1], n ? TINY_CODE : 0x10);
	}
	free(s);
}

/* --- memory --- */

static void ram_may_be_added_between_runs(void **state)
{
	struct mem_slot_config more = { "more", gpa(BEHIND), 0x200000, MEM_ANON, -1, 0, false };
	uint64_t v;
	struct err err;
	pthread_t t;

	/* 1: mov [0x1000000], rsp; cmp [0x1000000], rsp; jne 1b; hlt */
	tiny_vm_load64(&vm, "\x48\x89\x24\x25\0\0\0\1\x48\x39\x24\x25\0\0\0\1\x75\xee\xf4", 19);
	for (unsigned n = 0; n < 3; n++) {
		t = run_in_thread();
		usleep(2000);
		vcpu_kick(vm.vcpu);
		assert_int_equal(joined(t), CPU_EXIT_KICKED);
	}
	assert_int_equal(mem_add_slot(vm.mem, &more, &err), 0);
	if (engine->ram_changed)
		engine->ram_changed(vm.vm);
	assert_int_equal(engine->run(vm.vcpu), CPU_EXIT_HALTED);
	assert_true(mem_read(vm.mem, gpa(BEHIND), &v, 8));
	assert_int_equal(v, TINY_STACK);
}

static void log_dirty(bool on)
{
	struct err err;

	if (engine->dirty_log)
		assert_int_equal(engine->dirty_log(vm.vm, on, &err), 0);
	if (on)
		mem_dirty_start(vm.mem);
	else
		mem_dirty_stop(vm.mem);
}

/* The pages of [DATA, DATA + 256 KiB). */
static uint64_t fetch(void)
{
	uint64_t bits;

	if (engine->dirty_sync)
		engine->dirty_sync(vm.vm);
	mem_dirty_fetch(vm.mem, PAGES(DATA), 64, &bits);
	return bits;
}

static void the_dirty_log_has_the_pages_that_were_written(void **state)
{
	/*
	 * mov edi, DATA; mov [rdi], eax; lock inc dword [rdi + 0x2000]; mov [rdi + 0x4ffd], rax (two pages);
	 * mov eax, [rdi + 0x8000]; add rdi, 0xa000; mov ecx, 0x2001; rep stosb; hlt
	 */
	static const char code[] = "\xbf\0\0\x40\0\x89\x07\xf0\xff\x87\0\x20\0\0\x48\x89\x87\xfd\x4f\0\0"
				   "\x8b\x87\0\x80\0\0\x48\x81\xc7\0\xa0\0\0\xb9\x01\x20\0\0\xf3\xaa\xf4";

	/* Hardware's log may have a page that was only read. */
	const uint64_t may = engine->dirty_log ? 1 << 8 : 0;

	for (unsigned round = 0; round < 2; round++) {
		/* The second time all is in the engine's caches. */
		log_dirty(true);
		assert_int_equal(fetch(), 0);
		for (unsigned n = 0; n < 2; n++) {
			tiny_vm_load64(&vm, code, sizeof(code) - 1);
			assert_int_equal(engine->run(vm.vcpu), CPU_EXIT_HALTED);
			assert_int_equal(fetch() & ~may, 1 << 0 | 1 << 2 | 3 << 4 | 7 << 10);
			assert_int_equal(fetch(), 0);
		}
		log_dirty(false);
		assert_int_equal(engine->run(vm.vcpu), CPU_EXIT_HALTED);
	}
}

/* What a guest writes while the log is read is in this copy or in the bits of the next one. */
static void no_write_is_missing_while_it_runs(void **state)
{
	static uint8_t copy[64 * MEM_PAGE_SIZE], now[64 * MEM_PAGE_SIZE];
	pthread_t t;

	/* 1: mov edi, DATA; mov ecx, 64; 2: inc dword [rdi]; add edi, 4096; dec ecx; jnz 2b; jmp 1b */
	tiny_vm_load64(&vm, "\xbf\0\0\x40\0\xb9\x40\0\0\0\xff\x07\x81\xc7\0\x10\0\0\xff\xc9\x75\xf4\xeb\xe8", 24);
	log_dirty(true);
	assert_true(mem_read(vm.mem, gpa(DATA), copy, sizeof(copy)));
	t = run_in_thread();
	for (unsigned round = 0, last = 0; !last; round++) {
		uint64_t bits = fetch();

		usleep(100);
		/* A KVM that emulates takes a microsecond an instruction, on a busy host more. */
		last = round >= ROUNDS_MAX || (round >= 299 && ld_le32(copy + 63 * MEM_PAGE_SIZE) > 2);
		if (last) {
			vcpu_kick(vm.vcpu);
			assert_int_equal(joined(t), CPU_EXIT_KICKED);
			bits |= fetch();
		}
		for (unsigned n = 0; n < 64; n++)
			if (bits >> n & 1)
				assert_true(mem_read(vm.mem, gpa(DATA + n * MEM_PAGE_SIZE), copy + n * MEM_PAGE_SIZE,
						     MEM_PAGE_SIZE));
	}
	assert_true(mem_read(vm.mem, gpa(DATA), now, sizeof(now)));
	assert_true(ld_le32(now + 63 * MEM_PAGE_SIZE) > 2);
	assert_memory_equal(copy, now, sizeof(now));
	log_dirty(false);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
/* More pages than a ring has entries, again and again: the vCPU comes out when it is full, and none is missing. */
static void more_pages_than_a_ring_holds_are_all_there(void **state)
{
	const unsigned pages = 2500;
	uint64_t bits, seen;

	/* mov edi, DATA; mov ecx, 2500; 1: inc dword [rdi]; add edi, 4096; dec ecx; jnz 1b; hlt */
	tiny_vm_load64(&vm, "\xbf\0\0\x40\0\xb9\xc4\x09\0\0\xff\x07\x81\xc7\0\x10\0\0\xff\xc9\x75\xf4\xf4", 23);
	log_dirty(true);
	for (unsigned round = 0; round < 3; round++) {
		tiny_vm_enter64(&vm, 0, TINY_CODE, TINY_STACK);
		assert_int_equal(engine->run(vm.vcpu), CPU_EXIT_HALTED);
		seen = 0;
		fetch();
		for (unsigned n = 64; n < pages; n += 64) {
			mem_dirty_fetch(vm.mem, PAGES(DATA) + n, pages - n < 64 ? pages - n : 64, &bits);
			seen += (unsigned)__builtin_popcountll(bits);
		}
		assert_int_equal(seen, pages - 64);
	}
	log_dirty(false);
}

/* The log as a ring of each vCPU, where KVM has that. */
static int with_rings(const struct engine_probe *p)
{
	const struct CMUnitTest tests[] = {
		TEST(the_dirty_log_has_the_pages_that_were_written),
		TEST(no_write_is_missing_while_it_runs),
		TEST(more_pages_than_a_ring_holds_are_all_there),
	};
	int failed;

	if (!p->fast) {
		print_message("a KVM that emulates loses pages of rings: not tested\n");
		return 0;
	}
	ring = "1024";
	failed = cmocka_run_group_tests_name("kvm.dirty_ring=1024", tests, NULL, NULL);
	ring = NULL;
	return failed;
}

/* Others are not even tried. */
static void passed_over(const struct engine *e, const struct engine_probe *p)
{
	assert_int_equal(e->counts, !strstr(p->why, "does not count"));
}

static void auto_takes_one_that_counts(void **state)
{
	struct engine_probe p;

	assert_true(engine_auto(true, &p, passed_over)->counts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(it_says_what_it_is),
		TEST(auto_takes_one_that_counts),
		TEST(machines_come_and_go),
		TEST(a_reset_is_power_on),
		TEST(a_halt_and_a_shutdown_come_out),
		TEST(a_kick_is_noticed_soon),
		TEST(a_kick_before_is_not_lost),
		TEST(accesses_reach_the_world),
		TEST(latched_writes_keep_their_order),
		TEST(many_latched_writes_all_come),
		TEST(a_latched_write_comes_by_itself),
		TEST(a_doorbell_rings_once),
		TEST(a_doorbell_comes_and_goes_while_it_is_rung),
		TEST(every_field_of_the_state_comes_back),
		TEST(an_impossible_state_is_refused),
		TEST(an_interrupt_is_no_exception),
		TEST(ram_may_be_added_between_runs),
		TEST(the_dirty_log_has_the_pages_that_were_written),
		TEST(no_write_is_missing_while_it_runs),
		TEST(more_pages_than_a_ring_holds_are_all_there),
	};
	int failed = 0;

	for (const struct engine *const *e = engines; *e; e++) {
		struct engine_probe p = { 0 };

		(*e)->probe(&p);
		if (!p.available) {
			print_message("engine %s is not here: %s\n", (*e)->name, p.why);
			continue;
		}
		engine = *e;
		failed += cmocka_run_group_tests_name(engine->name, tests, NULL, NULL);
		if (!strcmp(engine->name, "kvm"))
			failed += with_rings(&p);
	}
	return failed;
}
