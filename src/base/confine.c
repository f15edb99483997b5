/* See confine.h. */
#include "base/confine.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bytes.h"

#ifdef __x86_64__
#define ARCH	 AUDIT_ARCH_X86_64
#define X32_CALL 0x40000000u
#else
#define ARCH	 AUDIT_ARCH_AARCH64
#define X32_CALL 0xffffffffu
#endif

#define RULE_CODE 5u  /* instructions of a rule */
#define MORE_CODE 16u /* of all else */

#define TOO_MANY "more than %u rules for system calls"

#define LOAD(at)	       (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(at))
#define LOAD_NUMBER	       LOAD(offsetof(struct seccomp_data, nr))
#define RETURN(what)	       (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, what)
#define JUMP(kind, k, yes, no) (struct sock_filter) BPF_JUMP(BPF_JMP | kind | BPF_K, k, yes, no)

static const uint32_t answers[] = {
	[CALL_ALLOWED] = SECCOMP_RET_ALLOW,
	[CALL_REFUSED] = SECCOMP_RET_ERRNO | EPERM,
	[CALL_UNKNOWN] = SECCOMP_RET_ERRNO | ENOSYS,
	[CALL_ENDS] = SECCOMP_RET_KILL_PROCESS,
};

static unsigned put_rule(struct sock_filter *code, const struct call_rule *r)
{
	unsigned n = 0;

	if (r->when == CALL_ALWAYS) {
		code[n++] = JUMP(BPF_JEQ, (uint32_t)r->nr, 0, 1);
		code[n++] = RETURN(answers[r->answer]);
		return n;
	}
	code[n++] = JUMP(BPF_JEQ, (uint32_t)r->nr, 0, 4);
	code[n++] = LOAD(offsetof(struct seccomp_data, args) + 8 * r->arg);
	code[n++] = r->when == CALL_EQUAL ? JUMP(BPF_JEQ, r->value, 0, 1) : JUMP(BPF_JSET, r->value, 1, 0);
	code[n++] = RETURN(answers[r->answer]);
	code[n++] = LOAD_NUMBER;
	return n;
}

int confine_calls(const struct call_rule *rules, size_t count, enum call_answer otherwise, unsigned flags,
		  struct err *err)
{
	struct sock_filter code[CONFINE_RULES * RULE_CODE + MORE_CODE];
	struct sock_fprog program = { .filter = code };
	unsigned n = 0;

	if (count > CONFINE_RULES)
		return err_set(err, TOO_MANY, CONFINE_RULES);
	code[n++] = LOAD(offsetof(struct seccomp_data, arch));
	code[n++] = JUMP(BPF_JEQ, ARCH, 1, 0);
	code[n++] = RETURN(SECCOMP_RET_KILL_PROCESS);
	code[n++] = LOAD_NUMBER;
	code[n++] = JUMP(BPF_JGE, X32_CALL, 0, 1);
	code[n++] = RETURN(SECCOMP_RET_ERRNO | ENOSYS);
	for (size_t k = 0; k < count; k++)
		n += put_rule(code + n, &rules[k]);
	code[n++] = RETURN(answers[otherwise]);
	program.len = (unsigned short)n;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program))
		return err_errno(err, errno, "cannot install the filter of system calls");
	return 0;
}

/* What every process that serves does. */
static const struct call_rule common[] = {
	/* descriptors that are open */
	{ SYS_read },
	{ SYS_write },
	{ SYS_readv },
	{ SYS_writev },
	{ SYS_lseek },
	{ SYS_fcntl },
	{ SYS_fstat },
	{ SYS_newfstatat },
	{ SYS_statx },
	{ SYS_close },
	{ SYS_epoll_ctl },
	{ SYS_epoll_pwait },
	{ SYS_ppoll },
	/* memory, which is not executed */
	{ SYS_mmap, CALL_ALLOWED, CALL_WITHOUT, 2, PROT_EXEC },
	{ SYS_mprotect, CALL_ALLOWED, CALL_WITHOUT, 2, PROT_EXEC },
	{ SYS_munmap },
	{ SYS_mremap },
	{ SYS_madvise },
	{ SYS_brk },
	{ SYS_futex },
	/* clocks */
	{ SYS_clock_gettime },
	{ SYS_clock_nanosleep },
	{ SYS_timerfd_settime },
	/* itself, and its end */
	{ SYS_getrandom },
	{ SYS_getpid },
	{ SYS_gettid },
	{ SYS_rt_sigprocmask },
	{ SYS_rt_sigaction },
	{ SYS_rt_sigreturn },
	{ SYS_restart_syscall },
	{ SYS_exit },
	{ SYS_exit_group },
#ifdef __x86_64__
	{ SYS_epoll_wait },
	{ SYS_poll },
	{ SYS_gettimeofday },
	{ SYS_time },
#endif
};

int confine_to(const struct call_rule *more, size_t count, struct err *err)
{
	/* Signals to itself: others of the same user are there, too. */
	struct call_rule rules[CONFINE_RULES] = { { SYS_tgkill, CALL_ALLOWED, CALL_EQUAL, 0, (uint32_t)getpid() } };
	size_t n = 1 + ARRAY_LEN(common);

	if (count > CONFINE_RULES - n)
		return err_set(err, TOO_MANY, CONFINE_RULES);
	memcpy(rules + 1, common, sizeof(common));
	memcpy(rules + n, more, count * sizeof(*more));
	return confine_calls(rules, n + count, CALL_REFUSED, 0, err);
}

bool confine_has_filters(void)
{
	return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
}

int confine_capabilities(uint64_t keep, struct err *err)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	for (unsigned n = 0; n < 64; n++)
		if (!(keep >> n & 1))
			prctl(PR_CAPBSET_DROP, n, 0, 0, 0);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capget, &head, data))
		return err_errno(err, errno, "capabilities");
	for (unsigned n = 0; n < 2; n++) {
		data[n].permitted &= (uint32_t)(keep >> 32 * n);
		data[n].effective &= data[n].permitted;
		data[n].inheritable = 0;
	}
	return syscall(SYS_capset, &head, data) ? err_errno(err, errno, "cannot give up capabilities") : 0;
}
