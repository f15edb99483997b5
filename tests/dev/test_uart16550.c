/* dev/uart16550.c: FIFOs, interrupts, loopback, flow to and from the host. National PC16550D data sheet. */
#include "board.h"

#include <string.h>

#define COM 0x3f8
enum { RBR = COM, THR = COM, IER, IIR, FCR = IIR, LCR, MCR, LSR, MSR, SCR };
enum { RDI = 1, THRI = 2, RLSI = 4, MSI = 8 };
#define OUT2 8
#define LOOP 0x10
#define DLAB 0x80
/* At 115200 baud, 8N1: four characters of 10 bits. */
#define TIMEOUT (40 * S / 115200)

struct host {
	struct char_source source;
	uint8_t out[256];
	size_t taken, room;
	unsigned wakes;
};

static size_t host_write(void *opaque, const void *buf, size_t len)
{
	struct host *h = opaque;
	size_t n = len < h->room ? len : h->room;

	memcpy(h->out + h->taken, buf, n);
	h->taken += n;
	h->room -= n;
	return n;
}

static void host_wake(void *opaque)
{
	((struct host *)opaque)->wakes++;
}

static struct host hosts[2];
static unsigned next_host;

static void make(struct board *b)
{
	struct host *h = &hosts[next_host++ % 2];
	struct err err;

	*h = (struct host){ .room = sizeof(h->out) };
	const struct uart16550_config c = { .port = COM,
					    .clock = b->clock,
					    .irq = board_line(b, 4),
					    .sink = { host_write, h },
					    .wake = { host_wake, h },
					    .instance = "0",
					    .source = &h->source };
	board_add(b, uart16550_new(b->bus, &c, &err));
	b->own = h;
}

static void setup(struct board *b)
{
	board_init(b);
	make(b);
	out8(b, LCR, DLAB | 3);
	out8(b, RBR, 1);
	out8(b, IER, 0);
	out8(b, LCR, 3);
	out8(b, MCR, OUT2);
}

static size_t type(struct board *b, const char *text)
{
	struct host *h = b->own;

	return h->source.input(h->source.opaque, text, strlen(text));
}

/* --- registers --- */

static void reset_state(void **state)
{
	struct board b;

	board_init(&b);
	make(&b);
	assert_int_equal(in8(&b, RBR), 0);
	assert_int_equal(in8(&b, IER), 0);
	assert_int_equal(in8(&b, IIR), 0x01);
	assert_int_equal(in8(&b, LCR), 0);
	assert_int_equal(in8(&b, MCR), 0);
	assert_int_equal(in8(&b, LSR), 0x60);
	assert_int_equal(in8(&b, MSR), 0xb0);
	assert_int_equal(in8(&b, SCR), 0);
	assert_false(b.line[4].level);
	board_fini(&b);
}

static void registers_keep_the_bits_that_exist(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, IER, 0xff);
	assert_int_equal(in8(&b, IER), 0x0f);
	out8(&b, MCR, 0xef);
	assert_int_equal(in8(&b, MCR), 0x0f);
	out8(&b, SCR, 0xa5);
	assert_int_equal(in8(&b, SCR), 0xa5);
	out8(&b, LSR, 0xff);
	out8(&b, MSR, 0xff);
	assert_int_equal(in8(&b, LSR), 0x60);
	out8(&b, LCR, 0x7f);
	assert_int_equal(in8(&b, LCR), 0x7f);
	board_fini(&b);
}

static void the_divisor_lies_behind_dlab(void **state)
{
	struct board b;
	struct host *h;

	setup(&b);
	h = b.own;
	out8(&b, IER, 5);
	out8(&b, LCR, DLAB);
	out8(&b, RBR, 0x34);
	out8(&b, IER, 0x12);
	assert_int_equal(in8(&b, RBR), 0x34);
	assert_int_equal(in8(&b, IER), 0x12);
	out8(&b, LCR, 3);
	assert_int_equal(in8(&b, IER), 5);
	assert_int_equal(h->taken, 0);
	out8(&b, THR, 'x');
	assert_int_equal(h->taken, 1);
	out8(&b, LCR, DLAB);
	assert_int_equal(in8(&b, RBR), 0x34);
	board_fini(&b);
}

