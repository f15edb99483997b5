/* AVX, AVX2, FMA, F16C and the VEX forms of AES and PCLMULQDQ. See diff_forms.h for the notation. */
#include "base/bytes.h"
#include "cpu/x86/vecops.h"
#include "diff_forms.h"

#define CODE_0F	  "0f "
#define CODE_0F38 "0f 38 "

/* From the lists that the rows of the decoder are made of: the 128-bit form is AVX, the 256-bit form of integers AVX2.
 */
#define X3(name, map, op)	{ "v" #name " Vx,Hx,Wx", "vex L0 66 " CODE_##map #op, "" },
#define Y3(name, map, op)	{ "v" #name " Vx,Hx,Wx", "vex L1 66 " CODE_##map #op, "" },
#define Y3_SHIFT(name, map, op) { "v" #name " Vx,Hx,Wq", "vex L1 66 " CODE_##map #op, "" },
#define X3_IMM(name, op, n, m)	{ "v" #name " Vx,Hx,Wx,Ib", "vex L0 66 0f 3a " #op, "" },
#define Y3_IMM(name, op, n, m)	{ "v" #name " Vx,Hx,Wx,Ib", "vex L1 66 0f 3a " #op, "" },
#define XY3_IMM(name, op, n, m) { "v" #name " Vx,Hx,Wx,Ib", "vex 66 0f 3a " #op, "" },

/* By their names: packed single and double, scalar single and double. */
#define PS_PD(name, op)                                                                                                \
	{ name "ps Vx,Hx,Wx", "vex 0f " op, "" },                                                                      \
	{                                                                                                              \
		name "pd Vx,Hx,Wx", "vex 66 0f " op, ""                                                                \
	}
#define SS_SD(name, op)                                                                                                \
	{ name "ss Vx,Hx,Wd", "vex LIG f3 0f " op, "" },                                                               \
	{                                                                                                              \
		name "sd Vx,Hx,Wq", "vex LIG f2 0f " op, ""                                                            \
	}
#define FOUR(name, op) PS_PD(name, op), SS_SD(name, op)
#define PS_PD2(name, op)                                                                                               \
	{ name "ps Vx,Wx", "vex 0f " op, "" },                                                                         \
	{                                                                                                              \
		name "pd Vx,Wx", "vex 66 0f " op, ""                                                                   \
	}
#define COMI ">oszapc"

