/* Definitions of networks as strangers write them: libvirt's XML and our JSON. What is taken must be kept as it was
 * taken. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lan/lan.h"
#include "lan/rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct lan_def *d)
{
	static struct lan_def again;
	struct lan_ports ports = { 0 };
	const struct lan_rules r = { .def = d, .bridge = "vr-fuzz", .ports = &ports };
	json_t *o = lan_def_to_json(d);
	char *text = NULL;
	size_t len;
	struct err err;
	FILE *f;

	if (lan_def_from_json(&again, o, &err) || memcmp(&again, d, sizeof(again)))
		abort();
	json_decref(o);
	/* Nothing of it ends a line or a word of the filters. */
	f = open_memstream(&text, &len);
	if (!f)
		return;
	lan_rules_write(f, &r, true);
	if (fclose(f) || strpbrk(text, "`$\\\r"))
		abort();
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct lan_def d;
	struct lan_wishes w;
	struct err err;
	json_t *o;

	if (!size)
		return 0;
	if (data[0] == '<') {
		const struct lan_xml x = { .text = (const char *)data, .len = size, .notes = fmemopen(NULL, 1, "w") };

		if (x.notes && !lan_def_from_xml(&d, &w, &x, &err))
			check(&d);
		if (x.notes)
			fclose(x.notes);
		return 0;
	}
	o = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	if (o && !lan_def_from_json(&d, o, &err))
		check(&d);
	json_decref(o);
	return 0;
}
