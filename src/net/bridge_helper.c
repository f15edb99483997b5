/*
 * vireo-bridge-helper: gives who may not make one himself a tap in a bridge that the administrator allows. Installed
 * with the capability CAP_NET_ADMIN, so it trusts nobody: it reads one file, makes one tap, and hands over its
 * descriptor.
 *
 *     vireo-bridge-helper [--use-vnet] --fd=SOCKET --br=BRIDGE
 *
 * The words, the file's rules and the message are those of QEMU's helper, and each program works with the other's. The
 * file has a rule a line: `allow BRIDGE|all`, `deny BRIDGE|all`, `include FILE`, `# comment`. One `deny` is enough;
 * without an `allow` nothing is. A relative FILE is beside the one that includes it. `allow all` is not meant for the
 * bridges of Vireo's networks, whose machines have filters: those are allowed by their names.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define INCLUDES_MAX 8 /* files within files */
#define LINE_LEN     512
#define BLANK	     " \t\r\n"

struct access {
	const char *bridge;
	bool ours; /* of a network of Vireo's */
	bool allowed, denied;
};

static int fail(const char *what, const char *name)
{
	fprintf(stderr, "vireo-bridge-helper: %s%s%s%s\n", what, name ? name : "", errno ? ": " : "",
		errno ? strerror(errno) : "");
	return 1;
}

/* --- which bridge it is --- */

static bool is_text(const struct rtattr *t, const char *text, size_t len)
{
	return RTA_PAYLOAD(t) >= len && !memcmp(RTA_DATA(t), text, len);
}

static bool is_bridge(const struct rtattr *info)
{
	int left = (int)RTA_PAYLOAD(info);

	for (const struct rtattr *t = RTA_DATA(info); RTA_OK(t, left); t = RTA_NEXT(t, left))
		if (t->rta_type == IFLA_INFO_KIND)
			return is_text(t, "bridge", sizeof("bridge"));
	return false;
}

/*
 * The kernel's other ways to look up a name also take "br0:x" and alternative names for br0, which no rule knows, and
 * load modules by names that nobody has.
 */
static int look(struct access *a, const struct nlmsghdr *h, unsigned len)
{
	bool bridge = false, named = false;
	const struct rtattr *t;
	int left;

	if (!NLMSG_OK(h, len) || h->nlmsg_type != RTM_NEWLINK || h->nlmsg_len < NLMSG_LENGTH(sizeof(struct ifinfomsg)))
		return fail("no bridge ", a->bridge);
	a->ours = !strncmp(a->bridge, "vr-", 3);
	t = IFLA_RTA((struct ifinfomsg *)NLMSG_DATA(h));
	left = (int)IFLA_PAYLOAD(h);
	for (; RTA_OK(t, left); t = RTA_NEXT(t, left)) {
		if (t->rta_type == IFLA_IFNAME)
			named = is_text(t, a->bridge, strlen(a->bridge) + 1);
		else if (t->rta_type == IFLA_LINKINFO)
			bridge = is_bridge(t);
		else if (t->rta_type == IFLA_IFALIAS)
			a->ours |= is_text(t, "vireo:", 6);
	}
	return named && bridge ? 0 : fail("not a bridge by its own name: ", a->bridge);
}

static int find_bridge(struct access *a)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg i;
		struct rtattr t;
		char name[IFNAMSIZ];
	} q = { .h = { .nlmsg_len = sizeof(q), .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST },
		.t = { .rta_len = RTA_LENGTH(IFNAMSIZ), .rta_type = IFLA_IFNAME } };
	struct sockaddr_nl from = { .nl_family = AF_NETLINK };
	_Alignas(struct nlmsghdr) char answer[16384];
	int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), rc;
	socklen_t from_len = sizeof(from);
	ssize_t len = -1;

	strcpy(q.name, a->bridge);
	if (s >= 0 && sendto(s, &q, sizeof(q), 0, (struct sockaddr *)&from, sizeof(from)) == sizeof(q))
		len = recvfrom(s, answer, sizeof(answer), 0, (struct sockaddr *)&from, &from_len);
	if (len < 0 || from.nl_pid)
		return fail("cannot ask the kernel for ", a->bridge);
	errno = 0;
	rc = look(a, (struct nlmsghdr *)answer, (unsigned)len);
	close(s);
	return rc;
}

/* --- who may --- */

static int read_rules(struct access *a, const char *path, unsigned depth);

/* One that this user may not read allows him nothing. Where he is has no meaning. */
static int include(struct access *a, const char *by, const char *file, unsigned depth)
{
	const char *slash = strrchr(by, '/');
	char path[PATH_MAX];
	int dir = *file != '/' && slash ? (int)(slash - by) + 1 : 0;

	if (snprintf(path, sizeof(path), "%.*s%s", dir, by, file) >= (int)sizeof(path))
		return fail("the path is too long: ", file);
	return access(path, R_OK) ? 0 : read_rules(a, path, depth + 1);
}

