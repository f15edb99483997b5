/* bus/pci.c and bus/msix.c: configuration space, BARs, INTx, MSI-X, resources, saved state. PCI 3.0, chapter 6. */
#include "../dev/board.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define COMMAND 0x04
#define STATUS	0x06
#define BAR(n)	(0x10 + 4 * (n))
#define IO	1u
#define MEM	2u
#define MASTER	4u
#define NO_INTX 0x400u

/* A function with one BAR of each kind; the last holds the MSI-X table. */
struct card {
	struct device dev;
	struct pci_dev pci;
	pthread_mutex_t lock;
	unsigned writes;
	uint8_t last_off, last_len;
};

static uint64_t bar_read(void *opaque, uint64_t off, unsigned size)
{
	return 0x5a5a5a5a5a5a5a5aull & (size < 8 ? (1ull << size * 8) - 1 : ~0ull);
}
static void bar_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
}
static uint64_t table_read(void *opaque, uint64_t off, unsigned size)
{
	uint64_t v = 0;

	return pci_msix_read(opaque, off, size, &v) ? v : 0xee;
}
static void table_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	pci_msix_write(opaque, off, size, val);
}
static const struct bus_ops bar_ops = { bar_read, bar_write, { 1, 8 }, { 1, 8 } };
static const struct bus_ops table_ops = { table_read, table_write, { 1, 8 }, { 1, 8 } };

static void config_written(struct pci_dev *d, uint8_t off, uint8_t len)
{
	struct card *c = (struct card *)((char *)d - offsetof(struct card, pci));

	c->writes++;
	c->last_off = off;
	c->last_len = len;
}

static void card_destroy(void *self)
{
	struct card *c = self;

	pci_unregister(&c->pci);
	free(c);
}

static const struct state_field card_fields[] = {
	STATE_SUB(struct card, pci, &pci_dev_state),
	STATE_FIELD_END,
};
static const struct state_desc card_state = { .name = "card", .version = 1, .min_version = 1, .fields = card_fields };

static struct card *card_new(struct board *b, uint8_t devfn, uint16_t vectors)
{
	struct card *c = calloc(1, sizeof(*c));
	const struct bus_range bar = { "bar", &bar_ops, c, NULL }, table = { "table", &table_ops, &c->pci, &c->lock };
	struct err err;

	pthread_mutex_init(&c->lock, NULL);
	c->dev = (struct device){ .name = "card", .self = c, .state = &card_state, .destroy = card_destroy };
	snprintf(c->dev.instance, sizeof(c->dev.instance), "%02x", devfn);
	pci_dev_init(&c->pci, "card", &(struct pci_id){ 0x1234, 0x5678, 0x02000007, 0xaaaa, 0xbbbb }, &c->lock);
	c->pci.config_written = config_written;
	pci_set_bar(&c->pci, 0, PCI_BAR_IO, false, 32, &bar);
	pci_set_bar(&c->pci, 1, PCI_BAR_MEM32, false, 4096, &bar);
	pci_set_bar(&c->pci, 2, PCI_BAR_MEM64, true, 1 << 20, &bar);
	pci_set_bar(&c->pci, 4, PCI_BAR_MEM32, false, 4096, &table);
	pci_set_intx_pin(&c->pci, 1);
	if (vectors)
		assert_int_equal(pci_add_msix(&c->pci, vectors, 4, 0, 0x800, &err), 0);
	assert_int_equal(pci_register(b->pci, &c->pci, devfn, &err), 0);
	board_add(b, &c->dev);
	return c;
}

static uint32_t get(struct board *b, uint8_t devfn, unsigned off, unsigned size)
{
	return pci_config_read(b->pci, devfn, (uint8_t)off, size);
}
static void set(struct board *b, uint8_t devfn, unsigned off, unsigned size, uint32_t val)
{
	pci_config_write(b->pci, devfn, (uint8_t)off, size, val);
}
static bool hit(struct board *b, enum bus_kind kind, uint64_t addr)
{
	uint64_t v;

	return bus_read(b->bus, kind, addr, 1, &v);
}

#define CARD 0x18 /* 03.0 */

static void setup(struct board *b)
{
	board_init(b);
	board_pci(b);
	b->own = card_new(b, CARD, 8);
}

