/*
 * Where networks are kept: definitions, which outlive the host, and what is so of those that run, which does not. Files
 * are replaced whole, so that whoever is killed leaves the old or the new one.
 *
 * One lock for each directory of what runs: whoever changes anything holds it. Main thread.
 */
#ifndef VIREO_LAN_STORE_H
#define VIREO_LAN_STORE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "lan/def.h"

#define LAN_PATH 192
#define LAN_ID	 9

#define LAN_ROOTS_NETWORKS "/etc/vireo/networks"
/* What forwarding was like before (forwarding.c), in the run directory. */
#define LAN_FORWARDING_NOTES "/.forwarding"

struct lan_store {
	char etc[LAN_PATH];  /* NAME.json */
	char run[LAN_PATH];  /* NAME/state.json and so on */
	char keep[LAN_PATH]; /* what servers keep for a network's next start, which may be after a boot */
	char id[LAN_ID];     /* of the directory of what runs, for marks: others may stand in the same host */
	int lock;	     /* -1: not held */
};

/*
 * As root /etc/vireo/networks, /run/vireo/net and /var/lib/vireo/networks, else $XDG_CONFIG_HOME/vireo/networks,
 * $XDG_RUNTIME_DIR/vireo-net and $XDG_STATE_HOME/vireo/networks; $VIREO_NET_DIR says another place for all. Nothing is
 * made before something is written.
 */
int lan_store_find(struct lan_store *s, struct err *err);
/* Make the directory of what runs, and wait for its lock. */
int lan_store_lock(struct lan_store *s, struct err *err);
/* Only to keep others from changing anything, for whom it waits so long. 0: they still do; -1: that cannot be seen. */
int lan_store_share(struct lan_store *s, unsigned ms);
void lan_store_unlock(struct lan_store *s);

/* --- definitions --- */
int lan_store_load(const struct lan_store *s, const char *name, struct lan_def *d, struct err *err);
bool lan_store_has(const struct lan_store *s, const char *name);
/* The error that there is none of this name. Always returns -1. */
int lan_store_lacks(const char *name, struct err *err);
int lan_store_save(const struct lan_store *s, const struct lan_def *d, struct err *err);
/* An error where it is there and could not be removed now. */
int lan_store_removable(const struct lan_store *s, const char *name, struct err *err);
int lan_store_remove(const struct lan_store *s, const char *name, struct err *err);

/* What whoever was killed had begun to write. */
void lan_store_tidy(const struct lan_store *s);

/* Names in order; each is allocated. Of definitions, or of what the directory of what runs holds. */
struct lan_names {
	char **v;
	unsigned len;
};
int lan_store_names(const struct lan_store *s, struct lan_names *n, struct err *err);
int lan_store_running(const struct lan_store *s, struct lan_names *n, struct err *err);
/* Without memory it is left out. */
void lan_names_add(struct lan_names *n, const char *name);
void lan_names_free(struct lan_names *n);
bool lan_names_has(const struct lan_names *n, const char *name);

/* --- of leases --- */
#define LAN_KEPT_OWN	 ".leases"  /* a directory: the servers' own */
#define LAN_KEPT_DNSMASQ ".dnsmasq" /* a file */
void lan_keep_path(const struct lan_store *s, const char *name, const char *suffix, char buf[2 * LAN_PATH]);
/* Make their directory. An error where nothing can be written in it now. */
int lan_keep_prepare(const struct lan_store *s, const char *name, struct err *err);
/* `suffix` NULL: all that is kept of the network. */
void lan_keep_remove(const struct lan_store *s, const char *name, const char *suffix);

/* --- of a network that runs: files in its directory --- */
/* The path; `file` may be "". */
int lan_run_path(const struct lan_store *s, const char *name, const char *file, char *buf, size_t size);
int lan_run_write(const struct lan_store *s, const char *name, const char *file, const json_t *o, struct err *err);
/* NULL if it is not there, or is no JSON. */
json_t *lan_run_read(const struct lan_store *s, const char *name, const char *file);
/* Whether there is a directory of that name. One that holds nothing but what somebody else has put there is none of
 * ours. */
bool lan_run_has(const struct lan_store *s, const char *name);
/* All that is ours in it, and the directory. Fails where it cannot be removed, or something else is in it. */
int lan_run_remove(const struct lan_store *s, const char *name, struct err *err);

/* Replace `path` by `text`: written beside it, synced if it shall outlive the host, renamed. */
int lan_write_file(const char *path, const char *text, bool sync, struct err *err);

#endif
