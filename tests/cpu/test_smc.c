/*
 * Code that changes while it is cached: by the instruction before it, through another address, by another processor or
 * a device, across pages, and when the cache is full.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "cpu/x86/entry.h"
#include "tiny_vm.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED false
#endif

static struct tiny_vm vm;

static int setup(void **state)
{
	tiny_vm_new_with(&vm, 2, CLOCK_SOURCE_HOST);
	return 0;
}

static int teardown(void **state)
{
	tiny_vm_free(&vm);
	return 0;
}

static uint64_t reg(unsigned n)
{
	return tiny_cpu(&vm)->s.gpr[n];
}

static void put(uint64_t at, const void *bytes, size_t len)
{
	assert_true(mem_write(vm.mem, gpa(at), bytes, len));
}

/* Run the first vCPU from `rip` until it halts. */
static void run_at(uint64_t rip)
{
	tiny_vm_enter64(&vm, 0, rip, TINY_STACK);
	assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_HALTED);
}

/* Map the 4 KiB pages of the 2 MiB at `lin` (up to 1 GiB) one by one, at first where they were. */
#define SMALL_TABLE 0x5000u
static void split_page(uint64_t lin)
{
	uint64_t e = SMALL_TABLE | 3;

	for (unsigned n = 0; n < 512; n++) {
		uint64_t pte = (lin & ~0x1fffffull) | (uint64_t)n << 12 | 3;

		put(SMALL_TABLE + 8 * n, &pte, 8);
	}
	put(0x3000 + 8 * (lin >> 21), &e, 8);
}

static void map(uint64_t lin, uint64_t pte)
{
	put(SMALL_TABLE + 8 * (lin >> 12 & 511), &pte, 8);
}

/* --- a store into the trace that does it --- */

/*
 * Each store writes `02 90 90 ...` over the operand of the "mov bl, 1" behind it. RDI points there or, at first, to a
 * scratch area, so that the second run finds the trace in the cache. RCX holds the new bytes, RSI points to them, RAX
 * holds `rax`, RDX the old bytes or the port that reads as 2, XMM0 the new bytes.
 */
#define OLD  0x9090909090909001ull
#define NEW  0x9090909090909002ull
#define NOPS 0x9090909090909090ull
static const struct {
	const char *name;
	uint8_t code[12];
	uint64_t rax;
	uint64_t rdx;
} stores[] = {
	{ "mov8", { 0x88, 0x0f } },
	{ "mov16", { 0x66, 0x89, 0x0f } },
	{ "mov32", { 0x89, 0x0f } },
	{ "mov64", { 0x48, 0x89, 0x0f } },
	{ "mov imm", { 0xc6, 0x07, 0x02 } },
	{ "push", { 0x48, 0x8d, 0x67, 8, 0x51 } }, /* lea rsp, [rdi + 8]; push rcx */
	{ "push mem", { 0x48, 0x8d, 0x67, 8, 0xff, 0x36 } },
	{ "pop mem", { 0x48, 0x89, 0xf4, 0x8f, 0x07 } }, /* mov rsp, rsi; pop [rdi] */
	{ "stosb", { 0xaa }, NEW },
	{ "rep stosb", { 0xb9, 1, 0, 0, 0, 0xf3, 0xaa }, NEW },
	{ "rep stosd", { 0xb9, 2, 0, 0, 0, 0xf3, 0xab }, 0x90909002 },
	{ "movsb", { 0xa4 } },
	{ "rep movsb", { 0xb9, 16, 0, 0, 0, 0xf3, 0xa4 } },
	{ "rep movsq", { 0xb9, 2, 0, 0, 0, 0xf3, 0x48, 0xa5 } },
	{ "insb", { 0x6c }, 0, 2 },
	{ "xchg", { 0x48, 0x87, 0x0f } },
	{ "inc", { 0xfe, 0x07 } },
	{ "lock inc", { 0xf0, 0xfe, 0x07 } },
	{ "lock xadd", { 0xb1, 1, 0xf0, 0x0f, 0xc0, 0x0f } },
	{ "cmpxchg", { 0x0f, 0xb0, 0x0f }, OLD },
	{ "lock cmpxchg", { 0xf0, 0x48, 0x0f, 0xb1, 0x0f }, OLD },
	{ "lock cmpxchg16b", { 0x48, 0x89, 0xcb, 0xb1, 0x90, 0xf0, 0x48, 0x0f, 0xc7, 0x0f }, OLD, NOPS },
	{ "bts", { 0x0f, 0xba, 0x2f, 1, 0x0f, 0xba, 0x37, 0 } }, /* bts [rdi], 1; btr [rdi], 0 */
	{ "setz", { 0x30, 0xdb, 0x0f, 0x94, 0x07, 0x00, 0x1f, 0xfe, 0x07 } },
	/* These are not there without a floating point of the host: see store_count(). */
	{ "movups", { 0x0f, 0x11, 0x07 } },
	{ "movlps", { 0x0f, 0x13, 0x07 } },
	{ "movnti", { 0x48, 0x0f, 0xc3, 0x0f } },
	{ "fistp", { 0xdb, 0xe3, 0xdf, 0x2e, 0xdf, 0x3f } }, /* fninit; fild qword [rsi]; fistp qword [rdi] */
	{ "movq", { 0xdb, 0xe3, 0x0f, 0x6f, 0x06, 0x0f, 0x7f, 0x07 } },
};

