/*
 * The filter `blkdebug`: errors and stops by rules, and limits of its own on what its child is asked: see blkdebug.h.
 * Requests that are not aligned are made whole here, with a read before the write, so that the events of that happen
 * too.
 */
#include "block/blkdebug.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/blkdebug_rules.h"
#include "block/filter.h"

#define ZERO_CHUNK (1u << 20)

struct suspended {
	struct co *co;
	char *tag;
	struct suspended *next; /* the latest first */
};

struct blkdebug {
	struct bd_rules rules;
	struct suspended *suspended;
	loop_fn *on_suspend;
	void *on_suspend_opaque;
	uint64_t align, max_transfer, opt_write_zero, max_write_zero, opt_discard, max_discard;
	struct filter_ranges ranges;
	uint64_t written, flushed; /* writes that have ended, and how many of them are on stable storage */
};

/* --- events --- */

struct stop {
	struct node *n;
	unsigned count;
};

static void suspend(void *opaque, char *tag)
{
	struct stop *stop = opaque;
	struct blkdebug *s = stop->n->state;
	struct suspended *q = malloc(sizeof(*q));

	if (!q) {
		free(tag);
		return;
	}
	*q = (struct suspended){ co_self(), tag, s->suspended };
	s->suspended = q;
	stop->count++;
	printf("blkdebug: Suspended request '%s'\n", tag);
	if (s->on_suspend) {
		loop_post(stop->n->ctx->loop, s->on_suspend, s->on_suspend_opaque);
		s->on_suspend = NULL;
	}
}

static void on_event(struct node *n, enum node_event e)
{
	struct blkdebug *s = n->state;
	struct stop stop = { n, 0 };

	bd_rules_event(&s->rules, e, suspend, &stop);
	while (stop.count--)
		co_wait();
}

static int rule_check(struct node *n, enum bd_io io, uint64_t offset, uint64_t bytes)
{
	struct blkdebug *s = n->state;
	bool immediately;
	int ret = bd_rules_check(&s->rules, io, offset, bytes, &immediately);

	if (ret && !immediately)
		filter_yield(n);
	return ret;
}

/* --- requests that are aligned --- */

/* In pieces that are not too large. */
static int transfer(struct node *n, const struct node_req *r)
{
	struct blkdebug *s = n->state;
	uint64_t most = s->max_transfer ? s->max_transfer : r->bytes;
	struct iovec *part = NULL;
	int ret = 0;

	if (most < r->bytes) {
		part = malloc(r->niov * sizeof(*part));
		if (!part)
			return -ENOMEM;
	}
	for (uint64_t done = 0; !ret && done < r->bytes; done += most) {
		struct node_req piece = *r;

		piece.offset += done;
		piece.bytes = r->bytes - done < most ? r->bytes - done : most;
		if (part) {
			piece.niov = iov_slice(part, r->iov, r->niov, done, piece.bytes);
			piece.iov = part;
		}
		ret = rule_check(n, r->op == BLOCK_READ ? BD_READ : BD_WRITE, piece.offset, piece.bytes);
		if (!ret)
			ret = filter_pass(n, &piece);
	}
	free(part);
	return ret;
}

static int write_aligned(struct node *n, const struct node_req *r)
{
	int ret;

	on_event(n, EVENT_PWRITEV);
	ret = transfer(n, r);
	on_event(n, EVENT_PWRITEV_DONE);
	return ret;
}

/* --- the rest of the first and the last block --- */

/* Where what is asked for lies in whole blocks. */
struct padded {
	uint64_t first, bytes, head, tail;
	uint8_t *buf;
};

static int pad(const struct node *n, const struct node_req *r, struct padded *p)
{
	uint64_t end = align_up(r->offset + r->bytes, n->align);

	p->first = align_down(r->offset, n->align);
	p->bytes = end - p->first;
	p->head = r->offset - p->first;
	p->tail = end - r->offset - r->bytes;
	p->buf = NULL;
	return posix_memalign((void **)&p->buf, 4096, p->bytes) ? -ENOMEM : 0;
}

