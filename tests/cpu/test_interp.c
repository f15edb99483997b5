/* The interpreter runs small programs: loops, stack, self-modifying code, page faults, I/O. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "tiny_vm.h"

static struct tiny_vm vm;

static void run_to_halt(const uint8_t *code, size_t len)
{
	tiny_vm_load64(&vm, code, len);
	assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_HALTED);
}
#define RUN(...)                                                                                                       \
	do {                                                                                                           \
		static const uint8_t code_[] = { __VA_ARGS__, 0xf4 };                                                  \
		run_to_halt(code_, sizeof(code_));                                                                     \
	} while (0)

static uint64_t reg(unsigned n)
{
	return tiny_cpu(&vm)->s.gpr[n];
}

static int setup(void **state)
{
	tiny_vm_new(&vm);
	return 0;
}

static int teardown(void **state)
{
	tiny_vm_free(&vm);
	return 0;
}

static void a_loop_counts(void **state)
{
	/* mov ecx, 1000; xor eax, eax; 1: add rax, rcx; dec rcx; jnz 1b */
	RUN(0xb9, 0xe8, 0x03, 0, 0, 0x31, 0xc0, 0x48, 0x01, 0xc8, 0x48, 0xff, 0xc9, 0x75, 0xf8);
	assert_int_equal(reg(X86_RAX), 500500);
	/* A translator counts what it has translated if it is told to: test_counts.c. */
	if (vm.engine == &engine_interp)
		assert_int_equal(vm.vcpu->instructions, 2 + 3 * 1000 + 1);
}

static void the_stack_works(void **state)
{
	/* mov rax, 0x1122334455667788; push rax; call +1; hlt; pop rbx; pop rcx; push rsp; pop rdx */
	RUN(0x48, 0xb8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x50, 0xe8, 1, 0, 0, 0, 0xf4, 0x5b, 0x59, 0x54,
	    0x5a);
	assert_int_equal(reg(X86_RBX), TINY_CODE + 16);
	assert_int_equal(reg(X86_RCX), 0x1122334455667788);
	assert_int_equal(reg(X86_RDX), TINY_STACK);
	assert_int_equal(reg(X86_RSP), TINY_STACK);
}

static void code_that_changes_itself_runs_as_changed(void **state)
{
	/* mov byte [rip+1], 2 (the immediate of the next instruction); mov al, 1; second round over a cached trace */
	RUN(0x31, 0xc9,					    /* xor ecx, ecx */
	    0xc6, 0x05, 1, 0, 0, 0, 2,			    /* 1: mov byte [rip + 1], 2 */
	    0xb0, 1,					    /* mov al, 1 */
	    0x00, 0xc1, 0xfe, 0x05, 0xf5, 0xff, 0xff, 0xff, /* add cl, al; inc byte [the 2 above] */
	    0x80, 0xf9, 5, 0x72, 0xea);			    /* cmp cl, 5; jb 1b */
	assert_int_equal(reg(X86_RAX) & 0xff, 3);
	assert_int_equal(reg(X86_RCX) & 0xff, 5);
}

static void string_moves_handle_overlap_and_pages(void **state)
{
	/* mov edi, 0x20ff8; mov eax, 0x41; mov ecx, 64; rep stosb; then copy 63 bytes one up: the pattern repeats */
	RUN(0xbf, 0xf8, 0x0f, 0x02, 0, 0xb8, 0x41, 0, 0, 0, 0xb9, 64, 0, 0, 0, 0xf3, 0xaa, 0xc6, 0x04, 0x25, 0xf8, 0x0f,
	    0x02, 0, 0x42, 0xbe, 0xf8, 0x0f, 0x02, 0, 0xbf, 0xf9, 0x0f, 0x02, 0, 0xb9, 63, 0, 0, 0, 0xf3, 0xa4);
	uint8_t buf[64];
	assert_true(mem_read(vm.mem, gpa(0x20ff8), buf, 64));
	for (int n = 0; n < 64; n++)
		assert_int_equal(buf[n], 0x42);
	assert_int_equal(reg(X86_RCX), 0);
	assert_int_equal(reg(X86_RDI), 0x21038);
}

static void ports_reach_the_world(void **state)
{
	/* mov eax, 0x12345678; out 0x80, eax; in ax, 0x42 */
	RUN(0xb8, 0x78, 0x56, 0x34, 0x12, 0xe7, 0x80, 0x66, 0xe5, 0x42);
	assert_int_equal(vm.outs, 1);
	assert_int_equal(vm.last_out, 0x12345678);
	assert_int_equal(reg(X86_RAX), 0x12340042);
}

/* One IDT gate for `vector` at 0x50000, to code at 0x11000. */
static void set_gate(unsigned vector, const uint8_t *handler, size_t len)
{
	uint64_t gate[2] = { 0x11000ull | 0x10ull << 16 | 0x8e00ull << 32, 0 };

	gate[0] = (gate[0] & 0x0000ffffffffffffull & ~0xffffull) | 0x1000 | 0x0001ull << 48;
	mem_write(vm.mem, gpa(0x50000 + 16 * vector), gate, 16);
	mem_write(vm.mem, gpa(0x11000), handler, len);
}

