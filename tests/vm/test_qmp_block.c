/* vm/qmp_block.c, vm/qmp_nodes.c, and what becomes of a disk's keys: media, sizes, caches, errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/block.h"
#include "block/node.h"
#include "block/opts.h"
#include "machine.h"
#include "vm/impl.h"
#include "vm/qmp.h"
#include "vm/rundir.h"

/* --- disks and media --- */

static void make_image(const char *path, size_t size)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(ftruncate(fileno(f), (off_t)size), 0);
	fclose(f);
}

static void tray_event(struct machine *c, bool open)
{
	json_t *e = machine_event(c, "DEVICE_TRAY_MOVED"), *data = json_object_get(e, "data");

	assert_string_equal(json_string_value(json_object_get(data, "device")), "ide1-cd0");
	assert_string_equal(json_string_value(json_object_get(data, "id")), "cdrom0");
	assert_int_equal(json_is_true(json_object_get(data, "tray-open")), open);
	json_decref(e);
}

/* As qemu-system-x86_64 7.2 answers and tells. */
static void media_come_and_go(void **state)
{
	static const char unknown[] = "{\"execute\": \"eject\", \"arguments\": {\"device\": \"foo\"}}";
	static const char device[] = "{\"device\": \"ide1-cd0\"}", id[] = "{\"id\": \"cdrom0\"}";
	const char *disk = machines_path("disk.img"), *iso = machines_path("a.iso");
	struct machine q, c;
	char keys[512], args[512];
	struct err err;
	json_t *o, *v;

	make_image(disk, 1 << 20);
	make_image(iso, 8192);
	snprintf(keys, sizeof(keys), "name=q cdrom0.path=none cdrom0.id=ide1-cd0 disk0.path=%s disk0.format=raw", disk);
	machine_new(&q, CODE_HALT, keys);
	machine_start(&q);
	c = (struct machine){ .qmp = rundir_connect("q", "qmp.sock", &err) };
	json_decref(machine_message(&c));
	machine_do(&c, "qmp_capabilities");

	machine_must_refuse(&q, "eject", "{}", "Need exactly one of 'device' and 'id'");
	machine_must_refuse(&q, "eject", "{\"device\": \"ide1-cd0\", \"id\": \"x\"}",
			    "Need exactly one of 'device' and 'id'");
	machine_must_refuse(&q, "eject", "{\"device\": \"disk0\"}", "Device 'disk0' is not removable");
	machine_must_refuse(&q, "blockdev-remove-medium", id, "Tray of device 'ide1-cd0' is not open");
	machine_must_refuse(&q, "blockdev-change-medium", "{\"id\": \"cdrom0\", \"filename\": \"/nonexistent\"}",
			    "/nonexistent");
	assert_int_equal(send(q.qmp, unknown, sizeof(unknown) - 1, MSG_NOSIGNAL), sizeof(unknown) - 1);
	o = machine_message(&q);
	v = json_object_get(o, "error");
	assert_string_equal(json_string_value(json_object_get(v, "class")), "DeviceNotFound");
	assert_string_equal(json_string_value(json_object_get(v, "desc")), "Device 'foo' not found");
	json_decref(o);

	snprintf(args, sizeof(args), "{\"device\": \"ide1-cd0\", \"filename\": \"%s\", \"format\": \"raw\"}", iso);
	json_decref(machine_execute(&q, "blockdev-change-medium", args));
	tray_event(&c, true);
	tray_event(&c, false);
	o = machine_execute(&q, "query-block", NULL);
	assert_int_equal(json_array_size(o), 2);
	v = json_array_get(o, 1);
	assert_true(json_is_true(json_object_get(v, "removable")));
	assert_true(json_is_false(json_object_get(v, "tray_open")));
	v = json_object_get(v, "inserted");
	assert_string_equal(json_string_value(json_object_get(v, "file")), iso);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(v, "image"), "virtual-size")), 8192);
	v = json_object_get(json_array_get(o, 0), "inserted");
	assert_true(json_is_false(json_object_get(v, "ro")));
	assert_string_equal(json_string_value(json_object_get(v, "node-name")), "disk0");
	assert_int_equal(qmp_check("[BlockInfo]", o, &err), 0);
	json_decref(o);
	o = machine_execute(&q, "query-named-block-nodes", NULL);
	assert_int_equal(json_array_size(o), 2);
	assert_int_equal(qmp_check("[BlockDeviceInfo]", o, &err), 0);
	json_decref(o);
	o = machine_execute(&q, "query-blockstats", NULL);
	assert_int_equal(json_array_size(o), 2);
	assert_int_equal(qmp_check("[BlockStats]", o, &err), 0);
	json_decref(o);

	json_decref(machine_execute(&q, "blockdev-open-tray", id));
	tray_event(&c, true);
	json_decref(machine_execute(&q, "blockdev-open-tray", id));
	json_decref(machine_execute(&q, "blockdev-close-tray", device));
	tray_event(&c, false);
	json_decref(machine_execute(&q, "eject", device));
	tray_event(&c, true);
	o = machine_execute(&q, "human-monitor-command", "{\"command-line\": \"info block\"}");
	assert_non_null(strstr(json_string_value(o), "ide1-cd0: [not inserted]\r\n    Attached to:      cdrom0\r\n"
						     "    Removable device: not locked, tray open\r\n"));
	assert_non_null(strstr(json_string_value(o), "disk0 (disk0): "));
	json_decref(o);
	snprintf(args, sizeof(args), "{\"command-line\": \"change ide1-cd0 \\\"%s\\\"\"}", iso);
	json_decref(machine_execute(&q, "human-monitor-command", args));
	tray_event(&c, false);
	close(c.qmp);
	assert_int_equal(machine_quit(&q), 0);
}

