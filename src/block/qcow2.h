/*
 * qcow2, as of QEMU's docs/interop/qcow2.txt: what its files share. Private to them; the thread of the node's loop.
 *
 * Who changes metadata holds `lock`, over waits too. Reading a table needs no lock: an entry is looked at between two
 * waits. "Waits" as in node.h.
 */
#ifndef VIREO_BLOCK_QCOW2_H
#define VIREO_BLOCK_QCOW2_H

#include "block/node.h"

#define QCOW2_MAGIC	     0x514649fbu
#define QCOW2_MIN_BITS	     9u
#define QCOW2_MAX_BITS	     21u
#define QCOW2_MAX_L1	     (32u << 20) /* bytes, as all tables below */
#define QCOW2_MAX_REFTABLE   (8u << 20)
#define QCOW2_MAX_SNAPSHOTS  65536u
#define QCOW2_MAX_SNAP_TABLE (1024u * QCOW2_MAX_SNAPSHOTS)
#define QCOW2_MAX_BITMAP_DIR (1024u * 65535u)
#define QCOW2_MAX_BACKING    1023u

#define QCOW2_INCOMPAT_DIRTY	   (1ull << 0)
#define QCOW2_INCOMPAT_CORRUPT	   (1ull << 1)
#define QCOW2_INCOMPAT_DATA_FILE   (1ull << 2)
#define QCOW2_INCOMPAT_COMPRESSION (1ull << 3)
#define QCOW2_INCOMPAT_EXTL2	   (1ull << 4)
#define QCOW2_INCOMPAT_KNOWN	   0x1full
#define QCOW2_COMPAT_LAZY	   (1ull << 0)
#define QCOW2_AUTOCLEAR_BITMAPS	   (1ull << 0)
#define QCOW2_AUTOCLEAR_DATA_RAW   (1ull << 1)

#define QCOW2_EXT_END	    0u
#define QCOW2_EXT_BACKING   0xe2792acau
#define QCOW2_EXT_FEATURES  0x6803f857u
#define QCOW2_EXT_CRYPTO    0x0537be77u
#define QCOW2_EXT_BITMAPS   0x23852875u
#define QCOW2_EXT_DATA_FILE 0x44415441u

#define L2_COPIED     (1ull << 63)
#define L2_COMPRESSED (1ull << 62)
#define L2_ZERO	      1ull
#define L2_OFFSET     0x00fffffffffffe00ull
#define L1_OFFSET     0x00fffffffffffe00ull
#define RT_OFFSET     0xfffffffffffffe00ull

/* Where the fields of the header are. */
enum {
	QH_VERSION = 4,
	QH_BACKING = 8,
	QH_BACKING_LEN = 16,
	QH_BITS = 20,
	QH_SIZE = 24,
	QH_CRYPT = 32,
	QH_L1_SIZE = 36,
	QH_L1 = 40,
	QH_RT = 48,
	QH_RT_CLUSTERS = 56,
	QH_SNAPSHOTS = 60,
	QH_SNAP_TABLE = 64,
	QH_V2_LENGTH = 72,
	QH_INCOMPAT = 72,
	QH_COMPAT = 80,
	QH_AUTOCLEAR = 88,
	QH_ORDER = 96,
	QH_LENGTH = 100,
	QH_COMPRESSION = 104,
	QH_V3_LENGTH = 112,
};

/* What the clusters of metadata are, for the check before each write. */
enum qc_meta {
	META_NONE = 0,
	META_HEADER = 1,
	META_ACTIVE_L1 = 2,
	META_ACTIVE_L2 = 4,
	META_REFTABLE = 8,
	META_REFBLOCK = 16,
	META_SNAP_TABLE = 32,
	META_INACTIVE_L1 = 64,
	META_BITMAPS = 128,
};

struct qc_metaset {
	struct {
		uint64_t cluster_1; /* number + 1; 0: free */
		uint8_t type;
	} * at;
	size_t n, room; /* a power of two */
};

/* --- caches of tables --- */

struct qc_entry {
	uint64_t offset;
	void *table;
	bool dirty, loading;
	unsigned refs;
	struct qc_entry *hash_next, *prev, *next; /* by use, the latest first */
	struct co_queue waiting;
};

#define QC_HASH 1024u