/* --- configuration space --- */

static void identity_cannot_be_changed(void **state)
{
	struct board b;
	struct card *c;

	setup(&b);
	c = b.own;
	for (unsigned off = 0; off < 256; off++)
		set(&b, CARD, off, 1, 0xff);
	assert_int_equal(get(&b, CARD, 0, 4), 0x56781234);
	assert_int_equal(get(&b, CARD, 8, 4), 0x02000007);
	assert_int_equal(get(&b, CARD, 0x2c, 4), 0xbbbbaaaa);
	assert_int_equal(get(&b, CARD, 0x0e, 1), 0);
	assert_int_equal(get(&b, CARD, 0x3d, 1), 1);
	assert_int_equal(get(&b, CARD, 0x0c, 1), 0xff);
	assert_int_equal(get(&b, CARD, COMMAND, 2), IO | MEM | MASTER | 0x140 | NO_INTX);
	assert_int_equal(c->writes, 256);
	/* Errors in the status register are cleared by ones. */
	c->pci.config[STATUS + 1] = 0x31;
	set(&b, CARD, STATUS, 2, 0x1000);
	assert_int_equal(get(&b, CARD, STATUS, 2), 0x2110);
	set(&b, CARD, 0x40, 4, 0);
	assert_int_equal(c->last_off, 0x40);
	assert_int_equal(c->last_len, 4);
	board_fini(&b);
}

static void absent_functions_are_all_ones(void **state)
{
	struct board b;

	setup(&b);
	for (unsigned devfn = 0; devfn < 256; devfn++) {
		if (devfn == CARD)
			continue;
		set(&b, (uint8_t)devfn, COMMAND, 2, 7);
		assert_int_equal(get(&b, (uint8_t)devfn, 0, 4), 0xffffffff);
		assert_int_equal(get(&b, (uint8_t)devfn, 0, 2), 0xffff);
		assert_int_equal(get(&b, (uint8_t)devfn, 0xff, 1), 0xff);
	}
	board_fini(&b);
}

static void capabilities_are_a_list(void **state)
{
	struct board b;
	struct card *c = calloc(1, sizeof(*c));
	uint8_t one, two;

	board_init(&b);
	pci_dev_init(&c->pci, "card", &(struct pci_id){ 1, 2 }, NULL);
	assert_int_equal(c->pci.config[0x34], 0);
	one = pci_add_cap(&c->pci, 9, 17);
	two = pci_add_cap(&c->pci, 5, 20);
	assert_int_equal(c->pci.config[STATUS] & 0x10, 0x10);
	assert_int_equal(c->pci.config[0x34], one);
	assert_int_equal(c->pci.config[one], 9);
	assert_int_equal(c->pci.config[one + 1], two);
	assert_int_equal(c->pci.config[two], 5);
	assert_int_equal(c->pci.config[two + 1], 0);
	assert_true(two % 4 == 0 && two >= one + 17);
	assert_int_equal(pci_add_cap(&c->pci, 1, 200), 0);
	free(c);
	board_fini(&b);
}

static void a_second_function_makes_the_device_multifunction(void **state)
{
	struct board b;

	setup(&b);
	assert_int_equal(get(&b, CARD, 0x0e, 1) & 0x80, 0);
	card_new(&b, CARD | 3, 0);
	assert_int_equal(get(&b, CARD, 0x0e, 1) & 0x80, 0x80);
	board_reset(&b);
	assert_int_equal(get(&b, CARD, 0x0e, 1) & 0x80, 0x80);
	assert_int_equal(pci_free_slot(b.pci), 0);
	board_fini(&b);
}

static void an_address_has_one_function(void **state)
{
	struct board b;
	struct pci_dev d = { 0 };
	struct err err;

	setup(&b);
	pci_dev_init(&d, "other", &(struct pci_id){ 1, 2 }, NULL);
	assert_int_equal(pci_register(b.pci, &d, CARD, &err), -1);
	assert_non_null(strstr(err.msg, "03.0 is taken by card"));
	board_fini(&b);
}

/* --- BARs --- */

