/* What KVM offers to guests that know it: its own interface. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cpu/kvm/kvm.h"
#include "tiny_vm.h"

static int setup(void **state)
{
	struct engine_probe p = { 0 };
	struct tiny_vm *t;

	engine_kvm.probe(&p);
	if (!p.available) {
		print_message("no KVM here: %s\n", p.why);
		*state = NULL;
		return 0;
	}
	t = malloc(sizeof(*t));
	tiny_vm_new_on(t, &engine_kvm);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	if (*state) {
		tiny_vm_free(*state);
		free(*state);
	}
	return 0;
}

static struct tiny_vm *vm_of(void **state)
{
	if (!*state)
		skip();
	return *state;
}

/* --- steal time --- */

#define STEAL 0x9040u

static bool kvm_offers_steal_time(const struct tiny_vm *t)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 256 * sizeof(c->entries[0]));
	bool has = false;

	c->nent = 256;
	assert_int_equal(kvm_ioctl(((const struct kvm_vm *)t->vm)->kvm, KVM_GET_SUPPORTED_CPUID, c), 0);
	for (uint32_t n = 0; n < c->nent; n++)
		has |= c->entries[n].function == 0x40000001 && c->entries[n].eax >> 5 & 1;
	free(c);
	return has;
}

static void new_with_steal_time(struct tiny_vm *t, const char *code, size_t len)
{
	struct config *c = config_new();
	struct err err;

	assert_int_equal(config_set(c, "cpu.model", "max,+kvm-steal-time", &err), 0);
	tiny_vm_new_configured(t, &engine_kvm, c);
	tiny_vm_load64(t, code, len);
}

/* Of struct kvm_steal_time: how often KVM has written it, twice each time. */
static uint32_t steal_version(struct tiny_vm *t)
{
	uint32_t version = 0;

	assert_int_equal(engine_kvm.run(t->vcpu), CPU_EXIT_HALTED);
	assert_true(mem_read(t->mem, gpa(STEAL + 8), &version, 4));
	return version;
}

static void steal_time_is_told_and_saved(void **state)
{
	struct tiny_vm *t = vm_of(state), with;
	struct x86_state *s;
	struct err err;

	assert_false(((const struct kvm_vm *)t->vm)->features->on[X86_F_KVM_STEAL]);
	if (!kvm_offers_steal_time(t))
		skip();
	s = malloc(sizeof(*s));
	/* mov ecx, 4b564d03h; mov eax, STEAL | 1; xor edx, edx; wrmsr; out 80h, eax; hlt */
	new_with_steal_time(&with, "\xb9\x03\x4d\x56\x4b\xb8\x41\x90\0\0\x31\xd2\x0f\x30\xe7\x80\xf4", 17);
	assert_int_not_equal(steal_version(&with), 0);
	engine_kvm.get_state(with.vcpu, s);
	assert_int_equal(s->kvm_steal_time, STEAL | 1);
	tiny_vm_free(&with);
	/* Where it is restored it goes on without a word from the guest. */
	new_with_steal_time(&with, "\xe7\x80\xf4", 3);
	s->gpr[X86_RIP] = TINY_CODE;
	s->run = X86_RUNNING;
	assert_int_equal(engine_kvm.set_state(with.vcpu, s, &err), 0);
	assert_int_not_equal(steal_version(&with), 0);
	tiny_vm_free(&with);
	free(s);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(steal_time_is_told_and_saved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
