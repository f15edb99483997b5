/* The saved form of the architectural state, its reset values and its checks. */
#include "cpu/x86/state.h"

#include <string.h>

#include "base/bytes.h"
#include "cpu/x86/fault.h"

static const struct state_field segment_fields[] = {
	STATE_U64F(struct x86_segment, base),	   STATE_U32F(struct x86_segment, limit),
	STATE_U16F(struct x86_segment, sel),	   STATE_U16F(struct x86_segment, attr),
	STATE_BOOLF(struct x86_segment, unusable), STATE_FIELD_END,
};
static const struct state_desc segment_state = {
	.name = "segment",
	.version = 1,
	.min_version = 1,
	.fields = segment_fields,
};

static const struct state_field dtable_fields[] = {
	STATE_U64F(struct x86_dtable, base),
	STATE_U16F(struct x86_dtable, limit),
	STATE_FIELD_END,
};
static const struct state_desc dtable_state = {
	.name = "dtable",
	.version = 1,
	.min_version = 1,
	.fields = dtable_fields,
};

static const struct state_field fpreg_fields[] = {
	STATE_U64F(struct x86_fpreg, mant),
	STATE_U16F(struct x86_fpreg, sexp),
	STATE_FIELD_END,
};
static const struct state_desc fpreg_state = {
	.name = "fpreg",
	.version = 1,
	.min_version = 1,
	.fields = fpreg_fields,
};

static const struct state_field x87_fields[] = {
	STATE_U16F(struct x86_x87, cw),
	STATE_U16F(struct x86_x87, sw),
	STATE_U8F(struct x86_x87, valid),
	STATE_U16F(struct x86_x87, op),
	STATE_U16F(struct x86_x87, cs),
	STATE_U16F(struct x86_x87, ds),
	STATE_U64F(struct x86_x87, ip),
	STATE_U64F(struct x86_x87, dp),
	STATE_SUBA(struct x86_x87, r, &fpreg_state),
	STATE_FIELD_END,
};
static const struct state_desc x87_state = {
	.name = "x87",
	.version = 1,
	.min_version = 1,
	.fields = x87_fields,
};

static const struct state_field vec_fields[] = { STATE_U8A(union x86_vec, b), STATE_FIELD_END };
static const struct state_desc vec_state = {
	.name = "vec",
	.version = 1,
	.min_version = 1,
	.fields = vec_fields,
};

static const struct state_field event_fields[] = {
	STATE_BOOLF(struct x86_event, valid),
	STATE_U8F(struct x86_event, vector),
	STATE_BOOLF(struct x86_event, has_error),
	STATE_U32F(struct x86_event, error),
	STATE_FIELD_END,
};
static const struct state_desc event_state = {
	.name = "event",
	.version = 1,
	.min_version = 1,
	.fields = event_fields,
};

#define S struct x86_state
static const struct state_field fields[] = {
	STATE_U64A(S, gpr),
	STATE_U64F(S, rflags),
	STATE_SUBA(S, seg, &segment_state),
	STATE_SUB(S, gdt, &dtable_state),
	STATE_SUB(S, idt, &dtable_state),
	STATE_U64F(S, cr0),
	STATE_U64F(S, cr2),
	STATE_U64F(S, cr3),
	STATE_U64F(S, cr4),
	STATE_U64F(S, xcr0),
	STATE_U64F(S, xss),
	STATE_U64A(S, dr),
	STATE_U64F(S, dr6),
	STATE_U64F(S, dr7),
	STATE_U64A(S, pdpte),
	STATE_SUB(S, fp, &x87_state),
	STATE_SUBA(S, vec, &vec_state),
	STATE_U32F(S, mxcsr),
	STATE_U32F(S, pkru),
	STATE_U64F(S, efer),
	STATE_U64F(S, star),
	STATE_U64F(S, lstar),
	STATE_U64F(S, cstar),
	STATE_U64F(S, fmask),
	STATE_U64F(S, kernel_gs_base),
	STATE_U64F(S, sysenter_cs),
	STATE_U64F(S, sysenter_esp),
	STATE_U64F(S, sysenter_eip),
	STATE_U64F(S, pat),
	STATE_U64F(S, tsc_offset),
	STATE_U64F(S, tsc_adjust),
	STATE_U64F(S, tsc_aux),
	STATE_U64F(S, misc_enable),
	STATE_U64F(S, debugctl),
	STATE_U64F(S, mcg_status),
	STATE_U64F(S, mcg_ctl),
	STATE_U64A(S, mc_bank),
	STATE_U64F(S, mtrr_def),
	STATE_U64A(S, mtrr_fixed),
	STATE_U64A(S, mtrr_var),
	STATE_U64F(S, kvm_wall_clock),
	STATE_U64F(S, kvm_system_time),
	STATE_U64F(S, kvm_poll_control),
	STATE_U64F(S, kvm_steal_time),
	STATE_U64F(S, hv_vp_assist),
	STATE_U8F(S, run),
	STATE_BOOLF(S, shadow_sti),
	STATE_BOOLF(S, shadow_mov_ss),
	STATE_BOOLF(S, nmi_blocked),
	STATE_U8F(S, nmi_pending),
	STATE_BOOLF(S, smi_pending),
	STATE_BOOLF(S, init_pending),
	STATE_BOOLF(S, sipi_pending),
	STATE_U8F(S, sipi_vector),
	STATE_BOOLF(S, smm),
	STATE_BOOLF(S, smm_nmi_blocked),
	STATE_U32F(S, smbase),
	STATE_BOOLF(S, pv_unhalt),
	STATE_U64F(S, debug_pending),
	STATE_SUB(S, event, &event_state),
	STATE_FIELD_END,
};
#undef S

