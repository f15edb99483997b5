/* irq/x86/i8259.c: the pair of 8259As. Section names are those of Intel's 8259A data sheet. */
#include "../dev/board.h"

#include <string.h>

#include "irq/x86/impl.h"

#define MASTER 0x20
#define SLAVE  0xa0
#define ELCR   0x4d0

#define EOI	       0x20
#define SPECIFIC(n)    (0x60 | (n))
#define ROTATE	       0xa0
#define ROTATE_SPEC(n) (0xe0 | (n))
#define PRIORITY(n)    (0xc0 | (n))
#define READ_IRR       0x0a
#define READ_ISR       0x0b
#define POLL	       0x0c
#define SPECIAL_MASK   0x68
#define NORMAL_MASK    0x48

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

static void init(struct board *b, uint8_t icw4)
{
	out8(b, MASTER, 0x11);
	out8(b, MASTER + 1, 0x20);
	out8(b, MASTER + 1, 0x04);
	out8(b, MASTER + 1, icw4);
	out8(b, SLAVE, 0x11);
	out8(b, SLAVE + 1, 0x28);
	out8(b, SLAVE + 1, 0x02);
	out8(b, SLAVE + 1, icw4);
}

static void make(struct board *b)
{
	board_chip(b, 1);
}

static void setup(struct board *b)
{
	board_init(b);
	make(b);
	init(b, 1);
}

static bool intr(struct board *b)
{
	return atomic_load(&b->chip->pic.output);
}

static int inta(struct board *b)
{
	return pic_ack(b->chip);
}

static uint8_t irr(struct board *b, uint16_t port)
{
	out8(b, port, READ_IRR);
	return in8(b, port);
}

static uint8_t isr(struct board *b, uint16_t port)
{
	out8(b, port, READ_ISR);
	return in8(b, port);
}

/* --- initialization --- */

static void icw1_clears_and_the_words_follow(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, MASTER + 1, 0x55);
	assert_int_equal(in8(&b, MASTER + 1), 0x55);
	line(&b, 3, true);
	out8(&b, MASTER, 0x11);
	/* IMR and IRR are clear; reads of the data port show IMR at once. */
	assert_int_equal(in8(&b, MASTER + 1), 0);
	assert_int_equal(in8(&b, MASTER), 0);
	out8(&b, MASTER + 1, 0x47); /* the low bits are the line's */
	out8(&b, MASTER + 1, 0x04);
	out8(&b, MASTER + 1, 0x01);
	/* An edge must rise again after ICW1. */
	assert_false(intr(&b));
	line(&b, 3, false);
	line(&b, 3, true);
	assert_int_equal(inta(&b), 0x43);
	out8(&b, MASTER + 1, 0xa5);
	assert_int_equal(in8(&b, MASTER + 1), 0xa5);
	board_fini(&b);
}

static void without_icw4_two_words_are_enough(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, MASTER, 0x10);
	out8(&b, MASTER + 1, 0x50);
	out8(&b, MASTER + 1, 0x04);
	out8(&b, MASTER + 1, 0xfe);
	assert_int_equal(in8(&b, MASTER + 1), 0xfe);
	/* SNGL: no ICW3. */
	out8(&b, MASTER, 0x13);
	out8(&b, MASTER + 1, 0x60);
	out8(&b, MASTER + 1, 0x01);
	out8(&b, MASTER + 1, 0xfd);
	assert_int_equal(in8(&b, MASTER + 1), 0xfd);
	board_fini(&b);
}

/* --- edges, levels, priorities --- */

static void an_edge_is_served_once(void **state)
{
	struct board b;

	setup(&b);
	line(&b, 4, true);
	assert_true(intr(&b));
	assert_int_equal(b.cpu[0].signals[CPU_SIGNAL_INTR] > 0, 1);
	assert_int_equal(irr(&b, MASTER), 0x10);
	assert_int_equal(inta(&b), 0x24);
	assert_int_equal(irr(&b, MASTER), 0);
	assert_int_equal(isr(&b, MASTER), 0x10);
	assert_false(intr(&b));
	out8(&b, MASTER, EOI);
	assert_int_equal(isr(&b, MASTER), 0);
	assert_false(intr(&b));
	board_fini(&b);
}

