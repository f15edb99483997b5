/* irq/x86/lapic.c: registers, priorities, modes, paravirtual EOI. SDM vol. 3, chapter 11. */
#include "apic.h"

#include <string.h>

#define MSR(off) (0x800u + (off) / 16)

static void make(struct board *b)
{
	board_chip(b, 3);
}

static void setup(struct board *b)
{
	board_init(b);
	make(b);
	apic_enable(b, 0);
}

/* As from another processor. */
static void post(struct board *b, unsigned cpu, uint8_t vector)
{
	lapic_accept(&b->chip->lapics[cpu], vector, false);
}

static uint64_t rdmsr(struct board *b, uint32_t msr)
{
	uint64_t v = 0;

	assert_true(apic_rdmsr(b, 0, msr, &v));
	return v;
}

static bool wrmsr(struct board *b, uint32_t msr, uint64_t v)
{
	return apic_wrmsr(b, 0, msr, v);
}

static bool readable(struct board *b, uint32_t msr)
{
	uint64_t v;

	return apic_rdmsr(b, 0, msr, &v);
}

/* --- the xAPIC page --- */

/* Table 11-1 and the states of 11.4.7. */
static void power_on_state(void **state)
{
	struct board b;

	board_init(&b);
	make(&b);
	for (unsigned cpu = 0; cpu < 3; cpu++) {
		assert_int_equal(apic_read(&b, cpu, LAPIC_ID), cpu << 24);
		assert_int_equal(apic_read(&b, cpu, LAPIC_VERSION), 0x50014);
		assert_int_equal(apic_read(&b, cpu, LAPIC_TPR), 0);
		assert_int_equal(apic_read(&b, cpu, LAPIC_PPR), 0);
		assert_int_equal(apic_read(&b, cpu, LAPIC_LDR), 0);
		assert_int_equal(apic_read(&b, cpu, LAPIC_DFR), 0xffffffff);
		assert_int_equal(apic_read(&b, cpu, LAPIC_SVR), 0xff);
		assert_int_equal(apic_read(&b, cpu, LAPIC_ESR), 0);
		assert_int_equal(apic_read(&b, cpu, LAPIC_ICR_LOW) | apic_read(&b, cpu, LAPIC_ICR_HIGH), 0);
		for (unsigned n = 0; n < 8; n++)
			assert_int_equal(apic_read(&b, cpu, LAPIC_ISR + 16 * n) |
						 apic_read(&b, cpu, LAPIC_TMR + 16 * n) |
						 apic_read(&b, cpu, LAPIC_IRR + 16 * n),
					 0);
		for (unsigned n = 0; n < LVT_COUNT; n++) /* LINT0 of the first: the virtual wire */
			assert_int_equal(apic_read(&b, cpu, LAPIC_LVT + 16 * n),
					 cpu == 0 && n == LVT_LINT0 ? 0x700 : LVT_MASKED);
		assert_int_equal(apic_read(&b, cpu, LAPIC_INITIAL_COUNT), 0);
		assert_int_equal(apic_read(&b, cpu, LAPIC_CURRENT_COUNT), 0);
		assert_int_equal(apic_read(&b, cpu, LAPIC_DIVIDE), 0);
	}
	assert_true(rdmsr(&b, 0x1b) == 0xfee00900);
	uint64_t base;
	assert_true(apic_rdmsr(&b, 1, 0x1b, &base) && base == 0xfee00800);
	board_fini(&b);
}

static void registers_keep_the_bits_that_exist(void **state)
{
	static const struct {
		uint32_t off, val;
	} regs[] = {
		{ LAPIC_ID, 0xff000000 },	{ LAPIC_VERSION, 0x50014 },    { LAPIC_TPR, 0xff },
		{ LAPIC_LDR, 0xff000000 },	{ LAPIC_DFR, 0xffffffff },     { LAPIC_SVR, 0x1ff },
		{ LAPIC_LVT, 0x700ff },		{ LAPIC_LVT + 0x10, 0x107ff }, { LAPIC_LVT + 0x20, 0x107ff },
		{ LAPIC_LVT + 0x30, 0x1a7ff },	{ LAPIC_LVT + 0x40, 0x1a7ff }, { LAPIC_LVT + 0x50, 0x100ff },
		{ LAPIC_ICR_HIGH, 0xff000000 }, { LAPIC_DIVIDE, 0xb },
	};
	struct board b;

	setup(&b);
	for (unsigned k = 0; k < sizeof(regs) / sizeof(regs[0]); k++) {
		apic_write(&b, 0, regs[k].off, 0xffffffff);
		assert_int_equal(apic_read(&b, 0, regs[k].off), regs[k].val);
	}
	apic_write(&b, 0, LAPIC_DFR, 0);
	assert_int_equal(apic_read(&b, 0, LAPIC_DFR), 0x0fffffff);
	board_fini(&b);
}

