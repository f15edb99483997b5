/* -drive, -blockdev, -hda and the like. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "cli/qemu.h"

#define IDE_PLACES   4
#define VIRTIO_UNITS 64

/* Parameters of drives and nodes whose values say what is so anyhow; the others have code. */
static const struct {
	const char *name, *values, *why;
} fixed[] = {
	{ "detect-zeroes", "off", NULL },
	{ "copy-on-read", "off", NULL },
	{ "auto-read-only", "on|off", NULL },
	{ "locking", "on|auto", "images are locked" },
	{ "file.locking", "on|auto", "images are locked" },
	{ "force-share", "off", "images are locked" },
	{ "media", "disk|cdrom", NULL },
};

/* What is behind a drive, whatever its device. */
struct image {
	const char *path, *format; /* NULL: nothing; to be found out */
	const char *discard, *aio, *cache, *werror, *rerror;
	bool readonly, snapshot, native;
};

static int check_fixed(struct qemu *q, struct qopts *o)
{
	for (size_t n = 0; n < ARRAY_LEN(fixed); n++) {
		const char *value = qopts_get(o, fixed[n].name);

		if (value && !qvalue_in(fixed[n].values, value))
			return qopts_fail(o, q->err, "%s=%s is not there, only %s%s%s%s", fixed[n].name, value,
					  fixed[n].values, fixed[n].why ? " (" : "", fixed[n].why ? fixed[n].why : "",
					  fixed[n].why ? ")" : "");
	}
	return 0;
}

/* "file:PATH" and PATH; other protocols are not there. */
static int read_path(struct qemu *q, struct qopts *o, const char *text, struct image *i)
{
	size_t scheme = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789+-_");

	if (!strncmp(text, "file:", 5)) {
		text += 5;
		scheme = 0;
	}
	if (scheme && text[scheme] == ':')
		return qopts_fail(o, q->err, "Unknown protocol '%.*s'", (int)scheme, text);
	i->path = text;
	return 0;
}

static int read_aio(struct qemu *q, struct qopts *o, struct image *i)
{
	const char *aio = qopts_get(o, "aio");

	if (!aio)
		aio = qopts_get(o, "file.aio");
	if (!aio)
		return 0;
	if (!qword_in("threads|native|io_uring", aio))
		return qopts_fail(o, q->err, "Parameter 'aio' does not accept value '%s'", aio);
	i->native = !strcmp(aio, "native");
	i->aio = i->native ? "auto" : aio;
	return 0;
}

static int read_discard(struct qemu *q, struct qopts *o, struct image *i)
{
	const char *discard = qopts_get(o, "discard");

	if (!discard)
		return 0;
	if (!qword_in("ignore|off|unmap|on", discard))
		return qopts_fail(o, q->err, "Invalid discard option");
	i->discard = qword_in("unmap|on", discard) ? "unmap" : "ignore";
	return 0;
}

/* cache=WORD, and -blockdev's switches, which later ones of a chain of nodes change. */
static int read_cache(struct qemu *q, struct qopts *o, struct image *i)
{
	static const char *const words[2][2] = { { "writethrough", "directsync" }, { NULL, "none" } };
	const char *word = qopts_get(o, "cache");
	bool back, direct, no_flush;

	if (word && !qword_in("writeback|none|writethrough|directsync|unsafe", word))
		return qopts_fail(o, q->err, "invalid cache option");
	if (!word)
		word = i->cache ? i->cache : "writeback";
	back = !qword_in("writethrough|directsync", word);
	if (qopts_bool(o, "cache.writeback", back, &back, q->err) ||
	    qopts_bool(o, "cache.direct", qword_in("none|directsync", word), &direct, q->err) ||
	    qopts_bool(o, "cache.no-flush", !strcmp(word, "unsafe"), &no_flush, q->err))
		return -1;
	if (no_flush && (direct || !back))
		return qopts_fail(o, q->err,
				  "cache.no-flush=on is there with neither cache.direct=on nor "
				  "cache.writeback=off");
	if (i->native && !direct)
		return qopts_fail(
			o, q->err,
			"aio=native was specified, but it requires cache.direct=on, which was not specified.");
	i->cache = no_flush ? "unsafe" : words[back][direct];
	return 0;
}

