/* See dnsmsg.h. */
#include "lan/serve/dnsmsg.h"

#include <string.h>

#include "base/bytes.h"

#define POINTER	   0xc0u
#define LABEL_MAX  63u
#define OPT_LEN	   11u
#define POSITIVE_S 3600u
#define NEGATIVE_S 600u

/* --- reading --- */

/*
 * Past a name at `*at`; each pointer leads to before where its part began, and there are no more of them than labels in
 * the longest name. `n` NULL: it is of no interest.
 */
static bool read_name(const uint8_t *m, size_t len, size_t *at, struct dns_name *n)
{
	size_t p = *at, begin = p, total = 0;
	unsigned jumps = 0;

	for (;;) {
		uint8_t c;

		if (p >= len)
			return false;
		c = m[p];
		if ((c & POINTER) == POINTER) {
			if (len - p < 2)
				return false;
			if (!jumps++)
				*at = p + 2;
			p = ld_be16(m + p) & 0x3fff;
			if (p >= begin || p < DNS_HEADER || jumps > DNS_NAME_MAX / 2)
				return false;
			begin = p;
			continue;
		}
		if (c > LABEL_MAX || len - p < 1u + c || total + 1 + c > DNS_NAME_MAX)
			return false;
		if (n)
			memcpy(n->b + total, m + p, 1u + c);
		total += 1u + c;
		p += 1u + c;
		if (!c)
			break;
	}
	if (n)
		n->len = (uint8_t)total;
	if (!jumps)
		*at = p;
	return true;
}

struct record {
	size_t at; /* of the name */
	uint16_t type, class;
	uint32_t ttl;
	size_t fixed; /* of the type */
	size_t data, len;
	bool nameless;
};

static bool read_record(const uint8_t *m, size_t len, size_t *at, struct record *r)
{
	r->at = *at;
	if (!read_name(m, len, at, NULL) || len - *at < 10)
		return false;
	r->nameless = !m[r->at];
	r->fixed = *at;
	r->type = ld_be16(m + *at);
	r->class = ld_be16(m + *at + 2);
	r->ttl = ld_be32(m + *at + 4);
	r->len = ld_be16(m + *at + 8);
	r->data = *at + 10;
	if (len - r->data < r->len)
		return false;
	*at = r->data + r->len;
	return true;
}

static int read_opt(const uint8_t *m, const struct record *r, struct dns_query *q)
{
	if (q->edns || !r->nameless)
		return DNS_FORMERR;
	q->edns = true;
	q->secure = r->ttl & 0x8000;
	q->size = r->class < DNS_UDP_MIN ? DNS_UDP_MIN : r->class < DNS_UDP_MAX ? r->class : DNS_UDP_MAX;
	return r->ttl >> 16 & 0xff ? DNS_BADVERS : DNS_OK;
}

int dns_read_query(const uint8_t *m, size_t len, struct dns_query *q)
{
	size_t at = DNS_HEADER;
	struct record r;
	int rc = DNS_OK;

	memset(q, 0, sizeof(*q));
	if (len < DNS_HEADER || ld_be16(m + 2) & DNS_QR)
		return -1;
	q->id = ld_be16(m);
	q->flags = ld_be16(m + 2) & (DNS_OPCODE | DNS_RD | DNS_AD | DNS_CD);
	q->size = DNS_UDP_MIN;
	if (q->flags & DNS_OPCODE)
		return DNS_NOTIMP;
	/* One question; what else there may be is OPT, and what signs (which is passed over). */
	if (ld_be16(m + 4) != 1 || ld_be16(m + 6) || ld_be16(m + 8) || ld_be16(m + 10) > 4)
		return DNS_FORMERR;
	if (!read_name(m, len, &at, &q->name) || at != DNS_HEADER + q->name.len || len - at < 4) {
		q->name.len = 0;
		return DNS_FORMERR;
	}
	q->type = ld_be16(m + at);
	q->class = ld_be16(m + at + 2);
	at += 4;
	for (unsigned n = 0; n < ld_be16(m + 10) && rc == DNS_OK; n++) {
		if (!read_record(m, len, &at, &r))
			return DNS_FORMERR;
		if (r.type == DNS_OPT)
			rc = read_opt(m, &r, q);
	}
	return rc;
}

/* The time to live of what does not exist: RFC 2308, 5. */
static uint32_t negative_ttl(const uint8_t *m, const struct record *r)
{
	uint32_t minimum = r->len >= 20 ? ld_be32(m + r->data + r->len - 4) : 0;

	return minimum < r->ttl ? minimum : r->ttl;
}

