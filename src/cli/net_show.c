/* `vireo net list`, `show`, `leases` and `stats`. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/net.h"

static const struct cli_option options[] = {
	{ "json", 0, CLI_FLAG, "json", NULL, NULL, "print JSON for programs", NULL },
	{ 0 },
};

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "-";
}

static int wants_json(struct config *c, bool *json, struct err *err)
{
	return config_bool(c, "json", false, json, err);
}

/* --- list --- */

/* Why it is not up, or says so little. */
static void explain(const json_t *o)
{
	const json_t *why;
	size_t i;

	/* Which says more than what is not as it was made, and that a start would not mend. */
	if (json_object_get(o, "error")) {
		fprintf(stderr, "vireo: %s: %s\n", text(o, "name"), text(o, "error"));
		return;
	}
	json_array_foreach(json_object_get(o, "problems"), i, why)
		fprintf(stderr, "vireo: %s: %s\n", text(o, "name"), json_string_value(why));
	if (json_object_get(o, "problems"))
		fprintf(stderr, "vireo: %s: `vireo net start %s` makes it again\n", text(o, "name"), text(o, "name"));
}

static int list(struct lan *l, struct config *c, int argc, char **argv, struct err *err)
{
	const char *unseen = NULL;
	json_t *a, *o;
	size_t i;
	bool json;

	if (wants_json(c, &json, err))
		return -1;
	a = lan_list(l, err);
	if (!a)
		return -1;
	if (json) {
		net_print_json(a);
		return 0;
	}
	printf("%-16s %-9s %-9s %-15s %-19s %-24s %s\n", "NAME", "MODEL", "STATE", "BRIDGE", "SUBNET", "SUBNET6",
	       "CABLES");
	json_array_foreach(a, i, o)
	{
		printf("%-16s %-9s %-9s %-15s %-19s %-24s %d\n", text(o, "name"), text(o, "model"), text(o, "state"),
		       text(o, "bridge"), text(o, "subnet"), text(o, "subnet6"),
		       (int)json_integer_value(json_object_get(o, "cables")));
	}
	json_array_foreach(a, i, o)
	{
		explain(o);
		unseen = json_object_get(o, "unseen") ? text(o, "unseen") : unseen;
	}
	if (unseen)
		fprintf(stderr, "vireo: packet filters and servers are not looked at: %s\n", unseen);
	/* And why there are none. */
	if (!json_array_size(a) && lan_roots_are_elsewhere())
		fputs("vireo: these are your own networks; root has others\n", stderr);
	json_decref(a);
	return 0;
}

/* --- show --- */

/* "key: value", lists indented below. */
static void print_members(const json_t *o, int indent);

/* A name that somebody else has given does not look like a line of ours. */
static void print_word(const char *before, const char *word)
{
	fputs(before, stdout);
	for (; word && *word; word++)
		putchar((unsigned char)*word < ' ' || *word == 0x7f ? '?' : *word);
}

static void print_value(const char *key, const json_t *v, int indent)
{
	size_t i;
	json_t *e;

	printf("%*s%s:", indent, "", key);
	if (json_is_string(v))
		printf(" %s\n", json_string_value(v));
	else if (json_is_integer(v))
		printf(" %lld\n", (long long)json_integer_value(v));
	else if (json_is_boolean(v))
		printf(" %s\n", json_is_true(v) ? "yes" : "no");
	else
		putchar('\n');
	if (json_is_object(v))
		print_members(v, indent + 2);
	if (!json_is_array(v))
		return;
	json_array_foreach(v, i, e)
	{
		const char *k;
		json_t *m;

		printf("%*s-", indent + 2, "");
		if (json_is_string(e))
			print_word(" ", json_string_value(e));
		json_object_foreach(e, k, m)
		{
			printf(" %s", k);
			if (json_is_integer(m))
				printf("=%lld", (long long)json_integer_value(m));
			else
				print_word("=", json_is_true(m) ? "yes" : json_string_value(m));
		}
		putchar('\n');
	}
}

