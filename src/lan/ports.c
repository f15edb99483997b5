/* Addresses for machines: who has which, so that no two have the same. See lan_impl.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "lan/lan_impl.h"

#define PORTS_MOST 4096u

static struct lan_port *by_mac(struct lan_run *r, const uint8_t mac[6])
{
	for (unsigned i = 0; i < r->ports.len; i++)
		if (!memcmp(r->ports.v[i].mac, mac, 6))
			return &r->ports.v[i];
	return NULL;
}

/* --- who else has addresses --- */

static void add_lease(struct lan_run *r, const json_t *o)
{
	const json_int_t until = json_integer_value(json_object_get(o, "expires"));
	const char *mac = json_string_value(json_object_get(o, "mac")),
		   *at = json_string_value(json_object_get(o, "address"));
	struct lan_lease *e = &r->leased.v[r->leased.len];

	if (mac && at && lan_parse_mac(mac, e->mac) && lan_parse4(at, &e->addr4) && until >= time(NULL) &&
	    !by_mac(r, e->mac))
		r->leased.len++;
}

void lan_ports_ask(struct lan *l, struct lan_run *r)
{
	struct err ignored;
	json_t *all = r->def.dhcp ? lan_leases_of(l, &r->def, &ignored) : NULL, *o;
	size_t i;

	free(r->leased.v);
	r->leased = (struct lan_leased){ .v = calloc(json_array_size(all) + 1, sizeof(*r->leased.v)) };
	json_array_foreach(all, i, o)
	{
		if (r->leased.v)
			add_lease(r, o);
	}
	json_decref(all);
}

/* By somebody else than who has this MAC. */
static bool is_leased(const struct lan_run *r, uint32_t addr, const uint8_t mac[6])
{
	for (unsigned i = 0; i < r->leased.len; i++)
		if (r->leased.v[i].addr4 == addr && memcmp(r->leased.v[i].mac, mac, 6))
			return true;
	return false;
}

/* --- addresses --- */

/* What is given away, where nothing before it is left. */
enum last {
	NOBODYS,
	OF_GONE, /* machines, which had them */
	LEASED,	 /* to who is no machine: a few of these cannot keep machines from running */
};

static bool is_free4(const struct lan_run *r, uint32_t addr, const uint8_t mac[6], enum last last)
{
	for (unsigned i = 0; i < r->def.statics_len; i++)
		if (r->def.statics[i].addr4 == addr)
			return false;
	for (unsigned i = 0; i < r->ports.len; i++)
		if (r->ports.v[i].addr4 == addr && (*r->ports.v[i].tap || last < OF_GONE))
			return false;
	return last == LEASED || !is_leased(r, addr, mac);
}

/* From a place that the MAC says, so that a machine comes back to its address. */
static uint32_t choose4(const struct lan_run *r, const uint8_t mac[6])
{
	const uint32_t count = r->def.last4 - r->def.first4 + 1, from = lan_sum(mac, 6) % count;

	for (enum last last = NOBODYS; last <= LEASED; last++)
		for (uint32_t n = 0; n < count; n++) {
			uint32_t addr = r->def.first4 + (uint32_t)(((uint64_t)from + n) % count);

			if (is_free4(r, addr, mac, last))
				return addr;
		}
	return 0;
}

static void remove_port(struct lan_ports *p, unsigned i)
{
	memmove(&p->v[i], &p->v[i + 1], (--p->len - i) * sizeof(*p->v));
}

static bool has4(const struct lan_def *d)
{
	return d->model != LAN_BRIDGED && d->net4.len;
}

/* The one that the definition gives it by name; 0: none. */
static uint32_t static4(const struct lan_def *d, const uint8_t mac[6])
{
	for (unsigned i = 0; has4(d) && i < d->statics_len; i++)
		if (!memcmp(d->statics[i].mac, mac, 6))
			return d->statics[i].addr4;
	return 0;
}

/* What it makes of its MAC itself, so that DHCPv6 and router advertisements give it the same one. */
static struct in6_addr address6(const struct lan_def *d, const uint8_t mac[6])
{
	return d->model != LAN_BRIDGED && d->net6.len ? lan_eui64(&d->net6.addr, mac) : in6addr_any;
}

