/*
 * The back ends `socket`, `stream` and `dgram` as the configuration describes them: which socket there is, and what
 * runs on it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/sock.h"
#include "net/backend.h"

/* The keys below one prefix; those that are not said are NULL. */
struct keys {
	const char *prefix;
	const char *listen, *connect, *mcast, *udp, *local, *remote, *localaddr;
	int fd; /* -1: not said */
	bool fd_listens;
	uint64_t reconnect;
};

/* A back end, and which socket it may be: exactly one of the words. */
struct backend {
	enum { SOCKET = 1, STREAM = 2, DGRAM = 4 } kind;
	const char *words;
};
static const struct backend of_socket = { SOCKET, "listen, connect, mcast, udp and fd" };
static const struct backend of_stream = { STREAM, "listen, connect and fd" };
static const struct backend of_dgram = { DGRAM, "remote (with local) and fd" };

/* "net0.listen": valid until the next call. */
static const char *key_of(const struct keys *k, const char *name)
{
	static char key[64];

	snprintf(key, sizeof(key), "%s.%s", k->prefix, name);
	return key;
}

static int read_keys(struct keys *k, struct config *c, const char *prefix, const struct backend *b, struct err *err)
{
	const struct {
		const char *name, **to;
		unsigned of;
	} texts[] = {
		{ "listen", &k->listen, SOCKET | STREAM },
		{ "connect", &k->connect, SOCKET | STREAM },
		{ "mcast", &k->mcast, SOCKET },
		{ "udp", &k->udp, SOCKET },
		{ "localaddr", &k->localaddr, SOCKET },
		{ "local", &k->local, DGRAM },
		{ "remote", &k->remote, DGRAM },
	};
	uint64_t fd;

	*k = (struct keys){ .prefix = prefix };
	for (size_t n = 0; n < sizeof(texts) / sizeof(texts[0]); n++)
		if (texts[n].of & b->kind && config_str(c, key_of(k, texts[n].name), NULL, texts[n].to, err))
			return -1;
	if ((b->kind & (SOCKET | STREAM) &&
	     config_uint(c, key_of(k, "reconnect"), 0, (struct config_range){ 0, 3600 }, &k->reconnect, err)) ||
	    config_uint(c, key_of(k, "fd"), UINT32_MAX, (struct config_range){ 3, 65535 }, &fd, err))
		return -1;
	k->fd = fd == UINT32_MAX ? -1 : (int)fd;
	if (!!k->listen + !!k->connect + !!k->mcast + !!k->udp + !!k->remote + (k->fd >= 0) != 1)
		return err_set(err, "%s: one of %s is needed", key_of(k, "backend"), b->words);
	if (k->reconnect && !k->connect)
		return err_set(err, "%s: only what connects can do so again", key_of(k, "reconnect"));
	if (k->udp && !k->localaddr)
		return err_set(err, "%s: udp needs an address that datagrams come to", key_of(k, "localaddr"));
	if (k->localaddr && !k->udp && !k->mcast)
		return err_set(err, "%s: it is for udp and mcast only", key_of(k, "localaddr"));
	if (k->local && !k->remote)
		return err_set(err, "%s: it needs a remote", key_of(k, "local"));
	return 0;
}

/* --- streams --- */

static struct net_peer *make_stream(struct loop *loop, const struct keys *k, struct err *err)
{
	struct net_stream_config s = { .fd = k->fd_listens ? -1 : k->fd,
				       .listen_fd = k->fd_listens ? k->fd : -1,
				       .reconnect_s = (unsigned)k->reconnect };
	const char *path = k->listen ? sock_path(k->listen) : NULL;

	snprintf(s.name, sizeof(s.name), "%s", k->prefix);
	if (k->listen) {
		s.listen_fd = sock_listen(key_of(k, "listen"), k->listen, err);
		if (s.listen_fd < 0)
			return NULL;
		snprintf(s.path, sizeof(s.path), "%s", path ? path : "");
	} else if (k->connect) {
		if (sock_address(key_of(k, "connect"), k->connect, &s.to, &s.to_len, err))
			return NULL;
		/* Somebody has to be there at the start, unless it is tried again. */
		s.fd = k->reconnect ? -1 : sock_connect(key_of(k, "connect"), k->connect, err);
		if (s.fd < 0 && !k->reconnect)
			return NULL;
	}
	return net_stream_make(loop, &s, err);
}

/* --- datagrams --- */

static bool is_multicast(const struct sockaddr_storage *a)
{
	return a->ss_family == AF_INET && IN_MULTICAST(ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr));
}

static int bound(const char *key, const struct sockaddr_storage *at, socklen_t len, struct err *err)
{
	int fd = socket(at->ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	/* Of a group each machine has a socket; a port of one is nobody else's. */
	if (fd >= 0 && is_multicast(at))
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	if (fd >= 0 && !bind(fd, (const struct sockaddr *)at, len))
		return fd;
	err_errno(err, errno, "%s", key);
	if (fd >= 0)
		close(fd);
	return -1;
}

/* Other machines of this host are in the group, too. */
static int join(int fd, const char *key, const struct sockaddr_in *group, struct in_addr from, struct err *err)
{
	const struct ip_mreq m = { group->sin_addr, from };

	if (setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof(m)) ||
	    setsockopt(fd, IPPROTO_IP, IP_MULTICAST_LOOP, &(int){ 1 }, sizeof(int)) ||
	    (from.s_addr && setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &from, sizeof(from))))
		return err_errno(err, errno, "%s: the group cannot be joined", key);
	return 0;
}

