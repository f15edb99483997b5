/* QMP: descriptors that clients pass (SCM_RIGHTS), by sets whose number stands for a path, /dev/fdset/N, or by name. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm/control.h"
#include "vm/impl.h"
#include "vm/qmp.h"

#define NO_SET (-1)

/* The one with that number, or name; NULL: none. */
static struct vm_fd *find(struct vm *vm, json_int_t set, json_int_t fd, const char *name)
{
	for (unsigned n = 0; n < VM_FDS; n++) {
		struct vm_fd *f = &vm->fds[n];

		if (!f->used || f->set != set)
			continue;
		if (name ? !strcmp(f->text, name) : fd < 0 || f->fd == fd)
			return f;
	}
	return NULL;
}

static void give_back(struct vm_fd *f)
{
	close(f->fd);
	*f = (struct vm_fd){ 0 };
}

void vm_fds_free(struct vm *vm)
{
	for (unsigned n = 0; n < VM_FDS; n++)
		if (vm->fds[n].used)
			give_back(&vm->fds[n]);
}

/* The descriptor that came with the command; NULL with an error. */
static struct vm_fd *take(struct vm *vm, const char *text, struct err *err)
{
	int fd = qmp_link(vm) ? link_take_fd(qmp_link(vm)) : -1;

	if (fd < 0) {
		err_set(err, "No file descriptor supplied via SCM_RIGHTS");
		return NULL;
	}
	for (unsigned n = 0; n < VM_FDS; n++) {
		struct vm_fd *f = &vm->fds[n];

		if (f->used)
			continue;
		*f = (struct vm_fd){ .used = true, .fd = fd };
		snprintf(f->text, sizeof(f->text), "%s", text);
		return f;
	}
	close(fd);
	err_set(err, "No room: at most %d file descriptors", VM_FDS);
	return NULL;
}

static int first_free_set(struct vm *vm)
{
	int set = 0;

	while (find(vm, set, -1, NULL))
		set++;
	return set;
}

static json_t *add_fd(struct vm *vm, const json_t *args, struct err *err)
{
	const json_t *set = json_object_get(args, "fdset-id");
	const char *opaque = json_string_value(json_object_get(args, "opaque"));
	struct vm_fd *f;
	int number;

	if (set && (json_integer_value(set) < 0 || json_integer_value(set) > 0x7fffffff)) {
		err_set(err, "Parameter 'fdset-id' expects a non-negative value");
		return NULL;
	}
	number = set ? (int)json_integer_value(set) : first_free_set(vm);
	f = take(vm, opaque ? opaque : "", err);
	if (!f)
		return NULL;
	f->set = number;
	return json_pack("{s:i,s:i}", "fdset-id", f->set, "fd", f->fd);
}

static json_t *remove_fd(struct vm *vm, const json_t *args, struct err *err)
{
	json_int_t set = json_integer_value(json_object_get(args, "fdset-id"));
	const json_t *number = json_object_get(args, "fd");
	json_int_t fd = number ? json_integer_value(number) : -1;
	struct vm_fd *f = set < 0 || (number && fd < 0) ? NULL : find(vm, set, fd, NULL);

	if (!f) {
		err_set(err,
			number ? "File descriptor named 'fdset-id:%lld, fd:%lld' not found"
			       : "File descriptor named 'fdset-id:%lld' not found",
			(long long)set, (long long)fd);
		return NULL;
	}
	do
		give_back(f);
	while (!number && (f = find(vm, set, -1, NULL)));
	return json_object();
}

static json_t *query_fdsets(struct vm *vm, const json_t *args, struct err *err)
{
	json_t *list = json_array(), *fds, *o;

	for (unsigned n = 0; n < VM_FDS; n++) {
		const struct vm_fd *f = &vm->fds[n];

		/* Each set at its first. */
		if (!f->used || f->set == NO_SET || find(vm, f->set, -1, NULL) != f)
			continue;
		fds = json_array();
		for (unsigned k = n; k < VM_FDS; k++) {
			if (!vm->fds[k].used || vm->fds[k].set != f->set)
				continue;
			o = json_pack("{s:i}", "fd", vm->fds[k].fd);
			if (*vm->fds[k].text)
				json_object_set_new(o, "opaque", qmp_text(vm->fds[k].text));
			json_array_append_new(fds, o);
		}
		json_array_append_new(list, json_pack("{s:i,s:o}", "fdset-id", f->set, "fds", fds));
	}
	return list;
}

static json_t *getfd(struct vm *vm, const json_t *args, struct err *err)
{
	const char *name = json_string_value(json_object_get(args, "fdname"));
	struct vm_fd *old = find(vm, NO_SET, -1, name), *f;

	if (*name >= '0' && *name <= '9') {
		err_set(err, "Parameter 'fdname' expects a name not starting with a digit");
		return NULL;
	}
	f = take(vm, name, err);
	if (!f)
		return NULL;
	f->set = NO_SET;
	if (old)
		give_back(old);
	return json_object();
}

static json_t *closefd(struct vm *vm, const json_t *args, struct err *err)
{
	const char *name = json_string_value(json_object_get(args, "fdname"));
	struct vm_fd *f = find(vm, NO_SET, -1, name);

	if (!f) {
		err_set(err, "File descriptor named '%.80s' not found", name);
		return NULL;
	}
	give_back(f);
	return json_object();
}

int vm_open_path(void *opaque, const char *path, int flags)
{
	static const char sets[] = "/dev/fdset/";
	struct vm *vm = opaque;
	char *end;
	long set;

	if (strncmp(path, sets, sizeof(sets) - 1))
		return open(path, flags | O_CLOEXEC, 0666);
	set = strtol(path + sizeof(sets) - 1, &end, 10);
	for (unsigned n = 0; n < VM_FDS && !*end && set >= 0; n++) {
		const struct vm_fd *f = &vm->fds[n];
		int mode = f->used && f->set == set ? fcntl(f->fd, F_GETFL) & O_ACCMODE : -1;

		if (mode >= 0 && (mode == (flags & O_ACCMODE) || (mode == O_RDWR && (flags & O_ACCMODE) == O_RDONLY)))
			return fcntl(f->fd, F_DUPFD_CLOEXEC, 3);
	}
	errno = ENOENT;
	return -1;
}

const struct qmp_command qmp_fd_commands[] = {
	{ "add-fd", "?fdset-id:int ?opaque:str", "AddfdInfo", add_fd },
	{ "closefd", "fdname:str", "", closefd },
	{ "getfd", "fdname:str", "", getfd },
	{ "query-fdsets", "", "[FdsetInfo]", query_fdsets },
	{ "remove-fd", "fdset-id:int ?fd:int", "", remove_fd },
	{ 0 },
};
