/* vm/qmp.c, vm/qmp_commands.c: the protocol as QEMU's clients know it, and clients that mean harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "machine.h"
#include "net/net.h"
#include "vm/impl.h"
#include "vm/qmp.h"
#include "vm/rundir.h"

static struct machine m;

static int begin(void **state)
{
	if (machines_begin(state))
		return -1;
	machine_new(&m, CODE_HALT, "cpus=2 balloon=on");
	machine_start(&m);
	return 0;
}

static int end(void **state)
{
	return machine_quit(&m) || machines_end(state);
}

/* A further client, before its greeting was read. */
static void dial(struct machine *c)
{
	struct err err;

	*c = (struct machine){ .qmp = rundir_connect("m", "qmp.sock", &err) };
	assert_true(c->qmp >= 0);
}

static void greeted(struct machine *c)
{
	json_t *o;

	dial(c);
	o = machine_message(c);
	assert_non_null(json_object_get(json_object_get(o, "QMP"), "version"));
	json_decref(o);
}

static void client(struct machine *c)
{
	greeted(c);
	machine_do(c, "qmp_capabilities");
}

static void say(struct machine *c, const char *text)
{
	assert_int_equal(send(c->qmp, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void hear(struct machine *c, const char *json)
{
	json_t *o = machine_message(c), *want = json_loads(json, 0, NULL);

	assert_non_null(want);
	if (!json_equal(o, want))
		fail_msg("%s is not %s", json_dumps(o, 0), json);
	json_decref(o);
	json_decref(want);
}

static void hear_error(struct machine *c, const char *class, const char *desc)
{
	json_t *o = machine_message(c), *e = json_object_get(o, "error");

	assert_non_null(e);
	assert_string_equal(json_string_value(json_object_get(e, "class")), class);
	assert_string_equal(json_string_value(json_object_get(e, "desc")), desc);
	json_decref(o);
}

static void hear_error_to(struct machine *c, const char *request, const char *desc)
{
	say(c, request);
	hear_error(c, "GenericError", desc);
}

static void the_greeting_is_qemus(void **state)
{
	struct machine c;
	json_t *o, *qmp, *q;

	dial(&c);
	o = machine_message(&c);
	qmp = json_object_get(o, "QMP");
	q = json_object_get(json_object_get(qmp, "version"), "qemu");
	/* Of the QEMU whose commands there are; and whose they are. */
	assert_int_equal(json_integer_value(json_object_get(q, "major")), 7);
	assert_int_equal(json_integer_value(json_object_get(q, "minor")), 2);
	assert_true(json_is_integer(json_object_get(q, "micro")));
	assert_string_equal(json_string_value(json_object_get(json_object_get(qmp, "version"), "package")),
			    "vireo-" VIREO_VERSION);
	assert_true(json_is_array(json_object_get(qmp, "capabilities")));
	json_decref(o);
	close(c.qmp);
}

static void negotiation_comes_first_and_once(void **state)
{
	struct machine c;

	greeted(&c);
	say(&c, "{\"execute\": \"query-status\"}\n");
	hear_error(&c, "CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'");
	say(&c, "{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}\n");
	hear_error(&c, "GenericError", "Capability 'oob' is not available");
	say(&c, "{\"execute\": \"query-status\"}\n");
	hear_error(&c, "CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'");
	say(&c, "{\"execute\": \"qmp_capabilities\"}\n");
	hear(&c, "{\"return\": {}}");
	say(&c, "{\"execute\": \"qmp_capabilities\"}\n");
	hear_error(&c, "CommandNotFound", "Capabilities negotiation is already complete, command ignored");
	say(&c, "{\"execute\": \"query-name\"}\n");
	hear(&c, "{\"return\": {\"name\": \"m\"}}");
	close(c.qmp);
}

static void ids_come_back(void **state)
{
	struct machine c;

	client(&c);
	say(&c, "{\"execute\": \"query-name\", \"id\": 7}\n");
	hear(&c, "{\"return\": {\"name\": \"m\"}, \"id\": 7}");
	say(&c, "{\"execute\": \"query-name\", \"id\": {\"a\": [1, null]}}\n");
	hear(&c, "{\"return\": {\"name\": \"m\"}, \"id\": {\"a\": [1, null]}}");
	say(&c, "{\"execute\": \"nonsense\", \"id\": \"x\"}\n");
	hear(&c, "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command nonsense has not been found\"}, "
		 "\"id\": \"x\"}");
	close(c.qmp);
}

static void errors_are_worded_as_qemus(void **state)
{
	static const struct {
		const char *request, *desc;
	} bad[] = {
		{ "{\"exec\": \"stop\"}", "QMP input member 'exec' is unexpected" },
		{ "{}", "QMP input lacks member 'execute'" },
		{ "{\"execute\": 3}", "QMP input member 'execute' must be a string" },
		{ "{\"execute\": \"stop\", \"arguments\": []}", "QMP input member 'arguments' must be an object" },
		{ "[]", "QMP input must be a JSON object" },
		{ "17\n", "QMP input must be a JSON object" },
		{ "{\"execute\": \"stop\", \"arguments\": {\"now\": 1}}", "Parameter 'now' is unexpected" },
		{ "{\"execute\": \"migrate\"}", "Parameter 'uri' is missing" },
		{ "{\"execute\": \"migrate\", \"arguments\": {\"uri\": 1}}",
		  "Invalid parameter type for 'uri', expected: string" },
		{ "{\"execute\": \"send-key\", \"arguments\": {\"keys\": 1}}",
		  "Invalid parameter type for 'keys', expected: array" },
		{ "{\"execute\": \"send-key\", \"arguments\": {\"keys\": [1]}}",
		  "Invalid parameter type for 'keys[0]', expected: object" },
		{ "{\"execute\": \"send-key\", \"arguments\": {\"keys\": [{\"data\": \"a\"}]}}",
		  "Parameter 'keys[0].type' is missing" },
		{ "{\"execute\": \"send-key\", \"arguments\": {\"keys\": [{\"type\": \"qcode\"}]}}",
		  "Parameter 'keys[0].data' is missing" },
		{ "{\"execute\": \"send-key\", \"arguments\": {\"keys\": [{\"type\": \"qc\", \"data\": \"a\"}]}}",
		  "Parameter 'type' does not accept value 'qc'" },
		{ "{\"execute\": \"send-key\", \"arguments\": {\"keys\": [{\"type\": \"qcode\", \"data\": \"aaa\"}]}}",
		  "Parameter 'data' does not accept value 'aaa'" },
		{ "{\"execute\": \"send-key\", \"arguments\": {\"keys\": [{\"type\": \"qcode\", \"data\": \"a\", "
		  "\"x\": 1}]}}",
		  "Parameter 'keys[0].x' is unexpected" },
		{ "{\"execute\": \"migrate\", \"arguments\": {\"uri\": \"tcp:x\"}}",
		  "Parameter 'uri' expects file:PATH" },
	};
	struct machine c;

	client(&c);
	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
		say(&c, bad[n].request);
		hear_error(&c, "GenericError", bad[n].desc);
	}
	assert_true(machine_is(&c, "running"));
	close(c.qmp);
}

static void messages_need_no_newlines(void **state)
{
	struct machine c;

	client(&c);
	/* Several at once, one in pieces, one over lines, one with a bracket in a string. */
	say(&c, "{\"execute\":\"query-name\"}{\"execute\":\"query-name\",\"id\":2}");
	hear(&c, "{\"return\": {\"name\": \"m\"}}");
	hear(&c, "{\"return\": {\"name\": \"m\"}, \"id\": 2}");
	say(&c, "\r\n\n  {\"exe");
	usleep(10000);
	say(&c, "cute\":\n\"query-");
	usleep(10000);
	say(&c, "name\", \"id\": \"}{\\\"\\\\\"}");
	hear(&c, "{\"return\": {\"name\": \"m\"}, \"id\": \"}{\\\"\\\\\"}");
	close(c.qmp);
}

static void garbage_is_answered_and_forgotten(void **state)
{
	static const char *const bad[] = { "nonsense\n",
					   "{nonsense}\n",
					   "{\"execute\": }",
					   "}\n",
					   "{\"a\": \"\n",
					   "]]",
					   "\"\\",
					   "{\"a\":1,\"a\":2}",
					   "{\"a\": \"\\ud800\"}",
					   "{\"a\": 1e999}",
					   "{\"\\u0000\": 1}" };
	struct machine c;
	json_t *o;

	client(&c);
	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
		say(&c, bad[n]);
		/* The way to start afresh, and a command that works. */
		say(&c, "\xff{\"execute\": \"query-name\", \"id\": 1}\n");
		for (bool done = false; !done;) {
			o = machine_message(&c);
			assert_non_null(o);
			done = json_object_get(o, "id") != NULL;
			assert_true(done || json_object_get(o, "error"));
			json_decref(o);
		}
	}
	close(c.qmp);
}

struct flood {
	struct machine *c;
	const char *first, *piece;
	size_t count;
};

static void *pour(void *opaque)
{
	const struct flood *f = opaque;

	say(f->c, f->first);
	for (size_t n = 0; n < f->count; n++)
		say(f->c, f->piece);
	say(f->c, "\n\xff{\"execute\": \"query-name\", \"id\": 1}\n");
	return NULL;
}

/*
 * Errors only, and then a command that works. They are read meanwhile: who does not read is not read from after a
 * while, which is sooner on a slow host.
 */
static void flood(const char *first, const char *piece, size_t count)
{
	struct machine c;
	struct flood f = { &c, first, piece, count };
	pthread_t sender;
	size_t errors = 0;
	json_t *o;

	client(&c);
	assert_int_equal(pthread_create(&sender, NULL, pour, &f), 0);
	while (!json_object_get(o = machine_message(&c), "id")) {
		assert_non_null(json_object_get(o, "error"));
		errors++;
		json_decref(o);
	}
	assert_true(errors > 0 && json_object_get(o, "return"));
	json_decref(o);
	assert_int_equal(pthread_join(sender, NULL), 0);
	close(c.qmp);
	assert_true(machine_is(&m, "running"));
}

static void what_is_too_big_or_too_deep_is_refused(void **state)
{
	static char megabyte[1 << 20];

	memset(megabyte, 'x', sizeof(megabyte) - 1);
	flood("{\"execute\": \"", megabyte, 3);
	flood("", megabyte, 3);
	memset(megabyte, '[', sizeof(megabyte) - 1);
	flood("", megabyte, 1);
	flood("{\"execute\": ", "{\"a\":", 1030);
}

static void who_does_not_read_is_dropped_and_delays_nobody(void **state)
{
	struct machine c, d;
	int sent = 0;

	client(&c);
	/* Answers pile up until nothing more is read from it. */
	while (sent < 2000000) {
		struct pollfd p = { .fd = c.qmp, .events = POLLOUT };
		ssize_t n;

		if (poll(&p, 1, 500) == 0)
			break;
		n = send(c.qmp, "{\"execute\": \"query-commands\"}\n", 30, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0)
			break;
		sent++;
	}
	assert_true(sent < 2000000);
	client(&d);
	assert_true(machine_is(&d, "running"));
	close(d.qmp);
	close(c.qmp);
}

static void there_may_be_many_clients_but_not_any_number(void **state)
{
	struct machine c[40], last;
	int alive = 0;

	for (int n = 0; n < 40; n++)
		dial(&c[n]);
	for (int n = 0; n < 40; n++) {
		json_t *o = machine_message(&c[n]);

		alive += o != NULL;
		json_decref(o);
	}
	assert_in_range(alive, 8, 32);
	for (int n = 0; n < 40; n++)
		close(c[n].qmp);
	usleep(20000);
	client(&last);
	assert_true(machine_is(&last, "running"));
	close(last.qmp);
	assert_true(machine_is(&m, "running"));
}

static void assert_timestamp(json_t *event)
{
	json_t *t = json_object_get(event, "timestamp");

	assert_true(json_integer_value(json_object_get(t, "seconds")) > 1600000000);
	assert_in_range(json_integer_value(json_object_get(t, "microseconds")), 0, 999999);
}

static void events_tell_everybody_what_happens(void **state)
{
	static const struct {
		const char *command, *event, *reason;
	} steps[] = {
		{ "stop", "STOP", NULL },
		{ "cont", "RESUME", NULL },
		{ "system_powerdown", "POWERDOWN", NULL },
		{ "system_reset", "RESET", "host-qmp-system-reset" },
	};
	struct machine c, silent;
	json_t *e;

	client(&c);
	greeted(&silent);
	for (size_t n = 0; n < sizeof(steps) / sizeof(steps[0]); n++) {
		machine_do(&m, steps[n].command);
		e = machine_event(&c, steps[n].event);
		assert_timestamp(e);
		if (steps[n].reason) {
			assert_string_equal(json_string_value(json_object_get(json_object_get(e, "data"), "reason")),
					    steps[n].reason);
			assert_true(json_is_false(json_object_get(json_object_get(e, "data"), "guest")));
		}
		json_decref(e);
	}
	/* Who has not negotiated hears nothing. */
	say(&silent, "{\"execute\": \"qmp_capabilities\"}\n");
	hear(&silent, "{\"return\": {}}");
	close(c.qmp);
	close(silent.qmp);
}

static void quit_answers_before_it_ends(void **state)
{
	struct machine q;
	json_t *e;

	machine_new(&q, CODE_HALT, "name=q");
	machine_start(&q);
	say(&q, "{\"execute\": \"quit\", \"id\": 1}\n");
	hear(&q, "{\"return\": {}, \"id\": 1}");
	e = machine_event(&q, "SHUTDOWN");
	assert_timestamp(e);
	assert_string_equal(json_string_value(json_object_get(json_object_get(e, "data"), "reason")), "host-qmp-quit");
	json_decref(e);
	assert_int_equal(machine_end(&q), 0);
}

static void questions_have_answers(void **state)
{
	json_t *o, *list = machine_execute(&m, "query-commands", NULL), *v;
	size_t n;

	assert_true(json_array_size(list) >= 15);
	json_array_foreach(list, n, v)
	{
		const char *name = json_string_value(json_object_get(v, "name"));

		if (strncmp(name, "query-", 6) && strcmp(name, "x-vireo-stats"))
			continue;
		o = machine_execute(&m, name, NULL);
		assert_non_null(o);
		json_decref(o);
	}
	json_decref(list);
	o = machine_execute(&m, "query-cpus-fast", NULL);
	assert_int_equal(json_array_size(o), 2);
	v = json_array_get(o, 1);
	assert_int_equal(json_integer_value(json_object_get(v, "cpu-index")), 1);
	assert_true(json_integer_value(json_object_get(v, "thread-id")) > 1);
	assert_string_equal(json_string_value(json_object_get(v, "target")), "x86_64");
	json_decref(o);
	o = machine_execute(&m, "x-vireo-stats", NULL);
	assert_true(json_integer_value(json_object_get(o, "cpu0.exits")) > 0);
	json_decref(o);
	o = machine_execute(&m, "query-uuid", NULL);
	assert_int_equal(strlen(json_string_value(json_object_get(o, "UUID"))), 36);
	json_decref(o);
}

/* All that is asked here is of the type that the table says, which query-qmp-schema tells. */
static void answers_are_of_their_types(void **state)
{
	const struct qmp_command *cmd;
	struct err err;
	char *text;
	json_t *o;

	for (size_t n = 0; (cmd = qmp_command_at(n)); n++) {
		if (strncmp(cmd->name, "query-", 6))
			continue;
		if (!strcmp(cmd->name, "query-qmp-schema")) {
			/* More than a message of the others. */
			o = cmd->run(m.vm, NULL, &err);
		} else {
			o = machine_execute(&m, cmd->name, NULL);
		}
		if (qmp_check(cmd->ret, o, &err)) {
			text = json_dumps(o, 0);
			fail_msg("%s: %s: %s", cmd->name, err.msg, text);
		}
		json_decref(o);
	}
}

/* Whatever the schema names is there, once. */
static void the_schema_is_complete(void **state)
{
	static const char *const refers[] = { "arg-type", "ret-type", "element-type" };
	json_t *list = qmp_find_command("query-qmp-schema")->run(m.vm, NULL, NULL), *all = json_object(), *o, *v,
	       *member;
	size_t n, k, i;
	const char *kinds[] = { "members", "variants" };

	json_array_foreach(list, n, o)
	{
		const char *name = json_string_value(json_object_get(o, "name"));

		if (json_object_get(all, name))
			fail_msg("%s is there twice", name);
		json_object_set(all, name, o);
	}
	json_array_foreach(list, n, o)
	{
		for (k = 0; k < 3; k++) {
			v = json_object_get(o, refers[k]);
			if (v && !json_object_get(all, json_string_value(v)))
				fail_msg("%s is not there", json_string_value(v));
		}
		for (k = 0; k < 2; k++)
			json_array_foreach(json_object_get(o, kinds[k]), i, member)
			{
				v = json_object_get(member, "type");
				if (v && !json_object_get(all, json_string_value(v)))
					fail_msg("%s is not there", json_string_value(v));
			}
	}
	v = json_object_get(all, json_string_value(json_object_get(json_object_get(all, "send-key"), "arg-type")));
	assert_non_null(v);
	assert_string_equal(json_string_value(json_object_get(json_object_get(all, "QKeyCode"), "meta-type")), "enum");
	json_decref(all);
	json_decref(list);
}

/* Sizes are those of the guest's memory, as QEMU has it: nothing is given back before a driver runs. */
static void balloon_has_a_target(void **state)
{
	json_t *o = machine_execute(&m, "query-balloon", NULL);
	char *says;

	assert_int_equal(json_integer_value(json_object_get(o, "actual")), 16 << 20);
	json_decref(o);
	json_decref(machine_execute(&m, "balloon", "{\"value\": 12582912}"));
	says = machine_refuses(&m, "balloon", "{\"value\": 0}");
	assert_non_null(strstr(says, "expects a size"));
	free(says);
	says = machine_refuses(&m, "balloon", "{\"value\": \"12M\"}");
	assert_non_null(strstr(says, "integer"));
	free(says);
	o = machine_execute(&m, "query-balloon", NULL);
	assert_int_equal(json_integer_value(json_object_get(o, "actual")), 16 << 20);
	json_decref(o);
}

/* --- descriptors --- */

static void pass(struct machine *c, const char *request, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} space = { 0 };
	struct iovec iov = { (char *)(uintptr_t)request, strlen(request) };
	struct msghdr m_ = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space.bytes, .msg_controllen = sizeof(space)
	};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m_);

	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &fd, sizeof(int));
	assert_int_equal(sendmsg(c->qmp, &m_, 0), strlen(request));
}

