/*
 * The architectural state to and from KVM. What KVM has no place for stays in kvm_cpu.s: a halted or waiting
 * processor while the local APIC is in user space, TSC_ADJUST's base, and what no processor does anything with.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/bytes.h"
#include "cpu/kvm/vcpu.h"
#include "cpu/x86/xsave.h"

#define VECTOR_DB   1
#define VECTOR_PF   14
#define FIELD(name) offsetof(struct x86_state, name)

/* --- segments --- */

static void segment_get(struct x86_segment *s, const struct kvm_segment *k)
{
	*s = (struct x86_segment){ .base = k->base, .limit = k->limit, .sel = k->selector, .unusable = k->unusable };
	s->attr = (uint16_t)(k->type | k->s << 4 | k->dpl << X86_SEG_DPL_SHIFT | k->present << 7 | k->avl << 12 |
			     k->l << 13 | k->db << 14 | k->g << 15);
}

static struct kvm_segment segment_set(const struct x86_segment *s)
{
	return (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->sel,
		.type = s->attr & X86_SEG_TYPE,
		.s = s->attr >> 4 & 1,
		.dpl = s->attr >> X86_SEG_DPL_SHIFT & 3,
		.present = s->attr >> 7 & 1,
		.avl = s->attr >> 12 & 1,
		.l = s->attr >> 13 & 1,
		.db = s->attr >> 14 & 1,
		.g = s->attr >> 15,
		.unusable = s->unusable,
	};
}

static struct kvm_segment *segment_of(struct kvm_sregs *k, enum x86_seg seg)
{
	struct kvm_segment *const list[X86_SEGS] = { &k->es, &k->cs, &k->ss, &k->ds, &k->fs, &k->gs, &k->ldt, &k->tr };

	return list[seg];
}

/* --- general and system registers --- */

static int regs_get(struct kvm_cpu *cpu, struct x86_state *s)
{
	struct kvm_regs r;
	struct kvm_sregs k;

	if (kvm_ioctl(cpu->fd, KVM_GET_REGS, &r) || kvm_ioctl(cpu->fd, KVM_GET_SREGS, &k))
		return -1;
	memcpy(s->gpr,
	       (const uint64_t[]){ r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11,
				   r.r12, r.r13, r.r14, r.r15, 0, r.rip },
	       sizeof(s->gpr));
	s->rflags = r.rflags;
	for (unsigned n = 0; n < X86_SEGS; n++)
		segment_get(&s->seg[n], segment_of(&k, n));
	s->gdt = (struct x86_dtable){ k.gdt.base, k.gdt.limit };
	s->idt = (struct x86_dtable){ k.idt.base, k.idt.limit };
	s->cr0 = k.cr0;
	s->cr2 = k.cr2;
	s->cr3 = k.cr3;
	s->cr4 = k.cr4;
	s->efer = k.efer;
	return 0;
}

static int general_set(struct kvm_cpu *cpu, const struct x86_state *s)
{
	const uint64_t *g = s->gpr;
	struct kvm_regs r = {
		.rax = g[0],
		.rcx = g[1],
		.rdx = g[2],
		.rbx = g[3],
		.rsp = g[4],
		.rbp = g[5],
		.rsi = g[6],
		.rdi = g[7],
		.r8 = g[8],
		.r9 = g[9],
		.r10 = g[10],
		.r11 = g[11],
		.r12 = g[12],
		.r13 = g[13],
		.r14 = g[14],
		.r15 = g[15],
		.rip = g[X86_RIP],
		.rflags = s->rflags,
	};

	return kvm_ioctl(cpu->fd, KVM_SET_REGS, &r);
}

static int regs_set(struct kvm_cpu *cpu, const struct x86_state *s)
{
	struct kvm_sregs k;

	if (kvm_ioctl(cpu->fd, KVM_GET_SREGS, &k))
		return -1;
	for (unsigned n = 0; n < X86_SEGS; n++)
		*segment_of(&k, n) = segment_set(&s->seg[n]);
	k.gdt = (struct kvm_dtable){ .base = s->gdt.base, .limit = s->gdt.limit };
	k.idt = (struct kvm_dtable){ .base = s->idt.base, .limit = s->idt.limit };
	k.cr0 = s->cr0;
	k.cr2 = s->cr2;
	k.cr3 = s->cr3;
	k.cr4 = s->cr4;
	k.efer = s->efer;
	memset(k.interrupt_bitmap, 0, sizeof(k.interrupt_bitmap));
	if (kvm_ioctl(cpu->fd, KVM_SET_SREGS, &k) || general_set(cpu, s) || kvm_ioctl(cpu->fd, KVM_GET_SREGS, &k))
		return -1;
	/* Some KVMs do not have every mode, and drop it without a word. */
	if (((k.cr0 ^ s->cr0) & (X86_CR0_PE | X86_CR0_PG)) || ((k.efer ^ s->efer) & X86_EFER_LMA)) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return 0;
}

