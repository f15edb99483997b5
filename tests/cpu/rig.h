/*
 * One CPU in any mode, with segments, gates and a TSS that tests can change. Code runs until it halts or something is
 * delivered: each handler is a HLT of its own.
 */
#ifndef VIREO_TESTS_CPU_RIG_H
#define VIREO_TESTS_CPU_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tiny_vm.h"

/* Where things lie; the identity map covers all. */
#define RIG_IVT	     0u
#define RIG_CR3	     TINY_CR3
#define RIG_GDT	     TINY_GDT
#define RIG_IDT	     0x5000u
#define RIG_TSS	     0x6000u
#define RIG_TSS2     0x6400u
#define RIG_LDT	     0x6800u
#define RIG_HANDLERS 0x7000u /* one byte each */
#define RIG_CODE     0x10000u
#define RIG_DATA_AT  0x20000u
#define RIG_STACK    0x80000u
#define RIG_STACK0   0x90000u /* ring 0's in the TSS */
#define RIG_IST1     0x98000u
#define RIG_TABLES   0x200000u /* free for page tables */

/* Selectors. Those from SPARE to 0F8h are free. */
enum {
	RIG_CODE64 = 0x10,
	RIG_DATA = 0x18,
	RIG_CODE32 = 0x20,
	RIG_CODE16 = 0x28,
	RIG_DATA16 = 0x30,
	RIG_UDATA = 0x3b,
	RIG_UCODE32 = 0x43,
	RIG_UCODE64 = 0x4b,
	RIG_TASK = 0x50,
	RIG_SPARE = 0x60
};

/* A descriptor: access byte as in bits 47:40, flags G D/B L AVL as in 55:52. Limit in its units. */
#define RIG_DESC(base, limit, access, flags)                                                                           \
	((uint64_t)((base)&0xffffff) << 16 | (uint64_t)((base) >> 24 & 0xff) << 56 | ((limit)&0xffff) |                \
	 (uint64_t)((limit) >> 16 & 15) << 48 | (uint64_t)(access) << 40 | (uint64_t)(flags) << 52)
/* A gate; the type and DPL are the access byte. */
#define RIG_GATE(sel, offset, access, params)                                                                          \
	(((offset)&0xffff) | (uint64_t)(sel) << 16 | (uint64_t)(params) << 32 | (uint64_t)(access) << 40 |             \
	 (uint64_t)((offset) >> 16 & 0xffff) << 48)

enum rig_mode { RIG_LONG, RIG_COMPAT, RIG_PROT32, RIG_PROT16, RIG_REAL, RIG_V86 };

struct rig {
	struct tiny_vm vm;
	struct x86_state s; /* where it starts, and after rig_run() where it ended */
	enum rig_mode mode;
	enum cpu_exit why;
	unsigned frame_size; /* of a value on a handler's stack */
};

/* `model` may be NULL. The second one counts instructions as its time. */
void rig_new(struct rig *r, enum rig_mode mode, const char *model);
void rig_new_counted(struct rig *r, enum rig_mode mode, const char *model);
/* Keys of the engine in `config`, which is taken. */
void rig_new_on(struct rig *r, enum rig_mode mode, const struct engine *engine, struct config *config);
void rig_free(struct rig *r);
/* The same VM again, from the start, in any mode. */
void rig_reset(struct rig *r, enum rig_mode mode);
/* Run at privilege level 3. LONG, COMPAT and PROT32. */
void rig_user(struct rig *r);
void rig_desc(struct rig *r, unsigned sel, uint64_t raw);
/* Load a segment register as the processor would, without checks. */
void rig_seg(struct rig *r, enum x86_seg seg, uint16_t sel);
void rig_write(struct rig *r, uint64_t at, uint64_t v, unsigned size);
uint64_t rig_read(struct rig *r, uint64_t at, unsigned size);
/* Bytes to memory. */
void rig_put(struct rig *r, uint64_t at, const void *bytes, size_t len);
/* How often translated code was left; 0 with other engines. */
uint64_t rig_exits(struct rig *r);
/* Put code where CS:RIP is, and run. */
void rig_exec(struct rig *r, const uint8_t *code, size_t len);
/* Go on from r->s. */
void rig_run(struct rig *r);
/* The vector whose handler was entered; -1: none, it halted by itself; -2: it shut down. */
int rig_vector(const struct rig *r);
/* The n-th value on the handler's stack. */
uint64_t rig_pushed(struct rig *r, unsigned n);

#define RIG_EXEC(r, ...)                                                                                               \
	do {                                                                                                           \
		static const uint8_t code_[] = { __VA_ARGS__, 0xf4 };                                                  \
		rig_exec(r, code_, sizeof(code_));                                                                     \
	} while (0)
/* `code` faults with `vector` and error code at its offset `at`. */
#define RIG_FAULTS(r, vector, error, at, ...)                                                                          \
	do {                                                                                                           \
		RIG_EXEC(r, __VA_ARGS__);                                                                              \
		assert_int_equal(rig_vector(r), vector);                                                               \
		if (x86_has_error(vector) && (r)->mode != RIG_REAL)                                                    \
			assert_int_equal(rig_pushed(r, 0), error);                                                     \
		assert_int_equal(rig_pushed(r, x86_has_error(vector) && (r)->mode != RIG_REAL), rig_ip(r) + (at));     \
	} while (0)
/* Where rig_exec() puts code, as RIP. */
uint64_t rig_ip(const struct rig *r);

static inline uint64_t rig_reg(const struct rig *r, unsigned n)
{
	return r->s.gpr[n];
}

#endif
