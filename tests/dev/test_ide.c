/* dev/ide*.c driven as drivers do it: registers, PIO, multiple, DMA by descriptors, packets, reset, saved states. */
#include "board.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../block/faults.h"
#include "base/bytes.h"
#include "dev/ide.h"

#define SECTORS	   40000u
#define CD_SECTORS 300u
#define PRIMARY	   0x1f0
#define SECONDARY  0x170
#define BM	   0xc000
#define TABLE	   0x1000u /* descriptors, in guest memory */
#define DATA	   0x10000u

enum { ERR = 1, DRQ = 8, DSC = 0x10, DRDY = 0x40, BSY = 0x80 };
#define READY (DRDY | DSC)

static int disk_fd, cd_fd;
static struct device *ide;
static bool readonly;
static uint64_t cd_sectors = CD_SECTORS;
static uint8_t moved_table[8]; /* in the memory of the board that a state moves to */

/* Each sector begins with its number. */
static int memfd(uint64_t sectors, unsigned unit)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);

	assert_true(fd >= 0 && !ftruncate(fd, (off_t)(sectors * unit)));
	for (uint32_t n = 0; n < 400 && n < sectors; n++)
		assert_int_equal(pwrite(fd, &n, 4, (off_t)n * unit), 4);
	return fd;
}

static int open_disk(void *opaque, const char *path, int flags)
{
	/* The second board of a migration looks at the same disk. */
	return dup(disk_fd);
}

static int open_cd(void *opaque, const char *path, int flags)
{
	/* Of another size: another one. */
	return cd_sectors == CD_SECTORS ? dup(cd_fd) : memfd(cd_sectors, 2048);
}

static struct block_node *open_node(bool cd)
{
	struct block_config c = {
		.path = cd ? "cd" : "disk", .format = "raw", .no_lock = true, .aio = BLOCK_AIO_THREADS
	};
	struct block_node *n;
	struct err err;

	c.readonly = cd || readonly;
	c.open_path = cd ? open_cd : open_disk;
	n = block_open(&c, &err);
	if (!n)
		fail_msg("%s", err.msg);
	return n;
}

static void make(struct board *b)
{
	struct ide_config c = { .bus = b->bus, .mem = b->mem };
	struct err err;

	mem_write(b->mem, gpa(TABLE), moved_table, sizeof(moved_table));
	board_pci(b);
	c.pci = b->pci;
	c.irq[0] = board_line(b, 14);
	c.irq[1] = board_line(b, 15);
	c.drive[0] = (struct ide_drive_config){ .present = true, .node = open_node(false), .serial = "SN-0042" };
	c.drive[0].accept_changed = true;
	c.drive[2] = (struct ide_drive_config){ .present = true, .cdrom = true, .node = open_node(true) };
	c.drive[2].accept_changed = true;
	ide = board_add(b, ide_new(&c, &err));
	assert_int_equal(pci_assign_resources(b->pci, BM, 0xc0000000, 0xd0000000, 1ull << 40, &err), 0);
	pci_config_write(b->pci, IDE_DEVFN, 4, 2, 5);
}

static void setup(struct board *b)
{
	disk_fd = memfd(SECTORS, 512);
	cd_fd = memfd(CD_SECTORS, 2048);
	board_init(b);
	make(b);
	in8(b, PRIMARY + 7);
}

static void end(struct board *b)
{
	board_fini(b);
	close(disk_fd);
	close(cd_fd);
}

static uint8_t alt(struct board *b, uint16_t base)
{
	return in8(b, (uint16_t)(base + 0x206));
}

/* Until the drive is not busy; its status, which takes the interrupt back. */
static uint8_t settle(struct board *b, uint16_t base)
{
	for (unsigned n = 0; alt(b, base) & BSY; n++) {
		assert_true(n < 20000);
		usleep(100);
	}
	return in8(b, (uint16_t)(base + 7));
}

struct regs {
	uint64_t lba;
	uint32_t count;
	uint8_t feature;
	bool ext;
};

static void command(struct board *b, uint8_t code, struct regs r)
{
	if (r.ext) {
		out8(b, PRIMARY + 2, (uint8_t)(r.count >> 8));
		for (unsigned n = 0; n < 3; n++)
			out8(b, (uint16_t)(PRIMARY + 3 + n), (uint8_t)(r.lba >> (24 + 8 * n)));
	}
	out8(b, PRIMARY + 1, r.feature);
	out8(b, PRIMARY + 2, (uint8_t)r.count);
	for (unsigned n = 0; n < 3; n++)
		out8(b, (uint16_t)(PRIMARY + 3 + n), (uint8_t)(r.lba >> 8 * n));
	out8(b, PRIMARY + 6, (uint8_t)(0xe0 | (r.ext ? 0 : r.lba >> 24 & 15)));
	out8(b, PRIMARY + 7, code);
}

static void get(struct board *b, uint16_t base, void *buf, unsigned len)
{
	for (unsigned n = 0; n < len; n += 2)
		st_le16((uint8_t *)buf + n, (uint16_t)board_in(b, base, 2));
}

