/* Rules of blkdebug nodes: see blkdebug_rules.h. A configuration file has QEMU's form: groups of key = "value". */
#include "block/blkdebug_rules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILE  (64u << 10)
#define MAX_ERRNO 4095

#define EVENT_NAME(NAME, TEXT) TEXT,
static const char *const event_names[] = { NODE_EVENTS(EVENT_NAME) };
#undef EVENT_NAME
static const char *const io_names[] = { "read", "write", "write-zeroes", "discard", "flush", "block-status" };

enum node_event bd_event(const char *name)
{
	unsigned i = 0;

	while (i < EVENT_COUNT && strcmp(event_names[i], name))
		i++;
	return (enum node_event)i;
}

int bd_rules_add(struct bd_rules *s, const struct bd_rule *r)
{
	if (s->n == s->room) {
		unsigned room = s->room ? 2 * s->room : 8;
		struct bd_rule *more = room <= BD_MAX_RULES ? realloc(s->at, room * sizeof(*more)) : NULL;

		if (!more)
			return -ENOMEM;
		s->at = more;
		s->room = room;
	}
	s->at[s->n++] = *r;
	return 0;
}

void bd_rules_remove(struct bd_rules *s, unsigned i)
{
	free(s->at[i].tag);
	memmove(s->at + i, s->at + i + 1, (s->n - i - 1) * sizeof(*s->at));
	s->n--;
}

void bd_rules_free(struct bd_rules *s)
{
	while (s->n)
		bd_rules_remove(s, s->n - 1);
	free(s->at);
	s->at = NULL;
	s->room = 0;
}

/* --- one rule --- */

static int take_int(struct opts *o, const char *key, int dflt, int *out, struct err *err)
{
	uint64_t v;

	if (opts_number(o, key, (uint64_t)dflt, &v, err))
		return -1;
	if (v > INT32_MAX)
		return err_set(err, "Parameter '%s' is out of range", key);
	*out = (int)v;
	return 0;
}

static int take_error(struct bd_rule *r, struct opts *o, struct err *err)
{
	const char *io = opts_take(o, "iotype");
	uint64_t sector;
	unsigned i = 0;

	if (take_int(o, "errno", EIO, &r->error, err) || opts_bool(o, "once", false, &r->once, err) ||
	    opts_bool(o, "immediately", false, &r->immediately, err) ||
	    opts_number(o, "sector", UINT64_MAX, &sector, err))
		return -1;
	if (r->error > MAX_ERRNO)
		return err_set(err, "Parameter 'errno' is out of range");
	if (sector != UINT64_MAX && sector > INT64_MAX / 512)
		return err_set(err, "Parameter 'sector' is out of range");
	r->offset = sector == UINT64_MAX ? -1 : (int64_t)(sector * 512);
	/* All but the look at what is where. */
	r->io_mask = (1u << BD_BLOCK_STATUS) - 1;
	if (!io)
		return 0;
	while (i < BD_IO_COUNT && strcmp(io_names[i], io))
		i++;
	if (i == BD_IO_COUNT)
		return err_set(err, "invalid parameter value: %s", io);
	r->io_mask = 1u << i;
	return 0;
}

static const char *const groups[] = { [BD_INJECT_ERROR] = "inject-error", [BD_SET_STATE] = "set-state" };

static int add(struct bd_rules *s, enum bd_action action, struct opts *o, struct err *err)
{
	struct bd_rule r = { .action = action };
	const char *event = opts_take(o, "event"), *unknown;
	int ret;

	if (!event)
		return err_set(err, "Missing event name for rule");
	r.event = bd_event(event);
	if (r.event == EVENT_COUNT)
		return err_set(err, "invalid parameter value: %s", event);
	if (take_int(o, "state", 0, &r.state, err))
		return -1;
	ret = action == BD_INJECT_ERROR ? take_error(&r, o, err) : take_int(o, "new_state", 0, &r.new_state, err);
	if (ret)
		return -1;
	unknown = opts_unknown(o);
	if (unknown)
		return err_set(err, "[%s] section doesn't support the option '%s'", groups[action], unknown);
	return bd_rules_add(s, &r) ? err_set(err, "more than %u rules", BD_MAX_RULES) : 0;
}

/* --- files --- */

static char *trim(char *p)
{
	size_t n;

	while (*p == ' ' || *p == '\t')
		p++;
	n = strlen(p);
	while (n && strchr(" \t\r", p[n - 1]))
		p[--n] = 0;
	return p;
}

/* The action of "[NAME]" or "[NAME "ID"]"; -1: there is none. */
static int group_of(char *line)
{
	size_t n = strcspn(++line, " ]");

	for (unsigned i = 0; i < 2; i++)
		if (strlen(groups[i]) == n && !strncmp(groups[i], line, n))
			return (int)i;
	return -1;
}

