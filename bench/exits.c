/*
 * A multiboot guest that measures what leaving it costs, on any hypervisor: batches of one operation, timed by the TSC,
 * whose rate the command line gives in kHz. Prints "NAME NS" lines on the serial port; ends by isa-debug-exit at 501h.
 * The virtio parts need a modern virtio-rng-pci below 4 GiB with MSI-X. 32-bit, without paging or libraries. See
 * scripts/bench-kvm.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AT_LEAST_MS 300
#define BATCH	    20
#define TIMER	    0x30
#define DEVICE	    0x31
#define LAPIC(off)  (*(volatile uint32_t *)(0xfee00000u + (off)))

__asm__(".section .start, \"ax\"\n"
	".long 0x1badb002, 0, -0x1badb002\n"
	".globl _start\n_start:\n"
	"	lgdt gdtr\n	ljmp $8, $1f\n1:	mov $16, %eax\n	mov %eax, %ds\n	mov %eax, %es\n"
	"	mov %eax, %ss\n	mov $stack + 16384, %esp\n	push %ebx\n	call run\n"
	"gdt:	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff\n"
	"gdtr:	.word 23\n	.long gdt\n"
	".globl on_interrupt\non_interrupt:\n"
	"	incl interrupts\n	movl $0, 0xfee000b0\n	iret\n"
	".text\n");

uint8_t stack[16384] __attribute__((aligned(16)));
volatile uint32_t interrupts;
void on_interrupt(void);
void run(const uint32_t *multiboot);

static uint32_t khz;

static inline void out8(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port));
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline void out32(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(port));
}

static inline uint32_t in32(uint16_t port)
{
	uint32_t v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline uint64_t tsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi));
	return (uint64_t)hi << 32 | lo;
}

/* --- output --- */

static void put(const char *s)
{
	for (; *s; s++) {
		while (!(in8(0x3fd) & 0x20))
			;
		out8(0x3f8, (uint8_t)*s);
	}
}

static void put_number(uint32_t v)
{
	char b[11] = "", *p = b + 10;

	do
		*--p = (char)('0' + v % 10);
	while (v /= 10);
	put(p);
}

/* The compiler may ask for it; of 64 by 32 bits, with a result of 32. */
static uint32_t divide(uint64_t n, uint32_t by)
{
	uint32_t q, r;

	__asm__("divl %4" : "=a"(q), "=d"(r) : "a"((uint32_t)n), "d"((uint32_t)(n >> 32)), "r"(by));
	return q;
}

/* The quickest of many batches: what others do on the host delays some. */
static void measure(const char *name, void (*fn)(void))
{
	const uint64_t end = tsc() + (uint64_t)khz * AT_LEAST_MS;
	uint64_t best = ~0ull;

	fn();
	do {
		uint64_t took = tsc();

		for (unsigned k = 0; k < BATCH; k++)
			fn();
		took = tsc() - took;
		if (took < best)
			best = took;
	} while (tsc() < end);
	put(name);
	put(" ");
	/* ticks / khz is milliseconds */
	put_number(divide(best * (1000000 / BATCH), khz));
	put("\n");
}

/* --- PCI and virtio 1.2 --- */

static uint32_t config(uint32_t dev, uint32_t off)
{
	out32(0xcf8, 0x80000000u | dev << 11 | (off & 0xfc));
	return in32(0xcfc) >> (off & 3) * 8;
}

static void set_config(uint32_t dev, uint32_t off, uint32_t v)
{
	out32(0xcf8, 0x80000000u | dev << 11 | off);
	out32(0xcfc, v);
}

static uint8_t *bar(uint32_t dev, uint32_t n, uint32_t off)
{
	return (uint8_t *)(config(dev, 0x10 + 4 * n) & ~15u) + off;
}

static struct {
	volatile uint8_t *common;
	volatile uint16_t *bell;
} rng;

/* The rings of a queue of 8, and a buffer. */
static struct {
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;
	} desc[8] __attribute__((aligned(16)));
	struct {
		volatile uint16_t flags, idx, ring[8];
	} avail __attribute__((aligned(2)));
	struct {
		volatile uint16_t flags, idx;
		uint32_t ring[16];
	} used __attribute__((aligned(4)));
	uint8_t buffer[16];
} q;

#define COMMON(type, off) (*(volatile type *)(rng.common + (off)))

