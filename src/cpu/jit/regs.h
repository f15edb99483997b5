/*
 * Where guest registers live in translated code.
 *
 * Thirteen of them have a host register for good; R9 to R11 stay in memory, and an instruction that uses them gets them
 * through a scratch register. RAX, RDX and RBX are at home in themselves, so that AH, DH and BH have an encoding.
 * RCX is scratch because JRCXZ and shifts need it. The host's RSP is the host's.
 */
#ifndef VIREO_CPU_JIT_REGS_H
#define VIREO_CPU_JIT_REGS_H

#include "cpu/jit/emit.h"

#define T0	  RCX
#define T1	  R11
#define GUEST_RSP R9 /* jit_home[] of it */

static const uint8_t jit_home[16] = { RAX, R10,	   RDX,	   RBX,	   GUEST_RSP, RBP, RSI, RDI,
				      R8,  NO_REG, NO_REG, NO_REG, R12,	      R13, R14, R15 };

#endif
