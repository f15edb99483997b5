/* The sixteen conditions of Jcc, SETcc and CMOVcc (SDM volume 2, appendix B.1.4). Pure; the vCPU's own thread. */
#ifndef VIREO_CPU_X86_COND_H
#define VIREO_CPU_X86_COND_H

#include "cpu/x86/flags.h"

/* `cc`: the low four opcode bits; the odd ones are the even ones negated. */
static inline bool x86_cond(const struct x86_lazy *f, unsigned cc)
{
	bool v;

	switch (cc >> 1 & 7) {
	case 0:
		v = x86_lazy_of(f);
		break;
	case 1:
		v = x86_lazy_cf(f);
		break;
	case 2:
		v = x86_lazy_zf(f);
		break;
	case 3:
		v = x86_lazy_cf(f) || x86_lazy_zf(f);
		break;
	case 4:
		v = x86_lazy_sf(f);
		break;
	case 5:
		v = x86_lazy_pf(f);
		break;
	case 6:
		v = x86_lazy_sf(f) != x86_lazy_of(f);
		break;
	default:
		v = x86_lazy_zf(f) || x86_lazy_sf(f) != x86_lazy_of(f);
		break;
	}
	return v != (cc & 1);
}

/* One name for each condition code: X(0) ... X(15). */
#define X86_EACH_COND(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

#endif