/* An address without a port, as QEMU's localaddr= of mcast= is. */
static int group_socket(struct net_dgram_config *d, const struct keys *k, const char *name, struct err *err)
{
	const char *from = k->remote ? k->local : k->localaddr;
	struct in_addr addr = { 0 };

	if (from && inet_pton(AF_INET, from, &addr) != 1)
		return err_set(err, "%s: '%s' is not an IPv4 address", key_of(k, k->remote ? "local" : "localaddr"),
			       from);
	d->fd = bound(key_of(k, name), &d->to, d->to_len, err);
	return d->fd < 0 ? -1 : join(d->fd, key_of(k, name), (struct sockaddr_in *)&d->to, addr, err);
}

static int pair_socket(struct net_dgram_config *d, const struct keys *k, struct err *err)
{
	const char *name = k->udp ? "localaddr" : "local", *local = k->udp ? k->localaddr : k->local;
	struct sockaddr_storage at;
	socklen_t len;

	if (!local)
		return err_set(err, "%s: datagrams need an address to come to", key_of(k, name));
	if (sock_address(key_of(k, name), local, &at, &len, err))
		return -1;
	if (at.ss_family != d->to.ss_family)
		return err_set(err, "%s: '%s' is an address of another kind than where frames go", key_of(k, name),
			       local);
	if (at.ss_family == AF_UNIX) {
		sock_remove_stale((const struct sockaddr_un *)&at, SOCK_DGRAM);
		snprintf(d->path, sizeof(d->path), "%s", sock_path(local));
	}
	d->fd = bound(key_of(k, name), &at, len, err);
	return d->fd < 0 ? -1 : 0;
}

static struct net_peer *make_dgram(struct loop *loop, const struct keys *k, struct err *err)
{
	const char *name = k->mcast ? "mcast" : k->udp ? "udp" : "remote";
	const char *remote = k->mcast ? k->mcast : k->udp ? k->udp : k->remote;
	struct net_dgram_config d = { .fd = k->fd };
	int rc = 0;

	snprintf(d.name, sizeof(d.name), "%s", k->prefix);
	if (remote) {
		if (sock_address(key_of(k, name), remote, &d.to, &d.to_len, err))
			return NULL;
		if (k->mcast && !is_multicast(&d.to)) {
			err_set(err, "%s: '%s' is not an IPv4 group (230.0.0.1:1234)", key_of(k, name), remote);
			return NULL;
		}
		rc = is_multicast(&d.to) ? group_socket(&d, k, name, err) : pair_socket(&d, k, err);
	}
	if (rc) {
		if (d.fd >= 0)
			close(d.fd);
		return NULL;
	}
	return net_dgram_make(loop, &d, err);
}

/* --- by name --- */

/* The passed descriptor: of the back end's kind, and with another end or a place where clients come. */
static int look_at_fd(struct keys *k, const struct backend *b, bool *stream, struct err *err)
{
	const char *key = key_of(k, "fd");
	struct sockaddr_storage other;
	socklen_t len = sizeof(int), other_len = sizeof(other);
	int type, listens = 0;

	if (getsockopt(k->fd, SOL_SOCKET, SO_TYPE, &type, &len))
		return err_errno(err, errno, "%s: %d", key, k->fd);
	*stream = type == SOCK_STREAM;
	if (!*stream && type != SOCK_DGRAM)
		return err_set(err, "%s: %d is a socket of neither streams nor datagrams", key, k->fd);
	if (!(b->kind & (SOCKET | (*stream ? STREAM : DGRAM))))
		return err_set(err,
			       *stream ? "%s: %d is a socket of streams, which is for the back end stream"
				       : "%s: %d is a socket of datagrams, which is for the back end dgram",
			       key, k->fd);
	getsockopt(k->fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len);
	k->fd_listens = listens;
	if (!listens && getpeername(k->fd, (struct sockaddr *)&other, &other_len))
		return err_set(err, "%s: the socket %d is not connected%s", key, k->fd,
			       *stream ? ", and does not listen" : "");
	if (fcntl(k->fd, F_SETFD, FD_CLOEXEC) || (listens && fcntl(k->fd, F_SETFL, fcntl(k->fd, F_GETFL) | O_NONBLOCK)))
		return err_errno(err, errno, "%s: %d", key, k->fd);
	return 0;
}

static struct net_peer *make(struct loop *loop, struct config *c, const char *prefix, const struct backend *b,
			     struct err *err)
{
	struct keys k;
	bool stream;

	if (read_keys(&k, c, prefix, b, err))
		return NULL;
	stream = k.listen || k.connect;
	if (k.fd >= 0 && look_at_fd(&k, b, &stream, err))
		return NULL;
	return stream ? make_stream(loop, &k, err) : make_dgram(loop, &k, err);
}

struct net_peer *net_socket_new(struct loop *loop, struct config *c, const char *prefix, struct err *err)
{
	return make(loop, c, prefix, &of_socket, err);
}

struct net_peer *net_stream_new(struct loop *loop, struct config *c, const char *prefix, struct err *err)
{
	return make(loop, c, prefix, &of_stream, err);
}

struct net_peer *net_dgram_new(struct loop *loop, struct config *c, const char *prefix, struct err *err)
{
	return make(loop, c, prefix, &of_dgram, err);
}

int net_socket_check(struct config *c, const char *prefix, struct err *err)
{
	struct keys k;

	return read_keys(&k, c, prefix, &of_socket, err);
}

int net_stream_check(struct config *c, const char *prefix, struct err *err)
{
	struct keys k;

	return read_keys(&k, c, prefix, &of_stream, err);
}

int net_dgram_check(struct config *c, const char *prefix, struct err *err)
{
	struct keys k;

	return read_keys(&k, c, prefix, &of_dgram, err);
}
