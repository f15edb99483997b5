/* dev/e1000*.c through its registers: what it is, PHY, interrupts, cable and life. */
#include "e1000_rig.h"

/* --- identity, EEPROM and PHY --- */

static uint16_t eerd(unsigned at)
{
	set(EERD, at << 8 | 1);
	assert_true(get(EERD) & 0x10);
	return (uint16_t)(get(EERD) >> 16);
}

static void pins(uint32_t v)
{
	set(EECD, v);
	set(EECD, v | 1);
	set(EECD, v);
}

/* As drivers read a word by the pins of the EEPROM. */
static uint16_t by_pins(unsigned at)
{
	uint16_t v = 0;

	set(EECD, 0x40);
	assert_true(get(EECD) & 0x80);
	set(EECD, 0x42);
	for (unsigned command = 6u << 6 | at, n = 9; n--;)
		pins(0x42 | (command >> n & 1) << 2);
	assert_false(get(EECD) & 8); /* the dummy bit */
	for (unsigned n = 0; n < 16; n++) {
		set(EECD, 0x43);
		v = (uint16_t)(v << 1 | (get(EECD) >> 3 & 1));
		set(EECD, 0x42);
	}
	set(EECD, 0);
	return v;
}

static void what_it_is(void **state)
{
	uint16_t sum = 0;

	begin();
	assert_int_equal(pci_config_read(board.pci, DEVFN, 0, 4), 0x100e8086);
	assert_int_equal(pci_config_read(board.pci, DEVFN, 0xb, 1), 2);
	for (unsigned n = 0; n < 64; n++) {
		assert_int_equal(eerd(n), by_pins(n));
		sum = (uint16_t)(sum + eerd(n));
	}
	assert_int_equal(sum, 0xbaba);
	for (unsigned n = 0; n < 3; n++)
		assert_int_equal(eerd(n), ld_le16(mac + 2 * n));
	assert_int_equal(eerd(0x40), 0xffff);
	assert_int_equal(get(RA), 0x01005452);
	assert_int_equal(get(RA + 4), 0x80000302);
	assert_int_equal(get(STATUS) & 0xc3, 0x83);
	/* The same by ports, and sizes other than words. */
	board_out(&board, IO, 4, RA);
	assert_int_equal(board_in(&board, IO + 4, 4), 0x01005452);
	assert_int_equal(board_read(&board, BAR + RA + 2, 2), 0x0100);
	assert_int_equal(board_read(&board, BAR + RA, 8), 0x8000030201005452);
	assert_int_equal(get(0x1fffc), 0);
	end();
}

/* As Linux' self test asks: what is written can be read, but for bits that are reserved or the card's. */
static void register_bits(void **state)
{
	static const struct {
		uint32_t reg, mask;
	} regs[] = {
		{ STATUS, 0 },
		{ FCAL, 0xffffffff },
		{ FCAH, 0xffff },
		{ FCT, 0xffff },
		{ VET, 0xffff },
		{ RDTR, 0xffff },
		{ RDBAL, 0xfffffff0 },
		{ RDBAL + 4, 0xffffffff },
		{ RDLEN, 0xfff80 },
		{ RDH, 0xffff },
		{ RDT, 0xffff },
		{ FCTTV, 0xffff },
		{ TXCW, 0xc000ffff },
		{ TIPG, 0x3fffffff },
		{ TDBAL, 0xfffffff0 },
		{ TDBAL + 4, 0xffffffff },
		{ TDLEN, 0xfff80 },
		{ TIDV, 0xffff },
		{ RCTL, 0x06fffffe },
		{ TCTL, 0x03fffffa },
		{ RA, 0xffffffff },
		{ RA + 4, 0x8003ffff },
		{ RA + 0x78, 0xffffffff },
		{ RA + 0x7c, 0x8003ffff },
		{ MTA, 0xffffffff },
		{ MTA + 0x1fc, 0xffffffff },
	};
	static const uint32_t patterns[] = { 0x5a5a5a5a, 0xa5a5a5a5, 0xffffffff, 0 };

	begin();
	for (size_t n = 0; n < sizeof(regs) / sizeof(*regs); n++) {
		uint32_t own = regs[n].mask ? 0 : get(regs[n].reg);

		for (size_t k = 0; k < 4; k++) {
			set(regs[n].reg, patterns[k]);
			assert_int_equal(get(regs[n].reg), (patterns[k] & regs[n].mask) | own);
		}
	}
	set(TXCW, 0x8000ffff);
	set(CTRL, 1u << 26);
	assert_int_equal(get(TXCW), 0);
	assert_int_equal(get(RA + 4), 0x80000302);
	end();
}

