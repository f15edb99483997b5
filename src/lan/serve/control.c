/* The control socket of serve.h, and what it shows. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/accept.h"
#include "base/jsonstream.h"
#include "base/sock.h"
#include "lan/serve/dns.h"
#include "lan/serve/impl.h"

#define CLIENTS	    8u
#define OUT_MAX	    (8u << 20)
#define COMMANDS_IN 4096

struct client {
	struct lan_control *c;
	int fd; /* -1: none */
	struct loop_fd *watch;
	struct jsonstream in;
	char *out;
	size_t len, sent;
	uint64_t turn; /* when it came */
	bool last;     /* the process ends after the answer */
};

struct lan_control {
	struct server *v;
	int fd;
	struct accepter *accepter;
	uint64_t turns;
	struct client client[CLIENTS];
};

/* --- answers --- */

static json_t *lease_json(const struct lease *e, int family)
{
	char mac[MAC_TEXT], addr[ADDR_TEXT], id[2 * LEASE_ID_MAX + 1] = "";

	for (unsigned n = 0; n < e->id_len; n++)
		snprintf(id + 2 * n, 3, "%02x", e->id[n]);
	return json_pack("{s:i, s:s, s:s, s:s, s:s, s:I, s:b}", "family", family, "mac", mac_text(e->mac, mac),
			 "address", addr_text(e->addr, addr), "name", e->name, "id", id, "expires",
			 (json_int_t)(e->state == LEASE_BOUND ? e->expires : 0), "known", (int)e->known);
}

json_t *server_leases(struct server *v)
{
	json_t *list = json_array();

	for (unsigned k = 0; k < 2; k++) {
		const struct leases *l = k ? v->l6 : v->l4;

		for (const struct lease *e = l ? leases_next(l, NULL) : NULL; e; e = leases_next(l, e))
			json_array_append_new(list, lease_json(e, k ? 6 : 4));
	}
	return list;
}

static json_t *messages_json(const uint64_t *n, const char *const *names, unsigned len)
{
	json_t *o = json_object();

	for (unsigned k = 0; k < len; k++)
		if (names[k])
			json_object_set_new(o, names[k], json_integer((json_int_t)n[k]));
	return o;
}

static json_t *table_json(const struct leases *l)
{
	struct leases_count n;

	leases_count(l, &n);
	return json_pack("{s:i, s:i, s:i, s:i, s:i, s:I}", "size", n.size, "bound", n.bound, "offered", n.offered,
			 "kept", n.kept, "declined", n.bad, "refused", (json_int_t)n.refused);
}

json_t *server_stats(struct server *v)
{
	static const char *const names4[] = { NULL, "discover", NULL,	   "request", "decline",
					      NULL, NULL,	"release", "inform" };
	static const char *const names6[] = { NULL,	 "solicit", NULL,     "request",
					      "confirm", "renew",   "rebind", NULL,
					      "release", "decline", NULL,     "information-request" };
	const struct {
		const char *name;
		uint64_t n;
	} counters[] = {
		{ "pid", (uint64_t)getpid() },
		{ "frames", v->n.frames },
		{ "dropped", v->n.dropped },
		{ "muted", v->mute.times },
		{ "limited", v->n.limited },
		{ "malformed", v->n.malformed },
		{ "sent", v->n.sent },
		{ "unsent", v->n.unsent },
		{ "router-solicitations", v->n.solicitations },
		{ "router-advertisements", v->n.advertisements },
		{ "saves", v->n.saves },
		{ "save-errors", v->n.save_errors },
	};
	json_t *o = json_object();

	for (size_t k = 0; k < ARRAY_LEN(counters); k++)
		json_object_set_new(o, counters[k].name, json_integer((json_int_t)counters[k].n));
	if (v->s.dhcp4)
		json_object_set_new(o, "dhcp4", messages_json(v->n.dhcp4, names4, ARRAY_LEN(names4)));
	if (v->s.dhcp6)
		json_object_set_new(o, "dhcp6", messages_json(v->n.dhcp6, names6, ARRAY_LEN(names6)));
	if (v->l4)
		json_object_set_new(o, "leases4", table_json(v->l4));
	if (v->l6)
		json_object_set_new(o, "leases6", table_json(v->l6));
	if (v->dns)
		json_object_set_new(o, "dns", dns_stats(v->dns));
	return o;
}

/* --- known machines --- */

static int read_host(json_t *j, struct lan_host *h, struct err *err)
{
	const char *mac = NULL, *name = "", *a4 = "", *a6 = "";
	struct lan_addr v4 = { 0 }, v6 = { 0 };
	json_error_t e;

	memset(h, 0, sizeof(*h));
	if (json_unpack_ex(j, &e, JSON_STRICT, "{s:s, s?:s, s?:s, s?:s}", "mac", &mac, "name", &name, "address4", &a4,
			   "address6", &a6))
		return err_set(err, "a machine is {\"mac\", \"name\", \"address4\", \"address6\"}: %s", e.text);
	if (!mac_parse(mac, h->mac))
		return err_set(err, "'%s' is no MAC", mac);
	if (strlen(name) > LAN_NAME_MAX)
		return err_set(err, "'%s' is too long for a name", name);
	if (*a4 && (!addr_parse(a4, &v4) || !addr_is4(v4)))
		return err_set(err, "'%s' is no IPv4 address", a4);
	if (*a6 && (!addr_parse(a6, &v6) || addr_is4(v6)))
		return err_set(err, "'%s' is no IPv6 address", a6);
	strcpy(h->name, name);
	h->addr4 = *a4 ? addr_to4(v4) : h->addr4;
	h->addr6 = *a6 ? addr_to6(v6) : h->addr6;
	return 0;
}

