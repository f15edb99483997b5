/* irq/x86/ipi.c: the interrupt command register and destinations. SDM vol. 3, 11.6 and 11.12. */
#include "apic.h"

#include <pthread.h>

#define SELF	      (1u << 18)
#define ALL	      (2u << 18)
#define OTHERS	      (3u << 18)
#define LOGICAL	      (1u << 11)
#define ASSERT	      (1u << 14)
#define TRIGGER_LEVEL (1u << 15)
#define MODE(m)	      ((uint32_t)(m) << 8)

static void setup(struct board *b, unsigned cpus)
{
	board_init(b);
	board_chip(b, cpus);
	for (unsigned cpu = 0; cpu < cpus; cpu++)
		apic_enable(b, cpu);
}

static void send(struct board *b, unsigned cpu, uint32_t dest, uint32_t low)
{
	if (lapic_x2apic(&b->chip->lapics[cpu])) {
		assert_true(apic_wrmsr(b, cpu, 0x830, (uint64_t)dest << 32 | low));
		return;
	}
	apic_write(b, cpu, LAPIC_ICR_HIGH, dest << 24);
	apic_write(b, cpu, LAPIC_ICR_LOW, low);
}

/* Which processors have one interrupt waiting; they take it. */
static uint32_t takers(struct board *b)
{
	uint32_t who = 0;

	for (unsigned cpu = 0; cpu < b->cpus; cpu++) {
		unsigned n = apic_drain(b, cpu);

		assert_true(n <= 1);
		who |= n << cpu;
	}
	return who;
}

static void physical_destinations(void **state)
{
	struct board b;

	setup(&b, 4);
	send(&b, 1, 3, 0x40);
	assert_int_equal(takers(&b), 8);
	send(&b, 1, 1, 0x40);
	assert_int_equal(takers(&b), 2);
	send(&b, 1, 9, 0x40);
	assert_int_equal(takers(&b), 0);
	send(&b, 1, 0xff, 0x40);
	assert_int_equal(takers(&b), 15);
	/* Delivery is over at once. */
	assert_int_equal(apic_read(&b, 1, LAPIC_ICR_LOW), 0x40);
	assert_int_equal(apic_read(&b, 1, LAPIC_ICR_HIGH), 0xff000000);
	board_fini(&b);
}

static void shorthands(void **state)
{
	struct board b;

	setup(&b, 4);
	send(&b, 2, 0, 0x41 | SELF);
	assert_int_equal(takers(&b), 4);
	send(&b, 2, 0, 0x41 | ALL);
	assert_int_equal(takers(&b), 15);
	send(&b, 2, 0, 0x41 | OTHERS);
	assert_int_equal(takers(&b), 11);
	send(&b, 2, 0, MODE(DM_NMI) | OTHERS);
	for (unsigned cpu = 0; cpu < 4; cpu++)
		assert_int_equal(b.cpu[cpu].signals[CPU_SIGNAL_NMI], cpu != 2);
	/* A processor whose APIC is off globally hears nothing. */
	assert_true(apic_wrmsr(&b, 1, 0x1b, 0xfee00000));
	send(&b, 2, 0, MODE(DM_NMI) | OTHERS);
	assert_int_equal(b.cpu[1].signals[CPU_SIGNAL_NMI], 1);
	assert_int_equal(b.cpu[3].signals[CPU_SIGNAL_NMI], 2);
	board_fini(&b);
}

static void the_flat_logical_model(void **state)
{
	struct board b;

	setup(&b, 8);
	for (unsigned cpu = 0; cpu < 8; cpu++)
		apic_write(&b, cpu, LAPIC_LDR, 1u << (24 + cpu));
	for (unsigned dest = 0; dest < 256; dest += 15) {
		send(&b, 0, dest, 0x50 | LOGICAL);
		assert_int_equal(takers(&b), dest);
	}
	/* One bit may stand for several. */
	apic_write(&b, 5, LAPIC_LDR, 3u << 24);
	send(&b, 0, 2, 0x50 | LOGICAL);
	assert_int_equal(takers(&b), 1 << 1 | 1 << 5);
	board_fini(&b);
}

static void the_cluster_logical_model(void **state)
{
	struct board b;

	setup(&b, 8);
	for (unsigned cpu = 0; cpu < 8; cpu++) {
		apic_write(&b, cpu, LAPIC_DFR, 0x0fffffff);
		apic_write(&b, cpu, LAPIC_LDR, ((cpu / 4) << 4 | 1u << cpu % 4) << 24);
	}
	send(&b, 0, 0x05, 0x50 | LOGICAL);
	assert_int_equal(takers(&b), 0x05);
	send(&b, 0, 0x1a, 0x50 | LOGICAL);
	assert_int_equal(takers(&b), 0xa0);
	send(&b, 0, 0x2f, 0x50 | LOGICAL);
	assert_int_equal(takers(&b), 0);
	send(&b, 0, 0xf2, 0x50 | LOGICAL); /* bit 1 of all clusters */
	assert_int_equal(takers(&b), 0x22);
	send(&b, 0, 0xff, 0x50 | LOGICAL);
	assert_int_equal(takers(&b), 0xff);
	board_fini(&b);
}

