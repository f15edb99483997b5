/*
 * The servers of a network for tests: lan_serve KEY=VALUE..., in a name space of their own on the interface `ifname`,
 * which is moved there. Prints the pid when they serve; with foreground=on they are this process, in the name space as
 * it is.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lan/addr.h"
#include "lan/serve/serve.h"

static struct lan_serve s = { .name = "test", .uid = (uid_t)-1, .gid = (gid_t)-1 };
static struct lan_host hosts[LAN_HOSTS_MAX];
static bool foreground;

static void copy(char *to, size_t room, const char *from)
{
	snprintf(to, room, "%s", from);
}

static void set_host(char *v)
{
	struct lan_host *h = &hosts[s.hosts_len++ % LAN_HOSTS_MAX];
	char *mac = strsep(&v, ","), *name = strsep(&v, ","), *a4 = strsep(&v, ","), *a6 = strsep(&v, ",");

	mac_parse(mac, h->mac);
	copy(h->name, sizeof(h->name), name ? name : "");
	if (a4 && *a4)
		inet_pton(AF_INET, a4, &h->addr4);
	if (a6 && *a6)
		inet_pton(AF_INET6, a6, &h->addr6);
}

static void set_forwarder(const char *v)
{
	struct sockaddr_in *a = (struct sockaddr_in *)&s.forwarder[s.forwarders++ % LAN_FORWARDERS_MAX];
	char host[64];
	unsigned port = 53;

	sscanf(v, "%63[^#]#%u", host, &port);
	a->sin_family = AF_INET;
	a->sin_port = htobe16((uint16_t)port);
	inet_pton(AF_INET, host, &a->sin_addr);
}

static bool set_address(const char *key, const char *v)
{
	const struct {
		const char *key;
		struct in_addr *v4;
		struct in6_addr *v6;
	} keys[] = {
		{ "addr4", &s.addr4, NULL },	   { "addr6", NULL, &s.addr6 },
		{ "first4", &s.first4, NULL },	   { "last4", &s.last4, NULL },
		{ "first6", NULL, &s.first6 },	   { "last6", NULL, &s.last6 },
		{ "gateway4", &s.gateway4, NULL }, { "gateway6", NULL, &s.gateway6 },
		{ "router6", NULL, &s.router6 },   { "boot_server", &s.boot_server, NULL },
	};

	for (size_t n = 0; n < ARRAY_LEN(keys); n++)
		if (!strcmp(keys[n].key, key))
			return inet_pton(keys[n].v4 ? AF_INET : AF_INET6, v,
					 keys[n].v4 ? (void *)keys[n].v4 : (void *)keys[n].v6) == 1;
	return false;
}

static bool set_number(const char *key, const char *v)
{
	const struct {
		const char *key;
		unsigned *at;
	} keys[] = { { "prefix4", &s.prefix4 }, { "prefix6", &s.prefix6 }, { "lease_s", &s.lease_s },
		     { "mtu", &s.mtu },		{ "uid", &s.uid },	   { "gid", &s.gid } };

	for (size_t n = 0; n < ARRAY_LEN(keys); n++) {
		if (strcmp(keys[n].key, key))
			continue;
		*keys[n].at = (unsigned)strtoul(v, NULL, 10);
		return true;
	}
	return false;
}

static bool set_switch(const char *key, const char *v)
{
	const struct {
		const char *key;
		bool *at;
	} keys[] = { { "dhcp4", &s.dhcp4 }, { "dhcp6", &s.dhcp6 },	  { "ra", &s.ra },
		     { "dns", &s.dns },	    { "slaac", &s.slaac },	  { "forward", &s.forward },
		     { "alone", &s.alone }, { "foreground", &foreground } };

	for (size_t n = 0; n < ARRAY_LEN(keys); n++) {
		if (strcmp(keys[n].key, key))
			continue;
		*keys[n].at = !strcmp(v, "on");
		return true;
	}
	return false;
}

static bool set_text(const char *key, const char *v)
{
	const struct {
		const char *key;
		char *at;
		size_t room;
	} keys[] = {
		{ "name", s.name, sizeof(s.name) },
		{ "ifname", s.ifname, sizeof(s.ifname) },
		{ "domain", s.domain, sizeof(s.domain) },
		{ "lease_path", s.lease_path, sizeof(s.lease_path) },
		{ "control_path", s.control_path, sizeof(s.control_path) },
		{ "log_path", s.log_path, sizeof(s.log_path) },
		{ "boot_file", s.boot_file, sizeof(s.boot_file) },
		{ "boot_file_efi", s.boot_file_efi, sizeof(s.boot_file_efi) },
	};

	for (size_t n = 0; n < ARRAY_LEN(keys); n++) {
		if (strcmp(keys[n].key, key))
			continue;
		copy(keys[n].at, keys[n].room, v);
		return true;
	}
	return false;
}

static int move(void *opaque, pid_t pid, struct err *err)
{
	char command[128];

	snprintf(command, sizeof(command), "ip link set %s netns %d", s.ifname, (int)pid);
	return system(command) ? err_set(err, "%s", command) : 0;
}

int main(int argc, char **argv)
{
	const struct lan_serve_attach attach = { .fn = move };
	struct err err = { "" };
	pid_t pid;

	s.hosts = hosts;
	for (int n = 1; n < argc; n++) {
		char *v = argv[n], *key = strsep(&v, "=");

		if (v && !strcmp(key, "host"))
			set_host(v);
		else if (v && !strcmp(key, "forwarder"))
			set_forwarder(v);
		else if (v && !strcmp(key, "mac"))
			mac_parse(v, s.mac);
		else if (v && !strcmp(key, "gateway_mac"))
			mac_parse(v, s.gateway_mac);
		else if (!v ||
			 (!set_text(key, v) && !set_switch(key, v) && !set_number(key, v) && !set_address(key, v)))
			err_set(&err, "'%s' is no key with a value", key);
	}
	if (*err.msg) {
		fprintf(stderr, "lan_serve: %s\n", err.msg);
		return 2;
	}
	pid = foreground ? lan_serve_run(&s, 1, -1, &err) : lan_serve_start(&s, &attach, &err);
	if (pid < 0)
		fprintf(stderr, "lan_serve: %s\n", err.msg);
	else if (!foreground)
		printf("%d\n", (int)pid);
	return pid < 0;
}
