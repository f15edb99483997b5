/* virtio-console through its rings: the dialogue of the ports, back-pressure both ways, save, nonsense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "rig.h"
#include "virtio/devices.h"
#include "virtio/transport.h"

enum { DEVICE_READY, PORT_ADD, PORT_REMOVE, PORT_READY, CONSOLE_PORT, RESIZE, PORT_OPEN, PORT_NAME };
enum { IN0, OUT0, CONTROL_IN, CONTROL_OUT, IN1, OUT1 };
#define FEATURES 3u

static struct rig rig;
static struct char_source source[2];
static char sunk[2][8192];
static size_t sunk_len[2], sink_room[2];
static unsigned wakes[2];

static size_t sink(void *opaque, const void *buf, size_t len)
{
	size_t n = (size_t)((char(*)[8192])opaque - sunk);

	if (len > sink_room[n])
		len = sink_room[n];
	memcpy(sunk[n] + sunk_len[n], buf, len);
	sunk_len[n] += len;
	sink_room[n] -= len;
	return len;
}

static void wake(void *opaque)
{
	++*(unsigned *)opaque;
}

static const char *agent = "org.vireo.agent";

static struct virtio_dev *make(void)
{
	struct virtio_console_config c = { .mem = rig.mem, .loop = rig.loop };
	struct err err;

	for (int n = 0; n < 2; n++) {
		c.port[n].sink = (struct char_sink){ sink, sunk[n] };
		c.port[n].wake = (struct char_wake){ wake, &wakes[n] };
		c.port[n].source = &source[n];
		sunk_len[n] = wakes[n] = 0;
		sink_room[n] = sizeof(sunk[n]);
	}
	c.port[1].name = agent;
	return virtio_console_new(&c, &err);
}

static void begin(bool packed)
{
	rig_init(&rig, packed);
	rig_attach(&rig, make());
	rig_start(&rig, FEATURES);
}

static void tell(uint32_t port, uint16_t event, uint16_t value)
{
	uint8_t b[8];

	st_le32(b, port);
	st_le16(b + 4, event);
	st_le16(b + 6, value);
	struct rig_seg s = { rig_alloc(&rig, b, 8), 8, false };
	rig_add(&rig, CONTROL_OUT, &s, 1);
	rig_kick(&rig, CONTROL_OUT);
	rig_wait(&rig, CONTROL_OUT);
}

/* The next control message: "port event value [payload]". */
static void expect(uint32_t port, uint16_t event, uint16_t value, const char *payload, uint32_t len)
{
	struct rig_seg s = { rig_alloc(&rig, NULL, 80), 80, true };
	uint8_t b[80];
	uint32_t n;

	rig_add(&rig, CONTROL_IN, &s, 1);
	rig_kick(&rig, CONTROL_IN);
	n = rig_wait(&rig, CONTROL_IN);
	rig_get(&rig, s.addr, b, sizeof(b));
	assert_int_equal(ld_le32(b), port);
	assert_int_equal(ld_le16(b + 4), event);
	assert_int_equal(ld_le16(b + 6), value);
	assert_int_equal(n, 8 + len);
	if (len)
		assert_memory_equal(b + 8, payload, len);
}

static void nothing_waits(void)
{
	struct rig_seg s = { rig_alloc(&rig, NULL, 80), 80, true };
	uint16_t id;
	uint32_t len;

	rig_add(&rig, CONTROL_IN, &s, 1);
	rig_kick(&rig, CONTROL_IN);
	for (int n = 0; n < 20; n++)
		rig_run(&rig);
	assert_false(rig_poll(&rig, CONTROL_IN, &id, &len));
}

static void print(unsigned q, const char *text)
{
	struct rig_seg s[2] = { { rig_alloc(&rig, text, 3), 3, false },
				{ rig_alloc(&rig, text + 3, strlen(text) - 3), strlen(text) - 3, false } };

	rig_add(&rig, q, s, 2);
	rig_kick(&rig, q);
}

static void offer_input(unsigned q, uint32_t len, uint64_t *addr)
{
	struct rig_seg s = { rig_alloc(&rig, NULL, len), len, true };

	*addr = s.addr;
	rig_add(&rig, q, &s, 1);
	rig_kick(&rig, q);
	for (int n = 0; n < 3; n++)
		rig_run(&rig);
}

