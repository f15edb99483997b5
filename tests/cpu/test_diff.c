/*
 * Single integer instructions with random operands, in the interpreter and on the host processor: all
 * registers and all defined flags must agree. VIREO_DIFF_COUNT sets how many (default 10 million).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tiny_vm.h"

#if defined(__x86_64__)

/* What the host runs on: registers by number (RSP unused), then flags. */
struct host_regs {
	uint64_t gpr[16];
	uint64_t flags;
};
void diff_run_host(struct host_regs *r, const void *code);

__asm__(".pushsection .bss\n"
	".balign 8\n"
	"diff_regs: .quad 0\n"
	"diff_code: .quad 0\n"
	"diff_rdi: .quad 0\n"
	".popsection\n"
	".pushsection .text\n"
	".globl diff_run_host\n"
	"diff_run_host:\n"
	"push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"mov %rdi, diff_regs(%rip); mov %rsi, diff_code(%rip)\n"
	"pushq 128(%rdi); popfq\n"
	"mov (%rdi), %rax; mov 8(%rdi), %rcx; mov 16(%rdi), %rdx; mov 24(%rdi), %rbx; mov 40(%rdi), %rbp\n"
	"mov 48(%rdi), %rsi; mov 64(%rdi), %r8; mov 72(%rdi), %r9; mov 80(%rdi), %r10; mov 88(%rdi), %r11\n"
	"mov 96(%rdi), %r12; mov 104(%rdi), %r13; mov 112(%rdi), %r14; mov 120(%rdi), %r15; mov 56(%rdi), %rdi\n"
	"call *diff_code(%rip)\n"
	"mov %rdi, diff_rdi(%rip); mov diff_regs(%rip), %rdi\n"
	"mov %rax, (%rdi); mov %rcx, 8(%rdi); mov %rdx, 16(%rdi); mov %rbx, 24(%rdi); mov %rbp, 40(%rdi)\n"
	"mov %rsi, 48(%rdi); mov %r8, 64(%rdi); mov %r9, 72(%rdi); mov %r10, 80(%rdi); mov %r11, 88(%rdi)\n"
	"mov %r12, 96(%rdi); mov %r13, 104(%rdi); mov %r14, 112(%rdi); mov %r15, 120(%rdi)\n"
	"pushfq; popq 128(%rdi)\n"
	"mov diff_rdi(%rip), %rax; mov %rax, 56(%rdi)\n"
	"cld\n"
	"pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"ret\n"
	".popsection\n");

/* Undefined flags of a form; SHIFT depends on the count. */
enum undefined {
	NONE,
	LOGIC = X86_AF,
	MUL = X86_SF | X86_ZF | X86_AF | X86_PF,
	BITS = X86_OF | X86_SF | X86_AF | X86_PF,
	SCAN = X86_CF | X86_OF | X86_SF | X86_AF | X86_PF,
	SHIFT = 1 << 30,
	ROTATE = 1 << 29,
	DOUBLE = 1 << 28
};