static void images_by_name_are_put_into_drives(void **state)
{
	const char *iso = machines_path("b.iso");
	struct machine q;
	char args[512];
	json_t *o;

	make_image(iso, 8192);
	machine_new(&q, CODE_HALT, "name=q cdrom0.path=none");
	machine_start(&q);
	machine_must_refuse(&q, "blockdev-add", "{\"driver\": \"raw\", \"node-name\": \"n\"}",
			    "Parameter 'file' is missing");
	machine_must_refuse(&q, "blockdev-add", "{\"driver\": \"file\", \"node-name\": \"n\"}",
			    "'filename' is missing");
	machine_must_refuse(&q, "blockdev-add", "{\"driver\": \"qcow2\", \"node-name\": \"n\", \"file\": \"x\"}",
			    "qcow2");
	machine_must_refuse(&q, "blockdev-add", "{\"driver\": \"raw\", \"node-name\": \"n\", \"file\": \"x\"}",
			    "node-name='x'");
	machine_must_refuse(
		&q, "blockdev-add",
		"{\"driver\": \"file\", \"node-name\": \"n\", \"filename\": \"/nonexistent\", \"read-only\": true}",
		"/nonexistent");
	snprintf(args, sizeof(args), "{\"driver\": \"file\", \"node-name\": \"f\", \"filename\": \"%s\"}", iso);
	machine_must_refuse(&q, "blockdev-add", args, "read-only=true");
	snprintf(args, sizeof(args),
		 "{\"driver\": \"raw\", \"node-name\": \"n\", \"read-only\": true, \"file\": {\"driver\": \"file\", "
		 "\"filename\": \"%s\"}}",
		 iso);
	json_decref(machine_execute(&q, "blockdev-add", args));
	machine_must_refuse(&q, "blockdev-add", args, "Duplicate");
	machine_must_refuse(&q, "blockdev-insert-medium", "{\"id\": \"cdrom0\", \"node-name\": \"x\"}",
			    "Node 'x' not found");
	machine_must_refuse(&q, "blockdev-insert-medium", "{\"id\": \"cdrom0\", \"node-name\": \"n\"}", "is not open");
	json_decref(machine_execute(&q, "blockdev-open-tray", "{\"id\": \"cdrom0\"}"));
	json_decref(machine_execute(&q, "blockdev-insert-medium", "{\"id\": \"cdrom0\", \"node-name\": \"n\"}"));
	machine_must_refuse(&q, "blockdev-insert-medium", "{\"id\": \"cdrom0\", \"node-name\": \"n\"}",
			    "already in use");
	machine_must_refuse(&q, "blockdev-del", "{\"node-name\": \"n\"}", "in use");
	o = machine_execute(&q, "query-block", NULL);
	assert_true(json_is_true(json_object_get(json_array_get(o, 0), "tray_open")));
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(json_array_get(o, 0), "inserted"), "node-name")),
		"n");
	json_decref(o);
	json_decref(machine_execute(&q, "blockdev-remove-medium", "{\"id\": \"cdrom0\"}"));
	json_decref(machine_execute(&q, "blockdev-insert-medium", "{\"id\": \"cdrom0\", \"node-name\": \"n\"}"));
	json_decref(machine_execute(&q, "eject", "{\"id\": \"cdrom0\"}"));
	json_decref(machine_execute(&q, "blockdev-del", "{\"node-name\": \"n\"}"));
	machine_must_refuse(&q, "blockdev-del", "{\"node-name\": \"n\"}", "Failed to find node");
	assert_int_equal(machine_quit(&q), 0);
}

