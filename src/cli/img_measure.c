/* vireo img measure: how large the file of an image would become. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/luks.h"
#include "cli/img_impl.h"

struct measure {
	uint64_t size, data; /* of the disk; of what is stored, in whole clusters */
	uint64_t required, full, cluster;
};

static uint64_t divide_up(uint64_t a, uint64_t b)
{
	return (a + b - 1) / b;
}

/* Refcount blocks and their table, which count themselves too. */
static uint64_t refcounts_for(uint64_t clusters, uint64_t cluster, uint64_t bits)
{
	uint64_t per_block = cluster * 8 / bits, blocks = 0, table = 0, last, all = 0;

	do {
		last = all;
		blocks = divide_up(clusters + table + blocks, per_block);
		table = divide_up(blocks, cluster / 8);
		all = clusters + blocks + table;
	} while (all != last);
	return (blocks + table) * cluster;
}

/* L1 tables have a most that they may be. */
static bool too_large(uint64_t size, uint64_t cluster, bool extended)
{
	return divide_up(size / cluster, cluster / (extended ? 16 : 8)) * 8 > 32u << 20;
}

static void measure_qcow2(struct measure *m, uint64_t cluster, uint64_t bits, bool extended)
{
	uint64_t entry = extended ? 16 : 8, data = align_up(m->size, cluster), meta = cluster;
	uint64_t l2 = align_up(data / cluster, cluster / entry), l1 = align_up(l2 * entry / cluster, cluster / 8);

	meta += l2 * entry + l1 * 8;
	meta += refcounts_for((meta + data) / cluster, cluster, bits);
	m->full = meta + data;
	m->required = meta + m->data;
}

static int count_data(struct node *n, uint64_t cluster, struct measure *m)
{
	uint64_t last = UINT64_MAX;

	for (uint64_t at = 0; at < n->size;) {
		struct node_extent e;
		int ret = node_status_chain(n, NULL, at, n->size - at, &e);

		if (ret)
			return ret;
		if (e.data && !e.zero) {
			uint64_t first = at / cluster, end = divide_up(at + e.bytes, cluster);

			if (first == last)
				first++; /* the part of it before was counted */
			m->data += (end - first) * cluster;
			last = end - 1;
		}
		at += e.bytes;
	}
	return 0;
}

struct request {
	const char *format, *output, *snapshot;
	bool json;
	struct opts *o;
	int64_t size;
};

/* What the header of an encrypted image takes, by options with `prefix`; -1 after saying why. */
static int luks_header(struct img *t, const struct opts *o, const char *prefix, uint64_t *room)
{
	struct opts *copy = opts_copy(o);
	struct luks_wishes w;
	struct err err;
	int ret = luks_take_wishes(&w, copy, prefix, &err);

	if (!ret)
		ret = luks_room(&t->ctx, &w, room, &err);
	if (ret)
		img_error("%s", err.msg);
	opts_free(copy);
	return ret;
}

static int of_qcow2(struct img *t, struct node *n, const struct request *r, struct measure *m)
{
	const char *prealloc = opts_get(r->o, "preallocation"), *crypt = opts_get(r->o, "encrypt.format");
	uint64_t cluster, bits, room = 0;
	bool extended;
	struct opts *copy;
	struct err err;
	int ret;

	if (opts_size(r->o, "cluster_size", 65536, &cluster, &err) ||
	    opts_number(r->o, "refcount_bits", 16, &bits, &err) ||
	    opts_bool(r->o, "extended_l2", false, &extended, &err)) {
		img_error("%s", err.msg);
		return -1;
	}
	copy = opts_copy(r->o);
	ret = node_qcow2.check_create(copy, &err);
	opts_free(copy);
	if (ret) {
		img_error("%s", err.msg);
		return -1;
	}
	if (crypt && !strcmp(crypt, "luks") && luks_header(t, r->o, "encrypt.", &room))
		return -1;
	if (too_large(m->size, cluster, extended)) {
		img_error("The image size is too large (try using a larger cluster size)");
		return -1;
	}
	ret = n ? count_data(n, cluster, m) : 0;
	if (ret) {
		img_error("Unable to get block status: %s", strerror(-ret));
		return -1;
	}
	if (opts_get(r->o, "backing_file") && n)
		m->data = align_up(m->size, cluster); /* nothing may be the same */
	if (prealloc && (!strcmp(prealloc, "falloc") || !strcmp(prealloc, "full")))
		m->data = align_up(m->size, cluster);
	measure_qcow2(m, cluster, bits, extended);
	m->full += align_up(room, cluster);
	m->required += align_up(room, cluster);
	m->cluster = cluster;
	return 0;
}

