/* Subnets of networks: which are given, and who keeps one from them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <string.h>

#include "base/bytes.h"
#include "lan/subnets.h"

static struct lan_def d;
static struct err err;

struct holder {
	const char *net;
	enum lan_hold how;
	const char *by;
};

/* What becomes of it where these have what they have. */
static int fit(unsigned want, const struct lan_def *before, const struct holder *v, unsigned len)
{
	struct lan_subnets s;

	assert_int_equal(lan_subnets_begin(&s, &d, before, want, &err), 0);
	for (unsigned i = 0; i < len; i++) {
		struct lan_net4 four;
		struct lan_net6 six;

		if (!strcmp(v[i].net, "0.0.0.0/0"))
			lan_subnets_see4(&s, &(struct lan_net4){ 0 }, v[i].how, v[i].by);
		else if (lan_parse_net4(v[i].net, &four))
			lan_subnets_see4(&s, &four, v[i].how, v[i].by);
		else if (lan_parse_net6(v[i].net, &six))
			lan_subnets_see6(&s, &six, v[i].how, v[i].by);
		else
			fail_msg("%s", v[i].net);
	}
	return lan_subnets_end(&s, &err);
}

static void test_choice(void **state)
{
	struct holder all[] = { { "10.0.0.0/8", LAN_HOLD_NETWORK, "a" },
				{ "172.16.0.0/12", LAN_HOLD_NETWORK, "b" },
				{ "192.168.0.0/17", LAN_HOLD_NETWORK, "c" } };

	/* 10/8 and 172.16/12 are taken, and half of 192.168/16. */
	lan_def_init(&d, "lab");
	assert_int_equal(fit(LAN_WANT4 | LAN_WANT6, NULL, all, 3), 0);
	assert_int_equal(d.net4.addr & 0xffff8000, 0xc0a88000);
	assert_int_equal(d.net4.len, 24);
	assert_int_equal(d.net6.addr.s6_addr[0], 0xfd);
	assert_int_equal(d.net6.len, 64);
	assert_int_equal(fit(0, NULL, all, 3), 0);
	all[2].net = "192.168.0.0/16";
	assert_int_equal(fit(0, NULL, all, 3), -1);
	assert_non_null(strstr(err.msg, "overlaps network c"));
	assert_int_equal(fit(0, &d, all, 3), 0);
	lan_def_init(&d, "lab");
	assert_int_equal(fit(LAN_WANT4, NULL, all, 3), -1);
	assert_non_null(strstr(err.msg, "all private addresses are taken"));
	/* None is wanted. */
	assert_int_equal(fit(0, NULL, all, 3), 0);
	assert_int_equal(d.net4.len, 0);
}

/* The last one that is free is found, whoever has the others by whatever bits. */
static void test_last(void **state)
{
	static const char *const nets[] = { "160.0.0.0/3",    "192.0.0.0/2",	"10.0.0.0/9",	   "10.128.0.0/10",
					    "10.192.0.0/11",  "10.224.0.0/12",	"10.240.0.0/13",   "10.248.0.0/14",
					    "10.252.0.0/15",  "10.254.0.0/16",	"10.255.128.0/17", "10.255.64.0/18",
					    "10.255.32.0/19", "10.255.16.0/20", "10.255.8.0/21",   "10.255.4.0/22",
					    "10.255.2.0/23",  "10.255.0.0/24",	"10.255.1.7/32" };
	struct holder v[ARRAY_LEN(nets)];

	for (unsigned i = 0; i < ARRAY_LEN(nets); i++)
		v[i] = (struct holder){ nets[i], LAN_HOLD_NETWORK, "x" };
	lan_def_init(&d, "lab");
	assert_int_equal(fit(LAN_WANT4, NULL, v, ARRAY_LEN(nets)), -1);
	for (unsigned i = 0; i < ARRAY_LEN(nets); i++) {
		struct lan_net4 four;

		v[i].net = "203.0.113.0/24";
		lan_def_init(&d, "lab");
		assert_int_equal(fit(LAN_WANT4, NULL, v, ARRAY_LEN(nets)), 0);
		v[i].net = nets[i];
		lan_parse_net4(nets[i], &four);
		assert_true(lan_overlap4(&four, &d.net4));
	}
}

/* Subnets of the host's keep a network from them that the host would be in; routes only if they are not wider. */
static void test_holders(void **state)
{
	struct holder v[] = { { "0.0.0.0/1", LAN_HOLD_ROUTE, "vpn" }, { "fc00::/7", LAN_HOLD_ROUTE, "vpn" } };

	/* One that nothing is said of, as long as there is one. */
	lan_def_init(&d, "lab");
	assert_int_equal(fit(LAN_WANT4 | LAN_WANT6, NULL, v, 2), 0);
	assert_int_equal(d.net4.addr >> 20, 0xac1);
	assert_int_equal(fit(0, NULL, v, 2), 0);
	v[0].net = "0.0.0.0/0";
	lan_def_init(&d, "lab");
	assert_int_equal(fit(LAN_WANT4 | LAN_WANT6, NULL, v, 2), 0);
	assert_int_equal(d.net4.addr >> 24, 10);
	assert_int_equal(d.net6.addr.s6_addr[0], 0xfd);
	v[1].how = LAN_HOLD_LINK;
	lan_def_init(&d, "lab");
	assert_int_equal(fit(LAN_WANT6, NULL, v, 2), -1);
	assert_non_null(strstr(err.msg, "all unique local prefixes are taken"));
	v[0].net = "10.0.0.0/8";
	assert_true(lan_parse_net4("10.1.2.0/24", &d.net4));
	assert_int_equal(fit(0, NULL, v, 1), 0);
	for (unsigned i = 0; i < 2; i++) {
		v[0].net = i ? "10.1.2.0/24" : "10.1.2.9/32";
		assert_int_equal(fit(0, NULL, v, 1), -1);
		assert_non_null(strstr(err.msg, "subnet 10.1.2.0/24 overlaps a route of the host by vpn"));
		assert_int_equal(fit(0, &d, v, 1), 0);
	}
	v[0].net = "10.0.0.0/8";
	for (v[0].how = LAN_HOLD_NETWORK; v[0].how < LAN_HOLD_ROUTE; v[0].how++)
		assert_int_equal(fit(0, NULL, v, 1), -1);
	/* Where the host is not in it, it reaches nobody there anyway. */
	d.model = LAN_ISOLATED;
	assert_int_equal(fit(0, &d, v, 1), 0);
	v[0].how = LAN_HOLD_LINK;
	assert_int_equal(fit(0, NULL, v, 1), 0);
	v[0].how = LAN_HOLD_NETWORK;
	assert_int_equal(fit(0, NULL, v, 1), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_choice),
		cmocka_unit_test(test_last),
		cmocka_unit_test(test_holders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
