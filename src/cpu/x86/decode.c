/*
 * The decoder: prefixes, opcode, ModRM, SIB, displacement and immediate (SDM vol. 2, chapter 2), and
 * the lookup of the definition row. Which instructions exist is in the defs_*.c tables.
 */
#include <pthread.h>
#include <string.h>

#include "base/bytes.h"
#include "cpu/x86/insn.h"

#define INSN_MAX 15
#define ROWS_MAX 4096

/* Where two rows fit, the earlier one counts: TZCNT and LZCNT before BSF and BSR, which take no notice of F3. */
static const struct x86_opdefs *const all_defs[] = {
	&x86_defs_bmi1,	   &x86_defs_bmi2,    &x86_defs_abm,	   &x86_defs_popcnt,	 &x86_defs_adx,
	&x86_defs_crc32,   &x86_defs_movbe,   &x86_defs_rdseed,	   &x86_defs_clflushopt, &x86_defs_clwb,
	&x86_defs_alu,	   &x86_defs_shift,   &x86_defs_muldiv,	   &x86_defs_bits,	 &x86_defs_move,
	&x86_defs_stack,   &x86_defs_bcd,     &x86_defs_branch,	   &x86_defs_string,	 &x86_defs_control,
	&x86_defs_sysseg,  &x86_defs_io,      &x86_defs_hypercall, &x86_defs_fpstate,	 &x86_defs_sse_move,
	&x86_defs_sse_int, &x86_defs_sse_fp,  &x86_defs_mmx,	   &x86_defs_x87_arith,	 &x86_defs_x87_move,
	&x86_defs_x87_env, &x86_defs_sse3,    &x86_defs_ssse3,	   &x86_defs_sse41,	 &x86_defs_sse41_move,
	&x86_defs_sse42,   &x86_defs_aes,     &x86_defs_pclmul,	   &x86_defs_sha,	 &x86_defs_avx_move,
	&x86_defs_avx_int, &x86_defs_avx_fp,  &x86_defs_avx2_move, &x86_defs_avx2_int,	 &x86_defs_avx_aes,
	&x86_defs_fma,	   &x86_defs_f16c,    &x86_defs_xsave,	   &x86_defs_rdrand,	 &x86_defs_fisttp,
	&x86_defs_cx16,	   &x86_defs_lahf_lm, &x86_defs_smm,
};

/* The rows of opcode (map, op) are rows[first[map][op]] .. rows[first[map][op + 1] - 1]. */
static const struct x86_opdef *rows[ROWS_MAX];
static enum x86_feature row_feature[ROWS_MAX];
static uint16_t first[X86_MAPS + 1][257]; /* the last map has none */

static unsigned row_count(const struct x86_opdef *d)
{
	return d->count ? d->count : 1;
}

static void build(void)
{
	unsigned n = 0;

	for (unsigned map = 0; map < X86_MAPS; map++) {
		for (unsigned op = 0; op < 256; op++) {
			first[map][op] = n;
			for (size_t s = 0; s < ARRAY_LEN(all_defs); s++) {
				if (!x86_feature_possible(all_defs[s]->feature))
					continue;
				for (size_t r = 0; r < all_defs[s]->count && n < ROWS_MAX; r++) {
					const struct x86_opdef *d = &all_defs[s]->rows[r];

					if (d->map != map || op - d->op >= row_count(d))
						continue;
					row_feature[n] = all_defs[s]->feature;
					if (row_feature[n] == X86_F_ALWAYS)
						row_feature[n] = x86_row_needs(d, op);
					rows[n++] = d;
				}
			}
		}
		first[map][256] = n;
	}
}

void x86_decode_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, build);
}

const struct x86_opdef *const *x86_decode_rows(size_t *count)
{
	*count = first[X86_MAPS - 1][256];
	return rows;
}

