/*
 * What was sent to a processor that stood still (INIT, SIPI, NMI, a kick) has its effect after the state went to
 * another engine, and has it once. Over each pair of the engines that are here, KVM with both places of local APICs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tiny_vm.h"

#define AP	 0x8000u /* what a SIPI with vector 8 starts, in real mode */
#define AP_NMI	 0x8040u
#define AP_HALTS 0x8080u
#define LOOPS	 0x9000u /* counters of the guest's */
#define NMIS	 0x9004u
#define WAKES	 0x9008u
#define STARTS	 0x900cu
#define PD_HIGH	 0x6000u
#define ICR_INIT 0x4500u
#define ICR_SIPI 0x4608u
#define ICR_NMI	 0x4400u
#define SOON	 400 /* of 5 ms: until something happens */
#define ROUND_US 5000
#define QUIET_US 20000

struct end {
	const char *name;
	const struct engine *engine;
	enum engine_intc place;
};

static struct end ends[4];
static unsigned end_count;
static const struct end *from, *to;

/* --- a VM of two, the second of which is the one that moves --- */

static void vm_new(struct tiny_vm *t, const struct end *e)
{
	static const uint8_t code[] = {
		0x66, 0x2e, 0xff, 0x06, 0x0c, 0x10, /* inc dword [cs:STARTS] */
		0x66, 0x2e, 0xff, 0x06, 0x00, 0x10, /* 1: inc dword [cs:LOOPS] */
		0xeb, 0xf8,			    /* jmp 1b */
	};
	static const uint8_t nmi[] = { 0x66, 0x2e, 0xff, 0x06, 0x04, 0x10, 0xcf };
	static const uint8_t halts[] = { 0xf4, 0x66, 0x2e, 0xff, 0x06, 0x08, 0x10, 0xeb, 0xf7 };
	const uint8_t ivt[] = { AP_NMI - AP, 0, AP >> 4 & 0xff, AP >> 12 };
	uint64_t entry = PD_HIGH | 3, page = 0xfee00083;

	tiny_vm_new_cpus(t, e->engine, 2, e->place);
	t->kick_on_out = true;
	mem_write(t->mem, gpa(0x2000 + 8 * 3), &entry, 8);
	mem_write(t->mem, gpa(PD_HIGH + 8 * ((0xfee00000u >> 21) & 511)), &page, 8);
	mem_write(t->mem, gpa(AP), code, sizeof(code));
	mem_write(t->mem, gpa(AP_NMI), nmi, sizeof(nmi));
	mem_write(t->mem, gpa(AP_HALTS), halts, sizeof(halts));
	mem_write(t->mem, gpa(4 * 2), ivt, sizeof(ivt));
	clock_start(t->clock);
}

static uint32_t counter(struct tiny_vm *t, uint32_t at)
{
	uint8_t b[4];

	assert_true(mem_read(t->mem, gpa(at), b, 4));
	return ld_le32(b);
}

/*
 * The first vCPU enables its local APIC, after which KVM knows all of them, and sends this to the second, which does
 * not run unless a test lets it; 0: nothing.
 */
static void send(struct tiny_vm *t, uint32_t icr)
{
	/* mov dword [rax+f0h], 1ffh; mov dword [rax+310h], 1 << 24; mov dword [rax+300h], ICR; out 80h, al; hlt */
	uint8_t code[] = { 0xb8, 0, 0, 0xe0, 0xfe, 0xc7, 0x80, 0xf0, 0, 0, 0, 0xff, 1, 0, 0, 0xc7, 0x80, 0x10, 3,
			   0,	 0, 0, 0,    0,	   1,	 0xc7, 0x80, 0, 3, 0, 0,    0, 0, 0, 0,	   0xe6, 0x80, 0xf4 };

	st_le32(code + 31, icr);
	if (!icr)
		memset(code + 25, 0x90, 10);
	tiny_vm_load64(t, code, sizeof(code));
	assert_int_equal(t->engine->run(t->vcpu), CPU_EXIT_KICKED);
}

