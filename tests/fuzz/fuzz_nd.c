/* Frames as they come from the bridge, and what a router solicitation may say. The first byte: is there a sum. */
#include <stdlib.h>
#include <string.h>

#include "lan/serve/ra.h"
#include "message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct frame_out out;
	struct lan_serve s = test_network();
	struct frame_in in;
	uint8_t *m;

	if (size < 2)
		return 0;
	m = malloc(size - 1);
	memcpy(m, data + 1, size - 1);
	if (frame_parse(m, size - 1, data[0] & 1, &in)) {
		if (in.data < m || in.len > (size_t)(m + size - 1 - in.data))
			abort();
		if (ra_is_solicitation(&in)) {
			ra_make(&s, (const uint8_t *)SERVER, in.mac, false, &out);
			test_answer(&out);
		}
	}
	free(m);
	return 0;
}
