/*
 * The file of a capture. Records wait in a ring for the thread that writes them. A disk that is only slow is waited
 * for when the ring is full; one that takes nothing for that long is not waited for again until it has caught up:
 * frames are lost meanwhile, and counted.
 */
#include "net/dump_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

#define MAGIC_US	  0xa1b2c3d4u
#define LINKTYPE_ETHERNET 1u

#define RING	    (16u << 20)
#define PATIENCE_MS 200
#define CLOSE_S	    3

/* Of a frame: libpcap's savefile(5). */
struct record {
	uint32_t seconds, micros, kept, len;
};

struct dump_file {
	int fd;
	uint32_t maxlen;
	char name[32];
	pthread_t thread;
	pthread_mutex_t lock; /* of what follows, but what lies between `out` and `in` is the thread's */
	pthread_cond_t more, less;
	size_t in, out; /* bytes so far */
	uint64_t lost;	/* frames, since it was said */
	bool behind, failed, ends;
	bool done, left; /* the thread is about to end; nobody waits for it, and all this is its own */
	uint8_t ring[RING];
};

static void release(struct dump_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	free(f);
}

/* --- the thread --- */

/* How much of it is in the file. Why it is not more, only the write behind one that was cut short tells: see errno. */
static size_t put(int fd, struct iovec *v, int count)
{
	size_t done = 0;

	for (;;) {
		ssize_t n = writev(fd, v, count);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return done;
		done += (size_t)n;
		for (; count && (size_t)n >= v->iov_len; v++, count--)
			n -= (ssize_t)v->iov_len;
		if (!count)
			return done;
		v->iov_base = (uint8_t *)v->iov_base + n;
		v->iov_len -= (size_t)n;
	}
}

/* Where `len` bytes at `at` are in the ring. The number of pieces. */
static int pieces(struct dump_file *f, size_t at, size_t len, struct iovec v[2])
{
	size_t begin = at % RING, first = len < RING - begin ? len : RING - begin;

	v[0] = (struct iovec){ f->ring + begin, first };
	v[1] = (struct iovec){ f->ring, len - first };
	return first < len ? 2 : 1;
}

static size_t length_of_next(struct dump_file *f)
{
	struct record r;
	struct iovec v[2];

	pieces(f, f->out, sizeof(r), v);
	memcpy(&r, v[0].iov_base, v[0].iov_len);
	memcpy((uint8_t *)&r + v[0].iov_len, v[1].iov_base, v[1].iov_len);
	return sizeof(r) + r.kept;
}

static bool write_one(struct dump_file *f, size_t len)
{
	struct iovec v[2];
	int count = pieces(f, f->out, len, v);
	size_t done = put(f->fd, v, count);
	off_t at;

	if (done == len)
		return true;
	log_line(LOG_ERROR, "net", "%s.dump: nothing more is kept: %s", f->name, strerror(errno));
	/* Half a record at the end would make the whole a file that is cut short. */
	at = lseek(f->fd, 0, SEEK_CUR);
	if (done > 0 && (at < (off_t)done || ftruncate(f->fd, at - (off_t)done)))
		log_line(LOG_WARN, "net", "%s.dump: its last frame is not whole", f->name);
	return false;
}

static void say_lost(struct dump_file *f)
{
	f->behind = false;
	log_guest("net", "%s.dump: the disk has caught up; %llu frames are not there", f->name,
		  (unsigned long long)f->lost);
	f->lost = 0;
}

static void *write_all(void *opaque)
{
	struct dump_file *f = opaque;
	bool left;

	pthread_mutex_lock(&f->lock);
	while (!f->failed) {
		size_t len;
		bool done;

		while (f->in == f->out && !f->ends)
			pthread_cond_wait(&f->more, &f->lock);
		if (f->in == f->out)
			break;
		len = length_of_next(f);
		pthread_mutex_unlock(&f->lock);
		done = write_one(f, len);
		pthread_mutex_lock(&f->lock);
		f->out += len;
		f->failed = !done;
		if (f->behind && (f->failed || f->in - f->out <= RING / 2))
			say_lost(f);
		pthread_cond_signal(&f->less);
	}
	f->done = true;
	left = f->left;
	pthread_mutex_unlock(&f->lock);
	if (left)
		release(f);
	return NULL;
}

/* --- the loop --- */

static bool has_room(const struct dump_file *f, size_t len)
{
	return RING - (f->in - f->out) >= len;
}

static void wait_for_room(struct dump_file *f, size_t len)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += PATIENCE_MS * 1000000l;
	until.tv_sec += until.tv_nsec / 1000000000l;
	until.tv_nsec %= 1000000000l;
	while (!has_room(f, len) && !f->failed)
		if (pthread_cond_timedwait(&f->less, &f->lock, &until) == ETIMEDOUT)
			break;
	f->behind = !has_room(f, len) && !f->failed;
	if (f->behind)
		log_guest("net", "%s.dump: the disk takes nothing: frames are not kept until it does", f->name);
}