static void put(struct board *b, uint16_t base, const void *buf, unsigned len)
{
	for (unsigned n = 0; n < len; n += 4)
		board_out(b, base, 4, ld_le32((const uint8_t *)buf + n));
}

static uint16_t word(const uint8_t *b, unsigned n)
{
	return ld_le16(b + 2 * n);
}

/* --- disks --- */

static void identify(void **state)
{
	uint8_t b[512], sum = 0;
	struct board board;

	setup(&board);
	command(&board, 0xec, (struct regs){ 0 });
	assert_int_equal(settle(&board, PRIMARY), READY | DRQ);
	assert_int_equal(board.line[14].rises, 1);
	get(&board, PRIMARY, b, 512);
	assert_int_equal(in8(&board, PRIMARY + 7), READY);
	assert_int_equal(board.line[14].rises, 1); /* nothing comes after the last block */
	assert_memory_equal(b + 20, "NS0-40 2", 8);
	assert_int_equal(word(b, 60) | (uint32_t)word(b, 61) << 16, SECTORS);
	assert_int_equal(ld_le64(b + 200), SECTORS);
	assert_int_equal(word(b, 1), SECTORS / (16 * 63));
	assert_int_equal(b[510], 0xa5);
	for (unsigned n = 0; n < 512; n++)
		sum = (uint8_t)(sum + b[n]);
	assert_int_equal(sum, 0);
	/* A CD-ROM drive refuses and shows what it is. */
	out8(&board, SECONDARY + 7, 0xec);
	assert_int_equal(settle(&board, SECONDARY), READY | ERR);
	assert_int_equal(in8(&board, SECONDARY + 4), 0x14);
	assert_int_equal(in8(&board, SECONDARY + 5), 0xeb);
	out8(&board, SECONDARY + 7, 0xa1);
	assert_int_equal(settle(&board, SECONDARY), READY | DRQ);
	get(&board, SECONDARY, b, 512);
	assert_int_equal(word(b, 0), 0x85c0);
	end(&board);
}

static void nobody_is_there(void **state)
{
	struct board b;

	setup(&b);
	/* No slave: it is never ready, whatever its registers hold. */
	out8(&b, PRIMARY + 6, 0xb0);
	assert_int_equal(in8(&b, PRIMARY + 7), 0);
	out8(&b, PRIMARY + 7, 0xec);
	assert_int_equal(in8(&b, PRIMARY + 7), 0);
	assert_int_equal(b.line[14].rises, 0);
	/* Not decoded: neither without the function's I/O nor without the channel's bit. */
	out8(&b, PRIMARY + 6, 0xa0);
	assert_int_equal(in8(&b, PRIMARY + 7), READY);
	pci_config_write(b.pci, IDE_DEVFN, IDE_TIMING, 2, 0);
	assert_int_equal(in8(&b, PRIMARY + 7), 0xff);
	assert_int_equal(alt(&b, PRIMARY), 0xff);
	assert_int_equal(alt(&b, SECONDARY), 0);
	pci_config_write(b.pci, IDE_DEVFN, IDE_TIMING, 2, 0x8000);
	pci_config_write(b.pci, IDE_DEVFN, 4, 2, 0);
	assert_int_equal(in8(&b, PRIMARY + 7), 0xff);
	end(&b);
}

static void pio_reads_and_writes(void **state)
{
	uint8_t sectors[40][512];
	struct board b;
	uint32_t first;

	setup(&b);
	command(&b, 0x20, (struct regs){ .lba = 7, .count = 40 });
	for (unsigned n = 0; n < 40; n++) {
		assert_int_equal(settle(&b, PRIMARY), READY | DRQ);
		get(&b, PRIMARY, sectors[n], 512);
		assert_int_equal(ld_le32(sectors[n]), 7 + n);
	}
	assert_int_equal(alt(&b, PRIMARY), READY);
	assert_int_equal(b.line[14].rises, 40);
	/* Written elsewhere by blocks of 8, with a last one that is shorter; 0 sectors of 48 bits are many. */
	command(&b, 0xc6, (struct regs){ .count = 8 });
	assert_int_equal(settle(&b, PRIMARY), READY);
	command(&b, 0x39, (struct regs){ .lba = 30000, .count = 20, .ext = true });
	for (unsigned n = 0; n < 20; n += 8) {
		assert_int_equal(settle(&b, PRIMARY), READY | DRQ);
		put(&b, PRIMARY, sectors[n], n < 16 ? 4096 : 2048);
	}
	assert_int_equal(settle(&b, PRIMARY), READY);
	for (unsigned n = 0; n < 20; n++) {
		assert_int_equal(pread(disk_fd, &first, 4, (off_t)(30000 + n) * 512), 4);
		assert_int_equal(first, 7 + n);
	}
	/* By blocks of 8 sectors as they were written, and by cylinder, head and sector. */
	command(&b, 0xc4, (struct regs){ .lba = 30000, .count = 12 });
	for (unsigned n = 0; n < 12; n += 8) {
		assert_int_equal(settle(&b, PRIMARY), READY | DRQ);
		get(&b, PRIMARY, sectors[20], n < 8 ? 4096 : 2048);
		assert_int_equal(ld_le32(sectors[20]), 7 + n);
	}
	out8(&b, PRIMARY + 2, 1);
	out8(&b, PRIMARY + 3, 2);
	out8(&b, PRIMARY + 4, 0);
	out8(&b, PRIMARY + 5, 0);
	out8(&b, PRIMARY + 6, 0xa1);
	out8(&b, PRIMARY + 7, 0x20);
	assert_int_equal(settle(&b, PRIMARY), READY | DRQ);
	get(&b, PRIMARY, sectors[0], 512);
	assert_int_equal(ld_le32(sectors[0]), 64);
	end(&b);
}