static unsigned store_count(void)
{
	return sizeof(stores) / sizeof(stores[0]) - (x86_feature_possible(X86_F_SSE2) ? 0 : 5);
}

static void run_store(unsigned n, uint64_t rdi, uint64_t rsi)
{
	struct x86_state *s;

	tiny_vm_enter64(&vm, 0, TINY_CODE, TINY_STACK);
	s = &tiny_cpu(&vm)->s;
	s->cr4 |= X86_CR4_OSFXSR;
	x86_update_mode(tiny_cpu(&vm));
	s->gpr[X86_RDI] = rdi;
	s->gpr[X86_RSI] = rsi;
	s->gpr[X86_RCX] = NEW;
	s->gpr[X86_RAX] = stores[n].rax;
	s->gpr[X86_RDX] = stores[n].rdx ? stores[n].rdx : OLD;
	s->vec[0].q[0] = NEW;
	s->vec[0].q[1] = NOPS;
	assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_HALTED);
}

/* `warm`: another store to the page goes before, so that the soft TLB knows it. */
static void try_store(unsigned n, bool warm)
{
	static const uint8_t before[] = { 0x88, 0x97, 0, 1, 0, 0 }; /* mov [rdi + 256], dl */
	static const uint64_t new_bytes[2] = { NEW, NOPS }, old_bytes[2] = { OLD, NOPS };
	const uint64_t scratch = 0x20000, from = 0x21000, operand = TINY_CODE + 32;
	uint8_t code[64];
	size_t len = sizeof(stores[n].code);

	while (len && !stores[n].code[len - 1])
		len--;
	/* The zero at the end of one belongs to it. */
	len += !strcmp(stores[n].name, "bts");
	memset(code, 0x90, sizeof(code));
	if (warm)
		memcpy(code, before, sizeof(before));
	memcpy(code + 31 - len, stores[n].code, len);
	code[31] = 0xb3;
	code[32] = 1;
	code[56] = 0xf4;
	put(TINY_CODE, code, sizeof(code));
	put(scratch, old_bytes, 16);
	put(from, new_bytes, 16);
	run_store(n, scratch, from);
	if ((reg(X86_RBX) & 0xff) != 1)
		fail_msg("%s: wrong before", stores[n].name);
	run_store(n, operand, from);
	if ((reg(X86_RBX) & 0xff) != 2)
		fail_msg("%s%s: the old code ran", stores[n].name, warm ? " in the TLB" : "");
}

static void stores_change_the_trace_that_runs(void **state)
{
	for (unsigned n = 0; n < store_count(); n++) {
		try_store(n, false);
		try_store(n, true);
	}
}

