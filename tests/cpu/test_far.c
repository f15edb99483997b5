/* Code that leads from one page to another while it changes where, or what, that page is. */
#include "rig.h"

#include <string.h>

#include "base/bytes.h"

#define FAR	0x1000000u /* is in one frame or the other */
#define FRAME1	0x300000u
#define FRAME2	0x301000u
#define PT	RIG_TABLES /* of FAR */
#define SPACE2	(RIG_TABLES + 0x4000)
#define HANDLER 0x11000u

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

/* Everything is everybody's, and has large pages but for FAR. */
static void tables(uint64_t cr3, uint64_t pt, uint64_t frame)
{
	rig_write(&r, cr3, (cr3 + 0x1000) | 7, 8);
	rig_write(&r, cr3 + 0x1000, (cr3 + 0x2000) | 7, 8);
	for (uint64_t n = 0; n < 8; n++)
		rig_write(&r, cr3 + 0x2000 + 8 * n, n << 21 | 0x87, 8);
	rig_write(&r, cr3 + 0x2000 + 8 * (FAR >> 21), pt | 7, 8);
	rig_write(&r, pt, frame | 7, 8);
}

static void begin(void)
{
	rig_reset(&r, RIG_LONG);
	tables(RIG_CR3, PT, FRAME1);
	r.s.gpr[X86_RSI] = FAR;
}

/* How a page comes to be in the other frame: a handler, with what it needs in RDI and RBX. */
struct way {
	uint64_t rdi, rbx;
	uint8_t code[24];
};
static const struct way ways[] = {
	/* xchg [rdi], rbx; invlpg [rsi]; iretq */
	{ PT, FRAME2 | 7, { 0x48, 0x87, 0x1f, 0x0f, 0x01, 0x3e, 0x48, 0xcf } },
	/* xchg [rdi], rbx; mov r9, cr3; mov cr3, r9; iretq */
	{ PT, FRAME2 | 7, { 0x48, 0x87, 0x1f, 0x41, 0x0f, 0x20, 0xd9, 0x41, 0x0f, 0x22, 0xd9, 0x48, 0xcf } },
	/* mov r9, cr3; mov cr3, rbx; bts r9, 63; mov rbx, r9; iretq: two spaces that are both kept */
	{ 0,
	  1ull << 63 | SPACE2 | 6,
	  { 0x41, 0x0f, 0x20, 0xd9, 0x0f, 0x22, 0xdb, 0x49, 0x0f, 0xba, 0xe9, 0x3f, 0x4c, 0x89, 0xcb, 0x48, 0xcf } },
};

/* Three times there and back; the page moves; all that four times. By CALL, and with flags that go along. */
struct trip {
	uint8_t there[24], frame1[16], frame2[16];
};
static const struct trip trips[] = {
	{ /* 2: mov ecx, 3; 1: call FAR; dec ecx; jnz 1b; int 40h; dec r8d; jnz 2b; ud2 */
	  { 0xb9, 3,	0,    0,    0,	  0xe8, 0xf6, 0xff, 0xfe, 0,	0xff, 0xc9,
	    0x75, 0xf7, 0xcd, 0x40, 0x41, 0xff, 0xc8, 0x75, 0xeb, 0x0f, 0x0b },
	  { 0x83, 0xc0, 1, 0xc3 },   /* add eax, 1; ret */
	  { 5, 0, 1, 0, 0, 0xc3 } }, /* add eax, 100h; ret */
	{ /* 2: mov ecx, 3; 1: stc; jmp FAR; 3: dec ecx; jnz 1b; int 40h; dec r8d; jnz 2b; ud2 */
	  { 0xb9, 3,	0,    0,    0,	  0xf9, 0xe9, 0xf5, 0xff, 0xfe, 0,    0xff,
	    0xc9, 0x75, 0xf6, 0xcd, 0x40, 0x41, 0xff, 0xc8, 0x75, 0xea, 0x0f, 0x0b },
	  { 0x83, 0xd0, 0, 0xe9, 3, 0, 1, 0xff },	  /* adc eax, 0; jmp 3b */
	  { 0x15, 0xff, 0, 0, 0, 0xe9, 1, 0, 1, 0xff } }, /* adc eax, ffh; jmp 3b */
};

static void a_jump_goes_where_the_page_is_now(void **state)
{
	for (size_t n = 0; n < ARRAY_LEN(ways) * ARRAY_LEN(trips) * 2; n++) {
		const struct way *w = &ways[n / 4];
		const struct trip *t = &trips[n / 2 % 2];

		begin();
		if (n % 2)
			rig_user(&r);
		tables(SPACE2, SPACE2 + 0x3000, FRAME2);
		r.s.cr4 |= X86_CR4_PCIDE;
		r.s.cr3 |= 5;
		rig_put(&r, HANDLER, w->code, sizeof(w->code));
		rig_put(&r, FRAME1, t->frame1, sizeof(t->frame1));
		rig_put(&r, FRAME2, t->frame2, sizeof(t->frame2));
		rig_write(&r, RIG_IDT + 16 * 0x40, RIG_GATE(RIG_CODE64, (uint64_t)HANDLER, 0xee, 0), 8);
		r.s.gpr[X86_RDI] = w->rdi;
		r.s.gpr[X86_RBX] = w->rbx;
		r.s.gpr[8] = 4;
		r.s.gpr[X86_RAX] = 0;
		rig_exec(&r, t->there, sizeof(t->there));
		assert_int_equal(rig_vector(&r), X86_UD);
		assert_int_equal(rig_reg(&r, X86_RAX), 0x606);
	}
}

