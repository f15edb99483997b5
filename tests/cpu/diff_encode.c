/* See diff_encode.h. */
#include "diff_encode.h"

#include <string.h>

#include "base/bytes.h"

static bool one_in(struct diff_gen *g, uint32_t n)
{
	return rng_below(g->r, n) == 0;
}

/* --- registers --- */

static bool usable(const struct diff_gen *g, unsigned r)
{
	return !(g->t.written >> r & 1);
}

/* The initial value of a free register is now this. */
static void assign(struct diff_gen *g, unsigned r, uint64_t v)
{
	if (diff_bits(g) != 64)
		v &= 0xffffffff;
	g->t.known |= 1u << r;
	g->t.value[r] = v;
	g->b->known |= 1u << r;
	g->b->value[r] = v;
}

static bool is_free(const struct diff_gen *g, unsigned r)
{
	return usable(g, r) && !(g->t.known >> r & 1);
}

static unsigned pick_gpr(struct diff_gen *g, bool written)
{
	unsigned limit = g->use_rex ? 16 : 8, r = rng_below(g->r, limit);

	/* In a block, registers that still can be addresses are precious, RSP most of all. */
	for (unsigned tries = 0; written && !g->single && tries < 12; tries++) {
		if (!usable(g, r) || (r != X86_RSP && rng_chance(g->r, 60)))
			break;
		r = rng_below(g->r, limit);
	}
	return r;
}

/* AH to BH are the numbers 4 to 7 without REX: recorded as 80h + the register. */
static uint8_t as_byte(const struct diff_gen *g, unsigned r)
{
	return !g->use_rex && r >= 4 ? (uint8_t)(0x80 | (r & 3)) : (uint8_t)r;
}

static unsigned number(uint8_t r)
{
	return r & 0x80 ? 4 | (r & 3) : r;
}

/* --- addresses --- */

uint64_t diff_seg_base(enum diff_mode mode, unsigned seg)
{
	uint16_t sel = diff_modes[mode].sel[seg];

	if (diff_modes[mode].bits == 64)
		return seg == X86_FS ? DIFF_FS_BASE : seg == X86_GS ? DIFF_GS_BASE : 0;
	return sel & 4 ? diff_ldt[sel >> 3].base : 0;
}

static bool inside(const struct diff_gen *g)
{
	return g->f->row->attr & A_INSIDE;
}

/* Where in the data area an operand goes: mostly inside, often across the page boundary, sometimes where it faults. */
static uint64_t pick_target(struct diff_gen *g, uint32_t size, uint32_t align)
{
	uint32_t room = DIFF_RW - (size < DIFF_RW ? size : DIFF_RW), at, kind = rng_below(g->r, 100);

	if (inside(g) || (g->single ? kind < 60 : kind < 78))
		at = rng_below(g->r, room + 1);
	else if (g->single ? kind < 84 : kind < 98)
		at = 0x1000 - rng_below(g->r, size + 1);
	else if (kind < 90)
		at = DIFF_RW - rng_below(g->r, size + 1);
	else if (kind < 95)
		at = DIFF_RW + rng_below(g->r, DIFF_RO - 64);
	else if (kind < 98)
		at = DIFF_RW + DIFF_RO - rng_below(g->r, size + 1);
	else
		at = (uint32_t)-1 - rng_below(g->r, size);
	if (align && !one_in(g, 24))
		at &= ~(align - 1);
	return DIFF_DATA + (uint64_t)(int32_t)at;
}

static uint64_t mask_of(unsigned bytes)
{
	return bytes == 8 ? ~0ull : (1ull << 8 * bytes) - 1;
}

static bool fits(uint64_t v, unsigned bytes)
{
	return bytes == 1 ? (uint64_t)(int8_t)v == v : (uint64_t)(int32_t)v == v;
}

/* The offset that reaches `low` (an address in the lower mapping), or the upper one where addresses are wide. */
static uint64_t offset_of(struct diff_gen *g, uint64_t low, unsigned seg)
{
	bool high = diff_bits(g) == 64 && g->i->asize == 8 && !one_in(g, 4);
	uint64_t base = diff_seg_base(g->b->mode, seg);

	if (diff_bits(g) == 64 && base > DIFF_HIGH && g->i->asize != 8)
		high = true;
	g->i->linear = low + (high ? DIFF_HIGH : 0);
	return (g->i->linear - base) & (diff_bits(g) == 64 ? ~0ull : 0xffffffff);
}

/* Bits of a register above the address size, which must not matter. */
static uint64_t dirty(struct diff_gen *g, uint64_t v, unsigned bytes)
{
	if (bytes == 8 || one_in(g, 3))
		return v;
	return (v & mask_of(bytes)) | (rng_next(g->r) & ~mask_of(bytes));
}