static void descriptors_are_passed(void **state)
{
	struct machine c;
	json_t *o, *v;
	int fd = open("/dev/null", O_RDWR);

	client(&c);
	say(&c, "{\"execute\": \"add-fd\"}");
	hear_error(&c, "GenericError", "No file descriptor supplied via SCM_RIGHTS");
	hear_error_to(&c, "{\"execute\": \"remove-fd\", \"arguments\": {\"fdset-id\": 3}}",
		      "File descriptor named 'fdset-id:3' not found");
	hear_error_to(&c, "{\"execute\": \"closefd\", \"arguments\": {\"fdname\": \"x\"}}",
		      "File descriptor named 'x' not found");
	pass(&c, "{\"execute\": \"add-fd\", \"arguments\": {\"fdset-id\": 2, \"opaque\": \"mine\"}}", fd);
	o = machine_message(&c);
	v = json_object_get(o, "return");
	assert_int_equal(json_integer_value(json_object_get(v, "fdset-id")), 2);
	assert_true(fcntl((int)json_integer_value(json_object_get(v, "fd")), F_GETFD) & FD_CLOEXEC);
	json_decref(o);
	pass(&c, "{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"x\"}}", fd);
	hear(&c, "{\"return\": {}}");
	o = machine_execute(&c, "query-fdsets", NULL);
	assert_int_equal(json_array_size(o), 1);
	v = json_array_get(json_object_get(json_array_get(o, 0), "fds"), 0);
	assert_string_equal(json_string_value(json_object_get(v, "opaque")), "mine");
	json_decref(o);
	fd = vm_open_path(m.vm, "/dev/fdset/2", O_RDONLY);
	assert_true(fd > 2);
	close(fd);
	assert_int_equal(vm_open_path(m.vm, "/dev/fdset/3", O_RDONLY), -1);
	json_decref(machine_execute(&c, "remove-fd", "{\"fdset-id\": 2}"));
	json_decref(machine_execute(&c, "closefd", "{\"fdname\": \"x\"}"));
	o = machine_execute(&c, "query-fdsets", NULL);
	assert_int_equal(json_array_size(o), 0);
	json_decref(o);
	close(c.qmp);
}

