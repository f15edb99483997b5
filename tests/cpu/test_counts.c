/*
 * Instructions are counted exactly, whatever executes them and however it comes out of the code around them. Each
 * program's length is known.
 */
#include "rig.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include "cpu/jit/jit.h"
#endif

#define NOWHERE 0x40000000 /* is not mapped */
#define DEVICE	0x2000000  /* is no RAM */

static struct rig r;

static void user(void)
{
	rig_user(&r);
}

static void smap(void)
{
	r.s.cr4 |= X86_CR4_SMAP;
}

static void sse(void)
{
	r.s.cr4 |= X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
}

static void open_sse(void)
{
	sse();
	r.s.mxcsr = 0x1f80 & ~(1u << 12); /* precision */
}

/* Pushes are stores to a page with code. */
static void stack_in_code(void)
{
	r.s.gpr[X86_RSP] = RIG_CODE + 0x800;
}

static void kicks(void)
{
	r.vm.kick_on_out = true;
}

struct program {
	const char *name;
	void (*prepare)(void);
	uint64_t length; /* without the HLT that ends it, or that of the handler of what it raises */
	uint64_t left;	 /* with the HLT, those that a translator leaves to the interpreter or its handlers, at least */
	uint8_t code[64];
};

#define LE32(v) (v) & 255, (v) >> 8 & 255, (v) >> 16 & 255, (v) >> 24 & 255
/* clang-format off */
static const struct program programs[] = {
	/* mov ecx, 1000; 1: dec ecx; jnz 1b */
	{ "a loop", NULL, 1 + 2 * 1000, 1, { 0xb9, LE32(1000), 0xff, 0xc9, 0x75, 0xfc } },
	/* mov ecx, 100; 1: rdtsc; dec ecx; jnz 1b */
	{ "handlers", NULL, 1 + 3 * 100, 101, { 0xb9, LE32(100), 0x0f, 0x31, 0xff, 0xc9, 0x75, 0xfa } },
	/* inc eax; in al, dx; inc eax */
	{ "a handler that raises", user, 1, 0, { 0xff, 0xc0, 0xec, 0xff, 0xc0 } },
	/* inc eax; xor ecx, ecx; div ecx; inc eax */
	{ "a division that raises", NULL, 2, 0, { 0xff, 0xc0, 0x31, 0xc9, 0xf7, 0xf1, 0xff, 0xc0 } },
	/* inc eax; inc eax; ud2 */
	{ "an instruction that raises", NULL, 2, 0, { 0xff, 0xc0, 0xff, 0xc0, 0x0f, 0x0b } },
	/* inc eax; mov eax, [NOWHERE]; inc eax */
	{ "a page fault", NULL, 1, 0, { 0xff, 0xc0, 0x8b, 0x04, 0x25, LE32(NOWHERE), 0xff, 0xc0 } },
	/* inc eax; mov ebx, [DEVICE]; inc eax */
	{ "device memory", NULL, 3, 2, { 0xff, 0xc0, 0x8b, 0x1c, 0x25, LE32(DEVICE), 0xff, 0xc0 } },
	/* inc eax; mov [20ffeh], ebx; mov ebx, [20ffeh]; inc eax */
	{ "across pages", NULL, 4, 1, { 0xff, 0xc0, 0x89, 0x1c, 0x25, LE32(0x20ffe), 0x8b, 0x1c, 0x25, LE32(0x20ffe),
					   0xff, 0xc0 } },
	/* inc eax; add [20ffeh], ebx; inc eax */
	{ "read and written across pages", NULL, 3, 2, { 0xff, 0xc0, 0x01, 0x1c, 0x25, LE32(0x20ffe), 0xff, 0xc0 } },
	/* mov byte [rip + 3], 2; inc eax; mov al, 1; inc ecx */
	{ "a store to the code that runs", NULL, 4, 1, { 0xc6, 0x05, 3, 0, 0, 0, 2, 0xff, 0xc0, 0xb0, 1, 0xff, 0xc1 } },
	/* mov ecx, 50; 1: dec ecx; jz 2f; call 1b; 2: */
	{ "calls of the own block", stack_in_code, 1 + 3 * 49 + 2, 1, { 0xb9, LE32(50), 0xff, 0xc9, 0x74, 5, 0xe8,
									   LE32(-9u) } },
	/* mov ecx, 50; mov eax, 1f; 1: dec ecx; jz 2f; call rax; 2: */
	{ "calls of it by a register", stack_in_code, 2 + 3 * 49 + 2, 1, { 0xb9, LE32(50), 0xb8, LE32(RIG_CODE + 10), 0xff,
									      0xc9, 0x74, 2, 0xff, 0xd0 } },
	/* mov ecx, 50; 1: call 2f; dec ecx; jnz 1b; hlt; 2: ret */
	{ "returns", NULL, 1 + 4 * 50, 1, { 0xb9, LE32(50), 0xe8, LE32(5), 0xff, 0xc9, 0x75, 0xf7, 0xf4, 0xc3 } },
	/* mov ecx, 50; 1: out dx, al; dec ecx; jnz 1b */
	{ "events", kicks, 1 + 3 * 50, 51, { 0xb9, LE32(50), 0xee, 0xff, 0xc9, 0x75, 0xfb } },
	/* sti; inc eax; cli; inc eax */
	{ "the interrupt flag", NULL, 4, 0, { 0xfb, 0xff, 0xc0, 0xfa, 0xff, 0xc0 } },
	/* mov ecx, 50; 1: loop 1b; mov ecx, 50; mov edi, 20000h; rep insb */
	{ "a loop to itself, a string of ports", NULL, 1 + 50 + 2 + 1, 0, { 0xb9, LE32(50), 0xe2, 0xfe, 0xb9, LE32(50),
						0xbf, LE32(0x20000), 0xf3, 0x6c } },
	/* inc eax; stac; inc eax; clac; inc eax */
	{ "another view of memory", smap, 5, 1, { 0xff, 0xc0, 0x0f, 0x01, 0xcb, 0xff, 0xc0, 0x0f, 0x01, 0xca, 0xff,
						     0xc0 } },
	/* inc eax; movaps xmm0, [20001h]; inc eax */
	{ "an operand that is not aligned", sse, 1, 0, { 0xff, 0xc0, 0x0f, 0x28, 0x04, 0x25, LE32(0x20001), 0xff, 0xc0 } },
	/* inc eax; addps xmm0, xmm0; inc eax */
	{ "exceptions that are not masked", open_sse, 3, 2, { 0xff, 0xc0, 0x0f, 0x58, 0xc0, 0xff, 0xc0 } },
	/* inc eax; mov rbx, 1 << 48; jmp rbx */
	{ "a jump to nowhere", NULL, 2, 0, { 0xff, 0xc0, 0x48, 0xbb, 0, 0, 0, 0, 0, 0, 1, 0, 0xff, 0xe3 } },
	/* mov ecx, 5000; mov edi, 20000h; rep stosb; mov eax, 1 */
	{ "a repeated string", NULL, 4, 0, { 0xb9, LE32(5000), 0xbf, LE32(0x20000), 0xf3, 0xaa, 0xb8, LE32(1) } },
	/* mov esi, 100; 1: cpuid; mov ecx, esi; dec esi; jns 1b */
	{ "what translated code does not have", NULL, 1 + 4 * 101, 102, { 0xbe, LE32(100), 0x0f, 0xa2, 0x89, 0xf1, 0xff,
										 0xce, 0x79, 0xf8 } },
};
/* clang-format on */

