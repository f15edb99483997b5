/* The monitor's commands about networks: the ports of user-mode ones, and where a guest is. */
#include <jansson.h>
#include <string.h>

#include "net/net.h"
#include "vm/hmp.h"
#include "vm/impl.h"

static bool is_user(const struct hmp *h, const struct vm_net *net)
{
	const char *backend;
	char key[64];

	snprintf(key, sizeof(key), "%s.backend", net->name);
	backend = config_peek(h->vm->config, key);
	return !backend || !strcmp(backend, "user");
}

/* The user-mode network that is called so, or the first one; NULL, which is said. */
static const struct vm_net *find(struct hmp *h, const char *id)
{
	for (unsigned n = 0; n < h->vm->net_count; n++) {
		const struct vm_net *net = &h->vm->nets[n];

		if (id ? !vm_is_called(&net->called, net->name, id) : !is_user(h, net))
			continue;
		if (is_user(h, net))
			return net;
		fprintf(h->out, "invalid device specified\n");
		return NULL;
	}
	if (id)
		fprintf(h->out, "unrecognized netdev id '%s'\n", id);
	else
		fprintf(h->out, "user mode network stack not in use\n");
	return NULL;
}

/* "[ID] RULE" */
static const char *rule_of(const struct hmp_args *a, const char **id)
{
	*id = a->arg[1].given ? a->arg[0].s : NULL;
	return a->arg[a->arg[1].given ? 1 : 0].s;
}

static void hostfwd_add(struct hmp *h, const struct hmp_args *a)
{
	const char *id, *rule = rule_of(a, &id);
	const struct vm_net *net = find(h, id);
	struct err err;

	if (net && net_user_add_forward(net->back_end, h->vm->config, net->name, rule, &err))
		fprintf(h->out, "Could not set up host forwarding rule '%s': %s\n", rule, err.msg);
}

static void hostfwd_remove(struct hmp *h, const struct hmp_args *a)
{
	const char *id, *rule = rule_of(a, &id);
	const struct vm_net *net = find(h, id);
	struct err err;
	int rc;

	if (!net)
		return;
	rc = net_user_remove_forward(net->back_end, h->vm->config, net->name, rule, &err);
	if (rc < 0)
		fprintf(h->out, "invalid format: %s\n", err.msg);
	else
		fprintf(h->out, "host forwarding rule for %s %s\n", rule, rc ? "not found" : "removed");
}

/* "[CARD,...] [ID]": what of QEMU's answer a guest cannot see is not asked for. */
static void announce_self(struct hmp *h, const struct hmp_args *a)
{
	json_t *args = json_pack("{s:i,s:i,s:i,s:i}", "initial", 50, "max", 550, "rounds", 5, "step", 100);
	const char *p = a->arg[0].given ? a->arg[0].s : "";
	json_t *cards = *p ? json_array() : NULL;

	while (*p) {
		size_t len = strcspn(p, ",");

		json_array_append_new(cards, json_stringn(p, len));
		p += len + (p[len] == ',');
	}
	if (cards)
		json_object_set_new(args, "interfaces", cards);
	hmp_do(h, "announce-self", args);
}

const struct hmp_command hmp_net_commands[] = {
	{ "announce_self", "interfaces:s? id:s?", "[interfaces] [id]",
	  "let the guest, or the machine for it, say on its networks where it is", announce_self },
	{ "hostfwd_add", "arg1:s arg2:s?", "[netdev_id] [tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport",
	  "redirect TCP or UDP connections from host to guest (-netdev user)", hostfwd_add },
	{ "hostfwd_remove", "arg1:s arg2:s?", "[netdev_id] [tcp|udp]:[hostaddr]:hostport",
	  "remove host-to-guest TCP or UDP redirection", hostfwd_remove },
	{ 0 },
};
