/* See lineedit.h. */
#include "base/lineedit.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HISTORY 64u
#define WORDS	100u /* that are listed */

enum where { PLAIN, ESCAPE, CSI };

struct lineedit {
	const char *prompt;
	struct lineedit_ops ops;
	void *opaque;
	char line[LINEEDIT_MAX + 1];
	size_t len, at;
	enum where where;
	unsigned number; /* of a control sequence */
	bool returned;	 /* the last byte was CR, and LF after it is no other line */
	char *history[HISTORY];
	unsigned kept, browsed; /* browsed == kept: the line that is being written */
};

/* --- showing --- */

static void show(struct lineedit *e, const char *text, size_t len)
{
	if (len)
		e->ops.show(e->opaque, text, len);
}

static void back(struct lineedit *e, size_t columns)
{
	char move[24];

	if (columns)
		show(e, move, (size_t)snprintf(move, sizeof(move), "\x1b[%zuD", columns));
}

/* From the cursor, which stands at `at` on the screen too, to the end. */
static void show_rest(struct lineedit *e)
{
	show(e, e->line + e->at, e->len - e->at);
	show(e, "\x1b[K", 3);
	back(e, e->len - e->at);
}

static void show_all(struct lineedit *e)
{
	show(e, e->prompt, strlen(e->prompt));
	show(e, e->line, e->len);
	show(e, "\x1b[K", 3);
	back(e, e->len - e->at);
}

static void move_to(struct lineedit *e, size_t at)
{
	if (at < e->at)
		back(e, e->at - at);
	else
		show(e, e->line + e->at, at - e->at);
	e->at = at;
}

void lineedit_prompt(struct lineedit *e)
{
	e->len = e->at = 0;
	e->browsed = e->kept;
	show(e, e->prompt, strlen(e->prompt));
}

/* --- changing --- */

static void insert(struct lineedit *e, const char *text, size_t len)
{
	bool at_end = e->at == e->len;

	if (len > LINEEDIT_MAX - e->len)
		return;
	memmove(e->line + e->at + len, e->line + e->at, e->len - e->at);
	memcpy(e->line + e->at, text, len);
	e->len += len;
	show(e, text, len);
	e->at += len;
	if (!at_end)
		show_rest(e);
}

/* The bytes from `from` to the cursor. */
static void erase_to(struct lineedit *e, size_t from)
{
	size_t len = e->at - from;

	if (!len)
		return;
	move_to(e, from);
	memmove(e->line + from, e->line + from + len, e->len - from - len);
	e->len -= len;
	show_rest(e);
}

static void erase_word(struct lineedit *e)
{
	size_t from = e->at;

	while (from && e->line[from - 1] == ' ')
		from--;
	while (from && e->line[from - 1] != ' ')
		from--;
	erase_to(e, from);
}

static void erase_here(struct lineedit *e)
{
	if (e->at == e->len)
		return;
	memmove(e->line + e->at, e->line + e->at + 1, e->len - e->at - 1);
	e->len--;
	show_rest(e);
}

/* --- history --- */

static void remember(struct lineedit *e)
{
	char *copy;

	if (!e->len || (e->kept && !strcmp(e->history[e->kept - 1], e->line)))
		return;
	copy = strdup(e->line);
	if (!copy)
		return;
	if (e->kept == HISTORY) {
		free(e->history[0]);
		memmove(e->history, e->history + 1, (HISTORY - 1) * sizeof(e->history[0]));
		e->kept--;
	}
	e->history[e->kept++] = copy;
}

static void browse(struct lineedit *e, int step)
{
	if (step < 0 ? !e->browsed : e->browsed == e->kept)
		return;
	e->browsed += (unsigned)step;
	e->len = 0;
	if (e->browsed < e->kept) {
		e->len = strlen(e->history[e->browsed]);
		memcpy(e->line, e->history[e->browsed], e->len);
	}
	e->at = e->len;
	show(e, "\r", 1);
	show_all(e);
}

const char *lineedit_history(const struct lineedit *e, unsigned i)
{
	return i < e->kept ? e->history[i] : NULL;
}

/* --- completion --- */

static void list_words(struct lineedit *e)
{
	const char *word;

	show(e, "\r\n", 2);
	for (unsigned n = 0; n < WORDS && (word = e->ops.word(e->opaque, e->line, n)); n++) {
		show(e, word, strlen(word));
		show(e, "\r\n", 2);
	}
	show_all(e);
}

