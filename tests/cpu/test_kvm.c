/* The hardware engine with guests of a few instructions: also where KVM emulates the guest's kernel mode. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <cpuid.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "cpu/kvm/kvm.h"
#include "cpu/x86/entry.h"
#include "kvm_rig.h"

/* A state in which every field that this KVM keeps has a value of its own. */
static void fill(const struct tiny_vm *t, struct x86_state *s)
{
	uint64_t xcr0 = ((const struct kvm_vm *)t->vm)->features->xcr0;
	unsigned vector_bytes = xcr0 & 4 ? 32 : 16;

	memset(s, 0, sizeof(*s));
	x86_state_reset(s, true, false);
	x86_entry_long64(s, 0x12345, 0x6789, TINY_CR3, TINY_GDT, 31);
	for (unsigned n = 0; n < 16; n++) {
		s->gpr[n] = 0x1111111111111111ull * n + 7;
		for (unsigned b = 0; b < vector_bytes; b++)
			s->vec[n].b[b] = (uint8_t)(n * 32 + b);
	}
	for (unsigned n = 0; n < 8; n++)
		s->fp.r[n] = (struct x86_fpreg){ 0x8000000000000000ull + n, (uint16_t)(0x3fff + n) };
	s->fp.cw = 0x27f;
	s->fp.sw = 3 << 11;
	s->fp.valid = 0x5a;
	s->mxcsr = 0x1fa0;
	s->rflags = 0x246;
	s->dr[1] = 0x5000;
	s->star = 0x0023001000000000;
	s->lstar = 0xffffffff81000000;
	s->fmask = 0x47700;
	s->kernel_gs_base = 0xffff888000000000;
	s->seg[X86_FS].base = 0x7f0012345678;
	s->sysenter_cs = 0x10;
	s->pat = 0x0407050600070106;
	s->cr4 |= X86_CR4_OSFXSR | (xcr0 ? X86_CR4_OSXSAVE : 0);
	s->xcr0 = xcr0 ? xcr0 : 1;
}

static void the_state_comes_back_as_it_was(void **state)
{
	struct tiny_vm *t = vm_of(state);
	struct x86_state *in = malloc(sizeof(*in)), *out = malloc(sizeof(*out));
	struct err err;

	fill(t, in);
	assert_int_equal(engine_kvm.set_state(t->vcpu, in, &err), 0);
	engine_kvm.get_state(t->vcpu, out);
	assert_memory_equal(in->gpr, out->gpr, sizeof(in->gpr));
	assert_int_equal(in->rflags, out->rflags);
	for (unsigned n = 0; n < X86_SEGS; n++) {
		assert_int_equal(in->seg[n].base, out->seg[n].base);
		assert_int_equal(in->seg[n].sel, out->seg[n].sel);
	}
	assert_int_equal(in->seg[X86_CS].attr, out->seg[X86_CS].attr);
	assert_int_equal(in->cr0, out->cr0);
	assert_int_equal(in->cr3, out->cr3);
	assert_int_equal(in->cr4, out->cr4);
	assert_int_equal(in->efer, out->efer);
	assert_int_equal(in->dr[1], out->dr[1]);
	assert_memory_equal(in->vec, out->vec, sizeof(in->vec));
	assert_int_equal(in->fp.sw, out->fp.sw);
	assert_int_equal(in->fp.valid, out->fp.valid);
	for (unsigned n = 0; n < 8; n++)
		assert_true(in->fp.r[n].mant == out->fp.r[n].mant && in->fp.r[n].sexp == out->fp.r[n].sexp);
	assert_int_equal(in->mxcsr, out->mxcsr);
	assert_int_equal(in->star, out->star);
	assert_int_equal(in->lstar, out->lstar);
	assert_int_equal(in->fmask, out->fmask);
	assert_int_equal(in->kernel_gs_base, out->kernel_gs_base);
	assert_int_equal(in->sysenter_cs, out->sysenter_cs);
	assert_int_equal(in->pat, out->pat);
	assert_int_equal(in->xcr0, out->xcr0);
	free(in);
	free(out);
}

static void ports_and_halt_leave_the_guest(void **state)
{
	struct tiny_vm *t = vm_of(state);
	struct x86_state *s = malloc(sizeof(*s));

	/* mov eax, 42; out 0x80, eax; in eax, 0x81; hlt */
	tiny_vm_load64(t, "\xb8\x2a\0\0\0\xe7\x80\xe5\x81\xf4", 10);
	assert_int_equal(engine_kvm.run(t->vcpu), CPU_EXIT_HALTED);
	assert_int_equal(t->last_out, 42);
	engine_kvm.get_state(t->vcpu, s);
	assert_int_equal(s->gpr[X86_RAX], 0x81);
	assert_int_equal(s->run, X86_HALTED);
	free(s);
}