/*
 * Of PAE paging, the entries that MOV CR3 has loaded. KVM tells and takes them where it can; a processor that reads
 * them at each walk instead, as AMD's do, has those in memory.
 */
static bool pae_paging(const struct x86_state *s)
{
	return s->cr0 & X86_CR0_PG && s->cr4 & X86_CR4_PAE && !(s->efer & X86_EFER_LMA);
}

static void pdptes_get(struct kvm_cpu *cpu, struct x86_state *s)
{
	struct kvm_sregs2 k;
	uint8_t b[32];

	if (!pae_paging(s))
		return;
	if (!kvm_ioctl(cpu->fd, KVM_GET_SREGS2, &k) && k.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID) {
		for (unsigned n = 0; n < 4; n++)
			s->pdpte[n] = k.pdptrs[n];
	} else if (mem_read(cpu->vm->cfg.mem, gpa(s->cr3 & 0xffffffe0), b, sizeof(b))) {
		for (unsigned n = 0; n < 4; n++)
			s->pdpte[n] = ld_le64(b + 8 * n);
	}
}

static void pdptes_set(struct kvm_cpu *cpu, const struct x86_state *s)
{
	struct kvm_sregs2 k;

	if (!pae_paging(s) || kvm_ioctl(cpu->fd, KVM_GET_SREGS2, &k))
		return;
	k.flags |= KVM_SREGS2_FLAGS_PDPTRS_VALID;
	for (unsigned n = 0; n < 4; n++)
		k.pdptrs[n] = s->pdpte[n];
	kvm_ioctl(cpu->fd, KVM_SET_SREGS2, &k);
}

static int debug_get(struct kvm_cpu *cpu, struct x86_state *s)
{
	struct kvm_debugregs d;

	if (kvm_ioctl(cpu->fd, KVM_GET_DEBUGREGS, &d))
		return -1;
	memcpy(s->dr, d.db, sizeof(s->dr));
	s->dr6 = d.dr6;
	s->dr7 = d.dr7;
	return 0;
}

static int debug_set(struct kvm_cpu *cpu, const struct x86_state *s)
{
	struct kvm_debugregs d = { .dr6 = s->dr6, .dr7 = s->dr7 };

	memcpy(d.db, s->dr, sizeof(s->dr));
	return kvm_ioctl(cpu->fd, KVM_SET_DEBUGREGS, &d);
}

/* --- x87 and vectors: the standard form of XSAVE; the upper halves are where CPUID leaf 0Dh says, 576 everywhere ---
 */

#define AREA_XSTATE_BV 512
#define AREA_UPPER     576

static int vectors_get(struct kvm_cpu *cpu, struct x86_state *s)
{
	struct kvm_xsave area;
	struct kvm_xcrs x = { 0 };
	const uint8_t *a = (const uint8_t *)area.region;
	uint64_t have;

	if (kvm_ioctl(cpu->fd, KVM_GET_XSAVE, &area) || kvm_ioctl(cpu->fd, KVM_GET_XCRS, &x))
		return -1;
	have = ld_le64(a + AREA_XSTATE_BV);
	s->fp.cw = ld_le16(a);
	s->fp.sw = ld_le16(a + 2);
	s->fp.valid = a[4];
	s->fp.op = ld_le16(a + 6) & 0x7ff;
	s->fp.ip = ld_le64(a + 8);
	s->fp.dp = ld_le64(a + 16);
	s->mxcsr = ld_le32(a + X86_FX_MXCSR);
	for (unsigned n = 0; n < 8; n++) {
		const uint8_t *r = a + 32 + 16 * n;

		s->fp.r[((s->fp.sw >> 11) + n) & 7] = (struct x86_fpreg){ ld_le64(r), ld_le16(r + 8) };
	}
	for (unsigned n = 0; n < 16; n++) {
		memset(&s->vec[n], 0, sizeof(s->vec[n]));
		memcpy(s->vec[n].b, a + X86_FX_XMM + 16 * n, 16);
		if (have & 4)
			memcpy(s->vec[n].b + 16, a + AREA_UPPER + 16 * n, 16);
	}
	/* KVM keeps it apart from the rest, and need not tell it in XSTATE_BV. */
	if (cpu->vm->features->on[X86_F_PKU])
		s->pkru = ld_le32(a + cpu->vm->features->pkru_at);
	s->xcr0 = 1;
	for (uint32_t n = 0; n < x.nr_xcrs; n++)
		if (!x.xcrs[n].xcr)
			s->xcr0 = x.xcrs[n].value;
	return 0;
}