static void outside_of_the_disk(void **state)
{
	struct board b;

	setup(&b);
	command(&b, 0x20, (struct regs){ .lba = SECTORS - 1, .count = 2 });
	assert_int_equal(settle(&b, PRIMARY), READY | ERR);
	assert_int_equal(in8(&b, PRIMARY + 1), 0x10);
	command(&b, 0x25, (struct regs){ .lba = 0xffffffffffff, .count = 0, .ext = true });
	assert_int_equal(settle(&b, PRIMARY), READY | ERR);
	command(&b, 0x42, (struct regs){ .lba = 0, .count = SECTORS, .ext = true });
	assert_int_equal(settle(&b, PRIMARY), READY);
	/* No sector 0, and none beyond the track. */
	out8(&b, PRIMARY + 6, 0xa0);
	out8(&b, PRIMARY + 3, 0);
	out8(&b, PRIMARY + 7, 0x20);
	assert_int_equal(settle(&b, PRIMARY), READY | ERR);
	out8(&b, PRIMARY + 3, 64);
	out8(&b, PRIMARY + 7, 0x20);
	assert_int_equal(settle(&b, PRIMARY), READY | ERR);
	/* READ MULTIPLE without its block size, a command that there is not. */
	command(&b, 0xc4, (struct regs){ .count = 1 });
	assert_int_equal(settle(&b, PRIMARY), READY | ERR);
	command(&b, 0xff, (struct regs){ 0 });
	assert_int_equal(settle(&b, PRIMARY), READY | ERR);
	assert_int_equal(in8(&b, PRIMARY + 1), 4);
	end(&b);
}

static void a_read_only_disk(void **state)
{
	struct board b;

	readonly = true;
	setup(&b);
	readonly = false;
	command(&b, 0x30, (struct regs){ .lba = 1, .count = 1 });
	assert_int_equal(settle(&b, PRIMARY), READY | ERR);
	command(&b, 0x20, (struct regs){ .lba = 1, .count = 1 });
	assert_int_equal(settle(&b, PRIMARY), READY | DRQ);
	end(&b);
}

/* What was written twice can be read back: 48-bit registers. */
static void registers_have_two_values(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, PRIMARY + 3, 0x11);
	out8(&b, PRIMARY + 3, 0x22);
	assert_int_equal(in8(&b, PRIMARY + 3), 0x22);
	out8(&b, PRIMARY + 0x206, 0x80);
	assert_int_equal(in8(&b, PRIMARY + 3), 0x11);
	out8(&b, PRIMARY + 4, 0); /* a write leaves that view */
	assert_int_equal(in8(&b, PRIMARY + 3), 0x22);
	command(&b, 0x27, (struct regs){ .ext = true });
	assert_int_equal(settle(&b, PRIMARY), READY);
	assert_int_equal(in8(&b, PRIMARY + 3) | in8(&b, PRIMARY + 4) << 8, (SECTORS - 1) & 0xffff);
	end(&b);
}

static void settings_and_power(void **state)
{
	uint8_t b[512];
	struct board board;

	setup(&board);
	command(&board, 0xef, (struct regs){ .feature = 0x82 });
	assert_int_equal(settle(&board, PRIMARY), READY);
	command(&board, 0xef, (struct regs){ .feature = 3, .count = 0x21 });
	assert_int_equal(settle(&board, PRIMARY), READY);
	command(&board, 0xef, (struct regs){ .feature = 3, .count = 0x47 });
	assert_int_equal(settle(&board, PRIMARY), READY | ERR);
	command(&board, 0x91, (struct regs){ .count = 32 }); /* 1 head */
	assert_int_equal(settle(&board, PRIMARY), READY);
	command(&board, 0xec, (struct regs){ 0 });
	settle(&board, PRIMARY);
	get(&board, PRIMARY, b, 512);
	assert_int_equal(word(b, 85) & 0x20, 0);
	assert_int_equal(word(b, 63), 0x207);
	assert_int_equal(word(b, 55), 1);
	assert_int_equal(word(b, 56), 32);
	command(&board, 0xe0, (struct regs){ 0 });
	settle(&board, PRIMARY);
	command(&board, 0xe5, (struct regs){ .count = 1 });
	settle(&board, PRIMARY);
	assert_int_equal(in8(&board, PRIMARY + 2), 0);
	command(&board, 0xe1, (struct regs){ 0 });
	settle(&board, PRIMARY);
	command(&board, 0xe5, (struct regs){ 0 });
	settle(&board, PRIMARY);
	assert_int_equal(in8(&board, PRIMARY + 2), 0xff);
	/* SMART: healthy; data with a sum; not without its signature. */
	command(&board, 0xb0, (struct regs){ .feature = 0xda, .lba = 0xc24f00 });
	assert_int_equal(settle(&board, PRIMARY), READY);
	assert_int_equal(in8(&board, PRIMARY + 4), 0x4f);
	command(&board, 0xb0, (struct regs){ .feature = 0xd0, .lba = 0xc24f00 });
	assert_int_equal(settle(&board, PRIMARY), READY | DRQ);
	get(&board, PRIMARY, b, 512);
	assert_int_equal(b[2], 1);
	command(&board, 0xb0, (struct regs){ .feature = 0xd0 });
	assert_int_equal(settle(&board, PRIMARY), READY | ERR);
	end(&board);
}