static void mmio_of_absent_memory_reads_all_ones(void **state)
{
	struct tiny_vm *t = vm_of(state);
	struct x86_state *s = malloc(sizeof(*s));

	/* mov rax, [0x20000000]; hlt */
	tiny_vm_load64(t, "\x48\x8b\x04\x25\0\0\0\x20\xf4", 9);
	assert_int_equal(engine_kvm.run(t->vcpu), CPU_EXIT_HALTED);
	engine_kvm.get_state(t->vcpu, s);
	assert_true(s->gpr[X86_RAX] == ~0ull);
	free(s);
}

static void a_kick_ends_an_endless_loop(void **state)
{
	struct tiny_vm *t = vm_of(state);

	tiny_vm_load64(t, "\xeb\xfe", 2);
	vcpu_kick(t->vcpu);
	assert_int_equal(engine_kvm.run(t->vcpu), CPU_EXIT_KICKED);
}

static void a_triple_fault_shuts_down(void **state)
{
	struct tiny_vm *t = vm_of(state);

	tiny_vm_load64(t, "\x0f\x0b", 2); /* without an IDT */
	assert_int_equal(engine_kvm.run(t->vcpu), CPU_EXIT_SHUTDOWN);
}

static void the_interpreter_goes_on_where_kvm_stopped(void **state)
{
	struct tiny_vm *t = vm_of(state), other;
	struct x86_state *s = malloc(sizeof(*s));
	struct err err;

	/* mov ecx, 7; out 0x80, eax; add ecx, 5; hlt: stopped after the OUT */
	tiny_vm_load64(t, "\xb9\x07\0\0\0\xe7\x80\x83\xc1\x05\xf4", 11);
	t->kick_on_out = true;
	assert_int_equal(engine_kvm.run(t->vcpu), CPU_EXIT_KICKED);
	t->kick_on_out = false;
	engine_kvm.get_state(t->vcpu, s);
	assert_int_equal(s->gpr[X86_RIP], TINY_CODE + 7);
	tiny_vm_new(&other);
	tiny_vm_load64(&other, "\xb9\x07\0\0\0\xe7\x80\x83\xc1\x05\xf4", 11);
	assert_int_equal(other.engine->set_state(other.vcpu, s, &err), 0);
	assert_int_equal(other.engine->run(other.vcpu), CPU_EXIT_HALTED);
	assert_int_equal(tiny_cpu(&other)->s.gpr[X86_RCX], 12);
	tiny_vm_free(&other);
	free(s);
}

/* Registers as instructions load them, not as a test makes them: one, null ones, and a stack of 16 bits' limit. */
static void both_engines_save_the_same_segments(void **state)
{
	/* mov eax, 18h; mov ds, eax; xor eax, eax; mov es, eax; mov fs, eax; mov gs, eax; lldt ax; hlt */
	static const char code[] = "\xb8\x18\0\0\0\x8e\xd8\x31\xc0\x8e\xc0\x8e\xe0\x8e\xe8\x0f\x00\xd0\xf4";
	struct tiny_vm *t = vm_of(state), other;
	struct x86_state *a = malloc(sizeof(*a)), *b = malloc(sizeof(*b));

	tiny_vm_load64(t, code, sizeof(code) - 1);
	assert_int_equal(engine_kvm.run(t->vcpu), CPU_EXIT_HALTED);
	engine_kvm.get_state(t->vcpu, a);
	tiny_vm_new(&other);
	tiny_vm_load64(&other, code, sizeof(code) - 1);
	assert_int_equal(engine_interp.run(other.vcpu), CPU_EXIT_HALTED);
	engine_interp.get_state(other.vcpu, b);
	x86_state_canonical(a);
	x86_state_canonical(b);
	for (unsigned n = 0; n < X86_SEGS; n++) {
		const struct x86_segment *x = &a->seg[n], *y = &b->seg[n];

		if (x->base != y->base || x->limit != y->limit || x->sel != y->sel || x->attr != y->attr ||
		    x->unusable != y->unusable)
			fail_msg("segment %u: KVM %#x %#llx+%#x %#x %d, the interpreter %#x %#llx+%#x %#x %d", n,
				 x->sel, (unsigned long long)x->base, x->limit, x->attr, x->unusable, y->sel,
				 (unsigned long long)y->base, y->limit, y->attr, y->unusable);
	}
	tiny_vm_free(&other);
	free(a);
	free(b);
}

/* --- what is between instructions --- */

