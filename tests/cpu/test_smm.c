/* System management mode. SDM vol. 3, chapter 34; AMD APM vol. 2, chapter 10. */
#include "rig.h"

#include <string.h>

#include "base/bytes.h"

#define SMBASE 0x30000u
#define AREA   (SMBASE + 0xfe00u)

static struct rig r;

static int setup(void **state)
{
	rig_new(&r, RIG_LONG, NULL);
	return 0;
}

static int teardown(void **state)
{
	rig_free(&r);
	return 0;
}

/* What runs in system management mode. */
#define HANDLER(...)                                                                                                   \
	do {                                                                                                           \
		static const uint8_t handler_[] = { __VA_ARGS__ };                                                     \
		rig_put(&r, SMBASE + 0x8000, handler_, sizeof(handler_));                                              \
	} while (0)
#define RSM 0x0f, 0xaa
#define HLT 0xf4
/* inc word [A00h], in whatever segment DS is. */
#define COUNT 0xff, 0x06, 0x00, 0x0a

static void smi(enum rig_mode mode)
{
	rig_reset(&r, mode);
	rig_write(&r, 0xa00, 0, 4);
	r.s.smi_pending = true;
}

/* After the HLT of a handler. */
static void go_on(void)
{
	r.s.run = X86_RUNNING;
	rig_run(&r);
}

#define SAME(field) assert_memory_equal(&a->field, &b->field, sizeof(a->field))
static void same_state(const struct x86_state *a, const struct x86_state *b)
{
	SAME(gpr);
	for (unsigned n = 0; n < X86_SEGS; n++) {
		SAME(seg[n].base);
		SAME(seg[n].limit);
		SAME(seg[n].sel);
		SAME(seg[n].attr);
		SAME(seg[n].unusable);
	}
	SAME(gdt.base);
	SAME(gdt.limit);
	SAME(idt.base);
	SAME(idt.limit);
	SAME(rflags);
	SAME(cr0);
	SAME(cr2);
	SAME(cr3);
	SAME(cr4);
	SAME(efer);
	SAME(dr);
	SAME(dr6);
	SAME(dr7);
	SAME(run);
	SAME(nmi_blocked);
	SAME(smm);
	SAME(smbase);
}

static void everything_comes_back_in_every_mode(void **state)
{
	for (enum rig_mode mode = RIG_LONG; mode <= RIG_V86; mode++) {
		struct x86_state without;

		for (unsigned pass = 0; pass < 2; pass++) {
			smi(mode);
			r.s.smi_pending = pass;
			for (unsigned n = 0; n < 16; n++)
				if (n != X86_RSP)
					r.s.gpr[n] = 0x0101010101010101ull * (n + 1) >> (mode == RIG_LONG ? 0 : 32);
			r.s.rflags |= X86_CF | X86_DF | X86_AF;
			r.s.dr7 = 0x400;
			/* mov ax, 1234h; mov cx, ax; mov cr0 anew; lgdt, lidt [0]; the flags; RSM */
			HANDLER(0xb8, 0x34, 0x12, 0x89, 0xc1, 0x0f, 0x20, 0xc0, 0x0f, 0x22, 0xc0, 0x0f, 0x01, 0x16, 0,
				0, 0x0f, 0x01, 0x1e, 0, 0, 0x31, 0xc0, 0xfc, COUNT, RSM);
			/* mov bl, 5; then HLT, or #GP in virtual-8086 mode */
			RIG_EXEC(&r, 0xb3, 5);
			if (!pass)
				without = r.s;
		}
		assert_int_equal(rig_read(&r, 0xa00, 2), 1);
		same_state(&r.s, &without);
		assert_int_equal(r.s.gpr[X86_RBX] & 0xff, 5);
	}
}

