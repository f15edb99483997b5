/*
 * What the files of vm/ share: the machine, and which file answers for which part of it. Everything belongs to the
 * main loop's thread but for what is atomic or names its lock.
 */
#ifndef VIREO_VM_IMPL_H
#define VIREO_VM_IMPL_H

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/loop.h"
#include "base/screen.h"
#include "base/stats.h"
#include "boot/acpi.h"
#include "boot/boot.h"
#include "boot/initrd.h"
#include "boot/pass.h"
#include "bus/bus.h"
#include "bus/device.h"
#include "bus/pci.h"
#include "clock/clock.h"
#include "cpu/engine.h"
#include "dev/ide.h"
#include "dev/pc.h"
#include "display/vnc.h"
#include "irq/x86/irqchip.h"
#include "mem/mem.h"
#include "vm/chan.h"
#include "vm/vm.h"

#define VM_MACHINE	"pc-1.0" /* what the name "pc" means now, and the default */
#define VM_MAX_CPUS	64
#define VM_LOW_MAX	0xc0000000ull /* RAM below the PCI hole */
#define VM_PCI_HOLE	0xc0000000u
#define VM_PCI_HOLE_END 0xfeb00000u
#define VM_PCI_HIGH_END (1ull << 42) /* 64-bit BARs are in the half below it, above all RAM: high_window() */
#define VM_MMIO_BASE	0xfeb00000u  /* virtio-mmio, one page each */
#define VM_MMIO_GSI	16
#define VM_MMIO_MAX	8
/*
 * OVMF maps all addresses that the processor says it can have, by tables in its memory: with 46 bits that takes it half
 * a minute. 40 are what it knows from QEMU and sets aside for what the machine needs.
 */
#define VM_FIRMWARE_PHYS_BITS 40
#define VM_CHANS	      8
#define VM_DISKS	      16
#define VM_STATUS_FAULT	      2 /* exit status after a fatal fault of the guest */

/* As QMP's RunState names them: see vm_state_name(). */
enum vm_state { VM_PRELAUNCH, VM_RUNNING, VM_PAUSED, VM_DEBUG, VM_IO_ERROR, VM_SAVING, VM_SAVED, VM_SHUTDOWN };

/* What is done about a guest that has panicked or hangs. */
enum vm_action {
	VM_ACTION_PAUSE,
	VM_ACTION_SHUTDOWN,
	VM_ACTION_NONE,
	VM_ACTION_RESET,
	VM_ACTION_NMI, /* to all processors */
	VM_ACTION_FAIL /* ends, with exit status 1 */
};

struct vm_cpu {
	struct vm *vm;
	struct vcpu *vcpu;
	pthread_t thread;
	bool started, parked;
	bool silent;  /* the debugger has not let it run, and is not told of a stop before it does */
	bool held;    /* stays parked: the debugger's wish. Guarded by cpu_lock, as is: */
	bool stopped; /* it came to a stop of the debugger's, who has not been told */
	_Atomic int tid;
	stat_t exits, ports, mmio;
};

/* A serial port or console: where it leads, and what is opened only when the VM starts. */
struct vm_chan {
	struct chan *chan;
	const char *key, *path;
	const char *label; /* what QMP calls it: "KEY.id", by default the key */
	int slave;	   /* of a pty, so that it exists before somebody opens it; or -1 */
	struct accepter *accepter, *place_accepter;
	int listen_fd;
	/* "unix:PATH", "tcp:[HOST:]PORT": where clients come, or a connection that is made; or -1. */
	const char *place;
	int place_fd;
	bool place_server, waits; /* for the first client, before the machine is started */
	struct vm *vm;
};

/* What clients call a disk, a drive or a card: the keys of these names, by default the name of the device's own key. */
struct vm_names {
	const char *id;	  /* the drive ("": there is none), or the network */
	const char *qdev; /* the device */
	const char *node; /* "node-name": the image */
};
int vm_read_names(struct vm *vm, const char *prefix, struct vm_names *names, struct err *err);
/* By any of them, or the default. */
bool vm_is_called(const struct vm_names *names, const char *prefix, const char *wanted);