static void the_phy(void **state)
{
	begin();
	assert_int_equal(phy(2), 0x0141);
	assert_int_equal(phy(3), 0x0c20);
	assert_int_equal(phy(1) & 0x24, 0x24);
	/* Another address has none. */
	assert_true(mdic(2u << 21 | 2u << 26 | 2u << 16) & 1u << 30);
	/* What can be written, and what cannot; a reset. */
	mdic(1u << 21 | 1u << 26 | 4u << 16 | 0x1e1);
	mdic(1u << 21 | 1u << 26 | 2u << 16 | 0x1e1);
	assert_int_equal(phy(4), 0x1e1);
	assert_int_equal(phy(2), 0x0141);
	get(ICR);
	mdic(1u << 29 | 1u << 21 | 1u << 26 | 0x8000);
	assert_int_equal(phy(4), 0xde1);
	assert_int_equal(phy(0), 0x1140);
	assert_int_equal(get(ICR), LSC | MDAC);
	end();
}

/* --- interrupts --- */

static void causes_and_masks(void **state)
{
	begin();
	set(ICS, LSC | RXT0);
	assert_false(board.line[LINE].level);
	assert_int_equal(get(ICS), LSC | RXT0); /* looks without acknowledging */
	set(IMS, LSC);
	assert_true(board.line[LINE].level);
	set(IMC, LSC);
	assert_false(board.line[LINE].level);
	set(IMS, RXT0);
	assert_int_equal(get(IMS), RXT0);
	assert_true(board.line[LINE].level);
	set(ICR, RXT0);
	assert_false(board.line[LINE].level);
	assert_int_equal(get(ICR), LSC);
	assert_int_equal(get(ICR), 0);
	set(ICS, 0xffffffff);
	assert_true(board.line[LINE].level);
	assert_int_equal(get(ICR), 0x1f7ff); /* Linux' self test tries the first ten */
	assert_int_equal(get(IMC), 0);
	end();
}

static void interrupts_are_held_back(void **state)
{
	begin();
	start(BAM);
	fill_frame(100);
	set(IMS, RXT0 | TXDW);
	set(ITR, 1000); /* 256 us */
	receive(100);
	assert_true(board.line[LINE].level);
	get(ICR);
	for (unsigned n = 0; n < 5; n++) {
		receive(100);
		assert_false(board.line[LINE].level);
		board_step(&board, 50 * US);
	}
	board_step(&board, 10 * US);
	assert_true(board.line[LINE].level);
	assert_int_equal(board.line[LINE].rises, 2);
	get(ICR);
	/* An acknowledged cause is not told of later. */
	set(RDT, (get(RDH) + RING - 1) % RING);
	receive(100);
	get(ICR);
	board_step(&board, 1 * MS);
	assert_int_equal(board.line[LINE].rises, 2);
	/* A packet's own delay. */
	set(ITR, 0);
	set(RDTR, 100);
	receive(100);
	board_step(&board, 100 * US);
	assert_false(board.line[LINE].level);
	board_step(&board, 3 * US);
	assert_true(board.line[LINE].level);
	get(ICR);
	/* A descriptor's. */
	set(IMC, RXT0);
	set(TIDV, 10);
	put_words(0, TX_DATA, 60 | (uint32_t)(EOP | IFCS | RS | IDE) << 24, 0);
	set(TDT, 1);
	run();
	assert_false(board.line[LINE].level);
	board_step(&board, 11 * US);
	assert_true(board.line[LINE].level);
	end();
}

/* --- the cable --- */

/* By us: its drivers cannot be asked to. */
static void announced(void **state)
{
	begin();
	e1000_announce(card);
	assert_int_equal(sent, 1);
	assert_int_equal(last_len, 60);
	assert_memory_equal(last, "\xff\xff\xff\xff\xff\xff", 6);
	assert_memory_equal(last + 6, mac, 6);
	assert_memory_equal(last + 12, "\x80\x35\0\1\x08\0\6\4\0\3", 10);
	assert_memory_equal(last + 22, mac, 6);
	e1000_set_link(card, false);
	e1000_announce(card);
	assert_int_equal(sent, 1);
	end();
}

