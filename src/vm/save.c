/* The file: a header, the configuration, RAM by slot (pages that are all zero are left out), then a section per device
 * and vCPU. */
#include "vm/save.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "vm/impl.h"

#define MAGIC	   "VIREOSAV"
#define VERSION	   1
#define CONFIG_MAX 65536
#define RUN_END	   (~0ull)
#define RUN_MAX	   (1u << 20)

/* --- small pieces --- */

static int put64(FILE *f, uint64_t v)
{
	v = htole64(v);
	return fwrite(&v, 8, 1, f) == 1 ? 0 : -1;
}

static int get64(FILE *f, uint64_t *v)
{
	if (fread(v, 8, 1, f) != 1)
		return -1;
	*v = le64toh(*v);
	return 0;
}

static int truncated(struct err *err)
{
	return err_set(err, "the saved state is truncated");
}

/* --- configuration: names and paths that belong to one run are not kept --- */

static int put_config(FILE *f, struct config *c, struct err *err)
{
	char *text = NULL;
	size_t len = 0;
	FILE *m = open_memstream(&text, &len);
	int rc;

	if (!m)
		return err_set(err, "out of memory");
	config_write(c, m);
	fclose(m);
	rc = len > CONFIG_MAX || put64(f, len) || fwrite(text, 1, len, f) != len;
	free(text);
	return rc ? err_errno(err, errno, "the configuration") : 0;
}

static int get_config(FILE *f, char **text, struct err *err)
{
	uint64_t len;

	*text = NULL;
	if (get64(f, &len) || len > CONFIG_MAX)
		return truncated(err);
	*text = calloc(1, len + 1);
	if (!*text)
		return err_set(err, "out of memory");
	if (fread(*text, 1, len, f) == len)
		return 0;
	free(*text);
	*text = NULL;
	return truncated(err);
}

static FILE *open_saved(const char *path, struct err *err)
{
	FILE *f = fopen(path, "rbe");
	char magic[8];
	uint64_t version;

	if (!f) {
		err_errno(err, errno, "%s", path);
		return NULL;
	}
	if (fread(magic, 8, 1, f) != 1 || memcmp(magic, MAGIC, 8) || get64(f, &version))
		err_set(err, "%s is not a saved state", path);
	else if (version != VERSION)
		err_set(err, "%s was saved in format %llu; this is format %d", path, (unsigned long long)version,
			VERSION);
	else
		return f;
	fclose(f);
	return NULL;
}

int vm_saved_config(const char *path, struct config *c, struct err *err)
{
	FILE *f = open_saved(path, err);
	char *text, *line, *rest;
	int rc = 0;

	if (!f)
		return -1;
	if (get_config(f, &text, err)) {
		fclose(f);
		return err_prefix(err, "%s", path);
	}
	for (rest = text; !rc && (line = strsep(&rest, "\n"));) {
		char *eq = strstr(line, " = ");

		if (!eq)
			continue;
		*eq = 0;
		if (!config_get(c, line))
			rc = config_set(c, line, eq + 3, err);
	}
	free(text);
	fclose(f);
	return rc;
}

/* --- RAM --- */

static bool is_zero(const uint8_t *p, size_t len)
{
	return !p[0] && !memcmp(p, p + 1, len - 1);
}

static int save_slot(FILE *f, const struct mem_window *w, const char *name)
{
	uint64_t at = 0;

	if (put64(f, w->base.v) || put64(f, w->size))
		return -1;
	while (at < w->size) {
		uint64_t from, len;

		while (at < w->size && is_zero(w->host + at, MEM_PAGE_SIZE))
			at += MEM_PAGE_SIZE;
		from = at;
		while (at < w->size && at - from < RUN_MAX && !is_zero(w->host + at, MEM_PAGE_SIZE))
			at += MEM_PAGE_SIZE;
		len = at - from;
		if (len && (put64(f, from) || put64(f, len) || fwrite(w->host + from, 1, len, f) != len))
			return -1;
	}
	return put64(f, RUN_END);
}

