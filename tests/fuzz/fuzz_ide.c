/*
 * A hostile driver of the IDE function: its registers with any size, order and value, commands and packets that are
 * nearly right, descriptors that point anywhere, media that come and go, pauses and resets. After a reset of the
 * machine nothing may touch memory any more.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "dev/ide.h"

#define RAM   0x20000u
#define TABLE 0x1000u
#define BM    0xc000u
#define STEPS 200

struct fuzz {
	struct bus *bus;
	struct pci_bus *pci;
	struct mem_space *mem;
	struct device *ide;
};

static void set_line(void *opaque, unsigned n, bool level)
{
}

static void send_msi(void *opaque, uint64_t addr, uint32_t data)
{
}

static int open_memfd(void *opaque, const char *path, int flags)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);

	return fd >= 0 && !ftruncate(fd, 1 << 20) ? fd : -1;
}

static struct block_node *open_node(bool cd)
{
	const struct block_config c = {
		.path = "disk", .format = "raw", .open_path = open_memfd, .aio = BLOCK_AIO_THREADS, .readonly = cd
	};
	struct err err;

	return block_open(&c, &err);
}

static void make(struct fuzz *f)
{
	const struct mem_slot_config ram = { .name = "ram", .base = gpa(0), .size = RAM, .fd = -1 };
	struct irq_line line = { set_line, f, 0 };
	const struct irq_line intx[4] = { line, line, line, line };
	const struct msi_sink msi = { .send = send_msi, .opaque = f };
	struct ide_config c = { .irq = { line, line } };
	struct err err;

	f->mem = mem_space_new();
	f->bus = bus_new();
	f->pci = pci_bus_new(f->bus, intx, &msi);
	if (mem_add_slot(f->mem, &ram, &err))
		abort();
	c.bus = f->bus;
	c.pci = f->pci;
	c.mem = f->mem;
	for (unsigned n = 0; n < 3; n++)
		c.drive[n] = (struct ide_drive_config){ .present = true, .cdrom = n == 2, .node = open_node(n == 2) };
	f->ide = ide_new(&c, &err);
	if (!f->ide || pci_assign_resources(f->pci, BM, 0xc0000000, 0xd0000000, 1ull << 40, &err))
		abort();
	pci_config_write(f->pci, IDE_DEVFN, 4, 2, 5);
	pci_config_write(f->pci, IDE_DEVFN, IDE_TIMING, 4, 0x80008000);
}

static void unmake(struct fuzz *f)
{
	f->ide->destroy(f->ide->self);
	pci_bus_free(f->pci);
	bus_free(f->bus);
	mem_space_free(f->mem);
}

static void out(struct fuzz *f, uint16_t port, unsigned size, uint32_t v)
{
	bus_write(f->bus, BUS_PORT, port, size, v);
}

static uint32_t in(struct fuzz *f, uint16_t port, unsigned size)
{
	uint64_t v;

	bus_read(f->bus, BUS_PORT, port, size, &v);
	return (uint32_t)v;
}

/* A command with registers from the input, on one of the drives that there are. */
static void command(struct fuzz *f, const uint8_t *r)
{
	static const uint8_t codes[] = { 0x20, 0x24, 0x25, 0x29, 0x30, 0x34, 0x35, 0x39, 0x3d, 0xc4, 0xc5, 0xc6, 0xc8,
					 0xca, 0x06, 0xec, 0xe7, 0xef, 0xb0, 0xa1, 0x91, 0x27, 0x40, 0x90, 0x08, 0xa0 };
	uint16_t base = r[1] & 1 ? 0x170 : 0x1f0;

	out(f, base + 6, 1, 0xe0 | (r[1] & 0x10));
	for (unsigned n = 0; n < 5; n++)
		out(f, (uint16_t)(base + 1 + n), 1, r[1] & 2 ? 0 : r[3 + n]);
	out(f, base + 1, 1, r[3]);
	out(f, base + 2, 1, r[4]);
	out(f, base + 7, 1, r[1] & 4 ? r[2] : codes[r[2] % sizeof(codes)]);
}