static void it_begins_like_real_mode_with_large_segments(void **state)
{
	smi(RIG_LONG);
	r.s.rflags |= X86_IF | X86_CF;
	HANDLER(HLT);
	RIG_EXEC(&r, 0x90);
	assert_true(r.s.smm && r.s.run == X86_HALTED && r.s.nmi_blocked);
	assert_int_equal(r.s.gpr[X86_RIP], 0x8001);
	assert_int_equal(r.s.seg[X86_CS].sel, 0x3000);
	assert_int_equal(r.s.seg[X86_CS].base, SMBASE);
	assert_int_equal(r.s.seg[X86_DS].sel, 0);
	for (unsigned n = 0; n <= X86_GS; n++)
		assert_int_equal(r.s.seg[n].limit, 0xffffffff);
	assert_int_equal(r.s.cr0, X86_CR0_ET | X86_CR0_NE);
	assert_int_equal(r.s.cr4, 0);
	assert_int_equal(r.s.efer, 0);
	assert_int_equal(r.s.rflags, 2);
	assert_int_equal(r.s.dr7, 0x400);
	/* It reaches all of memory: mov dword [200000h], 12345678h with both prefixes. */
	smi(RIG_PROT32);
	HANDLER(0x66, 0x67, 0xc7, 0x05, 0, 0, 0x20, 0, 0x78, 0x56, 0x34, 0x12, RSM);
	RIG_EXEC(&r, 0x90);
	assert_int_equal(rig_read(&r, 0x200000, 4), 0x12345678);
}

static void the_layout_of_long_mode(void **state)
{
	static const struct {
		uint16_t at;
		uint8_t size;
		uint64_t v;
	} fields[] = {
		{ 0x178, 8, RIG_CODE }, { 0x170, 8, 0x203 },	   { 0x1f8, 8, 0x1122334455667788 },
		{ 0x180, 8, 15 },	{ 0x1d8, 8, RIG_STACK },   { 0x158, 8, 0x80000031 },
		{ 0x150, 8, RIG_CR3 },	{ 0x148, 8, X86_CR4_PAE }, { 0x0d0, 8, 0x500 },
		{ 0x0fc, 4, 0x20064 },	{ 0x100, 4, SMBASE },	   { 0x010, 2, RIG_CODE64 },
		{ 0x012, 2, 0xa09b },	{ 0x014, 4, 0xffffffff },  { 0x048, 8, 0x123456789000 },
		{ 0x064, 2, 0xff },	{ 0x068, 8, RIG_GDT },	   { 0x084, 2, 0xfff },
		{ 0x088, 8, RIG_IDT },	{ 0x090, 2, RIG_TASK },	   { 0x098, 8, RIG_TSS },
		{ 0x160, 8, 0x400 },	{ 0x168, 8, 0xffff0ff0 },
	};

	smi(RIG_LONG);
	r.s.gpr[X86_RAX] = 0x1122334455667788;
	r.s.gpr[15] = 15;
	r.s.rflags |= X86_CF | X86_IF;
	r.s.seg[X86_FS].base = 0x123456789000;
	HANDLER(HLT);
	RIG_EXEC(&r, 0x90);
	for (size_t n = 0; n < ARRAY_LEN(fields); n++)
		assert_int_equal(rig_read(&r, AREA + fields[n].at, fields[n].size), fields[n].v);
	/* What the handler changes there is what comes back. */
	rig_write(&r, AREA + 0x1f8, 77, 8);
	rig_write(&r, AREA + 0x048, 0x9000, 8);
	HANDLER(HLT, RSM);
	go_on();
	assert_false(r.s.smm);
	assert_int_equal(rig_reg(&r, X86_RAX), 77);
	assert_int_equal(r.s.seg[X86_FS].base, 0x9000);
}