static void dialogue(bool packed)
{
	begin(packed);
	tell(0, DEVICE_READY, 1);
	expect(0, PORT_ADD, 1, NULL, 0);
	expect(1, PORT_ADD, 1, NULL, 0);
	tell(0, PORT_READY, 1);
	expect(0, CONSOLE_PORT, 1, NULL, 0);
	expect(0, RESIZE, 0, "\x50\0\x18\0", 4);
	expect(0, PORT_OPEN, 1, NULL, 0);
	tell(1, PORT_READY, 1);
	expect(1, PORT_NAME, 1, "org.vireo.agent", 16);
	expect(1, PORT_OPEN, 1, NULL, 0);
	virtio_console_resize(rig.d, 132, 43);
	virtio_console_resize(rig.d, 133, 44);
	expect(0, RESIZE, 0, "\x85\0\x2c\0", 4);
	assert_int_equal(rig.config_irqs, 2);
	source[1].connected(source[1].opaque, false);
	expect(1, PORT_OPEN, 0, NULL, 0);
	source[1].connected(source[1].opaque, false);
	nothing_waits();
	rig_fini(&rig);
}

static void test_split(void **state)
{
	dialogue(false);
}

static void test_packed(void **state)
{
	dialogue(true);
}

/* A port without a name is not there. */
static void test_without_agent(void **state)
{
	agent = NULL;
	begin(false);
	agent = "org.vireo.agent";
	tell(0, DEVICE_READY, 1);
	expect(0, PORT_ADD, 1, NULL, 0);
	tell(1, PORT_READY, 1);
	tell(1, PORT_OPEN, 1);
	nothing_waits();
	rig_fini(&rig);
}

/* An input buffer without room, again and again: it would keep the host's loop busy for nothing. */
static void test_input_without_room(void **state)
{
	struct rig_seg s = { 0 };

	begin(false);
	s = (struct rig_seg){ rig_alloc(&rig, NULL, 4), 4, false };
	for (int n = 0; n < 30; n++)
		rig_add(&rig, IN0, &s, 1);
	assert_int_equal(source[0].input(source[0].opaque, "abc", 3), 0);
	assert_true(rig_needs_reset(&rig));
	rig_reset(&rig);
	rig_start(&rig, FEATURES);
	uint64_t at;
	offer_input(IN0, 8, &at);
	assert_int_equal(source[0].input(source[0].opaque, "abc", 3), 3);
	rig_fini(&rig);
}

/* A driver without several ports has the console alone, and learns of a new size from the configuration. */
static void test_single_port(void **state)
{
	uint8_t c[8];

	rig_init(&rig, false);
	rig_attach(&rig, make());
	rig_start(&rig, 1u);
	print(OUT0, "plain");
	rig_wait(&rig, OUT0);
	assert_memory_equal(sunk[0], "plain", 5);
	virtio_console_resize(rig.d, 132, 43);
	assert_int_equal(rig.config_irqs, 1);
	virtio_config_read(rig.d, 0, c, 8);
	assert_memory_equal(c, "\x84\0\x2b\0\2\0\0\0", 8);
	source[1].connected(source[1].opaque, false);
	nothing_waits();
	rig_fini(&rig);
}

static bool got_all(void *opaque)
{
	return sunk_len[0] == 11;
}

static void test_output(void **state)
{
	uint16_t id;
	uint32_t len;

	begin(false);
	sink_room[0] = 5;
	print(OUT0, "hello world");
	for (int n = 0; n < 10; n++)
		rig_run(&rig);
	assert_int_equal(sunk_len[0], 5);
	assert_false(rig_poll(&rig, OUT0, &id, &len)); /* the guest waits with the host */
	sink_room[0] = 100;
	source[0].can_write(source[0].opaque);
	rig_until(&rig, got_all, NULL);
	rig_wait(&rig, OUT0);
	assert_memory_equal(sunk[0], "hello world", 11);
	print(OUT1, "to the agent");
	rig_wait(&rig, OUT1);
	assert_memory_equal(sunk[1], "to the agent", 12);
	rig_fini(&rig);
}

