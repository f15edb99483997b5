/* See diff_check.h. */
#include "diff_check.h"

#include <cpuid.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/fault.h"

/* The processors differ in more than the architecture leaves open. */
static bool host_is_amd;
static bool host_has_avx;
static bool undefined_too; /* compare undefined flags */

void diff_check_init(void)
{
	uint32_t a, b = 0, c, d;

	host_has_avx = x86_host_has(X86_F_AVX);
	undefined_too = getenv("VIREO_DIFF_UNDEFINED");
	host_is_amd = __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx;
}

/*
 * FXSAVE of the last x87 instruction and operand. AMD's processors keep them for a pending exception only: others
 * store zeros or nothing. Intel's newer ones know the operand only of unmasked exceptions, and mostly no FOP.
 */
static bool pointers_defined(const uint8_t *fx)
{
	return host_is_amd && fx[2] & 0x80;
}

/* The instruction that faulted; NULL: the block was done, or an INT3 or the like ended it. */
static const struct diff_insn *insn_at(const struct diff_block *b, const struct diff_result *d)
{
	if (d->vector != DIFF_DONE)
		for (unsigned n = 0; n < b->insns; n++)
			if (d->s.rip == b->entry + b->insn[n].at)
				return &b->insn[n];
	return NULL;
}

static const struct diff_insn *fault_at(const struct diff_block *b, const struct diff_slot *s)
{
	return insn_at(b, &s->host);
}

/* The flags that are undefined where the block ended. */
static uint16_t undefined(const struct diff_block *b, const struct diff_slot *s)
{
	const struct diff_insn *first = &b->insn[0];
	const struct diff_operand *last = &first->form->op[first->form->ops ? first->form->ops - 1 : 0];
	const struct diff_insn *fault = fault_at(b, s);

	if (undefined_too)
		return 0;
	if (fault)
		return fault->undefined;
	if (b->insns == 1 && first->form->kind != UNDEFINED_FIXED && last->where != 'I' &&
	    !strcmp(first->form->row->text + strlen(first->form->row->text) - 2, "CL"))
		return diff_undefined_by_count(first, (uint8_t)s->in.gpr[X86_RCX]);
	return b->undefined;
}

struct report {
	FILE *out;
	bool same;
};

static bool differ(struct report *r, const char *what, uint64_t in, uint64_t host, uint64_t guest)
{
	if (host == guest)
		return false;
	r->same = false;
	if (r->out)
		fprintf(r->out, "  %-8s in %016llx host %016llx guest %016llx\n", what, (unsigned long long)in,
			(unsigned long long)host, (unsigned long long)guest);
	return true;
}

static void check_fx(struct report *r, const uint8_t *in, const uint8_t *host, const uint8_t *guest)
{
	static const struct {
		const char *name;
		uint16_t at;
		uint8_t size;
		bool pointer;
	} fields[] = {
		{ "FCW", 0, 2, false }, { "FSW", 2, 2, false }, { "tags", 4, 1, false },   { "FOP", 6, 2, true },
		{ "FIP", 8, 8, true },	{ "FDP", 16, 8, true }, { "MXCSR", 24, 4, false },
	};
	char name[16];

	for (unsigned n = 0; n < ARRAY_LEN(fields); n++) {
		uint64_t v[3] = { 0 };

		unsigned size = fields[n].size;

		if (fields[n].pointer && !pointers_defined(host))
			continue;
		size = size > 6 ? 6 : size; /* an address has 48 bits */
		memcpy(&v[0], in + fields[n].at, size);
		memcpy(&v[1], host + fields[n].at, size);
		memcpy(&v[2], guest + fields[n].at, size);
		differ(r, fields[n].name, v[0], v[1], v[2]);
	}
	/* Names are made only where something differs: that takes longer than all comparisons. */
	for (unsigned n = 0; n < 8; n++) {
		unsigned at = 32 + 16 * n;

		if (!memcmp(host + at, guest + at, 10))
			continue;
		snprintf(name, sizeof(name), "st%u", n);
		differ(r, name, ld_le64(in + at), ld_le64(host + at), ld_le64(guest + at));
		snprintf(name, sizeof(name), "st%u exp", n);
		differ(r, name, ld_le16(in + at + 8), ld_le16(host + at + 8), ld_le16(guest + at + 8));
	}
	for (unsigned n = 0; n < 32; n++) {
		unsigned at = 160 + 8 * n;

		if (!memcmp(host + at, guest + at, 8))
			continue;
		snprintf(name, sizeof(name), "xmm%u%c", n / 2, n & 1 ? 'h' : 'l');
		differ(r, name, ld_le64(in + at), ld_le64(host + at), ld_le64(guest + at));
	}
}

