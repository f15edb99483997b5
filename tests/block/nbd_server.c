/* See nbd_server.h. */
#include "nbd_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"

enum { READ, WRITE, DISC, FLUSH, TRIM, ZEROES = 6, STATUS };

struct request {
	unsigned flags, type;
	uint64_t handle, offset;
	uint32_t len;
};

static bool get(int fd, void *buf, size_t len)
{
	return !len || recv(fd, buf, len, MSG_WAITALL) == (ssize_t)len;
}

static bool put(int fd, const void *buf, size_t len)
{
	const char *p = buf;

	while (len) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

/* --- negotiation --- */

static bool reply(struct nbd_server *s, int fd, uint32_t option, uint32_t type, const void *data, size_t len)
{
	uint8_t b[20];

	st_be64(b, s->lie == NBD_BAD_REPLY_MAGIC ? 1 : 0x0003e889045565a9ull);
	st_be32(b + 8, s->lie == NBD_OTHER_OPTION ? option + 1 : option);
	st_be32(b + 12, type);
	st_be32(b + 16, s->lie == NBD_HUGE_REPLY ? 0xfffffff0u : (uint32_t)len);
	return put(fd, b, sizeof(b)) && put(fd, data, len);
}

static uint64_t size_of(const struct nbd_server *s)
{
	if (s->lie == NBD_HUGE_EXPORT)
		return 1ull << 63;
	return s->size && s->connections > 1 ? s->size : NBD_DISK;
}

static unsigned flags_of(const struct nbd_server *s)
{
	return 1 | s->flags;
}

static bool go(struct nbd_server *s, int fd)
{
	uint8_t b[14];

	st_be16(b, 0);
	st_be64(b + 2, size_of(s));
	st_be16(b + 10, (uint16_t)flags_of(s));
	if (s->lie == NBD_REFUSES)
		return reply(s, fd, 7, 0x80000006u, "nothing of that name", 20);
	if (s->lie != NBD_NO_INFO && !reply(s, fd, 7, 3, b, s->lie == NBD_SHORT_INFO ? 11 : 12))
		return false;
	while (s->lie == NBD_ENDLESS_INFO)
		if (!reply(s, fd, 7, 3, b, 12))
			return false;
	if (s->min_block || s->lie == NBD_ODD_BLOCK) {
		st_be16(b, 3);
		st_be32(b + 2, s->lie == NBD_ODD_BLOCK ? 3 : s->min_block);
		st_be32(b + 6, 4096);
		st_be32(b + 10, 32 << 20);
		if (!reply(s, fd, 7, 3, b, 14))
			return false;
	}
	return reply(s, fd, 7, 1, NULL, 0);
}

static bool context(struct nbd_server *s, int fd)
{
	static const char name[] = "\0\0\0\7base:allocation", other[] = "\0\0\0\7base:allocatioN";
	bool ok = reply(s, fd, 10, 4, s->lie == NBD_OTHER_CONTEXT ? other : name, sizeof(name) - 1);

	if (s->lie == NBD_TWO_CONTEXTS)
		ok = ok && reply(s, fd, 10, 4, name, sizeof(name) - 1);
	return ok && reply(s, fd, 10, 1, NULL, 0);
}

static bool negotiate(struct nbd_server *s, int fd)
{
	uint8_t b[152] = { 0 }, data[9000];

	memcpy(b, s->lie == NBD_BAD_MAGIC ? "NBDMAGIX" : "NBDMAGIC", 8);
	if (s->old) {
		st_be64(b + 8, 0x0000420281861253ull);
		st_be64(b + 16, size_of(s));
		st_be32(b + 24, flags_of(s));
		return put(fd, b, 152);
	}
	memcpy(b + 8, "IHAVEOPT\0\3", 10);
	if (!put(fd, b, 18) || s->lie == NBD_HANGS_UP || !get(fd, b, 4))
		return false;
	for (;;) {
		uint32_t option, len;

		if (!get(fd, b, 16))
			return false;
		option = ld_be32(b + 8);
		len = ld_be32(b + 12);
		if (len > sizeof(data) || !get(fd, data, len))
			return false;
		if (option == 7) {
			if (!go(s, fd) || s->lie == NBD_REFUSES)
				return false;
			return true;
		}
		if (option == 8 && !s->plain ? !reply(s, fd, 8, 1, NULL, 0)
		    : option == 10	     ? !context(s, fd)
					     : !reply(s, fd, option, 0x80000001u, NULL, 0))
			return false;
	}
}

/* --- requests --- */

static bool simple(int fd, const struct request *r, uint32_t error)
{
	uint8_t b[16];

	st_be32(b, 0x67446698u);
	st_be32(b + 4, error);
	st_be64(b + 8, r->handle);
	return put(fd, b, sizeof(b));
}

static bool chunk(int fd, const struct request *r, unsigned last, unsigned type, uint32_t len)
{
	uint8_t b[20];

	st_be32(b, 0x668e33efu);
	st_be16(b + 4, (uint16_t)last);
	st_be16(b + 6, (uint16_t)type);
	st_be64(b + 8, r->handle);
	st_be32(b + 16, len);
	return put(fd, b, sizeof(b));
}

static bool data_chunk(struct nbd_server *s, int fd, const struct request *r, unsigned last, uint64_t at, uint32_t len)
{
	uint8_t b[8];

	st_be64(b, at);
	return chunk(fd, r, last, 1, len + 8) && put(fd, b, 8) && put(fd, s->disk + at % NBD_DISK, len);
}

static bool hole(int fd, const struct request *r, uint64_t at, uint32_t len)
{
	uint8_t b[12];

	st_be64(b, at);
	st_be32(b + 8, len);
	return chunk(fd, r, 0, 2, 12) && put(fd, b, 12);
}

static bool error_chunk(int fd, const struct request *r, uint32_t error, uint16_t message)
{
	uint8_t b[6];

	st_be32(b, error);
	st_be16(b + 4, message);
	return chunk(fd, r, 0, 0x8001, 6) && put(fd, b, 6);
}

static bool lie_in_read(struct nbd_server *s, int fd, const struct request *r)
{
	struct request other = *r;
	uint8_t b[16] = { 0 };

	switch (s->lie) {
	case NBD_READ_MAGIC:
		return put(fd, b, 16);
	case NBD_READ_HANDLE:
		other.handle ^= 16;
		return data_chunk(s, fd, &other, 1, r->offset, r->len);
	case NBD_READ_SIMPLE:
		return simple(fd, r, 0) && put(fd, s->disk, r->len);
	case NBD_READ_SHORT:
		return data_chunk(s, fd, r, 1, r->offset, r->len - 1);
	case NBD_READ_OUTSIDE:
		return data_chunk(s, fd, r, 1, r->offset + 1, r->len);
	case NBD_READ_BEFORE:
		return data_chunk(s, fd, r, 1, r->offset - 1, r->len);
	case NBD_READ_MORE:
		return data_chunk(s, fd, r, 0, r->offset, r->len) && data_chunk(s, fd, r, 1, r->offset, r->len);
	case NBD_READ_NOTHING:
		return chunk(fd, r, 0, 1, 8) && put(fd, b, 8);
	case NBD_READ_HUGE_HOLE:
		return hole(fd, r, r->offset, 0xffffffffu);
	case NBD_READ_STATUS:
		st_be32(b, 7);
		st_be32(b + 4, 4096);
		return chunk(fd, r, 1, 5, 12) && put(fd, b, 12);
	case NBD_READ_KIND:
		return chunk(fd, r, 1, 77, 0);
	case NBD_READ_NONE:
		return chunk(fd, r, 0, 0, 0);
	case NBD_READ_ERROR_ZERO:
		return error_chunk(fd, r, 0, 0);
	case NBD_READ_ERROR_LONG:
		return error_chunk(fd, r, 5, 100);
	case NBD_READ_ERRORS:
		while (error_chunk(fd, r, 5, 0))
			;
		return false;
	default:
		return data_chunk(s, fd, r, 1, r->offset, r->len);
	}
}

static bool read_reply(struct nbd_server *s, int fd, const struct request *r)
{
	uint32_t third = r->len / 3;

	if (s->plain || s->old)
		return simple(fd, r, 0) && put(fd, s->disk + r->offset, r->len);
	if (s->lie > NBD_LAST_OF_NEGOTIATION && s->lie <= NBD_LAST_OF_READ)
		return lie_in_read(s, fd, r);
	if (!s->in_parts || third == 0)
		return data_chunk(s, fd, r, 1, r->offset, r->len);
	/* The middle is said to be a hole. */
	return data_chunk(s, fd, r, 0, r->offset + 2ull * third, r->len - 2 * third) &&
	       hole(fd, r, r->offset + third, third) && data_chunk(s, fd, r, 0, r->offset, third) &&
	       chunk(fd, r, 1, 0, 0);
}

static bool status_reply(struct nbd_server *s, int fd, const struct request *r)
{
	static uint8_t b[4 + 8 * 1000];
	uint32_t len = 12;

	st_be32(b, s->lie == NBD_STATUS_OTHER ? 8 : 7);
	st_be32(b + 4, s->lie == NBD_STATUS_ZERO ? 0 : 4096);
	st_be32(b + 8, r->offset / 4096 % 2 ? 3 : 0);
	if (s->lie == NBD_STATUS_SHORT)
		len = 8;
	if (s->lie == NBD_STATUS_LONG)
		len = sizeof(b);
	if (s->lie == NBD_STATUS_NONE)
		return chunk(fd, r, 1, 0, 0);
	if (s->lie == NBD_STATUS_TWICE && !(chunk(fd, r, 0, 5, len) && put(fd, b, len)))
		return false;
	return chunk(fd, r, 1, 5, len) && put(fd, b, len);
}

static bool done(struct nbd_server *s, int fd, const struct request *r)
{
	return s->plain || s->old ? simple(fd, r, 0) : chunk(fd, r, 1, 0, 0);
}

static bool answer(struct nbd_server *s, int fd, const struct request *r)
{
	if (s->min_block && ((r->offset | r->len) & (s->min_block - 1)))
		s->unaligned++;
	s->fua += r->flags & 1;
	switch (r->type) {
	case READ:
		return read_reply(s, fd, r);
	case STATUS:
		return status_reply(s, fd, r);
	case FLUSH:
		s->flushes++;
		break;
	case TRIM:
		s->trims++;
		break;
	case ZEROES:
		s->zeroes++;
		memset(s->disk + r->offset, 0, r->len);
		break;
	default:
		break;
	}
	return done(s, fd, r);
}

static bool next(struct nbd_server *s, int fd, struct request *r)
{
	uint8_t b[28];

	if (!get(fd, b, sizeof(b)) || ld_be32(b) != 0x25609513u)
		return false;
	*r = (struct request){ .flags = ld_be16(b + 4),
			       .type = ld_be16(b + 6),
			       .handle = ld_be64(b + 8),
			       .offset = ld_be64(b + 16),
			       .len = ld_be32(b + 24) };
	if (r->type == DISC || r->offset > NBD_DISK || r->len > NBD_DISK - r->offset)
		return false;
	return r->type != WRITE || get(fd, s->disk + r->offset, r->len);
}

static void serve(struct nbd_server *s, int fd)
{
	struct request r[2];
	char rest;

	if (s->silent || !negotiate(s, fd)) {
		/* Not gone before the client is: else that might not see what was said. */
		while (s->lie != NBD_HANGS_UP && read(fd, &rest, 1) > 0)
			;
		return;
	}
	for (unsigned n = 1; next(s, fd, &r[0]); n++) {
		if (n == s->drop && s->connections == 1)
			return;
		if (s->reversed && n == 1) {
			if (!next(s, fd, &r[1]) || !answer(s, fd, &r[1]))
				return;
		}
		if (!answer(s, fd, &r[0]))
			return;
	}
}

static void *run(void *opaque)
{
	struct nbd_server *s = opaque;
	int fd;

	while ((fd = accept(s->listener, NULL, NULL)) >= 0) {
		s->connections++;
		serve(s, fd);
		close(fd);
	}
	return NULL;
}

void nbd_server_start(struct nbd_server *s)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };

	snprintf(s->path, sizeof(s->path), "/tmp/vireo-nbd.%d", getpid());
	unlink(s->path);
	strcpy(to.sun_path, s->path);
	s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(s->listener, (struct sockaddr *)&to, sizeof(to)) || listen(s->listener, 8) ||
	    pthread_create(&s->thread, NULL, run, s))
		abort();
}

void nbd_server_stop(struct nbd_server *s)
{
	shutdown(s->listener, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	close(s->listener);
	unlink(s->path);
}