/* --- sizes --- */

struct qcow2 {
	struct node_ctx ctx;
	const char *path;
	int rc;
};

static void create_qcow2(void *opaque)
{
	struct qcow2 *q = opaque;
	struct opts *o = opts_new();
	struct err err;

	opts_set(o, "size", "1M");
	q->rc = node_qcow2.create(&q->ctx, q->path, o, &err);
	opts_free(o);
}

static void make_qcow2(const char *path)
{
	struct qcow2 q = { .path = path };
	struct err err;

	assert_int_equal(node_ctx_init(&q.ctx, &err), 0);
	node_ctx_run(&q.ctx, create_qcow2, &q);
	assert_int_equal(q.rc, 0);
	node_ctx_free(&q.ctx);
}

static uint32_t disk_register(struct machine *q, unsigned disk, unsigned reg)
{
	uint64_t v = 0;

	assert_true(bus_read(q->vm->bus, BUS_MMIO, VM_MMIO_BASE + 0x1000 * disk + reg, 4, &v));
	return (uint32_t)v;
}

static void set_register(struct machine *q, unsigned disk, unsigned reg, uint32_t v)
{
	assert_true(bus_write(q->vm->bus, BUS_MMIO, VM_MMIO_BASE + 0x1000 * disk + reg, 4, v));
}

/* As a driver that has all features and no queue. */
static void drive_disk(struct machine *q, unsigned disk)
{
	set_register(q, disk, 0x70, 3);
	for (unsigned word = 0; word < 2; word++) {
		set_register(q, disk, 0x14, word);
		set_register(q, disk, 0x24, word);
		set_register(q, disk, 0x20, disk_register(q, disk, 0x10));
	}
	set_register(q, disk, 0x70, 11);
	set_register(q, disk, 0x70, 15);
	assert_int_equal(disk_register(q, disk, 0x70), 15);
}

/* Word `n` of IDENTIFY DEVICE of the primary master. */
static unsigned identify(struct machine *q, unsigned n)
{
	uint64_t word[256];

	assert_true(bus_write(q->vm->bus, BUS_PORT, 0x1f6, 1, 0xa0));
	assert_true(bus_write(q->vm->bus, BUS_PORT, 0x1f7, 1, 0xec));
	for (unsigned k = 0; k < 256; k++)
		assert_true(bus_read(q->vm->bus, BUS_PORT, 0x1f0, 2, &word[k]));
	return (unsigned)word[n];
}

static void write_at(struct block_node *n, uint64_t offset, int ret)
{
	char sector[512] = "x";
	struct iovec iov = { sector, sizeof(sector) };
	struct block_req r = { .op = BLOCK_WRITE, .offset = offset, .bytes = 512, .iov = &iov, .niov = 1 };

	assert_int_equal(block_submit_wait(n, &r), ret);
}

