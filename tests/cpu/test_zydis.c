/*
 * The decoder against Zydis: for millions of byte strings in each mode, whether they are an instruction, how long it
 * is, its operand and address sizes, registers, memory operand and immediates.
 *
 * Zydis knows extensions that the decoder may lack. Of such an extension (Zydis's ISA set) either every instruction
 * must be the same to both or none may be known to the decoder. What differs otherwise is in `explained`, with the
 * reason.
 *
 * VIREO_ZYDIS_ROUNDS  random strings for each mode, opcode and ModRM (default 2)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(HAVE_ZYDIS)

#include <Zydis/Zydis.h>

#include "base/bytes.h"
#include "cpu/x86/insn.h"
#include "diff_rng.h"

#define LENGTH 16 /* one more than an instruction may have */

static const struct {
	const char *name;
	ZydisMachineMode zydis;
	ZydisStackWidth stack;
	struct x86_decode_mode ours;
} modes[] = {
	{ "64-bit", ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64, { 64, false } },
	{ "32-bit", ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32, { 32, false } },
	{ "16-bit", ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16, { 16, false } },
	{ "real", ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16, { 16, true } },
};

/* What both say about one string. */
struct verdict {
	unsigned mode;
	const uint8_t *bytes;
	enum x86_decode_result r;
	struct x86_insn i;
	const struct x86_opdef *def;
	ZyanStatus status;
	ZydisDecodedInstruction z;
	ZydisDecodedOperand operand[ZYDIS_MAX_OPERAND_COUNT];
};

enum difference {
	SAME,
	ONLY_WE,    /* Zydis refuses it */
	ONLY_ZYDIS, /* we do */
	LENGTH_DIFFERS,
	ADDRESS_SIZE,
	OPERAND_SIZE,
	MEMORY,
	SEGMENT,
	REGISTER,
	IMMEDIATE,
	DIFFERENCES
};
static const char *const difference_names[DIFFERENCES] = { "same",	   "only we",	   "only Zydis", "length",
							   "address size", "operand size", "memory",	 "segment",
							   "register",	   "immediate" };

static const ZydisRegisterClass general[] = { ZYDIS_REGCLASS_GPR8, ZYDIS_REGCLASS_GPR16, ZYDIS_REGCLASS_GPR32,
					      ZYDIS_REGCLASS_GPR64 };

static bool is_general(ZydisRegister reg)
{
	for (unsigned n = 0; n < ARRAY_LEN(general); n++)
		if (ZydisRegisterGetClass(reg) == general[n])
			return true;
	return false;
}

static unsigned number(ZydisRegister reg)
{
	return (unsigned)ZydisRegisterGetId(reg);
}

/* As our decoder names a byte register: its offset among the general registers. */
static unsigned byte_offset(ZydisRegister reg)
{
	if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
		return (unsigned)(reg - ZYDIS_REGISTER_AH) * 8 + 1;
	if (reg >= ZYDIS_REGISTER_SPL)
		return (unsigned)(reg - ZYDIS_REGISTER_SPL + 4) * 8;
	return (unsigned)(reg - ZYDIS_REGISTER_AL) * 8;
}

static bool same_register(const struct verdict *v, const ZydisDecodedOperand *o)
{
	ZydisRegister reg = o->reg.value;
	bool in_reg = o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG;
	unsigned ours = in_reg ? v->i.reg : v->i.rm;

	if (ZydisRegisterGetClass(reg) == ZYDIS_REGCLASS_GPR8)
		return !(v->def->flags & (in_reg ? X86_D_BYTE_REG : X86_D_BYTE_RM)) || ours == byte_offset(reg);
	if (is_general(reg))
		return ours == number(reg);
	/* Eight of these: handlers take three bits. */
	if (ZydisRegisterGetClass(reg) == ZYDIS_REGCLASS_MMX || ZydisRegisterGetClass(reg) == ZYDIS_REGCLASS_X87 ||
	    ZydisRegisterGetClass(reg) == ZYDIS_REGCLASS_SEGMENT)
		return (ours & 7) == number(reg);
	return ours == number(reg);
}

