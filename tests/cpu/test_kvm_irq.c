/* The hardware engine's interrupts by events (irqfd): a guest counts what reaches it, also where KVM emulates it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "bus/pci.h"
#include "cpu/kvm/kvm.h"
#include "tiny_vm.h"

#define IDT	 0x5000u
#define IDTR	 0x6000u
#define HANDLER	 (TINY_CODE + 0x100)
#define COUNTER	 0x20000u
#define VECTOR	 0x40u
#define MESSAGE	 (0x4000u | VECTOR)
#define LAPICS	 0xfee00000ull
#define PATIENCE 20 /* seconds until an interrupt is lost */

/*
 * lidt [IDTR]; x2APIC on; it takes interrupts (spurious vector 0ffh); out 0x80, al; sti; 1: hlt; jmp 1b. The handler
 * counts at COUNTER and ends the interrupt.
 */
static const uint8_t code[] = "\x0f\x01\x1c\x25\0\x60\0\0"
			      "\xb9\x1b\0\0\0\x0f\x32\x0d\0\x0c\0\0\x0f\x30"
			      "\xb9\x0f\x08\0\0\xb8\xff\x01\0\0\x31\xd2\x0f\x30"
			      "\xe6\x80\xfb\xf4\xeb\xfd";
static const uint8_t handler[] = "\xf0\xff\x04\x25\0\0\x02\0\xb9\x0b\x08\0\0\x31\xc0\x31\xd2\x0f\x30\x48\xcf";

static struct tiny_vm vm;
static struct msi_sink sink;
static pthread_t thread;
static struct event event;

static void *run_it(void *opaque)
{
	return (void *)(uintptr_t)engine_kvm.run(opaque);
}

static uint32_t counter(void)
{
	uint32_t v = 0;

	mem_read(vm.mem, gpa(COUNTER), &v, 4);
	return v;
}

static void wait_ms(unsigned ms)
{
	usleep(1000 * ms);
}

static bool counts_to(uint32_t n)
{
	for (unsigned k = 0; k < PATIENCE * 10000 && counter() < n; k++)
		usleep(100);
	return counter() == n;
}

static void write_gate(unsigned vector, uint64_t at)
{
	const uint64_t gate[2] = { (at & 0xffff) | 0x10 << 16 | 0x8e00ull << 32 | (at >> 16 & 0xffff) << 48, at >> 32 };

	mem_write(vm.mem, gpa(IDT + 16 * vector), gate, sizeof(gate));
}

static int setup(void **state)
{
	const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) idtr = { 4095, IDT };
	struct engine_probe p = { 0 };

	engine_kvm.probe(&p);
	*state = NULL;
	if (!p.available) {
		print_message("skipped: no KVM here: %s\n", p.why);
		return 0;
	}
	tiny_vm_new_split(&vm, &engine_kvm, NULL);
	clock_start(vm.clock);
	sink = irqchip_msi(vm.chip);
	write_gate(VECTOR, HANDLER);
	mem_write(vm.mem, gpa(IDTR), &idtr, sizeof(idtr));
	mem_write(vm.mem, gpa(HANDLER), handler, sizeof(handler));
	tiny_vm_load64(&vm, code, sizeof(code));
	assert_int_equal(pthread_create(&thread, NULL, run_it, vm.vcpu), 0);
	for (unsigned k = 0; k < PATIENCE * 1000 && !__atomic_load_n(&vm.outs, __ATOMIC_ACQUIRE); k++)
		wait_ms(1);
	assert_true(vm.outs && event_open(&event));
	*state = &vm;
	return 0;
}

static int teardown(void **state)
{
	if (!*state)
		return 0;
	vcpu_kick(vm.vcpu);
	pthread_join(thread, NULL);
	event_close(&event);
	tiny_vm_free(&vm);
	return 0;
}

static void need_kvm(void **state)
{
	if (!*state)
		skip();
	assert_non_null(sink.bind);
}

