/* vireo img info and check. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/img_impl.h"
#include "cli/img_snapshots.h"

void img_print_snapshots(const struct node_snapshot *sn, unsigned count)
{
	printf("Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
	for (unsigned i = 0; i < count; i++) {
		uint64_t s = sn[i].vm_clock_ns / 1000000000u;
		time_t date = (time_t)sn[i].date_sec;
		char when[32], clock[64], icount[32] = "", size[32];
		struct tm tm;

		localtime_r(&date, &tm);
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
		snprintf(clock, sizeof(clock), "%02d:%02d:%02d.%03d", (int)(s / 3600), (int)(s / 60 % 60),
			 (int)(s % 60), (int)(sn[i].vm_clock_ns / 1000000u % 1000));
		if (sn[i].has_icount)
			snprintf(icount, sizeof(icount), "%llu", (unsigned long long)sn[i].icount);
		printf("%-9s %-16s %8s%20s%13s%11s\n", sn[i].id, sn[i].name, img_size_text(sn[i].vm_state_size, size),
		       when, clock, icount);
	}
}

/* --- info --- */

static json_t *snapshots_json(struct node *n)
{
	struct node_snapshot *sn;
	unsigned count;
	json_t *a;

	if (!n->drv->snapshot_list || n->drv->snapshot_list(n, &sn, &count))
		return NULL;
	a = count ? json_array() : NULL;
	for (unsigned i = 0; i < count; i++) {
		json_t *o = json_object();

		json_object_set_new(o, "id", json_string(sn[i].id));
		json_object_set_new(o, "name", json_string(sn[i].name));
		json_object_set_new(o, "vm-state-size", json_integer((json_int_t)sn[i].vm_state_size));
		json_object_set_new(o, "date-sec", json_integer((json_int_t)sn[i].date_sec));
		json_object_set_new(o, "date-nsec", json_integer(sn[i].date_ns));
		json_object_set_new(o, "vm-clock-sec", json_integer((json_int_t)(sn[i].vm_clock_ns / 1000000000u)));
		json_object_set_new(o, "vm-clock-nsec", json_integer((json_int_t)(sn[i].vm_clock_ns % 1000000000u)));
		if (sn[i].has_icount)
			json_object_set_new(o, "icount", json_integer((json_int_t)sn[i].icount));
		json_array_append_new(a, o);
	}
	free(sn);
	return a;
}

static char *full_backing_name(struct node *n)
{
	struct err err;

	return n->backing_name ? node_resolve(n, n->backing_name, &err) : NULL;
}

static json_t *info_json(struct node *n)
{
	struct node_info i = { 0 };
	uint64_t stored = node_allocated(n);
	json_t *o = json_object(), *x;
	char *full = full_backing_name(n);

	json_object_set_new(o, "filename", json_string(n->filename));
	json_object_set_new(o, "format", json_string(n->drv->name));
	json_object_set_new(o, "virtual-size", json_integer((json_int_t)(n->size + 511) / 512 * 512));
	if (stored != NODE_UNKNOWN)
		json_object_set_new(o, "actual-size", json_integer((json_int_t)stored));
	if (n->drv->info && !n->drv->info(n, &i)) {
		if (i.cluster_size)
			json_object_set_new(o, "cluster-size", json_integer((json_int_t)i.cluster_size));
		if (i.encrypted)
			json_object_set_new(o, "encrypted", json_true());
		json_object_set_new(o, "dirty-flag", json_boolean(i.dirty));
	}
	x = n->drv->specifics ? n->drv->specifics(n) : NULL;
	if (x)
		json_object_set_new(o, "format-specific", json_pack("{s:s, s:o}", "type", n->drv->name, "data", x));
	if (n->backing_name) {
		json_object_set_new(o, "backing-filename", json_string(n->backing_name));
		if (full)
			json_object_set_new(o, "full-backing-filename", json_string(full));
		if (n->backing_format)
			json_object_set_new(o, "backing-filename-format", json_string(n->backing_format));
	}
	x = snapshots_json(n);
	if (x)
		json_object_set_new(o, "snapshots", x);
	free(full);
	return o;
}

static void print_value(int indent, json_t *v);

void img_print_members(int indent, json_t *o)
{
	json_t *ordered = img_qemu_order(o), *v;
	const char *key;

	json_object_foreach(ordered, key, v)
	{
		printf("%*s", indent * 4, "");
		for (const char *p = key; *p; p++)
			putchar(*p == '-' ? ' ' : *p);
		putchar(':');
		putchar(json_is_object(v) || json_is_array(v) ? '\n' : ' ');
		print_value(indent + 1, v);
	}
	json_decref(ordered);
}

static void print_value(int indent, json_t *v)
{
	size_t i;
	json_t *e;

	if (json_is_object(v)) {
		img_print_members(indent, v);
	} else if (json_is_array(v)) {
		json_array_foreach(v, i, e)
		{
			printf("%*s[%zu]:%c", indent * 4, "", i, json_is_object(e) || json_is_array(e) ? '\n' : ' ');
			print_value(indent + 1, e);
		}
	} else if (json_is_string(v)) {
		printf("%s\n", json_string_value(v));
	} else if (json_is_integer(v)) {
		printf("%lld\n", (long long)json_integer_value(v));
	} else {
		printf("%s\n", json_is_true(v) ? "true" : "false");
	}
}

