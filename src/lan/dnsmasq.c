/*
 * dnsmasq in place of our servers: at the gateway's address on the host, or where the host has none in a name space of
 * its own. It is known by its arguments, which name files of the network: also where these are lost. See lan_impl.h.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/limit.h"
#include "base/log.h"
#include "lan/lan_impl.h"

#define PATIENCE_MS 3000
#define ARGS_MOST   64
#define MEMORY	    (256u << 20)
#define FILES	    256u
#define LOG	    "server.log"
#define HOSTS	    "hosts"
#define ID	    "dnsmasq.id" /* its number and when it began */
#define FILE_MOST   (4u << 20)	 /* bytes of its log */
#define LEASES_MOST (2 * LAN_HOSTS_MAX)

static const char *program(void)
{
	static const char *const places[] = { "/usr/sbin/dnsmasq", "/sbin/dnsmasq", "/usr/local/sbin/dnsmasq",
					      "/usr/bin/dnsmasq" };

	for (size_t i = 0; i < ARRAY_LEN(places); i++)
		if (!access(places[i], X_OK))
			return places[i];
	return NULL;
}

static void path_of(struct lan *l, const char *name, const char *file, char buf[2 * LAN_PATH])
{
	lan_run_path(&l->store, name, file, buf, 2 * LAN_PATH);
}

/* --- which process it is --- */

/* Its beginning and its end, or with an empty end all of it. */
static bool is_argument(const char *text, const char *begin, const char *end)
{
	const size_t len = strlen(text), head = strlen(begin), tail = strlen(end);

	return tail ? len >= head + tail && !strncmp(text, begin, head) && !strcmp(text + len - tail, end)
		    : !strcmp(text, begin);
}

/* Whether this process has the argument, which nobody else's would. */
static bool has_argument(const char *pid, const char *begin, const char *end)
{
	char path[64], text[8192];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "/proc/%.16s/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	len = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[len < 0 ? 0 : len] = '\0';
	for (ssize_t at = 0; at < len; at += (ssize_t)strlen(text + at) + 1)
		if (is_argument(text + at, begin, end))
			return true;
	return false;
}

static bool is_called(const char *pid, const char *name)
{
	char path[64], text[32] = "";
	FILE *f;
	bool yes;

	snprintf(path, sizeof(path), "/proc/%.16s/comm", pid);
	f = fopen(path, "re");
	yes = f && fgets(text, sizeof(text), f) && (text[strcspn(text, "\n")] = 0, !strcmp(text, name));
	if (f)
		fclose(f);
	return yes;
}

#define MARK	 "--pid-file="
#define PID_FILE "dnsmasq.pid"

static void mark(struct lan *l, const char *name, char buf[3 * LAN_PATH])
{
	char path[2 * LAN_PATH];

	path_of(l, name, PID_FILE, path);
	snprintf(buf, 3 * LAN_PATH, MARK "%s", path);
}

/* When it began, in ticks; 0: it has ended. */
static unsigned long long start_of(pid_t pid)
{
	char path[64], text[1024], *p, state;
	unsigned long long start = 0;
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
	if (f)
		fclose(f);
	text[n] = '\0';
	/* The name, which may have anything in it, is in parentheses. */
	p = strrchr(text, ')');
	if (!p ||
	    sscanf(p + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &state,
		   &start) != 2 ||
	    state == 'Z')
		return 0;
	return start;
}

static int write_id(struct lan *l, const char *name, pid_t pid, struct err *err)
{
	char path[2 * LAN_PATH], text[64];

	path_of(l, name, ID, path);
	snprintf(text, sizeof(text), "%d %llu\n", (int)pid, start_of(pid));
	return lan_write_file(path, text, false, err);
}

/* As it was written down; 0: it is not, or has ended. */
static pid_t read_id(struct lan *l, const char *name)
{
	char path[2 * LAN_PATH];
	unsigned long long start;
	int pid = 0;
	FILE *f;

	path_of(l, name, ID, path);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%d %llu", &pid, &start) != 2 || pid <= 1 || !start || start_of(pid) != start)
		pid = 0;
	if (f)
		fclose(f);
	return pid;
}

