/*
 * vireo img convert: several coroutines copy at once, each the next piece of the source. What they read is written in
 * the order of the source, so that a file that grows is not in pieces: each submits its writes when those before it
 * have submitted theirs (with -W as soon as it can), and nobody waits for the end of another's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/incomplete.h"
#include "cli/img_impl.h"

#define PIECE  (512u << 10)
#define SPARSE 4096u

struct convert {
	struct img *t;
	struct node **src;
	uint64_t *start; /* one more: where each begins in the whole */
	unsigned sources;
	struct node *target;
	uint64_t total, at, done;
	uint64_t submitted; /* up to here, when writes are in order */
	struct co_queue turn;
	unsigned flying; /* writes, of all workers */
	struct co_queue landed;
	uint64_t unit; /* the target's clusters; 0: none */
	struct img_rate rate;
	uint64_t sparse;  /* runs of zeroes of this length are not written; 0: all is written */
	uint64_t cluster; /* of compressed writes; 0: none */
	bool zero_init;	  /* the target reads as zeroes */
	bool has_backing; /* the target has what the source does not have itself */
	bool salvage, unordered;
	unsigned running;
	struct co_mutex take;
	struct co *boss;
	int status;
};

struct piece {
	struct node *src;
	uint64_t in_src, offset, bytes;
	bool zero, skip;
};

static void warn(const struct convert *c, const char *what, uint64_t offset, int ret)
{
	if (!c->t->quiet)
		fprintf(stderr, "qemu-img: warning: error while reading %s%llu: %s\n", what, (unsigned long long)offset,
			strerror(-ret));
}

/* What is at a place; in salvage mode what cannot be found out is data, of the shortest range. */
static int status_of(struct convert *c, const struct piece *p, uint64_t most, struct node_extent *e)
{
	struct node *base = c->has_backing ? p->src->backing : NULL;
	int ret = node_status_chain(p->src, base, p->in_src, most, e);

	while (ret && c->salvage) {
		if (most <= 512) {
			warn(c, "block status at offset ", p->in_src, ret);
			*e = (struct node_extent){ .bytes = most, .allocated = true, .data = true };
			return 0;
		}
		most = align_up(most / 4, 512);
		ret = node_status_chain(p->src, base, p->in_src, most, e);
	}
	if (ret)
		img_error("error while reading block status at offset %lld: %s", (long long)p->in_src, strerror(-ret));
	return ret;
}

/* The next piece, and what is known of it. */
static int take(struct convert *c, struct piece *p)
{
	struct node_extent e;
	unsigned i = 0;
	uint64_t most, room = c->cluster ? c->cluster : PIECE;
	int ret;

	*p = (struct piece){ .offset = c->at };
	while (i + 1 < c->sources && c->at >= c->start[i + 1])
		i++;
	p->src = c->src[i];
	p->in_src = c->at - c->start[i];
	most = c->start[i + 1] - c->at;
	if (p->in_src >= p->src->size) {
		/* Behind an end that is not that of a sector. */
		p->bytes = most;
		p->zero = true;
	} else {
		ret = status_of(c, p, most, &e);
		if (ret)
			return ret;
		p->bytes = e.bytes;
		p->zero = e.zero && c->sparse;
		p->skip = !e.zero && !e.data && c->has_backing;
	}
	if (c->cluster && p->bytes < c->cluster) {
		/* Clusters are compressed whole. */
		p->bytes = c->cluster < c->total - p->offset ? c->cluster : c->total - p->offset;
		p->zero = p->skip = false;
	} else if (c->cluster) {
		p->bytes = align_down(p->bytes, c->cluster);
	}
	if (!p->zero && !p->skip && p->bytes > room)
		p->bytes = room;
	c->at += p->bytes;
	return 0;
}

/* A range of one source; in salvage mode what cannot be read is zeroes, sector by sector. */
static int read_range(struct convert *c, struct node *n, uint64_t at, char *buf, uint64_t bytes)
{
	int ret = node_read(n, at, buf, bytes);

	if (!ret || !c->salvage)
		return ret;
	for (uint64_t done = 0; done < bytes; done += 512) {
		uint64_t part = bytes - done < 512 ? bytes - done : 512;

		ret = node_read(n, at + done, buf + done, part);
		if (ret) {
			warn(c, "offset ", at + done, ret);
			memset(buf + done, 0, part);
		}
	}
	return 0;
}