static void check_high(struct report *r, const struct diff_state *in, const struct diff_state *host,
		       const struct diff_state *guest)
{
	char name[16];

	for (unsigned n = 0; n < 32 && host_has_avx; n++) {
		if (!memcmp(host->high[n / 2] + 8 * (n & 1), guest->high[n / 2] + 8 * (n & 1), 8))
			continue;
		snprintf(name, sizeof(name), "ymm%u%c", n / 2, n & 1 ? 'h' : 'l');
		differ(r, name, ld_le64(in->high[n / 2] + 8 * (n & 1)), ld_le64(host->high[n / 2] + 8 * (n & 1)),
		       ld_le64(guest->high[n / 2] + 8 * (n & 1)));
	}
}

/* What FXSAVE stores of the last instruction and of the MXCSR bits that exist. */
static bool in_fxsave(const struct diff_block *b, unsigned at)
{
	const struct diff_insn *i = &b->insn[0];
	uint64_t into = DIFF_DATA + at - (i->linear & ~DIFF_HIGH);

	return i->size == 512 && (i->wild || (into >= 6 && into < 24) || (into >= 28 && into < 32));
}

static void check_memory(struct report *r, const struct diff_block *b, const struct diff_slot *s,
			 const struct diff_result *guest)
{
	const struct diff_insn *fault = fault_at(b, s);
	char name[16];
	unsigned shown = 0;

	if (!memcmp(s->host.mem, guest->mem, DIFF_RW) || (fault && fault->form->row->attr & A_PARTIAL))
		return;
	for (unsigned at = 0; at < DIFF_RW && shown < 48; at++) {
		if (in_fxsave(b, at))
			continue;
		snprintf(name, sizeof(name), "[%04x]", at);
		shown += differ(r, name, s->mem[at], s->host.mem[at], guest->mem[at]);
	}
}

/*
 * FLDENV and FRSTOR touch the first and the last byte before they load anything, so only a field across the end of the
 * address size can fault later. AMD's processors have loaded the fields before it then; the manuals leave it open.
 */
static bool loaded_in_part(const struct diff_insn *fault, uint32_t vector)
{
	return fault && fault->form->row->attr & A_FPU_PART && (vector == X86_GP || vector == X86_SS_FAULT);
}

/* Of two operands the one that faults is the one that is touched first: with CMPS, on Zen 4, that at DI. */
static bool in_own_order(const struct diff_insn *fault)
{
	return fault && fault->form->row->attr & A_ORDER && fault->form->row->attr & A_SI;
}

/*
 * Elements of a masked operand wrap one by one at the end of a short address or of a segment (Zen 4), or it is beyond
 * the end as a whole (Zen 5): other faults, or none.
 */
static bool is_masked_and_short(const struct diff_insn *i)
{
	return i && i->asize < 8 && i->form->row->attr & A_ORDER && !(i->form->row->attr & A_SI);
}

static bool wraps_by_elements(const struct diff_block *b, const struct diff_result *host,
			      const struct diff_result *guest)
{
	const struct diff_insn *at = insn_at(b, guest);

	if (!is_masked_and_short(at))
		at = insn_at(b, host);
	return is_masked_and_short(at) && (guest->vector != host->vector || guest->s.rip != host->s.rip ||
					   guest->cr2 - host->cr2 == 1ull << 8 * at->asize);
}

/*
 * It was led into the code of another block and ended there, or went through it to that one's end: what is undefined
 * after that is not known here.
 */
static bool went_astray(const struct diff_block *b, const struct diff_result *host)
{
	uint64_t at = host->s.rip + diff_seg_base(b->mode, X86_CS) - (b->entry & DIFF_HIGH) - DIFF_CODE;

	if (host->vector == DIFF_DONE)
		return host->exit != b->exit;
	return host->sel[X86_CS] == diff_modes[b->mode].sel[X86_CS] && at < DIFF_CODE_SIZE && at - b->at >= DIFF_BYTES;
}

/* An address that hit what is mapped on the host alone. */
static bool is_hosts_own(const struct diff_shared *sh, const struct diff_result *host, const struct diff_result *guest)
{
	if (guest->vector != X86_PF_FAULT || (host->vector == X86_PF_FAULT && host->cr2 == guest->cr2))
		return false;
	for (unsigned n = 0; n < ARRAY_LEN(sh->own); n++)
		if (guest->cr2 >= sh->own[n].begin && guest->cr2 < sh->own[n].end)
			return true;
	return false;
}