static void accesses_are_whole_and_aligned(void **state)
{
	struct board b;

	setup(&b);
	assert_int_equal(apic_read(&b, 0, LAPIC_VERSION + 1), 0x500); /* a byte of it */
	assert_int_equal(apic_read(&b, 0, LAPIC_VERSION + 4), 0);
	assert_int_equal(apic_read(&b, 0, LAPIC_VERSION + 12), 0);
	apic_write(&b, 0, LAPIC_TPR + 4, 0x50);
	apic_write(&b, 0, LAPIC_TPR + 1, 0x50);
	assert_int_equal(apic_read(&b, 0, LAPIC_TPR), 0);
	apic_write(&b, 0, LAPIC_ESR, 0);
	assert_int_equal(apic_read(&b, 0, LAPIC_ESR), 0);
	board_fini(&b);
}

static void registers_that_are_not_there_are_errors(void **state)
{
	struct board b;

	setup(&b);
	apic_write(&b, 0, LAPIC_LVT + 0x50, 0xe0);
	for (unsigned off = 0; off < 0x1000; off += 16) {
		bool there = (off >= 0x20 && off <= 0x30) || off == 0x80 || off == 0xa0 ||
			     (off >= 0xd0 && off <= 0x280) || (off >= 0x300 && off <= 0x390) || off == 0x3e0;

		apic_write(&b, 0, LAPIC_ESR, 0);
		apic_read(&b, 0, off);
		apic_write(&b, 0, LAPIC_ESR, 0);
		assert_int_equal(apic_read(&b, 0, LAPIC_ESR), there ? 0 : LAPIC_ESR_REGISTER);
		assert_int_equal(apic_drain(&b, 0), !there);
	}
	/* Writes to read-only registers. */
	apic_write(&b, 0, LAPIC_VERSION, 0);
	apic_write(&b, 0, LAPIC_ESR, 0);
	assert_int_equal(apic_read(&b, 0, LAPIC_ESR), LAPIC_ESR_REGISTER);
	board_fini(&b);
}

static void the_error_interrupt_is_armed_by_the_status_write(void **state)
{
	struct board b;

	setup(&b);
	apic_write(&b, 0, LAPIC_LVT + 0x50, 0xe0);
	apic_read(&b, 0, 0x3f0);
	assert_int_equal(apic_drain(&b, 0), 1);
	apic_read(&b, 0, 0x3f0);
	apic_write(&b, 0, LAPIC_ICR_LOW, 0x40005); /* to itself, vector 5 */
	assert_int_equal(apic_drain(&b, 0), 0);
	/* Reads give what the last write found, and not what came since. */
	assert_int_equal(apic_read(&b, 0, LAPIC_ESR), 0);
	apic_write(&b, 0, LAPIC_ESR, 0);
	assert_int_equal(apic_read(&b, 0, LAPIC_ESR), LAPIC_ESR_REGISTER | LAPIC_ESR_SENT_VECTOR);
	apic_read(&b, 0, 0x3f0);
	assert_int_equal(apic_drain(&b, 0), 1);
	/* An error vector that is itself wrong does not loop. */
	apic_write(&b, 0, LAPIC_LVT + 0x50, 3);
	apic_write(&b, 0, LAPIC_ESR, 0);
	apic_read(&b, 0, 0x3f0);
	apic_write(&b, 0, LAPIC_ESR, 0);
	assert_int_equal(apic_read(&b, 0, LAPIC_ESR), LAPIC_ESR_REGISTER | LAPIC_ESR_RECEIVED_VECTOR);
	board_fini(&b);
}

/* --- priorities, 11.8.3 --- */

static void the_highest_vector_comes_first(void **state)
{
	static const uint8_t vectors[] = { 0x31, 0xf0, 0x10, 0x90, 0x31 };
	struct board b;

	setup(&b);
	for (unsigned k = 0; k < sizeof(vectors); k++)
		post(&b, 0, vectors[k]);
	assert_int_equal(apic_read(&b, 0, LAPIC_IRR + 0x40), 0x00010000);
	assert_int_equal(apic_ack(&b, 0), 0xf0);
	assert_int_equal(apic_read(&b, 0, LAPIC_ISR + 0x70), 0x00010000);
	assert_false(apic_pending(&b, 0));
	apic_eoi(&b, 0);
	assert_int_equal(apic_ack(&b, 0), 0x90);
	/* The same class waits. */
	post(&b, 0, 0x9f);
	assert_int_equal(apic_ack(&b, 0), -1);
	post(&b, 0, 0xa0);
	assert_int_equal(apic_ack(&b, 0), 0xa0);
	apic_eoi(&b, 0); /* ends a0, the highest in service */
	assert_int_equal(apic_read(&b, 0, LAPIC_ISR + 0x40), 0x00010000);
	apic_eoi(&b, 0);
	assert_int_equal(apic_ack(&b, 0), 0x9f);
	apic_eoi(&b, 0);
	assert_int_equal(apic_ack(&b, 0), 0x31);
	apic_eoi(&b, 0);
	assert_int_equal(apic_ack(&b, 0), 0x10);
	apic_eoi(&b, 0);
	assert_int_equal(apic_ack(&b, 0), -1);
	apic_eoi(&b, 0); /* with nothing in service */
	board_fini(&b);
}