/* A trap of the instruction before is raised on the engine that goes on: here by a shutdown, without an IDT. */
static void a_pending_trap_is_raised(void **state)
{
	struct tiny_vm *t = vm_of(state);
	struct x86_state *s = malloc(sizeof(*s));
	struct err err;

	if (!((struct kvm_vm *)t->vm)->payloads)
		skip();
	tiny_vm_load64(t, "\xf4", 1);
	engine_kvm.get_state(t->vcpu, s);
	s->debug_pending = X86_DR6_BS;
	assert_int_equal(engine_kvm.set_state(t->vcpu, s, &err), 0);
	s->debug_pending = 0;
	engine_kvm.get_state(t->vcpu, s);
	assert_int_equal(s->debug_pending, X86_DR6_BS);
	assert_int_equal(engine_kvm.run(t->vcpu), CPU_EXIT_SHUTDOWN);
	free(s);
}

static void an_nmi_on_its_way_waits(void **state)
{
	struct tiny_vm *t = vm_of(state);
	struct kvm_vcpu_events e = { .flags = KVM_VCPUEVENT_VALID_NMI_PENDING, .nmi = { .injected = 1, .masked = 1 } };
	struct x86_state *s = malloc(sizeof(*s));

	tiny_vm_load64(t, "\xf4", 1);
	assert_int_equal(kvm_ioctl(kvm_cpu_of(t->vcpu)->fd, KVM_SET_VCPU_EVENTS, &e), 0);
	engine_kvm.get_state(t->vcpu, s);
	assert_int_equal(s->nmi_pending, 1);
	assert_false(s->nmi_blocked);
	free(s);
}

/* One that KVM has not come to yet: no engine goes on after it, and a reset ends it. */
static void a_pending_triple_fault_is_a_shutdown(void **state)
{
	struct tiny_vm *t = vm_of(state);
	struct kvm_vcpu_events e = { .flags = KVM_VCPUEVENT_VALID_TRIPLE_FAULT, .triple_fault = { .pending = 1 } };
	struct x86_state *s = malloc(sizeof(*s)), *running = malloc(sizeof(*s));
	int fd = kvm_cpu_of(t->vcpu)->fd;
	struct err err;

	if (!((struct kvm_vm *)t->vm)->triple_faults)
		skip();
	tiny_vm_load64(t, "\xf4", 1);
	engine_kvm.get_state(t->vcpu, running);
	assert_int_equal(kvm_ioctl(fd, KVM_SET_VCPU_EVENTS, &e), 0);
	engine_kvm.get_state(t->vcpu, s);
	assert_int_equal(s->run, X86_SHUTDOWN);
	assert_int_equal(engine_kvm.set_state(t->vcpu, running, &err), 0);
	assert_int_equal(kvm_ioctl(fd, KVM_GET_VCPU_EVENTS, &e), 0);
	assert_int_equal(e.triple_fault.pending, 0);
	assert_int_equal(engine_kvm.set_state(t->vcpu, s, &err), 0);
	assert_int_equal(engine_kvm.run(t->vcpu), CPU_EXIT_SHUTDOWN);
	assert_non_null(strstr(t->vcpu->error.msg, "triple fault"));
	free(running);
	free(s);
}

/* A guest's SMI to itself brings KVM there. The state says so, the engine does not take it, and a reset ends it. */
static void management_mode_is_told_and_refused(void **state)
{
	struct tiny_vm *t = vm_of(state);
	struct kvm_vcpu_events e = { .flags = KVM_VCPUEVENT_VALID_SMM, .smi = { .smm = 1, .smm_inside_nmi = 1 } };
	static struct x86_state now_is, *const s = &now_is;
	int fd = kvm_cpu_of(t->vcpu)->fd;
	struct err err;

	if (!((struct kvm_vm *)t->vm)->smm) {
		print_message("skipped: this KVM has no system management mode\n");
		skip();
	}
	tiny_vm_load64(t, "\xf4", 1);
	assert_int_equal(kvm_ioctl(fd, KVM_SET_VCPU_EVENTS, &e), 0);
	engine_kvm.get_state(t->vcpu, s);
	assert_true(s->smm && s->smm_nmi_blocked);
	assert_int_equal(engine_kvm.set_state(t->vcpu, s, &err), -1);
	assert_non_null(strstr(err.msg, "system management mode"));
	engine_kvm.vcpu_reset(t->vcpu);
	engine_kvm.get_state(t->vcpu, s);
	assert_false(s->smm);
	tiny_vm_load64(t, "\xf4", 1);
	assert_int_equal(engine_kvm.run(t->vcpu), CPU_EXIT_HALTED);
}