static void x2apic_destinations(void **state)
{
	struct board b;

	setup(&b, 20);
	for (unsigned cpu = 0; cpu < 20; cpu++)
		apic_x2(&b, cpu);
	send(&b, 0, 17, 0x50);
	assert_int_equal(takers(&b), 1u << 17);
	send(&b, 0, 0xff, 0x50); /* a processor of its own here, and there is none */
	assert_int_equal(takers(&b), 0);
	send(&b, 0, 0xffffffff, 0x50);
	assert_int_equal(takers(&b), 0xfffff);
	send(&b, 0, 0x00010006, 0x50 | LOGICAL);
	assert_int_equal(takers(&b), 6u << 16);
	send(&b, 0, 0x00008001, 0x50 | LOGICAL);
	assert_int_equal(takers(&b), 0x8001);
	send(&b, 0, 0xffffffff, 0x50 | LOGICAL);
	assert_int_equal(takers(&b), 0xfffff);
	send(&b, 3, 0, 0x50 | OTHERS);
	assert_int_equal(takers(&b), 0xfffff & ~8u);
	assert_true(apic_wrmsr(&b, 6, 0x83f, 0x66)); /* SELF IPI */
	assert_int_equal(apic_ack(&b, 6), 0x66);
	apic_eoi(&b, 6);
	/* The I/O APIC's 8 bits reach the first cluster, and all with FFh. */
	struct irq_message m = { .dest = 0x82, .logical = true, .vector = 0x50 };
	assert_true(irqchip_deliver(b.chip, &m));
	assert_int_equal(takers(&b), 0x82);
	m.dest = 0xff;
	assert_true(irqchip_deliver(b.chip, &m));
	assert_int_equal(takers(&b), 0xfffff);
	board_fini(&b);
}

static void the_lowest_priority_is_one_of_them(void **state)
{
	struct board b;
	unsigned got[4] = { 0 };

	setup(&b, 4);
	for (unsigned cpu = 0; cpu < 4; cpu++)
		apic_write(&b, cpu, LAPIC_LDR, 1u << (24 + cpu));
	for (unsigned k = 0; k < 40; k++) {
		uint32_t who;

		send(&b, 0, 0x0e, 0x50 | MODE(DM_LOWEST) | LOGICAL);
		who = takers(&b);
		assert_true(who == 2 || who == 4 || who == 8);
		got[__builtin_ctz(who)]++;
	}
	assert_true(got[1] && got[2] && got[3]); /* equals take turns */
	/* The task priority decides first. */
	apic_write(&b, 1, LAPIC_TPR, 0x30);
	apic_write(&b, 2, LAPIC_TPR, 0x2f);
	apic_write(&b, 3, LAPIC_TPR, 0x40);
	for (unsigned k = 0; k < 8; k++) {
		send(&b, 0, 0x0e, 0x50 | MODE(DM_LOWEST) | LOGICAL);
		assert_int_equal(takers(&b), 4);
	}
	/* Disabled ones are not asked. */
	apic_write(&b, 2, LAPIC_SVR, 0xff);
	send(&b, 0, 0x0e, 0x50 | MODE(DM_LOWEST) | LOGICAL);
	assert_int_equal(takers(&b), 2);
	send(&b, 0, 0x04, 0x50 | MODE(DM_LOWEST) | LOGICAL);
	assert_int_equal(takers(&b), 0);
	board_fini(&b);
}

static void init_and_startup(void **state)
{
	struct board b;

	setup(&b, 3);
	send(&b, 0, 2, MODE(DM_INIT) | ASSERT | TRIGGER_LEVEL);
	assert_int_equal(b.cpu[2].signals[CPU_SIGNAL_INIT], 1);
	/* The level's end is for arbitration ids of old processors. */
	send(&b, 0, 2, MODE(DM_INIT) | TRIGGER_LEVEL);
	assert_int_equal(b.cpu[2].signals[CPU_SIGNAL_INIT], 1);
	send(&b, 0, 2, MODE(DM_SIPI) | ASSERT | 0x9a);
	assert_int_equal(b.cpu[2].signals[CPU_SIGNAL_SIPI], 1);
	assert_int_equal(b.cpu[2].sipi_vector, 0x9a);
	send(&b, 0, 2, MODE(DM_SIPI) | ASSERT | 0x01); /* any page, also below 16 */
	assert_int_equal(b.cpu[2].sipi_vector, 0x01);
	send(&b, 0, 0, MODE(DM_INIT) | ASSERT | OTHERS);
	assert_int_equal(b.cpu[0].signals[CPU_SIGNAL_INIT], 0);
	assert_int_equal(b.cpu[1].signals[CPU_SIGNAL_INIT], 1);
	/* It reaches an APIC that is disabled by software. */
	apic_write(&b, 1, LAPIC_SVR, 0xff);
	send(&b, 0, 1, MODE(DM_SIPI) | ASSERT | 0x10);
	assert_int_equal(b.cpu[1].signals[CPU_SIGNAL_SIPI], 1);
	board_fini(&b);
}

