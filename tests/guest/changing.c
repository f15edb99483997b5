/*
 * Runs in a guest: code that changes in each way that Linux offers. For test_changing_code.py, which prepares /dev/vda:
 * at each 4096 bytes the code of loop_of(), with number_of() the block. Prints "NAME: ok, DETAIL", "NAME: none, WHY" or
 * "NAME: WRONG, DETAIL" for each.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE   4096
#define ROUNDS 50 /* of the loops that are made */

static int say(const char *name, const char *verdict, const char *format, ...)
{
	va_list ap;

	printf("%s: %s, ", name, verdict);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	return 0;
}

static uint32_t number_of(uint32_t n)
{
	return n * 2654435761u + 12345;
}

/* mov ecx, ROUNDS; xor eax, eax; 1: add eax, IMM; dec ecx; jnz 1b; ret */
static size_t loop_of(uint8_t *at, uint32_t number)
{
	static const uint8_t code[] = { 0xb9, ROUNDS, 0, 0,    0,    0x31, 0xc0, 0x05, 0,
					0,    0,      0, 0xff, 0xc9, 0x75, 0xf7, 0xc3 };

	memcpy(at, code, sizeof(code));
	memcpy(at + 8, &number, 4);
	return sizeof(code);
}

static uint32_t call(const void *code)
{
	return ((uint32_t(*)(void))(uintptr_t)code)();
}

/* --- a disk reads into a page that is executed --- */

static int dma(void)
{
	int fd = open("/dev/vda", O_RDONLY | O_DIRECT);
	uint8_t *page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned n = 0, wrong = 0;

	if (fd < 0 || page == MAP_FAILED)
		return say("dma", "none", "no disk");
	for (; n < 2000 && pread(fd, page, PAGE, (off_t)n * PAGE) == PAGE; n++)
		for (unsigned k = 0; k < 3; k++)
			wrong += call(page) != ROUNDS * number_of(n);
	/* Only the end of the code: a sector of its own. */
	for (unsigned k = 0; k < 200 && k < n; k++) {
		loop_of(page + 512 - 8, 1); /* the number is the first thing in the sector */
		wrong += call(page + 512 - 8) != ROUNDS;
		if (pread(fd, page + 512, 512, (off_t)k * PAGE + 512) != 512)
			break;
		wrong += call(page + 512 - 8) != ROUNDS * number_of(k);
	}
	return say("dma", wrong || n < 100 ? "WRONG" : "ok", "%u pages read and executed, %u wrong", n, wrong);
}

/* --- as compilers of scripts do --- */

static int two_mappings(void)
{
	int fd = memfd_create("code", 0);
	uint8_t *rw, *rx;
	unsigned wrong = 0;

	if (fd < 0 || ftruncate(fd, 4 * PAGE))
		return say("mappings", "none", "no memfd");
	rw = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	rx = mmap(NULL, 4 * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	for (uint32_t n = 0; n < 20000; n++) {
		/* At each place of a page, across its end too. */
		size_t at = n * 7 % (3 * PAGE);

		loop_of(rw + at, number_of(n));
		wrong += call(rx + at) != ROUNDS * number_of(n);
		*(uint32_t *)(void *)(rw + at + 8) = n;
		wrong += call(rx + at) != ROUNDS * n;
	}
	return say("mappings", wrong ? "WRONG" : "ok", "%u wrong", wrong);
}

static int protections(void)
{
	uint8_t *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned wrong = 0;

	for (uint32_t n = 0; n < 3000; n++) {
		mprotect(page, PAGE, PROT_READ | PROT_WRITE);
		loop_of(page + n % 64, number_of(n));
		mprotect(page, PAGE, PROT_READ | PROT_EXEC);
		wrong += call(page + n % 64) != ROUNDS * number_of(n);
		/* The same address, another page. */
		if (n % 16 == 0) {
			munmap(page, PAGE);
			page = mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		}
	}
	return say("protections", wrong ? "WRONG" : "ok", "%u wrong", wrong);
}

/* A child's copy of a page of code is its own. */
static int copies(void)
{
	uint8_t *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned wrong = 0;

	for (uint32_t n = 1; n <= 100; n++) {
		int status, pid;

		loop_of(page, n);
		wrong += call(page) != ROUNDS * n;
		pid = fork();
		if (!pid) {
			loop_of(page, n + 1000);
			_exit(call(page) != ROUNDS * (n + 1000));
		}
		waitpid(pid, &status, 0);
		wrong += status != 0;
		wrong += call(page) != ROUNDS * n;
	}
	return say("copies", wrong ? "WRONG" : "ok", "%u wrong", wrong);
}

/* --- one thread writes, another one executes: membarrier(2) --- */

static uint8_t *shared_code;
static _Atomic uint32_t published, seen;

static void *executes(void *opaque)
{
	unsigned *wrong = opaque;
	uint32_t n;

	while ((n = atomic_load(&published)) != UINT32_MAX) {
		/* It may be newer by now, never older. */
		if (n && call(shared_code) < ROUNDS * n)
			(*wrong)++;
		atomic_store(&seen, n);
	}
	return NULL;
}

static int threads(void)
{
	unsigned wrong = 0;
	pthread_t t;

	if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0))
		return say("threads", "none", "no membarrier");
	shared_code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	loop_of(shared_code, 0);
	pthread_create(&t, NULL, executes, &wrong);
	for (uint32_t n = 1; n <= 3000; n++) {
		*(_Atomic uint32_t *)(void *)(shared_code + 8) = n; /* aligned: whole */
		syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
		atomic_store(&published, n);
		while (n % 16 == 0 && atomic_load(&seen) < n - 8)
			sched_yield();
	}
	atomic_store(&published, UINT32_MAX);
	pthread_join(t, NULL);
	return say("threads", wrong ? "WRONG" : "ok", "%u wrong", wrong);
}