static void run(const struct program *p)
{
	uint64_t all = r.vm.vcpu->instructions;
	uint8_t code[sizeof(p->code) + 1];

	if ((p->prepare == sse || p->prepare == open_sse) && !x86_fp_host_ok())
		return;
	memcpy(code, p->code, sizeof(p->code));
	memset(code + sizeof(p->code), 0xf4, 1);
	for (unsigned n = sizeof(p->code); n-- && !p->code[n];)
		code[n] = 0xf4;
	rig_reset(&r, RIG_LONG);
	r.vm.kick_on_out = false;
	if (p->prepare)
		p->prepare();
	rig_exec(&r, code, sizeof(code));
	while (r.why == CPU_EXIT_KICKED)
		rig_run(&r);
	assert_int_equal(r.why, CPU_EXIT_HALTED);
	all = r.vm.vcpu->instructions - all;
	if (all != p->length + 1)
		fail_msg("%s: %d instructions, counted are %d", p->name, (int)p->length + 1, (int)all);
#if defined(__x86_64__)
	if (r.vm.engine == &engine_jit) {
		struct x86_cpu *cpu = tiny_cpu(&r.vm);
		const stat_t *handled = &jit_of(cpu)->counts.handled;
		uint64_t left = cpu->alone + *handled;

		if (left < p->left || left > cpu->interpreted + *handled || left > r.vm.vcpu->instructions)
			fail_msg("%s: %d by handlers, %d alone", p->name, (int)*handled, (int)cpu->alone);
	}
#endif
}

static void each_program_has_its_length(void **state)
{
	for (unsigned n = 0; n < sizeof(programs) / sizeof(programs[0]); n++) {
		rig_new(&r, RIG_LONG, NULL);
		for (unsigned round = 0; round < 3; round++)
			run(&programs[n]);
		rig_free(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(each_program_has_its_length) };

	setenv("VIREO_TEST_JIT_COUNT", "sums", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
