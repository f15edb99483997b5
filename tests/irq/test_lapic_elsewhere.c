/* Registers of a local APIC that the engine provides: whatever a guest has made of them there can be restored. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "apic.h"
#include "base/bytes.h"

static struct intc_lapic there;

static void get(void *opaque, unsigned cpu, struct intc_lapic *l)
{
	*l = there;
}

static void set(void *opaque, unsigned cpu, const struct intc_lapic *l)
{
	there = *l;
}

static bool send(void *opaque, uint64_t addr, uint32_t data)
{
	return true;
}

static void setup_elsewhere(struct board *b)
{
	const struct intc_external elsewhere = { .send = send, .get = get, .set = set };

	board_init(b);
	board_chip(b, 2);
	irqchip_attach(b->chip, &elsewhere);
	memset(&there, 0, sizeof(there));
	there.base = 0xfee00900;
}

static struct lapic *fetched(struct board *b, unsigned cpu)
{
	struct lapic *l = irqchip_lapic_object(b->chip, cpu);
	struct err err;

	irqchip_lapic_state.pre_save(l);
	assert_int_equal(irqchip_lapic_state.post_load(l, &err), 0);
	return l;
}

static void a_guest_cannot_choose_the_boot_processor(void **state)
{
	static const struct {
		unsigned cpu;
		uint64_t there, here;
	} bases[] = {
		{ 0, 0xfee00800, 0xfee00900 },
		{ 0, 0xfee00000, 0xfee00100 }, /* switched off */
		{ 0, 0xfee00c00, 0xfee00d00 },
		{ 1, 0xfee00900, 0xfee00800 },
		{ 1, 0xfee00400, 0xfee00000 }, /* x2APIC of one that is off */
		{ 1, 0xfffffffed0000800, 0x3ffed0000800 },
	};
	struct board b;

	for (size_t n = 0; n < ARRAY_LEN(bases); n++) {
		setup_elsewhere(&b);
		there.base = bases[n].there;
		fetched(&b, bases[n].cpu);
		assert_true(there.base == bases[n].here);
		board_fini(&b);
	}
}

/* A vector below 16 is an error, as it is where the interrupt arrives here. */
static void illegal_vectors_are_errors(void **state)
{
	static const enum lapic_reg where[] = { LAPIC_IRR, LAPIC_ISR };
	struct lapic *l;
	struct board b;

	for (size_t n = 0; n < ARRAY_LEN(where); n++) {
		setup_elsewhere(&b);
		there.regs[where[n] / 16] = 1u << 31 | 1u << 16 | 1u << 15 | 1u << 3;
		there.regs[LAPIC_TMR / 16] = 1u << 16 | 1u << 3;
		l = fetched(&b, 0);
		assert_int_equal(there.regs[where[n] / 16], 1u << 31 | 1u << 16);
		assert_int_equal(there.regs[LAPIC_TMR / 16], 1u << 16);
		assert_int_equal(atomic_load(&l->esr), LAPIC_ESR_RECEIVED_VECTOR);
		board_fini(&b);
	}
	setup_elsewhere(&b);
	there.regs[LAPIC_IRR / 16] = 1u << 16;
	assert_int_equal(atomic_load(&fetched(&b, 0)->esr), 0);
	board_fini(&b);
}

static void whatever_it_holds_can_be_restored(void **state)
{
	unsigned seed = 1;
	struct board b;

	setup_elsewhere(&b);
	for (unsigned k = 0; k < 20000; k++) {
		uint64_t *const msrs[] = { &there.base, &there.deadline_tsc, &there.pv_eoi };

		for (size_t n = 0; n < ARRAY_LEN(there.regs); n++)
			there.regs[n] = (uint32_t)rand_r(&seed) << 16 ^ (uint32_t)rand_r(&seed);
		for (size_t n = 0; n < ARRAY_LEN(msrs); n++)
			*msrs[n] = (uint64_t)rand_r(&seed) << 40 ^ (uint64_t)rand_r(&seed) << 20 ^ rand_r(&seed);
		fetched(&b, k & 1);
	}
	board_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_cannot_choose_the_boot_processor),
		cmocka_unit_test(illegal_vectors_are_errors),
		cmocka_unit_test(whatever_it_holds_can_be_restored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
