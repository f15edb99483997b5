/*
 * Image locks by open file description locks (fcntl(2), F_OFD_SETLK).
 *
 * Every permission has two bytes in the file's lock space: a user read-locks byte HELD + p while it
 * uses permission p, and byte DENIED + p while nobody else may. To take permissions is to set one's
 * own locks first and then to look for locks of others that contradict: of two who race, at least
 * one sees the other.
 */
#include "block/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

#include "base/log.h"

#define HELD   100
#define DENIED 200

enum { PERM_READ, PERM_WRITE, PERM_WRITE_UNCHANGED, PERM_RESIZE, PERM_COUNT };

struct perms {
	unsigned held, denied; /* bit masks of PERM_* */
};

static const struct perms reader = { 1u << PERM_READ, 1u << PERM_WRITE | 1u << PERM_RESIZE };
static const struct perms writer = { 1u << PERM_READ | 1u << PERM_WRITE, 1u << PERM_WRITE | 1u << PERM_RESIZE };

static struct flock byte_at(short type, int at)
{
	return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };
}

/* -1 with errno. */
static int set_bytes(int fd, int base, unsigned mask)
{
	for (int p = 0; p < PERM_COUNT; p++) {
		struct flock l = byte_at(F_RDLCK, base + p);

		if ((mask & 1u << p) && fcntl(fd, F_OFD_SETLK, &l))
			return -1;
	}
	return 0;
}

/* 1 when somebody else has one of the bytes, 0, or -1 with errno. */
static int others_have(int fd, int base, unsigned mask)
{
	for (int p = 0; p < PERM_COUNT; p++) {
		struct flock l = byte_at(F_WRLCK, base + p);

		if (!(mask & 1u << p))
			continue;
		if (fcntl(fd, F_OFD_GETLK, &l))
			return -1;
		if (l.l_type != F_UNLCK)
			return 1;
	}
	return 0;
}

int image_lock(int fd, const char *path, bool readonly, struct err *err)
{
	const struct perms *mine = readonly ? &reader : &writer;
	int ret;

	if (set_bytes(fd, HELD, mine->held) || set_bytes(fd, DENIED, mine->denied)) {
		if (errno != EAGAIN && errno != EACCES)
			goto unsupported;
		ret = 1; /* somebody has a write lock on them */
	} else {
		ret = others_have(fd, DENIED, mine->held);
		if (!ret)
			ret = others_have(fd, HELD, mine->denied);
		if (ret < 0)
			goto unsupported;
	}
	if (!ret)
		return 0;
	image_unlock(fd);
	if (readonly)
		return err_set(err, "%s is being written by another VM or tool; stop that one first", path);
	return err_set(err, "%s is in use by another VM or tool; stop that one first, or use a copy", path);
unsupported:
	log_line(LOG_WARN, "block", "%s: this file system has no locks; make sure that nothing else uses the image",
		 path);
	image_unlock(fd);
	return 0;
}

void image_unlock(int fd)
{
	struct flock l = {
		.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = HELD, .l_len = DENIED + PERM_COUNT - HELD
	};

	fcntl(fd, F_OFD_SETLK, &l);
}
