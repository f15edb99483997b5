/*
 * A hostile driver of the e1000: its registers with any size, order and value, descriptors that are nearly right, rings
 * and buffers anywhere, frames from a peer that is full at times, pauses and resets. While it stands still nothing of
 * it may touch memory.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "dev/e1000.h"

#define RAM   0x20000u
#define BAR   0xc0000000u
#define IO    0xc000u
#define DEVFN 16
#define STEPS 300

struct fuzz {
	struct loop *loop;
	struct vclock *clock;
	struct bus *bus;
	struct pci_bus *pci;
	struct mem_space *mem;
	struct device *card;
	struct net_peer peer;
	unsigned sends;
	uint8_t meddles; /* what the driver does while a frame is sent */
	bool still;
};

static void nothing(void *opaque, const uint8_t *frame, size_t len)
{
}

static void set(struct fuzz *f, uint32_t reg, uint32_t v)
{
	bus_write(f->bus, BUS_MMIO, BAR + reg, 4, v);
}

/* A reset, after which it may go on, or the end of its right to memory. */
static void meddle(struct fuzz *f)
{
	if (f->meddles & 1)
		set(f, 0, 1u << 26);
	if (f->meddles & 2)
		set(f, 0x400, 2);
	if (f->meddles & 4)
		pci_config_write(f->pci, DEVFN, 4, 2, 3);
	f->meddles = 0;
}

static bool send_frame(struct net_peer *p, const struct net_packet *k)
{
	struct fuzz *f = container_of(p, struct fuzz, peer);

	if (f->still || k->len > NET_FRAME_MAX || k->len < 14 || !k->stable)
		abort();
	meddle(f);
	if (f->sends++ % 5 == 4)
		return false;
	net_segment(k->iov->iov_base, k->len, &k->offload, nothing, NULL);
	return true;
}

static void destroy(struct net_peer *p)
{
}

static const struct net_peer_ops peer_ops = { .name = "fuzz", .send = send_frame, .destroy = destroy };

static void set_line(void *opaque, unsigned n, bool level)
{
}

static void send_msi(void *opaque, uint64_t addr, uint32_t data)
{
}

static void quit(void *opaque)
{
	loop_quit(opaque);
}

static void run(struct fuzz *f)
{
	for (unsigned n = 0; n < 2; n++) {
		loop_post(f->loop, quit, f->loop);
		loop_run(f->loop);
	}
}

static void make(struct fuzz *f)
{
	const struct mem_slot_config ram = { .name = "ram", .base = gpa(0), .size = RAM, .fd = -1 };
	struct irq_line line = { set_line, f, 0 };
	const struct irq_line intx[4] = { line, line, line, line };
	const struct msi_sink msi = { .send = send_msi, .opaque = f };
	struct e1000_config c = { .devfn = DEVFN, .peer = &f->peer, .mac = { 2, 0, 0, 0, 0, 1 } };
	struct err err;

	memset(f, 0, sizeof(*f));
	f->peer.ops = &peer_ops;
	f->loop = loop_new(&err);
	f->clock = clock_new(f->loop, CLOCK_SOURCE_ICOUNT, &err);
	clock_start(f->clock);
	c.loop = f->loop;
	c.clock = f->clock;
	c.mem = f->mem = mem_space_new();
	f->bus = bus_new();
	c.pci = f->pci = pci_bus_new(f->bus, intx, &msi);
	if (mem_add_slot(f->mem, &ram, &err))
		abort();
	f->card = e1000_new(&c, &err);
	if (!f->card || pci_assign_resources(f->pci, IO, BAR, BAR + 0x100000, 1ull << 40, &err))
		abort();
	pci_config_write(f->pci, DEVFN, 4, 2, 7);
}

static void unmake(struct fuzz *f)
{
	f->card->destroy(f->card->self);
	pci_bus_free(f->pci);
	bus_free(f->bus);
	mem_space_free(f->mem);
	clock_free(f->clock);
	loop_free(f->loop);
}

/* Rings that work, from where the input says; the PHY may loop. */
static void rings(struct fuzz *f, const uint8_t *r)
{
	set(f, 0x3800, (uint32_t)r[1] << 8);
	set(f, 0x3804, 0);
	set(f, 0x3808, (uint32_t)(1 + (r[2] & 7)) << 7);
	set(f, 0x2800, (uint32_t)r[3] << 8);
	set(f, 0x2804, 0);
	set(f, 0x2808, (uint32_t)(1 + (r[4] & 7)) << 7);
	set(f, 0x400, 2 | (r[5] & 8));
	set(f, 0x20, 1u << 26 | 1u << 21 | (r[7] & 8 ? 0x4140 : 0x1140));
	pci_config_write(f->pci, DEVFN, 4, 2, 7);
	set(f, 0x100, 2 | (uint32_t)ld_le16(r + 5) << 3 | (uint32_t)(r[7] & 7) << 24);
}