static void test_input(void **state)
{
	uint64_t a, b;
	char buf[16];

	begin(true);
	assert_int_equal(source[0].input(source[0].opaque, "abc", 3), 0);
	offer_input(IN0, 2, &a);
	assert_int_equal(wakes[0], 1);
	offer_input(IN0, 8, &b);
	assert_int_equal(source[0].input(source[0].opaque, "abcdef", 6), 6);
	assert_int_equal(rig_wait(&rig, IN0), 2);
	assert_int_equal(rig_wait(&rig, IN0), 4);
	rig_get(&rig, b, buf, 4);
	assert_memory_equal(buf, "cdef", 4);

	/* The agent's port takes nothing before an agent has opened it. */
	offer_input(IN1, 8, &a);
	assert_int_equal(source[1].input(source[1].opaque, "x", 1), 0);
	tell(1, PORT_OPEN, 1);
	assert_int_equal(wakes[1], 1);
	assert_int_equal(source[1].input(source[1].opaque, "x", 1), 1);
	assert_int_equal(rig_wait(&rig, IN1), 1);
	tell(1, PORT_OPEN, 0);
	offer_input(IN1, 8, &a);
	assert_int_equal(source[1].input(source[1].opaque, "x", 1), 0);
	rig_fini(&rig);
}

static void test_nonsense(void **state)
{
	begin(false);
	tell(7, PORT_READY, 1);
	tell(UINT32_MAX, PORT_OPEN, 1);
	tell(0, 999, 1);
	tell(0, PORT_ADD, 1);
	nothing_waits();
	/* Questions without end, and nobody reads the answers. */
	for (int n = 0; n < 200; n++)
		tell(0, DEVICE_READY, 1);
	struct rig_seg s = { rig_alloc(&rig, NULL, 4), 4, false }; /* half a message */
	rig_add(&rig, CONTROL_OUT, &s, 1);
	rig_kick(&rig, CONTROL_OUT);
	rig_wait(&rig, CONTROL_OUT);
	s.write = true; /* output without anything to read, control input that is too short */
	rig_add(&rig, OUT0, &s, 1);
	rig_kick(&rig, OUT0);
	rig_wait(&rig, OUT0);
	assert_false(rig_needs_reset(&rig));
	rig_reset(&rig);
	rig_start(&rig, FEATURES);
	nothing_waits();
	rig_fini(&rig);
}

/* Saved while the host has taken half of a chain: the other half comes out of the loaded one. */
static void test_save(void **state)
{
	struct virtio_dev *old;
	struct err err;
	char *image[2];
	size_t len[2];

	begin(false);
	sink_room[0] = 4;
	print(OUT0, "hello world");
	for (int n = 0; n < 10; n++)
		rig_run(&rig);
	tell(0, DEVICE_READY, 1); /* answers wait */
	virtio_drain(rig.d);
	old = rig.d;
	for (int n = 0; n < 2; n++) {
		FILE *f = open_memstream(&image[n], &len[n]);

		assert_int_equal(n ? state_save(f, old->state, "0", old->self, &err)
				   : state_save(f, &virtio_core_state, "0", old, &err),
				 0);
		fclose(f);
	}
	assert_int_equal(sunk_len[0], 4);
	rig_attach(&rig, make());
	assert_int_equal(sunk_len[0], 0);
	for (int n = 0; n < 2; n++) {
		FILE *f = fmemopen(image[n], len[n], "r");

		assert_int_equal(n ? state_load(f, rig.d->state, "0", rig.d->self, &err)
				   : state_load(f, &virtio_core_state, "0", rig.d, &err),
				 0);
		fclose(f);
		free(image[n]);
	}
	assert_int_equal(virtio_loaded(rig.d, &err), 0);
	virtio_resume(rig.d);
	rig_wait(&rig, OUT0);
	assert_int_equal(sunk_len[0], 7);
	assert_memory_equal(sunk[0], "o world", 7);
	expect(0, PORT_ADD, 1, NULL, 0);
	virtio_reset(old);
	old->ops->destroy(old);
	rig_fini(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_packed),
		cmocka_unit_test(test_output),
		cmocka_unit_test(test_without_agent),
		cmocka_unit_test(test_input_without_room),
		cmocka_unit_test(test_single_port),
		cmocka_unit_test(test_input),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_save),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