static void packet(struct fuzz *f, const uint8_t *r)
{
	static const uint8_t codes[] = { 0x00, 0x03, 0x12, 0x1b, 0x1e, 0x25, 0x28, 0x43, 0x46,
					 0x4a, 0x51, 0x52, 0x5a, 0xa8, 0xad, 0xbd, 0xbe };
	uint8_t cdb[12] = { 0 };

	out(f, 0x176, 1, 0xa0);
	out(f, 0x171, 1, r[1] & 1);
	out(f, 0x174, 1, r[7]);
	out(f, 0x175, 1, r[1] & 0xf0);
	out(f, 0x177, 1, 0xa0);
	cdb[0] = r[1] & 2 ? r[2] : codes[r[2] % sizeof(codes)];
	cdb[1] = r[1] >> 4;
	cdb[2] = r[1] & 4 ? r[4] : 0;
	cdb[4] = r[3];
	cdb[5] = r[4];
	cdb[7] = r[5] & 3;
	cdb[8] = r[6];
	cdb[9] = r[1] & 8 ? 0x10 : r[5];
	for (unsigned n = 0; n < 12; n += 4)
		out(f, 0x170, 4, ld_le32(cdb + n));
}

static void descriptors(struct fuzz *f, const uint8_t *r)
{
	static const uint32_t bases[] = { 0x4000, 0x10000, RAM - 256, RAM, TABLE, 0xfee00000, 0xfffffff0, 0 };

	for (unsigned n = 0; n < 4; n++) {
		uint8_t prd[8];

		st_le32(prd, bases[(r[2] >> n) & 7] + r[3]);
		st_le32(prd + 4, ld_le16(r + 4) >> (n * (r[1] & 3)) | (r[6] >> n & 1 ? 0x80000000u : 0));
		mem_write(f->mem, gpa(TABLE + 8 * n), prd, 8);
	}
	out(f, (uint16_t)(BM + 4 + (r[7] & 1) * 8), 4, r[7] & 0x80 ? ld_le32(r + 4) : TABLE);
}

/* The machine stands still: nothing moves. */
static void quiet(struct fuzz *f, bool reset)
{
	uint8_t mark = 0x5a, now;

	f->ide->drain(f->ide->self);
	if (reset)
		f->ide->reset(f->ide->self);
	mem_write(f->mem, gpa(0x4000), &mark, 1);
	usleep(50);
	mem_read(f->mem, gpa(0x4000), &now, 1);
	if (now != mark)
		abort();
	f->ide->resume(f->ide->self);
}

static void step(struct fuzz *f, const uint8_t *r)
{
	static const uint16_t bases[] = { 0x1f0, 0x170, 0x3f4, 0x374, BM, BM + 8, 0x1f0, 0x170 };
	uint16_t port = (uint16_t)(bases[r[1] & 7] + (r[2] & 7));
	unsigned size = 1u << (r[1] >> 3) % 3;

	switch (r[0] % 12) {
	case 0:
		out(f, port, size, ld_le32(r + 4));
		break;
	case 1:
		in(f, port, size);
		break;
	case 2 ... 3:
		command(f, r);
		break;
	case 4:
		packet(f, r);
		break;
	case 5:
		descriptors(f, r);
		break;
	case 6 ... 7: /* a bus master */
		out(f, (uint16_t)(BM + (r[1] & 8)), 1, r[1] & 1 ? r[2] : r[2] & 1 ? 9 : 1);
		break;
	case 8: /* a block at a data port */
		for (unsigned n = 0; n < 1u + r[2] * 16u; n++)
			if (r[1] & 2)
				out(f, r[1] & 1 ? 0x170 : 0x1f0, 4, ld_le32(r + 4));
			else
				in(f, r[1] & 1 ? 0x170 : 0x1f0, 4);
		break;
	case 9: /* the host */
		if (r[1] & 1)
			ide_press_eject(f->ide, 2);
		else if ((r[1] & 14) == 0)
			ide_change_medium(f->ide, 2, r[2] & 1 ? open_node(true) : NULL);
		else
			usleep(r[2]);
		break;
	case 10:
		pci_config_write(f->pci, IDE_DEVFN, r[2], 1u << (r[1] & 1), ld_le32(r + 4));
		break;
	case 11:
		quiet(f, r[1] & 1);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f;

	make(&f);
	for (unsigned n = 0; size >= 8 && n < STEPS; data += 8, size -= 8, n++)
		step(&f, data);
	unmake(&f);
	return 0;
}