static void print_info(struct node *n)
{
	struct node_info i = { 0 };
	uint64_t size = (n->size + 511) / 512 * 512, stored = node_allocated(n);
	char a[32], b[32], *full = full_backing_name(n);
	struct node_snapshot *sn;
	unsigned count;
	json_t *x;

	printf("image: %s\nfile format: %s\nvirtual size: %s (%lld bytes)\ndisk size: %s\n", n->filename, n->drv->name,
	       img_size_text(size, a), (long long)size,
	       stored == NODE_UNKNOWN ? "unavailable" : img_size_text(stored, b));
	if (n->drv->info && !n->drv->info(n, &i)) {
		if (i.encrypted)
			puts("encrypted: yes");
		if (i.cluster_size)
			printf("cluster_size: %lld\n", (long long)i.cluster_size);
		if (i.dirty)
			puts("cleanly shut down: no");
	}
	if (n->backing_name) {
		printf("backing file: %s", n->backing_name);
		if (!full)
			printf(" (cannot determine actual path)");
		else if (strcmp(full, n->backing_name))
			printf(" (actual path: %s)", full);
		putchar('\n');
		if (n->backing_format)
			printf("backing file format: %s\n", n->backing_format);
	}
	if (n->drv->snapshot_list && !n->drv->snapshot_list(n, &sn, &count)) {
		if (count)
			img_print_snapshots(sn, count);
		free(sn);
	}
	x = n->drv->specifics ? n->drv->specifics(n) : NULL;
	if (x) {
		puts("Format specific information:");
		img_print_members(1, x);
		json_decref(x);
	}
	free(full);
}

/* A chain must end: two images of one name would show each other for ever. Says so. */
static int chain_ends(struct img *t, const struct img_source *s)
{
	char *name = strdup(s->name), *format = s->format ? strdup(s->format) : NULL, *seen[NODE_CHAIN_MAX];
	unsigned count = 0;
	int ret = 0;

	while (name && !ret) {
		struct img_source at = { name, format, s->is_opts && !count, NODE_NO_BACKING | NODE_NO_IO };
		struct node *n;

		for (unsigned i = 0; i < count && !ret; i++)
			ret = strcmp(seen[i], name) ? 0 : -1;
		if (ret || count == NODE_CHAIN_MAX) {
			img_error("Backing file '%s' creates an infinite loop.", name);
			ret = -1;
			break;
		}
		n = img_open_node(t, &at);
		seen[count++] = name;
		free(format);
		name = n ? full_backing_name(n) : NULL;
		format = name && n->backing_format ? strdup(n->backing_format) : NULL;
		ret = n ? 0 : -1;
		node_close(n);
	}
	while (count)
		free(seen[--count]);
	free(name);
	free(format);
	return ret;
}

/* One image, or all of a chain. */
static int show(struct img *t, struct img_source *s, bool json, bool chain)
{
	json_t *list = json && chain ? json_array() : NULL, *one = NULL;
	char *name = strdup(s->name), *format = s->format ? strdup(s->format) : NULL;
	bool first = true;
	int status = 0;

	while (name && !status) {
		struct img_source at = { name, format, s->is_opts && first, NODE_NO_BACKING | NODE_NO_IO };
		struct node *n = img_open_node(t, &at);

		free(name);
		free(format);
		name = format = NULL;
		status = n ? 0 : 1;
		if (n && list)
			json_array_append_new(list, info_json(n));
		else if (n && json)
			one = info_json(n);
		else if (n) {
			if (!first)
				putchar('\n');
			print_info(n);
		}
		if (n && chain) {
			name = full_backing_name(n);
			format = name && n->backing_format ? strdup(n->backing_format) : NULL;
		}
		node_close(n);
		first = false;
	}
	free(name);
	free(format);
	if (json && !status)
		img_print_json(list ? json_incref(list) : one);
	json_decref(list);
	return status;
}

int img_info(struct img *t, int argc, char **argv)
{
	struct img_source s = { 0 };
	bool json, chain = false;
	const char *output = NULL;
	const struct img_option list[] = {
		IMG_ROW_FORMAT("format", &s.format),
		IMG_ROW_IMAGE_OPTS(&s.is_opts),
		IMG_ROW_OUTPUT(&output),
		{ 0, "backing-chain", IMG_ON, &chain, NULL, "show its backing files too" },
		IMG_ROW_SHARE(&t->force_share),
		{ 0 },
	};
	int ret = img_options_one(t, list, argc, argv, &s);

	if (ret >= 0)
		return ret;
	if (img_output(output, &json) || (chain && chain_ends(t, &s)))
		return 1;
	return show(t, &s, json, chain);
}

/* --- check --- */