/* A piece may reach over the end of its source when clusters are whole. */
static int read_piece(struct convert *c, const struct piece *p, char *buf)
{
	uint64_t done = 0;

	while (done < p->bytes) {
		uint64_t at = p->offset + done, n = p->bytes - done, there;
		unsigned i = 0;
		int ret = 0;

		while (i + 1 < c->sources && at >= c->start[i + 1])
			i++;
		if (n > c->start[i + 1] - at)
			n = c->start[i + 1] - at;
		at -= c->start[i];
		there = at < c->src[i]->size ? c->src[i]->size - at : 0;
		if (there < n)
			memset(buf + done + there, 0, n - there);
		else
			there = n;
		ret = there ? read_range(c, c->src[i], at, buf + done, there) : 0;
		if (ret) {
			img_error("error while reading at byte %lld: %s", (long long)p->offset, strerror(-ret));
			return ret;
		}
		done += n;
	}
	return 0;
}

/* --- writing --- */

/* One worker's writes on their way. */
struct writes {
	struct convert *c;
	const struct piece *piece;
	struct run {
		struct node_req r;
		struct iovec v;
		struct writes *all;
	} * run;
	unsigned n, room, running;
	struct co *waiting;
	int status;
};

static void written(struct node_req *r, int ret)
{
	struct writes *w = ((struct run *)((char *)r - offsetof(struct run, r)))->all;

	if (ret && !w->status)
		w->status = ret;
	if (!--w->c->flying)
		co_queue_wake_all(&w->c->landed);
	if (!--w->running && w->waiting)
		co_wake(w->waiting);
}

static void wait_for_writes(struct writes *w)
{
	w->waiting = co_self();
	while (w->running)
		co_wait();
	w->waiting = NULL;
	w->n = 0;
}

static void submit_run(struct writes *w, uint64_t offset, char *buf, uint64_t bytes, bool zero)
{
	struct convert *c = w->c;
	struct run *x;

	if (zero && c->zero_init)
		return;
	if (w->n == w->room)
		wait_for_writes(w);
	/* What is in a cluster with the write before it would let later ones pass. */
	while (!c->unordered && c->unit && offset % c->unit && c->flying)
		co_queue_wait(&c->landed);
	x = &w->run[w->n++];
	*x = (struct run){ .v = { buf, bytes }, .all = w };
	x->r = (struct node_req){ .op = BLOCK_WRITE, .offset = offset, .bytes = bytes, .done = written };
	x->r.iov = &x->v;
	x->r.niov = 1;
	if (zero) {
		x->r.op = BLOCK_WRITE_ZEROES;
		x->r.flags = BLOCK_REQ_UNMAP;
	} else {
		x->r.flags = c->cluster ? BLOCK_REQ_COMPRESSED : 0;
		img_rate_wait(&c->t->ctx, &c->rate, bytes);
	}
	w->running++;
	c->flying++;
	node_submit(c->target, &x->r);
}

/* Submit what is not zero, in runs of whole units. */
static void submit_piece(struct writes *w, const struct piece *p, char *buf)
{
	struct convert *c = w->c;
	uint64_t unit = c->cluster ? c->cluster : c->sparse, at = 0;

	if (p->zero || !c->sparse) {
		submit_run(w, p->offset, p->zero ? NULL : buf, p->bytes, p->zero);
		return;
	}
	while (at < p->bytes) {
		uint64_t end = at;
		bool zero = false, first = true;

		while (end < p->bytes) {
			uint64_t stop = align_down(p->offset + end, unit) + unit - p->offset;
			bool z;

			if (stop > p->bytes)
				stop = p->bytes;
			z = is_all_zero(buf + end, stop - end);
			if (!first && z != zero)
				break;
			zero = z;
			first = false;
			end = stop;
		}
		submit_run(w, p->offset + at, buf + at, end - at, zero);
		at = end;
	}
}