/* Of the card net1: its register STATUS. */
static uint32_t e1000_status(struct machine *q)
{
	uint8_t devfn = (uint8_t)(atoi(config_peek(q->config, "net1.addr")) << 3);
	uint64_t v = 0;

	pci_config_write(q->vm->pci, devfn, 4, 2, 2);
	assert_true(bus_read(q->vm->bus, BUS_MMIO, pci_config_read(q->vm->pci, devfn, 0x10, 4) + 8, 4, &v));
	return (uint32_t)v;
}

/* A guest hears of it by an interrupt: see the tests of the cards. */
static void cables_of_both_cards(void **state)
{
	struct machine q;

	machine_new(&q, CODE_HALT, "name=q net0.backend=user net1.backend=user net1.model=e1000 net1.id=e");
	machine_start(&q);
	machine_must_refuse(&q, "set_link", "{\"name\": \"net2\", \"up\": true}", "Device 'net2' not found");
	json_decref(machine_execute(&q, "set_link", "{\"name\": \"net0\", \"up\": false}"));
	json_decref(machine_execute(&q, "set_link", "{\"name\": \"e\", \"up\": false}"));
	assert_int_equal(e1000_status(&q) & 2, 0);
	json_decref(machine_execute(&q, "set_link", "{\"name\": \"net1\", \"up\": true}"));
	assert_int_equal(e1000_status(&q) & 2, 2);
	assert_int_equal(machine_quit(&q), 0);
}

