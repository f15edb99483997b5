/* Repeated strings: across pages, over themselves, into faults and devices. RSI, RDI and RCX tell how far one came. */
#include "rig.h"

#include <string.h>

static struct rig r;

static int setup(void **state)
{
	rig_new(&r, RIG_LONG, NULL);
	return 0;
}

static int teardown(void **state)
{
	rig_free(&r);
	return 0;
}

#define FROM	0x300ff0u
#define TO	0x400123u
#define MMIO	0x20000000u
#define NOWHERE (0x40000000u + FROM) /* is not mapped, and has FROM's place in the TLB */

static uint8_t bytes[3 * 4096];

static void fill_source(void)
{
	for (size_t n = 0; n < sizeof(bytes); n++)
		bytes[n] = (uint8_t)(n * 7 + (n >> 8));
	assert_true(mem_write(r.vm.mem, gpa(FROM), bytes, sizeof(bytes)));
}

/* RSI, RDI, RCX, RAX for what follows. */
static void start(uint64_t rsi, uint64_t rdi, uint64_t rcx, uint64_t rax)
{
	rig_reset(&r, RIG_LONG);
	r.s.gpr[X86_RSI] = rsi;
	r.s.gpr[X86_RDI] = rdi;
	r.s.gpr[X86_RCX] = rcx;
	r.s.gpr[X86_RAX] = rax;
	fill_source();
}

static void expect(uint64_t rsi, uint64_t rdi, uint64_t rcx)
{
	assert_int_equal(rig_reg(&r, X86_RSI), rsi);
	assert_int_equal(rig_reg(&r, X86_RDI), rdi);
	assert_int_equal(rig_reg(&r, X86_RCX), rcx);
}

static uint8_t at[sizeof(bytes)];
static const uint8_t *memory(uint64_t from, size_t len)
{
	assert_true(mem_read(r.vm.mem, gpa(from), at, len));
	return at;
}

#define INC_EBX 0xff, 0xc3	       /* that what follows in the block is executed, once */
#define WARM	0x8a, 0x06, 0x88, 0x07 /* mov al, [rsi]; mov [rdi], al */

static void moves_cross_pages(void **state)
{
	start(FROM, TO, 9000, 0);
	RIG_EXEC(&r, WARM, 0xf3, 0xa4, INC_EBX);
	expect(FROM + 9000, TO + 9000, 0);
	assert_int_equal(rig_reg(&r, X86_RBX), 1);
	assert_memory_equal(memory(TO, 9000), bytes, 9000);
	/* No element lies in two pages here, and each does there. */
	for (unsigned shift = 0; shift < 8; shift += 4) {
		start(FROM + shift, TO, 1000, 0);
		RIG_EXEC(&r, WARM, 0xf3, 0x48, 0xa5, INC_EBX);
		expect(FROM + shift + 8000, TO + 8000, 0);
		assert_memory_equal(memory(TO, 8000), bytes + shift, 8000);
	}
}

/* The soft TLB has the same place for the pages of source and destination. */
static void moves_between_pages_of_one_place(void **state)
{
	const uint64_t to = FROM + 0x400000;
	uint64_t walks;

	start(FROM, to, 8000, 0);
	walks = tiny_cpu(&r.vm)->data_walks;
	RIG_EXEC(&r, WARM, 0xf3, 0xa4, INC_EBX);
	expect(FROM + 8000, to + 8000, 0);
	assert_int_equal(rig_reg(&r, X86_RBX), 1);
	assert_memory_equal(memory(to, 8000), bytes, 8000);
	/* Not two an element. */
	assert_in_range(tiny_cpu(&r.vm)->data_walks - walks, 1, 40);
	/* Faults are those of the first element. */
	start(FROM, NOWHERE, 100, 0);
	RIG_EXEC(&r, 0xf3, 0xa4);
	assert_int_equal(rig_vector(&r), X86_PF_FAULT);
	assert_int_equal(r.s.cr2, NOWHERE);
	expect(FROM, NOWHERE, 100);
	start(NOWHERE, FROM, 100, 0);
	RIG_EXEC(&r, 0xf3, 0xa4);
	assert_int_equal(rig_vector(&r), X86_PF_FAULT);
	assert_int_equal(r.s.cr2, NOWHERE);
	assert_int_equal(rig_pushed(&r, 0), 0);
	expect(NOWHERE, FROM, 100);
}

