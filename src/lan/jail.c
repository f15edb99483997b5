/* See jail.h. */
#include "lan/jail.h"

#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/limit.h"

#ifdef __x86_64__
#define ARCH AUDIT_ARCH_X86_64
#else
#define ARCH AUDIT_ARCH_AARCH64
#endif

/* What is not here fails with EPERM. Those with executable memory and signals are looked at by their arguments. */
static const int calls[] = {
	SYS_read,
	SYS_write,
	SYS_readv,
	SYS_writev,
	SYS_close,
	SYS_lseek,
	SYS_fcntl,
	SYS_fstat,
	SYS_newfstatat,
	SYS_statx,
	SYS_openat,
	SYS_renameat2,
	SYS_renameat,
	SYS_unlinkat,
	SYS_epoll_ctl,
	SYS_epoll_pwait,
	SYS_ppoll,
	SYS_timerfd_settime,
	SYS_recvfrom,
	SYS_recvmsg,
	SYS_sendto,
	SYS_sendmsg,
	SYS_connect,
	SYS_accept4,
	SYS_shutdown,
	SYS_getsockopt,
	SYS_setsockopt,
	SYS_getsockname,
	SYS_getpeername,
	SYS_munmap,
	SYS_mremap,
	SYS_madvise,
	SYS_brk,
	SYS_futex,
	SYS_clock_gettime,
	SYS_clock_nanosleep,
	SYS_getrandom,
	SYS_getpid,
	SYS_gettid,
	SYS_rt_sigprocmask,
	SYS_rt_sigaction,
	SYS_rt_sigreturn,
	SYS_restart_syscall,
	SYS_exit,
	SYS_exit_group,
#ifdef __x86_64__
	SYS_epoll_wait,
	SYS_poll,
	SYS_gettimeofday,
	SYS_time,
#endif
};

static int drop_capabilities(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };

	for (int n = 0; n < 64; n++)
		prctl(PR_CAPBSET_DROP, n, 0, 0, 0);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	return (int)syscall(SYS_capset, &head, none);
}

/* Whoever has the directory by a mount of it finds nothing above it. */
static int set_root(const char *leases, struct err *err)
{
	static const char top[] = "/proc"; /* any that is there */
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", top, "tmpfs", flags, "mode=755,nr_inodes=4,size=4k") || chdir(top))
		return err_errno(err, errno, "a root for the servers alone");
	if (*leases && (mkdir(JAIL_LEASES + 1, 0700) || mount(leases, JAIL_LEASES + 1, NULL, MS_BIND, NULL)))
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
	if (drop_capabilities())
		return err_errno(err, errno, "cannot give up capabilities");
	/* After the change of the user, which sets it anew. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	return 0;
}

int jail_calls(struct err *err)
{
	struct sock_filter code[2 * ARRAY_LEN(calls) + 21];
	struct sock_fprog program = { .filter = code };
	unsigned n = 0;

#define LOAD(field)	       (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(what)	       (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, what)
#define JUMP(kind, k, yes, no) (struct sock_filter) BPF_JUMP(BPF_JMP | kind | BPF_K, k, yes, no)
	code[n++] = LOAD(arch);
	code[n++] = JUMP(BPF_JEQ, ARCH, 1, 0);
	code[n++] = RETURN(SECCOMP_RET_KILL_PROCESS);
	code[n++] = LOAD(nr);
	for (size_t k = 0; k < ARRAY_LEN(calls); k++) {
		code[n++] = JUMP(BPF_JEQ, (unsigned)calls[k], 0, 1);
		code[n++] = RETURN(SECCOMP_RET_ALLOW);
	}
	/* Others of the same user are there, too. */
	code[n++] = JUMP(BPF_JEQ, SYS_tgkill, 0, 4);
	code[n++] = LOAD(args[0]);
	code[n++] = JUMP(BPF_JEQ, (unsigned)getpid(), 0, 1);
	code[n++] = RETURN(SECCOMP_RET_ALLOW);
	code[n++] = RETURN(SECCOMP_RET_ERRNO | EPERM);
	code[n++] = JUMP(BPF_JEQ, SYS_mmap, 2, 0);
	code[n++] = JUMP(BPF_JEQ, SYS_mprotect, 1, 0);
	code[n++] = RETURN(SECCOMP_RET_ERRNO | EPERM);
	code[n++] = LOAD(args[2]);
	code[n++] = JUMP(BPF_JSET, PROT_EXEC, 0, 1);
	code[n++] = RETURN(SECCOMP_RET_ERRNO | EPERM);
	code[n++] = RETURN(SECCOMP_RET_ALLOW);
#undef LOAD
#undef RETURN
#undef JUMP
	program.len = (unsigned short)n;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
		return err_errno(err, errno, "cannot install the filter of system calls");
	return 0;
}