/* Register forms: opcode range, fixed ModRM.reg (or -1), whether 8-bit, immediate bytes (-1: by operand size). */
static const struct form {
	uint8_t map, lo, hi;
	int8_t ext;
	bool byte;
	int8_t imm;
	uint32_t undef;
} forms[] = {
	{ 0, 0x00, 0x00, -1, true, 0, NONE },	 { 0, 0x01, 0x01, -1, false, 0, NONE },
	{ 0, 0x02, 0x02, -1, true, 0, NONE },	 { 0, 0x03, 0x03, -1, false, 0, NONE },
	{ 0, 0x08, 0x08, -1, true, 0, LOGIC },	 { 0, 0x0b, 0x0b, -1, false, 0, LOGIC },
	{ 0, 0x10, 0x10, -1, true, 0, NONE },	 { 0, 0x11, 0x11, -1, false, 0, NONE },
	{ 0, 0x18, 0x18, -1, true, 0, NONE },	 { 0, 0x1b, 0x1b, -1, false, 0, NONE },
	{ 0, 0x20, 0x20, -1, true, 0, LOGIC },	 { 0, 0x21, 0x21, -1, false, 0, LOGIC },
	{ 0, 0x28, 0x28, -1, true, 0, NONE },	 { 0, 0x29, 0x29, -1, false, 0, NONE },
	{ 0, 0x30, 0x30, -1, true, 0, LOGIC },	 { 0, 0x33, 0x33, -1, false, 0, LOGIC },
	{ 0, 0x38, 0x38, -1, true, 0, NONE },	 { 0, 0x39, 0x39, -1, false, 0, NONE },
	{ 0, 0x3a, 0x3a, -1, true, 0, NONE },	 { 0, 0x3b, 0x3b, -1, false, 0, NONE },
	{ 0, 0x84, 0x84, -1, true, 0, LOGIC },	 { 0, 0x85, 0x85, -1, false, 0, LOGIC },
	{ 0, 0x86, 0x86, -1, true, 0, NONE },	 { 0, 0x87, 0x87, -1, false, 0, NONE },
	{ 0, 0x88, 0x88, -1, true, 0, NONE },	 { 0, 0x8b, 0x8b, -1, false, 0, NONE },
	{ 0, 0x80, 0x80, 0, true, 1, NONE },	 { 0, 0x81, 0x81, 2, false, -1, NONE },
	{ 0, 0x83, 0x83, 3, false, 1, NONE },	 { 0, 0x83, 0x83, 5, false, 1, NONE },
	{ 0, 0x81, 0x81, 7, false, -1, NONE },	 { 0, 0x83, 0x83, 4, false, 1, LOGIC },
	{ 0, 0x80, 0x80, 7, true, 1, NONE },	 { 0, 0xfe, 0xfe, 0, true, 0, NONE },
	{ 0, 0xfe, 0xfe, 1, true, 0, NONE },	 { 0, 0xff, 0xff, 0, false, 0, NONE },
	{ 0, 0xff, 0xff, 1, false, 0, NONE },	 { 0, 0xf6, 0xf6, 2, true, 0, NONE },
	{ 0, 0xf7, 0xf7, 2, false, 0, NONE },	 { 0, 0xf6, 0xf6, 3, true, 0, NONE },
	{ 0, 0xf7, 0xf7, 3, false, 0, NONE },	 { 0, 0xf6, 0xf6, 4, true, 0, MUL },
	{ 0, 0xf7, 0xf7, 4, false, 0, MUL },	 { 0, 0xf6, 0xf6, 5, true, 0, MUL },
	{ 0, 0xf7, 0xf7, 5, false, 0, MUL },	 { 0, 0x69, 0x69, -1, false, -1, MUL },
	{ 0, 0x6b, 0x6b, -1, false, 1, MUL },	 { 1, 0xaf, 0xaf, -1, false, 0, MUL },
	{ 0, 0xc0, 0xc0, 0, true, 1, ROTATE },	 { 0, 0xc1, 0xc1, 0, false, 1, ROTATE },
	{ 0, 0xd2, 0xd2, 1, true, 0, ROTATE },	 { 0, 0xd3, 0xd3, 1, false, 0, ROTATE },
	{ 0, 0xc0, 0xc0, 2, true, 1, ROTATE },	 { 0, 0xd3, 0xd3, 2, false, 0, ROTATE },
	{ 0, 0xd2, 0xd2, 3, true, 0, ROTATE },	 { 0, 0xc1, 0xc1, 3, false, 1, ROTATE },
	{ 0, 0xc0, 0xc0, 4, true, 1, SHIFT },	 { 0, 0xd3, 0xd3, 4, false, 0, SHIFT },
	{ 0, 0xd2, 0xd2, 5, true, 0, SHIFT },	 { 0, 0xc1, 0xc1, 5, false, 1, SHIFT },
	{ 0, 0xc0, 0xc0, 7, true, 1, SHIFT },	 { 0, 0xd3, 0xd3, 7, false, 0, SHIFT },
	{ 0, 0xd1, 0xd1, 4, false, 0, LOGIC },	 { 0, 0xd1, 0xd1, 7, false, 0, LOGIC },
	{ 0, 0xd0, 0xd0, 2, true, 0, NONE },	 { 0, 0xd1, 0xd1, 3, false, 0, NONE },
	{ 1, 0xa4, 0xa4, -1, false, 1, DOUBLE }, { 1, 0xad, 0xad, -1, false, 0, DOUBLE },
	{ 1, 0xa3, 0xa3, -1, false, 0, BITS },	 { 1, 0xab, 0xab, -1, false, 0, BITS },
	{ 1, 0xb3, 0xb3, -1, false, 0, BITS },	 { 1, 0xbb, 0xbb, -1, false, 0, BITS },
	{ 1, 0xba, 0xba, 4, false, 1, BITS },	 { 1, 0xba, 0xba, 5, false, 1, BITS },
	{ 1, 0xba, 0xba, 6, false, 1, BITS },	 { 1, 0xba, 0xba, 7, false, 1, BITS },
	{ 1, 0xbc, 0xbc, -1, false, 0, SCAN },	 { 1, 0xbd, 0xbd, -1, false, 0, SCAN },
	{ 1, 0xb6, 0xb6, -1, true, 0, NONE },	 { 1, 0xb7, 0xb7, -1, false, 0, NONE },
	{ 1, 0xbe, 0xbe, -1, true, 0, NONE },	 { 1, 0xbf, 0xbf, -1, false, 0, NONE },
	{ 0, 0x63, 0x63, -1, false, 0, NONE },	 { 1, 0x40, 0x4f, -1, false, 0, NONE },
	{ 1, 0x90, 0x9f, -1, true, 0, NONE },	 { 1, 0xb0, 0xb0, -1, true, 0, NONE },
	{ 1, 0xb1, 0xb1, -1, false, 0, NONE },	 { 1, 0xc0, 0xc0, -1, true, 0, NONE },
	{ 1, 0xc1, 0xc1, -1, false, 0, NONE },	 { 0, 0xc7, 0xc7, 0, false, -1, NONE },
};