static uint64_t calls(void)
{
	return atomic_load(&((struct kvm_vm *)vm.vm)->messages);
}

static bool bind(uint64_t addr, uint32_t data)
{
	return sink.bind(sink.opaque, &event, addr, data);
}

/* --- the contract of struct msi_sink --- */

static void an_event_interrupts_the_guest(void **state)
{
	need_kvm(state);
	assert_true(bind(LAPICS, MESSAGE));
	for (uint32_t n = 1; n <= 50; n++) {
		event_add(&event);
		assert_true(counts_to(n));
	}
	assert_int_equal(calls(), 0);
	sink.unbind(sink.opaque, &event);
	msi_send(&sink, LAPICS, MESSAGE);
	assert_true(counts_to(51));
	assert_int_equal(calls(), 1);
}

static void what_is_added_unbound_waits_in_the_event(void **state)
{
	need_kvm(state);
	assert_true(bind(LAPICS, MESSAGE));
	sink.unbind(sink.opaque, &event);
	event_add(&event);
	wait_ms(20);
	assert_int_equal(counter(), 0);
	assert_int_equal(event_take(&event), 1);
	/* Until somebody waits. */
	event_add(&event);
	assert_true(bind(LAPICS, MESSAGE));
	assert_true(counts_to(1));
	sink.unbind(sink.opaque, &event);
	assert_int_equal(event_take(&event), 0);
	wait_ms(20);
	assert_int_equal(counter(), 1);
}

static void only_interrupts_are_bound(void **state)
{
	static const struct {
		uint64_t addr;
		uint32_t data;
	} no[] = {
		{ LAPICS, 0x4640 }, /* start-up */
		{ LAPICS, 0x4540 }, /* INIT */
		{ LAPICS, 0x4440 }, /* NMI */
		{ LAPICS, 0x4240 }, /* SMI */
		{ LAPICS, 0x4740 }, /* the 8259's */
		{ LAPICS, 0x8040 }, /* the end of a level */
		{ 0xfed00000, MESSAGE }, { 0, MESSAGE }, { 0xfef00000, MESSAGE }, { 1ull << 32 | LAPICS, MESSAGE },
	};

	need_kvm(state);
	for (size_t n = 0; n < sizeof(no) / sizeof(no[0]); n++)
		assert_false(bind(no[n].addr, no[n].data));
	event_add(&event);
	wait_ms(20);
	assert_int_equal(counter(), 0);
	/* Lowest priority is one: to a logical destination, with the hint. */
	assert_true(bind(LAPICS, 0x4100 | VECTOR));
	assert_true(counts_to(1));
	sink.unbind(sink.opaque, &event);
}

/* What a guest may ask for is bounded, and what there is no room for goes by calls. */
static void there_is_room_for_so_many(void **state)
{
	struct event *many;
	struct rlimit r;
	unsigned count = 0;

	need_kvm(state);
	many = calloc(KVM_GSIS, sizeof(*many));
	assert_non_null(many);
	getrlimit(RLIMIT_NOFILE, &r);
	r.rlim_cur = r.rlim_max;
	setrlimit(RLIMIT_NOFILE, &r);
	for (; count < KVM_GSIS && event_open(&many[count]); count++)
		if (!sink.bind(sink.opaque, &many[count], LAPICS, 0x4000 | (VECTOR + count % 16)))
			break;
	assert_int_equal(count, KVM_GSIS - KVM_PINS);
	event_add(&many[16]);
	assert_true(counts_to(1));
	/* Room is made by those that go. */
	sink.unbind(sink.opaque, &many[3]);
	assert_true(bind(LAPICS, MESSAGE));
	event_add(&event);
	assert_true(counts_to(2));
	sink.unbind(sink.opaque, &event);
	for (unsigned n = 0; n <= count; n++) {
		if (n < count && n != 3)
			sink.unbind(sink.opaque, &many[n]);
		event_close(&many[n]);
	}
	free(many);
}