/* --- the kernel's compilers --- */

static uint64_t random_state = 88172645463325252ull;
static uint32_t random32(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 16);
}

/* r0 = random operations on constants, and what they come to. */
static unsigned make_program(struct bpf_insn *p, unsigned count, uint32_t *result)
{
	static const uint8_t ops[] = { BPF_ADD, BPF_SUB, BPF_MUL, BPF_OR, BPF_AND, BPF_XOR, BPF_LSH, BPF_RSH };
	uint64_t r0 = random32();
	unsigned n = 0;

	p[n++] = (struct bpf_insn){ .code = BPF_ALU64 | BPF_MOV | BPF_K,
				    .dst_reg = 0,
				    .imm = (int32_t)(r0 & 0x7fffffff) };
	r0 &= 0x7fffffff;
	while (n < count) {
		uint8_t op = ops[random32() % sizeof(ops)];
		bool shift = op == BPF_LSH || op == BPF_RSH;
		int32_t imm = (int32_t)(shift ? random32() % 32 : random32() & 0x7fffffff);

		p[n++] = (struct bpf_insn){ .code = BPF_ALU64 | op | BPF_K, .dst_reg = 0, .imm = imm };
		r0 = op == BPF_ADD   ? r0 + (uint64_t)imm
		     : op == BPF_SUB ? r0 - (uint64_t)imm
		     : op == BPF_MUL ? r0 * (uint64_t)imm
		     : op == BPF_OR  ? r0 | (uint64_t)imm
		     : op == BPF_AND ? r0 & (uint64_t)imm
		     : op == BPF_XOR ? r0 ^ (uint64_t)imm
		     : op == BPF_LSH ? r0 << imm
				     : r0 >> imm;
	}
	p[n++] = (struct bpf_insn){ .code = BPF_JMP | BPF_EXIT };
	*result = (uint32_t)r0;
	return n;
}

static int bpf(int command, union bpf_attr *a)
{
	return (int)syscall(SYS_bpf, command, a, sizeof(*a));
}

static int extended_bpf(void)
{
	unsigned wrong = 0, compiled = 0;

	for (unsigned n = 0; n < 300; n++) {
		struct bpf_insn p[64];
		uint8_t packet[64] = { 0 };
		uint32_t expected;
		union bpf_attr a = {
			.prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
			.insn_cnt = make_program(p, 8 + n % 50, &expected),
			.insns = (uintptr_t)p,
			.license = (uintptr_t) "GPL",
		};
		int fd = bpf(BPF_PROG_LOAD, &a);
		struct bpf_prog_info info = { 0 };

		if (fd < 0)
			return say("ebpf", "none", "no program can be loaded");
		a = (union bpf_attr){
			.info = { .bpf_fd = (uint32_t)fd, .info_len = sizeof(info), .info = (uintptr_t)&info }
		};
		compiled += !bpf(BPF_OBJ_GET_INFO_BY_FD, &a) && info.jited_prog_len;
		a = (union bpf_attr){ .test = { .prog_fd = (uint32_t)fd,
						.data_size_in = sizeof(packet),
						.data_in = (uintptr_t)packet,
						.repeat = 40 } };
		if (bpf(BPF_PROG_TEST_RUN, &a) || a.test.retval != expected)
			wrong++;
		close(fd);
	}
	return say("ebpf", wrong || !compiled ? "WRONG" : "ok", "%u of 300 programs compiled, %u wrong", compiled,
		   wrong);
}

/* As tcpdump has it: a filter that lets one kind through. */
static int filters(void)
{
	unsigned wrong = 0;
	int s[2];

	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, s))
		return say("filters", "none", "no sockets");
	for (unsigned n = 0; n < 400; n++) {
		struct sock_filter f[] = {
			{ BPF_LD | BPF_B | BPF_ABS, 0, 0, 0 },
			{ BPF_JMP | BPF_JEQ | BPF_K, 0, 1, n & 255 },
			{ BPF_RET | BPF_K, 0, 0, 0xffff },
			{ BPF_RET | BPF_K, 0, 0, 0 },
		};
		struct sock_fprog p = { 4, f };
		uint8_t in[3] = { (uint8_t)(n + 1), (uint8_t)n, (uint8_t)(n + 2) }, out = 0;

		if (setsockopt(s[1], SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof(p)))
			return say("filters", "none", "no filter can be attached");
		for (unsigned k = 0; k < 3; k++)
			if (send(s[0], &in[k], 1, 0) != 1 && k == 1)
				wrong++;
		wrong += recv(s[1], &out, 1, 0) != 1 || out != (uint8_t)n;
		wrong += recv(s[1], &out, 1, 0) == 1;
	}
	return say("filters", wrong ? "WRONG" : "ok", "%u wrong", wrong);
}