static void sizing_shows_size_and_type(void **state)
{
	struct board b;

	setup(&b);
	set(&b, CARD, COMMAND, 2, IO | MEM);
	for (unsigned n = 0; n < 6; n++)
		set(&b, CARD, BAR(n), 4, 0xffffffff);
	assert_int_equal(get(&b, CARD, BAR(0), 4), 0xffffffe1);
	assert_int_equal(get(&b, CARD, BAR(1), 4), 0xfffff000);
	assert_int_equal(get(&b, CARD, BAR(2), 4), 0xfff0000c);
	assert_int_equal(get(&b, CARD, BAR(3), 4), 0xffffffff);
	assert_int_equal(get(&b, CARD, BAR(5), 4), 0);
	assert_false(hit(&b, BUS_MMIO, 0xfffff000));
	assert_false(hit(&b, BUS_PORT, 0xffe0));
	/* Half of a sizing: the low word only. */
	set(&b, CARD, BAR(3), 4, 0);
	assert_false(hit(&b, BUS_MMIO, 0xfff00000));
	board_fini(&b);
}

static void bars_move_and_follow_the_command_register(void **state)
{
	struct board b;

	setup(&b);
	set(&b, CARD, BAR(0), 4, 0xc007);
	set(&b, CARD, BAR(1), 4, 0xd0000000);
	set(&b, CARD, BAR(2), 4, 0x00100000);
	set(&b, CARD, BAR(3), 4, 0x80);
	assert_int_equal(get(&b, CARD, BAR(0), 4), 0xc001);
	assert_false(hit(&b, BUS_PORT, 0xc000) || hit(&b, BUS_MMIO, 0xd0000000));
	set(&b, CARD, COMMAND, 2, IO);
	assert_true(hit(&b, BUS_PORT, 0xc000) && hit(&b, BUS_PORT, 0xc01f));
	assert_false(hit(&b, BUS_PORT, 0xc020) || hit(&b, BUS_MMIO, 0xd0000000));
	set(&b, CARD, COMMAND, 1, MEM);
	assert_false(hit(&b, BUS_PORT, 0xc000));
	assert_true(hit(&b, BUS_MMIO, 0xd0000fff) && hit(&b, BUS_MMIO, 0x8000100000));
	/* A byte of the register moves it too. */
	set(&b, CARD, BAR(1) + 3, 1, 0xd1);
	assert_true(hit(&b, BUS_MMIO, 0xd1000000) && !hit(&b, BUS_MMIO, 0xd0000000));
	set(&b, CARD, BAR(3), 4, 0x81);
	assert_true(hit(&b, BUS_MMIO, 0x8100100000) && !hit(&b, BUS_MMIO, 0x8000100000));
	/* Address 0 is nowhere. */
	set(&b, CARD, BAR(1), 4, 0);
	assert_false(hit(&b, BUS_MMIO, 0) || hit(&b, BUS_MMIO, 0xd1000000));
	set(&b, CARD, BAR(1), 4, 0xd1000000);
	board_reset(&b);
	assert_false(hit(&b, BUS_MMIO, 0xd1000000) || hit(&b, BUS_MMIO, 0x8100100000));
	assert_int_equal(get(&b, CARD, COMMAND, 2), 0);
	assert_int_equal(get(&b, CARD, BAR(2), 4), 0xc);
	board_fini(&b);
}

static void addresses_that_cannot_be_decoded_are_not(void **state)
{
	struct board b;

	setup(&b);
	set(&b, CARD, COMMAND, 2, IO | MEM);
	set(&b, CARD, BAR(0), 4, 0x10000);
	set(&b, CARD, BAR(2), 4, 0xfff00000);
	for (uint64_t high = 1u << 14; high; high = high << 1 & 0xffffffff) {
		set(&b, CARD, BAR(3), 4, (uint32_t)high);
		assert_false(hit(&b, BUS_MMIO, high << 32 | 0xfff00000));
	}
	set(&b, CARD, BAR(3), 4, 0x3fff);
	assert_true(hit(&b, BUS_MMIO, 0x3ffffff00000));
	assert_false(hit(&b, BUS_PORT, 0) || hit(&b, BUS_MMIO, 0));
	board_fini(&b);
}

