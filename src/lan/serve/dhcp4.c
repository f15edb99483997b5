/* See dhcp4.h. */
#include "lan/serve/dhcp4.h"

#include <string.h>

#include "base/bytes.h"

#define CLIENT_PORT 68
#define SERVER_PORT 67
#define FIXED	    236u /* bytes before the cookie */
#define COOKIE	    0x63825363u
#define ANSWER_MIN  300u /* what clients of BOOTP expect */
#define ANSWER_MAX  548u /* what every client takes */
#define BROADCAST   0x8000u
#define SNAME	    44u
#define FILE_AT	    108u
#define FILE_LEN    128u

enum message { DISCOVER = 1, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM };

enum option {
	O_MASK = 1,
	O_ROUTER = 3,
	O_DNS = 6,
	O_NAME = 12,
	O_DOMAIN = 15,
	O_MTU = 26,
	O_BROADCAST = 28,
	O_ADDRESS = 50,
	O_LEASE = 51,
	O_OVERLOAD = 52,
	O_TYPE = 53,
	O_SERVER = 54,
	O_WANTED = 55,
	O_T1 = 58,
	O_T2 = 59,
	O_ID = 61,
	O_BOOT_SERVER = 66,
	O_BOOT_FILE = 67,
	O_RAPID = 80,
	O_FQDN = 81,
	O_ARCH = 93,
	O_SEARCH = 119,
	O_ROUTES = 121,
	O_END = 255,
};

/* A request, as far as it matters; what points does so into the frame. */
struct request {
	const uint8_t *b;
	struct lease_client client;
	char name[256];
	uint8_t type;
	bool rapid, efi, pxe, all; /* `all`: it says nothing of what it wants */
	struct lan_addr wanted, server, ciaddr;
	uint8_t asked[32]; /* bits of options */
};

static bool asks(const struct request *r, unsigned option)
{
	return r->all || r->asked[option / 8] >> option % 8 & 1;
}

static struct lan_addr addr_at(const uint8_t *p)
{
	struct in_addr a;

	memcpy(&a, p, 4);
	return addr_of4(a);
}

static void take_name(struct request *r, const uint8_t *p, unsigned len)
{
	memcpy(r->name, p, len);
	r->name[len] = 0;
	r->client.name = r->name;
}

static void take_option(struct request *r, unsigned option, const uint8_t *p, unsigned len)
{
	switch (option) {
	case O_TYPE:
		r->type = len == 1 ? p[0] : 0;
		break;
	case O_ADDRESS:
		if (len == 4)
			r->wanted = addr_at(p);
		break;
	case O_SERVER:
		if (len == 4)
			r->server = addr_at(p);
		break;
	case O_ID:
		/* RFC 2132, 9.14: two bytes at least. */
		if (len >= 2)
			r->client.id = p, r->client.id_len = len;
		break;
	case O_NAME:
		if (!r->client.name)
			take_name(r, p, len);
		break;
	case O_FQDN:
		/* RFC 4702: flags, two bytes of the past, and a name: in labels if the E flag is set. */
		if (len > 4 && p[0] & 4 && p[3] < len - 3u)
			take_name(r, p + 4, p[3]);
		else if (len > 3 && !(p[0] & 4))
			take_name(r, p + 3, len - 3);
		break;
	case O_WANTED:
		r->all = false;
		for (unsigned n = 0; n < len; n++)
			r->asked[p[n] / 8] |= (uint8_t)(1u << p[n] % 8);
		break;
	case O_RAPID:
		r->rapid = true;
		break;
	case O_ARCH:
		r->pxe = true;
		/* RFC 4578: 0 is a BIOS; from 6 on they are UEFI's. */
		r->efi = len >= 2 && ld_be16(p) >= 6;
		break;
	}
}

/* False: they do not end where they should. `overload`: whether it may say that there are more elsewhere. */
static bool take_options(struct request *r, const uint8_t *p, size_t len, unsigned *overload)
{
	size_t n = 0;

	while (n < len && p[n] != O_END) {
		if (!p[n]) {
			n++;
			continue;
		}
		if (len - n < 2 || p[n + 1] > len - n - 2)
			return false;
		if (p[n] == O_OVERLOAD && overload && p[n + 1] == 1)
			*overload = p[n + 2];
		take_option(r, p[n], p + n + 2, p[n + 1]);
		n += 2u + p[n + 1];
	}
	return true;
}

