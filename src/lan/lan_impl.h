/* What the files of networks as objects share: see lan.h. Main thread, with the lock held. */
#ifndef VIREO_LAN_LAN_IMPL_H
#define VIREO_LAN_LAN_IMPL_H

#include "lan/firewalls.h"
#include "lan/host.h"
#include "lan/known.h"
#include "lan/lan.h"
#include "lan/nft.h"
#include "lan/rtnl.h"
#include "lan/rules.h"
#include "lan/serve/serve.h"
#include "lan/store.h"

struct lan {
	struct lan_store store;
	struct rtnl nl, nf; /* routes and links; packet filters */
	int leaving;	    /* the pidfd of a server that has said goodbye; -1: none */
};

/* Who has an address by DHCP and is no machine: hosts behind one that is trusted, and machines of before. */
struct lan_leased {
	struct lan_lease {
		uint8_t mac[6];
		uint32_t addr4;
	} * v;
	unsigned len;
};

#define LAN_WHY 512
/* What is so of a network that runs. */
struct lan_run {
	struct lan_def def; /* as it was started */
	char bridge[IFNAMSIZ];
	bool made;		 /* the bridge is ours */
	bool up;		 /* else it is being started or stopped, or whoever did that was killed */
	char why[LAN_WHY];	 /* it could not be repaired; "": nothing is known of that */
	bool known;		 /* it was found written down */
	bool fresh;		 /* its create has not ended */
	char space[LAN_HERE];	 /* where it is; "": that is not written */
	unsigned long long pids; /* the pid name space of who has written that; 0: likewise */
	struct lan_old6 old6[LAN_OLD6_MAX];
	unsigned old6_len;
	json_t *uplink; /* what was moved from the interface; NULL: nothing */
	struct lan_ports ports;
	struct lan_leased leased; /* where that was asked for */
};
/* -1: it does not run, or that is not known any more. */
int lan_run_load(struct lan *l, const char *name, struct lan_run *r);
int lan_run_save(struct lan *l, const struct lan_run *r, struct err *err);
void lan_run_free(struct lan_run *r);
/* By what is written: lan_prune_ports() sees which are gone. */
bool lan_has_cables(const struct lan_run *r);

/* --- up.c --- */
/*
 * Make so what `d` says, from whatever there is. Machines stay in it with what they have, or nothing is changed; with
 * `force` they get what they have then. After an error it is as it was.
 */
int lan_up(struct lan *l, const struct lan_def *d, bool force, struct err *err);
/* Put its mark on its bridge. */
int lan_mark_bridge(struct lan *l, const struct lan_run *r, int index, struct err *err);
/* The largest packet that is not lost in it. */
unsigned lan_mtu(struct lan *l, const struct lan_def *d);
/* Remove all of a network that can be found, by its record or without one. Goes on after errors; the first is told. */
int lan_down(struct lan *l, const char *name, struct err *err);
/* What machines have cables: those that are there, by the names that they have now. Returns how many have changed. */
int lan_prune_ports(struct lan *l, struct lan_run *r, const struct rtnl_links *links);
/* Those of all networks that run, of which some may name `name`. */
void lan_load_others(struct lan *l, const char *name);
int lan_load_rules(struct lan *l, const struct lan_run *r, struct err *err);
/* Whether its filters, of which nfnl_sums() says `sum`, are as they were loaded: nobody else has changed any of them.
 */
bool lan_has_rules(struct lan *l, const char *name, uint64_t sum);
/* What no machine of a bridged network may have; of others nothing. Of what the kernel has now. */
int lan_find_reserved(struct lan *l, const struct lan_run *r, struct lan_reserved *found, struct err *err);
void lan_reserved_free(struct lan_reserved *v);
/* And what forwarding was like before, once nobody needs it; of no network ("") only that. */
int lan_remove_rules(struct lan *l, const char *name, struct err *err);
/* Those that are written down are in the bridge, whoever has pulled them out. */
int lan_plug_cables(struct lan *l, const struct lan_run *r, struct err *err);

