/* vireo img convert: several coroutines copy at once, each the next piece of the source. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cli/img_impl.h"

#define PIECE	   (2u << 20)
#define COROUTINES 8u
#define SPARSE	   4096u
#define SOURCES	   64u

struct convert {
	struct img *t;
	struct node *src[SOURCES];
	uint64_t start[SOURCES + 1]; /* where each begins in the whole */
	unsigned sources;
	struct node *target;
	uint64_t total, at, done;
	uint64_t sparse;  /* runs of zeroes of this length are not written; 0: all is written */
	uint64_t cluster; /* of compressed writes; 0: none */
	bool zero_init;	  /* the target reads as zeroes */
	bool has_backing; /* the target has what the source does not have itself */
	bool progress, salvage;
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

/* The next piece, and what is known of it. */
static int take(struct convert *c, struct piece *p)
{
	struct node_extent e;
	unsigned i = 0;
	uint64_t most;
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
		ret = node_status_chain(p->src, c->has_backing ? p->src->backing : NULL, p->in_src, most, &e);
		if (ret && !c->salvage) {
			img_error("error while reading block status at offset %lld: %s", (long long)c->at,
				  strerror(-ret));
			return ret;
		}
		p->bytes = ret ? PIECE : e.bytes;
		p->zero = !ret && e.zero && c->sparse;
		p->skip = !ret && !e.zero && !e.data && c->has_backing;
	}
	if (!p->zero && !p->skip && p->bytes > PIECE)
		p->bytes = PIECE;
	/* Clusters are compressed whole. */
	if (c->cluster && (p->offset + p->bytes) % c->cluster && p->offset + p->bytes < c->total) {
		uint64_t whole = align_down(p->offset + p->bytes, c->cluster);

		if (whole > p->offset) {
			p->bytes = whole - p->offset;
		} else {
			p->bytes = align_up(p->offset + p->bytes, c->cluster) - p->offset;
			if (p->bytes > c->total - p->offset)
				p->bytes = c->total - p->offset;
			p->zero = p->skip = false;
		}
	}
	c->at += p->bytes;
	return 0;
}

/* A piece may reach over the end of its source when clusters are whole. */
static int read_piece(struct convert *c, const struct piece *p, char *buf)
{
	uint64_t done = 0;

	while (done < p->bytes) {
		uint64_t at = p->offset + done, n = p->bytes - done;
		unsigned i = 0;
		int ret = 0;

		while (i + 1 < c->sources && at >= c->start[i + 1])
			i++;
		if (n > c->start[i + 1] - at)
			n = c->start[i + 1] - at;
		at -= c->start[i];
		if (at + n > c->src[i]->size) {
			uint64_t there = at < c->src[i]->size ? c->src[i]->size - at : 0;

			memset(buf + done + there, 0, n - there);
			ret = there ? node_read(c->src[i], at, buf + done, there) : 0;
		} else {
			ret = node_read(c->src[i], at, buf + done, n);
		}
		if (ret && !c->salvage) {
			img_error("error while reading at byte %lld: %s", (long long)(p->offset + done),
				  strerror(-ret));
			return ret;
		}
		if (ret)
			memset(buf + done, 0, n);
		done += n;
	}
	return 0;
}

static int write_run(struct convert *c, uint64_t offset, char *buf, uint64_t bytes, bool zero)
{
	struct iovec v = { buf, bytes };
	struct node_req r = { .op = BLOCK_WRITE, .offset = offset, .bytes = bytes, .iov = &v, .niov = 1 };
	int ret = 0;

	if (zero && c->zero_init)
		return 0;
	if (zero) {
		r.op = BLOCK_WRITE_ZEROES;
		r.flags = BLOCK_REQ_UNMAP;
	} else if (c->cluster) {
		r.flags = BLOCK_REQ_COMPRESSED;
	}
	ret = node_io(c->target, &r);
	if (ret)
		img_error("error while writing at byte %lld: %s", (long long)offset, strerror(-ret));
	return ret;
}

/* Write what is not zero, in runs of whole units. */
static int write_piece(struct convert *c, const struct piece *p, char *buf)
{
	uint64_t unit = c->cluster ? c->cluster : c->sparse, at = 0;
	int ret = 0;

	if (!unit || !c->sparse)
		return write_run(c, p->offset, buf, p->bytes, false);
	while (at < p->bytes && !ret) {
		uint64_t end = at;
		bool zero = false, first = true;

		while (end < p->bytes) {
			uint64_t stop = align_down(p->offset + end, unit) + unit - p->offset;
			bool z;

			if (stop > p->bytes)
				stop = p->bytes;
			z = img_is_zero(buf + end, stop - end);
			if (!first && z != zero)
				break;
			zero = z;
			first = false;
			end = stop;
		}
		ret = write_run(c, p->offset + at, buf + at, end - at, zero);
		at = end;
	}
	return ret;
}

