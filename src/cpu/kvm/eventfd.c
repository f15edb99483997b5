/*
 * What KVM does by eventfds: it rings doorbells without leaving the guest (ioeventfd), and sends messages of devices to
 * the local APICs for whoever adds to one (irqfd).
 */
#include <sys/ioctl.h>

#include "cpu/kvm/kvm.h"

void kvm_eventfds_new(struct kvm_vm *vm)
{
	vm->irqfd = vm->settings.irqfd && kvm_ioctl(vm->fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_IRQFD) > 0;
}

/* KVM has room for about a thousand; others go to the world. With no length it need not even decode the write. */
bool kvm_doorbell(struct engine_vm *v, const struct doorbell *d, bool on)
{
	struct kvm_vm *vm = (struct kvm_vm *)v;
	struct kvm_ioeventfd e = {
		.addr = d->addr,
		.len = d->any ? 0 : d->size,
		.datamatch = d->any ? 0 : d->value,
		.fd = d->event->fd,
		.flags = (d->port ? KVM_IOEVENTFD_FLAG_PIO : 0) | (d->any ? 0 : KVM_IOEVENTFD_FLAG_DATAMATCH) |
			 (on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	return vm->settings.ioeventfd && !kvm_ioctl(vm->fd, KVM_IOEVENTFD, &e);
}

/* --- messages; routes_lock is for all of this --- */

static bool same_route(const struct kvm_irq_routing_entry *r, uint64_t addr, uint32_t data)
{
	return r->u.msi.address_lo == (uint32_t)addr && r->u.msi.address_hi == addr >> 32 && r->u.msi.data == data;
}

/*
 * A GSI that nobody waits for. One with this message is as good as new: a guest that masks and unmasks a vector changes
 * no routes, which all vCPUs would have to notice.
 */
static unsigned free_gsi(const struct kvm_vm *vm, uint64_t addr, uint32_t data)
{
	unsigned first = KVM_GSIS;

	for (unsigned gsi = KVM_PINS; gsi < vm->routes->nr; gsi++) {
		if (vm->waiter[gsi])
			continue;
		if (same_route(&vm->routes->entries[gsi], addr, data))
			return gsi;
		if (first == KVM_GSIS)
			first = gsi;
	}
	return first < KVM_GSIS ? first : vm->routes->nr;
}

static bool irqfd(struct kvm_vm *vm, unsigned gsi, const struct event *e, uint32_t flags)
{
	struct kvm_irqfd i = { .fd = (uint32_t)e->fd, .gsi = gsi, .flags = flags };

	return !kvm_ioctl(vm->fd, KVM_IRQFD, &i);
}

bool kvm_irqfd_bind(void *opaque, const struct event *e, uint64_t addr, uint32_t data)
{
	struct kvm_vm *vm = opaque;
	unsigned gsi;
	bool ok;

	pthread_mutex_lock(&vm->routes_lock);
	gsi = free_gsi(vm, addr, data);
	ok = gsi < KVM_GSIS &&
	     ((gsi < vm->routes->nr && same_route(&vm->routes->entries[gsi], addr, data)) ||
	      !kvm_irqchip_route(vm, gsi, addr, data)) &&
	     irqfd(vm, gsi, e, 0);
	if (ok)
		vm->waiter[gsi] = e;
	pthread_mutex_unlock(&vm->routes_lock);
	return ok;
}

/* KVM returns when nothing is under way any more. */
void kvm_irqfd_unbind(void *opaque, const struct event *e)
{
	struct kvm_vm *vm = opaque;

	pthread_mutex_lock(&vm->routes_lock);
	for (unsigned gsi = KVM_PINS; gsi < vm->routes->nr; gsi++) {
		if (vm->waiter[gsi] != e)
			continue;
		irqfd(vm, gsi, e, KVM_IRQFD_FLAG_DEASSIGN);
		vm->waiter[gsi] = NULL;
	}
	pthread_mutex_unlock(&vm->routes_lock);
}