static void out2_lets_interrupts_through(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, IER, RDI);
	out8(&b, MCR, 0);
	type(&b, "a");
	assert_int_equal(in8(&b, IIR), 0x04);
	assert_false(b.line[4].level);
	out8(&b, MCR, OUT2);
	assert_true(b.line[4].level);
	board_fini(&b);
}

/* --- receiver --- */

static void without_fifos_there_is_one_byte(void **state)
{
	struct board b;
	struct host *h;

	setup(&b);
	h = b.own;
	out8(&b, IER, RDI);
	assert_int_equal(type(&b, "abc"), 1);
	assert_true(b.line[4].level);
	assert_int_equal(in8(&b, IIR), 0x04);
	assert_int_equal(in8(&b, LSR), 0x61);
	h->wakes = 0;
	assert_int_equal(in8(&b, RBR), 'a');
	assert_int_equal(h->wakes, 1); /* the host may go on */
	assert_int_equal(in8(&b, LSR), 0x60);
	assert_false(b.line[4].level);
	assert_int_equal(type(&b, "bc"), 1);
	assert_int_equal(in8(&b, RBR), 'b');
	board_fini(&b);
}

static void the_trigger_level_interrupts(void **state)
{
	static const uint8_t levels[] = { 1, 4, 8, 14 };
	struct board b;

	for (unsigned k = 0; k < 4; k++) {
		setup(&b);
		out8(&b, IER, RDI);
		out8(&b, FCR, (uint8_t)(0x07 | k << 6));
		for (unsigned n = 1; n < levels[k]; n++) {
			type(&b, "x");
			assert_false(b.line[4].level);
			assert_int_equal(in8(&b, IIR), 0xc1);
		}
		type(&b, "y");
		assert_true(b.line[4].level);
		assert_int_equal(in8(&b, IIR), 0xc4);
		/* It goes below the level and not before. */
		in8(&b, RBR);
		assert_false(b.line[4].level);
		board_fini(&b);
	}
}

static void the_fifo_holds_16(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, FCR, 0x01);
	assert_int_equal(type(&b, "0123456789abcdefXYZ"), 16);
	assert_int_equal(type(&b, "X"), 0);
	for (unsigned k = 0; k < 16; k++) {
		assert_int_equal(in8(&b, LSR), 0x61);
		assert_int_equal(in8(&b, RBR), "0123456789abcdef"[k]);
	}
	assert_int_equal(in8(&b, LSR), 0x60);
	board_fini(&b);
}

static void what_stays_below_the_level_times_out(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, IER, RDI);
	out8(&b, FCR, 0x81);
	type(&b, "ab");
	board_step(&b, TIMEOUT - 10 * US);
	assert_false(b.line[4].level);
	type(&b, "c"); /* starts it anew */
	board_step(&b, TIMEOUT - 10 * US);
	assert_false(b.line[4].level);
	board_step(&b, 10 * US);
	assert_true(b.line[4].level);
	assert_int_equal(in8(&b, IIR), 0xcc);
	/* A read ends it, and begins it for what is left. */
	in8(&b, RBR);
	assert_false(b.line[4].level);
	assert_int_equal(in8(&b, IIR), 0xc1);
	board_step(&b, TIMEOUT);
	assert_true(b.line[4].level);
	in8(&b, RBR);
	in8(&b, RBR);
	assert_false(b.line[4].level);
	board_step(&b, S);
	assert_false(b.line[4].level);
	assert_true(clock_icount_next(b.clock) == CLOCK_NEVER);
	board_fini(&b);
}

