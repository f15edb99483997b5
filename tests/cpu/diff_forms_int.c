/* General-purpose instructions. See diff_forms.h for the notation. */
#include "base/bytes.h"
#include "diff_forms.h"

#define ALL   ">oszapc"
#define LOGIC ">oszpc?a"

/* The six encodings at 8 * n, and the immediate group. */
#define ALU(name, n, eb, ev, gb, gv, al, ax, flags, attr)                                                              \
	{ name " Eb,Gb", eb, flags, attr }, { name " Ev,Gv", ev, flags, attr }, { name " Gb,Eb", gb, flags, attr },    \
		{ name " Gv,Ev", gv, flags, attr }, { name " AL,Ib", al, flags, attr, AX },                            \
		{ name " rAX,Iz", ax, flags, attr, AX }, { name " Eb,Ib", "80 /" n, flags, attr },                     \
		{ name " Ev,Iz", "81 /" n, flags, attr }, { name " Ev,Ib", "83 /" n, flags, attr },                    \
	{                                                                                                              \
		name " Eb,Ib", "82 /" n, flags, attr | A_NO64                                                          \
	}
#define UNARY(name, n, eb, ev, flags)                                                                                  \
	{ name " Eb", eb " /" n, flags, A_LOCK },                                                                      \
	{                                                                                                              \
		name " Ev", ev " /" n, flags, A_LOCK                                                                   \
	}
#define SHIFT(name, n, flags)                                                                                          \
	{ name " Eb,Ib", "c0 /" n, flags }, { name " Ev,Ib", "c1 /" n, flags }, { name " Eb,1", "d0 /" n, flags },     \
		{ name " Ev,1", "d1 /" n, flags }, { name " Eb,CL", "d2 /" n, flags, 0, 0, tweak_count },              \
	{                                                                                                              \
		name " Ev,CL", "d3 /" n, flags, 0, 0, tweak_count                                                      \
	}
#define BIT(name, n, op, attr)                                                                                         \
	{ name " Ev,Gv", op, ">c?osap", A_BITS | attr },                                                               \
	{                                                                                                              \
		name " Ev,Ib", "0f ba /" n, ">c?osap", attr                                                            \
	}
#define CC(X)                                                                                                          \
	X("o", "0", "o")                                                                                               \
	X("no", "1", "o")                                                                                              \
	X("b", "2", "c")                                                                                               \
	X("ae", "3", "c")                                                                                              \
	X("e", "4", "z")                                                                                               \
	X("ne", "5", "z")                                                                                              \
	X("be", "6", "cz")                                                                                             \
	X("a", "7", "cz")                                                                                              \
	X("s", "8", "s")                                                                                               \
	X("ns", "9", "s")                                                                                              \
	X("p", "a", "p")                                                                                               \
	X("np", "b", "p") X("l", "c", "so") X("ge", "d", "so") X("le", "e", "soz") X("g", "f", "soz")
#define JCC(cc, n, fl)	 { "j" cc " Jb", "7" n, fl ">", A_F64 }, { "j" cc " Jz", "0f 8" n, fl ">", A_F64 },
#define SETCC(cc, n, fl) { "set" cc " Eb", "0f 9" n, fl ">" },
#define CMOV(cc, n, fl)	 { "cmov" cc " Gv,Ev", "0f 4" n, fl ">" },

