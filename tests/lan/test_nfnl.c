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

#include "lan/lan_impl.h"
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

static void say_table_to(uint32_t seq, unsigned family, const char *name, size_t len, const char *comment,
			 size_t comment_len)
{
	const struct nfgenmsg g = { .nfgen_family = (uint8_t)family };
	struct rtnl_req q;

	rtnl_begin(&q, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE, NLM_F_MULTI, &g, sizeof(g));
	if (name)
		put_text(&q, name, len);
	if (comment)
		rtnl_put(&q, NFTA_TABLE_USERDATA, comment, comment_len);
	say(&q, seq);
}

static void say_table_of(unsigned family, const char *name, size_t len, const char *comment, size_t comment_len)
{
	say_table_to(1, family, name, len, comment, comment_len);
}

static void say_table_at(uint32_t seq, unsigned family, const char *name)
{
	say_table_to(seq, family, name, strlen(name) + 1, "\0\7vireo:", 9);
}

static void say_table(unsigned family, const char *name, size_t len)
{
	say_table_of(family, name, len, "\0\7vireo:", 9);
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
	/* Somebody else's: without a comment, with another one, with one that is cut, of another kind. */
	say_table_of(NFPROTO_INET, "five", 5, NULL, 0);
	say_table_of(NFPROTO_INET, "six", 4, "\0\7other:", 9);
	say_table_of(NFPROTO_INET, "seven", 6, "\0\7vireo", 7);
	say_table_of(NFPROTO_INET, "eight", 6, "\1\7vireo:", 9);
	say_end(NLMSG_DONE, 0, 1);
	*seen = '\0';
	assert_int_equal(nfnl_tables(&nf, note, NULL, &err), 0);
	assert_string_equal(seen, "1 one;7 two;");
	say_end(NLMSG_ERROR, -EPERM, 2);
	assert_true(nfnl_tables(&nf, note, NULL, &err) < 0);
	close_both(&nf);
}

static void test_tables_of_others(void **state)
{
	struct rtnl nf;
	struct err err;

	open_both(&nf);
	say_table(NFPROTO_INET, "mine", 5);
	say_table_of(NFPROTO_IPV4, "mine", 5, NULL, 0); /* where we have none */
	say_table_of(NFPROTO_INET, "other", 6, NULL, 0);
	say_end(NLMSG_DONE, 0, 1);
	assert_int_equal(nfnl_check_table(&nf, "mine", &err), 0);
	close_both(&nf);
	open_both(&nf);
	say_table_of(NFPROTO_BRIDGE, "mine", 5, NULL, 0);
	say_end(NLMSG_DONE, 0, 1);
	assert_int_equal(nfnl_check_table(&nf, "mine", &err), -1);
	assert_string_equal(err.msg, "the table bridge mine of packet filters is somebody else's");
	close_both(&nf);
}

static void note_element(void *opaque, const void *key, size_t len, uint64_t expires)
{
	snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%.*s %llu;", (int)len, (const char *)key,
		 (unsigned long long)expires);
}

/* A key, in an element, in a list. */
static void put_element(struct rtnl_req *q, const char *key, const void *expires, size_t len)
{
	struct rtattr *element = rtnl_nest(q, NFTA_LIST_ELEM), *data = key ? rtnl_nest(q, NFTA_SET_ELEM_KEY) : NULL;

	if (key) {
		rtnl_put(q, NFTA_DATA_VALUE, key, strlen(key));
		rtnl_nest_end(q, data);
	}
	if (expires)
		rtnl_put(q, NFTA_SET_ELEM_EXPIRATION, expires, len);
	rtnl_nest_end(q, element);
}