static void the_layout_without_long_mode(void **state)
{
	static const struct {
		uint16_t at;
		uint8_t size;
		uint64_t v;
	} fields[] = {
		{ 0x1f0, 4, RIG_CODE }, { 0x1d0, 4, 0x11223344 }, { 0x1e0, 4, RIG_STACK }, { 0x1f4, 4, 3 },
		{ 0x1fc, 4, 0x31 },	{ 0x0fc, 4, 0x20000 },	  { 0x0f8, 4, SMBASE },	   { 0x1ac, 4, RIG_CODE32 },
		{ 0x190, 2, 0xc09b },	{ 0x194, 4, 0xffffffff }, { 0x174, 4, RIG_GDT },   { 0x170, 4, 0xff },
		{ 0x158, 4, RIG_IDT },	{ 0x1c4, 4, RIG_TASK },	  { 0x164, 4, RIG_TSS },   { 0x1b4, 4, RIG_DATA },
	};
	struct rig old = r;

	rig_new(&r, RIG_PROT32, "max,-lm");
	smi(RIG_PROT32);
	mem_fill(r.vm.mem, gpa(AREA), 0, 512);
	r.s.gpr[X86_RAX] = 0x11223344;
	r.s.rflags |= X86_CF;
	HANDLER(HLT);
	RIG_EXEC(&r, 0x90);
	for (size_t n = 0; n < ARRAY_LEN(fields); n++)
		assert_int_equal(rig_read(&r, AREA + fields[n].at, fields[n].size), fields[n].v);
	rig_write(&r, AREA + 0x1d0, 77, 4);
	HANDLER(HLT, RSM);
	go_on();
	assert_false(r.s.smm);
	assert_int_equal(rig_reg(&r, X86_RAX), 77);
	assert_int_equal(r.s.seg[X86_CS].sel, RIG_CODE32);
	rig_free(&r);
	r = old;
}

static void smbase_moves(void **state)
{
	static const uint8_t there[] = { COUNT, RSM };

	smi(RIG_LONG);
	/* mov dword [3ff00h], 50000h */
	HANDLER(0x66, 0x67, 0xc7, 0x05, 0x00, 0xff, 0x03, 0x00, 0x00, 0x00, 0x05, 0x00, RSM);
	rig_put(&r, 0x58000, there, sizeof(there));
	RIG_EXEC(&r, 0x90);
	assert_int_equal(r.s.smbase, 0x50000);
	assert_int_equal(rig_read(&r, 0xa00, 2), 0);
	r.s.smi_pending = true;
	r.s.gpr[X86_RIP] = RIG_CODE;
	RIG_EXEC(&r, 0x90);
	assert_int_equal(rig_read(&r, 0xa00, 2), 1);
	assert_int_equal(rig_read(&r, 0x5ff00, 4), 0x50000);
	/* Only a reset brings it back: not INIT. */
	x86_state_reset(&r.s, true, true);
	assert_int_equal(r.s.smbase, 0x50000);
}

/* SMRAM at A0000h, where there is other memory outside of SMM; code that was decoded on one side is not run on the
 * other. */
static void smram_is_a_place_of_its_own(void **state)
{
	static const uint8_t inside[] = {
		COUNT, 0x66, 0x67, 0xc7, 0x05, 0, 0x10, 0x0a, 0, 0xdd, 0xcc, 0xbb, 0xaa, RSM
	};
	/* mov eax, [a1000h]; call a8000h; hlt. There: mov ebx, 9; ret */
	static const uint8_t outside[] = { 0x8b, 0x04, 0x25, 0x00, 0x10, 0x0a, 0x00, 0xbb,
					   0x00, 0x80, 0x0a, 0x00, 0xff, 0xd3, 0xf4 };
	static const uint8_t function[] = { 0xb9, 9, 0, 0, 0, 0xc3 };

	smi(RIG_LONG);
	r.s.smbase = 0xa0000;
	assert_true(mem_write(r.vm.smm_mem, gpa(0xa8000), inside, sizeof(inside)));
	rig_put(&r, 0xa8000, function, sizeof(function));
	rig_write(&r, 0xa1000, 0x11111111, 4);
	for (unsigned n = 1; n < 4; n++) {
		uint32_t there = 0;

		r.s.smi_pending = true;
		r.s.gpr[X86_RIP] = RIG_CODE;
		rig_exec(&r, outside, sizeof(outside));
		assert_int_equal(rig_vector(&r), -1);
		assert_int_equal(rig_reg(&r, X86_RAX), 0x11111111);
		assert_int_equal(rig_reg(&r, X86_RCX), 9);
		assert_true(mem_read(r.vm.smm_mem, gpa(0xa1000), &there, 4));
		assert_int_equal(there, 0xaabbccdd);
		assert_int_equal(rig_read(&r, 0xa00, 2), n);
	}
	/* Its code that changes is noticed, too: RSM at once. */
	assert_true(mem_write(r.vm.smm_mem, gpa(0xa8000), "\x0f\xaa", 2));
	r.s.smi_pending = true;
	r.s.gpr[X86_RIP] = RIG_CODE;
	rig_exec(&r, outside, sizeof(outside));
	assert_int_equal(rig_read(&r, 0xa00, 2), 3);
}