/*
 * Processors keep less of a segment register than the bits that it has, and not all the same: AMD's have no unusable
 * segments but absent ones and no granularity beside the limit, and none tells whether the rest was touched.
 */
static void make_segment_canonical(struct x86_segment *s, enum x86_seg n)
{
	static const uint16_t null[X86_SEGS] = { [X86_LDTR] = X86_SEG_P | 2, [X86_TR] = X86_SEG_P | 11 };
	uint16_t dpl = n == X86_SS ? s->attr & 3u << X86_SEG_DPL_SHIFT : 0;

	/* Code is executed, so it is there. */
	if (n == X86_CS) {
		s->attr |= X86_SEG_P;
		s->unusable = false;
	}
	/* A table without room for one descriptor is as good as none. */
	if (s->unusable || !(s->attr & X86_SEG_P) || (n == X86_LDTR && s->limit < 7)) {
		s->unusable = true;
		s->limit = 0;
		s->attr = (null[n] ? null[n] : X86_SEG_P | X86_SEG_S | 3) | dpl;
		return;
	}
	s->attr &= ~X86_SEG_G;
	s->attr |= s->limit > 0xfffff ? X86_SEG_G : 0;
	/* Accessed, and of a TSS busy. */
	s->attr |= n == X86_TR ? 2 : n == X86_LDTR ? 0 : 1;
}

void x86_state_canonical(struct x86_state *s)
{
	for (unsigned n = 0; n < X86_SEGS; n++)
		make_segment_canonical(&s->seg[n], n);
}

static void pre_save(void *obj)
{
	x86_state_canonical(obj);
}

static int post_load(void *obj, struct err *err)
{
	return x86_state_check(obj, err);
}

const struct state_desc x86_state_desc = {
	.name = "cpu-x86",
	.version = 1,
	.min_version = 1,
	.fields = fields,
	.pre_save = pre_save,
	.post_load = post_load,
};

static void reset_segments(struct x86_state *s)
{
	for (unsigned n = 0; n < X86_SEGS; n++)
		s->seg[n] = (struct x86_segment){ .limit = 0xffff, .attr = X86_SEG_P | X86_SEG_S | 3 };
	s->seg[X86_CS].sel = 0xf000;
	s->seg[X86_CS].base = 0xffff0000;
	s->seg[X86_LDTR].attr = X86_SEG_P | 2;
	s->seg[X86_TR].attr = X86_SEG_P | 11;
	s->gdt = s->idt = (struct x86_dtable){ .limit = 0xffff };
}

/* What INIT leaves alone: x87, vectors, MXCSR, PKRU, MTRRs, machine check banks, TSC and the cache bits of CR0 (SDM
 * vol. 3, table 10-1). */
static void init_only(struct x86_state *fresh, const struct x86_state *old)
{
	fresh->fp = old->fp;
	memcpy(fresh->vec, old->vec, sizeof(fresh->vec));
	fresh->mxcsr = old->mxcsr;
	fresh->pkru = old->pkru;
	fresh->xcr0 = old->xcr0;
	fresh->xss = old->xss;
	fresh->pat = old->pat;
	fresh->smbase = old->smbase;
	fresh->tsc_offset = old->tsc_offset;
	fresh->tsc_adjust = old->tsc_adjust;
	fresh->mcg_ctl = old->mcg_ctl;
	memcpy(fresh->mc_bank, old->mc_bank, sizeof(fresh->mc_bank));
	fresh->mtrr_def = old->mtrr_def;
	memcpy(fresh->mtrr_fixed, old->mtrr_fixed, sizeof(fresh->mtrr_fixed));
	memcpy(fresh->mtrr_var, old->mtrr_var, sizeof(fresh->mtrr_var));
	fresh->cr0 |= old->cr0 & (X86_CR0_CD | X86_CR0_NW);
}