static uint8_t segment_for(struct diff_gen *g, bool stack)
{
	return g->i->prefix_seg < X86_SEGS && !(diff_bits(g) == 64 && g->i->prefix_seg < X86_FS) ? g->i->prefix_seg
	       : stack										 ? X86_SS
												 : X86_DS;
}

static unsigned put_disp(struct diff_gen *g, uint64_t disp, unsigned bytes)
{
	g->disp = disp;
	g->disp_size = (uint8_t)bytes;
	return bytes == 0 ? 0 : bytes == 1 ? 1 : 2;
}

/* The eight sums of 16-bit addressing. */
static bool address16(struct diff_gen *g, uint64_t low)
{
	static const uint8_t base[8] = { X86_RBX, X86_RBX, X86_RBP, X86_RBP, X86_RSI, X86_RDI, X86_RBP, X86_RBX },
			     index[8] = { X86_RSI, X86_RDI, X86_RSI, X86_RDI, 16, 16, 16, 16 };
	unsigned rm = rng_below(g->r, 8), mod;
	uint64_t sum = 0, ea;

	for (unsigned tries = 0; tries < 8; tries++, rm = (rm + 1) & 7)
		if (usable(g, base[rm]) && (index[rm] == 16 || usable(g, index[rm])))
			break;
	if (!usable(g, base[rm]) || (index[rm] != 16 && !usable(g, index[rm])) || one_in(g, 12)) {
		g->seg = segment_for(g, false);
		put_disp(g, offset_of(g, low, g->seg), 2);
		g->modrm = 6;
		return true;
	}
	g->seg = segment_for(g, base[rm] == X86_RBP);
	ea = offset_of(g, low, g->seg);
	if (index[rm] != 16) {
		if (is_free(g, index[rm]))
			assign(g, index[rm], dirty(g, rng_next(g->r) & 0xffff, 2));
		sum = g->t.value[index[rm]];
	}
	if (is_free(g, base[rm])) {
		uint64_t disp = rng_below(g->r, 3) ? (uint64_t)(int8_t)rng_next(g->r) : rng_next(g->r) & 0xffff;

		if (rm != 6 && one_in(g, 4))
			disp = 0;
		assign(g, base[rm], dirty(g, (ea - sum - disp) & 0xffff, 2));
	}
	sum = (ea - sum - g->t.value[base[rm]]) & 0xffff;
	mod = put_disp(g, sum, !sum && rm != 6 ? 0 : (uint16_t)(int8_t)sum == sum ? 1 : 2);
	g->modrm = (uint8_t)(mod << 6 | rm);
	return true;
}

/* An index register and what it adds. */
static unsigned pick_index(struct diff_gen *g, unsigned *scale, uint64_t *adds)
{
	unsigned x = rng_below(g->r, g->use_rex ? 16 : 8);

	if (x == X86_RSP || !usable(g, x) || one_in(g, 2))
		return 16;
	*scale = rng_below(g->r, 4);
	if (is_free(g, x))
		assign(g, x, one_in(g, 2) ? rng_below(g->r, 64) - 16ull : rng_integer(g->r));
	*adds = g->t.value[x] << *scale;
	return x;
}

/* A register that can be the base: free, or near enough. */
static unsigned pick_base(struct diff_gen *g, uint64_t ea, unsigned not_this)
{
	unsigned limit = g->use_rex ? 16 : 8, r = rng_below(g->r, limit);

	for (unsigned tries = 0; tries < limit; tries++, r = (r + 1) % limit) {
		if (!usable(g, r) || (r == not_this && is_free(g, r)))
			continue;
		/* Keep some registers free for later. */
		if (is_free(g, r) ? tries > 2 || rng_below(g->r, 3) == 0 || g->single
				  : g->i->asize < 8 || fits(ea - g->t.value[r], 4))
			return r;
	}
	return 16;
}

/* No register: absolute, or relative to RIP. */
static void address_fixed(struct diff_gen *g, uint64_t low)
{
	uint64_t rip_high = g->b->entry & DIFF_HIGH;

	g->seg = segment_for(g, false);
	if (diff_bits(g) == 64 && one_in(g, 2)) {
		/* As far from the code as the mappings are from each other, or in the same one. */
		uint64_t high = g->i->asize == 8 ? rip_high : diff_seg_base(g->b->mode, g->seg) & DIFF_HIGH;

		g->i->linear = low + high;
		g->rip_target = g->i->linear - diff_seg_base(g->b->mode, g->seg);
		g->rip_relative = true;
		g->disp_size = 4;
		g->modrm = 5;
		return;
	}
	g->i->linear = low;
	put_disp(g, low - diff_seg_base(g->b->mode, g->seg), 4);
	if (diff_bits(g) == 64 || one_in(g, 6)) {
		g->modrm = 4;
		g->has_sib = true;
		g->sib = (uint8_t)(rng_below(g->r, 4) << 6 | 4 << 3 | 5);
	} else {
		g->modrm = 5;
	}
}

