/* See rundir.h. */
#include "vm/rundir.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define NAME_LEN     40
#define BASE_LEN     64
#define LONGEST_FILE "debugcon.sock"

struct rundir {
	char path[BASE_LEN + NAME_LEN + 2], name[NAME_LEN + 1];
	int lock; /* of the pid file, for as long as the VM lives */
};

/* --- where --- */

static bool of_this_user(const struct stat *st)
{
	return S_ISDIR(st->st_mode) && st->st_uid == geteuid();
}

/* $XDG_RUNTIME_DIR, else what a login session would have set it to, else a private directory. */
static int base_path(char buf[BASE_LEN], struct err *err)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");
	unsigned uid = (unsigned)geteuid();
	struct stat st;
	int n;

	if (dir && *dir == '/') {
		n = snprintf(buf, BASE_LEN, "%s/vireo", dir);
	} else {
		n = snprintf(buf, BASE_LEN, "/run/user/%u", uid);
		if (!lstat(buf, &st) && of_this_user(&st))
			n = snprintf(buf, BASE_LEN, "/run/user/%u/vireo", uid);
		else
			n = snprintf(buf, BASE_LEN, "/tmp/vireo-%u", uid);
	}
	return n < BASE_LEN ? 0 : err_set(err, "XDG_RUNTIME_DIR: '%s' is longer than %d characters", dir, BASE_LEN - 7);
}

/* Private to the user: 0700, and not somebody else's directory that was there before. */
static int make_private(const char *path, struct err *err)
{
	struct stat st;

	/* Whoever sweeps may remove it in between, at any time: so it is looked at once. */
	for (;;) {
		if (mkdir(path, 0700) && errno != EEXIST)
			return err_errno(err, errno, "%s", path);
		if (!lstat(path, &st))
			break;
		if (errno != ENOENT)
			return err_errno(err, errno, "%s", path);
	}
	if (!of_this_user(&st))
		return err_set(err, "%s is not a directory of this user", path);
	if (st.st_mode & 077 && chmod(path, 0700) && errno != ENOENT)
		return err_errno(err, errno, "%s", path);
	return 0;
}

static bool name_ok(const char *name)
{
	size_t n = strlen(name);

	if (!n || n > NAME_LEN || strchr(".-", name[0]))
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("._-", *name))
			return false;
	return true;
}

static void in_dir(char *buf, size_t size, const char *dir, const char *file)
{
	/* Names are bounded, as the buffers are for them; what is longer names nothing. */
	if (snprintf(buf, size, "%s/%s", dir, file) >= (int)size)
		*buf = 0;
}

/* --- the lock, and what the dead leave behind --- */

/* With the lock held. */
static void remove_dir(const char *dir)
{
	char path[400];
	struct dirent *e;
	DIR *d = opendir(dir);

	while (d && (e = readdir(d))) {
		in_dir(path, sizeof(path), dir, e->d_name);
		if (strcmp(e->d_name, "pid"))
			unlink(path);
	}
	if (d)
		closedir(d);
	/* Last, because whoever has it open waits for this. */
	in_dir(path, sizeof(path), dir, "pid");
	unlink(path);
	rmdir(dir);
}

/* Whether `path` still names the file that is open: it may have been removed before it was locked. */
static bool is_still(int fd, const char *path)
{
	struct stat a, b;

	return !fstat(fd, &a) && !stat(path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

#define PATIENCE_MS 100 /* somebody may just look whether it is dead */

/* The locked pid file of a directory that is there, or is made. -1 with errno; EWOULDBLOCK: somebody has it. */
static int lock_dir(const char *dir, struct err *err)
{
	char path[BASE_LEN + NAME_LEN + 8];
	int tries = 0, fd, errnum;

	in_dir(path, sizeof(path), dir, "pid");
	for (;;) {
		if (make_private(dir, err))
			return -1;
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0 && errno == ENOENT)
			continue; /* removed in between */
		if (fd < 0)
			break;
		if (!flock(fd, LOCK_EX | LOCK_NB)) {
			if (is_still(fd, path))
				return fd;
		} else if (errno != EWOULDBLOCK || tries++ == PATIENCE_MS / 10) {
			break;
		} else {
			nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
		}
		close(fd);
	}
	errnum = errno;
	if (fd >= 0)
		close(fd);
	err_errno(err, errnum, "%s", path);
	errno = errnum;
	return -1;
}

/* Somebody holds the lock of the pid file. Otherwise the directory goes. */
static bool alive(const char *dir, pid_t *pid)
{
	char path[BASE_LEN + NAME_LEN + 8], text[16] = "";
	bool held;
	int fd;

	in_dir(path, sizeof(path), dir, "pid");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		rmdir(dir); /* if it is empty */
		return false;
	}
	held = flock(fd, LOCK_EX | LOCK_NB) != 0;
	if (!held && is_still(fd, path))
		remove_dir(dir);
	*pid = read(fd, text, sizeof(text) - 1) > 0 ? (pid_t)atoi(text) : 0;
	close(fd);
	return held;
}

/* --- of a VM --- */

int rundir_path(const struct rundir *r, const char *file, char *buf, size_t size, struct err *err)
{
	int n = snprintf(buf, size, "%s/%s", r->path, file);

	return n < 0 || (size_t)n >= size ? err_set(err, "%s: the path is too long", r->path) : 0;
}

