/*
 * A hostile driver: each virtio device on each transport, with any register access and any content of the rings,
 * mixed with starts that get the device running and chains that are nearly right. After a reset nothing of the
 * device may touch memory any more.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "virtio/blk.h"
#include "virtio/devices.h"
#include "virtio/transport.h"

#define RAM	   0x40000u
#define RING	   0x1000u /* a queue's areas lie 0x1000 apart: descriptors, +0x800 driver, +0xc00 device */
#define BUFFERS	   0x10000u
#define QUEUE_SIZE 16u
#define MMIO	   0xfeb00000u
#define HOLE	   0xc0000000u

static struct mem_space *mem;
static uint8_t *ram;

struct fuzz {
	struct loop *loop;
	struct bus *bus;
	struct pci_bus *pci;
	struct virtio_dev *d;
	struct device *dev;
	bool on_pci, packed;
	uint64_t common, notify; /* of the PCI function */
	uint16_t avail[VIRTIO_MAX_QUEUES];
	struct net_peer peer, second; /* of two queue pairs */
	struct char_source source[VIRTIO_CONSOLE_PORTS];
	unsigned kind;
	uint8_t what; /* of the input */
};

/* --- the host's side of the devices --- */

static bool peer_send(struct net_peer *p, const struct net_packet *k)
{
	static uint8_t buf[NET_FRAME_MAX];

	if (k->len > NET_FRAME_MAX || k->count > NET_PIECES || !net_gso_known(k->offload.gso))
		abort();
	return net_flat(k, buf)[k->len - 1] & 1; /* sometimes busy */
}

static void peer_destroy(struct net_peer *p)
{
}

static const struct net_peer_ops peer_ops = { .name = "fuzz", .send = peer_send, .destroy = peer_destroy };

static size_t sink(void *opaque, const void *buf, size_t len)
{
	return len > 7 ? len / 2 : len;
}

static int open_memfd(void *opaque, const char *path, int flags)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);

	return fd >= 0 && !ftruncate(fd, 1 << 20) ? fd : -1;
}

static struct virtio_dev *make_blk(struct fuzz *f, struct err *err)
{
	const struct block_config b = { .path = "disk", .open_path = open_memfd, .aio = BLOCK_AIO_THREADS };
	struct virtio_blk_config c = { .mem = mem, .queues = 2, .serial = "fuzz", .node = block_open(&b, err) };

	return c.node ? virtio_blk_new(&c, err) : NULL;
}

static struct virtio_dev *make_net(struct fuzz *f, struct err *err)
{
	const struct virtio_net_config c = { .mem = mem,
					     .loop = f->loop,
					     .peer = &f->peer,
					     .control = true,
					     .rss = f->what & 32,
					     .hash = f->what & 64,
					     .mtu = 1400 };

	f->peer.ops = f->second.ops = &peer_ops;
	f->peer.next = &f->second;
	return virtio_net_new(&c, err);
}

static struct virtio_dev *make_console(struct fuzz *f, struct err *err)
{
	struct virtio_console_config c = { .mem = mem, .loop = f->loop };

	for (unsigned n = 0; n < VIRTIO_CONSOLE_PORTS; n++) {
		c.port[n].sink = (struct char_sink){ sink, NULL };
		c.port[n].source = &f->source[n];
	}
	c.port[1].name = "agent";
	return virtio_console_new(&c, err);
}

static struct virtio_dev *make_rng(struct fuzz *f, struct err *err)
{
	return virtio_rng_new(mem, f->loop, err);
}

static struct virtio_dev *make_balloon(struct fuzz *f, struct err *err)
{
	return virtio_balloon_new(mem, f->loop, err);
}