/* In real mode at AP + `ip`. */
static void put(struct tiny_vm *t, uint16_t ip, enum x86_run_state run, bool kick)
{
	struct x86_state *s = calloc(1, sizeof(*s));
	struct err err;

	assert_non_null(s);
	t->engine->get_state(t->vcpus[1], s);
	s->seg[X86_CS].sel = AP >> 4;
	s->seg[X86_CS].base = AP;
	s->gpr[X86_RIP] = ip;
	s->gpr[X86_RSP] = 0x7000;
	s->run = (uint8_t)run;
	s->pv_unhalt = kick;
	if (t->engine->set_state(t->vcpus[1], s, &err))
		fail_msg("%s: %s", from->name, err.msg);
	free(s);
}

static void move(struct tiny_vm *a, struct tiny_vm *b, const struct end *e)
{
	struct x86_state *s = calloc(1, sizeof(*s));
	struct err err;

	assert_non_null(s);
	a->engine->get_state(a->vcpus[1], s);
	vm_new(b, e);
	if (b->engine->set_state(b->vcpus[1], s, &err))
		fail_msg("%s to %s: %s", from->name, to->name, err.msg);
	send(b, 0);
	tiny_vm_free(a);
	free(s);
}

/* --- the second one's thread --- */

static _Atomic bool stop;

static void *run_it(void *vcpu)
{
	struct vcpu *v = vcpu;

	while (!atomic_load(&stop))
		if (v->engine->run(v) == CPU_EXIT_HALTED)
			vcpu_wait(v, 1000000);
	return NULL;
}

static pthread_t begin(struct tiny_vm *t)
{
	pthread_t thread;

	atomic_store(&stop, false);
	assert_int_equal(pthread_create(&thread, NULL, run_it, t->vcpus[1]), 0);
	return thread;
}

static void end(struct tiny_vm *t, pthread_t thread)
{
	atomic_store(&stop, true);
	vcpu_kick(t->vcpus[1]);
	pthread_join(thread, NULL);
}

static void happens(struct tiny_vm *t, uint32_t at, const char *what)
{
	for (unsigned n = 0; n < SOON && !counter(t, at); n++)
		usleep(ROUND_US);
	if (!counter(t, at))
		fail_msg("%s to %s: %s", from->name, to->name, what);
}

static void stays(struct tiny_vm *t, uint32_t at, uint32_t value, const char *what)
{
	usleep(QUIET_US);
	if (counter(t, at) != value)
		fail_msg("%s to %s: %s: %u", from->name, to->name, what, counter(t, at));
}

static void waits_for_sipi(struct tiny_vm *t)
{
	struct x86_state *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	t->engine->get_state(t->vcpus[1], s);
	if (s->run != X86_WAIT_SIPI || s->gpr[X86_RIP] != 0xfff0)
		fail_msg("%s to %s: it does not wait for a SIPI: run state %u at %#lx", from->name, to->name, s->run,
			 (unsigned long)s->gpr[X86_RIP]);
	free(s);
}

/* What has had its effect is not in a state any more. */
static void nothing_waits(struct tiny_vm *t)
{
	struct x86_state *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	t->engine->get_state(t->vcpus[1], s);
	if (s->init_pending || s->sipi_pending || s->nmi_pending || s->pv_unhalt || s->smi_pending)
		fail_msg("%s to %s: INIT %d, SIPI %d, NMI %d, kick %d still wait", from->name, to->name,
			 s->init_pending, s->sipi_pending, s->nmi_pending, s->pv_unhalt);
	free(s);
}

/* --- cases --- */

static void a_sipi_starts_it(struct tiny_vm *t)
{
	pthread_t thread = begin(t);

	stays(t, STARTS, 0, "it runs without a SIPI");
	send(t, ICR_SIPI);
	happens(t, LOOPS, "a SIPI does not start it");
	end(t, thread);
	assert_int_equal(counter(t, STARTS), 1);
	nothing_waits(t);
}

