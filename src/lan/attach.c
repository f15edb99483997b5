/* A machine's cable: a tap in the network's bridge, with an address that is kept for it. See lan.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/entropy.h"
#include "lan/lan_impl.h"

static void close_queues(struct lan_cable *c, unsigned count)
{
	while (count--)
		close(c->fd[count]);
}

/* One that goes with the last of its descriptors; the kernel gives it the first number that is free. */
static int open_tap(struct lan_cable *c, struct err *err)
{
	struct ifreq q = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	unsigned n;

	if (c->queues > 1)
		q.ifr_flags |= IFF_MULTI_QUEUE;
	snprintf(q.ifr_name, sizeof(q.ifr_name), LAN_TAP "%%d");
	for (n = 0; n < c->queues; n++) {
		c->fd[n] = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
		if (c->fd[n] < 0 || ioctl(c->fd[n], TUNSETIFF, &q)) {
			err_errno(err, errno, "/dev/net/tun");
			close_queues(c, n + (c->fd[n] >= 0));
			return -1;
		}
	}
	memcpy(c->tap, q.ifr_name, sizeof(c->tap));
	return 0;
}

static bool has_any(const uint8_t mac[6])
{
	return mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5];
}

static bool has_mac(const struct lan_run *r, const uint8_t mac[6])
{
	for (unsigned i = 0; i < r->ports.len; i++)
		if (*r->ports.v[i].tap && !memcmp(r->ports.v[i].mac, mac, 6))
			return true;
	return false;
}

/* In the networks of this bridge, of which several may be bridged to one wire; NULL: in any. */
static bool is_used(struct lan *l, const uint8_t mac[6], const char *bridge)
{
	struct lan_run *r = calloc(1, sizeof(*r));
	struct lan_names names = { 0 };
	struct rtnl_links links = { 0 };
	struct err ignored;
	bool yes = false;

	if (r && !lan_store_running(&l->store, &names, &ignored) && !rtnl_links(&l->nl, &links, &ignored)) {
		for (unsigned i = 0; i < names.len && !yes; i++) {
			if (lan_run_load(l, names.v[i], r))
				continue;
			lan_prune_ports(l, r, &links);
			yes = has_mac(r, mac) && (!bridge || !strcmp(bridge, r->bridge));
			lan_run_free(r);
		}
	}
	rtnl_links_free(&links);
	lan_names_free(&names);
	free(r);
	return yes;
}

/* What other hosts do not have: those whose networks are bridged to the same wire choose others. */
static void host_id(char buf[65])
{
	FILE *f = fopen("/etc/machine-id", "re");

	if (!f || !fgets(buf, 65, f) || *buf == '\n')
		gethostname(buf, 65);
	buf[64] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	if (f)
		fclose(f);
}

static int choose(struct lan *l, const struct lan_cable *c, unsigned card, uint8_t mac[6], struct err *err)
{
	char seed[256], host[65] = "";

	host_id(host);
	for (unsigned n = 0; n < 1000; n++) {
		uint32_t h;

		snprintf(seed, sizeof(seed), "%s/%s/%s/%u/%u", host, c->network, c->vm, card, n);
		h = lan_sum(seed, (unsigned)strlen(seed));
		memcpy(mac, (const uint8_t[6]){ 0x52, 0x54, 0, (uint8_t)(h >> 16), (uint8_t)(h >> 8), (uint8_t)h }, 6);
		if (!is_used(l, mac, NULL))
			return 0;
	}
	return err_set(err, "network %s: no MAC is free", c->network);
}

/* The host's or the servers', whose addresses follow from them. */
static bool is_networks_own(const struct lan_run *r, const struct rtnl_links *links, const uint8_t mac[6])
{
	const struct rtnl_link *bridge = rtnl_find(links, r->bridge);
	uint8_t own[6];

	/* They differ in their second byte. */
	lan_bridge_mac(r->def.name, own);
	return (mac[0] == own[0] && !memcmp(mac + 2, own + 2, 4)) || (bridge && !memcmp(mac, bridge->mac, 6));
}

static int take_mac(struct lan *l, struct lan_cable *c, const struct lan_run *r, struct err *err)
{
	struct rtnl_links links;
	int rc = 0;

	if (!has_any(c->mac))
		return choose(l, c, 0, c->mac, err);
	if (rtnl_links(&l->nl, &links, err))
		return -1;
	if (is_used(l, c->mac, r->bridge))
		rc = err_set(err, "network %s: another machine has this MAC", c->network);
	else if (is_networks_own(r, &links, c->mac))
		rc = err_set(err, "network %s: this MAC is the network's own", c->network);
	rtnl_links_free(&links);
	return rc;
}

