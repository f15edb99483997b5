/* A card in a network of the host (docs/lan.md): `--net NAME`, by a tap in the network's bridge. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "lan/lan.h"
#include "net/net.h"
#include "vm/impl.h"
#include "vm/lan.h"

/* As the run directory calls it, before there is one. */
static void machine_name(struct config *c, char buf[64])
{
	const char *name = config_peek(c, "name");

	if (name)
		snprintf(buf, 64, "%.63s", name);
	else
		snprintf(buf, 64, "vm-%d", (int)getpid());
}

bool vm_lan_is(const char *name)
{
	return lan_is_defined(name);
}

bool vm_lan_is_roots(void)
{
	return lan_roots_are_elsewhere();
}

/* What the options say of the card. */
static int read_cable(struct config *c, const char *prefix, struct lan_cable *cable, char vm[64], struct err *err)
{
	char key[64];
	const char *mac;
	uint64_t queues;

	*cable = (struct lan_cable){ .vm = vm };
	machine_name(c, vm);
	snprintf(key, sizeof(key), "%s.backend", prefix);
	cable->network = config_get(c, key);
	snprintf(key, sizeof(key), "%s.queues", prefix);
	if (config_uint(c, key, 1, (struct config_range){ 1, NET_QUEUES_MAX }, &queues, err))
		return -1;
	cable->queues = (unsigned)queues;
	snprintf(key, sizeof(key), "%s.trust", prefix);
	if (config_bool(c, key, false, &cable->trusted, err))
		return -1;
	snprintf(key, sizeof(key), "%s.mac", prefix);
	mac = config_peek(c, key);
	return mac && !lan_parse_mac(mac, cable->mac)
		       ? err_set(err, "%s: '%s' is not a unicast MAC address (52:54:00:12:34:56)", key, mac)
		       : 0;
}

int vm_lan_prepare(struct config *c, unsigned n, const char *prefix, struct err *err)
{
	char vm[64], key[64], text[LAN_TEXTMAC];
	struct lan_cable cable;

	if (read_cable(c, prefix, &cable, vm, err))
		return -1;
	snprintf(key, sizeof(key), "%s.mtu", prefix);
	/* What is no number is told by the card. */
	if (config_peek(c, key))
		cable.mtu = (unsigned)strtoul(config_peek(c, key), NULL, 10);
	if (lan_prepare(&cable, n, err))
		return err_prefix(err, "%s", prefix);
	snprintf(key, sizeof(key), "%s.mac", prefix);
	if (!config_peek(c, key) && config_choose(c, key, lan_text_mac(cable.mac, text), err))
		return -1;
	snprintf(key, sizeof(key), "%s.mtu", prefix);
	snprintf(text, sizeof(text), "%u", cable.mtu);
	return cable.mtu && !config_peek(c, key) ? config_choose(c, key, text, err) : 0;
}

void vm_lan_leave(struct config *c, const char *prefix)
{
	char key[64];

	snprintf(key, sizeof(key), "%s.backend", prefix);
	lan_leave(config_get(c, key));
}

/*
 * The guest of a machine that was saved has the address that the card had then, and asks for none again before half of
 * its lease is over.
 */
static int note_address(struct config *c, const char *prefix, const struct lan_cable *cable, struct err *err)
{
	char key[64], text[INET_ADDRSTRLEN];
	const char *had;

	snprintf(key, sizeof(key), "%s.last-address", prefix);
	had = config_get(c, key);
	if (!cable->addr4.s_addr)
		return 0;
	inet_ntop(AF_INET, &cable->addr4, text, sizeof(text));
	if (had && strcmp(had, text) && !cable->trusted)
		log_line(LOG_WARN, prefix,
			 "this machine had %s when it was saved and has %s now: what it sends is dropped until its "
			 "guest asks for an address again",
			 had, text);
	return had && !strcmp(had, text) ? 0 : config_choose(c, key, text, err);
}

struct net_peer *vm_lan_peer(struct vm *vm, const char *prefix, bool *started, struct err *err)
{
	struct lan_cable cable;
	char name[64];

	if (read_cable(vm->config, prefix, &cable, name, err))
		return NULL;
	if (lan_attach(&cable, err)) {
		err_prefix(err, "%s", prefix);
		return NULL;
	}
	*started = cable.started;
	if (note_address(vm->config, prefix, &cable, err))
		log_line(LOG_WARN, prefix, "its address is not kept: %s", err->msg);
	return net_tap_from_fds(vm->loop, prefix, cable.fd, cable.queues, err);
}
