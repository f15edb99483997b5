/*
 * Writes that only select what later accesses see: KVM collects them in a ring that all vCPUs share (coalesced I/O),
 * and they come to the world, in their order, before anything else that a vCPU has left the guest for.
 *
 * A write beside the selector proper may do more, as the reset at CF9h does, and the guest may never leave again. So a
 * timer looks, too.
 */
#include <string.h>
#include <unistd.h>

#include "cpu/kvm/kvm.h"

#define RING_SIZE ((4096 - sizeof(struct kvm_coalesced_mmio_ring)) / sizeof(struct kvm_coalesced_mmio))
#define LATEST	  1000000000ll

static void write_one(const struct cpu_world *w, const struct kvm_coalesced_mmio *e)
{
	uint64_t v = 0;

	memcpy(&v, e->data, e->len <= sizeof(e->data) ? e->len : sizeof(e->data));
	if (e->pio)
		w->pio_write(w->opaque, (uint16_t)e->phys_addr, e->len, (uint32_t)v);
	else
		w->mmio_write(w->opaque, e->phys_addr, e->len, v);
}

/* What was there at the beginning: other vCPUs may go on for ever. latch_lock held. */
static void take_all(struct kvm_vm *vm)
{
	struct kvm_coalesced_mmio_ring *r = vm->latched;
	uint32_t last = r ? __atomic_load_n(&r->last, __ATOMIC_ACQUIRE) : 0;

	while (r && r->first != last) {
		write_one(&vm->cfg.world, &r->coalesced_mmio[r->first]);
		__atomic_store_n(&r->first, (uint32_t)((r->first + 1) % RING_SIZE), __ATOMIC_RELEASE);
	}
}

/* A write is not gone from the ring before it is done. */
void kvm_latches_take(struct kvm_vm *vm)
{
	const struct kvm_coalesced_mmio_ring *r = vm->latched;

	if (!r || __atomic_load_n(&r->first, __ATOMIC_ACQUIRE) == __atomic_load_n(&r->last, __ATOMIC_ACQUIRE))
		return;
	pthread_mutex_lock(&vm->latch_lock);
	take_all(vm);
	pthread_mutex_unlock(&vm->latch_lock);
}

static void on_timer(void *opaque)
{
	struct kvm_vm *vm = opaque;

	take_all(vm);
	clock_timer_arm(&vm->latch_timer, clock_now_ns(vm->cfg.clock) + LATEST);
}

void kvm_latches_init(struct kvm_vm *vm)
{
	pthread_mutex_init(&vm->latch_lock, NULL);
	clock_timer_init(&vm->latch_timer, vm->cfg.clock, &vm->latch_lock, on_timer, vm);
}

void kvm_latches_new(struct kvm_vm *vm)
{
	/* The page of the ring in what a vCPU shares. */
	vm->latch_page = kvm_ioctl(vm->kvm, KVM_CHECK_EXTENSION, (void *)KVM_CAP_COALESCED_MMIO);
	vm->latches = vm->settings.coalesced && vm->latch_page > 0 &&
		      kvm_ioctl(vm->kvm, KVM_CHECK_EXTENSION, (void *)KVM_CAP_COALESCED_PIO) > 0;
}

void kvm_latches_share(struct kvm_vm *vm, struct kvm_run *run)
{
	pthread_mutex_lock(&vm->latch_lock);
	vm->latched = vm->latches && run ? (void *)((char *)run + vm->latch_page * getpagesize()) : NULL;
	pthread_mutex_unlock(&vm->latch_lock);
}

void kvm_latches_free(struct kvm_vm *vm)
{
	pthread_mutex_lock(&vm->latch_lock);
	clock_timer_cancel(&vm->latch_timer);
	pthread_mutex_unlock(&vm->latch_lock);
	pthread_mutex_destroy(&vm->latch_lock);
}

bool kvm_latch(struct engine_vm *v, bool port, uint64_t addr, unsigned size)
{
	struct kvm_vm *vm = (struct kvm_vm *)v;
	struct kvm_coalesced_mmio_zone z = { .addr = addr, .size = size, .pio = port };

	if (!vm->latches || kvm_ioctl(vm->fd, KVM_REGISTER_COALESCED_MMIO, &z))
		return false;
	if (!clock_timer_armed(&vm->latch_timer))
		clock_timer_arm(&vm->latch_timer, clock_now_ns(vm->cfg.clock) + LATEST);
	return true;
}