static bool start_rng(void)
{
	volatile uint32_t *table = NULL;
	uint32_t dev = 0, notify = 0, stride = 0;

	while (dev < 32 && config(dev, 0) != 0x10441af4)
		dev++;
	if (dev == 32)
		return false;
	for (uint32_t cap = config(dev, 0x34) & 0xff; cap; cap = config(dev, cap) >> 8 & 0xff) {
		uint32_t head = config(dev, cap), off = config(dev, cap + 8);

		if ((head & 0xff) == 0x11) {
			uint32_t at = config(dev, cap + 4);

			table = (void *)bar(dev, at & 7, at & ~7u);
			set_config(dev, cap, 0x80000000u | (head & 0x3fff0000));
		} else if ((head & 0xff) == 9 && head >> 24 == 1) {
			rng.common = bar(dev, config(dev, cap + 4) & 0xff, off);
		} else if ((head & 0xff) == 9 && head >> 24 == 2) {
			notify = (uint32_t)bar(dev, config(dev, cap + 4) & 0xff, off);
			stride = config(dev, cap + 16);
		}
	}
	set_config(dev, 4, 6); /* memory, bus master */
	if (!table || !rng.common || !notify)
		return false;
	table[0] = 0xfee00000;
	table[1] = 0;
	table[2] = 0x4000 | DEVICE;
	table[3] = 0;
	COMMON(uint8_t, 0x14) = 0;
	COMMON(uint8_t, 0x14) = 3;
	COMMON(uint32_t, 8) = 1; /* VIRTIO_F_VERSION_1 and nothing else */
	COMMON(uint32_t, 12) = 1;
	COMMON(uint32_t, 8) = 0;
	COMMON(uint32_t, 12) = 0;
	COMMON(uint8_t, 0x14) = 11;
	COMMON(uint16_t, 0x16) = 0;
	COMMON(uint16_t, 0x18) = 8;
	COMMON(uint16_t, 0x1a) = 0;
	COMMON(uint32_t, 0x20) = (uint32_t)q.desc;
	COMMON(uint32_t, 0x24) = 0;
	COMMON(uint32_t, 0x28) = (uint32_t)&q.avail;
	COMMON(uint32_t, 0x2c) = 0;
	COMMON(uint32_t, 0x30) = (uint32_t)&q.used;
	COMMON(uint32_t, 0x34) = 0;
	rng.bell = (void *)(notify + COMMON(uint16_t, 0x1e) * stride);
	COMMON(uint16_t, 0x1c) = 1;
	COMMON(uint8_t, 0x14) = 15;
	q.desc[0].addr = (uint32_t)q.buffer;
	q.desc[0].len = 1;
	q.desc[0].flags = 2; /* the device writes */
	return true;
}

/* --- what is measured --- */

static void cpuid(void)
{
	uint32_t a = 0, c = 0;

	__asm__ volatile("cpuid" : "+a"(a), "+c"(c)::"ebx", "edx");
}

static void port_read(void)
{
	in8(0x92);
}

static void selector_write(void)
{
	out32(0xcf8, 0x80000000u);
}

static void selector_and_data(void)
{
	config(0, 0);
}

static void register_read(void)
{
	(void)COMMON(uint8_t, 0x14);
}

static void doorbell(void)
{
	*rng.bell = 0;
}

/* Interrupts are off: those that come meanwhile end the next HLT at once. */
static void halt_until(uint32_t count)
{
	while ((int32_t)(interrupts - count) < 0)
		__asm__ volatile("sti; hlt; cli" ::: "memory");
}

static void self_ipi(void)
{
	uint32_t next = interrupts + 1;

	LAPIC(0x300) = 0x40000 | TIMER;
	halt_until(next);
}

static void timer(void)
{
	uint32_t next = interrupts + 1;

	LAPIC(0x380) = 1;
	halt_until(next);
}

static void request(void)
{
	uint32_t next = interrupts + 1;

	q.avail.ring[q.avail.idx & 7] = 0;
	__asm__ volatile("" ::: "memory");
	q.avail.idx++;
	*rng.bell = 0;
	halt_until(next);
}

/* --- */

static void prepare_interrupts(void)
{
	static uint64_t idt[64];
	const struct {
		uint16_t limit;
		uint32_t base;
	} __attribute__((packed)) idtr = { sizeof(idt) - 1, (uint32_t)idt };
	uint32_t at = (uint32_t)on_interrupt;

	for (unsigned n = 32; n < 64; n++)
		idt[n] = (at & 0xffff) | 8u << 16 | (uint64_t)(0x8e00 | (at & 0xffff0000)) << 32;
	__asm__ volatile("lidt %0" ::"m"(idtr));
	out8(0x21, 0xff);
	out8(0xa1, 0xff);
	LAPIC(0xf0) = 0x100 | 0x3f;
	LAPIC(0x320) = TIMER; /* once */
	LAPIC(0x3e0) = 11;    /* each tick */
}

/* Multiboot's command line is at 16 if bit 2 of the flags says so. The rate is its last word. */
static uint32_t rate(const uint32_t *multiboot)
{
	uint32_t v = 0;

	for (const char *s = multiboot[0] & 4 ? (const char *)multiboot[4] : ""; *s; s++)
		v = *s >= '0' && *s <= '9' ? 10 * v + (uint32_t)(*s - '0') : 0;
	return v;
}

void run(const uint32_t *multiboot)
{
	khz = rate(multiboot);
	prepare_interrupts();
	measure("cpuid", cpuid);
	measure("port-read", port_read);
	measure("selector-write", selector_write);
	measure("selector-and-data", selector_and_data);
	measure("self-ipi-halt", self_ipi);
	measure("timer-halt", timer);
	if (start_rng()) {
		measure("register-read", register_read);
		measure("doorbell", doorbell);
		measure("request-interrupt", request);
	}
	put("end\n");
	for (;;)
		out32(0x501, 0);
}
