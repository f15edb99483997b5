/* What the process of the user-mode network has given up, and that all it is for goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "guest.h"
#include "wire.h"

#define NET_RAW	     (1ull << 13)
#define DAC_OVERRIDE (1ull << 1)

static bool available;
#define NEEDS_SPACE()                                                                                                  \
	do {                                                                                                           \
		if (!available)                                                                                        \
			skip();                                                                                        \
	} while (0)

static struct guest g;
static struct err err;
static char dir[] = "/tmp/vireo-jail-XXXXXX";

/* The one that there is. */
static pid_t child(void)
{
	char path[64];
	FILE *f;
	int pid = 0;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	f = fopen(path, "r");
	assert_true(f && fscanf(f, "%d", &pid) == 1);
	fclose(f);
	return pid;
}

/* A number of its /proc/PID/status. */
static unsigned long long of_child(const char *field)
{
	unsigned long long found = ~0ull;
	char line[200], path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", child());
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, field, strlen(field)))
			found = strtoull(line + strlen(field), NULL, 16);
	fclose(f);
	return found;
}

static void expect_jail(unsigned long long capabilities)
{
	assert_int_equal(of_child("Seccomp:"), 2);
	assert_int_equal(of_child("NoNewPrivs:"), 1);
	assert_int_equal(of_child("CapEff:") & ~capabilities, 0);
	assert_int_equal(of_child("CapPrm:") & ~capabilities, 0);
}

static void test_given_up(void **state)
{
	NEEDS_SPACE();
	assert_true(guest_start(&g, &err, NULL));
	expect_jail(NET_RAW);
	guest_dhcp(&g, 1);
	guest_end(&g);
}

#ifdef __x86_64__
/* --- calls of the process itself: its debugger makes them, and its filter answers --- */

/* The process is a copy of this one: what is at an address here is at the same address there. */
__asm__(".pushsection .text\na_call: syscall\nnop\n.popsection");
extern const char a_call[];

static char existing[64], fresh[64];
static const char root[] = "/", empty[] = "", *no_words[] = { NULL };

#define A(x)	((unsigned long long)(x))
#define MEMORY	(MAP_PRIVATE | MAP_ANONYMOUS)
#define REFUSED (-EPERM)
#define ENDS	1 /* by SIGSYS */
#define DONE	0 /* it returns no error */

struct call {
	const char *what;
	long nr;
	unsigned long long arg[6];
	int answer;
};

