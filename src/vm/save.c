/* See save.h: one save at a time, in its own thread, to a temporary file. */
#include "vm/save.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/now.h"
#include "vm/impl.h"
#include "vm/save_stream.h"

enum phase { ACTIVE, COMPLETED, FAILED, CANCELLED };

struct saver {
	struct vm *vm;
	char target[PATH_MAX], temp[PATH_MAX];
	int fd;
	struct save_parts parts;
	bool was_running;

	pthread_t thread;
	bool joined;
	struct save_progress progress;
	int64_t started_ms, ended_ms;

	/* the thread's until it has ended */
	int rc;
	uint64_t written;
	struct err err;

	enum phase phase; /* loop thread */
};

/* --- the file --- */

/* What is there already is replaced only if it is a saved state: a slip of the keyboard must not cost a disk. */
static int check_target(const char *path, struct err *err)
{
	char magic[8] = "";
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n;

	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(err, errno, "%s", path);
	n = fstat(fd, &st) || !S_ISREG(st.st_mode) ? -1 : read(fd, magic, sizeof(magic));
	close(fd);
	if (n == 0 || (n == 8 && !memcmp(magic, SAVE_MAGIC, 8)))
		return 0;
	return err_set(err, "%s is there and not a saved state; it is not replaced", path);
}

static int open_temp(struct saver *s, const char *path, struct err *err)
{
	/* Through a symbolic link, the file behind it. */
	if (!realpath(path, s->target) && snprintf(s->target, sizeof(s->target), "%s", path) >= (int)sizeof(s->target))
		return err_set(err, "%s: the path is too long", path);
	if (check_target(s->target, err))
		return -1;
	if (snprintf(s->temp, sizeof(s->temp), "%s.XXXXXX", s->target) >= (int)sizeof(s->temp))
		return err_set(err, "%s: the path is too long", path);
	s->fd = mkostemp(s->temp, O_CLOEXEC);
	return s->fd < 0 ? err_errno(err, errno, "%s", path) : 0;
}