static bool address(struct diff_gen *g, uint64_t low)
{
	unsigned scale = 0, index, base, mod;
	uint64_t adds = 0, ea, disp;

	if (g->i->asize == 2)
		return address16(g, low);
	index = pick_index(g, &scale, &adds);
	/* The segment depends on the base, and the offset on the segment: choose a base as if for DS. */
	ea = offset_of(g, low, segment_for(g, false)) - adds;
	base = one_in(g, 10) ? 16 : pick_base(g, ea, index);
	if (base == 16) {
		address_fixed(g, low);
		return true;
	}
	g->seg = segment_for(g, base == X86_RSP || base == X86_RBP);
	ea = g->i->linear - diff_seg_base(g->b->mode, g->seg) - adds;
	if (is_free(g, base)) {
		disp = one_in(g, 3)   ? 0
		       : one_in(g, 2) ? (uint64_t)(int8_t)rng_next(g->r)
				      : (uint64_t)(int32_t)rng_next(g->r);
		assign(g, base, dirty(g, ea - disp, g->i->asize));
	}
	disp = ea - g->t.value[base];
	if (g->i->asize == 4)
		disp = (uint64_t)(int32_t)disp;
	mod = put_disp(g, disp, !disp && (base & 7) != 5 ? 0 : fits(disp, 1) ? 1 : 4);
	if (index != 16 || (base & 7) == 4 || one_in(g, 20)) {
		g->has_sib = true;
		g->sib = (uint8_t)(scale << 6 | (index == 16 ? 4 : index & 7) << 3 | (base & 7));
		g->rex |= (index != 16 && index & 8 ? 2 : 0) | base >> 3;
		g->modrm = (uint8_t)(mod << 6 | 4);
	} else {
		g->rex |= base >> 3;
		g->modrm = (uint8_t)(mod << 6 | (base & 7));
	}
	return true;
}

/* Anywhere: whatever the registers hold. */
static void address_wild(struct diff_gen *g)
{
	unsigned mod = rng_below(g->r, 3), rm = rng_below(g->r, 8);

	g->i->wild = true;
	g->modrm = (uint8_t)(mod << 6 | rm);
	if (g->i->asize == 2) {
		g->disp_size = mod == 0 && rm == 6 ? 2 : (uint8_t)mod;
	} else {
		g->has_sib = rm == 4;
		g->sib = (uint8_t)rng_next(g->r);
		g->disp_size = mod == 1 ? 1 : mod == 2 || rm == 5 || (rm == 4 && (g->sib & 7) == 5) ? 4 : 0;
		g->rex |= g->use_rex ? rng_below(g->r, 4) : 0;
	}
	g->disp = rng_integer(g->r);
}

/* --- operands --- */

/* VEX.L doubles vectors. */
static unsigned vector_shift(const struct diff_gen *g)
{
	return g->f->vex && g->l && !g->f->lig;
}

static uint32_t bytes_of(const struct diff_gen *g, uint8_t size)
{
	unsigned op = g->i->opsize;

	switch (size) {
	case SIZE_B:
	case SIZE_W:
	case SIZE_D:
	case SIZE_Q:
		return (1u << (size - SIZE_B)) << vector_shift(g);
	case SIZE_T:
		return 10;
	case SIZE_X:
		return 16u << vector_shift(g);
	case SIZE_V:
	case SIZE_Y:
		return op;
	case SIZE_Z:
		return op < 4 ? op : 4;
	case SIZE_O:
		return op == 8 ? 16 : 8;
	case SIZE_E:
		return op == 2 ? 14 : 28;
	case SIZE_S:
		return op == 2 ? 94 : 108;
	case SIZE_F:
		return 512;
	case SIZE_P:
		return op + 2;
	case SIZE_A:
		return 2 * op;
	default:
		return 1;
	}
}

