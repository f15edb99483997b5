/* What the packets of the GDB remote protocol ask for: one function and one row each. GDB manual, appendix E. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "vm/gdb_impl.h"
#include "vm/impl.h"

/* Numbers of errors mean nothing to GDB but that it failed; of E_STATE it is told why if it can be, see refuse(). */
#define E_FORM	 "E16"
#define E_MEMORY "E0e"
#define E_STATE	 "E01"

static void *get_state(struct gdb *g)
{
	const struct engine *e = g->vm->engine;
	void *state = malloc(e->arch_state_size);

	if (state)
		e->get_state(g->vm->cpu[g->cpu].vcpu, state);
	return state;
}

/* --- the answer --- */

void gdb_begin(struct gdb *g)
{
	g->out_len = 0;
}

static __attribute__((format(printf, 2, 3))) void say(struct gdb *g, const char *format, ...)
{
	size_t left = GDB_PACKET_MAX - g->out_len;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(g->out + 1 + g->out_len, left, format, args);
	va_end(args);
	g->out_len += (size_t)n < left ? (size_t)n : 0;
}

static void say_hex(struct gdb *g, const void *bytes, size_t len)
{
	for (size_t n = 0; n < len; n++)
		say(g, "%02x", ((const uint8_t *)bytes)[n]);
}

void gdb_say_signal(struct gdb *g, unsigned signal)
{
	say(g, "T%02xthread:%x;", signal, g->cpu + 1);
}

/* The reason is for GDB, from version 16 on, and for the log. */
static void refuse(struct gdb *g, const char *why)
{
	log_line(LOG_WARN, "gdb", "%s", why);
	if (!g->reasons) {
		say(g, E_STATE);
		return;
	}
	say(g, "E.");
	/* What means something in a packet is nothing that a reason needs. */
	for (; *why; why++)
		say(g, "%c", strchr("#$}*", *why) || !isprint((unsigned char)*why) ? '?' : *why);
}

/*
 * GDB knows a breakpoint by the program counter and goes on by itself where it is told of one at which it has none.
 * Ours are of linear addresses, so with code in a segment that does not begin at 0 it is told of a trap instead.
 */
static bool known_by_pc(struct gdb *g, const struct debug_point *p)
{
	const struct debug_isa *isa = g->vm->engine->debug_isa;
	uint8_t bytes[DEBUG_REG_BYTES] = { 0 };
	void *state = get_state(g);

	if (state)
		isa->get(state, isa->pc, bytes);
	free(state);
	return state && ld_le64(bytes) == p->addr;
}

void gdb_say_stop(struct gdb *g, const struct debug_stop *s)
{
	static const char *const kinds[] = {
		[DEBUG_WRITE] = "watch", [DEBUG_READ] = "rwatch", [DEBUG_ACCESS] = "awatch"
	};

	gdb_say_signal(g, 5);
	if (!s->step && s->point.kind == DEBUG_EXEC && known_by_pc(g, &s->point))
		say(g, "swbreak:;");
	else if (!s->step && s->point.kind != DEBUG_EXEC)
		say(g, "%s:%llx;", kinds[s->point.kind], (unsigned long long)s->point.addr);
}

void gdb_say_exit(struct gdb *g, int status)
{
	say(g, "W%02x", status & 0xff);
}

/* --- reading a packet --- */

static bool number(const char **p, uint64_t *v)
{
	char *end;

	if (!isxdigit((unsigned char)**p))
		return false;
	*v = strtoull(*p, &end, 16);
	*p = end;
	return true;
}

static bool eat(const char **p, char c)
{
	bool is = **p == c;

	*p += is;
	return is;
}

/* "ADDR,LEN" */
static bool range(const char **p, uint64_t *addr, uint64_t *len)
{
	return number(p, addr) && eat(p, ',') && number(p, len);
}

static int nibble(char c)
{
	return c >= '0' && c <= '9' ? c - '0'
	       : tolower((unsigned char)c) >= 'a' && tolower((unsigned char)c) <= 'f'
		       ? tolower((unsigned char)c) - 'a' + 10
		       : -1;
}

/* `len` bytes as hex digits. */
static bool hex(const char **p, uint8_t *bytes, size_t len)
{
	for (size_t n = 0; n < len; n++, *p += 2) {
		int high = nibble((*p)[0]), low = high < 0 ? -1 : nibble((*p)[1]);

		if (low < 0)
			return false;
		bytes[n] = (uint8_t)(high << 4 | low);
	}
	return true;
}

