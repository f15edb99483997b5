/* irq/x86/ioapic.c: the I/O APIC. 82093AA data sheet. */
#include "apic.h"

#define SELECT	(IOAPIC_BASE + 0x00)
#define WINDOW	(IOAPIC_BASE + 0x10)
#define EOI_REG (IOAPIC_BASE + 0x40)

#define MASK	   (1u << 16)
#define LEVEL	   (1u << 15)
#define REMOTE_IRR (1u << 14)
#define LOW	   (1u << 13)
#define LOGICAL	   (1u << 11)
#define MODE(m)	   ((uint32_t)(m) << 8)

static uint32_t reg(struct board *b, uint8_t n)
{
	board_write(b, SELECT, 4, n);
	return (uint32_t)board_read(b, WINDOW, 4);
}

static void set_reg(struct board *b, uint8_t n, uint32_t val)
{
	board_write(b, SELECT, 4, n);
	board_write(b, WINDOW, 4, val);
}

static void route(struct board *b, unsigned pin, uint8_t dest, uint32_t low)
{
	set_reg(b, (uint8_t)(0x10 + 2 * pin), MASK);
	set_reg(b, (uint8_t)(0x11 + 2 * pin), (uint32_t)dest << 24);
	set_reg(b, (uint8_t)(0x10 + 2 * pin), low);
}

static uint32_t entry(struct board *b, unsigned pin)
{
	return reg(b, (uint8_t)(0x10 + 2 * pin));
}

static void line(struct board *b, unsigned n, bool level)
{
	const struct irq_line l = irqchip_line(b->chip, n);

	irq_set(&l, level);
}

static void pulse(struct board *b, unsigned n)
{
	line(b, n, true);
	line(b, n, false);
}

static void make(struct board *b)
{
	board_chip(b, 4);
}

static void setup(struct board *b)
{
	board_init(b);
	make(b);
	for (unsigned cpu = 0; cpu < 4; cpu++)
		apic_enable(b, cpu);
}

/* --- registers --- */

static void identity_and_reset(void **state)
{
	struct board b;

	setup(&b);
	assert_int_equal(reg(&b, 0), 0);
	assert_int_equal(reg(&b, 1), 0x00170020);
	for (unsigned pin = 0; pin < 24; pin++)
		assert_int_equal(entry(&b, pin), MASK);
	set_reg(&b, 0, 0xffffffff);
	assert_int_equal(reg(&b, 0), 0x0f000000);
	assert_int_equal(reg(&b, 2), 0x0f000000); /* the arbitration id follows */
	set_reg(&b, 1, 0);
	assert_int_equal(reg(&b, 1), 0x00170020);
	assert_int_equal(reg(&b, 0x3f), 0);
	for (unsigned n = 0x40; n < 0x100; n++) {
		set_reg(&b, (uint8_t)n, 0xffffffff);
		assert_int_equal(reg(&b, (uint8_t)n), 0);
	}
	irqchip_reset(b.chip);
	assert_int_equal(reg(&b, 0), 0);
	board_fini(&b);
}

static void entries_have_read_only_bits(void **state)
{
	struct board b;

	setup(&b);
	set_reg(&b, 0x10 + 2 * 7, 0xffffffff);
	set_reg(&b, 0x11 + 2 * 7, 0xffffffff);
	assert_int_equal(entry(&b, 7), 0x1afff); /* not delivery status, not remote IRR */
	assert_int_equal(reg(&b, 0x11 + 2 * 7), 0xff000000);
	assert_int_equal(board_read(&b, SELECT, 4), 0x1f);
	/* Other offsets hold nothing, whatever the size. */
	assert_int_equal(board_read(&b, IOAPIC_BASE + 0x20, 4), 0);
	assert_int_equal(board_read(&b, WINDOW, 1), 0);
	assert_int_equal(board_read(&b, WINDOW + 3, 1), 0xff);
	board_fini(&b);
}

/* --- edges --- */

