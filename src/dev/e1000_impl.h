/*
 * What the files of the e1000 share. Everything is guarded by e1000.lock, which the bus takes around accesses to
 * registers, and the loop around what it does for the card; peers are called without it.
 *
 * Frames move in the loop's thread only: registers that give the card work wake it (e1000_kick()).
 */
#ifndef VIREO_DEV_E1000_IMPL_H
#define VIREO_DEV_E1000_IMPL_H

#include <stdatomic.h>

#include "base/bytes.h"
#include "dev/e1000.h"

/* Registers in `reg`; behind E1000_WORDS those that lie elsewhere: they have a row, and in arrays a place. SDM 13. */
enum e1000_reg {
	E1000_NONE,
	E1000_CTRL,
	E1000_STATUS,
	E1000_EECD,
	E1000_EERD,
	E1000_CTRL_EXT,
	E1000_MDIC,
	E1000_FCAL,
	E1000_FCAH,
	E1000_FCT,
	E1000_VET,
	E1000_ICR,
	E1000_ITR,
	E1000_ICS,
	E1000_IMS,
	E1000_IMC,
	E1000_RCTL,
	E1000_FCTTV,
	E1000_TCTL,
	E1000_TIPG,
	E1000_AIT,
	E1000_LEDCTL,
	E1000_PBA,
	E1000_FCRTL,
	E1000_FCRTH,
	E1000_RDBAL,
	E1000_RDBAH,
	E1000_RDLEN,
	E1000_RDH,
	E1000_RDT,
	E1000_RDTR,
	E1000_RXDCTL,
	E1000_RADV,
	E1000_RSRPD,
	E1000_TXDMAC,
	E1000_TDBAL,
	E1000_TDBAH,
	E1000_TDLEN,
	E1000_TDH,
	E1000_TDT,
	E1000_TIDV,
	E1000_TXDCTL,
	E1000_TADV,
	E1000_TSPMT,
	E1000_RXCSUM,
	E1000_WUC,
	E1000_WUFC,
	E1000_WUS,
	E1000_MANC,
	E1000_IPAV,
	E1000_WORDS,
	E1000_STATS = E1000_WORDS,
	E1000_MTA,
	E1000_RA,
	E1000_VFTA,
	E1000_TXCW,
	E1000_ROWS
};

#define CTRL_SLU	(1u << 6)
#define CTRL_RST	(1u << 26)
#define CTRL_VME	(1u << 30)
#define CTRL_PHY_RST	(1u << 31)
#define CTRL_EXT_EE_RST (1u << 13)
#define STATUS_LU	(1u << 1)

enum {
	ICR_TXDW = 0x1,
	ICR_TXQE = 0x2,
	ICR_LSC = 0x4,
	ICR_RXDMT0 = 0x10,
	ICR_RXT0 = 0x80,
	ICR_MDAC = 0x200,
	ICR_TXD_LOW = 0x8000
};
#define ICR_MASK 0x1f7ffu /* causes that there are, and those that only ICS makes */

#define RCTL_EN	   (1u << 1)
#define RCTL_UPE   (1u << 3)
#define RCTL_MPE   (1u << 4)
#define RCTL_LPE   (1u << 5)
#define RCTL_LBM   (3u << 6)
#define RCTL_BAM   (1u << 15)
#define RCTL_VFE   (1u << 18)
#define RCTL_BSEX  (1u << 25)
#define RCTL_SECRC (1u << 26)

#define TCTL_EN	 (1u << 1)
#define TCTL_PSP (1u << 3)

#define RXCSUM_IPOFLD (1u << 8)
#define RXCSUM_TUOFLD (1u << 9)

/* Statistics from 4000h on, by their place. SDM 13.7. */
enum {
	STAT_MPC = 0x10 / 4,
	STAT_PRC64 = 0x5c / 4,
	STAT_GPRC = 0x74 / 4,
	STAT_BPRC = 0x78 / 4,
	STAT_MPRC = 0x7c / 4,
	STAT_GPTC = 0x80 / 4,
	STAT_GORCL = 0x88 / 4,
	STAT_GOTCL = 0x90 / 4,
	STAT_RNBC = 0xa0 / 4,
	STAT_RUC = 0xa4 / 4,
	STAT_ROC = 0xac / 4,
	STAT_TORL = 0xc0 / 4,
	STAT_TOTL = 0xc8 / 4,
	STAT_TPR = 0xd0 / 4,
	STAT_TPT = 0xd4 / 4,
	STAT_PTC64 = 0xd8 / 4,
	STAT_MPTC = 0xf0 / 4,
	STAT_BPTC = 0xf4 / 4,
	STAT_TSCTC = 0xf8 / 4,
	STAT_WORDS = 0x128 / 4
};