static bool choose_opsize(struct diff_gen *g)
{
	uint32_t a = g->f->row->attr, pick = rng_below(g->r, 8);
	struct diff_insn *i = g->i;

	i->opsize = diff_bits(g) == 16 ? 2 : 4;
	if (a & A_FORCED)
		i->opsize = diff_bits(g) == 64 ? 8 : 4;
	else if (diff_bits(g) != 64)
		i->opsize = !g->f->sized ? 4 : pick < 3 ? 6 - i->opsize : i->opsize;
	else if (a & A_F64)
		i->opsize = 8;
	else if (a & A_D64)
		i->opsize = pick ? 8 : 2;
	else if (g->f->wide)
		i->opsize = pick < 4 ? 4 : 8;
	else if (g->f->sized)
		i->opsize = pick < 2 ? 2 : pick < 5 ? 4 : 8;
	/* A branch with a 16-bit operand leaves the block, except where CS keeps it in. */
	if (!g->single && g->f->op[0].where == 'J' && g->b->mode == DIFF_32)
		i->opsize = 4;
	if (a & A_SMALL16 && i->opsize == 2 && g->f->ops == 3 && g->f->op[2].where != 'I' && !g->single)
		return false;
	return true;
}

static void choose_asize(struct diff_gen *g)
{
	unsigned bits = diff_bits(g);
	/* 16-bit addresses reach nothing where segments begin at 0. */
	bool other = g->b->mode == DIFF_32 ? one_in(g, 100) : one_in(g, bits == 64 ? 8 : 4);

	g->i->asize = bits == 64 ? (other ? 4 : 8) : (bits == 32) == other ? 2 : 4;
}

/* The register operands; false when none fits. */
static void registers(struct diff_gen *g)
{
	for (unsigned n = 0; n < g->f->ops; n++) {
		const struct diff_operand *o = &g->f->op[n];
		bool written = n == 0 ? !(g->f->row->attr & A_READ) : n == 1 && g->f->row->attr & A_BOTH;
		bool byte = o->size == SIZE_B;
		unsigned r;

		switch (o->where) {
		case 'G':
			r = pick_gpr(g, written);
			g->modrm |= (r & 7) << 3;
			g->rex |= (r & 8) >> 1;
			g->i->reg = byte ? as_byte(g, r) : (uint8_t)r;
			break;
		case 'Z':
		case 'R':
		case 'E':
			if (g->i->is_mem)
				break;
			r = pick_gpr(g, written);
			/* 90h with RAX is another instruction. */
			if (g->f->opcode[0] == 0x90 && o->where == 'Z' && !r)
				r = 1;
			g->modrm |= o->where == 'Z' ? 0 : 0xc0 | (r & 7);
			g->rex |= r >> 3;
			g->i->rm = byte ? as_byte(g, r) : (uint8_t)r;
			break;
		case 'H':
		case 'L':
			r = rng_below(g->r, diff_bits(g) == 64 ? 16 : 8);
			if (o->where == 'H')
				g->i->vreg = (uint8_t)r;
			else
				g->i->imm = r << 4 | rng_below(g->r, 16);
			if (o->where == 'L')
				g->imm_size = 1;
			break;
		case 'B':
			r = pick_gpr(g, written);
			g->i->vreg = (uint8_t)r;
			break;
		case 'V':
		case 'P':
		case 'S':
			r = rng_below(g->r, o->where == 'S' ? 6 : g->use_rex ? 16 : 8);
			g->modrm |= (r & 7) << 3;
			/* REX.R and REX.B mean nothing for MMX registers. */
			g->rex |= (r & 8) >> 1;
			g->i->reg = (uint8_t)r;
			break;
		case 'W':
		case 'U':
		case 'Q':
		case 'N':
		case 'i':
			if (g->i->is_mem)
				break;
			r = rng_below(g->r, g->use_rex ? 16 : 8);
			g->modrm |= 0xc0 | (r & 7);
			g->rex |= r >> 3;
			g->i->rm = (uint8_t)r;
			break;
		}
	}
}

static uint32_t alignment(struct diff_gen *g)
{
	if (g->i->lock)
		return g->i->size;
	if (g->f->vex ? g->f->row->attr & A_ALIGNED : g->i->size == 16 && !(g->f->row->attr & A_LOOSE))
		return g->i->size;
	return g->i->size == 512 ? 16 : one_in(g, 3) ? g->i->size & -g->i->size : 0;
}

/* A bit offset that the address can be corrected by. */
static bool bit_offset(struct diff_gen *g, uint64_t *moves)
{
	unsigned r = g->i->reg;
	int64_t v;

	if (!usable(g, r))
		return false;
	if (is_free(g, r))
		assign(g, r, one_in(g, 3) ? rng_integer(g->r) : rng_below(g->r, 4096) - 2048ull);
	v = (int64_t)g->t.value[r];
	v = g->i->opsize == 2 ? (int16_t)v : g->i->opsize == 4 ? (int32_t)v : v;
	v = (v >> (g->i->opsize == 2 ? 4 : g->i->opsize == 4 ? 5 : 6)) * g->i->opsize;
	*moves = (uint64_t)v;
	return true;
}