/* Write a piece that has been read, when it is its turn. */
static int write_piece(struct writes *w, const struct piece *p, char *buf)
{
	struct convert *c = w->c;

	while (!c->unordered && c->submitted != p->offset && !c->status)
		co_queue_wait(&c->turn);
	if (c->status)
		return 0;
	if (!p->skip)
		submit_piece(w, p, buf);
	c->submitted = p->offset + p->bytes;
	co_queue_wake_all(&c->turn);
	wait_for_writes(w);
	if (w->status)
		img_error("error while writing at byte %lld: %s", (long long)p->offset, strerror(-w->status));
	return w->status;
}

static void fail(struct convert *c, int ret)
{
	if (ret && !c->status)
		c->status = ret;
	if (ret)
		co_queue_wake_all(&c->turn);
}

static void copy_pieces(struct writes *w, char *buf)
{
	struct convert *c = w->c;

	while (!c->status) {
		struct piece p;
		int ret;

		co_lock(&c->take);
		if (c->at >= c->total || c->status) {
			co_unlock(&c->take);
			break;
		}
		ret = take(c, &p);
		co_unlock(&c->take);
		if (!ret && !p.zero && !p.skip)
			ret = read_piece(c, &p, buf);
		fail(c, ret ? ret : write_piece(w, &p, buf));
		c->done += p.bytes;
		img_progress(c->t, (double)c->done * 100.0 / (double)c->total);
	}
}

static void worker(void *opaque)
{
	struct convert *c = opaque;
	struct writes w = { .c = c, .room = 64 };
	char *buf = NULL;
	size_t room = c->cluster > PIECE ? c->cluster : PIECE;

	w.run = calloc(w.room, sizeof(*w.run));
	if (!w.run || posix_memalign((void **)&buf, 4096, room))
		fail(c, -ENOMEM);
	else
		copy_pieces(&w, buf);
	free(w.run);
	free(buf);
	if (!--c->running && c->boss)
		co_wake(c->boss);
}

static int copy(struct convert *c, unsigned coroutines)
{
	c->running = coroutines;
	for (unsigned i = 0; i < coroutines; i++)
		if (co_start(worker, c)) {
			c->running--;
			c->status = i ? c->status : -ENOMEM;
		}
	c->boss = co_self();
	while (c->running)
		co_wait();
	if (!c->status)
		img_progress(c->t, 100);
	return c->status;
}

/* --- the command --- */

struct request {
	const char *in_format, *out_format, *cache, *src_cache, *snapshot;
	const char *backing, *backing_format;
	struct opts *o;
	int64_t sparse, coroutines, rate;
	bool bitmaps, skip_broken;
	bool compress, no_create, progress, in_opts, out_opts, target_zero, salvage, unordered, offload, has_o;
	char **names;
	unsigned sources;
	const char *target;
};

int img_choose_snapshot(void *opaque, const char *text)
{
	struct opts *o = opts_new();
	const char *key, *value;
	struct err err;
	int ret = 0;

	if (!strncmp(text, "snapshot.", 9)) {
		ret = opts_parse(o, text, NULL, &err);
		for (unsigned i = 0; !ret && opts_at(o, i, &key, &value); i++)
			if (strcmp(key, "snapshot.id") && strcmp(key, "snapshot.name"))
				ret = err_set(&err, "Invalid parameter '%s'", key);
	}
	if (ret) {
		img_error("%s", err.msg);
		img_error("Failed in parsing snapshot param '%s'", text);
	}
	opts_free(o);
	*(const char **)opaque = text;
	return ret;
}

/* The ID, in `to`, of the snapshot that has this ID and this name, where they are given; NULL: none has. */
static const char *choose_snapshot(struct node *n, const char *id, const char *name, char to[128])
{
	struct node_snapshot *sn = NULL;
	unsigned count = 0;
	const char *found = NULL;

	if (n->drv->snapshot_list(n, &sn, &count))
		return NULL;
	for (unsigned i = 0; i < count && !found; i++) {
		if ((id && strcmp(sn[i].id, id)) || (name && strcmp(sn[i].name, name)))
			continue;
		snprintf(to, 128, "%s", sn[i].id);
		found = to;
	}
	free(sn);
	return found;
}

