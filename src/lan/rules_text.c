/* Words of the language of nft that the packet filters are made of: see rules_impl.h. */
#include <stdio.h>

#include "lan/rules_impl.h"

void lan_rules_table(FILE *f, const char *family, const char *name)
{
	fprintf(f, "table %s " LAN_TABLE "%s {\n\tcomment \"" NFNL_MARK "%s\"\n", family, name, name);
}

void lan_set_open(struct lan_set *s, FILE *f, const char *name, const char *head)
{
	*s = (struct lan_set){ .f = f };
	fprintf(f, "\tset %s { %s; ", name, head);
}

FILE *lan_set_next(struct lan_set *s)
{
	fputs(s->any ? ", " : "elements = { ", s->f);
	s->any = true;
	return s->f;
}

void lan_set_close(struct lan_set *s)
{
	fputs(s->any ? " }; }\n" : "}\n", s->f);
}

void lan_rules_hex6(FILE *f, const struct in6_addr *a)
{
	fputs("0x", f);
	for (int i = 0; i < 16; i++)
		fprintf(f, "%02x", a->s6_addr[i]);
}

const char *lan_machine(const uint8_t mac[6], char buf[LAN_MACHINE])
{
	for (unsigned i = 0; i < 6; i++)
		snprintf(buf + 2 * i, 3, "%02x", mac[i]);
	return buf;
}
