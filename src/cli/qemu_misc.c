/* The options of QEMU that are about the machine as a whole, its boot and its life. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "cli/qemu.h"

/* --- where a machine begins --- */

/* As QEMU says it, for scripts look for these words. */
int qemu_kernel(struct qemu *q, const char *text)
{
	struct qopts o = { 0 };
	int rc;

	if (asprintf(&o.origin, "could not load kernel '%s'", text) < 0)
		return err_set(q->err, "out of memory");
	rc = qemu_set(q, &o, NULL, "kernel", text);
	qopts_free(&o);
	return rc;
}

/* Where QEMU and others have the images that are named without a directory. */
static int find_firmware(struct qemu *q, const char *name)
{
	const char *const dirs[] = { ".", q->data_dir, "/usr/share/qemu", "/usr/share/seabios", "/usr/share/ovmf" };
	char path[1024];

	for (size_t n = 0; n < ARRAY_LEN(dirs); n++) {
		snprintf(path, sizeof(path), "%s/%s", dirs[n] ? dirs[n] : "", name);
		if (dirs[n] && !access(path, F_OK))
			return qemu_set(q, NULL, NULL, "firmware", path);
	}
	return err_set(q->err, "could not load PC BIOS '%s'", name);
}

/* A path is told from the words of that key by its slash. */
static int use_bios(struct qemu *q)
{
	if (!q->bios)
		return 0;
	if (config_peek(q->c, "firmware"))
		return err_set(q->err, "-bios %s: there is flash with firmware", q->bios);
	if (!strchr(q->bios, '/'))
		return find_firmware(q, q->bios);
	return access(q->bios, F_OK) ? err_set(q->err, "could not load PC BIOS '%s'", q->bios)
				     : qemu_set(q, NULL, NULL, "firmware", q->bios);
}

int qemu_bios(struct qemu *q, const char *text)
{
	q->bios = text;
	return 0;
}

int qemu_data_dir(struct qemu *q, const char *text)
{
	q->data_dir = text;
	return 0;
}

/* "cdn": letters of kinds; a floppy is a drive that nobody has. */
static int boot_kinds(struct qemu *q, struct qopts *o, const char *key, const char *letters)
{
	static const char *const kinds[] = { ['c'] = "disk", ['d'] = "cdrom", ['n'] = "net" };
	char list[32] = "";

	for (const char *p = letters; *p; p++) {
		size_t at = strlen(list);

		if (*p == 'a' || *p == 'b')
			continue;
		if (*p != 'c' && *p != 'd' && *p != 'n')
			return qopts_fail(o, q->err, "Invalid boot device '%c'", *p);
		if (strstr(list, kinds[(unsigned char)*p]))
			return qopts_fail(o, q->err, "Boot device '%c' was given twice", *p);
		snprintf(list + at, sizeof(list) - at, "%s%s", at ? "," : "", kinds[(unsigned char)*p]);
	}
	return *list && !config_peek(q->c, "kernel") ? qemu_set(q, o, NULL, key, list) : 0;
}

static int read_boot(struct qemu *q, struct qopts *o)
{
	const char *order = qopts_get(o, "order"), *once = qopts_get(o, "once"), *wait = qopts_get(o, "splash-time");
	bool menu, strict;

	if (qopts_bool(o, "menu", false, &menu, q->err) || qopts_bool(o, "strict", false, &strict, q->err) ||
	    qopts_all_read(o, q->err) || (order && boot_kinds(q, o, "boot.order", order)) ||
	    (once && boot_kinds(q, o, "boot.once", once)))
		return -1;
	if (!menu || config_peek(q->c, "kernel"))
		return 0;
	return qemu_set(q, o, NULL, "boot.menu", wait ? wait : "2500");
}

/* --- names and time --- */

static int read_name(struct qemu *q, struct qopts *o)
{
	const char *guest = qopts_get(o, "guest"), *threads = qopts_get(o, "debug-threads");

	/* Threads always have their names. */
	if (threads && parse_bool(threads) < 0)
		return qopts_fail(o, q->err, "Parameter 'debug-threads' expects 'on' or 'off'");
	return qopts_all_read(o, q->err) || (guest && qemu_set(q, o, NULL, "name", guest)) ? -1 : 0;
}

/* The time that a clock which shows local time has now. */
static void local_time(char text[32])
{
	time_t now = time(NULL);
	struct tm tm;

	localtime_r(&now, &tm);
	strftime(text, 32, "%Y-%m-%dT%H:%M:%S", &tm);
}