static void a_level_is_served_until_it_goes(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, ELCR, 0x20);
	line(&b, 5, true);
	assert_int_equal(inta(&b), 0x25);
	assert_int_equal(irr(&b, MASTER), 0x20);
	assert_false(intr(&b));
	out8(&b, MASTER, EOI);
	assert_int_equal(inta(&b), 0x25);
	line(&b, 5, false);
	out8(&b, MASTER, EOI);
	assert_false(intr(&b));
	board_fini(&b);
}

static void elcr_keeps_system_lines_as_edges(void **state)
{
	struct board b;

	setup(&b);
	board_out(&b, ELCR, 2, 0xffff);
	assert_int_equal(board_in(&b, ELCR, 2), 0xdef8);
	/* A line that is up becomes a request when it becomes a level, and none when it becomes an edge. */
	board_out(&b, ELCR, 2, 0);
	line(&b, 6, true);
	assert_int_equal(inta(&b), 0x26);
	out8(&b, MASTER, EOI);
	assert_false(intr(&b));
	out8(&b, ELCR, 0x40);
	assert_true(intr(&b));
	/* ICW1 keeps levels. */
	init(&b, 1);
	assert_int_equal(inta(&b), 0x26);
	board_fini(&b);
}

static void an_edge_is_kept_when_the_line_falls(void **state)
{
	struct board b;

	setup(&b);
	pulse(&b, 3);
	assert_int_equal(inta(&b), 0x23);
	board_fini(&b);
}

static void a_request_that_goes_away_is_spurious(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, ELCR, 0x20);
	pulse(&b, 5);
	assert_false(intr(&b));
	assert_int_equal(inta(&b), 0x27);
	assert_int_equal(isr(&b, MASTER), 0);
	/* The slave's: gone between the two INTA pulses. */
	out8(&b, ELCR + 1, 0x10);
	pulse(&b, 12);
	assert_false(intr(&b));
	board_fini(&b);
}

static void a_spurious_interrupt_of_the_slave_is_in_service_in_the_master(void **state)
{
	struct board b;

	setup(&b);
	line(&b, 12, true);
	b.chip->pic.pic[1].irr = 0; /* gone between the two INTA pulses */
	assert_int_equal(inta(&b), 0x2f);
	assert_int_equal(isr(&b, MASTER), 0x04);
	assert_int_equal(isr(&b, SLAVE), 0);
	board_fini(&b);
}

static void lower_lines_wait_and_higher_ones_nest(void **state)
{
	struct board b;

	setup(&b);
	line(&b, 5, true);
	assert_int_equal(inta(&b), 0x25);
	line(&b, 6, true);
	assert_false(intr(&b));
	line(&b, 1, true);
	assert_true(intr(&b));
	assert_int_equal(inta(&b), 0x21);
	assert_int_equal(isr(&b, MASTER), 0x22);
	out8(&b, MASTER, EOI); /* the highest in service */
	assert_int_equal(isr(&b, MASTER), 0x20);
	assert_false(intr(&b));
	out8(&b, MASTER, EOI);
	assert_int_equal(inta(&b), 0x26);
	board_fini(&b);
}

static void masked_lines_wait(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, MASTER + 1, 0x10);
	line(&b, 4, true);
	assert_false(intr(&b));
	assert_int_equal(irr(&b, MASTER), 0x10);
	out8(&b, MASTER + 1, 0);
	assert_int_equal(inta(&b), 0x24);
	board_fini(&b);
}

