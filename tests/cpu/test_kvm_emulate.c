/*
 * Instructions that KVM gives back: on device memory under any, and most of the rare ones under a KVM that emulates
 * kernel mode. Whoever executes them, the guest and its debugger see what a processor does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "cpu/kvm/kvm.h"
#include "cpu/x86/entry.h"
#include "kvm_rig.h"

#define IDT	 0x5000u
#define HANDLERS 0x7000u /* one HLT each */
#define DEVICE	 0x20000000u

/* At `code`, with a handler for every exception and SSE switched on. */
static void begin(struct tiny_vm *t, const void *code, size_t len)
{
	struct x86_state *s = malloc(sizeof(*s));
	struct err err;

	tiny_vm_load64(t, code, len);
	mem_fill(t->mem, gpa(HANDLERS), 0xf4, 32);
	for (unsigned n = 0; n < 32; n++) {
		uint64_t gate[2] = { (HANDLERS + n) | 0x10ull << 16 | 0x8eull << 40, 0 };

		mem_write(t->mem, gpa(IDT + 16 * n), gate, 16);
	}
	engine_kvm.get_state(t->vcpu, s);
	s->idt = (struct x86_dtable){ IDT, 16 * 32 - 1 };
	s->cr4 |= X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
	assert_int_equal(engine_kvm.set_state(t->vcpu, s, &err), 0);
	free(s);
}

/* The vector whose handler was entered, or -1; its frame begins at `frame`. */
static int vector_of(struct tiny_vm *t, struct x86_state *s)
{
	engine_kvm.get_state(t->vcpu, s);
	return s->gpr[X86_RIP] > HANDLERS && s->gpr[X86_RIP] <= HANDLERS + 32 ? (int)(s->gpr[X86_RIP] - 1 - HANDLERS)
									      : -1;
}

static void *kick_later(void *opaque)
{
	sleep(10);
	vcpu_kick(opaque);
	return NULL;
}

/* An instruction that is emulated again and again is a failure, not the end of all patience. */
static enum cpu_exit run(struct tiny_vm *t)
{
	pthread_t patience;
	enum cpu_exit why;

	assert_int_equal(pthread_create(&patience, NULL, kick_later, t->vcpu), 0);
	why = engine_kvm.run(t->vcpu);
	pthread_cancel(patience);
	pthread_join(patience, NULL);
	return why;
}

static uint64_t emulated(const struct tiny_vm *t)
{
	return kvm_cpu_of(t->vcpu)->emulated;
}

static uint64_t read_device(struct tiny_vm *t, uint64_t addr)
{
	assert_int_equal(addr & ~15ull, DEVICE);
	return 0x1111111122222222;
}

/* No KVM's emulator knows PADDD. */
static void vectors_may_be_read_from_a_device(void **state)
{
	struct tiny_vm *t = vm_of(state);
	struct x86_state *s = malloc(sizeof(*s));
	uint64_t before = emulated(t);

	/* mov ebx, DEVICE; mov eax, 3; movd xmm1, eax; paddd xmm1, [rbx]; movd eax, xmm1; hlt */
	begin(t, "\xbb\0\0\0\x20\xb8\x03\0\0\0\x66\x0f\x6e\xc8\x66\x0f\xfe\x0b\x66\x0f\x7e\xc8\xf4", 23);
	t->on_mmio_read = read_device;
	assert_int_equal(run(t), CPU_EXIT_HALTED);
	assert_true(emulated(t) > before);
	assert_int_equal(vector_of(t, s), -1);
	assert_int_equal(s->gpr[X86_RAX], 0x22222225);
	assert_true(s->vec[1].q[1] == 0x1111111122222222);
	free(s);
}

static sigjmp_buf undefined_here;

static void on_sigill(int sig)
{
	siglongjmp(undefined_here, sig);
}

/*
 * Processors without XOP raise #UD for its prefix. QEMU's TCG pops into a register instead, as if it were the other
 * instruction of that first byte, and then a guest goes on through its zeroed memory to the end of it.
 */
static bool xop_is_undefined_here(void)
{
	void (*before)(int) = signal(SIGILL, on_sigill);
	bool undefined = true;

	if (!sigsetjmp(undefined_here, 1)) {
		/* An XOP that no processor has; or push rax; pop rcx; js behind this. */
		__asm__ volatile("subq $128, %%rsp; push %%rax; .byte 0x8f, 0xe9, 0x78, 0; addq $128, %%rsp" ::
					 : "rcx", "cc", "memory");
		undefined = false;
	}
	signal(SIGILL, before);
	return undefined;
}

