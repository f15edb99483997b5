/*
 * qcow2 images with dirty bitmaps, or with an external data file, that somebody has tampered with: opened for writing,
 * written, their bitmaps used, checked, repaired and closed. The first byte of the input says which and how; tamper.h
 * has the rest.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/bitmap.h"
#include "tamper.h"

#define DISK	  (64u * 1024)
#define TEMPLATES 4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct {
	const char *options;
	unsigned bitmaps;
} kinds[TEMPLATES] = {
	{ "cluster_size=512,size=64k", 3 },
	{ "cluster_size=1k,size=64k,refcount_bits=1", 2 },
	{ "cluster_size=512,size=64k,data_file=data", 1 },
	{ "cluster_size=512,size=64k,data_file=data,data_file_raw=on", 0 },
};
static struct template templates[TEMPLATES];
static uint64_t directory[TEMPLATES]; /* where the bitmaps are listed */
static struct node_ctx ctx;
static int image_fd, data_fd;
static unsigned choice;

static int open_image(void *opaque, const char *path, int flags)
{
	return dup(strcmp(path, "data") ? image_fd : data_fd);
}

static struct node *open_node(unsigned flags)
{
	struct opts *o = opts_new();
	struct err err;
	struct node *n;

	opts_parse(o, "driver=qcow2,file.driver=file,file.filename=image,file.locking=off", NULL, &err);
	n = node_open(&ctx, NULL, o, flags | NODE_NO_FLUSH | NODE_QUIET, &err);
	opts_free(o);
	return n;
}

static void act(struct node *n, enum bitmap_action a, const char *name)
{
	struct bitmap_request r = { .action = a, .name = name, .granularity = 512, .src = n, .src_name = "b0" };
	struct err err;

	n->drv->bitmaps->act(n, &r, &err);
}

static uint64_t directory_of(const struct template *t)
{
	/* Behind the header, perhaps after the name of the data file. */
	for (const uint8_t *p = t->bytes + 112; p < t->bytes + 300; p += 8)
		if (ld_be32(p) == 0x23852875)
			return ld_be64(p + 24);
	return 0;
}

static void make_templates(void *opaque)
{
	static const char *const names[] = { "b0", "b1", "b2" };
	char buf[4096];

	memset(buf, 'f', sizeof(buf));
	for (unsigned i = 0; i < TEMPLATES; i++) {
		struct opts *o = opts_new();
		struct err err;
		struct node *n;

		opts_parse(o, kinds[i].options, NULL, &err);
		image_fd = memfd_create("image", MFD_CLOEXEC);
		data_fd = memfd_create("data", MFD_CLOEXEC);
		if (node_qcow2.create(&ctx, "image", o, &err) || !(n = open_node(NODE_RDWR))) {
			fprintf(stderr, "%s\n", err.msg);
			abort();
		}
		for (unsigned b = 0; b < kinds[i].bitmaps; b++)
			act(n, BITMAP_ADD, names[b]);
		node_write(n, 100, buf, 4000);
		node_write(n, 40000, buf, 700);
		node_close(n);
		template_take(&templates[i], image_fd);
		directory[i] = directory_of(&templates[i]);
		close(data_fd);
		opts_free(o);
	}
}

static void drive(void *opaque)
{
	static uint8_t buf[DISK];
	struct node *n = open_node(choice & 4 ? 0 : NODE_RDWR);
	struct node_check c = { 0 };
	struct bitmap_info *list;
	unsigned count;

	if (!n)
		return;
	if (!n->drv->bitmaps->list(n, &list, &count))
		free(list);
	node_read(n, 0, buf, n->size < DISK ? n->size : DISK);
	if (choice & 8)
		n->drv->check(n, &c, choice & 4 ? 0 : choice >> 4 & 3);
	if (!node_readonly(n)) {
		node_write(n, 512, buf, 5000);
		node_discard(n, 0, 4096);
		node_zeroes(n, 40000, 8000, BLOCK_REQ_UNMAP);
		if (choice & 64) {
			act(n, BITMAP_MERGE, "b1");
			act(n, BITMAP_CLEAR, "b0");
		}
		if (choice & 128) {
			act(n, BITMAP_REMOVE, "b0");
			act(n, BITMAP_ADD, "b3");
		}
	}
	node_close(n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err;

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
	image_fd = template_tampered(&templates[choice & 3], directory[choice & 3], data + 1, size - 1);
	data_fd = memfd_create("data", MFD_CLOEXEC);
	if (data_fd < 0 || ftruncate(data_fd, DISK))
		abort();
	node_ctx_run(&ctx, drive, NULL);
	close(image_fd);
	close(data_fd);
	return 0;
}