int img_load_snapshot(struct node *n, const char *which)
{
	char id[128];
	struct opts *o;
	struct err err = { "" };
	const char *name = which;
	int ret;

	if (!n->drv->snapshot_load) {
		img_error("Failed to load snapshot: Device '%s' does not support internal snapshots", n->filename);
		return -1;
	}
	o = opts_new();
	if (!strncmp(which, "snapshot.", 9) && !opts_parse(o, which, NULL, &err))
		name = choose_snapshot(n, opts_get(o, "snapshot.id"), opts_get(o, "snapshot.name"), id);
	ret = name ? n->drv->snapshot_load(n, name, &err) : err_set(&err, "Can't find snapshot");
	if (ret)
		img_error("Failed to load snapshot: %s", err.msg[0] ? err.msg : strerror(-ret));
	opts_free(o);
	return ret;
}

static int open_sources(struct convert *c, const struct request *r)
{
	unsigned flags = 0;

	if (img_cache_mode(r->src_cache, &flags)) {
		img_error("Invalid source cache option: %s", r->src_cache);
		return -1;
	}
	c->src = calloc(r->sources, sizeof(*c->src));
	c->start = calloc(r->sources + 1, sizeof(*c->start));
	if (!c->src || !c->start) {
		img_error("%s", strerror(ENOMEM));
		return -1;
	}
	for (unsigned i = 0; i < r->sources; i++) {
		const struct img_source s = { r->names[i], r->in_format, r->in_opts, flags };

		c->src[i] = img_open_node(c->t, &s);
		if (!c->src[i])
			return -1;
		c->sources++;
		if (r->snapshot && r->sources > 1) {
			img_error("No support for concatenating multiple snapshot");
			return -1;
		}
		if (r->snapshot && img_load_snapshot(c->src[i], r->snapshot))
			return -1;
		c->start[i + 1] = c->start[i] + align_up(c->src[i]->size, 512);
	}
	c->total = c->start[c->sources];
	return 0;
}

/* What goes with what, of the backing file and compression. */
/* A new image reads as zeroes where it has nothing, or where a new file stands below. */
static bool is_empty(struct node *target)
{
	struct node_extent e;

	if (target->file && target->file->drv == &node_file)
		return true;
	return target->drv->has_backing && !node_status(target, 0, 1, &e) && !e.allocated;
}

static int check_target(const struct request *r)
{
	const struct node_driver *d = r->out_format ? node_driver_find(r->out_format) : NULL;
	const char *backing = r->backing ? r->backing : opts_get(r->o, "backing_file");
	const char *prealloc = opts_get(r->o, "preallocation"), *why = NULL;

	if (!r->no_create && !d) {
		img_error("Unknown file format '%s'", r->out_format);
		return -1;
	}
	if (r->target_zero && backing)
		why = "Cannot use --target-is-zero when the destination image has a backing file";
	else if (r->sources > 1 && backing)
		why = "Having a backing file for the target makes no sense when concatenating multiple input images";
	else if (backing && !r->no_create && !r->backing_format && !opts_get(r->o, "backing_fmt"))
		why = "Use of backing file requires explicit backing format";
	else if (r->compress && d && !d->compresses)
		why = "Compression not supported for this file format";
	else if (r->compress && (opts_get(r->o, "encryption") || opts_get(r->o, "encrypt.format")))
		why = "Compression and encryption not supported at the same time";
	else if (r->compress && prealloc && strcmp(prealloc, "off"))
		why = "Compression and preallocation not supported at the same time";
	if (why)
		img_error("%s", why);
	return why ? -1 : 0;
}

static int make_target(struct convert *c, const struct request *r)
{
	struct img_creation n = { .filename = r->target,
				  .format = r->out_format,
				  .backing = r->backing,
				  .backing_format = r->backing_format,
				  .o = r->o,
				  .size = -1,
				  .quiet = true };
	struct err err;

	if (r->no_create)
		return 0;
	opts_setf(n.o, "size", "%llu", (unsigned long long)c->total);
	if (!img_create_image(c->t, &n, &err))
		return 0;
	img_error("%s: error while converting %s: %s", r->target, r->out_format, err.msg);
	return -1;
}