/* KEY = "VALUE" */
static int take_pair(struct opts *o, char *line)
{
	char *equal = strchr(line, '='), *value, *end;

	if (!equal)
		return -1;
	*equal = 0;
	line = trim(line);
	value = trim(equal + 1);
	if (!*line || strpbrk(line, " \t") || *value++ != '"')
		return -1;
	end = strchr(value, '"');
	if (!end)
		return -1;
	*end = 0;
	opts_set(o, line, value);
	return 0;
}

int bd_rules_parse(struct bd_rules *s, const char *name, char *text, struct err *err)
{
	struct opts *o = NULL;
	unsigned number = 1, from = 0;
	int group = -1, ret = 0;

	for (char *line; !ret && (line = strsep(&text, "\n")); number++) {
		line = trim(line);
		if (*line == '[') {
			if (o)
				ret = add(s, (enum bd_action)group, o, err);
			if (ret)
				break;
			opts_free(o);
			o = opts_new();
			from = number;
			group = group_of(line);
			if (group < 0) {
				line[strcspn(line, "]")] = 0;
				ret = err_set(err, "There is no option group '%s'", line + 1);
				from = number;
			}
		} else if (*line && *line != '#') {
			from = ret || !o ? number : from;
			if (!o)
				ret = err_set(err, "no group defined");
			else if (take_pair(o, line))
				ret = err_set(err, "parse error in line %u", number);
		}
	}
	if (!ret && o)
		ret = add(s, (enum bd_action)group, o, err);
	opts_free(o);
	if (ret)
		err_prefix(err, "%s:%u", name, from);
	return ret;
}

static char *read_all(const char *path, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char *text = NULL;
	struct stat st;
	ssize_t got = 0;

	if (fd < 0 || fstat(fd, &st)) {
		err_errno(err, errno, "Could not read blkdebug config file");
	} else if (!S_ISREG(st.st_mode)) {
		err_set(err, "Could not read blkdebug config file: not a regular file");
	} else if (st.st_size > MAX_FILE) {
		err_set(err, "Could not read blkdebug config file: larger than %u bytes", MAX_FILE);
	} else {
		text = malloc(MAX_FILE + 1);
		got = text ? read(fd, text, MAX_FILE) : -1;
		if (got < 0) {
			err_errno(err, errno, "Could not read blkdebug config file");
			free(text);
			text = NULL;
		}
	}
	if (fd >= 0)
		close(fd);
	if (text)
		text[got] = 0;
	return text;
}

int bd_rules_read(struct bd_rules *s, const char *config, struct opts *o, struct err *err)
{
	char *text = config ? read_all(config, err) : NULL;
	int ret = config && !text ? -1 : 0;
	const char *dummy;

	if (text)
		ret = bd_rules_parse(s, config, text, err);
	free(text);
	for (unsigned g = 0; g < 2; g++) {
		struct opts *all = opts_take_sub(o, groups[g]);

		for (unsigned i = 0; !ret; i++) {
			char index[16];
			struct opts *one;

			snprintf(index, sizeof(index), "%u", i);
			one = opts_take_sub(all, index);
			if (!opts_at(one, 0, &dummy, &dummy)) {
				opts_free(one);
				break;
			}
			ret = add(s, (enum bd_action)g, one, err);
			opts_free(one);
		}
		if (!ret && opts_unknown(all))
			ret = err_set(err, "Invalid parameter '%s.%s'", groups[g], opts_unknown(all));
		opts_free(all);
	}
	s->current = 1;
	return ret;
}

/* --- events --- */

void bd_rules_event(struct bd_rules *s, enum node_event e, void (*suspend)(void *opaque, char *tag), void *opaque)
{
	int next = s->current;
	bool errors = false;

	/* The latest first, and a state changes when all have been looked at. */
	for (unsigned i = s->n; i-- > 0;) {
		struct bd_rule *r = &s->at[i];

		if (r->event != e || (r->state && r->state != s->current))
			continue;
		if (r->action == BD_SET_STATE) {
			next = r->new_state;
		} else if (r->action == BD_SUSPEND) {
			char *tag = r->tag;

			r->tag = NULL;
			bd_rules_remove(s, i);
			suspend(opaque, tag);
		} else {
			/* What was active before is no more. */
			for (unsigned k = 0; k < s->n && !errors; k++)
				s->at[k].active = false;
			errors = r->active = true;
		}
	}
	s->current = next;
}

int bd_rules_check(struct bd_rules *s, enum bd_io io, uint64_t offset, uint64_t bytes, bool *immediately)
{
	for (unsigned i = 0; i < s->n; i++) {
		struct bd_rule *r = &s->at[i];
		bool hit = r->offset < 0 ||
			   (bytes && (uint64_t)r->offset >= offset && (uint64_t)r->offset - offset < bytes);
		int error = r->error;

		if (!r->active || !hit || !(r->io_mask & 1u << io))
			continue;
		*immediately = r->immediately;
		if (error && r->once)
			bd_rules_remove(s, i);
		return -error;
	}
	return 0;
}