static const struct call calls[] = {
	{ "a file to read", SYS_openat, { A(AT_FDCWD), A(existing), O_RDONLY }, DONE },
	{ "a file to write", SYS_openat, { A(AT_FDCWD), A(existing), O_WRONLY }, REFUSED },
	{ "a file to read and write", SYS_openat, { A(AT_FDCWD), A(existing), O_RDWR }, REFUSED },
	{ "an empty file", SYS_openat, { A(AT_FDCWD), A(existing), O_RDONLY | O_TRUNC }, REFUSED },
	{ "a new file", SYS_openat, { A(AT_FDCWD), A(fresh), O_RDONLY | O_CREAT, 0600 }, REFUSED },
	{ "a file without a name", SYS_openat, { A(AT_FDCWD), A(dir), O_TMPFILE | O_WRONLY, 0600 }, REFUSED },
	{ "open to read", SYS_open, { A(existing), O_RDONLY }, DONE },
	{ "open to write", SYS_open, { A(existing), O_WRONLY }, REFUSED },
	{ "open of a new file", SYS_open, { A(fresh), O_RDONLY | O_CREAT, 0600 }, REFUSED },
	{ "creat", SYS_creat, { A(fresh), 0600 }, REFUSED },
	{ "openat2", SYS_openat2, { A(AT_FDCWD), A(existing), A(fresh), 24 }, REFUSED },
	{ "truncate", SYS_truncate, { A(existing) }, REFUSED },
	{ "unlink", SYS_unlink, { A(existing) }, REFUSED },
	{ "unlinkat", SYS_unlinkat, { A(AT_FDCWD), A(existing) }, REFUSED },
	{ "rename", SYS_rename, { A(existing), A(fresh) }, REFUSED },
	{ "link", SYS_link, { A(existing), A(fresh) }, REFUSED },
	{ "symlink", SYS_symlink, { A(existing), A(fresh) }, REFUSED },
	{ "mkdir", SYS_mkdir, { A(fresh), 0700 }, REFUSED },
	{ "chmod", SYS_chmod, { A(existing), 0777 }, REFUSED },
	{ "chown", SYS_chown, { A(existing), 0, 0 }, REFUSED },
	{ "chdir", SYS_chdir, { A(root) }, REFUSED },
	{ "chroot", SYS_chroot, { A(root) }, REFUSED },
	{ "mount", SYS_mount, { A(empty), A(dir), A(empty), 0, 0 }, REFUSED },
	{ "a socket of IPv4", SYS_socket, { AF_INET, SOCK_STREAM }, DONE },
	{ "a socket of IPv6", SYS_socket, { AF_INET6, SOCK_DGRAM }, DONE },
	{ "a Unix socket", SYS_socket, { AF_UNIX, SOCK_STREAM }, REFUSED },
	{ "a netlink socket", SYS_socket, { AF_NETLINK, SOCK_RAW }, REFUSED },
	{ "a packet socket", SYS_socket, { AF_PACKET, SOCK_RAW }, REFUSED },
	{ "a socket for virtual machines", SYS_socket, { AF_VSOCK, SOCK_STREAM }, REFUSED },
	{ "a pair of sockets", SYS_socketpair, { AF_UNIX, SOCK_STREAM, 0, A(fresh) }, REFUSED },
	{ "what waits", SYS_ioctl, { 2, TIOCSTI, A(root) }, REFUSED },
	{ "memory to write", SYS_mmap, { 0, 4096, PROT_READ | PROT_WRITE, MEMORY, A(-1), 0 }, DONE },
	{ "memory to execute", SYS_mmap, { 0, 4096, PROT_READ | PROT_EXEC, MEMORY, A(-1), 0 }, ENDS },
	{ "memory that becomes code", SYS_mprotect, { 0, 4096, PROT_EXEC }, ENDS },
	{ "memory of a key", SYS_pkey_mprotect, { 0, 4096, PROT_EXEC, A(-1) }, REFUSED },
	{ "a program", SYS_execve, { A(root), A(no_words), A(no_words) }, ENDS },
	{ "a program by its directory", SYS_execveat, { A(AT_FDCWD), A(root), A(no_words), A(no_words) }, ENDS },
	{ "a debugger", SYS_ptrace, { PTRACE_TRACEME }, ENDS },
	{ "memory of others", SYS_process_vm_readv, { 1 }, ENDS },
	{ "memory of others to write", SYS_process_vm_writev, { 1 }, ENDS },
	{ "fork", SYS_fork, { 0 }, REFUSED },
	{ "clone", SYS_clone, { SIGCHLD }, REFUSED },
	{ "a signal to all", SYS_kill, { A(-1), 0 }, REFUSED },
	{ "a signal to process 1", SYS_tgkill, { 1, 1, 0 }, REFUSED },
	{ "a process", SYS_pidfd_open, { 1, 0 }, REFUSED },
	{ "larger limits", SYS_prlimit64, { 0, 7, 0, A(fresh) }, REFUSED },
	{ "another user", SYS_setuid, { 0 }, REFUSED },
	{ "other rights", SYS_capset, { 0, 0 }, REFUSED },
	{ "a name space", SYS_unshare, { 0 }, REFUSED },
	{ "another's name space", SYS_setns, { 0, 0 }, REFUSED },
	{ "a ring of calls", SYS_io_uring_setup, { 1, A(fresh) }, REFUSED },
	{ "a program of the kernel's", SYS_bpf, { 0, 0, 0 }, REFUSED },
	{ "a key", SYS_keyctl, { 0 }, REFUSED },
	{ "this very process", SYS_getpid, { 0 }, DONE },
};

