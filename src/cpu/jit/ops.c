/* The table of ops.h. */
#include "cpu/jit/ops.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/bytes.h"
#include "cpu/jit/jit.h"

#define C   JIT_F_C
#define P   JIT_F_P
#define A   JIT_F_A
#define Z   JIT_F_Z
#define S   JIT_F_S
#define O   JIT_F_O
#define ALL JIT_F_ALL

#define RM_RW  (JIT_RM_R | JIT_RM_W)
#define REG_RW (JIT_REG_R | JIT_REG_W)

/* An operation of two operands at 8 * n and its places in groups 80, 81 and 83. `w`: JIT_RM_W and JIT_REG_W, or 0. */
#define ALU(n, reads, rm, reg)                                                                                         \
	{ X86_MAP_1, 8 * n, 2, 0, 0, JIT_RM_R | JIT_REG_R | rm, 0, reads, ALL, 0, jit_plain },                         \
		{ X86_MAP_1, 8 * n + 2, 2, 0, 0, JIT_RM_R | JIT_REG_R | reg, 0, reads, ALL, 0, jit_plain },            \
		{ X86_MAP_1, 8 * n + 4, 2, 0, 0, 0, 0, reads, ALL, 0, jit_implied },                                   \
		{ X86_MAP_1, 0x80, 2, 0, 1 + n, JIT_GROUP | JIT_RM_R | rm, 0, reads, ALL, 0, jit_plain },              \
	{                                                                                                              \
		X86_MAP_1, 0x83, 1, 0, 1 + n, JIT_GROUP | JIT_RM_R | rm, 0, reads, ALL, 0, jit_plain                   \
	}
#define ALU_W(n, reads) ALU(n, reads, JIT_RM_W, JIT_REG_W)

/* Shifts and rotations by an immediate (C0), by 1 (D0), by CL (D2): what they change depends on the count. */
#define SHIFT(ext, reads, what_changes)                                                                                \
	{ X86_MAP_1, 0xc0, 2, 0, 1 + ext, JIT_GROUP | RM_RW, 0, reads, 0, what_changes, jit_plain },                   \
		{ X86_MAP_1, 0xd0, 2, 0, 1 + ext, JIT_GROUP | RM_RW, 0, reads, 0, what_changes, jit_plain },           \
	{                                                                                                              \
		X86_MAP_1, 0xd2, 2, 0, 1 + ext, JIT_GROUP | RM_RW | JIT_CL, 0, reads, 0, what_changes, jit_plain       \
	}

#define BIT(op, ext, w)                                                                                                \
	{ X86_MAP_0F, op, 1, 0, 0, JIT_REGS | JIT_RM_R | JIT_REG_R | w, 0, 0, C, 0, jit_plain },                       \
		{ X86_MAP_0F, op, 1, 0, 0, JIT_MEM | w, 0, 0, C, 0, jit_bit_string },                                  \
	{                                                                                                              \
		X86_MAP_0F, 0xba, 1, 0, 1 + ext, JIT_GROUP | JIT_RM_R | w, 0, 0, C, 0, jit_plain                       \
	}

#define GPR_VEX(map, op, pfx, ext, what, writes)                                                                       \
	{                                                                                                              \
		X86_MAP_VEX_##map, op, 1, X86_PFX_##pfx, ext, what, 0, 0, writes, 0, jit_plain                         \
	}

