/* QEMU's options: the table, what takes a command line apart by it, and the help and the manual that are made of it. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cli/help.h"
#include "cli/qemu.h"

enum kind {
	Q_HEADING, /* of the help */
	Q_KEY,	   /* the key gets the argument */
	Q_ON,	   /* the key gets "on" */
	Q_LIST,	   /* pairs, kept in a list; `key` is the implied first name */
	Q_TEXT,	   /* the same, all of the text as the value of `key` */
	Q_DRIVE,   /* a drive with a file; `key` is the rest of its description */
	Q_FLAG,	   /* a bool of struct qemu */
	Q_PAIR,	   /* as if it were this pair of -machine */
	Q_CALL,	   /* a function takes the argument */
	Q_NOTHING, /* asks for what is so anyhow, or for what makes no difference */
	Q_REFUSED, /* QEMU has it and Vireo has not */
	Q_HELP,
	Q_VERSION
};

struct option {
	const char *name, *argument; /* NULL: takes none */
	enum kind kind;
	const char *key;
	size_t where; /* in struct qemu */
	int (*call)(struct qemu *q, const char *text);
	const char *help;
};

#define AT(field) offsetof(struct qemu, field)

/* clang-format off */
static const struct option options[] = {
	{ "Standard options", .kind = Q_HEADING },
	{ "h", NULL, Q_HELP, .help = "display this help and exit" },
	{ "help", NULL, Q_HELP, .help = "the same" },
	{ "version", NULL, Q_VERSION, .help = "display version information and exit" },
	{ "machine", "[type=]NAME[,PROP=VALUE]...", Q_LIST, "type", AT(machine), NULL,
	  "pc or pc-i440fx-VERSION; accel=tcg|kvm[:...], pit=, i8042=, kernel-irqchip= ('-machine help')" },
	{ "M", "NAME", Q_LIST, "type", AT(machine), NULL, "the same" },
	{ "cpu", "MODEL[,+FEATURE][,-FEATURE][,PROP=VALUE]...", Q_TEXT, "text", AT(cpus), NULL,
	  "CPU model ('-cpu help'; default: qemu64)" },
	{ "accel", "[accel=]NAME[,PROP=VALUE]...", Q_LIST, "accel", AT(accels), NULL,
	  "tcg (the software engine; x-engine=jit|interp, tb-size=MIB) or kvm; the first that is there" },
	{ "enable-kvm", NULL, Q_PAIR, "accel=kvm", 0, NULL, "as -machine accel=kvm" },
	{ "smp", "[cpus=]N[,sockets=N][,cores=N][,threads=N][,maxcpus=N]", Q_LIST, "cpus", AT(smp), NULL,
	  "number of CPUs (default: 1)" },
	{ "m", "[size=]MIB", Q_LIST, "size", AT(memory), NULL, "guest memory (default: 128 MiB)" },
	{ "mem-path", "PATH", Q_CALL, .call = qemu_mem_path, .help = "memory begins as that file is, or is in that directory" },
	{ "mem-prealloc", NULL, Q_FLAG, NULL, AT(mem_prealloc), NULL, "have the host give all memory at once" },
	{ "name", "[guest=]NAME[,debug-threads=on|off]", Q_LIST, "guest", AT(names), NULL, "name of the machine" },
	{ "uuid", "UUID", Q_KEY, "uuid", 0, NULL, "the machine's UUID" },
	{ "boot", "[order=]LETTERS[,once=LETTERS][,menu=on|off][,splash-time=MS]", Q_LIST, "order", AT(boots), NULL,
	  "what firmware starts: c disks, d CD-ROMs, n networks; once: up to the first reset" },
	{ "rtc", "[base=utc|localtime|DATETIME][,clock=host|vm]", Q_LIST, NULL, AT(rtcs), NULL, "the clock's time" },
	{ "device", "DRIVER[,PROP=VALUE]...", Q_LIST, "driver", AT(devices), NULL,
	  "add a device ('-device help', '-device DRIVER,help')" },
	{ "global", "DRIVER.PROP=VALUE", Q_TEXT, "text", AT(globals), NULL, "default of a device's property" },
	{ "object", "TYPE,id=ID[,PROP=VALUE]...", Q_LIST, "qom-type", AT(objects), NULL,
	  "iothread, rng-random, rng-builtin, memory-backend-ram, -memfd, -file" },
	{ "nodefaults", NULL, Q_FLAG, NULL, AT(nodefaults), NULL, "no devices but those that are named" },
	{ "L", "DIR", Q_CALL, .call = qemu_data_dir, .help = "where -bios looks for files, too" },

	{ "Block device options", .kind = Q_HEADING },
	{ "drive", "file=FILE[,if=ide|virtio|pflash|none][,media=disk|cdrom][,format=F][,OPTION=VALUE]...", Q_LIST, NULL,
	  AT(drives), NULL, "a drive; also index, id, readonly, snapshot, discard, aio, cache, werror, rerror" },
	{ "blockdev", "driver=DRIVER,node-name=NAME[,OPTION=VALUE]...", Q_LIST, "driver", AT(blockdevs), NULL,
	  "an image for a device's drive=; drivers are file, host_device and formats" },
	{ "hda", "FILE", Q_DRIVE, "if=ide,index=0,media=disk", 0, NULL, "IDE disk 0" },
	{ "hdb", "FILE", Q_DRIVE, "if=ide,index=1,media=disk", 0, NULL, "IDE disk 1" },
	{ "hdc", "FILE", Q_DRIVE, "if=ide,index=2,media=disk", 0, NULL, "IDE disk 2" },
	{ "hdd", "FILE", Q_DRIVE, "if=ide,index=3,media=disk", 0, NULL, "IDE disk 3" },
	{ "snapshot", NULL, Q_FLAG, NULL, AT(snapshot), NULL, "what is written to disks is forgotten at the end" },
	{ "cdrom", "FILE", Q_DRIVE, "if=ide,index=2,media=cdrom", 0, NULL, "CD-ROM image (IDE drive 2)" },

	{ "Network options", .kind = Q_HEADING },
	{ "netdev", "user|tap|bridge|socket|stream|dgram,id=ID[,OPTION=VALUE]...", Q_LIST, "type", AT(netdevs), NULL,
	  "a network for a card's netdev=" },
	{ "nic", "TYPE|none[,model=MODEL][,mac=ADDRESS][,OPTION=VALUE]...", Q_LIST, "type", AT(nics), NULL,
	  "a card and its network" },
	{ "net", "nic|TYPE|none[,OPTION=VALUE]...", Q_LIST, "type", AT(nets), NULL, "the same in two options" },

	{ "Character device options", .kind = Q_HEADING },
	{ "chardev", "BACKEND,id=ID[,OPTION=VALUE]...", Q_LIST, "backend", AT(chardevs), NULL,
	  "where a port leads, for a device's chardev= ('-chardev help')" },
	{ "serial", "WHERE", Q_TEXT, "where", AT(serials), NULL,
	  "the next serial port: stdio, mon:stdio, none, null, pty, vc, file:PATH, unix:PATH, tcp:HOST:PORT, chardev:ID" },
	{ "parallel", "none", Q_CALL, NULL, 0, NULL, "there is no parallel port" },
	{ "monitor", "WHERE", Q_TEXT, "where", AT(monitors), NULL, "a monitor for people at stdio, unix:PATH or tcp:HOST:PORT" },
	{ "qmp", "WHERE", Q_TEXT, "where", AT(monitors), NULL, "a QMP monitor there" },
	{ "qmp-pretty", "WHERE", Q_TEXT, "where", AT(monitors), NULL, "the same, in lines that people read" },
	{ "mon", "[chardev=]ID[,mode=readline|control]", Q_LIST, "chardev", AT(monitors), NULL, "a monitor at a -chardev" },

	{ "Display options", .kind = Q_HEADING },
	{ "nographic", NULL, Q_FLAG, NULL, AT(nographic), NULL, "no screen; the first serial port is the terminal" },
	{ "display", "none|vnc=WHERE", Q_CALL, .call = qemu_display, .help = "who shows the screen: nobody, or as -vnc" },
	{ "vga", "std|none", Q_CALL, .call = qemu_vga, .help = "graphics card (default: std)" },
	{ "vnc", ":N|127.0.0.1:N|unix:PATH|none[,tls-creds=ID,password-secret=ID]", Q_CALL, .call = qemu_vnc, .help = "let VNC viewers come" },

	{ "Kernel and firmware options", .kind = Q_HEADING },
	{ "kernel", "FILE", Q_CALL, .call = qemu_kernel, .help = "kernel: bzImage, vmlinux (ELF, PVH) or multiboot" },
	{ "append", "TEXT", Q_KEY, "append", 0, NULL, "kernel command line" },
	{ "initrd", "FILE", Q_KEY, "initrd", 0, NULL, "initial RAM disk, or the multiboot module" },
	{ "bios", "FILE", Q_CALL, .call = qemu_bios, .help = "firmware (default without -kernel: SeaBIOS)" },

	{ "fw_cfg", "[name=]NAME,file=FILE|string=TEXT", Q_LIST, "name", AT(fw_cfgs), NULL, "a file of fw_cfg" },
	{ "smbios", "type=0|1|3|11[,FIELD=TEXT]...", Q_LIST, NULL, AT(smbios), NULL,
	  "texts of SMBIOS: vendor, version, date; manufacturer, product, version, serial, uuid, sku, family; value" },

	{ "Life and debugging", .kind = Q_HEADING },
	{ "S", NULL, Q_ON, "paused", 0, NULL, "do not run before somebody says so" },
	{ "s", NULL, Q_PAIR, NULL, 0, NULL, "as -gdb tcp::1234" },
	{ "gdb", "tcp:[HOST]:PORT|unix:PATH", Q_CALL, .call = qemu_gdb, .help = "let a debugger attach" },
	{ "no-shutdown", NULL, Q_ON, "no-shutdown", 0, NULL, "pause instead of ending when the guest powers off" },
	{ "daemonize", NULL, Q_ON, "daemonize", 0, NULL, "go on in the background once the machine runs" },
	{ "runas", "USER|UID:GID", Q_KEY, "runas", 0, NULL, "become that user once all is open" },
	{ "pidfile", "FILE", Q_KEY, "pidfile", 0, NULL, "write the process id to FILE" },
	{ "D", "FILE", Q_KEY, "log", 0, NULL, "write log lines to FILE" },
	{ "no-reboot", NULL, Q_ON, "no-reboot", 0, NULL, "end instead of a reset" },
	{ "action", "reboot=|shutdown=|panic=|watchdog=ACTION", Q_LIST, NULL, AT(actions), NULL, "what is done when" },
	{ "d", "ITEM,...", Q_CALL, .call = qemu_debug_items, .help = "what to log ('-d help')" },
	{ "overcommit", "mem-lock=off|cpu-pm=off", Q_LIST, NULL, AT(overcommits), NULL,
	  "without effect: neither is there" },
	{ "sandbox", "on|off[,obsolete=|elevateprivileges=|spawn=|resourcecontrol=allow|deny]", Q_LIST, "enable",
	  AT(sandboxes), NULL, "system calls that fail (by itself: those that nobody needs)" },

	{ "Without effect", .kind = Q_HEADING },
	{ "no-user-config", NULL, Q_NOTHING, .help = "there are no configuration files of the user" },
	{ "no-fd-bootchk", NULL, Q_NOTHING, .help = "there are no floppy disks" },
	{ "only-migratable", NULL, Q_NOTHING, .help = "all devices can be saved" },
	{ "msg", "timestamp=on|off", Q_NOTHING, .help = "messages have no time" },

	/* Those that many know, with the reason why not. */
	{ "Refused", .kind = Q_HEADING },
	{ "fda", "FILE", Q_REFUSED, .help = "there are no floppy disks" },
	{ "fdb", "FILE", Q_REFUSED, .help = "there are no floppy disks" },
	{ "usb", NULL, Q_REFUSED, .help = "there is no USB" },
	{ "usbdevice", "NAME", Q_REFUSED, .help = "there is no USB" },
	{ "audio", "TEXT", Q_REFUSED, .help = "there is no sound" },
	{ "audiodev", "TEXT", Q_REFUSED, .help = "there is no sound" },
	{ "spice", "TEXT", Q_REFUSED, .help = "there is no SPICE" },
	{ "incoming", "URI", Q_REFUSED, .help = "saved machines are restored by 'vireo restore'" },
	{ "loadvm", "TAG", Q_REFUSED, .help = "saved machines are restored by 'vireo restore'" },
	{ "numa", "TEXT", Q_REFUSED, .help = "there is one node" },
	{ "icount", "TEXT", Q_REFUSED, .help = "'vireo run --clock icount' counts instructions" },
	{ "tpmdev", "TEXT", Q_REFUSED, .help = "there is no TPM" },
	{ "virtfs", "TEXT", Q_REFUSED, .help = "there are no shared directories" },
	{ "fsdev", "TEXT", Q_REFUSED, .help = "there are no shared directories" },
	{ "no-acpi", NULL, Q_REFUSED, .help = "the machine has ACPI" },
	{ "plugin", "TEXT", Q_REFUSED, .help = "there are no plugins" },
	{ "trace", "TEXT", Q_REFUSED, .help = "there are no trace events" },
	{ "readconfig", "FILE", Q_REFUSED, .help = "'vireo run --config' reads files" },
};
/* clang-format on */