/* --- DMA --- */

struct prd {
	uint32_t addr, len; /* `len` as in the descriptor: bit 31 ends */
};
#define LAST 0x80000000u

static void table(struct board *b, const struct prd *p, unsigned n)
{
	for (unsigned k = 0; k < n; k++) {
		uint8_t raw[8];

		st_le32(raw, p[k].addr);
		st_le32(raw + 4, p[k].len);
		mem_write(b->mem, gpa(TABLE + 8 * k), raw, 8);
	}
	board_out(b, BM + 4, 4, TABLE);
}

static void start(struct board *b, bool to_memory)
{
	out8(b, BM + 2, 6);
	out8(b, BM, to_memory ? 8 : 0);
	out8(b, BM, to_memory ? 9 : 1);
}

/* The bus master's status when there was an interrupt. */
static uint8_t dma_wait(struct board *b)
{
	for (unsigned n = 0; !(in8(b, BM + 2) & 4); n++) {
		assert_true(n < 20000);
		usleep(100);
	}
	return in8(b, BM + 2);
}

static void stop(struct board *b)
{
	out8(b, BM, 0);
	out8(b, BM + 2, 6);
}

static uint32_t mem32(struct board *b, uint32_t at)
{
	uint8_t raw[4];

	assert_true(mem_read(b->mem, gpa(at), raw, 4));
	return ld_le32(raw);
}

static void dma_by_descriptors(void **state)
{
	/* Pieces that end anywhere, 64 KiB as 0. */
	static const struct prd in[] = {
		{ DATA, 2 }, { DATA + 2, 700 }, { DATA + 702, 0 }, { DATA + 66238, 3394 | LAST }
	};
	static const struct prd out[] = { { DATA, 0 }, { DATA + 65536, 4096 | LAST } };
	struct board b;
	uint32_t first;

	setup(&b);
	table(&b, in, 4);
	command(&b, 0x25, (struct regs){ .lba = 3, .count = 136, .ext = true });
	start(&b, true);
	assert_int_equal(dma_wait(&b), 4);
	assert_int_equal(settle(&b, PRIMARY), READY);
	stop(&b);
	for (uint32_t n = 0; n < 136; n++)
		assert_int_equal(mem32(&b, DATA + 512 * n), 3 + n);
	/* The other order: the bus master first. */
	table(&b, out, 2);
	start(&b, false);
	command(&b, 0xca, (struct regs){ .lba = 20000, .count = 136 });
	assert_int_equal(dma_wait(&b), 4);
	assert_int_equal(settle(&b, PRIMARY), READY);
	stop(&b);
	for (uint32_t n = 0; n < 136; n++) {
		assert_int_equal(pread(disk_fd, &first, 4, (off_t)(20000 + n) * 512), 4);
		assert_int_equal(first, 3 + n);
	}
	end(&b);
}

/* Far more descriptors than one request of a node may have pieces. */
static void dma_in_many_pieces(void **state)
{
	static struct prd p[8000];
	struct board b;

	setup(&b);
	for (unsigned n = 0; n < 8000; n++)
		p[n] = (struct prd){ 0x40000 + 10 * n, n == 7999 ? 10 | LAST : 10 };
	for (unsigned n = 0; n < 8000; n++) {
		uint8_t raw[8];

		st_le32(raw, p[n].addr);
		st_le32(raw + 4, p[n].len);
		mem_write(b.mem, gpa(0x20000 + 8 * n), raw, 8);
	}
	board_out(&b, BM + 4, 4, 0x20000);
	command(&b, 0xc8, (struct regs){ .lba = 1, .count = 156 }); /* 79872 bytes of 80000 */
	start(&b, true);
	assert_int_equal(dma_wait(&b), 5); /* there is room left */
	assert_int_equal(settle(&b, PRIMARY), READY);
	for (uint32_t n = 0; n < 156; n++)
		assert_int_equal(mem32(&b, 0x40000 + 512 * n), 1 + n);
	end(&b);
}

