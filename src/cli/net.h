/* What the files of `vireo net` share. Main thread, once. */
#ifndef VIREO_CLI_NET_H
#define VIREO_CLI_NET_H

#include <jansson.h>

#include "cli/options.h"
#include "lan/lan.h"

/* A subcommand. `run` is called with the networks opened, which its caller closes. The exit status, or -1 with an
 * error. */
struct net_command {
	struct cli_command cmd; /* without a `run`, or one that opens them itself */
	bool changes;		/* they are opened for that, else for looking */
	int (*run)(struct lan *l, struct config *c, int argc, char **argv, struct err *err);
};

void net_print_json(json_t *o); /* takes it */

/* net_create.c: what the options say, over what `d` is already. */
int net_read_options(struct config *c, struct lan_def *d, struct lan_wishes *w, struct err *err);

extern const struct net_command net_create_command, net_edit_command, net_import_command, net_list_command,
	net_show_command, net_leases_command, net_stats_command, net_start_command, net_stop_command,
	net_delete_command;

#endif
