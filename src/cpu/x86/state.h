/*
 * The architectural state of one x86-64 processor: what a VM's saved state holds, the same for
 * every engine of this ISA. Plain data; an object belongs to the thread that fills it.
 */
#ifndef VIREO_CPU_X86_STATE_H
#define VIREO_CPU_X86_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/state.h"

enum x86_gpr { X86_RAX, X86_RCX, X86_RDX, X86_RBX, X86_RSP, X86_RBP, X86_RSI, X86_RDI, X86_R8 };

/* The order of the segment registers' encoding; LDTR and TR follow. */
enum x86_seg { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS, X86_LDTR, X86_TR, X86_SEGS };

/* RFLAGS */
#define X86_CF		(1u << 0)
#define X86_PF		(1u << 2)
#define X86_AF		(1u << 4)
#define X86_ZF		(1u << 6)
#define X86_SF		(1u << 7)
#define X86_TF		(1u << 8)
#define X86_IF		(1u << 9)
#define X86_DF		(1u << 10)
#define X86_OF		(1u << 11)
#define X86_IOPL_SHIFT	12
#define X86_IOPL	(3u << 12)
#define X86_NT		(1u << 14)
#define X86_RF		(1u << 16)
#define X86_VM		(1u << 17)
#define X86_AC		(1u << 18)
#define X86_VIF		(1u << 19)
#define X86_VIP		(1u << 20)
#define X86_ID		(1u << 21)
#define X86_ARITH	(X86_CF | X86_PF | X86_AF | X86_ZF | X86_SF | X86_OF)
#define X86_FLAGS_FIXED 2u

/* CR0, CR4, EFER */
#define X86_CR0_PE	   (1u << 0)
#define X86_CR0_MP	   (1u << 1)
#define X86_CR0_EM	   (1u << 2)
#define X86_CR0_TS	   (1u << 3)
#define X86_CR0_ET	   (1u << 4)
#define X86_CR0_NE	   (1u << 5)
#define X86_CR0_WP	   (1u << 16)
#define X86_CR0_AM	   (1u << 18)
#define X86_CR0_NW	   (1u << 29)
#define X86_CR0_CD	   (1u << 30)
#define X86_CR0_PG	   (1u << 31)
#define X86_CR4_VME	   (1u << 0)
#define X86_CR4_PVI	   (1u << 1)
#define X86_CR4_TSD	   (1u << 2)
#define X86_CR4_DE	   (1u << 3)
#define X86_CR4_PSE	   (1u << 4)
#define X86_CR4_PAE	   (1u << 5)
#define X86_CR4_MCE	   (1u << 6)
#define X86_CR4_PGE	   (1u << 7)
#define X86_CR4_PCE	   (1u << 8)
#define X86_CR4_OSFXSR	   (1u << 9)
#define X86_CR4_OSXMMEXCPT (1u << 10)
#define X86_CR4_UMIP	   (1u << 11)
#define X86_CR4_LA57	   (1u << 12)
#define X86_CR4_FSGSBASE   (1u << 16)
#define X86_CR4_PCIDE	   (1u << 17)
#define X86_CR4_OSXSAVE	   (1u << 18)
#define X86_CR4_SMEP	   (1u << 20)
#define X86_CR4_SMAP	   (1u << 21)
#define X86_CR4_PKE	   (1u << 22)
#define X86_EFER_SCE	   (1u << 0)
#define X86_EFER_LME	   (1u << 8)
#define X86_EFER_LMA	   (1u << 10)
#define X86_EFER_NXE	   (1u << 11)
#define X86_EFER_AUTOIBRS  (1u << 21)

#define X86_DEBUGCTL_LBR (1u << 0)
#define X86_DEBUGCTL_BTF (1u << 1)

#define X86_XCR0_AVX 6u /* the vector registers and their upper halves */

#define X86_DR6_BS (1u << 14)
#define X86_DR6_BD (1u << 13)
#define X86_DR6_BT (1u << 15)
/* What may wait for the end of an instruction: breakpoints that were hit, the single step, a task switch. */
#define X86_DR6_PENDING (0xfu | X86_DR6_BS | X86_DR6_BT)

/*
 * Segment attributes: bits 15:0 as bits 55:40 of a descriptor (type 3:0, S, DPL 6:5, P, 11:8 of the
 * limit as zeros, AVL 12, L 13, D/B 14, G 15). `unusable` is a null selector's register.
 */
#define X86_SEG_TYPE	  0xfu
#define X86_SEG_S	  (1u << 4)
#define X86_SEG_DPL_SHIFT 5
#define X86_SEG_P	  (1u << 7)
#define X86_SEG_NONE	  (15u << 8)
#define X86_SEG_L	  (1u << 13)
#define X86_SEG_DB	  (1u << 14)
#define X86_SEG_G	  (1u << 15)
struct x86_segment {
	uint64_t base;
	uint32_t limit; /* in bytes, after granularity */
	uint16_t sel;
	uint16_t attr;
	bool unusable;
};

