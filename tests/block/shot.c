/* See shot.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "crash_model.h"
#include "shot.h"

void shot_new(struct shot *s)
{
	for (unsigned f = 0; f < PICK_FILES; f++) {
		s->bytes[f] = calloc(1, IMAGE);
		s->used[f] = 0;
	}
}

void shot_free(struct shot *s)
{
	for (unsigned f = 0; f < PICK_FILES; f++)
		free(s->bytes[f]);
}

void shot_copy(struct shot *to, const struct shot *from)
{
	for (unsigned f = 0; f < PICK_FILES; f++) {
		memcpy(to->bytes[f], from->bytes[f], from->used[f]);
		if (to->used[f] > from->used[f])
			memset(to->bytes[f] + from->used[f], 0, to->used[f] - from->used[f]);
		to->used[f] = from->used[f];
	}
}

void shot_take(struct shot *s, const int fds[PICK_FILES])
{
	for (unsigned f = 0; f < PICK_FILES; f++) {
		struct stat st;

		fstat(fds[f], &st);
		assert_true(st.st_size <= IMAGE);
		s->used[f] = (uint64_t)st.st_size;
		assert_int_equal(pread(fds[f], s->bytes[f], s->used[f], 0), st.st_size);
	}
}

void shot_put(const struct shot *s, const int fds[PICK_FILES])
{
	for (unsigned f = 0; f < PICK_FILES; f++) {
		assert_int_equal(ftruncate(fds[f], 0), 0);
		assert_int_equal(pwrite(fds[f], s->bytes[f], s->used[f], 0), s->used[f]);
	}
}

void shot_apply(struct shot *to, const struct change *c, uint64_t from, uint64_t bytes)
{
	uint64_t end = c->offset + from + bytes;

	if (c->kind == CHANGE_FLUSH)
		return;
	assert_true(end <= IMAGE);
	if (end > to->used[c->file])
		to->used[c->file] = end;
	if (c->kind == CHANGE_ZERO)
		memset(to->bytes[c->file] + c->offset + from, 0, bytes);
	else
		memcpy(to->bytes[c->file] + c->offset + from, c->data + from, bytes);
}

/* Which of the changes that need not be there are there: one of these kinds of loss. */
struct loss {
	unsigned chance;    /* in a hundred */
	uint64_t odd, from; /* the one that is not as the others; those before `from` are missing */
};

static struct loss choose_loss(uint64_t first, uint64_t end)
{
	static const unsigned chances[] = { 100, 90, 10, 50, 100, 0, 100, 100 };
	unsigned how = (unsigned)pick(ARRAY_LEN(chances));
	uint64_t some = end > first ? first + pick(end - first) : first;

	return (struct loss){ chances[how], how == 4 || how == 5 ? some : UINT64_MAX, how == 6 ? some : 0 };
}

void shot_lose(struct shot *out, const struct history *h, const uint64_t durable[PICK_FILES], uint64_t end)
{
	uint64_t first = durable[0] < durable[1] || h->fd[1] < 0 ? durable[0] : durable[1];
	struct loss l = choose_loss(first, end);

	for (uint64_t i = first; i < end; i++) {
		const struct change *c = &h->at[i];
		bool there = i >= l.from && pick(100) < l.chance;

		if (i < durable[c->file] || c->kind == CHANGE_FLUSH)
			continue;
		if (i == l.odd)
			there = !there;
		if (c->bytes > SECTOR && l.chance < 100 ? !pick(8) : i == l.odd && pick(2)) {
			for (uint64_t at = 0; at < c->bytes; at += SECTOR) /* torn */
				if (pick(2))
					shot_apply(out, c, at, c->bytes - at < SECTOR ? c->bytes - at : SECTOR);
		} else if (there) {
			shot_apply(out, c, 0, c->bytes);
		}
	}
}

void history_durable(const struct history *h, uint64_t from, uint64_t end, uint64_t durable[PICK_FILES])
{
	for (uint64_t i = from; i < end; i++) {
		const struct change *c = &h->at[i];

		if (c->kind == CHANGE_FLUSH && c->covers > durable[c->file])
			durable[c->file] = c->covers;
	}
}