struct qc_cache {
	size_t bytes; /* of one table */
	unsigned n, max, dirty;
	bool depends_on_flush;	  /* data must be on stable storage before what is dirty here */
	struct qc_cache *depends; /* and this other cache must be */
	enum qc_meta type;
	struct qc_entry *hash[QC_HASH];
	struct qc_entry *first, *last;
};

/* A range of the guest's bytes that is being written to new clusters. */
struct qc_alloc {
	uint64_t first, end; /* clusters' guest offsets */
	struct co_queue waiting;
	struct qc_alloc *next;
};

struct qc_extension {
	uint32_t magic, len;
	uint8_t *data;
	struct qc_extension *next;
};

struct qc_range {
	uint64_t first, n; /* clusters */
};

#define QC_QUARANTINE 64u
#define QC_DISCARDS   4096u

/* Of qcow2_bitmap.h. */
struct qc_bitmaps {
	struct qc_bitmap *at;
	unsigned n;
	bool changed;		/* what the directory says */
	bool tracking;		/* bits of all that are enabled are in memory, and the file says that they are in use */
	struct qc_bitmap *gone; /* removed, whose clusters are freed when the directory has been written */
	unsigned n_gone;
};

struct qcow2 {
	unsigned version, bits, crypt, order;
	uint64_t cluster; /* bytes */
	uint64_t incompat, compat, autoclear;
	uint8_t compression; /* 0 zlib, 1 zstd */
	uint32_t header_length;
	bool extended, lazy, corrupt_said, free_said;
	bool ragged;	   /* the file may end within a cluster of data */
	bool stay_dirty;   /* a change of many counts was left half done: who opens the image next repairs it */
	int preallocated;  /* 1 yes, -1 no, 0 not known yet */
	struct node *data; /* the data file, or the file itself */
	bool external, external_raw;
	char *data_file_name;

	uint64_t *l1, l1_offset;
	uint32_t l1_size;			   /* entries */
	unsigned l2_bits, entry_bytes, slice_bits; /* entries of a table; of a part that is cached */
	unsigned sub_bits;			   /* of a subcluster's bytes; without extended L2 of a cluster's */
	uint64_t *rt, rt_offset;
	uint32_t rt_size, rt_clusters;
	unsigned rb_bits; /* entries of a refcount block */

	struct qc_cache l2c, rbc;
	struct qc_metaset meta;
	struct co_mutex lock;
	struct qc_alloc *allocs;

	uint64_t free_hint;			   /* cluster; below it no free one is looked for */
	uint64_t freed_min;			   /* the lowest one that was freed since the last flush */
	struct qc_range quarantine[QC_QUARANTINE]; /* freed since then: not to be used again before */
	unsigned quarantined;
	struct qc_range *discards; /* of these, what the file shall give back to the host after the next flush */
	unsigned n_discards, discards_room;
	/* Compressed clusters find their places in the order in which they came, though they are compressed at once. */
	uint64_t compress_next, compress_turn;
	struct co_queue compress_waiting;
	uint64_t byte_offset; /* behind the last compressed cluster; 0: none */

	/* Requests on their way, and those that others must wait for. */
	struct node_req *tracked;
	unsigned exclusive;
	struct co_queue finished;

	uint32_t snap_count;
	uint64_t snap_offset, snap_bytes;
	struct qc_snapshot *snaps;

	struct qc_extension *unknown; /* kept when the header is written */
	uint8_t *unknown_fields;
	uint32_t unknown_fields_len;
	uint8_t *feature_names;
	uint32_t feature_names_len;
	struct qc_bitmaps bitmaps;
	uint32_t bitmap_count; /* of the header, as the next two */
	uint64_t bitmap_dir, bitmap_dir_bytes;
	uint64_t crypto_offset, crypto_bytes;
	struct qc_crypt *enc; /* qcow2_crypt.h; NULL: not encrypted */
};

/* What part of the image a guest's range is. */
enum qc_type { QC_UNALLOCATED, QC_UNALLOCATED_ALLOC, QC_ZERO, QC_ZERO_ALLOC, QC_NORMAL, QC_COMPRESSED };

struct qc_map {
	enum qc_type type;
	uint64_t bytes;
	uint64_t host;	/* of the first byte, where there is a host cluster */
	uint64_t entry; /* QC_COMPRESSED: the L2 entry */
	bool copied;
};

