/*
 * bus/msix.c with a sink that waits for events: who is bound when, and that masks lose and pass nothing while devices
 * notify. PCI 3.0, 6.8.2. Without such a sink: test_pci.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "bus/pci.h"

#define DEVFN	 0x20
#define VECTORS	 8
#define COMMAND	 4
#define MASTER	 4u
#define NOTIFIES 3000
#define PATIENCE 20 /* seconds until a notification is lost */

/* --- local APICs that wait for events, as KVM's do --- */

static struct {
	pthread_mutex_t lock;
	int epoll;
	pthread_t thread;
	atomic_bool stop, done;
	struct {
		const struct event *event;
		uint32_t data;
	} bound[VECTORS];
	unsigned binds, calls;
	bool refuses, late;		/* a device that has found a vector bound adds once it is not */
	unsigned arrived[VECTORS];	/* by data */
	_Atomic unsigned notified;	/* the last notification that was begun */
	_Atomic unsigned seen[VECTORS]; /* how many had begun when a message arrived last */
	atomic_bool masked;		/* a mask is in force that the guest has seen the end of writing */
	_Atomic unsigned while_masked;
} apics;

/* lock held */
static void arrive(uint32_t data)
{
	assert_true(data < VECTORS);
	apics.arrived[data]++;
	atomic_store(&apics.seen[data], atomic_load(&apics.notified));
	if (atomic_load(&apics.masked))
		atomic_fetch_add(&apics.while_masked, 1);
}

static void look(unsigned n)
{
	if (apics.bound[n].event && event_take(apics.bound[n].event))
		arrive(apics.bound[n].data);
}

static void *wait_for_events(void *opaque)
{
	struct epoll_event e;

	while (!atomic_load(&apics.stop)) {
		if (epoll_wait(apics.epoll, &e, 1, 10) <= 0)
			continue;
		pthread_mutex_lock(&apics.lock);
		for (unsigned n = 0; n < VECTORS; n++)
			look(n);
		pthread_mutex_unlock(&apics.lock);
	}
	return NULL;
}

static void on_send(void *opaque, uint64_t addr, uint32_t data)
{
	pthread_mutex_lock(&apics.lock);
	apics.calls++;
	arrive(data);
	pthread_mutex_unlock(&apics.lock);
}

static bool on_bind(void *opaque, const struct event *e, uint64_t addr, uint32_t data)
{
	struct epoll_event ev = { .events = EPOLLIN };
	unsigned n = 0;

	if (apics.refuses)
		return false;
	pthread_mutex_lock(&apics.lock);
	for (unsigned k = 0; k < VECTORS; k++)
		assert_true(apics.bound[k].event != e);
	while (apics.bound[n].event)
		n++;
	assert_true(n < VECTORS && addr >> 20 == 0xfee);
	apics.bound[n].event = e;
	apics.bound[n].data = data;
	apics.binds++;
	look(n);
	epoll_ctl(apics.epoll, EPOLL_CTL_ADD, e->fd, &ev);
	pthread_mutex_unlock(&apics.lock);
	return true;
}

static void on_unbind(void *opaque, const struct event *e)
{
	unsigned n = 0;

	pthread_mutex_lock(&apics.lock);
	while (n < VECTORS && apics.bound[n].event != e)
		n++;
	assert_true(n < VECTORS);
	look(n);
	apics.bound[n].event = NULL;
	epoll_ctl(apics.epoll, EPOLL_CTL_DEL, e->fd, NULL);
	if (apics.late)
		event_add(e);
	pthread_mutex_unlock(&apics.lock);
}

static unsigned bound_now(void)
{
	unsigned count = 0;

	for (unsigned n = 0; n < VECTORS; n++)
		count += apics.bound[n].event != NULL;
	return count;
}

static bool is_bound(uint32_t data)
{
	for (unsigned n = 0; n < VECTORS; n++)
		if (apics.bound[n].event && apics.bound[n].data == data)
			return true;
	return false;
}

/* Messages of this vector so far, once all that was added has been looked at. */
static unsigned arrived(unsigned vector)
{
	unsigned v;

	pthread_mutex_lock(&apics.lock);
	for (unsigned n = 0; n < VECTORS; n++)
		look(n);
	v = apics.arrived[vector];
	pthread_mutex_unlock(&apics.lock);
	return v;
}

