/* An answer of another name server to "www.example", to the cache and to who asked. */
#include <stdlib.h>
#include <string.h>

#include "lan/serve/dns_impl.h"

/* Reads all of it. */
static bool is_zero(const void *opaque, bool six, const uint8_t *data)
{
	static const uint8_t zero[16];

	return !memcmp(data, zero, six ? 16 : 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct dns_cache *cache;
	struct dns_query q = { .id = 0x1234, .type = DNS_A, .class = DNS_IN, .edns = true, .size = DNS_UDP_MAX };
	uint8_t *m = malloc(size + 1), b[DNS_UDP_MAX];
	struct dns_answer a;

	if (!cache)
		cache = dns_cache_new();
	dns_name_of("www.example", &q.name);
	memcpy(m, data, size);
	/* Those that would end there go on: with the right number and question. */
	if (size >= 29) {
		memcpy(m, "\x12\x34", 2);
		m[2] |= 0x80;
		st_be16(m + 4, 1);
		memcpy(m + DNS_HEADER, q.name.b, q.name.len);
		memcpy(m + 25, "\0\1\0\1", 4);
	}
	if (dns_read_bare_error(m, size, &q) && (size != DNS_HEADER || ld_be16(m) != q.id))
		abort();
	if (dns_read_answer(m, size, &q, &a) && !a.truncated) {
		if (a.len > size)
			abort();
		dns_any_address(m, a.len, is_zero, NULL);
		dns_age(m, a.len, 7);
		dns_cache_put(cache, &q, 1, m, &a);
		if (dns_cache_get(cache, &q, 2, b) > sizeof(b))
			abort();
	}
	free(m);
	return 0;
}