static int load_slot(FILE *f, const struct mem_window *w, struct err *err)
{
	uint64_t base, size, from, len;

	if (get64(f, &base) || get64(f, &size))
		return truncated(err);
	if (base != w->base.v || size != w->size)
		return err_set(err, "the memory layout is another one (%#llx+%#llx)", (unsigned long long)base,
			       (unsigned long long)size);
	/* Fresh memory is zero. */
	for (;;) {
		if (get64(f, &from))
			return truncated(err);
		if (from == RUN_END)
			return 0;
		if (get64(f, &len) || !len || !range_within(from, len, w->size) || len > RUN_MAX)
			return err_set(err, "a run of memory lies outside of its slot");
		if (fread(w->host + from, 1, len, f) != len)
			return truncated(err);
	}
}

/* --- sections --- */

/* Calls fn for each saved object: the clock, each device, each vCPU through a copy. */
static int sections(struct vm *vm, FILE *f, bool save, struct err *err)
{
	void *state = calloc(1, vm->engine->arch_state_size);
	int rc = -1;
	char instance[16];

	if (!state)
		return err_set(err, "out of memory");
	if ((save ? state_save : state_load)(f, &clock_state, "0", vm->clock, err))
		goto out;
	for (unsigned n = 0; n < vm->cpus; n++) {
		snprintf(instance, sizeof(instance), "%u", n);
		if (save)
			vm->engine->get_state(vm->cpu[n].vcpu, state);
		if ((save ? state_save : state_load)(f, vm->engine->arch_state, instance, state, err) ||
		    (!save && vm->engine->set_state(vm->cpu[n].vcpu, state, err)))
			goto out;
	}
	for (struct device *d = vm->devices; d; d = d->next) {
		if (!d->state) {
			err_set(err, "%s cannot be saved", d->name);
			goto out;
		}
		if ((save ? state_save : state_load)(f, d->state, d->instance, d->self, err))
			goto out;
	}
	rc = 0;
out:
	free(state);
	return rc;
}

static int write_all(struct vm *vm, FILE *f, struct err *err)
{
	struct mem_window w;
	const char *name;

	if (fwrite(MAGIC, 8, 1, f) != 1 || put64(f, VERSION))
		return err_errno(err, errno, "the header");
	if (put_config(f, vm->config, err) || fwrite(vm->uuid, 16, 1, f) != 1)
		return -1;
	for (unsigned n = 0; n < mem_slot_count(vm->mem); n++)
		if (mem_slot_window(vm->mem, n, &w, &name) && save_slot(f, &w, name))
			return err_errno(err, errno, "memory");
	return sections(vm, f, true, err);
}

int vm_save(struct vm *vm, const char *path, struct err *err)
{
	bool running = vm->state == VM_RUNNING;
	char *temp;
	FILE *f;
	int rc = -1;

	if (asprintf(&temp, "%s.part", path) < 0)
		return err_set(err, "out of memory");
	vm_pause(vm);
	f = fopen(temp, "wbe");
	if (!f) {
		err_errno(err, errno, "%s", temp);
		goto out;
	}
	rc = write_all(vm, f, err);
	if (!rc && (fflush(f) || fsync(fileno(f))))
		rc = err_errno(err, errno, "%s", temp);
	if (fclose(f) && !rc)
		rc = err_errno(err, errno, "%s", temp);
	if (!rc && rename(temp, path))
		rc = err_errno(err, errno, "%s", path);
	if (rc)
		unlink(temp);
out:
	free(temp);
	/* What could not be saved goes on. */
	if (rc && running)
		vm_resume(vm);
	return rc;
}

int vm_load(struct vm *vm, const char *path, struct err *err)
{
	FILE *f = open_saved(path, err);
	struct mem_window w;
	const char *name;
	char *text;
	int rc;

	if (!f)
		return -1;
	rc = get_config(f, &text, err);
	if (!rc)
		free(text);
	if (!rc && fread(vm->uuid, 16, 1, f) != 1)
		rc = truncated(err);
	for (unsigned n = 0; !rc && n < mem_slot_count(vm->mem); n++)
		if (mem_slot_window(vm->mem, n, &w, &name))
			rc = load_slot(f, &w, err);
	if (!rc)
		rc = sections(vm, f, false, err);
	if (!rc && fgetc(f) != EOF)
		rc = err_set(err, "something follows the last section");
	fclose(f);
	return rc ? err_prefix(err, "%s", path) : 0;
}
