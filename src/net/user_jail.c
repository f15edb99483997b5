/*
 * What the process around libslirp may do: sockets of the internet, files that it reads (the host's name servers, those
 * of TFTP), memory that is not executed, and no program.
 *
 * A guestfwd with a command starts programs, which would inherit all this: with one of them there is no filter.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/bytes.h"
#include "base/confine.h"
#include "base/log.h"
#include "net/user.h"

#define WRITES ((uint32_t)(O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_TMPFILE))

/* Beside what every process that serves does. */
static const struct call_rule calls[] = {
	{ SYS_recvfrom },
	{ SYS_sendto },
	{ SYS_recvmsg },
	{ SYS_sendmsg },
	{ SYS_socket, CALL_ALLOWED, CALL_EQUAL, 0, AF_INET },
	{ SYS_socket, CALL_ALLOWED, CALL_EQUAL, 0, AF_INET6 },
	{ SYS_connect },
	{ SYS_bind },
	{ SYS_listen },
	{ SYS_accept },
	{ SYS_accept4 },
	{ SYS_shutdown },
	{ SYS_getsockopt },
	{ SYS_setsockopt },
	{ SYS_getsockname },
	{ SYS_getpeername },
	{ SYS_ioctl, CALL_ALLOWED, CALL_EQUAL, 1, FIONREAD },
	{ SYS_ioctl, CALL_ALLOWED, CALL_EQUAL, 1, FIONBIO },
	{ SYS_ioctl, CALL_ALLOWED, CALL_EQUAL, 1, SIOCATMARK },
	{ SYS_ioctl, CALL_ALLOWED, CALL_EQUAL, 1, SIOCGIFINDEX },
	{ SYS_openat, CALL_ALLOWED, CALL_WITHOUT, 2, WRITES },
#ifdef __x86_64__
	{ SYS_open, CALL_ALLOWED, CALL_WITHOUT, 1, WRITES },
	{ SYS_stat },
#endif
	/* Nobody tries these by mistake: the next process begins anew. */
	{ SYS_execve, CALL_ENDS },
	{ SYS_execveat, CALL_ENDS },
	{ SYS_ptrace, CALL_ENDS },
	{ SYS_process_vm_readv, CALL_ENDS },
	{ SYS_process_vm_writev, CALL_ENDS },
	{ SYS_mmap, CALL_ENDS },
	{ SYS_mprotect, CALL_ENDS },
};

/* From which on anybody may open ports of the host, in this network name space. */
static unsigned first_free_port(void)
{
	FILE *f = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "re");
	unsigned first = 1024;

	if (f && fscanf(f, "%u", &first) != 1)
		first = 1024;
	if (f)
		fclose(f);
	return first;
}

int net_user_refused(const struct net_forward *f, const char *name, int errnum, struct err *err)
{
	const unsigned first = first_free_port();
	size_t len;

	err_errno(err, errnum, "%s.hostfwd: %s port %u of %s", name, f->udp ? "UDP" : "TCP", f->host_port,
		  inet_ntoa(f->host));
	len = strlen(err->msg);
	if (errnum == EACCES && f->host_port < first)
		snprintf(err->msg + len, sizeof(err->msg) - len,
			 ": ports below %u are opened at the start only, with CAP_NET_BIND_SERVICE, or at any time "
			 "after `sysctl net.ipv4.ip_unprivileged_port_start=%u`",
			 first, f->host_port);
	return -1;
}

#define CAP(name) (1ull << (name))

int net_user_confine(const struct net_user_config *c, struct err *err)
{
	struct call_rule rules[ARRAY_LEN(calls) + 1];
	uint64_t keep = CAP(CAP_NET_RAW); /* pings, where the host has no sockets for them */
	bool to_unix = false;
	size_t n = 0;

	for (unsigned k = 0; k < c->guest_count; k++) {
		if (c->guest_forward[k].kind == NET_TO_COMMAND)
			return 0;
		to_unix |= c->guest_forward[k].kind == NET_TO_UNIX;
	}
	if (to_unix)
		rules[n++] = (struct call_rule){ SYS_socket, CALL_ALLOWED, CALL_EQUAL, 0, AF_UNIX };
	/* Files and sockets of others, as far as the machine's user had them. */
	if (to_unix || *c->tftp)
		keep |= CAP(CAP_DAC_OVERRIDE);
	memcpy(rules + n, calls, sizeof(calls));
	n += ARRAY_LEN(calls);
	if (confine_capabilities(keep, err))
		return -1;
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (!confine_has_filters()) {
		log_line(LOG_WARN, "net",
			 "this kernel filters no system calls: the process of the user-mode network is free to make "
			 "any");
		return 0;
	}
	return confine_to(rules, n, err);
}