static void the_slave_comes_through_line_2(void **state)
{
	struct board b;

	setup(&b);
	line(&b, 9, true);
	assert_int_equal(irr(&b, MASTER), 0x04);
	assert_int_equal(inta(&b), 0x29);
	assert_int_equal(isr(&b, MASTER), 0x04);
	assert_int_equal(isr(&b, SLAVE), 0x02);
	/* A higher line of the slave waits for the master in the fully nested mode. */
	line(&b, 8, true);
	assert_false(intr(&b));
	out8(&b, SLAVE, EOI);
	out8(&b, MASTER, EOI);
	assert_int_equal(inta(&b), 0x28);
	board_fini(&b);
}

static void the_special_fully_nested_mode_lets_the_slave_nest(void **state)
{
	struct board b;

	setup(&b);
	init(&b, 0x11);
	line(&b, 9, true);
	assert_int_equal(inta(&b), 0x29);
	line(&b, 10, true);
	assert_false(intr(&b));
	line(&b, 8, true);
	assert_true(intr(&b));
	assert_int_equal(inta(&b), 0x28);
	/* In the slave a line still waits for itself. */
	line(&b, 8, false);
	line(&b, 8, true);
	assert_false(intr(&b));
	/* Lines of the master below the slave wait. */
	line(&b, 3, true);
	assert_false(intr(&b));
	line(&b, 1, true);
	assert_int_equal(inta(&b), 0x21);
	board_fini(&b);
}

/* --- OCW2 --- */

static void specific_eoi_ends_that_line(void **state)
{
	struct board b;

	setup(&b);
	line(&b, 5, true);
	inta(&b);
	line(&b, 1, true);
	inta(&b);
	out8(&b, MASTER, SPECIFIC(5));
	assert_int_equal(isr(&b, MASTER), 0x02);
	out8(&b, MASTER, SPECIFIC(7));
	assert_int_equal(isr(&b, MASTER), 0x02);
	board_fini(&b);
}

static void priorities_rotate(void **state)
{
	struct board b;

	setup(&b);
	/* Set priority: 3 is the bottom, so 4 is the top. */
	out8(&b, MASTER, PRIORITY(3));
	line(&b, 0, true);
	line(&b, 4, true);
	line(&b, 3, true);
	assert_int_equal(inta(&b), 0x24);
	/* Rotate on non-specific EOI: 4 becomes the bottom. */
	out8(&b, MASTER, ROTATE);
	assert_int_equal(isr(&b, MASTER), 0);
	line(&b, 4, false);
	line(&b, 4, true);
	line(&b, 5, true);
	assert_int_equal(inta(&b), 0x25);
	/* Rotate on specific EOI. */
	out8(&b, MASTER, ROTATE_SPEC(5));
	assert_int_equal(inta(&b), 0x20);
	out8(&b, MASTER, EOI);
	assert_int_equal(inta(&b), 0x23);
	out8(&b, MASTER, EOI);
	assert_int_equal(inta(&b), 0x24);
	board_fini(&b);
}

static void automatic_eoi_and_its_rotation(void **state)
{
	struct board b;

	setup(&b);
	init(&b, 3);
	line(&b, 4, true);
	assert_int_equal(inta(&b), 0x24);
	assert_int_equal(isr(&b, MASTER), 0);
	out8(&b, MASTER, 0x80); /* rotate in automatic EOI mode: set */
	line(&b, 4, false);
	line(&b, 4, true);
	assert_int_equal(inta(&b), 0x24);
	line(&b, 5, true);
	line(&b, 3, true);
	assert_int_equal(inta(&b), 0x25);
	assert_int_equal(inta(&b), 0x23);
	out8(&b, MASTER, 0x00); /* clear */
	line(&b, 5, false);
	line(&b, 5, true);
	line(&b, 4, false);
	line(&b, 4, true);
	assert_int_equal(inta(&b), 0x24);
	assert_int_equal(inta(&b), 0x25);
	board_fini(&b);
}

/* --- OCW3 --- */

