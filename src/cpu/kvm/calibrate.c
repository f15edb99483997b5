/*
 * How fast is kernel-mode code under this KVM? Some nested ones emulate it an instruction at a time, about a
 * microsecond each, where the translator is far faster. A throw-away guest without firmware counts down in
 * real mode for a bounded number of instructions and halts; the rate decides what `auto` takes. Other such guests
 * tell by what a debugger can stop vCPUs.
 */
#include <cpuid.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/now.h"
#include "cpu/kvm/kvm.h"

/* Two instructions a loop: enough to learn that each takes a microsecond, then enough to outweigh the exit. */
#define SHORT 1000u
#define LONG  60000u
#define SLOW  0.0002 /* seconds that the short one takes at 10 million instructions a second */
/* The best of several counts, because other work disturbs the measure: at least so many, and for so many seconds. */
#define ROUNDS 3
#define BUDGET 0.005
/* A software engine retires some hundred million a second: hardware is worth it from there on. */
#define FAST_MIPS 200.0
/* In the guest's memory. */
#define BREAK	  4
#define STORE	  6
#define STORED	  0x700
#define STACK	  0x800
#define VECTOR_BP 3
#define VECTOR_DB 1

struct guest {
	int kvm, vm, cpu;
	uint8_t *ram;
	struct kvm_run *run;
	size_t run_size;
};

static bool build(struct guest *g)
{
	/*
	 * 0: dec cx; jnz -3; hlt; BREAK: int3, whose handler by the vector table of zeros is at 0; nop; STORE: mov
	 * [STORED], al; hlt
	 */
	static const uint8_t code[] = { 0x49, 0x75, 0xfd, 0xf4, 0xcc, 0x90, 0xa2, 0x00, 0x07, 0xf4 };
	struct kvm_userspace_memory_region r = { .memory_size = 4096 };
	struct kvm_sregs s;

	g->vm = kvm_ioctl(g->kvm, KVM_CREATE_VM, NULL);
	g->ram = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (g->vm < 0 || g->ram == MAP_FAILED)
		return false;
	memcpy(g->ram, code, sizeof(code));
	r.userspace_addr = (uintptr_t)g->ram;
	kvm_ioctl(g->vm, KVM_SET_TSS_ADDR, (void *)0xfffbd000ul);
	if (kvm_ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &r))
		return false;
	g->cpu = kvm_ioctl(g->vm, KVM_CREATE_VCPU, NULL);
	if (g->cpu < 0)
		return false;
	g->run_size = (size_t)kvm_ioctl(g->kvm, KVM_GET_VCPU_MMAP_SIZE, NULL);
	g->run = mmap(NULL, g->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, g->cpu, 0);
	if (g->run == MAP_FAILED || kvm_ioctl(g->cpu, KVM_GET_SREGS, &s))
		return false;
	s.cs.base = 0;
	s.cs.selector = 0;
	return !kvm_ioctl(g->cpu, KVM_SET_SREGS, &s);
}

/* Seconds that so many loops take, or negative. */
static double count_down(struct guest *g, unsigned loops)
{
	struct kvm_regs r = { .rflags = 2, .rcx = loops };
	int64_t took;

	if (kvm_ioctl(g->cpu, KVM_SET_REGS, &r))
		return -1;
	took = -now_ns();
	if (kvm_ioctl(g->cpu, KVM_RUN, NULL) || g->run->exit_reason != KVM_EXIT_HLT)
		return -1;
	took += now_ns();
	return (double)took / 1e9;
}

static void release(struct guest *g)
{
	if (g->run && g->run != MAP_FAILED)
		munmap(g->run, g->run_size);
	if (g->cpu >= 0)
		close(g->cpu);
	if (g->vm >= 0)
		close(g->vm);
	if (g->ram && g->ram != MAP_FAILED)
		munmap(g->ram, 4096);
}

