/* The hardware engine as an engine: see cpu/engine.h. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "cpu/kvm/kvm.h"
#include "cpu/kvm/vcpu.h"
#include "cpu/x86/step.h"

#define RING_MIN 1024u
#define RING_MAX 65536u

int kvm_ioctl(int fd, unsigned long request, void *arg)
{
	int rc;

	do
		rc = ioctl(fd, request, arg);
	while (rc < 0 && errno == EINTR);
	return rc;
}

static void vm_destroy(struct engine_vm *v)
{
	struct kvm_vm *vm = (struct kvm_vm *)v;

	x86_stepper_free(vm->stepper);
	kvm_features_free(vm);
	kvm_dirty_free(vm);
	kvm_latches_free(vm);
	pthread_mutex_destroy(&vm->time_lock);
	pthread_mutex_destroy(&vm->int3_lock);
	pthread_mutex_destroy(&vm->stepper_lock);
	if (vm->fd >= 0)
		close(vm->fd);
	if (vm->kvm >= 0)
		close(vm->kvm);
	free(vm->msrs);
	free(vm->routes);
	free(vm);
}

/* What this engine cannot do without: all are older than Linux 4.18. */
static const struct {
	int cap;
	const char *what;
} needed[] = {
	{ KVM_CAP_USER_MEMORY, "user memory" },
	{ KVM_CAP_SET_TSS_ADDR, "the TSS address" },
	{ KVM_CAP_MP_STATE, "run states" },
	{ KVM_CAP_VCPU_EVENTS, "vCPU events" },
	{ KVM_CAP_DEBUGREGS, "debug registers" },
	{ KVM_CAP_XSAVE, "XSAVE" },
	{ KVM_CAP_XCRS, "XCR0" },
	{ KVM_CAP_IMMEDIATE_EXIT, "immediate exit" },
};

static int open_kvm(char *why, size_t size)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		snprintf(why, size, "/dev/kvm: %s", strerror(errno));
		return -1;
	}
	if (kvm_ioctl(fd, KVM_GET_API_VERSION, NULL) != KVM_API_VERSION) {
		snprintf(why, size, "/dev/kvm speaks another version of the interface");
		close(fd);
		return -1;
	}
	for (size_t n = 0; n < sizeof(needed) / sizeof(needed[0]); n++) {
		if (kvm_ioctl(fd, KVM_CHECK_EXTENSION, (void *)(long)needed[n].cap) <= 0) {
			snprintf(why, size, "this KVM lacks %s", needed[n].what);
			close(fd);
			return -1;
		}
	}
	return fd;
}

static void probe(struct engine_probe *p)
{
	int fd = open_kvm(p->why, sizeof(p->why));

	p->available = fd >= 0;
	if (fd < 0)
		return;
	kvm_calibrate(p, fd);
	close(fd);
}

static struct kvm_msr_list *saved_msrs(int kvm)
{
	struct kvm_msr_list count = { 0 }, *list;

	ioctl(kvm, KVM_GET_MSR_INDEX_LIST, &count);
	list = calloc(1, sizeof(*list) + count.nmsrs * sizeof(list->indices[0]));
	if (list) {
		list->nmsrs = count.nmsrs;
		if (kvm_ioctl(kvm, KVM_GET_MSR_INDEX_LIST, list))
			list->nmsrs = 0;
	}
	return list;
}

/* False: this KVM does not have it. */
static bool enable(const struct kvm_vm *vm, unsigned cap)
{
	return !kvm_ioctl(vm->fd, KVM_ENABLE_CAP, &(struct kvm_enable_cap){ .cap = cap, .args = { 1 } });
}

static int read_settings(struct config *c, struct kvm_settings *s, struct err *err)
{
	*s = (struct kvm_settings){ .ioeventfd = true, .irqfd = true, .coalesced = true };
	if (!c)
		return 0;
	if (config_bool(c, "kvm.ioeventfd", true, &s->ioeventfd, err) ||
	    config_bool(c, "kvm.irqfd", true, &s->irqfd, err) ||
	    config_bool(c, "kvm.coalesced", true, &s->coalesced, err) ||
	    config_uint(c, "kvm.dirty_ring", 0, (struct config_range){ 0, RING_MAX }, &s->dirty_ring, err))
		return -1;
	if (s->dirty_ring && (s->dirty_ring < RING_MIN || s->dirty_ring & (s->dirty_ring - 1)))
		return err_set(err, "kvm.dirty_ring: %u is not a power of two from %u to %u, or 0 for the bitmap",
			       (unsigned)s->dirty_ring, RING_MIN, RING_MAX);
	return 0;
}

static int check_config(struct config *c, struct err *err)
{
	struct kvm_settings s;

	return read_settings(c, &s, err);
}