static int read_rtc(struct qemu *q, struct qopts *o)
{
	const char *base = qopts_get(o, "base"), *clock = qopts_get(o, "clock"), *drift = qopts_get(o, "driftfix");
	char text[32], *end;
	struct tm tm = { 0 };

	if ((clock && !qword_in("host|vm", clock)) || (drift && strcmp(drift, "none") != 0))
		return qopts_fail(o, q->err, "clock is host or vm, and driftfix none");
	if (qopts_all_read(o, q->err))
		return -1;
	if (!base || !strcmp(base, "utc"))
		return 0;
	if (!strcmp(base, "localtime"))
		local_time(text);
	else
		snprintf(text, sizeof(text), "%.20s%s", base, strchr(base, 'T') ? "" : "T00:00:00");
	end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	if (!end || *end)
		return qopts_fail(o, q->err,
				  "invalid datetime format: valid are '2006-06-17T16:01:21' and '2006-06-17'");
	return qemu_set(q, o, NULL, "clock.base", text);
}

/* --- what ends it --- */

/* Of each event: what QEMU calls its actions, and the value of the key. NULL: the default, nothing to set. */
static const struct action {
	const char *event, *action, *key, *value;
} actions[] = {
	{ "reboot", "reset", NULL, NULL },
	{ "reboot", "shutdown", "no-reboot", "on" },
	{ "shutdown", "poweroff", NULL, NULL },
	{ "shutdown", "pause", "no-shutdown", "on" },
	{ "panic", "shutdown", "pvpanic.action", "shutdown" },
	{ "panic", "pause", "pvpanic.action", "pause" },
	{ "panic", "none", "pvpanic.action", "none" },
	{ "panic", "exit-failure", "pvpanic.action", "exit-failure" },
	{ "watchdog", "reset", "i6300esb.action", "reset" },
	{ "watchdog", "shutdown", "i6300esb.action", "shutdown" },
	{ "watchdog", "poweroff", "i6300esb.action", "shutdown" },
	{ "watchdog", "pause", "i6300esb.action", "pause" },
	{ "watchdog", "none", "i6300esb.action", "none" },
	{ "watchdog", "inject-nmi", "i6300esb.action", "inject-nmi" },
};

/* An action of a device that is not there is for nothing. */
static bool has_device_of(struct qemu *q, const char *key)
{
	char device[32];
	const char *is;

	snprintf(device, sizeof(device), "%.*s", (int)strcspn(key, "."), key);
	is = config_peek(q->c, device);
	return !strchr(key, '.') || (is && !strcmp(is, "on"));
}

static int read_action(struct qemu *q, struct qopts *o)
{
	for (size_t n = 0; n < ARRAY_LEN(actions); n++) {
		const struct action *a = &actions[n];
		const char *value = qopts_get(o, a->event);
		bool listed = false;

		for (size_t k = 0; value && k < ARRAY_LEN(actions); k++)
			listed |= !strcmp(actions[k].event, a->event) && !strcmp(actions[k].action, value);
		if (value && !listed)
			return qopts_fail(o, q->err, "Parameter '%s' does not accept value '%s'", a->event, value);
		if (value && a->key && !strcmp(a->action, value) && has_device_of(q, a->key) &&
		    qemu_set(q, o, NULL, a->key, a->value))
			return -1;
	}
	return qopts_all_read(o, q->err);
}

/* --- debugging --- */

/* "tcp:HOST:PORT,server,nowait": what comes behind the address is as it is anyhow. */
int qemu_gdb(struct qemu *q, const char *text)
{
	char address[256];
	size_t n = strcspn(text, ",");

	if (n >= sizeof(address) ||
	    (text[n] && !qword_in(",server|,server,nowait|,server=on,wait=off|,server=on", text + n)))
		return err_set(q->err, "-gdb %s: gdbstub: the address is tcp:[HOST]:PORT or unix:PATH", text);
	snprintf(address, sizeof(address), "%.*s", (int)n, text);
	if (!strncmp(address, "tcp::", 5))
		return qemu_set(q, NULL, NULL, "gdb", address + 5);
	if (!strncmp(address, "tcp:", 4))
		return qemu_set(q, NULL, NULL, "gdb", address + 4);
	if (!strcmp(address, "none") || !strncmp(address, "unix:", 5))
		return qemu_set(q, NULL, NULL, "gdb", address);
	return err_set(q->err, "-gdb %s: gdbstub: the address is tcp:[HOST]:PORT or unix:PATH", text);
}