/* What is gone for good cannot be plugged in again, nor seem so. */
static void cables_without_another_end(void **state)
{
	int ends[2][2], kept[2];
	char settings[200];
	struct machine q;
	json_t *o;

	for (unsigned n = 0; n < 2; n++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends[n]), 0);
		kept[n] = dup(ends[n][0]);
	}
	snprintf(settings, sizeof(settings),
		 "name=q net0.backend=dgram net0.fd=%d net1.backend=dgram net1.fd=%d net1.model=e1000", ends[0][0],
		 ends[1][0]);
	machine_new(&q, CODE_HALT, settings);
	machine_start(&q);
	json_decref(machine_execute(&q, "set_link", "{\"name\": \"net1\", \"up\": false}"));
	json_decref(machine_execute(&q, "set_link", "{\"name\": \"net1\", \"up\": true}"));
	assert_int_equal(e1000_status(&q) & 2, 2);
	for (unsigned n = 0; n < 2; n++) {
		assert_int_equal(shutdown(kept[n], SHUT_RDWR), 0);
		for (unsigned ms = 0; !__atomic_load_n(&q.vm->nets[n].back_end->gone, __ATOMIC_ACQUIRE); ms++) {
			assert_true(ms < 5000);
			usleep(1000);
		}
	}
	machine_must_refuse(&q, "set_link", "{\"name\": \"net0\", \"up\": true}",
			    "Device 'net0' cannot be plugged in: the other end of its cable is gone for good");
	machine_must_refuse(&q, "set_link", "{\"name\": \"net1\", \"up\": true}",
			    "Device 'net1' cannot be plugged in: the other end of its cable is gone for good");
	assert_int_equal(e1000_status(&q) & 2, 0);
	json_decref(machine_execute(&q, "set_link", "{\"name\": \"net1\", \"up\": false}"));
	o = machine_execute(&q, "human-monitor-command", "{\"command-line\": \"info network\"}");
	assert_non_null(strstr(json_string_value(o), "type=dgram,gone=on,fd="));
	json_decref(o);
	assert_int_equal(machine_quit(&q), 0);
	for (unsigned n = 0; n < 2; n++) {
		close(kept[n]);
		close(ends[n][1]);
	}
}

