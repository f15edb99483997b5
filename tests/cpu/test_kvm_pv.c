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
#include "kvm_rig.h"

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

/* --- Hyper-V's interface --- */

#define HYPERV	  "max,+hv-relaxed,+hv-vapic,+hv-vpindex,+hv-time"
#define CALL_PAGE 0x30000u
#define TSC_PAGE  0x31000u
#define ASSIST	  0x32000u

static bool kvm_offers_hyperv(const struct tiny_vm *t)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 64 * sizeof(c->entries[0]));
	int rc;

	c->nent = 64;
	rc = kvm_ioctl(((const struct kvm_vm *)t->vm)->kvm, KVM_GET_SUPPORTED_HV_CPUID, c);
	free(c);
	return !rc;
}

static void new_with_hyperv(struct tiny_vm *t)
{
	struct config *c = config_new();
	struct err err;

	assert_int_equal(config_set(c, "cpu.model", HYPERV, &err), 0);
	tiny_vm_new_split(t, &engine_kvm, c);
}

/*
 * The guest tells who it is, asks for the hypercall page, that of the TSC and its own, and looks at both interfaces'
 * leaves, its number and the time; at last it makes a call that does not exist.
 */
static const uint8_t hyperv_guest[] = { 0xb9, 0x00, 0x00, 0x00, 0x40, 0xb8, 0x34, 0x12, 0x00, 0x00, 0xba, 0x01, 0x00,
					0x00, 0x00, 0x0f, 0x30, 0xb9, 0x01, 0x00, 0x00, 0x40, 0xb8, 0x01, 0x00, 0x03,
					0x00, 0x31, 0xd2, 0x0f, 0x30, 0xb9, 0x21, 0x00, 0x00, 0x40, 0xb8, 0x01, 0x10,
					0x03, 0x00, 0x0f, 0x30, 0xb9, 0x73, 0x00, 0x00, 0x40, 0xb8, 0x01, 0x20, 0x03,
					0x00, 0x0f, 0x30, 0xb8, 0x00, 0x00, 0x00, 0x40, 0x0f, 0xa2, 0x41, 0x89, 0xd9,
					0xb8, 0x00, 0x01, 0x00, 0x40, 0x0f, 0xa2, 0x41, 0x89, 0xda, 0xb9, 0x02, 0x00,
					0x00, 0x40, 0x0f, 0x32, 0x41, 0x89, 0xc3, 0xb9, 0x20, 0x00, 0x00, 0x40, 0x0f,
					0x32, 0x41, 0x89, 0xc4, 0xb9, 0x77, 0x77, 0x00, 0x00, 0x31, 0xd2, 0x45, 0x31,
					0xc0, 0xb8, 0x00, 0x00, 0x03, 0x00, 0xff, 0xd0, 0xe7, 0x80, 0xf4 };

/* With all of it in KVM the machine goes on elsewhere as it was. */
static void hypervs_interface_is_kvms(void **state)
{
	struct tiny_vm *t = vm_of(state), with, next;
	struct x86_model *model;
	struct x86_state *s;
	uint8_t call[4] = { 0 };
	struct err err;

	if (!kvm_offers_hyperv(t)) {
		print_message("skipped: this KVM has nothing of Hyper-V's\n");
		skip();
	}
	s = malloc(sizeof(*s));
	new_with_hyperv(&with);
	clock_start(with.clock);
	tiny_vm_load64(&with, hyperv_guest, sizeof(hyperv_guest));
	with.kick_on_out = true;
	assert_int_equal(engine_kvm.run(with.vcpu), CPU_EXIT_KICKED);
	engine_kvm.get_state(with.vcpu, s);
	assert_int_equal(s->gpr[9], ld_le32("Micr"));
	assert_int_equal(s->gpr[10], ld_le32("KVMK"));
	assert_int_equal(s->gpr[11], 0);
	assert_int_equal(s->gpr[X86_RAX], 2);
	assert_int_equal(s->hv_vp_assist, ASSIST | 1);
	model = engine_kvm.model(with.vm);
	assert_true(model->partition.guest_os_id == 0x100001234);
	assert_int_equal(model->partition.hypercall, CALL_PAGE | 1);
	assert_int_equal(model->partition.reference_tsc, TSC_PAGE | 1);
	/* Elsewhere KVM is told of it, and writes its page again. */
	new_with_hyperv(&next);
	((struct x86_model *)engine_kvm.model(next.vm))->partition = model->partition;
	assert_int_equal(engine_kvm.set_state(next.vcpu, s, &err), 0);
	model = engine_kvm.model(next.vm);
	assert_true(model->partition.guest_os_id == 0x100001234);
	assert_int_equal(model->partition.hypercall, CALL_PAGE | 1);
	assert_true(mem_read(next.mem, gpa(CALL_PAGE), call, 4));
	assert_int_equal(call[3], 0xc3);
	s->hv_vp_assist = 0;
	engine_kvm.get_state(next.vcpu, s);
	assert_int_equal(s->hv_vp_assist, ASSIST | 1);
	/* A debugger that sets registers does not set back what the guest has done since. */
	tiny_vm_enter64(&next, 0, TINY_CODE, TINY_STACK);
	model->partition.guest_os_id = 0;
	((struct kvm_vm *)next.vm)->partition_known = model->partition;
	assert_int_equal(engine_kvm.set_state(next.vcpu, s, &err), 0);
	assert_true(((struct x86_model *)engine_kvm.model(next.vm))->partition.guest_os_id == 0x100001234);
	/* But a reset does. */
	engine_kvm.vcpu_reset(next.vcpu);
	model = engine_kvm.model(next.vm);
	assert_int_equal(model->partition.guest_os_id | model->partition.hypercall | model->partition.reference_tsc, 0);
	tiny_vm_free(&next);
	tiny_vm_free(&with);
	free(s);
}

/* It is about an APIC that KVM has, so a machine with local APICs in user space is not given it. */
static void hv_vapic_wants_kvms_apic(void **state)
{
	struct tiny_vm *t = vm_of(state);
	struct engine_config c = { .mem = t->mem, .smm_mem = t->smm_mem, .clock = t->clock, .cpus = 1 };
	struct err err;

	if (!kvm_offers_hyperv(t)) {
		print_message("skipped: this KVM has nothing of Hyper-V's\n");
		skip();
	}
	c.config = config_new();
	assert_int_equal(config_set(c.config, "cpu.model", "max,+hv-time,+hv-vapic", &err), 0);
	assert_null(engine_kvm.vm_create(&c, &err));
	assert_non_null(strstr(err.msg, "hv-vapic"));
	assert_null(strstr(err.msg, "hv-time"));
	config_free(c.config);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(steal_time_is_told_and_saved),
		TEST(hypervs_interface_is_kvms),
		TEST(hv_vapic_wants_kvms_apic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