static const struct option *find_option(const char *name)
{
	for (size_t n = 0; n < ARRAY_LEN(options); n++)
		if (options[n].kind != Q_HEADING && !strcmp(options[n].name, name))
			return &options[n];
	return NULL;
}

/* A drive of a file whose name may have commas. */
static int add_drive(struct qemu *q, const char *option, const char *rest, const char *file)
{
	char *text = malloc(strlen(rest) + 2 * strlen(file) + 8), *to;
	struct qopts *o;

	if (!text)
		return err_set(q->err, "out of memory");
	to = text + sprintf(text, "%s,file=", rest);
	for (const char *p = file; *p; p++) {
		*to++ = *p;
		if (*p == ',')
			*to++ = ',';
	}
	*to = '\0';
	o = qlist_add(&q->drives, option, text, NULL, q->err);
	free(text);
	if (!o)
		return -1;
	free(o->origin);
	return asprintf(&o->origin, "%s%s%s", *option ? "-" : "", *option ? option : file, *option ? " ..." : "") < 0
		       ? (o->origin = NULL, err_set(q->err, "out of memory"))
		       : 0;
}

static bool wants_help(const char *text)
{
	return qword_in("help|?", text);
}

/* -device help, -machine pc,help and so on. True if it was that. */
static bool help_on(struct qemu *q, const struct option *o, const char *text)
{
	const char *comma = strrchr(text, ',');
	bool properties = comma && wants_help(comma + 1);

	if (o->where == AT(nics) || o->where == AT(nets))
		q->done = qemu_nic_help(stdout, text);
	if (q->done)
		return true;
	if (!wants_help(text) && !properties)
		return false;
	if (o->where == AT(machine)) {
		qemu_machine_help(stdout, properties);
	} else if (o->where == AT(cpus)) {
		qemu_cpu_help(stdout);
	} else if (o->where == AT(accels)) {
		qemu_accel_help(stdout);
	} else if (o->where == AT(devices)) {
		char name[64];

		snprintf(name, sizeof(name), "%.*s", (int)(properties ? comma - text : 0), text);
		if (!qemu_device_help(stdout, properties ? name : NULL))
			return false;
	} else if (o->where == AT(netdevs) || o->where == AT(nics)) {
		qemu_netdev_help(stdout);
	} else if (o->where == AT(chardevs)) {
		qemu_chardev_help(stdout);
	} else if (o->where == AT(objects)) {
		puts("List of user creatable objects:\n  filter-dump\n  iothread\n  memory-backend-file\n  "
		     "memory-backend-memfd\n  "
		     "memory-backend-ram\n  rng-builtin\n  rng-random");
	} else {
		return false;
	}
	q->done = true;
	return true;
}

