/* SSE3 to SSE4.2, AES, PCLMULQDQ, SHA, and the extensions of general registers. See diff_forms.h for the notation. */
#include "base/bytes.h"
#include "cpu/x86/vecops.h"
#include "diff_forms.h"

#define CODE_0F	  "0f "
#define CODE_0F38 "0f 38 "
/* From the lists that the rows of the decoder are made of. */
#define XMM(name, map, op)	   { #name " Vx,Wx", "66 " CODE_##map #op, "" },
#define MMX(name, map, op)	   { #name " Pq,Qq", CODE_##map #op, "" },
#define XMM_IMM(name, op, n, mask) { #name " Vx,Wx,Ib", "66 0f 3a " #op, "" },
#define TEST			   ">oszapc"
#define BITS			   ">oszc?ap"

/* clang-format off */
static const struct diff_row sse3[] = {
	{ "movddup Vx,Wq", "f2 0f 12", "" },
	{ "movsldup Vx,Wx", "f3 0f 12", "" },
	{ "movshdup Vx,Wx", "f3 0f 16", "" },
	{ "addsubpd Vx,Wx", "66 0f d0", "" },
	{ "addsubps Vx,Wx", "f2 0f d0", "" },
	{ "haddpd Vx,Wx", "66 0f 7c", "" },
	{ "haddps Vx,Wx", "f2 0f 7c", "" },
	{ "hsubpd Vx,Wx", "66 0f 7d", "" },
	{ "hsubps Vx,Wx", "f2 0f 7d", "" },
	{ "lddqu Vx,Mx", "f2 0f f0", "", A_LOOSE },
};
const struct diff_rows diff_rows_sse3 = { sse3, ARRAY_LEN(sse3), X86_F_SSE3 };

static const struct diff_row fisttp[] = {
	{ "fisttp Mw", "df /1", "" },
	{ "fisttp Md", "db /1", "" },
	{ "fisttp Mq", "dd /1", "" },
};
const struct diff_rows diff_rows_fisttp = { fisttp, ARRAY_LEN(fisttp), X86_F_SSE3 };

static const struct diff_row ssse3[] = {
	SSSE3_MMX(XMM)
	SSSE3_MMX(MMX)
	{ "pabsb Vx,Wx", "66 0f 38 1c", "" },
	{ "pabsw Vx,Wx", "66 0f 38 1d", "" },
	{ "pabsd Vx,Wx", "66 0f 38 1e", "" },
	{ "pabsb Pq,Qq", "0f 38 1c", "" },
	{ "pabsw Pq,Qq", "0f 38 1d", "" },
	{ "pabsd Pq,Qq", "0f 38 1e", "" },
	{ "palignr Vx,Wx,Ib", "66 0f 3a 0f", "" },
	{ "palignr Pq,Qq,Ib", "0f 3a 0f", "" },
};
const struct diff_rows diff_rows_ssse3 = { ssse3, ARRAY_LEN(ssse3), X86_F_SSSE3 };

