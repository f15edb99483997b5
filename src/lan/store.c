/* See store.h. */
#include "lan/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/array.h"
#include "base/bytes.h"
#include "lan/lan.h"

/* Bytes of a file that is read, and so of one that is written: the routes of an interface may be many. */
#define FILE_MOST (64u << 20)

/* Of a file that is there for a moment, to see whether leases could be kept. */
#define TRY ".try"

/* --- where --- */

static int place(char buf[LAN_PATH], const char *dir, const char *rest, struct err *err)
{
	return snprintf(buf, LAN_PATH, "%s%s", dir, rest) < LAN_PATH - (LAN_NET_NAME + 32)
		       ? 0
		       : err_set(err, "%s%s: the path is too long", dir, rest);
}

/*
 * By its path and its file system: a container's directory may have the same path, and one that was lost and is made
 * again is the same.
 */
static void identify(struct lan_store *s)
{
	char *full = realpath(s->run, NULL);
	struct stat st;

	if (full && !stat(full, &st))
		snprintf(s->id, sizeof(s->id), "%08x",
			 lan_sum(full, (unsigned)strlen(full)) ^ lan_sum(&st.st_dev, sizeof(st.st_dev)));
	free(full);
}

/* A user's own: in a directory that a variable names, or as usual below his home. */
static int user_place(char buf[LAN_PATH], const char *variable, const char *usual, struct err *err)
{
	const char *dir = getenv(variable), *home = getenv("HOME");
	char rest[64];

	snprintf(rest, sizeof(rest), "%s/vireo/networks", dir && *dir == '/' ? "" : usual);
	return place(buf, dir && *dir == '/' ? dir : home ? home : "", rest, err);
}

static int find(struct lan_store *s, struct err *err)
{
	const char *all = getenv("VIREO_NET_DIR"), *run = getenv("XDG_RUNTIME_DIR");
	char tmp[64], here[LAN_PATH], whole[LAN_PATH];

	/* Programs that are started elsewhere are told of files in it. */
	if (all && *all && *all != '/') {
		if (!getcwd(here, sizeof(here)))
			return err_errno(err, errno, "VIREO_NET_DIR");
		if (snprintf(whole, sizeof(whole), "%s/%s", here, all) >= (int)sizeof(whole))
			return err_set(err, "%s/%s: the path is too long", here, all);
		all = whole;
	}
	if (all && *all)
		return place(s->etc, all, "/networks", err) || place(s->run, all, "/run", err) ||
				       place(s->keep, all, "/kept", err)
			       ? -1
			       : 0;
	if (!geteuid())
		return place(s->etc, "/etc/vireo", "/networks", err) || place(s->run, "/run/vireo", "/net", err) ||
				       place(s->keep, "/var/lib/vireo", "/networks", err)
			       ? -1
			       : 0;
	snprintf(tmp, sizeof(tmp), "/tmp/vireo-net-%u", (unsigned)geteuid());
	if (user_place(s->etc, "XDG_CONFIG_HOME", "/.config", err) ||
	    user_place(s->keep, "XDG_STATE_HOME", "/.local/state", err))
		return -1;
	return run && *run == '/' ? place(s->run, run, "/vireo-net", err) : place(s->run, tmp, "", err);
}

int lan_store_find(struct lan_store *s, struct err *err)
{
	*s = (struct lan_store){ .lock = -1 };
	if (find(s, err))
		return -1;
	identify(s);
	return 0;
}

/* With all that is above it. */
static int make_dir(const char *path, mode_t mode, struct err *err)
{
	char part[LAN_PATH + LAN_NET_NAME + 2];
	struct stat st;

	for (const char *p = path; p && *p;) {
		p = strchr(p + 1, '/');
		snprintf(part, sizeof(part), "%.*s", p ? (int)(p - path) : (int)strlen(path), path);
		if (mkdir(part, p ? 0755 : mode) && errno != EEXIST)
			return err_errno(err, errno, "%s", part);
	}
	if (lstat(path, &st))
		return err_errno(err, errno, "%s", path);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		return err_set(err, "%s is not a directory of this user", path);
	return 0;
}

/* The root of a user name space is not the one whose files the usual place is among. */
static int say_where_else(struct err *err)
{
	const size_t len = strlen(err->msg);

	if (!getenv("VIREO_NET_DIR"))
		snprintf(err->msg + len, sizeof(err->msg) - len, " (VIREO_NET_DIR names another place)");
	return -1;
}