/* --- registers --- */

/* `why`: what is wrong with it already, or NULL. */
static void put_state(struct gdb *g, void *state, const char *why)
{
	struct err err;

	if (!why && !state)
		why = "out of memory";
	if (!why && g->vm->engine->set_state(g->vm->cpu[g->cpu].vcpu, state, &err))
		why = err.msg;
	if (why)
		refuse(g, why);
	else
		say(g, "OK");
	free(state);
}

/* From the hex digits at `p`. NULL, or why it cannot be. */
static const char *set_register(struct gdb *g, void *state, unsigned n, const char **p)
{
	const struct debug_isa *isa = g->vm->engine->debug_isa;
	uint8_t bytes[DEBUG_REG_BYTES];

	if (!hex(p, bytes, isa->reg_size(n)))
		return "a register has too few digits";
	return isa->set(state, n, bytes) ? NULL : "this register can be read but not be set, as the CPU is now";
}

static void say_register(struct gdb *g, const void *state, unsigned n)
{
	const struct debug_isa *isa = g->vm->engine->debug_isa;
	uint8_t bytes[DEBUG_REG_BYTES];

	isa->get(state, n, bytes);
	say_hex(g, bytes, isa->reg_size(n));
}

static bool read_registers(struct gdb *g, const char *p)
{
	void *state = get_state(g);

	for (unsigned n = 0; state && n < g->vm->engine->debug_isa->regs; n++)
		say_register(g, state, n);
	free(state);
	return true;
}

static bool write_registers(struct gdb *g, const char *p)
{
	void *state = get_state(g);
	const char *why = NULL;

	for (unsigned n = 0; state && n < g->vm->engine->debug_isa->regs && !why; n++)
		why = set_register(g, state, n, &p);
	put_state(g, state, why);
	return true;
}

static bool read_register(struct gdb *g, const char *p)
{
	void *state = get_state(g);
	uint64_t n;

	if (state && number(&p, &n) && n < g->vm->engine->debug_isa->regs)
		say_register(g, state, (unsigned)n);
	else
		say(g, E_FORM);
	free(state);
	return true;
}

static bool write_register(struct gdb *g, const char *p)
{
	void *state = get_state(g);
	const char *why = "there is no such register";
	uint64_t n;

	if (state && number(&p, &n) && n < g->vm->engine->debug_isa->regs && eat(&p, '='))
		why = set_register(g, state, (unsigned)n, &p);
	put_state(g, state, why);
	return true;
}

/* --- memory, by linear addresses of the current vCPU --- */

/* Returns how many bytes there were. */
static size_t access_memory(struct gdb *g, uint64_t at, uint8_t *bytes, size_t len, bool write)
{
	struct mem_space *mem = g->vm->mem;
	void *state = get_state(g);
	size_t done = 0;

	while (state && done < len) {
		uint64_t phys;
		size_t n = MEM_PAGE_SIZE - (at & (MEM_PAGE_SIZE - 1));

		n = n < len - done ? n : len - done;
		if (!g->vm->engine->debug_isa->translate(state, mem, at, &phys) ||
		    !(write ? mem_write(mem, gpa(phys), bytes + done, n) : mem_read(mem, gpa(phys), bytes + done, n)))
			break;
		done += n;
		at += n;
	}
	free(state);
	return done;
}

static bool read_memory(struct gdb *g, const char *p)
{
	uint8_t bytes[GDB_PACKET_MAX / 2];
	uint64_t at, len;
	size_t n;

	if (!range(&p, &at, &len)) {
		say(g, E_FORM);
		return true;
	}
	/* Less than was asked for is an answer. */
	n = access_memory(g, at, bytes, len < sizeof(bytes) ? len : sizeof(bytes) - 1, false);
	if (n || !len)
		say_hex(g, bytes, n);
	else
		say(g, E_MEMORY);
	return true;
}

static void write_bytes(struct gdb *g, uint64_t at, uint8_t *bytes, size_t len)
{
	say(g, access_memory(g, at, bytes, len, true) == len ? "OK" : E_MEMORY);
}

static bool write_memory(struct gdb *g, const char *p)
{
	uint8_t bytes[GDB_PACKET_MAX / 2];
	uint64_t at, len;

	if (range(&p, &at, &len) && eat(&p, ':') && len <= sizeof(bytes) && hex(&p, bytes, len))
		write_bytes(g, at, bytes, len);
	else
		say(g, E_FORM);
	return true;
}

