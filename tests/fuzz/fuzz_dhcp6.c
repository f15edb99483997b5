/* The DHCPv6 server: messages with their lengths before them, from two machines in turn, to one table of leases. */
#include <stdlib.h>
#include <string.h>

#include "lan/serve/dhcp6.h"
#include "message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct lan_serve s = test_network();
	struct dhcp6_config c = { .serve = &s, .leases = test_leases(&s, true), .mac = SERVER };
	static struct frame_out out;
	int64_t now = NOW;

	while (size >= 2) {
		size_t len = ld_le16(data) % 1500;
		struct frame_in *in;
		uint8_t *m;

		if (len > size - 2)
			len = size - 2;
		m = malloc(len + 1);
		memcpy(m, data + 2, len);
		in = test_request(true, m, len);
		in->mac[5] = len && m[len - 1] & 1 ? 9 : 7;
		dhcp6_handle(&c, in, now, &out);
		test_answer(&out);
		free(m);
		leases_expire(c.leases, ++now);
		data += 2 + len;
		size -= 2 + len;
	}
	leases_free(c.leases);
	return 0;
}
