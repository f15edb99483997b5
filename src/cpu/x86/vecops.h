/*
 * The vector operations by name, opcode map and opcode, one list a shape and instruction set: the rows
 * of sse_ext.c and avx*.c, with and without VEX, are made of them. SDM vol. 2. Only lists; private to those files.
 */
#ifndef VIREO_CPU_X86_VECOPS_H
#define VIREO_CPU_X86_VECOPS_H

/* --- two sources, prefix 66: X(name, map, opcode) --- */

#define SSE2_BINARY(X)                                                                                                 \
	X(punpcklbw, 0F, 0x60)                                                                                         \
	X(punpcklwd, 0F, 0x61)                                                                                         \
	X(punpckldq, 0F, 0x62)                                                                                         \
	X(packsswb, 0F, 0x63)                                                                                          \
	X(pcmpgtb, 0F, 0x64)                                                                                           \
	X(pcmpgtw, 0F, 0x65)                                                                                           \
	X(pcmpgtd, 0F, 0x66)                                                                                           \
	X(packuswb, 0F, 0x67)                                                                                          \
	X(punpckhbw, 0F, 0x68)                                                                                         \
	X(punpckhwd, 0F, 0x69)                                                                                         \
	X(punpckhdq, 0F, 0x6a)                                                                                         \
	X(packssdw, 0F, 0x6b)                                                                                          \
	X(punpcklqdq, 0F, 0x6c)                                                                                        \
	X(punpckhqdq, 0F, 0x6d)                                                                                        \
	X(pcmpeqb, 0F, 0x74)                                                                                           \
	X(pcmpeqw, 0F, 0x75)                                                                                           \
	X(pcmpeqd, 0F, 0x76)                                                                                           \
	X(paddq, 0F, 0xd4)                                                                                             \
	X(pmullw, 0F, 0xd5)                                                                                            \
	X(psubusb, 0F, 0xd8)                                                                                           \
	X(psubusw, 0F, 0xd9)                                                                                           \
	X(pminub, 0F, 0xda)                                                                                            \
	X(pand, 0F, 0xdb)                                                                                              \
	X(paddusb, 0F, 0xdc)                                                                                           \
	X(paddusw, 0F, 0xdd)                                                                                           \
	X(pmaxub, 0F, 0xde)                                                                                            \
	X(pandn, 0F, 0xdf)                                                                                             \
	X(pavgb, 0F, 0xe0)                                                                                             \
	X(pavgw, 0F, 0xe3)                                                                                             \
	X(pmulhuw, 0F, 0xe4)                                                                                           \
	X(pmulhw, 0F, 0xe5)                                                                                            \
	X(psubsb, 0F, 0xe8)                                                                                            \
	X(psubsw, 0F, 0xe9)                                                                                            \
	X(pminsw, 0F, 0xea)                                                                                            \
	X(por, 0F, 0xeb)                                                                                               \
	X(paddsb, 0F, 0xec)                                                                                            \
	X(paddsw, 0F, 0xed)                                                                                            \
	X(pmaxsw, 0F, 0xee)                                                                                            \
	X(pxor, 0F, 0xef)                                                                                              \
	X(pmuludq, 0F, 0xf4)                                                                                           \
	X(pmaddwd, 0F, 0xf5)                                                                                           \
	X(psadbw, 0F, 0xf6)                                                                                            \
	X(psubb, 0F, 0xf8)                                                                                             \
	X(psubw, 0F, 0xf9)                                                                                             \
	X(psubd, 0F, 0xfa)                                                                                             \
	X(psubq, 0F, 0xfb)                                                                                             \
	X(paddb, 0F, 0xfc)                                                                                             \
	X(paddw, 0F, 0xfd)                                                                                             \
	X(paddd, 0F, 0xfe)
/* The ones of these that MMX registers have, too. */
#define SSSE3_MMX(X)                                                                                                   \
	X(pshufb, 0F38, 0x00)                                                                                          \
	X(phaddw, 0F38, 0x01)                                                                                          \
	X(phaddd, 0F38, 0x02)                                                                                          \
	X(phaddsw, 0F38, 0x03)                                                                                         \
	X(pmaddubsw, 0F38, 0x04)                                                                                       \
	X(phsubw, 0F38, 0x05)                                                                                          \
	X(phsubd, 0F38, 0x06)                                                                                          \
	X(phsubsw, 0F38, 0x07)                                                                                         \
	X(psignb, 0F38, 0x08)                                                                                          \
	X(psignw, 0F38, 0x09)                                                                                          \
	X(psignd, 0F38, 0x0a)                                                                                          \
	X(pmulhrsw, 0F38, 0x0b)
#define SSE41_BINARY(X)                                                                                                \
	X(pmuldq, 0F38, 0x28)                                                                                          \
	X(pcmpeqq, 0F38, 0x29)                                                                                         \
	X(packusdw, 0F38, 0x2b)                                                                                        \
	X(pminsb, 0F38, 0x38)                                                                                          \
	X(pminsd, 0F38, 0x39)                                                                                          \
	X(pminuw, 0F38, 0x3a)                                                                                          \
	X(pminud, 0F38, 0x3b)                                                                                          \
	X(pmaxsb, 0F38, 0x3c)                                                                                          \
	X(pmaxsd, 0F38, 0x3d)                                                                                          \
	X(pmaxuw, 0F38, 0x3e)                                                                                          \
	X(pmaxud, 0F38, 0x3f)                                                                                          \
	X(pmulld, 0F38, 0x40)
#define SSE42_BINARY(X) X(pcmpgtq, 0F38, 0x37)
#define AES_BINARY(X)                                                                                                  \
	X(aesenc, 0F38, 0xdc)                                                                                          \
	X(aesenclast, 0F38, 0xdd)                                                                                      \
	X(aesdec, 0F38, 0xde)                                                                                          \
	X(aesdeclast, 0F38, 0xdf)

