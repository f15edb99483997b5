/* Where taps come from: a name, descriptors that were passed, or the helper that joins bridges. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child.h"
#include "base/log.h"
#include "net/backend.h"
#include "net/tap.h"

struct keys {
	const char *prefix;
	const char *ifname, *script, *downscript, *bridge, *helper;
	uint64_t queues, sndbuf; /* 0: the kernel's, which has no bound */
	int fds[NET_QUEUES_MAX]; /* that were passed */
	unsigned fd_count;
};

static const char *key_of(const struct keys *k, const char *name)
{
	static char key[64];

	snprintf(key, sizeof(key), "%s.%s", k->prefix, name);
	return key;
}

/* --- programs --- */

/* Its exit status; -1: it could not be run. What it is given on descriptor 3 is `fd`, if that is not -1. */
static int run(const char *const *argv, int fd)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		child_signals();
		if (fd >= 0 && fd != 3 && dup2(fd, 3) < 0)
			_exit(126);
		if (fd == 3)
			fcntl(fd, F_SETFD, 0);
		close_range(fd >= 0 ? 4 : 3, ~0u, 0);
		execv(argv[0], (char *const *)argv);
		_exit(127);
	}
	if (pid < 0)
		return -1;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int net_tap_run_script(const struct net_tap_script *s)
{
	const char *const argv[] = { s->program, s->ifname, NULL };

	return *s->program ? run(argv, -1) : 0;
}

/* --- by name --- */

/* Whether it would be opened, or is in use, with one queue. */
static bool is_tap_of_one(int fd, struct ifreq *r, short flags)
{
	r->ifr_flags = flags & ~IFF_MULTI_QUEUE;
	return !ioctl(fd, TUNSETIFF, r) || errno == EBUSY;
}

static int open_queue(const struct keys *k, struct ifreq *r, short flags, struct err *err)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return err_errno(err, errno, "%s: /dev/net/tun", k->prefix);
	r->ifr_flags = flags;
	if (!ioctl(fd, TUNSETIFF, r))
		return fd;
	/* One that exists with several queues is opened as such. */
	r->ifr_flags = flags | IFF_MULTI_QUEUE;
	if (errno == EINVAL && !ioctl(fd, TUNSETIFF, r))
		return fd;
	if (errno == EPERM)
		err_set(err,
			"%s: making the tap '%s' needs CAP_NET_ADMIN; without it, use bridge= with a helper, or a "
			"tap that is this user's",
			key_of(k, "ifname"), r->ifr_name);
	else if (errno != EINVAL)
		err_errno(err, errno, "%s: tap '%s'", key_of(k, "ifname"), r->ifr_name);
	else if (!if_nametoindex(r->ifr_name))
		err_set(err, "%s: '%s' is not a name that an interface can have", key_of(k, "ifname"), r->ifr_name);
	else if (k->queues > 1 && is_tap_of_one(fd, r, flags))
		err_set(err,
			"%s: the tap '%s' was made for one queue; make it with several (ip tuntap add dev %s mode tap "
			"multi_queue vnet_hdr), or leave queues out",
			key_of(k, "queues"), r->ifr_name, r->ifr_name);
	else
		err_set(err, "%s: the interface '%s' is no tap", key_of(k, "ifname"), r->ifr_name);
	close(fd);
	return -1;
}

static int open_named(const struct keys *k, int *fds, struct ifreq *r, struct err *err)
{
	short flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (k->queues > 1 ? IFF_MULTI_QUEUE : 0);

	if (strlen(k->ifname) >= IFNAMSIZ)
		return err_set(err, "%s: '%s' is longer than %d characters", key_of(k, "ifname"), k->ifname,
			       IFNAMSIZ - 1);
	strcpy(r->ifr_name, k->ifname);
	for (unsigned n = 0; n < k->queues; n++) {
		fds[n] = open_queue(k, r, flags, err);
		if (fds[n] >= 0)
			continue;
		while (n)
			close(fds[--n]);
		return -1;
	}
	return 0;
}