static void print_members(const json_t *o, int indent)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)o, key, v) print_value(key, v, indent);
}

static int show_any(struct config *c, json_t *o, struct err *err)
{
	bool json;

	if (!o)
		return -1;
	if (wants_json(c, &json, err)) {
		json_decref(o);
		return -1;
	}
	if (json) {
		net_print_json(o);
		return 0;
	}
	print_members(o, 0);
	json_decref(o);
	return 0;
}

static int show(struct lan *l, struct config *c, int argc, char **argv, struct err *err)
{
	return show_any(c, lan_show(l, argv[0], err), err);
}

static int stats(struct lan *l, struct config *c, int argc, char **argv, struct err *err)
{
	return show_any(c, lan_stats(l, argv[0], err), err);
}

/* --- leases --- */

static const char *until(const json_t *o, char buf[32])
{
	time_t t = (time_t)json_integer_value(json_object_get(o, "expires"));
	struct tm tm;

	if (!t || !localtime_r(&t, &tm) || !strftime(buf, 32, "%Y-%m-%d %H:%M:%S", &tm))
		return "-";
	return buf;
}

static int leases(struct lan *l, struct config *c, int argc, char **argv, struct err *err)
{
	char when[32];
	json_t *a, *o;
	size_t i;
	bool json;

	if (wants_json(c, &json, err))
		return -1;
	a = lan_leases(l, argv[0], err);
	if (!a)
		return -1;
	if (json) {
		net_print_json(a);
		return 0;
	}
	printf("%-18s %-40s %-24s %s\n", "MAC", "ADDRESS", "NAME", "UNTIL");
	json_array_foreach(a, i, o)
		printf("%-18s %-40s %-24s %s\n", text(o, "mac"), text(o, "address"), text(o, "name"), until(o, when));
	json_decref(a);
	return 0;
}

const struct net_command net_list_command = {
	.cmd = {
		.name = "net list",
		.also = "ls",
		.summary = "List the networks",
		.operands = "",
		.options = options,
		.text = "up: all of it is as it was made. degraded: something of it is gone or was changed since (its "
			"bridge,\nits packet filters, its server...; JSON says what in \"problems\"). broken: it could not be "
			"made, or who\nwas making or ending it was killed. changing: neither, perhaps: another command is at work. "
			"elsewhere: in\nanother network name space. `vireo net start NAME` mends what can be mended.",
	},
	.run = list,
};

const struct net_command net_show_command = {
	.cmd = {
		.name = "net show",
		.also = "inspect|info|get|dumpxml",
		.summary = "Show a network, its definition and who has a cable in it",
		.operands = "NAME",
		.min_operands = 1,
		.max_operands = 1,
		.operand_words = { "@network" },
		.options = options,
	},
	.run = show,
};

const struct net_command net_leases_command = {
	.cmd = {
		.name = "net leases",
		.also = "dhcp-leases|list-leases",
		.summary = "List the addresses that a network has handed out",
		.operands = "NAME",
		.min_operands = 1,
		.max_operands = 1,
		.operand_words = { "@network" },
		.options = options,
	},
	.run = leases,
};

const struct net_command net_stats_command = {
	.cmd = {
		.name = "net stats",
		.summary = "Show what a network has carried and refused",
		.text = "cables: what each cable has carried, from the machine's side, and in `refused` the frames that were "
			"not its\nown to send. refused: packets that chains of the network's filters have dropped since it "
			"was started: `in` and\n`published` into the network (neither published nor opened), `out` out of it "
			"by an address that is not of\nit, `input` so to the host, `fair` beyond a machine's share of "
			"connections, `strange` beyond its share of\naddresses that do not answer, `from` and `between` of who "
			"is in the bridge and not known.",
		.operands = "NAME",
		.min_operands = 1,
		.max_operands = 1,
		.operand_words = { "@network" },
		.options = options,
	},
	.run = stats,
};
