/* The paravirtual ways past the local APIC, end to end: a guest that skips EOIs, and one that wakes another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "../cpu/tiny_vm.h"
#include "base/bytes.h"

#define IDT	0x6000u
#define HANDLER 0x12000u
#define FLAG	0x7000u /* the paravirtual EOI flag */
#define EOIS	0x7010u /* how many EOIs the guest wrote */
#define IRQS	0x7018u /* how many interrupts it took */
#define WAKES	0x7020u

static struct tiny_vm vm;

static void put(uint64_t at, const void *bytes, size_t len)
{
	assert_true(mem_write(vm.mem, gpa(at), bytes, len));
}

static uint64_t get(uint64_t at)
{
	uint8_t b[8];

	assert_true(mem_read(vm.mem, gpa(at), b, 8));
	return ld_le64(b);
}

/* mov ecx, msr; mov eax, val; xor edx, edx; wrmsr */
static uint8_t *emit_wrmsr(uint8_t *p, uint32_t msr, uint32_t val)
{
	*p++ = 0xb9;
	st_le32(p, msr);
	p[4] = 0xb8;
	st_le32(p + 5, val);
	memcpy(p + 9, "\x31\xd2\x0f\x30", 4);
	return p + 13;
}

/* inc qword [at] */
static uint8_t *emit_inc(uint8_t *p, uint32_t at)
{
	memcpy(p, "\x48\xff\x04\x25", 4);
	st_le32(p + 4, at);
	return p + 8;
}

/* As Linux does: the flag is tested and cleared, and only if it was clear is the register written. */
static void write_handler(void)
{
	uint8_t code[64], *p = code, *skip;

	memcpy(p, "\x0f\xba\x34\x25", 4); /* btr dword [FLAG], 0 */
	st_le32(p + 4, FLAG);
	p[8] = 0;
	p += 9;
	*p++ = 0x72; /* jc */
	skip = p++;
	p = emit_wrmsr(p, 0x80b, 0);
	p = emit_inc(p, EOIS);
	*skip = (uint8_t)(p - skip - 1);
	p = emit_inc(p, IRQS);
	memcpy(p, "\x48\xcf", 2); /* iretq */
	put(HANDLER, code, (size_t)(p + 2 - code));
}

static void write_gate(unsigned vector)
{
	uint8_t gate[16] = { 0 };

	st_le16(gate, HANDLER & 0xffff);
	st_le16(gate + 2, 0x10);
	st_le16(gate + 4, 0x8e00);
	st_le32(gate + 6, HANDLER >> 16);
	put(IDT + 16 * vector, gate, sizeof(gate));
}

/* The guest sets up its APIC, with the flag or without, and waits. */
static void start(bool pv)
{
	uint8_t code[128], *p = code;

	tiny_vm_new_with(&vm, 2, CLOCK_SOURCE_ICOUNT);
	write_handler();
	write_gate(0x30);
	write_gate(0x40);
	p = emit_wrmsr(p, 0x1b, 0xfee00d00);
	p = emit_wrmsr(p, 0x80f, 0x1ff);
	p = emit_wrmsr(p, 0x835, 0x10000);
	if (pv)
		p = emit_wrmsr(p, 0x4b564d04, FLAG | 1);
	memcpy(p, "\xfb\xf4\xeb\xfd", 4); /* sti; hlt; jmp to it */
	put(TINY_CODE, code, (size_t)(p + 4 - code));
	tiny_vm_enter64(&vm, 0, TINY_CODE, TINY_STACK);
	tiny_cpu_at(&vm, 0)->s.idt.base = IDT;
	tiny_cpu_at(&vm, 0)->s.idt.limit = 0xfff;
	assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_HALTED);
}

static void msi(uint32_t data)
{
	const struct msi_sink s = irqchip_msi(vm.chip);

	msi_send(&s, 0xfee00000, data);
}

static void run(void)
{
	assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_HALTED);
}

static void a_lone_interrupt_needs_no_eoi(void **state)
{
	start(true);
	for (unsigned n = 1; n <= 5; n++) {
		msi(0x40);
		run();
		assert_int_equal(get(IRQS), n);
		assert_int_equal(get(EOIS), 0);
	}
	/* Nothing stays in service: a lower one comes. */
	msi(0x30);
	run();
	assert_int_equal(get(IRQS), 6);
	tiny_vm_free(&vm);
}

static void with_another_waiting_the_eoi_is_written(void **state)
{
	start(true);
	msi(0x40);
	msi(0x30);
	run();
	assert_int_equal(get(IRQS), 2);
	assert_int_equal(get(EOIS), 1); /* of 40h; 30h was alone then */
	tiny_vm_free(&vm);
}

static void a_level_is_always_ended_by_the_register(void **state)
{
	start(true);
	msi(0xc040);
	run();
	assert_int_equal(get(IRQS), 1);
	assert_int_equal(get(EOIS), 1);
	tiny_vm_free(&vm);
}

static void without_the_msr_all_are_written(void **state)
{
	start(false);
	msi(0x40);
	run();
	assert_int_equal(get(IRQS), 1);
	assert_int_equal(get(EOIS), 1);
	tiny_vm_free(&vm);
}

/* KVM_HC_KICK_CPU: a processor that halts with interrupts off is woken by the call and by nothing else. */
static void a_kick_wakes_a_halted_processor(void **state)
{
	uint8_t code[32], *p = code;

	tiny_vm_new_with(&vm, 2, CLOCK_SOURCE_ICOUNT);
	*p++ = 0xf4; /* hlt */
	p = emit_inc(p, WAKES);
	memcpy(p, "\xf4\xeb\xfd", 3);
	put(HANDLER, code, (size_t)(p + 3 - code));
	/* mov eax, 5; xor ebx, ebx; mov ecx, 1; vmcall; hlt */
	put(TINY_CODE, "\xb8\x05\0\0\0\x31\xdb\xb9\x01\0\0\0\x0f\x01\xc1\xf4", 16);
	tiny_vm_enter64(&vm, 1, HANDLER, TINY_STACK);
	assert_int_equal(vm.engine->run(vm.vcpus[1]), CPU_EXIT_HALTED);
	assert_int_equal(vm.engine->run(vm.vcpus[1]), CPU_EXIT_HALTED);
	assert_int_equal(get(WAKES), 0);
	tiny_vm_enter64(&vm, 0, TINY_CODE, TINY_STACK);
	run();
	assert_int_equal(vm.engine->run(vm.vcpus[1]), CPU_EXIT_HALTED);
	assert_int_equal(get(WAKES), 1);
	tiny_vm_free(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_lone_interrupt_needs_no_eoi),
		cmocka_unit_test(with_another_waiting_the_eoi_is_written),
		cmocka_unit_test(a_level_is_always_ended_by_the_register),
		cmocka_unit_test(without_the_msr_all_are_written),
		cmocka_unit_test(a_kick_wakes_a_halted_processor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