static bool is_aligned(const struct node *n, const struct node_req *r)
{
	return !((r->offset | r->bytes) & (n->align - 1));
}

static int read_any(struct node *n, const struct node_req *r)
{
	struct padded p;
	struct node_req whole = *r;
	struct iovec v;
	int ret;

	if (is_aligned(n, r))
		return transfer(n, r);
	ret = pad(n, r, &p);
	if (ret)
		return ret;
	v = (struct iovec){ p.buf, p.bytes };
	whole.offset = p.first;
	whole.bytes = p.bytes;
	whole.iov = &v;
	whole.niov = 1;
	ret = transfer(n, &whole);
	if (!ret)
		iov_from_buf(r->iov, r->niov, 0, p.buf + p.head, r->bytes);
	free(p.buf);
	return ret;
}

static int read_block(struct node *n, uint64_t offset, void *buf, uint64_t bytes)
{
	struct iovec v = { buf, bytes };
	struct node_req r = { .op = BLOCK_READ, .offset = offset, .bytes = bytes, .iov = &v, .niov = 1 };

	return transfer(n, &r);
}

/* What is in the blocks around it, where they are not overwritten whole. */
static int read_around(struct node *n, const struct padded *p)
{
	uint64_t last = p->bytes - n->align;
	bool once = p->bytes == n->align || (p->bytes == 2ull * n->align && p->head && p->tail);
	int ret = 0;

	if (p->head || once) {
		if (p->head)
			on_event(n, EVENT_PWRITEV_RMW_HEAD);
		if (once && p->tail)
			on_event(n, EVENT_PWRITEV_RMW_TAIL);
		ret = read_block(n, p->first, p->buf, once ? p->bytes : n->align);
		if (ret)
			return ret;
		if (p->head)
			on_event(n, EVENT_PWRITEV_RMW_AFTER_HEAD);
		if (once && p->tail)
			on_event(n, EVENT_PWRITEV_RMW_AFTER_TAIL);
		if (once)
			return 0;
	}
	if (p->tail) {
		on_event(n, EVENT_PWRITEV_RMW_TAIL);
		ret = read_block(n, p->first + last, p->buf + last, n->align);
		if (!ret)
			on_event(n, EVENT_PWRITEV_RMW_AFTER_TAIL);
	}
	return ret;
}

static int write_any(struct node *n, const struct node_req *r)
{
	struct padded p;
	struct node_req whole = *r;
	struct iovec v;
	int ret;

	if (is_aligned(n, r))
		return write_aligned(n, r);
	ret = pad(n, r, &p);
	if (!ret)
		ret = read_around(n, &p);
	if (!ret) {
		iov_to_buf(p.buf + p.head, r->iov, r->niov, 0, r->bytes);
		v = (struct iovec){ p.buf, p.bytes };
		whole.offset = p.first;
		whole.bytes = p.bytes;
		whole.iov = &v;
		whole.niov = 1;
		ret = write_aligned(n, &whole);
	}
	free(p.buf);
	return ret;
}

/* --- zeroes and discards --- */

static int write_out(struct node *n, uint64_t offset, uint64_t bytes, uint32_t flags, bool aligned)
{
	uint64_t chunk = bytes < ZERO_CHUNK ? bytes : ZERO_CHUNK;
	uint8_t *zeroes = calloc(1, chunk ? chunk : 1);
	int ret = zeroes ? 0 : -ENOMEM;

	for (uint64_t done = 0; !ret && done < bytes; done += chunk) {
		struct iovec v = { zeroes, bytes - done < chunk ? bytes - done : chunk };
		struct node_req r = { .op = BLOCK_WRITE,
				      .flags = flags & BLOCK_REQ_FUA,
				      .offset = offset + done,
				      .bytes = v.iov_len,
				      .iov = &v,
				      .niov = 1 };

		ret = aligned ? transfer(n, &r) : write_any(n, &r);
	}
	free(zeroes);
	return ret;
}