/* As above, the bytes as they are; '}' before those that mean something else. */
static bool write_binary(struct gdb *g, const char *p)
{
	const char *end = g->in + g->in_len;
	uint8_t bytes[GDB_PACKET_MAX];
	uint64_t at, len;
	size_t n = 0;

	if (!range(&p, &at, &len) || !eat(&p, ':')) {
		say(g, E_FORM);
		return true;
	}
	while (p < end && n < sizeof(bytes)) {
		bool escaped = *p == '}' && p + 1 < end;

		p += escaped;
		bytes[n++] = (uint8_t)(escaped ? *p ^ 0x20 : *p);
		p++;
	}
	if (n == len)
		write_bytes(g, at, bytes, n);
	else
		say(g, E_FORM);
	return true;
}

/* --- breakpoints and watchpoints --- */

static char action_of(struct gdb *g, const char *actions, unsigned n);

/* Tell the vCPUs of the points, and who is to step: `actions` as vCont has them, or "". */
static int apply(struct gdb *g, const char *actions, struct err *err)
{
	struct vm *vm = g->vm;

	for (unsigned n = 0; n < vm->cpus; n++) {
		g->points.step = action_of(g, actions, n) == 's';
		if (vm->engine->set_debug(vm->cpu[n].vcpu, &g->points, err))
			return -1;
	}
	return 0;
}

void gdb_forget(struct gdb *g)
{
	struct err err;

	g->points.count = 0;
	apply(g, "", &err);
}

static struct debug_point *find_point(struct gdb *g, const struct debug_point *p)
{
	for (unsigned n = 0; n < g->points.count; n++) {
		struct debug_point *q = &g->points.points[n];

		if (q->addr == p->addr && q->len == p->len && q->kind == p->kind)
			return q;
	}
	return NULL;
}

/* "TYPE,ADDR,KIND": software and hardware breakpoints are the same to us, and KIND is a length. */
static bool point_of(const char *p, struct debug_point *out)
{
	static const enum debug_kind kinds[] = { DEBUG_EXEC, DEBUG_EXEC, DEBUG_WRITE, DEBUG_READ, DEBUG_ACCESS };
	uint64_t type, len;

	if (!number(&p, &type) || type >= sizeof(kinds) / sizeof(kinds[0]) || !eat(&p, ',') ||
	    !range(&p, &out->addr, &len))
		return false;
	out->kind = kinds[type];
	/* What is too long stays so: see check_point(). */
	out->len = out->kind == DEBUG_EXEC ? 1 : len < UINT32_MAX ? (uint32_t)len : UINT32_MAX;
	return true;
}

/* As far as can be told without the engine. */
static int check_point(const struct gdb *g, const struct debug_point *p, bool known, struct err *err)
{
	if (p->len < 1 || p->len > MEM_PAGE_SIZE)
		return err_set(err, "a watchpoint is of 1 to %u bytes", MEM_PAGE_SIZE);
	if (p->addr + p->len - 1 < p->addr)
		return err_set(err, "a watchpoint does not go on at 0 behind the last address");
	return known || g->points.count < DEBUG_POINTS
		       ? 0
		       : err_set(err, "there are %u breakpoints and watchpoints, and no room for more", DEBUG_POINTS);
}

static bool insert(struct gdb *g, const char *p)
{
	struct debug_point point = { 0 };
	struct err err, again;
	bool added;

	if (!point_of(p, &point)) {
		say(g, E_FORM);
		return true;
	}
	added = !find_point(g, &point);
	if (check_point(g, &point, !added, &err)) {
		refuse(g, err.msg);
		return true;
	}
	if (added)
		g->points.points[g->points.count++] = point;
	if (!apply(g, "", &err)) {
		say(g, "OK");
		return true;
	}
	/* One that was there before stays, as it would if nobody had asked. */
	g->points.count -= added;
	apply(g, "", &again);
	refuse(g, err.msg);
	return true;
}

static bool take_out(struct gdb *g, const char *p)
{
	struct debug_point point = { 0 }, *found;
	struct err err;

	if (!point_of(p, &point)) {
		say(g, E_FORM);
		return true;
	}
	found = find_point(g, &point);
	if (found)
		*found = g->points.points[--g->points.count];
	if (apply(g, "", &err))
		refuse(g, err.msg);
	else
		say(g, "OK");
	return true;
}

/* --- threads --- */

/* An index, or -1 for all or any. False: there is no such vCPU. */
static bool thread(struct gdb *g, const char **p, int *cpu)
{
	uint64_t id;

	*cpu = -1;
	if (eat(p, '-'))
		return eat(p, '1');
	if (!number(p, &id) || id > g->vm->cpus)
		return false;
	*cpu = (int)id - 1;
	return true;
}

