/*
 * Viewers that come with a password, by TLS (RFB's security type VeNCrypt, X509Plain). neatvnc 0.5 would let those in
 * that choose a type which was not offered (CVE-2024-42458), so it has no part in this: it listens at a Unix socket of
 * the user's, and a viewer is passed on to there when it has said the password, and not before. All in the process of
 * the server (vnc_impl.h): a thread that waits for viewers, and one for each of them.
 */
#include <errno.h>
#include <gnutls/gnutls.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/accept.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/now.h"
#include "display/vnc_impl.h"

#define VIEWERS	    12	   /* each has three descriptors of the process */
#define SPARE	    2	   /* places for those that come next */
#define PATIENCE_MS 120000 /* until it has said its password, which somebody may have to type */
#define WORD_MAX    1024   /* of a name or a password */
#define PIECE	    16384

enum { SECURITY_NONE = 1, SECURITY_VENCRYPT = 19, VENCRYPT_X509PLAIN = 262 };

struct front;
struct viewer {
	struct front *front;
	int fd; /* -1: nobody */
	int inner;
	gnutls_session_t tls;
	int64_t until; /* by now_ms(); 0: it is in */
};

struct front {
	const struct vnc_config *c;
	int fd;
	gnutls_certificate_credentials_t creds;
	pthread_mutex_t lock;
	struct viewer viewer[VIEWERS];
};

/* --- bytes, before TLS and after; who is too slow finds its socket shut down --- */

static bool put(int fd, const void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = send(fd, (const uint8_t *)buf + done, len - done, MSG_NOSIGNAL);

		if (n <= 0 && !(n < 0 && errno == EINTR))
			return false;
		done += n > 0 ? (size_t)n : 0;
	}
	return true;
}

static bool get(int fd, void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = recv(fd, (uint8_t *)buf + done, len - done, 0);

		if (n <= 0 && !(n < 0 && errno == EINTR))
			return false;
		done += n > 0 ? (size_t)n : 0;
	}
	return true;
}

static bool put_tls(struct viewer *v, const void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = gnutls_record_send(v->tls, (const uint8_t *)buf + done, len - done);

		if (n <= 0 && n != GNUTLS_E_AGAIN && n != GNUTLS_E_INTERRUPTED)
			return false;
		done += n > 0 ? (size_t)n : 0;
	}
	return true;
}

static bool get_tls(struct viewer *v, void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = gnutls_record_recv(v->tls, (uint8_t *)buf + done, len - done);

		if (n <= 0 && n != GNUTLS_E_AGAIN && n != GNUTLS_E_INTERRUPTED)
			return false;
		done += n > 0 ? (size_t)n : 0;
	}
	return true;
}

/* --- who may come in --- */

/* A SecurityResult with its reason: its length. */
static size_t refuse(uint8_t *message, const char *text)
{
	st_be32(message, 1);
	st_be32(message + 4, (uint32_t)strlen(text));
	memcpy(message + 8, text, strlen(text));
	return 8 + strlen(text);
}

/* RFC 6143, 7.1; VeNCrypt 0.2 is the only version there is. */
static bool agree(int fd)
{
	static const uint8_t types[] = { 1, SECURITY_VENCRYPT }, version[] = { 0, 2 };
	uint8_t ours[5] = { 1 }, hello[12], word[4], no = 0, yes = 1;
	static const char text[] = "this server asks for a password";
	uint8_t refusal[8 + sizeof(text)];

	st_be32(ours + 1, VENCRYPT_X509PLAIN);
	if (!put(fd, "RFB 003.008\n", 12) || !get(fd, hello, 12) || memcmp(hello, "RFB 003.008\n", 12) ||
	    !put(fd, types, 2) || !get(fd, word, 1))
		return false;
	if (word[0] != SECURITY_VENCRYPT) {
		put(fd, refusal, refuse(refusal, text));
		return false;
	}
	if (!put(fd, version, 2) || !get(fd, word, 2))
		return false;
	if (memcmp(word, version, 2)) {
		put(fd, &yes, 1); /* here 0 is what is well */
		return false;
	}
	if (!put(fd, &no, 1) || !put(fd, ours, 5) || !get(fd, word, 4))
		return false;
	if (ld_be32(word) != VENCRYPT_X509PLAIN) {
		put(fd, &no, 1); /* and here it is not */
		return false;
	}
	return put(fd, &yes, 1);
}