/* How much of [offset, offset + bytes) is one request: up to a multiple of `unit`, or some of these, at most `most`. */
static uint64_t next_piece(uint64_t offset, uint64_t bytes, uint64_t unit, uint64_t most)
{
	uint64_t n = bytes, head = offset % unit;

	if (head && n > unit - head)
		n = unit - head;
	else if (!head && n > unit)
		n -= n % unit;
	return most && n > most ? most : n;
}

static int zero_aligned(struct node *n, const struct node_req *r)
{
	struct blkdebug *s = n->state;
	uint64_t unit = s->opt_write_zero > n->align ? s->opt_write_zero : n->align;
	int ret = 0;

	on_event(n, EVENT_PWRITEV_ZERO);
	for (uint64_t done = 0, part; !ret && done < r->bytes; done += part) {
		struct node_req piece = *r;

		part = next_piece(r->offset + done, r->bytes - done, unit, s->max_write_zero);
		piece.offset += done;
		piece.bytes = part;
		/* What is less than the child likes is written out. */
		ret = part < unit ? -ENOTSUP : rule_check(n, BD_WRITE_ZEROES, piece.offset, part);
		if (!ret)
			ret = filter_pass(n, &piece);
		if (ret == -ENOTSUP && !(r->flags & BLOCK_REQ_NO_FALLBACK))
			ret = write_out(n, piece.offset, part, r->flags, true);
	}
	on_event(n, EVENT_PWRITEV_DONE);
	return ret;
}

static int zero_any(struct node *n, const struct node_req *r)
{
	uint64_t end = r->offset + r->bytes, first = align_up(r->offset, n->align), last = align_down(end, n->align);
	struct node_req middle = *r;
	int ret;

	if (first > last)
		return write_out(n, r->offset, r->bytes, r->flags, false);
	ret = first > r->offset ? write_out(n, r->offset, first - r->offset, r->flags, false) : 0;
	middle.offset = first;
	middle.bytes = last - first;
	if (!ret && middle.bytes)
		ret = zero_aligned(n, &middle);
	if (!ret && end > last)
		ret = write_out(n, last, end - last, r->flags, false);
	return ret;
}

static int discard_any(struct node *n, const struct node_req *r)
{
	struct blkdebug *s = n->state;
	uint64_t unit = s->opt_discard > n->align ? s->opt_discard : n->align;
	int ret = 0;

	for (uint64_t done = 0, part; !ret && done < r->bytes; done += part) {
		struct node_req piece = *r;

		part = next_piece(r->offset + done, r->bytes - done, unit, s->max_discard);
		/* What is no whole block cannot be discarded, and need not. */
		if ((r->offset + done) % n->align && part > n->align - (r->offset + done) % n->align)
			part = n->align - (r->offset + done) % n->align;
		if (part < n->align)
			continue;
		piece.offset += done;
		piece.bytes = part;
		ret = rule_check(n, BD_DISCARD, piece.offset, part);
		if (!ret)
			ret = filter_pass(n, &piece);
	}
	return ret;
}

/* --- requests --- */

static int flush(struct node *n, const struct node_req *r)
{
	struct blkdebug *s = n->state;
	struct node_req f = { .op = BLOCK_FLUSH };
	uint64_t written = s->written;
	int ret;

	/* As in QEMU a flush with nothing to do asks nobody. */
	if (s->flushed == written)
		return 0;
	ret = rule_check(n, BD_FLUSH, 0, 0);
	if (!ret)
		ret = filter_pass(n, &f);
	if (!ret)
		s->flushed = written;
	return ret;
}

static int (*const ops[])(struct node *n, const struct node_req *r) = {
	[BLOCK_READ] = read_any,       [BLOCK_WRITE] = write_any,	[BLOCK_FLUSH] = flush,
	[BLOCK_DISCARD] = discard_any, [BLOCK_WRITE_ZEROES] = zero_any,
};

