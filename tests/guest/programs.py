"""Small programs in C that tests need: built where they are used."""
import subprocess

# Runs in the guest: zeroout DEVICE OFFSET LENGTH [unmap]. Busybox has no command that asks a block device for zeroes.
# With "unmap" the kernel does not fall back to writing them.
ZEROOUT = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	int mode = FALLOC_FL_KEEP_SIZE | (argc == 5 ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
	int fd = argc >= 4 ? open(argv[1], O_RDWR) : -1;

	if (fd < 0)
		return 2;
	if (!fallocate(fd, mode, strtoll(argv[2], NULL, 0), strtoll(argv[3], NULL, 0)))
		return 0;
	perror(argv[1]);
	return 1;
}
"""

# For LD_PRELOAD: a disk of the host that needs 30 ms for what `aio=threads` writes. A save at any moment then finds
# requests under way.
SLOWDISK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define DELAY_US 30000

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t at)
{
	ssize_t (*next)(int, const struct iovec *, int, off_t);

	usleep(DELAY_US);
	*(void **)&next = dlsym(RTLD_NEXT, "pwritev");
	return next(fd, iov, n, at);
}

ssize_t pwritev64(int fd, const struct iovec *iov, int n, off_t at) __attribute__((alias("pwritev")));

int fdatasync(int fd)
{
	int (*next)(int);

	usleep(DELAY_US);
	*(void **)&next = dlsym(RTLD_NEXT, "fdatasync");
	return next(fd);
}
"""

# A 32-bit program for a 64-bit kernel, of system calls alone: integers, thread-local storage by GS, a page fault that a
# signal handler repairs, code that it writes, x87 and SSE, 64-bit code in between, a child. Says what came out.
LEGACY = r"""
typedef unsigned u32;
enum { EXIT = 1, FORK = 2, WRITE = 4, WAITPID = 7, MPROTECT = 125, SIGACTION = 174, MMAP2 = 192, SET_THREAD_AREA = 243 };

static u32 call(u32 n, u32 a, u32 b, u32 c, u32 d)
{
	register u32 si __asm__("esi") = d;

	__asm__ volatile("int $0x80" : "+a"(n) : "b"(a), "c"(b), "d"(c), "r"(si) : "memory");
	return n;
}

static u32 map(u32 rights)
{
	u32 r, n = MMAP2;

	__asm__ volatile("push %%ebp; xor %%ebp, %%ebp; int $0x80; pop %%ebp"
			 : "=a"(r) : "a"(n), "b"(0), "c"(4096), "d"(rights), "S"(0x22), "D"(-1) : "memory");
	return r;
}

static void say(const char *name, u32 v)
{
	char line[32];
	u32 n = 0;

	while (*name)
		line[n++] = *name++;
	line[n++] = '=';
	for (int shift = 28; shift >= 0; shift -= 4)
		line[n++] = "0123456789abcdef"[v >> shift & 15];
	line[n++] = '\n';
	call(WRITE, 1, (u32)line, n, 0);
}

static volatile u32 page, faults;
static void handler(int sig, void *info, void *context)
{
	faults++;
	call(MPROTECT, page, 4096, 3, 0);
}
void restore(void);
__asm__("restore: mov $173, %eax\n int $0x80");

static u32 hash(u32 rounds)
{
	static u32 table[4096];
	u32 h = 2166136261u;

	for (u32 n = 0; n < rounds; n++) {
		h = (h ^ table[n & 4095]) * 16777619u;
		table[n & 4095] += h >> 7;
	}
	return h;
}

static u32 wide(u32 v)
{
	__asm__ volatile("push $0x23; push $2f; ljmp $0x33, $1f; .code64\n 1: shl $32, %%rax; bswap %%rax; lretl; .code32\n 2:"
			 : "+a"(v));
	return v;
}

void start(void)
{
	struct { u32 number, base, limit, flags; } area = { -1u, 0, 0xfffff, 0x51 };
	struct { void *handler; u32 flags; void *restorer; u32 mask[2]; } act = { handler, 0x04000004, restore, { 0 } };
	u32 tls[2] = { 0, 0x12345678 }, got, status, child;
	double sum = 0;
	float some[4] = { 1, 2, 3, 4 };

	say("hash", hash(2000000));
	area.base = (u32)tls;
	call(SET_THREAD_AREA, (u32)&area, 0, 0, 0);
	__asm__ volatile("mov %1, %%gs; mov %%gs:4, %0; incl %%gs:0" : "=r"(got) : "r"(area.number * 8 + 3));
	say("tls", got + *(volatile u32 *)tls);
	page = map(0);
	call(SIGACTION, 11, (u32)&act, 0, 8);
	*(volatile u32 *)page = 77;
	say("fault", faults * 100 + *(volatile u32 *)page);
	page = map(7);
	for (u32 n = 0; n < 200; n++) {
		*(volatile u32 *)page = 0xb8 | n << 8; /* mov eax, n; ret */
		*(volatile u32 *)(page + 4) = 0xc300;
		sum += ((u32(*)(void))page)();
	}
	say("code", (u32)sum);
	__asm__ volatile("movups %0, %%xmm0; addps %%xmm0, %%xmm0; movups %%xmm0, %0" : "+m"(some) : : "xmm0");
	say("float", (u32)(some[0] + some[3] * 16));
	say("wide", wide(0x11223344));
	child = call(FORK, 0, 0, 0, 0);
	if (!child)
		call(EXIT, hash(1000) & 0xff, 0, 0, 0);
	call(WAITPID, child, (u32)&status, 0, 0);
	say("child", status);
	call(EXIT, 0, 0, 0, 0);
}
__asm__(".globl _start\n _start: and $-16, %esp\n call start");
"""