static void a_table_that_is_too_short(void **state)
{
	static const struct prd p[] = { { DATA, 1000 }, { DATA + 0x10000, 200 | LAST } };
	static const struct prd rest[] = { { DATA + 0x20000, 0x1000 | LAST } };
	struct board b;

	setup(&b);
	table(&b, p, 2);
	command(&b, 0xc8, (struct regs){ .lba = 1, .count = 4 });
	start(&b, true);
	for (unsigned n = 0; in8(&b, BM + 2) & 1; n++) {
		assert_true(n < 20000);
		usleep(100);
	}
	assert_int_equal(in8(&b, BM + 2), 0);
	assert_int_equal(mem32(&b, DATA + 512), 2);
	assert_int_equal(b.line[14].level, 0);
	assert_true(alt(&b, PRIMARY) & DRQ);
	/* Another start goes on where the drive stands: at its third sector. */
	stop(&b);
	table(&b, rest, 1);
	start(&b, true);
	assert_int_equal(dma_wait(&b), 5);
	assert_int_equal(settle(&b, PRIMARY), READY);
	assert_int_equal(mem32(&b, DATA + 0x20000), 3);
	end(&b);
}

static void dma_to_where_no_memory_is(void **state)
{
	static const struct prd bad[] = { { DATA, 512 }, { BOARD_RAM - 256, 512 | LAST } };
	static const struct prd far[] = { { 0xfee00000, 1024 | LAST } };
	struct board b;

	setup(&b);
	for (unsigned n = 0; n < 4; n++) {
		table(&b, n == 0 ? bad : far, n == 0 ? 2 : 1);
		if (n == 2)
			board_out(&b, BM + 4, 4, 0xfffffffc); /* the table itself */
		if (n == 3)				      /* no bus master */
			pci_config_write(b.pci, IDE_DEVFN, 4, 2, 1);
		command(&b, n & 1 ? 0xca : 0xc8, (struct regs){ .lba = 1, .count = 2 });
		start(&b, !(n & 1));
		assert_int_equal(dma_wait(&b), 6);
		assert_int_equal(settle(&b, PRIMARY), READY | ERR);
		assert_int_equal(in8(&b, PRIMARY + 1), 0x84);
		stop(&b);
	}
	end(&b);
}

/* The direction is the bus master's: the wrong one moves nothing, and a reset helps. */
static void the_wrong_direction(void **state)
{
	static const struct prd p[] = { { DATA, 512 | LAST } };
	struct board b;

	setup(&b);
	table(&b, p, 1);
	command(&b, 0xc8, (struct regs){ .lba = 5, .count = 1 });
	start(&b, false);
	usleep(2000);
	assert_int_equal(in8(&b, BM + 2), 1);
	assert_true(alt(&b, PRIMARY) & DRQ);
	out8(&b, PRIMARY + 0x206, 4);
	assert_int_equal(alt(&b, PRIMARY), BSY);
	out8(&b, PRIMARY + 0x206, 0);
	assert_int_equal(settle(&b, PRIMARY), READY);
	assert_int_equal(in8(&b, PRIMARY + 1), 1);
	assert_int_equal(mem32(&b, DATA), 0);
	end(&b);
}

static void trim(void **state)
{
	static const struct prd p[] = { { DATA, 512 | LAST } };
	uint8_t ranges[512] = { 0 };
	struct board b;
	uint32_t first;

	setup(&b);
	st_le64(ranges, 8 | 8ull << 48);
	st_le64(ranges + 16, 104 | 96ull << 48);
	mem_write(b.mem, gpa(DATA), ranges, 512);
	table(&b, p, 1);
	command(&b, 0x06, (struct regs){ .feature = 1, .count = 1, .ext = true });
	start(&b, false);
	assert_int_equal(dma_wait(&b), 4);
	assert_int_equal(settle(&b, PRIMARY), READY);
	stop(&b);
	for (uint32_t n = 0; n < 220; n++) {
		bool gone = (n >= 8 && n < 16) || (n >= 104 && n < 200);

		assert_int_equal(pread(disk_fd, &first, 4, (off_t)n * 512), 4);
		assert_int_equal(first, gone ? 0 : n);
	}
	/* Beyond the end, and more than is offered. */
	st_le64(ranges, SECTORS | 8ull << 48);
	mem_write(b.mem, gpa(DATA), ranges, 512);
	command(&b, 0x06, (struct regs){ .feature = 1, .count = 1, .ext = true });
	start(&b, false);
	dma_wait(&b);
	assert_int_equal(settle(&b, PRIMARY), READY | ERR);
	command(&b, 0x06, (struct regs){ .feature = 1, .count = 9, .ext = true });
	assert_int_equal(settle(&b, PRIMARY), READY | ERR);
	end(&b);
}

/* --- interrupts, reset, the host's side --- */

static void interrupts_can_be_off(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, PRIMARY + 0x206, 2);
	command(&b, 0xe7, (struct regs){ 0 });
	for (unsigned n = 0; alt(&b, PRIMARY) & BSY && n < 20000; n++)
		usleep(100);
	assert_int_equal(b.line[14].rises, 0);
	out8(&b, PRIMARY + 0x206, 0);
	assert_int_equal(b.line[14].rises, 1); /* it waited */
	alt(&b, PRIMARY);
	assert_int_equal(b.line[14].level, 1);
	in8(&b, PRIMARY + 7);
	assert_int_equal(b.line[14].level, 0);
	end(&b);
}

