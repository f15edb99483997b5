/*
 * "Did you mean ...?": the nearest of a number of words to one that somebody mistyped. Offer each candidate in
 * turn, then read `best`. Pure computation on the caller's struct; any thread.
 */
#ifndef VIREO_BASE_SUGGEST_H
#define VIREO_BASE_SUGGEST_H

struct suggestion {
	const char *word; /* what was typed */
	const char *best; /* the nearest candidate so far; NULL: none is near enough to be meant */
	unsigned distance;
};

/* Both words are borrowed. */
void suggest_begin(struct suggestion *s, const char *word);
void suggest_offer(struct suggestion *s, const char *candidate);

#endif