static bool shares(const char *pid, const char *space)
{
	struct stat a, b;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%.16s/ns/%s", pid, space);
	if (stat(path, &a))
		return false;
	snprintf(path, sizeof(path), "/proc/self/ns/%s", space);
	return !stat(path, &b) && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static bool is_open(const char *dir)
{
	char path[LAN_PATH];
	struct stat st;

	for (const char *p = dir; p && *p;) {
		p = strchr(p + 1, '/');
		snprintf(path, sizeof(path), "%.*s", p ? (int)(p - dir) : LAN_PATH - 1, dir);
		if (stat(path, &st) || !(st.st_mode & S_IXOTH))
			return false;
	}
	return true;
}

/* Whom it is: that of our servers, where that one can get at what it is told and what it writes. */
static uid_t user(struct lan *l, const char *name)
{
	const uid_t uid = lan_server_user(name);

	return uid != (uid_t)-1 && is_open(l->store.run) && (access(l->store.keep, F_OK) || is_open(l->store.keep))
		       ? uid
		       : geteuid();
}

/*
 * Anybody can have the argument: who may kill us does it, from where the same path is the same file, at the place where
 * the servers of such a network are. Of one that is not known any more no place is asked for.
 */
static bool is_ours(const char *pid, const struct lan_run *r, uid_t becomes)
{
	const bool place = shares(pid, "net") == lan_has_gateway(&r->def);
	char path[32];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%.16s", pid);
	return !stat(path, &st) && (st.st_uid == geteuid() || st.st_uid == becomes) && shares(pid, "user") &&
	       shares(pid, "pid") && (place || (!r->def.net4.len && !r->def.net6.len));
}

static pid_t search(const struct lan_run *r, const char *begin, const char *end, uid_t becomes)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	pid_t pid = 0;

	while (d && !pid && (e = readdir(d)))
		if (isdigit((unsigned char)*e->d_name) && is_called(e->d_name, "dnsmasq") &&
		    has_argument(e->d_name, begin, end) && is_ours(e->d_name, r, becomes))
			pid = (pid_t)atoi(e->d_name);
	if (d)
		closedir(d);
	return pid;
}

/* By what is written down, or where that is lost by what it is. 0: none. */
static pid_t find(struct lan *l, const struct lan_run *r)
{
	char argument[3 * LAN_PATH];
	pid_t pid = read_id(l, r->def.name);

	mark(l, r->def.name, argument);
	return pid ? pid : search(r, argument, "", user(l, r->def.name));
}

/* Of another run directory, whose path nobody here knows. */
static pid_t find_foreign(struct lan *l, const struct lan_run *r)
{
	char end[LAN_PATH];

	snprintf(end, sizeof(end), "/%s/" PID_FILE, r->def.name);
	return search(r, MARK, end, lan_server_user(r->def.name));
}

bool lan_dnsmasq_alive(struct lan *l, const struct lan_run *r)
{
	return find(l, r) > 0;
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
}

static void stop(struct lan *l, const struct lan_run *r, pid_t (*who)(struct lan *, const struct lan_run *))
{
	for (int n = 0; n < PATIENCE_MS / 2; n++) {
		pid_t pid = who(l, r);

		if (!pid)
			return;
		if (!n || n == PATIENCE_MS / 4)
			kill(pid, n ? SIGKILL : SIGTERM);
		waitpid(pid, NULL, WNOHANG); /* if it is ours */
		nap();
	}
}

void lan_dnsmasq_stop(struct lan *l, const struct lan_run *r)
{
	char path[2 * LAN_PATH];

	/* Where what is written is not lost and it has no files there was none: a look at all processes is saved. */
	path_of(l, r->def.name, HOSTS, path);
	if (!r->known || !access(path, F_OK))
		stop(l, r, find);
}