/* Four entries of PAE paging at 5000h, and 32-bit code. */
static void the_entries_of_pae_paging_are_saved(void **state)
{
	static const uint64_t entries[4] = { 0x6001, 0, 0x7001, 0 };
	struct tiny_vm *t = vm_of(state);
	struct x86_state *s = malloc(sizeof(*s));
	struct err err;

	mem_write(t->mem, gpa(0x5000), entries, sizeof(entries));
	tiny_vm_load64(t, "\xf4", 1);
	engine_kvm.get_state(t->vcpu, s);
	s->efer &= ~(uint64_t)(X86_EFER_LMA | X86_EFER_LME);
	s->seg[X86_CS].attr = X86_SEG_P | X86_SEG_S | 11 | X86_SEG_DB | X86_SEG_G;
	s->cr3 = 0x5000;
	memcpy(s->pdpte, entries, sizeof(entries));
	if (engine_kvm.set_state(t->vcpu, s, &err)) {
		print_message("no PAE paging here: %s\n", err.msg);
		assert_false(kvm_is_fast);
		free(s);
		skip();
	}
	/* What the state beside KVM has is not told. */
	memset(kvm_cpu_of(t->vcpu)->s.pdpte, 0, sizeof(entries));
	memset(s->pdpte, 0, sizeof(entries));
	engine_kvm.get_state(t->vcpu, s);
	assert_memory_equal(s->pdpte, entries, sizeof(entries));
	free(s);
}

/* --- what a restore brings --- */

/* A leaf as KVM was given it last: not every KVM gives back what it took. */
static struct kvm_cpuid_entry2 leaf(struct tiny_vm *t, uint32_t function)
{
	const struct kvm_cpuid2 *table = ((struct kvm_vm *)t->vm)->cpuid;
	struct kvm_cpuid_entry2 e = { 0 };

	for (uint32_t n = 0; n < table->nent; n++)
		if (table->entries[n].function == function)
			e = table->entries[n];
	return e;
}

static uint32_t features_edx(struct tiny_vm *t)
{
	return leaf(t, 1).edx;
}

/* KVM offers them all the same: guests then send IPIs by a call that goes nowhere. */
static void what_needs_the_kernels_apic_is_hidden_without(void **state)
{
	struct tiny_vm *t = vm_of(state);

	assert_false(((struct kvm_vm *)t->vm)->split);
	tiny_vm_load64(t, "\xf4", 1);
	assert_int_equal(leaf(t, 1).ecx & (1u << 21 | 1u << 24), 0);
	assert_int_equal(leaf(t, 0x40000001).eax & (1u << 6 | 1u << 7 | 1u << 11 | 1u << 12), 0);
}

static void a_loaded_model_reaches_kvm(void **state)
{
	struct tiny_vm *t = vm_of(state);
	struct x86_features *f = ((struct kvm_vm *)t->vm)->model.features;

	tiny_vm_load64(t, "\xf4", 1);
	assert_int_equal(features_edx(t) >> 8 & 1, 1);
	f->on[X86_F_CX8] = false;
	x86_features_derive(f);
	tiny_vm_load64(t, "\xf4", 1);
	assert_int_equal(features_edx(t) >> 8 & 1, 0);
	assert_int_equal(features_edx(t) >> 4 & 1, 1);
	assert_int_equal(engine_kvm.run(t->vcpu), CPU_EXIT_HALTED);
}

static void pkru_goes_in_and_out(void **state)
{
	/* xor ecx, ecx; rdpkru; mov ebx, eax; mov eax, 0xa50; xor edx, edx; wrpkru; hlt */
	static const uint8_t code[] = { 0x31, 0xc9, 0x0f, 0x01, 0xee, 0x89, 0xc3, 0xb8, 0x50,
					0x0a, 0,    0,	  0x31, 0xd2, 0x0f, 0x01, 0xef, 0xf4 };
	struct tiny_vm *t = vm_of(state);
	struct x86_state *s;
	struct err err;

	if (!((const struct kvm_vm *)t->vm)->features->on[X86_F_PKU]) {
		print_message("skipped: no protection keys here\n");
		skip();
	}
	s = malloc(sizeof(*s));
	tiny_vm_load64(t, code, sizeof(code));
	engine_kvm.get_state(t->vcpu, s);
	s->cr4 |= X86_CR4_PKE;
	s->pkru = 0x5a0;
	assert_int_equal(engine_kvm.set_state(t->vcpu, s, &err), 0);
	engine_kvm.get_state(t->vcpu, s);
	assert_int_equal(s->pkru, 0x5a0);
	assert_int_equal(engine_kvm.run(t->vcpu), CPU_EXIT_HALTED);
	engine_kvm.get_state(t->vcpu, s);
	assert_int_equal(s->gpr[X86_RBX], 0x5a0);
	assert_int_equal(s->pkru, 0xa50);
	free(s);
}