/* A base that points into the data, and any vector register as the index: what is in it is for the tweak. */
static bool vector_address(struct diff_gen *g)
{
	uint64_t low = DIFF_DATA + rng_below(g->r, DIFF_RW), disp = (uint64_t)(int8_t)rng_next(g->r);
	unsigned base = pick_base(g, 0, 16), mod;

	if (g->i->asize == 2) { /* there is none: #UD */
		g->modrm |= 0x84;
		g->disp_size = 2;
		g->i->wild = true;
		return true;
	}
	if (base == 16 || !is_free(g, base))
		return false;
	g->seg = segment_for(g, base == X86_RSP || base == X86_RBP);
	assign(g, base, dirty(g, offset_of(g, low, g->seg) - disp, g->i->asize));
	g->i->index = (uint8_t)rng_below(g->r, diff_bits(g) == 64 ? 16 : 8);
	g->i->scale = (uint8_t)rng_below(g->r, 4);
	mod = put_disp(g, disp, 1 + 3 * rng_below(g->r, 2));
	g->has_sib = true;
	g->sib = (uint8_t)(g->i->scale << 6 | (g->i->index & 7) << 3 | (base & 7));
	g->rex |= (g->i->index & 8 ? 2 : 0) | base >> 3;
	g->modrm |= (uint8_t)(mod << 6 | 4);
	return true;
}

static bool memory(struct diff_gen *g, const struct diff_operand *o)
{
	uint64_t low, moves = 0;

	g->i->size = bytes_of(g, o->size);
	g->modrm &= 0x38;
	if (!inside(g) && (g->single ? one_in(g, 25) : one_in(g, 250))) {
		uint8_t reg = g->modrm;

		address_wild(g);
		g->modrm |= reg;
		return true;
	}
	if (g->f->row->attr & A_VSIB)
		return vector_address(g);
	if (g->f->row->attr & A_BITS && !bit_offset(g, &moves))
		return false;
	low = pick_target(g, g->i->size, alignment(g));
	uint8_t reg = g->modrm;
	if (!address(g, low - moves))
		return false;
	g->modrm |= reg;
	g->i->linear += moves;
	return true;
}

/* An implied pointer: `span` bytes can be reached from it in both directions. */
static bool pointer(struct diff_gen *g, unsigned r, unsigned seg, uint32_t span, unsigned width)
{
	uint64_t base = diff_seg_base(g->b->mode, seg), low;

	if (!usable(g, r))
		return false;
	if (!is_free(g, r)) {
		low = (base + (g->t.value[r] & mask_of(width))) & (diff_bits(g) == 64 ? ~DIFF_HIGH : 0xffffffff);
		g->i->linear = low;
		return low >= DIFF_DATA + span && low < DIFF_DATA + DIFF_RW - span;
	}
	/* Not near the edge when a fault could come from a selector too: which one wins is not agreed upon. */
	low = g->single && !(g->f->row->attr & A_PARTIAL) && one_in(g, 8)
		      ? pick_target(g, 16, 0)
		      : DIFF_DATA + span + rng_below(g->r, DIFF_RW - 2 * span);
	if (span > 64)
		low &= ~(one_in(g, 16) ? 0ull : (uint64_t)(g->i->opsize - 1));
	assign(g, r, dirty(g, offset_of(g, low, seg), width));
	return true;
}

static bool pointers(struct diff_gen *g)
{
	uint32_t a = g->f->row->attr;
	unsigned sp = diff_bits(g) == 64 ? 8 : g->b->mode == DIFF_16 ? 2 : 4;
	uint8_t asize = g->i->asize;

	g->seg = segment_for(g, false);
	if (a & A_SI && !pointer(g, X86_RSI, g->seg, 256, asize))
		return false;
	if (a & A_DI && !pointer(g, X86_RDI, a & A_REP ? X86_ES : g->seg, 256, asize))
		return false;
	if (a & A_BX && !pointer(g, X86_RBX, g->seg, 256, asize))
		return false;
	g->i->asize = (uint8_t)sp; /* the stack does not know of address sizes */
	bool ok = (!(a & A_STACK) || pointer(g, X86_RSP, X86_SS, 128, sp)) &&
		  (!(a & A_BP) || pointer(g, X86_RBP, X86_SS, 256, sp));
	g->i->asize = asize;
	if (!ok || !g->i->rep)
		return ok;
	if (!usable(g, X86_RCX))
		return false;
	if (is_free(g, X86_RCX))
		assign(g, X86_RCX, dirty(g, rng_below(g->r, 20), asize));
	return (g->t.value[X86_RCX] & mask_of(asize)) < 64 || g->single;
}