/* A target that was there is no disk either until it has all of the source. */
static void mark_target(struct convert *c)
{
	const char *path = node_path(c->target);
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;

	if (fd < 0)
		return;
	incomplete_mark(&c->t->ctx, fd, path);
	close(fd);
}

static int open_target(struct convert *c, const struct request *r)
{
	struct img_source s = { r->target, r->out_format, r->out_opts, NODE_RDWR | NODE_RESIZE, .target = true };
	struct node_info i = { 0 };

	if (img_cache_mode(r->cache ? r->cache : "unsafe", &s.flags)) {
		img_error("Invalid cache option: %s", r->cache);
		return -1;
	}
	s.secrets = r->no_create ? NULL : r->o;
	incomplete_allow(&c->t->ctx, r->no_create);
	c->target = img_open_node(c->t, &s);
	incomplete_allow(&c->t->ctx, false);
	if (!c->target)
		return -1;
	if (r->no_create)
		mark_target(c);
	if (c->target->size < c->total && (r->no_create || c->target->size < align_down(c->total, 512))) {
		img_error("output file is smaller than input file");
		return -1;
	}
	if (c->target->drv->info)
		c->target->drv->info(c->target, &i);
	if (r->compress && !c->target->drv->compresses) {
		img_error("Compression not supported for this file format");
		return -1;
	}
	c->unit = i.cluster_size;
	c->cluster = r->compress ? i.cluster_size : 0;
	c->has_backing = r->backing || opts_get(r->o, "backing_file");
	c->zero_init = r->target_zero || (!r->no_create && !i.encrypted && !c->target->backing && is_empty(c->target));
	return 0;
}

static int convert(struct convert *c, const struct request *r)
{
	int ret = open_sources(c, r) || check_target(r);

	if (!ret && r->bitmaps && r->sources > 1) {
		img_error("Copying bitmaps only possible with single source");
		ret = -1;
	}
	if (!ret && r->bitmaps)
		ret = img_bitmaps_check(c->src[0], r->skip_broken);
	ret = ret || make_target(c, r) || open_target(c, r);
	if (!ret && r->bitmaps && !c->target->drv->bitmaps) {
		img_error("Format driver '%s' does not support bitmaps", c->target->drv->name);
		ret = -1;
	}
	if (!ret)
		ret = copy(c, (unsigned)r->coroutines) || node_flush(c->target);
	if (!ret && r->bitmaps)
		ret = img_bitmaps_copy(c->src[0], c->target, r->skip_broken);
	node_close(c->target);
	for (unsigned i = 0; i < c->sources; i++)
		node_close(c->src[i]);
	free(c->src);
	free(c->start);
	return ret ? 1 : 0;
}

static int start(struct img *t, const struct request *r)
{
	struct convert *c = calloc(1, sizeof(*c));
	int status;

	if (!c) {
		img_error("%s", strerror(ENOMEM));
		return 1;
	}
	c->t = t;
	c->salvage = r->salvage;
	c->unordered = r->unordered;
	c->rate.bytes = (uint64_t)r->rate;
	c->sparse = r->sparse < 0 ? SPARSE : (uint64_t)r->sparse;
	img_progress_begin(t, r->progress);
	status = convert(c, r);
	img_progress_end(t);
	free(c);
	return status;
}

static int choose_sparse(void *opaque, const char *text)
{
	int64_t *sparse = opaque;

	if (img_size("buffer size for sparse output", text, sparse))
		return -1;
	if (!(*sparse % 512) && *sparse <= 16 << 20)
		return 0;
	img_error("Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 up to %llu. "
		  "Select 0 to disable sparse detection (fully allocates output).",
		  16ull << 20);
	return -1;
}

struct o_list {
	struct opts *o;
	bool *given;
};

static int add_o(void *opaque, const char *text)
{
	struct o_list *l = opaque;

	*l->given = true;
	return img_add_options(l->o, text);
}