static void a_reset_waits_for_the_node(void **state)
{
	struct board b;

	setup(&b);
	fault_hold(FAULT_READ);
	command(&b, 0x20, (struct regs){ .lba = 5, .count = 1 });
	fault_expect_waiting(FAULT_READ, 1);
	assert_int_equal(alt(&b, PRIMARY), BSY | READY);
	out8(&b, PRIMARY + 7, 0xec); /* a busy drive takes nothing */
	out8(&b, PRIMARY + 0x206, 4);
	out8(&b, PRIMARY + 0x206, 0);
	assert_int_equal(alt(&b, PRIMARY), BSY);
	fault_let_go(FAULT_READ);
	assert_int_equal(settle(&b, PRIMARY), READY);
	assert_int_equal(in8(&b, PRIMARY + 2), 1);
	assert_int_equal(b.line[14].rises, 0);
	end(&b);
}

static void errors_of_the_host(void **state)
{
	static const struct prd p[] = { { DATA, 0x400 | LAST } };
	struct board b;

	setup(&b);
	fault_fail(FAULT_READ, 0, 1, EIO);
	table(&b, p, 1);
	command(&b, 0xc8, (struct regs){ .lba = 0x1234, .count = 2 });
	start(&b, true);
	dma_wait(&b);
	assert_int_equal(settle(&b, PRIMARY), READY | ERR);
	assert_int_equal(in8(&b, PRIMARY + 1), 0x40);
	assert_int_equal(in8(&b, PRIMARY + 4), 0x12);
	assert_int_equal(in8(&b, PRIMARY + 3), 0x34);
	fault_none();
	end(&b);
}

/* --- CD-ROM --- */

static void send_packet(struct board *b, const uint8_t *cdb, uint16_t limit, bool dma)
{
	out8(b, SECONDARY + 1, dma);
	out8(b, SECONDARY + 4, (uint8_t)limit);
	out8(b, SECONDARY + 5, (uint8_t)(limit >> 8));
	out8(b, SECONDARY + 7, 0xa0);
	assert_int_equal(settle(b, SECONDARY), READY | DRQ);
	assert_int_equal(in8(b, SECONDARY + 2), 1);
	put(b, SECONDARY, cdb, 12);
}

/* A packet by PIO: bytes that came, or minus the sense key with its code in the second byte. */
static int packet(struct board *b, const uint8_t *cdb, uint8_t *buf, uint16_t limit)
{
	int len = 0;
	uint8_t s;

	send_packet(b, cdb, limit, false);
	while ((s = settle(b, SECONDARY)) & DRQ) {
		int n = in8(b, SECONDARY + 4) | in8(b, SECONDARY + 5) << 8;

		assert_int_equal(in8(b, SECONDARY + 2), 2);
		assert_true(n && n <= limit);
		get(b, SECONDARY, buf + len, (unsigned)n);
		len += n;
	}
	assert_int_equal(in8(b, SECONDARY + 2), 3);
	return s & ERR ? -(in8(b, SECONDARY + 1) >> 4) : len;
}

static int simple(struct board *b, uint8_t code, uint8_t four, uint8_t *buf)
{
	const uint8_t cdb[12] = { code, 0, 0, 0, four };

	return packet(b, cdb, buf, 0x1000);
}

/* Past the attention of the reset. */
static void wake_up(struct board *b)
{
	uint8_t buf[64];

	assert_int_equal(simple(b, 0x00, 0, buf), -6);
	assert_int_equal(simple(b, 0x03, 18, buf), 18);
	assert_int_equal(buf[2], 6);
	assert_int_equal(buf[12], 0x29);
	assert_int_equal(simple(b, 0x00, 0, buf), 0);
}

static void a_cdrom_is_read(void **state)
{
	static uint8_t buf[70000];
	static const uint8_t read[12] = { 0x28, 0, 0, 0, 0, 9, 0, 0, 30 };
	static const uint8_t read12[12] = { 0xa8, 0, 0, 0, 0, 40, 0, 0, 0, 8 };
	static const struct prd p[] = { { DATA, 0x4000 | LAST } };
	struct board b;

	setup(&b);
	assert_int_equal(simple(&b, 0x12, 36, buf), 36);
	assert_int_equal(buf[0], 5);
	wake_up(&b);
	assert_int_equal(simple(&b, 0x25, 0, buf), 8);
	assert_int_equal(ld_be32(buf), CD_SECTORS - 1);
	for (uint16_t limit = 0x800; limit; limit = limit == 0x800 ? 0xfffe : limit == 0xfffe ? 0x7d0 : 0) {
		assert_int_equal(packet(&b, read, buf, limit), 30 * 2048);
		for (uint32_t n = 0; n < 30; n++)
			assert_int_equal(ld_le32(buf + 2048 * n), 9 + n);
	}
	/* By DMA, on the other channel's bus master. */
	table(&b, p, 1);
	board_out(&b, BM + 12, 4, TABLE);
	send_packet(&b, read12, 0, true);
	out8(&b, BM + 10, 6);
	out8(&b, BM + 8, 9);
	for (unsigned n = 0; !(in8(&b, BM + 10) & 4) && n < 20000; n++)
		usleep(100);
	assert_int_equal(in8(&b, BM + 10) & 7, 4);
	assert_int_equal(settle(&b, SECONDARY), READY);
	for (uint32_t n = 0; n < 8; n++)
		assert_int_equal(mem32(&b, DATA + 2048 * n), 40 + n);
	assert_true(b.line[15].rises > 0);
	end(&b);
}