static void immediate(struct diff_gen *g, const struct diff_operand *o)
{
	uint64_t v = rng_integer(g->r);

	g->imm_size = (uint8_t)(g->imm_size + (g->f->vex ? 1 : bytes_of(g, o->size)));
	if (g->f->row->attr & A_INT)
		while ((uint8_t)v == 0x80)
			v = rng_next(g->r);
	if (g->f->row->attr & A_SMALL16 && g->i->opsize == 2)
		v = rng_below(g->r, 17);
	if (g->f->opcode[0] == 0xc8) /* ENTER: a small frame, all levels */
		v = rng_below(g->r, 100) | rng_below(g->r, one_in(g, 4) ? 256 : 6) << 16;
	/* A pointer, now and then. */
	if (g->f->opcode[0] == 0xb8 && !g->single && one_in(g, 2))
		v = DIFF_DATA + rng_below(g->r, DIFF_RW) + (g->i->opsize == 8 ? DIFF_HIGH : 0);
	g->i->imm = v;
}

/* --- bytes --- */

static void put(struct diff_gen *g, uint64_t v, unsigned size)
{
	for (unsigned n = 0; n < size; n++)
		g->b->bytes[DIFF_PAD + g->b->len++] = (uint8_t)(v >> 8 * n);
}

/* Two or three bytes and what they stand for. In 32-bit code, R and X must look like none, and B means nothing. */
static void put_vex(struct diff_gen *g)
{
	const struct diff_form *f = g->f;
	bool is64 = diff_bits(g) == 64;
	unsigned map = f->opcode[1] == 0x38 ? 2 : f->opcode[1] == 0x3a ? 3 : 1, v = ~g->i->vreg & 15;
	unsigned pp = f->prefix == 0x66 ? 1 : f->prefix == 0xf3 ? 2 : f->prefix == 0xf2 ? 3 : 0;

	/* A register that is not asked for: #UD. */
	if (!g->uses_v && g->single && one_in(g, 30))
		v = rng_below(g->r, 16);
	if (map == 1 && !g->w && !(g->rex & 3) && !one_in(g, 3)) {
		put(g, 0xc5, 1);
		put(g, (g->rex & 4 ? 0 : 0x80) | (is64 ? v : v | 8) << 3 | g->l << 2 | pp, 1);
		return;
	}
	if (!is64 && one_in(g, 4))
		v ^= 8;
	put(g, 0xc4, 1);
	put(g, (~g->rex & 7) << 5 | map, 1);
	if (!is64 && one_in(g, 4))
		g->b->bytes[DIFF_PAD + g->b->len - 1] ^= 0x20;
	put(g, g->w << 7 | v << 3 | g->l << 2 | pp, 1);
}

static void put_prefixes(struct diff_gen *g)
{
	static const uint8_t segs[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65 };
	unsigned bits = diff_bits(g), n = 0;
	const struct diff_insn *i = g->i;
	uint8_t p[6];

	if (g->f->sized && !(g->f->row->attr & (A_F64 | A_FORCED) && bits == 64) && (i->opsize == 2) != (bits == 16))
		p[n++] = 0x66;
	if (i->asize != (bits == 64 ? 8 : bits == 32 ? 4 : 2))
		p[n++] = 0x67;
	if (i->prefix_seg < X86_SEGS)
		p[n++] = segs[i->prefix_seg];
	if (i->lock)
		p[n++] = 0xf0;
	if (i->rep)
		p[n++] = g->f->writes ? (one_in(g, 2) ? 0xf2 : 0xf3) : one_in(g, 10) ? 0xf2 : 0xf3;
	if (g->f->prefix && !g->f->vex)
		p[n++] = g->f->prefix;
	/* What must not be before VEX: #UD. */
	if (g->f->vex && g->single && one_in(g, 40)) {
		static const uint8_t wrong[] = { 0x66, 0xf2, 0xf3, 0xf0 };

		p[n++] = wrong[rng_below(g->r, 4)];
	}
	for (unsigned k = n; k > 1; k--) {
		unsigned other = rng_below(g->r, k);
		uint8_t t = p[k - 1];

		p[k - 1] = p[other];
		p[other] = t;
	}
	for (unsigned k = 0; k < n; k++)
		put(g, p[k], 1);
	if (g->f->vex) {
		if (bits == 64 && g->single && one_in(g, 60))
			put(g, 0x40 | rng_below(g->r, 16), 1);
		put_vex(g);
		return;
	}
	if (bits == 64 && (g->use_rex || g->rex))
		put(g, 0x40 | g->rex, 1);
}