static void the_second_of_two_overlapping_bars_waits(void **state)
{
	struct board b;
	struct card *other;
	uint64_t v;

	setup(&b);
	other = card_new(&b, CARD + 8, 8);
	set(&b, CARD, BAR(1), 4, 0xd0000000);
	set(&b, CARD, COMMAND, 2, MEM);
	set(&b, CARD + 8, BAR(4), 4, 0xd0000000);
	set(&b, CARD + 8, COMMAND, 2, MEM);
	assert_true(bus_read(b.bus, BUS_MMIO, 0xd0000000, 1, &v));
	assert_int_equal(v, 0x5a);
	/* The first goes away; the second's table appears (address 0 in vector 0). */
	set(&b, CARD, BAR(1), 4, 0xd2000000);
	assert_true(bus_read(b.bus, BUS_MMIO, 0xd0000000, 1, &v));
	assert_int_equal(v, 0);
	assert_int_equal(other->pci.bar[4].mapped_at, 0xd0000000);
	set(&b, CARD, COMMAND, 2, 0);
	assert_false(hit(&b, BUS_MMIO, 0xd2000000));
	board_fini(&b);
}

static void resources_are_assigned_without_overlap(void **state)
{
	struct board b;
	struct err err;
	static const uint8_t irqs[4] = { 5, 7, 10, 11 };

	setup(&b);
	card_new(&b, CARD + 8, 0);
	card_new(&b, CARD + 16, 4);
	pci_bus_set_irq_numbers(b.pci, irqs);
	assert_int_equal(pci_assign_resources(b.pci, 0xc010, 0xc0000800, 0xc0010000, (1ull << 40) + 16, &err), 0);
	for (unsigned n = 0; n < 3; n++) {
		uint8_t at = (uint8_t)(CARD + 8 * n);
		uint64_t bar2 = (uint64_t)get(&b, at, BAR(3), 4) << 32 | (get(&b, at, BAR(2), 4) & ~15u);

		assert_int_equal(get(&b, at, COMMAND, 2), IO | MEM);
		assert_true(hit(&b, BUS_PORT, get(&b, at, BAR(0), 4) & ~3u));
		assert_true(hit(&b, BUS_MMIO, get(&b, at, BAR(1), 4)));
		assert_true(hit(&b, BUS_MMIO, get(&b, at, BAR(4), 4)));
		assert_true(bar2 >= 1ull << 40 && !(bar2 & 0xfffff) && hit(&b, BUS_MMIO, bar2));
		/* 03.0 pin A is line 3, 04.0 line 0. */
		assert_int_equal(get(&b, at, 0x3c, 1), irqs[(n + 3) & 3]);
	}
	assert_int_equal(pci_assign_resources(b.pci, 0xc000, 0xc0000000, 0xc0003000, 1ull << 40, &err), -1);
	assert_non_null(strstr(err.msg, "no room for BAR"));
	assert_int_equal(pci_assign_resources(b.pci, 0xffe0, 0xc0000000, 0xc0010000, 1ull << 40, &err), -1);
	/* Of 64 bits among those of 32. */
	assert_int_equal(pci_assign_resources(b.pci, 0xc000, 0xc0000000, 0xc0010000, 0, &err), -1);
	assert_int_equal(pci_assign_resources(b.pci, 0xc000, 0xc0000000, 0xd0000000, 0, &err), 0);
	for (unsigned n = 0; n < 3; n++) {
		uint8_t at = (uint8_t)(CARD + 8 * n);

		assert_int_equal(get(&b, at, BAR(3), 4), 0);
		assert_in_range(get(&b, at, BAR(2), 4) & ~15u, 0xc0000000, 0xcff00000);
		assert_true(hit(&b, BUS_MMIO, get(&b, at, BAR(2), 4) & ~15u));
		assert_true(hit(&b, BUS_MMIO, get(&b, at, BAR(4), 4)));
	}
	board_fini(&b);
}

/* --- INTx --- */

static void intx_is_swizzled_and_shared(void **state)
{
	struct board b;
	struct card *a, *c;

	setup(&b);
	a = b.own;
	c = card_new(&b, CARD + 4 * 8, 0); /* the same line */
	pci_intx_set(&a->pci, true);
	assert_true(b.line[3].level);
	pci_intx_set(&c->pci, true);
	pci_intx_set(&a->pci, false);
	assert_true(b.line[3].level);
	pci_intx_set(&c->pci, false);
	assert_false(b.line[3].level);
	assert_int_equal(b.line[3].rises, 1);
	assert_int_equal(b.line[0].rises + b.line[1].rises + b.line[2].rises, 0);
	board_fini(&b);
}