/* A store that begins in a page of data and ends in the first bytes of a page of code. */
static void a_store_across_pages_is_seen_in_the_second(void **state)
{
	/* mov [rdi], rcx; jmp to the next page */
	static const uint8_t code[] = { 0x48, 0x89, 0x0f, 0xe9 };
	static const uint8_t next[] = { 0xb3, 1, 0x90, 0x90, 0x90, 0xf4 };
	const uint64_t page = TINY_CODE + 0x1000;
	int32_t rel = (int32_t)(page - (TINY_CODE + 8));

	for (uint64_t rdi = 0x20000;; rdi = page - 4) {
		put(TINY_CODE, code, sizeof(code));
		put(TINY_CODE + 4, &rel, 4);
		put(page, next, sizeof(next));
		tiny_vm_enter64(&vm, 0, TINY_CODE, TINY_STACK);
		tiny_cpu(&vm)->s.gpr[X86_RDI] = rdi;
		tiny_cpu(&vm)->s.gpr[X86_RCX] = 0x909002b300000000ull;
		assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_HALTED);
		if (rdi != 0x20000)
			break;
		assert_int_equal(reg(X86_RBX) & 0xff, 1);
	}
	assert_int_equal(reg(X86_RBX) & 0xff, 2);
}

/* A loop that rewrites itself in each round: links between traces of the page must not outlive them. */
static void a_loop_may_rewrite_its_own_links(void **state)
{
	/*
	 * mov ecx, 1000; xor ebx, ebx
	 * 1: xor byte [rip + 2], 1 (between mov al, 0 and mov al, 1); jmp 2f
	 * 2: mov al, 0; movzx eax, al; add ebx, eax; dec ecx; jnz 1b
	 */
	static const uint8_t code[] = {
		0xb9, 0xe8, 3,	  0, 0,	   0x31, 0xdb, 0x80, 0x35, 3,	 0,    0,    0,	   1,
		0xeb, 0x00, 0xb0, 0, 0x0f, 0xb6, 0xc0, 0x01, 0xc3, 0xff, 0xc9, 0x75, 0xec, 0xf4
	};

	put(TINY_CODE, code, sizeof(code));
	run_at(TINY_CODE);
	assert_int_equal(reg(X86_RBX), 500);
}

/* --- other ways to the same bytes --- */

static const uint8_t answer[] = { 0xb8, 1, 0, 0, 0, 0xf4 }; /* mov eax, 1; hlt */

static void a_store_through_another_address_is_seen(void **state)
{
	/* mov byte [0x201001], 2; jmp 0x11000 */
	static const uint8_t code[] = { 0xc6, 0x04, 0x25, 0x01, 0x10, 0x20, 0, 2, 0xe9, 0xf3, 0x0f, 0, 0 };

	put(0x11000, answer, sizeof(answer));
	run_at(0x11000);
	split_page(0x200000);
	map(0x201000, 0x11003);
	put(TINY_CODE, code, sizeof(code));
	run_at(TINY_CODE);
	assert_int_equal(reg(X86_RAX), 2);
}

static void the_same_code_runs_at_two_addresses(void **state)
{
	static const uint8_t code[] = { 0x48, 0x8d, 0x05, 0, 0, 0, 0, 0xf4 }; /* lea rax, [rip] */

	put(0x11000, code, sizeof(code));
	split_page(0x200000);
	map(0x201000, 0x11003);
	run_at(0x11000);
	assert_int_equal(reg(X86_RAX), 0x11007);
	run_at(0x201000);
	assert_int_equal(reg(X86_RAX), 0x201007);
}

static void a_store_of_another_cpu_is_seen(void **state)
{
	static const uint8_t code[] = { 0xc6, 0x04, 0x25, 0x01, 0x10, 0x01, 0, 2, 0xf4 }; /* mov byte [0x11001], 2 */

	put(0x11000, answer, sizeof(answer));
	put(TINY_CODE, code, sizeof(code));
	run_at(0x11000);
	tiny_vm_enter64(&vm, 1, TINY_CODE, TINY_STACK);
	assert_int_equal(vm.engine->run(vm.vcpus[1]), CPU_EXIT_HALTED);
	run_at(0x11000);
	assert_int_equal(reg(X86_RAX), 2);
}

