/*
 * A whole saved machine with one of every device: pieces of the state are replaced and the checksums made right; what
 * is accepted is run for a moment. The configuration stays as it is, because it names files of the host.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "full.h"
#include "stream.h"
#include "vm/impl.h"
#include "vm/save.h"
#include "vm/save_stream.h"

/* A multiboot kernel of one loop: inc dword [200000h]; jmp to it. */
static const uint32_t kernel[] = { 0x1badb002, 0x10000,	 -(0x1badb002u + 0x10000u),
				   0x100000,   0x100000, 0x101000,
				   0x101000,   0x100020, 0x000005ff,
				   0xf8eb0020 };

static char kernel_path[64], disk_path[2][64], state_path[64];
static struct stream good;
static int state_fd;

static int memory_file(const char *name, char path[64], size_t size)
{
	int fd = memfd_create(name, 0);

	if (fd < 0 || ftruncate(fd, (off_t)size))
		abort();
	snprintf(path, 64, "/proc/self/fd/%d", fd);
	return fd;
}

static struct config *configure(const char *text)
{
	struct config *c = config_new();
	char *copy = strdup(text), *rest = copy, *word;
	struct err err;

	while ((word = strsep(&rest, " "))) {
		char *eq = strchr(word, '=');

		if (!eq)
			continue;
		*eq = 0;
		if (config_set(c, word, eq + 1, &err))
			abort();
	}
	free(copy);
	return c;
}

/* A state as a save would write it, of a machine whose drivers have set everything up. */
static void make_good(void)
{
	char keys[1024], dir[] = "/tmp/vireo-fuzz-XXXXXX";
	struct save_progress progress = { 0 };
	struct save_parts parts;
	struct config *c;
	struct err err;
	uint64_t written;
	struct vm *vm;
	FILE *f;

	if (!mkdtemp(dir) || setenv("XDG_RUNTIME_DIR", dir, 1))
		abort();
	if (pwrite(memory_file("kernel", kernel_path, 4096), kernel, sizeof(kernel), 0) != sizeof(kernel))
		abort();
	memory_file("disk0", disk_path[0], 1 << 20);
	memory_file("disk1", disk_path[1], 1 << 20);
	state_fd = memory_file("state", state_path, 0);
	snprintf(keys, sizeof(keys), FULL_KEYS " kernel=%s disk0.path=%s disk1.path=%s", kernel_path, disk_path[0],
		 disk_path[1]);
	c = configure(keys);
	vm = vm_new(c, &err);
	if (!vm) {
		fprintf(stderr, "%s\n", err.msg);
		abort();
	}
	full_drive(vm);
	parts.config = save_config_text(vm, false, &parts.config_len, &err);
	f = open_memstream(&parts.sections, &parts.sections_len);
	if (!parts.config || save_sections(vm, f, &err) || fclose(f) ||
	    save_write(vm, state_fd, &parts, &progress, &written, &err))
		abort();
	free(parts.config);
	free(parts.sections);
	vm_free(vm);
	config_free(c);
	stream_read(&good, state_path);
}

static void live_a_little(void *opaque)
{
	struct vm *vm = opaque;
	struct err err;

	usleep(200);
	vm_pause(vm);
	vm_resume(vm, &err);
	vm_quit(vm, 0, "host-ui");
}

static void restore(void)
{
	struct config *c = configure("name=full");
	struct err err;
	struct vm *vm = vm_restore(c, state_path, &err);

	if (vm) {
		loop_post(vm->loop, live_a_little, vm);
		vm_run(vm, &err);
		vm_free(vm);
	}
	config_free(c);
}

/* Each piece of the input: where (3 bytes), how many bytes (1), and these. */
static void replace(struct stream *s, const uint8_t *data, size_t size)
{
	size_t room = s->len - 4 - s->model;

	while (size > 4) {
		size_t at = s->model + (ld_le16(data) | (size_t)data[2] << 16) % room, len = data[3] & 31;

		data += 4;
		size -= 4;
		for (size_t n = 0; n < len && n < size && at + n < s->len - 4; n++)
			s->data[at + n] = data[n];
		len = len < size ? len : size;
		data += len;
		size -= len;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct stream s;

	if (!good.data)
		make_good();
	/* Either pieces laid over a good state, or a field that the input names. */
	s = good;
	s.data = malloc(good.len);
	memcpy(s.data, good.data, good.len);
	if (size > 10 && data[0] & 1)
		stream_put(&s, &s.fields[(ld_le16(data + 1)) % s.field_count], ld_le64(data + 3));
	else
		replace(&s, data, size);
	stream_seal(&s);
	if (ftruncate(state_fd, 0) || pwrite(state_fd, s.data, s.len, 0) != (ssize_t)s.len)
		abort();
	free(s.data);
	restore();
	return 0;
}