static void intx_can_be_disabled_and_shows_in_status(void **state)
{
	struct board b;
	struct card *c;

	setup(&b);
	c = b.own;
	set(&b, CARD, COMMAND, 2, NO_INTX);
	pci_intx_set(&c->pci, true);
	assert_false(b.line[3].level);
	assert_int_equal(get(&b, CARD, STATUS, 2) & 8, 8);
	assert_int_equal(get(&b, CARD, STATUS, 1) & 8, 8);
	assert_int_equal(get(&b, CARD, COMMAND, 4) >> 16 & 8, 8);
	set(&b, CARD, COMMAND, 2, 0);
	assert_true(b.line[3].level);
	set(&b, CARD, COMMAND + 1, 1, 4);
	assert_false(b.line[3].level);
	set(&b, CARD, COMMAND, 2, 0);
	pci_intx_set(&c->pci, false);
	assert_int_equal(get(&b, CARD, STATUS, 2) & 8, 0);
	assert_false(b.line[3].level);
	board_fini(&b);
}

static void intx_is_silent_while_msix_is_on(void **state)
{
	struct board b;
	struct card *c;

	setup(&b);
	c = b.own;
	pci_intx_set(&c->pci, true);
	assert_true(b.line[3].level);
	set(&b, CARD, c->pci.msix_cap + 2, 2, 0x8000);
	assert_false(b.line[3].level);
	set(&b, CARD, c->pci.msix_cap + 2, 2, 0);
	assert_true(b.line[3].level);
	board_fini(&b);
}

static void a_reset_lowers_intx(void **state)
{
	struct board b;
	struct card *c;

	setup(&b);
	c = b.own;
	pci_intx_set(&c->pci, true);
	board_reset(&b);
	assert_false(b.line[3].level);
	pci_intx_set(&c->pci, true);
	assert_int_equal(b.line[3].rises, 2);
	board_fini(&b);
}

/* --- MSI-X --- */

#define TABLE 0xd0000000ull
#define PBA   (TABLE + 0x800)

static struct card *msix_on(struct board *b)
{
	struct card *c;

	setup(b);
	c = b->own;
	set(b, CARD, BAR(4), 4, (uint32_t)TABLE);
	set(b, CARD, COMMAND, 2, MEM | MASTER);
	set(b, CARD, c->pci.msix_cap + 2, 2, 0x8000);
	for (unsigned n = 0; n < 8; n++) {
		board_write(b, TABLE + 16 * n, 4, 0xfee00003);
		board_write(b, TABLE + 16 * n + 4, 4, n);
		board_write(b, TABLE + 16 * n + 8, 4, 0x4000 + n);
	}
	return c;
}

static void the_table_keeps_what_may_be_written(void **state)
{
	struct board b;
	struct card *c = msix_on(&b);

	assert_int_equal(get(&b, CARD, c->pci.msix_cap, 1), 0x11);
	assert_int_equal(get(&b, CARD, c->pci.msix_cap + 2, 2), 0x8007);
	assert_int_equal(get(&b, CARD, c->pci.msix_cap + 4, 4), 4);
	assert_int_equal(get(&b, CARD, c->pci.msix_cap + 8, 4), 0x804);
	assert_true(board_read(&b, TABLE + 16 * 3, 8) == 0x3fee00000);
	assert_int_equal(board_read(&b, TABLE + 16 * 3 + 8, 4), 0x4003);
	assert_int_equal(board_read(&b, TABLE + 16 * 3 + 12, 4), 1);
	board_write(&b, TABLE + 12, 4, 0xfffffffe);
	assert_int_equal(board_read(&b, TABLE + 12, 4), 0);
	board_write(&b, TABLE + 16, 8, 0x1122334455667788);
	assert_true(board_read(&b, TABLE + 16, 8) == 0x1122334455667788);
	/* Bytes and words are dropped; so is the pending array, and what follows the table is the device's. */
	board_write(&b, TABLE + 16, 1, 0xff);
	board_write(&b, TABLE + 16, 2, 0xffff);
	assert_int_equal(board_read(&b, TABLE + 16, 4), 0x55667788);
	board_write(&b, PBA, 8, ~0ull);
	assert_int_equal(board_read(&b, PBA, 8), 0);
	assert_int_equal(board_read(&b, TABLE + 16 * 8, 1), 0xee);
	board_fini(&b);
}

