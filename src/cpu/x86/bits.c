/* Bit tests and scans, SETcc, CMOVcc, exchange-and-compare: BT* BSF BSR BSWAP XADD CMPXCHG CMPXCHG8B/16B. */
#include "cpu/x86/cond.h"
#include "cpu/x86/template.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)
#define V(name)                                                                                                        \
	{                                                                                                              \
		name##16, name##32, name##64                                                                           \
	}

/* --- BT, BTS, BTR, BTC: `new` is the operand afterwards, `m` the mask of the bit; BT writes nothing --- */

#define BIT_NEW_bts(v, m) ((v) | (m))
#define BIT_NEW_btr(v, m) ((v) & ~(m))
#define BIT_NEW_btc(v, m) ((v) ^ (m))
#define BIT_PUT_bt(bits, v, m)
#define BIT_PUT_bts(bits, v, m) x86_set##bits(cpu, i->rm, (uint##bits##_t)BIT_NEW_bts(v, m))
#define BIT_PUT_btr(bits, v, m) x86_set##bits(cpu, i->rm, (uint##bits##_t)BIT_NEW_btr(v, m))
#define BIT_PUT_btc(bits, v, m) x86_set##bits(cpu, i->rm, (uint##bits##_t)BIT_NEW_btc(v, m))

/* A register offset reaches beyond the operand: the address moves by whole operands. */
#define BIT_EA(bits, cpu, i)                                                                                           \
	((x86_ea(cpu, i) + ((int##bits##_t)x86_get##bits(cpu, (i)->reg) >> (bits == 16	 ? 4                           \
									    : bits == 32 ? 5                           \
											 : 6)) *                       \
				   (bits / 8))                                                                         \
		 << (i)->ashift >>                                                                                     \
	 (i)->ashift)

