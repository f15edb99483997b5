/* vm/monitor.c, hmp*.c: the monitor as people and scripts know it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "machine.h"
#include "vm/impl.h"
#include "vm/rundir.h"

static struct machine m;

static int begin(void **state)
{
	if (machines_begin(state))
		return -1;
	machine_new(&m, CODE_HALT, "cpus=2 monitor0=none net0.backend=user net0.restrict=on");
	machine_start(&m);
	/* Until it has come to its HLT. */
	for (bool halted = false; !halted;) {
		json_t *o = machine_execute(&m, "human-monitor-command", "{\"command-line\": \"info registers\"}");

		halted = strstr(json_string_value(o), "HLT=1");
		json_decref(o);
	}
	return 0;
}

static int end(void **state)
{
	return machine_quit(&m) || machines_end(state);
}

/* Up to a prompt, or the end. */
static const char *hear(int fd)
{
	static char text[8 << 20];
	size_t len = 0;

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;

		assert_int_equal(poll(&p, 1, 30000), 1);
		n = read(fd, text + len, sizeof(text) - 1 - len);
		if (n <= 0)
			break;
		len += (size_t)n;
		text[len] = 0;
		if (len >= 7 && !strcmp(text + len - 7, "(qemu) ")) {
			text[len - 7] = 0;
			return text;
		}
	}
	return len ? text : "";
}

static int dial(void)
{
	struct err err;
	int fd = rundir_connect("m", "monitor.sock", &err);

	assert_true(fd >= 0);
	assert_non_null(strstr(hear(fd), " monitor - type 'help' for more information\r\n"));
	return fd;
}

static const char *ask(int fd, const char *line)
{
	char text[256];
	int n = snprintf(text, sizeof(text), "%s\n", line);
	const char *said;

	assert_int_equal(send(fd, text, (size_t)n, MSG_NOSIGNAL), n);
	said = hear(fd);
	/* What was typed is shown, as a terminal expects it. */
	assert_memory_equal(said, line, strlen(line));
	assert_memory_equal(said + strlen(line), "\r\n", 2);
	return said + strlen(line) + 2;
}

static void answers_have_qemus_form(void **state)
{
	static const struct {
		const char *line, *said;
	} cases[] = {
		{ "info status", "VM status: running\r\n" },
		{ "info name", "m\r\n" },
		{ "info usb", "USB support not enabled\r\n" },
		{ "info tlb", "PG disabled\r\n" },
		{ "info mem", "PG disabled\r\n" },
		{ "", "" },
		{ "foo", "unknown command: 'foo'\r\n" },
		{ "info foo", "unknown command: 'info foo'\r\n" },
		{ "x", "unexpected end of expression\r\nTry \"help x\" for more information\r\n" },
		{ "xp/q 1", "invalid char in format: 'q'\r\nTry \"help xp\" for more information\r\n" },
		{ "stop now", "stop|s: extraneous characters at the end of line\r\n"
			      "Try \"help stop\" for more information\r\n" },
		{ "cpu 2", "invalid CPU index\r\n" },
		{ "cpu -1", "invalid CPU index\r\n" },
		{ "p 1+2*3", "7\r\n" },
		{ "print/x 1+2*3", "0x7\r\n" },
		{ "p/o 8", "010\r\n" },
		{ "p/c 65", "'A'\r\n" },
		{ "p -1", "-1\r\n" },
		{ "p/u -1", "18446744073709551615\r\n" },
		{ "p (1|2)+'a'-~0", "101\r\n" },
		{ "p 7%4/0", "division by zero\r\nTry \"help p\" for more information\r\n" },
		{ "p (1", "')' expected\r\nTry \"help p\" for more information\r\n" },
		{ "p $nope", "unknown register\r\nTry \"help p\" for more information\r\n" },
		{ "p/x $pc", "0x100021\r\n" },
		{ "xp/2xw 0x100000", "0000000000100000: 0x1badb002 0x00010000\r\n" },
		{ "xp/2xg 0x100008", "0000000000100008: 0x00100000e4514ffe 0x0010020000100000\r\n" },
		{ "x/3ub 0x100020", "0000000000100020: 244 235 253\r\n" },
		{ "xp/4dh 0x100000", "0000000000100000: 45058  7085     0     1\r\n" },
		{ "x/2c 0x100020", "0000000000100020: '\\xf4' '\\xeb'\r\n" },
		{ "xp/1xw 0xe0000000", "00000000e0000000: Cannot access memory\r\n" },
		{ "xp/xw 0xfffffffffffffffe", "fffffffffffffffe: Cannot access memory\r\n" },
		{ "gva2gpa 0x1234", "gpa: 0x1234\r\n" },
		{ "i/b 0x4321", "portb[0x4321] = 0xff\r\n" },
		{ "i/h 0x4321", "portw[0x4321] = 0xffff\r\n" },
		{ "i 0x4321", "portl[0x4321] = 0xffffffff\r\n" },
		{ "sendkey foo", "invalid parameter: foo\r\n" },
		{ "sendkey a", "Error: No keyboard has been activated\r\n" },
		{ "info balloon", "Error: No balloon device has been activated\r\n" },
		{ "system_wakeup", "Error: Unable to wake up: guest is not in suspended state\r\n" },
		{ "set_link foo on", "Error: Device 'foo' not found\r\n" },
		{ "set_link net0 maybe", "Expected 'on' or 'off'\r\nTry \"help set_link\" for more information\r\n" },
		{ "set_link net0 off", "" },
		{ "help cont", "cont|c -- resume emulation\r\n" },
	};
	int fd = dial();

	for (size_t n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
		const char *said = ask(fd, cases[n].line);

		if (strcmp(said, cases[n].said))
			fail_msg("%s: '%s' is not '%s'", cases[n].line, said, cases[n].said);
	}
	close(fd);
}

