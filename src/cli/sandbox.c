/* See sandbox.h. */
#include "cli/sandbox.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bytes.h"

enum group { OBSOLETE, PRIVILEGES, SPAWN, RESOURCES, GROUPS };

#ifdef __x86_64__
#define ARCH	 AUDIT_ARCH_X86_64
#define X32_CALL 0x40000000u
#else
#define ARCH	 AUDIT_ARCH_AARCH64
#define X32_CALL 0xffffffffu
#endif

/* As QEMU has them, as far as the architecture does. `clone` with a thread is no new process. */
static const struct {
	enum group group;
	int nr;
} calls[] = {
	{ OBSOLETE, SYS_reboot },
	{ OBSOLETE, SYS_swapon },
	{ OBSOLETE, SYS_swapoff },
	{ OBSOLETE, SYS_syslog },
	{ OBSOLETE, SYS_mount },
	{ OBSOLETE, SYS_umount2 },
	{ OBSOLETE, SYS_kexec_load },
	{ OBSOLETE, SYS_pivot_root },
	{ OBSOLETE, SYS_init_module },
	{ OBSOLETE, SYS_delete_module },
	{ OBSOLETE, SYS_finit_module },
	{ PRIVILEGES, SYS_setuid },
	{ PRIVILEGES, SYS_setgid },
	{ PRIVILEGES, SYS_setpgid },
	{ PRIVILEGES, SYS_setsid },
	{ PRIVILEGES, SYS_setreuid },
	{ PRIVILEGES, SYS_setregid },
	{ PRIVILEGES, SYS_setresuid },
	{ PRIVILEGES, SYS_setresgid },
	{ PRIVILEGES, SYS_setfsuid },
	{ PRIVILEGES, SYS_setfsgid },
	{ PRIVILEGES, SYS_setgroups },
	{ SPAWN, SYS_execve },
	{ SPAWN, SYS_execveat },
	{ SPAWN, SYS_clone },
	{ SPAWN, SYS_clone3 },
	{ RESOURCES, SYS_setpriority },
	{ RESOURCES, SYS_sched_setparam },
	{ RESOURCES, SYS_sched_setscheduler },
	{ RESOURCES, SYS_sched_setaffinity },
	{ RESOURCES, SYS_sched_setattr },
	{ RESOURCES, SYS_ioprio_set },
#ifdef __x86_64__
	{ OBSOLETE, SYS__sysctl },
	{ OBSOLETE, SYS_create_module },
	{ OBSOLETE, SYS_get_kernel_syms },
	{ OBSOLETE, SYS_query_module },
	{ OBSOLETE, SYS_sysfs },
	{ OBSOLETE, SYS_uselib },
	{ OBSOLETE, SYS_ustat },
	{ SPAWN, SYS_fork },
	{ SPAWN, SYS_vfork },
#endif
};

int sandbox_read(struct sandbox *s, struct config *c, struct err *err)
{
	static const char *const words[] = { "allow", "deny", "children", NULL };
	static const char *const keys[GROUPS] = { "sandbox.obsolete", "sandbox.elevateprivileges", "sandbox.spawn",
						  "sandbox.resourcecontrol" };
	int choice;

	*s = (struct sandbox){ 0 };
	if (config_bool(c, "sandbox", false, &s->on, err))
		return -1;
	for (unsigned n = 0; n < GROUPS; n++) {
		if (config_choice(c, keys[n], n == OBSOLETE, words, &choice, err))
			return -1;
		if (choice == 2 && n != PRIVILEGES)
			return err_set(err, "%s: 'children' is not one of allow, deny", keys[n]);
		/* Programs that are started have no way to more rights in any case. */
		s->denied |= choice ? 1u << n : 0;
		if (!s->on && config_peek(c, keys[n]))
			return err_set(err, "%s: there is no sandbox without sandbox=on", keys[n]);
	}
	return 0;
}

/* The groups of `denied` fail from now on. */
static int install(unsigned denied, unsigned flags, struct err *err)
{
	struct sock_filter code[2 * ARRAY_LEN(calls) + 16];
	struct sock_fprog program = { .filter = code };
	unsigned n = 0;

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
	code[n++] = (struct sock_filter)LOAD(arch);
	code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	code[n++] = (struct sock_filter)LOAD(nr);
	code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_CALL, 0, 1);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
	for (size_t k = 0; k < ARRAY_LEN(calls); k++) {
		/* The C library asks for clone3 first, whose flags are not to be seen, and goes on with clone. */
		unsigned why = calls[k].nr == SYS_clone3 ? ENOSYS : EPERM;

		if (!(denied >> calls[k].group & 1) || calls[k].nr == SYS_clone)
			continue;
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[k].nr, 0, 1);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | why);
	}
	if (denied >> SPAWN & 1) {
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3);
		code[n++] = (struct sock_filter)LOAD(args[0]);
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
#undef LOAD
	program.len = (unsigned short)n;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program))
		return err_errno(err, errno, "sandbox: failed to install seccomp syscall filter in the kernel");
	return 0;
}

int sandbox_begin(const struct sandbox *s, struct err *err)
{
	return s->on ? install(s->denied & 1u << OBSOLETE, 0, err) : 0;
}

int sandbox_finish(const struct sandbox *s, struct err *err)
{
	return s->on && s->denied & ~(1u << OBSOLETE)
		       ? install(s->denied & ~(1u << OBSOLETE), SECCOMP_FILTER_FLAG_TSYNC, err)
		       : 0;
}
