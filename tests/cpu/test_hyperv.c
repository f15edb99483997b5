/* Hyper-V's interface for guests: CPUID, MSRs, the hypercall page and the page of the reference time. */
#include "rig.h"

#include <string.h>

#include "base/bytes.h"

#define ALL	      "max,+hv-relaxed,+hv-vapic,+hv-vpindex,+hv-time"
#define GUEST_OS_ID   0x40000000u
#define HYPERCALL     0x40000001u
#define VP_INDEX      0x40000002u
#define TIME_REF      0x40000020u
#define REFERENCE_TSC 0x40000021u
#define EOI	      0x40000070u
#define ICR	      0x40000071u
#define TPR	      0x40000072u
#define VP_ASSIST     0x40000073u
#define PAGE	      0x30000u
#define APIC_SPURIOUS 0x80fu /* x2APIC's */

static struct rig r;

static int setup(void **state)
{
	rig_new(&r, RIG_LONG, ALL);
	return 0;
}

static int teardown(void **state)
{
	rig_free(&r);
	return 0;
}

static void again(const char *model)
{
	rig_free(&r);
	rig_new(&r, RIG_LONG, model);
}

static void cpuid(uint32_t leaf, uint32_t out[4])
{
	x86_cpuid(tiny_cpu(&r.vm), leaf, 0, out);
}

static uint32_t eax(uint32_t leaf)
{
	uint32_t out[4];

	cpuid(leaf, out);
	return out[X86_CPUID_EAX];
}

/* From the start, with the VM as it is. */
static void wrmsr(uint32_t msr, uint64_t v)
{
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RCX] = msr;
	r.s.gpr[X86_RAX] = (uint32_t)v;
	r.s.gpr[X86_RDX] = v >> 32;
	RIG_EXEC(&r, 0x0f, 0x30);
}

static void assert_wrmsr(uint32_t msr, uint64_t v, int vector)
{
	wrmsr(msr, v);
	assert_int_equal(rig_vector(&r), vector);
}

static uint64_t rdmsr(uint32_t msr)
{
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RCX] = msr;
	RIG_EXEC(&r, 0x0f, 0x32);
	assert_int_equal(rig_vector(&r), -1);
	return r.s.gpr[X86_RDX] << 32 | r.s.gpr[X86_RAX];
}

static void leaves_move_when_it_is_asked_for(void **state)
{
	uint32_t out[4];

	cpuid(0x40000000, out);
	assert_int_equal(out[X86_CPUID_EAX], 0x40000005);
	assert_memory_equal(&out[X86_CPUID_EBX], "Microsoft Hv", 12);
	assert_int_equal(eax(0x40000001), ld_le32("Hv#1"));
	assert_int_equal(eax(0x40000003), 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 9);
	assert_int_equal(eax(0x40000004), 1 << 3 | 1 << 5);
	cpuid(0x40000100, out);
	assert_int_equal(out[X86_CPUID_EAX], 0x40000101);
	assert_memory_equal(&out[X86_CPUID_EBX], "KVMKVMKVM\0\0\0", 12);
	assert_true(eax(0x40000101) & 1 << 3); /* kvmclock */
	again("max,+hv-time");
	assert_int_equal(eax(0x40000003), 1 << 1 | 1 << 5 | 1 << 9);
	assert_int_equal(eax(0x40000004), 0);
	again("max,+hv-relaxed");
	assert_int_equal(eax(0x40000003), 1 << 5);
	assert_int_equal(eax(0x40000004), 1 << 5);
	/* Not asked for: nothing of it. */
	again("max");
	cpuid(0x40000000, out);
	assert_int_equal(out[X86_CPUID_EAX], 0x40000001);
	assert_memory_equal(&out[X86_CPUID_EBX], "KVMKVMKVM\0\0\0", 12);
	assert_int_equal(eax(0x40000003) | eax(0x40000100), 0);
	assert_wrmsr(GUEST_OS_ID, 1, X86_GP);
}

static void msrs_go_with_their_features(void **state)
{
	static const struct {
		uint32_t msr;
		const char *feature;
	} cases[] = {
		{ VP_INDEX, "max,+hv-vpindex" },
		{ TIME_REF, "max,+hv-time" },
		{ REFERENCE_TSC, "max,+hv-time" },
		{ VP_ASSIST, "max,+hv-vapic" },
	};

	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		again(cases[n].feature);
		rdmsr(cases[n].msr);
		again("max,+hv-relaxed");
		r.s.gpr[X86_RCX] = cases[n].msr;
		RIG_FAULTS(&r, X86_GP, 0, 0, 0x0f, 0x32);
	}
	again(ALL);
	assert_int_equal(rdmsr(VP_INDEX), 0);
	assert_wrmsr(VP_INDEX, 0, X86_GP);
	assert_wrmsr(TIME_REF, 0, X86_GP);
	assert_wrmsr(0x40000080, 0, X86_GP); /* no synthetic interrupts */
}