static unsigned base_number(ZydisRegister reg)
{
	if (reg == ZYDIS_REGISTER_NONE)
		return X86_NOREG;
	return reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP ? X86_RIP : number(reg);
}

static bool same_memory(const struct verdict *v, const ZydisDecodedOperand *o)
{
	const ZydisDecodedOperandMem *m = &o->mem;
	int64_t disp = v->i.disp;

	if (base_number(m->base) == X86_RIP)
		disp -= v->i.len;
	return base_number(m->base) == v->i.base && base_number(m->index) == v->i.index &&
	       (m->index == ZYDIS_REGISTER_NONE || m->scale == 1u << v->i.scale) &&
	       (m->disp.has_displacement ? m->disp.value : 0) == disp;
}

static bool same_segment(const struct verdict *v, const ZydisDecodedOperand *o)
{
	static const uint8_t numbers[] = { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS };
	unsigned ours = v->i.seg, theirs = numbers[o->mem.segment - ZYDIS_REGISTER_ES];

	/* There, the others are all the same. */
	if (modes[v->mode].ours.bits == 64)
		return ours == theirs || (ours < X86_FS && theirs < X86_FS);
	return ours == theirs;
}

static bool same_immediate(const struct verdict *v)
{
	const struct ZydisDecodedInstructionRawImm_ *imm = v->z.raw.imm;
	uint64_t mask;

	if (!imm[0].size)
		return true;
	mask = size_mask(imm[0].size / 8);
	if (v->def->imm == X86_IMM_IS4)
		return v->i.ib == (imm[0].value.u >> 4 & (modes[v->mode].ours.bits == 64 ? 15 : 7));
	/* The immediate has become an address. */
	if (v->def->stub[0] || v->def->stub[1])
		return v->i.ib == imm[0].value.u;
	if (imm[1].size && v->def->imm == X86_IMM_ENTER)
		return v->i.imm == (imm[0].value.u | imm[1].value.u << 16);
	if (imm[1].size) /* a far pointer */
		return v->i.imm == (imm[0].value.u & mask) && v->i.disp == (int64_t)imm[1].value.u;
	return !((v->i.imm ^ imm[0].value.u) & mask);
}

static bool vector_or_x87(const struct verdict *v)
{
	return v->def->flags & X86_D_IGN66 || v->def->stub[0] || v->def->stub[1] ||
	       (v->def->map >= X86_MAP_VEX_0F &&
		/* In 16-bit code, Zydis 4.0 gives VEX 16-bit operands, which it has not. */
		(!(v->def->flags & X86_D_VEX_GPR) || modes[v->mode].ours.bits == 16)) ||
	       (v->def->map == X86_MAP_1 && (v->def->op & 0xf8) == 0xd8);
}

static enum difference compare_operands(const struct verdict *v)
{
	for (unsigned n = 0; n < v->z.operand_count; n++) {
		const ZydisDecodedOperand *o = &v->operand[n];
		bool by_modrm = o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG ||
				o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM ||
				o->encoding == ZYDIS_OPERAND_ENCODING_OPCODE;

		if (!by_modrm)
			continue;
		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && !same_register(v, o))
			return REGISTER;
		if (o->type != ZYDIS_OPERAND_TYPE_MEMORY)
			continue;
		if (v->i.flags & X86_I_REG || !same_memory(v, o))
			return MEMORY;
		if (o->mem.type == ZYDIS_MEMOP_TYPE_MEM && !same_segment(v, o))
			return SEGMENT;
	}
	return SAME;
}

static enum difference compare(const struct verdict *v)
{
	bool theirs = ZYAN_SUCCESS(v->status), ours = v->r == X86_DECODE_OK;

	if (ours != theirs)
		return ours ? ONLY_WE : ONLY_ZYDIS;
	if (!ours)
		return SAME;
	if (v->z.length != v->i.len)
		return LENGTH_DIFFERS;
	if (v->z.address_width != 64 - v->i.ashift)
		return ADDRESS_SIZE;
	/* 8: of bytes. Vectors and x87 have none. */
	if (!vector_or_x87(v) && v->z.operand_width > 8 && v->z.operand_width != 8 * v->i.opsize)
		return OPERAND_SIZE;
	if (!same_immediate(v))
		return IMMEDIATE;
	return compare_operands(v);
}