/* What the process' kernel says to the call: its result, or ENDS. False: nobody may have it do anything. */
static bool call(const struct call *c, long long *answer)
{
	struct user_regs_struct before, r;
	pid_t pid = child();
	int status;

	if (ptrace(PTRACE_ATTACH, pid, NULL, NULL))
		return false;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSTOPPED(status));
	assert_int_equal(ptrace(PTRACE_GETREGS, pid, NULL, &before), 0);
	r = before;
	r.rip = A(a_call);
	r.rax = (unsigned long long)c->nr;
	r.orig_rax = ~0ull; /* a call that waits is begun again later */
	r.rdi = c->arg[0];
	r.rsi = c->arg[1];
	r.rdx = c->arg[2];
	r.r10 = c->arg[3];
	r.r8 = c->arg[4];
	r.r9 = c->arg[5];
	assert_int_equal(ptrace(PTRACE_SETREGS, pid, NULL, &r), 0);
	assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status)) {
		assert_int_equal(WTERMSIG(status), SIGSYS);
		*answer = ENDS;
		return true;
	}
	assert_int_equal(ptrace(PTRACE_GETREGS, pid, NULL, &r), 0);
	assert_int_equal(ptrace(PTRACE_SETREGS, pid, NULL, &before), 0);
	assert_int_equal(ptrace(PTRACE_DETACH, pid, NULL, NULL), 0);
	*answer = (long long)r.rax;
	return true;
}

/* `what` is answered otherwise with these settings. */
static void expect_answers(const char *setting, const char *what, int otherwise)
{
	unsigned failed = 0;

	assert_true(guest_start(&g, &err, setting, NULL));
	for (size_t k = 0; k < sizeof(calls) / sizeof(calls[0]); k++) {
		const struct call *c = &calls[k];
		int should = what && !strcmp(c->what, what) ? otherwise : c->answer;
		long long is;

		if (!call(c, &is)) {
			guest_end(&g);
			print_message("skipped: processes cannot be debugged here\n");
			skip();
		}
		if (should == DONE ? is < 0 : is != should) {
			print_error("%s, %s: %lld\n", setting ? setting : "", c->what, is);
			failed++;
		}
		if (is == ENDS) {
			guest_end(&g);
			assert_true(guest_start(&g, &err, setting, NULL));
		}
	}
	if (!failed)
		guest_dhcp(&g, 1); /* it goes on as if nothing had been */
	guest_end(&g);
	assert_int_equal(failed, 0);
}

static void test_calls(void **state)
{
	char setting[200];
	FILE *f;

	NEEDS_SPACE();
	snprintf(existing, sizeof(existing), "%s/existing", dir);
	snprintf(fresh, sizeof(fresh), "%s/fresh", dir);
	f = fopen(existing, "w");
	assert_non_null(f);
	fclose(f);
	expect_answers(NULL, NULL, 0);
	snprintf(setting, sizeof(setting), "tftp=%s", dir);
	expect_answers(setting, NULL, 0);
	snprintf(setting, sizeof(setting), "guestfwd0=tcp:10.0.2.100:80-unix:%s/s", dir);
	expect_answers(setting, "a Unix socket", DONE);
	assert_int_equal(access(fresh, F_OK), -1);
	unlink(existing);
}
#endif

/* A command is anybody's program: it inherits nothing. */
static void test_commands(void **state)
{
	struct conn *c;

	NEEDS_SPACE();
	assert_true(guest_start(&g, &err, "guestfwd0=tcp:10.0.2.100:80-cmd:grep Seccomp: /proc/self/status", NULL));
	assert_int_equal(of_child("Seccomp:"), 0);
	guest_arp(&g);
	c = guest_connect(&g, 0x0a000264, 80);
	c->data = calloc(1, GUEST_DATA);
	guest_read(&g, c, 11);
	assert_memory_equal(c->data, "Seccomp:\t0\n", 11);
	guest_end(&g);
}