static void task_priority_holds_classes_back(void **state)
{
	struct board b;
	struct intc i;
	unsigned before;

	setup(&b);
	i = irqchip_intc(b.chip);
	apic_write(&b, 0, LAPIC_TPR, 0x4f);
	assert_int_equal(i.ops->get_cr8(i.opaque, 0), 4);
	post(&b, 0, 0x4f);
	assert_false(apic_pending(&b, 0));
	post(&b, 0, 0x50);
	assert_int_equal(apic_ack(&b, 0), 0x50);
	assert_int_equal(apic_read(&b, 0, LAPIC_PPR), 0x50);
	apic_eoi(&b, 0);
	assert_int_equal(apic_read(&b, 0, LAPIC_PPR), 0x4f);
	/* Lowering it is news for the processor. */
	before = b.cpu[0].signals[CPU_SIGNAL_INTR];
	i.ops->set_cr8(i.opaque, 0, 3);
	assert_int_equal(b.cpu[0].signals[CPU_SIGNAL_INTR], before + 1);
	assert_int_equal(apic_read(&b, 0, LAPIC_TPR), 0x30);
	assert_int_equal(apic_ack(&b, 0), 0x4f);
	assert_int_equal(apic_read(&b, 0, LAPIC_PPR), 0x40);
	/* Above the one in service the task's own subclass shows. */
	apic_write(&b, 0, LAPIC_TPR, 0x47);
	assert_int_equal(apic_read(&b, 0, LAPIC_PPR), 0x47);
	apic_write(&b, 0, LAPIC_TPR, 0xff);
	post(&b, 0, 0xff);
	assert_int_equal(apic_ack(&b, 0), -1);
	board_fini(&b);
}

static void a_request_that_waits_signals_once(void **state)
{
	struct board b;

	setup(&b);
	post(&b, 0, 0x40);
	post(&b, 0, 0x40);
	assert_int_equal(b.cpu[0].signals[CPU_SIGNAL_INTR], 1);
	assert_int_equal(apic_drain(&b, 0), 1);
	board_fini(&b);
}

/* --- software disable, 11.4.7.2 --- */

static void a_disabled_apic_takes_nothing_new(void **state)
{
	struct board b;
	struct irq_message m = { .dest = 0, .vector = 0x60 };

	setup(&b);
	post(&b, 0, 0x50);
	apic_write(&b, 0, LAPIC_LVT + 0x40, 0x400);
	apic_write(&b, 0, LAPIC_SVR, 0xff);
	assert_int_equal(apic_read(&b, 0, LAPIC_LVT + 0x40), LVT_MASKED | 0x400);
	for (unsigned n = 0; n < LVT_COUNT; n++) {
		apic_write(&b, 0, LAPIC_LVT + 16 * n, 0x40);
		assert_int_equal(apic_read(&b, 0, LAPIC_LVT + 16 * n) & LVT_MASKED, LVT_MASKED);
	}
	assert_false(irqchip_deliver(b.chip, &m));
	m.mode = DM_NMI;
	assert_true(irqchip_deliver(b.chip, &m));
	assert_int_equal(b.cpu[0].signals[CPU_SIGNAL_NMI], 1);
	/* What was accepted before is handled. */
	assert_int_equal(apic_drain(&b, 0), 1);
	apic_write(&b, 0, LAPIC_SVR, 0x1ff);
	apic_write(&b, 0, LAPIC_LVT, 0x40);
	assert_int_equal(apic_read(&b, 0, LAPIC_LVT), 0x40);
	board_fini(&b);
}

/* --- local vectors, 11.5.1 --- */

static void local_vectors_have_modes(void **state)
{
	struct board b;
	struct lapic *l;

	setup(&b);
	l = &b.chip->lapics[0];
	apic_write(&b, 0, LAPIC_LVT + 0x40, 0x400);
	lapic_local(l, LVT_LINT1);
	assert_int_equal(b.cpu[0].signals[CPU_SIGNAL_NMI], 1);
	apic_write(&b, 0, LAPIC_LVT + 0x20, 0x200);
	lapic_local(l, LVT_PERF);
	assert_int_equal(b.cpu[0].signals[CPU_SIGNAL_SMI], 1);
	apic_write(&b, 0, LAPIC_LVT + 0x10, 0x55);
	lapic_local(l, LVT_THERMAL);
	assert_int_equal(apic_ack(&b, 0), 0x55);
	apic_eoi(&b, 0);
	apic_write(&b, 0, LAPIC_LVT + 0x10, 0x10055);
	lapic_local(l, LVT_THERMAL);
	assert_false(apic_pending(&b, 0));
	apic_write(&b, 0, LAPIC_LVT + 0x10, 0x05);
	lapic_local(l, LVT_THERMAL);
	apic_write(&b, 0, LAPIC_ESR, 0);
	assert_int_equal(apic_read(&b, 0, LAPIC_ESR), LAPIC_ESR_RECEIVED_VECTOR);
	board_fini(&b);
}

/* --- APIC base and modes, 11.4.4 and 11.12.5 --- */