static void nmi_and_smi(void **state)
{
	struct board b;

	setup(&b, 2);
	send(&b, 0, 1, MODE(DM_NMI) | ASSERT | 0x05); /* the vector means nothing */
	send(&b, 0, 1, MODE(DM_SMI) | ASSERT);
	assert_int_equal(b.cpu[1].signals[CPU_SIGNAL_NMI], 1);
	assert_int_equal(b.cpu[1].signals[CPU_SIGNAL_SMI], 1);
	apic_write(&b, 0, LAPIC_ESR, 0);
	assert_int_equal(apic_read(&b, 0, LAPIC_ESR), 0);
	/* Reserved modes reach nobody. */
	send(&b, 0, 1, MODE(DM_RESERVED) | ASSERT | 0x50);
	send(&b, 0, 1, MODE(DM_EXTINT) | ASSERT | 0x50);
	assert_int_equal(takers(&b), 0);
	assert_false(atomic_load(&b.chip->lapics[1].extint));
	board_fini(&b);
}

static void bad_vectors_are_errors_of_the_sender(void **state)
{
	struct board b;

	setup(&b, 2);
	for (unsigned vector = 0; vector < 18; vector++) {
		for (unsigned mode = DM_FIXED; mode <= DM_LOWEST; mode++) {
			send(&b, 0, 1, vector | MODE(mode));
			assert_int_equal(takers(&b), vector < 16 ? 0 : 2);
			for (unsigned cpu = 0; cpu < 2; cpu++) {
				apic_write(&b, cpu, LAPIC_ESR, 0);
				assert_int_equal(apic_read(&b, cpu, LAPIC_ESR),
						 vector < 16 && cpu == 0 ? LAPIC_ESR_SENT_VECTOR : 0);
			}
		}
	}
	board_fini(&b);
}

static void ipis_are_edges(void **state)
{
	struct board b;

	setup(&b, 2);
	send(&b, 0, 1, 0x50 | TRIGGER_LEVEL | ASSERT);
	assert_int_equal(apic_ack(&b, 1), 0x50);
	assert_int_equal(apic_read(&b, 1, LAPIC_TMR + 0x20), 0);
	board_fini(&b);
}

/* --- several threads --- */

struct sender {
	struct board *b;
	unsigned cpu;
};

#define SENT 20000

static void *sender(void *opaque)
{
	struct sender *s = opaque;

	for (unsigned k = 0; k < SENT; k++) {
		struct irq_message m = { .dest = 0, .vector = (uint8_t)(0x20 + s->cpu * 16 + k % 16) };

		while (atomic_load(&s->b->chip->lapics[0].irr[m.vector / 32]) >> (m.vector & 31) & 1)
			sched_yield(); /* one at a time: equals would merge */
		irqchip_deliver(s->b->chip, &m);
	}
	return NULL;
}

/* Vectors that other threads post while this one takes them are neither lost nor doubled. */
static void nothing_is_lost_between_threads(void **state)
{
	struct board b;
	struct sender s[3];
	pthread_t threads[3];
	unsigned got[256] = { 0 }, n = 0;

	setup(&b, 1);
	for (unsigned k = 0; k < 3; k++) {
		s[k] = (struct sender){ &b, k };
		assert_int_equal(pthread_create(&threads[k], NULL, sender, &s[k]), 0);
	}
	while (n < 3 * SENT) {
		int v = apic_ack(&b, 0);

		if (v < 0) {
			sched_yield();
			continue;
		}
		got[v]++;
		n++;
		apic_eoi(&b, 0);
	}
	for (unsigned k = 0; k < 3; k++)
		pthread_join(threads[k], NULL);
	assert_int_equal(apic_ack(&b, 0), -1);
	for (unsigned v = 0x20; v < 0x50; v++)
		assert_int_equal(got[v], SENT / 16);
	board_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(physical_destinations),
		cmocka_unit_test(shorthands),
		cmocka_unit_test(the_flat_logical_model),
		cmocka_unit_test(the_cluster_logical_model),
		cmocka_unit_test(x2apic_destinations),
		cmocka_unit_test(the_lowest_priority_is_one_of_them),
		cmocka_unit_test(init_and_startup),
		cmocka_unit_test(nmi_and_smi),
		cmocka_unit_test(bad_vectors_are_errors_of_the_sender),
		cmocka_unit_test(ipis_are_edges),
		cmocka_unit_test(nothing_is_lost_between_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