/* clang-format off */
static const struct diff_row avx[] = {
	SSE2_BINARY(X3)
	SSE2_SHIFTS(X3)
	SSSE3_MMX(X3)
	SSE41_BINARY(X3)
	SSE42_BINARY(X3)
	SSSE3_IMM(X3_IMM)
	SSE41_IMM(X3_IMM)
	SSE41_BLEND_IMM(XY3_IMM)
	{ "vpabsb Vx,Wx", "vex L0 66 0f 38 1c", "" },
	{ "vpabsw Vx,Wx", "vex L0 66 0f 38 1d", "" },
	{ "vpabsd Vx,Wx", "vex L0 66 0f 38 1e", "" },
	{ "vpmovsxbw Vx,Wq", "vex L0 66 0f 38 20", "" },
	{ "vpmovsxbd Vx,Wd", "vex L0 66 0f 38 21", "" },
	{ "vpmovsxbq Vx,Ww", "vex L0 66 0f 38 22", "" },
	{ "vpmovsxwd Vx,Wq", "vex L0 66 0f 38 23", "" },
	{ "vpmovsxwq Vx,Wd", "vex L0 66 0f 38 24", "" },
	{ "vpmovsxdq Vx,Wq", "vex L0 66 0f 38 25", "" },
	{ "vpmovzxbw Vx,Wq", "vex L0 66 0f 38 30", "" },
	{ "vpmovzxbd Vx,Wd", "vex L0 66 0f 38 31", "" },
	{ "vpmovzxbq Vx,Ww", "vex L0 66 0f 38 32", "" },
	{ "vpmovzxwd Vx,Wq", "vex L0 66 0f 38 33", "" },
	{ "vpmovzxwq Vx,Wd", "vex L0 66 0f 38 34", "" },
	{ "vpmovzxdq Vx,Wq", "vex L0 66 0f 38 35", "" },
	{ "vphminposuw Vx,Wx", "vex L0 66 0f 38 41", "" },
	{ "vptest Vx,Wx", "vex 66 0f 38 17", COMI, A_READ },
	{ "vtestps Vx,Wx", "vex W0 66 0f 38 0e", COMI, A_READ },
	{ "vtestpd Vx,Wx", "vex W0 66 0f 38 0f", COMI, A_READ },
	{ "vpshufd Vx,Wx,Ib", "vex L0 66 0f 70", "" },
	{ "vpshufhw Vx,Wx,Ib", "vex L0 f3 0f 70", "" },
	{ "vpshuflw Vx,Wx,Ib", "vex L0 f2 0f 70", "" },
	{ "vpsrlw Hx,Ux,Ib", "vex L0 66 0f 71 /2", "" },
	{ "vpsraw Hx,Ux,Ib", "vex L0 66 0f 71 /4", "" },
	{ "vpsllw Hx,Ux,Ib", "vex L0 66 0f 71 /6", "" },
	{ "vpsrld Hx,Ux,Ib", "vex L0 66 0f 72 /2", "" },
	{ "vpsrad Hx,Ux,Ib", "vex L0 66 0f 72 /4", "" },
	{ "vpslld Hx,Ux,Ib", "vex L0 66 0f 72 /6", "" },
	{ "vpsrlq Hx,Ux,Ib", "vex L0 66 0f 73 /2", "" },
	{ "vpsrldq Hx,Ux,Ib", "vex L0 66 0f 73 /3", "" },
	{ "vpsllq Hx,Ux,Ib", "vex L0 66 0f 73 /6", "" },
	{ "vpslldq Hx,Ux,Ib", "vex L0 66 0f 73 /7", "" },
	{ "vpblendvb Vx,Hx,Wx,Lx", "vex L0 W0 66 0f 3a 4c", "" },
	{ "vblendvps Vx,Hx,Wx,Lx", "vex W0 66 0f 3a 4a", "" },
	{ "vblendvpd Vx,Hx,Wx,Lx", "vex W0 66 0f 3a 4b", "" },
	{ "vpcmpestrm Vx,Wx,Ib", "vex L0 66 0f 3a 60", COMI, A_READ | A_WIDE, 0, tweak_string },
	{ "vpcmpestri Vx,Wx,Ib", "vex L0 66 0f 3a 61", COMI, A_READ | A_WIDE, CX, tweak_string },
	{ "vpcmpistrm Vx,Wx,Ib", "vex L0 66 0f 3a 62", COMI, A_READ, 0, tweak_string },
	{ "vpcmpistri Vx,Wx,Ib", "vex L0 66 0f 3a 63", COMI, A_READ, CX, tweak_string },
	/* --- moves --- */
	{ "vmovups Vx,Wx", "vex 0f 10", "" },
	{ "vmovupd Vx,Wx", "vex 66 0f 10", "" },
	{ "vmovups Wx,Vx", "vex 0f 11", "" },
	{ "vmovupd Wx,Vx", "vex 66 0f 11", "" },
	{ "vmovaps Vx,Wx", "vex 0f 28", "", A_ALIGNED },
	{ "vmovapd Vx,Wx", "vex 66 0f 28", "", A_ALIGNED },
	{ "vmovaps Wx,Vx", "vex 0f 29", "", A_ALIGNED },
	{ "vmovapd Wx,Vx", "vex 66 0f 29", "", A_ALIGNED },
	{ "vmovdqa Vx,Wx", "vex 66 0f 6f", "", A_ALIGNED },
	{ "vmovdqu Vx,Wx", "vex f3 0f 6f", "" },
	{ "vmovdqa Wx,Vx", "vex 66 0f 7f", "", A_ALIGNED },
	{ "vmovdqu Wx,Vx", "vex f3 0f 7f", "" },
	{ "vmovntps Mx,Vx", "vex 0f 2b", "", A_ALIGNED },
	{ "vmovntpd Mx,Vx", "vex 66 0f 2b", "", A_ALIGNED },
	{ "vmovntdq Mx,Vx", "vex 66 0f e7", "", A_ALIGNED },
	{ "vlddqu Vx,Mx", "vex f2 0f f0", "" },
	{ "vmovntdqa Vx,Mx", "vex L0 66 0f 38 2a", "", A_ALIGNED },
	{ "vmovss Vx,Md", "vex LIG f3 0f 10", "" },
	{ "vmovsd Vx,Mq", "vex LIG f2 0f 10", "" },
	{ "vmovss Md,Vx", "vex LIG f3 0f 11", "" },
	{ "vmovsd Mq,Vx", "vex LIG f2 0f 11", "" },
	{ "vmovss Vx,Hx,Ux", "vex LIG f3 0f 10", "" },
	{ "vmovsd Vx,Hx,Ux", "vex LIG f2 0f 10", "" },
	{ "vmovss Ux,Hx,Vx", "vex LIG f3 0f 11", "" },
	{ "vmovsd Ux,Hx,Vx", "vex LIG f2 0f 11", "" },
	{ "vmovlps Vx,Hx,Mq", "vex L0 0f 12", "" },
	{ "vmovlpd Vx,Hx,Mq", "vex L0 66 0f 12", "" },
	{ "vmovlps Mq,Vx", "vex L0 0f 13", "" },
	{ "vmovlpd Mq,Vx", "vex L0 66 0f 13", "" },
	{ "vmovhps Vx,Hx,Mq", "vex L0 0f 16", "" },
	{ "vmovhpd Vx,Hx,Mq", "vex L0 66 0f 16", "" },
	{ "vmovhps Mq,Vx", "vex L0 0f 17", "" },
	{ "vmovhpd Mq,Vx", "vex L0 66 0f 17", "" },
	{ "vmovhlps Vx,Hx,Ux", "vex L0 0f 12", "" },
	{ "vmovlhps Vx,Hx,Ux", "vex L0 0f 16", "" },
	{ "vmovddup Vx,Wq", "vex L0 f2 0f 12", "" },
	{ "vmovddup Vx,Wx", "vex L1 f2 0f 12", "" },
	{ "vmovsldup Vx,Wx", "vex f3 0f 12", "" },
	{ "vmovshdup Vx,Wx", "vex f3 0f 16", "" },
	{ "vmovq Vx,Wq", "vex L0 f3 0f 7e", "" },
	{ "vmovq Wq,Vx", "vex L0 66 0f d6", "" },
	{ "vmovd Vx,Ey", "vex L0 66 0f 6e", "" },
	{ "vmovd Ey,Vx", "vex L0 66 0f 7e", "" },
	{ "vzeroupper", "vex L0 0f 77", "" },
	{ "vzeroall", "vex L1 0f 77", "" },
	{ "vmovmskps Gd,Ux", "vex 0f 50", "" },
	{ "vmovmskpd Gd,Ux", "vex 66 0f 50", "" },
	{ "vpmovmskb Gd,Ux", "vex L0 66 0f d7", "" },
	{ "vmaskmovdqu Vx,Ux", "vex L0 66 0f f7", "", A_READ | A_DI },
	{ "vmaskmovps Vx,Hx,Mx", "vex W0 66 0f 38 2c", "", A_ORDER, 0, tweak_mask },
	{ "vmaskmovpd Vx,Hx,Mx", "vex W0 66 0f 38 2d", "", A_ORDER, 0, tweak_mask },
	{ "vmaskmovps Mx,Hx,Vx", "vex W0 66 0f 38 2e", "", A_ORDER, 0, tweak_mask },
	{ "vmaskmovpd Mx,Hx,Vx", "vex W0 66 0f 38 2f", "", A_ORDER, 0, tweak_mask },
	{ "vextractf128 Wq,Vx,Ib", "vex L1 W0 66 0f 3a 19", "" },
	{ "vinsertf128 Vx,Hx,Wq,Ib", "vex L1 W0 66 0f 3a 18", "" },
	{ "vbroadcastss Vx,Md", "vex LIG W0 66 0f 38 18", "" },
	{ "vbroadcastsd Vx,Md", "vex L1 W0 66 0f 38 19", "" },
	{ "vbroadcastf128 Vx,Mq", "vex L1 W0 66 0f 38 1a", "" },
	{ "vperm2f128 Vx,Hx,Wx,Ib", "vex L1 W0 66 0f 3a 06", "" },
	{ "vpermilps Vx,Wx,Ib", "vex W0 66 0f 3a 04", "" },
	{ "vpermilpd Vx,Wx,Ib", "vex W0 66 0f 3a 05", "" },
	{ "vpermilps Vx,Hx,Wx", "vex W0 66 0f 38 0c", "" },
	{ "vpermilpd Vx,Hx,Wx", "vex W0 66 0f 38 0d", "" },
	PS_PD("vunpckl", "14"),
	PS_PD("vunpckh", "15"),
	{ "vshufps Vx,Hx,Wx,Ib", "vex 0f c6", "" },
	{ "vshufpd Vx,Hx,Wx,Ib", "vex 66 0f c6", "" },
	PS_PD("vand", "54"),
	PS_PD("vandn", "55"),
	PS_PD("vor", "56"),
	PS_PD("vxor", "57"),
	{ "vpextrb Rd,Vx,Ib", "vex L0 66 0f 3a 14", "" },
	{ "vpextrb Mb,Vx,Ib", "vex L0 66 0f 3a 14", "" },
	{ "vpextrw Rd,Vx,Ib", "vex L0 66 0f 3a 15", "" },
	{ "vpextrw Mw,Vx,Ib", "vex L0 66 0f 3a 15", "" },
	{ "vpextrd Ey,Vx,Ib", "vex L0 66 0f 3a 16", "" },
	{ "vextractps Rd,Vx,Ib", "vex L0 66 0f 3a 17", "" },
	{ "vextractps Md,Vx,Ib", "vex L0 66 0f 3a 17", "" },
	{ "vpextrw Gd,Ux,Ib", "vex L0 66 0f c5", "" },
	{ "vpinsrb Vx,Hx,Rd,Ib", "vex L0 66 0f 3a 20", "" },
	{ "vpinsrb Vx,Hx,Mb,Ib", "vex L0 66 0f 3a 20", "" },
	{ "vpinsrw Vx,Hx,Rd,Ib", "vex L0 66 0f c4", "" },
	{ "vpinsrw Vx,Hx,Mw,Ib", "vex L0 66 0f c4", "" },
	{ "vpinsrd Vx,Hx,Ey,Ib", "vex L0 66 0f 3a 22", "" },
	{ "vinsertps Vx,Hx,Ux,Ib", "vex L0 66 0f 3a 21", "" },
	{ "vinsertps Vx,Hx,Md,Ib", "vex L0 66 0f 3a 21", "" },
	/* --- arithmetic --- */
	PS_PD2("vsqrt", "51"),
	SS_SD("vsqrt", "51"),
	FOUR("vadd", "58"),
	FOUR("vmul", "59"),
	FOUR("vsub", "5c"),
	FOUR("vmin", "5d"),
	FOUR("vdiv", "5e"),
	FOUR("vmax", "5f"),
	{ "vaddsubpd Vx,Hx,Wx", "vex 66 0f d0", "" },
	{ "vaddsubps Vx,Hx,Wx", "vex f2 0f d0", "" },
	{ "vhaddpd Vx,Hx,Wx", "vex 66 0f 7c", "" },
	{ "vhaddps Vx,Hx,Wx", "vex f2 0f 7c", "" },
	{ "vhsubpd Vx,Hx,Wx", "vex 66 0f 7d", "" },
	{ "vhsubps Vx,Hx,Wx", "vex f2 0f 7d", "" },
	{ "vrsqrtps Vx,Wx", "vex 0f 52", "" },
	{ "vrsqrtss Vx,Hx,Wd", "vex LIG f3 0f 52", "" },
	{ "vrcpps Vx,Wx", "vex 0f 53", "" },
	{ "vrcpss Vx,Hx,Wd", "vex LIG f3 0f 53", "" },
	{ "vcmpps Vx,Hx,Wx,Ib", "vex 0f c2", "" },
	{ "vcmppd Vx,Hx,Wx,Ib", "vex 66 0f c2", "" },
	{ "vcmpss Vx,Hx,Wd,Ib", "vex LIG f3 0f c2", "" },
	{ "vcmpsd Vx,Hx,Wq,Ib", "vex LIG f2 0f c2", "" },
	{ "vucomiss Vx,Wd", "vex LIG 0f 2e", COMI, A_READ },
	{ "vucomisd Vx,Wq", "vex LIG 66 0f 2e", COMI, A_READ },
	{ "vcomiss Vx,Wd", "vex LIG 0f 2f", COMI, A_READ },
	{ "vcomisd Vx,Wq", "vex LIG 66 0f 2f", COMI, A_READ },
	{ "vroundps Vx,Wx,Ib", "vex 66 0f 3a 08", "" },
	{ "vroundpd Vx,Wx,Ib", "vex 66 0f 3a 09", "" },
	{ "vroundss Vx,Hx,Wd,Ib", "vex LIG 66 0f 3a 0a", "" },
	{ "vroundsd Vx,Hx,Wq,Ib", "vex LIG 66 0f 3a 0b", "" },
	{ "vdpps Vx,Hx,Wx,Ib", "vex 66 0f 3a 40", "" },
	{ "vdppd Vx,Hx,Wx,Ib", "vex L0 66 0f 3a 41", "" },
	/* --- conversions --- */
	{ "vcvtps2pd Vx,Wq", "vex 0f 5a", "" },
	{ "vcvtpd2ps Vx,Wx", "vex 66 0f 5a", "" },
	{ "vcvtss2sd Vx,Hx,Wd", "vex LIG f3 0f 5a", "" },
	{ "vcvtsd2ss Vx,Hx,Wq", "vex LIG f2 0f 5a", "" },
	{ "vcvtdq2ps Vx,Wx", "vex 0f 5b", "" },
	{ "vcvtps2dq Vx,Wx", "vex 66 0f 5b", "" },
	{ "vcvttps2dq Vx,Wx", "vex f3 0f 5b", "" },
	{ "vcvttpd2dq Vx,Wx", "vex 66 0f e6", "" },
	{ "vcvtdq2pd Vx,Wq", "vex f3 0f e6", "" },
	{ "vcvtpd2dq Vx,Wx", "vex f2 0f e6", "" },
	{ "vcvtsi2ss Vx,Hx,Ey", "vex LIG f3 0f 2a", "" },
	{ "vcvtsi2sd Vx,Hx,Ey", "vex LIG f2 0f 2a", "" },
	{ "vcvttss2si Gy,Wd", "vex LIG f3 0f 2c", "" },
	{ "vcvttsd2si Gy,Wq", "vex LIG f2 0f 2c", "" },
	{ "vcvtss2si Gy,Wd", "vex LIG f3 0f 2d", "" },
	{ "vcvtsd2si Gy,Wq", "vex LIG f2 0f 2d", "" },
	{ "vldmxcsr Md", "vex L0 0f ae /2", "", A_SINGLE, 0, tweak_mxcsr },
	{ "vstmxcsr Md", "vex L0 0f ae /3", "" },
};
const struct diff_rows diff_rows_avx = { avx, ARRAY_LEN(avx), X86_F_AVX };