static void put_all(struct diff_gen *g)
{
	struct diff_insn *i = g->i;
	uint32_t start = g->b->len;

	put_prefixes(g);
	for (unsigned n = 0; n + 1 < g->f->opcodes && !g->f->vex; n++)
		put(g, g->f->opcode[n], 1);
	bool in_opcode = false;
	for (unsigned n = 0; n < g->f->ops; n++)
		in_opcode |= g->f->op[n].where == 'Z';
	put(g, g->f->opcode[g->f->opcodes - 1] | (in_opcode ? number(i->rm) & 7 : 0), 1);
	if (g->f->has_modrm)
		put(g, g->modrm, 1);
	if (g->has_sib)
		put(g, g->sib, 1);
	if (g->rip_relative) {
		uint64_t next = g->b->entry + g->b->len + 4 + g->imm_size;

		g->disp = g->rip_target - next;
	}
	put(g, g->disp, g->disp_size);
	put(g, i->imm, g->imm_size);
	put(g, 0, g->jump_size);
	i->len = (uint8_t)(g->b->len - start);
}

/* Everything but what comes before: which registers were written, what is known now. */
static void written(struct diff_gen *g, unsigned r)
{
	r &= 0x7f;
	g->t.known &= ~(1u << r);
	g->t.written |= 1u << r;
}

static void written_operands(struct diff_gen *g)
{
	for (unsigned n = 0; n < g->f->ops && n < 2; n++) {
		char where = g->f->op[n].where;

		if (n == 0 ? g->f->row->attr & A_READ : !(g->f->row->attr & A_BOTH))
			continue;
		if (where == 'G')
			written(g, g->i->reg);
		else if (where == 'B')
			written(g, g->i->vreg);
		else if (where == 'Z' || where == 'R' || (where == 'E' && !g->i->is_mem))
			written(g, g->i->rm);
	}
	for (unsigned r = 0; r < 16; r++)
		if (g->f->row->clobbers >> r & 1)
			written(g, r);
}

/* A known register moves. `width`: bytes of it that change; 4 clears the rest in 64-bit mode. */
static void moved(struct diff_gen *g, unsigned r, uint64_t by, unsigned width)
{
	uint64_t keep = width == 2 ? ~0xffffull : 0;

	if (g->t.known >> r & 1)
		g->t.value[r] = (g->t.value[r] & keep) | ((g->t.value[r] + by) & mask_of(width));
}

static void moved_pointers(struct diff_gen *g)
{
	uint32_t a = g->f->row->attr;
	unsigned sp = diff_bits(g) == 64 ? 8 : g->b->mode == DIFF_16 ? 2 : 4;
	uint64_t step = g->f->ops ? g->i->opsize : 1;

	if (g->f->stack)
		moved(g, X86_RSP, (uint64_t)(int64_t)(g->f->stack * g->i->opsize), sp);
	if (!(a & A_REP))
		return;
	for (unsigned n = 0; n < 2; n++) {
		unsigned r = n ? X86_RDI : X86_RSI;

		if (!(a & (n ? A_DI : A_SI)))
			continue;
		if (g->i->rep || !g->t.df_known)
			written(g, r);
		else
			moved(g, r, g->t.df ? -step : step, g->i->asize);
	}
	if (g->i->rep)
		written(g, X86_RCX);
}

uint16_t diff_undefined_by_count(const struct diff_insn *i, unsigned count)
{
	unsigned width = i->form->op[0].size == SIZE_B ? 8 : 8u * i->opsize;

	count &= width == 64 ? 63 : 31;
	if (!count)
		return 0;
	switch (i->form->kind) {
	case UNDEFINED_SHIFT:
		return (uint16_t)(X86_AF | (count == 1 ? 0 : X86_OF) | (count >= width ? X86_CF : 0));
	case UNDEFINED_DOUBLE:
		return (uint16_t)(X86_AF | (count == 1 ? 0 : X86_OF) | (count > width ? X86_ARITH : 0));
	default:
		return count == 1 ? 0 : X86_OF;
	}
}

static void flags_after(struct diff_gen *g)
{
	const struct diff_insn *i = g->i;
	const struct diff_operand *last = &g->f->op[g->f->ops ? g->f->ops - 1 : 0];

	if (g->f->kind == UNDEFINED_FIXED) {
		/* A repeated comparison may compare nothing. */
		if (!i->rep)
			g->t.undefined &= (uint16_t)~g->f->writes;
		g->t.undefined |= g->f->undefined;
		return;
	}
	if (last->where == 'I') {
		g->t.undefined |= diff_undefined_by_count(i, (uint8_t)i->imm);
		return;
	}
	if (!strcmp(g->f->row->text + strlen(g->f->row->text) - 2, ",1")) {
		g->t.undefined |= diff_undefined_by_count(i, 1);
		return;
	}
	/* By CL: the worst. */
	g->t.undefined |= diff_undefined_by_count(i, 31);
}