void lan_dnsmasq_stop_foreign(struct lan *l, const char *name)
{
	struct lan_run *r = calloc(1, sizeof(*r));

	if (!r)
		return;
	snprintf(r->def.name, sizeof(r->def.name), "%s", name);
	/* On the host: one in a name space of its own, which has lost its interface, may as well be another host's. */
	r->def.model = LAN_NAT;
	r->def.net4.len = 24;
	stop(l, r, find_foreign);
	free(r);
}

/* --- what it is told --- */

/* The network's own two, as our server names them. */
static void put_own(FILE *f, const struct lan_def *d)
{
	const bool gateway = lan_has_gateway(d);
	const struct in6_addr six = lan_host6(&d->net6.addr, gateway ? 1 : 2);
	const char *names = gateway ? "gateway dns" : "dns";
	char text[LAN_TEXT6];

	if (d->net4.len)
		fprintf(f, "%s %s\n", lan_text4(gateway ? lan_gateway4(d) : lan_server4(d), text), names);
	if (d->net6.len)
		fprintf(f, "%s %s\n", lan_text6(&six, text), names);
}

/* Whether a machine may be called so among dnsmasq's words, where these are something else: how long, or not at all. */
static bool is_no_word(const char *name)
{
	const char *behind = name + strspn(name, "0123456789");

	return strcmp(name, "ignore") && strcmp(name, "infinite") && *behind &&
	       (behind == name || behind[1] || !strchr("wdhms", *behind));
}

static int write_files(struct lan *l, const struct lan_run *r, struct err *err)
{
	char path[2 * LAN_PATH], mac[LAN_TEXTMAC], four[LAN_TEXT4], six[LAN_TEXT6], *text[2] = { NULL, NULL };
	struct lan_host *hosts;
	size_t len[2];
	FILE *f[2] = { open_memstream(&text[0], &len[0]), open_memstream(&text[1], &len[1]) };
	unsigned count;
	int rc;

	hosts = lan_known_hosts(&r->def, &r->ports, &count);
	for (unsigned i = 0; f[0] && f[1] && hosts && i < count; i++) {
		const struct lan_host *h = &hosts[i];

		fprintf(f[0], "%s", lan_text_mac(h->mac, mac));
		if (h->addr4.s_addr)
			fprintf(f[0], ",%s", lan_text4(be32toh(h->addr4.s_addr), four));
		if (!lan_zero6(&h->addr6))
			fprintf(f[0], ",[%s]", lan_text6(&h->addr6, six));
		fprintf(f[0], "%s%s\n", is_no_word(h->name) ? "," : "", is_no_word(h->name) ? h->name : "");
		if (*h->name && h->addr4.s_addr)
			fprintf(f[1], "%s %s\n", four, h->name);
		if (*h->name && !lan_zero6(&h->addr6))
			fprintf(f[1], "%s %s\n", six, h->name);
	}
	if (f[1])
		put_own(f[1], &r->def);
	rc = !f[0] || !f[1] || !hosts ? err_set(err, "out of memory") : 0;
	for (int i = 0; i < 2; i++)
		if (f[i] && fclose(f[i]))
			rc = err_set(err, "out of memory");
	for (int i = 0; i < 2 && !rc; i++) {
		path_of(l, r->def.name, i ? "names" : HOSTS, path);
		rc = lan_write_file(path, text[i], false, err);
		/* Whoever it is reads them. */
		if (!rc && chmod(path, 0644))
			rc = err_errno(err, errno, "%s", path);
	}
	free(text[0]);
	free(text[1]);
	free(hosts);
	return rc;
}

int lan_dnsmasq_hosts(struct lan *l, const struct lan_run *r, struct err *err)
{
	pid_t pid = find(l, r);

	if (write_files(l, r, err))
		return -1;
	return pid && kill(pid, SIGHUP) ? err_errno(err, errno, "dnsmasq") : 0;
}

struct args {
	char *v[ARGS_MOST + 1];
	unsigned len;
};

