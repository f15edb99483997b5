/* See symbols.h. */
#include "cli/symbols.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"

struct symbol {
	uint64_t address;
	char *name;
};

struct symbols {
	struct symbol *list;
	size_t count;
};

static int by_address(const void *a, const void *b)
{
	uint64_t x = ((const struct symbol *)a)->address, y = ((const struct symbol *)b)->address;

	return x < y ? -1 : x > y;
}

static int add(struct symbols *s, uint64_t address, const char *name)
{
	if (!array_more(s->list, s->count))
		return -1;
	s->list[s->count].address = address;
	s->list[s->count].name = strdup(name);
	return s->list[s->count].name ? (s->count++, 0) : -1;
}

static int read_all(struct symbols *s, FILE *f, const char *path, struct err *err)
{
	char text[256], name[200], type;
	uint64_t address;

	while (fgets(text, sizeof(text), f)) {
		if (sscanf(text, "%" SCNx64 " %c %199s", &address, &type, name) != 3)
			continue; /* `nm` has lines for what is undefined */
		if (strchr("tTwW", type) && add(s, address, name))
			return err_set(err, "out of memory");
	}
	if (ferror(f))
		return err_set(err, "%s: cannot be read", path);
	return s->count ? 0 : err_set(err, "%s: no line is a function as `nm` prints it: ADDRESS T NAME", path);
}

struct symbols *symbols_read(const char *path, struct err *err)
{
	struct symbols *s = calloc(1, sizeof(*s));
	FILE *f = s ? fopen(path, "re") : NULL;
	int rc;

	if (!s || !f) {
		if (s)
			err_set(err, "%s: %s", path, strerror(errno));
		else
			err_set(err, "out of memory");
		free(s);
		return NULL;
	}
	rc = read_all(s, f, path, err);
	fclose(f);
	if (rc) {
		symbols_free(s);
		return NULL;
	}
	qsort(s->list, s->count, sizeof(*s->list), by_address);
	return s;
}

void symbols_free(struct symbols *s)
{
	if (!s)
		return;
	for (size_t n = 0; n < s->count; n++)
		free(s->list[n].name);
	free(s->list);
	free(s);
}

const char *symbols_find(const struct symbols *s, uint64_t address, uint64_t *offset)
{
	size_t lo = 0, hi = s->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->list[mid].address <= address)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo)
		return NULL;
	*offset = address - s->list[lo - 1].address;
	return s->list[lo - 1].name;
}
