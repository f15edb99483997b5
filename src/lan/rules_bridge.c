/* Who is in a network's bridge, and what passes between its ports: see rules.h. */
#include <string.h>

#include "lan/rules_impl.h"

/* By a port that gives back what comes from it (lan_plug_cables()): nothing but what is for the machine itself. */
static void hairpin(FILE *f, const struct lan_rules *r)
{
	char mac[LAN_TEXTMAC];
	struct lan_set s;

	for (unsigned with_mac = 0; with_mac < 2; with_mac++) {
		lan_set_open(&s, f, with_mac ? "self" : "back",
			     with_mac ? "typeof iif . oif . ether daddr" : "typeof iif . oif");
		for (unsigned i = 0; i < r->ports->len; i++) {
			const struct lan_port *p = &r->ports->v[i];

			if (!*p->tap || !p->index)
				continue;
			fprintf(lan_set_next(&s), "%d . %d", p->index, p->index);
			if (with_mac)
				fprintf(f, " . %s", lan_text_mac(p->mac, mac));
		}
		lan_set_close(&s);
	}
	fputs("\tchain through {\n\t\ttype filter hook forward priority -200; policy accept;\n"
	      "\t\tiif . oif . ether daddr @self accept\n\t\tiif . oif @back drop\n\t}\n",
	      f);
}

/*
 * Between ports of a bridge of ours: only what looks at both ends passes. Whoever else is in it, put there by hand or
 * not known any more, reaches nobody. That is seen behind the filters of ports, because not each kernel can say in
 * which bridge a frame is (NFT_BRIDGE_META).
 */
static void between(FILE *f, const struct lan_rules *r)
{
	const unsigned uplink = *r->def->uplink ? if_nametoindex(r->def->uplink) : 0;
	char server[IFNAMSIZ];
	struct lan_set s;

	if (!strcmp(r->bridge, r->def->uplink))
		return;
	lan_server_name(r->def, server);
	lan_set_open(&s, f, "known", "typeof iif");
	if (uplink)
		fprintf(lan_set_next(&s), "%u", uplink);
	for (unsigned i = 0; i < r->ports->len; i++)
		if (*r->ports->v[i].tap && r->ports->v[i].index)
			fprintf(lan_set_next(&s), "%d", r->ports->v[i].index);
	lan_set_close(&s);
	fprintf(f,
		"\tchain between {\n\t\ttype filter hook forward priority -300; policy accept;\n"
		"\t\tiif @known oif != @known oifname != \"%s\" counter drop\n"
		"\t\toif @known iif != @known iifname != \"%s\" counter drop\n"
		"\t\toifname \"%s\" iif != @known counter drop\n\t\tiifname \"%s\" oif != @known counter drop\n\t}\n",
		server, server, server, server);
}

/* And to the host. */
static void to_host(FILE *f, const struct lan_rules *r)
{
	char server[IFNAMSIZ], text[LAN_TEXTMAC];
	uint8_t mac[6];

	if (!lan_has_gateway(r->def))
		return;
	lan_server_name(r->def, server);
	lan_bridge_mac(r->def->name, mac);
	fprintf(f, "\t\tether daddr %s iif != @known iifname != \"%s\" counter drop\n", lan_text_mac(mac, text),
		server);
}

void lan_rules_guarded(FILE *f, const struct lan_rules *r)
{
	const struct lan_def *d = r->def;
	bool any = false;

	lan_rules_table(f, "bridge", d->name);
	lan_rules_ports(f, r);
	between(f, r);
	for (unsigned i = 0; i < r->ports->len; i++)
		any |= *r->ports->v[i].tap && r->ports->v[i].index;
	/* By number: the name is free for anybody's again once its machine was killed. */
	fprintf(f, "\tchain " LAN_FROM " {\n\t\ttype filter hook prerouting priority -300; policy accept;\n%s",
		any ? "\t\tiif @cables goto cable\n" : "");
	to_host(f, r);
	fputs("\t}\n", f);
	if (any && lan_has_gateway(d) && d->publish_len)
		hairpin(f, r);
	fputs("}\n", f);
}