static void dma_is_seen_once_it_is_unmapped(void **state)
{
	struct mem_map m;

	put(0x11000, answer, sizeof(answer));
	run_at(0x11000);
	assert_true(mem_dma_map(vm.mem, gpa(0x10ff0), 64, MEM_FROM_DEVICE, &m));
	((uint8_t *)m.host)[0x11] = 2;
	mem_dma_unmap(&m, 64);
	run_at(0x11000);
	assert_int_equal(reg(X86_RAX), 2);
	/* What was not written is not looked at: the device said so. */
	assert_true(mem_dma_map(vm.mem, gpa(0x10ff0), 64, MEM_FROM_DEVICE, &m));
	mem_dma_unmap(&m, 0);
	mem_fill(vm.mem, gpa(0x11001), 3, 1);
	run_at(0x11000);
	assert_int_equal(reg(X86_RAX), 3);
	/* Zeros are "add [rax], al", up to the next page. */
	put(0x12000, (uint8_t[]){ 0xf4 }, 1);
	mem_discard(vm.mem, gpa(0x11000), 0x1000);
	run_at(0x11000);
	assert_int_equal(reg(X86_RIP), 0x12001);
}

/* --- instructions across two pages --- */

#define EDGE 0x201000u

/* "mov eax, 1" with its opcode alone in the first page. */
static void put_crossing(void)
{
	split_page(0x200000);
	put(EDGE - 1, answer, sizeof(answer));
	run_at(EDGE - 1);
	assert_int_equal(reg(X86_RAX), 1);
}

static void the_second_page_of_an_instruction_may_be_written(void **state)
{
	put_crossing();
	put(EDGE, (uint8_t[]){ 2 }, 1);
	run_at(EDGE - 1);
	assert_int_equal(reg(X86_RAX), 2);
	put(EDGE - 1, (uint8_t[]){ 0xbb }, 1); /* mov ebx */
	run_at(EDGE - 1);
	assert_int_equal(reg(X86_RBX), 2);
}

static void the_second_page_of_an_instruction_may_move(void **state)
{
	put_crossing();
	put(0x30000, answer + 1, sizeof(answer) - 1);
	put(0x30000, (uint8_t[]){ 7 }, 1);
	map(EDGE, 0x30003);
	run_at(EDGE - 1);
	assert_int_equal(reg(X86_RAX), 7);
}

static void the_second_page_of_an_instruction_may_go(void **state)
{
	static const uint8_t handler[] = { 0x58, 0x5b, 0xf4 }; /* pop rax; pop rbx; hlt */
	const uint64_t gate[2] = { 0x1000 | 0x10ull << 16 | 0x8e00ull << 32 | 1ull << 48, 0 };

	put_crossing();
	put(0x50000 + 16 * X86_PF_FAULT, gate, sizeof(gate));
	put(0x11000, handler, sizeof(handler));
	map(EDGE, 0);
	tiny_vm_enter64(&vm, 0, EDGE - 1, TINY_STACK);
	tiny_cpu(&vm)->s.idt = (struct x86_dtable){ 0x50000, 0xfff };
	assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_HALTED);
	assert_int_equal(reg(X86_RBX), EDGE - 1);
	assert_int_equal(tiny_cpu(&vm)->s.cr2, EDGE);
}

/* --- code outside of RAM, which may read differently each time --- */

static uint8_t device[64];

static uint64_t device_read(struct tiny_vm *t, uint64_t addr)
{
	return device[addr & 63];
}

static void code_in_device_memory_is_read_each_time(void **state)
{
	vm.on_mmio_read = device_read;
	memcpy(device, answer, sizeof(answer));
	run_at(0x3000000);
	assert_int_equal(reg(X86_RAX), 1);
	device[1] = 5;
	run_at(0x3000000);
	assert_int_equal(reg(X86_RAX), 5);
	/* From RAM into it. */
	memcpy(device, answer + 1, sizeof(answer) - 1);
	put(TINY_RAM - 1, answer, 1);
	run_at(TINY_RAM - 1);
	assert_int_equal(reg(X86_RAX), 1);
	device[0] = 6;
	run_at(TINY_RAM - 1);
	assert_int_equal(reg(X86_RAX), 6);
}

/* --- what the bytes mean depends on the mode --- */

static void run32(uint64_t eip, uint32_t limit, enum cpu_exit expected)
{
	struct x86_state *s = calloc(1, sizeof(*s));
	struct err err;

	x86_state_reset(s, true, false);
	x86_entry_flat32(s, (uint32_t)eip, 0, 0, TINY_GDT, 31);
	s->seg[X86_CS].limit = limit;
	assert_int_equal(vm.engine->set_state(vm.vcpu, s, &err), 0);
	free(s);
	assert_int_equal(vm.engine->run(vm.vcpu), expected);
}

