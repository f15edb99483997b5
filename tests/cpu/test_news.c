/*
 * No loop keeps a processor from what others want of it: an interrupt, a kick (to save it, to stop it), another
 * processor's exclusive section. A translator looks for such news only where loops may close, so there is a loop here
 * for each way of closing one.
 */
#include "rig.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"

#define COUNTER RIG_DATA_AT
#define AGAIN	(RIG_DATA_AT + 0x100) /* memory that has the loop's address */
#define OTHER	0x11000u	      /* the page behind RIG_CODE */
#define VECTOR	0x40
#define ROUNDS	100
#define WAIT_S	60 /* more is a hang */

#define BOTH   1u /* the same in 32-bit code */
#define KERNEL 2u
#define SILENT 4u /* does not count */
#define MASKED 8u /* begins without interrupts */

/* RDI leads to what is counted, RSI to the loop, RBP to memory that does; RBX is a stack, EAX 1, RCX large, RDX flags.
 */
static const struct loop_shape {
	const char *name;
	uint32_t what, at; /* where in its page it begins */
	uint8_t code[32], other[12];
} shapes[] = {
	{ "jnz, flags dead at the target", BOTH, 0, { 0xff, 7, 0x85, 0xc0, 0x75, 0xfa } },
	{ "jc, flags wanted at the target", BOTH, 0, { 0x83, 0x17, 1, 0xf9, 0x72, 0xfa } },
	{ "jc to the middle of a block", BOTH, 0, { 0x31, 0xc0, 0x83, 0x17, 1, 0xf9, 0x72, 0xfa } },
	{ "jmp", BOTH, 0, { 0xff, 7, 0xeb, 0xfc } },
	{ "jmp, flags wanted", BOTH, 0, { 0x83, 0x17, 1, 0xf9, 0xeb, 0xfa } },
	{ "jmp near", BOTH, 0, { 0xff, 7, 0xe9, 0xf9, 0xff, 0xff, 0xff } },
	{ "jmp to itself", BOTH | SILENT, 0, { 0xeb, 0xfe } },
	{ "jnz to itself", BOTH | SILENT, 0, { 0x85, 0xc0, 0x75, 0xfe } },
	{ "loop", 0, 0, { 0xff, 7, 0xe2, 0xfc } },
	{ "loop to itself", SILENT, 0, { 0xe2, 0xfe } },
	{ "loopne", 0, 0, { 0xff, 7, 0x85, 0xc0, 0xe0, 0xfa } },
	{ "loope", 0, 0, { 0xff, 7, 0x39, 0xc0, 0xe1, 0xfa } },
	{ "jrcxz", BOTH, 0, { 0x31, 0xc9, 0xff, 7, 0xe3, 0xfc } },
	{ "jrcxz that falls through", BOTH, 0, { 0xff, 7, 0xe3, 0xfc, 0xeb, 0xfa } },
	{ "call", BOTH, 0, { 0xff, 7, 0x89, 0xdc, 0xe8, 0xf7, 0xff, 0xff, 0xff } },
	{ "call and ret", BOTH, 0, { 0xe8, 2, 0, 0, 0, 0xeb, 0xf9, 0xff, 7, 0xc3 } },
	{ "ret", BOTH, 0, { 0xff, 7, 0x56, 0xc3 } },
	{ "ret n", BOTH, 0, { 0xff, 7, 0x89, 0xdc, 0x56, 0xc2, 0x10, 0 } },
	{ "jmp register", BOTH, 0, { 0xff, 7, 0xff, 0xe6 } },
	{ "jmp memory", BOTH, 0, { 0xff, 7, 0xff, 0x65, 0 } },
	{ "call register", BOTH, 0, { 0xff, 7, 0x89, 0xdc, 0xff, 0xd6 } },
	{ "call memory", BOTH, 0, { 0xff, 7, 0x89, 0xdc, 0xff, 0x55, 0 } },
	{ "a ladder down and one jump up",
	  BOTH,
	  0,
	  { 0xff, 7, 0xeb, 1, 0x90, 0x85, 0xc0, 0x75, 1, 0x90, 0x74, 0xf4, 0x85, 0xc0, 0x75, 1, 0x90, 0xeb, 0xed } },
	{ "jmp from another page", BOTH, 0, { 0xff, 7, 0xe9, 0xf9, 0x0f, 0, 0 }, { 0xe9, 0xfb, 0xef, 0xff, 0xff } },
	{ "jnz from another page",
	  BOTH,
	  0,
	  { 0xff, 7, 0x85, 0xc0, 0x0f, 0x85, 0xf6, 0x0f, 0, 0 },
	  { 0x0f, 0x85, 0xfa, 0xef, 0xff, 0xff } },
	{ "jc from another page, flags wanted",
	  BOTH,
	  0,
	  { 0x83, 0x17, 1, 0xf9, 0x0f, 0x82, 0xf6, 0x0f, 0, 0 },
	  { 0x0f, 0x82, 0xfa, 0xef, 0xff, 0xff } },
	{ "call to another page and ret", BOTH, 0, { 0xe8, 0xfb, 0x0f, 0, 0, 0xeb, 0xf9 }, { 0xff, 7, 0xc3 } },
	{ "code that runs into another page", BOTH, 0xffc, { 0xff, 7, 0x90, 0x90 }, { 0xe9, 0xf7, 0xff, 0xff, 0xff } },
	{ "a jump that lies in two pages", BOTH, 0xffd, { 0xff, 7, 0xe9 }, { 0xf9, 0xff, 0xff, 0xff } },
	{ "an instruction in two pages", BOTH, 0xffd, { 0x90, 0x90, 0xff }, { 7, 0xe9, 0xf7, 0xff, 0xff, 0xff } },
	{ "iretq", KERNEL, 0, { 0xff, 7, 0x6a, 0x18, 0x53, 0x9c, 0x6a, 0x10, 0x56, 0x48, 0xcf } },
	{ "retfq", KERNEL, 0, { 0xff, 7, 0x6a, 0x10, 0x56, 0x48, 0xcb } },
	{ "an exception", KERNEL, 0, { 0x0f, 0x0b }, { 0xff, 7, 0x48, 0xcf } },
	{ "sti and cli", KERNEL | MASKED, 0, { 0xff, 7, 0xfb, 0x90, 0xfa, 0xeb, 0xf9 } },
	{ "popfq", KERNEL | MASKED, 0, { 0xff, 7, 0x52, 0x9d, 0x90, 0xfa, 0xeb, 0xf8 } },
	{ "rep stosb", 0, 0, { 0x48, 0x89, 0xfe, 0xbb, 0,    0,	   0x60, 0,    0xff, 6,	   0xb9,
			       0,    0,	   1,	 0,    0x48, 0x89, 0xdf, 0xf3, 0xaa, 0xeb, 0xf2 } },
	{ "rep movsq", 0, 0, { 0x48, 0x89, 0xfa, 0xff, 2, 0xb9, 0, 0x20, 0,    0,    0xbe, 0,	0,
			       0x40, 0,	   0xbf, 0,    0, 0x50, 0, 0xf3, 0x48, 0xa5, 0xeb, 0xea } },
	{ "repe scasb", 0, 0, { 0x48, 0x89, 0xfa, 0xff, 2,    0xb9, 0,	  0x40, 0,    0,   0xbf,
				0,    0,    0x40, 0,	0x31, 0xc0, 0xf3, 0xae, 0xeb, 0xee } },
	{ "rep lodsb that never ends", SILENT, 0, { 0xf3, 0xac } },
};

