/* `vireo guest`: ready guests from Debian's packages. The work is done by the script share/vireo/guest/build. */
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/commands.h"

static const struct cli_option options[] = {
	{ "force", 'f', CLI_FLAG, "force", NULL, NULL, "build it again from the start", NULL },
	{ "bootable", 'b', CLI_FLAG, "bootable", NULL, NULL, "also make bootable.img, a disk with GRUB", NULL },
	{ "print", 'p', CLI_FLAG, "print", NULL, NULL, "only print the guest's directory", NULL },
	{ 0 },
};

static int make_path(char *path, struct err *err)
{
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		if (mkdir(path, 0777) && errno != EEXIST)
			return err_errno(err, errno, "%s", path);
		*p = '/';
	}
	return mkdir(path, 0777) && errno != EEXIST ? err_errno(err, errno, "%s", path) : 0;
}

/* $XDG_CACHE_HOME/vireo/guests/NAME, where no other user can put a guest for this one. */
static int cache_path(const char *name, char *path, size_t size, struct err *err)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	const struct passwd *user;
	int n;

	if (cache && *cache == '/')
		n = snprintf(path, size, "%s/vireo/guests/%s", cache, name);
	else if (home && *home == '/')
		n = snprintf(path, size, "%s/.cache/vireo/guests/%s", home, name);
	else if ((user = getpwuid(getuid())))
		n = snprintf(path, size, "%s/.cache/vireo/guests/%s", user->pw_dir, name);
	else
		return err_set(err, "there is no home directory: set XDG_CACHE_HOME");
	return n >= (int)size ? err_set(err, "the cache directory's path is too long") : 0;
}

/* Next to the installed binary's share directory, or in the source tree of a build. */
static int find_script(char *path, size_t size, struct err *err)
{
	static const char *const places[] = { "../share/vireo/guest/build", "../scripts/guest/build" };
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	char *slash;

	if (n < 0)
		return err_errno(err, errno, "/proc/self/exe");
	exe[n] = 0;
	slash = strrchr(exe, '/');
	*slash = 0;
	for (size_t k = 0; k < sizeof(places) / sizeof(places[0]); k++)
		if (snprintf(path, size, "%s/%s", exe, places[k]) < (int)size && !access(path, X_OK))
			return 0;
	return err_set(err, "the guest builder is missing (%s/%s)", exe, places[0]);
}

static const struct {
	const char *name, *text;
} guests[] = {
	{ "busybox", "Debian's cloud kernel and busybox: a shell in seconds" },
	{ "generic", "the same with Debian's kernel for real machines" },
	{ "debian", "systemd, a login prompt, apt; root has no password" },
};
#define GUESTS (sizeof(guests) / sizeof(guests[0]))

static bool exists(const char *dir, const char *file)
{
	char path[PATH_MAX];

	return snprintf(path, sizeof(path), "%s/%s", dir, file) < (int)sizeof(path) && !access(path, F_OK);
}

static int list(struct err *err)
{
	char dir[PATH_MAX];

	for (size_t n = 0; n < GUESTS; n++) {
		if (cache_path(guests[n].name, dir, sizeof(dir), err))
			return cli_fail(err);
		printf("%-8s  %-7s  %s\n", guests[n].name,
		       exists(dir, "ready")  ? "ready"
		       : exists(dir, "lock") ? "partial"
					     : "absent",
		       guests[n].text);
	}
	return 0;
}

static bool is_guest(const char *name)
{
	for (size_t n = 0; n < GUESTS; n++)
		if (!strcmp(name, guests[n].name))
			return true;
	return false;
}

static int run(struct config *c, int argc, char **argv)
{
	struct err err;
	char dir[PATH_MAX], script[PATH_MAX];
	bool force, print, bootable;

	if (config_bool(c, "force", false, &force, &err) || config_bool(c, "print", false, &print, &err) ||
	    config_bool(c, "bootable", false, &bootable, &err))
		return cli_fail(&err);
	if (!argc)
		return list(&err);
	if (!is_guest(argv[0])) {
		err_set(&err, "no guest named '%s'; `vireo guest` lists them", argv[0]);
		return cli_fail(&err);
	}
	if (cache_path(argv[0], dir, sizeof(dir), &err))
		return cli_fail(&err);
	puts(dir);
	if (print)
		return 0;
	fflush(stdout);
	if (make_path(dir, &err) || find_script(script, sizeof(script), &err))
		return cli_fail(&err);
	execl(script, script, argv[0], dir, force ? "--force" : "", bootable ? "--bootable" : "", (char *)NULL);
	err_errno(&err, errno, "%s", script);
	return cli_fail(&err);
}

const struct cli_command cli_guest_command = {
	.name = "guest",
	.summary = "Build a ready guest from Debian's packages",
	.operands = "[NAME]",
	.min_operands = 0,
	.max_operands = 1,
	.operand_words = { "busybox|generic|debian" },
	.options = options,
	.text = "Without a NAME, the guests are listed: whether they are ready, and what they are.\n"
		"The guest's kernel (vmlinuz), initrd.img and disk.img are made in the directory that is printed,\n"
		"$XDG_CACHE_HOME/vireo/guests/NAME, from packages of the sources that this host's apt has. An\n"
		"interrupted build goes on where it stopped. Nothing outside of the directory is changed.\n"
		"debian needs root or a user name space (package uidmap). bootable.img starts by itself, by BIOS and "
		"by\n"
		"UEFI: vireo run bootable.img",
	.run = run,
};