/* --- what may differ --- */

#define ANY_MAP 0xff
#define ANY	0
struct explanation {
	enum difference d;
	uint8_t map, op, last; /* opcodes; Zydis's when only it knows the instruction (maps have the same numbers) */
	uint32_t zydis;	       /* its ISA set for ONLY_ZYDIS; else its status, or ANY */
	const char *why;
};
static const struct explanation explained[] = {
	{ ONLY_WE, X86_MAP_0F, 0x20, 0x23, ZYDIS_STATUS_BAD_REGISTER, "the handler raises #UD for such a register" },
	{ ONLY_WE, X86_MAP_1, 0x8c, 0x8e, ZYDIS_STATUS_BAD_REGISTER, "the handler raises #UD for such a register" },
	{ ONLY_WE, X86_MAP_0F, 0x07, 0x07, ZYDIS_STATUS_DECODING_ERROR, "SYSRET: the handler raises #UD in real mode" },
	{ ONLY_WE, X86_MAP_0F, 0x34, 0x35, ZYDIS_STATUS_DECODING_ERROR,
	  "SYSENTER and SYSEXIT are #GP in real mode, not #UD (SDM vol. 2)" },
	{ ONLY_WE, X86_MAP_0F, 0x01, 0x01, ZYDIS_STATUS_DECODING_ERROR,
	  "VMCALL, VMMCALL: a prefix does not matter (as on an AMD Zen 5)" },
	{ ONLY_WE, X86_MAP_VEX_0F38, 0x90, 0x93, ANY,
	  "gathers: the handler raises #UD when a register is there twice" },
	{ ONLY_ZYDIS, X86_MAP_0F, 0x0d, 0x0d, ZYDIS_ISA_SET_PREFETCH_NOP,
	  "PREFETCH of a register: a NOP for Intel, #UD for AMD (APM vol. 3; so on a Zen 5)" },
	{ ONLY_ZYDIS, X86_MAP_0F3A, 0x16, 0x22, ZYDIS_ISA_SET_AVX,
	  "VPEXTRQ, VPINSRQ outside of 64-bit mode: #UD (so on an AMD Zen 5)" },
	{ ONLY_ZYDIS, ANY_MAP, 0, 0xff, ZYDIS_ISA_SET_VTX, "there is no VMX, only its hypercall" },
	{ ONLY_ZYDIS, ANY_MAP, 0, 0xff, ZYDIS_ISA_SET_SVM, "there is no SVM, only its hypercall" },
	{ OPERAND_SIZE, X86_MAP_0F, 0x01, 0x01, ANY, "LGDT, LIDT have one size in each mode; not used" },
	{ OPERAND_SIZE, X86_MAP_0F, 0x05, 0x05, ANY, "SYSCALL has none; not used" },
	{ OPERAND_SIZE, X86_MAP_0F, 0x1e, 0x1e, ANY, "a NOP has none; Zydis sees the RDSSP that it may be" },
	{ OPERAND_SIZE, X86_MAP_0F, 0xc7, 0xc7, ANY, "CMPXCHG8B: 66 does not matter; REX.W is used alone" },
	{ OPERAND_SIZE, X86_MAP_0F38, 0x82, 0x82, ANY, "INVPCID has one size in each mode; not used" },
	{ OPERAND_SIZE, X86_MAP_1, 0xe5, 0xe7, ANY, "IN, OUT: the handler takes 8 for 4" },
	{ OPERAND_SIZE, X86_MAP_1, 0xed, 0xef, ANY, "IN, OUT: the handler takes 8 for 4" },
};

