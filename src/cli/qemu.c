/* `vireo qemu-system-x86_64`, and this program by that name: QEMU's options, Vireo's machine. */
#include "cli/qemu.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cli/commands.h"
#include "vm/vm.h"

/* Slots that stay free for those that take them by themselves, as the graphics card does. */
#define FIRST_SLOT 4

int qemu_set(struct qemu *q, const struct qopts *o, const char *prefix, const char *key, const char *value)
{
	char full[96];

	snprintf(full, sizeof(full), "%s%s%s", prefix ? prefix : "", prefix ? "." : "", key);
	return config_set_from(q->c, full, value, o ? o->origin : NULL, q->err);
}

int qemu_set_names(struct qemu *q, struct qopts *device, const char *prefix, const char *id)
{
	const char *qdev = qopts_get(device, "id");

	return (id && qemu_set(q, device, prefix, "id", id)) || (qdev && qemu_set(q, device, prefix, "qdev", qdev)) ? -1
														    : 0;
}

void qemu_warn(const struct qemu *q, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: warning: ", q->program);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int qemu_on_pci(struct qemu *q, const struct qopts *o, const char *prefix, int slot)
{
	struct qemu_slot *s;

	for (unsigned n = 0; slot >= 0 && n < q->slot_count; n++)
		if (q->slots[n].slot == slot && strcmp(q->slots[n].prefix, prefix) != 0)
			return qopts_fail(o, q->err, "PCI: slot %d function 0 not available, in use by %s", slot,
					  q->slots[n].prefix);
	if (q->slot_count == ARRAY_LEN(q->slots))
		return qopts_fail(o, q->err, "PCI: no slot available");
	s = &q->slots[q->slot_count++];
	snprintf(s->prefix, sizeof(s->prefix), "%s", prefix);
	s->slot = slot;
	return 0;
}

/*
 * Those with an address have it; then the others could not take it by chance if they were made earlier, so they get
 * one, too. Without any, the machine chooses as always.
 */
static int give_slots(struct qemu *q)
{
	uint32_t taken = 0;
	unsigned next = FIRST_SLOT;

	for (unsigned n = 0; n < q->slot_count; n++)
		taken |= q->slots[n].slot < 0 ? 0 : 1u << q->slots[n].slot;
	if (!taken)
		return 0;
	for (unsigned n = 0; n < q->slot_count; n++) {
		struct qemu_slot *s = &q->slots[n];
		char text[16];

		while (s->slot < 0 && next < 32 && taken >> next & 1)
			next++;
		if (s->slot < 0 && next == 32)
			return err_set(q->err, "PCI: no slot available for %s", s->prefix);
		snprintf(text, sizeof(text), "%u", s->slot < 0 ? next++ : (unsigned)s->slot);
		if (qemu_set(q, NULL, s->prefix, "addr", text))
			return -1;
	}
	return 0;
}

static int finish(struct qemu *q)
{
	if (qemu_check_globals(q) || qemu_finish_machine(q) || qemu_finish_cpu(q) || qemu_finish_chars(q) ||
	    qemu_finish_drives(q) || qemu_finish_nics(q) || qemu_finish_devices(q) || qemu_default_serial(q) ||
	    qemu_finish_monitors(q) || qemu_check_netdevs(q) || qemu_check_dumps(q) || qemu_check_chardevs(q) ||
	    qemu_check_drives(q) || give_slots(q))
		return -1;
	/* After devices, whose keys some are about. */
	if (qemu_finish_misc(q))
		return -1;
	qemu_warn_of_globals(q);
	return 0;
}

static void free_lists(struct qemu *q)
{
	struct qlist *const lists[] = {
		&q->names,     &q->boots,     &q->rtcs,	   &q->actions, &q->fw_cfgs, &q->smbios,   &q->overcommits,
		&q->sandboxes, &q->vncs,      &q->machine, &q->accels,	&q->cpus,    &q->smp,	   &q->memory,
		&q->drives,    &q->blockdevs, &q->netdevs, &q->nics,	&q->nets,    &q->chardevs, &q->serials,
		&q->monitors,  &q->devices,   &q->globals, &q->objects,
	};

	for (size_t n = 0; n < ARRAY_LEN(lists); n++)
		qlist_free(lists[n]);
}

int qemu_configure(struct qemu *q, int argc, char **argv)
{
	int rc = qemu_parse(q, argc, argv);

	if (!rc && !q->done)
		rc = finish(q);
	free_lists(q);
	return rc;
}

const char *qemu_program(const char *path)
{
	static const char *const names[] = { "qemu-system-x86_64", "qemu-kvm", "kvm" };
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

	for (size_t n = 0; n < ARRAY_LEN(names); n++)
		if (!strcmp(names[n], name))
			return name;
	return NULL;
}

/* What ends a machine as QEMU tells it: by a signal, a reset that was not wanted and a panic it ends well. */
struct ending {
	const struct qemu *q;
	bool well;
};

static void look_at_end(struct vm *vm, void *opaque)
{
	struct ending *e = opaque;
	struct vm_ending by = vm_ending(vm);
	char path[40], name[64] = "";
	FILE *f;

	e->well = by.signal || by.fault;
	if (!by.signal)
		return;
	snprintf(path, sizeof(path), "/proc/%d/comm", by.from);
	f = by.from ? fopen(path, "r") : NULL;
	if (f && fgets(name, sizeof(name), f))
		name[strcspn(name, "\n")] = '\0';
	if (f)
		fclose(f);
	fprintf(stderr, "%s: terminating on signal %d", e->q->program, by.signal);
	fprintf(stderr, by.from ? " from pid %d (%s)\n" : "\n", by.from, *name ? name : "<unknown process>");
}

static int run_machine(struct qemu *q)
{
	struct ending end = { .q = q };
	const struct cli_after after = { look_at_end, &end };
	int status = cli_machine(q->c, NULL, &after);

	return end.well ? 0 : status;
}

int qemu_main(const char *program, int argc, char **argv)
{
	struct err err;
	struct qemu q = { .c = config_new(), .program = program, .err = &err };
	int status;

	cli_set_program(program);
	if (!q.c) {
		err_set(&err, "out of memory");
		return cli_fail(&err);
	}
	if (qemu_configure(&q, argc, argv))
		status = cli_fail(&err);
	else
		status = q.done ? 0 : run_machine(&q);
	config_free(q.c);
	return status;
}

static int run(int argc, char **argv)
{
	return qemu_main("qemu-system-x86_64", argc, argv);
}

const struct cli_command cli_qemu_command = {
	.name = "qemu-system-x86_64",
	.summary = "Run a virtual machine by QEMU's options",
	.operands = "[-OPTION [ARGUMENT]]... [DISK]",
	.text = "This program does the same by that name, through a link. 'vireo qemu-system-x86_64 -help' lists the\n"
		"options, docs/qemu.md tells what becomes what. What is unknown or absent is refused by name.",
	.run_raw = run,
};