static void hypercalls_have_a_page(void **state)
{
	/* Not before the guest has told who it is. */
	assert_wrmsr(HYPERCALL, PAGE | 1, -1);
	assert_int_equal(rdmsr(HYPERCALL), PAGE);
	assert_wrmsr(GUEST_OS_ID, 0x1234567800000001, -1);
	assert_true(rdmsr(GUEST_OS_ID) == 0x1234567800000001);
	assert_wrmsr(HYPERCALL, 0xfffff000 | 1, X86_GP); /* no memory */
	assert_wrmsr(HYPERCALL, PAGE | 1, -1);
	assert_int_equal(rdmsr(HYPERCALL), PAGE | 1);
	assert_int_equal(rig_read(&r, PAGE, 4), 0xc3d9010f); /* vmmcall; ret */
	/* call rsi: there is no call with any number. */
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RSI] = PAGE;
	RIG_EXEC(&r, 0xff, 0xd6);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(rig_reg(&r, X86_RAX), 2);
	rig_reset(&r, RIG_LONG);
	rig_user(&r);
	RIG_FAULTS(&r, X86_UD, 0, 0, 0x0f, 0x01, 0xd9);
	/* It goes with the identity; then they are KVM's again. */
	assert_wrmsr(GUEST_OS_ID, 0, -1);
	assert_int_equal(rdmsr(HYPERCALL), PAGE);
	rig_reset(&r, RIG_LONG);
	RIG_EXEC(&r, 0x0f, 0x01, 0xd9);
	assert_true(rig_reg(&r, X86_RAX) == (uint64_t)-1000);
	/* Locked: it stays. */
	assert_wrmsr(GUEST_OS_ID, 1, -1);
	assert_wrmsr(HYPERCALL, PAGE | 3, -1);
	assert_wrmsr(HYPERCALL, 0, -1);
	assert_int_equal(rdmsr(HYPERCALL), PAGE | 3);
	/* A reset takes all away. */
	engine_interp.vcpu_reset(r.vm.vcpu);
	assert_int_equal(rdmsr(HYPERCALL) | rdmsr(GUEST_OS_ID), 0);
	/* Intel's processors have another instruction. */
	again(ALL ",vendor=GenuineIntel");
	assert_wrmsr(GUEST_OS_ID, 1, -1);
	assert_wrmsr(HYPERCALL, PAGE | 1, -1);
	assert_int_equal(rig_read(&r, PAGE, 4), 0xc3c1010f);
}

/* What a guest makes of the page and its TSC. */
static uint64_t page_time(uint64_t tsc)
{
	uint64_t scale = rig_read(&r, PAGE + 8, 8), offset = rig_read(&r, PAGE + 16, 8);

	return (uint64_t)((unsigned __int128)tsc * scale >> 64) + offset;
}

/* rdmsr; then rdtsc into R8: the counter, and what the page makes of the TSC a moment later. */
static void both_times(uint64_t *counter, uint64_t *page)
{
	rig_reset(&r, RIG_LONG);
	r.s.tsc_offset = tiny_cpu(&r.vm)->s.tsc_offset;
	r.s.tsc_adjust = tiny_cpu(&r.vm)->s.tsc_adjust;
	r.s.gpr[X86_RCX] = TIME_REF;
	/* rdmsr; mov ebx, eax; mov esi, edx; rdtsc */
	RIG_EXEC(&r, 0x0f, 0x32, 0x89, 0xc3, 0x89, 0xd6, 0x0f, 0x31);
	assert_int_equal(rig_vector(&r), -1);
	*counter = r.s.gpr[X86_RSI] << 32 | r.s.gpr[X86_RBX];
	*page = page_time(r.s.gpr[X86_RDX] << 32 | r.s.gpr[X86_RAX]);
}

static void time_is_told_without_an_exit(void **state)
{
	uint64_t counter, page;
	uint32_t sequence;

	/* An instruction is a nanosecond here: both are the same to the unit of 100 ns. */
	rig_free(&r);
	rig_new_counted(&r, RIG_LONG, ALL);
	rig_write(&r, PAGE, 0xffffffff, 4);
	assert_wrmsr(REFERENCE_TSC, PAGE | 1, -1);
	assert_int_equal(rdmsr(REFERENCE_TSC), PAGE | 1);
	sequence = (uint32_t)rig_read(&r, PAGE, 4);
	assert_true(sequence != 0 && sequence != 0xffffffff);
	for (unsigned n = 0; n < 3; n++) {
		both_times(&counter, &page);
		assert_true(page + 1 - counter <= 2); /* one behind, one before */
		/* It goes on. */
		r.s.gpr[X86_RCX] = 100000;
		r.s.gpr[X86_RIP] = RIG_CODE;
		r.s.run = X86_RUNNING;
		RIG_EXEC(&r, 0xff, 0xc9, 0x75, 0xfc); /* dec ecx; jnz */
		uint64_t before = counter;
		both_times(&counter, &page);
		assert_true(counter - before >= 2000 && counter - before < 2100);
		assert_true(page + 1 - counter <= 2); /* one behind, one before */
		/* Whoever moves the TSC finds another offset there. */
		if (n == 0)
			wrmsr(0x10, 1ull << 40);
		if (n == 1)
			wrmsr(0x3b, 12345678);
		if (n < 2)
			assert_true((uint32_t)rig_read(&r, PAGE, 4) != sequence);
	}
	/* Nowhere: kept, and nothing happens. */
	assert_wrmsr(REFERENCE_TSC, 0xfffff000 | 1, -1);
	assert_wrmsr(REFERENCE_TSC, 0, -1);
	assert_int_equal(rdmsr(REFERENCE_TSC), 0);
}