static bool shake_hands(struct viewer *v)
{
	int rc;

	if (gnutls_init(&v->tls, GNUTLS_SERVER))
		return false;
	gnutls_priority_set_direct(v->tls, "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2", NULL);
	gnutls_credentials_set(v->tls, GNUTLS_CRD_CERTIFICATE, v->front->creds);
	gnutls_transport_set_int(v->tls, v->fd);
	do
		rc = gnutls_handshake(v->tls);
	while (rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED);
	return rc == 0;
}

/* A name, which may be any, and the password. */
static bool knows_password(struct viewer *v)
{
	static const char text[] = "this is not the password";
	const char *password = v->front->c->password;
	char word[2 * WORD_MAX];
	uint8_t len[8], refusal[8 + sizeof(text)];
	uint32_t name, said;

	if (!get_tls(v, len, 8))
		return false;
	name = ld_be32(len);
	said = ld_be32(len + 4);
	if (name > WORD_MAX || said > WORD_MAX || !get_tls(v, word, name + said))
		return false;
	if (said == strlen(password) && !gnutls_memcmp(word + name, password, said))
		return true;
	/* So that guesses take their time. */
	sleep(1);
	put_tls(v, refusal, refuse(refusal, text));
	return false;
}

/* --- and then --- */

static bool connect_inside(struct viewer *v)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	uint8_t types[256], hello[12], result[4];

	strncpy(a.sun_path, v->front->c->path, sizeof(a.sun_path) - 1);
	v->inner = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return v->inner >= 0 && !connect(v->inner, (struct sockaddr *)&a, sizeof(a)) && get(v->inner, hello, 12) &&
	       put(v->inner, "RFB 003.008\n", 12) && get(v->inner, types, 1) && get(v->inner, types + 1, types[0]) &&
	       memchr(types + 1, SECURITY_NONE, types[0]) && put(v->inner, &(uint8_t){ SECURITY_NONE }, 1) &&
	       get(v->inner, result, 4) && !ld_be32(result) && put_tls(v, result, 4);
}

static void pass_on(struct viewer *v)
{
	uint8_t piece[PIECE];

	for (;;) {
		bool more = gnutls_record_check_pending(v->tls) > 0;
		struct pollfd p[2] = { { .fd = v->fd, .events = POLLIN }, { .fd = v->inner, .events = POLLIN } };
		ssize_t n;

		if (poll(p, 2, more ? 0 : -1) < 0 && errno != EINTR)
			return;
		if (more || p[0].revents) {
			n = gnutls_record_recv(v->tls, piece, sizeof(piece));
			if (n != GNUTLS_E_AGAIN && n != GNUTLS_E_INTERRUPTED &&
			    (n <= 0 || !put(v->inner, piece, (size_t)n)))
				return;
		}
		if (p[1].revents) {
			n = recv(v->inner, piece, sizeof(piece), 0);
			if (n <= 0 || !put_tls(v, piece, (size_t)n))
				return;
		}
	}
}