static const char debug_items[] = "guest_errors|unimp";

/* What the log has anyhow. */
int qemu_debug_items(struct qemu *q, const char *text)
{
	char *copy, *rest, *item;
	int rc = 0;

	if (qword_in("help|?", text)) {
		puts("Log items (comma separated):\n"
		     "guest_errors    log when the guest OS does something invalid (always on)\n"
		     "unimp           log unimplemented functionality (always on)");
		q->done = true;
		return 0;
	}
	copy = rest = strdup(text);
	if (!copy)
		return err_set(q->err, "out of memory");
	while (!rc && (item = strsep(&rest, ",")))
		if (!qword_in(debug_items, item))
			rc = err_set(q->err, "-d %s: unknown log item '%s'; there are guest_errors and unimp", text,
				     item);
	free(copy);
	return rc;
}

/* --- the screen --- */

int qemu_vnc(struct qemu *q, const char *text)
{
	return qlist_add(&q->vncs, "vnc", text, "vnc", q->err) ? 0 : -1;
}

/* An -object `id` of this type that `name` of -vnc leads to; NULL with an error. */
static struct qopts *find_object(struct qemu *q, struct qopts *o, const char *name, const char *type)
{
	const char *id = qopts_get(o, name);
	struct qopts *object = qlist_find(&q->objects, "id", id);
	const char *is = object ? qopts_get(object, "qom-type") : NULL;

	if (is && !strcmp(is, type))
		return object;
	qopts_fail(o, q->err, "Property '%s' can't find value '%s' of type %s", name, id, type);
	return NULL;
}

/* tls-creds= and password-secret=, which go together. */
static int read_vnc_security(struct qemu *q, struct qopts *o)
{
	struct qopts *creds, *secret;
	bool password;

	if (qopts_bool(o, "password", false, &password, q->err))
		return -1;
	if (password && !qopts_get(o, "password-secret"))
		return qopts_fail(o, q->err, "a password that a monitor sets is not there; give password-secret=ID");
	if (!qopts_get(o, "tls-creds") && !qopts_get(o, "password-secret"))
		return 0;
	if (!qopts_get(o, "tls-creds") || !qopts_get(o, "password-secret"))
		return qopts_fail(o, q->err, "tls-creds= and password-secret= go together");
	creds = find_object(q, o, "tls-creds", "tls-creds-x509");
	secret = creds ? find_object(q, o, "password-secret", "secret") : NULL;
	if (!secret)
		return -1;
	if (!qopts_get(creds, "dir") || !qopts_get(creds, "endpoint") || !qopts_get(creds, "verify-peer"))
		return qopts_fail(creds, q->err,
				  "dir=DIR,endpoint=server,verify-peer=off are needed: viewers have no certificates");
	if (!qopts_get(secret, "file"))
		return qopts_fail(secret, q->err, "file=FILE is needed");
	return qemu_set(q, o, "vnc", "tls-creds", qopts_get(creds, "dir")) ||
			       qemu_set(q, o, "vnc", "password-file", qopts_get(secret, "file"))
		       ? -1
		       : 0;
}

/* ":N", "HOST:N" (a display, whose port is 5900 + N) and "unix:PATH". */
static int read_vnc(struct qemu *q, struct qopts *o)
{
	const char *text = qopts_get(o, "vnc"), *colon = text ? strrchr(text, ':') : NULL;
	char where[256], *end;
	unsigned long n = 0;

	if (text && (!strcmp(text, "none") || !strncmp(text, "unix:", 5)))
		snprintf(where, sizeof(where), "%s", text);
	else
		n = colon ? strtoul(colon + 1, &end, 10) : 0;
	if (!text ||
	    (strcmp(text, "none") && strncmp(text, "unix:", 5) && (!colon || end == colon + 1 || *end || n > 59635)))
		return qopts_fail(o, q->err, "a display is :N, 127.0.0.1:N or unix:PATH");
	if (colon == text || !strncmp(text, "localhost:", 10))
		snprintf(where, sizeof(where), "127.0.0.1:%lu", 5900 + n);
	else if (strcmp(text, "none") && strncmp(text, "unix:", 5))
		snprintf(where, sizeof(where), "%.*s:%lu", (int)(colon - text < 200 ? colon - text : 200), text,
			 5900 + n);
	return read_vnc_security(q, o) || qopts_all_read(o, q->err) || qemu_set(q, o, NULL, "vnc", where) ? -1 : 0;
}