static void the_page_can_be_moved_and_switched_off(void **state)
{
	struct board b;
	struct intc i;
	uint32_t off;

	setup(&b);
	i = irqchip_intc(b.chip);
	assert_true(i.ops->mmio_hit(i.opaque, 0, 0xfee00123, &off));
	assert_int_equal(off, 0x123);
	assert_false(i.ops->mmio_hit(i.opaque, 0, 0xfee01000, &off));
	assert_true(wrmsr(&b, 0x1b, 0x12345900));
	assert_false(i.ops->mmio_hit(i.opaque, 0, 0xfee00123, &off));
	assert_true(i.ops->mmio_hit(i.opaque, 0, 0x12345ff0, &off));
	assert_true(i.ops->mmio_hit(i.opaque, 1, 0xfee00123, &off)); /* each has its own */
	/* The boot processor stays one, others do not become one. */
	assert_true(wrmsr(&b, 0x1b, 0xfee00800));
	assert_true(rdmsr(&b, 0x1b) == 0xfee00900);
	assert_true(apic_wrmsr(&b, 1, 0x1b, 0xfee00900));
	uint64_t v;
	assert_true(apic_rdmsr(&b, 1, 0x1b, &v) && v == 0xfee00800);
	/* Off and on again: as after a reset. */
	apic_write(&b, 0, LAPIC_TPR, 0x50);
	assert_true(wrmsr(&b, 0x1b, 0xfee00000));
	assert_false(i.ops->mmio_hit(i.opaque, 0, 0xfee00000, &off));
	struct irq_message m = { .dest = 0, .mode = DM_NMI };
	assert_false(irqchip_deliver(b.chip, &m));
	assert_true(wrmsr(&b, 0x1b, 0xfee00800));
	assert_int_equal(apic_read(&b, 0, LAPIC_TPR), 0);
	assert_int_equal(apic_read(&b, 0, LAPIC_SVR), 0xff);
	board_fini(&b);
}

static void reserved_base_bits_are_refused(void **state)
{
	struct board b;

	setup(&b);
	for (unsigned bit = 0; bit < 64; bit++) {
		bool ok = bit == 8 || bit == 10 || bit == 11 || (bit >= 12 && bit < 46);

		board_fini(&b);
		setup(&b);
		assert_int_equal(wrmsr(&b, 0x1b, 0xfee00900 | 1ull << bit), ok);
	}
	board_fini(&b);
}

static void mode_changes_are_those_of_the_figure(void **state)
{
	/* off, impossible, xAPIC, x2APIC */
	static const bool allowed[4][4] = {
		{ true, false, true, false },
		{ false, false, false, false },
		{ true, false, true, true },
		{ true, false, false, true },
	};

	for (unsigned from = 0; from < 4; from++) {
		for (unsigned to = 0; to < 4 && from != 1; to++) {
			struct board b;

			setup(&b);
			if (from == 3)
				apic_x2(&b, 0);
			else
				assert_true(wrmsr(&b, 0x1b, 0xfee00000 | from << 10));
			assert_int_equal(wrmsr(&b, 0x1b, 0xfee00000 | to << 10), allowed[from][to]);
			assert_int_equal(rdmsr(&b, 0x1b) >> 10 & 3, allowed[from][to] ? to : from);
			board_fini(&b);
		}
	}
}

static void the_xapic_id_can_be_written(void **state)
{
	struct board b;
	struct irq_message m = { .dest = 7, .vector = 0x50 };
	struct intc i;

	setup(&b);
	i = irqchip_intc(b.chip);
	assert_false(irqchip_deliver(b.chip, &m));
	apic_write(&b, 0, LAPIC_ID, 0x07ffffff);
	assert_int_equal(apic_read(&b, 0, LAPIC_ID), 0x07000000);
	assert_true(irqchip_deliver(b.chip, &m));
	assert_int_equal(apic_drain(&b, 0), 1);
	i.ops->init(i.opaque, 0); /* keeps it */
	assert_int_equal(apic_read(&b, 0, LAPIC_ID), 0x07000000);
	/* The x2APIC's is fixed, and what was written is forgotten there. */
	apic_x2(&b, 0);
	assert_int_equal(rdmsr(&b, 0x802), 0);
	assert_true(wrmsr(&b, 0x1b, 0xfee00000));
	assert_true(wrmsr(&b, 0x1b, 0xfee00800));
	assert_int_equal(apic_read(&b, 0, LAPIC_ID), 0);
	board_fini(&b);
}

/* --- x2APIC, 11.12 --- */

static void msrs_are_there_in_x2apic_mode_only(void **state)
{
	struct board b;
	uint32_t off;
	struct intc i;

	setup(&b);
	i = irqchip_intc(b.chip);
	for (uint32_t msr = 0x800; msr < 0x900; msr++) {
		assert_false(readable(&b, msr));
		assert_false(wrmsr(&b, msr, 0));
	}
	apic_x2(&b, 0);
	assert_false(i.ops->mmio_hit(i.opaque, 0, 0xfee00020, &off));
	for (uint32_t msr = 0x800; msr < 0x900; msr++) {
		bool r = msr == 0x802 || msr == 0x803 || msr == 0x808 || msr == 0x80a || msr == 0x80d || msr == 0x80f ||
			 (msr >= 0x810 && msr <= 0x828) || msr == 0x830 || (msr >= 0x832 && msr <= 0x839) ||
			 msr == 0x83e;
		bool w = msr == 0x808 || msr == 0x80b || msr == 0x80f || msr == 0x828 || msr == 0x830 ||
			 (msr >= 0x832 && msr <= 0x838) || msr == 0x83e || msr == 0x83f;

		assert_int_equal(readable(&b, msr), r);
		/* A vector that may be sent: ICR and SELF IPI take 20h, the zero-only ones 0. */
		assert_int_equal(wrmsr(&b, msr, msr == 0x830 || msr == 0x83f ? 0x20 : 0), w);
	}
	board_fini(&b);
}