/* What a record says about how long the message is good for. */
static void count_record(const uint8_t *m, const struct record *r, unsigned section, struct dns_answer *a)
{
	uint32_t ttl = r->ttl > INT32_MAX ? 0 : r->ttl; /* RFC 2181, 8 */

	if (section == 1 && r->type == DNS_SOA) {
		a->cached = true;
		ttl = negative_ttl(m, r) < NEGATIVE_S ? negative_ttl(m, r) : NEGATIVE_S;
	} else if (section == 0) {
		a->cached = true;
	}
	if (ttl < a->ttl)
		a->ttl = ttl;
}

bool dns_read_answer(uint8_t *m, size_t len, const struct dns_query *q, struct dns_answer *a)
{
	size_t at = DNS_HEADER + q->name.len + 4u, opt = 0, opt_end = 0;
	struct record r;
	uint16_t flags;

	*a = (struct dns_answer){ .ttl = POSITIVE_S };
	if (len < at || ld_be16(m) != q->id || !(ld_be16(m + 2) & DNS_QR) || ld_be16(m + 2) & DNS_OPCODE ||
	    ld_be16(m + 4) != 1)
		return false;
	if (memcmp(m + DNS_HEADER, q->name.b, q->name.len) || ld_be16(m + at - 4) != q->type ||
	    ld_be16(m + at - 2) != q->class)
		return false;
	flags = ld_be16(m + 2);
	a->rcode = (enum dns_rcode)(flags & 15);
	a->truncated = flags & DNS_TC;
	a->additional = ld_be16(m + 10);
	for (unsigned section = 0; section < 3; section++) {
		for (unsigned n = ld_be16(m + 6 + 2 * section); n; n--) {
			if (!read_record(m, len, &at, &r))
				return a->truncated; /* what is cut may end anywhere: nobody gets its records */
			if (section == 2 && r.type == DNS_OPT) {
				opt = r.at;
				opt_end = at;
				a->additional--;
			} else {
				count_record(m, &r, section, a);
			}
		}
	}
	a->cached &= !a->truncated && a->ttl && (a->rcode == DNS_OK || a->rcode == DNS_NXDOMAIN);
	/* Names behind it may point behind it: then what is additional is left out. */
	if (opt && opt_end != at) {
		at = DNS_HEADER + q->name.len + 4u;
		for (unsigned n = ld_be16(m + 6) + ld_be16(m + 8); n; n--)
			read_record(m, len, &at, &r);
		a->additional = 0;
		opt = at;
	}
	a->len = opt ? opt : at;
	st_be16(m + 10, a->additional);
	return true;
}

bool dns_read_bare_error(const uint8_t *m, size_t len, const struct dns_query *q)
{
	unsigned flags = len == DNS_HEADER ? ld_be16(m + 2) : 0, rcode = flags & 15;

	return q->edns && flags & DNS_QR && !(flags & DNS_OPCODE) && ld_be16(m) == q->id &&
	       (rcode == DNS_FORMERR || rcode == DNS_NOTIMP || rcode == DNS_SERVFAIL);
}

/* The addresses in a record of services, behind a priority, a name and what else it tells: RFC 9460, 2.2 and 7.3. */
static bool any_hint(const uint8_t *p, size_t len, bool (*fn)(const void *opaque, bool six, const uint8_t *data),
		     const void *opaque)
{
	enum { IPV4HINT = 4, IPV6HINT = 6 };
	size_t at = 2;

	while (at < len && p[at])
		at += 1u + p[at];
	for (at++; at < len && len - at >= 4;) {
		unsigned key = ld_be16(p + at), n = ld_be16(p + at + 2);
		unsigned size = key == IPV4HINT ? 4 : key == IPV6HINT ? 16 : n + 1;

		at += 4;
		if (n > len - at)
			return false; /* nobody can read it */
		for (unsigned k = 0; k + size <= n; k += size)
			if (fn(opaque, key == IPV6HINT, p + at + k))
				return true;
		at += n;
	}
	return false;
}

bool dns_any_address(const uint8_t *m, size_t len, bool (*fn)(const void *opaque, bool six, const uint8_t *data),
		     const void *opaque)
{
	unsigned records = ld_be16(m + 6) + ld_be16(m + 8) + ld_be16(m + 10);
	struct dns_name name;
	size_t at = DNS_HEADER;
	struct record r;

	if (!read_name(m, len, &at, &name) || len - at < 4)
		return false;
	at += 4;
	while (records-- && read_record(m, len, &at, &r))
		if (((r.type == DNS_A && r.len == 4) || (r.type == DNS_AAAA && r.len == 16))
			    ? fn(opaque, r.type == DNS_AAAA, m + r.data)
			    : ((r.type == DNS_SVCB || r.type == DNS_HTTPS) && any_hint(m + r.data, r.len, fn, opaque)))
			return true;
	return false;
}

