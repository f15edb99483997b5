/* What is so of a network that runs, as a file: the whole of it in one, which is replaced at once. See lan_impl.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lan/lan_impl.h"

#define STATE	   "state.json"
#define PORTS_MOST 4096u

static json_t *ports_to_json(const struct lan_ports *p)
{
	json_t *a = json_array();
	char mac[LAN_TEXTMAC], text[LAN_TEXT6];

	for (unsigned i = 0; i < p->len; i++) {
		const struct lan_port *port = &p->v[i];
		json_t *o = json_pack("{s:s, s:i, s:s}", "tap", port->tap, "index", port->index, "mac",
				      lan_text_mac(port->mac, mac));

		if (port->trusted)
			json_object_set_new(o, "trusted", json_true());
		if (port->mtu)
			json_object_set_new(o, "mtu", json_integer(port->mtu));
		/* One that is no text is lost, not what is kept for its machine. */
		json_object_set_new(o, "machine", json_string(port->vm));
		if (port->addr4)
			json_object_set_new(o, "address", json_string(lan_text4(port->addr4, text)));
		if (!lan_zero6(&port->addr6))
			json_object_set_new(o, "address6", json_string(lan_text6(&port->addr6, text)));
		json_array_append_new(a, o);
	}
	return a;
}

static json_t *old6_to_json(const struct lan_run *r)
{
	json_t *a = json_array();
	char at[LAN_TEXT6];

	for (unsigned i = 0; i < r->old6_len; i++)
		json_array_append_new(a, json_pack("{s:s, s:I}", "address6", lan_text6(&r->old6[i].addr6, at), "until",
						   (json_int_t)r->old6[i].until));
	return a;
}

int lan_run_save(struct lan *l, const struct lan_run *r, struct err *err)
{
	json_t *o = json_pack("{s:s, s:b, s:b, s:o, s:o}", "bridge", r->bridge, "made", r->made, "up", r->up, "def",
			      lan_def_to_json(&r->def), "ports", ports_to_json(&r->ports));
	char space[LAN_HERE];
	int rc;

	if (!o)
		return err_set(err, "out of memory");
	if (r->uplink)
		json_object_set(o, "uplink", r->uplink);
	if (r->old6_len)
		json_object_set_new(o, "old6", old6_to_json(r));
	lan_here(space);
	json_object_set_new(o, "space", json_string(space));
	json_object_set_new(o, "pids", json_integer((json_int_t)lan_pids("self")));
	if (r->fresh)
		json_object_set_new(o, "fresh", json_true());
	if (*r->why)
		json_object_set_new(o, "why", json_string(r->why));
	rc = lan_run_write(&l->store, r->def.name, STATE, o, err);
	json_decref(o);
	return rc;
}

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

/* What does not fit is left out: whoever has written it was not this program. */
static int read_ports(struct lan_ports *p, const json_t *a)
{
	size_t i;
	json_t *o;

	p->v = calloc(json_array_size(a) + 1, sizeof(*p->v));
	if (!p->v)
		return -1;
	json_array_foreach(a, i, o)
	{
		struct lan_port *port = &p->v[p->len];

		if (i == PORTS_MOST || !lan_parse_mac(text(o, "mac"), port->mac))
			break;
		snprintf(port->tap, sizeof(port->tap), "%s", text(o, "tap"));
		port->index = (int)json_integer_value(json_object_get(o, "index"));
		snprintf(port->vm, sizeof(port->vm), "%s", text(o, "machine"));
		port->trusted = json_is_true(json_object_get(o, "trusted"));
		port->mtu = (unsigned)json_integer_value(json_object_get(o, "mtu"));
		lan_parse4(text(o, "address"), &port->addr4);
		lan_parse6(text(o, "address6"), &port->addr6);
		p->len++;
	}
	return 0;
}

static void read_old6(struct lan_run *r, const json_t *a)
{
	size_t i;
	json_t *o;

	json_array_foreach(a, i, o)
	{
		if (r->old6_len == LAN_OLD6_MAX || !lan_parse6(text(o, "address6"), &r->old6[r->old6_len].addr6))
			break;
		r->old6[r->old6_len++].until = json_integer_value(json_object_get(o, "until"));
	}
}

int lan_run_load(struct lan *l, const char *name, struct lan_run *r)
{
	json_t *o = lan_run_read(&l->store, name, STATE);
	struct err ignored;

	memset(r, 0, sizeof(*r));
	snprintf(r->bridge, sizeof(r->bridge), "%s", text(o, "bridge"));
	r->made = json_is_true(json_object_get(o, "made"));
	r->up = json_is_true(json_object_get(o, "up"));
	r->fresh = json_is_true(json_object_get(o, "fresh"));
	snprintf(r->space, sizeof(r->space), "%s", text(o, "space"));
	snprintf(r->why, sizeof(r->why), "%s", text(o, "why"));
	r->pids = (unsigned long long)json_integer_value(json_object_get(o, "pids"));
	if (!*r->bridge || lan_def_from_json(&r->def, json_object_get(o, "def"), &ignored) ||
	    strcmp(r->def.name, name) || read_ports(&r->ports, json_object_get(o, "ports"))) {
		memset(r, 0, sizeof(*r));
		json_decref(o);
		return -1;
	}
	read_old6(r, json_object_get(o, "old6"));
	r->known = true;
	r->uplink = json_incref(json_object_get(o, "uplink"));
	json_decref(o);
	return 0;
}

void lan_run_free(struct lan_run *r)
{
	free(r->ports.v);
	free(r->leased.v);
	json_decref(r->uplink);
	r->ports = (struct lan_ports){ 0 };
	r->leased = (struct lan_leased){ 0 };
	r->uplink = NULL;
}

bool lan_has_cables(const struct lan_run *r)
{
	for (unsigned i = 0; i < r->ports.len; i++)
		if (*r->ports.v[i].tap)
			return true;
	return false;
}