/* In the same mode and at the same place on both sides. */
static void code_outside_is_not_that_inside(void **state)
{
	static const uint8_t inside[] = { COUNT, RSM }, outside[] = { 0xb9, 9, 0, HLT };

	for (unsigned n = 1; n < 3; n++) {
		smi(RIG_REAL);
		r.s.smbase = 0xa0000;
		r.s.seg[X86_CS] =
			(struct x86_segment){ .sel = 0xa000, .base = 0xa0000, .limit = 0xffffffff, .attr = 0x93 };
		r.s.gpr[X86_RIP] = 0x8000;
		assert_true(mem_write(r.vm.smm_mem, gpa(0xa8000), inside, sizeof(inside)));
		rig_put(&r, 0xa8000, outside, sizeof(outside));
		rig_run(&r);
		assert_int_equal(rig_vector(&r), -1);
		assert_int_equal(rig_reg(&r, X86_RCX), 9);
		assert_int_equal(rig_read(&r, 0xa00, 2), 1);
	}
}

static void nmis_wait(void **state)
{
	/* Two of them while it is in SMM: both come after, the first at once. */
	smi(RIG_LONG);
	HANDLER(COUNT, RSM);
	r.s.nmi_pending = 1;
	RIG_EXEC(&r, 0x90);
	assert_int_equal(rig_vector(&r), X86_NMI);
	assert_int_equal(rig_read(&r, 0xa00, 2), 1);
	assert_int_equal(rig_pushed(&r, 0), RIG_CODE);
	/* In an NMI handler they stay blocked. */
	smi(RIG_LONG);
	r.s.nmi_blocked = true;
	r.s.nmi_pending = 1;
	RIG_EXEC(&r, 0x90);
	assert_int_equal(rig_vector(&r), -1);
	assert_true(r.s.nmi_blocked && r.s.nmi_pending);
}

static void another_smi_waits(void **state)
{
	/* It comes in the handler, which goes on after a HLT that nothing ends. */
	smi(RIG_LONG);
	HANDLER(COUNT, HLT, RSM);
	RIG_EXEC(&r, 0x90);
	assert_true(r.s.smm);
	vcpu_signal(r.vm.vcpu, CPU_SIGNAL_SMI, 0);
	r.vm.engine->get_state(r.vm.vcpu, &r.s);
	assert_true(r.s.smi_pending);
	/* It does not even end the halt. */
	rig_run(&r);
	assert_true(r.s.smm && r.s.smi_pending && r.s.run == X86_HALTED);
	go_on();
	/* The first has ended, and the second is at the HLT. */
	assert_true(r.s.smm && !r.s.smi_pending);
	assert_int_equal(rig_read(&r, 0xa00, 2), 2);
	go_on();
	assert_false(r.s.smm);
	assert_int_equal(r.s.gpr[X86_RIP], RIG_CODE + 2);
}

static void init_waits(void **state)
{
	smi(RIG_LONG);
	HANDLER(COUNT, HLT, RSM);
	RIG_EXEC(&r, 0x90);
	r.s.init_pending = true;
	rig_run(&r);
	assert_true(r.s.smm && r.s.init_pending);
	/* The reset vector is no memory here: what is read there is no instruction. */
	go_on();
	assert_false(r.s.smm || r.s.init_pending || r.s.cr0 & X86_CR0_PE);
	assert_int_equal(rig_vector(&r), X86_UD);
	r.mode = RIG_REAL;
	r.frame_size = 2;
	assert_int_equal(rig_pushed(&r, 0), 0xfff0);
	assert_int_equal(rig_pushed(&r, 1), 0xf000);
}

