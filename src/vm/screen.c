/* The screen of a machine: the VGA with its memory, and what shows it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "dev/vga.h"
#include "vm/impl.h"
#include "vm/rundir.h"

#define MIB 1048576ull

/* --- VNC --- */

/* "127.0.0.1:5900", "[::1]:5900", ":1" (a display: port 5901 of this machine). */
static int parse_address(struct vm *vm, const char *text, struct err *err)
{
	struct vnc_config *c = &vm->screen.vnc;
	const char *colon = strrchr(text, ':'), *host = text;
	size_t len = colon ? (size_t)(colon - text) : 0;
	char *end = NULL;
	unsigned long port = 0;

	if (colon && colon[1] >= '0' && colon[1] <= '9')
		port = strtoul(colon + 1, &end, 10) + (len ? 0 : 5900);
	if (len > 2 && text[0] == '[' && text[len - 1] == ']') {
		host++;
		len -= 2;
	}
	if (!end || *end || !port || port > 65535 || len >= sizeof(vm->screen.vnc_host))
		return err_set(err,
			       "vnc: '%s' is not none, unix, unix:PATH, HOST:PORT as 127.0.0.1:5900, or :N for port "
			       "5900 + N of this machine",
			       text);
	snprintf(vm->screen.vnc_host, sizeof(vm->screen.vnc_host), "%.*s", (int)len, host);
	c->host = len ? vm->screen.vnc_host : "127.0.0.1";
	c->port = (uint16_t)port;
	return 0;
}

static bool is_loopback(const char *host)
{
	return !strncmp(host, "127.", 4) || !strcmp(host, "::1") || !strcmp(host, "localhost");
}

/* The first line of a file, which is not empty. */
static int read_password(struct vm *vm, const char *path, struct err *err)
{
	char *text = vm->screen.vnc_password;
	FILE *f = fopen(path, "re");

	if (!f)
		return err_errno(err, errno, "vnc.password-file: %s", path);
	if (!fgets(text, sizeof(vm->screen.vnc_password), f))
		text[0] = 0;
	fclose(f);
	text[strcspn(text, "\r\n")] = 0;
	if (!text[0])
		return err_set(err, "vnc.password-file: %s has no password in its first line", path);
	return strlen(text) + 1 == sizeof(vm->screen.vnc_password)
		       ? err_set(err, "vnc.password-file: the password in %s is too long", path)
		       : 0;
}

/*
 * A password and a certificate, or neither. With them neatvnc itself is at the socket of the run directory, which is
 * the user's alone.
 */
static int read_tls(struct vm *vm, struct err *err)
{
	struct vnc_config *c = &vm->screen.vnc;
	const char *file;

	if (config_str(vm->config, "vnc.tls-creds", NULL, &c->tls_creds, err) ||
	    config_str(vm->config, "vnc.password-file", NULL, &file, err))
		return -1;
	if (!c->tls_creds && !file)
		return c->host && !is_loopback(c->host)
			       ? err_set(err,
					 "vnc: %s is for others, too, who would need no password: give tls-creds=DIR "
					 "and password-file=FILE",
					 c->host)
			       : 0;
	if (!c->tls_creds || !file)
		return err_set(err, "vnc: tls-creds and password-file go together");
	if (!c->host)
		return err_set(err, "vnc.tls-creds: a Unix socket is the user's alone and has no password; give "
				    "HOST:PORT");
	c->password = vm->screen.vnc_password;
	c->path = vm->screen.vnc_path;
	return rundir_path(vm->rundir, "vnc.sock", vm->screen.vnc_path, sizeof(vm->screen.vnc_path), err) ||
			       read_password(vm, file, err)
		       ? -1
		       : 0;
}

/* "vnc": where viewers may come. Part of no saved machine's identity: a place on the host. */
static int read_vnc(struct vm *vm, struct err *err)
{
	struct vnc_config *c = &vm->screen.vnc;
	const char *where;

	if (config_str(vm->config, "vnc", "none", &where, err))
		return -1;
	if (!strcmp(where, "none"))
		return 0;
	if (!vm->screen.wanted)
		return err_set(err, "vnc: the machine has no screen, as vga is none");
	c->name = vm->name;
	if (!strcmp(where, "unix")) {
		if (rundir_path(vm->rundir, "vnc.sock", vm->screen.vnc_path, sizeof(vm->screen.vnc_path), err))
			return -1;
		c->path = vm->screen.vnc_path;
	} else if (!strncmp(where, "unix:", 5) && where[5]) {
		c->path = where + 5;
	} else if (parse_address(vm, where, err)) {
		return -1;
	}
	return read_tls(vm, err);
}

