/* -machine, -accel, -smp and -m. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cli/qemu.h"
#include "cpu/engine.h"

static const char pc_versions[] = "2.0|2.1|2.2|2.3|2.4|2.5|2.6|2.7|2.8|2.9|2.10|2.11|2.12|3.0|3.1|4.0|4.1|4.2|5.0|5.1|"
				  "5.2|6.0|6.1|6.2|7.0|7.1|7.2";

/*
 * What -machine may say: a key that takes the value as it is, or the values that say what the machine is anyhow.
 * Accelerator properties are among them, as QEMU has it.
 */
static const struct property {
	const char *name, *key, *values, *help;
} properties[] = {
	{ "acpi", NULL, "on|auto", "the machine has ACPI" },
	{ "append", "append", NULL, "as -append" },
	{ "dump-guest-core", NULL, "on|off", "nothing: core dumps are the host's business" },
	{ "firmware", NULL, NULL, "as -bios" },
	{ "graphics", NULL, "on|off", "as -vga and -display say" },
	{ "hmat", NULL, "off", NULL },
	{ "hpet", "hpet", "on|off|auto", "high precision event timers (default: on)" },
	{ "i8042", "i8042", "on|off", "keyboard and mouse controller (default: on)" },
	{ "initrd", "initrd", NULL, "as -initrd" },
	{ "kernel", "kernel", NULL, "as -kernel" },
	{ "mem-merge", NULL, "on|off", "nothing: memory is not merged" },
	{ "nvdimm", NULL, "off", NULL },
	{ "pic", NULL, "on|auto", "the machine has 8259s" },
	{ "pit", "pit", "on|off|auto", "8254 timer (default: on)" },
	{ "sata", NULL, "on|off", "this machine has none in QEMU either" },
	{ "smbus", NULL, "off", NULL },
	{ "smm", NULL, "on|auto", "as far as the engine has it" },
	{ "suppress-vmdesc", NULL, "on|off", "nothing: saved states have a format of their own" },
	{ "usb", NULL, "off", NULL },
	{ "vmport", NULL, "off|auto", NULL },
};

void qemu_machine_help(FILE *out, bool of_machine)
{
	if (!of_machine) {
		fputs("Supported machines are:\n"
		      "pc                   Standard PC (i440FX + PIIX, 1996) (default)\n"
		      "pc-i440fx-7.2        the same: Vireo has one version of this machine, pc-1.0, for all of "
		      "QEMU's\n"
		      "none of others       (q35, microvm, isapc) is there\n",
		      out);
		return;
	}
	fputs("pc-machine options:\n  accel=<string>         - accelerators to try, as kvm:tcg\n"
	      "  kernel-irqchip=<on|off|split> - where KVM's interrupt controllers are\n"
	      "  memory-backend=<string> - id of a memory-backend-* object\n",
	      out);
	for (size_t n = 0; n < ARRAY_LEN(properties); n++)
		fprintf(out, "  %s=<%s>%s%s\n", properties[n].name,
			properties[n].values ? properties[n].values : "string", properties[n].help ? " - " : "",
			properties[n].help ? properties[n].help : "");
}

void qemu_accel_help(FILE *out)
{
	fputs("Accelerators supported in QEMU binary:\ntcg (the software engine: jit, or interp by "
	      "x-engine=interp)\nkvm\n",
	      out);
}

/* --- accelerators --- */

static bool kvm_is_there(struct engine_probe *p)
{
	const struct engine *e = engine_find("kvm");

	*p = (struct engine_probe){ 0 };
	if (e)
		e->probe(p);
	return e && p->available;
}

/* The translator, or the interpreter where it cannot be or is not wanted. */
static const char *software_engine(const char *wanted)
{
	const struct engine *jit = engine_find("jit");
	struct engine_probe p = { 0 };

	if (wanted)
		return wanted;
	if (jit)
		jit->probe(&p);
	return jit && p.available ? "jit" : "interp";
}

/* Of accelerators in the order of wish, the first that is there: true if `name` is it. */
static int try_accel(struct qemu *q, const struct qopts *o, const char *name, bool last, const char *software)
{
	struct engine_probe p;

	if (!strcmp(name, "tcg"))
		return qemu_set(q, o, NULL, "engine", software_engine(software)) ? -1 : 1;
	if (strcmp(name, "kvm") != 0)
		return last ? qopts_fail(o, q->err, "invalid accelerator %s", name) : 0;
	if (kvm_is_there(&p)) {
		q->kvm = true;
		return qemu_set(q, o, NULL, "engine", "kvm") ? -1 : 1;
	}
	return last ? qopts_fail(o, q->err, "failed to initialize kvm: %s", *p.why ? p.why : "not built in") : 0;
}

static int try_accels(struct qemu *q, const struct qopts *o, const char *list, bool last_of_all, const char *software)
{
	char *copy = strdup(list), *rest = copy, *name;
	int took = 0;

	if (!copy)
		return err_set(q->err, "out of memory");
	while (!took && (name = strsep(&rest, ":")))
		took = try_accel(q, o, name, last_of_all && !rest, software);
	free(copy);
	return took;
}

