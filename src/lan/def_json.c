/* A definition as JSON: how it is kept, shown and edited. */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "lan/def.h"

/* --- to JSON --- */

static void put(json_t *o, const char *key, const char *text)
{
	if (*text)
		json_object_set_new(o, key, json_string(text));
}

static json_t *statics_to_json(const struct lan_def *d)
{
	json_t *a = json_array();
	char mac[LAN_TEXTMAC], addr[LAN_TEXT4];

	for (unsigned i = 0; i < d->statics_len; i++) {
		const struct lan_static *s = &d->statics[i];
		json_t *o = json_object();

		put(o, "mac", lan_text_mac(s->mac, mac));
		put(o, "name", s->name);
		put(o, "address", s->addr4 ? lan_text4(s->addr4, addr) : "");
		json_array_append_new(a, o);
	}
	return a;
}

json_t *lan_def_to_json(const struct lan_def *d)
{
	json_t *o = json_object(), *list;
	char text[LAN_TEXT6], range[2 * LAN_TEXT4], other[LAN_TEXT4], where[256];

	put(o, "name", d->name);
	put(o, "model", lan_model_names[d->model]);
	put(o, "uplink", d->uplink);
	put(o, "bridge", d->bridge);
	put(o, "subnet", d->net4.len ? lan_text_net4(&d->net4, text) : "");
	put(o, "subnet6", d->net6.len ? lan_text_net6(&d->net6, text) : "");
	if (d->first4) {
		snprintf(range, sizeof(range), "%s-%s", lan_text4(d->first4, text), lan_text4(d->last4, other));
		put(o, "dhcp-range", range);
	}
	json_object_set_new(o, "dhcp", json_boolean(d->dhcp));
	put(o, "dns", lan_dns_names[d->dns]);
	put(o, "domain", d->domain);
	if (d->mtu)
		json_object_set_new(o, "mtu", json_integer(d->mtu));
	if (d->statics_len)
		json_object_set_new(o, "hosts", statics_to_json(d));
	list = json_array();
	for (unsigned i = 0; i < d->publish_len; i++)
		json_array_append_new(list, json_string(lan_publish_text(&d->publish[i], where, sizeof(where))));
	if (d->publish_len)
		json_object_set(o, "publish", list);
	json_decref(list);
	list = json_array();
	for (unsigned i = 0; i < d->routes_len; i++)
		json_array_append_new(list, json_string(d->routes[i]));
	if (d->routes_len)
		json_object_set(o, "routes", list);
	json_decref(list);
	return o;
}

/* --- from JSON: a row for each member --- */

static int bad(const char *key, const char *what, struct err *err)
{
	return err_set(err, "%s: %s is expected", key, what);
}

/* NULL and the error where it is no text, or one with bytes that mean something elsewhere. */
static const char *text_of(const char *key, const json_t *v, struct err *err)
{
	const char *s = json_string_value(v);

	if (!s || strlen(s) != json_string_length(v)) {
		bad(key, "a text", err);
		return NULL;
	}
	return s;
}

static int copy(const char *key, const json_t *v, char *to, size_t size, struct err *err)
{
	const char *s = text_of(key, v, err);

	if (!s)
		return -1;
	return snprintf(to, size, "%s", s) < (int)size ? 0
						       : err_set(err, "%s: longer than %zu characters", key, size - 1);
}

static int word(const char *key, const json_t *v, const char *const *words, struct err *err)
{
	const char *s = text_of(key, v, err);

	for (int i = 0; s && words[i]; i++)
		if (!strcmp(words[i], s))
			return i;
	return s ? err_set(err, "%s: '%s' is unknown", key, s) : -1;
}

static int read_model(struct lan_def *d, const char *key, const json_t *v, struct err *err)
{
	int n = word(key, v, lan_model_names, err);

	d->model = n < 0 ? LAN_NAT : (enum lan_model)n;
	return n < 0 ? -1 : 0;
}

static int read_dns(struct lan_def *d, const char *key, const json_t *v, struct err *err)
{
	int n = word(key, v, lan_dns_names, err);

	d->dns = n < 0 ? LAN_DNS_OWN : (enum lan_dns)n;
	return n < 0 ? -1 : 0;
}

static int read_name(struct lan_def *d, const char *key, const json_t *v, struct err *err)
{
	return copy(key, v, d->name, sizeof(d->name), err);
}

static int read_uplink(struct lan_def *d, const char *key, const json_t *v, struct err *err)
{
	return copy(key, v, d->uplink, sizeof(d->uplink), err);
}

static int read_bridge(struct lan_def *d, const char *key, const json_t *v, struct err *err)
{
	return copy(key, v, d->bridge, sizeof(d->bridge), err);
}

static int read_domain(struct lan_def *d, const char *key, const json_t *v, struct err *err)
{
	return copy(key, v, d->domain, sizeof(d->domain), err);
}