bool lan_is_defined(const char *name)
{
	struct lan_store s;
	struct err ignored;

	return lan_name_ok(name) && !lan_store_find(&s, &ignored) && lan_store_has(&s, name);
}

/* Larger frames would be lost on their way, and IPv6 has no smaller ones. */
static int check_mtu(struct lan *l, const struct lan_def *d, unsigned mtu, struct err *err)
{
	const unsigned most = lan_mtu(l, d);

	return mtu >= LAN_MTU_MIN && mtu <= most ? 0
						 : err_set(err, "mtu: %u is not within %u and %u, which network %s has",
							   mtu, LAN_MTU_MIN, most, d->name);
}

/* What every guest has unless it is told is not said. */
static unsigned told_mtu(struct lan *l, const struct lan_def *d)
{
	const unsigned mtu = lan_mtu(l, d);

	return mtu == ETH_DATA_LEN ? d->mtu : mtu;
}

int lan_prepare(struct lan_cable *c, unsigned n, struct err *err)
{
	struct lan *l = lan_open(false, err);
	struct lan_def *d = malloc(sizeof(*d));
	int rc = l && d ? lan_load(l, c->network, d, err) : -1;

	if (!rc && c->mtu)
		rc = check_mtu(l, d, c->mtu, err);
	if (!rc) {
		c->mtu = told_mtu(l, d);
		if (!has_any(c->mac))
			rc = choose(l, c, n, c->mac, err);
	}
	free(d);
	if (l)
		lan_close(l);
	return rc;
}

/* Filters come before the cable is in: the machine sends nothing that is not looked at. */
static int plug(struct lan *l, struct lan_run *r, struct lan_cable *c, struct err *err)
{
	const int index = (int)if_nametoindex(c->tap);
	char alias[RTNL_ALIAS], path[64];
	struct lan_port *port;
	struct err ignored;
	size_t len;

	/* The machine's name is there as well, where what is written is lost. */
	lan_cable_mark(&l->store, c->network, c->mac, alias);
	len = strlen(alias);
	snprintf(alias + len, sizeof(alias) - len, ":%s", c->vm);
	lan_ports_ask(l, r);
	port = lan_port_add(r, c->mac, c->tap, c->vm, err);
	if (!port)
		return -1;
	port->index = index;
	port->trusted = c->trusted;
	port->mtu = told_mtu(l, &r->def);
	c->addr4.s_addr = htobe32(port->addr4);
	if (rtnl_set_alias(&l->nl, index, alias, err) || lan_run_save(l, r, err) || lan_load_rules(l, r, err) ||
	    lan_server_hosts(l, r, err))
		return -1;
	/* The host itself says nothing there. */
	snprintf(path, sizeof(path), "ipv6/conf/%s/disable_ipv6", c->tap);
	lan_sysctl_set(path, "1", &ignored);
	c->mtu = told_mtu(l, &r->def);
	return lan_plug_cables(l, r, err);
}

static int attach(struct lan *l, struct lan_cable *c, struct err *err)
{
	struct lan_run *r = calloc(1, sizeof(*r));
	struct err ignored;
	int rc = -1;

	if (!r)
		return err_set(err, "out of memory");
	c->started = false;
	if (!lan_run_load(l, c->network, r) && r->up) {
		lan_firewalls_warn(&l->nl, &r->def, r->bridge);
		rc = 0;
	} else if (!lan_start(l, c->network, err)) {
		c->started = true;
		rc = lan_run_load(l, c->network, r) ? err_set(err, "network %s is down again", c->network) : 0;
	}
	if (rc || take_mac(l, c, r, err) || open_tap(c, err)) {
		rc = -1;
	} else if (plug(l, r, c, err)) {
		close_queues(c, c->queues);
		rc = -1;
	} else {
		lan_note_listeners(&r->def, c->vm);
		lan_ports_warn(r, c->mac);
	}
	if (rc && c->started)
		lan_stop(l, c->network, false, &ignored);
	lan_run_free(r);
	free(r);
	return rc;
}

int lan_attach(struct lan_cable *c, struct err *err)
{
	struct lan *l;
	int rc;

	if (!c->queues || c->queues > LAN_QUEUES_MAX)
		return err_set(err, "1 to %d queues", LAN_QUEUES_MAX);
	for (const char *p = c->vm; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return err_set(err, "network %s: the machine's name has a byte that is no character",
				       c->network);
	l = lan_open(true, err);
	rc = l ? lan_host_rights(err) || attach(l, c, err) ? -1 : 0 : -1;
	if (l)
		lan_close(l);
	return rc;
}

void lan_leave(const char *network)
{
	struct err ignored;
	struct lan *l = lan_open(true, &ignored);

	if (!l)
		return;
	lan_stop(l, network, false, &ignored);
	lan_close(l);
}