/* A debugger comes and stops the machine; when the server goes, the machine goes on. */
static void a_debugger_may_be_let_in(void **state)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	const char *path = machines_path("gdb.sock");
	char line[256], said[300];
	int fd = dial(), gdb = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_string_equal(ask(fd, "gdbserver none"), "Disabled gdbserver\r\n");
	snprintf(line, sizeof(line), "gdbserver unix:%s", path);
	snprintf(said, sizeof(said), "Waiting for gdb connection on device 'unix:%s'\r\n", path);
	assert_string_equal(ask(fd, line), said);
	/* Again: the first one has gone. */
	assert_string_equal(ask(fd, line), said);
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	assert_int_equal(connect(gdb, (struct sockaddr *)&at, sizeof(at)), 0);
	for (bool stopped = false; !stopped;)
		stopped = strstr(ask(fd, "info status"), "paused (debug)") != NULL;
	assert_string_equal(ask(fd, "gdbserver none"), "Disabled gdbserver\r\n");
	assert_int_equal(read(gdb, line, 1), 0);
	assert_string_equal(ask(fd, "info status"), "VM status: running\r\n");
	assert_int_equal(access(path, F_OK), -1);
	assert_string_equal(ask(fd, "gdbserver foo"), "Could not open gdbserver on device 'foo': gdb: 'foo' is neither "
						      "[HOST:]PORT nor unix:PATH\r\n");
	close(gdb);
	close(fd);
}

static void lines_of_guests_can_be_hidden(void **state)
{
	struct log_limit first = { 0 }, second = { 0 };
	int fd = dial();

	assert_true(log_limit_pass(&first));
	assert_string_equal(ask(fd, "log none"), "");
	assert_false(log_limit_pass(&second));
	assert_string_equal(ask(fd, "log in_asm"),
			    "Error: unknown log item 'in_asm'; there are guest_errors, unimp and none\r\n");
	assert_false(log_limit_pass(&second));
	assert_string_equal(ask(fd, "log unimp,guest_errors"), "");
	assert_true(log_limit_pass(&second));
	close(fd);
}

static void says(int fd, const char *line, const char *part)
{
	const char *said = ask(fd, line);

	if (!strstr(said, part))
		fail_msg("%s: no '%s' in '%s'", line, part, said);
}

static void the_machine_is_described(void **state)
{
	int fd = dial();

	says(fd, "info registers", "\r\nCPU#0\r\nEAX=");
	says(fd, "info registers", "EIP=00100021 EFL=");
	says(fd, "info registers", "HLT=1");
	says(fd, "info registers", "CS =0010 00000000 ffffffff 00cf9b00 DPL=0 CS32 [-RA]");
	says(fd, "info registers -a", "CPU#1\r\n");
	says(fd, "info registers 1", "\r\nCPU#1\r\n");
	says(fd, "info registers 2", "CPU#2 not available");
	says(fd, "info cpus", "* CPU #0: thread_id=");
	assert_string_equal(ask(fd, "cpu 1"), "");
	says(fd, "info cpus", "* CPU #1: thread_id=");
	says(fd, "info pci", "  Bus  0, device   1, function 3:\r\n    Bridge: PCI device 8086:7113\r\n");
	says(fd, "info mtree", "0000000000000cf8-0000000000000cfb (prio 0, i/o): ");
	says(fd, "info mtree", "0000000000000000-0000000000ffffff (prio 0, ram): ");
	says(fd, "info version", VM_QEMU_VERSION " (vireo-" VIREO_VERSION ")\r\n");
	says(fd, "info pic", "  pin 0  0x0000000000010000 dest=0 vec=0   active-hi edge  masked fixed  physical\r\n");
	says(fd, "info pic", "\r\n  Remote IRR (none)\r\npic1: irr=");
	says(fd, "info irq", "IRQ statistics for ioapic:\r\n");
	says(fd, "info lapic 1", "dumping local APIC state for CPU 1\r\n\r\nLVT0\t 0x00010000 active-hi edge  masked ");
	says(fd, "info lapic 0", "LVTT\t 0x00010000 active-hi edge  masked         one-shot     Fixed  (vec 0)\r\n");
	says(fd, "info lapic", "\r\nISR\t (none)\r\nIRR\t ");
	says(fd, "info lapic 2", "No CPU with APIC ID 2 found");
	says(fd, "info network",
	     "net0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56\r\n"
	     " \\ net0.peer: index=0,type=user,net=10.0.2.0,restrict=on\r\n");
	says(fd, "savevm x", "savevm");
	says(fd, "help", "xp /fmt addr -- physical memory dump starting at 'addr'\r\n");
	says(fd, "help", "info [subcommand] -- ");
	says(fd, "info", "info registers [-a|vcpu] -- ");
	says(fd, "info history", "0: 'info registers'\r\n");
	close(fd);
}

