/* What the files of `vireo net` share. Main thread, once. */
#ifndef VIREO_CLI_NET_H
#define VIREO_CLI_NET_H

#include <jansson.h>

#include "cli/options.h"
#include "lan/lan.h"

/* Called with the network opened, which its caller closes. The exit status, or -1 with an error. */
typedef int net_fn(struct lan *l, struct config *c, int argc, char **argv, struct err *err);
/* Open for looking or for changing, call, tell an error. */
int net_with(bool change, net_fn *fn, struct config *c, int argc, char **argv);

void net_print_json(json_t *o); /* takes it */

/* net_create.c: what the options say, over what `d` is already. */
int net_read_options(struct config *c, struct lan_def *d, struct lan_wishes *w, struct err *err);

extern const struct cli_command net_create_command, net_edit_command, net_import_command, net_list_command,
	net_show_command, net_leases_command, net_stats_command, net_start_command, net_stop_command,
	net_delete_command;

#endif