static void an_edge_comes_once(void **state)
{
	struct board b;

	setup(&b);
	route(&b, 4, 1, 0x41);
	line(&b, 4, true);
	assert_false(apic_pending(&b, 0));
	assert_int_equal(apic_ack(&b, 1), 0x41);
	assert_int_equal(apic_read(&b, 1, LAPIC_TMR + 0x20), 0);
	apic_eoi(&b, 1);
	line(&b, 4, true);
	assert_false(apic_pending(&b, 1));
	line(&b, 4, false);
	line(&b, 4, true);
	assert_int_equal(apic_drain(&b, 1), 1);
	board_fini(&b);
}

static void a_masked_edge_is_lost(void **state)
{
	struct board b;

	setup(&b);
	route(&b, 4, 0, 0x41 | MASK);
	line(&b, 4, true);
	route(&b, 4, 0, 0x41);
	assert_false(apic_pending(&b, 0));
	line(&b, 4, false);
	line(&b, 4, true);
	assert_true(apic_pending(&b, 0));
	board_fini(&b);
}

static void the_timer_comes_to_pin_2(void **state)
{
	struct board b;

	setup(&b);
	route(&b, 0, 0, 0x40);
	route(&b, 2, 0, 0x42);
	pulse(&b, 0);
	assert_int_equal(apic_ack(&b, 0), 0x42);
	board_fini(&b);
}

/* --- levels --- */

static void a_level_waits_for_its_eoi(void **state)
{
	struct board b;

	setup(&b);
	route(&b, 10, 0, 0x51 | LEVEL);
	line(&b, 10, true);
	assert_int_equal(entry(&b, 10) & REMOTE_IRR, REMOTE_IRR);
	assert_int_equal(apic_ack(&b, 0), 0x51);
	assert_int_equal(apic_read(&b, 0, LAPIC_TMR + 0x20), 1u << 17);
	line(&b, 10, false);
	line(&b, 10, true);
	assert_false(apic_pending(&b, 0));
	/* Still up: the EOI brings the next one. */
	apic_eoi(&b, 0);
	assert_int_equal(apic_ack(&b, 0), 0x51);
	line(&b, 10, false);
	apic_eoi(&b, 0);
	assert_int_equal(entry(&b, 10) & REMOTE_IRR, 0);
	assert_false(apic_pending(&b, 0));
	board_fini(&b);
}

static void a_level_is_seen_when_it_is_unmasked(void **state)
{
	struct board b;

	setup(&b);
	route(&b, 10, 0, 0x51 | LEVEL | MASK);
	line(&b, 10, true);
	assert_int_equal(entry(&b, 10) & REMOTE_IRR, 0);
	set_reg(&b, 0x10 + 2 * 10, 0x51 | LEVEL);
	assert_int_equal(apic_ack(&b, 0), 0x51);
	/* Masked while in service: the EOI does not bring it back until it is unmasked. */
	set_reg(&b, 0x10 + 2 * 10, 0x51 | LEVEL | MASK);
	apic_eoi(&b, 0);
	assert_false(apic_pending(&b, 0));
	set_reg(&b, 0x10 + 2 * 10, 0x51 | LEVEL);
	assert_true(apic_pending(&b, 0));
	board_fini(&b);
}

static void the_directed_eoi_ends_it_too(void **state)
{
	struct board b;

	setup(&b);
	route(&b, 10, 0, 0x51 | LEVEL);
	line(&b, 10, true);
	apic_ack(&b, 0);
	line(&b, 10, false);
	board_write(&b, EOI_REG, 4, 0x50);
	assert_int_equal(entry(&b, 10) & REMOTE_IRR, REMOTE_IRR);
	board_write(&b, EOI_REG, 4, 0x51);
	assert_int_equal(entry(&b, 10) & REMOTE_IRR, 0);
	/* And so does making the entry an edge for a moment. */
	line(&b, 10, true);
	assert_int_equal(entry(&b, 10) & REMOTE_IRR, REMOTE_IRR);
	line(&b, 10, false);
	set_reg(&b, 0x10 + 2 * 10, 0x51 | MASK);
	assert_int_equal(entry(&b, 10) & REMOTE_IRR, 0);
	board_fini(&b);
}

