/* See save_stream.h. */
#include "vm/save_stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/bytes.h"
#include "vm/impl.h"

#define CONFIG_MAX 65536
#define RUN_END	   (~0ull)
#define RUN_MAX	   (1u << 20)

/* --- the checked stream --- */

static ssize_t cookie_write(void *cookie, const char *b, size_t len)
{
	struct crc_file *c = cookie;
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(c->fd, b + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return 0; /* an error, for fopencookie(3) */
		done += (size_t)n;
	}
	c->crc = (uint32_t)crc32_z(c->crc, (const unsigned char *)b, len);
	c->at += len;
	return (ssize_t)len;
}

static ssize_t cookie_read(void *cookie, char *b, size_t len)
{
	struct crc_file *c = cookie;
	ssize_t n;

	if (len > c->end - c->at)
		len = c->end - c->at;
	do
		n = pread(c->fd, b, len, (off_t)c->at);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n;
	c->crc = (uint32_t)crc32_z(c->crc, (unsigned char *)b, (size_t)n);
	c->at += (uint64_t)n;
	return n;
}

int crc_file_open(struct crc_file *c, int fd, bool write, struct err *err)
{
	struct stat st;

	*c = (struct crc_file){ .fd = fd };
	if (!write) {
		if (fstat(fd, &st))
			return err_errno(err, errno, "the saved state");
		if (!S_ISREG(st.st_mode) || st.st_size < 4)
			return err_set(err, "not a saved state");
		c->end = (uint64_t)st.st_size - 4;
	}
	c->f = fopencookie(c, write ? "w" : "r", (cookie_io_functions_t){ cookie_read, cookie_write, NULL, NULL });
	return c->f ? 0 : err_set(err, "out of memory");
}

/* --- small pieces --- */

static int put32(FILE *f, uint32_t v)
{
	v = htole32(v);
	return fwrite(&v, 4, 1, f) == 1 ? 0 : -1;
}

static int put64(FILE *f, uint64_t v)
{
	v = htole64(v);
	return fwrite(&v, 8, 1, f) == 1 ? 0 : -1;
}

static int truncated(FILE *f, struct err *err)
{
	return ferror(f) ? err_errno(err, errno, "read") : err_set(err, "the saved state is truncated");
}

static int get32(FILE *f, uint32_t *v, struct err *err)
{
	if (fread(v, 4, 1, f) != 1)
		return truncated(f, err);
	*v = le32toh(*v);
	return 0;
}

static int get64(FILE *f, uint64_t *v, struct err *err)
{
	if (fread(v, 8, 1, f) != 1)
		return truncated(f, err);
	*v = le64toh(*v);
	return 0;
}

static int damaged(struct err *err)
{
	return err_set(err, "the saved state is damaged: its checksum is another one");
}

static uint32_t text_crc(const char *text, size_t len)
{
	return (uint32_t)crc32_z(0, (const unsigned char *)text, len);
}

static int put_text(FILE *f, const char *text, size_t len)
{
	return put32(f, (uint32_t)len) || fwrite(text, 1, len, f) != len ? -1 : 0;
}

static int get_text(FILE *f, uint32_t max, char **text, struct err *err)
{
	uint32_t len;

	*text = NULL;
	if (get32(f, &len, err))
		return -1;
	if (len > max)
		return err_set(err, "the saved state is damaged: a text of %u bytes", len);
	*text = calloc(1, (size_t)len + 1);
	if (!*text)
		return err_set(err, "out of memory");
	if (fread(*text, 1, len, f) == len)
		return 0;
	free(*text);
	*text = NULL;
	return truncated(f, err);
}

/* --- RAM: runs of pages that are not zero --- */

static bool is_zero(const uint8_t *p)
{
	return !p[0] && !memcmp(p, p + 1, MEM_PAGE_SIZE - 1);
}

static int save_slot(FILE *f, const struct mem_window *w, struct save_progress *p)
{
	uint64_t at = 0;

	if (put64(f, w->base.v) || put64(f, w->size))
		return -1;
	while (at < w->size) {
		uint64_t before = at, from, len;

		if (atomic_load(&p->cancel)) {
			errno = ECANCELED;
			return -1;
		}
		while (at < w->size && at - before < RUN_MAX && is_zero(w->host + at))
			at += MEM_PAGE_SIZE;
		from = at;
		while (at < w->size && at - from < RUN_MAX && !is_zero(w->host + at))
			at += MEM_PAGE_SIZE;
		len = at - from;
		if (len && (put64(f, from) || put64(f, len) || fwrite(w->host + from, 1, len, f) != len))
			return -1;
		atomic_fetch_add(&p->done, at - before);
	}
	return put64(f, RUN_END);
}

static int load_slot(FILE *f, const struct mem_window *w, struct err *err)
{
	uint64_t base, size, from, len, at = 0;

	if (get64(f, &base, err) || get64(f, &size, err))
		return -1;
	if (base != w->base.v || size != w->size)
		return err_set(err, "memory: the saved state has %llu bytes at %#llx, this machine has %llu at %#llx",
			       (unsigned long long)size, (unsigned long long)base, (unsigned long long)w->size,
			       (unsigned long long)w->base.v);
	/* Fresh memory is zero. Runs come in order, so a stream is no longer than the memory. */
	for (;;) {
		if (get64(f, &from, err))
			return -1;
		if (from == RUN_END)
			return 0;
		if (get64(f, &len, err))
			return -1;
		if (from < at || !len || len > RUN_MAX || !range_within(from, len, w->size))
			return err_set(err, "memory: the saved state is damaged at %#llx", (unsigned long long)from);
		if (fread(w->host + from, 1, len, f) != len)
			return truncated(f, err);
		at = from + len;
	}
}

