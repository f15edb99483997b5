/* See sock.h. */
#include "base/sock.h"

#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/now.h"

#define BACKLOG	 4
#define LIMIT_MS 5000 /* of all addresses of a name: whoever starts a machine that waits cannot end it */
#define LISTEN	 0    /* in place of a limit */

const char *sock_path(const char *where)
{
	return strncmp(where, "unix:", 5) ? NULL : where + 5;
}

/* A file is refused alike, and is not ours. */
void sock_remove_stale(const struct sockaddr_un *a, int type)
{
	struct stat st;
	int fd;

	if (lstat(a->sun_path, &st) || !S_ISSOCK(st.st_mode))
		return;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (connect(fd, (const struct sockaddr *)a, sizeof(*a)) && errno == ECONNREFUSED)
		unlink(a->sun_path);
	close(fd);
}

static int connect_within(int fd, const struct sockaddr *a, socklen_t len, int64_t ms)
{
	const struct timeval limit = { ms / 1000, ms % 1000 * 1000 }, none = { 0 };
	int rc;

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	rc = connect(fd, a, len);
	if (rc && (errno == EINPROGRESS || errno == EAGAIN))
		errno = ETIMEDOUT;
	if (!rc)
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
	return rc;
}

/* Bind and listen, or connect within so many milliseconds; closes `fd` and keeps errno on failure. */
static int finish(int fd, const struct sockaddr *a, socklen_t len, int64_t ms)
{
	int e;

	if (fd < 0)
		return -1;
	if (ms == LISTEN ? !bind(fd, a, len) && !listen(fd, BACKLOG) : !connect_within(fd, a, len, ms))
		return fd;
	e = errno;
	close(fd);
	errno = e;
	return -1;
}

static int unix_address(const char *key, const char *path, struct sockaddr_un *a, struct err *err)
{
	if (!*path)
		return err_set(err, "%s: '%s' is no path for a socket", key, path);
	if (strlen(path) >= sizeof(a->sun_path))
		return err_set(err, "%s: '%s' has %zu bytes, and a socket's path at most %zu", key, path, strlen(path),
			       sizeof(a->sun_path) - 1);
	*a = (struct sockaddr_un){ .sun_family = AF_UNIX };
	strcpy(a->sun_path, path);
	return 0;
}

static int open_unix(const char *key, const char *path, bool listening, struct err *err)
{
	struct sockaddr_un a;
	int fd;

	if (unix_address(key, path, &a, err))
		return -1;
	if (listening)
		sock_remove_stale(&a, SOCK_STREAM);
	fd = finish(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), (struct sockaddr *)&a, sizeof(a),
		    listening ? LISTEN : LIMIT_MS);
	if (fd < 0)
		err_errno(err, errno, "%s: cannot %s %s", key, listening ? "listen on" : "connect to", path);
	return fd;
}

static int open_at(const struct addrinfo *a, int64_t ms)
{
	int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);

	if (fd >= 0 && ms == LISTEN)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	return finish(fd, a->ai_addr, a->ai_addrlen, ms);
}

/* "port 1234" */
static const char *port_of(const char *where)
{
	static _Thread_local char text[16];
	const char *colon = strrchr(where, ':');

	snprintf(text, sizeof(text), "port %.5s", colon ? colon + 1 : where);
	return text;
}

/* The addresses of "[tcp:][HOST:]PORT"; freed by freeaddrinfo(). NULL with a line in `err`. */
static struct addrinfo *resolve(const char *key, const char *where, struct err *err)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
	const char *colon, *port, *from;
	char host[256], *end;
	size_t len;
	struct addrinfo *list = NULL;
	unsigned long number;
	int rc;

	where += strncmp(where, "tcp:", 4) ? 0 : 4;
	colon = strrchr(where, ':');
	port = colon ? colon + 1 : where;
	number = strtoul(port, &end, 10);
	from = where;
	len = colon ? (size_t)(colon - where) : 0;
	/* [::1]:1234 */
	if (len > 2 && *where == '[' && where[len - 1] == ']')
		from++, len -= 2;
	snprintf(host, sizeof(host), "%.*s", (int)len, from);
	if (*end || !isdigit((unsigned char)*port) || number == 0 || number > 65535) {
		err_set(err, "%s: '%s' is neither [HOST:]PORT nor unix:PATH", key, where);
		return NULL;
	}
	if (*where == '[' && from == where) {
		err_set(err, "%s: '%s' has a '[' without its ']', as in [::1]:1234", key, where);
		return NULL;
	}
	rc = getaddrinfo(*host ? host : "127.0.0.1", port, &hints, &list);
	if (rc) {
		err_set(err, "%s: '%s': %s", key, host, gai_strerror(rc));
		return NULL;
	}
	return list;
}

static int open_tcp(const char *key, const char *where, bool listening, struct err *err)
{
	struct addrinfo *list = resolve(key, where, err);
	int64_t end = now_ms() + LIMIT_MS;
	int fd = -1, count = 0;

	if (!list)
		return -1;
	for (const struct addrinfo *a = list; a; a = a->ai_next)
		count++;
	/* Each has its share of what those before it have left. */
	for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next, count--) {
		int64_t share = (end - now_ms()) / count;

		fd = open_at(a, listening ? LISTEN : share > 0 ? share : 1);
	}
	if (fd < 0)
		err_errno(err, errno, "%s: cannot %s %s", key, listening ? "listen on" : "connect to", port_of(where));
	freeaddrinfo(list);
	return fd;
}

int sock_address(const char *key, const char *where, struct sockaddr_storage *addr, socklen_t *len, struct err *err)
{
	const char *path = sock_path(where);
	struct addrinfo *list;

	memset(addr, 0, sizeof(*addr));
	if (path) {
		*len = sizeof(struct sockaddr_un);
		return unix_address(key, path, (struct sockaddr_un *)addr, err);
	}
	list = resolve(key, where, err);
	if (!list)
		return -1;
	memcpy(addr, list->ai_addr, list->ai_addrlen);
	*len = list->ai_addrlen;
	freeaddrinfo(list);
	return 0;
}

static int open_socket(const char *key, const char *where, bool listening, struct err *err)
{
	const char *path = sock_path(where);

	return path ? open_unix(key, path, listening, err) : open_tcp(key, where, listening, err);
}

int sock_listen(const char *key, const char *where, struct err *err)
{
	return open_socket(key, where, true, err);
}

int sock_connect(const char *key, const char *where, struct err *err)
{
	return open_socket(key, where, false, err);
}