int qemu_display(struct qemu *q, const char *text)
{
	if (qword_in("help|?", text)) {
		puts("Available display backend types:\nnone\nvnc");
		q->done = true;
		return 0;
	}
	if (!strncmp(text, "vnc=", 4))
		return qemu_vnc(q, text + 4);
	return strcmp(text, "none")
		       ? err_set(q->err, "-display %s: Parameter 'type' does not accept value '%s'", text, text)
		       : 0;
}

int qemu_vga(struct qemu *q, const char *text)
{
	if (qword_in("help|?", text)) {
		puts("none                 no graphic card\nstd                  standard VGA (default)");
		q->done = true;
		return 0;
	}
	q->vga = text;
	return qword_in("none|std", text) ? 0 : err_set(q->err, "-vga %s: unknown vga type: %s", text, text);
}

/* QEMU has one unless somebody says otherwise, whatever shows it. */
static int add_vga(struct qemu *q)
{
	bool wanted = q->vga ? !strcmp(q->vga, "std") : !q->nodefaults;

	if (config_peek(q->c, "vga"))
		return q->vga && wanted ? err_set(q->err, "-vga %s: there is one by -device", q->vga) : 0;
	/* A VNC server brings one in any case. */
	if (!wanted && config_peek(q->c, "vnc"))
		return 0;
	if (qemu_set(q, NULL, NULL, "vga", wanted ? "std" : "none"))
		return -1;
	return wanted ? qemu_set_globals(q, "VGA", "vga") : 0;
}

/* --- the process --- */

static int read_overcommit(struct qemu *q, struct qopts *o)
{
	bool lock, power;

	if (qopts_bool(o, "mem-lock", false, &lock, q->err) || qopts_bool(o, "cpu-pm", false, &power, q->err))
		return -1;
	if (lock || power)
		return qopts_fail(o, q->err, "%s=on is not there", lock ? "mem-lock" : "cpu-pm");
	return qopts_all_read(o, q->err);
}

/* enable= and the groups of calls, by the keys of their names. */
static int read_sandbox(struct qemu *q, struct qopts *o)
{
	static const char *const groups[] = { "obsolete", "elevateprivileges", "spawn", "resourcecontrol" };
	bool on;

	if (qopts_bool(o, "enable", false, &on, q->err))
		return -1;
	for (size_t n = 0; n < ARRAY_LEN(groups); n++) {
		const char *value = qopts_get(o, groups[n]);

		if (value && !qword_in(n == 1 ? "allow|deny|children" : "allow|deny", value))
			return qopts_fail(o, q->err, "invalid argument for %s", groups[n]);
		if (value && on && qemu_set(q, o, "sandbox", groups[n], value))
			return -1;
	}
	return qopts_all_read(o, q->err) || qemu_set(q, o, NULL, "sandbox", on ? "on" : "off") ? -1 : 0;
}

static int each(struct qemu *q, struct qlist *l, int (*read)(struct qemu *q, struct qopts *o))
{
	for (unsigned n = 0; n < l->count; n++)
		if (read(q, &l->v[n]))
			return -1;
	return 0;
}

static int check_kernel_options(struct qemu *q)
{
	static const char *const with[] = { "append", "initrd" };

	for (size_t n = 0; n < ARRAY_LEN(with); n++)
		if (config_peek(q->c, with[n]) && !config_peek(q->c, "kernel"))
			return err_set(q->err, "-%s only allowed with -kernel option", with[n]);
	return config_peek(q->c, "kernel") || config_peek(q->c, "firmware")
		       ? 0
		       : qemu_set(q, NULL, NULL, "firmware", "bios");
}

int qemu_finish_misc(struct qemu *q)
{
	return each(q, &q->vncs, read_vnc) || add_vga(q) || use_bios(q) || check_kernel_options(q) ||
			       each(q, &q->names, read_name) || each(q, &q->boots, read_boot) ||
			       each(q, &q->rtcs, read_rtc) || each(q, &q->actions, read_action) ||
			       each(q, &q->overcommits, read_overcommit) || each(q, &q->sandboxes, read_sandbox) ||
			       each(q, &q->smbios, qemu_smbios) || each(q, &q->fw_cfgs, qemu_fw_cfg)
		       ? -1
		       : 0;
}