static bool parse(struct request *r, const struct frame_in *in)
{
	const uint8_t *b = in->data;
	unsigned overload = 0;

	memset(r, 0, sizeof(*r));
	if (in->len < FIXED + 4 || b[0] != 1 || b[1] != 1 || b[2] != 6 || ld_be32(b + FIXED) != COOKIE)
		return false;
	/* Relays (giaddr), and what says to be another than who sent it. */
	if (ld_be32(b + 24) || memcmp(b + 28, in->mac, 6))
		return false;
	r->b = b;
	r->all = true;
	memcpy(r->client.mac, in->mac, 6);
	r->ciaddr = addr_at(b + 12);
	if (!take_options(r, b + FIXED + 4, in->len - FIXED - 4, &overload))
		return false;
	if (overload & 1 && !take_options(r, b + FILE_AT, FILE_LEN, NULL))
		return false;
	return !(overload & 2) || take_options(r, b + SNAME, FILE_AT - SNAME, NULL);
}

/* --- the answer --- */

struct writer {
	uint8_t *b;
	size_t len, max;
};

/* An option, if there is still room for it and for the end. */
static void put(struct writer *w, unsigned option, const void *data, size_t len)
{
	if (len > 255 || w->len + 2 + len + 1 > w->max)
		return;
	w->b[w->len] = (uint8_t)option;
	w->b[w->len + 1] = (uint8_t)len;
	memcpy(w->b + w->len + 2, data, len);
	w->len += 2 + len;
}

static void put32(struct writer *w, unsigned option, uint32_t v)
{
	uint8_t b[4];

	st_be32(b, v);
	put(w, option, b, 4);
}

static void put_addr(struct writer *w, unsigned option, struct in_addr a)
{
	if (a.s_addr)
		put(w, option, &a, 4);
}

static void put_text(struct writer *w, unsigned option, const char *text)
{
	if (*text)
		put(w, option, text, strlen(text));
}

/* RFC 3397: the domain in labels. */
static void put_search(struct writer *w, const char *domain)
{
	uint8_t b[LAN_DOMAIN_MAX + 2];
	size_t n = 0;

	while (*domain) {
		size_t len = strcspn(domain, ".");

		b[n++] = (uint8_t)len;
		memcpy(b + n, domain, len);
		n += len;
		domain += len + (domain[len] == '.');
	}
	b[n++] = 0;
	if (n > 1)
		put(w, O_SEARCH, b, n);
}

static uint32_t mask_of(unsigned bits)
{
	return bits ? ~0u << (32 - bits) : 0;
}

/* The facts of the network that the client asked for, what matters most first. */
static void put_network(struct writer *w, const struct lan_serve *s, const struct request *r, const char *name)
{
	uint32_t mask = mask_of(s->prefix4);
	uint8_t mtu[2], route[5] = { 0 };

	put32(w, O_MASK, mask);
	if (asks(r, O_ROUTER))
		put_addr(w, O_ROUTER, s->gateway4);
	if (!r->all && asks(r, O_ROUTES) && s->gateway4.s_addr) {
		/* RFC 3442: the default route, for who reads no other then. */
		memcpy(route + 1, &s->gateway4, 4);
		put(w, O_ROUTES, route, sizeof(route));
	}
	if (asks(r, O_DNS) && s->dns)
		put_addr(w, O_DNS, s->addr4);
	if (asks(r, O_MTU) && s->mtu) {
		st_be16(mtu, (uint16_t)s->mtu);
		put(w, O_MTU, mtu, 2);
	}
	if (asks(r, O_DOMAIN))
		put_text(w, O_DOMAIN, s->domain);
	if (asks(r, O_NAME))
		put_text(w, O_NAME, name);
	if (asks(r, O_BROADCAST))
		put32(w, O_BROADCAST, be32toh(s->addr4.s_addr) | ~mask);
	if (!r->all && asks(r, O_SEARCH))
		put_search(w, s->domain);
}

/* The file to boot: in the header, as firmware reads it, and as options. */
static void put_boot(struct writer *w, const struct lan_serve *s, const struct request *r)
{
	const char *file = r->efi && *s->boot_file_efi ? s->boot_file_efi : s->boot_file;
	char text[ADDR_TEXT];

	if (!s->boot_server.s_addr || !*file)
		return;
	memcpy(w->b + 20, &s->boot_server, 4);
	memcpy(w->b + FILE_AT, file, strlen(file) < FILE_LEN ? strlen(file) : FILE_LEN - 1);
	if (!r->pxe && r->all)
		return;
	if (asks(r, O_BOOT_SERVER))
		put_text(w, O_BOOT_SERVER, addr_text(addr_of4(s->boot_server), text));
	if (asks(r, O_BOOT_FILE))
		put_text(w, O_BOOT_FILE, file);
}