static uint64_t seed = 0x9e3779b97f4a7c15;
static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* Values near the edges as often as any. */
static uint64_t operand(void)
{
	static const uint64_t edges[] = { 0,	  1,	      ~0ull,	  0x7f,	      0x80,	    0x7fff,
					  0x8000, 0x7fffffff, 0x80000000, 1ull << 63, ~(1ull << 63) };
	uint64_t r = rnd();

	return r & 3 ? rnd() >> (r >> 8 & 63) : edges[r % ARRAY_LEN(edges)];
}

struct sample {
	uint8_t code[16];
	unsigned len, bits;
	bool rex;
};

/* RSP must not be touched: it holds the host's stack. */
static unsigned pick_reg(bool byte, bool rex, bool high)
{
	unsigned r;

	do
		r = rnd() & 7;
	while (r == 4 && !(byte && !rex) && !high);
	return r;
}

static void generate(const struct form *f, struct sample *s)
{
	unsigned rex = rnd() & 1 ? 0x40 | (rnd() & 13) : 0, ext, rm, n = 0;

	if (rex & 8)
		s->bits = 64;
	else
		s->bits = rnd() & 3 ? 32 : 16;
	if (s->bits == 16)
		s->code[n++] = 0x66;
	if (rex)
		s->code[n++] = rex;
	if (f->map)
		s->code[n++] = 0x0f;
	s->code[n++] = f->lo + rnd() % (f->hi - f->lo + 1u);
	ext = f->ext >= 0 ? (unsigned)f->ext : pick_reg(f->byte, rex, rex & 4);
	/* MOVZX and MOVSX from a byte have a full-size destination. */
	if (f->map && (f->lo & 0xf7) == 0xb6 && ext == 4 && !(rex & 4))
		ext = 5;
	rm = pick_reg(f->byte, rex, rex & 1);
	s->code[n++] = 0xc0 | ext << 3 | rm;
	if (f->byte)
		s->bits = f->map && (f->lo & 0xf7) == 0xb6 ? s->bits : 8;
	unsigned imm = f->imm >= 0 ? (unsigned)f->imm : s->bits == 16 ? 2 : 4;
	for (unsigned k = 0; k < imm; k++)
		s->code[n++] = (uint8_t)rnd();
	s->len = n;
	s->rex = rex;
}