static void a_loaded_rate_reaches_cpuid(void **state)
{
	struct tiny_vm *t = vm_of(state);
	const struct kvm_vm *vm = (const struct kvm_vm *)t->vm;
	uint64_t hz = vm->tsc_khz * 1000ull + 1000;

	if (!vm->tsc_khz)
		skip();
	clock_set_tsc_hz(t->clock, hz);
	tiny_vm_load64(t, "\xf4", 1);
	assert_int_equal(leaf(t, 0x15).ecx, (uint32_t)hz);
}

/* Some KVMs let a guest of an AMD model write more than they take from outside. */
static void what_a_guest_has_written_can_be_given_back(void **state)
{
	struct tiny_vm *t = vm_of(state);
	struct x86_state *s = malloc(sizeof(*s));
	struct err err;

	/* mov ecx, 0x175; mov eax, 0x12345678; mov edx, 0xffff8000; wrmsr; inc ecx; wrmsr; hlt */
	tiny_vm_load64(t, "\xb9\x75\x01\0\0\xb8\x78\x56\x34\x12\xba\0\x80\xff\xff\x0f\x30\xff\xc1\x0f\x30\xf4", 22);
	assert_int_equal(engine_kvm.run(t->vcpu), CPU_EXIT_HALTED);
	engine_kvm.get_state(t->vcpu, s);
	assert_true(s->sysenter_esp == 0x12345678 && s->sysenter_eip == 0x12345678);
	assert_int_equal(engine_kvm.set_state(t->vcpu, s, &err), 0);
	free(s);
}

static void another_rate_of_the_tsc_is_given_or_refused(void **state)
{
	struct tiny_vm *t = vm_of(state);
	const struct kvm_vm *vm = (const struct kvm_vm *)t->vm;
	int can = kvm_ioctl(vm->fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_TSC_CONTROL);
	struct x86_state *s = malloc(sizeof(*s));
	struct err err = { "" };

	engine_kvm.get_state(t->vcpu, s);
	clock_set_tsc_hz(t->clock, vm->tsc_khz * 700ull);
	if (can > 0) {
		assert_int_equal(engine_kvm.set_state(t->vcpu, s, &err), 0);
		assert_int_equal(kvm_ioctl(kvm_cpu_of(t->vcpu)->fd, KVM_GET_TSC_KHZ, NULL), vm->tsc_khz * 7 / 10);
	} else if (vm->tsc_khz) {
		assert_int_equal(engine_kvm.set_state(t->vcpu, s, &err), -1);
		assert_non_null(strstr(err.msg, "TSC"));
	}
	/* A host next to this one is as good. */
	clock_set_tsc_hz(t->clock, vm->tsc_khz * 1000ull + vm->tsc_khz / 10);
	assert_int_equal(engine_kvm.set_state(t->vcpu, s, &err), 0);
	free(s);
}

/* --- kvmclock --- */

#define PVCLOCK 0x9000u

/* What a guest makes of its page (struct pvclock_vcpu_time_info) at the TSC that it has read itself, before it halts.
 */
static int64_t pvclock_read(struct tiny_vm *t, struct x86_state *s)
{
	uint8_t b[32];
	uint64_t gone;
	int8_t shift;

	assert_int_equal(engine_kvm.run(t->vcpu), CPU_EXIT_HALTED);
	engine_kvm.get_state(t->vcpu, s);
	assert_true(mem_read(t->mem, gpa(PVCLOCK), b, sizeof(b)));
	assert_true(ld_le32(b) && !(ld_le32(b) & 1) && ld_le32(b + 24));
	gone = (s->gpr[X86_RAX] | s->gpr[X86_RDX] << 32) - ld_le64(b + 8);
	shift = (int8_t)b[28];
	gone = shift < 0 ? gone >> -shift : gone << shift;
	return (int64_t)(ld_le64(b + 16) + (uint64_t)((unsigned __int128)gone * ld_le32(b + 24) >> 32));
}

static int64_t pvclock_ns(struct tiny_vm *t, struct x86_state *s)
{
	/* mov ecx, 4b564d01h; mov eax, PVCLOCK | 1; xor edx, edx; wrmsr; rdtsc; hlt */
	tiny_vm_load64(t, "\xb9\x01\x4d\x56\x4b\xb8\x01\x90\0\0\x31\xd2\x0f\x30\x0f\x31\xf4", 17);
	return pvclock_read(t, s);
}

