/*
 * LUKS headers that somebody has tampered with, of a file by itself and within a qcow2 image: opened with the
 * passphrase, shown, read, written, and key slots added and erased. Iterations are kept few: how many a header may ask
 * for is another test's (project/test_img.py). The first byte says which and how; tamper.h has the rest.
 */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/secret.h"
#include "tamper.h"

#define FEW 100u /* iterations */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct template templates[2];
static struct node_ctx ctx;
static int image_fd;
static unsigned choice;
static uint64_t header; /* where it is in the file */

static const struct node_driver *driver(void)
{
	return choice & 1 ? &node_qcow2 : node_driver_find("luks");
}

static int open_image(void *opaque, const char *path, int flags)
{
	return dup(image_fd);
}

static struct node *open_node(unsigned flags)
{
	struct opts *o = opts_new();
	struct err err;
	struct node *n;

	opts_parse(o, "file.driver=file,file.filename=image,file.locking=off", NULL, &err);
	opts_set(o, "driver", driver()->name);
	opts_set(o, choice & 1 ? "encrypt.key-secret" : "key-secret", "s0");
	n = node_open(&ctx, NULL, o, flags | NODE_NO_FLUSH | NODE_QUIET, &err);
	opts_free(o);
	return n;
}

static void make_templates(void *opaque)
{
	for (choice = 0; choice < 2; choice++) {
		struct opts *o = opts_new();
		struct err err;

		opts_parse(o,
			   choice ? "size=64k,cluster_size=512,encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-"
				    "time=1"
				  : "size=64k,key-secret=s0,iter-time=1",
			   NULL, &err);
		image_fd = memfd_create("image", MFD_CLOEXEC);
		if (driver()->create(&ctx, "image", o, &err)) {
			fprintf(stderr, "%s\n", err.msg);
			abort();
		}
		template_take(&templates[choice], image_fd);
		opts_free(o);
	}
	for (size_t i = 512; i + 6 < templates[1].len && !header; i += 512)
		if (!memcmp(templates[1].bytes + i, "LUKS\xba\xbe", 6))
			header = i;
}

/* The digest's and each slot's. */
static void keep_few(uint64_t at)
{
	for (unsigned i = 0; i < 9; i++) {
		uint64_t place = at + (i ? 208 + 48 * (i - 1) + 4 : 164);
		uint8_t be[4];

		if (pread(image_fd, be, 4, (off_t)place) == 4 && ld_be32(be) > FEW) {
			st_be32(be, ld_be32(be) % FEW);
			if (pwrite(image_fd, be, 4, (off_t)place) != 4)
				abort();
		}
	}
}

static void amend(struct node *n, const char *text)
{
	struct opts *o = opts_new(), *with = opts_new();
	const char *key, *value;
	struct err err;
	char name[64];

	opts_parse(o, text, NULL, &err);
	for (unsigned i = 0; opts_at(o, i, &key, &value); i++) {
		snprintf(name, sizeof(name), "%s%s", choice & 1 ? "encrypt." : "", key);
		opts_set(with, name, value);
	}
	if (n->drv->amend)
		n->drv->amend(n, with, false, &err);
	opts_free(o);
	opts_free(with);
}

static void drive(void *opaque)
{
	static uint8_t buf[8192];
	struct node *n = open_node(choice & 4 ? 0 : NODE_RDWR);

	if (!n)
		return;
	json_decref(n->drv->specifics ? n->drv->specifics(n) : NULL);
	node_read(n, 0, buf, n->size < sizeof(buf) ? n->size : sizeof(buf));
	if (!node_readonly(n) && n->size >= 8192)
		node_write(n, 700, buf, 3000);
	if (!node_readonly(n) && (choice & 24) == 24)
		amend(n, "state=active,new-secret=s1,iter-time=1");
	if (!node_readonly(n) && choice & 64)
		amend(n, "state=inactive,old-secret=s0");
	node_close(n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err;

	if (!templates[0].bytes) {
		struct opts *o = opts_new(), *p = opts_new();

		if (node_ctx_init(&ctx, &err))
			abort();
		ctx.aio = NODE_AIO_THREADS;
		ctx.open_path = open_image;
		opts_parse(o, "qom-type=secret,id=s0,data=one", NULL, &err);
		opts_parse(p, "qom-type=secret,id=s1,data=two", NULL, &err);
		if (secret_add(&ctx, o, &err) || secret_add(&ctx, p, &err))
			abort();
		opts_free(o);
		opts_free(p);
		node_ctx_run(&ctx, make_templates, NULL);
	}
	if (!size)
		return 0;
	choice = data[0];
	image_fd = template_tampered(&templates[choice & 1], choice & 1 ? header : 0, data + 1, size - 1);
	keep_few(choice & 1 ? header : 0);
	node_ctx_run(&ctx, drive, NULL);
	close(image_fd);
	return 0;
}
