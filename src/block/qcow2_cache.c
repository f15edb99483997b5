/*
 * Tables of a qcow2 image that are kept in memory, least recently used first out. What is dirty is written only by who
 * holds the image's lock, so that nobody changes a table on its way; a reader that finds no clean place makes one more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2.h"

static unsigned slot(const struct qc_cache *c, uint64_t offset)
{
	return (unsigned)((offset / c->bytes * 0x9e3779b97f4a7c15ull) >> 54) % QC_HASH;
}

static void unlink_entry(struct qc_cache *c, struct qc_entry *e)
{
	*(e->prev ? &e->prev->next : &c->first) = e->next;
	*(e->next ? &e->next->prev : &c->last) = e->prev;
}

static void to_front(struct qc_cache *c, struct qc_entry *e)
{
	e->prev = NULL;
	e->next = c->first;
	*(c->first ? &c->first->prev : &c->last) = e;
	c->first = e;
}

struct qc_entry *qc_cache_peek(struct qc_cache *c, uint64_t offset)
{
	for (struct qc_entry *e = c->hash[slot(c, offset)]; e; e = e->hash_next)
		if (e->offset == offset)
			return e->loading ? NULL : e;
	return NULL;
}

static struct qc_entry *find(struct qc_cache *c, uint64_t offset)
{
	for (struct qc_entry *e = c->hash[slot(c, offset)]; e; e = e->hash_next)
		if (e->offset == offset)
			return e;
	return NULL;
}

static void drop(struct qc_cache *c, struct qc_entry *e)
{
	struct qc_entry **p = &c->hash[slot(c, e->offset)];

	while (*p != e)
		p = &(*p)->hash_next;
	*p = e->hash_next;
	unlink_entry(c, e);
	c->n--;
	c->dirty -= e->dirty;
	free(e->table);
	free(e);
}

/* Room for one more: drop what is clean and was not used for the longest time. */
static void make_room(struct qc_cache *c)
{
	struct qc_entry *e = c->last;

	while (e && c->n >= c->max) {
		struct qc_entry *before = e->prev;

		if (!e->refs && !e->dirty && !e->loading)
			drop(c, e);
		e = before;
	}
}

static struct qc_entry *new_entry(struct qc_cache *c, uint64_t offset)
{
	struct qc_entry *e = calloc(1, sizeof(*e));
	unsigned at = slot(c, offset);

	if (e && posix_memalign(&e->table, 4096, c->bytes < 4096 ? 4096 : c->bytes)) {
		free(e);
		return NULL;
	}
	if (!e)
		return NULL;
	e->offset = offset;
	e->hash_next = c->hash[at];
	c->hash[at] = e;
	to_front(c, e);
	c->n++;
	return e;
}

int qc_cache_get(struct node *n, struct qc_cache *c, uint64_t offset, bool load, struct qc_entry **out)
{
	struct qc_entry *e;
	int ret;

	while ((e = find(c, offset)) && e->loading)
		co_queue_wait(&e->waiting);
	if (e) {
		e->refs++;
		*out = e;
		return 0;
	}
	make_room(c);
	e = new_entry(c, offset);
	if (!e)
		return -ENOMEM;
	e->refs = 1;
	if (load) {
		e->loading = true;
		if (c->type == META_ACTIVE_L2)
			node_event(n->file, EVENT_L2_LOAD);
		ret = node_read(n->file, offset, e->table, c->bytes);
		e->loading = false;
		co_queue_wake_all(&e->waiting); /* they look for it anew */
		if (ret) {
			drop(c, e);
			return ret;
		}
	}
	*out = e;
	return 0;
}

void qc_cache_put(struct qc_cache *c, struct qc_entry *e)
{
	e->refs--;
	if (c->first != e) {
		unlink_entry(c, e);
		to_front(c, e);
	}
}

void qc_cache_dirty(struct qc_cache *c, struct qc_entry *e)
{
	if (!e->dirty)
		c->dirty++;
	e->dirty = true;
}