/* What is known while the bytes are read. */
struct cursor {
	const uint8_t *code;
	size_t avail, at;
	struct x86_decode_mode mode;
	uint8_t rex, rep; /* rep: 0, F2 or F3 */
	bool opsz, adsz, lock;
	uint8_t seg; /* X86_SEGS: none */
	uint8_t map, op, modrm;
	uint8_t opsize, asize;
	bool vex, vex256, vsib;
	uint8_t vreg;
};

static bool have(const struct cursor *c, size_t n)
{
	return c->at + n <= c->avail && c->at + n <= INSN_MAX;
}

static enum x86_decode_result too_short(const struct cursor *c)
{
	return c->avail >= INSN_MAX ? X86_DECODE_TOO_LONG : X86_DECODE_SHORT;
}

static bool prefix(struct cursor *c, uint8_t b)
{
	switch (b) {
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e:
		/* In 64-bit mode these four are ignored, but an earlier FS or GS stays. */
		if (c->mode.bits != 64)
			c->seg = b >> 3 & 3;
		break;
	case 0x64:
	case 0x65:
		c->seg = b - 0x64 + X86_FS;
		break;
	case 0x66:
		c->opsz = true;
		break;
	case 0x67:
		c->adsz = true;
		break;
	case 0xf0:
		c->lock = true;
		break;
	case 0xf2:
	case 0xf3:
		c->rep = b;
		break;
	default:
		if (c->mode.bits != 64 || (b & 0xf0) != 0x40)
			return false;
		c->rex = b;
		return true;
	}
	c->rex = 0; /* REX counts only right before the opcode */
	return true;
}

/* C4 and C5 are LES and LDS outside of 64-bit mode when a memory operand follows. */
static bool is_vex(const struct cursor *c)
{
	if ((c->op & 0xfe) != 0xc4 || c->mode.real || !have(c, 1))
		return false;
	return c->mode.bits == 64 || c->code[c->at] >= 0xc0;
}

/* The VEX prefix from its second byte on, and the opcode (SDM vol. 2, 2.3.5). A wrong one has no rows. */
static bool vex(struct cursor *c)
{
	bool three = c->op == 0xc4, after_prefix = c->rex || c->lock || c->rep || c->opsz;
	uint8_t b1, b2;

	if (!have(c, three ? 3 : 2))
		return false;
	b1 = c->code[c->at++];
	b2 = three ? c->code[c->at++] : b1 & 0x7f;
	c->op = c->code[c->at++];
	c->vex = true;
	c->vex256 = b2 & 4;
	c->vreg = ~b2 >> 3 & 15;
	c->rex = 0x40 | (b2 >> 4 & 8) | (~b1 >> 5 & (three ? 7 : 4));
	c->map = X86_MAP_VEX_0F - 1 + (three ? b1 & 31 : 1);
	c->opsz = (b2 & 3) == 1;
	c->rep = (b2 & 3) == 2 ? 0xf3 : (b2 & 3) == 3 ? 0xf2 : 0;
	if (c->mode.bits != 64)
		c->rex &= 0x48;
	/* The map of an undefined prefix has no rows. */
	if (after_prefix || c->map < X86_MAP_VEX_0F || c->map > X86_MAP_VEX_0F3A)
		c->map = X86_MAPS;
	return true;
}

static bool opcode(struct cursor *c)
{
	if (!have(c, 1))
		return false;
	c->op = c->code[c->at++];
	if (is_vex(c))
		return vex(c);
	if (c->op != 0x0f)
		return true;
	if (!have(c, 1))
		return false;
	c->map = X86_MAP_0F;
	c->op = c->code[c->at++];
	if (c->op != 0x38 && c->op != 0x3a)
		return true;
	if (!have(c, 1))
		return false;
	c->map = c->op == 0x38 ? X86_MAP_0F38 : X86_MAP_0F3A;
	c->op = c->code[c->at++];
	return true;
}

static bool has_feature(const struct cursor *c, enum x86_feature f)
{
	return f == X86_F_ALWAYS || !c->mode.features || c->mode.features->on[f];
}

