/* The servers of a network as a process. See lan_impl.h. */
#include "lan/lan_impl.h"

int lan_server_start(struct lan *l, const struct lan_run *r, struct err *err)
{
	return 0;
}

void lan_server_stop(struct lan *l, const char *name)
{
}

bool lan_server_alive(struct lan *l, const char *name)
{
	return true;
}

int lan_server_hosts(struct lan *l, const struct lan_run *r, struct err *err)
{
	return 0;
}

json_t *lan_server_ask(struct lan *l, const char *name, const char *what, json_t *args, struct err *err)
{
	err_set(err, "network %s has no server", name);
	return NULL;
}

json_t *lan_dnsmasq_leases(struct lan *l, const char *name, struct err *err)
{
	err_set(err, "network %s has no server", name);
	return NULL;
}
