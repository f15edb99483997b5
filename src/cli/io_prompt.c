/* The prompt of `vireo io`: lines from standard input, which can be edited if it is a terminal. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <termios.h>
#include <unistd.h>

#include "base/lineedit.h"
#include "base/tty.h"
#include "cli/io_impl.h"

#define PROMPT "qemu-io> "

struct io_prompt {
	struct io *t;
	struct lineedit *edit; /* NULL: lines are taken as they come */
	char *line;	       /* that has just been edited */
	char buf[1024];
	size_t filled;
	bool ended;
};

/* --- input --- */

static void on_input(void *opaque, int fd, uint32_t events)
{
	struct io *t = opaque;
	struct co *c = t->waits;

	t->waits = NULL;
	if (c)
		co_wake(c);
}

static void more_input(struct io_prompt *p)
{
	struct err err;
	struct loop_fd *w = loop_fd_add(p->t->ctx.loop, STDIN_FILENO, EPOLLIN, on_input, p->t, &err);
	ssize_t n;

	/* Requests go on meanwhile. A file is always ready. */
	if (w) {
		p->t->waits = co_self();
		co_wait();
		loop_fd_del(w);
	}
	n = read(STDIN_FILENO, p->buf + p->filled, sizeof(p->buf) - p->filled);
	if (n > 0)
		p->filled += (size_t)n;
	else if (!n || errno != EINTR)
		p->ended = true;
}

static void consume(struct io_prompt *p, size_t bytes)
{
	memmove(p->buf, p->buf + bytes, p->filled - bytes);
	p->filled -= bytes;
}

/* The next line, which may be no longer than the buffer. */
static char *plain_line(struct io_prompt *p)
{
	fputs(PROMPT, stdout);
	fflush(stdout);
	for (;;) {
		char *end = memchr(p->buf, '\n', p->filled), *line;
		size_t len = end ? (size_t)(end - p->buf) : p->filled;

		if (end || p->filled == sizeof(p->buf) || (p->ended && p->filled)) {
			line = strndup(p->buf, len);
			consume(p, end ? len + 1 : len);
			return line;
		}
		if (p->ended)
			return NULL;
		more_input(p);
	}
}

/* --- on a terminal --- */

static void show(void *opaque, const char *bytes, size_t len)
{
	fwrite(bytes, 1, len, stdout);
}

static void take_line(void *opaque, const char *line)
{
	struct io_prompt *p = opaque;

	p->line = strdup(line);
	p->ended |= !p->line;
}

static void end(void *opaque)
{
	struct io_prompt *p = opaque;

	p->ended = true;
}

/* Names of commands, as the first word and behind `help`. */
static const char *word(void *opaque, const char *text, unsigned i)
{
	const char *last = strrchr(text, ' ');
	size_t first = strcspn(text, " ");

	last = last ? last + 1 : text;
	if (last != text && ((size_t)(last - text) != first + 1 ||
			     (strncmp(text, "help ", first + 1) && strncmp(text, "? ", first + 1))))
		return NULL;
	for (const struct io_command *c = io_commands; c->name; c++)
		if (!strncmp(c->name, last, strlen(last)) && !i--)
			return c->name;
	return NULL;
}

/* What ends meanwhile speaks in lines of its own, with "\n" only. */
static void whole_newlines(void)
{
	struct termios tio;

	if (tcgetattr(STDIN_FILENO, &tio))
		return;
	tio.c_oflag |= OPOST | ONLCR;
	tcsetattr(STDIN_FILENO, TCSADRAIN, &tio);
}

/* The terminal is as it was while a command runs. */
static char *edited_line(struct io_prompt *p)
{
	char *line;

	if (!tty_raw(true))
		return plain_line(p);
	whole_newlines();
	lineedit_prompt(p->edit);
	while (!p->line && !p->ended) {
		size_t used = 0;

		while (used < p->filled && !p->line && !p->ended)
			lineedit_byte(p->edit, p->buf[used++]);
		consume(p, used);
		fflush(stdout);
		if (!p->line && !p->ended)
			more_input(p);
	}
	line = p->line;
	p->line = NULL;
	if (!line)
		putchar('\n');
	fflush(stdout);
	tty_restore();
	return line;
}

struct io_prompt *io_prompt_new(struct io *t)
{
	static const struct lineedit_ops ops = { .show = show, .line = take_line, .word = word, .end = end };
	struct io_prompt *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->t = t;
	if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) {
		p->edit = lineedit_new(PROMPT, &ops, p);
		tty_restore_on_signals();
	}
	return p;
}

char *io_prompt_line(struct io_prompt *p)
{
	return p->edit ? edited_line(p) : plain_line(p);
}

void io_prompt_free(struct io_prompt *p)
{
	if (!p)
		return;
	lineedit_free(p->edit);
	free(p);
}