static int create(struct kvm_vm *vm, struct err *err)
{
	char why[160];

	vm->kvm = open_kvm(why, sizeof(why));
	if (vm->kvm < 0)
		return err_set(err, "engine: %s", why);
	vm->fd = kvm_ioctl(vm->kvm, KVM_CREATE_VM, NULL);
	if (vm->fd < 0)
		return err_errno(err, errno, "engine: KVM_CREATE_VM");
	vm->run_size = (size_t)kvm_ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, NULL);
	/* Three pages that KVM uses on Intel processors without unrestricted guest mode, below the BIOS. */
	if (kvm_ioctl(vm->fd, KVM_SET_TSS_ADDR, (void *)0xfffbd000ul))
		return err_errno(err, errno, "engine: KVM_SET_TSS_ADDR");
	vm->msrs = saved_msrs(vm->kvm);
	if (!vm->msrs)
		return err_set(err, "out of memory");
	kvm_tsc_new(vm);
	vm->payloads = enable(vm, KVM_CAP_EXCEPTION_PAYLOAD);
	vm->triple_faults = enable(vm, KVM_CAP_X86_TRIPLE_FAULT_EVENT);
	/* Without it (Linux before 5.15) a program of the guest's is told that there is no such instruction. */
	enable(vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE);
	vm->smm = kvm_ioctl(vm->fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_X86_SMM) > 0;
	vm->hypercalls = kvm_hypercalls(vm->fd);
	kvm_eventfds_new(vm);
	kvm_latches_new(vm);
	return kvm_dirty_new(vm, err) || kvm_slots_register(vm, err) || kvm_irqchip_new(vm, err) ||
			       kvm_features_new(vm, err)
		       ? -1
		       : 0;
}

static struct engine_vm *vm_create(const struct engine_config *c, struct err *err)
{
	struct kvm_vm *vm = calloc(1, sizeof(*vm));

	if (!vm) {
		err_set(err, "out of memory");
		return NULL;
	}
	vm->cfg = *c;
	vm->kvm = vm->fd = -1;
	pthread_mutex_init(&vm->time_lock, NULL);
	pthread_mutex_init(&vm->dirty_lock, NULL);
	pthread_mutex_init(&vm->routes_lock, NULL);
	pthread_mutex_init(&vm->int3_lock, NULL);
	pthread_mutex_init(&vm->stepper_lock, NULL);
	kvm_latches_init(vm);
	if (read_settings(c->config, &vm->settings, err) || create(vm, err)) {
		vm_destroy((struct engine_vm *)vm);
		return NULL;
	}
	return (struct engine_vm *)vm;
}

static void vcpu_destroy(struct vcpu *v)
{
	struct kvm_cpu *cpu = kvm_cpu_of(v);

	cpu->vm->cpus[v->index] = NULL;
	kvm_int3_clear(cpu);
	free(cpu->soft);
	kvm_dirty_del_cpu(cpu);
	if (v->index == 0)
		kvm_latches_share(cpu->vm, NULL);
	if (cpu->run)
		munmap(cpu->run, cpu->vm->run_size);
	if (cpu->fd >= 0)
		close(cpu->fd);
	free(cpu);
}

static void add_counters(struct kvm_cpu *cpu)
{
	const struct {
		const char *name, *help;
		stat_t *counter;
	} list[] = {
		{ "kvm_exits", "times KVM came back to this program", &cpu->exits },
		{ "kvm_emulated", "instructions executed here, as KVM cannot emulate them", &cpu->emulated },
	};
	char name[32];

	for (size_t n = 0; cpu->vm->cfg.stats && n < ARRAY_LEN(list); n++) {
		snprintf(name, sizeof(name), "cpu%u.%s", cpu->vcpu.index, list[n].name);
		stats_register(cpu->vm->cfg.stats, name, list[n].help, list[n].counter);
	}
}

static int vcpu_open(struct kvm_cpu *cpu, struct err *err)
{
	cpu->fd = kvm_ioctl(cpu->vm->fd, KVM_CREATE_VCPU, (void *)(unsigned long)cpu->vcpu.index);
	if (cpu->fd < 0)
		return err_errno(err, errno, "engine: KVM_CREATE_VCPU %u", cpu->vcpu.index);
	cpu->run = mmap(NULL, cpu->vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu->fd, 0);
	if (cpu->run == MAP_FAILED) {
		cpu->run = NULL;
		return err_errno(err, errno, "engine: the shared page of vCPU %u", cpu->vcpu.index);
	}
	if (cpu->vcpu.index == 0)
		kvm_latches_share(cpu->vm, cpu->run);
	if (kvm_dirty_add_cpu(cpu, err) || kvm_features_apply(cpu, err))
		return -1;
	x86_state_reset(&cpu->s, cpu->vcpu.index == 0, false);
	return kvm_state_set(cpu, &cpu->s, err);
}

static struct vcpu *vcpu_create(struct engine_vm *v, unsigned index, struct err *err)
{
	struct kvm_vm *vm = (struct kvm_vm *)v;
	struct kvm_cpu *cpu = calloc(1, sizeof(*cpu));