/* AMD's processors have a bit 17 in MXCSR, which FXRSTOR may find in memory and which we do not offer. */
static bool has_bit_17(const struct diff_result *host)
{
	return ld_le32(host->s.fx + 24) & 0x20000;
}

enum diff_why diff_left_out(const struct diff_shared *sh, const struct diff_block *b, const struct diff_slot *s,
			    const struct diff_result *guest)
{
	if (has_bit_17(&s->host))
		return DIFF_MXCSR;
	if (went_astray(b, &s->host))
		return DIFF_ASTRAY;
	if (wraps_by_elements(b, &s->host, guest))
		return DIFF_SHORT;
	return is_hosts_own(sh, &s->host, guest) ? DIFF_OWN : DIFF_COMPARED;
}

/* The error code of a page fault as the kernel shows it: an address that is its own counts as present. */
static uint32_t error_code(const struct diff_result *d, uint64_t cr2)
{
	return d->vector == X86_PF_FAULT && cr2 >= 0x7ffffffff000 ? d->error & ~1u : d->error;
}

bool diff_check(const struct diff_block *b, const struct diff_slot *s, const struct diff_result *guest, FILE *out)
{
	static const char *const names[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					     "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15" };
	static const char *const segs[] = { "es", "cs", "ss", "ds", "fs", "gs" };
	const struct diff_result *host = &s->host;
	struct report r = { out, true };
	const struct diff_insn *fault = fault_at(b, s);
	/* Outside 64-bit mode the upper halves are undefined. */
	bool wide = diff_modes[b->mode].bits == 64 && (host->vector == DIFF_DONE || host->sel[X86_CS] == DIFF_CS64);
	/* AMD's IRET has loaded SS already when it finds that RIP is bad. */
	bool partial = fault && fault->form->row->attr & A_PARTIAL;
	uint64_t mask = wide ? ~0ull : 0xffffffff, flags;

	differ(&r, "vector", 0, host->vector, guest->vector);
	if (host->vector == DIFF_DONE && guest->vector == DIFF_DONE)
		differ(&r, "exit", b->exit, host->exit, guest->exit);
	if (host->vector != DIFF_DONE) {
		if (out)
			fprintf(out, "  host: vector %u at %llx, cr2 %llx; guest: vector %u at %llx, cr2 %llx\n",
				host->vector, (unsigned long long)host->s.rip, (unsigned long long)host->cr2,
				guest->vector, (unsigned long long)guest->s.rip, (unsigned long long)guest->cr2);
		differ(&r, "error", 0, error_code(host, host->cr2), error_code(guest, host->cr2));
		differ(&r, "rip", b->entry, host->s.rip, guest->s.rip);
		/* In what order such an instruction touches memory is its own affair. */
		if (host->vector == X86_PF_FAULT && !in_own_order(fault))
			differ(&r, "cr2", 0, partial ? host->cr2 & ~0xfffull : host->cr2,
			       partial ? guest->cr2 & ~0xfffull : guest->cr2);
	}
	for (unsigned n = 0; n < 16 && !partial; n++)
		differ(&r, names[n], s->in.gpr[n], host->s.gpr[n] & mask, guest->s.gpr[n] & mask);
	for (unsigned n = 0; n < 6; n++)
		if ((host->vector != DIFF_DONE || n != X86_CS) && (n != X86_SS || !partial))
			differ(&r, segs[n], 0, host->sel[n], guest->sel[n]);
	flags = ~(uint64_t)undefined(b, s);
	differ(&r, "flags", s->in.rflags, host->s.rflags & flags, guest->s.rflags & flags);
	if (!loaded_in_part(fault, host->vector))
		check_fx(&r, s->in.fx, host->s.fx, guest->s.fx);
	check_high(&r, &s->in, &host->s, &guest->s);
	check_memory(&r, b, s, guest);
	return r.same;
}

void diff_print_block(const struct diff_block *b, FILE *out)
{
	fprintf(out, "%s, at %llx\n", diff_modes[b->mode].name, (unsigned long long)b->entry);
	for (unsigned n = 0; n < b->insns; n++) {
		const struct diff_insn *i = &b->insn[n];

		fprintf(out, "  +%-4x", i->at);
		for (unsigned k = 0; k < i->len; k++)
			fprintf(out, " %02x", b->bytes[DIFF_PAD + i->at + k]);
		fprintf(out, "  ; %s", i->form->row->text);
		if (i->size)
			fprintf(out, ", %u bytes at %llx", i->size, (unsigned long long)i->linear);
		fprintf(out, "\n");
	}
}
