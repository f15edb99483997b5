/* See machine.h. */
#include "machine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "vm/impl.h"
#include "vm/rundir.h"

#define ANSWER_MS 30000

static char dir[64];

int machines_begin(void **state)
{
	static const char *const places[] = { "/dev/shm", "/tmp" };

	/* In memory where that is possible. */
	for (size_t n = 0; n < sizeof(places) / sizeof(places[0]); n++) {
		snprintf(dir, sizeof(dir), "%s/vireo-test-XXXXXX", places[n]);
		if (mkdtemp(dir))
			return setenv("XDG_RUNTIME_DIR", dir, 1);
	}
	return -1;
}

int machines_end(void **state)
{
	char command[80];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

const char *machines_path(const char *file)
{
	static char paths[16][128];
	static unsigned next;
	char *path = paths[next++ % 16];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, file);
	return path;
}

/* A flat multiboot image: the header says where it goes. */
static const char *write_kernel(const struct code *code)
{
	const char *path = machines_path("kernel");
	uint8_t b[512] = { 0 };
	FILE *f = fopen(path, "w");

	assert_true(f && code->len <= sizeof(b) - 32);
	st_le32(b, 0x1badb002);
	st_le32(b + 4, 0x10000);
	st_le32(b + 8, -(0x1badb002u + 0x10000u));
	st_le32(b + 12, 0x100000);
	st_le32(b + 16, 0x100000);
	st_le32(b + 20, 0x100000 + sizeof(b));
	st_le32(b + 24, 0x100000 + sizeof(b));
	st_le32(b + 28, 0x100020);
	memcpy(b + 32, code->bytes, code->len);
	assert_int_equal(fwrite(b, sizeof(b), 1, f), 1);
	fclose(f);
	return path;
}

struct config *machine_config(const struct code *code, const char *keys)
{
	struct config *c = config_new();
	char text[1024], *rest = text, *word;
	struct err err;

	/* A restored machine has its own. */
	snprintf(text, sizeof(text), "name=m %s%s %s", code ? "memory=16 serial0=null rng=off kernel=" : "",
		 code ? write_kernel(code) : "", keys);
	while ((word = strsep(&rest, " "))) {
		char *eq = strchr(word, '=');

		if (!eq)
			continue;
		*eq = 0;
		assert_int_equal(config_set(c, word, eq + 1, &err), 0);
	}
	return c;
}

void machine_new(struct machine *m, const struct code *code, const char *keys)
{
	struct err err = { "" };

	*m = (struct machine){ .config = machine_config(code, keys), .qmp = -1 };
	m->vm = vm_new(m->config, &err);
	assert_string_equal(err.msg, "");
	assert_non_null(m->vm);
}

static void *run(void *opaque)
{
	struct machine *m = opaque;

	m->status = vm_run(m->vm, &m->err);
	return NULL;
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
}

void machine_start(struct machine *m)
{
	struct err err;
	json_t *o;

	assert_int_equal(pthread_create(&m->thread, NULL, run, m), 0);
	for (int tries = 0; m->qmp < 0 && tries < 5000; tries++) {
		m->qmp = rundir_connect(m->vm->name, "qmp.sock", &err);
		if (m->qmp < 0)
			nap();
	}
	assert_true(m->qmp >= 0);
	o = machine_message(m);
	assert_non_null(json_object_get(o, "QMP"));
	json_decref(o);
	machine_do(m, "qmp_capabilities");
}

json_t *machine_message(struct machine *m)
{
	char *newline;
	json_t *o;

	while (!(newline = memchr(m->in, '\n', m->in_len))) {
		struct pollfd p = { .fd = m->qmp, .events = POLLIN };
		ssize_t n;

		assert_int_equal(poll(&p, 1, ANSWER_MS), 1);
		n = read(m->qmp, m->in + m->in_len, sizeof(m->in) - m->in_len);
		if (n <= 0)
			return NULL;
		m->in_len += (size_t)n;
	}
	o = json_loadb(m->in, (size_t)(newline - m->in), 0, NULL);
	m->in_len -= (size_t)(newline + 1 - m->in);
	memmove(m->in, newline + 1, m->in_len);
	assert_non_null(o);
	return o;
}

/* The answer, past all events. */
static json_t *ask(struct machine *m, const char *command, const char *arguments)
{
	char text[1024];
	int n = snprintf(text, sizeof(text), "{\"execute\": \"%s\", \"arguments\": %s}\n", command,
			 arguments ? arguments : "{}");
	json_t *o;

	assert_int_equal(send(m->qmp, text, (size_t)n, MSG_NOSIGNAL), n);
	for (;;) {
		o = machine_message(m);
		assert_non_null(o);
		if (!json_object_get(o, "event"))
			return o;
		json_decref(o);
	}
}

json_t *machine_execute(struct machine *m, const char *command, const char *arguments)
{
	json_t *o = ask(m, command, arguments), *r = json_object_get(o, "return");

	if (!r)
		fail_msg("%s: %s", command, json_dumps(o, 0));
	json_incref(r);
	json_decref(o);
	return r;
}

void machine_do(struct machine *m, const char *command)
{
	json_decref(machine_execute(m, command, NULL));
}

char *machine_refuses(struct machine *m, const char *command, const char *arguments)
{
	json_t *o = ask(m, command, arguments);
	const char *text = json_string_value(json_object_get(json_object_get(o, "error"), "desc"));
	char *copy;

	assert_non_null(text);
	copy = strdup(text);
	json_decref(o);
	return copy;
}

void machine_must_refuse(struct machine *m, const char *command, const char *arguments, const char *part)
{
	char *says = machine_refuses(m, command, arguments);

	if (!strstr(says, part))
		fail_msg("%s %s: no '%s' in '%s'", command, arguments, part, says);
	free(says);
}

bool machine_is(struct machine *m, const char *status)
{
	json_t *o = machine_execute(m, "query-status", NULL);
	bool is = !strcmp(json_string_value(json_object_get(o, "status")), status);

	json_decref(o);
	return is;
}

json_t *machine_event(struct machine *m, const char *name)
{
	json_t *o = machine_message(m);

	assert_non_null(o);
	assert_string_equal(json_string_value(json_object_get(o, "event")), name);
	return o;
}

int machine_end(struct machine *m)
{
	assert_int_equal(pthread_join(m->thread, NULL), 0);
	if (m->qmp >= 0)
		close(m->qmp);
	vm_free(m->vm);
	config_free(m->config);
	return m->status;
}

int machine_quit(struct machine *m)
{
	machine_do(m, "quit");
	return machine_end(m);
}

uint32_t machine_word(struct machine *m, uint64_t addr)
{
	uint32_t v = 0;

	assert_true(mem_read(m->vm->mem, gpa(addr), &v, 4));
	return v;
}

void machine_wait_progress(struct machine *m, uint64_t addr)
{
	uint32_t before = machine_word(m, addr);

	for (int tries = 0; tries < 5000; tries++) {
		if (machine_word(m, addr) != before)
			return;
		nap();
	}
	fail_msg("the guest does not run");
}