static void what_a_cdrom_refuses(void **state)
{
	static const uint8_t beyond[12] = { 0x28, 0, 0, 0, 1, 0x2b, 0, 0, 2 };
	static const uint8_t raw[12] = { 0xbe, 0, 0, 0, 0, 1, 0, 0, 1, 0xf8 };
	static const uint8_t saved[12] = { 0x5a, 0, 0xc1, 0, 0, 0, 0, 0, 100 };
	uint8_t buf[4096];
	struct board b;

	setup(&b);
	wake_up(&b);
	assert_int_equal(packet(&b, beyond, buf, 2048), -5);
	simple(&b, 0x03, 18, buf);
	assert_int_equal(buf[12], 0x21);
	assert_int_equal(packet(&b, raw, buf, 2048), -5);
	assert_int_equal(packet(&b, saved, buf, 2048), -5);
	simple(&b, 0x03, 18, buf);
	assert_int_equal(buf[12], 0x39);
	assert_int_equal(simple(&b, 0x2a, 0, buf), -5); /* WRITE */
	simple(&b, 0x03, 18, buf);
	assert_int_equal(buf[12], 0x20);
	simple(&b, 0x03, 18, buf); /* told once */
	assert_int_equal(buf[2], 0);
	end(&b);
}

static void what_a_cdrom_tells(void **state)
{
	static const uint8_t toc[12] = { 0x43, 2, 0, 0, 0, 0, 0, 0, 100 };
	static const uint8_t configuration[12] = { 0x46, 0, 0, 0, 0, 0, 0, 0, 200 };
	static const uint8_t mode[12] = { 0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 100 };
	static const uint8_t dvd[12] = { 0xad, 0, 0, 0, 0, 0, 0, 0, 8, 4 };
	uint8_t buf[4096];
	struct board b;

	setup(&b);
	wake_up(&b);
	assert_int_equal(packet(&b, toc, buf, 2048), 20);
	assert_memory_equal(buf, "\0\22\1\1\0\24\1\0\0\0\2\0\0\26\252\0\0\0\6\0", 20); /* 300 sectors: 0:06.00 */
	assert_true(packet(&b, configuration, buf, 2048) > 40);
	assert_int_equal(buf[7], 8);
	assert_int_equal(packet(&b, mode, buf, 2048), 30);
	assert_int_equal(buf[8], 0x2a);
	assert_int_equal(packet(&b, dvd, buf, 2048), -5); /* a CD */
	cd_sectors = 500000;
	ide_change_medium(ide, 2, open_node(true));
	cd_sectors = CD_SECTORS;
	assert_int_equal(simple(&b, 0x00, 0, buf), -6);
	assert_int_equal(packet(&b, configuration, buf, 2048) > 40 ? buf[7] : 0, 16);
	assert_int_equal(packet(&b, dvd, buf, 2048), 2052);
	assert_int_equal(ld_be32(buf + 12), 0x30000 + 500000 - 1);
	end(&b);
}

static uint8_t event(struct board *b, uint8_t *status)
{
	static const uint8_t cdb[12] = { 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8 };
	uint8_t buf[64];

	assert_int_equal(packet(b, cdb, buf, 2048), 8);
	*status = buf[5];
	return buf[4];
}

static void media_come_and_go(void **state)
{
	uint8_t buf[64], status;
	struct board b;

	setup(&b);
	wake_up(&b);
	assert_int_equal(event(&b, &status), 0);
	assert_int_equal(status, 2);
	/* The button asks while the tray is locked, and the guest opens it. */
	assert_int_equal(simple(&b, 0x1e, 1, buf), 0);
	assert_int_equal(simple(&b, 0x1b, 2, buf), -5);
	ide_press_eject(ide, 2);
	assert_int_equal(event(&b, &status), 1);
	assert_int_equal(simple(&b, 0x1e, 0, buf), 0);
	assert_int_equal(simple(&b, 0x1b, 2, buf), 0);
	assert_int_equal(event(&b, &status), 3);
	assert_int_equal(status, 1);
	assert_int_equal(simple(&b, 0x00, 0, buf), -2);
	simple(&b, 0x03, 18, buf);
	assert_int_equal(buf[12], 0x3a);
	/* Back in. */
	assert_int_equal(simple(&b, 0x1b, 3, buf), 0);
	assert_int_equal(event(&b, &status), 2);
	assert_int_equal(simple(&b, 0x00, 0, buf), 0);
	/* Taken away by the host, and another one. */
	ide_change_medium(ide, 2, NULL);
	assert_int_equal(simple(&b, 0x00, 0, buf), -2);
	cd_sectors = 17;
	ide_change_medium(ide, 2, open_node(true));
	cd_sectors = CD_SECTORS;
	assert_int_equal(simple(&b, 0x25, 0, buf), -6);
	assert_int_equal(simple(&b, 0x25, 0, buf), 8);
	assert_int_equal(ld_be32(buf), 16);
	end(&b);
}