static const struct diff_row sse41[] = {
	SSE41_BINARY(XMM)
	SSE41_IMM(XMM_IMM)
	SSE41_BLEND_IMM(XMM_IMM)
	{ "pmovsxbw Vx,Wq", "66 0f 38 20", "" },
	{ "pmovsxbd Vx,Wd", "66 0f 38 21", "" },
	{ "pmovsxbq Vx,Ww", "66 0f 38 22", "" },
	{ "pmovsxwd Vx,Wq", "66 0f 38 23", "" },
	{ "pmovsxwq Vx,Wd", "66 0f 38 24", "" },
	{ "pmovsxdq Vx,Wq", "66 0f 38 25", "" },
	{ "pmovzxbw Vx,Wq", "66 0f 38 30", "" },
	{ "pmovzxbd Vx,Wd", "66 0f 38 31", "" },
	{ "pmovzxbq Vx,Ww", "66 0f 38 32", "" },
	{ "pmovzxwd Vx,Wq", "66 0f 38 33", "" },
	{ "pmovzxwq Vx,Wd", "66 0f 38 34", "" },
	{ "pmovzxdq Vx,Wq", "66 0f 38 35", "" },
	{ "phminposuw Vx,Wx", "66 0f 38 41", "" },
	{ "ptest Vx,Wx", "66 0f 38 17", TEST, A_READ },
	{ "pblendvb Vx,Wx", "66 0f 38 10", "" },
	{ "blendvps Vx,Wx", "66 0f 38 14", "" },
	{ "blendvpd Vx,Wx", "66 0f 38 15", "" },
	{ "roundps Vx,Wx,Ib", "66 0f 3a 08", "" },
	{ "roundpd Vx,Wx,Ib", "66 0f 3a 09", "" },
	{ "roundss Vx,Wd,Ib", "66 0f 3a 0a", "" },
	{ "roundsd Vx,Wq,Ib", "66 0f 3a 0b", "" },
	{ "dpps Vx,Wx,Ib", "66 0f 3a 40", "" },
	{ "dppd Vx,Wx,Ib", "66 0f 3a 41", "" },
	{ "insertps Vx,Ux,Ib", "66 0f 3a 21", "" },
	{ "insertps Vx,Md,Ib", "66 0f 3a 21", "" },
	{ "movntdqa Vx,Mx", "66 0f 38 2a", "" },
	{ "pextrb Rd,Vx,Ib", "66 0f 3a 14", "" },
	{ "pextrb Mb,Vx,Ib", "66 0f 3a 14", "" },
	{ "pextrw Rd,Vx,Ib", "66 0f 3a 15", "" },
	{ "pextrw Mw,Vx,Ib", "66 0f 3a 15", "" },
	{ "pextrd Ey,Vx,Ib", "66 0f 3a 16", "" },
	{ "extractps Rd,Vx,Ib", "66 0f 3a 17", "" },
	{ "extractps Md,Vx,Ib", "66 0f 3a 17", "" },
	{ "pinsrb Vx,Rd,Ib", "66 0f 3a 20", "" },
	{ "pinsrb Vx,Mb,Ib", "66 0f 3a 20", "" },
	{ "pinsrd Vx,Ey,Ib", "66 0f 3a 22", "" },
};
const struct diff_rows diff_rows_sse41 = { sse41, ARRAY_LEN(sse41), X86_F_SSE41 };

static const struct diff_row sse42[] = {
	SSE42_BINARY(XMM)
	{ "pcmpestrm Vx,Wx,Ib", "66 0f 3a 60", TEST, A_READ | A_WIDE | A_LOOSE, 0, tweak_string },
	{ "pcmpestri Vx,Wx,Ib", "66 0f 3a 61", TEST, A_READ | A_WIDE | A_LOOSE, CX, tweak_string },
	{ "pcmpistrm Vx,Wx,Ib", "66 0f 3a 62", TEST, A_READ | A_LOOSE, 0, tweak_string },
	{ "pcmpistri Vx,Wx,Ib", "66 0f 3a 63", TEST, A_READ | A_LOOSE, CX, tweak_string },
};
const struct diff_rows diff_rows_sse42 = { sse42, ARRAY_LEN(sse42), X86_F_SSE42 };

static const struct diff_row crc32[] = {
	{ "crc32 Gy,Eb", "f2 0f 38 f0", "" },
	{ "crc32 Gv,Ev", "f2 0f 38 f1", "" },
};
const struct diff_rows diff_rows_crc32 = { crc32, ARRAY_LEN(crc32), X86_F_SSE42 };

static const struct diff_row aes[] = {
	{ "aesenc Vx,Wx", "66 0f 38 dc", "" },
	{ "aesenclast Vx,Wx", "66 0f 38 dd", "" },
	{ "aesdec Vx,Wx", "66 0f 38 de", "" },
	{ "aesdeclast Vx,Wx", "66 0f 38 df", "" },
	{ "aesimc Vx,Wx", "66 0f 38 db", "" },
	{ "aeskeygenassist Vx,Wx,Ib", "66 0f 3a df", "" },
};
const struct diff_rows diff_rows_aes = { aes, ARRAY_LEN(aes), X86_F_AES };

static const struct diff_row pclmul[] = { { "pclmulqdq Vx,Wx,Ib", "66 0f 3a 44", "" } };
const struct diff_rows diff_rows_pclmul = { pclmul, ARRAY_LEN(pclmul), X86_F_PCLMUL };