int lan_store_lock(struct lan_store *s, struct err *err)
{
	struct stat held, now;

	for (;;) {
		if (make_dir(s->run, 0711, err))
			return say_where_else(err);
		/* The directory itself, which can be locked also where nothing can be written any more. */
		s->lock = open(s->run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (s->lock < 0) {
			err_errno(err, errno, "%s", s->run);
			return say_where_else(err);
		}
		while (flock(s->lock, LOCK_EX)) {
			if (errno != EINTR)
				return err_errno(err, errno, "%s", s->run);
		}
		/* Not one that was moved away while we waited: others lock what has its name now. */
		if (!fstat(s->lock, &held) && !stat(s->run, &now) && held.st_dev == now.st_dev &&
		    held.st_ino == now.st_ino)
			break;
		lan_store_unlock(s);
	}
	identify(s);
	return 0;
}

int lan_store_share(struct lan_store *s, unsigned ms)
{
	const int fd = open(s->run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	while (flock(fd, LOCK_SH | LOCK_NB)) {
		if ((errno != EWOULDBLOCK && errno != EINTR) || !ms--) {
			close(fd);
			return 0;
		}
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	s->lock = fd;
	return 1;
}

void lan_store_unlock(struct lan_store *s)
{
	if (s->lock >= 0)
		close(s->lock);
	s->lock = -1;
}

/* --- files --- */

static int sync_dir(const char *path)
{
	char dir[2 * LAN_PATH];
	const char *slash = strrchr(path, '/');
	int fd, rc;

	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 0, path);
	fd = open(*dir ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = fd < 0 ? -1 : fsync(fd);
	if (fd >= 0)
		close(fd);
	return rc;
}

static int write_all(int fd, const char *text, bool sync)
{
	for (size_t left = strlen(text); left;) {
		ssize_t n = write(fd, text, left);

		if (n < 0 && errno != EINTR)
			return -1;
		if (n > 0)
			text += n, left -= (size_t)n;
	}
	return sync ? fsync(fd) : 0;
}

int lan_write_file(const char *path, const char *text, bool sync, struct err *err)
{
	char tmp[2 * LAN_PATH];
	int fd, e;

	snprintf(tmp, sizeof(tmp), "%s.tmp", path);
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(err, errno, "%s", tmp);
	if (write_all(fd, text, sync)) {
		e = errno;
		close(fd);
		unlink(tmp);
		return err_errno(err, e, "%s", tmp);
	}
	close(fd);
	if (rename(tmp, path) || (sync && sync_dir(path))) {
		e = errno;
		unlink(tmp);
		return err_errno(err, e, "%s", path);
	}
	return 0;
}

static int write_json(const char *path, const json_t *o, bool sync, struct err *err)
{
	char *text = json_dumps(o, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	char *line = NULL;
	int rc;

	if (!text || asprintf(&line, "%s\n", text) < 0)
		rc = err_set(err, "out of memory");
	else if (strlen(line) > FILE_MOST)
		rc = err_set(err, "%s: more than %u MiB would have to be kept", path, FILE_MOST >> 20);
	else
		rc = lan_write_file(path, line, sync, err);
	free(text);
	free(line);
	return rc;
}

/* All of it, but not much more than FILE_MOST; NULL with errno. */
static char *read_all(int fd, size_t *len)
{
	char *text = NULL, *more;
	ssize_t n = 1;

	*len = 0;
	for (size_t size = 1u << 16; n > 0 && *len <= FILE_MOST; size *= 2) {
		more = realloc(text, size);
		if (!more)
			break;
		text = more;
		while (*len < size && (n = read(fd, text + *len, size - *len)) > 0)
			*len += (size_t)n;
	}
	if (n == 0 || *len > FILE_MOST)
		return text;
	free(text);
	return NULL;
}

/* NULL with errno, or with EINVAL and what is wrong in the file. */
static json_t *read_json(const char *path, json_error_t *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), errnum;
	size_t len;
	char *text = fd < 0 ? NULL : read_all(fd, &len);
	json_t *o = NULL;

	errnum = text ? EINVAL : errno;
	snprintf(e->text, sizeof(e->text), "larger than a file of ours");
	if (text && len <= FILE_MOST)
		o = json_loadb(text, len, JSON_REJECT_DUPLICATES, e);
	if (fd >= 0)
		close(fd);
	free(text);
	errno = errnum;
	return o;
}

/* --- definitions --- */

static void def_path(const struct lan_store *s, const char *name, char buf[2 * LAN_PATH])
{
	snprintf(buf, 2 * LAN_PATH, "%s/%s.json", s->etc, name);
}

bool lan_roots_are_elsewhere(void)
{
	return geteuid() && !getenv("VIREO_NET_DIR") && !access(LAN_ROOTS_NETWORKS, F_OK);
}

int lan_store_lacks(const char *name, struct err *err)
{
	return err_set(err, "no network named '%s' (%s)", name,
		       lan_roots_are_elsewhere() ? "these are your own networks; root has others"
						 : "see `vireo net list`");
}

int lan_store_load(const struct lan_store *s, const char *name, struct lan_def *d, struct err *err)
{
	char path[2 * LAN_PATH];
	json_error_t e;
	json_t *o;
	int rc;

	if (!lan_name_ok(name))
		return err_set(err, "'%s' is not a network's name", name);
	def_path(s, name, path);
	o = read_json(path, &e);
	if (!o && errno == ENOENT)
		return lan_store_lacks(name, err);
	if (!o)
		return errno == EINVAL ? err_set(err, "%s: %s", path, e.text) : err_errno(err, errno, "%s", path);
	rc = lan_def_from_json(d, o, err);
	json_decref(o);
	if (!rc && strcmp(d->name, name))
		rc = err_set(err, "name: '%s' is not that of the file", d->name);
	return rc ? err_prefix(err, "%s", path) : 0;
}

bool lan_store_has(const struct lan_store *s, const char *name)
{
	char path[2 * LAN_PATH];

	def_path(s, name, path);
	return !access(path, F_OK);
}

int lan_store_save(const struct lan_store *s, const struct lan_def *d, struct err *err)
{
	char path[2 * LAN_PATH];
	json_t *o;
	int rc;

	if (make_dir(s->etc, 0755, err))
		return -1;
	def_path(s, d->name, path);
	o = lan_def_to_json(d);
	rc = write_json(path, o, true, err);
	json_decref(o);
	return rc;
}

int lan_store_removable(const struct lan_store *s, const char *name, struct err *err)
{
	return lan_store_has(s, name) && access(s->etc, W_OK) ? err_errno(err, errno, "%s", s->etc) : 0;
}

int lan_store_remove(const struct lan_store *s, const char *name, struct err *err)
{
	char path[2 * LAN_PATH];

	def_path(s, name, path);
	return unlink(path) && errno != ENOENT ? err_errno(err, errno, "%s", path) : 0;
}

/* --- names --- */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Of the entries of a directory that end in `suffix`; without one: of the directories in it. */
static int list(const char *dir, const char *suffix, struct lan_names *n, struct err *err)
{
	struct dirent *e;
	struct stat st;
	DIR *d = opendir(dir);

	*n = (struct lan_names){ 0 };
	if (!d)
		return errno == ENOENT ? 0 : err_errno(err, errno, "%s", dir);
	while ((e = readdir(d))) {
		size_t len = strlen(e->d_name), end = strlen(suffix);
		char name[LAN_NET_NAME + 1], **v;

		if (len <= end || len - end > LAN_NET_NAME || strcmp(e->d_name + len - end, suffix))
			continue;
		snprintf(name, sizeof(name), "%.*s", (int)(len - end), e->d_name);
		if (!lan_name_ok(name) || (!end && fstatat(dirfd(d), name, &st, AT_SYMLINK_NOFOLLOW)) ||
		    (!end && !S_ISDIR(st.st_mode)))
			continue;
		v = realloc(n->v, (n->len + 1) * sizeof(*v));
		if (v) {
			n->v = v;
			v[n->len] = strdup(name);
		}
		if (!v || !v[n->len]) {
			closedir(d);
			lan_names_free(n);
			return err_set(err, "out of memory");
		}
		n->len++;
	}
	closedir(d);
	if (n->len)
		qsort(n->v, n->len, sizeof(*n->v), by_name);
	return 0;
}

void lan_store_tidy(const struct lan_store *s)
{
	const struct {
		const char *dir, *suffix;
	} left[] = { { s->etc, ".json.tmp" }, { s->keep, TRY }, { s->keep, TRY ".tmp" } };
	char path[2 * LAN_PATH];
	struct lan_names n;
	struct err ignored;

	snprintf(path, sizeof(path), "%s" LAN_FORWARDING_NOTES ".tmp", s->run);
	unlink(path);
	for (size_t k = 0; k < ARRAY_LEN(left); k++) {
		if (list(left[k].dir, left[k].suffix, &n, &ignored))
			continue;
		for (unsigned i = 0; i < n.len; i++) {
			snprintf(path, sizeof(path), "%s/%s%s", left[k].dir, n.v[i], left[k].suffix);
			unlink(path);
		}
		lan_names_free(&n);
	}
}

int lan_store_names(const struct lan_store *s, struct lan_names *n, struct err *err)
{
	return list(s->etc, ".json", n, err);
}

int lan_store_running(const struct lan_store *s, struct lan_names *n, struct err *err)
{
	unsigned len = 0;

	if (list(s->run, "", n, err))
		return -1;
	for (unsigned i = 0; i < n->len; i++)
		if (lan_run_has(s, n->v[i]))
			n->v[len++] = n->v[i];
		else
			free(n->v[i]);
	n->len = len;
	return 0;
}

void lan_names_add(struct lan_names *n, const char *name)
{
	if (!array_more(n->v, n->len))
		return;
	n->v[n->len] = strdup(name);
	n->len += !!n->v[n->len];
}

void lan_names_free(struct lan_names *n)
{
	for (unsigned i = 0; i < n->len; i++)
		free(n->v[i]);
	free(n->v);
	*n = (struct lan_names){ 0 };
}

bool lan_names_has(const struct lan_names *n, const char *name)
{
	for (unsigned i = 0; i < n->len; i++)
		if (!strcmp(n->v[i], name))
			return true;
	return false;
}

/* --- of a network that runs --- */

int lan_run_path(const struct lan_store *s, const char *name, const char *file, char *buf, size_t size)
{
	return snprintf(buf, size, "%s/%s%s%s", s->run, name, *file ? "/" : "", file) < (int)size ? 0 : -1;
}

int lan_run_write(const struct lan_store *s, const char *name, const char *file, const json_t *o, struct err *err)
{
	char path[2 * LAN_PATH];

	lan_run_path(s, name, "", path, sizeof(path));
	/* Names in it can be used by who knows them: what others shall read they can. */
	if (make_dir(path, 0711, err))
		return -1;
	lan_run_path(s, name, file, path, sizeof(path));
	return write_json(path, o, false, err);
}

json_t *lan_run_read(const struct lan_store *s, const char *name, const char *file)
{
	char path[2 * LAN_PATH];
	json_error_t e;

	lan_run_path(s, name, file, path, sizeof(path));
	return read_json(path, &e);
}

/* What we make in the directory of a network, up to a dot or the end: state.json, state.json.tmp, server, server.sock.
 */
static bool is_ours(const char *file)
{
	static const char *const ours[] = { "state",   "filters", "refused", "server",
					    "dnsmasq", "hosts",	  "names",   "leases" };

	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		if (strlen(ours[i]) == strcspn(file, ".") && !strncmp(file, ours[i], strlen(ours[i])))
			return true;
	return false;
}

static bool is_entry(const struct dirent *e)
{
	return strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
}

/* The files of a directory; of that of a network (`run`) what is ours, also directories with their files. */
static void empty(int fd, bool run)
{
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d && fd >= 0)
		close(fd);
	while (d && (e = readdir(d))) {
		if (!is_entry(e) || (run && !is_ours(e->d_name)) || !unlinkat(dirfd(d), e->d_name, 0) || !run)
			continue;
		empty(openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), false);
		unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR);
	}
	if (d)
		closedir(d);
}

