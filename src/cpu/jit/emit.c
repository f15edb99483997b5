/* Machine code, byte by byte: SDM vol. 2, chapter 2. */
#include "cpu/jit/emit.h"

#include <string.h>

#include "base/bytes.h"

void emit_bytes(struct emit *e, uint64_t v, unsigned count)
{
	if ((size_t)(e->end - e->at) < count) {
		e->full = true;
		return;
	}
	for (unsigned n = 0; n < count; n++, v >>= 8)
		*e->at++ = (uint8_t)v;
}

static void byte(struct emit *e, unsigned v)
{
	emit_bytes(e, v, 1);
}

static void prefixes(struct emit *e, const struct emit_op *op, bool gs)
{
	if (gs)
		byte(e, 0x65);
	if (op->lock)
		byte(e, 0xf0);
	if (op->osize && !op->vex)
		byte(e, 0x66);
	if (op->pfx && !op->vex)
		byte(e, op->pfx);
}

static void vex(struct emit *e, const struct emit_op *op, unsigned r, unsigned x, unsigned b)
{
	unsigned pp = op->pfx == 0x66 ? 1 : op->pfx == 0xf3 ? 2 : op->pfx == 0xf2 ? 3 : 0;

	byte(e, 0xc4);
	byte(e, !r << 7 | !x << 6 | !b << 5 | op->map);
	byte(e, (unsigned)op->w << 7 | (~op->vreg & 15u) << 3 | (unsigned)op->l << 2 | pp);
	byte(e, op->op);
}

/* REX or VEX, then the opcode. r, x, b: the high bits of register numbers. */
static void opcode(struct emit *e, const struct emit_op *op, unsigned r, unsigned x, unsigned b, bool need_rex)
{
	if (op->vex) {
		vex(e, op, r, x, b);
		return;
	}
	if (op->w || r || x || b || need_rex)
		byte(e, 0x40u | (unsigned)op->w << 3 | r << 2 | x << 1 | b);
	if (op->map != MAP_1)
		byte(e, 0x0f);
	if (op->map == MAP_0F38)
		byte(e, 0x38);
	if (op->map == MAP_0F3A)
		byte(e, 0x3a);
	byte(e, op->op);
}

static bool needs_rex(bool is_byte, unsigned reg)
{
	return is_byte && reg >= 4 && reg < 8;
}

void emit_rr(struct emit *e, struct emit_op op, unsigned reg, unsigned rm)
{
	bool rex = !op.high && (needs_rex(op.byte_reg, reg) || needs_rex(op.byte_rm, rm));

	prefixes(e, &op, false);
	opcode(e, &op, reg >> 3, 0, rm >> 3, rex);
	byte(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

void emit_rm(struct emit *e, struct emit_op op, unsigned reg, struct emit_mem m)
{
	bool has_base = m.base != NO_REG, has_index = m.index != NO_REG;
	bool sib = !has_base || has_index || (m.base & 7) == RSP;
	unsigned mod = !has_base ? 0 : !m.disp && (m.base & 7) != RBP ? 0 : m.disp == (int8_t)m.disp ? 1 : 2;

	prefixes(e, &op, m.gs);
	opcode(e, &op, reg >> 3, has_index ? m.index >> 3 : 0, has_base ? m.base >> 3 : 0,
	       !op.high && needs_rex(op.byte_reg, reg));
	byte(e, mod << 6 | (reg & 7) << 3 | (sib ? 4u : m.base & 7u));
	if (sib)
		byte(e, (unsigned)m.scale << 6 | (has_index ? m.index & 7u : 4u) << 3 | (has_base ? m.base & 7u : 5u));
	if (mod == 1)
		byte(e, (uint8_t)m.disp);
	else if (mod == 2 || !has_base)
		emit_bytes(e, (uint32_t)m.disp, 4);
}

void emit_mov(struct emit *e, unsigned to, unsigned from)
{
	if (to != from)
		emit_rr(e, (struct emit_op){ .op = 0x89, .w = true }, from, to);
}

void emit_mov_imm(struct emit *e, unsigned to, uint64_t v)
{
	bool low = v == (uint32_t)v, sign = v == (uint64_t)(int64_t)(int32_t)v;

	if (sign && !low) {
		emit_rr(e, (struct emit_op){ .op = 0xc7, .w = true }, 0, to);
		emit_bytes(e, v, 4);
		return;
	}
	if (!low || to >= 8)
		byte(e, 0x40u | (unsigned)!low << 3 | to >> 3);
	byte(e, 0xb8 | (to & 7));
	emit_bytes(e, v, low ? 4 : 8);
}

void emit_load(struct emit *e, unsigned to, struct emit_mem m)
{
	emit_rm(e, (struct emit_op){ .op = 0x8b, .w = true }, to, m);
}

void emit_store(struct emit *e, struct emit_mem m, unsigned from)
{
	emit_rm(e, (struct emit_op){ .op = 0x89, .w = true }, from, m);
}

void emit_lea(struct emit *e, unsigned to, struct emit_mem m)
{
	emit_rm(e, (struct emit_op){ .op = 0x8d, .w = true }, to, m);
}

static void relative(struct emit *e, uintptr_t rx)
{
	emit_bytes(e, (uint32_t)(rx - (emit_rx(e) + 4)), 4);
}

void emit_call(struct emit *e, uintptr_t rx)
{
	byte(e, 0xe8);
	relative(e, rx);
}

void emit_jmp(struct emit *e, uintptr_t rx)
{
	byte(e, 0xe9);
	relative(e, rx);
}

void emit_jump_to(struct emit *e, unsigned cc, uintptr_t rx)
{
	emit_bytes(e, 0x800f + (cc << 8), 2);
	emit_bytes(e, (uint32_t)(rx - (emit_rx(e) + 4)), 4);
}

uint8_t *emit_jump(struct emit *e, unsigned cc)
{
	if (cc == EMIT_ALWAYS)
		byte(e, 0xe9);
	else
		emit_bytes(e, 0x800f + (cc << 8), 2);
	emit_bytes(e, 0, 4);
	return e->at;
}

uint8_t *emit_short(struct emit *e, unsigned cc)
{
	emit_bytes(e, cc == EMIT_ALWAYS ? 0xeb : 0x70 | cc, 2);
	return e->at;
}

uint8_t *emit_jrcxz(struct emit *e)
{
	emit_bytes(e, 0x00e3, 2);
	return e->at;
}

void emit_here(struct emit *e, uint8_t *jump)
{
	int32_t rel = (int32_t)(e->at - jump);

	if (!e->full)
		memcpy(jump - 4, &rel, 4);
}

void emit_here8(struct emit *e, uint8_t *jump)
{
	if (!e->full)
		jump[-1] = (uint8_t)(e->at - jump);
}

void emit_nop(struct emit *e, unsigned bytes)
{
	/* By their lengths; the bytes of those of more than four end in 0. */
	static const uint32_t nops[] = { 0, 0x90, 0x9066, 0x1f0f, 0x401f0f, 0x441f0f, 0x441f0f66, 0x801f0f, 0x841f0f };

	for (unsigned n; bytes; bytes -= n) {
		n = bytes < ARRAY_LEN(nops) ? bytes : (unsigned)ARRAY_LEN(nops) - 1;
		emit_bytes(e, nops[n], n);
	}
}

void emit_align(struct emit *e, unsigned align, unsigned before)
{
	emit_nop(e, -((unsigned)(uintptr_t)e->at + before) & (align - 1));
}