static void the_timeout_follows_rate_and_format(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, IER, RDI);
	out8(&b, FCR, 0xc1);
	type(&b, "a");
	out8(&b, LCR, DLAB | 0x0e); /* 7 bits, parity, 2 stop bits */
	out8(&b, RBR, 96);	    /* 1200 baud */
	out8(&b, LCR, 0x0e);
	board_step(&b, 4 * 11 * S / 1200 - 100 * US);
	assert_false(b.line[4].level);
	board_step(&b, 100 * US);
	assert_true(b.line[4].level);
	/* From slow to fast. */
	out8(&b, FCR, 0xc3);
	type(&b, "b");
	out8(&b, LCR, DLAB | 0x03);
	out8(&b, RBR, 1);
	out8(&b, LCR, 0x03);
	board_step(&b, TIMEOUT);
	assert_true(b.line[4].level);
	board_fini(&b);
}

static void fcr_clears_the_receiver(void **state)
{
	struct board b;
	struct host *h;

	setup(&b);
	h = b.own;
	out8(&b, FCR, 0x01);
	type(&b, "abc");
	h->wakes = 0;
	out8(&b, FCR, 0x03);
	assert_int_equal(in8(&b, LSR), 0x60);
	assert_true(h->wakes > 0);
	type(&b, "d");
	out8(&b, IER, RDI);
	out8(&b, FCR, 0xc2); /* without bit 0 the others mean nothing; but a change empties */
	assert_int_equal(in8(&b, LSR), 0x60);
	assert_int_equal(in8(&b, IIR), 0x01);
	type(&b, "e");
	assert_int_equal(in8(&b, IIR), 0x04);
	out8(&b, FCR, 0xc2);
	assert_int_equal(in8(&b, RBR), 'e');
	board_fini(&b);
}

/* --- transmitter --- */

static void an_empty_transmitter_interrupts_once(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, IER, THRI);
	assert_true(b.line[4].level); /* it is empty now */
	assert_int_equal(in8(&b, IIR), 0x02);
	assert_false(b.line[4].level); /* reading the cause ends it */
	assert_int_equal(in8(&b, IIR), 0x01);
	out8(&b, THR, 'x');
	assert_true(b.line[4].level);
	out8(&b, IER, 0);
	assert_false(b.line[4].level);
	in8(&b, IIR);
	out8(&b, IER, THRI);
	assert_true(b.line[4].level);
	board_fini(&b);
}

static void a_host_that_is_full_loses_nothing(void **state)
{
	struct board b;
	struct host *h;

	setup(&b);
	h = b.own;
	out8(&b, FCR, 0x01);
	out8(&b, IER, THRI);
	in8(&b, IIR);
	h->room = 3;
	/* A driver writes as many as the FIFO holds when the transmitter is empty. */
	for (unsigned k = 0; k < 3 + 16; k++)
		out8(&b, THR, (uint8_t)('a' + k));
	assert_int_equal(h->taken, 3);
	assert_int_equal(in8(&b, LSR), 0x00);
	assert_int_equal(in8(&b, IIR), 0xc1);
	out8(&b, THR, '!'); /* the driver's fault */
	h->room = 5;
	h->source.can_write(h->source.opaque);
	assert_int_equal(in8(&b, LSR), 0x00);
	h->room = 100;
	h->source.can_write(h->source.opaque);
	assert_int_equal(in8(&b, LSR), 0x60);
	assert_true(b.line[4].level);
	assert_int_equal(in8(&b, IIR), 0xc2);
	assert_int_equal(h->taken, 19);
	assert_memory_equal(h->out, "abcdefghijklmnopqrs", 19);
	board_fini(&b);
}

static void fcr_clears_the_transmitter(void **state)
{
	struct board b;
	struct host *h;

	setup(&b);
	h = b.own;
	h->room = 0;
	out8(&b, FCR, 0x01);
	out8(&b, THR, 'x');
	assert_int_equal(in8(&b, LSR), 0x00);
	out8(&b, FCR, 0x05);
	assert_int_equal(in8(&b, LSR), 0x60);
	h->room = 10;
	h->source.can_write(h->source.opaque);
	assert_int_equal(h->taken, 0);
	board_fini(&b);
}

