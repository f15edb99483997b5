/* See dns.h: there is none yet. */
#include "lan/dns.h"

struct forward *forward_new(const struct lan_serve *s, struct err *err)
{
	err_set(err, "%s: names are not served yet", s->name);
	return NULL;
}

struct dns *dns_new(struct server *v, struct forward *f, struct err *err)
{
	err_set(err, "names are not served yet");
	return NULL;
}

void dns_tick(struct dns *d)
{
}

json_t *dns_stats(const struct dns *d)
{
	return json_object();
}