static json_t *set_hosts(struct server *v, json_t *arguments, struct err *err)
{
	json_t *list = json_object_get(arguments, "hosts");
	unsigned len = (unsigned)json_array_size(list), n = 0;
	struct lan_host *h = json_is_array(list) && len <= LAN_HOSTS_MAX ? calloc(len + 1, sizeof(*h)) : NULL;
	int rc = 0;

	if (!h) {
		err_set(err, "\"hosts\" is a list of %u machines at most", LAN_HOSTS_MAX);
		return NULL;
	}
	for (; n < len && !rc; n++)
		rc = read_host(json_array_get(list, n), &h[n], err);
	if (!rc)
		rc = server_set_hosts(v, h, len, err);
	free(h);
	return rc ? NULL : json_object();
}

static json_t *execute(struct client *k, json_t *ask, struct err *err)
{
	const char *what = json_string_value(json_object_get(ask, "execute"));

	server_clock(k->c->v);
	if (what && !strcmp(what, "leases"))
		return server_leases(k->c->v);
	if (what && !strcmp(what, "stats"))
		return server_stats(k->c->v);
	if (what && !strcmp(what, "hosts"))
		return set_hosts(k->c->v, json_object_get(ask, "arguments"), err);
	if (what && !strcmp(what, "stop")) {
		k->last = true;
		k->c->v->replaced = json_is_true(json_object_get(json_object_get(ask, "arguments"), "replaced"));
		return json_object();
	}
	err_set(err, "'%s' is none of leases, stats, hosts, stop", what ? what : "");
	return NULL;
}

/* --- connections --- */

static void hang_up(struct client *k)
{
	if (k->fd < 0)
		return;
	loop_fd_del(k->watch);
	close(k->fd);
	jsonstream_fini(&k->in);
	free(k->out);
	k->fd = -1;
	k->out = NULL;
	k->len = k->sent = 0;
}

static void flush(struct client *k)
{
	while (k->sent < k->len) {
		ssize_t n = send(k->fd, k->out + k->sent, k->len - k->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			hang_up(k);
			return;
		}
		k->sent += (size_t)n;
	}
	loop_fd_mod(k->watch, k->sent < k->len ? EPOLLOUT : EPOLLIN);
	if (k->sent < k->len)
		return;
	k->len = k->sent = 0;
	if (k->last)
		loop_quit(k->c->v->loop);
}

static void say(struct client *k, json_t *answer)
{
	char *text = json_dumps(answer, JSON_COMPACT);
	size_t len = text ? strlen(text) : 0;
	char *out = text && k->len + len < OUT_MAX ? realloc(k->out, k->len + len + 1) : NULL;

	json_decref(answer);
	if (out) {
		memcpy(out + k->len, text, len);
		out[k->len + len] = '\n';
		k->out = out;
		k->len += len + 1;
	}
	free(text);
}

static void on_value(void *opaque, json_t *value, const char *error)
{
	struct client *k = opaque;
	json_t *result = NULL;
	struct err err;

	if (value)
		result = execute(k, value, &err);
	else
		err_set(&err, "%s", error);
	json_decref(value);
	say(k, result ? json_pack("{s:o}", "return", result)
		      : json_pack("{s:{s:s, s:s}}", "error", "class", "GenericError", "desc", err.msg));
}

static void on_client(void *opaque, int fd, uint32_t events)
{
	struct client *k = opaque;
	char b[COMMANDS_IN];
	ssize_t n;

	if (k->sent < k->len) {
		flush(k);
		return;
	}
	n = recv(fd, b, sizeof(b), MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		hang_up(k);
		return;
	}
	for (ssize_t at = 0; at < n; at++)
		jsonstream_byte(&k->in, b[at]);
	flush(k);
}

/* The place of a new client: a free one, or that of who came first. */
static struct client *place(struct lan_control *c)
{
	struct client *k = &c->client[0];

	for (unsigned n = 0; n < CLIENTS; n++) {
		if (c->client[n].fd < 0)
			return &c->client[n];
		if (c->client[n].turn < k->turn)
			k = &c->client[n];
	}
	hang_up(k);
	return k;
}

static void on_connect(void *opaque, int fd)
{
	struct lan_control *c = opaque;
	struct client *k = place(c);
	struct err err;

	k->watch = loop_fd_add(c->v->loop, fd, EPOLLIN, on_client, k, &err);
	if (!k->watch) {
		close(fd);
		return;
	}
	k->fd = fd;
	k->turn = ++c->turns;
	k->last = false;
	jsonstream_init(&k->in, on_value, k);
}

struct lan_control *lan_control_new(struct server *v, struct err *err)
{
	struct lan_control *c = calloc(1, sizeof(*c));
	char where[sizeof("unix:") + sizeof(v->s.control_path)];
	mode_t mask = umask(0177);

	snprintf(where, sizeof(where), "unix:%s", v->s.control_path);
	if (c)
		c->fd = sock_listen(v->s.name, where, err);
	else
		err_set(err, "out of memory");
	umask(mask);
	if (!c || c->fd < 0) {
		free(c);
		return NULL;
	}
	/* All who ask one that hangs stay in the queue, and who ends it must find room there, too. */
	listen(c->fd, SOMAXCONN);
	c->v = v;
	for (unsigned n = 0; n < CLIENTS; n++) {
		c->client[n].fd = -1;
		c->client[n].c = c;
	}
	c->accepter = accepter_new(v->loop, c->fd, v->s.name, on_connect, c, err);
	if (c->accepter)
		return c;
	close(c->fd);
	free(c);
	return NULL;
}

void lan_control_hang_up(struct lan_control *c)
{
	for (unsigned n = 0; n < CLIENTS; n++)
		hang_up(&c->client[n]);
}