static uint32_t undefined_flags(const struct form *f, const struct sample *s, const struct host_regs *r, bool *skip)
{
	unsigned width = s->bits, count;
	bool by_cl = f->map ? f->lo & 1 : f->lo >= 0xd2;

	if (!(f->undef & (SHIFT | ROTATE | DOUBLE)))
		return f->undef;
	count = (by_cl ? r->gpr[X86_RCX] : s->code[s->len - 1]) & (width == 64 ? 63 : 31);
	if (!count)
		return 0;
	if (f->undef & ROTATE)
		return count == 1 ? 0 : X86_OF;
	if (f->undef & DOUBLE && count > width)
		*skip = true; /* the result itself is undefined */
	return X86_AF | (count == 1 ? 0 : X86_OF) | (count >= width ? X86_CF : 0);
}

static void describe(const struct sample *s, const struct host_regs *in, const struct host_regs *host,
		     const struct host_regs *own)
{
	fprintf(stderr, "code:");
	for (unsigned n = 0; n < s->len; n++)
		fprintf(stderr, " %02x", s->code[n]);
	fprintf(stderr, "\nflags in %03llx host %03llx own %03llx\n", (unsigned long long)in->flags & X86_ARITH,
		(unsigned long long)host->flags & X86_ARITH, (unsigned long long)own->flags & X86_ARITH);
	for (unsigned r = 0; r < 16; r++)
		if (host->gpr[r] != own->gpr[r])
			fprintf(stderr, "gpr[%u] in %016llx host %016llx own %016llx\n", r,
				(unsigned long long)in->gpr[r], (unsigned long long)host->gpr[r],
				(unsigned long long)own->gpr[r]);
}

/* Follows the instruction under test, as the end of a trace would. */
static const struct x86_insn *stop(struct x86_cpu *cpu, const struct x86_insn *i)
{
	return NULL;
}

static void the_interpreter_agrees_with_the_host(void **state)
{
	const char *wanted = getenv("VIREO_DIFF_COUNT");
	uint64_t count = wanted ? strtoull(wanted, NULL, 0) : 10000000, mismatches = 0;
	/* Written through one mapping, run through the other. */
	int fd = memfd_create("diff", MFD_CLOEXEC);
	struct tiny_vm vm;

	assert_int_equal(ftruncate(fd, 4096), 0);
	uint8_t *rw = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	const void *rx = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	tiny_vm_new(&vm);
	tiny_vm_load64(&vm, "\xf4", 1);
	struct x86_cpu *cpu = tiny_cpu(&vm);

	for (uint64_t n = 0; n < count; n += 8) {
		const struct form *f = &forms[rnd() % ARRAY_LEN(forms)];
		struct sample s;
		struct x86_insn insn[2] = { [1] = { .fn = stop } };

		generate(f, &s);
		assert_int_equal(x86_decode(s.code, s.len, (struct x86_decode_mode){ 64, false }, insn, NULL),
				 X86_DECODE_OK);
		assert_int_equal(insn[0].len, s.len);
		memcpy(rw, s.code, s.len);
		rw[s.len] = 0xc3;
		for (unsigned round = 0; round < 8; round++) {
			struct host_regs in, host, own = { 0 };
			bool skip = false;
			uint32_t mask;

			for (unsigned r = 0; r < 16; r++)
				in.gpr[r] = r == X86_RSP ? 0 : operand();
			in.flags = (rnd() & X86_ARITH) | 0x202;
			mask = X86_ARITH & ~undefined_flags(f, &s, &in, &skip);
			if (skip)
				continue;
			host = in;
			diff_run_host(&host, rx);
			memcpy(cpu->s.gpr, in.gpr, sizeof(in.gpr));
			cpu->s.gpr[X86_RIP] = TINY_CODE;
			x86_lazy_set(&cpu->lazy, (uint32_t)in.flags);
			insn[0].fn(cpu, insn);
			memcpy(own.gpr, cpu->s.gpr, sizeof(own.gpr));
			own.flags = x86_lazy_get(&cpu->lazy);
			if (memcmp(own.gpr, host.gpr, sizeof(own.gpr)) || (own.flags ^ host.flags) & mask ||
			    cpu->s.gpr[X86_RIP] != TINY_CODE + s.len) {
				if (++mismatches <= 5)
					describe(&s, &in, &host, &own);
			}
		}
	}
	tiny_vm_free(&vm);
	assert_int_equal(mismatches, 0);
}

#else

static void the_interpreter_agrees_with_the_host(void **state)
{
	puts("skipped: the host is not an x86-64 processor");
	skip();
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(the_interpreter_agrees_with_the_host) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