static void descriptor(struct fuzz *f, const uint8_t *r)
{
	static const uint64_t bases[] = { 0x4000, 0x10000, RAM - 64, 0, 0xfee00000, ~0ull - 8, 1ull << 40, 0x8000 };
	static const uint32_t lens[] = { 0, 60, 1514, 4096, 0xffff, 0xfffff, 14, 200 };
	uint8_t d[16];

	st_le64(d, r[2] & 0x80 ? ld_le64(r) : bases[r[2] & 7]);
	st_le32(d + 8, lens[r[3] & 7] | (uint32_t)r[4] << 24 | (uint32_t)(r[3] >> 3) << 20);
	st_le32(d + 12, ld_le32(r + 4));
	mem_write(f->mem, gpa((uint32_t)r[1] << 4 | (uint32_t)(r[3] & 0xf0) << 8), d, 16);
}

static void frame(struct fuzz *f, const uint8_t *r)
{
	static const uint16_t lens[] = { 0, 13, 14, 60, 1514, 1518, 9000, 20000 };
	static uint8_t b[20000];

	memcpy(b,
	       r[1] & 1	  ? (const uint8_t *)"\xff\xff\xff\xff\xff\xff"
	       : r[1] & 2 ? (const uint8_t *)"\2\0\0\0\0\1"
			  : r,
	       6);
	st_be16(b + 12, r[1] & 4 ? 0x8100 : 0x0800);
	b[14] = r[4];
	b[23] = r[5] & 1 ? 6 : r[5];
	net_deliver(&f->peer, b, lens[r[1] >> 5] + (r[2] & 1), &(struct net_offload){ .valid = true });
}

static void quiet(struct fuzz *f, bool reset)
{
	static uint8_t before[RAM], after[RAM];

	f->card->drain(f->card->self);
	if (reset)
		f->card->reset(f->card->self);
	f->still = true;
	mem_read(f->mem, gpa(0), before, RAM);
	set(f, 0x3818, 1);
	run(f);
	frame(f, (const uint8_t *)"\0\x81\0\0\0\0\0\0");
	mem_read(f->mem, gpa(0), after, RAM);
	if (memcmp(before, after, RAM))
		abort();
	f->still = false;
	f->card->resume(f->card->self);
}

static void step(struct fuzz *f, const uint8_t *r)
{
	static const uint16_t regs[] = { 0x0,	 0x10,	 0x14,	 0x20,	 0xc0,	 0xc4,	 0xd0,	 0xd8,
					 0x100,	 0x2810, 0x2818, 0x2820, 0x400,	 0x3810, 0x3818, 0x3820,
					 0x5000, 0x5200, 0x5400, 0x5600, 0x4000, 0x3808, 0x2808, 0x3804 };
	unsigned size = 1u << (r[1] & 3);
	uint64_t v;

	switch (r[0] % 12) {
	case 0:
		bus_write(f->bus, BUS_MMIO, BAR + (ld_le16(r + 2) | (uint32_t)(r[1] & 4) << 14), size, ld_le32(r + 4));
		break;
	case 1:
		bus_read(f->bus, BUS_MMIO, BAR + (ld_le16(r + 2) | (uint32_t)(r[1] & 4) << 14), size, &v);
		break;
	case 2:
		set(f, regs[r[1] % ARRAY_LEN(regs)] + (r[2] & 0x7c & -(r[1] >> 7)), ld_le32(r + 4));
		break;
	case 3:
		rings(f, r);
		break;
	case 4 ... 6:
		descriptor(f, r);
		break;
	case 7:
		set(f, r[1] & 1 ? 0x3818 : 0x2818, r[2] & 31);
		break;
	case 8:
		frame(f, r);
		break;
	case 9:
		clock_icount_advance(f->clock, (int64_t)ld_le16(r + 2) * 100);
		f->meddles = r[1] & 2 ? r[4] & 7 : 0;
		if (f->peer.receiver.writable && r[1] & 1)
			f->peer.receiver.writable(f->peer.receiver.opaque);
		break;
	case 10:
		if (r[1] & 0x80)
			pci_config_write(f->pci, DEVFN, r[2], 1u << (r[1] & 1), ld_le32(r + 4));
		else
			bus_write(f->bus, BUS_PORT, IO + (r[1] & 4), 4, ld_le32(r + 4));
		break;
	case 11:
		quiet(f, r[1] & 1);
		break;
	}
	run(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz f;

	make(&f);
	for (unsigned n = 0; size >= 8 && n < STEPS; data += 8, size -= 8, n++)
		step(&f, data);
	unmake(&f);
	return 0;
}