/* --- saved states --- */

static void any_use(struct board *b)
{
	static const uint8_t codes[] = { 0x20, 0xc8, 0xec, 0xa0, 0x30, 0xca, 0xe7 };

	for (unsigned n = 0; n < 8; n++) {
		in8(b, (uint16_t)(PRIMARY + n));
		board_in(b, SECONDARY, 4);
		board_out(b, PRIMARY, 2, n);
	}
	out8(b, PRIMARY + 7, codes[rand() % 7]);
	out8(b, SECONDARY + 7, codes[rand() % 7]);
	out8(b, BM, 9);
	out8(b, BM, 0);
}

static void transfers_go_on_elsewhere(void **state)
{
	static const struct prd p[] = { { DATA, 0x4000 | LAST } };
	uint8_t sector[512];
	struct board a, b;

	setup(&a);
	/* A read whose third sector the guest has read half, with more to come from the node. */
	command(&a, 0x20, (struct regs){ .lba = 7, .count = 40 });
	for (unsigned n = 0; n < 3; n++) {
		settle(&a, PRIMARY);
		get(&a, PRIMARY, sector, n < 2 ? 512 : 256);
	}
	ide->drain(ide->self);
	board_migrate(&a, &b, make);
	assert_int_equal(alt(&b, PRIMARY), READY | DRQ);
	get(&b, PRIMARY, sector, 256);
	for (unsigned n = 3; n < 40; n++) {
		assert_int_equal(settle(&b, PRIMARY), READY | DRQ);
		get(&b, PRIMARY, sector, 512);
		assert_int_equal(ld_le32(sector), 7 + n);
	}
	board_fini(&a);

	/* A DMA that was asked for while nothing may begin. */
	ide->drain(ide->self);
	table(&b, p, 1);
	command(&b, 0xc8, (struct regs){ .lba = 100, .count = 32 });
	start(&b, true);
	usleep(2000);
	assert_int_equal(in8(&b, BM + 2), 1);
	mem_read(b.mem, gpa(TABLE), moved_table, sizeof(moved_table));
	board_migrate(&b, &a, make);
	memset(moved_table, 0, sizeof(moved_table));
	board_fini(&b);
	assert_int_equal(dma_wait(&a), 4);
	assert_int_equal(mem32(&a, DATA), 100);
	end(&a);
}

static void damaged_states(void **state)
{
	struct board b;
	uint8_t sector[512];

	setup(&b);
	command(&b, 0x20, (struct regs){ .lba = 7, .count = 40 });
	settle(&b, PRIMARY);
	get(&b, PRIMARY, sector, 256);
	ide->drain(ide->self);
	board_mutate(&b, any_use);
	end(&b);
}

static void power_on_state(void **state)
{
	struct board b;

	setup(&b);
	command(&b, 0xc6, (struct regs){ .count = 8 });
	out8(&b, PRIMARY + 0x206, 2);
	command(&b, 0x20, (struct regs){ .lba = 7, .count = 40 });
	board_reset(&b);
	/* Ports are decoded once the function's I/O is on. */
	pci_config_write(b.pci, IDE_DEVFN, 4, 2, 5);
	assert_int_equal(alt(&b, PRIMARY), READY);
	command(&b, 0xc4, (struct regs){ .lba = 7, .count = 8 });
	assert_int_equal(settle(&b, PRIMARY), READY | ERR);
	assert_true(b.line[14].rises > 0);
	end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(identify),
		cmocka_unit_test(nobody_is_there),
		cmocka_unit_test(pio_reads_and_writes),
		cmocka_unit_test(outside_of_the_disk),
		cmocka_unit_test(a_read_only_disk),
		cmocka_unit_test(registers_have_two_values),
		cmocka_unit_test(settings_and_power),
		cmocka_unit_test(dma_by_descriptors),
		cmocka_unit_test(dma_in_many_pieces),
		cmocka_unit_test(a_table_that_is_too_short),
		cmocka_unit_test(dma_to_where_no_memory_is),
		cmocka_unit_test(the_wrong_direction),
		cmocka_unit_test(trim),
		cmocka_unit_test(interrupts_can_be_off),
		cmocka_unit_test(a_reset_waits_for_the_node),
		cmocka_unit_test(errors_of_the_host),
		cmocka_unit_test(a_cdrom_is_read),
		cmocka_unit_test(what_a_cdrom_refuses),
		cmocka_unit_test(what_a_cdrom_tells),
		cmocka_unit_test(media_come_and_go),
		cmocka_unit_test(transfers_go_on_elsewhere),
		cmocka_unit_test(damaged_states),
		cmocka_unit_test(power_on_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
