/* A vCPU's loop: news, interrupts, KVM_RUN, and what the exit asks for. See vcpu.h. */
#include "cpu/kvm/vcpu.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define KICK_SIGNAL SIGUSR1
#define INSN_BYTES  15u

/* --- calling a vCPU out of the guest --- */

static void on_kick(int sig)
{
}

/* The vCPU's thread takes the signal although the machine's threads block all. */
static void accept_kicks(void)
{
	struct sigaction a = { .sa_handler = on_kick };
	sigset_t kick;

	sigaction(KICK_SIGNAL, &a, NULL);
	sigemptyset(&kick);
	sigaddset(&kick, KICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
}

/*
 * A signal that comes before KVM_RUN would be lost, so immediate_exit is set first: one of the two is seen. The thread
 * clears it before it looks at the events.
 */
void kvm_vcpu_poke(struct vcpu *v)
{
	struct kvm_cpu *cpu = kvm_cpu_of(v);

	__atomic_store_n(&cpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (atomic_load(&cpu->running) && !pthread_equal(cpu->thread, pthread_self()))
		pthread_kill(cpu->thread, KICK_SIGNAL);
}

void kvm_vcpu_finish(struct kvm_cpu *cpu)
{
	if (!cpu->unfinished)
		return;
	cpu->unfinished = false;
	cpu->run->immediate_exit = 1;
	ioctl(cpu->fd, KVM_RUN, NULL); /* ends with EINTR before the next instruction */
}

void kvm_vcpu_break(struct kvm_cpu *cpu, const struct err *why)
{
	cpu->vcpu.error = *why;
	cpu->broken = true;
}

/* Where the guest is, for somebody who reads of its end. */
static void tell_place(const struct kvm_cpu *cpu, char *text, size_t size)
{
	struct kvm_regs r = { 0 };
	struct kvm_sregs s = { 0 };
	struct kvm_translation t;
	uint8_t byte;
	bool real;
	int at;

	kvm_ioctl(cpu->fd, KVM_GET_REGS, &r);
	kvm_ioctl(cpu->fd, KVM_GET_SREGS, &s);
	real = !(s.cr0 & X86_CR0_PE) || r.rflags & X86_VM;
	at = snprintf(text, size, "at %04x:%#llx, %s mode, privilege %u, bytes", s.cs.selector, r.rip,
		      real	? (r.rflags & X86_VM ? "virtual-8086" : "real")
		      : s.cs.l	? "64-bit"
		      : s.cs.db ? "32-bit"
				: "16-bit",
		      s.ss.dpl);
	for (unsigned n = 0; n < INSN_BYTES && at > 0 && (size_t)at < size; n++) {
		t = (struct kvm_translation){ .linear_address = s.cs.base + r.rip + n };
		if (kvm_ioctl(cpu->fd, KVM_TRANSLATE, &t) || !t.valid ||
		    !mem_read(cpu->vm->cfg.mem, gpa(t.physical_address), &byte, 1)) {
			snprintf(text + at, size - (size_t)at, n ? "" : " none: there is no memory");
			break;
		}
		at += snprintf(text + at, size - (size_t)at, " %02x", byte);
	}
}

static enum cpu_exit fail(struct kvm_cpu *cpu, const char *what, uint64_t detail)
{
	char place[160];

	tell_place(cpu, place, sizeof(place));
	err_set(&cpu->vcpu.error, "KVM: %s (%#llx) %s", what, (unsigned long long)detail, place);
	return CPU_EXIT_FAILED;
}

static enum cpu_exit shut_down(struct kvm_cpu *cpu)
{
	struct kvm_regs r = { 0 };
	struct kvm_sregs s = { 0 };

	kvm_ioctl(cpu->fd, KVM_GET_REGS, &r);
	kvm_ioctl(cpu->fd, KVM_GET_SREGS, &s);
	cpu->s.run = X86_SHUTDOWN;
	err_set(&cpu->vcpu.error, "triple fault at %04x:%#llx", s.cs.selector, (unsigned long long)r.rip);
	return CPU_EXIT_SHUTDOWN;
}

/* KVM could not go on. */
static bool internal_error(struct kvm_cpu *cpu, enum cpu_exit *out)
{
	char what[sizeof(struct err) + 64];

	if (cpu->run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION) {
		*out = fail(cpu, "it cannot go on", cpu->run->internal.suberror);
		return false;
	}
	if (kvm_emulate(cpu, out))
		return true;
	if (*out == CPU_EXIT_FAILED) {
		snprintf(what, sizeof(what), "an instruction that it cannot emulate, nor can vireo (%s)",
			 cpu->vcpu.error.msg);
		fail(cpu, what, KVM_INTERNAL_ERROR_EMULATION);
	}
	return false;
}

/* --- news --- */

static void do_init(struct kvm_cpu *cpu)
{
	const struct intc *intc = &cpu->vm->cfg.intc;
	struct err err;

	kvm_vcpu_finish(cpu);
	kvm_state_get(cpu, &cpu->s);
	x86_state_reset(&cpu->s, cpu->vcpu.index == 0, true);
	cpu->s.gpr[X86_RDX] = cpu->vm->features->signature;
	kvm_state_set(cpu, &cpu->s, &err);
	if (intc->ops)
		intc->ops->init(intc->opaque, cpu->vcpu.index);
}

static void do_sipi(struct kvm_cpu *cpu, uint8_t vector)
{
	struct err err;

	kvm_state_get(cpu, &cpu->s);
	cpu->s.seg[X86_CS].sel = (uint16_t)(vector << 8);
	cpu->s.seg[X86_CS].base = (uint64_t)vector << 12;
	cpu->s.gpr[X86_RIP] = 0;
	cpu->s.run = X86_RUNNING;
	kvm_state_set(cpu, &cpu->s, &err);
}

/* Whether an NMI is not held off by the one before. */
static bool nmi_comes(struct kvm_cpu *cpu)
{
	struct kvm_vcpu_events e;

	return !kvm_ioctl(cpu->fd, KVM_GET_VCPU_EVENTS, &e) && (e.nmi.injected || (e.nmi.pending && !e.nmi.masked));
}

/* A kick for the next HLT, as KVM sends those of its hypercall: a "remote read". */
static void send_kick(struct kvm_cpu *cpu)
{
	struct kvm_lapic_state l;
	struct kvm_msi kick = { .data = 0x300 };

	if (kvm_ioctl(cpu->fd, KVM_GET_LAPIC, &l))
		return;
	kick.address_lo = 0xfee00000u | (uint32_t)(uint8_t)l.regs[0x23] << 12;
	kvm_ioctl(cpu->vm->fd, KVM_SIGNAL_MSI, &kick);
}

/*
 * KVM has no word for it, but calls a halted vCPU that has one runnable. (One that has just ended a halt is told of as
 * well: guests are used to a HLT that ends for nothing.) Linux from 6.15 on forgets it where a vCPU is made runnable.
 */
bool kvm_vcpu_has_kick(struct kvm_cpu *cpu)
{
	struct kvm_mp_state runs = { .mp_state = KVM_MP_STATE_RUNNABLE }, halts = { .mp_state = KVM_MP_STATE_HALTED };
	bool has;

	if (!cpu->vm->split || kvm_ioctl(cpu->fd, KVM_SET_MP_STATE, &halts))
		return false;
	has = !kvm_ioctl(cpu->fd, KVM_GET_MP_STATE, &halts) && halts.mp_state == KVM_MP_STATE_RUNNABLE;
	kvm_ioctl(cpu->fd, KVM_SET_MP_STATE, &runs);
	if (has)
		send_kick(cpu);
	return has;
}

/* What waited in a state that was set, other than INIT and SIPI, and ends a halt. */
static void resume_halted(struct kvm_cpu *cpu)
{
	if (!cpu->vm->split) {
		if (cpu->s.run == X86_HALTED && nmi_comes(cpu))
			cpu->s.run = X86_RUNNING;
		return;
	}
	if (cpu->s.pv_unhalt)
		send_kick(cpu);
	cpu->s.pv_unhalt = false;
}

/* True: the machine wants the thread back. */
static bool take_news(struct kvm_cpu *cpu)
{
	uint32_t news;

	__atomic_store_n(&cpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	news = atomic_exchange(&cpu->vcpu.events, 0);
	if (news & VCPU_EV_NMI) {
		ioctl(cpu->fd, KVM_NMI, NULL);
		if (news & VCPU_EV_NMI_TWICE)
			ioctl(cpu->fd, KVM_NMI, NULL);
		if (cpu->s.run == X86_HALTED && nmi_comes(cpu))
			cpu->s.run = X86_RUNNING;
	}
	if (news & VCPU_EV_WAKE)
		cpu->s.pv_unhalt = true;
	if (news & VCPU_EV_INIT)
		do_init(cpu);
	if (news & VCPU_EV_SIPI && cpu->s.run == X86_WAIT_SIPI)
		do_sipi(cpu, cpu->vcpu.sipi_vector);
	return news & VCPU_EV_KICK;
}

/* --- interrupts: all with the local APIC in user space, otherwise only the 8259's --- */

static bool interrupt_waits(struct kvm_cpu *cpu)
{
	const struct intc *intc = &cpu->vm->cfg.intc;

	return intc->ops && intc->ops->pending(intc->opaque, cpu->vcpu.index);
}

/* KVM has said at the last exit whether it can take an interrupt; if not, it is asked to come back when it can. */
static void inject(struct kvm_cpu *cpu)
{
	const struct intc *intc = &cpu->vm->cfg.intc;

	cpu->run->request_interrupt_window = 0;
	/* A debugger's step is of the instruction that is next. */
	if (cpu->stepping || cpu->passing || !interrupt_waits(cpu))
		return;
	if (cpu->run->ready_for_interrupt_injection && cpu->run->if_flag) {
		struct kvm_interrupt i = { 0 };
		int vector = intc->ops->ack(intc->opaque, cpu->vcpu.index);

		if (vector >= 0) {
			i.irq = (uint32_t)vector;
			ioctl(cpu->fd, KVM_INTERRUPT, &i);
		}
	}
	cpu->run->request_interrupt_window = interrupt_waits(cpu);
}

static bool wakes(struct kvm_cpu *cpu)
{
	if (cpu->vm->split)
		return cpu->s.run != X86_SHUTDOWN;
	if (cpu->s.run == X86_HALTED && (cpu->s.pv_unhalt || (cpu->run->if_flag && interrupt_waits(cpu)))) {
		cpu->s.pv_unhalt = false;
		cpu->s.run = X86_RUNNING;
	}
	return cpu->s.run == X86_RUNNING;
}

/* --- exits --- */

static void port_access(struct kvm_cpu *cpu)
{
	const struct cpu_world *w = &cpu->vm->cfg.world;
	struct kvm_run *r = cpu->run;
	uint8_t *data = (uint8_t *)r + r->io.data_offset;

	for (uint32_t n = 0; n < r->io.count; n++, data += r->io.size) {
		uint32_t v = 0;

		if (r->io.direction == KVM_EXIT_IO_OUT) {
			memcpy(&v, data, r->io.size);
			w->pio_write(w->opaque, r->io.port, r->io.size, v);
		} else {
			v = w->pio_read(w->opaque, r->io.port, r->io.size);
			memcpy(data, &v, r->io.size);
		}
	}
	cpu->unfinished = true;
}

/* The local APIC's page is not on the bus. */
static bool apic_access(struct kvm_cpu *cpu)
{
	const struct intc *intc = &cpu->vm->cfg.intc;
	struct kvm_run *r = cpu->run;
	uint32_t off, v = 0;

	if (!intc->ops || cpu->vm->split ||
	    !intc->ops->mmio_hit(intc->opaque, cpu->vcpu.index, r->mmio.phys_addr, &off))
		return false;
	if (r->mmio.is_write) {
		memcpy(&v, r->mmio.data, r->mmio.len < 4 ? r->mmio.len : 4);
		intc->ops->mmio_write(intc->opaque, cpu->vcpu.index, off, v);
	} else {
		v = intc->ops->mmio_read(intc->opaque, cpu->vcpu.index, off);
		memset(r->mmio.data, 0, sizeof(r->mmio.data));
		memcpy(r->mmio.data, &v, 4);
	}
	return true;
}

static void memory_access(struct kvm_cpu *cpu)
{
	const struct cpu_world *w = &cpu->vm->cfg.world;
	struct kvm_run *r = cpu->run;
	uint64_t v = 0;

	cpu->unfinished = true;
	if (apic_access(cpu))
		return;
	if (r->mmio.is_write) {
		memcpy(&v, r->mmio.data, r->mmio.len);
		w->mmio_write(w->opaque, r->mmio.phys_addr, r->mmio.len, v);
	} else {
		v = w->mmio_read(w->opaque, r->mmio.phys_addr, r->mmio.len);
		memcpy(r->mmio.data, &v, r->mmio.len);
	}
}

static bool known_exit(struct kvm_cpu *cpu, enum cpu_exit *out)
{
	const struct kvm_run *r = cpu->run;

	switch (r->exit_reason) {
	case KVM_EXIT_IO:
		port_access(cpu);
		return true;
	case KVM_EXIT_MMIO:
		memory_access(cpu);
		return true;
	case KVM_EXIT_HLT:
		cpu->s.run = X86_HALTED;
		return true;
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_INTR:
		return true;
	case KVM_EXIT_DEBUG:
		*out = CPU_EXIT_DEBUG;
		return !kvm_debug_exit(cpu);
	case KVM_EXIT_IOAPIC_EOI:
		cpu->vm->cfg.intc.ops->eoi(cpu->vm->cfg.intc.opaque, r->eoi.vector);
		return true;
	case KVM_EXIT_SET_TPR:
		return true;
	case KVM_EXIT_SHUTDOWN:
		*out = shut_down(cpu);
		return false;
	case KVM_EXIT_DIRTY_RING_FULL:
		kvm_dirty_sync(cpu->vcpu.vm);
		return true;
	case KVM_EXIT_FAIL_ENTRY:
		*out = fail(cpu, "the processor refuses to enter the guest",
			    r->fail_entry.hardware_entry_failure_reason);
		return false;
	case KVM_EXIT_INTERNAL_ERROR:
		return internal_error(cpu, out);
	default:
		*out = fail(cpu, "an exit without a meaning here", r->exit_reason);
		return false;
	}
}

enum cpu_exit kvm_vcpu_run(struct vcpu *v)
{
	struct kvm_cpu *cpu = kvm_cpu_of(v);
	const struct intc *intc = &cpu->vm->cfg.intc;
	const bool has_apic = intc->ops && !cpu->vm->split; /* of this vCPU, in user space */
	enum cpu_exit out;

	if (cpu->broken)
		return CPU_EXIT_FAILED;
	kvm_time_resume(cpu);
	kvm_debug_resume(cpu);
	resume_halted(cpu);
	cpu->thread = pthread_self();
	accept_kicks();
	atomic_store(&cpu->running, true);
	for (;;) {
		/* Not what an exit said that was dealt with. */
		out = CPU_EXIT_KICKED;
		if (take_news(cpu))
			break;
		if (!wakes(cpu)) {
			out = cpu->s.run == X86_SHUTDOWN ? shut_down(cpu) : CPU_EXIT_HALTED;
			break;
		}
		inject(cpu);
		if (has_apic)
			cpu->run->cr8 = intc->ops->get_cr8(intc->opaque, v->index);
		cpu->unfinished = false;
		stat_add(&cpu->exits, 1);
		int why = ioctl(cpu->fd, KVM_RUN, NULL) < 0 ? errno : 0;

		kvm_latches_take(cpu->vm);
		if (why == EINTR || why == EAGAIN)
			continue;
		if (why) {
			out = fail(cpu, strerror(why), 0);
			break;
		}
		if (has_apic && cpu->run->cr8 != intc->ops->get_cr8(intc->opaque, v->index))
			intc->ops->set_cr8(intc->opaque, v->index, (uint8_t)cpu->run->cr8);
		if (!known_exit(cpu, &out))
			break;
	}
	atomic_store(&cpu->running, false);
	kvm_debug_leave(cpu);
	kvm_time_leave(cpu);
	return out;
}