/* --- a function with MSI-X --- */

static struct bus *bus;
static struct pci_bus *pci;
static struct pci_dev card;
static pthread_mutex_t card_lock = PTHREAD_MUTEX_INITIALIZER;

static void set(uint8_t off, unsigned size, uint32_t v)
{
	pci_config_write(pci, DEVFN, off, size, v);
}

static void set_control(uint16_t v)
{
	set((uint8_t)(card.msix_cap + 2), 2, v);
}

static void entry(unsigned n, unsigned word, uint32_t v)
{
	pthread_mutex_lock(&card_lock);
	pci_msix_write(&card, 16 * n + 4 * word, 4, v);
	pthread_mutex_unlock(&card_lock);
}

static void mask(unsigned n, bool on)
{
	entry(n, 3, on);
}

static uint64_t pending(void)
{
	uint64_t v = 0;

	assert_true(pci_msix_read(&card, 0x800, 8, &v));
	return v;
}

static int setup(void **state)
{
	static const struct pci_id id = { .vendor = 0x1af4, .device = 1 };
	static const struct irq_line lines[4];
	const struct msi_sink sink = { on_send, NULL, on_bind, on_unbind };
	struct err err;

	memset(&apics, 0, sizeof(apics));
	pthread_mutex_init(&apics.lock, NULL);
	apics.epoll = epoll_create1(EPOLL_CLOEXEC);
	assert_int_equal(pthread_create(&apics.thread, NULL, wait_for_events, NULL), 0);
	bus = bus_new();
	pci = pci_bus_new(bus, lines, &sink);
	memset(&card, 0, sizeof(card));
	pci_dev_init(&card, "card", &id, &card_lock);
	assert_int_equal(pci_add_msix(&card, VECTORS, 0, 0, 0x800, &err), 0);
	assert_int_equal(pci_register(pci, &card, DEVFN, &err), 0);
	set(COMMAND, 2, MASTER);
	set_control(0x8000);
	for (unsigned n = 0; n < VECTORS; n++) {
		entry(n, 0, 0xfee00000);
		entry(n, 2, n);
	}
	return 0;
}

static int teardown(void **state)
{
	pci_unregister(&card);
	assert_int_equal(bound_now(), 0);
	atomic_store(&apics.stop, true);
	pthread_join(apics.thread, NULL);
	close(apics.epoll);
	pci_bus_free(pci);
	bus_free(bus);
	return 0;
}

/* --- who is bound --- */

static void open_vectors_are_bound_and_others_not(void **state)
{
	assert_int_equal(bound_now(), 0);
	mask(3, false);
	mask(5, false);
	assert_true(bound_now() == 2 && is_bound(3) && is_bound(5));
	mask(3, true);
	assert_true(bound_now() == 1 && is_bound(5));
	/* The function's mask, its right to write memory, MSI-X as a whole. */
	set_control(0xc000);
	assert_int_equal(bound_now(), 0);
	set_control(0x8000);
	assert_true(bound_now() == 1 && is_bound(5));
	set(COMMAND, 2, 0);
	assert_int_equal(bound_now(), 0);
	set(COMMAND, 2, MASTER);
	assert_int_equal(bound_now(), 1);
	set_control(0);
	assert_int_equal(bound_now(), 0);
	set_control(0x8000);
	pci_bus_reset(pci);
	assert_int_equal(bound_now(), 0);
}

static void a_vector_that_moves_is_bound_anew(void **state)
{
	unsigned binds;

	mask(2, false);
	entry(2, 2, 6);
	assert_true(bound_now() == 1 && is_bound(6));
	/* The same again is no reason to. */
	binds = apics.binds;
	entry(2, 2, 6);
	mask(2, false);
	assert_int_equal(apics.binds, binds);
	pci_msix_notify(&card, 2);
	assert_int_equal(arrived(6), 1);
}

static void notifications_go_by_events(void **state)
{
	mask(1, false);
	pci_msix_notify(&card, 1);
	assert_int_equal(arrived(1), 1);
	mask(1, true);
	pci_msix_notify(&card, 1);
	assert_true(pending() == 2);
	assert_int_equal(arrived(1), 1);
	mask(1, false);
	assert_true(pending() == 0);
	assert_int_equal(arrived(1), 2);
	assert_int_equal(apics.calls, 0);
}

