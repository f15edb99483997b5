/* See jail.h. */
#include "lan/jail.h"

#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/confine.h"
#include "base/limit.h"

/* What is not here fails with EPERM. */
static const struct call_rule calls[] = {
	{ SYS_read },
	{ SYS_write },
	{ SYS_readv },
	{ SYS_writev },
	{ SYS_close },
	{ SYS_lseek },
	{ SYS_fcntl },
	{ SYS_fstat },
	{ SYS_newfstatat },
	{ SYS_statx },
	{ SYS_openat },
	{ SYS_renameat2 },
	{ SYS_renameat },
	{ SYS_unlinkat },
	{ SYS_epoll_ctl },
	{ SYS_epoll_pwait },
	{ SYS_ppoll },
	{ SYS_timerfd_settime },
	{ SYS_recvfrom },
	{ SYS_recvmsg },
	{ SYS_sendto },
	{ SYS_sendmsg },
	{ SYS_connect },
	{ SYS_accept4 },
	{ SYS_shutdown },
	{ SYS_getsockopt },
	{ SYS_setsockopt },
	{ SYS_getsockname },
	{ SYS_getpeername },
	{ SYS_munmap },
	{ SYS_mremap },
	{ SYS_madvise },
	{ SYS_brk },
	{ SYS_futex },
	{ SYS_clock_gettime },
	{ SYS_clock_nanosleep },
	{ SYS_getrandom },
	{ SYS_getpid },
	{ SYS_gettid },
	{ SYS_rt_sigprocmask },
	{ SYS_rt_sigaction },
	{ SYS_rt_sigreturn },
	{ SYS_restart_syscall },
	{ SYS_exit },
	{ SYS_exit_group },
	{ SYS_mmap, CALL_ALLOWED, CALL_WITHOUT, 2, PROT_EXEC },
	{ SYS_mprotect, CALL_ALLOWED, CALL_WITHOUT, 2, PROT_EXEC },
#ifdef __x86_64__
	{ SYS_epoll_wait },
	{ SYS_poll },
	{ SYS_gettimeofday },
	{ SYS_time },
#endif
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
	/* Others of the same user are there, too. */
	const struct call_rule own = { SYS_tgkill, CALL_ALLOWED, CALL_EQUAL, 0, (uint32_t)getpid() };
	struct call_rule rules[ARRAY_LEN(calls) + 1] = { own };

	memcpy(rules + 1, calls, sizeof(calls));
	return confine_calls(rules, ARRAY_LEN(rules), CALL_REFUSED, 0, err);
}