static int sync_directory(const char *path, struct err *err)
{
	char copy[PATH_MAX];
	int fd, rc;

	strcpy(copy, path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = fd < 0 || fsync(fd) ? err_errno(err, errno, "%s", copy) : 0;
	if (fd >= 0)
		close(fd);
	return rc;
}

/* --- the thread --- */

static int write_file(struct saver *s)
{
	if (save_write(s->vm, s->fd, &s->parts, &s->progress, &s->written, &s->err))
		return err_prefix(&s->err, "%s", s->target);
	if (fsync(s->fd))
		return err_errno(&s->err, errno, "%s", s->target);
	if (atomic_load(&s->progress.cancel))
		return err_set(&s->err, "cancelled");
	if (rename(s->temp, s->target))
		return err_errno(&s->err, errno, "%s", s->target);
	return sync_directory(s->target, &s->err);
}

static void ended(void *opaque);

static void *save_thread(void *opaque)
{
	struct saver *s = opaque;

	pthread_setname_np(pthread_self(), "save");
	s->rc = write_file(s);
	loop_post(s->vm->loop, ended, s->vm);
	return NULL;
}

/* --- life --- */

static void release(struct saver *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	free(s->parts.config);
	free(s->parts.sections);
	s->parts = (struct save_parts){ 0 };
}

static void join(struct saver *s)
{
	if (s->joined)
		return;
	pthread_join(s->thread, NULL);
	s->joined = true;
	s->ended_ms = now_ms();
	if (s->rc)
		unlink(s->temp);
	release(s);
	s->phase = !s->rc ? COMPLETED : atomic_load(&s->progress.cancel) ? CANCELLED : FAILED;
}

static void ended(void *opaque)
{
	struct vm *vm = opaque;
	struct saver *s = vm->saver;

	if (!s || s->phase != ACTIVE)
		return;
	join(s);
	if (s->rc)
		log_line(LOG_INFO, "vm", "not saved: %s", s->err.msg);
	else
		log_line(LOG_INFO, "vm", "saved to %s: %llu bytes in %lld ms", s->target,
			 (unsigned long long)s->written, (long long)(s->ended_ms - s->started_ms));
	vm_save_ended(vm, !s->rc, s->was_running);
}

static int take_sections(struct saver *s, struct err *err)
{
	FILE *f = open_memstream(&s->parts.sections, &s->parts.sections_len);
	int rc;

	if (!f)
		return err_set(err, "out of memory");
	rc = save_sections(s->vm, f, err);
	return fclose(f) && !rc ? err_set(err, "out of memory") : rc;
}

int vm_save_start(struct vm *vm, const char *path, struct err *err)
{
	struct saver *s;

	if (vm_disk_that_forgets(vm))
		return err_set(err, "%s.snapshot: what was written to it ends with this process: it cannot be saved",
			       vm_disk_that_forgets(vm));
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(err, "out of memory");
	s->vm = vm;
	s->fd = -1;
	s->was_running = vm->state == VM_RUNNING;
	s->started_ms = now_ms();
	s->joined = true;
	s->parts.config =
		save_config_text(vm, vm->state == VM_PAUSED || vm->state == VM_PRELAUNCH, &s->parts.config_len, err);
	if (!s->parts.config || open_temp(s, path, err) || vm_halt_for_save(vm, err))
		goto fail;
	if (take_sections(s, err))
		goto resume;
	if (pthread_create(&s->thread, NULL, save_thread, s)) {
		err_set(err, "cannot start a thread");
		goto resume;
	}
	s->joined = false;
	vm_save_free(vm);
	vm->saver = s;
	return 0;
resume:
	vm_save_ended(vm, false, s->was_running);
fail:
	if (s->fd >= 0)
		unlink(s->temp);
	release(s);
	free(s);
	return -1;
}

void vm_save_cancel(struct vm *vm)
{
	if (vm->saver && vm->saver->phase == ACTIVE)
		atomic_store(&vm->saver->progress.cancel, true);
}

void vm_save_abandon(struct vm *vm)
{
	vm_save_cancel(vm);
	if (vm->saver)
		join(vm->saver);
}

void vm_save_free(struct vm *vm)
{
	vm_save_abandon(vm);
	free(vm->saver);
	vm->saver = NULL;
}

bool vm_save_status(struct vm *vm, struct save_status *st)
{
	static const char *const words[] = { "active", "completed", "failed", "cancelled" };
	const struct saver *s = vm->saver;

	if (!s)
		return false;
	*st = (struct save_status){
		.word = s->phase == ACTIVE && atomic_load(&s->progress.cancel) ? "cancelling" : words[s->phase],
		.error = s->phase == FAILED ? s->err.msg : NULL,
		.total = mem_ram_size(vm->mem),
		.done = atomic_load(&s->progress.done),
		.written = s->phase == ACTIVE ? 0 : s->written,
		.ms = (s->phase == ACTIVE ? now_ms() : s->ended_ms) - s->started_ms,
	};
	return true;
}

/* --- loading --- */

struct saved {
	char *path, *config;
	int fd;
	struct crc_file file;
};

void saved_close(struct saved *s)
{
	if (s->file.f)
		fclose(s->file.f);
	if (s->fd >= 0)
		close(s->fd);
	free(s->config);
	free(s->path);
	free(s);
}

struct saved *saved_open(const char *path, struct err *err)
{
	struct saved *s = calloc(1, sizeof(*s));

	if (!s) {
		err_set(err, "out of memory");
		return NULL;
	}
	/* A pipe would wait for its writer. */
	s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	s->path = strdup(path);
	if (s->fd < 0)
		err_errno(err, errno, "%s", path);
	else if (crc_file_open(&s->file, s->fd, false, err) || save_read_header(&s->file, &s->config, err))
		err_prefix(err, "%s", path);
	else
		return s;
	saved_close(s);
	return NULL;
}

int saved_config(struct saved *s, struct config *c, struct err *err)
{
	return save_config_merge(s->config, c, err);
}

int saved_load(struct saved *s, struct vm *vm, struct err *err)
{
	return save_read(&s->file, vm, err) ? err_prefix(err, "%s", s->path) : 0;
}
