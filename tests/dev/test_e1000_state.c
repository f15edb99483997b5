/* States of the e1000 that somebody has written by hand. */
#include "board.h"

#include <stdlib.h>
#include <string.h>

#include "dev/e1000_impl.h"

static struct board board;
static struct device *card;

static bool peer_send(struct net_peer *p, const struct net_packet *k)
{
	return true;
}

static void nothing(struct net_peer *p)
{
}

static void make(struct board *b)
{
	static const struct net_peer_ops ops = {
		.name = "toy", .send = peer_send, .ready = nothing, .destroy = nothing
	};
	static struct net_peer peer = { .ops = &ops };
	struct e1000_config c = { .devfn = 3 << 3, .mem = b->mem, .clock = b->clock, .loop = b->loop, .peer = &peer };
	struct err err;

	board_pci(b);
	c.pci = b->pci;
	card = board_add(b, e1000_new(&c, &err));
}

/* Each of these has the card reach outside of what it has, or wait for ever. */
static void states_that_lie(void **state)
{
	static const struct {
		const char *what;
		size_t at, size;
		uint64_t value;
	} lies[] = {
#define LIE(field, value) { #field, offsetof(struct e1000, field), sizeof(((struct e1000 *)0)->field), value }
		LIE(packet.len, NET_FRAME_MAX - 3),
		LIE(packet.len, NET_FRAME_MAX + 1),
		LIE(packet.len, UINT32_MAX),
		LIE(eeprom.at, E1000_EEPROM),
		LIE(eeprom.bits_out, 16),
		LIE(eeprom.bits_in, 10),
		LIE(io_addr, 0x20000),
		LIE(io_addr, 3),
		LIE(txcw, 0x10000),
		LIE(quiet_until, UINT64_MAX),
		LIE(due, CLOCK_NEVER - 1),
		LIE(reg[E1000_RDLEN], UINT32_MAX),
		LIE(reg[E1000_TDH], UINT32_MAX),
#undef LIE
	};
	struct board to;
	struct e1000 *e;

	board_init(&board);
	make(&board);
	e = card->self;
	e->packet.open = true;
	for (size_t k = 0; k < ARRAY_LEN(lies); k++) {
		uint8_t before[8], *field = (uint8_t *)e + lies[k].at;
		FILE *f = tmpfile();
		struct err err;

		memcpy(before, field, lies[k].size);
		memcpy(field, &lies[k].value, lies[k].size);
		assert_int_equal(state_save(f, card->state, card->instance, e, &err), 0);
		memcpy(field, before, lies[k].size);
		rewind(f);
		if (!state_load(f, card->state, card->instance, e, &err))
			fail_msg("%s, %#llx: taken", lies[k].what, (unsigned long long)lies[k].value);
		assert_non_null(strstr(err.msg, "is out of range"));
		fclose(f);
		memcpy(field, before, lies[k].size);
		e->packet.open = true;
	}
	/* The longest that there can be. */
	e->packet.len = NET_FRAME_MAX - 4;
	board_migrate(&board, &to, make);
	board_fini(&to);
	board_fini(&board);
}

/* What registers say after a reset is not written: states from before there were these are the same. */
static void what_is_not_used_is_not_saved(void **state)
{
	static const char name[] = "txcw";
	struct e1000 *e;

	board_init(&board);
	make(&board);
	e = card->self;
	for (e->txcw = 0; e->txcw < 2; e->txcw++) {
		char *buf;
		size_t len;
		FILE *f = open_memstream(&buf, &len);
		struct err err;

		assert_int_equal(state_save(f, card->state, card->instance, e, &err), 0);
		fclose(f);
		assert_int_equal(memmem(buf, len, name, sizeof(name) - 1) != NULL, e->txcw);
		free(buf);
	}
	board_fini(&board);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(states_that_lie),
		cmocka_unit_test(what_is_not_used_is_not_saved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
