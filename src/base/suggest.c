/* Optimal string alignment: an insertion, deletion, replacement or swap of neighbours costs one, another case nothing.
 */
#include "base/suggest.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define MAX_LEN 127

static unsigned min(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

static bool same(char a, char b)
{
	return tolower((unsigned char)a) == tolower((unsigned char)b);
}

static unsigned distance(const char *a, const char *b)
{
	unsigned rows[3][MAX_LEN + 1], *before = rows[0], *above = rows[1], *row = rows[2];
	size_t la = strlen(a), lb = strlen(b);

	if (la > MAX_LEN || lb > MAX_LEN)
		return MAX_LEN;
	for (size_t j = 0; j <= lb; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned *t = before;

		before = above;
		above = row;
		row = t;
		row[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			row[j] = min(above[j - 1] + !same(a[i - 1], b[j - 1]), min(above[j], row[j - 1]) + 1);
			if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]))
				row[j] = min(row[j], before[j - 2] + 1);
		}
	}
	return row[lb];
}

void suggest_begin(struct suggestion *s, const char *word)
{
	/* One slip in a word of up to five letters, two in a longer one. */
	*s = (struct suggestion){ .word = word, .distance = (strlen(word) > 5 ? 2 : 1) + 1 };
}

void suggest_offer(struct suggestion *s, const char *candidate)
{
	size_t n = strlen(s->word);
	/* A beginning that was not finished is as good as one slip. */
	unsigned d = n >= 2 && !strncasecmp(s->word, candidate, n) ? candidate[n] != 0 : distance(s->word, candidate);

	if (d < s->distance) {
		s->distance = d;
		s->best = candidate;
	}
}
