/*
 * The flash of firmware that has variables: its code, and the variables in a file that belongs to the machine. That is
 * "firmware.vars", or, for a machine with a name, $XDG_STATE_HOME/vireo/NAME/efivars.fd; one without a name forgets
 * them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "dev/pflash.h"
#include "vm/impl.h"

#define PIECE 4096u

static uint64_t vars_base(const struct vm *vm)
{
	return (1ull << 32) - vm->firmware_files.code_size - vm->firmware_files.vars_size;
}

/* --- the file --- */

/* With its lock, by whatever thread stores. */
static void stored(void *opaque, uint32_t off, uint32_t len)
{
	struct vm *vm = opaque;
	uint8_t b[PIECE];

	for (uint32_t n; vm->vars_fd >= 0 && len; off += n, len -= n) {
		n = len < PIECE ? len : PIECE;
		if (!mem_overlay_read(vm->mem, gpa(vars_base(vm) + off), b, n) ||
		    pwrite(vm->vars_fd, b, n, off) != (ssize_t)n) {
			log_guest("pflash", "%s: %s: variables are not kept", vm->vars_path, strerror(errno));
			return;
		}
	}
}

/* Not with each variable: OVMF writes hundreds of times while it starts, which took it a second longer. */
void vm_sync_vars(struct vm *vm)
{
	if (vm->firmware_files.vars && vm->vars_fd >= 0 && fdatasync(vm->vars_fd))
		log_guest("pflash", "%s: %s: variables may be lost", vm->vars_path, strerror(errno));
}

static int make_directories(char *path, struct err *err)
{
	for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		int rc;

		*p = 0;
		rc = mkdir(path, 0700) && errno != EEXIST ? err_errno(err, errno, "firmware.vars: %s", path) : 0;
		*p = '/';
		if (rc)
			return -1;
	}
	return 0;
}

/* The path of a named machine's file; 0: it has no name. */
static int default_path(struct vm *vm, struct err *err)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME"), *name = config_peek(vm->config, "name");
	int n;

	if (!name)
		return 0;
	if (state && *state == '/')
		n = snprintf(vm->vars_path, sizeof(vm->vars_path), "%s/vireo/%s/efivars.fd", state, name);
	else if (home && *home == '/')
		n = snprintf(vm->vars_path, sizeof(vm->vars_path), "%s/.local/state/vireo/%s/efivars.fd", home, name);
	else
		return 0;
	if (n >= (int)sizeof(vm->vars_path))
		return err_set(err, "firmware.vars: the path of the state directory is too long");
	return make_directories(vm->vars_path, err) ? -1 : 1;
}

/* A new file gets what the array has. */
static int fill_or_load(struct vm *vm, struct err *err)
{
	const struct boot_firmware *f = &vm->firmware_files;
	struct stat st;

	if (fstat(vm->vars_fd, &st))
		return err_errno(err, errno, "firmware.vars: %s", vm->vars_path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, "firmware.vars: %s is not a regular file", vm->vars_path);
	if (flock(vm->vars_fd, LOCK_EX | LOCK_NB))
		return err_set(err, "firmware.vars: %s belongs to another machine that is running", vm->vars_path);
	if (!st.st_size) {
		stored(vm, 0, (uint32_t)f->vars_size);
		return 0;
	}
	if ((uint64_t)st.st_size != f->vars_size)
		return err_set(err, "firmware.vars: %s has %llu bytes, and the variables of this firmware take %llu",
			       vm->vars_path, (unsigned long long)st.st_size, (unsigned long long)f->vars_size);
	return boot_load_vars(vm->mem, f, vm->vars_path, err);
}

int vm_open_vars(struct vm *vm, const char *path, struct err *err)
{
	const struct boot_firmware *f = &vm->firmware_files;
	int wanted = 1;
	struct stat st;

	if (!f->vars)
		return 0;
	if (boot_load_vars(vm->mem, f, f->vars, err))
		return -1;
	if (path)
		snprintf(vm->vars_path, sizeof(vm->vars_path), "%s", path);
	else
		wanted = default_path(vm, err);
	if (wanted <= 0)
		return wanted;
	/* To open what is no file may already do something. */
	if (!stat(vm->vars_path, &st) && !S_ISREG(st.st_mode))
		return err_set(err, "firmware.vars: %s is not a regular file", vm->vars_path);
	vm->vars_fd = open(vm->vars_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
	return vm->vars_fd < 0 ? err_errno(err, errno, "firmware.vars: %s", vm->vars_path) : fill_or_load(vm, err);
}

int vm_add_flash(struct vm *vm, struct err *err)
{
	const struct boot_firmware *f = &vm->firmware_files;
	struct pflash_config c[2] = {
		{ .base = vars_base(vm) + f->vars_size, .size = (uint32_t)f->code_size, .readonly = true },
		{ .base = vars_base(vm), .size = (uint32_t)f->vars_size, .stored = stored },
	};

	for (unsigned n = 0; f->vars && n < 2; n++) {
		struct device *d;

		c[n].mem = vm->mem;
		c[n].smm = vm->upper.smm;
		c[n].overlay = vm->flash[n];
		c[n].changed = vm_remapped;
		c[n].opaque = vm;
		d = pflash_new(vm->bus, &c[n], err);
		if (!d)
			return -1;
		vm_add_device(vm, d);
	}
	return 0;
}
