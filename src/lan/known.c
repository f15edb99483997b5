/* See known.h. */
#include "lan/known.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

/* To host `n`, a name that DNS can have, and that nobody else has. */
static void give_name(struct lan_host *hosts, unsigned len, unsigned n, const char *name)
{
	char label[LAN_NAME_LABEL + 1];

	if (!lan_label_of(name, label))
		return;
	for (unsigned i = 0; i < len; i++)
		if (!strcasecmp(hosts[i].name, label))
			return;
	snprintf(hosts[n].name, sizeof(hosts[n].name), "%s", label);
}

static void give_address(struct lan_host *h, const struct lan_def *d, uint32_t addr4)
{
	h->addr4.s_addr = htobe32(addr4);
	if (d->net6.len)
		h->addr6 = lan_eui64(&d->net6.addr, h->mac);
}

struct lan_host *lan_known_hosts(const struct lan_def *d, const struct lan_ports *ports, unsigned *len)
{
	struct lan_host *hosts = calloc(d->statics_len + ports->len + 1, sizeof(*hosts));

	*len = 0;
	for (unsigned i = 0; hosts && i < d->statics_len; i++) {
		const struct lan_static *s = &d->statics[i];

		memcpy(hosts[*len].mac, s->mac, 6);
		give_name(hosts, *len, *len, s->name);
		give_address(&hosts[*len], d, s->addr4);
		++*len;
	}
	for (unsigned i = 0; hosts && i < ports->len; i++) {
		const struct lan_port *p = &ports->v[i];
		unsigned n = 0;

		if (!*p->tap)
			continue;
		while (n < *len && memcmp(hosts[n].mac, p->mac, 6))
			n++;
		memcpy(hosts[n].mac, p->mac, 6);
		if (n == *len || !*hosts[n].name)
			give_name(hosts, *len, n, p->vm);
		give_address(&hosts[n], d, p->addr4);
		*len += n == *len;
	}
	return hosts;
}

struct lan_target lan_target_of(const struct lan_publish *p, const struct lan_host *hosts, unsigned len)
{
	struct lan_target t = { 0 };

	for (unsigned i = 0; i < len; i++)
		if (!strcasecmp(hosts[i].name, p->to))
			return (struct lan_target){ be32toh(hosts[i].addr4.s_addr), hosts[i].addr6 };
	if (!lan_parse4(p->to, &t.addr4))
		lan_parse6(p->to, &t.addr6);
	return t;
}

const struct lan_host *lan_renamed(const struct lan_publish *p, const struct lan_ports *ports,
				   const struct lan_host *hosts, unsigned len)
{
	const struct lan_port *called = NULL;
	char label[LAN_NAME_LABEL + 1];

	for (unsigned i = 0; i < ports->len && !called; i++)
		if (*ports->v[i].tap && lan_label_of(ports->v[i].vm, label) && !strcasecmp(label, p->to))
			called = &ports->v[i];
	for (unsigned i = 0; i < len; i++)
		if (!strcasecmp(hosts[i].name, p->to))
			return NULL;
	for (unsigned i = 0; i < len && called; i++)
		if (!memcmp(hosts[i].mac, called->mac, 6))
			return &hosts[i];
	return NULL;
}
