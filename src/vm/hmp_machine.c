/* The monitor's commands that do something to the machine. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "vm/gdb.h"
#include "vm/hmp.h"
#include "vm/impl.h"

static void stop(struct hmp *h, const struct hmp_args *a)
{
	hmp_do(h, "stop", NULL);
}

static void cont(struct hmp *h, const struct hmp_args *a)
{
	hmp_do(h, "cont", NULL);
}

static void reset(struct hmp *h, const struct hmp_args *a)
{
	hmp_do(h, "system_reset", NULL);
}

static void powerdown(struct hmp *h, const struct hmp_args *a)
{
	hmp_do(h, "system_powerdown", NULL);
}

static void wakeup(struct hmp *h, const struct hmp_args *a)
{
	hmp_do(h, "system_wakeup", NULL);
}

static void nmi(struct hmp *h, const struct hmp_args *a)
{
	hmp_do(h, "inject-nmi", NULL);
}

static void quit(struct hmp *h, const struct hmp_args *a)
{
	h->quit = true;
	hmp_do(h, "quit", NULL);
}

static void cpu(struct hmp *h, const struct hmp_args *a)
{
	if (a->arg[0].n < 0 || a->arg[0].n >= h->vm->cpus)
		fprintf(h->out, "invalid CPU index\n");
	else
		h->cpu = (unsigned)a->arg[0].n;
}

static void balloon(struct hmp *h, const struct hmp_args *a)
{
	uint64_t mib = (uint64_t)a->arg[0].n;

	hmp_do(h, "balloon", json_pack("{s:I}", "value", (json_int_t)(mib < 1ull << 43 ? mib << 20 : 0)));
}

/* "ctrl-alt-f2"; a key is a name, or a number as 0x3b. */
static json_t *keys_of(struct hmp *h, const char *text)
{
	json_t *list = json_array();

	while (*text) {
		/* '-' is a key, too. */
		size_t len = *text == '-' ? 1 : strcspn(text, "-");
		char name[32];

		snprintf(name, sizeof(name), "%.*s", (int)(len < 31 ? len : 31), text);
		if (!strcmp(name, "-"))
			strcpy(name, "minus");
		if (!input_key(name)) {
			fprintf(h->out, "invalid parameter: %s\n", name);
			json_decref(list);
			return NULL;
		}
		json_array_append_new(list, json_pack("{s:s,s:s}", "type", "qcode", "data", name));
		text += len + (text[len] == '-');
	}
	return list;
}

static void sendkey(struct hmp *h, const struct hmp_args *a)
{
	json_t *keys = keys_of(h, a->arg[0].s);

	if (keys)
		hmp_do(h, "send-key", json_pack("{s:o}", "keys", keys));
}

static void screendump(struct hmp *h, const struct hmp_args *a)
{
	json_t *args = json_pack("{s:s}", "filename", a->arg[0].s);

	if (a->arg[1].given != a->arg[2].given) {
		fprintf(h->out, "screendump: a format comes with -f\n");
		json_decref(args);
		return;
	}
	if (a->arg[2].given)
		json_object_set_new(args, "format", json_string(a->arg[2].s));
	hmp_do(h, "screendump", args);
}

static void set_link(struct hmp *h, const struct hmp_args *a)
{
	hmp_do(h, "set_link", json_pack("{s:s,s:b}", "name", a->arg[0].s, "up", (int)a->arg[1].n));
}

static void migrate(struct hmp *h, const struct hmp_args *a)
{
	hmp_do(h, "migrate", json_pack("{s:s}", "uri", a->arg[1].s));
}

static void migrate_cancel(struct hmp *h, const struct hmp_args *a)
{
	hmp_do(h, "migrate_cancel", NULL);
}

static void gdbserver(struct hmp *h, const struct hmp_args *a)
{
	const char *device = a->arg[0].given ? a->arg[0].s : "tcp::1234", *where = device;
	struct err err;

	/* "tcp::PORT" is any address of QEMU's host, and of this host only here. */
	if (!strncmp(where, "tcp::", 5))
		where += 5;
	gdb_leave(h->vm->gdb);
	h->vm->gdb = NULL;
	if (!strcmp(device, "none"))
		fprintf(h->out, "Disabled gdbserver\n");
	else if (gdb_listen(h->vm, where, &h->vm->gdb, &err))
		fprintf(h->out, "Could not open gdbserver on device '%s': %s\n", device, err.msg);
	else
		fprintf(h->out, "Waiting for gdb connection on device '%s'\n", device);
}

/* What there is to log beside what is always logged: lines that a guest causes, which QEMU has two words for. */
static void log_items(struct hmp *h, const struct hmp_args *a)
{
	static const char *const items[] = { "none", "guest_errors", "unimp" };
	const char *p = a->arg[0].s;
	bool on = false;

	while (*p) {
		size_t len = strcspn(p, ","), n = 0;

		while (n < ARRAY_LEN(items) && (strlen(items[n]) != len || strncmp(items[n], p, len)))
			n++;
		if (n == ARRAY_LEN(items)) {
			fprintf(h->out, "Error: unknown log item '%.*s'; there are guest_errors, unimp and none\n",
				(int)len, p);
			return;
		}
		on |= n > 0;
		p += len + (p[len] == ',');
	}
	log_set_guest(on);
}

/* Names that people know, for what is not there yet. */
static void no_snapshot(struct hmp *h, const struct hmp_args *a)
{
	fprintf(h->out,
		"Error: %s needs snapshots inside a disk image, which no disk here keeps; `migrate file:PATH` and "
		"`vireo restore PATH` save and load a machine\n",
		a->command->name);
}

const struct hmp_command hmp_machine_commands[] = {
	{ "balloon", "target:n", "target", "request VM to change its memory allocation (in MB)", balloon },
	{ "cont|c", "", "", "resume emulation", cont },
	{ "cpu", "index:n", "index", "set the default CPU", cpu },
	{ "delvm", "tag:s", "tag", "delete a VM snapshot from its tag", no_snapshot },
	{ "gdbserver", "device:s?", "[device]",
	  "start gdbserver on given device (default 'tcp::1234'), stop with 'none'", gdbserver },
	{ "loadvm", "tag:s", "tag", "restore a VM snapshot from its tag", no_snapshot },
	{ "log", "items:s", "item1[,...]", "activate logging of the specified items", log_items },
	{ "migrate", "detach:-d uri:s", "[-d] uri", "save the machine to URI, file:PATH", migrate },
	{ "migrate_cancel", "", "", "cancel the current save", migrate_cancel },
	{ "nmi", "", "", "inject an NMI", nmi },
	{ "quit|q", "", "", "quit the emulator", quit },
	{ "savevm", "tag:s?", "tag", "save a VM snapshot", no_snapshot },
	{ "screendump", "file:s flag:-f format:s?", "filename [-f png|ppm]", "save the screen as a picture",
	  screendump },
	{ "sendkey", "keys:s hold:n?", "keys [hold_ms]", "send keys to the VM (e.g. 'sendkey ctrl-alt-f1')", sendkey },
	{ "set_link", "name:s up:b", "name on|off", "change the link status of a network adapter", set_link },
	{ "stop|s", "", "", "stop emulation", stop },
	{ "system_powerdown", "", "", "send system power down event", powerdown },
	{ "system_reset", "", "", "reset the system", reset },
	{ "system_wakeup", "", "", "wakeup guest from suspend", wakeup },
	{ 0 },
};
