/* The configuration inside a saved state: what is kept, and what a restore may change. */
#include <fnmatch.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "vm/impl.h"
#include "vm/save_stream.h"

/* --- rules: patterns as of fnmatch(3) --- */

/* What the guest sees: a restore cannot change it. */
static const char *const fixed[] = {
	"machine",
	"uuid",
	"memory",
	"cpus",
	"cpu.*",
	"clock",
	"clock.*",
	"boot.*",
	"rng",
	"rng.*",
	"balloon",
	"balloon.*",
	"console0.*",
	"hpet",
	"hpet.*",
	"i6300esb",
	"i6300esb.addr",
	"i8042",
	"pvpanic",
	"pvpanic.ioport",
	"smbios.*",
	"fwcfg[0-9]*.*",
	"pit",
	"isa-debug-exit",
	"isa-debug-exit.*",
	"debugcon.*",
	"pc-testdev",
	"pci-testdev",
	"pci-testdev.*",
	"disk[0-9]*.addr",
	"disk[0-9]*.bus",
	"disk[0-9]*.feature.*",
	"disk[0-9]*.queues",
	"disk[0-9]*.serial",
	"disk[0-9]*.readonly",
	"disk[0-9]*.discard",
	"cdrom[0-9]*.addr",
	"[a-z]*[0-9]*.bootindex",
	"net[0-9]*.addr",
	"net[0-9]*.bus",
	"net[0-9]*.ctrl_vq",
	"net[0-9]*.duplex",
	"net[0-9]*.feature.*",
	"net[0-9]*.hash",
	"net[0-9]*.mtu",
	"net[0-9]*.queues",
	"net[0-9]*.mac",
	"net[0-9]*.model",
	"net[0-9]*.rom",
	"net[0-9]*.rss",
	"net[0-9]*.rx-queue-size",
	"net[0-9]*.speed",
	"net[0-9]*.tx-queue-size",
	"vga",
	"vga.*",
	NULL,
};

/* What a machine begins with: from another place perhaps, but it has it or has it not. */
static const char *const beginnings[] = { "kernel", "firmware", NULL };

/* What belongs to one run of the program. */
static const char *const transient[] = { "verbose",
					 "stats",
					 "paused",
					 "gdb",
					 "boot.once",
					 "daemonize",
					 "pidfile",
					 "log",
					 "runas",
					 "sandbox",
					 "sandbox.*",
					 "qmp[0-9]*",
					 "qmp.names",
					 "monitor[0-9]*",
					 "terminal.*",
					 "serial[0-9]*.wait",
					 "console0.wait",
					 "agent.wait",
					 "debugcon.wait",
					 "jit.count",
					 "jit.perf",
					 "trace.*",
					 "vnc",
					 "vnc.*",
					 "disk[0-9]*.changed",
					 "cdrom[0-9]*.changed",
					 NULL };

/* Files of the host, which mean the same from any directory once they are absolute. */
static const char *const paths[] = { "kernel",		"firmware",	  "firmware.vars",    "initrd",
				     "disk[0-9]*.path", "memory.path",	  "cdrom[0-9]*.path", "net[0-9]*.rom",
				     "net[0-9]*.tftp",	"net[0-9]*.dump", "vga.rom",	      NULL };

/* Values that every engine has by itself where it can: said or not, another engine goes on without. */
static const struct {
	const char *key, *value;
} preferences[] = { { "irqchip", "split" } };

/*
 * Where the user-mode network is, as the guest's addresses say: it stays with another word of that network's host side,
 * unless the new one says it.
 */
static const char *const places[] = { "net[0-9]*.net",
				      "net[0-9]*.host",
				      "net[0-9]*.dns",
				      "net[0-9]*.dhcpstart",
				      "net[0-9]*.ipv4",
				      "net[0-9]*.ipv6",
				      "net[0-9]*.ipv6-net",
				      "net[0-9]*.ipv6-host",
				      "net[0-9]*.ipv6-dns",
				      "net[0-9]*.hostname",
				      "net[0-9]*.domainname",
				      "net[0-9]*.dnssearch",
				      "net[0-9]*.tftp-server-name",
				      NULL };

/* The word of --disk and --net: given, it stands for a whole new host side. */
static const char *const leading[] = { "path", "backend", NULL };

static bool matches(const char *const *patterns, const char *key)
{
	for (; *patterns; patterns++)
		if (!fnmatch(*patterns, key, 0))
			return true;
	return false;
}

/* --- saving --- */

struct writer {
	FILE *f;
	char cwd[PATH_MAX];
};

static int put_key(void *opaque, const char *key, const char *value)
{
	struct writer *w = opaque;
	const char *file = matches(paths, key) ? value : !strncmp(value, "file:", 5) ? value + 5 : NULL;

	if (matches(transient, key))
		return 0;
	/* Only what is a file: a URL of a block device is not. */
	if (file && *file != '/' && !access(file, F_OK))
		fprintf(w->f, "%s = %.*s%s/%s\n", key, (int)(file - value), value, w->cwd, file);
	else
		fprintf(w->f, "%s = %s\n", key, value);
	return 0;
}

char *save_config_text(struct vm *vm, bool paused, size_t *len, struct err *err)
{
	struct writer w = { 0 };
	char *text = NULL;

	if (!getcwd(w.cwd, sizeof(w.cwd)))
		strcpy(w.cwd, ".");
	w.f = open_memstream(&text, len);
	if (!w.f) {
		err_set(err, "out of memory");
		return NULL;
	}
	config_each(vm->config, put_key, &w);
	/* Of several versions this program may make, the saved one. */
	if (!config_peek(vm->config, "machine"))
		fputs("machine = " VM_MACHINE "\n", w.f);
	if (paused)
		fputs("paused = on\n", w.f);
	if (!fclose(w.f))
		return text;
	free(text);
	err_set(err, "out of memory");
	return NULL;
}

