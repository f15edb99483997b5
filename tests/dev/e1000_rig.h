/*
 * An e1000 on a board, in front of a peer that the test plays: its registers, rings and frames. One program, one card.
 */
#ifndef VIREO_TESTS_DEV_E1000_RIG_H
#define VIREO_TESTS_DEV_E1000_RIG_H

#include "board.h"

#include <string.h>

#include "base/bytes.h"
#include "dev/e1000.h"

#define DEVFN (3 << 3)
#define BAR   0xc0000000u
#define IO    0xc000u

/* clang-format off */
enum {
	CTRL = 0x0, STATUS = 0x8, EECD = 0x10, EERD = 0x14, MDIC = 0x20, FCAL = 0x28, FCAH = 0x2c, FCT = 0x30, VET = 0x38,
	ICR = 0xc0, ITR = 0xc4, ICS = 0xc8, IMS = 0xd0, IMC = 0xd8, RCTL = 0x100, FCTTV = 0x170, TXCW = 0x178,
	TCTL = 0x400, TIPG = 0x410, RDBAL = 0x2800, RDLEN = 0x2808, RDH = 0x2810, RDT = 0x2818, RDTR = 0x2820,
	TDBAL = 0x3800, TDLEN = 0x3808, TDH = 0x3810, TDT = 0x3818, TIDV = 0x3820, MPC = 0x4010, GPRC = 0x4074,
	GPTC = 0x4080, GORCL = 0x4088, RNBC = 0x40a0, RXCSUM = 0x5000, MTA = 0x5200, RA = 0x5400, VFTA = 0x5600
};
/* clang-format on */
enum { TXDW = 1, TXQE = 2, LSC = 4, RXDMT0 = 0x10, RXT0 = 0x80, MDAC = 0x200 };
enum { EOP = 1, IFCS = 2, IC = 4, TSE = 4, RS = 8, DEXT = 0x20, VLE = 0x40, IDE = 0x80 };
#define LINE 3 /* of pin A of slot 3 */

#define TX_RING 0x10000u
#define RX_RING 0x20000u
#define TX_DATA 0x40000u
#define RX_DATA 0x100000u
#define RING	8u
#define RX_STEP 0x8000u

#define BAM	 (1u << 15)
#define SECRC	 (1u << 26)
#define RCTL_UPE (1u << 3)
#define RCTL_MPE (1u << 4)

extern const uint8_t mac[6];
extern struct board board;
extern struct device *card;

/* The peer: what it got, for how many frames it has room, whether it has verified what it gives. */
extern struct net_peer peer;
extern unsigned sent, readies, room;
extern uint8_t last[NET_FRAME_MAX];
extern size_t last_len;
extern struct net_offload last_offload;
extern bool verified;
extern void (*while_sending)(void); /* what the driver does then; NULL: nothing */

void begin(void);
void end(void);
/* A card on a board, as begin() makes it. */
void make(struct board *b);
/* Of a board besides that one. */
void end_other(struct board *b);
uint32_t get(uint32_t reg);
void set(uint32_t reg, uint32_t v);
/* The loop, until the card has nothing to do. */
void run_board(struct board *b);
void run(void);
/* As drivers set it up. */
void start(uint32_t rctl);

uint32_t mdic(uint32_t v);
uint16_t phy(unsigned reg);
void write_phy(unsigned reg, uint16_t v);

/* Descriptor `n` to be sent; a context: ipcss ipcso ipcse tucss tucso tucse hdrlen mss; data of the frame. */
void put_words(unsigned n, uint64_t first, uint32_t lower, uint32_t upper);
void context(unsigned n, uint32_t cmd, const uint32_t f[8]);
void data(unsigned n, uint32_t len, uint32_t cmd, uint32_t popts);
uint8_t tx_status(unsigned n);

/* The test's frame, also where descriptors find it. */
extern uint8_t frame[NET_FRAME_MAX];
void fill_frame(size_t len);
uint16_t sum_of(const uint8_t *b, size_t len, uint32_t s);

/* The frame comes from the peer. False: it is to keep it. */
bool receive(size_t len);
struct rx {
	uint16_t len, sum;
	uint8_t status, errors;
	uint16_t special;
	uint8_t data[RX_STEP];
};
/* What receive descriptor `n` has. */
const struct rx *got(unsigned n);

#endif
