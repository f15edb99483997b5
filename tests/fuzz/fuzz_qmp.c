/*
 * The control socket: the input is what a client sends, to a machine that has not started its threads. The first byte
 * says whether it is one of QMP, or of the monitor.
 */
#include <sanitizer/lsan_interface.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cpu/x86/cpu.h"
#include "vm/control.h"
#include "vm/impl.h"

/* A multiboot kernel of one instruction: jmp to itself. */
static const uint32_t kernel[] = { 0x1badb002, 0x10000,	 -(0x1badb002u + 0x10000u),
				   0x100000,   0x100000, 0x101000,
				   0x101000,   0x100020, 0x0000feeb };

static struct vm *make(void)
{
	static const char *const keys[][2] = {
		{ "name", "m" },       { "memory", "16" },	  { "cpus", "2" },
		{ "rng", "off" },      { "balloon", "on" },	  { "i8042", "on" },
		{ "serial0", "null" }, { "cdrom0.path", "none" }, { "kernel", "/proc/self/fd/9" }
	};
	char dir[] = "/tmp/vireo-fuzz-XXXXXX";
	struct config *c = config_new();
	struct err err;
	struct vm *vm;

	if (!mkdtemp(dir) || setenv("XDG_RUNTIME_DIR", dir, 1) || dup2(memfd_create("kernel", 0), 9) != 9 ||
	    ftruncate(9, 4096) || pwrite(9, kernel, sizeof(kernel), 0) != sizeof(kernel))
		abort();
	for (size_t n = 0; n < sizeof(keys) / sizeof(keys[0]); n++)
		if (config_set(c, keys[n][0], keys[n][1], &err))
			abort();
	vm = vm_new(c, &err);
	if (!vm) {
		fprintf(stderr, "%s\n", err.msg);
		abort();
	}
	/* Its output. */
	if (!freopen("/dev/null", "w", stdout))
		abort();
	/* The leak detector does not look into mapped memory by itself. */
	for (unsigned n = 0; n < vm->cpus; n++)
		__lsan_register_root_region(x86_cpu_of(vm->cpu[n].vcpu), sizeof(struct x86_cpu));
	return vm;
}

/* Nothing that writes files. */
static bool is_harmless(const uint8_t *data, size_t size)
{
	static const char *const words[] = { "save", "migrate", "dump" };

	for (size_t n = 0; n < sizeof(words) / sizeof(words[0]); n++)
		if (memmem(data, size, words[n], strlen(words[n])))
			return false;
	return true;
}

static void stop(void *loop)
{
	loop_quit(loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vm *vm;
	const struct control_protocol *p;
	struct link *l;
	bool fresh;

	if (!vm)
		vm = make();
	if (size < 2 || !is_harmless(data, size))
		return 0;
	p = *data & 1 ? &monitor_protocol : &qmp_protocol;
	l = control_terminal(vm->control, p, &fresh);
	if (!l)
		abort();
	if (p == &qmp_protocol) {
		static const char begin[] = "{\"execute\": \"qmp_capabilities\"}\n";

		link_feed(l, begin, sizeof(begin) - 1);
	}
	for (data++, size--; size && !link_is_dropped(l);) {
		size_t n = size < 4096 ? size : 4096;

		link_feed(l, (const char *)data, n);
		data += n;
		size -= n;
	}
	/* The end of the connection, and what was left for later. */
	link_drop(l);
	loop_post(vm->loop, stop, vm->loop);
	loop_run(vm->loop);
	vm->state = VM_PAUSED;
	return 0;
}
