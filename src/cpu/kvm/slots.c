/*
 * Guest memory for KVM, a slot for each piece of it (overlays cut slots), and the log of the pages that guests write.
 * KVM keeps it as a bitmap of each slot, or (by choice, Linux 5.11 and later) as a ring of each vCPU, which costs by
 * the pages written instead of by the size of the memory; a vCPU comes out of the guest when its ring is full.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "cpu/kvm/kvm.h"

/* KVM keeps some hundreds free for one exit. */

/* False: there is nothing now. What lies over this memory in SMM, which this engine does not have, is no piece of it.
 */
static bool slot_window(struct kvm_vm *vm, unsigned n, struct mem_window *w)
{
	return mem_piece_window(vm->cfg.mem, n, w);
}

static int give(struct kvm_vm *vm, struct kvm_userspace_memory_region *r, struct err *err)
{
	return kvm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, r)
		       ? err_errno(err, errno, "engine: KVM refuses the memory at %#llx", r->guest_phys_addr)
		       : 0;
}

static bool differs(const struct kvm_piece *a, const struct kvm_piece *b)
{
	return a->host != b->host || a->base != b->base || a->readonly != b->readonly;
}

/* Other memory, another place, or another right to it, takes a new slot: KVM lets only the log of an old one change. */
static int set_slot(struct kvm_vm *vm, unsigned n, struct err *err)
{
	struct kvm_userspace_memory_region r = { .slot = n };
	struct kvm_piece *was = &vm->piece[n], now = { 0 };
	struct mem_window w;

	if (slot_window(vm, n, &w)) {
		now = (struct kvm_piece){ w.host, w.base.v, w.readonly };
		r.guest_phys_addr = w.base.v;
		r.userspace_addr = (uintptr_t)w.host;
		r.flags = w.readonly ? KVM_MEM_READONLY : vm->logging ? KVM_MEM_LOG_DIRTY_PAGES : 0;
	}
	if (was->host && differs(was, &now)) {
		struct kvm_userspace_memory_region none = { .slot = n };

		was->host = NULL;
		if (give(vm, &none, err))
			return -1;
	}
	if (!now.host)
		return 0;
	r.memory_size = w.size;
	*was = now;
	return give(vm, &r, err);
}

int kvm_slots_register(struct kvm_vm *vm, struct err *err)
{
	for (; vm->slots < mem_piece_count(vm->cfg.mem); vm->slots++) {
		if (vm->slots == KVM_PIECES)
			return err_set(err, "engine: memory in more than %u pieces", KVM_PIECES);
		if (set_slot(vm, vm->slots, err))
			return -1;
	}
	return 0;
}

/* --- the log as bitmaps --- */

static void pass_on(struct kvm_vm *vm, const struct mem_window *w, uint64_t page)
{
	if (page < w->size >> MEM_PAGE_SHIFT)
		mem_written(vm->cfg.mem, gpa(w->base.v + (page << MEM_PAGE_SHIFT)), MEM_PAGE_SIZE);
}

static void sync_bitmap(struct kvm_vm *vm, unsigned slot)
{
	struct kvm_dirty_log log = { .slot = slot };
	struct mem_window w;
	uint64_t words;

	if (!slot_window(vm, slot, &w) || w.readonly)
		return;
	words = ((w.size >> MEM_PAGE_SHIFT) + 63) / 64;
	log.dirty_bitmap = vm->bitmap;
	if (kvm_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log))
		return;
	for (uint64_t n = 0; n < words; n++) {
		for (uint64_t bits = vm->bitmap[n]; bits; bits &= bits - 1)
			pass_on(vm, &w, 64 * n + (uint64_t)__builtin_ctzll(bits));
		vm->bitmap[n] = 0;
	}
}

/* Room for the largest slot's. */
static int make_bitmap(struct kvm_vm *vm, struct err *err)
{
	uint64_t pages = 0;
	struct mem_window w;

	for (unsigned n = 0; n < mem_slot_count(vm->cfg.mem); n++)
		if (mem_slot_window(vm->cfg.mem, n, &w, NULL) && w.size >> MEM_PAGE_SHIFT > pages)
			pages = w.size >> MEM_PAGE_SHIFT;
	free(vm->bitmap);
	vm->bitmap = calloc((pages + 63) / 64, sizeof(*vm->bitmap));
	return vm->bitmap ? 0 : err_set(err, "out of memory");
}

/* --- the log as rings --- */