/* DRIVER.PROP=VALUE, whose driver may have dots no more than its property, or pairs. */
static int add_global(struct qemu *q, const struct option *o, const char *text)
{
	const char *dot = strchr(text, '.'), *eq = strchr(text, '=');
	char pairs[512];

	if (!dot || !eq || eq < dot)
		return qlist_add(&q->globals, o->name, text, NULL, q->err) ? 0 : -1;
	snprintf(pairs, sizeof(pairs), "driver=%.*s,property=%.*s,value=%s", (int)(dot - text), text,
		 (int)(eq - dot - 1), dot + 1, eq + 1);
	return qlist_add(&q->globals, o->name, pairs, NULL, q->err) ? 0 : -1;
}

static int set_key(struct qemu *q, const struct option *o, const char *text)
{
	struct qopts from = { 0 };
	int rc;

	if (asprintf(&from.origin, "-%s %s", o->name, text) < 0)
		return err_set(q->err, "out of memory");
	rc = qemu_set(q, &from, NULL, o->key, text);
	qopts_free(&from);
	return rc;
}

static int take(struct qemu *q, const struct option *o, const char *text)
{
	struct qlist *list = (struct qlist *)((char *)q + o->where);

	switch (o->kind) {
	case Q_KEY:
		return set_key(q, o, text);
	case Q_ON:
		return qemu_set(q, NULL, NULL, o->key, "on");
	case Q_LIST:
		return help_on(q, o, text) || qlist_add(list, o->name, text, o->key, q->err) ? 0 : -1;
	case Q_TEXT:
		if (o->where == AT(globals))
			return add_global(q, o, text);
		return help_on(q, o, text) || qlist_add_text(list, o->name, text, o->key, q->err) ? 0 : -1;
	case Q_DRIVE:
		return add_drive(q, o->name, o->key, text);
	case Q_FLAG:
		*((bool *)q + o->where) = true;
		return 0;
	case Q_PAIR:
		if (!o->key)
			return qemu_gdb(q, "tcp::1234");
		return qlist_add(&q->machine, "machine", o->key, NULL, q->err) ? 0 : -1;
	case Q_CALL:
		if (o->call)
			return o->call(q, text);
		return strcmp(text, o->argument) ? err_set(q->err, "-%s %s: %s", o->name, text, o->help) : 0;
	case Q_NOTHING:
		return 0;
	case Q_REFUSED:
		return err_set(q->err, "-%s: not there: %s", o->name, o->help);
	case Q_HELP:
		qemu_help(q, stdout);
		q->done = true;
		return 0;
	case Q_VERSION:
		qemu_version(stdout);
		q->done = true;
		return 0;
	case Q_HEADING:
		break;
	}
	return -1;
}