static int read_on_error(struct qemu *q, struct qopts *o, struct image *i)
{
	i->werror = qopts_get(o, "werror");
	i->rerror = qopts_get(o, "rerror");
	if (i->werror && !qword_in("report|ignore|enospc|stop|auto", i->werror))
		return qopts_fail(o, q->err, "'%s' invalid write error action", i->werror);
	if (i->rerror && !qword_in("report|ignore|stop|auto", i->rerror))
		return qopts_fail(o, q->err, "'%s' invalid read error action", i->rerror);
	return 0;
}

static int read_common(struct qemu *q, struct qopts *o, struct image *i)
{
	const char *name = qopts_get(o, "readonly") ? "readonly" : "read-only";

	return check_fixed(q, o) || read_aio(q, o, i) || read_cache(q, o, i) || read_discard(q, o, i) ||
			       qopts_bool(o, name, i->readonly, &i->readonly, q->err)
		       ? -1
		       : 0;
}

/* -drive. */
static int read_drive(struct qemu *q, struct qopts *o, struct image *i)
{
	const char *file = qopts_get(o, "file"), *format = qopts_get(o, "format"), *driver = qopts_get(o, "driver");
	const char *name = qopts_get(o, "file.filename");

	*i = (struct image){ .format = format ? format : driver, .snapshot = q->snapshot };
	if (qopts_get(o, "file.driver") && strcmp(qopts_get(o, "file.driver"), "file") != 0)
		return qopts_fail(o, q->err, "Unknown driver '%s'", qopts_get(o, "file.driver"));
	if (read_common(q, o, i) || read_on_error(q, o, i) ||
	    qopts_bool(o, "snapshot", i->snapshot, &i->snapshot, q->err))
		return -1;
	file = file ? file : name;
	return file && *file ? read_path(q, o, file, i) : 0;
}

#define NODES_DEEP 8

/* -blockdev: a format over a protocol, which may be another one. */
static int read_node(struct qemu *q, struct qopts *o, struct image *i, unsigned depth)
{
	const char *driver = qopts_get(o, "driver"), *filename = qopts_get(o, "filename");
	const char *under = qopts_get(o, "file"), *inner = qopts_get(o, "file.driver");
	const char *inner_name = qopts_get(o, "file.filename");
	struct qopts *next;

	if (!driver)
		return qopts_fail(o, q->err, "Parameter 'driver' is missing");
	if (read_common(q, o, i))
		return -1;
	if (qword_in("file|host_device", driver)) {
		if (!filename)
			return qopts_fail(o, q->err, "Parameter 'filename' is missing");
		i->path = filename;
		return 0;
	}
	if (i->format)
		return qopts_fail(o, q->err, "Unknown driver '%s' below a format", driver);
	if (!qword_in("raw|qcow2|luks", driver))
		return qopts_fail(o, q->err, "Parameter 'driver' does not accept value '%s'", driver);
	i->format = driver;
	if (inner && !qword_in("file|host_device", inner))
		return qopts_fail(o, q->err, "Unknown driver '%s'", inner);
	if (inner_name) {
		i->path = inner_name;
		return 0;
	}
	next = under ? qlist_find(&q->blockdevs, "node-name", under) : NULL;
	if (!next || depth == NODES_DEEP)
		return qopts_fail(o, q->err,
				  under ? "Cannot find device='%s' nor node-name='%s'"
					: "A block device must be specified for \"file\"%s%s",
				  under ? under : "", under ? under : "");
	/* It is used, if this one is. */
	next->taken |= o->taken;
	return read_node(q, next, i, depth + 1);
}

/* QEMU's "auto" is the key's default. */
static int set_unless_auto(struct qemu *q, struct qopts *o, const char *prefix, const char *key, const char *value)
{
	return value && strcmp(value, "auto") ? qemu_set(q, o, prefix, key, value) : 0;
}