/* A network card. */
struct vm_net {
	char name[32]; /* "net0" */
	struct vm_names called;
	char interface[16];	   /* of the host, at its end; "": there is none */
	struct net_peer *back_end; /* behind a capture; the card's */
	struct virtio_dev *virtio; /* or, NULL: */
	struct device *e1000;
	bool started; /* the network of the host that it is in, which was down */
};

#define VM_FDS 64
/* A descriptor that a client has passed. */
struct vm_fd {
	bool used;
	int fd, set;   /* of add-fd; -1: of getfd */
	char text[64]; /* what the client says of it, or its name */
};

struct vm_cdrom {
	char name[16]; /* "cdrom0" */
	struct vm_names called;
	unsigned unit;			/* as in ide.h */
	struct block_node *node;	/* its drive's; NULL: no medium */
	bool tray_open;			/* as it was told last */
	const struct vm_medium *medium; /* where the node comes from; NULL: from elsewhere */
};

#define VM_MEDIA 16
/* An image that QMP's blockdev-add has named. */
struct vm_medium {
	char name[32];
	char *path; /* NULL: a free one */
};

struct vm_disk {
	struct vm *vm;
	char name[32]; /* "disk0" */
	struct vm_names called;
	struct block_node *node;	      /* its device's */
	bool forgets;			      /* "diskN.snapshot" */
	bool write_through, direct, no_flush; /* "diskN.cache" */
	bool stop_on_error;		      /* "diskN.werror" */
	struct virtio_dev *virtio;	      /* or NULL: another device's */
};

/* What a guest has changed, for news.c. */
struct vm_news {
	_Atomic unsigned changed; /* and nobody was told of */
	unsigned quiet;		  /* what was told of just now */
	int timer;		  /* -1: none */
	struct loop_fd *watch;
};

/* What a guest asks of its machine, once until it is answered; meanwhile no vCPU runs. */
struct vm_request {
	int what; /* enum machine_request + 1; 0: nothing */
	int status;
	const char *reason; /* as QMP's ShutdownCause */
};

struct vm {
	struct config *config;
	const char *name;
	struct loop *loop;
	struct vclock *clock;
	struct stats *stats;
	struct mem_space *mem;
	struct bus *bus;
	struct pci_bus *pci;
	struct irqchip *chip;
	uint64_t ram_low, ram_high;
	const char *firmware; /* NULL: a kernel is loaded */
	struct boot_firmware firmware_files;
	struct boot_pass *pass;	    /* the kernel that firmware starts, or NULL */
	struct i440fx_memory upper; /* with firmware */
	unsigned flash[2];	    /* overlays: code, variables */
	char *order_after_once;	    /* of "boot.order", at the first reset; or NULL */
	int vars_fd;		    /* where variables are kept; -1: nowhere */
	char vars_path[PATH_MAX];
	unsigned cpus;
	bool skip_idle; /* icount: idle time passes at once */
	uint8_t uuid[16];
	struct smbios_config smbios; /* its texts */

	const struct engine *engine;
	struct engine_vm *engine_vm;
	struct vm_cpu cpu[VM_MAX_CPUS];
	pthread_mutex_t cpu_lock;
	pthread_cond_t cpu_change;
	bool run_wanted, end_wanted; /* guarded by cpu_lock, as is `request` */
	struct vm_request request;

	struct device *devices; /* in order of creation */
	struct device *chip_devices;
	struct device *pm, *rtc, *fw_cfg, *piix3;
	unsigned mmio_count;
	bool com[2]; /* which serial ports there are */
	bool i8042;
	uint16_t pvpanic;     /* its port, or 0 */
	unsigned hpet_timers; /* 0: there is no HPET */
	enum vm_action on_panic, on_watchdog;
	struct {
		bool wanted;
		unsigned memory; /* of mem_add_movable() */
		uint64_t size;
		struct screen_source source; /* functions that are NULL: there is none */
		struct vnc_config vnc;
		struct vnc *server; /* or NULL */
		char vnc_path[PATH_MAX], vnc_host[256], vnc_password[1024];
	} screen;
	struct input_sink input; /* where keys and the mouse go; functions that are NULL: nowhere */