__attribute__((format(printf, 2, 3))) static void add(struct args *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (a->len < ARGS_MOST && vasprintf(&a->v[a->len], fmt, ap) >= 0)
		a->len++;
	va_end(ap);
}

static void free_args(struct args *a)
{
	while (a->len)
		free(a->v[--a->len]);
}

/* Its own in the directory of what runs, where nothing can be kept longer. */
static void lease_path(struct lan *l, const char *name, char buf[2 * LAN_PATH])
{
	path_of(l, name, "leases", buf);
	if (access(buf, F_OK))
		lan_keep_path(&l->store, name, LAN_KEPT_DNSMASQ, buf);
}

static int make_leases(struct lan *l, const char *name, struct err *err)
{
	char path[2 * LAN_PATH];
	struct err why;

	lan_keep_remove(&l->store, name, LAN_KEPT_OWN);
	path_of(l, name, "leases", path);
	if (!lan_keep_prepare(&l->store, name, &why)) {
		unlink(path);
		return 0;
	}
	log_line(LOG_WARN, "lan", "network %s: its leases will not outlive a boot: %s", name, why.msg);
	return access(path, F_OK) ? lan_write_file(path, "", false, err) : 0;
}

/* What no machine is called because it says so: programs look for these names and do what they find there. */
static void reserve_names(struct args *a)
{
	static const char *const names[] = { "localhost", "wpad", "isatap", "gateway", "dns" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		add(a, "--dhcp-name-match=set:reserved,%s", names[i]);
		add(a, "--dhcp-name-match=set:reserved,%s.*", names[i]); /* its domain is cut off later */
	}
	add(a, "--dhcp-ignore-names=tag:reserved");
}

static void make_args(struct lan *l, const struct lan_run *r, const char *ifname, struct args *a)
{
	const struct lan_def *d = &r->def;
	const bool gateway = lan_has_gateway(d);
	char text[3 * LAN_PATH], other[LAN_TEXT4];

	*a = (struct args){ 0 };
	add(a, "dnsmasq");
	mark(l, d->name, text);
	add(a, "%s", text);
	add(a, "--keep-in-foreground");
	add(a, "--conf-file=/dev/null");
	add(a, "--no-hosts");
	add(a, "--bind-dynamic"); /* and not what comes for its address by other interfaces */
	add(a, "--except-interface=lo");
	add(a, "--interface=%s", ifname);
	/* It is who it shall be. */
	add(a, "--user=%s", geteuid() || user(l, d->name) ? "" : "root");
	add(a, "--group=");
	lease_path(l, d->name, text);
	add(a, "--dhcp-leasefile=%s", text);
	path_of(l, d->name, HOSTS, text);
	add(a, "--dhcp-hostsfile=%s", text);
	path_of(l, d->name, "names", text);
	add(a, "--addn-hosts=%s", text);
	path_of(l, d->name, LOG, text);
	add(a, "--log-facility=%s", text);
	/* What guests do is not news, and they can do it for ever. */
	add(a, "--quiet-dhcp");
	add(a, "--quiet-dhcp6");
	add(a, "--quiet-ra");
	add(a, "--dhcp-authoritative");
	/* It would do nothing else for three seconds, for each address that anybody asks for. */
	add(a, "--no-ping");
	add(a, "--dhcp-lease-max=%u", LEASES_MOST);
	add(a, "--domain-needed"); /* nobody elsewhere is asked for names without dots */
	reserve_names(a);
	if (*d->domain) {
		add(a, "--domain=%s", d->domain);
		add(a, "--local=/%s/", d->domain);
		add(a, "--expand-hosts");
	}
	if (!gateway) {
		add(a, "--no-resolv");
		add(a, "--dhcp-option=option:router");
		add(a, "--ra-param=%s,0,0", ifname);
	}
	if (d->mtu)
		add(a, "--dhcp-option=option:mtu,%u", d->mtu);
	if (d->net4.len && d->dhcp)
		add(a, "--dhcp-range=%s,%s,%s,1h", lan_text4(d->first4, text), lan_text4(d->last4, other),
		    lan_text4(lan_mask4(d->net4.len), (char[LAN_TEXT4]){ 0 }));
	if (!d->net6.len)
		return;
	add(a, "--enable-ra");
	/* None but its own: by each DUID a machine would have another one, of a table that all share. */
	add(a, "--dhcp-range=%s,%s", lan_text6(&d->net6.addr, text), d->dhcp ? "static,slaac,64,1h" : "ra-only,64");
}