/* --- priorities, line status, modem --- */

static void causes_have_priorities(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, MCR, LOOP | OUT2);
	in8(&b, MSR);
	out8(&b, IER, 0x0f);
	out8(&b, MCR, LOOP | OUT2 | 1); /* a delta */
	out8(&b, THR, '1');
	out8(&b, THR, '2'); /* overrun */
	assert_int_equal(in8(&b, IIR), 0x06);
	assert_int_equal(in8(&b, LSR), 0x63);
	assert_int_equal(in8(&b, IIR), 0x04);
	assert_int_equal(in8(&b, RBR), '1');
	assert_int_equal(in8(&b, IIR), 0x02);
	assert_int_equal(in8(&b, IIR), 0x00);
	assert_int_equal(in8(&b, MSR) & 0x0f, 0x02);
	assert_int_equal(in8(&b, IIR), 0x01);
	assert_int_equal(in8(&b, LSR), 0x60); /* reading ended the overrun */
	board_fini(&b);
}

static void the_loop_joins_modem_lines(void **state)
{
	struct board b;

	setup(&b);
	for (unsigned mcr = 0; mcr < 16; mcr++) {
		out8(&b, MCR, (uint8_t)(LOOP | mcr));
		assert_int_equal(in8(&b, MSR) >> 4,
				 (mcr >> 1 & 1) | (mcr & 1) << 1 | (mcr >> 2 & 1) << 2 | (mcr >> 3 & 1) << 3);
	}
	out8(&b, MCR, LOOP | 4);
	in8(&b, MSR);
	out8(&b, MCR, LOOP | 4 | 2);
	assert_int_equal(in8(&b, MSR) & 15, 1); /* CTS */
	out8(&b, MCR, LOOP | 2);
	assert_int_equal(in8(&b, MSR) & 15, 4); /* the end of a ring */
	out8(&b, MCR, LOOP | 2 | 4);
	assert_int_equal(in8(&b, MSR) & 15, 0); /* its beginning is nothing */
	out8(&b, MCR, LOOP | 2 | 4 | 8);
	assert_int_equal(in8(&b, MSR) & 15, 8);
	assert_int_equal(in8(&b, MSR) & 15, 0);
	out8(&b, MCR, OUT2);
	assert_int_equal(in8(&b, MSR) >> 4, 0xb);
	board_fini(&b);
}

static void the_loop_carries_bytes_and_breaks(void **state)
{
	struct board b;
	struct host *h;

	setup(&b);
	h = b.own;
	out8(&b, FCR, 0x01);
	out8(&b, MCR, LOOP | OUT2);
	for (unsigned k = 0; k < 17; k++)
		out8(&b, THR, (uint8_t)k);
	assert_int_equal(h->taken, 0);
	assert_int_equal(in8(&b, IIR), 0xc1);
	assert_int_equal(in8(&b, LSR), 0x63);
	for (unsigned k = 0; k < 16; k++)
		assert_int_equal(in8(&b, RBR), k);
	assert_int_equal(type(&b, "host"), 0); /* the input is cut off */
	out8(&b, LCR, 0x43);
	assert_int_equal(in8(&b, LSR), 0xf1); /* an error is in the FIFO */
	assert_int_equal(in8(&b, LSR), 0x61);
	assert_int_equal(in8(&b, RBR), 0);
	out8(&b, LCR, 0x03);
	h->wakes = 0;
	out8(&b, MCR, OUT2);
	assert_true(h->wakes > 0);
	assert_int_equal(type(&b, "host"), 4);
	board_fini(&b);
}