static struct rig r;

/* --- running and waiting --- */

static void *run_vcpu(void *opaque)
{
	struct vcpu *v = opaque;

	return (void *)(uintptr_t)v->engine->run(v);
}

static void begin(pthread_t *thread, struct vcpu *v)
{
	assert_int_equal(pthread_create(thread, NULL, run_vcpu, v), 0);
}

static void nap(long us)
{
	nanosleep(&(struct timespec){ 0, us * 1000 }, NULL);
}

/* It is in its loop, and has been for a while. */
static void until_it_runs(const struct loop_shape *s)
{
	if (s->what & SILENT) {
		nap(5000);
		return;
	}
	for (unsigned n = 0; n < WAIT_S * 10000 && rig_read(&r, COUNTER, 4) < ROUNDS; n++)
		nap(100);
	if (rig_read(&r, COUNTER, 4) < ROUNDS)
		fprintf(stderr, "%s: does not run\n", s->name);
}

/* A processor that does not come back cannot be stopped either. */
static enum cpu_exit finished(pthread_t thread, const struct loop_shape *s, const char *what)
{
	struct timespec until;
	void *why;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_S;
	if (pthread_timedjoin_np(thread, &why, &until)) {
		fprintf(stderr, "%s: no news of %s\n", s->name, what);
		_Exit(1);
	}
	return (enum cpu_exit)(uintptr_t)why;
}