#define BIT_FORMS(name, bits)                                                                                          \
	HANDLER(name##_er##bits)                                                                                       \
	{                                                                                                              \
		uint##bits##_t m = (uint##bits##_t)1 << (x86_get##bits(cpu, i->reg) & (bits - 1));                     \
		uint##bits##_t v = x86_get##bits(cpu, i->rm);                                                          \
		x86_lazy_set_cf(&cpu->lazy, v &m);                                                                     \
		BIT_PUT_##name(bits, v, m);                                                                            \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_ei##bits)                                                                                       \
	{                                                                                                              \
		uint##bits##_t m = (uint##bits##_t)1 << (i->imm & (bits - 1)), v = x86_get##bits(cpu, i->rm);          \
		x86_lazy_set_cf(&cpu->lazy, v &m);                                                                     \
		BIT_PUT_##name(bits, v, m);                                                                            \
		return x86_next(cpu, i);                                                                               \
	}
#define BIT_MEM(name, bits)                                                                                            \
	HANDLER(name##_mr##bits)                                                                                       \
	{                                                                                                              \
		uint##bits##_t m = (uint##bits##_t)1 << (x86_get##bits(cpu, i->reg) & (bits - 1)), seen;               \
		X86_UPDATE_AT(bits, cpu, i->seg, BIT_EA(bits, cpu, i), i->flags &X86_I_LOCK, old,                      \
			      (uint##bits##_t)(seen = old, BIT_NEW_##name(old, m)));                                   \
		x86_lazy_set_cf(&cpu->lazy, seen &m);                                                                  \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_mi##bits)                                                                                       \
	{                                                                                                              \
		uint##bits##_t m = (uint##bits##_t)1 << (i->imm & (bits - 1)), seen;                                   \
		X86_UPDATE_MEM(bits, cpu, i, old, (uint##bits##_t)(seen = old, BIT_NEW_##name(old, m)));               \
		x86_lazy_set_cf(&cpu->lazy, seen &m);                                                                  \
		return x86_next(cpu, i);                                                                               \
	}
#define SIZE(bits)                                                                                                     \
	BIT_FORMS(bt, bits)                                                                                            \
	BIT_FORMS(bts, bits)                                                                                           \
	BIT_FORMS(btr, bits)                                                                                           \
	BIT_FORMS(btc, bits) BIT_MEM(bts, bits) BIT_MEM(btr, bits) BIT_MEM(btc, bits) HANDLER(bt_mr##bits)             \
	{                                                                                                              \
		uint##bits##_t v = x86_ld##bits(cpu, i->seg, BIT_EA(bits, cpu, i));                                    \
		x86_lazy_set_cf(&cpu->lazy, v >> (x86_get##bits(cpu, i->reg) & (bits - 1)) & 1);                       \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(bt_mi##bits)                                                                                           \
	{                                                                                                              \
		x86_lazy_set_cf(&cpu->lazy, x86_ldm##bits(cpu, i) >> (i->imm & (bits - 1)) & 1);                       \
		return x86_next(cpu, i);                                                                               \
	}
SIZE(16)
SIZE(32)
SIZE(64)
#undef SIZE

/* --- BSF, BSR: a zero operand sets ZF and leaves the destination as it was; PF is that of the index, as AMD's
 * processors have it --- */

#define SCAN(name, bits, index)                                                                                        \
	static const struct x86_insn *name##_do##bits(struct x86_cpu *cpu, const struct x86_insn *i, uint##bits##_t v) \
	{                                                                                                              \
		uint8_t at = v ? (uint8_t)(index) : 0;                                                                 \
		if (v)                                                                                                 \
			x86_set##bits(cpu, i->reg, at);                                                                \
		x86_flags_res16(&cpu->lazy, v ? 0x100 | at : 0, false, false, false);                                  \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_e##bits)                                                                                        \
	{                                                                                                              \
		return name##_do##bits(cpu, i, x86_get##bits(cpu, i->rm));                                             \
	}                                                                                                              \
	HANDLER(name##_m##bits)                                                                                        \
	{                                                                                                              \
		return name##_do##bits(cpu, i, x86_ldm##bits(cpu, i));                                                 \
	}
#define SIZE(bits) SCAN(bsf, bits, __builtin_ctzll(v)) SCAN(bsr, bits, 63 - __builtin_clzll(v))
SIZE(16)
SIZE(32)
SIZE(64)
#undef SIZE

/* BSWAP of a 16-bit register is undefined; processors clear it. */
HANDLER(bswap16)
{
	x86_set16(cpu, i->rm, 0);
	return x86_next(cpu, i);
}

HANDLER(bswap32)
{
	x86_set32(cpu, i->rm, __builtin_bswap32(x86_get32(cpu, i->rm)));
	return x86_next(cpu, i);
}

HANDLER(bswap64)
{
	x86_set64(cpu, i->rm, __builtin_bswap64(x86_get64(cpu, i->rm)));
	return x86_next(cpu, i);
}

/* --- SETcc, CMOVcc: one handler a condition, so that the condition is a constant in it --- */

#define COND_HANDLERS(cc)                                                                                              \
	HANDLER(set_e##cc)                                                                                             \
	{                                                                                                              \
		x86_set8(cpu, i->rm, x86_cond(&cpu->lazy, cc));                                                        \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(set_m##cc)                                                                                             \
	{                                                                                                              \
		x86_stm8(cpu, i, x86_cond(&cpu->lazy, cc));                                                            \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	CMOV(cc, 16) CMOV(cc, 32) CMOV(cc, 64)
/* The load happens, and a 32-bit destination is zero-extended, also when the condition is false. */
#define CMOV(cc, bits)                                                                                                 \
	HANDLER(cmov##cc##_e##bits)                                                                                    \
	{                                                                                                              \
		uint##bits##_t v = x86_get##bits(cpu, i->rm);                                                          \
		x86_set##bits(cpu, i->reg, x86_cond(&cpu->lazy, cc) ? v : x86_get##bits(cpu, i->reg));                 \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(cmov##cc##_m##bits)                                                                                    \
	{                                                                                                              \
		uint##bits##_t v = x86_ldm##bits(cpu, i);                                                              \
		x86_set##bits(cpu, i->reg, x86_cond(&cpu->lazy, cc) ? v : x86_get##bits(cpu, i->reg));                 \
		return x86_next(cpu, i);                                                                               \
	}
X86_EACH_COND(COND_HANDLERS)

#define COND_ROWS(cc)                                                                                                  \
	{ X86_MAP_0F,	      0x90 + cc,	  1,	  0, X86_MOD_ANY, 0, 0, 0, X86_D_BYTE_RM,                      \
	  X86_ALL(set_e##cc), X86_ALL(set_m##cc), "setcc" },                                                           \
		{ X86_MAP_0F, 0x40 + cc, 1, 0, X86_MOD_ANY, 0, 0, 0, 0, V(cmov##cc##_e), V(cmov##cc##_m), "cmovcc" },

/* --- XADD, CMPXCHG --- */

#define EXCHANGE(bits)                                                                                                 \
	HANDLER(xadd_e##bits)                                                                                          \
	{                                                                                                              \
		uint##bits##_t a = x86_get##bits(cpu, i->rm), b = x86_get##bits(cpu, i->reg);                          \
		uint##bits##_t r = (uint##bits##_t)(a + b);                                                            \
		x86_flags_add##bits(&cpu->lazy, a, b, r);                                                              \
		x86_set##bits(cpu, i->reg, a);                                                                         \
		x86_set##bits(cpu, i->rm, r);                                                                          \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(xadd_m##bits)                                                                                          \
	{                                                                                                              \
		uint##bits##_t b = x86_get##bits(cpu, i->reg), seen;                                                   \
		X86_UPDATE_MEM(bits, cpu, i, old, (uint##bits##_t)((seen = old) + b));                                 \
		x86_flags_add##bits(&cpu->lazy, seen, b, (uint##bits##_t)(seen + b));                                  \
		x86_set##bits(cpu, i->reg, seen);                                                                      \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	/* The accumulator is byte 0 of gpr[] as a byte register too. */                                               \
	HANDLER(cmpxchg_e##bits)                                                                                       \
	{                                                                                                              \
		uint##bits##_t a = x86_get##bits(cpu, X86_RAX), v = x86_get##bits(cpu, i->rm);                         \
		uint##bits##_t b = x86_get##bits(cpu, i->reg);                                                         \
		x86_flags_sub##bits(&cpu->lazy, a, v, (uint##bits##_t)(a - v));                                        \
		if (a == v)                                                                                            \
			x86_set##bits(cpu, i->rm, b);                                                                  \
		else                                                                                                   \
			x86_set##bits(cpu, X86_RAX, v);                                                                \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(cmpxchg_m##bits)                                                                                       \
	{                                                                                                              \
		uint##bits##_t a = x86_get##bits(cpu, X86_RAX), b = x86_get##bits(cpu, i->reg), seen;                  \
		X86_UPDATE_MEM(bits, cpu, i, old, (seen = old) == a ? b : old);                                        \
		x86_flags_sub##bits(&cpu->lazy, a, seen, (uint##bits##_t)(a - seen));                                  \
		if (a != seen)                                                                                         \
			x86_set##bits(cpu, X86_RAX, seen);                                                             \
		return x86_next(cpu, i);                                                                               \
	}
EXCHANGE(8)
EXCHANGE(16)
EXCHANGE(32)
EXCHANGE(64)

static void set_zf(struct x86_cpu *cpu, bool zf)
{
	x86_lazy_set(&cpu->lazy, (x86_lazy_get(&cpu->lazy) & ~X86_ZF) | (zf ? X86_ZF : 0));
}

HANDLER(cmpxchg8b)
{
	uint64_t a = (uint64_t)x86_get32(cpu, X86_RDX) << 32 | x86_get32(cpu, X86_RAX);
	uint64_t b = (uint64_t)x86_get32(cpu, X86_RCX) << 32 | x86_get32(cpu, X86_RBX), seen;

	X86_UPDATE_MEM(64, cpu, i, old, (seen = old) == a ? b : old);
	if (seen != a) {
		x86_set32(cpu, X86_RAX, (uint32_t)seen);
		x86_set32(cpu, X86_RDX, (uint32_t)(seen >> 32));
	}
	set_zf(cpu, seen == a);
	return x86_next(cpu, i);
}

/*
 * Compare and exchange 16 bytes at an aligned host address. Hosts without such an instruction do it with
 * the world stopped, if it is not already.
 */
static bool exchange16(struct x86_cpu *cpu, struct x86_rmw *m, uint64_t expected[2], const uint64_t wanted[2])
{
	void *host = m->host;
#if defined(__x86_64__)
	bool done;

	__asm__ volatile("lock cmpxchg16b %1"
			 : "=@ccz"(done), "+m"(*(unsigned __int128 *)host), "+a"(expected[0]), "+d"(expected[1])
			 : "b"(wanted[0]), "c"(wanted[1])
			 : "memory");
	return done;
#else
	uint64_t *q = host;
	bool done;

	if (m->entry)
		x86_exclusive_begin(cpu);
	done = q[0] == expected[0] && q[1] == expected[1];
	if (done) {
		q[0] = wanted[0];
		q[1] = wanted[1];
	} else {
		expected[0] = q[0];
		expected[1] = q[1];
	}
	if (m->entry)
		x86_exclusive_end(cpu);
	return done;
#endif
}

HANDLER(cmpxchg16b)
{
	uint64_t ea = x86_ea(cpu, i), a[2] = { cpu->s.gpr[X86_RAX], cpu->s.gpr[X86_RDX] };
	const uint64_t b[2] = { cpu->s.gpr[X86_RBX], cpu->s.gpr[X86_RCX] };
	struct x86_rmw m;
	bool done;

	if ((cpu->seg_base[i->seg] + ea) & 15)
		x86_gp0(cpu);
	x86_rmw_begin(cpu, &m, i->seg, ea, 16, true);
	done = exchange16(cpu, &m, a, b);
	x86_rmw_end(cpu, &m);
	if (!done) {
		cpu->s.gpr[X86_RAX] = a[0];
		cpu->s.gpr[X86_RDX] = a[1];
	}
	set_zf(cpu, done);
	return x86_next(cpu, i);
}

#define BIT_ROWS(op, ext, name, lock)                                                                                  \
	{ X86_MAP_0F, op, 1, 0, X86_MOD_ANY, 0, 0, 0, lock, V(name##_er), V(name##_mr), #name },                       \
	{                                                                                                              \
		X86_MAP_0F, 0xba, 1, 0, X86_MOD_ANY, 1 + ext, 0, X86_IMM_U8, lock, V(name##_ei), V(name##_mi), #name   \
	}
#define BOTH (X86_D_BYTE_REG | X86_D_BYTE_RM)

static const struct x86_opdef rows[] = {
	BIT_ROWS(0xa3, 4, bt, 0),
	BIT_ROWS(0xab, 5, bts, X86_D_LOCK),
	BIT_ROWS(0xb3, 6, btr, X86_D_LOCK),
	BIT_ROWS(0xbb, 7, btc, X86_D_LOCK),
	{ X86_MAP_0F, 0xbc, 1, 0, X86_MOD_ANY, 0, 0, 0, 0, V(bsf_e), V(bsf_m), "bsf" },
	{ X86_MAP_0F, 0xbd, 1, 0, X86_MOD_ANY, 0, 0, 0, 0, V(bsr_e), V(bsr_m), "bsr" },
	{ X86_MAP_0F, 0xc8, 8, 0, X86_MOD_NONE, 0, 0, 0, X86_D_OPREG, V(bswap), {}, "bswap" },
	{ X86_MAP_0F, 0xc0, 1, 0, X86_MOD_ANY, 0, 0, 0, BOTH | X86_D_LOCK, X86_ALL(xadd_e8), X86_ALL(xadd_m8), "xadd" },
	{ X86_MAP_0F, 0xc1, 1, 0, X86_MOD_ANY, 0, 0, 0, X86_D_LOCK, V(xadd_e), V(xadd_m), "xadd" },
	{ X86_MAP_0F, 0xb0, 1, 0, X86_MOD_ANY, 0, 0, 0, BOTH | X86_D_LOCK, X86_ALL(cmpxchg_e8), X86_ALL(cmpxchg_m8),
	  "cmpxchg" },
	{ X86_MAP_0F, 0xb1, 1, 0, X86_MOD_ANY, 0, 0, 0, X86_D_LOCK, V(cmpxchg_e), V(cmpxchg_m), "cmpxchg" },
	{ X86_MAP_0F,
	  0xc7,
	  1,
	  0,
	  X86_MOD_MEM,
	  1 + 1,
	  0,
	  0,
	  X86_D_LOCK | X86_D_W0,
	  {},
	  X86_ALL(cmpxchg8b),
	  "cmpxchg8b" },
	X86_EACH_COND(COND_ROWS)
};
X86_DEFS(x86_defs_bits, rows);

static const struct x86_opdef cx16_rows[] = {
	{ X86_MAP_0F,
	  0xc7,
	  1,
	  0,
	  X86_MOD_MEM,
	  1 + 1,
	  0,
	  0,
	  X86_D_LOCK | X86_D_W1,
	  {},
	  X86_ALL(cmpxchg16b),
	  "cmpxchg16b" },
};
X86_DEFS_OF(x86_defs_cx16, cx16_rows, X86_F_CX16);