/* --- marks.c --- */
/* In the mark of a bridge that has a host's interface, before its name: that is given back whatever files are lost. */
#define LAN_MARK_UPLINK ":uplink="
/* What marks an interface as one of the network's, and a cable up to the machine's name. */
void lan_mark(const struct lan_store *s, const char *name, char buf[RTNL_ALIAS]);
void lan_cable_mark(const struct lan_store *s, const char *name, const uint8_t mac[6], char buf[RTNL_ALIAS]);
bool lan_has_mark(const struct rtnl_link *k, const char *mark);
/* By whomever of ours. */
bool lan_is_marked(const struct rtnl_link *k);
bool lan_is_ours(const struct lan_store *s, const struct rtnl_link *k, const char *name);
bool lan_link_is_ours(struct lan *l, const char *link, const char *name);
/* A bridge of a network of ours that has what an interface of the host had. */
bool lan_has_uplink(const struct rtnl_link *k);
/* Of a machine in this network. */
bool lan_is_cable(const struct lan_store *s, const struct rtnl_link *k, const char *name);
/* Those of a network of this name that was before are none of the one that is made now. */
int lan_unmark_cables(struct lan *l, const char *name, struct err *err);
/*
 * Whether there is something of a network of this name ("": any) that another run directory knows of, which is none of
 * our business; and that directory's identity.
 */
bool lan_is_others(struct lan *l, const char *name);
bool lan_find_others(struct lan *l, const char *name, char id[LAN_ID]);
/* An error if so: both would have the same filters. */
int lan_not_others(struct lan *l, const char *name, struct err *err);

/* --- conns.c --- */
/* Connections of this network; those by ports of the host that led to a machine, and that none leads to it now. */
void lan_forget_conns(struct lan *l, const struct lan_def *d);
void lan_forget_published(struct lan *l, const struct lan_run *before, const struct lan_run *now);

/* --- listeners.c --- */
/* A socket of the host that takes what comes from outside, as the port that would lead to it, and whose it is. */
struct lan_listener {
	struct lan_publish at;
	uint32_t inode;
	uid_t uid;
};
/*
 * The first whom a port of `d` (that leads to the machine `to`; NULL: any) leads connections past, and none of `before`
 * (NULL: nothing) has. 1: found; 0: there is none. Through a socket of sock_diag.
 */
int lan_find_listener(struct rtnl *diag, const struct lan_def *d, const struct lan_def *before, const char *to,
		      struct lan_listener *found, struct err *err);
/* An error that names it. */
int lan_check_listeners(const struct lan_def *d, const struct lan_def *before, struct err *err);
/* A machine has come to which a port leads from now on: one that has begun to listen meanwhile is named. */
void lan_note_listeners(const struct lan_def *d, const char *vm);

/* --- space.c --- */
/* The pid name space that a process is in, by its number or "self"; 0: that cannot be seen. */
unsigned long long lan_pids(const char *process);
bool lan_is_here(const struct lan_run *r);
/* Whether a network is in another one, where something of it lives. */
bool lan_is_elsewhere(struct lan *l, const struct lan_run *r);
/* An error where one that runs is; records of those of which nothing lives are removed. Before anything is changed. */
int lan_check_space(struct lan *l, struct err *err);

/* --- ports.c --- */
/* What a machine is called where its user reads. */
const char *lan_port_name(const struct lan_port *p);
/* Ask the server who has leases, so that machines are given other addresses from now on. */
void lan_ports_ask(struct lan *l, struct lan_run *r);
/*
 * What machines have by another definition is held against this one: an error names who could not keep it, or with
 * `force` they are given other addresses. Those that are gone get theirs when they come back.
 */
int lan_ports_fit(struct lan_run *r, bool force, struct err *err);
/* Say which published ports lead nowhere because --host calls the machine (of this MAC; NULL: any) otherwise. */
void lan_ports_warn(const struct lan_run *r, const uint8_t *mac);
/* A cable with an address of its own; the one that this MAC has already. NULL where none is free. */
struct lan_port *lan_port_add(struct lan_run *r, const uint8_t mac[6], const char *tap, const char *vm,
			      struct err *err);

/* --- observe.c --- */
/* What the server of a network has handed out, or why that is not known. */
json_t *lan_leases_of(struct lan *l, const struct lan_def *d, struct err *err);

/* --- drops.c --- */
/* {"filters": {CHAIN: packets}, "cables": {MAC: frames}}, since the network was started. */
json_t *lan_drops(struct lan *l, const struct lan_run *r);
/* What has been counted by filters that are no more. */
void lan_drops_keep(struct lan *l, const char *name, const json_t *drops);