/* Two processors have real interrupt controllers. */
static void with_apics(void)
{
	rig_free(&r);
	memset(&r, 0, sizeof(r));
	tiny_vm_new_with(&r.vm, 2, CLOCK_SOURCE_HOST);
	tiny_cpu(&r.vm)->vm->model.features->on[X86_F_HV_VAPIC] = true;
}

static unsigned in_service(unsigned vector)
{
	const struct intc *intc = &tiny_cpu(&r.vm)->vm->cfg.intc;

	return intc->ops->mmio_read(intc->opaque, 0, 0x100 + 0x10 * (vector / 32)) >> vector % 32 & 1;
}

static void the_local_apic_has_msrs(void **state)
{
	static const uint64_t bases[] = { 0xfee00900, 0xfee00d00 };

	for (unsigned n = 0; n < 2; n++) {
		with_apics();
		assert_wrmsr(0x1b, bases[n], -1);
		assert_wrmsr(APIC_SPURIOUS, 0x1ff, n ? -1 : X86_GP);
		assert_wrmsr(TPR, 0x50, -1);
		assert_int_equal(rdmsr(TPR), 0x50);
		rig_reset(&r, RIG_LONG);
		RIG_EXEC(&r, 0x44, 0x0f, 0x20, 0xc0); /* mov rax, cr8 */
		assert_int_equal(rig_reg(&r, X86_RAX), 5);
		assert_wrmsr(TPR, 0x100, X86_GP);
		/* A logical destination that nobody is, so that it can be read back. */
		assert_wrmsr(ICR, 0x8000000000004830, -1);
		assert_true(rdmsr(ICR) == 0x8000000000004830);
		/* To itself; then its end. */
		assert_wrmsr(TPR, 0, -1);
		if (!n) {
			const struct intc *intc = &tiny_cpu(&r.vm)->vm->cfg.intc;

			intc->ops->mmio_write(intc->opaque, 0, 0xf0, 0x1ff);
		}
		assert_wrmsr(ICR, 0x44061, -1);
		rig_reset(&r, RIG_LONG);
		rig_write(&r, RIG_IDT + 16 * 0x61, RIG_GATE(RIG_CODE64, RIG_HANDLERS + 0x61, 0x8e, 0), 8);
		RIG_EXEC(&r, 0xfb, 0x90); /* sti; nop */
		assert_int_equal(rig_vector(&r), 0x61);
		assert_int_equal(in_service(0x61), 1);
		assert_wrmsr(EOI, 0, -1);
		assert_int_equal(in_service(0x61), 0);
	}
	/* Without its global enable there is none. */
	with_apics();
	assert_wrmsr(0x1b, 0xfee00100, -1);
	assert_wrmsr(TPR, 0x50, X86_GP);
	assert_wrmsr(EOI, 0, X86_GP);
}

static void an_assist_page_promises_nothing(void **state)
{
	rig_write(&r, PAGE, ~0ull, 8);
	assert_wrmsr(VP_ASSIST, PAGE | 1, -1);
	assert_true(rig_read(&r, PAGE, 8) == 0xffffffff00000000);
	assert_int_equal(r.s.hv_vp_assist, PAGE | 1);
	assert_wrmsr(VP_ASSIST, 0xfffff000 | 1, X86_GP);
}

static void it_is_saved_with_the_partition(void **state)
{
	struct x86_model *m = &tiny_cpu(&r.vm)->vm->model, copy;
	struct err err;

	assert_wrmsr(GUEST_OS_ID, 7, -1);
	assert_wrmsr(HYPERCALL, PAGE | 1, -1);
	assert_wrmsr(REFERENCE_TSC, PAGE + 0x1001, -1);
	x86_model_state.pre_save(m);
	copy = *m;
	engine_interp.vcpu_reset(r.vm.vcpu);
	*m = copy;
	assert_int_equal(x86_model_state.post_load(m, &err), 0);
	assert_int_equal(rdmsr(GUEST_OS_ID), 7);
	assert_int_equal(rdmsr(HYPERCALL), PAGE | 1);
	assert_int_equal(rdmsr(REFERENCE_TSC), PAGE + 0x1001);
	assert_int_equal(eax(0x40000003), 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 9);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(leaves_move_when_it_is_asked_for), TEST(msrs_go_with_their_features),
		TEST(hypercalls_have_a_page),		TEST(time_is_told_without_an_exit),
		TEST(the_local_apic_has_msrs),		TEST(an_assist_page_promises_nothing),
		TEST(it_is_saved_with_the_partition),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
