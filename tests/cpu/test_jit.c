/* What can be seen of the translator from outside: its mappings, the blocks that it counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/jit/jit.h"
#include "tiny_vm.h"

#define MOST 64

static struct tiny_vm vm;

static void make(const char *key, const char *value)
{
	struct engine_probe p;
	struct config *config = config_new();
	struct err err;

	engine_jit.probe(&p);
	if (!p.available) {
		config_free(config);
		print_message("skipped: %s\n", p.why);
		skip();
	}
	if (!config || config_set(config, "jit.cache", "1M", &err) || config_set(config, key, value, &err))
		abort();
	tiny_vm_new_configured(&vm, &engine_jit, config);
}

static struct x86_state *begin(const uint8_t *code, size_t len)
{
	tiny_vm_load64(&vm, code, len);
	return &tiny_cpu(&vm)->s;
}

static void run(void)
{
	assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_HALTED);
	assert_true(atomic_load(&jit_of(tiny_cpu(&vm))->counts.translations) > 0);
}

/* mov ecx, 1000; 1: dec ecx; jnz 1b; hlt */
static const uint8_t loop[] = { 0xb9, 0xe8, 0x03, 0, 0, 0xff, 0xc9, 0x75, 0xfc, 0xf4 };

/* --- mappings --- */

static void no_memory_is_writable_and_executable(void **state)
{
	char line[512], rights[5];
	unsigned writable = 0, executable = 0;
	FILE *f;

	make("jit.heat", "0");
	begin(loop, sizeof(loop));
	run();
	f = fopen("/proc/self/maps", "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		assert_int_equal(sscanf(line, "%*s %4s", rights), 1);
		if (rights[1] == 'w' && rights[2] == 'x')
			fail_msg("%s", line);
		if (strstr(line, "vireo-jit")) {
			writable += rights[1] == 'w';
			executable += rights[2] == 'x';
		}
	}
	fclose(f);
	assert_int_equal(writable, 1);
	assert_int_equal(executable, 1);
	tiny_vm_free(&vm);
}

/* --- blocks --- */

static struct engine_block blocks[MOST];

static const struct engine_block *block_at(uint64_t address)
{
	size_t count = vm.engine->hottest(vm.vm, blocks, MOST);

	for (size_t n = 1; n < count; n++)
		assert_true(blocks[n - 1].runs * blocks[n - 1].instructions >= blocks[n].runs * blocks[n].instructions);
	for (size_t n = 0; n < count; n++)
		if (blocks[n].address == address)
			return &blocks[n];
	fail_msg("no block at %#llx", (unsigned long long)address);
	return NULL;
}

static void blocks_are_counted(void **state)
{
	const struct engine_block *b;

	make("jit.count", "blocks");
	begin(loop, sizeof(loop));
	run();
	/* The first turn is in the block with the MOV. */
	b = block_at(TINY_CODE + 5);
	assert_ptr_equal(b, blocks);
	assert_int_equal(b->runs, 999);
	assert_int_equal(b->instructions, 2);
	assert_int_equal(b->phys, TINY_CODE + 5);
	assert_int_equal(b->bits, 64);
	assert_int_equal(b->guest_len, 4);
	assert_memory_equal(b->guest, loop + 5, 4);
	assert_true(b->host_len > 4);
	assert_int_equal(vm.engine->hottest(vm.vm, blocks, 1), 1);
	tiny_vm_free(&vm);
}

/*
 * The block at 40h is written anew 20000 times, so that the cache is full again and again: mov [rsi], cl; mov rbx, rax;
 * call 40h; dec ecx; jnz to the beginning; hlt.   40h: mov al, 0; ret
 */
static void what_the_cache_forgets_stays_counted(void **state)
{
	static const uint8_t code[0x43] = { 0x88, 0x0e, 0x48, 0x89, 0xc3, 0xe8, 0x36,	       0, 0,
					    0,	  0xff, 0xc9, 0x75, 0xf2, 0xf4, [0x40] = 0xb0, 0, 0xc3 };
	const uint64_t rounds = 20000;
	const struct engine_block *b;
	uint64_t changed = 0;
	struct x86_state *s;

	make("jit.count", "blocks");
	s = begin(code, sizeof(code));
	s->gpr[X86_RCX] = rounds;
	s->gpr[X86_RSI] = TINY_CODE + 0x41;
	run();
	assert_true(atomic_load(&jit_cache_counts(jit_cache_of(tiny_cpu(&vm)))->forgotten) > 2);
	/* Broken off behind the store, which is to its own page, it was begun all the same. */
	b = block_at(TINY_CODE);
	assert_int_equal(b->runs, rounds);
	assert_memory_equal(b->guest, code, 5);
	/* What differs in its code is another block, 256 of them. */
	for (uint64_t n = 0; n < MOST; n++)
		if (blocks[n].address == TINY_CODE + 0x40)
			changed += blocks[n].runs;
	assert_in_range(changed, 1, rounds);
	tiny_vm_free(&vm);
}

static void nothing_is_counted_unless_asked_for(void **state)
{
	make("jit.count", "sums");
	begin(loop, sizeof(loop));
	run();
	assert_int_equal(vm.engine->hottest(vm.vm, blocks, MOST), 0);
	tiny_vm_free(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_memory_is_writable_and_executable),
		cmocka_unit_test(blocks_are_counted),
		cmocka_unit_test(what_the_cache_forgets_stays_counted),
		cmocka_unit_test(nothing_is_counted_unless_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