static bool select_thread(struct gdb *g, const char *p)
{
	bool about = *p == 'g';
	int cpu;

	p++;
	if (!thread(g, &p, &cpu)) {
		say(g, E_FORM);
		return true;
	}
	if (cpu >= 0)
		*(about ? &g->cpu : &g->run_cpu) = (unsigned)cpu;
	say(g, "OK");
	return true;
}

static bool is_alive(struct gdb *g, const char *p)
{
	int cpu;

	say(g, thread(g, &p, &cpu) ? "OK" : E_FORM);
	return true;
}

static bool list_threads(struct gdb *g, const char *p)
{
	for (unsigned n = 0; n < g->vm->cpus; n++)
		say(g, "%c%x", n ? ',' : 'm', n + 1);
	return true;
}

static bool no_more_threads(struct gdb *g, const char *p)
{
	say(g, "l");
	return true;
}

static bool current_thread(struct gdb *g, const char *p)
{
	say(g, "QC%x", g->cpu + 1);
	return true;
}

static bool describe_thread(struct gdb *g, const char *p)
{
	char text[32];
	int cpu;

	if (!thread(g, &p, &cpu) || cpu < 0) {
		say(g, E_FORM);
		return true;
	}
	snprintf(text, sizeof(text), "CPU#%d", cpu);
	say_hex(g, text, strlen(text));
	return true;
}

/* --- running --- */

/* Let those run that are not held. */
static bool go(struct gdb *g, const char *actions)
{
	struct err err;

	/* Of several steps the first one stopped all, and is all that GDB was told of. */
	for (unsigned n = 0; n < g->vm->cpus; n++)
		cpus_forget_step(g->vm, n);
	if (apply(g, actions, &err) || (!gdb_report(g) && gdb_resume(g, &err))) {
		refuse(g, err.msg);
		return true;
	}
	g->waiting = !g->holding;
	return !g->waiting;
}

/* What vCont asks of vCPU `n`: 'c', 's' or 0 for nothing. The leftmost action that fits counts. */
static char action_of(struct gdb *g, const char *p, unsigned n)
{
	while (eat(&p, ';') && *p) {
		char what = (char)tolower((unsigned char)*p++);
		int cpu = -1;
		uint64_t signal;

		if (p[-1] == 'C' || p[-1] == 'S')
			number(&p, &signal);
		if (eat(&p, ':') && !thread(g, &p, &cpu))
			return 0;
		if (cpu < 0 || cpu == (int)n)
			return what;
	}
	return 0;
}

static bool resume_some(struct gdb *g, const char *p)
{
	int running = 0;

	for (unsigned n = 0; n < g->vm->cpus; n++) {
		char what = action_of(g, p, n);
		bool runs = what == 'c' || what == 's';

		cpus_hold(g->vm, n, !runs);
		running += runs;
	}
	if (running)
		return go(g, p);
	say(g, E_FORM);
	return true;
}

static bool list_actions(struct gdb *g, const char *p)
{
	say(g, "vCont;c;C;s;S");
	return true;
}

static bool resume_all(struct gdb *g, const char *p)
{
	for (unsigned n = 0; n < g->vm->cpus; n++)
		cpus_hold(g->vm, n, false);
	return go(g, "");
}

static bool step(struct gdb *g, const char *p)
{
	char actions[16];

	snprintf(actions, sizeof(actions), ";s:%x", g->run_cpu + 1);
	for (unsigned n = 0; n < g->vm->cpus; n++)
		cpus_hold(g->vm, n, n != g->run_cpu);
	return go(g, actions);
}

static bool why_stopped(struct gdb *g, const char *p)
{
	gdb_say_signal(g, 5);
	return true;
}

static bool detach(struct gdb *g, const char *p)
{
	g->leaving = true;
	say(g, "OK");
	return true;
}

static bool kill_machine(struct gdb *g, const char *p)
{
	g->leaving = true;
	vm_quit(g->vm, 0, "host-ui");
	say(g, "OK");
	return g->in[0] == 'v';
}

/* --- what is possible, and monitor --- */

static bool supported(struct gdb *g, const char *p)
{
	g->reasons = strstr(p, "error-message+") != NULL;
	say(g, "PacketSize=%x;qXfer:features:read+;vContSupported+;QStartNoAckMode+;swbreak+;hwbreak+", GDB_PACKET_MAX);
	return true;
}

