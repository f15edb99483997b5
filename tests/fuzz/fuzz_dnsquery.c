/* A query to the name server, and its answer from this network's names, which must be sound. */
#include <stdlib.h>
#include <string.h>

#include "lan/serve/dns_impl.h"
#include "message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct server v;
	static struct dns d = { .v = &v };
	uint8_t *m = malloc(size + 1), b[DNS_UDP_MAX];
	enum dns_rcode rcode;
	struct dns_answer a;
	struct dns_writer w;
	struct dns_query q;

	if (!v.l4) {
		v.s = test_network();
		v.l4 = test_leases(&v.s, false);
		v.l6 = test_leases(&v.s, true);
	}
	memcpy(m, data, size);
	if (dns_read_query(m, size, &q) == DNS_OK) {
		dns_begin(&w, b, sizeof(b), &q, 0);
		dns_local(&d, &q, &w, &rcode);
		dns_end(&w, &q, rcode, true);
		if (w.len > q.size || !dns_read_answer(b, w.len, &q, &a))
			abort();
	}
	free(m);
	return 0;
}