static const struct jit_op rows[] = {
	ALU_W(0, 0),
	ALU_W(1, 0),
	ALU_W(2, C),
	ALU_W(3, C),
	ALU_W(4, 0),
	ALU_W(5, 0),
	ALU_W(6, 0),
	ALU(7, 0, 0, 0),
	{ X86_MAP_1, 0x40, 16, 0, 0, 0, 0, 0, ALL & ~C, 0, jit_inc_dec },
	{ X86_MAP_1, 0x50, 8, 0, 0, 0, 0, 0, 0, 0, jit_push_reg },
	{ X86_MAP_1, 0x58, 8, 0, 0, 0, 0, 0, 0, 0, jit_pop_reg },
	{ X86_MAP_1, 0x63, 1, 0, 0, JIT_RM_R | JIT_REG_W | JIT_NOT16 | JIT_CODE64, 4, 0, 0, 0, jit_plain },
	{ X86_MAP_1, 0x68, 1, 0, 0, 0, 0, 0, 0, 0, jit_push_imm },
	{ X86_MAP_1, 0x6a, 1, 0, 0, 0, 0, 0, 0, 0, jit_push_imm },
	{ X86_MAP_1, 0x69, 1, 0, 0, JIT_RM_R | JIT_REG_W, 0, 0, ALL, 0, jit_plain },
	{ X86_MAP_1, 0x6b, 1, 0, 0, JIT_RM_R | JIT_REG_W, 0, 0, ALL, 0, jit_plain },
	{ X86_MAP_1, 0x70, 16, 0, 0, JIT_END, 0, ALL, 0, 0, jit_jcc },
	{ X86_MAP_1, 0x84, 2, 0, 0, JIT_RM_R | JIT_REG_R, 0, 0, ALL, 0, jit_plain },
	{ X86_MAP_1, 0x86, 2, 0, 0, RM_RW | REG_RW, 0, 0, 0, 0, jit_plain },
	{ X86_MAP_1, 0x88, 2, 0, 0, JIT_RM_W | JIT_REG_R, 0, 0, 0, 0, jit_plain },
	{ X86_MAP_1, 0x8a, 2, 0, 0, JIT_RM_R | JIT_REG_W, 0, 0, 0, 0, jit_plain },
	{ X86_MAP_1, 0x8c, 1, 0, 0, JIT_REGS, 0, 0, 0, 0, jit_mov_from_seg },
	{ X86_MAP_1, 0x8d, 1, 0, 0, JIT_REG_W, 0, 0, 0, 0, jit_lea },
	{ X86_MAP_1, 0x90, 1, X86_PFX_F3, 0, 0, 0, 0, 0, 0, NULL }, /* PAUSE is for its handler */
	{ X86_MAP_1, 0x90, 8, 0, 0, 0, 0, 0, 0, 0, jit_xchg_acc },
	{ X86_MAP_1, 0x98, 2, 0, 0, 0, 0, 0, 0, 0, jit_implied },
	{ X86_MAP_1, 0x9c, 1, 0, 0, 0, 0, ALL, 0, 0, jit_pushf },
	{ X86_MAP_1, 0x9e, 1, 0, 0, JIT_FIXED, 0, 0, ALL & ~O, 0, jit_implied },
	{ X86_MAP_1, 0x9f, 1, 0, 0, JIT_FIXED, 0, ALL & ~O, 0, 0, jit_implied },
	{ X86_MAP_1, 0xa0, 4, 0, 0, 0, 0, 0, 0, 0, jit_mov_offset },
	{ X86_MAP_1, 0xa4, 2, 0, 0, 0, 0, 0, 0, 0, jit_string },
	{ X86_MAP_1, 0xa6, 2, 0, 0, 0, 0, ALL, 0, ALL, jit_string },
	{ X86_MAP_1, 0xa8, 2, 0, 0, 0, 0, 0, ALL, 0, jit_implied },
	{ X86_MAP_1, 0xaa, 4, 0, 0, 0, 0, 0, 0, 0, jit_string },
	{ X86_MAP_1, 0xae, 2, 0, 0, 0, 0, ALL, 0, ALL, jit_string },
	{ X86_MAP_1, 0xb0, 16, 0, 0, 0, 0, 0, 0, 0, jit_mov_imm },
	SHIFT(0, 0, C | O),
	SHIFT(1, 0, C | O),
	SHIFT(2, C, C | O),
	SHIFT(3, C, C | O),
	SHIFT(4, 0, ALL),
	SHIFT(5, 0, ALL),
	SHIFT(6, 0, ALL),
	SHIFT(7, 0, ALL),
	{ X86_MAP_1, 0xc2, 2, 0, 0, JIT_END, 0, 0, 0, 0, jit_ret },
	{ X86_MAP_1, 0xc6, 2, 0, 1, JIT_GROUP | JIT_RM_W, 0, 0, 0, 0, jit_plain },
	{ X86_MAP_1, 0xc9, 1, 0, 0, 0, 0, 0, 0, 0, jit_leave },
	{ X86_MAP_1, 0xe0, 2, 0, 0, JIT_END, 0, Z, 0, 0, jit_loop },
	{ X86_MAP_1, 0xe2, 1, 0, 0, JIT_END, 0, 0, 0, 0, jit_loop },
	{ X86_MAP_1, 0xe3, 1, 0, 0, JIT_END, 0, 0, 0, 0, jit_jcxz },
	{ X86_MAP_1, 0xe8, 1, 0, 0, JIT_END, 0, 0, 0, 0, jit_call },
	{ X86_MAP_1, 0xe9, 1, 0, 0, JIT_END, 0, 0, 0, 0, jit_jmp },
	{ X86_MAP_1, 0xeb, 1, 0, 0, JIT_END, 0, 0, 0, 0, jit_jmp },
	{ X86_MAP_1, 0xf5, 1, 0, 0, JIT_FIXED, 0, C, C, 0, jit_implied },
	{ X86_MAP_1, 0xf8, 2, 0, 0, JIT_FIXED, 0, 0, C, 0, jit_implied },
	{ X86_MAP_1, 0xf6, 2, 0, 1, JIT_GROUP | JIT_RM_R, 0, 0, ALL, 0, jit_plain },
	{ X86_MAP_1, 0xf6, 2, 0, 1 + 1, JIT_GROUP | JIT_RM_R, 0, 0, ALL, 0, jit_plain },
	{ X86_MAP_1, 0xf6, 2, 0, 1 + 2, JIT_GROUP | RM_RW, 0, 0, 0, 0, jit_plain },
	{ X86_MAP_1, 0xf6, 2, 0, 1 + 3, JIT_GROUP | RM_RW, 0, 0, ALL, 0, jit_plain },
	{ X86_MAP_1, 0xf6, 2, 0, 1 + 4, JIT_GROUP | JIT_RM_R | JIT_ACC_W, 0, 0, ALL, 0, jit_plain },
	{ X86_MAP_1, 0xf6, 2, 0, 1 + 5, JIT_GROUP | JIT_RM_R | JIT_ACC_W, 0, 0, ALL, 0, jit_plain },
	{ X86_MAP_1, 0xf6, 2, 0, 1 + 6, 0, 0, 0, 0, 0, jit_div },
	{ X86_MAP_1, 0xf6, 2, 0, 1 + 7, 0, 0, 0, 0, 0, jit_div },
	{ X86_MAP_1, 0xfa, 1, 0, 0, JIT_FIXED, 0, 0, 0, 0, jit_cli },
	{ X86_MAP_1, 0xfb, 1, 0, 0, JIT_FIXED, 0, 0, 0, 0, jit_sti },
	{ X86_MAP_1, 0xfc, 2, 0, 0, JIT_FIXED, 0, 0, 0, 0, jit_direction },
	{ X86_MAP_1, 0xfe, 2, 0, 1, JIT_GROUP | RM_RW, 0, 0, ALL & ~C, 0, jit_plain },
	{ X86_MAP_1, 0xfe, 2, 0, 1 + 1, JIT_GROUP | RM_RW, 0, 0, ALL & ~C, 0, jit_plain },
	{ X86_MAP_1, 0xff, 1, 0, 1 + 2, JIT_END, 0, 0, 0, 0, jit_call_indirect },
	{ X86_MAP_1, 0xff, 1, 0, 1 + 4, JIT_END, 0, 0, 0, 0, jit_jmp_indirect },
	{ X86_MAP_1, 0xff, 1, 0, 1 + 6, JIT_MEM, 0, 0, 0, 0, jit_push_mem },
	{ X86_MAP_0F, 0x0d, 1, 0, 0, 0, 0, 0, 0, 0, jit_nothing },
	{ X86_MAP_0F, 0x18, 8, 0, 0, 0, 0, 0, 0, 0, jit_nothing },
	{ X86_MAP_0F, 0x40, 16, 0, 0, JIT_RM_R | REG_RW, 0, ALL, 0, 0, jit_plain },
	{ X86_MAP_0F, 0x80, 16, 0, 0, JIT_END, 0, ALL, 0, 0, jit_jcc },
	{ X86_MAP_0F, 0x90, 16, 0, 0, JIT_GROUP | JIT_RM_W | JIT_FIXED, 0, ALL, 0, 0, jit_plain },
	BIT(0xa3, 4, 0),
	BIT(0xab, 5, JIT_RM_W),
	BIT(0xb3, 6, JIT_RM_W),
	BIT(0xbb, 7, JIT_RM_W),
	{ X86_MAP_0F, 0xa4, 1, 0, 0, RM_RW | JIT_REG_R, 0, 0, 0, ALL, jit_plain },
	{ X86_MAP_0F, 0xa5, 1, 0, 0, RM_RW | JIT_REG_R | JIT_CL, 0, 0, 0, ALL, jit_plain },
	{ X86_MAP_0F, 0xac, 1, 0, 0, RM_RW | JIT_REG_R, 0, 0, 0, ALL, jit_plain },
	{ X86_MAP_0F, 0xad, 1, 0, 0, RM_RW | JIT_REG_R | JIT_CL, 0, 0, 0, ALL, jit_plain },
	{ X86_MAP_0F, 0xae, 1, X86_PFX_NONE, 1 + 5, JIT_GROUP | JIT_REGS | JIT_FIXED, 0, 0, 0, 0, jit_plain },
	{ X86_MAP_0F, 0xae, 1, X86_PFX_NONE, 1 + 6, JIT_GROUP | JIT_REGS | JIT_FIXED, 0, 0, 0, 0, jit_plain },
	{ X86_MAP_0F, 0xae, 1, X86_PFX_NONE, 1 + 7, JIT_GROUP | JIT_REGS | JIT_FIXED, 0, 0, 0, 0, jit_plain },
	{ X86_MAP_0F, 0xaf, 1, 0, 0, JIT_RM_R | REG_RW, 0, 0, ALL, 0, jit_plain },
	{ X86_MAP_0F, 0xb0, 2, 0, 0, RM_RW | JIT_REG_R | JIT_ACC_W, 0, 0, ALL, 0, jit_plain },
	{ X86_MAP_0F, 0xb6, 1, 0, 0, JIT_RM_R | JIT_REG_W, 1, 0, 0, 0, jit_plain },
	{ X86_MAP_0F, 0xb7, 1, 0, 0, JIT_RM_R | JIT_REG_W, 2, 0, 0, 0, jit_plain },
	{ X86_MAP_0F, 0xbe, 1, 0, 0, JIT_RM_R | JIT_REG_W, 1, 0, 0, 0, jit_plain },
	{ X86_MAP_0F, 0xbf, 1, 0, 0, JIT_RM_R | JIT_REG_W, 2, 0, 0, 0, jit_plain },
	{ X86_MAP_0F, 0xb8, 1, X86_PFX_F3, 0, JIT_RM_R | JIT_REG_W, 0, 0, ALL, 0, jit_plain },
	{ X86_MAP_0F, 0xbc, 2, X86_PFX_ANY, 0, JIT_RM_R | REG_RW, 0, 0, ALL, 0, jit_plain },
	{ X86_MAP_0F, 0xc0, 2, 0, 0, RM_RW | REG_RW, 0, 0, ALL, 0, jit_plain },
	{ X86_MAP_0F, 0xc3, 1, X86_PFX_NONE, 0, JIT_MEM | JIT_RM_W | JIT_REG_R, 0, 0, 0, 0, jit_plain },
	{ X86_MAP_0F, 0xc7, 1, 0, 1 + 1, JIT_MEM | JIT_GROUP | RM_RW | JIT_CL | JIT_PAIR | JIT_ALIGNED | JIT_ACC_W, 0,
	  0, Z, 0, jit_plain },
	{ X86_MAP_0F, 0xc8, 8, 0, 0, 0, 0, 0, 0, 0, jit_bswap },
	{ X86_MAP_0F38, 0xf0, 1, X86_PFX_NONE, 0, JIT_MEM | JIT_RM_R | JIT_REG_W, 0, 0, 0, 0, jit_plain },
	{ X86_MAP_0F38, 0xf1, 1, X86_PFX_NONE, 0, JIT_MEM | JIT_RM_W | JIT_REG_R, 0, 0, 0, 0, jit_plain },
	{ X86_MAP_0F38, 0xf6, 1, X86_PFX_66, 0, JIT_RM_R | REG_RW, 0, C, C, 0, jit_plain },
	{ X86_MAP_0F38, 0xf6, 1, X86_PFX_F3, 0, JIT_RM_R | REG_RW, 0, O, O, 0, jit_plain },
	GPR_VEX(0F38, 0xf6, F2, 0, JIT_RM_R | JIT_REG_W | JIT_VVVV_W, 0),
	GPR_VEX(0F38, 0xf2, NONE, 0, JIT_RM_R | JIT_REG_W | JIT_VVVV, ALL),
	{ X86_MAP_VEX_0F38, 0xf3, 1, X86_PFX_NONE, 0, 0, 0, 0, ALL, 0, jit_bls },
	GPR_VEX(0F38, 0xf5, NONE, 0, JIT_RM_R | JIT_REG_W | JIT_VVVV, ALL),
	GPR_VEX(0F38, 0xf5, F3, 0, JIT_RM_R | JIT_REG_W | JIT_VVVV, 0),
	GPR_VEX(0F38, 0xf5, F2, 0, JIT_RM_R | JIT_REG_W | JIT_VVVV, 0),
	GPR_VEX(0F38, 0xf7, NONE, 0, JIT_RM_R | JIT_REG_W | JIT_VVVV, ALL),
	GPR_VEX(0F38, 0xf7, 66, 0, JIT_RM_R | JIT_REG_W | JIT_VVVV, 0),
	GPR_VEX(0F38, 0xf7, F3, 0, JIT_RM_R | JIT_REG_W | JIT_VVVV, 0),
	GPR_VEX(0F38, 0xf7, F2, 0, JIT_RM_R | JIT_REG_W | JIT_VVVV, 0),
	GPR_VEX(0F3A, 0xf0, F2, 0, JIT_RM_R | JIT_REG_W, 0),
};

