/*
 * Writing x86-64 machine code. Knows encodings, nothing about guests. An emitter belongs to the thread that fills it.
 *
 * Code is written at one address and executed at another (cache.h): `rx` less `rw`. When there is no room left nothing
 * more is written and `full` is set; what was written is then useless.
 */
#ifndef VIREO_CPU_JIT_EMIT_H
#define VIREO_CPU_JIT_EMIT_H

#include <stdbool.h>
#include <stdint.h>

enum host_reg { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };
#define NO_REG 16

struct emit {
	uint8_t *at, *end;
	intptr_t rx_offset;
	bool full;
};

enum emit_map { MAP_1, MAP_0F, MAP_0F38, MAP_0F3A };

/* An opcode with what belongs to it. */
struct emit_op {
	uint8_t map; /* enum emit_map */
	uint8_t pfx; /* 0, 0x66, 0xf2, 0xf3 */
	uint8_t op;
	bool w;			  /* REX.W, VEX.W */
	bool byte_reg, byte_rm;	  /* 8-bit registers: numbers 4-7 need a REX prefix to be SPL to DIL */
	bool high;		  /* AH, DH or BH is among the registers as number 4, 6 or 7: no REX prefix */
	bool lock, vex, l, osize; /* osize: 66 as operand size, beside `pfx` */
	uint8_t vreg;		  /* VEX.vvvv */
};

/* A memory operand: base and index may be NO_REG; `gs`: relative to GS's base. */
struct emit_mem {
	uint8_t base, index, scale;
	bool gs;
	int32_t disp;
};

static inline uintptr_t emit_rx(const struct emit *e)
{
	return (uintptr_t)e->at + (uintptr_t)e->rx_offset;
}

void emit_bytes(struct emit *e, uint64_t v, unsigned count); /* little-endian, 1-8 bytes */
/* `op` reg, rm; of groups `reg` is the extension. Immediates follow by emit_bytes(). */
void emit_rr(struct emit *e, struct emit_op op, unsigned reg, unsigned rm);
void emit_rm(struct emit *e, struct emit_op op, unsigned reg, struct emit_mem m);

/* --- the few that the translator itself needs; 64-bit unless the name says so --- */
void emit_mov(struct emit *e, unsigned to, unsigned from);
void emit_mov_imm(struct emit *e, unsigned to, uint64_t v); /* the shortest form; flags stay */
void emit_load(struct emit *e, unsigned to, struct emit_mem m);
void emit_store(struct emit *e, struct emit_mem m, unsigned from);
void emit_lea(struct emit *e, unsigned to, struct emit_mem m);
void emit_call(struct emit *e, uintptr_t rx);
void emit_jmp(struct emit *e, uintptr_t rx);
#define EMIT_JMP_SIZE 5
void emit_jump_to(struct emit *e, unsigned cc, uintptr_t rx); /* if the condition code holds */

/* Forward jumps: emit, then emit_here() where it leads. Condition codes as in opcodes; EMIT_ALWAYS for JMP. */
#define EMIT_ALWAYS 16
uint8_t *emit_jump(struct emit *e, unsigned cc); /* rel32 */
/* rel8, for emit_here8(): at most 127 bytes on. */
uint8_t *emit_short(struct emit *e, unsigned cc);
uint8_t *emit_jrcxz(struct emit *e);
void emit_here(struct emit *e, uint8_t *jump);
void emit_here8(struct emit *e, uint8_t *jump);

/* An instruction of that length that does nothing; more than one if it has more than eight bytes. */
void emit_nop(struct emit *e, unsigned bytes);
/* No-operations up to a multiple of `align` (less `before`). */
void emit_align(struct emit *e, unsigned align, unsigned before);

static inline struct emit_mem emit_gs(int32_t disp)
{
	return (struct emit_mem){ .base = NO_REG, .index = NO_REG, .gs = true, .disp = disp };
}
static inline struct emit_mem emit_at(unsigned base, int32_t disp)
{
	return (struct emit_mem){ .base = (uint8_t)base, .index = NO_REG, .disp = disp };
}

#endif