static void each_mode_has_its_own_traces(void **state)
{
	static const uint8_t code[] = {
		0x31, 0xc0, 0x48, 0xff, 0xc8, 0xf4
	}; /* 32 bits: dec eax; dec eax; 64: dec rax */

	put(TINY_CODE, code, sizeof(code));
	run_at(TINY_CODE);
	assert_int_equal(reg(X86_RAX), ~0ull);
	run32(TINY_CODE, ~0u, CPU_EXIT_HALTED);
	assert_int_equal(reg(X86_RAX), 0xfffffffe);
	run_at(TINY_CODE);
	assert_int_equal(reg(X86_RAX), ~0ull);
}

static void a_limit_is_not_passed_by_a_link(void **state)
{
	/* mov ecx, 3; 1: dec ecx; jnz 1b; nop; hlt: the fall-through is linked first without a limit */
	static const uint8_t code[] = { 0xb9, 3, 0, 0, 0, 0x49, 0x75, 0xfd, 0x90, 0xf4 };

	put(TINY_CODE, code, sizeof(code));
	run32(TINY_CODE, ~0u, CPU_EXIT_HALTED);
	run32(TINY_CODE, ~0u, CPU_EXIT_HALTED);
	run32(TINY_CODE, TINY_CODE + 7, CPU_EXIT_SHUTDOWN);
}

/* --- the cache --- */

/*
 * A page walk stores too: it sets the accessed and dirty bits of an entry that is an operand of the trace which causes
 * the walk. The page table lies at TINY_CODE + 0x1000 and maps the 2 MiB at TABLE_LIN; its entry 8 is the code
 *   .. 03 | 00 02 00 00 00 00 00    mov bl, 3 (present, writable; the physical page is 20000h); add [rdx], al; ...
 * and entry 9, which is not present, ends it: 00 ends an ADD, and F4 is HLT.
 */
#define TABLE_LIN 0x600000u
static void a_page_walk_changes_the_code_it_runs_in(void **state)
{
	static const struct {
		const char *name;
		uint8_t code[3], len;
		uint8_t bits;
	} walks[] = {
		{ "read", { 0x8a, 0x0f }, 2, 0x23 },	   /* mov cl, [rdi] */
		{ "write", { 0x88, 0x0f }, 2, 0x63 },	   /* mov [rdi], cl */
		{ "both", { 0x00, 0x0f }, 2, 0x63 },	   /* add [rdi], cl */
		{ "lock", { 0xf0, 0x00, 0x0f }, 3, 0x63 }, /* lock add [rdi], cl */
		{ "string", { 0xaa }, 1, 0x63 },	   /* stosb */
		{ "push", { 0xff, 0x37 }, 2, 0x23 },	   /* push [rdi] */
	};
	const uint64_t table = TINY_CODE + 0x1000, pde = table | 3, scratch = 0x21000;

	put(0x3000 + 8 * (TABLE_LIN >> 21), &pde, 8);
	for (unsigned n = 0; n < sizeof(walks) / sizeof(walks[0]); n++) {
		static const uint8_t entries[] = { 3, 0, 2, 0, 0, 0, 0, 0, 0, 0xf4 };
		uint8_t code[64];

		memset(code, 0x90, sizeof(code));
		memcpy(code + 40, walks[n].code, walks[n].len);
		code[63] = 0xb3;
		put(table, code, sizeof(code));
		put(table + sizeof(code), entries, sizeof(entries));
		/* At first without a walk, so that the trace is in the cache. */
		for (uint64_t rdi = scratch;; rdi = TABLE_LIN + (8 << 12)) {
			tiny_vm_enter64(&vm, 0, table + 40, TINY_STACK);
			tiny_cpu(&vm)->s.gpr[X86_RDI] = rdi;
			tiny_cpu(&vm)->s.gpr[X86_RDX] = tiny_cpu(&vm)->s.gpr[X86_RAX] = scratch;
			assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_HALTED);
			if (rdi != scratch)
				break;
			if ((reg(X86_RBX) & 0xff) != 3)
				fail_msg("%s: wrong before", walks[n].name);
		}
		if ((reg(X86_RBX) & 0xff) != walks[n].bits)
			fail_msg("%s: %02x ran, not %02x", walks[n].name, (unsigned)(reg(X86_RBX) & 0xff),
				 walks[n].bits);
	}
}

