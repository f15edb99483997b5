/*
 * Messages of DNS as they are on the wire: RFC 1035, 2308, 6891. Everything that is read may lie: names are bounded, a
 * pointer only ever leads back. Pure functions, any thread.
 */
#ifndef VIREO_LAN_SERVE_DNSMSG_H
#define VIREO_LAN_SERVE_DNSMSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DNS_HEADER   12u
#define DNS_NAME_MAX 255u /* bytes on the wire */
#define DNS_UDP_MIN  512u
#define DNS_UDP_MAX  1232u /* what is sent whole over any link: dnsflagday.net/2020 */
#define DNS_MAX	     65535u

enum dns_rcode { DNS_OK, DNS_FORMERR, DNS_SERVFAIL, DNS_NXDOMAIN, DNS_NOTIMP, DNS_REFUSED, DNS_BADVERS = 16 };
enum dns_type {
	DNS_A = 1,
	DNS_NS,
	DNS_CNAME = 5,
	DNS_SOA,
	DNS_PTR = 12,
	DNS_AAAA = 28,
	DNS_OPT = 41,
	DNS_DS = 43,
	DNS_DNSKEY = 48,
	DNS_SVCB = 64,
	DNS_HTTPS,
	DNS_IXFR = 251,
	DNS_AXFR,
	DNS_ANY = 255,
};
#define DNS_IN 1u

enum dns_flag {
	DNS_QR = 0x8000,
	DNS_OPCODE = 0x7800,
	DNS_AA = 0x400,
	DNS_TC = 0x200,
	DNS_RD = 0x100,
	DNS_RA = 0x80,
	DNS_AD = 0x20,
	DNS_CD = 0x10
};

/* A name in labels, as it came. */
struct dns_name {
	uint8_t len; /* with the root's zero */
	uint8_t b[DNS_NAME_MAX];
};

struct dns_query {
	uint16_t id, flags; /* the opcode, RD, AD, CD */
	uint16_t type, class;
	bool edns, secure; /* has OPT; DO */
	uint16_t size;	   /* bytes that may be answered by UDP */
	struct dns_name name;
};

/* The rcode of the answer, if there must be one for that alone; DNS_OK: go on; -1: nothing is answered. */
int dns_read_query(const uint8_t *m, size_t len, struct dns_query *q);

struct dns_answer {
	enum dns_rcode rcode; /* without OPT's bits */
	bool truncated;
	bool cached; /* may it be, for `ttl` seconds */
	uint32_t ttl;
	size_t len;	     /* of the message without OPT and what follows the last record */
	uint16_t additional; /* records, without OPT */
};

/*
 * Whether a message is the answer to `q` (its name in the very case), and whole as far as lengths and names go; what of
 * it is passed on. `m` is changed: OPT is taken out.
 */
bool dns_read_answer(uint8_t *m, size_t len, const struct dns_query *q, struct dns_answer *a);
/*
 * Whether a message is what somebody says of `q`, which had OPT, who cannot read that: an error alone, without the
 * question. RFC 6891, 7 (FORMERR), and RFC 2671, 5.3, before it (NOTIMP and SERVFAIL as well).
 */
bool dns_read_bare_error(const uint8_t *m, size_t len, const struct dns_query *q);
/* Whether one of its addresses (of A and AAAA, or that services hint at), the bytes `data`, is such that `fn` says so.
 */
bool dns_any_address(const uint8_t *m, size_t len, bool (*fn)(const void *opaque, bool six, const uint8_t *data),
		     const void *opaque);
/* The times to live of a message that dns_read_answer() took, `by` seconds later. */
void dns_age(uint8_t *m, size_t len, uint32_t by);

struct dns_writer {
	uint8_t *b;
	size_t len, max;
	bool full; /* something did not fit */
};

/* Header and question; counts are kept by dns_put(). */
void dns_begin(struct dns_writer *w, uint8_t *b, size_t max, const struct dns_query *q, unsigned flags);
enum dns_section { DNS_ANSWER = 6, DNS_AUTHORITY = 8, DNS_ADDITIONAL = 10 }; /* where it is counted */
struct dns_record {
	const struct dns_name *name; /* NULL: the question's, */
	size_t skip;		     /* without so many of its bytes: a name above it */
	uint16_t type;
	uint32_t ttl;
	const void *data;
	size_t len;
};
void dns_put(struct dns_writer *w, enum dns_section where, const struct dns_record *r);
/* OPT, if the query had one, and the rcode. Cut to `q->size` with TC, if it is to be. */
void dns_end(struct dns_writer *w, const struct dns_query *q, enum dns_rcode rcode, bool cut);

/* Labels in small letters, dots between; "" is the root. False: with bytes that no host's name has, which are '?'. */
bool dns_text(const struct dns_name *n, char text[DNS_NAME_MAX + 1]);
/* False: it is no name. */
bool dns_name_of(const char *text, struct dns_name *n);
void dns_lower(struct dns_name *n);

#endif