static int carry_out(struct node *n, struct node_req *r)
{
	struct blkdebug *s = n->state;
	struct filter_range range;
	int ret;

	if (r->op == BLOCK_FLUSH)
		return flush(n, r);
	if (node_readonly(n) && r->op != BLOCK_READ)
		return -EPERM;
	/* A block that is read and written back must not change meanwhile. */
	if (r->op != BLOCK_READ && !is_aligned(n, r)) {
		uint64_t first = align_down(r->offset, n->align);

		filter_range_begin(&s->ranges, &range, first, align_up(r->offset + r->bytes, n->align) - first, true);
	} else {
		filter_range_begin(&s->ranges, &range, r->offset, r->bytes, false);
	}
	ret = ops[r->op](n, r);
	s->written += r->op != BLOCK_READ;
	filter_range_end(&s->ranges, &range);
	return ret;
}

static void blkdebug_submit(struct node *n, struct node_req *r)
{
	filter_start(n, r, carry_out);
}

static int blkdebug_status(struct node *n, uint64_t offset, uint64_t bytes, struct node_extent *e)
{
	int ret = rule_check(n, BD_BLOCK_STATUS, offset, bytes);

	return ret ? ret : filter_status(n, offset, bytes, e);
}

/* --- opening --- */

/* "blkdebug:CONFIG:IMAGE" */
static int parse_filename(struct opts *o, const char *name, struct err *err)
{
	const char *colon;

	if (strncmp(name, "blkdebug:", 9)) {
		opts_set(o, "x-image", name);
		return 0;
	}
	name += 9;
	colon = strchr(name, ':');
	if (!colon)
		return err_set(err, "blkdebug requires both config file and image path");
	if (colon != name)
		opts_setf(o, "config", "%.*s", (int)(colon - name), name);
	opts_set(o, "x-image", colon + 1);
	return 0;
}

/* Each is 0 or a multiple of its unit, and less than 2 GiB. */
static int take_limits(struct node *n, struct opts *o, struct err *err)
{
	struct blkdebug *s = n->state;
	uint64_t align;
	const struct {
		const char *name;
		uint64_t *value, *unit;
	} limits[] = {
		{ "max-transfer", &s->max_transfer, NULL },
		{ "opt-write-zero", &s->opt_write_zero, NULL },
		{ "max-write-zero", &s->max_write_zero, &s->opt_write_zero },
		{ "opt-discard", &s->opt_discard, NULL },
		{ "max-discard", &s->max_discard, &s->opt_discard },
	};

	if (opts_size(o, "align", 0, &s->align, err))
		return -1;
	if (s->align && (s->align >= INT_MAX || s->align & (s->align - 1)))
		return err_set(err, "Cannot meet constraints with align %llu", (unsigned long long)s->align);
	align = s->align > n->file->align ? s->align : n->file->align;
	for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
		uint64_t unit = align, *value = limits[i].value;

		if (opts_size(o, limits[i].name, 0, value, err))
			return -1;
		if (limits[i].unit && *limits[i].unit > unit)
			unit = *limits[i].unit;
		if (*value && (*value >= INT_MAX || *value % unit))
			return err_set(err, "Cannot meet constraints with %s %llu", limits[i].name,
				       (unsigned long long)*value);
	}
	n->align = s->align ? (uint32_t)s->align : 1;
	return 0;
}

/* "blkdebug:CONFIG:IMAGE" when that says it all. */
static void name_it(struct node *n, const struct opts *o, const char *config)
{
	const char *key, *value;
	char *name;

	for (unsigned i = 0; opts_at(o, i, &key, &value); i++)
		if (strcmp(key, "config") && strncmp(key, "image.", 6) && strcmp(key, "x-image") &&
		    strcmp(key, "driver") && strcmp(key, "filename"))
			return;
	if (asprintf(&name, "blkdebug:%s:%s", config ? config : "", n->file->filename) < 0)
		return;
	free(n->filename);
	n->filename = name;
}

static void blkdebug_close(struct node *n)
{
	struct blkdebug *s = n->state;

	bd_rules_free(&s->rules);
}