static void disks_are_resized(void **state)
{
	const char *raw = machines_path("r.img"), *qcow2 = machines_path("r.qcow2"), *ide = machines_path("i.img");
	struct machine q;
	char keys[1024];
	json_t *o;

	make_image(raw, 1 << 20);
	make_image(ide, 1 << 20);
	make_qcow2(qcow2);
	snprintf(keys, sizeof(keys),
		 "name=q disk0.path=%s disk0.format=raw disk0.bus=mmio disk1.path=%s disk1.bus=mmio disk1.id=d "
		 "disk2.path=%s disk2.format=raw disk2.bus=ide cdrom0.path=none disk3.path=%s disk3.format=raw "
		 "disk3.readonly=on disk3.bus=mmio",
		 raw, qcow2, ide, machines_path("a.iso"));
	make_image(machines_path("a.iso"), 8192);
	machine_new(&q, CODE_COUNT, keys);
	machine_start(&q);
	machine_must_refuse(&q, "block_resize", "{\"size\": 1}", "'device' or 'node-name' is missing");
	machine_must_refuse(&q, "block_resize", "{\"device\": \"x\", \"size\": 1}", "Device 'x' not found");
	machine_must_refuse(&q, "block_resize", "{\"device\": \"disk0\", \"size\": 0}", "expects a >0 size");
	machine_must_refuse(&q, "block_resize", "{\"device\": \"cdrom0\", \"size\": 1}", "Image is read-only");
	machine_must_refuse(&q, "block_resize", "{\"device\": \"disk3\", \"size\": 1}", "Image is read-only");
	for (unsigned n = 0; n < 2; n++) {
		drive_disk(&q, n);
		write_at(q.vm->disks[n].node, 1 << 20, -EINVAL);
	}
	json_decref(machine_execute(&q, "block_resize", "{\"node-name\": \"disk0\", \"size\": 2097000}"));
	o = machine_execute(&q, "human-monitor-command", "{\"command-line\": \"block_resize d 3\"}");
	assert_string_equal(json_string_value(o), "");
	json_decref(o);
	for (unsigned n = 0; n < 2; n++) {
		assert_int_equal(disk_register(&q, n, 0x100), n ? 6144 : 4096);
		assert_int_equal(disk_register(&q, n, 0x60) & 2, 2);
		write_at(q.vm->disks[n].node, (n ? 3 : 2) * 1048576 - 512, 0);
		write_at(q.vm->disks[n].node, (n ? 3 : 2) * 1048576, -EINVAL);
	}
	/* Smaller, too. Of IDE the guest finds out by itself. */
	assert_int_equal(identify(&q, 60), 2048);
	json_decref(machine_execute(&q, "block_resize", "{\"device\": \"disk2\", \"size\": 524288}"));
	assert_int_equal(identify(&q, 60), 1024);
	assert_true(machine_is(&q, "running"));
	machine_wait_progress(&q, COUNTER);
	machine_do(&q, "stop");
	json_decref(machine_execute(&q, "block_resize", "{\"device\": \"disk2\", \"size\": 1048576}"));
	assert_int_equal(machine_quit(&q), 0);
}

/* --- care about what is written --- */

/* Whether the file is open with O_DIRECT in this process. */
static bool is_direct(const char *path)
{
	char link[64], is[512];
	bool direct = false;

	for (int fd = 3; fd < 256; fd++) {
		ssize_t n;

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, is, sizeof(is) - 1);
		is[n > 0 ? n : 0] = 0;
		direct |= !strcmp(is, path) && fcntl(fd, F_GETFL) & O_DIRECT;
	}
	return direct;
}

static const char *cache_of(struct machine *q, unsigned disk)
{
	static char text[64];
	json_t *o = machine_execute(q, "query-block", NULL);
	json_t *c = json_object_get(json_object_get(json_array_get(o, disk), "inserted"), "cache");

	snprintf(text, sizeof(text), "%d %d %d", json_is_true(json_object_get(c, "writeback")),
		 json_is_true(json_object_get(c, "direct")), json_is_true(json_object_get(c, "no-flush")));
	json_decref(o);
	return text;
}

/* Guests find a write cache that is off; what they do to it is up to them. */
static void caches_are_what_was_asked_for(void **state)
{
	const char *image = machines_path("c.img"), *ide = machines_path("ci.img"), *lazy = machines_path("l.img");
	int probe;
	struct machine q;
	char keys[1024];
	json_t *o;

	make_image(image, 1 << 20);
	make_image(ide, 1 << 20);
	make_image(lazy, 1 << 20);
	probe = open(image, O_RDWR | O_DIRECT);
	if (probe < 0)
		print_message("skipped: O_DIRECT: %s\n", strerror(errno));
	snprintf(keys, sizeof(keys),
		 "name=q disk0.path=%s disk0.format=raw disk0.bus=mmio disk0.cache=%s disk1.path=%s disk1.format=raw "
		 "disk1.bus=ide disk1.cache=writethrough disk2.path=%s disk2.format=raw disk2.bus=mmio "
		 "disk2.cache=unsafe",
		 image, probe < 0 ? "writethrough" : "directsync", ide, lazy);
	close(probe);
	machine_new(&q, CODE_HALT, keys);
	machine_start(&q);
	for (unsigned n = 0; n < 2; n++) {
		drive_disk(&q, 0);
		assert_int_equal(disk_register(&q, 0, 0x120) & 0xff, 0);
		set_register(&q, 0, 0x70, 0);
	}
	assert_int_equal(disk_register(&q, 1, 0x120) & 0xff, 1);
	assert_int_equal(identify(&q, 85) & 0x20, 0);
	if (probe >= 0)
		assert_string_equal(cache_of(&q, 0), "0 1 0");
	assert_int_equal(is_direct(image), probe >= 0);
	assert_false(is_direct(ide));
	assert_string_equal(cache_of(&q, 1), "0 0 0");
	assert_string_equal(cache_of(&q, 2), "1 0 1");
	o = machine_execute(&q, "human-monitor-command", "{\"command-line\": \"info block disk2\"}");
	assert_non_null(strstr(json_string_value(o), "    Cache mode:       writeback, ignore flushes\r\n"));
	json_decref(o);
	assert_int_equal(machine_quit(&q), 0);
}