static int vectors_set(struct kvm_cpu *cpu, const struct x86_state *s)
{
	struct kvm_xsave area = { 0 };
	struct kvm_xcrs x = { .nr_xcrs = 1, .xcrs = { { .xcr = 0, .value = s->xcr0 } } };
	uint8_t *a = (uint8_t *)area.region;

	st_le16(a, s->fp.cw);
	st_le16(a + 2, s->fp.sw);
	a[4] = s->fp.valid;
	st_le16(a + 6, s->fp.op);
	st_le64(a + 8, s->fp.ip);
	st_le64(a + 16, s->fp.dp);
	st_le32(a + X86_FX_MXCSR, s->mxcsr);
	for (unsigned n = 0; n < 8; n++) {
		const struct x86_fpreg *r = &s->fp.r[((s->fp.sw >> 11) + n) & 7];

		st_le64(a + 32 + 16 * n, r->mant);
		st_le16(a + 40 + 16 * n, r->sexp);
	}
	for (unsigned n = 0; n < 16; n++) {
		memcpy(a + X86_FX_XMM + 16 * n, s->vec[n].b, 16);
		memcpy(a + AREA_UPPER + 16 * n, s->vec[n].b + 16, 16);
	}
	if (cpu->vm->features->on[X86_F_PKU])
		st_le32(a + cpu->vm->features->pkru_at, s->pkru);
	st_le64(a + AREA_XSTATE_BV, cpu->vm->features->xcr0 ? cpu->vm->features->xcr0 : 3);
	if (kvm_ioctl(cpu->fd, KVM_SET_XSAVE, &area))
		return -1;
	return cpu->vm->features->xcr0 ? kvm_ioctl(cpu->fd, KVM_SET_XCRS, &x) : 0;
}

/* --- MSRs --- */

static const struct {
	uint32_t msr;
	uint16_t offset;
} msrs[] = {
	{ 0x3b, FIELD(tsc_adjust) },
	{ 0x174, FIELD(sysenter_cs) },
	{ 0x175, FIELD(sysenter_esp) },
	{ 0x176, FIELD(sysenter_eip) },
	{ 0x17a, FIELD(mcg_status) },
	{ 0x1a0, FIELD(misc_enable) },
	{ 0x1d9, FIELD(debugctl) },
	{ 0x277, FIELD(pat) },
	{ 0x2ff, FIELD(mtrr_def) },
	{ 0xda0, FIELD(xss) },
	{ 0xc0000081, FIELD(star) },
	{ 0xc0000082, FIELD(lstar) },
	{ 0xc0000083, FIELD(cstar) },
	{ 0xc0000084, FIELD(fmask) },
	{ 0xc0000102, FIELD(kernel_gs_base) },
	{ 0xc0000103, FIELD(tsc_aux) },
	{ 0x4b564d00, FIELD(kvm_wall_clock) },
	{ 0x4b564d01, FIELD(kvm_system_time) },
	{ 0x4b564d03, FIELD(kvm_steal_time) },
	{ 0x4b564d05, FIELD(kvm_poll_control) },
};

/* KVM tells which it keeps, which depends on its version; about others it complains in the host's log. */
static bool msr_kept(const struct kvm_vm *vm, uint32_t msr)
{
	for (uint32_t n = 0; n < vm->msrs->nmsrs; n++)
		if (vm->msrs->indices[n] == msr)
			return true;
	/* Memory types: KVM's list leaves them out. */
	return (msr >= 0x200 && msr <= 0x2ff) || msr == 0x10;
}