int qc_cache_depend(struct node *n, struct qc_cache *c, struct qc_cache *on)
{
	int ret;

	/* A circle is cut by writing what is here now: for the other one a flush is enough then. */
	if (on->depends == c) {
		ret = qc_cache_write(n, c);
		if (ret)
			return ret;
		on->depends = NULL;
		on->depends_on_flush = true;
	}
	c->depends = on;
	return 0;
}

/* The files' data to stable storage. */
static int flush_files(struct node *n)
{
	int ret = qc(n)->external ? node_flush(qc(n)->data) : 0;

	return ret ? ret : node_flush(n->file);
}

static int write_entry(struct node *n, struct qc_cache *c, struct qc_entry *e)
{
	int ret = qc_check_overlap(n, e->offset, c->bytes, c->type);

	if (ret)
		return ret;
	e->dirty = false;
	c->dirty--;
	node_event(n->file, c->type == META_ACTIVE_L2 ? EVENT_L2_UPDATE : EVENT_REFBLOCK_UPDATE_PART);
	ret = node_write(n->file, e->offset, e->table, c->bytes);
	if (ret && !e->dirty) {
		e->dirty = true;
		c->dirty++;
	}
	return ret;
}

int qc_cache_write(struct node *n, struct qc_cache *c)
{
	struct qc_cache *on = c->depends;
	int ret, first = 0;
	bool progress;

	if (!c->dirty)
		return 0;
	if (on) {
		ret = qc_cache_write(n, on);
		if (ret)
			return ret;
		/* Also when somebody has written it before: that need not be on stable storage. */
		c->depends_on_flush = true;
	}
	if (c->depends_on_flush) {
		ret = flush_files(n);
		if (ret)
			return ret;
	}
	c->depends = NULL;
	c->depends_on_flush = false;
	/* Readers change the order while we wait: look again until nothing was found. */
	do {
		progress = false;
		for (struct qc_entry *e = c->first; e && !first; e = e->next) {
			if (!e->dirty)
				continue;
			e->refs++;
			first = write_entry(n, c, e);
			e->refs--;
			progress = true;
		}
	} while (progress && !first);
	return first;
}

int qc_trim(struct node *n)
{
	struct qcow2 *s = qc(n);
	int ret = s->n_discards > QC_DISCARDS / 2 ? qc_flush(n) : 0;

	if (ret)
		return ret;
	if (s->l2c.dirty >= s->l2c.max - s->l2c.max / 4)
		ret = qc_cache_write(n, &s->l2c);
	if (!ret && s->rbc.dirty >= s->rbc.max - s->rbc.max / 4)
		ret = qc_cache_write(n, &s->rbc);
	return ret;
}

int qc_write_caches(struct node *n)
{
	struct qcow2 *s = qc(n);
	int ret = qc_cache_write(n, &s->l2c);

	/* With lazy refcounts the image stays marked as dirty instead. */
	if (!ret && !(s->incompat & QCOW2_INCOMPAT_DIRTY))
		ret = qc_cache_write(n, &s->rbc);
	return ret;
}

int qc_flush(struct node *n)
{
	struct qcow2 *s = qc(n);
	int ret;

	/* What was freed up to here may be used again once it is on stable storage that it is free. */
	uint64_t freed = s->freed_min;

	ret = qc_write_caches(n);
	if (ret)
		return ret;
	node_event(n->file, EVENT_FLUSH_TO_DISK);
	ret = flush_files(n);
	if (ret)
		return ret;
	qc_discard_freed(n);
	if (freed < s->free_hint)
		s->free_hint = freed;
	s->freed_min = UINT64_MAX;
	s->quarantined = 0;
	return 0;
}

void qc_cache_forget(struct qc_cache *c, uint64_t offset, uint64_t bytes)
{
	for (struct qc_entry *e = c->first, *next; e; e = next) {
		next = e->next;
		if (e->offset >= offset && e->offset < offset + bytes && !e->refs && !e->loading)
			drop(c, e);
	}
}

void qc_cache_free(struct qc_cache *c)
{
	while (c->first)
		drop(c, c->first);
}