static void append(struct dump_file *f, const void *data, size_t len)
{
	struct iovec v[2];

	pieces(f, f->in, len, v);
	memcpy(v[0].iov_base, data, v[0].iov_len);
	memcpy(v[1].iov_base, (const uint8_t *)data + v[0].iov_len, v[1].iov_len);
	f->in += len;
}

void dump_file_add(struct dump_file *f, const struct iovec *iov, unsigned count, size_t len)
{
	uint32_t kept = len < f->maxlen ? (uint32_t)len : f->maxlen, left = kept;
	struct timespec t;
	struct record r;

	clock_gettime(CLOCK_REALTIME, &t);
	r = (struct record){ (uint32_t)t.tv_sec, (uint32_t)(t.tv_nsec / 1000), kept, (uint32_t)len };
	pthread_mutex_lock(&f->lock);
	if (!f->behind && !has_room(f, sizeof(r) + kept))
		wait_for_room(f, sizeof(r) + kept);
	if (f->behind)
		f->lost++;
	if (!f->behind && !f->failed) {
		append(f, &r, sizeof(r));
		for (unsigned k = 0; k < count && left; k++) {
			uint32_t n = iov[k].iov_len < left ? (uint32_t)iov[k].iov_len : left;

			append(f, iov[k].iov_base, n);
			left -= n;
		}
		pthread_cond_signal(&f->more);
	}
	pthread_mutex_unlock(&f->lock);
}

/* --- life --- */

/* A new file, or the end of one that has this header. */
static bool begin_records(const struct dump_file *f, bool goes_on)
{
	const uint32_t header[6] = { MAGIC_US, 4u << 16 | 2u, 0, 0, f->maxlen, LINKTYPE_ETHERNET };
	uint32_t there[6];

	if (goes_on && pread(f->fd, there, sizeof(there), 0) == sizeof(there) && !memcmp(there, header, sizeof(header)))
		return lseek(f->fd, 0, SEEK_END) >= 0;
	return !ftruncate(f->fd, 0) && write(f->fd, header, sizeof(header)) == sizeof(header);
}

static int begin_file(struct dump_file *f, const struct net_dump_config *c, struct err *err)
{
	struct stat st;

	/* A pipe or a device may have a reader who takes his time, and opening one may take as long already. */
	f->fd = open(c->path, O_RDWR | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
	if (f->fd < 0 ? errno == ENXIO : !fstat(f->fd, &st) && !S_ISREG(st.st_mode))
		return err_set(err, "%s.dump: %s is no regular file", f->name, c->path);
	/* Records of two in one file would be those of none. */
	if (f->fd >= 0 && flock(f->fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
		return err_set(err, "%s.dump: %s is in use: another card's frames are kept there", f->name, c->path);
	if (f->fd < 0 || !begin_records(f, c->goes_on))
		return err_errno(err, errno, "%s.dump: %s", f->name, c->path);
	return 0;
}

static int start_thread(struct dump_file *f)
{
	pthread_condattr_t monotonic;
	sigset_t all, old;
	int rc;

	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->more, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&f->less, &monotonic);
	pthread_condattr_destroy(&monotonic);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	rc = pthread_create(&f->thread, NULL, write_all, f);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

struct dump_file *dump_file_open(const struct net_dump_config *c, struct err *err)
{
	struct dump_file *f = calloc(1, sizeof(*f));

	if (!f) {
		err_set(err, "out of memory");
		return NULL;
	}
	snprintf(f->name, sizeof(f->name), "%s", c->name);
	f->maxlen = c->maxlen;
	if (begin_file(f, c, err)) {
		release(f);
		return NULL;
	}
	if (!start_thread(f))
		return f;
	release(f);
	err_set(err, "%s.dump: no thread", c->name);
	return NULL;
}

void dump_file_close(struct dump_file *f)
{
	struct timespec until;
	bool done;

	pthread_mutex_lock(&f->lock);
	f->ends = true;
	pthread_cond_signal(&f->more);
	pthread_mutex_unlock(&f->lock);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += CLOSE_S;
	if (!pthread_timedjoin_np(f->thread, NULL, &until)) {
		release(f);
		return;
	}
	log_line(LOG_WARN, "net", "%s.dump: the disk takes nothing: the last frames may not be there", f->name);
	pthread_mutex_lock(&f->lock);
	done = f->done;
	if (!done)
		pthread_detach(f->thread);
	f->left = !done;
	pthread_mutex_unlock(&f->lock);
	if (!done)
		return;
	pthread_join(f->thread, NULL);
	release(f);
}