static void test_unix(void **state)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), fd;
	char setting[200], buf[8];
	struct conn *c;

	NEEDS_SPACE();
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/s", dir);
	assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof(a)) || listen(listener, 1), 0);
	snprintf(setting, sizeof(setting), "guestfwd0=tcp:10.0.2.100:80-unix:%s", a.sun_path);
	assert_true(guest_start(&g, &err, setting, NULL));
	expect_jail(NET_RAW | DAC_OVERRIDE);
	guest_arp(&g);
	c = guest_connect(&g, 0x0a000264, 80);
	guest_connected(&g, c);
	guest_send(&g, c, "hello", 5);
	fd = host_accept(&g, listener);
	host_read(&g, fd, buf, 5);
	assert_memory_equal(buf, "hello", 5);
	close(fd);
	close(listener);
	unlink(a.sun_path);
	guest_end(&g);
}

static void test_tftp(void **state)
{
	char setting[100], path[64];
	FILE *f;

	NEEDS_SPACE();
	snprintf(path, sizeof(path), "%s/file", dir);
	f = fopen(path, "w");
	fputs("contents", f);
	fclose(f);
	snprintf(setting, sizeof(setting), "tftp=%s", dir);
	assert_true(guest_start(&g, &err, setting, NULL));
	expect_jail(NET_RAW | DAC_OVERRIDE);
	guest_arp(&g);
	guest_udp(&g, 4000, HOST_IP, 69, "\0\1file\0octet", 13);
	guest_hears(&g);
	assert_int_equal(g.udp_len, 12);
	assert_memory_equal(g.udp, "\0\3\0\1contents", 12);
	unlink(path);
	guest_end(&g);
}

static uint16_t total(const uint8_t *b, size_t len)
{
	uint32_t s = 0;

	for (size_t k = 0; k < len; k += 2)
		s += ld_be16(b + k);
	s = (s & 0xffff) + (s >> 16);
	return (uint16_t) ~(s + (s >> 16));
}

static bool echoed;

static bool on_frame(void *opaque, const uint8_t *f, size_t len, const struct net_offload *o)
{
	echoed |= len >= 42 && f[23] == 1 && f[34] == 0 && ld_be16(f + 38) == 0x1234;
	return true;
}

static bool has_echo(void *opaque)
{
	return echoed;
}

/* The library has the host ask, by whatever socket it may. */
static void test_ping(void **state)
{
	uint8_t f[14 + 20 + 16] = { 0 }, *ip = f + 14, *icmp = ip + 20;

	NEEDS_SPACE();
	if (geteuid()) {
		print_message("skipped: pings need root, or net.ipv4.ping_group_range\n");
		skip();
	}
	assert_true(guest_start(&g, &err, NULL));
	guest_arp(&g);
	memcpy(f, g.router_mac, 6);
	memcpy(f + 6, g.mac, 6);
	memcpy(f + 12, "\x08\0\x45\0\0\x24\0\1\0\0\x40\1", 12);
	st_be32(ip + 12, GUEST_IP);
	st_be32(ip + 16, 0x7f000002);
	st_be16(ip + 10, total(ip, 20));
	memcpy(icmp, "\x08\0\0\0\x12\x34\0\1", 8);
	st_be16(icmp + 2, total(icmp, 16));
	g.peer->receiver.receive = on_frame;
	guest_raw(&g, f, sizeof(f));
	guest_until(&g, has_echo, NULL);
	guest_end(&g);
}

static int group_begin(void **state)
{
	available = !wire_emulated() && wire_own_network();
	guest_make = net_user_new;
	return mkdtemp(dir) ? 0 : -1;
}

static int group_end(void **state)
{
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_given_up),
#ifdef __x86_64__
		cmocka_unit_test(test_calls),
#endif
		cmocka_unit_test(test_commands), cmocka_unit_test(test_unix),
		cmocka_unit_test(test_tftp),	 cmocka_unit_test(test_ping),
	};

	return cmocka_run_group_tests(tests, group_begin, group_end);
}
