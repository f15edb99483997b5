/* The x87 environment and state in memory: FSTENV FLDENV FSAVE FRSTOR. SDM vol. 1, 8.1.10, figures 8-9 to 8-12. */
#include <string.h>

#include "cpu/x86/template.h"
#include "cpu/x86/x87.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)

#define SAVE_MAX 108

static unsigned env_size(const struct x86_insn *i)
{
	return i->opsize == 2 ? 14 : 28;
}

/* Real and virtual-8086 mode keep linear addresses and the opcode instead of selectors. */
static bool linear_form(const struct x86_cpu *cpu)
{
	return !cpu->protected_mode;
}

static void make_env16(const struct x86_cpu *cpu, uint8_t *b)
{
	const struct x86_x87 *fp = &cpu->s.fp;
	uint32_t ip = (uint32_t)fp->ip + ((uint32_t)fp->cs << 4), dp = (uint32_t)fp->dp + ((uint32_t)fp->ds << 4);

	st_le16(b, fp->cw);
	st_le16(b + 2, fp->sw);
	st_le16(b + 4, x87_full_tags(fp));
	if (linear_form(cpu)) {
		st_le16(b + 6, (uint16_t)ip);
		st_le16(b + 8, (uint16_t)((ip >> 4 & 0xf000) | fp->op));
		st_le16(b + 10, (uint16_t)dp);
		st_le16(b + 12, (uint16_t)(dp >> 4 & 0xf000));
	} else {
		st_le16(b + 6, (uint16_t)fp->ip);
		st_le16(b + 8, fp->cs);
		st_le16(b + 10, (uint16_t)fp->dp);
		st_le16(b + 12, fp->ds);
	}
}

static void make_env32(const struct x86_cpu *cpu, uint8_t *b)
{
	const struct x86_x87 *fp = &cpu->s.fp;
	uint32_t ip = (uint32_t)fp->ip + ((uint32_t)fp->cs << 4), dp = (uint32_t)fp->dp + ((uint32_t)fp->ds << 4);

	st_le32(b, 0xffff0000u | fp->cw);
	st_le32(b + 4, 0xffff0000u | fp->sw);
	st_le32(b + 8, 0xffff0000u | x87_full_tags(fp));
	if (linear_form(cpu)) {
		st_le32(b + 12, 0xffff0000u | (uint16_t)ip);
		st_le32(b + 16, (ip >> 16) << 12 | fp->op);
		st_le32(b + 20, 0xffff0000u | (uint16_t)dp);
		st_le32(b + 24, (dp >> 16) << 12);
	} else {
		st_le32(b + 12, (uint32_t)fp->ip);
		st_le32(b + 16, (uint32_t)fp->op << 16 | fp->cs);
		st_le32(b + 20, (uint32_t)fp->dp);
		st_le32(b + 24, 0xffff0000u | fp->ds);
	}
}

static void take_env(struct x86_cpu *cpu, const uint8_t *b, unsigned size)
{
	struct x86_x87 *fp = &cpu->s.fp;
	unsigned step = size == 14 ? 2 : 4;

	fp->cw = (ld_le16(b) & 0x1f3f) | 0x40;
	fp->sw = ld_le16(b + step);
	fp->valid = x87_abridge_tags(ld_le16(b + 2 * step));
	fp->ip = size == 14 ? ld_le16(b + 6) : ld_le32(b + 12);
	fp->cs = size == 14 ? ld_le16(b + 8) : ld_le16(b + 16);
	fp->op = size == 14 ? 0 : ld_le16(b + 18) & 0x7ff;
	fp->dp = size == 14 ? ld_le16(b + 10) : ld_le32(b + 20);
	fp->ds = size == 14 ? ld_le16(b + 12) : ld_le16(b + 24);
	if (linear_form(cpu)) {
		fp->ip = size == 14 ? ld_le16(b + 6) | (uint32_t)(ld_le16(b + 8) >> 12) << 16
				    : ld_le16(b + 12) | (ld_le32(b + 16) >> 12) << 16;
		fp->op = ld_le16(b + (size == 14 ? 8 : 16)) & 0x7ff;
		fp->dp = size == 14 ? ld_le16(b + 10) | (uint32_t)(ld_le16(b + 12) >> 12) << 16
				    : ld_le16(b + 20) | (ld_le32(b + 24) >> 12) << 16;
		fp->cs = fp->ds = 0;
	}
	x87_update_es(fp);
}