static void vectors_are_sent_masked_and_unmasked(void **state)
{
	struct board b;
	struct card *c = msix_on(&b);

	pci_msix_notify(&c->pci, 2);
	assert_int_equal(b.msis, 0);
	assert_int_equal(board_read(&b, PBA, 8), 4);
	assert_int_equal(board_read(&b, PBA, 1), 4);
	pci_msix_notify(&c->pci, 2);
	board_write(&b, TABLE + 2 * 16 + 12, 4, 0);
	assert_int_equal(b.msis, 1);
	assert_true(b.msi[0].addr == 0x2fee00000);
	assert_int_equal(b.msi[0].data, 0x4002);
	assert_int_equal(board_read(&b, PBA, 8), 0);
	pci_msix_notify(&c->pci, 2);
	assert_int_equal(b.msis, 2);
	pci_msix_notify(&c->pci, 8);
	pci_msix_notify(&c->pci, 0xffff);
	assert_int_equal(b.msis, 2);
	board_fini(&b);
}

static void the_function_mask_holds_all_vectors(void **state)
{
	struct board b;
	struct card *c = msix_on(&b);

	for (unsigned n = 0; n < 8; n++)
		board_write(&b, TABLE + 16 * n + 12, 4, n == 5);
	set(&b, CARD, c->pci.msix_cap + 2, 2, 0xc000);
	for (unsigned n = 0; n < 8; n++)
		pci_msix_notify(&c->pci, n);
	assert_int_equal(b.msis, 0);
	assert_int_equal(board_read(&b, PBA, 8), 0xff);
	set(&b, CARD, c->pci.msix_cap + 2, 2, 0x8000);
	assert_int_equal(b.msis, 7);
	assert_int_equal(board_read(&b, PBA, 8), 1 << 5);
	board_fini(&b);
}

static void without_bus_mastering_nothing_is_sent(void **state)
{
	struct board b;
	struct card *c = msix_on(&b);

	board_write(&b, TABLE + 12, 4, 0);
	set(&b, CARD, COMMAND, 2, MEM);
	pci_msix_notify(&c->pci, 0);
	assert_int_equal(b.msis, 0);
	set(&b, CARD, COMMAND, 2, MEM | MASTER);
	assert_int_equal(b.msis, 1);
	board_fini(&b);
}

static void disabled_msix_pends_nothing(void **state)
{
	struct board b;
	struct card *c = msix_on(&b);

	set(&b, CARD, c->pci.msix_cap + 2, 2, 0);
	assert_false(pci_msix_enabled(&c->pci));
	pci_msix_notify(&c->pci, 0);
	set(&b, CARD, c->pci.msix_cap + 2, 2, 0x8000);
	board_write(&b, TABLE + 12, 4, 0);
	assert_int_equal(b.msis, 0);
	board_reset(&b);
	assert_false(pci_msix_enabled(&c->pci));
	assert_int_equal(c->pci.msix[0].control, 1);
	board_fini(&b);
}

static void too_many_vectors_are_refused(void **state)
{
	struct pci_dev d = { 0 };
	struct err err;

	pci_dev_init(&d, "card", &(struct pci_id){ 1, 2 }, NULL);
	assert_int_equal(pci_add_msix(&d, PCI_MSIX_MAX + 1, 4, 0, 0x800, &err), -1);
	memset(&d, 0, sizeof(d));
	pci_dev_init(&d, "card", &(struct pci_id){ 1, 2 }, NULL);
	assert_int_equal(pci_add_msix(&d, 0, 4, 0, 0x800, &err), -1);
}

/* --- saved state --- */

static void make(struct board *b)
{
	board_pci(b);
	b->own = card_new(b, CARD, 8);
}