static void limits_are_what_was_asked_for(void **state)
{
	const char *image = machines_path("limits.img");
	struct machine q;
	char keys[512];
	json_t *o, *i;

	make_image(image, 1 << 20);
	snprintf(keys, sizeof(keys),
		 "name=q disk0.path=%s disk0.format=raw disk0.bus=mmio disk0.iops_rd=100 disk0.bps=3M", image);
	machine_new(&q, CODE_HALT, keys);
	machine_start(&q);
	o = machine_execute(&q, "query-block", "{}");
	i = json_object_get(json_array_get(o, 0), "inserted");
	assert_int_equal(json_integer_value(json_object_get(i, "iops")), 0);
	assert_int_equal(json_integer_value(json_object_get(i, "iops_rd")), 100);
	assert_int_equal(json_integer_value(json_object_get(i, "bps")), 3 << 20);
	assert_string_equal(json_string_value(json_object_get(i, "drv")), "raw");
	json_decref(o);
	assert_int_equal(machine_quit(&q), 0);
}

static void *write_late(void *disk)
{
	write_at(((struct vm_disk *)disk)->node, 6 << 20, 0);
	return NULL;
}

/* Files of this process may not become larger than 4 MiB for a while. */
static void errors_are_dealt_with_as_was_asked_for(void **state)
{
	struct rlimit limit, low;
	struct machine q;
	pthread_t writer;
	char keys[1024];
	size_t n = 0;
	json_t *e, *o;

	static const char *const policies[] = { "stop", "ignore", "enospc" };
	for (unsigned k = 0; k < 3; k++) {
		char file[16];

		snprintf(file, sizeof(file), "e%u", k);
		make_image(machines_path(file), 8 << 20);
		n += (size_t)snprintf(keys + n, sizeof(keys) - n,
				      "disk%u.path=%s disk%u.format=raw disk%u.aio=threads disk%u.werror=%s ", k,
				      machines_path(file), k, k, k, policies[k]);
	}
	snprintf(keys + n, sizeof(keys) - n, "name=q");
	machine_new(&q, CODE_COUNT, keys);
	machine_start(&q);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &limit);
	low = (struct rlimit){ 4 << 20, limit.rlim_max };
	setrlimit(RLIMIT_FSIZE, &low);
	write_at(q.vm->disks[1].node, 6 << 20, 0);
	write_at(q.vm->disks[2].node, 6 << 20, -EFBIG);
	assert_int_equal(pthread_create(&writer, NULL, write_late, &q.vm->disks[0]), 0);
	e = machine_event(&q, "BLOCK_IO_ERROR");
	o = json_object_get(e, "data");
	assert_string_equal(json_string_value(json_object_get(o, "action")), "stop");
	assert_string_equal(json_string_value(json_object_get(o, "operation")), "write");
	assert_string_equal(json_string_value(json_object_get(o, "reason")), "File too large");
	assert_true(json_is_false(json_object_get(o, "nospace")));
	json_decref(e);
	json_decref(machine_event(&q, "STOP"));
	assert_true(machine_is(&q, "io-error"));
	machine_must_refuse(&q, "cont", "{}", "disk0 cannot be written on the host: File too large");
	setrlimit(RLIMIT_FSIZE, &limit);
	json_decref(machine_event(&q, "RESUME"));
	assert_int_equal(pthread_join(writer, NULL), 0);
	assert_true(machine_is(&q, "running"));
	assert_int_equal(machine_quit(&q), 0);
}

static void has(const json_t *list, size_t n, const char *key, const char *value)
{
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, n), key)), value);
}