static void host_event(struct fuzz *f, const uint8_t *r)
{
	static const enum net_gso gso[] = { NET_GSO_NONE, NET_GSO_TCP4, NET_GSO_TCP6, NET_GSO_UDP };
	uint64_t stats[VIRTIO_BALLOON_STATS];
	static uint8_t frame[9000];

	switch (f->kind) {
	case 1:
		/* As the kernel's tap gives them, whatever the guest takes. */
		memcpy(frame, r, 8);
		memcpy(frame + 12, r[6] & 1 ? "\x08\0\x45" : "\x86\xdd\x60", 3);
		frame[r[6] & 1 ? 23 : 20] = r[6] & 2 ? 6 : 17;
		net_deliver(r[6] & 4 ? &f->peer : &f->second, frame, 14u + ld_le16(r + 2) % 8900,
			    &(struct net_offload){ .valid = r[6] & 8,
						   .checksum = r[6] & 16,
						   .gso = gso[r[6] >> 5 & 3],
						   .ecn = r[6] & 128,
						   .mss = r[7],
						   .csum_start = 34,
						   .csum_offset = 16 });
		f->peer.receiver.writable(f->peer.receiver.opaque);
		virtio_net_set_link(f->d, r[7] & 3);
		break;
	case 2:
		f->source[r[1] & 1].input(f->source[r[1] & 1].opaque, r, 1 + r[2] % 8u);
		f->source[r[1] & 1].can_write(f->source[r[1] & 1].opaque);
		f->source[1].connected(f->source[1].opaque, r[3] & 1);
		virtio_console_resize(f->d, r[4], r[5]);
		break;
	case 4:
		virtio_balloon_set(f->d, ld_le32(r + 2));
		virtio_balloon_ask(f->d);
		virtio_balloon_stats(f->d, stats);
		break;
	}
}

/* --- the driver's side --- */

static void write_reg(struct fuzz *f, unsigned off, unsigned size, uint64_t v)
{
	bus_write(f->bus, BUS_MMIO, (f->on_pci ? f->common : MMIO) + off, size, v);
}

static void notify(struct fuzz *f, unsigned q)
{
	if (f->on_pci)
		bus_write(f->bus, BUS_MMIO, f->notify + 4 * q, 2, q);
	else
		bus_write(f->bus, BUS_MMIO, MMIO + 0x50, 4, q);
}

/* As a driver does it, with the features that are offered and wanted. */
static void start(struct fuzz *f, uint32_t wanted)
{
	static const struct {
		uint8_t status, df_sel, gf_sel, gf, q_sel, q_size, ready, desc, driver, device, size16;
	} at[2] = { { 0x70, 0x14, 0x24, 0x20, 0x30, 0x38, 0x44, 0x80, 0x90, 0xa0, 4 },
		    { 0x14, 0x00, 0x08, 0x0c, 0x16, 0x18, 0x1c, 0x20, 0x28, 0x30, 2 } },
	  *r;
	unsigned byte = f->on_pci ? 1 : 4;
	uint64_t features = (virtio_offered(f->d) & (wanted | 0xffffffff00000000ull)) | (1ull << VIRTIO_F_VERSION_1);

	r = &at[f->on_pci];
	if (!f->packed)
		features &= ~(1ull << VIRTIO_F_RING_PACKED);
	memset(ram + RING, 0, BUFFERS - RING);
	memset(f->avail, 0, sizeof(f->avail));
	write_reg(f, r->status, byte, 0);
	write_reg(f, r->status, byte, 3);
	for (unsigned w = 0; w < 2; w++) {
		write_reg(f, r->gf_sel, 4, w);
		write_reg(f, r->gf, 4, features >> 32 * w & UINT32_MAX);
	}
	write_reg(f, r->status, byte, 11);
	for (unsigned q = 0; q < f->d->n_queues; q++) {
		uint32_t base = RING + 0x1000 * q;

		write_reg(f, r->q_sel, r->size16, q);
		write_reg(f, r->q_size, r->size16, QUEUE_SIZE);
		write_reg(f, r->desc, 4, base);
		write_reg(f, r->desc + 4, 4, 0);
		write_reg(f, r->driver, 4, base + 0x800);
		write_reg(f, r->driver + 4, 4, 0);
		write_reg(f, r->device, 4, base + 0xc00);
		write_reg(f, r->device + 4, 4, 0);
		write_reg(f, r->ready, r->size16, 1);
	}
	write_reg(f, r->status, byte, 15);
}