static void reserved_bits_fault_in_x2apic_mode(void **state)
{
	static const struct {
		uint32_t msr;
		uint64_t ok;
	} regs[] = {
		{ 0x808, 0xff },
		{ 0x80b, 0 },
		{ 0x80f, 0x1ff },
		{ 0x828, 0 },
		{ 0x832, 0x710ff },
		{ 0x833, 0x117ff },
		{ 0x834, 0x117ff },
		{ 0x835, 0x1f7ff },
		{ 0x836, 0x1f7ff },
		{ 0x837, 0x110ff },
		{ 0x838, 0xffffffff },
		{ 0x83e, 0xb },
		{ 0x830, 0xffffffff000cdfff },
		{ 0x83f, 0xff },
	};
	struct board b;

	setup(&b);
	apic_x2(&b, 0);
	for (unsigned k = 0; k < sizeof(regs) / sizeof(regs[0]); k++)
		for (unsigned bit = 0; bit < 64; bit++)
			assert_int_equal(wrmsr(&b, regs[k].msr, 1ull << bit), regs[k].ok >> bit & 1);
	/* Read-only bits are not reserved: a value that was read may be written back. */
	assert_true(wrmsr(&b, 0x80f, 0x1ff));
	assert_true(wrmsr(&b, 0x835, 0x1f700));
	assert_int_equal(rdmsr(&b, 0x835), 0x1a700);
	board_fini(&b);
}

static void x2apic_registers(void **state)
{
	struct board b;

	board_init(&b);
	board_chip(&b, 20);
	for (unsigned cpu = 0; cpu < 20; cpu++) {
		uint64_t v;

		apic_write(&b, cpu, LAPIC_LDR, 0x80000000);
		apic_x2(&b, cpu);
		assert_true(apic_rdmsr(&b, cpu, 0x802, &v) && v == cpu);
		assert_true(apic_rdmsr(&b, cpu, 0x80d, &v) && v == ((cpu >> 4) << 16 | 1u << (cpu & 15)));
	}
	/* The command register is one of 64 bits. */
	assert_true(wrmsr(&b, 0x830, 0x1100000c4031));
	assert_true(rdmsr(&b, 0x830) == 0x1100000c4031);
	/* State is kept across the change of mode. */
	assert_true(apic_wrmsr(&b, 1, 0x808, 0x33));
	uint64_t v;
	assert_true(apic_rdmsr(&b, 1, 0x80a, &v) && v == 0x33);
	board_fini(&b);
}

/* --- INIT --- */

static void init_keeps_base_and_identity(void **state)
{
	struct board b;
	struct intc i;

	setup(&b);
	i = irqchip_intc(b.chip);
	assert_true(wrmsr(&b, 0x1b, 0x12345900));
	post(&b, 0, 0x44);
	apic_write(&b, 0, LAPIC_TPR, 0x20);
	apic_write(&b, 0, LAPIC_LDR, 0x01000000);
	assert_true(wrmsr(&b, MSR_KVM_PV_EOI, 0x1001));
	i.ops->init(i.opaque, 0);
	assert_true(rdmsr(&b, 0x1b) == 0x12345900);
	assert_int_equal(apic_read(&b, 0, LAPIC_SVR), 0xff);
	assert_int_equal(apic_read(&b, 0, LAPIC_TPR) | apic_read(&b, 0, LAPIC_LDR), 0);
	assert_int_equal(apic_read(&b, 0, LAPIC_LVT + 0x30), LVT_MASKED);
	assert_true(rdmsr(&b, MSR_KVM_PV_EOI) == 0);
	assert_false(apic_pending(&b, 0));
	irqchip_reset(b.chip);
	assert_true(rdmsr(&b, 0x1b) == 0xfee00900);
	board_fini(&b);
}

/* --- KVM's paravirtual EOI: Documentation/virt/kvm/x86/msr.rst --- */

#define FLAG 0x2000

static uint8_t flag(struct board *b)
{
	uint8_t v;

	assert_true(mem_read(b->mem, gpa(FLAG), &v, 1));
	return v;
}

static void set_flag(struct board *b, uint8_t v)
{
	assert_true(mem_write(b->mem, gpa(FLAG), &v, 1));
}

static void pv_on(struct board *b)
{
	setup(b);
	assert_true(wrmsr(b, MSR_KVM_PV_EOI, FLAG | 1));
	set_flag(b, 0xa0); /* other bits are the guest's */
}

static void in_service(struct board *b, unsigned want)
{
	unsigned n = 0;

	for (unsigned k = 0; k < 8; k++)
		n += (unsigned)__builtin_popcount(b->chip->lapics[0].isr[k]);
	assert_int_equal(n, want);
}