static int set_disk(struct qemu *q, struct qopts *o, const char *prefix, const struct image *i)
{
	if (set_unless_auto(q, o, prefix, "cache", i->cache) || set_unless_auto(q, o, prefix, "werror", i->werror) ||
	    set_unless_auto(q, o, prefix, "rerror", i->rerror))
		return -1;
	if (qemu_set(q, o, prefix, "path", i->path) || (i->format && qemu_set(q, o, prefix, "format", i->format)) ||
	    (i->readonly && qemu_set(q, o, prefix, "readonly", "on")) ||
	    (i->snapshot && qemu_set(q, o, prefix, "snapshot", "on")) ||
	    (i->aio && qemu_set(q, o, prefix, "aio", i->aio)))
		return -1;
	return qemu_set(q, o, prefix, "discard", i->discard ? i->discard : "ignore");
}

static int set_cdrom(struct qemu *q, struct qopts *o, const char *prefix, const struct image *i)
{
	if (i->path && i->format && strcmp(i->format, "raw") != 0)
		return qopts_fail(o, q->err, "the image of a CD-ROM is raw, not %s", i->format);
	if ((i->werror && qword_in("stop|ignore", i->werror)) || (i->rerror && qword_in("stop|ignore", i->rerror)))
		return qopts_fail(o, q->err, "errors of a CD-ROM drive are reported to the guest, only");
	if (i->path && i->aio && qemu_set(q, o, prefix, "aio", i->aio))
		return -1;
	return qemu_set(q, o, prefix, "path", i->path ? i->path : "none");
}

/* `o` says of what the error is. */
static int add_image(struct qemu *q, struct qopts *o, const struct image *i, bool cdrom, char *prefix)
{
	if (!cdrom && !i->path)
		return qopts_fail(o, q->err, "Must specify either driver or file");
	snprintf(prefix, 32, "%s%u", cdrom ? "cdrom" : "disk", cdrom ? q->cdroms++ : q->disks++);
	return (cdrom ? set_cdrom : set_disk)(q, o, prefix, i);
}

int qemu_attach_drive(struct qemu *q, struct qopts *device, const char *id, bool cdrom, char *prefix)
{
	struct image i = { .snapshot = q->snapshot };
	struct qopts *o;
	bool drive;

	if (!id && cdrom)
		return add_image(q, device, &i, true, prefix) || qemu_set_names(q, device, prefix, "") ? -1 : 0;
	o = qlist_find(&q->drives, "id", id);
	drive = o != NULL;
	if (o && read_drive(q, o, &i))
		return -1;
	if (!o) {
		o = qlist_find(&q->blockdevs, "node-name", id);
		if (!o)
			return qopts_fail(device, q->err, "Property 'drive' can't find value '%s'", id);
		if (read_node(q, o, &i, 0))
			return -1;
	}
	if (o->taken)
		return qopts_fail(device, q->err, "Drive '%s' is already in use by another block device", id);
	o->taken = true;
	/* Over a node there is no drive. */
	if (add_image(q, o, &i, cdrom, prefix) || qemu_set_names(q, device, prefix, drive ? id : ""))
		return -1;
	return drive ? 0 : qemu_set(q, o, prefix, "node-name", id);
}

/* A number of `text` below `count`, `dflt` without one; -1: it is none. */
static int read_below(const char *text, unsigned count, int dflt)
{
	char *end;
	unsigned long n;

	if (!text)
		return dflt;
	n = strtoul(text, &end, 10);
	return *end || end == text || n >= count ? -1 : (int)n;
}

/* The first place from `from` on that is free, or its end. */
static unsigned free_place(const struct qemu *q, unsigned from)
{
	while (from < IDE_PLACES && q->ide_taken >> from & 1)
		from++;
	return from;
}

