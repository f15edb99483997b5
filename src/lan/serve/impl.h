/* The parts of the process of serve.h, for each other only. One thread. */
#ifndef VIREO_LAN_SERVE_IMPL_H
#define VIREO_LAN_SERVE_IMPL_H

#include <jansson.h>

#include "base/loop.h"
#include "lan/serve/dhcp4.h"
#include "lan/serve/dhcp6.h"
#include "lan/serve/lease.h"
#include "lan/serve/mute.h"
#include "lan/serve/serve.h"

struct forward; /* the sockets to other name servers */
struct dns;
struct lan_control;

#define MAC_BUCKETS 4096u

struct server {
	struct lan_serve s; /* hosts are the leases' */
	struct loop *loop;
	struct leases *l4, *l6; /* NULL: not served */
	struct dhcp4_config c4;
	struct dhcp6_config c6;
	uint8_t mac[6];
	int packets, timer;
	struct loop_fd *packets_watch, *timer_watch, *stop_watch, *signal_watch;
	struct lan_control *control;
	struct dns *dns;

	/* Time that never jumps, in seconds since 1970 as it was at the start, and in ms. */
	int64_t start_s, start_ms, now, now_ms;
	int64_t next_ra_s;
	bool replaced; /* by another one, which says what has changed */
	unsigned ras;  /* unsolicited ones so far */
	struct lan_key key;
	struct mute mute;
	struct bucket known[MAC_BUCKETS], unknown[MAC_BUCKETS / 16], strangers;

	int lease_dir;
	const char *lease_name;
	bool unsaved;
	int64_t saved_ms;

	struct {
		uint64_t frames, dropped, limited, malformed, sent, unsent;
		uint64_t dhcp4[16], dhcp6[16], solicitations, advertisements;
		uint64_t saves, save_errors;
	} n;
	struct frame_out out;
};

void server_clock(struct server *v);
/* What is seen of this process is that, not the words of who made the network. */
void server_title(const char *title);
/* Known machines from now on; refused as a whole. */
int server_set_hosts(struct server *v, const struct lan_host *h, unsigned len, struct err *err);
json_t *server_leases(struct server *v);
json_t *server_stats(struct server *v);

/* A listening socket is made at once, before the rights are gone. */
struct lan_control *lan_control_new(struct server *v, struct err *err);
/* Close all connections. */
void lan_control_hang_up(struct lan_control *c);

/* As lan_serve_run(), with the sockets to other name servers, which it takes (NULL: there are none). */
int serve(const struct lan_serve *s, struct forward *f, int ready, int stop, struct err *err);

#endif