static bool has_kvmclock(const struct tiny_vm *t)
{
	const struct kvm_vm *vm = (const struct kvm_vm *)t->vm;

	return vm->features->on[X86_F_KVMCLOCK] && !vm->tsc_fixed;
}

#define CLOSE_NS 50000000

/* It is the machine's clock: it stands still with that, and never goes back. */
static void kvmclock_is_the_machines_clock(void **state)
{
	struct tiny_vm *t = vm_of(state);
	struct x86_state *s = malloc(sizeof(*s));
	int64_t before, ns, last = 0;

	if (!has_kvmclock(t)) {
		free(s);
		skip();
	}
	for (unsigned n = 0; n < 3; n++) {
		clock_start(t->clock);
		before = clock_now_ns(t->clock);
		ns = pvclock_ns(t, s);
		assert_true(ns >= last);
		assert_true(ns > before - CLOSE_NS && ns < clock_now_ns(t->clock) + CLOSE_NS);
		last = ns;
		clock_stop(t->clock);
		usleep(300000);
	}
	free(s);
}

static void carry_clock(struct vclock *from, struct vclock *to)
{
	FILE *f = tmpfile();
	struct err err;

	assert_non_null(f);
	assert_int_equal(state_save(f, &clock_state, "0", from, &err), 0);
	rewind(f);
	assert_int_equal(state_load(f, &clock_state, "0", to, &err), 0);
	fclose(f);
}

/* Without a word from the guest, which only reads its counter and its page. */
static void kvmclock_goes_on_after_a_restore(void **state)
{
	struct tiny_vm *t = vm_of(state), other;
	struct x86_state *s = malloc(sizeof(*s));
	int64_t before, ns, last;
	struct err err;

	if (!has_kvmclock(t)) {
		free(s);
		skip();
	}
	clock_start(t->clock);
	usleep(400000);
	last = pvclock_ns(t, s);
	clock_stop(t->clock);
	usleep(300000);
	tiny_vm_new_on(&other, &engine_kvm);
	carry_clock(t->clock, other.clock);
	tiny_vm_load64(&other, "\x0f\x31\xf4", 3); /* rdtsc; hlt */
	s->gpr[X86_RIP] = TINY_CODE;
	s->run = X86_RUNNING;
	assert_int_equal(engine_kvm.set_state(other.vcpu, s, &err), 0);
	clock_start(other.clock);
	before = clock_now_ns(other.clock);
	ns = pvclock_read(&other, s);
	assert_true(ns >= last);
	assert_true(ns > before - CLOSE_NS && ns < clock_now_ns(other.clock) + CLOSE_NS);
	tiny_vm_free(&other);
	free(s);
}

/* --- a debugger's stops --- */

#define AT(n) (TINY_CODE + (n))

static uint64_t rip(struct tiny_vm *t)
{
	struct x86_state *s = malloc(sizeof(*s));
	uint64_t v;

	engine_kvm.get_state(t->vcpu, s);
	v = s->gpr[X86_RIP];
	free(s);
	return v;
}

static void debug_stops(struct tiny_vm *t, uint64_t at)
{
	assert_int_equal(engine_kvm.run(t->vcpu), CPU_EXIT_DEBUG);
	assert_int_equal(rip(t), at);
}

/* QEMU's TCG has no debug registers for guests of its guests. */
static bool under_tcg(void)
{
	uint32_t a, b, c, d;

	__cpuid(0x40000000, a, b, c, d);
	return b == 0x54474354;
}

static void a_debugger_stops_it(void **state)
{
	struct tiny_vm *t = vm_of(state);
	static struct cpu_debug d;
	struct err err;

	if (under_tcg()) {
		d = (struct cpu_debug){ .count = 1, .points = { { AT(6), 0, DEBUG_EXEC } } };
		assert_int_equal(engine_kvm.set_debug(t->vcpu, &d, &err), -1);
		assert_non_null(strstr(err.msg, "0 places at most"));
		skip();
	}
	d = (struct cpu_debug){ .count = 2, .points = { { AT(6), 0, DEBUG_EXEC }, { 0x20004, 2, DEBUG_WRITE } } };
	/* mov eax, 5; 5: nop; 6: nop; 7: mov [0x20004], ax; 15: nop; 16: hlt */
	tiny_vm_load64(t, "\xb8\5\0\0\0\x90\x90\x66\x89\4\x25\4\0\2\0\x90\xf4", 17);
	/* A KVM that emulates watches no data, and one that does not stop for it does not say that it would. */
	if (!kvm_debug_by((struct kvm_vm *)t->vm, KVM_STOP_DATA)) {
		print_message("no watchpoints here: not tested\n");
		assert_int_equal(engine_kvm.set_debug(t->vcpu, &d, &err), -1);
		assert_non_null(strstr(err.msg, "watches no data"));
		d.points[1] = (struct debug_point){ AT(15), 0, DEBUG_EXEC };
	}
	assert_int_equal(engine_kvm.set_debug(t->vcpu, &d, &err), 0);
	debug_stops(t, AT(6));
	assert_true(!t->vcpu->stop.step && t->vcpu->stop.point.kind == DEBUG_EXEC);
	/* Not again at once. */
	debug_stops(t, AT(15));
	assert_int_equal(t->vcpu->stop.point.kind, d.points[1].kind);
	d.count = 0;
	assert_int_equal(engine_kvm.set_debug(t->vcpu, &d, &err), 0);
	assert_int_equal(engine_kvm.run(t->vcpu), CPU_EXIT_HALTED);
}

