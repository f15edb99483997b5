/*
 * A qcow2 image that somebody has tampered with, opened for writing, read, written and checked. The input says which
 * good image to begin with and what to write over it: records of an offset (16 bits), a length (8 bits) and bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/node.h"
#include "tamper.h"

#define TEMPLATES 4u
#define DISK	  (64u * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct template templates[TEMPLATES];
static struct node_ctx ctx;
static int image_fd;

/* Every name is the image: one that it names as its backing file too. */
static int open_image(void *opaque, const char *path, int flags)
{
	return dup(image_fd);
}

static struct node *open_node(unsigned flags)
{
	struct opts *o = opts_new();
	struct err err;
	struct node *n;

	opts_set(o, "driver", "qcow2");
	opts_set(o, "file.driver", "file");
	opts_set(o, "file.filename", "image");
	opts_set(o, "file.locking", "off");
	n = node_open(&ctx, NULL, o, flags | NODE_NO_FLUSH, &err);
	opts_free(o);
	return n;
}

static void fill(struct node *n)
{
	struct node_snapshot sn = { .name = (char *)"s" };
	struct err err;
	char buf[4096];
	struct iovec v = { buf, sizeof(buf) };
	struct node_req r = {
		.op = BLOCK_WRITE, .flags = BLOCK_REQ_COMPRESSED, .offset = 16384, .bytes = 4096, .iov = &v, .niov = 1
	};

	memset(buf, 'f', sizeof(buf));
	node_write(n, 100, buf, 3000);
	node_io(n, &r);
	node_zeroes(n, 8192, 4096, 0);
	n->drv->snapshot_create(n, &sn, &err);
	node_write(n, 0, buf, 1000);
}

static void make_templates(void *opaque)
{
	static const char *const options[TEMPLATES] = { "cluster_size=512", "cluster_size=4k,compression_type=zstd",
							"cluster_size=512,compat=0.10",
							"cluster_size=1k,lazy_refcounts=on,refcount_bits=1" };

	for (unsigned i = 0; i < TEMPLATES; i++) {
		struct opts *o = opts_new();
		struct err err;
		struct node *n;

		opts_parse(o, options[i], NULL, &err);
		opts_setf(o, "size", "%u", DISK);
		image_fd = memfd_create("image", MFD_CLOEXEC);
		if (node_qcow2.create(&ctx, "image", o, &err) || !(n = open_node(NODE_RDWR))) {
			fprintf(stderr, "%s\n", err.msg);
			abort();
		}
		fill(n);
		node_close(n);
		template_take(&templates[i], image_fd);
		opts_free(o);
	}
}

static unsigned choice;

static void drive(void *opaque)
{
	static uint8_t buf[16384];
	struct node *n = open_node(choice & 4 ? 0 : NODE_RDWR);
	struct node_extent e;
	struct err err;
	struct node_check c = { 0 };

	if (!n)
		return;
	node_read(n, 0, buf, n->size < sizeof(buf) ? n->size : sizeof(buf));
	node_read(n, 16384, buf, 4096);
	node_status_chain(n, NULL, 0, DISK, &e);
	if (choice & 8)
		n->drv->check(n, &c, choice & 4 ? 0 : choice >> 4 & 3);
	node_write(n, 512, buf, 5000);
	node_zeroes(n, 10000, 9000, BLOCK_REQ_UNMAP);
	node_discard(n, 0, 4096);
	node_write(n, 30000, buf, 100);
	if (choice & 64 && !node_readonly(n))
		n->drv->snapshot_apply(n, "s", &err);
	if (choice & 128 && !node_readonly(n))
		n->drv->snapshot_delete(n, "s", &err);
	node_flush(n);
	node_close(n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err;
	unsigned i;

	if (!templates[0].bytes) {
		if (node_ctx_init(&ctx, &err))
			abort();
		ctx.aio = NODE_AIO_THREADS;
		ctx.open_path = open_image;
		node_ctx_run(&ctx, make_templates, NULL);
	}
	if (!size)
		return 0;
	choice = data[0];
	i = choice & 3;
	image_fd = template_tampered(&templates[i], 0, data + 1, size - 1);
	node_ctx_run(&ctx, drive, NULL);
	close(image_fd);
	return 0;
}