/* All of it is stored, whatever it is. */
static int of_luks(struct img *t, const struct request *r, struct measure *m)
{
	uint64_t room;

	if (luks_header(t, r->o, "", &room))
		return -1;
	m->required = m->full = m->size + room;
	return 0;
}

static bool has_bitmaps(const struct node *n, const struct node_driver *d, const struct opts *o)
{
	const char *compat = opts_get(o, "compat");

	return d == &node_qcow2 && n && n->drv == &node_qcow2 &&
	       !(compat && (!strcmp(compat, "0.10") || !strcmp(compat, "v2")));
}

static void tell(struct node *n, const struct measure *m, bool bitmaps, bool json)
{
	unsigned long long bytes = bitmaps ? img_bitmaps_size(n, m->cluster) : 0;

	if (json) {
		json_t *o = json_pack("{s:I, s:I}", "required", (json_int_t)m->required, "fully-allocated",
				      (json_int_t)m->full);

		if (bitmaps)
			json_object_set_new(o, "bitmaps", json_integer((json_int_t)bytes));
		img_print_json(o);
		return;
	}
	printf("required size: %llu\nfully allocated size: %llu\n", (unsigned long long)m->required,
	       (unsigned long long)m->full);
	if (bitmaps)
		printf("bitmaps size: %llu\n", bytes);
}

static int measure(struct img *t, struct node *n, const struct request *r)
{
	const struct node_driver *d = node_driver_find(r->format);
	struct measure m = { 0 };
	struct err err;
	int ret = 0;

	if (!d) {
		img_error("Unknown file format '%s'", r->format);
		return 1;
	}
	if (d != &node_raw && d != &node_qcow2 && d != &node_luks) {
		img_error("Block driver '%s' does not support size measurement", d->name);
		return 1;
	}
	if (img_check_create_options(d->create_options, node_file.create_options, r->o, &err)) {
		img_error("%s", err.msg);
		img_error("Invalid options for file format '%s'", d->name);
		return 1;
	}
	m.size = n ? n->size : (uint64_t)r->size;
	if (n || d != &node_luks)
		m.size = align_up(m.size, 512);
	if (d == &node_qcow2)
		ret = of_qcow2(t, n, r, &m);
	else if (d == &node_luks)
		ret = of_luks(t, r, &m);
	else
		m.required = m.full = m.size;
	if (!ret)
		tell(n, &m, has_bitmaps(n, d, r->o), r->json);
	return ret ? 1 : 0;
}

int img_measure(struct img *t, int argc, char **argv)
{
	struct request r = { .format = "raw", .o = opts_new(), .size = -1 };
	struct img_source s = { .flags = NODE_NO_IO };
	struct node *n = NULL;
	int status;
	const struct img_option list[] = {
		{ 'O', NULL, IMG_TEXT, &r.format, "FMT", "format that the image would get (default: raw)" },
		IMG_ROW_O(r.o, img_add_options),
		{ 0, "size", IMG_SIZE, &r.size, "SIZE", "of a new disk, instead of FILENAME", "image size" },
		IMG_ROW_FORMAT(NULL, &s.format),
		IMG_ROW_IMAGE_OPTS(&s.is_opts),
		{ 'l', NULL, IMG_CALL, &r.snapshot, "SNAPSHOT", "measure one of the image, by its name or its ID",
		  .call = img_choose_snapshot },
		IMG_ROW_OUTPUT(&r.output),
		IMG_ROW_SHARE(&t->force_share),
		{ 0 },
	};

	status = img_options(t, list, argc, argv);
	if (status >= 0)
		goto out;
	status = 1;
	s.name = optind < argc ? argv[optind] : NULL;
	if (img_output(r.output, &r.json))
		goto out;
	if (argc - optind > 1)
		img_error("At most one filename argument is allowed.");
	else if (!s.name && (s.is_opts || s.format || r.snapshot))
		img_error("--image-opts, -f, and -l require a filename argument.");
	else if (s.name && r.size >= 0)
		img_error("--size N cannot be used together with a filename.");
	else if (!s.name && r.size < 0)
		img_error("Either --size N or one filename must be specified.");
	else if (!s.name || ((n = img_open_node(t, &s)) && !(r.snapshot && img_load_snapshot(n, r.snapshot))))
		status = measure(t, n, &r);
	node_close(n);
out:
	opts_free(r.o);
	return status;
}
