/* The list of internal snapshots as people read it: between the files of `vireo img`. Main thread. */
#ifndef VIREO_CLI_IMG_SNAPSHOTS_H
#define VIREO_CLI_IMG_SNAPSHOTS_H

#include "block/node.h"

void img_print_snapshots(const struct node_snapshot *sn, unsigned count);

#endif