static uint64_t address(uint8_t choice, uint8_t fine)
{
	static const uint64_t bases[] = { BUFFERS, BUFFERS + 0x1000, RING, RAM - 16, RAM, HOLE, UINT64_MAX - 15, 0 };

	return bases[choice & 7] + fine;
}

/* A chain of up to four descriptors; what they say comes from the input. */
static void offer(struct fuzz *f, unsigned q, const uint8_t *r, size_t left)
{
	uint8_t *base = ram + RING + 0x1000 * q, *desc;
	unsigned n = 1 + r[2] % 4u, head = f->avail[q] * 4u % QUEUE_SIZE;

	for (unsigned k = 0; k < n && 8 + 4 * k + 4 <= left; k++) {
		const uint8_t *s = r + 8 + 4 * k;
		uint16_t flags = (uint16_t)((k + 1 < n ? 1 : 0) | (s[0] & 16 ? 2 : 0) | ((s[0] & 224) == 224 ? 4 : 0));

		desc = base + 16 * ((head + k) % QUEUE_SIZE);
		st_le64(desc, address(s[0], s[1]));
		st_le32(desc + 8, s[2] < 250 ? s[2] * (s[0] & 8 ? 64u : 1u) : UINT32_MAX - s[3]);
		if (f->packed) {
			st_le16(desc + 12, s[3] % (QUEUE_SIZE + 1));
			st_le16(desc + 14, flags | 0x80);
		} else {
			st_le16(desc + 12, flags);
			st_le16(desc + 14, (uint16_t)((head + k + 1) % QUEUE_SIZE));
		}
	}
	/* What the first buffer holds: a request's header. */
	memcpy(ram + BUFFERS, r, left < 64 ? left : 64);
	if (f->packed)
		return;
	st_le16(base + 0x800 + 4 + 2 * (f->avail[q] % QUEUE_SIZE), (uint16_t)head);
	st_le16(base + 0x802, ++f->avail[q]);
}

static void quit(void *opaque)
{
	loop_quit(opaque);
}

static void run(struct fuzz *f)
{
	loop_post(f->loop, quit, f->loop);
	loop_run(f->loop);
}

/* --- building it --- */

static void no_msi(void *opaque, uint64_t addr, uint32_t data)
{
}

static void no_irq(void *opaque, unsigned n, bool level)
{
}

static void find_regions(struct fuzz *f)
{
	for (uint8_t at = (uint8_t)pci_config_read(f->pci, 8, 0x34, 1); at;
	     at = (uint8_t)pci_config_read(f->pci, 8, at + 1, 1)) {
		unsigned bar = pci_config_read(f->pci, 8, at + 4, 1), type = pci_config_read(f->pci, 8, at + 3, 1);

		if (pci_config_read(f->pci, 8, at, 1) != 9 || type > 2)
			continue;
		*(type == 1 ? &f->common : &f->notify) =
			(pci_config_read(f->pci, 8, (uint8_t)(0x10 + 4 * bar), 4) & ~15u) +
			pci_config_read(f->pci, 8, at + 8, 4);
	}
}