static void load(const struct loop_shape *s, enum rig_mode mode, bool user)
{
	uint64_t at = RIG_CODE + s->at;

	rig_reset(&r, mode);
	if (user)
		rig_user(&r);
	if (s->other[0])
		rig_put(&r, OTHER, s->other, sizeof(s->other));
	rig_put(&r, at, s->code, s->other[0] && s->at ? OTHER - at : sizeof(s->code));
	rig_write(&r, COUNTER, 0, 8);
	rig_write(&r, AGAIN, at, 8);
	r.s.gpr[X86_RIP] = r.s.gpr[X86_RSI] = at;
	r.s.gpr[X86_RDI] = COUNTER;
	r.s.gpr[X86_RBP] = AGAIN;
	r.s.gpr[X86_RBX] = r.s.gpr[X86_RSP] = RIG_STACK;
	r.s.gpr[X86_RAX] = 1;
	r.s.gpr[X86_RCX] = 1ull << 62 | 1u << 30;
	r.s.gpr[X86_RDX] = 2 | X86_IF;
	r.s.rflags = 2 | X86_CF | (s->what & MASKED ? 0 : X86_IF);
	/* The one that goes on after an exception. */
	if (s->code[0] == 0x0f)
		rig_write(&r, RIG_IDT + 16 * X86_UD, RIG_GATE(RIG_CODE64, (uint64_t)OTHER, 0x8e, 0), 8);
}

static void start(struct vcpu *v)
{
	struct err err;

	assert_int_equal(v->engine->set_state(v, &r.s, &err), 0);
}

/* --- kicks and interrupts --- */

static const struct {
	enum rig_mode mode;
	bool user;
} modes[] = { { RIG_LONG, false }, { RIG_LONG, true }, { RIG_PROT32, false }, { RIG_COMPAT, true } };

static bool fits(const struct loop_shape *s, unsigned m)
{
	return m == 0 || (m == 1 && !(s->what & KERNEL)) || (m > 1 && s->what & BOTH);
}

/* Twice: what was stopped goes on. */
static void kick(const struct loop_shape *s)
{
	for (unsigned n = 0; n < 2; n++) {
		pthread_t thread;

		rig_write(&r, COUNTER, 0, 4);
		begin(&thread, r.vm.vcpu);
		until_it_runs(s);
		vcpu_kick(r.vm.vcpu);
		assert_int_equal(finished(thread, s, "a kick"), CPU_EXIT_KICKED);
	}
}

static void interrupt(const struct loop_shape *s)
{
	pthread_t thread;

	rig_write(&r, COUNTER, 0, 4);
	begin(&thread, r.vm.vcpu);
	until_it_runs(s);
	r.vm.irq = VECTOR;
	vcpu_signal(r.vm.vcpu, CPU_SIGNAL_INTR, 0);
	assert_int_equal(finished(thread, s, "an interrupt"), CPU_EXIT_HALTED);
	r.vm.engine->get_state(r.vm.vcpu, &r.s);
	assert_int_equal(rig_vector(&r), VECTOR);
}

