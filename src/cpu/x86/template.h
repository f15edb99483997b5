/*
 * Shapes that the instruction files fill in: read-modify-write of a memory operand with and without
 * LOCK, and rows for the three operand sizes. Included only by instruction files of cpu/x86.
 */
#ifndef VIREO_CPU_X86_TEMPLATE_H
#define VIREO_CPU_X86_TEMPLATE_H

#include "base/bytes.h"
#include "cpu/x86/interp.h"

/*
 * Update the memory operand of `i`: `new_value` is an expression of `old`. With LOCK it is evaluated
 * again until no other vCPU came between.
 */
#define X86_UPDATE_MEM(bits, cpu, i, old, new_value)                                                                   \
	X86_UPDATE_AT(bits, cpu, (i)->seg, x86_ea(cpu, i), (i)->flags &X86_I_LOCK, old, new_value)

#define X86_UPDATE_AT(bits, cpu, seg_, ea_, lock_, old, new_value)                                                     \
	do {                                                                                                           \
		struct x86_rmw rmw_;                                                                                   \
		bool locked_ = (lock_);                                                                                \
		uint##bits##_t old;                                                                                    \
		x86_rmw_begin(cpu, &rmw_, seg_, ea_, bits / 8, locked_);                                               \
		old = X86_HOST_LOAD(bits, rmw_.host);                                                                  \
		if (locked_) {                                                                                         \
			uint##bits##_t new_ = (new_value);                                                             \
			while (!__atomic_compare_exchange_n((uint##bits##_t *)rmw_.host, &old, new_, false,            \
							    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))                       \
				new_ = (new_value);                                                                    \
		} else {                                                                                               \
			X86_HOST_STORE(bits, rmw_.host, (new_value));                                                  \
		}                                                                                                      \
		x86_rmw_end(cpu, &rmw_);                                                                               \
	} while (0)

#endif