static void moves_backwards(void **state)
{
	start(FROM + 4999, TO + 4999, 5000, 0);
	RIG_EXEC(&r, WARM, 0xfd, 0xf3, 0xa4, 0xfc, INC_EBX);
	expect(FROM - 1, TO - 1, 0);
	assert_memory_equal(memory(TO, 5000), bytes, 5000);
	/* Elements that lie in two pages and that do not, as above. */
	for (unsigned shift = 0; shift < 8; shift += 4) {
		start(FROM + shift + 7992, TO + 7992, 1000, 0);
		RIG_EXEC(&r, WARM, 0xfd, 0xf3, 0x48, 0xa5, 0xfc, INC_EBX);
		expect(FROM + shift - 8, TO - 8, 0);
		assert_memory_equal(memory(TO, 8000), bytes + shift, 8000);
		assert_memory_equal(memory(TO - 8, 8), (uint8_t[8]){ 0 }, 8);
	}
	/* As a kernel does that moves itself up, over its own end. */
	start(FROM + 7992, FROM + 8092, 1000, 0);
	RIG_EXEC(&r, 0xfd, 0xf3, 0x48, 0xa5, 0xfc, INC_EBX);
	expect(FROM - 8, FROM + 92, 0);
	assert_memory_equal(memory(FROM + 100, 8000), bytes, 8000);
	assert_memory_equal(memory(FROM, 100), bytes, 100);
	assert_int_equal(rig_reg(&r, X86_RBX), 1);
}

static void stores_backwards(void **state)
{
	static const uint64_t v = 0x1122334455667788;
	uint8_t before[8];

	memcpy(before, memory(TO - 8, 8), 8);
	start(FROM, TO + 5592, 700, v);
	RIG_EXEC(&r, 0xfd, 0xf3, 0x48, 0xab, 0xfc, INC_EBX);
	expect(FROM, TO - 8, 0);
	memory(TO, 5600);
	for (unsigned n = 0; n < 700; n++)
		assert_memory_equal(at + 8 * n, &v, 8);
	assert_memory_equal(memory(TO - 8, 8), before, 8);
}

static void a_move_over_its_source_repeats_it(void **state)
{
	start(FROM, FROM + 8, 600, 0);
	RIG_EXEC(&r, WARM, 0xf3, 0x48, 0xa5);
	memory(FROM, 4808);
	/* WARM has moved the first byte itself. */
	for (unsigned n = 0; n < 600; n++)
		assert_memory_equal(at + 8 * n, bytes, 8);
	/* Backwards it is the end that comes again. */
	start(FROM + 4792, FROM + 4784, 599, 0);
	RIG_EXEC(&r, 0xfd, 0xf3, 0x48, 0xa5, 0xfc);
	memory(FROM, 4800);
	for (unsigned n = 0; n < 600; n++)
		assert_memory_equal(at + 8 * n, bytes + 4792, 8);
}

static void stores_of_each_size(void **state)
{
	static const uint64_t v = 0x1122334455667788;

	start(FROM, TO, 5000, v);
	RIG_EXEC(&r, 0xf3, 0xaa, INC_EBX);
	expect(FROM, TO + 5000, 0);
	memory(TO, 5000);
	for (unsigned n = 0; n < 5000; n++)
		assert_int_equal(at[n], 0x88);
	start(FROM, TO, 700, v);
	RIG_EXEC(&r, 0x66, 0xf3, 0xab, INC_EBX);
	expect(FROM, TO + 1400, 0);
	memory(TO, 1400);
	for (unsigned n = 0; n < 700; n++)
		assert_memory_equal(at + 2 * n, &v, 2);
	start(FROM, TO, 700, v);
	RIG_EXEC(&r, 0xf3, 0xab, INC_EBX);
	expect(FROM, TO + 2800, 0);
	memory(TO, 2800);
	for (unsigned n = 0; n < 700; n++)
		assert_memory_equal(at + 4 * n, &v, 4);
	start(FROM, TO, 700, v);
	RIG_EXEC(&r, 0xf3, 0x48, 0xab, INC_EBX);
	expect(FROM, TO + 5600, 0);
	memory(TO, 5600);
	for (unsigned n = 0; n < 700; n++)
		assert_memory_equal(at + 8 * n, &v, 8);
	assert_int_equal(rig_reg(&r, X86_RBX), 1);
}

/* The page after the one of TO is not there. */
static void unmap(void)
{
	for (unsigned n = 0; n < 512; n++)
		rig_write(&r, RIG_TABLES + 8 * n, n == 1 ? 0 : 0x400000 + n * 0x1000 + 3, 8);
	rig_write(&r, 0x3000 + 8 * 2, RIG_TABLES | 3, 8);
}

static void a_fault_in_the_middle_keeps_what_is_done(void **state)
{
	static const uint64_t left[] = { 0x401000 - TO, (0x401000 - TO) / 8 };

	start(FROM, TO, 9000, 0);
	unmap();
	RIG_EXEC(&r, WARM, 0xf3, 0xa4, INC_EBX);
	assert_int_equal(rig_vector(&r), 14);
	expect(FROM + left[0], 0x401000, 9000 - left[0]);
	assert_int_equal(r.s.cr2, 0x401000);
	assert_int_equal(rig_pushed(&r, 1), rig_ip(&r) + 4);
	assert_memory_equal(memory(TO, left[0]), bytes, left[0]);
	/* The element that lies in both pages is not begun. */
	start(FROM, TO, 9000, 0);
	unmap();
	RIG_EXEC(&r, WARM, 0xf3, 0x48, 0xab);
	assert_int_equal(rig_vector(&r), 14);
	expect(FROM, TO + 8 * left[1], 9000 - left[1]);
	assert_int_equal(r.s.cr2, 0x401000);
}