static const struct diff_row rows[] = {
	ALU("add", "0", "00", "01", "02", "03", "04", "05", ALL, A_LOCK),
	ALU("or", "1", "08", "09", "0a", "0b", "0c", "0d", LOGIC, A_LOCK),
	ALU("adc", "2", "10", "11", "12", "13", "14", "15", "c" ALL, A_LOCK),
	ALU("sbb", "3", "18", "19", "1a", "1b", "1c", "1d", "c" ALL, A_LOCK),
	ALU("and", "4", "20", "21", "22", "23", "24", "25", LOGIC, A_LOCK),
	ALU("sub", "5", "28", "29", "2a", "2b", "2c", "2d", ALL, A_LOCK),
	ALU("xor", "6", "30", "31", "32", "33", "34", "35", LOGIC, A_LOCK),
	ALU("cmp", "7", "38", "39", "3a", "3b", "3c", "3d", ALL, A_READ),
	{ "test Eb,Gb", "84", LOGIC, A_READ },
	{ "test Ev,Gv", "85", LOGIC, A_READ },
	{ "test AL,Ib", "a8", LOGIC, A_READ },
	{ "test rAX,Iz", "a9", LOGIC, A_READ },
	{ "test Eb,Ib", "f6 /0", LOGIC, A_READ },
	{ "test Ev,Iz", "f7 /0", LOGIC, A_READ },
	{ "test Eb,Ib", "f6 /1", LOGIC, A_READ },
	{ "test Ev,Iz", "f7 /1", LOGIC, A_READ },
	UNARY("inc", "0", "fe", "ff", ">oszap"),
	UNARY("dec", "1", "fe", "ff", ">oszap"),
	UNARY("not", "2", "f6", "f7", ""),
	UNARY("neg", "3", "f6", "f7", ALL),
	{ "inc Zv", "40", ">oszap", A_NO64 },
	{ "dec Zv", "48", ">oszap", A_NO64 },
	SHIFT("rol", "0", "rotate"),
	SHIFT("ror", "1", "rotate"),
	SHIFT("rcl", "2", "carry rotate"),
	SHIFT("rcr", "3", "carry rotate"),
	SHIFT("shl", "4", "shift"),
	SHIFT("shr", "5", "shift"),
	SHIFT("sal", "6", "shift"),
	SHIFT("sar", "7", "shift"),
	{ "shld Ev,Gv,Ib", "0f a4", "double", A_SMALL16 },
	{ "shld Ev,Gv,CL", "0f a5", "double", A_SMALL16, 0, tweak_count },
	{ "shrd Ev,Gv,Ib", "0f ac", "double", A_SMALL16 },
	{ "shrd Ev,Gv,CL", "0f ad", "double", A_SMALL16, 0, tweak_count },
	{ "mul Eb", "f6 /4", ">oc?szap", A_READ, AX },
	{ "mul Ev", "f7 /4", ">oc?szap", A_READ, AX | DX },
	{ "imul Eb", "f6 /5", ">oc?szap", A_READ, AX },
	{ "imul Ev", "f7 /5", ">oc?szap", A_READ, AX | DX },
	{ "div Eb", "f6 /6", ">?oszapc", A_READ | A_RARE, AX, tweak_divide },
	{ "div Ev", "f7 /6", ">?oszapc", A_READ | A_RARE, AX | DX, tweak_divide },
	{ "idiv Eb", "f6 /7", ">?oszapc", A_READ | A_RARE, AX, tweak_divide },
	{ "idiv Ev", "f7 /7", ">?oszapc", A_READ | A_RARE, AX | DX, tweak_divide },
	{ "imul Gv,Ev", "0f af", ">oc?szap" },
	{ "imul Gv,Ev,Iz", "69", ">oc?szap" },
	{ "imul Gv,Ev,Ib", "6b", ">oc?szap" },
	{ "cbw v", "98", "", 0, AX },
	{ "cwd v", "99", "", 0, DX },
	BIT("bt", "4", "0f a3", A_READ),
	BIT("bts", "5", "0f ab", A_LOCK),
	BIT("btr", "6", "0f b3", A_LOCK),
	BIT("btc", "7", "0f bb", A_LOCK),
	{ "bsf Gv,Ev", "0f bc", ">z?oscap" },
	{ "bsr Gv,Ev", "0f bd", ">z?oscap" },
	{ "bswap Zv", "0f c8", "" },
	CC(SETCC) CC(CMOV) CC(JCC){ "xadd Eb,Gb", "0f c0", ALL, A_LOCK | A_BOTH },
	{ "xadd Ev,Gv", "0f c1", ALL, A_LOCK | A_BOTH },
	{ "cmpxchg Eb,Gb", "0f b0", ALL, A_LOCK, AX, tweak_compare },
	{ "cmpxchg Ev,Gv", "0f b1", ALL, A_LOCK, AX, tweak_compare },
	{ "cmpxchg8b/16b Mo", "0f c7 /1", ">z", A_LOCK, AX | DX, tweak_compare_pair },
	/* --- moves --- */
	{ "mov Eb,Gb", "88", "" },
	{ "mov Ev,Gv", "89", "" },
	{ "mov Gb,Eb", "8a", "" },
	{ "mov Gv,Ev", "8b", "" },
	{ "mov AL,Ob", "a0", "", 0, AX },
	{ "mov rAX,Ov", "a1", "", 0, AX },
	{ "mov Ob,AL", "a2", "" },
	{ "mov Ov,rAX", "a3", "" },
	{ "mov Zb,Ib", "b0", "" },
	{ "mov Zv,Iv", "b8", "" },
	{ "mov Eb,Ib", "c6 /0", "" },
	{ "mov Ev,Iz", "c7 /0", "" },
	{ "xchg Eb,Gb", "86", "", A_LOCK | A_BOTH },
	{ "xchg Ev,Gv", "87", "", A_LOCK | A_BOTH },
	{ "xchg Zv,rAX", "90", "", 0, AX },
	{ "lea Gv,M", "8d", "" },
	{ "movsxd Gv,Ed", "63", "", A_ONLY64 },
	{ "movzx Gv,Eb", "0f b6", "" },
	{ "movzx Gv,Ew", "0f b7", "" },
	{ "movsx Gv,Eb", "0f be", "" },
	{ "movsx Gv,Ew", "0f bf", "" },
	{ "movnti My,Gy", "0f c3", "" },
	{ "xlat", "d7", "", A_BX, AX },
	{ "sahf", "9e", ">szapc" },
	{ "lahf", "9f", "szapc>", 0, AX },
	{ "cmc", "f5", "c>c" },
	{ "clc", "f8", ">c" },
	{ "stc", "f9", ">c" },
	{ "cld", "fc", "", A_CLD },
	{ "std", "fd", "", A_STD },
	{ "nop", "90", "" },
	{ "pause", "f3 90", "" },
	{ "prefetchw Eb", "0f 0d", "", A_READ },
	{ "prefetch Mb", "0f 18", "", A_READ },
	{ "nop Ev", "0f 19", "", A_READ },
	{ "nop Ev", "0f 1f", "", A_READ },
	{ "endbr64", "f3 0f 1e fa", "" },
	/* --- stack --- */
	{ "push Zv", "50", "", A_D64 | A_READ | A_STACK },
	{ "pop Zv", "58", "", A_D64 | A_STACK },
	{ "push Iz", "68", "", A_D64 | A_READ | A_STACK },
	{ "push Ib", "6a", "", A_D64 | A_READ | A_STACK },
	{ "push Ev", "ff /6", "", A_D64 | A_READ | A_STACK },
	{ "pop Ev", "8f /0", "", A_D64 | A_STACK },
	{ "pusha v", "60", "", A_NO64 | A_STACK },
	{ "popa v", "61", "", A_NO64 | A_STACK | A_PARTIAL, AX | CX | DX | BX | BP | SI | DI },
	{ "pushf v", "9c", "oszapc>", A_D64 | A_STACK },
	{ "popf v", "9d", ALL, A_D64 | A_STACK | A_SINGLE, 0, tweak_flags },
	{ "enter Iw,Ib", "c8", "", A_D64 | A_STACK | A_BP | A_RARE, BP | SP },
	{ "leave v", "c9", "", A_D64 | A_BP, BP | SP },
	/* --- decimal --- */
	{ "daa", "27", "ac>szapc?o", A_NO64, AX, tweak_bcd },
	{ "das", "2f", "ac>szapc?o", A_NO64, AX, tweak_bcd },
	{ "aaa", "37", "a>ac?oszp", A_NO64, AX, tweak_bcd },
	{ "aas", "3f", "a>ac?oszp", A_NO64, AX, tweak_bcd },
	{ "aam Ib", "d4", ">szp?oac", A_NO64 | A_READ, AX },
	{ "aad Ib", "d5", ">szp?oac", A_NO64 | A_READ, AX },
	{ "salc", "d6", "c>", A_NO64, AX },
	{ "bound Gv,Ma", "62", "", A_NO64 | A_READ | A_RARE, 0, tweak_bounds },
	{ "arpl Ew,Gw", "63", ">z", A_NO64 },
	/* --- branches --- */
	{ "jmp Jb", "eb", "", A_F64 },
	{ "jmp Jz", "e9", "", A_F64 },
	{ "call Jz", "e8", "", A_F64 | A_STACK },
	{ "call Ev", "ff /2", "", A_F64 | A_STACK | A_READ | A_SINGLE, 0, tweak_target },
	{ "jmp Ev", "ff /4", "", A_F64 | A_READ | A_SINGLE, 0, tweak_target },
	{ "ret Iw", "c2", "", A_F64 | A_STACK | A_READ | A_SINGLE, 0, tweak_return },
	{ "ret v", "c3", "", A_F64 | A_STACK | A_SINGLE, 0, tweak_return },
	{ "jmpf Mp", "ff /5", "", A_READ | A_SINGLE, 0, tweak_far },
	{ "callf Mp", "ff /3", "", A_STACK | A_READ | A_SINGLE | A_PARTIAL, 0, tweak_far },
	{ "retf v,Iw", "ca", "", A_STACK | A_READ | A_SINGLE | A_PARTIAL, 0, tweak_far_return },
	{ "retf v", "cb", "", A_STACK | A_SINGLE | A_PARTIAL, 0, tweak_far_return },
	{ "iret v", "cf", ALL, A_STACK | A_SINGLE | A_PARTIAL, 0, tweak_far_return },
	{ "loopne Jb", "e0", "z>", A_CX | A_F64, CX, tweak_count },
	{ "loope Jb", "e1", "z>", A_CX | A_F64, CX, tweak_count },
	{ "loop Jb", "e2", "", A_CX | A_F64, CX, tweak_count },
	{ "jrcxz Jb", "e3", "", A_CX | A_F64, 0, tweak_count },
	{ "int3", "cc", "", A_SINGLE },
	{ "int Ib", "cd", "", A_SINGLE | A_READ | A_INT },
	{ "into", "ce", "o>", A_NO64 | A_RARE },
	{ "ud2", "0f 0b", "", A_SINGLE },
	{ "ud1 Gv,Ev", "0f b9", "", A_SINGLE | A_READ },
	{ "ud0 Gv,Ev", "0f ff", "", A_SINGLE | A_READ },
	/* --- strings --- */
	{ "movsb", "a4", "", A_SI | A_DI | A_REP, 0, tweak_count },
	{ "movs v", "a5", "", A_SI | A_DI | A_REP, 0, tweak_count },
	{ "cmpsb", "a6", ALL, A_SI | A_DI | A_REP | A_ORDER, 0, tweak_count },
	{ "cmps v", "a7", ALL, A_SI | A_DI | A_REP | A_ORDER, 0, tweak_count },
	{ "stosb", "aa", "", A_DI | A_REP, 0, tweak_count },
	{ "stos v", "ab", "", A_DI | A_REP, 0, tweak_count },
	{ "lodsb", "ac", "", A_SI | A_REP, AX, tweak_count },
	{ "lods v", "ad", "", A_SI | A_REP, AX, tweak_count },
	{ "scasb", "ae", ALL, A_DI | A_REP, 0, tweak_count },
	{ "scas v", "af", ALL, A_DI | A_REP, 0, tweak_count },
	/* --- segments: Linux's selectors for user programs --- */
	{ "mov Rv,S", "8c", "" },
	{ "mov Mw,S", "8c", "" },
	{ "mov S,Ew", "8e", "", A_SINGLE | A_INSIDE | A_SEGMENTS | A_READ, 0, tweak_selector },
	{ "push ES", "06", "", A_NO64 | A_STACK | A_SINGLE },
	{ "push CS", "0e", "", A_NO64 | A_STACK | A_SINGLE },
	{ "push SS", "16", "", A_NO64 | A_STACK | A_SINGLE },
	{ "push DS", "1e", "", A_NO64 | A_STACK | A_SINGLE },
	{ "push FS", "0f a0", "", A_D64 | A_STACK | A_SINGLE },
	{ "push GS", "0f a8", "", A_D64 | A_STACK | A_SINGLE },
	{ "pop ES", "07", "", A_NO64 | A_STACK | A_SINGLE | A_SEGMENTS, 0, tweak_selector },
	{ "pop SS", "17", "", A_NO64 | A_STACK | A_SINGLE | A_SEGMENTS, 0, tweak_selector },
	{ "pop DS", "1f", "", A_NO64 | A_STACK | A_SINGLE | A_SEGMENTS, 0, tweak_selector },
	{ "pop FS", "0f a1", "", A_D64 | A_STACK | A_SINGLE | A_SEGMENTS, 0, tweak_selector },
	{ "pop GS", "0f a9", "", A_D64 | A_STACK | A_SINGLE | A_SEGMENTS, 0, tweak_selector },
	{ "les Gv,Mp", "c4", "", A_NO64 | A_SINGLE | A_INSIDE | A_SEGMENTS, 0, tweak_selector },
	{ "lds Gv,Mp", "c5", "", A_NO64 | A_SINGLE | A_INSIDE | A_SEGMENTS, 0, tweak_selector },
	{ "lss Gv,Mp", "0f b2", "", A_SINGLE | A_INSIDE | A_SEGMENTS, 0, tweak_selector },
	{ "lfs Gv,Mp", "0f b4", "", A_SINGLE | A_INSIDE | A_SEGMENTS, 0, tweak_selector },
	{ "lgs Gv,Mp", "0f b5", "", A_SINGLE | A_INSIDE | A_SEGMENTS, 0, tweak_selector },
	{ "verr Ew", "0f 00 /4", ">z", A_SINGLE | A_INSIDE | A_READ, 0, tweak_selector },
	{ "verw Ew", "0f 00 /5", ">z", A_SINGLE | A_INSIDE | A_READ, 0, tweak_selector },
	{ "lar Gv,Ew", "0f 02", ">z", A_SINGLE | A_INSIDE, 0, tweak_selector },
	{ "lsl Gv,Ew", "0f 03", ">z", A_SINGLE | A_INSIDE, 0, tweak_selector },
	{ "rdfsbase Ry", "f3 0f ae /0", "", A_ONLY64 },
	{ "rdgsbase Ry", "f3 0f ae /1", "", A_ONLY64 },
	{ "wrfsbase Ry", "f3 0f ae /2", "", A_ONLY64 | A_READ | A_SEGMENTS | A_SINGLE },
	{ "wrgsbase Ry", "f3 0f ae /3", "", A_ONLY64 | A_READ | A_SEGMENTS | A_SINGLE },
	/* --- what a user program may not do: the faults agree --- */
	{ "in AL,Ib", "e4", "", A_SINGLE | A_READ },
	{ "in eAX,Ib", "e5", "", A_SINGLE | A_READ },
	{ "out Ib,AL", "e6", "", A_SINGLE | A_READ },
	{ "out Ib,eAX", "e7", "", A_SINGLE | A_READ },
	{ "in AL,DX", "ec", "", A_SINGLE },
	{ "in eAX,DX", "ed", "", A_SINGLE },
	{ "out DX,AL", "ee", "", A_SINGLE },
	{ "out DX,eAX", "ef", "", A_SINGLE },
	{ "insb", "6c", "", A_SINGLE | A_DI | A_REP },
	{ "ins v", "6d", "", A_SINGLE | A_DI | A_REP },
	{ "outsb", "6e", "", A_SINGLE | A_SI | A_REP },
	{ "outs v", "6f", "", A_SINGLE | A_SI | A_REP },
	{ "cli", "fa", "", A_SINGLE },
	{ "sti", "fb", "", A_SINGLE },
	{ "hlt", "f4", "", A_SINGLE },
	{ "clts", "0f 06", "", A_SINGLE },
	{ "invd", "0f 08", "", A_SINGLE },
	{ "wbinvd", "0f 09", "", A_SINGLE },
	{ "rdmsr", "0f 32", "", A_SINGLE },
	{ "wrmsr", "0f 30", "", A_SINGLE },
	{ "rdpmc", "0f 33", "", A_SINGLE },
	{ "lgdt M", "0f 01 /2", "", A_SINGLE | A_READ },
	{ "lidt M", "0f 01 /3", "", A_SINGLE | A_READ },
	{ "lmsw Ew", "0f 01 /6", "", A_SINGLE | A_READ },
	{ "invlpg Mb", "0f 01 /7", "", A_SINGLE | A_READ },
	{ "swapgs", "0f 01 f8", "", A_SINGLE | A_ONLY64 },
	{ "clac", "0f 01 ca", "", A_SINGLE },
	{ "stac", "0f 01 cb", "", A_SINGLE },
	{ "lldt Ew", "0f 00 /2", "", A_SINGLE | A_READ },
	{ "ltr Ew", "0f 00 /3", "", A_SINGLE | A_READ },
	{ "mov Rq,CR0", "0f 20 /0", "", A_SINGLE | A_FORCED },
	{ "mov CR0,Rq", "0f 22 /0", "", A_SINGLE | A_FORCED | A_READ },
	{ "mov Rq,DR7", "0f 21 /7", "", A_SINGLE | A_FORCED },
	{ "mov DR7,Rq", "0f 23 /7", "", A_SINGLE | A_FORCED | A_READ },
	{ "invpcid Gq,Mx", "66 0f 38 82", "", A_SINGLE | A_READ | A_LOOSE },
};
const struct diff_rows diff_rows_int = { rows, ARRAY_LEN(rows) };