/* thread=, tb-size= and so on, of `-accel tcg`. `software`: x-engine=. */
static int read_accel_options(struct qemu *q, struct qopts *o, const char **software)
{
	const char *thread = qopts_get(o, "thread"), *size = qopts_get(o, "tb-size"),
		   *engine = qopts_get(o, "x-engine");
	const char *irqchip = qopts_get(o, "kernel-irqchip");
	char text[32];

	if (thread && strcmp(thread, "multi") != 0)
		return qopts_fail(o, q->err, "thread: '%s' is not there; each CPU has a thread of its own (multi)",
				  thread);
	if (engine && !qword_in("jit|interp", engine))
		return qopts_fail(o, q->err, "x-engine: '%s' is not one of jit, interp", engine);
	if (engine)
		*software = engine;
	if (irqchip && !qword_in("on|off|split", irqchip))
		return qopts_fail(o, q->err, "Parameter 'kernel-irqchip' does not accept value '%s'", irqchip);
	if (size) {
		snprintf(text, sizeof(text), "%.20sM", size);
		if (qemu_set(q, o, NULL, "jit.cache", text))
			return -1;
	}
	return 0;
}

/* Engines with local APICs of their own have them in one way, which is the nearest to "on" and "split". */
static int place_irqchip(struct qemu *q, struct qopts *o)
{
	const char *irqchip = qopts_get(o, "kernel-irqchip");

	if (!q->kvm || !irqchip)
		return 0;
	return qemu_set(q, o, NULL, "irqchip", strcmp(irqchip, "off") ? "split" : "user");
}

static int choose_accel(struct qemu *q)
{
	size_t len = strlen(q->program);
	const char *software = getenv("VIREO_QEMU_TCG"), *list = NULL;
	struct qopts *from = NULL;
	int took = 0;

	if (software && !*software)
		software = NULL;
	if (software && !qword_in("jit|interp", software))
		return err_set(q->err, "VIREO_QEMU_TCG: '%s' is not one of jit, interp", software);
	for (unsigned n = 0; n < q->machine.count; n++) {
		const char *accel = qopts_get(&q->machine.v[n], "accel");

		if (read_accel_options(q, &q->machine.v[n], &software))
			return -1;
		if (accel) {
			list = accel;
			from = &q->machine.v[n];
		}
	}
	if (list && q->accels.count)
		return err_set(q->err, "The -accel and \"-machine accel=\" options are incompatible");
	/* Also of those that come after one that is there, and are not tried. */
	for (unsigned n = 0; n < q->accels.count; n++) {
		if (!qopts_get(&q->accels.v[n], "accel"))
			return qopts_fail(&q->accels.v[n], q->err, "Parameter 'accel' is missing");
		if (read_accel_options(q, &q->accels.v[n], &software))
			return -1;
	}
	for (unsigned n = 0; !took && n < q->accels.count; n++) {
		const char *name = qopts_get(&q->accels.v[n], "accel");

		took = try_accels(q, &q->accels.v[n], name, n + 1 == q->accels.count, software);
		if (!took)
			qemu_warn(q, "%s is not there; trying the next accelerator", name);
	}
	/* By the name of the program, as QEMU chooses. */
	if (!list && !q->accels.count)
		list = len >= 3 && !strcmp(q->program + len - 3, "kvm") ? "kvm:tcg" : "tcg";
	if (list)
		took = try_accels(q, from, list, true, software);
	if (took < 0)
		return -1;
	for (unsigned n = 0; n < q->accels.count; n++)
		if (place_irqchip(q, &q->accels.v[n]) || qopts_all_read(&q->accels.v[n], q->err))
			return -1;
	return 0;
}

/* --- -machine --- */

static int check_type(struct qemu *q, struct qopts *o)
{
	const char *type = qopts_get(o, "type");
	size_t prefix = strlen("pc-i440fx-");

	if (!type || !strcmp(type, "pc") || !strcmp(type, "pc-1.0") ||
	    (!strncmp(type, "pc-i440fx-", prefix) && qword_in(pc_versions, type + prefix)))
		return 0;
	qopts_fail(o, q->err, "unsupported machine type '%s'\nUse -machine help to list supported machines", type);
	return -1;
}

static int set_property(struct qemu *q, struct qopts *o, struct qpair *p)
{
	for (size_t n = 0; n < ARRAY_LEN(properties); n++) {
		const struct property *r = &properties[n];

		if (strcmp(r->name, p->name) != 0)
			continue;
		p->used = true;
		if (r->values && !qvalue_in(r->values, p->value))
			return qopts_fail(o, q->err, "Property 'pc-machine.%s': '%s' is not there, only %s", r->name,
					  p->value, r->values);
		if (!strcmp(r->name, "firmware"))
			return qemu_bios(q, p->value);
		return r->key && strcmp(p->value, "auto") ? qemu_set(q, o, NULL, r->key, p->value) : 0;
	}
	return qopts_fail(o, q->err, "Property 'pc-machine.%s' not found", p->name);
}