static void take_ring(struct kvm_vm *vm, struct kvm_cpu *cpu)
{
	struct mem_window w;

	for (;; cpu->ring_next++) {
		struct kvm_dirty_gfn *e = &cpu->ring[cpu->ring_next % vm->rings];

		if (__atomic_load_n(&e->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY)
			return;
		/* The page is written to without notice until KVM_RESET_DIRTY_RINGS; who copies it comes after that. */
		if (slot_window(vm, e->slot & 0xffff, &w))
			pass_on(vm, &w, e->offset);
		__atomic_store_n(&e->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
	}
}

/* dirty_lock held. */
static void sync_rings(struct kvm_vm *vm)
{
	for (unsigned n = 0; n < vm->cfg.cpus; n++)
		if (vm->cpus[n] && vm->cpus[n]->ring)
			take_ring(vm, vm->cpus[n]);
	kvm_ioctl(vm->fd, KVM_RESET_DIRTY_RINGS, NULL);
}

static size_t ring_bytes(const struct kvm_vm *vm)
{
	return vm->rings * sizeof(struct kvm_dirty_gfn);
}

int kvm_dirty_new(struct kvm_vm *vm, struct err *err)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_DIRTY_LOG_RING };

	vm->rings = (unsigned)vm->settings.dirty_ring;
	if (!vm->rings)
		return 0;
	cap.args[0] = ring_bytes(vm);
	if (kvm_ioctl(vm->fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_DIRTY_LOG_RING) < (int)cap.args[0])
		return err_set(err, "kvm.dirty_ring: this KVM has no ring of %u; 0 is what it can do", vm->rings);
	if (kvm_ioctl(vm->fd, KVM_ENABLE_CAP, &cap))
		return err_errno(err, errno, "engine: KVM_CAP_DIRTY_LOG_RING");
	return 0;
}

void kvm_dirty_free(struct kvm_vm *vm)
{
	free(vm->bitmap);
	pthread_mutex_destroy(&vm->dirty_lock);
}

int kvm_dirty_add_cpu(struct kvm_cpu *cpu, struct err *err)
{
	void *ring;

	if (!cpu->vm->rings)
		return 0;
	ring = mmap(NULL, ring_bytes(cpu->vm), PROT_READ | PROT_WRITE, MAP_SHARED, cpu->fd,
		    KVM_DIRTY_LOG_PAGE_OFFSET * getpagesize());
	if (ring == MAP_FAILED)
		return err_errno(err, errno, "engine: the dirty ring of vCPU %u", cpu->vcpu.index);
	cpu->ring = ring;
	return 0;
}

void kvm_dirty_del_cpu(struct kvm_cpu *cpu)
{
	if (cpu->ring)
		munmap(cpu->ring, ring_bytes(cpu->vm));
}

int kvm_dirty_log(struct engine_vm *v, bool on, struct err *err)
{
	struct kvm_vm *vm = (struct kvm_vm *)v;
	int rc;

	pthread_mutex_lock(&vm->dirty_lock);
	rc = on && !vm->rings ? make_bitmap(vm, err) : 0;
	/* What was written before is nobody's concern. */
	if (vm->rings)
		sync_rings(vm);
	vm->logging = on && !rc;
	for (unsigned n = 0; n < vm->slots && !rc; n++)
		rc = set_slot(vm, n, err);
	pthread_mutex_unlock(&vm->dirty_lock);
	return rc;
}

void kvm_dirty_sync(struct engine_vm *v)
{
	struct kvm_vm *vm = (struct kvm_vm *)v;

	pthread_mutex_lock(&vm->dirty_lock);
	if (vm->rings)
		sync_rings(vm);
	for (unsigned n = 0; n < vm->slots && vm->logging && !vm->rings; n++)
		sync_bitmap(vm, n);
	pthread_mutex_unlock(&vm->dirty_lock);
}

/* The log of a piece that goes is lost: mem_overlay_set() or mem_move() has written all of it. */
static int remap(struct kvm_vm *vm, struct err *err)
{
	for (unsigned n = 0; n < vm->slots; n++) {
		struct kvm_piece now = { 0 };
		struct mem_window w;

		if (slot_window(vm, n, &w))
			now = (struct kvm_piece){ w.host, w.base.v, w.readonly };
		if (differs(&vm->piece[n], &now) && set_slot(vm, n, err))
			return -1;
	}
	return 0;
}

int kvm_slots_remap(struct kvm_vm *vm, struct err *err)
{
	int rc;

	pthread_mutex_lock(&vm->dirty_lock);
	rc = remap(vm, err);
	pthread_mutex_unlock(&vm->dirty_lock);
	return rc;
}