/* No opcode ends a VM. */
static void undefined_opcodes_are_the_guests(void **state)
{
	static const struct {
		const char *code;
		uint8_t len;
		bool xop;
	} undefined[] = {
		{ "\x8f\xe9\x78", 4, true },  { "\x0f\x0b", 2, false },	    { "\x27", 1, false },
		{ "\x0f\xff\xc0", 3, false }, { "\x0f\x04", 2, false },	    { "\x62\x00", 2, false },
		{ "\x8e\xc8", 2, false },     { "\xf0\x90", 2, false },	    { "\xfe\xd0", 2, false },
		{ "\x0f\x7a\xc0", 3, false }, { "\x0f\x01\xcf", 3, false },
	};
	struct tiny_vm *t = vm_of(state);
	struct x86_state *s = malloc(sizeof(*s));
	bool xop = xop_is_undefined_here();
	uint64_t rip;

	for (size_t n = 0; n < ARRAY_LEN(undefined); n++) {
		if (undefined[n].xop && !xop)
			continue;
		begin(t, undefined[n].code, undefined[n].len);
		assert_int_equal(run(t), CPU_EXIT_HALTED);
		assert_int_equal(vector_of(t, s), X86_UD);
		assert_true(mem_read(t->mem, gpa(s->gpr[X86_RSP]), &rip, 8));
		assert_int_equal(rip, TINY_CODE);
	}
	free(s);
}

/* In either processor's form, of a number that nobody knows: an error, or no such instruction. */
static void hypercalls_come_to_an_end(void **state)
{
	static const char *const calls[] = { "\xb8\x4d\0\0\0\x0f\x01\xc1\xf4", "\xb8\x4d\0\0\0\x0f\x01\xd9\xf4" };
	struct tiny_vm *t = vm_of(state);
	struct x86_state *s = malloc(sizeof(*s));
	bool works = ((struct kvm_vm *)t->vm)->hypercalls;

	for (size_t n = 0; n < ARRAY_LEN(calls); n++) {
		begin(t, calls[n], 9);
		assert_int_equal(run(t), CPU_EXIT_HALTED);
		assert_int_equal(vector_of(t, s), works ? -1 : X86_UD);
		assert_true(s->gpr[X86_RAX] == (works ? (uint64_t)-1000 : 0x4d));
	}
	free(s);
}

/* A guest that is not told of them does not try. */
static void what_is_done_by_hypercalls_needs_them(void **state)
{
	static struct tiny_vm split;
	const struct kvm_vm *vm;

	vm_of(state);
	tiny_vm_new_split(&split, &engine_kvm, NULL);
	vm = (struct kvm_vm *)split.vm;
	assert_int_equal(vm->features->on[X86_F_KVM_PV_UNHALT], vm->hypercalls);
	assert_int_equal(vm->features->on[X86_F_KVM_SEND_IPI], vm->hypercalls);
	assert_true(vm->features->on[X86_F_KVM_PV_EOI]);
	tiny_vm_free(&split);
}

/* Where KVM emulates kernel mode all of these come back; elsewhere the processor executes them. */
static void rare_instructions_do_what_they_do(void **state)
{
	struct tiny_vm *t = vm_of(state);
	struct x86_state *s = malloc(sizeof(*s));

	/* mov eax, 10h; lar ecx, eax; lsl edx, eax; fldpi; fld1; fcomip; seta bl; ldmxcsr [rip + 1]; hlt; 1fa0h */
	begin(t,
	      "\xb8\x10\0\0\0\x0f\x02\xc8\x0f\x03\xd0\x31\xdb\xd9\xeb\xd9\xe8\xdf\xf1\x0f\x97\xc3\x0f\xae\x15\x01\0\0\0"
	      "\xf4\xa0\x1f\0\0",
	      34);
	assert_int_equal(run(t), CPU_EXIT_HALTED);
	assert_int_equal(vector_of(t, s), -1);
	assert_int_equal(s->gpr[X86_RCX] & ~0xf0000ull, 0xa09b00); /* these four bits are undefined */
	assert_int_equal(s->gpr[X86_RDX], 0xffffffff);
	assert_int_equal(s->gpr[X86_RBX], 0); /* 1 is below pi */
	assert_int_equal(s->mxcsr, 0x1fa0);
	free(s);
}

static void a_fault_without_a_handler_shuts_down(void **state)
{
	struct tiny_vm *t = vm_of(state);

	tiny_vm_load64(t, "\x0f\xff\xc0", 3);
	assert_int_equal(run(t), CPU_EXIT_SHUTDOWN);
	assert_non_null(strstr(t->vcpu->error.msg, "triple fault"));
	assert_int_equal(run(t), CPU_EXIT_SHUTDOWN);
}

/* What KVM does for an ICR. */
static void another_sends_an_nmi(int fd)
{
	assert_int_equal(kvm_ioctl(fd, KVM_NMI, NULL), 0);
}