static void a_function_moves_with_its_bars_and_interrupts(void **state)
{
	struct board b, t;
	struct card *c = msix_on(&b);

	set(&b, CARD, BAR(0), 4, 0xc100);
	set(&b, CARD, COMMAND, 2, IO | MEM | MASTER);
	board_write(&b, TABLE + 12, 4, 0);
	pci_msix_notify(&c->pci, 1);
	board_migrate(&b, &t, make);
	for (unsigned off = 0; off < 256; off += 4)
		assert_int_equal(get(&b, CARD, off, 4), get(&t, CARD, off, 4));
	assert_true(hit(&t, BUS_PORT, 0xc100));
	assert_int_equal(board_read(&t, PBA, 8), 2);
	board_write(&t, TABLE + 16 + 12, 4, 0);
	assert_int_equal(t.msis, 1);
	assert_int_equal(t.msi[0].data, 0x4001);
	board_fini(&b);
	board_fini(&t);
}

static void a_raised_line_moves_too(void **state)
{
	struct board b, t;

	setup(&b);
	pci_intx_set(&((struct card *)b.own)->pci, true);
	board_migrate(&b, &t, make);
	assert_true(t.line[3].level);
	pci_intx_set(&((struct card *)t.own)->pci, false);
	assert_false(t.line[3].level);
	board_fini(&b);
	board_fini(&t);
}

static void poke(struct board *b)
{
	struct card *c = b->own;

	for (unsigned n = 0; n < 9; n++)
		pci_msix_notify(&c->pci, n);
	pci_intx_set(&c->pci, true);
	pci_intx_set(&c->pci, false);
	set(b, CARD, COMMAND, 2, IO | MEM | MASTER);
	set(b, CARD, BAR(1), 4, 0xe0000000);
}

static void damaged_state_is_refused_or_harmless(void **state)
{
	struct board b;

	msix_on(&b);
	board_mutate(&b, poke);
	board_fini(&b);
}

static void another_device_is_refused(void **state)
{
	struct board b;
	struct card *c;
	struct err err;

	setup(&b);
	c = b.own;
	c->pci.config[0] ^= 1;
	assert_int_equal(pci_dev_state.post_load(&c->pci, &err), -1);
	c->pci.config[0] ^= 1;
	c->pci.msix[1].control = 2;
	assert_int_equal(pci_dev_state.post_load(&c->pci, &err), -1);
	c->pci.msix[1].control = 0;
	c->pci.msix_pending = 1 << 8;
	assert_int_equal(pci_dev_state.post_load(&c->pci, &err), -1);
	c->pci.msix_pending = 0;
	assert_int_equal(pci_dev_state.post_load(&c->pci, &err), 0);
	board_fini(&b);
}

/* --- expansion ROMs --- */

/* What the ACPI tables say of BARs above 4 GiB is where firmware has put them. */
static void bars_above_4_gib_are_told(void **state)
{
	uint64_t first, end;
	struct board b;

	setup(&b);
	set(&b, CARD, 0x18, 4, 0xc0200000);
	set(&b, CARD, 0x1c, 4, 0);
	set(&b, CARD, COMMAND, 2, MEM);
	assert_false(pci_high_bars(b.pci, &first, &end));
	set(&b, CARD, COMMAND, 2, 0);
	set(&b, CARD, 0x1c, 4, 0x80);
	assert_false(pci_high_bars(b.pci, &first, &end));
	set(&b, CARD, COMMAND, 2, MEM);
	assert_true(pci_high_bars(b.pci, &first, &end));
	assert_int_equal(first, 0x80c0200000);
	assert_int_equal(end, 0x80c0300000);
	board_fini(&b);
}