	struct virtio_dev *balloon; /* or NULL */
	struct vm_disk disks[VM_DISKS];
	unsigned disk_count;
	const char *pci_names[32]; /* "PREFIX.qdev" of the device in each slot, or NULL */
	struct vm_net nets[VM_DISKS];
	unsigned net_count;
	struct vm_news news;
	struct vm_cdrom cdroms[IDE_DRIVES];
	unsigned cdrom_count;
	struct vm_medium media[VM_MEDIA];
	atomic_bool trays_posted; /* a tray has moved, and the loop has been asked to look */
	struct ide_config ide;	  /* its drives, until it is made */
	struct device *ide_dev;	  /* or NULL */

	struct vm_chan chans[VM_CHANS];
	unsigned chan_count;
	const char *console_key; /* of the port that `vireo console` shows */

	struct {
		pthread_t thread;
		bool started;
		atomic_bool cancel;
		struct initrd_check *check;
		struct err err;
	} initrd;

	struct terminal *terminal; /* NULL: stdin is not ours, or not a terminal */
	struct rundir *rundir;
	struct qmp *qmp;
	struct vm_fd fds[VM_FDS];
	struct control *control;
	struct gdb *gdb;     /* or NULL */
	struct saver *saver; /* the last save, or the one that goes on */

	enum vm_state state;
	int status;	       /* of the process */
	bool started;	       /* vm_start() */
	bool no_reboot;	       /* a reset ends the VM */
	bool no_shutdown;      /* power off only pauses it */
	bool qemu_names;       /* "qmp.names": clients know QEMU's machines, and the name that was given */
	const char *paused_by; /* what query-status says instead of "paused"; or NULL */
	bool paused;	       /* do not run at once */
	bool begun;	       /* vm_run() has got so far */
	bool restored;	       /* made for a saved state */
	bool print_stats;      /* at the end */
	bool patient;	       /* the guest ended it: whoever reads the output has time */
	bool fault_told;       /* guarded by cpu_lock */

	int signal, signal_from; /* what ended it, and whose it was */
};

/* --- cpus.c: the vCPU threads --- */
int cpus_create(struct vm *vm, struct err *err);
int cpus_start(struct vm *vm, struct err *err); /* threads, parked */
void cpus_resume(struct vm *vm);
void cpus_pause(struct vm *vm); /* returns when all are parked */
void cpus_destroy(struct vm *vm);
/* For a debugger, while all are parked: vCPU `n` is not to run at the next resume. */
void cpus_hold(struct vm *vm, unsigned n, bool hold);
/* Whether vCPU `n`, if it was to run, has come to a stop; it is not said twice. */
bool cpus_take_stop(struct vm *vm, unsigned n);
/* One after a step, which nobody has been told of, is no news any more. The vCPUs stand still. */
void cpus_forget_step(struct vm *vm, unsigned n);
/* A copy of vCPU `n`'s state, which is the caller's to free; it stands still for a moment. NULL: no memory. */
void *vm_cpu_state(struct vm *vm, unsigned n);
struct vm_cpu *cpus_self(void); /* of this thread; NULL if it is none's */
/* Any thread. The first one counts; vCPUs stop until vm.c has answered it. */
void cpus_request(struct vm *vm, const struct vm_request *r);
struct vm_request cpus_requested(struct vm *vm);
void cpus_answered(struct vm *vm);

/* --- pc.c: the machine type pc-1.0 --- */
int pc_assemble(struct vm *vm, struct err *err);
/* Fill memory and processors as for a power-on: kernel, tables, entry state. vCPUs parked. */
int pc_boot(struct vm *vm, struct err *err);
/* The kernel that the configuration names, if it does. */
int pc_boot_config(struct vm *vm, struct boot_config *b, struct err *err);
void vm_add_device(struct vm *vm, struct device *d);
/* What the tables say of it; `mem` is there to be written to. */
struct acpi_config pc_acpi(const struct vm *vm);
struct smbios_config pc_smbios(const struct vm *vm);