static void each_loop_is_left(void **state)
{
	rig_new(&r, RIG_LONG, NULL);
	for (unsigned n = 0; n < ARRAY_LEN(shapes) * ARRAY_LEN(modes); n++) {
		const struct loop_shape *s = &shapes[n / ARRAY_LEN(modes)];
		unsigned m = n % ARRAY_LEN(modes);

		if (!fits(s, m))
			continue;
		load(s, modes[m].mode, modes[m].user);
		start(r.vm.vcpu);
		kick(s);
		interrupt(s);
	}
	rig_free(&r);
}

/* EIP goes on at 0 behind 4 GiB; the only jump leads up. */
static void a_loop_around_4_gib_is_left(void **state)
{
	static const struct loop_shape wraps[] = {
		{ "runs into 0", 0, 0, { 0xff, 7, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90 }, { 0 } },
		{ "jumps to 0", 0, 0, { 0xff, 7, 0xeb, 4, 0x90, 0x90, 0x90, 0x90 }, { 0 } },
		{ "adc, jc to 0", 0, 0, { 0x83, 0x17, 1, 0xf9, 0x72, 2, 0x90, 0x90 }, { 0 } },
	};
	static const uint8_t up[] = { 0xe9, 0xf3, 0xff, 0xff, 0xff }; /* jmp fffffff8h */

	rig_new(&r, RIG_COMPAT, NULL);
	for (unsigned n = 0; n < ARRAY_LEN(wraps); n++) {
		load(&wraps[n], RIG_COMPAT, n & 1);
		rig_write(&r, 0x2018, RIG_TABLES | 7, 8);
		rig_write(&r, RIG_TABLES + 8 * 511, (RIG_TABLES + 0x1000) | 7, 8);
		rig_write(&r, RIG_TABLES + 0x1000 + 8 * 511, OTHER | 7, 8);
		rig_put(&r, OTHER + 0xff8, wraps[n].code, 8);
		rig_put(&r, 0, up, sizeof(up));
		r.s.gpr[X86_RIP] = 0xfffffff8;
		start(r.vm.vcpu);
		kick(&wraps[n]);
		interrupt(&wraps[n]);
	}
	rig_free(&r);
}

/* --- another processor wants to be alone --- */

/* 1: lock inc qword [rdi]; dec ecx; jnz 1b; hlt. The operand lies in two pages. */
static const uint8_t alone[] = { 0xf0, 0x48, 0xff, 7, 0xff, 0xc9, 0x75, 0xf8, 0xf4 };
#define ALONE_AT     0x30000u
#define ALONE_DATA   0x31ffcu
#define ALONE_ROUNDS 20

static void each_loop_lets_others_be_alone(void **state)
{
	memset(&r, 0, sizeof(r));
	tiny_vm_new_with(&r.vm, 2, CLOCK_SOURCE_HOST);
	for (unsigned n = 0; n < ARRAY_LEN(shapes); n++) {
		const struct loop_shape *s = &shapes[n];
		pthread_t loop, other;

		load(s, RIG_LONG, !(s->what & KERNEL) && n & 1);
		start(r.vm.vcpus[0]);
		rig_reset(&r, RIG_LONG);
		if (s->code[0] == 0x0f)
			rig_write(&r, RIG_IDT + 16 * X86_UD, RIG_GATE(RIG_CODE64, (uint64_t)OTHER, 0x8e, 0), 8);
		rig_put(&r, ALONE_AT, alone, sizeof(alone));
		r.s.gpr[X86_RIP] = ALONE_AT;
		r.s.gpr[X86_RDI] = ALONE_DATA;
		r.s.gpr[X86_RCX] = ALONE_ROUNDS;
		rig_write(&r, ALONE_DATA, 0, 8);
		start(r.vm.vcpus[1]);
		begin(&loop, r.vm.vcpus[0]);
		until_it_runs(s);
		begin(&other, r.vm.vcpus[1]);
		assert_int_equal(finished(other, s, "an exclusive section"), CPU_EXIT_HALTED);
		assert_int_equal(rig_read(&r, ALONE_DATA, 8), ALONE_ROUNDS);
		vcpu_kick(r.vm.vcpus[0]);
		assert_int_equal(finished(loop, s, "a kick"), CPU_EXIT_KICKED);
	}
	tiny_vm_free(&r.vm);
}