static void what_the_sink_refuses_is_sent_by_a_call(void **state)
{
	apics.refuses = true;
	mask(1, false);
	pci_msix_notify(&card, 1);
	assert_int_equal(apics.calls, 1);
	assert_int_equal(arrived(1), 1);
}

static void what_comes_with_the_mask_pends(void **state)
{
	mask(1, false);
	apics.late = true;
	mask(1, true);
	apics.late = false;
	assert_true(pending() == 2);
	assert_int_equal(arrived(1), 0);
	mask(1, false);
	assert_int_equal(arrived(1), 1);
	/* It was open all the time. */
	apics.late = true;
	entry(1, 2, 3);
	apics.late = false;
	assert_int_equal(arrived(3), 1);
}

/* All has arrived when it stands still, and what comes then does not wait. */
static void a_machine_that_stands_still_has_no_events(void **state)
{
	mask(1, false);
	pci_msix_notify(&card, 1);
	pci_msix_hold(&card, true);
	assert_int_equal(apics.arrived[1], 1);
	assert_int_equal(bound_now(), 0);
	mask(2, false);
	assert_int_equal(bound_now(), 0);
	set_control(0x8000);
	assert_int_equal(bound_now(), 0);
	pci_msix_notify(&card, 1);
	assert_int_equal(apics.calls, 1);
	assert_int_equal(apics.arrived[1], 2);
	pci_msix_hold(&card, false);
	assert_int_equal(bound_now(), 2);
}

/* --- storms --- */

static _Atomic unsigned lost, rounds;

static int64_t now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* A device that notifies, and waits for each to arrive. */
static void *notify(void *opaque)
{
	for (unsigned k = 1; k <= NOTIFIES || atomic_load(&rounds) < 100; k++) {
		int64_t end = now_s() + PATIENCE;

		atomic_store(&apics.notified, k);
		pci_msix_notify(&card, 4);
		while (atomic_load(&apics.seen[4]) < k && now_s() < end)
			sched_yield();
		if (atomic_load(&apics.seen[4]) >= k)
			continue;
		atomic_store(&lost, k);
		break;
	}
	atomic_store(&apics.done, true);
	return NULL;
}

static void by_entry(bool on)
{
	mask(4, on);
}

static void by_function(bool on)
{
	set_control(on ? 0xc000 : 0x8000);
}

static void by_bus_mastering(bool on)
{
	set(COMMAND, 2, on ? 0 : MASTER);
}

/* Each notification arrives, and none while the guest knows the vector to be masked. */
static void storm(void (*masks)(bool on))
{
	pthread_t t;

	atomic_store(&lost, 0);
	atomic_store(&rounds, 0);
	mask(4, false);
	assert_int_equal(pthread_create(&t, NULL, notify, NULL), 0);
	for (; !atomic_load(&apics.done); atomic_fetch_add(&rounds, 1)) {
		masks(true);
		atomic_store(&apics.masked, true);
		if (atomic_load(&rounds) & 1)
			sched_yield();
		atomic_store(&apics.masked, false);
		masks(false);
		if (atomic_load(&rounds) & 2)
			sched_yield();
	}
	pthread_join(t, NULL);
	if (atomic_load(&lost))
		fail_msg("notification %u never arrived", atomic_load(&lost));
	assert_int_equal(atomic_load(&apics.while_masked), 0);
}

static void masks_of_a_vector_lose_and_pass_nothing(void **state)
{
	storm(by_entry);
}

static void masks_of_the_function_lose_and_pass_nothing(void **state)
{
	storm(by_function);
}

static void bus_mastering_loses_and_passes_nothing(void **state)
{
	storm(by_bus_mastering);
}

static void calls_lose_and_pass_nothing_either(void **state)
{
	apics.refuses = true;
	storm(by_entry);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(open_vectors_are_bound_and_others_not),
		TEST(a_vector_that_moves_is_bound_anew),
		TEST(notifications_go_by_events),
		TEST(what_the_sink_refuses_is_sent_by_a_call),
		TEST(what_comes_with_the_mask_pends),
		TEST(a_machine_that_stands_still_has_no_events),
		TEST(masks_of_a_vector_lose_and_pass_nothing),
		TEST(masks_of_the_function_lose_and_pass_nothing),
		TEST(bus_mastering_loses_and_passes_nothing),
		TEST(calls_lose_and_pass_nothing_either),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