void dns_age(uint8_t *m, size_t len, uint32_t by)
{
	unsigned records = ld_be16(m + 6) + ld_be16(m + 8) + ld_be16(m + 10);
	struct dns_name name;
	size_t at = DNS_HEADER;
	struct record r;

	if (!read_name(m, len, &at, &name) || len - at < 4)
		return;
	at += 4;
	for (; records && read_record(m, len, &at, &r); records--)
		st_be32(m + r.fixed + 4, r.ttl > INT32_MAX || r.ttl < by ? 0 : r.ttl - by);
}

/* --- writing --- */

static void put_bytes(struct dns_writer *w, const void *data, size_t len)
{
	if (w->full || len > w->max - w->len) {
		w->full = true;
		return;
	}
	if (len)
		memcpy(w->b + w->len, data, len);
	w->len += len;
}

static void put16(struct dns_writer *w, unsigned v)
{
	uint8_t b[2];

	st_be16(b, (uint16_t)v);
	put_bytes(w, b, 2);
}

void dns_begin(struct dns_writer *w, uint8_t *b, size_t max, const struct dns_query *q, unsigned flags)
{
	*w = (struct dns_writer){ .b = b, .max = max };
	put16(w, q->id);
	put16(w, DNS_QR | (q->flags & (DNS_OPCODE | DNS_RD | DNS_CD)) | flags);
	put16(w, q->name.len ? 1 : 0);
	put_bytes(w, (const uint8_t[6]){ 0 }, 6);
	if (!q->name.len)
		return;
	put_bytes(w, q->name.b, q->name.len);
	put16(w, q->type);
	put16(w, q->class);
}

void dns_put(struct dns_writer *w, enum dns_section where, const struct dns_record *r)
{
	size_t begin = w->len;
	uint8_t ttl[4];

	st_be32(ttl, r->ttl);
	if (r->name)
		put_bytes(w, r->name->b, r->name->len);
	else
		put16(w, POINTER << 8 | (DNS_HEADER + (unsigned)r->skip));
	put16(w, r->type);
	put16(w, DNS_IN);
	put_bytes(w, ttl, 4);
	put16(w, (unsigned)r->len);
	put_bytes(w, r->data, r->len);
	if (w->full)
		w->len = begin;
	else
		st_be16(w->b + where, (uint16_t)(ld_be16(w->b + where) + 1));
}

void dns_end(struct dns_writer *w, const struct dns_query *q, enum dns_rcode rcode, bool cut)
{
	size_t opt = q->edns ? OPT_LEN : 0;
	uint8_t *p;

	if (w->full || (cut && w->len + opt > q->size) || w->len + opt > w->max) {
		w->len = DNS_HEADER + (q->name.len ? q->name.len + 4u : 0);
		memset(w->b + 6, 0, 6);
		w->b[2] |= DNS_TC >> 8;
	}
	w->b[3] = (uint8_t)((w->b[3] & 0xf0) | (rcode & 15));
	if (!opt)
		return;
	p = w->b + w->len;
	memset(p, 0, OPT_LEN);
	st_be16(p + 1, DNS_OPT);
	st_be16(p + 3, DNS_UDP_MAX);
	p[5] = (uint8_t)(rcode >> 4);
	p[7] = q->secure ? 0x80 : 0;
	w->len += OPT_LEN;
	st_be16(w->b + DNS_ADDITIONAL, (uint16_t)(ld_be16(w->b + DNS_ADDITIONAL) + 1));
}

/* --- names --- */

bool dns_text(const struct dns_name *n, char text[DNS_NAME_MAX + 1])
{
	unsigned at = 0, out = 0;
	bool good = true;

	while (at < n->len && n->b[at]) {
		unsigned len = n->b[at++];

		if (out)
			text[out++] = '.';
		for (; len; len--, at++) {
			uint8_t c = n->b[at] >= 'A' && n->b[at] <= 'Z' ? n->b[at] | 32 : n->b[at];

			if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_')) {
				good = false;
				c = '?';
			}
			text[out++] = (char)c;
		}
	}
	text[out] = 0;
	return good;
}

bool dns_name_of(const char *text, struct dns_name *n)
{
	n->len = 0;
	while (*text) {
		size_t len = strcspn(text, ".");

		if (!len || len > LABEL_MAX || n->len + len + 2 > DNS_NAME_MAX)
			return false;
		n->b[n->len] = (uint8_t)len;
		memcpy(n->b + n->len + 1, text, len);
		n->len += (uint8_t)(len + 1);
		text += len + (text[len] == '.');
	}
	n->b[n->len++] = 0;
	return true;
}

void dns_lower(struct dns_name *n)
{
	/* Lengths are below 64, and so no letters. */
	for (unsigned k = 0; k < n->len; k++)
		if (n->b[k] >= 'A' && n->b[k] <= 'Z')
			n->b[k] |= 32;
}