static void a_debugger_steps_it(void **state)
{
	struct tiny_vm *t = vm_of(state);
	static struct cpu_debug d;
	struct err err;

	d = (struct cpu_debug){ .step = true };
	tiny_vm_load64(t, "\x90\xb8\5\0\0\0\xf4", 7);
	assert_int_equal(engine_kvm.set_debug(t->vcpu, &d, &err), 0);
	debug_stops(t, AT(1));
	assert_true(t->vcpu->stop.step);
	debug_stops(t, AT(6));
	d.step = false;
	assert_int_equal(engine_kvm.set_debug(t->vcpu, &d, &err), 0);
	assert_int_equal(engine_kvm.run(t->vcpu), CPU_EXIT_HALTED);
}

/* Four points where nothing is, which take the registers, and one that needs an INT3. Skips where there are none. */
static void stop_by_int3(struct tiny_vm *t, uint64_t at)
{
	static struct cpu_debug d;
	struct err err;

	d = (struct cpu_debug){ .count = 5 };
	for (unsigned n = 0; n < 4; n++)
		d.points[n] = (struct debug_point){ 0x30000 + n, 0, DEBUG_EXEC };
	d.points[4] = (struct debug_point){ at, 0, DEBUG_EXEC };
	if (engine_kvm.set_debug(t->vcpu, &d, &err)) {
		print_message("%s\n", err.msg);
		assert_non_null(strstr(err.msg, under_tcg() ? "0 places at most" : "4 places at most"));
		assert_true(!kvm_is_fast || under_tcg());
		skip();
	}
}

/* While it stands still nothing is seen of them. */
static void a_fifth_place_stops_it(void **state)
{
	static const uint8_t code[] = { 0x90, 0xff, 0xc0, 0x90, 0xeb, 0xfa }; /* nop; 1: inc eax; nop; 4: jmp 0 */
	struct tiny_vm *t = vm_of(state);
	static struct x86_state now_is, *const s = &now_is;
	uint8_t now[sizeof(code)];

	tiny_vm_load64(t, code, sizeof(code));
	stop_by_int3(t, AT(1));
	for (unsigned n = 0; n < 5; n++) {
		debug_stops(t, AT(1));
		assert_int_equal(t->vcpu->stop.point.addr, AT(1));
		engine_kvm.get_state(t->vcpu, s);
		assert_int_equal(s->gpr[X86_RAX], n);
		assert_true(mem_read(t->mem, gpa(TINY_CODE), now, sizeof(now)));
		assert_memory_equal(now, code, sizeof(now));
	}
}

static void an_int3_of_the_guest_is_its_own(void **state)
{
	struct tiny_vm *t = vm_of(state);

	/* nop; 1: int3; hlt: without an IDT */
	tiny_vm_load64(t, "\x90\xcc\xf4", 3);
	stop_by_int3(t, AT(0));
	debug_stops(t, AT(0));
	assert_int_equal(engine_kvm.run(t->vcpu), CPU_EXIT_SHUTDOWN);
	/* And where one stands that is stopped at. */
	engine_kvm.vcpu_reset(t->vcpu);
	tiny_vm_load64(t, "\x90\xcc\xf4", 3);
	stop_by_int3(t, AT(1));
	debug_stops(t, AT(1));
	assert_int_equal(engine_kvm.run(t->vcpu), CPU_EXIT_SHUTDOWN);
}