bool kvm_msr_transfer(struct kvm_cpu *cpu, unsigned long request, uint32_t msr, uint64_t *value)
{
	_Alignas(struct kvm_msrs) uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)] = { 0 };
	struct kvm_msrs *m = (struct kvm_msrs *)room;

	m->nmsrs = 1;
	m->entries[0] = (struct kvm_msr_entry){ .index = msr, .data = *value };
	if (!msr_kept(cpu->vm, msr) || kvm_ioctl(cpu->fd, request, m) != 1)
		return false;
	*value = m->entries[0].data;
	return true;
}

static uint64_t *field(const struct x86_state *s, uint16_t offset)
{
	return (uint64_t *)((uintptr_t)s + offset);
}

/* The first of them that KVM refuses, or 0. */
static uint32_t each_mtrr(struct kvm_cpu *cpu, struct x86_state *s, unsigned long request)
{
	static const uint16_t fixed[11] = {
		0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f
	};

	for (unsigned n = 0; n < 11; n++)
		if (!kvm_msr_transfer(cpu, request, fixed[n], &s->mtrr_fixed[n]) && s->mtrr_fixed[n])
			return fixed[n];
	for (unsigned n = 0; n < 16; n++)
		if (!kvm_msr_transfer(cpu, request, 0x200 + n, &s->mtrr_var[n]) && s->mtrr_var[n])
			return 0x200 + n;
	return 0;
}

static void plain_msrs_get(struct kvm_cpu *cpu, struct x86_state *s)
{
	_Alignas(struct kvm_msrs)
		uint8_t room[sizeof(struct kvm_msrs) + ARRAY_LEN(msrs) * sizeof(struct kvm_msr_entry)];
	struct kvm_msrs *m = (struct kvm_msrs *)room;
	size_t row[ARRAY_LEN(msrs)], first = 0;

	/* In one call, which ends at one that KVM does not have after all. */
	while (first < ARRAY_LEN(msrs)) {
		memset(room, 0, sizeof(room));
		for (size_t n = first; n < ARRAY_LEN(msrs); n++) {
			if (!msr_kept(cpu->vm, msrs[n].msr))
				continue;
			row[m->nmsrs] = n;
			m->entries[m->nmsrs++].index = msrs[n].msr;
		}
		int got = m->nmsrs ? kvm_ioctl(cpu->fd, KVM_GET_MSRS, m) : 0;

		for (int n = 0; n < got; n++)
			*field(s, msrs[row[n]].offset) = m->entries[n].data;
		first = got >= 0 && (unsigned)got < m->nmsrs ? row[got] + 1 : ARRAY_LEN(msrs);
	}
	/* AMD's are for 32-bit kernels only. KVM lets guests write more, tells it, and does not take it back. */
	if (cpu->vm->features->vendor == X86_AMD) {
		s->sysenter_esp = (uint32_t)s->sysenter_esp;
		s->sysenter_eip = (uint32_t)s->sysenter_eip;
	}
}

static void msrs_get(struct kvm_cpu *cpu, struct x86_state *s)
{
	plain_msrs_get(cpu, s);
	kvm_hyperv_get(cpu, s);
	each_mtrr(cpu, s, KVM_GET_MSRS);
	/* Where the guest's counter cannot be moved, the state is what it should have been. */
	if (!cpu->vm->tsc_fixed)
		s->tsc_offset = kvm_tsc_offset(cpu);
}

/* False: KVM refuses this value. What it does not keep stays in kvm_cpu.s. */
static bool msr_set(struct kvm_cpu *cpu, size_t n, const struct x86_state *s)
{
	uint64_t v = *field(s, msrs[n].offset), kept = v;

	if (!msr_kept(cpu->vm, msrs[n].msr))
		return true;
	/* Some it drops without a word; 0 is what an MSR that it refuses to have has anyway. */
	if (!kvm_msr_transfer(cpu, KVM_SET_MSRS, msrs[n].msr, &v) ||
	    !kvm_msr_transfer(cpu, KVM_GET_MSRS, msrs[n].msr, &kept))
		kept = 0;
	return kept == v;
}

static int refuse_msr(const struct kvm_cpu *cpu, uint32_t msr, struct err *err)
{
	return err_set(err, "engine: KVM refuses the value of MSR %#x of CPU %u", msr, cpu->vcpu.index);
}