static const struct x86_opdef *match(const struct cursor *c)
{
	uint8_t pfx = c->rep == 0xf3 ? X86_PFX_F3 : c->rep == 0xf2 ? X86_PFX_F2 : c->opsz ? X86_PFX_66 : X86_PFX_NONE;
	uint8_t reg = c->modrm >> 3 & 7, rm = c->modrm & 7;
	bool is_reg = c->modrm >= 0xc0;

	for (unsigned i = first[c->map][c->op]; i < first[c->map][c->op + 1]; i++) {
		const struct x86_opdef *d = rows[i];

		if (!has_feature(c, row_feature[i]))
			continue;
		/* ARPL and MOVSXD share an opcode. */
		if (d->flags & (c->mode.bits == 64 ? X86_D_NO64 : X86_D_ONLY64))
			continue;
		if ((c->vex && d->flags & (c->vex256 ? X86_D_L0 : X86_D_L1)) ||
		    d->flags & (c->rex & 8 ? X86_D_W0 : X86_D_W1))
			continue;
		if ((d->pfx == X86_PFX_ANY || d->pfx == pfx) && (!d->ext || d->ext == 1 + reg) &&
		    (!d->rm || d->rm == 1 + rm) && !(d->mod == X86_MOD_MEM && is_reg) &&
		    !(d->mod == X86_MOD_REG && !is_reg && !(d->flags & X86_D_CR_DR)))
			return d;
	}
	return NULL;
}

static void sizes(struct cursor *c, const struct x86_opdef *d)
{
	unsigned bits = c->mode.bits;

	if (bits == 64) {
		c->asize = c->adsz ? 4 : 8;
		if (c->vex)
			c->opsize = c->rex & 8 ? 8 : 4;
		else if (d->flags & (X86_D_FORCE64 | X86_D_CR_DR))
			c->opsize = 8;
		else if (c->rex & 8)
			c->opsize = 8;
		else if (d->flags & X86_D_IGN66)
			c->opsize = 4;
		else if (c->opsz)
			c->opsize = 2;
		else
			c->opsize = d->flags & X86_D_DEF64 ? 8 : 4;
		return;
	}
	c->asize = (bits == 32) != c->adsz ? 4 : 2;
	c->opsize = (bits == 32) != c->opsz ? 4 : 2;
	if (c->vex || d->flags & (X86_D_CR_DR | X86_D_IGN66))
		c->opsize = 4;
}

static bool read_disp(struct cursor *c, struct x86_insn *out, unsigned size)
{
	if (!have(c, size))
		return false;
	const uint8_t *p = c->code + c->at;
	out->disp = size == 1 ? (int8_t)*p : size == 2 ? (int16_t)ld_le16(p) : (int32_t)ld_le32(p);
	c->at += size;
	return true;
}

static bool address16(struct cursor *c, struct x86_insn *out, uint8_t *seg)
{
	static const struct {
		uint8_t base, index, seg;
	} forms[8] = {
		{ X86_RBX, X86_RSI, X86_DS },	{ X86_RBX, X86_RDI, X86_DS },	{ X86_RBP, X86_RSI, X86_SS },
		{ X86_RBP, X86_RDI, X86_SS },	{ X86_RSI, X86_NOREG, X86_DS }, { X86_RDI, X86_NOREG, X86_DS },
		{ X86_RBP, X86_NOREG, X86_SS }, { X86_RBX, X86_NOREG, X86_DS },
	};
	unsigned mod = c->modrm >> 6, rm = c->modrm & 7;

	if (mod == 0 && rm == 6)
		return read_disp(c, out, 2);
	out->base = forms[rm].base;
	out->index = forms[rm].index;
	*seg = forms[rm].seg;
	return !mod || read_disp(c, out, mod);
}