/* Each in its own words: QEMU's of its user network are no other's. */
static void the_hosts_ends_are_told(void **state)
{
	static const char *const says[] = {
		"\r\n \\ net0.peer: index=0,type=null\r\n",
		"\r\n \\ net1.peer: index=0,type=stream,listen=unix:listens\r\n",
		"\r\n \\ net2.peer: index=0,type=tap,network=lab,ifname=vt7\r\n",
		"\r\n \\ net3.peer: index=0,type=user,net=10.7.0.0,restrict=on\r\n",
	};
	struct machine q;
	json_t *o;

	machine_new(&q, CODE_HALT,
		    "name=q net0.backend=null net1.backend=stream net1.listen=unix:listens net2.backend=null "
		    "net3.backend=user net3.net=10.7.0.0/16 net3.restrict=y");
	machine_start(&q);
	/* As `--net lab` is, which only root may have. */
	assert_int_equal(config_set(q.config, "net2.backend", "lab", NULL), 0);
	strcpy(q.vm->nets[2].interface, "vt7");
	o = machine_execute(&q, "human-monitor-command", "{\"command-line\": \"info network\"}");
	for (size_t n = 0; n < ARRAY_LEN(says); n++)
		if (!strstr(json_string_value(o), says[n]))
			fail_msg("no '%s' in:\n%s", says[n], json_string_value(o));
	json_decref(o);
	assert_int_equal(machine_quit(&q), 0);
}