static void the_msr_takes_aligned_addresses(void **state)
{
	struct board b;

	setup(&b);
	assert_true(wrmsr(&b, MSR_KVM_PV_EOI, 0));
	assert_false(wrmsr(&b, MSR_KVM_PV_EOI, FLAG | 2));
	assert_false(wrmsr(&b, MSR_KVM_PV_EOI, FLAG | 3));
	assert_true(wrmsr(&b, MSR_KVM_PV_EOI, FLAG | 1));
	assert_true(rdmsr(&b, MSR_KVM_PV_EOI) == (FLAG | 1));
	board_fini(&b);
}

static void a_cleared_flag_is_an_eoi(void **state)
{
	struct board b;

	pv_on(&b);
	post(&b, 0, 0x40);
	assert_int_equal(apic_ack(&b, 0), 0x40);
	assert_int_equal(flag(&b), 0xa1);
	set_flag(&b, 0xa0); /* the guest skips its EOI */
	assert_false(apic_pending(&b, 0));
	in_service(&b, 0);
	/* And the next interrupt of the same class comes. */
	post(&b, 0, 0x41);
	assert_int_equal(apic_ack(&b, 0), 0x41);
	assert_int_equal(flag(&b), 0xa1);
	board_fini(&b);
}

static struct intc_lapic moved;

static void moved_get(void *opaque, unsigned cpu, struct intc_lapic *l)
{
	*l = moved;
}

static void moved_set(void *opaque, unsigned cpu, const struct intc_lapic *l)
{
	moved = *l;
}

static bool moved_send(void *opaque, uint64_t addr, uint32_t data)
{
	return true;
}

/* A local APIC elsewhere knows nothing of an offer: the interrupt would be in service for ever. */
static void a_move_elsewhere_settles_the_offer(void **state)
{
	const struct intc_external elsewhere = { .send = moved_send, .get = moved_get, .set = moved_set };
	struct board b;
	struct err err;

	for (unsigned skipped = 0; skipped < 2; skipped++) {
		pv_on(&b);
		post(&b, 0, 0x40);
		assert_int_equal(apic_ack(&b, 0), 0x40);
		if (skipped)
			set_flag(&b, 0xa0);
		irqchip_attach(b.chip, &elsewhere);
		assert_int_equal(irqchip_lapic_state.post_load(irqchip_lapic_object(b.chip, 0), &err), 0);
		assert_int_equal(flag(&b), 0xa0);
		assert_int_equal(moved.regs[LAPIC_ISR / 16 + 2], skipped ? 0 : 1);
		board_fini(&b);
	}
}

static void a_move_elsewhere_keeps_the_id(void **state)
{
	const struct intc_external elsewhere = { .send = moved_send, .get = moved_get, .set = moved_set };
	struct board b;
	struct err err;

	for (unsigned x2apic = 0; x2apic < 2; x2apic++) {
		setup(&b);
		if (x2apic)
			assert_true(apic_wrmsr(&b, 2, 0x1b, 0xfee00c00));
		irqchip_attach(b.chip, &elsewhere);
		assert_int_equal(irqchip_lapic_state.post_load(irqchip_lapic_object(b.chip, 2), &err), 0);
		assert_int_equal(moved.regs[LAPIC_ID / 16], 2 << 24);
		board_fini(&b);
	}
}

/* It may be over without having interrupted: then it does so here. */
static void a_move_from_elsewhere_brings_the_timer(void **state)
{
	const struct intc_external elsewhere = { .send = moved_send, .get = moved_get, .set = moved_set };
	struct lapic *l;
	struct board b;

	for (uint32_t left = 0; left < 2; left++) {
		setup(&b);
		l = irqchip_lapic_object(b.chip, 0);
		memset(&moved, 0, sizeof(moved));
		moved.base = 0xfee00900;
		moved.regs[LAPIC_LVT / 16] = 0x40;
		moved.regs[LAPIC_DIVIDE / 16] = 11;
		irqchip_attach(b.chip, &elsewhere);
		irqchip_lapic_state.pre_save(l);
		assert_true(l->saved_deadline == CLOCK_NEVER);
		moved.regs[LAPIC_INITIAL_COUNT / 16] = 5000;
		moved.regs[LAPIC_CURRENT_COUNT / 16] = 700 * left;
		irqchip_lapic_state.pre_save(l);
		assert_int_equal(l->saved_deadline, clock_now_ns(b.clock) + 700 * left);
		board_fini(&b);
	}
}

static void the_offer_is_withdrawn_when_another_waits(void **state)
{
	struct board b;

	pv_on(&b);
	post(&b, 0, 0x40);
	apic_ack(&b, 0);
	post(&b, 0, 0x30);
	assert_false(apic_pending(&b, 0));
	assert_int_equal(flag(&b), 0xa0);
	in_service(&b, 1);
	/* The guest sees the flag clear and writes the register. */
	apic_eoi(&b, 0);
	in_service(&b, 0);
	assert_int_equal(apic_ack(&b, 0), 0x30);
	board_fini(&b);
}

