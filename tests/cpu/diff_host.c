/*
 * Runs the cases of a batch on the host processor. A process of its own, without libc, floating point,
 * thread-local storage or anything else that a wild block could break or that would stand in its
 * way: all general registers, FS, GS and the whole FPU belong to the block. It lies where the kernel puts position
 * independent programs, so that small numbers point to nothing.
 *
 * Protocol: descriptor 3 is the file of diff.h; a byte on descriptor 0 asks for a batch, the same byte
 * on descriptor 1 says that it is done. A block ends at DIFF_EXIT or by a signal.
 */
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <elf.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "diff.h"

static struct diff_shared *const shared = (struct diff_shared *)DIFF_SHARED;

static long sys(long n, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = 0;

	__asm__ volatile("syscall"
			 : "+a"(n)
			 : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return n;
}

static _Noreturn void die(int status)
{
	for (;;)
		sys(SYS_exit_group, status, 0, 0, 0, 0);
}

static void copy(void *dst, const void *src, size_t n)
{
	__asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(n)::"memory");
}

/* --- into a block and back --- */

uint64_t host_target __attribute__((used)); /* where the block is entered, near and */
struct {
	uint32_t offset;
	uint16_t sel;
} __attribute__((packed)) host_target_far __attribute__((used)); /* far */
uint64_t host_regs[17] __attribute__((used));			 /* general registers, then flags */
uint64_t host_rsp __attribute__((used));
uint16_t host_ss __attribute__((used));
uint8_t host_fx[512] __attribute__((used, aligned(16)));
uint8_t host_high[256] __attribute__((used));
uint32_t host_avx __attribute__((used));  /* the upper halves exist */
uint32_t host_done __attribute__((used)); /* the number of the block that came to its end */

/* 1: a block came to its exit, host_regs and host_fx are filled. 0: a signal, see host_caught(). */
int host_enter(const struct diff_state *in, const uint16_t *sel, int compat);
void host_exits(void); /* one for each block, HOST_EXIT bytes apart */
void host_signal(void);
void host_caught(const ucontext_t *uc);

#define HOST_EXIT 16
_Static_assert(HOST_EXIT == 16 && DIFF_BLOCKS == 8, "as the assembler is told");
/* These change neither registers nor flags. */
__asm__(".pushsection .text\n\t"
	".set block, 0; .balign 16\n"
	"host_exits:\n\t"
	".rept 8; .balign 16; movl $block, host_done(%rip); jmp host_exit; .set block, block + 1; .endr\n"
	".popsection\n");

#define GPRS(X)                                                                                                        \
	X("rax", 0)                                                                                                    \
	X("rcx", 8)                                                                                                    \
	X("rdx", 16)                                                                                                   \
	X("rbx", 24)                                                                                                   \
	X("rbp", 40)                                                                                                   \
	X("rsi", 48)                                                                                                   \
	X("r8", 64)                                                                                                    \
	X("r9", 72)                                                                                                    \
	X("r10", 80)                                                                                                   \
	X("r11", 88) X("r12", 96) X("r13", 104) X("r14", 112) X("r15", 120) X("rsp", 32) X("rdi", 56)
#define HIGH(X)                                                                                                        \
	X("0", "0")                                                                                                    \
	X("1", "16")                                                                                                   \
	X("2", "32")                                                                                                   \
	X("3", "48")                                                                                                   \
	X("4", "64")                                                                                                   \
	X("5", "80")                                                                                                   \
	X("6", "96")                                                                                                   \
	X("7", "112")                                                                                                  \
	X("8", "128")                                                                                                  \
	X("9", "144")                                                                                                  \
	X("10", "160") X("11", "176") X("12", "192") X("13", "208") X("14", "224") X("15", "240")
