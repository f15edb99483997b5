/* blkdebug's configuration files, and the events and requests that run into what they say. */
#include <stdlib.h>
#include <string.h>

#include "block/blkdebug_rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void suspend(void *opaque, char *tag)
{
	free(tag);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bd_rules s = { 0 };
	struct err err;
	char *text = malloc(size + 1);
	bool immediately;

	memcpy(text, data, size);
	text[size] = 0;
	if (size <= 65536 && !bd_rules_parse(&s, "conf", text, &err)) {
		s.current = 1;
		for (unsigned e = 0; e < EVENT_COUNT; e++) {
			bd_rules_event(&s, (enum node_event)e, suspend, NULL);
			for (unsigned io = 0; io < BD_IO_COUNT; io++)
				if (bd_rules_check(&s, (enum bd_io)io, e * 512, 512, &immediately) > 0)
					abort();
		}
	}
	bd_rules_free(&s);
	free(text);
	return 0;
}
