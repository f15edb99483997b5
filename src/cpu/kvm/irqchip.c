/*
 * KVM's split interrupt controller: local APICs in the kernel, the I/O APIC and the 8259s in user space. Older kernels
 * without it leave the local APICs in user space, too.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cpu/kvm/vcpu.h"

#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_KVM_PV_EOI	 0x4b564d04u

static bool send(void *opaque, uint64_t addr, uint32_t data)
{
	struct kvm_vm *vm = opaque;
	struct kvm_msi msi = { .address_lo = (uint32_t)addr, .address_hi = (uint32_t)(addr >> 32), .data = data };

	atomic_fetch_add_explicit(&vm->messages, 1, memory_order_relaxed); /* any thread */
	return kvm_ioctl(vm->fd, KVM_SIGNAL_MSI, &msi) > 0;
}

/* With one that it does not take KVM would take no others, so that is forgotten. */
int kvm_irqchip_route(struct kvm_vm *vm, unsigned gsi, uint64_t addr, uint32_t data)
{
	struct kvm_irq_routing *r = vm->routes;
	const struct kvm_irq_routing_entry before = r->entries[gsi], e = {
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = { .address_lo = (uint32_t)addr, .address_hi = (uint32_t)(addr >> 32), .data = data },
	};
	uint32_t count = r->nr;
	int rc;

	r->entries[gsi] = e;
	if (gsi >= count)
		r->nr = gsi + 1;
	rc = kvm_ioctl(vm->fd, KVM_SET_GSI_ROUTING, r);
	if (rc) {
		r->entries[gsi] = before;
		r->nr = count;
	}
	return rc;
}

/* KVM learns from its routes which vectors' ends are to be reported. */
static void route(void *opaque, unsigned pin, uint64_t addr, uint32_t data)
{
	struct kvm_vm *vm = opaque;

	pthread_mutex_lock(&vm->routes_lock);
	kvm_irqchip_route(vm, pin, addr, data);
	pthread_mutex_unlock(&vm->routes_lock);
}

static void get(void *opaque, unsigned index, struct intc_lapic *l)
{
	struct kvm_vm *vm = opaque;
	struct kvm_cpu *cpu = vm->cpus[index];
	struct kvm_lapic_state k;
	struct kvm_sregs s;

	memset(l, 0, sizeof(*l));
	kvm_vcpu_finish(cpu);
	if (kvm_ioctl(cpu->fd, KVM_GET_LAPIC, &k) || kvm_ioctl(cpu->fd, KVM_GET_SREGS, &s))
		return;
	for (unsigned n = 0; n < ARRAY_LEN(l->regs); n++)
		l->regs[n] = ld_le32(k.regs + 16 * n);
	l->base = s.apic_base;
	kvm_msr_transfer(cpu, KVM_GET_MSRS, MSR_KVM_PV_EOI, &l->pv_eoi);
	kvm_msr_transfer(cpu, KVM_GET_MSRS, MSR_TSC_DEADLINE, &l->deadline_tsc);
	if (l->deadline_tsc)
		l->deadline_tsc -= kvm_tsc_offset(cpu);
}

static void set(void *opaque, unsigned index, const struct intc_lapic *l)
{
	struct kvm_vm *vm = opaque;
	struct kvm_cpu *cpu = vm->cpus[index];
	uint64_t pv_eoi = l->pv_eoi, deadline = l->deadline_tsc;
	struct kvm_lapic_state k = { 0 };
	struct kvm_sregs s;

	/* Before the vCPU is made: it begins in this state by itself. */
	if (!cpu || kvm_ioctl(cpu->fd, KVM_GET_SREGS, &s))
		return;
	s.apic_base = l->base;
	for (unsigned n = 0; n < ARRAY_LEN(l->regs); n++)
		st_le32(k.regs + 16 * n, l->regs[n]);
	kvm_ioctl(cpu->fd, KVM_SET_SREGS, &s);
	kvm_ioctl(cpu->fd, KVM_SET_LAPIC, &k);
	kvm_msr_transfer(cpu, KVM_SET_MSRS, MSR_KVM_PV_EOI, &pv_eoi);
	if (deadline)
		deadline += kvm_tsc_offset(cpu);
	kvm_msr_transfer(cpu, KVM_SET_MSRS, MSR_TSC_DEADLINE, &deadline);
}

int kvm_irqchip_new(struct kvm_vm *vm, struct err *err)
{
	const struct intc *intc = &vm->cfg.intc;
	struct intc_external x = { .send = send, .route = route, .get = get, .set = set, .opaque = vm };
	struct kvm_enable_cap cap = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { KVM_PINS } };

	if (vm->cfg.intc_place != ENGINE_INTC_SPLIT)
		return 0;
	if (kvm_ioctl(vm->fd, KVM_ENABLE_CAP, &cap))
		return err_errno(err, errno, "engine: KVM_CAP_SPLIT_IRQCHIP");
	vm->split = true;
	vm->routes = calloc(1, sizeof(*vm->routes) + KVM_GSIS * sizeof(vm->routes->entries[0]));
	if (!vm->routes)
		return err_set(err, "out of memory");
	for (unsigned pin = 0; pin < KVM_PINS; pin++)
		route(vm, pin, 0xfee00000, 0);
	if (vm->irqfd) {
		x.bind = kvm_irqfd_bind;
		x.unbind = kvm_irqfd_unbind;
	}
	if (vm->cfg.stats)
		stats_register(vm->cfg.stats, "kvm.messages", "interrupt messages that took a call of KVM",
			       &vm->messages);
	intc->ops->attach(intc->opaque, &x);
	return 0;
}