/* --- start --- */

/* In the name space that it shall have alone: the addresses that the server has. */
static int set_inside(const struct lan_def *d, struct err *err)
{
	const struct in6_addr six = lan_host6(&d->net6.addr, 2);
	uint8_t four[4];
	struct rtnl nl;
	int index = (int)if_nametoindex("lan0"), rc;

	if (rtnl_open(&nl, err))
		return -1;
	st_be32(four, lan_server4(d));
	rc = (d->net4.len && rtnl_add_addr(&nl, index, AF_INET, four, d->net4.len, err)) ||
	     (d->net6.len && rtnl_add_addr(&nl, index, AF_INET6, &six, d->net6.len, err)) ||
	     rtnl_set_up(&nl, index, true, err);
	rtnl_close(&nl);
	return rc ? -1 : 0;
}

/* What it needs for its sockets, if it is not root; no program that it starts gets more. */
static int become(uid_t uid)
{
	static const unsigned needed[] = { CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW };
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(needed); i++)
		data[0].permitted |= 1u << needed[i];
	data[0].effective = data[0].inheritable = data[0].permitted;
	for (unsigned n = 0; n < 64; n++)
		if (n >= 32 || !(data[0].permitted >> n & 1))
			prctl(PR_CAPBSET_DROP, n, 0, 0, 0);
	if (uid != geteuid() && (setgroups(0, NULL) || prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || setresgid(uid, uid, uid) ||
				 setresuid(uid, uid, uid)))
		return -1;
	if (syscall(SYS_capset, &head, data))
		return -1;
	for (size_t i = 0; i < ARRAY_LEN(needed); i++)
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, needed[i], 0, 0))
			return -1;
	return 0;
}

static int limit_rights(uid_t uid)
{
	limit_memory(MEMORY);
	limit_set(RLIMIT_NOFILE, FILES);
	limit_set(RLIMIT_CORE, 0);
	return become(uid) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -1 : 0;
}

static _Noreturn void child(const char *path, const struct lan_def *d, struct args *a, uid_t uid, int fd)
{
	struct err err;
	sigset_t none;
	char go;
	int null = open("/dev/null", O_RDWR);

	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	dup2(null, 0);
	dup2(null, 1);
	dup2(fd, 2);
	close_range(3, ~0u, 0);
	/* A log that is full is given up, and dnsmasq goes on. */
	limit_set(RLIMIT_FSIZE, FILE_MOST);
	signal(SIGXFSZ, SIG_IGN);
	if (!lan_has_gateway(d)) {
		if (unshare(CLONE_NEWNET)) {
			dprintf(2, "a network name space: %s", strerror(errno));
			_exit(1);
		}
		if (write(2, "n", 1) != 1 || read(2, &go, 1) != 1)
			_exit(1);
		if (set_inside(d, &err)) {
			dprintf(2, "%s", err.msg);
			_exit(1);
		}
	}
	if (!limit_rights(uid))
		execv(path, a->v);
	dprintf(2, "%s: %s", path, strerror(errno));
	_exit(1);
}

/* The last line of its log, or of what it said before it had one, without its date. */
static void complain(const char *name, char *text, struct err *err)
{
	char *last = text, *next, *said;

	for (next = text; (next = strchr(next, '\n')); *next++ = '\0')
		if (next[1] && !strstr(next + 1, "FAILED to start up"))
			last = next + 1;
	said = strstr(last, "]: ");
	err_set(err, "network %s: dnsmasq: %s", name, said ? said + 3 : *last ? last : "it has ended");
}