bool lan_run_has(const struct lan_store *s, const char *name)
{
	bool any = false, ours = false;
	char path[2 * LAN_PATH];
	struct dirent *e;
	DIR *d;

	if (lan_run_path(s, name, "", path, sizeof(path)))
		return false;
	d = opendir(path);
	if (!d)
		return !access(path, F_OK);
	while (!ours && (e = readdir(d))) {
		any |= is_entry(e);
		ours = is_ours(e->d_name);
	}
	closedir(d);
	return ours || !any;
}

int lan_run_remove(const struct lan_store *s, const char *name, struct err *err)
{
	char dir[2 * LAN_PATH];

	lan_run_path(s, name, "", dir, sizeof(dir));
	empty(open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), true);
	return rmdir(dir) && errno != ENOENT ? err_errno(err, errno, "%s", dir) : 0;
}

/* --- of leases --- */

void lan_keep_path(const struct lan_store *s, const char *name, const char *suffix, char buf[2 * LAN_PATH])
{
	snprintf(buf, 2 * LAN_PATH, "%s/%s%s", s->keep, name, suffix);
}

int lan_keep_prepare(const struct lan_store *s, const char *name, struct err *err)
{
	char path[2 * LAN_PATH], text[4096];

	/* A file system that is full takes a name, but nothing in it. */
	memset(text, '.', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	lan_keep_path(s, name, TRY, path);
	if (make_dir(s->keep, 0755, err) || lan_write_file(path, text, false, err))
		return -1;
	unlink(path);
	return 0;
}

void lan_keep_remove(const struct lan_store *s, const char *name, const char *suffix)
{
	static const char *const all[] = { LAN_KEPT_OWN, LAN_KEPT_DNSMASQ };
	char path[2 * LAN_PATH];

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		if (suffix && strcmp(suffix, all[i]))
			continue;
		lan_keep_path(s, name, all[i], path);
		if (!unlink(path) || errno == ENOENT)
			continue;
		empty(open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), false);
		rmdir(path);
	}
}
