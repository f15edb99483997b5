/* Messages of rtnetlink: how they are built, bounded and taken apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "lan/rtnl.h"

static void test_build(void **state)
{
	const struct ifinfomsg head = { .ifi_index = 7 };
	const struct rtattr *t[IFLA_MAX + 1], *in[IFLA_INFO_MAX + 1];
	struct rtnl_req q;
	struct rtattr *info;

	rtnl_begin(&q, RTM_NEWLINK, NLM_F_CREATE, &head, sizeof(head));
	rtnl_put_text(&q, IFLA_IFNAME, "vr-a"); /* 5 bytes, padded to 8 */
	rtnl_put_u32(&q, IFLA_MTU, 1400);
	info = rtnl_nest(&q, IFLA_LINKINFO);
	rtnl_put_text(&q, IFLA_INFO_KIND, "bridge");
	rtnl_nest_end(&q, info);
	assert_false(q.full);
	assert_int_equal(q.h->nlmsg_type, RTM_NEWLINK);
	assert_int_equal(q.h->nlmsg_flags, NLM_F_REQUEST | NLM_F_CREATE);
	assert_int_equal(q.h->nlmsg_len, NLMSG_HDRLEN + sizeof(head) + 12 + 8 + 4 + 4 + 7);
	rtnl_attrs(IFLA_RTA(NLMSG_DATA(q.h)), IFLA_PAYLOAD(q.h), t, IFLA_MAX);
	assert_string_equal(RTA_DATA(t[IFLA_IFNAME]), "vr-a");
	assert_int_equal(*(uint32_t *)RTA_DATA(t[IFLA_MTU]), 1400);
	rtnl_attrs(RTA_DATA(t[IFLA_LINKINFO]), RTA_PAYLOAD(t[IFLA_LINKINFO]), in, IFLA_INFO_MAX);
	assert_string_equal(RTA_DATA(in[IFLA_INFO_KIND]), "bridge");
	assert_null(t[IFLA_ADDRESS]);
}

static void test_full(void **state)
{
	static const char much[RTNL_REQUEST / 4 * 3];
	struct rtnl r = { .fd = -1 };
	struct rtnl_req q;
	struct err err;

	rtnl_begin(&q, RTM_NEWLINK, 0, &(struct ifinfomsg){ 0 }, sizeof(struct ifinfomsg));
	rtnl_put(&q, IFLA_IFALIAS, much, sizeof(much));
	assert_false(q.full);
	rtnl_put(&q, IFLA_IFALIAS, much, sizeof(much));
	assert_true(q.full);
	rtnl_nest_end(&q, rtnl_nest(&q, IFLA_LINKINFO)); /* harmless */
	assert_true(rtnl_do(&r, &q, &err) < 0);
	assert_string_equal(err.msg, "netlink: a request is too long");
}

/* Attributes whose lengths lie end the walk. */
static void test_lies(void **state)
{
	struct {
		struct rtattr a;
		uint32_t v;
		struct rtattr b;
	} m = { { 8, 1 }, 5, { 100, 2 } };
	const struct rtattr *t[3];

	rtnl_attrs(&m.a, sizeof(m), t, 2);
	assert_ptr_equal(t[1], &m.a);
	assert_null(t[2]);
	m.a.rta_len = 2;
	rtnl_attrs(&m.a, sizeof(m), t, 2);
	assert_null(t[1]);
	rtnl_attrs(&m.a, 3, t, 2);
	assert_null(t[1]);
	/* The last one is not padded, and what lies behind is none. */
	m.a.rta_len = 7;
	m.b.rta_len = 4;
	rtnl_attrs(&m.a, 7, t, 2);
	assert_ptr_equal(t[1], &m.a);
	assert_null(t[2]);
}

/* What a route goes by: one way, several with gateways of their own, none; and lengths of ways that lie. */
static void test_ways(void **state)
{
	const struct rtmsg head = { .rtm_family = AF_INET };
	const uint32_t gateways[] = { 1, 2 };
	const struct rtattr *t[RTA_MAX + 1];
	struct rtnl_way w = { 0 };
	struct rtnexthop *hop;
	struct rtnl_req q;
	struct rtattr *ways;

	rtnl_begin(&q, RTM_NEWROUTE, 0, &head, sizeof(head));
	assert_true(rtnl_parse(q.h, sizeof(head), t, RTA_MAX));
	assert_false(rtnl_parse(q.h, sizeof(head) + 1, t, RTA_MAX));
	assert_true(rtnl_next_way(t, &w) && !w.index && !w.gateway);
	assert_false(rtnl_next_way(t, &w));
	rtnl_put_u32(&q, RTA_OIF, 7);
	rtnl_put_u32(&q, RTA_GATEWAY, 9);
	assert_true(rtnl_parse(q.h, sizeof(head), t, RTA_MAX));
	w = (struct rtnl_way){ 0 };
	assert_true(rtnl_next_way(t, &w) && w.index == 7 && w.gateway == t[RTA_GATEWAY]);
	assert_false(rtnl_next_way(t, &w));
	rtnl_begin(&q, RTM_NEWROUTE, 0, &head, sizeof(head));
	ways = rtnl_nest(&q, RTA_MULTIPATH);
	for (int i = 0; i < 2; i++) {
		const struct rtnexthop h = { .rtnh_len = sizeof(h) + 8, .rtnh_ifindex = 5 + i };

		memcpy(q.buf + q.h->nlmsg_len, &h, sizeof(h));
		q.h->nlmsg_len += sizeof(h);
		rtnl_put_u32(&q, RTA_GATEWAY, gateways[i]);
	}
	rtnl_nest_end(&q, ways);
	assert_true(rtnl_parse(q.h, sizeof(head), t, RTA_MAX));
	w = (struct rtnl_way){ 0 };
	for (int i = 0; i < 2; i++) {
		assert_true(rtnl_next_way(t, &w) && w.index == 5 + i);
		assert_memory_equal(RTA_DATA(w.gateway), &gateways[i], 4);
	}
	assert_false(rtnl_next_way(t, &w));
	hop = rtnl_next_hop(ways, NULL);
	for (unsigned len = 0; len < 64; len++) {
		unsigned n = 0;

		hop->rtnh_len = (unsigned short)len;
		for (const struct rtnexthop *h = NULL; (h = rtnl_next_hop(ways, h));)
			n++;
		assert_true(n <= 4 && (n > 0) == (len >= sizeof(*hop) && len <= 32));
	}
	assert_null(rtnl_next_hop(NULL, NULL));
}

/* The kernel's own answer, which needs no rights. */
static void test_links(void **state)
{
	struct rtnl_links l;
	struct rtnl r;
	struct err err;

	assert_int_equal(rtnl_open(&r, &err), 0);
	assert_int_equal(rtnl_links(&r, &l, &err), 0);
	assert_non_null(rtnl_find(&l, "lo"));
	assert_true(rtnl_find(&l, "lo")->loopback);
	assert_int_equal(rtnl_find(&l, "lo")->index, (int)if_nametoindex("lo"));
	rtnl_links_free(&l);
	rtnl_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_build), cmocka_unit_test(test_full),  cmocka_unit_test(test_lies),
		cmocka_unit_test(test_ways),  cmocka_unit_test(test_links),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