static void an_eoi_ends_all_entries_with_that_vector(void **state)
{
	struct board b;

	setup(&b);
	route(&b, 10, 0, 0x51 | LEVEL);
	route(&b, 11, 0, 0x51 | LEVEL);
	route(&b, 16, 0, 0x52 | LEVEL);
	line(&b, 10, true);
	line(&b, 11, true);
	line(&b, 16, true);
	line(&b, 10, false);
	line(&b, 11, false);
	line(&b, 16, false);
	assert_int_equal(apic_ack(&b, 0), 0x52);
	assert_int_equal(entry(&b, 10) & entry(&b, 11) & entry(&b, 16) & REMOTE_IRR, REMOTE_IRR);
	apic_eoi(&b, 0);
	assert_int_equal(entry(&b, 16) & REMOTE_IRR, 0);
	assert_int_equal(apic_ack(&b, 0), 0x51);
	apic_eoi(&b, 0);
	assert_int_equal((entry(&b, 10) | entry(&b, 11)) & REMOTE_IRR, 0);
	board_fini(&b);
}

static void an_edge_of_the_same_vector_ends_no_level(void **state)
{
	struct board b;

	setup(&b);
	route(&b, 10, 0, 0x51 | LEVEL);
	route(&b, 4, 1, 0x51);
	line(&b, 10, true);
	assert_int_equal(apic_ack(&b, 0), 0x51);
	pulse(&b, 4);
	assert_int_equal(apic_drain(&b, 1), 1);
	assert_int_equal(entry(&b, 10) & REMOTE_IRR, REMOTE_IRR);
	assert_int_equal(apic_read(&b, 0, LAPIC_IRR + 0x20), 0);
	/* The trigger mode register follows the last one. */
	line(&b, 10, false);
	apic_eoi(&b, 0);
	assert_int_equal(apic_read(&b, 0, LAPIC_TMR + 0x20), 1u << 17);
	route(&b, 4, 0, 0x51);
	pulse(&b, 4);
	assert_int_equal(apic_read(&b, 0, LAPIC_TMR + 0x20), 0);
	board_fini(&b);
}

static void an_entry_may_change_while_in_service(void **state)
{
	struct board b;

	setup(&b);
	route(&b, 10, 0, 0x51 | LEVEL);
	line(&b, 10, true);
	apic_ack(&b, 0);
	/* Remote IRR stays, and the EOI of the old vector ends nothing. */
	set_reg(&b, 0x10 + 2 * 10, 0x61 | LEVEL);
	assert_int_equal(entry(&b, 10) & REMOTE_IRR, REMOTE_IRR);
	apic_eoi(&b, 0);
	assert_false(apic_pending(&b, 0));
	board_write(&b, EOI_REG, 4, 0x61);
	assert_int_equal(apic_ack(&b, 0), 0x61);
	board_fini(&b);
}

static void polarity_is_kept_and_means_nothing(void **state)
{
	struct board b;

	setup(&b);
	route(&b, 10, 0, 0x51 | LEVEL | LOW);
	assert_int_equal(entry(&b, 10), 0x51 | LEVEL | LOW);
	assert_false(apic_pending(&b, 0));
	line(&b, 10, true);
	assert_true(apic_pending(&b, 0));
	board_fini(&b);
}

/* --- who gets it --- */