static const struct diff_row avx2[] = {
	SSE2_BINARY(Y3)
	SSE2_SHIFTS(Y3_SHIFT)
	SSSE3_MMX(Y3)
	SSE41_BINARY(Y3)
	SSE42_BINARY(Y3)
	SSSE3_IMM(Y3_IMM)
	SSE41_IMM(Y3_IMM)
	{ "vpabsb Vx,Wx", "vex L1 66 0f 38 1c", "" },
	{ "vpabsw Vx,Wx", "vex L1 66 0f 38 1d", "" },
	{ "vpabsd Vx,Wx", "vex L1 66 0f 38 1e", "" },
	{ "vpmovsxbw Vx,Wq", "vex L1 66 0f 38 20", "" },
	{ "vpmovsxbd Vx,Wd", "vex L1 66 0f 38 21", "" },
	{ "vpmovsxbq Vx,Ww", "vex L1 66 0f 38 22", "" },
	{ "vpmovsxwd Vx,Wq", "vex L1 66 0f 38 23", "" },
	{ "vpmovsxwq Vx,Wd", "vex L1 66 0f 38 24", "" },
	{ "vpmovsxdq Vx,Wq", "vex L1 66 0f 38 25", "" },
	{ "vpmovzxbw Vx,Wq", "vex L1 66 0f 38 30", "" },
	{ "vpmovzxbd Vx,Wd", "vex L1 66 0f 38 31", "" },
	{ "vpmovzxbq Vx,Ww", "vex L1 66 0f 38 32", "" },
	{ "vpmovzxwd Vx,Wq", "vex L1 66 0f 38 33", "" },
	{ "vpmovzxwq Vx,Wd", "vex L1 66 0f 38 34", "" },
	{ "vpmovzxdq Vx,Wq", "vex L1 66 0f 38 35", "" },
	{ "vmovntdqa Vx,Mx", "vex L1 66 0f 38 2a", "", A_ALIGNED },
	{ "vpmovmskb Gd,Ux", "vex L1 66 0f d7", "" },
	{ "vpshufd Vx,Wx,Ib", "vex L1 66 0f 70", "" },
	{ "vpshufhw Vx,Wx,Ib", "vex L1 f3 0f 70", "" },
	{ "vpshuflw Vx,Wx,Ib", "vex L1 f2 0f 70", "" },
	{ "vpsrlw Hx,Ux,Ib", "vex L1 66 0f 71 /2", "" },
	{ "vpsraw Hx,Ux,Ib", "vex L1 66 0f 71 /4", "" },
	{ "vpsllw Hx,Ux,Ib", "vex L1 66 0f 71 /6", "" },
	{ "vpsrld Hx,Ux,Ib", "vex L1 66 0f 72 /2", "" },
	{ "vpsrad Hx,Ux,Ib", "vex L1 66 0f 72 /4", "" },
	{ "vpslld Hx,Ux,Ib", "vex L1 66 0f 72 /6", "" },
	{ "vpsrlq Hx,Ux,Ib", "vex L1 66 0f 73 /2", "" },
	{ "vpsrldq Hx,Ux,Ib", "vex L1 66 0f 73 /3", "" },
	{ "vpsllq Hx,Ux,Ib", "vex L1 66 0f 73 /6", "" },
	{ "vpslldq Hx,Ux,Ib", "vex L1 66 0f 73 /7", "" },
	{ "vpblendvb Vx,Hx,Wx,Lx", "vex L1 W0 66 0f 3a 4c", "" },
	{ "vpblendd Vx,Hx,Wx,Ib", "vex W0 66 0f 3a 02", "" },
	{ "vpsllvd Vx,Hx,Wx", "vex W0 66 0f 38 47", "" },
	{ "vpsllvq Vx,Hx,Wx", "vex W1 66 0f 38 47", "" },
	{ "vpsrlvd Vx,Hx,Wx", "vex W0 66 0f 38 45", "" },
	{ "vpsrlvq Vx,Hx,Wx", "vex W1 66 0f 38 45", "" },
	{ "vpsravd Vx,Hx,Wx", "vex W0 66 0f 38 46", "" },
	{ "vpermd Vx,Hx,Wx", "vex L1 W0 66 0f 38 36", "" },
	{ "vpermps Vx,Hx,Wx", "vex L1 W0 66 0f 38 16", "" },
	/* AMD's processors take W = 0 for these two. */
	{ "vpermq Vx,Wx,Ib", "vex L1 W1 66 0f 3a 00", "", A_KNOWN },
	{ "vpermpd Vx,Wx,Ib", "vex L1 W1 66 0f 3a 01", "", A_KNOWN },
	{ "vperm2i128 Vx,Hx,Wx,Ib", "vex L1 W0 66 0f 3a 46", "" },
	{ "vextracti128 Wq,Vx,Ib", "vex L1 W0 66 0f 3a 39", "" },
	{ "vinserti128 Vx,Hx,Wq,Ib", "vex L1 W0 66 0f 3a 38", "" },
	{ "vpbroadcastb Vx,Wb", "vex LIG W0 66 0f 38 78", "" },
	{ "vpbroadcastw Vx,Ww", "vex LIG W0 66 0f 38 79", "" },
	{ "vpbroadcastd Vx,Wd", "vex LIG W0 66 0f 38 58", "" },
	{ "vpbroadcastq Vx,Wq", "vex LIG W0 66 0f 38 59", "" },
	{ "vbroadcastss Vx,Ux", "vex LIG W0 66 0f 38 18", "" },
	{ "vbroadcastsd Vx,Ux", "vex L1 W0 66 0f 38 19", "" },
	{ "vbroadcasti128 Vx,Mq", "vex L1 W0 66 0f 38 5a", "" },
	{ "vpmaskmovd Vx,Hx,Mx", "vex W0 66 0f 38 8c", "", A_ORDER, 0, tweak_mask },
	{ "vpmaskmovq Vx,Hx,Mx", "vex W1 66 0f 38 8c", "", A_ORDER, 0, tweak_mask },
	{ "vpmaskmovd Mx,Hx,Vx", "vex W0 66 0f 38 8e", "", A_ORDER, 0, tweak_mask },
	{ "vpmaskmovq Mx,Hx,Vx", "vex W1 66 0f 38 8e", "", A_ORDER, 0, tweak_mask },
#define GATHER(name, code) { name " Vx,Hx,Md", "vex " code, "", A_SINGLE | A_VSIB | A_KNOWN, 0, tweak_gather }
	GATHER("vpgatherdd", "W0 66 0f 38 90"),
	GATHER("vpgatherdq", "W1 66 0f 38 90"),
	GATHER("vpgatherqd", "W0 66 0f 38 91"),
	GATHER("vpgatherqq", "W1 66 0f 38 91"),
	GATHER("vgatherdps", "W0 66 0f 38 92"),
	GATHER("vgatherdpd", "W1 66 0f 38 92"),
	GATHER("vgatherqps", "W0 66 0f 38 93"),
	GATHER("vgatherqpd", "W1 66 0f 38 93"),
};
const struct diff_rows diff_rows_avx2 = { avx2, ARRAY_LEN(avx2), X86_F_AVX2 };

