/* The packets of a debugger: each line of the input is one, to a machine that has not started its threads. */
#include <sanitizer/lsan_interface.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cpu/x86/cpu.h"
#include "vm/gdb_impl.h"
#include "vm/impl.h"

/* A multiboot kernel of one instruction: jmp to itself. */
static const uint32_t kernel[] = { 0x1badb002, 0x10000,	 -(0x1badb002u + 0x10000u),
				   0x100000,   0x100000, 0x101000,
				   0x101000,   0x100020, 0x0000feeb };

static struct vm *make(void)
{
	char dir[] = "/tmp/vireo-fuzz-XXXXXX", at[64];
	const char *const keys[][2] = { { "name", "m" },       { "memory", "16" },
					{ "cpus", "2" },       { "rng", "off" },
					{ "serial0", "null" }, { "gdb", at },
					{ "paused", "on" },    { "kernel", "/proc/self/fd/9" } };
	struct config *c = config_new();
	struct err err;
	struct vm *vm;

	if (!mkdtemp(dir) || setenv("XDG_RUNTIME_DIR", dir, 1) || dup2(memfd_create("kernel", 0), 9) != 9 ||
	    ftruncate(9, 4096) || pwrite(9, kernel, sizeof(kernel), 0) != sizeof(kernel))
		abort();
	snprintf(at, sizeof(at), "unix:%s/gdb.sock", dir);
	for (size_t n = 0; n < sizeof(keys) / sizeof(keys[0]); n++)
		if (config_set(c, keys[n][0], keys[n][1], &err))
			abort();
	vm = vm_new(c, &err);
	if (!vm) {
		fprintf(stderr, "%s\n", err.msg);
		abort();
	}
	/* The leak detector does not look into mapped memory by itself. */
	for (unsigned n = 0; n < vm->cpus; n++)
		__lsan_register_root_region(x86_cpu_of(vm->cpu[n].vcpu), sizeof(struct x86_cpu));
	return vm;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vm *vm;
	struct gdb *g;

	if (!vm)
		vm = make();
	g = vm->gdb;
	vm->state = VM_DEBUG;
	gdb_forget(g);
	while (size) {
		const uint8_t *end = memchr(data, '\n', size);
		size_t len = end ? (size_t)(end - data) : size;

		g->holding = true;
		g->waiting = false;
		g->in_len = len < GDB_PACKET_MAX ? len : GDB_PACKET_MAX;
		memcpy(g->in, data, g->in_len);
		g->in[g->in_len] = 0;
		gdb_begin(g);
		gdb_execute(g);
		if (g->out_len > GDB_PACKET_MAX)
			abort();
		data += len + (end != NULL);
		size -= len + (end != NULL);
	}
	return 0;
}