/* These instructions are there: none of them may vanish. */
static const ZydisISASet present[] = {
	ZYDIS_ISA_SET_I86,	    ZYDIS_ISA_SET_I186,	      ZYDIS_ISA_SET_I286REAL,	 ZYDIS_ISA_SET_I286PROTECTED,
	ZYDIS_ISA_SET_I386,	    ZYDIS_ISA_SET_I486REAL,   ZYDIS_ISA_SET_PENTIUMREAL, ZYDIS_ISA_SET_PENTIUMMMX,
	ZYDIS_ISA_SET_PPRO,	    ZYDIS_ISA_SET_CMOV,	      ZYDIS_ISA_SET_FCMOV,	 ZYDIS_ISA_SET_X87,
	ZYDIS_ISA_SET_SSE,	    ZYDIS_ISA_SET_SSE2,	      ZYDIS_ISA_SET_SSE2MMX,	 ZYDIS_ISA_SET_SSEMXCSR,
	ZYDIS_ISA_SET_SSE_PREFETCH, ZYDIS_ISA_SET_FXSAVE,     ZYDIS_ISA_SET_FXSAVE64,	 ZYDIS_ISA_SET_XSAVE,
	ZYDIS_ISA_SET_XSAVEC,	    ZYDIS_ISA_SET_XSAVEOPT,   ZYDIS_ISA_SET_CMPXCHG16B,	 ZYDIS_ISA_SET_LONGMODE,
	ZYDIS_ISA_SET_LAHF,	    ZYDIS_ISA_SET_PAUSE,      ZYDIS_ISA_SET_FAT_NOP,	 ZYDIS_ISA_SET_RDPMC,
	ZYDIS_ISA_SET_SMAP,	    ZYDIS_ISA_SET_RDWRFSGS,   ZYDIS_ISA_SET_INVPCID,	 ZYDIS_ISA_SET_CLFSH,
	ZYDIS_ISA_SET_AMD,	    ZYDIS_ISA_SET_SSE3,	      ZYDIS_ISA_SET_SSE3X87,	 ZYDIS_ISA_SET_SSSE3,
	ZYDIS_ISA_SET_SSSE3MMX,	    ZYDIS_ISA_SET_SSE4,	      ZYDIS_ISA_SET_SSE42,	 ZYDIS_ISA_SET_AES,
	ZYDIS_ISA_SET_PCLMULQDQ,    ZYDIS_ISA_SET_SHA,	      ZYDIS_ISA_SET_AVX,	 ZYDIS_ISA_SET_AVX2,
	ZYDIS_ISA_SET_AVX2GATHER,   ZYDIS_ISA_SET_AVXAES,     ZYDIS_ISA_SET_FMA,	 ZYDIS_ISA_SET_F16C,
	ZYDIS_ISA_SET_BMI1,	    ZYDIS_ISA_SET_BMI2,	      ZYDIS_ISA_SET_LZCNT,	 ZYDIS_ISA_SET_POPCNT,
	ZYDIS_ISA_SET_MOVBE,	    ZYDIS_ISA_SET_ADOX_ADCX,  ZYDIS_ISA_SET_RDRAND,	 ZYDIS_ISA_SET_RDSEED,
	ZYDIS_ISA_SET_RDPID,	    ZYDIS_ISA_SET_CLFLUSHOPT, ZYDIS_ISA_SET_CLWB,
};

/* --- the run --- */

struct sample {
	unsigned mode;
	uint8_t bytes[LENGTH];
};

struct run {
	ZydisDecoder decoder[ARRAY_LEN(modes)];
	uint64_t strings, valid, different;
	uint64_t used[ARRAY_LEN(explained)];
	uint64_t same[ZYDIS_ISA_SET_MAX_VALUE + 1], refused[ZYDIS_ISA_SET_MAX_VALUE + 1];
	struct sample sample[ZYDIS_ISA_SET_MAX_VALUE + 1]; /* of what we refuse */
};

static void print_sample(const char *what, const char *set, unsigned mode, const uint8_t *bytes)
{
	fprintf(stderr, "%s, %s, %s:", modes[mode].name, what, set);
	for (unsigned n = 0; n < LENGTH; n++)
		fprintf(stderr, " %02x", bytes[n]);
	fputc('\n', stderr);
}