static void effects(struct diff_gen *g)
{
	uint64_t imm = g->i->imm;

	moved_pointers(g);
	written_operands(g);
	flags_after(g);
	if (g->f->row->attr & (A_CLD | A_STD)) {
		g->t.df_known = true;
		g->t.df = g->f->row->attr & A_STD;
	}
	/* MOV of an immediate makes a register known. */
	if (g->f->opcode[0] == 0xb8 && g->i->opsize >= 4) {
		g->t.known |= 1u << g->i->rm;
		g->t.written &= ~(1u << g->i->rm);
		g->t.value[g->i->rm] = g->i->opsize == 4 ? (uint32_t)imm : imm;
	}
}

/* VEX.L and W: what the form has, anything where that means nothing, now and then what is wrong. */
static void choose_vex(struct diff_gen *g)
{
	bool wrong = g->single && !(g->f->row->attr & A_KNOWN) && one_in(g, 30);

	g->use_rex = diff_bits(g) == 64;
	g->l = g->f->l >= 0 && !wrong ? g->f->l : (int)rng_below(g->r, 2);
	if (g->f->wide)
		g->w = diff_bits(g) == 64 ? g->i->opsize == 8 : one_in(g, 3);
	else
		g->w = g->f->w >= 0 && !wrong ? g->f->w : (int)one_in(g, 3);
	g->rex = 0;
}

bool diff_encode(struct diff_gen *g, struct diff_form *f)
{
	struct diff_track before = g->t;
	struct diff_block *b = g->b;
	uint32_t known = b->known;

	g->f = f;
	g->i = &b->insn[b->insns];
	*g->i = (struct diff_insn){ .form = f, .mode = b->mode, .at = (uint16_t)b->len, .prefix_seg = X86_SEGS };
	g->rex = g->modrm = g->sib = g->disp_size = g->imm_size = g->jump_size = 0;
	g->has_sib = g->rip_relative = g->l = g->w = g->uses_v = false;
	g->disp = 0;
	if (!choose_opsize(g))
		return false;
	choose_asize(g);
	/* The count must be free to be changed. */
	if (f->row->attr & A_SMALL16 && g->i->opsize == 2 && f->op[2].where != 'I')
		g->t.written |= 1u << X86_RCX;
	g->use_rex = diff_bits(g) == 64 && rng_below(g->r, 2);
	if (diff_bits(g) == 64 && g->i->opsize == 8 && !(f->row->attr & (A_D64 | A_F64 | A_FORCED))) {
		g->use_rex = true;
		g->rex = 8;
	}
	if (f->vex)
		choose_vex(g);
	if (one_in(g, 10))
		g->i->prefix_seg = (uint8_t)rng_below(g->r, 6);
	/* Memory, in about half of the cases where there is a choice. */
	const struct diff_operand *mem = NULL;
	for (unsigned n = 0; n < f->ops; n++)
		if (f->op[n].where && strchr("EMWQ", f->op[n].where))
			mem = &f->op[n];
	g->i->is_mem = mem && (mem->where == 'M' || rng_below(g->r, 9) < 5);
	g->i->lock = f->row->attr & A_LOCK && g->i->is_mem && one_in(g, 4);
	g->i->rep = f->row->attr & A_REP && one_in(g, 2);
	registers(g);
	if (f->ext >= 0)
		g->modrm |= (uint8_t)(f->ext << 3);
	if (f->modrm >= 0)
		g->modrm = (uint8_t)f->modrm;
	bool ok = pointers(g) && (!g->i->is_mem || memory(g, mem));
	for (unsigned n = 0; ok && n < f->ops; n++) {
		const struct diff_operand *o = &f->op[n];

		g->uses_v |= o->where == 'H' || o->where == 'B';
		if (o->where == 'I')
			immediate(g, o);
		if (o->where == 'J')
			g->jump_size = o->size == SIZE_B ? 1 : g->i->opsize == 2 ? 2 : 4;
		if (o->where == 'O') {
			g->seg = segment_for(g, false);
			g->i->size = bytes_of(g, o->size);
			g->i->is_mem = true;
			g->disp = offset_of(g, pick_target(g, g->i->size, 0), g->seg);
			g->disp_size = g->i->asize;
		}
	}
	if (!ok) {
		g->t = before;
		b->known = known;
		return false;
	}
	g->i->undefined = g->t.undefined;
	put_all(g);
	effects(g);
	b->insns++;
	return true;
}
