/* A card, a peer that is full when it is told to be, and rings of eight. */
#include "e1000_rig.h"

const uint8_t mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };

/* --- the peer --- */

struct net_peer peer;
static struct net_peer_ops peer_ops;
unsigned sent, readies, room;
static unsigned destroyed;
uint8_t last[NET_FRAME_MAX];
size_t last_len;
struct net_offload last_offload;
struct device *card;
bool verified;
void (*while_sending)(void);
static bool locked_while_called;

static void look_at_lock(void)
{
	if (pthread_mutex_trylock(card->lock))
		locked_while_called = true;
	else
		pthread_mutex_unlock(card->lock);
}

static bool peer_send(struct net_peer *p, const struct net_packet *k)
{
	look_at_lock();
	if (while_sending)
		while_sending();
	if (!room)
		return false;
	room--;
	sent++;
	assert_true(k->len <= sizeof(last));
	memmove(last, net_flat(k, last), k->len);
	last_len = k->len;
	last_offload = k->offload;
	return true;
}

static void peer_ready(struct net_peer *p)
{
	look_at_lock();
	readies++;
}

static void peer_destroy(struct net_peer *p)
{
	destroyed++;
}

/* --- the board --- */

void make(struct board *b)
{
	struct e1000_config c = { .devfn = DEVFN, .mem = b->mem, .clock = b->clock, .loop = b->loop, .peer = &peer };
	struct err err;

	board_pci(b);
	c.pci = b->pci;
	memcpy(c.mac, mac, 6);
	card = board_add(b, e1000_new(&c, &err));
	assert_int_equal(pci_assign_resources(b->pci, IO, BAR, BAR + 0x100000, 1ull << 40, &err), 0);
	pci_config_write(b->pci, DEVFN, 4, 2, 7);
}

struct board board;

void begin(void)
{
	peer_ops =
		(struct net_peer_ops){ .name = "toy", .send = peer_send, .ready = peer_ready, .destroy = peer_destroy };
	peer = (struct net_peer){ .ops = &peer_ops };
	sent = readies = destroyed = 0;
	room = UINT32_MAX;
	verified = true;
	while_sending = NULL;
	locked_while_called = false;
	board_init(&board);
	make(&board);
}

void end(void)
{
	board_fini(&board);
	assert_int_equal(destroyed, 1);
	assert_false(locked_while_called);
}

void end_other(struct board *b)
{
	board_fini(b);
	assert_int_equal(destroyed, 1);
	destroyed = 0;
}

uint32_t get(uint32_t reg)
{
	return (uint32_t)board_read(&board, BAR + reg, 4);
}

void set(uint32_t reg, uint32_t v)
{
	board_write(&board, BAR + reg, 4, v);
}

static void quit(void *opaque)
{
	loop_quit(opaque);
}

void run_board(struct board *b)
{
	for (unsigned n = 0; n < 4; n++) {
		loop_post(b->loop, quit, b->loop);
		loop_run(b->loop);
	}
}

void run(void)
{
	run_board(&board);
}

void start(uint32_t rctl)
{
	set(TDBAL, TX_RING);
	set(TDLEN, RING * 16);
	set(TCTL, 1u << 1);
	set(RDBAL, RX_RING);
	set(RDLEN, RING * 16);
	for (unsigned n = 0; n < RING; n++) {
		uint8_t d[16] = { 0 };

		st_le64(d, RX_DATA + n * RX_STEP);
		mem_write(board.mem, gpa(RX_RING + 16 * n), d, 16);
	}
	set(RDT, RING - 1);
	set(RCTL, 1u << 1 | rctl);
	run();
}

void put_words(unsigned n, uint64_t first, uint32_t lower, uint32_t upper)
{
	uint8_t d[16];

	st_le64(d, first);
	st_le32(d + 8, lower);
	st_le32(d + 12, upper);
	mem_write(board.mem, gpa(TX_RING + 16 * n), d, 16);
}

uint8_t tx_status(unsigned n)
{
	uint8_t s;

	mem_read(board.mem, gpa(TX_RING + 16 * n + 12), &s, 1);
	return s & 15;
}

uint8_t frame[NET_FRAME_MAX];

void fill_frame(size_t len)
{
	for (size_t n = 0; n < len; n++)
		frame[n] = (uint8_t)(n * 7 + n / 251);
	memcpy(frame, mac, 6);
	frame[12] = 0x88;
	mem_write(board.mem, gpa(TX_DATA), frame, len);
}

/* --- the PHY --- */

uint32_t mdic(uint32_t v)
{
	set(MDIC, v);
	return get(MDIC);
}

uint16_t phy(unsigned reg)
{
	uint32_t v = mdic(1u << 21 | 2u << 26 | reg << 16);

	assert_true(v & 1u << 28);
	assert_false(v & 1u << 30);
	return (uint16_t)v;
}

void write_phy(unsigned reg, uint16_t v)
{
	mdic(1u << 21 | 1u << 26 | reg << 16 | v);
}

/* --- descriptors and frames --- */

uint16_t sum_of(const uint8_t *b, size_t len, uint32_t s)
{
	for (size_t n = 0; n < len; n++)
		s += n & 1 ? b[n] : (uint32_t)b[n] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)s;
}

void context(unsigned n, uint32_t cmd, const uint32_t f[8])
{
	put_words(n, (uint64_t)(f[3] | f[4] << 8 | f[5] << 16) << 32 | f[0] | f[1] << 8 | f[2] << 16,
		  (cmd | DEXT) << 24 | 2000, f[6] << 8 | f[7] << 16);
}

void data(unsigned n, uint32_t len, uint32_t cmd, uint32_t popts)
{
	put_words(n, TX_DATA, len | 1u << 20 | (cmd | DEXT | IFCS) << 24, popts << 8);
}

bool receive(size_t len)
{
	return net_deliver(&peer, frame, len, &(struct net_offload){ .valid = verified });
}

static struct rx rx;

const struct rx *got(unsigned n)
{
	uint8_t d[16];

	mem_read(board.mem, gpa(RX_RING + 16 * n), d, 16);
	rx = (struct rx){ ld_le16(d + 8), ld_le16(d + 10), d[12], d[13], ld_le16(d + 14), { 0 } };
	mem_read(board.mem, gpa(RX_DATA + n * RX_STEP), rx.data, rx.len);
	return &rx;
}