/* --- ram.c --- */
int vm_add_ram(struct vm *vm, struct err *err);

/* --- firmware.c: a machine that begins in a ROM --- */
/* The ROM that "firmware" names, and what lies over memory below 1 MiB. */
int vm_add_firmware(struct vm *vm, struct err *err);
/* What the ROM finds at a reset, and processors at its beginning; vCPUs parked. */
int vm_boot_firmware(struct vm *vm, struct err *err);
/* The items of fw_cfg for firmware. */
int vm_tell_firmware(struct vm *vm, struct err *err);
/* What lies where has changed: struct i440fx_memory, struct pflash_config. */
void vm_remapped(void *vm);

/* --- flash.c: the flash of firmware, and where its variables are kept --- */
/* `path`: "firmware.vars", or NULL. Fills the array of the variables. */
int vm_open_vars(struct vm *vm, const char *path, struct err *err);
/* On the disk by now: at resets and at the end. vCPUs parked. */
void vm_sync_vars(struct vm *vm);
/* Flash instead of a ROM, if there are variables. */
int vm_add_flash(struct vm *vm, struct err *err);

/* --- initrd.c: what takes long to check of an initrd, in a thread of its own. At the first boot only --- */
/* Takes over `check`, which may be NULL. A bad initrd ends the VM with status 1. */
int vm_check_initrd(struct vm *vm, struct initrd_check *check, struct err *err);
void vm_check_initrd_end(struct vm *vm);

/* --- drives.c: disks, networks and the other virtio devices --- */
int vm_add_virtio(struct vm *vm, struct err *err);
/*
 * The slot that `PREFIX.addr` names, or the first free one, which is written there: a saved machine, or one of a later
 * version of this program, finds its devices where they were.
 */
int vm_pci_address(struct vm *vm, const char *prefix, int *devfn, struct err *err);
/* query-pci says of the device in that slot what "PREFIX.qdev" says. */
int vm_pci_name(struct vm *vm, const char *prefix, unsigned slot, struct err *err);
/* On the transport that `PREFIX.bus` names. Takes `d`, also on error. */
int vm_attach(struct vm *vm, struct virtio_dev *d, const char *prefix, struct err *err);
/*
 * "PREFIX.rom": an expansion ROM for the function in slot "PREFIX.addr", `word` for that of Debian's package at `path`,
 * or a file, or none.
 */
struct vm_rom {
	const char *word, *path;
	bool usual; /* there is one if the key is not set */
};
int vm_add_rom(struct vm *vm, const char *prefix, const struct vm_rom *rom, struct err *err);

/* --- nets.c: network cards and what is at the other end --- */
/* The card of "net0" and so on, number `n`. */
int vm_add_net(struct vm *vm, unsigned n, const char *prefix, struct err *err);
/* The name of a disk with requests that wait, for space on the host as a rule, or NULL. */
const char *vm_disk_without_space(const struct vm *vm);
/* What it is that it waits for. */
void vm_disk_waits(const struct vm *vm, struct err *err);

/* --- qmp_machine.c --- */
/* At every processor. */
void vm_inject_nmi(struct vm *vm);

/* --- screen.c: the VGA, and who shows it --- */
#define VM_VGABIOS "/usr/share/seabios/vgabios-stdvga.bin" /* of Debian's package seabios */
/* Memory for it, before there is an engine; `vm->screen.wanted` says whether there is one. */
int vm_add_screen_memory(struct vm *vm, struct err *err);
int vm_add_screen(struct vm *vm, struct err *err);
/* Let viewers come, if they may. */
int vm_start_screen(struct vm *vm, struct err *err);
/* Before devices go. */
void vm_free_screen(struct vm *vm);

/* --- tell.c: what a user tells the guest through tables and fw_cfg --- */
int vm_read_smbios(struct vm *vm, struct err *err);
/* "fwcfgN": files of fw_cfg. */
int vm_add_fw_cfg_files(struct vm *vm, struct err *err);