static int msrs_set(struct kvm_cpu *cpu, const struct x86_state *s, struct err *err)
{
	struct x86_state copy = *s;
	uint32_t refused = each_mtrr(cpu, &copy, KVM_SET_MSRS);

	for (size_t n = 0; n < ARRAY_LEN(msrs) && !refused; n++)
		if (!msr_set(cpu, n, s))
			refused = msrs[n].msr;
	kvm_tsc_set_offset(cpu, s->tsc_offset);
	/* After the TSC, of which a page tells. */
	if (!refused)
		refused = kvm_hyperv_set(cpu, s);
	return refused ? refuse_msr(cpu, refused, err) : 0;
}

/* --- what is between instructions --- */

/*
 * With its local APIC in the kernel, a vCPU waits there. INIT and SIPI that have come meanwhile are taken by this call,
 * so it is before all others.
 */
static int run_state_get(struct kvm_cpu *cpu, struct x86_state *s)
{
	struct kvm_mp_state m;

	if (!cpu->vm->split)
		return 0;
	if (kvm_ioctl(cpu->fd, KVM_GET_MP_STATE, &m))
		return -1;
	if (s->run != X86_SHUTDOWN)
		s->run = m.mp_state == KVM_MP_STATE_HALTED	    ? X86_HALTED
			 : m.mp_state == KVM_MP_STATE_UNINITIALIZED ? X86_WAIT_SIPI
			 : m.mp_state == KVM_MP_STATE_INIT_RECEIVED ? X86_WAIT_SIPI
								    : X86_RUNNING;
	return 0;
}

/* A SIPI starts a vCPU that has seen an INIT, not one that is uninitialized, whose INIT is not in its state. */
static int run_state_set(struct kvm_cpu *cpu, const struct x86_state *s)
{
	bool waits = s->run == X86_WAIT_SIPI || s->init_pending;
	struct kvm_mp_state m = { .mp_state = waits && s->sipi_pending		      ? KVM_MP_STATE_SIPI_RECEIVED
					      : s->run == X86_WAIT_SIPI		      ? KVM_MP_STATE_INIT_RECEIVED
					      : s->run == X86_HALTED && !s->pv_unhalt ? KVM_MP_STATE_HALTED
										      : KVM_MP_STATE_RUNNABLE };

	return cpu->vm->split ? kvm_ioctl(cpu->fd, KVM_SET_MP_STATE, &m) : 0;
}

static int events_get(struct kvm_cpu *cpu, struct x86_state *s)
{
	struct kvm_vcpu_events e;

	if (kvm_ioctl(cpu->fd, KVM_GET_VCPU_EVENTS, &e))
		return -1;
	/* KVM masks NMIs already while one is on its way, which here is one that waits. */
	s->nmi_blocked = e.nmi.masked && !e.nmi.injected;
	s->nmi_pending = (uint8_t)(e.nmi.pending + e.nmi.injected);
	s->shadow_sti = e.interrupt.shadow & KVM_X86_SHADOW_INT_STI;
	s->shadow_mov_ss = e.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS;
	s->event.valid = false;
	if (cpu->vm->payloads)
		s->debug_pending = 0;
	if (e.exception.pending && e.exception.nr == VECTOR_DB && e.exception_has_payload)
		s->debug_pending = e.exception_payload & X86_DR6_PENDING;
	else if (e.exception.pending && e.exception.nr == VECTOR_PF && e.exception_has_payload)
		s->cr2 = e.exception_payload;
	if (e.exception.injected || (e.exception.pending && !s->debug_pending))
		s->event =
			(struct x86_event){ true, e.exception.nr, e.exception.has_error_code, e.exception.error_code };
	else if (e.interrupt.injected)
		s->event = (struct x86_event){ true, e.interrupt.nr, false, 0 };
	if (e.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT && e.triple_fault.pending)
		s->run = X86_SHUTDOWN;
	/* A guest can send itself there, though this engine has no memory for it: what goes on elsewhere is to know. */
	if (e.flags & KVM_VCPUEVENT_VALID_SMM && e.smi.smm) {
		s->smm = true;
		s->smm_nmi_blocked = e.smi.smm_inside_nmi;
		s->init_pending = e.smi.latched_init;
	}
	s->smi_pending = e.flags & KVM_VCPUEVENT_VALID_SMM && e.smi.pending;
	return 0;
}