/*
 * 1: cli; nop; nop; sti; mov rax, [rsi]; mov rbx, [rsi + 8]; dec r12; jnz 1b; hlt. The second operand is in another
 * page: a translator that looks for both at once leaves its block behind STI.
 */
static const uint8_t shadow[] = { 0xfa, 0x90, 0x90, 0xfb, 0x48, 0x8b, 0x06, 0x48, 0x8b,
				  0x5e, 0x08, 0x49, 0xff, 0xcc, 0x75, 0xf0, 0xf4 };
#define SHADOW_AT     (RIG_CODE + 4)
#define SHADOW_ROUNDS 300000
/* Count in R14, and in R13 those that came behind STI: cmp qword [rsp], SHADOW_AT; jne 1f; inc r13; 1: inc r14; iretq
 */
static const uint8_t counter[] = { 0x48,
				   0x81,
				   0x3c,
				   0x24,
				   SHADOW_AT & 0xff,
				   SHADOW_AT >> 8 & 0xff,
				   SHADOW_AT >> 16,
				   0,
				   0x75,
				   0x03,
				   0x49,
				   0xff,
				   0xc5,
				   0x49,
				   0xff,
				   0xc6,
				   0x48,
				   0xcf };

static _Atomic bool interrupting;

static void *send_interrupts(void *opaque)
{
	volatile int *waits = &r.vm.irq;

	while (atomic_load(&interrupting)) {
		if (*waits < 0) {
			*waits = VECTOR;
			vcpu_signal(r.vm.vcpu, CPU_SIGNAL_INTR, 0);
		}
		nap(20);
	}
	return NULL;
}

/* Counting blocks too, which are left in another way. */
static void no_interrupt_comes_right_behind_sti(void **state)
{
	for (unsigned count = 0; count < 2; count++) {
		struct config *c = config_new();
		pthread_t thread;
		struct err err;

		assert_non_null(c);
		assert_int_equal(config_set(c, "jit.heat", "4", &err), 0);
		assert_int_equal(config_set(c, "jit.count", count ? "sums" : "off", &err), 0);
		rig_new_on(&r, RIG_LONG, tiny_software(), c);
		rig_put(&r, RIG_CODE, shadow, sizeof(shadow));
		rig_put(&r, OTHER, counter, sizeof(counter));
		rig_write(&r, RIG_IDT + 16 * VECTOR, RIG_GATE(RIG_CODE64, (uint64_t)OTHER, 0x8e, 0), 8);
		r.s.gpr[X86_RSI] = RIG_DATA_AT + 0xff8;
		r.s.gpr[12] = SHADOW_ROUNDS;
		r.s.gpr[13] = r.s.gpr[14] = 0;
		r.vm.irq = -1;
		start(r.vm.vcpu);
		atomic_store(&interrupting, true);
		assert_int_equal(pthread_create(&thread, NULL, send_interrupts, NULL), 0);
		assert_int_equal(r.vm.engine->run(r.vm.vcpu), CPU_EXIT_HALTED);
		atomic_store(&interrupting, false);
		pthread_join(thread, NULL);
		r.vm.engine->get_state(r.vm.vcpu, &r.s);
		assert_int_equal(r.s.gpr[13], 0);
		rig_free(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_loop_is_left),
		cmocka_unit_test(a_loop_around_4_gib_is_left),
		cmocka_unit_test(each_loop_lets_others_be_alone),
		cmocka_unit_test(no_interrupt_comes_right_behind_sti),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