/* --- by a helper --- */

/* The descriptor that comes with a message; -1: none does. */
static int receive_fd(int sock)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} u;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof(u) };
	struct cmsghdr *c;
	int fd = -1;

	while (recvmsg(sock, &m, MSG_CMSG_CLOEXEC) < 0)
		if (errno != EINTR)
			return -1;
	c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

/* The one beside this program (as it is built) or installed with it, else QEMU's. */
static const char *find_helper(char *buf)
{
	static const char *const ours[] = { "vireo-bridge-helper", "../libexec/vireo-bridge-helper" };
	static const char *const others[] = { "/usr/lib/qemu/qemu-bridge-helper", "/usr/libexec/qemu-bridge-helper" };
	char exe[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	const char *dir;

	exe[len > 0 ? len : 0] = 0;
	dir = dirname(exe);
	for (size_t n = 0; len > 0 && n < sizeof(ours) / sizeof(ours[0]); n++)
		if (snprintf(buf, PATH_MAX, "%.4000s/%s", dir, ours[n]) > 0 && !access(buf, X_OK))
			return buf;
	for (size_t n = 0; n < sizeof(others) / sizeof(others[0]); n++)
		if (!access(others[n], X_OK))
			return others[n];
	return NULL;
}

static int open_bridge(const struct keys *k, int *fd, struct err *err)
{
	char buf[PATH_MAX], br[64];
	const char *helper = k->helper ? k->helper : find_helper(buf);
	const char *const argv[] = { helper, "--use-vnet", "--fd=3", br, NULL };
	int pair[2], rc;

	snprintf(br, sizeof(br), "--br=%.40s", k->bridge);
	if (!helper)
		return err_set(err, "%s: no vireo-bridge-helper is installed (make install), nor QEMU's",
			       key_of(k, "helper"));
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return err_errno(err, errno, "%s: socketpair", k->prefix);
	rc = run(argv, pair[1]);
	close(pair[1]);
	*fd = rc ? -1 : receive_fd(pair[0]);
	close(pair[0]);
	if (*fd >= 0)
		return 0;
	return err_set(err, "%s: %s has not given a tap of %s (status %d)", key_of(k, "bridge"), helper, k->bridge, rc);
}

/* --- the configuration --- */

/* "3:4:5" */
static int parse_fds(struct keys *k, const char *key, const char *list, struct err *err)
{
	const char *at = list;
	char *end;

	for (; k->fd_count < NET_QUEUES_MAX; at = end + 1) {
		long fd = strtol(at, &end, 10);

		if (end == at || fd < 0 || fd > 65535 || (*end && *end != ':'))
			return err_set(err, "%s: '%s' is not a list of descriptors (3:4:5)", key, list);
		if (fd < 3)
			return err_set(err, "%s: descriptor %ld is standard input, output or error, and no tap", key,
				       fd);
		for (unsigned n = 0; n < k->fd_count; n++)
			if (k->fds[n] == fd)
				return err_set(err, "%s: descriptor %ld is there twice", key, fd);
		k->fds[k->fd_count++] = (int)fd;
		if (!*end)
			return 0;
	}
	return err_set(err, "%s: more than %d descriptors", key, NET_QUEUES_MAX);
}

static int read_keys(struct keys *k, struct config *c, struct err *err)
{
	const struct {
		const char *name, **to;
	} texts[] = {
		{ "ifname", &k->ifname }, { "script", &k->script }, { "downscript", &k->downscript },
		{ "bridge", &k->bridge }, { "helper", &k->helper },
	};
	const char *fd, *fds;

	for (size_t n = 0; n < sizeof(texts) / sizeof(texts[0]); n++)
		if (config_str(c, key_of(k, texts[n].name), NULL, texts[n].to, err))
			return -1;
	if (config_str(c, key_of(k, "fds"), NULL, &fds, err) || config_str(c, key_of(k, "fd"), NULL, &fd, err))
		return -1;
	if (fds && fd)
		return err_set(err, "%s: fds is said as well", key_of(k, "fd"));
	if ((fds || fd) && parse_fds(k, key_of(k, fds ? "fds" : "fd"), fds ? fds : fd, err))
		return -1;
	if (k->fd_count && (k->ifname || k->bridge || k->script || k->downscript))
		return err_set(err, "%s: a tap that is open has no use for ifname, bridge and scripts",
			       key_of(k, "fd"));
	if (k->bridge && (k->ifname || k->script || k->downscript))
		return err_set(err, "%s: the helper names the tap, and no script is run for it", key_of(k, "bridge"));
	if (k->helper && !k->bridge)
		return err_set(err, "%s: a helper needs a bridge", key_of(k, "helper"));
	if (config_uint(c, key_of(k, "queues"), k->fd_count ? k->fd_count : 1,
			(struct config_range){ 1, NET_QUEUES_MAX }, &k->queues, err))
		return -1;
	if (k->fd_count && k->queues != k->fd_count)
		return err_set(err, "%s: each descriptor is a queue, and there are %u", key_of(k, "queues"),
			       k->fd_count);
	if (k->bridge && k->queues > 1)
		return err_set(err, "%s: a tap of the helper has one", key_of(k, "queues"));
	return config_size(c, key_of(k, "sndbuf"), 0, 1, &k->sndbuf, err);
}

/* How many bytes of frames from the guest may wait in the kernel. Closes the descriptors on error. */
static int set_sndbuf(const struct keys *k, const int *fds, unsigned count, struct err *err)
{
	int bytes = k->sndbuf > INT_MAX ? INT_MAX : (int)k->sndbuf;

	for (unsigned n = 0; bytes && n < count; n++) {
		if (!ioctl(fds[n], TUNSETSNDBUF, &bytes))
			continue;
		err_errno(err, errno, "%s: %d", key_of(k, "sndbuf"), bytes);
		for (n = 0; n < count; n++)
			close(fds[n]);
		return -1;
	}
	return 0;
}

static void set_script(struct net_tap_script *s, const char *program, const char *ifname)
{
	*s = (struct net_tap_script){ 0 };
	if (program && strcmp(program, "no") != 0)
		snprintf(s->program, sizeof(s->program), "%s", program);
	snprintf(s->ifname, sizeof(s->ifname), "%s", ifname);
}

static struct net_peer *open_with_scripts(struct loop *loop, struct keys *k, struct err *err)
{
	struct net_tap_script script;
	int fds[NET_QUEUES_MAX], rc;
	struct ifreq r = { 0 };
	struct net_peer *p;

	k->ifname = k->ifname ? k->ifname : "tap%d";
	if (open_named(k, fds, &r, err) || set_sndbuf(k, fds, (unsigned)k->queues, err))
		return NULL;
	p = net_tap_from_fds(loop, k->prefix, fds, (unsigned)k->queues, err);
	if (!p)
		return NULL;
	set_script(&script, k->script, r.ifr_name);
	rc = net_tap_run_script(&script);
	if (rc) {
		err_set(err, "%s: %s %s has ended with status %d", key_of(k, "script"), script.program, r.ifr_name, rc);
		p->ops->destroy(p);
		return NULL;
	}
	set_script(&script, k->downscript, r.ifr_name);
	net_tap_set_down(p, &script);
	return p;
}

struct net_peer *net_tap_new(struct loop *loop, struct config *c, const char *prefix, struct err *err)
{
	struct keys k = { .prefix = prefix };

	if (read_keys(&k, c, err))
		return NULL;
	if (!k.fd_count && !k.bridge)
		return open_with_scripts(loop, &k, err);
	if (k.bridge && open_bridge(&k, k.fds, err))
		return NULL;
	if (set_sndbuf(&k, k.fds, (unsigned)k.queues, err))
		return NULL;
	return net_tap_from_fds(loop, prefix, k.fds, (unsigned)k.queues, err);
}

int net_tap_check(struct config *c, const char *prefix, struct err *err)
{
	struct keys k = { .prefix = prefix };

	return read_keys(&k, c, err);
}