int qemu_parse(struct qemu *q, int argc, char **argv)
{
	for (int n = 0; n < argc && !q->done; n++) {
		const char *arg = argv[n], *text = NULL;
		const struct option *o;

		if (*arg != '-' || !arg[1]) {
			if (add_drive(q, "", "if=ide,index=0,media=disk", arg))
				return -1;
			continue;
		}
		o = find_option(arg + 1 + (arg[1] == '-'));
		if (!o)
			return err_set(q->err, "%s: invalid option", arg);
		if (o->argument && n + 1 == argc)
			return err_set(q->err, "%s: requires an argument", arg);
		if (o->argument)
			text = argv[++n];
		if (take(q, o, text))
			return -1;
	}
	return 0;
}

/* --- documents --- */

void qemu_version(FILE *out)
{
	fputs("QEMU emulator version " QEMU_VERSION " (command line of Vireo " VIREO_VERSION ", which is not QEMU)\n",
	      out);
}

void qemu_help(const struct qemu *q, FILE *out)
{
	qemu_version(out);
	fprintf(out, "usage: %s [options] [disk_image]\n\n'disk_image' is an image for IDE hard disk 0\n", q->program);
	for (size_t n = 0; n < ARRAY_LEN(options); n++) {
		const struct option *o = &options[n];
		int width;

		if (o->kind == Q_HEADING) {
			fprintf(out, "\n%s:\n", o->name);
			continue;
		}
		width = fprintf(out, "-%s%s%s", o->name, o->argument ? " " : "", o->argument ? o->argument : "");
		if (width > 15)
			width = fprintf(out, "\n") - 1;
		fprintf(out, "%*s%s\n", 16 - width, "", o->help);
	}
}