static void nothing_is_offered_while_another_waits(void **state)
{
	struct board b;

	pv_on(&b);
	post(&b, 0, 0x40);
	post(&b, 0, 0x30);
	assert_int_equal(apic_ack(&b, 0), 0x40);
	assert_int_equal(flag(&b), 0xa0);
	board_fini(&b);
}

static void a_skipped_eoi_is_noticed_by_the_acknowledge(void **state)
{
	struct board b;

	pv_on(&b);
	post(&b, 0, 0x40);
	apic_ack(&b, 0);
	set_flag(&b, 0xa0);
	post(&b, 0, 0x30);
	assert_int_equal(apic_ack(&b, 0), 0x30);
	in_service(&b, 1);
	board_fini(&b);
}

static void an_eoi_that_is_written_ends_the_offer(void **state)
{
	struct board b;

	pv_on(&b);
	post(&b, 0, 0x40);
	apic_ack(&b, 0);
	apic_eoi(&b, 0);
	assert_int_equal(flag(&b), 0xa0);
	in_service(&b, 0);
	board_fini(&b);
}

static void a_nested_interrupt_ends_the_offer(void **state)
{
	struct board b;

	pv_on(&b);
	post(&b, 0, 0x40);
	apic_ack(&b, 0);
	post(&b, 0, 0x90);
	assert_true(apic_pending(&b, 0));
	assert_int_equal(apic_ack(&b, 0), 0x90);
	/* Two in service: neither may be skipped. */
	assert_int_equal(flag(&b), 0xa0);
	in_service(&b, 2);
	apic_eoi(&b, 0);
	apic_eoi(&b, 0);
	in_service(&b, 0);
	board_fini(&b);
}

static void registers_show_a_skipped_eoi(void **state)
{
	struct board b;

	pv_on(&b);
	post(&b, 0, 0x40);
	apic_ack(&b, 0);
	assert_int_equal(apic_read(&b, 0, LAPIC_PPR), 0x40);
	assert_int_equal(flag(&b), 0xa0); /* who looks at the registers is not offered a shortcut */
	apic_eoi(&b, 0);
	post(&b, 0, 0x40);
	apic_ack(&b, 0);
	set_flag(&b, 0xa0);
	assert_int_equal(apic_read(&b, 0, LAPIC_ISR + 0x20), 0);
	assert_int_equal(apic_read(&b, 0, LAPIC_PPR), 0);
	board_fini(&b);
}

static void levels_are_never_offered(void **state)
{
	struct board b;

	pv_on(&b);
	lapic_accept(&b.chip->lapics[0], 0x40, true);
	assert_int_equal(apic_ack(&b, 0), 0x40);
	assert_int_equal(flag(&b), 0xa0);
	board_fini(&b);
}

static void memory_that_is_not_there_offers_nothing(void **state)
{
	struct board b;

	setup(&b);
	assert_true(wrmsr(&b, MSR_KVM_PV_EOI, 0xfffffffffffff001));
	post(&b, 0, 0x40);
	assert_int_equal(apic_ack(&b, 0), 0x40);
	in_service(&b, 1);
	apic_eoi(&b, 0);
	in_service(&b, 0);
	board_fini(&b);
}

/* --- saved state --- */

static void it_moves_with_everything(void **state)
{
	struct board b, t;

	pv_on(&b);
	apic_write(&b, 0, LAPIC_TPR, 0x20);
	apic_write(&b, 0, LAPIC_LDR, 0x08000000);
	apic_write(&b, 0, LAPIC_DFR, 0x0fffffff);
	apic_write(&b, 0, LAPIC_LVT + 0x40, 0x400);
	apic_write(&b, 0, LAPIC_ICR_HIGH, 0x02000000);
	post(&b, 0, 0x88);
	apic_ack(&b, 0);
	post(&b, 0, 0x77);
	apic_read(&b, 0, 0x3f0);
	apic_x2(&b, 1);
	apic_enable(&b, 2);
	post(&b, 2, 0x99);
	apic_ack(&b, 2);
	lapic_accept(&b.chip->lapics[2], 0x55, true);
	board_migrate(&b, &t, make);
	set_flag(&t, flag(&b)); /* memory moves too */
	for (unsigned off = LAPIC_ID; off <= LAPIC_DIVIDE; off += 16)
		if (off != LAPIC_EOI)
			assert_int_equal(apic_read(&b, 0, off), apic_read(&t, 0, off));
	for (struct board *p = &b; p; p = p == &b ? &t : NULL) {
		uint64_t v;

		apic_write(p, 0, LAPIC_ESR, 0);
		assert_int_equal(apic_read(p, 0, LAPIC_ESR), LAPIC_ESR_REGISTER);
		apic_eoi(p, 0);
		assert_int_equal(apic_ack(p, 0), 0x77);
		assert_true(apic_rdmsr(p, 1, 0x802, &v) && v == 1);
		apic_eoi(p, 2);
		assert_int_equal(apic_ack(p, 2), 0x55);
		assert_int_equal(apic_read(p, 2, LAPIC_TMR + 0x20), 1u << 21);
	}
	/* The processor is told to look. */
	assert_true(t.cpu[2].signals[CPU_SIGNAL_INTR] > 0);
	board_fini(&b);
	board_fini(&t);
}

