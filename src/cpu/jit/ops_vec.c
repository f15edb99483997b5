/*
 * The table for vector registers. Most operations are rows of the decoder with a stub of the host's instruction
 * (cpu/x86/host.h): all with the same handler have the same shape here. The rest, moves above all, is listed.
 */
#include "base/bytes.h"
#include "cpu/jit/jit.h"
#include "cpu/jit/ops.h"
#include "cpu/x86/host.h"

#define V     (JIT_XMM_REG | JIT_XMM_RM)
#define LOAD  (V | JIT_RM_R | JIT_REG_W)
#define STORE (V | JIT_RM_W | JIT_REG_R)
#define FROM  (JIT_XMM_REG | JIT_RM_R) /* ModRM.rm is general, or memory */
#define TO    (JIT_XMM_REG | JIT_RM_W)
#define FLAGS JIT_F_ALL

/* Memory bytes are those of the decoder's row. */
#define SHAPE(handler_, what_, writes_)                                                                                \
	{                                                                                                              \
		handler_,                                                                                              \
		{                                                                                                      \
			.what = what_, .writes = writes_, .emit = jit_plain                                            \
		}                                                                                                      \
	}
static const struct {
	x86_exec *handler;
	struct jit_op op;
} shapes[] = {
	SHAPE(x86_sse_binary, LOAD | JIT_ALIGNED, 0),
	SHAPE(x86_sse_binary_fp, LOAD | JIT_ALIGNED, 0),
	SHAPE(x86_sse_unaligned, LOAD, 0),
	SHAPE(x86_sse_test, LOAD | JIT_ALIGNED, FLAGS),
	SHAPE(x86_sse_test_fp, LOAD | JIT_ALIGNED, FLAGS),
	SHAPE(x86_avx_binary, LOAD, 0),
	SHAPE(x86_avx_binary_fp, LOAD, 0),
	SHAPE(x86_avx_unary, LOAD, 0),
	SHAPE(x86_avx_unary_fp, LOAD, 0),
	SHAPE(x86_avx_blend, LOAD, 0),
	SHAPE(x86_avx_fma, LOAD, 0),
	SHAPE(x86_avx_shift, V | JIT_GROUP | JIT_RM_R, 0),
	SHAPE(x86_avx_test, LOAD, FLAGS),
	SHAPE(x86_avx_test_fp, LOAD, FLAGS),
};

#define ROW(map, op, count, pfx, what, mem)                                                                            \
	{                                                                                                              \
		X86_MAP_##map, op, count, X86_PFX_##pfx, 0, what, mem, 0, 0, 0, jit_plain                              \
	}
/* With both encodings, of 16 bytes or those of VEX.L. */
#define BOTH(op, pfx, what)                                                                                            \
	ROW(0F, op, 1, pfx, what, 16),                                                                                 \
	{                                                                                                              \
		X86_MAP_VEX_0F, op, 1, X86_PFX_##pfx, 0, (what) | JIT_LONG, 16, 0, 0, 0, jit_plain                     \
	}
/* With both, of so many bytes. */
#define SMALL(op, pfx, what, mem) ROW(0F, op, 1, pfx, what, mem), ROW(VEX_0F, op, 1, pfx, what, mem)
#define BYTES(op, what, mem)	  ROW(0F3A, op, 1, 66, what, mem), ROW(VEX_0F3A, op, 1, 66, what, mem)
#define SHIFTS(op, ext)                                                                                                \
	{                                                                                                              \
		X86_MAP_0F, op, 1, X86_PFX_66, 1 + ext, V | JIT_GROUP | JIT_REGS | JIT_RM_R, 0, 0, 0, 0, jit_plain     \
	}