static void worker(void *opaque)
{
	struct convert *c = opaque;
	char *buf = NULL;
	size_t room = PIECE + (c->cluster ? 2 * c->cluster : 0);

	if (posix_memalign((void **)&buf, 4096, room))
		c->status = -ENOMEM;
	while (!c->status) {
		struct piece p;
		int ret = 0;

		co_lock(&c->take);
		if (c->at >= c->total || c->status) {
			co_unlock(&c->take);
			break;
		}
		ret = take(c, &p);
		co_unlock(&c->take);
		if (!ret && p.zero && !p.skip)
			ret = write_run(c, p.offset, NULL, p.bytes, true);
		else if (!ret && !p.skip)
			ret = (ret = read_piece(c, &p, buf)) ? ret : write_piece(c, &p, buf);
		if (ret && !c->status)
			c->status = ret;
		c->done += p.bytes;
		img_progress(c->t, c->progress, (double)c->done * 100.0 / (double)c->total);
	}
	free(buf);
	if (!--c->running && c->boss)
		co_wake(c->boss);
}

static int copy(struct convert *c, unsigned coroutines)
{
	c->running = coroutines;
	img_progress(c->t, c->progress, 0);
	for (unsigned i = 0; i < coroutines; i++)
		if (co_start(worker, c)) {
			c->running--;
			c->status = i ? c->status : -ENOMEM;
		}
	c->boss = co_self();
	while (c->running)
		co_wait();
	if (!c->status)
		img_progress(c->t, c->progress, 100);
	return c->status;
}

/* --- the command --- */

struct request {
	const char *in_format, *out_format, *cache, *src_cache, *snapshot;
	const char *backing, *backing_format;
	struct opts *o;
	int64_t sparse;
	uint64_t coroutines;
	bool compress, no_create, progress, in_opts, out_opts, target_zero, salvage;
	char **names;
	unsigned sources;
	const char *target;
};

static int load_snapshot(struct node *n, const char *which)
{
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
		name = opts_get(o, "snapshot.id") ? opts_get(o, "snapshot.id") : opts_get(o, "snapshot.name");
	ret = name ? n->drv->snapshot_load(n, name, &err) : -EINVAL;
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
	for (unsigned i = 0; i < r->sources; i++) {
		const struct img_source s = { r->names[i], r->in_format, r->in_opts, flags };

		c->src[i] = img_open_node(c->t, &s);
		if (!c->src[i])
			return -1;
		c->sources++;
		if (r->snapshot && load_snapshot(c->src[i], r->snapshot))
			return -1;
		c->start[i + 1] = c->start[i] + align_up(c->src[i]->size, 512);
	}
	c->total = c->start[c->sources];
	return 0;
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

	if (!node_driver_find(r->out_format)) {
		img_error("Unknown file format '%s'", r->out_format);
		return -1;
	}
	if (r->no_create)
		return 0;
	if (!opts_get(n.o, "size"))
		n.size = (int64_t)c->total;
	if (!img_create_image(c->t, &n, &err))
		return 0;
	img_error("%s: error while converting %s: %s", r->target, r->out_format, err.msg);
	return -1;
}

static int open_target(struct convert *c, const struct request *r)
{
	struct img_source s = { r->target, r->out_opts ? NULL : r->out_format, r->out_opts, NODE_RDWR | NODE_RESIZE };
	struct node_info i = { 0 };

	if (img_cache_mode(r->cache ? r->cache : "unsafe", &s.flags)) {
		img_error("Invalid cache option: %s", r->cache);
		return -1;
	}
	c->target = img_open_node(c->t, &s);
	if (!c->target)
		return -1;
	if (c->target->size < c->total && (r->no_create || c->target->size < align_down(c->total, 512))) {
		img_error("output file is smaller than input file");
		return -1;
	}
	if (c->target->drv->info)
		c->target->drv->info(c->target, &i);
	if (r->compress && !i.compressed_writes) {
		img_error("Compression not supported for this file format");
		return -1;
	}
	c->cluster = r->compress ? i.cluster_size : 0;
	c->has_backing = r->backing || opts_get(r->o, "backing_file");
	c->zero_init = r->target_zero ||
		       (!r->no_create && !c->target->backing && c->target->file && c->target->file->drv == &node_file);
	return 0;
}