#define FMA_ORDERS(name, lig, size, w, a, b, c)                                                                        \
	{ name "132" size, "vex " lig w " 66 0f 38 " a, "" }, { name "213" size, "vex " lig w " 66 0f 38 " b, "" },    \
	{ name "231" size, "vex " lig w " 66 0f 38 " c, "" }
#define FMA_PACKED_FORM(name, a, b, c)                                                                                 \
	FMA_ORDERS(name, "", "ps Vx,Hx,Wx", "W0", a, b, c), FMA_ORDERS(name, "", "pd Vx,Hx,Wx", "W1", a, b, c)
#define FMA_SCALAR_FORM(name, a, b, c)                                                                                 \
	FMA_ORDERS(name, "LIG ", "ss Vx,Hx,Wd", "W0", a, b, c), FMA_ORDERS(name, "LIG ", "sd Vx,Hx,Wq", "W1", a, b, c)
static const struct diff_row fused[] = {
	FMA_PACKED_FORM("vfmaddsub", "96", "a6", "b6"),
	FMA_PACKED_FORM("vfmsubadd", "97", "a7", "b7"),
	FMA_PACKED_FORM("vfmadd", "98", "a8", "b8"),
	FMA_PACKED_FORM("vfmsub", "9a", "aa", "ba"),
	FMA_PACKED_FORM("vfnmadd", "9c", "ac", "bc"),
	FMA_PACKED_FORM("vfnmsub", "9e", "ae", "be"),
	FMA_SCALAR_FORM("vfmadd", "99", "a9", "b9"),
	FMA_SCALAR_FORM("vfmsub", "9b", "ab", "bb"),
	FMA_SCALAR_FORM("vfnmadd", "9d", "ad", "bd"),
	FMA_SCALAR_FORM("vfnmsub", "9f", "af", "bf"),
};
const struct diff_rows diff_rows_fma = { fused, ARRAY_LEN(fused), X86_F_FMA };