# What those begin with that ask a card as ethtool does, which no guest here has.
ETHTOOL = r"""
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static struct ifreq r;
static int fd;

static void call(void *what)
{
	r.ifr_data = what;
	if (!ioctl(fd, SIOCETHTOOL, &r))
		return;
	perror("ethtool");
	exit(1);
}
"""

# Runs in the guest: steer CARD on HEX | table QUEUE... | hash 4|6 sd|sdfn | count.
# `on` turns hashes on (-K CARD rxhash on), with a key; `table` repeats its queues to the end of the card's table; `count`
# says the packets that each queue has received.
STEER = ETHTOOL + r"""
static void set(const char *key, char **queues, int count)
{
	struct ethtool_rxfh sizes = { .cmd = ETHTOOL_GRSSH }, *h;

	call(&sizes);
	h = calloc(1, sizeof(*h) + 4 * sizes.indir_size + sizes.key_size);
	h->cmd = ETHTOOL_SRSSH;
	h->indir_size = count ? sizes.indir_size : ETH_RXFH_INDIR_NO_CHANGE;
	h->key_size = key ? sizes.key_size : 0;
	for (uint32_t n = 0; count && n < sizes.indir_size; n++)
		h->rss_config[n] = atoi(queues[n % count]);
	for (uint32_t n = 0; key && n < sizes.key_size; n++)
		sscanf(key + 2 * n, "%2hhx", (uint8_t *)(h->rss_config + (count ? sizes.indir_size : 0)) + n);
	call(h);
	printf("steer: %u queues, %u bytes\n", sizes.indir_size, sizes.key_size);
}

static void on(const char *key)
{
	struct ethtool_value flags = { .cmd = ETHTOOL_GFLAGS };

	call(&flags);
	flags = (struct ethtool_value){ ETHTOOL_SFLAGS, flags.data | ETH_FLAG_RXHASH };
	call(&flags);
	set(key, NULL, 0);
}

static void hash(const char *family, const char *fields)
{
	struct ethtool_rxnfc c = { .cmd = ETHTOOL_SRXFH, .flow_type = *family == '6' ? UDP_V6_FLOW : UDP_V4_FLOW };

	c.data = RXH_IP_SRC | RXH_IP_DST | (strcmp(fields, "sd") ? RXH_L4_B_0_1 | RXH_L4_B_2_3 : 0);
	call(&c);
	c.cmd = ETHTOOL_GRXFH;
	c.data = 0;
	call(&c);
	printf("steer: hash %s\n", c.data & RXH_L4_B_0_1 ? "sdfn" : "sd");
}

static void count(void)
{
	struct { struct ethtool_sset_info i; uint32_t n; } size = { { ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_STATS } };
	struct ethtool_gstrings *names;
	struct ethtool_stats *values;

	call(&size);
	names = calloc(1, sizeof(*names) + size.n * ETH_GSTRING_LEN);
	values = calloc(1, sizeof(*values) + size.n * 8);
	*names = (struct ethtool_gstrings){ ETHTOOL_GSTRINGS, ETH_SS_STATS, size.n };
	*values = (struct ethtool_stats){ ETHTOOL_GSTATS, size.n };
	call(names);
	call(values);
	for (uint32_t n = 0; n < size.n; n++) {
		const char *name = (const char *)names->data + n * ETH_GSTRING_LEN;
		int queue;
		char end;

		if (sscanf(name, "rx_queue_%d_packet%c", &queue, &end) == 2)
			printf("steer: queue %d %llu\n", queue, (unsigned long long)values->data[n]);
	}
}

int main(int argc, char **argv)
{
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	strncpy(r.ifr_name, argv[1], IFNAMSIZ - 1);
	if (!strcmp(argv[2], "on"))
		on(argv[3]);
	else if (!strcmp(argv[2], "table"))
		set(NULL, argv + 3, argc - 3);
	else if (!strcmp(argv[2], "hash"))
		hash(argv[3], argv[4]);
	else
		count();
	return 0;
}
"""

