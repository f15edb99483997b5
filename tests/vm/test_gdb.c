/* vm/gdb.c, vm/gdb_commands.c, cpu/x86/stops.c, debug_isa.c: what a debugger asks of a machine of a few bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "cpu/x86/state.h"
#include "machine.h"
#include "vm/gdb.h"
#include "vm/impl.h"

#define RAX    0u
#define RIP    16u
#define EFLAGS 17u
#define CR0    76u
/* The second of the three instructions of CODE_COUNT. */
#define AT_OUT "100026"

struct session {
	struct machine m;
	int fd;
	char answer[16384];
};

/* Of the test that runs; see teardown(). */
static struct session *live;

static int attach(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(a.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static void begin(struct session *s, const struct code *code, const char *more)
{
	char keys[256];

	snprintf(keys, sizeof(keys), "gdb=unix:%s %s", machines_path("gdb.sock"), more);
	machine_new(&s->m, code, keys);
	machine_start(&s->m);
	live = s;
	s->fd = attach(machines_path("gdb.sock"));
}

static void put(struct session *s, const char *packet, size_t len)
{
	char frame[8300];
	uint8_t sum = 0;
	int n;

	for (size_t k = 0; k < len; k++)
		sum += (uint8_t)packet[k];
	frame[0] = '$';
	memcpy(frame + 1, packet, len);
	n = (int)len + 1 + snprintf(frame + 1 + len, 8, "#%02x", sum);
	assert_int_equal(send(s->fd, frame, (size_t)n, MSG_NOSIGNAL), n);
}

static char byte(struct session *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	char b;

	assert_int_equal(poll(&p, 1, 30000), 1);
	assert_int_equal(read(s->fd, &b, 1), 1);
	return b;
}

/* The next packet, past acknowledgements. */
static const char *get(struct session *s)
{
	size_t n = 0;
	char b;

	while ((b = byte(s)) != '$')
		assert_int_equal(b, '+');
	while ((b = byte(s)) != '#') {
		assert_true(n < sizeof(s->answer) - 1);
		s->answer[n++] = b;
	}
	byte(s);
	byte(s);
	s->answer[n] = 0;
	return s->answer;
}

static const char *ask(struct session *s, const char *packet)
{
	put(s, packet, strlen(packet));
	return get(s);
}

static void ok(struct session *s, const char *packet)
{
	assert_string_equal(ask(s, packet), "OK");
}

static void stops(struct session *s, const char *packet, const char *answer)
{
	assert_string_equal(ask(s, packet), answer);
}

/* A register of up to 8 bytes. */
static uint64_t reg(struct session *s, unsigned n)
{
	char packet[16];
	uint64_t v = 0;
	size_t len;

	snprintf(packet, sizeof(packet), "p%x", n);
	ask(s, packet);
	len = strlen(s->answer) / 2;
	assert_in_range(len, 1, 8);
	for (size_t k = len; k-- > 0;) {
		unsigned b;

		assert_int_equal(sscanf(s->answer + 2 * k, "%2x", &b), 1);
		v = v << 8 | b;
	}
	return v;
}

/* Its machine has ended. */
static int ended(struct session *s)
{
	live = NULL;
	close(s->fd);
	return machine_end(&s->m);
}

static int end(struct session *s)
{
	live = NULL;
	close(s->fd);
	return machine_quit(&s->m);
}

/* The machine of a test that failed, which the next ones would find to be running. */
static int teardown(void **state)
{
	static const char quit[] = "{\"execute\": \"quit\"}\n";

	if (!live)
		return 0;
	if (send(live->m.qmp, quit, sizeof(quit) - 1, MSG_NOSIGNAL) < 0)
		print_message("it has ended already\n");
	ended(live);
	return 0;
}

static void attaching_stops_and_leaving_lets_go(void **state)
{
	static struct session s;

	begin(&s, CODE_COUNT, "");
	stops(&s, "?", "T05thread:1;");
	assert_true(machine_is(&s.m, "debug"));
	free(machine_refuses(&s.m, "cont", NULL));
	ok(&s, "D");
	machine_wait_progress(&s.m, COUNTER);
	close(s.fd);
	/* A debugger that dies leaves no breakpoint behind. */
	s.fd = attach(machines_path("gdb.sock"));
	ok(&s, "Z0," AT_OUT ",1");
	close(s.fd);
	machine_wait_progress(&s.m, COUNTER);
	usleep(2000);
	machine_wait_progress(&s.m, COUNTER);
	assert_int_equal(end(&s), 0);
}

static void a_breakpoint_stops_before_its_instruction(void **state)
{
	static struct session s;

	begin(&s, CODE_COUNT, "paused=on");
	for (unsigned kind = 0; kind < 2; kind++) {
		char packet[32];

		snprintf(packet, sizeof(packet), "Z%u," AT_OUT ",1", kind);
		ok(&s, packet);
	}
	for (uint32_t n = 1; n < 4; n++) {
		stops(&s, "vCont;c", "T05thread:1;swbreak:;");
		assert_int_equal(reg(&s, RIP), 0x100026);
		assert_int_equal(machine_word(&s.m, COUNTER), n);
	}
	/* As one does who steps over it. */
	ok(&s, "z0," AT_OUT ",1");
	stops(&s, "vCont;s:1", "T05thread:1;");
	assert_int_equal(reg(&s, RIP), 0x100028);
	ok(&s, "Z0," AT_OUT ",1");
	stops(&s, "c", "T05thread:1;swbreak:;");
	assert_int_equal(machine_word(&s.m, COUNTER), 4);
	assert_int_equal(end(&s), 0);
}

/* In a code segment that does not begin at 0 GDB would not find its breakpoint where the program counter is. */
static void a_breakpoint_in_a_segment_is_a_trap(void **state)
{
	struct x86_state *x = malloc(sizeof(*x));
	static struct session s;
	struct err err;

	begin(&s, CODE_COUNT, "paused=on");
	stops(&s, "?", "T05thread:1;");
	s.m.vm->engine->get_state(s.m.vm->cpu[0].vcpu, x);
	x->seg[X86_CS].base = 0x100000;
	x->gpr[X86_RIP] -= 0x100000;
	assert_int_equal(s.m.vm->engine->set_state(s.m.vm->cpu[0].vcpu, x, &err), 0);
	ok(&s, "Z0," AT_OUT ",1");
	for (uint32_t n = 1; n < 4; n++) {
		stops(&s, "vCont;c", "T05thread:1;");
		assert_int_equal(reg(&s, RIP), 0x26);
		assert_int_equal(machine_word(&s.m, COUNTER), n);
		/* So GDB takes its points out and puts them in again, and passes none by a step. */
		ok(&s, "z0," AT_OUT ",1");
		ok(&s, "Z0," AT_OUT ",1");
	}
	/* One that comes back later is no longer the one that has just stopped it. */
	ok(&s, "z0," AT_OUT ",1");
	for (unsigned n = 0; n < 2; n++)
		stops(&s, "vCont;s:1", "T05thread:1;");
	ok(&s, "Z0," AT_OUT ",1");
	stops(&s, "vCont;c", "T05thread:1;");
	assert_int_equal(machine_word(&s.m, COUNTER), 4);
	assert_int_equal(end(&s), 0);
	free(x);
}

static void steps_go_one_instruction(void **state)
{
	static const uint64_t at[] = { 0x100026, 0x100028, 0x100020 };
	static struct session s;

	begin(&s, CODE_COUNT, "paused=on");
	for (unsigned n = 0; n < 30; n++) {
		stops(&s, n & 1 ? "s" : "vCont;s:1;c", "T05thread:1;");
		assert_int_equal(reg(&s, RIP), at[n % 3]);
	}
	assert_int_equal(machine_word(&s.m, COUNTER), 10);
	assert_int_equal(end(&s), 0);
}

static void watchpoints_stop_after_the_access(void **state)
{
	static const struct {
		const char *set, *clear, *answer;
	} cases[] = {
		{ "Z2,200000,4", "z2,200000,4", "T05thread:1;watch:200000;" },
		{ "Z3,200002,1", "z3,200002,1", "T05thread:1;rwatch:200002;" },
		{ "Z4,1ffffd,4", "z4,1ffffd,4", "T05thread:1;awatch:1ffffd;" },
	};
	static struct session s;

	begin(&s, CODE_COUNT, "paused=on");
	/* The page is in use already. */
	for (unsigned n = 0; n < 3; n++)
		stops(&s, "vCont;s:1", "T05thread:1;");
	for (uint32_t n = 0; n < 3; n++) {
		ok(&s, cases[n].set);
		stops(&s, "c", cases[n].answer);
		ok(&s, cases[n].clear);
		assert_int_equal(reg(&s, RIP), 0x100026);
		assert_int_equal(machine_word(&s.m, COUNTER), n + 2);
	}
	/* Beside it, nothing happens. */
	ok(&s, "Z4,200004,4");
	ok(&s, "Z4,1ffffc,4");
	assert_int_equal(send(s.fd, "$c#63", 5, 0), 5);
	machine_wait_progress(&s.m, COUNTER);
	assert_int_equal(send(s.fd, "\3", 1, 0), 1);
	assert_string_equal(get(&s), "T02thread:1;");
	assert_int_equal(end(&s), 0);
}

static void registers_are_read_and_written(void **state)
{
	char g[8192];
	static struct session s;
	size_t bytes = 0;

	begin(&s, CODE_COUNT, "paused=on");
	for (unsigned n = 0; n < s.m.vm->engine->debug_isa->regs; n++)
		bytes += s.m.vm->engine->debug_isa->reg_size(n);
	assert_int_equal(strlen(ask(&s, "g")), 2 * bytes);
	g[0] = 'G';
	strcpy(g + 1, s.answer);
	ok(&s, "P0=efbeadde00000000");
	assert_int_equal(reg(&s, RAX), 0xdeadbeef);
	ok(&s, g);
	assert_string_equal(ask(&s, "g"), g + 1);
	/* Control registers are to be looked at. */
	assert_true(reg(&s, CR0) & 1);
	stops(&s, "P4c=0000000000000000", "E01");
	/* st0, xmm3 and the upper half of ymm3. */
	ok(&s, "P18=0102030405060788ff3f");
	assert_string_equal(ask(&s, "p18"), "0102030405060788ff3f");
	ok(&s, "P2b=000102030405060708090a0b0c0d0e0f");
	ok(&s, "P3e=f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
	assert_string_equal(ask(&s, "p2b"), "000102030405060708090a0b0c0d0e0f");
	assert_string_equal(ask(&s, "p3e"), "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
	/* And the processor goes on with them. */
	ok(&s, "P10=2800100000000000");
	stops(&s, "vCont;s:1", "T05thread:1;");
	assert_int_equal(reg(&s, RIP), 0x100020);
	stops(&s, "p1000", "E16");
	stops(&s, "P0=12", "E01");
	assert_int_equal(end(&s), 0);
}

/* GDB says by a feature that it takes a reason. */
/* Those that nobody looks at, too, wherever the translator's code was interrupted. */
static void flags_are_those_of_the_last_instruction(void **state)
{
	const struct engine *jit = engine_find("jit");
	struct engine_probe probe = { 0 };
	static struct session s;

	if (jit)
		jit->probe(&probe);
	if (!probe.available) {
		puts("skipped: no translator for this host");
		skip();
	}
	/* xor eax, eax; 1: add eax, 7; jmp 1b */
	begin(&s, CODE("\x31\xc0\x83\xc0\x07\xeb\xfb"), "engine=jit");
	for (unsigned n = 0; n < 50; n++) {
		uint32_t eax, flags;

		put(&s, "c", 1);
		usleep(2000);
		assert_int_equal(send(s.fd, "\x03", 1, MSG_NOSIGNAL), 1);
		get(&s);
		eax = (uint32_t)reg(&s, RAX);
		flags = (uint32_t)reg(&s, EFLAGS);
		assert_int_equal(!!(flags & X86_PF), !__builtin_parity(eax & 0xff));
		assert_int_equal(!!(flags & X86_SF), eax >> 31);
		assert_int_equal(!!(flags & X86_CF), eax < 7);
	}
	assert_int_equal(end(&s), 0);
}

static void a_refusal_says_why_to_those_who_ask(void **state)
{
	static struct session s;

	begin(&s, CODE_COUNT, "paused=on");
	ask(&s, "qSupported:swbreak+;error-message+;xmlRegisters=i386");
	stops(&s, "P4c=0000000000000000", "E.this register can be read but not be set, as the CPU is now");
	/* MXCSR */
	stops(&s, "P38=0000ffff", "E.the floating-point state has reserved bits set");
	stops(&s, "P0=12", "E.a register has too few digits");
	stops(&s, "Pfff=12", "E.there is no such register");
	ok(&s, "P0=efbeadde00000000");
	/* The next one need not know of it. */
	ok(&s, "D");
	close(s.fd);
	s.fd = attach(machines_path("gdb.sock"));
	stops(&s, "P38=0000ffff", "E01");
	assert_int_equal(end(&s), 0);
}

static void a_point_too_many_or_too_long_is_refused_with_the_reason(void **state)
{
	static const char long_one[] = "E.a watchpoint is of 1 to 4096 bytes",
			  many[] = "E.there are 256 breakpoints and watchpoints, and no room for more";
	static struct session s;
	char packet[32];

	begin(&s, CODE_COUNT, "paused=on");
	stops(&s, "Z2,200000,1001", "E01");
	ask(&s, "qSupported:error-message+");
	for (int type = 2; type <= 4; type++) {
		snprintf(packet, sizeof(packet), "Z%d,200000,1001", type);
		stops(&s, packet, long_one);
	}
	stops(&s, "Z2,200000,0", long_one);
	/* What a length of 32 bits would take for one byte. */
	stops(&s, "Z2,200000,100000001", long_one);
	stops(&s, "Z2,fffffffffffffffd,4", "E.a watchpoint does not go on at 0 behind the last address");
	ok(&s, "Z2,fffffffffffffffc,4");
	ok(&s, "z2,fffffffffffffffc,4");
	ok(&s, "Z2,200000,1000");
	ok(&s, "z2,200000,1000");
	for (unsigned n = 0; n < DEBUG_POINTS; n++) {
		snprintf(packet, sizeof(packet), "Z0,%x,1", 0x300000 + n);
		ok(&s, packet);
	}
	stops(&s, "Z0,100020,1", many);
	stops(&s, "Z2,200000,4", many);
	/* One that is there is asked for again, and one that goes makes room. */
	ok(&s, "Z0,300005,1");
	ok(&s, "z0,300005,1");
	ok(&s, "Z0,100020,1");
	stops(&s, "Z0,300005,1", many);
	assert_int_equal(end(&s), 0);
}

static void memory_is_read_and_written(void **state)
{
	static const char binary[] = "X200010,4:\x01}\x03}\x5d\xff";
	static struct session s;

	begin(&s, CODE_COUNT, "paused=on");
	assert_string_equal(ask(&s, "m100020,8"), "ff0500002000e680");
	ok(&s, "M200010,4:11223344");
	assert_int_equal(machine_word(&s.m, 0x200010), 0x44332211);
	put(&s, binary, sizeof(binary) - 1);
	assert_string_equal(get(&s), "OK");
	assert_int_equal(machine_word(&s.m, 0x200010), 0xff7d2301);
	/* As far as there is memory, of which there are 16 MiB. */
	assert_string_equal(ask(&s, "mfffffe,8"), "0000");
	stops(&s, "m1000000,4", "E0e");
	stops(&s, "Mfffffe,4:01020304", "E0e");
	stops(&s, "M200010,ffffffff:00", "E16");
	stops(&s, "mzz", "E16");
	/* Code that was decoded before is noticed: the jump goes to itself. */
	stops(&s, "vCont;s:1", "T05thread:1;");
	ok(&s, "M" AT_OUT ",2:ebfe");
	stops(&s, "vCont;s:1", "T05thread:1;");
	assert_int_equal(reg(&s, RIP), 0x100026);
	assert_int_equal(end(&s), 0);
}

static void threads_are_cpus(void **state)
{
	static struct session s;
	uint32_t before;

	begin(&s, CODE_TWO, "cpus=2");
	assert_string_equal(ask(&s, "qfThreadInfo"), "m1,2");
	assert_string_equal(ask(&s, "qsThreadInfo"), "l");
	assert_string_equal(ask(&s, "qThreadExtraInfo,2"), "4350552331");
	ok(&s, "T2");
	stops(&s, "T3", "E16");
	stops(&s, "Hg3", "E16");
	ok(&s, "D");
	close(s.fd);
	machine_wait_progress(&s.m, AP_COUNTER);
	s.fd = attach(machines_path("gdb.sock"));
	/* The second one is in real mode: inc dword [9000h] at 8000h. */
	ok(&s, "Hg2");
	assert_false(reg(&s, CR0) & 1);
	ok(&s, "Z0,8005,1");
	stops(&s, "vCont;c", "T05thread:2;");
	before = machine_word(&s.m, COUNTER);
	stops(&s, "vCont;s:2", "T05thread:2;");
	assert_int_equal(machine_word(&s.m, COUNTER), before);
	/* With an action for all, the others run meanwhile. */
	ok(&s, "Hg1");
	before = machine_word(&s.m, AP_COUNTER);
	ok(&s, "z0,8005,1");
	for (int n = 0; n < 1000 && machine_word(&s.m, AP_COUNTER) == before; n++)
		stops(&s, "vCont;s:1;c", "T05thread:1;");
	assert_int_not_equal(machine_word(&s.m, AP_COUNTER), before);
	assert_int_equal(end(&s), 0);
}

/* Each takes one instruction at most, and neither is left out for ever. */
static void several_threads_step(void **state)
{
	enum { STEPS = 400 };
	uint32_t before;
	static struct session s;

	begin(&s, CODE_TWO, "cpus=2");
	ok(&s, "D");
	close(s.fd);
	machine_wait_progress(&s.m, AP_COUNTER);
	s.fd = attach(machines_path("gdb.sock"));
	ok(&s, "Hg1");
	before = machine_word(&s.m, AP_COUNTER);
	for (int n = 0; n < STEPS; n++) {
		unsigned who = 0;

		assert_int_equal(sscanf(ask(&s, "vCont;s:1;s:2"), "T05thread:%u;", &who), 1);
		assert_in_range(who, 1, 2);
	}
	/* Its loop has two instructions. */
	assert_in_range(machine_word(&s.m, AP_COUNTER) - before, 1, STEPS / 2 + 1);
	/* The other one's step, which nobody was told of, is no news when all go on. */
	ok(&s, "Z0,8005,1");
	for (int n = 0; n < 50; n++) {
		ask(&s, "vCont;s:1;s:2");
		stops(&s, "vCont;c", "T05thread:2;");
		assert_int_equal(reg(&s, RIP), 5);
	}
	assert_int_equal(end(&s), 0);
}

static bool points_fail;
static int (*engines_set_debug)(struct vcpu *v, const struct cpu_debug *d, struct err *err);

static int set_debug(struct vcpu *v, const struct cpu_debug *d, struct err *err)
{
	return points_fail && d->count ? err_set(err, "not now #%u", v->index) : engines_set_debug(v, d, err);
}

/* GDB puts one in again, which fails: all that were there stay. */
static void a_point_that_fails_again_takes_none_away(void **state)
{
	static struct engine engine;
	static struct session s;

	begin(&s, CODE_COUNT, "paused=on");
	engine = *s.m.vm->engine;
	engines_set_debug = engine.set_debug;
	engine.set_debug = set_debug;
	s.m.vm->engine = &engine;
	ok(&s, "Z0," AT_OUT ",1");
	ok(&s, "Z0,100028,1");
	points_fail = true;
	stops(&s, "Z0," AT_OUT ",1", "E01");
	stops(&s, "Z0," AT_OUT ",1", "E01");
	ask(&s, "qSupported:error-message+");
	stops(&s, "Z0,100020,1", "E.not now ?0");
	points_fail = false;
	for (int n = 0; n < 3; n++) {
		ask(&s, "vCont;c");
		assert_int_equal(reg(&s, RIP), 0x100026);
		ask(&s, "vCont;c");
		assert_int_equal(reg(&s, RIP), 0x100028);
	}
	assert_int_equal(end(&s), 0);
}

/* Both are at a breakpoint all the time: what is said is about the one that was let run. */
static void a_stop_of_one_that_was_not_resumed_waits(void **state)
{
	static struct session s;
	char packet[32], answer[32];
	bool both[3] = { false };

	begin(&s, CODE_TWO, "cpus=2");
	ok(&s, "D");
	close(s.fd);
	machine_wait_progress(&s.m, AP_COUNTER);
	s.fd = attach(machines_path("gdb.sock"));
	ok(&s, "Hg1");
	snprintf(packet, sizeof(packet), "Z0,%llx,1", (unsigned long long)reg(&s, RIP));
	ok(&s, packet);
	ok(&s, "Z0,8005,1");
	for (int n = 0; n < 300; n++) {
		unsigned who = 0;

		assert_int_equal(sscanf(ask(&s, "vCont;c"), "T05thread:%u;", &who), 1);
		assert_in_range(who, 1, 2);
		both[who] = true;
		snprintf(packet, sizeof(packet), "vCont;s:%u", who);
		snprintf(answer, sizeof(answer), "T05thread:%u;", who);
		assert_memory_equal(ask(&s, packet), answer, strlen(answer));
	}
	assert_true(both[1] && both[2]);
	assert_int_equal(end(&s), 0);
}

static void the_description_has_all_registers(void **state)
{
	char text[65536] = "", packet[64];
	static struct session s;
	size_t at = 0;
	unsigned count = 0;

	begin(&s, CODE_COUNT, "paused=on");
	assert_non_null(strstr(ask(&s, "qSupported:swbreak+"), "qXfer:features:read+"));
	do {
		snprintf(packet, sizeof(packet), "qXfer:features:read:target.xml:%zx,3e8", at);
		ask(&s, packet);
		strcat(text, s.answer + 1);
		at = strlen(text);
	} while (s.answer[0] == 'm');
	assert_int_equal(s.answer[0], 'l');
	for (const char *p = text; (p = strstr(p, "<reg ")); p++)
		count++;
	assert_int_equal(count, s.m.vm->engine->debug_isa->regs);
	assert_string_equal(text + at - 9, "</target>");
	stops(&s, "qXfer:features:read:other.xml:0,100", "E00");
	assert_int_equal(end(&s), 0);
}

static void nonsense_is_answered(void **state)
{
	static const char *const nonsense[] = { "",	      "!",	  "Z",
						"Z0",	      "Z9,0,1",	  "Z2,0,0",
						"Z2,0,10000", "z0,5,1",	  "vCont",
						"vCont;x",    "vCont;t",  "H",
						"Hx",	      "m",	  "M0,1",
						"X0,1:",      "P",	  "Pff",
						"G00",	      "qRcmd,zz", "qXfer:features:read:",
						"q",	      "vMust",	  "m0,ffffffffffffffff" };
	static struct session s;
	char *big = malloc(20000);

	begin(&s, CODE_COUNT, "paused=on");
	for (size_t n = 0; n < sizeof(nonsense) / sizeof(nonsense[0]); n++) {
		ask(&s, nonsense[n]);
		if (strcmp(nonsense[n], "m0,ffffffffffffffff") && strcmp(nonsense[n], "z0,5,1") &&
		    strcmp(nonsense[n], "Hx"))
			assert_true(!*s.answer || *s.answer == 'E');
	}
	/* A wrong sum is asked for again; after QStartNoAckMode nobody cares. */
	assert_int_equal(send(s.fd, "$?#00", 5, 0), 5);
	assert_int_equal(byte(&s), '-');
	ok(&s, "QStartNoAckMode");
	assert_int_equal(send(s.fd, "$?#00", 5, 0), 5);
	assert_string_equal(get(&s), "T05thread:1;");
	/* As many points as there may be, and no more. */
	for (unsigned n = 0; n <= DEBUG_POINTS; n++) {
		char packet[32];

		snprintf(packet, sizeof(packet), "Z0,%x,1", 0x300000 + n);
		assert_string_equal(ask(&s, packet), n < DEBUG_POINTS ? "OK" : "E01");
	}
	/* Without an end: out. The machine does not care. */
	memset(big, 'a', 20000);
	big[0] = '$';
	send(s.fd, big, 20000, MSG_NOSIGNAL);
	while (recv(s.fd, big, 20000, 0) > 0)
		;
	free(big);
	machine_do(&s.m, "cont");
	machine_wait_progress(&s.m, COUNTER);
	assert_int_equal(end(&s), 0);
}

/* The text of "monitor COMMAND". */
static const char *monitor(struct session *s, const char *command)
{
	static char text[512];
	char packet[128] = "qRcmd,";
	size_t n;

	for (n = 0; command[n]; n++)
		snprintf(packet + 6 + 2 * n, 3, "%02x", (uint8_t)command[n]);
	ask(s, packet);
	for (n = 0; s->answer[2 * n] && s->answer[2 * n + 1]; n++) {
		unsigned b;

		assert_int_equal(sscanf(s->answer + 2 * n, "%2x", &b), 1);
		text[n] = (char)b;
	}
	text[n] = 0;
	return text;
}

static void an_unknown_monitor_command_is_one_line(void **state)
{
	static struct session s;

	begin(&s, CODE_COUNT, "paused=on");
	assert_string_equal(monitor(&s, "foo"), "No command 'foo': 'monitor help' lists them.\n");
	assert_non_null(strstr(monitor(&s, "help"), "reset      reset the machine\n"));
	assert_non_null(strstr(monitor(&s, ""), "powerdown"));
	assert_int_equal(end(&s), 0);
}

static void one_debugger_at_a_time(void **state)
{
	static struct session s;
	char b;
	int fd;

	begin(&s, CODE_COUNT, "");
	stops(&s, "?", "T05thread:1;");
	fd = attach(machines_path("gdb.sock"));
	assert_int_equal(read(fd, &b, 1), 0);
	close(fd);
	stops(&s, "?", "T05thread:1;");
	assert_int_equal(end(&s), 0);
	assert_int_equal(access(machines_path("gdb.sock"), F_OK), -1);
}

static void it_hears_of_the_end(void **state)
{
	static struct session s;

	begin(&s, CODE_POWER_OFF, "paused=on");
	assert_string_equal(ask(&s, "vCont;c"), "W00");
	assert_int_equal(ended(&s), 0);
	begin(&s, CODE_COUNT, "paused=on");
	put(&s, "k", 1);
	assert_int_equal(ended(&s), 0);
}

static void bad_places_are_refused(void **state)
{
	static const char *const bad[][2] = {
		{ "gdb=70000", "gdb: '70000' is neither [HOST:]PORT nor unix:PATH" },
		{ "gdb=x", "gdb: 'x' is neither [HOST:]PORT nor unix:PATH" },
		{ "gdb=+40130", "gdb: '+40130' is neither [HOST:]PORT nor unix:PATH" },
		{ "gdb=[:1234", "gdb: '[:1234' has a '[' without its ']', as in [::1]:1234" },
		{ "gdb=[::1", "gdb: '[::1' has a '[' without its ']', as in [::1]:1234" },
		{ "gdb=[::1]x:1234", "gdb: '[::1]x:1234' has a '[' without its ']', as in [::1]:1234" },
		{ "gdb=[::1]", "gdb: '[::1]' is neither [HOST:]PORT nor unix:PATH" },
		{ "gdb=unix:", "gdb: '' is no path for a socket" },
		{ "gdb=unix:/nowhere/at/all", "gdb: cannot listen on /nowhere/at/all: No such file or directory" },
	};

	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
		struct config *c = machine_config(CODE_COUNT, bad[n][0]);
		struct err err;

		assert_null(vm_new(c, &err));
		assert_string_equal(err.msg, bad[n][1]);
		config_free(c);
	}
}

static void gdb_is_refused(const char *place, const char *says)
{
	char key[256], text[512];
	struct config *c;
	struct err err;

	snprintf(key, sizeof(key), "gdb=unix:%s", place);
	c = machine_config(CODE_COUNT, key);
	assert_null(vm_new(c, &err));
	config_free(c);
	snprintf(text, sizeof(text), "gdb: cannot listen on %s: %s", place, says);
	assert_string_equal(err.msg, text);
}

/* What a killed machine has left is replaced; a socket where somebody listens stays, as does any other file. */
static void a_stale_socket_is_replaced(void **state)
{
	static struct session s;
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	FILE *f;

	strcpy(a.sun_path, machines_path("gdb.sock"));
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	close(fd);
	begin(&s, CODE_COUNT, "");
	assert_int_equal(end(&s), 0);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)) | listen(fd, 1), 0);
	gdb_is_refused(a.sun_path, "Address already in use");
	close(fd);
	assert_int_equal(unlink(a.sun_path), 0);
	f = fopen(a.sun_path, "w");
	assert_non_null(f);
	fclose(f);
	gdb_is_refused(a.sun_path, "Address already in use");
	assert_int_equal(unlink(a.sun_path), 0);
}

