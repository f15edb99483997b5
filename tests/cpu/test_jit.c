/* What can be seen of the translator from outside: its mappings, the blocks that it counted, what perf is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cpu/jit/jit.h"
#include "tiny_vm.h"

#define MOST 64

static struct tiny_vm vm;

/* `config` is taken. */
static void make_with(struct config *config)
{
	struct engine_probe p;

	engine_jit.probe(&p);
	if (!p.available) {
		config_free(config);
		print_message("skipped: %s\n", p.why);
		skip();
	}
	tiny_vm_new_configured(&vm, &engine_jit, config);
}

static void make(const char *key, const char *value)
{
	struct config *config = config_new();
	struct err err;

	if (!config || config_set(config, "jit.cache", "1M", &err) || config_set(config, key, value, &err))
		abort();
	make_with(config);
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

/* --- heat --- */

static uint64_t translations_after(unsigned runs)
{
	for (unsigned n = 0; n < runs; n++) {
		begin(loop + 5, sizeof(loop) - 5)->gpr[X86_RCX] = 1;
		x86_traces_flush(tiny_cpu(&vm)->traces);
		assert_int_equal(vm.engine->run(vm.vcpu), CPU_EXIT_HALTED);
	}
	return atomic_load(&jit_of(tiny_cpu(&vm))->counts.translations);
}

/* Traces are forgotten before they are hot, how often they were interpreted is not; with the code it is. */
static void heat_outlives_traces(void **state)
{
	uint64_t before;

	make("jit.count", "off");
	tiny_cpu(&vm)->vm->heat = 20;
	assert_int_equal(translations_after(20), 0);
	before = translations_after(1);
	assert_true(before > 0);
	jit_translator.forget(tiny_cpu(&vm)->vm);
	assert_int_equal(translations_after(20), before);
	assert_true(translations_after(1) > before);
	tiny_vm_free(&vm);
}

/* --- mappings --- */

/* The line of the mapping that has `at`; fails if any mapping is writable and executable. */
static void find_mapping(uintptr_t at, char *line, size_t len)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char text[512], rights[5];
	uintptr_t from, to;

	assert_non_null(f);
	*line = 0;
	while (fgets(text, sizeof(text), f)) {
		assert_int_equal(sscanf(text, "%zx-%zx %4s", &from, &to, rights), 3);
		if (rights[1] == 'w' && rights[2] == 'x')
			fail_msg("%s", text);
		if (at >= from && at < to)
			snprintf(line, len, "%s", text);
	}
	fclose(f);
	assert_true(*line);
}

static uintptr_t code_address(void)
{
	return (uintptr_t)jit_cache_thunks(jit_cache_of(tiny_cpu(&vm)))->enter;
}

static void no_memory_is_writable_and_executable(void **state)
{
	char line[512];

	make("jit.heat", "0");
	begin(loop, sizeof(loop));
	run();
	find_mapping(code_address(), line, sizeof(line));
	assert_non_null(strstr(line, " r-xs "));
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
	/* What is told to thunks stands behind their calls. */
	assert_true(b->host_data_count > 0);
	for (size_t n = 0; n < b->host_data_count; n++) {
		assert_in_range(b->host_data[n].at, 5, b->host_len - b->host_data[n].len);
		assert_int_equal(b->host[b->host_data[n].at - 5], 0xe8);
	}
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
	assert_true(atomic_load(&jit_of(tiny_cpu(&vm))->counts.forgetting_ns) > 0);
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

/* --- perf --- */

static uintptr_t start_of_block(void)
{
	return block_at(TINY_CODE + 5)->host_address;
}

/* A translator that perf is told of, and which has run the loop. */
static void run_for_perf(const char *kind)
{
	struct config *config = config_new();
	struct err err;

	if (!config || config_set(config, "jit.count", "blocks", &err) || config_set(config, "jit.perf", kind, &err))
		abort();
	make_with(config);
	begin(loop, sizeof(loop));
	run();
}

static void perf_has_a_map(void **state)
{
	char path[64], name[64], line[512];
	uintptr_t at;
	size_t len, lines = 0;
	bool block = false, thunks = false;
	FILE *f;

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	run_for_perf("map");
	f = fopen(path, "r");
	assert_non_null(f);
	while (fscanf(f, "%zx %zx %63s\n", &at, &len, name) == 3) {
		lines++;
		thunks |= !strcmp(name, "jit_thunks");
		if (strcmp(name, "guest_0000000000010005"))
			continue;
		block = true;
		assert_int_equal(at, start_of_block());
		assert_int_equal(len, block_at(TINY_CODE + 5)->host_len);
	}
	assert_true(feof(f) && lines >= 3 && block && thunks);
	fclose(f);
	/* perf looks into its map for code of no file. */
	find_mapping(code_address(), line, sizeof(line));
	assert_true(strstr(line, " r-xs ") && strstr(line, "/dev/zero"));
	tiny_vm_free(&vm);
	unlink(path);
}

/* As tools/perf/Documentation/jitdump-specification.txt says. */
static void perf_has_a_dump(void **state)
{
	struct {
		uint32_t magic, version, size, machine, pad, pid;
		uint64_t time, flags;
	} head;
	struct {
		uint32_t id, size;
		uint64_t time;
	} r;
	struct {
		uint32_t pid, tid;
		uint64_t vma, at, len, index;
	} load;
	char dir[] = "/tmp/vireo-jit-XXXXXX", path[64], text[1 << 16];
	unsigned loads = 0;
	uint64_t last = 0;
	bool block = false;
	FILE *f;

	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	snprintf(path, sizeof(path), "jit-%d.dump", (int)getpid());
	run_for_perf("dump");
	f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(fread(&head, sizeof(head), 1, f), 1);
	assert_int_equal(head.magic, 0x4a695444);
	assert_int_equal(head.size, 40);
	assert_int_equal(head.machine, 62);
	assert_int_equal(head.pid, getpid());
	while (fread(&r, sizeof(r), 1, f) == 1) {
		const char *code;

		assert_int_equal(r.id, 0);
		assert_true(r.time >= last && r.size > sizeof(r) + sizeof(load));
		last = r.time;
		assert_int_equal(fread(&load, sizeof(load), 1, f), 1);
		assert_in_range(r.size - sizeof(r) - sizeof(load), load.len, sizeof(text));
		assert_int_equal(fread(text, r.size - sizeof(r) - sizeof(load), 1, f), 1);
		assert_int_equal(load.index, loads++);
		code = text + strlen(text) + 1;
		assert_int_equal(code - text + load.len, r.size - sizeof(r) - sizeof(load));
		if (strcmp(text, "guest_0000000000010005"))
			continue;
		block = true;
		assert_int_equal(load.vma, load.at);
		assert_int_equal(load.at, start_of_block());
		assert_memory_equal(code, (const void *)load.at, 8);
	}
	assert_true(feof(f) && loads >= 3 && block);
	fclose(f);
	tiny_vm_free(&vm);
	unlink(path);
	assert_int_equal(chdir("/"), 0);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(heat_outlives_traces),
		cmocka_unit_test(no_memory_is_writable_and_executable),
		cmocka_unit_test(blocks_are_counted),
		cmocka_unit_test(what_the_cache_forgets_stays_counted),
		cmocka_unit_test(nothing_is_counted_unless_asked_for),
		cmocka_unit_test(perf_has_a_map),
		cmocka_unit_test(perf_has_a_dump),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
