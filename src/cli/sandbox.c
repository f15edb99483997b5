/* See sandbox.h. */
#include "cli/sandbox.h"

#include <linux/seccomp.h>
#include <sched.h>
#include <sys/syscall.h>

#include "base/bytes.h"
#include "base/confine.h"

enum group { OBSOLETE, PRIVILEGES, SPAWN, RESOURCES, GROUPS };

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
	struct call_rule rules[ARRAY_LEN(calls)];
	struct err why;
	size_t n = 0;

	for (size_t k = 0; k < ARRAY_LEN(calls); k++) {
		struct call_rule *r = &rules[n];

		if (!(denied >> calls[k].group & 1))
			continue;
		n++;
		*r = (struct call_rule){ calls[k].nr, CALL_REFUSED };
		if (r->nr == SYS_clone)
			*r = (struct call_rule){ SYS_clone, CALL_REFUSED, CALL_WITHOUT, 0, CLONE_THREAD };
		/* The C library asks for clone3 first, whose flags are not to be seen, and goes on with clone. */
		if (r->nr == SYS_clone3)
			r->answer = CALL_UNKNOWN;
	}
	return confine_calls(rules, n, CALL_ALLOWED, flags, &why) ? err_set(err, "sandbox: %s", why.msg) : 0;
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