/* The name of a disk whose writes a saved state would not have, or NULL. */
const char *vm_disk_that_forgets(const struct vm *vm);

/* --- news.c: events about what a guest changes --- */
/* After all devices. */
int vm_news_begin(struct vm *vm, struct err *err);
/* Before devices go, and after vCPUs. */
void vm_news_end(struct vm *vm);

/* --- extras.c: devices that `--device` names --- */
int vm_add_extras(struct vm *vm, struct err *err);

/* --- ide.c: IDE drives; PREFIX is a disk's or a CD-ROM drive's ("cdrom0") --- */
/* Takes the node if it succeeds. */
int vm_ide_add_disk(struct vm *vm, const char *prefix, const struct ide_drive_config *c, struct err *err);
int vm_ide_add_cdrom(struct vm *vm, const char *prefix, struct err *err);
/* A medium for vm_ide_put(), which takes it, puts it into a CD-ROM drive and closes the tray; NULL: take out what is
 * there. */
struct block_node *vm_ide_open_medium(struct vm *vm, const struct vm_cdrom *d, const char *path, struct err *err);
void vm_ide_put(struct vm *vm, struct vm_cdrom *d, struct block_node *node);
/* Tell of trays that have moved. */
void vm_ide_trays(struct vm *vm);
/* The function with the drives that were added, if any. */
int vm_ide_make(struct vm *vm, struct err *err);
void vm_ide_free(struct vm *vm);

/* --- qmp_fds.c: descriptors that clients have passed --- */
/* As open(2), where "/dev/fdset/N" is one of a set. `opaque` is the machine. */
int vm_open_path(void *opaque, const char *path, int flags);
void vm_fds_free(struct vm *vm);

/* --- qmp_nodes.c: images by name --- */
struct vm_medium *vm_medium_find(struct vm *vm, const char *name);
void vm_media_free(struct vm *vm);
/* qmp_block.c: the drive that it is in, or NULL. */
struct vm_cdrom *vm_medium_drive(struct vm *vm, const struct vm_medium *m);

/* --- vm.c: run states; main loop thread. `reason` is a ShutdownCause of QMP. --- */
void vm_pause(struct vm *vm);
int vm_resume(struct vm *vm, struct err *err);
int vm_reset(struct vm *vm, const char *reason, struct err *err);
/* As vm_pause() for a debugger, without the log line for each of its stops. */
void vm_debug_stop(struct vm *vm);
void vm_power_button(struct vm *vm);
/* Nothing of the guest goes on between these two, and nobody is told. False: it stands still anyhow. */
bool vm_hold(struct vm *vm);
void vm_let_go(struct vm *vm);
/* The first one counts. A save that goes on is given up. */
/* A disk could not carry out a request, which waits, or could at last. */
void vm_disk_changed(struct vm *vm);
void vm_quit(struct vm *vm, int status, const char *reason);
/* Somebody has come for whom the start was to wait, perhaps the last one. */
void vm_clients_came(struct vm *vm);
const char *vm_state_name(const struct vm *vm);
struct machine_control vm_machine_control(struct vm *vm);
void vm_answer(void *vm); /* posted by cpus_request() */
/* For a save: as vm_pause(), without the event, and after all that the guest has asked for. */
int vm_halt_for_save(struct vm *vm, struct err *err);
/* The save has ended: stand still as `saved`, or be again what it was. */
void vm_save_ended(struct vm *vm, bool saved, bool was_running);

/* --- chans.c: where serial ports and consoles lead --- */
/* "stdio", "null", "none", "pty", "socket", "file:PATH". NULL in *out for "none". `key` is constant. */
int vm_open_chan(struct vm *vm, const char *key, const char *dflt, struct chan **out, struct err *err);
int vm_chans_start(struct vm *vm, struct err *err);
/* Wait until all output is written: as long as it takes if `patient`, else while it gets less. */
void vm_chans_flush(struct vm *vm, bool patient);
void vm_chans_free(struct vm *vm);
/* Some port is to have a client before the machine is started. */
bool vm_chans_wait(const struct vm *vm);

#endif
