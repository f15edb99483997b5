/* `vireo net`: networks of this host, one command each. */
#include "cli/net.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "cli/commands.h"
#include "cli/help.h"

static const struct cli_command *const subcommands[] = {
	&net_create_command.cmd,
	&net_list_command.cmd,
	&net_show_command.cmd,
	&net_edit_command.cmd,
	&net_delete_command.cmd,
	&net_start_command.cmd,
	&net_stop_command.cmd,
	&net_leases_command.cmd,
	&net_stats_command.cmd,
	&net_import_command.cmd,
	NULL,
};

#define PREFIX "net "

void net_print_json(json_t *o)
{
	json_dumpf(o, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(o);
}

/* --- start, stop, delete: what cannot be done with one network is told, and the others have their turn --- */

typedef int one_fn(struct lan *l, const char *name, bool force, struct err *err);

static int each_of_all(struct lan *l, one_fn *one, bool force, struct err *err)
{
	json_t *all = lan_list(l, err), *o;
	int status = 0;
	size_t i;

	if (!all)
		return -1;
	json_array_foreach(all, i, o)
	{
		const char *name = json_string_value(json_object_get(o, "name"));

		/* Nobody has named it, so what is wrong does not either. */
		if (one(l, name, force, err) && err_prefix(err, "%s", name))
			status = cli_fail(err);
	}
	json_decref(all);
	return status;
}

/* Those that are named; with --all, which not every command has, all. */
static int each(struct lan *l, struct config *c, int argc, char **argv, one_fn *one, struct err *err)
{
	bool all, force;
	int status = 0;

	if (config_bool(c, "all", false, &all, err) || config_bool(c, "force", false, &force, err))
		return -1;
	if (all == !!argc)
		return err_set(err,
			       all ? "--all and no name is meant, or names" : "names of networks are needed, or --all");
	if (all)
		return each_of_all(l, one, force, err);
	for (int i = 0; i < argc; i++)
		if (one(l, argv[i], force, err))
			status = cli_fail(err);
	return status;
}

static int start_one(struct lan *l, const char *name, bool force, struct err *err)
{
	return lan_start(l, name, err);
}

static int start(struct lan *l, struct config *c, int argc, char **argv, struct err *err)
{
	return each(l, c, argc, argv, start_one, err);
}

static int stop_foreign(struct lan *l, const char *name, bool force, struct err *err)
{
	return lan_stop_foreign(l, name, err);
}

static int stop(struct lan *l, struct config *c, int argc, char **argv, struct err *err)
{
	const bool foreign = config_peek(c, "foreign");

	if (foreign && config_peek(c, "all"))
		return err_set(err, "--foreign and a name is meant: --all are one's own");
	return each(l, c, argc, argv, foreign ? stop_foreign : lan_stop, err);
}

static int forget(struct lan *l, struct config *c, int argc, char **argv, struct err *err)
{
	return each(l, c, argc, argv, lan_delete, err);
}

#define PULLS "also while machines have cables in it"

static const struct cli_option delete_options[] = {
	{ "force", 0, CLI_FLAG, "force", NULL, NULL, PULLS, NULL },
	{ 0 },
};

static const struct cli_option stop_options[] = {
	{ "all", 0, CLI_FLAG, "all", NULL, NULL, "all that run", NULL },
	{ "force", 0, CLI_FLAG, "force", NULL, NULL, PULLS, NULL },
	{ "foreign", 0, CLI_FLAG, "foreign", NULL, NULL,
	  "what another run directory has made, a container's or one that is lost, with its machines in it", NULL },
	{ 0 },
};

static const struct cli_option start_options[] = {
	{ "all", 0, CLI_FLAG, "all", NULL, NULL, "all that are defined", NULL },
	{ 0 },
};

const struct net_command net_start_command = {
	.cmd = {
		.name = PREFIX "start",
		.also = "up",
		.summary = "Start networks that are defined, as after the host has booted",
		.operands = "NAME...",
		.max_operands = CLI_MANY,
		.operand_words = { "@network", "@network" },
		.options = start_options,
		.text = "`systemctl enable vireo-networks` has all started at each boot. What somebody else has changed of a "
			"network that\nruns (its packet filters, its bridge, its servers) is made again, as by each command that "
			"changes something.",
	},
	.changes = true,
	.run = start,
};

const struct net_command net_stop_command = {
	.cmd = {
		.name = PREFIX "stop",
		.also = "down|destroy",
		.summary = "Take networks down; their definitions are kept",
		.operands = "NAME...",
		.max_operands = CLI_MANY,
		.operand_words = { "@network", "@network" },
		.options = stop_options,
	},
	.changes = true,
	.run = stop,
};

const struct net_command net_delete_command = {
	.cmd = {
		.name = PREFIX "delete",
		.also = "rm|remove|undefine",
		.summary = "Take networks down and forget them",
		.operands = "NAME...",
		.min_operands = 1,
		.max_operands = CLI_MANY,
		.operand_words = { "@network", "@network" },
		.options = delete_options,
	},
	.changes = true,
	.run = forget,
};

/* --- the command itself --- */

static int run_command(const struct net_command *n, struct config *c, int argc, char **argv)
{
	struct err err;
	struct lan *l;
	int status;

	if (!n->run)
		return n->cmd.run(c, argc, argv);
	l = lan_open(n->changes, &err);
	status = l ? n->run(l, c, argc, argv, &err) : -1;
	if (l)
		lan_close(l);
	return status < 0 ? cli_fail(&err) : status;
}

static void keep(const struct cli_command *cmd, void *to)
{
	*(const struct cli_command **)to = cmd;
}

static int run_raw(int argc, char **argv)
{
	const struct cli_command *cmd;
	struct config *c;
	struct err err;
	int operands, parsed, status;

	/* As of other programs with commands: `help COMMAND` is `COMMAND --help`. */
	if (argc > 1 && !strcmp(argv[0], "help"))
		return run_raw(2, (char *[]){ argv[1], (char[]){ "--help" }, NULL });
	if (argc < 1 || !strcmp(argv[0], "--help") || !strcmp(argv[0], "-h") || !strcmp(argv[0], "help")) {
		cli_help(&cli_net_command, argc < 1 ? stderr : stdout);
		return argc < 1;
	}
	if (cli_subcommand(&cli_net_command, argv[0], keep, &cmd, &err))
		return cli_fail(&err);
	c = config_new();
	if (!c) {
		err_set(&err, "out of memory");
		return cli_fail(&err);
	}
	parsed = cli_parse(cmd, c, argc - 1, argv + 1, &operands, &err);
	status = 0;
	if (parsed == CLI_PARSED_HELP)
		cli_help(cmd, stdout);
	else
		status = parsed ? cli_fail(&err)
				: run_command(container_of(cmd, struct net_command, cmd), c, operands, argv + 1);
	config_free(c);
	return status;
}

const struct cli_command cli_net_command = {
	.name = "net",
	.summary = "Make, show and remove networks of this host that machines share",
	.operands = "COMMAND [OPTION]...",
	.max_operands = CLI_MANY,
	.subcommands = subcommands,
	.text = "A network is a bridge of the host with its packet filters and its servers (DHCP, router "
		"advertisements,\n"
		"DNS). `vireo run --net NAME` puts a cable of the machine into it.\n"
		"nat: machines reach the host and the world; the world reaches a machine by published ports only.\n"
		"isolated: machines reach each other only, not even the host.\n"
		"routed: as nat with the machines' own addresses; the world must know the way back.\n"
		"bridged: machines are hosts of the network that an interface of the host is in.\n"
		"A machine sends by its own MAC and the addresses that it is given (`vireo net show`); another address "
		"is "
		"its own by\n--host. `vireo run --net NAME,trust=on` lets a router, a DHCP server or a host of "
		"containers send "
		"what it wants.",
	.run_raw = run_raw,
};