static const char *contradiction(const struct request *r)
{
	if (r->skip_broken && !r->bitmaps)
		return "Use of --skip-broken-bitmaps requires --bitmaps";
	if (r->compress && r->offload)
		return "Cannot enable copy offloading when -c is used";
	if (r->sparse >= 0 && r->offload)
		return "Cannot enable copy offloading when -S is used";
	if (r->offload && r->salvage)
		return "Cannot use copy offloading in salvaging mode";
	if (r->out_opts && !r->no_create)
		return "--target-image-opts requires use of -n flag";
	if (r->no_create && r->has_o)
		return "-o has no effect when skipping image creation";
	if (r->target_zero && !r->no_create)
		return "--target-is-zero requires use of -n flag";
	return NULL;
}

int img_convert(struct img *t, int argc, char **argv)
{
	struct request r = { .sparse = -1, .coroutines = 8, .o = opts_new() };
	struct o_list o = { r.o, &r.has_o };
	const char *why;
	int status;
	const struct img_option list[] = {
		IMG_ROW_FORMAT(NULL, &r.in_format),
		{ 'O', NULL, IMG_TEXT, &r.out_format, "FMT", "format of the copy (default: raw)" },
		IMG_ROW_O(&o, add_o),
		{ 'c', NULL, IMG_ON, &r.compress, NULL, "compress the copy" },
		{ 'B', NULL, IMG_TEXT, &r.backing, "FILE",
		  "backing file of the copy, which is what the source has for one" },
		{ 'F', NULL, IMG_TEXT, &r.backing_format, "FMT", "its format" },
		{ 'l', NULL, IMG_CALL, &r.snapshot, "SNAPSHOT", "copy one of the source, by its name or its ID",
		  .call = img_choose_snapshot },
		{ 'n', NULL, IMG_ON, &r.no_create, NULL, "OUTPUT is there: write into it" },
		{ 0, "target-is-zero", IMG_ON, &r.target_zero, NULL,
		  "with -n: it reads as zeroes, which need not be written" },
		{ 0, "bitmaps", IMG_ON, &r.bitmaps, NULL, "copy the persistent bitmaps too" },
		{ 0, "skip-broken-bitmaps", IMG_ON, &r.skip_broken, NULL,
		  "with --bitmaps: but not those that are inconsistent" },
		{ 'S', NULL, IMG_CALL, &r.sparse, "SIZE",
		  "runs of zeroes of so many bytes are left out (default: 4k); 0: none is", .call = choose_sparse },
		{ 'C', NULL, IMG_ON, &r.offload, NULL, "the host may copy by itself" },
		{ 'm', NULL, IMG_NUMBER, &r.coroutines, "N", "copy so many pieces at once, 1 to 16 (default: 8)",
		  "Invalid number of coroutines. Allowed number of coroutines is between 1 and 16", 1, 16 },
		{ 'W', NULL, IMG_ON, &r.unordered, NULL, "write in any order" },
		{ 0, "salvage", IMG_ON, &r.salvage, NULL, "what cannot be read is zeroes, instead of the end" },
		IMG_ROW_RATE(&r.rate),
		IMG_ROW_CACHE(&r.cache),
		IMG_ROW_SRC_CACHE(&r.src_cache),
		IMG_ROW_PROGRESS(&r.progress),
		IMG_ROW_QUIET(&t->quiet),
		IMG_ROW_SHARE(&t->force_share),
		IMG_ROW_IMAGE_OPTS(&r.in_opts),
		{ 0, "target-image-opts", IMG_ON, &r.out_opts, NULL, "with -n: OUTPUT is such a list" },
		{ 0 },
	};

	status = img_options(t, list, argc, argv);
	if (status >= 0)
		goto out;
	if (!r.out_format && !r.out_opts)
		r.out_format = "raw";
	status = 1;
	why = contradiction(&r);
	if (why) {
		img_error("%s", why);
		goto out;
	}
	if (r.out_format && img_option_help(r.o, r.out_format, optind < argc ? argv[argc - 1] : NULL, &status))
		goto out;
	if (argc - optind < 2) {
		img_error("Must specify image file name");
		goto out;
	}
	r.names = argv + optind;
	r.sources = (unsigned)(argc - optind - 1);
	r.target = argv[argc - 1];
	status = start(t, &r);
out:
	opts_free(r.o);
	return status;
}