static void use(struct board *b)
{
	post(b, 0, 0x45);
	for (unsigned n = 0; n < 3 && apic_ack(b, 0) >= 0; n++)
		apic_write(b, 0, LAPIC_EOI, 0);
	for (unsigned off = 0; off < 0x400; off += 16) {
		apic_read(b, 0, off);
		apic_write(b, 0, off, 0x1ff);
	}
	clock_icount_advance(b->clock, 1000);
}

static void damaged_state_is_refused_or_harmless(void **state)
{
	struct board b;

	board_init(&b);
	board_chip(&b, 1);
	apic_enable(&b, 0);
	apic_write(&b, 0, LAPIC_LVT, LVT_PERIODIC | 0x40);
	apic_write(&b, 0, LAPIC_INITIAL_COUNT, 1000000);
	assert_true(wrmsr(&b, MSR_KVM_PV_EOI, FLAG | 1));
	post(&b, 0, 0x50);
	apic_ack(&b, 0);
	b.devices = b.devices->next->next;
	board_mutate(&b, use);
	board_fini(&b);
}

static void impossible_state_is_refused(void **state)
{
#define FIELD(f, value)                                                                                                \
	{                                                                                                              \
		offsetof(struct lapic, f), sizeof(((struct lapic *)0)->f), value                                       \
	}
	static const struct {
		size_t offset, size;
		uint64_t value;
	} bad[] = {
		FIELD(base, 0xfee00500), /* x2APIC, not enabled */
		FIELD(base, 0xfee00800), /* not the boot processor */
		FIELD(base, 0xfee00901),
		FIELD(svr, 0x3ff),
		FIELD(ldr, 1),
		FIELD(dfr, 0),
		FIELD(irr[0], 0x8000),
		FIELD(tmr[0], 1),
		FIELD(isr[0], 1),
		FIELD(esr, 1),
		FIELD(esr_shown, 0x100),
		FIELD(lvt[LVT_ERROR], 0x700),
		FIELD(divide, 4),
		FIELD(pv_eoi, 2),
		FIELD(started_ns, INT64_MAX),
		FIELD(saved_deadline, ~0ull),
	};
	struct board b;
	struct err err;

	setup(&b);
	char *l = irqchip_lapic_object(b.chip, 0);
	irqchip_lapic_state.pre_save(l);
	for (unsigned k = 0; k < sizeof(bad) / sizeof(bad[0]); k++) {
		char good[8];

		memcpy(good, l + bad[k].offset, bad[k].size);
		memcpy(l + bad[k].offset, &bad[k].value, bad[k].size);
		assert_int_equal(irqchip_lapic_state.post_load(l, &err), -1);
		memcpy(l + bad[k].offset, good, bad[k].size);
		assert_int_equal(irqchip_lapic_state.post_load(l, &err), 0);
	}
	board_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(power_on_state),
		cmocka_unit_test(registers_keep_the_bits_that_exist),
		cmocka_unit_test(accesses_are_whole_and_aligned),
		cmocka_unit_test(registers_that_are_not_there_are_errors),
		cmocka_unit_test(the_error_interrupt_is_armed_by_the_status_write),
		cmocka_unit_test(the_highest_vector_comes_first),
		cmocka_unit_test(task_priority_holds_classes_back),
		cmocka_unit_test(a_request_that_waits_signals_once),
		cmocka_unit_test(a_disabled_apic_takes_nothing_new),
		cmocka_unit_test(local_vectors_have_modes),
		cmocka_unit_test(the_page_can_be_moved_and_switched_off),
		cmocka_unit_test(reserved_base_bits_are_refused),
		cmocka_unit_test(mode_changes_are_those_of_the_figure),
		cmocka_unit_test(the_xapic_id_can_be_written),
		cmocka_unit_test(msrs_are_there_in_x2apic_mode_only),
		cmocka_unit_test(reserved_bits_fault_in_x2apic_mode),
		cmocka_unit_test(x2apic_registers),
		cmocka_unit_test(init_keeps_base_and_identity),
		cmocka_unit_test(the_msr_takes_aligned_addresses),
		cmocka_unit_test(a_cleared_flag_is_an_eoi),
		cmocka_unit_test(a_move_elsewhere_settles_the_offer),
		cmocka_unit_test(a_move_elsewhere_keeps_the_id),
		cmocka_unit_test(a_move_from_elsewhere_brings_the_timer),
		cmocka_unit_test(the_offer_is_withdrawn_when_another_waits),
		cmocka_unit_test(nothing_is_offered_while_another_waits),
		cmocka_unit_test(a_skipped_eoi_is_noticed_by_the_acknowledge),
		cmocka_unit_test(an_eoi_that_is_written_ends_the_offer),
		cmocka_unit_test(a_nested_interrupt_ends_the_offer),
		cmocka_unit_test(registers_show_a_skipped_eoi),
		cmocka_unit_test(levels_are_never_offered),
		cmocka_unit_test(memory_that_is_not_there_offers_nothing),
		cmocka_unit_test(it_moves_with_everything),
		cmocka_unit_test(damaged_state_is_refused_or_harmless),
		cmocka_unit_test(impossible_state_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