static struct jit_op_table table = { .rows = rows, .count = ARRAY_LEN(rows) };

static void index_rows(struct jit_op_table *t)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&lock);
	for (uint16_t n = 0; n < t->count && !atomic_load(&t->indexed); n++) {
		for (unsigned k = 0; k < t->rows[n].count; k++) {
			typeof(t->at[0][0]) *at = &t->at[t->rows[n].map][(uint8_t)(t->rows[n].op + k)];

			if (!at->end)
				at->begin = n;
			at->end = n + 1;
		}
	}
	atomic_store_explicit(&t->indexed, true, memory_order_release);
	pthread_mutex_unlock(&lock);
}

/* Is it about this instruction, of whose opcode it is? */
static bool fits(const struct jit_op *r, const struct x86_opdef *d, const struct x86_insn *i)
{
	bool mem = d->mod != X86_MOD_NONE && !(i->flags & X86_I_REG);

	if ((r->what & JIT_NOT16 && i->opsize == 2) || (r->what & JIT_CODE64 && !(i->flags & X86_I_CODE64)))
		return false;
	return (r->pfx == X86_PFX_ANY || r->pfx == d->pfx) && (!r->ext || r->ext == 1 + (i->modrm >> 3 & 7)) &&
	       !(r->what & JIT_MEM && !mem) && !(r->what & JIT_REGS && mem);
}