/* --- loading --- */

struct merge {
	struct config *saved, *wishes, *result;
	struct err *err;
};

/* The user named another file or network for the device that `key` belongs to. */
static bool replaced(const struct merge *m, const char *key)
{
	const char *dot = strchr(key, '.');
	char first[64];

	for (const char *const *l = leading; dot && *l; l++) {
		const char *wish;

		snprintf(first, sizeof(first), "%.*s.%s", (int)(dot - key), key, *l);
		wish = config_peek(m->wishes, first);
		if (wish)
			return strcmp(wish, "user") || !matches(places, key);
	}
	return false;
}

static bool preferred(const char *key, const char *value)
{
	for (size_t n = 0; n < ARRAY_LEN(preferences); n++)
		if (!strcmp(key, preferences[n].key) && !strcmp(value, preferences[n].value))
			return true;
	return false;
}

/* Both by their names, and not the same; a file may be a copy of what was there. */
static bool other_firmware(const char *key, const char *saved, const char *wish)
{
	return !strcmp(key, "firmware") && !strchr(saved, '/') && !strchr(wish, '/') && strcmp(saved, wish);
}

/* The user's own word, to which the saved machine has added what its firmware wants: vm_add_firmware(). */
static bool is_model(const struct merge *m, const char *key, const char *saved, const char *wish)
{
	char text[512];
	int len = snprintf(text, sizeof(text), "%s,phys-bits=%d", wish, VM_FIRMWARE_PHYS_BITS);

	return !strcmp(key, "cpu.model") && config_peek(m->saved, "firmware") && len < (int)sizeof(text) &&
	       !strcmp(text, saved);
}

static int take_saved(void *opaque, const char *key, const char *value)
{
	struct merge *m = opaque;
	const char *wish = config_peek(m->wishes, key);

	if (!matches(fixed, key) && !(wish && other_firmware(key, value, wish)))
		return wish || replaced(m, key) || preferred(key, value) ? 0
									 : config_set(m->result, key, value, m->err);
	if (wish && strcmp(wish, value) && !is_model(m, key, value, wish))
		return err_set(m->err, "%s: '%s' is not what the saved machine has ('%s')", key, wish, value);
	return config_set(m->result, key, value, m->err);
}

static int take_wish(void *opaque, const char *key, const char *value)
{
	struct merge *m = opaque;

	if ((matches(fixed, key) || matches(beginnings, key)) && !config_peek(m->saved, key))
		return err_set(m->err, "%s: '%s' would change the saved machine, which was made without it", key,
			       value);
	/* What the guest sees is as it was saved. */
	return matches(fixed, key) ? 0 : config_set(m->result, key, value, m->err);
}

static int parse(char *text, struct config *c, struct err *err)
{
	char *line;

	while ((line = strsep(&text, "\n"))) {
		char *eq = strstr(line, " = ");

		if (!*line)
			continue;
		if (!eq)
			return err_set(err, "the saved configuration has a line without a value");
		*eq = 0;
		if (config_set(c, line, eq + 3, err))
			return -1;
	}
	return 0;
}

/* --- which devices there are --- */

static bool is_on(const struct config *c, const char *key, bool dflt)
{
	const char *value = config_peek(c, key);

	return value ? strcmp(value, "none") != 0 : dflt;
}

static bool has_drive(struct config *c, const char *key)
{
	return config_has(c, key);
}

static bool has_net(struct config *c, const char *key)
{
	char backend[32];

	snprintf(backend, sizeof(backend), "%s.backend", key);
	return config_has(c, key) && is_on(c, backend, true);
}

static bool has_serial0(struct config *c, const char *key)
{
	return is_on(c, key, true);
}

static bool has_port(struct config *c, const char *key)
{
	return is_on(c, key, false);
}

/* The guest agent's port is one of the console's device. */
static bool has_console(struct config *c, const char *key)
{
	return is_on(c, key, false) || is_on(c, "agent", false);
}

/* The guest finds those that it had: neither more nor fewer. */
static int check_devices(struct config *saved, struct config *result, struct err *err)
{
	static const struct {
		const char *key;
		bool series; /* with a number from 0 on behind it */
		bool (*has)(struct config *c, const char *key);
	} devices[] = {
		{ "disk", true, has_drive },	   { "cdrom", true, has_drive },    { "net", true, has_net },
		{ "serial0", false, has_serial0 }, { "serial1", false, has_port },  { "console0", false, has_console },
		{ "debugcon", false, has_port },   { "postcard", false, has_port },
	};
	char key[32];

	for (size_t k = 0; k < ARRAY_LEN(devices); k++) {
		for (unsigned n = 0; n < (devices[k].series ? VM_DISKS + 1 : 1); n++) {
			int len = snprintf(key, sizeof(key), "%s", devices[k].key);
			bool had;

			if (devices[k].series)
				snprintf(key + len, sizeof(key) - (size_t)len, "%u", n);
			had = devices[k].has(saved, key);
			if (had != devices[k].has(result, key))
				return err_set(err, "%s: the saved machine has %s, and a restore cannot change that",
					       key, had ? "this device" : "no such device");
		}
	}
	return 0;
}

int save_config_merge(char *text, struct config *c, struct err *err)
{
	struct merge m = { config_new(), c, config_new(), err };
	int rc = -1;

	if (!m.saved || !m.result)
		err_set(err, "out of memory");
	else if (!parse(text, m.saved, err) && !config_each(m.saved, take_saved, &m) &&
		 !config_each(c, take_wish, &m) && !check_devices(m.saved, m.result, err))
		rc = config_copy(c, m.result, err);
	config_free(m.saved);
	config_free(m.result);
	return rc;
}