static const struct diff_row sha[] = {
	{ "sha1rnds4 Vx,Wx,Ib", "0f 3a cc", "", A_LOOSE },
	{ "sha1nexte Vx,Wx", "0f 38 c8", "", A_LOOSE },
	{ "sha1msg1 Vx,Wx", "0f 38 c9", "", A_LOOSE },
	{ "sha1msg2 Vx,Wx", "0f 38 ca", "", A_LOOSE },
	{ "sha256rnds2 Vx,Wx", "0f 38 cb", "", A_LOOSE },
	{ "sha256msg1 Vx,Wx", "0f 38 cc", "", A_LOOSE },
	{ "sha256msg2 Vx,Wx", "0f 38 cd", "", A_LOOSE },
};
const struct diff_rows diff_rows_sha = { sha, ARRAY_LEN(sha), X86_F_SHA };

/* --- general registers --- */

static const struct diff_row bmi1[] = {
	{ "andn Gy,By,Ey", "vex L0 0f 38 f2", BITS },
	{ "blsr By,Ey", "vex L0 0f 38 f3 /1", BITS },
	{ "blsmsk By,Ey", "vex L0 0f 38 f3 /2", BITS },
	{ "blsi By,Ey", "vex L0 0f 38 f3 /3", BITS },
	{ "bextr Gy,Ey,By", "vex L0 0f 38 f7", ">ozc?sap" },
	{ "tzcnt Gv,Ev", "f3 0f bc", ">zc?osap" },
};
const struct diff_rows diff_rows_bmi1 = { bmi1, ARRAY_LEN(bmi1), X86_F_BMI1 };

static const struct diff_row bmi2[] = {
	{ "bzhi Gy,Ey,By", "vex L0 0f 38 f5", BITS },
	{ "pext Gy,By,Ey", "vex L0 f3 0f 38 f5", "" },
	{ "pdep Gy,By,Ey", "vex L0 f2 0f 38 f5", "" },
	{ "mulx Gy,By,Ey", "vex L0 f2 0f 38 f6", "", A_BOTH },
	{ "shlx Gy,Ey,By", "vex L0 66 0f 38 f7", "" },
	{ "sarx Gy,Ey,By", "vex L0 f3 0f 38 f7", "" },
	{ "shrx Gy,Ey,By", "vex L0 f2 0f 38 f7", "" },
	{ "rorx Gy,Ey,Ib", "vex L0 f2 0f 3a f0", "" },
};
const struct diff_rows diff_rows_bmi2 = { bmi2, ARRAY_LEN(bmi2), X86_F_BMI2 };

static const struct diff_row abm[] = { { "lzcnt Gv,Ev", "f3 0f bd", ">zc?osap" } };
const struct diff_rows diff_rows_abm = { abm, ARRAY_LEN(abm), X86_F_ABM };

static const struct diff_row popcnt[] = { { "popcnt Gv,Ev", "f3 0f b8", TEST } };
const struct diff_rows diff_rows_popcnt = { popcnt, ARRAY_LEN(popcnt), X86_F_POPCNT };

static const struct diff_row movbe[] = {
	{ "movbe Gv,Mv", "0f 38 f0", "" },
	{ "movbe Mv,Gv", "0f 38 f1", "" },
};
const struct diff_rows diff_rows_movbe = { movbe, ARRAY_LEN(movbe), X86_F_MOVBE };

static const struct diff_row adx[] = {
	{ "adcx Gy,Ey", "66 0f 38 f6", "c>c" },
	{ "adox Gy,Ey", "f3 0f 38 f6", "o>o" },
};
const struct diff_rows diff_rows_adx = { adx, ARRAY_LEN(adx), X86_F_ADX };

static const struct diff_row clflushopt[] = { { "clflushopt Mb", "66 0f ae /7", "", A_READ } };
const struct diff_rows diff_rows_clflushopt = { clflushopt, ARRAY_LEN(clflushopt), X86_F_CLFLUSHOPT };

static const struct diff_row clwb[] = { { "clwb Mb", "66 0f ae /6", "", A_READ } };
const struct diff_rows diff_rows_clwb = { clwb, ARRAY_LEN(clwb), X86_F_CLWB };
/* clang-format on */
