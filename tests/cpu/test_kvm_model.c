/*
 * KVM lets guests set control bits that their processor model does not offer: some of them any KVM, and one that
 * emulates kernel mode nearly all. What is saved of such a guest can be restored on any engine, or is refused at the
 * save.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cpu/kvm/kvm.h"
#include "cpu/x86/entry.h"
#include "tiny_vm.h"

#define IDT	 0x5000u
#define HANDLERS 0x7000u /* one HLT each */
#define CR4_PCE	 (1u << 8)

static struct tiny_vm vm;

static int setup(void **state)
{
	struct engine_probe p = { 0 };
	struct config *c = config_new();
	struct err err;

	*state = NULL;
	engine_kvm.probe(&p);
	if (!p.available) {
		print_message("skipped: no KVM here: %s\n", p.why);
		config_free(c);
		return 0;
	}
	assert_int_equal(
		config_set(c, "cpu.model", "max,-pge,-mce,-de,-vme,-pse,-xsave,-smep,-smap,-umip,-fsgsbase", &err), 0);
	tiny_vm_new_configured(&vm, &engine_kvm, c);
	*state = &vm;
	return 0;
}

static int teardown(void **state)
{
	if (*state)
		tiny_vm_free(*state);
	return 0;
}

/* The state of a guest that has executed `code` up to its HLT, or to the fault that it got. */
static struct x86_state *after(void **state, const void *code, size_t len)
{
	struct x86_state *s;
	struct err err;

	if (!*state)
		skip();
	s = malloc(sizeof(*s));
	tiny_vm_load64(&vm, code, len);
	mem_fill(vm.mem, gpa(HANDLERS), 0xf4, 32);
	for (unsigned n = 0; n < 32; n++) {
		uint64_t gate[2] = { (HANDLERS + n) | 0x10ull << 16 | 0x8eull << 40, 0 };

		mem_write(vm.mem, gpa(IDT + 16 * n), gate, 16);
	}
	engine_kvm.get_state(vm.vcpu, s);
	s->idt = (struct x86_dtable){ IDT, 16 * 32 - 1 };
	assert_int_equal(engine_kvm.set_state(vm.vcpu, s, &err), 0);
	assert_int_equal(engine_kvm.run(vm.vcpu), CPU_EXIT_HALTED);
	engine_kvm.get_state(vm.vcpu, s);
	return s;
}

/* mov rax, cr4; or eax, bits; mov cr4, rax; hlt */
static struct x86_state *with_cr4(void **state, uint32_t bits)
{
	uint8_t code[] = "\x0f\x20\xe0\x0d\0\0\0\0\x0f\x22\xe0\xf4";

	st_le32(code + 4, bits);
	return after(state, code, 12);
}

static void bits_of_others_are_not_in_the_state(void **state)
{
	static const uint32_t bits[] = { X86_CR4_VME,  X86_CR4_DE,	 X86_CR4_MCE,	  X86_CR4_PGE,	CR4_PCE,
					 X86_CR4_UMIP, X86_CR4_FSGSBASE, X86_CR4_OSXSAVE, X86_CR4_SMEP, X86_CR4_SMAP };
	unsigned allowed = 0;

	for (size_t n = 0; n < ARRAY_LEN(bits); n++) {
		struct x86_state *s = with_cr4(state, bits[n]);
		struct kvm_sregs raw;
		struct err err;

		assert_int_equal(kvm_ioctl(kvm_cpu_of(vm.vcpu)->fd, KVM_GET_SREGS, &raw), 0);
		allowed += !!(raw.cr4 & bits[n]);
		assert_false(s->cr4 & bits[n]);
		assert_int_equal(engine_kvm.check_state(vm.vm, s, &err), 0);
		assert_int_equal(engine_kvm.set_state(vm.vcpu, s, &err), 0);
		free(s);
	}
	/* The first ones by any KVM. */
	assert_true(allowed >= 5);
}

/* mov ecx, 0; mov eax, 7; xor edx, edx; xsetbv; hlt, with CR4.OSXSAVE as far as it can be set */
static void components_of_others_are_not_in_the_state(void **state)
{
	struct x86_state *s = after(
		state, "\x0f\x20\xe0\x0d\0\0\x04\0\x0f\x22\xe0\x31\xc9\xb8\x07\0\0\0\x31\xd2\x0f\x01\xd1\xf4", 24);
	struct err err;

	assert_int_equal(s->xcr0, 1);
	assert_int_equal(engine_kvm.set_state(vm.vcpu, s, &err), 0);
	free(s);
}

/* Without it the guest's pages would not be where they are. */
static void bits_that_change_paging_are_refused_at_a_save(void **state)
{
	struct x86_state *s = with_cr4(state, X86_CR4_PSE);
	struct err err;

	if (!(s->cr4 & X86_CR4_PSE))
		print_message("this KVM does not let a guest set CR4.PSE\n");
	s->cr4 |= X86_CR4_PSE;
	assert_int_equal(engine_kvm.check_state(vm.vm, s, &err), -1);
	assert_non_null(strstr(err.msg, "of which the CPU model lacks 0x10"));
	assert_int_equal(engine_kvm.set_state(vm.vcpu, s, &err), -1);
	free(s);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(bits_of_others_are_not_in_the_state),
		TEST(components_of_others_are_not_in_the_state),
		TEST(bits_that_change_paging_are_refused_at_a_save),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
