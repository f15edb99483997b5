/* The program nft, as a process that is waited for. Main thread. */
#ifndef VIREO_LAN_NFT_H
#define VIREO_LAN_NFT_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

/*
 * Whoever waits for what `fd` locks waits also for a program nft whose caller was killed: it would make tables after
 * all has been looked at. -1: none.
 */
void nft_hold(int fd);
/* Run a transaction, or only see whether it could be run. */
int nft_run(const char *text, bool check, struct err *err);
/* `nft -j ARGUMENT...`: what it prints, or NULL. */
json_t *nft_json(const char *const *argv, struct err *err);

#endif
