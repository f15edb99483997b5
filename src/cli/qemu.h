/*
 * QEMU's command line as one more writer of the configuration tree: `vireo qemu-system-x86_64 ...`, or this program by
 * that name. docs/qemu.md says what becomes what.
 *
 * Options are taken in their order (qemu_options.c); what they describe is kept until all are known, since one may name
 * another's id, and becomes keys in qemu_finish(). Main thread, before any other starts.
 */
#ifndef VIREO_CLI_QEMU_H
#define VIREO_CLI_QEMU_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/config.h"
#include "base/err.h"
#include "vm/vm.h"

/* The QEMU whose options these are: scripts compare it. */
#define QEMU_VERSION VM_QEMU_VERSION

/* --- qemu_text.c: "a,b=c,flag" --- */

struct qpair {
	char *name, *value;
	bool used;
};

/* The pairs of one option. */
struct qopts {
	char *origin; /* "-drive file=x", for errors */
	struct qpair *pair;
	unsigned count;
	bool taken; /* a device has it */
};

/*
 * QEMU's grammar: pairs between commas, where ",," is a comma of a value; a name alone is NAME=on, "noNAME" is
 * NAME=off; a first word without '=' is the value of `implied`, if that is not NULL. What begins with '{' is JSON,
 * whose nested names are joined by dots.
 */
