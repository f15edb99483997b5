/*
 * What KVM does by eventfds, without leaving the guest or without a vCPU: doorbells (ioeventfd).
 */
#include <sys/ioctl.h>

#include "cpu/kvm/kvm.h"

int kvm_eventfds_new(struct kvm_vm *vm, struct err *err)
{
	struct config *c = vm->cfg.config;

	vm->ioeventfd = true;
	return c ? config_bool(c, "kvm.ioeventfd", true, &vm->ioeventfd, err) : 0;
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

	return vm->ioeventfd && !kvm_ioctl(vm->fd, KVM_IOEVENTFD, &e);
}
