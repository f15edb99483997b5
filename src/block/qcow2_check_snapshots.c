/* Checking and repairing the table of a qcow2 image's snapshots. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2_check.h"
#include "block/qcow2_header.h"

#define EXTRA_V3 16u /* bytes of extra data that version 3 asks for */

static int failed(struct node_check *c, int ret, const char *what, const char *why)
{
	fprintf(stderr, "%s: ERROR %s%s", program_invocation_short_name, what, why);
	if (!*why || why[strlen(why) - 1] != '\n')
		fputc('\n', stderr);
	c->check_errors++;
	return ret;
}

/* Nothing was read, so there is nothing. */
static int forget(struct node *n, int ret)
{
	struct qcow2 *s = qc(n);

	qc_snapshots_free(s);
	s->snap_offset = s->snap_bytes = s->snap_count = 0;
	return ret;
}

/* The header's count, and where the table is. */
static int find_table(struct node *n, struct node_check *c, struct qc_mend *mend, unsigned fix)
{
	struct qcow2 *s = qc(n);
	uint8_t h[QH_SNAP_TABLE + 8];
	struct err err;
	uint64_t most;
	int ret = node_read(n->file, 0, h, sizeof(h));

	if (ret)
		return failed(c, ret,
			      "failed to read the snapshot table pointer from the image header: ", strerror(-ret));
	struct qc_table t = QC_SNAPSHOT_TABLE(h, "snapshot table");

	most = t.offset ? QCOW2_MAX_SNAPSHOTS : 0; /* the header is no table */
	if (t.entries > most && fix & CHECK_FIX_ERRORS) {
		mend->left_out = (uint32_t)(t.entries - most);
		fprintf(stderr, "Discarding %u overhanging snapshots\n", mend->left_out);
		t.entries = most;
	}
	ret = qc_validate_table(s, &t, &err);
	if (ret) {
		failed(c, ret, "", err.msg);
		if (t.entries > QCOW2_MAX_SNAPSHOTS)
			fprintf(stderr,
				"You can force-remove all %u overhanging snapshots with qemu-img check -r all\n",
				(unsigned)(t.entries - QCOW2_MAX_SNAPSHOTS));
		return ret;
	}
	s->snap_offset = t.offset;
	s->snap_count = (uint32_t)t.entries;
	return 0;
}

/* The count that the header has is what is counted by: what lies behind is a leak then. */
static int shorten(struct node *n, struct node_check *c, uint32_t left_out)
{
	uint8_t be[4];
	int ret;

	st_be32(be, qc(n)->snap_count);
	ret = node_write(n->file, QH_SNAPSHOTS, be, sizeof(be));
	if (!ret)
		ret = node_flush(n->file);
	if (ret)
		return failed(c, ret, "failed to update the snapshot count in the image header: ", strerror(-ret));
	c->corruptions_fixed += left_out;
	return 0;
}

int qc_check_read_snapshots(struct node *n, struct node_check *c, unsigned fix)
{
	struct qcow2 *s = qc(n);
	struct qc_mend mend = { 0 };
	struct err err;
	int ret;

	forget(n, 0);
	ret = find_table(n, c, &mend, fix);
	if (ret)
		return forget(n, ret);
	ret = qc_snapshots_read(n, fix & CHECK_FIX_ERRORS ? &mend : NULL, &err);
	if (ret)
		return forget(n, failed(c, ret, "failed to read the snapshot table: ", err.msg));
	c->corruptions += mend.cut;
	if (mend.left_out)
		ret = shorten(n, c, mend.left_out);
	for (uint32_t i = 0; !ret && s->version >= 3 && i < s->snap_count; i++) {
		if (s->snaps[i].stored_extra >= EXTRA_V3)
			continue;
		c->corruptions++;
		fprintf(stderr, "%s snapshot table entry %u is incomplete\n",
			fix & CHECK_FIX_ERRORS ? "Repairing" : "ERROR", i);
	}
	return ret ? ret : qc_meta_all(n);
}

int qc_check_write_snapshots(struct node *n, struct node_check *c, unsigned fix)
{
	int ret;

	if (!c->corruptions || !(fix & CHECK_FIX_ERRORS))
		return 0;
	ret = qc_snapshots_write(n);
	if (ret)
		return failed(c, ret, "failed to update snapshot table: ", strerror(-ret));
	c->corruptions_fixed += c->corruptions;
	c->corruptions = 0;
	return 0;
}