static int convert(struct img *t, const struct request *r)
{
	struct convert *c = calloc(1, sizeof(*c));
	int ret;

	c->t = t;
	c->progress = r->progress;
	c->salvage = r->salvage;
	c->sparse = r->sparse < 0 ? SPARSE : (uint64_t)r->sparse;
	ret = open_sources(c, r) || make_target(c, r) || open_target(c, r);
	if (!ret)
		ret = copy(c, (unsigned)r->coroutines) || node_flush(c->target);
	node_close(c->target);
	for (unsigned i = 0; i < c->sources; i++)
		node_close(c->src[i]);
	free(c);
	return ret ? 1 : 0;
}

static int set_option(struct img *t, struct request *r, int k)
{
	char *end;

	switch (k) {
	case 'f':
		r->in_format = optarg;
		break;
	case 'O':
		r->out_format = optarg;
		break;
	case 'B':
		r->backing = optarg;
		break;
	case 'F':
		r->backing_format = optarg;
		break;
	case 'c':
		r->compress = true;
		break;
	case 'o':
		return img_add_options(&r->o, optarg);
	case 'l':
		r->snapshot = optarg;
		break;
	case 'S':
		if (img_size("buffer size for sparse output", optarg, &r->sparse))
			return -1;
		if (r->sparse % 512) {
			img_error("Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 "
				  "up to %llu. "
				  "Select 0 to disable sparse detection (fully allocates output).",
				  16ull << 20);
			return -1;
		}
		break;
	case 'p':
		r->progress = true;
		break;
	case 'q':
		t->quiet = true;
		break;
	case 'n':
		r->no_create = true;
		break;
	case 'm':
		r->coroutines = strtoul(optarg, &end, 10);
		if (*end || r->coroutines < 1 || r->coroutines > 16) {
			img_error("Invalid number of coroutines. Allowed number of coroutines is between 1 and 16");
			return -1;
		}
		break;
	case 't':
		r->cache = optarg;
		break;
	case 'T':
		r->src_cache = optarg;
		break;
	case 'U':
		t->force_share = true;
		break;
	case IMG_IMAGE_OPTS:
		r->in_opts = true;
		break;
	case IMG_TARGET_OPTS:
		r->out_opts = true;
		break;
	case IMG_SALVAGE:
		r->salvage = true;
		break;
	case IMG_TARGET_ZERO:
		r->target_zero = true;
		break;
	case 'W':
	case 'C':
	case 'r':
	case IMG_OBJECT:
		break;
	default:
		return 1;
	}
	return 0;
}

int img_convert(struct img *t, int argc, char **argv)
{
	static const struct option longs[] = { { "help", no_argument, 0, 'h' },
					       { "object", required_argument, 0, IMG_OBJECT },
					       { "source-image-opts", no_argument, 0, IMG_IMAGE_OPTS },
					       { "image-opts", no_argument, 0, IMG_IMAGE_OPTS },
					       { "force-share", no_argument, 0, 'U' },
					       { "target-image-opts", no_argument, 0, IMG_TARGET_OPTS },
					       { "salvage", no_argument, 0, IMG_SALVAGE },
					       { "target-is-zero", no_argument, 0, IMG_TARGET_ZERO },
					       { 0 } };
	struct request r = { .out_format = "raw", .sparse = -1, .coroutines = COROUTINES, .o = opts_new() };
	int k, ret, status = 1;

	while ((k = getopt_long(argc, argv, ":hf:O:B:CcF:o:l:S:pt:T:qnm:WUr:", longs, NULL)) != -1) {
		ret = set_option(t, &r, k);
		if (ret > 0)
			img_bad_option(k, argv);
		if (ret)
			goto out;
	}
	if (img_option_help(r.o, r.out_format, optind < argc ? argv[argc - 1] : NULL, &status))
		goto out;
	if (argc - optind < 2 || argc - optind - 1 > (int)SOURCES) {
		img_error("Must specify image file name");
		goto out;
	}
	r.names = argv + optind;
	r.sources = (unsigned)(argc - optind - 1);
	r.target = argv[argc - 1];
	if (r.out_opts && !r.no_create)
		img_error("--target-image-opts requires use of -n flag");
	else if (r.target_zero && !r.no_create)
		img_error("--target-is-zero requires use of -n flag");
	else if ((r.backing || opts_get(r.o, "backing_file")) && !r.backing_format && !opts_get(r.o, "backing_fmt"))
		img_error("Use of backing file requires explicit backing format");
	else if (r.sources > 1 && (r.backing || opts_get(r.o, "backing_file")))
		img_error(
			"Having a backing file for the target makes no sense when concatenating multiple input images");
	else
		status = convert(t, &r);
out:
	opts_free(r.o);
	return status;
}