static void complete(struct lineedit *e)
{
	char common[256] = "";
	const char *word;
	size_t typed, len = 0;
	unsigned n = 0;

	if (!e->ops.word || e->at != e->len)
		return;
	e->line[e->len] = 0;
	for (; (word = e->ops.word(e->opaque, e->line, n)); n++) {
		size_t same = 0;

		if (!n) {
			len = (size_t)snprintf(common, sizeof(common), "%s", word);
			len = len < sizeof(common) ? len : sizeof(common) - 1;
		}
		while (same < len && word[same] == common[same])
			same++;
		len = same;
	}
	typed = e->len;
	while (typed && e->line[typed - 1] != ' ')
		typed--;
	typed = e->len - typed;
	if (len > typed)
		insert(e, common + typed, len - typed);
	else if (n > 1)
		list_words(e);
	if (n == 1)
		insert(e, " ", 1);
}

/* --- keys --- */

static void enter(struct lineedit *e)
{
	e->line[e->len] = 0;
	show(e, "\r\n", 2);
	remember(e);
	/* Before a prompt a line has no bytes. */
	e->len = e->at = 0;
	e->ops.line(e->opaque, e->line);
}

static void clear_screen(struct lineedit *e)
{
	show(e, "\x1b[H\x1b[2J", 7);
	show_all(e);
}

static void control(struct lineedit *e, char b)
{
	switch (b | 0x40) {
	case 'A':
		move_to(e, 0);
		break;
	case 'B':
		move_to(e, e->at ? e->at - 1 : 0);
		break;
	case 'C':
		show(e, "\r\n", 2);
		lineedit_prompt(e);
		break;
	case 'D':
		if (e->len)
			erase_here(e);
		else if (e->ops.end)
			e->ops.end(e->opaque);
		break;
	case 'E':
		move_to(e, e->len);
		break;
	case 'F':
		move_to(e, e->at < e->len ? e->at + 1 : e->at);
		break;
	case 'H':
		erase_to(e, e->at ? e->at - 1 : 0);
		break;
	case 'I':
		complete(e);
		break;
	case 'J':
	case 'M':
		enter(e);
		break;
	case 'K':
		e->len = e->at;
		show_rest(e);
		break;
	case 'L':
		clear_screen(e);
		break;
	case 'N':
		browse(e, 1);
		break;
	case 'P':
		browse(e, -1);
		break;
	case 'U':
		erase_to(e, 0);
		break;
	case 'W':
		erase_word(e);
		break;
	case '[':
		e->where = ESCAPE;
		break;
	}
}

static void sequence(struct lineedit *e, char b)
{
	static const struct {
		char last;
		unsigned number;
		char key; /* control character of the same meaning */
	} keys[] = {
		{ 'A', 0, 'P' - 64 }, { 'B', 0, 'N' - 64 }, { 'C', 0, 'F' - 64 }, { 'D', 0, 'B' - 64 },
		{ 'H', 0, 'A' - 64 }, { 'F', 0, 'E' - 64 }, { '~', 1, 'A' - 64 }, { '~', 4, 'E' - 64 },
		{ '~', 7, 'A' - 64 }, { '~', 8, 'E' - 64 },
	};

	if (b >= '0' && b <= '9') {
		e->number = (e->number * 10 + (unsigned)(b - '0')) % 1000;
		return;
	}
	if (b == ';')
		return;
	e->where = PLAIN;
	if (b == '~' && e->number == 3)
		erase_here(e);
	for (size_t n = 0; n < sizeof(keys) / sizeof(keys[0]); n++)
		if (keys[n].last == b && keys[n].number == e->number)
			control(e, keys[n].key);
}

void lineedit_byte(struct lineedit *e, char b)
{
	bool returned = e->returned;

	e->returned = b == '\r';
	if (b == '\n' && returned)
		return;
	if (e->where == CSI) {
		sequence(e, b);
	} else if (e->where == ESCAPE) {
		e->where = b == '[' || b == 'O' ? CSI : PLAIN;
		e->number = 0;
	} else if (b == 0x7f) {
		control(e, 8);
	} else if ((unsigned char)b < 0x20) {
		control(e, b);
	} else {
		insert(e, &b, 1);
	}
}

/* --- life --- */

struct lineedit *lineedit_new(const char *prompt, const struct lineedit_ops *ops, void *opaque)
{
	struct lineedit *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->prompt = prompt;
	e->ops = *ops;
	e->opaque = opaque;
	return e;
}

void lineedit_free(struct lineedit *e)
{
	if (!e)
		return;
	for (unsigned n = 0; n < e->kept; n++)
		free(e->history[n]);
	free(e);
}