static void an_address_of_ipv6_is_in_brackets(void **state)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct config *c;
	struct err err;
	struct vm *vm;
	char option[32];

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a))) {
		close(fd);
		skip(); /* a host without it */
	}
	/* A port that is free. */
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &(socklen_t){ sizeof(a) }), 0);
	close(fd);
	snprintf(option, sizeof(option), "gdb=[::1]:%u", ntohs(a.sin6_port));
	c = machine_config(CODE_COUNT, option);
	vm = vm_new(c, &err);
	assert_non_null(vm);
	fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	close(fd);
	vm_free(vm);
	config_free(c);
}

#define TEST(f) cmocka_unit_test_teardown(f, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(attaching_stops_and_leaving_lets_go),
		TEST(a_breakpoint_stops_before_its_instruction),
		TEST(a_breakpoint_in_a_segment_is_a_trap),
		TEST(steps_go_one_instruction),
		TEST(watchpoints_stop_after_the_access),
		TEST(registers_are_read_and_written),
		TEST(flags_are_those_of_the_last_instruction),
		TEST(a_refusal_says_why_to_those_who_ask),
		TEST(a_point_too_many_or_too_long_is_refused_with_the_reason),
		TEST(memory_is_read_and_written),
		TEST(threads_are_cpus),
		TEST(several_threads_step),
		TEST(a_point_that_fails_again_takes_none_away),
		TEST(a_stop_of_one_that_was_not_resumed_waits),
		TEST(the_description_has_all_registers),
		TEST(nonsense_is_answered),
		TEST(an_unknown_monitor_command_is_one_line),
		TEST(one_debugger_at_a_time),
		TEST(it_hears_of_the_end),
		TEST(bad_places_are_refused),
		TEST(a_stale_socket_is_replaced),
		TEST(an_address_of_ipv6_is_in_brackets),
	};

	return cmocka_run_group_tests(tests, machines_begin, machines_end);
}