static int give_address(struct lan_run *r, struct lan_port *p, struct err *err)
{
	const struct lan_def *d = &r->def;

	p->addr4 = static4(d, p->mac);
	if (has4(d) && !p->addr4)
		p->addr4 = choose4(r, p->mac);
	if (has4(d) && !p->addr4)
		return err_set(err, "network %s: no address is free in its range", d->name);
	p->addr6 = address6(d, p->mac);
	/* Whoever had it has been gone. */
	for (unsigned i = 0; p->addr4 && i < r->ports.len; i++)
		if (&r->ports.v[i] != p && !*r->ports.v[i].tap && r->ports.v[i].addr4 == p->addr4)
			r->ports.v[i].addr4 = 0;
	return 0;
}

/* Whether a machine may go on with an address: a machine's, and nobody's by name. */
static bool may_have4(const struct lan_def *d, const struct lan_port *p)
{
	if (!has4(d))
		return !p->addr4;
	for (unsigned i = 0; i < d->statics_len; i++)
		if (d->statics[i].addr4 == p->addr4 && memcmp(d->statics[i].mac, p->mac, 6))
			return false;
	return lan_is_machine4(d, p->addr4);
}

/* Whether it would be given what it had when it was here. */
static bool comes_back_to(const struct lan_run *r, const struct lan_port *p)
{
	const struct lan_def *d = &r->def;
	const uint32_t own = static4(d, p->mac);

	if (!may_have4(d, p) || (own && p->addr4 != own))
		return false;
	return own || !has4(d) || (p->addr4 >= d->first4 && p->addr4 <= d->last4 && !is_leased(r, p->addr4, p->mac));
}

const char *lan_port_name(const struct lan_port *p)
{
	return *p->vm ? p->vm : p->tap;
}

int lan_ports_fit(struct lan_run *r, bool force, struct err *err)
{
	char text[LAN_TEXT6];

	for (unsigned i = 0; i < r->ports.len; i++) {
		struct lan_port *p = &r->ports.v[i];
		const struct in6_addr six = address6(&r->def, p->mac);
		bool keeps4 = may_have4(&r->def, p), keeps6 = !memcmp(&six, &p->addr6, sizeof(six));

		if (!*p->tap || (keeps4 && keeps6))
			continue;
		if (!force && ((!keeps4 && p->addr4) || (!keeps6 && !lan_zero6(&p->addr6))))
			return err_set(err, "machine %s has the address %s, which it could not keep (--force)",
				       lan_port_name(p),
				       !keeps4 && p->addr4 ? lan_text4(p->addr4, text) : lan_text6(&p->addr6, text));
		p->addr6 = six;
		if (!keeps4 && give_address(r, p, err))
			return -1;
	}
	return 0;
}

struct lan_port *lan_port_add(struct lan_run *r, const uint8_t mac[6], const char *tap, const char *vm, struct err *err)
{
	struct lan_port *p = by_mac(r, mac), new = { 0 };
	void *v;

	if (p && !*p->tap) {
		p->addr6 = address6(&r->def, mac);
		if (!comes_back_to(r, p) && give_address(r, p, err))
			return NULL;
	}
	if (p) {
		snprintf(p->tap, sizeof(p->tap), "%s", tap);
		if (*vm)
			snprintf(p->vm, sizeof(p->vm), "%s", vm);
		return p;
	}
	memcpy(new.mac, mac, 6);
	snprintf(new.tap, sizeof(new.tap), "%s", tap);
	snprintf(new.vm, sizeof(new.vm), "%s", vm);
	if (give_address(r, &new, err))
		return NULL;
	for (unsigned i = 0; i < r->ports.len; i++)
		if (!*r->ports.v[i].tap && (r->ports.len == PORTS_MOST || (has4(&r->def) && !r->ports.v[i].addr4))) {
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

void lan_ports_warn(const struct lan_run *r, const uint8_t *mac)
{
	char text[2 * LAN_NAME_LABEL + 64];
	struct lan_host *hosts;
	unsigned len;

	hosts = lan_known_hosts(&r->def, &r->ports, &len);
	for (unsigned i = 0; hosts && i < r->def.publish_len; i++) {
		const struct lan_publish *p = &r->def.publish[i];
		const struct lan_host *h = lan_renamed(p, &r->ports, hosts, len);

		if (h && (!mac || !memcmp(h->mac, mac, 6)))
			log_line(LOG_WARN, "lan", "network %s: %s leads nowhere: %s is called %s by --host",
				 r->def.name, lan_publish_text(p, text, sizeof(text)), p->to, h->name);
	}
	free(hosts);
}