/* Of a processor that has never run, one that has seen an INIT, and one that has not looked at it yet. */
static void fresh(struct tiny_vm *a, struct tiny_vm *b)
{
	move(a, b, to);
	waits_for_sipi(b);
	a_sipi_starts_it(b);
}

static void init_seen(struct tiny_vm *a, struct tiny_vm *b)
{
	pthread_t thread;

	put(a, 6, X86_RUNNING, false);
	thread = begin(a);
	happens(a, LOOPS, "it does not run");
	send(a, ICR_INIT);
	usleep(QUIET_US);
	end(a, thread);
	waits_for_sipi(a);
	move(a, b, to);
	a_sipi_starts_it(b);
}

static void init_sent(struct tiny_vm *a, struct tiny_vm *b)
{
	put(a, 6, X86_RUNNING, false);
	send(a, ICR_INIT);
	move(a, b, to);
	a_sipi_starts_it(b);
	stays(b, NMIS, 0, "an NMI");
}

/* One that is sent before the move starts it after. */
static void a_sipi_comes_along(struct tiny_vm *a, struct tiny_vm *b, const char *else_)
{
	pthread_t thread;

	send(a, ICR_SIPI);
	move(a, b, to);
	thread = begin(b);
	happens(b, STARTS, else_);
	end(b, thread);
	nothing_waits(b);
}

static void init_and_sipi_sent(struct tiny_vm *a, struct tiny_vm *b)
{
	put(a, 6, X86_RUNNING, false);
	send(a, ICR_INIT);
	a_sipi_comes_along(a, b, "INIT and SIPI do not start it");
}

static void sipi_sent(struct tiny_vm *a, struct tiny_vm *b)
{
	a_sipi_comes_along(a, b, "a SIPI is forgotten");
}

static void nmi_sent(struct tiny_vm *a, struct tiny_vm *b)
{
	pthread_t thread;

	put(a, 6, X86_RUNNING, false);
	send(a, ICR_NMI);
	move(a, b, to);
	thread = begin(b);
	happens(b, NMIS, "an NMI is forgotten");
	stays(b, NMIS, 1, "an NMI comes twice");
	end(b, thread);
	nothing_waits(b);
}

static void nmi_sent_to_one_that_halts(struct tiny_vm *a, struct tiny_vm *b)
{
	pthread_t thread;

	put(a, AP_HALTS - AP + 1, X86_HALTED, false);
	send(a, ICR_NMI);
	move(a, b, to);
	thread = begin(b);
	happens(b, WAKES, "an NMI does not wake it");
	stays(b, WAKES, 1, "it wakes twice");
	end(b, thread);
	assert_int_equal(counter(b, NMIS), 1);
	nothing_waits(b);
}

static void a_kick(struct tiny_vm *a, struct tiny_vm *b, enum x86_run_state run)
{
	pthread_t thread;

	put(a, AP_HALTS - AP + (run == X86_HALTED), run, true);
	move(a, b, to);
	thread = begin(b);
	happens(b, WAKES, "a kick is forgotten");
	stays(b, WAKES, 1, "a kick comes twice");
	end(b, thread);
	nothing_waits(b);
}

static void kick_waits(struct tiny_vm *a, struct tiny_vm *b)
{
	a_kick(a, b, X86_RUNNING);
}

static bool has_kick(struct tiny_vm *t)
{
	struct x86_state *s = calloc(1, sizeof(*s));
	bool has;

	assert_non_null(s);
	t->engine->get_state(t->vcpus[1], s);
	has = s->pv_unhalt;
	free(s);
	return has;
}