static long resident_pages(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	long all, resident = 0;

	if (f && fscanf(f, "%ld %ld", &all, &resident) != 2)
		resident = 0;
	if (f)
		fclose(f);
	return resident;
}

/* 4 MiB of "inc rax" decode to 14 times as much, which is several caches full. */
static void more_code_than_the_cache_holds_runs(void **state)
{
	const uint64_t base = 0x400000, size = 4 << 20;
	uint8_t *code = malloc(size);
	long before, most;

	for (uint64_t n = 0; n < size - 3; n += 3)
		memcpy(code + n, "\x48\xff\xc0", 3);
	code[size / 3 * 3] = 0xf4;
	put(base, code, size);
	before = resident_pages();
	for (unsigned round = 0; round < 2; round++) {
		run_at(base);
		assert_int_equal(reg(X86_RAX), size / 3);
	}
	/* Still seen after the cache was emptied: a ret in the first half and one in the second. */
	put(base + 3000, (uint8_t[]){ 0xf4 }, 1);
	run_at(base);
	assert_int_equal(reg(X86_RAX), 1000);
	/* A sanitizer keeps its own books, and a translator has a cache of code beside. */
	most = 20 * (SANITIZED ? 5 : 1) + (vm.engine == &engine_interp ? 0 : 64);
	if (resident_pages() - before > most * 256)
		fail_msg("the cache takes %ld pages", resident_pages() - before);
	free(code);
}

/* Code that is new each time fills a translator's cache; what leads from page to page must not outlive it. */
static void what_leads_to_forgotten_code_is_forgotten(void **state)
{
	static const uint8_t first[] = { 0x88, 0x0e,			      /* mov [rsi], cl */
					 0xff, 0xe7 };			      /* jmp rdi */
	static const uint8_t second[] = { 0x48, 0xff, 0xc3,		      /* inc rbx */
					  0x41, 0xff, 0xd0,		      /* call r8 */
					  0x0f, 0xb6, 0xc0, 0x48, 0x01, 0xc2, /* movzx eax, al; add rdx, rax */
					  0xff, 0xc9,			      /* dec ecx */
					  0x74, 0x03, 0x41, 0xff, 0xe1,	      /* jz on; jmp r9 */
					  0xf4 };			      /* on: hlt */
	static const uint8_t changes[] = { 0xb0, 0, 0xc3 };		      /* mov al, 0; ret */
	const uint64_t at = 0x400000, rounds = 20000;
	struct x86_state *s;
	uint64_t sum = 0;

	put(at + 0x10, first, sizeof(first));
	put(at + 0x1120, second, sizeof(second));
	put(at + 0x2230, changes, sizeof(changes));
	tiny_vm_enter64(&vm, 0, at + 0x10, TINY_STACK);
	s = &tiny_cpu(&vm)->s;
	s->gpr[X86_RCX] = rounds;
	s->gpr[X86_RSI] = at + 0x2231;
	s->gpr[X86_RDI] = at + 0x1120;
	s->gpr[8] = at + 0x2230;
	s->gpr[9] = at + 0x10;
	assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_HALTED);
	for (uint64_t n = 1; n <= rounds; n++)
		sum += n & 255;
	assert_int_equal(reg(X86_RBX), rounds);
	assert_int_equal(reg(X86_RDX), sum);
}

/* A near call, direct and indirect, that pushes over its own code goes on where it leads, however far. */
static void a_call_changes_the_code_it_is_in(void **state)
{
	/* call rbx, or call near; nop ... */
	static const uint8_t indirect[] = { 0xff, 0xd3, 0x90, 0x90, 0x90, 0xf4 };
	/* mov eax, 7bh; hlt */
	static const uint8_t there[] = { 0xb8, 0x7b, 0, 0, 0, 0xf4 };
	uint8_t direct[] = { 0xe8, 0, 0, 0, 0, 0xf4 };

	for (unsigned n = 0; n < 4; n++) {
		uint64_t to = TINY_CODE + (n & 1 ? 0x8000 : 0x800);
		int32_t rel = (int32_t)(to - (TINY_CODE + 5));

		memcpy(direct + 1, &rel, 4);
		put(to, there, sizeof(there));
		put(TINY_CODE, n & 2 ? indirect : direct, sizeof(direct));
		tiny_vm_enter64(&vm, 0, TINY_CODE, TINY_CODE + 0x28);
		tiny_cpu(&vm)->s.gpr[X86_RBX] = to;
		assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_HALTED);
		assert_int_equal(reg(X86_RAX), 0x7b);
		assert_int_equal(reg(X86_RIP), to + sizeof(there));
	}
}

