/* See monitor.h. */
#include "vm/monitor.h"

#include <stdlib.h>
#include <string.h>

#include "base/lineedit.h"
#include "vm/control.h"
#include "vm/hmp.h"
#include "vm/impl.h"

#define PROMPT "(qemu) "

struct monitor {
	struct link *link;
	struct lineedit *edit;
	struct hmp hmp;
};

/* With the line's ends that a terminal in raw mode needs. */
static char *with_returns(const char *text, size_t len, size_t *new_len)
{
	size_t n = 0;
	char *out;

	for (size_t k = 0; k < len; k++)
		n += text[k] == '\n';
	out = malloc(len + n + 1);
	if (!out)
		return NULL;
	n = 0;
	for (size_t k = 0; k < len; k++) {
		if (text[k] == '\n')
			out[n++] = '\r';
		out[n++] = text[k];
	}
	out[n] = 0;
	*new_len = n;
	return out;
}

static char *execute(struct hmp *h, const char *line, size_t *len)
{
	char *text = NULL, *out = NULL;
	size_t size = 0;

	h->out = open_memstream(&text, &size);
	if (!h->out)
		return NULL;
	hmp_execute(h, line);
	if (!fclose(h->out))
		out = with_returns(text, size, len);
	free(text);
	return out;
}

char *monitor_run(struct vm *vm, unsigned cpu, const char *line)
{
	struct hmp h = { .vm = vm, .cpu = cpu };
	size_t len;

	return execute(&h, line, &len);
}

/* --- as the line editor's --- */

static void show(void *opaque, const char *bytes, size_t len)
{
	struct monitor *m = opaque;

	link_write(m->link, bytes, len);
}

static void take_line(void *opaque, const char *line)
{
	struct monitor *m = opaque;
	size_t len;
	char *out = execute(&m->hmp, line, &len);

	if (out)
		link_write(m->link, out, len);
	free(out);
	if (!m->hmp.quit)
		lineedit_prompt(m->edit);
}

static const char *word(void *opaque, const char *text, unsigned i)
{
	return hmp_word(text, i);
}

static void end(void *opaque)
{
	struct monitor *m = opaque;

	link_leave(m->link);
}

static const struct lineedit_ops edit_ops = { .show = show, .line = take_line, .word = word, .end = end };

/* --- as a protocol --- */

static size_t input(void *session, const char *bytes, size_t len)
{
	struct monitor *m = session;
	size_t n = 0;

	do
		lineedit_byte(m->edit, bytes[n++]);
	while (n < len && !m->hmp.quit && !link_is_slow(m->link) && !link_is_dropped(m->link));
	return m->hmp.quit ? len : n;
}

static void *open_monitor(struct vm *vm, struct link *l)
{
	static const char hello[] = "Vireo " VIREO_VERSION " monitor - type 'help' for more information\r\n";
	struct monitor *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->link = l;
	m->hmp.vm = vm;
	m->edit = lineedit_new(PROMPT, &edit_ops, m);
	m->hmp.history = m->edit;
	if (!m->edit) {
		free(m);
		return NULL;
	}
	link_write(l, hello, sizeof(hello) - 1);
	lineedit_prompt(m->edit);
	return m;
}

static void close_monitor(void *session)
{
	struct monitor *m = session;

	lineedit_free(m->edit);
	free(m);
}

const struct control_protocol monitor_protocol = {
	.name = "monitor",
	.open = open_monitor,
	.input = input,
	.close = close_monitor,
};