#define E1000_DESC	16u
#define E1000_EEPROM	64u /* words */
#define E1000_PHY_REGS	32u
#define E1000_RX_MAX	16384u /* with its checksum sequence */
#define E1000_RX_NORMAL 1522u  /* without LPE */
#define E1000_FCS	4u

/* The serial EEPROM as EECD's pins move it. */
struct e1000_eeprom {
	bool sk, cs, out;
	bool reading;
	uint8_t bits_in;  /* of the command, so far */
	uint16_t command; /* its last bits: start, two of opcode, six of address */
	uint8_t at;	  /* the word that is read */
	uint8_t bits_out; /* of it, so far */
};

/* The packet that is gathered from descriptors, what it began with, and what the peer gets of it. */
struct e1000_packet {
	bool open;     /* its last descriptor has not come */
	bool segment;  /* TSE */
	uint8_t popts; /* of the first descriptor */
	bool dropped;  /* it is longer than any frame */
	uint32_t len;
	uint8_t frame[NET_FRAME_MAX];
};

struct e1000 {
	struct device dev;
	pthread_mutex_t lock;
	struct pci_dev pci;
	struct mem_space *mem;
	struct vclock *clock;
	struct clock_timer timer; /* for an interrupt that is held back */
	struct loop *loop;
	struct net_peer *peer;
	int kick_fd;
	struct loop_fd *kick_watch;
	atomic_bool kicked;
	bool paused;
	bool starved;	 /* the peer waits for receive buffers */
	unsigned resets; /* what was begun before the last one is ended without a trace */
	uint16_t eeprom_data[E1000_EEPROM];

	/* The packet is complete and waits for the peer. A save loses it, as a wire may. */
	bool waits;
	struct net_offload offload; /* of it */
	uint8_t rx[E1000_RX_MAX + 64];

	/* saved */
	uint32_t reg[E1000_WORDS];
	uint32_t stat[STAT_WORDS], mta[128], ra[32], vfta[128];
	uint16_t phy[E1000_PHY_REGS];
	struct e1000_eeprom eeprom;
	uint32_t txcw; /* kept for drivers' tests: the PHY negotiates, and not the card (13.4.14) */
	uint32_t io_addr;
	uint32_t context[2][4]; /* of checksums alone, and of segmentation */
	struct e1000_packet packet;
	bool unplugged;	      /* there is no cable: registers keep what they say with one */
	uint64_t quiet_until; /* guest time: ITR lets no interrupt through before */
	uint64_t due;	      /* when the interrupt that is held back may go out; CLOCK_NEVER: none is */
	bool line;	      /* INTA# */
};

/* --- e1000.c --- */
/* Causes of interrupts that wait for at most `delay` ns. */
void e1000_raise(struct e1000 *e, uint32_t causes, uint64_t delay);
/* Look at the rings soon, in the loop's thread. Any thread. */
void e1000_kick(struct e1000 *e);
void e1000_count(struct e1000 *e, unsigned stat, uint64_t n);
/* The pair of words of a 64-bit statistic. */
void e1000_count_octets(struct e1000 *e, unsigned stat, uint64_t n);
/* The bus lets it reach memory, and the machine runs. */
bool e1000_may_work(const struct e1000 *e);
/* Descriptor `n` of the ring whose base is at reg[base], reg[base + 1]. */
gpa_t e1000_descriptor(const struct e1000 *e, enum e1000_reg base, uint32_t n);
/* By length, as the statistics count frames: 0 to 5. */
unsigned e1000_size_class(size_t len);

/* --- e1000_tx.c --- */
/* Send what the ring has. The lock is let go of meanwhile. True: it was a turn's worth, and there may be more. */
bool e1000_transmit(struct e1000 *e);

/* --- e1000_rx.c --- */
/* As in struct net_receiver, with the lock; a complete frame. `valid`: so are its checksums. */
bool e1000_receive(struct e1000 *e, const uint8_t *frame, size_t len, bool valid);
/* The same of what the card has sent to itself; without room it is lost. */
void e1000_receive_own(struct e1000 *e, const uint8_t *frame, size_t len, bool valid);

/* --- e1000_nvm.c: EEPROM and PHY --- */
void e1000_eeprom_fill(struct e1000 *e, const uint8_t mac[6]);
uint32_t e1000_eecd_read(const struct e1000 *e);
void e1000_eecd_write(struct e1000 *e, uint32_t val);
void e1000_eerd_write(struct e1000 *e, uint32_t val);
void e1000_mdic_write(struct e1000 *e, uint32_t val);
void e1000_phy_reset(struct e1000 *e);
/* What is sent comes back, and the wire is cut off. */
bool e1000_loops(const struct e1000 *e);

#endif