const char *rundir_dir(const struct rundir *r)
{
	return r->path;
}

static int take(struct rundir *r, struct err *err)
{
	char base[BASE_LEN], pid[16];
	struct sockaddr_un a;

	if (base_path(base, err))
		return -1;
	if (make_private(base, err))
		return getenv("XDG_RUNTIME_DIR") ? err_prefix(err, "XDG_RUNTIME_DIR") : -1;
	if (strlen(base) + 1 + strlen(r->name) + sizeof("/" LONGEST_FILE) > sizeof(a.sun_path))
		return err_set(err, "name: %s/%s is too long for the path of a socket", base, r->name);
	in_dir(r->path, sizeof(r->path), base, r->name);
	r->lock = lock_dir(r->path, err);
	if (r->lock < 0)
		return errno == EWOULDBLOCK ? err_set(err, "name: a machine named '%s' is running", r->name) : -1;
	snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	if (ftruncate(r->lock, 0) || write(r->lock, pid, strlen(pid)) < 0)
		return err_errno(err, errno, "%s/pid", r->path);
	return 0;
}

struct rundir *rundir_new(struct config *c, const char **name, struct err *err)
{
	struct rundir *r = calloc(1, sizeof(*r));
	const char *wanted;

	if (!r) {
		err_set(err, "out of memory");
		return NULL;
	}
	r->lock = -1;
	if (config_str(c, "name", NULL, &wanted, err))
		goto fail;
	if (wanted && !name_ok(wanted)) {
		err_set(err,
			"name: '%s' is not 1 to %d letters, digits, '.', '_' or '-' that begin with none of '.' and "
			"'-'",
			wanted, NAME_LEN);
		goto fail;
	}
	if (wanted)
		strcpy(r->name, wanted);
	else
		snprintf(r->name, sizeof(r->name), "vm-%d", (int)getpid());
	if (take(r, err))
		goto fail;
	*name = r->name;
	return r;
fail:
	if (r->lock >= 0)
		close(r->lock);
	free(r);
	return NULL;
}

void rundir_free(struct rundir *r)
{
	remove_dir(r->path);
	close(r->lock);
	free(r);
}

/* --- sockets --- */

static int address(const char *path, struct sockaddr_un *a, struct err *err)
{
	*a = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(a->sun_path))
		return err_set(err, "%s: the path is too long for a socket", path);
	strcpy(a->sun_path, path);
	return 0;
}

int rundir_listen(const struct rundir *r, const char *file, struct err *err)
{
	struct sockaddr_un a;
	char path[128];
	int fd;

	if (rundir_path(r, file, path, sizeof(path), err) || address(path, &a, err))
		return -1;
	unlink(path); /* ours: the lock is held */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && !bind(fd, (struct sockaddr *)&a, sizeof(a)) && !listen(fd, 8))
		return fd;
	err_errno(err, errno, "%s", path);
	if (fd >= 0)
		close(fd);
	return -1;
}

int rundir_link(const struct rundir *r, const char *file, const char *name, struct err *err)
{
	char path[128];

	if (rundir_path(r, name, path, sizeof(path), err))
		return -1;
	unlink(path);
	return symlink(file, path) ? err_errno(err, errno, "%s", path) : 0;
}

int rundir_find(const char *name, const char *file, char *buf, size_t size, struct err *err)
{
	char base[BASE_LEN], dir[BASE_LEN + NAME_LEN + 2];
	pid_t pid;

	if (!name_ok(name))
		return err_set(err, "'%s' is not a machine's name", name);
	if (base_path(base, err))
		return -1;
	in_dir(dir, sizeof(dir), base, name);
	if (!alive(dir, &pid))
		return err_set(err, "no machine named '%s' is running (see `vireo ps`)", name);
	in_dir(buf, size, dir, file);
	return 0;
}

int rundir_connect(const char *name, const char *file, struct err *err)
{
	struct sockaddr_un a;
	char path[128];
	int fd, errnum;

	if (rundir_find(name, file, path, sizeof(path), err) || address(path, &a, err))
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && !connect(fd, (struct sockaddr *)&a, sizeof(a)))
		return fd;
	errnum = errno;
	if (fd >= 0)
		close(fd);
	err_errno(err, errnum, "%s", path);
	errno = errnum;
	return -1;
}

static int is_name(const struct dirent *e)
{
	return name_ok(e->d_name);
}

int rundir_each(void (*fn)(void *opaque, const char *name, pid_t pid), void *opaque, struct err *err)
{
	char base[BASE_LEN], dir[BASE_LEN + NAME_LEN + 2];
	struct dirent **names;
	int count;

	if (base_path(base, err))
		return -1;
	count = scandir(base, &names, is_name, versionsort);
	if (count < 0)
		return errno == ENOENT ? 0 : err_errno(err, errno, "%s", base);
	for (int n = 0; n < count; n++) {
		pid_t pid;

		in_dir(dir, sizeof(dir), base, names[n]->d_name);
		if (alive(dir, &pid))
			fn(opaque, names[n]->d_name, pid);
		free(names[n]);
	}
	free(names);
	return 0;
}