/* As after a fault while it was delivered. */
static void an_nmi_is_on_its_way(int fd)
{
	struct kvm_vcpu_events e = { .nmi = { .injected = 1, .masked = 1 } };

	assert_int_equal(kvm_ioctl(fd, KVM_GET_VCPU_EVENTS, &e), 0);
	e.nmi.injected = e.nmi.masked = 1;
	assert_int_equal(kvm_ioctl(fd, KVM_SET_VCPU_EVENTS, &e), 0);
}

static void (*meanwhile)(int fd);

static uint64_t read_while_something_happens(struct tiny_vm *t, uint64_t addr)
{
	if (meanwhile)
		meanwhile(kvm_cpu_of(t->vcpu)->fd);
	meanwhile = NULL;
	return read_device(t, addr);
}

/* Between reading the registers and writing them; where KVM's events change by the instruction, and where not. */
static void an_nmi_meanwhile_is_not_lost(void **state)
{
	static void (*const happens[])(int fd) = { another_sends_an_nmi, an_nmi_is_on_its_way };
	struct x86_state *s = malloc(sizeof(*s));

	vm_of(state);
	for (unsigned n = 0; n < 4; n++) {
		static struct tiny_vm t;
		struct err err;

		tiny_vm_new_split(&t, &engine_kvm, NULL);
		/* paddd xmm1, [rbx]; out 80h, al. KVM keeps HLTs. */
		begin(&t, "\x66\x0f\xfe\x0b\xe6\x80", 6);
		mem_write(t.mem, gpa(HANDLERS + X86_NMI), "\xe6\x80", 2);
		engine_kvm.get_state(t.vcpu, s);
		s->gpr[X86_RBX] = DEVICE;
		s->shadow_sti = n & 1;
		assert_int_equal(engine_kvm.set_state(t.vcpu, s, &err), 0);
		t.on_mmio_read = read_while_something_happens;
		t.kick_on_out = true;
		meanwhile = happens[n / 2];
		assert_int_equal(run(&t), CPU_EXIT_KICKED);
		assert_int_equal(t.outs, 1);
		engine_kvm.get_state(t.vcpu, s);
		assert_int_equal(s->gpr[X86_RIP], HANDLERS + X86_NMI + 2);
		assert_true(s->nmi_blocked);
		assert_false(s->shadow_sti);
		assert_int_equal(s->nmi_pending, 0);
		tiny_vm_free(&t);
	}
	free(s);
}

/* A step is one instruction, whoever executes it. */
static void a_debugger_steps_over_it(void **state)
{
	struct tiny_vm *t = vm_of(state);
	struct x86_state *s = malloc(sizeof(*s));
	struct cpu_debug d = { .step = true };
	struct err err;

	/* mov ebx, DEVICE; paddd xmm1, [rbx]; nop; hlt */
	begin(t, "\xbb\0\0\0\x20\x66\x0f\xfe\x0b\x90\xf4", 11);
	assert_int_equal(engine_kvm.set_debug(t->vcpu, &d, &err), 0);
	for (unsigned n = 0; n < 3; n++) {
		static const uint8_t after[] = { 5, 9, 10 };

		assert_int_equal(run(t), CPU_EXIT_DEBUG);
		assert_true(t->vcpu->stop.step);
		engine_kvm.get_state(t->vcpu, s);
		assert_int_equal(s->gpr[X86_RIP], TINY_CODE + after[n]);
	}
	free(s);
}

/* What cannot go on says where the guest was; here by a state that no processor has. */
static void the_end_of_a_vm_names_the_place(void **state)
{
	struct tiny_vm *t = vm_of(state);

	/* mov ebx, DEVICE; paddd xmm1, [rbx]; hlt */
	begin(t, "\xbb\0\0\0\x20\x66\x0f\xfe\x0b\xf4", 10);
	kvm_cpu_of(t->vcpu)->s.gpr[X86_NOREG] = 1;
	kvm_cpu_of(t->vcpu)->s.xss = 1;
	assert_int_equal(run(t), CPU_EXIT_FAILED);
	assert_non_null(strstr(t->vcpu->error.msg, "at 0010:0x10005, 64-bit mode, privilege 0, bytes 66 0f fe 0b f4"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(vectors_may_be_read_from_a_device), TEST(undefined_opcodes_are_the_guests),
		TEST(rare_instructions_do_what_they_do), TEST(a_fault_without_a_handler_shuts_down),
		TEST(hypercalls_come_to_an_end),	 TEST(what_is_done_by_hypercalls_needs_them),
		TEST(a_debugger_steps_over_it),		 TEST(the_end_of_a_vm_names_the_place),
		TEST(an_nmi_meanwhile_is_not_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
