/* Addresses for machines: who has which, so that no two have the same. See lan_impl.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lan/lan_impl.h"

#define PORTS_MOST 4096u

static struct lan_port *by_mac(struct lan_run *r, const uint8_t mac[6])
{
	for (unsigned i = 0; i < r->ports.len; i++)
		if (!memcmp(r->ports.v[i].mac, mac, 6))
			return &r->ports.v[i];
	return NULL;
}

static bool free4(const struct lan_run *r, uint32_t addr, bool evict)
{
	for (unsigned i = 0; i < r->def.statics_len; i++)
		if (r->def.statics[i].addr4 == addr)
			return false;
	for (unsigned i = 0; i < r->ports.len; i++)
		if (r->ports.v[i].addr4 == addr && (*r->ports.v[i].tap || !evict))
			return false;
	return true;
}

/* From a place that the MAC says, so that a machine comes back to its address; of machines that are gone at last. */
static uint32_t choose4(const struct lan_run *r, const uint8_t mac[6])
{
	const uint32_t count = r->def.last4 - r->def.first4 + 1, from = lan_sum(mac, 6) % count;

	for (unsigned evict = 0; evict < 2; evict++)
		for (uint32_t n = 0; n < count; n++) {
			uint32_t addr = r->def.first4 + (uint32_t)(((uint64_t)from + n) % count);

			if (free4(r, addr, evict))
				return addr;
		}
	return 0;
}

static void remove_port(struct lan_ports *p, unsigned i)
{
	memmove(&p->v[i], &p->v[i + 1], (--p->len - i) * sizeof(*p->v));
}

static int give_address(struct lan_run *r, struct lan_port *p, struct err *err)
{
	const struct lan_def *d = &r->def;
	const uint8_t *mac = p->mac;

	p->addr4 = 0;
	if (d->net4.len) {
		for (unsigned i = 0; i < d->statics_len; i++)
			if (!memcmp(d->statics[i].mac, mac, 6))
				p->addr4 = d->statics[i].addr4;
		if (!p->addr4)
			p->addr4 = choose4(r, mac);
		if (!p->addr4)
			return err_set(err, "network %s: no address is free in its range", d->name);
	}
	/* What it makes of its MAC itself, so that DHCPv6 and router advertisements give it the same one. */
	if (d->net6.len)
		p->addr6 = lan_eui64(&d->net6.addr, mac);
	return 0;
}

struct lan_port *lan_port_add(struct lan_run *r, const uint8_t mac[6], const char *tap, const char *vm, struct err *err)
{
	struct lan_port *p = by_mac(r, mac), new = { 0 };
	void *v;

	if (p) {
		snprintf(p->tap, sizeof(p->tap), "%s", tap);
		if (*vm)
			snprintf(p->vm, sizeof(p->vm), "%s", vm);
		return p;
	}
	memcpy(new.mac, mac, 6);
	snprintf(new.tap, sizeof(new.tap), "%s", tap);
	snprintf(new.vm, sizeof(new.vm), "%s", vm);
	if (r->def.model != LAN_BRIDGED && give_address(r, &new, err))
		return NULL;
	/* Whoever had it has been gone. */
	for (unsigned i = 0; i < r->ports.len; i++)
		if (!*r->ports.v[i].tap &&
		    ((new.addr4 && r->ports.v[i].addr4 == new.addr4) || r->ports.len == PORTS_MOST)) {
			remove_port(&r->ports, i);
			break;
		}
	v = r->ports.len < PORTS_MOST ? realloc(r->ports.v, (r->ports.len + 1) * sizeof(new)) : NULL;
	if (!v) {
		err_set(err, "network %s: too many machines", r->def.name);
		return NULL;
	}
	r->ports.v = v;
	r->ports.v[r->ports.len] = new;
	return &r->ports.v[r->ports.len++];
}