/* Where a guest that begins at `rip` stops by one way. */
static const struct stop_probe {
	uint64_t rip, pc;
	uint32_t exception, control;
	uint64_t dr0, dr7;
} stop_probes[KVM_STOP_WAYS] = {
	[KVM_STOP_INT3] = { BREAK, BREAK, VECTOR_BP, KVM_GUESTDBG_USE_SW_BP, 0, 0x400 },
	[KVM_STOP_INSN] = { BREAK + 1, STORE, VECTOR_DB, KVM_GUESTDBG_USE_HW_BP, STORE, 0x402 },
	/* Bits 17:16: writes. */
	[KVM_STOP_DATA] = { BREAK + 1, STORE + 3, VECTOR_DB, KVM_GUESTDBG_USE_HW_BP, STORED, 0x10402 },
};

/* Not every KVM does what it takes the flag for: those that emulate watch no data, and some give INT3s to the guest. */
bool kvm_stops_by(int kvm, enum kvm_stop_way way)
{
	const struct stop_probe *p = &stop_probes[way];
	struct guest g = { .kvm = kvm, .vm = -1, .cpu = -1 };
	struct kvm_guest_debug d = { .control = KVM_GUESTDBG_ENABLE | p->control,
				     .arch.debugreg = { [0] = p->dr0, [7] = p->dr7 } };
	struct kvm_regs r = { .rflags = 2, .rcx = 1, .rip = p->rip, .rsp = STACK };
	bool stops = build(&g) && !kvm_ioctl(g.cpu, KVM_SET_REGS, &r) && !kvm_ioctl(g.cpu, KVM_SET_GUEST_DEBUG, &d) &&
		     !kvm_ioctl(g.cpu, KVM_RUN, NULL) && g.run->exit_reason == KVM_EXIT_DEBUG &&
		     g.run->debug.arch.exception == p->exception && g.run->debug.arch.pc == p->pc;

	release(&g);
	return stops;
}

/* SVM or VMX, by which a processor tells its KVM of hypercalls in kernel mode. */
static bool processor_helps(void)
{
	uint32_t a, b, c = 0, d;

	return (__get_cpuid(0x80000001, &a, &b, &c, &d) && c >> 2 & 1) ||
	       (__get_cpuid(1, &a, &b, &c, &d) && c >> 5 & 1);
}

/*
 * KVM's emulator does no hypercalls: it writes the processor's own form over one, for the processor to execute. Where
 * the emulator executes all of kernel mode, that is done again and again. Without this quirk it raises #UD.
 */
bool kvm_hypercalls(int vm)
{
	struct kvm_enable_cap off = { .cap = KVM_CAP_DISABLE_QUIRKS2, .args = { KVM_X86_QUIRK_FIX_HYPERCALL_INSN } };

	if (processor_helps())
		return true;
	kvm_ioctl(vm, KVM_ENABLE_CAP, &off);
	return false;
}

void kvm_calibrate(struct engine_probe *p, int kvm)
{
	struct guest g = { .kvm = kvm, .vm = -1, .cpu = -1 };
	double best = INFINITY, mips, spent = 0, t;
	unsigned loops;

	if (build(&g)) {
		loops = SHORT;
		/* The first run warms up what the host needs for it. */
		count_down(&g, loops);
		for (unsigned n = 0; n < ROUNDS || (spent < BUDGET && n < 10 * ROUNDS); n++, spent += t) {
			t = count_down(&g, loops);
			if (t <= 0)
				break;
			if (t / loops < best)
				best = t / loops;
			if (t < SLOW)
				loops = LONG;
		}
	}
	release(&g);
	if (best == INFINITY) {
		p->available = false;
		snprintf(p->why, sizeof(p->why), "a test guest does not run");
		return;
	}
	mips = 2 / best / 1e6;
	p->fast = mips >= FAST_MIPS;
	snprintf(p->why, sizeof(p->why), "kernel-mode code runs at %.3g million instructions a second%s", mips,
		 p->fast ? "" : ": emulated, a software engine is faster");
}