static void instructions_are_shown(void **state)
{
#ifdef HAVE_CAPSTONE
	int fd = dial();

	assert_string_equal(ask(fd, "x/2i 0x100020"), "0x00100020:  f4                       hlt      \r\n"
						      "0x00100021:  eb fd                    jmp      0x100020\r\n");
	assert_string_equal(ask(fd, "xp/i 0xe0000000"), "0xe0000000: unable to read memory\r\n");
	close(fd);
#else
	skip();
#endif
}

static void it_commands(void **state)
{
	int fd = dial();
	json_t *o;

	assert_string_equal(ask(fd, "stop"), "");
	assert_true(machine_is(&m, "paused"));
	says(fd, "info status", "VM status: paused\r\n");
	assert_string_equal(ask(fd, "c"), "");
	assert_true(machine_is(&m, "running"));
	assert_string_equal(ask(fd, "system_reset"), "");
	assert_string_equal(ask(fd, "o/b 0x80 1"), "");
	close(fd);
	o = machine_execute(&m, "human-monitor-command", "{\"command-line\": \"info status\"}");
	assert_string_equal(json_string_value(o), "VM status: running\r\n");
	json_decref(o);
	o = machine_execute(&m, "human-monitor-command", "{\"command-line\": \"info registers\", \"cpu-index\": 1}");
	assert_memory_equal(json_string_value(o), "\r\nCPU#1", 7);
	json_decref(o);
	free(machine_refuses(&m, "human-monitor-command", "{\"command-line\": \"x\", \"cpu-index\": 2}"));
}

static void memory_goes_into_files(void **state)
{
	const char *path = machines_path("dump");
	char line[256], bytes[16];
	int fd = dial();
	FILE *f;

	snprintf(line, sizeof(line), "pmemsave 0x100020 3 \"%s\"", path);
	assert_string_equal(ask(fd, line), "");
	f = fopen(path, "r");
	assert_int_equal(fread(bytes, 1, sizeof(bytes), f), 3);
	fclose(f);
	assert_memory_equal(bytes, "\xf4\xeb\xfd", 3);
	snprintf(line, sizeof(line), "memsave 0x1fffffe 8 \"%s\"", path);
	says(fd, line, "Error: Invalid addr 0x0000000001fffffe/size 8 specified");
	snprintf(line, sizeof(line), "pmemsave 0 0x7000000000000000 \"%s\"", path);
	says(fd, line, "Error: Parameter 'size' is larger than the guest's memory");
	says(fd, "pmemsave 0 1 \"/nonexistent/x\"", "Error: Could not open '/nonexistent/x'");
	/* Nobody is waited for. */
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	snprintf(line, sizeof(line), "pmemsave 0 1 \"%s\"", path);
	says(fd, line, "No such device or address");
	says(fd, "screendump /x", "There is no screen");
	says(fd, "screendump /x -f", "a format comes with -f");
	close(fd);
}