static unsigned device_stores;
static void device(struct tiny_vm *t, uint64_t addr)
{
	device_stores++;
}

static void a_device_sees_each_element_once(void **state)
{
	start(FROM, MMIO + 0xff0, 3000, 0x5a);
	device_stores = 0;
	r.vm.on_mmio = device;
	RIG_EXEC(&r, 0xf3, 0xaa, INC_EBX);
	r.vm.on_mmio = NULL;
	expect(FROM, MMIO + 0xff0 + 3000, 0);
	assert_int_equal(device_stores, 3000);
	assert_int_equal(rig_reg(&r, X86_RBX), 1);
}

static void none_changes_nothing(void **state)
{
	start(FROM, TO, 0, 0);
	/* xor edx, edx; cmp eax, eax; repne scasb; setz dl; rep movsb; rep stosb */
	RIG_EXEC(&r, 0x31, 0xd2, 0x39, 0xc0, 0xf2, 0xae, 0x0f, 0x94, 0xc2, 0xf3, 0xa4, 0xf3, 0xaa);
	expect(FROM, TO, 0);
	assert_int_equal(rig_reg(&r, X86_RDX), 1);
}

static void searches_stop_where_they_should(void **state)
{
	/* 5000 bytes of 41h, then: cmp eax, eax; repe scasb; pushf; pop rdx */
	start(FROM, TO, 5000, 0x41);
	RIG_EXEC(&r, 0xf3, 0xaa, 0xbf, TO & 0xff, TO >> 8 & 0xff, TO >> 16, 0, 0xb9, 0, 0x20, 0, 0, 0x39, 0xc0, 0xf3,
		 0xae, 0x9c, 0x5a);
	expect(FROM, TO + 5001, 0x2000 - 5001);
	assert_int_equal(rig_reg(&r, X86_RDX) & X86_ZF, 0);
	/* Two copies of which one differs at 3998: repe cmpsb */
	start(FROM, TO, 4000, 0);
	RIG_EXEC(&r, 0xf3, 0xa4, 0x80, 0x47, 0xfe, 1, 0x48, 0x8d, 0xb6, 0x60, 0xf0, 0xff, 0xff, /* add [rdi - 2], 1 */
		 0x48, 0x8d, 0xbf, 0x60, 0xf0, 0xff, 0xff, 0xb9, 0xa0, 0x0f, 0, 0, /* lea rsi, rdi: back by 4000 */
		 0x39, 0xc0, 0xf3, 0xa6, 0x9c, 0x5a);
	expect(FROM + 3999, TO + 3999, 1);
	assert_int_equal(rig_reg(&r, X86_RDX) & X86_ZF, 0);
}

static void code_that_is_overwritten_runs_as_it_is_then(void **state)
{
	/* mov [rdi + 256], al; call 1f; mov ecx, 8; rep stosb over it; call 1f; hlt; ...; 1: inc ebx ...; ret at 30h */
	static const uint8_t code[] = { 0x88, 0x87, 0, 1, 0,	0,    0xe8, 0x25, 0, 0, 0, 0xb9,
					8,    0,    0, 0, 0xf3, 0xaa, 0xe8, 0x19, 0, 0, 0, 0xf4 };
	static const uint8_t callee[] = { INC_EBX, INC_EBX, INC_EBX, INC_EBX, INC_EBX, 0xc3 };
	uint8_t all[0x40];

	memset(all, 0x90, sizeof(all));
	memcpy(all, code, sizeof(code));
	memcpy(all + 0x30, callee, sizeof(callee));
	/* The first store makes the TLB know the page; at first both go elsewhere. */
	for (unsigned round = 0; round < 2; round++) {
		start(FROM, RIG_CODE + (round ? 0x30 : 0x800), 0, 0x90);
		rig_exec(&r, all, sizeof(all));
		assert_int_equal(rig_reg(&r, X86_RBX), round ? 5 + 1 : 5 + 5);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(moves_cross_pages),
		cmocka_unit_test(moves_between_pages_of_one_place),
		cmocka_unit_test(moves_backwards),
		cmocka_unit_test(stores_backwards),
		cmocka_unit_test(a_move_over_its_source_repeats_it),
		cmocka_unit_test(stores_of_each_size),
		cmocka_unit_test(a_fault_in_the_middle_keeps_what_is_done),
		cmocka_unit_test(a_device_sees_each_element_once),
		cmocka_unit_test(none_changes_nothing),
		cmocka_unit_test(searches_stop_where_they_should),
		cmocka_unit_test(code_that_is_overwritten_runs_as_it_is_then),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