static int read_machine(struct qemu *q, struct qopts *o)
{
	const char *backend = qopts_get(o, "memory-backend");

	if (check_type(q, o) || place_irqchip(q, o) || (backend && qemu_use_backend(q, o, backend)))
		return -1;
	for (unsigned n = 0; n < o->count; n++)
		if (!o->pair[n].used && set_property(q, o, &o->pair[n]))
			return -1;
	return 0;
}

/* --- -smp and -m --- */

static int read_count(struct qemu *q, struct qopts *o, const char *name, unsigned long *n)
{
	const char *text = qopts_get(o, name);
	char *end;

	if (!text)
		return 0;
	*n = strtoul(text, &end, 0);
	if (*end || end == text || *n > 4096)
		return qopts_fail(o, q->err, "Parameter 'smp.%s' expects a number", name);
	return *n ? 0 : qopts_fail(o, q->err, "CPU topology parameters must be greater than zero");
}

static int read_smp(struct qemu *q, struct qopts *o)
{
	unsigned long cpus = 0, most = 0, of[5] = { 0 }, all = 1;
	static const char *const levels[] = { "sockets", "dies", "clusters", "cores", "threads" };
	char text[24];

	if (read_count(q, o, "cpus", &cpus) || read_count(q, o, "maxcpus", &most))
		return -1;
	for (size_t n = 0; n < ARRAY_LEN(levels); n++) {
		if (read_count(q, o, levels[n], &of[n]))
			return -1;
		all *= of[n] ? of[n] : 1;
	}
	if (qopts_all_read(o, q->err))
		return -1;
	if (of[2] > 1)
		return qopts_fail(o, q->err, "clusters not supported by this machine's CPU topology");
	cpus = cpus ? cpus : most ? most : all;
	if (most && most != cpus)
		return qopts_fail(o, q->err, "CPUs cannot be plugged in: maxcpus is the number of CPUs or not given");
	/* One level that is not given makes up for the others. */
	if (all > cpus || cpus % all || (all != cpus && of[0] && of[3] && of[4]))
		return qopts_fail(o, q->err,
				  "Invalid CPU topology: product of the hierarchy must match maxcpus: "
				  "%lu of %lu",
				  all, cpus);
	if (of[1] > 1 || of[4] > 1 || (of[0] > 1 && of[3] > 1))
		qemu_warn(q, "%s: the guest sees %lu cores of one thread each", o->origin, cpus);
	if (cpus > 64)
		return qopts_fail(o, q->err, "Invalid SMP CPUs %lu. The max CPUs supported by machine 'pc' is 64 (64)",
				  cpus);
	snprintf(text, sizeof(text), "%lu", cpus);
	return qemu_set(q, o, NULL, "cpus", text);
}

static int read_memory(struct qemu *q, struct qopts *o)
{
	const char *size = qopts_get(o, "size"), *most = qopts_get(o, "maxmem"), *slots = qopts_get(o, "slots");
	uint64_t bytes, limit;

	if ((slots && strcmp(slots, "0")) || (most && !size))
		return qopts_fail(o, q->err, "memory cannot be plugged in: slots and maxmem are not there");
	if (size && parse_size(size, 1048576, &bytes))
		return qopts_fail(o, q->err,
				  "Parameter 'size' expects a size, as 512M or 2G; a bare number counts MiB");
	if (most && (parse_size(most, 1, &limit) || limit != bytes))
		return qopts_fail(o, q->err, "memory cannot be plugged in: maxmem is the size or not given");
	return qopts_all_read(o, q->err) || (size && qemu_set(q, o, NULL, "memory", size)) ? -1 : 0;
}

int qemu_finish_machine(struct qemu *q)
{
	if (choose_accel(q))
		return -1;
	for (unsigned n = 0; n < q->smp.count; n++)
		if (read_smp(q, &q->smp.v[n]))
			return -1;
	for (unsigned n = 0; n < q->memory.count; n++)
		if (read_memory(q, &q->memory.v[n]))
			return -1;
	/* What QEMU has without being asked. */
	if (qemu_set(q, NULL, NULL, "i8042", "on") || qemu_set(q, NULL, NULL, "rng", "off") ||
	    qemu_set(q, NULL, NULL, "hpet", "on") || qemu_set(q, NULL, NULL, "qmp.names", "qemu"))
		return -1;
	for (unsigned n = 0; n < q->machine.count; n++)
		if (read_machine(q, &q->machine.v[n]))
			return -1;
	if (qemu_use_backend(q, NULL, NULL))
		return -1;
	return config_peek(q->c, "memory") ? 0 : qemu_set(q, NULL, NULL, "memory", "128M");
}