int qemu_ide_place(struct qemu *q, struct qopts *o)
{
	const char *index = qopts_get(o, "index"), *bus = qopts_get(o, "bus"), *unit = qopts_get(o, "unit");
	/* Devices name it as "ide.0". */
	const char *number = bus && !strncmp(bus, "ide.", 4) ? bus + 4 : bus;
	int at = read_below(index, IDE_PLACES, 0), of_bus = read_below(number, 2, 0), of_unit = read_below(unit, 2, 0);
	unsigned place;

	if (at < 0)
		return qopts_fail(o, q->err, "there are four IDE drives, of index 0 to 3");
	if (of_bus < 0)
		return qopts_fail(o, q->err, "Bus '%s' not found", bus);
	if (of_unit < 0)
		return qopts_fail(o, q->err, "Can't create IDE unit %s, bus supports only 2 units", unit);
	if (index)
		place = (unsigned)at;
	else if (unit)
		place = (unsigned)(of_bus * 2 + of_unit);
	else
		place = free_place(q, bus ? (unsigned)of_bus * 2 : 0);
	if (bus && !unit && !index && place >= (unsigned)of_bus * 2 + 2)
		return qopts_fail(o, q->err, "both drives of IDE bus %d are taken", of_bus);
	if (place >= IDE_PLACES)
		return qopts_fail(o, q->err, "the four IDE drives are taken");
	if (q->ide_taken >> place & 1)
		return qopts_fail(o, q->err, "drive with bus=%u, unit=%u (index=%u) exists", place / 2, place % 2,
				  place);
	q->ide_taken |= (uint8_t)(1u << place);
	return (int)place;
}

/* Whether a drive up to here is called so. */
static bool is_drive(const struct qemu *q, const char *id)
{
	const unsigned counts[] = { q->disks, q->cdroms };
	char key[32];

	for (unsigned k = 0; k < 2; k++)
		for (unsigned n = 0; n < counts[k]; n++) {
			const char *is;

			snprintf(key, sizeof(key), "%s%u.id", k ? "cdrom" : "disk", n);
			is = config_peek(q->c, key);
			if (is && !strcmp(is, id))
				return true;
		}
	return false;
}

/* A drive's name, which is nobody else's: its own, or the one that QEMU gives it. */
static int set_id(struct qemu *q, struct qopts *o, const char *prefix, const char *id)
{
	return is_drive(q, id) ? qopts_fail(o, q->err, "Device with id '%s' already exists", id)
			       : qemu_set(q, o, prefix, "id", id);
}

static int add_ide(struct qemu *q, struct qopts *o, const struct image *i, bool cdrom)
{
	int place = qemu_ide_place(q, o);
	char prefix[32], text[16], name[32];
	const char *id = qopts_get(o, "id");

	snprintf(name, sizeof(name), "ide%d-%s%d", place / 2, cdrom ? "cd" : "hd", place % 2);
	if (place < 0 || add_image(q, o, i, cdrom, prefix) || set_id(q, o, prefix, id ? id : name))
		return -1;
	snprintf(text, sizeof(text), "%d", place);
	return (cdrom ? 0 : qemu_set(q, o, prefix, "bus", "ide")) || qemu_set(q, o, prefix, "addr", text) ||
			       qemu_set_globals(q, cdrom ? "ide-cd" : "ide-hd", prefix)
		       ? -1
		       : 0;
}

/* The first is the code of firmware, the second its variables. */
static int add_pflash(struct qemu *q, struct qopts *o, const struct image *i)
{
	const char *unit = qopts_get(o, "unit"), *index = qopts_get(o, "index");
	const char *at = unit ? unit : index;
	bool vars = at ? !strcmp(at, "1") : config_peek(q->c, "firmware") != NULL;

	if (!i->path || (i->format && strcmp(i->format, "raw") != 0) || (at && !qword_in("0|1", at)) || i->snapshot)
		return qopts_fail(o, q->err, "flash is a raw file, of unit 0 (the code) or 1 (the variables)");
	return qemu_set(q, o, NULL, vars ? "firmware.vars" : "firmware", i->path);
}

/* The unit of if=virtio that `index` says, or the first that is free; -1: it cannot be. */
static int virtio_unit(struct qemu *q, struct qopts *o)
{
	const char *index = qopts_get(o, "index");
	int n = read_below(index, VIRTIO_UNITS, 0);

	if (n < 0)
		return qopts_fail(o, q->err, "Parameter 'index' expects a number below %d", VIRTIO_UNITS);
	while (!index && n < VIRTIO_UNITS - 1 && q->virtio_taken >> n & 1)
		n++;
	if (q->virtio_taken >> n & 1)
		return qopts_fail(o, q->err, "drive with bus=0, unit=%d (index=%d) exists", n, n);
	q->virtio_taken |= 1ull << n;
	return n;
}