#define LOAD_HIGH(n, at) "vinsertf128 $1, 656+" at "(%rdi), %ymm" n ", %ymm" n "\n\t"
#define SAVE_HIGH(n, at) "vextractf128 $1, %ymm" n ", host_high+" at "(%rip)\n\t"
#define LOAD(r, at)	 "mov " #at "(%rdi), %" r "\n\t"
#define SAVE(r, at)	 "mov %" r ", host_regs+" #at "(%rip)\n\t"
__asm__(".pushsection .text\n"
	"host_enter:\n\t"
	"push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n\t"
	"mov %rsp, host_rsp(%rip)\n\t"
	"fxrstor64 144(%rdi)\n\t"
	"testl $1, host_avx(%rip); jz 2f\n\t" HIGH(
		LOAD_HIGH) "2:\n\t"
			   "test %edx, %edx; jz 1f\n\t"
			   "mov 0(%rsi), %es; mov 4(%rsi), %ss; mov 6(%rsi), %ds; mov 8(%rsi), %fs; mov 10(%rsi), "
			   "%gs\n\t"
			   "pushq 136(%rdi); popfq\n\t" GPRS(
				   LOAD) "ljmpl *host_target_far(%rip)\n"
					 "1:\n\t"
					 "pushq 136(%rdi); popfq\n\t" GPRS(
						 LOAD) "jmp *host_target(%rip)\n"
						       "host_exit:\n\t" GPRS(
							       SAVE) "mov host_rsp(%rip), %rsp\n\t"
								     "pushfq; popq host_regs+128(%rip)\n\t"
								     "push $2; popfq\n\t"
								     "fxsave64 host_fx(%rip)\n\t"
								     "testl $1, host_avx(%rip); jz 2f\n\t" HIGH(
									     SAVE_HIGH) "2:\n\t"
											"mov %ss, host_ss(%rip); mov "
											"$0x2b, %eax; mov %eax, %ss\n\t"
											"mov $1, %eax\n"
											"host_back:\n\t"
											"pop %r15; pop %r14; pop %r13; "
											"pop %r12; pop %rbp; pop "
											"%rbx\n\t"
											"ret\n"
											/* The kernel leaves AC as the
											   block had it. */
											"host_signal:\n\t"
											"pushfq; andl $~0x40000, "
											"(%rsp); popfq\n\t"
											"mov host_rsp(%rip), %rsp\n\t"
											"mov %rdx, %rdi\n\t"
											"sub $8, %rsp; call "
											"host_caught; add $8, %rsp\n\t"
											"xor %eax, %eax; jmp "
											"host_back\n"
											".globl _start\n"
											"_start:\n\t"
											"xor %ebp, %ebp; lea "
											"host_stack+65536(%rip), %rsp; "
											"call host_relocate; "
											"call host_main\n"
											".popsection\n");

static struct diff_result *result;

/* The signal frame holds an XSAVE area: XSTATE_BV at 512 tells whether the upper halves are there or are zero. */
static void caught_high(const uint8_t *area)
{
	for (unsigned n = 0; n < sizeof(result->s.high); n++)
		(&result->s.high[0][0])[n] = 0;
	if (host_avx && area[512] & 4)
		copy(result->s.high, area + 576, sizeof(result->s.high));
}

