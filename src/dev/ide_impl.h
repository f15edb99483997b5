/*
 * What the files of the IDE function share. All fields are guarded by ide.lock, which the bus takes around accesses to
 * registers and the nodes' threads around what they do for a channel. It comes after none but the PCI bridge's, and
 * before those of interrupt controllers and of the queue of a loop.
 *
 * A channel does one thing at a time: it is idle, waits for the guest at its data port or for its bus master, or waits
 * for a node. What a node shall do next follows from `xfer`, so a channel whose node stands still can be saved.
 */
#ifndef VIREO_DEV_IDE_IMPL_H
#define VIREO_DEV_IDE_IMPL_H

#include "base/bytes.h"
#include "dev/ide.h"

/* The status and error registers. */
enum { ST_ERR = 0x01, ST_DRQ = 0x08, ST_DSC = 0x10, ST_DF = 0x20, ST_DRDY = 0x40, ST_BSY = 0x80 };
enum { ER_ABRT = 0x04, ER_IDNF = 0x10, ER_UNC = 0x40, ER_ICRC = 0x80 };
enum { DEV_SLAVE = 0x10, DEV_LBA = 0x40 };
enum { CTL_NIEN = 0x02, CTL_SRST = 0x04, CTL_HOB = 0x80 };
enum { REASON_CD = 1, REASON_IO = 2 }; /* the sector count register after PACKET */
enum { BM_START = 1, BM_TO_MEMORY = 8 };
enum { BM_ACTIVE = 1, BM_ERROR = 2, BM_IRQ = 4, BM_CAPABLE = 0x60 };

#define IDE_SECTOR     512u
#define IDE_CD_SECTOR  2048u
#define IDE_MULTIPLE   16u /* sectors in a block of READ MULTIPLE at most */
#define IDE_BUFFER     (IDE_MULTIPLE * IDE_SECTOR)
#define IDE_TRIM_MAX   8u /* blocks of ranges in one command */
#define IDE_PACKET_LEN 12u
#define IDE_PRD_MAX    8192u /* descriptors that fit below a 64 KiB boundary */

enum ide_state {
	IDE_IDLE,
	IDE_PIO_IN,  /* the guest reads a block at the data port */
	IDE_PIO_OUT, /* the guest writes one */
	IDE_DMA,     /* the drive is ready, the bus master was not started */
	IDE_IO	     /* the node does, or shall do, the next part */
};
#define IDE_LAST_STATE IDE_IO

enum ide_what {
	IDE_NOTHING,
	IDE_READ,      /* of the node */
	IDE_WRITE,     /* to it */
	IDE_FLUSH,     /* alone, or after a write */
	IDE_TRIM,      /* the ranges in the buffer */
	IDE_GIVE,      /* the buffer to the guest */
	IDE_TAKE_TRIM, /* the buffer from the guest, and what it is then: */
	IDE_TAKE_PACKET,
	IDE_TAKE_DROP
};
#define IDE_LAST_WHAT IDE_TAKE_DROP

struct ide_xfer {
	uint8_t what; /* enum ide_what */
	bool dma;
	bool flush;		/* after the last write */
	bool quiet;		/* no interrupt before the first block */
	uint64_t pos;		/* of the node, in bytes */
	uint32_t left;		/* bytes between the node and the guest, or of the buffer, that are not moved yet */
	uint32_t block;		/* bytes from one interrupt to the next at the data port */
	uint32_t at, end, stop; /* in the buffer: the guest's place, end of what is valid, end of this block */
};

/* The registers of one drive: what is written goes to both drives of a channel. */
struct ide_regs {
	uint8_t feature, count, lba[3];
	uint8_t hob_feature, hob_count, hob_lba[3]; /* what was written before */
	uint8_t error, status;
};

struct ide_drive {
	struct ide_channel *ch;
	unsigned unit; /* 0 to 3 */
	bool present, cdrom, accept_changed, write_through;
	struct block_node *node;
	char serial[IDE_SERIAL_LEN + 1];
	bool posted; /* the node's thread has been asked to look */

	/* saved */
	struct ide_regs r;
	uint64_t capacity, modified; /* of the node when saved */
	uint32_t heads, sectors;     /* of the translation in use */
	uint8_t multiple, mode;	     /* block size of READ MULTIPLE; transfer mode as in SET FEATURES */
	bool write_cache, look_ahead, smart;
	uint8_t power; /* as CHECK POWER MODE tells */
	/* ATAPI */
	uint8_t sense, asc, ascq; /* for REQUEST SENSE */
	uint8_t attention;	  /* the ASC of a unit attention that waits, or 0 */
	uint8_t event;		  /* of the medium, as in GET EVENT STATUS */
	bool tray_open, locked;
};

struct ide_channel {
	struct ide *ide;
	unsigned n;
	struct irq_line irq;
	struct ide_drive drive[2];