static void the_special_mask_mode_lets_lower_lines_through(void **state)
{
	struct board b;

	setup(&b);
	line(&b, 2 + 1, true);
	assert_int_equal(inta(&b), 0x23);
	line(&b, 6, true);
	assert_false(intr(&b));
	out8(&b, MASTER, SPECIAL_MASK);
	assert_false(intr(&b));
	out8(&b, MASTER + 1, 0x08);
	assert_true(intr(&b));
	assert_int_equal(inta(&b), 0x26);
	/* A non-specific EOI does not end what is masked. */
	out8(&b, MASTER, EOI);
	assert_int_equal(isr(&b, MASTER), 0x08);
	out8(&b, MASTER, EOI);
	assert_int_equal(isr(&b, MASTER), 0x08);
	out8(&b, MASTER, NORMAL_MASK);
	out8(&b, MASTER, EOI);
	assert_int_equal(isr(&b, MASTER), 0);
	board_fini(&b);
}

static void the_read_register_stays_selected(void **state)
{
	struct board b;

	setup(&b);
	line(&b, 4, true);
	inta(&b);
	line(&b, 6, true);
	out8(&b, MASTER, READ_ISR);
	assert_int_equal(in8(&b, MASTER), 0x10);
	assert_int_equal(in8(&b, MASTER), 0x10);
	out8(&b, MASTER, READ_IRR);
	assert_int_equal(in8(&b, MASTER), 0x40);
	out8(&b, MASTER, READ_ISR);
	out8(&b, MASTER, 0x08); /* no read command: as it was */
	assert_int_equal(in8(&b, MASTER), 0x10);
	board_fini(&b);
}

static void a_poll_is_an_acknowledge(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, MASTER, POLL);
	assert_int_equal(in8(&b, MASTER) & 0x80, 0);
	line(&b, 10, true);
	assert_int_equal(in8(&b, MASTER), 0x04); /* one read is the poll, the next are IRR again */
	out8(&b, MASTER, POLL);
	assert_int_equal(in8(&b, MASTER), 0x82);
	out8(&b, SLAVE, POLL);
	assert_int_equal(in8(&b, SLAVE + 1), 0x82); /* either port */
	assert_int_equal(isr(&b, MASTER), 0x04);
	assert_int_equal(isr(&b, SLAVE), 0x04);
	assert_int_equal(in8(&b, SLAVE + 1), 0);
	board_fini(&b);
}

/* --- as the processor sees it --- */

static void lint0_and_the_global_disable_let_it_through(void **state)
{
	struct board b;
	struct intc i;

	setup(&b);
	i = irqchip_intc(b.chip);
	line(&b, 4, true);
	assert_true(i.ops->pending(i.opaque, 0));
	i.ops->mmio_write(i.opaque, 0, 0xf0, 0x1ff);
	i.ops->mmio_write(i.opaque, 0, 0x350, 0x10700);
	assert_false(i.ops->pending(i.opaque, 0));
	i.ops->mmio_write(i.opaque, 0, 0x350, 0x00400); /* an NMI line carries no vector */
	assert_false(i.ops->pending(i.opaque, 0));
	i.ops->mmio_write(i.opaque, 0, 0x350, 0x00700);
	assert_true(i.ops->pending(i.opaque, 0));
	i.ops->mmio_write(i.opaque, 0, 0x350, 0x10700);
	assert_true(i.ops->wrmsr(i.opaque, 0, 0x1b, 0xfee00100));
	assert_true(i.ops->pending(i.opaque, 0));
	assert_int_equal(i.ops->ack(i.opaque, 0), 0x24);
	assert_int_equal(i.ops->ack(i.opaque, 0), -1);
	board_fini(&b);
}

/* --- saved state --- */