static bool address(struct cursor *c, struct x86_insn *out, uint8_t *seg)
{
	unsigned mod = c->modrm >> 6, rm = c->modrm & 7;

	if (c->asize == 2)
		return address16(c, out, seg);
	if (rm == 4) {
		if (!have(c, 1))
			return false;
		uint8_t sib = c->code[c->at++];
		unsigned index = (sib >> 3 & 7) | (c->rex & 2) << 2;

		rm = sib & 7;
		out->scale = sib >> 6;
		out->index = index == 4 && !c->vsib ? X86_NOREG : index;
		if (rm == 5 && mod == 0)
			return read_disp(c, out, 4);
	} else if (rm == 5 && mod == 0) {
		if (c->mode.bits == 64)
			out->base = X86_RIP;
		return read_disp(c, out, 4);
	}
	/* RSP and RBP, not R12 and R13, address the stack segment. */
	out->base = rm | (c->rex & 1) << 3;
	if (out->base == X86_RSP || out->base == X86_RBP)
		*seg = X86_SS;
	return !mod || read_disp(c, out, mod == 1 ? 1 : 4);
}

static uint64_t read_int(const uint8_t *p, unsigned size)
{
	switch (size) {
	case 1:
		return (uint64_t)(int8_t)*p;
	case 2:
		return (uint64_t)(int16_t)ld_le16(p);
	case 4:
		return (uint64_t)(int32_t)ld_le32(p);
	default:
		return ld_le64(p);
	}
}

static bool immediate(struct cursor *c, const struct x86_opdef *d, struct x86_insn *out)
{
	const uint8_t *p = c->code + c->at;
	unsigned size;

	switch (d->imm) {
	case X86_IMM_8:
	case X86_IMM_U8:
	case X86_IMM_IS4:
		size = 1;
		break;
	case X86_IMM_16:
		size = 2;
		break;
	case X86_IMM_Z:
		size = c->opsize == 2 ? 2 : 4;
		break;
	case X86_IMM_V:
		size = c->opsize;
		break;
	case X86_IMM_MOFFS:
		size = c->asize;
		break;
	case X86_IMM_FAR:
		size = (c->opsize == 2 ? 2 : 4) + 2;
		break;
	case X86_IMM_ENTER:
		size = 3;
		break;
	default:
		return true;
	}
	if (!have(c, size))
		return false;
	c->at += size;
	switch (d->imm) {
	case X86_IMM_U8:
		out->imm = *p;
		break;
	case X86_IMM_IS4:
		out->ib = *p >> 4 & (c->mode.bits == 64 ? 15 : 7);
		break;
	case X86_IMM_16:
		out->imm = ld_le16(p);
		break;
	case X86_IMM_MOFFS:
		out->imm = read_int(p, size) & size_mask(size);
		break;
	case X86_IMM_FAR:
		out->imm = read_int(p, size - 2) & size_mask(size - 2);
		out->disp = ld_le16(p + size - 2);
		break;
	case X86_IMM_ENTER:
		out->imm = ld_le16(p) | (uint64_t)p[2] << 16;
		break;
	default:
		out->imm = read_int(p, size);
		break;
	}
	return true;
}

/* AH, CH, DH, BH are codes 4-7 without REX. */
static uint8_t byte_offset(const struct cursor *c, unsigned reg)
{
	return !c->rex && reg >= 4 && reg < 8 ? (reg - 4) * 8 + 1 : reg * 8;
}

static void registers(const struct cursor *c, const struct x86_opdef *d, struct x86_insn *out)
{
	unsigned reg = (c->modrm >> 3 & 7) | (c->rex & 4) << 1;
	unsigned rm = (d->flags & X86_D_OPREG ? c->op & 7 : c->modrm & 7) | (c->rex & 1) << 3;

	/* An implied accumulator: REX.B has no say. */
	if (d->mod == X86_MOD_NONE && !(d->flags & X86_D_OPREG))
		rm = reg = 0;

	out->reg = d->flags & X86_D_BYTE_REG ? byte_offset(c, reg) : reg;
	out->rm = d->flags & X86_D_BYTE_RM ? byte_offset(c, rm) : rm;
}

