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
#include <unistd.h>

struct rundir {
	char path[80], name[48];
	int lock; /* of the pid file, for as long as the VM lives */
};

static const char *const files[] = { "qmp.sock", "console.sock", "console.log", "pid" };

static void base_path(char *buf, size_t size)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");

	if (dir && *dir)
		snprintf(buf, size, "%s/vireo", dir);
	else
		snprintf(buf, size, "/tmp/vireo-%u", (unsigned)getuid());
}

/* Private to the user: 0700, and not somebody else's directory that was there before. */
static int make_private(const char *path, struct err *err)
{
	struct stat st;

	if (mkdir(path, 0700) && errno != EEXIST)
		return err_errno(err, errno, "%s", path);
	if (lstat(path, &st))
		return err_errno(err, errno, "%s", path);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		return err_set(err, "%s is not a directory of this user", path);
	return 0;
}

static bool name_ok(const char *name)
{
	size_t n = strlen(name);

	if (!n || n > 40 || name[0] == '.')
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("._-", *name))
			return false;
	return true;
}

int rundir_path(const struct rundir *r, const char *file, char *buf, size_t size, struct err *err)
{
	int n = snprintf(buf, size, "%s/%s", r->path, file);

	return n < 0 || (size_t)n >= size ? err_set(err, "%s: the path is too long", r->path) : 0;
}

struct rundir *rundir_new(struct config *c, const char **name, struct err *err)
{
	struct rundir *r = calloc(1, sizeof(*r));
	char base[64], path[128], pid[16];
	const char *wanted;

	if (!r) {
		err_set(err, "out of memory");
		return NULL;
	}
	r->lock = -1;
	if (config_str(c, "name", NULL, &wanted, err))
		goto fail;
	if (wanted && !name_ok(wanted)) {
		err_set(err, "name: '%s' must be 1 to 40 letters, digits, '.', '_' or '-'", wanted);
		goto fail;
	}
	snprintf(r->name, sizeof(r->name), "%s", wanted ? wanted : "");
	if (!wanted)
		snprintf(r->name, sizeof(r->name), "vm-%d", (int)getpid());
	base_path(base, sizeof(base));
	snprintf(path, sizeof(path), "%s/%s", base, r->name);
	if (strlen(path) >= sizeof(r->path)) {
		err_set(err, "%s: the path is too long", path);
		goto fail;
	}
	memcpy(r->path, path, strlen(path) + 1);
	if (make_private(base, err) || make_private(r->path, err) || rundir_path(r, "pid", path, sizeof(path), err))
		goto fail;
	r->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (r->lock < 0 || flock(r->lock, LOCK_EX | LOCK_NB)) {
		if (errno == EWOULDBLOCK)
			err_set(err, "name: a machine named '%s' is running", r->name);
		else
			err_errno(err, errno, "%s", path);
		goto fail;
	}
	snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	if (ftruncate(r->lock, 0) || write(r->lock, pid, strlen(pid)) < 0) {
		err_errno(err, errno, "%s", path);
		goto fail;
	}
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
	char path[128];
	struct err err;

	for (size_t n = 0; n < sizeof(files) / sizeof(files[0]); n++)
		if (!rundir_path(r, files[n], path, sizeof(path), &err))
			unlink(path);
	rmdir(r->path);
	close(r->lock);
	free(r);
}

static int address(const char *path, struct sockaddr_un *a, struct err *err)
{
	*a = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(a->sun_path))
		return err_set(err, "%s: the path is too long for a socket", path);
	memcpy(a->sun_path, path, strlen(path) + 1);
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

/* The pid file's lock is held: somebody lives there. */
static bool alive(const char *dir, pid_t *pid)
{
	char path[160], text[16] = "";
	bool held;
	int fd;

	snprintf(path, sizeof(path), "%s/pid", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	held = flock(fd, LOCK_SH | LOCK_NB) != 0;
	*pid = read(fd, text, sizeof(text) - 1) > 0 ? (pid_t)atoi(text) : 0;
	close(fd);
	return held;
}

int rundir_connect(const char *name, const char *file, struct err *err)
{
	struct sockaddr_un a;
	char base[64], path[128];
	pid_t pid;
	int fd;

	if (!name_ok(name))
		return err_set(err, "'%s' is not a machine's name", name);
	base_path(base, sizeof(base));
	snprintf(path, sizeof(path), "%s/%s", base, name);
	if (!alive(path, &pid))
		return err_set(err, "no machine named '%s' is running (see `vireo ps`)", name);
	snprintf(path, sizeof(path), "%s/%.40s/%s", base, name, file);
	if (address(path, &a, err))
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && !connect(fd, (struct sockaddr *)&a, sizeof(a)))
		return fd;
	err_errno(err, errno, "%s", path);
	if (fd >= 0)
		close(fd);
	return -1;
}

int rundir_each(void (*fn)(void *opaque, const char *name, pid_t pid), void *opaque, struct err *err)
{
	char base[64], path[400];
	struct dirent *e;
	DIR *d;

	base_path(base, sizeof(base));
	d = opendir(base);
	if (!d)
		return errno == ENOENT ? 0 : err_errno(err, errno, "%s", base);
	while ((e = readdir(d))) {
		pid_t pid;

		snprintf(path, sizeof(path), "%s/%s", base, e->d_name);
		if (name_ok(e->d_name) && alive(path, &pid))
			fn(opaque, e->d_name, pid);
	}
	closedir(d);
	return 0;
}
