/* The saved-state stream: into a processor and into devices with arrays and nested structs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/x86/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct x86_state s;
	static char *good;
	static size_t good_len;
	struct err err;
	uint8_t b[16384];

	if (!good) {
		FILE *f = open_memstream(&good, &good_len);

		x86_state_reset(&s, true, false);
		if (!f || state_save(f, &x86_state_desc, "0", &s, &err) || fclose(f))
			abort();
	}
	if (!size)
		return 0;
	/* Either the bytes themselves, or a good stream with some of them laid over it. */
	size_t len = size < sizeof(b) ? size : sizeof(b);
	memcpy(b, data, len);
	if (data[0] & 1 && good_len <= sizeof(b) && size > 3) {
		size_t at = (data[1] | data[2] << 8) % good_len;

		memcpy(b, good, good_len);
		len = good_len;
		for (size_t k = 3; k < size && at + k - 3 < len; k++)
			b[at + k - 3] = data[k];
	}
	FILE *f = fmemopen(b, len, "r");
	if (!f)
		return 0;
	if (!state_load(f, &x86_state_desc, "0", &s, &err) && x86_state_check(&s, &err))
		abort(); /* a load that succeeds leaves a state that is possible */
	fclose(f);
	return 0;
}