/*
 * The fields of the environment, then eight bytes and two of each register: none may lie across the end of the
 * address size, but those behind it go on at its beginning.
 */
static void check_fields(struct x86_cpu *cpu, const struct x86_insn *i, unsigned len, enum x86_access a)
{
	uint64_t ea = x86_ea(cpu, i);
	unsigned env = env_size(i), at, size;

	for (at = 0; at < len; at += size) {
		size = at < env ? env / 7 : (at - env) % 10 ? 2 : 8;
		x86_linear_bounded(cpu, i->seg, x86_ea_plus(i, ea, at), size, a);
	}
}

/* The first field is touched first, then the last byte. */
static void put(struct x86_cpu *cpu, const struct x86_insn *i, const uint8_t *b, unsigned len)
{
	uint64_t ea = x86_ea(cpu, i);

	x86_probe_write(cpu, i->seg, ea, env_size(i) / 7);
	x86_probe_write(cpu, i->seg, x86_ea_plus(i, ea, len - 1), 1);
	check_fields(cpu, i, len, X86_WRITE);
	for (unsigned at = 0; at < len; at += 2)
		x86_st16(cpu, i->seg, x86_ea_plus(i, ea, at), ld_le16(b + at));
}

static void get(struct x86_cpu *cpu, const struct x86_insn *i, uint8_t *b, unsigned len)
{
	uint64_t ea = x86_ea(cpu, i);
	uint32_t field;

	x86_load_bytes(cpu, i->seg, ea, &field, env_size(i) / 7);
	x86_ld8(cpu, i->seg, x86_ea_plus(i, ea, len - 1));
	check_fields(cpu, i, len, X86_READ);
	for (unsigned at = 0; at < len; at += 2)
		st_le16(b + at, x86_ld16(cpu, i->seg, x86_ea_plus(i, ea, at)));
}

static void make_env(const struct x86_cpu *cpu, const struct x86_insn *i, uint8_t *b)
{
	if (env_size(i) == 14)
		make_env16(cpu, b);
	else
		make_env32(cpu, b);
}

/* Masks all exceptions afterwards. */
HANDLER(fnstenv)
{
	uint8_t b[28];

	x86_fpu_enter(cpu, false);
	make_env(cpu, i, b);
	put(cpu, i, b, env_size(i));
	cpu->s.fp.cw |= X87_EXC;
	x87_update_es(&cpu->s.fp);
	return x86_next(cpu, i);
}

HANDLER(fldenv)
{
	uint8_t b[28];

	x86_fpu_enter(cpu, true);
	get(cpu, i, b, env_size(i));
	take_env(cpu, b, env_size(i));
	return x86_next(cpu, i);
}

HANDLER(fnsave)
{
	uint8_t b[SAVE_MAX];
	unsigned env = env_size(i);

	x86_fpu_enter(cpu, false);
	make_env(cpu, i, b);
	for (unsigned n = 0; n < 8; n++) {
		const struct x86_fpreg *r = x87_st(cpu, n);

		st_le64(b + env + 10 * n, r->mant);
		st_le16(b + env + 10 * n + 8, r->sexp);
	}
	put(cpu, i, b, env + 80);
	x87_init(&cpu->s.fp);
	return x86_next(cpu, i);
}

HANDLER(frstor)
{
	uint8_t b[SAVE_MAX];
	unsigned env = env_size(i);

	x86_fpu_enter(cpu, true);
	get(cpu, i, b, env + 80);
	take_env(cpu, b, env);
	for (unsigned n = 0; n < 8; n++)
		*x87_st(cpu, n) = (struct x86_fpreg){ ld_le64(b + env + 10 * n), ld_le16(b + env + 10 * n + 8) };
	return x86_next(cpu, i);
}

#define MEM(op, ext, fn)                                                                                               \
	{                                                                                                              \
		X86_MAP_1, op, 1, 0, X86_MOD_MEM, 1 + ext, 0, 0, 0, {}, X86_ALL(fn), #fn                               \
	}
static const struct x86_opdef rows[] = {
	MEM(0xd9, 4, fldenv),
	MEM(0xd9, 6, fnstenv),
	MEM(0xdd, 4, frstor),
	MEM(0xdd, 6, fnsave),
};
X86_DEFS(x86_defs_x87_env, rows);
