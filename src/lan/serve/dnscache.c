/* Answers of other name servers: sets of a few places, by a keyed hash, so that nobody can choose whose place he takes.
 */
#include <stdlib.h>
#include <string.h>

#include "lan/serve/dns_impl.h"

#define SETS 512u
#define WAYS 4u

struct entry {
	struct dns_name name; /* in small letters; of no length: free */
	uint16_t type, class;
	uint8_t kind; /* DO and CD */
	uint16_t len;
	int64_t since, until, used;
	uint8_t m[DNS_UDP_MAX];
};

struct dns_cache {
	struct lan_key key;
	struct entry e[SETS][WAYS];
};

struct dns_cache *dns_cache_new(void)
{
	struct dns_cache *c = calloc(1, sizeof(*c));

	if (c)
		c->key = lan_key_new();
	return c;
}

static uint8_t kind_of(const struct dns_query *q)
{
	return (uint8_t)((q->flags & DNS_CD ? 1 : 0) | (q->secure ? 2 : 0));
}

static struct entry *set_of(struct dns_cache *c, const struct dns_name *name)
{
	return c->e[lan_hash(&c->key, name->b, name->len) % SETS];
}

static bool is_it(const struct entry *e, const struct dns_query *q, const struct dns_name *name)
{
	return e->name.len == name->len && e->type == q->type && e->class == q->class && e->kind == kind_of(q) &&
	       !memcmp(e->name.b, name->b, name->len);
}

size_t dns_cache_get(struct dns_cache *c, const struct dns_query *q, int64_t now, uint8_t m[static DNS_UDP_MAX])
{
	struct dns_name name = q->name;
	struct entry *set;

	dns_lower(&name);
	set = set_of(c, &name);
	for (unsigned n = 0; n < WAYS; n++) {
		struct entry *e = &set[n];

		if (!is_it(e, q, &name) || now >= e->until)
			continue;
		e->used = now;
		memcpy(m, e->m, e->len);
		dns_age(m, e->len, (uint32_t)(now - e->since));
		return e->len;
	}
	return 0;
}

void dns_cache_put(struct dns_cache *c, const struct dns_query *q, int64_t now, const uint8_t *m,
		   const struct dns_answer *a)
{
	struct dns_name name = q->name;
	struct entry *set, *best;

	if (!a->cached || a->len > DNS_UDP_MAX)
		return;
	dns_lower(&name);
	set = set_of(c, &name);
	best = set;
	for (unsigned n = 0; n < WAYS; n++) {
		if (is_it(&set[n], q, &name)) {
			best = &set[n];
			break;
		}
		/* What has expired goes first, then what nobody has asked for longest. */
		if (set[n].until <= now ? best->until > now : best->until > now && set[n].used < best->used)
			best = &set[n];
	}
	best->name = name;
	best->type = q->type;
	best->class = q->class;
	best->kind = kind_of(q);
	best->since = best->used = now;
	best->until = now + a->ttl;
	best->len = (uint16_t)a->len;
	memcpy(best->m, m, a->len);
}

unsigned dns_cache_count(const struct dns_cache *c)
{
	unsigned n = 0;

	for (unsigned k = 0; k < SETS * WAYS; k++)
		n += c->e[k / WAYS][k % WAYS].name.len != 0;
	return n;
}