static void a_halted_processor_halts_again_or_not(void **state)
{
	/* HLT; mov bl, 5; HLT. The SMI comes at the first. */
	for (unsigned go_on = 0; go_on < 2; go_on++) {
		smi(RIG_LONG);
		r.s.smi_pending = false;
		r.s.gpr[X86_RBX] = 0;
		RIG_EXEC(&r, HLT, 0xb3, 5);
		assert_int_equal(r.s.gpr[X86_RIP], RIG_CODE + 1);
		r.s.smi_pending = true;
		/* The handler may say that it goes on: mov byte [3fec9h], 0. */
		if (go_on)
			HANDLER(COUNT, 0x67, 0xc6, 0x05, 0xc9, 0xfe, 0x03, 0x00, 0x00, RSM);
		else
			HANDLER(COUNT, RSM);
		rig_run(&r);
		assert_int_equal(rig_read(&r, AREA + 0xc9, 1), !go_on);
		assert_int_equal(rig_read(&r, 0xa00, 2), 1);
		assert_int_equal(r.s.gpr[X86_RIP], RIG_CODE + (go_on ? 4 : 1));
		assert_int_equal(rig_reg(&r, X86_RBX), go_on ? 5 : 0);
	}
}

static void rsm_elsewhere_is_undefined(void **state)
{
	rig_reset(&r, RIG_LONG);
	RIG_FAULTS(&r, X86_UD, 0, 0, RSM);
	rig_reset(&r, RIG_REAL);
	RIG_FAULTS(&r, X86_UD, 0, 0, RSM);
}

static void an_impossible_state_shuts_down(void **state)
{
	static const struct {
		uint16_t at;
		uint64_t v;
	} bad[] = {
		{ 0x158, 0x80000000 },	      /* paging without protection */
		{ 0x158, 0x20000011 },	      /* NW without CD */
		{ 0x148, 1u << 31 },	      /* a bit of CR4 that does not exist */
		{ 0x0d0, 0x1500 | 1u << 20 }, /* and of EFER */
		{ 0x148, 0 },		      /* long mode without PAE */
		{ 0x018, 1ull << 50 },	      /* a base that is not canonical */
	};

	for (size_t n = 0; n < ARRAY_LEN(bad); n++) {
		smi(RIG_LONG);
		HANDLER(HLT, RSM);
		RIG_EXEC(&r, 0x90);
		rig_write(&r, AREA + bad[n].at, bad[n].v, 8);
		go_on();
		assert_int_equal(rig_vector(&r), -2);
	}
}

static void pae_paging_comes_back_with_its_entries(void **state)
{
	smi(RIG_PROT32);
	r.s.cr0 |= X86_CR0_PG;
	r.s.cr4 |= X86_CR4_PAE;
	r.s.cr3 = RIG_TABLES;
	rig_write(&r, RIG_TABLES, 0x3001, 8);
	/* They are read again from where CR3 says. */
	rig_write(&r, RIG_TABLES + 8, 0x3001, 8);
	for (unsigned n = 2; n < 4; n++)
		rig_write(&r, RIG_TABLES + 8 * n, 0, 8);
	r.s.pdpte[0] = 0x3001;
	HANDLER(RSM);
	RIG_EXEC(&r, 0xb3, 5);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(rig_reg(&r, X86_RBX) & 0xff, 5);
	assert_int_equal(r.s.pdpte[1], 0x3001);
	/* With a reserved bit they cannot have been there. */
	r.s.gpr[X86_RIP] = RIG_CODE;
	r.s.run = X86_RUNNING;
	rig_write(&r, RIG_TABLES + 8, 0x3003, 8);
	r.s.smi_pending = true;
	rig_run(&r);
	assert_int_equal(rig_vector(&r), -2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_comes_back_in_every_mode),
		cmocka_unit_test(it_begins_like_real_mode_with_large_segments),
		cmocka_unit_test(the_layout_of_long_mode),
		cmocka_unit_test(the_layout_without_long_mode),
		cmocka_unit_test(smbase_moves),
		cmocka_unit_test(smram_is_a_place_of_its_own),
		cmocka_unit_test(code_outside_is_not_that_inside),
		cmocka_unit_test(nmis_wait),
		cmocka_unit_test(another_smi_waits),
		cmocka_unit_test(init_waits),
		cmocka_unit_test(a_halted_processor_halts_again_or_not),
		cmocka_unit_test(rsm_elsewhere_is_undefined),
		cmocka_unit_test(an_impossible_state_shuts_down),
		cmocka_unit_test(pae_paging_comes_back_with_its_entries),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