static void says(struct machine *q, const char *line, const char *want)
{
	char args[256];
	json_t *o;

	snprintf(args, sizeof(args), "{\"command-line\": \"%s\"}", line);
	o = machine_execute(q, "human-monitor-command", args);
	assert_string_equal(json_string_value(o), want);
	json_decref(o);
}

/* By QEMU's words. */
static void ports_come_and_go(void **state)
{
	struct machine q;
	json_t *o;

	machine_new(&q, CODE_HALT, "name=q net0.backend=null net0.id=x net1.backend=user net1.id=n");
	machine_start(&q);
	says(&q, "hostfwd_add tcp::0-:22", "");
	says(&q, "hostfwd_add n udp::0-:53", "");
	assert_string_equal(config_peek(q.config, "net1.hostfwd"), "tcp:127.0.0.1:0-:22+udp:127.0.0.1:0-:53");
	o = machine_execute(&q, "human-monitor-command", "{\"command-line\": \"info usernet\"}");
	assert_non_null(strstr(json_string_value(o), "UDP[HOST_FORWARD]  -1       127.0.0.1 "));
	json_decref(o);
	says(&q, "hostfwd_add m tcp::0-:22", "unrecognized netdev id 'm'\r\n");
	says(&q, "hostfwd_add x tcp::0-:22", "invalid device specified\r\n");
	says(&q, "hostfwd_add x",
	     "Could not set up host forwarding rule 'x': net1.hostfwd: 'x' is not "
	     "[tcp|udp]:[ADDRESS]:PORT-[ADDRESS]:PORT\r\n");
	says(&q, "hostfwd_remove tcp::1", "host forwarding rule for tcp::1 not found\r\n");
	says(&q, "hostfwd_remove x", "invalid format: net1.hostfwd: 'x' is not [tcp|udp]:[ADDRESS]:PORT\r\n");
	assert_int_equal(machine_quit(&q), 0);
	machine_new(&q, CODE_HALT, "name=q net0.backend=null");
	machine_start(&q);
	says(&q, "hostfwd_add tcp::0-:22", "user mode network stack not in use\r\n");
	says(&q, "announce_self", "");
	says(&q, "announce_self net0,x id", "");
	json_decref(
		machine_execute(&q, "announce-self", "{\"initial\": 50, \"max\": 550, \"rounds\": 5, \"step\": 50}"));
	assert_int_equal(machine_quit(&q), 0);
}

