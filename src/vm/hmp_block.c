/* The monitor's commands about disks and media. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "base/config.h"
#include "vm/hmp.h"

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static bool is(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

static void one_block(struct hmp *h, const json_t *o)
{
	const json_t *in = json_object_get(o, "inserted");
	const char *device = text(o, "device");

	/* What has no back end is called as its image, or its device. */
	fprintf(h->out, "%s", *device ? device : in ? text(in, "node-name") : text(o, "qdev"));
	if (in && *device)
		fprintf(h->out, " (%s)", text(in, "node-name"));
	if (in)
		fprintf(h->out, ": %s (%s%s)\n", text(in, "file"), text(in, "drv"), is(in, "ro") ? ", read-only" : "");
	else
		fprintf(h->out, ": [not inserted]\n");
	fprintf(h->out, "    Attached to:      %s\n", text(o, "qdev"));
	if (strcmp(text(o, "io-status"), "ok"))
		fprintf(h->out, "    I/O status:       %s\n", text(o, "io-status"));
	if (is(o, "removable"))
		fprintf(h->out, "    Removable device: %slocked, tray %s\n", is(o, "locked") ? "" : "not ",
			is(o, "tray_open") ? "open" : "closed");
	if (in)
		fprintf(h->out, "    Cache mode:       %s%s%s\n",
			is(json_object_get(in, "cache"), "writeback") ? "writeback" : "writethrough",
			is(json_object_get(in, "cache"), "direct") ? ", direct" : "",
			is(json_object_get(in, "cache"), "no-flush") ? ", ignore flushes" : "");
}

static void block(struct hmp *h, const struct hmp_args *a)
{
	json_t *list = hmp_qmp(h, "query-block", NULL), *o;
	bool any = false;
	size_t n;

	json_array_foreach(list, n, o)
	{
		if (a->arg[0].given && strcmp(a->arg[0].s, text(o, "device")) && strcmp(a->arg[0].s, text(o, "qdev")) &&
		    strcmp(a->arg[0].s, text(json_object_get(o, "inserted"), "node-name")))
			continue;
		if (any)
			fputc('\n', h->out);
		any = true;
		one_block(h, o);
	}
	if (!any && a->arg[0].given)
		fprintf(h->out, "Device '%s' not found\n", a->arg[0].s);
	json_decref(list);
}

static void blockstats(struct hmp *h, const struct hmp_args *a)
{
	static const char *const keys[] = {
		"rd_bytes",	    "wr_bytes",		"rd_operations",       "wr_operations", "flush_operations",
		"wr_total_time_ns", "rd_total_time_ns", "flush_total_time_ns", "rd_merged",	"wr_merged"
	};
	json_t *list = hmp_qmp(h, "query-blockstats", NULL), *o;
	size_t n;

	json_array_foreach(list, n, o)
	{
		fprintf(h->out, "%s:", text(o, "device"));
		for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
			fprintf(h->out, " %s=%" PRIu64, keys[k],
				(uint64_t)json_integer_value(json_object_get(json_object_get(o, "stats"), keys[k])));
		fputc('\n', h->out);
	}
	json_decref(list);
}

static void eject(struct hmp *h, const struct hmp_args *a)
{
	hmp_do(h, "eject", json_pack("{s:b,s:s}", "force", (int)a->arg[0].given, "device", a->arg[1].s));
}

static void change(struct hmp *h, const struct hmp_args *a)
{
	json_t *args = json_pack("{s:s,s:b,s:s}", "device", a->arg[0].s, "force", (int)a->arg[1].given, "filename",
				 a->arg[2].s);

	if (a->arg[3].given)
		json_object_set_new(args, "format", json_string(a->arg[3].s));
	hmp_do(h, "blockdev-change-medium", args);
}

static void block_resize(struct hmp *h, const struct hmp_args *a)
{
	uint64_t bytes;

	if (parse_size(a->arg[1].s, 1048576, &bytes) || bytes > INT64_MAX)
		fprintf(h->out, "Error: Parameter 'size' expects a size\n");
	else
		hmp_do(h, "block_resize", json_pack("{s:s,s:I}", "device", a->arg[0].s, "size", (json_int_t)bytes));
}

const struct hmp_command hmp_block_commands[] = {
	{ "block_resize", "device:s size:s", "device size", "resize a block image (in MB)", block_resize },
	{ "change", "device:s force:-f file:s format:s?", "device [-f] filename [format]",
	  "change a removable medium, use -f to force the operation", change },
	{ "eject", "force:-f device:s", "[-f] device", "eject a removable medium (use -f to force it)", eject },
	{ 0 },
};

const struct hmp_command hmp_info_block_commands[] = {
	{ "block", "device:s?", "[device]", "show info of one block device or all block devices", block },
	{ "blockstats", "", "", "show block device statistics", blockstats },
	{ 0 },
};