/* Until its log says that it has started; or what it says at its end. */
static int await(struct lan *l, const struct lan_def *d, int fd, pid_t pid, struct err *err)
{
	char path[2 * LAN_PATH], text[2048];
	ssize_t n;
	int log;

	path_of(l, d->name, LOG, path);
	for (int i = 0; i < PATIENCE_MS / 2; i++) {
		log = open(path, O_RDONLY | O_CLOEXEC);
		n = log < 0 ? -1 : read(log, text, sizeof(text) - 1);
		if (log >= 0)
			close(log);
		text[n < 0 ? 0 : n] = '\0';
		if (strstr(text, "]: started"))
			return 0;
		if (waitpid(pid, NULL, WNOHANG) == pid) {
			if (n <= 0)
				n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
			text[n < 0 ? 0 : n] = '\0';
			complain(d->name, text, err);
			return -1;
		}
		nap();
	}
	return err_set(err, "network %s: dnsmasq does not start", d->name);
}

/* A file that it writes, in a directory in which it makes none. */
static int give(struct lan *l, const char *name, const char *path, struct err *err)
{
	const uid_t uid = user(l, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
	int rc = fd < 0 || (uid != geteuid() && fchown(fd, uid, uid)) ? err_errno(err, errno, "%s", path) : 0;

	if (fd >= 0)
		close(fd);
	return rc;
}

int lan_dnsmasq_start(struct lan *l, const struct lan_run *r, struct err *err)
{
	const bool gateway = lan_has_gateway(&r->def);
	const char *path = program();
	char file[2 * LAN_PATH], word;
	struct args a;
	int pair[2], rc = -1;
	pid_t pid;

	if (!path)
		return err_set(err, "dnsmasq is not installed (Debian: package dnsmasq-base)");
	path_of(l, r->def.name, LOG, file);
	unlink(file);
	if (write_files(l, r, err) || make_leases(l, r->def.name, err) || give(l, r->def.name, file, err))
		return -1;
	lease_path(l, r->def.name, file);
	if (give(l, r->def.name, file, err))
		return -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return err_errno(err, errno, "dnsmasq");
	make_args(l, r, gateway ? r->bridge : "lan0", &a);
	pid = fork();
	if (!pid)
		child(path, &r->def, &a, user(l, r->def.name), pair[1]);
	close(pair[1]);
	if (pid < 0)
		err_errno(err, errno, "dnsmasq");
	else if (!gateway && (recv(pair[0], &word, 1, 0) != 1 || word != 'n'))
		err_set(err, "network %s: a network name space cannot be made", r->def.name);
	else if (gateway || (!lan_server_join(l, r, pid, err) && send(pair[0], "g", 1, MSG_NOSIGNAL) == 1))
		rc = await(l, &r->def, pair[0], pid, err) || write_id(l, r->def.name, pid, err) ? -1 : 0;
	if (rc && pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	close(pair[0]);
	free_args(&a);
	return rc;
}

/* --- leases --- */

/* "EXPIRES MAC ADDRESS NAME ID" a line; IPv6 ones come behind a line "duid ...", with an IAID instead of a MAC. */
json_t *lan_dnsmasq_leases(struct lan *l, const char *name, struct err *err)
{
	char path[2 * LAN_PATH], line[512], mac[64], addr[64], host[128], id[256];
	json_t *list = json_array();
	long long expires;
	FILE *f;

	lease_path(l, name, path);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		bool six;

		if (sscanf(line, "%lld %63s %63s %127s %255s", &expires, mac, addr, host, id) != 5)
			continue;
		six = strchr(addr, ':');
		json_array_append_new(list,
				      json_pack("{s:i, s:s, s:s, s:s, s:s, s:I}", "family", six ? 6 : 4, "mac",
						six ? "" : mac, "address", addr, "name", strcmp(host, "*") ? host : "",
						"id", strcmp(id, "*") ? id : "", "expires", (json_int_t)expires));
	}
	if (f)
		fclose(f);
	return list;
}