/* --- what a guest changes --- */

static void set_rtc(struct machine *q, uint8_t reg, uint8_t v)
{
	assert_true(bus_write(q->vm->bus, BUS_PORT, 0x70, 1, reg));
	assert_true(bus_write(q->vm->bus, BUS_PORT, 0x71, 1, v));
}

static json_int_t number_of(json_t *event, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(json_object_get(event, "data"), key));

	assert_timestamp(event);
	json_decref(event);
	return n;
}

/* As often as it likes, but clients hear of it about once a second: of the first change at once, and of the last. */
static void clocks_and_balloons_are_told_of(void **state)
{
	struct machine q;

	machine_new(&q, CODE_HALT, "name=q balloon=on balloon.bus=mmio clock.base=2026-01-31T12:00:00");
	machine_start(&q);
	set_rtc(&q, 0x09, 0x27);
	assert_int_equal(number_of(machine_event(&q, "RTC_CHANGE"), "offset"), 365 * 86400);
	assert_true(bus_write(q.vm->bus, BUS_MMIO, VM_MMIO_BASE + 0x104, 4, 256));
	assert_int_equal(number_of(machine_event(&q, "BALLOON_CHANGE"), "actual"), 15 << 20);
	for (unsigned n = 0; n < 1000; n++)
		set_rtc(&q, 0x09, n % 2 ? 0x24 : 0x25);
	set_rtc(&q, 0x09, 0x26);
	assert_int_equal(number_of(machine_event(&q, "RTC_CHANGE"), "offset"), 0);
	/* The same again is no news of a balloon. */
	assert_true(bus_write(q.vm->bus, BUS_MMIO, VM_MMIO_BASE + 0x104, 4, 256));
	say(&q, "{\"execute\": \"system_powerdown\"}");
	json_decref(machine_event(&q, "POWERDOWN"));
	hear(&q, "{\"return\": {}}");
	assert_int_equal(machine_quit(&q), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_greeting_is_qemus),
		cmocka_unit_test(negotiation_comes_first_and_once),
		cmocka_unit_test(ids_come_back),
		cmocka_unit_test(errors_are_worded_as_qemus),
		cmocka_unit_test(messages_need_no_newlines),
		cmocka_unit_test(garbage_is_answered_and_forgotten),
		cmocka_unit_test(what_is_too_big_or_too_deep_is_refused),
		cmocka_unit_test(who_does_not_read_is_dropped_and_delays_nobody),
		cmocka_unit_test(there_may_be_many_clients_but_not_any_number),
		cmocka_unit_test(events_tell_everybody_what_happens),
		cmocka_unit_test(quit_answers_before_it_ends),
		cmocka_unit_test(questions_have_answers),
		cmocka_unit_test(answers_are_of_their_types),
		cmocka_unit_test(the_schema_is_complete),
		cmocka_unit_test(descriptors_are_passed),
		cmocka_unit_test(balloon_has_a_target),
		cmocka_unit_test(cables_of_both_cards),
		cmocka_unit_test(cables_without_another_end),
		cmocka_unit_test(the_hosts_ends_are_told),
		cmocka_unit_test(ports_come_and_go),
		cmocka_unit_test(clocks_and_balloons_are_told_of),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