static void destinations(void **state)
{
	struct board b;

	setup(&b);
	for (unsigned cpu = 0; cpu < 4; cpu++) {
		apic_write(&b, cpu, LAPIC_DFR, 0xffffffff);
		apic_write(&b, cpu, LAPIC_LDR, 1u << (24 + cpu));
	}
	static const struct {
		uint8_t dest;
		uint32_t low;
		unsigned cpus; /* mask */
	} cases[] = {
		{ 0, 0x41, 1 },		  { 3, 0x41, 8 },
		{ 4, 0x41, 0 },		  { 0xff, 0x41, 15 },
		{ 5, 0x41 | LOGICAL, 5 }, { 0xff, 0x41 | LOGICAL, 15 },
		{ 0, 0x41 | LOGICAL, 0 }, { 0x10, 0x41 | LOGICAL, 0 },
	};
	for (unsigned k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
		route(&b, 4, cases[k].dest, cases[k].low);
		pulse(&b, 4);
		for (unsigned cpu = 0; cpu < 4; cpu++)
			assert_int_equal(apic_drain(&b, cpu), cases[k].cpus >> cpu & 1);
	}
	board_fini(&b);
}

static void an_undelivered_level_is_not_in_service(void **state)
{
	struct board b;

	setup(&b);
	route(&b, 10, 9, 0x51 | LEVEL);
	line(&b, 10, true);
	assert_int_equal(entry(&b, 10) & REMOTE_IRR, 0);
	route(&b, 10, 2, 0x51 | LEVEL);
	assert_int_equal(apic_ack(&b, 2), 0x51);
	/* A processor that listens later gets it when the device says it again. */
	apic_write(&b, 3, LAPIC_SVR, 0xff);
	route(&b, 11, 3, 0x51 | LEVEL);
	line(&b, 11, true);
	apic_write(&b, 3, LAPIC_SVR, 0x1ff);
	assert_false(apic_pending(&b, 3));
	line(&b, 11, true);
	assert_true(apic_pending(&b, 3));
	board_fini(&b);
}

static void delivery_modes(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, 0x21, 0xff); /* nothing for ExtINT to bring */
	for (unsigned mode = 0; mode < 8; mode++) {
		route(&b, 5, 2, 0x71 | MODE(mode) | (mode > 1 ? LEVEL : 0));
		pulse(&b, 5);
		assert_int_equal(entry(&b, 5) & REMOTE_IRR, 0);
	}
	assert_int_equal(b.cpu[2].signals[CPU_SIGNAL_SMI], 1);
	assert_int_equal(b.cpu[2].signals[CPU_SIGNAL_NMI], 1);
	assert_int_equal(b.cpu[2].signals[CPU_SIGNAL_INIT], 1);
	assert_int_equal(b.cpu[2].signals[CPU_SIGNAL_SIPI], 0);
	assert_int_equal(apic_drain(&b, 2), 1);
	assert_int_equal(b.cpu[1].signals[CPU_SIGNAL_NMI] + b.cpu[1].signals[CPU_SIGNAL_INTR], 0);
	board_fini(&b);
}

static void a_bad_vector_is_an_error_of_the_receiver(void **state)
{
	struct board b;

	setup(&b);
	apic_write(&b, 1, LAPIC_LVT + 0x50, 0xfe);
	route(&b, 5, 1, 0x0f);
	pulse(&b, 5);
	assert_int_equal(apic_ack(&b, 1), 0xfe);
	apic_eoi(&b, 1);
	apic_write(&b, 1, LAPIC_ESR, 0);
	assert_int_equal(apic_read(&b, 1, LAPIC_ESR), LAPIC_ESR_RECEIVED_VECTOR);
	board_fini(&b);
}