static void build(struct fuzz *f, uint8_t what)
{
	static struct virtio_dev *(*const makers[])(
		struct fuzz * f, struct err * err) = { make_blk, make_net, make_console, make_rng, make_balloon };
	const struct msi_sink msi = { no_msi, NULL };
	struct irq_line lines[4] = { 0 };
	struct err err;

	*f = (struct fuzz){ .loop = loop_new(&err), .bus = bus_new(), .kind = what % 5u, .what = what };
	f->on_pci = what / 5 & 1;
	f->packed = what / 10 & 1;
	f->pci = pci_bus_new(f->bus, lines, &msi);
	f->d = makers[f->kind](f, &err);
	if (!f->d)
		abort();
	if (f->on_pci) {
		const struct virtio_pci_config c = { f->bus, f->pci, 8 };

		f->dev = virtio_pci_new(f->d, &c, &err);
		if (!f->dev || pci_assign_resources(f->pci, 0xc000, HOLE, 0xfe000000, 1ull << 40, &err))
			abort();
		pci_config_write(f->pci, 8, 4, 2, 6);
		find_regions(f);
	} else {
		const struct virtio_mmio_config c = { f->bus, MMIO, { no_irq, NULL, 0 }, 0 };

		f->dev = virtio_mmio_new(f->d, &c, &err);
		if (!f->dev)
			abort();
	}
}

/* Reset as the driver would, and see that memory stays as it is. */
static void check_reset(struct fuzz *f)
{
	static uint8_t before[RAM];

	pthread_mutex_lock(&f->d->lock);
	virtio_set_status(f->d, 0);
	pthread_mutex_unlock(&f->d->lock);
	memcpy(before, ram, RAM);
	for (unsigned q = 0; q < f->d->n_queues; q++) {
		notify(f, q);
		if (vring_in_flight(f->d->queues[q].ring))
			abort();
	}
	run(f);
	if (memcmp(before, ram, RAM))
		abort();
}

static void step(struct fuzz *f, const uint8_t *r, size_t left)
{
	unsigned q = r[1] % f->d->n_queues, size = 1u << (r[0] >> 4 & 3);
	uint64_t v = ld_le32(r + 4);

	switch (r[0] & 15) {
	case 0:
	case 1:
		write_reg(f, r[1], size, v);
		break;
	case 2:
		bus_read(f->bus, BUS_MMIO, (f->on_pci ? HOLE : MMIO) + ld_le16(r + 2) % 0x6000, size, &v);
		break;
	case 3:
		st_le16(ram + RING + ld_le16(r + 2) % (BUFFERS - RING - 2), (uint16_t)v);
		break;
	case 4:
		st_le64(ram + RING + ld_le16(r + 2) % (BUFFERS - RING - 8), v << (r[1] & 31));
		break;
	case 5:
		start(f, ld_le32(r + 4));
		break;
	case 6:
	case 7:
	case 8:
		offer(f, q, r, left);
		notify(f, q);
		break;
	case 9:
		notify(f, r[1]);
		break;
	case 10:
		run(f);
		break;
	case 11:
		host_event(f, r);
		break;
	case 12:
		f->dev->drain(f->dev->self);
		f->dev->resume(f->dev->self);
		break;
	case 13:
		if (f->on_pci)
			pci_config_write(f->pci, 8, r[1], size > 4 ? 4 : size, (uint32_t)v);
		break;
	case 14:
		check_reset(f);
		break;
	case 15:
		bus_write(f->bus, BUS_MMIO, (f->on_pci ? HOLE : MMIO) + ld_le16(r + 2) % 0x6000, size, v);
		break;
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct mem_slot_config slot = { .name = "ram", .base = gpa(0), .size = RAM };
	struct mem_window w;
	struct err err;

	log_set_level(LOG_ERROR);
	mem = mem_space_new();
	if (mem_add_slot(mem, &slot, &err) || !mem_window(mem, gpa(0), &w))
		abort();
	ram = w.host;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f;

	if (!size)
		return 0;
	memset(ram, 0, RAM);
	build(&f, data[0]);
	if (data[0] & 128)
		start(&f, UINT32_MAX);
	for (data++, size--; size >= 8; data += 8, size -= 8)
		step(&f, data, size);
	run(&f);
	check_reset(&f);
	f.dev->destroy(f.dev->self);
	pci_bus_free(f.pci);
	bus_free(f.bus);
	loop_free(f.loop);
	return 0;
}