static void man_option(FILE *out, const struct option *o)
{
	fputs(".TP\n.B \\-", out);
	cli_roff(out, o->name);
	if (o->argument) {
		fputs(" \\fI", out);
		cli_roff(out, o->argument);
		fputs("\\fR", out);
	}
	fputc('\n', out);
	cli_roff(out, o->help);
	fputs(".\n", out);
}

void qemu_man_page(FILE *out)
{
	fputs(".TH VIREO-QEMU 1 " VIREO_DATE " \"vireo " VIREO_VERSION "\" \"User Commands\"\n"
	      ".SH NAME\nvireo\\-qemu \\- run virtual machines by QEMU's command line\n"
	      ".SH SYNOPSIS\n.B vireo qemu\\-system\\-x86_64\n[\\fIOPTION\\fR]... [\\fIDISK\\fR]\n.br\n"
	      ".B qemu\\-system\\-x86_64\n[\\fIOPTION\\fR]... [\\fIDISK\\fR]\n"
	      ".SH DESCRIPTION\nBy the command, or through a link to\n.BR vireo (1)\nthat is named\n"
	      ".BR qemu\\-system\\-x86_64 ,\n.B qemu\\-kvm\nor\n.BR kvm ,\n"
	      "Vireo takes QEMU's options and runs its own machine. What is unknown or absent is refused by name.\n"
	      ".SH OPTIONS\n",
	      out);
	for (size_t n = 0; n < ARRAY_LEN(options); n++) {
		if (options[n].kind == Q_HEADING)
			fprintf(out, ".SS %s\n", options[n].name);
		else
			man_option(out, &options[n]);
	}
	fputs(".SH ENVIRONMENT\n.TP\n.B VIREO_QEMU_TCG\n"
	      "The engine that \\-accel tcg means: jit or interp.\n"
	      ".SH EXIT STATUS\n0 when the guest or a signal ended the machine, 1 on an error; with "
	      "isa\\-debug\\-exit the\nguest chooses: (value << 1) | 1.\n.SH SEE ALSO\n.BR vireo (1)\n",
	      out);
}