	if (!cpu) {
		err_set(err, "out of memory");
		return NULL;
	}
	cpu->vcpu.engine = &engine_kvm;
	cpu->vcpu.vm = v;
	cpu->vcpu.index = index;
	cpu->vm = vm;
	vm->cpus[index] = cpu;
	if (vcpu_open(cpu, err)) {
		vcpu_destroy(&cpu->vcpu);
		return NULL;
	}
	add_counters(cpu);
	return &cpu->vcpu;
}

/* Without its memory no vCPU is to go on; each says so. */
static void without_memory(struct kvm_vm *vm, const struct err *err)
{
	for (unsigned n = 0; n < vm->cfg.cpus; n++)
		if (vm->cpus[n])
			kvm_vcpu_break(vm->cpus[n], err);
}

static void ram_changed(struct engine_vm *v)
{
	struct kvm_vm *vm = (struct kvm_vm *)v;
	struct err err;

	if (kvm_slots_register(vm, &err))
		without_memory(vm, &err);
}

static void remapped(struct engine_vm *v, struct vcpu *self)
{
	struct kvm_vm *vm = (struct kvm_vm *)v;
	struct err err;

	if (kvm_slots_remap(vm, &err))
		without_memory(vm, &err);
}

static void *model(struct engine_vm *v)
{
	struct kvm_vm *vm = (struct kvm_vm *)v;

	kvm_hyperv_fetch(vm);
	return &vm->model;
}

static void vcpu_reset(struct vcpu *v)
{
	struct kvm_cpu *cpu = kvm_cpu_of(v);
	struct err err;

	kvm_debug_reset(cpu);
	kvm_hyperv_fetch(cpu->vm);
	if (!v->index)
		cpu->vm->model.partition = (struct x86_partition){ 0 };
	x86_state_reset(&cpu->s, v->index == 0, false);
	atomic_store(&v->events, 0);
	if (kvm_state_set(cpu, &cpu->s, &err))
		kvm_vcpu_break(cpu, &err);
}

static void get_state(struct vcpu *v, void *state)
{
	struct x86_state *s = state;
	uint32_t news;

	kvm_state_get(kvm_cpu_of(v), s);
	/* What others have sent since it stopped, and what this engine has not looked at yet. It takes no SMIs. */
	news = atomic_load(&v->events);
	x86_add_nmis(s, news);
	s->pv_unhalt |= news & VCPU_EV_WAKE || (s->run == X86_RUNNING && kvm_vcpu_has_kick(kvm_cpu_of(v)));
	s->init_pending |= !!(news & VCPU_EV_INIT);
	s->sipi_pending |= !!(news & VCPU_EV_SIPI);
	s->sipi_vector = atomic_load(&v->sipi_vector);
}

static int check_state(struct engine_vm *v, const void *state, struct err *err)
{
	return x86_state_check(state, err) || x86_model_check(((const struct kvm_vm *)v)->features, state, err) ? -1
														: 0;
}

static int set_state(struct vcpu *v, const void *state, struct err *err)
{
	struct kvm_cpu *cpu = kvm_cpu_of(v);
	const struct x86_state *s = state;
	uint32_t news = (s->init_pending ? VCPU_EV_INIT : 0u) | (s->sipi_pending ? VCPU_EV_SIPI : 0u);

	if (check_state(v->vm, state, err))
		return -1;
	if (s->smm || s->smi_pending)
		return err_set(err, "the CPU is %s system management mode, which engine kvm does not have",
			       s->smm ? "in" : "about to enter");
	if (kvm_state_set(cpu, s, err))
		return -1;
	/* With the local APIC in the kernel, KVM has them. */
	atomic_store(&v->sipi_vector, s->sipi_vector);
	atomic_fetch_and(&v->events, VCPU_EV_KICK);
	atomic_fetch_or(&v->events, cpu->vm->split ? 0 : news);
	return 0;
}

const struct engine engine_kvm = {
	.name = "kvm",
	.isa = "x86_64",
	.summary = "hardware virtualization by Linux",
	.arch_state = &x86_state_desc,
	.arch_state_size = sizeof(struct x86_state),
	.model_state = &x86_model_state,
	.model = model,
	.probe = probe,
	.check_config = check_config,
	.vm_create = vm_create,
	.vm_destroy = vm_destroy,
	.intc_places = 1u << ENGINE_INTC_USER | 1u << ENGINE_INTC_SPLIT,
	.ram_changed = ram_changed,
	.remapped = remapped,
	.dirty_log = kvm_dirty_log,
	.dirty_sync = kvm_dirty_sync,
	.doorbell = kvm_doorbell,
	.latch = kvm_latch,
	.vcpu_create = vcpu_create,
	.vcpu_destroy = vcpu_destroy,
	.vcpu_reset = vcpu_reset,
	.run = kvm_vcpu_run,
	.poke = kvm_vcpu_poke,
	.get_state = get_state,
	.set_state = set_state,
	.check_state = check_state,
	.debug_isa = &x86_debug_isa,
	.set_debug = kvm_debug_set,
};
