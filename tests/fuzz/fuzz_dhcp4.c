/* The DHCPv4 server: messages with their lengths before them, from two machines in turn, to one table of leases. */
#include <stdlib.h>
#include <string.h>

#include "lan/serve/dhcp4.h"
#include "message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct lan_serve s = test_network();
	struct dhcp4_config c = { .serve = &s, .leases = test_leases(&s, false), .mac = SERVER };
	static struct frame_out out;
	int64_t now = NOW;

	while (size >= 2) {
		size_t len = ld_le16(data) % 1500;
		uint8_t *m;

		if (len > size - 2)
			len = size - 2;
		m = malloc(len + 1);
		memcpy(m, data + 2, len);
		/* Those that would end there go on: with the right cookie and sender. */
		if (len >= 240) {
			memcpy(m, "\1\1\6", 3);
			memcpy(m + 236, "\x63\x82\x53\x63", 4);
			memset(m + 24, 0, 4);
			memcpy(m + 28, m[3] & 1 ? MACHINE : "\x52\x54\0\0\0\x09", 6);
		}
		{
			struct frame_in *in = test_request(false, m, len);

			if (len >= 240)
				memcpy(in->mac, m + 28, 6);
			dhcp4_handle(&c, in, now, &out);
		}
		test_answer(&out);
		free(m);
		leases_expire(c.leases, ++now);
		data += 2 + len;
		size -= 2 + len;
	}
	leases_free(c.leases);
	return 0;
}