static inline struct qcow2 *qc(const struct node *n)
{
	return n->state;
}

/* qcow2_cache.c. Entries are held between get and put; only who holds the lock writes to them. */
int qc_cache_get(struct node *n, struct qc_cache *c, uint64_t offset, bool load, struct qc_entry **e);
struct qc_entry *qc_cache_peek(struct qc_cache *c, uint64_t offset); /* not held; NULL: not there */
void qc_cache_put(struct qc_cache *c, struct qc_entry *e);
void qc_cache_dirty(struct qc_cache *c, struct qc_entry *e);
/* What is dirty in `c` may not be written before what is dirty in `on`. */
int qc_cache_depend(struct node *n, struct qc_cache *c, struct qc_cache *on);
int qc_cache_write(struct node *n, struct qc_cache *c);
void qc_cache_forget(struct qc_cache *c, uint64_t offset, uint64_t bytes);
void qc_cache_free(struct qc_cache *c);
/* Write back when most of a cache is dirty; before each change. The lock is held. */
int qc_trim(struct node *n);
int qc_write_caches(struct node *n);
/* Everything to stable storage; the lock is held. */
int qc_flush(struct node *n);

/* qcow2_meta.c: where metadata is */
int qc_meta_add(struct qcow2 *s, uint64_t offset, uint64_t bytes, enum qc_meta type);
void qc_meta_del(struct qcow2 *s, uint64_t offset, uint64_t bytes);
/* 0, or -EIO when a write there would destroy metadata other than of type `own`: marks the image as corrupt. */
int qc_check_overlap(struct node *n, uint64_t offset, uint64_t bytes, unsigned own);
/* No metadata is there. */
bool qc_is_data(const struct qcow2 *s, uint64_t offset, uint64_t bytes);
void qc_corrupt(struct node *n, bool fatal, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* qcow2_refcount.c; the lock is held. */
enum qc_discard { QC_DISCARD_NEVER, QC_DISCARD_REQUEST, QC_DISCARD_SNAPSHOT, QC_DISCARD_UNDO };
uint64_t qc_refcount_of(const void *block, unsigned order, uint64_t i);
void qc_refcount_set(void *block, unsigned order, uint64_t i, uint64_t v);
int qc_refcount(struct node *n, uint64_t cluster, uint64_t *out);
int qc_refcount_add(struct node *n, uint64_t offset, uint64_t bytes, int64_t delta, enum qc_discard d);
/* Host offset of `n_clusters` free clusters in a row, now with refcount 1; or -errno. */
int64_t qc_alloc(struct node *n, uint64_t n_clusters);
/* As many of n_clusters from `offset` on as are free there. */
int64_t qc_alloc_at(struct node *n, uint64_t offset, uint64_t n_clusters);
int64_t qc_alloc_bytes(struct node *n, size_t bytes);
void qc_free(struct node *n, uint64_t offset, uint64_t bytes, enum qc_discard d);
/* Give freed clusters back to the host: nothing on stable storage names them any more. */
void qc_discard_freed(struct node *n);
/* Free the clusters that an L2 entry names. */
void qc_free_entry(struct node *n, uint64_t entry, enum qc_discard d);

/* qcow2_map.c */
/* `wait` false: -EAGAIN when a table is not cached. */
int qc_map(struct node *n, uint64_t offset, uint64_t bytes, bool wait, struct qc_map *m);
/* The part of the L2 table for `offset`, made and unshared; `*index` within it. The lock is held. */
int qc_l2_for_write(struct node *n, uint64_t offset, struct qc_entry **e, unsigned *index);
uint64_t qc_l2_entry(const struct qcow2 *s, const struct qc_entry *e, unsigned i);
uint64_t qc_l2_bitmap(const struct qcow2 *s, const struct qc_entry *e, unsigned i);
void qc_l2_set(const struct qcow2 *s, struct qc_entry *e, unsigned i, uint64_t entry, uint64_t bitmap);
/* Where a compressed cluster is. */
void qc_compressed_place(const struct qcow2 *s, uint64_t entry, uint64_t *offset, uint32_t *bytes);
int qc_write_l1_entry(struct node *n, uint32_t index);

/* qcow2_io.c, qcow2_write.c, qcow2_zero.c */
void qc_submit(struct node *n, struct node_req *r);
int qc_read(struct node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, unsigned niov);
int qc_write(struct node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, unsigned niov);
/* A flag of ours: parts of clusters that read as zeroes already stay as they are. */
#define QC_ZERO_IF_NOT (1u << 31)
int qc_write_zeroes(struct node *n, uint64_t offset, uint64_t bytes, uint32_t flags);
/* All that it has is its backing node's again. */
int qc_make_empty(struct node *n);
int qc_discard(struct node *n, uint64_t offset, uint64_t bytes);
/* Take whole clusters away as if they had never been written (the end of a disk that shrinks). */
int qc_cut(struct node *n, uint64_t offset, uint64_t end);
/* Map [offset, end) to new clusters without data (preallocation). */
int qc_preallocate(struct node *n, uint64_t offset, uint64_t end, enum node_prealloc mode, struct err *err);

/* qcow2_compress.c */
int qc_write_compressed(struct node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, unsigned niov);
int qc_read_compressed(struct node *n, uint64_t entry, uint64_t in_cluster, uint64_t bytes, void *out);

/* qcow2.c */
int qc_meta_all(struct node *n); /* the set of clusters with metadata, from all tables */

/* qcow2_header.c */
int qc_update_header(struct node *n);
int qc_mark_dirty(struct node *n);
int qc_mark_clean(struct node *n);

/* qcow2_create.c */
extern const struct node_create_option qc_create_options[];
int qc_check_create(struct opts *o, struct err *err);
int qc_create(struct node_ctx *c, const char *filename, struct opts *o, struct err *err);
int qc_truncate(struct node *n, const struct node_resize *how, struct err *err);
int qc_grow_l1(struct node *n, uint64_t entries, bool exact);

/* qcow2_amend.c */
extern const struct node_create_option qc_amend_options[];
int qc_amend(struct node *n, struct opts *o, bool force, struct err *err);

/* qcow2_check.c */
int qc_check(struct node *n, struct node_check *c, unsigned fix);

/* qcow2_snapshot.c */
struct qc_snapshot {
	struct node_snapshot s;
	uint64_t l1_offset;
	uint32_t l1_size;
	uint32_t stored_extra; /* bytes of extra data in the file */
	uint32_t stored_bytes; /* of it all there, without what a repair takes off */
	uint32_t extra_len;    /* of what we do not know */
	uint8_t *extra;
};
/* What a repair takes off a table: snapshots behind its largest size, and extra data. */
struct qc_mend {
	uint32_t left_out, cut;
};
int qc_snapshots_read(struct node *n, struct qc_mend *mend, struct err *err); /* NULL: do not mend anything */
void qc_snapshots_free(struct qcow2 *s);
int qc_snapshot_list(struct node *n, struct node_snapshot **out, unsigned *count);
int qc_snapshot_create(struct node *n, struct node_snapshot *sn, struct err *err);
int qc_snapshot_apply(struct node *n, const char *which, struct err *err);
int qc_snapshot_delete(struct node *n, const char *which, struct err *err);
int qc_snapshot_load(struct node *n, const char *which, struct err *err);
int qc_snapshots_write(struct node *n); /* the table anew; the lock is held */
/* 0 when the L1 table of a snapshot may be one. */
int qc_snapshot_check(struct node *n, const struct qc_snapshot *sn, struct err *err);
/* Add `delta` to the refcounts of all that an L1 table names, and set its COPIED flags. The lock is held. */
int qc_snapshot_refcounts(struct node *n, uint64_t l1_offset, uint32_t l1_size, int64_t delta);

/* What both creation and amend take, as QEMU shows it. */
#define QC_AMENDABLE_OPTIONS                                                                                           \
	{ "size", 'z', "Virtual disk size", NULL },                                                                    \
		{ "compat", 's', "Compatibility level (v2 [0.10] or v3 [1.1])", NULL },                                \
		{ "backing_file", 's', "File name of a base image", NULL },                                            \
		{ "backing_fmt", 's', "Image format of the base image", NULL },                                        \
		{ "data_file", 's', "File name of an external data file", NULL },                                      \
		{ "data_file_raw", 'b', "The external data file must stay valid as a raw image", NULL },               \
		{ "lazy_refcounts", 'b', "Postpone refcount updates", "off" },                                         \
	{                                                                                                              \
		"refcount_bits", 'n', "Width of a reference count entry in bits", "16"                                 \
	}

#endif