static void it_can_be_switched_off(void **state)
{
	struct config *config;
	struct tiny_vm other;
	struct err err;

	need_kvm(state);
	config = config_new();
	assert_int_equal(config_set(config, "kvm.irqfd", "off", &err), 0);
	tiny_vm_new_split(&other, &engine_kvm, config);
	assert_null(irqchip_msi(other.chip).bind);
	tiny_vm_free(&other);
}

/* --- a function with MSI-X, whose guest masks while it notifies --- */

static struct pci_bus *pci;
static struct bus *bus;
static struct pci_dev card;
static pthread_mutex_t card_lock = PTHREAD_MUTEX_INITIALIZER;

static void entry(unsigned word, uint32_t v)
{
	pthread_mutex_lock(&card_lock);
	pci_msix_write(&card, 4 * word, 4, v);
	pthread_mutex_unlock(&card_lock);
}

static void mask(bool on)
{
	entry(3, on);
}

static void make_card(void)
{
	static const struct pci_id id = { .vendor = 0x1af4, .device = 1 };
	static const struct irq_line lines[4];
	struct err err;

	bus = bus_new();
	pci = pci_bus_new(bus, lines, &sink);
	memset(&card, 0, sizeof(card));
	pci_dev_init(&card, "card", &id, &card_lock);
	assert_int_equal(pci_add_msix(&card, 1, 0, 0, 0x800, &err), 0);
	assert_int_equal(pci_register(pci, &card, 8, &err), 0);
	pci_config_write(pci, 8, 4, 2, 4);
	pci_config_write(pci, 8, card.msix_cap + 2, 2, 0x8000);
	entry(0, (uint32_t)LAPICS);
	entry(2, MESSAGE);
}

static void free_card(void)
{
	pci_unregister(&card);
	pci_bus_free(pci);
	bus_free(bus);
}

static _Atomic uint32_t notified;
static atomic_bool done;

static void *notify(void *opaque)
{
	for (uint32_t n = 1; n <= 300 && !atomic_load(&done); n++) {
		pci_msix_notify(&card, 0);
		if (counts_to(n))
			atomic_store(&notified, n);
		else
			break;
	}
	atomic_store(&done, true);
	return NULL;
}

/* Each notification interrupts once: none is lost, none comes twice. */
static void a_storm_of_masks_loses_and_doubles_nothing(void **state)
{
	unsigned rounds = 0;
	pthread_t t;

	need_kvm(state);
	make_card();
	mask(false);
	atomic_store(&notified, 0);
	atomic_store(&done, false);
	assert_int_equal(pthread_create(&t, NULL, notify, NULL), 0);
	for (; !atomic_load(&done); rounds++) {
		mask(true);
		mask(false);
	}
	pthread_join(t, NULL);
	assert_int_equal(atomic_load(&notified), 300);
	assert_true(rounds > 10);
	wait_ms(20);
	assert_int_equal(counter(), 300);
	free_card();
}

static void nothing_interrupts_while_masked(void **state)
{
	need_kvm(state);
	make_card();
	for (uint32_t n = 0; n < 20; n++) {
		mask(false);
		pci_msix_notify(&card, 0);
		assert_true(counts_to(2 * n + 1));
		mask(true);
		for (unsigned k = 0; k < 10; k++)
			pci_msix_notify(&card, 0);
		wait_ms(2);
		assert_int_equal(counter(), 2 * n + 1);
		mask(false);
		assert_true(counts_to(2 * n + 2));
		mask(true);
	}
	assert_int_equal(calls(), 0);
	free_card();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_event_interrupts_the_guest),   TEST(what_is_added_unbound_waits_in_the_event),
		TEST(only_interrupts_are_bound),       TEST(there_is_room_for_so_many),
		TEST(it_can_be_switched_off),	       TEST(a_storm_of_masks_loses_and_doubles_nothing),
		TEST(nothing_interrupts_while_masked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