static void a_rom_is_decoded_while_it_is_on(void **state)
{
	uint8_t image[3000] = { 0x55, 0xaa, 6, [0x18] = 0x20, [0x20] = 'P', 'C', 'I', 'R', 0xf4, 0x1a, 0, 0x10 };
	uint8_t was, now = 0;
	struct board b;
	struct err err;

	setup(&b);
	image[0x20 + 0x10] = 6;
	image[0x20 + 0x15] = 0x80;
	was = 0;
	for (unsigned n = 0; n < sizeof(image); n++)
		was = (uint8_t)(was + image[n]);
	set(&b, CARD, 0x30, 4, 0xffffffff);
	assert_int_equal(get(&b, CARD, 0x30, 4), 0);
	assert_int_equal(pci_set_rom(b.pci, CARD, image, sizeof(image), &err), 0);
	assert_int_equal(pci_set_rom(b.pci, CARD, image, sizeof(image), &err), -1);
	assert_int_equal(pci_set_rom(b.pci, CARD + 16, image, sizeof(image), &err), -1);
	set(&b, CARD, 0x30, 4, 0xfffffffe);
	assert_int_equal(get(&b, CARD, 0x30, 4), 0xfffff000);
	set(&b, CARD, 0x30, 4, 0xc0100000);
	set(&b, CARD, COMMAND, 2, MEM);
	assert_false(hit(&b, BUS_MMIO, 0xc0100000));
	set(&b, CARD, 0x30, 4, 0xc0100001);
	assert_int_equal(board_read(&b, 0xc0100000, 2), 0xaa55);
	assert_int_equal(board_read(&b, 0xc0100ff8, 8), ~0ull);
	/* The image is this function's, and its sum is what it was. */
	assert_int_equal(board_read(&b, 0xc0100024, 4), 0x56781234);
	for (unsigned n = 0; n < sizeof(image); n++)
		now = (uint8_t)(now + board_read(&b, 0xc0100000 + n, 1));
	assert_int_equal(now, was);
	board_write(&b, 0xc0100000, 1, 0);
	assert_int_equal(board_read(&b, 0xc0100000, 1), 0x55);
	set(&b, CARD, COMMAND, 2, 0);
	assert_false(hit(&b, BUS_MMIO, 0xc0100000));
	board_fini(&b);
}

/* Lengths and places in it lead nowhere else. */
static void a_rom_that_lies_is_kept_as_it_is(void **state)
{
	uint8_t image[2048];
	struct board b;
	struct err err;

	for (unsigned n = 0; n < 3; n++) {
		memset(image, n == 2 ? 0xff : 0, sizeof(image));
		st_le16(image, 0xaa55);
		st_le16(image + 0x18, n == 0 ? 0xffff : 0x7f0);
		memcpy(image + 0x7f0, "PCIR", 4);
		setup(&b);
		assert_int_equal(pci_set_rom(b.pci, CARD, image, sizeof(image), &err), 0);
		board_fini(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bars_above_4_gib_are_told),
		cmocka_unit_test(a_rom_is_decoded_while_it_is_on),
		cmocka_unit_test(a_rom_that_lies_is_kept_as_it_is),
		cmocka_unit_test(identity_cannot_be_changed),
		cmocka_unit_test(absent_functions_are_all_ones),
		cmocka_unit_test(capabilities_are_a_list),
		cmocka_unit_test(a_second_function_makes_the_device_multifunction),
		cmocka_unit_test(an_address_has_one_function),
		cmocka_unit_test(sizing_shows_size_and_type),
		cmocka_unit_test(bars_move_and_follow_the_command_register),
		cmocka_unit_test(addresses_that_cannot_be_decoded_are_not),
		cmocka_unit_test(the_second_of_two_overlapping_bars_waits),
		cmocka_unit_test(resources_are_assigned_without_overlap),
		cmocka_unit_test(intx_is_swizzled_and_shared),
		cmocka_unit_test(intx_can_be_disabled_and_shows_in_status),
		cmocka_unit_test(intx_is_silent_while_msix_is_on),
		cmocka_unit_test(a_reset_lowers_intx),
		cmocka_unit_test(the_table_keeps_what_may_be_written),
		cmocka_unit_test(vectors_are_sent_masked_and_unmasked),
		cmocka_unit_test(the_function_mask_holds_all_vectors),
		cmocka_unit_test(without_bus_mastering_nothing_is_sent),
		cmocka_unit_test(disabled_msix_pends_nothing),
		cmocka_unit_test(too_many_vectors_are_refused),
		cmocka_unit_test(a_function_moves_with_its_bars_and_interrupts),
		cmocka_unit_test(a_raised_line_moves_too),
		cmocka_unit_test(damaged_state_is_refused_or_harmless),
		cmocka_unit_test(another_device_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