/* Machine check banks. */
#define X86_MC_BANKS 10

struct x86_dtable {
	uint64_t base;
	uint16_t limit;
};

/* An x87 register: 64-bit significand, sign and exponent. Physical order (not relative to TOP). */
struct x86_fpreg {
	uint64_t mant;
	uint16_t sexp;
};

struct x86_x87 {
	uint16_t cw;
	uint16_t sw;   /* with TOP in bits 13:11 */
	uint8_t valid; /* the abridged tag word of FXSAVE: a bit set is a register not empty */
	uint16_t op;   /* 11 bits */
	uint16_t cs, ds;
	uint64_t ip, dp;
	struct x86_fpreg r[8];
};

/* One vector register; `b` is little-endian byte order, wide enough for YMM. */
union x86_vec {
	uint8_t b[32];
	uint16_t w[16];
	uint32_t d[8];
	uint64_t q[4];
} __attribute__((aligned(32)));

/* An exception or interrupt that was accepted but not delivered (a fault during delivery, or a save in between). */
struct x86_event {
	bool valid;
	uint8_t vector;
	bool has_error;
	uint32_t error;
};

enum x86_run_state { X86_RUNNING, X86_HALTED, X86_WAIT_SIPI, X86_SHUTDOWN, X86_RUN_STATES };

struct x86_state {
	/* 16 general registers; [16] always reads 0 (no base, no index), [17] is RIP. */
	uint64_t gpr[18];
	uint64_t rflags; /* in an engine's live copy the six arithmetic flags may be elsewhere */
	struct x86_segment seg[X86_SEGS];
	struct x86_dtable gdt, idt;
	uint64_t cr0, cr2, cr3, cr4;
	uint64_t xcr0, xss;
	uint64_t dr[4], dr6, dr7;
	uint64_t pdpte[4]; /* PAE paging: the four entries loaded by MOV CR3 */

	struct x86_x87 fp;
	union x86_vec vec[16];
	uint32_t mxcsr;
	uint32_t pkru; /* two bits a protection key: access and write disabled */

	/* MSRs */
	uint64_t efer, star, lstar, cstar, fmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, tsc_offset /* guest TSC = clock_tsc() + this */, tsc_adjust, tsc_aux;
	uint64_t misc_enable, debugctl, mcg_status, mcg_ctl;
	uint64_t mc_bank[4 * X86_MC_BANKS]; /* CTL, STATUS, ADDR, MISC of each */
	uint64_t mtrr_def, mtrr_fixed[11], mtrr_var[16];
	uint64_t kvm_wall_clock, kvm_system_time, kvm_poll_control, kvm_steal_time;
	uint64_t hv_vp_assist;

	/* between instructions */
	uint8_t run;	     /* enum x86_run_state */
	bool shadow_sti;     /* interrupts held off until the next instruction is done */
	bool shadow_mov_ss;  /* as above, debug traps too */
	bool nmi_blocked;    /* an NMI handler runs, until IRET */
	uint8_t nmi_pending; /* how many: one is taken when NMIs are free, one more may wait behind it */
	bool smi_pending, init_pending, sipi_pending;
	/* System management mode: whether it is in it, whether NMIs were blocked before, and where its memory begins.
	 */
	bool smm, smm_nmi_blocked;
	uint32_t smbase;
	uint8_t sipi_vector;
	bool pv_unhalt;		/* a KVM "kick" arrived that the next HLT consumes */
	uint64_t debug_pending; /* DR6 bits of a #DB to be raised before the next instruction */
	struct x86_event event;
};

#define X86_RIP	  17
#define X86_NOREG 16

extern const struct state_desc x86_state_desc;

struct debug_isa;
extern const struct debug_isa x86_debug_isa; /* debug_isa.c */
struct inspect_isa;
extern const struct inspect_isa x86_inspect_isa; /* inspect.c */

/* Power-on (SDM vol. 3, 10.1.1) or INIT state; `bsp` runs at the reset vector, others wait for SIPI. */
void x86_state_reset(struct x86_state *s, bool bsp, bool init);
/*
 * The form in which a state is saved: what no guest can tell from its segment registers is always the same, whatever
 * the engine (docs/state.md).
 */
void x86_state_canonical(struct x86_state *s);
/* events.c: the NMIs among `news` (VCPU_EV_*) become pending: one is being served and one waits. SDM vol. 3, 6.7.1. */
void x86_add_nmis(struct x86_state *s, uint32_t news);
/* Every value is one that the processor could hold: used after a restore and by set_state. */
int x86_state_check(const struct x86_state *s, struct err *err);
/* What its event is: an exception, or an external interrupt, whose vector may be any. */
bool x86_event_is_exception(const struct x86_state *s);

#endif