static void test_elements(void **state)
{
	const struct nfnl_set set = { NFPROTO_BRIDGE, "table", "set" };
	const struct nfgenmsg g = { .nfgen_family = NFPROTO_BRIDGE };
	const uint8_t expires[8] = { [6] = 2, [7] = 1 };
	struct rtattr *list;
	struct rtnl_req q;
	struct rtnl nf;
	struct err err;

	open_both(&nf);
	rtnl_begin(&q, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM, NLM_F_MULTI, &g, sizeof(g));
	list = rtnl_nest(&q, NFTA_SET_ELEM_LIST_ELEMENTS);
	put_element(&q, "one", expires, sizeof(expires));
	put_element(&q, "two", NULL, 0);
	put_element(&q, NULL, expires, sizeof(expires));
	put_element(&q, "three", expires, 4);
	rtnl_nest_end(&q, list);
	say(&q, 1);
	/* Without any, and without a head. */
	rtnl_begin(&q, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM, NLM_F_MULTI, &g, sizeof(g));
	say(&q, 1);
	rtnl_begin(&q, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM, NLM_F_MULTI, &g, 1);
	say(&q, 1);
	say_end(NLMSG_DONE, 0, 1);
	*seen = '\0';
	assert_int_equal(nfnl_elements(&nf, &set, note_element, NULL, &err), 0);
	assert_string_equal(seen, "one 513;two 0;three 0;");
	say_end(NLMSG_ERROR, -ENOENT, 2);
	assert_int_equal(nfnl_elements(&nf, &set, note_element, NULL, &err), -1);
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
	assert_int_equal(nfnl_commit(&nf, &b, &err), -ENOENT);
	assert_string_equal(err.msg, "packet filters: No such file or directory");
	nfnl_end(&b);
	nfnl_begin(&b);
	nfnl_del_table(&b, NFPROTO_INET, "table");
	assert_int_equal(nfnl_commit(&nf, &b, &err), -EIO);
	nfnl_end(&b);
	close_both(&nf);
}

/* The families of the tables that the transaction removes which the kernel hears next. */
static void hear_removals(void)
{
	_Alignas(8) char buf[4096];
	size_t len;
	ssize_t n;

	*seen = '\0';
	while (!*seen && (n = recv(kernel, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		len = (size_t)n;
		for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, len); h = rtnl_next(h, &len))
			if (h->nlmsg_type == (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE))
				note(NULL, ((struct nfgenmsg *)NLMSG_DATA(h))->nfgen_family, "");
	}
}

static void test_what_has_gone_is_removed(void **state)
{
	static const char table[] = "vireo-lab";
	struct lan l = { .store = { .run = "/nowhere" } };
	struct err err;
	int links;

	/* No links at all, each time. */
	open_both(&l.nl);
	for (uint32_t seq = 1; seq <= 2; seq++)
		say_end(NLMSG_DONE, 0, seq);
	links = kernel;
	open_both(&l.nf);
	/* Nothing about forwarding, and two tables of which one goes by itself. */
	say_end(NLMSG_DONE, 0, 1);
	say_table_at(2, NFPROTO_INET, table);
	say_table_at(2, NFPROTO_BRIDGE, table);
	say_end(NLMSG_DONE, 0, 2);
	say_end(NLMSG_ERROR, -ENOENT, 4);
	say_end(NLMSG_ERROR, 0, 5);
	/* The rest. */
	say_end(NLMSG_DONE, 0, 7);
	say_table_at(8, NFPROTO_BRIDGE, table);
	say_end(NLMSG_DONE, 0, 8);
	say_end(NLMSG_ERROR, 0, 10);
	assert_int_equal(lan_remove_rules(&l, "lab", &err), 0);
	hear_removals();
	assert_string_equal(seen, "1 ;7 ;");
	hear_removals();
	assert_string_equal(seen, "7 ;");
	close_both(&l.nf);
	kernel = links;
	close_both(&l.nl);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_tables), cmocka_unit_test(test_tables_of_others),
					    cmocka_unit_test(test_elements), cmocka_unit_test(test_transactions),
					    cmocka_unit_test(test_what_has_gone_is_removed) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