static bool no_acks(struct gdb *g, const char *p)
{
	say(g, "OK");
	g->no_ack = true;
	return true;
}

static bool attached(struct gdb *g, const char *p)
{
	say(g, "1");
	return true;
}

/* "target.xml:OFFSET,LENGTH". Nothing in it needs to be escaped. */
static bool read_description(struct gdb *g, const char *p)
{
	size_t len = g->vm->engine->debug_isa->describe(g->description, sizeof(g->description));
	uint64_t offset, most;

	if (strncmp(p, "target.xml:", 11)) {
		say(g, "E00");
		return true;
	}
	p += 11;
	if (!range(&p, &offset, &most) || offset > len) {
		say(g, E_FORM);
		return true;
	}
	most = most < GDB_PACKET_MAX - 16 ? most : GDB_PACKET_MAX - 16;
	most = most < len - offset ? most : len - offset;
	say(g, "%c%.*s", offset + most < len ? 'm' : 'l', (int)most, g->description + offset);
	return true;
}

static const char *monitor_reset(struct vm *vm)
{
	struct err err;

	return vm_reset(vm, "host-qmp-system-reset", &err) ? "The machine cannot be reset.\n" : "";
}

static const char *monitor_powerdown(struct vm *vm)
{
	vm_power_button(vm);
	return "";
}

static const struct monitor {
	const char *name, *help;
	const char *(*run)(struct vm *vm);
} monitor[] = {
	{ "powerdown", "press the power button", monitor_powerdown },
	{ "reset", "reset the machine", monitor_reset },
};
#define MONITORS (sizeof(monitor) / sizeof(monitor[0]))

static bool run_monitor(struct gdb *g, const char *p)
{
	char text[64], line[128];
	size_t len = strlen(p) / 2;
	int n;

	if (len >= sizeof(text) || !hex(&p, (uint8_t *)text, len)) {
		say(g, E_FORM);
		return true;
	}
	text[len] = 0;
	for (const struct monitor *m = monitor; m < monitor + MONITORS; m++)
		if (!strcmp(m->name, text)) {
			const char *result = m->run(g->vm);

			if (*result)
				say_hex(g, result, strlen(result));
			else
				say(g, "OK");
			return true;
		}
	if (*text && strcmp(text, "help")) {
		n = snprintf(line, sizeof(line), "No command '%s': 'monitor help' lists them.\n", text);
		say_hex(g, line, (size_t)n);
		return true;
	}
	for (const struct monitor *m = monitor; m < monitor + MONITORS; m++) {
		n = snprintf(line, sizeof(line), "%-10s %s\n", m->name, m->help);
		say_hex(g, line, (size_t)n);
	}
	return true;
}

/* --- all of them --- */

static const struct command {
	const char *name; /* the packet begins so; longer names before shorter ones */
	bool (*run)(struct gdb *g, const char *rest);
	bool any_time; /* while the machine runs too */
} commands[] = {
	{ "?", why_stopped, false },
	{ "D", detach, true },
	{ "G", write_registers, false },
	{ "H", select_thread, false },
	{ "M", write_memory, false },
	{ "P", write_register, false },
	{ "QStartNoAckMode", no_acks, true },
	{ "T", is_alive, false },
	{ "X", write_binary, false },
	{ "Z", insert, false },
	{ "c", resume_all, false },
	{ "g", read_registers, false },
	{ "k", kill_machine, true },
	{ "m", read_memory, false },
	{ "p", read_register, false },
	{ "qAttached", attached, true },
	{ "qC", current_thread, true },
	{ "qRcmd,", run_monitor, false },
	{ "qSupported", supported, true },
	{ "qThreadExtraInfo,", describe_thread, true },
	{ "qXfer:features:read:", read_description, true },
	{ "qfThreadInfo", list_threads, true },
	{ "qsThreadInfo", no_more_threads, true },
	{ "s", step, false },
	{ "vCont?", list_actions, true },
	{ "vCont", resume_some, false },
	{ "vKill", kill_machine, true },
	{ "z", take_out, false },
};

bool gdb_execute(struct gdb *g)
{
	for (const struct command *c = commands; c < commands + sizeof(commands) / sizeof(commands[0]); c++) {
		size_t len = strlen(c->name);

		if (strncmp(g->in, c->name, len))
			continue;
		if (c->any_time || !g->waiting)
			return c->run(g, g->in + len);
		say(g, E_STATE);
		return true;
	}
	return true; /* an empty answer: not known */
}