static void run_with_idt(const uint8_t *code, size_t len, enum cpu_exit expected)
{
	tiny_vm_load64(&vm, code, len);
	tiny_cpu(&vm)->s.idt = (struct x86_dtable){ 0x50000, 0xfff };
	assert_int_equal(vm.engine->run(vm.vcpu), expected);
}

static void a_page_fault_tells_what_and_where(void **state)
{
	static const uint8_t handler[] = { 0x58, 0x5b, 0xf4 }; /* pop rax; pop rbx; hlt */
	static const uint8_t code[] = {
		0x90, 0xc7, 0x04, 0x25, 0, 0, 0, 0x70, 1, 0, 0, 0
	}; /* mov dword [0x70000000], 1 */
	uint64_t absent = 0;

	mem_write(vm.mem, gpa(0x3000 + 8 * 0x180), &absent, 8);
	set_gate(X86_PF_FAULT, handler, sizeof(handler));
	run_with_idt(code, sizeof(code), CPU_EXIT_HALTED);
	assert_int_equal(reg(X86_RAX), 2); /* a write, not present */
	assert_int_equal(reg(X86_RBX), TINY_CODE + 1);
	assert_int_equal(tiny_cpu(&vm)->s.cr2, 0x70000000);
}

static void faults_without_handlers_shut_down(void **state)
{
	static const uint8_t code[] = { 0x0f, 0x0b }; /* ud2 */

	tiny_vm_load64(&vm, code, sizeof(code));
	assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_SHUTDOWN);
	assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_SHUTDOWN);
}

static void division_by_zero_faults_at_the_instruction(void **state)
{
	static const uint8_t handler[] = { 0x5b, 0xf4 };	  /* pop rbx; hlt */
	static const uint8_t code[] = { 0x31, 0xc9, 0xf7, 0xf1 }; /* xor ecx, ecx; div ecx */

	set_gate(X86_DE, handler, sizeof(handler));
	run_with_idt(code, sizeof(code), CPU_EXIT_HALTED);
	assert_int_equal(reg(X86_RBX), TINY_CODE + 2);
}

static void a_single_step_traps_after_each_instruction(void **state)
{
	/* the handler counts in r8 and returns; inc r8; iretq */
	static const uint8_t handler[] = { 0x49, 0xff, 0xc0, 0x48, 0xcf };
	/* pushfq; or dword [rsp], 0x100; popfq; nop; nop; nop; pushfq; and dword [rsp], ~0x100; popfq; nop; hlt */
	static const uint8_t code[] = { 0x9c, 0x81, 0x0c, 0x24, 0,    1,    0,	  0,	0x9d, 0x90, 0x90, 0x90,
					0x9c, 0x81, 0x24, 0x24, 0xff, 0xfe, 0xff, 0xff, 0x9d, 0x90, 0xf4 };

	set_gate(X86_DB, handler, sizeof(handler));
	run_with_idt(code, sizeof(code), CPU_EXIT_HALTED);
	assert_int_equal(reg(X86_R8), 6);
}

static void a_kick_ends_an_endless_loop(void **state)
{
	static const uint8_t code[] = { 0xeb, 0xfe };

	tiny_vm_load64(&vm, code, sizeof(code));
	vcpu_kick(vm.vcpu);
	assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_KICKED);
	assert_int_equal(reg(X86_RIP), TINY_CODE);
}

static void state_survives_saving(void **state)
{
	struct x86_state *a = malloc(sizeof(*a)), *b = malloc(sizeof(*b));
	struct err err;
	char *buf;
	size_t len;

	RUN(0xb8, 0x78, 0x56, 0x34, 0x12, 0xf9); /* mov eax, ...; stc */
	vm.engine->get_state(vm.vcpu, a);
	assert_true(a->rflags & X86_CF);
	FILE *f = open_memstream(&buf, &len);
	assert_int_equal(state_save(f, &x86_state_desc, "0", a, &err), 0);
	fclose(f);
	memset(b, 0, sizeof(*b));
	f = fmemopen(buf, len, "r");
	assert_int_equal(state_load(f, &x86_state_desc, "0", b, &err), 0);
	fclose(f);
	assert_int_equal(b->gpr[X86_RAX], 0x12345678);
	assert_int_equal(b->rflags, a->rflags);
	assert_int_equal(b->cr3, a->cr3);
	b->run = 77;
	assert_int_equal(vm.engine->set_state(vm.vcpu, b, &err), -1);
	free(buf);
	free(a);
	free(b);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_loop_counts),
		TEST(the_stack_works),
		TEST(code_that_changes_itself_runs_as_changed),
		TEST(string_moves_handle_overlap_and_pages),
		TEST(ports_reach_the_world),
		TEST(a_page_fault_tells_what_and_where),
		TEST(faults_without_handlers_shut_down),
		TEST(division_by_zero_faults_at_the_instruction),
		TEST(a_single_step_traps_after_each_instruction),
		TEST(a_kick_ends_an_endless_loop),
		TEST(state_survives_saving),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