/* What is written is bounded, and so is what a client leaves unread. */
static void output_has_an_end(void **state)
{
	int fd = dial(), silent;
	const char *said = ask(fd, "xp/9999999xb 0");
	struct pollfd p = { .events = POLLOUT };

	assert_true(strlen(said) < 6u << 20);
	assert_non_null(strstr(said, "the rest is left out"));
	close(fd);
	silent = dial();
	p.fd = silent;
	for (unsigned n = 0; n < 2000 && poll(&p, 1, 100) == 1; n++)
		if (send(silent, "xp/9999999xb 0\n", 15, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			break;
	assert_true(machine_is(&m, "running"));
	close(silent);
}

/* --- other places --- */

static int connect_to(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(a.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static void places_are_configured(void **state)
{
	const char *qmp = machines_path("q"), *mon = machines_path("mon");
	struct machine q, c = { 0 };
	char keys[512];
	json_t *o;
	int fd;

	snprintf(keys, sizeof(keys), "name=q qmp0=unix:%s qmp0.wait=on qmp1=unix:%s1 qmp1.pretty=on monitor0=unix:%s",
		 qmp, qmp, mon);
	machine_new(&q, CODE_COUNT, keys);
	machine_start(&q);
	/* It waits for that client, not for any. */
	fd = connect_to(mon);
	hear(fd);
	says(fd, "info status", "VM status: paused (prelaunch)\r\n");
	c.qmp = connect_to(qmp);
	o = machine_message(&c);
	assert_non_null(json_object_get(o, "QMP"));
	json_decref(o);
	machine_do(&c, "qmp_capabilities");
	machine_wait_progress(&q, COUNTER);
	says(fd, "info status", "VM status: running\r\n");
	close(fd);
	snprintf(keys, sizeof(keys), "%s1", qmp);
	fd = connect_to(keys);
	memset(keys, 0, sizeof(keys));
	assert_true(read(fd, keys, sizeof(keys) - 1) > 0);
	assert_memory_equal(keys, "{\n    \"QMP\": {", 14);
	close(fd);
	close(c.qmp);
	assert_int_equal(machine_quit(&q), 0);
	assert_int_not_equal(access(qmp, F_OK), 0);
}

/* Before all of those have come that a port or a control socket waits for, the guest runs no instruction. */
static void ports_wait_for_their_clients(void **state)
{
	const char *port = machines_path("p"), *qmp = machines_path("wq");
	struct machine q;
	char keys[512];
	int fd, first, second;

	snprintf(keys, sizeof(keys),
		 "name=q serial0=unix:%s serial0.wait=on qmp0=unix:%s qmp0.wait=on serial1=unix:%s1 "
		 "agent=unix:%s2 agent.server=on agent.wait=off",
		 port, qmp, port, port);
	machine_new(&q, CODE_COUNT, keys);
	machine_start(&q);
	snprintf(keys, sizeof(keys), "%s1", port);
	fd = connect_to(keys);
	assert_true(machine_is(&q, "prelaunch"));
	first = connect_to(qmp);
	for (unsigned n = 0; n < 5; n++)
		assert_true(machine_is(&q, "prelaunch"));
	assert_int_equal(machine_word(&q, COUNTER), 0);
	second = connect_to(port);
	machine_wait_progress(&q, COUNTER);
	assert_true(machine_is(&q, "running"));
	/* Only the first one counts. */
	machine_do(&q, "stop");
	close(second);
	second = connect_to(port);
	for (unsigned n = 0; n < 5; n++)
		assert_true(machine_is(&q, "paused"));
	close(fd);
	close(first);
	close(second);
	assert_int_equal(machine_quit(&q), 0);
}

static void refused(const char *keys, const char *part)
{
	struct config *c = machine_config(CODE_HALT, keys);
	struct err err = { "" };
	struct vm *vm = vm_new(c, &err);

	assert_null(vm);
	if (!strstr(err.msg, part))
		fail_msg("%s: no '%s' in '%s'", keys, part, err.msg);
	config_free(c);
}

static void bad_places_are_refused(void **state)
{
	refused("name=r qmp0=nowhere", "qmp0: 'nowhere' is neither [HOST:]PORT nor unix:PATH");
	refused("name=r monitor0=unix:", "monitor0: '' is no path for a socket");
	refused("name=r monitor0=unix:/nonexistent/x", "monitor0: cannot listen on /nonexistent/x");
	refused("name=r qmp0=unix:/nonexistent/x qmp0.server=off", "qmp0: cannot connect to /nonexistent/x");
	refused("name=r qmp0=fd:x", "qmp0: 'x' is not the number of a socket");
	refused("name=r qmp0=none qmp1=stdio monitor0=stdio", "monitor0: stdio is qmp1's already");
	refused("name=r qmp0.wait=maybe qmp0=none", "qmp0.wait");
	refused("name=r monitor1=none", "monitor1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_debugger_may_be_let_in), cmocka_unit_test(lines_of_guests_can_be_hidden),
		cmocka_unit_test(answers_have_qemus_form),  cmocka_unit_test(the_machine_is_described),
		cmocka_unit_test(instructions_are_shown),   cmocka_unit_test(it_commands),
		cmocka_unit_test(memory_goes_into_files),   cmocka_unit_test(output_has_an_end),
		cmocka_unit_test(places_are_configured),    cmocka_unit_test(ports_wait_for_their_clients),
		cmocka_unit_test(bad_places_are_refused),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