static void a_reset_empties_it(void **state)
{
	struct board b;
	struct host *h;

	setup(&b);
	h = b.own;
	out8(&b, FCR, 0x41);
	out8(&b, IER, 15);
	h->room = 0;
	out8(&b, THR, 'x');
	type(&b, "abc");
	board_reset(&b);
	assert_false(b.line[4].level);
	assert_int_equal(in8(&b, LSR), 0x60);
	assert_int_equal(in8(&b, IIR), 0x01);
	assert_int_equal(in8(&b, IER) | in8(&b, MCR) | in8(&b, LCR), 0);
	board_step(&b, S);
	assert_false(b.line[4].level);
	board_fini(&b);
}

/* --- saved state --- */

static void it_moves_full(void **state)
{
	struct board b, t;
	struct host *h;

	setup(&b);
	h = b.own;
	out8(&b, FCR, 0x81);
	out8(&b, IER, 15);
	in8(&b, IIR);
	out8(&b, SCR, 0x77);
	h->room = 0;
	out8(&b, THR, 'x');
	out8(&b, THR, 'y');
	type(&b, "abc");
	board_step(&b, 100 * US);
	board_migrate(&b, &t, make);
	h = t.own;
	/* What the transmitter held has gone to the new host. */
	assert_int_equal(h->taken, 2);
	assert_memory_equal(h->out, "xy", 2);
	assert_int_equal(in8(&t, IIR), 0xc2);
	assert_false(t.line[4].level);
	board_step(&t, TIMEOUT - 101 * US);
	assert_false(t.line[4].level);
	board_step(&t, US);
	assert_true(t.line[4].level);
	assert_int_equal(in8(&t, IIR), 0xcc);
	assert_int_equal(in8(&t, SCR), 0x77);
	for (unsigned k = 0; k < 3; k++)
		assert_int_equal(in8(&t, RBR), "abc"[k]);
	board_fini(&b);
	board_fini(&t);
}

static void use(struct board *b)
{
	struct host *h = b->own;

	h->taken = 0;
	h->room = sizeof(h->out);
	h->source.can_write(h->source.opaque);
	type(b, "0123456789abcdef0123");
	board_step(b, MS);
	for (unsigned port = COM; port < COM + 8; port++) {
		in8(b, (uint16_t)port);
		out8(b, (uint16_t)port, 0x5a);
	}
	for (unsigned k = 0; k < 20; k++) {
		in8(b, RBR);
		out8(b, THR, 1);
	}
}

static void damaged_state_is_refused_or_harmless(void **state)
{
	struct board b;
	struct host *h;

	setup(&b);
	h = b.own;
	out8(&b, FCR, 0x81);
	h->room = 0;
	out8(&b, THR, 'x');
	type(&b, "abc");
	board_mutate(&b, use);
	board_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reset_state),
		cmocka_unit_test(registers_keep_the_bits_that_exist),
		cmocka_unit_test(the_divisor_lies_behind_dlab),
		cmocka_unit_test(out2_lets_interrupts_through),
		cmocka_unit_test(without_fifos_there_is_one_byte),
		cmocka_unit_test(the_trigger_level_interrupts),
		cmocka_unit_test(the_fifo_holds_16),
		cmocka_unit_test(what_stays_below_the_level_times_out),
		cmocka_unit_test(the_timeout_follows_rate_and_format),
		cmocka_unit_test(fcr_clears_the_receiver),
		cmocka_unit_test(an_empty_transmitter_interrupts_once),
		cmocka_unit_test(a_host_that_is_full_loses_nothing),
		cmocka_unit_test(fcr_clears_the_transmitter),
		cmocka_unit_test(causes_have_priorities),
		cmocka_unit_test(the_loop_joins_modem_lines),
		cmocka_unit_test(the_loop_carries_bytes_and_breaks),
		cmocka_unit_test(a_reset_empties_it),
		cmocka_unit_test(it_moves_full),
		cmocka_unit_test(damaged_state_is_refused_or_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