static int read_rule(struct access *a, const char *path, char *line, unsigned depth)
{
	char *rest, *word = strtok_r(line, BLANK, &rest), *value, *more;
	bool named, all;

	errno = 0;
	if (!word || *word == '#')
		return 0;
	value = strtok_r(NULL, BLANK, &rest);
	if (!value || *value == '#')
		return fail("a rule without a value: ", word);
	more = strtok_r(NULL, BLANK, &rest);
	if (more && *more != '#')
		return fail("a rule has one value, and this is another: ", more);
	named = !strcmp(value, a->bridge);
	all = !strcmp(value, "all");
	if (!strcmp(word, "allow"))
		a->allowed |= named || (all && !a->ours);
	else if (!strcmp(word, "deny"))
		a->denied |= named || all;
	else if (!strcmp(word, "include"))
		return include(a, path, value, depth);
	else
		return fail("no such rule: ", word);
	return 0;
}

static int read_rules(struct access *a, const char *path, unsigned depth)
{
	char line[LINE_LEN];
	FILE *f;
	int rc = 0;

	errno = 0;
	if (depth > INCLUDES_MAX)
		return fail("files that include each other: ", path);
	f = fopen(path, "re");
	if (!f)
		return fail("", path);
	while (!rc && fgets(line, sizeof(line), f))
		rc = strlen(line) == sizeof(line) - 1 ? fail("a line is too long in ", path)
						      : read_rule(a, path, line, depth);
	if (!rc && ferror(f))
		rc = fail("cannot read ", path);
	fclose(f);
	return rc;
}

/* --- the tap --- */

static int make_tap(struct ifreq *r, bool vnet)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	*r = (struct ifreq){ .ifr_name = "tap%d", .ifr_flags = IFF_TAP | IFF_NO_PI | (vnet ? IFF_VNET_HDR : 0) };
	if (fd >= 0 && ioctl(fd, TUNSETIFF, r)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* The bridge's MTU, an address above all others (a bridge takes the lowest of its ports), into the bridge, up. */
static int join(int s, const char *tap, const char *bridge)
{
	struct ifreq r = { 0 };

	strcpy(r.ifr_name, bridge);
	if (ioctl(s, SIOCGIFMTU, &r))
		return fail("no bridge ", bridge);
	strcpy(r.ifr_name, tap);
	if (ioctl(s, SIOCSIFMTU, &r) || ioctl(s, SIOCGIFHWADDR, &r))
		return fail("cannot set up ", tap);
	r.ifr_hwaddr.sa_data[0] = (char)0xfe;
	if (ioctl(s, SIOCSIFHWADDR, &r))
		return fail("cannot set the address of ", tap);
	memset(&r, 0, sizeof(r));
	strcpy(r.ifr_name, bridge);
	r.ifr_ifindex = (int)if_nametoindex(tap);
	if (ioctl(s, SIOCBRADDIF, &r))
		return fail("cannot add a port to ", bridge);
	memset(&r, 0, sizeof(r));
	strcpy(r.ifr_name, tap);
	if (ioctl(s, SIOCGIFFLAGS, &r))
		return fail("", tap);
	r.ifr_flags |= IFF_UP;
	return ioctl(s, SIOCSIFFLAGS, &r) ? fail("cannot bring up ", tap) : 0;
}

static int hand_over(int sock, int fd)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} u = { 0 };
	char byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof(u) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(sock, &m, 0) < 0 ? fail("cannot pass the tap", NULL) : 0;
}

/* --- */

struct words {
	const char *bridge, *rules;
	int fd;
	bool vnet;
};

static int usage(void)
{
	fputs("usage: vireo-bridge-helper [--use-vnet] --fd=SOCKET --br=BRIDGE\n", stderr);
	return 2;
}

static int parse(struct words *w, int argc, char **argv)
{
	*w = (struct words){ .rules = BRIDGE_CONF, .fd = -1 };
	for (int n = 1; n < argc; n++) {
		char *end;

		if (!strcmp(argv[n], "--use-vnet"))
			w->vnet = true;
		else if (!strncmp(argv[n], "--br=", 5))
			w->bridge = argv[n] + 5;
		else if (!strncmp(argv[n], "--fd=", 5)) {
			w->fd = (int)strtol(argv[n] + 5, &end, 10);
			if (*end || end == argv[n] + 5)
				return usage();
		} else if (!strncmp(argv[n], "--rules=", 8) && !getauxval(AT_SECURE))
			w->rules = argv[n] + 8; /* with no more rights than the caller has */
		else
			return usage();
	}
	return w->bridge && w->fd >= 0 && strlen(w->bridge) < IFNAMSIZ ? 0 : usage();
}

int main(int argc, char **argv)
{
	struct access a = { 0 };
	struct words w;
	struct ifreq r;
	int rc = parse(&w, argc, argv), s, tap;

	if (rc)
		return rc;
	a.bridge = w.bridge;
	if (find_bridge(&a) || read_rules(&a, w.rules, 0))
		return 1;
	errno = 0;
	if (a.denied || !a.allowed)
		return fail(a.ours && !a.denied ? "no rule names this bridge of a network of vireo's: "
						: "the administrator does not allow ",
			    w.bridge);
	s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	tap = make_tap(&r, w.vnet);
	if (s < 0 || tap < 0)
		return fail("cannot make a tap", NULL);
	return join(s, r.ifr_name, w.bridge) || hand_over(w.fd, tap) ? 1 : 0;
}
