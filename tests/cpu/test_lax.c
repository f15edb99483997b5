/*
 * Without jit.strict a translator keeps only flags that the code as it was translated looks at. Code that changes a
 * later instruction of its own block to one that looks at them must find them all the same, without a jump in between.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tiny_vm.h"

static struct tiny_vm vm;

static int new_vm(const char *heat)
{
	struct config *c = config_new();
	struct err err;

	if (!c || config_set(c, "jit.strict", "off", &err) || config_set(c, "jit.heat", heat, &err))
		return -1;
	tiny_vm_new_configured(&vm, tiny_software(), c);
	return 0;
}

static int cold(void **state)
{
	return new_vm("16");
}

static int hot(void **state)
{
	return new_vm("0");
}

static int teardown(void **state)
{
	tiny_vm_free(&vm);
	return 0;
}

/*
 * A loop whose store gives the instruction behind it other bytes in each second round:
 *
 *	mov [rsi], rdx; movq xmm0, rdx; xor ecx, ecx; mov eax, -1; add eax, 1: there is a carry
 *	the store of RDX at RDI, where RSI leads to the same value
 *   target:
 *	xor ecx, ecx, or adc ecx, ecx
 *	add ebx, ecx: one for each carry that was seen
 *	xor dl, XOR ^ ADC; mov rdi, r8; dec r12d; jnz; hlt
 */
#define XOR 0x31
#define ADC 0x11
static const uint8_t before[] = { 0x48, 0x89, 0x16, 0x66, 0x48, 0x0f, 0x6e, 0xc2, 0x31,
				  0xc9, 0xb8, 0xff, 0xff, 0xff, 0xff, 0x83, 0xc0, 0x01 };
static const uint8_t after[] = { XOR,  0xc9, 0x01, 0xcb, 0x80, 0xf2, XOR ^ ADC, 0x4c, 0x89, 0xc7,
				 0x41, 0xff, 0xcc, 0x0f, 0x85, 0,    0,		0,    0,    0xf4 };
#define VECTORS 7 /* from here on such registers, or x87's, are stored */
static const struct {
	const char *name;
	uint8_t code[8], len;
} stores[] = {
	{ "mov8", { 0x88, 0x17 }, 2 },
	{ "mov64", { 0x48, 0x89, 0x17 }, 3 },
	{ "push", { 0x48, 0x8d, 0x67, 8, 0x52 }, 5 },	  /* lea rsp, [rdi + 8]; push rdx */
	{ "pop", { 0x48, 0x89, 0xf4, 0x8f, 0x07 }, 5 },	  /* mov rsp, rsi; pop [rdi] */
	{ "stosb", { 0x48, 0x92, 0xaa, 0x48, 0x92 }, 5 }, /* xchg rax, rdx; stosb; xchg rax, rdx */
	{ "movsq", { 0x48, 0xa5 }, 2 },
	{ "xchg", { 0x49, 0x89, 0xd1, 0x4c, 0x87, 0x0f }, 6 }, /* mov r9, rdx; xchg [rdi], r9 */
	{ "movq", { 0x66, 0x0f, 0xd6, 0x07 }, 4 },
	{ "fistp", { 0xdb, 0xe3, 0xdf, 0x2e, 0xdf, 0x3f }, 6 }, /* fninit; fild qword [rsi]; fistp qword [rdi] */
};

#define FROM   0x30000u
#define ROUNDS 100u

/* Carries that were seen. The first store is to `first` (0: to the target); then the bytes begin with `op`. */
static uint64_t count(unsigned n, uint64_t target, uint64_t first, uint8_t op)
{
	uint64_t begin = target - sizeof(before) - stores[n].len, bytes;
	int32_t back = (int32_t)(begin - (target + sizeof(after) - 1));
	uint8_t code[sizeof(after)];
	struct x86_state *s;

	memcpy(code, after, sizeof(code));
	memcpy(code + sizeof(code) - 5, &back, 4);
	memcpy(&bytes, code, 8);
	mem_write(vm.mem, gpa(begin), before, sizeof(before));
	if (!x86_fp_host_ok())
		mem_write(vm.mem, gpa(begin + 3), "\x90\x90\x90\x90\x90", 5); /* no MOVQ */
	mem_write(vm.mem, gpa(begin + sizeof(before)), stores[n].code, stores[n].len);
	mem_write(vm.mem, gpa(target), code, sizeof(code));
	tiny_vm_enter64(&vm, 0, begin, TINY_STACK);
	s = &tiny_cpu(&vm)->s;
	s->cr4 |= X86_CR4_OSFXSR;
	x86_update_mode(tiny_cpu(&vm));
	s->gpr[X86_RBX] = 0;
	s->gpr[X86_RSI] = FROM;
	s->gpr[X86_RDI] = first ? first : target;
	s->gpr[8] = target;
	s->gpr[X86_RDX] = (bytes & ~0xffull) | op;
	s->gpr[12] = ROUNDS;
	assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_HALTED);
	return s->gpr[X86_RBX];
}

static void flags_reach(uint64_t first, uint8_t op)
{
	for (unsigned n = 0; n < sizeof(stores) / sizeof(stores[0]); n++) {
		/* Each in a page of its own, of which nothing is known. And stores that cross into the next page. */
		uint64_t page = 0x100000 + n * 0x4000, seen[2];

		if (n >= VECTORS && !x86_fp_host_ok()) {
			print_message("skipped: %s: no floating point here\n", stores[n].name);
			continue;
		}
		seen[0] = count(n, page + 0x100, first ? page + first : 0, op);
		seen[1] = first ? ROUNDS / 2 : count(n, page + 0x2ffc, 0, op);
		if (seen[0] != ROUNDS / 2 || seen[1] != ROUNDS / 2)
			fail_msg("%s: %u and %u rounds of %u saw the carry", stores[n].name, (unsigned)seen[0],
				 (unsigned)seen[1], ROUNDS / 2);
	}
}

/* After one store into the block, which changed nothing. */
static void flags_reach_what_a_store_makes_of_its_block(void **state)
{
	flags_reach(0, XOR);
}

/* After one store to data in the block's page. */
static void a_store_beside_code_is_a_warning(void **state)
{
	flags_reach(0x800, XOR);
}

/* Whether the first round that is translated changes the block or not: the interpreter has seen such stores before. */
static void stores_that_were_interpreted_count(void **state)
{
	flags_reach(0, XOR);
	tiny_vm_free(&vm);
	assert_int_equal(cold(NULL), 0);
	flags_reach(0, ADC);
}

#define TEST(fn, setup) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(flags_reach_what_a_store_makes_of_its_block, hot),
		TEST(a_store_beside_code_is_a_warning, hot),
		TEST(stores_that_were_interpreted_count, cold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