const struct jit_op *jit_op_find(struct jit_op_table *t, const struct x86_opdef *d, const struct x86_insn *i)
{
	if (!atomic_load_explicit(&t->indexed, memory_order_acquire))
		index_rows(t);
	for (unsigned n = t->at[d->map][i->op].begin; n < t->at[d->map][i->op].end; n++) {
		const struct jit_op *r = &t->rows[n];

		if (r->map == d->map && (uint8_t)(i->op - r->op) < r->count && fits(r, d, i))
			return r;
	}
	return NULL;
}

/* Rows of other tables, as far as the processor's state lets their instructions run. */
static const struct jit_op *float_op(const struct x86_opdef *d, const struct x86_insn *i, unsigned mode)
{
	const struct jit_op *r = NULL;

	if (!(mode & (d->map >= X86_MAP_VEX_0F ? X86_FETCH_NO_FP : X86_FETCH_NO_SSE)))
		r = jit_vector_op(d, i);
	if (!r && (mode & X86_FETCH_NO_FP) != X86_FETCH_NO_FP)
		r = jit_x87_op(d, i);
	/* Some of MMX belong to SSE. */
	return r && r->what & JIT_MMX && mode & X86_FETCH_NO_SSE ? NULL : r;
}

const struct jit_op *jit_op_of(const struct x86_opdef *d, const struct x86_insn *i, unsigned mode)
{
	const struct jit_op *r;

	/* Addresses of 16 bits are for handlers. */
	if (!d || i->ashift == 48)
		return NULL;
	r = jit_op_find(&table, d, i);
	if (r)
		return r->emit ? r : NULL;
	r = jit_system_op(d, i);
	return r ? r : float_op(d, i, mode);
}

uint8_t jit_cond_flags(unsigned cc)
{
	static const uint8_t flags[8] = { O, C, Z, C | Z, S, P, S | O, Z | S | O };

	return flags[cc >> 1 & 7];
}

static bool is_cond(const struct jit_op *op)
{
	return op->count == 16 && op->reads == ALL;
}

/* A count that is known, and 0: nothing changes. */
static bool counts_nothing(const struct jit_op *op, const struct x86_insn *i)
{
	bool byte = op->map == X86_MAP_1 && !(i->op & 1);

	return !(i->imm & (i->opsize == 8 && !byte ? 63 : 31));
}

void jit_flags_of(const struct jit_op *op, const struct x86_insn *i, uint8_t *reads, uint8_t *writes)
{
	*reads = *writes = ALL;
	if (!op) {
		*writes = 0;
		return;
	}
	*reads = is_cond(op) ? jit_cond_flags(i->op) : op->reads;
	*writes = op->writes;
	/* Shifts: by CL it depends; by 1 or an immediate that is not 0 it is sure. */
	if (op->changes && !(op->what & JIT_CL) && (i->op == 0xd0 || i->op == 0xd1 || !counts_nothing(op, i)))
		*writes = op->changes;
}