static const struct jit_op rows[] = {
	BOTH(0x10, NONE, LOAD),
	BOTH(0x10, 66, LOAD),
	BOTH(0x11, NONE, STORE),
	BOTH(0x11, 66, STORE),
	SMALL(0x10, F3, LOAD, 4),
	SMALL(0x11, F3, STORE, 4),
	SMALL(0x10, F2, LOAD, 8),
	SMALL(0x11, F2, STORE, 8),
	SMALL(0x12, NONE, LOAD, 8),
	SMALL(0x12, 66, LOAD, 8),
	SMALL(0x13, NONE, STORE, 8),
	SMALL(0x13, 66, STORE, 8),
	SMALL(0x16, NONE, LOAD, 8),
	SMALL(0x16, 66, LOAD, 8),
	SMALL(0x17, NONE, STORE, 8),
	SMALL(0x17, 66, STORE, 8),
	BOTH(0x28, NONE, LOAD | JIT_ALIGNED),
	BOTH(0x28, 66, LOAD | JIT_ALIGNED),
	BOTH(0x29, NONE, STORE | JIT_ALIGNED),
	BOTH(0x29, 66, STORE | JIT_ALIGNED),
	BOTH(0x2b, NONE, STORE | JIT_ALIGNED),
	BOTH(0x2b, 66, STORE | JIT_ALIGNED),
	BOTH(0x6f, 66, LOAD | JIT_ALIGNED),
	BOTH(0x6f, F3, LOAD),
	BOTH(0x7f, 66, STORE | JIT_ALIGNED),
	BOTH(0x7f, F3, STORE),
	BOTH(0xe7, 66, STORE | JIT_ALIGNED),
	{ X86_MAP_VEX_0F, 0xf0, 1, X86_PFX_F2, 0, LOAD | JIT_LONG, 16, 0, 0, 0, jit_plain },
	{ X86_MAP_VEX_0F38, 0x2a, 1, X86_PFX_66, 0, LOAD | JIT_LONG | JIT_ALIGNED, 16, 0, 0, 0, jit_plain },
	SMALL(0x7e, F3, LOAD, 8),
	SMALL(0xd6, 66, STORE, 8),
	SMALL(0x6e, 66, FROM, 0),
	SMALL(0x7e, 66, TO, 0),
	SMALL(0x2a, F3, FROM, 0),
	SMALL(0x2a, F2, FROM, 0),
	SMALL(0x2c, F3, JIT_XMM_RM | JIT_RM_R | JIT_REG_W, 4),
	SMALL(0x2c, F2, JIT_XMM_RM | JIT_RM_R | JIT_REG_W, 8),
	SMALL(0x2d, F3, JIT_XMM_RM | JIT_RM_R | JIT_REG_W, 4),
	SMALL(0x2d, F2, JIT_XMM_RM | JIT_RM_R | JIT_REG_W, 8),
	SMALL(0x50, NONE, JIT_XMM_RM | JIT_REGS | JIT_RM_R | JIT_REG_W, 0),
	SMALL(0x50, 66, JIT_XMM_RM | JIT_REGS | JIT_RM_R | JIT_REG_W, 0),
	SMALL(0xd7, 66, JIT_XMM_RM | JIT_REGS | JIT_RM_R | JIT_REG_W, 0),
	SMALL(0xc4, 66, FROM, 2),
	SMALL(0xc5, 66, JIT_XMM_RM | JIT_REGS | JIT_RM_R | JIT_REG_W, 0),
	BYTES(0x14, TO, 1),
	BYTES(0x15, TO, 2),
	BYTES(0x16, TO, 0),
	BYTES(0x17, TO, 4),
	BYTES(0x20, FROM, 1),
	BYTES(0x22, FROM, 0),
	ROW(VEX_0F3A, 0x19, 1, 66, STORE, 16),
	ROW(VEX_0F3A, 0x39, 1, 66, STORE, 16),
	/* Elsewhere they leave the upper eight registers alone. */
	{ X86_MAP_VEX_0F, 0x77, 1, X86_PFX_NONE, 0, V | JIT_CODE64, 0, 0, 0, 0, jit_vzero },
	/* Integers without VEX, whose handlers are written out in C. */
	ROW(0F, 0x14, 2, NONE, LOAD | JIT_ALIGNED, 16),
	ROW(0F, 0x14, 2, 66, LOAD | JIT_ALIGNED, 16),
	ROW(0F, 0x54, 4, NONE, LOAD | JIT_ALIGNED, 16),
	ROW(0F, 0x54, 4, 66, LOAD | JIT_ALIGNED, 16),
	ROW(0F, 0x60, 14, 66, LOAD | JIT_ALIGNED, 16),
	ROW(0F, 0x70, 1, 66, LOAD | JIT_ALIGNED, 16),
	ROW(0F, 0x70, 1, F2, LOAD | JIT_ALIGNED, 16),
	ROW(0F, 0x70, 1, F3, LOAD | JIT_ALIGNED, 16),
	SHIFTS(0x71, 2),
	SHIFTS(0x71, 4),
	SHIFTS(0x71, 6),
	SHIFTS(0x72, 2),
	SHIFTS(0x72, 4),
	SHIFTS(0x72, 6),
	SHIFTS(0x73, 2),
	SHIFTS(0x73, 3),
	SHIFTS(0x73, 6),
	SHIFTS(0x73, 7),
	ROW(0F, 0x74, 3, 66, LOAD | JIT_ALIGNED, 16),
	ROW(0F, 0xc6, 1, NONE, LOAD | JIT_ALIGNED, 16),
	ROW(0F, 0xc6, 1, 66, LOAD | JIT_ALIGNED, 16),
	ROW(0F, 0xd1, 5, 66, LOAD | JIT_ALIGNED, 16),
	ROW(0F, 0xd8, 14, 66, LOAD | JIT_ALIGNED, 16),
	ROW(0F, 0xe8, 8, 66, LOAD | JIT_ALIGNED, 16),
	ROW(0F, 0xf1, 6, 66, LOAD | JIT_ALIGNED, 16),
	ROW(0F, 0xf8, 7, 66, LOAD | JIT_ALIGNED, 16),
};

const struct jit_op *jit_vector_op(const struct x86_opdef *d, const struct x86_insn *i)
{
	static struct jit_op_table table = { .rows = rows, .count = ARRAY_LEN(rows) };

	for (size_t n = 0; n < ARRAY_LEN(shapes); n++)
		if (d->reg[0] == shapes[n].handler)
			return &shapes[n].op;
	return jit_op_find(&table, d, i);
}