static void events_of(const struct kvm_cpu *cpu, const struct x86_state *s, struct kvm_vcpu_events *out)
{
	struct kvm_vcpu_events e = { .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW };

	e.nmi.masked = s->nmi_blocked;
	e.nmi.pending = s->nmi_pending;
	e.interrupt.shadow = (uint8_t)((s->shadow_sti ? KVM_X86_SHADOW_INT_STI : 0) |
				       (s->shadow_mov_ss ? KVM_X86_SHADOW_INT_MOV_SS : 0));
	if (s->event.valid && x86_event_is_exception(s)) {
		e.exception.injected = 1;
		e.exception.nr = s->event.vector;
		e.exception.has_error_code = s->event.has_error;
		e.exception.error_code = s->event.error;
	} else if (s->event.valid) {
		e.interrupt.injected = 1;
		e.interrupt.nr = s->event.vector;
	}
	if (cpu->vm->payloads)
		e.flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
	if (cpu->vm->payloads && s->debug_pending && !e.exception.injected) {
		e.exception.pending = 1;
		e.exception.nr = VECTOR_DB;
		e.exception_has_payload = 1;
		e.exception_payload = s->debug_pending;
	}
	/* Not a triple fault that was before: see check() and kvm_vcpu_run(). */
	if (cpu->vm->triple_faults)
		e.flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	*out = e;
}

/*
 * An NMI that another vCPU sends to KVM's local APIC comes at any time after the events were read: only a number that
 * has changed is written. One on its way is forgotten by each write, and is masked by itself.
 */
static int keep_nmis(struct kvm_cpu *cpu, const struct x86_state *from, const struct x86_state *to,
		     struct kvm_vcpu_events *e)
{
	struct kvm_vcpu_events now;

	if (from->nmi_pending != to->nmi_pending)
		return 0;
	if (kvm_ioctl(cpu->fd, KVM_GET_VCPU_EVENTS, &now))
		return -1;
	e->flags &= ~(uint32_t)KVM_VCPUEVENT_VALID_NMI_PENDING;
	e->nmi.injected = now.nmi.injected;
	e->nmi.masked |= now.nmi.injected && now.nmi.masked;
	return 0;
}

/*
 * With what others have sent, where the local APIC is KVM's, and without system management mode that was before. An
 * INIT is KVM's before any vCPU runs: a SIPI that comes next finds it. The local APIC is reset by it, too, whose state
 * may come after this one. `from`: what was read of a vCPU that runs, or NULL.
 */
static int all_events_set(struct kvm_cpu *cpu, const struct x86_state *from, const struct x86_state *s)
{
	struct kvm_vcpu_events e;

	events_of(cpu, s, &e);
	if (from && keep_nmis(cpu, from, s, &e))
		return -1;
	if (cpu->vm->smm || (cpu->vm->split && s->init_pending)) {
		e.flags |= KVM_VCPUEVENT_VALID_SMM;
		e.smi.latched_init = cpu->vm->split && s->init_pending;
	}
	if (cpu->vm->split && s->sipi_pending) {
		e.flags |= KVM_VCPUEVENT_VALID_SIPI_VECTOR;
		e.sipi_vector = s->sipi_vector;
	}
	if (kvm_ioctl(cpu->fd, KVM_SET_VCPU_EVENTS, &e))
		return -1;
	if (!cpu->vm->split || !s->init_pending)
		return 0;
	/* Linux before 5.4 takes it in system management mode only. */
	if (kvm_ioctl(cpu->fd, KVM_GET_VCPU_EVENTS, &e))
		return -1;
	errno = EOPNOTSUPP;
	return e.smi.latched_init ? 0 : -1;
}

/* While other vCPUs run, whose INIT is not to be lost. */
static int events_change(struct kvm_cpu *cpu, const struct x86_state *from, const struct x86_state *to)
{
	struct kvm_vcpu_events before, e;

	events_of(cpu, from, &before);
	events_of(cpu, to, &e);
	if (!memcmp(&before, &e, sizeof(e)))
		return 0;
	return keep_nmis(cpu, from, to, &e) ? -1 : kvm_ioctl(cpu->fd, KVM_SET_VCPU_EVENTS, &e);
}

