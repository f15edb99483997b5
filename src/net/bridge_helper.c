/*
 * vireo-bridge-helper: gives who may not make one himself a tap in a bridge that the administrator allows. Installed
 * with the capability CAP_NET_ADMIN, so it trusts nobody: it reads one file, makes one tap, and hands over its
 * descriptor.
 *
 *     vireo-bridge-helper [--use-vnet] --fd=SOCKET --br=BRIDGE
 *
 * The words, the file's rules and the message are those of QEMU's helper, and each program works with the other's. The
 * file has a rule a line: `allow BRIDGE|all`, `deny BRIDGE|all`, `include FILE`, `# comment`. One `deny` is enough;
 * without an `allow` nothing is.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
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

struct access {
	const char *bridge;
	bool allowed, denied;
};

static int fail(const char *what, const char *name)
{
	fprintf(stderr, "vireo-bridge-helper: %s%s%s%s\n", what, name ? name : "", errno ? ": " : "",
		errno ? strerror(errno) : "");
	return 1;
}

/* --- who may --- */

static bool names(const char *rule, const char *bridge)
{
	return !strcmp(rule, "all") || !strcmp(rule, bridge);
}

static int read_rules(struct access *a, const char *path, unsigned depth);

static int read_rule(struct access *a, char *line, unsigned depth)
{
	char *rest, *word = strtok_r(line, " \t\n", &rest), *value = strtok_r(NULL, " \t\n", &rest);

	errno = 0;
	if (!word || *word == '#')
		return 0;
	if (!value)
		return fail("a rule without a value: ", word);
	if (!strcmp(word, "allow"))
		a->allowed |= names(value, a->bridge);
	else if (!strcmp(word, "deny"))
		a->denied |= names(value, a->bridge);
	else if (!strcmp(word, "include"))
		/* One that this user may not read allows him nothing. */
		return access(value, R_OK) ? 0 : read_rules(a, value, depth + 1);
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
						      : read_rule(a, line, depth);
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
	if (read_rules(&a, w.rules, 0))
		return 1;
	errno = 0;
	if (a.denied || !a.allowed)
		return fail("the administrator does not allow ", w.bridge);
	s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	tap = make_tap(&r, w.vnet);
	if (s < 0 || tap < 0)
		return fail("cannot make a tap", NULL);
	return join(s, r.ifr_name, w.bridge) || hand_over(w.fd, tap) ? 1 : 0;
}