	/* saved */
	uint8_t select, control;
	bool intrq;
	uint8_t state;	/* enum ide_state */
	uint8_t active; /* the drive that `state` is about */
	uint8_t command;
	bool aborted; /* forget what the node does: a reset is due when it is done */
	struct ide_xfer xfer;
	uint8_t buffer[IDE_BUFFER];
	/* the bus master */
	uint8_t bm_command, bm_status;
	uint32_t bm_table;
	uint32_t prd_next, prd_count; /* the descriptor to read next, and how many were read */
	uint32_t prd_addr, prd_left;  /* the rest of the current one */
	bool prd_end;		      /* it is the last */

	/* a request on its way; none when saved */
	bool in_flight;
	pthread_cond_t landed;
	uint32_t moving; /* bytes */
	struct block_req req;
	unsigned n_maps;
	struct mem_map map[BLOCK_MAX_IOV];
	struct iovec iov[BLOCK_MAX_IOV];
};

struct ide {
	struct device dev;
	pthread_mutex_t lock;
	struct pci_dev pci;
	struct mem_space *mem;
	struct bus *bus;
	struct bus_handle *ports[4];
	bool held; /* drained: nothing is to begin */
	void (*tray_moved)(void *opaque);
	void *tray_opaque;
	struct ide_channel channel[2];
};

/* With the lock. */
static inline void ide_set_tray(struct ide_drive *d, bool open)
{
	struct ide *ide = d->ch->ide;
	bool was = d->tray_open;

	d->tray_open = open;
	if (was != open && ide->tray_moved)
		ide->tray_moved(ide->tray_opaque);
}

static inline struct ide_drive *ide_active(struct ide_channel *ch)
{
	return &ch->drive[ch->active];
}

static inline uint64_t ide_sectors(const struct ide_drive *d)
{
	return d->node ? block_size(d->node) / IDE_SECTOR : 0;
}

/* --- ide.c --- */
void ide_interrupt(struct ide_channel *ch, bool level);
/* The command is over, well or with an error. */
void ide_end(struct ide_channel *ch, uint8_t error);
/* A drive's registers as a reset leaves them: the signature. */
void ide_signature(struct ide_drive *d);
/* A reset of the channel is over, unless it lasts or waits for what is in flight. */
void ide_settle(struct ide_channel *ch);

/* --- ide_io.c: what moves data. `xfer` has been filled and ch->active is the drive --- */
/* Begin what `xfer` says: at the data port, by DMA or with the node. */
void ide_begin(struct ide_channel *ch);
/* The guest has read or written the block at the data port to its end. */
void ide_block_done(struct ide_channel *ch);
/* The bus master was started or stopped. */
void ide_dma_start(struct ide_channel *ch);
void ide_dma_stop(struct ide_channel *ch);
/* The node shall go on with state IDE_IO, if it may. */
void ide_kick(struct ide_channel *ch);

/* --- ide_ata.c --- */
void ide_command(struct ide_channel *ch, uint8_t code);
/* After a node's error: where, and the error register. */
void ide_ata_failed(struct ide_drive *d, int ret);

/* --- ide_identify.c: answers of 512 bytes --- */
void ide_identify_disk(const struct ide_drive *d, uint8_t *b);
void ide_identify_cdrom(const struct ide_drive *d, uint8_t *b);
/* SMART data (feature D0h), thresholds (D1h) and logs (D5h, `log`); false: there is none. */
bool ide_smart_page(uint8_t feature, uint8_t log, uint8_t *b);
/* Of disks: the translation that is the default. */
void ide_geometry(const struct ide_drive *d, uint32_t *cylinders, uint32_t *heads, uint32_t *sectors);

/* --- ide_atapi.c --- */
void ide_packet_begin(struct ide_channel *ch);
void ide_packet(struct ide_channel *ch); /* all of it is in the buffer */
/* CHECK CONDITION with this sense. */
void ide_atapi_check(struct ide_channel *ch, uint8_t key, uint8_t asc);
void ide_atapi_end(struct ide_channel *ch);
void ide_atapi_reset(struct ide_drive *d);

/* --- ide_mmc.c: what a drive says about itself and its medium, as answers in `b`, which is zeroed; their lengths ---
 */
uint32_t ide_mmc_toc(struct ide_drive *d, const uint8_t *cdb, uint8_t *b);
uint32_t ide_mmc_configuration(struct ide_drive *d, const uint8_t *cdb, uint8_t *b);
uint32_t ide_mmc_event(struct ide_drive *d, const uint8_t *cdb, uint8_t *b);
uint32_t ide_mmc_mode(struct ide_drive *d, const uint8_t *cdb, uint8_t *b);
uint32_t ide_mmc_disc(struct ide_drive *d, const uint8_t *cdb, uint8_t *b);
uint32_t ide_mmc_track(struct ide_drive *d, const uint8_t *cdb, uint8_t *b);
uint32_t ide_mmc_dvd(struct ide_drive *d, const uint8_t *cdb, uint8_t *b);
uint32_t ide_mmc_inquiry(struct ide_drive *d, const uint8_t *cdb, uint8_t *b);

extern const struct state_desc ide_channel_state;
extern const struct state_desc *const ide_buffer_states[]; /* subsections of struct ide */

#endif
