/* nfnetlink: what comes of answers, also of ones that lie, and of a transaction that is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lan/nfnl.h"

/* The kernel's end of a socket. */
static int kernel;

static void open_both(struct rtnl *nf)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	*nf = (struct rtnl){ .fd = pair[0] };
	kernel = pair[1];
}

static void close_both(struct rtnl *nf)
{
	close(nf->fd);
	close(kernel);
}

static void put_text(struct rtnl_req *q, const char *text, size_t len)
{
	rtnl_put(q, NFTA_TABLE_NAME, text, len);
}

static void say(struct rtnl_req *q, uint32_t seq)
{
	q->h->nlmsg_seq = seq;
	assert_int_equal(send(kernel, q->buf, q->h->nlmsg_len, 0), q->h->nlmsg_len);
}

static void say_table(unsigned family, const char *name, size_t len)
{
	const struct nfgenmsg g = { .nfgen_family = (uint8_t)family };
	struct rtnl_req q;

	rtnl_begin(&q, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE, NLM_F_MULTI, &g, sizeof(g));
	if (name)
		put_text(&q, name, len);
	say(&q, 1);
}

static void say_end(uint16_t type, int error, uint32_t seq)
{
	const struct nlmsgerr e = { .error = error };
	struct rtnl_req q;

	rtnl_begin(&q, type, 0, &e, sizeof(e));
	say(&q, seq);
}

static char seen[256];

static void note(void *opaque, unsigned family, const char *name)
{
	snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%u %s;", family, name);
}

static void test_tables(void **state)
{
	static const char much[NFNL_NAME + 1] = { [0 ... NFNL_NAME - 1] = 'x' };
	struct rtnl nf;
	struct err err;

	open_both(&nf);
	say_table(NFPROTO_INET, "one", 4);
	say_table(NFPROTO_BRIDGE, "two", 4);
	/* Not ended, with an end too many, too long, empty, none. */
	say_table(NFPROTO_INET, "three", 5);
	say_table(NFPROTO_INET, "fo\0ur", 6);
	say_table(NFPROTO_INET, much, sizeof(much));
	say_table(NFPROTO_INET, "", 0);
	say_table(NFPROTO_INET, NULL, 0);
	say_end(NLMSG_DONE, 0, 1);
	*seen = '\0';
	assert_int_equal(nfnl_tables(&nf, note, NULL, &err), 0);
	assert_string_equal(seen, "1 one;7 two;");
	say_end(NLMSG_ERROR, -EPERM, 2);
	assert_true(nfnl_tables(&nf, note, NULL, &err) < 0);
	close_both(&nf);
}

static void test_transactions(void **state)
{
	_Alignas(8) char buf[65536];
	struct nfnl_batch b;
	struct rtnl nf;
	struct err err;
	ssize_t n;

	open_both(&nf);
	/* An empty one says nothing. */
	nfnl_begin(&b);
	assert_int_equal(nfnl_commit(&nf, &b, &err), 0);
	nfnl_end(&b);
	assert_int_equal(recv(kernel, buf, sizeof(buf), MSG_DONTWAIT), -1);
	/* More than fits into a first buffer, in one message. */
	nfnl_begin(&b);
	for (int i = 0; i < 100; i++)
		nfnl_add_chain(&b, NFPROTO_INET, "table", "chain");
	say_end(NLMSG_ERROR, 0, 101);
	assert_int_equal(nfnl_commit(&nf, &b, &err), 0);
	nfnl_end(&b);
	n = recv(kernel, buf, sizeof(buf), MSG_DONTWAIT);
	assert_int_equal(n, 100 * (NLMSG_SPACE(sizeof(struct nfgenmsg)) + 2 * RTA_SPACE(6)) +
				    2 * NLMSG_SPACE(sizeof(struct nfgenmsg)));
	assert_int_equal(((struct nlmsghdr *)buf)->nlmsg_type, NFNL_MSG_BATCH_BEGIN);
	assert_int_equal(((struct nlmsghdr *)(buf + n - 20))->nlmsg_type, NFNL_MSG_BATCH_END);
	/* Refused, and not answered. */
	nfnl_begin(&b);
	nfnl_del_table(&b, NFPROTO_INET, "table");
	say_end(NLMSG_ERROR, -ENOENT, 104);
	say_end(NLMSG_ERROR, 0, 105);
	assert_int_equal(nfnl_commit(&nf, &b, &err), -1);
	assert_string_equal(err.msg, "packet filters: No such file or directory");
	assert_int_equal(nfnl_commit(&nf, &b, &err), -1);
	nfnl_end(&b);
	close_both(&nf);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_tables), cmocka_unit_test(test_transactions) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