static void print_check(const struct img *t, const struct node_check *c)
{
	if (!c->corruptions && !c->leaks && !c->check_errors)
		img_say(t, "No errors were found on the image.\n");
	if (c->corruptions)
		img_say(t,
			"\n%lld errors were found on the image.\nData may be corrupted, or further writes to the image "
			"may corrupt "
			"it.\n",
			(long long)c->corruptions);
	if (c->leaks)
		img_say(t,
			"\n%lld leaked clusters were found on the image.\nThis means waste of disk space, but no harm "
			"to data.\n",
			(long long)c->leaks);
	if (c->check_errors)
		img_say(t, "\n%lld internal errors have occurred during the check.\n", (long long)c->check_errors);
	if (c->total_clusters && c->allocated_clusters) {
		double all = (double)c->allocated_clusters;

		img_say(t, "%lld/%lld = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% compressed clusters\n",
			(long long)c->allocated_clusters, (long long)c->total_clusters,
			all * 100.0 / (double)c->total_clusters, (double)c->fragmented_clusters * 100.0 / all,
			(double)c->compressed_clusters * 100.0 / all);
	}
	if (c->image_end_offset)
		img_say(t, "Image end offset: %lld\n", (long long)c->image_end_offset);
}

static void print_check_json(const char *filename, const char *format, const struct node_check *c)
{
	const struct {
		const char *key;
		int64_t value;
		bool always;
	} numbers[] = {
		{ "check-errors", c->check_errors, true },
		{ "image-end-offset", (int64_t)c->image_end_offset, false },
		{ "corruptions", c->corruptions, false },
		{ "leaks", c->leaks, false },
		{ "corruptions-fixed", c->corruptions_fixed, false },
		{ "leaks-fixed", c->leaks_fixed, false },
		{ "total-clusters", (int64_t)c->total_clusters, false },
		{ "allocated-clusters", (int64_t)c->allocated_clusters, false },
		{ "fragmented-clusters", (int64_t)c->fragmented_clusters, false },
		{ "compressed-clusters", (int64_t)c->compressed_clusters, false },
	};
	json_t *o = json_object();

	json_object_set_new(o, "filename", json_string(filename));
	json_object_set_new(o, "format", json_string(format));
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (numbers[i].always || numbers[i].value)
			json_object_set_new(o, numbers[i].key, json_integer(numbers[i].value));
	img_print_json(o);
}

static int do_check(struct img *t, const struct img_source *s, unsigned fix, bool json)
{
	struct node *n = img_open_node(t, s);
	struct node_check c = { 0 }, again = { 0 };
	int ret;

	if (!n)
		return 1;
	if (!n->drv->check) {
		img_error("This image format does not support checks");
		node_close(n);
		return 63;
	}
	ret = n->drv->check(n, &c, fix);
	if (c.corruptions_fixed || c.leaks_fixed) {
		if (!json)
			img_say(t,
				"The following inconsistencies were found and repaired:\n\n    %lld leaked clusters\n  "
				"  %lld "
				"corruptions\n\nDouble checking the fixed image now...\n",
				(long long)c.leaks_fixed, (long long)c.corruptions_fixed);
		ret = n->drv->check(n, &again, 0);
		again.corruptions_fixed = c.corruptions_fixed;
		again.leaks_fixed = c.leaks_fixed;
		c = again;
	}
	if (!ret && json && !t->quiet)
		print_check_json(s->name, n->drv->name, &c);
	else if (!ret && !json)
		print_check(t, &c);
	node_close(n);
	if (ret)
		img_error("Check failed: %s", strerror(-ret));
	else if (c.check_errors)
		img_error("Check failed");
	return ret || c.check_errors ? 1 : c.corruptions ? 2 : c.leaks ? 3 : 0;
}

static int choose_repair(void *opaque, const char *text)
{
	unsigned *fix = opaque;

	if (!strcmp(text, "leaks"))
		*fix = CHECK_FIX_LEAKS;
	else if (!strcmp(text, "all"))
		*fix = CHECK_FIX_LEAKS | CHECK_FIX_ERRORS;
	else
		return img_usage("Unknown option value for -r (expecting 'leaks' or 'all'): %s", text);
	return 0;
}

int img_check(struct img *t, int argc, char **argv)
{
	struct img_source s = { .flags = NODE_CHECK };
	const char *output = NULL, *cache = NULL;
	unsigned fix = 0;
	bool json;
	const struct img_option list[] = {
		{ 'r', "repair", IMG_CALL, &fix, "leaks|all", "mend what is lost space only, or everything",
		  .call = choose_repair },
		IMG_ROW_FORMAT("format", &s.format),
		IMG_ROW_IMAGE_OPTS(&s.is_opts),
		IMG_ROW_OUTPUT(&output),
		IMG_ROW_SRC_CACHE(&cache),
		IMG_ROW_QUIET(&t->quiet),
		IMG_ROW_SHARE(&t->force_share),
		{ 0 },
	};
	int ret = img_options_one(t, list, argc, argv, &s);

	if (ret >= 0)
		return ret;
	if (fix)
		s.flags |= NODE_RDWR;
	if (img_output(output, &json))
		return 1;
	if (img_cache_mode(cache, &s.flags)) {
		img_error("Invalid source cache option: %s", cache);
		return 1;
	}
	return do_check(t, &s, fix, json);
}