void x86_state_reset(struct x86_state *s, bool bsp, bool init)
{
	struct x86_state old = *s;

	memset(s, 0, sizeof(*s));
	reset_segments(s);
	s->gpr[X86_RIP] = 0xfff0;
	s->rflags = X86_FLAGS_FIXED;
	s->cr0 = X86_CR0_ET;
	s->dr6 = 0xffff0ff0;
	s->dr7 = 0x400;
	s->run = bsp ? X86_RUNNING : X86_WAIT_SIPI;
	s->pat = 0x0007040600070406;
	s->misc_enable = 1; /* fast strings */
	s->kvm_poll_control = 1;
	s->smbase = 0x30000;
	if (init) {
		init_only(s, &old);
		return;
	}
	s->cr0 |= X86_CR0_CD | X86_CR0_NW;
	s->fp.cw = 0x40;
	s->fp.valid = 0xff;
	s->mxcsr = 0x1f80;
	s->xcr0 = 1;
}

static bool canonical(uint64_t v)
{
	return (uint64_t)((int64_t)(v << 16) >> 16) == v;
}

/* Those of real mode have no error code. */
bool x86_event_is_exception(const struct x86_state *s)
{
	return s->event.vector < 32 && (s->event.has_error == x86_has_error(s->event.vector) || !(s->cr0 & X86_CR0_PE));
}

int x86_state_check(const struct x86_state *s, struct err *err)
{
	bool paging = s->cr0 & X86_CR0_PG;

	if (s->gpr[X86_NOREG])
		return err_set(err, "gpr[%d] is not 0", X86_NOREG);
	if (s->debug_pending & ~(uint64_t)X86_DR6_PENDING || s->dr6 >> 32 || s->dr7 >> 32)
		return err_set(err, "the debug registers have reserved bits set");
	if (s->nmi_pending > 2)
		return err_set(err, "%u NMIs cannot be pending", s->nmi_pending);
	if (s->event.valid && s->event.has_error && !x86_has_error(s->event.vector))
		return err_set(err, "event %u has no error code", s->event.vector);
	if (s->kvm_poll_control & ~1ull)
		return err_set(err, "KVM_POLL_CONTROL has reserved bits set");
	if (s->run >= X86_RUN_STATES)
		return err_set(err, "run state %u does not exist", s->run);
	if ((paging && !(s->cr0 & X86_CR0_PE)) || s->cr0 >> 32)
		return err_set(err, "CR0 0x%llx is impossible", (unsigned long long)s->cr0);
	if (!!(s->efer & X86_EFER_LMA) != (paging && s->efer & X86_EFER_LME) ||
	    (s->efer & X86_EFER_LMA && !(s->cr4 & X86_CR4_PAE)))
		return err_set(err, "EFER 0x%llx does not fit CR0 and CR4", (unsigned long long)s->efer);
	if (s->cr3 >> 52 || !(s->rflags & X86_FLAGS_FIXED) || s->rflags >> 22)
		return err_set(err, "CR3 or RFLAGS has reserved bits set");
	if (s->rflags & X86_VM && s->efer & X86_EFER_LMA)
		return err_set(err, "RFLAGS has virtual-8086 mode set in long mode");
	for (unsigned n = 0; n < X86_SEGS; n++) {
		if (!canonical(s->seg[n].base))
			return err_set(err, "the base of segment %u is not canonical", n);
		if (s->seg[n].attr & X86_SEG_NONE)
			return err_set(err, "the attributes of segment %u have reserved bits set", n);
	}
	if (!canonical(s->gdt.base) || !canonical(s->idt.base))
		return err_set(err, "a descriptor table is not at a canonical address");
	if (!canonical(s->sysenter_esp) || !canonical(s->sysenter_eip) || !canonical(s->lstar) ||
	    !canonical(s->cstar) || !canonical(s->kernel_gs_base))
		return err_set(err, "an MSR for an address has one that is not canonical");
	if (s->mxcsr & 0xffff0000 || s->fp.op & 0xf800 || !(s->xcr0 & 1) || s->xss)
		return err_set(err, "the floating-point state has reserved bits set");
	return 0;
}