static const struct diff_row f16c[] = {
	{ "vcvtph2ps Vx,Wq", "vex W0 66 0f 38 13", "" },
	{ "vcvtps2ph Wq,Vx,Ib", "vex W0 66 0f 3a 1d", "" },
};
const struct diff_rows diff_rows_f16c = { f16c, ARRAY_LEN(f16c), X86_F_F16C };

static const struct diff_row aes[] = {
	{ "vaesenc Vx,Hx,Wx", "vex L0 66 0f 38 dc", "", A_KNOWN },
	{ "vaesenclast Vx,Hx,Wx", "vex L0 66 0f 38 dd", "", A_KNOWN },
	{ "vaesdec Vx,Hx,Wx", "vex L0 66 0f 38 de", "", A_KNOWN },
	{ "vaesdeclast Vx,Hx,Wx", "vex L0 66 0f 38 df", "", A_KNOWN },
	{ "vaesimc Vx,Wx", "vex L0 66 0f 38 db", "" },
	{ "vaeskeygenassist Vx,Wx,Ib", "vex L0 66 0f 3a df", "" },
};
const struct diff_rows diff_rows_avx_aes = { aes, ARRAY_LEN(aes), X86_F_AES };

static const struct diff_row pclmul[] = { { "vpclmulqdq Vx,Hx,Wx,Ib", "vex L0 66 0f 3a 44", "", A_KNOWN } };
const struct diff_rows diff_rows_avx_pclmul = { pclmul, ARRAY_LEN(pclmul), X86_F_PCLMUL };
/* clang-format on */