static int add_drive(struct qemu *q, struct qopts *o)
{
	const char *interface = qopts_get(o, "if"), *media = qopts_get(o, "media"), *id = qopts_get(o, "id");
	bool cdrom = media && !strcmp(media, "cdrom");
	struct image i;
	char prefix[32], name[32];
	int unit;

	if (id && (qlist_find(&q->drives, "id", id) != o || qlist_find(&q->blockdevs, "node-name", id)))
		return qopts_fail(o, q->err, "Duplicate ID '%s' for drive", id);
	if (read_drive(q, o, &i))
		return -1;
	o->taken = !interface || strcmp(interface, "none") != 0;
	if (!interface || !strcmp(interface, "ide"))
		return add_ide(q, o, &i, cdrom);
	if (!strcmp(interface, "none"))
		return qopts_get(o, "index") ? qopts_fail(o, q->err, "if=none has no index") : 0;
	if (!strcmp(interface, "pflash"))
		return add_pflash(q, o, &i);
	if (!strcmp(interface, "virtio") && !cdrom) {
		unit = virtio_unit(q, o);
		if (unit < 0)
			return -1;
		snprintf(name, sizeof(name), "virtio%d", unit);
		return add_image(q, o, &i, false, prefix) || set_id(q, o, prefix, id ? id : name) ||
				       qemu_set_globals(q, "virtio-blk-pci", prefix) || qemu_on_pci(q, o, prefix, -1)
			       ? -1
			       : 0;
	}
	return qopts_fail(o, q->err, "if=%s%s is not there, only ide, virtio, pflash, none", interface,
			  cdrom ? " with media=cdrom" : "");
}

/* Whether a device among the options brings drives of its own, as QEMU looks. */
static bool has_ide_device(struct qemu *q)
{
	for (unsigned n = 0; n < q->devices.count; n++) {
		const char *driver = qopts_get(&q->devices.v[n], "driver");

		if (driver && qword_in("ide-hd|ide-cd", driver))
			return true;
	}
	return false;
}

static int add_default_cdrom(struct qemu *q)
{
	if (q->nodefaults || q->ide_taken >> 2 & 1 || has_ide_device(q))
		return 0;
	return !qlist_add(&q->drives, "cdrom", "if=ide,index=2,media=cdrom", NULL, q->err) ||
			       add_drive(q, &q->drives.v[q->drives.count - 1])
		       ? -1
		       : 0;
}

/* An image that no device has is not opened, but it is to be there. */
static int check_unused(struct qemu *q, struct qopts *o, const struct image *i)
{
	if (o->taken || !i->path || !access(i->path, F_OK))
		return 0;
	return qopts_fail(o, q->err, "Could not open '%s': %s", i->path, strerror(errno));
}

int qemu_check_drives(struct qemu *q)
{
	for (unsigned n = 0; n < q->drives.count; n++) {
		struct image i;

		if (read_drive(q, &q->drives.v[n], &i) || check_unused(q, &q->drives.v[n], &i))
			return -1;
	}
	/* Once to see which are below others. */
	for (unsigned n = 0; n < 2 * q->blockdevs.count; n++) {
		struct qopts *o = &q->blockdevs.v[n % q->blockdevs.count];
		struct image i = { 0 };

		if (read_node(q, o, &i, 0) || (n >= q->blockdevs.count && check_unused(q, o, &i)))
			return -1;
	}
	return 0;
}

int qemu_finish_drives(struct qemu *q)
{
	for (unsigned n = 0; n < q->drives.count; n++)
		if (add_drive(q, &q->drives.v[n]) || qopts_all_read(&q->drives.v[n], q->err))
			return -1;
	for (unsigned n = 0; n < q->blockdevs.count; n++) {
		struct qopts *o = &q->blockdevs.v[n];
		const char *name = qopts_get(o, "node-name");
		struct image i = { 0 };

		if (!name)
			return qopts_fail(o, q->err, "Parameter 'node-name' is missing");
		if (qlist_find(&q->blockdevs, "node-name", name) != o)
			return qopts_fail(o, q->err, "Duplicate nodes with node-name='%s'", name);
		if (read_node(q, o, &i, 0) || qopts_all_read(o, q->err))
			return -1;
	}
	return add_default_cdrom(q);
}