/* Zydis 4.0 takes mod 0, SIB base 101b for R13D and no displacement when it finds 67 and REX.B or VEX.B. */
static bool forgotten_displacement(const struct verdict *v)
{
	return v->z.address_width == 32 && modes[v->mode].ours.bits == 64 && v->z.raw.modrm.mod == 0 &&
	       v->z.raw.modrm.rm == 4 && v->z.raw.sib.base == 5 &&
	       ((v->z.attributes & ZYDIS_ATTRIB_HAS_REX && v->z.raw.rex.B) || v->z.attributes & ZYDIS_ATTRIB_HAS_VEX);
}

static bool explains(const struct explanation *e, const struct verdict *v, enum difference d)
{
	if (e->d != d)
		return false;
	if (d == ONLY_ZYDIS)
		return e->zydis == v->z.meta.isa_set && (e->map == ANY_MAP || e->map == v->z.opcode_map) &&
		       v->z.opcode >= e->op && v->z.opcode <= e->last;
	return e->map == v->def->map && v->i.op >= e->op && v->i.op <= e->last &&
	       (e->zydis == ANY || e->zydis == v->status);
}

static bool is_explained(struct run *run, const struct verdict *v, enum difference d)
{
	if (d == MEMORY && forgotten_displacement(v))
		return true;
	for (unsigned n = 0; n < ARRAY_LEN(explained); n++) {
		if (explains(&explained[n], v, d)) {
			run->used[n]++;
			return true;
		}
	}
	return false;
}

static void try_string(struct run *run, unsigned mode, const uint8_t *bytes)
{
	struct verdict v = { .mode = mode, .bytes = bytes };
	enum difference d;

	v.r = x86_decode(bytes, LENGTH, modes[mode].ours, &v.i, &v.def);
	v.status = ZydisDecoderDecodeFull(&run->decoder[mode], bytes, LENGTH, &v.z, v.operand);
	d = compare(&v);
	run->strings++;
	run->valid += v.r == X86_DECODE_OK;
	if (d == SAME) {
		if (v.r == X86_DECODE_OK)
			run->same[v.z.meta.isa_set]++;
		return;
	}
	if (is_explained(run, &v, d))
		return;
	if (d == ONLY_ZYDIS) {
		struct sample *s = &run->sample[v.z.meta.isa_set];

		if (!run->refused[v.z.meta.isa_set]++) {
			s->mode = mode;
			memcpy(s->bytes, bytes, LENGTH);
		}
		return;
	}
	if (run->different++ < 20)
		print_sample(difference_names[d], v.def->name, mode, bytes);
}

static uint8_t any_prefix(struct rng *r, unsigned mode)
{
	static const uint8_t prefixes[] = { 0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65 };

	if (mode == 0 && !rng_below(r, 4))
		return (uint8_t)(0x40 | rng_below(r, 16)); /* a REX that others follow */
	return prefixes[rng_below(r, sizeof(prefixes))];
}

/* `n` prefixes, or a single one of those that select instructions, then perhaps REX. */
static unsigned put_prefixes(struct rng *r, unsigned mode, unsigned n, uint8_t single, uint8_t *to)
{
	unsigned at = 0;

	if (single)
		to[at++] = single;
	while (n--)
		to[at++] = any_prefix(r, mode);
	if (mode == 0 && rng_below(r, 2))
		to[at++] = (uint8_t)(0x40 | rng_below(r, 16));
	return at;
}

/* What leads to an opcode of the map; VEX has two or three bytes. */
static unsigned put_map(struct rng *r, unsigned map, uint8_t *to)
{
	/* Mostly no register in vvvv. */
	uint8_t last = (uint8_t)(rng_next(r) | (rng_below(r, 3) ? 0x78 : 0));

	switch (map) {
	case X86_MAP_1:
		return 0;
	case X86_MAP_0F:
		to[0] = 0x0f;
		return 1;
	case X86_MAP_0F38:
	case X86_MAP_0F3A:
		to[0] = 0x0f;
		to[1] = map == X86_MAP_0F38 ? 0x38 : 0x3a;
		return 2;
	default:
		if (map == X86_MAP_VEX_0F && rng_below(r, 2)) {
			to[0] = 0xc5;
			to[1] = last | (rng_below(r, 2) ? 0x80 : 0);
			return 2;
		}
		to[0] = 0xc4;
		to[1] = (uint8_t)((rng_next(r) | (rng_below(r, 2) ? 0xe0 : 0)) & 0xe0) |
			(uint8_t)(map - X86_MAP_VEX_0F + 1);
		to[2] = last;
		return 3;
	}
}