/* --- sections --- */

typedef int section_fn(FILE *f, const struct state_desc *desc, const char *instance, void *obj, struct err *err);

static int each_cpu(struct vm *vm, FILE *f, bool save, struct err *err)
{
	section_fn *fn = save ? state_save : state_load;
	void *state = calloc(1, vm->engine->arch_state_size);
	char instance[16];
	int rc = 0;

	if (!state)
		return err_set(err, "out of memory");
	for (unsigned n = 0; !rc && n < vm->cpus; n++) {
		snprintf(instance, sizeof(instance), "%u", n);
		if (save)
			vm->engine->get_state(vm->cpu[n].vcpu, state);
		rc = fn(f, vm->engine->arch_state, instance, state, err);
		if (!rc && save && vm->engine->check_state && vm->engine->check_state(vm->engine_vm, state, err))
			rc = err_prefix(err, "CPU %u cannot be saved as it is", n);
		if (!rc && !save)
			rc = vm->engine->set_state(vm->cpu[n].vcpu, state, err);
	}
	free(state);
	return rc;
}

static int each_section(struct vm *vm, FILE *f, bool save, struct err *err)
{
	section_fn *fn = save ? state_save : state_load;

	if (fn(f, &clock_state, "0", vm->clock, err) || each_cpu(vm, f, save, err))
		return -1;
	for (struct device *d = vm->devices; d; d = d->next) {
		if (!d->state)
			return err_set(err, "%s cannot be saved", d->name);
		if (fn(f, d->state, d->instance, d->self, err))
			return -1;
	}
	return 0;
}

int save_sections(struct vm *vm, FILE *f, struct err *err)
{
	return each_section(vm, f, true, err);
}

static int model_section(struct vm *vm, FILE *f, bool save, struct err *err)
{
	const struct engine *e = vm->engine;

	if (!e->model_state)
		return 0;
	return (save ? state_save : state_load)(f, e->model_state, "0", e->model(vm->engine_vm), err);
}

/* --- the whole --- */

static int write_all(struct vm *vm, FILE *f, const struct save_parts *parts, struct save_progress *p, struct err *err)
{
	struct mem_window w;
	const char *name;

	if (fwrite(SAVE_MAGIC, 8, 1, f) != 1 || put32(f, SAVE_FORMAT) ||
	    put_text(f, VIREO_VERSION, strlen(VIREO_VERSION)) || put_text(f, parts->config, parts->config_len) ||
	    put32(f, text_crc(parts->config, parts->config_len)))
		return err_errno(err, errno, "write");
	if (model_section(vm, f, true, err))
		return -1;
	for (unsigned n = 0; n < mem_slot_count(vm->mem); n++)
		if (mem_slot_window(vm->mem, n, &w, &name) && save_slot(f, &w, p))
			return err_errno(err, errno, "write");
	if (fwrite(parts->sections, 1, parts->sections_len, f) != parts->sections_len || fflush(f))
		return err_errno(err, errno, "write");
	return 0;
}

int save_write(struct vm *vm, int fd, const struct save_parts *parts, struct save_progress *p, uint64_t *written,
	       struct err *err)
{
	struct crc_file c;
	uint8_t crc[4];
	int rc;

	if (crc_file_open(&c, fd, true, err))
		return -1;
	rc = write_all(vm, c.f, parts, p, err);
	fclose(c.f);
	st_le32(crc, c.crc);
	if (!rc && write(fd, crc, 4) != 4)
		rc = err_errno(err, errno, "write");
	*written = c.at + 4;
	return rc;
}

int save_read_header(struct crc_file *c, char **config, struct err *err)
{
	char magic[8], *program;
	uint32_t format, crc;

	*config = NULL;
	if (fread(magic, 8, 1, c->f) != 1 || memcmp(magic, SAVE_MAGIC, 8))
		return err_set(err, "not a saved state");
	if (get32(c->f, &format, err) || get_text(c->f, 64, &program, err))
		return -1;
	if (format != SAVE_FORMAT) {
		err_set(err, "saved in format %u by vireo %.64s; vireo " VIREO_VERSION " reads format %d", format,
			program, SAVE_FORMAT);
		free(program);
		return -1;
	}
	free(program);
	if (get_text(c->f, CONFIG_MAX, config, err))
		return -1;
	/* The machine is made from it: damage is to show before that, not at the end. */
	if (get32(c->f, &crc, err) || (crc != text_crc(*config, strlen(*config)) && damaged(err))) {
		free(*config);
		*config = NULL;
		return -1;
	}
	return 0;
}

int save_read(struct crc_file *c, struct vm *vm, struct err *err)
{
	struct mem_window w;
	const char *name;
	uint8_t crc[4];

	if (model_section(vm, c->f, false, err))
		return -1;
	for (unsigned n = 0; n < mem_slot_count(vm->mem); n++)
		if (mem_slot_window(vm->mem, n, &w, &name) && load_slot(c->f, &w, err))
			return -1;
	if (each_section(vm, c->f, false, err))
		return -1;
	if (fgetc(c->f) != EOF)
		return err_set(err, "something follows the last section of the saved state");
	if (pread(c->fd, crc, 4, (off_t)c->end) != 4 || ld_le32(crc) != c->crc)
		return damaged(err);
	return 0;
}