/* --- the kernel patches itself: ftrace, kprobes, static keys --- */

#define TRACING "/sys/kernel/tracing/"

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

static bool file_has(const char *path, const char *word)
{
	char text[65536];
	int fd = open(path, O_RDONLY);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

	if (fd >= 0)
		close(fd);
	if (n < 0)
		return false;
	text[n] = 0;
	return strstr(text, word);
}

/* Something that goes through much of the kernel; false: wrong. */
static bool work(unsigned n)
{
	char buf[64];
	int p[2], status = 0, pid;

	if (pipe(p))
		return false;
	pid = fork();
	if (!pid)
		_exit(write(p[1], &n, sizeof(n)) != sizeof(n));
	waitpid(pid, &status, 0);
	bool ok = !status && read(p[0], buf, sizeof(n)) == sizeof(n) && !memcmp(buf, &n, sizeof(n));
	close(p[0]);
	close(p[1]);
	int fd = open("/proc/self/stat", O_RDONLY);
	ok &= fd >= 0 && read(fd, buf, sizeof(buf)) > 0;
	close(fd);
	return ok;
}

/* Others work all the time. */
static atomic_bool enough;
static void *works(void *opaque)
{
	unsigned *wrong = opaque;

	for (unsigned n = 0; !atomic_load(&enough); n++)
		*wrong += !work(n);
	return NULL;
}

static int ftrace(void)
{
	unsigned wrong = 0, beside = 0, traced = 0;
	pthread_t t;

	if (!file_has(TRACING "available_tracers", "function"))
		return say("ftrace", "none", "the kernel has no function tracer");
	atomic_store(&enough, false);
	pthread_create(&t, NULL, works, &beside);
	for (unsigned n = 0; n < 6; n++) {
		wrong += !write_file(TRACING "current_tracer", "function");
		for (unsigned k = 0; k < 5; k++)
			wrong += !work(k);
		traced += file_has(TRACING "trace", " <-"); /* who called whom */
		wrong += !write_file(TRACING "current_tracer", "nop");
		for (unsigned k = 0; k < 5; k++)
			wrong += !work(k);
	}
	atomic_store(&enough, true);
	pthread_join(t, NULL);
	wrong += beside;
	return say("ftrace", wrong || traced != 6 ? "WRONG" : "ok", "%u times on and off, %u traces, %u wrong", 6u,
		   traced, wrong);
}

static int probes(void)
{
	unsigned wrong = 0, hits = 0;
	char name[64];
	FILE *f;

	if (!write_file(TRACING "kprobe_events", "p:vireo do_sys_openat2"))
		return say("probes", "none", "the kernel has no kprobes");
	for (unsigned n = 0; n < 5; n++) {
		wrong += !write_file(TRACING "events/kprobes/vireo/enable", "1");
		for (unsigned k = 0; k < 100; k++)
			close(open("/proc/self/stat", O_RDONLY));
		wrong += !write_file(TRACING "events/kprobes/vireo/enable", "0");
		for (unsigned k = 0; k < 100; k++)
			close(open("/proc/self/stat", O_RDONLY));
	}
	f = fopen(TRACING "kprobe_profile", "r");
	if (!f || fscanf(f, "%63s %u", name, &hits) != 2)
		wrong++;
	if (f)
		fclose(f);
	/* One more each time: the file that switches it off is opened while it is on. */
	wrong += hits != 5 * 101;
	wrong += !write_file(TRACING "kprobe_events", "");
	return say("probes", wrong ? "WRONG" : "ok", "%u hits, %u wrong", hits, wrong);
}

static int static_keys(void)
{
	static const char path[] = "/proc/sys/kernel/sched_schedstats";
	unsigned wrong = 0, beside = 0;
	pthread_t t;

	if (access(path, W_OK))
		return say("keys", "none", "the kernel has no such key");
	atomic_store(&enough, false);
	pthread_create(&t, NULL, works, &beside);
	for (unsigned n = 0; n < 100; n++) {
		wrong += !write_file(path, n & 1 ? "0" : "1");
		wrong += !file_has(path, n & 1 ? "0" : "1");
		wrong += !work(n);
	}
	atomic_store(&enough, true);
	pthread_join(t, NULL);
	wrong += beside;
	return say("keys", wrong ? "WRONG" : "ok", "100 times switched, %u wrong", wrong);
}

int main(void)
{
	dma();
	two_mappings();
	protections();
	copies();
	threads();
	extended_bpf();
	filters();
	ftrace();
	probes();
	static_keys();
	return 0;
}