static int all_but_msrs_get(struct kvm_cpu *cpu, struct x86_state *s)
{
	kvm_vcpu_finish(cpu);
	*s = cpu->s;
	if (run_state_get(cpu, s) || regs_get(cpu, s) || debug_get(cpu, s) || vectors_get(cpu, s) || events_get(cpu, s))
		return -1;
	pdptes_get(cpu, s);
	return 0;
}

int kvm_state_get(struct kvm_cpu *cpu, struct x86_state *s)
{
	if (all_but_msrs_get(cpu, s))
		return -1;
	msrs_get(cpu, s);
	x86_model_fit(cpu->vm->features, s);
	return 0;
}

int kvm_state_peek(struct kvm_cpu *cpu, struct x86_state *s)
{
	if (all_but_msrs_get(cpu, s))
		return -1;
	plain_msrs_get(cpu, s);
	/* The one that the guest sees, also where it is not what it should be. */
	s->tsc_offset = kvm_tsc_offset(cpu);
	return 0;
}

/* Whether what lies from one field up to another differs; bytes between fields do no harm. */
#define DIFFERS(a, b, first, behind)                                                                                   \
	memcmp((const char *)(a) + FIELD(first), (const char *)(b) + FIELD(first), FIELD(behind) - FIELD(first))

int kvm_state_change(struct kvm_cpu *cpu, const struct x86_state *from, const struct x86_state *to, struct err *err)
{
	uint64_t tsc_offset = cpu->s.tsc_offset;
	bool system = DIFFERS(from, to, seg, xcr0) || from->efer != to->efer;
	bool vectors = DIFFERS(from, to, fp, efer) || from->xcr0 != to->xcr0;

	cpu->s = *to;
	cpu->s.tsc_offset = tsc_offset;
	if ((system ? regs_set(cpu, to) : general_set(cpu, to)) ||
	    (DIFFERS(from, to, dr, pdpte) && debug_set(cpu, to)) || (vectors && vectors_set(cpu, to)) ||
	    (from->smm != to->smm ? all_events_set(cpu, from, to) : events_change(cpu, from, to)) ||
	    (from->run != to->run && run_state_set(cpu, to)))
		return err_errno(err, errno, "engine: KVM refuses the state of CPU %u", cpu->vcpu.index);
	if (system)
		pdptes_set(cpu, to);
	for (size_t n = 0; n < ARRAY_LEN(msrs); n++)
		if (*field(from, msrs[n].offset) != *field(to, msrs[n].offset) && !msr_set(cpu, n, to))
			return refuse_msr(cpu, msrs[n].msr, err);
	return 0;
}

/* What this model of a processor has no place for. */
static int check(const struct kvm_cpu *cpu, const struct x86_state *s, struct err *err)
{
	for (unsigned n = 0; n < ARRAY_LEN(s->vec) && !(cpu->vm->features->xcr0 & 4); n++)
		if (s->vec[n].q[2] | s->vec[n].q[3])
			return err_set(err, "engine: CPU %u has vectors wider than this processor model's",
				       cpu->vcpu.index);
	if (cpu->vm->features->vendor == X86_AMD && (s->sysenter_esp | s->sysenter_eip) >> 32)
		return err_set(err,
			       "engine: the addresses for SYSENTER of CPU %u are wider than this processor model's",
			       cpu->vcpu.index);
	return 0;
}

int kvm_state_set(struct kvm_cpu *cpu, const struct x86_state *s, struct err *err)
{
	struct x86_state before = { .run = X86_RUNNING };

	if (check(cpu, s, err) || kvm_features_apply(cpu, err) || kvm_tsc_set_rate(cpu, err))
		return -1;
	cpu->s = *s;
	cpu->unfinished = false;
	/* The caller's: either KVM has them now, or vcpu.events. */
	cpu->s.smi_pending = cpu->s.init_pending = cpu->s.sipi_pending = false;
	cpu->s.pv_unhalt = s->pv_unhalt && !(cpu->vm->split && s->run == X86_HALTED);
	/* What was sent to the state before is taken by that. */
	if (run_state_get(cpu, &before) || regs_set(cpu, s) || debug_set(cpu, s) || vectors_set(cpu, s) ||
	    all_events_set(cpu, NULL, s) || run_state_set(cpu, s))
		return err_errno(err, errno, "engine: KVM refuses the state of CPU %u", cpu->vcpu.index);
	pdptes_set(cpu, s);
	return msrs_set(cpu, s, err);
}