static bool legal(const struct cursor *c, const struct x86_opdef *d, bool is_mem)
{
	if (c->lock && !((d->flags & X86_D_LOCK) && is_mem))
		return false;
	if (d->flags & X86_D_NOV && c->vreg)
		return false;
	if (d->flags & X86_D_VSIB && ((c->modrm & 7) != 4 || c->asize == 2))
		return false;
	return !(c->mode.real && (d->flags & X86_D_NO_REAL));
}

static uint16_t flags_of(const struct cursor *c, bool is_mem)
{
	return (is_mem ? 0 : X86_I_REG) | (c->lock ? X86_I_LOCK : 0) | (c->rep == 0xf3 ? X86_I_REP : 0) |
	       (c->rep == 0xf2 ? X86_I_REPNE : 0) | (c->rex ? X86_I_REX : 0) | (c->opsz ? X86_I_OPSZ : 0) |
	       (c->mode.bits == 64 ? X86_I_CODE64 : 0) | (c->vex ? X86_I_VEX : 0) | (c->vex256 ? X86_I_VEX256 : 0) |
	       (c->rex & 8 && c->mode.bits == 64 ? X86_I_WIDE : 0);
}

/* Which of a row's three handlers: by operand size, for vectors by their length. */
static unsigned handler_index(const struct cursor *c, const struct x86_opdef *d)
{
	if (c->vex && !(d->flags & X86_D_VEX_GPR))
		return c->vex256;
	return c->opsize == 2 ? 0 : c->opsize == 4 ? 1 : 2;
}

enum x86_decode_result x86_decode(const uint8_t *code, size_t avail, struct x86_decode_mode mode, struct x86_insn *out,
				  const struct x86_opdef **def)
{
	struct cursor c = { .code = code, .avail = avail, .mode = mode, .seg = X86_SEGS };
	uint8_t seg = X86_DS;

	memset(out, 0, sizeof(*out));
	out->base = out->index = X86_NOREG;
	while (have(&c, 1) && prefix(&c, code[c.at]))
		c.at++;
	if (!opcode(&c))
		return too_short(&c);
	unsigned begin = first[c.map][c.op];
	out->len = c.at;
	if (begin == first[c.map][c.op + 1])
		return X86_DECODE_UD;
	bool has_modrm = rows[begin]->mod != X86_MOD_NONE;
	if (has_modrm) {
		if (!have(&c, 1))
			return too_short(&c);
		c.modrm = code[c.at++];
	} else {
		c.modrm = 0xc0; /* no memory operand by ModRM */
	}
	const struct x86_opdef *d = match(&c);
	if (!d)
		return X86_DECODE_UD;
	bool is_mem = has_modrm && c.modrm < 0xc0 && !(d->flags & X86_D_CR_DR);
	sizes(&c, d);
	c.vsib = d->flags & X86_D_VSIB;
	if ((is_mem && !address(&c, out, &seg)) || !immediate(&c, d, out))
		return too_short(&c);
	out->len = c.at;
	if (!legal(&c, d, is_mem))
		return X86_DECODE_UD;
	registers(&c, d, out);
	unsigned which = handler_index(&c, d);
	bool split = d->mem[0] || d->mem[1] || d->mem[2];
	out->fn = is_mem && split ? d->mem[which] : d->reg[which];
	if (!out->fn)
		return X86_DECODE_UD;
	if (out->base == X86_RIP)
		out->disp += c.at;
	out->seg = c.seg == X86_SEGS ? seg : c.seg;
	out->ashift = 64 - 8 * c.asize;
	out->opsize = c.opsize;
	if (d->stub[c.vex256]) {
		if (d->imm != X86_IMM_IS4)
			out->ib = (uint8_t)out->imm;
		out->imm = (uintptr_t)d->stub[c.vex256] + X86_STUB_SIZE * (out->imm & d->imm_mask);
		out->opsize = d->mem_size[c.vex256];
	}
	out->op = c.op;
	out->modrm = c.modrm;
	out->vreg = c.mode.bits == 64 ? c.vreg : c.vreg & 7;
	out->fp = d->fp;
	out->flags = flags_of(&c, is_mem);
	if (def)
		*def = d;
	return X86_DECODE_OK;
}