static void *serve(void *opaque)
{
	struct viewer *v = opaque;
	struct front *f = v->front;

	if (agree(v->fd) && shake_hands(v) && knows_password(v)) {
		pthread_mutex_lock(&f->lock);
		v->until = 0;
		pthread_mutex_unlock(&f->lock);
		if (connect_inside(v))
			pass_on(v);
	}
	if (v->tls)
		gnutls_deinit(v->tls);
	if (v->inner >= 0)
		close(v->inner);
	pthread_mutex_lock(&f->lock);
	close(v->fd);
	v->fd = -1;
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

/* --- the thread that waits for them --- */

/* Whoever has been longest without saying the password makes room, so that those who say nothing keep nobody away. */
static void make_room(struct front *f)
{
	struct viewer *oldest = NULL;
	unsigned spare = 0;

	for (unsigned n = 0; n < VIEWERS; n++) {
		struct viewer *v = &f->viewer[n];

		spare += v->fd < 0;
		if (v->fd >= 0 && v->until && (!oldest || v->until < oldest->until))
			oldest = v;
	}
	if (spare < SPARE && oldest)
		shutdown(oldest->fd, SHUT_RDWR);
}

static void come(struct front *f, int fd)
{
	static const int on = 1;
	struct viewer *v = NULL;
	pthread_t thread;

	for (unsigned n = 0; n < VIEWERS && !v; n++)
		if (f->viewer[n].fd < 0)
			v = &f->viewer[n];
	if (!v) {
		close(fd);
		return;
	}
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	*v = (struct viewer){ f, fd, -1, NULL, now_ms() + PATIENCE_MS };
	if (!pthread_create(&thread, NULL, serve, v)) {
		pthread_detach(thread);
		return;
	}
	close(fd);
	v->fd = -1;
}

static void *wait_for_viewers(void *opaque)
{
	struct front *f = opaque;
	bool full = false;

	for (;;) {
		struct pollfd p = { .fd = full ? -1 : f->fd, .events = POLLIN };
		int fd = poll(&p, 1, ACCEPT_PAUSE_MS) > 0 ? accept_one(f->fd, 0, "vnc", &full) : -1;

		full &= p.fd >= 0; /* for one pause */

		pthread_mutex_lock(&f->lock);
		for (unsigned n = 0; n < VIEWERS; n++)
			if (f->viewer[n].fd >= 0 && f->viewer[n].until && now_ms() > f->viewer[n].until)
				shutdown(f->viewer[n].fd, SHUT_RDWR);
		if (fd >= 0) {
			come(f, fd);
			make_room(f);
		}
		pthread_mutex_unlock(&f->lock);
	}
	return NULL;
}

static int listen_at(struct front *f, struct err *err)
{
	const struct addrinfo want = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
	static const int on = 1;
	struct addrinfo *a;
	char port[8];
	int rc;

	snprintf(port, sizeof(port), "%u", f->c->port);
	rc = getaddrinfo(f->c->host, port, &want, &a);
	if (rc)
		return err_set(err, "vnc: %s: %s", f->c->host, gai_strerror(rc));
	f->fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (f->fd >= 0)
		setsockopt(f->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (f->fd < 0 || bind(f->fd, a->ai_addr, a->ai_addrlen) || listen(f->fd, VIEWERS))
		rc = err_errno(err, errno, "vnc: %s:%u", f->c->host, f->c->port);
	freeaddrinfo(a);
	return rc;
}

/* As QEMU has them in a directory of tls-creds-x509. */
static int load_creds(struct front *f, struct err *err)
{
	char cert[4096], key[4096];
	int rc;

	if (snprintf(cert, sizeof(cert), "%s/server-cert.pem", f->c->tls_creds) >= (int)sizeof(cert) ||
	    snprintf(key, sizeof(key), "%s/server-key.pem", f->c->tls_creds) >= (int)sizeof(key))
		return err_set(err, "vnc.tls-creds: the path is too long");
	if (access(cert, R_OK) || access(key, R_OK))
		return err_errno(err, errno, "vnc.tls-creds: %s", access(cert, R_OK) ? cert : key);
	if (gnutls_certificate_allocate_credentials(&f->creds))
		return err_set(err, "out of memory");
	rc = gnutls_certificate_set_x509_key_file(f->creds, cert, key, GNUTLS_X509_FMT_PEM);
	return rc < 0 ? err_set(err, "vnc.tls-creds: %s and server-key.pem: %s", cert, gnutls_strerror(rc)) : 0;
}

int vnc_front(const struct vnc_config *c, struct err *err)
{
	struct front *f = calloc(1, sizeof(*f));
	pthread_t thread;

	if (!f)
		return err_set(err, "out of memory");
	f->c = c;
	pthread_mutex_init(&f->lock, NULL);
	for (unsigned n = 0; n < VIEWERS; n++)
		f->viewer[n].fd = -1;
	/* What is made here ends with the process. */
	if (load_creds(f, err) || listen_at(f, err))
		return -1;
	return pthread_create(&thread, NULL, wait_for_viewers, f) ? err_set(err, "vnc: no thread") : 0;
}