/* --- health.c --- */
/* What a network that runs has not, or otherwise than it was made. */
enum lan_fault {
	LAN_NO_RECORD = 1,
	LAN_UNFINISHED = 2,
	LAN_NO_BRIDGE = 4,
	LAN_BRIDGE_DOWN = 8,
	LAN_NO_ADDRESSES = 16,
	LAN_NO_SERVER = 32,
	LAN_SERVER_OUT = 64,
	LAN_NO_FILTERS = 128,
	LAN_OTHER_FILTERS = 256,
	LAN_CABLE_OUT = 512,
	LAN_UPLINK_OUT = 1024,
	LAN_NO_FORWARDING = 2048,
	LAN_NO_MARK = 4096,
	LAN_OTHER_MTU = 8192,
	LAN_BRIDGE_STILL = 16384,
	LAN_SERVER_HANGS = 32768,
	LAN_UPLINK_DOWN = 65536,
};
/* What there is on the host, of several networks at once. */
struct lan_sight {
	struct rtnl_links links;
	struct rtnl_messages addresses;
	struct lan_names filtered; /* networks that have packet filters, and the sums over these */
	uint64_t *sums;
	struct lan_names answering, hanging; /* networks whose servers of ours are there */
	bool blind;	 /* who may change nothing sees no filters and reaches no servers: they are not looked at */
	bool unfiltered; /* the kernel says nothing of packet filters */
	struct err why;	 /* of both */
};
/* `names`: whose servers are asked, for two seconds at most, however many hang. */
int lan_look(struct lan *l, const struct lan_names *names, struct lan_sight *s, struct err *err);
void lan_sight_free(struct lan_sight *s);
/* Bits of enum lan_fault. After lan_prune_ports(). */
unsigned lan_faults(struct lan *l, const struct lan_run *r, const struct lan_sight *s);
/* The same of one of which no record can be read: whether something of it is there. */
unsigned lan_remains(struct lan *l, const char *name, const struct lan_sight *s);
/*
 * What only `start` mends: the interface is not in the bridge (it may be gone, or have its addresses by now), or down,
 * as somebody may want it.
 */
bool lan_lacks_uplink(struct lan *l, const struct lan_run *r);
/* In words, an array. */
json_t *lan_fault_texts(unsigned faults);

/* --- reconcile.c --- */
int lan_reconcile(struct lan *l, struct err *err);

/* --- server.c --- */
/* In place of that of `now`, which goes on where it is told the same: only the machines are others. */
int lan_server_start(struct lan *l, const struct lan_run *r, const struct lan_run *now, struct err *err);
/*
 * `r` needs its name only. It serves no more; its process may have a moment to go, until lan_server_await().
 * `replaced`: another one comes that speaks for the same router.
 */
void lan_server_stop(struct lan *l, const struct lan_run *r, bool replaced);
void lan_server_await(struct lan *l);
/* The bridge's end of its cable, which the kernel removes otherwise, some time later. */
void lan_server_unplug(struct lan *l, const struct lan_run *r);
/* The MAC of that end, by which it is known as ours from the beginning. */
void lan_server_mac(const char *name, uint8_t mac[6]);
/*
 * Of these networks those whose servers (ours: dnsmasq is not asked) answer, and those whose servers are there and do
 * not, and so serve nobody. All are asked at once.
 */
void lan_servers_ask(struct lan *l, const struct lan_names *names, struct lan_names *answering,
		     struct lan_names *hanging);
/* End one that hangs, without a word. */
void lan_server_kill(struct lan *l, const struct lan_run *r);
/* It is there, among processes that cannot be seen from here. */
bool lan_server_is_hidden(struct lan *l, const char *name);
/* Tell it of the machines that the network knows now. */
int lan_server_hosts(struct lan *l, const struct lan_run *r, struct err *err);
json_t *lan_server_ask(struct lan *l, const char *name, const char *what, json_t *args, struct err *err);

/* The cable between the bridge and the name space of the server. */
int lan_server_join(struct lan *l, const struct lan_run *r, pid_t pid, struct err *err);

/*
 * Whom the servers of this network become, for root: a user (and group) whom nothing else is, so that no other process
 * may end them or have their files. Nobody, in a user name space without that one; without both, and for others, -1.
 */
uid_t lan_server_user(const char *name);

/* --- dnsmasq.c --- */
int lan_dnsmasq_start(struct lan *l, const struct lan_run *r, struct err *err);
void lan_dnsmasq_stop(struct lan *l, const struct lan_run *r);
/* One of another run directory, of a network that the host is in. */
void lan_dnsmasq_stop_foreign(struct lan *l, const char *name);
bool lan_dnsmasq_alive(struct lan *l, const struct lan_run *r);
int lan_dnsmasq_hosts(struct lan *l, const struct lan_run *r, struct err *err);
json_t *lan_dnsmasq_leases(struct lan *l, const char *name, struct err *err);

/* --- uplink.c --- */
/* Whether a bridged network can have its interface; `joined`: it is a bridge already. */
int lan_uplink_check(struct lan *l, const struct lan_def *d, bool *joined, struct err *err);
int lan_uplink_take(struct lan *l, struct lan_run *r, struct err *err);
int lan_uplink_give_back(struct lan *l, const struct lan_run *r, struct err *err);

#endif