/* Pin 0 is the 8259s' output; the processor gets its vector from them. */
static void extint_takes_the_8259s_vector(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, 0x20, 0x11);
	out8(&b, 0x21, 0x30);
	out8(&b, 0x21, 4);
	out8(&b, 0x21, 1);
	route(&b, 0, 2, 0x99 | MODE(7));
	line(&b, 3, true);
	assert_true(apic_pending(&b, 2));
	assert_false(apic_pending(&b, 0) || apic_pending(&b, 1));
	line(&b, 4, true);
	assert_int_equal(apic_ack(&b, 2), 0x33);
	assert_false(apic_pending(&b, 2));
	/* The next one is an edge of its own. */
	out8(&b, 0x20, 0x20);
	assert_int_equal(apic_ack(&b, 2), 0x34);
	assert_int_equal(apic_ack(&b, 2), -1);
	/* Also when the output has no reason to fall: two wait, and each ends by itself. */
	out8(&b, 0x20, 0x11);
	out8(&b, 0x21, 0x30);
	out8(&b, 0x21, 4);
	out8(&b, 0x21, 3);
	pulse(&b, 6);
	pulse(&b, 7);
	assert_int_equal(apic_ack(&b, 2), 0x36);
	assert_int_equal(apic_ack(&b, 2), 0x37);
	assert_int_equal(apic_ack(&b, 2), -1);
	/* Masked, and through LINT0 of other processors than the first, nothing comes. */
	route(&b, 0, 2, 0x99 | MODE(7) | MASK);
	apic_write(&b, 1, LAPIC_LVT + 0x30, 0x700);
	pulse(&b, 6);
	assert_false(apic_pending(&b, 2) || apic_pending(&b, 1));
	board_fini(&b);
}

/* --- MSIs, 11.11 --- */

static void msis_go_where_address_and_data_say(void **state)
{
	struct board b;
	struct msi_sink msi;

	setup(&b);
	msi = irqchip_msi(b.chip);
	for (unsigned cpu = 0; cpu < 4; cpu++)
		apic_write(&b, cpu, LAPIC_LDR, 1u << (24 + cpu));
	msi_send(&msi, 0xfee02000, 0x4061);
	assert_int_equal(apic_ack(&b, 2), 0x61);
	apic_eoi(&b, 2);
	/* All. */
	msi_send(&msi, 0xfeeff000, 0x62);
	for (unsigned cpu = 0; cpu < 4; cpu++)
		assert_int_equal(apic_drain(&b, cpu), 1);
	/* Logical; with the redirection hint to one of them. */
	msi_send(&msi, 0xfee06004, 0x63);
	assert_int_equal(apic_drain(&b, 1) + apic_drain(&b, 2), 2);
	msi_send(&msi, 0xfee0600c, 0x63);
	assert_int_equal(apic_drain(&b, 1) + apic_drain(&b, 2), 1);
	assert_int_equal(apic_drain(&b, 0) + apic_drain(&b, 3), 0);
	/* The hint with a physical destination changes nothing. */
	msi_send(&msi, 0xfee03008, 0x64);
	assert_int_equal(apic_ack(&b, 3), 0x64);
	apic_eoi(&b, 3);
	msi_send(&msi, 0xfeeff008, 0x64);
	for (unsigned cpu = 0; cpu < 4; cpu++)
		assert_int_equal(apic_drain(&b, cpu), 1);
	/* Level: asserted with the trigger mode for the EOI, de-asserted nothing. */
	msi_send(&msi, 0xfee00000, 0xc065);
	assert_int_equal(apic_ack(&b, 0), 0x65);
	assert_int_equal(apic_read(&b, 0, LAPIC_TMR + 0x30), 1u << 5);
	apic_eoi(&b, 0);
	msi_send(&msi, 0xfee00000, 0x8066);
	assert_false(apic_pending(&b, 0));
	/* NMI, and start-up which is reserved. */
	msi_send(&msi, 0xfee01000, 0x400);
	msi_send(&msi, 0xfee01000, 0x610);
	assert_int_equal(b.cpu[1].signals[CPU_SIGNAL_NMI], 1);
	assert_int_equal(b.cpu[1].signals[CPU_SIGNAL_SIPI], 0);
	/* Elsewhere is not an interrupt. */
	msi_send(&msi, 0x1000, 0x67);
	msi_send(&msi, 0x1fee00000, 0x67);
	for (unsigned cpu = 0; cpu < 4; cpu++)
		assert_int_equal(apic_drain(&b, cpu), 0);
	board_fini(&b);
}

/* --- saved state --- */