/* What is called in another page changes now and then: each call does what is there then, and most need no look. */
static void a_jump_goes_to_what_is_there_now(void **state)
{
	uint64_t before = rig_exits(&r);

	begin();
	rig_write(&r, FRAME1, 0xc301c083, 4); /* add eax, 1; ret */
	r.s.gpr[8] = 3;
	r.s.gpr[10] = FRAME1 + 2;
	r.s.gpr[X86_RAX] = 0;
	/* 2: mov ecx, 1000; 1: call FAR; dec ecx; jnz 1b; inc byte [r10]; dec r8d; jnz 2b */
	RIG_EXEC(&r, 0xb9, 0xe8, 3, 0, 0, 0xe8, 0xf6, 0xff, 0xfe, 0, 0xff, 0xc9, 0x75, 0xf7, 0x41, 0xfe, 2, 0x41, 0xff,
		 0xc8, 0x75, 0xea);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(rig_reg(&r, X86_RAX), 1000 * (1 + 2 + 3));
	assert_in_range(rig_exits(&r) - before, 0, 100);
}

/* An instruction that lies in two pages is where a jump leads: that needs no exit either. */
static void a_jump_leads_to_an_instruction_in_two_pages(void **state)
{
	uint64_t before = rig_exits(&r);

	begin();
	rig_write(&r, PT + 8, FRAME2 | 7, 8);
	rig_write(&r, FRAME1 + 0xffe, 0xc083, 2); /* add eax, 1; ret */
	rig_write(&r, FRAME2, 0xc301, 2);
	r.s.gpr[X86_RAX] = 0;
	/* mov ecx, 1000; 1: call FAR + ffeh; dec ecx; jnz 1b */
	RIG_EXEC(&r, 0xb9, 0xe8, 3, 0, 0, 0xe8, 0xf4, 0x0f, 0xff, 0, 0xff, 0xc9, 0x75, 0xf7);
	assert_int_equal(rig_vector(&r), -1);
	assert_int_equal(rig_reg(&r, X86_RAX), 1000);
	assert_in_range(rig_exits(&r) - before, 0, 100);
}

#define SHOWN  0xc0000u /* RAM, and what is at ROM from the tenth store to a device on */
#define ROM    0x300000u
#define DEVICE 0x2000000u /* is no RAM */

static unsigned stores;
static int overlay;

static void show_rom(struct tiny_vm *t, uint64_t addr)
{
	if (++stores != 10)
		return;
	mem_overlay_set(t->mem, (unsigned)overlay, MEM_OVERLAY_ROM);
	t->engine->remapped(t->vm, t->vcpu);
}

static void a_store_that_shows_other_memory_is_seen_at_once(void **state)
{
	static const uint8_t how[][2] = { { 0xf3, 0xaa }, { 0x88, 0x07 } }; /* rep stosb; mov [rdi], al */
	const struct mem_overlay_config config = {
		.name = "shown", .base = gpa(SHOWN), .size = 0x4000, .has_rom = true, .rom = gpa(ROM)
	};
	struct rig o;
	struct err err;

	for (size_t n = 0; n < ARRAY_LEN(how); n++) {
		stores = 0;
		rig_new(&o, RIG_LONG, NULL);
		o.vm.on_mmio = show_rom;
		overlay = mem_add_overlay(o.vm.mem, &config, &err);
		assert_true(overlay >= 0);
		/* 1: mov edi, DEVICE; mov ecx, 1; the way; add ebx, 1, or 100h; dec r8d; jnz 1b; hlt */
		for (unsigned rom = 0; rom < 2; rom++) {
			const uint8_t code[] = { 0xbf, 0, 0,	     0,		2,    0xb9, 1,	  0,
						 0,    0, how[n][0], how[n][1], 0x81, 0xc3, !rom, (uint8_t)rom,
						 0,    0, 0x41,	     0xff,	0xc8, 0x75, 0xe9, 0xf4 };

			rig_put(&o, rom ? ROM : SHOWN, code, sizeof(code));
		}
		o.s.gpr[8] = 100;
		o.s.gpr[X86_RBX] = 0;
		o.s.gpr[X86_RIP] = SHOWN;
		rig_run(&o);
		assert_int_equal(rig_vector(&o), -1);
		assert_int_equal(rig_reg(&o, X86_RBX), 9 + 0x100 * 91);
		rig_free(&o);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_jump_goes_where_the_page_is_now),
		cmocka_unit_test(a_jump_goes_to_what_is_there_now),
		cmocka_unit_test(a_jump_leads_to_an_instruction_in_two_pages),
		cmocka_unit_test(a_store_that_shows_other_memory_is_seen_at_once),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