/* One that the engine has had while it ran, and nobody has used up. To look at it changes nothing. */
static void kick_waits_while_it_runs(struct tiny_vm *a, struct tiny_vm *b)
{
	pthread_t thread;

	send(a, 0);
	put(a, 6, X86_RUNNING, true);
	for (unsigned n = 0; n < 2; n++) {
		mem_fill(a->mem, gpa(LOOPS), 0, 4);
		thread = begin(a);
		happens(a, LOOPS, "it does not run");
		end(a, thread);
		if (!has_kick(a))
			fail_msg("%s to %s: a kick is not in the state", from->name, to->name);
	}
	move(a, b, to);
	put(b, AP_HALTS - AP, X86_RUNNING, has_kick(b));
	thread = begin(b);
	happens(b, WAKES, "a kick is forgotten");
	stays(b, WAKES, 1, "a kick comes twice");
	end(b, thread);
	nothing_waits(b);
}

static void kick_ends_a_halt(struct tiny_vm *a, struct tiny_vm *b)
{
	a_kick(a, b, X86_HALTED);
}

/* There and back again, without having run there. */
static void init_goes_there_and_back(struct tiny_vm *a, struct tiny_vm *b)
{
	struct tiny_vm back;

	put(a, 6, X86_RUNNING, false);
	send(a, ICR_INIT);
	move(a, b, to);
	move(b, &back, from);
	a_sipi_starts_it(&back);
	*b = back;
}

typedef void move_fn(struct tiny_vm *a, struct tiny_vm *b);

static void each_pair(move_fn *fn)
{
	struct tiny_vm a, b;

	for (from = ends; from < ends + end_count; from++) {
		for (to = ends; to < ends + end_count; to++) {
			vm_new(&a, from);
			fn(&a, &b);
			tiny_vm_free(&b);
		}
	}
}

#define CASE(name, fn)                                                                                                 \
	static void name(void **state)                                                                                 \
	{                                                                                                              \
		each_pair(fn);                                                                                         \
	}
CASE(one_that_waits_is_started_by_a_sipi, fresh)
CASE(one_that_saw_an_init_is_started_by_a_sipi, init_seen)
CASE(an_init_is_not_lost, init_sent)
CASE(an_init_and_a_sipi_are_not_lost, init_and_sipi_sent)
CASE(a_sipi_is_not_lost, sipi_sent)
CASE(an_nmi_is_not_lost, nmi_sent)
CASE(an_nmi_wakes_one_that_halts, nmi_sent_to_one_that_halts)
CASE(a_kick_waits_for_the_halt, kick_waits)
CASE(a_kick_waits_while_it_runs, kick_waits_while_it_runs)
CASE(a_kick_ends_a_halt, kick_ends_a_halt)
CASE(an_init_goes_there_and_back, init_goes_there_and_back)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_that_waits_is_started_by_a_sipi),
		cmocka_unit_test(one_that_saw_an_init_is_started_by_a_sipi),
		cmocka_unit_test(an_init_is_not_lost),
		cmocka_unit_test(an_init_and_a_sipi_are_not_lost),
		cmocka_unit_test(a_sipi_is_not_lost),
		cmocka_unit_test(an_nmi_is_not_lost),
		cmocka_unit_test(an_nmi_wakes_one_that_halts),
		cmocka_unit_test(a_kick_waits_for_the_halt),
		cmocka_unit_test(a_kick_waits_while_it_runs),
		cmocka_unit_test(a_kick_ends_a_halt),
		cmocka_unit_test(an_init_goes_there_and_back),
	};

	for (const struct engine *const *e = engines; *e; e++) {
		struct engine_probe p = { 0 };

		(*e)->probe(&p);
		if (!p.available) {
			print_message("engine %s is not here, its moves are skipped: %s\n", (*e)->name, p.why);
			continue;
		}
		ends[end_count++] = (struct end){ (*e)->name, *e, ENGINE_INTC_USER };
		if ((*e)->intc_places & 1u << ENGINE_INTC_SPLIT)
			ends[end_count++] = (struct end){ "kvm (split)", *e, ENGINE_INTC_SPLIT };
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