/* --- the device --- */

/* Without firmware what lies below 1 MiB is RAM: the window of the VGA is a hole in it. */
static int open_window(struct vm *vm, struct err *err)
{
	const struct mem_overlay_config c = { "vga", gpa(0xa0000), 0x20000, false, gpa(0) };
	int n;

	if (vm->firmware)
		return 0;
	n = mem_add_overlay(vm->mem, &c, err);
	if (n >= 0)
		mem_overlay_set(vm->mem, (unsigned)n, MEM_OVERLAY_HOLE);
	return n < 0 ? -1 : 0;
}

static int add_memory(struct vm *vm, struct err *err)
{
	struct mem_slot_config slot = { .name = "vga", .fd = -1 };
	int n;

	if (config_size(vm->config, "vga.memory", 16 * MIB, MIB, &vm->screen.size, err))
		return -1;
	slot.size = vm->screen.size;
	if (slot.size < VGA_MEMORY_MIN || slot.size > VGA_MEMORY_MAX || slot.size & (slot.size - 1))
		return err_set(err, "vga.memory: '%s' is not a power of two from 1M to 256M",
			       config_peek(vm->config, "vga.memory"));
	n = mem_add_movable(vm->mem, &slot, err);
	vm->screen.memory = (unsigned)n;
	return n < 0 ? -1 : 0;
}

/* Whoever wants to look at a screen wants one, and so does who starts a PC by the firmware of PCs. */
static bool is_expected(const struct vm *vm)
{
	const char *vnc = config_peek(vm->config, "vnc");

	return (vnc && strcmp(vnc, "none")) ||
	       (vm->firmware && (!strcmp(vm->firmware, "bios") || !strcmp(vm->firmware, "uefi")));
}

int vm_add_screen_memory(struct vm *vm, struct err *err)
{
	static const char *const kinds[] = { "none", "std", NULL };
	int kind;

	if (config_choice(vm->config, "vga", is_expected(vm), kinds, &kind, err) ||
	    config_choose(vm->config, "vga", kinds[kind], err))
		return -1;
	vm->screen.wanted = kind;
	if (read_vnc(vm, err))
		return -1;
	return kind && (open_window(vm, err) || add_memory(vm, err)) ? -1 : 0;
}

int vm_add_screen(struct vm *vm, struct err *err)
{
	struct vga_config c = {
		.bus = vm->bus,
		.pci = vm->pci,
		.clock = vm->clock,
		.mem = vm->mem,
		.memory = vm->screen.memory,
		.memory_size = (uint32_t)vm->screen.size,
		.blind = vm->engine->dirty_log != NULL,
		.moved = vm_remapped,
		.opaque = vm,
	};
	/* OVMF has a driver of its own. */
	const struct vm_rom rom = { "vgabios", VM_VGABIOS, vm->firmware && strcmp(vm->firmware, "uefi") };
	struct device *d;
	uint64_t slot;
	char text[8];

	if (!vm->screen.wanted)
		return 0;
	if (config_uint(vm->config, "vga.addr", 2, (struct config_range){ 1, 31 }, &slot, err))
		return -1;
	snprintf(text, sizeof(text), "%u", (unsigned)slot);
	if (config_choose(vm->config, "vga.addr", text, err) || vm_pci_name(vm, "vga", (unsigned)slot, err))
		return -1;
	c.devfn = (uint8_t)(slot << 3);
	d = vga_new(&c, &vm->screen.source, err);
	if (!d)
		return -1;
	vm_add_device(vm, d);
	return vm_add_rom(vm, "vga", &rom, err);
}

/* --- life --- */

int vm_start_screen(struct vm *vm, struct err *err)
{
	struct vnc_config *c = &vm->screen.vnc;

	if (!c->name)
		return 0;
	c->source = vm->screen.source;
	c->input = vm->input;
	vm->screen.server = vnc_new(c, err);
	if (!vm->screen.server)
		return -1;
	if (c->path)
		log_line(LOG_INFO, "vm", "VNC at %s", c->path);
	if (c->host)
		log_line(LOG_INFO, "vm", "VNC at %s port %u", c->host, c->port);
	return 0;
}

void vm_free_screen(struct vm *vm)
{
	vnc_free(vm->screen.server);
	vm->screen.server = NULL;
}