static void try_opcode(struct run *run, struct rng *r, unsigned mode, uint32_t code)
{
	static const uint8_t singles[] = { 0, 0x66, 0xf2, 0xf3, 0xf0 };
	const char *env = getenv("VIREO_ZYDIS_ROUNDS");
	unsigned rounds = ARRAY_LEN(singles) + (env ? (unsigned)atoi(env) : 2), map = code >> 16;

	for (unsigned n = 0; n < rounds; n++) {
		uint8_t bytes[48];
		unsigned at;

		if (n < ARRAY_LEN(singles))
			at = put_prefixes(r, mode, 0, singles[n], bytes);
		else /* seldom so many that it becomes too long */
			at = put_prefixes(r, mode, rng_below(r, rng_below(r, 8) ? 4 : 16), 0, bytes);
		at += put_map(r, map, bytes + at);
		bytes[at++] = (uint8_t)(code >> 8);
		bytes[at++] = (uint8_t)code;
		for (unsigned k = 0; k < 2; k++, at += 8) {
			uint64_t x = rng_next(r);

			memcpy(bytes + at, &x, 8);
		}
		try_string(run, mode, bytes);
	}
}

static unsigned judge(const struct run *run)
{
	unsigned wrong = 0;

	for (unsigned n = 0; n < ARRAY_LEN(explained); n++) {
		if (!run->used[n]) {
			fprintf(stderr, "there is no such difference: %s\n", explained[n].why);
			wrong++;
		}
	}
	for (unsigned n = 0; n < ARRAY_LEN(present); n++) {
		if (!run->same[present[n]]) {
			fprintf(stderr, "none of %s is known\n", ZydisISASetGetString(present[n]));
			wrong++;
		}
	}
	for (unsigned set = 0; set <= ZYDIS_ISA_SET_MAX_VALUE; set++) {
		const struct sample *s = &run->sample[set];

		/* Whole or absent. */
		if (run->same[set] && run->refused[set]) {
			print_sample("only Zydis", ZydisISASetGetString(set), s->mode, s->bytes);
			wrong++;
		}
	}
	return wrong;
}

static void print_sets(const struct run *run)
{
	printf("absent:");
	for (unsigned set = 0; set <= ZYDIS_ISA_SET_MAX_VALUE; set++)
		if (run->refused[set] && !run->same[set])
			printf(" %s", ZydisISASetGetString(set));
	printf("\n%llu strings, %llu instructions, %llu unexplained differences\n", (unsigned long long)run->strings,
	       (unsigned long long)run->valid, (unsigned long long)run->different);
}

static void the_decoder_agrees_with_zydis(void **state)
{
	struct run *run = calloc(1, sizeof(*run));
	struct rng r = { 1 };

	assert_non_null(run);
	x86_decode_init();
	for (unsigned m = 0; m < ARRAY_LEN(modes); m++) {
		ZydisDecoder *z = &run->decoder[m];

		assert_true(ZYAN_SUCCESS(ZydisDecoderInit(z, modes[m].zydis, modes[m].stack)));
		/* What these turn hints and NOPs into. */
		ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
		ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
		ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
		for (uint32_t code = 0; code < X86_MAPS << 16; code++)
			try_opcode(run, &r, m, code);
	}
	print_sets(run);
	assert_int_equal(run->different, 0);
	assert_int_equal(judge(run), 0);
	free(run);
}

#else

static void the_decoder_agrees_with_zydis(void **state)
{
	puts("skipped: built without Zydis (libzydis-dev)");
	skip();
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_decoder_agrees_with_zydis),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