# Runs in the guest: selftest CARD [online], a line for each part of the driver's test of its card:
# NAME: 0 (passed) or what failed.
SELFTEST = ETHTOOL + r"""
int main(int argc, char **argv)
{
	struct { struct ethtool_sset_info i; uint32_t n; } size = { { ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_TEST } };
	struct ethtool_gstrings *names;
	struct ethtool_test *test;

	fd = socket(AF_INET, SOCK_DGRAM, 0);
	strncpy(r.ifr_name, argv[1], IFNAMSIZ - 1);
	call(&size);
	names = calloc(1, sizeof(*names) + size.n * ETH_GSTRING_LEN);
	test = calloc(1, sizeof(*test) + size.n * 8);
	*names = (struct ethtool_gstrings){ ETHTOOL_GSTRINGS, ETH_SS_TEST, size.n };
	*test = (struct ethtool_test){ ETHTOOL_TEST, argc == 3 ? 0 : ETH_TEST_FL_OFFLINE, 0, size.n };
	call(names);
	call(test);
	for (uint32_t n = 0; n < size.n; n++)
		printf("%.*s: %llu\n", ETH_GSTRING_LEN, (const char *)names->data + n * ETH_GSTRING_LEN,
		       (unsigned long long)test->data[n]);
	return !!(test->flags & ETH_TEST_FL_FAILED);
}
"""

# Runs in the guest: features CARD, a line for each that is on or can be: NAME: on|off [fixed].
FEATURES = ETHTOOL + r"""
int main(int argc, char **argv)
{
	struct { struct ethtool_sset_info i; uint32_t n; } size = { { ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_FEATURES } };
	struct ethtool_gstrings *names;
	struct ethtool_gfeatures *all;
	uint32_t blocks;

	fd = socket(AF_INET, SOCK_DGRAM, 0);
	strncpy(r.ifr_name, argv[1], IFNAMSIZ - 1);
	call(&size);
	blocks = (size.n + 31) / 32;
	names = calloc(1, sizeof(*names) + size.n * ETH_GSTRING_LEN);
	all = calloc(1, sizeof(*all) + blocks * sizeof(all->features[0]));
	*names = (struct ethtool_gstrings){ ETHTOOL_GSTRINGS, ETH_SS_FEATURES, size.n };
	*all = (struct ethtool_gfeatures){ ETHTOOL_GFEATURES, blocks };
	call(names);
	call(all);
	for (uint32_t n = 0; n < size.n; n++) {
		const struct ethtool_get_features_block *b = &all->features[n / 32];
		const char *name = (const char *)names->data + n * ETH_GSTRING_LEN;
		uint32_t bit = 1u << n % 32;

		if (*name && (b->active | b->available) & bit)
			printf("feature: %s: %s%s\n", name, b->active & bit ? "on" : "off",
			       b->available & ~b->never_changed & bit ? "" : " [fixed]");
	}
	return 0;
}
"""


def build(source, path, *options):
    subprocess.run(["cc", *options, "-o", path, "-x", "c", "-"], input=source, text=True, check=True)
    return str(path)


def build_legacy(path):
    build(LEGACY, path, "-m32", "-O2", "-fno-pic", "-no-pie", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector",
          "-msse", "-mfpmath=387")