/* The first GiB once more behind itself: the INT3 is there, the point is not. */
static void a_point_is_of_one_address(void **state)
{
	struct tiny_vm *t = vm_of(state);
	static struct x86_state now_is, *const s = &now_is;
	uint64_t e;

	assert_true(mem_read(t->mem, gpa(0x2000), &e, 8) && mem_write(t->mem, gpa(0x2008), &e, 8));
	/* inc eax; 2: inc eax; 4: hlt */
	tiny_vm_load64(t, "\xff\xc0\xff\xc0\xf4", 5);
	stop_by_int3(t, AT(2));
	tiny_vm_enter64(t, 0, AT(0) + (1u << 30), TINY_STACK);
	assert_int_equal(engine_kvm.run(t->vcpu), CPU_EXIT_HALTED);
	engine_kvm.get_state(t->vcpu, s);
	assert_int_equal(s->gpr[X86_RAX], 2);
	tiny_vm_enter64(t, 0, AT(0), TINY_STACK);
	debug_stops(t, AT(2));
}

static void a_reset_forgets_what_is_in_memory(void **state)
{
	struct tiny_vm *t = vm_of(state);

	tiny_vm_load64(t, "\x90\x90\xf4", 3);
	stop_by_int3(t, AT(1));
	engine_kvm.vcpu_reset(t->vcpu);
	tiny_vm_load64(t, "\x90\x90\xf4", 3);
	assert_int_equal(engine_kvm.run(t->vcpu), CPU_EXIT_HALTED);
}

static void more_than_the_processor_can_is_refused(void **state)
{
	struct tiny_vm *t = vm_of(state);
	static struct cpu_debug d;
	struct err err;

	if (!kvm_debug_by((struct kvm_vm *)t->vm, KVM_STOP_DATA))
		skip();
	d = (struct cpu_debug){ .count = 5 };
	for (unsigned n = 0; n < 5; n++)
		d.points[n] = (struct debug_point){ 0x20000 + 8 * n, 1, DEBUG_WRITE };
	assert_int_equal(engine_kvm.set_debug(t->vcpu, &d, &err), -1);
	assert_non_null(strstr(err.msg, "4 places"));
	/* Nine bytes are two registers' work, and 1 to 16 five's. */
	d = (struct cpu_debug){ .count = 1, .points = { { 0x20000, 9, DEBUG_ACCESS } } };
	assert_int_equal(engine_kvm.set_debug(t->vcpu, &d, &err), 0);
	d.points[0] = (struct debug_point){ 0x20001, 16, DEBUG_ACCESS };
	assert_int_equal(engine_kvm.set_debug(t->vcpu, &d, &err), -1);
	d.points[0] = (struct debug_point){ 0x20000, 1, DEBUG_READ };
	assert_int_equal(engine_kvm.set_debug(t->vcpu, &d, &err), -1);
	assert_non_null(strstr(err.msg, "reads"));
}

static void a_fifth_place_without_memory_is_refused(void **state)
{
	struct tiny_vm *t = vm_of(state);
	static struct cpu_debug d;
	struct err err;

	d = (struct cpu_debug){ .count = 5 };
	for (unsigned n = 0; n < 5; n++)
		d.points[n] = (struct debug_point){ 0xffff000000000000 + n, 0, DEBUG_EXEC };
	assert_int_equal(engine_kvm.set_debug(t->vcpu, &d, &err), -1);
	assert_non_null(strstr(err.msg, " places "));
	d.count = 0;
	assert_int_equal(engine_kvm.set_debug(t->vcpu, &d, &err), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_state_comes_back_as_it_was),
		TEST(ports_and_halt_leave_the_guest),
		TEST(mmio_of_absent_memory_reads_all_ones),
		TEST(a_kick_ends_an_endless_loop),
		TEST(a_triple_fault_shuts_down),
		TEST(the_interpreter_goes_on_where_kvm_stopped),
		TEST(both_engines_save_the_same_segments),
		TEST(a_pending_trap_is_raised),
		TEST(an_nmi_on_its_way_waits),
		TEST(a_pending_triple_fault_is_a_shutdown),
		TEST(management_mode_is_told_and_refused),
		TEST(the_entries_of_pae_paging_are_saved),
		TEST(what_needs_the_kernels_apic_is_hidden_without),
		TEST(a_loaded_model_reaches_kvm),
		TEST(pkru_goes_in_and_out),
		TEST(a_loaded_rate_reaches_cpuid),
		TEST(what_a_guest_has_written_can_be_given_back),
		TEST(another_rate_of_the_tsc_is_given_or_refused),
		TEST(kvmclock_is_the_machines_clock),
		TEST(kvmclock_goes_on_after_a_restore),
		TEST(a_debugger_stops_it),
		TEST(a_debugger_steps_it),
		TEST(a_fifth_place_stops_it),
		TEST(an_int3_of_the_guest_is_its_own),
		TEST(a_point_is_of_one_address),
		TEST(a_reset_forgets_what_is_in_memory),
		TEST(more_than_the_processor_can_is_refused),
		TEST(a_fifth_place_without_memory_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