/* Options of QEMU's command line give them: a drive and its device, a node that no drive is over, a card's network. */
static void devices_have_the_names_that_they_were_given(void **state)
{
	const char *a = machines_path("names-a.img"), *b = machines_path("names-b.img");
	struct machine q;
	char keys[1024];
	json_t *o, *v;

	make_image(a, 1 << 20);
	make_image(b, 1 << 20);
	snprintf(keys, sizeof(keys),
		 "disk0.path=%s disk0.format=raw disk0.id=vd disk1.path=%s disk1.format=raw disk1.id= disk1.qdev=qd "
		 "disk1.node-name=vd2 cdrom0.path=none cdrom0.id=cdd cdrom0.qdev=mycd net0.backend=user net0.qdev=card "
		 "net0.id=nn balloon=on balloon.qdev=bb serial0=null serial0.id=cc qmp0=unix:%s qmp0.id=mm",
		 a, b, machines_path("names.sock"));
	machine_new(&q, CODE_HALT, keys);
	machine_start(&q);
	o = machine_execute(&q, "query-block", NULL);
	has(o, 0, "device", "vd");
	has(o, 0, "qdev", "disk0");
	has(o, 1, "device", "");
	has(o, 1, "qdev", "qd");
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(json_array_get(o, 1), "inserted"), "node-name")),
		"vd2");
	has(o, 2, "device", "cdd");
	has(o, 2, "qdev", "mycd");
	json_decref(o);
	o = machine_execute(&q, "query-blockstats", NULL);
	has(o, 1, "node-name", "vd2");
	assert_null(json_object_get(json_array_get(o, 2), "node-name"));
	json_decref(o);
	json_decref(machine_execute(&q, "block_resize", "{\"device\": \"vd\", \"size\": 2097152}"));
	json_decref(machine_execute(&q, "block_resize", "{\"node-name\": \"vd2\", \"size\": 4194304}"));
	machine_must_refuse(&q, "block_resize", "{\"device\": \"\", \"size\": 4096}", "Device '' not found");
	machine_must_refuse(&q, "blockdev-add",
			    "{\"driver\": \"file\", \"node-name\": \"vd2\", \"filename\": \"x\", \"read-only\": true}",
			    "Duplicate or invalid node name 'vd2'");
	json_decref(machine_execute(&q, "eject", "{\"device\": \"cdd\"}"));
	json_decref(machine_execute(&q, "eject", "{\"id\": \"mycd\"}"));
	json_decref(machine_execute(&q, "eject", "{\"device\": \"cdrom0\"}"));
	json_decref(machine_execute(&q, "set_link", "{\"name\": \"nn\", \"up\": false}"));
	json_decref(machine_execute(&q, "set_link", "{\"name\": \"card\", \"up\": true}"));
	o = machine_execute(&q, "query-chardev", NULL);
	has(o, 0, "label", "cc");
	has(o, 1, "label", "mm");
	assert_non_null(strstr(json_string_value(json_object_get(json_array_get(o, 1), "filename")), ",server=on"));
	json_decref(o);
	o = machine_execute(&q, "query-pci", NULL);
	v = json_object_get(json_array_get(o, 0), "devices");
	has(v, json_array_size(v) - 1, "qdev_id", "bb");
	json_decref(o);
	o = machine_execute(&q, "human-monitor-command", "{\"command-line\": \"info block vd2\"}");
	assert_ptr_equal(strstr(json_string_value(o), "vd2: /"), json_string_value(o));
	json_decref(o);
	o = machine_execute(&q, "human-monitor-command", "{\"command-line\": \"info network\"}");
	assert_ptr_equal(strstr(json_string_value(o), "card: index=0"), json_string_value(o));
	assert_non_null(strstr(json_string_value(o), " \\ nn: index=0"));
	json_decref(o);
	assert_int_equal(machine_quit(&q), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(media_come_and_go),
		cmocka_unit_test(images_by_name_are_put_into_drives),
		cmocka_unit_test(disks_are_resized),
		cmocka_unit_test(limits_are_what_was_asked_for),
		cmocka_unit_test(caches_are_what_was_asked_for),
		cmocka_unit_test(devices_have_the_names_that_they_were_given),
		cmocka_unit_test(errors_are_dealt_with_as_was_asked_for),
	};

	return cmocka_run_group_tests(tests, machines_begin, machines_end);
}