/* Flags of an instruction that stores beside code, in its page, are what they would be elsewhere. */
static void a_store_beside_code_keeps_its_flags(void **state)
{
	/* add [rsi], eax; setc bl; setz bh */
	static const uint8_t code[] = { 0x01, 0x06, 0x0f, 0x92, 0xc3, 0x0f, 0x94, 0xc7, 0xf4 };

	for (uint32_t n = 0; n < 4; n++) {
		const uint32_t v[] = { 0xffffffff, 0, 0xfffffff0, 0xfffffffe };

		put(TINY_CODE, code, sizeof(code));
		put(TINY_CODE + 0x800, &v[n], 4);
		tiny_vm_enter64(&vm, 0, TINY_CODE, TINY_STACK);
		tiny_cpu(&vm)->s.gpr[X86_RAX] = n < 2 ? 1 : 0x20;
		tiny_cpu(&vm)->s.gpr[X86_RBX] = 0;
		tiny_cpu(&vm)->s.gpr[X86_RSI] = TINY_CODE + 0x800;
		assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_HALTED);
		assert_int_equal(reg(X86_RBX), n == 0 ? 0x101 : n == 1 ? 0 : 1);
	}
}

/* What jumps to an instruction in two pages brings its flags along. */
static void flags_reach_an_instruction_in_two_pages(void **state)
{
	/* again: stc; jmp cross */
	uint8_t code[] = { 0xf9, 0xe9, 0, 0, 0, 0 };
	/* cross: adc eax, 0; dec ecx; jnz again; hlt */
	uint8_t cross[] = { 0x15, 0, 0, 0, 0, 0xff, 0xc9, 0x0f, 0x85, 0, 0, 0, 0, 0xf4 };
	const uint64_t at = TINY_CODE + 0xffd;
	int32_t rel = (int32_t)(at - (TINY_CODE + sizeof(code)));

	memcpy(code + 2, &rel, 4);
	rel = (int32_t)(TINY_CODE - (at + 13));
	memcpy(cross + 9, &rel, 4);
	put(TINY_CODE, code, sizeof(code));
	put(at, cross, sizeof(cross));
	tiny_vm_enter64(&vm, 0, TINY_CODE, TINY_STACK);
	tiny_cpu(&vm)->s.gpr[X86_RAX] = 0;
	tiny_cpu(&vm)->s.gpr[X86_RCX] = 8;
	assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_HALTED);
	assert_int_equal(reg(X86_RAX), 8);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(stores_change_the_trace_that_runs),
		TEST(a_call_changes_the_code_it_is_in),
		TEST(a_store_beside_code_keeps_its_flags),
		TEST(flags_reach_an_instruction_in_two_pages),
		TEST(a_store_across_pages_is_seen_in_the_second),
		TEST(a_page_walk_changes_the_code_it_runs_in),
		TEST(a_loop_may_rewrite_its_own_links),
		TEST(a_store_through_another_address_is_seen),
		TEST(the_same_code_runs_at_two_addresses),
		TEST(a_store_of_another_cpu_is_seen),
		TEST(dma_is_seen_once_it_is_unmapped),
		TEST(the_second_page_of_an_instruction_may_be_written),
		TEST(the_second_page_of_an_instruction_may_move),
		TEST(the_second_page_of_an_instruction_may_go),
		TEST(code_in_device_memory_is_read_each_time),
		TEST(each_mode_has_its_own_traces),
		TEST(a_limit_is_not_passed_by_a_link),
		TEST(more_code_than_the_cache_holds_runs),
		TEST(what_leads_to_forgotten_code_is_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
