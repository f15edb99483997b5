/* See jail.h. */
#include "lan/serve/jail.h"

#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/confine.h"
#include "base/limit.h"

/* Beside what every process that serves does. */
static const struct call_rule calls[] = {
	{ SYS_openat },	  { SYS_renameat2 },  { SYS_renameat },	  { SYS_unlinkat },    { SYS_recvfrom },
	{ SYS_recvmsg },  { SYS_sendto },     { SYS_sendmsg },	  { SYS_connect },     { SYS_accept4 },
	{ SYS_shutdown }, { SYS_getsockopt }, { SYS_setsockopt }, { SYS_getsockname }, { SYS_getpeername },
};

/* Whoever has the directory by a mount of it finds nothing above it. */
static int set_root(const char *leases, struct err *err)
{
	static const char top[] = "/proc"; /* any that is there */
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", top, "tmpfs", flags, "mode=755,nr_inodes=4,size=4k") || chdir(top))
		return err_errno(err, errno, "a root for the servers alone");
	if (*leases && (mkdir(&JAIL_LEASES[1], 0700) || mount(leases, &JAIL_LEASES[1], NULL, MS_BIND, NULL)))
		return err_errno(err, errno, "%s", leases);
	if (mount(NULL, ".", NULL, MS_REMOUNT | MS_RDONLY | flags, NULL) || syscall(SYS_pivot_root, ".", ".") ||
	    umount2(".", MNT_DETACH) || chdir("/"))
		return err_errno(err, errno, "a root for the servers alone");
	return 0;
}

int jail_rights(const struct lan_serve *s, const char *leases, struct err *err)
{
	limit_memory(JAIL_MEMORY);
	limit_set(RLIMIT_NOFILE, JAIL_FILES);
	limit_set(RLIMIT_CORE, 0);
	limit_set(RLIMIT_FSIZE, JAIL_FILE);
	signal(SIGXFSZ, SIG_IGN);
	if (leases && set_root(leases, err))
		return -1;
	if (s->uid != (uid_t)-1 &&
	    (setgroups(0, NULL) || setresgid(s->gid, s->gid, s->gid) || setresuid(s->uid, s->uid, s->uid)))
		return err_errno(err, errno, "cannot become user %u, group %u", (unsigned)s->uid, (unsigned)s->gid);
	if (confine_capabilities(0, err))
		return -1;
	/* After the change of the user, which sets it anew. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	return 0;
}

int jail_calls(struct err *err)
{
	return confine_to(calls, ARRAY_LEN(calls), err);
}