static void it_moves_in_service_and_pending(void **state)
{
	struct board b, t;

	setup(&b);
	out8(&b, ELCR + 1, 0x02);
	out8(&b, MASTER, PRIORITY(6));
	line(&b, 9, true);
	inta(&b);
	line(&b, 1, true);
	out8(&b, SLAVE, 0x11); /* in the middle of an initialization */
	out8(&b, SLAVE + 1, 0x78);
	board_migrate(&b, &t, make);
	for (struct board *p = &b; p; p = p == &b ? &t : NULL) {
		assert_true(intr(p));
		assert_int_equal(isr(p, MASTER), 0x04);
		assert_int_equal(in8(p, ELCR + 1), 0x02);
		out8(p, SLAVE + 1, 2);
		out8(p, SLAVE + 1, 1);
		assert_int_equal(inta(p), 0x21);
		out8(p, MASTER, EOI);
		out8(p, MASTER, EOI);
		assert_int_equal(inta(p), 0x79);
		line(p, 9, false);
		assert_int_equal(irr(p, SLAVE), 0);
	}
	board_fini(&b);
	board_fini(&t);
}

static void use(struct board *b)
{
	for (unsigned n = 0; n < 16; n++)
		line(b, n, n & 1);
	for (unsigned n = 0; n < 4; n++)
		inta(b);
	for (unsigned port = MASTER; port < MASTER + 2; port++) {
		in8(b, (uint16_t)port);
		out8(b, (uint16_t)port, 0xe7);
	}
}

static void damaged_state_is_refused_or_harmless(void **state)
{
	struct board b;

	setup(&b);
	line(&b, 9, true);
	board_mutate(&b, use);
	board_fini(&b);
}

static void impossible_state_is_refused(void **state)
{
	struct board b;
	struct err err;
	const struct state_desc *pair = &irqchip_pic_state, *one = pair->fields[0].sub;
	struct i8259 *p;

	setup(&b);
	p = &b.chip->pic.pic[0];
	assert_int_equal(one->post_load(p, &err), 0);
	p->lowest = 8;
	assert_int_equal(one->post_load(p, &err), -1);
	p->lowest = 7;
	p->icw = 5;
	assert_int_equal(one->post_load(p, &err), -1);
	p->icw = 0;
	p->base = 3;
	assert_int_equal(one->post_load(p, &err), -1);
	p->base = 0;
	assert_int_equal(pair->post_load(&b.chip->pic, &err), 0);
	p->elcr = 1;
	assert_int_equal(pair->post_load(&b.chip->pic, &err), -1);
	board_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(icw1_clears_and_the_words_follow),
		cmocka_unit_test(without_icw4_two_words_are_enough),
		cmocka_unit_test(an_edge_is_served_once),
		cmocka_unit_test(a_level_is_served_until_it_goes),
		cmocka_unit_test(elcr_keeps_system_lines_as_edges),
		cmocka_unit_test(an_edge_is_kept_when_the_line_falls),
		cmocka_unit_test(a_request_that_goes_away_is_spurious),
		cmocka_unit_test(a_spurious_interrupt_of_the_slave_is_in_service_in_the_master),
		cmocka_unit_test(lower_lines_wait_and_higher_ones_nest),
		cmocka_unit_test(masked_lines_wait),
		cmocka_unit_test(the_slave_comes_through_line_2),
		cmocka_unit_test(the_special_fully_nested_mode_lets_the_slave_nest),
		cmocka_unit_test(specific_eoi_ends_that_line),
		cmocka_unit_test(priorities_rotate),
		cmocka_unit_test(automatic_eoi_and_its_rotation),
		cmocka_unit_test(the_special_mask_mode_lets_lower_lines_through),
		cmocka_unit_test(the_read_register_stays_selected),
		cmocka_unit_test(a_poll_is_an_acknowledge),
		cmocka_unit_test(lint0_and_the_global_disable_let_it_through),
		cmocka_unit_test(it_moves_in_service_and_pending),
		cmocka_unit_test(damaged_state_is_refused_or_harmless),
		cmocka_unit_test(impossible_state_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