void host_caught(const ucontext_t *uc)
{
	static const uint8_t order[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
					   REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
	const greg_t *g = uc->uc_mcontext.gregs;

	for (unsigned n = 0; n < 16; n++)
		result->s.gpr[n] = (uint64_t)g[order[n]];
	result->s.rip = (uint64_t)g[REG_RIP];
	result->s.rflags = (uint64_t)g[REG_EFL];
	result->vector = (uint32_t)g[REG_TRAPNO];
	result->error = (uint32_t)g[REG_ERR];
	result->cr2 = (uint64_t)g[REG_CR2];
	result->sel[1] = (uint16_t)g[REG_CSGSFS];
	result->sel[2] = (uint16_t)(g[REG_CSGSFS] >> 48);
	copy(result->s.fx, uc->uc_mcontext.fpregs, 512);
	caught_high((const uint8_t *)uc->uc_mcontext.fpregs);
}

static void run(struct diff_slot *slot, const struct diff_mode_info *mode)
{
	result = &slot->host;
	copy((void *)DIFF_DATA, slot->mem, DIFF_RW);
	host_target = slot->entry;
	host_target_far.offset = (uint32_t)slot->entry;
	host_target_far.sel = mode->sel[1];
	if (host_enter(&slot->in, mode->sel, mode->bits != 64)) {
		copy(result->s.gpr, host_regs, sizeof(result->s.gpr));
		result->s.rflags = host_regs[16];
		copy(result->s.fx, host_fx, 512);
		copy(result->s.high, host_high, sizeof(host_high));
		result->vector = DIFF_DONE;
		result->exit = host_done;
		result->error = 0;
		result->cr2 = 0;
		result->sel[1] = DIFF_CS64;
		result->sel[2] = host_ss;
	}
	__asm__("mov %%es, %0; mov %%ds, %1; mov %%fs, %2; mov %%gs, %3"
		: "=m"(result->sel[0]), "=m"(result->sel[3]), "=m"(result->sel[4]), "=m"(result->sel[5]));
	copy(result->mem, (const void *)DIFF_DATA, DIFF_RW);
}

/* FS and GS were given to segments by a compatibility-mode batch. */
static void bases(void)
{
	__asm__ volatile("mov %0, %%fs; mov %0, %%gs; mov %0, %%ds; mov %0, %%es" ::"r"(0));
	sys(SYS_arch_prctl, ARCH_SET_FS, DIFF_FS_BASE, 0, 0, 0);
	sys(SYS_arch_prctl, ARCH_SET_GS, DIFF_GS_BASE, 0, 0, 0);
}

/* --- setting up --- */

static void map(uint64_t at, size_t len, int prot, int flags, uint64_t offset)
{
	register long r10 __asm__("r10") = MAP_FIXED | MAP_POPULATE | flags,
			  r8 __asm__("r8") = flags & MAP_ANONYMOUS ? -1 : 3, r9 __asm__("r9") = (long)offset;
	long r = SYS_mmap;

	__asm__ volatile("syscall"
			 : "+a"(r)
			 : "D"(at), "S"(len), "d"(prot), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	if ((uint64_t)r != at)
		die(2);
}

/* From each exit in the page at `at` to one of those at `to`. */
static void put_exits(uint64_t at, uint64_t to, unsigned step)
{
	for (unsigned n = 0; n < DIFF_BLOCKS; n++)
		diff_exit_code((uint8_t *)(at + DIFF_EXIT_STEP * n), to + step * n);
	sys(SYS_mprotect, (long)at, 4096, PROT_READ | PROT_EXEC, 0, 0);
}

static void map_all(void)
{
	map(DIFF_SHARED, DIFF_FILE_CODE, PROT_READ | PROT_WRITE, MAP_SHARED, DIFF_FILE_SHARED);
	for (uint64_t high = 0; high <= DIFF_HIGH; high += DIFF_HIGH) {
		map(DIFF_CODE + high, DIFF_CODE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, DIFF_FILE_CODE);
		map(DIFF_DATA + high, DIFF_RW, PROT_READ | PROT_WRITE, MAP_SHARED, DIFF_FILE_DATA);
		map(DIFF_DATA + high + DIFF_RW, DIFF_RO, PROT_READ, MAP_SHARED, DIFF_FILE_DATA + DIFF_RW);
		map(DIFF_EXIT + high, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
		put_exits(DIFF_EXIT + high, DIFF_EXITS, DIFF_EXIT_STEP);
	}
	map(DIFF_EXITS, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
	put_exits(DIFF_EXITS, (uint64_t)host_exits, HOST_EXIT);
}

/* As the kernel wants it. */
struct action {
	void (*handler)(void);
	uint64_t flags;
	void (*restorer)(void);
	uint64_t mask;
};

static void handle(int sig)
{
	const struct action a = { host_signal, SA_SIGINFO | SA_ONSTACK | SA_NODEFER | 0x04000000 /* SA_RESTORER */,
				  host_exits, 0 };

	sys(SYS_rt_sigaction, sig, (long)&a, 0, 8, 0);
}

static void set_ldt(void)
{
	for (unsigned n = 0; n < DIFF_LDT_ENTRIES; n++) {
		const struct diff_ldt *l = &diff_ldt[n];
		const struct user_desc d = {
			.entry_number = n,
			.base_addr = l->base,
			.limit = l->limit,
			.seg_32bit = l->bits32,
			.contents = l->contents,
			.read_exec_only = l->read_only,
			.useable = 1,
		};

		if ((int)sys(SYS_modify_ldt, 0x11, (long)&d, sizeof(d), 0, 0))
			shared->no_ldt = 1;
	}
}

/* AVX, and a kernel that keeps its state. */
static uint32_t has_avx(void)
{
	uint32_t a = 1, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	if (!(c >> 27 & 1) || !(c >> 28 & 1))
		return 0;
	__asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	return (a & 6) == 6;
}

extern const Elf64_Ehdr __ehdr_start __attribute__((visibility("hidden")));
extern const Elf64_Dyn _DYNAMIC[] __attribute__((visibility("hidden")));

/* What the dynamic loader would do, before anything is read that has an address in it. */
void host_relocate(void);
void host_relocate(void)
{
	uint64_t base = (uint64_t)&__ehdr_start, size = 0;
	const Elf64_Rela *r = NULL;

	for (const Elf64_Dyn *d = _DYNAMIC; d->d_tag != DT_NULL; d++) {
		if (d->d_tag == DT_RELA)
			r = (const Elf64_Rela *)(base + d->d_un.d_ptr);
		else if (d->d_tag == DT_RELASZ)
			size = d->d_un.d_val;
	}
	for (uint64_t n = 0; n < size / sizeof(*r); n++)
		*(uint64_t *)(base + r[n].r_offset) = base + (uint64_t)r[n].r_addend;
}

extern const uint8_t _end[] __attribute__((visibility("hidden")));
uint8_t host_stack[65536] __attribute__((used, aligned(64)));

/*
 * Whatever else the kernel mapped is not there in the guest: its stack and the VDSO go. If it keeps some of it, all of
 * that part of the address space counts as this process's own.
 */
static void unmap_others(void)
{
	uint64_t begin = (uint64_t)&__ehdr_start & ~0xfffull, end = ((uint64_t)_end + 0xfff) & ~0xfffull;
	const uint64_t low = DIFF_SHARED + DIFF_FILE_CODE, top = (1ull << 47) - 4096;
	bool gone = begin > low && !sys(SYS_munmap, (long)low, (long)(begin - low), 0, 0, 0) &&
		    !sys(SYS_munmap, (long)end, (long)(top - end), 0, 0, 0);

	shared->own[0].begin = DIFF_EXITS;
	shared->own[0].end = low;
	shared->own[1].begin = gone ? begin : low;
	shared->own[1].end = gone ? end : top;
}

_Noreturn void host_main(void);
_Noreturn void host_main(void)
{
	static uint8_t stack[65536] __attribute__((aligned(64)));
	const stack_t alt = { .ss_sp = stack, .ss_size = sizeof(stack) };
	char c;

	map_all();
	unmap_others();
	shared->avx = host_avx = has_avx();
	sys(SYS_sigaltstack, (long)&alt, 0, 0, 0, 0);
	handle(SIGSEGV);
	handle(SIGBUS);
	handle(SIGILL);
	handle(SIGFPE);
	handle(SIGTRAP);
	set_ldt();
	while (sys(SYS_read, 0, (long)&c, 1, 0, 0) == 1) {
		bases();
		for (uint32_t n = 0; n < shared->count; n++) {
			shared->running = n;
			run(&shared->slot[n], &diff_modes[shared->mode]);
			if (shared->slot[n].segments)
				bases();
		}
		sys(SYS_write, 1, (long)&c, 1, 0, 0);
	}
	die(0);
}

/* What a compiler may call by itself. */
void *memcpy(void *dst, const void *src, size_t n);
void *memset(void *dst, int v, size_t n);
void *memcpy(void *dst, const void *src, size_t n)
{
	copy(dst, src, n);
	return dst;
}

void *memset(void *dst, int v, size_t n)
{
	void *d = dst;

	__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(v) : "memory");
	return dst;
}