static void it_moves_in_service(void **state)
{
	struct board b, t;

	setup(&b);
	set_reg(&b, 0, 0x05000000);
	route(&b, 10, 1, 0x51 | LEVEL);
	line(&b, 10, true);
	assert_int_equal(apic_ack(&b, 1), 0x51);
	board_write(&b, SELECT, 4, 0x24);
	board_migrate(&b, &t, make);
	for (struct board *p = &b; p; p = p == &b ? &t : NULL) {
		assert_int_equal(board_read(p, SELECT, 4), 0x24);
		assert_int_equal(board_read(p, WINDOW, 4), 0x51 | LEVEL | REMOTE_IRR);
		assert_int_equal(reg(p, 0), 0x05000000);
		apic_eoi(p, 1);
		assert_int_equal(apic_ack(p, 1), 0x51); /* the line is up there too */
		line(p, 10, false);
		apic_eoi(p, 1);
		assert_false(apic_pending(p, 1));
	}
	board_fini(&b);
	board_fini(&t);
}

static void use(struct board *b)
{
	for (unsigned n = 0; n < 24; n++)
		pulse(b, n);
	for (unsigned n = 0; n < 0x50; n++)
		set_reg(b, (uint8_t)n, reg(b, (uint8_t)n));
	for (unsigned cpu = 0; cpu < 4; cpu++)
		apic_drain(b, cpu);
	board_write(b, EOI_REG, 4, 0x51);
}

static void damaged_state_is_refused_or_harmless(void **state)
{
	struct board b;

	board_init(&b);
	board_chip(&b, 1);
	apic_enable(&b, 0);
	route(&b, 10, 0, 0x51 | LEVEL);
	line(&b, 10, true);
	b.cpus = 1;
	board_mutate(&b, NULL);
	board_fini(&b);
	setup(&b);
	b.devices = b.devices->next; /* the I/O APIC alone, but with four processors behind it */
	b.devices->next = NULL;
	route(&b, 10, 0, 0x51 | LEVEL);
	board_mutate(&b, use);
	board_fini(&b);
}

static void impossible_state_is_refused(void **state)
{
	struct board b;
	struct err err;
	struct ioapic *io;

	setup(&b);
	io = &b.chip->ioapic;
	assert_int_equal(irqchip_ioapic_state.post_load(io, &err), 0);
	io->entry[3] = 1u << 17;
	assert_int_equal(irqchip_ioapic_state.post_load(io, &err), -1);
	io->entry[3] = REMOTE_IRR; /* of an edge */
	assert_int_equal(irqchip_ioapic_state.post_load(io, &err), -1);
	io->entry[3] = 0;
	io->id = 16;
	assert_int_equal(irqchip_ioapic_state.post_load(io, &err), -1);
	io->id = 0;
	io->levels = 1u << 24;
	assert_int_equal(irqchip_ioapic_state.post_load(io, &err), -1);
	board_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(identity_and_reset),
		cmocka_unit_test(entries_have_read_only_bits),
		cmocka_unit_test(an_edge_comes_once),
		cmocka_unit_test(a_masked_edge_is_lost),
		cmocka_unit_test(the_timer_comes_to_pin_2),
		cmocka_unit_test(a_level_waits_for_its_eoi),
		cmocka_unit_test(a_level_is_seen_when_it_is_unmasked),
		cmocka_unit_test(the_directed_eoi_ends_it_too),
		cmocka_unit_test(an_eoi_ends_all_entries_with_that_vector),
		cmocka_unit_test(an_edge_of_the_same_vector_ends_no_level),
		cmocka_unit_test(an_entry_may_change_while_in_service),
		cmocka_unit_test(polarity_is_kept_and_means_nothing),
		cmocka_unit_test(destinations),
		cmocka_unit_test(an_undelivered_level_is_not_in_service),
		cmocka_unit_test(delivery_modes),
		cmocka_unit_test(a_bad_vector_is_an_error_of_the_receiver),
		cmocka_unit_test(extint_takes_the_8259s_vector),
		cmocka_unit_test(msis_go_where_address_and_data_say),
		cmocka_unit_test(it_moves_in_service),
		cmocka_unit_test(damaged_state_is_refused_or_harmless),
		cmocka_unit_test(impossible_state_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
