/* See message.h. */
#include "message.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

struct lan_serve test_network(void)
{
	struct lan_serve s = { .name = "test",
			       .prefix4 = 24,
			       .prefix6 = 64,
			       .lease_s = 3600,
			       .mtu = 1400,
			       .dhcp4 = true,
			       .dhcp6 = true,
			       .ra = true,
			       .dns = true,
			       .domain = "lab.internal",
			       .boot_file = "a.0",
			       .boot_file_efi = "b.efi" };

	memcpy(s.gateway_mac, "\x52\x54\0\0\0\1", 6);
	inet_pton(AF_INET, "10.0.0.2", &s.addr4);
	inet_pton(AF_INET, "10.0.0.1", &s.gateway4);
	inet_pton(AF_INET, "10.0.0.3", &s.boot_server);
	inet_pton(AF_INET, "10.0.0.10", &s.first4);
	inet_pton(AF_INET, "10.0.0.109", &s.last4);
	inet_pton(AF_INET6, "fd00::2", &s.addr6);
	inet_pton(AF_INET6, "fe80::1", &s.gateway6);
	inet_pton(AF_INET6, "fd00::1", &s.router6);
	inet_pton(AF_INET6, "fd00::1000", &s.first6);
	inet_pton(AF_INET6, "fd00::1fff", &s.last6);
	return s;
}

struct leases *test_leases(const struct lan_serve *s, bool v6)
{
	const struct leases_config c = { .first = v6 ? addr_of6(&s->first6) : addr_of4(s->first4),
					 .last = v6 ? addr_of6(&s->last6) : addr_of4(s->last4),
					 .own = { v6 ? addr_of6(&s->addr6) : addr_of4(s->addr4),
						  v6 ? addr_of6(&s->router6) : addr_of4(s->gateway4) },
					 .net = v6 ? addr_of6(&s->addr6) : addr_of4(s->addr4),
					 .bits = v6 ? s->prefix6 : s->prefix4,
					 .lease_s = s->lease_s };
	struct lan_host h = { .mac = { 0x52, 0x54, 0, 0, 0, 9 }, .name = "db" };
	struct err err;
	struct leases *l = leases_new(&c, &err);

	if (!l)
		abort();
	inet_pton(AF_INET, "10.0.0.50", &h.addr4);
	inet_pton(AF_INET6, "fd00::50", &h.addr6);
	leases_set_hosts(l, &h, 1, NOW);
	return l;
}

struct frame_in *test_request(bool v6, const void *data, size_t len)
{
	static struct frame_in in;

	memset(&in, 0, sizeof(in));
	in.v6 = v6;
	in.proto = IPPROTO_UDP;
	memcpy(in.mac, MACHINE, 6);
	in.multicast = true;
	in.src6 = mac_link_local(in.mac);
	inet_pton(AF_INET6, "ff02::1:2", &in.dst6);
	in.data = data;
	in.len = len;
	return &in;
}

const struct frame_in *test_answer(const struct frame_out *out)
{
	static struct frame_in in;

	if (!out->len)
		return NULL;
	/* Into memory of just that size, where sanitizers see what is read beyond. */
	if (!frame_parse(out->b, out->len, false, &in))
		abort();
	return &in;
}
