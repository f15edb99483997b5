/* QMP: guest memory into files. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "vm/impl.h"
#include "vm/qmp.h"

struct range {
	const char *file;
	uint64_t at, size;
	const void *state; /* linear addresses of this processor; NULL: physical ones */
};

static int copy(struct vm *vm, const struct range *r, int fd, struct err *err)
{
	uint8_t page[MEM_PAGE_SIZE];
	uint64_t at = r->at, left = r->size, phys;

	while (left) {
		size_t n = MEM_PAGE_SIZE - (at & (MEM_PAGE_SIZE - 1));

		n = n < left ? n : (size_t)left;
		phys = at;
		if ((r->state && !vm->engine->debug_isa->translate(r->state, vm->mem, at, &phys)) ||
		    !mem_read(vm->mem, gpa(phys), page, n))
			return err_set(err, "Invalid addr 0x%016" PRIx64 "/size %" PRIu64 " specified", r->at, r->size);
		if (write(fd, page, n) != (ssize_t)n)
			return err_errno(err, errno, "%s", r->file);
		at += n;
		left -= n;
	}
	return 0;
}

static json_t *save(struct vm *vm, const struct range *r, struct err *err)
{
	int fd, rc;

	/* Page tables that lead into themselves have no end. */
	if (r->size > vm->ram_low + vm->ram_high + (1u << 24)) {
		err_set(err, "Parameter 'size' is larger than the guest's memory");
		return NULL;
	}
	/* Waits for nobody, as the other end of a FIFO. */
	fd = open(r->file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK, 0666);
	if (fd < 0) {
		err_errno(err, errno, "Could not open '%s'", r->file);
		return NULL;
	}
	rc = copy(vm, r, fd, err);
	if (close(fd) && !rc)
		rc = err_errno(err, errno, "%s", r->file);
	return rc ? NULL : json_object();
}

static struct range range_of(const json_t *args)
{
	return (struct range){ .file = json_string_value(json_object_get(args, "filename")),
			       .at = (uint64_t)json_integer_value(json_object_get(args, "val")),
			       .size = (uint64_t)json_integer_value(json_object_get(args, "size")) };
}

static json_t *pmemsave(struct vm *vm, const json_t *args, struct err *err)
{
	struct range r = range_of(args);

	return save(vm, &r, err);
}

static json_t *memsave(struct vm *vm, const json_t *args, struct err *err)
{
	json_int_t cpu = json_integer_value(json_object_get(args, "cpu-index"));
	struct range r = range_of(args);
	json_t *result;
	void *state;

	if (cpu < 0 || cpu >= vm->cpus) {
		err_set(err, "Parameter 'cpu-index' expects a CPU number");
		return NULL;
	}
	state = vm_cpu_state(vm, (unsigned)cpu);
	if (!state) {
		err_set(err, "out of memory");
		return NULL;
	}
	r.state = state;
	result = save(vm, &r, err);
	free(state);
	return result;
}

const struct qmp_command qmp_memory_commands[] = {
	{ "memsave", "val:int size:int filename:str ?cpu-index:int", "", memsave },
	{ "pmemsave", "val:int size:int filename:str", "", pmemsave },
	{ 0 },
};