/* --- shifts by the low quadword of an XMM register or of 16 bytes: as above --- */
#define SSE2_SHIFTS(X)                                                                                                 \
	X(psrlw, 0F, 0xd1)                                                                                             \
	X(psrld, 0F, 0xd2)                                                                                             \
	X(psrlq, 0F, 0xd3)                                                                                             \
	X(psraw, 0F, 0xe1)                                                                                             \
	X(psrad, 0F, 0xe2)                                                                                             \
	X(psllw, 0F, 0xf1)                                                                                             \
	X(pslld, 0F, 0xf2)                                                                                             \
	X(psllq, 0F, 0xf3)

/* --- one source, prefix 66: X(name, map, opcode, bytes, bytes of the YMM form) --- */
#define SSSE3_UNARY(X)                                                                                                 \
	X(pabsb, 0F38, 0x1c, 16, 32)                                                                                   \
	X(pabsw, 0F38, 0x1d, 16, 32)                                                                                   \
	X(pabsd, 0F38, 0x1e, 16, 32)
#define SSE41_UNARY(X)                                                                                                 \
	X(pmovsxbw, 0F38, 0x20, 8, 16)                                                                                 \
	X(pmovsxbd, 0F38, 0x21, 4, 8)                                                                                  \
	X(pmovsxbq, 0F38, 0x22, 2, 4)                                                                                  \
	X(pmovsxwd, 0F38, 0x23, 8, 16)                                                                                 \
	X(pmovsxwq, 0F38, 0x24, 4, 8)                                                                                  \
	X(pmovsxdq, 0F38, 0x25, 8, 16)                                                                                 \
	X(pmovzxbw, 0F38, 0x30, 8, 16)                                                                                 \
	X(pmovzxbd, 0F38, 0x31, 4, 8)                                                                                  \
	X(pmovzxbq, 0F38, 0x32, 2, 4)                                                                                  \
	X(pmovzxwd, 0F38, 0x33, 8, 16)                                                                                 \
	X(pmovzxwq, 0F38, 0x34, 4, 8)                                                                                  \
	X(pmovzxdq, 0F38, 0x35, 8, 16)

/* --- duplicates: X(name, prefix, opcode, bytes, bytes of the YMM form), map 0F --- */
#define SSE3_DUP(X)                                                                                                    \
	X(movddup, F2, 0x12, 8, 32)                                                                                    \
	X(movsldup, F3, 0x12, 16, 32)                                                                                  \
	X(movshdup, F3, 0x16, 16, 32)

/* --- two sources and an immediate, prefix 66, map 0F3A: X(name, opcode, immediates, bits of it) --- */
#define SSSE3_IMM(X) X(palignr, 0x0f, 256, 0xff)
#define SSE41_IMM(X)                                                                                                   \
	X(pblendw, 0x0e, 256, 0xff)                                                                                    \
	X(mpsadbw, 0x42, 64, 0x3f)
#define SSE41_BLEND_IMM(X)                                                                                             \
	X(blendps, 0x0c, 256, 0xff)                                                                                    \
	X(blendpd, 0x0d, 16, 0x0f)

/* --- floating point, two sources: X(name, prefix, opcode, x86_opdef.fp), map 0F --- */
#define SSE3_FP(X)                                                                                                     \
	X(addsubpd, 66, 0xd0, X86_FP_SUM | X86_FP_DOUBLE)                                                              \
	X(addsubps, F2, 0xd0, X86_FP_SUM)                                                                              \
	X(haddpd, 66, 0x7c, X86_FP_PAIRS | X86_FP_DOUBLE)                                                              \
	X(haddps, F2, 0x7c, X86_FP_PAIRS)                                                                              \
	X(hsubpd, 66, 0x7d, X86_FP_PAIRS | X86_FP_DOUBLE)                                                              \
	X(hsubps, F2, 0x7d, X86_FP_PAIRS)
/* X(name, opcode, x86_fp_kind): each in the four types. */
#define SSE_ARITHMETIC(X)                                                                                              \
	X(add, 0x58, X86_FP_SUM)                                                                                       \
	X(mul, 0x59, X86_FP_PRODUCT)                                                                                   \
	X(sub, 0x5c, X86_FP_SUM)                                                                                       \
	X(min, 0x5d, X86_FP_NEVER)                                                                                     \
	X(div, 0x5e, X86_FP_PRODUCT)                                                                                   \
	X(max, 0x5f, X86_FP_NEVER)

/* --- string comparisons, prefix 66, map 0F3A: X(name, opcode, result) --- */
#define SSE42_STRING(X)                                                                                                \
	X(pcmpestrm, 0x60, mask)                                                                                       \
	X(pcmpestri, 0x61, index)                                                                                      \
	X(pcmpistrm, 0x62, mask)                                                                                       \
	X(pcmpistri, 0x63, index)

/* Shifts by an immediate, in each encoding: X(name, opcode, ModRM.reg). */
#define IMM_SHIFTS(X)                                                                                                  \
	X(psrlw, 0x71, 2)                                                                                              \
	X(psraw, 0x71, 4)                                                                                              \
	X(psllw, 0x71, 6)                                                                                              \
	X(psrld, 0x72, 2)                                                                                              \
	X(psrad, 0x72, 4)                                                                                              \
	X(pslld, 0x72, 6)                                                                                              \
	X(psrlq, 0x73, 2)                                                                                              \
	X(psllq, 0x73, 6)
/* Those of whole XMM registers by bytes. */
#define IMM_BYTE_SHIFTS(X) X(psrldq, 0x73, 3) X(pslldq, 0x73, 7)

#endif