static void begin(struct writer *w, struct frame_out *out, const struct dhcp4_config *c, const struct request *r,
		  uint8_t type)
{
	*w = (struct writer){ out->b + FRAME_UDP4, FIXED + 4, ANSWER_MAX };
	memset(w->b, 0, ANSWER_MAX);
	w->b[0] = 2;
	w->b[1] = 1;
	w->b[2] = 6;
	memcpy(w->b + 4, r->b + 4, 4);	 /* xid */
	memcpy(w->b + 10, r->b + 10, 2); /* flags */
	memcpy(w->b + 28, r->b + 28, 16);
	st_be32(w->b + FIXED, COOKIE);
	put(w, O_TYPE, &type, 1);
	put_addr(w, O_SERVER, c->serve->addr4);
}

/* RFC 2131, 4.1: to whom, by what is in the answer already. */
static void finish(struct writer *w, struct frame_out *out, const struct dhcp4_config *c, const struct request *r,
		   bool nak)
{
	struct frame_ends e = { .src4 = c->serve->addr4, .sport = SERVER_PORT, .dport = CLIENT_PORT };
	struct lan_addr to = addr_any(r->ciaddr) ? addr_at(w->b + 16) : r->ciaddr;

	w->b[w->len++] = O_END;
	if (w->len < ANSWER_MIN)
		w->len = ANSWER_MIN;
	memcpy(e.src_mac, c->mac, 6);
	memcpy(e.dst_mac, r->client.mac, 6);
	e.dst4 = addr_to4(to);
	if (nak || (addr_any(r->ciaddr) && ld_be16(w->b + 10) & BROADCAST) || addr_any(to)) {
		e.dst4.s_addr = INADDR_BROADCAST;
		/* It must reach the client only; what its card takes while it has no address is for everybody. */
		memset(e.dst_mac, 0xff, 6);
	}
	frame_udp4(out, &e, w->len);
}

static void answer(const struct dhcp4_config *c, const struct request *r, uint8_t type, const struct lease *e,
		   struct frame_out *out)
{
	struct writer w;
	uint32_t term;

	begin(&w, out, c, r, type);
	if (e) {
		struct in_addr a = addr_to4(e->addr);

		term = leases_term(c->leases, e);
		memcpy(w.b + 16, &a, 4);
		put32(&w, O_LEASE, term);
		put32(&w, O_T1, term / 2);
		put32(&w, O_T2, (uint32_t)(term * 7ull / 8));
		if (type == ACK && r->type == DISCOVER)
			put(&w, O_RAPID, "", 0);
	}
	if (!addr_any(r->ciaddr))
		memcpy(w.b + 12, r->b + 12, 4);
	put_network(&w, c->serve, r, e ? e->name : "");
	put_boot(&w, c->serve, r);
	finish(&w, out, c, r, false);
}

static void refuse(const struct dhcp4_config *c, const struct request *r, struct frame_out *out)
{
	struct writer w;

	begin(&w, out, c, r, NAK);
	if (r->client.id_len)
		put(&w, O_ID, r->client.id, r->client.id_len);
	finish(&w, out, c, r, true);
}

/* --- messages --- */

static void on_discover(const struct dhcp4_config *c, const struct request *r, int64_t now, struct frame_out *out)
{
	struct lease *e = leases_offer(c->leases, &r->client, r->wanted, now);

	if (e && r->rapid)
		e = leases_bind(c->leases, &r->client, e->addr, now);
	if (e)
		answer(c, r, r->rapid ? ACK : OFFER, e, out);
}

static void on_request(const struct dhcp4_config *c, const struct request *r, int64_t now, struct frame_out *out)
{
	struct lan_addr a = addr_any(r->ciaddr) ? r->wanted : r->ciaddr;
	struct lease *e;

	/* It has chosen another's offer: ours stands until it expires. */
	if (!addr_any(r->server) && !addr_eq(r->server, addr_of4(c->serve->addr4)))
		return;
	if (addr_any(a))
		return;
	e = leases_bind(c->leases, &r->client, a, now);
	if (e)
		answer(c, r, ACK, e, out);
	else
		refuse(c, r, out);
}

unsigned dhcp4_handle(const struct dhcp4_config *c, const struct frame_in *in, int64_t now, struct frame_out *out)
{
	struct request r;

	out->len = 0;
	if (!parse(&r, in))
		return 0;
	switch (r.type) {
	case DISCOVER:
		on_discover(c, &r, now, out);
		break;
	case REQUEST:
		on_request(c, &r, now, out);
		break;
	case DECLINE:
		if (addr_eq(r.server, addr_of4(c->serve->addr4)))
			leases_decline(c->leases, &r.client, r.wanted, now);
		break;
	case RELEASE:
		if (addr_eq(r.server, addr_of4(c->serve->addr4)))
			leases_release(c->leases, &r.client, r.ciaddr);
		break;
	case INFORM:
		if (!addr_any(r.ciaddr))
			answer(c, &r, ACK, NULL, out);
		break;
	default:
		return 0;
	}
	return r.type;
}