static int read_subnet(struct lan_def *d, const char *key, const json_t *v, struct err *err)
{
	const char *s = text_of(key, v, err);

	if (!s)
		return -1;
	return lan_parse_net4(s, &d->net4) ? 0 : bad(key, "a subnet as 10.1.2.0/24, without bits of a host,", err);
}

static int read_subnet6(struct lan_def *d, const char *key, const json_t *v, struct err *err)
{
	const char *s = text_of(key, v, err);

	if (!s)
		return -1;
	return lan_parse_net6(s, &d->net6) ? 0 : bad(key, "a prefix as fd00:1:2:3::/64, without bits of a host,", err);
}

static int read_range(struct lan_def *d, const char *key, const json_t *v, struct err *err)
{
	const char *s = text_of(key, v, err);

	return s ? lan_parse_range(d, s, err) : -1;
}

static int read_dhcp(struct lan_def *d, const char *key, const json_t *v, struct err *err)
{
	d->dhcp = json_is_true(v);
	return json_is_boolean(v) ? 0 : bad(key, "true or false", err);
}

static int read_mtu(struct lan_def *d, const char *key, const json_t *v, struct err *err)
{
	json_int_t n = json_integer_value(v);

	d->mtu = (unsigned)n;
	return json_is_integer(v) && n >= 0 && n <= 65535 ? 0 : bad(key, "a number up to 65535", err);
}

static int read_static(struct lan_def *d, const json_t *v, struct err *err)
{
	const char *key, *mac = NULL, *name = "", *addr = "", *s;
	char text[192];
	json_t *m;

	json_object_foreach((json_t *)v, key, m)
	{
		const char **to = !strcmp(key, "mac") ? &mac : !strcmp(key, "name") ? &name : &addr;

		if (to == &addr && strcmp(key, "address"))
			return err_set(err, "hosts: '%s' is unknown", key);
		s = text_of(key, m, err);
		if (!s)
			return -1;
		*to = s;
	}
	if (!mac || strpbrk(mac, ",") || strpbrk(name, ","))
		return bad("hosts", "an object with mac, name and address", err);
	if (snprintf(text, sizeof(text), "%s,%s,%s", mac, name, addr) >= (int)sizeof(text))
		return err_set(err, "hosts: '%.64s' is too long", name);
	return lan_parse_static(d, text, err);
}

static int read_hosts(struct lan_def *d, const char *key, const json_t *v, struct err *err)
{
	size_t i;
	json_t *e;

	if (!json_is_array(v))
		return bad(key, "a list", err);
	json_array_foreach(v, i, e) if (read_static(d, e, err)) return -1;
	return 0;
}

static int read_publish(struct lan_def *d, const char *key, const json_t *v, struct err *err)
{
	size_t i;
	json_t *e;

	if (!json_is_array(v))
		return bad(key, "a list", err);
	json_array_foreach(v, i, e)
	{
		const char *s = text_of(key, e, err);

		if (!s || lan_parse_publish(d, s, err))
			return -1;
	}
	return 0;
}

static int read_routes(struct lan_def *d, const char *key, const json_t *v, struct err *err)
{
	size_t i;
	json_t *e;

	if (!json_is_array(v) || json_array_size(v) > LAN_ROUTES_MAX)
		return bad(key, "a list of at most 16 networks", err);
	json_array_foreach(v, i, e) if (copy(key, e, d->routes[i], sizeof(d->routes[i]), err)) return -1;
	d->routes_len = (unsigned)json_array_size(v);
	return 0;
}

static const struct {
	const char *key;
	int (*read)(struct lan_def *d, const char *key, const json_t *v, struct err *err);
} members[] = {
	{ "name", read_name },	      { "model", read_model },	 { "uplink", read_uplink },
	{ "bridge", read_bridge },    { "subnet", read_subnet }, { "subnet6", read_subnet6 },
	{ "dhcp-range", read_range }, { "dhcp", read_dhcp },	 { "dns", read_dns },
	{ "domain", read_domain },    { "mtu", read_mtu },	 { "hosts", read_hosts },
	{ "publish", read_publish },  { "routes", read_routes },
};

int lan_def_from_json(struct lan_def *d, const json_t *o, struct err *err)
{
	const char *key;
	json_t *v;

	lan_def_init(d, "");
	if (!json_is_object(o))
		return err_set(err, "a network is an object");
	json_object_foreach((json_t *)o, key, v)
	{
		size_t i = 0;

		while (i < ARRAY_LEN(members) && strcmp(members[i].key, key))
			i++;
		if (i == ARRAY_LEN(members))
			return err_set(err, "'%.64s' is unknown", key);
		if (members[i].read(d, key, v, err))
			return -1;
	}
	if (!*d->name)
		return err_set(err, "name: it is missing");
	return lan_def_check_stored(d, err);
}