static void the_cable(void **state)
{
	begin();
	start(BAM);
	fill_frame(100);
	set(IMS, LSC);
	e1000_set_link(card, true); /* as it was */
	assert_int_equal(get(ICR), 0);
	e1000_set_link(card, false);
	assert_true(board.line[LINE].level);
	assert_int_equal(get(ICR), LSC);
	assert_int_equal(get(STATUS) & 2, 0);
	assert_int_equal(phy(1) & 0x24, 0);
	assert_int_equal(phy(5), 0);
	/* Nobody is there to negotiate with, whatever is reset. */
	mdic(1u << 21 | 1u << 26 | 0x1340);
	mdic(1u << 21 | 1u << 26 | 0x8000);
	set(CTRL, 1u << 31);
	assert_int_equal(get(ICR), 0);
	put_words(0, TX_DATA, 100 | (uint32_t)(EOP | IFCS | RS) << 24, 0);
	set(TDT, 1);
	run();
	assert_int_equal(tx_status(0), 1);
	assert_int_equal(sent, 0);
	assert_true(receive(100));
	assert_int_equal(get(RDH), 0);
	e1000_set_link(card, true);
	assert_int_equal(get(ICR), LSC | TXDW | TXQE);
	assert_int_equal(get(STATUS) & 2, 2);
	assert_int_equal(phy(1) & 0x24, 0x24);
	put_words(1, TX_DATA, 100 | (uint32_t)(EOP | IFCS) << 24, 0);
	set(TDT, 2);
	run();
	assert_int_equal(sent, 1);
	assert_true(receive(100));
	assert_int_equal(get(RDH), 1);
	/* At the host's end. */
	peer.receiver.unplugged(peer.receiver.opaque);
	assert_int_equal(get(STATUS) & 2, 0);
	end();
}

/* --- life --- */

static void use(struct board *b)
{
	fill_frame(300);
	receive(300);
	set(TDT, 3);
	get(ICR);
	get(EERD);
	set(EECD, 0x43);
	run_board(b); /* time stands still: what is held back stays so */
}

static void saved_states(void **state)
{
	struct board to;

	begin();
	start(BAM);
	fill_frame(1000);
	set(IMS, RXT0);
	set(ITR, 10000);
	receive(100);
	get(ICR);
	receive(100); /* an interrupt is held back */
	board_mutate(&board, use);
	/* In the middle of a packet, and of a command to the EEPROM. */
	set(TCTL, 2);
	set(TDH, 0);
	set(TDT, 0);
	set(EECD, 0x42);
	pins(0x46);
	put_words(0, TX_DATA, 300 | (uint32_t)IFCS << 24, 0);
	put_words(1, TX_DATA + 300, 700 | (uint32_t)(EOP | IFCS) << 24, 0);
	set(TDT, 1);
	run();
	card->drain(card->self);
	fill_frame(1000);
	assert_false(receive(100));
	set(TDT, 2);
	run();
	sent = readies = 0;
	e1000_set_link(card, false);
	set(TXCW, 0x8000a5a5);
	board_migrate(&board, &to, make);
	assert_int_equal(board_read(&to, BAR + TXCW, 4), 0x8000a5a5);
	assert_int_equal(board_read(&to, BAR + STATUS, 4) & 2, 0);
	e1000_set_link(card, true);
	for (uint64_t at = 0; at < BOARD_RAM; at += 4096) {
		uint8_t page[4096];

		mem_read(board.mem, gpa(at), page, sizeof(page));
		mem_write(to.mem, gpa(at), page, sizeof(page));
	}
	run_board(&to);
	assert_int_equal(readies, 1);
	assert_int_equal(sent, 1);
	assert_int_equal(last_len, 1000);
	assert_memory_equal(last, frame, 1000);
	end_other(&to);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_it_is),
		cmocka_unit_test(register_bits),
		cmocka_unit_test(the_phy),
		cmocka_unit_test(causes_and_masks),
		cmocka_unit_test(interrupts_are_held_back),
		cmocka_unit_test(announced),
		cmocka_unit_test(the_cable),
		cmocka_unit_test(saved_states),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