int qopts_parse(struct qopts *o, const char *option, const char *text, const char *implied, struct err *err);
void qopts_free(struct qopts *o);
/* The last value of a name, or NULL. Counts as read. */
const char *qopts_get(struct qopts *o, const char *name);
/* Of several values of one name, the n-th; NULL after the last. */
const char *qopts_nth(struct qopts *o, const char *name, unsigned n);
int qopts_bool(struct qopts *o, const char *name, bool dflt, bool *out, struct err *err);
/* An error unless each name was read. */
int qopts_all_read(const struct qopts *o, struct err *err);
/* "ORIGIN: MESSAGE"; returns -1. */
int qopts_fail(const struct qopts *o, struct err *err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Whether `word` is one of "a|b|c". */
bool qword_in(const char *list, const char *word);
/* The same for a value: "true" and "yes" are "on". */
bool qvalue_in(const char *list, const char *value);

/* --- what options describe --- */

/* A growing list of options that wait for qemu_finish(). */
struct qlist {
	struct qopts *v;
	unsigned count;
};
/* A new one at the end, parsed; NULL on error. Pointers to others of the list go stale. */
struct qopts *qlist_add(struct qlist *l, const char *option, const char *text, const char *implied, struct err *err);
/* The same with all of the text, commas and all, as the value of `name`. */
struct qopts *qlist_add_text(struct qlist *l, const char *option, const char *text, const char *name, struct err *err);
/* The one with this id, or NULL. */
struct qopts *qlist_find(struct qlist *l, const char *id_name, const char *id);
void qlist_free(struct qlist *l);

struct qemu {
	struct config *c;
	const char *program;
	struct err *err;
	struct qlist names, boots, rtcs, actions, fw_cfgs, smbios, overcommits, sandboxes, vncs;
	struct qlist machine, accels, cpus, smp, memory; /* in the order of the command line */
	struct qlist drives, blockdevs, netdevs, nics, nets, chardevs, serials, monitors, devices, globals, objects;
	unsigned disks, cdroms, nets_made, e1000s, virtio_nets, serial_ports, virtio_ports, oem_strings, fw_cfg_files,
		qmps, monitors_made, monitor_names;
	uint8_t ide_taken;     /* a bit for each place */
	uint64_t virtio_taken; /* the same for each index of if=virtio */
	struct qemu_slot {
		char prefix[32];
		int slot; /* -1: any */
	} slots[32];	  /* the devices on PCI */
	unsigned slot_count;
	bool nodefaults, nographic, snapshot, kvm;
	bool stdio_used;	     /* by a serial port, a console or a monitor */
	const char *bios, *data_dir; /* -bios, -L */
	const char *vga;	     /* NULL: as always */
	const char *mem_path;	     /* -mem-path */
	bool mem_prealloc;
	bool done; /* something was printed: there is no machine to run */
};

/* KEY, or PREFIX.KEY, gets `value`, which comes from `o` (NULL: from nowhere). */
int qemu_set(struct qemu *q, const struct qopts *o, const char *prefix, const char *key, const char *value);
/* Clients call it by the id of the device, and of the drive or network that it has (NULL: it has none). */
int qemu_set_names(struct qemu *q, struct qopts *device, const char *prefix, const char *id);
/* The device `prefix` is on PCI, in a slot (-1: any). */
int qemu_on_pci(struct qemu *q, const struct qopts *o, const char *prefix, int slot);
/* A line of warning, as QEMU writes it. */
void qemu_warn(const struct qemu *q, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- qemu.c --- */
/* Options into keys of q->c. */
int qemu_configure(struct qemu *q, int argc, char **argv);
/* The name under which this program, or the command `path`, is QEMU; NULL: it is not. */
const char *qemu_program(const char *path);
/* All of it; the exit status. */
int qemu_main(const char *program, int argc, char **argv);

/* --- qemu_options.c --- */
int qemu_parse(struct qemu *q, int argc, char **argv);
void qemu_help(const struct qemu *q, FILE *out);
void qemu_man_page(FILE *out);
void qemu_version(FILE *out);
/* All that waited becomes keys. */
int qemu_finish(struct qemu *q);

/* --- qemu_tell.c --- */
int qemu_smbios(struct qemu *q, struct qopts *o);
int qemu_fw_cfg(struct qemu *q, struct qopts *o);

/* --- qemu_misc.c: options whose text is a value of its own --- */
int qemu_gdb(struct qemu *q, const char *text);
int qemu_debug_items(struct qemu *q, const char *text);
int qemu_display(struct qemu *q, const char *text);
int qemu_vga(struct qemu *q, const char *text);
int qemu_vnc(struct qemu *q, const char *text);
int qemu_bios(struct qemu *q, const char *text);
int qemu_kernel(struct qemu *q, const char *text);
int qemu_data_dir(struct qemu *q, const char *text);

/* --- qemu_memory.c: what is behind the memory --- */
int qemu_mem_path(struct qemu *q, const char *text);
/* -object memory-backend-*: its properties are right. */
int qemu_check_backend(struct qemu *q, struct qopts *o);
/* Main memory is on -object `id`, or as -mem-path and -mem-prealloc say. */
int qemu_use_backend(struct qemu *q, struct qopts *machine, const char *id);

/* --- each makes keys of its lists --- */
int qemu_finish_misc(struct qemu *q);	  /* qemu_misc.c */
int qemu_finish_machine(struct qemu *q);  /* qemu_machine.c */
int qemu_finish_cpu(struct qemu *q);	  /* qemu_cpu.c */
int qemu_finish_monitors(struct qemu *q); /* after ports */
int qemu_finish_chars(struct qemu *q);	  /* qemu_char.c */
int qemu_default_serial(struct qemu *q);  /* after devices, which may bring ports */
int qemu_finish_drives(struct qemu *q);	  /* qemu_drive.c: those that bring their own device */
int qemu_finish_nics(struct qemu *q);	  /* qemu_net.c */
int qemu_finish_devices(struct qemu *q);  /* qemu_device.c */
/* What no device has, after all of them. */
int qemu_check_netdevs(struct qemu *q); /* qemu_net.c */
/* -object filter-dump: what it says, and, in the end, that each has its network. */
int qemu_check_dump(struct qemu *q, struct qopts *o);
int qemu_check_dumps(struct qemu *q);
int qemu_check_chardevs(struct qemu *q); /* qemu_char.c */
int qemu_check_drives(struct qemu *q);	 /* qemu_drive.c */

void qemu_machine_help(FILE *out, bool properties);
void qemu_accel_help(FILE *out);
void qemu_cpu_help(FILE *out);
/* NULL: all; false if there is no such device. */
bool qemu_device_help(FILE *out, const char *name);
void qemu_netdev_help(FILE *out);
void qemu_chardev_help(FILE *out);

/*
 * The disk `PREFIX` (chosen here) is the drive or node `id`; `cdrom`: a CD-ROM drive, which may be empty (`id` NULL).
 * `prefix` has room for 32 bytes.
 */
int qemu_attach_drive(struct qemu *q, struct qopts *device, const char *id, bool cdrom, char *prefix);
/* The place among the four IDE drives that `bus` and `unit`, or `index`, of `o` say, or one that is free; or -1. */
int qemu_ide_place(struct qemu *q, struct qopts *o);
/* Each -global is about something that there is; at the end, a warning of those that no device has. */
int qemu_check_globals(struct qemu *q);
void qemu_warn_of_globals(struct qemu *q);
/* What -global says of the VGA, the card or the drive that is there without -device. */
int qemu_set_globals(struct qemu *q, const char *driver, const char *prefix);
/* The card's expansion ROM: what `romfile` says, or iPXE for one that is to be booted from. */
int qemu_net_rom(struct qemu *q, struct qopts *o, const char *prefix);
/* False: `text` does not ask for it. */
bool qemu_nic_help(FILE *out, const char *text);
/* What QMP calls the card `prefix` of that `model`, if its device has no id. */
int qemu_name_card(struct qemu *q, const char *prefix, const char *model, const char *id);
/* The next `netN`, on the -netdev `id` (NULL: it leads nowhere). */
int qemu_attach_netdev(struct qemu *q, struct qopts *device, const char *id, char *prefix);
/* The port `key` leads to -chardev `id`. */
int qemu_set_port(struct qemu *q, struct qopts *o, const char *key, const char *id);

#endif