static int blkdebug_open(struct node *n, struct opts *o, struct err *err)
{
	struct blkdebug *s = n->state;
	const char *name = opts_take(o, "filename"), *config;

	if (name && parse_filename(o, name, err))
		return -1;
	config = opts_take(o, "config");
	if (bd_rules_read(&s->rules, config, o, err) ||
	    node_open_child(n, "image", opts_take(o, "x-image"), o, 0, err) || take_limits(n, o, err)) {
		bd_rules_free(&s->rules);
		return -1;
	}
	opts_free(opts_take_sub(o, "take-child-perms"));
	opts_free(opts_take_sub(o, "unshare-child-perms"));
	n->size = n->file->size;
	name_it(n, n->options, config);
	on_event(n, EVENT_NONE);
	return 0;
}

const struct node_driver node_blkdebug = {
	.name = "blkdebug",
	.prefix = "blkdebug",
	.state_size = sizeof(struct blkdebug),
	.is_protocol = true,
	.forces = true,
	.open = blkdebug_open,
	.close = blkdebug_close,
	.submit = blkdebug_submit,
	.truncate = filter_truncate,
	.status = blkdebug_status,
	.info = filter_info,
	.event = on_event,
};

/* --- for the tool --- */

static struct node *find(const struct node *n)
{
	while (n && n->drv != &node_blkdebug)
		n = n->file;
	return (struct node *)n;
}

int blkdebug_break(struct node *n, const char *event, const char *tag)
{
	struct bd_rule r = { .event = bd_event(event), .action = BD_SUSPEND };
	struct blkdebug *s;
	int ret;

	n = find(n);
	if (!n)
		return -ENOTSUP;
	if (r.event == EVENT_COUNT)
		return -ENOENT;
	s = n->state;
	r.tag = strdup(tag);
	ret = r.tag ? bd_rules_add(&s->rules, &r) : -ENOMEM;
	if (ret)
		free(r.tag);
	return ret;
}

/* The latest of that name; NULL: of any. */
static bool let_go(struct blkdebug *s, const char *tag)
{
	for (struct suspended **p = &s->suspended; *p; p = &(*p)->next) {
		struct suspended *q = *p;

		if (tag && strcmp(q->tag, tag))
			continue;
		printf("blkdebug: Resuming request '%s'\n", q->tag);
		*p = q->next;
		co_wake(q->co);
		free(q->tag);
		free(q);
		return true;
	}
	return false;
}

int blkdebug_resume(struct node *n, const char *tag)
{
	n = find(n);
	if (!n)
		return -ENOTSUP;
	return let_go(n->state, tag) ? 0 : -ENOENT;
}

static int forget_breaks(struct blkdebug *s, const char *tag)
{
	int ret = -ENOENT;

	for (unsigned i = s->rules.n; i-- > 0;) {
		const struct bd_rule *r = &s->rules.at[i];

		if (r->action == BD_SUSPEND && (!tag || !strcmp(r->tag, tag))) {
			bd_rules_remove(&s->rules, i);
			ret = 0;
		}
	}
	while (let_go(s, tag))
		ret = 0;
	return ret;
}

int blkdebug_remove_break(struct node *n, const char *tag)
{
	n = find(n);
	return n ? forget_breaks(n->state, tag) : -ENOTSUP;
}

void blkdebug_release(struct node *n)
{
	n = find(n);
	if (n)
		forget_breaks(n->state, NULL);
}

bool blkdebug_is_suspended(const struct node *n, const char *tag)
{
	const struct blkdebug *s;

	n = find(n);
	if (!n)
		return false;
	s = n->state;
	for (const struct suspended *q = s->suspended; q; q = q->next)
		if (!strcmp(q->tag, tag))
			return true;
	return false;
}

void blkdebug_on_suspend(struct node *n, loop_fn *fn, void *opaque)
{
	struct blkdebug *s;

	n = find(n);
	if (!n)
		return;
	s = n->state;
	s->on_suspend = fn;
	s->on_suspend_opaque = opaque;
}
